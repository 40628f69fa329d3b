//! The flows of WO 02/091709 between clients of the Linux kernel and an application of XTCP, which is
//! this test itself. What is lost is lost on the wire; what was sent is judged from captures by
//! `tshark`, on both sides of the loss.
//!
//! Lines read as in the simulation's flows: `C` or `S` for who sent it, flags, first sequence number,
//! bytes, acknowledgement; `(again)` where tshark has seen these numbers before.

mod communication;
mod operation;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use xtcp::{Application, Attach, Connection, Event, Group, GroupOptions, Inbox};
use xtcp_bench::capture::{Capture, count_segments};
use xtcp_bench::clock::Deadline;
use xtcp_bench::judge::{Judged, judge};
use xtcp_bench::machine::{Impairments, LossyWire};
use xtcp_bench::process::Running;

use crate::rig::{Rig, SERVER_V4, SERVER_V6, Swept};

const PORT: u16 = 7100;
/// How long something may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a request and of an answer.
const LEN: usize = 1000;
/// A handshake as every flow begins.
const HANDSHAKE: [&str; 3] = ["C S 0+0", "S SA 0+0 ack 1", "C A 1+0 ack 1"];

/// Retransmission timers of both sides: the one that a flow is about is short, and the other so long
/// that no busy machine makes it fire.
#[derive(Clone, Copy)]
enum Timers {
    /// Neither fires.
    Patient,
    /// The client's fires first.
    ClientFirst,
    /// The server's fires first; after two seconds it gives the connection up.
    ServerFirst,
}

/// An appliance, a wire to lose things on, and an application.
struct Scene {
    app: App,
    _xtcpd: Running,
    appliance: Swept,
    wire: LossyWire,
    rig: Rig,
}

/// The application: this thread.
struct App {
    application: Application,
    inbox: Inbox,
    group: Group,
}

impl App {
    fn attach(appliance: &Swept, name: &str, receive_bytes: u64) -> (Application, Inbox) {
        let attach = Attach {
            instance: appliance.name.clone(),
            run_dir: appliance.run_dir.clone(),
            receive_bytes,
            ..Attach::new(name)
        };
        Application::attach(&attach).unwrap()
    }

    /// Takes events until one is what is wanted.
    fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(Event<'_>) -> Option<T>) -> T {
        let deadline = Deadline::within(PATIENCE);
        while !deadline.is_over() {
            let mut batch = self.inbox.receive().unwrap();
            while let Some(event) = batch.next_event() {
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
            self.inbox.wait(Some(deadline.left())).unwrap();
        }
        panic!("{what} did not happen in time");
    }

    /// Accepts the next client and waits until its handshake is complete.
    fn accept(&mut self) -> Connection {
        self.until("a client's handshake", |event| match event {
            Event::Acceptable(client) => {
                client.accept().unwrap();
                None
            }
            Event::Opened(connection) => Some(connection),
            _ => None,
        })
    }

    /// Answers the next request, which acknowledges it.
    fn answer(&mut self, answer: &[u8]) {
        self.until("a request", |event| {
            let Event::Request(mut request) = event else { return None };
            (request.len() == LEN).then(|| request.answer(LEN, answer).unwrap())
        });
        self.application.flush();
    }
}

impl Scene {
    fn new(timers: Timers) -> Self {
        let rig = Rig::new();
        let nothing = Impairments { lost: 0, late: 0, twice: 0 };
        let wire = rig.bad_wire(nothing);
        let (client_ms, server) = match timers {
            Timers::Patient => (20_000, "rto_min_ms = 20000"),
            Timers::ClientFirst => (50, "rto_min_ms = 20000"),
            Timers::ServerFirst => (20_000, "rto_min_ms = 100\nuser_timeout_ms = 2000"),
        };
        set_client_timer(&rig, client_ms);
        let mut appliance = rig.appliance(&rig.instance_name('a'), wire.near());
        appliance.0.tcp = server.to_owned();
        let xtcpd = appliance.start().unwrap_or_else(|error| panic!("{error}"));
        let (application, inbox) = App::attach(&appliance, "flows", 8 << 20);
        let group = application.open_group(&GroupOptions::new("flows", PORT)).unwrap();
        Self { app: App { application, inbox, group }, _xtcpd: xtcpd, appliance, wire, rig }
    }

    /// A figure of a table of `xtcpctl show`.
    fn shown(&self, topic: &str, column: &str) -> Vec<u64> {
        let rows = self.appliance.show(topic).unwrap_or_else(|error| panic!("{error}"));
        rows.iter().map(|row| row[column].as_u64().unwrap()).collect()
    }

    /// Waits until the shared transmit buffer is empty.
    fn wait_until_nothing_is_cached(&self) {
        let empty = || (self.shown("workers", "transmit used (bytes)") == [0]).then_some(());
        assert!(Deadline::within(PATIENCE).poll(empty).is_some(), "the answer stays cached");
    }

    /// A connection to be watched from its handshake on.
    fn call(&mut self, server: &str) -> Call {
        let captures = Captures::start(&self.rig, &self.wire);
        let connecting = self.rig.connecting(server, PORT);
        let connection = self.app.accept();
        let stream = connecting.join().unwrap().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let call = Call { stream, connection, captures };
        call.captures.wait_for(End::Server, HANDSHAKE.len());
        call
    }
}

/// The same for either family.
fn over_both_families(timers: Timers, mut test: impl FnMut(&mut Scene, &str)) {
    let mut scene = Scene::new(timers);
    for server in [SERVER_V4, SERVER_V6] {
        test(&mut scene, server);
        scene.wire.lose_no_more().unwrap();
    }
}

/// The kernel's own choices, taken away: no probe before the timer, and a timer as long as wanted.
fn set_client_timer(rig: &Rig, least_ms: u32) {
    rig.namespace.run("sysctl -qw net.ipv4.tcp_early_retrans=0").unwrap();
    for line in [
        format!("ip route replace 10.77.0.0/24 dev client rto_min {least_ms}ms"),
        // The metric is the one of the route that came with the address, which this replaces.
        format!("ip -6 route replace fd77::/64 dev client metric 256 rto_min {least_ms}ms"),
    ] {
        rig.namespace.run(&line).unwrap();
    }
}

/// Where a capture was made: between which end and the loss.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Client,
    Server,
}

/// What each end sent, and what of the other's it got.
struct Captures {
    at_client: (Capture, PathBuf),
    at_server: (Capture, PathBuf),
}

impl Captures {
    fn start(rig: &Rig, wire: &LossyWire) -> Self {
        let on = |interface: &str| {
            let file = rig.directory.join(format!("{interface}.pcap"));
            let _ = std::fs::remove_file(&file);
            let capture = Capture::start_whole(interface, rig.namespace.name(), &file);
            (capture.unwrap_or_else(|error| panic!("{error}")), file)
        };
        Self { at_client: on("client"), at_server: on(wire.middle()) }
    }

    /// Waits until one end has seen so many segments.
    fn wait_for(&self, end: End, segments: usize) {
        let (_, file) = if end == End::Client { &self.at_client } else { &self.at_server };
        let seen = || count_segments(file).ok().filter(|count| *count >= segments);
        let seen = Deadline::within(PATIENCE).poll(seen);
        assert!(seen.is_some(), "{} segments, not {segments}", count_segments(file).unwrap_or(0));
    }

    /// Both ends' segments, the client's view first; each is well formed.
    fn finish(self) -> [Vec<Judged>; 2] {
        [self.at_client, self.at_server].map(|(capture, file)| {
            assert_eq!(capture.finish().unwrap_or_else(|error| panic!("{error}")), 0);
            let segments = judge(&file).unwrap_or_else(|error| panic!("{error}"));
            for segment in &segments {
                assert_eq!(segment.fault, None, "{segment}");
            }
            segments
        })
    }
}

/// One client's connection and its captures.
struct Call {
    stream: TcpStream,
    connection: Connection,
    captures: Captures,
}

impl Call {
    fn request(&mut self) {
        self.stream.write_all(&[b'q'; LEN]).unwrap();
    }

    fn read_answer(&mut self, answer: &[u8]) {
        let mut got = vec![0; answer.len()];
        self.stream.read_exact(&mut got).unwrap();
        assert_eq!(got, answer);
    }

    /// The client's congestion window, in segments, as its kernel has it.
    fn congestion_window(&self, rig: &Rig) -> u32 {
        let port = self.stream.local_addr().unwrap().port();
        let line = format!("ss --tcp --info --no-header --numeric sport = :{port}");
        let said = rig.namespace.run(&line).unwrap_or_else(|error| panic!("{error}"));
        let window = said.split_whitespace().find_map(|word| word.strip_prefix("cwnd:"));
        window.and_then(|window| window.parse().ok()).unwrap_or_else(|| panic!("no window: {said}"))
    }

    /// Closes in order; what both ends saw after the handshake and before that.
    fn finish(mut self, app: &mut App) -> [Vec<String>; 2] {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
        app.until("the end of the stream", |event| {
            matches!(event, Event::Finished(one) if one == self.connection).then_some(())
        });
        app.application.close(self.connection).unwrap();
        app.application.flush();
        assert_eq!(self.stream.read(&mut [0]).unwrap(), 0, "nothing more has come");
        app.until("the end of the connection", |event| match event {
            Event::Closed { connection, .. } => (connection == self.connection).then_some(()),
            _ => None,
        });
        self.captures.finish().map(|segments| {
            let lines = until_closing(&segments);
            assert_eq!(lines[..3], HANDSHAKE);
            lines[3..].to_vec()
        })
    }
}

/// Segments as lines, up to the first FIN or RST.
fn until_closing(segments: &[Judged]) -> Vec<String> {
    let closes = |segment: &&Judged| segment.flags.contains(['F', 'R']);
    segments.iter().take_while(|segment| !closes(segment)).map(line).collect()
}

fn line(segment: &Judged) -> String {
    let who = if segment.to == PORT { 'C' } else { 'S' };
    let again = if segment.again || segment.spurious { " (again)" } else { "" };
    format!("{who} {segment}{again}")
}

//! As much of an `iperf3` server as it takes to measure XTCP with `iperf3 -c`, in both directions and
//! with several streams: `iperf3 -c 10.77.0.2 -p 5201 [-R] [-P 4] [-t 10]`, one client at a time.
//!
//! iperf3 talks about a test on one connection, in states of one byte and lengths before JSON, and
//! makes the test's streams on others, which say by a cookie whose they are. What the streams bring
//! is acknowledged and forgotten; what they take is sent for as long as there is room, and again
//! when there is room again.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use xtcp::{
    Acknowledge, Application, Attach, Connection, Event, GroupOptions, Inbox, Request, SendError,
};

/// iperf3's states, one byte each.
mod state {
    pub(crate) const TEST_START: u8 = 1;
    pub(crate) const TEST_RUNNING: u8 = 2;
    pub(crate) const TEST_END: u8 = 4;
    pub(crate) const PARAM_EXCHANGE: u8 = 9;
    pub(crate) const CREATE_STREAMS: u8 = 10;
    pub(crate) const CLIENT_TERMINATE: u8 = 12;
    pub(crate) const EXCHANGE_RESULTS: u8 = 13;
    pub(crate) const DISPLAY_RESULTS: u8 = 14;
    pub(crate) const IPERF_DONE: u8 = 16;
    /// -1: somebody else is being served.
    pub(crate) const ACCESS_DENIED: u8 = 255;
}

/// 36 letters and a zero byte.
const COOKIE: usize = 37;
/// Longest JSON that is taken.
const JSON_MAX: usize = 256 << 10;
const STREAMS_MAX: usize = 128;
/// Sent at once.
static BYTES: [u8; 64 << 10] = [0x78; 64 << 10];

/// iperf3 server over XTCP.
#[derive(Parser)]
struct Options {
    /// Name of the appliance's instance.
    #[arg(long, default_value = "xtcp")]
    instance: String,
    /// Where the instances' sockets are.
    #[arg(long, default_value = "/run/xtcp")]
    run_dir: PathBuf,
    /// TCP port to listen on, IPv4 and IPv6.
    #[arg(long, default_value_t = 5201)]
    port: u16,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("iperf: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let (application, mut inbox) = Application::attach(&Attach {
        instance: options.instance.clone(),
        run_dir: options.run_dir.clone(),
        ..Attach::new("iperf")
    })?;
    application.open_group(&GroupOptions {
        acknowledge: Acknowledge::ByApplication { deadline: Duration::from_millis(40) },
        window_max: 1 << 20,
        ..GroupOptions::new("iperf", options.port)
    })?;
    println!("iperf: ready on port {}, Ctrl-C ends it", options.port);
    let mut server = Server { application, clients: HashMap::new(), test: None };
    while !stop.load(Ordering::Relaxed) {
        // No event says that the rings have room again.
        let stalls = server.test.as_ref().is_some_and(|test| !test.stalled.is_empty());
        inbox.wait(Some(Duration::from_millis(if stalls { 1 } else { 500 })))?;
        server.serve(&mut inbox)?;
    }
    server.application.detach(inbox)?;
    Ok(())
}

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It has not said its cookie.
    Unknown,
    Control,
    Stream,
    /// It was turned away.
    Stranger,
}

/// What the controlling connection says next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Parameters,
    Running,
    Results,
    Done,
}

/// The test that is under way.
struct Test {
    control: Connection,
    cookie: Vec<u8>,
    phase: Phase,
    reverse: bool,
    wanted: usize,
    /// Streams in their order, and the bytes each has brought or taken.
    streams: Vec<(Connection, u64)>,
    /// It was said that it runs.
    started: bool,
    /// Streams that take, and for which the rings had no room.
    stalled: Vec<Connection>,
    /// How long it is meant to take.
    seconds: f64,
}

struct Server {
    application: Application,
    clients: HashMap<Connection, Role>,
    test: Option<Test>,
}

impl Server {
    fn serve(&mut self, inbox: &mut Inbox) -> Result<(), Box<dyn Error>> {
        let mut batch = inbox.receive()?;
        while let Some(event) = batch.next_event() {
            let done = match event {
                Event::Acceptable(client) => {
                    self.clients.insert(client.accept()?, Role::Unknown);
                    Ok(())
                }
                Event::Request(request) => self.on_request(request),
                Event::Drained(connection) => self.pour(connection),
                Event::Finished(connection) => self.application.close(connection),
                Event::Closed { connection, .. } => {
                    self.clients.remove(&connection);
                    if self.test.as_ref().is_some_and(|test| test.control == connection) {
                        self.abandon();
                    }
                    Ok(())
                }
                _ => Ok(()),
            };
            bear(done)?;
        }
        bear(self.go_on())?;
        Ok(())
    }

    /// Tries again what found no room and is no request, which would be given again.
    fn go_on(&mut self) -> Result<(), SendError> {
        let stalled = self.test.as_mut().map(|test| std::mem::take(&mut test.stalled));
        for stream in stalled.into_iter().flatten() {
            self.pour(stream)?;
        }
        self.start()
    }

    /// The test is over, with or without an end; what is left of it is reset.
    fn abandon(&mut self) {
        for (stream, _) in self.test.take().into_iter().flat_map(|test| test.streams) {
            // One that is gone already is as good.
            let _ = self.application.abort(stream);
        }
    }

    fn on_request(&mut self, mut request: Request<'_>) -> Result<(), SendError> {
        let connection = request.connection();
        while !request.is_empty() {
            let before = request.len();
            match self.clients.get(&connection).copied() {
                Some(Role::Unknown) if before >= COOKIE => self.on_cookie(&mut request)?,
                Some(Role::Control) => self.on_control(&mut request)?,
                Some(Role::Stream) => {
                    request.acknowledge(before)?;
                    self.note(connection, before);
                }
                Some(Role::Unknown) => {}
                Some(Role::Stranger) | None => request.acknowledge(before)?,
            }
            if request.len() == before {
                // More has to come.
                return Ok(());
            }
        }
        Ok(())
    }

    fn note(&mut self, connection: Connection, bytes: usize) {
        let streams = self.test.iter_mut().flat_map(|test| &mut test.streams);
        for (_, count) in streams.filter(|(stream, _)| *stream == connection) {
            *count += bytes as u64;
        }
    }

    /// Says which test it belongs to; the first of a test controls it.
    fn on_cookie(&mut self, request: &mut Request<'_>) -> Result<(), SendError> {
        let connection = request.connection();
        let cookie = request.head(COOKIE).into_owned();
        let role = match &mut self.test {
            None => {
                request.answer(COOKIE, &[state::PARAM_EXCHANGE])?;
                self.test = Some(Test {
                    control: connection,
                    cookie,
                    phase: Phase::Parameters,
                    reverse: false,
                    wanted: 1,
                    streams: Vec::new(),
                    started: false,
                    stalled: Vec::new(),
                    seconds: 0.0,
                });
                Role::Control
            }
            Some(test) if test.cookie == cookie && test.streams.len() < test.wanted => {
                request.acknowledge(COOKIE)?;
                test.streams.push((connection, 0));
                Role::Stream
            }
            Some(_) => {
                request.answer(COOKIE, &[state::ACCESS_DENIED])?;
                Role::Stranger
            }
        };
        self.clients.insert(connection, role);
        if role == Role::Stranger { self.application.close(connection) } else { self.start() }
    }

    /// Starts the test when its last stream is there.
    fn start(&mut self) -> Result<(), SendError> {
        let Some(test) = &mut self.test else { return Ok(()) };
        if test.started || test.phase != Phase::Running || test.streams.len() < test.wanted {
            return Ok(());
        }
        self.application.send(test.control, &[state::TEST_START, state::TEST_RUNNING])?;
        test.started = true;
        let streams: Vec<Connection> = test.streams.iter().map(|(stream, _)| *stream).collect();
        for stream in streams {
            self.pour(stream)?;
        }
        Ok(())
    }

    /// Sends on a stream that takes, until there is no more room. What waits in the library is
    /// counted as sent, as iperf3 counts what waits in the kernel.
    fn pour(&mut self, stream: Connection) -> Result<(), SendError> {
        let Some(test) = &mut self.test else { return Ok(()) };
        if !test.reverse || test.phase != Phase::Running {
            return Ok(());
        }
        let Some((_, count)) = test.streams.iter_mut().find(|(one, _)| *one == stream) else {
            return Ok(());
        };
        loop {
            match self.application.send(stream, &BYTES) {
                Ok(()) => *count += BYTES.len() as u64,
                Err(SendError::WouldBlock) => {
                    test.stalled.push(stream);
                    return Ok(());
                }
                // `Drained` or `Closed` follows; the other streams have room of their own.
                Err(SendError::Behind { .. } | SendError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn on_control(&mut self, request: &mut Request<'_>) -> Result<(), SendError> {
        let Some(test) = &mut self.test else {
            let len = request.len();
            return request.acknowledge(len);
        };
        match test.phase {
            Phase::Parameters => {
                let Some((len, told)) = json_of(request) else { return Ok(()) };
                test.reverse = told["reverse"].as_bool().unwrap_or(false);
                let streams = told["parallel"].as_u64().unwrap_or(1);
                test.seconds = told["time"].as_f64().unwrap_or_default();
                test.wanted = usize::try_from(streams).map_or(1, |n| n.clamp(1, STREAMS_MAX));
                request.answer(len, &[state::CREATE_STREAMS])?;
                test.phase = Phase::Running;
            }
            Phase::Running => match request.head(1)[..] {
                [state::TEST_END] => {
                    end_what_is_poured(&self.application, test)?;
                    request.answer(1, &[state::EXCHANGE_RESULTS])?;
                    test.phase = Phase::Results;
                }
                [state::CLIENT_TERMINATE | state::IPERF_DONE] => {
                    request.acknowledge(1)?;
                    self.abandon();
                }
                _ => request.acknowledge(1)?,
            },
            Phase::Results => {
                let Some((len, _)) = json_of(request) else { return Ok(()) };
                let text = results(test).to_string();
                let size = u32::try_from(text.len()).unwrap_or(0).to_be_bytes();
                let answer = [&size[..], text.as_bytes(), &[state::DISPLAY_RESULTS]].concat();
                request.answer(len, &answer)?;
                test.phase = Phase::Done;
            }
            Phase::Done => {
                request.acknowledge(1)?;
                self.abandon();
            }
        }
        Ok(())
    }
}

/// What is left of a request is given again when there is room, and a closed connection says so.
fn bear(done: Result<(), SendError>) -> Result<(), SendError> {
    match done {
        Err(SendError::WouldBlock | SendError::Behind { .. } | SendError::Closed) => Ok(()),
        done => done,
    }
}

/// A client that takes waits in `read` for a whole block when the time is over, and for the end of
/// the stream when the last block is not whole.
fn end_what_is_poured(application: &Application, test: &Test) -> Result<(), SendError> {
    let taking = if test.reverse { &test.streams[..] } else { &[] };
    for (stream, _) in taking {
        match application.close(*stream) {
            // Its client may have gone.
            Ok(()) | Err(SendError::Closed) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What we have counted, as iperf3 tells it; streams are numbered 1, 3, 4 and so on.
fn results(test: &Test) -> Value {
    let stream = |(place, (_, bytes)): (usize, &(Connection, u64))| {
        json!({
            "id": if place == 0 { 1 } else { place + 2 }, "bytes": bytes, "retransmits": -1,
            "jitter": 0, "errors": 0, "packets": 0, "start_time": 0, "end_time": test.seconds,
        })
    };
    let streams: Vec<Value> = test.streams.iter().enumerate().map(stream).collect();
    json!({
        "cpu_util_total": 0, "cpu_util_user": 0, "cpu_util_system": 0,
        "sender_has_retransmits": -1, "streams": streams,
    })
}

/// A length and so many bytes of JSON, if all of it has come: the bytes it takes, and what it says.
fn json_of(request: &Request<'_>) -> Option<(usize, Value)> {
    let head = request.head(4.min(request.len()));
    let len = u32::from_be_bytes(head.as_ref().try_into().ok()?) as usize;
    if len > JSON_MAX || request.len() < 4 + len {
        return None;
    }
    let text = request.head(4 + len);
    Some((4 + len, serde_json::from_slice(text.get(4..)?).unwrap_or_default()))
}

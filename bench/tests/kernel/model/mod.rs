//! Random calls of the library against a model, with the whole appliance below it and clients of the
//! Linux kernel on the other side of a wire that loses frames.
//!
//! The model knows of each client what it has sent, what of that the application has taken and
//! acknowledged, and what was sent to it. Everything that is given must be what the model says comes
//! next; everything that was taken must arrive; no stale handle is another's; and a client's kernel
//! keeps what the application has not acknowledged.
//!
//! `XTCP_SEED` replays a run's calls (the wire loses other frames each time), `XTCP_CASES` asks for
//! more of them.

mod client;

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use xtcp::{
    Acknowledge, Application, Attach, Connection, Event, GroupOptions, Inbox, RefusalReason,
    SendError,
};
use xtcp_bench::clock::Deadline;
use xtcp_bench::machine::Impairments;

use self::client::{Client, Later, Stage, on_request, text};
use crate::rig::{Rig, SERVER_V4, SERVER_V6, seed};

/// Nobody but the application acknowledges.
const PORT: u16 = 7400;
/// The appliance acknowledges by itself after a while.
const PORT_HOLDING: u16 = 7401;
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(100);
const CLIENTS: usize = 4;
/// Sequences of calls.
const CASES: u32 = 40;
/// How long something may take that must happen: retransmissions among it.
const PATIENCE: Duration = Duration::from_secs(60);
/// As that, when a sequence has failed and a shorter one is looked for.
const IMPATIENCE: Duration = Duration::from_secs(8);
const SHRINKS: u32 = 12;

#[derive(Clone, Debug)]
enum Step {
    Connect { v6: bool, holds: bool },
    Come { client: usize, len: usize },
    Finish { client: usize },
    Reset { client: usize },
    Receive { choices: Vec<u8> },
    Send { client: usize, len: usize },
    Close { client: usize },
    Abort { client: usize },
    Answer { len: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..CLIENTS;
    let step = prop_oneof![
        3 => any::<(bool, bool)>().prop_map(|(v6, holds)| Step::Connect { v6, holds }),
        6 => (client.clone(), 1..6000_usize).prop_map(|(client, len)| Step::Come { client, len }),
        1 => client.clone().prop_map(|client| Step::Finish { client }),
        1 => client.clone().prop_map(|client| Step::Reset { client }),
        9 => proptest::collection::vec(any::<u8>(), 1..8)
            .prop_map(|choices| Step::Receive { choices }),
        4 => (client.clone(), 1..6000_usize).prop_map(|(client, len)| Step::Send { client, len }),
        1 => client.clone().prop_map(|client| Step::Close { client }),
        1 => client.prop_map(|client| Step::Abort { client }),
        3 => (0..3000_usize).prop_map(|len| Step::Answer { len }),
    ];
    proptest::collection::vec(step, 10..60)
}

/// The application, which outlives a sequence.
struct Server<'r> {
    rig: &'r Rig,
    application: Application,
    inbox: Inbox,
    /// Connections of sequences that failed: the end of each may be told late.
    left: HashSet<Connection>,
    patience: Duration,
}

struct Run<'s, 'r> {
    server: &'s mut Server<'r>,
    clients: Vec<Client>,
    /// Connections that were opened, whether or not their clients are known yet.
    opened: Vec<Connection>,
    later: Vec<Later>,
}

#[test]
fn random_calls_do_what_the_model_says_though_frames_are_lost() {
    let seed = seed();
    eprintln!("XTCP_SEED={seed}");
    let cases = std::env::var("XTCP_CASES").ok().and_then(|cases| cases.parse().ok());
    let rig = Rig::new();
    let wire = rig.bad_wire(Impairments { lost: 20, late: 10, twice: 10 });
    let mut appliance = rig.appliance(&rig.instance_name('a'), wire.near());
    "rto_min_ms = 20".clone_into(&mut appliance.0.tcp);
    let _xtcpd = appliance.start().unwrap_or_else(|error| panic!("{error}"));
    let attach = Attach {
        instance: appliance.name.clone(),
        run_dir: appliance.run_dir.clone(),
        ..Attach::new("model")
    };
    let (application, inbox) = Application::attach(&attach).unwrap();
    application.open_group(&GroupOptions::new("model", PORT)).unwrap();
    let acknowledge = Acknowledge::ByApplication { deadline: ACKNOWLEDGE_AFTER };
    let holding = GroupOptions { acknowledge, ..GroupOptions::new("holding", PORT_HOLDING) };
    application.open_group(&holding).unwrap();
    let left = HashSet::new();
    let server = Server { rig: &rig, application, inbox, left, patience: PATIENCE };
    let server = RefCell::new(server);
    let config = Config {
        cases: cases.unwrap_or(CASES),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: SHRINKS,
        ..Config::default()
    };
    let done = TestRunner::new(config).run(&steps(), |steps| {
        let mut server = server.borrow_mut();
        let (clients, opened, later) = (Vec::new(), Vec::new(), Vec::new());
        let mut run = Run { server: &mut server, clients, opened, later };
        steps.into_iter().for_each(|step| run.step(step));
        run.settle();
        Ok(())
    });
    done.unwrap_or_else(|error| panic!("XTCP_SEED={seed}: {error}"));
}

impl Run<'_, '_> {
    fn step(&mut self, step: Step) {
        match step {
            Step::Connect { v6, holds } if self.clients.len() < CLIENTS => self.connect(v6, holds),
            Step::Come { client, len } if client < self.clients.len() => {
                self.clients[client].send(client, len);
            }
            Step::Finish { client } if client < self.clients.len() => self.clients[client].finish(),
            Step::Reset { client } if client < self.clients.len() => self.clients[client].reset(),
            Step::Receive { choices } => {
                self.wait(Duration::from_millis(5));
                self.receive(&choices);
            }
            Step::Send { client, len } if client < self.clients.len() => self.send(client, len),
            Step::Close { client } => self.end(client, false),
            Step::Abort { client } => self.end(client, true),
            Step::Answer { len } => self.answer(len),
            _ => {}
        }
    }

    fn wait(&mut self, most: Duration) {
        self.server.inbox.wait(Some(most)).unwrap();
    }

    fn connect(&mut self, v6: bool, holds: bool) {
        let ip = if v6 { SERVER_V6 } else { SERVER_V4 };
        let port = if holds { PORT_HOLDING } else { PORT };
        let connecting = self.server.rig.connecting(ip, port);
        let deadline = Deadline::within(self.server.patience);
        let mut accepted = None;
        while accepted.is_none() || !connecting.is_finished() {
            assert!(!deadline.is_over(), "nobody connects");
            self.wait(Duration::from_millis(5));
            accepted = self.receive(&[201]).or(accepted);
        }
        let stream = joined(connecting);
        let connection = accepted.expect("just accepted");
        let info = self.server.application.describe(connection).unwrap();
        let unmapped = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        assert_eq!(unmapped(info.remote), unmapped(stream.local_addr().unwrap()));
        stream.set_nonblocking(true).unwrap();
        self.clients.push(Client::new(stream, connection, holds));
    }

    fn send(&mut self, client: usize, len: usize) {
        let known = &mut self.clients[client];
        let bytes = text(client + 50, known.wanted.len(), len);
        match self.server.application.send(known.connection, &bytes) {
            Ok(()) => {
                assert_eq!(known.stage, Stage::Open, "bytes for a connection that was ended");
                known.wanted.extend(bytes);
            }
            Err(SendError::Closed) => assert!(known.lossy || known.stage != Stage::Open),
            Err(SendError::WouldBlock | SendError::Behind { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn end(&mut self, client: usize, abort: bool) {
        let Some(known) = self.clients.get_mut(client) else { return };
        let (application, to) = (&self.server.application, known.connection);
        match if abort { application.abort(to) } else { application.close(to) } {
            Ok(()) => {
                assert!(known.stage != Stage::Closed, "a stale handle was taken");
                // A client whose bytes nobody acknowledged is reset.
                known.lossy |= abort || known.acknowledged != known.sent.len();
                known.stage = Stage::Ending;
            }
            Err(SendError::Closed) => assert!(known.lossy || known.stage == Stage::Closed),
            Err(error) => assert_eq!(error, SendError::WouldBlock),
        }
    }

    /// Answers the oldest of what was deferred.
    fn answer(&mut self, len: usize) {
        if self.later.is_empty() {
            return;
        }
        let Later { client, deferred, up_to } = self.later.remove(0);
        let known = &mut self.clients[client];
        let bytes = text(client + 50, known.wanted.len(), len);
        match self.server.application.answer(&deferred, &bytes) {
            Ok(()) => {
                known.acknowledged = known.acknowledged.max(up_to);
                known.wanted.extend(bytes);
            }
            Err(SendError::Closed) => assert!(known.lossy || known.stage != Stage::Open),
            Err(_) => self.later.insert(0, Later { client, deferred, up_to }),
        }
    }

    /// Takes what has come; answers whom it has let in, if somebody is.
    fn receive(&mut self, choices: &[u8]) -> Option<Connection> {
        let Self { server, clients, opened, later } = self;
        let mut choices = choices.iter().cycle().copied();
        let mut accepted = None;
        let mut batch = server.inbox.receive().unwrap();
        // What is wanted again at once would come for ever.
        for _ in 0..50 {
            let Some(event) = batch.next_event() else { break };
            let who = |of: Connection| clients.iter().position(|client| client.connection == of);
            // One of an earlier sequence that failed, or nobody's.
            let is_left = |of: Connection| {
                assert!(server.left.contains(&of), "{of:?} is nobody's: its last event was told");
            };
            match event {
                Event::Acceptable(client) => drop(client.accept().unwrap()),
                Event::Opened(connection) => {
                    assert!(!opened.contains(&connection), "a handle that is another's");
                    opened.push(connection);
                    accepted = Some(connection);
                }
                Event::Request(request) => {
                    let Some(who) = who(request.connection()) else {
                        is_left(request.connection());
                        continue;
                    };
                    let choice = choices.next().expect("an endless list");
                    on_request(request, who, &mut clients[who], later, usize::from(choice));
                }
                Event::Finished(connection) => {
                    let Some(who) = who(connection) else {
                        is_left(connection);
                        continue;
                    };
                    let known = &clients[who];
                    assert!(known.finished && known.stage == Stage::Open, "{known:?}");
                }
                Event::Closed { connection, reason } => {
                    let Some(who) = who(connection) else {
                        is_left(connection);
                        continue;
                    };
                    let known = &mut clients[who];
                    assert!(known.stage != Stage::Closed, "its last event came twice");
                    assert!(known.lossy || known.stage == Stage::Ending, "{reason} {known:?}");
                    known.stage = Stage::Closed;
                }
                Event::SendRefused { connection, reason, .. } => {
                    let lost = reason == RefusalReason::Closed;
                    let known = who(connection).map(|who| &clients[who]);
                    assert!(!lost || known.is_none_or(|known| known.lossy), "{known:?}");
                }
                Event::Drained(_) => {}
                other => panic!("{other:?}"),
            }
        }
        accepted
    }

    /// In the end everything that was taken has arrived, and everything that was sent was heard and
    /// is acknowledged.
    fn settle(mut self) {
        self.kernels_keep_what_is_not_acknowledged();
        self.hear_out();
        self.close_all();
        for client in &self.clients {
            let stale = self.server.application.send(client.connection, b"x");
            assert_eq!(stale, Err(SendError::Closed));
        }
    }

    fn hear_out(&mut self) {
        let deadline = Deadline::within(self.server.patience);
        loop {
            self.wait(Duration::from_millis(2));
            self.receive(&[255]);
            self.answer(0);
            let mut all = self.later.is_empty();
            for (index, client) in self.clients.iter_mut().enumerate() {
                client.nudge(index);
                client.listen();
                all &= client.is_done();
            }
            if all && self.kernels_keep_nothing() {
                break;
            }
            if deadline.is_over() {
                let kept = self.server.rig.unacknowledged();
                let wanting: Vec<_> = self.clients.iter().filter(|one| !one.lossy).collect();
                panic!(
                    "not all was heard and acknowledged: {wanting:#?} the kernel keeps {kept:?}"
                );
            }
        }
        for client in &self.clients {
            assert!(client.wanted.starts_with(&client.received), "{client:?} got other bytes");
        }
    }

    /// What the application has not acknowledged, its client still has (WO 02/091709, Fig. 5a).
    fn kernels_keep_what_is_not_acknowledged(&self) {
        let kept = self.server.rig.unacknowledged();
        for client in &self.clients {
            let Some((port, wanted)) = client.unacknowledged() else { continue };
            let kept = kept.get(&port).copied().unwrap_or_default();
            assert!(kept >= wanted, "its kernel keeps {kept} bytes, not {wanted}: {client:?}");
        }
    }

    fn kernels_keep_nothing(&self) -> bool {
        let kept = self.server.rig.unacknowledged();
        let mut sure = self.clients.iter().filter_map(Client::unacknowledged);
        sure.all(|(port, _)| kept.get(&port).copied().unwrap_or_default() == 0)
    }

    fn close_all(&mut self) {
        let deadline = Deadline::within(self.server.patience);
        for client in &mut self.clients {
            if client.stage != Stage::Closed {
                let _ = self.server.application.abort(client.connection);
            }
            client.lossy = true;
            client.stream = None;
        }
        while self.clients.iter().any(|client| client.stage != Stage::Closed) {
            assert!(!deadline.is_over(), "a connection does not end: {:#?}", self.clients);
            self.wait(Duration::from_millis(2));
            self.receive(&[255]);
        }
    }
}

impl Drop for Run<'_, '_> {
    /// What a failed sequence leaves is not the next one's.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.server.patience = IMPATIENCE;
            for connection in self.opened.drain(..) {
                let _ = self.server.application.abort(connection);
                self.server.left.insert(connection);
            }
        }
    }
}

fn joined(connecting: JoinHandle<std::io::Result<TcpStream>>) -> TcpStream {
    connecting.join().expect("no panic there").expect("the application accepts")
}

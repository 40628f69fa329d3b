//! Random calls of the library against a model, with the whole appliance below it and clients of the
//! Linux kernel on the other side of a wire that loses frames.
//!
//! The model knows of each client what it has sent, what of that the application has taken and
//! acknowledged, and what was sent to it. Everything that is given must be what the model says comes
//! next; everything that was taken must arrive; no stale handle is another's.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use xtcp::{
    Application, Attach, Connection, Deferred, Event, GroupOptions, Inbox, Request, SendError,
};
use xtcp_bench::clock::Deadline;
use xtcp_bench::machine::Impairments;

use crate::rig::{Rig, SERVER_V4, SERVER_V6};

const PORT: u16 = 7400;
const CLIENTS: usize = 4;
/// Sequences of calls.
const CASES: u32 = 40;
/// How long something may take that must happen: retransmissions among it.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
enum Step {
    Connect { v6: bool },
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
        3 => any::<bool>().prop_map(|v6| Step::Connect { v6 }),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The application has ended it.
    Ending,
    Closed,
}

/// One client, as the model has it.
#[derive(Debug)]
struct Client {
    stream: Option<TcpStream>,
    connection: Connection,
    stage: Stage,
    /// Not everything need arrive: it was reset, or closed with something unread.
    lossy: bool,
    finished: bool,
    /// The rest of its last request was let go of.
    let_go: bool,
    sent: Vec<u8>,
    taken: usize,
    acknowledged: usize,
    wanted: Vec<u8>,
    received: Vec<u8>,
}

struct Run<'r> {
    rig: &'r Rig,
    application: &'r Application,
    inbox: &'r mut Inbox,
    clients: Vec<Client>,
    deferred: Vec<(usize, Deferred, usize)>,
}

#[test]
fn random_calls_do_what_the_model_says_though_frames_are_lost() {
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
    let inbox = RefCell::new(inbox);
    let config = Config { cases: CASES, max_shrink_iters: 60, ..Config::default() };
    let done = TestRunner::new(config).run(&steps(), |steps| {
        let mut inbox = inbox.borrow_mut();
        let (clients, deferred) = (Vec::new(), Vec::new());
        let mut run =
            Run { rig: &rig, application: &application, inbox: &mut inbox, clients, deferred };
        steps.into_iter().for_each(|step| run.step(step));
        run.settle();
        Ok(())
    });
    done.unwrap_or_else(|error| panic!("{error}"));
}

impl Run<'_> {
    fn step(&mut self, step: Step) {
        match step {
            Step::Connect { v6 } if self.clients.len() < CLIENTS => self.connect(v6),
            Step::Come { client, len } if client < self.clients.len() => self.come(client, len),
            Step::Finish { client } if client < self.clients.len() => {
                let known = &mut self.clients[client];
                if known.stage == Stage::Open && !std::mem::replace(&mut known.finished, true) {
                    let stream = known.stream.as_ref().expect("it is open");
                    stream.shutdown(Shutdown::Write).unwrap();
                }
            }
            Step::Reset { client } if client < self.clients.len() => self.reset(client),
            Step::Receive { choices } => {
                self.inbox.wait(Some(Duration::from_millis(5))).unwrap();
                self.receive(&choices);
            }
            Step::Send { client, len } if client < self.clients.len() => self.send(client, len),
            Step::Close { client } => self.end(client, false),
            Step::Abort { client } => self.end(client, true),
            Step::Answer { len } => self.answer(len),
            _ => {}
        }
    }

    fn connect(&mut self, v6: bool) {
        let server = if v6 { SERVER_V6 } else { SERVER_V4 };
        let connecting = self.rig.connecting(server, PORT);
        let deadline = Deadline::within(PATIENCE);
        let mut accepted = None;
        while accepted.is_none() || !connecting.is_finished() {
            assert!(!deadline.is_over(), "nobody connects");
            self.inbox.wait(Some(Duration::from_millis(5))).unwrap();
            accepted = self.receive(&[201]).or(accepted);
        }
        let stream = joined(connecting);
        let connection = accepted.expect("just accepted");
        let info = self.application.describe(connection).unwrap();
        let unmapped = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        assert_eq!(unmapped(info.remote), unmapped(stream.local_addr().unwrap()));
        stream.set_nonblocking(true).unwrap();
        self.clients.push(Client {
            stream: Some(stream),
            connection,
            stage: Stage::Open,
            lossy: false,
            finished: false,
            let_go: false,
            sent: Vec::new(),
            taken: 0,
            acknowledged: 0,
            wanted: Vec::new(),
            received: Vec::new(),
        });
    }

    fn come(&mut self, client: usize, len: usize) {
        let known = &mut self.clients[client];
        if known.stage != Stage::Open || known.finished {
            return;
        }
        let bytes = text(client, known.sent.len(), len);
        let Some(stream) = &mut known.stream else { return };
        match stream.write(&bytes) {
            Ok(count) => known.sent.extend_from_slice(&bytes[..count]),
            Err(error) => assert!(error.kind() == ErrorKind::WouldBlock, "{error}"),
        }
    }

    fn reset(&mut self, client: usize) {
        let known = &mut self.clients[client];
        if known.stage == Stage::Open
            && let Some(stream) = known.stream.take()
        {
            (known.finished, known.lossy) = (true, true);
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
    }

    fn send(&mut self, client: usize, len: usize) {
        let known = &mut self.clients[client];
        let bytes = text(client + 50, known.wanted.len(), len);
        match self.application.send(known.connection, &bytes) {
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
        let application = self.application;
        let to = known.connection;
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

    fn answer(&mut self, len: usize) {
        if self.deferred.is_empty() {
            return;
        }
        let (client, deferred, up_to) = self.deferred.remove(0);
        let known = &mut self.clients[client];
        let bytes = text(client + 50, known.wanted.len(), len);
        match self.application.answer(&deferred, &bytes) {
            Ok(()) => {
                known.acknowledged = known.acknowledged.max(up_to);
                known.wanted.extend(bytes);
            }
            Err(SendError::Closed) => assert!(known.lossy || known.stage != Stage::Open),
            Err(_) => self.deferred.insert(0, (client, deferred, up_to)),
        }
    }

    /// Takes what has come; answers whom it has let in, if somebody is.
    fn receive(&mut self, choices: &[u8]) -> Option<Connection> {
        let Self { inbox, clients, deferred, .. } = self;
        let mut choices = choices.iter().cycle().copied();
        let mut accepted = None;
        let mut batch = inbox.receive().unwrap();
        // What is wanted again at once would come for ever.
        for _ in 0..50 {
            let Some(event) = batch.next_event() else { break };
            let who = |of: Connection| clients.iter().position(|client| client.connection == of);
            match event {
                Event::Acceptable(client) => drop(client.accept().unwrap()),
                Event::Opened(connection) => {
                    assert_eq!(who(connection), None, "a handle that is another's");
                    accepted = Some(connection);
                }
                Event::Request(request) => {
                    let who = who(request.connection()).expect("a client's request");
                    let choice = choices.next().expect("an endless list");
                    on_request(request, who, &mut clients[who], deferred, usize::from(choice));
                }
                Event::Finished(connection) => {
                    let known = &clients[who(connection).expect("a client")];
                    assert!(known.finished && known.stage == Stage::Open, "{known:?}");
                }
                Event::Closed { connection, reason } => {
                    // One of an earlier sequence may be told late.
                    let Some(who) = who(connection) else { continue };
                    let known = &mut clients[who];
                    assert!(known.stage != Stage::Closed, "its last event came twice");
                    assert!(known.lossy || known.stage == Stage::Ending, "{reason} {known:?}");
                    known.stage = Stage::Closed;
                }
                Event::SendRefused { .. } | Event::Drained(_) => {}
                other => panic!("{other:?}"),
            }
        }
        accepted
    }

    /// In the end everything that was taken has arrived, and everything that was sent was heard.
    fn settle(mut self) {
        let deadline = Deadline::within(PATIENCE);
        loop {
            self.inbox.wait(Some(Duration::from_millis(2))).unwrap();
            self.receive(&[255]);
            let mut all = true;
            for client in &mut self.clients {
                client.listen();
                all &= client.is_done();
            }
            if all {
                break;
            }
            assert!(!deadline.is_over(), "{:?}", self.clients.iter().find(|one| !one.is_done()));
        }
        for client in &self.clients {
            assert!(client.wanted.starts_with(&client.received), "bytes that were not sent");
            if client.stage != Stage::Closed {
                let _ = self.application.abort(client.connection);
            }
        }
        self.clients.iter_mut().for_each(|client| client.lossy = true);
        while self.clients.iter().any(|client| client.stage != Stage::Closed) {
            assert!(!deadline.is_over(), "a connection does not end: {:?}", self.clients);
            for client in &mut self.clients {
                client.stream = None;
                client.let_go = true;
            }
            self.inbox.wait(Some(Duration::from_millis(2))).unwrap();
            self.receive(&[255]);
        }
        for client in &self.clients {
            assert_eq!(self.application.send(client.connection, b"x"), Err(SendError::Closed));
        }
    }
}

impl Client {
    /// Takes what has arrived.
    fn listen(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let mut buf = [0; 16 << 10];
        while let Ok(count @ 1..) = stream.read(&mut buf) {
            self.received.extend_from_slice(&buf[..count]);
        }
    }

    /// Whether it has everything it is to have, and was heard out.
    fn is_done(&self) -> bool {
        let heard = self.stage != Stage::Open || self.let_go || self.taken == self.sent.len();
        self.lossy || (heard && self.received.len() >= self.wanted.len())
    }
}

/// Looks at a request, and does with it what the choice says.
fn on_request(
    mut request: Request<'_>,
    who: usize,
    known: &mut Client,
    deferred: &mut Vec<(usize, Deferred, usize)>,
    choice: usize,
) {
    assert_eq!(known.stage, Stage::Open, "a request after the end");
    let all = request.contiguous().into_owned();
    let offset = usize::try_from(request.offset()).unwrap();
    assert_eq!(offset, known.taken, "given from the first byte that was not taken");
    assert!(known.sent[offset..].starts_with(&all), "other bytes than were sent");
    assert!(request.acknowledge(all.len() + 1).is_err(), "more than was given");
    let count = all.len() * (choice % 5) / 4;
    known.let_go |= request.is_last();
    let acknowledged = match choice {
        255 => request.acknowledge(all.len()).is_ok().then_some(all.len()),
        0..80 => request.acknowledge(count).is_ok().then_some(count),
        80..160 => {
            let bytes = text(who + 50, known.wanted.len(), choice * 10);
            request.answer(count, &bytes).is_ok().then(|| {
                known.wanted.extend(bytes);
                count
            })
        }
        160..200 if count > 0 => {
            let later = request.defer(count).unwrap();
            known.taken += count;
            deferred.push((who, later, known.taken));
            None
        }
        _ => None,
    };
    if let Some(count @ 1..) = acknowledged {
        known.taken += count;
        known.acknowledged = known.taken;
    }
}

fn joined(connecting: JoinHandle<std::io::Result<TcpStream>>) -> TcpStream {
    connecting.join().expect("no panic there").expect("the application accepts")
}

/// Bytes that tell whose they are and where they belong.
fn text(client: usize, from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at * 31 + at / 251 + client * 97).to_le_bytes()[0]).collect()
}

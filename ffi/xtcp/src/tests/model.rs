//! Random calls against a model of groups, connections, and bytes given and acknowledged: over the
//! rings, with a worker that refuses now and then, and over the kernel's own UNIX sockets.
//!
//! The model knows of each client what it has sent, what of that was acknowledged, what was sent to
//! it and taken, and how far its connection has come. Everything the library gives must be what the
//! model says can be given; what it takes must arrive.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use proptest::prelude::*;

use super::local::Place;
use super::*;
use crate::{CloseReason, Deferred, SendError};
use xtcp_ring::layout::{closed, refused};

/// Clients at most.
const CLIENTS: usize = 6;

#[derive(Clone, Debug)]
enum Step {
    Connect,
    /// A client sends.
    Come {
        client: usize,
        len: usize,
    },
    Finish {
        client: usize,
    },
    Reset {
        client: usize,
    },
    /// The application takes what has come; how it answers each depends on these numbers.
    Receive {
        choices: Vec<u8>,
    },
    Send {
        client: usize,
        len: usize,
    },
    Close {
        client: usize,
    },
    Abort {
        client: usize,
    },
    /// The oldest deferred request is answered.
    Answer {
        len: usize,
    },
    /// The worker takes so many submissions.
    Work {
        count: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..CLIENTS;
    let step = prop_oneof![
        3 => Just(Step::Connect),
        6 => (client.clone(), 1..3000_usize).prop_map(|(client, len)| Step::Come { client, len }),
        1 => client.clone().prop_map(|client| Step::Finish { client }),
        1 => client.clone().prop_map(|client| Step::Reset { client }),
        8 => proptest::collection::vec(any::<u8>(), 1..8)
            .prop_map(|choices| Step::Receive { choices }),
        4 => (client.clone(), 0..3000_usize).prop_map(|(client, len)| Step::Send { client, len }),
        1 => client.clone().prop_map(|client| Step::Close { client }),
        1 => client.prop_map(|client| Step::Abort { client }),
        2 => (0..200_usize).prop_map(|len| Step::Answer { len }),
        6 => (1..6_usize).prop_map(|count| Step::Work { count }),
    ];
    proptest::collection::vec(step, 1..120)
}

/// How far a connection has come, as the application knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Unheard,
    Accepted,
    Open,
    /// The application has ended it.
    Ending,
    Closed,
}

/// One client as the model has it.
#[derive(Debug)]
struct Client {
    connection: Option<Connection>,
    stage: Stage,
    /// It did something that may end its connection at any time.
    unsafe_to_send: bool,
    sent: Vec<u8>,
    finished: bool,
    /// What was left of its last request was let go of, and is not given again.
    let_go: bool,
    /// Acknowledged by the application.
    acknowledged: usize,
    /// Taken off requests, acknowledged or deferred.
    taken: usize,
    /// What the library took to be sent.
    wanted: Vec<u8>,
    received: Vec<u8>,
}

/// The other side of the connections.
trait Clients {
    fn connect(&mut self);
    /// Answers how many bytes went.
    fn send(&mut self, client: usize, bytes: &[u8]) -> usize;
    fn finish(&mut self, client: usize);
    fn reset(&mut self, client: usize);
    fn work(&mut self, count: usize);
    /// What has arrived since.
    fn received(&mut self, client: usize) -> Vec<u8>;
    /// Whose connection this is.
    fn who(&mut self, connection: Connection) -> usize;
    /// What the worker was told is acknowledged, if that can be seen.
    fn acknowledged(&self, client: usize) -> Option<u64>;
}

/// A session of the worker that is played.
#[derive(Default)]
struct Session {
    open: bool,
    gone: bool,
    given: u64,
    acknowledged: u64,
    received: Vec<u8>,
}

/// A played worker, which refuses every seventh piece.
struct Played {
    fake: Fake,
    sessions: Vec<Session>,
    sends: usize,
}

impl Played {
    fn of(client: usize) -> Connection {
        connection((client % 2) as u8, client as u32)
    }

    fn close(&mut self, client: usize, reason: u8) {
        let session = &mut self.sessions[client];
        if std::mem::replace(&mut session.gone, true) {
            return;
        }
        let of = Self::of(client);
        let offset = session.given - session.acknowledged;
        let notice = Notice {
            kind: kind::CLOSED,
            reason,
            gd: of.gd,
            cd: of.cd,
            offset,
            ..Notice::default()
        };
        self.fake.workers[usize::from(of.worker())].tell(notice);
    }

    fn take(&mut self, worker: usize) -> bool {
        let Some(asked) = self.fake.workers[worker].peek() else { return false };
        let client = (asked.submission.cd & 0xffff_ffff) as usize;
        let of = Self::of(client);
        assert_eq!((asked.submission.cd, asked.submission.gd), (of.cd, of.gd), "{asked:?}");
        let session = &mut self.sessions[client];
        match asked.submission.op {
            op::ACCEPT if !session.gone => {
                assert!(!std::mem::replace(&mut session.open, true), "accepted twice");
                self.fake.workers[worker].tell_of(kind::OPENED, of);
            }
            op::SEND => {
                if let Some(up_to) = asked.acknowledged() {
                    assert!(up_to <= session.given, "{up_to} of {}", session.given);
                    session.acknowledged = session.acknowledged.max(up_to);
                }
                self.sends += usize::from(!asked.bytes.is_empty());
                if asked.bytes.is_empty() {
                } else if session.gone {
                    self.fake.workers[worker].refuse(&asked, refused::GONE);
                } else if self.sends % 7 == 0 {
                    self.fake.workers[worker].refuse(&asked, refused::NO_BUFFER);
                    self.fake.workers[worker].channel.submissions.release();
                    return true;
                } else {
                    assert!(session.open, "bytes before the handshake");
                    session.received.extend(&asked.bytes);
                }
                if asked.submission.flags & flag::CLOSE_AFTER != 0 {
                    self.close(client, closed::BY_BOTH);
                }
            }
            op::CLOSE => self.close(client, closed::BY_BOTH),
            op::ABORT => self.close(client, closed::ABORTED),
            op::REFUSE => self.close(client, closed::NOT_ACCEPTED),
            _ => {}
        }
        self.fake.workers[worker].channel.submissions.release();
        true
    }
}

impl Clients for Played {
    fn connect(&mut self) {
        let of = Self::of(self.sessions.len());
        self.sessions.push(Session::default());
        self.fake.workers[usize::from(of.worker())].tell_of(kind::ACCEPTABLE, of);
    }

    fn send(&mut self, client: usize, bytes: &[u8]) -> usize {
        let session = &mut self.sessions[client];
        if !session.open || session.gone {
            return 0;
        }
        let offset = session.given;
        session.given += bytes.len() as u64;
        self.fake.data(Self::of(client), offset, bytes);
        bytes.len()
    }

    fn finish(&mut self, client: usize) {
        let of = Self::of(client);
        if !self.sessions[client].gone {
            self.fake.workers[usize::from(of.worker())].tell_of(kind::FINISHED, of);
        }
    }

    fn reset(&mut self, client: usize) {
        self.close(client, closed::RESET);
    }

    fn work(&mut self, count: usize) {
        for taken in 0..count {
            self.take(taken % 2);
        }
    }

    fn received(&mut self, client: usize) -> Vec<u8> {
        std::mem::take(&mut self.sessions[client].received)
    }

    fn who(&mut self, connection: Connection) -> usize {
        (connection.cd & 0xffff_ffff) as usize
    }

    fn acknowledged(&self, client: usize) -> Option<u64> {
        Some(self.sessions[client].acknowledged)
    }
}

/// Real clients of a UNIX socket.
struct Local {
    place: Place,
    streams: Vec<UnixStream>,
    known: HashMap<Connection, usize>,
}

impl Clients for Local {
    fn connect(&mut self) {
        let stream = self.place.connect();
        stream.set_nonblocking(true).unwrap();
        self.streams.push(stream);
    }

    fn send(&mut self, client: usize, bytes: &[u8]) -> usize {
        match self.streams[client].write(bytes) {
            Ok(count) => count,
            Err(error) => {
                let gone =
                    [ErrorKind::WouldBlock, ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                assert!(gone.contains(&error.kind()), "{error}");
                0
            }
        }
    }

    fn finish(&mut self, client: usize) {
        let _ = self.streams[client].shutdown(Shutdown::Write);
    }

    fn reset(&mut self, client: usize) {
        let _ = self.streams[client].shutdown(Shutdown::Both);
    }

    fn work(&mut self, _count: usize) {}

    fn received(&mut self, client: usize) -> Vec<u8> {
        let (mut all, mut buf) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = self.streams[client].read(&mut buf) {
            all.extend_from_slice(&buf[..count]);
        }
        all
    }

    fn who(&mut self, connection: Connection) -> usize {
        // They are let in in the order in which they came.
        let next = self.known.len();
        *self.known.entry(connection).or_insert(next)
    }

    fn acknowledged(&self, _client: usize) -> Option<u64> {
        None
    }
}

/// The application and the model of what it can see.
struct Run<C> {
    application: Application,
    inbox: Inbox,
    clients: Vec<Client>,
    deferred: Vec<(usize, Deferred, usize)>,
    other: C,
}

impl<C: Clients> Run<C> {
    fn new(application: Application, inbox: Inbox, other: C) -> Self {
        Self { application, inbox, clients: Vec::new(), deferred: Vec::new(), other }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Connect if self.clients.len() < CLIENTS => {
                self.other.connect();
                self.clients.push(Client {
                    connection: None,
                    stage: Stage::Unheard,
                    unsafe_to_send: false,
                    sent: Vec::new(),
                    finished: false,
                    let_go: false,
                    acknowledged: 0,
                    taken: 0,
                    wanted: Vec::new(),
                    received: Vec::new(),
                });
            }
            Step::Come { client, len } if client < self.clients.len() => self.come(client, len),
            Step::Finish { client } if client < self.clients.len() => {
                let open = self.clients[client].stage == Stage::Open;
                if open && !std::mem::replace(&mut self.clients[client].finished, true) {
                    self.other.finish(client);
                }
            }
            Step::Reset { client } if client < self.clients.len() => {
                let known = &mut self.clients[client];
                if known.stage == Stage::Open {
                    known.finished = true;
                    known.unsafe_to_send = true;
                    self.other.reset(client);
                }
            }
            Step::Receive { choices } => self.receive(&choices),
            Step::Send { client, len } if client < self.clients.len() => self.send(client, len),
            Step::Close { client } => self.end(client, false),
            Step::Abort { client } => self.end(client, true),
            Step::Answer { len } => self.answer(len),
            Step::Work { count } => self.other.work(count),
            _ => {}
        }
    }

    fn come(&mut self, client: usize, len: usize) {
        let known = &mut self.clients[client];
        if known.stage != Stage::Open || known.finished {
            return;
        }
        let bytes = text(client, known.sent.len(), len);
        let went = self.other.send(client, &bytes);
        known.sent.extend_from_slice(&bytes[..went]);
    }

    fn send(&mut self, client: usize, len: usize) {
        let known = &mut self.clients[client];
        let Some(connection) = known.connection else { return };
        let bytes = text(client + 50, known.wanted.len(), len);
        match self.application.send(connection, &bytes) {
            Ok(()) => {
                assert!(
                    matches!(known.stage, Stage::Accepted | Stage::Open) || len == 0,
                    "{known:?}"
                );
                known.wanted.extend(bytes);
            }
            Err(SendError::Closed) => {
                assert!(known.unsafe_to_send || known.stage != Stage::Open, "{:?}", known.stage);
            }
            Err(SendError::WouldBlock | SendError::Behind { .. } | SendError::TooLong { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn end(&mut self, client: usize, abort: bool) {
        let Some(known) = self.clients.get_mut(client) else { return };
        let Some(connection) = known.connection else { return };
        let application = &self.application;
        let ended =
            if abort { application.abort(connection) } else { application.close(connection) };
        match ended {
            Ok(()) => {
                assert!(known.stage != Stage::Closed, "a stale handle was taken");
                known.stage = Stage::Ending;
                known.unsafe_to_send |= abort;
            }
            Err(SendError::Closed) => {}
            Err(SendError::WouldBlock) => {}
            Err(error) => panic!("{error}"),
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
            Err(SendError::Closed) => {
                assert!(known.unsafe_to_send || known.stage != Stage::Open, "{:?}", known.stage);
            }
            Err(_) => self.deferred.insert(0, (client, deferred, up_to)),
        }
    }

    fn receive(&mut self, choices: &[u8]) {
        let Self { inbox, clients, deferred, other, .. } = self;
        let mut choices = choices.iter().cycle().copied();
        let mut choose = || usize::from(choices.next().expect("an endless list"));
        inbox.turn_looking().expect("a sound endpoint");
        let mut batch = inbox.receive().expect("a sound endpoint");
        for _ in 0..50 {
            let Some(event) = batch.next_event() else { return };
            match event {
                Event::Acceptable(client) => {
                    let connection = client.connection();
                    let who = other.who(connection);
                    let known = &mut clients[who];
                    assert_eq!((known.stage, known.connection), (Stage::Unheard, None));
                    known.connection = Some(connection);
                    known.stage = Stage::Accepted;
                    match client.accept() {
                        Ok(_) => {}
                        // It is refused in time.
                        Err(error) => assert_eq!(error, SendError::WouldBlock),
                    }
                }
                Event::Opened(connection) => {
                    let known = &mut clients[other.who(connection)];
                    assert!(matches!(known.stage, Stage::Accepted | Stage::Ending), "{known:?}");
                    if known.stage == Stage::Accepted {
                        known.stage = Stage::Open;
                    }
                }
                Event::Request(request) => {
                    let who = other.who(request.connection());
                    on_request(request, who, &mut clients[who], deferred, choose());
                }
                Event::Finished(connection) => {
                    let known = &clients[other.who(connection)];
                    assert!(known.finished && known.stage == Stage::Open, "{known:?}");
                }
                Event::Closed { connection, reason } => {
                    let known = &mut clients[other.who(connection)];
                    assert!(known.stage != Stage::Closed, "its last event came twice");
                    let expected = known.stage == Stage::Ending || known.unsafe_to_send;
                    // A local client that has closed is found out when it is sent to.
                    assert!(expected || reason == CloseReason::Reset, "{reason} {known:?}");
                    known.stage = Stage::Closed;
                    known.unsafe_to_send = true;
                }
                Event::SendRefused { connection, .. } | Event::Drained(connection) => {
                    let known = &clients[other.who(connection)];
                    assert!(known.stage != Stage::Closed, "an event after the last");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// In the end everything that was taken has arrived, and everything else is still there.
    fn settle(mut self) {
        for round in 0..400 {
            self.other.work(100);
            self.receive(&[255]);
            for client in 0..self.clients.len() {
                let got = self.other.received(client);
                self.clients[client].received.extend(got);
            }
            if round == 200 {
                for client in 0..self.clients.len() {
                    self.come(client, 1);
                }
            }
        }
        for (index, client) in self.clients.iter().enumerate() {
            let got = &client.received;
            assert!(client.wanted.starts_with(got), "client {index} got what was not sent");
            let is_whole = !client.unsafe_to_send && client.stage != Stage::Unheard;
            if is_whole {
                assert_eq!(got.len(), client.wanted.len(), "client {index} {:?}", client.stage);
            }
            if client.stage == Stage::Open && !client.unsafe_to_send {
                let heard_out = client.let_go || client.taken == client.sent.len();
                assert!(heard_out, "client {index} was not heard out");
                if let Some(told) = self.other.acknowledged(index) {
                    assert_eq!(told, client.acknowledged as u64, "client {index}");
                }
            }
        }
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
    assert!(matches!(known.stage, Stage::Open), "{known:?}");
    let offset = usize::try_from(request.offset()).unwrap();
    assert_eq!(offset, known.taken, "given from the first byte that was not taken");
    let all = request.contiguous().into_owned();
    assert!(known.sent[offset..].starts_with(&all), "other bytes than were sent");
    let over = request.acknowledge(all.len() + 1);
    assert_eq!(
        over,
        Err(SendError::OverAcknowledged { given: all.len(), acknowledged: all.len() + 1 })
    );
    let count = all.len() * (choice % 5) / 4;
    known.let_go |= request.is_last();
    match choice {
        255 => {
            request.acknowledge(all.len()).or_else(closed_is_fine).unwrap();
            (known.taken, known.acknowledged) = (offset + all.len(), offset + all.len());
        }
        0..80 => {
            request.acknowledge(count).or_else(closed_is_fine).unwrap();
            known.taken += count;
            if count > 0 {
                known.acknowledged = known.taken;
            }
        }
        80..160 => {
            let bytes = text(who + 50, known.wanted.len(), choice);
            if request.answer(count, &bytes).is_ok() {
                known.wanted.extend(bytes);
                known.taken += count;
                if count > 0 {
                    known.acknowledged = known.taken;
                }
            }
        }
        160..200 if count > 0 => {
            let later = request.defer(count).unwrap();
            known.taken += count;
            deferred.push((who, later, known.taken));
        }
        200..230 => request.again(),
        _ => {}
    }
}

fn closed_is_fine(error: SendError) -> Result<(), SendError> {
    if error == SendError::Closed { Ok(()) } else { Err(error) }
}

/// Bytes that tell whose they are and where they belong.
fn text(client: usize, from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at * 31 + at / 251 + client * 97) as u8).collect()
}

proptest! {
    #[test]
    fn over_the_rings(steps in steps()) {
        let layout = EndpointLayout { submissions: 8, notices: 1024, ..LAYOUT };
        let attach = Attach { backlog_max: 8000, backlogs_max: 20_000, ..Attach::new("test") };
        let (application, inbox, fake) = attached_with(layout, &attach);
        let mut run = Run::new(application, inbox, Played { fake, sessions: Vec::new(), sends: 0 });
        steps.into_iter().for_each(|step| run.step(step));
        run.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn over_unix_sockets(steps in steps()) {
        let place = Place::new("model");
        let (application, inbox, _fake) = attached();
        application.open_group(&place.options()).unwrap();
        let mut run =
            Run::new(application, inbox, Local { place, streams: Vec::new(), known: HashMap::new() });
        steps.into_iter().for_each(|step| run.step(step));
        run.settle();
    }
}

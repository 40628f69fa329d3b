//! The control thread: `xtcpd`'s commands, applications' lifelines, the prompt, signals.
//!
//! One loop over `poll`; whatever it does, the workers go on. It may log, allocate and wait, they
//! may not.

use core::time::Duration;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use xtcp_ring::message::{Answer, Command, Refused, State, VERSION};
use xtcp_ring::transport::{FILES_MAX, MESSAGE_MAX, Partial};
use xtcp_ring::{Listener, Seqpacket, TransportError};
use xtcp_stack::Instant;

use crate::endpoints::Left;
use crate::engine::{Departure, Endpoint, Engine, Presence};
use crate::error::EngineError;
use crate::prepare::{Dealt, Prepared};
use crate::prompt::{self, Next, PROMPT};
use crate::say::{note, warn};
use crate::stats::{Snapshot, rates, table};
use crate::xtcpd;

/// How often the link is looked at.
const TICK: Duration = Duration::from_secs(1);

/// How long `xtcpd` may take to read an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes a command at the prompt can have.
const TYPED_MAX: usize = 4096;

/// How far the dataplane is.
#[derive(Debug)]
enum Stage {
    /// It waits for `xtcpd`'s memory.
    Waiting(Box<Prepared>),
    Running(Box<Engine>),
    /// It is being started, or could not be.
    Nothing,
}

/// The control thread's world.
#[derive(Debug)]
pub(crate) struct Control {
    stage: Stage,
    signals: UnixStream,
    listener: Option<Listener>,
    session: Option<Session>,
    prompt: Option<Vec<u8>>,
    periodic: Option<Periodic>,
    next_tick: Instant,
    clock: crate::clock::Clock,
    link_up: Option<bool>,
}

/// `xtcpd`, connected.
#[derive(Debug)]
struct Session {
    socket: Seqpacket,
    partial: Partial,
}

/// `--stats-period`.
#[derive(Debug)]
struct Periodic {
    period: Duration,
    next: Instant,
    before: Vec<Snapshot>,
    since: Instant,
}

/// Which file has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Signal,
    Liar,
    Listener,
    Session,
    Input,
    Lifeline(u16),
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Go {
    On,
    End,
}

impl Control {
    /// A dataplane that waits for `xtcpd`.
    pub(crate) fn waiting(prepared: Prepared, listener: Listener, signals: UnixStream) -> Self {
        let interactive = prepared.line().options.interactive;
        let clock = prepared.clock();
        let mut control = Self::new(clock, interactive, signals);
        control.stage = Stage::Waiting(Box::new(prepared));
        control.listener = Some(listener);
        control
    }

    /// A dataplane that has all it needs.
    pub(crate) fn running(engine: Engine, signals: UnixStream) -> Self {
        let mut control = Self::new(engine.clock, engine.line.options.interactive, signals);
        control.run_engine(engine);
        control
    }

    fn new(clock: crate::clock::Clock, interactive: bool, signals: UnixStream) -> Self {
        Self {
            stage: Stage::Nothing,
            signals,
            listener: None,
            session: None,
            prompt: interactive.then(Vec::new),
            periodic: None,
            next_tick: clock.now() + TICK,
            clock,
            link_up: None,
        }
    }

    fn run_engine(&mut self, engine: Engine) {
        let now = self.clock.now();
        self.periodic = engine.line.options.stats_period.map(|seconds| {
            let period = Duration::from_secs(seconds.into());
            let before = engine.snapshots().unwrap_or_default();
            Periodic { period, next: now + period, before, since: now }
        });
        self.stage = Stage::Running(Box::new(engine));
    }

    /// Serves until a signal, `quit` or `xtcpd` ends it; then stops everything.
    pub(crate) fn run(mut self) -> Result<(), EngineError> {
        let mut served = self.look_at_link().map(|()| Go::On);
        if self.prompt.is_some() {
            print(PROMPT);
        }
        while let Ok(Go::On) = served {
            served = self.turn();
        }
        // Nobody is to connect to what is going away.
        self.listener = None;
        self.session = None;
        let ended = match self.stage {
            Stage::Running(engine) => engine.end(),
            Stage::Waiting(_) | Stage::Nothing => Ok(()),
        };
        served.and(ended)
    }

    fn turn(&mut self) -> Result<Go, EngineError> {
        let ready = self.wait()?;
        for source in ready {
            let go = match source {
                Source::Signal => Go::End,
                Source::Liar => self.on_liars(),
                Source::Lifeline(endpoint) => self.on_lifeline(endpoint),
                Source::Listener => self.on_connect(),
                Source::Session => self.on_session()?,
                Source::Input => self.on_input()?,
            };
            if go == Go::End {
                return Ok(Go::End);
            }
        }
        self.expire_endpoints();
        let now = self.clock.now();
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.look_at_link()?;
            if let Stage::Running(engine) = &mut self.stage {
                engine.turn_drains();
            }
        }
        self.show_rates(now)?;
        Ok(Go::On)
    }

    /// Waits until something has something to say, or it is time for something.
    fn wait(&self) -> Result<Vec<Source>, EngineError> {
        let mut sources: Vec<(Source, BorrowedFd<'_>, PollFlags)> =
            vec![(Source::Signal, self.signals.as_fd(), PollFlags::IN)];
        if let Stage::Running(engine) = &self.stage {
            sources.push((Source::Liar, engine.wake().as_fd(), PollFlags::IN));
            let lifelines = engine.endpoints().filter_map(|endpoint| {
                let Presence::Here(lifeline) = &endpoint.presence else { return None };
                let source = Source::Lifeline(endpoint.record.endpoint);
                Some((source, lifeline.as_fd(), PollFlags::empty()))
            });
            sources.extend(lifelines);
        }
        if let Some(listener) = &self.listener {
            sources.push((Source::Listener, listener.fd(), PollFlags::IN));
        }
        if let Some(session) = &self.session {
            sources.push((Source::Session, session.socket.fd(), PollFlags::IN));
        }
        if self.prompt.is_some() {
            sources.push((Source::Input, rustix::stdio::stdin(), PollFlags::IN));
        }
        let until = self
            .periodic
            .as_ref()
            .map_or(self.next_tick, |periodic| periodic.next.min(self.next_tick));
        let expiry = match &self.stage {
            Stage::Running(engine) => engine.next_expiry(),
            Stage::Waiting(_) | Stage::Nothing => None,
        };
        let until = expiry.map_or(until, |expiry| expiry.min(until));
        // A millisecond more, so that the time has come when it is over.
        let left = until.since(self.clock.now()) + Duration::from_millis(1);
        let left = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(1),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut polled: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        match poll(&mut polled, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(EngineError::System { what: "poll", error: errno.into() });
            }
        }
        let ready = sources.iter().zip(&polled).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|((source, ..), _)| *source).collect())
    }

    fn on_liars(&mut self) -> Go {
        let Stage::Running(engine) = &mut self.stage else { return Go::On };
        for liar in engine.liars() {
            let (record, more) =
                match engine.leave_endpoint(liar.endpoint, Departure::Lied(liar.lie)) {
                    Some(Left::Closed(record)) => (record, "its connections are reset"),
                    Some(Left::Waiting(record)) => (record, "its connections wait for a successor"),
                    None => continue,
                };
            warn(&format!(
                "application `{}` (process {}) is cut off by worker {}: {}; {more}",
                record.application, record.pid, liar.worker, liar.lie
            ));
        }
        Go::On
    }

    fn on_lifeline(&mut self, endpoint: u16) -> Go {
        // A liar that has died is a liar.
        self.on_liars();
        let Stage::Running(engine) = &mut self.stage else { return Go::On };
        match engine.leave_endpoint(endpoint, Departure::Died) {
            Some(Left::Closed(record)) => note(&format!(
                "application `{}` (process {}) is gone; its connections are reset",
                record.application, record.pid
            )),
            Some(Left::Waiting(record)) => note(&format!(
                "application `{}` (process {}) is gone; its connections wait {} ms for a successor",
                record.application, record.pid, record.successor_ms
            )),
            None => {}
        }
        Go::On
    }

    /// Notices now whose lifeline hangs up: who follows a dead application may be as quick as we.
    fn look_at_lifelines(&mut self) {
        let Stage::Running(engine) = &self.stage else { return };
        let dead: Vec<u16> = engine
            .endpoints()
            .filter(|endpoint| match &endpoint.presence {
                Presence::Here(lifeline) => is_hung_up(lifeline.as_fd()),
                Presence::Gone { .. } => false,
            })
            .map(|endpoint| endpoint.record.endpoint)
            .collect();
        for endpoint in dead {
            self.on_lifeline(endpoint);
        }
    }

    /// Ends the waiting for successors that have not come.
    fn expire_endpoints(&mut self) {
        let Stage::Running(engine) = &mut self.stage else { return };
        for record in engine.expire_endpoints() {
            note(&format!(
                "no successor of application `{}` came in {} ms; its connections are reset",
                record.application, record.successor_ms
            ));
        }
    }

    fn on_connect(&mut self) -> Go {
        let Some(listener) = &self.listener else { return Go::On };
        match listener.accept() {
            // Only one xtcpd has the instance's lock: a new one comes when the old one has gone.
            Ok(Some(socket)) => match socket.set_timeout(Some(PATIENCE)) {
                Ok(()) => {
                    let partial = Partial::new(MESSAGE_MAX, FILES_MAX);
                    self.session = Some(Session { socket, partial });
                }
                Err(error) => warn(&format!("xtcpd's connection: {error}")),
            },
            Ok(None) => {}
            Err(error) => warn(&format!("dataplane.sock: {error}")),
        }
        Go::On
    }

    fn on_session(&mut self) -> Result<Go, EngineError> {
        let Some(mut session) = self.session.take() else { return Ok(Go::On) };
        let (answer, go) = match session.socket.try_recv::<Command>(&mut session.partial) {
            Ok(None) => {
                self.session = Some(session);
                return Ok(Go::On);
            }
            Ok(Some((command, files))) => self.obey(command, files)?,
            Err(TransportError::Malformed(why)) => (Refused::invalid(why).into(), Go::On),
            Err(TransportError::Closed) => {
                note("xtcpd is gone; traffic goes on");
                return Ok(Go::On);
            }
            Err(error) => {
                warn(&format!("xtcpd's connection: {error}"));
                return Ok(Go::On);
            }
        };
        let files: Vec<BorrowedFd<'_>> = self.file_of(&answer).into_iter().collect();
        match session.socket.send(&answer, &files) {
            Ok(()) => self.session = Some(session),
            Err(error) => warn(&format!("xtcpd did not take an answer: {error}")),
        }
        Ok(go)
    }

    /// The file that goes with an answer, if any.
    fn file_of(&self, answer: &Answer) -> Option<BorrowedFd<'_>> {
        let (Answer::Resumed { endpoint }, Stage::Running(engine)) = (answer, &self.stage) else {
            return None;
        };
        engine.endpoints.get(endpoint).map(Endpoint::receive_file)
    }

    /// Does what `xtcpd` commands.
    fn obey(&mut self, command: Command, files: Vec<OwnedFd>) -> Result<(Answer, Go), EngineError> {
        match (command, &mut self.stage) {
            (Command::Hello { version }, _) if version != VERSION => {
                let why = format!("the dataplane speaks version {VERSION} and xtcpd {version}");
                Ok((Refused::version(why).into(), Go::On))
            }
            (Command::Hello { .. }, _) => {
                self.look_at_lifelines();
                self.expire_endpoints();
                Ok((self.welcome(), Go::On))
            }
            (Command::Stop, _) => {
                note("xtcpd says stop");
                Ok((Answer::Done, Go::End))
            }
            (Command::Memory { tables_bytes }, Stage::Waiting(_)) => {
                self.start(&tables_bytes, files)
            }
            (Command::Memory { .. }, _) => {
                let why = "the dataplane has its memory already";
                Ok((Refused::misplaced(why).into(), Go::On))
            }
            (command, Stage::Running(_)) => {
                // What a predecessor was found at is not to be laid at its successor's door.
                self.on_liars();
                let Stage::Running(engine) = &mut self.stage else { return Ok(not_now()) };
                Ok((xtcpd::obey(command, files, engine)?, Go::On))
            }
            (_, _) => {
                let why = "the dataplane has no memory yet";
                Ok((Refused::not_now(why).into(), Go::On))
            }
        }
    }

    fn welcome(&self) -> Answer {
        let (state, workers) = match &self.stage {
            Stage::Running(engine) => {
                let endpoints = engine.endpoints().map(|endpoint| endpoint.record.clone());
                let groups = engine.groups().map(|group| group.record.clone());
                let waiting = engine.endpoints().filter(|endpoint| !endpoint.is_here());
                let state = State::Running {
                    endpoints: endpoints.collect(),
                    waiting: waiting.map(|endpoint| endpoint.record.endpoint).collect(),
                    groups: groups.collect(),
                };
                (state, engine.worker_count())
            }
            Stage::Waiting(prepared) => {
                let tables_bytes_per_worker = prepared.memory_bytes();
                (State::Fresh { tables_bytes_per_worker }, prepared.workers())
            }
            Stage::Nothing => (State::Fresh { tables_bytes_per_worker: Vec::new() }, 0),
        };
        let workers = u8::try_from(workers).unwrap_or(u8::MAX);
        Answer::Welcome { state, pid: std::process::id(), workers }
    }

    /// Starts the workers in the memory `xtcpd` has brought.
    fn start(&mut self, bytes: &[u64], files: Vec<OwnedFd>) -> Result<(Answer, Go), EngineError> {
        let prepared = match core::mem::replace(&mut self.stage, Stage::Nothing) {
            Stage::Waiting(prepared) => prepared,
            other => {
                self.stage = other;
                return Ok(not_now());
            }
        };
        let needed = prepared.memory_bytes();
        let fits = files.len() == needed.len()
            && bytes.len() == needed.len()
            && bytes.iter().zip(&needed).all(|(given, needed)| given >= needed);
        if !fits {
            let count = files.len();
            self.stage = Stage::Waiting(prepared);
            let why = format!("{count} files of {bytes:?} bytes do not do for {needed:?}");
            return Ok((Refused::invalid(why).into(), Go::On));
        }
        match prepared.deal_with(bytes, files).and_then(Dealt::start) {
            Ok(engine) => {
                note("at work");
                self.run_engine(engine);
                self.look_at_link()?;
                Ok((Answer::Done, Go::On))
            }
            Err(error) => {
                warn(&error.to_string());
                Ok((Refused::full(error.to_string()).into(), Go::End))
            }
        }
    }

    fn on_input(&mut self) -> Result<Go, EngineError> {
        let Some(typed) = &mut self.prompt else { return Ok(Go::On) };
        let mut chunk = [0; 1024];
        match rustix::io::read(rustix::stdio::stdin(), &mut chunk) {
            Ok(0) => return Ok(Go::End),
            Ok(count) if typed.len() + count <= TYPED_MAX => {
                typed.extend_from_slice(&chunk[..count]);
            }
            Ok(_) => typed.clear(),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.prompt = None,
        }
        while let Some(line) = self.next_line() {
            let Stage::Running(engine) = &mut self.stage else {
                print("the dataplane waits for xtcpd and its memory\n");
                print(PROMPT);
                continue;
            };
            let (text, next) = prompt::obey(&line, engine)?;
            if next == Next::Quit {
                return Ok(Go::End);
            }
            print(&text);
            print(PROMPT);
        }
        Ok(Go::On)
    }

    fn next_line(&mut self) -> Option<String> {
        let typed = self.prompt.as_mut()?;
        let end = typed.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = typed.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    /// Says when the link has changed; when it has come up, tells it who we are.
    fn look_at_link(&mut self) -> Result<(), EngineError> {
        let Stage::Running(engine) = &mut self.stage else { return Ok(()) };
        // A driver that does not say is asked again a second later.
        let Ok(link) = engine.port().link() else { return Ok(()) };
        let before = self.link_up.replace(link.up);
        if before == Some(link.up) {
            return Ok(());
        }
        engine.link_downs += u64::from(before == Some(true));
        note(if link.up { "the link is up" } else { "the link is down" });
        if link.up { engine.announce() } else { Ok(()) }
    }

    /// Shows what has happened per second since it was last shown, if it is time.
    fn show_rates(&mut self, now: Instant) -> Result<(), EngineError> {
        let (Some(periodic), Stage::Running(engine)) = (&mut self.periodic, &self.stage) else {
            return Ok(());
        };
        if now < periodic.next {
            return Ok(());
        }
        let after = engine.snapshots()?;
        let seconds = now.since(periodic.since).as_secs_f64();
        print(&prompt::port_stats(engine)?);
        print(&table(&rates(&periodic.before, &after, seconds)));
        periodic.before = after;
        periodic.since = now;
        periodic.next = now + periodic.period;
        Ok(())
    }
}

fn not_now() -> (Answer, Go) {
    (Refused::not_now("not now").into(), Go::On)
}

fn is_hung_up(lifeline: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(lifeline, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).is_ok_and(|count| count > 0)
}

/// To standard output; nobody may be listening any more, which is no reason to end.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

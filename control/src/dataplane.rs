//! The dataplane as `xtcpd` knows it: started or found, spoken to, watched, started again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing::{debug, error, info, warn};
use xtcp_ring::message::{Answer, Command, EndpointRecord, GroupRecord, Refused, State, VERSION};
use xtcp_ring::{Seqpacket, TransportError};

use crate::clock;
use crate::clock::timespec;
use crate::config::Config;
use crate::instance::Instance;
use crate::memory::{NoMemory, Pages};
use crate::process::Process;

/// How long a running dataplane may take for one answer.
const ANSWER: Duration = Duration::from_secs(8);

/// How long one may take until it is ready: it takes memory and zeroes it.
const READY: Duration = Duration::from_secs(180);

/// How often a starting one is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// First and longest pause before another start.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A dataplane that ran so long was well: the next pause is short again.
const WELL: Duration = Duration::from_secs(30);

/// What `xtcpd` needs to start one.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) program: PathBuf,
    pub(crate) name: String,
    pub(crate) run_dir: PathBuf,
}

/// The dataplane, whatever has become of it.
#[derive(Debug)]
pub(crate) struct Dataplane {
    plan: Plan,
    phase: Phase,
    /// Starts that failed or ended too soon, one after another.
    failures: u32,
    /// How often it was started again.
    pub(crate) restarts: u32,
    ran_once: bool,
}

#[derive(Debug)]
enum Phase {
    /// Not running; to be started then.
    Down(Instant),
    /// Running and not yet spoken to: one we started, or one we found.
    Starting {
        process: Option<Process>,
        since: Instant,
        /// How long it may take to answer a greeting.
        patience: Duration,
    },
    /// Running.
    Up(Box<Up>),
}

/// A dataplane that runs and answers.
#[derive(Debug)]
pub(crate) struct Up {
    link: Seqpacket,
    process: Process,
    since: Instant,
    pub(crate) workers: u8,
    /// Bytes of all workers' tables; `None` if a former `xtcpd` made them.
    pub(crate) tables_bytes: Option<u64>,
    pub(crate) endpoints: BTreeMap<u16, EndpointRecord>,
    /// Those whose application is gone, and that wait for a successor.
    pub(crate) waiting: BTreeSet<u16>,
    pub(crate) groups: BTreeMap<u32, GroupRecord>,
}

/// Why a dataplane cannot be had; `xtcpd` ends with it.
#[derive(Debug)]
pub enum DataplaneError {
    /// The program does not start.
    Program(PathBuf, io::Error),
    /// It ended before it was ready for the first time.
    EndedEarly(String),
    /// One that was found does not answer.
    Silent(String),
    /// It speaks another version, or refuses the memory.
    Refused(String),
    /// Its memory.
    Memory(NoMemory),
    /// A signal came.
    Interrupted,
}

impl fmt::Display for DataplaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(path, error) => write!(
                f,
                "{}: the dataplane does not start: {error}; build it, or name it with --dataplane \
                 PATH",
                path.display()
            ),
            Self::EndedEarly(how) => write!(
                f,
                "the dataplane ended before it was ready ({how}); what it said stands above"
            ),
            Self::Silent(why) => write!(
                f,
                "a dataplane of this name lives and cannot be taken over: {why}; end it (its process \
                 stands in dataplane.lock) and start again"
            ),
            Self::Refused(why) => write!(f, "the dataplane refuses to start: {why}"),
            Self::Memory(error) => write!(f, "{error}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for DataplaneError {}

/// Why a question was not answered.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The dataplane said no, and why.
    Refused(Refused),
    /// It did not answer sensibly; the link is closed.
    Broken(String),
    /// A signal came meanwhile.
    Interrupted,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => write!(f, "{refused}"),
            Self::Broken(why) => {
                write!(f, "the dataplane does not answer ({why}); try again in a moment")
            }
            Self::Interrupted => f.write_str("the appliance is being stopped"),
        }
    }
}

impl Dataplane {
    /// Finds a dataplane that lives, or plans the start of one.
    pub(crate) fn find(plan: Plan, instance: &Instance) -> io::Result<Self> {
        let now = clock::now();
        let phase = if instance.dataplane_lives()? {
            info!("a dataplane of this name runs already: taking it over");
            Phase::Starting { process: None, since: now, patience: ANSWER }
        } else {
            instance.clear_dataplane();
            Phase::Down(now)
        };
        Ok(Self { plan, phase, failures: 0, restarts: 0, ran_once: false })
    }

    pub(crate) fn up(&mut self) -> Option<&mut Up> {
        match &mut self.phase {
            Phase::Up(up) => Some(up),
            _ => None,
        }
    }

    /// One word for people.
    pub(crate) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Down(_) => "restarting",
            Phase::Starting { .. } => "starting",
            Phase::Up(_) => "running",
        }
    }

    /// Files whose readability is of interest, with what [`Self::step`] to take then.
    pub(crate) fn files(&self) -> Vec<BorrowedFd<'_>> {
        match &self.phase {
            Phase::Down(_) => Vec::new(),
            Phase::Starting { process, .. } => process.iter().map(Process::fd).collect(),
            Phase::Up(up) => vec![up.link.fd(), up.process.fd()],
        }
    }

    /// When [`Self::step`] wants to be called even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Down(at) => Some(*at),
            Phase::Starting { .. } => Some(clock::now() + LOOK),
            Phase::Up(_) => None,
        }
    }

    /// Does what is due: start, greet, notice the end. Says whether a dataplane was lost or won.
    pub(crate) fn step(
        &mut self,
        config: &Config,
        instance: &Instance,
        pages: &mut Pages,
        interrupt: BorrowedFd<'_>,
    ) -> Result<bool, DataplaneError> {
        match &mut self.phase {
            Phase::Down(at) if *at <= clock::now() => self.start(config, pages).map(|()| false),
            Phase::Down(_) => Ok(false),
            Phase::Starting { process, since, .. } => {
                if process.as_ref().is_some_and(Process::has_ended) {
                    return self.ended(instance).map(|()| true);
                }
                let since = *since;
                match Seqpacket::connect(&instance.dataplane_socket(), Some(ANSWER)) {
                    Ok(link) => self.greet(link, pages, interrupt),
                    Err(error) => self.not_there_yet(&error, since, instance),
                }
            }
            Phase::Up(up) => {
                if up.process.has_ended() {
                    return self.ended(instance).map(|()| true);
                }
                if up.link_is_quiet() {
                    return Ok(false);
                }
                warn!("the dataplane has closed its link: connecting again");
                self.disconnect();
                Ok(true)
            }
        }
    }

    /// Leaves the link but not the process, to greet it again.
    pub(crate) fn disconnect(&mut self) {
        let down = Phase::Down(clock::now());
        self.phase = match std::mem::replace(&mut self.phase, down) {
            Phase::Up(up) => {
                // When one dies its link breaks first, mostly: what follows no longer knows how long
                // it ran.
                if up.ran_well() {
                    self.failures = 0;
                }
                let process = Some(up.process);
                Phase::Starting { process, since: clock::now(), patience: ANSWER }
            }
            other => other,
        };
    }

    fn start(&mut self, config: &Config, pages: &mut Pages) -> Result<(), DataplaneError> {
        let megabytes = crate::command_line::eal_megabytes(config);
        let huge = match pages.for_eal(megabytes) {
            Ok(huge) => huge,
            // They may be had again when others have given theirs back.
            Err(error) if self.ran_once => {
                error!("{error}");
                self.pause();
                return Ok(());
            }
            Err(error) => return Err(DataplaneError::Memory(error)),
        };
        let Plan { program, name, run_dir } = &self.plan;
        let line = crate::command_line::dataplane(config, name, run_dir, huge);
        info!("starting {} {}", program.display(), line.join(" "));
        match Process::start(program.as_os_str(), &line) {
            Ok(process) => {
                let since = clock::now();
                self.phase = Phase::Starting { process: Some(process), since, patience: READY };
                Ok(())
            }
            Err(error) if self.ran_once => {
                error!("{}: {error}", program.display());
                self.pause();
                Ok(())
            }
            Err(error) => Err(DataplaneError::Program(program.clone(), error)),
        }
    }

    fn not_there_yet(
        &mut self,
        error: &io::Error,
        since: Instant,
        instance: &Instance,
    ) -> Result<bool, DataplaneError> {
        let Phase::Starting { process, .. } = &mut self.phase else { return Ok(false) };
        match process {
            // One that was found can end before it was spoken to. One that we started is watched, and
            // its lock is left alone: whoever asks holds it for a moment, in which it could not be had.
            None if !instance.dataplane_lives().unwrap_or(true) => {
                self.phase = Phase::Down(clock::now());
                Ok(false)
            }
            None if clock::now() - since > ANSWER => Err(DataplaneError::Silent(error.to_string())),
            Some(process) if clock::now() - since > READY => {
                error!("the dataplane is not ready after {} s: ending it", READY.as_secs());
                process.kill();
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    fn greet(
        &mut self,
        link: Seqpacket,
        pages: &mut Pages,
        interrupt: BorrowedFd<'_>,
    ) -> Result<bool, DataplaneError> {
        let Phase::Starting { process, since, patience } = &mut self.phase else {
            return Ok(false);
        };
        let hello = Command::Hello { version: VERSION };
        let answer = match call(&link, &hello, &[], *patience, interrupt) {
            Ok((answer, _)) => answer,
            Err(CallError::Refused(why)) => return Err(DataplaneError::Refused(why.reason)),
            Err(CallError::Interrupted) => return Err(DataplaneError::Interrupted),
            Err(CallError::Broken(why)) => {
                let waited = clock::now() - *since;
                match process {
                    None if waited > ANSWER => return Err(DataplaneError::Silent(why)),
                    Some(process) if waited > READY => {
                        error!("the dataplane does not answer: {why}: ending it");
                        process.kill();
                    }
                    // It may be ending, or still be busy with a former link's end.
                    _ => debug!("the dataplane does not answer yet: {why}"),
                }
                return Ok(false);
            }
        };
        let Answer::Welcome { state, workers, .. } = answer else {
            return Err(DataplaneError::Refused(format!("it answers a greeting by {answer:?}")));
        };
        let process = match process.take() {
            Some(process) => process,
            None => adopt(&link).map_err(|error| DataplaneError::Silent(error.to_string()))?,
        };
        let mut up = Up {
            link,
            process,
            since: clock::now(),
            workers,
            tables_bytes: None,
            endpoints: BTreeMap::new(),
            waiting: BTreeSet::new(),
            groups: BTreeMap::new(),
        };
        let (since, patience) = (*since, *patience);
        match state {
            State::Fresh { tables_bytes_per_worker } => {
                if let Err(error) = up.furnish(&tables_bytes_per_worker, pages, interrupt) {
                    return self.not_furnished(error, up.process, since, patience);
                }
            }
            State::Running { endpoints, waiting, groups } => {
                up.remember(endpoints, waiting, groups);
                let (apps, groups) = (up.endpoints.len(), up.groups.len());
                info!("connected with a running dataplane: {apps} applications, {groups} groups");
            }
        }
        info!("the dataplane runs: process {}, {workers} workers", up.process.pid());
        self.phase = Phase::Up(Box::new(up));
        self.ran_once = true;
        Ok(true)
    }

    /// It did not get its memory. It is still there to be ended, or the next xtcpd would find it.
    fn not_furnished(
        &mut self,
        error: DataplaneError,
        process: Process,
        since: Instant,
        patience: Duration,
    ) -> Result<bool, DataplaneError> {
        let again = self.ran_once && !matches!(error, DataplaneError::Interrupted);
        if again {
            // Memory may be had again later, and one that has died is followed by another.
            error!("{error}");
            process.kill();
        }
        self.phase = Phase::Starting { process: Some(process), since, patience };
        if again { Ok(false) } else { Err(error) }
    }

    /// The process is gone: start another, at once or after a pause.
    fn ended(&mut self, instance: &Instance) -> Result<(), DataplaneError> {
        let phase = std::mem::replace(&mut self.phase, Phase::Down(clock::now()));
        let (how, well) = match phase {
            Phase::Up(mut up) => (up.process.ending(), up.ran_well()),
            Phase::Starting { process: Some(mut process), .. } => (process.ending(), false),
            other => {
                self.phase = other;
                return Ok(());
            }
        };
        instance.clear_dataplane();
        if !self.ran_once {
            return Err(DataplaneError::EndedEarly(how.to_string()));
        }
        if well {
            self.failures = 0;
        }
        let pause = self.pause();
        let pause = pause.as_millis();
        error!("the dataplane has ended ({how}): starting another in {pause} ms");
        Ok(())
    }

    fn pause(&mut self) -> Duration {
        let pause = PAUSE.0.saturating_mul(1 << self.failures.min(16)).min(PAUSE.1);
        self.failures += 1;
        self.restarts += 1;
        self.phase = Phase::Down(clock::now() + pause);
        pause
    }

    /// Ends the dataplane in order, or by force when that takes too long or `interrupt` comes.
    pub(crate) fn stop(&mut self, interrupt: BorrowedFd<'_>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Down(clock::now()));
        let (link, mut process) = match phase {
            Phase::Up(up) => (Some(up.link), up.process),
            Phase::Starting { process: Some(process), .. } => (None, process),
            Phase::Starting { process: None, .. } => {
                warn!(
                    "the dataplane that was found was not reached and is left running: end it (its \
                     process stands in dataplane.lock), or start xtcpd again to take it over"
                );
                return;
            }
            Phase::Down(_) => return,
        };
        if link.as_ref().is_none_or(|link| link.send(&Command::Stop, &[]).is_err()) {
            process.terminate();
        }
        if !process.wait(Some(ANSWER), Some(interrupt)) {
            warn!("the dataplane does not end by itself: ending it");
            process.kill();
            process.wait(Some(ANSWER), None);
        }
        // Reaps it, if it is our child.
        let _ = process.ending();
    }
}

fn adopt(link: &Seqpacket) -> io::Result<Process> {
    let pid = link.peer_pid()?;
    Process::adopt(pid.ok_or_else(|| io::Error::other("its process is not known"))?)
}

/// What a connection to us holds as an application. The key tells it from a successor at the same
/// endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) endpoint: u16,
    pub(crate) key: u64,
}

impl Up {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn ran_well(&self) -> bool {
        clock::now() - self.since > WELL
    }

    /// Asks, and waits for the answer.
    pub(crate) fn call(
        &self,
        command: &Command,
        files: &[BorrowedFd<'_>],
        interrupt: BorrowedFd<'_>,
    ) -> Result<Answer, CallError> {
        self.call_for_files(command, files, interrupt).map(|(answer, _)| answer)
    }

    /// As [`Self::call`], with the files that come with the answer.
    pub(crate) fn call_for_files(
        &self,
        command: &Command,
        files: &[BorrowedFd<'_>],
        interrupt: BorrowedFd<'_>,
    ) -> Result<(Answer, Vec<OwnedFd>), CallError> {
        call(&self.link, command, files, ANSWER, interrupt)
    }

    /// Whether the endpoint is still that of the application that got this key.
    pub(crate) fn is_attached(&self, attached: Attached) -> bool {
        let Attached { endpoint, key } = attached;
        !self.waiting.contains(&endpoint)
            && self.endpoints.get(&endpoint).is_some_and(|record| record.key == key)
    }

    /// Asks what there is: applications end without telling us.
    pub(crate) fn refresh(&mut self, interrupt: BorrowedFd<'_>) -> Result<(), CallError> {
        match self.call(&Command::Hello { version: VERSION }, &[], interrupt)? {
            Answer::Welcome { state: State::Running { endpoints, waiting, groups }, .. } => {
                self.remember(endpoints, waiting, groups);
                Ok(())
            }
            other => Err(CallError::Broken(format!("it answers a greeting by {other:?}"))),
        }
    }

    fn remember(
        &mut self,
        endpoints: Vec<EndpointRecord>,
        waiting: Vec<u16>,
        groups: Vec<GroupRecord>,
    ) {
        self.waiting = waiting.into_iter().collect();
        self.endpoints = endpoints.into_iter().map(|record| (record.endpoint, record)).collect();
        self.groups = groups.into_iter().map(|record| (record.gd, record)).collect();
    }

    /// Gives a fresh dataplane its tables.
    fn furnish(
        &mut self,
        needed: &[u64],
        pages: &mut Pages,
        interrupt: BorrowedFd<'_>,
    ) -> Result<(), DataplaneError> {
        let tables = needed
            .iter()
            .map(|bytes| pages.create("tables", *bytes))
            .collect::<Result<Vec<_>, _>>()
            .map_err(DataplaneError::Memory)?;
        let tables_bytes: Vec<_> = tables.iter().map(|memory| memory.len() as u64).collect();
        self.tables_bytes = Some(tables_bytes.iter().sum());
        let files: Vec<_> = tables.iter().map(xtcp_ring::SharedMemory::fd).collect();
        let command = Command::Memory { tables_bytes };
        match call(&self.link, &command, &files, READY, interrupt) {
            Ok((Answer::Done, _)) => Ok(()),
            Ok((other, _)) => {
                Err(DataplaneError::Refused(format!("it answers memory by {other:?}")))
            }
            Err(CallError::Interrupted) => Err(DataplaneError::Interrupted),
            Err(error) => Err(DataplaneError::Refused(error.to_string())),
        }
    }

    /// Nobody may speak on the link unasked: something to read is a hang-up.
    fn link_is_quiet(&self) -> bool {
        let fd = PollFd::from_borrowed_fd(self.link.fd(), PollFlags::IN);
        matches!(poll(&mut [fd], Some(&timespec(Duration::ZERO))), Ok(0))
    }
}

fn call(
    link: &Seqpacket,
    command: &Command,
    files: &[BorrowedFd<'_>],
    timeout: Duration,
    interrupt: BorrowedFd<'_>,
) -> Result<(Answer, Vec<OwnedFd>), CallError> {
    let broken = |error: TransportError| CallError::Broken(error.to_string());
    link.send(command, files).map_err(broken)?;
    let mut both = [
        PollFd::from_borrowed_fd(link.fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(interrupt, PollFlags::IN),
    ];
    let mut polled = poll(&mut both, Some(&timespec(timeout)));
    // A signal ends the waiting; what its handler has written is found by looking again.
    while polled == Err(Errno::INTR) {
        polled = poll(&mut both, Some(&timespec(timeout)));
    }
    match polled {
        Ok(0) => return Err(broken(TransportError::TimedOut)),
        Ok(_) if both[0].revents().is_empty() => return Err(CallError::Interrupted),
        Ok(_) => {}
        Err(error) => return Err(broken(error.into())),
    }
    let (answer, files): (Answer, Vec<OwnedFd>) = link.recv().map_err(broken)?;
    match answer {
        Answer::Refused { refusal, reason } => {
            Err(CallError::Refused(Refused::new(refusal, reason)))
        }
        answer => Ok((answer, files)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The link of one that dies breaks before its end is seen.
    #[test]
    fn that_one_ran_well_counts_after_its_link_is_broken() {
        for (ran, failures) in [(WELL + LOOK, 0), (Duration::ZERO, 5)] {
            let (link, _) = Seqpacket::pair().expect("a pair");
            let up = Up {
                link,
                process: Process::adopt(std::process::id()).expect("we live"),
                since: clock::now() - ran,
                workers: 1,
                tables_bytes: None,
                endpoints: BTreeMap::new(),
                waiting: BTreeSet::new(),
                groups: BTreeMap::new(),
            };
            let plan =
                Plan { program: PathBuf::new(), name: String::new(), run_dir: PathBuf::new() };
            let phase = Phase::Up(Box::new(up));
            let mut dataplane = Dataplane { plan, phase, failures: 5, restarts: 5, ran_once: true };
            dataplane.disconnect();
            assert_eq!(dataplane.failures, failures, "after {ran:?}");
        }
    }
}

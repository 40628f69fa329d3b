//! Child processes that end with the one that started them, and whose output is read line by line.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::clock::Deadline;

/// How long a process has to end after a polite request, before it is killed.
const GRACE: Duration = Duration::from_secs(20);

/// How to start a process.
#[derive(Clone, Debug)]
pub struct Launch {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    namespace: Option<String>,
    log: Option<PathBuf>,
}

/// A process that runs; asked to end, and after a while killed, on drop.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
}

/// What a process said so far.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Lines>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    /// Streams (standard output and error) not yet at their end.
    open: u32,
}

/// Why a process is not what it should be.
#[derive(Debug)]
pub enum ProcessError {
    /// It could not be started.
    Start {
        /// The program.
        program: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// It ended, or the time was over, before it said what was waited for.
    NotSaid {
        /// The process.
        name: String,
        /// What was waited for.
        wanted: String,
        /// Its status if it ended.
        ended: Option<ExitStatus>,
        /// Its last lines.
        tail: String,
    },
    /// It ended with a status other than 0.
    Failed {
        /// The process.
        name: String,
        /// How.
        status: ExitStatus,
        /// Its last lines.
        tail: String,
    },
    /// Talking to it failed.
    Io {
        /// The process.
        name: String,
        /// The reason.
        error: io::Error,
    },
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { program, error } => {
                write!(f, "{} could not be started: {error}", program.display())?;
                if error.kind() == io::ErrorKind::NotFound {
                    write!(f, "; `make build` builds it, `make setup` installs Debian's programs")?;
                }
                Ok(())
            }
            Self::NotSaid { name, wanted, ended: Some(status), tail } => {
                write!(f, "{name} ended ({status}) before it said {wanted}:\n{tail}")
            }
            Self::NotSaid { name, wanted, ended: None, tail } => {
                write!(f, "{name} did not say {wanted} in time; its last lines:\n{tail}")
            }
            Self::Failed { name, status, tail } => {
                write!(f, "{name} ended with {status}; its last lines:\n{tail}")
            }
            Self::Io { name, error } => write!(f, "talking to {name}: {error}"),
        }
    }
}

impl std::error::Error for ProcessError {}

impl Launch {
    /// A process called `name` in messages.
    #[must_use]
    pub fn new(name: &str, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            arguments: Vec::new(),
            namespace: None,
            log: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments separated by blanks.
    #[must_use]
    pub fn arguments(mut self, words: &str) -> Self {
        self.arguments.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    /// Runs it inside a network namespace.
    #[must_use]
    pub fn inside(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Also writes what it says to a file.
    #[must_use]
    pub fn log(mut self, path: &Path) -> Self {
        self.log = Some(path.to_owned());
        self
    }

    /// The line a person would type for it.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = self.program.display().to_string();
        for argument in &self.arguments {
            let plain = !argument.is_empty()
                && argument.chars().all(|c| c.is_ascii_alphanumeric() || "-_=./:,@[]".contains(c));
            line += &if plain { format!(" {argument}") } else { format!(" '{argument}'") };
        }
        line
    }

    /// Starts it in a process group of its own (so that Ctrl-C reaches only the one who knows the
    /// order in which to stop) and with a signal to end when the starting thread ends.
    ///
    /// # Errors
    /// When the program is missing or the kernel refuses.
    pub fn start(&self) -> Result<Running, ProcessError> {
        use std::os::unix::process::CommandExt as _;
        let failed = |error| ProcessError::Start { program: self.program.clone(), error };
        let file = |path: &PathBuf| File::options().create(true).append(true).open(path);
        if self.program.components().count() > 1 && !self.program.exists() {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]);
        if let Some(namespace) = &self.namespace {
            command.args(["ip", "netns", "exec", namespace]);
        }
        command.arg(&self.program).args(&self.arguments).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let output = Arc::new(Output::default());
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|s| Box::new(s) as Box<dyn Read + Send>),
            child.stderr.take().map(|s| Box::new(s) as Box<dyn Read + Send>),
        ];
        for stream in streams.into_iter().flatten() {
            let log = self.log.as_ref().map(file).transpose().map_err(failed)?;
            output.lock().open += 1;
            let output = Arc::clone(&output);
            std::thread::spawn(move || output.collect(stream, log));
        }
        let stdin = child.stdin.take();
        Ok(Running { name: self.name.clone(), child, stdin, output })
    }

    /// Runs it to its end; gives what it said.
    ///
    /// # Errors
    /// When it cannot be started, does not end in time or ends with another status than 0.
    pub fn finish(&self, within: Duration) -> Result<Vec<String>, ProcessError> {
        let mut running = self.start()?;
        let status = running.wait(within)?;
        if status.success() { Ok(running.said()) } else { Err(running.failure(status)) }
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        // A reader that panicked left whole lines behind.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collect(&self, stream: Box<dyn Read + Send>, mut log: Option<File>) {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        while matches!(reader.read_until(b'\n', &mut bytes), Ok(1..)) {
            if let Some(log) = &mut log {
                // A full disk must not stop the process whose pipe this is.
                let _ = log.write_all(&bytes);
            }
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            self.lock().lines.push(line);
            self.more.notify_all();
        }
        self.lock().open -= 1;
        self.more.notify_all();
    }
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it said so far.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.output.lock().lines.clone()
    }

    /// Its last lines.
    #[must_use]
    pub fn tail(&self) -> String {
        let said = self.said();
        said[said.len().saturating_sub(15)..].join("\n")
    }

    /// Waits for the first line after the first `skip` that `wanted` holds for; gives it and the
    /// number of lines up to and including it.
    ///
    /// # Errors
    /// When the process ends or the time is over before.
    pub fn wait_for_line(
        &mut self,
        skip: usize,
        what: &str,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(String, usize), ProcessError> {
        let deadline = Deadline::within(within);
        let mut next = skip;
        let mut lines = self.output.lock();
        loop {
            while let Some(line) = lines.lines.get(next) {
                next += 1;
                if wanted(line) {
                    return Ok((line.clone(), next));
                }
            }
            if lines.open == 0 || deadline.is_over() {
                break;
            }
            lines = match self.output.more.wait_timeout(lines, deadline.left()) {
                Ok((lines, _)) => lines,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        drop(lines);
        let ended = self.wait(Duration::from_millis(100)).ok();
        let (name, wanted) = (self.name.clone(), what.to_owned());
        Err(ProcessError::NotSaid { name, wanted, ended, tail: self.tail() })
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// When it reads no more.
    pub fn tell(&mut self, line: &str) -> Result<(), ProcessError> {
        let told = match &mut self.stdin {
            Some(stdin) => writeln!(stdin, "{line}").and_then(|()| stdin.flush()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        told.map_err(|error| ProcessError::Io { name: self.name.clone(), error })
    }

    /// Ends its standard input.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.as_pid() {
            // One that has ended needs no signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended in time.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus, ProcessError> {
        let failed = |name: &str, error| ProcessError::Io { name: name.to_owned(), error };
        let deadline = Deadline::within(within);
        loop {
            if let Some(status) =
                self.child.try_wait().map_err(|error| failed(&self.name, error))?
            {
                self.read_to_the_end();
                return Ok(status);
            }
            if deadline.is_over() {
                let error = io::Error::new(io::ErrorKind::TimedOut, "it has not ended in time");
                return Err(failed(&self.name, error));
            }
            self.wait_for_exit(deadline.left()).map_err(|error| failed(&self.name, error))?;
        }
    }

    /// Asks it to end, waits, kills it if it does not listen.
    ///
    /// # Errors
    /// When not even that helps.
    pub fn stop(&mut self) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::TERM);
        match self.wait(GRACE) {
            Ok(status) => Ok(status),
            Err(_) => {
                eprintln!("{} did not end within {} s and is killed", self.name, GRACE.as_secs());
                self.kill()
            }
        }
    }

    /// Kills it (`kill -9`).
    ///
    /// # Errors
    /// When it does not die.
    pub fn kill(&mut self) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::KILL);
        self.wait(GRACE)
    }

    /// The error for an end with this status.
    #[must_use]
    pub fn failure(&self, status: ExitStatus) -> ProcessError {
        ProcessError::Failed { name: self.name.clone(), status, tail: self.tail() }
    }

    fn as_pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }

    fn wait_for_exit(&self, at_most: Duration) -> io::Result<()> {
        let Some(pid) = self.as_pid() else { return Ok(()) };
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let timeout = Timespec::try_from(at_most).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// What it had said when it ended lies in the pipes: lets the readers take it. A process it
    /// left behind may keep the pipes open, so this does not wait for ever.
    fn read_to_the_end(&self) {
        let deadline = Deadline::within(Duration::from_millis(500));
        let mut lines = self.output.lock();
        while lines.open > 0 && !deadline.is_over() {
            lines = match self.output.more.wait_timeout(lines, deadline.left()) {
                Ok((lines, _)) => lines,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running()
            && let Err(error) = self.stop()
        {
            eprintln!("{error}");
        }
    }
}

/// Ids of the processes whose program is called `program` and whose arguments contain all of
/// `arguments`.
#[must_use]
pub fn find(program: &str, arguments: &[&str]) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.split('\0').collect();
        let called = words.first().is_some_and(|word| word.rsplit('/').next() == Some(program));
        if called && arguments.iter().all(|wanted| words.contains(wanted)) {
            found.push(pid);
        }
    }
    found
}

/// Kills a process by its id and waits until it is gone.
pub fn kill_by_id(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // One that is gone already is what was wanted.
    let _ = kill_process(pid, Signal::KILL);
    let timeout = Timespec { tv_sec: 5, tv_nsec: 0 };
    let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout));
}

/// Resident memory of a process in bytes; `None` when it is gone.
#[must_use]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

//! What the demo has made of the machine, written down before it is made, so that it is undone by
//! whoever comes: this process at its end, its panic or signal handler, or the next demo.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde::{Deserialize, Serialize};

use super::DemoError;
use super::names::{DIRECTORY, INSTANCE, INTERFACE, NAMESPACE, RUN_DIR};
use crate::capture::Capture;
use crate::clock::Deadline;
use crate::machine::{HugePages, Namespace, VethPair};
use crate::process::{ProcessError, Running, find, kill_by_id};

/// Where EAL keeps what it knows of its processes.
const DPDK_RUN_DIR: &str = "/run/dpdk";

/// How long the appliance has to end by itself.
const GRACE: Duration = Duration::from_secs(15);

/// What is written down.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Entries {
    /// Processes in the order they were started: name, id, start time (in clock ticks, which with
    /// the id makes it the same process and no later one).
    processes: Vec<(String, u32, u64)>,
    /// The namespace, the interface and the instance of the demo's names are the demo's.
    claimed: bool,
    /// The kernel's pool of huge pages before it was changed, if it was.
    huge_pages_before: Option<u64>,
    /// Huge pages added to it, once that is known.
    huge_pages_added: Option<u64>,
}

/// The ledger of the one demo that may run at a time.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    entries: Arc<Mutex<Entries>>,
    /// A signal has come; its thread does the rest.
    ending: Arc<AtomicBool>,
    /// Held (flock) as long as this process lives.
    _lock: Arc<File>,
}

impl Ledger {
    /// Opens the ledger, first undoing what a killed demo had written into it.
    pub(super) fn open() -> Result<Self, DemoError> {
        let directory = Path::new(DIRECTORY);
        let path = directory.join("lock");
        let failed = |error: io::Error| DemoError::File(path.clone(), error);
        std::fs::create_dir_all(directory).map_err(failed)?;
        let lock = File::create(&path).map_err(failed)?;
        if flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(DemoError::Busy(path));
        }
        let left = std::fs::read(directory.join("ledger.json"));
        let entries: Entries =
            left.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        undo(&entries);
        std::fs::create_dir_all(directory).map_err(failed)?;
        let lock = File::create(&path).map_err(failed)?;
        if flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(DemoError::Busy(path));
        }
        let ledger = Self {
            entries: Arc::new(Mutex::new(Entries::default())),
            ending: Arc::new(AtomicBool::new(false)),
            _lock: Arc::new(lock),
        };
        ledger.write(&ledger.lock())?;
        Ok(ledger)
    }

    /// Claims the demo's names, which must be free: what has them later is undone by name.
    pub(super) fn claim(&self) -> Result<(), DemoError> {
        let mut entries = self.lock();
        let in_the_way = [
            PathBuf::from(format!("/run/netns/{NAMESPACE}")),
            PathBuf::from(format!("/sys/class/net/{INTERFACE}")),
            Path::new(RUN_DIR).join(INSTANCE),
        ];
        if let Some(path) = in_the_way.into_iter().find(|path| path.exists()) {
            return Err(DemoError::InTheWay(path));
        }
        entries.claimed = true;
        self.write(&entries)
    }

    /// Starts a process and writes it down.
    pub(super) fn start<E: Into<DemoError>>(
        &self,
        name: &str,
        start: impl FnOnce() -> Result<Running, E>,
    ) -> Result<Running, DemoError> {
        // Held meanwhile, so that a signal finds either no process or one that is written down.
        let mut entries = self.lock();
        let running = start().map_err(Into::into)?;
        entries.processes.push((name.to_owned(), running.pid(), start_time(running.pid())));
        self.write(&entries)?;
        Ok(running)
    }

    /// Starts a capture and writes it down.
    pub(super) fn capture(
        &self,
        start: impl FnOnce() -> Result<Capture, ProcessError>,
    ) -> Result<Capture, DemoError> {
        let mut entries = self.lock();
        let capture = start()?;
        entries.processes.push(("tcpdump".to_owned(), capture.pid(), start_time(capture.pid())));
        self.write(&entries)?;
        Ok(capture)
    }

    /// Sees to it that so many huge pages are free, as far as the kernel has them.
    pub(super) fn add_huge_pages(&self, wanted: u64) -> Result<(), DemoError> {
        let mut entries = self.lock();
        entries.huge_pages_before = Some(HugePages::total()?);
        self.write(&entries)?;
        let pages = HugePages::reserve(wanted)?;
        entries.huge_pages_added = Some(pages.added());
        // Given back from the ledger; this process may not live to drop the guard.
        std::mem::forget(pages);
        self.write(&entries)
    }

    /// Does something to the machine that no signal handler may interrupt; it is undone by name.
    pub(super) fn change<T, E: Into<DemoError>>(
        &self,
        change: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, DemoError> {
        let _held = self.lock();
        change().map_err(Into::into)
    }

    /// Copies the logs to where they outlive the demo.
    #[expect(clippy::unused_self, reason = "only who holds the ledger may touch its directory")]
    pub(super) fn keep_logs(&self, to: &Path) {
        for entry in std::fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let kept = to.join(entry.file_name());
                match std::fs::copy(&path, &kept) {
                    Ok(_) => eprintln!("kept {}", kept.display()),
                    Err(error) => eprintln!("{}: {error}", kept.display()),
                }
            }
        }
    }

    /// Undoes everything. Does not return when a signal has come: then the process ends.
    pub(super) fn undo(&self) {
        self.wait_if_ending();
        let mut entries = self.lock();
        undo(&entries);
        *entries = Entries::default();
    }

    /// Does not return when a signal has come: what failed then failed because of it.
    pub(super) fn wait_if_ending(&self) {
        while self.ending.load(Ordering::Relaxed) {
            std::thread::park();
        }
    }

    /// Undoes everything when this process is asked to end or panics.
    pub(super) fn undo_on_signals_and_panics(&self) -> Result<(), DemoError> {
        let ledger = self.clone();
        let failed = |error| DemoError::File(PathBuf::from("signals"), error);
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let asked = [SIGINT, SIGTERM, SIGHUP];
        let mut signals = signal_hook::iterator::Signals::new(asked).map_err(failed)?;
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                ledger.ending.store(true, Ordering::Relaxed);
                eprintln!("\nending: taking everything away again");
                let entries = ledger.lock();
                undo(&entries);
                std::process::exit(128 + signal);
            }
        });
        let ledger = self.clone();
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            usual(panic);
            // The panicking thread may hold the lock itself; what was written is enough.
            if let Ok(entries) = ledger.entries.try_lock() {
                undo(&entries);
            }
        }));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::unused_self, reason = "only who holds the ledger may write it")]
    fn write(&self, entries: &Entries) -> Result<(), DemoError> {
        let path = Path::new(DIRECTORY).join("ledger.json");
        let text = serde_json::to_string(entries).unwrap_or_default();
        std::fs::write(&path, text).map_err(|error| DemoError::File(path, error))
    }
}

/// Ends processes, last started first; then removes the network, the files, the huge pages.
fn undo(entries: &Entries) {
    for (name, pid, started) in entries.processes.iter().rev() {
        if start_time(*pid) == *started && *started != 0 {
            end(name, *pid);
        }
    }
    if entries.claimed {
        for program in ["presence", "xtcpd", "xtcp-dataplane"] {
            for pid in find(program, &[INSTANCE, RUN_DIR]) {
                kill_by_id(pid);
            }
        }
        VethPair::sweep(INTERFACE);
        Namespace::sweep(NAMESPACE);
        // Not there is as good as removed; the parents stay when another instance lives in them.
        let _ = std::fs::remove_dir_all(Path::new(RUN_DIR).join(INSTANCE));
        let _ = std::fs::remove_dir(RUN_DIR);
        // EAL's own directory, one for each file prefix.
        let _ = std::fs::remove_dir_all(Path::new(DPDK_RUN_DIR).join(format!("xtcp-{INSTANCE}")));
        let _ = std::fs::remove_dir(DPDK_RUN_DIR);
    }
    match (entries.huge_pages_added, entries.huge_pages_before, HugePages::total()) {
        (Some(added), _, _) => HugePages::sweep(added),
        (None, Some(before), Ok(now)) => HugePages::sweep(now.saturating_sub(before)),
        _ => {}
    }
    let _ = std::fs::remove_dir_all(DIRECTORY);
}

/// Asks a process to end and waits; kills it if it does not.
fn end(name: &str, pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let gone = || {
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
    };
    // One that is gone already needs no signal.
    let _ = kill_process(pid, Signal::TERM);
    if Deadline::within(GRACE).poll(|| gone().then_some(())).is_none() {
        eprintln!("{name} did not end within {} s and is killed", GRACE.as_secs());
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// When a process was started, in clock ticks since boot; 0 when there is none.
fn start_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the name in parentheses, which may hold anything; the 22nd is the time.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().nth(19).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_tells_a_process_from_none() {
        assert_ne!(start_time(std::process::id()), 0);
        assert_eq!(start_time(u32::MAX), 0);
    }
}

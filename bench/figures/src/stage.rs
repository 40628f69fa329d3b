//! What a run makes of the machine, so that it is undone by whoever comes: this process at its end or
//! at Ctrl-C, or the next run after a `kill -9`.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use xtcp_bench::clock::Deadline;
use xtcp_bench::machine::{HugePages, Namespace, VethPair};
use xtcp_bench::process::{find, kill_by_id};

use crate::pair::Outcome;
use crate::priority::Priority;

/// Sockets, configuration and the lock while a run lasts.
pub(crate) const DIRECTORY: &str = "/run/xtcp-figures";
/// The instance's name, and with it EAL's.
pub(crate) const NAME: &str = "figures";
pub(crate) const NAMESPACE: &str = "xtcp-figures";
/// The veth pair's end here.
pub(crate) const NEAR: &str = "xtcpfig0";

/// How long processes have to end by themselves.
const GRACE: Duration = Duration::from_secs(15);

/// The one run that may take place at a time.
#[derive(Debug)]
pub(crate) struct Stage {
    priority: Option<Arc<Priority>>,
    ending: Arc<AtomicBool>,
    /// Held (flock) as long as this process lives.
    _lock: File,
}

impl Stage {
    /// Takes the lock, undoes what a killed run has left, sees to Ctrl-C, and takes the highest priority
    /// unless it is to be `polite`.
    pub(crate) fn set(polite: bool) -> Outcome<Self> {
        fs::create_dir_all(DIRECTORY)?;
        let path = Path::new(DIRECTORY).join("lock");
        let lock = File::create(&path)?;
        if flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
            let path = path.display();
            return Err(format!("another run holds {path}; stop it with Ctrl-C first").into());
        }
        sweep();
        let ending = Arc::new(AtomicBool::new(false));
        let asked = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
        let mut signals = signal_hook::iterator::Signals::new(asked)?;
        let priority = (!polite).then(|| Arc::new(Priority::highest()));
        let (told, given) = (Arc::clone(&ending), priority.clone());
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                told.store(true, Ordering::Relaxed);
                eprintln!("\nending: taking everything away again");
                end_children();
                clear(given.as_deref());
                std::process::exit(128 + signal);
            }
        });
        Ok(Self { priority, ending, _lock: lock })
    }

    /// Does not return when the run is ending: what failed then failed because of it.
    pub(crate) fn wait_if_ending(&self) {
        while self.ending.load(Ordering::Relaxed) {
            std::thread::park();
        }
    }

    /// Sees to it that so many huge pages are free for as long as the guard lives, as far as the
    /// kernel has them.
    pub(crate) fn huge_pages(wanted: u64) -> Outcome<HugePages> {
        fs::write(ledger(), HugePages::total()?.to_string())?;
        Ok(HugePages::reserve(wanted)?)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        clear(self.priority.as_deref());
    }
}

/// Holds how many huge pages there were before the run changed their number.
fn ledger() -> PathBuf {
    Path::new(DIRECTORY).join("huge-pages-before")
}

fn clear(priority: Option<&Priority>) {
    sweep();
    if let Some(priority) = priority {
        priority.give_back();
    }
    // What cannot be removed is found by the next run.
    let _ = fs::remove_dir_all(DIRECTORY);
}

/// Undoes what has the names of a run, its lock apart.
fn sweep() {
    for program in ["xtcpd", "xtcp-dataplane"] {
        for pid in find(program, &[NAME, DIRECTORY]) {
            kill_by_id(pid);
        }
    }
    VethPair::sweep(NEAR);
    Namespace::sweep(NAMESPACE);
    let before = fs::read_to_string(ledger()).ok().and_then(|text| text.trim().parse().ok());
    if let (Some(before), Ok(now)) = (before, HugePages::total()) {
        HugePages::sweep(now.saturating_sub(before));
    }
    // Absent is as good as removed.
    let _ = fs::remove_file(ledger());
    let _ = fs::remove_dir_all(Path::new(DIRECTORY).join(NAME));
    let _ = fs::remove_dir_all(Path::new("/run/dpdk").join(format!("xtcp-{NAME}")));
}

/// Asks all child processes to end and waits; kills those that do not.
fn end_children() {
    let signal = |signal| {
        for pid in children() {
            // One that is gone already needs no signal.
            let _ = kill_process(pid, signal);
        }
    };
    signal(Signal::TERM);
    let gone = || children().is_empty().then_some(());
    if Deadline::within(GRACE).poll(gone).is_none() {
        signal(Signal::KILL);
    }
}

/// Processes whose parent this one is and that still run.
fn children() -> Vec<Pid> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // Behind the name in parentheses, which may hold anything: state and parent.
        let mut words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let (state, parent) = (words.next(), words.next());
        if parent == Some(own.as_str()) && state != Some("Z") {
            found.extend(Pid::from_raw(pid));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_and_ended() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(children().iter().any(|found| found.as_raw_nonzero().get() == pid));
        end_children();
        assert!(!child.wait().unwrap().success());
        assert!(children().is_empty());
    }
}

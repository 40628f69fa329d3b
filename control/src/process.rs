//! A process that is watched and ended, our child or not.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use xtcp_ring::session;

use crate::clock::timespec;

/// A process, held by a pidfd: its end is an event, and a signal cannot hit a successor that got
/// its number.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    fd: OwnedFd,
    child: Option<Child>,
}

impl Process {
    /// Starts `program` in a session of its own. What it prints goes to our standard error, as
    /// the same open file: a pipe would break with us, and the dataplane is to survive us.
    pub(crate) fn start(program: &OsStr, arguments: &[String]) -> io::Result<Self> {
        let ours = || io::stderr().as_fd().try_clone_to_owned();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(ours()?).stderr(ours()?);
        let mut child = session::spawn(&mut command)?;
        match open(child.id()) {
            Ok(fd) => Ok(Self { pid: child.id(), fd, child: Some(child) }),
            Err(error) => {
                // Without a pidfd it could not be watched, so it must not run.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// A process somebody else started.
    pub(crate) fn adopt(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, fd: open(pid)?, child: None })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Readable when it has ended.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.wait(Some(Duration::ZERO), None)
    }

    /// Waits for its end, at most `timeout`, or until `interrupt` is readable. Says whether it has
    /// ended.
    pub(crate) fn wait(
        &self,
        timeout: Option<Duration>,
        interrupt: Option<BorrowedFd<'_>>,
    ) -> bool {
        let watched = PollFd::new(&self.fd, PollFlags::IN);
        let other = interrupt.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let count = 1 + usize::from(other.is_some());
        let mut both = [watched.clone(), other.unwrap_or(watched)];
        let timeout = timeout.map(timespec);
        poll(&mut both[..count], timeout.as_ref()).is_ok() && !both[0].revents().is_empty()
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        // It fails only when there is nothing left to end.
        let _ = pidfd_send_signal(&self.fd, Signal::TERM);
    }

    /// Ends it now.
    pub(crate) fn kill(&self) {
        // As above.
        let _ = pidfd_send_signal(&self.fd, Signal::KILL);
    }

    /// How it ended. Call it after [`Self::has_ended`].
    pub(crate) fn ending(&mut self) -> Ending {
        let child = self.child.as_mut();
        Ending(child.and_then(|child| child.try_wait().ok().flatten()))
    }
}

/// How a process ended, as far as its starter can know.
pub(crate) struct Ending(Option<ExitStatus>);

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(status) => write!(f, "{status}"),
            None => f.write_str("it was not our child, so how is not known"),
        }
    }
}

fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

//! How a worker wakes an application that sleeps, without a system call when it does not.
//!
//! The bell is a pair of connected sockets and not an eventfd: of an eventfd both sides hold the
//! same open file, so an application could fill its counter, take `O_NONBLOCK` off, and let the
//! worker's write block for ever. Sending on a socket with `MSG_DONTWAIT` cannot block, whatever
//! the other side does.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::pipe::PipeFlags;

#[cfg(not(loom))]
use crate::layout::{PARKED, Unfit};
#[cfg(not(loom))]
use crate::memory::Mapping;
use crate::ring::ParkFlag;

/// A bell: the end to ring (the dataplane's) and the end to sleep at (the application's).
///
/// # Errors
/// The kernel has no more files to give.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?)
}

/// A lifeline: the dataplane's end and the application's end of a pipe nothing is written to.
///
/// When the last process that holds one end is gone, a poll of the other for no events says so:
/// `POLLHUP` to the dataplane, `POLLERR` to the application. Whoever makes it closes both.
///
/// # Errors
/// The kernel has no more files to give.
pub fn lifeline() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

/// The dataplane's end of the bell; one per worker, all of one endpoint share the flag.
#[derive(Debug)]
pub struct Ringer {
    flag: ParkFlag,
    bell: OwnedFd,
}

impl Ringer {
    /// `bell` is the first end of [`pair`].
    ///
    /// # Errors
    /// The mapping is smaller than an endpoint's header.
    #[cfg(not(loom))]
    pub fn open(mapping: &Mapping, bell: OwnedFd) -> Result<Self, Unfit> {
        Ok(Self { flag: ParkFlag::new(mapping, PARKED)?, bell })
    }

    /// Wakes the application if it sleeps; call it after publishing. Says whether it rang. Never
    /// blocks: a bell that cannot be rung has been rung before, or nobody is there any more.
    #[inline]
    pub fn ring_if_parked(&self) -> bool {
        if !self.flag.take() {
            return false;
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        send(&self.bell, &[1], flags).is_ok()
    }

    /// Whether the application sleeps. If not, it finds what has been published until now by
    /// itself.
    #[inline]
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.flag.is_parked()
    }
}

/// What ended a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// There was something to do already.
    Ready,
    /// A worker rang.
    Rung,
    /// The watched file has something to say (the lifeline: the dataplane is gone).
    Watched,
    /// The time is over.
    TimedOut,
}

/// The application's end of the bell.
#[derive(Debug)]
pub struct Sleeper {
    flag: ParkFlag,
    bell: OwnedFd,
}

impl Sleeper {
    /// `bell` is the second end of [`pair`].
    ///
    /// # Errors
    /// The mapping is smaller than an endpoint's header.
    #[cfg(not(loom))]
    pub fn open(mapping: &Mapping, bell: OwnedFd) -> Result<Self, Unfit> {
        Ok(Self { flag: ParkFlag::new(mapping, PARKED)?, bell })
    }

    /// Sleeps until a worker rings, `watched` has an error, a hang-up or something to read, or the
    /// time is over (`None`: no limit). `ready` is asked once, after the workers can see that we
    /// are about to sleep: it says whether any ring has something.
    ///
    /// # Errors
    /// The kernel's, `Interrupted` among them.
    pub fn park(
        &self,
        ready: impl FnOnce() -> bool,
        watched: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> io::Result<Woken> {
        self.announce();
        if ready() {
            self.awake();
            return Ok(Woken::Ready);
        }
        let woken = self.sleep(watched, timeout);
        self.awake();
        woken
    }

    /// For programs with an event loop of their own: ask to be woken at [`Self::fd`]. Look at all
    /// rings once more after this, and call [`Self::awake`] before working on them.
    pub fn announce(&self) {
        self.flag.park();
    }

    /// Ends what [`Self::announce`] began, and empties the bell.
    pub fn awake(&self) {
        self.flag.unpark();
        let mut rung = [0; 8];
        while recv(&self.bell, &mut rung, RecvFlags::DONTWAIT).is_ok_and(|(count, _)| count > 0) {}
    }

    /// Readable when a worker has rung.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn sleep(
        &self,
        watched: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> io::Result<Woken> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let bell = PollFd::new(&self.bell, PollFlags::IN);
        let watched = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let mut both = [bell.clone(), watched.clone().unwrap_or(bell)];
        let count = if watched.is_some() { 2 } else { 1 };
        match poll(&mut both[..count], timeout.as_ref()) {
            Ok(0) => Ok(Woken::TimedOut),
            Ok(_) if !both[0].revents().is_empty() => Ok(Woken::Rung),
            Ok(_) => Ok(Woken::Watched),
            Err(Errno::INTR) => Err(io::ErrorKind::Interrupted.into()),
            Err(error) => Err(error.into()),
        }
    }
}

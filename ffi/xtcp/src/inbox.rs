//! What comes: events, batches of them, and waiting for them.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xtcp_ring::Woken;
use xtcp_ring::layout::{closed, refused};

use crate::application::Shared;
use crate::clock;
use crate::endpoint::{Endpoint, Next, Scope};
use crate::error::{Error, SendError};
use crate::handle::{Connection, Group, GroupSet, Ready};
use crate::request::Request;

/// Turns without news after which a thread that never sleeps asks whether anybody is there.
const IDLE_TURNS: u32 = 4096;

/// Turns to wait awake for a worker that is about to take something.
const SPINS: u32 = 200;

/// Longest sleep while a worker is about to take something: it does not ring for that.
const SETTLING: Duration = Duration::from_millis(1);

/// The receiving half of an attached application, see [`crate::Application::attach`].
///
/// The other half sends; so a request in hand and answers to others go together. What is given out
/// borrows the inbox, and is gone before the next is asked for.
pub struct Inbox {
    shared: Rc<Shared>,
    idle_turns: u32,
    /// The workers were told that we sleep, by [`Self::arm`].
    armed: bool,
}

impl Inbox {
    pub(crate) fn new(shared: Rc<Shared>) -> Self {
        Self { shared, idle_turns: 0, armed: false }
    }

    /// Shows the workers everything that was asked, and takes in everything that has come, of all
    /// groups. Makes no system call while something comes.
    ///
    /// Events of one group come in the order they happened; groups of one priority take turns; what
    /// is of a higher priority ([`crate::GroupOptions::priority`]) is given first. One of a lower
    /// priority is overtaken 16 times at most.
    ///
    /// # Errors
    /// [`Error::DataplaneGone`] and [`Error::Corrupt`]: attach again.
    pub fn receive(&mut self) -> Result<Batch<'_>, Error> {
        self.turn()?;
        Ok(Batch { shared: &self.shared, scope: Scope::All, lifetime: PhantomData })
    }

    /// As [`Self::receive`] (the specification's `xtcp_recv`), of one group; what has come for
    /// others stays.
    ///
    /// # Errors
    /// As [`Self::receive`], and [`Error::NoSuchGroup`].
    pub fn receive_from(&mut self, group: Group) -> Result<Batch<'_>, Error> {
        self.check_group(group)?;
        self.turn()?;
        if self.shared.endpoint.borrow().wants_look(group, true) {
            self.turn_looking()?;
        }
        Ok(Batch { shared: &self.shared, scope: Scope::Only(group), lifetime: PhantomData })
    }

    /// Accepts the group's next connection, if one waits (the specification's `xtcp_accept`).
    ///
    /// Its handshake is completed by this; [`Event::Opened`] follows.
    ///
    /// # Errors
    /// As [`Self::receive_from`].
    pub fn accept(&mut self, group: Group) -> Result<Option<Connection>, Error> {
        self.check_group(group)?;
        self.turn()?;
        if self.shared.endpoint.borrow().wants_look(group, false) {
            self.turn_looking()?;
        }
        let mut endpoint = self.shared.endpoint.borrow_mut();
        let Some(connection) = endpoint.next_acceptable(group) else { return Ok(None) };
        if endpoint.accept(connection, true).is_err() {
            // Commands without room wait in our own memory; only a worker that is a whole ring
            // behind even with those gets here, and then the client is refused in time.
            return Ok(None);
        }
        endpoint.flush();
        Ok(Some(connection))
    }

    /// Waits until something is there to receive, in any group. Says whether something is: not
    /// when the time is over (`None`: no limit) or a signal was handled.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, Error> {
        self.wait_for(|endpoint| endpoint.is_ready(), timeout)
    }

    /// Waits until a group of `readable` has something to receive or one of `acceptable` a
    /// connection to accept (the specification's `xtcp_select`). Says which; none when the time is
    /// over (`None`: no limit) or a signal was handled. While groups of a higher priority are ready,
    /// those of lower ones are left out, 16 times in a row at most.
    ///
    /// What this costs depends on how many groups are ready, not on how many the sets have.
    ///
    /// # Errors
    /// As [`Self::receive_from`].
    pub fn select(
        &mut self,
        readable: &GroupSet,
        acceptable: &GroupSet,
        timeout: Option<Duration>,
    ) -> Result<Ready, Error> {
        for set in [readable, acceptable] {
            let endpoint = self.shared.endpoint.borrow();
            set.check(endpoint.version(), |group| endpoint.has_group(group))?;
        }
        let mut found = Ready::default();
        self.wait_for(
            |endpoint| {
                found = endpoint.select(readable, acceptable);
                !found.is_empty()
            },
            timeout,
        )?;
        Ok(found)
    }

    /// For a program with an event loop of its own: tells the workers that this thread goes to
    /// sleep on [`AsFd::as_fd`] until it is readable, at most for [`Self::sleep_max`]. `false`:
    /// do not sleep, something is there.
    ///
    /// Call [`Self::receive`] after the sleep, whatever ended it.
    ///
    /// A thread with several pools sleeps on all of them like this:
    ///
    /// ```no_run
    /// # fn serve(inbox: &mut xtcp::Inbox) {}
    /// # fn f(mut one: xtcp::Inbox, mut two: xtcp::Inbox) -> Result<(), Box<dyn std::error::Error>> {
    /// use rustix::event::{PollFd, PollFlags, Timespec, poll};
    /// loop {
    ///     if one.arm()? & two.arm()? {
    ///         let most = [one.sleep_max(), two.sleep_max()].into_iter().flatten().min();
    ///         let most = most.map(Timespec::try_from).transpose()?;
    ///         let mut files = [PollFd::new(&one, PollFlags::IN), PollFd::new(&two, PollFlags::IN)];
    ///         poll(&mut files, most.as_ref())?;
    ///     }
    ///     serve(&mut one);
    ///     serve(&mut two);
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn arm(&mut self) -> Result<bool, Error> {
        self.turn_looking()?;
        self.shared.sleeper.announce();
        self.armed = true;
        let mut endpoint = self.shared.endpoint.borrow_mut();
        Ok(!(endpoint.is_ready() || endpoint.has_notice()))
    }

    /// How long a sleep may be before something that waits is to be tried again; `None`: no limit.
    #[must_use]
    pub fn sleep_max(&self) -> Option<Duration> {
        let endpoint = self.shared.endpoint.borrow();
        if endpoint.is_settling() {
            return Some(SETTLING);
        }
        endpoint.next_retry().map(|retry| retry.saturating_duration_since(clock::now()))
    }

    fn wait_for(
        &mut self,
        mut ready: impl FnMut(&mut Endpoint) -> bool,
        timeout: Option<Duration>,
    ) -> Result<bool, Error> {
        let mut deadline: Option<Instant> = None;
        let mut spins = 0;
        let mut look = false;
        loop {
            self.turn_with(look)?;
            if ready(&mut self.shared.endpoint.borrow_mut()) {
                return Ok(true);
            }
            if !std::mem::replace(&mut look, true) && self.shared.endpoint.borrow().has_local() {
                continue;
            }
            if spins < SPINS && self.shared.endpoint.borrow().is_settling() {
                spins += 1;
                std::hint::spin_loop();
                continue;
            }
            let mut sleep = self.sleep_max();
            if let Some(timeout) = timeout {
                let now = clock::now();
                let deadline = *deadline.get_or_insert_with(|| now + timeout);
                let left = deadline.saturating_duration_since(now);
                if left.is_zero() {
                    return Ok(false);
                }
                sleep = Some(sleep.map_or(left, |sleep| sleep.min(left)));
            }
            match self.sleep(sleep) {
                Ok(Woken::Watched) => {
                    // What was told before the end is told on.
                    self.turn()?;
                    let ready = ready(&mut self.shared.endpoint.borrow_mut());
                    return if ready { Ok(true) } else { Err(Error::DataplaneGone) };
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
                Err(source) => return Err(Error::System { what: "sleep", source }),
            }
        }
    }

    pub(crate) fn sleep(&self, timeout: Option<Duration>) -> io::Result<Woken> {
        let shared = &*self.shared;
        let something = || shared.endpoint.borrow_mut().has_notice();
        if !shared.endpoint.borrow().has_local() {
            return shared.sleeper.park(something, Some(shared.lifeline.as_fd()), timeout);
        }
        shared.sleeper.announce();
        let woken = if something() { Ok(Woken::Ready) } else { sleep_on(shared, timeout) };
        shared.sleeper.awake();
        woken
    }

    pub(crate) fn turn(&mut self) -> Result<(), Error> {
        self.turn_with(false)
    }

    /// As [`Self::turn`], and asks the kernel what local clients have sent.
    pub(crate) fn turn_looking(&mut self) -> Result<(), Error> {
        self.turn_with(true)
    }

    fn turn_with(&mut self, look: bool) -> Result<(), Error> {
        let armed = std::mem::take(&mut self.armed);
        if armed {
            self.shared.sleeper.awake();
        }
        if self.shared.endpoint.borrow_mut().turn(look || armed)? {
            self.idle_turns = 0;
            return Ok(());
        }
        self.idle_turns += 1;
        if self.idle_turns < IDLE_TURNS {
            return Ok(());
        }
        self.idle_turns = 0;
        if self.shared.is_dataplane_gone() { Err(Error::DataplaneGone) } else { Ok(()) }
    }

    fn check_group(&self, group: Group) -> Result<(), Error> {
        if self.shared.endpoint.borrow().has_group(group) {
            Ok(())
        } else {
            Err(Error::NoSuchGroup)
        }
    }
}

impl AsFd for Inbox {
    /// Readable when a worker has rung or a local client has sent something, see [`Inbox::arm`].
    ///
    /// It is the same file as long as the inbox lives. A thread with several inboxes, one for each
    /// pool, sleeps on all their files at once: arm each, and sleep if all of them say so.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.watch.as_fd()
    }
}

/// Sleeps until a worker rings, a local client has sent something, or the dataplane is gone.
fn sleep_on(shared: &Shared, timeout: Option<Duration>) -> io::Result<Woken> {
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let watch = PollFd::from_borrowed_fd(shared.watch.as_fd(), PollFlags::IN);
    let lifeline = PollFd::from_borrowed_fd(shared.lifeline.as_fd(), PollFlags::IN);
    let mut files = [watch, lifeline];
    match poll(&mut files, timeout.as_ref()) {
        Ok(0) => Ok(Woken::TimedOut),
        Ok(_) if files.first().is_some_and(|file| !file.revents().is_empty()) => Ok(Woken::Rung),
        Ok(_) => Ok(Woken::Watched),
        Err(errno) => Err(errno.into()),
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("armed", &self.armed).finish_non_exhaustive()
    }
}

/// Whether the other side of a file has gone.
pub(crate) fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0)
}

/// Events that have come, one at a time.
///
/// An event borrows the batch, so a request is let go of before the next event is looked at: on
/// each connection there is one request at a time, and its bytes come in order.
///
/// ```compile_fail,E0499
/// # fn f(inbox: &mut xtcp::Inbox) -> Result<(), xtcp::Error> {
/// let mut batch = inbox.receive()?;
/// let first = batch.next_event();
/// let second = batch.next_event();
/// drop(first);
/// # Ok(()) }
/// ```
///
/// What a batch leaves is in the next one.
pub struct Batch<'i> {
    shared: &'i Shared,
    scope: Scope,
    /// The inbox is borrowed as long as there is something of its in hand.
    lifetime: PhantomData<&'i mut Inbox>,
}

impl Batch<'_> {
    /// The next event; `None` when there is none left.
    pub fn next_event(&mut self) -> Option<Event<'_>> {
        let next = self.shared.endpoint.borrow_mut().next(self.scope)?;
        Some(match next {
            Next::Acceptable(connection) => {
                Event::Acceptable(Acceptable { shared: self.shared, connection })
            }
            Next::Opened(connection) => Event::Opened(connection),
            Next::Request(given) => Event::Request(Request::new(self.shared, given)),
            Next::Finished(connection) => Event::Finished(connection),
            Next::Closed(connection, reason) => Event::Closed { connection, reason },
            Next::Refused(connection, bytes, reason) => {
                Event::SendRefused { connection, bytes, reason }
            }
            Next::Drained(connection) => Event::Drained(connection),
            Next::GroupDrained(group) => Event::GroupDrained(group),
            Next::Resumed => Event::Resumed,
        })
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Something that happened. Events of one connection come in the order they happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'b> {
    /// A client wants to connect. Its SYN is answered when it is accepted.
    Acceptable(Acceptable<'b>),
    /// The handshake is complete.
    Opened(Connection),
    /// The client has sent something.
    Request(Request<'b>),
    /// The client has ended its stream, and everything it sent was given. It can still be sent to.
    Finished(Connection),
    /// The connection is gone and its handle names nothing any more: its last event.
    Closed {
        /// Which connection.
        connection: Connection,
        /// Why.
        reason: CloseReason,
    },
    /// The dataplane had no room for bytes that were sent. Unless the connection is closed the
    /// library keeps them, tries again and says [`Event::Drained`] when all have gone; this is
    /// the moment to send less, or to give a client up.
    SendRefused {
        /// Which connection.
        connection: Connection,
        /// How many bytes.
        bytes: usize,
        /// Why.
        reason: RefusalReason,
    },
    /// Everything that waited for this connection's client has gone to the dataplane.
    Drained(Connection),
    /// Once for a group that is drained ([`crate::Application::drain_group`]): no worker has a
    /// connection of it any more, and the end of each was told.
    GroupDrained(Group),
    /// Once, if this application follows another: every connection the predecessor left was told
    /// of. Comes only to who receives of all groups ([`Inbox::receive`]).
    Resumed,
}

/// A client that waits for its connection to be accepted.
///
/// One that is dropped undecided is refused by the appliance when the group's time is over.
#[must_use = "the client waits to be accepted or refused"]
pub struct Acceptable<'b> {
    shared: &'b Shared,
    connection: Connection,
}

impl Acceptable<'_> {
    /// The connection it would be.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.connection
    }

    /// Accepts it: the handshake is completed, and [`Event::Opened`] follows. It can be sent to at
    /// once: 4096 bytes wait for that.
    ///
    /// # Errors
    /// [`SendError::WouldBlock`] when the worker is more than a whole ring behind.
    pub fn accept(self) -> Result<Connection, SendError> {
        self.shared.endpoint.borrow_mut().accept(self.connection, true)?;
        Ok(self.connection)
    }

    /// Refuses it: the client gets a reset at once.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub fn refuse(self) -> Result<(), SendError> {
        self.shared.endpoint.borrow_mut().accept(self.connection, false)
    }
}

impl fmt::Debug for Acceptable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Acceptable").field(&self.connection).finish()
    }
}

/// Why a connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides closed, and everything was acknowledged.
    Closed,
    /// The client reset it.
    Reset,
    /// The client did not acknowledge in time: the specification's *down*.
    TimedOut,
    /// The application, or the closing of its group, reset it.
    Aborted,
    /// The handshake was not completed in time.
    Refused,
    /// Nothing came or went for the group's idle timeout, and both sides closed.
    Idle,
}

impl CloseReason {
    /// The number of this reason.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Closed => closed::BY_BOTH,
            Self::Reset => closed::RESET,
            Self::TimedOut => closed::DOWN,
            Self::Aborted => closed::ABORTED,
            Self::Refused => closed::NOT_ACCEPTED,
            Self::Idle => closed::IDLE,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Closed, Self::Reset, Self::TimedOut, Self::Aborted, Self::Refused, Self::Idle]
            .into_iter()
            .find(|reason| reason.code() == code)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed by both sides",
            Self::Reset => "reset by the client",
            Self::TimedOut => "the client does not acknowledge any more",
            Self::Aborted => "aborted",
            Self::Refused => "the handshake was not completed in time",
            Self::Idle => "idle for too long",
        })
    }
}

/// Why bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// The client reads too slowly: its connection has too much queued already.
    ClientBehind,
    /// The shared transmit buffer is full.
    NoBuffer,
    /// The connection does not take bytes any more; they are lost.
    Closed,
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientBehind => "its client reads too slowly",
            Self::NoBuffer => "the appliance has no buffer for it now",
            Self::Closed => "it is closed",
        })
    }
}

impl RefusalReason {
    /// What passes; whatever else a worker says does not.
    pub(crate) fn from_code(code: u8) -> Self {
        match code {
            refused::BEHIND => Self::ClientBehind,
            refused::NO_BUFFER | refused::NO_RECORD => Self::NoBuffer,
            _ => Self::Closed,
        }
    }
}

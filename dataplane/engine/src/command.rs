//! What the control thread may ask a worker, and what the worker tells.
//!
//! Questions and answers go through two channels per worker, one answer for one question, looked
//! at every 256 turns. What has to be allocated comes with the question.

use core::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SendError, Sender};

use xtcp_stack::config::{GroupConfig, Manner};
use xtcp_stack::handle::{Cd, Gd, PoolId};
use xtcp_stack::{ConnectionInfo, Misuse};

use crate::applications::{Lie, NewEndpoint, NewLine, Wake};
use crate::stats::Snapshot;

/// A question to a worker.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Take an application in. [`Tell::Pool`].
    OpenEndpoint(Box<NewEndpoint>),
    /// Let an application go, or what it left. [`Tell::Memory`].
    CloseEndpoint(u16),
    /// An application is gone: keep what it leaves for a successor. [`Tell::Done`].
    OrphanEndpoint(u16),
    /// The successor is there. [`Tell::Done`].
    ResumeEndpoint(Box<NewLine>),
    /// Open a group that the application knows by this handle. [`Tell::Group`].
    OpenGroup { endpoint: u16, group: Gd, config: GroupConfig, wake: Wake },
    /// [`Tell::Done`].
    CloseGroup { endpoint: u16, group: Gd },
    /// Drain a group, at so many connections a second. [`Tell::Done`].
    DrainGroup { endpoint: u16, group: Gd, per_second: u32, manner: Manner },
    /// End one connection, by RST or by FIN. [`Tell::Done`].
    CloseConnection { connection: Cd, reset: bool },
    /// [`Tell::Connection`].
    Describe(Cd),
    /// As many connections as the vector has room for. [`Tell::Connections`].
    Connections(Vec<ConnectionInfo>),
    /// [`Tell::Snapshot`].
    Snapshot(Box<Snapshot>),
    /// Tell the link where our addresses are. [`Tell::Done`].
    Announce,
    /// Stop working until [`Self::Resume`]. [`Tell::Done`].
    Pause,
    /// [`Tell::Done`].
    Resume,
    /// End; the thread returns its queues. [`Tell::Done`].
    End,
}

/// A worker's answer.
#[derive(Debug)]
pub(crate) enum Tell {
    /// The worker's number for the pool; if there is none, the memory comes back.
    Pool(Result<PoolId, (Misuse, &'static mut [u8])>),
    /// The worker's part of the endpoint's receive memory, if it had the endpoint.
    Memory(Option<&'static mut [u8]>),
    /// The worker's own handle for the group.
    Group(Result<Gd, Misuse>),
    Done(Result<(), Misuse>),
    Connection(Result<ConnectionInfo, Misuse>),
    Connections(Vec<ConnectionInfo>),
    Snapshot(Box<Snapshot>),
}

/// An application found lying, as a worker tells it without being asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Liar {
    pub(crate) worker: usize,
    pub(crate) endpoint: u16,
    pub(crate) lie: Lie,
}

/// How workers tell of liars: rare enough for a system call.
#[derive(Clone, Debug)]
pub(crate) struct Alarm {
    pub(crate) worker: usize,
    pub(crate) liars: Sender<Liar>,
    /// An eventfd the control thread polls.
    pub(crate) wake: Arc<OwnedFd>,
}

impl Alarm {
    pub(crate) fn raise(&self, endpoint: u16, lie: Lie) {
        // Without a control thread the process is about to end anyway.
        let _ = self.liars.send(Liar { worker: self.worker, endpoint, lie });
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
    }
}

/// The control thread's end of a worker's channels.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) asks: Sender<Ask>,
    pub(crate) tells: Receiver<Tell>,
}

/// The worker's thread has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone;

impl From<SendError<Ask>> for Gone {
    fn from(_: SendError<Ask>) -> Self {
        Self
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a worker has ended")
    }
}

impl Line {
    /// Asks and waits: microseconds, for a worker never waits for anybody.
    pub(crate) fn ask(&self, ask: Ask) -> Result<Tell, Gone> {
        self.asks.send(ask)?;
        self.tells.recv().map_err(|_| Gone)
    }
}

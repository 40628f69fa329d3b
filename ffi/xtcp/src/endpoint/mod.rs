//! What one application thread holds: a lane to each worker, what has come and was not taken yet,
//! and what waits for a client to read.
//!
//! Nothing here is kept for an idle connection. Kept are: a request that was given and not
//! acknowledged (where its bytes lie, 8 bytes a piece), bytes a worker refused, and handles of
//! connections whose end the application has not been told yet.

mod incoming;
mod outgoing;
mod together;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use xtcp_ring::{EndpointLayout, Mapping, Unfit};

use crate::backlog::Backlog;
use crate::error::Error;
use crate::handle::{Connection, Group};
use crate::inbox::{CloseReason, RefusalReason};
use crate::lane::Lane;
use crate::request::{Given, Piece};

use together::Together;

/// Lists of pieces kept for reuse.
const SPARE_MAX: usize = 16;

/// Bounds the application chose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes that may wait for one client.
    pub(crate) backlog_max: usize,
    /// Bytes that may wait for all clients together.
    pub(crate) backlogs_max: usize,
    /// Size of the receive memory.
    pub(crate) receive_bytes: u64,
    /// Time between two attempts to send what was refused, at first.
    pub(crate) retry_pause: Duration,
}

/// What there is to be told of a connection, in the order it happened.
#[derive(Clone, Copy, Debug)]
enum Item {
    Opened {
        cd: u64,
    },
    Data {
        cd: u64,
        offset: u64,
        piece: Piece,
    },
    /// What is held of the connection, once more.
    Again {
        cd: u64,
    },
    Finished {
        cd: u64,
    },
    Closed {
        cd: u64,
        reason: CloseReason,
    },
    Refused {
        cd: u64,
        bytes: usize,
        reason: RefusalReason,
    },
    Drained {
        cd: u64,
    },
}

/// One group's part of what has come.
#[derive(Debug)]
struct GroupQueue {
    gd: u32,
    items: VecDeque<Item>,
    acceptable: VecDeque<u64>,
    /// Those of `acceptable` that can still be accepted.
    pending: HashSet<u64>,
}

/// Something for the application, ready to be wrapped into an event.
#[derive(Debug)]
pub(crate) enum Next {
    Acceptable(Connection),
    Opened(Connection),
    Request(Given),
    Finished(Connection),
    Closed(Connection, CloseReason),
    Refused(Connection, usize, RefusalReason),
    Drained(Connection),
    Resumed,
}

/// Which groups a look is at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope {
    All,
    Only(Group),
}

impl Scope {
    fn includes(self, gd: u32) -> bool {
        match self {
            Self::All => true,
            Self::Only(group) => group.0 == gd,
        }
    }
}

/// What the application wants with the rest of a request it lets go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Give it again with more.
    Hold,
    /// Give it again at the next receive.
    Again,
    /// Give it again when the connection's backlog has drained.
    WhenDrained,
}

/// How far the ending of a connection by the application has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// To be closed when the application lets go of the request in hand: a worker that is told to
    /// close takes back what was given and not acknowledged.
    CloseLater,
    /// To be reset then.
    AbortLater,
    /// The close is asked for, or waits behind the connection's backlog.
    Closing,
    /// The reset is asked for.
    Aborting,
}

/// How far a successor knows what its predecessor left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resuming {
    /// So many workers have more to tell.
    Workers(usize),
    /// Everything is in the queues; that is still to be said.
    Complete,
    /// That was said, or there is no predecessor.
    Told,
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    lanes: Vec<Lane>,
    limits: Limits,
    queues: Vec<GroupQueue>,
    /// Groups the application has closed; notices of them may still come.
    closed: HashSet<u32>,
    /// Given and not acknowledged, by connection.
    held: HashMap<u64, Given>,
    /// To be given again at the next receive.
    later: Vec<Connection>,
    /// The connection of the request the application has in hand: there is at most one.
    in_hand: Option<Connection>,
    /// Connections the application has ended and whose `Closed` has not come.
    ending: HashMap<Connection, Ending>,
    /// Connections whose `Closed` is in a queue, and whether bytes of theirs were given and not
    /// acknowledged: a worker keeps them as they are until they are given up.
    gone: HashMap<u64, bool>,
    backlogs: HashMap<u64, Backlog>,
    /// The backlogs in the order they get their turn.
    turns: VecDeque<u64>,
    backlog_bytes: usize,
    spare: Vec<Vec<Piece>>,
    /// What there is to be told of what a predecessor left.
    resuming: Resuming,
    together: Together,
    /// Why the endpoint is of no more use: the worker and what it wrote.
    broken: Option<(u8, String)>,
}

impl Endpoint {
    pub(crate) fn open(
        mapping: &Mapping,
        layout: &EndpointLayout,
        limits: Limits,
    ) -> Result<Self, Unfit> {
        layout.check()?;
        let lanes: Result<Vec<Lane>, Unfit> =
            (0..layout.workers).map(|worker| Lane::open(mapping, layout, worker)).collect();
        Ok(Self {
            lanes: lanes?,
            limits,
            queues: Vec::new(),
            closed: HashSet::new(),
            held: HashMap::new(),
            later: Vec::new(),
            in_hand: None,
            ending: HashMap::new(),
            gone: HashMap::new(),
            backlogs: HashMap::new(),
            turns: VecDeque::new(),
            backlog_bytes: 0,
            spare: Vec::new(),
            resuming: Resuming::Told,
            together: Together::default(),
            broken: None,
        })
    }

    /// An error once a worker has written what cannot be.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.broken {
            None => Ok(()),
            Some((worker, what)) => Err(Error::Corrupt { worker: *worker, what: what.clone() }),
        }
    }

    pub(crate) fn has_group(&self, group: Group) -> bool {
        self.queues.iter().any(|queue| queue.gd == group.0)
    }

    /// This application follows another, which has left these groups.
    pub(crate) fn resume(&mut self, groups: impl Iterator<Item = Group>) {
        groups.for_each(|group| self.add_group(group));
        self.resuming = Resuming::Workers(self.lanes.len());
    }

    /// Takes a group in, if it is not here already.
    pub(crate) fn add_group(&mut self, group: Group) {
        if self.has_group(group) {
            return;
        }
        self.closed.remove(&group.0);
        self.queues.push(GroupQueue {
            gd: group.0,
            items: VecDeque::new(),
            acceptable: VecDeque::new(),
            pending: HashSet::new(),
        });
    }

    /// Whether the application has a request of this group in hand.
    pub(crate) fn has_in_hand(&self, group: Group) -> bool {
        self.in_hand.is_some_and(|connection| connection.group() == group)
    }

    /// Forgets a group and all that is known of its connections.
    pub(crate) fn remove_group(&mut self, group: Group) {
        let Some(place) = self.queues.iter().position(|queue| queue.gd == group.0) else { return };
        for item in self.queues.swap_remove(place).items {
            if let Item::Closed { cd, .. } = item {
                self.gone.remove(&cd);
            }
        }
        self.closed.insert(group.0);
        self.held.retain(|_, given| given.connection.gd != group.0);
        self.later.retain(|connection| connection.gd != group.0);
        self.ending.retain(|connection, _| connection.gd != group.0);
        let of_group = |backlog: &&Backlog| backlog.connection.gd == group.0;
        let stale: Vec<u64> =
            self.backlogs.values().filter(of_group).map(|backlog| backlog.connection.cd).collect();
        for cd in stale {
            self.drop_backlog(cd);
        }
    }

    /// Whether these groups have something to receive.
    pub(crate) fn is_readable(&self, scope: Scope) -> bool {
        let complete = matches!(scope, Scope::All) && self.resuming == Resuming::Complete;
        complete
            || self.queues.iter().any(|queue| scope.includes(queue.gd) && !queue.items.is_empty())
    }

    /// Whether these groups have something to accept.
    pub(crate) fn is_acceptable(&self, scope: Scope) -> bool {
        self.queues.iter().any(|queue| scope.includes(queue.gd) && !queue.pending.is_empty())
    }

    /// Whether any worker has written something that was not taken in.
    pub(crate) fn has_notice(&mut self) -> bool {
        self.lanes.iter_mut().any(Lane::has_notice)
    }

    /// Whether a worker is about to take something that others wait behind.
    pub(crate) fn is_settling(&self) -> bool {
        self.lanes.iter().any(|lane| lane.overflowing() > 0)
            || self.backlogs.values().any(|backlog| backlog.barrier.is_some())
    }

    /// When refused bytes are to be tried again.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.backlogs.values().filter_map(|backlog| backlog.retry).min()
    }

    fn queue(&mut self, gd: u32) -> Option<&mut GroupQueue> {
        self.queues.iter_mut().find(|queue| queue.gd == gd)
    }
}

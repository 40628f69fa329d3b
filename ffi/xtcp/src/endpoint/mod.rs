//! What one application thread holds: a lane to each worker, what has come and was not taken yet,
//! and what waits for a client to read.
//!
//! Nothing here is kept for an idle connection. Kept are: a request that was given and not
//! acknowledged (where its bytes lie, 8 bytes a piece), bytes a worker refused, and handles of
//! connections whose end the application has not been told yet.

mod ended;
mod incoming;
mod local;
mod outgoing;
mod queues;
mod together;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use xtcp_ring::{EndpointLayout, Mapping, ReadOnlyMapping, Unfit};

use crate::backlog::Backlog;
use crate::error::Error;
use crate::handle::{Connection, Group, GroupSet, Ready};
use crate::inbox::{CloseReason, RefusalReason};
use crate::lane::Lane;
use crate::local::Local;
use crate::request::{Given, Piece};

use ended::Ended;
use queues::Queues;
pub(crate) use queues::{OVERTAKES_MAX, PRIORITIES, TRACES_MAX};
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
    /// No worker has a connection of the group, which is drained.
    GroupDrained,
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
    GroupDrained(Group),
    Resumed,
}

/// Which groups a look is at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope {
    All,
    Only(Group),
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
    /// One for each worker, and one for local clients behind them.
    lanes: Vec<Lane>,
    /// How many workers the appliance has.
    workers: usize,
    local: Option<Local>,
    limits: Limits,
    /// Where the dataplane puts what clients send.
    receive: ReadOnlyMapping,
    queues: Queues,
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
    /// Connections whose `Closed` was given.
    ended: Ended,
    /// Accepted connections whose handshake is not complete, and their groups. What is sent to them
    /// waits.
    opening: HashMap<u64, u32>,
    backlogs: HashMap<u64, Backlog>,
    /// The backlogs in the order they get their turn.
    turns: VecDeque<u64>,
    backlog_bytes: usize,
    spare: Vec<Vec<Piece>>,
    /// Another number for each state of what groups are open, of any endpoint.
    version: u64,
    /// Selects in a row that left a group of a lower priority out.
    overtakes: u32,
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
        receive: ReadOnlyMapping,
    ) -> Result<Self, Unfit> {
        layout.check()?;
        let lanes: Result<Vec<Lane>, Unfit> =
            (0..layout.workers).map(|worker| Lane::open(mapping, layout, worker)).collect();
        Ok(Self {
            lanes: lanes?,
            workers: layout.workers.into(),
            local: None,
            limits,
            receive,
            queues: Queues::default(),
            closed: HashSet::new(),
            held: HashMap::new(),
            later: Vec::new(),
            in_hand: None,
            ending: HashMap::new(),
            gone: HashMap::new(),
            ended: Ended::default(),
            opening: HashMap::new(),
            backlogs: HashMap::new(),
            turns: VecDeque::new(),
            backlog_bytes: 0,
            spare: Vec::new(),
            version: next_version(),
            overtakes: 0,
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
        self.queues.contains(group.0)
    }

    /// This application follows another, which has left these groups.
    pub(crate) fn resume(&mut self, groups: impl Iterator<Item = (Group, u8)>) {
        groups.for_each(|(group, priority)| self.add_group(group, priority));
        self.resuming = Resuming::Workers(self.workers);
    }

    /// Takes a group in, if it is not here already.
    pub(crate) fn add_group(&mut self, group: Group, priority: u8) {
        if self.has_group(group) {
            return;
        }
        self.closed.remove(&group.0);
        self.queues.add(group.0, priority);
        self.version = next_version();
    }

    /// How many groups were looked at so far.
    #[cfg(test)]
    pub(crate) fn looked_at(&self) -> u64 {
        self.queues.looked_at.get()
    }

    /// A number that no endpoint has again after its groups have changed. It is not 0.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether the application has a request of this group in hand.
    pub(crate) fn has_in_hand(&self, group: Group) -> bool {
        self.in_hand.is_some_and(|connection| connection.group() == group)
    }

    /// Forgets a group and all that is known of its connections.
    pub(crate) fn remove_group(&mut self, group: Group) {
        let Some(queue) = self.queues.remove(group.0) else { return };
        self.version = next_version();
        for item in queue.into_items() {
            if let Item::Closed { cd, .. } = item {
                self.gone.remove(&cd);
            }
        }
        self.closed.insert(group.0);
        if let Some(local) = &mut self.local {
            local.close_group(group);
        }
        self.opening.retain(|_, gd| *gd != group.0);
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

    /// Whether any group has something to receive or to accept.
    pub(crate) fn is_ready(&self) -> bool {
        self.resuming == Resuming::Complete || self.queues.is_ready()
    }

    /// Which groups of these have something, the ones of the highest priority that has any. Every
    /// so many times others are told with them, so that they are not left out for ever.
    pub(crate) fn select(&mut self, readable: &GroupSet, acceptable: &GroupSet) -> Ready {
        let (mut found, mut overtaking) = (Ready::default(), false);
        for priority in (0..PRIORITIES).rev() {
            for group in self.queues.ready(priority) {
                let reads = readable.contains(group) && self.queues.is_readable(group.0);
                let accepts = acceptable.contains(group) && self.queues.is_acceptable(group.0);
                if !reads && !accepts {
                    continue;
                }
                if overtaking && self.overtakes < OVERTAKES_MAX {
                    self.overtakes += 1;
                    return found;
                }
                found.readable.extend(reads.then_some(group));
                found.acceptable.extend(accepts.then_some(group));
            }
            overtaking = !found.is_empty();
        }
        self.overtakes = 0;
        found
    }

    /// Whether any worker has written something that was not taken in.
    pub(crate) fn has_notice(&mut self) -> bool {
        self.lanes.iter_mut().any(Lane::has_notice)
    }

    /// Whether a worker is about to take something that others wait behind, or to make room.
    pub(crate) fn is_settling(&self) -> bool {
        let waits = |(cd, backlog): (&u64, &Backlog)| {
            backlog.barrier.is_some() || backlog.found_no_room() && !self.is_opening(*cd)
        };
        self.lanes.iter().any(|lane| lane.overflowing() > 0) || self.backlogs.iter().any(waits)
    }

    /// When refused bytes are to be tried again.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        let local = self.local.as_ref().and_then(Local::next_deadline);
        self.backlogs.values().filter_map(|backlog| backlog.retry).chain(local).min()
    }
}

fn next_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

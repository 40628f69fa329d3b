//! An application, as the control thread keeps it for all workers.

use std::os::fd::{BorrowedFd, OwnedFd};

use xtcp_ring::SharedMemory;
use xtcp_ring::message::EndpointRecord;
use xtcp_stack::Instant;
use xtcp_stack::handle::PoolId;

use crate::applications::Lie;

/// An application as the control thread knows it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) record: EndpointRecord,
    /// Each worker's number for its pool.
    pub(crate) pools: Vec<PoolId>,
    /// Kept for a successor to map.
    pub(crate) receive: SharedMemory,
    pub(crate) presence: Presence,
}

/// Whether an application is there.
#[derive(Debug)]
pub(crate) enum Presence {
    /// Its lifeline, which hangs up when it dies.
    Here(OwnedFd),
    /// It is gone, and a successor may come until then.
    Gone { until: Instant, why: Departure },
}

/// Why an application is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// Its lifeline hung up.
    Died,
    /// It was found lying.
    Lied(Lie),
}

impl Endpoint {
    pub(crate) fn is_here(&self) -> bool {
        matches!(self.presence, Presence::Here(_))
    }

    /// Until when it waits for a successor; `None` while there is an application.
    pub(crate) fn waits_until(&self) -> Option<Instant> {
        match self.presence {
            Presence::Here(_) => None,
            Presence::Gone { until, .. } => Some(until),
        }
    }

    pub(crate) fn receive_file(&self) -> BorrowedFd<'_> {
        self.receive.fd()
    }
}

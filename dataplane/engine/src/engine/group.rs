//! A connection group, as the control thread keeps it for all workers.

use xtcp_ring::message::{Drain, GroupRecord};
use xtcp_stack::handle::Gd;

/// A group as the control thread knows it.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) record: GroupRecord,
    /// Each worker's handle for it.
    pub(crate) at_workers: Vec<Gd>,
    /// How it is being drained, if it is.
    pub(crate) drain: Option<Drain>,
}

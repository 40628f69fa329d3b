//! What is counted of applications at one worker.

use super::submission::LIES;

/// What the applications' side counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplicationCounters {
    pub(crate) submissions: u64,
    pub(crate) notices: u64,
    /// Sends that could not be queued.
    pub(crate) sends_refused: u64,
    /// Acknowledgements the stack did not take.
    pub(crate) commits_refused: u64,
    /// Submissions for connections or groups that are gone.
    pub(crate) stale: u64,
    /// Submissions that acted together, counted as one.
    pub(crate) batches: u64,
    /// Of such that could not all be done, and so were not.
    pub(crate) batches_refused: u64,
    /// Bells rung.
    pub(crate) bells: u64,
    /// Applications found lying, by lie.
    pub(crate) lies: [u64; LIES.len()],
}

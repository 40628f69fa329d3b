//! A submission: what it asks for, if an honest application can ask it.

use core::fmt;

use xtcp_ring::layout::{flag, op};
use xtcp_ring::{Corrupt, HostileArea, Submission};
use xtcp_stack::Misuse;
use xtcp_stack::handle::Cd;
use xtcp_stack::world::Payload;

/// Every [`Lie`], in the order of its counters.
pub(crate) const LIES: [Lie; 8] = [
    Lie::Operation,
    Lie::Flags,
    Lie::Reserved,
    Lie::Arena,
    Lie::Group,
    Lie::Connection,
    Lie::Ring,
    Lie::Batch,
];

/// What no honest application can have submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// An operation that does not exist.
    Operation,
    /// Flags that the operation does not have.
    Flags,
    /// The reserved field is not zero.
    Reserved,
    /// Bytes to send that do not lie in the arena.
    Arena,
    /// Another application's group.
    Group,
    /// A connection that is not of the group, or not of this worker.
    Connection,
    /// A ring position that cannot be.
    Ring,
    /// A chain of what cannot act together, or too long.
    Batch,
}

impl Lie {
    /// The counter's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Operation => "lie-operation",
            Self::Flags => "lie-flags",
            Self::Reserved => "lie-reserved",
            Self::Arena => "lie-arena",
            Self::Group => "lie-group",
            Self::Connection => "lie-connection",
            Self::Ring => "lie-ring",
            Self::Batch => "lie-batch",
        }
    }
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operation => "it submitted an operation that does not exist",
            Self::Flags => "it set flags that its operation does not have",
            Self::Reserved => "it did not leave the reserved field zero",
            Self::Arena => "it wants bytes sent that do not lie in its arena",
            Self::Group => "it named a group of another application",
            Self::Connection => "it named a connection that is not of its group or worker",
            Self::Ring => "a ring position of its cannot be",
            Self::Batch => "it chained what cannot act together, or too much",
        })
    }
}

impl From<Corrupt> for Lie {
    fn from(_: Corrupt) -> Self {
        Self::Ring
    }
}

/// What a checked submission asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Accept,
    Refuse,
    Close,
    Abort,
    Send {
        /// Acknowledge up to this offset, and whether to give again what stays unacknowledged.
        acknowledge: Option<(u64, bool)>,
        /// Bytes of the arena, from and how many; inside it.
        at: u32,
        len: u32,
        close_after: bool,
    },
}

/// What the submission asks for, if an honest application can ask it.
pub(super) fn check(submission: &Submission, worker: u8, arena: &HostileArea) -> Result<Verb, Lie> {
    let Submission { op, flags, reserved, cd, offset, at, len, .. } = *submission;
    if reserved != 0 {
        return Err(Lie::Reserved);
    }
    if Cd::from_bits(cd).worker() != worker {
        return Err(Lie::Connection);
    }
    let (verb, known_flags) = match op {
        op::ACCEPT => (Verb::Accept, 0),
        op::REFUSE => (Verb::Refuse, 0),
        op::CLOSE => (Verb::Close, 0),
        op::ABORT => (Verb::Abort, 0),
        op::SEND => {
            arena.check(at, len as usize).map_err(|_| Lie::Arena)?;
            let again = flags & flag::AGAIN != 0;
            // To be given something again without acknowledging anything is to acknowledge
            // nothing new.
            let up_to = if flags & flag::ACKNOWLEDGE != 0 { offset } else { 0 };
            let acknowledge =
                (flags & (flag::ACKNOWLEDGE | flag::AGAIN) != 0).then_some((up_to, again));
            let close_after = flags & flag::CLOSE_AFTER != 0;
            let known_flags = flag::ACKNOWLEDGE | flag::AGAIN | flag::CLOSE_AFTER | flag::MORE;
            (Verb::Send { acknowledge, at, len, close_after }, known_flags)
        }
        _ => return Err(Lie::Operation),
    };
    if flags & !known_flags != 0 {
        return Err(Lie::Flags);
    }
    Ok(verb)
}

/// A refused command: by a lie, or by a race, which is counted.
pub(super) fn judge(outcome: Result<(), Misuse>, races: &mut u64) -> Result<(), Lie> {
    match outcome {
        Ok(()) => Ok(()),
        // A `cd` never changes its group, and a reused one has another generation.
        Err(Misuse::NotInGroup) => Err(Lie::Connection),
        Err(_) => {
            *races += 1;
            Ok(())
        }
    }
}

/// Bytes of an arena; the range has been checked.
pub(super) struct ArenaBytes<'a> {
    pub(super) arena: &'a HostileArea,
    pub(super) at: u32,
    pub(super) len: u32,
}

impl Payload for ArenaBytes<'_> {
    fn len(&self) -> usize {
        self.len as usize
    }

    fn copy_to(&self, at: usize, into: &mut [u8]) {
        let from = self.at as usize + at;
        let copied = u32::try_from(from).ok().map(|from| self.arena.copy_out(from, into));
        assert!(matches!(copied, Some(Ok(()))), "the range was checked when it was submitted");
    }
}

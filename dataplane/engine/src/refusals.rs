//! What the stack does not do, as other processes are told it.

use xtcp_ring::layout::{closed, refused};
use xtcp_ring::message::{Refusal, Refused};
use xtcp_stack::{Misuse, Reason};

/// Of which kind a command is refused that the stack did not do.
pub(crate) fn refusal_of(misuse: Misuse) -> Refusal {
    match misuse {
        Misuse::StaleConnection
        | Misuse::StaleGroup
        | Misuse::NotInGroup
        | Misuse::NoSuchPool
        | Misuse::NoSuchQueue
        | Misuse::NoAddress => Refusal::NotThere,
        Misuse::NoBuffer | Misuse::SendQueueFull | Misuse::TableFull => Refusal::Full,
        Misuse::NotAcceptable | Misuse::BeyondGiven | Misuse::NotOpen | Misuse::Draining => {
            Refusal::Misplaced
        }
    }
}

/// The refusal of a command on `what`, in a sentence.
pub(crate) fn refused_by_stack(what: &str, misuse: Misuse) -> Refused {
    Refused::new(refusal_of(misuse), format!("{what}: {misuse}"))
}

/// The reason in a notice of something submitted and not done.
pub(crate) fn refusal_code(misuse: Misuse) -> u8 {
    match misuse {
        Misuse::BeyondGiven => refused::BEYOND_GIVEN,
        Misuse::NoBuffer => refused::NO_BUFFER,
        Misuse::SendQueueFull => refused::BEHIND,
        Misuse::TableFull => refused::NO_RECORD,
        Misuse::NotOpen | Misuse::NotAcceptable => refused::NOT_OPEN,
        Misuse::StaleConnection
        | Misuse::StaleGroup
        | Misuse::NotInGroup
        | Misuse::NoSuchPool
        | Misuse::NoSuchQueue
        | Misuse::NoAddress
        | Misuse::Draining => refused::GONE,
    }
}

/// The reason in the last notice of a connection.
pub(crate) fn close_code(reason: Reason) -> u8 {
    match reason {
        Reason::Closed => closed::BY_BOTH,
        Reason::Reset => closed::RESET,
        Reason::TimedOut => closed::DOWN,
        Reason::Aborted => closed::ABORTED,
        Reason::Refused => closed::NOT_ACCEPTED,
        Reason::Idle => closed::IDLE,
    }
}

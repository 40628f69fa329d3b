//! What can go wrong, with the number C programs know it by.

use std::fmt;

use rustix::io::Errno;
use xtcp_ring::message::Refusal;

use super::GROUPS_MAX;
use crate::error::{Error, SendError};
use crate::inbox::{CloseReason, RefusalReason};
use crate::transaction::TransactionError;

/// Why a call failed. [`Failure::errno`] is what C programs get.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// This thread has no such pool (`ENOTCONN`).
    NoPool,
    /// This thread's first pool is there already (`EALREADY`).
    PoolIsThere,
    /// The number is not of an open group of this thread (`EBADF`).
    NoGroup,
    /// The number is not of a connection of that group (`ENOTCONN`).
    NoConnection,
    /// Nothing is there now (`EAGAIN`).
    Nothing,
    /// More is acknowledged than was given (`EINVAL`).
    OverAcknowledged {
        /// Bytes given by the last receive and not acknowledged since.
        given: u64,
        /// Bytes that were to be acknowledged.
        acknowledged: u64,
    },
    /// A connection is gone, and its number with it (`ECONNRESET`, `ETIMEDOUT`, `ECONNABORTED`).
    Gone {
        /// The number it had.
        cd: i32,
        /// Why it is gone.
        reason: CloseReason,
    },
    /// The group was drained: no connection is left, and none will come (`ESHUTDOWN`).
    Drained,
    /// A predecessor left no further connection (`ENOENT`).
    NoneLeft,
    /// A transaction over several pools, which is none (`EXDEV`).
    SeveralPools,
    /// A transaction did not happen (`EXDEV`, `EMSGSIZE`, `ENETDOWN`, and as [`Self::Send`]).
    Transaction(TransactionError),
    /// Too many groups or connections for numbers or memory (`EMFILE`).
    TooMany,
    /// A signal came while the thread slept (`EINTR`).
    Interrupted,
    /// An option is unknown or has a value that cannot be (`EINVAL`).
    Option {
        /// Its key.
        key: String,
        /// What is wrong, and what is right.
        what: String,
    },
    /// An argument that cannot be; with its number.
    Argument {
        /// The number.
        errno: Errno,
        /// A sentence about it.
        what: &'static str,
    },
    /// The appliance, or the way to it: `ENETDOWN` when the dataplane is gone, `EPROTO` when the two
    /// do not understand each other, the system's, or by the kind of refusal `EINVAL`,
    /// `EADDRINUSE`, `ENOENT`, `ENOSPC`, `EACCES`, `EPROTO`, `EAGAIN`, `EOPNOTSUPP`.
    Appliance(Error),
    /// One submission was not taken (`EAGAIN`, `EMSGSIZE`, `EPIPE`).
    Send(SendError),
}

impl Failure {
    /// The number C programs know it by, positive.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::NoPool | Self::NoConnection => Errno::NOTCONN,
            Self::PoolIsThere => Errno::ALREADY,
            Self::NoGroup => Errno::BADF,
            Self::Nothing => Errno::AGAIN,
            Self::OverAcknowledged { .. } | Self::Option { .. } => Errno::INVAL,
            Self::Gone { reason, .. } => match reason {
                CloseReason::Reset => Errno::CONNRESET,
                CloseReason::TimedOut => Errno::TIMEDOUT,
                CloseReason::Closed
                | CloseReason::Aborted
                | CloseReason::Refused
                | CloseReason::Idle => Errno::CONNABORTED,
            },
            Self::TooMany => Errno::MFILE,
            Self::Interrupted => Errno::INTR,
            Self::Argument { errno, .. } => *errno,
            Self::Appliance(error) => errno_of(error),
            Self::Drained => Errno::SHUTDOWN,
            Self::NoneLeft => Errno::NOENT,
            Self::SeveralPools => Errno::XDEV,
            Self::Transaction(error) => errno_of_transaction(*error),
            Self::Send(error) => errno_of_send(*error),
        }
    }
}

fn errno_of_send(error: SendError) -> Errno {
    match error {
        SendError::WouldBlock | SendError::Behind { .. } => Errno::AGAIN,
        SendError::TooLong { .. } => Errno::MSGSIZE,
        SendError::OverAcknowledged { .. } => Errno::INVAL,
        SendError::Closed => Errno::PIPE,
        SendError::Broken => Errno::PROTO,
    }
}

fn errno_of_transaction(error: TransactionError) -> Errno {
    match error {
        TransactionError::SeveralWorkers => Errno::XDEV,
        TransactionError::TooLarge { .. } => Errno::MSGSIZE,
        TransactionError::Unready(error) => errno_of_send(error),
        TransactionError::Refused { reason: RefusalReason::Closed, .. } => Errno::PIPE,
        TransactionError::Refused { .. } => Errno::AGAIN,
        TransactionError::Gone => Errno::NETDOWN,
    }
}

fn errno_of(error: &Error) -> Errno {
    match error {
        Error::Control { source, .. } => Errno::from_io_error(source).unwrap_or(Errno::CONNREFUSED),
        Error::System { source, .. } => Errno::from_io_error(source).unwrap_or(Errno::IO),
        Error::Refused { refusal, .. } => errno_of_refusal(*refusal),
        Error::DataplaneGone => Errno::NETDOWN,
        Error::Handover { .. } | Error::Corrupt { .. } => Errno::PROTO,
        Error::NoSuchGroup => Errno::BADF,
        Error::InHand => Errno::BUSY,
    }
}

fn errno_of_refusal(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::Invalid => Errno::INVAL,
        Refusal::InUse => Errno::ADDRINUSE,
        Refusal::NotThere => Errno::NOENT,
        Refusal::Full => Errno::NOSPC,
        Refusal::NotAllowed => Errno::ACCESS,
        Refusal::Version => Errno::PROTO,
        Refusal::NotNow => Errno::AGAIN,
        Refusal::Misplaced => Errno::OPNOTSUPP,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPool => f.write_str(
                "this thread has no such pool; xtcp_initialize or xtcp_open_pool makes one, and a \
                 pool belongs to the thread that made it",
            ),
            Self::PoolIsThere => f.write_str(
                "xtcp_initialize was called already by this thread; xtcp_open_pool makes further \
                 pools",
            ),
            Self::NoGroup => f.write_str(
                "the number is not of an open group of this thread; use what xtcp_open_group gave \
                 this thread",
            ),
            Self::NoConnection => f.write_str(
                "the number is not of a connection of this group; it may be closed, or another \
                 group's",
            ),
            Self::Nothing => f.write_str("nothing is there now; xtcp_select waits for it"),
            Self::OverAcknowledged { given, acknowledged } => write!(
                f,
                "{acknowledged} bytes acknowledged where {given} are given and not acknowledged; \
                 acknowledge only what the last receive on the connection gave"
            ),
            Self::Gone { reason, .. } => {
                write!(f, "the connection is gone ({reason}); forget its number")
            }
            Self::TooMany => write!(
                f,
                "too many: a thread has {GROUPS_MAX} groups at most, and as many connections as \
                 there is memory for"
            ),
            Self::Drained => f.write_str(
                "the group was drained: it has no connection any more and gets none; close it",
            ),
            Self::NoneLeft => {
                f.write_str("the predecessor left no further connection of this group")
            }
            Self::SeveralPools => f.write_str(
                "the connections are of several pools; keep a transaction to those of one",
            ),
            Self::Transaction(error) => error.fmt(f),
            Self::Interrupted => f.write_str("a signal was handled; call again"),
            Self::Option { key, what } => write!(f, "option {key}: {what}"),
            Self::Argument { what, .. } => f.write_str(what),
            Self::Appliance(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Appliance(error) => Some(error),
            Self::Send(error) => Some(error),
            Self::Transaction(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Appliance(error)
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

//! What can go wrong, in sentences that say what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use xtcp_ring::message::Refusal;

/// The appliance, or the way to it, does not do what was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Nobody answers at `xtcpd`'s socket, or it stopped answering.
    Control {
        /// The socket.
        path: PathBuf,
        /// What the socket said.
        source: io::Error,
    },
    /// `xtcpd` understood and does not do it.
    Refused {
        /// Of which kind, for programs.
        refusal: Refusal,
        /// Its sentence.
        reason: String,
    },
    /// The dataplane process is gone, and every connection of this application with it.
    DataplaneGone,
    /// What the appliance handed over does not fit together.
    Handover {
        /// What does not fit.
        what: String,
    },
    /// The dataplane wrote into the rings what cannot be.
    Corrupt {
        /// The worker that wrote it.
        worker: u8,
        /// What it wrote.
        what: String,
    },
    /// The group's handle is not of an open group of this application.
    NoSuchGroup,
    /// The group has a request in hand, whose bytes would go with it.
    InHand,
    /// The operating system does not do what the library needs.
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control { path, source } => write!(
                f,
                "xtcpd does not answer at {} ({source}); start it, or say where it is with \
                 the instance's name and run directory (open connections go on meanwhile)",
                path.display()
            ),
            Self::Refused { reason, .. } => write!(f, "xtcpd refused: {reason}"),
            Self::DataplaneGone => f.write_str(
                "the dataplane is gone and this application's connections with it; \
                 attach again when xtcpd has restarted it",
            ),
            Self::Handover { what } => {
                write!(f, "{what}; build the application and the appliance from the same source")
            }
            Self::Corrupt { worker, what } => write!(
                f,
                "worker {worker} wrote what cannot be: {what}; \
                 the rings are of no more use, attach again"
            ),
            Self::NoSuchGroup => {
                f.write_str("the group is not (any more) one of this application; open it first")
            }
            Self::InHand => f.write_str(
                "a request of this group is in hand; let go of it, then close the group",
            ),
            Self::System { what, source } => write!(f, "could not {what}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Control { source, .. } | Self::System { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why a submission was not taken. Nothing of it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The worker's ring or arena is full: go on with [`crate::Inbox::receive`], then try again.
    WouldBlock,
    /// So much waits for this connection's client to read that no more is kept. The connection
    /// says [`crate::Event::Drained`] when it goes on.
    Behind {
        /// Bytes that wait in this library.
        waiting: usize,
    },
    /// More at once than can ever wait for one connection.
    TooLong {
        /// The most, in bytes.
        max: usize,
    },
    /// More bytes acknowledged than were given.
    OverAcknowledged {
        /// Bytes given and not yet acknowledged.
        given: usize,
        /// Bytes that were to be acknowledged.
        acknowledged: usize,
    },
    /// The connection is closed, or is about to be because this application said so.
    Closed,
    /// The endpoint is of no more use; [`crate::Inbox::receive`] says why.
    Broken,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => {
                f.write_str("the worker is behind; receive what has come, then try again")
            }
            Self::Behind { waiting } => write!(
                f,
                "{waiting} bytes already wait for this client to read; wait until it has drained"
            ),
            Self::TooLong { max } => {
                write!(f, "more than {max} bytes at once; send it in several pieces")
            }
            Self::OverAcknowledged { given, acknowledged } => write!(
                f,
                "{acknowledged} bytes acknowledged where {given} were given; acknowledge only \
                 what was received"
            ),
            Self::Closed => f.write_str("the connection is closed; forget its handle"),
            Self::Broken => {
                f.write_str("the endpoint is of no more use; the next receive says why")
            }
        }
    }
}

impl std::error::Error for SendError {}

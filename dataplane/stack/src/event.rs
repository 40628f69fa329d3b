//! What the stack tells the application of a group.

use crate::handle::{Cd, Gd};

/// One thing that happened, in the order it happened on its connection.
///
/// Events are not stored: a connection with something to tell stands in its queue, and
/// [`crate::Stack::poll_event`] makes the event when somebody can take it. So a stalled
/// application costs no memory beyond its own connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A SYN waits for [`crate::Stack::accept`] (groups that accept themselves skip this).
    Acceptable {
        /// The group bound to the SYN's port.
        group: Gd,
        /// The connection it would become.
        connection: Cd,
    },
    /// The handshake is complete.
    Opened {
        /// The connection's group.
        group: Gd,
        /// The connection.
        connection: Cd,
    },
    /// The next in-order bytes, readable in place in the pool's receive buffer until committed.
    Data {
        /// The connection's group.
        group: Gd,
        /// The connection.
        connection: Cd,
        /// Where in the pool's receive buffer of this worker the bytes lie, in bytes.
        at: u64,
        /// How many bytes, 1 to [`crate::buffer::PAGE`].
        len: u16,
        /// The 64-bit offset of the first byte in the connection's stream; the first byte is 0.
        offset: u64,
    },
    /// The peer has sent FIN: the stream ends at `offset`.
    Finished {
        /// The connection's group.
        group: Gd,
        /// The connection.
        connection: Cd,
        /// The stream's length in bytes.
        offset: u64,
    },
    /// The connection is gone; unless something is `held`, its handle is stale. Its last event.
    Closed {
        /// The connection's group.
        group: Gd,
        /// The connection.
        connection: Cd,
        /// Why it is gone.
        reason: Reason,
        /// Bytes that were given and not committed. They stay readable in place, and their blocks
        /// taken, until they are committed or the connection is closed once more.
        held: u32,
    },
    /// The group was drained ([`crate::Stack::drain_group`]) and its last connection is gone.
    Drained {
        /// The group: still open, without connections, and listening nowhere.
        group: Gd,
    },
}

/// Why a connection is gone (RFC 9293 MUST-12: closed and aborted are told apart).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Both sides closed and everything was acknowledged.
    Closed = 0,
    /// The peer sent RST.
    Reset = 1,
    /// The peer did not acknowledge in time: the seed's *down* (RFC 9293 R2, user timeout).
    TimedOut = 2,
    /// The application, its group or its pool aborted it.
    Aborted = 3,
    /// The handshake was not accepted, or not completed, in time.
    Refused = 4,
    /// No text came or went for the group's idle timeout; both sides closed.
    Idle = 5,
}

impl Reason {
    /// The reason a number on the ring stands for.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Closed),
            1 => Some(Self::Reset),
            2 => Some(Self::TimedOut),
            3 => Some(Self::Aborted),
            4 => Some(Self::Refused),
            5 => Some(Self::Idle),
            _ => None,
        }
    }
}

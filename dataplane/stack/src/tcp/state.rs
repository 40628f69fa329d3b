//! The states of RFC 9293 section 3.3.2.

use core::fmt;

/// A connection's state (RFC 9293 figure 5). LISTEN is a group's, not a connection's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// No connection, or one whose end the application has not been told yet.
    Closed = 0,
    /// A SYN was sent, none received.
    SynSent = 1,
    /// A SYN was received; it waits for acceptance or for the handshake's last acknowledgement.
    SynReceived = 2,
    /// Data flows both ways.
    Established = 3,
    /// We closed; our FIN is queued or unacknowledged.
    FinWait1 = 4,
    /// We closed and that is acknowledged; the peer has not.
    FinWait2 = 5,
    /// The peer closed; we have not.
    CloseWait = 6,
    /// Both closed at once; our FIN is unacknowledged.
    Closing = 7,
    /// The peer closed, then we; our FIN is unacknowledged.
    LastAck = 8,
    /// Both closed; waiting for old segments to die out.
    TimeWait = 9,
}

impl State {
    pub(crate) const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::SynSent,
            2 => Self::SynReceived,
            3 => Self::Established,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::CloseWait,
            7 => Self::Closing,
            8 => Self::LastAck,
            9 => Self::TimeWait,
            _ => Self::Closed,
        }
    }

    /// Whether the application may still send (RFC 9293 section 3.10.2).
    #[must_use]
    pub const fn may_send(self) -> bool {
        matches!(self, Self::Established | Self::CloseWait)
    }

    /// Whether the peer may still send.
    #[must_use]
    pub const fn may_receive(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }

    /// Whether the handshake is complete: the synchronized states of RFC 9293.
    #[must_use]
    pub const fn is_synchronized(self) -> bool {
        !matches!(self, Self::Closed | Self::SynSent | Self::SynReceived)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "CLOSED",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
        })
    }
}

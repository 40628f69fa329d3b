//! What is told of the clients: what happened to one, what all did, and where they stand.

use super::record::State;

/// What happened to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server accepted it.
    Opened(u32),
    /// The whole answer is there, every byte as it should be.
    Answered(u32),
    /// Both sides have ended, as it wished.
    Closed(u32),
    /// It is closed, and should not be.
    Failed(u32, Failure),
}

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server answered the SYN with RST.
    Refused,
    /// The server reset it.
    Reset,
    /// The server ended while a request was under way.
    EndedEarly,
    /// Nothing was acknowledged any more.
    Timeout,
    /// A byte of the answer is wrong.
    WrongByte,
    /// More came than was asked for.
    TooMuch,
}

impl Failure {
    /// The failure as the end of a sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Refused => "the server refused the connection",
            Self::Reset => "the server reset the connection",
            Self::EndedEarly => "the server ended before its answer was complete",
            Self::Timeout => "nothing was acknowledged any more",
            Self::WrongByte => "an answer had a wrong byte",
            Self::TooMuch => "more came than was asked for",
        }
    }
}

/// What the clients did, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Segments received, each with a good checksum.
    pub segments_in: u64,
    /// Segments sent.
    pub segments_out: u64,
    /// Of those, segments that carried only an acknowledgement.
    pub acks_out: u64,
    /// Segments sent again, SYN and FIN included.
    pub resent: u64,
    /// Segments that came out of order and were let go.
    pub out_of_order: u64,
    /// Segments that were old.
    pub old: u64,
    /// Bytes of answers, each compared.
    pub bytes_in: u64,
    /// Bytes of requests, without what was sent again.
    pub bytes_out: u64,
    /// Forged segments sent, which are none of the above.
    pub forged: u64,
    /// Bytes of their frames.
    pub forged_bytes: u64,
}

/// How many clients are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Waiting for the answer to their SYN.
    pub opening: u32,
    /// Established.
    pub open: u32,
    /// Ending, the server's side or their own not yet acknowledged.
    pub closing: u32,
    /// Established with a request under way.
    pub asking: u32,
}

impl Standing {
    pub(super) const fn of(&mut self, state: State) -> Option<&mut u32> {
        match state {
            State::Closed | State::TimeWait => None,
            State::SynSent => Some(&mut self.opening),
            State::Established => Some(&mut self.open),
            State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck => {
                Some(&mut self.closing)
            }
        }
    }
}

//! ICMP messages (RFC 792, RFC 1122 section 3.2.2).

use super::icmp::{Error, Failure, Quoted};
use super::{Malformed, checksum};

/// ICMP's number among the upper-layer protocols.
pub const PROTOCOL: u8 = 1;

/// Bytes of the header every message has, echo messages with identifier and sequence number.
pub const HEADER: usize = 8;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

const FRAGMENTATION_NEEDED: u8 = 4;

/// A received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'f> {
    /// Somebody asks for an echo.
    EchoRequest(Echo<'f>),
    /// An echo we did not ask for.
    EchoReply(Echo<'f>),
    /// An error about a TCP segment.
    Error(Error),
    /// An error about something else, or with too little of what it is about.
    ErrorAboutOther,
    /// Source quench, dead since RFC 6633 (MUST-55).
    SourceQuench,
    /// A redirect: routes are the configuration's.
    Redirect,
    /// A type we do not know, to be discarded (RFC 1122 section 3.2.2).
    Other {
        /// The type.
        kind: u8,
    },
}

/// An echo request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<'f> {
    /// Identifier.
    pub identifier: u16,
    /// Sequence number.
    pub sequence: u16,
    /// The data to be echoed.
    pub data: &'f [u8],
}

impl<'f> Message<'f> {
    /// Reads a message: all of an IPv4 packet's payload.
    ///
    /// # Errors
    /// `IcmpTruncated`, `IcmpChecksum`.
    pub fn parse(bytes: &'f [u8]) -> Result<Self, Malformed> {
        let Some((header, data)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(Malformed::IcmpTruncated);
        };
        if !checksum::is_valid(checksum::sum(bytes, 0)) {
            return Err(Malformed::IcmpChecksum);
        }
        let [kind, code, _, _, i0, i1, s0, s1] = *header;
        let (identifier, sequence) = (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([s0, s1]));
        let echo = Echo { identifier, sequence, data };
        Ok(match kind {
            ECHO_REQUEST => Self::EchoRequest(echo),
            ECHO_REPLY => Self::EchoReply(echo),
            UNREACHABLE if code == FRAGMENTATION_NEEDED => {
                // RFC 1191 section 4: the low 16 bits of the unused word.
                Self::error(data, Failure::PacketTooBig { mtu: sequence.into() })
            }
            UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM => {
                Self::error(data, Failure::Unreachable { kind, code })
            }
            SOURCE_QUENCH => Self::SourceQuench,
            REDIRECT => Self::Redirect,
            kind => Self::Other { kind },
        })
    }

    fn error(data: &[u8], failure: Failure) -> Self {
        Quoted::parse_v4(data)
            .map_or(Self::ErrorAboutOther, |quoted| Self::Error(Error { quoted, failure }))
    }
}

impl Echo<'_> {
    /// Bytes of the message.
    #[must_use]
    pub fn message_len(&self) -> usize {
        HEADER + self.data.len()
    }

    /// Writes an echo reply at the head of `buf` and returns the bytes after it; `None` if they
    /// are fewer than [`Self::message_len`].
    pub fn emit_reply<'b>(&self, buf: &'b mut [u8]) -> Option<&'b mut [u8]> {
        self.emit(ECHO_REPLY, buf)
    }

    /// Writes an echo request, as [`Self::emit_reply`] does a reply.
    pub fn emit_request<'b>(&self, buf: &'b mut [u8]) -> Option<&'b mut [u8]> {
        self.emit(ECHO_REQUEST, buf)
    }

    fn emit<'b>(&self, kind: u8, buf: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let (message, rest) = buf.split_at_mut_checked(self.message_len())?;
        let (header, data) = message.split_first_chunk_mut::<HEADER>()?;
        let sum = checksum::copy_and_sum(data, self.data, 0);
        let ([i0, i1], [s0, s1]) = (self.identifier.to_be_bytes(), self.sequence.to_be_bytes());
        *header = [kind, 0, 0, 0, i0, i1, s0, s1];
        let field = checksum::field(checksum::sum(header, sum));
        header[2..4].copy_from_slice(&field.to_be_bytes());
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: Echo<'_> = Echo { identifier: 77, sequence: 3, data: b"payload" };

    /// Parses a message of this type, code and word, and the IPv4 header of a TCP segment.
    fn parse(
        kind: u8,
        code: u8,
        word: [u8; 4],
        quote: usize,
    ) -> Result<Message<'static>, Malformed> {
        let mut bytes = [0; 36];
        (bytes[0], bytes[1]) = (kind, code);
        bytes[4..8].copy_from_slice(&word);
        bytes[8] = 0x45;
        bytes[17] = 6;
        bytes[28..36].copy_from_slice(&[0, 7, 0, 8, 0, 0, 0, 9]);
        let bytes = &mut bytes[..8 + quote];
        let field = checksum::field(checksum::sum(bytes, 0));
        bytes[2..4].copy_from_slice(&field.to_be_bytes());
        Message::parse(bytes).map(|message| match message {
            Message::Error(error) => Message::Error(error),
            Message::ErrorAboutOther => Message::ErrorAboutOther,
            Message::SourceQuench => Message::SourceQuench,
            Message::Redirect => Message::Redirect,
            Message::Other { kind } => Message::Other { kind },
            Message::EchoRequest(_) | Message::EchoReply(_) => panic!("not an echo"),
        })
    }

    #[test]
    fn echoes_are_read_as_written() {
        let mut bytes = [0; 15];
        assert!(ECHO.emit_request(&mut bytes).unwrap().is_empty());
        assert_eq!(Message::parse(&bytes), Ok(Message::EchoRequest(ECHO)));
        ECHO.emit_reply(&mut bytes).unwrap();
        assert_eq!(Message::parse(&bytes), Ok(Message::EchoReply(ECHO)));
        assert!(ECHO.emit_reply(&mut bytes[..14]).is_none());
        for bit in 0..15 * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Message::parse(&flipped), Err(Malformed::IcmpChecksum));
        }
        assert_eq!(Message::parse(&bytes[..7]), Err(Malformed::IcmpTruncated));
    }

    #[test]
    fn errors_about_tcp_say_what_befell_the_segment() {
        let failure = |kind, code, word| match parse(kind, code, word, 28) {
            Ok(Message::Error(error)) => {
                assert_eq!(
                    (error.quoted.src_port, error.quoted.dst_port, error.quoted.seq),
                    (7, 8, 9)
                );
                error.failure
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(failure(3, 4, [0, 0, 5, 0]), Failure::PacketTooBig { mtu: 1280 });
        assert_eq!(failure(3, 4, [0, 0, 0, 0]), Failure::PacketTooBig { mtu: 0 });
        assert_eq!(failure(3, 3, [0; 4]), Failure::Unreachable { kind: 3, code: 3 });
        assert_eq!(failure(11, 0, [0; 4]), Failure::Unreachable { kind: 11, code: 0 });
        assert_eq!(failure(12, 0, [0; 4]), Failure::Unreachable { kind: 12, code: 0 });
    }

    #[test]
    fn what_is_not_for_us_is_told_apart() {
        assert_eq!(parse(3, 3, [0; 4], 27), Ok(Message::ErrorAboutOther));
        assert_eq!(parse(3, 3, [0; 4], 0), Ok(Message::ErrorAboutOther));
        assert_eq!(parse(4, 0, [0; 4], 28), Ok(Message::SourceQuench));
        assert_eq!(parse(5, 1, [10, 0, 0, 1], 28), Ok(Message::Redirect));
        assert_eq!(parse(13, 0, [0; 4], 28), Ok(Message::Other { kind: 13 }));
    }
}

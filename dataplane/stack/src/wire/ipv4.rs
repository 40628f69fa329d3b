//! IPv4 packets (RFC 791, RFC 1122 section 3.2).

use core::net::Ipv4Addr;

use super::{Malformed, checksum};

/// Bytes of a header without options.
pub const HEADER: usize = 20;

/// Version 4, five words.
const VERSION_AND_LENGTH: u8 = 0x45;

const MORE_FRAGMENTS: u16 = 0x2000;
const DONT_FRAGMENT: u16 = 0x4000;
const OFFSET: u16 = 0x1fff;

/// A received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'f> {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Upper-layer protocol.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// DiffServ code point, 0 to 63 (RFC 2474).
    pub dscp: u8,
    /// ECN code point, 0 to 3 (RFC 3168).
    pub ecn: u8,
    /// Identification: which fragments belong together.
    pub identification: u16,
    /// Whether fragments follow this one.
    pub more_fragments: bool,
    /// Where in the whole packet's payload this fragment lies, in bytes.
    pub fragment_offset: u16,
    /// Whether it came by a route its sender chose (RFC 7126: such packets are to be dropped).
    pub source_routed: bool,
    /// The header with its options.
    pub header: &'f [u8],
    /// The payload, without the padding of short frames.
    pub payload: &'f [u8],
}

impl<'f> Packet<'f> {
    /// Reads a packet: version, lengths and header checksum must be right (RFC 1122 sections
    /// 3.2.1.1 and 3.2.1.2), options are passed over (MUST-50).
    ///
    /// # Errors
    /// `Ipv4Truncated`, `Ipv4Version`, `Ipv4HeaderLength`, `Ipv4TotalLength`, `Ipv4Checksum`,
    /// `Ipv4Option`.
    #[inline]
    pub fn parse(bytes: &'f [u8]) -> Result<Self, Malformed> {
        let Some((fixed, _)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(Malformed::Ipv4Truncated);
        };
        if fixed[0] >> 4 != 4 {
            return Err(Malformed::Ipv4Version);
        }
        let header_len = usize::from(fixed[0] & 0x0f) * 4;
        if header_len < HEADER {
            return Err(Malformed::Ipv4HeaderLength);
        }
        let Some((header, rest)) = bytes.split_at_checked(header_len) else {
            return Err(Malformed::Ipv4HeaderLength);
        };
        let total_len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        let Some(payload) = total_len.checked_sub(header_len).and_then(|len| rest.get(..len))
        else {
            return Err(Malformed::Ipv4TotalLength);
        };
        let mut sum = sum_fixed(fixed);
        let options = header.get(HEADER..).unwrap_or_default();
        if !options.is_empty() {
            sum = checksum::sum(options, sum);
        }
        if !checksum::is_valid(sum) {
            return Err(Malformed::Ipv4Checksum);
        }
        let source_routed = !options.is_empty() && has_source_route(options)?;
        let fragment = u16::from_be_bytes([fixed[6], fixed[7]]);
        Ok(Self {
            src: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
            dst: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]),
            protocol: fixed[9],
            ttl: fixed[8],
            dscp: fixed[1] >> 2,
            ecn: fixed[1] & 3,
            identification: u16::from_be_bytes([fixed[4], fixed[5]]),
            more_fragments: fragment & MORE_FRAGMENTS != 0,
            fragment_offset: (fragment & OFFSET) * 8,
            source_routed,
            header,
            payload,
        })
    }

    /// Whether this is a part of a packet and not a whole one.
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }
}

/// A header to send, without options and with Don't Fragment set: path MTU discovery needs it,
/// and it makes the datagram atomic, so that its identification means nothing (RFC 6864).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Upper-layer protocol.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// DiffServ code point, 0 to 63.
    pub dscp: u8,
    /// ECN code point, 0 to 3.
    pub ecn: u8,
    /// Identification.
    pub identification: u16,
    /// Bytes after the header, at most 65,515.
    pub payload_len: u16,
}

impl Header {
    /// Writes the header with its checksum at the head of `buf` and returns the bytes after it;
    /// `None` if they are fewer than [`HEADER`].
    #[inline]
    pub fn emit<'b>(&self, buf: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let (header, payload) = buf.split_first_chunk_mut::<HEADER>()?;
        let total_len = self.payload_len.saturating_add(HEADER as u16);
        let class = self.dscp << 2 | self.ecn & 3;
        let field = checksum::field(self.sum(class, total_len));
        header[0] = VERSION_AND_LENGTH;
        header[1] = class;
        header[2..4].copy_from_slice(&total_len.to_be_bytes());
        header[4..6].copy_from_slice(&self.identification.to_be_bytes());
        header[6..8].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
        header[8] = self.ttl;
        header[9] = self.protocol;
        header[10..12].copy_from_slice(&field.to_be_bytes());
        header[12..16].copy_from_slice(&self.src.octets());
        header[16..20].copy_from_slice(&self.dst.octets());
        Some(payload)
    }

    /// The header's sum from its fields: reading back what was just written would stall.
    #[inline]
    fn sum(&self, class: u8, total_len: u16) -> u32 {
        let first = u32::from(u16::from_be_bytes([VERSION_AND_LENGTH, class]));
        let fifth = u32::from(u16::from_be_bytes([self.ttl, self.protocol]));
        let (src, dst) = (self.src.to_bits(), self.dst.to_bits());
        let addresses = (src >> 16) + (src & 0xffff) + (dst >> 16) + (dst & 0xffff);
        first
            + u32::from(total_len)
            + u32::from(self.identification)
            + u32::from(DONT_FRAGMENT)
            + fifth
            + addresses
    }
}

/// The sum of a header without options: too short for a loop to pay.
#[inline]
fn sum_fixed(header: &[u8; HEADER]) -> u32 {
    let word = |at: usize| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        u64::from(u32::from_ne_bytes(bytes))
    };
    let native = checksum::fold(word(0) + word(4) + word(8) + word(12) + word(16));
    u32::from(u16::from_be(native as u16))
}

/// Whether the options hold a loose or strict source route (RFC 791 section 3.1). The others are
/// passed over.
#[cold]
fn has_source_route(options: &[u8]) -> Result<bool, Malformed> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    let mut rest = options;
    while let [kind, after @ ..] = rest {
        rest = match (*kind, after) {
            (END, _) => return Ok(false),
            (NOP, _) => after,
            (LOOSE | STRICT, _) => return Ok(true),
            (_, [len, ..]) if *len >= 2 => {
                rest.get(usize::from(*len)..).ok_or(Malformed::Ipv4Option)?
            }
            _ => return Err(Malformed::Ipv4Option),
        };
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER_OUT: Header = Header {
        src: Ipv4Addr::new(10, 77, 0, 2),
        dst: Ipv4Addr::new(10, 77, 0, 1),
        protocol: 6,
        ttl: 64,
        dscp: 46,
        ecn: 2,
        identification: 0xbeef,
        payload_len: 4,
    };

    /// A packet with this many bytes of options and 4 of payload.
    fn packet(options: &[u8]) -> ([u8; 64], usize) {
        let mut bytes = [0; 64];
        HEADER_OUT.emit(&mut bytes).unwrap();
        let header_len = HEADER + options.len();
        bytes[0] = 0x40 | (header_len / 4) as u8;
        bytes[HEADER..header_len].copy_from_slice(options);
        bytes[3] = header_len as u8 + 4;
        reseal(&mut bytes, header_len);
        bytes[header_len..header_len + 4].copy_from_slice(b"data");
        (bytes, header_len + 4)
    }

    fn reseal(bytes: &mut [u8], header_len: usize) {
        bytes[10..12].fill(0);
        let field = checksum::field(checksum::sum(&bytes[..header_len], 0));
        bytes[10..12].copy_from_slice(&field.to_be_bytes());
    }

    #[test]
    fn reads_what_it_writes_and_trims_padding() {
        let (bytes, len) = packet(&[]);
        for padded in [len, len + 1, 46] {
            let parsed = Packet::parse(&bytes[..padded]).unwrap();
            assert_eq!((parsed.src, parsed.dst), (HEADER_OUT.src, HEADER_OUT.dst));
            assert_eq!((parsed.protocol, parsed.ttl), (6, 64));
            assert_eq!((parsed.dscp, parsed.ecn), (46, 2));
            assert_eq!(parsed.identification, 0xbeef);
            assert!(!parsed.is_fragment() && !parsed.source_routed);
            assert_eq!(parsed.payload, b"data");
        }
        assert_eq!(bytes[6] >> 5, 2, "Don't Fragment is set");
        assert!(HEADER_OUT.emit(&mut [0; 19]).is_none());
    }

    #[test]
    fn malformed_packets_have_their_reason() {
        let (good, len) = packet(&[]);
        assert_eq!(Packet::parse(&good[..19]), Err(Malformed::Ipv4Truncated));
        let mutated = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            reseal(&mut bytes, HEADER);
            bytes
        };
        let parse = |bytes: &[u8; 64]| Packet::parse(&bytes[..len]).map(|_| ());
        assert_eq!(parse(&mutated(0, 0x55)), Err(Malformed::Ipv4Version));
        assert_eq!(parse(&mutated(0, 0x44)), Err(Malformed::Ipv4HeaderLength));
        assert_eq!(parse(&mutated(0, 0x4f)), Err(Malformed::Ipv4HeaderLength));
        assert_eq!(parse(&mutated(3, 19)), Err(Malformed::Ipv4TotalLength));
        assert_eq!(parse(&mutated(3, 25)), Err(Malformed::Ipv4TotalLength));
        assert_eq!(parse(&mutated(2, 0xff)), Err(Malformed::Ipv4TotalLength));
        for bit in 0..HEADER * 8 {
            let mut flipped = good;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Packet::parse(&flipped[..len]).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_total_length_of_the_header_alone_is_an_empty_packet() {
        let (mut bytes, _) = packet(&[]);
        bytes[3] = 20;
        reseal(&mut bytes, HEADER);
        assert_eq!(Packet::parse(&bytes).unwrap().payload, b"");
    }

    #[test]
    fn options_are_passed_over_but_for_source_routes() {
        let parse = |options: &[u8]| {
            let (bytes, len) = packet(options);
            Packet::parse(&bytes[..len]).map(|packet| {
                assert_eq!(packet.payload, b"data");
                packet.source_routed
            })
        };
        assert_eq!(parse(&[1, 1, 1, 0]), Ok(false));
        assert_eq!(parse(&[148, 4, 0, 0]), Ok(false), "router alert");
        assert_eq!(parse(&[200, 3, 9, 1, 222, 2, 0, 7]), Ok(false), "unknown");
        assert_eq!(parse(&[131, 7, 4, 10, 0, 0, 1, 0]), Ok(true));
        assert_eq!(parse(&[1, 137, 7, 4, 10, 0, 0, 1]), Ok(true));
        assert_eq!(parse(&[0, 131, 7, 4]), Ok(false), "after the end of the list");
        assert_eq!(parse(&[7, 0, 0, 0]), Err(Malformed::Ipv4Option));
        assert_eq!(parse(&[7, 1, 0, 0]), Err(Malformed::Ipv4Option));
        assert_eq!(parse(&[7, 5, 0, 0]), Err(Malformed::Ipv4Option));
        assert_eq!(parse(&[1, 1, 1, 7]), Err(Malformed::Ipv4Option));
    }

    #[test]
    fn fragments_say_so() {
        for (flags, is_fragment, offset) in [
            (0x4000u16, false, 0),
            (0x2000, true, 0),
            (0x0001, true, 8),
            (0x3fff, true, 65_528),
            (0x8000, false, 0),
        ] {
            let (mut bytes, len) = packet(&[]);
            bytes[6..8].copy_from_slice(&flags.to_be_bytes());
            reseal(&mut bytes, HEADER);
            let parsed = Packet::parse(&bytes[..len]).unwrap();
            assert_eq!((parsed.is_fragment(), parsed.fragment_offset), (is_fragment, offset));
        }
    }
}

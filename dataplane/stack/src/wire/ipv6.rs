//! IPv6 packets and the walk along their extension headers (RFC 8200).

use core::net::Ipv6Addr;

use super::Malformed;

/// Bytes of the fixed header.
pub const HEADER: usize = 40;

/// Extension headers walked before a packet is given up. RFC 8504 section 5.3 lets a node set
/// such a bound; no honest sender comes near it.
pub const EXTENSIONS_MAX: usize = 8;

/// The next-header value of a packet with nothing after its headers.
pub const NO_NEXT_HEADER: u8 = 59;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Whether a packet came with a fragment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// It did not.
    None,
    /// It did, and is all the same whole: an atomic fragment, to be processed by itself
    /// (RFC 6946).
    Atomic,
    /// It is a part of a packet.
    Part {
        /// Which fragments belong together.
        identification: u32,
        /// Where this one lies in the fragmentable part, in bytes.
        offset: u16,
        /// Whether more follow.
        more: bool,
    },
}

/// A received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'f> {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Upper-layer protocol: the next header of the last extension header. Of a
    /// [`Fragment::Part`], what its whole packet has after the fragment header.
    pub protocol: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// DiffServ code point, 0 to 63.
    pub dscp: u8,
    /// ECN code point, 0 to 3.
    pub ecn: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Whether it came with a fragment header.
    pub fragment: Fragment,
    /// The bytes after the extension headers, without the padding of short frames.
    pub payload: &'f [u8],
}

impl<'f> Packet<'f> {
    /// Reads a packet and walks to its upper layer.
    ///
    /// # Errors
    /// `Ipv6Truncated`, `Ipv6Version`, `Ipv6PayloadLength`, `Ipv6ExtensionLength`,
    /// `Ipv6ExtensionChain`, `Ipv6Option`, `Ipv6Routing`.
    #[inline]
    pub fn parse(bytes: &'f [u8]) -> Result<Self, Malformed> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(Malformed::Ipv6Truncated);
        };
        let first = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        if first >> 28 != 6 {
            return Err(Malformed::Ipv6Version);
        }
        let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let Some(payload) = rest.get(..payload_len) else {
            return Err(Malformed::Ipv6PayloadLength);
        };
        let upper = match header[6] {
            HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION => walk(header[6], payload)?,
            protocol => Upper { protocol, fragment: Fragment::None, payload },
        };
        Ok(Self {
            src: address(header, 8),
            dst: address(header, 24),
            protocol: upper.protocol,
            hop_limit: header[7],
            dscp: (first >> 22) as u8 & 0x3f,
            ecn: (first >> 20) as u8 & 3,
            flow_label: first & 0x000f_ffff,
            fragment: upper.fragment,
            payload: upper.payload,
        })
    }
}

/// A header to send, without extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Upper-layer protocol.
    pub protocol: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// DiffServ code point, 0 to 63.
    pub dscp: u8,
    /// ECN code point, 0 to 3.
    pub ecn: u8,
    /// Flow label, 20 bits (RFC 6437).
    pub flow_label: u32,
    /// Bytes after the header.
    pub payload_len: u16,
}

impl Header {
    /// Writes the header at the head of `buf` and returns the bytes after it; `None` if they are
    /// fewer than [`HEADER`].
    pub fn emit<'b>(&self, buf: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let (header, payload) = buf.split_first_chunk_mut::<HEADER>()?;
        let class = u32::from(self.dscp & 0x3f) << 2 | u32::from(self.ecn & 3);
        let first = 6 << 28 | class << 20 | self.flow_label & 0x000f_ffff;
        header[..4].copy_from_slice(&first.to_be_bytes());
        header[4..6].copy_from_slice(&self.payload_len.to_be_bytes());
        header[6] = self.protocol;
        header[7] = self.hop_limit;
        header[8..24].copy_from_slice(&self.src.octets());
        header[24..].copy_from_slice(&self.dst.octets());
        Some(payload)
    }
}

/// What the extension headers lead to.
struct Upper<'f> {
    protocol: u8,
    fragment: Fragment,
    payload: &'f [u8],
}

/// What stands in a packet put together from fragments: the protocol and the bytes of its upper
/// layer, after the headers that were fragmented with it.
///
/// # Errors
/// As of [`Packet::parse`]; another fragment header is `Ipv6ExtensionChain`.
pub fn upper_layer(protocol: u8, payload: &[u8]) -> Result<(u8, &[u8]), Malformed> {
    match protocol {
        HOP_BY_HOP | FRAGMENT => Err(Malformed::Ipv6ExtensionChain),
        ROUTING | DESTINATION => {
            let upper = walk(protocol, payload)?;
            match upper.fragment {
                Fragment::None => Ok((upper.protocol, upper.payload)),
                _ => Err(Malformed::Ipv6ExtensionChain),
            }
        }
        _ => Ok((protocol, payload)),
    }
}

/// Walks the extension headers (RFC 8200 section 4). Hop-by-hop options may only stand first
/// (section 4.1); a fragment that is only a part ends the walk, for what follows it may not be
/// here.
#[cold]
fn walk(first: u8, payload: &[u8]) -> Result<Upper<'_>, Malformed> {
    let mut upper = Upper { protocol: first, fragment: Fragment::None, payload };
    for place in 0..EXTENSIONS_MAX {
        let (header, rest) = match upper.protocol {
            HOP_BY_HOP if place != 0 => return Err(Malformed::Ipv6ExtensionChain),
            HOP_BY_HOP | DESTINATION => {
                let (header, rest) = split_extension(upper.payload)?;
                check_options(header.get(2..).unwrap_or_default())?;
                (header, rest)
            }
            ROUTING => {
                let (header, rest) = split_extension(upper.payload)?;
                // Nothing is forwarded here, and types with segments left that we do not know
                // (all of them; type 0 is dead by RFC 5095) are to be discarded (section 4.4).
                if header.get(3) != Some(&0) {
                    return Err(Malformed::Ipv6Routing);
                }
                (header, rest)
            }
            FRAGMENT => {
                if upper.fragment != Fragment::None {
                    return Err(Malformed::Ipv6ExtensionChain);
                }
                let (protocol, fragment, rest) = split_fragment(upper.payload)?;
                upper = Upper { protocol, fragment, payload: rest };
                if fragment != Fragment::Atomic {
                    return Ok(upper);
                }
                continue;
            }
            _ => return Ok(upper),
        };
        let protocol = header.first().copied().unwrap_or(NO_NEXT_HEADER);
        upper = Upper { protocol, payload: rest, ..upper };
    }
    match upper.protocol {
        HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION => Err(Malformed::Ipv6ExtensionChain),
        _ => Ok(upper),
    }
}

/// Cuts an extension header of the common form off: next header, length in 8-byte units without
/// the first.
fn split_extension(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let len = bytes.get(1).map(|units| (usize::from(*units) + 1) * 8);
    len.and_then(|len| bytes.split_at_checked(len)).ok_or(Malformed::Ipv6ExtensionLength)
}

/// Cuts a fragment header off (section 4.5).
fn split_fragment(bytes: &[u8]) -> Result<(u8, Fragment, &[u8]), Malformed> {
    let Some(([protocol, _, o0, o1, i0, i1, i2, i3], rest)) = bytes.split_first_chunk::<8>() else {
        return Err(Malformed::Ipv6ExtensionLength);
    };
    let field = u16::from_be_bytes([*o0, *o1]);
    let (offset, more) = (field & 0xfff8, field & 1 != 0);
    if offset == 0 && !more {
        return Ok((*protocol, Fragment::Atomic, rest));
    }
    let identification = u32::from_be_bytes([*i0, *i1, *i2, *i3]);
    Ok((*protocol, Fragment::Part { identification, offset, more }, rest))
}

/// Goes through a header's options: those we do not know (all but padding) are passed over or
/// refused as their two highest bits say (section 4.2). Jumbo payloads are refused this way.
fn check_options(options: &[u8]) -> Result<(), Malformed> {
    const PAD_1: u8 = 0;
    let mut rest = options;
    while let [kind, after @ ..] = rest {
        if *kind == PAD_1 {
            rest = after;
            continue;
        }
        if kind >> 6 != 0 {
            return Err(Malformed::Ipv6Option);
        }
        let len = after.first().map(|len| usize::from(*len) + 2);
        rest = len.and_then(|len| rest.get(len..)).ok_or(Malformed::Ipv6ExtensionLength)?;
    }
    Ok(())
}

/// The address that stands at `at` in a header.
fn address(header: &[u8; HEADER], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    Ipv6Addr::from(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(protocol: u8, payload_len: u16) -> Header {
        Header {
            src: "fd77::1".parse().unwrap(),
            dst: "fd77::2".parse().unwrap(),
            protocol,
            hop_limit: 255,
            dscp: 10,
            ecn: 1,
            flow_label: 0xabcde,
            payload_len,
        }
    }

    /// Parses a packet of these extension headers and payload, with 6 bytes of padding behind.
    fn parse<T>(
        protocol: u8,
        payload: &[u8],
        look: impl FnOnce(Packet<'_>) -> T,
    ) -> Result<T, Malformed> {
        let mut bytes = [0xee; 1200];
        let rest = header(protocol, payload.len() as u16).emit(&mut bytes).unwrap();
        rest[..payload.len()].copy_from_slice(payload);
        Packet::parse(&bytes[..HEADER + payload.len() + 6]).map(look)
    }

    #[test]
    fn reads_what_it_writes_and_trims_padding() {
        parse(6, b"data", |packet| {
            let out = header(6, 4);
            assert_eq!((packet.src, packet.dst), (out.src, out.dst));
            assert_eq!((packet.protocol, packet.hop_limit), (6, 255));
            assert_eq!((packet.dscp, packet.ecn, packet.flow_label), (10, 1, 0xabcde));
            assert_eq!((packet.fragment, packet.payload), (Fragment::None, &b"data"[..]));
        })
        .unwrap();
        assert!(header(6, 4).emit(&mut [0; 39]).is_none());
    }

    #[test]
    fn malformed_packets_have_their_reason() {
        let mut bytes = [0; 60];
        header(6, 20).emit(&mut bytes).unwrap();
        assert_eq!(Packet::parse(&bytes[..39]), Err(Malformed::Ipv6Truncated));
        assert_eq!(Packet::parse(&bytes[..59]), Err(Malformed::Ipv6PayloadLength));
        bytes[0] = 0x50;
        assert_eq!(Packet::parse(&bytes), Err(Malformed::Ipv6Version));
    }

    #[test]
    fn the_walk_ends_at_the_upper_layer() {
        let chain = [
            [DESTINATION, 0, 1, 4, 0, 0, 0, 0],
            [ROUTING, 0, 0, 0, 0, 0, 0, 0],
            [FRAGMENT, 0, 4, 0, 0, 0, 0, 0],
            [6, 0, 0, 0, 0, 0, 0, 7],
        ];
        parse(HOP_BY_HOP, chain.as_flattened(), |packet| {
            assert_eq!((packet.protocol, packet.fragment), (6, Fragment::Atomic));
            assert_eq!(packet.payload, b"");
        })
        .unwrap();
    }

    #[test]
    fn chains_are_bounded_and_ordered() {
        let pad = |next| [next, 0, 1, 4, 0, 0, 0, 0];
        let mut chain = [pad(DESTINATION); 100];
        assert_eq!(
            parse(DESTINATION, chain.as_flattened(), |_| ()),
            Err(Malformed::Ipv6ExtensionChain)
        );
        chain[EXTENSIONS_MAX - 1] = pad(58);
        assert_eq!(
            parse(DESTINATION, chain[..EXTENSIONS_MAX].as_flattened(), |packet| packet.protocol),
            Ok(58)
        );
        let late = [pad(HOP_BY_HOP), pad(6)];
        assert_eq!(
            parse(DESTINATION, late.as_flattened(), |_| ()),
            Err(Malformed::Ipv6ExtensionChain)
        );
        let twice = [[FRAGMENT, 0, 0, 0, 0, 0, 0, 1], [6, 0, 0, 0, 0, 0, 0, 1]];
        assert_eq!(
            parse(FRAGMENT, twice.as_flattened(), |_| ()),
            Err(Malformed::Ipv6ExtensionChain)
        );
    }

    #[test]
    fn unknown_options_are_treated_as_their_bits_say() {
        let with = |kind: u8, len: u8| parse(HOP_BY_HOP, &[6, 0, kind, len, 0, 0, 0, 0], |_| ());
        assert_eq!(with(0x1e, 4), Ok(()));
        for kind in [0x5e, 0x9e, 0xde, 0xc2] {
            assert_eq!(with(kind, 4), Err(Malformed::Ipv6Option), "kind {kind:#x}");
        }
        assert_eq!(with(0x1e, 5), Err(Malformed::Ipv6ExtensionLength));
        assert_eq!(
            parse(HOP_BY_HOP, &[6, 0, 0, 0, 0, 0, 0, 0x1e], |_| ()),
            Err(Malformed::Ipv6ExtensionLength)
        );
    }

    #[test]
    fn extensions_beyond_the_packet_and_routes_are_refused() {
        for first in [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION] {
            assert_eq!(parse(first, &[6], |_| ()), Err(Malformed::Ipv6ExtensionLength));
        }
        assert_eq!(
            parse(DESTINATION, &[6, 1, 1, 4, 0, 0, 0, 0], |_| ()),
            Err(Malformed::Ipv6ExtensionLength)
        );
        assert_eq!(parse(ROUTING, &[6, 0, 0, 1, 0, 0, 0, 0], |_| ()), Err(Malformed::Ipv6Routing));
    }

    #[test]
    fn parts_end_the_walk() {
        parse(FRAGMENT, &[DESTINATION, 0, 0x12, 0x39, 0, 0, 1, 2, 9, 9], |packet| {
            let part = Fragment::Part { identification: 0x102, offset: 0x1238, more: true };
            assert_eq!((packet.protocol, packet.fragment), (DESTINATION, part));
            assert_eq!(packet.payload, [9, 9]);
        })
        .unwrap();
        parse(FRAGMENT, &[6, 0, 0, 1, 0, 0, 0, 9], |packet| {
            let first = Fragment::Part { identification: 9, offset: 0, more: true };
            assert_eq!(packet.fragment, first);
        })
        .unwrap();
    }
}

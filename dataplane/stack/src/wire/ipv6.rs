//! IPv6 packets (RFC 8200). What stands between their header and their upper layer is walked along
//! in [`super::extensions`].

use core::net::Ipv6Addr;

use super::Malformed;
use super::extensions::{self, DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING, Upper};

/// Bytes of the fixed header.
pub const HEADER: usize = 40;

/// Least MTU a link can have, in bytes (RFC 8200 section 5).
pub const MTU_MIN: usize = 1280;

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
        let (header, payload) = split(bytes)?;
        let first = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        let upper = match header[6] {
            HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION => {
                extensions::walk(header[6], payload).map_err(|refusal| refusal.malformed)?
            }
            protocol => Upper { protocol, named_at: 6, fragment: Fragment::None, payload },
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

/// What stands in a packet put together from fragments: the protocol and the bytes of its upper
/// layer, after the headers that were fragmented with it.
///
/// # Errors
/// As of [`Packet::parse`]; another fragment header is `Ipv6ExtensionChain`.
pub fn upper_layer(protocol: u8, payload: &[u8]) -> Result<(u8, &[u8]), Malformed> {
    match protocol {
        HOP_BY_HOP | FRAGMENT => Err(Malformed::Ipv6ExtensionChain),
        ROUTING | DESTINATION => {
            let walked = extensions::walk(protocol, payload);
            let upper = walked.map_err(|refusal| refusal.malformed)?;
            match upper.fragment {
                Fragment::None => Ok((upper.protocol, upper.payload)),
                _ => Err(Malformed::Ipv6ExtensionChain),
            }
        }
        _ => Ok((protocol, payload)),
    }
}

/// Cuts a packet off what stands behind it in its frame, and its payload off its header.
#[inline]
pub(super) fn split(bytes: &[u8]) -> Result<(&[u8; HEADER], &[u8]), Malformed> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(Malformed::Ipv6Truncated);
    };
    if header[0] >> 4 != 6 {
        return Err(Malformed::Ipv6Version);
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    match rest.get(..payload_len) {
        Some(payload) => Ok((header, payload)),
        None => Err(Malformed::Ipv6PayloadLength),
    }
}

/// The address that stands at `at` in a header.
pub(super) fn address(header: &[u8; HEADER], at: usize) -> Ipv6Addr {
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
}

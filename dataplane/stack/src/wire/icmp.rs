//! What ICMP and ICMPv6 have in common: the packet an error is about, and what the error means
//! to the TCP that sent it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ipv4, ipv6, tcp};

/// A TCP segment of ours that an ICMP error quotes, as far as it is quoted: 8 bytes of the TCP
/// header, which RFC 792 and RFC 4443 promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Source address of the quoted packet: ours, if it is really our packet.
    pub src: IpAddr,
    /// Its destination address.
    pub dst: IpAddr,
    /// Its source port.
    pub src_port: u16,
    /// Its destination port.
    pub dst_port: u16,
    /// Length of the whole packet, in bytes, as its header says.
    pub len: u32,
    /// Its sequence number, which must be in flight for the error to be believed (RFC 5927
    /// section 4.1).
    pub seq: u32,
}

/// What an ICMP error tells the connection it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The packet was too big for a link on its way: fragmentation needed (RFC 1191), or packet
    /// too big (RFC 8201).
    PacketTooBig {
        /// Largest IP packet the link takes, in bytes, as the router says; 0 if it does not.
        mtu: u32,
    },
    /// Network, host, protocol or port unreachable, time exceeded, or a parameter problem: for
    /// an established connection all of them are soft errors (MUST-56, RFC 5927 section 5.2).
    Unreachable {
        /// The message's type.
        kind: u8,
        /// The message's code.
        code: u8,
    },
}

/// An ICMP error about a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The segment.
    pub quoted: Quoted,
    /// What befell it.
    pub failure: Failure,
}

impl Quoted {
    /// Reads the IPv4 packet quoted in an ICMP error. `None` if it is not the head of an
    /// unfragmented TCP segment. Its lengths and checksums are not looked at, for the quote is cut
    /// off and routers have changed it.
    #[must_use]
    pub fn parse_v4(bytes: &[u8]) -> Option<Self> {
        let (header, _) = bytes.split_first_chunk::<{ ipv4::HEADER }>()?;
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
        let ours = header[0] >> 4 == 4 && header[9] == tcp::PROTOCOL && fragment_offset == 0;
        if !ours || header_len < ipv4::HEADER {
            return None;
        }
        let src = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
        let dst = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
        let len = u16::from_be_bytes([header[2], header[3]]).into();
        Self::parse_tcp(src.into(), dst.into(), len, bytes.get(header_len..)?)
    }

    /// Reads the IPv6 packet quoted in an ICMPv6 error. `None` if it is not the head of a TCP
    /// segment without extension headers: we send none.
    #[must_use]
    pub fn parse_v6(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<{ ipv6::HEADER }>()?;
        if header[0] >> 4 != 6 || header[6] != tcp::PROTOCOL {
            return None;
        }
        let (mut src, mut dst) = ([0; 16], [0; 16]);
        src.copy_from_slice(&header[8..24]);
        dst.copy_from_slice(&header[24..]);
        let payload_len = u16::from_be_bytes([header[4], header[5]]);
        let len = u32::from(payload_len) + ipv6::HEADER as u32;
        Self::parse_tcp(Ipv6Addr::from(src).into(), Ipv6Addr::from(dst).into(), len, rest)
    }

    fn parse_tcp(src: IpAddr, dst: IpAddr, len: u32, bytes: &[u8]) -> Option<Self> {
        let ([s0, s1, d0, d1, q0, q1, q2, q3], _) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            src,
            dst,
            len,
            src_port: u16::from_be_bytes([*s0, *s1]),
            dst_port: u16::from_be_bytes([*d0, *d1]),
            seq: u32::from_be_bytes([*q0, *q1, *q2, *q3]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_segment_is_read_up_to_its_sequence_number() {
        let header = ipv4::Header {
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
            protocol: tcp::PROTOCOL,
            ttl: 1,
            dscp: 0,
            ecn: 0,
            identification: 0,
            payload_len: 1460,
        };
        let mut bytes = [0; 28];
        let rest = header.emit(&mut bytes).unwrap();
        rest.copy_from_slice(&[0, 7, 0x9c, 0x40, 1, 2, 3, 4]);
        let quoted = Quoted::parse_v4(&bytes).unwrap();
        assert_eq!((quoted.src, quoted.dst), (header.src.into(), header.dst.into()));
        assert_eq!((quoted.src_port, quoted.dst_port, quoted.seq), (7, 40_000, 0x0102_0304));
        assert_eq!(quoted.len, 1480);
        for len in 0..28 {
            assert_eq!(Quoted::parse_v4(&bytes[..len]), None);
        }
        for (at, value) in [(0, 0x55), (0, 0x44), (0, 0x46), (9, 17), (7, 1)] {
            let mut other = bytes;
            other[at] = value;
            assert_eq!(Quoted::parse_v4(&other), None, "byte {at}");
        }
    }

    #[test]
    fn a_quoted_ipv6_segment_is_read_up_to_its_sequence_number() {
        let header = ipv6::Header {
            src: "fd77::2".parse().unwrap(),
            dst: "fd77::1".parse().unwrap(),
            protocol: tcp::PROTOCOL,
            hop_limit: 1,
            dscp: 0,
            ecn: 0,
            flow_label: 0,
            payload_len: 1440,
        };
        let mut bytes = [0; 48];
        header.emit(&mut bytes).unwrap().copy_from_slice(&[0, 7, 0x9c, 0x40, 1, 2, 3, 4]);
        let quoted = Quoted::parse_v6(&bytes).unwrap();
        assert_eq!((quoted.src, quoted.dst), (header.src.into(), header.dst.into()));
        assert_eq!((quoted.src_port, quoted.dst_port, quoted.seq), (7, 40_000, 0x0102_0304));
        assert_eq!(quoted.len, 1480);
        for len in 0..48 {
            assert_eq!(Quoted::parse_v6(&bytes[..len]), None);
        }
        bytes[6] = 44;
        assert_eq!(Quoted::parse_v6(&bytes), None);
    }
}

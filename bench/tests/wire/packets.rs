//! Frames made and read by hand, byte for byte from the RFCs and by none of the stack's code: what is
//! sent can be wrong in any place, what comes back must be right in every one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) type Mac = [u8; 6];

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IPV6: u16 = 0x86dd;

pub(crate) const FIN: u16 = 0x01;
pub(crate) const SYN: u16 = 0x02;
pub(crate) const RST: u16 = 0x04;
pub(crate) const PSH: u16 = 0x08;
pub(crate) const ACK: u16 = 0x10;
pub(crate) const URG: u16 = 0x20;
pub(crate) const ECE: u16 = 0x40;
pub(crate) const CWR: u16 = 0x80;
/// Accurate ECN's third bit (RFC 9768), once the nonce sum.
pub(crate) const AE: u16 = 0x100;

/// Bytes before a packet in an untagged frame.
pub(crate) const ETHERNET: usize = 14;

/// A TCP segment without its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tcp {
    pub(crate) from: u16,
    pub(crate) to: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    /// With the reserved bits, 12 in all.
    pub(crate) flags: u16,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    /// Filled up with zeroes to whole words.
    pub(crate) options: Vec<u8>,
    pub(crate) text: Vec<u8>,
}

impl Tcp {
    /// The bytes, their checksum zero.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let words = u16::try_from(5 + options.len() / 4).expect("at most 40 bytes of options");
        assert!(words <= 15, "at most 40 bytes of options");
        let mut bytes = Vec::with_capacity(60 + self.text.len());
        bytes.extend(self.from.to_be_bytes());
        bytes.extend(self.to.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend((words << 12 | self.flags & 0xfff).to_be_bytes());
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(options);
        bytes.extend(&self.text);
        bytes
    }

    pub(crate) fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// The bytes of an option of this kind without kind and length; `None` if it is not there.
    pub(crate) fn option(&self, kind: u8) -> Option<&[u8]> {
        let mut rest = &self.options[..];
        loop {
            match rest {
                [] | [0, ..] => return None,
                [1, after @ ..] => rest = after,
                [found, len, ..] => {
                    let len = usize::from(*len);
                    assert!((2..=rest.len()).contains(&len), "what we are sent has whole options");
                    if *found == kind {
                        return Some(&rest[2..len]);
                    }
                    rest = &rest[len..];
                }
                [_] => panic!("an option without its length"),
            }
        }
    }

    /// Timestamps: value and echo.
    pub(crate) fn stamps(&self) -> Option<(u32, u32)> {
        self.option(8).map(|bytes| (be32(bytes, 0), be32(bytes, 4)))
    }

    /// SACK blocks.
    pub(crate) fn sacks(&self) -> Vec<(u32, u32)> {
        let blocks = self.option(5).unwrap_or_default().chunks(8);
        blocks.map(|block| (be32(block, 0), be32(block, 4))).collect()
    }

    /// This segment with other bits.
    pub(crate) fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    /// This segment with its number so much further on.
    pub(crate) fn seq(mut self, by: i64) -> Self {
        self.seq = moved(self.seq, by);
        self
    }

    /// This segment with its acknowledgement so much further on.
    pub(crate) fn ack(mut self, by: i64) -> Self {
        self.ack = moved(self.ack, by);
        self
    }

    pub(crate) fn text(mut self, text: &[u8]) -> Self {
        self.text = text.to_vec();
        self
    }

    pub(crate) fn with(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }
}

pub(crate) fn moved(number: u32, by: i64) -> u32 {
    number.wrapping_add(u32::try_from(by & 0xffff_ffff).expect("32 bits"))
}

/// How far `a` is beyond `b`.
pub(crate) fn since(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

/// The option that tells a segment size.
pub(crate) fn mss(size: u16) -> Vec<u8> {
    let [high, low] = size.to_be_bytes();
    vec![2, 4, high, low]
}

/// NOP, NOP, timestamps.
pub(crate) fn stamps(value: u32, echo: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat()
}

/// NOP, NOP, SACK.
pub(crate) fn sacks(blocks: &[(u32, u32)]) -> Vec<u8> {
    let len = u8::try_from(2 + 8 * blocks.len()).expect("four blocks at most");
    let mut option = vec![1, 1, 5, len];
    for (left, right) in blocks {
        option.extend(left.to_be_bytes());
        option.extend(right.to_be_bytes());
    }
    option
}

/// The sum of 16-bit words in ones' complement, folded (RFC 1071).
fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        for word in part.chunks(2) {
            sum += u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0));
        }
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let len = u32::try_from(len).expect("a packet is short");
    let mut bytes = Vec::new();
    for ip in [src, dst] {
        match ip {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    bytes.extend(len.to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

/// Where the checksum of an upper layer stands.
fn checksum_at(protocol: u8) -> usize {
    if protocol == 6 { 16 } else { 2 }
}

/// Writes the checksum of a TCP segment or an ICMP message.
pub(crate) fn seal(src: IpAddr, dst: IpAddr, protocol: u8, body: &mut [u8]) {
    let at = checksum_at(protocol);
    body[at..at + 2].fill(0);
    let pseudo = pseudo_header(src, dst, protocol, body.len());
    let field = if protocol == 1 { !sum(&[body]) } else { !sum(&[&pseudo, body]) };
    body[at..at + 2].copy_from_slice(&field.to_be_bytes());
}

/// Writes the checksum of the IPv4 header at the head of `packet`.
pub(crate) fn seal_ipv4(packet: &mut [u8]) {
    let len = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let field = !sum(&[&packet[..len]]);
    packet[10..12].copy_from_slice(&field.to_be_bytes());
}

/// An IPv4 header with these options, and what follows it; `fragment` is the field of flags and
/// offset.
pub(crate) fn ipv4_with(
    (src, dst): (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    (identification, fragment): (u16, u16),
    options: &[u8],
    body: &[u8],
) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0, "whole words");
    let header = 20 + options.len();
    let total = u16::try_from(header + body.len()).expect("a packet is short");
    let mut packet = vec![0x40 | u8::try_from(header / 4).expect("at most 15 words"), 0];
    packet.extend(total.to_be_bytes());
    packet.extend(identification.to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(options);
    packet.extend(body);
    seal_ipv4(&mut packet);
    packet
}

/// An IPv6 header and what follows it.
pub(crate) fn ipv6(
    (src, dst): (Ipv6Addr, Ipv6Addr),
    next: u8,
    hop_limit: u8,
    body: &[u8],
) -> Vec<u8> {
    let len = u16::try_from(body.len()).expect("a packet is short");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(body);
    packet
}

/// A whole packet of either family around a body whose checksum is right.
pub(crate) fn packet(src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            ipv4_with((src, dst), protocol, (0, 0x4000), &[], body)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => ipv6((src, dst), protocol, 255, body),
        _ => panic!("{src} and {dst} are of two families"),
    }
}

/// A packet of either family around a TCP segment.
pub(crate) fn tcp_packet(src: IpAddr, dst: IpAddr, tcp: &Tcp) -> Vec<u8> {
    let mut body = tcp.bytes();
    seal(src, dst, 6, &mut body);
    packet(src, dst, 6, &body)
}

/// A frame; shorter than 60 bytes it is not filled up.
pub(crate) fn frame(to: Mac, from: Mac, ethertype: u16, body: &[u8]) -> Vec<u8> {
    [&to[..], &from, &ethertype.to_be_bytes(), body].concat()
}

/// The EtherType of an address's family.
pub(crate) fn ethertype(ip: IpAddr) -> u16 {
    if ip.is_ipv4() { IPV4 } else { IPV6 }
}

/// An ARP packet for IPv4 over Ethernet.
pub(crate) fn arp(
    operation: u16,
    (sender_mac, sender): (Mac, Ipv4Addr),
    (target_mac, target): (Mac, Ipv4Addr),
) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(sender_mac);
    packet.extend(sender.octets());
    packet.extend(target_mac);
    packet.extend(target.octets());
    packet
}

/// A frame that was received, taken apart. All of its checksums were right.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) to: Mac,
    pub(crate) from: Mac,
    pub(crate) what: What,
    /// As it came.
    pub(crate) bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Arp {
        operation: u16,
        sender: (Mac, Ipv4Addr),
        target: Ipv4Addr,
    },
    Tcp {
        src: IpAddr,
        dst: IpAddr,
        tcp: Tcp,
    },
    /// ICMP or ICMPv6: type and the bytes after the checksum.
    Icmp {
        src: IpAddr,
        dst: IpAddr,
        kind: u8,
        rest: Vec<u8>,
    },
}

impl Seen {
    /// # Panics
    /// When anything of it is not as the RFCs have it.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let wrong = || -> ! { panic!("no frame anybody should send: {bytes:02x?}") };
        if bytes.len() < ETHERNET {
            wrong();
        }
        let (to, from) = (mac_at(bytes, 0), mac_at(bytes, 6));
        let packet = &bytes[ETHERNET..];
        let what = match be16(bytes, 12) {
            ARP if packet.len() >= 28 && packet[..6] == [0, 1, 8, 0, 6, 4] => What::Arp {
                operation: be16(packet, 6),
                sender: (mac_at(packet, 8), ipv4_at(packet, 14)),
                target: ipv4_at(packet, 24),
            },
            IPV4 => {
                let len = usize::from(packet[0] & 15) * 4;
                let total = usize::from(be16(packet, 2));
                if packet[0] >> 4 != 4 || len < 20 || total > packet.len() || total < len {
                    wrong();
                }
                assert_eq!(sum(&[&packet[..len]]), 0xffff, "IPv4 checksum of {bytes:02x?}");
                let (src, dst) = (ipv4_at(packet, 12), ipv4_at(packet, 16));
                upper(src.into(), dst.into(), packet[9], &packet[len..total])
            }
            IPV6 => {
                let total = 40 + usize::from(be16(packet, 4));
                if packet[0] >> 4 != 6 || total > packet.len() {
                    wrong();
                }
                let (src, dst) = (ipv6_at(packet, 8), ipv6_at(packet, 24));
                upper(src.into(), dst.into(), packet[6], &packet[40..total])
            }
            _ => wrong(),
        };
        Self { to, from, what, bytes: bytes.to_vec() }
    }
}

fn upper(src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8]) -> What {
    let pseudo = pseudo_header(src, dst, protocol, body.len());
    let folded = if protocol == 1 { sum(&[body]) } else { sum(&[&pseudo, body]) };
    assert_eq!(folded, 0xffff, "checksum of protocol {protocol} in {body:02x?}");
    match protocol {
        6 => {
            let len = usize::from(body[12] >> 4) * 4;
            assert!(len >= 20 && len <= body.len(), "data offset in {body:02x?}");
            let tcp = Tcp {
                from: be16(body, 0),
                to: be16(body, 2),
                seq: be32(body, 4),
                ack: be32(body, 8),
                flags: be16(body, 12) & 0xfff,
                window: be16(body, 14),
                urgent: be16(body, 18),
                options: body[20..len].to_vec(),
                text: body[len..].to_vec(),
            };
            What::Tcp { src, dst, tcp }
        }
        1 | 58 => What::Icmp { src, dst, kind: body[0], rest: body[4..].to_vec() },
        _ => panic!("nobody here speaks protocol {protocol}"),
    }
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().expect("two"))
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"))
}

fn mac_at(bytes: &[u8], at: usize) -> Mac {
    bytes[at..at + 6].try_into().expect("six")
}

fn ipv4_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    be32(bytes, at).into()
}

fn ipv6_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    let octets: [u8; 16] = bytes[at..at + 16].try_into().expect("sixteen");
    octets.into()
}

//! Frames to the stack, made by the rules, and frames from it, which have to be.

use std::net::IpAddr;

use xtcp_stack::wire::checksum::PseudoHeader;
use xtcp_stack::wire::ethernet::{self, EtherType, Frame};
use xtcp_stack::wire::tcp::{self, Flags, Segment};
use xtcp_stack::wire::{checksum, icmpv4, icmpv6, ipv4, ipv6};

use super::{OUR_MAC, OUR_V4, OUR_V6, THEIR_MAC};

pub(super) fn frame_of(src: IpAddr, header: &tcp::Header, text: &[u8]) -> Vec<u8> {
    let len = header.header_len() + text.len();
    let payload_len = u16::try_from(len).expect("it fits");
    let (dst, ip_len, ethertype) = match src {
        IpAddr::V4(_) => (IpAddr::V4(OUR_V4), ipv4::HEADER, EtherType::IPV4),
        IpAddr::V6(_) => (IpAddr::V6(OUR_V6), ipv6::HEADER, EtherType::IPV6),
    };
    let mut frame = vec![0; ethernet::HEADER + ip_len + len];
    let packet = ethernet::emit(&mut frame, &OUR_MAC, &THEIR_MAC, ethertype).expect("room");
    let segment = match src {
        IpAddr::V4(src) => ipv4::Header {
            src,
            dst: OUR_V4,
            protocol: tcp::PROTOCOL,
            ttl: 64,
            dscp: 0,
            ecn: 0,
            identification: 0,
            payload_len,
        }
        .emit(packet),
        IpAddr::V6(src) => ipv6::Header {
            src,
            dst: OUR_V6,
            protocol: tcp::PROTOCOL,
            hop_limit: 64,
            dscp: 0,
            ecn: 0,
            flow_label: 0,
            payload_len,
        }
        .emit(packet),
    };
    let segment = segment.expect("room");
    header.emit(segment).expect("room").copy_from_slice(text);
    tcp::set_checksum(segment, PseudoHeader::new(src, dst, tcp::PROTOCOL));
    frame
}

/// An ICMP or ICMPv6 message in its frame, its checksum right.
pub(super) fn icmp_frame(src: IpAddr, mut message: Vec<u8>) -> Vec<u8> {
    let payload_len = u16::try_from(message.len()).expect("it fits");
    let (dscp, ecn, flow_label, identification, ttl) = (0, 0, 0, 0, 64);
    let (partial, mut head) = match src {
        IpAddr::V4(_) => (0, vec![0; ethernet::HEADER + ipv4::HEADER]),
        IpAddr::V6(src) => {
            let pseudo = PseudoHeader::v6(src, OUR_V6, icmpv6::PROTOCOL);
            (pseudo.sum(message.len()), vec![0; ethernet::HEADER + ipv6::HEADER])
        }
    };
    let field = checksum::field(checksum::sum(&message, partial));
    message[2..4].copy_from_slice(&field.to_be_bytes());
    let ethertype = if src.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
    let packet = ethernet::emit(&mut head, &OUR_MAC, &THEIR_MAC, ethertype).expect("room");
    let rest = match src {
        IpAddr::V4(src) => {
            let (dst, protocol) = (OUR_V4, icmpv4::PROTOCOL);
            ipv4::Header { src, dst, protocol, ttl, dscp, ecn, identification, payload_len }
                .emit(packet)
        }
        IpAddr::V6(src) => {
            let (dst, protocol, hop_limit) = (OUR_V6, icmpv6::PROTOCOL, ttl);
            ipv6::Header { src, dst, protocol, hop_limit, dscp, ecn, flow_label, payload_len }
                .emit(packet)
        }
    };
    assert!(rest.is_some_and(|rest| rest.is_empty()), "the headers fill it");
    head.extend(message);
    head
}

/// A segment of the stack's and whom it is for; I13: all of it is well formed.
pub(super) fn read(bytes: &[u8]) -> Option<(IpAddr, Segment<'_>)> {
    let frame = Frame::parse(bytes).expect("I13: Ethernet");
    assert_eq!(frame.src, OUR_MAC);
    let (src, dst, protocol, payload) = match frame.ethertype {
        EtherType::IPV4 => {
            let packet = ipv4::Packet::parse(frame.payload).expect("I13: IPv4");
            (IpAddr::V4(packet.src), IpAddr::V4(packet.dst), packet.protocol, packet.payload)
        }
        EtherType::IPV6 => {
            let packet = ipv6::Packet::parse(frame.payload).expect("I13: IPv6");
            (IpAddr::V6(packet.src), IpAddr::V6(packet.dst), packet.protocol, packet.payload)
        }
        _ => return None,
    };
    if protocol != tcp::PROTOCOL {
        return None;
    }
    assert!(frame.dst.is_unicast(), "a segment goes to everybody");
    let segment = Segment::parse(payload).expect("I13: TCP");
    assert!(segment.checksum_ok(PseudoHeader::new(src, dst, protocol)), "I13: TCP checksum");
    Some((dst, segment))
}

pub(super) fn is_reset(frame: &[u8]) -> bool {
    read(frame).is_some_and(|(_, segment)| segment.flags.contains(Flags::RST))
}

/// Whether a frame tells somebody of extension headers that were refused; I15: it tells whoever sent
/// them, from us and not of a group's doing but where an option asks for it, and points at the fault.
pub(super) fn is_problem(bytes: &[u8]) -> bool {
    const PARAMETER_PROBLEM: u8 = 4;
    let frame = Frame::parse(bytes).expect("I13: Ethernet");
    let Ok(packet) = ipv6::Packet::parse(frame.payload) else { return false };
    if frame.ethertype != EtherType::IPV6 || packet.protocol != icmpv6::PROTOCOL {
        return false;
    }
    let message = packet.payload;
    let pseudo = PseudoHeader::v6(packet.src, packet.dst, icmpv6::PROTOCOL).sum(message.len());
    assert!(checksum::is_valid(checksum::sum(message, pseudo)), "I13: ICMPv6 checksum");
    let [PARAMETER_PROBLEM, code, _, _, p0, p1, p2, p3, quote @ ..] = message else {
        return message[0] == PARAMETER_PROBLEM;
    };
    assert!(frame.payload.len() <= ipv6::MTU_MIN, "I15: {} bytes", frame.payload.len());
    assert!(frame.dst.is_unicast() && packet.src == OUR_V6 && packet.dst != OUR_V6, "I15");
    assert!(!packet.dst.is_multicast() && !packet.dst.is_unspecified(), "I15: {}", packet.dst);
    assert_eq!(quote[8..24], packet.dst.octets(), "I15: it is told to its sender");
    let at = u32::from_be_bytes([*p0, *p1, *p2, *p3]) as usize;
    let to_group = quote[24] == 0xff;
    assert!(to_group || quote[24..40] == OUR_V6.octets(), "I15: it was for us");
    let right = match code {
        0 => quote[at + 1] != 0 && !to_group,
        1 => !matches!(quote[at], 6 | 43 | 44 | 58 | 59 | 60) && !to_group,
        2 => quote[at] >> 6 == 2 || quote[at] >> 6 == 3 && !to_group,
        _ => false,
    };
    assert!(right, "I15: code {code} at {at} of {quote:02x?}");
    true
}

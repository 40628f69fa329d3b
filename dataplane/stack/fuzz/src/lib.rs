//! The laws the parsers and the network layer keep on any bytes, one function per target.
//!
//! The fuzz targets feed them what libFuzzer finds; `tests/parsers.rs` feeds them what proptest
//! makes, on every machine. A law is kept if its function returns.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::time::Duration;

use xtcp_stack::config::{ADDRESSES_MAX, Address, Config, TcpConfig};
use xtcp_stack::counters::Counters;
use xtcp_stack::net::reassembly::{Datagram, Part, Reassembly};
use xtcp_stack::net::{Interface, NeighbourRecord, ParkedFrame, Resolved};
use xtcp_stack::time::Instant;
use xtcp_stack::wire::arp;
use xtcp_stack::wire::checksum::{self, PseudoHeader};
use xtcp_stack::wire::ethernet::{self, EtherType, Frame, MacAddr};
use xtcp_stack::wire::extensions::Refused;
use xtcp_stack::wire::tcp::{self, Flags, Segment};
use xtcp_stack::wire::{icmpv4, icmpv6, ipv4, ipv6};
use xtcp_stack::world::Transmit;
use zerocopy::FromZeros;

/// A frame is read as it is written; its payload is the end of its bytes.
pub fn ethernet_frame(bytes: &[u8]) {
    let Ok(frame) = Frame::parse(bytes) else { return };
    assert!(bytes.ends_with(frame.payload));
    let header_len = bytes.len() - frame.payload.len();
    assert!(header_len == ethernet::HEADER || header_len == ethernet::HEADER + ethernet::TAG);
    let mut copy = vec![0; ethernet::header_len(frame.vlan) + frame.payload.len()];
    let rest = ethernet::emit_in(frame.vlan, &mut copy, &frame.dst, &frame.src, frame.ethertype);
    rest.expect("there is room").copy_from_slice(frame.payload);
    match frame.ethertype {
        // A tag in a tag is not read, but it would be as the outer one.
        EtherType::VLAN => {}
        _ => assert_eq!(Frame::parse(&copy), Ok(frame)),
    }
    if header_len == ethernet::HEADER {
        assert_eq!(copy, bytes);
    }
}

/// An ARP packet is written as it was read.
pub fn arp(bytes: &[u8]) {
    arp_packet(bytes);
    // As IPv4 over Ethernet, which chance does not hit upon.
    arp_packet(&[&[0, 1, 8, 0, 6, 4, 0], bytes].concat());
}

fn arp_packet(bytes: &[u8]) {
    let Ok(packet) = arp::Packet::parse(bytes) else { return };
    let mut copy = [0; arp::PACKET];
    assert!(packet.emit(&mut copy).expect("there is room").is_empty());
    assert_eq!(copy, bytes[..arp::PACKET]);
}

/// A packet lies within its frame; what it says is read again after it is written.
pub fn ipv4(bytes: &[u8]) {
    ipv4_packet(bytes);
    ipv4_packet(&sealed(bytes, 10, 0..header_len(bytes, 0), 0));
}

fn ipv4_packet(bytes: &[u8]) {
    let Ok(packet) = ipv4::Packet::parse(bytes) else { return };
    assert!(bytes.starts_with(packet.header));
    assert!(bytes[packet.header.len()..].starts_with(packet.payload));
    assert!(checksum::is_valid(checksum::sum(packet.header, 0)));
    let header = ipv4::Header {
        src: packet.src,
        dst: packet.dst,
        protocol: packet.protocol,
        ttl: packet.ttl,
        dscp: packet.dscp,
        ecn: packet.ecn,
        identification: packet.identification,
        payload_len: packet.payload.len() as u16,
    };
    let mut copy = vec![0; ipv4::HEADER + packet.payload.len()];
    header.emit(&mut copy).expect("there is room").copy_from_slice(packet.payload);
    let again = ipv4::Packet::parse(&copy).expect("it was written");
    let expected = ipv4::Packet {
        header: &copy[..ipv4::HEADER],
        more_fragments: false,
        fragment_offset: 0,
        source_routed: false,
        ..packet
    };
    assert_eq!(again, expected);
}

/// A packet lies within its frame; what it says is read again after it is written.
pub fn ipv6(bytes: &[u8]) {
    if let Ok((_, upper)) = ipv6::upper_layer(bytes.first().copied().unwrap_or(60), bytes) {
        assert!(bytes.ends_with(upper));
    }
    if let Some(refused) = Refused::parse(bytes) {
        assert!(bytes.starts_with(refused.packet), "what is told of is the packet");
        assert!((refused.problem.pointer as usize) < refused.packet.len());
    }
    let Ok(packet) = ipv6::Packet::parse(bytes) else { return };
    let end = ipv6::HEADER + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
    assert!(bytes[ipv6::HEADER..end].ends_with(packet.payload));
    let header = ipv6::Header {
        src: packet.src,
        dst: packet.dst,
        protocol: packet.protocol,
        hop_limit: packet.hop_limit,
        dscp: packet.dscp,
        ecn: packet.ecn,
        flow_label: packet.flow_label,
        payload_len: packet.payload.len() as u16,
    };
    let mut copy = vec![0; ipv6::HEADER + packet.payload.len()];
    header.emit(&mut copy).expect("there is room").copy_from_slice(packet.payload);
    if packet.payload.len() == end - ipv6::HEADER {
        assert_eq!(copy, bytes[..end], "without extension headers the bytes are the same");
    }
    if matches!(packet.fragment, ipv6::Fragment::Part { .. }) {
        return;
    }
    let again = ipv6::Packet::parse(&copy).expect("it was written");
    assert_eq!(again, ipv6::Packet { fragment: ipv6::Fragment::None, ..packet });
}

/// Messages are read from any bytes; echoes are written as they were read.
pub fn icmpv4(bytes: &[u8]) {
    icmpv4_message(bytes);
    icmpv4_message(&sealed(bytes, 2, 0..bytes.len(), 0));
}

fn icmpv4_message(bytes: &[u8]) {
    let mut copy = vec![0; bytes.len()];
    match icmpv4::Message::parse(bytes) {
        Ok(icmpv4::Message::EchoRequest(echo)) => {
            assert_eq!(echo.message_len(), bytes.len());
            echo.emit_request(&mut copy).expect("there is room");
        }
        Ok(icmpv4::Message::EchoReply(echo)) => {
            echo.emit_reply(&mut copy).expect("there is room");
        }
        _ => return,
    }
    // The code of an echo is zero, and so is what it is written with.
    if bytes[1] == 0 {
        assert_eq!(copy[4..], bytes[4..]);
        assert!(checksum::is_valid(checksum::sum(&copy, 0)));
    }
}

/// Messages are read from any packet; neighbour discovery and echoes are read again after they are
/// written. The first 40 bytes are the IPv6 header.
pub fn icmpv6(bytes: &[u8]) {
    let Some((addresses, message)) = bytes.split_at_checked(ipv6::HEADER) else { return };
    let address = |at: usize| {
        let octets: [u8; 16] = addresses[at..at + 16].try_into().expect("it is that long");
        Ipv6Addr::from(octets)
    };
    let (src, dst) = (address(8), address(24));
    let pseudo = PseudoHeader::v6(src, dst, icmpv6::PROTOCOL).sum(message.len());
    icmpv6_message(addresses, message, src, dst);
    icmpv6_message(addresses, &sealed(message, 2, 0..message.len(), pseudo), src, dst);
}

fn icmpv6_message(header: &[u8], message: &[u8], src: Ipv6Addr, dst: Ipv6Addr) {
    let packet = ipv6::Packet {
        src,
        dst,
        protocol: icmpv6::PROTOCOL,
        hop_limit: header[7],
        dscp: 0,
        ecn: 0,
        flow_label: 0,
        fragment: ipv6::Fragment::None,
        payload: message,
    };
    let Ok(parsed) = icmpv6::Message::parse(&packet) else { return };
    let mut copy = vec![0; message.len().max(icmpv6::NEIGHBOUR_MESSAGE)];
    let room = copy.len();
    let rest = match parsed {
        icmpv6::Message::EchoRequest(echo) => echo.emit_request(&mut copy, src, dst),
        icmpv6::Message::EchoReply(echo) => echo.emit_reply(&mut copy, src, dst),
        icmpv6::Message::NeighbourSolicitation(asked) => asked.emit(&mut copy, src, dst),
        icmpv6::Message::NeighbourAdvertisement(told) => told.emit(&mut copy, src, dst),
        _ => return,
    };
    let len = room - rest.expect("there is room").len();
    let again = ipv6::Packet { payload: &copy[..len], ..packet };
    assert_eq!(icmpv6::Message::parse(&again), Ok(parsed));
}

/// A segment lies within its bytes; what it says is read again after it is written; all ways to
/// check its checksum agree.
pub fn tcp(bytes: &[u8]) {
    let pseudo = PseudoHeader::v4(Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, tcp::PROTOCOL);
    tcp_segment(bytes, pseudo);
    let sealed = sealed(bytes, 16, 0..bytes.len(), pseudo.sum(bytes.len()));
    tcp_segment(&sealed, pseudo);
    if let Ok(segment) = Segment::parse(&sealed) {
        assert!(segment.checksum_ok(pseudo));
    }
}

fn tcp_segment(bytes: &[u8], pseudo: PseudoHeader) {
    let Ok(segment) = Segment::parse(bytes) else { return };
    assert_eq!([segment.header, segment.payload].concat(), bytes);
    let ok = tcp::checksum_ok(bytes, pseudo);
    assert_eq!(segment.checksum_ok(pseudo), ok);
    let mut copy = vec![0; segment.payload.len()];
    assert_eq!(segment.copy_payload(&mut copy, pseudo), ok);
    assert_eq!(copy, segment.payload);

    let header = tcp::Header {
        src_port: segment.src_port,
        dst_port: segment.dst_port,
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        urgent: segment.urgent,
        options: segment.options,
    };
    let mut written = vec![0xcc; header.header_len() + segment.payload.len()];
    header.emit(&mut written).expect("there is room").copy_from_slice(segment.payload);
    tcp::set_checksum(&mut written, pseudo);
    let again = Segment::parse(&written).expect("it was written");
    assert!(again.checksum_ok(pseudo));
    let fitting = again.options.sack.as_slice();
    assert!(segment.options.sack.as_slice().starts_with(fitting));
    let expected = Segment {
        options: tcp::Options { sack: again.options.sack, ..segment.options },
        header: again.header,
        ..segment
    };
    assert_eq!(again, expected);
    if !segment.flags.contains(Flags::SYN) {
        let only_syn = (segment.options.mss, segment.options.window_scale);
        assert_eq!((only_syn, segment.options.sack_permitted), ((None, None), false));
    }
}

/// Bytes with the checksum field at `at` made right for `range`, if it lies in it.
fn sealed(bytes: &[u8], at: usize, range: Range<usize>, partial: u32) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    if range.end <= sealed.len() && at + 2 <= range.end {
        sealed[at..at + 2].fill(0);
        let field = checksum::field(checksum::sum(&sealed[range], partial));
        sealed[at..at + 2].copy_from_slice(&field.to_be_bytes());
    }
    sealed
}

/// The header length an IPv4 packet claims.
fn header_len(bytes: &[u8], at: usize) -> usize {
    bytes.get(at).map_or(0, |first| usize::from(first & 0x0f) * 4)
}

/// Packets the reassembly target puts together at once.
const DATAGRAMS: usize = 4;

/// Packets in pieces under a script: whatever comes, in whatever order, nothing lies beyond its
/// bounds, a packet that is whole was sent so by somebody, and none is told twice.
///
/// Each step is a fragment: sender and packet, offset in units of 8 with the bit that more follow,
/// length, and how much time passes before. Its bytes follow from sender, packet and place, or,
/// now and then, contradict them.
pub fn reassembly(script: &[u8]) {
    let mut datagrams: Vec<_> = (0..DATAGRAMS).map(|_| Datagram::new_zeroed()).collect();
    let capacity = Reassembly::capacity_for(1500);
    let mut bytes = vec![0xee; DATAGRAMS * capacity];
    let mut reassembly = Reassembly::new(&mut datagrams, &mut bytes, 1500);
    let mut counters = Counters::new();
    let mut now = Instant::from_millis(1);
    for step in script.chunks_exact(5) {
        let [who, place, more, len, wait] = *step else { return };
        let who = who % 8;
        now = now + Duration::from_millis(u64::from(wait) * u64::from(wait));
        let contradicts = more & 0x30 == 0x30;
        let offset = (u16::from(place) % 192) * 8;
        let len = usize::from(len) * if more & 2 == 0 { 8 } else { 1 };
        let piece: Vec<u8> = (0..len)
            .map(|at| piece_byte(who, usize::from(offset) + at) ^ u8::from(contradicts))
            .collect();
        let part = Part {
            src: IpAddr::from([10, 77, 0, who]),
            dst: IpAddr::from([10, 77, 0, 2]),
            identification: u32::from(who),
            protocol: 6,
            offset,
            more: more & 1 == 1,
            ecn: more >> 6,
            bytes: &piece,
        };
        let before = reassembly.in_use(now);
        let taken = reassembly.take(&part, &mut counters, now);
        assert!(reassembly.in_use(now) <= DATAGRAMS && before <= DATAGRAMS);
        let Ok(Some(whole)) = taken else { continue };
        assert!((tcp::HEADER..=capacity).contains(&whole.len));
        let memory = reassembly.lend();
        let payload = reassembly.payload(&whole, memory);
        assert_eq!(payload.len(), whole.len);
        for (at, byte) in payload.iter().enumerate() {
            let sent = piece_byte(who, at);
            assert!(*byte == sent || *byte == sent ^ 1, "byte {at} is nobody's");
        }
        reassembly.release(&whole, memory);
        // Its place is free: the last part again makes no packet, unless it is all of it.
        let again = reassembly.take(&part, &mut counters, now);
        let alone = part.offset == 0 && !part.more;
        assert!(alone || !matches!(again, Ok(Some(_))), "a packet is told twice");
    }
}

fn piece_byte(who: u8, at: usize) -> u8 {
    who.wrapping_mul(31) ^ (at % 251) as u8 & 0xfe
}

/// Neighbours whose answers the network layer's target fakes.
const NEIGHBOURS: u8 = 32;

/// The most frames one call may send: a reply and a frame that waited, or a burst of questions.
const ANSWERS_MAX: usize = 64;

/// Counts what is sent, and parses it.
struct Wire {
    buf: [u8; 2048],
    sent: usize,
    len: usize,
}

impl Transmit for Wire {
    fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        self.check();
        (self.sent, self.len) = (self.sent + 1, len);
        self.buf.get_mut(..len)
    }
}

impl Wire {
    /// What was sent last was a frame of a kind we know.
    fn check(&mut self) {
        let sent = self.buf.get(..core::mem::take(&mut self.len)).unwrap_or_default();
        if sent.is_empty() {
            return;
        }
        let frame = Frame::parse(sent).expect("we send frames");
        match frame.ethertype {
            EtherType::ARP => assert!(arp::Packet::parse(frame.payload).is_ok()),
            EtherType::IPV4 => assert!(ipv4::Packet::parse(frame.payload).is_ok()),
            EtherType::IPV6 => assert!(ipv6::Packet::parse(frame.payload).is_ok()),
            EtherType(0x1234) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The network layer under a script: no message makes it panic, answer without end, or set a
/// deadline that is over.
///
/// Each step of the script is a byte that says what happens, a byte of its argument, and for
/// messages their bytes.
pub fn interface(script: &[u8]) {
    let mut neighbours: Vec<_> = (0..16).map(|_| NeighbourRecord::new_zeroed()).collect();
    let mut parked: Vec<_> = (0..4).map(|_| ParkedFrame::new_zeroed()).collect();
    let mut interface = Interface::new(&config(), &mut neighbours, &mut parked);
    let mut counters = Counters::new();
    let mut wire = Wire { buf: [0; 2048], sent: 0, len: 0 };
    let mut now = Instant::from_millis(1);
    let mut rest = script;
    while let [what, argument, after @ ..] = rest {
        let len = usize::from(*argument).min(after.len());
        let (message, after_message) = after.split_at(len);
        rest = if *what % 8 < 3 { after_message } else { after };
        let before = wire.sent;
        step(&mut interface, (*what, *argument, message), &mut wire, &mut counters, &mut now);
        wire.check();
        assert!(wire.sent - before <= ANSWERS_MAX);
        if *what % 8 == 7 {
            assert!(interface.poll_timeout().is_none_or(|due| due > now));
        }
    }
}

fn step(
    interface: &mut Interface<'_>,
    (what, argument, message): (u8, u8, &[u8]),
    wire: &mut Wire,
    counters: &mut Counters,
    now: &mut Instant,
) {
    let mac = MacAddr([2, 0, 0, 0, 1, argument]);
    let peer = match what & 8 {
        0 => IpAddr::from([10, 77, 0, argument % NEIGHBOURS]),
        _ => IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, u16::from(argument % NEIGHBOURS)]),
    };
    match what % 8 {
        0 => {
            let outcome = interface.on_arp(message, wire, counters, *now);
            counters.outcome(outcome);
        }
        1 => {
            let message = sealed(message, 10, 0..header_len(message, 0), 0);
            if let Ok(packet) = ipv4::Packet::parse(&message) {
                let _ = interface.on_icmpv4(&packet, mac, wire, counters);
            }
        }
        2 => icmpv6_step(interface, (peer, mac, message), wire, counters, *now),
        3 => {
            let answer = arp_answer(peer, mac);
            let outcome = interface.on_arp(&answer, wire, counters, *now);
            counters.outcome(outcome);
            assert!(
                interface.resolve(peer, wire, counters, *now) != Resolved::Mac(MacAddr::BROADCAST)
            );
        }
        4 => interface.confirm(peer, *now),
        5 => {
            interface.resolve(peer, wire, counters, *now);
        }
        6 => {
            if let Some(frame) = interface.park(peer, 60 + usize::from(argument), counters) {
                let written = ethernet::emit(frame, &mac, &mac, EtherType(0x1234));
                written.expect("there is room").fill(0);
            }
        }
        _ => {
            *now = *now + Duration::from_millis(u64::from(argument) * 64);
            interface.poll_frames(wire, counters, *now);
        }
    }
}

/// An ICMPv6 message from a neighbour, its checksum right and its target ours or somebody's.
fn icmpv6_step(
    interface: &mut Interface<'_>,
    (peer, mac, message): (IpAddr, MacAddr, &[u8]),
    wire: &mut Wire,
    counters: &mut Counters,
    now: Instant,
) {
    let IpAddr::V6(src) = peer else { return };
    let dst = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
    let pseudo = PseudoHeader::v6(src, dst, icmpv6::PROTOCOL).sum(message.len());
    let message = sealed(message, 2, 0..message.len(), pseudo);
    let packet = ipv6::Packet {
        src,
        dst,
        protocol: icmpv6::PROTOCOL,
        hop_limit: 255,
        dscp: 0,
        ecn: 0,
        flow_label: 0,
        fragment: ipv6::Fragment::None,
        payload: &message,
    };
    let _ = interface.on_icmpv6(&packet, mac, wire, counters, now);
}

/// An ARP reply of `peer` at `mac`; of IPv6 neighbours, bytes that are none.
fn arp_answer(peer: IpAddr, mac: MacAddr) -> [u8; arp::PACKET] {
    let mut bytes = [0; arp::PACKET];
    if let IpAddr::V4(sender_ip) = peer {
        let packet = arp::Packet {
            operation: arp::Operation::Reply,
            sender_mac: mac,
            sender_ip,
            target_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            target_ip: Ipv4Addr::new(10, 77, 0, 2),
        };
        packet.emit(&mut bytes).expect("there is room");
    }
    bytes
}

/// One address of each family, and gateways.
fn config() -> Config {
    let mut addresses = [None; ADDRESSES_MAX];
    let v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
    addresses[0] = Some(Address { ip: IpAddr::from([10, 77, 0, 2]), prefix_len: 24 });
    addresses[1] = Some(Address { ip: v6.into(), prefix_len: 64 });
    Config {
        worker: 0,
        mac: MacAddr([2, 0, 0, 0, 0, 2]),
        mtu: 1500,
        addresses,
        gateway_v4: Some(Ipv4Addr::new(10, 77, 0, 1)),
        gateway_v6: Some(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1)),
        secret: [7; 32],
        connections_max: 1,
        ipv6_connections_max: 1,
        active_max: 1,
        chunks_max: 1,
        transmit_bytes: 0,
        neighbours_max: 16,
        pools_max: 1,
        groups_max: 1,
        queues_max: 1,
        throttle: xtcp_stack::Throttle::default(),
        net: xtcp_stack::NetConfig::default(),
        tcp: TcpConfig::default(),
    }
}

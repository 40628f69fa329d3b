extern crate std;

use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::vec;
use std::vec::Vec;

use zerocopy::FromZeros;

use super::*;
use crate::config::{ADDRESSES_MAX, Address, TcpConfig};
use crate::wire::arp::{Operation, Packet};
use crate::wire::ethernet::{EtherType, Frame, HEADER};
use crate::wire::icmp::Failure;
use crate::wire::icmpv6::{Advertisement, Message, Solicitation};
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};

const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const THEM: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x66]);

/// A port with two IPv4 addresses and one IPv6 address, and gateways in its first prefixes.
pub(super) fn config() -> Config {
    let mut addresses = [None; ADDRESSES_MAX];
    for (place, text, prefix_len) in
        [(0, "10.77.0.2", 24), (2, "fd77::2", 64), (3, "192.0.2.8", 31)]
    {
        addresses[place] = Some(Address { ip: ip(text), prefix_len });
    }
    Config {
        worker: 0,
        mac: US,
        mtu: 1500,
        addresses,
        gateway_v4: Some(Ipv4Addr::new(10, 77, 0, 1)),
        gateway_v6: Some("fd77::1".parse().unwrap()),
        secret: [7; 32],
        connections_max: 1,
        ipv6_connections_max: 1,
        active_max: 1,
        chunks_max: 1,
        transmit_bytes: 0,
        neighbours_max: 64,
        pools_max: 1,
        groups_max: 1,
        queues_max: 1,
        throttle: crate::Throttle::default(),
        net: crate::NetConfig::default(),
        tcp: TcpConfig::default(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// Keeps what is sent, up to `room` frames.
struct Wire {
    frames: Vec<Vec<u8>>,
    room: usize,
}

impl Transmit for Wire {
    fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        (self.frames.len() < self.room).then(|| {
            self.frames.push(vec![0xee; len]);
            self.frames.last_mut().unwrap().as_mut_slice()
        })
    }
}

/// An interface, its wire, its counters and its clock.
struct Port<'m> {
    interface: Interface<'m>,
    wire: Wire,
    counters: Counters,
    now: Instant,
}

/// The memory of a table of `records` neighbours.
fn memory(records: usize) -> (Vec<NeighbourRecord>, Vec<ParkedFrame>) {
    let parked = (0..PENDING_MAX).map(|_| ParkedFrame::new_zeroed()).collect();
    ((0..records).map(|_| NeighbourRecord::new_zeroed()).collect(), parked)
}

impl<'m> Port<'m> {
    fn new(memory: &'m mut (Vec<NeighbourRecord>, Vec<ParkedFrame>)) -> Self {
        Self {
            interface: Interface::new(&config(), &mut memory.0, &mut memory.1),
            wire: Wire { frames: Vec::new(), room: usize::MAX },
            counters: Counters::new(),
            now: Instant::from_millis(1),
        }
    }

    fn resolve(&mut self, dst: &str) -> Resolved {
        self.resolve_ip(ip(dst))
    }

    fn resolve_ip(&mut self, dst: IpAddr) -> Resolved {
        self.interface.resolve(dst, &mut self.wire, &mut self.counters, self.now)
    }

    fn park(&mut self, dst: &str, bytes: &[u8]) -> bool {
        let room = self.interface.park(ip(dst), bytes.len(), &mut self.counters);
        room.is_some_and(|room| {
            room.copy_from_slice(bytes);
            true
        })
    }

    /// Lets time pass, with every deadline met on the way.
    fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.interface.poll_timeout().filter(|due| *due <= end) {
            assert!(due > self.now, "a deadline must lie ahead");
            self.now = due;
            self.interface.poll_frames(&mut self.wire, &mut self.counters, self.now);
        }
        self.now = end;
        self.interface.poll_frames(&mut self.wire, &mut self.counters, self.now);
    }

    fn arp(&mut self, packet: Packet) -> Outcome {
        let mut bytes = [0; 46];
        packet.emit(&mut bytes).unwrap();
        self.interface.on_arp(&bytes, &mut self.wire, &mut self.counters, self.now)
    }

    /// An ARP packet in which `sender`, at `mac`, asks for or answers about itself.
    fn arp_from(&mut self, operation: Operation, sender: &str, mac: MacAddr) -> Outcome {
        let target_mac = if operation == Operation::Reply { US } else { MacAddr::default() };
        self.arp(Packet {
            operation,
            sender_mac: mac,
            sender_ip: v4(sender),
            target_mac,
            target_ip: v4("10.77.0.2"),
        })
    }

    fn icmpv6(
        &mut self,
        src: &str,
        dst: &str,
        hop_limit: u8,
        message: &[u8],
    ) -> Result<Option<crate::wire::icmp::Error>, Stop> {
        let mut bytes = vec![0; ipv6::HEADER + message.len()];
        let header = ipv6::Header {
            src: v6(src),
            dst: v6(dst),
            protocol: icmpv6::PROTOCOL,
            hop_limit,
            dscp: 0,
            ecn: 0,
            flow_label: 0,
            payload_len: message.len() as u16,
        };
        header.emit(&mut bytes).unwrap().copy_from_slice(message);
        let packet = ipv6::Packet::parse(&bytes).unwrap();
        self.interface.on_icmpv6(&packet, THEM, &mut self.wire, &mut self.counters, self.now)
    }

    fn solicit(&mut self, src: &str, dst: &str, asked: Solicitation) -> Outcome {
        let mut message = vec![0; asked.message_len()];
        asked.emit(&mut message, v6(src), v6(dst)).unwrap();
        self.icmpv6(src, dst, 255, &message).map(|_| ())
    }

    fn advertise(&mut self, src: &str, told: Advertisement) -> Outcome {
        let mut message = vec![0; told.message_len()];
        told.emit(&mut message, v6(src), v6("fd77::2")).unwrap();
        self.icmpv6(src, "fd77::2", 255, &message).map(|_| ())
    }

    /// The frames sent since the last call.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.wire.frames)
    }

    /// The ARP packets sent since the last call, each with whom its frame was for.
    fn sent_arp(&mut self) -> Vec<(MacAddr, Packet)> {
        let parse = |bytes: &Vec<u8>| {
            let frame = Frame::parse(bytes).unwrap();
            assert_eq!((frame.src, frame.ethertype), (US, EtherType::ARP));
            (frame.dst, Packet::parse(frame.payload).unwrap())
        };
        self.sent().iter().map(parse).collect()
    }

    fn stopped(&self, stop: Stop) -> u64 {
        self.counters.stopped(stop)
    }
}

fn advertisement(target: &str, mac: MacAddr) -> Advertisement {
    Advertisement {
        target: v6(target),
        target_mac: Some(mac),
        router: false,
        solicited: true,
        overrides: true,
    }
}

/// The ND messages in these frames: whom the frame is for, the packet's addresses, the message.
fn nd(frames: &[Vec<u8>]) -> Vec<(MacAddr, Ipv6Addr, Ipv6Addr, Message<'_>)> {
    let parse = |bytes| {
        let frame = Frame::parse(bytes).unwrap();
        assert_eq!((frame.src, frame.ethertype), (US, EtherType::IPV6));
        let packet = ipv6::Packet::parse(frame.payload).unwrap();
        assert_eq!(packet.hop_limit, 255);
        (frame.dst, packet.src, packet.dst, Message::parse(&packet).unwrap())
    };
    frames.iter().map(|frame| parse(frame.as_slice())).collect()
}

#[test]
fn destination_addresses_mean_us_or_others() {
    let mut memory = memory(16);
    let port = Port::new(&mut memory);
    assert_eq!(port.interface.accepts_mac(US), MacClass::Ours);
    assert_eq!(port.interface.accepts_mac(THEM), MacClass::Foreign);
    assert_eq!(port.interface.accepts_mac(MacAddr::BROADCAST), MacClass::Broadcast);
    assert_eq!(port.interface.accepts_mac(MacAddr([0x33, 0x33, 0, 0, 0, 1])), MacClass::Multicast);
}

#[test]
fn an_unknown_neighbour_is_asked_three_times_a_second_apart() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    assert_eq!(port.resolve("8.8.8.8"), Resolved::Pending);
    let request = Packet {
        operation: Operation::Request,
        sender_mac: US,
        sender_ip: v4("10.77.0.2"),
        target_mac: MacAddr::default(),
        target_ip: v4("10.77.0.1"),
    };
    assert_eq!(port.sent_arp(), [(MacAddr::BROADCAST, request)]);
    // More segments to it do not ask more often.
    for _ in 0..100 {
        assert_eq!(port.resolve("8.8.4.4"), Resolved::Pending);
    }
    assert!(port.sent().is_empty());
    port.wait(Duration::from_millis(990));
    assert!(port.sent().is_empty());
    port.wait(Duration::from_millis(200));
    assert_eq!(port.sent_arp(), [(MacAddr::BROADCAST, request)]);
    port.wait(Duration::from_secs(10));
    assert_eq!(port.sent_arp().len(), 1, "three questions in all");
    assert_eq!(port.interface.poll_timeout(), None);
    assert_eq!(port.resolve("8.8.8.8"), Resolved::Pending, "and then anew");
    assert_eq!(port.sent_arp().len(), 1);
}

#[test]
fn a_parked_frame_goes_out_when_its_neighbour_answers() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    assert!(!port.park("10.77.0.9", &[1; 60]), "nobody is asked yet");
    port.resolve("10.77.0.9");
    port.sent();
    assert!(port.park("10.77.0.9", &[1; 60]));
    assert!(port.park("10.77.0.9", &[7; 61]), "the latest stays");
    assert_eq!(port.stopped(Stop::NeighbourReplaced), 1);
    assert!(!port.park("10.77.0.9", &[1; PARKED_FRAME_MAX + 1]));
    assert_eq!(port.arp_from(Operation::Reply, "10.77.0.9", THEM), Ok(()));
    let mut expected = vec![7; 61];
    expected[..6].copy_from_slice(&THEM.0);
    assert_eq!(port.sent(), [expected]);
    assert_eq!(port.resolve("10.77.0.9"), Resolved::Mac(THEM));
    assert!(port.sent().is_empty() && !port.park("10.77.0.9", &[1; 60]));
}

#[test]
fn a_request_of_the_neighbour_itself_releases_its_frame() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    port.resolve("10.77.0.9");
    port.park("10.77.0.9", &[7; 60]);
    port.sent();
    assert_eq!(port.arp_from(Operation::Request, "10.77.0.9", THEM), Ok(()));
    let sent = port.sent();
    assert_eq!(sent.len(), 2, "the frame and the reply");
    assert_eq!(sent[0][..7], [2, 0, 0, 0, 0, 1, 7]);
    assert_eq!(port.resolve("10.77.0.9"), Resolved::Mac(THEM));
}

#[test]
fn a_frame_whose_neighbour_does_not_answer_is_counted() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    port.resolve("10.77.0.9");
    assert!(port.park("10.77.0.9", &[7; 60]));
    port.wait(Duration::from_secs(4));
    assert_eq!(port.stopped(Stop::NeighbourUnresolved), 1);
    port.sent();
    // A late answer finds nothing, and nothing old comes out.
    assert_eq!(port.arp_from(Operation::Reply, "10.77.0.9", THEM), Err(Stop::NeighbourUnknown));
    assert!(port.sent().is_empty());
}

#[test]
fn without_room_to_transmit_nothing_is_lost_but_the_frame() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    port.wire.room = 0;
    assert_eq!(port.resolve("10.77.0.9"), Resolved::Pending);
    assert!(port.park("10.77.0.9", &[7; 60]));
    assert_eq!(port.stopped(Stop::TransmitFull), 1);
    assert_eq!(port.arp_from(Operation::Reply, "10.77.0.9", THEM), Ok(()));
    assert_eq!(port.stopped(Stop::TransmitFull), 2);
    port.wire.room = usize::MAX;
    assert_eq!(port.resolve("10.77.0.9"), Resolved::Mac(THEM));
    assert!(port.sent().is_empty());
}

#[test]
fn requests_for_us_are_answered_and_their_senders_remembered() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    assert_eq!(port.arp_from(Operation::Request, "10.77.0.9", THEM), Ok(()));
    let reply = Packet {
        operation: Operation::Reply,
        sender_mac: US,
        sender_ip: v4("10.77.0.2"),
        target_mac: THEM,
        target_ip: v4("10.77.0.9"),
    };
    assert_eq!(port.sent_arp(), [(THEM, reply)]);
    assert_eq!(port.resolve("10.77.0.9"), Resolved::Mac(THEM));
    // Of several workers one answers; all learn.
    port.interface.set_answers(false);
    assert_eq!(port.arp_from(Operation::Request, "10.77.0.10", OTHER), Ok(()));
    assert!(port.sent().is_empty());
    assert_eq!(port.resolve("10.77.0.10"), Resolved::Mac(OTHER));
}

#[test]
fn probes_are_answered_and_not_remembered() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    assert_eq!(port.arp_from(Operation::Request, "0.0.0.0", THEM), Ok(()));
    assert_eq!(port.sent_arp().len(), 1);
    assert_eq!(port.arp_from(Operation::Reply, "0.0.0.0", THEM), Err(Stop::ArpForeign));
    assert_eq!(port.counters.counted(Count::NeighboursLearned), 0);
}

#[test]
fn senders_no_neighbour_can_be_are_not_believed() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    for sender in ["10.78.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.77.0.255"] {
        let stopped = port.arp_from(Operation::Request, sender, THEM);
        assert_eq!(stopped, Err(Stop::ArpSender), "{sender}");
    }
    for mac in [MacAddr::BROADCAST, MacAddr([1, 0, 94, 0, 0, 1]), MacAddr::default(), US] {
        let stopped = port.arp_from(Operation::Request, "10.77.0.9", mac);
        assert_eq!(stopped, Err(Stop::ArpSender), "{mac}");
    }
    assert!(port.sent().is_empty());
    assert_eq!(port.counters.counted(Count::NeighboursLearned), 0);
    assert_eq!(
        port.interface.on_arp(&[0; 27], &mut port.wire, &mut port.counters, port.now),
        Err(Stop::ArpTruncated)
    );
}

#[test]
fn claims_on_our_addresses_are_defended_against_but_not_without_end() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    for _ in 0..50 {
        for operation in [Operation::Request, Operation::Reply] {
            let stopped = port.arp_from(operation, "10.77.0.2", OTHER);
            assert_eq!(stopped, Err(Stop::AddressConflict));
        }
    }
    let announcement = Packet {
        operation: Operation::Request,
        sender_mac: US,
        sender_ip: v4("10.77.0.2"),
        target_mac: MacAddr::default(),
        target_ip: v4("10.77.0.2"),
    };
    assert_eq!(port.sent_arp(), [(MacAddr::BROADCAST, announcement)]);
    assert_eq!(port.resolve("10.77.0.2"), Resolved::NoRoute, "we are nobody's neighbour");
    port.now = port.now + Duration::from_secs(11);
    assert_eq!(port.arp_from(Operation::Reply, "10.77.0.2", OTHER), Err(Stop::AddressConflict));
    assert_eq!(port.sent_arp().len(), 1);
    // Another worker defends, not this one.
    port.interface.set_answers(false);
    port.now = port.now + Duration::from_secs(11);
    assert_eq!(port.arp_from(Operation::Reply, "10.77.0.2", OTHER), Err(Stop::AddressConflict));
    assert!(port.sent().is_empty());
}

#[test]
fn what_nobody_asked_for_makes_no_neighbour() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    let unasked = port.arp_from(Operation::Reply, "10.77.0.9", OTHER);
    assert_eq!(unasked, Err(Stop::NeighbourUnknown));
    let gratuitous = Packet {
        operation: Operation::Request,
        sender_mac: OTHER,
        sender_ip: v4("10.77.0.9"),
        target_mac: MacAddr::default(),
        target_ip: v4("10.77.0.9"),
    };
    assert_eq!(port.arp(gratuitous), Err(Stop::ArpForeign));
    assert_eq!(port.resolve("10.77.0.9"), Resolved::Pending);
    // A known one that says it has moved is followed (RFC 826), but asked soon.
    port.arp_from(Operation::Reply, "10.77.0.9", THEM).unwrap();
    assert_eq!(port.arp(gratuitous), Err(Stop::ArpForeign));
    assert_eq!(port.resolve("10.77.0.9"), Resolved::Mac(OTHER));
    port.sent();
    port.wait(Duration::from_millis(5200));
    let asked = port.sent_arp();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].0, asked[0].1.target_ip), (OTHER, v4("10.77.0.9")));
}

#[test]
fn a_used_neighbour_is_probed_when_its_time_is_over_and_given_up_when_silent() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    port.resolve("10.77.0.9");
    port.arp_from(Operation::Reply, "10.77.0.9", THEM).unwrap();
    port.sent();
    port.wait(Duration::from_secs(14));
    assert_eq!(port.resolve("10.77.0.9"), Resolved::Mac(THEM));
    assert_eq!(port.interface.poll_timeout(), None, "still believed");
    port.wait(Duration::from_secs(36));
    assert_eq!(port.resolve("10.77.0.9"), Resolved::Mac(THEM));
    port.wait(Duration::from_millis(4900));
    assert!(port.sent().is_empty(), "somebody above may confirm it first");
    port.wait(Duration::from_millis(300));
    let asked = port.sent_arp();
    assert_eq!((asked.len(), asked[0].0), (1, THEM), "where it was");
    port.arp_from(Operation::Reply, "10.77.0.9", THEM).unwrap();
    port.wait(Duration::from_secs(10));
    assert!(port.sent().is_empty());

    port.wait(Duration::from_secs(50));
    assert_eq!(port.resolve("10.77.0.9"), Resolved::Mac(THEM));
    port.wait(Duration::from_secs(20));
    assert_eq!(port.sent_arp().len(), 3);
    assert_eq!(port.resolve("10.77.0.9"), Resolved::Pending);
    assert_eq!(port.sent_arp()[0].0, MacAddr::BROADCAST);
}

#[test]
fn whoever_is_confirmed_from_above_is_not_probed() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    port.resolve("8.8.8.8");
    port.interface.confirm(ip("8.8.8.8"), port.now);
    assert_eq!(port.resolve("8.8.8.8"), Resolved::Pending, "no proof where it is");
    port.arp_from(Operation::Reply, "10.77.0.1", THEM).unwrap();
    port.sent();
    for _ in 0..100 {
        assert_eq!(port.resolve("8.8.8.8"), Resolved::Mac(THEM));
        port.wait(Duration::from_secs(1));
        port.interface.confirm(ip("8.8.4.4"), port.now);
    }
    port.wait(Duration::from_secs(60));
    assert_eq!(port.resolve("8.8.8.8"), Resolved::Mac(THEM));
    port.interface.confirm(ip("8.8.8.8"), port.now);
    port.wait(Duration::from_secs(10));
    assert!(port.sent().is_empty());
    assert_eq!(port.interface.poll_timeout(), None);
}

/// Bad-input rows 103 and N33.
#[test]
fn a_sweep_displaces_only_itself() {
    let mut memory = memory(256);
    let mut port = Port::new(&mut memory);
    let peers: Vec<IpAddr> = (10..50).map(|n| IpAddr::from([10, 77, 0, n])).collect();
    for (n, peer) in peers.iter().enumerate() {
        let mac = MacAddr([2, 1, 0, 0, 0, n as u8]);
        let IpAddr::V4(sender_ip) = *peer else { unreachable!() };
        let asks = Packet {
            operation: Operation::Request,
            sender_mac: mac,
            sender_ip,
            target_mac: MacAddr::default(),
            target_ip: v4("10.77.0.2"),
        };
        port.arp(asks).unwrap();
        assert_eq!(port.resolve_ip(*peer), Resolved::Mac(mac));
    }
    let mut asked = 0;
    for n in 0..65_536u32 {
        let dst = Ipv6Addr::from_bits(v6("fd77::1:0").to_bits() + u128::from(n));
        port.resolve_ip(dst.into());
        port.solicit(
            &std::format!("fd77::2:{n:x}"),
            "fd77::2",
            Solicitation { target: v6("fd77::2"), source_mac: Some(OTHER) },
        )
        .unwrap();
        asked += port.sent().len() - 1;
        if n % 64 == 0 {
            port.wait(Duration::from_millis(1));
            asked += port.sent().len();
        }
    }
    let ticks = 65_536 / 64 / 67 + 2;
    assert!(asked <= ticks * 64, "{asked} questions in about a second");
    for (n, peer) in peers.iter().enumerate() {
        assert_eq!(port.resolve_ip(*peer), Resolved::Mac(MacAddr([2, 1, 0, 0, 0, n as u8])));
    }
    port.wait(Duration::from_secs(5));
    port.sent();
    // And a new neighbour is still found.
    assert_eq!(port.resolve("10.77.0.200"), Resolved::Pending);
    port.arp_from(Operation::Reply, "10.77.0.200", THEM).unwrap();
    assert_eq!(port.resolve("10.77.0.200"), Resolved::Mac(THEM));
}

#[test]
fn a_table_full_of_neighbours_in_use_takes_no_more_until_one_is_idle() {
    let mut memory = memory(4);
    let mut port = Port::new(&mut memory);
    for n in 10..14u8 {
        let peer = std::format!("10.77.0.{n}");
        port.resolve(&peer);
        port.arp_from(Operation::Reply, &peer, MacAddr([2, 0, 0, 0, 1, n])).unwrap();
    }
    assert_eq!(port.resolve("10.77.0.14"), Resolved::NoRoute);
    assert_eq!(port.stopped(Stop::NeighbourTableFull), 1);
    // Who asks is answered, if not remembered.
    port.sent();
    assert_eq!(port.arp_from(Operation::Request, "10.77.0.14", THEM), Ok(()));
    assert_eq!((port.sent_arp().len(), port.stopped(Stop::NeighbourTableFull)), (1, 2));
    port.wait(Duration::from_secs(50));
    for n in [10, 11, 13] {
        let peer = std::format!("10.77.0.{n}");
        port.resolve(&peer);
        port.interface.confirm(ip(&peer), port.now);
    }
    port.wait(Duration::from_secs(12));
    assert_eq!(port.resolve("10.77.0.14"), Resolved::Pending, "in place of 10.77.0.12");
    assert_eq!(port.resolve("10.77.0.13"), Resolved::Mac(MacAddr([2, 0, 0, 0, 1, 13])));
}

/// Makes a neighbour of each of `10.77.0.n`, asks where it is once, and checks the answer.
fn befriend(port: &mut Port<'_>, peers: core::ops::Range<u8>) {
    for n in peers {
        let (peer, mac) = (std::format!("10.77.0.{n}"), MacAddr([2, 0, 0, 0, 1, n]));
        port.arp_from(Operation::Request, &peer, mac).unwrap();
        assert_eq!(port.resolve(&peer), Resolved::Mac(mac), "{peer}");
    }
    port.sent();
}

#[test]
fn a_table_half_full_of_neighbours_in_use_knows_them_all() {
    let mut memory = memory(256);
    let mut port = Port::new(&mut memory);
    befriend(&mut port, 10..138);
    for n in 10..138u8 {
        let known = port.resolve(&std::format!("10.77.0.{n}"));
        assert_eq!(known, Resolved::Mac(MacAddr([2, 0, 0, 0, 1, n])));
    }
}

#[test]
fn what_others_claim_does_not_end_a_search_of_ours() {
    let mut memory = memory(4);
    let mut port = Port::new(&mut memory);
    for n in 10..14u8 {
        port.resolve(&std::format!("10.77.0.{n}"));
    }
    port.sent();
    assert_eq!(port.arp_from(Operation::Request, "10.77.0.20", OTHER), Ok(()));
    assert_eq!(port.stopped(Stop::NeighbourTableFull), 1);
    for n in 10..14u8 {
        let peer = std::format!("10.77.0.{n}");
        assert_eq!(port.arp_from(Operation::Reply, &peer, THEM), Ok(()));
        assert_eq!(port.resolve(&peer), Resolved::Mac(THEM));
    }
}

#[test]
fn probing_many_neighbours_leaves_places_to_find_new_ones() {
    let mut memory = memory(512);
    let mut port = Port::new(&mut memory);
    befriend(&mut port, 10..210);
    assert_eq!(port.resolve("10.77.0.220"), Resolved::Pending);
    assert_eq!(port.sent_arp().len(), 1);
    port.wait(Duration::from_millis(5200));
    let asked = port.sent_arp();
    let probes = asked.iter().filter(|(dst, _)| *dst != MacAddr::BROADCAST).count();
    assert_eq!(probes, PENDING_MAX / 2);
}

#[test]
fn who_is_confirmed_gives_its_place_among_the_pending_back() {
    let mut memory = memory(512);
    let mut port = Port::new(&mut memory);
    for n in 10..210 {
        befriend(&mut port, n..n + 1);
        port.interface.confirm(ip(&std::format!("10.77.0.{n}")), port.now);
    }
    befriend(&mut port, 210..211);
    port.wait(Duration::from_millis(5200));
    let asked: Vec<_> = port.sent_arp().iter().map(|(_, packet)| packet.target_ip).collect();
    assert_eq!(asked, [v4("10.77.0.210")]);
}

#[test]
fn as_many_frames_are_parked_as_there_are_places() {
    let mut memory = memory(64);
    memory.1.truncate(2);
    let mut port = Port::new(&mut memory);
    let parked = [10, 11, 12].map(|n| {
        let peer = std::format!("10.77.0.{n}");
        port.resolve(&peer);
        port.park(&peer, &[7; 60])
    });
    assert_eq!(parked, [true, true, false]);
}

#[test]
fn tables_of_any_size_work_or_say_that_they_are_full() {
    for records in 0..40 {
        let mut memory = memory(records);
        memory.1.truncate(records / 2);
        let mut port = Port::new(&mut memory);
        for n in 1..=254u8 {
            let peer = std::format!("10.77.0.{n}");
            let resolved = port.resolve(&peer);
            assert!(n == 2 || records == 0 || resolved == Resolved::Pending, "{records} {n}");
            port.park(&peer, &[7; 60]);
        }
        port.wait(Duration::from_secs(9));
        assert_eq!(port.interface.poll_timeout(), None);
        let parked = port.counters.counted(Count::FramesParked);
        assert_eq!(port.stopped(Stop::NeighbourUnresolved), parked);
    }
}

#[test]
fn ipv6_neighbours_are_asked_in_their_group_and_believed_when_asked() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    assert_eq!(port.resolve("fd77::9"), Resolved::Pending);
    assert!(port.park("fd77::9", &[7; 80]));
    let sent = port.sent();
    let group = v6("ff02::1:ff00:9");
    let asked = Solicitation { target: v6("fd77::9"), source_mac: Some(US) };
    let mac = MacAddr([0x33, 0x33, 0xff, 0, 0, 9]);
    let expected = (mac, v6("fd77::2"), group, Message::NeighbourSolicitation(asked));
    assert_eq!(nd(&sent), [expected]);

    let bare = Advertisement { target_mac: None, ..advertisement("fd77::9", THEM) };
    assert_eq!(port.advertise("fd77::9", bare), Err(Stop::NeighbourUnknown));
    assert_eq!(port.advertise("fd77::9", advertisement("fd77::9", THEM)), Ok(()));
    assert_eq!(port.sent().len(), 1, "the parked frame");
    assert_eq!(port.resolve("fd77::9"), Resolved::Mac(THEM));
    let unknown = port.advertise("fd77::8", advertisement("fd77::8", THEM));
    assert_eq!(unknown, Err(Stop::NeighbourUnknown));
}

#[test]
fn advertisements_override_only_when_they_say_so() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    port.resolve("fd77::9");
    port.advertise("fd77::9", advertisement("fd77::9", THEM)).unwrap();
    let meek = Advertisement { overrides: false, ..advertisement("fd77::9", OTHER) };
    assert_eq!(port.advertise("fd77::9", meek), Ok(()));
    assert_eq!(port.resolve("fd77::9"), Resolved::Mac(THEM));
    assert!(port.interface.poll_timeout().is_some(), "but it is looked at again");
    assert_eq!(port.advertise("fd77::9", advertisement("fd77::9", OTHER)), Ok(()));
    assert_eq!(port.resolve("fd77::9"), Resolved::Mac(OTHER));
    for mac in [US, MacAddr::BROADCAST, MacAddr::default()] {
        let stopped = port.advertise("fd77::9", advertisement("fd77::9", mac));
        assert_eq!(stopped, Err(Stop::NdInvalid));
    }
    let conflict = port.advertise("fd77::9", advertisement("fd77::2", OTHER));
    assert_eq!(conflict, Err(Stop::AddressConflict));
}

#[test]
fn solicitations_are_answered() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    let asked = Solicitation { target: v6("fd77::2"), source_mac: Some(THEM) };
    assert_eq!(port.solicit("fd77::9", "ff02::1:ff00:2", asked), Ok(()));
    let sent = port.sent();
    let told = advertisement("fd77::2", US);
    let reply = Message::NeighbourAdvertisement(told);
    assert_eq!(nd(&sent), [(THEM, v6("fd77::2"), v6("fd77::9"), reply)]);
    assert_eq!(port.resolve("fd77::9"), Resolved::Mac(THEM));
    // From a link-local address, and without a link-layer address.
    let bare = Solicitation { source_mac: None, ..asked };
    assert_eq!(port.solicit("fe80::9", "fd77::2", bare), Ok(()));
    assert_eq!(nd(&port.sent())[0].0, THEM, "to where the frame came from");
    assert_eq!(port.resolve("fe80::9"), Resolved::Pending);
    port.sent();

    let group = "ff02::1:ff00:3";
    let other = Solicitation { target: v6("fd77::3"), ..asked };
    assert_eq!(port.solicit("fd77::9", group, other), Err(Stop::IpForeign));
    assert_eq!(port.solicit("fd77::9", "fd77::2", other), Err(Stop::NdForeign));
    assert_eq!(port.solicit("fd77::2", "fd77::2", asked), Err(Stop::AddressConflict));
    assert_eq!(port.solicit("ff02::9", "fd77::2", asked), Err(Stop::IpSource));
    let loud = Solicitation { source_mac: Some(MacAddr::BROADCAST), ..asked };
    assert_eq!(port.solicit("fd77::9", "fd77::2", loud), Err(Stop::NdInvalid));
}

#[test]
fn duplicate_address_detection_hears_that_the_address_is_taken() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    let asked = Solicitation { target: v6("fd77::2"), source_mac: None };
    assert_eq!(port.solicit("::", "ff02::1:ff00:2", asked), Ok(()));
    let sent = port.sent();
    let told = Advertisement { solicited: false, ..advertisement("fd77::2", US) };
    let reply = Message::NeighbourAdvertisement(told);
    let all = (MacAddr([0x33, 0x33, 0, 0, 0, 1]), v6("fd77::2"), v6("ff02::1"), reply);
    assert_eq!(nd(&sent), [all]);
    assert_eq!(port.counters.counted(Count::NeighboursLearned), 0);
}

/// Bad-input row N32.
#[test]
fn neighbour_discovery_from_afar_or_malformed_is_ignored() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    port.resolve("fd77::9");
    port.sent();
    let told = advertisement("fd77::9", OTHER);
    let mut message = vec![0; told.message_len()];
    told.emit(&mut message, v6("fd77::9"), v6("fd77::2")).unwrap();
    for hop_limit in [0, 1, 64, 254] {
        let stopped = port.icmpv6("fd77::9", "fd77::2", hop_limit, &message);
        assert_eq!(stopped, Err(Stop::NdInvalid));
    }
    message[25] = 0;
    let field = u16::from_be_bytes([message[2], message[3]]);
    // The option's length went from 1 to 0: its word shrank by one.
    let field = crate::wire::checksum::update(field, 0x0201, 0x0200);
    message[2..4].copy_from_slice(&field.to_be_bytes());
    assert_eq!(port.icmpv6("fd77::9", "fd77::2", 255, &message), Err(Stop::NdOption));
    assert_eq!(port.resolve("fd77::9"), Resolved::Pending);
    assert!(port.sent().is_empty());
}

/// Sends an ICMPv4 message from `src` to `dst`.
fn icmpv4_in(
    port: &mut Port<'_>,
    src: &str,
    dst: &str,
    message: &[u8],
) -> Result<Option<crate::wire::icmp::Error>, Stop> {
    let mut bytes = vec![0; ipv4::HEADER + message.len()];
    let header = ipv4::Header {
        src: v4(src),
        dst: v4(dst),
        protocol: icmpv4::PROTOCOL,
        ttl: 3,
        dscp: 0,
        ecn: 0,
        identification: 1,
        payload_len: message.len() as u16,
    };
    header.emit(&mut bytes).unwrap().copy_from_slice(message);
    let packet = ipv4::Packet::parse(&bytes).unwrap();
    port.interface.on_icmpv4(&packet, THEM, &mut port.wire, &mut port.counters)
}

#[test]
fn echoes_come_back() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    let echo = icmpv4::Echo { identifier: 7, sequence: 9, data: b"odd" };
    let mut message = vec![0; echo.message_len()];
    echo.emit_request(&mut message).unwrap();
    assert_eq!(icmpv4_in(&mut port, "8.8.8.8", "10.77.0.2", &message), Ok(None));
    let sent = port.sent();
    let frame = Frame::parse(&sent[0]).unwrap();
    assert_eq!((frame.dst, frame.src), (THEM, US));
    let packet = ipv4::Packet::parse(frame.payload).unwrap();
    assert_eq!((packet.src, packet.dst), (v4("10.77.0.2"), v4("8.8.8.8")));
    let reply = icmpv4::Message::parse(packet.payload);
    assert_eq!(reply, Ok(icmpv4::Message::EchoReply(echo)));

    for (src, dst, stop) in [
        ("8.8.8.8", "10.77.0.255", Stop::IpForeign),
        ("8.8.8.8", "224.0.0.1", Stop::IpForeign),
        ("8.8.8.8", "10.77.0.3", Stop::IpForeign),
        ("127.0.0.1", "10.77.0.2", Stop::IpSource),
        ("10.77.0.2", "10.77.0.2", Stop::IpSource),
    ] {
        assert_eq!(icmpv4_in(&mut port, src, dst, &message), Err(stop), "{src} to {dst}");
    }
    assert!(port.sent().is_empty());
    port.interface.set_answers(false);
    assert_eq!(icmpv4_in(&mut port, "8.8.8.8", "10.77.0.2", &message), Ok(None));
    assert!(port.sent().is_empty());
}

#[test]
fn ipv6_echoes_come_back() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    let echo = icmpv6::Echo { identifier: 7, sequence: 9, data: b"odd" };
    let request = |src: &str, dst: &str| {
        let mut message = vec![0; echo.message_len()];
        echo.emit_request(&mut message, v6(src), v6(dst)).unwrap();
        message
    };
    let message = request("2001:db8::1", "fd77::2");
    assert_eq!(port.icmpv6("2001:db8::1", "fd77::2", 3, &message), Ok(None));
    let sent = port.sent();
    let frame = Frame::parse(&sent[0]).unwrap();
    assert_eq!((frame.dst, frame.src), (THEM, US));
    let packet = ipv6::Packet::parse(frame.payload).unwrap();
    assert_eq!((packet.src, packet.dst), (v6("fd77::2"), v6("2001:db8::1")));
    assert_eq!(Message::parse(&packet), Ok(Message::EchoReply(echo)));
    for (src, dst, stop) in [
        ("2001:db8::1", "ff02::1", Stop::IpGroup),
        ("2001:db8::1", "ff02::2", Stop::IpForeign),
        ("::1", "fd77::2", Stop::IpSource),
        ("::", "fd77::2", Stop::IpSource),
    ] {
        let message = request(src, dst);
        assert_eq!(port.icmpv6(src, dst, 64, &message), Err(stop), "{src} to {dst}");
    }
    assert!(port.sent().is_empty());
}

/// An ICMPv4 error about a segment from `src`.
fn icmpv4_error(kind: u8, code: u8, mtu: u16, src: &str) -> Vec<u8> {
    let mut message = vec![0; 8 + ipv4::HEADER + 8];
    (message[0], message[1]) = (kind, code);
    message[6..8].copy_from_slice(&mtu.to_be_bytes());
    let quoted = ipv4::Header {
        src: v4(src),
        dst: v4("8.8.8.8"),
        protocol: 6,
        ttl: 1,
        dscp: 0,
        ecn: 0,
        identification: 0,
        payload_len: 1460,
    };
    quoted.emit(&mut message[8..]).unwrap().copy_from_slice(&[0, 7, 0, 8, 0, 0, 0, 9]);
    let field = crate::wire::checksum::field(crate::wire::checksum::sum(&message, 0));
    message[2..4].copy_from_slice(&field.to_be_bytes());
    message
}

/// Bad-input rows 94 to 100.
#[test]
fn errors_about_our_segments_are_handed_up() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    let mut given = |message: Vec<u8>| icmpv4_in(&mut port, "172.16.0.1", "10.77.0.2", &message);
    let error = given(icmpv4_error(3, 4, 1400, "10.77.0.2")).unwrap().unwrap();
    assert_eq!(error.failure, Failure::PacketTooBig { mtu: 1400 });
    assert_eq!((error.quoted.dst, error.quoted.src_port, error.quoted.seq), (ip("8.8.8.8"), 7, 9));
    let error = given(icmpv4_error(3, 3, 0, "10.77.0.2")).unwrap().unwrap();
    assert_eq!(error.failure, Failure::Unreachable { kind: 3, code: 3 });
    assert_eq!(given(icmpv4_error(3, 3, 0, "10.77.0.3")), Err(Stop::IcmpErrorIgnored));
    let mut short = icmpv4_error(3, 3, 0, "10.77.0.2");
    short.truncate(20);
    let field = crate::wire::checksum::field({
        short[2..4].fill(0);
        crate::wire::checksum::sum(&short, 0)
    });
    short[2..4].copy_from_slice(&field.to_be_bytes());
    assert_eq!(given(short), Err(Stop::IcmpErrorIgnored));
    assert_eq!(given(icmpv4_error(4, 0, 0, "10.77.0.2")), Err(Stop::IcmpQuench));
    assert_eq!(given(icmpv4_error(5, 1, 0, "10.77.0.2")), Err(Stop::IcmpRedirect));
    assert_eq!(given(icmpv4_error(13, 1, 0, "10.77.0.2")), Err(Stop::IcmpIgnored));
    assert_eq!(given(vec![8, 0, 0, 0, 0, 0, 0, 0]), Err(Stop::IcmpChecksum));
}

/// Bad-input row N23.
#[test]
fn ipv6_packets_are_never_too_big_for_what_every_link_takes() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    let mut too_big = |mtu: u32| {
        let mut message = vec![0; 8 + ipv6::HEADER + 8];
        message[0] = 2;
        message[4..8].copy_from_slice(&mtu.to_be_bytes());
        let quoted = ipv6::Header {
            src: v6("fd77::2"),
            dst: v6("2001:db8::9"),
            protocol: 6,
            hop_limit: 1,
            dscp: 0,
            ecn: 0,
            flow_label: 0,
            payload_len: 1440,
        };
        quoted.emit(&mut message[8..]).unwrap();
        let (src, dst) = (v6("2001:db8::1"), v6("fd77::2"));
        let pseudo = crate::wire::checksum::PseudoHeader::v6(src, dst, 58).sum(message.len());
        let field = crate::wire::checksum::field(crate::wire::checksum::sum(&message, pseudo));
        message[2..4].copy_from_slice(&field.to_be_bytes());
        port.icmpv6("2001:db8::1", "fd77::2", 64, &message)
            .map(|error| error.map(|error| error.failure))
    };
    for mtu in [0, 68, 1279] {
        assert_eq!(too_big(mtu), Err(Stop::IcmpErrorIgnored));
    }
    assert_eq!(too_big(1280), Ok(Some(Failure::PacketTooBig { mtu: 1280 })));
}

#[test]
fn fragments_of_messages_are_not_read() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    let mut bytes = [0; 80];
    let header = ipv6::Header {
        src: v6("fd77::9"),
        dst: v6("fd77::2"),
        protocol: 44,
        hop_limit: 64,
        dscp: 0,
        ecn: 0,
        flow_label: 0,
        payload_len: 40,
    };
    let payload = header.emit(&mut bytes).unwrap();
    payload[..8].copy_from_slice(&[icmpv6::PROTOCOL, 0, 0, 1, 0, 0, 0, 9]);
    let echo = icmpv6::Echo { identifier: 7, sequence: 9, data: &[1; 24] };
    echo.emit_request(&mut payload[8..], header.src, header.dst).unwrap();
    let packet = ipv6::Packet::parse(&bytes).unwrap();
    let Port { interface, wire, counters, now } = &mut port;
    let stopped = interface.on_icmpv6(&packet, THEM, wire, counters, *now);
    assert_eq!(stopped, Err(Stop::IpFragment));
    let atomic = ipv6::Packet { fragment: ipv6::Fragment::Atomic, ..packet };
    assert_eq!(interface.on_icmpv6(&atomic, THEM, wire, counters, *now), Ok(None));

    let echo = icmpv4::Echo { identifier: 7, sequence: 9, data: b"part" };
    let mut message = [0; 12];
    echo.emit_request(&mut message).unwrap();
    let whole = ipv4::Packet {
        src: v4("10.77.0.9"),
        dst: v4("10.77.0.2"),
        protocol: icmpv4::PROTOCOL,
        ttl: 64,
        dscp: 0,
        ecn: 0,
        identification: 1,
        more_fragments: false,
        fragment_offset: 0,
        source_routed: false,
        header: &[],
        payload: &message,
    };
    let part = ipv4::Packet { more_fragments: true, ..whole };
    assert_eq!(interface.on_icmpv4(&part, THEM, wire, counters), Err(Stop::IpFragment));
    let routed = ipv4::Packet { source_routed: true, ..whole };
    assert_eq!(interface.on_icmpv4(&routed, THEM, wire, counters), Err(Stop::Ipv4SourceRoute));
    assert_eq!(interface.on_icmpv4(&whole, THEM, wire, counters), Ok(None));
    assert_eq!(port.sent().len(), 2);
}

#[test]
fn our_addresses_are_announced_on_demand() {
    let mut memory = memory(16);
    let mut port = Port::new(&mut memory);
    port.interface.announce(&mut port.wire, &mut port.counters);
    let frames = port.sent();
    assert_eq!(frames.len(), 3);
    let arp = Packet::parse(&frames[0][HEADER..]).unwrap();
    assert_eq!((arp.sender_ip, arp.target_ip), (v4("10.77.0.2"), v4("10.77.0.2")));
    let told = Advertisement { solicited: false, ..advertisement("fd77::2", US) };
    assert_eq!(nd(&frames[1..2])[0].3, Message::NeighbourAdvertisement(told));
}

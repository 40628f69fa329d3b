//! IPv6 packets, their extension headers, and neighbour discovery.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use xtcp_stack::wire::checksum::PseudoHeader;
use xtcp_stack::wire::ethernet::{EtherType, Frame, MacAddr};
use xtcp_stack::wire::icmpv6::{self, Advertisement, Solicitation};
use xtcp_stack::wire::{checksum, ipv6};
use xtcp_stack::{Config, Count, NetConfig, Stop};

use super::problems::assert_told;
use super::{
    IP, NOTHING, TCP_V6, assert_alive, assert_serves, assert_silence, dut, dut_with, insert, look,
    stops,
};
use crate::sim::config;
use crate::sim::peer::{CLIENT_MAC, Peer, data, syn};

pub(super) const OURS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
pub(super) const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const EVIL: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x66]);

pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const DESTINATION: u8 = 60;
pub(super) const TCP: u8 = 6;

/// A stack and a client that speak IPv6.
pub(super) fn dut6(test: impl FnOnce(&mut Peer<'_>)) {
    dut(|peer| {
        peer.use_ipv6();
        test(peer);
    });
}

/// A SYN behind extension headers, the first of this kind.
pub(super) fn extended(peer: &Peer<'_>, first: u8, headers: &[u8]) -> Vec<u8> {
    behind(&peer.frame_of(&syn()), first, headers)
}

/// A segment's frame with extension headers, the first of this kind.
pub(super) fn behind(frame: &[u8], first: u8, headers: &[u8]) -> Vec<u8> {
    let mut frame = insert(frame, TCP_V6, headers);
    frame[IP + 6] = first;
    let len = (frame.len() - TCP_V6) as u16;
    frame[IP + 4..IP + 6].copy_from_slice(&len.to_be_bytes());
    frame
}

#[test]
fn a_length_beyond_the_frame_is_not_believed() {
    dut6(|peer| {
        let good = peer.frame_of(&syn());
        let mut frame = good.clone();
        frame[IP + 5] += 1;
        assert_silence(peer, &frame, Stop::Ipv6PayloadLength);
        frame[IP + 5] -= 2;
        assert_silence(peer, &frame, Stop::TcpDataOffset);
        let mut frame = good.clone();
        frame[IP] = 0x40;
        assert_silence(peer, &frame, Stop::Ipv6Version);
        assert_silence(peer, &good[..IP + 39], Stop::Ipv6Truncated);
        assert_serves(peer);
    });
}

#[test]
fn addresses_no_host_has_open_nothing() {
    dut6(|peer| {
        let (client, server) = (peer.client, peer.server);
        for source in ["::", "::1", "ff02::1", "fd00::2", "::ffff:10.0.0.1"] {
            peer.client = source.parse().expect("an address");
            let frame = peer.frame_of(&syn());
            assert_silence(peer, &frame, Stop::IpSource);
        }
        peer.client = client;
        for dst in ["ff02::1", "fd00::3", "::1"] {
            peer.server = dst.parse().expect("an address");
            let frame = peer.frame_of(&syn());
            assert_silence(peer, &frame, Stop::IpForeign);
        }
        peer.server = server;
        assert_serves(peer);
    });
}

/// N30: a chain has an end, and an order.
#[test]
fn long_and_disordered_chains_are_dropped() {
    dut6(|peer| {
        let padding = [DESTINATION, 0, 1, 4, 0, 0, 0, 0];
        let mut long = padding.repeat(100);
        long[99 * 8] = TCP;
        let frame = extended(peer, DESTINATION, &long);
        assert_silence(peer, &frame, Stop::Ipv6ExtensionChain);
        let late = [[HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0], [TCP, 0, 1, 4, 0, 0, 0, 0]].concat();
        let frame = extended(peer, DESTINATION, &late);
        assert_told(peer, &frame, Stop::Ipv6ExtensionChain, (1, 40));
        let frame = extended(peer, DESTINATION, &[TCP, 255, 1, 4, 0, 0, 0, 0]);
        assert_silence(peer, &frame, Stop::Ipv6ExtensionLength);
        let mut fine = padding.repeat(4);
        fine[0] = DESTINATION;
        fine[3 * 8] = TCP;
        let frame = extended(peer, HOP_BY_HOP, &fine);
        assert_eq!(peer.give_frame(&frame), ["SA 0+0 ack 1"]);
        assert_serves(peer);
    });
}

/// N30, RFC 5095.
#[test]
fn a_routing_header_with_segments_left_is_dropped() {
    dut6(|peer| {
        for kind in [0, 2, 4, 255] {
            let frame = extended(peer, ROUTING, &[TCP, 0, kind, 1, 0, 0, 0, 0]);
            assert_told(peer, &frame, Stop::Ipv6Routing, (0, 42));
        }
        let frame = extended(peer, ROUTING, &[TCP, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(peer.give_frame(&frame), ["SA 0+0 ack 1"]);
        assert_serves(peer);
    });
}

/// N30, RFC 8200 section 4.2: what an unknown option's bits say; jumbo payloads.
#[test]
fn unknown_options_are_treated_as_their_bits_say() {
    dut6(|peer| {
        for header in [HOP_BY_HOP, DESTINATION] {
            let frame = extended(peer, header, &[TCP, 0, 0x5e, 4, 0, 0, 0, 0]);
            assert_silence(peer, &frame, Stop::Ipv6Option);
            for kind in [0x9e, 0xde, 0xc2] {
                let frame = extended(peer, header, &[TCP, 0, kind, 4, 0, 0, 0, 0]);
                assert_told(peer, &frame, Stop::Ipv6Option, (2, 42));
            }
            let frame = extended(peer, header, &[TCP, 0, 0x1e, 5, 0, 0, 0, 0]);
            assert_silence(peer, &frame, Stop::Ipv6ExtensionLength);
        }
        for header in [HOP_BY_HOP, DESTINATION] {
            let frame = extended(peer, header, &[TCP, 0, 0x1e, 4, 0, 0, 0, 0]);
            assert_eq!(peer.give_frame(&frame), ["SA 0+0 ack 1"]);
        }
        assert_serves(peer);
    });
}

/// Part of a segment: its bytes in `range`, behind a fragment header.
fn fragment(whole: &[u8], id: u32, range: core::ops::Range<usize>) -> Vec<u8> {
    let more = range.end < whole.len() - TCP_V6;
    let field = range.start as u16 | u16::from(more);
    let [high, low] = field.to_be_bytes();
    let [a, b, c, d] = id.to_be_bytes();
    let part = [&whole[..TCP_V6], &whole[TCP_V6..][range]].concat();
    behind(&part, FRAGMENT, &[TCP, 0, high, low, a, b, c, d])
}

/// N31, RFC 6946.
#[test]
fn an_atomic_fragment_is_a_packet() {
    dut6(|peer| {
        let whole = peer.frame_of(&syn());
        let len = whole.len() - TCP_V6;
        assert_eq!(peer.give_frame(&fragment(&whole, 1, 0..len)), ["SA 0+0 ack 1"]);
        assert_eq!(peer.host.stack.counters().counted(Count::FragmentsHeld), 0);
        assert_serves(peer);
    });
}

#[test]
fn a_segment_in_pieces_is_put_together() {
    dut6(|peer| {
        peer.open();
        let whole = peer.frame_of(&data(1, 1, &[b'x'; 1400]));
        for range in [1000..1420, 0..24, 24..1000] {
            assert_eq!(peer.give_frame(&fragment(&whole, 2, range)), NOTHING);
        }
        assert_eq!(peer.events(), ["data 0+1400 xxxxxxxxxxxx"]);
        assert_alive(peer, 1401, 1);
    });
}

/// N31, RFC 5722: with all that still comes of it.
#[test]
fn overlapping_pieces_lose_the_packet() {
    dut6(|peer| {
        peer.open();
        let whole = peer.frame_of(&data(1, 1, &[b'x'; 100]));
        peer.give_frame(&fragment(&whole, 3, 0..64));
        for range in [32..96, 64..120, 56..120] {
            let part = fragment(&whole, 3, range);
            assert_silence(peer, &part, Stop::FragmentOverlap);
        }
        peer.now = peer.now + Duration::from_secs(60);
        peer.give_frame(&fragment(&whole, 3, 0..64));
        peer.give_frame(&fragment(&whole, 3, 64..120));
        assert_eq!(peer.events(), ["data 0+100 xxxxxxxxxxxx"], "a minute later it is another");
    });
}

/// A neighbour discovery message in its frame.
pub(super) fn discovery(
    (src, dst): (Ipv6Addr, Ipv6Addr),
    hop_limit: u8,
    mut message: Vec<u8>,
    mac: MacAddr,
) -> Vec<u8> {
    message[2..4].fill(0);
    let pseudo = PseudoHeader::v6(src, dst, icmpv6::PROTOCOL).sum(message.len());
    let field = checksum::field(checksum::sum(&message, pseudo));
    message[2..4].copy_from_slice(&field.to_be_bytes());
    let header = ipv6::Header {
        src,
        dst,
        protocol: icmpv6::PROTOCOL,
        hop_limit,
        dscp: 0,
        ecn: 0,
        flow_label: 0,
        payload_len: message.len() as u16,
    };
    let mut frame = vec![0; TCP_V6 + message.len()];
    let to =
        if dst.is_multicast() { icmpv6::multicast_mac(dst) } else { MacAddr([2, 0, 0, 0, 0, 2]) };
    let packet = xtcp_stack::wire::ethernet::emit(&mut frame, &to, &mac, EtherType::IPV6);
    let rest = header.emit(packet.expect("room")).expect("room");
    rest.copy_from_slice(&message);
    frame
}

fn solicitation(source_mac: Option<MacAddr>) -> Vec<u8> {
    let asked = Solicitation { target: OURS, source_mac };
    let mut message = vec![0; asked.message_len()];
    asked.emit(&mut message, CLIENT, OURS).expect("room");
    message
}

fn advertisement(target: Ipv6Addr) -> Vec<u8> {
    let told = Advertisement {
        target,
        target_mac: Some(EVIL),
        router: false,
        solicited: false,
        overrides: true,
    };
    let mut message = vec![0; told.message_len()];
    told.emit(&mut message, target, OURS).expect("room");
    message
}

/// N32: what a router could have sent on, or an option without end.
#[test]
fn neighbour_discovery_from_afar_or_malformed_is_dropped() {
    dut6(|peer| {
        let ends = (CLIENT, OURS);
        for hop_limit in [0, 1, 64, 254] {
            for message in [solicitation(Some(CLIENT_MAC)), advertisement(CLIENT)] {
                let frame = discovery(ends, hop_limit, message, CLIENT_MAC);
                assert_silence(peer, &frame, Stop::NdInvalid);
            }
        }
        let mut message = solicitation(Some(CLIENT_MAC));
        message[25] = 0;
        let frame = discovery(ends, 255, message, CLIENT_MAC);
        assert_silence(peer, &frame, Stop::NdOption);
        let mut message = solicitation(Some(CLIENT_MAC));
        message[25] = 2;
        let frame = discovery(ends, 255, message, CLIENT_MAC);
        assert_silence(peer, &frame, Stop::NdOption);
        let mut message = solicitation(Some(CLIENT_MAC));
        message[1] = 1;
        let frame = discovery(ends, 255, message, CLIENT_MAC);
        assert_silence(peer, &frame, Stop::NdInvalid);
        assert_serves(peer);
    });
}

/// N31, RFC 6980: not even in an atomic fragment.
#[test]
fn neighbour_discovery_in_pieces_is_dropped() {
    dut6(|peer| {
        let frame = discovery((CLIENT, OURS), 255, solicitation(Some(CLIENT_MAC)), CLIENT_MAC);
        let atomic = behind(&frame, FRAGMENT, &[icmpv6::PROTOCOL, 0, 0, 0, 0, 0, 0, 1]);
        assert_silence(peer, &atomic, Stop::NdInvalid);
        let part = behind(&frame, FRAGMENT, &[icmpv6::PROTOCOL, 0, 0, 1, 0, 0, 0, 1]);
        assert_silence(peer, &part, Stop::IpFragment);
        assert_serves(peer);
    });
}

/// N32: nobody but the operator tells routes.
#[test]
fn router_messages_are_ignored() {
    dut6(|peer| {
        let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        for kind in [133, 134, 137] {
            for _ in 0..50 {
                let mut message = vec![0; 40];
                message[0] = kind;
                let frame = discovery((router, all), 255, message, EVIL);
                assert_silence(peer, &frame, Stop::IcmpRedirect);
            }
        }
        assert_serves(peer);
    });
}

/// N32: a claim on our address is contradicted and not believed.
#[test]
fn an_override_of_our_address_is_contradicted() {
    dut6(|peer| {
        peer.now = peer.now + Duration::from_secs(11);
        let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        for n in 0..20 {
            let before = look(peer);
            let answer = peer.exchange(&discovery((OURS, all), 255, advertisement(OURS), EVIL));
            assert_eq!(answer.len(), usize::from(n == 0));
            assert_eq!(stops(peer, &before), [(Stop::AddressConflict, 1)]);
        }
        assert_serves(peer);
    });
}

/// N32, RFC 4862 section 5.4: an address somebody else has, or asks for as we do, is not used.
#[test]
fn an_address_that_is_taken_is_not_used() {
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let group = icmpv6::solicited_node(OURS);
    let nobody = Ipv6Addr::UNSPECIFIED;
    for evil in [
        discovery((OURS, all), 255, advertisement(OURS), EVIL),
        discovery((nobody, group), 255, solicitation(None), EVIL),
    ] {
        let net = NetConfig { duplicate_probes: 1, ..NetConfig::default() };
        dut_with(&Config { net, ..config(0, 2) }, |peer| {
            let mut wire = crate::sim::Wire::default();
            peer.host.flush(&mut wire, peer.now);
            let asked = wire.frames.iter().any(|frame| {
                let frame = Frame::parse(frame).expect("well formed");
                frame.ethertype == EtherType::IPV6 && frame.dst == icmpv6::multicast_mac(group)
            });
            assert!(asked, "it asks who has it");
            let ours = discovery((nobody, group), 255, solicitation(None), peer.server_mac);
            peer.exchange(&ours);
            assert_eq!(peer.host.stack.counters().counted(Count::AddressesGivenUp), 0, "an echo");
            assert!(peer.exchange(&evil).is_empty());
            assert_eq!(peer.host.stack.counters().counted(Count::AddressesGivenUp), 1);
            assert_serves(peer);
            peer.use_ipv6();
            let frame = peer.frame_of(&syn());
            assert_silence(peer, &frame, Stop::IpForeign);
        });
    }
}

/// N33: a sweep displaces nobody.
#[test]
fn a_sweep_of_neighbours_displaces_nobody() {
    dut6(|peer| {
        peer.open();
        peer.send(b"first");
        assert_eq!(peer.turn(), ["PA 1+5 ack 1"]);
        peer.give(data(1, 6, b"x"));
        peer.events();
        let before = peer.host.stack.counters().counted(Count::SolicitationsOut);
        for n in 1..3000_u16 {
            let src = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, n);
            let [high, low] = n.to_be_bytes();
            let mac = MacAddr([2, 0, 0, 1, high, low]);
            let asked = discovery((src, OURS), 255, solicitation(Some(mac)), mac);
            assert_eq!(peer.exchange(&asked).len(), 1, "{n}");
        }
        peer.send(b"second");
        assert_eq!(peer.turn(), ["PA 6+6 ack 2"]);
        assert_eq!(peer.host.stack.counters().counted(Count::SolicitationsOut), before);
        let client = peer.client;
        assert_eq!(client, IpAddr::V6(CLIENT));
        assert_serves(peer);
    });
}

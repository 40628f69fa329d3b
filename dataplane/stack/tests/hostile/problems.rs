//! What senders of refused IPv6 extension headers are told (RFC 8200 section 4, RFC 4443 sections 2.4
//! and 3.4), and when they are told nothing.

use std::net::Ipv6Addr;
use std::time::Duration;

use xtcp_stack::wire::ethernet::{EtherType, Frame, MacAddr};
use xtcp_stack::wire::icmpv6::{self, Message};
use xtcp_stack::wire::ipv6::Packet;
use xtcp_stack::{Config, Count, NetConfig, Stop};

use super::ipv6::{
    CLIENT, DESTINATION, FRAGMENT, HOP_BY_HOP, OURS, ROUTING, TCP, behind, discovery, dut6,
    extended,
};
use super::{IP, assert_serves, assert_silence, dut_with, look, stops};
use crate::sim::peer::{CLIENT_MAC, Peer, data};
use crate::sim::{assert_well_formed, config};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const UDP: u8 = 17;

/// An unknown option whose bits are `10`: told even of packets to groups.
const ALWAYS: [u8; 8] = [TCP, 0, 0x9e, 4, 0, 0, 0, 0];

/// One whose bits are `11`.
const NOT_OF_GROUPS: [u8; 8] = [TCP, 0, 0xde, 4, 0, 0, 0, 0];

/// This frame goes no further, for this reason, and its sender is told so by this code and pointer.
pub(super) fn assert_told(peer: &mut Peer<'_>, frame: &[u8], stop: Stop, told: (u8, u32)) {
    // The ration is whole again.
    peer.now = peer.now + Duration::from_secs(1);
    let before = look(peer);
    let answers = peer.exchange(frame);
    assert_eq!(stops(peer, &before), [(stop, 1)]);
    let count = Count::ParameterProblemsOut;
    assert_eq!(look(peer).counters.counted(count), before.counters.counted(count) + 1);
    let [answer] = &answers[..] else { panic!("one message: {answers:02x?}") };
    assert_problem(answer, &frame[IP..], told);
    assert_eq!(peer.host.stack.usage(), before.usage);
    assert_eq!(look(peer).connections, before.connections);
}

/// Exactly this message, about this packet of the client's.
fn assert_problem(answer: &[u8], about: &[u8], (code, pointer): (u8, u32)) {
    assert_well_formed(answer);
    let frame = Frame::parse(answer).expect("well formed");
    assert_eq!((frame.dst, frame.src), (CLIENT_MAC, MacAddr([2, 0, 0, 0, 0, 2])));
    assert_eq!(frame.ethertype, EtherType::IPV6);
    let packet = Packet::parse(frame.payload).expect("well formed");
    assert_eq!((packet.src, packet.dst), (OURS, CLIENT));
    assert_eq!((packet.protocol, packet.hop_limit), (icmpv6::PROTOCOL, 64));
    assert_eq!(Message::parse(&packet), Ok(Message::ErrorAboutOther), "its checksum is right");
    let (header, quote) = packet.payload.split_at(8);
    assert_eq!((header[0], header[1]), (4, code));
    assert_eq!(header[4..], pointer.to_be_bytes());
    assert_eq!(quote, &about[..about.len().min(1280 - 48)], "as much of it as fits");
}

/// This frame goes no further, for this reason, and nobody is told.
fn assert_untold(peer: &mut Peer<'_>, frame: &[u8], stop: Stop) {
    peer.now = peer.now + Duration::from_secs(1);
    assert_silence(peer, frame, stop);
}

fn set_source(frame: &mut [u8], source: Ipv6Addr) {
    frame[IP + 8..IP + 24].copy_from_slice(&source.octets());
}

fn set_destination(frame: &mut [u8], destination: Ipv6Addr) {
    frame[IP + 24..IP + 40].copy_from_slice(&destination.octets());
}

/// Wherever in the chain it stands.
#[test]
fn pointers_are_at_the_octet_that_is_not_understood() {
    dut6(|peer| {
        let pad = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
        let chain = [pad(ROUTING), [DESTINATION, 0, 0, 0, 0, 0, 0, 0], NOT_OF_GROUPS].concat();
        let frame = extended(peer, HOP_BY_HOP, &chain);
        assert_told(peer, &frame, Stop::Ipv6Option, (2, 40 + 16 + 2));
        let second_option = [TCP, 1, 0x1e, 2, 9, 9, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
        let frame = extended(peer, DESTINATION, &second_option);
        assert_told(peer, &frame, Stop::Ipv6Option, (2, 40 + 8));
        let route = [pad(ROUTING), [TCP, 0, 0, 3, 0, 0, 0, 0]].concat();
        let frame = extended(peer, DESTINATION, &route);
        assert_told(peer, &frame, Stop::Ipv6Routing, (0, 40 + 8 + 2));
        let late = [pad(DESTINATION), pad(HOP_BY_HOP), pad(TCP)].concat();
        let frame = extended(peer, DESTINATION, &late);
        assert_told(peer, &frame, Stop::Ipv6ExtensionChain, (1, 40 + 8));
        for unknown in [UDP, 50, 135, 253] {
            let frame = extended(peer, DESTINATION, &[pad(DESTINATION), pad(unknown)].concat());
            assert_told(peer, &frame, Stop::IpProtocol, (1, 40 + 8));
            let frame = extended(peer, FRAGMENT, &[unknown, 0, 0, 0, 0, 0, 0, 1]);
            assert_told(peer, &frame, Stop::IpProtocol, (1, 40));
            let frame = extended(peer, unknown, &[]);
            assert_untold(peer, &frame, Stop::IpProtocol);
        }
        let frame = extended(peer, DESTINATION, &pad(59));
        assert_untold(peer, &frame, Stop::IpProtocol);
        assert_serves(peer);
    });
}

/// RFC 4443 section 2.4 (c), and padding of short frames is no part of a packet.
#[test]
fn as_much_of_the_packet_is_sent_back_as_fits() {
    dut6(|peer| {
        for len in [0, 1, 1163, 1164, 1165, 1300] {
            let frame = behind(&peer.frame_of(&data(1, 1, &vec![b'x'; len])), HOP_BY_HOP, &ALWAYS);
            assert_told(peer, &frame, Stop::Ipv6Option, (2, 42));
        }
        let frame = extended(peer, HOP_BY_HOP, &ALWAYS);
        let padded = [&frame[..], &[0xee; 20]].concat();
        let answers = peer.exchange(&padded);
        assert_eq!(answers.len(), 1);
        assert_problem(&answers[0], &frame[IP..], (2, 42));
    });
}

/// RFC 4443 section 2.4 (e.1) and (e.2).
#[test]
fn nothing_is_told_of_errors_and_redirects() {
    dut6(|peer| {
        for (kind, is_told) in [(1, false), (4, false), (100, false), (137, false), (128, true)] {
            let mut message = vec![0; 8];
            message[0] = kind;
            let plain = discovery((CLIENT, OURS), 255, message, CLIENT_MAC);
            let mut option = ALWAYS;
            option[0] = icmpv6::PROTOCOL;
            let frame = behind(&plain, HOP_BY_HOP, &option);
            if is_told {
                assert_told(peer, &frame, Stop::Ipv6Option, (2, 42));
            } else {
                assert_untold(peer, &frame, Stop::Ipv6Option);
            }
        }
        // A later part of a message does not say what it is, though it may look like an echo.
        let plain = discovery((CLIENT, OURS), 255, vec![128, 0, 0, 0, 0, 0, 0, 0], CLIENT_MAC);
        let mut option = ALWAYS;
        option[0] = FRAGMENT;
        let part = [icmpv6::PROTOCOL, 0, 0, 8, 0, 0, 0, 1];
        let frame = behind(&plain, HOP_BY_HOP, &[option, part].concat());
        assert_untold(peer, &frame, Stop::Ipv6Option);
    });
}

/// RFC 4443 section 2.4 (e.3) to (e.5): to groups, or in frames to groups.
#[test]
fn nothing_is_told_of_what_was_sent_to_a_group_but_where_the_option_asks_for_it() {
    dut6(|peer| {
        let groups = [ALL_NODES, icmpv6::solicited_node(OURS)];
        for header in [NOT_OF_GROUPS, ALWAYS] {
            let plain = extended(peer, HOP_BY_HOP, &header);
            let mut frames = Vec::new();
            for group in groups {
                for to in [icmpv6::multicast_mac(group), peer.server_mac] {
                    let mut frame = plain.clone();
                    set_destination(&mut frame, group);
                    frame[..6].copy_from_slice(&to.0);
                    frames.push(frame);
                }
            }
            for to in [MacAddr::BROADCAST, icmpv6::multicast_mac(ALL_NODES)] {
                let mut frame = plain.clone();
                frame[..6].copy_from_slice(&to.0);
                frames.push(frame);
            }
            for frame in frames {
                if header == ALWAYS {
                    assert_told(peer, &frame, Stop::Ipv6Option, (2, 42));
                } else {
                    assert_untold(peer, &frame, Stop::Ipv6Option);
                }
            }
        }
        let mut frame = extended(peer, ROUTING, &[TCP, 0, 0, 1, 0, 0, 0, 0]);
        set_destination(&mut frame, ALL_NODES);
        assert_untold(peer, &frame, Stop::Ipv6Routing);
        // We are not in that group, and that address is not ours.
        for other in ["ff02::2", "ff05::1", "fd00::3", "::"] {
            let mut frame = extended(peer, HOP_BY_HOP, &ALWAYS);
            set_destination(&mut frame, other.parse().expect("an address"));
            assert_untold(peer, &frame, Stop::Ipv6Option);
        }
        assert_serves(peer);
    });
}

/// RFC 4443 section 2.4 (e.6): from whom nothing can have come.
#[test]
fn nothing_is_told_to_nobody() {
    dut6(|peer| {
        let plain = extended(peer, HOP_BY_HOP, &ALWAYS);
        for source in ["::", "::1", "ff02::1", "fd00::2", "::ffff:10.0.0.1"] {
            let mut frame = plain.clone();
            set_source(&mut frame, source.parse().expect("an address"));
            assert_untold(peer, &frame, Stop::Ipv6Option);
        }
        let mut frame = plain.clone();
        frame[6] |= 1;
        assert_untold(peer, &frame, Stop::Ipv6Option);
        peer.host.stack.set_answers_neighbours(false);
        assert_untold(peer, &plain, Stop::Ipv6Option);
        peer.host.stack.set_answers_neighbours(true);
        assert_told(peer, &plain, Stop::Ipv6Option, (2, 42));
    });
}

/// RFC 4443 section 2.4 (f): ten at once and ten a second, whoever they are for.
#[test]
fn senders_are_told_within_a_ration() {
    dut6(|peer| {
        peer.now = peer.now + Duration::from_secs(1);
        let before = look(peer);
        let plain = extended(peer, HOP_BY_HOP, &ALWAYS);
        let told = |peer: &mut Peer<'_>, times: u16| -> usize {
            let frames = (0..times).map(|n| {
                let mut frame = plain.clone();
                set_source(&mut frame, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, n));
                frame
            });
            frames.map(|frame| peer.exchange(&frame).len()).sum()
        };
        assert_eq!(told(peer, 500), 10);
        let expected = [(Stop::Ipv6Option, 500), (Stop::ParameterProblemRationed, 490)];
        assert_eq!(stops(peer, &before), expected);
        peer.now = peer.now + Duration::from_millis(99);
        assert_eq!(told(peer, 1), 0);
        for _ in 0..50 {
            peer.now = peer.now + Duration::from_millis(100);
            assert_eq!(told(peer, 20), 1);
        }
        // What may not be told takes nothing of it.
        peer.now = peer.now + Duration::from_millis(100);
        let mut nobody = plain.clone();
        set_source(&mut nobody, Ipv6Addr::UNSPECIFIED);
        assert!(peer.exchange(&nobody).is_empty());
        assert_eq!(told(peer, 1), 1);
        assert_serves(peer);
    });
}

/// An address that is somebody else's tells nobody anything.
#[test]
fn an_address_that_was_given_up_is_not_told_from() {
    let net = NetConfig { duplicate_probes: 1, ..NetConfig::default() };
    dut_with(&Config { net, ..config(0, 2) }, |peer| {
        let mut wire = crate::sim::Wire::default();
        peer.host.flush(&mut wire, peer.now);
        peer.use_ipv6();
        let plain = extended(peer, HOP_BY_HOP, &ALWAYS);
        let mut to_all = plain.clone();
        set_destination(&mut to_all, ALL_NODES);
        for frame in [&plain, &to_all] {
            let answers = peer.exchange(frame);
            assert_eq!(answers.len(), 1, "it is used while it is asked who else has it");
            assert_problem(&answers[0], &frame[IP..], (2, 42));
        }
        let asked = icmpv6::Solicitation { target: OURS, source_mac: None };
        let (nobody, group) = (Ipv6Addr::UNSPECIFIED, icmpv6::solicited_node(OURS));
        let mut message = vec![0; asked.message_len()];
        asked.emit(&mut message, nobody, group).expect("room");
        peer.exchange(&discovery((nobody, group), 255, message, CLIENT_MAC));
        assert_eq!(peer.host.stack.counters().counted(Count::AddressesGivenUp), 1);
        for frame in [plain, to_all] {
            assert_silence(peer, &frame, Stop::Ipv6Option);
        }
    });
}

//! ARP.

use std::net::Ipv4Addr;
use std::time::Duration;

use xtcp_stack::wire::arp::{self, Operation, Packet};
use xtcp_stack::wire::ethernet::{self, EtherType, Frame, MacAddr};
use xtcp_stack::{Config, Count, NetConfig, Stop};

use super::{assert_serves, assert_silence, dut, dut_with, look, stops};
use crate::sim::config;
use crate::sim::peer::{CLIENT_MAC, Peer, data, syn};

const EVIL: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x66]);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// An ARP packet in a broadcast frame.
fn frame(operation: Operation, sender: (Ipv4Addr, MacAddr), target_ip: Ipv4Addr) -> Vec<u8> {
    let (sender_ip, sender_mac) = sender;
    let packet = Packet { operation, sender_mac, sender_ip, target_mac: EVIL, target_ip };
    let mut frame = vec![0; ethernet::HEADER + arp::PACKET];
    let rest = ethernet::emit(&mut frame, &MacAddr::BROADCAST, &sender_mac, EtherType::ARP);
    packet.emit(rest.expect("room")).expect("room");
    frame
}

/// Bad input 101.
#[test]
fn malformed_arp_is_dropped() {
    dut(|peer| {
        let good = frame(Operation::Request, (CLIENT, CLIENT_MAC), OURS);
        for (at, value, stop) in [
            (18, 0, Stop::ArpKind),
            (18, 255, Stop::ArpKind),
            (19, 0, Stop::ArpKind),
            (19, 255, Stop::ArpKind),
            (15, 6, Stop::ArpKind),
            (16, 0x86, Stop::ArpKind),
            (21, 0, Stop::ArpOperation),
            (21, 3, Stop::ArpOperation),
            (20, 1, Stop::ArpOperation),
            (22, 1, Stop::ArpSender),
        ] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_silence(peer, &bad, stop);
        }
        for len in 14..good.len() {
            assert_silence(peer, &good[..len], Stop::ArpTruncated);
        }
        assert_serves(peer);
    });
}

/// Bad input 102: whoever says that it is our client has our answers only until it is asked.
#[test]
fn a_poisoned_neighbour_recovers() {
    dut(|peer| {
        peer.open();
        let poison = frame(Operation::Reply, (CLIENT, EVIL), OURS);
        assert!(peer.exchange(&poison).is_empty());
        peer.send(b"answer");
        let (mut asked, mut back) = (None, None);
        for second in 0..20 {
            let mut sent = turn(peer);
            while let Some(bytes) = sent.pop() {
                let frame_out = Frame::parse(&bytes).expect("well formed");
                if frame_out.ethertype == EtherType::ARP && frame_out.dst == MacAddr::BROADCAST {
                    let reply = frame(Operation::Reply, (CLIENT, CLIENT_MAC), OURS);
                    sent.extend(peer.exchange(&reply));
                } else if frame_out.ethertype == EtherType::ARP && frame_out.dst == EVIL {
                    asked = asked.or(Some(second));
                } else if frame_out.ethertype == EtherType::IPV4 && frame_out.dst == CLIENT_MAC {
                    back = back.or(Some(second));
                }
            }
            peer.now = peer.now + Duration::from_secs(1);
        }
        // RFC 4861 section 7.3.3: who was not asked is, where it is said to be, five seconds after its use.
        assert!(asked.is_some_and(|second| second <= 6), "{asked:?}");
        assert!(back.is_some(), "lost for ever");
    });
}

/// What the stack has to send now, unread.
fn turn(peer: &mut Peer<'_>) -> Vec<Vec<u8>> {
    let mut wire = crate::sim::Wire::default();
    peer.host.flush(&mut wire, peer.now);
    wire.frames
}

/// Bad input 103 and N33: they are answered, the table stays as large as it is, and whoever is
/// there stays.
#[test]
fn a_flood_of_neighbours_displaces_nobody() {
    dut(|peer| {
        peer.open();
        peer.send(b"first");
        assert_eq!(peer.turn(), ["PA 1+5 ack 1"]);
        peer.give(data(1, 6, b"x"));
        peer.events();
        for n in 0..3000_u32 {
            let [_, _, high, low] = n.to_be_bytes();
            let mac = MacAddr([2, 0, 0, 1, high, low]);
            let host = Ipv4Addr::new(10, 0, 0, 3 + (n % 250) as u8);
            let answer = peer.exchange(&frame(Operation::Request, (host, mac), OURS));
            assert_eq!(answer.len(), 1, "{n}");
        }
        let asked = peer.host.stack.counters().counted(Count::ArpRequestsOut);
        peer.send(b"second");
        assert_eq!(peer.turn(), ["PA 6+6 ack 2"]);
        assert_eq!(peer.host.stack.counters().counted(Count::ArpRequestsOut), asked);
        assert_serves(peer);
    });
}

/// N34, RFC 5227 section 2.4: counted each time, contradicted once in ten seconds, and used on.
#[test]
fn a_claim_on_our_address_is_contradicted_now_and_then() {
    dut(|peer| {
        for operation in [Operation::Request, Operation::Reply] {
            peer.now = peer.now + Duration::from_secs(11);
            for n in 0..100 {
                let before = look(peer);
                let answer = peer.exchange(&frame(operation, (OURS, EVIL), OURS));
                assert_eq!(answer.len(), usize::from(n == 0));
                assert_eq!(stops(peer, &before), [(Stop::AddressConflict, 1)]);
                for sent in answer {
                    let sent = Frame::parse(&sent).expect("well formed");
                    let packet = Packet::parse(sent.payload).expect("well formed");
                    assert_eq!((sent.dst, packet.sender_ip), (MacAddr::BROADCAST, OURS));
                }
            }
        }
        assert_serves(peer);
    });
}

/// A stack that asks at the start who else has its addresses.
fn cautious(test: impl FnOnce(&mut Peer<'_>)) {
    let net = NetConfig { duplicate_probes: 3, ..NetConfig::default() };
    dut_with(&Config { net, ..config(0, 2) }, test);
}

/// RFC 5227 sections 2.1 and 2.3: three probes, two announcements, then silence.
#[test]
fn addresses_are_asked_for_then_announced() {
    cautious(|peer| {
        let mut seen = Vec::new();
        for _ in 0..12 {
            for sent in turn(peer) {
                let sent = Frame::parse(&sent).expect("well formed");
                if sent.ethertype == EtherType::ARP {
                    let packet = Packet::parse(sent.payload).expect("well formed");
                    assert_eq!(packet.target_ip, OURS);
                    seen.push(packet.sender_ip);
                }
            }
            peer.now = peer.now + Duration::from_secs(1);
        }
        let nobody = Ipv4Addr::UNSPECIFIED;
        assert_eq!(seen, [nobody, nobody, nobody, OURS, OURS]);
        assert_eq!(peer.host.stack.poll_timeout(), None);
        assert_serves(peer);
    });
}

/// Whoever answers, or asks at the same time, keeps the address.
#[test]
fn an_address_somebody_else_has_is_given_up() {
    for evil in [
        frame(Operation::Reply, (OURS, EVIL), OURS),
        frame(Operation::Request, (OURS, EVIL), OURS),
        frame(Operation::Request, (Ipv4Addr::UNSPECIFIED, EVIL), OURS),
    ] {
        cautious(|peer| {
            turn(peer);
            let before = look(peer);
            assert!(peer.exchange(&evil).is_empty());
            assert_eq!(stops(peer, &before), [(Stop::AddressConflict, 1)]);
            assert_eq!(peer.host.stack.counters().counted(Count::AddressesGivenUp), 1);
            let frame = peer.frame_of(&syn());
            assert_silence(peer, &frame, Stop::IpForeign);
            peer.use_ipv6();
            assert_serves(peer);
        });
    }
}

/// Once nobody has answered, a claim is only a claim.
#[test]
fn an_address_is_not_given_up_later() {
    cautious(|peer| {
        for _ in 0..10 {
            turn(peer);
            peer.now = peer.now + Duration::from_secs(1);
        }
        assert_eq!(peer.exchange(&frame(Operation::Reply, (OURS, EVIL), OURS)).len(), 1);
        let probe = frame(Operation::Request, (Ipv4Addr::UNSPECIFIED, EVIL), OURS);
        assert_eq!(peer.exchange(&probe).len(), 1, "who looks for a free one is told");
        assert_eq!(peer.host.stack.counters().counted(Count::AddressesGivenUp), 0);
        assert_serves(peer);
    });
}

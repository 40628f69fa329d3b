//! A device that completes TCP checksums finds in their fields what it wants to find: every segment
//! that leaves it is read by somebody else's parser.

use std::net::Ipv4Addr;
use std::time::Duration;

use xtcp_stack::wire::arp;
use xtcp_stack::wire::ethernet::{self, EtherType, MacAddr};

use super::{NOTHING, ordinary};
use crate::sim::peer::{CLIENT_MAC, Peer, ack, data, fin, syn};

/// From the handshake to the end; text of odd and even lengths, and of all ones.
fn a_life(peer: &mut Peer<'_>) {
    peer.completes = true;
    peer.open();
    peer.give(data(1, 1, b"request"));
    assert_eq!(peer.events(), ["data 0+7 request"]);
    let mut sent = 1;
    for text in [&b"a"[..], b"ab", &[0xff; 1439], &[0; 1440]] {
        peer.send(text);
        assert_eq!(peer.turn().len(), 1);
        let got = peer.last_got().clone();
        assert!(got.seq == sent && got.text == text, "{} bytes", text.len());
        sent += text.len() as i64;
        peer.give(ack(8, sent));
    }
    peer.give(fin(8, sent));
    peer.wait(Duration::from_secs(1));
    assert_eq!(peer.last_got().ack, 9, "the end is acknowledged");
    assert!(peer.completed >= 6, "the device completed {} segments only", peer.completed);
}

#[test]
fn a_device_completes_the_checksums_of_a_connection() {
    ordinary(a_life);
    ordinary(|peer| {
        peer.use_ipv6();
        a_life(peer);
    });
}

#[test]
fn what_goes_again_and_what_refuses_is_the_devices_to_complete_as_well() {
    ordinary(|peer| {
        peer.completes = true;
        peer.open();
        peer.send(b"answer");
        assert_eq!(peer.turn(), ["PA 1+6 ack 1"]);
        let before = peer.completed;
        assert!(!peer.wait(Duration::from_secs(3)).is_empty(), "it goes again");
        assert!(peer.completed > before);
        peer.use_port(4001);
        let before = peer.completed;
        assert_eq!(peer.give(ack(1, 1)).len(), 1, "a reset");
        assert_eq!(peer.completed, before + 1);
    });
}

/// What waits for its neighbour is kept as mere bytes: its checksum is written when it is made.
#[test]
fn what_waits_for_its_neighbour_leaves_with_its_checksum() {
    ordinary(|peer| {
        peer.completes = true;
        let stranger = Ipv4Addr::new(10, 0, 0, 77);
        peer.client = stranger.into();
        assert_eq!(peer.give(syn()), NOTHING, "who has that address?");
        let answer = arp::Packet {
            operation: arp::Operation::Reply,
            sender_mac: CLIENT_MAC,
            sender_ip: stranger,
            target_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            target_ip: Ipv4Addr::new(10, 0, 0, 2),
        };
        let mut frame = vec![0; ethernet::HEADER + arp::PACKET];
        let to = answer.target_mac;
        let rest = ethernet::emit(&mut frame, &to, &CLIENT_MAC, EtherType::ARP).expect("room");
        answer.emit(rest).expect("room");
        assert_eq!(peer.give_frame(&frame), ["SA 0+0 ack 1"]);
        assert_eq!(peer.completed, 0);
    });
}

//! Frames.

use xtcp_stack::wire::arp::{self, Operation, Packet};
use xtcp_stack::wire::ethernet::{EtherType, Frame, MacAddr, emit_in};
use xtcp_stack::{Config, NetConfig, Stop};

use super::{IP, assert_alive, assert_serves, assert_silence, dut, dut_with, insert};
use crate::sim::config;
use crate::sim::peer::{CLIENT_MAC, data, syn};

/// Bad input 11.
#[test]
fn padding_is_no_payload() {
    dut(|peer| {
        let padded = |mut frame: Vec<u8>| {
            frame.resize(frame.len().max(60) + 9, 0x5a);
            frame
        };
        let frame = padded(peer.frame_of(&syn()));
        assert_eq!(peer.give_frame(&frame), ["SA 0+0 ack 1"]);
        let frame = padded(peer.frame_of(&data(1, 1, b"short")));
        peer.give_frame(&frame);
        assert_eq!(peer.events(), ["opened", "data 0+5 short"]);
        peer.give(data(6, 1, b"next"));
        assert_eq!(peer.events(), ["data 5+4 next"]);
    });
}

/// Bad input 41, RFC 1122 section 3.3.6.
#[test]
fn a_group_frame_with_a_packet_to_one_host_is_dropped() {
    dut(|peer| {
        for dst in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1]), MacAddr([3; 6])] {
            let mut frame = peer.frame_of(&syn());
            frame[..6].copy_from_slice(&dst.0);
            assert_silence(peer, &frame, Stop::IpGroup);
        }
        assert_serves(peer);
    });
}

/// What has no connection is answered where it came from: a group would be told all of it.
#[test]
fn a_segment_from_a_groups_address_is_dropped() {
    dut(|peer| {
        for src in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1]), MacAddr([0; 6])] {
            for seg in [syn(), data(1, 1, b"of no connection")] {
                let mut frame = peer.frame_of(&seg);
                frame[6..12].copy_from_slice(&src.0);
                assert_silence(peer, &frame, Stop::FrameSource);
            }
        }
        assert_serves(peer);
    });
}

/// Bad input 42.
#[test]
fn a_frame_for_another_station_is_dropped() {
    dut(|peer| {
        let mut frame = peer.frame_of(&syn());
        frame[5] ^= 0x40;
        assert_silence(peer, &frame, Stop::FrameForeign);
        assert_serves(peer);
    });
}

/// Bad input 104.
#[test]
fn frames_of_no_kind_are_dropped() {
    dut(|peer| {
        let whole = peer.frame_of(&syn());
        for len in 0..14 {
            assert_silence(peer, &whole[..len], Stop::FrameTruncated);
        }
        for len in 14..34 {
            assert_silence(peer, &whole[..len], Stop::Ipv4Truncated);
        }
        for (ethertype, stop) in [
            (0x0000_u16, Stop::FrameLengthField),
            (46, Stop::FrameLengthField),
            (0x05ff, Stop::FrameLengthField),
            (0x0600, Stop::FrameEtherType),
            (0x88cc, Stop::FrameEtherType),
            (0xffff, Stop::FrameEtherType),
        ] {
            let mut frame = whole.clone();
            frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
            assert_silence(peer, &frame, stop);
        }
        assert_serves(peer);
    });
}

/// Bad input 104: larger than any packet the link can have.
#[test]
fn an_oversize_frame_does_no_harm() {
    dut(|peer| {
        peer.open();
        let frame = peer.frame_of(&data(1, 1, &[b'x'; 9000]));
        peer.give_frame(&frame);
        let delivered: u32 = peer.host.stack.connections().map(|info| info.unread).sum();
        assert_eq!(delivered, 9000, "what has a good checksum is text");
        peer.events();
        assert_serves(peer);
    });
}

/// N35, without a VLAN.
#[test]
fn only_a_priority_tag_is_passed_over() {
    dut(|peer| {
        let plain = peer.frame_of(&syn());
        for (tag, stop) in [
            (&[0x81, 0, 0xe0, 5][..], Stop::FrameVlan),
            (&[0x81, 0, 0x0f, 0xff], Stop::FrameVlan),
            (&[0x81, 0, 0, 5, 0x81, 0, 0, 6], Stop::FrameVlan),
            (&[0x81, 0, 0, 0, 0x81, 0, 0, 0], Stop::FrameEtherType),
            (&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6], Stop::FrameEtherType),
        ] {
            assert_silence(peer, &insert(&plain, 12, tag), stop);
        }
        for len in 14..18 {
            let tagged = insert(&plain, 12, &[0x81, 0, 0, 0]);
            assert_silence(peer, &tagged[..len], Stop::FrameTruncated);
        }
        let tagged = insert(&plain, 12, &[0x81, 0, 0xe0, 0]);
        assert_eq!(peer.give_frame(&tagged), ["SA 0+0 ack 1"]);
        assert_eq!(peer.give(data(1, 1, b"text")).len(), 0);
        assert_eq!(peer.events(), ["opened", "data 0+4 text"]);
    });
}

/// N35, with a VLAN: nothing without its tag comes in, nothing without it goes out, and the tag
/// takes nothing from the packet's room.
#[test]
fn a_port_of_a_vlan_knows_no_other_frames() {
    let net = NetConfig { vlan: Some(5), ..NetConfig::default() };
    dut_with(&Config { net, ..config(0, 2) }, |peer| {
        let tag = |frame: &[u8]| insert(frame, 12, &[0x81, 0, 0x20, 5]);
        let ask = Packet {
            operation: Operation::Request,
            sender_mac: CLIENT_MAC,
            sender_ip: [10, 0, 0, 1].into(),
            target_mac: MacAddr::default(),
            target_ip: [10, 0, 0, 2].into(),
        };
        let mut frame = vec![0; 18 + arp::PACKET];
        let rest = emit_in(5, &mut frame, &MacAddr::BROADCAST, &CLIENT_MAC, EtherType::ARP);
        ask.emit(rest.expect("room")).expect("room");
        let answer = peer.exchange(&frame);
        assert_eq!(answer.len(), 1);
        assert_eq!(answer[0][12..18], [0x81, 0, 0, 5, 8, 6]);

        let plain = peer.frame_of(&syn());
        assert_silence(peer, &plain, Stop::FrameVlan);
        assert_silence(peer, &insert(&plain, 12, &[0x81, 0, 0, 0]), Stop::FrameVlan);
        assert_silence(peer, &insert(&plain, 12, &[0x81, 0, 0, 6]), Stop::FrameVlan);
        let answer = peer.exchange(&tag(&plain));
        assert_eq!(answer.len(), 1);
        let parsed = Frame::parse(&answer[0]).expect("a frame");
        assert_eq!((parsed.vlan, parsed.ethertype), (5, EtherType::IPV4));
        assert_eq!(peer.give_frame(&tag(&plain)), ["SA 0+0 ack 1"]);

        let text = peer.frame_of(&data(1, 1, &[b'x'; 1460]));
        assert_eq!(text.len(), IP + 1500);
        peer.give_frame(&tag(&text));
        assert_eq!(peer.events(), ["opened", "data 0+1460 xxxxxxxxxxxx"]);
        peer.send(&[b'y'; 1460]);
        assert_eq!(peer.turn(), ["PA 1+1460 ack 1461"]);
        let unknown = peer.frame_of(&syn());
        let mut unknown = tag(&unknown);
        unknown[18 + 20 + 3] = 9;
        assert_silence(peer, &unknown, Stop::TcpChecksum);
    });
}

/// N36 and bad input 41 for the living: what is dropped below leaves connections alone.
#[test]
fn an_open_connection_outlives_bad_frames() {
    dut(|peer| {
        peer.open();
        let good = peer.frame_of(&data(1, 1, b"hello"));
        for bit in 0..good.len() * 8 {
            let mut frame = good.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            // Whatever is in it, nothing damaged is delivered: flips that pass are of no meaning.
            peer.exchange(&frame);
            for line in peer.events() {
                assert_eq!(line, "data 0+5 hello", "bit {bit}");
            }
        }
        assert_alive(peer, 6, 1);
    });
}

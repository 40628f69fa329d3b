//! IPv4 packets.

use std::net::IpAddr;

use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{Config, Count, NetConfig, Stop};

use super::{
    IP, NOTHING, TCP_V4, assert_alive, assert_serves, assert_silence, dut, dut_with, insert, look,
    seal_ipv4, seal_tcp_v4, stops,
};
use crate::sim::config;
use crate::sim::peer::{Peer, ack, data, syn};

/// A SYN's frame, changed, its header's checksum right.
fn changed(peer: &Peer<'_>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = peer.frame_of(&syn());
    change(&mut frame);
    seal_ipv4(&mut frame);
    frame
}

/// Bad input 3, RFC 1122 section 3.2.1.2.
#[test]
fn a_header_with_a_wrong_checksum_is_dropped() {
    dut(|peer| {
        let good = peer.frame_of(&syn());
        for bit in 0..16 {
            let mut frame = good.clone();
            frame[IP + 10 + bit / 8] ^= 1 << (bit % 8);
            assert_silence(peer, &frame, Stop::Ipv4Checksum);
        }
        assert_serves(peer);
    });
}

/// Bad input 4 and 5.
#[test]
fn a_length_that_is_not_the_packets_is_not_believed() {
    dut(|peer| {
        let frame = changed(peer, |frame| frame[IP + 2..IP + 4].copy_from_slice(&[0, 20]));
        assert_silence(peer, &frame, Stop::TcpTruncated);
        let frame = changed(peer, |frame| frame[IP + 2..IP + 4].copy_from_slice(&[0, 19]));
        assert_silence(peer, &frame, Stop::Ipv4TotalLength);
        let frame = changed(peer, |frame| frame[IP + 3] += 1);
        assert_silence(peer, &frame, Stop::Ipv4TotalLength);
        let frame = changed(peer, |frame| frame[IP + 2] = 0xff);
        assert_silence(peer, &frame, Stop::Ipv4TotalLength);
        let frame = changed(peer, |frame| frame[IP + 3] -= 1);
        assert_silence(peer, &frame, Stop::TcpDataOffset);
        assert_serves(peer);
    });
}

/// Bad input 6 and 7.
#[test]
fn a_header_of_another_shape_is_dropped() {
    dut(|peer| {
        for (first, stop) in [
            (0x44, Stop::Ipv4HeaderLength),
            (0x40, Stop::Ipv4HeaderLength),
            (0x4f, Stop::Ipv4HeaderLength),
            (0x55, Stop::Ipv4Version),
            (0x65, Stop::Ipv4Version),
            (0x05, Stop::Ipv4Version),
        ] {
            let mut frame = peer.frame_of(&syn());
            frame[IP] = first;
            assert_silence(peer, &frame, stop);
        }
        assert_serves(peer);
    });
}

/// Bad input 38, LAND: from our own address and port to it.
#[test]
fn a_packet_from_ourselves_is_dropped() {
    dut(|peer| {
        let (client, server) = (peer.client, peer.server);
        peer.client = server;
        peer.use_port(super::PORT);
        let frame = peer.frame_of(&syn());
        assert_silence(peer, &frame, Stop::IpSource);
        peer.client = client;
        assert_serves(peer);
    });
}

/// Bad input 39, MUST-63.
#[test]
fn a_packet_from_where_nobody_is_is_dropped() {
    dut(|peer| {
        let client = peer.client;
        for source in [
            [127, 0, 0, 1],
            [0, 0, 0, 0],
            [0, 1, 2, 3],
            [255, 255, 255, 255],
            [224, 0, 0, 1],
            [10, 0, 0, 255],
            [10, 0, 0, 0],
        ] {
            peer.client = IpAddr::from(source);
            let frame = peer.frame_of(&syn());
            assert_silence(peer, &frame, Stop::IpSource);
        }
        peer.client = client;
        assert_serves(peer);
    });
}

/// Bad input 40, MUST-57, and 43: nothing is forwarded.
#[test]
fn a_packet_for_a_group_or_for_others_is_dropped() {
    dut(|peer| {
        let (server, mac) = (peer.server, peer.server_mac);
        for dst in [
            [10, 0, 0, 255],
            [255, 255, 255, 255],
            [224, 0, 0, 1],
            [10, 0, 0, 3],
            [8, 8, 8, 8],
            [127, 0, 0, 1],
        ] {
            peer.server = IpAddr::from(dst);
            let frame = peer.frame_of(&syn());
            assert_silence(peer, &frame, Stop::IpForeign);
            peer.server_mac = MacAddr::BROADCAST;
            let frame = peer.frame_of(&syn());
            assert_silence(peer, &frame, Stop::IpGroup);
            peer.server_mac = mac;
        }
        peer.server = server;
        assert_serves(peer);
    });
}

/// Bad input 44, RFC 7126: source routes are dropped; other options are passed over, and ones with
/// an illegal length dropped.
#[test]
fn ip_options_are_passed_over_but_for_source_routes() {
    let with = |peer: &Peer<'_>, options: &[u8]| {
        let mut frame = insert(&peer.frame_of(&syn()), TCP_V4, options);
        frame[IP] += (options.len() / 4) as u8;
        frame[IP + 3] += options.len() as u8;
        seal_ipv4(&mut frame);
        frame
    };
    dut(|peer| {
        for route in [131, 137] {
            let frame = with(peer, &[1, route, 7, 4, 10, 0, 0, 9]);
            assert_silence(peer, &frame, Stop::Ipv4SourceRoute);
        }
        for bad in [[7, 0, 0, 0], [7, 1, 0, 0], [7, 5, 0, 0], [1, 1, 1, 7]] {
            let frame = with(peer, &bad);
            assert_silence(peer, &frame, Stop::Ipv4Option);
        }
        for fine in [[7, 4, 4, 0], [1, 1, 1, 1], [0, 131, 7, 4], [0x94, 4, 0, 0]] {
            let frame = with(peer, &fine);
            assert_eq!(peer.give_frame(&frame), ["SA 0+0 ack 1"], "{fine:?}");
        }
        assert_serves(peer);
    });
}

/// A protocol we do not speak is no reason to say so.
#[test]
fn other_protocols_are_dropped() {
    dut(|peer| {
        for protocol in [0, 2, 17, 41, 47, 50, 132, 255] {
            let frame = changed(peer, |frame| frame[IP + 9] = protocol);
            assert_silence(peer, &frame, Stop::IpProtocol);
        }
        assert_serves(peer);
    });
}

/// The frame of a fragment: `range` of the segment in `whole`.
fn fragment(whole: &[u8], id: u16, range: core::ops::Range<usize>) -> Vec<u8> {
    let segment = &whole[TCP_V4..];
    let more = range.end < segment.len();
    piece(whole, id, range.start, more, &segment[range])
}

/// The frame of a fragment with these bytes at `offset`.
fn piece(whole: &[u8], id: u16, offset: usize, more: bool, bytes: &[u8]) -> Vec<u8> {
    let mut frame = [&whole[..TCP_V4], bytes].concat();
    let len = (frame.len() - IP) as u16;
    frame[IP + 2..IP + 4].copy_from_slice(&len.to_be_bytes());
    frame[IP + 4..IP + 6].copy_from_slice(&id.to_be_bytes());
    let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
    frame[IP + 6..IP + 8].copy_from_slice(&field.to_be_bytes());
    seal_ipv4(&mut frame);
    frame
}

/// Bad input 90: policy is to put them together, in whatever order.
#[test]
fn a_syn_in_two_pieces_is_answered() {
    dut(|peer| {
        let whole = peer.frame_of(&syn());
        let (first, last) = (fragment(&whole, 1, 0..24), fragment(&whole, 1, 24..28));
        assert_eq!(peer.give_frame(&first), NOTHING);
        assert_eq!(peer.give_frame(&last), ["SA 0+0 ack 1"]);
        peer.give(ack(1, 1));
        let whole = peer.frame_of(&data(1, 1, &[b'x'; 1400]));
        let parts = [1000..1420, 24..1000, 0..24];
        for (n, range) in parts.into_iter().enumerate() {
            assert_eq!(peer.give_frame(&fragment(&whole, 2, range)).len(), 0, "{n}");
        }
        assert_eq!(peer.events(), ["opened", "data 0+1400 xxxxxxxxxxxx"]);
        assert_eq!(peer.host.stack.counters().counted(Count::PacketsReassembled), 2);
    });
}

/// The checksum is the whole's, and is looked at.
#[test]
fn pieces_of_two_packets_make_none() {
    dut(|peer| {
        peer.open();
        let one = peer.frame_of(&data(1, 1, &[b'x'; 100]));
        let two = peer.frame_of(&data(1, 1, &[b'y'; 100]));
        peer.give_frame(&fragment(&one, 3, 0..64));
        let before = look(peer);
        assert_eq!(peer.give_frame(&fragment(&two, 3, 64..120)), NOTHING);
        assert_eq!(stops(peer, &before), [(Stop::TcpChecksum, 1)]);
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 91: teardrop, and the ping of death.
#[test]
fn overlapping_pieces_and_giants_are_dropped() {
    dut(|peer| {
        peer.open();
        let whole = peer.frame_of(&data(1, 1, &[b'x'; 100]));
        peer.give_frame(&fragment(&whole, 1, 0..64));
        let evil = piece(&whole, 1, 32, false, &[0; 4]);
        assert_silence(peer, &evil, Stop::FragmentOverlap);
        let rest = fragment(&whole, 1, 64..120);
        assert_silence(peer, &rest, Stop::FragmentOverlap);
        let giant = piece(&whole, 2, 65_528, false, &[0; 1400]);
        assert_silence(peer, &giant, Stop::FragmentTooBig);
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 92, RFC 1858.
#[test]
fn a_tiny_first_piece_is_dropped() {
    dut(|peer| {
        let whole = peer.frame_of(&syn());
        for len in [8, 16] {
            assert_silence(peer, &fragment(&whole, 1, 0..len), Stop::FragmentInvalid);
        }
        let odd = piece(&whole, 2, 24, true, &[0; 7]);
        assert_silence(peer, &odd, Stop::FragmentInvalid);
        assert_serves(peer);
    });
}

/// Bad input 93: pieces of which the rest never comes keep nobody else's out.
#[test]
fn pieces_that_are_never_completed_are_bounded() {
    dut(|peer| {
        let client = peer.client;
        let before = peer.host.stack.usage();
        for n in 0..2000_u16 {
            peer.client = IpAddr::from([10, 1, (n >> 8) as u8, n as u8]);
            let mut whole = peer.frame_of(&syn());
            seal_tcp_v4(&mut whole);
            assert_eq!(peer.give_frame(&fragment(&whole, n, 0..24)), NOTHING);
        }
        peer.client = client;
        assert_eq!(peer.host.stack.usage(), before);
        assert_eq!(peer.host.stack.counters().stopped(Stop::FragmentEvicted), 2000 - 64);
        let whole = peer.frame_of(&syn());
        peer.give_frame(&fragment(&whole, 7, 0..24));
        assert_eq!(peer.give_frame(&fragment(&whole, 7, 24..28)), ["SA 0+0 ack 1"]);
        assert_serves(peer);
    });
}

/// Who wants no fragments gets none, of other than TCP nobody does.
#[test]
fn fragments_can_be_refused() {
    let net = NetConfig { reassemblies_max: 0, ..NetConfig::default() };
    dut_with(&Config { net, ..config(0, 2) }, |peer| {
        let whole = peer.frame_of(&syn());
        peer.exchange(&fragment(&whole, 7, 0..24));
        assert_eq!(peer.host.stack.counters().stopped(Stop::IpFragment), 1);
        assert_serves(peer);
    });
    dut(|peer| {
        let mut part = fragment(&peer.frame_of(&syn()), 7, 0..24);
        part[IP + 9] = 1;
        seal_ipv4(&mut part);
        assert_silence(peer, &part, Stop::IpFragment);
    });
}

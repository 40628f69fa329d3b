//! TCP headers, options, and segments of no connection.

use xtcp_stack::Stop;
use xtcp_stack::wire::tcp::{Flags, Options};

use super::{
    NOTHING, TCP_V4, assert_alive, assert_answer, assert_serves, assert_silence, dut, seal_ipv4,
    seal_tcp_v4,
};
use crate::sim::peer::{Peer, Seg, ack, data, fin, rst, syn};

/// A SYN without options of ours, and these.
fn bare(raw: &[u8]) -> Seg {
    syn().options(|options| *options = Options::NONE).raw_options(raw)
}

/// A SYN that is answered, and whose client is served.
fn assert_opens(syn: &Seg) {
    dut(|peer| {
        assert_eq!(peer.give(syn.clone()), ["SA 0+0 ack 1"]);
        assert_eq!(peer.give(ack(1, 1)), NOTHING);
        assert_eq!(peer.events(), ["opened"]);
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 1 and 2, MUST-3.
#[test]
fn a_segment_with_a_wrong_checksum_is_dropped() {
    dut(|peer| {
        let good = peer.frame_of(&syn());
        for bit in 0..16 {
            let mut frame = good.clone();
            frame[TCP_V4 + 16 + bit / 8] ^= 1 << (bit % 8);
            assert_silence(peer, &frame, Stop::TcpChecksum);
        }
        let mut frame = good;
        frame[TCP_V4 + 16..TCP_V4 + 18].fill(0);
        assert_silence(peer, &frame, Stop::TcpChecksum);
        assert_serves(peer);
    });
}

/// Bad input 8, 9 and 10.
#[test]
fn a_header_that_does_not_fit_is_dropped() {
    dut(|peer| {
        let good = peer.frame_of(&syn());
        for offset in [0, 1, 4, 8, 15] {
            let mut frame = good.clone();
            frame[TCP_V4 + 12] = offset << 4;
            seal_tcp_v4(&mut frame);
            assert_silence(peer, &frame, Stop::TcpDataOffset);
        }
        for len in 0..20 {
            let mut frame = good[..TCP_V4 + len].to_vec();
            frame[17] = 20 + len as u8;
            seal_ipv4(&mut frame);
            assert_silence(peer, &frame, Stop::TcpTruncated);
        }
        assert_serves(peer);
    });
}

/// Bad input 12, 13 and 14.
#[test]
fn a_closed_port_resets_whoever_calls() {
    dut(|peer| {
        peer.call(9);
        assert_answer(peer, syn(), &["RA 0+0 ack 1"], Some(Stop::NoConnection));
        let long = syn().text(b"hello").flags(Flags::SYN | Flags::FIN);
        assert_answer(peer, long, &["RA 0+0 ack 7"], Some(Stop::NoConnection));
        assert_answer(peer, ack(1, 77), &["R 77+0"], Some(Stop::NoConnection));
        for seg in [rst(0), rst(0).acking(5)] {
            let frame = peer.frame_of(&seg);
            assert_silence(peer, &frame, Stop::NoConnectionReset);
        }
    });
}

/// Bad input 15 and 22.
#[test]
fn an_acknowledgement_to_a_listener_is_reset() {
    dut(|peer| {
        assert_answer(peer, ack(1, 77), &["R 77+0"], Some(Stop::NoConnection));
        let both = syn().flags(Flags::SYN | Flags::ACK).acking(99);
        assert_answer(peer, both, &["R 99+0"], Some(Stop::NoConnection));
        assert_answer(peer, fin(5, 6), &["R 6+0"], Some(Stop::NoConnection));
        assert_serves(peer);
    });
}

/// Bad input 16 to 21: scans.
#[test]
fn a_listener_says_nothing_to_scans() {
    dut(|peer| {
        for (flags, stop) in [
            (Flags::RST, Stop::NoConnectionReset),
            (Flags::SYN | Flags::RST, Stop::NoConnectionReset),
            (Flags::FIN, Stop::NotForListener),
            (Flags::NONE, Stop::NotForListener),
            (Flags::SYN | Flags::FIN, Stop::NotForListener),
            (Flags::FIN | Flags::URG | Flags::PSH, Stop::NotForListener),
            (Flags::PSH, Stop::NotForListener),
            (Flags::ECE | Flags::CWR, Stop::NotForListener),
        ] {
            let frame = peer.frame_of(&syn().flags(flags));
            assert_silence(peer, &frame, stop);
        }
        assert_serves(peer);
    });
}

/// Bad input 23 and N28: text on a SYN waits to be sent again, whatever cookie is beside it.
#[test]
fn text_on_a_syn_is_delivered_once() {
    for len in 0..=18_u8 {
        dut(|peer| {
            let mut fast_open = vec![34, 2 + len];
            fast_open.extend((0..len).map(|n| n ^ 0x5a));
            fast_open.resize(fast_open.len().next_multiple_of(4), 1);
            let seg = bare(&fast_open).text(b"early");
            assert_eq!(peer.give(seg), ["SA 0+0 ack 1"]);
            assert_eq!(peer.give(ack(1, 1)), NOTHING);
            assert_eq!(peer.events(), ["opened"]);
            peer.give(data(1, 1, b"early"));
            assert_eq!(peer.events(), ["data 0+5 early"]);
        });
    }
}

/// Bad input 24 to 27: illegal lengths.
#[test]
fn options_with_illegal_lengths_do_no_harm() {
    for raw in [
        [8, 0, 0, 0],
        [8, 1, 0, 0],
        [8, 10, 0, 0],
        [2, 3, 5, 0],
        [2, 255, 5, 180],
        [2, 0, 5, 180],
        [3, 2, 1, 1],
        [3, 0, 1, 1],
        [4, 3, 1, 1],
        [5, 9, 0, 0],
        [1, 1, 1, 2],
        [254, 0, 0, 0],
    ] {
        assert_opens(&bare(&raw));
    }
}

/// Bad input 28, 29 and 36: the size of what we send is sane whatever the client says.
#[test]
fn segment_sizes_have_a_floor_and_a_default() {
    for (mss, most) in [(Some(0), 48), (Some(1), 48), (None, 536), (Some(100), 100)] {
        dut(|peer| {
            peer.open_with(syn().options(|options| options.mss = mss));
            peer.send(&[b'x'; 2000]);
            let sent = peer.turn().iter().map(|line| bytes_of(line)).max();
            assert_eq!(sent, Some(most), "{mss:?}");
        });
    }
}

/// Bad input 30, RFC 7323 section 2.3.
#[test]
fn a_window_scale_beyond_14_is_14() {
    for scale in [14, 15, 31, 32, 255] {
        dut(|peer| {
            peer.open_with(syn().options(|options| options.window_scale = Some(scale)));
            peer.give(ack(1, 1).window(1));
            peer.send(&[b'x'; 60_000]);
            let sent: usize = peer.turn().iter().map(|line| bytes_of(line)).sum();
            assert_eq!(sent, 14_600, "ten segments, of a window of 16,384 bytes");
        });
    }
}

/// The bytes of a segment shown as `flags seq+bytes`.
fn bytes_of(line: &str) -> usize {
    let bytes = line.split('+').nth(1).expect("bytes");
    bytes.split(' ').next().and_then(|bytes| bytes.parse().ok()).expect("a number")
}

/// Bad input 31 to 33, MUST-4 and MUST-6.
#[test]
fn odd_but_legal_options_are_passed_over() {
    assert_opens(&bare(&[200, 4, 1, 2]));
    assert_opens(&bare(&[253, 8, 1, 2, 3, 4, 5, 6]));
    assert_opens(&bare(&[1; 40]));
    assert_opens(&bare(&[0; 40]));
    dut(|peer| {
        peer.open_with(bare(&[0, 2, 4, 1, 1, 1, 1, 1]));
        let mss = peer.host.stack.connections().next().map(|info| info.mss);
        assert_eq!(mss, Some(536), "after the end there is nothing");
    });
}

/// Bad input 34.
#[test]
fn options_that_come_twice_do_no_harm() {
    assert_opens(&bare(&[2, 4, 5, 0xb4, 2, 4, 0, 0]));
    assert_opens(&bare(&[3, 3, 7, 3, 3, 255, 1, 1]));
    assert_opens(&bare(&[4, 2, 4, 2]));
}

/// Bad input 35, MUST-5.
#[test]
fn an_unknown_option_beside_text_is_passed_over() {
    dut(|peer| {
        peer.open();
        peer.give(data(1, 1, b"text").raw_options(&[253, 6, 1, 2, 3, 4, 1, 1]));
        assert_eq!(peer.events(), ["data 0+4 text"]);
    });
}

/// N25: what only a SYN may say is not heard elsewhere.
#[test]
fn options_of_a_syn_mean_nothing_later() {
    dut(|peer| {
        peer.open();
        let late = [2, 4, 0, 50, 3, 3, 14, 4, 2, 1, 1, 1];
        peer.give(data(1, 1, b"text").raw_options(&late));
        assert_eq!(peer.events(), ["data 0+4 text"]);
        let mss = peer.host.stack.connections().next().map(|info| info.mss);
        assert_eq!(mss, Some(1460));
        assert_alive(peer, 5, 1);
    });
}

/// N29: signatures are passed over, for nobody here can check them.
#[test]
fn signed_segments_are_taken_as_unsigned() {
    let mut md5 = vec![1, 1, 19, 18];
    md5.extend([0xab; 16]);
    assert_opens(&bare(&md5));
    let ao = [29, 16, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_opens(&bare(&ao));
}

/// Bad input 37 and N21, CVE-2019-11479: a segment has at most so few bytes, an answer so many
/// segments.
#[test]
fn tiny_segments_are_bounded_in_number() {
    dut(|peer| {
        peer.open_with(syn().options(|options| options.mss = Some(48)));
        peer.send(&[b'x'; 8192]);
        let (mut segments, mut acked) = (0, 1);
        let mut lines = peer.turn();
        while acked < 8193 {
            assert!(!lines.is_empty(), "it goes on");
            assert!(lines.iter().all(|line| bytes_of(line) <= 48));
            segments += lines.len();
            acked += lines.iter().map(|line| bytes_of(line)).sum::<usize>();
            lines = peer.give(ack(1, acked as i64));
        }
        assert_eq!(segments, 8192_usize.div_ceil(48));
    });
}

/// Bad input 65, RFC 9293 section 3.1.
#[test]
fn reserved_bits_are_not_looked_at() {
    dut(|peer| {
        peer.open();
        let mut frame = peer.frame_of(&data(1, 1, b"text"));
        frame[TCP_V4 + 12] |= 0x0e;
        seal_tcp_v4(&mut frame);
        peer.give_frame(&frame);
        assert_eq!(peer.events(), ["data 0+4 text"]);
    });
}

/// Who is still unknown and sends anything at all gets at most one segment for it.
#[test]
fn no_segment_of_no_connection_is_answered_twice() {
    dut(|peer: &mut Peer<'_>| {
        for flags in 0..=255 {
            peer.use_port(5000 + u16::from(flags));
            assert!(peer.give(syn().flags(Flags(flags))).len() <= 1, "{flags:#x}");
        }
    });
}

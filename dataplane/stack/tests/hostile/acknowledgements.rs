//! Acknowledgements that cannot be, and windows that close, shrink and lie.

use std::time::Duration;

use xtcp_stack::Stop;
use xtcp_stack::wire::tcp::{Flags, SackBlock};

use super::{
    NOTHING, WHERE_WE_ARE, assert_alive, assert_answer, assert_silence, dut, open, second, stopped,
};
use crate::sim::peer::{ack, data, fin, syn};

/// Bad input 55 and 68: optimistic acknowledgements open no window and deliver no text.
#[test]
fn an_ack_of_what_was_never_sent_is_answered_and_its_text_dropped() {
    open(|peer| {
        peer.send(&[b'x'; 20_000]);
        let first = peer.turn().len();
        second(peer);
        for n in 0..50 {
            peer.give(data(1, 20_001 + n * 1000, b"injected"));
        }
        assert_eq!(stopped(peer, Stop::AckOfUnsent), 50);
        assert_eq!(peer.events(), NOTHING);
        let info = peer.host.stack.connections().next().expect("one");
        assert_eq!(info.unsent, 20_000, "nothing counts as arrived");
        assert_eq!(first, 10);
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 56, RFC 5961 section 5.
#[test]
fn an_ack_from_long_ago_is_challenged_and_its_text_dropped() {
    open(|peer| {
        second(peer);
        let old = data(1, 1 - 70_000, b"injected");
        assert_answer(peer, old, &[WHERE_WE_ARE], Some(Stop::AckTooOld));
        assert_eq!(peer.events(), NOTHING);
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 57.
#[test]
fn a_segment_without_ack_is_dropped() {
    open(|peer| {
        let frame = peer.frame_of(&data(1, 1, b"text").flags(Flags::PSH));
        assert_silence(peer, &frame, Stop::NoAck);
        let frame = peer.frame_of(&fin(1, 1).flags(Flags::FIN));
        assert_silence(peer, &frame, Stop::NoAck);
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 66 and N9: a closed window is probed ever more rarely, for as long as it answers.
#[test]
fn a_closed_window_is_probed_and_opens_again() {
    open(|peer| {
        peer.give(ack(1, 1).window(0));
        peer.send(b"answer");
        assert_eq!(peer.turn(), NOTHING);
        let mut probes = 0;
        for _ in 0..24 * 60 {
            let sent = peer.wait(Duration::from_secs(60));
            probes += sent.len();
            assert!(sent.iter().all(|line| line.contains("1+1 ack 1")), "{sent:?}");
            peer.give(ack(1, 1).window(0));
        }
        assert!((24 * 55..24 * 70).contains(&probes), "about one a minute: {probes}");
        assert_eq!(peer.give(ack(1, 1)), ["PA 1+6 ack 1"]);
        assert_alive(peer, 1, 7);
    });
}

/// Bad input 67, SHLD-15 to 17.
#[test]
fn a_window_that_shrinks_is_survived() {
    open(|peer| {
        peer.send(&[b'x'; 10_000]);
        assert_eq!(peer.turn().len(), 7);
        for window in [10, 1, 0, 3, 500] {
            peer.give(ack(1, 1).window(window));
        }
        peer.wait(Duration::from_secs(2));
        peer.give(ack(1, 10_001));
        assert_eq!(peer.host.stack.usage().transmit_used, 0);
        assert_alive(peer, 1, 10_001);
    });
}

/// Bad input 69, CVE-2019-11477: blocks that say nothing sensible.
#[test]
fn senseless_selective_acknowledgements_do_no_harm() {
    dut(|peer| {
        peer.open_with(syn().options(|options| options.sack_permitted = true));
        peer.send(&[b'x'; 20_000]);
        peer.turn();
        let iss = peer.iss();
        let block = |left: i64, right: i64| SackBlock {
            left: iss.wrapping_add(left as u32),
            right: iss.wrapping_add(right as u32),
        };
        for blocks in [
            [block(5000, 2000), block(1, 1), block(-500, -100), block(1 << 30, 2)],
            [block(-500, 40_000), block(40_000, 50_000), block(0, 1), block(2, 3)],
            [block(1461, 2921), block(1461, 2921), block(2000, 2001), block(1 << 31, 7)],
        ] {
            for _ in 0..5 {
                let lines = peer.give(ack(1, 1).options(|options| {
                    blocks.iter().for_each(|block| options.sack.push(*block));
                }));
                assert!(lines.len() <= 16, "{lines:?}");
            }
        }
        for _ in 0..60 {
            let info = peer.host.stack.connections().next().expect("one");
            if info.unsent == 0 {
                break;
            }
            peer.wait(Duration::from_secs(1));
            let top = peer.last_got().seq + peer.last_got().text.len() as i64;
            peer.give(ack(1, top));
        }
        assert_eq!(peer.host.stack.usage().transmit_used, 0, "all of it arrives in the end");
    });
}

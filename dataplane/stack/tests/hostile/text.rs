//! Text that is out of place: beyond the window, come before, after a hole, after the end, or urgent.

use xtcp_stack::wire::tcp::SackBlock;
use xtcp_stack::{State, Stop};

use super::{NOTHING, WHERE_WE_ARE, assert_alive, assert_answer, dut, open, second, stopped};
use crate::sim::peer::{ISN, ack, data, fin, syn};

/// Bad input 58.
#[test]
fn text_beyond_the_window_is_answered_and_not_delivered() {
    open(|peer| {
        let far = data(1 + (1 << 24), 1, b"beyond");
        assert_answer(peer, far, &[WHERE_WE_ARE], Some(Stop::OutOfWindow));
        assert_eq!(peer.events(), NOTHING);
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 59, RFC 2883.
#[test]
fn text_that_came_before_is_answered_at_once_and_not_delivered_again() {
    open(|peer| {
        peer.give(data(1, 1, b"text"));
        assert_eq!(peer.events(), ["data 0+4 text"]);
        for _ in 0..3 {
            let answer = ["A 1+0 ack 5"];
            assert_answer(peer, data(1, 1, b"text"), &answer, Some(Stop::DuplicateText));
        }
        assert_eq!(peer.events(), NOTHING);
        assert_alive(peer, 5, 1);
    });
}

/// Bad input 60, RFC 1122 section 4.2.3.6.
#[test]
fn a_keep_alive_probe_is_answered() {
    open(|peer| {
        second(peer);
        assert_answer(peer, ack(0, 1), &[WHERE_WE_ARE], Some(Stop::OutOfWindow));
        second(peer);
        let byte = data(0, 1, b"?");
        assert_answer(peer, byte, &[WHERE_WE_ARE], Some(Stop::DuplicateText));
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 61, RFC 2018.
#[test]
fn text_beyond_a_hole_is_told_at_once_and_delivered_in_order() {
    dut(|peer| {
        peer.open_with(syn().options(|options| options.sack_permitted = true));
        assert_eq!(peer.give(data(6, 1, b"world")), [WHERE_WE_ARE]);
        let told = peer.last_got().options.sack;
        let (left, right) = (ISN.wrapping_add(6), ISN.wrapping_add(11));
        assert_eq!(told.as_slice(), [SackBlock { left, right }]);
        assert_eq!(peer.events(), NOTHING);
        assert_eq!(peer.give(data(1, 1, b"hello")), ["A 1+0 ack 11"]);
        assert_eq!(peer.events().concat(), "data 0+5 hellodata 5+5 world");
    });
}

/// Bad input 62: whoever was first is right.
#[test]
fn text_that_contradicts_what_came_first_changes_nothing() {
    open(|peer| {
        peer.give(data(1, 1, b"right"));
        peer.give(data(1, 1, b"wrong and more"));
        let told = peer.events().concat();
        assert!(told.starts_with("data 0+") && told.contains("right"), "{told}");
        assert!(!told.contains("wrong"), "{told}");
        assert_eq!(stopped(peer, Stop::TcpChecksum), 0);
    });
}

/// Bad input 63.
#[test]
fn text_after_the_end_is_not_delivered() {
    open(|peer| {
        peer.give(fin(1, 1).text(b"last"));
        assert_eq!(peer.events(), ["data 0+4 last", "finished 4"]);
        peer.give(data(6, 1, b"more"));
        peer.give(data(5, 1, b"more"));
        assert_eq!(peer.events(), NOTHING);
        assert_eq!(peer.host.stack.connections().next().map(|c| c.state), Some(State::CloseWait));
    });
}

/// Bad input 64: urgent pointers of all kinds, CVE-2019-12255.
#[test]
fn urgent_pointers_do_no_harm() {
    open(|peer| {
        let mut seq = 1;
        for pointer in [0, 1, 3, 4, 5, 100, u16::MAX] {
            peer.give(ack(seq, 1).urgent(pointer));
            assert_eq!(peer.events(), NOTHING, "without text");
            peer.give(data(seq, 1, b"text").urgent(pointer));
            assert_eq!(peer.events(), [format!("data {}+4 text", seq - 1)], "{pointer}");
            seq += 4;
        }
        assert_eq!(stopped(peer, Stop::UrgentIgnored), 14);
        assert_alive(peer, seq, 1);
    });
}

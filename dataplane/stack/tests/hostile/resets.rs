//! Resets and SYNs on connections that are open: what an attacker may guess.

use xtcp_stack::Stop;

use super::{
    NOTHING, WHERE_WE_ARE, assert_alive, assert_answer, assert_serves, assert_silence, dut, open,
    second,
};
use crate::sim::peer::{data, rst, syn};

/// Bad input 50.
#[test]
fn an_exact_reset_ends_the_connection() {
    open(|peer| {
        assert_eq!(peer.give(rst(1)), NOTHING);
        assert_eq!(peer.events(), ["closed Reset held 0"]);
        peer.host.assert_nothing_held();
        assert_serves(peer);
    });
}

/// Bad input 51 and 52, RFC 5961 section 3.
#[test]
fn an_inexact_reset_is_challenged_and_one_beyond_the_window_is_ignored() {
    open(|peer| {
        for seq in [2, 100, 60_000] {
            second(peer);
            assert_answer(peer, rst(seq), &[WHERE_WE_ARE], Some(Stop::ResetChallenged));
        }
        for seq in [0, -1, 1 << 24, -(1 << 30)] {
            let frame = peer.frame_of(&rst(seq));
            assert_silence(peer, &frame, Stop::ResetOutOfWindow);
        }
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 53 and 54, RFC 5961 section 4.
#[test]
fn a_syn_on_an_open_connection_is_challenged() {
    open(|peer| {
        second(peer);
        assert_answer(peer, syn().at(500), &[WHERE_WE_ARE], Some(Stop::SynChallenged));
        second(peer);
        assert_answer(peer, syn(), &[WHERE_WE_ARE], Some(Stop::OutOfWindow));
        assert_alive(peer, 1, 1);
    });
}

/// N1, MUST-66.
#[test]
fn a_reset_is_taken_at_a_closed_window() {
    dut(|peer| {
        peer.open();
        // The application takes nothing until the window is closed.
        let mut seq = 1;
        for _ in 0..1000 {
            peer.give(data(seq, 1, &[b'x'; 1400]));
            if peer.last_got().window == 0 {
                break;
            }
            seq = peer.last_got().ack;
        }
        assert_eq!(peer.last_got().window, 0, "it closes");
        let seq = peer.last_got().ack;
        assert_eq!(peer.give(rst(seq)), NOTHING);
        let told = peer.events();
        assert!(told.iter().any(|line| line.starts_with("closed Reset")), "{told:?}");
    });
}

/// N2 and N3, CVE-2016-5696: each connection has its own ration, and says where it is whatever it
/// is asked.
#[test]
fn challenges_are_rationed_for_each_connection_alone() {
    open(|peer| {
        peer.use_port(4001);
        peer.open();
        peer.use_port(4000);
        second(peer);
        let mut answers = Vec::new();
        for n in 0..10_000 {
            answers.extend(peer.give(rst(2 + n % 100)));
            answers.extend(peer.give(syn().at(2 + n % 100)));
        }
        assert_eq!(answers, [WHERE_WE_ARE]);
        peer.use_port(4001);
        assert_eq!(peer.give(rst(2)), [WHERE_WE_ARE], "another's is untouched");
        peer.use_port(4000);
        assert_alive(peer, 1, 1);
    });
}

//! Handshakes that are attacked, left unanswered or guessed at.

use std::net::IpAddr;
use std::time::Duration;

use xtcp_stack::{Address, Stop};

use super::{NOTHING, PORT, assert_answer, assert_silence, dut, dut_with, second, stopped};
use crate::sim::peer::{ack, data, rst, syn};
use crate::sim::{QUEUE, config, ordinary_group, v4};

/// Bad input 80.
#[test]
fn a_wrong_ack_in_a_handshake_is_reset_and_the_handshake_stays() {
    dut(|peer| {
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        for wrong in [0, 2, 1000, -1000] {
            let answer = format!("R {wrong}+0");
            assert_answer(peer, ack(1, wrong), &[&answer], Some(Stop::AckNotOfSyn));
        }
        assert_eq!(peer.give(ack(1, 1)), NOTHING);
        assert_eq!(peer.events(), ["opened"]);
    });
}

/// Bad input 81, RFC 5961.
#[test]
fn only_an_exact_reset_ends_a_handshake() {
    dut(|peer| {
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        for seq in [0, 1 << 24] {
            let frame = peer.frame_of(&rst(seq));
            assert_silence(peer, &frame, Stop::ResetOutOfWindow);
        }
        peer.give(rst(2));
        assert_eq!(peer.host.stack.usage().half_open, 1);
        assert_eq!(peer.give(rst(1)), NOTHING);
        peer.host.assert_nothing_held();
    });
}

/// Bad input 82 and N18: a SYN-ACK is sent a few times, ever more rarely, then given up.
#[test]
fn an_unanswered_handshake_is_given_up() {
    dut(|peer| {
        let mut sent = peer.give(syn()).len();
        sent += peer.wait(Duration::from_secs(200)).len();
        assert_eq!(sent, 5, "whoever's address was lent gets so many");
        assert_eq!(stopped(peer, Stop::HandshakeTimedOut), 1);
        peer.host.assert_nothing_held();
    });
}

/// Bad input 83, MUST-42.
#[test]
fn text_stands_for_a_last_acknowledgement_that_was_lost() {
    dut(|peer| {
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        peer.give(data(1, 1, b"hello"));
        assert_eq!(peer.events(), ["opened", "data 0+5 hello"]);
    });
}

/// Bad input 84 and N40, RFC 6528: no step to be seen; for the same client always forward.
#[test]
fn initial_sequence_numbers_tell_nothing() {
    dut(|peer| {
        let mut numbers = Vec::new();
        for port in 4000..4064 {
            peer.use_port(port);
            peer.give(syn());
            numbers.push(peer.iss());
            peer.give(rst(1));
        }
        let steps: Vec<u32> = numbers.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
        let mut distinct = steps.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), steps.len());
        assert!(steps.iter().filter(|step| **step < 1 << 16).count() < 3);
        peer.use_port(4000);
        let mut last = numbers[0];
        for _ in 0..10 {
            second(peer);
            peer.give(syn());
            let step = peer.iss().wrapping_sub(last);
            assert!((1..1 << 20).contains(&step), "{step}");
            last = peer.iss();
            peer.give(rst(1));
        }
    });
}

/// RFC 6528: of two clients that differ in any part of their names nobody knows one number by the other's.
#[test]
fn initial_sequence_numbers_hang_on_every_part_of_the_name() {
    let mut config = config(0, 2);
    config.addresses[2] = Some(Address { ip: v4(3), prefix_len: 24 });
    // Everybody else is behind the client's host.
    config.gateway_v4 = Some([10, 0, 0, 1].into());
    dut_with(&config, |peer| {
        let other = ordinary_group(PORT + 1);
        peer.host.stack.open_group(peer.host.pool, QUEUE, &other).expect("room");
        let mut numbers = Vec::new();
        for n in 0..16_u8 {
            let bit = |at: u8| n >> at & 1;
            peer.client = IpAddr::from([11, 0, 0, 1 + bit(0)]);
            peer.server = v4(2 + bit(1));
            peer.use_port(4000 + u16::from(bit(2)));
            peer.call(PORT + u16::from(bit(3)));
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
            numbers.push(peer.iss());
        }
        // Neither are two alike, nor does the same change of a name make the same difference.
        let differences = (0..16_usize).flat_map(|n| {
            let part = |at: usize| numbers[n].wrapping_sub(numbers[n ^ 1 << at]);
            (0..4).filter(move |at| n >> at & 1 == 1).map(part).collect::<Vec<u32>>()
        });
        let mut distinct: Vec<u32> = differences.collect();
        assert!(!distinct.contains(&0), "two of {numbers:x?} are alike");
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 32);
    });
}

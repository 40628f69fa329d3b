//! What the stack stands on: a clock that jumps, a restart, a device that is wrong or full.

use std::time::Duration;

use xtcp_stack::{Count, Stop};

use super::{NOTHING, assert_alive, assert_answer, assert_serves, dut, open, stopped};
use crate::sim::peer::{ack, data, syn};

/// N39: a clock that jumps ends nothing by itself.
#[test]
fn a_clock_that_jumps_ends_no_connection() {
    open(|peer| {
        peer.send(b"answer");
        peer.turn();
        peer.now = peer.now + Duration::from_secs(3600);
        let sent = peer.turn();
        assert!(sent.len() <= 1, "no storm: {sent:?}");
        assert_eq!(peer.host.stack.counters().counted(Count::RetransmissionTimeouts), 1);
        peer.give(ack(1, 7));
        assert_alive(peer, 1, 7);
    });
}

/// N38: after a restart those who knew us are told that we do not know them.
#[test]
fn clients_of_a_stack_that_was_restarted_are_reset() {
    dut(|peer| {
        let answer = ["R 5000+0"];
        assert_answer(peer, data(1000, 5000, b"more"), &answer, Some(Stop::NoConnection));
        assert_answer(peer, ack(999, 5000), &answer, Some(Stop::NoConnection));
        assert_serves(peer);
    });
}

/// N41: what a device says of checksums is believed only if it says that they are good.
#[test]
fn a_device_that_calls_a_checksum_bad_is_checked() {
    use xtcp_stack::{Checksum, RxFrame};
    dut(|peer| {
        let good = peer.frame_of(&syn());
        let mut bad = good.clone();
        bad[super::TCP_V4 + 16] ^= 1;
        for (bytes, checksum, answers) in [
            (&bad, Checksum::Unknown, 0),
            (&bad, Checksum::Bad, 0),
            (&good, Checksum::Bad, 1),
            (&good, Checksum::Unknown, 1),
        ] {
            let mut wire = crate::sim::Wire::default();
            peer.host.stack.on_burst(&[RxFrame { bytes, checksum }], &mut wire, peer.now);
            peer.host.flush(&mut wire, peer.now);
            assert_eq!(wire.frames.len(), answers, "{checksum:?}");
        }
        assert_eq!(stopped(peer, Stop::TcpChecksum), 2);
    });
}

/// N37: with no room for frames nothing acknowledged is lost, and it goes on when there is some.
#[test]
fn a_full_transmit_ring_loses_nothing() {
    open(|peer| {
        peer.room = Some(0);
        for n in 0..100 {
            peer.give(data(1 + 5 * n, 1, b"hello"));
            peer.now = peer.now + Duration::from_millis(1);
        }
        peer.send(b"answer");
        assert_eq!(peer.turn(), NOTHING);
        assert!(stopped(peer, Stop::TransmitFull) > 0);
        peer.room = None;
        assert_eq!(peer.turn(), ["PA 1+6 ack 501"]);
        let bytes: u32 = peer.host.stack.connections().map(|info| info.unread).sum();
        assert_eq!(bytes, 500);
    });
}

//! Faults that other stacks had and that are nobody's row (`docs/hostile.md`).

use std::time::Duration;

use xtcp_stack::wire::tcp::Flags;
use xtcp_stack::{Count, GroupConfig, KeepAlive, Stop};

use super::{NOTHING, PORT, assert_alive, dut};
use crate::sim::peer::{Peer, Seg, ack, data, fin, syn};
use crate::sim::{Memory, config, ordinary_group};

/// CVE-2005-0356: a stamp of the far future in a segment that is not acceptable, or that does not begin
/// where everything before it has come, would make the honest peer's segments old.
#[test]
fn a_timestamp_from_outside_the_window_poisons_nothing() {
    dut(|peer| {
        peer.open_with(syn().stamps(1000, 0));
        let echo = peer.last_got().options.timestamps.expect("agreed").value;
        let future = 1000 + (1 << 30);
        for seq in [-70_000, -7, 500, 1 << 24] {
            peer.give(data(seq, 1, b"forged").stamps(future, echo));
            peer.give(ack(seq, 1).stamps(future, echo));
        }
        peer.give(data(1, 1, b"honest").stamps(1001, echo));
        let told = peer.events().concat();
        assert!(told.starts_with("data 0+6 honest"), "{told}");
        assert_eq!(peer.host.stack.counters().stopped(Stop::OldTimestamp), 0);
    });
}

/// The same of a segment that begins where the next one should, and whose ACK field is forged, or that
/// has none, or opens what is open: nothing of it is believed.
#[test]
fn a_timestamp_beside_a_forged_acknowledgement_poisons_nothing() {
    dut(|peer| {
        peer.open_with(syn().stamps(1000, 0));
        let echo = peer.last_got().options.timestamps.expect("agreed").value;
        let future = 1000 + (1 << 30);
        let forged = [
            data(1, 1 - 70_000, b"forged"),
            data(1, 9, b"forged"),
            ack(1, 9),
            data(1, 1, b"forged").flags(Flags::PSH),
            syn().at(1),
        ];
        for segment in forged {
            peer.give(segment.stamps(future, echo));
        }
        assert_eq!(peer.events(), NOTHING);
        peer.give(data(1, 1, b"honest").stamps(1001, echo));
        assert_eq!(peer.events(), ["data 0+6 honest"]);
        assert_eq!(peer.host.stack.counters().stopped(Stop::OldTimestamp), 0);
    });
}

/// How often the stack answers a segment that comes again every millisecond, for ten seconds.
fn answers_in_ten_seconds(peer: &mut Peer<'_>, segment: &Seg) -> usize {
    let mut answers = 0;
    for _ in 0..10_000 {
        peer.now = peer.now + Duration::from_millis(1);
        answers += peer.give(segment.clone()).len();
    }
    answers
}

/// Joncheray 1995, FreeRTOS+TCP 1235: somebody has put text into the stream, and since then both ends
/// think that the other is wrong. A peer that answers each answer at once makes us say so no more
/// often than ten times a second.
#[test]
fn two_that_disagree_tell_each_other_so_now_and_then() {
    let behind: fn() -> Seg = || ack(1, 1);
    let ahead: fn() -> Seg = || ack(9, 5000);
    for disagreement in [behind, ahead, || ack(1 << 24, 1), || syn().at(500)] {
        dut(|peer| {
            peer.open();
            peer.give(data(1, 1, b"injected"));
            peer.events();
            peer.wait(Duration::from_secs(1));
            let answers = answers_in_ten_seconds(peer, &disagreement());
            assert!((1..=101).contains(&answers), "{answers} in ten seconds");
            assert_alive(peer, 9, 1);
        });
    }
    // The same in TIME-WAIT, where nothing is answered that takes no number.
    dut(|peer| {
        peer.open();
        peer.close();
        peer.turn();
        peer.give(fin(1, 2));
        peer.events();
        assert_eq!(answers_in_ten_seconds(peer, &ack(1, 1)), 0);
    });
}

/// N39: an hour that did not pass for the peer is one question, not the end of an idle connection.
#[test]
fn a_clock_that_jumps_asks_an_idle_peer_once() {
    let seconds = Duration::from_secs;
    let keep_alive = KeepAlive { idle: seconds(60), interval: seconds(10), probes: 3 };
    let group = GroupConfig { keep_alive: Some(keep_alive), ..ordinary_group(PORT) };
    let config = config(0, 2);
    let mut memory = Memory::for_host(&config, 1 << 20);
    let mut peer = Peer::new(&mut memory, &config, &group);
    peer.open();
    peer.turn();
    peer.now = peer.now + seconds(3600);
    // However often it is looked at in that instant, and until an answer could have come.
    let mut asked = peer.turn();
    asked.extend(peer.turn());
    asked.extend(peer.wait(seconds(1)));
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(peer.host.stack.counters().counted(Count::KeepAliveProbes), 1);
    assert_eq!(peer.give(ack(1, 1)), NOTHING);
    assert_eq!(peer.events(), NOTHING, "nobody is down");
    // And another hour, while it is being asked.
    peer.wait(seconds(61));
    peer.now = peer.now + seconds(3600);
    let asked = peer.turn();
    assert!(asked.len() <= 1, "{asked:?}");
    assert_eq!(peer.events(), NOTHING, "nobody is down");
    assert_alive(&mut peer, 1, 1);
}

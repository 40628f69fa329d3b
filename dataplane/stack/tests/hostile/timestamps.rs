//! Timestamps that are old, garbage or missing (RFC 7323).

use std::time::Duration;

use xtcp_stack::Stop;

use super::{NOTHING, WHERE_WE_ARE, assert_answer, assert_silence, dut, second, stopped};
use crate::sim::peer::{Peer, data, rst, syn};

/// Bad input 70 and 71, RFC 7323 section 5: old timestamps, and a RST that needs none.
#[test]
fn old_timestamps_are_refused_but_on_a_reset() {
    dut(|peer| {
        peer.open_with(syn().stamps(1000, 0));
        let echo = peer.last_got().options.timestamps.expect("agreed").value;
        second(peer);
        let old = data(1, 1, b"old").stamps(900, echo);
        assert_answer(peer, old, &[WHERE_WE_ARE], Some(Stop::OldTimestamp));
        let frame = peer.frame_of(&data(1, 1, b"none"));
        assert_silence(peer, &frame, Stop::TimestampMissing);
        peer.give(data(1, 1, b"new").stamps(1001, echo));
        assert_eq!(peer.events(), ["data 0+3 new"]);
        assert_eq!(peer.give(rst(4).stamps(1, echo)), NOTHING);
        assert_eq!(peer.events(), ["closed Reset held 3"]);
    });
}

/// RFC 7323 section 5.3: PAWS comes before anything else is believed of a segment, and so its ACK field
/// frees nothing. That of a repeated segment with a timestamp in order does, even if its text is known.
#[test]
fn an_old_timestamp_is_looked_at_first() {
    dut(|peer| {
        peer.open_with(syn().stamps(1000, 0));
        let echo = peer.last_got().options.timestamps.expect("agreed").value;
        peer.give(data(1, 1, b"x").stamps(1005, echo));
        assert_eq!(peer.events(), ["data 0+1 x"]);
        peer.send(b"answer");
        peer.turn();
        let held = |peer: &Peer<'_>| peer.host.stack.usage().transmit_payload;
        assert_eq!(held(peer), 6);
        peer.give(data(1, 7, b"x").stamps(1004, echo));
        assert_eq!((stopped(peer, Stop::OldTimestamp), held(peer)), (1, 6));
        peer.give(data(1, 7, b"x").stamps(1005, echo));
        assert_eq!((stopped(peer, Stop::DuplicateText), held(peer)), (1, 0));
    });
}

/// RFC 7323 section 5.5: a clock may have gone half around since the peer was heard last.
#[test]
fn a_timestamp_from_24_days_ago_says_nothing() {
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    for (silence, taken) in [(days(23), false), (days(25), true)] {
        dut(|peer| {
            peer.open_with(syn().stamps(1000, 0));
            let echo = peer.last_got().options.timestamps.expect("agreed").value;
            peer.turn();
            peer.now = peer.now + silence;
            peer.give(data(1, 1, b"back").stamps(900, echo));
            assert_eq!(!peer.events().is_empty(), taken, "after {silence:?}");
        });
    }
}

/// N24: no garbage of a timestamp ends a connection or times a round trip.
#[test]
fn senseless_timestamps_do_no_harm() {
    dut(|peer| {
        peer.open_with(syn().stamps(0, 0));
        let before = peer.host.stack.connections().next().map(|info| info.srtt_us);
        for (n, (value, echo)) in
            (1..).zip([(0, 0), (1, u32::MAX), (2, 1 << 31), (3, 12345), (1 << 30, 0)])
        {
            second(peer);
            peer.give(data(n, 1, b"x").stamps(value, echo));
        }
        assert_eq!(peer.events(), ["data 0+5 xxxxx"]);
        let back = data(6, 1, b"x").stamps((1_u32 << 30).wrapping_sub(1 << 31), 0);
        peer.give(back);
        let after = peer.host.stack.connections().next().map(|info| info.srtt_us);
        assert_eq!(before, after, "nothing was in flight to be timed");
        peer.give(data(6, 1, b"alive").stamps((1 << 30) + 1, 0));
        assert!(!peer.events().is_empty());
    });
}

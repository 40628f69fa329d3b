//! Losses, and how fast to send.

use std::time::Duration;

use super::{NOTHING, PORT, client, ordinary};
use crate::sim::peer::{Peer, ack};
use crate::sim::{config, ordinary_group};
use xtcp_stack::{Config, TcpConfig};

/// A connection with 20 full segments queued, ten of which are under way.
fn sending(peer: &mut Peer<'_>) {
    peer.open();
    peer.send(&[b'x'; 20 * 1460]);
    let sent = peer.turn();
    assert_eq!(sent.len(), 10, "RFC 6928: {sent:?}");
    assert_eq!(sent[9], "A 13141+1460 ack 1");
}

#[test]
fn slow_start_doubles() {
    ordinary(|peer| {
        sending(peer);
        assert_eq!(peer.give(ack(1, 2921)).len(), 4, "two left, two more may go");
    });
}

/// RFC 5681 section 3.2, RFC 3042, RFC 6582.
#[test]
fn three_duplicates_name_a_loss() {
    ordinary(|peer| {
        sending(peer);
        assert_eq!(peer.give(ack(1, 1)), ["A 14601+1460 ack 1"], "limited transmit");
        assert_eq!(peer.give(ack(1, 1)), ["A 16061+1460 ack 1"]);
        assert_eq!(peer.give(ack(1, 1)), ["A 1+1460 ack 1"], "fast retransmit");
        assert_eq!(peer.give(ack(1, 2921)), ["A 2921+1460 ack 1"], "a partial one: the next loss");
        let after = peer.give(ack(1, 17_521));
        assert!((1..=7).contains(&after.len()), "{after:?}");
        assert_eq!(peer.wait(Duration::from_millis(100)), NOTHING);
    });
}

/// N4: a peer that acknowledges byte by byte gains nothing.
#[test]
fn split_acknowledgements_count_by_their_bytes() {
    ordinary(|peer| {
        sending(peer);
        let sent: usize = (2..=1461).map(|number| peer.give(ack(1, number)).len()).sum();
        assert!(sent <= 3, "{sent} segments for one acknowledged");
    });
}

/// N5: duplicates that no segment can have caused open no window.
#[test]
fn duplicates_beyond_what_is_under_way_send_nothing() {
    ordinary(|peer| {
        peer.open();
        peer.send(&[b'x'; 60 * 1460]);
        assert_eq!(peer.turn().len(), 10);
        let sent: usize = (0..100).map(|_| peer.give(ack(1, 1)).len()).sum();
        assert!((3..=10).contains(&sent), "{sent} segments for ten that were under way");
        assert_eq!(peer.host.stack.counters().counted(xtcp_stack::Count::FastRetransmits), 1);
    });
}

/// Bad input 68, 55.
#[test]
fn acknowledgements_of_what_was_never_sent_gain_nothing() {
    ordinary(|peer| {
        sending(peer);
        assert_eq!(peer.give(ack(1, 20_000)), ["A 14601+0 ack 1"]);
        assert_eq!(peer.give(ack(1, 60_000)), NOTHING, "and are not answered each");
        assert_eq!(peer.give(ack(1, 1461)).len(), 2);
    });
}

#[test]
fn a_timeout_starts_from_one_segment() {
    ordinary(|peer| {
        sending(peer);
        let sent = peer.wait(Duration::from_millis(300));
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].ends_with("A 1+1460 ack 1"), "{sent:?}");
        assert_eq!(peer.give(ack(1, 14_601)).len(), 2, "all had arrived");
    });
}

/// RFC 5681 section 3.1, RFC 6298 (5.5): what is lost again and again goes ever more rarely.
#[test]
fn retransmissions_back_off() {
    ordinary(|peer| {
        peer.open();
        peer.send(b"lost");
        assert_eq!(peer.turn().len(), 1);
        let sent = peer.wait(Duration::from_secs(14));
        let ms = |line: &String| line.split(' ').next().unwrap().parse::<u64>().unwrap();
        let times: Vec<u64> = sent.iter().map(ms).collect();
        let wanted = [200, 600, 1400, 3000, 6200, 12_600];
        assert_eq!(times.len(), wanted.len(), "{sent:?}");
        assert!(times.iter().zip(wanted).all(|(ms, wanted)| ms.abs_diff(wanted) < 10), "{sent:?}");
        assert_eq!(peer.give(ack(1, 5)), NOTHING);
        peer.send(b"lost");
        assert_eq!(peer.turn().len(), 1);
        let sent = peer.wait(Duration::from_millis(300));
        assert_eq!(sent.len(), 1, "from the start: {sent:?}");
    });
}

/// RFC 5681 section 3.1: beyond the threshold a segment more per round trip.
#[test]
fn congestion_avoidance_adds_a_segment_per_round_trip() {
    ordinary(|peer| {
        peer.open();
        peer.send(&[b'x'; 200 * 1460]);
        assert_eq!(peer.turn().len(), 10);
        let sent = peer.wait(Duration::from_millis(300));
        assert_eq!(sent.len(), 1, "a timeout: half of ten is the threshold, {sent:?}");
        let cwnd = |peer: &Peer<'_>| peer.host.stack.connection(peer.cd()).expect("open").cwnd;
        let mut acked = 1;
        for round in 0..12 {
            let before = cwnd(peer);
            for _ in 0..before / 1460 {
                acked += 1460;
                peer.give(ack(1, acked).window(u16::MAX));
            }
            let grown = cwnd(peer) - before;
            match round {
                0 | 1 => assert_eq!(grown, before, "slow start"),
                2 => assert!(before < 5 * 1460),
                _ => assert!((1100..=1460).contains(&grown), "round {round}: {grown}"),
            }
        }
    });
}

/// MUST-18: an acknowledgement of what was sent twice says nothing of the round trip.
#[test]
fn what_was_sent_twice_is_not_timed() {
    ordinary(|peer| {
        peer.open();
        peer.send(b"one");
        assert_eq!(peer.turn().len(), 1);
        let before = peer.host.stack.connection(peer.cd()).expect("open").srtt_us;
        assert_eq!(peer.wait(Duration::from_millis(350)).len(), 1);
        assert_eq!(peer.give(ack(1, 4)), NOTHING);
        let after = peer.host.stack.connection(peer.cd()).expect("open").srtt_us;
        assert!(after.abs_diff(before) <= 256, "{before} {after}");
    });
}

/// MUST-18: nor does an acknowledgement of what had arrived before, if it is one of what was sent twice.
#[test]
fn what_waited_for_what_was_sent_twice_is_not_timed() {
    ordinary(|peer| {
        sending(peer);
        let srtt = |peer: &Peer<'_>| peer.host.stack.connection(peer.cd()).expect("open").srtt_us;
        let before = srtt(peer);
        let duplicates = [(); 3].map(|()| peer.give(ack(1, 1)));
        assert_eq!(duplicates[2], ["A 1+1460 ack 1"]);
        peer.now = peer.now + Duration::from_millis(100);
        peer.give(ack(1, 17_521));
        let unsent = peer.host.stack.connection(peer.cd()).expect("open").unsent;
        assert_eq!(unsent, 8 * 1460, "it is acknowledged");
        assert!(srtt(peer).abs_diff(before) <= 256, "{before} {}", srtt(peer));
    });
}

/// N5: many duplicates without a loss cost one recovery at most.
#[test]
fn spoofed_duplicates_cost_one_recovery() {
    ordinary(|peer| {
        sending(peer);
        let sent: Vec<String> = (0..100).flat_map(|_| peer.give(ack(1, 1))).collect();
        let again = sent.iter().filter(|line| line.starts_with("A 1+")).count();
        assert_eq!(again, 1, "{sent:?}");
    });
}

#[test]
fn a_round_trip_is_measured() {
    ordinary(|peer| {
        peer.open();
        peer.send(b"one");
        assert_eq!(peer.turn().len(), 1);
        peer.now = peer.now + Duration::from_millis(50);
        peer.give(ack(1, 4));
        let info = peer.host.stack.connection(peer.cd()).expect("open");
        assert!(info.srtt_us > 1_000 && info.srtt_us <= 51_000, "{info:?}");
    });
}

/// RFC 3042: two duplicates let new text go; more do not, where it takes more to name a loss.
#[test]
fn no_more_than_two_duplicates_let_new_text_go() {
    let tcp = TcpConfig { duplicate_threshold: 6, ..TcpConfig::default() };
    client(&Config { tcp, ..config(0, 2) }, 1 << 20, &ordinary_group(PORT), |peer| {
        sending(peer);
        assert_eq!(peer.give(ack(1, 1)), ["A 14601+1460 ack 1"]);
        assert_eq!(peer.give(ack(1, 1)), ["A 16061+1460 ack 1"]);
        for _ in 3..6 {
            assert_eq!(peer.give(ack(1, 1)), NOTHING);
        }
        assert_eq!(peer.give(ack(1, 1)), ["A 1+1460 ack 1"]);
    });
}

fn window(peer: &Peer<'_>) -> u32 {
    peer.host.stack.connection(peer.cd()).expect("open").cwnd
}

/// RFC 7661: what was not used proves nothing. Else an application that answers in single segments
/// would have a window that nobody has ever tried.
#[test]
fn a_window_that_is_not_used_does_not_grow() {
    ordinary(|peer| {
        peer.open();
        for n in 0..100 {
            peer.send(&[b'x'; 1460]);
            assert_eq!(peer.turn().len(), 1);
            peer.give(ack(1, 1461 + 1460 * n));
            assert_eq!(window(peer), 10 * 1460);
        }
    });
}

/// RFC 5681 section 4.1: after more than a timeout without a segment the path is not known any more.
#[test]
fn after_a_silence_the_window_is_the_first_again() {
    for (silence, first_flight) in [(Duration::from_millis(1), 20), (Duration::from_secs(5), 10)] {
        ordinary(|peer| {
            peer.open();
            peer.send(&[b'x'; 20 * 1460]);
            assert_eq!(peer.turn().len(), 10);
            for n in 1..=10 {
                peer.give(ack(1, 1 + 1460 * n));
            }
            peer.give(ack(1, 1 + 1460 * 20));
            assert!(window(peer) >= 20 * 1460);
            peer.now = peer.now + silence;
            peer.send(&[b'x'; 40 * 1460]);
            let mut sent = peer.turn();
            // A turn of one connection has sixteen.
            sent.extend(peer.turn());
            assert_eq!(sent.len().min(20), first_flight, "after {silence:?}");
        });
    }
}

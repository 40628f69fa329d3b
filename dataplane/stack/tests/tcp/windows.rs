//! What the peer may send, and what we may.

use std::time::Duration;

use xtcp_stack::GroupConfig;

use super::{NOTHING, PORT, client, ordinary, xtcp};
use crate::sim::peer::{Peer, ack, data, fin, rst, syn};
use crate::sim::{config, ordinary_group, xtcp_group};

/// Bytes of the window the stack offered last, beyond what it acknowledged; scaled by 7.
fn offered(peer: &Peer<'_>) -> u32 {
    u32::from(peer.last_got().window) << 7
}

fn with_window(window_max: u32, test: impl FnOnce(&mut Peer<'_>)) {
    let group = GroupConfig { window_max, ..xtcp_group(PORT) };
    client(&config(0, 2), 1 << 20, &group, test);
}

/// An unscaled window cannot say more than 65,535: that is no reason to repeat it for ever.
#[test]
fn a_window_that_cannot_be_told_is_not_told() {
    ordinary(|peer| {
        peer.open_with(syn().options(|o| o.window_scale = None));
        assert_eq!(peer.give(data(1, 1, b"one")), NOTHING);
        assert_eq!(peer.give(data(4, 1, b"two")), ["A 1+0 ack 7"]);
        assert_eq!(peer.turn(), NOTHING);
        for n in 0..100 {
            assert!(peer.give(data(7 + 1400 * n, 1, &[b'x'; 1400])).len() <= 1);
            peer.events();
            let committed = u64::try_from(1406 + 1400 * n).unwrap();
            peer.commit(committed);
            assert!(peer.turn().len() <= 1);
            assert_eq!(peer.turn(), NOTHING);
        }
        assert!(peer.last_got().window > 60_000);
    });
}

#[test]
fn a_window_smaller_than_its_scale_is_not_told_for_ever() {
    with_window(100, |peer| {
        peer.open();
        assert_eq!(peer.turn(), NOTHING);
        peer.give(data(1, 1, &[b'x'; 60]));
        peer.turn();
        assert_eq!(peer.turn(), NOTHING);
    });
}

/// RFC 9293 SHLD-14: what was offered stays offered.
#[test]
fn the_right_edge_never_moves_back() {
    with_window(10_000, |peer| {
        peer.open();
        let mut edge = 0;
        let mut seq = 1;
        for n in 0..9 {
            peer.give(data(seq, 1, &[b'x'; 1000]));
            seq += 1000;
            if n % 3 == 2 {
                peer.events();
                peer.commit(u64::try_from(seq - 1000).unwrap() - 1);
            }
            for _ in peer.turn() {
                let got = peer.last_got();
                let right = got.ack + i64::from(offered(peer));
                assert!(right >= edge, "{right} after {edge}");
                edge = right;
            }
        }
        assert!(edge > 10_000);
    });
}

#[test]
fn a_full_window_is_closed_and_opens_with_the_commit() {
    with_window(4096, |peer| {
        peer.open();
        assert_eq!(peer.give(data(1, 1, &[b'x'; 1400])), NOTHING);
        assert_eq!(peer.give(data(1401, 1, &[b'x'; 1400])), NOTHING);
        assert_eq!(peer.give(data(2801, 1, &[b'x'; 1400])), NOTHING, "104 bytes are beyond");
        assert_eq!(peer.give(data(4097, 1, b"probe")), ["A 1+0 ack 1"], "bad input 58");
        assert_eq!(offered(peer), 4096);
        assert_eq!(peer.events().len(), 3, "in three pieces");
        peer.commit(4096);
        assert_eq!(peer.turn(), ["A 1+0 ack 4097"]);
        assert_eq!(offered(peer), 4096);
        peer.give(data(4097, 1, b"more"));
        assert_eq!(peer.events(), ["data 4096+4 more"]);
    });
}

/// MUST-66, N1.
#[test]
fn a_reset_is_taken_at_a_closed_window() {
    with_window(4096, |peer| {
        peer.open();
        for n in 0..3 {
            peer.give(data(1 + 1400 * n, 1, &[b'x'; 1400]));
        }
        assert_eq!(peer.give(rst(4098)), NOTHING);
        assert_eq!(peer.give(rst(4097)), NOTHING);
        let told = peer.events();
        assert_eq!(told.last().map(String::as_str), Some("closed Reset held 0"));
    });
}

/// MUST-39: an opening too small to be worth a segment is not told.
#[test]
fn a_small_opening_is_withheld() {
    with_window(4096, |peer| {
        peer.open();
        for n in 0..3 {
            peer.give(data(1 + 1400 * n, 1, &[b'x'; 1400]));
        }
        peer.events();
        peer.commit(1000);
        assert_eq!(peer.turn(), ["A 1+0 ack 1001"]);
        assert!(1001 + offered(peer) < 4097 + 128, "but for the rounding the edge stays");
        peer.commit(1300);
        assert_eq!(peer.turn(), ["A 1+0 ack 1301"]);
        assert!(1301 + offered(peer) < 4097 + 2 * 128);
        peer.commit(2800);
        assert_eq!(peer.turn(), ["A 1+0 ack 2801"]);
        assert!(2801 + offered(peer) > 4097 + 1400);
    });
}

/// SHLD-14: not even when the pool has filled up meanwhile.
#[test]
fn a_window_once_offered_stays_when_the_pool_fills() {
    let group = GroupConfig { window_max: 1 << 20, ..xtcp_group(PORT) };
    client(&config(0, 2), 64 << 10, &group, |peer| {
        peer.open();
        peer.give(data(0, 1, b"?"));
        let edge = peer.last_got().ack + i64::from(offered(peer));
        for port in 5000..5020 {
            peer.use_port(port);
            peer.open();
            for n in 0..3 {
                peer.give(data(1 + 1400 * n, 1, &[b'x'; 1400]));
            }
            peer.events();
        }
        let pool = peer.host.stack.pools().next().expect("one");
        assert!(pool.receive_used * 4 > pool.receive_bytes * 3, "{pool:?}");
        peer.use_port(4000);
        assert_eq!(peer.give(data(0, 1, b"?")), ["A 1+0 ack 1"]);
        assert_eq!(peer.last_got().ack + i64::from(offered(peer)), edge);
    });
}

/// SHLD-15, SHLD-16: within a window taken back what is unacknowledged goes again, and no more.
#[test]
fn a_window_that_shrinks_bounds_what_goes_again() {
    ordinary(|peer| {
        peer.open();
        peer.send(&[b'x'; 8 * 1460]);
        assert_eq!(peer.turn().len(), 8);
        peer.give(ack(1, 1).window(16));
        peer.send(&[b'x'; 1460]);
        assert_eq!(peer.turn(), NOTHING);
        let sent = peer.wait(Duration::from_millis(300));
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].ends_with("A 1+1460 ack 1"), "{sent:?}");
        assert_eq!(peer.give(ack(1, 1461).window(5)), ["A 1461+640 ack 1"]);
    });
}

/// MAY-7.
#[test]
fn a_loss_is_mended_beyond_a_window_taken_back() {
    ordinary(|peer| {
        peer.open();
        peer.send(&[b'x'; 8 * 1460]);
        assert_eq!(peer.turn().len(), 8);
        peer.give(ack(1, 1).window(4));
        for _ in 0..2 {
            assert_eq!(peer.give(ack(1, 1).window(4)), NOTHING);
        }
        assert_eq!(peer.give(ack(1, 1).window(4)), ["A 1+1460 ack 1"]);
    });
}

/// A client whose window we filled sends its acknowledgements from the right edge on.
#[test]
fn an_acknowledgement_at_the_right_edge_is_taken_and_not_answered() {
    with_window(4096, |peer| {
        peer.open();
        peer.give(data(1, 1, &[b'x'; 1400]));
        peer.send(b"answer");
        assert_eq!(peer.turn(), ["PA 1+6 ack 1"]);
        assert_eq!(peer.give(ack(4097, 7)), NOTHING, "what is between was lost");
        assert_eq!(peer.host.stack.usage().transmit_used, 0, "and it counts");
    });
}

/// Bad input 66; MUST-36 and 37, SHLD-29 and 30.
#[test]
fn a_closed_window_is_probed_ever_more_rarely_and_for_ever() {
    ordinary(|peer| {
        peer.open();
        assert_eq!(peer.give(ack(1, 1).window(0)), NOTHING);
        peer.send(b"answer");
        assert_eq!(peer.turn(), NOTHING);
        let sent = peer.wait(Duration::from_secs(4));
        assert_eq!(sent.len(), 3 + 1, "{sent:?}");
        assert!(sent.iter().all(|line| line.contains("A 1+1 ack 1")), "{sent:?}");
        for _ in 0..30 {
            assert_eq!(peer.give(ack(1, 1).window(0)), NOTHING, "the peer is alive");
            peer.wait(Duration::from_secs(20));
        }
        assert_eq!(peer.events(), NOTHING, "still open");
        assert_eq!(peer.give(ack(1, 1)), ["PA 1+6 ack 1"]);
        assert_eq!(peer.give(ack(1, 7)), NOTHING);
        assert_eq!(peer.host.stack.usage().active, 0, "folded");
    });
}

/// MUST-37, where probes are further apart than the user timeout: an answered one is no silence.
#[test]
fn a_short_user_timeout_does_not_end_who_answers_probes() {
    let group = GroupConfig { user_timeout: Duration::from_secs(1), ..ordinary_group(PORT) };
    client(&config(0, 2), 1 << 20, &group, |peer| {
        peer.open();
        peer.give(ack(1, 1).window(0));
        peer.send(b"answer");
        peer.turn();
        let mut probes = 0;
        for _ in 0..1200 {
            if !peer.wait(Duration::from_millis(100)).is_empty() {
                probes += 1;
                assert_eq!(peer.give(ack(1, 1).window(0)), NOTHING);
            }
        }
        assert!((5..20).contains(&probes), "{probes}");
        assert_eq!(peer.events(), NOTHING, "still open");
        // Who answers no more is down.
        peer.wait(Duration::from_secs(200));
        assert_eq!(peer.events().len(), 1);
    });
}

#[test]
fn a_probe_that_is_taken_counts() {
    ordinary(|peer| {
        peer.open_with(syn().options(|o| o.window_scale = Some(0)));
        peer.give(ack(1, 1).window(0));
        peer.send(b"answer");
        peer.wait(Duration::from_millis(1500));
        assert_eq!(peer.give(ack(1, 2).window(0)), NOTHING, "the probe's byte");
        assert_eq!(peer.give(ack(1, 2).window(1)), ["A 2+1 ack 1"], "what there is room for");
        assert_eq!(peer.give(ack(1, 3)), ["PA 3+4 ack 1"]);
    });
}

/// Found by the fuzzer of live connections: the window opened and closed again before anything could be sent.
#[test]
fn a_window_that_opens_for_a_moment_leaves_the_probes_running() {
    ordinary(|peer| {
        peer.open();
        peer.give(ack(1, 1).window(0));
        peer.send(b"answer");
        assert_eq!(peer.wait(Duration::from_millis(300)).len(), 1, "a probe is under way");
        assert_eq!(peer.give_all([ack(1, 1), ack(1, 1).window(0)]), NOTHING);
        assert!(!peer.wait(Duration::from_secs(2)).is_empty(), "it is probed on");
        assert_eq!(peer.give(ack(1, 1)), ["PA 1+6 ack 1"]);
    });
}

/// A connection may be idle for hours before its closed window matters.
#[test]
fn a_window_closed_long_ago_is_probed_before_the_peer_is_given_up() {
    ordinary(|peer| {
        peer.open();
        peer.give(ack(1, 1).window(0));
        peer.now = peer.now + Duration::from_secs(7200);
        peer.send(b"answer");
        let sent = peer.wait(Duration::from_secs(20));
        assert!(sent.len() >= 3, "{sent:?}");
        assert_eq!(peer.events(), NOTHING);
        peer.wait(Duration::from_secs(160));
        assert_eq!(peer.events(), ["closed TimedOut held 0"]);
        peer.host.assert_nothing_held();
    });
}

/// Bad input 67, MUST-35: a window that is taken back to nothing is probed.
#[test]
fn a_window_that_shrinks_to_nothing_under_way_is_probed() {
    ordinary(|peer| {
        peer.open();
        peer.send(&[b'x'; 2920]);
        assert_eq!(peer.turn(), ["A 1+1460 ack 1", "PA 1461+1460 ack 1"]);
        assert_eq!(peer.give(ack(1, 1).window(0)), NOTHING);
        let sent = peer.wait(Duration::from_secs(5));
        assert!(sent.len() >= 2, "{sent:?}");
        for _ in 0..20 {
            peer.give(ack(1, 1).window(0));
            peer.wait(Duration::from_secs(20));
        }
        assert_eq!(peer.events(), NOTHING, "the peer answers, so it is open");
        assert_eq!(peer.give(ack(1, 1)), ["A 1+1460 ack 1"], "slowly, after timeouts");
        assert_eq!(peer.give(ack(1, 1461)), ["PA 1461+1460 ack 1"]);
    });
}

/// Sender's silly window avoidance gives way in time (RFC 9293 section 3.8.6.2.1, (4)).
#[test]
fn a_small_window_is_used_in_the_end_and_wholly() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        peer.give(ack(8, 1).window(2));
        peer.send(&[b'x'; 1000]);
        assert_eq!(peer.turn(), NOTHING, "256 bytes of 64,000");
        let sent = peer.wait(Duration::from_millis(300));
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].ends_with("A 1+256 ack 1"), "{sent:?}");
    });
}

/// RFC 9293 section 3.10.7.4: what overtook it on the way tells a window, and it does not.
#[test]
fn a_window_of_before_is_not_believed() {
    ordinary(|peer| {
        peer.open();
        peer.give(data(4, 1, b"beyond a hole"));
        assert_eq!(peer.give(ack(1, 1).window(0)), NOTHING);
        peer.send(b"answer");
        assert_eq!(peer.turn(), ["PA 1+6 ack 1"]);
        peer.give(ack(17, 7).window(0));
        peer.give(ack(1, 7));
        peer.send(b"more");
        assert_eq!(peer.turn(), NOTHING, "by its number it is older");
        peer.give(ack(20, 1));
        assert_eq!(peer.turn(), NOTHING, "by what it acknowledges");
        assert_eq!(peer.give(ack(20, 7)), ["PA 7+4 ack 1"]);
    });
}

/// Both sides probe: their acknowledgements are not each other's reason to acknowledge.
#[test]
fn an_acknowledgement_after_a_probe_lies_in_the_window_it_knows() {
    with_window(4096, |peer| {
        peer.open();
        for n in 0..3 {
            peer.give(data(1 + 1400 * n, 1, &[b'x'; 1400]).window(0));
        }
        peer.send(b"answer");
        peer.wait(Duration::from_millis(1500));
        assert_eq!(peer.last_got().seq, 1);
        let probe = data(4097, 1, b"p").window(0);
        assert_eq!(peer.give(probe), ["A 1+0 ack 1"], "not beyond the byte the peer refused");
    });
}

/// I5: two that disagree do not shout at each other.
#[test]
fn acknowledgements_that_are_not_acceptable_are_answered_rarely() {
    ordinary(|peer| {
        peer.open();
        let answers: usize = (0..100).map(|_| peer.give(ack(-5000, 1)).len()).sum();
        assert_eq!(answers, 1);
        let answers: usize = (0..100).map(|_| peer.give(ack(1, 99)).len()).sum();
        assert_eq!(answers, 0, "of unsent, and no time has passed");
        peer.now = peer.now + Duration::from_secs(1);
        let answers: usize = (0..100).map(|_| peer.give(ack(1, 99)).len()).sum();
        assert_eq!(answers, 1);
        assert_eq!(peer.wait(Duration::from_secs(10)), NOTHING);
        assert_eq!(peer.host.stack.usage().active, 0, "folded");
    });
}

/// The peer's window is closed and so is ours: FIN takes no room and goes all the same.
#[test]
fn fin_is_sent_into_a_closed_window() {
    ordinary(|peer| {
        peer.open();
        peer.give(ack(1, 1).window(0));
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
        assert_eq!(peer.give(ack(1, 2).window(0)), NOTHING);
        assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"]);
        assert_eq!(peer.events(), ["closed Closed held 0"]);
    });
}

#[test]
fn nagle_holds_small_segments_while_something_is_under_way() {
    ordinary(|peer| {
        peer.open();
        peer.send(b"one");
        assert_eq!(peer.turn(), ["PA 1+3 ack 1"]);
        peer.send(b"two");
        peer.send(b"three");
        assert_eq!(peer.turn(), NOTHING);
        assert_eq!(peer.give(ack(1, 4)), ["PA 4+8 ack 1"]);
    });
    let group = GroupConfig { nagle: false, ..ordinary_group(PORT) };
    client(&config(0, 2), 1 << 20, &group, |peer| {
        peer.open();
        peer.send(b"one");
        assert_eq!(peer.turn(), ["PA 1+3 ack 1"]);
        peer.send(b"two");
        assert_eq!(peer.turn(), ["PA 4+3 ack 1"], "MUST-17");
    });
}

#[test]
fn a_reader_that_catches_up_opens_the_window_unasked() {
    let group = GroupConfig { window_max: 8192, ..ordinary_group(PORT) };
    client(&config(0, 2), 1 << 20, &group, |peer| {
        peer.open();
        for n in 0..6 {
            peer.give(data(1 + 1365 * n, 1, &[b'x'; 1365]));
        }
        assert!(offered(peer) <= 128);
        assert!(!peer.events().is_empty());
        peer.commit(8190);
        assert_eq!(peer.turn(), ["A 1+0 ack 8191"]);
        assert!(offered(peer) >= 8064);
    });
    xtcp(|peer| {
        peer.open();
        assert_eq!(peer.turn(), NOTHING, "a window that is open enough is not news");
    });
}

//! Losses noticed by what has arrived beyond them, and how they are mended (RFC 6675, RFC 8985,
//! RFC 9937); and what was no loss taken back (RFC 3522, RFC 3708).

use std::time::Duration;

use super::{NOTHING, PORT, client, ordinary, xtcp};
use crate::sim::peer::{Peer, Seg, ack, data, syn_with_sack};
use crate::sim::{config, ordinary_group};
use xtcp_stack::{Config, Count, TcpConfig};

/// The round trip of these paths.
pub(super) const RTT: Duration = Duration::from_millis(40);
pub(super) const MSS: i64 = 1460;

/// Where segment `n` starts, the first being 0.
pub(super) fn start(n: i64) -> i64 {
    1 + MSS * n
}

pub(super) fn pass(peer: &mut Peer<'_>, time: Duration) {
    peer.now = peer.now + time;
}

/// A handshake that takes a round trip.
pub(super) fn open(peer: &mut Peer<'_>, syn: Seg) {
    let stamps = syn.clone().stamps_of();
    assert_eq!(peer.give(syn), ["SA 0+0 ack 1"]);
    pass(peer, RTT);
    let mut last = ack(1, 1);
    if let (Some(ours), Some(theirs)) = (stamps, peer.last_got().options.timestamps) {
        last = last.stamps(ours.value, theirs.value);
    }
    assert_eq!(peer.give(last), NOTHING);
    assert_eq!(peer.events(), ["opened"]);
}

/// `queued` full segments, ten of which have been under way for a round trip.
pub(super) fn sending(peer: &mut Peer<'_>, queued: usize) {
    open(peer, syn_with_sack());
    peer.send(&vec![b'x'; queued * 1460]);
    assert_eq!(peer.turn().len(), queued.min(10));
    pass(peer, RTT);
}

/// An acknowledgement of the first `n` segments, with these as blocks.
pub(super) fn sack(n: i64, blocks: &[(i64, i64)]) -> Seg {
    let blocks: Vec<(i64, i64)> = blocks.iter().map(|&(l, r)| (start(l), start(r))).collect();
    ack(1, start(n)).sacks(&blocks)
}

/// A line for segment `n`, as the stack sends it.
pub(super) fn segment(n: i64) -> String {
    format!("A {}+1460 ack 1", start(n))
}

/// The number after what the stack sent last.
fn sent_end(peer: &Peer<'_>) -> i64 {
    peer.last_got().seq + i64::try_from(peer.last_got().text.len()).expect("short")
}

pub(super) fn cwnd(peer: &Peer<'_>) -> u32 {
    peer.host.stack.connection(peer.cd()).expect("open").cwnd
}

pub(super) fn count(peer: &Peer<'_>, count: Count) -> u64 {
    peer.host.stack.counters().counted(count)
}

fn with(tcp: TcpConfig, test: impl FnOnce(&mut Peer<'_>)) {
    client(&Config { tcp, ..config(0, 2) }, 1 << 20, &ordinary_group(PORT), test);
}

/// RFC 6675 section 5, RFC 3042: two let new text go, the third names the loss.
#[test]
fn three_segments_beyond_it_name_a_loss() {
    ordinary(|peer| {
        sending(peer, 20);
        assert_eq!(peer.give(sack(0, &[(1, 2)])), [segment(10)]);
        assert_eq!(peer.give(sack(0, &[(1, 3)])), [segment(11)]);
        assert_eq!(peer.give(sack(0, &[(1, 4)])), [segment(0)]);
        assert_eq!(count(peer, Count::FastRetransmits), 1);
    });
}

/// The same by counting alone, and with another threshold.
#[test]
fn without_rack_losses_are_counted() {
    with(TcpConfig { rack: false, ..TcpConfig::default() }, |peer| {
        sending(peer, 20);
        assert_eq!(peer.give(sack(0, &[(1, 3)])).len(), 2);
        assert_eq!(peer.wait(RTT / 2), NOTHING, "no timer");
        assert_eq!(peer.give(sack(0, &[(1, 4)])), [segment(0)]);
    });
    with(TcpConfig { rack: false, duplicate_threshold: 5, ..TcpConfig::default() }, |peer| {
        sending(peer, 20);
        assert_eq!(peer.give(sack(0, &[(1, 5)])).len(), 4);
        assert_eq!(peer.give(sack(0, &[(1, 6)])), [segment(0)]);
    });
}

#[test]
fn only_what_is_missing_goes_again() {
    ordinary(|peer| {
        sending(peer, 10);
        let sent = peer.give(sack(0, &[(1, 4), (5, 7), (8, 10)]));
        assert_eq!(sent, [segment(0), segment(4), segment(7)], "seven were delivered");
        assert_eq!(peer.give(sack(4, &[(5, 7), (8, 10)])), NOTHING);
        assert_eq!(peer.give(sack(10, &[])), NOTHING);
        assert_eq!(peer.wait(Duration::from_secs(5)), NOTHING);
        assert_eq!(count(peer, Count::SegmentsRetransmitted), 3);
        assert_eq!(peer.host.stack.usage().active, 0, "folded");
    });
}

/// Not even three can tell; a quarter of a round trip later it is lost (RFC 8985 section 6.2).
#[test]
fn a_loss_among_few_is_noticed_by_time() {
    ordinary(|peer| {
        sending(peer, 3);
        assert_eq!(peer.give(sack(0, &[(1, 3)])), NOTHING);
        let sent = peer.wait(RTT / 2);
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].starts_with("10 ms") || sent[0].starts_with("11 ms"), "{sent:?}");
        assert!(sent[0].ends_with(&segment(0)), "{sent:?}");
    });
}

/// What is merely late within that time is not sent again.
#[test]
fn what_is_overtaken_is_not_sent_again() {
    ordinary(|peer| {
        sending(peer, 3);
        assert_eq!(peer.give(sack(0, &[(1, 3)])), NOTHING);
        pass(peer, RTT / 10);
        assert_eq!(peer.give(sack(3, &[])), NOTHING);
        assert_eq!(peer.wait(Duration::from_secs(5)), NOTHING);
        assert_eq!(count(peer, Count::SegmentsRetransmitted), 0);
    });
}

/// Once segments were seen to overtake each other, three beyond one prove nothing before a quarter
/// of the round trip has passed.
#[test]
fn a_path_that_reorders_is_given_time() {
    ordinary(|peer| {
        sending(peer, 40);
        peer.give(sack(0, &[(1, 2)]));
        peer.give(sack(2, &[]));
        pass(peer, RTT);
        let sent = peer.give(sack(2, &[(3, 8)]));
        assert!(!sent.contains(&segment(2)), "{sent:?}");
        let sent = peer.wait(RTT / 2);
        assert!(sent.iter().any(|line| line.ends_with(&segment(2))), "{sent:?}");
    });
}

/// The original NewReno and RFC 6675 wait for the timer here.
#[test]
fn what_is_lost_again_is_noticed() {
    ordinary(|peer| {
        sending(peer, 40);
        peer.give(sack(0, &[(1, 2)]));
        peer.give(sack(0, &[(1, 3)]));
        let sent = peer.give(sack(0, &[(1, 4)]));
        assert_eq!(sent, [segment(0)]);
        let mut latest = 0;
        for n in 5..10 {
            pass(peer, Duration::from_millis(1));
            for line in peer.give(sack(0, &[(1, n)])) {
                assert_ne!(line, segment(0), "not so soon");
                latest = line.split(['+', ' ']).nth(1).unwrap().parse().unwrap();
            }
        }
        assert!(latest > start(11), "text sent after the retransmission");
        pass(peer, RTT);
        let sent = peer.give(ack(1, 1).sacks(&[(latest, latest + MSS), (start(1), start(9))]));
        assert!(sent.contains(&segment(0)), "{sent:?}");
        assert_eq!(count(peer, Count::RetransmissionTimeouts), 0);
    });
}

/// RFC 9937: the window is halved by sending for every second segment delivered.
#[test]
fn the_window_is_reduced_in_proportion() {
    ordinary(|peer| {
        sending(peer, 100);
        for n in 1..=5 {
            peer.give(sack(2 * n, &[]));
        }
        pass(peer, RTT);
        for n in 6..=10 {
            peer.give(sack(2 * n, &[]));
        }
        let acked = 20;
        pass(peer, RTT);
        let before = cwnd(peer);
        let flight = i64::from(before) / MSS;
        assert_eq!(flight, 30, "slow start");
        peer.give(sack(acked, &[(acked + 1, acked + 4)]));
        let mut sent = 0;
        for n in 5..flight {
            sent += peer.give(sack(acked, &[(acked + 1, acked + n)])).len();
        }
        assert!((11..=14).contains(&sent), "{sent} for {} delivered", flight - 5);
        peer.give(sack(acked + flight + 3, &[]));
        let after = cwnd(peer);
        assert!(after.abs_diff(before / 2) <= 2 * 1460, "{before} {after}");
    });
}

/// RFC 9937 section 6.2: an acknowledgement that delivers nothing changes nothing. By its time more is
/// lost, which may go in the place of what has left: the window does not shrink by that.
#[test]
fn an_acknowledgement_that_delivers_nothing_changes_no_window() {
    ordinary(|peer| {
        sending(peer, 60);
        // Segments overtake each other here, so a loss takes a quarter of the round trip to be sure.
        peer.give(sack(0, &[(1, 2)]));
        for n in 2..=10 {
            peer.give(sack(n, &[]));
        }
        pass(peer, RTT);
        let first = sack(10, &[(11, 20)]);
        peer.give(first);
        let sent = peer.wait(RTT / 2);
        assert!(sent.iter().any(|line| line.ends_with(&segment(10))), "{sent:?}");
        assert_eq!(count(peer, Count::FastRetransmits), 1);
        // The next hole is not old enough yet.
        let second = sack(10, &[(21, 24), (11, 20)]);
        assert!(!peer.give(second.clone()).contains(&segment(20)));
        let before = cwnd(peer);
        assert_eq!(peer.give(second.clone()), NOTHING, "nothing new, nothing sent");
        assert_eq!(cwnd(peer), before);
        peer.now = peer.now + RTT / 4;
        assert_eq!(peer.give(second), [segment(20)], "in the place of what is lost");
        assert_eq!(cwnd(peer), before);
    });
}

/// Whoever sends acknowledgements without a block says nothing (RFC 6675 section 2).
#[test]
fn duplicates_without_blocks_are_no_news() {
    ordinary(|peer| {
        sending(peer, 20);
        for _ in 0..20 {
            assert_eq!(peer.give(ack(1, 1)), NOTHING);
        }
    });
}

/// Bad input: blocks that say what cannot be are passed over.
#[test]
fn blocks_of_nonsense_are_passed_over() {
    ordinary(|peer| {
        sending(peer, 10);
        for blocks in [
            [(start(3), start(2))],
            [(start(4), start(4))],
            [(start(9), start(40))],
            [(start(-40), start(2))],
            [(start(1 << 20), start(1 << 21))],
        ] {
            assert_eq!(peer.give(ack(1, 1).sacks(&blocks)), NOTHING, "{blocks:?}");
        }
        assert_eq!(peer.give(sack(10, &[])), NOTHING);
        assert_eq!(peer.host.stack.usage().active, 0, "folded");
    });
}

/// RFC 8985 section 7: the last segment is lost and nothing comes after it.
#[test]
fn the_tail_is_probed() {
    ordinary(|peer| {
        sending(peer, 3);
        peer.give(sack(2, &[]));
        let sent = peer.wait(Duration::from_millis(400));
        let wanted = ["200 ms", "201 ms"];
        assert!(sent.iter().any(|line| wanted.iter().any(|ms| line.starts_with(ms))), "{sent:?}");
    });
    ordinary(|peer| {
        sending(peer, 4);
        peer.give(sack(1, &[]));
        let before = cwnd(peer);
        let sent = peer.wait(Duration::from_millis(130));
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].starts_with("8") && sent[0].contains("A 4381+1460"), "{sent:?}");
        assert_eq!(count(peer, Count::TailProbes), 1);
        assert_eq!(peer.give(sack(1, &[(3, 4)])), [segment(1)], "what was lost before it");
        assert!(cwnd(peer) < before);
        assert_eq!(count(peer, Count::RetransmissionTimeouts), 0);
    });
}

#[test]
fn a_probe_is_new_text_if_there_is_some() {
    ordinary(|peer| {
        sending(peer, 20);
        let sent = peer.wait(Duration::from_millis(60));
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].ends_with(&segment(10)), "beyond the window: {sent:?}");
    });
    with(TcpConfig { tail_loss_probe: false, ..TcpConfig::default() }, |peer| {
        sending(peer, 20);
        assert_eq!(peer.wait(Duration::from_millis(60)), NOTHING);
    });
}

/// RFC 8985 section 7.4: a probe that came twice has mended nothing.
#[test]
fn a_probe_that_was_not_needed_costs_nothing() {
    let after_probe = |duplicate: bool| {
        let mut result = (0, 0);
        ordinary(|peer| {
            sending(peer, 4);
            let before = cwnd(peer);
            assert_eq!(peer.wait(Duration::from_millis(60)).len(), 1);
            peer.send(&[b'x'; 1460]);
            peer.turn();
            let blocks: &[(i64, i64)] = if duplicate { &[(3, 4)] } else { &[] };
            peer.give(sack(4, blocks));
            peer.give(sack(5, &[]));
            result = (before, cwnd(peer));
        });
        result
    };
    let (before, after) = after_probe(true);
    assert!(after >= before, "{before} {after}");
    let (before, after) = after_probe(false);
    assert!(after < before, "a loss was mended: {before} {after}");
}

/// RFC 2018 section 8: after a timeout nothing is believed of a peer that gives up what it had.
#[test]
fn what_a_peer_gives_up_goes_again() {
    ordinary(|peer| {
        sending(peer, 4);
        peer.give(sack(0, &[(1, 2)]));
        peer.wait(RTT / 2);
        assert_eq!(peer.give(sack(1, &[])), NOTHING, "it had that one, or so it said");
        let mut sent = peer.wait(Duration::from_millis(400));
        for n in 2..=4 {
            sent.extend(peer.give(sack(n, &[])));
        }
        assert!(sent.iter().any(|line| line.ends_with(&segment(1))), "{sent:?}");
        assert_eq!(count(peer, Count::SacksReneged), 1);
        assert_eq!(peer.host.stack.usage().active, 0, "folded");
    });
}

/// After a timeout, what the peer has is not sent again.
#[test]
fn a_timeout_spares_what_has_arrived() {
    with(TcpConfig { rack: false, tail_loss_probe: false, ..TcpConfig::default() }, |peer| {
        sending(peer, 10);
        assert_eq!(peer.give(sack(0, &[(2, 4)])), NOTHING);
        let mut sent = peer.wait(Duration::from_millis(300));
        assert_eq!(sent.len(), 1, "{sent:?}");
        for n in [1, 4, 5, 6, 7, 8, 9] {
            let blocks: &[(i64, i64)] = if n == 1 { &[(2, 4)] } else { &[] };
            sent.extend(peer.give(sack(n, blocks)));
        }
        let again = |n| sent.iter().filter(|line| line.ends_with(&segment(n))).count();
        assert_eq!([0, 1, 2, 3, 4].map(again), [1, 1, 0, 0, 1], "{sent:?}");
    });
}

fn stamped(peer: &mut Peer<'_>) -> u32 {
    open(peer, syn_with_sack().stamps(1000, 0));
    peer.send(&vec![b'x'; 20 * 1448]);
    assert_eq!(peer.turn().len(), 10);
    peer.last_got().options.timestamps.expect("agreed").value
}

/// RFC 3522, RFC 4015: the acknowledgement echoes the original, so the timer fired too early.
#[test]
fn a_timeout_for_nothing_is_taken_back() {
    let after_timeout = |original: bool| {
        let mut result = (0, 0);
        ordinary(|peer| {
            let value = stamped(peer);
            let before = cwnd(peer);
            peer.wait(Duration::from_secs(1));
            assert!(count(peer, Count::RetransmissionTimeouts) >= 1);
            let again = peer.last_got().options.timestamps.expect("agreed").value;
            assert!(again > value);
            let echo = if original { value } else { again };
            peer.give(ack(1, 1 + 1448).stamps(1001, echo));
            result = (before, cwnd(peer));
        });
        result
    };
    let (before, after) = after_timeout(true);
    assert!(after >= before, "{before} {after}");
    let (before, after) = after_timeout(false);
    assert!(after < before / 2, "{before} {after}");
}

/// What such a timeout took for lost is in flight as before: only new text goes, and nothing else again.
#[test]
fn a_timeout_for_nothing_sends_nothing_else_again() {
    with(TcpConfig { tail_loss_probe: false, ..TcpConfig::default() }, |peer| {
        let value = stamped(peer);
        peer.wait(Duration::from_secs(1));
        let again = count(peer, Count::SegmentsRetransmitted);
        assert_eq!(again, count(peer, Count::RetransmissionTimeouts));
        let sent = peer.give(ack(1, 1 + 1448).stamps(1001, value));
        assert_eq!(count(peer, Count::SegmentsRetransmitted), again, "{sent:?}");
        let new = format!("A {}+", 1 + 10 * 1448);
        assert!(sent.first().is_some_and(|line| line.starts_with(&new)), "{sent:?}");
    });
}

/// RFC 3708: all that was sent again came twice.
#[test]
fn a_recovery_for_nothing_is_taken_back() {
    ordinary(|peer| {
        sending(peer, 20);
        let before = cwnd(peer);
        peer.give(sack(0, &[(1, 4)]));
        peer.give(sack(0, &[(1, 9)]));
        assert!(cwnd(peer) < before);
        peer.give(sack(10, &[]));
        assert!(cwnd(peer) < before);
        peer.give(sack(10, &[(0, 1)]));
        assert!(cwnd(peer) >= before, "{before} {}", cwnd(peer));
        assert_eq!(count(peer, Count::RecoveriesUndone), 1);
    });
}

/// However a peer cuts it up, the scoreboard has an end.
#[test]
fn a_scoreboard_has_an_end() {
    ordinary(|peer| {
        open(peer, syn_with_sack().options(|options| options.mss = Some(48)));
        peer.send(&vec![b'x'; 1 << 17]);
        let mut acked = 1;
        for _ in 0..6 {
            while !peer.turn().is_empty() {}
            pass(peer, Duration::from_millis(5));
            let end = sent_end(peer);
            while acked < end {
                acked = end.min(acked + 96);
                peer.give(ack(1, acked).window(u16::MAX));
            }
        }
        while !peer.turn().is_empty() {}
        assert!(cwnd(peer) > 20_000, "{}", cwnd(peer));
        let queue = peer.host.stack.usage().chunks;
        for n in 0..6000 {
            let at = acked + 2 + 4 * n;
            let blocks = [(at, at + 1), (at + 2, at + 3)];
            peer.give(ack(1, acked).window(u16::MAX).sacks(&blocks));
        }
        let chunks = peer.host.stack.usage().chunks;
        assert!(chunks <= queue + 512, "{queue} {chunks}");
        for _ in 0..10_000 {
            acked = acked.max(sent_end(peer));
            pass(peer, Duration::from_millis(50));
            peer.give(ack(1, acked).window(u16::MAX));
            if acked == 1 + (1 << 17) {
                break;
            }
        }
        assert_eq!(peer.host.stack.usage().active, 0, "folded");
        peer.abort();
        assert_eq!(peer.host.stack.usage().chunks, 0);
    });
}

/// Seed 281 of the hostile simulation: what was sent longer ago than half the turn of the clock of
/// flights, while the machine stood still, seemed to have been sent just now. It was never late,
/// was looked at every millisecond, and the retransmission timer was set anew each time.
#[test]
fn what_was_sent_long_ago_is_late() {
    for minutes in [1, 30, 40, 60] {
        ordinary(|peer| {
            sending(peer, 10);
            pass(peer, Duration::from_secs(minutes * 60));
            peer.give(sack(1, &[(5, 6)]));
            let mut timeouts = 0;
            while !peer.turn().contains(&segment(1)) {
                peer.now = peer.host.stack.poll_timeout().expect("something is in flight");
                timeouts += 1;
                assert!(timeouts < 10, "after {minutes} minutes nothing is sent again");
            }
        });
    }
}

/// The device took nothing from the probe's time to that of the retransmission timer. All is known
/// to be lost by then; a probe that went in between would hide what comes before it.
#[test]
fn a_probe_that_could_not_go_does_not_hide_losses() {
    ordinary(|peer| {
        sending(peer, 10);
        for _ in 0..400 {
            pass(peer, Duration::from_millis(1));
            peer.host.stack.on_timeout(peer.now);
        }
        assert_eq!(count(peer, Count::TailProbes), 0, "it did not go");
        assert_eq!(count(peer, Count::RetransmissionTimeouts), 1);
        assert_eq!(peer.turn(), [segment(0)], "one segment, and from the start");
        assert_eq!(peer.give(sack(1, &[])), [segment(1), segment(2)]);
    });
}

/// RFC 8985 section 7.2: of a single segment, too, a probe asks before a timeout takes the window; and
/// the timer after it runs for as long.
#[test]
fn a_single_segment_is_probed_before_a_timeout() {
    ordinary(|peer| {
        sending(peer, 1);
        let before = cwnd(peer);
        let sent = peer.wait(Duration::from_millis(590));
        let ms: Vec<u64> =
            sent.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(ms.len(), 2, "{sent:?}");
        assert!(ms[0].abs_diff(160) <= 1 && ms[1].abs_diff(360) <= 2, "{sent:?}");
        let counts = [Count::TailProbes, Count::RetransmissionTimeouts].map(|one| count(peer, one));
        assert_eq!(counts, [1, 1]);
        assert!(cwnd(peer) < before);
    });
}

/// What is in flight is probed although the answer to the last probe said nothing but that it came:
/// that loss counts then.
#[test]
fn a_probe_that_was_answered_does_not_forbid_the_next() {
    ordinary(|peer| {
        sending(peer, 1);
        let before = cwnd(peer);
        assert_eq!(peer.wait(Duration::from_millis(165)).len(), 1);
        peer.send(&[b'x'; 1460]);
        assert_eq!(peer.turn().len(), 1);
        pass(peer, RTT);
        assert_eq!(peer.give(sack(1, &[])), NOTHING);
        assert_eq!(peer.wait(Duration::from_millis(390)).len(), 1);
        assert_eq!(count(peer, Count::TailProbes), 2);
        assert_eq!(count(peer, Count::RetransmissionTimeouts), 0);
        assert!(cwnd(peer) < before);
    });
}

/// Once per loss: after a timeout the probe before it takes nothing more.
#[test]
fn a_probe_before_a_timeout_is_forgotten() {
    ordinary(|peer| {
        sending(peer, 10);
        assert_eq!(peer.wait(Duration::from_millis(320)).len(), 2, "a probe and a timeout");
        assert_eq!(count(peer, Count::RetransmissionTimeouts), 1);
        for n in 1..10 {
            pass(peer, RTT);
            peer.give(sack(n, &[]));
        }
        peer.send(&[b'x'; 4 * 1460]);
        peer.turn();
        pass(peer, RTT);
        let before = cwnd(peer);
        peer.give(sack(11, &[]));
        assert!(cwnd(peer) >= before, "{before} {}", cwnd(peer));
    });
}

/// A stream that goes on for half the circle without a loss: the next one begins an episode of its own. It
/// is no part of one that was over 2 GB ago, further than which sequence numbers do not tell apart
/// (RFC 6582 section 3.2's "recover").
#[test]
fn a_loss_half_a_circle_after_the_last_is_noticed() {
    let config = Config { mtu: u16::MAX, ..config(0, 2) };
    client(&config, 1 << 20, &ordinary_group(PORT), |peer| {
        open(peer, syn_with_sack().options(|options| options.mss = Some(u16::MAX)));
        let piece = vec![b'x'; LARGEST as usize];
        let (mut queued, mut sent, mut acked) = (1, 1, 1);
        while acked <= 1 << 31 {
            // It never rests: something is queued whenever all that was sent is acknowledged.
            while queued <= sent + 10 * LARGEST {
                peer.send(&piece);
                queued += LARGEST;
            }
            acked = sent;
            let lines = peer.give(ack(1, acked).window(u16::MAX));
            sent += i64::try_from(lines.len()).expect("few") * LARGEST;
            pass(peer, RTT);
        }
        assert!(sent - acked >= 4 * LARGEST, "{sent} - {acked}");
        assert_eq!(count(peer, Count::SegmentsRetransmitted), 0);
        let beyond = (acked + LARGEST, acked + 4 * LARGEST);
        peer.give(ack(1, acked).window(u16::MAX).sacks(&[beyond]));
        assert_eq!(count(peer, Count::SegmentsRetransmitted), 1);
        assert_eq!(count(peer, Count::FastRetransmits), 1);
    });
}

/// Payload of a segment of the largest packet there is.
const LARGEST: i64 = 65_535 - 40;

/// The clock of what was sent has 71 minutes. What has arrived longer ago than half of them is not taken
/// for later than what is sent now, which would all be lost as soon as something of it has arrived.
#[test]
fn what_arrived_an_hour_ago_names_no_losses() {
    for minutes in [10, 40, 60, 80] {
        xtcp(|peer| {
            peer.open_with(syn_with_sack());
            // It never rests: the application holds a request and does not commit it.
            assert_eq!(peer.give(data(1, 1, b"held")), NOTHING);
            peer.events();
            for _ in 0..8 {
                peer.send(&[b'x'; 1460]);
                assert_eq!(peer.turn().len(), 1);
                pass(peer, RTT);
                let sent = peer.last_got().seq + MSS;
                assert_eq!(peer.give(ack(5, sent)), NOTHING);
            }
            pass(peer, Duration::from_secs(60) * minutes);
            peer.send(&[b'x'; 2 * 1460]);
            assert_eq!(peer.turn().len(), 2);
            pass(peer, RTT / 2);
            peer.send(&[b'x'; 2 * 1460]);
            assert_eq!(peer.turn().len(), 2);
            pass(peer, RTT);
            let first = ack(5, start(8)).sacks(&[(start(9), start(10))]);
            assert_eq!(peer.give(first), NOTHING);
            let sent = peer.wait(RTT / 2);
            assert_eq!(sent.len(), 1, "after {minutes} minutes: {sent:?}");
            assert!(sent[0].ends_with(&segment(8)), "{sent:?}");
        });
    }
}

/// Nor is what arrived before a window was shut for an hour.
#[test]
fn what_arrived_before_a_window_was_shut_names_no_losses() {
    for minutes in [1, 40, 60, 80] {
        xtcp(|peer| {
            peer.open_with(syn_with_sack());
            for n in 1..=8 {
                peer.send(&[b'x'; 1460]);
                assert_eq!(peer.turn().len(), 1);
                pass(peer, RTT);
                assert_eq!(peer.give(ack(1, start(n))), NOTHING);
            }
            peer.send(&[b'x'; 12 * 1460]);
            assert!(peer.turn().len() > 2);
            pass(peer, RTT);
            peer.give(ack(1, start(9)).window(0));
            for _ in 0..minutes * 6 {
                if !peer.wait(Duration::from_secs(10)).is_empty() {
                    peer.give(ack(1, start(9)).window(0));
                }
            }
            assert_eq!(peer.give(ack(1, start(9))).len(), 1);
            for n in 10..13 {
                pass(peer, RTT);
                assert_eq!(peer.give(ack(1, start(n))).len(), 2);
            }
            // Of what is in flight two were sent a round trip ago, and two now.
            let beyond = ack(1, start(12)).sacks(&[(start(13), start(14))]);
            let mut sent = peer.give(beyond);
            sent.extend(peer.wait(2 * RTT));
            let again = |line: &&String| line.contains(&segment(12));
            assert_eq!(
                sent.len(),
                2,
                "a new one, and the lost one, after {minutes} minutes: {sent:?}"
            );
            assert_eq!(sent.iter().filter(again).count(), 1, "after {minutes} minutes: {sent:?}");
        });
    }
}

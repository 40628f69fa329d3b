//! How long what was overtaken is waited for (RFC 8985 section 6.2, step 4), and when a recovery was for
//! nothing (RFC 3522, RFC 3708).

use std::time::Duration;

use super::rack::{RTT, count, cwnd, open, pass, sack, segment, sending};
use super::{NOTHING, ordinary, xtcp};
use crate::sim::peer::{Peer, ack, data, syn_with_sack};
use xtcp_stack::Count;

/// Segments from the `n`th up to another are sent, of which the first is late: after how many
/// milliseconds beyond the round trip it goes again. All are acknowledged then, and if it came after
/// all, that is reported.
fn patience(peer: &mut Peer<'_>, n: i64, end: i64, came: bool) -> u64 {
    let segments = usize::try_from(end - n).expect("some");
    peer.send(&vec![b'x'; segments * 1460]);
    assert_eq!(peer.turn().len(), segments);
    pass(peer, RTT);
    let (first, own) = (segment(n).replace("ack 1", "ack 2"), 2);
    let mut sent = peer.give(sack(n, &[(n + 1, end)]).at(own));
    if !sent.is_empty() {
        assert_eq!(sent, [first.as_str()]);
        sent[0].insert_str(0, "0 ms: ");
    } else {
        sent = peer.wait(2 * RTT);
    }
    assert!(sent[0].ends_with(&first), "{sent:?}");
    let reported: &[(i64, i64)] = if came { &[(n, n + 1)] } else { &[] };
    peer.give(sack(end, reported).at(own));
    pass(peer, RTT);
    sent[0].split(' ').next().expect("a number").parse().expect("a number")
}

/// A byte of the client's that the application does not commit, so that the connection stays active
/// and knows what it has seen.
fn stay_active(peer: &mut Peer<'_>) {
    peer.give(data(1, 1, b"x"));
    assert_eq!(peer.events(), ["data 0+1 x"]);
}

/// A quarter of the round trip; one more for each round in which that was too short, up to a whole one;
/// and after sixteen recoveries that were needed, a quarter again.
#[test]
fn patience_grows_with_what_came_too_late() {
    ordinary(|peer| {
        sending(peer, 10);
        // Three segments beyond it prove a loss, as long as nothing has overtaken another.
        assert_eq!(peer.give(sack(0, &[(1, 4)])), [segment(0)]);
        pass(peer, RTT);
        peer.give(sack(9, &[]));
        stay_active(peer);
        peer.give(sack(10, &[]).at(2));
        assert_eq!(patience(peer, 10, 14, false), 0, "what is sent again is overtaken by nothing");
    });
    ordinary(|peer| {
        sending(peer, 3);
        assert_eq!(peer.give(sack(0, &[(1, 3)])), NOTHING);
        stay_active(peer);
        assert_eq!(peer.give(sack(3, &[]).at(2)), NOTHING);
        pass(peer, RTT);
        let mut n = 3;
        let mut next = |peer: &mut Peer<'_>, came| {
            n += 2;
            patience(peer, n - 2, n, came)
        };
        for wanted in [10, 20, 30, 40, 40, 40] {
            let waited = next(peer, true);
            assert!((wanted..wanted + 3).contains(&waited), "{waited} ms instead of {wanted}");
        }
        for recovery in 1..=16 {
            let waited = next(peer, false);
            assert!((40..43).contains(&waited), "{waited} ms in recovery {recovery}");
        }
        let waited = next(peer, false);
        assert!((10..13).contains(&waited), "{waited} ms after sixteen");
    });
}

/// A recovery ends with the window at the threshold, however much of the flight was still out.
#[test]
fn a_recovery_ends_at_its_threshold() {
    ordinary(|peer| {
        sending(peer, 100);
        for n in 1..=10 {
            peer.give(sack(n, &[]));
        }
        pass(peer, RTT);
        let before = cwnd(peer);
        assert_eq!(before, 20 * 1460);
        peer.give(sack(10, &[(11, 14)]));
        assert!(cwnd(peer) > before * 3 / 4, "in proportion to what has arrived");
        peer.give(sack(30, &[]));
        assert!(cwnd(peer).abs_diff(before / 2) <= 2 * 1460, "{before} {}", cwnd(peer));
    });
}

/// RFC 3708: what came twice beyond what was in flight when the recovery began says nothing of it.
#[test]
fn a_duplicate_of_later_text_takes_no_recovery_back() {
    ordinary(|peer| {
        sending(peer, 40);
        peer.give(sack(0, &[(1, 4)]));
        let sent = peer.give(sack(0, &[(1, 10)]));
        assert!(sent.contains(&segment(12)), "{sent:?}");
        let reduced = cwnd(peer);
        pass(peer, RTT);
        peer.give(sack(0, &[(12, 13), (1, 13)]));
        peer.give(sack(0, &[(12, 13), (1, 13)]));
        assert_eq!(count(peer, Count::DuplicatesReported), 2);
        assert_eq!(count(peer, Count::RecoveriesUndone), 0);
        assert!(cwnd(peer) <= reduced);
    });
}

/// RFC 3522: the echo tells the original from what was sent again, if it is older; not if it is as old.
#[test]
fn the_echo_of_the_first_retransmission_takes_nothing_back() {
    for (earlier, undone) in [(0, 0), (1, 1)] {
        ordinary(|peer| {
            open(peer, syn_with_sack().stamps(1000, 0));
            peer.send(&[b'x'; 10 * 1448]);
            assert_eq!(peer.turn().len(), 10);
            pass(peer, RTT);
            let at = |n: i64| 1 + 1448 * n;
            let echo = peer.last_got().options.timestamps.expect("agreed").value;
            let sent = peer.give(ack(1, 1).sacks(&[(at(1), at(4))]).stamps(1001, echo));
            assert_eq!(sent, ["A 1+1448 ack 1"]);
            let again = peer.last_got().options.timestamps.expect("agreed").value;
            assert!(again > echo);
            pass(peer, Duration::from_millis(30));
            peer.give(ack(1, at(4)).stamps(1002, again - earlier));
            assert_eq!(count(peer, Count::RecoveriesUndone), undone);
        });
    }
}

/// What an acknowledgement of two copies echoes beside a reported duplicate is of what came long before:
/// no round trip.
#[test]
fn the_echo_beside_a_reported_duplicate_is_not_timed() {
    for (reported, timed) in [(true, false), (false, true)] {
        ordinary(|peer| {
            open(peer, syn_with_sack().stamps(1000, 0));
            peer.send(&[b'x'; 1448]);
            assert_eq!(peer.turn().len(), 1);
            let echo = peer.last_got().options.timestamps.expect("agreed").value;
            let srtt =
                |peer: &Peer<'_>| peer.host.stack.connection(peer.cd()).expect("open").srtt_us;
            let before = srtt(peer);
            assert!(!peer.wait(Duration::from_millis(300)).is_empty(), "it goes again");
            let mut answer = ack(1, 1449).stamps(1001, echo);
            if reported {
                answer = answer.sacks(&[(1, 1449)]);
            }
            peer.give(answer);
            assert_eq!(srtt(peer).abs_diff(before) > 1_000, timed, "{before} {}", srtt(peer));
        });
    }
}

/// What is acknowledged a month after a recovery was not in flight then: what it echoes says nothing of
/// it, even if half the circle of timestamps lies between.
#[test]
fn no_later_echo_takes_a_recovery_back() {
    for days in [1, 24, 25, 40, 50] {
        xtcp(|peer| {
            peer.open_with(syn_with_sack().stamps(1000, 0));
            let stamp = |peer: &Peer<'_>| peer.last_got().options.timestamps.expect("agreed").value;
            // It never rests: the application holds a request and does not commit it.
            let echo = stamp(peer);
            assert_eq!(peer.give(data(1, 1, b"held").stamps(1000, echo)), NOTHING);
            peer.events();
            peer.send(&[b'x'; 10 * 1448]);
            assert_eq!(peer.turn().len(), 10);
            let at = |n: i64| 1 + 1448 * n;
            pass(peer, RTT);
            let echo = stamp(peer);
            peer.give(ack(5, 1).sacks(&[(at(1), at(4))]).stamps(1001, echo));
            assert_eq!(count(peer, Count::FastRetransmits), 1);
            pass(peer, RTT);
            let echo = stamp(peer);
            peer.give(ack(5, at(10)).stamps(1002, echo));
            let reduced = cwnd(peer);
            pass(peer, Duration::from_secs(24 * 3600) * days);
            peer.send(&[b'x'; 1448]);
            assert_eq!(peer.turn().len(), 1);
            pass(peer, RTT);
            let echo = stamp(peer);
            peer.give(ack(5, at(11)).stamps(1003, echo));
            assert_eq!(count(peer, Count::RecoveriesUndone), 0, "after {days} days");
            assert!(cwnd(peer) <= reduced + 2 * 1448, "after {days} days");
        });
    }
}

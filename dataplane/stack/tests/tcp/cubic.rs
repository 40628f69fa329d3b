//! CUBIC (RFC 9438): how far the window shrinks, and how it grows again.

use std::time::Duration;

use super::{PORT, client};
use crate::sim::peer::{Peer, ack, syn_with_sack};
use crate::sim::{config, ordinary_group};
use xtcp_stack::{Congestion, GroupConfig};

const MSS: i64 = 1460;
const RTT: Duration = Duration::from_millis(100);

fn with(congestion: Congestion, test: impl FnOnce(&mut Peer<'_>)) {
    let group = GroupConfig { congestion, ..ordinary_group(PORT) };
    client(&config(0, 2), 1 << 20, &group, test);
}

fn cwnd(peer: &Peer<'_>) -> u32 {
    peer.host.stack.connection(peer.cd()).expect("open").cwnd
}

/// A connection that takes a round trip for everything and whose peer has a large window.
struct Path<'p, 'm> {
    peer: &'p mut Peer<'m>,
    acked: i64,
    sent: i64,
}

impl<'p, 'm> Path<'p, 'm> {
    fn open(peer: &'p mut Peer<'m>) -> Self {
        peer.give(syn_with_sack());
        peer.now = peer.now + RTT;
        peer.give(ack(1, 1).window(u16::MAX));
        assert_eq!(peer.events(), ["opened"]);
        Self { peer, acked: 1, sent: 1 }
    }

    fn note(&mut self, lines: &[String]) {
        for line in lines {
            let (seq, len) = line.split(' ').nth(1).unwrap().split_once('+').unwrap();
            let end = seq.parse::<i64>().unwrap() + len.parse::<i64>().unwrap();
            self.sent = self.sent.max(end);
        }
    }

    /// The application keeps the queue full; all that may go goes.
    fn fill(&mut self) {
        self.peer.send(&[b'x'; 100 * 1460]);
        loop {
            let lines = self.peer.turn();
            if lines.is_empty() {
                return;
            }
            self.note(&lines);
        }
    }

    /// A round trip, in which everything arrives but the first of it if `lossy`.
    fn round(&mut self, lossy: bool) {
        self.fill();
        self.peer.now = self.peer.now + RTT;
        let end = self.sent;
        let first = self.acked;
        if lossy {
            let mut right = first + 2 * MSS;
            while right < end {
                right = end.min(right + 2 * MSS);
                let blocks = [(first + MSS, right)];
                let lines = self.peer.give(ack(1, first).window(u16::MAX).sacks(&blocks));
                self.note(&lines);
            }
            self.peer.now = self.peer.now + RTT;
        }
        while self.acked < end {
            self.acked = if lossy { end } else { end.min(self.acked + 2 * MSS) };
            let lines = self.peer.give(ack(1, self.acked).window(u16::MAX));
            self.note(&lines);
        }
    }
}

/// RFC 9438 section 4.6: three tenths less, where RFC 5681 says half.
#[test]
fn a_loss_leaves_seven_tenths() {
    for (congestion, tenths) in [(Congestion::Cubic, 7), (Congestion::NewReno, 5)] {
        with(congestion, |peer| {
            let mut path = Path::open(peer);
            for _ in 0..3 {
                path.round(false);
            }
            path.fill();
            let before = cwnd(path.peer);
            assert_eq!(before, 80 * 1460);
            path.round(true);
            let wanted = before * tenths / 10;
            let after = cwnd(path.peer);
            assert!(after.abs_diff(wanted) < 3 * 1460, "{congestion:?}: {before} {after}");
        });
    }
}

/// Section 4.2: at K = cbrt (0.3 * 80 / 0.4) = 3.9 s it is what it was, and flat; then it grows ever
/// faster.
#[test]
fn the_window_comes_back_stays_and_grows() {
    with(Congestion::Cubic, |peer| {
        let mut path = Path::open(peer);
        for _ in 0..3 {
            path.round(false);
        }
        let before = cwnd(path.peer);
        path.round(true);
        let mut seen = Vec::new();
        for _ in 0..90 {
            path.round(false);
            seen.push(cwnd(path.peer));
        }
        assert!(seen.is_sorted(), "{seen:?}");
        assert!(seen[38].abs_diff(before) < 4 * 1460, "{before}: {seen:?}");
        let grown = |from: usize, to: usize| seen[to] - seen[from];
        assert!(grown(0, 10) > 2 * grown(28, 38), "concave: {seen:?}");
        assert!(grown(75, 85) > 2 * grown(40, 50), "convex: {seen:?}");
    });
}

/// What an idle connection keeps is enough to go on from: the window of the loss follows from the
/// threshold.
#[test]
fn growth_goes_on_where_it_was_after_a_rest() {
    let grown = |rests: bool| {
        let mut grown = 0;
        with(Congestion::Cubic, |peer| {
            let mut path = Path::open(peer);
            for _ in 0..3 {
                path.round(false);
            }
            path.round(true);
            if rests {
                // The queue runs empty, and the connection is folded.
                for _ in 0..200 {
                    path.peer.now = path.peer.now + Duration::from_millis(1);
                    let lines = path.peer.give(ack(1, path.sent).window(u16::MAX));
                    path.acked = path.sent;
                    path.note(&lines);
                }
                assert_eq!(path.sent, 1 + 400 * MSS, "all that was queued");
                assert_eq!(path.peer.give(ack(1, path.sent).window(u16::MAX)), [""; 0]);
                assert_eq!(path.peer.host.stack.usage().active, 0, "folded");
            }
            let before = cwnd(path.peer);
            for _ in 0..10 {
                path.round(false);
            }
            grown = cwnd(path.peer) - before;
        });
        grown
    };
    let (without, with_a_rest) = (grown(false), grown(true));
    assert!(with_a_rest > 0 && with_a_rest < 2 * without, "{without} {with_a_rest}");
}

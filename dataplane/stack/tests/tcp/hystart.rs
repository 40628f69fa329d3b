//! Slow start and round trips that get longer (HyStart++, RFC 9406).

use std::time::Duration;

use super::{PORT, client};
use crate::sim::peer::{Peer, ack, data, syn_with_sack};
use crate::sim::{config, ordinary_group, xtcp_group};
use xtcp_stack::{Config, Congestion, GroupConfig, TcpConfig};

const MSS: i64 = 1460;
const MS: fn(u64) -> Duration = Duration::from_millis;

/// Windows in segments after each round, for round trips of so many milliseconds.
fn windows(hystart: bool, congestion: Congestion, round_trips: &[u64]) -> Vec<u32> {
    let tcp = TcpConfig { hystart, ..TcpConfig::default() };
    let group = GroupConfig { congestion, ..ordinary_group(PORT) };
    let mut windows = Vec::new();
    client(&Config { tcp, ..config(0, 2) }, 1 << 20, &group, |peer| {
        peer.give(syn_with_sack().options(|options| options.window_scale = Some(7)));
        peer.now = peer.now + MS(round_trips[0]);
        peer.give(ack(1, 1).window(u16::MAX));
        assert_eq!(peer.events(), ["opened"]);
        let (mut acked, mut sent) = (1, 1);
        for round_trip in round_trips {
            fill(peer, &mut sent);
            peer.now = peer.now + MS(*round_trip);
            let end = sent;
            while acked < end {
                acked = end.min(acked + MSS);
                note(&peer.give(ack(1, acked).window(u16::MAX)), &mut sent);
            }
            windows.push(peer.host.stack.connection(peer.cd()).expect("open").cwnd / 1460);
        }
    });
    windows
}

/// The application keeps the queue full; all that may go goes.
fn fill(peer: &mut Peer<'_>, sent: &mut i64) {
    peer.send(&[b'x'; 300 * 1460]);
    loop {
        let lines = peer.turn();
        if lines.is_empty() {
            return;
        }
        note(&lines, sent);
    }
}

fn note(lines: &[String], sent: &mut i64) {
    for line in lines {
        let (seq, len) = line.split(' ').nth(1).unwrap().split_once('+').unwrap();
        *sent = (*sent).max(seq.parse::<i64>().unwrap() + len.parse::<i64>().unwrap());
    }
}

/// Section 4.2: an eighth longer than the round before, 4 ms at least and 16 ms at most, and it grows
/// by a quarter. (A round's first acknowledgements are those of the last segments before it.)
#[test]
fn longer_round_trips_slow_it_down() {
    for congestion in [Congestion::NewReno, Congestion::Cubic] {
        for (before, longer) in [(10, 4), (100, 13), (400, 16)] {
            let seen =
                |by: u64| windows(true, congestion, &[before, before, before + by, before + by]);
            assert_eq!(seen(longer), [20, 40, 80, 100], "{congestion:?} {before}");
            assert_eq!(seen(longer - 1), [20, 40, 80, 160], "{congestion:?} {before}");
        }
    }
}

#[test]
fn without_it_the_window_doubles() {
    assert_eq!(windows(false, Congestion::Cubic, &[10, 10, 20, 40]), [20, 40, 80, 160]);
}

/// Section 4.2: after five rounds it is left for congestion avoidance, which starts flat.
#[test]
fn it_ends_after_five_rounds() {
    for congestion in [Congestion::NewReno, Congestion::Cubic] {
        let seen = windows(true, congestion, &[10, 10, 20, 20, 20, 20, 20, 20, 20, 20]);
        for pair in seen[2..7].windows(2) {
            assert!((pair[1] - pair[0]).abs_diff(pair[0] / 4) < 2, "{congestion:?}: {seen:?}");
        }
        for pair in seen[7..].windows(2) {
            assert!(pair[1] - pair[0] <= 2, "{congestion:?}: {seen:?}");
        }
    }
}

/// Round trips that get shorter again say that it was no queue.
#[test]
fn it_goes_on_when_round_trips_are_short_again() {
    let seen = windows(true, Congestion::Cubic, &[10, 10, 20, 20, 10, 10]);
    assert_eq!(seen[3], 100, "{seen:?}");
    assert!(seen[5] > seen[4] * 17 / 10, "{seen:?}");
}

/// A window that is not used for 2 GB says nothing of the path: then rounds go on, and are no older than
/// what is in flight.
#[test]
fn rounds_end_half_a_circle_later() {
    let tcp = TcpConfig { send_queue_max: 16 << 20, ..TcpConfig::default() };
    let config = Config { mtu: u16::MAX, transmit_bytes: 32 << 20, tcp, ..config(0, 2) };
    client(&config, 1 << 20, &xtcp_group(PORT), |peer| {
        peer.open_with(syn_with_sack().options(|options| {
            (options.mss, options.window_scale) = (Some(u16::MAX), Some(14));
        }));
        // It never rests: the application holds a request and does not commit it.
        peer.give(data(1, 1, b"held"));
        peer.events();
        let piece = vec![b'x'; LARGEST as usize];
        let bytes = |lines: &[String]| i64::try_from(lines.len()).expect("few") * LARGEST;
        let (mut queued, mut sent, mut acked) = (1, 1, 1);
        // The window after a round that took so long and in which so many segments were queued.
        let mut round = |peer: &mut Peer<'_>, ahead: i64, took: u64| {
            peer.now = peer.now + MS(took);
            let end = sent;
            while acked < end {
                acked += LARGEST;
                sent += bytes(&peer.give(ack(5, acked).window(u16::MAX)));
            }
            while queued < sent + ahead * LARGEST {
                peer.send(&piece);
                queued += LARGEST;
            }
            loop {
                let lines = peer.turn();
                if lines.is_empty() {
                    break;
                }
                sent += bytes(&lines);
            }
            peer.host.stack.connection(peer.cd()).expect("open").cwnd / LARGEST as u32
        };
        let full: Vec<u32> = (0..4).map(|_| round(peer, 20, 10)).collect();
        assert_eq!(full, [2, 4, 8, 16]);
        // All that is queued goes; then two segments at a time.
        let before = (0..6).map(|_| round(peer, 0, 10)).last().expect("some");
        for _ in 0..(1_i64 << 31) / (2 * LARGEST) + 100 {
            assert_eq!(round(peer, 2, 10), before);
        }
        let fast = [round(peer, 120, 10), round(peer, 120, 10)];
        assert_eq!(fast, [before, 2 * before]);
        let slow = [round(peer, 120, 20), round(peer, 120, 20)];
        assert!(slow[0] < 3 * before && slow[1] < slow[0] * 3 / 2, "{before} {slow:?}");
    });
}

/// Payload of a segment of the largest packet there is.
const LARGEST: i64 = 65_535 - 40;

//! What an implementation may choose, chosen: each choice of [`TcpConfig`] shows in what leaves.

use std::time::Duration;

use super::{NOTHING, PORT, client};
use crate::sim::peer::{Peer, ack, data, fin, rst, syn, syn_with_sack};
use crate::sim::{config, ordinary_group};
use xtcp_stack::wire::tcp::Flags;
use xtcp_stack::{Config, Instant, Stop, TcpConfig};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A client of an ordinary group whose TCP is as `choose` makes it.
fn with(choose: impl FnOnce(&mut TcpConfig), test: impl FnOnce(&mut Peer<'_>)) {
    let mut tcp = TcpConfig::default();
    choose(&mut tcp);
    client(&Config { tcp, ..config(0, 2) }, 1 << 20, &ordinary_group(PORT), test);
}

/// The options of a frame's TCP header, as they lie there.
fn option_bytes(frame: &[u8]) -> &[u8] {
    let header = &frame[34..];
    &header[20..usize::from(header[12] >> 4) * 4]
}

/// Time until something leaves, and what.
fn next(peer: &mut Peer<'_>) -> (Duration, Vec<String>) {
    let before = peer.now;
    loop {
        let due = peer.host.stack.poll_timeout().expect("something is due");
        peer.now = due.max(peer.now);
        let sent = peer.turn();
        if !sent.is_empty() {
            return (peer.now.since(before), sent);
        }
    }
}

/// Within the millisecond the timer wheel goes by.
fn assert_about(time: Duration, expected: Duration) {
    assert!(time >= expected && time < expected + MS(3), "{time:?}, not {expected:?}");
}

#[test]
fn so_many_segments_are_acknowledged_by_one() {
    for (count, together) in [(0, 1), (1, 1), (2, 2), (4, 4)] {
        with(
            |tcp| tcp.delayed_ack_segments = count,
            |peer| {
                peer.open();
                let mut at = 1;
                for round in 0..3 {
                    for nth in 1..=together {
                        let sent = peer.give(data(at, 1, b"four"));
                        at += 4;
                        let due = nth == together;
                        assert_eq!(sent.len(), usize::from(due), "{count} {round} {nth}");
                    }
                    assert_eq!(peer.last_got().ack, at);
                }
            },
        );
    }
}

#[test]
fn an_acknowledgement_waits_as_long_as_it_is_told() {
    for wait in [1, 40, 200, 499] {
        with(
            |tcp| (tcp.delayed_ack, tcp.delayed_ack_segments) = (MS(wait), 4),
            |peer| {
                peer.open();
                assert_eq!(peer.give(data(1, 1, b"a")), NOTHING);
                peer.now = peer.now + MS(wait) / 2;
                assert_eq!(peer.give(data(2, 1, b"b")), NOTHING);
                let (time, sent) = next(peer);
                assert_eq!(sent, ["A 1+0 ack 3"]);
                assert_about(time, MS(wait) - MS(wait) / 2);
            },
        );
    }
}

#[test]
fn the_first_segments_are_acknowledged_each_and_so_after_a_silence() {
    with(
        |tcp| tcp.quick_acks = 3,
        |peer| {
            peer.open();
            let mut at = 1;
            for pause in [0, 60] {
                peer.now = peer.now + Duration::from_secs(pause);
                let answers: Vec<usize> = (0..7)
                    .map(|_| {
                        at += 1;
                        peer.give(data(at - 1, 1, b"x")).len()
                    })
                    .collect();
                assert_eq!(answers, [1, 1, 1, 0, 1, 0, 1], "after {pause} s");
            }
        },
    );
}

#[test]
fn so_many_segments_leave_at_first() {
    for window in [1, 2, 4, 10, 15] {
        with(
            |tcp| tcp.initial_window = window,
            |peer| {
                peer.open();
                peer.send(&[b'x'; 40 * 1460]);
                assert_eq!(peer.turn().len(), usize::from(window));
            },
        );
    }
}

#[test]
fn a_timeout_starts_doubles_and_ends_where_it_is_told() {
    with(
        |tcp| {
            (tcp.rto_initial, tcp.rto_min) = (MS(300), MS(50));
            tcp.rto_max = MS(1_000);
        },
        |peer| {
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
            for expected in [300, 600, 1_000, 1_000] {
                let (time, sent) = next(peer);
                assert_eq!(sent, ["SA 0+0 ack 1"]);
                assert_about(time, MS(expected));
            }
        },
    );
    // Measured, the round trip is nothing, and the lower bound is what remains.
    with(
        |tcp| tcp.rto_min = MS(50),
        |peer| {
            peer.open();
            peer.send(b"lost");
            assert_eq!(peer.turn(), ["PA 1+4 ack 1"]);
            assert_about(next(peer).0, MS(50));
        },
    );
}

#[test]
fn time_wait_lasts_as_long_as_it_is_told() {
    for wait in [0, 1, 120] {
        with(
            |tcp| tcp.time_wait = Duration::from_secs(wait),
            |peer| {
                peer.open();
                peer.close();
                assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
                assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"]);
                peer.events();
                let until = Instant::from_nanos(peer.now.as_nanos()) + Duration::from_secs(wait);
                if wait > 0 {
                    peer.now = peer.now + Duration::from_secs(wait) - MS(10);
                    peer.turn();
                    assert_eq!(peer.host.stack.usage().time_wait, 1, "{wait} s");
                }
                peer.now = until + MS(10);
                peer.turn();
                assert_eq!(peer.host.stack.usage().time_wait, 0, "{wait} s");
            },
        );
    }
}

#[test]
fn windows_are_scaled_as_it_is_told() {
    for shift in [0, 3, 14] {
        with(
            |tcp| tcp.window_scale = shift,
            |peer| {
                peer.give(syn().options(|options| options.window_scale = Some(5)));
                let offered = peer.last_got().options.window_scale;
                assert_eq!(offered, Some(shift));
            },
        );
    }
}

/// RFC 5961 section 7.
#[test]
fn challenges_leave_as_often_as_it_is_told() {
    for interval in [1, 100, 1_000] {
        with(
            |tcp| tcp.challenge_interval = MS(interval),
            |peer| {
                peer.open();
                assert_eq!(peer.give(rst(100)).len(), 1);
                assert_eq!(peer.give(rst(100)), NOTHING);
                peer.now = peer.now + MS(interval) + MS(3);
                peer.turn();
                assert_eq!(peer.give(rst(100)).len(), 1, "after {interval} ms");
            },
        );
    }
}

/// The layout Linux has, word for word: other stacks' tests compare bytes.
#[test]
fn options_lie_as_linux_lays_them() {
    let stamped = |value| syn_with_sack().stamps(value, 0);
    with(
        |_| (),
        |peer| {
            let call = stamped(7).options(|options| {
                (options.mss, options.window_scale) = (Some(1460), Some(7));
            });
            let frame = peer.frame_of(&call);
            let answer = &peer.exchange(&frame)[0];
            let bytes = option_bytes(answer);
            assert_eq!(bytes[..8], [2, 4, 0x05, 0xb4, 4, 2, 8, 10]);
            assert_eq!(bytes[12..], [0, 0, 0, 7, 1, 3, 3, 7]);
        },
    );
    with(
        |tcp| tcp.timestamps = false,
        |peer| {
            let call = syn_with_sack().options(|options| options.window_scale = Some(7));
            let frame = peer.frame_of(&call);
            let answer = &peer.exchange(&frame)[0];
            assert_eq!(option_bytes(answer), [2, 4, 0x05, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7]);
        },
    );
    with(
        |_| (),
        |peer| {
            assert_eq!(peer.give(stamped(7)), ["SA 0+0 ack 1"]);
            let ours = peer.last_got().options.timestamps.expect("agreed").value;
            peer.give(ack(1, 1).stamps(8, ours));
            // Two holes: the part that grew last comes first (RFC 2018 section 4).
            peer.give(data(11, 1, b"one").stamps(9, ours));
            let frame = peer.frame_of(&data(21, 1, b"two").stamps(10, ours));
            let answers = peer.exchange(&frame);
            let bytes = option_bytes(answers.last().expect("an acknowledgement"));
            assert_eq!(bytes[..4], [1, 1, 8, 10]);
            assert_eq!(bytes[12..16], [1, 1, 5, 18]);
            let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
            assert_eq!(word(16).wrapping_sub(word(24)), 10, "the newest first");
            assert_eq!(word(20).wrapping_sub(word(16)), 3);
        },
    );
}

#[test]
fn one_address_calls_as_often_as_it_is_told() {
    with(
        |tcp| tcp.syns_per_second = 5,
        |peer| {
            for second in 0..3 {
                let answered = (0..20)
                    .filter(|n| {
                        peer.use_port(2000 + 100 * second + n);
                        !peer.give(syn()).is_empty()
                    })
                    .count();
                assert_eq!(answered, 5);
                assert_eq!(
                    peer.host.stack.counters().stopped(Stop::SynRationed),
                    15 * (u64::from(second) + 1)
                );
                peer.now = peer.now + Duration::from_secs(1);
            }
        },
    );
}

/// The same secret and the same time give the same numbers: a run can be had again.
#[test]
fn numbers_follow_from_secret_and_time() {
    let numbers = |secret: u8| {
        let mut seen = 0;
        client(
            &Config { secret: [secret; 32], ..config(0, 2) },
            1 << 20,
            &ordinary_group(PORT),
            |peer| {
                let frame = peer.frame_of(&syn());
                let answer = &peer.exchange(&frame)[0];
                assert!(Flags(answer[47]).contains(Flags::SYN));
                seen = u32::from_be_bytes(answer[38..42].try_into().expect("four"));
            },
        );
        seen
    };
    assert_eq!(numbers(1), numbers(1));
    assert_ne!(numbers(1), numbers(2));
}

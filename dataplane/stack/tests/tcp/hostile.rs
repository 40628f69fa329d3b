//! Clients that mean harm.

use std::time::Duration;

use xtcp_stack::{Event, GroupConfig, Stop};

use super::{NOTHING, PORT, client, ordinary, xtcp};
use crate::sim::peer::{ack, data, fin, rst, syn, syn_with_sack};
use crate::sim::rng::{Rng, pattern};
use crate::sim::{QUEUE, config, for_each_seed, xtcp_group};

/// Bad input 53 and 54, RFC 5961 section 4.
#[test]
fn a_syn_on_an_open_connection_is_challenged() {
    ordinary(|peer| {
        peer.open();
        assert_eq!(peer.give(syn()), ["A 1+0 ack 1"], "the original one");
        peer.now = peer.now + Duration::from_secs(1);
        assert_eq!(peer.give(syn().at(100)), ["A 1+0 ack 1"], "in the window");
        peer.now = peer.now + Duration::from_secs(1);
        assert_eq!(peer.give(syn().at(1 << 28)), ["A 1+0 ack 1"], "out of the window");
        assert_eq!(peer.give(data(1, 1, b"alive")), NOTHING);
        assert_eq!(peer.events(), ["data 0+5 alive"]);
    });
}

/// N2 and N3.
#[test]
fn challenges_are_rationed() {
    ordinary(|peer| {
        peer.open();
        let mut answers = 0;
        for n in 0..10_000 {
            answers += peer.give(rst(2 + n % 50)).len();
            answers += peer.give(syn().at(2 + n % 50)).len();
        }
        assert_eq!(answers, 1);
        peer.use_port(4001);
        peer.open();
        assert_eq!(peer.give(rst(2)), ["A 1+0 ack 1"], "another connection has its own ration");
    });
}

/// Bad input 56, RFC 5961 section 5.
#[test]
fn text_with_an_ack_from_long_ago_is_not_taken() {
    ordinary(|peer| {
        peer.open();
        assert_eq!(peer.give(data(1, 1 - 70_000, b"injected")), ["A 1+0 ack 1"]);
        peer.now = peer.now + Duration::from_secs(1);
        assert_eq!(peer.give(data(1, 9, b"injected")), ["A 1+0 ack 1"], "of unsent");
        assert_eq!(peer.events(), NOTHING);
        peer.give(data(1, 1, b"right"));
        assert_eq!(peer.events(), ["data 0+5 right"]);
    });
}

/// Who does not know where the connection stands frees nothing.
#[test]
fn an_ack_far_out_of_the_window_acknowledges_nothing() {
    ordinary(|peer| {
        peer.open();
        peer.send(b"answer");
        assert_eq!(peer.turn(), ["PA 1+6 ack 1"]);
        peer.give(ack(-(1 << 25), 7));
        peer.give(ack(1 << 25, 7));
        assert!(peer.host.stack.usage().transmit_used > 0, "still cached");
        peer.give(ack(1, 7));
        assert_eq!(peer.host.stack.usage().transmit_used, 0);
    });
}

/// N7 and N8: bits of text beyond a hole are bounded, by their blocks and not by their bytes.
#[test]
fn tiny_pieces_beyond_a_hole_are_bounded() {
    xtcp(|peer| {
        peer.open();
        for n in 0..5000 {
            peer.give(data(3 + 2 * (4999 - n), 1, b"x"));
        }
        let usage = peer.host.stack.usage();
        let pool = peer.host.stack.pools().next().expect("one");
        assert!(usage.chunks <= 1024, "{usage:?}");
        assert!(pool.receive_used <= pool.receive_bytes / 4 * 3, "{pool:?}");
        assert!(peer.host.stack.counters().stopped(Stop::OutOfOrderFull) > 0);
        peer.give(data(1, 1, &[b'y'; 1400]));
        assert!(!peer.events().is_empty(), "in order there is room");
    });
}

/// What waits beyond holes leaves room for what is in order.
#[test]
fn a_pool_full_of_holes_still_takes_what_is_in_order() {
    let group = GroupConfig { window_max: 1 << 20, ..xtcp_group(PORT) };
    client(&config(0, 2), 64 << 10, &group, |peer| {
        for n in 0..16 {
            peer.use_port(5000 + n);
            peer.open();
            for segment in 0..8 {
                peer.give(data(2 + 1400 * segment, 1, &[b'x'; 1400]));
            }
        }
        peer.use_port(4000);
        peer.open();
        peer.give(data(1, 1, b"in order"));
        assert_eq!(peer.events(), ["data 0+8 in order"]);
    });
}

/// The last resort: what can be sent again makes way for what must come first.
#[test]
fn text_beyond_a_hole_makes_way_for_text_in_order() {
    let group = GroupConfig { window_max: 1 << 20, ..xtcp_group(PORT) };
    client(&config(0, 2), 32 << 10, &group, |peer| {
        let clients = 5000..5012;
        for port in clients.clone() {
            peer.use_port(port);
            peer.open();
        }
        for port in clients.clone() {
            peer.use_port(port);
            peer.give(data(1401, 1, &[b'x'; 1400]));
        }
        assert!(peer.host.stack.counters().stopped(Stop::OutOfOrderFull) == 0);
        for port in clients {
            peer.use_port(port);
            peer.give(data(1, 1, &[b'y'; 1400]));
            assert!(!peer.events().is_empty(), "the client at port {port}");
        }
    });
}

/// Whatever comes, in whatever state: a RST has no answer.
#[test]
fn no_reset_is_answered() {
    ordinary(|peer| {
        for step in 0..6 {
            match step {
                1 => drop(peer.give(syn())),
                2 => drop(peer.give(ack(1, 1))),
                3 => drop(peer.give(data(1, 1, b"text"))),
                4 => drop(peer.give(fin(5, 1))),
                5 => {
                    peer.events();
                    peer.abort();
                    peer.turn();
                }
                _ => {}
            }
            for seq in [-1 << 29, -1, 0, 1 << 29] {
                assert_eq!(peer.give(rst(seq)), NOTHING, "step {step}");
                assert_eq!(peer.give(rst(seq).acking(1)), NOTHING, "step {step}");
            }
        }
    });
}

/// What comes as if it were after a FIN is held by nobody once the FIN is reached.
#[test]
fn text_after_a_fin_is_not_held() {
    ordinary(|peer| {
        peer.open_with(syn_with_sack());
        peer.give(data(12, 1, b"after the end"));
        peer.give(fin(11, 1));
        peer.give(data(1, 1, b"0123456789"));
        assert_eq!(peer.events(), ["data 0+10 0123456789", "finished 10"]);
        peer.host.stack.audit().expect("nothing lies beyond the FIN");
        peer.commit(10);
        assert_eq!(peer.host.stack.usage().chunks, 0);
    });
}

/// The stream has one end: where the peer said first, whatever it says later.
#[test]
fn a_second_fin_elsewhere_moves_no_end() {
    for second in [5, 21] {
        ordinary(|peer| {
            peer.open_with(syn_with_sack());
            peer.give(fin(11, 1));
            peer.give(fin(second, 1));
            peer.give(data(1, 1, b"0123456789"));
            assert_eq!(peer.events(), ["data 0+10 0123456789", "finished 10"]);
            assert_eq!(peer.give(fin(11, 1)), ["A 1+0 ack 12"]);
        });
    }
}

/// Pieces of any length in any order, over each other and again: every byte once, every record where
/// it belongs, at every step.
#[test]
fn pieces_in_any_order_make_the_stream() {
    for_each_seed(100, |seed| {
        ordinary(|peer| {
            peer.open_with(syn_with_sack());
            let mut rng = Rng::new(seed);
            let text: Vec<u8> = (0..2000).map(|at| pattern(seed, at)).collect();
            let mut stream: Vec<u8> = Vec::new();
            while stream.len() < text.len() {
                let from = usize::try_from(rng.below(2000)).expect("small");
                let longest = if rng.chance(100_000) { 1400 } else { 30 };
                let len = usize::try_from(1 + rng.below(longest)).expect("small");
                // Now and then the first hole, so that it comes to an end.
                let from = if rng.chance(20_000) { stream.len() } else { from };
                let to = (from + len).min(text.len());
                let seq = i64::try_from(from).expect("small") + 1;
                peer.give(data(seq, 1, &text[from..to]));
                peer.host.stack.audit().expect("every record is where it belongs");
                while let Some(event) = peer.host.stack.poll_event(QUEUE) {
                    if let Event::Data { at, len, .. } = event {
                        stream.extend(peer.host.stack.received(peer.host.pool, at, len));
                    }
                }
            }
            assert_eq!(stream, text);
        });
    });
}

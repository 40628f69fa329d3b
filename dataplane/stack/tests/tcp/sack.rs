//! Selective acknowledgement, as the stack sends it (RFC 2018, RFC 2883).

use super::{NOTHING, client, ordinary, xtcp};
use crate::PORT;
use crate::sim::peer::{ack, data, fin, syn, syn_with_sack};
use crate::sim::{config, ordinary_group};
use xtcp_stack::{Config, TcpConfig};

/// A configuration that neither offers nor takes SACK.
fn without_sack() -> Config {
    Config { tcp: TcpConfig { sack: false, ..TcpConfig::default() }, ..config(0, 2) }
}

#[test]
fn it_is_agreed_to_whom_it_was_offered() {
    ordinary(|peer| {
        peer.give(syn_with_sack());
        assert!(peer.last_got().options.sack_permitted);
    });
    ordinary(|peer| {
        peer.give(syn());
        assert!(!peer.last_got().options.sack_permitted, "RFC 2018: not unasked");
    });
    client(&without_sack(), 1 << 20, &ordinary_group(PORT), |peer| {
        peer.give(syn_with_sack());
        assert!(!peer.last_got().options.sack_permitted);
    });
}

#[test]
fn without_agreement_there_are_no_blocks() {
    ordinary(|peer| {
        peer.open();
        assert_eq!(peer.give(data(11, 1, b"beyond")), ["A 1+0 ack 1"]);
        assert_eq!(peer.last_sacks(), []);
    });
    client(&without_sack(), 1 << 20, &ordinary_group(PORT), |peer| {
        peer.open_with(syn_with_sack());
        assert_eq!(peer.give(data(11, 1, b"beyond")), ["A 1+0 ack 1"]);
        assert_eq!(peer.last_sacks(), []);
    });
}

/// RFC 2018 section 4: the part that the segment belongs to comes first, then the others by how
/// lately they were reported.
#[test]
fn the_newest_block_comes_first() {
    ordinary(|peer| {
        peer.open_with(syn_with_sack());
        peer.give(data(11, 1, &[b'x'; 10]));
        assert_eq!(peer.last_sacks(), [(11, 21)]);
        peer.give(data(31, 1, &[b'x'; 10]));
        assert_eq!(peer.last_sacks(), [(31, 41), (11, 21)]);
        peer.give(data(51, 1, &[b'x'; 10]));
        assert_eq!(peer.last_sacks(), [(51, 61), (31, 41), (11, 21)]);
        peer.give(data(21, 1, &[b'x'; 5]));
        assert_eq!(peer.last_sacks(), [(11, 26), (51, 61), (31, 41)]);
        peer.give(data(26, 1, &[b'x'; 5]));
        assert_eq!(peer.last_sacks(), [(11, 41), (51, 61)], "two grow together");
    });
}

#[test]
fn four_blocks_fit_and_three_beside_timestamps() {
    let holes = |stamped: bool| {
        let mut seen = Vec::new();
        ordinary(|peer| {
            let mut syn = syn_with_sack();
            if stamped {
                syn = syn.stamps(100, 0);
            }
            peer.open_with(syn);
            for n in 0..6 {
                let mut seg = data(11 + 20 * n, 1, &[b'x'; 10]);
                if stamped {
                    seg = seg.stamps(100, 0);
                }
                peer.give(seg);
            }
            seen = peer.last_sacks();
        });
        seen
    };
    assert_eq!(holes(false), [(111, 121), (91, 101), (71, 81), (51, 61)]);
    assert_eq!(holes(true), [(111, 121), (91, 101), (71, 81)]);
}

#[test]
fn what_is_in_order_is_not_in_a_block() {
    ordinary(|peer| {
        peer.open_with(syn_with_sack());
        peer.give(data(11, 1, &[b'x'; 10]));
        peer.give(data(31, 1, &[b'x'; 10]));
        assert_eq!(peer.give(data(1, 1, &[b'x'; 10])), ["A 1+0 ack 21"]);
        assert_eq!(peer.last_sacks(), [(31, 41)]);
        assert_eq!(peer.give(data(21, 1, &[b'x'; 10])), ["A 1+0 ack 41"]);
        assert_eq!(peer.last_sacks(), []);
    });
}

/// RFC 2883 section 4.1: the first block says what came twice, once.
#[test]
fn a_duplicate_is_reported_once() {
    ordinary(|peer| {
        peer.open_with(syn_with_sack());
        peer.give(data(1, 1, &[b'x'; 10]));
        peer.give(data(11, 1, &[b'x'; 10]));
        assert_eq!(peer.give(data(1, 1, &[b'x'; 10])), ["A 1+0 ack 21"]);
        assert_eq!(peer.last_sacks(), [(1, 11)]);
        peer.give(data(31, 1, &[b'x'; 10]));
        assert_eq!(peer.last_sacks(), [(31, 41)]);
    });
}

/// RFC 2883 sections 4.1.2 and 4.2: beside a hole, within a block, and in part.
#[test]
fn duplicates_beside_and_beyond_holes_are_reported() {
    ordinary(|peer| {
        peer.open_with(syn_with_sack());
        peer.give(data(1, 1, &[b'x'; 10]));
        peer.give(data(21, 1, &[b'x'; 10]));
        peer.give(data(1, 1, &[b'x'; 10]));
        assert_eq!(peer.last_sacks(), [(1, 11), (21, 31)], "below the hole");
        peer.give(data(21, 1, &[b'x'; 10]));
        assert_eq!(peer.last_sacks(), [(21, 31), (21, 31)], "beyond it");
        peer.give(data(26, 1, &[b'x'; 10]));
        assert_eq!(peer.last_sacks(), [(26, 31), (21, 36)], "in part");
        peer.give(data(6, 1, &[b'x'; 10]));
        assert_eq!(peer.last_sacks(), [(6, 11), (21, 36)], "in part, and in order");
    });
}

/// What the application holds back is not acknowledged, selectively neither: a block there would
/// tell the client that what comes before it is lost. What lies beyond a hole is another matter.
#[test]
fn what_is_held_back_is_in_no_block() {
    xtcp(|peer| {
        peer.open_with(syn_with_sack());
        assert_eq!(peer.give(data(1, 1, &[b'x'; 10])), NOTHING);
        assert_eq!(peer.give(data(1, 1, &[b'x'; 10])), ["A 1+0 ack 1"]);
        assert_eq!(peer.last_sacks(), [], "no duplicate above the acknowledgement");
        assert_eq!(peer.give(data(21, 1, &[b'x'; 10])), ["A 1+0 ack 1"]);
        assert_eq!(peer.last_sacks(), [(21, 31)]);
        assert_eq!(peer.events(), ["data 0+10 xxxxxxxxxx"]);
        peer.commit(10);
        assert_eq!(peer.turn(), ["A 1+0 ack 11"]);
        assert_eq!(peer.last_sacks(), [(21, 31)]);
    });
}

#[test]
fn an_answer_carries_blocks_and_makes_room_for_them() {
    ordinary(|peer| {
        peer.open_with(syn_with_sack());
        peer.give(data(11, 1, &[b'x'; 10]));
        peer.send(&[b'y'; 2 * 1448]);
        assert_eq!(peer.turn(), ["A 1+1448 ack 1", "PA 1449+1448 ack 1"]);
        assert_eq!(peer.last_sacks(), [(11, 21)]);
    });
}

/// RFC 2018 section 8: what was said to be there may be given up, and is then asked for again.
#[test]
fn what_is_given_up_is_in_no_block() {
    let mut small = config(0, 2);
    small.chunks_max = 8;
    client(&small, 1 << 20, &ordinary_group(PORT), |peer| {
        peer.open_with(syn_with_sack());
        for n in 0..8 {
            peer.give(data(4001 + 3000 * n, 1, &[b'x'; 1000]));
        }
        assert!(!peer.last_sacks().is_empty());
        let mut seq = 1;
        while !peer.last_sacks().is_empty() && seq < 40_000 {
            peer.give(data(seq, 1, &[b'x'; 1000]));
            peer.give(ack(50_000, 1));
            seq = peer.last_got().ack;
            for block in peer.last_sacks() {
                assert!(block.0 > seq, "{block:?} after {seq}");
            }
        }
    });
}

#[test]
fn a_fin_beyond_a_hole_is_in_no_block() {
    ordinary(|peer| {
        peer.open_with(syn_with_sack());
        assert_eq!(peer.give(fin(11, 1)), ["A 1+0 ack 1"]);
        assert_eq!(peer.last_sacks(), []);
        assert_eq!(peer.give(data(1, 1, &[b'x'; 10])), ["A 1+0 ack 12"]);
    });
}

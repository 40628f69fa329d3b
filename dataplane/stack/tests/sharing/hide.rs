//! Text is hidden: dropped as if the network had lost it, after its ACK field was processed.

use xtcp_stack::{Config, Level, Stop, Throttle};

use super::{Crowd, NOTHING, PORT, info, one_pool, two_pools, window};
use crate::sim::peer::{ack, data, fin, rst};
use crate::sim::{config, ordinary_group, xtcp_group};

#[test]
fn hidden_text_still_acknowledges() {
    one_pool(&config(0, 2), &xtcp_group(PORT), |peer| {
        peer.open();
        peer.send(&[b'a'; 2920]);
        assert_eq!(peer.turn().len(), 2);
        let mut crowd = Crowd::default();
        crowd.fill_to(peer, 29);
        assert_eq!(info(peer).level, Level::Hide);
        peer.use_port(4000);
        assert_eq!(peer.give(data(1, 2921, b"request")), NOTHING, "as if it were lost");
        assert_eq!(peer.events(), NOTHING);
        assert_eq!((info(peer).transmit_used, info(peer).text_hidden), (0, 1));
        assert_eq!(peer.host.stack.counters().stopped(Stop::TextHidden), 1);
        crowd.commit_all(peer);
        peer.turn();
        peer.use_port(4000);
        assert_eq!(peer.give(data(1, 2921, b"request")), NOTHING, "sent again, it is taken");
        assert_eq!(peer.events(), ["data 0+7 request"]);
    });
}

/// Whatever carries no text is as welcome as ever.
#[test]
fn only_text_is_hidden() {
    one_pool(&config(0, 2), &xtcp_group(PORT), |peer| {
        peer.open();
        peer.use_port(4001);
        peer.open();
        let mut crowd = Crowd::default();
        crowd.fill_to(peer, 29);
        peer.use_port(4000);
        let end = fin(6, 1).text(b"").at(1);
        assert_eq!(peer.give(data(1, 1, b"hello")), NOTHING);
        assert_eq!(peer.give(end), ["A 1+0 ack 2"], "the end of a stream is no text");
        assert_eq!(peer.events(), ["finished 0"]);
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 2"]);
        assert_eq!(peer.give(ack(2, 2)), NOTHING);
        assert_eq!(peer.events(), ["closed Closed held 0"]);
        peer.use_port(4001);
        peer.give(rst(1));
        assert_eq!(peer.events(), ["closed Reset held 0"]);
    });
}

/// A FIN goes the way of the text it comes with.
#[test]
fn a_fin_behind_hidden_text_comes_again_with_it() {
    one_pool(&config(0, 2), &xtcp_group(PORT), |peer| {
        peer.open();
        let mut crowd = Crowd::default();
        crowd.fill_to(peer, 29);
        peer.use_port(4000);
        let last = || fin(1, 1).text(b"last");
        assert_eq!(peer.give(last()), NOTHING);
        assert_eq!(peer.events(), NOTHING);
        crowd.commit_all(peer);
        peer.turn();
        peer.use_port(4000);
        peer.give(last());
        assert_eq!(peer.events(), ["data 0+4 last", "finished 4"]);
    });
}

/// What waits beyond a hole would keep what fills the hole out for ever.
#[test]
fn what_waits_beyond_a_hole_makes_way() {
    let throttle =
        Throttle { shrink_below: 40, withhold_below: 40, hide_below: 40, pool_share: 50 };
    one_pool(&Config { throttle, ..config(0, 2) }, &xtcp_group(PORT), |peer| {
        peer.open();
        let mut crowd = Crowd::default();
        crowd.fill_to(peer, 19);
        assert_eq!(info(peer).level, Level::Room);
        peer.use_port(4000);
        assert_eq!(peer.give(data(1461, 1, &[b'2'; 1460])), ["A 1+0 ack 1"]);
        assert_eq!(info(peer).level, Level::Hide);
        peer.give(data(1, 1, &[b'1'; 1460]));
        assert_eq!(peer.events(), ["data 0+1460 111111111111"]);
        assert_eq!(info(peer).text_hidden, 0);
        // Now it is hidden, and nothing beyond a hole is held.
        assert_eq!(peer.give(data(1461, 1, &[b'2'; 1460])), NOTHING);
        assert_eq!((peer.events().len(), info(peer).text_hidden), (0, 1));
    });
}

/// A scarce transmit buffer is freed by the peers. Two hosts that both waited for the other would
/// wait for ever: so a connection of which all was read may bring a piece.
#[test]
fn a_scarce_transmit_buffer_lets_one_piece_through() {
    let config = Config { transmit_bytes: 33 * 2048, ..config(0, 2) };
    one_pool(&config, &ordinary_group(PORT), |peer| {
        peer.open();
        for _ in 0..31 {
            peer.send(&[b'a'; 2048]);
        }
        peer.turn();
        assert_eq!(info(peer).level, Level::Hide);
        assert_eq!(info(peer).transmit_free, 2048);
        peer.use_port(4001);
        peer.open();
        assert_eq!(peer.give(data(1, 1, b"first")), NOTHING, "its acknowledgement is withheld");
        assert_eq!(peer.events(), ["data 0+5 first"]);
        assert_eq!(peer.give(data(6, 1, b"second")), NOTHING);
        assert_eq!((peer.events().len(), info(peer).text_hidden), (0, 1));
        peer.commit(5);
        assert_eq!(peer.turn(), ["A 1+0 ack 6"], "a commit is told");
        assert!(window(peer) >= 1460, "and a segment may come");
        assert_eq!(peer.give(data(6, 1, b"second")), NOTHING);
        assert_eq!(peer.events(), ["data 5+6 second"]);
        // The peer acknowledges, and all is as before.
        peer.use_port(4000);
        let sent = peer.host.stack.counters().counted(xtcp_stack::Count::SegmentsOut);
        assert!(sent > 0);
        let mut acked = 1;
        while info(peer).transmit_used > 0 {
            acked = (acked + 1460).min(1 + 31 * 2048);
            peer.give(ack(1, acked));
        }
        assert_eq!((info(peer).level, info(peer).waiting), (Level::Room, 0));
    });
}

#[test]
fn nobody_elses_text_is_hidden() {
    two_pools(&config(0, 2), &xtcp_group(PORT), |peer, other| {
        let mut crowd = Crowd::default();
        crowd.fill_to(peer, 29);
        for at in 0..crowd.ports.len() {
            assert!(!crowd.fill(peer, at), "hidden");
            other.exchange(peer);
        }
        assert_eq!(other.info(peer).text_hidden, 0);
        assert_eq!(info(peer).text_hidden, 29);
        crowd.commit_all(peer);
        peer.turn();
        assert!((0..20).all(|at| crowd.fill(peer, at)), "sent again, it is taken");
    });
}

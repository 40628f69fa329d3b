//! What is counted of a group.

use std::time::Duration;

use xtcp_stack::{Accept, GroupConfig};

use super::{NOTHING, PORT, info, with_group};
use crate::sim::peer::{Peer, ack, data, fin, rst, syn};
use crate::sim::{ordinary_group, xtcp_group};

/// The figures that are not zero.
fn counted(peer: &Peer<'_>) -> Vec<(&'static str, u64)> {
    let counts = info(peer, peer.host.group).counts;
    counts.rows().filter(|row| row.2 != 0).map(|(name, _, value)| (name, value)).collect()
}

#[test]
fn requests_and_answers() {
    with_group(&xtcp_group(PORT), |peer| {
        peer.open();
        for n in 0..3 {
            assert_eq!(peer.give(data(1 + 7 * n, 1 + 6 * n, b"request")), NOTHING);
            assert_eq!(peer.events().len(), 1);
            peer.commit((7 * (n + 1)).unsigned_abs());
            peer.send(b"answer");
            assert_eq!(peer.turn().len(), 1, "in one segment");
        }
        peer.give(data(22, 19, b"no answer"));
        assert_eq!(peer.events().len(), 1);
        peer.commit(30);
        assert_eq!(peer.turn(), ["A 19+0 ack 31"]);
        assert_eq!(
            counted(peer),
            [
                ("bytes-in", 30),
                ("bytes-out", 18),
                ("requests", 4),
                ("acks-on-answers", 3),
                ("acks-bare", 1),
                ("accepted", 1),
                ("opened", 1),
            ]
        );
    });
}

#[test]
fn handshakes_that_come_to_nothing() {
    let accept = Accept::ByApplication { timeout: Duration::from_secs(3) };
    with_group(&GroupConfig { accept, ..xtcp_group(PORT) }, |peer| {
        peer.give(syn());
        assert_eq!(peer.events(), ["acceptable"]);
        let (group, cd, now) = (peer.host.group, peer.cd(), peer.now);
        peer.host.stack.refuse(group, cd, now).expect("it waits");
        peer.turn();
        peer.use_port(4001);
        peer.give(syn());
        peer.wait(Duration::from_secs(4));
        peer.use_port(4002);
        peer.give(syn());
        peer.give(rst(1));
        peer.events();
        let expected = [("opened", 3), ("refused", 2), ("unaccepted", 1), ("reset", 1)];
        assert_eq!(counted(peer), expected);
        assert_eq!(info(peer, group).connections, 0);
    });
}

#[test]
fn every_end_under_its_name() {
    with_group(&ordinary_group(PORT), |peer| {
        // By us, then by the peer, by both at once, by RST of either, and by silence.
        peer.open();
        peer.close();
        peer.turn();
        peer.give(fin(1, 2));
        peer.use_port(4001);
        peer.events();
        peer.open();
        peer.give(fin(1, 1));
        peer.events();
        peer.close();
        peer.turn();
        peer.give(ack(2, 2));
        peer.events();
        peer.use_port(4002);
        peer.open();
        peer.give(rst(1));
        peer.events();
        peer.use_port(4003);
        peer.open();
        peer.abort();
        peer.turn();
        peer.events();
        peer.use_port(4004);
        peer.open();
        peer.send(b"x");
        peer.wait(Duration::from_secs(300));
        peer.events();
        let counts = info(peer, peer.host.group).counts;
        assert_eq!((counts.opened, counts.accepted), (5, 5));
        let orderly = (counts.closed_by_us, counts.closed_by_peer, counts.closed_idle);
        assert_eq!(orderly, (1, 1, 0));
        assert_eq!((counts.reset, counts.aborted, counts.timed_out), (1, 1, 1));
        assert!(counts.retransmitted > 3 && counts.stalled == 1, "{counts:?}");
    });
}

/// Every connection that was begun is there or has ended, under one name.
#[test]
fn a_group_opened_anew_begins_at_zero() {
    with_group(&ordinary_group(PORT), |peer| {
        peer.open();
        let (group, pool, now) = (peer.host.group, peer.host.pool, peer.now);
        peer.host.stack.close_group(group, now).expect("open");
        peer.turn();
        let again = ordinary_group(PORT);
        peer.host.group =
            peer.host.stack.open_group(pool, xtcp_stack::QueueId(0), &again).expect("room");
        assert_eq!(counted(peer), []);
    });
}

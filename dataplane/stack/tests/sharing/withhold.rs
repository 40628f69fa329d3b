//! Acknowledgements the stack would make by itself are withheld; the application's are told.

use std::time::Duration;

use xtcp_stack::{Acknowledge, Count, GroupConfig, Level};

use super::{Crowd, NOTHING, PORT, info, one_pool, two_pools};
use crate::sim::peer::{Peer, data, fin};
use crate::sim::{config, ordinary_group, xtcp_group};

/// Opens a connection at port 4000, then fills the pool until acknowledgements are withheld.
fn fill(peer: &mut Peer<'_>) -> (Crowd, xtcp_stack::Cd) {
    peer.use_port(4000);
    peer.open();
    let connection = peer.cd();
    let mut crowd = Crowd::default();
    crowd.fill_to(peer, 26);
    assert_eq!(info(peer).level, Level::Withhold);
    peer.use_port(4000);
    (crowd, connection)
}

#[test]
fn an_ordinary_group_withholds_until_there_is_room() {
    one_pool(&config(0, 2), &ordinary_group(PORT), |peer| {
        let (crowd, _) = fill(peer);
        let before = info(peer);
        assert_eq!(peer.give(data(1, 1, b"request")), NOTHING);
        assert_eq!(peer.events(), ["data 0+7 request"], "it is given all the same");
        let waited = peer.wait(Duration::from_secs(300));
        let own: Vec<_> = waited.iter().filter(|line| !line.contains("port")).collect();
        assert_eq!(own, NOTHING, "no timer tells it");
        assert_eq!(peer.host.stack.poll_timeout(), None, "nobody asks again and again");
        let after = info(peer);
        assert!(after.waiting > before.waiting && after.acks_withheld > before.acks_withheld);
        // The other clients' requests are committed, and with the room the rest is told.
        crowd.commit_all(peer);
        peer.use_port(4000);
        let lines = peer.turn();
        assert!(lines.contains(&"A 1+0 ack 8".to_owned()), "{lines:?}");
        assert_eq!((info(peer).waiting, info(peer).level), (0, Level::Room));
        assert!(peer.host.stack.counters().counted(Count::WaitsOver) > 0);
        let counted = peer.host.stack.counters().counted(Count::AcksWithheld);
        assert_eq!(counted, info(peer).acks_withheld);
    });
}

/// Those of a group that is closed wait for nothing any more.
#[test]
fn who_waits_when_the_group_ends_is_gone_as_well() {
    one_pool(&config(0, 2), &ordinary_group(PORT), |peer| {
        fill(peer);
        peer.give(data(1, 1, b"request"));
        assert!(info(peer).waiting > 1);
        let (group, now) = (peer.host.group, peer.now);
        peer.host.stack.close_group(group, now).expect("open");
        peer.turn();
        assert_eq!((info(peer).waiting, info(peer).connections), (0, 0));
        peer.host.assert_nothing_held();
    });
}

/// A commit frees memory: it is told at any level.
#[test]
fn a_commit_is_always_told() {
    one_pool(&config(0, 2), &ordinary_group(PORT), |peer| {
        let (_crowd, connection) = fill(peer);
        assert_eq!(peer.give(data(1, 1, b"request")), NOTHING);
        peer.events();
        let (group, now) = (peer.host.group, peer.now);
        peer.host.stack.commit(group, connection, 7, false, now).expect("given");
        assert_eq!(peer.turn(), ["A 1+0 ack 8"]);
        assert_eq!(info(peer).level, Level::Withhold, "still");
        // Only so far as it was committed.
        assert_eq!(peer.give(data(8, 1, b"onetwo")), NOTHING);
        peer.events();
        peer.host.stack.commit(group, connection, 10, false, now).expect("given");
        assert_eq!(peer.turn(), ["A 1+0 ack 11"]);
    });
}

/// What leaves for other reasons says what is said already, and no more.
#[test]
fn an_answer_does_not_give_it_away() {
    one_pool(&config(0, 2), &ordinary_group(PORT), |peer| {
        let (_crowd, connection) = fill(peer);
        assert_eq!(peer.give(data(1, 1, b"request")), NOTHING);
        peer.events();
        let (group, now) = (peer.host.group, peer.now);
        peer.host.stack.send(group, connection, b"wait".as_slice(), now).expect("room");
        assert_eq!(peer.turn(), ["PA 1+4 ack 1"]);
        assert_eq!(peer.give(data(1, 5, b"request")), ["A 5+0 ack 1"], "sent again, it is known");
        assert_eq!(peer.events(), NOTHING);
        // The end of the stream waits with it.
        assert_eq!(peer.give(fin(8, 5)), ["A 5+0 ack 1"]);
        peer.host.stack.commit(group, connection, 7, false, now).expect("given");
        assert_eq!(peer.turn(), ["A 5+0 ack 9"]);
    });
}

#[test]
fn a_deadline_waits_for_room() {
    let deadline = Duration::from_millis(50);
    let group =
        GroupConfig { acknowledge: Acknowledge::ByApplication { deadline }, ..xtcp_group(PORT) };
    one_pool(&config(0, 2), &group, |peer| {
        let (crowd, _) = fill(peer);
        peer.give(data(1, 1, b"request"));
        peer.events();
        peer.wait(Duration::from_secs(1));
        let withheld = info(peer).acks_withheld;
        assert!(withheld > 0);
        crowd.commit_all(peer);
        peer.use_port(4000);
        let lines = peer.turn();
        assert!(lines.contains(&"A 1+0 ack 8".to_owned()), "{lines:?}");
    });
}

#[test]
fn a_hold_limit_waits_for_room() {
    let group = GroupConfig { hold_limit: 100, ..xtcp_group(PORT) };
    one_pool(&config(0, 2), &group, |peer| {
        let (crowd, _) = fill(peer);
        assert_eq!(peer.give(data(1, 1, &[b'x'; 150])), NOTHING);
        peer.events();
        assert!(info(peer).acks_withheld > 0);
        crowd.commit_all(peer);
        peer.use_port(4000);
        let lines = peer.turn();
        assert!(lines.contains(&"A 1+0 ack 51".to_owned()), "100 bytes are held: {lines:?}");
    });
}

/// One that breaks while it waits is gone from the list, and the books with it.
#[test]
fn who_leaves_waits_no_more() {
    one_pool(&config(0, 2), &ordinary_group(PORT), |peer| {
        let (crowd, connection) = fill(peer);
        peer.give(data(1, 1, b"request"));
        peer.events();
        let waiting = info(peer).waiting;
        let (group, now) = (peer.host.group, peer.now);
        peer.host.stack.abort(group, connection, now).expect("open");
        assert_eq!(peer.turn(), ["RA 1+0 ack 1"]);
        peer.events();
        assert_eq!(info(peer).waiting, waiting - 1);
        crowd.leave(peer);
        crowd.commit_all(peer);
        peer.host.assert_nothing_held();
    });
}

/// The other pool's clients are acknowledged as ever.
#[test]
fn nobody_else_waits() {
    two_pools(&config(0, 2), &ordinary_group(PORT), |peer, other| {
        let (_crowd, _) = fill(peer);
        peer.give(data(1, 1, b"request"));
        for _ in 0..5 {
            other.exchange(peer);
        }
        assert_eq!((other.info(peer).level, other.info(peer).acks_withheld), (Level::Room, 0));
        assert!(info(peer).waiting > 0);
        let (pool, now) = (peer.host.pool, peer.now);
        assert!(peer.host.stack.close_pool(pool, now).is_some());
    });
}

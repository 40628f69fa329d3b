//! Windows shrink first.

use std::time::Duration;

use xtcp_stack::{Count, GroupConfig, Level, Throttle};

use super::{Crowd, NOTHING, OFF, info, one_pool, window};
use crate::sim::peer::{Peer, data};
use crate::sim::{config, xtcp_group};
use crate::{Config, PORT};

/// A client that is told of windows: its next number, and the furthest edge it knows.
struct Watcher {
    said: i64,
    edge: i64,
}

impl Watcher {
    fn open(peer: &mut Peer<'_>) -> (Self, xtcp_stack::Cd) {
        peer.open();
        (Self { said: 1, edge: 0 }, peer.cd())
    }

    /// Sends this much, the application commits it, and the window is told. How far the right edge
    /// moved.
    fn say(&mut self, peer: &mut Peer<'_>, connection: xtcp_stack::Cd, len: usize) -> i64 {
        peer.use_port(4000);
        peer.turn();
        assert_eq!(peer.give(data(self.said, 1, &vec![b'w'; len])), NOTHING);
        peer.events();
        self.said += i64::try_from(len).expect("small");
        let up_to = u64::try_from(self.said - 1).expect("positive");
        let (group, now) = (peer.host.group, peer.now);
        peer.host.stack.commit(group, connection, up_to, false, now).expect("given");
        assert_eq!(peer.turn(), [format!("A 1+0 ack {}", self.said)]);
        let edge = self.said + i64::from(window(peer));
        let moved = edge - self.edge;
        self.edge = edge;
        moved
    }
}

fn small_windows() -> GroupConfig {
    GroupConfig { window_max: 4000, ..xtcp_group(PORT) }
}

#[test]
fn windows_follow_what_is_free() {
    one_pool(&config(0, 2), &small_windows(), |peer| {
        let (mut watcher, connection) = Watcher::open(peer);
        watcher.say(peer, connection, 2600);
        assert_eq!(window(peer), 3968, "the group's window, in steps of 128");
        let mut crowd = Crowd::default();
        crowd.fill_to(peer, 16);
        assert_eq!(info(peer).level, Level::Room);
        crowd.fill_to(peer, 17);
        assert_eq!(info(peer).level, Level::Shrink);
        watcher.say(peer, connection, 3900);
        assert_eq!(window(peer), 3584, "15 of 32 pages free: 36/40 of 4,000 bytes");
        crowd.fill_to(peer, 22);
        watcher.say(peer, connection, 3400);
        assert_eq!(window(peer), 2048, "10 of 32 pages free: 21/40");
        crowd.fill_to(peer, 25);
        watcher.say(peer, connection, 2000);
        assert_eq!(window(peer), 1536, "never less than a segment");
        assert!(info(peer).windows_shrunk >= 3);
        let counted = peer.host.stack.counters().counted(Count::WindowsShrunk);
        assert_eq!(counted, info(peer).windows_shrunk);
        crowd.commit_all(peer);
        peer.turn();
        peer.use_port(4000);
        let acknowledged = format!("A 1+0 ack {}", watcher.said);
        assert_eq!(peer.give(data(watcher.said, 1, b"w")), [acknowledged]);
        assert_eq!(window(peer), 3968, "told at the first occasion: as before");
    });
}

/// RFC 9293 SHLD-14 and section 3.8.6.2.2: however the level moves, the right edge does not move
/// back, and moves on by a segment or not at all.
#[test]
fn the_edge_never_moves_back_and_no_window_is_silly() {
    one_pool(&config(0, 2), &small_windows(), |peer| {
        let (mut watcher, connection) = Watcher::open(peer);
        let mut crowd = Crowd::default();
        watcher.say(peer, connection, 100);
        for round in 0..40 {
            crowd.open(peer, 1);
            if round < 26 {
                crowd.fill(peer, round);
            } else {
                crowd.commit(peer, round - 26);
            }
            let room = usize::try_from(watcher.edge - watcher.said).expect("positive");
            let moved = watcher.say(peer, connection, 300.min(room));
            let rounding = 128;
            assert!((0..rounding).contains(&moved) || moved >= 1460, "round {round}: {moved}");
        }
    });
}

/// The last step takes the window away, and recovery gives it back unasked.
#[test]
fn a_window_that_was_shut_is_told_again() {
    one_pool(&config(0, 2), &small_windows(), |peer| {
        let (mut watcher, connection) = Watcher::open(peer);
        watcher.say(peer, connection, 2600);
        let mut crowd = Crowd::default();
        crowd.fill_to(peer, 28);
        watcher.say(peer, connection, 2600);
        let offered = usize::try_from(watcher.edge - watcher.said).expect("positive");
        assert!(offered < 1460, "no segment fits any more, and none can be added");
        crowd.fill_to(peer, 29);
        assert_eq!(info(peer).level, Level::Hide);
        let waiting = info(peer).waiting;
        peer.use_port(4000);
        assert_eq!(peer.give(data(watcher.said, 1, &vec![b'h'; offered])), NOTHING, "hidden");
        assert_eq!(peer.events(), NOTHING);
        assert_eq!(info(peer).waiting, waiting + 1);
        assert_eq!(peer.wait(Duration::from_secs(60)), NOTHING, "there is nothing to tell");
        (0..10).for_each(|at| crowd.commit(peer, at));
        peer.use_port(4000);
        let told = format!("A 1+0 ack {}", watcher.said);
        assert!(peer.turn().contains(&told), "unasked");
        assert_eq!(info(peer).waiting, 0);
        peer.give(data(watcher.said, 1, &[b'm'; 1460]));
        assert_eq!(peer.events(), [format!("data {}+1460 mmmmmmmmmmmm", watcher.said - 1)]);
    });
}

#[test]
fn without_a_threshold_windows_stay() {
    let config = Config { throttle: OFF, ..config(0, 2) };
    one_pool(&config, &small_windows(), |peer| {
        let (mut watcher, connection) = Watcher::open(peer);
        watcher.say(peer, connection, 2600);
        let mut crowd = Crowd::default();
        crowd.fill_to(peer, 20);
        assert_eq!(info(peer).level, Level::Room);
        watcher.say(peer, connection, 3900);
        assert_eq!(window(peer), 3072, "an eighth of what is free, as ever");
        assert_eq!(info(peer).windows_shrunk, 0);
    });
}

#[test]
fn thresholds_are_the_configurations() {
    let throttle =
        Throttle { shrink_below: 90, withhold_below: 80, hide_below: 70, pool_share: 50 };
    one_pool(&Config { throttle, ..config(0, 2) }, &small_windows(), |peer| {
        let mut crowd = Crowd::default();
        for (pages, level) in
            [(3, Level::Room), (4, Level::Shrink), (7, Level::Withhold), (10, Level::Hide)]
        {
            crowd.fill_to(peer, pages);
            assert_eq!(info(peer).level, level, "{pages} of 32 pages");
        }
    });
}

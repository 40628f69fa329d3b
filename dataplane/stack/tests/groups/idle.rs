//! Connections without text for too long are closed.

use std::time::Duration;

use xtcp_stack::{GroupConfig, Instant, KeepAlive};

use super::{NOTHING, PORT, info, with_group};
use crate::sim::peer::{ack, data, fin};
use crate::sim::rng::Rng;
use crate::sim::{for_each_seed, ordinary_group, xtcp_group};

const TIMEOUT: Duration = Duration::from_secs(64);
/// By then it is over.
const LATE: Duration = Duration::from_secs(4);

fn closing() -> GroupConfig {
    GroupConfig { idle_timeout: TIMEOUT, ..ordinary_group(PORT) }
}

#[test]
fn an_idle_connection_is_closed_by_fin_and_the_reason_is_told() {
    with_group(&closing(), |peer| {
        peer.open();
        assert_eq!(peer.wait(TIMEOUT), NOTHING, "not earlier");
        let sent = peer.wait(LATE);
        assert!(sent[0].ends_with("FA 1+0 ack 1"), "{sent:?}");
        assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"]);
        assert_eq!(peer.events(), ["closed Idle held 0"]);
        let counts = info(peer, peer.host.group).counts;
        assert_eq!((counts.closed_idle, counts.closed_by_us), (1, 0));
        peer.wait(Duration::from_secs(61));
        peer.host.assert_nothing_held();
    });
}

/// What else ends it meanwhile is what is told.
#[test]
fn another_end_has_another_reason() {
    with_group(&closing(), |peer| {
        peer.open();
        peer.wait(TIMEOUT + LATE);
        // Nobody is there to close: FIN again and again, then down.
        peer.wait(Duration::from_secs(200));
        assert_eq!(peer.events(), ["closed TimedOut held 0"]);
        peer.host.assert_nothing_held();
    });
}

#[test]
fn only_text_is_a_sign_of_life() {
    let keep_alive = KeepAlive { idle: Duration::from_secs(10), ..KeepAlive::default() };
    let group = GroupConfig { keep_alive: Some(keep_alive), ..closing() };
    with_group(&group, |peer| {
        peer.open();
        let mut fins = 0;
        for _ in 0..70 {
            // The peer answers every question, and asks some itself.
            let sent = peer.wait(Duration::from_secs(1));
            fins += sent.iter().filter(|line| line.contains("FA ")).count();
            peer.give(ack(1, 1));
            peer.give(ack(0, 1));
        }
        assert!(fins > 0, "it is closed all the same");
    });
}

#[test]
fn text_in_and_text_out_begin_the_wait_anew() {
    with_group(&closing(), |peer| {
        peer.open();
        for n in 0..4 {
            assert_eq!(peer.wait(Duration::from_secs(60)), NOTHING);
            peer.give(data(1 + n, 1 + n, b"x"));
            let (cd, now) = (peer.cd(), peer.now);
            let group = peer.host.group;
            assert_eq!(peer.events().len(), 1);
            peer.host.stack.commit(group, cd, (n + 1).unsigned_abs(), false, now).expect("given");
            peer.wait(Duration::from_secs(60));
            peer.send(b"y");
            peer.turn();
            peer.give(ack(2 + n, 2 + n));
        }
    });
}

/// What waits for somebody is not idle: the request for the application, the answer for the peer.
#[test]
fn a_connection_with_something_under_way_is_not_idle() {
    let group = GroupConfig { idle_timeout: TIMEOUT, ..xtcp_group(PORT) };
    with_group(&group, |peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        assert_eq!(peer.wait(Duration::from_secs(600)), NOTHING);
        peer.commit(7);
        assert_eq!(peer.turn(), ["A 1+0 ack 8"]);
        assert_eq!(peer.wait(TIMEOUT), NOTHING, "from the commit on");
        assert!(peer.wait(LATE)[0].ends_with("FA 1+0 ack 8"));
    });
}

#[test]
fn a_half_closed_connection_that_nobody_closes_is_closed() {
    with_group(&closing(), |peer| {
        peer.open();
        assert_eq!(peer.give(fin(1, 1)), ["A 1+0 ack 2"]);
        assert_eq!(peer.events(), ["finished 0"]);
        let sent = peer.wait(TIMEOUT + 2 * LATE);
        assert!(sent[0].ends_with("FA 1+0 ack 2"), "{sent:?}");
        peer.give(ack(2, 2));
        assert_eq!(peer.events(), ["closed Idle held 0"]);
        peer.host.assert_nothing_held();
    });
}

/// Any timeout, any habits: never closed early, never more than a sixteenth late.
#[test]
fn the_timeout_is_kept() {
    for_each_seed(200, |seed| {
        let mut rng = Rng::new(seed);
        let magnitude = 5 + rng.below(22);
        let timeout = Duration::from_millis((1 << magnitude) + rng.below(1 << magnitude));
        let ms = |share: u64| Duration::from_millis(share);
        with_group(&GroupConfig { idle_timeout: timeout, ..closing() }, |peer| {
            peer.now = Instant::from_millis(rng.below(1 << 40));
            peer.open();
            let mut last = peer.now;
            for n in 0..rng.below(6) {
                let pause = timeout.as_millis() as u64 * rng.below(100) / 100;
                let sent = peer.wait(ms(pause));
                let closed = sent.iter().any(|line| line.contains("FA "));
                assert!(!closed, "early: {timeout:?} {sent:?}");
                let n = i64::try_from(n).expect("few");
                peer.give(data(1 + n, 1, b"x"));
                assert_eq!(peer.events().len(), 1);
                peer.commit((n + 1).unsigned_abs());
                last = peer.now;
            }
            let since = peer.now.since(last);
            let not_yet = timeout.saturating_sub(since).saturating_sub(ms(1));
            assert!(peer.wait(not_yet).iter().all(|line| !line.contains("FA ")), "early");
            // The acknowledgement of the last text is delayed by 40 ms, and until then it is busy.
            let latest = timeout / 16 + ms(60);
            let sent = peer.wait(latest);
            assert!(sent.iter().any(|line| line.contains("FA ")), "late: {timeout:?} {sent:?}");
        });
    });
}

//! Peers of idle connections are asked whether they are there (RFC 9293 section 3.8.4).

use std::time::Duration;

use xtcp_stack::{Config, Count, GroupConfig, KeepAlive, Stop};

use super::{NOTHING, PORT, info, let_pass, open_crowd, with, with_group};
use crate::sim::peer::{Peer, ack, data, fin, rst};
use crate::sim::{QUEUE, config, ordinary_group, xtcp_group};

const KEEP_ALIVE: KeepAlive =
    KeepAlive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), probes: 3 };
const QUESTION: &str = "A 0+0 ack 1";

fn asking() -> GroupConfig {
    GroupConfig { keep_alive: Some(KEEP_ALIVE), ..ordinary_group(PORT) }
}

fn after(ms: u64, segment: &str) -> String {
    format!("{ms} ms: {segment}")
}

/// MUST-25: and then it costs nothing, not even a glance.
#[test]
fn nobody_is_asked_unless_the_group_wants_it() {
    with_group(&ordinary_group(PORT), |peer| {
        peer.open();
        peer.wait(Duration::from_secs(120));
        assert_eq!(peer.host.stack.poll_timeout(), None, "nothing is waited for");
        assert_eq!(peer.wait(Duration::from_secs(3 * 3600)), NOTHING);
        assert_eq!(peer.host.stack.usage().connections, 1);
    });
}

/// MUST-24, MUST-26, MUST-27, SHLD-12.
#[test]
fn a_silent_peer_is_asked_after_the_interval_and_with_nothing() {
    with_group(&asking(), |peer| {
        peer.open();
        assert_eq!(peer.wait(Duration::from_secs(59)), NOTHING);
        assert_eq!(peer.host.stack.usage().active, 0, "it is folded until then");
        assert_eq!(peer.wait(Duration::from_secs(2)), [after(1_000, QUESTION)]);
        assert!(peer.last_got().text.is_empty());
        assert_eq!(peer.host.stack.usage().active, 1, "while it is asked");
        assert_eq!(peer.give(ack(1, 1)), NOTHING);
        assert_eq!(peer.host.stack.usage().active, 0, "and then again");
        assert_eq!(peer.wait(Duration::from_secs(61)), [after(60_000, QUESTION)]);
        assert_eq!(peer.host.stack.counters().counted(Count::KeepAliveProbes), 2);
        assert_eq!(peer.events(), NOTHING);
    });
}

/// MUST-24: on or off, group by group.
#[test]
fn a_group_beside_it_is_left_alone() {
    with_group(&asking(), |peer| {
        let pool = peer.host.pool;
        peer.host.stack.open_group(pool, QUEUE, &ordinary_group(PORT + 1)).expect("room");
        peer.call(PORT + 1);
        peer.open();
        assert_eq!(peer.wait(Duration::from_secs(600)), NOTHING);
        peer.call(PORT);
        peer.use_port(4001);
        peer.open();
        assert_eq!(peer.wait(Duration::from_secs(61)), [after(60_000, QUESTION)]);
    });
}

/// MUST-28.
#[test]
fn two_hours_unless_configured() {
    let group = GroupConfig { keep_alive: Some(KeepAlive::default()), ..ordinary_group(PORT) };
    with_group(&group, |peer| {
        peer.open();
        assert_eq!(peer.wait(Duration::from_secs(7_199)), NOTHING);
        assert_eq!(peer.wait(Duration::from_secs(2)), [after(1_000, QUESTION)]);
    });
}

/// MUST-29: answers get lost.
#[test]
fn a_lost_answer_is_no_proof() {
    with_group(&asking(), |peer| {
        peer.open();
        let asked = peer.wait(Duration::from_secs(81));
        assert_eq!(asked, [60_000, 70_000, 80_000].map(|ms| after(ms, QUESTION)));
        assert_eq!(peer.give(ack(1, 1)), NOTHING, "the third is answered");
        assert_eq!(peer.events(), NOTHING);
        let asked = peer.wait(Duration::from_secs(61));
        assert_eq!(asked, [after(60_000, QUESTION)], "and all begins anew");
    });
    let once = KeepAlive { probes: 1, ..KEEP_ALIVE };
    with_group(&GroupConfig { keep_alive: Some(once), ..asking() }, |peer| {
        peer.open();
        let asked = peer.wait(Duration::from_secs(75));
        assert_eq!(asked, [60_000, 70_000].map(|ms| after(ms, QUESTION)), "once is not enough");
        assert_eq!(peer.events(), NOTHING);
    });
}

#[test]
fn a_peer_that_answers_nothing_is_down() {
    with_group(&asking(), |peer| {
        peer.open();
        let asked = peer.wait(Duration::from_secs(300));
        assert_eq!(asked, [60_000, 70_000, 80_000].map(|ms| after(ms, QUESTION)));
        assert_eq!(peer.events(), ["closed TimedOut held 0"]);
        assert_eq!(peer.host.stack.counters().stopped(Stop::PeerDown), 1);
        let counts = info(peer, peer.host.group).counts;
        assert_eq!((counts.keep_alive_probes, counts.timed_out), (3, 1));
        peer.host.assert_nothing_held();
    });
}

#[test]
fn a_peer_that_forgot_the_connection_says_so() {
    with_group(&asking(), |peer| {
        peer.open();
        assert_eq!(peer.wait(Duration::from_secs(60)), [after(60_000, QUESTION)]);
        peer.give(rst(1));
        assert_eq!(peer.events(), ["closed Reset held 0"]);
        peer.host.assert_nothing_held();
    });
}

/// MUST-26: nothing outstanding, nothing heard.
#[test]
fn only_an_idle_peer_is_asked() {
    with_group(&asking(), |peer| {
        peer.open();
        for _ in 0..20 {
            assert_eq!(peer.wait(Duration::from_secs(50)), NOTHING);
            // An acknowledgement alone is a sign of life.
            peer.give(ack(1, 1));
        }
        peer.send(b"answer");
        assert_eq!(peer.turn(), ["PA 1+6 ack 1"]);
        let sent = peer.wait(Duration::from_secs(90));
        assert!(sent.len() > 5);
        assert!(sent.iter().all(|line| line.ends_with("PA 1+6 ack 1")), "{sent:?}");
        assert_eq!(info(peer, peer.host.group).counts.keep_alive_probes, 0);
    });
}

/// The application has something to say while the peer is being asked.
#[test]
fn text_takes_the_place_of_questions() {
    with_group(&asking(), |peer| {
        peer.open();
        assert_eq!(peer.wait(Duration::from_secs(60)), [after(60_000, QUESTION)]);
        peer.send(b"news");
        assert_eq!(peer.turn(), ["PA 1+4 ack 1"]);
        let sent = peer.wait(Duration::from_secs(60));
        assert!(!sent.is_empty() && sent.iter().all(|line| line.ends_with("PA 1+4 ack 1")));
        assert_eq!(peer.give(ack(1, 5)), NOTHING);
        assert_eq!(peer.host.stack.usage().active, 0);
        assert_eq!(peer.wait(Duration::from_secs(61)), [after(60_000, "A 4+0 ack 1")]);
    });
}

/// A question says no more than was acknowledged: the request is still the application's.
#[test]
fn a_question_acknowledges_nothing_new() {
    let group = GroupConfig { keep_alive: Some(KEEP_ALIVE), ..xtcp_group(PORT) };
    with_group(&group, |peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        assert_eq!(peer.wait(Duration::from_secs(61)), [after(60_000, QUESTION)]);
        peer.give(ack(8, 1));
        peer.commit(7);
        assert_eq!(peer.turn(), ["A 1+0 ack 8"]);
    });
}

#[test]
fn a_half_closed_peer_is_asked_too() {
    with_group(&asking(), |peer| {
        peer.open();
        assert_eq!(peer.give(fin(1, 1)), ["A 1+0 ack 2"]);
        assert_eq!(peer.events(), ["finished 0"]);
        assert_eq!(peer.wait(Duration::from_secs(300)).len(), 3);
        assert_eq!(peer.events(), ["closed TimedOut held 0"]);
        peer.host.assert_nothing_held();
    });
}

/// The application closes while the peer is asked: FIN-WAIT-2 ends all the same.
#[test]
fn a_close_ends_the_asking() {
    with_group(&asking(), |peer| {
        peer.open();
        assert_eq!(peer.wait(Duration::from_secs(60)), [after(60_000, QUESTION)]);
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
        assert_eq!(peer.give(ack(1, 2)), NOTHING);
        assert_eq!(peer.wait(Duration::from_secs(61)), NOTHING);
        assert_eq!(peer.events(), ["closed Closed held 0"]);
        peer.host.assert_nothing_held();
    });
}

/// Design law 5: questions leave records to those who have something to do.
#[test]
fn questions_never_take_the_last_active_records() {
    let config = Config { active_max: 16, ..config(0, 2) };
    with(&config, &asking(), |peer| {
        open_crowd(peer, 40);
        let mut asked = std::collections::HashSet::new();
        let_pass(peer, Duration::from_secs(61), |peer, port, segment| {
            assert_eq!(segment, QUESTION);
            asked.insert(port);
            assert!(peer.host.stack.usage().active <= 13, "a quarter is left");
        });
        assert_eq!(asked.len(), 13);
        // Those who answer make way for the next ones, and nobody is forgotten.
        let_pass(peer, Duration::from_secs(60), |peer, port, _| {
            asked.insert(port);
            peer.use_port(port);
            peer.give(ack(1, 1));
        });
        assert_eq!(asked.len(), 40);
        assert_eq!(peer.events(), ["closed TimedOut held 0"; 0]);
    });
}

/// N39: after a jump of the clock each peer is asked once, and has its time to answer.
#[test]
fn a_jump_of_the_clock_is_no_proof() {
    with_group(&asking(), |peer| {
        open_crowd(peer, 50);
        peer.now = peer.now + Duration::from_secs(3600);
        let mut asked = 0;
        let answer = |peer: &mut Peer<'_>, port: u16, _: &str| {
            asked += 1;
            peer.use_port(port);
            peer.give(ack(1, 1));
        };
        let_pass(peer, Duration::from_secs(30), answer);
        assert_eq!(asked, 50);
        assert_eq!(peer.events(), NOTHING);
    });
}

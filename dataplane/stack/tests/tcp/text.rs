//! Requests, acknowledgements, answers.

use std::time::Duration;

use xtcp_stack::{Acknowledge, GroupConfig, Misuse};

use super::{NOTHING, PORT, client, ordinary, xtcp};
use crate::sim::peer::{ack, data, fin, rst, syn};
use crate::sim::{config, xtcp_group};

#[test]
fn commit_acknowledges_and_rides_on_the_answer_in_one_segment() {
    xtcp(|peer| {
        peer.open();
        assert_eq!(peer.give(data(1, 1, b"request")), NOTHING, "only the application may");
        assert_eq!(peer.events(), ["data 0+7 request"]);
        assert_eq!(peer.wait(Duration::from_secs(30)), NOTHING);
        peer.commit(7);
        peer.send(b"answer");
        assert_eq!(peer.turn(), ["PA 1+6 ack 8"]);
        assert_eq!(peer.give(ack(8, 7)), NOTHING);
        assert_eq!(peer.host.stack.usage().active, 0, "folded");
        assert_eq!(peer.host.stack.usage().chunks, 0);
    });
}

#[test]
fn a_commit_without_an_answer_is_acknowledged_alone_and_in_part() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"onetwo"));
        assert_eq!(peer.events(), ["data 0+6 onetwo"]);
        peer.commit(3);
        assert_eq!(peer.turn(), ["A 1+0 ack 4"]);
        peer.commit(3);
        assert_eq!(peer.turn(), NOTHING, "said before");
        peer.commit(6);
        assert_eq!(peer.turn(), ["A 1+0 ack 7"]);
        assert_eq!(peer.host.stack.usage().active, 0, "folded");
    });
}

#[test]
fn more_than_was_given_cannot_be_committed() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events().len(), 1);
        peer.give(data(8, 1, b"more"));
        let (group, connection, now) = (peer.host.group, peer.cd(), peer.now);
        let refused = peer.host.stack.commit(group, connection, 8, false, now);
        assert_eq!(refused, Err(Misuse::BeyondGiven));
        assert_eq!(peer.turn(), NOTHING);
        assert_eq!(peer.events(), ["data 7+4 more"]);
    });
}

#[test]
fn what_was_not_committed_is_given_again_on_demand() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"onetwo"));
        assert_eq!(peer.events(), ["data 0+6 onetwo"]);
        let (group, connection, now) = (peer.host.group, peer.cd(), peer.now);
        peer.host.stack.commit(group, connection, 3, true, now).expect("given");
        assert_eq!(peer.give(data(7, 1, b"three")), ["A 1+0 ack 4"]);
        assert_eq!(peer.events(), ["data 3+8 twothree"]);
    });
}

/// WO 02/091709, Fig. 6e.
#[test]
fn a_repeated_request_is_not_given_twice_nor_acknowledged() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        assert_eq!(peer.give(data(1, 1, b"request")), ["A 1+0 ack 1"], "the committed number");
        assert_eq!(peer.events(), NOTHING);
    });
}

/// WO 02/091709, Fig. 6e.
#[test]
fn a_repeated_request_whose_answer_is_cached_is_answered_at_once() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        peer.commit(7);
        peer.send(b"answer");
        assert_eq!(peer.turn(), ["PA 1+6 ack 8"]);
        assert_eq!(peer.give(data(1, 1, b"request")), ["PA 1+6 ack 8"], "the answer was lost");
        assert_eq!(peer.events(), NOTHING);
        assert_eq!(peer.give(ack(8, 7)), NOTHING);
        assert_eq!(peer.give(data(1, 1, b"request")), ["A 7+0 ack 8"]);
    });
}

/// The acknowledgement overtakes what the repeated request asked for.
#[test]
fn a_repetition_asked_for_and_acknowledged_at_once_leaves_nothing_behind() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        peer.commit(7);
        peer.send(b"answer");
        assert_eq!(peer.turn(), ["PA 1+6 ack 8"]);
        let answer = peer.give_all([data(1, 1, b"request"), ack(8, 7)]);
        assert_eq!(answer, ["A 7+0 ack 8"]);
        assert_eq!(peer.host.stack.usage().active, 0, "folded");
        peer.send(b"unasked");
        assert_eq!(peer.turn(), ["PA 7+7 ack 8"], "once");
    });
}

#[test]
fn a_repetition_of_a_request_whose_answer_was_never_sent_asks_for_nothing() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        peer.commit(7);
        peer.room = Some(0);
        peer.send(b"answer");
        assert_eq!(peer.give(data(1, 1, b"request")), NOTHING, "no room");
        peer.room = None;
        assert_eq!(peer.turn(), ["PA 1+6 ack 8"]);
        assert_eq!(peer.turn(), NOTHING);
    });
}

#[test]
fn an_unanswered_answer_is_sent_again_and_then_the_connection_is_down() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        peer.commit(7);
        peer.send(b"answer");
        assert_eq!(peer.turn(), ["PA 1+6 ack 8"]);
        let sent = peer.wait(Duration::from_secs(99));
        assert!(sent.len() > 4 && sent.iter().all(|line| line.ends_with("PA 1+6 ack 8")));
        assert_eq!(peer.events(), NOTHING);
        peer.wait(Duration::from_secs(60));
        assert_eq!(peer.events(), ["closed TimedOut held 0"]);
        peer.host.assert_nothing_held();
    });
}

#[test]
fn a_group_may_let_the_stack_acknowledge_after_a_time() {
    let deadline = Duration::from_millis(100);
    let group =
        GroupConfig { acknowledge: Acknowledge::ByApplication { deadline }, ..xtcp_group(PORT) };
    client(&config(0, 2), 1 << 20, &group, |peer| {
        peer.open();
        assert_eq!(peer.give(data(1, 1, b"request")), NOTHING);
        assert_eq!(peer.events(), ["data 0+7 request"]);
        let sent = peer.wait(Duration::from_secs(5));
        assert_eq!(sent.len(), 1);
        assert!(sent[0].ends_with("A 1+0 ack 8") && sent[0].starts_with("10"), "{sent:?}");
        peer.commit(7);
        assert_eq!(peer.turn(), NOTHING);
        assert_eq!(peer.host.stack.usage().active, 0, "folded");
    });
}

/// Bad input 61 and 62.
#[test]
fn text_beyond_a_hole_waits_and_what_came_first_stays() {
    xtcp(|peer| {
        peer.open();
        assert_eq!(peer.give(data(4, 1, b"456")), ["A 1+0 ack 1"]);
        assert_eq!(peer.give(data(10, 1, b"ABC")), ["A 1+0 ack 1"]);
        assert_eq!(peer.give(data(6, 1, b"xxxx9xxx")), ["A 1+0 ack 1"], "overlaps both");
        assert_eq!(peer.events(), NOTHING);
        assert_eq!(peer.give(data(1, 1, b"123")), ["A 1+0 ack 1"]);
        let told = peer.events();
        let told: String = told.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(told, "123456xxxABCx");
    });
}

/// RFC 5681 section 3.2: the client counts them, so each has its own, and no more than it counts.
#[test]
fn segments_beyond_a_hole_that_come_together_are_acknowledged_each() {
    ordinary(|peer| {
        peer.open();
        let beyond = |n: i64| data(1401 + 1400 * n, 1, &[b'x'; 1400]);
        assert_eq!(peer.give_all([beyond(0)]), ["A 1+0 ack 1"]);
        assert_eq!(peer.give_all([beyond(1), beyond(2)]), ["A 1+0 ack 1"; 2]);
        assert_eq!(peer.give_all((3..20).map(beyond)), ["A 1+0 ack 1"; 3]);
        peer.give_all([beyond(20), data(1, 1, &[b'x'; 1400])]);
        assert_eq!(peer.last_got().ack, 1401 + 21 * 1400);
        assert_eq!(peer.turn(), NOTHING);
        peer.send(b"answer");
        peer.turn();
        peer.send(b"more");
        assert_eq!(peer.give_all([beyond(22), beyond(23), ack(1 + 1400 * 22, 7)]).len(), 1);
        assert_eq!(peer.last_got().text, b"more", "text is no duplicate");
        assert_eq!(peer.turn(), NOTHING);
    });
}

#[test]
fn an_ordinary_group_acknowledges_every_second_segment_or_soon() {
    ordinary(|peer| {
        peer.open();
        assert_eq!(peer.give(data(1, 1, b"one")), NOTHING);
        assert_eq!(peer.give(data(4, 1, b"two")), ["A 1+0 ack 7"]);
        assert_eq!(peer.wait(Duration::from_secs(1)), NOTHING, "it is said");
        assert_eq!(peer.give(data(7, 1, b"three")), NOTHING);
        let sent = peer.wait(Duration::from_secs(1));
        assert_eq!(sent.len(), 1);
        assert!(sent[0].starts_with("4") && sent[0].ends_with(" ms: A 1+0 ack 12"), "{sent:?}");
        assert_eq!(peer.events(), ["opened", "data 0+11 onetwothree"][1..]);
    });
}

/// Bad input 59 and 60.
#[test]
fn duplicates_and_probes_are_answered_with_the_committed_number() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        assert_eq!(peer.give(ack(0, 1)), ["A 1+0 ack 1"], "a keep-alive probe");
        peer.now = peer.now + Duration::from_secs(1);
        assert_eq!(peer.give(ack(7, 1)), ["A 1+0 ack 1"], "another kind of it");
        assert_eq!(peer.give(data(3, 1, b"que")), ["A 1+0 ack 1"]);
        peer.commit(7);
        assert_eq!(peer.turn(), ["A 1+0 ack 8"]);
        assert_eq!(peer.give(data(0, 1, b"\0")), ["A 1+0 ack 8"]);
        assert_eq!(peer.events(), NOTHING);
    });
}

/// The client's RST carries what we acknowledged, not what we have: its answer to our challenge
/// after it forgot the connection.
#[test]
fn a_client_that_is_gone_resets_what_holds_its_request() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        assert_eq!(peer.give(syn().at(5000)), ["A 1+0 ack 1"], "a challenge");
        assert_eq!(peer.give(rst(1)), NOTHING);
        assert_eq!(peer.events(), ["closed Reset held 7"]);
        peer.commit(7);
        peer.host.assert_nothing_held();
    });
}

#[test]
fn a_reset_by_the_last_number_sent_is_taken_too() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        assert_eq!(peer.give(rst(4)), ["A 1+0 ack 1"], "in between: a challenge");
        assert_eq!(peer.give(rst(8)), NOTHING);
        assert_eq!(peer.events(), ["closed Reset held 7"]);
        peer.close();
        peer.host.assert_nothing_held();
    });
}

/// Bad input 70.
#[test]
fn old_timestamps_are_answered_and_dropped() {
    xtcp(|peer| {
        peer.open_with(syn().stamps(1000, 0));
        assert_eq!(peer.give(data(1, 1, b"old").stamps(999, 0)), ["A 1+0 ack 1"]);
        assert_eq!(peer.events(), NOTHING);
        assert_eq!(peer.give(data(1, 1, b"none")), NOTHING, "none at all is dropped");
        assert_eq!(peer.events(), NOTHING);
        assert_eq!(peer.give(data(1, 1, b"new").stamps(1000, 0)), NOTHING);
        assert_eq!(peer.events(), ["data 0+3 new"]);
        assert_eq!(peer.give(rst(4).stamps(1, 0)), NOTHING, "bad input 71: RST is exempt");
        assert_eq!(peer.events(), ["closed Reset held 3"]);
    });
}

/// Bad input 63.
#[test]
fn text_after_fin_is_ignored() {
    ordinary(|peer| {
        peer.open();
        assert_eq!(peer.give(data(1, 1, b"all")), NOTHING);
        assert_eq!(peer.give(fin(4, 1)), ["A 1+0 ack 5"]);
        assert_eq!(peer.events(), ["data 0+3 all", "finished 3"]);
        peer.give(data(5, 1, b"more"));
        peer.give(fin(9, 1));
        assert_eq!(peer.events(), NOTHING);
        peer.commit(3);
        peer.send(b"bye");
        assert_eq!(peer.turn(), ["PA 1+3 ack 5"]);
    });
}

/// A FIN before text it should follow: where it is, the stream ends.
#[test]
fn text_beyond_a_known_fin_is_not_taken() {
    ordinary(|peer| {
        peer.open();
        assert_eq!(peer.give(fin(4, 1)), ["A 1+0 ack 1"], "beyond a hole");
        peer.give(data(2, 1, b"bcdefg"));
        peer.give(data(1, 1, b"abcdefghi"));
        assert_eq!(peer.events(), ["data 0+3 abc", "finished 3"]);
        assert_eq!(peer.turn(), NOTHING);
    });
}

/// Bad input 64: the pointer is not followed.
#[test]
fn urgent_text_is_text() {
    ordinary(|peer| {
        peer.open();
        peer.give(data(1, 1, b"abc").urgent(0));
        peer.give(data(4, 1, b"def").urgent(60_000));
        peer.give(ack(7, 1).urgent(9));
        assert_eq!(peer.events(), ["data 0+6 abcdef"]);
    });
}

/// Bad input 57.
#[test]
fn a_segment_without_ack_is_dropped() {
    ordinary(|peer| {
        peer.open();
        assert_eq!(peer.give(data(1, 1, b"abc").flags(xtcp_stack::wire::tcp::Flags::PSH)), NOTHING);
        assert_eq!(peer.events(), NOTHING);
    });
}

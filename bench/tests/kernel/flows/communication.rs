//! Fig. 5a to 5d.

use xtcp::{CloseReason, Event};
use xtcp_bench::machine::{Victim, Way};

use super::{End, HANDSHAKE, LEN, Timers, line, over_both_families};

const ANSWER: [u8; LEN] = [b'a'; LEN];

#[test]
fn fig_5a_the_answer_carries_the_acknowledgement() {
    over_both_families(Timers::Patient, |scene, server| {
        let mut call = scene.call(server);
        for round in 1..=3 {
            call.request();
            scene.app.answer(&ANSWER);
            call.read_answer(&ANSWER);
            call.captures.wait_for(End::Server, HANDSHAKE.len() + 3 * round);
        }
        scene.wait_until_nothing_is_cached();
        let both = call.finish(&mut scene.app);
        let exchanges = [
            "C PA 1+1000 ack 1",
            "S PA 1+1000 ack 1001",
            "C A 1001+0 ack 1001",
            "C PA 1001+1000 ack 1001",
            "S PA 1001+1000 ack 2001",
            "C A 2001+0 ack 2001",
            "C PA 2001+1000 ack 2001",
            "S PA 2001+1000 ack 3001",
            "C A 3001+0 ack 3001",
        ];
        assert_eq!(both, [exchanges; 2]);
    });
}

#[test]
fn fig_5b_a_lost_request_is_repeated_by_the_client() {
    over_both_families(Timers::ClientFirst, |scene, server| {
        let mut call = scene.call(server);
        scene.wire.lose_next(Way::Up, Victim::Text, 1).unwrap();
        call.request();
        scene.app.answer(&ANSWER);
        call.read_answer(&ANSWER);
        call.captures.wait_for(End::Server, HANDSHAKE.len() + 3);
        let [at_client, at_server] = call.finish(&mut scene.app);
        let exchange = ["C PA 1+1000 ack 1", "S PA 1+1000 ack 1001", "C A 1001+0 ack 1001"];
        assert_eq!(at_server, exchange, "of the first the server knows nothing");
        let again = ["C PA 1+1000 ack 1", "C PA 1+1000 ack 1 (again)", exchange[1], exchange[2]];
        assert_eq!(at_client, again);
        assert!(scene.wire.tally().unwrap().lost > 0);
    });
}

#[test]
fn fig_5c_the_client_s_repeated_request_brings_the_lost_answer_again() {
    over_both_families(Timers::ClientFirst, |scene, server| {
        let mut call = scene.call(server);
        scene.wire.lose_next(Way::Down, Victim::Text, 1).unwrap();
        call.request();
        scene.app.answer(&ANSWER);
        call.read_answer(&ANSWER);
        call.captures.wait_for(End::Server, HANDSHAKE.len() + 5);
        let mut told = 0;
        let mut batch = scene.app.inbox.receive().unwrap();
        while let Some(event) = batch.next_event() {
            told += usize::from(matches!(event, Event::Request(_)));
        }
        assert_eq!(told, 0, "the application hears of the request once");
        let [at_client, at_server] = call.finish(&mut scene.app);
        let request = "C PA 1+1000 ack 1";
        let request_again = "C PA 1+1000 ack 1 (again)";
        let acknowledged = "C A 1001+0 ack 1001";
        assert_eq!(
            at_client,
            [request, request_again, "S PA 1+1000 ack 1001", acknowledged],
            "of the first answer the client knows nothing"
        );
        assert_eq!(
            at_server,
            [
                request,
                "S PA 1+1000 ack 1001",
                request_again,
                "S PA 1+1000 ack 1001 (again)",
                acknowledged
            ]
        );
    });
}

#[test]
fn fig_5d_the_answer_goes_again_when_its_acknowledgement_is_lost() {
    over_both_families(Timers::ServerFirst, |scene, server| {
        let mut call = scene.call(server);
        scene.wire.lose_next(Way::Up, Victim::Acknowledgement, 1).unwrap();
        call.request();
        scene.app.answer(&ANSWER);
        call.read_answer(&ANSWER);
        call.captures.wait_for(End::Server, HANDSHAKE.len() + 4);
        scene.wait_until_nothing_is_cached();
        let [at_client, at_server] = call.finish(&mut scene.app);
        let [request, answer] = ["C PA 1+1000 ack 1", "S PA 1+1000 ack 1001"];
        let [answer_again, acknowledged] = ["S PA 1+1000 ack 1001 (again)", "C A 1001+0 ack 1001"];
        assert_eq!(at_client, [request, answer, acknowledged, answer_again, acknowledged]);
        assert_eq!(at_server, [request, answer, answer_again, acknowledged]);
    });
}

/// Fig. 5d's end, which is Fig. 6h's: the connection is lost, and what it cached is purged.
#[test]
fn fig_5d_and_6h_a_client_that_is_not_heard_any_more_is_given_up() {
    over_both_families(Timers::ServerFirst, |scene, server| {
        let mut call = scene.call(server);
        scene.wire.lose_next(Way::Up, Victim::Acknowledgement, 1000).unwrap();
        call.request();
        scene.app.answer(&ANSWER);
        call.read_answer(&ANSWER);
        let reason = scene.app.until("the connection's end", |event| match event {
            Event::Closed { reason, .. } => Some(reason),
            Event::Request(_) => panic!("the request was given again"),
            _ => None,
        });
        assert_eq!(reason, CloseReason::TimedOut);
        scene.wait_until_nothing_is_cached();
        assert_eq!(scene.shown("connections", "unsent (bytes)"), [0; 0], "there is none");
        let [_, at_server] = call.captures.finish();
        let lines: Vec<String> = at_server.iter().map(line).collect();
        assert_eq!(lines[3..5], ["C PA 1+1000 ack 1", "S PA 1+1000 ack 1001"]);
        let again = |line: &&String| *line == "S PA 1+1000 ack 1001 (again)";
        let repetitions = lines[5..].iter().take_while(again).count();
        assert!(repetitions >= 3, "{lines:#?}");
    });
}

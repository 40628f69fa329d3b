//! Fig. 5a to 5d: requests and answers between an ordinary client and an application of XTCP.

use std::time::Duration;

use crate::{Flow, NOTHING, flow};

/// The application has the request, and has said nothing yet.
fn request_is_with_the_application(flow: &mut Flow<'_, '_>) {
    assert_eq!(flow.peer.events(), ["data 0+7 request"]);
    assert_eq!(flow.states(), ["[1:1] 7", "[1:1] 0"], "received, and not confirmed");
}

/// The application acknowledges the request and answers it; that goes in one segment.
fn answer_goes_out(flow: &mut Flow<'_, '_>) {
    flow.peer.commit(7);
    flow.peer.send(b"answer");
    assert_eq!(flow.peer.turn(), ["PA 1+6 ack 8"], "Ans[S,6] and ACK[C+7]");
    assert_eq!(flow.server(), "[1:8] 6", "the answer is cached");
}

/// The client's acknowledgement of the answer ends the flow: nothing is cached, nothing is timed.
fn answer_is_acknowledged(flow: &mut Flow<'_, '_>) {
    let ack = flow.client_gets().expect("ACK[S+6]");
    assert_eq!(flow.client.state(), "[8:7] 0");
    assert_eq!(flow.server_gets(ack), NOTHING);
    it_is_over(flow);
}

fn it_is_over(flow: &mut Flow<'_, '_>) {
    assert_eq!(flow.states(), ["[8:7] 0", "[7:8] 0"]);
    assert_eq!(flow.client.received, b"answer", "once");
    assert_eq!(flow.peer.events(), NOTHING, "the application heard of one request");
    assert_eq!(flow.peer.wait(Duration::from_secs(300)), NOTHING);
    assert_eq!(flow.peer.host.stack.usage().active, 0, "an idle connection is folded");
}

#[test]
fn fig_5a_the_answer_carries_the_acknowledgement_and_the_next_request_acknowledges_the_answer() {
    flow(|flow| {
        assert_eq!(flow.states(), ["[1:1] 0", "[1:1] 0"], "[C:S] and [S:C]");
        let first = flow.client.request(b"request");
        assert_eq!(flow.server_gets(first), NOTHING, "Req[C,7] is not acknowledged on receipt");
        request_is_with_the_application(flow);
        assert_eq!(flow.peer.wait(Duration::from_secs(2)), NOTHING, "however long it takes");
        answer_goes_out(flow);
        flow.client_gets().expect("an acknowledgement that waits for the next request");
        assert_eq!(flow.states(), ["[8:7] 0", "[1:8] 6"]);

        let second = flow.client.request(b"another");
        assert_eq!(flow.server_gets(second), NOTHING, "Req[C+7,7] and ACK[S+6]");
        assert_eq!(flow.states(), ["[8:7] 7", "[7:8] 0"], "the first answer is cached no more");
        assert_eq!(flow.peer.events(), ["data 7+7 another"]);
        flow.peer.commit(14);
        flow.peer.send(b"reply");
        assert_eq!(flow.peer.turn(), ["PA 7+5 ack 15"]);
        assert_eq!(flow.server(), "[7:15] 5");
        let ack = flow.client_gets().expect("ACK[S+11]");
        assert_eq!(flow.server_gets(ack), NOTHING);
        assert_eq!(flow.states(), ["[15:12] 0", "[12:15] 0"]);
        assert_eq!(flow.client.received, b"answerreply");
        assert_eq!(flow.peer.wait(Duration::from_secs(300)), NOTHING);
    });
}

/// "... or a part thereof": the rest stays with the client and with the application.
#[test]
fn fig_5a_a_part_of_a_request_is_acknowledged_with_the_answer_to_it() {
    flow(|flow| {
        let request = flow.client.request(b"onetwo");
        assert_eq!(flow.server_gets(request), NOTHING);
        assert_eq!(flow.peer.events(), ["data 0+6 onetwo"]);
        flow.peer.commit(3);
        flow.peer.send(b"1");
        assert_eq!(flow.peer.turn(), ["PA 1+1 ack 4"]);
        let ack = flow.client_gets().expect("ACK[S+1]");
        assert_eq!(flow.server_gets(ack), NOTHING);
        assert_eq!(flow.states(), ["[4:2] 3", "[2:4] 0"]);
        flow.peer.commit(6);
        flow.peer.send(b"2");
        assert_eq!(flow.peer.turn(), ["PA 2+1 ack 7"]);
        let ack = flow.client_gets().expect("ACK[S+2]");
        assert_eq!(flow.server_gets(ack), NOTHING);
        assert_eq!(flow.states(), ["[7:3] 0", "[3:7] 0"]);
    });
}

#[test]
fn fig_5b_a_lost_request_is_repeated_by_the_client_and_served() {
    flow(|flow| {
        flow.client.request(b"request");
        assert_eq!(flow.states(), ["[1:1] 7", "[1:1] 0"], "Req[C,7] is lost");
        assert_eq!(flow.peer.wait(Duration::from_secs(1)), NOTHING);
        assert_eq!(flow.peer.events(), NOTHING);
        let again = flow.client.again();
        assert_eq!(flow.server_gets(again), NOTHING, "Req[C,7] again");
        request_is_with_the_application(flow);
        answer_goes_out(flow);
        answer_is_acknowledged(flow);
    });
}

#[test]
fn fig_5c_a_repeated_request_brings_the_lost_answer_again() {
    flow(|flow| {
        let request = flow.client.request(b"request");
        assert_eq!(flow.server_gets(request), NOTHING);
        request_is_with_the_application(flow);
        answer_goes_out(flow);
        assert_eq!(flow.states(), ["[1:1] 7", "[1:8] 6"], "Ans[S,6] is lost, and ACK[C+7] with it");
        flow.peer.now = flow.peer.now + Duration::from_millis(150);
        assert_eq!(flow.peer.turn(), NOTHING, "the server's own timer has not fired");
        let again = flow.client.again();
        assert_eq!(flow.server_gets(again), ["PA 1+6 ack 8"], "Ans[S,6] and ACK[C+7] again");
        assert_eq!(flow.server(), "[1:8] 6");
        answer_is_acknowledged(flow);
    });
}

/// While the application works on it there is no answer to repeat.
#[test]
fn fig_5c_a_repeated_request_that_has_no_answer_yet_is_neither_given_twice_nor_acknowledged() {
    flow(|flow| {
        let request = flow.client.request(b"request");
        assert_eq!(flow.server_gets(request), NOTHING);
        request_is_with_the_application(flow);
        let again = flow.client.again();
        assert_eq!(flow.server_gets(again), ["A 1+0 ack 1"], "the confirmed number, as before");
        assert_eq!(flow.peer.events(), NOTHING);
        assert_eq!(flow.states(), ["[1:1] 7", "[1:1] 0"]);
        answer_goes_out(flow);
        answer_is_acknowledged(flow);
    });
}

#[test]
fn fig_5d_an_answer_whose_acknowledgement_is_lost_goes_again_when_the_timer_fires() {
    flow(|flow| {
        let request = flow.client.request(b"request");
        assert_eq!(flow.server_gets(request), NOTHING);
        request_is_with_the_application(flow);
        answer_goes_out(flow);
        flow.client_gets().expect("ACK[S+6]");
        assert_eq!(flow.states(), ["[8:7] 0", "[1:8] 6"], "ACK[S+6] is lost");
        let sent = flow.peer.wait(Duration::from_millis(250));
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].starts_with("2") && sent[0].ends_with(" ms: PA 1+6 ack 8"), "{sent:?}");
        assert_eq!(flow.server(), "[1:8] 6");
        answer_is_acknowledged(flow);
    });
}

#[test]
fn fig_5d_the_resend_is_tried_again_until_the_acknowledgement_comes() {
    flow(|flow| {
        let request = flow.client.request(b"request");
        assert_eq!(flow.server_gets(request), NOTHING);
        request_is_with_the_application(flow);
        answer_goes_out(flow);
        let sent = flow.peer.wait(Duration::from_secs(10));
        assert!(sent.len() >= 3, "{sent:?}");
        assert!(sent.iter().all(|line| line.ends_with(" ms: PA 1+6 ack 8")), "{sent:?}");
        assert_eq!(flow.server(), "[1:8] 6");
        answer_is_acknowledged(flow);
    });
}

#[test]
fn fig_5d_a_connection_whose_client_never_acknowledges_is_lost() {
    flow(|flow| {
        let request = flow.client.request(b"request");
        assert_eq!(flow.server_gets(request), NOTHING);
        request_is_with_the_application(flow);
        answer_goes_out(flow);
        flow.peer.wait(Duration::from_secs(90));
        assert_eq!(flow.peer.events(), NOTHING, "not yet");
        flow.peer.wait(Duration::from_secs(60));
        assert_eq!(flow.peer.events(), ["closed TimedOut held 0"]);
        flow.peer.host.assert_nothing_held();
    });
}

//! A request's answer and its acknowledgement asked for as one (`Stack::answer`): what the flows show
//! of the two calls, or nothing.

use xtcp_stack::{Misuse, TcpConfig};

use crate::{Flow, NOTHING, flow};

/// The application has a request of seven bytes.
fn request(flow: &mut Flow<'_, '_>) {
    let request = flow.client.request(b"request");
    assert_eq!(flow.server_gets(request), NOTHING);
    assert_eq!(flow.peer.events(), ["data 0+7 request"]);
}

fn answer(flow: &mut Flow<'_, '_>, up_to: u64, text: &[u8]) -> Result<(), Misuse> {
    let (group, connection, now) = (flow.peer.host.group, flow.peer.cd(), flow.peer.now);
    flow.peer.host.stack.answer(group, connection, up_to, text, now)
}

#[test]
fn an_answer_leaves_with_the_acknowledgement_of_its_request() {
    flow(|flow| {
        request(flow);
        assert_eq!(answer(flow, 7, b"answer"), Ok(()));
        assert_eq!(flow.peer.turn(), ["PA 1+6 ack 8"], "one segment");
        let ack = flow.client_gets().expect("an acknowledgement");
        assert_eq!(flow.server_gets(ack), NOTHING);
        assert_eq!(flow.states(), ["[8:7] 0", "[7:8] 0"]);
        assert_eq!(flow.peer.host.stack.usage().active, 0, "an idle connection is folded");
    });
}

#[test]
fn a_part_of_a_request_is_acknowledged_with_its_answer_and_the_rest_with_another() {
    flow(|flow| {
        request(flow);
        assert_eq!(answer(flow, 3, b"1"), Ok(()));
        assert_eq!(answer(flow, 7, b""), Ok(()), "an answer may be empty");
        assert_eq!(flow.peer.turn(), ["PA 1+1 ack 8"]);
    });
}

#[test]
fn what_cannot_be_sent_is_not_acknowledged_and_what_was_not_given_is_not_answered() {
    flow(|flow| {
        request(flow);
        let too_long = vec![b'a'; TcpConfig::default().send_queue_max as usize + 1];
        assert_eq!(answer(flow, 7, &too_long), Err(Misuse::SendQueueFull));
        assert_eq!(answer(flow, 8, b"answer"), Err(Misuse::BeyondGiven));
        assert_eq!(flow.peer.turn(), NOTHING);
        assert_eq!(flow.server(), "[1:1] 0", "nothing of it was done");
        assert_eq!(answer(flow, 7, b"answer"), Ok(()));
        assert_eq!(flow.peer.turn(), ["PA 1+6 ack 8"]);
    });
}

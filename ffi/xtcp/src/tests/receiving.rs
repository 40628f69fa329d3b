//! What comes is given once, in order, and again only when it was not acknowledged.

use super::*;
use crate::{CloseReason, SendError};

fn request(connection: Connection, offset: u64, bytes: &[u8]) -> Seen {
    Seen::Request(connection, offset, bytes.to_vec())
}

#[test]
fn accepting_completes_the_handshake_and_refusing_does_not() {
    let (_application, mut inbox, mut fake) = attached();
    let (first, second) = (connection(0, 1), connection(0, 2));
    fake.workers[0].tell_of(kind::ACCEPTABLE, first);
    fake.workers[0].tell_of(kind::ACCEPTABLE, second);
    let mut batch = inbox.receive().unwrap();
    let Some(Event::Acceptable(client)) = batch.next_event() else { panic!("a client") };
    assert_eq!(client.accept(), Ok(first));
    let Some(Event::Acceptable(client)) = batch.next_event() else { panic!("a client") };
    assert_eq!(client.refuse(), Ok(()));
    assert!(batch.next_event().is_none());
    let asked = settle(&mut inbox, &mut fake);
    assert_eq!(ops(&asked), [(op::ACCEPT, first.cd), (op::REFUSE, second.cd)]);
}

#[test]
fn a_client_that_gave_up_waiting_is_never_offered() {
    let (_application, mut inbox, mut fake) = attached();
    let (gone, waits) = (connection(0, 1), connection(0, 2));
    fake.workers[0].tell_of(kind::ACCEPTABLE, gone);
    fake.workers[0].tell_of(kind::ACCEPTABLE, waits);
    let closed = Notice { kind: kind::CLOSED, reason: 4, gd: GD, cd: gone.cd, ..Notice::default() };
    fake.workers[0].tell(closed);
    assert_eq!(inbox.accept(Group(GD)).unwrap(), Some(waits));
    assert_eq!(inbox.accept(Group(GD)).unwrap(), None);
    assert_eq!(seen(&mut inbox), []);
}

#[test]
fn adjacent_pieces_of_a_connection_are_one_request() {
    let (_application, mut inbox, mut fake) = attached();
    let (a, b) = (connection(0, 1), connection(1, 2));
    fake.data(a, 0, b"one ");
    fake.data(a, 4, b"message");
    fake.data(b, 100, b"another");
    let mut batch = inbox.receive().unwrap();
    let Some(Event::Request(first)) = batch.next_event() else { panic!("a request") };
    assert_eq!(first.slices().collect::<Vec<_>>(), [b"one ".as_slice(), b"message"]);
    assert_eq!(first.first(6).collect::<Vec<_>>(), [b"one ".as_slice(), b"me"]);
    assert_eq!(first.contiguous(), b"one message".as_slice());
    assert_eq!(first.position(b'm'), Some(4));
    assert_eq!((first.len(), first.offset(), first.line()), (11, 0, None));
    drop(first);
    let Some(Event::Request(second)) = batch.next_event() else { panic!("a request") };
    assert_eq!(seen_request(&second), request(b, 100, b"another"));
    assert!(matches!(second.contiguous(), std::borrow::Cow::Borrowed(_)), "read in place");
}

#[test]
fn what_is_let_go_of_comes_again_with_more_and_not_before() {
    let (_application, mut inbox, mut fake) = attached();
    let (a, b) = (connection(0, 1), connection(0, 2));
    fake.data(a, 0, b"LOG");
    assert_eq!(seen(&mut inbox), [request(a, 0, b"LOG")]);
    assert_eq!(seen(&mut inbox), [], "nothing new, nothing given");
    fake.data(b, 0, b"x");
    fake.data(a, 3, b"IN al");
    assert_eq!(seen(&mut inbox), [request(b, 0, b"x"), request(a, 0, b"LOGIN al")]);
    fake.data(a, 8, b"ice\n");
    with_request(&mut inbox, |mut request| {
        assert_eq!(request.line().unwrap(), b"LOGIN alice".as_slice());
        request.answer(12, b"OK\n").unwrap();
    });
    fake.data(a, 12, b"WHO\n");
    assert_eq!(seen(&mut inbox), [request(a, 12, b"WHO\n")], "what was acknowledged is gone");
    let asked = settle(&mut inbox, &mut fake);
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].acknowledged(), asked[0].bytes.as_slice()), (Some(12), &b"OK\n"[..]));
}

#[test]
fn the_rest_of_a_partly_acknowledged_request_is_given_again_at_once_if_wanted() {
    let (_application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    fake.data(a, 7, b"two lines\nof text\n");
    with_request(&mut inbox, |mut request| {
        request.acknowledge(10).unwrap();
        assert_eq!((request.offset(), request.len()), (17, 8));
        request.again();
    });
    assert!(inbox.wait(Some(Duration::ZERO)).unwrap(), "it is ready at once");
    assert_eq!(seen(&mut inbox), [request(a, 17, b"of text\n")]);
    assert_eq!(seen(&mut inbox), []);
    assert_eq!(settle(&mut inbox, &mut fake)[0].acknowledged(), Some(17));
}

#[test]
fn more_than_was_given_cannot_be_acknowledged() {
    let (_application, mut inbox, mut fake) = attached();
    fake.data(connection(0, 1), 0, b"12345");
    with_request(&mut inbox, |mut request| {
        let refused = Err(SendError::OverAcknowledged { given: 5, acknowledged: 6 });
        assert_eq!(request.acknowledge(6), refused);
        assert_eq!(request.answer(6, b"no"), refused);
        assert_eq!(request.defer(6).map(|_| ()), refused);
        assert_eq!(request.acknowledge(2), Ok(()));
        let refused = Err(SendError::OverAcknowledged { given: 3, acknowledged: 4 });
        assert_eq!(request.acknowledge(4), refused);
    });
    let asked = settle(&mut inbox, &mut fake);
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((asked[0].acknowledged(), asked[0].bytes.len()), (Some(2), 0));
}

#[test]
fn a_deferred_request_is_acknowledged_by_its_answer() {
    let (application, mut inbox, mut fake) = attached();
    let a = connection(1, 1);
    fake.data(a, 0, b"slow question");
    let deferred = with_request(&mut inbox, |mut request| request.defer(13).unwrap());
    assert_eq!((deferred.connection(), deferred.offset()), (a, 13));
    assert_eq!(settle(&mut inbox, &mut fake), []);
    assert_eq!(seen(&mut inbox), [], "it is not given again");
    application.answer(&deferred, b"answer").unwrap();
    let asked = settle(&mut inbox, &mut fake);
    assert_eq!((asked[0].acknowledged(), asked[0].bytes.as_slice()), (Some(13), &b"answer"[..]));
}

/// Nothing is acknowledged that the application has not said it has done with.
#[test]
fn to_acknowledge_nothing_leaves_what_was_deferred() {
    let (application, mut inbox, mut fake) = attached();
    let a = connection(1, 1);
    fake.data(a, 0, b"slow question");
    let slow = with_request(&mut inbox, |mut request| request.defer(13).unwrap());
    fake.data(a, 13, b"half of a");
    let nothing = with_request(&mut inbox, |mut request| {
        request.acknowledge(0).unwrap();
        request.answer(0, b"wait").unwrap();
        request.defer(0).unwrap()
    });
    assert_eq!(nothing.offset(), 0);
    application.answer(&nothing, b"still").unwrap();
    let asked = settle(&mut inbox, &mut fake);
    let acknowledged: Vec<_> = asked.iter().filter_map(Asked::acknowledged).collect();
    assert!(acknowledged.iter().all(|up_to| *up_to == 0), "{asked:?}");
    let bytes: Vec<u8> = asked.iter().flat_map(|asked| asked.bytes.clone()).collect();
    assert_eq!(bytes, b"waitstill");
    application.answer(&slow, b"answer").unwrap();
    assert_eq!(settle(&mut inbox, &mut fake)[0].acknowledged(), Some(13));
}

#[test]
fn what_is_held_when_the_stream_ends_is_given_as_the_last() {
    let (_application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    fake.data(a, 0, b"no newline");
    assert_eq!(seen(&mut inbox).len(), 1);
    fake.workers[0].tell_of(kind::FINISHED, a);
    let mut batch = inbox.receive().unwrap();
    let Some(Event::Request(last)) = batch.next_event() else { panic!("a request") };
    assert!(last.is_last());
    assert_eq!(seen_request(&last), request(a, 0, b"no newline"));
    drop(last);
    assert!(matches!(batch.next_event(), Some(Event::Finished(c)) if c == a));
    assert!(batch.next_event().is_none());
}

#[test]
fn the_end_is_told_only_when_what_wants_another_try_had_it() {
    let (_application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    fake.data(a, 0, b"x");
    with_request(&mut inbox, |request| request.again());
    fake.workers[0].tell_of(kind::FINISHED, a);
    for _ in 0..3 {
        with_request(&mut inbox, |request| {
            assert_eq!(request.contiguous(), b"x".as_slice());
            request.again();
        });
    }
    with_request(&mut inbox, |mut request| request.acknowledge(1).unwrap());
    let end = seen(&mut inbox);
    assert_eq!(end, [Seen::Other(format!("Finished({a:?})"))]);
}

#[test]
fn a_closed_connection_is_told_last_and_its_bytes_are_not_given_any_more() {
    let (application, mut inbox, mut fake) = attached();
    let (a, b) = (connection(0, 1), connection(0, 2));
    fake.data(a, 0, b"held");
    assert_eq!(seen(&mut inbox).len(), 1);
    fake.data(a, 4, b"queued");
    fake.data(b, 0, b"other");
    let closed = Notice { kind: kind::CLOSED, reason: 1, gd: GD, cd: a.cd, ..Notice::default() };
    fake.workers[0].tell(closed);
    let mut batch = inbox.receive().unwrap();
    let Some(Event::Request(other)) = batch.next_event() else { panic!("a request") };
    assert_eq!(other.connection(), b);
    assert_eq!(application.send(a, b"too late"), Err(SendError::Closed));
    drop(other);
    let Some(Event::Closed { connection, reason }) = batch.next_event() else { panic!("the end") };
    assert_eq!((connection, reason), (a, CloseReason::Reset));
    assert!(batch.next_event().is_none());
}

/// The `CLOSED` of a connection that the client reset, with so many bytes given and not
/// acknowledged.
fn reset(connection: Connection, held: u64) -> Notice {
    let Connection { gd, cd } = connection;
    Notice { kind: kind::CLOSED, reason: 1, offset: held, gd, cd, ..Notice::default() }
}

#[test]
fn a_request_in_hand_stays_readable_when_its_connection_is_reset() {
    let (application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    fake.data(a, 0, b"bytes");
    with_request(&mut inbox, |request| {
        fake.workers[0].tell(reset(a, 5));
        // The ring has no room for so many: the library looks what the worker does.
        for index in 2..20 {
            let _ = application.send(connection(0, index), b"x");
        }
        assert_eq!(request.send(b"x"), Err(SendError::Closed), "it has heard of the end");
        assert_eq!(request.contiguous(), b"bytes".as_slice());
        fake.workers[0].take();
        application.flush();
        assert!(fake.workers[0].take().iter().all(|asked| asked.submission.cd != a.cd));
    });
    assert_eq!(seen(&mut inbox).len(), 1);
    let asked = settle(&mut inbox, &mut fake);
    assert_eq!(ops(&asked), [(op::CLOSE, a.cd)], "now the worker may have the bytes back");
}

#[test]
fn a_closed_connection_with_nothing_left_is_not_talked_of_any_more() {
    let (_application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    fake.workers[0].tell(reset(a, 0));
    assert_eq!(seen(&mut inbox).len(), 1);
    assert_eq!(settle(&mut inbox, &mut fake), []);
}

#[test]
fn a_close_waits_until_the_request_in_hand_is_let_go_of() {
    let (application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    fake.data(a, 0, b"QUIT\nand more");
    with_request(&mut inbox, |mut request| {
        request.answer(5, b"BYE\n").unwrap();
        application.close(a).unwrap();
        application.flush();
        assert_eq!(ops(&fake.workers[0].take()), [(op::SEND, a.cd)]);
        assert_eq!(request.contiguous(), b"and more".as_slice());
        assert_eq!(request.send(b"x"), Err(SendError::Closed));
        request.acknowledge(8).unwrap();
    });
    let asked = settle(&mut inbox, &mut fake);
    assert_eq!(asked[0].acknowledged(), Some(13));
    let ended = asked.iter().any(|asked| {
        asked.submission.op == op::CLOSE || asked.submission.flags & flag::CLOSE_AFTER != 0
    });
    assert!(ended, "{asked:?}");
    fake.data(a, 13, b"too late");
    fake.data(a, 21, b"and later");
    assert_eq!(seen(&mut inbox), []);
    let asked = settle(&mut inbox, &mut fake);
    assert_eq!(ops(&asked), [(op::ABORT, a.cd)], "the client learns that nobody reads it");
}

#[test]
fn an_abort_waits_until_the_request_in_hand_is_let_go_of() {
    let (application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    fake.data(a, 0, b"nonsense");
    with_request(&mut inbox, |request| {
        application.abort(a).unwrap();
        application.flush();
        assert_eq!(fake.workers[0].take(), []);
        assert_eq!(request.contiguous(), b"nonsense".as_slice());
        assert!(matches!(application.close_group(Group(GD)), Err(crate::Error::InHand)));
    });
    assert_eq!(ops(&settle(&mut inbox, &mut fake)), [(op::ABORT, a.cd)]);
    assert_eq!(seen(&mut inbox), [], "it is not held");
}

#[test]
fn a_group_is_received_from_alone() {
    let (application, mut inbox, mut fake) = attached();
    let other = Group(GD + 1);
    application.shared().endpoint.borrow_mut().add_group(other, 1);
    let (a, b) = (connection(0, 1), Connection { gd: other.0, ..connection(0, 2) });
    fake.data(a, 0, b"first");
    fake.data(b, 0, b"second");
    let mut batch = inbox.receive_from(other).unwrap();
    let Some(Event::Request(second)) = batch.next_event() else { panic!("a request") };
    assert_eq!((second.connection(), second.connection().group()), (b, other));
    drop(second);
    assert!(batch.next_event().is_none());
    assert_eq!(seen(&mut inbox), [request(a, 0, b"first")]);
    application.shared().endpoint.borrow_mut().remove_group(other);
    assert!(matches!(inbox.receive_from(other), Err(crate::Error::NoSuchGroup)));
    assert!(matches!(inbox.accept(other), Err(crate::Error::NoSuchGroup)));
    assert_eq!(application.send(b, b"x"), Err(SendError::Closed));
    fake.data(b, 6, b"late");
    assert_eq!(seen(&mut inbox), [], "notices of a closed group are no error");
}

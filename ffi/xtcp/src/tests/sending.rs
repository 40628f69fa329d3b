//! What is sent goes once, whole and in order, whatever the worker refuses.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::{RefusalReason, SendError};
use xtcp_ring::layout::refused;

/// What the tests call the reasons for refusals.
const STALE: u8 = refused::GONE;
const NO_BUFFER: u8 = refused::NO_BUFFER;
const QUEUE_FULL: u8 = refused::BEHIND;

/// The refusal that comes next.
fn refusal(inbox: &mut Inbox) -> (Connection, usize, RefusalReason) {
    let mut batch = inbox.receive().expect("a sound endpoint");
    match batch.next_event() {
        Some(Event::SendRefused { connection, bytes, reason }) => (connection, bytes, reason),
        other => panic!("{other:?} is no refusal"),
    }
}

#[test]
fn pieces_of_an_answer_and_its_acknowledgement_are_one_submission() {
    let (_application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    fake.data(a, 5, b"ECHO 4\nbody");
    with_request(&mut inbox, |mut request| {
        request.acknowledge(7).unwrap();
        for piece in request.first(4) {
            request.send(&piece[..1]).unwrap();
            request.send(&piece[1..]).unwrap();
        }
        request.acknowledge(4).unwrap();
        assert!(request.is_empty());
    });
    let asked = settle(&mut inbox, &mut fake);
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((asked[0].acknowledged(), asked[0].bytes.as_slice()), (Some(16), &b"body"[..]));
}

#[test]
fn nothing_is_done_when_there_is_no_room() {
    let layout = EndpointLayout { submissions: 4, ..LAYOUT };
    let (application, mut inbox, mut fake) = attached_with(layout, &Attach::new("test"));
    let asking = connection(0, 100);
    fake.data(asking, 0, b"question");
    let mut taken = 0;
    with_request(&mut inbox, |mut request| {
        while application.send(connection(0, taken), b"fill").is_ok() {
            taken += 1;
        }
        assert_eq!(request.answer(8, b"answer"), Err(SendError::WouldBlock));
        assert_eq!(request.len(), 8, "neither answered nor acknowledged");
    });
    assert_eq!(taken, 4, "the ring's capacity");
    let asked = settle(&mut inbox, &mut fake);
    assert!(asked.iter().all(|asked| asked.submission.cd != asking.cd && asked.bytes == b"fill"));
    with_request(&mut inbox, |mut request| {
        assert_eq!(request.answer(8, b"answer"), Ok(()), "given again when there is room");
    });
    let asked = settle(&mut inbox, &mut fake);
    assert_eq!((asked[0].acknowledged(), asked[0].bytes.as_slice()), (Some(8), &b"answer"[..]));
}

#[test]
fn an_acknowledgement_always_finds_room() {
    let layout = EndpointLayout { submissions: 2, ..LAYOUT };
    let (application, mut inbox, mut fake) = attached_with(layout, &Attach::new("test"));
    for index in 0..8 {
        fake.data(connection(0, index), 0, b"x");
    }
    let mut batch = inbox.receive().unwrap();
    while let Some(event) = batch.next_event() {
        let Event::Request(mut request) = event else { panic!("only requests come") };
        request.acknowledge(1).unwrap();
    }
    assert_eq!(application.send(connection(0, 1), b"y"), Err(SendError::WouldBlock));
    let asked = settle(&mut inbox, &mut fake);
    let acknowledged: Vec<_> =
        asked.iter().map(|a| (a.submission.cd & 0xff, a.acknowledged())).collect();
    assert_eq!(acknowledged, (0..8).map(|index| (index, Some(1))).collect::<Vec<_>>());
}

#[test]
fn refused_bytes_go_again_before_later_ones_and_the_close_after_them() {
    let (application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    application.send(a, b"first ").unwrap();
    application.flush();
    application.send(a, b"second ").unwrap();
    application.close(a).unwrap();
    let asked = fake.workers[0].peek().unwrap();
    assert_eq!(asked.bytes, b"first ");
    assert_eq!(fake.workers[0].peek(), None, "the fate of the first is not known");
    fake.workers[0].refuse(&asked, QUEUE_FULL);
    fake.workers[0].channel.submissions.release();
    assert_eq!(refusal(&mut inbox), (a, 6, RefusalReason::ClientBehind));
    let asked = settle(&mut inbox, &mut fake);
    let sent: Vec<u8> = asked.iter().flat_map(|asked| asked.bytes.clone()).collect();
    assert_eq!(sent, b"first second ");
    assert_eq!(asked.last().unwrap().submission.op, op::CLOSE);
    assert_eq!(seen(&mut inbox), [Seen::Other(format!("Drained({a:?})"))]);
}

#[test]
fn a_close_joins_the_answer_that_was_not_shown_yet() {
    let (application, mut inbox, mut fake) = attached();
    let (a, b) = (connection(0, 1), connection(0, 2));
    application.send(a, b"BYE\n").unwrap();
    application.close(a).unwrap();
    application.close(b).unwrap();
    application.abort(a).unwrap();
    let asked = settle(&mut inbox, &mut fake);
    assert_eq!(ops(&asked), [(SEND, a.cd), (op::CLOSE, b.cd), (op::ABORT, a.cd)]);
    assert_eq!(asked[0].submission.flags, flag::CLOSE_AFTER);
}

#[test]
fn a_refused_answer_that_also_closes_closes_when_it_has_gone() {
    let (application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    application.send(a, b"BYE\n").unwrap();
    application.close(a).unwrap();
    application.flush();
    let asked = fake.workers[0].peek().unwrap();
    assert_eq!(asked.submission.flags, flag::CLOSE_AFTER);
    fake.workers[0].refuse(&asked, NO_BUFFER);
    fake.workers[0].channel.submissions.release();
    let asked = settle(&mut inbox, &mut fake);
    assert_eq!(ops(&asked), [(SEND, a.cd), (op::CLOSE, a.cd)]);
    assert_eq!(asked[0].bytes, b"BYE\n");
}

#[test]
fn bytes_for_a_connection_that_is_gone_are_not_kept() {
    let (application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    application.send(a, b"hello").unwrap();
    application.flush();
    let asked = fake.workers[0].peek().unwrap();
    fake.workers[0].refuse(&asked, STALE);
    fake.workers[0].channel.submissions.release();
    assert_eq!(refusal(&mut inbox), (a, 5, RefusalReason::Closed));
    assert_eq!(settle(&mut inbox, &mut fake), []);
}

#[test]
fn a_refusal_that_comes_too_late_resets_the_connection() {
    let (application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    application.send(a, b"hello").unwrap();
    let asked = settle(&mut inbox, &mut fake);
    fake.workers[0].refuse(&asked[0], QUEUE_FULL);
    assert_eq!(ops(&settle(&mut inbox, &mut fake)), [(op::ABORT, a.cd)]);
}

#[test]
fn a_client_that_does_not_read_holds_its_own_requests_back() {
    let attach = Attach { backlog_max: 100, ..Attach::new("test") };
    let (application, mut inbox, mut fake) = attached_with(LAYOUT, &attach);
    let a = connection(0, 1);
    assert_eq!(application.send(a, &[0; 2000]), Err(SendError::TooLong { max: 100 }));
    application.send(a, &[1; 50]).unwrap();
    application.flush();
    let asked = fake.workers[0].peek().unwrap();
    application.send(a, &[2; 80]).unwrap();
    fake.data(a, 0, b"again");
    with_request(&mut inbox, |mut request| {
        let behind = Err(SendError::Behind { waiting: 80 });
        assert_eq!(request.answer(5, &[3; 30]), behind);
        assert_eq!(request.len(), 5);
    });
    assert_eq!(seen(&mut inbox), [], "not before it has drained");
    fake.workers[0].refuse(&asked, QUEUE_FULL);
    fake.workers[0].channel.submissions.release();
    let sent: Vec<u8> =
        settle(&mut inbox, &mut fake).iter().flat_map(|asked| asked.bytes.clone()).collect();
    assert_eq!(sent, [[1; 50].as_slice(), &[2; 80]].concat());
    let again = seen(&mut inbox);
    assert_eq!(again[0], Seen::Other(format!("Drained({a:?})")));
    assert_eq!(again[1], Seen::Request(a, 0, b"again".to_vec()));
}

/// Its answer has to wait for bytes that then find the connection closed for sending, as an operator
/// who drains a group leaves it: nothing is in its way any more.
#[test]
fn a_request_that_waits_for_room_is_given_again_when_what_it_waits_for_is_lost() {
    let attach = Attach { backlog_max: 100, ..Attach::new("test") };
    let (application, mut inbox, mut fake) = attached_with(LAYOUT, &attach);
    let a = connection(0, 1);
    application.send(a, &[1; 50]).unwrap();
    application.flush();
    let asked = fake.workers[0].peek().unwrap();
    application.send(a, &[2; 80]).unwrap();
    fake.data(a, 0, b"again");
    with_request(&mut inbox, |mut request| {
        assert_eq!(request.answer(5, &[3; 30]), Err(SendError::Behind { waiting: 80 }));
    });
    fake.workers[0].refuse(&asked, refused::NOT_OPEN);
    fake.workers[0].channel.submissions.release();
    assert_eq!(refusal(&mut inbox), (a, 50, RefusalReason::Closed));
    with_request(&mut inbox, |mut request| {
        assert_eq!((request.offset(), request.len()), (0, 5));
        request.acknowledge(5).unwrap();
    });
    assert_eq!(settle(&mut inbox, &mut fake)[0].acknowledged(), Some(5));
}

#[test]
fn all_backlogs_together_have_a_bound() {
    let attach = Attach { backlogs_max: 2100, ..Attach::new("test") };
    let (application, mut inbox, mut fake) = attached_with(LAYOUT, &attach);
    let (a, b) = (connection(0, 1), connection(1, 2));
    application.send(a, &[1; 2000]).unwrap();
    assert_eq!(application.send(b, &[2; 2000]), Err(SendError::Behind { waiting: 0 }));
    let mut sent = 0;
    let mut drained = Vec::new();
    while drained.is_empty() {
        sent += settle_some(&mut inbox, &mut fake);
        drained.extend(seen(&mut inbox));
    }
    assert_eq!(sent, 2000);
    assert_eq!(drained, [Seen::Other(format!("Drained({b:?})"))]);
    application.send(b, &[2; 2000]).unwrap();
}

fn settle_some(inbox: &mut Inbox, fake: &mut Fake) -> usize {
    inbox.turn().unwrap();
    fake.workers.iter_mut().flat_map(Worker::take).map(|asked| asked.bytes.len()).sum()
}

/// What a test worker does in one turn: how many submissions it takes, and which it refuses.
#[derive(Clone, Debug)]
enum Step {
    Send { worker: u8, index: u32, len: usize },
    Work { worker: u8, take: usize, refuse: u8 },
    Turn,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let send = (0..2_u8, 0..5_u32, 1..3000_usize).prop_map(|(worker, index, len)| Step::Send {
        worker,
        index,
        len,
    });
    let work = (0..2_u8, 1..6_usize, any::<u8>()).prop_map(|(worker, take, refuse)| Step::Work {
        worker,
        take,
        refuse,
    });
    proptest::collection::vec(prop_oneof![3 => send, 2 => work, 2 => Just(Step::Turn)], 1..300)
}

/// Takes submissions as a worker does: refusals are published before anything is released.
fn work(
    worker: &mut Worker,
    take: usize,
    refuse: u8,
    streams: &mut HashMap<u64, Vec<u8>>,
) -> usize {
    let mut taken = 0;
    while taken < take
        && let Some(asked) = worker.peek()
    {
        if !asked.bytes.is_empty() && refuse >> taken & 1 == 1 {
            worker.refuse(&asked, if taken % 2 == 0 { QUEUE_FULL } else { NO_BUFFER });
        } else {
            streams.entry(asked.submission.cd).or_default().extend(asked.bytes);
        }
        taken += 1;
    }
    worker.channel.submissions.release();
    taken
}

proptest! {
    /// Every stream is what was sent on it, though the arena wraps, the ring fills, workers lag and
    /// refuse. Bytes differ by stream and place, so a piece recycled too early shows.
    #[test]
    fn streams_arrive_whole(steps in steps()) {
        let layout = EndpointLayout { submissions: 4, notices: 16, ..LAYOUT };
        let (application, mut inbox, mut fake) = attached_with(layout, &Attach::new("test"));
        let mut sent: HashMap<u64, Vec<u8>> = HashMap::new();
        let mut streams: HashMap<u64, Vec<u8>> = HashMap::new();
        for step in steps {
            match step {
                Step::Send { worker, index, len } => {
                    let to = connection(worker, index);
                    let stream = sent.entry(to.cd).or_default();
                    let bytes: Vec<u8> = (stream.len()..stream.len() + len)
                        .map(|at| (at as u32 * 31 + index * 101 + u32::from(worker)).to_le_bytes()[0])
                        .collect();
                    if application.send(to, &bytes).is_ok() {
                        stream.extend(bytes);
                    }
                }
                Step::Work { worker, take, refuse } => {
                    work(&mut fake.workers[usize::from(worker)], take, refuse, &mut streams);
                }
                Step::Turn => drop(seen(&mut inbox)),
            }
        }
        for _ in 0..10_000 {
            drop(seen(&mut inbox));
            let taken: usize = fake.workers.iter_mut()
                .map(|worker| work(worker, 8, 0, &mut streams)).sum();
            if taken == 0 && inbox.sleep_max().is_none() {
                break;
            }
        }
        sent.retain(|_, stream| !stream.is_empty());
        prop_assert!(sent == streams, "streams differ: {:?}",
            sent.iter().map(|(cd, stream)| (cd, stream.len(), streams.get(cd).map(Vec::len)))
                .collect::<Vec<_>>());
    }
}

/// The fate of the first answer is not known when the second is given: it waits, and the
/// acknowledgement with it.
#[test]
fn an_answer_that_waits_leaves_with_its_acknowledgement() {
    let (_application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    fake.data(a, 0, b"one");
    with_request(&mut inbox, |mut request| request.answer(3, b"1").unwrap());
    inbox.turn().unwrap();
    fake.data(a, 3, b"two");
    with_request(&mut inbox, |mut request| request.answer(3, b"2").unwrap());
    inbox.turn().unwrap();
    let first = fake.workers[0].take();
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!((first[0].acknowledged(), first[0].bytes.as_slice()), (Some(3), &b"1"[..]));
    let second = settle(&mut inbox, &mut fake);
    assert_eq!(second.len(), 1, "{second:?}");
    assert_eq!((second[0].acknowledged(), second[0].bytes.as_slice()), (Some(6), &b"2"[..]));
}

/// A client that does not read is not to keep what it sent unacknowledged.
#[test]
fn an_acknowledgement_does_not_wait_for_bytes_that_were_refused() {
    let (_application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    fake.data(a, 0, b"one");
    with_request(&mut inbox, |mut request| request.answer(3, b"1").unwrap());
    inbox.turn().unwrap();
    let refused = fake.workers[0].peek().unwrap();
    fake.data(a, 3, b"two");
    with_request(&mut inbox, |mut request| request.answer(3, b"2").unwrap());
    fake.workers[0].refuse(&refused, QUEUE_FULL);
    fake.workers[0].channel.submissions.release();
    inbox.turn().unwrap();
    let asked = fake.workers[0].take();
    let acknowledged = asked.iter().find_map(Asked::acknowledged);
    assert_eq!(acknowledged, Some(6), "{asked:?}");
}

#[test]
fn what_is_sent_before_the_handshake_is_complete_waits_for_it() {
    let (application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    fake.workers[0].tell_of(kind::ACCEPTABLE, a);
    let mut batch = inbox.receive().unwrap();
    let Some(Event::Acceptable(client)) = batch.next_event() else { panic!("no client") };
    client.accept().unwrap();
    application.send(a, b"wel").unwrap();
    application.send(a, b"come").unwrap();
    assert_eq!(application.send(a, &[0; 4096]), Err(SendError::Behind { waiting: 7 }));
    application.close(a).unwrap();
    assert_eq!(ops(&settle(&mut inbox, &mut fake)), [(op::ACCEPT, a.cd)]);
    fake.workers[0].tell_of(kind::OPENED, a);
    let asked = settle(&mut inbox, &mut fake);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].bytes, b"welcome");
    assert_eq!(asked[0].submission.flags, flag::CLOSE_AFTER);
}

#[test]
fn a_stale_handle_is_an_error_whatever_is_done_with_it() {
    let (application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    let closed = Notice { kind: kind::CLOSED, gd: a.gd, cd: a.cd, ..Notice::default() };
    fake.workers[0].tell(closed);
    assert_eq!(seen(&mut inbox).len(), 1);
    assert_eq!(application.send(a, b"x"), Err(SendError::Closed));
    assert_eq!(application.close(a), Err(SendError::Closed));
    assert_eq!(application.abort(a), Err(SendError::Closed));
    let mut transaction = application.transaction();
    transaction.send(a, b"x");
    assert!(transaction.commit().is_err());
    let next = Connection { cd: a.cd + (1 << 40), ..a };
    application.send(next, b"y").unwrap();
    assert_eq!(ops(&settle(&mut inbox, &mut fake)), [(SEND, next.cd)]);
}

/// Nobody rings when the arena has room again: what waits for that is looked at soon, by itself.
#[test]
fn what_found_no_room_in_the_arena_does_not_sleep_for_ever() {
    let (application, mut inbox, mut fake) = attached();
    let (a, b) = (connection(0, 1), connection(0, 2));
    application.send(b, &[2; 1024]).unwrap();
    application.flush();
    let first = fake.workers[0].take();
    assert_eq!(first.len(), 1);
    inbox.turn().unwrap();
    // Larger than one submission: it waits its turn.
    application.send(a, &[1; 1500]).unwrap();
    let mut filled = 3;
    while application.send(connection(0, filled), &[3; 1024]).is_ok() {
        filled += 1;
    }
    inbox.turn().unwrap();
    inbox.turn().unwrap();
    assert!(fake.workers[0].channel.submissions.available().unwrap() > 0);
    assert!(inbox.sleep_max().is_some(), "the worker will make room and ring for nobody");
    let sent: usize = settle(&mut inbox, &mut fake)
        .iter()
        .filter(|asked| asked.submission.cd == a.cd)
        .map(|asked| asked.bytes.len())
        .sum();
    assert_eq!(sent, 1500);
}

/// A worker takes nothing more without a place for a refusal; an application far behind with its
/// own commands must read all the same.
#[test]
fn a_full_ring_of_notices_is_read_however_much_waits_to_be_asked() {
    let layout = EndpointLayout { submissions: 2, notices: 4, ..LAYOUT };
    let (_application, mut inbox, mut fake) = attached_with(layout, &Attach::new("test"));
    for index in 0..8 {
        fake.data(connection(0, index), 0, b"x");
        if index % 4 == 3 {
            inbox.turn().unwrap();
            inbox.turn().unwrap();
        }
    }
    let mut batch = inbox.receive().unwrap();
    while let Some(event) = batch.next_event() {
        let Event::Request(mut request) = event else { panic!("only requests come") };
        request.acknowledge(1).unwrap();
    }
    inbox.turn().unwrap();
    for index in 10..14 {
        fake.data(connection(0, index), 0, b"y");
    }
    assert_eq!(fake.workers[0].channel.notices.room(), Ok(0), "nothing can be told any more");
    inbox.turn().unwrap();
    inbox.turn().unwrap();
    assert_eq!(fake.workers[0].channel.notices.room(), Ok(4), "they were read");
    assert_eq!(settle(&mut inbox, &mut fake).len(), 8);
}

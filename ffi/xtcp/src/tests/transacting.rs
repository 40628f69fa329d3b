//! Transactions: what the worker is asked, and what becomes of a refusal.

use std::thread;

use xtcp_ring::layout::BATCH_MAX;

use super::*;
use crate::{RefusalReason, SendError, TransactionError};

/// A worker that waits for one whole batch, says what `answer` says, and only then lets go of it.
fn play(
    mut worker: Worker,
    answer: impl FnOnce(&mut Worker, &[Asked]) + Send + 'static,
) -> thread::JoinHandle<(Worker, Vec<Asked>)> {
    thread::spawn(move || {
        let mut all = Vec::new();
        while all.last().is_none_or(|last: &Asked| last.submission.flags & flag::MORE != 0) {
            match worker.peek() {
                Some(asked) => all.push(asked),
                None => thread::yield_now(),
            }
        }
        answer(&mut worker, &all);
        worker.channel.submissions.release();
        (worker, all)
    })
}

/// Takes the request that is there.
fn with_request(inbox: &mut Inbox, work: impl FnOnce(&mut Request<'_>)) {
    let mut batch = inbox.receive().unwrap();
    match batch.next_event() {
        Some(Event::Request(mut request)) => work(&mut request),
        other => panic!("{other:?}"),
    };
}

#[test]
fn a_message_and_its_acknowledgement_go_in_one_piece() {
    let (application, mut inbox, mut fake) = attached();
    let (from, to) = (connection(0, 1), connection(0, 2));
    fake.data(from, 0, b"hello\nmore");
    let worker = play(fake.workers.remove(0), |_, _| ());
    with_request(&mut inbox, |request| {
        let line = request.head(6).into_owned();
        let mut transaction = application.transaction();
        transaction.acknowledge(request, 6).unwrap();
        transaction.send(to, &line[..3]);
        transaction.send(to, &line[3..]);
        transaction.commit().unwrap();
        assert_eq!((request.offset(), request.len()), (6, 4));
    });
    let (mut worker, asked) = worker.join().unwrap();
    assert_eq!(ops(&asked), [(SEND, from.cd), (SEND, to.cd)]);
    assert_eq!((asked[0].acknowledged(), asked[0].submission.len), (Some(6), 0));
    assert_eq!(asked[0].submission.flags, flag::ACKNOWLEDGE | flag::MORE);
    assert_eq!((asked[1].submission.flags, &asked[1].bytes[..]), (0, &b"hello\n"[..]));

    // One part alone is told from an ordinary send, of which half may be done.
    let alone = thread::spawn(move || {
        let asked = std::iter::from_fn(|| {
            loop {
                if let Some(asked) = worker.peek() {
                    return Some(asked);
                }
                thread::yield_now();
            }
        });
        let asked: Vec<Asked> = asked.take(2).collect();
        worker.channel.submissions.release();
        asked
    });
    let mut transaction = application.transaction();
    transaction.send(to, b"alone");
    transaction.commit().unwrap();
    let asked = alone.join().unwrap();
    assert_eq!(asked[0].submission.flags, flag::MORE);
    assert_eq!((asked[1].submission.flags, asked[1].submission.len), (0, 0));
}

#[test]
fn to_acknowledge_nothing_together_asks_nobody() {
    let (application, mut inbox, mut fake) = attached();
    fake.data(connection(0, 1), 0, b"slow question");
    inbox.turn().unwrap();
    fake.lifeline = None;
    with_request(&mut inbox, |request| {
        let mut transaction = application.transaction();
        transaction.acknowledge(request, 0).unwrap();
        assert_eq!(transaction.commit(), Ok(()));
    });
}

#[test]
fn a_refused_transaction_leaves_the_request_as_it_was() {
    let (application, mut inbox, mut fake) = attached();
    let (from, to) = (connection(0, 1), connection(0, 2));
    fake.data(from, 0, b"hello");
    let worker = play(fake.workers.remove(0), |worker, asked| {
        let Submission { gd, cd, .. } = asked[1].submission;
        let refused = Notice { kind: kind::BATCH_REFUSED, reason: 8, gd, cd, ..Notice::default() };
        worker.tell(refused);
    });
    with_request(&mut inbox, |request| {
        let mut transaction = application.transaction();
        transaction.acknowledge(request, 5).unwrap();
        transaction.send(to, b"hello");
        let refused = transaction.commit();
        let reason = RefusalReason::ClientBehind;
        assert_eq!(refused, Err(TransactionError::Refused { connection: to, reason }));
        assert_eq!((request.offset(), request.len()), (0, 5));
    });
    drop(worker.join().unwrap());
    // It comes again by itself: the client may read meanwhile.
    with_request(&mut inbox, |request| assert_eq!(&*request.contiguous(), b"hello"));
}

#[test]
fn what_cannot_be_together_is_refused_before_anybody_is_asked() {
    let (application, mut inbox, mut fake) = attached();
    fake.data(connection(0, 1), 0, b"hello");
    inbox.turn().unwrap();
    let refusal = |targets: &[Connection], bytes: usize| {
        let mut transaction = application.transaction();
        for target in targets {
            transaction.send(*target, &vec![0; bytes]);
        }
        transaction.commit().unwrap_err()
    };
    let two = [connection(0, 1), connection(1, 1)];
    assert_eq!(refusal(&two, 1), TransactionError::SeveralWorkers);
    let many: Vec<Connection> = (1..=LAYOUT.submissions + 1).map(|n| connection(0, n)).collect();
    let most = BATCH_MAX.min(LAYOUT.submissions as usize);
    let too_large = TransactionError::TooLarge { connections: most, bytes: 1024 };
    assert_eq!(refusal(&many, 1), too_large);
    assert_eq!(refusal(&two[..1], 1025), too_large);
    let foreign = Connection { gd: GD + 1, ..two[0] };
    assert_eq!(refusal(&[foreign], 1), TransactionError::Unready(SendError::Closed));
    application.close(two[0]).unwrap();
    assert_eq!(refusal(&two[..1], 1), TransactionError::Unready(SendError::Closed));
    assert!(fake.workers[1].take().is_empty());
    assert_eq!(application.transaction().commit(), Ok(()));
}

#[test]
fn a_dataplane_that_dies_ends_the_waiting() {
    let (application, _inbox, mut fake) = attached();
    fake.lifeline = None;
    let mut transaction = application.transaction();
    transaction.send(connection(0, 1), b"anybody?");
    assert_eq!(transaction.commit(), Err(TransactionError::Gone));
}

//! The specification's calls, by number: what each gives, to the byte.

use std::thread;

use proptest::prelude::*;
use rustix::io::Errno;

use super::*;
use crate::numbered::{FIRST_POOL, Failure, NoRoom, NumberSet, Pools, Received, What};
use crate::{CloseReason, Error, SendError};

/// Reason codes of a worker.
const RESET: u8 = 1;
const QUEUE_FULL: u8 = 8;

/// The pools with one pool and the group [`GD`] in it, the group's number, and the appliance.
fn pools() -> (Pools, i32, Fake) {
    pools_with(LAYOUT, &Attach::new("test"))
}

fn pools_with(layout: EndpointLayout, attach: &Attach) -> (Pools, i32, Fake) {
    let (application, inbox, fake) = attached_with(layout, attach);
    let mut pools = Pools::new();
    pools.add(FIRST_POOL, application, inbox);
    let gd = pools.add_group(FIRST_POOL, Group(GD), 1).unwrap();
    (pools, gd, fake)
}

/// Receives into a buffer of this size.
fn receive_most(pools: &mut Pools, gd: i32, most: u64) -> Result<(Received, Vec<u8>), Failure> {
    let mut bytes = Vec::new();
    let received = pools.receive(gd, most, |slice| bytes.extend_from_slice(slice))?;
    let count = if let What::Bytes(count) = received.what { count } else { 0 };
    assert_eq!(u64::try_from(bytes.len()).unwrap(), count);
    Ok((received, bytes))
}

/// The next bytes and their connection's number.
fn bytes(pools: &mut Pools, gd: i32) -> (i32, Vec<u8>) {
    let (received, bytes) = receive_most(pools, gd, u64::MAX).unwrap();
    assert!(matches!(received.what, What::Bytes(_)), "{received:?}");
    (received.cd, bytes)
}

fn nothing(pools: &mut Pools, gd: i32) {
    let received = receive_most(pools, gd, u64::MAX);
    assert!(matches!(received, Err(Failure::Nothing)), "{received:?}");
}

fn send(pools: &mut Pools, gd: i32, cd: i32, ackd: u64, bytes: &[u8]) -> Result<(), Failure> {
    let sent = pools.send(gd, cd, ackd, bytes, NoRoom::AcknowledgeStill);
    pools.flush(gd).unwrap();
    sent
}

/// What all workers were asked, each taken: acknowledgement and bytes.
fn asked(fake: &mut Fake) -> Vec<(Option<u64>, Vec<u8>)> {
    let all = fake.workers.iter_mut().flat_map(Worker::take);
    all.map(|asked| (asked.acknowledged(), asked.bytes)).collect()
}

fn closed(connection: Connection, reason: u8, held: u64) -> Notice {
    let Connection { gd, cd } = connection;
    Notice { kind: kind::CLOSED, reason, offset: held, gd, cd, ..Notice::default() }
}

/// Plays a client that connects and is accepted, handshake and all.
fn accepted(pools: &mut Pools, gd: i32, fake: &mut Fake, connection: Connection) -> i32 {
    let worker = usize::from(connection.worker());
    fake.workers[worker].tell_of(kind::ACCEPTABLE, connection);
    let cd = pools.accept(gd).unwrap();
    let asked = fake.workers[worker].take();
    assert_eq!(ops(&asked), [(op::ACCEPT, connection.cd)]);
    fake.workers[worker].tell_of(kind::OPENED, connection);
    cd
}

#[test]
fn an_exchange_is_one_submission() {
    let (mut pools, gd, mut fake) = pools();
    let cd = accepted(&mut pools, gd, &mut fake, connection(0, 1));
    assert!(gd > 0 && cd > 0);
    nothing(&mut pools, gd);
    fake.data(connection(0, 1), 0, b"request");
    assert_eq!(bytes(&mut pools, gd), (cd, b"request".to_vec()));
    send(&mut pools, gd, cd, 7, b"answer").unwrap();
    assert_eq!(asked(&mut fake), [(Some(7), b"answer".to_vec())]);
    nothing(&mut pools, gd);
}

#[test]
fn accepting_takes_who_waits_and_nobody_else() {
    let (mut pools, gd, mut fake) = pools();
    assert!(matches!(pools.accept(gd), Err(Failure::Nothing)));
    let (gone, first, second) = (connection(0, 1), connection(1, 2), connection(1, 3));
    for client in [gone, first, second] {
        fake.workers[usize::from(client.worker())].tell_of(kind::ACCEPTABLE, client);
    }
    fake.workers[0].tell(closed(gone, 4, 0));
    let cd = pools.accept(gd).unwrap();
    assert_eq!(pools.named(gd, cd).unwrap(), first);
    pools.refuse(gd).unwrap();
    assert!(matches!(pools.refuse(gd), Err(Failure::Nothing)));
    assert_eq!(ops(&fake.workers[1].take()), [(op::ACCEPT, first.cd), (op::REFUSE, second.cd)]);
    nothing(&mut pools, gd);
}

#[test]
fn what_is_not_acknowledged_comes_again_with_what_came_since() {
    let (mut pools, gd, mut fake) = pools();
    let a = connection(0, 1);
    fake.data(a, 50, b"LOG");
    let (cd, _) = bytes(&mut pools, gd);
    nothing(&mut pools, gd);
    fake.data(a, 53, b"IN alice\nWHO\nMSG");
    assert_eq!(bytes(&mut pools, gd), (cd, b"LOGIN alice\nWHO\nMSG".to_vec()));
    send(&mut pools, gd, cd, 12, b"OK\n").unwrap();
    assert_eq!(bytes(&mut pools, gd), (cd, b"WHO\nMSG".to_vec()), "the rest, at once");
    send(&mut pools, gd, cd, 4, b"").unwrap();
    assert_eq!(bytes(&mut pools, gd), (cd, b"MSG".to_vec()));
    nothing(&mut pools, gd);
    let wanted = [(Some(62), b"OK\n".to_vec()), (Some(66), Vec::new())];
    assert_eq!(asked(&mut fake), wanted);
}

#[test]
fn one_receive_can_be_acknowledged_in_several_steps_but_not_beyond() {
    let (mut pools, gd, mut fake) = pools();
    fake.data(connection(0, 1), 0, b"0123456789");
    let (cd, _) = bytes(&mut pools, gd);
    let over =
        |failure| matches!(failure, Err(Failure::OverAcknowledged { given: 6, acknowledged: 7 }));
    send(&mut pools, gd, cd, 4, b"").unwrap();
    assert!(over(send(&mut pools, gd, cd, 7, b"not sent")));
    send(&mut pools, gd, cd, 6, b"").unwrap();
    assert_eq!(asked(&mut fake), [(Some(4), Vec::new()), (Some(10), Vec::new())]);
    nothing(&mut pools, gd);
    let failure = send(&mut pools, gd, cd, 1, b"").unwrap_err();
    assert_eq!(failure.errno(), Errno::INVAL);
    send(&mut pools, gd, cd, 0, b"").unwrap();
    assert_eq!(asked(&mut fake), []);
}

#[test]
fn a_buffer_that_is_too_small_gets_the_front_and_a_larger_one_everything() {
    let (mut pools, gd, mut fake) = pools();
    fake.data(connection(0, 1), 0, b"a message ");
    fake.data(connection(0, 1), 10, b"of 23 bytes\nX");
    let (received, front) = receive_most(&mut pools, gd, 12).unwrap();
    assert_eq!(front, b"a message of");
    let failure = send(&mut pools, gd, received.cd, 13, b"").unwrap_err();
    assert!(matches!(failure, Failure::OverAcknowledged { given: 12, .. }), "as given, not more");
    assert_eq!(bytes(&mut pools, gd).1, b"a message of 23 bytes\nX");
    nothing(&mut pools, gd);
    let (received, _) = {
        fake.data(connection(0, 1), 23, b"Y");
        receive_most(&mut pools, gd, 10).unwrap()
    };
    send(&mut pools, gd, received.cd, 10, b"").unwrap();
    let (received, rest) = receive_most(&mut pools, gd, 100).unwrap();
    assert_eq!((received.offset, rest.as_slice()), (10, b"of 23 bytes\nXY".as_slice()));
}

#[test]
fn bytes_for_another_client_do_not_bring_a_request_again() {
    let (mut pools, gd, mut fake) = pools();
    fake.data(connection(0, 1), 0, b"slow question");
    let (cd, _) = bytes(&mut pools, gd);
    send(&mut pools, gd, cd, 0, b"something else first").unwrap();
    nothing(&mut pools, gd);
    send(&mut pools, gd, cd, 13, b"answer").unwrap();
    // The answer waits for what was sent before it, and the acknowledgement goes with it.
    assert_eq!(asked(&mut fake), [(None, b"something else first".to_vec())]);
    nothing(&mut pools, gd);
    assert_eq!(asked(&mut fake), [(Some(13), b"answer".to_vec())]);
}

#[test]
fn an_acknowledgement_is_made_although_the_answer_found_no_room() {
    let layout = EndpointLayout { submissions: 4, ..LAYOUT };
    let (mut pools, gd, mut fake) = pools_with(layout, &Attach::new("test"));
    fake.data(connection(0, 100), 0, b"question");
    let (cd, _) = bytes(&mut pools, gd);
    for index in 0..4 {
        fake.data(connection(0, index), 0, b"x");
        let (other, _) = bytes(&mut pools, gd);
        send(&mut pools, gd, other, 0, b"fill").unwrap();
    }
    let failure = send(&mut pools, gd, cd, 5, b"answer").unwrap_err();
    assert_eq!(failure.errno(), Errno::AGAIN);
    assert_eq!(bytes(&mut pools, gd), (cd, b"ion".to_vec()));
    let mut all = asked(&mut fake);
    assert!(matches!(receive_most(&mut pools, gd, 9), Err(Failure::Nothing)));
    all.extend(asked(&mut fake));
    assert_eq!(all.len(), 5);
    assert_eq!(all[4], (Some(5), Vec::new()));
}

#[test]
fn an_answer_without_room_does_neither_and_the_request_comes_again() {
    let layout = EndpointLayout { submissions: 4, ..LAYOUT };
    let (mut pools, gd, mut fake) = pools_with(layout, &Attach::new("test"));
    fake.data(connection(0, 100), 0, b"question");
    let (cd, _) = bytes(&mut pools, gd);
    for index in 0..4 {
        fake.data(connection(0, index), 0, b"x");
        let (other, _) = bytes(&mut pools, gd);
        send(&mut pools, gd, other, 0, b"fill").unwrap();
    }
    let failure = pools.send(gd, cd, 8, b"answer", NoRoom::GiveAgain).unwrap_err();
    assert_eq!(failure.errno(), Errno::AGAIN);
    assert_eq!(bytes(&mut pools, gd), (cd, b"question".to_vec()));
    assert_eq!(asked(&mut fake).len(), 4);
    pools.send(gd, cd, 8, b"answer", NoRoom::GiveAgain).unwrap();
    pools.flush(gd).unwrap();
    assert_eq!(asked(&mut fake), [(Some(8), b"answer".to_vec())]);
}

#[test]
fn a_client_that_does_not_read_gets_its_request_again_when_it_has() {
    let attach = Attach { backlog_max: 100, ..Attach::new("test") };
    let (mut pools, gd, mut fake) = pools_with(LAYOUT, &attach);
    fake.data(connection(0, 1), 0, b"again");
    let (cd, _) = bytes(&mut pools, gd);
    let too_long = send(&mut pools, gd, cd, 0, &[0; 2000]).unwrap_err();
    assert_eq!(too_long.errno(), Errno::MSGSIZE);
    send(&mut pools, gd, cd, 0, &[1; 50]).unwrap();
    let first = fake.workers[0].peek().unwrap();
    send(&mut pools, gd, cd, 0, &[2; 80]).unwrap();
    let failure = pools.send(gd, cd, 5, &[3; 30], NoRoom::GiveAgain).unwrap_err();
    assert!(matches!(failure, Failure::Send(SendError::Behind { waiting: 80 })));
    nothing(&mut pools, gd);
    fake.workers[0].refuse(&first, QUEUE_FULL);
    fake.workers[0].channel.submissions.release();
    let mut sent = Vec::new();
    let again = loop {
        match receive_most(&mut pools, gd, u64::MAX) {
            Ok((_, again)) => break again,
            Err(failure) => assert!(matches!(failure, Failure::Nothing), "{failure}"),
        }
        sent.extend(asked(&mut fake).into_iter().flat_map(|(_, bytes)| bytes));
    };
    assert_eq!(again, b"again");
    assert_eq!(sent, [[1; 50].as_slice(), &[2; 80]].concat());
}

#[test]
fn a_request_that_waits_for_room_comes_again_when_what_it_waits_for_is_lost() {
    let attach = Attach { backlog_max: 100, ..Attach::new("test") };
    let (mut pools, gd, mut fake) = pools_with(LAYOUT, &attach);
    fake.data(connection(0, 1), 0, b"again");
    let (cd, _) = bytes(&mut pools, gd);
    send(&mut pools, gd, cd, 0, &[1; 50]).unwrap();
    let first = fake.workers[0].peek().unwrap();
    send(&mut pools, gd, cd, 0, &[2; 80]).unwrap();
    pools.send(gd, cd, 5, &[3; 30], NoRoom::GiveAgain).unwrap_err();
    nothing(&mut pools, gd);
    fake.workers[0].refuse(&first, xtcp_ring::layout::refused::NOT_OPEN);
    fake.workers[0].channel.submissions.release();
    assert_eq!(bytes(&mut pools, gd), (cd, b"again".to_vec()));
}

#[test]
fn a_greeting_before_the_handshake_is_complete_waits_for_it() {
    let (mut pools, gd, mut fake) = pools();
    let (a, b) = (connection(0, 1), connection(0, 2));
    for client in [a, b] {
        fake.workers[0].tell_of(kind::ACCEPTABLE, client);
    }
    let (first, second) = (pools.accept(gd).unwrap(), pools.accept(gd).unwrap());
    send(&mut pools, gd, first, 0, b"wel").unwrap();
    send(&mut pools, gd, first, 0, b"come").unwrap();
    send(&mut pools, gd, second, 0, b"go away").unwrap();
    pools.close(gd, second).unwrap();
    assert_eq!(ops(&fake.workers[0].take()), [(op::ACCEPT, a.cd), (op::ACCEPT, b.cd)]);
    let failure = send(&mut pools, gd, first, 0, &[0; 8192]).unwrap_err();
    assert_eq!(failure.errno(), Errno::AGAIN);
    for client in [a, b] {
        fake.workers[0].tell_of(kind::OPENED, client);
    }
    nothing(&mut pools, gd);
    let asked = fake.workers[0].take();
    assert_eq!(ops(&asked), [(SEND, a.cd), (SEND, b.cd)]);
    assert_eq!((asked[0].bytes.as_slice(), asked[0].submission.flags), (&b"welcome"[..], 0));
    assert_eq!(asked[1].submission.flags, flag::CLOSE_AFTER);
}

#[test]
fn the_end_of_a_stream_is_told_after_its_bytes() {
    let (mut pools, gd, mut fake) = pools();
    let a = connection(0, 1);
    fake.data(a, 0, b"last words\n");
    fake.workers[0].tell_of(kind::FINISHED, a);
    let (cd, _) = bytes(&mut pools, gd);
    send(&mut pools, gd, cd, 5, b"").unwrap();
    assert_eq!(bytes(&mut pools, gd), (cd, b"words\n".to_vec()));
    let (received, _) = receive_most(&mut pools, gd, 9).unwrap();
    assert_eq!((received.cd, received.what), (cd, What::End));
    nothing(&mut pools, gd);
    send(&mut pools, gd, cd, 6, b"BYE\n").unwrap();
    pools.close(gd, cd).unwrap();
    assert!(matches!(pools.named(gd, cd), Err(Failure::NoConnection)));
    fake.workers[0].tell(closed(a, 0, 0));
    nothing(&mut pools, gd);
}

#[test]
fn a_connection_that_is_gone_is_told_once_and_its_number_names_nothing() {
    let (mut pools, gd, mut fake) = pools();
    let a = connection(0, 1);
    fake.data(a, 0, b"held");
    let (cd, _) = bytes(&mut pools, gd);
    fake.data(a, 4, b"and more");
    fake.workers[0].tell(closed(a, RESET, 12));
    let mut set = NumberSet::default();
    set.insert(gd);
    assert_eq!(pools.select(Some(&mut set), None, Some(Duration::ZERO)).unwrap(), 1);
    assert_eq!(send(&mut pools, gd, cd, 4, b"late").unwrap_err().errno(), Errno::PIPE);
    let (received, _) = receive_most(&mut pools, gd, 9).unwrap();
    assert_eq!((received.cd, received.what), (cd, What::Gone(CloseReason::Reset)));
    nothing(&mut pools, gd);
    assert!(matches!(send(&mut pools, gd, cd, 0, b"x"), Err(Failure::NoConnection)));
    assert!(matches!(pools.close(gd, cd), Err(Failure::NoConnection)));
    let asked = fake.workers[0].take();
    assert_eq!(ops(&asked), [(op::CLOSE, a.cd)], "the worker may have the bytes back");
}

#[test]
fn the_end_of_what_the_application_closed_is_not_told() {
    let (mut pools, gd, mut fake) = pools();
    let (a, b) = (connection(0, 1), connection(1, 1));
    let first = accepted(&mut pools, gd, &mut fake, a);
    let second = accepted(&mut pools, gd, &mut fake, b);
    nothing(&mut pools, gd);
    pools.close(gd, first).unwrap();
    pools.abort(gd, second).unwrap();
    assert_eq!(ops(&fake.workers[0].take()), [(op::CLOSE, a.cd)]);
    assert_eq!(ops(&fake.workers[1].take()), [(op::ABORT, b.cd)]);
    fake.workers[0].tell(closed(a, 0, 0));
    fake.workers[1].tell(closed(b, 3, 0));
    nothing(&mut pools, gd);
    let mut set = NumberSet::default();
    set.insert(gd);
    assert_eq!(pools.select(Some(&mut set), None, Some(Duration::ZERO)).unwrap(), 0);
}

#[test]
fn closing_what_the_client_has_reset_first_is_no_error() {
    let (mut pools, gd, mut fake) = pools();
    let a = connection(0, 1);
    let cd = accepted(&mut pools, gd, &mut fake, a);
    nothing(&mut pools, gd);
    fake.workers[0].tell(closed(a, RESET, 0));
    let mut set = NumberSet::default();
    set.insert(gd);
    assert_eq!(pools.select(Some(&mut set), None, None).unwrap(), 1);
    pools.close(gd, cd).unwrap();
    assert_eq!(pools.select(Some(&mut set), None, Some(Duration::ZERO)).unwrap(), 0);
    nothing(&mut pools, gd);
}

#[test]
fn a_number_is_of_one_group_only() {
    let (mut pools, gd, mut fake) = pools();
    let other = pools.add_group(FIRST_POOL, Group(GD + 1), 1).unwrap();
    fake.data(connection(0, 1), 0, b"x");
    let (cd, _) = bytes(&mut pools, gd);
    assert!(matches!(send(&mut pools, other, cd, 0, b"y"), Err(Failure::NoConnection)));
    assert!(matches!(pools.close(other, cd), Err(Failure::NoConnection)));
    let handle = connection(0, 1).handle();
    assert_eq!(pools.number(gd, handle).unwrap(), cd);
    assert!(matches!(pools.number(other, handle), Err(Failure::NoConnection)));
    assert!(matches!(pools.number(gd, handle + 1), Err(Failure::NoConnection)));
    for wrong in [0, -1, gd + 77, i32::MAX] {
        assert!(matches!(pools.receive(wrong, 9, |_| {}), Err(Failure::NoGroup)));
        assert!(matches!(pools.accept(wrong), Err(Failure::NoGroup)));
        assert!(matches!(pools.close_group(wrong), Err(Failure::NoGroup)));
    }
}

#[test]
fn select_leaves_the_ready_and_counts_them() {
    let (mut pools, gd, mut fake) = pools();
    let (application, inbox, mut second_fake) = attached();
    let number = 77;
    pools.add(number, application, inbox);
    let far = pools.add_group(number, Group(GD), 1).unwrap();
    let quiet = pools.add_group(number, Group(GD + 1), 1).unwrap();
    let mut all = NumberSet::default();
    for group in [gd, far, quiet] {
        all.insert(group);
    }
    let now = Some(Duration::ZERO);
    let (mut read, mut accept) = (all.clone(), all.clone());
    assert_eq!(pools.select(Some(&mut read), Some(&mut accept), now).unwrap(), 0);
    assert!(read.is_empty() && accept.is_empty());

    fake.data(connection(0, 1), 0, b"x");
    fake.workers[0].tell_of(kind::ACCEPTABLE, connection(0, 2));
    second_fake.workers[1].tell_of(kind::ACCEPTABLE, connection(1, 2));
    let (mut read, mut accept) = (all.clone(), all.clone());
    assert_eq!(pools.select(Some(&mut read), Some(&mut accept), None).unwrap(), 3);
    assert_eq!(read.iter().collect::<Vec<_>>(), [gd]);
    assert!(accept.len() == 2 && accept.contains(gd) && accept.contains(far));

    let mut read = all.clone();
    pools.remove_group(quiet);
    let failure = pools.select(Some(&mut read), None, now).unwrap_err();
    assert!(matches!(failure, Failure::NoGroup));
    assert_eq!(read.len(), 3, "as it was");
}

#[test]
fn select_prefers_the_higher_priority_but_not_for_ever() {
    let (application, inbox, mut fake) = attached();
    application.shared().endpoint.borrow_mut().add_group(Group(GD + 1), 3);
    let mut pools = Pools::new();
    pools.add(FIRST_POOL, application, inbox);
    let low = pools.add_group(FIRST_POOL, Group(GD), 1).unwrap();
    let high = pools.add_group(FIRST_POOL, Group(GD + 1), 3).unwrap();
    fake.data(connection(0, 1), 0, b"x");
    fake.data(Connection { gd: GD + 1, ..connection(0, 2) }, 0, b"x");
    let mut found = Vec::new();
    for _ in 0..17 {
        let mut set = NumberSet::default();
        set.insert(low);
        set.insert(high);
        pools.select(Some(&mut set), None, None).unwrap();
        found.push((set.contains(low), set.contains(high)));
    }
    assert!(found[..16].iter().all(|ready| *ready == (false, true)), "{found:?}");
    assert_eq!(found[16], (true, true));
    let mut only = NumberSet::default();
    only.insert(low);
    assert_eq!(pools.select(Some(&mut only), None, None).unwrap(), 1);
}

#[test]
fn a_handshake_that_completes_makes_no_group_ready() {
    let (mut pools, gd, mut fake) = pools();
    let mut set = NumberSet::default();
    set.insert(gd);
    fake.workers[0].tell_of(kind::OPENED, connection(0, 1));
    let some_time = Some(Duration::from_millis(2));
    assert_eq!(pools.select(Some(&mut set), None, some_time).unwrap(), 0);
}

#[test]
fn any_pool_s_worker_wakes_a_select() {
    let (mut pools, gd, first) = pools();
    let (application, inbox, mut second) = attached();
    pools.add(77, application, inbox);
    let far = pools.add_group(77, Group(GD), 1).unwrap();
    let mut set = NumberSet::default();
    set.insert(gd);
    set.insert(far);
    let worker = thread::spawn(move || {
        second.data(connection(1, 1), 0, b"wake up");
        second
    });
    assert_eq!(pools.select(Some(&mut set), None, None).unwrap(), 1);
    assert!(set.contains(far));
    drop((worker.join().unwrap(), first));
}

#[test]
fn the_death_of_the_dataplane_ends_a_select_after_its_last_words() {
    let (mut pools, gd, mut fake) = pools();
    let mut set = NumberSet::default();
    set.insert(gd);
    fake.data(connection(0, 1), 0, b"last words");
    fake.lifeline = None;
    assert_eq!(pools.select(Some(&mut set), None, None).unwrap(), 1);
    assert_eq!(bytes(&mut pools, gd).1, b"last words");
    let failure = pools.select(Some(&mut set), None, None).unwrap_err();
    assert!(matches!(failure, Failure::Appliance(Error::DataplaneGone)));
    assert_eq!(failure.errno(), Errno::NETDOWN);
}

#[test]
fn a_loop_of_ones_own_sleeps_on_the_file() {
    let (mut pools, gd, mut fake) = pools();
    let (_, most) = pools.arm(FIRST_POOL).unwrap().expect("nothing is there");
    assert_eq!(most, None);
    fake.workers[0].tell_of(kind::OPENED, connection(0, 1));
    assert!(pools.arm(FIRST_POOL).unwrap().is_some(), "that is nothing to be told");
    fake.data(connection(0, 1), 0, b"x");
    assert!(pools.arm(FIRST_POOL).unwrap().is_none());
    bytes(&mut pools, gd);
    assert!(pools.arm(FIRST_POOL).unwrap().is_some());
    assert!(matches!(pools.arm(5), Err(Failure::NoPool)));
}

#[test]
fn a_hole_in_a_stream_breaks_the_pool() {
    let (mut pools, gd, mut fake) = pools();
    fake.data(connection(0, 1), 0, b"12345");
    bytes(&mut pools, gd);
    fake.data(connection(0, 1), 6, b"7");
    let failure = receive_most(&mut pools, gd, 9).unwrap_err();
    assert_eq!(failure.errno(), Errno::PROTO);
}

/// What a test client or the application does.
#[derive(Clone, Debug)]
enum Step {
    Come { index: u32, len: usize },
    Receive { most: u64 },
    Acknowledge { index: u32, count: u64 },
    Answer { index: u32, count: u64, len: usize },
    Work { take: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = 0..4_u32;
    let step = prop_oneof![
        3 => (index.clone(), 1..40_usize).prop_map(|(index, len)| Step::Come { index, len }),
        4 => prop_oneof![1..50_u64, Just(1000)].prop_map(|most| Step::Receive { most }),
        2 => (index.clone(), 0..60_u64)
            .prop_map(|(index, count)| Step::Acknowledge { index, count }),
        2 => (index, 0..60_u64, 1..1500_usize)
            .prop_map(|(index, count, len)| Step::Answer { index, count, len }),
        2 => (1..6_usize).prop_map(|take| Step::Work { take }),
    ];
    proptest::collection::vec(step, 1..250)
}

/// One connection as the specification's text has it.
#[derive(Default)]
struct Model {
    sent: Vec<u8>,
    acknowledged: usize,
    /// Bytes of the last receive that were not acknowledged.
    given: usize,
    cd: i32,
}

/// Makes the library look at the workers.
fn look(pools: &mut Pools, gd: i32) {
    let mut set = NumberSet::default();
    set.insert(gd);
    pools.select(Some(&mut set), None, Some(Duration::ZERO)).unwrap();
}

/// Receives, if there is something. With workers that are not behind (`exact`) everything that
/// fits is given.
fn receive_as_modelled(
    pools: &mut Pools,
    gd: i32,
    most: u64,
    models: &mut [Model; 4],
    exact: bool,
) -> Result<bool, TestCaseError> {
    let (received, bytes) = match receive_most(pools, gd, most) {
        Err(Failure::Nothing) => return Ok(false),
        received => received.unwrap(),
    };
    let model = &mut models[(received.connection.cd & 0xff) as usize];
    prop_assert!(model.cd == 0 || model.cd == received.cd);
    model.cd = received.cd;
    model.given = bytes.len();
    prop_assert_eq!(received.offset, model.acknowledged as u64);
    let all = &model.sent[model.acknowledged..];
    let fits = all.len().min(most as usize);
    prop_assert_eq!(&bytes, &all[..if exact { fits } else { bytes.len().min(fits) }]);
    Ok(true)
}

proptest! {
    /// Against the text of the specification: every receive gives the bytes from the first
    /// unacknowledged one on; `ackd` never goes beyond the last receive, and counts whether or not
    /// the answer could be sent; the worker is never told of more than was given.
    #[test]
    fn receives_and_acknowledgements_keep_the_account(steps in steps()) {
        let layout = EndpointLayout { submissions: 4, ..LAYOUT };
        let (mut pools, gd, mut fake) = pools_with(layout, &Attach::new("test"));
        let mut models: [Model; 4] = std::array::from_fn(|_| Model::default());
        let mut told = [0_u64; 4];
        for step in steps {
            match step {
                Step::Come { index, len } => {
                    let model = &mut models[index as usize];
                    let offset = model.sent.len();
                    let bytes: Vec<u8> = (offset..offset + len)
                        .map(|at| (at as u32 * 7 + index * 101).to_le_bytes()[0]).collect();
                    fake.data(connection(0, index), offset as u64, &bytes);
                    model.sent.extend(bytes);
                }
                Step::Receive { most } => {
                    look(&mut pools, gd);
                    receive_as_modelled(&mut pools, gd, most, &mut models, false)?;
                }
                Step::Acknowledge { index, count } | Step::Answer { index, count, .. } => {
                    let model = &mut models[index as usize];
                    if model.cd == 0 { continue }
                    let len = if let Step::Answer { len, .. } = step { len } else { 0 };
                    match send(&mut pools, gd, model.cd, count, &vec![7; len]) {
                        Err(Failure::OverAcknowledged { given, .. }) => {
                            prop_assert_eq!(given, model.given as u64);
                            prop_assert!(count > given);
                        }
                        Ok(()) | Err(Failure::Send(SendError::WouldBlock)) => {
                            prop_assert!(count <= model.given as u64);
                            model.acknowledged += count as usize;
                            model.given -= count as usize;
                        }
                        Err(other) => prop_assert!(false, "{}", other),
                    }
                }
                Step::Work { take } => {
                    for _ in 0..take {
                        let Some(asked) = fake.workers[0].peek() else { break };
                        let index = (asked.submission.cd & 0xff) as usize;
                        if let Some(up_to) = asked.acknowledged() {
                            prop_assert!(up_to > told[index]);
                            prop_assert!(up_to <= models[index].acknowledged as u64);
                            told[index] = up_to;
                        }
                    }
                    fake.workers[0].channel.submissions.release();
                }
            }
        }
        // In the end everything acknowledged reaches the worker, and everything else is there.
        for _ in 0..100 {
            look(&mut pools, gd);
            for asked in fake.workers[0].take() {
                if let Some(up_to) = asked.acknowledged() {
                    told[(asked.submission.cd & 0xff) as usize] = up_to;
                }
            }
        }
        while receive_as_modelled(&mut pools, gd, u64::MAX, &mut models, true)? {}
        for (model, told) in models.iter().zip(told) {
            prop_assert_eq!(model.acknowledged as u64, told);
            prop_assert_eq!(model.given, model.sent.len() - model.acknowledged);
        }
    }
}

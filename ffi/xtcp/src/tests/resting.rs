//! A library that has nothing to do rests, and what it remembers does not grow meanwhile.

use std::io::Write;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::local::{Place, accepted, until};
use super::*;
use crate::numbered::{FIRST_POOL, Failure, NoRoom, NumberSet, Pools, What};
use crate::{Accept, Drain, GroupOptions, Manner, SendError};

/// Whether something rings for the thread right now.
fn rings(inbox: &Inbox) -> bool {
    let mut files = [PollFd::from_borrowed_fd(inbox.as_fd(), PollFlags::IN)];
    poll(&mut files, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
}

#[test]
fn a_greeting_too_long_for_an_open_handshake_keeps_nobody_awake() {
    let (application, mut inbox, mut fake) = attached();
    let a = connection(0, 1);
    fake.workers[0].tell_of(kind::ACCEPTABLE, a);
    assert_eq!(inbox.accept(Group(GD)).unwrap(), Some(a));
    assert_eq!(application.send(a, &[0; 5000]), Err(SendError::Behind { waiting: 0 }));
    assert_eq!(ops(&settle(&mut inbox, &mut fake)), [(op::ACCEPT, a.cd)]);
    assert_eq!(inbox.sleep_max(), None, "only the client can end this");
    fake.workers[0].tell_of(kind::OPENED, a);
    let told = seen(&mut inbox);
    assert!(told.contains(&Seen::Other(format!("Drained({a:?})"))), "{told:?}");
    application.send(a, &[0; 5000]).unwrap();
}

/// Requests of two messages each, which are acknowledged one after the other, by a server that
/// receives when a select says so.
#[test]
fn messages_acknowledged_one_by_one_leave_no_trace() {
    let (application, inbox, mut fake) = attached();
    let mut pools = Pools::new();
    pools.add(FIRST_POOL, application, inbox);
    let gd = pools.add_group(FIRST_POOL, Group(GD), 1).unwrap();
    let mut offset = 0;
    for _ in 0..1000 {
        fake.data(connection(0, 1), offset, b"onetwo");
        fake.next[0] = 0;
        offset += 6;
        let mut set = NumberSet::default();
        set.insert(gd);
        assert_eq!(pools.select(Some(&mut set), None, None).unwrap(), 1);
        let received = pools.receive(gd, 100, |_| ()).unwrap();
        assert_eq!(received.what, What::Bytes(6));
        for _ in 0..2 {
            pools.send(gd, received.cd, 3, b"", NoRoom::AcknowledgeStill).unwrap();
        }
        pools.flush(gd).unwrap();
        fake.workers[0].take();
    }
    let listed = pools.listed(gd).unwrap();
    assert!(listed <= 100, "{listed} are kept");
    assert!(matches!(pools.receive(gd, 100, |_| ()), Err(Failure::Nothing)));
}

/// A server that is too busy to accept, and clients that give up.
#[test]
fn clients_that_gave_up_waiting_leave_no_trace_by_number() {
    let (application, inbox, mut fake) = attached();
    let mut pools = Pools::new();
    pools.add(FIRST_POOL, application, inbox);
    let gd = pools.add_group(FIRST_POOL, Group(GD), 1).unwrap();
    for index in 1..=1000 {
        let client = connection(0, index);
        fake.workers[0].tell_of(kind::ACCEPTABLE, client);
        assert!(matches!(pools.receive(gd, 100, |_| ()), Err(Failure::Nothing)));
        fake.workers[0].tell_of(kind::CLOSED, client);
        assert!(matches!(pools.receive(gd, 100, |_| ()), Err(Failure::Nothing)));
    }
    let listed = pools.listed(gd).unwrap();
    assert!(listed <= 100, "{listed} are kept");
}

#[test]
fn whose_time_to_be_accepted_is_over_first_ends_the_sleep() {
    let (patient, hasty) = (Place::new("patient"), Place::new("hasty"));
    let (application, mut inbox, _fake) = attached();
    let waits = |seconds| Accept::ByApplication { timeout: Duration::from_secs(seconds) };
    application.open_group(&GroupOptions { accept: waits(600), ..patient.options() }).unwrap();
    application.open_group(&GroupOptions { accept: waits(60), ..hasty.options() }).unwrap();
    let _first = patient.connect();
    until(&mut inbox, |event| matches!(event, Event::Acceptable(_)));
    let _second = hasty.connect();
    until(&mut inbox, |event| matches!(event, Event::Acceptable(_)));
    let most = inbox.sleep_max().unwrap();
    assert!(most <= Duration::from_secs(60), "{most:?}");
}

/// Closing a socket does not take it from an epoll instance while a forked child has a copy.
#[test]
fn sockets_that_a_forked_child_has_copies_of_ring_no_more_when_they_are_closed() {
    let place = Place::new("forked");
    let (application, mut inbox, _fake) = attached();
    let group = application.open_group(&place.options()).unwrap();
    let _client = place.connect();
    let client = accepted(&mut inbox);
    let copies = application.shared().endpoint.borrow().copies();
    assert_eq!(copies.len(), 2, "a door and a client");
    application.abort(client).unwrap();
    until(&mut inbox, |event| matches!(event, Event::Closed { .. }));
    assert!(!rings(&inbox), "the client is gone");
    let _knocks = place.connect();
    assert!(rings(&inbox));
    application.close_group(group).unwrap();
    assert!(!rings(&inbox), "nobody is let in any more");
}

#[test]
fn a_drained_group_s_door_rings_no_more_though_a_forked_child_has_a_copy() {
    let place = Place::new("forked-drained");
    let (application, inbox, _fake) = attached();
    let group = application.open_group(&place.options()).unwrap();
    let _copies = application.shared().endpoint.borrow().copies();
    let _knocks = place.connect();
    assert!(rings(&inbox));
    application.drain_group(group, &Drain { per_second: 0, manner: Manner::WhenIdle }).unwrap();
    assert!(!rings(&inbox));
}

#[test]
fn an_acknowledgement_opens_the_window_though_its_answer_found_no_room() {
    let place = Place::new("answer");
    let attach = Attach { local_bytes: 64 << 10, ..Attach::new("test") };
    let (application, mut inbox, _fake) = attached_with(LAYOUT, &attach);
    application.open_group(&GroupOptions { window_max: 10, ..place.options() }).unwrap();
    let _never_reads = place.connect();
    let slow = accepted(&mut inbox);
    let mut client = place.connect();
    let quick = accepted(&mut inbox);
    let is_refused = |seen: &Seen| matches!(seen, Seen::Other(text) if text.contains("Refused"));
    while !seen(&mut inbox).iter().any(is_refused) {
        application.send(slow, &[0; 1000]).unwrap();
    }
    for part in 0..2 {
        client.write_all(&[part; 10]).unwrap();
        until(&mut inbox, |event| {
            let Event::Request(mut request) = event else { return false };
            assert_eq!(request.connection(), quick);
            assert_eq!((request.offset(), request.len()), (u64::from(part) * 10, 10));
            request.answer(10, &[1; 2000]).unwrap();
            true
        });
    }
}

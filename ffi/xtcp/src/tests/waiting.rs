//! Sleeping, being woken, and the sets of groups.

use std::os::fd::AsFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use xtcp_ring::Woken;

use super::*;
use crate::{Error, GroupSet};

#[test]
fn time_ends_a_wait() {
    let (_application, mut inbox, _fake) = attached();
    assert!(!inbox.wait(Some(Duration::ZERO)).unwrap());
    assert!(!inbox.wait(Some(Duration::from_millis(5))).unwrap());
}

#[test]
fn a_worker_wakes_a_sleeper() {
    let (_application, mut inbox, mut fake) = attached();
    let worker = thread::spawn(move || {
        // Whether the application sleeps already or not yet: it must not miss this.
        fake.data(connection(1, 1), 0, b"wake up");
        fake
    });
    assert!(inbox.wait(None).unwrap());
    assert_eq!(seen(&mut inbox).len(), 1);
    drop(worker.join().unwrap());
}

/// Told after the last look and before the sleep: nobody rings for that.
#[test]
fn what_came_just_before_the_sleep_prevents_it() {
    let (_application, mut inbox, mut fake) = attached();
    inbox.turn().unwrap();
    fake.data(connection(0, 1), 0, b"x");
    assert_eq!(inbox.sleep(Some(Duration::from_secs(10))).unwrap(), Woken::Ready);
}

#[test]
fn the_death_of_the_dataplane_ends_a_wait_after_its_last_words() {
    let (_application, mut inbox, mut fake) = attached();
    fake.data(connection(0, 1), 0, b"last words");
    fake.lifeline = None;
    assert!(inbox.wait(None).unwrap());
    assert_eq!(seen(&mut inbox).len(), 1);
    assert!(matches!(inbox.wait(None), Err(Error::DataplaneGone)));
}

#[test]
fn a_thread_that_never_sleeps_finds_the_dataplane_gone() {
    let (_application, mut inbox, mut fake) = attached();
    fake.lifeline = None;
    let gone = (0..10_000).find_map(|_| inbox.receive().err());
    assert!(matches!(gone, Some(Error::DataplaneGone)));
}

#[test]
fn select_tells_which_groups_are_ready_for_what() {
    let (application, mut inbox, mut fake) = attached();
    let (one, two) = (Group(GD), Group(GD + 1));
    application.shared().endpoint.borrow_mut().add_group(two, 1);
    let both = GroupSet::from([one, two]);
    let now = Some(Duration::ZERO);
    assert!(inbox.select(&both, &both, now).unwrap().is_empty());

    fake.data(connection(0, 1), 0, b"x");
    fake.workers[0].tell_of(kind::ACCEPTABLE, Connection { gd: two.0, ..connection(0, 2) });
    let ready = inbox.select(&both, &both, None).unwrap();
    assert_eq!(ready.readable, GroupSet::from([one]));
    assert_eq!(ready.acceptable, GroupSet::from([two]));
    assert!(inbox.select(&GroupSet::from([two]), &GroupSet::from([one]), now).unwrap().is_empty());
    assert!(inbox.accept(two).unwrap().is_some());
    assert!(inbox.select(&GroupSet::new(), &both, now).unwrap().is_empty());

    application.shared().endpoint.borrow_mut().remove_group(two);
    assert!(matches!(inbox.select(&both, &both, now), Err(Error::NoSuchGroup)));
}

#[test]
fn a_loop_of_ones_own_is_woken_through_the_file() {
    let (_application, mut inbox, mut fake) = attached();
    assert!(inbox.arm().unwrap());
    fake.data(connection(0, 1), 0, b"x");
    let mut fds = [PollFd::new(&inbox, PollFlags::IN)];
    assert_eq!(poll(&mut fds, None).unwrap(), 1);
    assert_eq!(seen(&mut inbox).len(), 1);
    assert!(inbox.arm().unwrap(), "the bell was emptied and nothing is there");
    let mut fds = [PollFd::from_borrowed_fd(inbox.as_fd(), PollFlags::IN)];
    let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(poll(&mut fds, Some(&at_once)).unwrap(), 0);
    fake.data(connection(0, 1), 1, b"y");
    assert!(!inbox.arm().unwrap(), "something is there: do not sleep");
}

#[test]
fn select_leaves_lower_priorities_out_but_not_for_ever() {
    let (application, mut inbox, mut fake) = attached();
    let (low, high) = (Group(GD), Group(GD + 1));
    application.shared().endpoint.borrow_mut().add_group(high, 3);
    let both = GroupSet::from([low, high]);
    fake.data(connection(0, 1), 0, b"x");
    fake.data(Connection { gd: high.0, ..connection(0, 2) }, 0, b"x");
    let mut found = Vec::new();
    for _ in 0..17 {
        found.push(inbox.select(&both, &GroupSet::new(), None).unwrap().readable);
    }
    assert!(found[..16].iter().all(|ready| *ready == GroupSet::from([high])));
    assert_eq!(found[16], both);
    assert_eq!(inbox.select(&GroupSet::from([low]), &both, None).unwrap().readable.len(), 1);
}

#[test]
fn what_is_of_a_higher_priority_is_received_first() {
    let (application, mut inbox, mut fake) = attached();
    let high = Group(GD + 1);
    application.shared().endpoint.borrow_mut().add_group(high, 2);
    let urgent = Connection { gd: high.0, ..connection(0, 2) };
    fake.data(connection(0, 1), 0, b"x");
    fake.data(urgent, 0, b"x");
    let first = |event: &Seen| matches!(event, Seen::Request(of, ..) if *of == urgent);
    assert!(first(&seen(&mut inbox)[0]));
}

#[test]
fn the_end_of_a_drained_group_is_told_once_when_every_worker_has_said_so() {
    let (_application, mut inbox, mut fake) = attached();
    let drained = |worker: u8| {
        let cd = u64::from(worker) << 32;
        Notice { kind: kind::DRAINED, gd: GD, cd, ..Notice::default() }
    };
    let last = connection(1, 3);
    let closed = Notice { kind: kind::CLOSED, gd: GD, cd: last.cd, ..Notice::default() };
    fake.workers[0].tell(drained(0));
    fake.workers[0].tell(drained(0));
    assert_eq!(seen(&mut inbox), []);
    fake.workers[1].tell(closed);
    fake.workers[1].tell(drained(1));
    let told = seen(&mut inbox);
    assert_eq!(told.len(), 2);
    assert_eq!(told[1], Seen::Other(format!("GroupDrained({:?})", Group(GD))));
    fake.workers[1].tell(drained(1));
    assert_eq!(seen(&mut inbox), []);
}

/// Two pools of one thread, slept on together; each has its own groups and handles.
#[test]
fn a_thread_sleeps_on_several_pools_at_once() {
    let mut pools = [attached(), attached()];
    let sleep = |pools: &mut [(Application, Inbox, Fake); 2]| {
        let armed: Vec<bool> = pools.iter_mut().map(|(_, inbox, _)| inbox.arm().unwrap()).collect();
        assert_eq!(armed, [true, true]);
    };
    for which in [1, 0, 1] {
        sleep(&mut pools);
        let offset = pools[which].2.next[0];
        let [(_, one, _), (_, two, _)] = &mut pools;
        let mut files = [PollFd::new(one, PollFlags::IN), PollFd::new(two, PollFlags::IN)];
        assert_eq!(
            poll(&mut files, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })),
            Ok(0)
        );
        let from = connection(0, offset as u32);
        pools[which].2.data(from, 0, b"x");
        let [(_, one, _), (_, two, _)] = &mut pools;
        let mut files = [PollFd::new(one, PollFlags::IN), PollFd::new(two, PollFlags::IN)];
        assert_eq!(poll(&mut files, None), Ok(1));
        let rung = files.iter().position(|file| !file.revents().is_empty());
        assert_eq!(rung, Some(which));
        assert_eq!(seen(&mut pools[which].1), [Seen::Request(from, 0, b"x".to_vec())]);
        assert_eq!(seen(&mut pools[1 - which].1), []);
    }
}

/// A handle of one pool is nothing to another, of this thread or the next.
#[test]
fn threads_have_pools_of_their_own() {
    let threads: Vec<_> = (0..3_u32)
        .map(|number| {
            thread::spawn(move || {
                let (application, mut inbox, mut fake) = attached();
                let group = Group(GD + 1 + number);
                application.shared().endpoint.borrow_mut().add_group(group, 1);
                let mine = Connection { gd: group.0, ..connection(0, number) };
                for turn in 0..100_u64 {
                    fake.data(mine, turn, &[number as u8]);
                    with_request(&mut inbox, |mut request| {
                        assert_eq!(&*request.contiguous(), [number as u8]);
                        request.acknowledge(1).unwrap();
                    });
                    assert_eq!(settle(&mut inbox, &mut fake).len(), 1);
                }
                for other in (0..3).filter(|other| *other != number) {
                    let foreign = Connection { gd: GD + 1 + other, ..connection(0, other) };
                    assert_eq!(application.send(foreign, b"x"), Err(crate::SendError::Closed));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// What select and receive look at for an event depends on the groups that are ready.
#[test]
fn an_event_costs_the_same_among_a_thousand_groups() {
    let cost = |groups: u32| {
        let (application, mut inbox, mut fake) = attached();
        for more in 1..groups {
            application.shared().endpoint.borrow_mut().add_group(Group(GD + more), 1);
        }
        let all: GroupSet = (0..groups).map(|more| Group(GD + more)).collect();
        let from = Connection { gd: GD + groups / 2, ..connection(0, 1) };
        let mut exchange = |offset: u64| {
            let before = application.shared().endpoint.borrow().looked_at();
            fake.data(from, offset, b"x");
            assert_eq!(inbox.select(&all, &all, None).unwrap().readable.len(), 1);
            with_request(&mut inbox, |mut request| request.answer(1, b"y").unwrap());
            assert!(inbox.select(&all, &all, Some(Duration::ZERO)).unwrap().is_empty());
            fake.workers[0].take();
            application.shared().endpoint.borrow().looked_at() - before
        };
        // The set is looked through once.
        exchange(0);
        (1..20).map(exchange).sum::<u64>()
    };
    let one = cost(1);
    assert_eq!(cost(1000), one);
    assert!(one < 19 * 40, "{one} groups looked at for 19 exchanges");
}

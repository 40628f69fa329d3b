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
    application.shared().endpoint.borrow_mut().add_group(two);
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

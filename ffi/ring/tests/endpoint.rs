//! An endpoint's memory seen from both sides, in one process and without the kernel where possible.
#![cfg(not(loom))]

use std::thread;
use std::time::Duration;

use xtcp_ring::layout::{PARKED, VERSION, flag, kind, op};
use xtcp_ring::ring::ParkFlag;
use xtcp_ring::{
    ApplicationChannel, DataplaneChannel, EndpointLayout, Mapping, Notice, OutOfArea, Ringer,
    Sleeper, Submission, Unfit, Woken, bell,
};

const LAYOUT: EndpointLayout =
    EndpointLayout { workers: 2, submissions: 8, notices: 16, arena_bytes: 8192 };

fn endpoint() -> Mapping {
    let mapping = Mapping::private(LAYOUT.total_bytes());
    LAYOUT.prepare(&mapping).expect("a header");
    mapping
}

#[test]
fn a_request_and_its_answer() {
    let memory = endpoint();
    for worker in 0..2 {
        let mut dataplane = DataplaneChannel::open(&memory, &LAYOUT, worker).expect("a channel");
        let mut application =
            ApplicationChannel::open(&memory, &LAYOUT, worker).expect("a channel");

        let notice =
            Notice { kind: kind::DATA, len: 5, gd: 7, cd: 9, at: 4096, ..Notice::default() };
        dataplane.notices.push(&notice).expect("room");
        dataplane.notices.publish();
        assert_eq!(application.notices.pop(), Ok(Some(notice)));
        application.notices.release();

        application.arena.write(100, b"answer").expect("inside");
        let submission = Submission {
            op: op::SEND,
            flags: flag::ACKNOWLEDGE,
            gd: 7,
            cd: 9,
            offset: 5,
            at: 100,
            len: 6,
            ..Submission::default()
        };
        application.submissions.push(&submission).expect("room");
        application.submissions.publish();
        assert_eq!(dataplane.submissions.pop(), Ok(Some(submission)));
        let mut answer = [0; 6];
        dataplane.arena.copy_out(100, &mut answer).expect("inside");
        assert_eq!(&answer, b"answer");
        assert_eq!(application.submissions.consumed(), Ok(0), "the arena is not free yet");
        dataplane.submissions.release();
        assert_eq!(application.submissions.consumed(), Ok(1));
    }
}

#[test]
fn workers_do_not_see_each_other() {
    let memory = endpoint();
    let mut first = ApplicationChannel::open(&memory, &LAYOUT, 0).expect("a channel");
    first.arena.write(8191, b"x").expect("the last byte");
    first.submissions.push(&Submission { op: op::ABORT, ..Submission::default() }).expect("room");
    first.submissions.publish();
    let mut second = DataplaneChannel::open(&memory, &LAYOUT, 1).expect("a channel");
    assert_eq!(second.submissions.pop(), Ok(None));
    let mut all = [0; 8192];
    second.arena.copy_out(0, &mut all).expect("inside");
    assert_eq!(all, [0; 8192]);
}

#[test]
fn offsets_outside_the_arena_are_refused() {
    let memory = endpoint();
    let dataplane = DataplaneChannel::open(&memory, &LAYOUT, 1).expect("a channel");
    let mut application = ApplicationChannel::open(&memory, &LAYOUT, 1).expect("a channel");
    let mut bytes = [0xaa; 16];
    for at in [8177, 8192, u32::MAX - 15, u32::MAX] {
        let refused = Err(OutOfArea { at, len: 16, of: 8192 });
        assert_eq!(dataplane.arena.copy_out(at, &mut bytes), refused);
        assert_eq!(application.arena.write(at, &bytes), refused);
    }
    assert_eq!(bytes, [0xaa; 16], "nothing was copied");
    assert_eq!(dataplane.arena.copy_out(8176, &mut bytes), Ok(()));
    assert_eq!(dataplane.arena.copy_out(8192, &mut []), Ok(()));
    assert!(dataplane.arena.check(0, usize::MAX).is_err());
    // Nothing is fetched that lies outside, and nothing is said of it.
    for (at, len) in [(0, 0), (8191, 1), (100, 8000), (8177, 16), (1, u32::MAX), (u32::MAX, 1)] {
        dataplane.arena.prefetch(at, len);
    }
}

#[test]
fn memory_that_does_not_fit_its_layout_is_refused() {
    let memory = endpoint();
    let larger = EndpointLayout { notices: 1024, ..LAYOUT };
    let outside = Unfit::Outside { at: 0, bytes: larger.total_bytes(), of: memory.len() };
    assert_eq!(DataplaneChannel::open(&memory, &larger, 0).map(drop), Err(outside));
    let nobody = DataplaneChannel::open(&memory, &LAYOUT, 2).map(drop);
    assert_eq!(nobody, Err(Unfit::NoSuchWorker(2, 2)));
    let odd = EndpointLayout { submissions: 9, ..LAYOUT };
    assert_eq!(ApplicationChannel::open(&memory, &odd, 0).map(drop), Err(Unfit::Capacity(9)));
}

#[test]
fn an_application_of_another_version_is_told() {
    let blank = Mapping::private(LAYOUT.total_bytes());
    let refused = ApplicationChannel::open(&blank, &LAYOUT, 0).map(drop);
    assert_eq!(refused, Err(Unfit::Version(0, 0)));
    let old = Unfit::Version(xtcp_ring::layout::MAGIC, VERSION + 1);
    let sentence = format!(
        "the appliance speaks version {} and this program {VERSION}: build both alike",
        VERSION + 1
    );
    assert_eq!(old.to_string(), sentence);
    // The dataplane does not look: the application could have written there.
    assert!(DataplaneChannel::open(&blank, &LAYOUT, 0).is_ok());
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_bell_rings_only_for_a_sleeper() {
    let memory = endpoint();
    let (near, far) = bell::pair().expect("a bell");
    let ringer = Ringer::open(&memory, near).expect("a ringer");
    let sleeper = Sleeper::open(&memory, far).expect("a sleeper");
    assert!(!ringer.ring_if_parked());
    sleeper.announce();
    assert!(ringer.ring_if_parked());
    assert!(!ringer.ring_if_parked(), "once per sleep");
    sleeper.awake();
    let limit = Some(Duration::ZERO);
    assert_eq!(sleeper.park(|| false, None, limit).expect("slept"), Woken::TimedOut);
    assert_eq!(sleeper.park(|| true, None, None).expect("not slept"), Woken::Ready);
    assert!(!ringer.ring_if_parked(), "awake again");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_sleeper_wakes_for_its_worker() {
    let memory = endpoint();
    let (near, far) = bell::pair().expect("a bell");
    let ringer = Ringer::open(&memory, near).expect("a ringer");
    let sleeper = Sleeper::open(&memory, far).expect("a sleeper");
    let mut dataplane = DataplaneChannel::open(&memory, &LAYOUT, 0).expect("a channel");
    let mut application = ApplicationChannel::open(&memory, &LAYOUT, 0).expect("a channel");
    let rounds = 10_000;
    let worker = thread::spawn(move || {
        for round in 0..rounds {
            let notice = Notice { kind: kind::OPENED, cd: round, ..Notice::default() };
            while dataplane.notices.push(&notice).is_err() {
                thread::yield_now();
            }
            dataplane.notices.publish();
            ringer.ring_if_parked();
        }
    });
    let mut expected = 0;
    while expected < rounds {
        while let Some(notice) = application.notices.pop().expect("an honest worker") {
            assert_eq!(notice.cd, expected);
            expected += 1;
        }
        application.notices.release();
        if expected < rounds {
            let ready = || application.notices.available().expect("an honest worker") > 0;
            let limit = Some(Duration::from_secs(60));
            let woken = sleeper.park(ready, None, limit).expect("slept");
            assert_ne!(woken, Woken::TimedOut, "a wake-up was lost");
        }
    }
    worker.join().expect("the worker ends");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_sleeper_sees_its_lifeline_end() {
    let memory = endpoint();
    let (_near, far) = bell::pair().expect("a bell");
    let sleeper = Sleeper::open(&memory, far).expect("a sleeper");
    let (dataplanes, ours) = bell::lifeline().expect("a lifeline");
    let watched = Some(std::os::fd::AsFd::as_fd(&ours));
    let now = Some(Duration::ZERO);
    assert_eq!(sleeper.park(|| false, watched, now).expect("slept"), Woken::TimedOut);
    drop(dataplanes);
    let limit = Some(Duration::from_secs(60));
    assert_eq!(sleeper.park(|| false, watched, limit).expect("slept"), Woken::Watched);
}

/// An application that always seems to sleep and never empties its bell cannot stop a worker, not
/// even by taking `O_NONBLOCK` off its own end.
#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_hostile_sleeper_cannot_block_the_worker() {
    let memory = endpoint();
    let (near, far) = bell::pair().expect("a bell");
    rustix::fs::fcntl_setfl(&far, rustix::fs::OFlags::empty()).expect("blocking");
    rustix::fs::fcntl_setfl(&near, rustix::fs::OFlags::empty()).expect("blocking");
    let ringer = Ringer::open(&memory, near).expect("a ringer");
    let asleep = ParkFlag::new(&memory, PARKED).expect("the flag");
    let mut rang = 0;
    for _ in 0..100_000 {
        asleep.park();
        rang += u32::from(ringer.ring_if_parked());
    }
    assert!(rang < 100_000, "the bell never filled, so the test has shown nothing");
    drop(far);
    asleep.park();
    assert!(!ringer.ring_if_parked(), "nobody is there any more, and no SIGPIPE");
}

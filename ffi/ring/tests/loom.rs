//! Every interleaving of the rings' and the bell's atomics, within loom's bounds.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p xtcp-ring --release --test loom`
#![cfg(loom)]

use loom::thread;
use xtcp_ring::ring::{Full, ParkFlag, pair};

/// Entries arrive once, in order and whole, over a wrap of the positions and of the ring.
#[test]
fn entries_arrive_once_and_in_order() {
    loom::model(|| {
        let (mut producer, mut consumer) = pair::<u64>(2, u32::MAX);
        let sender = thread::spawn(move || {
            for value in 1..=3u64 {
                while producer.push(&value) == Err(Full) {
                    thread::yield_now();
                }
                producer.publish();
            }
        });
        for expected in 1..=3 {
            loop {
                match consumer.pop().expect("an honest producer") {
                    Some(value) => {
                        assert_eq!(value, expected);
                        consumer.release();
                        break;
                    }
                    None => thread::yield_now(),
                }
            }
        }
        sender.join().expect("the sender ends");
    });
}

/// A batch becomes visible as a whole and its places are not reused before they are released.
#[test]
fn batches_are_published_and_released_together() {
    loom::model(|| {
        let (mut producer, mut consumer) = pair::<u64>(2, 0);
        let sender = thread::spawn(move || {
            assert_eq!(producer.push(&1), Ok(()));
            assert_eq!(producer.push(&2), Ok(()));
            producer.publish();
            while producer.push(&3) == Err(Full) {
                thread::yield_now();
            }
            producer.publish();
        });
        while consumer.available().expect("an honest producer") == 0 {
            thread::yield_now();
        }
        assert_eq!(consumer.pop(), Ok(Some(1)));
        assert_eq!(consumer.pop(), Ok(Some(2)));
        consumer.release();
        while consumer.available().expect("an honest producer") == 0 {
            thread::yield_now();
        }
        assert_eq!(consumer.pop(), Ok(Some(3)));
        sender.join().expect("the sender ends");
    });
}

/// A reader never sleeps on an entry: either it sees the entry or the writer sees it park.
#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let (mut producer, mut consumer) = pair::<u64>(2, 0);
        let (reader, writer) = ParkFlag::modelled();
        let sender = thread::spawn(move || {
            assert_eq!(producer.push(&1), Ok(()));
            producer.publish();
            writer.take()
        });
        reader.park();
        let sleeps = consumer.available().expect("an honest producer") == 0;
        let rung = sender.join().expect("the sender ends");
        assert!(!sleeps || rung, "asleep, and nobody rings");
    });
}

/// Two workers, one sleeper: it is rung exactly once when it sleeps on both.
#[test]
fn one_of_two_workers_rings() {
    loom::model(|| {
        let (mut first, mut from_first) = pair::<u64>(1, 0);
        let (mut second, mut from_second) = pair::<u64>(1, 0);
        let (reader, flag) = ParkFlag::modelled();
        let flag = loom::sync::Arc::new(flag);
        let shared = flag.clone();
        let one = thread::spawn(move || {
            assert_eq!(first.push(&1), Ok(()));
            first.publish();
            shared.take()
        });
        let other = thread::spawn(move || {
            assert_eq!(second.push(&2), Ok(()));
            second.publish();
            flag.take()
        });
        reader.park();
        let nothing = |ring: &mut xtcp_ring::Consumer<u64>| ring.available() == Ok(0);
        let sleeps = nothing(&mut from_first) && nothing(&mut from_second);
        let rung = [one, other].map(|worker| worker.join().expect("a worker ends"));
        assert!(!(rung[0] && rung[1]), "rung twice for one sleep");
        assert!(!sleeps || rung[0] || rung[1], "asleep, and nobody rings");
    });
}

use std::collections::VecDeque;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::memory::Mapping;

/// Fewer and smaller cases where every memory access is checked.
const CASES: u32 = if cfg!(miri) { 8 } else { 512 };

fn ring(capacity: u32, start: u32) -> (Producer<[u64; 2]>, Consumer<[u64; 2]>) {
    let mapping = Mapping::private(ring_bytes(capacity, 16));
    let producer = Producer::starting_at(&mapping, 0, capacity, start).expect("the ring fits");
    let consumer = Consumer::starting_at(&mapping, 0, capacity, start).expect("the ring fits");
    producer.place.producer().store(start, Ordering::Release);
    consumer.place.consumer().store(start, Ordering::Release);
    (producer, consumer)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u32),
    Publish,
    Pop(u32),
    Release,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1u32..20).prop_map(Step::Push),
        Just(Step::Publish),
        (1u32..20).prop_map(Step::Pop),
        Just(Step::Release),
    ];
    prop::collection::vec(step, 1..if cfg!(miri) { 30 } else { 200 })
}

/// What a ring is: entries pushed, published, popped, and places not yet released.
struct Oracle {
    capacity: u32,
    pushed: VecDeque<u64>,
    published: VecDeque<u64>,
    held: u32,
    next: u64,
}

impl Oracle {
    fn room(&self) -> u32 {
        self.capacity - self.held - (self.pushed.len() + self.published.len()) as u32
    }
}

fn step(
    oracle: &mut Oracle,
    producer: &mut Producer<[u64; 2]>,
    consumer: &mut Consumer<[u64; 2]>,
    step: Step,
) -> Result<(), TestCaseError> {
    match step {
        Step::Push(count) => {
            for _ in 0..count {
                let entry = [oracle.next, !oracle.next];
                let expected = if oracle.room() == 0 { Err(Full) } else { Ok(()) };
                prop_assert_eq!(producer.push(&entry), expected);
                if expected.is_ok() {
                    oracle.pushed.push_back(oracle.next);
                    oracle.next += 1;
                }
            }
        }
        Step::Publish => {
            producer.publish();
            oracle.published.append(&mut oracle.pushed);
        }
        Step::Pop(count) => {
            for _ in 0..count {
                let expected = oracle.published.pop_front();
                oracle.held += u32::from(expected.is_some());
                prop_assert_eq!(consumer.pop(), Ok(expected.map(|value| [value, !value])));
            }
        }
        Step::Release => {
            consumer.release();
            oracle.held = 0;
        }
    }
    prop_assert_eq!(producer.room(), Ok(oracle.room()));
    // What is known without a look may be less than there is, and is none only if there is none.
    let there = oracle.published.len() as u32;
    let known = consumer.known();
    prop_assert!(
        known.is_ok_and(|known| known <= there && (known > 0) == (there > 0)),
        "{known:?}"
    );
    prop_assert_eq!(consumer.available(), Ok(there));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() })]

    #[test]
    fn behaves_as_a_queue(
        exponent in 0u32..6,
        before_wrap in 0u32..100,
        steps in steps(),
    ) {
        let capacity = 1 << exponent;
        let (mut producer, mut consumer) = ring(capacity, 0u32.wrapping_sub(before_wrap));
        let mut oracle = Oracle {
            capacity,
            pushed: VecDeque::new(),
            published: VecDeque::new(),
            held: 0,
            next: 0,
        };
        for one in steps {
            step(&mut oracle, &mut producer, &mut consumer, one)?;
        }
    }

    #[test]
    fn a_producer_that_lies_is_found_out(
        exponent in 0u32..6,
        own: u32,
        claim in prop_oneof![any::<u32>(), (0u32..100).prop_map(|near| near.wrapping_sub(50))],
    ) {
        let capacity = 1 << exponent;
        let (producer, mut consumer) = ring(capacity, own);
        let claimed = own.wrapping_add(claim);
        producer.place.producer().store(claimed, Ordering::Release);
        if claim > capacity {
            prop_assert_eq!(consumer.pop(), Err(Corrupt { own, claimed }));
            prop_assert_eq!(consumer.position(), own);
        } else {
            // Entries nobody wrote are nonsense, but exactly as many as claimed.
            for _ in 0..claim {
                prop_assert!(consumer.pop().expect("a possible claim").is_some());
            }
            prop_assert_eq!(consumer.pop(), Ok(None));
        }
    }

    #[test]
    fn a_consumer_that_lies_is_found_out(
        exponent in 0u32..6,
        own: u32,
        pushed in 0u32..64,
        claim in prop_oneof![any::<u32>(), 0u32..100],
    ) {
        let capacity = 1 << exponent;
        let pushed = pushed.min(capacity);
        let (mut producer, consumer) = ring(capacity, own);
        for _ in 0..pushed {
            prop_assert_eq!(producer.push(&[0, 0]), Ok(()));
        }
        producer.publish();
        // Claims to have read from `own - capacity` on: what was never written, or far behind.
        let claimed = own.wrapping_add(claim);
        consumer.place.consumer().store(claimed, Ordering::Release);
        let position = own.wrapping_add(pushed);
        if position.wrapping_sub(claimed) > capacity {
            let corrupt = Corrupt { own: position, claimed };
            prop_assert_eq!(producer.room(), Err(corrupt));
            prop_assert_eq!(producer.consumed(), Err(corrupt));
        } else {
            prop_assert_eq!(producer.room(), Ok(capacity - position.wrapping_sub(claimed)));
        }
    }
}

/// A full ring whose consumer lies stays full: nothing is overwritten on a liar's word.
#[test]
fn a_liar_makes_no_room() {
    let (mut producer, consumer) = ring(4, 7);
    for value in 0..4 {
        assert_eq!(producer.push(&[value, 0]), Ok(()));
    }
    consumer.place.consumer().store(100, Ordering::Release);
    assert_eq!(producer.push(&[9, 9]), Err(Full));
    assert_eq!(producer.room(), Err(Corrupt { own: 11, claimed: 100 }));
    consumer.place.consumer().store(8, Ordering::Release);
    assert_eq!(producer.push(&[9, 9]), Ok(()));
}

/// A position that jumps back within what was claimed before cannot make old entries come again.
#[test]
fn a_producer_cannot_go_back() {
    let (mut producer, mut consumer) = ring(4, 0);
    for value in 0..3 {
        assert_eq!(producer.push(&[value, 0]), Ok(()));
    }
    producer.publish();
    for value in 0..3 {
        assert_eq!(consumer.pop(), Ok(Some([value, 0])));
    }
    producer.place.producer().store(1, Ordering::Release);
    assert_eq!(consumer.pop(), Err(Corrupt { own: 3, claimed: 1 }));
}

#[test]
fn two_threads_pass_every_entry_once_and_in_order() {
    let count: u64 = if cfg!(miri) { 300 } else { 300_000 };
    let (mut producer, mut consumer) = ring(8, u32::MAX - 1000);
    let sender = thread::spawn(move || {
        for value in 0..count {
            while producer.push(&[value, !value]) == Err(Full) {
                producer.publish();
                thread::yield_now();
            }
        }
        producer.publish();
    });
    let mut expected = 0;
    while expected < count {
        match consumer.pop().expect("an honest producer") {
            Some(entry) => {
                assert_eq!(entry, [expected, !expected]);
                expected += 1;
            }
            None => {
                consumer.release();
                thread::yield_now();
            }
        }
    }
    sender.join().expect("the sender ends");
    assert_eq!(consumer.pop(), Ok(None));
}

#[test]
fn rings_that_do_not_fit_are_refused() {
    use crate::layout::Unfit;
    let mapping = Mapping::private(4096);
    assert!(Producer::<u64>::new(&mapping, 0, 256).is_ok());
    let too_large = Producer::<u64>::new(&mapping, 0, 512).map(drop);
    assert_eq!(too_large, Err(Unfit::Outside { at: 0, bytes: 256 + 4096, of: 4096 }));
    let crooked = Consumer::<u64>::new(&mapping, 8, 2).map(drop);
    assert_eq!(crooked, Err(Unfit::Outside { at: 8, bytes: 272, of: 4096 }));
    let far = Consumer::<u64>::new(&mapping, usize::MAX - 63, 2).map(drop);
    assert_eq!(far, Err(Unfit::Outside { at: usize::MAX - 63, bytes: 272, of: 4096 }));
    for capacity in [0, 3, 1 << 21] {
        let odd = Producer::<u64>::new(&mapping, 0, capacity).map(drop);
        assert_eq!(odd, Err(Unfit::Capacity(capacity)));
    }
}

#[test]
fn the_flag_is_taken_once_per_sleep() {
    let mapping = Mapping::private(4096);
    let reader = ParkFlag::new(&mapping, 64).expect("inside");
    let writer = ParkFlag::new(&mapping, 64).expect("inside");
    assert!(!writer.take());
    reader.park();
    assert!(writer.take());
    assert!(!writer.take());
    reader.park();
    reader.unpark();
    assert!(!writer.take());
}

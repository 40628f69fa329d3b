//! A hashed timer wheel of record indices: arming, moving and disarming cost a few memory accesses.
//!
//! Slots of about a millisecond, 4,096 of them; a deadline further than one turn (4.3 s) away is
//! met once a turn and left where it is. Only records with something to wait for stand in it:
//! idle connections cost nothing (design law 4).

use super::slots::NONE;
use crate::time::Instant;

/// Nanoseconds per slot, as a power of two: 1.05 ms.
const TICK_SHIFT: u32 = 20;
const SLOTS: usize = 4096;

/// A record's place in the wheel; all zero when it is in none.
pub(crate) trait Timed {
    /// `(next, prev, tick)` of the record.
    fn place(&mut self) -> &mut Place;
}

/// See [`Timed`].
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
)]
#[repr(C)]
pub(crate) struct Place {
    next: u32,
    prev: u32,
    /// The tick it is due at; 0 when it stands in no slot.
    tick: u64,
}

pub(crate) struct Wheel<'m> {
    slots: &'m mut [u32],
    /// One bit per slot that is not empty.
    occupied: [u64; SLOTS / 64],
    /// Every tick up to this one was served.
    served: u64,
    /// Where the walk over the next tick's slot goes on; `NONE`: it begins.
    resume: u32,
}

impl<'m> Wheel<'m> {
    pub(crate) const SLOTS: usize = SLOTS;

    pub(crate) fn new(slots: &'m mut [u32], now: Instant) -> Self {
        let served = now.as_nanos() >> TICK_SHIFT;
        Self { slots, occupied: [0; SLOTS / 64], served, resume: NONE }
    }

    /// Sees that `index` fires at `deadline` or, when it already fires earlier, then: whoever is
    /// woken too early arms again. So moving a deadline back, as every acknowledgement does,
    /// costs nothing.
    #[inline]
    pub(crate) fn arm<T: Timed>(&mut self, table: &mut [T], index: u32, deadline: Instant) {
        let tick = (deadline.as_nanos() >> TICK_SHIFT).saturating_add(1).max(self.served + 1);
        let armed = table[index as usize].place().tick;
        if armed == 0 || armed > tick {
            self.arm_at(table, index, tick);
        }
    }

    fn arm_at<T: Timed>(&mut self, table: &mut [T], index: u32, tick: u64) {
        self.disarm(table, index);
        let slot = slot_of(tick);
        let next = self.slots[slot];
        *table[index as usize].place() = Place { next, prev: NONE, tick };
        if next != NONE {
            table[next as usize].place().prev = index;
        }
        self.slots[slot] = index;
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    pub(crate) fn disarm<T: Timed>(&mut self, table: &mut [T], index: u32) {
        let Place { next, prev, tick } = core::mem::take(table[index as usize].place());
        if tick == 0 {
            return;
        }
        if next != NONE {
            table[next as usize].place().prev = prev;
        }
        if prev != NONE {
            table[prev as usize].place().next = next;
            return;
        }
        let slot = slot_of(tick);
        self.slots[slot] = next;
        if next == NONE {
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
    }

    /// The next record that is due, taken out of the wheel; call until `None`.
    ///
    /// After a jump of the clock every slot is visited once, not once per tick passed. A slot is walked
    /// twice at most, however many of it are due: those that are not are passed, and then looked at once
    /// more, since what was armed meanwhile stands before them.
    pub(crate) fn expired<T: Timed>(&mut self, table: &mut [T], now: Instant) -> Option<u32> {
        let tick_now = now.as_nanos() >> TICK_SHIFT;
        self.served = self.served.max(tick_now.saturating_sub(SLOTS as u64));
        while self.served < tick_now {
            let slot = slot_of(self.served + 1);
            let resumed = core::mem::replace(&mut self.resume, NONE);
            let mut index = if resumed == NONE { self.slots[slot] } else { resumed };
            while index != NONE {
                let Place { next, tick, .. } = *table[index as usize].place();
                if (1..=tick_now).contains(&tick) {
                    self.disarm(table, index);
                    self.resume = next;
                    return Some(index);
                }
                index = next;
            }
            if resumed != NONE {
                continue;
            }
            self.served = self.next_occupied(self.served + 1).min(tick_now + 1) - 1;
        }
        None
    }

    /// When [`Self::expired`] may next have something to say.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.occupied.iter().all(|&word| word == 0) {
            return None;
        }
        let tick = self.next_occupied(self.served);
        Some(Instant::from_nanos(tick << TICK_SHIFT))
    }

    /// The first tick after `tick` whose slot is not empty; one turn later when all are.
    fn next_occupied(&self, tick: u64) -> u64 {
        let mut ahead = 1;
        while ahead <= SLOTS as u64 {
            let slot = slot_of(tick + ahead);
            let word = self.occupied[slot / 64] >> (slot % 64);
            if word != 0 {
                return tick + ahead + u64::from(word.trailing_zeros());
            }
            ahead += 64 - (slot % 64) as u64;
        }
        tick + SLOTS as u64
    }
}

fn slot_of(tick: u64) -> usize {
    (tick % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use proptest::prelude::*;

    struct Record(Place);

    impl Timed for Record {
        fn place(&mut self) -> &mut Place {
            &mut self.0
        }
    }

    proptest! {
        /// Every record fires at its deadline or, since arming never moves one back, earlier;
        /// none fires early by more than that, none late by more than a tick, none is lost.
        #[test]
        fn fires_each_once_and_in_time(
            arms in proptest::collection::vec((1_u32..20, 0_u64..12_000), 1..60),
            steps in proptest::collection::vec(1_u64..3_000, 1..40),
        ) {
            let mut slots = vec![0; SLOTS];
            let mut wheel = Wheel::new(&mut slots, Instant::ZERO);
            let mut table: Vec<Record> = (0..20).map(|_| Record(Place::default())).collect();
            let mut due: [Option<u64>; 20] = [None; 20];
            for (index, ms) in arms {
                wheel.arm(&mut table, index, Instant::from_millis(ms));
                let own = &mut due[index as usize];
                *own = Some(own.map_or(ms, |old| old.min(ms)));
            }
            let mut now = 0;
            for step in steps.into_iter().chain([20_000]) {
                now += step;
                if let Some(next) = wheel.next() {
                    let earliest = due.iter().flatten().min().unwrap();
                    prop_assert!(next.as_millis() <= earliest + 2);
                }
                while let Some(index) = wheel.expired(&mut table, Instant::from_millis(now)) {
                    let ms = due[index as usize].take().expect("armed");
                    prop_assert!(ms <= now);
                }
                prop_assert!(due.iter().flatten().all(|&ms| ms + 3 > now), "late: {:?}", due);
            }
            prop_assert!(wheel.next().is_none());
        }
    }

    /// A record that counts how often it is looked at.
    struct Counted {
        place: Place,
        looks: u32,
    }

    impl Timed for Counted {
        fn place(&mut self) -> &mut Place {
            self.looks += 1;
            &mut self.place
        }
    }

    /// Those whose time is turns away are passed once a turn, however many are due between them.
    #[test]
    fn the_late_are_not_looked_at_for_each_that_is_due() {
        const COUNT: u32 = 2_000;
        let mut slots = vec![0; SLOTS];
        let mut wheel = Wheel::new(&mut slots, Instant::ZERO);
        let mut table: Vec<Counted> =
            (0..COUNT).map(|_| Counted { place: Place::default(), looks: 0 }).collect();
        let turn = (SLOTS as u64) << TICK_SHIFT;
        for index in 1..COUNT {
            let turns = u64::from(index % 2) * 8;
            wheel.arm(&mut table, index, Instant::from_nanos((1 << TICK_SHIFT) + turns * turn));
        }
        table.iter_mut().for_each(|record| record.looks = 0);
        let now = Instant::from_nanos(4 << TICK_SHIFT);
        let first = wheel.expired(&mut table, now).expect("one is due");
        // What is armed meanwhile for a time that has passed is due with the others.
        wheel.arm(&mut table, first, Instant::ZERO);
        let due: Vec<u32> = core::iter::from_fn(|| wheel.expired(&mut table, now)).collect();
        assert!(due.contains(&first));
        assert_eq!(due.len() as u32, (COUNT - 1) / 2);
        let looks: u32 = table.iter().map(|record| record.looks).sum();
        assert!(looks < 8 * COUNT, "{looks}");
    }
}

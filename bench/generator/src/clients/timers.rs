//! Retransmission timers: a wheel of milliseconds whose slots are lists of client numbers.
//!
//! A client stands in one slot at most and stays there until its time comes; whoever is called too
//! early, because its timer was stopped or set back, is put in again or let go. So an exchange
//! without loss touches the wheel only when its client is not in it.

/// Slots, one for each millisecond; longer times go round.
const SLOTS: usize = 4096;

/// The wheel.
#[derive(Debug)]
pub(crate) struct Wheel {
    slots: Vec<Vec<u32>>,
    /// The millisecond whose slot comes next.
    next: u32,
    /// The slot in hand, and how far it has been worked off.
    hand: Vec<u32>,
    done: usize,
}

impl Wheel {
    pub(crate) fn new(now: u32) -> Self {
        Self { slots: vec![Vec::new(); SLOTS], next: now, hand: Vec::new(), done: 0 }
    }

    /// Puts a client in, to be called at `at` or, beyond the wheel's turn, earlier.
    pub(crate) fn insert(&mut self, number: u32, at: u32) {
        let wait = at.wrapping_sub(self.next);
        // What is due already comes with the next slot.
        let wait = if wait as i32 >= 0 { wait.min(SLOTS as u32 - 1) } else { 0 };
        self.slots[self.next.wrapping_add(wait) as usize % SLOTS].push(number);
    }

    /// Takes up to `called.len()` clients whose millisecond is over; says how many.
    pub(crate) fn take(&mut self, now: u32, called: &mut [u32]) -> usize {
        loop {
            if self.done < self.hand.len() {
                let rest = &self.hand[self.done..];
                let count = rest.len().min(called.len());
                called[..count].copy_from_slice(&rest[..count]);
                self.done += count;
                return count;
            }
            if self.next.wrapping_sub(now) as i32 > 0 {
                return 0;
            }
            self.hand.clear();
            self.done = 0;
            std::mem::swap(&mut self.hand, &mut self.slots[self.next as usize % SLOTS]);
            self.next = self.next.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(wheel: &mut Wheel, now: u32) -> Vec<u32> {
        let mut all = Vec::new();
        let mut some = [0; 2];
        loop {
            match wheel.take(now, &mut some) {
                0 => return all,
                count => all.extend(&some[..count]),
            }
        }
    }

    #[test]
    fn clients_are_called_at_their_time_and_not_before() {
        let mut wheel = Wheel::new(100);
        for (number, at) in [(1, 200), (2, 150), (3, 200), (4, 90), (5, 200), (6, 100 + 4095)] {
            wheel.insert(number, at);
        }
        assert_eq!(called(&mut wheel, 100), [4]);
        assert!(called(&mut wheel, 149).is_empty());
        assert_eq!(called(&mut wheel, 199), [2]);
        assert_eq!(called(&mut wheel, 200), [1, 3, 5]);
        wheel.insert(7, 100_000);
        assert_eq!(called(&mut wheel, 4195), [6]);
        assert_eq!(called(&mut wheel, 4400), [7], "too early, to be put in again");
        assert!(called(&mut wheel, 200_000).is_empty());
    }
}

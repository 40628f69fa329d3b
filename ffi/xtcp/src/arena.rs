//! Where in a worker's arena there is room: a ring of bytes, recycled in the order of sending.

/// A place in the arena that one submission refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Offset of the first byte in the arena.
    pub(crate) at: u32,
    /// Length in bytes.
    pub(crate) len: u32,
    /// The arena's head behind this place; recycling up to here gives the place back.
    pub(crate) end: u64,
}

impl Extent {
    /// `len` of its bytes, from the one at `from` on. Recycling parts in their order recycles the
    /// whole.
    pub(crate) fn part(self, from: usize, len: usize) -> Self {
        let number = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let behind = self.len.saturating_sub(number(from)).saturating_sub(number(len));
        Self {
            at: self.at.saturating_add(number(from)),
            len: number(len),
            end: self.end - u64::from(behind),
        }
    }
}

/// The bookkeeping of one arena. Head and tail run freely; a place never wraps around the end,
/// because the other side copies it in one piece.
#[derive(Debug)]
pub(crate) struct ArenaRing {
    capacity: u64,
    head: u64,
    /// Where in the arena the head stands: the remainder, without a division for every answer.
    at: u64,
    tail: u64,
}

impl ArenaRing {
    pub(crate) fn new(capacity: u32) -> Self {
        Self { capacity: u64::from(capacity), head: 0, at: 0, tail: 0 }
    }

    /// Takes `len` bytes, at least one, in one piece, or nothing.
    pub(crate) fn reserve(&mut self, len: u32) -> Option<Extent> {
        let wanted = u64::from(len);
        if wanted > self.capacity {
            return None;
        }
        let before_end = self.capacity - self.at;
        let skip = if wanted > before_end { before_end } else { 0 };
        if self.head == self.tail {
            // Nothing is in use, so nothing is lost by skipping.
            self.tail += skip;
        } else if self.head - self.tail + skip + wanted > self.capacity {
            return None;
        }
        self.advance(skip);
        let at = self.at;
        self.advance(wanted);
        Some(Extent { at: u32::try_from(at).ok()?, len, end: self.head })
    }

    /// Makes the youngest place longer by `more` bytes, if the bytes behind it are free.
    pub(crate) fn extend(&mut self, extent: Extent, more: u32) -> Option<Extent> {
        let wanted = u64::from(more);
        let fits = extent.end == self.head
            && u64::from(extent.at) + u64::from(extent.len) + wanted <= self.capacity
            && self.head - self.tail + wanted <= self.capacity;
        if !fits {
            return None;
        }
        self.advance(wanted);
        Some(Extent { at: extent.at, len: extent.len + more, end: self.head })
    }

    /// Moves the head on, at most to the arena's end.
    fn advance(&mut self, by: u64) {
        self.head += by;
        self.at += by;
        if self.at >= self.capacity {
            self.at -= self.capacity;
        }
    }

    /// Gives back everything up to the end of a place; places go back in the order they were taken.
    pub(crate) fn recycle(&mut self, end: u64) {
        debug_assert!(self.tail <= end && end <= self.head, "places come back in order");
        self.tail = self.tail.max(end.min(self.head));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_arena_gives_all_of_itself_wherever_its_head_stands() {
        let mut arena = ArenaRing::new(100);
        let first = arena.reserve(60).unwrap();
        arena.recycle(first.end);
        assert_eq!(arena.reserve(100).map(|extent| extent.at), Some(0));
        assert_eq!(arena.reserve(1), None);
    }

    #[test]
    fn only_the_youngest_place_grows() {
        let mut arena = ArenaRing::new(100);
        let first = arena.reserve(10).unwrap();
        let second = arena.reserve(10).unwrap();
        assert_eq!(arena.extend(first, 1), None);
        let second = arena.extend(second, 80).unwrap();
        assert_eq!((second.at, second.len), (10, 90));
        assert_eq!(arena.extend(second, 1), None);
    }

    proptest! {
        /// Against the slowest oracle: a byte belongs to at most one place, wherever the ring wraps.
        #[test]
        fn places_in_use_never_overlap(
            capacity in 1_u32..200,
            steps in proptest::collection::vec((0_u8..4, 1_u32..220), 1..400),
        ) {
            let mut arena = ArenaRing::new(capacity);
            let mut used: VecDeque<Extent> = VecDeque::new();
            for (kind, len) in steps {
                let taken = match kind {
                    0 | 1 => {
                        let taken = arena.reserve(len);
                        used.extend(taken);
                        prop_assert!(taken.is_some() || len > capacity || !used.is_empty());
                        taken
                    }
                    2 => {
                        let grown = used.back().and_then(|last| arena.extend(*last, len));
                        if let (Some(grown), Some(last)) = (grown, used.back_mut()) {
                            *last = grown;
                        }
                        grown
                    }
                    _ => {
                        if let Some(oldest) = used.pop_front() {
                            arena.recycle(oldest.end);
                        }
                        None
                    }
                };
                prop_assert!(taken.is_none_or(|extent| extent.at + extent.len <= capacity));
                let mut owner = vec![false; capacity as usize];
                for extent in &used {
                    for byte in &mut owner[extent.at as usize..][..extent.len as usize] {
                        prop_assert!(!*byte, "{extent:?} overlaps another of {used:?}");
                        *byte = true;
                    }
                }
            }
        }
    }
}

//! From a connection's addresses and ports to its index.
//!
//! Buckets of one cache line hold twelve 8-bit tags and twelve 32-bit indices; the key itself is
//! verified in the connection's record, which the caller needs anyway. An entry that finds its
//! bucket full goes to the next one with room, and every bucket it passed counts it, so that a
//! look-up knows when to stop and a removal leaves no tombstone. 7.1 bytes per connection at the
//! size [`buckets_for`] gives (three quarters full when every connection is open).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::slots::NONE;

const SLOTS: usize = 12;
/// Entries per bucket when every connection is open.
const FILL: usize = 9;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub(crate) struct Bucket {
    tags: [u8; SLOTS],
    /// Entries that passed this bucket because it was full; sticks at the top.
    passed: u32,
    slots: [u32; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 64);

pub(crate) const fn buckets_for(connections: usize) -> usize {
    connections.div_ceil(FILL) + 1
}

pub(crate) struct FlowTable<'m> {
    buckets: &'m mut [Bucket],
}

impl<'m> FlowTable<'m> {
    pub(crate) fn new(buckets: &'m mut [Bucket]) -> Self {
        Self { buckets }
    }

    /// The bucket a hash starts at, for the processor to fetch before it is needed.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        xtcp_cpu::prefetch_read(&self.buckets[self.home(hash)]);
    }

    /// The first index with this tag: the likely connection, whose record may be fetched.
    #[inline]
    pub(crate) fn candidate(&self, hash: u64) -> Option<u32> {
        let bucket = &self.buckets[self.home(hash)];
        bucket.matching(tag(hash)).next().map(|slot| bucket.slots[slot])
    }

    /// The index whose record `is_it` recognises.
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            for slot in bucket.matching(tag(hash)) {
                if is_it(bucket.slots[slot]) {
                    return Some(bucket.slots[slot]);
                }
            }
            if bucket.passed == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Enters an index that is not in the table. The table has more slots than there are
    /// connections, so there is always room.
    pub(crate) fn insert(&mut self, hash: u64, index: u32) {
        let mut at = self.home(hash);
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(slot) = bucket.matching(0).next() {
                bucket.tags[slot] = tag(hash);
                bucket.slots[slot] = index;
                return;
            }
            bucket.passed = bucket.passed.saturating_add(1);
            at = self.after(at);
        }
    }

    /// Removes an index that is in the table under this hash.
    pub(crate) fn remove(&mut self, hash: u64, index: u32) {
        let mut at = self.home(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &mut self.buckets[at];
            if let Some(slot) = bucket.matching(tag(hash)).find(|&slot| bucket.slots[slot] == index)
            {
                bucket.tags[slot] = 0;
                bucket.slots[slot] = NONE;
                return;
            }
            if bucket.passed != u32::MAX {
                bucket.passed = bucket.passed.saturating_sub(1);
            }
            at = self.after(at);
        }
        debug_assert!(false, "an index that was never entered is removed");
    }

    fn home(&self, hash: u64) -> usize {
        let scaled = u128::from(hash) * self.buckets.len() as u128;
        (scaled >> 64) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }
}

impl Bucket {
    /// The slots with this tag; tag 0 marks the free ones.
    #[inline]
    fn matching(&self, tag: u8) -> impl Iterator<Item = usize> + use<> {
        let [t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11] = self.tags;
        let low = equal_bytes(u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]), tag);
        let high = equal_bytes(u64::from(u32::from_le_bytes([t8, t9, t10, t11])), tag) & 0xf;
        let mut mask = low | (high << 8);
        core::iter::from_fn(move || {
            let slot = mask.trailing_zeros() as usize;
            mask &= mask.wrapping_sub(1);
            (slot < SLOTS).then_some(slot)
        })
    }
}

/// One bit for each byte of `word`, the lowest first, that equals `byte`.
#[inline]
const fn equal_bytes(word: u64, byte: u8) -> u32 {
    const SEVEN_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    /// Brings the top bits of all bytes together in the top byte.
    const GATHER: u64 = 0x0002_0408_1020_4081;
    let differs = word ^ (0x0101_0101_0101_0101 * byte as u64);
    // No carry crosses a byte: the top bit stays clear only where all eight are.
    let zero = !(((differs & SEVEN_BITS) + SEVEN_BITS) | differs | SEVEN_BITS);
    (zero.wrapping_mul(GATHER) >> 56) as u32
}

/// Never 0, which marks a free slot.
fn tag(hash: u64) -> u8 {
    ((hash & 0xff) as u8).max(1)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::HashMap;
    use std::vec;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a `HashMap`, with so few distinct hashes that buckets overflow.
        #[test]
        fn agrees_with_a_map(ops in proptest::collection::vec((any::<bool>(), 0_u64..40), 1..300)) {
            let mut memory = vec![Bucket { tags: [0; SLOTS], passed: 0, slots: [0; SLOTS] }; 6];
            let mut table = FlowTable::new(&mut memory);
            let mut model = HashMap::new();
            let spread = |key: u64| key % 3 * (u64::MAX / 3) + key % 2;
            for (enter, key) in ops {
                let index = u32::try_from(key).unwrap() + 1;
                if enter && !model.contains_key(&key) && model.len() < 60 {
                    table.insert(spread(key), index);
                    model.insert(key, index);
                } else if !enter && model.remove(&key).is_some() {
                    table.remove(spread(key), index);
                }
                for key in 0..40 {
                    let wanted = u32::try_from(key).unwrap() + 1;
                    let found = table.find(spread(key), |index| index == wanted);
                    prop_assert_eq!(found, model.get(&key).copied());
                }
            }
        }
    }
}

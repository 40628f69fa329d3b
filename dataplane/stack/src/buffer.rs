//! A shared buffer: payload of many connections in one piece of memory, counted to the byte.
//!
//! The memory is cut into pages of 2 KB, and a page into blocks of one size (128 B to 2 KB) when
//! the first of that size is wanted, so that a small message does not pin a large block. What
//! describes the pages lies at the front of the same memory: a pool's buffer brings its own
//! bookkeeping, and only the dataplane can write it. 0.8 % of the memory, no search on any path.
//!
//! A buffer may have several owners, as the transmit buffer that all pools share. A page is one
//! owner's as long as a block of it is in use, so that nobody pins with small blocks what another
//! could have; the [`Quota`] counts pages.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::table::quota::{Part, Quota};
use crate::table::slots::NONE;

/// Bytes of a page: the largest block, and so the largest piece of payload in one [`Chunk`].
///
/// [`Chunk`]: crate::table::chunk::Chunk
pub const PAGE: usize = 2048;
/// Bytes of the smallest block, and the unit of a block's address.
const UNIT: usize = 128;
/// Units of a page, one bit each.
const UNITS: u32 = (PAGE / UNIT) as u32;
const _: () = assert!(UNITS == u16::BITS);
/// Block sizes: 128, 256, 512, 1024, 2048.
const CLASSES: usize = 5;
/// Not cut into blocks.
const WHOLE: u8 = 0xff;

/// What is known of a page.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Page {
    /// One bit per block in use.
    used: u16,
    class: u8,
    owner: u8,
    /// Neighbours in the owner's list of pages of this class with room, or of free pages.
    next: u32,
    prev: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Page>() == 16);

/// Where a block lies: its offset in the buffer's memory in units of 128 bytes. Never 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(transparent)]
pub(crate) struct Block(u32);

impl Block {
    /// Offset of the block's first byte in the buffer's memory.
    pub(crate) const fn at(self) -> usize {
        self.0 as usize * UNIT
    }

    const fn page(self) -> u32 {
        self.0 / UNITS
    }
}

/// What one owner has of a buffer.
#[derive(Clone, Copy, Debug)]
struct Holding {
    /// Pages with room for another block, by class; never full ones, never wholly free ones.
    partial: [u32; CLASSES],
    blocks: u32,
    bytes: usize,
    payload: usize,
}

impl Holding {
    const NOTHING: Self = Self { partial: [NONE; CLASSES], blocks: 0, bytes: 0, payload: 0 };
}

/// One shared buffer, of so many owners.
pub(crate) struct Buffer<'m, const OWNERS: usize = 1> {
    /// Pages 0..first hold the descriptions of all pages; the others payload.
    memory: &'m mut [u8],
    pages: u32,
    free: u32,
    fresh: u32,
    quota: Quota<OWNERS>,
    holdings: [Holding; OWNERS],
}

impl<'m, const OWNERS: usize> Buffer<'m, OWNERS> {
    /// A buffer in `memory`, which is zeroed or was a buffer before.
    pub(crate) fn new(memory: &'m mut [u8]) -> Self {
        let pages = u32::try_from(memory.len() / PAGE).unwrap_or(u32::MAX);
        let described = (pages as usize * size_of::<Page>()).div_ceil(PAGE);
        let first = u32::try_from(described).unwrap_or(u32::MAX).max(1);
        Self {
            memory,
            pages,
            free: NONE,
            fresh: first,
            quota: Quota::new(pages.saturating_sub(first)),
            holdings: [Holding::NOTHING; OWNERS],
        }
    }

    /// Gives the memory back.
    pub(crate) fn into_memory(self) -> &'m mut [u8] {
        self.memory
    }

    /// Shares the pages among those who are there now, see [`Quota::share`].
    pub(crate) fn share(&mut self, present: &[bool; OWNERS], percent: u8, scarce: u8) {
        self.quota.share(present, percent, scarce);
    }

    /// See [`Quota::has_plenty`].
    #[inline]
    pub(crate) fn has_plenty(&self, owner: usize) -> bool {
        self.quota.has_plenty(slot(owner, OWNERS))
    }

    /// Bytes for payload when the buffer is empty.
    pub(crate) const fn capacity(&self) -> usize {
        self.quota.total() as usize * PAGE
    }

    /// Bytes of the most one owner may have.
    pub(crate) const fn most(&self) -> usize {
        self.quota.most() as usize * PAGE
    }

    /// Bytes of an owner's blocks.
    pub(crate) fn used(&self, owner: usize) -> usize {
        self.holdings[slot(owner, OWNERS)].bytes
    }

    /// Bytes of payload in an owner's blocks.
    pub(crate) fn payload(&self, owner: usize) -> usize {
        self.holdings[slot(owner, OWNERS)].payload
    }

    /// How many blocks an owner has.
    #[inline]
    pub(crate) fn blocks(&self, owner: usize) -> u32 {
        self.holdings[slot(owner, OWNERS)].blocks
    }

    /// Bytes of the blocks in use.
    pub(crate) fn in_use(&self) -> usize {
        self.holdings.iter().map(|holding| holding.bytes).sum()
    }

    /// Bytes of payload in them.
    pub(crate) fn all_payload(&self) -> usize {
        self.holdings.iter().map(|holding| holding.payload).sum()
    }

    /// Bytes in pages that an owner could still take.
    pub(crate) fn room(&self, owner: usize) -> usize {
        self.quota.room(slot(owner, OWNERS)) as usize * PAGE
    }

    /// The pages an owner has or could have, and how many of them are free.
    pub(crate) fn part(&self, owner: usize) -> Part {
        self.quota.part(slot(owner, OWNERS))
    }

    /// A block of an owner's for `len` bytes, 1 to [`PAGE`], or `None` when the buffer or his share
    /// is full.
    #[inline]
    pub(crate) fn take(&mut self, owner: usize, len: usize) -> Option<Block> {
        let owner = slot(owner, OWNERS);
        let class = class_for(len);
        let mut index = self.holdings[owner].partial[usize::from(class)];
        if index == NONE {
            index = self.cut_page(owner, class)?;
        }
        let page = self.page(index);
        let place = page.used.trailing_ones();
        page.used |= 1 << place;
        if page.used == FULL[usize::from(class)] {
            self.unlink(index);
        }
        let holding = &mut self.holdings[owner];
        holding.blocks += 1;
        holding.bytes += size_of_class(class);
        holding.payload += len;
        Some(Block(index * UNITS + (place << class)))
    }

    /// A page cut into blocks of a class.
    fn cut_page(&mut self, owner: usize, class: u8) -> Option<u32> {
        let index = self.take_page(owner)?;
        let owner = u8::try_from(owner).unwrap_or(u8::MAX);
        *self.page(index) = Page { used: 0, class, owner, next: NONE, prev: NONE, reserved: 0 };
        self.link(index);
        Some(index)
    }

    /// So many bytes more are put into a block that has room for them.
    #[inline]
    pub(crate) fn extend(&mut self, block: Block, more: usize) {
        let owner = self.page_of(block).owner;
        self.holdings[usize::from(owner)].payload += more;
    }

    /// Gives back a block with so many bytes of payload in it.
    #[inline(always)]
    pub(crate) fn give_back(&mut self, block: Block, payload: usize) {
        let index = block.page();
        let page = self.page(index);
        let (class, owner) = (page.class, usize::from(page.owner));
        let place = (block.0 % UNITS) >> class;
        debug_assert!(page.used >> place & 1 == 1, "a block is given back that is not in use");
        let was_full = page.used == FULL[usize::from(class)];
        page.used &= !(1 << place);
        let now_empty = page.used == 0;
        let holding = &mut self.holdings[owner];
        holding.blocks -= 1;
        holding.bytes -= size_of_class(class);
        holding.payload -= payload;
        if was_full || now_empty {
            self.relist(index, owner, was_full, now_empty);
        }
    }

    /// A page has room again, or is free.
    #[inline(never)]
    fn relist(&mut self, index: u32, owner: usize, was_full: bool, now_empty: bool) {
        match (was_full, now_empty) {
            (false, true) => {
                self.unlink(index);
                self.give_back_page(index, owner);
            }
            (true, true) => self.give_back_page(index, owner),
            (true, false) => self.link(index),
            (false, false) => {}
        }
    }

    /// Bytes of the block.
    #[inline]
    pub(crate) fn size(&mut self, block: Block) -> usize {
        size_of_class(self.page_of(block).class)
    }

    #[inline]
    pub(crate) fn bytes(&self, block: Block, range: core::ops::Range<usize>) -> &[u8] {
        &self.memory[block.at() + range.start..block.at() + range.end]
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self, block: Block, at: usize, len: usize) -> &mut [u8] {
        let start = block.at() + at;
        &mut self.memory[start..start + len]
    }

    /// Bytes at an offset that an event told.
    pub(crate) fn at(&self, at: u64, len: u16) -> Option<&[u8]> {
        let at = usize::try_from(at).ok()?;
        self.memory.get(at..at.checked_add(usize::from(len))?)
    }

    fn take_page(&mut self, owner: usize) -> Option<u32> {
        if self.quota.room(owner) == 0 {
            return None;
        }
        let index = if self.free != NONE {
            let index = self.free;
            self.free = self.page(index).next;
            index
        } else if self.fresh < self.pages {
            self.fresh += 1;
            self.fresh - 1
        } else {
            return None;
        };
        self.quota.take(owner);
        Some(index)
    }

    fn give_back_page(&mut self, index: u32, owner: usize) {
        let next = self.free;
        let page = self.page(index);
        page.class = WHOLE;
        page.next = next;
        self.free = index;
        self.quota.give_back(owner);
    }

    fn link(&mut self, index: u32) {
        let Page { class, owner, .. } = *self.page(index);
        let first = &mut self.holdings[usize::from(owner)].partial[usize::from(class)];
        let next = core::mem::replace(first, index);
        let page = self.page(index);
        page.next = next;
        page.prev = NONE;
        if next != NONE {
            self.page(next).prev = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Page { class, owner, next, prev, .. } = *self.page(index);
        if prev == NONE {
            self.holdings[usize::from(owner)].partial[usize::from(class)] = next;
        } else {
            self.page(prev).next = next;
        }
        if next != NONE {
            self.page(next).prev = prev;
        }
    }

    fn page_of(&mut self, block: Block) -> &mut Page {
        self.page(block.page())
    }

    #[inline]
    fn page(&mut self, index: u32) -> &mut Page {
        let at = index as usize * size_of::<Page>();
        let bytes = &mut self.memory[at..at + size_of::<Page>()];
        match Page::mut_from_bytes(bytes) {
            Ok(page) => page,
            Err(_) => unreachable!("shared buffers are aligned to 64 bytes"),
        }
    }
}

/// A buffer of one owner is all his.
const fn slot(owner: usize, owners: usize) -> usize {
    if owners == 1 { 0 } else { owner }
}

fn class_for(len: usize) -> u8 {
    debug_assert!((1..=PAGE).contains(&len));
    // Each bit of the units beyond the first doubles the block.
    let bits = usize::BITS - (len.saturating_sub(1) / UNIT).leading_zeros();
    u8::try_from(bits).unwrap_or(u8::MAX)
}

const fn size_of_class(class: u8) -> usize {
    UNIT << class
}

/// By class, one bit per block of a page whose blocks are all in use.
const FULL: [u16; CLASSES] = [0xffff, 0xff, 0xf, 3, 1];

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;
    use proptest::prelude::*;

    #[repr(align(64))]
    struct Memory([u8; 40 * PAGE]);

    const OWNERS: usize = 3;

    /// A block that is in use, as the model knows it.
    struct Held {
        block: Block,
        owner: usize,
        size: usize,
        payload: usize,
    }

    proptest! {
        /// Blocks in use never overlap, no page is of two owners, accounting is exact for each, what
        /// is kept for an owner he gets, and all comes back.
        #[test]
        fn blocks_are_disjoint_counted_and_come_back(
            percent in 0_u8..=100,
            ops in proptest::collection::vec(
                (0..OWNERS, 1..=PAGE, any::<prop::sample::Index>(), 0_u8..5), 1..500)
        ) {
            let mut memory = Memory([0; 40 * PAGE]);
            let mut buffer = Buffer::<OWNERS>::new(&mut memory.0);
            buffer.share(&[true; OWNERS], percent, 0);
            let mut held: Vec<Held> = Vec::new();
            for (owner, len, which, op) in ops {
                if op <= 2 || held.is_empty() {
                    let room = buffer.room(owner);
                    if let Some(block) = buffer.take(owner, len) {
                        let size = buffer.size(block);
                        prop_assert!(size >= len && block.at() >= PAGE);
                        prop_assert!(block.at() + size <= 40 * PAGE);
                        for other in &held {
                            let apart = other.block.at() + other.size <= block.at()
                                || block.at() + size <= other.block.at();
                            prop_assert!(apart);
                            let same_page = other.block.page() == block.page();
                            prop_assert!(!same_page || other.owner == owner);
                        }
                        held.push(Held { block, owner, size, payload: len });
                    } else {
                        prop_assert_eq!(room, 0);
                    }
                } else if op == 3 {
                    let at = which.index(held.len());
                    let more = (held[at].size - held[at].payload).min(len);
                    buffer.extend(held[at].block, more);
                    held[at].payload += more;
                } else {
                    let gone = held.swap_remove(which.index(held.len()));
                    buffer.give_back(gone.block, gone.payload);
                }
                for owner in 0..OWNERS {
                    let own = || held.iter().filter(|held| held.owner == owner);
                    prop_assert_eq!(buffer.blocks(owner) as usize, own().count());
                    prop_assert_eq!(buffer.used(owner), own().map(|h| h.size).sum::<usize>());
                    prop_assert_eq!(buffer.payload(owner), own().map(|h| h.payload).sum::<usize>());
                    let pages: std::collections::BTreeSet<u32> =
                        own().map(|held| held.block.page()).collect();
                    prop_assert_eq!(buffer.quota.used(owner) as usize, pages.len());
                    prop_assert!(pages.len() * PAGE <= buffer.most());
                }
            }
            for gone in held {
                buffer.give_back(gone.block, gone.payload);
            }
            prop_assert_eq!((buffer.in_use(), buffer.all_payload()), (0, 0));
            prop_assert_eq!(buffer.quota.in_use(), 0);
            buffer.share(&[true, false, false], percent, 0);
            prop_assert_eq!(buffer.room(0), buffer.capacity());
        }
    }
}

//! A shared buffer: payload of many connections in one piece of memory, counted to the byte.
//!
//! The memory is cut into pages of 2 KB, and a page into blocks of one size (128 B to 2 KB) when
//! the first of that size is wanted, so that a small message does not pin a large block. What
//! describes the pages lies at the front of the same memory: a pool's buffer brings its own
//! bookkeeping, and only the dataplane can write it. 0.8 % of the memory, no search on any path.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::table::slots::NONE;

/// Bytes of a page: the largest block, and so the largest piece of payload in one [`Chunk`].
///
/// [`Chunk`]: crate::table::chunk::Chunk
pub const PAGE: usize = 2048;
/// Bytes of the smallest block, and the unit of a block's address.
const UNIT: usize = 128;
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
    reserved: u8,
    /// Neighbours in the list of pages of this class with room, or of free pages.
    next: u32,
    prev: u32,
    reserved_too: u32,
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

    fn page(self) -> usize {
        self.at() / PAGE
    }
}

/// One shared buffer.
pub(crate) struct Buffer<'m> {
    /// Pages 0..first hold the descriptions of all pages; the others payload.
    memory: &'m mut [u8],
    pages: u32,
    first: u32,
    /// Pages with room for another block, by class; never full ones, never wholly free ones.
    partial: [u32; CLASSES],
    free: u32,
    fresh: u32,
    pages_in_use: u32,
    bytes_in_use: usize,
}

impl<'m> Buffer<'m> {
    /// A buffer in `memory`, which is zeroed or was a buffer before.
    pub(crate) fn new(memory: &'m mut [u8]) -> Self {
        let pages = u32::try_from(memory.len() / PAGE).unwrap_or(u32::MAX);
        let described = (pages as usize * size_of::<Page>()).div_ceil(PAGE);
        let first = u32::try_from(described).unwrap_or(u32::MAX).max(1);
        Self {
            memory,
            pages,
            first,
            partial: [NONE; CLASSES],
            free: NONE,
            fresh: first,
            pages_in_use: 0,
            bytes_in_use: 0,
        }
    }

    /// Gives the memory back.
    pub(crate) fn into_memory(self) -> &'m mut [u8] {
        self.memory
    }

    /// Bytes for payload when the buffer is empty.
    pub(crate) const fn capacity(&self) -> usize {
        self.pages.saturating_sub(self.first) as usize * PAGE
    }

    /// Bytes of the blocks in use.
    pub(crate) const fn in_use(&self) -> usize {
        self.bytes_in_use
    }

    /// Bytes in pages of which no block is in use.
    pub(crate) const fn free_bytes(&self) -> usize {
        self.capacity() - self.pages_in_use as usize * PAGE
    }

    /// A block of at least `len` bytes, 1 to [`PAGE`], or `None` when the buffer is full.
    pub(crate) fn take(&mut self, len: usize) -> Option<Block> {
        let class = class_for(len);
        let mut index = self.partial[usize::from(class)];
        if index == NONE {
            index = self.take_page()?;
            *self.page(index) =
                Page { used: 0, class, reserved: 0, next: NONE, prev: NONE, reserved_too: 0 };
            self.link(index);
        }
        let page = self.page(index);
        let slot = page.used.trailing_ones();
        page.used |= 1 << slot;
        if page.used.count_ones() == blocks_of(class) {
            self.unlink(index);
        }
        self.bytes_in_use += size_of_class(class);
        let units_per_page = (PAGE / UNIT) as u32;
        Some(Block(index * units_per_page + slot * (size_of_class(class) / UNIT) as u32))
    }

    pub(crate) fn give_back(&mut self, block: Block) {
        let index = u32::try_from(block.page()).unwrap_or(u32::MAX);
        let page = self.page(index);
        let class = page.class;
        let slot = block.at() % PAGE / size_of_class(class);
        debug_assert!(page.used >> slot & 1 == 1, "a block is given back that is not in use");
        let was_full = page.used.count_ones() == blocks_of(class);
        page.used &= !(1 << slot);
        let now_empty = page.used == 0;
        self.bytes_in_use -= size_of_class(class);
        match (was_full, now_empty) {
            (false, true) => {
                self.unlink(index);
                self.give_back_page(index);
            }
            (true, true) => self.give_back_page(index),
            (true, false) => self.link(index),
            (false, false) => {}
        }
    }

    /// Bytes of the block.
    pub(crate) fn size(&mut self, block: Block) -> usize {
        let index = u32::try_from(block.page()).unwrap_or(u32::MAX);
        size_of_class(self.page(index).class)
    }

    pub(crate) fn bytes(&self, block: Block, range: core::ops::Range<usize>) -> &[u8] {
        &self.memory[block.at() + range.start..block.at() + range.end]
    }

    pub(crate) fn bytes_mut(&mut self, block: Block, at: usize, len: usize) -> &mut [u8] {
        let start = block.at() + at;
        &mut self.memory[start..start + len]
    }

    /// Bytes at an offset that an event told.
    pub(crate) fn at(&self, at: u64, len: u16) -> Option<&[u8]> {
        let at = usize::try_from(at).ok()?;
        self.memory.get(at..at.checked_add(usize::from(len))?)
    }

    fn take_page(&mut self) -> Option<u32> {
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
        self.pages_in_use += 1;
        Some(index)
    }

    fn give_back_page(&mut self, index: u32) {
        let next = self.free;
        let page = self.page(index);
        page.class = WHOLE;
        page.next = next;
        self.free = index;
        self.pages_in_use -= 1;
    }

    fn link(&mut self, index: u32) {
        let class = usize::from(self.page(index).class);
        let next = self.partial[class];
        let page = self.page(index);
        page.next = next;
        page.prev = NONE;
        if next != NONE {
            self.page(next).prev = index;
        }
        self.partial[class] = index;
    }

    fn unlink(&mut self, index: u32) {
        let Page { class, next, prev, .. } = *self.page(index);
        if prev == NONE {
            self.partial[usize::from(class)] = next;
        } else {
            self.page(prev).next = next;
        }
        if next != NONE {
            self.page(next).prev = prev;
        }
    }

    fn page(&mut self, index: u32) -> &mut Page {
        let at = index as usize * size_of::<Page>();
        let bytes = &mut self.memory[at..at + size_of::<Page>()];
        match Page::mut_from_bytes(bytes) {
            Ok(page) => page,
            Err(_) => unreachable!("shared buffers are aligned to 64 bytes"),
        }
    }
}

fn class_for(len: usize) -> u8 {
    debug_assert!((1..=PAGE).contains(&len));
    let units = len.div_ceil(UNIT).next_power_of_two();
    u8::try_from(units.trailing_zeros()).unwrap_or(u8::MAX)
}

const fn size_of_class(class: u8) -> usize {
    UNIT << class
}

const fn blocks_of(class: u8) -> u32 {
    (PAGE / UNIT) as u32 >> class
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;
    use proptest::prelude::*;

    #[repr(align(64))]
    struct Memory([u8; 40 * PAGE]);

    proptest! {
        /// Blocks in use never overlap, accounting is exact, and all comes back.
        #[test]
        fn blocks_are_disjoint_and_come_back(
            ops in proptest::collection::vec((1..=PAGE, any::<prop::sample::Index>(), any::<bool>()), 1..400)
        ) {
            let mut memory = Memory([0; 40 * PAGE]);
            let mut buffer = Buffer::new(&mut memory.0);
            let capacity = buffer.capacity();
            let mut held: Vec<(Block, usize)> = Vec::new();
            for (len, which, take) in ops {
                if take || held.is_empty() {
                    if let Some(block) = buffer.take(len) {
                        let size = buffer.size(block);
                        prop_assert!(size >= len && block.at() >= PAGE);
                        prop_assert!(block.at() + size <= 40 * PAGE);
                        for &(other, length) in &held {
                            let apart = other.at() + length <= block.at()
                                || block.at() + size <= other.at();
                            prop_assert!(apart);
                        }
                        held.push((block, size));
                    } else {
                        prop_assert_eq!(buffer.free_bytes(), 0);
                    }
                } else {
                    let (block, _) = held.swap_remove(which.index(held.len()));
                    buffer.give_back(block);
                }
                prop_assert_eq!(buffer.in_use(), held.iter().map(|h| h.1).sum::<usize>());
            }
            for (block, _) in held {
                buffer.give_back(block);
            }
            prop_assert_eq!((buffer.in_use(), buffer.free_bytes()), (0, capacity));
        }
    }
}

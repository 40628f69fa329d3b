//! Chunks: the pieces of a connection's stream that lie in a shared buffer, in lists by index.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::slots::{FreeList, Linked, NONE};
use crate::buffer::{Block, Buffer};
use crate::tcp::seq::SeqNum;

/// One piece of a stream: `len` bytes from `seq` on, at the start of `block`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Chunk {
    pub(crate) next: u32,
    pub(crate) block: Block,
    pub(crate) seq: SeqNum,
    pub(crate) len: u16,
    reserved: u16,
}

const _: () = assert!(size_of::<Chunk>() == 16);

impl Chunk {
    /// The sequence number after the last byte.
    pub(crate) fn end(&self) -> SeqNum {
        self.seq + u32::from(self.len)
    }
}

impl Linked for Chunk {
    fn link(&mut self) -> &mut u32 {
        &mut self.next
    }
}

/// The first and last chunk of a list; both `NONE` when it is empty.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct ChunkList {
    pub(crate) head: u32,
    pub(crate) tail: u32,
}

impl ChunkList {
    pub(crate) const fn is_empty(self) -> bool {
        self.head == NONE
    }
}

/// The table of all chunks of one worker.
pub(crate) struct Chunks<'m> {
    table: &'m mut [Chunk],
    free: FreeList,
}

impl<'m> Chunks<'m> {
    pub(crate) fn new(table: &'m mut [Chunk]) -> Self {
        Self { table, free: FreeList::new() }
    }

    pub(crate) const fn in_use(&self) -> u32 {
        self.free.in_use()
    }

    /// Whether a quarter of the table or more is free.
    pub(crate) fn has_a_quarter_free(&self) -> bool {
        let used = u64::from(self.in_use());
        used * 4 <= self.table.len() as u64 * 3
    }

    /// How many more there are; index 0 is none.
    pub(crate) fn room(&self) -> usize {
        self.table.len().saturating_sub(1 + self.free.in_use() as usize)
    }

    pub(crate) fn get(&self, index: u32) -> &Chunk {
        &self.table[index as usize]
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> &mut Chunk {
        &mut self.table[index as usize]
    }

    /// A chunk with room for `len` bytes in `buffer`, on no list yet. `None` when the buffer or
    /// the table is full.
    pub(crate) fn take(&mut self, buffer: &mut Buffer<'_>, seq: SeqNum, len: u16) -> Option<u32> {
        let block = buffer.take(usize::from(len))?;
        let Some(index) = self.free.take(self.table) else {
            buffer.give_back(block);
            return None;
        };
        self.table[index as usize] = Chunk { next: NONE, block, seq, len, reserved: 0 };
        Some(index)
    }

    pub(crate) fn give_back(&mut self, buffer: &mut Buffer<'_>, index: u32) {
        buffer.give_back(self.get(index).block);
        self.free.give_back(self.table, index);
    }

    pub(crate) fn append(&mut self, list: &mut ChunkList, index: u32) {
        if list.is_empty() {
            list.head = index;
        } else {
            self.get_mut(list.tail).next = index;
        }
        list.tail = index;
    }

    /// Gives back the chunks at the front that end at or before `seq`. Answers whether the chunk
    /// `cursor` was among them.
    pub(crate) fn release_to(
        &mut self,
        buffer: &mut Buffer<'_>,
        list: &mut ChunkList,
        seq: SeqNum,
        cursor: u32,
    ) -> bool {
        let mut cursor_gone = false;
        while !list.is_empty() && self.get(list.head).end().at_or_before(seq) {
            let index = list.head;
            cursor_gone |= index == cursor;
            list.head = self.get(index).next;
            self.give_back(buffer, index);
        }
        if list.is_empty() {
            list.tail = NONE;
        }
        cursor_gone
    }

    /// Gives back a whole list.
    pub(crate) fn release(&mut self, buffer: &mut Buffer<'_>, list: &mut ChunkList) {
        let mut index = list.head;
        while index != NONE {
            let next = self.get(index).next;
            self.give_back(buffer, index);
            index = next;
        }
        *list = ChunkList::default();
    }
}

//! Chunks: the pieces of a connection's stream that lie in a shared buffer, in lists by index.

#[cfg(debug_assertions)]
use core::sync::atomic::{AtomicU64, Ordering};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::quota::{Part, Quota};
use super::runs::Run;
use super::slots::{FreeList, Linked, NONE};
use crate::buffer::{Block, Buffer};
use crate::stack::POOLS_MAX;
use crate::tcp::seq::SeqNum;

/// One piece of a stream: `len` bytes from `seq` on, at the start of `block`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Chunk {
    pub(crate) next: u32,
    pub(crate) block: Block,
    pub(crate) seq: SeqNum,
    pub(crate) len: u16,
    /// The pool it is counted for.
    pool: u16,
}

const _: () = assert!(size_of::<Chunk>() == 16);

impl Chunk {
    /// The sequence number after the last byte.
    pub(crate) fn end(&self) -> SeqNum {
        self.seq + u32::from(self.len)
    }
}

/// Text that was sent at one time, or nearly so, and what became of it: a record of the same table
/// as the chunks.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Flight {
    pub(crate) next: u32,
    /// When it was sent last, in microseconds of the stack's clock (wraps after 71 minutes).
    pub(crate) sent: u32,
    pub(crate) seq: SeqNum,
    pub(crate) len: u16,
    /// [`SACKED`], [`LOST`] and [`AGAIN`]; above them the pool it is counted for.
    pub(crate) marks: u16,
}

const _: () = assert!(size_of::<Flight>() == size_of::<Chunk>());

/// The peer says that it has it.
pub(crate) const SACKED: u16 = 1;
/// It is taken for lost and was not sent again since.
pub(crate) const LOST: u16 = 2;
/// It was sent more than once.
pub(crate) const AGAIN: u16 = 4;
/// All of them.
const MARKS: u16 = 7;
/// Where in the marks the pool stands.
const POOL: u16 = 8;

const _: () = assert!(POOLS_MAX <= 1 << (u16::BITS as usize - POOL as usize));

impl Flight {
    /// The sequence number after the last byte.
    pub(crate) fn end(&self) -> SeqNum {
        self.seq + u32::from(self.len)
    }

    pub(crate) const fn has(&self, mark: u16) -> bool {
        self.marks & mark != 0
    }

    pub(crate) const fn is_marked(&self, marks: u16) -> bool {
        self.marks & MARKS == marks
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
    quota: Quota<POOLS_MAX>,
    /// What nobody outside knows: see `runs`.
    salt: u32,
    /// Records looked at, which is what lists and trees cost (I8).
    #[cfg(debug_assertions)]
    steps: AtomicU64,
}

impl<'m> Chunks<'m> {
    pub(crate) fn new(table: &'m mut [Chunk], salt: u32) -> Self {
        // Index 0 is none.
        let total = u32::try_from(table.len().saturating_sub(1)).unwrap_or(u32::MAX);
        Self {
            table,
            free: FreeList::new(),
            quota: Quota::new(total),
            salt,
            #[cfg(debug_assertions)]
            steps: AtomicU64::new(0),
        }
    }

    /// A record is looked at.
    #[inline]
    fn step(&self) {
        #[cfg(debug_assertions)]
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Records looked at so far.
    #[cfg(debug_assertions)]
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// What was looked at since `steps` was asked for does not count: it only checks.
    #[cfg(debug_assertions)]
    pub(crate) fn forget_steps(&self, steps: u64) {
        self.steps.store(steps, Ordering::Relaxed);
    }

    pub(crate) const fn quota(&self) -> &Quota<POOLS_MAX> {
        &self.quota
    }

    pub(crate) fn share(&mut self, present: &[bool; POOLS_MAX], percent: u8, scarce: u8) {
        self.quota.share(present, percent, scarce);
    }

    /// The chunks a pool has or could have, and how many of them are free.
    #[inline]
    pub(crate) fn part(&self, pool: usize) -> Part {
        self.quota.part(pool)
    }

    /// How many more a pool may take for sending, when it has so many for received text. An eighth it
    /// may have whatever was received. Beyond that it leaves a quarter, half of which is for what is
    /// in flight: what of it has arrived must be noted, or all would be sent again.
    #[inline]
    pub(crate) fn room_to_send(&self, pool: usize, received: u32) -> usize {
        let Part { free, of } = self.part(pool);
        let sent = (of - free).saturating_sub(received);
        let sure = free.min((of / 8).saturating_sub(sent));
        sure.max(free.saturating_sub(of / 4)) as usize
    }

    /// Whether a flight may be cut in two: the last eighth is for text.
    pub(crate) fn may_note_flight(&self, pool: usize) -> bool {
        let Part { free, of } = self.part(pool);
        free > of / 8
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> &Chunk {
        self.step();
        &self.table[index as usize]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> &mut Chunk {
        self.step();
        &mut self.table[index as usize]
    }

    /// A chunk of a pool's with room for `len` bytes in `buffer`, on no list yet. `None` when the
    /// buffer or the table is full, or the pool's share of either.
    #[inline]
    pub(crate) fn take<const OWNERS: usize>(
        &mut self,
        buffer: &mut Buffer<'_, OWNERS>,
        pool: u16,
        seq: SeqNum,
        len: u16,
    ) -> Option<u32> {
        let owner = usize::from(pool);
        if !self.quota.may_take(owner) {
            return None;
        }
        let block = buffer.take(owner, usize::from(len))?;
        let Some(index) = self.free.take(self.table) else {
            buffer.give_back(block, usize::from(len));
            return None;
        };
        self.quota.take(owner);
        self.table[index as usize] = Chunk { next: NONE, block, seq, len, pool };
        Some(index)
    }

    /// So many bytes more are put into a chunk's block, which has room for them.
    pub(crate) fn extend<const OWNERS: usize>(
        &mut self,
        buffer: &mut Buffer<'_, OWNERS>,
        index: u32,
        more: u16,
    ) {
        let chunk = self.get_mut(index);
        chunk.len += more;
        buffer.extend(chunk.block, usize::from(more));
    }

    pub(crate) fn give_back<const OWNERS: usize>(
        &mut self,
        buffer: &mut Buffer<'_, OWNERS>,
        index: u32,
    ) {
        let chunk = *self.get(index);
        self.give_back_known(buffer, index, &chunk);
    }

    /// As [`Self::give_back`], of a chunk that was looked at.
    #[inline(always)]
    fn give_back_known<const OWNERS: usize>(
        &mut self,
        buffer: &mut Buffer<'_, OWNERS>,
        index: u32,
        chunk: &Chunk,
    ) {
        let Chunk { block, len, pool, .. } = *chunk;
        buffer.give_back(block, usize::from(len));
        self.quota.give_back(usize::from(pool));
        self.free.give_back(self.table, index);
    }

    /// Starts loading a record, if there is one.
    #[inline]
    pub(crate) fn prefetch(&self, index: u32) {
        if let Some(chunk) = self.table.get(index as usize) {
            xtcp_cpu::prefetch_write(chunk);
        }
    }

    /// What was sent together, as a record of this table.
    #[inline]
    pub(crate) fn flight(&self, index: u32) -> Flight {
        self.step();
        zerocopy::transmute!(self.table[index as usize])
    }

    #[inline]
    pub(crate) fn set_flight(&mut self, index: u32, flight: Flight) {
        self.table[index as usize] = zerocopy::transmute!(flight);
    }

    /// A record of a pool's for what was sent together. `None` when the table is full, or the
    /// pool's share of it, or the pool is nobody's.
    pub(crate) fn take_flight(&mut self, pool: u16, mut flight: Flight) -> Option<u32> {
        let index = self.take_record(pool)?;
        flight.marks = flight.marks & MARKS | pool << POOL;
        self.set_flight(index, flight);
        Some(index)
    }

    pub(crate) fn give_back_flight(&mut self, index: u32) {
        let pool = self.flight(index).marks >> POOL;
        self.give_back_record(index, pool);
    }

    /// A record of the table for something else than a chunk. `None` when the table is full, or the
    /// pool's share of it, or the pool is nobody's.
    #[inline]
    pub(super) fn take_record(&mut self, pool: u16) -> Option<u32> {
        let owner = usize::from(pool);
        if owner >= POOLS_MAX || !self.quota.may_take(owner) {
            return None;
        }
        let index = self.free.take(self.table)?;
        self.quota.take(owner);
        Some(index)
    }

    pub(super) fn give_back_record(&mut self, index: u32, pool: u16) {
        self.quota.give_back(usize::from(pool));
        self.free.give_back(self.table, index);
    }

    /// The pool that a chunk is counted for.
    pub(super) fn pool_of(&self, index: u32) -> u16 {
        self.table[index as usize].pool
    }

    pub(super) const fn salt(&self) -> u32 {
        self.salt
    }

    /// A run of chunks, as a record of this table.
    pub(crate) fn run(&self, index: u32) -> Run {
        self.step();
        zerocopy::transmute!(self.table[index as usize])
    }

    pub(super) fn set_run(&mut self, index: u32, run: Run) {
        self.table[index as usize] = zerocopy::transmute!(run);
    }

    #[inline]
    pub(crate) fn append(&mut self, list: &mut ChunkList, index: u32) {
        if list.is_empty() {
            list.head = index;
        } else {
            self.get_mut(list.tail).next = index;
        }
        list.tail = index;
    }

    /// `cursor`, unless its chunk ends at or before `seq`.
    #[inline]
    pub(crate) fn kept(&self, cursor: u32, seq: SeqNum) -> u32 {
        let gone = cursor != NONE && self.get(cursor).end().at_or_before(seq);
        if gone { NONE } else { cursor }
    }

    /// Gives back the chunks at the front that end at or before `seq`. Answers whether the chunk
    /// `cursor` was among them.
    pub(crate) fn release_to<const OWNERS: usize>(
        &mut self,
        buffer: &mut Buffer<'_, OWNERS>,
        list: &mut ChunkList,
        seq: SeqNum,
        cursor: u32,
    ) -> bool {
        let mut cursor_gone = false;
        while !list.is_empty() {
            let index = list.head;
            let chunk = *self.get(index);
            if chunk.end().after(seq) {
                break;
            }
            cursor_gone |= index == cursor;
            list.head = chunk.next;
            self.give_back_known(buffer, index, &chunk);
        }
        if list.is_empty() {
            list.tail = NONE;
        }
        cursor_gone
    }

    /// Gives back a whole list.
    pub(crate) fn release<const OWNERS: usize>(
        &mut self,
        buffer: &mut Buffer<'_, OWNERS>,
        list: &mut ChunkList,
    ) {
        let mut index = list.head;
        while index != NONE {
            let chunk = *self.get(index);
            self.give_back_known(buffer, index, &chunk);
            index = chunk.next;
        }
        *list = ChunkList::default();
    }
}

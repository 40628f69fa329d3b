//! Runs of chunks that follow each other in the stream, in a tree by sequence number.
//!
//! The tree is a treap: by key a search tree, by rank a heap. The rank of a record follows from its
//! index and a number nobody outside knows, so that the tree is as deep as one of keys in random
//! order whatever order the peer chose: 2 log2(n) looks on average, and never seen to be three
//! times as much. A record is one of the chunks' table, of 16 bytes like them, so it has no room for
//! a level or a balance, and needs none.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::chunk::{Chunk, Chunks};
use super::slots::NONE;
use crate::tcp::seq::SeqNum;

/// Chunks in a circle: the last one's `next` is the first.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Run {
    /// Runs before this one, and after it.
    left: u32,
    right: u32,
    /// Where it begins.
    pub(crate) seq: SeqNum,
    /// Its last chunk.
    pub(crate) last: u32,
}

const _: () = assert!(size_of::<Run>() == size_of::<Chunk>());

/// Where a run hangs: below whom, and on which side.
#[derive(Clone, Copy)]
enum Place {
    Root,
    LeftOf(u32),
    RightOf(u32),
}

impl Chunks<'_> {
    /// The run at or before `seq`, and the next one after it; `NONE` where there is none.
    pub(crate) fn runs_around(&self, root: u32, seq: SeqNum) -> (u32, u32) {
        let (mut before, mut after, mut index) = (NONE, NONE, root);
        while index != NONE {
            let run = self.run(index);
            if run.seq.at_or_before(seq) {
                (before, index) = (index, run.right);
            } else {
                (after, index) = (index, run.left);
            }
        }
        (before, after)
    }

    /// The first run of a tree; `NONE` if it is empty.
    pub(crate) fn first_run(&self, root: u32) -> u32 {
        let (mut first, mut index) = (NONE, root);
        while index != NONE {
            first = index;
            index = self.run(index).left;
        }
        first
    }

    /// A run from `seq` to the chunk `last`, counted for that chunk's pool. Answers whether there is
    /// a record for it.
    pub(crate) fn insert_run(&mut self, root: &mut u32, seq: SeqNum, last: u32) -> bool {
        let Some(new) = self.take_record(self.pool_of(last)) else { return false };
        let (mut place, mut index) = (Place::Root, *root);
        while index != NONE && self.rank(index) >= self.rank(new) {
            let run = self.run(index);
            (place, index) = if run.seq.before(seq) {
                (Place::RightOf(index), run.right)
            } else {
                (Place::LeftOf(index), run.left)
            };
        }
        self.set_run(new, Run { left: NONE, right: NONE, seq, last });
        self.hang(root, place, new);
        // What hung there goes to the left and to the right of it.
        let (mut low, mut high) = (Place::LeftOf(new), Place::RightOf(new));
        while index != NONE {
            let run = self.run(index);
            if run.seq.before(seq) {
                self.hang(root, low, index);
                (low, index) = (Place::RightOf(index), run.right);
            } else {
                self.hang(root, high, index);
                (high, index) = (Place::LeftOf(index), run.left);
            }
        }
        self.hang(root, low, NONE);
        self.hang(root, high, NONE);
        true
    }

    /// The run that begins at `seq` is no more; its chunks are.
    pub(crate) fn remove_run(&mut self, root: &mut u32, seq: SeqNum) {
        let (mut place, mut index) = (Place::Root, *root);
        while index != NONE {
            let run = self.run(index);
            if run.seq == seq {
                break;
            }
            (place, index) = if run.seq.before(seq) {
                (Place::RightOf(index), run.right)
            } else {
                (Place::LeftOf(index), run.left)
            };
        }
        debug_assert!(index != NONE, "there is no such run");
        if index == NONE {
            return;
        }
        let Run { mut left, mut right, last, .. } = self.run(index);
        while left != NONE && right != NONE {
            if self.rank(left) >= self.rank(right) {
                self.hang(root, place, left);
                (place, left) = (Place::RightOf(left), self.run(left).right);
            } else {
                self.hang(root, place, right);
                (place, right) = (Place::LeftOf(right), self.run(right).left);
            }
        }
        self.hang(root, place, if left == NONE { right } else { left });
        self.give_back_record(index, self.pool_of(last));
    }

    /// Takes any run off the tree, one step or two per run when all are taken: its last chunk.
    pub(crate) fn take_any_run(&mut self, root: &mut u32) -> Option<u32> {
        while *root != NONE {
            let (index, run) = (*root, self.run(*root));
            if run.left == NONE {
                *root = run.right;
                self.give_back_record(index, self.pool_of(run.last));
                return Some(run.last);
            }
            // The left one becomes the root; nobody will search this tree any more.
            let left = self.run(run.left);
            *root = run.left;
            self.set_run(index, Run { left: left.right, ..run });
            self.set_run(run.left, Run { right: index, ..left });
        }
        None
    }

    /// The run at `index` ends with another chunk now.
    pub(crate) fn set_run_last(&mut self, index: u32, last: u32) {
        let run = self.run(index);
        self.set_run(index, Run { last, ..run });
    }

    /// The run at `index` begins earlier now, and still after the one before it.
    pub(crate) fn set_run_start(&mut self, index: u32, seq: SeqNum) {
        let run = self.run(index);
        self.set_run(index, Run { seq, ..run });
    }

    fn hang(&mut self, root: &mut u32, place: Place, index: u32) {
        match place {
            Place::Root => *root = index,
            Place::LeftOf(above) => {
                let run = self.run(above);
                self.set_run(above, Run { left: index, ..run });
            }
            Place::RightOf(above) => {
                let run = self.run(above);
                self.set_run(above, Run { right: index, ..run });
            }
        }
    }

    /// How high a record stands.
    fn rank(&self, index: u32) -> u32 {
        let mixed = (index ^ self.salt()).wrapping_mul(0x9e37_79b1);
        (mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca6b)
    }
}

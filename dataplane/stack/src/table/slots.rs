//! Handing out the indices of a table.

/// "No record": the index that is never handed out.
pub(crate) const NONE: u32 = 0;

/// A record that can stand in its table's list of free ones.
pub(crate) trait Linked {
    /// The next free record, where a free record keeps it.
    fn link(&mut self) -> &mut u32;
}

/// Which records of a table are free: a last-in first-out list, so that the one handed out next
/// was used last and is still in the cache. Records never used are not on it and not touched.
#[derive(Debug)]
pub(crate) struct FreeList {
    head: u32,
    /// Records from here on were never used.
    fresh: u32,
    in_use: u32,
}

impl FreeList {
    pub(crate) const fn new() -> Self {
        Self { head: NONE, fresh: NONE + 1, in_use: 0 }
    }

    /// A free record's index, or `None` when all are in use. What it holds is left from before.
    #[inline]
    pub(crate) fn take<T: Linked>(&mut self, table: &mut [T]) -> Option<u32> {
        let index = if self.head != NONE {
            let index = self.head;
            self.head = *table[index as usize].link();
            // Whoever takes the next one finds it at hand.
            if let Some(next) = table.get(self.head as usize) {
                xtcp_cpu::prefetch_write(next);
            }
            index
        } else if (self.fresh as usize) < table.len() {
            self.fresh += 1;
            self.fresh - 1
        } else {
            return None;
        };
        self.in_use += 1;
        Some(index)
    }

    #[inline]
    pub(crate) fn give_back<T: Linked>(&mut self, table: &mut [T], index: u32) {
        debug_assert!(index != NONE && self.in_use > 0);
        *table[index as usize].link() = self.head;
        self.head = index;
        self.in_use -= 1;
    }

    pub(crate) const fn in_use(&self) -> u32 {
        self.in_use
    }

    /// One past the highest index ever handed out.
    pub(crate) const fn high_water(&self) -> u32 {
        self.fresh
    }
}

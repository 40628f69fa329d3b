//! Which connections have ended: their handles name nothing any more.
//!
//! A handle is a place and how many connections the place has had. For each place the last one that
//! ended is kept, 4 bytes, in pages that are there only where a connection has ended. So a handle is
//! found stale however long ago its connection ended.

use crate::handle::worker_of;

/// Places in a page.
const PAGE: usize = 1024;

/// Generations have 24 bits.
const GENERATIONS: u32 = 1 << 24;

#[derive(Debug, Default)]
pub(super) struct Ended {
    /// The last generation that ended, 0 for none: by worker, by page.
    workers: Vec<Vec<Option<Box<[u32; PAGE]>>>>,
}

impl Ended {
    /// A connection has ended, and with it those that had its place before.
    pub(super) fn insert(&mut self, cd: u64) {
        let (worker, page, place) = place_of(cd);
        if self.workers.len() <= worker {
            self.workers.resize_with(worker + 1, Vec::new);
        }
        let Some(pages) = self.workers.get_mut(worker) else { return };
        if pages.len() <= page {
            pages.resize_with(page + 1, || None);
        }
        let Some(page) = pages.get_mut(page) else { return };
        let page = page.get_or_insert_with(|| Box::new([0; PAGE]));
        if let Some(last) = page.get_mut(place) {
            *last = generation(cd);
        }
    }

    pub(super) fn contains(&self, cd: u64) -> bool {
        let (worker, page, place) = place_of(cd);
        let page = self.workers.get(worker).and_then(|pages| pages.get(page)?.as_ref());
        let last = page.and_then(|page| page.get(place)).copied().unwrap_or(0);
        // As many as half of all generations may have passed since.
        last != 0 && last.wrapping_sub(generation(cd)) % GENERATIONS < GENERATIONS / 2
    }
}

fn generation(cd: u64) -> u32 {
    u32::try_from(cd >> 40).unwrap_or(0)
}

fn place_of(cd: u64) -> (usize, usize, usize) {
    let index = usize::try_from(cd & 0xffff_ffff).unwrap_or(0);
    (usize::from(worker_of(cd)), index / PAGE, index % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cd(worker: u64, index: u64, generation: u64) -> u64 {
        generation << 40 | worker << 32 | index
    }

    #[test]
    fn what_ended_and_what_was_there_before_is_stale_and_nothing_else() {
        let mut ended = Ended::default();
        assert!(!ended.contains(cd(0, 0, 1)));
        ended.insert(cd(3, 5000, 7));
        for generation in 1..=7 {
            assert!(ended.contains(cd(3, 5000, generation)));
        }
        for other in [cd(3, 5000, 8), cd(3, 5001, 7), cd(2, 5000, 7), cd(3, 5000 + 1024, 7)] {
            assert!(!ended.contains(other));
        }
    }

    #[test]
    fn generations_begin_again() {
        let mut ended = Ended::default();
        ended.insert(cd(0, 1, (1 << 24) - 1));
        assert!(!ended.contains(cd(0, 1, 1)));
        ended.insert(cd(0, 1, 1));
        assert!(ended.contains(cd(0, 1, (1 << 24) - 1)) && !ended.contains(cd(0, 1, 2)));
    }
}

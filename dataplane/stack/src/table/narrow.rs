//! Connections whose path takes less than their peer: a bounded list in the order in which that
//! was found, so that segments may grow again after a while.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::tcp::record::Connection;
use crate::time::Instant;

/// Connections that are remembered; of more, the oldest stay narrow.
pub(crate) const NARROW_MAX: usize = 1024;

/// A connection whose segments were made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Narrow {
    pub(crate) connection: u32,
    pub(crate) generation: u32,
    /// Milliseconds of the stack's clock; they wrap.
    since_ms: u32,
    /// What its peer takes: the segment size before.
    pub(crate) mss: u16,
    reserved: u16,
}

impl Narrow {
    pub(crate) const fn new(connection: u32, record: &Connection, now: Instant) -> Self {
        let since_ms = milliseconds(now);
        Self { connection, generation: record.generation(), since_ms, mss: record.mss, reserved: 0 }
    }
}

/// The list: a ring.
pub(crate) struct NarrowPaths<'m> {
    ring: &'m mut [Narrow],
    head: usize,
    count: usize,
}

impl<'m> NarrowPaths<'m> {
    pub(crate) fn new(ring: &'m mut [Narrow]) -> Self {
        Self { ring, head: 0, count: 0 }
    }

    /// Notes a connection, unless it is known: then its first size counts.
    pub(crate) fn remember(&mut self, narrow: Narrow) {
        let len = self.ring.len();
        let is_it =
            |n: &Narrow| n.connection == narrow.connection && n.generation == narrow.generation;
        if len == 0 || (0..self.count).any(|at| is_it(&self.ring[(self.head + at) % len])) {
            return;
        }
        if self.count == len {
            self.head = (self.head + 1) % len;
            self.count -= 1;
        }
        self.ring[(self.head + self.count) % len] = narrow;
        self.count += 1;
    }

    /// The next connection that has been narrow for longer than `age_ms`, taken off the list.
    #[inline]
    pub(crate) fn expired(&mut self, age_ms: u32, now: Instant) -> Option<Narrow> {
        if self.count == 0 {
            return None;
        }
        let first = self.ring[self.head];
        if milliseconds(now).wrapping_sub(first.since_ms) < age_ms {
            return None;
        }
        self.head = (self.head + 1) % self.ring.len();
        self.count -= 1;
        Some(first)
    }
}

const fn milliseconds(now: Instant) -> u32 {
    (now.as_millis() & 0xffff_ffff) as u32
}

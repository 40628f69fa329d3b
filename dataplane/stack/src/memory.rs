//! Cutting the memory the stack is given into its tables.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Tables start on cache lines.
const LINE: usize = 64;

/// A record that may lie in given memory: any bytes are a value of it, and zeroes are a fresh one.
pub(crate) trait Plain: FromBytes + IntoBytes + KnownLayout + Immutable {}

impl<T: FromBytes + IntoBytes + KnownLayout + Immutable> Plain for T {}

/// The memory given is smaller than the configuration needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryTooSmall {
    /// Bytes the tables need.
    pub needed: usize,
    /// Bytes given.
    pub given: usize,
}

impl fmt::Display for MemoryTooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the tables need {} bytes and were given {}", self.needed, self.given)
    }
}

impl core::error::Error for MemoryTooSmall {}

/// Takes tables from the front of what is left.
pub(crate) struct Carver<'m> {
    rest: &'m mut [u8],
    given: usize,
    needed: usize,
}

impl<'m> Carver<'m> {
    pub(crate) fn new(memory: &'m mut [u8]) -> Self {
        let given = memory.len();
        Self { rest: memory, given, needed: 0 }
    }

    /// The next table of `count` records.
    pub(crate) fn take<T: Plain>(&mut self, count: usize) -> Result<&'m mut [T], MemoryTooSmall> {
        self.needed += bytes_of::<T>(count);
        let too_small = MemoryTooSmall { needed: self.needed, given: self.given };
        let rest = core::mem::take(&mut self.rest);
        let skip = rest.as_ptr().align_offset(LINE);
        let (_, aligned) = rest.split_at_mut_checked(skip).ok_or(too_small)?;
        let (table, rest) =
            <[T]>::mut_from_prefix_with_elems(aligned, count).map_err(|_| too_small)?;
        self.rest = rest;
        Ok(table)
    }
}

/// Bytes a table of `count` records takes, with what its alignment may cost.
pub(crate) const fn bytes_of<T>(count: usize) -> usize {
    count * size_of::<T>() + LINE
}

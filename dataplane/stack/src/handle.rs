//! Handles: an index and a generation, so that a stale one is refused and never hits another's.

use core::fmt;

/// A connection's handle (the seed's `cd`), as applications hold it.
///
/// Bits 0..32 are the index into the worker's connection table, 32..40 the worker, 40..64 the
/// generation of that index. Never zero: generations start at 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cd(u64);

impl Cd {
    /// Generations wrap after this many reuses of one index.
    pub const GENERATION_MAX: u32 = 0x00ff_ffff;

    /// Composes a handle; `generation` is cut to 24 bits.
    #[must_use]
    pub const fn new(worker: u8, index: u32, generation: u32) -> Self {
        let generation = (generation & Self::GENERATION_MAX) as u64;
        Self(generation << 40 | (worker as u64) << 32 | index as u64)
    }

    /// The handle a number stands for; whether it names anything is the table's to say.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The handle as the number that crosses the rings.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Index into the connection table of [`Self::worker`].
    #[must_use]
    pub const fn index(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// The worker whose table holds the connection.
    #[must_use]
    pub const fn worker(self) -> u8 {
        (self.0 >> 32 & 0xff) as u8
    }

    /// The generation of the index, 1 to [`Self::GENERATION_MAX`].
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 40) as u32
    }
}

impl fmt::Debug for Cd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cd {}/{}.{}", self.worker(), self.index(), self.generation())
    }
}

/// A connection group's handle (the seed's `gd`): index in the low 16 bits, generation above.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gd(u32);

impl Gd {
    /// Composes a handle; generations start at 1.
    #[must_use]
    pub const fn new(index: u16, generation: u16) -> Self {
        Self((generation as u32) << 16 | index as u32)
    }

    /// The handle a number stands for; whether it names anything is the table's to say.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The handle as the number that crosses the rings.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// Index into the group table.
    #[must_use]
    pub const fn index(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// The generation of the index.
    #[must_use]
    pub const fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

impl fmt::Debug for Gd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gd {}.{}", self.index(), self.generation())
    }
}

/// A connection pool's number, below [`crate::config::Config::pools_max`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u16);

/// Which event queue a group's events go to: one per application endpoint, below
/// [`crate::config::Config::queues_max`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u16);

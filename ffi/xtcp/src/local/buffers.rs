//! The receive buffer of local clients: blocks of one memory, given to clients and taken back.

use xtcp_ring::{ApplicationChannel, ArenaWriter, EndpointLayout, Mapping, Unfit};

/// Bytes of a block.
pub(super) const BLOCK: u32 = 4096;

#[derive(Debug)]
pub(super) struct Buffers {
    arena: ArenaWriter,
    /// Where the arena begins, as notices tell it.
    base: u64,
    free: Vec<u32>,
}

impl Buffers {
    /// The arena of `worker` in a layout is the memory; notices tell of it from `base` on.
    pub(super) fn open(
        mapping: &Mapping,
        layout: &EndpointLayout,
        worker: u8,
        base: u64,
    ) -> Result<Self, Unfit> {
        let ApplicationChannel { arena, .. } = ApplicationChannel::open(mapping, layout, worker)?;
        let at = u64::try_from(layout.channel(worker).arena).unwrap_or(u64::MAX);
        let free = (0..arena.len() / BLOCK).rev().collect();
        Ok(Self { arena, base: base.saturating_add(at), free })
    }

    /// How many blocks are free.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    pub(super) fn give_back(&mut self, block: u32) {
        self.free.push(block);
    }

    /// Puts bytes into a block and answers where they are, as notices tell it.
    pub(super) fn write(&mut self, block: u32, at: u32, bytes: &[u8]) -> u64 {
        let at = block * BLOCK + at;
        let written = self.arena.write(at, bytes);
        debug_assert!(written.is_ok(), "a block lies inside the arena");
        self.base.saturating_add(u64::from(at))
    }
}

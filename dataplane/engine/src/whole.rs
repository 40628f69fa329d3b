//! Frames that came in several mbufs, put together.
//!
//! The stack takes a frame in one piece. Where mbufs have room for the longest, a frame in pieces is
//! a device's whim and its pieces fit the first; where they have not (`--mbuf-size`), it is copied
//! here, to one place of a burst's. So nothing is allocated, and nothing can pile up.

use core::fmt;
use core::slice::ChunksExactMut;

use dpdk::{BURST, Burst, Mbuf};

/// A place for each frame of a burst, if frames can be longer than an mbuf.
pub(crate) struct Whole {
    bytes: Box<[u8]>,
    frame_max: usize,
}

impl Whole {
    /// For frames of up to `frame_max` bytes in mbufs with room for `room`.
    pub(crate) fn new(frame_max: usize, room: usize) -> Self {
        let places = if frame_max > room { BURST } else { 0 };
        Self { bytes: vec![0; places * frame_max].into_boxed_slice(), frame_max: frame_max.max(1) }
    }

    /// Brings what came in several mbufs into the first of them where it fits. What fits no place,
    /// either, is dropped; says how many were.
    pub(crate) fn sift(&self, frames: &mut Burst) -> u64 {
        let longest = if self.bytes.is_empty() { 0 } else { self.frame_max };
        let mut kept = Burst::new();
        let mut dropped = 0;
        for mut mbuf in frames.drain() {
            if mbuf.is_linear() || mbuf.linearize().is_ok() || mbuf.len() <= longest {
                // As many are kept as came in one burst, so there is room.
                let _ = kept.push(mbuf);
            } else {
                dropped += 1;
            }
        }
        frames.append(&mut kept);
        dropped
    }

    /// The places, each for one frame.
    pub(crate) fn places(&mut self) -> Places<'_> {
        Places(self.bytes.chunks_exact_mut(self.frame_max))
    }
}

/// The places that are free.
pub(crate) struct Places<'w>(ChunksExactMut<'w, u8>);

impl<'w> Places<'w> {
    /// All bytes of a frame, in one piece.
    #[inline]
    pub(crate) fn bytes<'f>(&mut self, mbuf: &'f Mbuf) -> &'f [u8]
    where
        'w: 'f,
    {
        if mbuf.is_linear() { mbuf.bytes() } else { self.put_together(mbuf) }
    }

    #[cold]
    fn put_together<'f>(&mut self, mbuf: &'f Mbuf) -> &'f [u8]
    where
        'w: 'f,
    {
        // There are as many places as frames, and `sift` has dropped what fits none; the stack
        // would find the first piece cut short.
        let Some(place) = self.0.next() else { return mbuf.bytes() };
        match mbuf.copy_to(place) {
            Some(len) => &place[..len],
            None => mbuf.bytes(),
        }
    }
}

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Whole").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

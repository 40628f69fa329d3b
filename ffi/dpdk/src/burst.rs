//! The frames of one turn.

use std::fmt;
use std::ptr;
use std::slice;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use crate::mbuf::Mbuf;

/// Frames a [`Burst`] holds.
pub const BURST: usize = 32;

/// Up to [`BURST`] frames, owned. What is left in it when it is dropped goes home in one call.
#[derive(Default)]
pub struct Burst {
    mbufs: ArrayVec<Mbuf, BURST>,
}

impl Burst {
    /// An empty burst.
    #[must_use]
    pub const fn new() -> Self {
        Self { mbufs: ArrayVec::new_const() }
    }

    /// How many frames.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.mbufs.len()
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.mbufs.is_empty()
    }

    /// How many more fit.
    #[inline]
    #[must_use]
    pub const fn room(&self) -> usize {
        BURST - self.mbufs.len()
    }

    /// Whether no more fit.
    #[inline]
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// Puts a frame at the end.
    ///
    /// # Errors
    /// Gives it back if the burst is full.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        self.mbufs.try_push(mbuf).map_err(|full| full.element())
    }

    /// Takes the last frame out.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.mbufs.pop()
    }

    /// Takes the frame at `index` out, if there is one; the others stay in their order.
    pub(crate) fn remove(&mut self, index: usize) -> Option<Mbuf> {
        self.mbufs.pop_at(index)
    }

    /// Takes all frames out, the first first. Those not asked for go home.
    pub fn drain(&mut self) -> impl Iterator<Item = Mbuf> + '_ {
        self.mbufs.drain(..)
    }

    /// Moves frames from the front of `other` to the end of this one, as many as fit.
    pub fn append(&mut self, other: &mut Self) {
        let moved = self.room().min(other.len());
        self.mbufs.extend(other.mbufs.drain(..moved));
    }

    /// The frames.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[Mbuf] {
        &self.mbufs
    }

    /// The frames, to be changed.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [Mbuf] {
        &mut self.mbufs
    }

    /// The frames, the first first.
    #[inline]
    pub fn iter(&self) -> slice::Iter<'_, Mbuf> {
        self.mbufs.iter()
    }

    /// The frames, the first first, to be changed.
    #[inline]
    pub fn iter_mut(&mut self) -> slice::IterMut<'_, Mbuf> {
        self.mbufs.iter_mut()
    }

    /// Sends all frames home, in one call.
    #[inline]
    pub fn clear(&mut self) {
        let count = self.mbufs.len();
        if count == 0 {
            return;
        }
        let first = self.raw();
        // SAFETY: zero is within the capacity. The frames now belong to this function.
        unsafe { self.mbufs.set_len(0) };
        // SAFETY: `first` is an array of `count` live mbufs that nobody else has (a `Mbuf` is a
        // pointer, by `repr(transparent)`).
        unsafe { sys::rte_pktmbuf_free_bulk(first, count as u32) };
    }

    /// The frames as C takes them.
    fn raw(&mut self) -> *mut *mut sys::rte_mbuf {
        self.mbufs.as_mut_ptr().cast()
    }

    /// Lets `fill` put up to `most` frames behind those there are; returns how many it put.
    ///
    /// # Safety
    /// `fill` gets an array and how many it may write, and returns how many it wrote. Each that it
    /// wrote must satisfy the invariant of [`Mbuf`].
    #[inline]
    pub(crate) unsafe fn fill(
        &mut self,
        most: usize,
        fill: impl FnOnce(*mut *mut sys::rte_mbuf, u16) -> usize,
    ) -> usize {
        let (len, most) = (self.len(), most.min(self.room()));
        if most == 0 {
            return 0;
        }
        // SAFETY: there is room, so the end of the frames is within the array.
        let end = unsafe { self.raw().add(len) };
        let filled = fill(end, most as u16);
        assert!(filled <= most, "a driver wrote {filled} frames into room for {most}");
        // SAFETY: `filled` more elements are initialised, by the caller's promise, and fit.
        unsafe { self.mbufs.set_len(len + filled) };
        filled
    }

    /// Lets `take` take frames from the front; returns how many it took. The others move up.
    ///
    /// # Safety
    /// `take` gets an array and its length, and returns for how many of the first it took the
    /// ownership. It must not have kept the others.
    #[inline]
    pub(crate) unsafe fn take(
        &mut self,
        take: impl FnOnce(*mut *mut sys::rte_mbuf, u16) -> usize,
    ) -> usize {
        let len = self.len();
        if len == 0 {
            return 0;
        }
        let first = self.raw();
        // SAFETY: zero is within the capacity. Until the length is set again nobody owns the
        // frames, so that a panic would lose some rather than free one twice.
        unsafe { self.mbufs.set_len(0) };
        let taken = take(first, len as u16);
        assert!(taken <= len, "a driver took {taken} frames of {len}");
        if taken > 0 && taken < len {
            // SAFETY: `taken` is within the array.
            let rest = unsafe { first.add(taken) };
            // SAFETY: both ranges are within the array, which has `len` elements.
            unsafe { ptr::copy(rest, first, len - taken) };
        }
        // SAFETY: the first `len - taken` elements are the frames that were not taken.
        unsafe { self.mbufs.set_len(len - taken) };
        taken
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<'b> IntoIterator for &'b Burst {
    type Item = &'b Mbuf;
    type IntoIter = slice::Iter<'b, Mbuf>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'b> IntoIterator for &'b mut Burst {
    type Item = &'b mut Mbuf;
    type IntoIter = slice::IterMut<'b, Mbuf>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl fmt::Debug for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

//! Handing frames from one thread to another.

use std::cell::Cell;
use std::ffi::CString;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use dpdk_sys as sys;

use crate::burst::{BURST, Burst};
use crate::eal::Eal;
use crate::errno::{Errno, check};

/// Where a ring begins, in bytes: its two ends are to lie in cache lines of their own, and neighbouring
/// lines are fetched in pairs.
const ALIGN: u32 = 128;

/// A ring of frames with one sender and one receiver. What is in it when both are gone goes home.
pub struct MbufRing {
    raw: NonNull<sys::rte_ring>,
    _eal: Eal,
}

// SAFETY: the ring's one producer is `MbufSender`, its one consumer `MbufReceiver`; both work on
// `&mut self`, and an rte_ring is made for these two to be in different threads.
unsafe impl Send for MbufRing {}
// SAFETY: as above; counting only reads its two positions.
unsafe impl Sync for MbufRing {}

/// The end of an [`MbufRing`] where frames go in.
pub struct MbufSender {
    ring: Arc<MbufRing>,
    not_sync: PhantomData<Cell<()>>,
}

/// The end of an [`MbufRing`] where frames come out.
pub struct MbufReceiver {
    ring: Arc<MbufRing>,
    not_sync: PhantomData<Cell<()>>,
}

impl MbufRing {
    /// Makes a ring for `capacity` frames less one; `capacity` is a power of two. The name is for
    /// people.
    ///
    /// It lies in EAL's heap. A ring as DPDK makes them is a zone of memory of its own, of which there
    /// are 2,560 in all: fewer than the pairs of 64 workers.
    ///
    /// # Errors
    /// If the capacity is not a power of two, the name is longer than 28 bytes, or there is no memory.
    pub fn create(
        eal: &Eal,
        name: &str,
        capacity: u32,
    ) -> Result<(MbufSender, MbufReceiver), RingError> {
        let failed = |errno| RingError { name: name.to_owned(), capacity, errno };
        let c_name = CString::new(name).map_err(|_| failed(Errno::new(22)))?;
        let flags = sys::RING_F_SP_ENQ | sys::RING_F_SC_DEQ;
        // SAFETY: a sum.
        let bytes = unsafe { sys::rte_ring_get_memsize(capacity) };
        let bytes = usize::try_from(bytes).map_err(|_| failed(Errno::new(bytes as i32)))?;
        // SAFETY: EAL is initialised; a piece of memory may have no name.
        let raw = unsafe { sys::rte_zmalloc(ptr::null(), bytes, ALIGN) };
        let raw = NonNull::new(raw.cast::<sys::rte_ring>());
        let no_memory = Errno::new(rustix::io::Errno::NOMEM.raw_os_error());
        let raw = raw.ok_or_else(|| failed(no_memory))?;
        // SAFETY: the memory has the length that a ring of this capacity needs, is aligned and nobody
        // else's; the name ends with a null.
        let made = unsafe { sys::rte_ring_init(raw.as_ptr(), c_name.as_ptr(), capacity, flags) };
        if let Err(errno) = check(made) {
            // SAFETY: it was just allocated, and nothing uses it.
            unsafe { sys::rte_free(raw.as_ptr().cast()) };
            return Err(failed(errno));
        }
        let ring = Arc::new(Self { raw, _eal: eal.clone() });
        Ok((
            MbufSender { ring: Arc::clone(&ring), not_sync: PhantomData },
            MbufReceiver { ring, not_sync: PhantomData },
        ))
    }

    fn len(&self) -> usize {
        // SAFETY: the ring is alive.
        unsafe { sys::shim_ring_count(self.raw.as_ptr()) as usize }
    }

    /// Moves frames from the ring behind those in `burst`.
    ///
    /// # Safety
    /// The caller is the ring's only consumer.
    #[inline]
    unsafe fn dequeue(&self, burst: &mut Burst, most: usize) -> usize {
        let ring = self.raw.as_ptr();
        let dequeue = |mbufs: *mut *mut sys::rte_mbuf, room: u16| {
            // SAFETY: the ring is alive, this is its only consumer, and `mbufs` has room for `room`.
            unsafe { sys::shim_ring_dequeue_burst(ring, mbufs.cast(), u32::from(room)) as usize }
        };
        // SAFETY: only `MbufSender::send` puts anything in, and it gives its frames up.
        unsafe { burst.fill(most, dequeue) }
    }
}

impl Drop for MbufRing {
    fn drop(&mut self) {
        let mut burst = Burst::new();
        // SAFETY: both ends are gone, so nobody else consumes.
        while unsafe { self.dequeue(&mut burst, BURST) } > 0 {
            burst.clear();
        }
        // SAFETY: the ring is empty, its last owner goes, and EAL, which `self` holds, is still there.
        unsafe { sys::rte_free(self.raw.as_ptr().cast()) };
    }
}

impl MbufSender {
    /// Puts as many frames from the front of `burst` into the ring as fit; returns how many. The
    /// others stay.
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        let ring = self.ring.raw.as_ptr();
        let enqueue = |mbufs: *mut *mut sys::rte_mbuf, count: u16| {
            // SAFETY: the ring is alive, `self` is its only producer, and `mbufs` are `count`
            // frames.
            unsafe { sys::shim_ring_enqueue_burst(ring, mbufs.cast(), u32::from(count)) as usize }
        };
        // SAFETY: the ring owns exactly those it says it took, the first ones.
        unsafe { burst.take(enqueue) }
    }

    /// Frames the ring holds when it is full.
    #[must_use]
    pub fn capacity(&self) -> usize {
        // SAFETY: the ring is alive.
        unsafe { sys::shim_ring_capacity(self.ring.raw.as_ptr()) as usize }
    }

    /// Frames in the ring; the receiver may be taking some.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl MbufReceiver {
    /// Moves what is in the ring behind the frames in `burst`, as many as fit; returns how many.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        // SAFETY: `self` is the ring's only consumer.
        unsafe { self.ring.dequeue(burst, BURST) }
    }

    /// Frames in the ring; the sender may be adding some.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for MbufRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MbufRing({} frames)", self.len())
    }
}

impl fmt::Debug for MbufSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MbufSender({} frames)", self.len())
    }
}

impl fmt::Debug for MbufReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MbufReceiver({} frames)", self.len())
    }
}

/// Why there is no ring.
#[derive(Clone, Debug)]
pub struct RingError {
    name: String,
    capacity: u32,
    errno: Errno,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, capacity, errno } = self;
        write!(
            f,
            "no ring {name:?} for {capacity} frames: {errno}; the capacity must be a power of two, \
             the name of at most 28 bytes, and if there is no memory, raise -m"
        )
    }
}

impl std::error::Error for RingError {}

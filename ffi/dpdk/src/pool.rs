//! Where frames live.

use std::ffi::CString;
use std::fmt;
use std::ptr::{self, NonNull};

use dpdk_sys as sys;

use crate::burst::{BURST, Burst};
use crate::eal::Eal;
use crate::errno::{Errno, check};
use crate::mbuf::Mbuf;

/// A pool of frames, all of the same size. Clones are handles on the same pool.
///
/// The pool lives until the whole [`Eal`] ends, so that no frame can outlive it.
#[derive(Clone)]
pub struct Pool {
    raw: NonNull<sys::rte_mempool>,
    count: u32,
    data_room: u16,
    eal: Eal,
}

// SAFETY: a mempool takes and gives objects from any number of threads at once (its handler is the
// multi-producer, multi-consumer ring), and lives as long as the Eal in it.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// Bytes a frame has room for if nobody says otherwise: an Ethernet frame of 1,500 bytes and
    /// tags, rounded up to what every device takes.
    pub const DATA_ROOM: u16 = 2_048;
    /// Bytes in front of a frame, for headers that would be added to it.
    const HEADROOM: u16 = sys::RTE_PKTMBUF_HEADROOM as u16;
    /// Most frames a thread keeps for itself.
    pub const CACHE_MAX: u32 = sys::RTE_MEMPOOL_CACHE_MAX_SIZE;

    /// Makes a pool of `count` frames with room for `data_room` bytes each; every registered thread
    /// keeps up to `cache` of them for itself (at most [`Self::CACHE_MAX`]; 0 keeps none).
    ///
    /// `count` is best one less than a power of two. A pool should have more than its queues'
    /// descriptors, the threads' caches and the frames in hand together.
    ///
    /// # Errors
    /// If the name is taken or too long (25 bytes), a number out of range, or the memory not there.
    pub fn create(
        eal: &Eal,
        name: &str,
        count: u32,
        cache: u32,
        data_room: u16,
    ) -> Result<Self, PoolError> {
        let failed = |errno| PoolError { name: name.to_owned(), count, data_room, errno };
        let invalid = || failed(Errno::new(22));
        let buffer = data_room.checked_add(Self::HEADROOM).ok_or_else(invalid)?;
        let c_name = CString::new(name).map_err(|_| invalid())?;
        // With hugepages a device may want a frame's buffer contiguous on its bus. Without them
        // there is no such device, and without the flag every frame would begin a page of its own,
        // all at the same offset: in a few sets of the cache.
        let flags = if eal.has_hugepages() { 0 } else { sys::RTE_MEMPOOL_F_NO_IOVA_CONTIG };
        // SAFETY: EAL is initialised, and the name ends with a null; the numbers are checked there.
        let raw = unsafe {
            sys::rte_mempool_create_empty(
                c_name.as_ptr(),
                count,
                size_of::<sys::rte_mbuf>() as u32 + u32::from(buffer),
                cache,
                size_of::<sys::rte_pktmbuf_pool_private>() as u32,
                sys::SHIM_SOCKET_ID_ANY,
                flags,
            )
        };
        let raw = NonNull::new(raw).ok_or_else(|| failed(Errno::last()))?;
        if let Err(errno) = Self::populate(raw, buffer) {
            // SAFETY: the mempool was just made, and nothing has come out of it.
            unsafe { sys::rte_mempool_free(raw.as_ptr()) };
            return Err(failed(errno));
        }
        eal.keep(raw);
        Ok(Self { raw, count, data_room, eal: eal.clone() })
    }

    /// What `rte_pktmbuf_pool_create` does with an empty mempool; it takes no flags, so it is done
    /// here.
    fn populate(raw: NonNull<sys::rte_mempool>, buffer: u16) -> Result<(), Errno> {
        let mempool = raw.as_ptr();
        // SAFETY: the mempool is empty, and the name that of the handler that is linked.
        check(unsafe {
            sys::rte_mempool_set_ops_byname(mempool, c"ring_mp_mc".as_ptr(), ptr::null_mut())
        })?;
        let mut private = sys::rte_pktmbuf_pool_private {
            mbuf_data_room_size: buffer,
            mbuf_priv_size: 0,
            flags: 0,
        };
        // SAFETY: the mempool was made with room for the private part, which is copied.
        unsafe { sys::rte_pktmbuf_pool_init(mempool, ptr::from_mut(&mut private).cast()) };
        // SAFETY: the mempool is empty and has its handler.
        check(unsafe { sys::rte_mempool_populate_default(mempool) })?;
        // SAFETY: every object is in the mempool; `rte_pktmbuf_init` is the function for objects of
        // this layout and wants no argument.
        unsafe { sys::rte_mempool_obj_iter(mempool, Some(sys::rte_pktmbuf_init), ptr::null_mut()) };
        Ok(())
    }

    /// Bytes of EAL's memory that a pool of `count` frames with `data_room` takes, roughly from
    /// above: what `-m` has to allow for.
    #[must_use]
    pub const fn memory_needed(count: u32, data_room: u16) -> u64 {
        // The object's own header is a line; DPDK pads objects by up to a few lines so that they
        // spread over memory channels; the handler's ring has the next power of two of pointers.
        let frame = (size_of::<sys::rte_mbuf>() + Self::HEADROOM as usize) as u64;
        let object = frame + data_room as u64 + 64 + 4 * 64;
        object * count as u64 + (count as u64 + 1).next_power_of_two() * 8 + (256 << 10)
    }

    /// Takes an empty frame; `None` if there is none.
    #[must_use]
    pub fn alloc(&self) -> Option<Mbuf> {
        let mut burst = Burst::new();
        self.alloc_into(&mut burst, 1);
        burst.pop()
    }

    /// Puts `count` empty frames behind those in `burst`, or as many as fit it; none at all if the
    /// pool has not so many. Returns how many.
    #[inline]
    pub fn alloc_into(&self, burst: &mut Burst, count: usize) -> usize {
        let raw = self.raw.as_ptr();
        let alloc = |mbufs, most: u16| {
            // SAFETY: the pool is alive, and `mbufs` has room for `most`.
            match unsafe { sys::shim_alloc_bulk(raw, mbufs, u32::from(most)) } {
                0 => usize::from(most),
                _ => 0,
            }
        };
        // SAFETY: a frame that the pool gives is nobody else's, and reset to one piece and a count
        // of one.
        unsafe { burst.fill(count, alloc) }
    }

    /// Takes a frame of `len` bytes, in as many pieces as it takes; `None` if there are not so many
    /// buffers, or it would take more than [`BURST`]. What the bytes are is as in
    /// [`Mbuf::set_len`].
    #[must_use]
    pub fn alloc_frame(&self, len: usize) -> Option<Mbuf> {
        let room = usize::from(self.data_room);
        let count = len.div_ceil(room).max(1);
        let mut pieces = Burst::new();
        if count > BURST || self.alloc_into(&mut pieces, count) < count {
            return None;
        }
        let mut rest = len;
        let mut whole: Option<Mbuf> = None;
        for mut piece in pieces.drain() {
            let bytes = rest.min(room);
            piece.set_len(bytes).ok()?;
            rest -= bytes;
            match &mut whole {
                None => whole = Some(piece),
                Some(whole) => whole.chain(piece).ok()?,
            }
        }
        whole
    }

    /// Frames that are home, those in the threads' caches included. Slow: for counting, not for
    /// deciding.
    #[must_use]
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is alive.
        unsafe { sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    /// Frames that are out: in bursts, in devices' rings, in [`crate::MbufRing`]s.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool is alive.
        unsafe { sys::rte_mempool_in_use_count(self.raw.as_ptr()) }
    }

    /// Frames in all.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Bytes each has room for.
    #[must_use]
    pub const fn data_room(&self) -> u16 {
        self.data_room
    }

    /// The pool as C takes it.
    pub(crate) const fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.raw.as_ptr()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("count", &self.count)
            .field("data_room", &self.data_room)
            .field("eal", &self.eal)
            .finish_non_exhaustive()
    }
}

/// Why there is no pool.
#[derive(Clone, Debug)]
pub struct PoolError {
    name: String,
    count: u32,
    data_room: u16,
    errno: Errno,
}

impl PoolError {
    /// The reason DPDK gave.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        self.errno
    }
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, count, data_room, errno } = self;
        let megabytes = Pool::memory_needed(*count, *data_room).div_ceil(1 << 20);
        write!(f, "no pool {name:?} of {count} frames with {data_room} bytes each: {errno}; ")?;
        match rustix::io::Errno::from_raw_os_error(errno.code()) {
            rustix::io::Errno::NOMEM => {
                write!(f, "it takes about {megabytes} MB: reserve more hugepages, or raise -m")
            }
            rustix::io::Errno::EXIST => f.write_str("every pool needs a name of its own"),
            rustix::io::Errno::NAMETOOLONG => f.write_str("a name has at most 25 bytes"),
            _ => write!(
                f,
                "a pool has at least one frame and at most {} bytes in each, and a cache of at most \
                 {} frames and two thirds of the pool",
                u16::MAX - Pool::HEADROOM,
                Pool::CACHE_MAX
            ),
        }
    }
}

impl std::error::Error for PoolError {}

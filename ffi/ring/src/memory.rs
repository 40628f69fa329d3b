//! Memory that processes share: made once, sealed against resizing, mapped with the least rights.
//!
//! A memory file that can shrink is a trap: whoever touches the lost part is killed by SIGBUS. So
//! [`SharedMemory::create`] seals the size at once and [`SharedMemory::from_fd`] refuses a file
//! whose size is not sealed.
//!
//! A memory's length and its file's are two things: a file is whole pages of its own, which may be
//! of 1 GiB, and what is beyond the length asked for is nobody's. So the pages a memory is made of
//! change nothing for those who use it.

use std::ffi::c_void;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{self, FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};
use xtcp_cpu::prefetch_read;

use crate::PageSize;

/// Bytes of an ordinary page, and the alignment of every part of an endpoint's memory.
pub const PAGE: usize = 4096;

/// How often the taking of one page may be interrupted by signals: net_tap has the kernel send one
/// for every burst.
const INTERRUPTIONS_MAX: usize = 100;

/// A memory file (memfd) of fixed size.
#[derive(Debug)]
pub struct SharedMemory {
    fd: OwnedFd,
    len: usize,
    /// Bytes of the file: what is mapped.
    file_len: usize,
}

impl SharedMemory {
    /// Makes zeroed memory of at least `len` bytes (rounded up to whole ordinary pages), in a file of
    /// whole pages of this size, and seals its size.
    ///
    /// Huge pages are all taken now, which costs the kernel's zeroing of them, or none is: two
    /// processes that ask at once do not take each other's. `name` appears in `/proc/PID/maps`.
    ///
    /// # Errors
    /// `len` is 0 or the kernel has no such memory; with huge pages this is the place that says so,
    /// not a SIGBUS later.
    pub fn create(name: &str, len: usize, page: PageSize) -> io::Result<Self> {
        let whole = |page: PageSize| {
            len.checked_next_multiple_of(page.bytes())
                .filter(|len| (1..=isize::MAX as usize).contains(len))
                .ok_or_else(|| io::Error::other(format!("{len} bytes is no size for a memory")))
        };
        let (len, file_len) = (whole(PageSize::Ordinary)?, whole(page)?);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | page.memfd_flags();
        let fd = fs::memfd_create(name, flags)?;
        fs::ftruncate(&fd, file_len as u64)?;
        let memory = Self { fd, len, file_len };
        if page != PageSize::Ordinary {
            memory.take_pages(page.bytes())?;
        }
        memory.seal_size()?;
        Ok(memory)
    }

    /// Has the kernel promise all huge pages or none, and then fill the file with them.
    fn take_pages(&self, page_bytes: usize) -> io::Result<()> {
        // The promise is made to the file, by its being mapped, and outlives the mapping.
        let start = map(self, ProtFlags::READ)?;
        drop(Area::of(self, start, Origin::Mapped));
        for at in (0..self.file_len).step_by(page_bytes) {
            let take =
                || fs::fallocate(&self.fd, FallocateFlags::empty(), at as u64, page_bytes as u64);
            let mut taken = take();
            for _ in 0..INTERRUPTIONS_MAX {
                if taken != Err(Errno::INTR) {
                    break;
                }
                taken = take();
            }
            taken?;
        }
        Ok(())
    }

    /// Takes over a memory file another process made, `len` bytes of it.
    ///
    /// # Errors
    /// The file is not a memfd of just the pages that hold `len` bytes, or its size is not sealed.
    pub fn from_fd(fd: OwnedFd, len: usize) -> io::Result<Self> {
        let size = fs::fstat(&fd)?.st_size;
        let page = usize::try_from(fs::fstatfs(&fd)?.f_bsize).unwrap_or(PAGE);
        let file_len = usize::try_from(size)
            .ok()
            .filter(|size| len > 0 && (len..len.saturating_add(page)).contains(size))
            .ok_or_else(|| {
                let text = format!("the memory file has {size} bytes where {len} were announced");
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?;
        let fixed = SealFlags::SHRINK | SealFlags::GROW;
        if !fs::fcntl_get_seals(&fd)?.contains(fixed) {
            let text =
                "the memory file's size is not sealed: its maker could kill us by shrinking it";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Self { fd, len, file_len })
    }

    /// The file, to be sent to the process that shall map it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The file, to be kept open until it was sent.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Length in bytes, a whole number of ordinary pages.
    #[expect(clippy::len_without_is_empty, reason = "a memory is never empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the file, a whole number of its pages: what the memory takes of the machine.
    #[must_use]
    pub fn file_len(&self) -> usize {
        self.file_len
    }

    /// Nobody can change the size any more. Idempotent; [`Self::create`] has already done it.
    ///
    /// # Errors
    /// The kernel's, when the file does not take seals.
    pub fn seal_size(&self) -> io::Result<()> {
        Ok(fs::fcntl_add_seals(&self.fd, SealFlags::SHRINK | SealFlags::GROW)?)
    }

    /// From now on nobody can map the memory writable, make a mapping writable, write the file or
    /// punch holes into it; writable mappings that exist stay. No seal can be added after this.
    ///
    /// # Errors
    /// The kernel's, when the file does not take seals.
    pub fn seal_future_write(&self) -> io::Result<()> {
        Ok(fs::fcntl_add_seals(&self.fd, SealFlags::FUTURE_WRITE | SealFlags::SEAL)?)
    }

    /// Whether [`Self::seal_future_write`] has been done, by whomever.
    ///
    /// # Errors
    /// The kernel's, when the file does not take seals.
    pub fn is_sealed_future_write(&self) -> io::Result<bool> {
        Ok(fs::fcntl_get_seals(&self.fd)?.contains(SealFlags::FUTURE_WRITE))
    }

    fn identity(&self) -> io::Result<Identity> {
        let stat = fs::fstat(&self.fd)?;
        Ok(Identity { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// Memory that both its sides write, as the rings and arenas use it. Clones share one mapping.
///
/// No reference into it exists except to atomics, so nothing the other side writes is undefined.
#[derive(Clone, Debug)]
pub struct Mapping {
    area: Arc<Area>,
}

impl Mapping {
    /// Maps a memory for reading and writing.
    ///
    /// # Errors
    /// This process maps it exclusively ([`ExclusiveMapping`]), it is sealed, or the kernel refuses.
    pub fn writable(memory: &SharedMemory) -> io::Result<Self> {
        let identity = memory.identity()?;
        let mut registry = registry();
        if registry.iter().any(|known| known.identity == identity && known.exclusive) {
            return Err(already_mapped());
        }
        let start = map(memory, ProtFlags::READ | ProtFlags::WRITE)?;
        registry.push(Known {
            identity,
            start: start.as_ptr() as usize,
            len: memory.len,
            mapped: memory.file_len,
            exclusive: false,
            outside: 0,
        });
        drop(registry);
        Ok(Self { area: Arc::new(Area::of(memory, start, Origin::registered())) })
    }

    /// Memory of this process alone, zeroed and page-aligned: both ends of a ring in one process.
    ///
    /// # Panics
    /// `len` is 0 or beyond what the allocator has.
    #[must_use]
    pub fn private(len: usize) -> Self {
        assert!(len > 0, "a private memory has at least one byte");
        let layout = std::alloc::Layout::from_size_align(len, PAGE).expect("len fits an isize");
        // SAFETY: the layout's size is not zero, asserted above.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { std::alloc::handle_alloc_error(layout) };
        Self { area: Arc::new(Area { start, len, mapped: len, origin: Origin::Heap(layout) }) }
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a memory is never empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.area.len
    }

    /// Where `len` bytes at `at` lie, if they are inside and `at` is a multiple of `align`.
    ///
    /// The pointer is good for reads and writes as long as a clone of this mapping lives.
    #[cfg_attr(loom, expect(dead_code, reason = "loom's rings lie in loom's own memory"))]
    pub(crate) fn place(&self, at: usize, len: usize, align: usize) -> Option<NonNull<u8>> {
        let end = at.checked_add(len)?;
        if end > self.area.len || at % align != 0 {
            return None;
        }
        // SAFETY: `at` is at most the length of the one area `start` points to.
        Some(unsafe { self.area.start.add(at) })
    }
}

/// The one writable mapping of a memory: tables and receive buffers, as the dataplane holds them.
///
/// That no other *process* writes is the contract between the processes: tables are sent to the
/// dataplane only, receive buffers are sealed ([`SharedMemory::seal_future_write`]) before an
/// application gets them. That nothing else in *this* process writes is checked here.
#[derive(Debug)]
pub struct ExclusiveMapping {
    area: Area,
}

impl ExclusiveMapping {
    /// Maps a memory for reading and writing and brings all of its pages in.
    ///
    /// # Errors
    /// This process already maps it writable, there is not enough memory, or the kernel refuses.
    pub fn map(memory: &SharedMemory) -> io::Result<Self> {
        let identity = memory.identity()?;
        let mut registry = registry();
        if registry.iter().any(|known| known.identity == identity) {
            return Err(already_mapped());
        }
        let start = map(memory, ProtFlags::READ | ProtFlags::WRITE)?;
        registry.push(Known {
            identity,
            start: start.as_ptr() as usize,
            len: memory.len,
            mapped: memory.file_len,
            exclusive: true,
            outside: 0,
        });
        drop(registry);
        let mapping = Self { area: Area::of(memory, start, Origin::registered()) };
        populate(&mapping.area, Advice::LinuxPopulateWrite)?;
        Ok(mapping)
    }

    /// The bytes, for as long as the process lives or until [`StaticBytes::reclaim`].
    #[must_use]
    pub fn into_static_bytes(self) -> &'static mut [u8] {
        let start = self.area.start.as_ptr();
        let len = self.area.len;
        if let Some(known) = registry().iter_mut().find(|known| known.start == start as usize) {
            known.outside = len;
        }
        std::mem::forget(self);
        // SAFETY: the area is mapped readable and writable, stays so because its owner is
        // forgotten, and no other reference or writable mapping of it exists (checked in `map`).
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// The bytes in one part per worker, cut as [`crate::worker_part`] says.
    #[must_use]
    pub fn into_static_parts(self, workers: u8) -> Vec<&'static mut [u8]> {
        let total = self.area.len as u64;
        let mut rest = self.into_static_bytes();
        (0..workers)
            .map(|worker| {
                let part = crate::worker_part(total, workers, worker);
                let len = usize::try_from(part.end - part.start).expect("a part of a mapping");
                let (part, after) = std::mem::take(&mut rest).split_at_mut(len);
                rest = after;
                part
            })
            .collect()
    }
}

/// Gives mapped memory back that had become `&'static mut [u8]`.
#[derive(Debug)]
pub enum StaticBytes {}

impl StaticBytes {
    /// Takes back a part of what [`ExclusiveMapping::into_static_bytes`] gave. When all parts of a
    /// mapping are back it is unmapped, and the answer is `true`.
    ///
    /// # Errors
    /// The bytes do not come from an exclusive mapping; they stay as they are.
    pub fn reclaim(bytes: &'static mut [u8]) -> Result<bool, NotMapped> {
        let first = bytes.as_mut_ptr() as usize;
        let len = bytes.len();
        let mut registry = registry();
        // Every byte was given out once and `bytes` is the only way to it, so when as many came
        // back as went out, nobody holds any.
        let known = registry
            .iter_mut()
            .find(|known| {
                known.outside > 0 && (known.start..known.start + known.len).contains(&first)
            })
            .ok_or(NotMapped)?;
        known.outside -= len.min(known.outside);
        if known.outside > 0 {
            return Ok(false);
        }
        let start = ptr::with_exposed_provenance_mut::<u8>(known.start);
        let start = NonNull::new(start).ok_or(NotMapped)?;
        let (len, mapped) = (known.len, known.mapped);
        let area = Area { start, len, mapped, origin: Origin::registered() };
        drop(registry);
        drop(area);
        Ok(true)
    }
}

/// The bytes are not (any more) part of an exclusive mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMapped;

impl fmt::Display for NotMapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes do not belong to an exclusive mapping")
    }
}

impl std::error::Error for NotMapped {}

/// Memory the dataplane writes and this process reads in place.
#[derive(Clone, Debug)]
pub struct ReadOnlyMapping {
    area: Arc<Area>,
}

impl ReadOnlyMapping {
    /// Maps a memory for reading.
    ///
    /// # Errors
    /// The kernel's.
    pub fn map(memory: &SharedMemory) -> io::Result<Self> {
        let start = map(memory, ProtFlags::READ)?;
        let area = Area::of(memory, start, Origin::Mapped);
        populate(&area, Advice::LinuxPopulateRead)?;
        Ok(Self { area: Arc::new(area) })
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a memory is never empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.area.len
    }

    /// Has the first line of bytes fetched that are about to be looked at: another core wrote them.
    #[inline]
    pub fn prefetch(&self, at: u64) {
        if let Some(bytes) = self.bytes(at, 1) {
            prefetch_read(bytes);
        }
    }

    /// `len` bytes at `at`, or `None` if they are not all inside.
    ///
    /// Look only at bytes a [`crate::Notice`] has given and not longer than until they are
    /// acknowledged: the dataplane, which is trusted, leaves them alone for just that long.
    #[must_use]
    pub fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(at).ok()?;
        if at.checked_add(len)? > self.area.len {
            return None;
        }
        // SAFETY: `at` is inside the area.
        let start = unsafe { self.area.start.add(at) };
        // SAFETY: `len` bytes from `start` are inside the area, mapped readable for as long as
        // `self` lives; the dataplane does not write bytes it has given (see above).
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), len) })
    }
}

/// A mapped or allocated range; its drop gives it back.
#[derive(Debug)]
struct Area {
    start: NonNull<u8>,
    /// Bytes that are used.
    len: usize,
    /// Bytes that are mapped, or allocated: at least `len`.
    mapped: usize,
    origin: Origin,
}

impl Area {
    /// A mapping of this memory that [`map`] has made.
    const fn of(memory: &SharedMemory, start: NonNull<u8>, origin: Origin) -> Self {
        Self { start, len: memory.len, mapped: memory.file_len, origin }
    }
}

#[derive(Debug)]
enum Origin {
    /// mmap.
    Mapped,
    /// mmap, and known to this process's registry.
    Registered { process: u32 },
    /// The allocator.
    Heap(std::alloc::Layout),
}

impl Origin {
    fn registered() -> Self {
        Self::Registered { process: std::process::id() }
    }
}

// SAFETY: an area is an address range owned by this value; what is done with its bytes is guarded
// by the types around it (atomics, raw copies, or one exclusive slice).
unsafe impl Send for Area {}
// SAFETY: as above; a shared `Area` only gives its address and length.
unsafe impl Sync for Area {}

impl Drop for Area {
    fn drop(&mut self) {
        let start = self.start.as_ptr();
        match self.origin {
            Origin::Heap(layout) => {
                // SAFETY: `start` came from `alloc_zeroed` with this layout and is given back once.
                unsafe { std::alloc::dealloc(start, layout) };
                return;
            }
            Origin::Registered { process } if process == std::process::id() => {
                registry().retain(|known| known.start != start as usize);
            }
            // A forked child lets go of what was its parent's. A thread that it has not may have held
            // the registry when it was born, and would hold it for ever.
            Origin::Registered { .. } | Origin::Mapped => {}
        }
        // SAFETY: `start` and `mapped` are exactly one mapping made by `map`, owned by this value.
        let unmapped = unsafe { mm::munmap(start.cast::<c_void>(), self.mapped) };
        debug_assert!(unmapped.is_ok(), "unmapping our own mapping cannot fail");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// A writable mapping of this process.
struct Known {
    identity: Identity,
    start: usize,
    len: usize,
    mapped: usize,
    exclusive: bool,
    /// Bytes that are out as `&'static mut [u8]`.
    outside: usize,
}

/// The writable mappings of this process, so that an exclusive one is.
static REGISTRY: Mutex<Vec<Known>> = Mutex::new(Vec::new());

fn registry() -> MutexGuard<'static, Vec<Known>> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn already_mapped() -> io::Error {
    let text = "this process already maps the memory for writing, and one of the two is exclusive";
    io::Error::new(io::ErrorKind::ResourceBusy, text)
}

fn map(memory: &SharedMemory, protection: ProtFlags) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
    let start = unsafe {
        mm::mmap(ptr::null_mut(), memory.file_len, protection, MapFlags::SHARED, &memory.fd, 0)
    }?;
    start.cast::<u8>().expose_provenance();
    NonNull::new(start.cast::<u8>()).ok_or_else(|| io::Error::other("mmap answered address 0"))
}

/// Brings the pages in now, so that no page fault (1.7 µs each) falls on the data path.
fn populate(area: &Area, advice: Advice) -> io::Result<()> {
    let start = area.start.as_ptr().cast::<c_void>();
    // SAFETY: the range is one whole mapping of ours; huge pages do not change its contents.
    let huge = unsafe { mm::madvise(start, area.mapped, Advice::LinuxHugepage) };
    // Advice only: kernels without transparent huge pages refuse it.
    let _ = huge;
    // SAFETY: the range is one whole mapping of ours; populating does not change its contents.
    match unsafe { mm::madvise(start, area.mapped, advice) } {
        // Kernels before 5.14 do not know this advice; there the pages come when touched.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

//! One worker's channel with one application, as each of the two sees it.

use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, compiler_fence};

use xtcp_cpu::{LINE, prefetch_read};

use crate::layout::{EndpointLayout, MAGIC, Notice, Submission, Unfit, VERSION};
use crate::memory::Mapping;
use crate::ring::{Consumer, Producer};

/// Offset of the magic number in the header page.
const HEADER_MAGIC: usize = 0;
/// Offset of the version in the header page.
const HEADER_VERSION: usize = 8;

/// The dataplane's side. Everything in it was written by somebody who may be hostile.
#[derive(Debug)]
pub struct DataplaneChannel {
    /// What the application asks.
    pub submissions: Consumer<Submission>,
    /// What the worker tells.
    pub notices: Producer<Notice>,
    /// What the application wants sent.
    pub arena: HostileArea,
}

impl DataplaneChannel {
    /// The channel of `worker` in an endpoint's memory. `layout` comes from the control plane.
    ///
    /// # Errors
    /// [`Unfit`] when the layout is impossible or larger than the memory.
    pub fn open(mapping: &Mapping, layout: &EndpointLayout, worker: u8) -> Result<Self, Unfit> {
        let offsets = checked(mapping, layout, worker)?;
        Ok(Self {
            submissions: Consumer::new(mapping, offsets.submissions, layout.submissions)?,
            notices: Producer::new(mapping, offsets.notices, layout.notices)?,
            arena: HostileArea {
                mapping: mapping.clone(),
                start: offsets.arena,
                len: layout.arena_bytes,
            },
        })
    }
}

/// The application's side.
#[derive(Debug)]
pub struct ApplicationChannel {
    /// What the application asks.
    pub submissions: Producer<Submission>,
    /// What the worker tells.
    pub notices: Consumer<Notice>,
    /// Where the application puts what it wants sent.
    pub arena: ArenaWriter,
}

impl ApplicationChannel {
    /// The channel to `worker` in an endpoint's memory.
    ///
    /// # Errors
    /// [`Unfit`] when the memory is of another version, or not as large as the layout says.
    pub fn open(mapping: &Mapping, layout: &EndpointLayout, worker: u8) -> Result<Self, Unfit> {
        let offsets = checked(mapping, layout, worker)?;
        let magic = header_u64(mapping, HEADER_MAGIC)?.load(Ordering::Relaxed);
        let version = header_u32(mapping, HEADER_VERSION)?.load(Ordering::Relaxed);
        if magic != MAGIC || version != VERSION {
            return Err(Unfit::Version(magic, version));
        }
        Ok(Self {
            submissions: Producer::new(mapping, offsets.submissions, layout.submissions)?,
            notices: Consumer::new(mapping, offsets.notices, layout.notices)?,
            arena: ArenaWriter {
                mapping: mapping.clone(),
                start: offsets.arena,
                len: layout.arena_bytes,
            },
        })
    }
}

impl EndpointLayout {
    /// Writes the header into a new endpoint's memory, for the application to compare.
    ///
    /// # Errors
    /// [`Unfit`] when the layout is impossible or larger than the memory.
    pub fn prepare(&self, mapping: &Mapping) -> Result<(), Unfit> {
        checked(mapping, self, 0)?;
        header_u32(mapping, HEADER_VERSION)?.store(VERSION, Ordering::Relaxed);
        header_u64(mapping, HEADER_MAGIC)?.store(MAGIC, Ordering::Relaxed);
        Ok(())
    }
}

fn checked(
    mapping: &Mapping,
    layout: &EndpointLayout,
    worker: u8,
) -> Result<crate::layout::ChannelOffsets, Unfit> {
    layout.check()?;
    if worker >= layout.workers {
        return Err(Unfit::NoSuchWorker(worker, layout.workers));
    }
    let bytes = layout.total_bytes();
    if bytes > mapping.len() {
        return Err(Unfit::Outside { at: 0, bytes, of: mapping.len() });
    }
    Ok(layout.channel(worker))
}

fn header_u64(mapping: &Mapping, at: usize) -> Result<&AtomicU64, Unfit> {
    let outside = Unfit::Outside { at, bytes: size_of::<u64>(), of: mapping.len() };
    let place = mapping.place(at, size_of::<u64>(), align_of::<u64>()).ok_or(outside)?;
    // SAFETY: inside the mapping and aligned; lives as long as the borrow of the mapping; an
    // atomic may be shared with writers anywhere.
    Ok(unsafe { place.cast().as_ref() })
}

fn header_u32(mapping: &Mapping, at: usize) -> Result<&AtomicU32, Unfit> {
    let outside = Unfit::Outside { at, bytes: size_of::<u32>(), of: mapping.len() };
    let place = mapping.place(at, size_of::<u32>(), align_of::<u32>()).ok_or(outside)?;
    // SAFETY: as in `header_u64`.
    Ok(unsafe { place.cast().as_ref() })
}

/// An offset and a length that do not lie inside the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfArea {
    /// First byte.
    pub at: u32,
    /// Bytes.
    pub len: usize,
    /// The arena's size.
    pub of: u32,
}

impl fmt::Display for OutOfArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {} are not inside an arena of {}", self.len, self.at, self.of)
    }
}

impl std::error::Error for OutOfArea {}

/// An application's arena as the dataplane sees it: bytes that may change at any time.
#[derive(Clone, Debug)]
pub struct HostileArea {
    mapping: Mapping,
    start: usize,
    len: u32,
}

impl HostileArea {
    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "an arena is never empty")]
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether `len` bytes at `at` lie inside.
    ///
    /// # Errors
    /// They do not.
    #[inline]
    pub fn check(&self, at: u32, len: usize) -> Result<(), OutOfArea> {
        check(at, len, self.len)
    }

    /// Has the first bytes of these fetched, if they lie inside: another core wrote them. What
    /// follows the processor fetches by itself when it is read in order.
    #[inline]
    pub fn prefetch(&self, at: u32, len: u32) {
        if len == 0 || self.check(at, len as usize).is_err() {
            return;
        }
        // A short answer lies in two lines at most.
        for byte in [at, at + len.min(LINE as u32) - 1] {
            let Some(place) = self.mapping.place(self.start + byte as usize, 1, 1) else { return };
            // SAFETY: inside the mapping, and aligned, being one byte; an atomic may be shared with
            // writers anywhere, and this one is not even read.
            let byte: &AtomicU8 = unsafe { place.cast().as_ref() };
            prefetch_read(byte);
        }
    }

    /// Copies bytes out. The copy is what to look at: the arena may change meanwhile, and a torn
    /// copy is the application's own loss.
    ///
    /// # Errors
    /// The bytes do not lie inside; nothing is copied then.
    #[inline]
    pub fn copy_out(&self, at: u32, into: &mut [u8]) -> Result<(), OutOfArea> {
        let outside = OutOfArea { at, len: into.len(), of: self.len };
        self.check(at, into.len())?;
        let from = self.mapping.place(self.start + at as usize, into.len(), 1).ok_or(outside)?;
        // SAFETY: `into.len()` bytes from `from` are inside the mapping (checked above) and
        // readable; `into` is our own memory and so does not overlap. Another process may write
        // the source meanwhile: the copy is then some mixture of bytes, each of which is a `u8`.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr(), into.len()) };
        // Without this the compiler could read the source again in place of the copy.
        compiler_fence(Ordering::SeqCst);
        Ok(())
    }
}

/// An application's own arena. What is to be recycled when is up to the application, by
/// [`Producer::consumed`].
#[derive(Debug)]
pub struct ArenaWriter {
    mapping: Mapping,
    start: usize,
    len: u32,
}

impl ArenaWriter {
    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "an arena is never empty")]
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Puts bytes at `at`. They are the dataplane's from the publication of a submission that
    /// names them until that submission is consumed.
    ///
    /// # Errors
    /// The bytes do not lie inside; nothing is written then.
    #[inline]
    pub fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), OutOfArea> {
        let outside = OutOfArea { at, len: bytes.len(), of: self.len };
        check(at, bytes.len(), self.len)?;
        let into = self.mapping.place(self.start + at as usize, bytes.len(), 1).ok_or(outside)?;
        // SAFETY: `bytes.len()` bytes from `into` are inside the mapping (checked above) and
        // writable; `bytes` is other memory, because nobody gets references into a `Mapping`. The
        // dataplane reads an arena only by raw copies.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), into.as_ptr(), bytes.len()) };
        Ok(())
    }
}

#[inline]
fn check(at: u32, len: usize, of: u32) -> Result<(), OutOfArea> {
    match usize::try_from(at).ok().and_then(|at| at.checked_add(len)) {
        Some(end) if end <= of as usize => Ok(()),
        _ => Err(OutOfArea { at, len, of }),
    }
}

//! Rings of fixed-size entries with one producer and one consumer in different processes.
//!
//! Positions run freely and wrap at 2^32; the index of an entry is its position modulo the
//! capacity, a power of two. Each side writes its own position and keeps it in its own memory as
//! well: what lies in shared memory is only ever *told* to the peer, never read back.
//!
//! Every access to shared memory is atomic, so a peer that writes where and when it should not
//! can make entries be nonsense, but never make the reading of them undefined.

use std::fmt;
use std::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::sync::{Ordering, fence};

#[cfg(loom)]
use modelled::Place;
#[cfg(loom)]
pub use modelled::pair;
#[cfg(not(loom))]
use shared::Place;

/// Largest capacity of a ring in entries. Positions would allow 2^31.
pub const CAPACITY_MAX: u32 = 1 << 20;

/// The peer's position cannot be: it lies, or something wrote over the ring. Detach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Our own position.
    pub own: u32,
    /// The position the peer claims.
    pub claimed: u32,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { own, claimed } = self;
        write!(f, "the ring's other side claims position {claimed}, impossible with ours at {own}")
    }
}

impl std::error::Error for Corrupt {}

/// No room for another entry, as far as is known: [`Producer::room`] says whether the peer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ring is full")
    }
}

impl std::error::Error for Full {}

/// What a ring can carry: plain bytes, a whole number of 8-byte words.
pub trait Entry: FromBytes + IntoBytes + Immutable + Copy {}

impl<T: FromBytes + IntoBytes + Immutable + Copy> Entry for T {}

/// The writing side.
#[derive(Debug)]
pub struct Producer<T> {
    place: Place<T>,
    capacity: u32,
    /// Next position to write.
    position: u32,
    /// The consumer's position when last looked at.
    consumed: u32,
    entries: PhantomData<fn(T)>,
}

impl<T: Entry> Producer<T> {
    /// Writes an entry; the consumer sees it after [`Self::publish`].
    ///
    /// # Errors
    /// [`Full`] when the consumer has not made room, or lies about it.
    #[inline]
    pub fn push(&mut self, entry: &T) -> Result<(), Full> {
        if self.position.wrapping_sub(self.consumed) >= self.capacity
            && self.room().unwrap_or(0) == 0
        {
            return Err(Full);
        }
        self.place.write(self.position & (self.capacity - 1), entry);
        self.position = self.position.wrapping_add(1);
        Ok(())
    }

    /// How many entries can be pushed now, 0 to the capacity; looks at the consumer's position.
    ///
    /// # Errors
    /// [`Corrupt`] when the consumer claims to have read what was not written.
    #[inline]
    pub fn room(&mut self) -> Result<u32, Corrupt> {
        let consumed = self.consumed()?;
        Ok(self.capacity - self.position.wrapping_sub(consumed))
    }

    /// Makes everything pushed visible to the consumer.
    #[inline]
    pub fn publish(&mut self) {
        self.place.producer().store(self.position, Ordering::Release);
    }

    /// How many entries have been pushed so far, modulo 2^32, published or not.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.position
    }

    /// How many entries the consumer has released so far, modulo 2^32. What a submission referred
    /// to may be reused when `consumed` has passed its position.
    ///
    /// # Errors
    /// [`Corrupt`] when the consumer claims to have read what was not written.
    #[inline]
    pub fn consumed(&mut self) -> Result<u32, Corrupt> {
        let claimed = self.place.consumer().load(Ordering::Acquire);
        if self.position.wrapping_sub(claimed) > self.capacity {
            return Err(Corrupt { own: self.position, claimed });
        }
        self.consumed = claimed;
        Ok(claimed)
    }

    /// The capacity in entries.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }
}

/// The reading side.
#[derive(Debug)]
pub struct Consumer<T> {
    place: Place<T>,
    capacity: u32,
    /// Next position to read.
    position: u32,
    /// The producer's position when last looked at.
    produced: u32,
    entries: PhantomData<fn() -> T>,
}

impl<T: Entry> Consumer<T> {
    /// Copies the next entry out. Its place is given back by [`Self::release`].
    ///
    /// # Errors
    /// [`Corrupt`] when the producer claims more entries than the ring has.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<T>, Corrupt> {
        if self.produced == self.position && self.available()? == 0 {
            return Ok(None);
        }
        let entry = self.place.read(self.position & (self.capacity - 1));
        self.position = self.position.wrapping_add(1);
        Ok(Some(entry))
    }

    /// How many entries can be popped now, 0 to the capacity; looks at the producer's position.
    ///
    /// # Errors
    /// [`Corrupt`] when the producer claims more entries than the ring has.
    #[inline]
    pub fn available(&mut self) -> Result<u32, Corrupt> {
        let claimed = self.place.producer().load(Ordering::Acquire);
        let available = claimed.wrapping_sub(self.position);
        if available > self.capacity {
            return Err(Corrupt { own: self.position, claimed });
        }
        self.produced = claimed;
        Ok(available)
    }

    /// How many entries can be popped without another look at the producer's position. Looks only
    /// if there seem to be none: its line is the producer's to write.
    ///
    /// # Errors
    /// As [`Self::available`].
    #[inline]
    pub fn known(&mut self) -> Result<u32, Corrupt> {
        match self.produced.wrapping_sub(self.position) {
            0 => self.available(),
            known => Ok(known),
        }
    }

    /// Gives the places of everything popped back to the producer.
    #[inline]
    pub fn release(&mut self) {
        self.place.consumer().store(self.position, Ordering::Release);
    }

    /// As [`Self::release`], but keeps the places of the `kept` popped last.
    #[inline]
    pub fn release_but(&mut self, kept: u32) {
        self.place.consumer().store(self.position.wrapping_sub(kept), Ordering::Release);
    }

    /// How many entries have been popped so far, modulo 2^32.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.position
    }

    /// The capacity in entries.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }
}

/// The flag by which a reader that goes to sleep asks to be woken.
///
/// Reader: [`Self::park`], look at all rings once more, sleep. Writer: publish, [`Self::take`], and
/// ring the bell if that says so. The two fences make sure that at least one sees the other.
#[derive(Debug)]
pub struct ParkFlag {
    place: FlagPlace,
}

impl ParkFlag {
    /// The reader is about to sleep. Look at all rings once more after this.
    pub fn park(&self) {
        self.place.flag().store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The reader is awake.
    pub fn unpark(&self) {
        self.place.flag().store(0, Ordering::Relaxed);
    }

    /// Whether the writer has to ring; says so once per sleep.
    #[inline]
    #[must_use]
    pub fn take(&self) -> bool {
        fence(Ordering::SeqCst);
        // A look before the swap: the line stays shared while the reader is awake.
        self.place.flag().load(Ordering::Relaxed) != 0
            && self.place.flag().swap(0, Ordering::Relaxed) != 0
    }

    /// Whether the reader sleeps, for a writer that lets it sleep on for a while. If not, it looks
    /// at all that was published before this is asked before it sleeps.
    #[inline]
    #[must_use]
    pub fn is_parked(&self) -> bool {
        fence(Ordering::SeqCst);
        self.place.flag().load(Ordering::Relaxed) != 0
    }
}

#[cfg(not(loom))]
use shared::FlagPlace;

#[cfg(loom)]
use modelled::FlagPlace;

/// Rings in shared memory.
#[cfg(not(loom))]
mod shared {
    use std::fmt;
    use std::marker::PhantomData;
    use std::ptr::NonNull;

    use super::{CAPACITY_MAX, Consumer, Entry, ParkFlag, Producer};
    use crate::layout::{RING_HEAD, Unfit};
    use crate::memory::Mapping;
    use crate::sync::{AtomicU32, AtomicU64, Ordering};

    /// Offset of the producer's position in a ring.
    const PRODUCER: usize = 0;
    /// Offset of the consumer's position: two cache lines on, because processors fetch pairs.
    const CONSUMER: usize = 128;
    /// Offset of the entries.
    const ENTRIES: usize = RING_HEAD;
    /// Alignment of a ring.
    const ALIGN: usize = 64;
    const WORD: usize = size_of::<u64>();

    /// Bytes a ring of `capacity` entries of `entry_bytes` takes.
    #[must_use]
    pub const fn ring_bytes(capacity: u32, entry_bytes: usize) -> usize {
        ENTRIES + capacity as usize * entry_bytes
    }

    /// One ring's addresses. The mapping is kept so that they stay good.
    pub(super) struct Place<T> {
        producer: NonNull<AtomicU32>,
        consumer: NonNull<AtomicU32>,
        entries: NonNull<[AtomicU64]>,
        mapping: Mapping,
        kind: PhantomData<T>,
    }

    // SAFETY: a place is addresses of atomics in a mapping it keeps alive; atomics may be used
    // from any thread.
    unsafe impl<T> Send for Place<T> {}

    impl<T> fmt::Debug for Place<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Place").field("mapping", &self.mapping).finish_non_exhaustive()
        }
    }

    impl<T: Entry> Place<T> {
        const WORDS: usize = {
            assert!(size_of::<T>() % WORD == 0 && size_of::<T>() > 0);
            size_of::<T>() / WORD
        };

        fn new(mapping: &Mapping, at: usize, capacity: u32) -> Result<Self, Unfit> {
            if !capacity.is_power_of_two() || capacity > CAPACITY_MAX {
                return Err(Unfit::Capacity(capacity));
            }
            let bytes = ring_bytes(capacity, size_of::<T>());
            let outside = Unfit::Outside { at, bytes, of: mapping.len() };
            let place = |offset: usize, len: usize| {
                let at = at.checked_add(offset).ok_or(outside)?;
                mapping.place(at, len, ALIGN).ok_or(outside)
            };
            let words = capacity as usize * Self::WORDS;
            let entries = place(ENTRIES, words * WORD)?.cast::<AtomicU64>();
            Ok(Self {
                producer: place(PRODUCER, size_of::<AtomicU32>())?.cast(),
                consumer: place(CONSUMER, size_of::<AtomicU32>())?.cast(),
                entries: NonNull::slice_from_raw_parts(entries, words),
                mapping: mapping.clone(),
                kind: PhantomData,
            })
        }

        pub(super) fn producer(&self) -> &AtomicU32 {
            // SAFETY: inside the mapping and aligned, checked in `new`; an atomic may be shared
            // with writers anywhere.
            unsafe { self.producer.as_ref() }
        }

        pub(super) fn consumer(&self) -> &AtomicU32 {
            // SAFETY: as for `producer`.
            unsafe { self.consumer.as_ref() }
        }

        fn words(&self, index: u32) -> &[AtomicU64] {
            // SAFETY: the whole slice is inside the mapping and aligned, checked in `new`;
            // atomics may be shared with writers anywhere.
            let all = unsafe { self.entries.as_ref() };
            &all[index as usize * Self::WORDS..][..Self::WORDS]
        }

        #[inline]
        pub(super) fn read(&self, index: u32) -> T {
            let mut entry = T::new_zeroed();
            for (bytes, word) in entry.as_mut_bytes().chunks_exact_mut(WORD).zip(self.words(index))
            {
                bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            }
            entry
        }

        #[inline]
        pub(super) fn write(&self, index: u32, entry: &T) {
            for (bytes, word) in entry.as_bytes().chunks_exact(WORD).zip(self.words(index)) {
                let mut value = [0; WORD];
                value.copy_from_slice(bytes);
                word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
            }
        }
    }

    impl<T: Entry> Producer<T> {
        /// The writing side of the ring at byte `at` of the mapping, which is zero there.
        ///
        /// # Errors
        /// [`Unfit`] when `capacity` is no power of two up to [`CAPACITY_MAX`], or the ring does
        /// not lie inside the mapping on a 64-byte boundary.
        pub fn new(mapping: &Mapping, at: usize, capacity: u32) -> Result<Self, Unfit> {
            Self::starting_at(mapping, at, capacity, 0)
        }

        pub(crate) fn starting_at(
            mapping: &Mapping,
            at: usize,
            capacity: u32,
            position: u32,
        ) -> Result<Self, Unfit> {
            let place = Place::new(mapping, at, capacity)?;
            Ok(Self { place, capacity, position, consumed: position, entries: PhantomData })
        }
    }

    impl<T: Entry> Consumer<T> {
        /// The reading side of the ring at byte `at` of the mapping, which is zero there.
        ///
        /// # Errors
        /// As [`Producer::new`].
        pub fn new(mapping: &Mapping, at: usize, capacity: u32) -> Result<Self, Unfit> {
            Self::starting_at(mapping, at, capacity, 0)
        }

        pub(crate) fn starting_at(
            mapping: &Mapping,
            at: usize,
            capacity: u32,
            position: u32,
        ) -> Result<Self, Unfit> {
            let place = Place::new(mapping, at, capacity)?;
            Ok(Self { place, capacity, position, produced: position, entries: PhantomData })
        }
    }

    #[derive(Debug)]
    pub(super) struct FlagPlace {
        flag: NonNull<AtomicU32>,
        /// Keeps `flag` good.
        _mapping: Mapping,
    }

    // SAFETY: the address of an atomic in a mapping that is kept alive.
    unsafe impl Send for FlagPlace {}

    impl FlagPlace {
        pub(super) fn flag(&self) -> &AtomicU32 {
            // SAFETY: inside the mapping and aligned, checked in `ParkFlag::new`; an atomic may be
            // shared with writers anywhere.
            unsafe { self.flag.as_ref() }
        }
    }

    impl ParkFlag {
        /// The flag at byte `at` of the mapping.
        ///
        /// # Errors
        /// [`Unfit`] when that is not inside the mapping on a 64-byte boundary.
        pub fn new(mapping: &Mapping, at: usize) -> Result<Self, Unfit> {
            let bytes = size_of::<AtomicU32>();
            let flag = mapping.place(at, bytes, ALIGN).ok_or(Unfit::Outside {
                at,
                bytes,
                of: mapping.len(),
            })?;
            Ok(Self { place: FlagPlace { flag: flag.cast(), _mapping: mapping.clone() } })
        }
    }
}

#[cfg(not(loom))]
pub use shared::ring_bytes;

/// Rings in loom's memory: every interleaving is tried, and an entry that is read while it is
/// written is found out.
#[cfg(loom)]
mod modelled {
    use std::marker::PhantomData;

    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    use super::{Consumer, Entry, ParkFlag, Producer};
    use crate::sync::AtomicU32;

    #[derive(Debug)]
    struct Memory<T> {
        producer: AtomicU32,
        consumer: AtomicU32,
        entries: Vec<UnsafeCell<T>>,
    }

    #[derive(Debug)]
    pub(super) struct Place<T>(Arc<Memory<T>>);

    // SAFETY: loom's own cells check every access between threads.
    unsafe impl<T> Send for Place<T> {}

    impl<T: Entry> Place<T> {
        pub(super) fn producer(&self) -> &AtomicU32 {
            &self.0.producer
        }

        pub(super) fn consumer(&self) -> &AtomicU32 {
            &self.0.consumer
        }

        pub(super) fn read(&self, index: u32) -> T {
            self.0.entries[index as usize].with(|entry| {
                // SAFETY: loom has checked that nobody writes the cell now.
                unsafe { *entry }
            })
        }

        pub(super) fn write(&self, index: u32, entry: &T) {
            self.0.entries[index as usize].with_mut(|place| {
                // SAFETY: loom has checked that nobody else uses the cell now.
                unsafe { *place = *entry }
            });
        }
    }

    /// Both ends of a ring in loom's memory.
    #[must_use]
    pub fn pair<T: Entry>(capacity: u32, position: u32) -> (Producer<T>, Consumer<T>) {
        let memory = Arc::new(Memory {
            producer: AtomicU32::new(position),
            consumer: AtomicU32::new(position),
            entries: (0..capacity).map(|_| UnsafeCell::new(T::new_zeroed())).collect(),
        });
        let producer = Producer {
            place: Place(memory.clone()),
            capacity,
            position,
            consumed: position,
            entries: PhantomData,
        };
        let consumer = Consumer {
            place: Place(memory),
            capacity,
            position,
            produced: position,
            entries: PhantomData,
        };
        (producer, consumer)
    }

    #[derive(Debug)]
    pub(super) struct FlagPlace(Arc<AtomicU32>);

    impl FlagPlace {
        pub(super) fn flag(&self) -> &AtomicU32 {
            &self.0
        }
    }

    impl ParkFlag {
        /// Both sides' handle to one flag.
        #[must_use]
        pub fn modelled() -> (Self, Self) {
            let flag = Arc::new(AtomicU32::new(0));
            (Self { place: FlagPlace(flag.clone()) }, Self { place: FlagPlace(flag) })
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

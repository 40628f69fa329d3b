//! Where everything lies in an endpoint's memory, and the two kinds of ring entries.
//!
//! ```text
//! 0      header (one page): magic, version, sizes; at 64 the flag of the sleeping application
//! 4096   worker 0: submission ring | notice ring | arena      each starts on a page
//!        worker 1: ...
//! ```
//!
//! The dataplane goes by the [`EndpointLayout`] the control plane gave it, never by what stands in
//! the header: the application can write there.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::memory::PAGE;

/// Version of layouts and messages. Both sides must have the same.
pub const VERSION: u32 = 3;

/// First eight bytes of an endpoint's memory: "XTCPring".
pub const MAGIC: u64 = u64::from_le_bytes(*b"XTCPring");

/// Offset of the flag by which a sleeping application asks to be woken.
pub const PARKED: usize = 64;

/// Workers a layout can have.
pub const WORKERS_MAX: u8 = 64;

/// Submissions that act together, at most.
pub const BATCH_MAX: usize = 32;

/// Largest arena of one worker's channel, in bytes.
pub const ARENA_MAX: u32 = 1 << 30;

/// What an application asks of a worker.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Submission {
    /// One of [`op`].
    pub op: u8,
    /// Any of [`flag`], or-ed.
    pub flags: u8,
    /// Zero.
    pub reserved: u16,
    /// The group's handle.
    pub gd: u32,
    /// The connection's handle.
    pub cd: u64,
    /// With [`flag::ACKNOWLEDGE`]: acknowledge the stream up to this offset, in bytes.
    pub offset: u64,
    /// First byte to send, an offset into this worker's arena.
    pub at: u32,
    /// Bytes to send; 0 sends nothing.
    pub len: u32,
}

const _: () = assert!(size_of::<Submission>() == 32);

/// Values of [`Submission::op`]. 0 is none, so that zeroed memory asks for nothing.
pub mod op {
    /// Complete the handshake of `cd`.
    pub const ACCEPT: u8 = 1;
    /// Acknowledge and send on `cd`.
    pub const SEND: u8 = 2;
    /// Close our direction of `cd` after what is queued.
    pub const CLOSE: u8 = 3;
    /// Reset `cd`.
    pub const ABORT: u8 = 4;
    /// Refuse the handshake of `cd`.
    pub const REFUSE: u8 = 5;
}

/// Bits of [`Submission::flags`].
pub mod flag {
    /// `offset` counts: acknowledge up to it.
    pub const ACKNOWLEDGE: u8 = 1;
    /// Give what stays unacknowledged again.
    pub const AGAIN: u8 = 2;
    /// Close our direction after this.
    pub const CLOSE_AFTER: u8 = 4;
    /// The next submission belongs to this: of [`super::op::SEND`]s that are chained so, up to and
    /// with the first without this flag, all act or none. At most [`super::BATCH_MAX`], with no
    /// other flag than [`ACKNOWLEDGE`].
    pub const MORE: u8 = 8;
}

/// What a worker tells an application.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Notice {
    /// One of [`kind`].
    pub kind: u8,
    /// Why: one of [`closed`] for [`kind::CLOSED`], one of [`refused`] for [`kind::SEND_REFUSED`]
    /// and [`kind::BATCH_REFUSED`].
    pub reason: u8,
    /// How many bytes, for [`kind::DATA`].
    pub len: u16,
    /// The group's handle.
    pub gd: u32,
    /// The connection's handle.
    pub cd: u64,
    /// Where in the connection's stream; for [`kind::SEND_REFUSED`] how many bytes were refused.
    pub offset: u64,
    /// Where in the pool's receive memory, as the application maps it, the bytes of
    /// [`kind::DATA`] begin.
    pub at: u64,
}

const _: () = assert!(size_of::<Notice>() == 32);

/// Values of [`Notice::kind`]. 0 is none.
pub mod kind {
    /// `cd` waits to be accepted.
    pub const ACCEPTABLE: u8 = 1;
    /// The handshake of `cd` is complete.
    pub const OPENED: u8 = 2;
    /// The next bytes of `cd`.
    pub const DATA: u8 = 3;
    /// The client has ended its stream at `offset`.
    pub const FINISHED: u8 = 4;
    /// `cd` is gone; its last notice. `offset` bytes of it were given and not acknowledged: they
    /// stay as they are until [`super::op::CLOSE`], or an acknowledgement of all, gives them up.
    pub const CLOSED: u8 = 5;
    /// A [`super::op::SEND`] could not be queued; its acknowledgement counts all the same.
    pub const SEND_REFUSED: u8 = 6;
    /// A successor was told of every connection that its predecessor left at this worker. Names
    /// no group; `cd` has the worker's number and no connection's.
    pub const RESUMED: u8 = 7;
    /// Submissions chained by [`super::flag::MORE`] could not all be done, so none was. `cd` is
    /// that of the first that could not, `offset` how many there were.
    pub const BATCH_REFUSED: u8 = 8;
    /// A group that is drained has no connection at this worker any more. `cd` has the worker's
    /// number and no connection's.
    pub const DRAINED: u8 = 9;
}

/// Why a connection is gone: values of [`Notice::reason`] with [`kind::CLOSED`].
pub mod closed {
    /// Both sides closed and everything was acknowledged.
    pub const BY_BOTH: u8 = 0;
    /// The client sent RST.
    pub const RESET: u8 = 1;
    /// The client did not acknowledge in time: it is *down*.
    pub const DOWN: u8 = 2;
    /// The application, its group or its pool ended it.
    pub const ABORTED: u8 = 3;
    /// The handshake was not accepted, or not completed, in time.
    pub const NOT_ACCEPTED: u8 = 4;
    /// No text came or went for the group's idle timeout.
    pub const IDLE: u8 = 5;
}

/// Why a submission was not done: values of [`Notice::reason`] with [`kind::SEND_REFUSED`] and
/// [`kind::BATCH_REFUSED`].
pub mod refused {
    /// There is no such connection or group any more.
    pub const GONE: u8 = 1;
    /// More is acknowledged than was given.
    pub const BEYOND_GIVEN: u8 = 5;
    /// The connection does not take bytes any more, or not yet.
    pub const NOT_OPEN: u8 = 6;
    /// The shared transmit buffer has no room now, or the pool has its share of it.
    pub const NO_BUFFER: u8 = 7;
    /// The connection has too much queued already.
    pub const BEHIND: u8 = 8;
    /// A table that connections share has no place now.
    pub const NO_RECORD: u8 = 11;
}

/// The sizes of an endpoint's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointLayout {
    /// Workers, each with a channel of its own: 1 to [`WORKERS_MAX`].
    pub workers: u8,
    /// Entries of each submission ring, a power of two up to [`crate::ring::CAPACITY_MAX`].
    pub submissions: u32,
    /// Entries of each notice ring, a power of two up to [`crate::ring::CAPACITY_MAX`].
    pub notices: u32,
    /// Bytes of each worker's arena, a multiple of 4096 up to [`ARENA_MAX`].
    pub arena_bytes: u32,
}

/// Where the parts of one worker's channel begin, in bytes from the memory's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelOffsets {
    /// The submission ring.
    pub submissions: usize,
    /// The notice ring.
    pub notices: usize,
    /// The arena.
    pub arena: usize,
}

impl EndpointLayout {
    /// Whether the sizes are within their bounds.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), Unfit> {
        if !(1..=WORKERS_MAX).contains(&self.workers) {
            return Err(Unfit::Workers(self.workers));
        }
        for capacity in [self.submissions, self.notices] {
            if !capacity.is_power_of_two() || capacity > crate::ring::CAPACITY_MAX {
                return Err(Unfit::Capacity(capacity));
            }
        }
        if self.arena_bytes == 0
            || self.arena_bytes > ARENA_MAX
            || self.arena_bytes as usize % PAGE != 0
        {
            return Err(Unfit::Arena(self.arena_bytes));
        }
        Ok(())
    }

    /// Bytes of the whole memory, a multiple of 4096.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        PAGE + self.channel_bytes() * self.workers as usize
    }

    /// Where the channel of `worker` lies.
    #[must_use]
    pub fn channel(&self, worker: u8) -> ChannelOffsets {
        let submissions = PAGE + self.channel_bytes() * worker as usize;
        let notices = submissions + self.submissions_bytes();
        ChannelOffsets { submissions, notices, arena: notices + self.notices_bytes() }
    }

    fn channel_bytes(&self) -> usize {
        self.submissions_bytes() + self.notices_bytes() + self.arena_bytes as usize
    }

    fn submissions_bytes(&self) -> usize {
        ring_pages(self.submissions, size_of::<Submission>())
    }

    fn notices_bytes(&self) -> usize {
        ring_pages(self.notices, size_of::<Notice>())
    }
}

/// Bytes of whole pages that hold a ring: 256 bytes of positions and the entries.
fn ring_pages(capacity: u32, entry_bytes: usize) -> usize {
    (RING_HEAD + capacity as usize * entry_bytes).next_multiple_of(PAGE)
}

/// Bytes of a ring before its entries.
pub(crate) const RING_HEAD: usize = 256;

/// The part of a pool's receive memory of `total` bytes that `worker` of `workers` fills.
///
/// Parts are equal up to rounding and lie in the workers' order; the control plane makes `total` a
/// multiple of `workers` pages, so that every part begins on a page.
#[must_use]
pub fn worker_part(total: u64, workers: u8, worker: u8) -> Range<u64> {
    let cut = |worker: u8| {
        let cut = u128::from(total) * u128::from(worker) / u128::from(workers.max(1));
        u64::try_from(cut).expect("a cut is at most the total")
    };
    cut(worker)..cut(worker + 1)
}

/// A memory or a layout that does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A ring's capacity is no power of two, or too large.
    Capacity(u32),
    /// There are no workers, or too many.
    Workers(u8),
    /// An arena's size is no multiple of a page, 0, or too large.
    Arena(u32),
    /// Worker asked for and workers there are.
    NoSuchWorker(u8, u8),
    /// Something does not lie inside the memory, or not on its boundary.
    Outside {
        /// Its offset.
        at: usize,
        /// Its size.
        bytes: usize,
        /// The memory's size.
        of: usize,
    },
    /// The memory is of another version than this program, or not an endpoint's memory at all.
    Version(u64, u32),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity(n) => write!(f, "a ring of {n} entries: not a power of two up to 2^20"),
            Self::Workers(n) => write!(f, "{n} workers: not 1 to {WORKERS_MAX}"),
            Self::Arena(n) => write!(f, "an arena of {n} bytes: not a multiple of 4096 up to 2^30"),
            Self::NoSuchWorker(worker, of) => write!(f, "worker {worker} of {of}"),
            Self::Outside { at, bytes, of } => {
                write!(
                    f,
                    "{bytes} bytes at {at} do not fit a memory of {of} bytes, or its boundaries"
                )
            }
            Self::Version(magic, version) if *magic == MAGIC => write!(
                f,
                "the appliance speaks version {version} and this program {VERSION}: build both alike"
            ),
            Self::Version(..) => f.write_str("this is not an endpoint's memory"),
        }
    }
}

impl std::error::Error for Unfit {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_whole_in_order() {
        for (total, workers) in [(4096, 1), (12288, 3), (1 << 40, 64), (10, 3), (0, 2)] {
            let mut at = 0;
            for worker in 0..workers {
                let part = worker_part(total, workers, worker);
                assert_eq!(part.start, at);
                at = part.end;
            }
            assert_eq!(at, total);
        }
    }

    #[test]
    fn channels_lie_on_pages_and_do_not_overlap() {
        let layout =
            EndpointLayout { workers: 3, submissions: 64, notices: 256, arena_bytes: 8192 };
        assert_eq!(layout.check(), Ok(()));
        let mut end = PAGE;
        for worker in 0..3 {
            let channel = layout.channel(worker);
            assert_eq!(channel.submissions, end);
            assert!(channel.notices >= channel.submissions + RING_HEAD + 64 * 32);
            assert!(channel.arena >= channel.notices + RING_HEAD + 256 * 32);
            for at in [channel.submissions, channel.notices, channel.arena] {
                assert_eq!(at % PAGE, 0);
            }
            end = channel.arena + 8192;
        }
        assert_eq!(end, layout.total_bytes());
    }

    #[test]
    fn impossible_layouts_are_refused() {
        let good = EndpointLayout { workers: 1, submissions: 2, notices: 2, arena_bytes: 4096 };
        assert_eq!(good.check(), Ok(()));
        let refused = [
            (EndpointLayout { workers: 0, ..good }, Unfit::Workers(0)),
            (EndpointLayout { workers: 65, ..good }, Unfit::Workers(65)),
            (EndpointLayout { submissions: 3, ..good }, Unfit::Capacity(3)),
            (EndpointLayout { notices: 0, ..good }, Unfit::Capacity(0)),
            (EndpointLayout { notices: 1 << 21, ..good }, Unfit::Capacity(1 << 21)),
            (EndpointLayout { arena_bytes: 0, ..good }, Unfit::Arena(0)),
            (EndpointLayout { arena_bytes: 100, ..good }, Unfit::Arena(100)),
            (
                EndpointLayout { arena_bytes: (1 << 30) + 4096, ..good },
                Unfit::Arena((1 << 30) + 4096),
            ),
        ];
        for (layout, why) in refused {
            assert_eq!(layout.check(), Err(why));
        }
    }
}

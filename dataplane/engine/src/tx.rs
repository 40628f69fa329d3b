//! Where a stack's frames go: a burst of mbufs, sent when it is full or the turn is over.

use core::fmt;

use dpdk::{BURST, Burst, Mbuf, Pool, TxQueue};
use xtcp_stack::world::{Below, Completion, Transmit};

use crate::stats::TxCounters;

/// A transmit queue and the frames on their way to it.
///
/// What the device has no room for stays here and goes first next time; meanwhile the stack is
/// told that there is no room. Nothing is dropped and nothing spins.
pub(crate) struct TxSink {
    queue: TxQueue,
    pool: Pool,
    burst: Burst,
    /// Empty mbufs for the next frames: the pool is asked for many at once.
    spare: Burst,
    /// The device completes TCP checksums.
    completes: bool,
    /// Bytes of a frame that fits one mbuf.
    room: usize,
    /// A frame in several mbufs is written here, in one piece; empty where there are none.
    scratch: Box<[u8]>,
    /// Its mbufs. It goes into them when the next frame is asked for or all are sent, and the burst
    /// has a place for it.
    long: Option<Mbuf>,
    counters: TxCounters,
}

impl TxSink {
    /// `completes`: the device completes TCP checksums. A frame has `frame_max` bytes at most; if
    /// that is more than the pool's mbufs have room for, the device takes frames in pieces.
    pub(crate) fn new(queue: TxQueue, pool: Pool, completes: bool, frame_max: usize) -> Self {
        let room = usize::from(pool.data_room());
        let scratch = if frame_max > room { vec![0; frame_max] } else { Vec::new() };
        Self {
            queue,
            pool,
            burst: Burst::new(),
            spare: Burst::new(),
            completes,
            room,
            scratch: scratch.into_boxed_slice(),
            long: None,
            counters: TxCounters::default(),
        }
    }

    /// What has been counted.
    pub(crate) fn counters(&self) -> TxCounters {
        TxCounters { refused: self.queue.refused(), ..self.counters }
    }

    /// Frames that are free to send with, and to receive into, for they are of one pool. Slow.
    pub(crate) fn frames_free(&self) -> u32 {
        self.pool.available().saturating_add(self.spare.len() as u32)
    }

    /// Sends what there is. Says how many frames went.
    #[inline]
    pub(crate) fn flush(&mut self) -> usize {
        self.settle();
        if self.burst.is_empty() {
            return 0;
        }
        let sent = self.queue.send(&mut self.burst);
        if !self.burst.is_empty() {
            self.counters.full += 1;
        }
        sent
    }

    /// An empty mbuf. The pool gives as many as a burst holds, or one where it has not so many left.
    #[inline]
    fn take(&mut self) -> Option<Mbuf> {
        if self.spare.is_empty() && self.pool.alloc_into(&mut self.spare, BURST) == 0 {
            return self.pool.alloc();
        }
        self.spare.pop()
    }

    /// The long frame, written by now, goes into its mbufs.
    #[inline]
    fn settle(&mut self) {
        if let Some(mbuf) = self.long.take() {
            self.put(mbuf);
        }
    }

    #[cold]
    fn put(&mut self, mut mbuf: Mbuf) {
        let written = self.scratch.get(..mbuf.len()).is_some_and(|frame| mbuf.copy_from(frame));
        debug_assert!(written, "the scratch holds the longest frame");
        // Its place was kept.
        let _ = self.burst.push(mbuf);
        self.counters.pieces += 1;
    }

    /// Room for a frame; `below` is what a segment has before it whose checksum is the device's to
    /// complete.
    #[inline]
    fn place(&mut self, len: usize, below: Option<Below>) -> Option<&mut [u8]> {
        self.settle();
        if self.burst.is_full() {
            self.flush();
            if self.burst.is_full() {
                return None;
            }
        }
        let is_long = len > self.room;
        debug_assert!(!is_long || len <= self.scratch.len(), "{len} bytes are no frame");
        let mbuf = if is_long { self.pool.alloc_frame(len) } else { self.take() };
        let Some(mut mbuf) = mbuf else {
            self.counters.no_mbuf += 1;
            return None;
        };
        if let Some(Below { ethernet, ip, is_v6 }) = below {
            mbuf.complete_tcp_checksum(ethernet, ip, is_v6);
            self.counters.completed += 1;
        }
        self.counters.frames += 1;
        self.counters.bytes += len as u64;
        if is_long {
            self.long = Some(mbuf);
            return self.scratch.get_mut(..len);
        }
        mbuf.set_len(len).ok()?;
        self.burst.push(mbuf).ok()?;
        self.burst.as_mut_slice().last_mut().map(Mbuf::bytes_mut)
    }

    /// Sends frames that are whole already, as many as the device takes; the rest is dropped and
    /// counted by the caller, who finds it in `burst`.
    pub(crate) fn forward(&mut self, burst: &mut Burst) -> usize {
        let bytes: usize = burst.iter().map(Mbuf::len).sum();
        let sent = self.queue.send(burst);
        let unsent: usize = burst.iter().map(Mbuf::len).sum();
        self.counters.frames += sent as u64;
        self.counters.bytes += (bytes - unsent) as u64;
        if !burst.is_empty() {
            self.counters.full += 1;
        }
        sent
    }

    /// The queue back, for the port to be stopped; frames not sent go home.
    pub(crate) fn into_queue(self) -> TxQueue {
        self.queue
    }
}

impl Transmit for TxSink {
    #[inline]
    fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        self.place(len, None)
    }

    #[inline]
    fn segment(&mut self, len: usize, below: Below) -> Option<(&mut [u8], Completion)> {
        let (below, by) = if self.completes {
            (Some(below), Completion::Device)
        } else {
            (None, Completion::Here)
        };
        self.place(len, below).map(|frame| (frame, by))
    }
}

impl fmt::Debug for TxSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxSink").field("waiting", &self.burst.len()).finish_non_exhaustive()
    }
}

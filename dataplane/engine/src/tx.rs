//! Where a stack's frames go: a burst of mbufs, sent when it is full or the turn is over.

use core::fmt;

use dpdk::{Burst, Pool, TxQueue};
use xtcp_stack::world::Transmit;

use crate::stats::TxCounters;

/// A transmit queue and the frames on their way to it.
///
/// What the device has no room for stays here and goes first next time; meanwhile the stack is
/// told that there is no room. Nothing is dropped and nothing spins.
pub(crate) struct TxSink {
    queue: TxQueue,
    pool: Pool,
    burst: Burst,
    pub(crate) counters: TxCounters,
}

impl TxSink {
    pub(crate) fn new(queue: TxQueue, pool: Pool) -> Self {
        Self { queue, pool, burst: Burst::new(), counters: TxCounters::default() }
    }

    /// Sends what there is. Says how many frames went.
    #[inline]
    pub(crate) fn flush(&mut self) -> usize {
        if self.burst.is_empty() {
            return 0;
        }
        let sent = self.queue.send(&mut self.burst);
        if !self.burst.is_empty() {
            self.counters.full += 1;
        }
        sent
    }

    /// Sends frames that are whole already, as many as the device takes; the rest is dropped and
    /// counted by the caller, who finds it in `burst`.
    pub(crate) fn forward(&mut self, burst: &mut Burst) -> usize {
        let bytes: usize = burst.iter().map(dpdk::Mbuf::len).sum();
        let sent = self.queue.send(burst);
        let unsent: usize = burst.iter().map(dpdk::Mbuf::len).sum();
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
    fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.burst.is_full() {
            self.flush();
            if self.burst.is_full() {
                return None;
            }
        }
        let Some(mut mbuf) = self.pool.alloc() else {
            self.counters.no_mbuf += 1;
            return None;
        };
        mbuf.set_len(len).ok()?;
        self.counters.frames += 1;
        self.counters.bytes += len as u64;
        self.burst.push(mbuf).ok()?;
        self.burst.as_mut_slice().last_mut().map(dpdk::Mbuf::bytes_mut)
    }
}

impl fmt::Debug for TxSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxSink").field("waiting", &self.burst.len()).finish_non_exhaustive()
    }
}

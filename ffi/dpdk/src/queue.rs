//! Queues: where frames come from and go to.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::burst::{BURST, Burst};
use crate::port::Running;

/// A receive queue. It belongs to one thread at a time.
pub struct RxQueue {
    port: u16,
    index: u16,
    running: Arc<Running>,
    not_sync: PhantomData<Cell<()>>,
}

/// A transmit queue. It belongs to one thread at a time.
pub struct TxQueue {
    port: u16,
    index: u16,
    /// Whether frames have work for the device, which its driver wants to look at first.
    prepares: bool,
    refused: u64,
    running: Arc<Running>,
    not_sync: PhantomData<Cell<()>>,
}

impl RxQueue {
    /// # Safety
    /// The queue is set up, the port started, and this the only owner of the queue.
    pub(crate) const unsafe fn new(port: u16, index: u16, running: Arc<Running>) -> Self {
        Self { port, index, running, not_sync: PhantomData }
    }

    /// The queue's number in its port.
    #[must_use]
    pub const fn index(&self) -> u16 {
        self.index
    }

    /// The number of its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Puts what has arrived behind the frames in `burst`, as many as fit; returns how many came.
    ///
    /// Give it an empty burst: some drivers only hand over multiples of 4 or 8.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        self.receive_at_most(burst, BURST)
    }

    /// As [`Self::receive`], but no more than `most` frames.
    #[inline]
    pub fn receive_at_most(&mut self, burst: &mut Burst, most: usize) -> usize {
        let (port, queue) = (self.port, self.index);
        let receive = |mbufs, room| {
            // SAFETY: the queue is set up and started as long as `self` lives, no other thread uses
            // it, and `mbufs` has room for `room`.
            usize::from(unsafe { sys::shim_rx_burst(port, queue, mbufs, room) })
        };
        // SAFETY: a frame that a driver hands over is nobody else's any more.
        unsafe { burst.fill(most, receive) }
    }

    /// Whether it is a queue of `running`.
    pub(crate) fn is_of(&self, running: &Arc<Running>) -> bool {
        Arc::ptr_eq(&self.running, running)
    }
}

impl TxQueue {
    /// # Safety
    /// The queue is set up, the port started, and this the only owner of the queue.
    pub(crate) const unsafe fn new(
        port: u16,
        index: u16,
        prepares: bool,
        running: Arc<Running>,
    ) -> Self {
        Self { port, index, prepares, refused: 0, running, not_sync: PhantomData }
    }

    /// The queue's number in its port.
    #[must_use]
    pub const fn index(&self) -> u16 {
        self.index
    }

    /// The number of its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Gives the device as many frames from the front of `burst` as it takes now; returns how many.
    /// The others stay: send them later, or [`Burst::clear`] them and count the loss.
    ///
    /// A frame whose work the driver will not give its device (see
    /// [`Mbuf::complete_tcp_checksum`](crate::Mbuf::complete_tcp_checksum)) is dropped and counted:
    /// [`Self::refused`].
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        if self.prepares { self.send_prepared(burst) } else { self.send_first(burst, u16::MAX) }
    }

    fn send_prepared(&mut self, burst: &mut Burst) -> usize {
        let count = burst.len();
        let ready = self.prepare(burst);
        let sent = self.send_first(burst, ready as u16);
        if ready < count && burst.remove(ready - sent).is_some() {
            self.refused += 1;
        }
        sent
    }

    /// Lets the driver look at the frames; how many of the first are ready.
    fn prepare(&self, burst: &mut Burst) -> usize {
        let (port, queue) = (self.port, self.index);
        let mut ready = 0;
        let prepare = |mbufs, count| {
            // SAFETY: as in `send_first`; the frames stay ours.
            ready = usize::from(unsafe { sys::shim_tx_prepare(port, queue, mbufs, count) });
            0
        };
        // SAFETY: none was taken.
        unsafe { burst.take(prepare) };
        ready.min(burst.len())
    }

    #[inline]
    fn send_first(&mut self, burst: &mut Burst, most: u16) -> usize {
        let (port, queue) = (self.port, self.index);
        let send = |mbufs, count: u16| {
            // SAFETY: the queue is set up and started as long as `self` lives, no other thread uses
            // it, and `mbufs` are `count` live frames that nobody else has.
            usize::from(unsafe { sys::shim_tx_burst(port, queue, mbufs, count.min(most)) })
        };
        // SAFETY: a driver owns exactly those it says it took, the first ones.
        unsafe { burst.take(send) }
    }

    /// Frames dropped because the driver would not give their work to its device.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether it is a queue of `running`.
    pub(crate) fn is_of(&self, running: &Arc<Running>) -> bool {
        Arc::ptr_eq(&self.running, running)
    }
}

impl fmt::Debug for RxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RxQueue({}:{})", self.port, self.index)
    }
}

impl fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TxQueue({}:{})", self.port, self.index)
    }
}

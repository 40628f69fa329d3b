//! One queue of a DPDK device, frames in and out.

use std::error::Error;

use dpdk::{
    BURST, Burst, Eal, EalArgs, Mbuf, Pool, Port, PortConfig, PortControl, RxQueue, TxQueue,
};
use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{Checksum, RxFrame, Transmit};

/// Frames the pool holds: descriptors of both queues, bursts and caches, with some to spare.
const FRAMES: u32 = 16_383;
/// Times a full device is asked again before a frame is given up: at first at once, then with the core
/// given to others in between, for the other end may wait for it. A kernel's queue would hold as much.
const TRIES_AT_ONCE: u32 = 2_000;
const TRIES: u32 = 20_000;

/// A started device with one queue each way. Fields are dropped in this order: EAL last.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) rx: Receiving,
    pub(crate) tx: Sending,
    control: PortControl,
    tsc_hz: u64,
    _eal: Eal,
}

/// Frames in.
#[derive(Debug)]
pub(crate) struct Receiving {
    queue: RxQueue,
    burst: Burst,
}

/// Frames out.
#[derive(Debug)]
pub(crate) struct Sending {
    queue: TxQueue,
    pool: Pool,
    burst: Burst,
    spare: Burst,
}

impl Device {
    /// Starts EAL and its first port.
    pub(crate) fn open(arguments: &[String], mtu: u16) -> Result<Self, Box<dyn Error>> {
        let mut arguments = EalArgs::parse(arguments)?;
        let needed = Pool::memory_needed(FRAMES, Pool::DATA_ROOM) >> 20;
        arguments.ensure_megabytes(u32::try_from(needed)? + 64);
        let eal = Eal::init(&arguments)?;
        let first = Port::all(&eal).first().copied().ok_or("no device: give EAL a --vdev")?;
        let room = Pool::DATA_ROOM.max(mtu + 64);
        let pool = Pool::create(&eal, "clients", FRAMES, 512, room)?;
        let config = PortConfig {
            rss: false,
            promiscuous: true,
            mtu,
            ..PortConfig::new(vec![pool.clone()])
        };
        let mut started = Port::open(&eal, first)?.configure(&config)?;
        let rx = started.rx.pop().ok_or("the device has no receive queue")?;
        let tx = started.tx.pop().ok_or("the device has no transmit queue")?;
        Ok(Self {
            rx: Receiving { queue: rx, burst: Burst::new() },
            tx: Sending { queue: tx, pool, burst: Burst::new(), spare: Burst::new() },
            control: started.control,
            tsc_hz: eal.tsc_hz(),
            _eal: eal,
        })
    }

    /// Its Ethernet address.
    pub(crate) fn mac(&self) -> Result<MacAddr, Box<dyn Error>> {
        Ok(MacAddr(self.control.mac()?))
    }

    /// Whether there is somebody at the other end.
    pub(crate) fn is_up(&self) -> bool {
        self.control.link().is_ok_and(|link| link.up)
    }

    /// Ticks per second of the time-stamp counter.
    pub(crate) const fn tsc_hz(&self) -> u64 {
        self.tsc_hz
    }
}

impl Receiving {
    /// Takes a burst from the device and shows it.
    pub(crate) fn each<T>(&mut self, use_them: impl FnOnce(&[RxFrame<'_>]) -> T) -> T {
        self.burst.clear();
        self.queue.receive(&mut self.burst);
        let nothing = RxFrame { bytes: &[], checksum: Checksum::Unknown };
        let mut frames = [nothing; BURST];
        for (frame, mbuf) in frames.iter_mut().zip(self.burst.iter()) {
            frame.bytes = mbuf.bytes();
            xtcp_cpu::prefetch_lines(frame.bytes, 2);
        }
        use_them(&frames[..self.burst.len()])
    }
}

impl Sending {
    /// Sends what there is; what the device has no room for stays.
    pub(crate) fn flush(&mut self) {
        if !self.burst.is_empty() {
            self.queue.send(&mut self.burst);
        }
    }

    /// Whether the device took everything so far.
    pub(crate) fn has_room(&self) -> bool {
        self.burst.is_empty()
    }

    /// Asks a full device again for a while: the other end may be about to make room.
    fn insist(&mut self) -> bool {
        for attempt in 0..TRIES {
            self.flush();
            if !self.burst.is_full() {
                return true;
            }
            if attempt < TRIES_AT_ONCE {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        false
    }

    fn take(&mut self) -> Option<Mbuf> {
        if self.spare.is_empty() {
            self.pool.alloc_into(&mut self.spare, BURST);
        }
        self.spare.pop()
    }
}

impl Transmit for Sending {
    fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.burst.is_full() && !self.insist() {
            return None;
        }
        let mut mbuf = self.take()?;
        mbuf.set_len(len).ok()?;
        self.burst.push(mbuf).ok()?;
        self.burst.as_mut_slice().last_mut().map(Mbuf::bytes_mut)
    }
}

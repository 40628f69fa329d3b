//! The queues of a DPDK device, frames in and out.

use std::error::Error;

use dpdk::{
    BURST, Burst, Eal, EalArgs, Mbuf, Pool, Port, PortConfig, PortControl, RxQueue, TxQueue,
};
use xtcp_stack::wire::ethernet::{HEADER as ETHERNET_HEADER, MacAddr};
use xtcp_stack::{Checksum, RxFrame, Transmit};

/// Frames the pool holds: descriptors of both queues, bursts and caches, with some to spare.
const FRAMES: u32 = 16_383;
/// Times a full device is asked again before a frame is given up: at first at once, then with the core
/// given to others in between, for the other end may wait for it. A kernel's queue would hold as much.
const TRIES_AT_ONCE: u32 = 2_000;
const TRIES: u32 = 20_000;

/// A started device with as many queues each way. Fields are dropped in this order: EAL last.
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
    queues: Vec<RxQueue>,
    /// The one to look at next.
    next: usize,
    burst: Burst,
}

/// Frames out.
#[derive(Debug)]
pub(crate) struct Sending {
    lanes: Vec<Lane>,
    pool: Pool,
    /// The frame that is being made; it has no lane yet.
    made: Option<Mbuf>,
    spare: Burst,
}

/// A queue and what waits for it.
#[derive(Debug)]
struct Lane {
    queue: TxQueue,
    burst: Burst,
}

impl Device {
    /// Starts EAL and its first port, with so many queues each way.
    pub(crate) fn open(
        arguments: &[String],
        mtu: u16,
        queues: usize,
    ) -> Result<Self, Box<dyn Error>> {
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
            ..PortConfig::new(vec![pool.clone(); queues])
        };
        let started = Port::open(&eal, first)?.configure(&config)?;
        let lane = |queue| Lane { queue, burst: Burst::new() };
        let lanes = started.tx.into_iter().map(lane).collect();
        Ok(Self {
            rx: Receiving { queues: started.rx, next: 0, burst: Burst::new() },
            tx: Sending { lanes, pool, made: None, spare: Burst::new() },
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
    /// Takes a burst from the queue whose turn it is and shows it.
    pub(crate) fn each<T>(&mut self, use_them: impl FnOnce(&[RxFrame<'_>]) -> T) -> T {
        self.burst.clear();
        if let Some(queue) = self.queues.get_mut(self.next) {
            queue.receive(&mut self.burst);
        }
        self.next = if self.next + 1 < self.queues.len() { self.next + 1 } else { 0 };
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
        self.line_up();
        for Lane { queue, burst } in &mut self.lanes {
            if !burst.is_empty() {
                queue.send(burst);
            }
        }
    }

    /// Whether the device took everything so far.
    pub(crate) fn has_room(&self) -> bool {
        self.made.is_none() && self.lanes.iter().all(|lane| lane.burst.is_empty())
    }

    /// Puts the frame that was made into its lane; says whether there was room.
    fn line_up(&mut self) -> bool {
        let Some(mbuf) = self.made.take() else { return true };
        let lane = lane_of(mbuf.bytes(), self.lanes.len());
        self.made = match self.lanes.get_mut(lane) {
            Some(lane) => lane.burst.push(mbuf).err(),
            None => None,
        };
        self.made.is_none()
    }

    /// Asks a full device again for a while: the other end may be about to make room.
    fn insist(&mut self) -> bool {
        for attempt in 0..TRIES {
            self.flush();
            if self.line_up() {
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
        if !self.line_up() && !self.insist() {
            return None;
        }
        let mut mbuf = self.take()?;
        mbuf.set_len(len).ok()?;
        Some(self.made.insert(mbuf).bytes_mut())
    }
}

/// The lane of a frame of ours: that of its client's port, so that what a client sends stays in its
/// order. What is nobody's goes by the first.
fn lane_of(frame: &[u8], lanes: usize) -> usize {
    let port_at = match frame.get(12..14) {
        Some([0x08, 0x00]) => ETHERNET_HEADER + 20,
        Some([0x86, 0xdd]) => ETHERNET_HEADER + 40,
        _ => return 0,
    };
    let port = frame.get(port_at + 1).copied().unwrap_or(0);
    if lanes > 1 { usize::from(port) % lanes } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of a client's port, with so many bytes before its TCP header.
    fn frame(ethertype: [u8; 2], port_at: usize, port: u16) -> Vec<u8> {
        let mut bytes = vec![0; port_at];
        bytes[12..14].copy_from_slice(&ethertype);
        bytes.extend(port.to_be_bytes());
        bytes
    }

    #[test]
    fn a_client_keeps_its_lane_and_clients_have_all() {
        for (ethertype, port_at) in [([0x08, 0x00], 34), ([0x86, 0xdd], 54)] {
            let lanes: Vec<usize> =
                (2000..2006).map(|port| lane_of(&frame(ethertype, port_at, port), 3)).collect();
            assert_eq!(lanes, [1, 2, 0, 1, 2, 0]);
            assert_eq!(lane_of(&frame(ethertype, port_at, 2001), 1), 0);
            assert_eq!(lane_of(&frame(ethertype, port_at, 2001)[..port_at], 3), 0, "cut short");
        }
        assert_eq!(lane_of(&frame([0x08, 0x06], 34, 2001), 3), 0, "ARP");
        assert_eq!(lane_of(&[], 3), 0);
    }
}

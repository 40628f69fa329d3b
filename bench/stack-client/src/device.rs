//! One queue of a DPDK device, frames in and out.

use std::error::Error;

use dpdk::{
    BURST, Burst, Eal, EalArgs, Mbuf, Pool, Port, PortConfig, PortControl, RxChecksum, RxQueue,
    TxQueue,
};
use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{Below, Checksum, Completion, RxFrame, Transmit};

/// Frames the pool holds.
const FRAMES: u32 = 8191;

/// A started device with one queue each way. Fields are dropped in this order: EAL last.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) rx: Receiving,
    pub(crate) tx: Sending,
    control: PortControl,
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
    /// The device completes TCP checksums.
    completes: bool,
}

impl Device {
    /// Starts EAL and its first port, which has the care of TCP checksums if it can.
    pub(crate) fn open(arguments: &[String]) -> Result<Self, Box<dyn Error>> {
        let eal = Eal::init(&EalArgs::parse(arguments)?)?;
        let first = Port::all(&eal).first().copied().ok_or("no device: give EAL a --vdev")?;
        let pool = Pool::create(&eal, "client", FRAMES, 256, Pool::DATA_ROOM)?;
        let config = PortConfig {
            rss: false,
            rx_checksums: true,
            tx_checksums: true,
            ..PortConfig::new(vec![pool.clone()])
        };
        let mut started = Port::open(&eal, first)?.configure(&config)?;
        let rx = started.rx.pop().ok_or("the device has no receive queue")?;
        let tx = started.tx.pop().ok_or("the device has no transmit queue")?;
        Ok(Self {
            rx: Receiving { queue: rx, burst: Burst::new() },
            tx: Sending {
                queue: tx,
                pool,
                burst: Burst::new(),
                completes: started.control.completes_tcp(),
            },
            control: started.control,
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
            frame.checksum = match mbuf.checksum() {
                RxChecksum::Unknown => Checksum::Unknown,
                RxChecksum::Good | RxChecksum::Absent => Checksum::Good,
                RxChecksum::Bad => Checksum::Bad,
            };
        }
        use_them(&frames[..self.burst.len()])
    }
}

impl Sending {
    /// Sends what there is.
    pub(crate) fn flush(&mut self) {
        if !self.burst.is_empty() {
            self.queue.send(&mut self.burst);
        }
    }
}

impl Sending {
    fn place(&mut self, len: usize, below: Option<Below>) -> Option<&mut [u8]> {
        if self.burst.is_full() {
            self.flush();
        }
        if self.burst.is_full() {
            return None;
        }
        let mut mbuf = self.pool.alloc()?;
        mbuf.set_len(len).ok()?;
        if let Some(Below { ethernet, ip, is_v6 }) = below {
            mbuf.complete_tcp_checksum(ethernet, ip, is_v6);
        }
        self.burst.push(mbuf).ok()?;
        self.burst.as_mut_slice().last_mut().map(Mbuf::bytes_mut)
    }
}

impl Transmit for Sending {
    fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        self.place(len, None)
    }

    fn segment(&mut self, len: usize, below: Below) -> Option<(&mut [u8], Completion)> {
        let (below, by) = if self.completes {
            (Some(below), Completion::Device)
        } else {
            (None, Completion::Here)
        };
        self.place(len, below).map(|frame| (frame, by))
    }
}

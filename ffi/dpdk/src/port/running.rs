//! A device that runs: its queues and its control.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::Arc;

use dpdk_sys as sys;

use super::error::{Action, PortError, is_unsupported};
use super::info::{Link, PortInfo, PortStats, takes_pieces};
use super::{Port, redirection};
use crate::errno::check;
use crate::queue::{RxQueue, TxQueue};

/// A running device: its queues, to be given to workers, and its control.
#[derive(Debug)]
pub struct StartedPort {
    /// The receive queues, by number.
    pub rx: Vec<RxQueue>,
    /// The transmit queues, by number.
    pub tx: Vec<TxQueue>,
    /// Everything else.
    pub control: PortControl,
}

/// A started device, held by its queues and its control; when the last goes, it stops.
#[derive(Debug)]
pub(crate) struct Running {
    /// `None` only after it was stopped.
    pub(super) port: Option<Port>,
}

impl Running {
    fn stop(&mut self) -> Option<(Port, i32)> {
        let port = self.port.take()?;
        // SAFETY: the port is started, and nobody has a queue of it: this is the last holder.
        let done = unsafe { sys::rte_eth_dev_stop(port.id) };
        Some((port, done))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What was chosen when the port was configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) hashes: u64,
    /// As bits of `RTE_ETH_RX_OFFLOAD_*` and `RTE_ETH_TX_OFFLOAD_*`.
    pub(super) rx_offloads: u64,
    pub(super) tx_offloads: u64,
    pub(super) rx_descriptors: u16,
    pub(super) tx_descriptors: u16,
}

/// The control of a running device. It belongs to one thread at a time, and works while others use
/// the queues.
#[derive(Debug)]
pub struct PortControl {
    pub(super) running: Arc<Running>,
    pub(super) chosen: Chosen,
    /// How many receive and transmit queues there are.
    pub(super) queues: (u16, u16),
    /// It may move to another thread, but DPDK wants one caller at a time.
    pub(super) not_sync: PhantomData<Cell<()>>,
}

impl PortControl {
    fn port(&self) -> &Port {
        self.running.port.as_ref().expect("a running port is only taken by its last holder")
    }

    /// The port's number.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.port().id
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.port().name()
    }

    /// What the device is and can do.
    ///
    /// # Errors
    /// If the driver does not say.
    pub fn info(&self) -> Result<PortInfo, PortError> {
        self.port().info()
    }

    /// The device's own address.
    ///
    /// # Errors
    /// If the driver does not say.
    pub fn mac(&self) -> Result<[u8; 6], PortError> {
        self.port().mac()
    }

    /// The link as last seen; does not wait for it.
    ///
    /// # Errors
    /// If the driver does not say.
    pub fn link(&self) -> Result<Link, PortError> {
        self.port().link()
    }

    /// Whether the device spreads TCP over IPv4 and over IPv6 by ports and addresses.
    #[must_use]
    pub const fn rss_hashes(&self) -> (bool, bool) {
        let hashes = self.chosen.hashes;
        (hashes & sys::SHIM_RSS_IPV4_TCP != 0, hashes & sys::SHIM_RSS_IPV6_TCP != 0)
    }

    /// Whether the device verifies the TCP checksums of received frames.
    #[must_use]
    pub const fn verifies_tcp(&self) -> bool {
        self.chosen.rx_offloads & sys::SHIM_RX_OFFLOAD_TCP_CKSUM != 0
    }

    /// Whether the device completes the TCP checksums of frames that ask for it.
    #[must_use]
    pub const fn completes_tcp(&self) -> bool {
        self.chosen.tx_offloads & sys::SHIM_TX_OFFLOAD_TCP_CKSUM != 0
    }

    /// Whether frames may come and go in several pieces.
    #[must_use]
    pub const fn takes_pieces(&self) -> bool {
        takes_pieces(self.chosen.rx_offloads, self.chosen.tx_offloads)
    }

    /// The queue that each entry of the device's redirection table names, as the device says;
    /// empty if it has none, or does not say.
    ///
    /// # Errors
    /// If the driver does not say what the device is.
    pub fn redirection(&self) -> Result<Vec<u16>, PortError> {
        let size = self.info()?.reta_size;
        let mut table = redirection(size, |_| u16::MAX);
        // SAFETY: the port exists, and the table has a group for every 64 of its entries.
        let done = unsafe { sys::rte_eth_dev_rss_reta_query(self.id(), table.as_mut_ptr(), size) };
        if done != 0 {
            return Ok(Vec::new());
        }
        let entries = table.iter().flat_map(|group| group.reta);
        Ok(entries.take(usize::from(size)).collect())
    }

    /// Descriptors of each receive and each transmit queue.
    #[must_use]
    pub const fn descriptors(&self) -> (u16, u16) {
        (self.chosen.rx_descriptors, self.chosen.tx_descriptors)
    }

    /// What the device has counted.
    ///
    /// # Errors
    /// If the driver does not say.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        // SAFETY: every field is a number, for which zero is valid.
        let mut stats: sys::rte_eth_stats = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the port exists, and `stats` is valid for writing.
        let done = unsafe { sys::rte_eth_stats_get(self.id(), &mut stats) };
        self.port().check(Action::Stats, done)?;
        Ok(PortStats {
            rx_frames: stats.ipackets,
            tx_frames: stats.opackets,
            rx_bytes: stats.ibytes,
            tx_bytes: stats.obytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
            rx_no_mbuf: stats.rx_nombuf,
        })
    }

    /// Sets the device's counters to zero.
    ///
    /// # Errors
    /// If the driver cannot.
    pub fn clear_stats(&self) -> Result<(), PortError> {
        // SAFETY: the port exists.
        self.port().check(Action::Stats, unsafe { sys::rte_eth_stats_reset(self.id()) })
    }

    /// Takes frames for every address, or only for its own. A device without the choice takes all.
    ///
    /// # Errors
    /// If the driver cannot although it has the choice.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), PortError> {
        let id = self.id();
        let done = if on {
            // SAFETY: the port exists.
            unsafe { sys::rte_eth_promiscuous_enable(id) }
        } else {
            // SAFETY: the port exists.
            unsafe { sys::rte_eth_promiscuous_disable(id) }
        };
        self.check_choice(Action::Promiscuous, done)
    }

    /// Takes every multicast frame, or only those asked for. A device without the choice takes all.
    ///
    /// # Errors
    /// If the driver cannot although it has the choice.
    pub fn set_all_multicast(&self, on: bool) -> Result<(), PortError> {
        let id = self.id();
        let done = if on {
            // SAFETY: the port exists.
            unsafe { sys::rte_eth_allmulticast_enable(id) }
        } else {
            // SAFETY: the port exists.
            unsafe { sys::rte_eth_allmulticast_disable(id) }
        };
        self.check_choice(Action::AllMulticast, done)
    }

    fn check_choice(&self, action: Action, done: i32) -> Result<(), PortError> {
        match check(done) {
            Err(errno) if is_unsupported(errno) => Ok(()),
            _ => self.port().check(action, done),
        }
    }

    /// Stops the device. Every queue has to come back, so that no worker can be using one.
    ///
    /// # Errors
    /// If a queue is missing or another port's, everything is given back; if the driver fails, the
    /// device is closed.
    pub fn stop(self, rx: Vec<RxQueue>, tx: Vec<TxQueue>) -> Result<Port, StopError> {
        let all = rx.len() == usize::from(self.queues.0)
            && tx.len() == usize::from(self.queues.1)
            && rx.iter().all(|queue| queue.is_of(&self.running))
            && tx.iter().all(|queue| queue.is_of(&self.running));
        if !all {
            return Err(StopError::QueuesMissing(Box::new(StartedPort { rx, tx, control: self })));
        }
        drop((rx, tx));
        let stopped = Arc::into_inner(self.running).and_then(|mut running| running.stop());
        let (port, done) = stopped.expect("the queues are the only other holders");
        match check(done) {
            Err(errno) if !is_unsupported(errno) => {
                Err(StopError::Driver(port.failed(Action::Stop, errno)))
            }
            _ => Ok(port),
        }
    }
}

/// Why a port was not stopped.
#[derive(Debug)]
pub enum StopError {
    /// Not every queue came back; here is everything that was given.
    QueuesMissing(Box<StartedPort>),
    /// The driver failed, and the device is closed.
    Driver(PortError),
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueuesMissing(port) => write!(
                f,
                "port {} cannot be stopped before all of its {} receive and {} transmit queues have \
                 come back from the workers",
                port.control.id(),
                port.control.queues.0,
                port.control.queues.1
            ),
            Self::Driver(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StopError {}

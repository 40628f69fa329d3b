//! Ports: devices with their queues.

mod config;
mod error;
mod info;
mod running;

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::eal::Eal;
use crate::errno::{Errno, check};
use crate::pool::Pool;
use crate::queue::{RxQueue, TxQueue};

pub use self::config::{PortConfig, RSS_KEY_MAX};
pub use self::error::PortError;
pub use self::info::{Link, PortInfo, PortStats};
pub(crate) use self::running::Running;
pub use self::running::{PortControl, StartedPort, StopError};

use self::error::{Action, is_unsupported};
use self::info::{takes_pieces, tcp_hashes};
use self::running::Chosen;

/// What a frame has beside its MTU: Ethernet's header and two VLAN tags. Devices cut the FCS off.
const OVERHEAD: u32 = 14 + 2 * 4;

/// A device that is not started. It has one owner; dropped, the device is closed for good.
#[derive(Debug)]
pub struct Port {
    id: u16,
    name: String,
    eal: Eal,
    /// Drivers read it again whenever they start the device.
    rss_key: Option<Box<[u8; RSS_KEY_MAX]>>,
}

impl Port {
    /// The numbers of all ports.
    #[must_use]
    pub fn all(_eal: &Eal) -> Vec<u16> {
        let mut ids = Vec::new();
        let mut next = 0;
        while let Some(id) = Self::next(next) {
            ids.push(id);
            next = id + 1;
        }
        ids
    }

    /// The first port from `from` on that no other part of DPDK (a bond, say) owns.
    fn next(from: u16) -> Option<u16> {
        // SAFETY: EAL is initialised; 0 is "no owner".
        let next = unsafe { sys::rte_eth_find_next_owned_by(from, 0) };
        u16::try_from(next).ok().filter(|id| u32::from(*id) < sys::RTE_MAX_ETHPORTS)
    }

    /// Becomes the owner of port `id`.
    ///
    /// # Errors
    /// If there is no such port, or somebody owns it.
    pub fn open(eal: &Eal, id: u16) -> Result<Self, PortError> {
        let mut name = [0 as c_char; sys::RTE_ETH_NAME_MAX_LEN as usize];
        // SAFETY: the array has the length the function wants.
        let found = check(unsafe { sys::rte_eth_dev_get_name_by_port(id, name.as_mut_ptr()) });
        let no_port = |errno| PortError { port: id, name: "?".into(), action: Action::Open, errno };
        found.map_err(no_port)?;
        // SAFETY: the function wrote a string with its null into the array.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        if !eal.claim(id) {
            let errno = Errno::new(rustix::io::Errno::BUSY.raw_os_error());
            return Err(PortError { port: id, name, action: Action::Open, errno });
        }
        Ok(Self { id, name, eal: eal.clone(), rss_key: None })
    }

    /// The port's number.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// The device's name: `net_tap0`, `0000:03:00.0`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the device is and can do.
    ///
    /// # Errors
    /// If the driver does not say.
    pub fn info(&self) -> Result<PortInfo, PortError> {
        let raw = self.raw_info()?;
        let driver = if raw.driver_name.is_null() {
            String::new()
        } else {
            // SAFETY: the driver's name is a string in its program text.
            unsafe { CStr::from_ptr(raw.driver_name) }.to_string_lossy().into_owned()
        };
        let max_mtu = if takes_what_its_ring_takes(&driver) { u16::MAX } else { largest_mtu(&raw) };
        // SAFETY: the port exists as long as it is owned.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.id) };
        let mut mtu = 0;
        // SAFETY: the port exists, and `mtu` is valid for writing.
        self.check(Action::Info, unsafe { sys::rte_eth_dev_get_mtu(self.id, &mut mtu) })?;
        Ok(PortInfo {
            id: self.id,
            name: self.name.clone(),
            driver,
            mac: self.mac()?,
            socket: u32::try_from(socket).ok(),
            mtu,
            min_mtu: raw.min_mtu,
            max_mtu,
            max_rx_queues: raw.max_rx_queues,
            max_tx_queues: raw.max_tx_queues,
            rx_descriptors: (raw.rx_desc_lim.nb_min, raw.rx_desc_lim.nb_max),
            tx_descriptors: (raw.tx_desc_lim.nb_min, raw.tx_desc_lim.nb_max),
            rss_offloads: raw.flow_type_rss_offloads,
            reta_size: raw.reta_size,
            rx_offloads: raw.rx_offload_capa,
            tx_offloads: raw.tx_offload_capa,
            link: self.link()?,
        })
    }

    /// Configures the device, sets up its queues and starts it.
    ///
    /// # Errors
    /// If the configuration does not fit the device or a step fails; the device is then closed.
    pub fn configure(mut self, config: &PortConfig) -> Result<StartedPort, PortError> {
        let info = self.raw_info()?;
        self.check_config(config, &info)?;
        let hashes = if config.rss { info.flow_type_rss_offloads & tcp_hashes() } else { 0 };
        self.rss_key = config.rss_key.map(Box::new);

        // SAFETY: every field is a number, a pointer or an array of them, for which zero is valid,
        // and means "the default".
        let mut settings: sys::rte_eth_conf = unsafe { MaybeUninit::zeroed().assume_init() };
        settings.rxmode.mtu = u32::from(config.mtu.min(largest_mtu(&info)));
        if hashes != 0 {
            settings.rxmode.mq_mode = sys::SHIM_MQ_RX_RSS;
            settings.rx_adv_conf.rss_conf.rss_hf = hashes;
            if let Some(bytes) =
                self.rss_key.as_mut().and_then(|key| key.get_mut(..wanted_key(&info)))
            {
                settings.rx_adv_conf.rss_conf.rss_key = bytes.as_mut_ptr();
                settings.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size;
            }
            settings.rxmode.offloads |= info.rx_offload_capa & sys::SHIM_RX_OFFLOAD_RSS_HASH;
        }
        if config.rx_checksums {
            let checksums = sys::SHIM_RX_OFFLOAD_IPV4_CKSUM | sys::SHIM_RX_OFFLOAD_TCP_CKSUM;
            settings.rxmode.offloads |= info.rx_offload_capa & checksums;
        }
        if config.tx_checksums {
            settings.txmode.offloads |= info.tx_offload_capa & sys::SHIM_TX_OFFLOAD_TCP_CKSUM;
        }
        if config.pieces && takes_pieces(info.rx_offload_capa, info.tx_offload_capa) {
            settings.rxmode.offloads |= sys::SHIM_RX_OFFLOAD_SCATTER;
            settings.txmode.offloads |= sys::SHIM_TX_OFFLOAD_MULTI_SEGS;
        }
        let (rx_queues, tx_queues) = (config.rx_pools.len() as u16, config.tx_queues);
        // SAFETY: the port exists, is stopped and owned; the settings are copied; the key they
        // point to lies in a box of its own that lives until the device is closed.
        let done = unsafe { sys::rte_eth_dev_configure(self.id, rx_queues, tx_queues, &settings) };
        self.check(Action::Configure { rx_queues, tx_queues }, done)?;

        let (rx_descriptors, tx_descriptors) = self.set_up_queues(config, &settings, &info)?;
        let chosen = Chosen {
            hashes,
            rx_offloads: settings.rxmode.offloads,
            tx_offloads: settings.txmode.offloads,
            rx_descriptors,
            tx_descriptors,
        };
        self.start(config, chosen, &info)
    }

    /// Refuses what no driver says clearly.
    fn check_config(
        &self,
        config: &PortConfig,
        info: &sys::rte_eth_dev_info,
    ) -> Result<(), PortError> {
        let refuse = |action| self.failed(action, Errno::new(22));
        if config.mtu > self.info()?.max_mtu {
            return Err(refuse(Action::Mtu(config.mtu)));
        }
        let queues = |given: usize, most: u16| (1..=usize::from(most)).contains(&given);
        if !queues(config.rx_pools.len(), info.max_rx_queues)
            || !queues(usize::from(config.tx_queues), info.max_tx_queues)
        {
            return Err(refuse(Action::Queues { rx: info.max_rx_queues, tx: info.max_tx_queues }));
        }
        let smallest = config.rx_pools.iter().map(Pool::data_room).min().unwrap_or(0);
        let pieces = config.pieces && takes_pieces(info.rx_offload_capa, info.tx_offload_capa);
        if u32::from(config.mtu) + OVERHEAD > u32::from(smallest) && !pieces {
            return Err(refuse(Action::DataRoom { mtu: config.mtu, data_room: smallest }));
        }
        Ok(())
    }

    /// Sets all queues up; returns their numbers of descriptors as the device wants them.
    fn set_up_queues(
        &self,
        config: &PortConfig,
        settings: &sys::rte_eth_conf,
        info: &sys::rte_eth_dev_info,
    ) -> Result<(u16, u16), PortError> {
        let (mut rx, mut tx) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: the port exists, and both numbers are valid for reading and writing.
        let adjusted = unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &mut rx, &mut tx) };
        self.check(Action::Descriptors, adjusted)?;
        // SAFETY: the port exists as long as it is owned.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.id) } as u32;

        let mut rx_conf = info.default_rxconf;
        rx_conf.offloads = settings.rxmode.offloads;
        for (queue, pool) in (0_u16..).zip(&config.rx_pools) {
            // SAFETY: the port is configured with that many queues and stopped; the pool lives as
            // long as EAL; the settings are copied.
            let done = unsafe {
                sys::rte_eth_rx_queue_setup(self.id, queue, rx, socket, &rx_conf, pool.as_ptr())
            };
            self.check(Action::RxQueue(queue), done)?;
        }
        let mut tx_conf = info.default_txconf;
        tx_conf.offloads = settings.txmode.offloads;
        for queue in 0..config.tx_queues {
            // SAFETY: the port is configured with that many queues and stopped; the settings are
            // copied.
            let done = unsafe { sys::rte_eth_tx_queue_setup(self.id, queue, tx, socket, &tx_conf) };
            self.check(Action::TxQueue(queue), done)?;
        }
        Ok((rx, tx))
    }

    /// Starts the device and makes its queues' owners.
    fn start(
        self,
        config: &PortConfig,
        chosen: Chosen,
        info: &sys::rte_eth_dev_info,
    ) -> Result<StartedPort, PortError> {
        // The driver took the MTU when it was configured; those that must also tell a kernel
        // interface have a call for it, and the others say that they have none.
        if config.mtu <= largest_mtu(info) {
            // SAFETY: the port is configured and stopped.
            let mtu = unsafe { sys::rte_eth_dev_set_mtu(self.id, config.mtu) };
            if check(mtu).is_err_and(|errno| !is_unsupported(errno)) {
                return Err(self.failed(Action::Mtu(config.mtu), Errno::new(mtu)));
            }
        }
        // SAFETY: the port is configured, all its queues are set up, and it is stopped.
        self.check(Action::Start, unsafe { sys::rte_eth_dev_start(self.id) })?;

        let rx_queues = config.rx_pools.len() as u16;
        if chosen.hashes != 0 && info.reta_size > 0 {
            self.spread_evenly(info.reta_size, rx_queues)?;
        }

        let id = self.id;
        let prepares = chosen.tx_offloads & sys::SHIM_TX_OFFLOAD_TCP_CKSUM != 0;
        let running = Arc::new(Running { port: Some(self) });
        let rx = (0..rx_queues)
            // SAFETY: the queue is set up, the port started, and each number is made once.
            .map(|queue| unsafe { RxQueue::new(id, queue, Arc::clone(&running)) })
            .collect();
        let tx = (0..config.tx_queues)
            // SAFETY: the queue is set up, the port started, and each number is made once.
            .map(|queue| unsafe { TxQueue::new(id, queue, prepares, Arc::clone(&running)) })
            .collect();
        let queues = (rx_queues, config.tx_queues);
        let control = PortControl { running, chosen, queues, not_sync: PhantomData };
        if config.promiscuous {
            control.set_promiscuous(true)?;
        }
        if config.all_multicast {
            control.set_all_multicast(true)?;
        }
        Ok(StartedPort { rx, tx, control })
    }

    /// Has the redirection table name the receive queues in turn. Drivers usually do, those that
    /// cannot be told among them; so every entry is where [`PortControl::redirection`] says.
    fn spread_evenly(&self, size: u16, rx_queues: u16) -> Result<(), PortError> {
        let mut table = redirection(size, |entry| entry % rx_queues);
        // SAFETY: the port is started, and the table has a group for every 64 of its entries.
        let done = unsafe { sys::rte_eth_dev_rss_reta_update(self.id, table.as_mut_ptr(), size) };
        match check(done) {
            Err(errno) if is_unsupported(errno) => Ok(()),
            _ => self.check(Action::Redirection, done),
        }
    }

    fn raw_info(&self) -> Result<sys::rte_eth_dev_info, PortError> {
        let mut info = MaybeUninit::zeroed();
        // SAFETY: the port exists, and `info` is valid for writing.
        let done = unsafe { sys::rte_eth_dev_info_get(self.id, info.as_mut_ptr()) };
        self.check(Action::Info, done)?;
        // SAFETY: the function filled it, and zero was valid before.
        Ok(unsafe { info.assume_init() })
    }

    /// The device's own address.
    ///
    /// # Errors
    /// If the driver does not say.
    pub fn mac(&self) -> Result<[u8; 6], PortError> {
        let mut mac = sys::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: the port exists, and `mac` is valid for writing.
        let done = unsafe { sys::rte_eth_macaddr_get(self.id, &mut mac) };
        self.check(Action::Info, done)?;
        Ok(mac.addr_bytes)
    }

    fn link(&self) -> Result<Link, PortError> {
        // SAFETY: every field is a number, for which zero is valid.
        let mut link: sys::rte_eth_link = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the port exists, and `link` is valid for writing.
        let done = unsafe { sys::rte_eth_link_get_nowait(self.id, &mut link) };
        self.check(Action::Link, done)?;
        let mbps = (link.link_speed != u32::MAX && link.link_speed != 0).then_some(link.link_speed);
        Ok(Link { up: link.link_status() != 0, mbps, full_duplex: link.link_duplex() != 0 })
    }

    fn failed(&self, action: Action, errno: Errno) -> PortError {
        PortError { port: self.id, name: self.name.clone(), action, errno }
    }

    fn check(&self, action: Action, returned: i32) -> Result<(), PortError> {
        check(returned).map(drop).map_err(|errno| self.failed(action, errno))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // SAFETY: the port is stopped (`Running` stops it before it lets go of it), and its queues
        // are gone.
        let _ = unsafe { sys::rte_eth_dev_close(self.id) };
        self.eal.unclaim(self.id);
    }
}

/// The largest MTU that DPDK lets the device be told, which asks both for the largest MTU and for
/// the longest frame.
fn largest_mtu(info: &sys::rte_eth_dev_info) -> u16 {
    // Ethernet's header and FCS, unless the device says how the two differ.
    let overhead = match info.max_rx_pktlen.checked_sub(u32::from(info.max_mtu)) {
        Some(differ) if info.max_mtu != u16::MAX && differ > 0 => differ,
        _ => 14 + 4,
    };
    let by_frame = info.max_rx_pktlen.saturating_sub(overhead);
    u16::try_from(by_frame).unwrap_or(u16::MAX).min(info.max_mtu)
}

/// net_af_packet says that it takes 1,500 bytes, and takes what fits a frame of its ring
/// (`framesz=`), if the kernel's interface does. So it is told no more than it says.
fn takes_what_its_ring_takes(driver: &str) -> bool {
    driver == "net_af_packet"
}

/// Bytes of RSS key the device wants; more than any if it does not say.
fn wanted_key(info: &sys::rte_eth_dev_info) -> usize {
    match info.hash_key_size {
        0 => usize::MAX,
        bytes => usize::from(bytes),
    }
}

/// A redirection table of `size` entries, each of which names a queue.
fn redirection(size: u16, queue: impl Fn(u16) -> u16) -> Vec<sys::rte_eth_rss_reta_entry64> {
    let group = sys::SHIM_RETA_GROUP;
    let of_group = |first: u16| {
        let mut entries = sys::rte_eth_rss_reta_entry64 { mask: 0, reta: [0; 64] };
        for entry in first..first.saturating_add(group).min(size) {
            entries.mask |= 1 << (entry - first);
            entries.reta[usize::from(entry - first)] = queue(entry);
        }
        entries
    };
    (0..size.div_ceil(group)).map(|index| of_group(index * group)).collect()
}

//! Ports: devices with their queues.

use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::eal::Eal;
use crate::errno::{Errno, check};
use crate::pool::Pool;
use crate::queue::{RxQueue, TxQueue};

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

/// What RSS may hash so that a connection's segments always meet in one queue.
const fn tcp_hashes() -> u64 {
    sys::SHIM_RSS_IPV4_TCP | sys::SHIM_RSS_IPV6_TCP
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

/// Whether a device with these offloads receives and sends frames in several pieces.
const fn takes_pieces(rx_offloads: u64, tx_offloads: u64) -> bool {
    rx_offloads & sys::SHIM_RX_OFFLOAD_SCATTER != 0
        && tx_offloads & sys::SHIM_TX_OFFLOAD_MULTI_SEGS != 0
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

/// Whether a driver just has no such call.
fn is_unsupported(errno: Errno) -> bool {
    errno.code() == rustix::io::Errno::NOTSUP.raw_os_error()
        || errno.code() == rustix::io::Errno::NOSYS.raw_os_error()
}

/// Bytes an RSS key has at most: those of the largest device, and some.
pub const RSS_KEY_MAX: usize = 64;

/// How a port is to be set up.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// The pool of each receive queue; there are as many queues as pools (clones of one are fine).
    pub rx_pools: Vec<Pool>,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Descriptors of each receive queue; brought into the device's limits.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue; brought into the device's limits.
    pub tx_descriptors: u16,
    /// Bytes of an IP packet. With the headers it must fit the pools' data room.
    pub mtu: u16,
    /// Spread TCP over the receive queues by a hash of addresses and ports, as far as the device
    /// can; [`PortControl::rss_hashes`] says how far.
    pub rss: bool,
    /// Let the device verify IPv4 and TCP checksums if it can. Some virtual devices (net_tap) do it
    /// in software, where the stack would do it as well.
    pub rx_checksums: bool,
    /// Let the device complete TCP checksums if it can, for frames that
    /// [ask for it](crate::Mbuf::complete_tcp_checksum).
    pub tx_checksums: bool,
    /// Let frames longer than a pool's data room come and go in several pieces, if the device can
    /// do both.
    pub pieces: bool,
    /// What RSS hashes with: as many of the bytes as the device wants, up to [`RSS_KEY_MAX`]. With
    /// none the driver has its own, which others may know.
    pub rss_key: Option<[u8; RSS_KEY_MAX]>,
    /// Take frames for every address.
    pub promiscuous: bool,
    /// Take every multicast frame; IPv6's neighbour discovery needs some.
    pub all_multicast: bool,
}

impl PortConfig {
    /// One transmit queue for each receive queue, 1,024 descriptors each, an MTU of 1,500 bytes,
    /// RSS by the driver's key, every multicast frame, no checksums, frames in one piece.
    #[must_use]
    pub fn new(rx_pools: Vec<Pool>) -> Self {
        Self {
            tx_queues: rx_pools.len() as u16,
            rx_pools,
            rx_descriptors: 1_024,
            tx_descriptors: 1_024,
            mtu: 1_500,
            rss: true,
            rx_checksums: false,
            tx_checksums: false,
            pieces: false,
            rss_key: None,
            promiscuous: false,
            all_multicast: true,
        }
    }
}

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
    port: Option<Port>,
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
struct Chosen {
    hashes: u64,
    /// As bits of `RTE_ETH_RX_OFFLOAD_*` and `RTE_ETH_TX_OFFLOAD_*`.
    rx_offloads: u64,
    tx_offloads: u64,
    rx_descriptors: u16,
    tx_descriptors: u16,
}

/// The control of a running device. It belongs to one thread at a time, and works while others use
/// the queues.
#[derive(Debug)]
pub struct PortControl {
    running: Arc<Running>,
    chosen: Chosen,
    /// How many receive and transmit queues there are.
    queues: (u16, u16),
    /// It may move to another thread, but DPDK wants one caller at a time.
    not_sync: PhantomData<Cell<()>>,
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

/// What a device is and can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// The port's number.
    pub id: u16,
    /// The device's name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Its own address.
    pub mac: [u8; 6],
    /// Its NUMA node, if it has one.
    pub socket: Option<u32>,
    /// Bytes of an IP packet, as configured.
    pub mtu: u16,
    /// Fewest.
    pub min_mtu: u16,
    /// Most. Of net_af_packet it is unknown: the frames of its ring (`framesz=`) decide.
    pub max_mtu: u16,
    /// Most receive queues.
    pub max_rx_queues: u16,
    /// Most transmit queues.
    pub max_tx_queues: u16,
    /// Fewest and most descriptors of a receive queue.
    pub rx_descriptors: (u16, u16),
    /// Fewest and most descriptors of a transmit queue.
    pub tx_descriptors: (u16, u16),
    /// What RSS can hash, as bits of `RTE_ETH_RSS_*`.
    pub rss_offloads: u64,
    /// Entries of the table that RSS looks queues up in; 0 if there is none.
    pub reta_size: u16,
    /// What it can do for received frames, as bits of `RTE_ETH_RX_OFFLOAD_*`.
    pub rx_offloads: u64,
    /// What it can do for frames to be sent, as bits of `RTE_ETH_TX_OFFLOAD_*`.
    pub tx_offloads: u64,
    /// The link.
    pub link: Link,
}

impl PortInfo {
    /// Whether RSS can spread TCP over IPv4 and IPv6 by addresses and ports.
    #[must_use]
    pub const fn spreads_tcp(&self) -> bool {
        self.rss_offloads & tcp_hashes() == tcp_hashes()
    }

    /// Whether the device can verify TCP's checksums.
    #[must_use]
    pub const fn verifies_tcp(&self) -> bool {
        self.rx_offloads & sys::SHIM_RX_OFFLOAD_TCP_CKSUM != 0
    }

    /// Whether the device can complete TCP's checksums.
    #[must_use]
    pub const fn completes_tcp(&self) -> bool {
        self.tx_offloads & sys::SHIM_TX_OFFLOAD_TCP_CKSUM != 0
    }

    /// Whether the device can receive and send frames in several pieces.
    #[must_use]
    pub const fn takes_pieces(&self) -> bool {
        takes_pieces(self.rx_offloads, self.tx_offloads)
    }
}

/// A device's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// Its speed in Mb/s, if known.
    pub mbps: Option<u32>,
    /// Whether both ends may send at once.
    pub full_duplex: bool,
}

/// What a device has counted since it was started or its counters were cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames lost because the receive queue was full.
    pub rx_missed: u64,
    /// Frames received in error.
    pub rx_errors: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Times there was no buffer for a received frame.
    pub rx_no_mbuf: u64,
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Open,
    Info,
    Queues { rx: u16, tx: u16 },
    DataRoom { mtu: u16, data_room: u16 },
    Configure { rx_queues: u16, tx_queues: u16 },
    Descriptors,
    RxQueue(u16),
    TxQueue(u16),
    Mtu(u16),
    Redirection,
    Start,
    Stop,
    Link,
    Stats,
    Promiscuous,
    AllMulticast,
}

/// What went wrong with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortError {
    port: u16,
    name: String,
    action: Action,
    errno: Errno,
}

impl PortError {
    /// The reason the driver gave.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        self.errno
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, name, action, errno } = self;
        write!(f, "port {port} ({name}): ")?;
        match action {
            Action::Open => write!(
                f,
                "cannot be opened ({errno}); name its device with --vdev or -a, and open it once"
            ),
            Action::Info => write!(f, "the driver does not say what it is ({errno})"),
            Action::Queues { rx, tx } => write!(
                f,
                "the device has 1 to {rx} receive queues and 1 to {tx} transmit queues; configure \
                 as many"
            ),
            Action::DataRoom { mtu, data_room } => write!(
                f,
                "an MTU of {mtu} bytes needs pools with a data room of at least {}, and one has \
                 {data_room}",
                u32::from(*mtu) + OVERHEAD
            ),
            Action::Configure { rx_queues, tx_queues } => write!(
                f,
                "the device cannot be configured with {rx_queues} receive and {tx_queues} transmit \
                 queues ({errno})"
            ),
            Action::Descriptors => write!(f, "the numbers of descriptors do not fit ({errno})"),
            Action::RxQueue(queue) => write!(
                f,
                "receive queue {queue} cannot be set up ({errno}); check that its pool has more \
                 frames than the queue has descriptors"
            ),
            Action::TxQueue(queue) => {
                write!(f, "transmit queue {queue} cannot be set up ({errno})")
            }
            Action::Mtu(mtu) => write!(
                f,
                "the device does not take an MTU of {mtu} ({errno}); configure a smaller one"
            ),
            Action::Redirection => {
                write!(f, "the device's RSS cannot be told its queues ({errno})")
            }
            Action::Start => write!(f, "the device does not start ({errno})"),
            Action::Stop => write!(f, "the device does not stop ({errno})"),
            Action::Link => write!(f, "the device does not say whether its link is up ({errno})"),
            Action::Stats => write!(f, "the device's counters cannot be had ({errno})"),
            Action::Promiscuous => write!(f, "promiscuous mode cannot be set ({errno})"),
            Action::AllMulticast => write!(f, "multicast reception cannot be set ({errno})"),
        }
    }
}

impl std::error::Error for PortError {}

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

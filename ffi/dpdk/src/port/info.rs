//! What a device is, can do and has counted.

use dpdk_sys as sys;

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

/// What RSS may hash so that a connection's segments always meet in one queue.
pub(super) const fn tcp_hashes() -> u64 {
    sys::SHIM_RSS_IPV4_TCP | sys::SHIM_RSS_IPV6_TCP
}

/// Whether a device with these offloads receives and sends frames in several pieces.
pub(super) const fn takes_pieces(rx_offloads: u64, tx_offloads: u64) -> bool {
    rx_offloads & sys::SHIM_RX_OFFLOAD_SCATTER != 0
        && tx_offloads & sys::SHIM_TX_OFFLOAD_MULTI_SEGS != 0
}

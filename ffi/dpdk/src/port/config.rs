//! What is wanted of a port.

use crate::pool::Pool;

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

//! What a stack is told at its start: sizes, addresses, and the choices a TCP has.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use crate::wire::ethernet::MacAddr;

/// Addresses one port can have, both families together.
pub const ADDRESSES_MAX: usize = 16;

/// An own address with the length of its on-link prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of the on-link prefix in bits: 0 to 32, or 0 to 128.
    pub prefix_len: u8,
}

/// Everything one worker's stack is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This worker's number, part of every [`crate::handle::Cd`].
    pub worker: u8,
    /// Our Ethernet address.
    pub mac: MacAddr,
    /// Largest IP packet on the link, in bytes: 1280 to 9000.
    pub mtu: u16,
    /// Own addresses; unused places are `None`.
    pub addresses: [Option<Address>; ADDRESSES_MAX],
    /// Next hop for IPv4 destinations off the link.
    pub gateway_v4: Option<Ipv4Addr>,
    /// Next hop for IPv6 destinations off the link.
    pub gateway_v6: Option<Ipv6Addr>,
    /// Keys initial sequence numbers, timestamp offsets and the flow table. Fresh at every boot.
    pub secret: [u8; 32],
    /// Connection records (64 bytes each): 1 to 2^31.
    pub connections_max: u32,
    /// How many of them may be IPv6 (16 bytes more each).
    pub ipv6_connections_max: u32,
    /// Connections with data in flight or unread, or opening or closing, at once (256 bytes each).
    pub active_max: u32,
    /// Descriptors of buffered segments, received and sent (16 bytes each).
    pub chunks_max: u32,
    /// Bytes of this worker's part of the shared transmit buffer.
    pub transmit_bytes: usize,
    /// Neighbour table entries (ARP and ND together).
    pub neighbours_max: u32,
    /// Connection pools.
    pub pools_max: u16,
    /// Connection groups.
    pub groups_max: u16,
    /// Event queues, one per application endpoint.
    pub queues_max: u16,
    /// The TCP's choices.
    pub tcp: TcpConfig,
}

/// The choices RFC 9293 and its companions leave to an implementation.
#[derive(Clone, Copy, Debug)]
pub struct TcpConfig {
    /// Retransmission timeout before the first measurement (RFC 6298: 1 s).
    pub rto_initial: Duration,
    /// Lower bound of the retransmission timeout. RFC 6298 says 1 s; Linux's 200 ms is default.
    pub rto_min: Duration,
    /// Upper bound (RFC 6298: at least 60 s).
    pub rto_max: Duration,
    /// Unacknowledged for this long, a connection is *down* (RFC 9293 R2: at least 100 s).
    pub user_timeout: Duration,
    /// Retransmissions of SYN or SYN-ACK before the handshake is given up.
    pub syn_retries: u8,
    /// Time in TIME-WAIT (RFC 9293: 2 MSL; 60 s as Linux has it).
    pub time_wait: Duration,
    /// Time in FIN-WAIT-2 with nobody to read what comes.
    pub fin_wait_2: Duration,
    /// Initial congestion window in segments (RFC 6928: 10).
    pub initial_window: u8,
    /// Delayed-ACK timer of groups that acknowledge on receive (MUST-40: below 500 ms).
    pub delayed_ack: Duration,
    /// Nagle's algorithm (RFC 1122 4.2.3.4); groups may turn it off.
    pub nagle: bool,
    /// Window scale we offer, 0 to 14.
    pub window_scale: u8,
    /// Bytes a connection may have queued for sending, at most.
    pub send_queue_max: u32,
    /// Handshakes not completed, at most.
    pub half_open_max: u32,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            rto_initial: Duration::from_secs(1),
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(60),
            user_timeout: Duration::from_secs(100),
            syn_retries: 5,
            time_wait: Duration::from_secs(60),
            fin_wait_2: Duration::from_secs(60),
            initial_window: 10,
            delayed_ack: Duration::from_millis(40),
            nagle: true,
            window_scale: 7,
            send_queue_max: 4 << 20,
            half_open_max: 65_536,
        }
    }
}

/// Who completes a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// The application, by [`crate::Stack::accept`], within this time; else the client gets RST.
    ByApplication {
        /// How long a SYN waits for the application.
        timeout: Duration,
    },
    /// The stack, at once.
    Automatic,
}

/// Who acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// Only the application's commit (the XTCP way). `deadline`, if not zero, lets the stack
    /// acknowledge by itself after that time and give up redelivery for those bytes.
    ByApplication {
        /// Zero: never by itself.
        deadline: Duration,
    },
    /// The stack, when bytes have arrived: an ordinary TCP with delayed acknowledgements.
    OnReceive,
}

/// Which addresses a group listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Every own IPv4 address.
    V4,
    /// Every own IPv6 address.
    V6,
    /// Every own address of both families.
    Dual,
}

/// What a connection group is opened with.
#[derive(Clone, Copy, Debug)]
pub struct GroupConfig {
    /// Local port, 1 to 65535.
    pub port: u16,
    /// Which of our addresses.
    pub family: Family,
    /// Who completes handshakes.
    pub accept: Accept,
    /// Who acknowledges.
    pub acknowledge: Acknowledge,
    /// Largest window offered to one connection, in bytes: 1 segment to 1 GiB.
    pub window_max: u32,
    /// Nagle's algorithm for this group's connections.
    pub nagle: bool,
}

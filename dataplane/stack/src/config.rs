//! What a stack is told at its start: sizes, addresses, and the choices a TCP has.

use core::fmt;
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
    /// Connections with data in flight or unread, or opening or closing, at once (384 bytes each).
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
    /// The link and the ways beyond it.
    pub net: NetConfig,
    /// What is done before buffers run out.
    pub throttle: Throttle,
    /// The TCP's choices.
    pub tcp: TcpConfig,
}

/// More specific routes one port can have.
pub const ROUTES_MAX: usize = 16;

/// A way to destinations beyond the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Any address of the destinations.
    pub prefix: IpAddr,
    /// How many of its bits they share: 0 to 32, or 0 to 128.
    pub prefix_len: u8,
    /// The router, on the link and of the same family.
    pub via: IpAddr,
}

/// What is below TCP: the link, the ways beyond it, what is done about fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// The VLAN all frames are of, 1 to 4094: sent with its tag (IEEE 802.1Q), and none taken
    /// without. `None`: frames without a tag, or with one that names only a priority.
    pub vlan: Option<u16>,
    /// Routes beside the gateways, in any order; the longest prefix that matches counts.
    pub routes: [Option<Route>; ROUTES_MAX],
    /// Packets put together from fragments at once (1,700 bytes each on a link of 1,500). 0:
    /// fragments are dropped.
    pub reassemblies_max: u16,
    /// How often it is asked at the start who else has our addresses (RFC 4862: 1; RFC 5227: 3),
    /// which are given up if somebody has. 0: not at all.
    pub duplicate_probes: u8,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self { vlan: None, routes: [None; ROUTES_MAX], reassemblies_max: 64, duplicate_probes: 0 }
    }
}

/// How incoming transmissions are throttled when buffers get scarce (WO 02/091709, "Modifications
/// and Alterations"), and how much of what all pools share one pool may take. All in percent, 0 to
/// 100; thresholds are of the free part of the pool's receive buffer, or of its shares of the
/// transmit buffer and the descriptors, whichever is less. 0 turns a step off. See
/// [`Self::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Below this much free, offered windows shrink.
    pub shrink_below: u8,
    /// Below this much free, the stack acknowledges no new text by itself.
    pub withhold_below: u8,
    /// Below this much free, text is hidden from the application: it is dropped, and its ACK field
    /// processed.
    pub hide_below: u8,
    /// With several pools open, the most one of them takes of the transmit buffer and of each table
    /// that pools share. What that leaves is kept for the others in equal parts. A pool alone takes
    /// what there is.
    pub pool_share: u8,
}

impl Throttle {
    /// Whether the figures make sense: percentages, and each step no later than the next.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check(&self) -> Result<(), BadThrottle> {
        let Self { shrink_below, withhold_below, hide_below, pool_share } = *self;
        let steps = [
            ("shrink_below", shrink_below),
            ("withhold_below", withhold_below),
            ("hide_below", hide_below),
        ];
        for (name, value) in steps.into_iter().chain([("pool_share", pool_share)]) {
            if value > 100 {
                return Err(BadThrottle::NoPercentage { name, value });
            }
        }
        let mut taken = steps.into_iter().filter(|(_, value)| *value != 0);
        let Some(mut before) = taken.next() else { return Ok(()) };
        for next in taken {
            if next.1 > before.1 {
                return Err(BadThrottle::OutOfOrder { before, next });
            }
            before = next;
        }
        Ok(())
    }

    /// The highest of the thresholds: above it nothing is done.
    pub(crate) fn first_below(&self) -> u8 {
        self.shrink_below.max(self.withhold_below).max(self.hide_below)
    }
}

/// What is wrong with a [`Throttle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadThrottle {
    /// More than 100.
    NoPercentage {
        /// Which figure.
        name: &'static str,
        /// What it is.
        value: u8,
    },
    /// A step would be taken before the milder one that should come first.
    OutOfOrder {
        /// The milder step and its threshold.
        before: (&'static str, u8),
        /// The harder step and its threshold.
        next: (&'static str, u8),
    },
}

impl fmt::Display for BadThrottle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPercentage { name, value } => {
                write!(f, "{name} is a percentage, 0 to 100, and cannot be {value}")
            }
            Self::OutOfOrder { before, next } => write!(
                f,
                "{} ({} %) may not be higher than {} ({} %), for windows shrink before \
                 acknowledgements are withheld, and those before text is hidden; 0 leaves a step out",
                next.0, next.1, before.0, before.1
            ),
        }
    }
}

impl core::error::Error for BadThrottle {}

impl Default for Throttle {
    fn default() -> Self {
        Self { shrink_below: 50, withhold_below: 20, hide_below: 10, pool_share: 50 }
    }
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
    /// Retransmissions of SYN or SYN-ACK before the handshake is given up. 4, one fewer than Linux's:
    /// a SYN whose sender's address is made up brings its owner five segments and no more. (RFC 9293
    /// MUST-23 wants three minutes of who opens actively, which applications cannot.)
    pub syn_retries: u8,
    /// Time in TIME-WAIT (RFC 9293: 2 MSL; 60 s as Linux has it).
    pub time_wait: Duration,
    /// Time in FIN-WAIT-2 with nobody to read what comes.
    pub fin_wait_2: Duration,
    /// Initial congestion window in segments (RFC 6928: 10).
    pub initial_window: u8,
    /// Delayed-ACK timer of groups that acknowledge on receive (MUST-40: below 500 ms).
    pub delayed_ack: Duration,
    /// In groups that acknowledge on receive: so many segments with text are acknowledged at once
    /// (RFC 9293 SHLD-19: 2), fewer by the timer. 1 acknowledges each; 0 counts as 1.
    pub delayed_ack_segments: u8,
    /// In groups that acknowledge on receive: so many segments are acknowledged at once and each,
    /// at a connection's start and after more than a retransmission timeout of silence, while it
    /// stays active. It lets a peer in slow start go faster. 0: none.
    pub quick_acks: u8,
    /// Nagle's algorithm (RFC 1122 4.2.3.4); groups may turn it off.
    pub nagle: bool,
    /// Window scale we offer, 0 to 14.
    pub window_scale: u8,
    /// Whether timestamps (RFC 7323) are agreed to and asked for.
    pub timestamps: bool,
    /// Duplicate acknowledgements, or as many segments known to have arrived beyond it, that mean
    /// that a segment is lost (RFC 5681: 3): 1 to 255.
    pub duplicate_threshold: u8,
    /// With SACK: whether losses are noticed by time (RACK, RFC 8985) rather than by counting.
    pub rack: bool,
    /// With SACK: whether the tail of what was sent is probed for losses (TLP, RFC 8985).
    pub tail_loss_probe: bool,
    /// Whether a connection's first slow start ends when round trips get longer (HyStart++, RFC 9406),
    /// rather than at the first loss.
    pub hystart: bool,
    /// Explicit congestion notification (RFC 3168).
    pub ecn: Ecn,
    /// Whether selective acknowledgements (RFC 2018) are agreed to and asked for.
    pub sack: bool,
    /// Bytes a connection may have queued for sending, at most.
    pub send_queue_max: u32,
    /// Handshakes not completed, at most.
    pub half_open_max: u32,
    /// When handshakes go by cookie, in groups that accept by themselves.
    pub syn_cookies: SynCookies,
    /// Least time between two challenges of one connection (RFC 5961 section 7).
    pub challenge_interval: Duration,
    /// Resets sent to one address, or IPv6 network of 64 bits, in a second for segments of no
    /// connection. 0: no limit.
    pub resets_per_second: u16,
    /// Clients that may call from one address, or IPv6 network of 64 bits, in a second; SYNs beyond
    /// are dropped in silence. Senders share 16,384 places that are dealt anew every minute, so two
    /// busy ones may meet in one. 0: no limit.
    pub syns_per_second: u16,
    /// No ICMP error makes IPv4 packets smaller than this, in bytes: 68 to the link's MTU. (IPv6
    /// has 1280.)
    pub path_mtu_min: u16,
    /// After so long a path that was narrow is tried again with full segments, at least 1 s (RFC
    /// 1191 section 6.3: 10 minutes).
    pub path_mtu_age: Duration,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            rto_initial: Duration::from_secs(1),
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(60),
            user_timeout: Duration::from_secs(100),
            syn_retries: 4,
            time_wait: Duration::from_secs(60),
            fin_wait_2: Duration::from_secs(60),
            initial_window: 10,
            delayed_ack: Duration::from_millis(40),
            delayed_ack_segments: 2,
            quick_acks: 0,
            nagle: true,
            window_scale: 7,
            timestamps: true,
            ecn: Ecn::Accept,
            sack: true,
            duplicate_threshold: 3,
            rack: true,
            tail_loss_probe: true,
            hystart: true,
            send_queue_max: 4 << 20,
            half_open_max: 65_536,
            syn_cookies: SynCookies::WhenFull,
            challenge_interval: Duration::from_millis(100),
            resets_per_second: 1000,
            syns_per_second: 0,
            path_mtu_min: 552,
            path_mtu_age: Duration::from_secs(600),
        }
    }
}

/// When a SYN is answered without keeping anything of it (RFC 4987 section 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynCookies {
    /// Never: beyond [`TcpConfig::half_open_max`] an old handshake makes way, or the SYN is dropped.
    Never,
    /// When no more handshakes may be under way.
    WhenFull,
    /// Always.
    Always,
}

/// Whether routers may mark packets instead of dropping them (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecn {
    /// Never agreed.
    Off,
    /// Agreed with peers that ask.
    Accept,
    /// Asked for, too.
    Ask,
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

/// Whether, and how, the peer of an idle connection is asked if it is still there (RFC 9293 section
/// 3.8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Nothing heard for so long, it is asked: 1 ms to 24 days. RFC 9293 MUST-28 wants two hours
    /// unless configured.
    pub idle: Duration,
    /// Time between two questions.
    pub interval: Duration,
    /// Unanswered questions after which the connection is *down*: 2 to 255. 1 counts as 2, for one
    /// lost answer is no proof (MUST-29).
    pub probes: u8,
}

impl Default for KeepAlive {
    /// Two hours of silence (MUST-28), then nine questions in eleven minutes.
    fn default() -> Self {
        Self { idle: Duration::from_secs(7_200), interval: Duration::from_secs(75), probes: 9 }
    }
}

/// How fast a connection sends into a network of unknown width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// RFC 5681.
    NewReno,
    /// RFC 9438.
    Cubic,
}

/// Which connections [`crate::Stack::drain_group`] ends, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Those with nothing under way, by FIN; the others as soon as that is so of them.
    WhenIdle,
    /// All, by FIN after what is queued; but a client whose request the application has not taken
    /// is reset, for it must know (RFC 9293 SHLD-3).
    Close,
    /// All, by RST.
    Reset,
}

/// Priorities a group can have; the highest is the first to be served.
pub const PRIORITIES: u8 = 4;

/// What a connection group is opened with.
#[derive(Clone, Copy, Debug)]
pub struct GroupConfig {
    /// Local port, 1 to 65535. Several groups may have the same: of those that listen on the
    /// address a client calls, the ones that name it go before the ones that take any, and among
    /// them chance decides by [`Self::weight`].
    pub port: u16,
    /// Which of our addresses.
    pub family: Family,
    /// Bit n: it listens on the nth of [`Config::addresses`]. 0: on all of its family.
    pub addresses: u16,
    /// Its share of the clients among groups on the same port and address: 1 to 255.
    pub weight: u8,
    /// 0 to [`PRIORITIES`] - 1: events of a higher one overtake those of a lower one, but for one
    /// event in 64, by which none waits for ever.
    pub priority: u8,
    /// Who completes handshakes.
    pub accept: Accept,
    /// Who acknowledges.
    pub acknowledge: Acknowledge,
    /// With [`Acknowledge::ByApplication`]: if not 0, the stack acknowledges by itself what is
    /// beyond so many unacknowledged bytes, oldest first, and gives up redelivery for them.
    pub hold_limit: u32,
    /// Largest window offered to one connection, in bytes: 1 segment to 1 GiB.
    pub window_max: u32,
    /// Nagle's algorithm for this group's connections.
    pub nagle: bool,
    /// `None`: idle peers are not asked (RFC 9293 MUST-25).
    pub keep_alive: Option<KeepAlive>,
    /// If not zero, a connection on which no text came or went for so long, and nothing waits to
    /// be sent, read or acknowledged, is closed: by FIN, not earlier, and late by up to a
    /// sixteenth. At most 24 days.
    pub idle_timeout: Duration,
    /// Unacknowledged for this long, a connection is *down*; zero takes
    /// [`TcpConfig::user_timeout`].
    pub user_timeout: Duration,
    /// Congestion control.
    pub congestion: Congestion,
    /// The IPv4 type of service, or IPv6 traffic class, of what is sent (RFC 2474); its two ECN
    /// bits are the stack's.
    pub traffic_class: u8,
    /// Time to live, or hop limit, of what is sent: 1 to 255.
    pub hop_limit: u8,
}

impl Default for GroupConfig {
    /// The XTCP way, listening nowhere: accepted and acknowledged by the application only.
    fn default() -> Self {
        Self {
            port: 0,
            family: Family::Dual,
            addresses: 0,
            weight: 1,
            priority: 1,
            accept: Accept::ByApplication { timeout: Duration::from_secs(5) },
            acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
            hold_limit: 0,
            window_max: 256 << 10,
            nagle: false,
            keep_alive: None,
            idle_timeout: Duration::ZERO,
            user_timeout: Duration::ZERO,
            congestion: Congestion::NewReno,
            traffic_class: 0,
            hop_limit: 64,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::Throttle;

    #[test]
    fn thresholds_stand_in_the_order_of_the_steps() {
        let with = |shrink_below, withhold_below, hide_below| Throttle {
            shrink_below,
            withhold_below,
            hide_below,
            ..Throttle::default()
        };
        for good in [(50, 20, 10), (0, 0, 0), (50, 0, 10), (0, 0, 10), (100, 100, 100)] {
            let (shrink, withhold, hide) = good;
            assert_eq!(with(shrink, withhold, hide).check(), Ok(()), "{good:?}");
        }
        for (bad, sentence) in [
            (with(20, 21, 0), "withhold_below (21 %) may not be higher than shrink_below (20 %)"),
            (with(20, 0, 21), "hide_below (21 %) may not be higher than shrink_below (20 %)"),
            (with(50, 10, 11), "hide_below (11 %) may not be higher than withhold_below (10 %)"),
            (with(101, 10, 1), "shrink_below is a percentage, 0 to 100, and cannot be 101"),
            (
                Throttle { pool_share: 200, ..Throttle::default() },
                "pool_share is a percentage, 0 to 100, and cannot be 200",
            ),
        ] {
            let said = bad.check().expect_err("refused").to_string();
            assert!(said.starts_with(sentence), "{said}");
        }
    }
}

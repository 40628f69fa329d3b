//! What a connection group is opened with, and how it is ended.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What a group is opened with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOptions {
    /// The group's name, see [`name_is_valid`].
    pub name: String,
    /// TCP port, 1 to 65535. Groups may share a port: of those that listen on the address a
    /// client calls, the ones that name it go before the ones that take any, and among them chance
    /// decides by weight.
    pub port: u16,
    /// Which of the appliance's addresses.
    pub family: Family,
    /// Only these of the appliance's addresses; empty: all of the family.
    pub addresses: Vec<IpAddr>,
    /// Its share of the clients among groups on the same port and address: 1 to 255.
    pub weight: u8,
    /// 0 to 3: requests of a higher one overtake those of a lower one under load.
    pub priority: u8,
    /// Who completes handshakes.
    pub accept: Accept,
    /// Who acknowledges.
    pub acknowledge: Acknowledge,
    /// If not 0, the stack acknowledges by itself what is beyond so many unacknowledged bytes of a
    /// connection, and gives up redelivery for them.
    pub hold_limit: u32,
    /// Largest window offered to one connection, in bytes.
    pub window_max: u32,
    /// Nagle's algorithm.
    pub nagle: bool,
    /// When a sleeping application is woken.
    pub notify: Notify,
    /// Whether, and how, idle clients are asked if they are still there.
    pub keep_alive: Option<KeepAlive>,
    /// A connection on which no text came or went for so many milliseconds is closed; 0: never.
    pub idle_timeout_ms: u32,
    /// Unacknowledged for so many milliseconds, a connection is down; 0 takes the configured time.
    pub user_timeout_ms: u32,
    /// Congestion control.
    pub congestion: Congestion,
    /// The IPv4 type of service, or IPv6 traffic class, of what is sent; its ECN bits are 0.
    pub traffic_class: u8,
    /// Time to live, or hop limit, of what is sent: 1 to 255.
    pub hop_limit: u8,
}

impl GroupOptions {
    /// The XTCP way: IPv4 and IPv6, accepted and acknowledged by the application only, a window of
    /// 256 KiB, no Nagle.
    #[must_use]
    pub fn new(name: &str, port: u16) -> Self {
        Self {
            name: name.to_owned(),
            port,
            family: Family::Dual,
            addresses: Vec::new(),
            weight: 1,
            priority: 1,
            accept: Accept::ByApplication { timeout_ms: 0 },
            acknowledge: Acknowledge::ByApplication { deadline_ms: 0 },
            hold_limit: 0,
            window_max: 256 << 10,
            nagle: false,
            notify: Notify::AT_ONCE,
            keep_alive: None,
            idle_timeout_ms: 0,
            user_timeout_ms: 0,
            congestion: Congestion::NewReno,
            traffic_class: 0,
            hop_limit: 64,
        }
    }
}

/// When a sleeping application is woken for a group's requests. Anything else wakes it at once, and
/// so does a ring of notices that is full.
///
/// Each worker counts for itself, from the moment the application sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// As soon as so many pieces of text are there; 0 and 1: at once.
    pub requests: u32,
    /// Or the first of them has waited for so many microseconds: 1 to [`Self::MICROS_MAX`] unless
    /// it is woken at once.
    pub micros: u32,
}

impl Notify {
    /// For every request.
    pub const AT_ONCE: Self = Self { requests: 1, micros: 0 };

    /// Microseconds a request can wait for others, at most.
    pub const MICROS_MAX: u32 = 1_000_000;
}

/// How idle clients are asked if they are still there (RFC 9293 section 3.8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepAlive {
    /// Nothing heard for so many milliseconds, a client is asked.
    pub idle_ms: u32,
    /// Milliseconds between two questions.
    pub interval_ms: u32,
    /// Unanswered questions after which the connection is down: 1 to 255.
    pub probes: u8,
}

/// How a connection finds out how much the network carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Congestion {
    /// RFC 5681.
    NewReno,
    /// RFC 9438.
    Cubic,
}

/// How a group's connections are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Connections a second, at most, of all workers together; 0: as fast as it goes.
    pub per_second: u32,
    /// Which, and how.
    pub manner: Manner,
}

/// Which connections are ended, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manner {
    /// Those with nothing under way, by FIN; the others as soon as that is so of them.
    WhenIdle,
    /// All, by FIN after what is queued.
    Close,
    /// All, by RST.
    Reset,
}

/// Which of the appliance's addresses a group listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Both.
    Dual,
}

/// Who completes handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accept {
    /// The application, else the client is refused.
    ByApplication {
        /// How long a client waits, in milliseconds; 0 takes the configured time.
        timeout_ms: u32,
    },
    /// The stack, at once.
    Automatic,
}

/// Who acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acknowledge {
    /// Only the application.
    ByApplication {
        /// If not 0, the stack acknowledges by itself after so many milliseconds and gives up
        /// redelivery for those bytes.
        deadline_ms: u32,
    },
    /// The stack, as bytes arrive.
    OnReceive,
}

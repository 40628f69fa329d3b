//! What a group of connections is opened with, and how it is brought to its end.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use xtcp_ring::message;

/// What a group is opened with. Start from [`GroupOptions::new`] or [`GroupOptions::unix`] and
/// change what differs.
///
/// ```
/// use xtcp::{Family, GroupOptions};
/// let options = GroupOptions { nagle: true, ..GroupOptions::new("chat", 7777) };
/// assert_eq!(options.family, Family::Dual);
/// ```
///
/// A value that cannot be is refused by the appliance, with a sentence
/// ([`crate::Error::Refused`], [`crate::Refusal::Invalid`]). Times are whole milliseconds, rounded
/// up, and at most 49 days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// The name operators see: 1 to 64 of `A-Z a-z 0-9 . _ -`, not starting with a dot.
    pub name: String,
    /// The TCP port to listen on, 1 to 65535. Groups may share a port: of those that listen on the
    /// address a client calls, the ones that name it go before the ones that take any, and among
    /// them chance decides by [`Self::weight`].
    pub port: u16,
    /// If set, this is a group of local clients, see [`GroupOptions::unix`].
    pub path: Option<PathBuf>,
    /// Which of the appliance's addresses.
    pub family: Family,
    /// Only these of the appliance's addresses; empty: all of the family. Each must be one of the
    /// appliance's.
    pub addresses: Vec<IpAddr>,
    /// Its share of the clients among groups on the same port and address: 1 to 255.
    pub weight: u8,
    /// 0 to 3: what has come for a higher one is given first, see [`crate::Inbox::receive`].
    pub priority: u8,
    /// Who accepts connections.
    pub accept: Accept,
    /// Who acknowledges what clients send.
    pub acknowledge: Acknowledge,
    /// If not 0, the stack acknowledges by itself what is beyond so many unacknowledged bytes of a
    /// connection. It is still given, and given again, but the client has forgotten it.
    pub hold_limit: u32,
    /// Most bytes one client may send ahead of its acknowledgements.
    pub window_max: u32,
    /// Nagle's algorithm: hold small answers back while earlier ones are unacknowledged.
    pub nagle: bool,
    /// When a sleeping application is woken for a request.
    pub notify: Notify,
    /// Whether, and how, idle clients are asked if they are still there.
    pub keep_alive: Option<KeepAlive>,
    /// A connection on which no text came or went for so long is closed; zero: never.
    pub idle_timeout: Duration,
    /// What is sent and unacknowledged for so long makes a connection *down*
    /// ([`crate::CloseReason::TimedOut`]); zero takes the appliance's setting.
    pub user_timeout: Duration,
    /// Congestion control.
    pub congestion: Congestion,
    /// The IPv4 type of service, or IPv6 traffic class, of what is sent: a DSCP times 4. The two
    /// lowest bits are ECN's and must be 0.
    pub traffic_class: u8,
    /// Time to live, or hop limit, of what is sent: 1 to 255.
    pub hop_limit: u8,
}

impl GroupOptions {
    /// The XTCP way: IPv4 and IPv6, accepted and acknowledged by the application only, a window
    /// of 256 KiB, no Nagle, priority 1.
    #[must_use]
    pub fn new(name: &str, port: u16) -> Self {
        let message::GroupOptions { weight, priority, window_max, hop_limit, .. } =
            message::GroupOptions::new(name, port);
        Self {
            name: name.to_owned(),
            port,
            path: None,
            family: Family::Dual,
            addresses: Vec::new(),
            weight,
            priority,
            accept: Accept::ByApplication { timeout: Duration::ZERO },
            acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
            hold_limit: 0,
            window_max,
            nagle: false,
            notify: Notify::AT_ONCE,
            keep_alive: None,
            idle_timeout: Duration::ZERO,
            user_timeout: Duration::ZERO,
            congestion: Congestion::NewReno,
            traffic_class: 0,
            hop_limit,
        }
    }

    /// A group of local clients, on a UNIX stream socket at `path`: the same application serves
    /// them by the same calls and events. An empty path is
    /// `RUN_DIR/INSTANCE/APPLICATION-PORT.sock` with [`Self::port`], which is of no other use here.
    ///
    /// The library serves them itself, in this thread, whenever it receives or waits; the dataplane
    /// has nothing to do with them, and no buffer of the pool's is theirs
    /// ([`crate::Attach::local_bytes`]). A file that a killed server left at the path is replaced,
    /// one that somebody listens at is not; it is removed when the group is closed or drained. Who
    /// may connect is said by the file's permissions, which are what the process's umask leaves.
    ///
    /// Of the options these have a meaning: `name`, `priority`, `accept` (5 s if no time is given)
    /// and `window_max`. What differs from TCP, because the kernel is between:
    ///
    /// * `connect` succeeds at once; who is not accepted in time, or refused, finds its connection
    ///   closed.
    /// * What is not acknowledged is given again, and takes room in `window_max`, but it does not
    ///   outlive this process.
    /// * [`crate::Application::close`] does not wait for the client's side: the connection is
    ///   closed when everything sent is with the kernel. If the client sent something that was
    ///   not read by then it gets `ECONNRESET`.
    /// * A successor does not find local clients ([`crate::Application::resumed`]).
    #[must_use]
    pub fn unix(name: &str, path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), ..Self::new(name, 0) }
    }

    pub(crate) fn to_message(&self) -> message::GroupOptions {
        message::GroupOptions {
            name: self.name.clone(),
            port: self.port,
            family: match self.family {
                Family::V4 => message::Family::V4,
                Family::V6 => message::Family::V6,
                Family::Dual => message::Family::Dual,
            },
            addresses: self.addresses.clone(),
            weight: self.weight,
            priority: self.priority,
            accept: match self.accept {
                Accept::ByApplication { timeout } => {
                    message::Accept::ByApplication { timeout_ms: milliseconds(timeout) }
                }
                Accept::Automatic => message::Accept::Automatic,
            },
            acknowledge: match self.acknowledge {
                Acknowledge::ByApplication { deadline } => {
                    message::Acknowledge::ByApplication { deadline_ms: milliseconds(deadline) }
                }
                Acknowledge::OnReceive => message::Acknowledge::OnReceive,
            },
            hold_limit: self.hold_limit,
            window_max: self.window_max,
            nagle: self.nagle,
            notify: self.notify.to_message(),
            keep_alive: self.keep_alive.map(KeepAlive::to_message),
            idle_timeout_ms: milliseconds(self.idle_timeout),
            user_timeout_ms: milliseconds(self.user_timeout),
            congestion: match self.congestion {
                Congestion::NewReno => message::Congestion::NewReno,
                Congestion::Cubic => message::Congestion::Cubic,
            },
            traffic_class: self.traffic_class,
            hop_limit: self.hop_limit,
        }
    }
}

/// Whole milliseconds; something short is not taken for nothing.
pub(crate) fn milliseconds(time: Duration) -> u32 {
    let whole = time.as_nanos().div_ceil(1_000_000);
    u32::try_from(whole).unwrap_or(u32::MAX)
}

/// Which of the appliance's addresses a group listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 (`PF_INET`).
    V4,
    /// IPv6 (`PF_INET6`).
    V6,
    /// Both.
    Dual,
}

/// Who accepts a group's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// The application, by [`crate::Acceptable::accept`]; the client's SYN is answered only then.
    ByApplication {
        /// How long a client waits before it is refused; zero takes the appliance's setting.
        timeout: Duration,
    },
    /// The stack, at once: every client that comes is in.
    Automatic,
}

/// Who acknowledges what a group's clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// The application: what it has not acknowledged, the client still has.
    ByApplication {
        /// If not zero, the stack acknowledges by itself after this time, so that a client that
        /// waits for it goes on. What it has acknowledged is still given, and given again, but
        /// the client has forgotten it.
        deadline: Duration,
    },
    /// The stack, as soon as bytes have come.
    OnReceive,
}

/// When a sleeping application is woken for requests. Anything else wakes it at once.
///
/// An application that does not sleep gets every request at once, whatever is said here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify {
    /// As soon as so many requests are there; 0 and 1: at once.
    pub requests: u32,
    /// Or as soon as the first of them has waited for so long: 1 µs to 1 s.
    pub after: Duration,
}

impl Notify {
    /// For every request.
    pub const AT_ONCE: Self = Self { requests: 1, after: Duration::ZERO };

    fn to_message(self) -> message::Notify {
        let micros = self.after.as_nanos().div_ceil(1000);
        message::Notify {
            requests: self.requests,
            micros: u32::try_from(micros).unwrap_or(u32::MAX),
        }
    }
}

/// How idle clients are asked if they are still there (RFC 9293 section 3.8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// A client of which nothing was heard for so long is asked.
    pub idle: Duration,
    /// Time between two questions.
    pub interval: Duration,
    /// Unanswered questions after which the connection is down
    /// ([`crate::CloseReason::TimedOut`]): 1 to 255.
    pub probes: u8,
}

impl KeepAlive {
    /// After two hours, as RFC 9293 asks for at least, and then nine times every 75 seconds.
    pub const USUAL: Self =
        Self { idle: Duration::from_secs(7200), interval: Duration::from_secs(75), probes: 9 };

    fn to_message(self) -> message::KeepAlive {
        message::KeepAlive {
            idle_ms: milliseconds(self.idle),
            interval_ms: milliseconds(self.interval),
            probes: self.probes,
        }
    }
}

/// How a connection finds out how much the network carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// RFC 5681.
    NewReno,
    /// RFC 9438.
    Cubic,
}

/// How a group's connections are brought to their end, see
/// [`crate::Application::drain_group`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Connections a second, at most; 0: as fast as it goes.
    pub per_second: u32,
    /// Which, and how.
    pub manner: Manner,
}

impl Drain {
    pub(crate) fn to_message(self) -> message::Drain {
        message::Drain {
            per_second: self.per_second,
            manner: match self.manner {
                Manner::WhenIdle => message::Manner::WhenIdle,
                Manner::Close => message::Manner::Close,
                Manner::Reset => message::Manner::Reset,
            },
        }
    }
}

/// Which connections are ended, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Those with nothing under way, by FIN; the others as soon as that is so of them: no request
    /// goes unanswered.
    WhenIdle,
    /// All, by FIN after what is queued.
    Close,
    /// All, by RST.
    Reset,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_do_not_become_none() {
        assert_eq!(milliseconds(Duration::ZERO), 0);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_millis(1500)), 1500);
        assert_eq!(milliseconds(Duration::MAX), u32::MAX);
    }

    #[test]
    fn a_group_of_its_own_defaults_asks_for_what_the_appliance_has_as_its() {
        let asked = GroupOptions::new("chat", 7777).to_message();
        assert_eq!(asked, message::GroupOptions::new("chat", 7777));
    }

    #[test]
    fn every_option_is_asked_for() {
        let options = GroupOptions {
            family: Family::V4,
            addresses: vec!["10.0.0.9".parse().unwrap()],
            weight: 7,
            priority: 3,
            accept: Accept::ByApplication { timeout: Duration::from_secs(2) },
            acknowledge: Acknowledge::ByApplication { deadline: Duration::from_millis(200) },
            hold_limit: 4096,
            window_max: 1 << 16,
            nagle: true,
            notify: Notify { requests: 8, after: Duration::from_nanos(20_001) },
            keep_alive: Some(KeepAlive::USUAL),
            idle_timeout: Duration::from_secs(60),
            user_timeout: Duration::from_micros(1),
            congestion: Congestion::Cubic,
            traffic_class: 46 << 2,
            hop_limit: 5,
            ..GroupOptions::new("chat", 7777)
        };
        let wanted = message::GroupOptions {
            name: "chat".to_owned(),
            port: 7777,
            family: message::Family::V4,
            addresses: options.addresses.clone(),
            weight: 7,
            priority: 3,
            accept: message::Accept::ByApplication { timeout_ms: 2000 },
            acknowledge: message::Acknowledge::ByApplication { deadline_ms: 200 },
            hold_limit: 4096,
            window_max: 1 << 16,
            nagle: true,
            notify: message::Notify { requests: 8, micros: 21 },
            keep_alive: Some(message::KeepAlive {
                idle_ms: 7_200_000,
                interval_ms: 75_000,
                probes: 9,
            }),
            idle_timeout_ms: 60_000,
            user_timeout_ms: 1,
            congestion: message::Congestion::Cubic,
            traffic_class: 184,
            hop_limit: 5,
        };
        assert_eq!(options.to_message(), wanted);
    }
}

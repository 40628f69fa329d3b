//! Handles of groups and connections, and sets of groups.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use xtcp_ring::message;

/// A connection group (the specification's `gd`): many connections under one descriptor.
///
/// Made by [`crate::Application::open_group`]. It cannot be confused with a [`Connection`], and one
/// that was closed is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(pub(crate) u32);

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gd {}.{}", self.0 & 0xffff, self.0 >> 16)
    }
}

/// A connection of a group (the specification's `gd` and `cd`).
///
/// A handle carries a generation: when the connection is gone, its handle names nothing, not the
/// next connection at the same place. It is 16 bytes and can be a key in any table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection {
    pub(crate) gd: u32,
    pub(crate) cd: u64,
}

impl Connection {
    /// The group the connection belongs to.
    #[must_use]
    pub fn group(self) -> Group {
        Group(self.gd)
    }

    /// The worker that serves the connection, from 0.
    #[must_use]
    pub fn worker(self) -> u8 {
        worker_of(self.cd)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, generation) = (self.cd & 0xffff_ffff, self.cd >> 40);
        write!(f, "cd {}/{index}.{generation} of {:?}", self.worker(), self.group())
    }
}

/// Bits 32..40 of a `cd` are its worker.
pub(crate) fn worker_of(cd: u64) -> u8 {
    let [.., worker, _, _, _, _] = cd.to_be_bytes();
    worker
}

/// What a group is opened with. Start from [`GroupOptions::new`] and change what differs.
///
/// ```
/// use xtcp::{Family, GroupOptions};
/// let options = GroupOptions { nagle: true, ..GroupOptions::new("chat", 7777) };
/// assert_eq!(options.family, Family::Dual);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// The name operators see: 1 to 64 of `A-Z a-z 0-9 . _ -`, not starting with a dot.
    pub name: String,
    /// The TCP port to listen on, 1 to 65535.
    pub port: u16,
    /// Which of the appliance's addresses.
    pub family: Family,
    /// Who accepts connections.
    pub accept: Accept,
    /// Who acknowledges what clients send.
    pub acknowledge: Acknowledge,
    /// Most bytes one client may send ahead of its acknowledgements.
    pub window_max: u32,
    /// Nagle's algorithm: hold small answers back while earlier ones are unacknowledged.
    pub nagle: bool,
}

impl GroupOptions {
    /// The XTCP way: IPv4 and IPv6, accepted and acknowledged by the application only, a window
    /// of 256 KiB, no Nagle.
    #[must_use]
    pub fn new(name: &str, port: u16) -> Self {
        Self {
            name: name.to_owned(),
            port,
            family: Family::Dual,
            accept: Accept::ByApplication { timeout: Duration::ZERO },
            acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
            window_max: 256 << 10,
            nagle: false,
        }
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
            window_max: self.window_max,
            nagle: self.nagle,
            ..message::GroupOptions::new(&self.name, self.port)
        }
    }
}

/// Whole milliseconds; something short is not taken for nothing.
fn milliseconds(time: Duration) -> u32 {
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

/// A set of groups (the specification's `xtcp_set`), for [`crate::Inbox::select`].
///
/// ```no_run
/// # fn sets(chat: xtcp::Group, admin: xtcp::Group) {
/// let mut set = xtcp::GroupSet::from([chat, admin]);
/// set.remove(chat);
/// assert!(!set.contains(chat) && set.contains(admin));
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSet(Vec<Group>);

impl GroupSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a group.
    pub fn insert(&mut self, group: Group) {
        if let Err(place) = self.0.binary_search(&group) {
            self.0.insert(place, group);
        }
    }

    /// Takes a group out.
    pub fn remove(&mut self, group: Group) {
        self.0.retain(|member| *member != group);
    }

    /// Whether a group is in it.
    #[must_use]
    pub fn contains(&self, group: Group) -> bool {
        self.0.binary_search(&group).is_ok()
    }

    /// How many groups are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no group is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The groups, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Group> + '_ {
        self.0.iter().copied()
    }
}

impl<const N: usize> From<[Group; N]> for GroupSet {
    fn from(groups: [Group; N]) -> Self {
        groups.into_iter().collect()
    }
}

impl FromIterator<Group> for GroupSet {
    fn from_iter<I: IntoIterator<Item = Group>>(groups: I) -> Self {
        let mut set = Self::new();
        for group in groups {
            set.insert(group);
        }
        set
    }
}

/// The groups [`crate::Inbox::select`] found ready. Both sets are empty when the time was over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Groups with something to receive.
    pub readable: GroupSet,
    /// Groups with a connection to accept.
    pub acceptable: GroupSet,
}

impl Ready {
    /// Whether nothing is ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.readable.is_empty() && self.acceptable.is_empty()
    }
}

/// What the appliance knows of a connection (the specification's `xtcp_pars`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The client's address and port.
    pub remote: SocketAddr,
    /// The appliance's address and port.
    pub local: SocketAddr,
    /// The TCP's state in RFC 9293's words: `ESTABLISHED`.
    pub state: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_is_read_from_its_bits() {
        assert_eq!(worker_of(0x0012_3405_89ab_cdef), 0x05);
        assert_eq!(worker_of(u64::MAX), 0xff);
        assert_eq!(worker_of(0xffff_ff00_ffff_ffff), 0);
    }

    #[test]
    fn short_times_do_not_become_none() {
        assert_eq!(milliseconds(Duration::ZERO), 0);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_millis(1500)), 1500);
        assert_eq!(milliseconds(Duration::MAX), u32::MAX);
    }

    #[test]
    fn sets_are_sets() {
        let mut set = GroupSet::from([Group(3), Group(1), Group(3)]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Group(1), Group(3)]);
        set.remove(Group(3));
        set.remove(Group(9));
        assert!(set.contains(Group(1)) && !set.contains(Group(3)) && set.len() == 1);
    }
}

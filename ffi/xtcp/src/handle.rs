//! Handles of groups and connections, and sets of groups.

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;

use crate::error::Error;

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

/// A set of groups (the specification's `xtcp_set`), for [`crate::Inbox::select`].
///
/// ```no_run
/// # fn sets(chat: xtcp::Group, admin: xtcp::Group) {
/// let mut set = xtcp::GroupSet::from([chat, admin]);
/// set.remove(chat);
/// assert!(!set.contains(chat) && set.contains(admin));
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct GroupSet {
    groups: Vec<Group>,
    /// The version of the endpoint that has all of them open.
    checked: Cell<u64>,
}

impl GroupSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { groups: Vec::new(), checked: Cell::new(0) }
    }

    /// Adds a group.
    pub fn insert(&mut self, group: Group) {
        if let Err(place) = self.groups.binary_search(&group) {
            self.groups.insert(place, group);
            self.checked.set(0);
        }
    }

    /// Whether all groups are open, which is looked up once for each version of what is open.
    pub(crate) fn check(&self, version: u64, is_open: impl Fn(Group) -> bool) -> Result<(), Error> {
        if self.checked.get() != version {
            if !self.iter().all(is_open) {
                return Err(Error::NoSuchGroup);
            }
            self.checked.set(version);
        }
        Ok(())
    }

    /// Takes a group out.
    pub fn remove(&mut self, group: Group) {
        self.groups.retain(|member| *member != group);
    }

    /// Whether a group is in it.
    #[must_use]
    pub fn contains(&self, group: Group) -> bool {
        self.groups.binary_search(&group).is_ok()
    }

    /// How many groups are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether no group is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The groups, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Group> + '_ {
        self.groups.iter().copied()
    }
}

impl PartialEq for GroupSet {
    fn eq(&self, other: &Self) -> bool {
        self.groups == other.groups
    }
}

impl Eq for GroupSet {}

impl Extend<Group> for GroupSet {
    fn extend<I: IntoIterator<Item = Group>>(&mut self, groups: I) {
        groups.into_iter().for_each(|group| self.insert(group));
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
        set.extend(groups);
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
    fn sets_are_sets() {
        let mut set = GroupSet::from([Group(3), Group(1), Group(3)]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Group(1), Group(3)]);
        set.remove(Group(3));
        set.remove(Group(9));
        assert!(set.contains(Group(1)) && !set.contains(Group(3)) && set.len() == 1);
    }
}

//! Which group gets a client.
//!
//! Of the groups on the port that a client calls, those that name the called address go before those
//! that take any address of its family. Among equals chance decides, each group having its
//! weight: a hash of both ends' addresses and ports, keyed, so that a repeated SYN comes to the same
//! group without anybody remembering the first, and no client can aim at one. A group that drains
//! stands on no port any more.

use crate::stack::Stack;

impl Stack<'_> {
    /// The group that gets a client who calls `port` at the own address of place `local`. `hash` is
    /// the connection's, see [`crate::secret::Secret::flow_hash`].
    pub(crate) fn listener(&self, port: u16, local: u8, hash: u64) -> Option<u16> {
        let v6 = self.local_address(local).is_ipv6();
        let takes = |at: &u16| self.groups[usize::from(*at)].takes(local, v6);
        let names = |at: &u16| self.groups[usize::from(*at)].names_addresses();
        let weight = |at: u16| self.groups[usize::from(at)].weight();
        let only_named = self.on_port(port).filter(takes).any(|at| names(&at));
        let equals = || self.on_port(port).filter(takes).filter(|at| names(at) == only_named);
        let all = equals().map(weight).sum();
        let mut place = self.secret.choose(hash, all);
        for at in equals() {
            if place < weight(at) {
                return Some(at);
            }
            place -= weight(at);
        }
        None
    }

    /// The groups on a port, the oldest first.
    fn on_port(&self, port: u16) -> impl Iterator<Item = u16> + '_ {
        let first = self.ports[usize::from(port)].checked_sub(1);
        core::iter::successors(first, |at| {
            self.groups[usize::from(*at)].next_on_port.checked_sub(1)
        })
    }

    /// A group takes its place among those of its port.
    pub(crate) fn listen(&mut self, index: u16) {
        let port = usize::from(self.groups[usize::from(index)].port);
        let mut place = &mut self.ports[port];
        while *place != 0 {
            place = &mut self.groups[usize::from(*place - 1)].next_on_port;
        }
        *place = index + 1;
    }

    /// A group gives its place up, if it has one.
    pub(crate) fn unlisten(&mut self, index: u16) {
        let group = self.groups[usize::from(index)];
        let mut place = &mut self.ports[usize::from(group.port)];
        while *place != 0 && *place != index + 1 {
            place = &mut self.groups[usize::from(*place - 1)].next_on_port;
        }
        if *place != 0 {
            *place = group.next_on_port;
            self.groups[usize::from(index)].next_on_port = 0;
        }
    }
}

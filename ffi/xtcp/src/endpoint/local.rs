//! Local clients: a worker of the library's own behind those of the appliance.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use xtcp_ring::ReadOnlyMapping;

use super::Endpoint;
use crate::error::Error;
use crate::group::{Drain, GroupOptions};
use crate::handle::{Connection, Group};
use crate::local::{Local, LocalPeer};

impl Endpoint {
    /// Makes the worker for local clients if it is not there; then answers its receive memory.
    pub(crate) fn begin_local(
        &mut self,
        bytes: usize,
        watch: &Rc<OwnedFd>,
    ) -> Result<Option<ReadOnlyMapping>, Error> {
        if self.local.is_some() {
            return Ok(None);
        }
        let worker = u8::try_from(self.lanes.len()).unwrap_or(u8::MAX);
        let (local, lane, memory) = Local::open(worker, bytes, Rc::clone(watch))?;
        self.lanes.push(lane);
        self.local = Some(local);
        Ok(Some(memory))
    }

    pub(crate) fn open_local(
        &mut self,
        options: &GroupOptions,
        path: &Path,
    ) -> Result<Group, Error> {
        let Some(local) = &mut self.local else { return Err(Error::NoSuchGroup) };
        let group = local.open_group(options, path)?;
        self.add_group(group, options.priority);
        Ok(group)
    }

    /// Drains a group of local clients; `false`: it is not one.
    pub(crate) fn drain_local(&mut self, group: Group, drain: &Drain) -> bool {
        let is_local = self.is_local(group);
        if let Some(local) = self.local.as_mut().filter(|_| is_local) {
            local.drain_group(group, drain);
        }
        is_local
    }

    /// Whether there is, or was, a group of local clients.
    pub(crate) fn has_local(&self) -> bool {
        self.local.is_some()
    }

    pub(crate) fn is_local(&self, group: Group) -> bool {
        self.local.as_ref().is_some_and(|local| local.has_group(group))
    }

    /// Whether the kernel is to be asked before it is said that a group has nothing to receive, or
    /// to accept.
    pub(crate) fn wants_look(&self, group: Group, receive: bool) -> bool {
        self.is_local(group)
            && !self.queues.is_acceptable(group.0)
            && !(receive && self.queues.is_readable(group.0))
    }

    pub(crate) fn local_peer(&self, connection: Connection) -> Option<LocalPeer> {
        self.local.as_ref().filter(|_| self.is_local(connection.group()))?.peer(connection.cd)
    }

    pub(crate) fn local_path(&self, group: Group) -> Option<PathBuf> {
        self.local.as_ref()?.path_of(group.0)
    }

    /// Questions to the kernel about local clients so far.
    #[cfg(test)]
    pub(crate) fn looks(&self) -> u64 {
        self.local.as_ref().map_or(0, |local| local.looks)
    }

    /// Copies of the sockets of local clients, as a forked child has them.
    #[cfg(test)]
    pub(crate) fn copies(&self) -> Vec<OwnedFd> {
        self.local.as_ref().map_or_else(Vec::new, Local::copies)
    }

    /// Does what was asked of the local clients' worker.
    pub(super) fn serve_local(&mut self) {
        if let Some(local) = &mut self.local {
            local.serve();
        }
    }

    /// The turn of the local clients' worker, after the others, which had news or not.
    pub(super) fn turn_local(&mut self, look: bool, busy: bool) -> bool {
        let Some(local) = &mut self.local else { return false };
        local.serve();
        if local.is_due(busy) || look {
            local.look();
        }
        let worker = local.worker();
        self.look_at(worker)
    }

    /// Whether this is the number of the local clients' worker.
    pub(super) fn is_local_worker(&self, worker: u8) -> bool {
        usize::from(worker) >= self.workers
    }
}

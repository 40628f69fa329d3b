//! Applications and their groups, as the control thread keeps them for all workers.
//!
//! Applications know a group by one handle, given here. Each worker's stack numbers its own
//! groups and pools, and not all alike: a place that one worker can use again still has a
//! connection in TIME-WAIT at another.

use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;

use xtcp_ring::message::{self, EndpointRecord, GroupOptions, GroupRecord};
use xtcp_ring::{
    DataplaneChannel, ExclusiveMapping, Mapping, Ringer, SharedMemory, StaticBytes, worker_part,
};
use xtcp_stack::ConnectionInfo;
use xtcp_stack::config::{Accept, Acknowledge, Family, GroupConfig};
use xtcp_stack::handle::{Cd, Gd, PoolId};

use crate::applications::NewEndpoint;
use crate::cli::Mode;
use crate::command::{Ask, Tell};
use crate::engine::Engine;
use crate::say::warn;

/// How long a SYN waits for an application that does not say how long.
const ACCEPT_TIMEOUT_MS: u32 = 10_000;

/// An application as the control thread knows it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) record: EndpointRecord,
    /// Each worker's number for its pool.
    pub(crate) pools: Vec<PoolId>,
    /// Hangs up when the application dies.
    pub(crate) lifeline: OwnedFd,
}

/// A group as the control thread knows it.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) record: GroupRecord,
    /// Each worker's handle for it.
    pub(crate) at_workers: Vec<Gd>,
}

/// The four files that come with an endpoint.
#[derive(Debug)]
pub(crate) struct EndpointFiles {
    pub(crate) endpoint: OwnedFd,
    pub(crate) receive: OwnedFd,
    pub(crate) bell: OwnedFd,
    pub(crate) lifeline: OwnedFd,
}

impl Engine {
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.values()
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// Takes an application in at every worker.
    ///
    /// # Errors
    /// A sentence; nothing of the endpoint is left then.
    pub(crate) fn open_endpoint(
        &mut self,
        record: EndpointRecord,
        files: EndpointFiles,
    ) -> Result<(), String> {
        let number = record.endpoint;
        self.check_endpoint(&record)?;
        let EndpointFiles { endpoint, receive, bell, lifeline } = files;
        let why = |what: &str, error: io::Error| format!("endpoint {number}: {what}: {error}");
        let endpoint = SharedMemory::from_fd(endpoint, record.layout.total_bytes())
            .and_then(|memory| Mapping::writable(&memory))
            .map_err(|error| why("its memory", error))?;
        let receive_len = usize::try_from(record.receive_bytes)
            .map_err(|_| format!("endpoint {number}: its receive memory is too large"))?;
        let receive = SharedMemory::from_fd(receive, receive_len)
            .map_err(|error| why("its receive memory", error))?;
        let mapping =
            ExclusiveMapping::map(&receive).map_err(|error| why("its receive memory", error))?;
        // From here on nobody can become a second writer, the application least of all.
        receive.seal_future_write().map_err(|error| why("its receive memory", error))?;
        let parts = mapping.into_static_parts(record.layout.workers);
        let pools = self.open_at_workers(&record, &endpoint, &bell, parts)?;
        self.endpoints.insert(number, Endpoint { record, pools, lifeline });
        Ok(())
    }

    fn check_endpoint(&self, record: &EndpointRecord) -> Result<(), String> {
        let number = record.endpoint;
        let (most, workers) = (self.line.options.pools, self.workers.len());
        if self.line.mode != Mode::App {
            return Err("this dataplane serves no applications: start it with --control".into());
        }
        if number >= most {
            return Err(format!("endpoint {number}: there are {most} at most (--pools)"));
        }
        if self.endpoints.contains_key(&number) {
            return Err(format!("endpoint {number} is open already"));
        }
        if usize::from(record.layout.workers) != workers {
            let given = record.layout.workers;
            return Err(format!(
                "endpoint {number} is laid out for {given} workers and there are {workers}"
            ));
        }
        record.layout.check().map_err(|unfit| format!("endpoint {number}: {unfit}"))
    }

    fn open_at_workers(
        &self,
        record: &EndpointRecord,
        endpoint: &Mapping,
        bell: &OwnedFd,
        parts: Vec<&'static mut [u8]>,
    ) -> Result<Vec<PoolId>, String> {
        let number = record.endpoint;
        let mut pools = Vec::new();
        let mut parts = parts.into_iter();
        for worker in 0..record.layout.workers {
            let Some(receive) = parts.next() else { break };
            match self.open_at(worker, record, endpoint, bell, receive) {
                Ok(pool) => pools.push(pool),
                Err(why) => {
                    self.close_at_workers(number);
                    parts.for_each(reclaim);
                    return Err(format!("endpoint {number}: worker {worker}: {why}"));
                }
            }
        }
        Ok(pools)
    }

    fn open_at(
        &self,
        worker: u8,
        record: &EndpointRecord,
        endpoint: &Mapping,
        bell: &OwnedFd,
        receive: &'static mut [u8],
    ) -> Result<PoolId, String> {
        let layout = &record.layout;
        let channel = DataplaneChannel::open(endpoint, layout, worker);
        let bell = bell.try_clone().map_err(|error| error.to_string());
        let ringer =
            bell.and_then(|bell| Ringer::open(endpoint, bell).map_err(|unfit| unfit.to_string()));
        let (channel, ringer) = match (channel, ringer) {
            (Ok(channel), Ok(ringer)) => (channel, ringer),
            (channel, ringer) => {
                reclaim(receive);
                let unfit = channel.err().map(|unfit| unfit.to_string());
                return Err(unfit.or_else(|| ringer.err()).unwrap_or_default());
            }
        };
        let receive_from = worker_part(record.receive_bytes, layout.workers, worker).start;
        let number = record.endpoint;
        let new = NewEndpoint { number, channel, ringer, receive, receive_from };
        match self.ask(usize::from(worker), Ask::OpenEndpoint(Box::new(new))) {
            Ok(Tell::Pool(Ok(pool))) => Ok(pool),
            Ok(Tell::Pool(Err((misuse, receive)))) => {
                reclaim(receive);
                Err(misuse.to_string())
            }
            Ok(_) => Err("it answered something else".to_owned()),
            Err(gone) => Err(gone.to_string()),
        }
    }

    fn close_at_workers(&self, number: u16) {
        for worker in 0..self.workers.len() {
            if let Ok(Tell::Memory(Some(part))) = self.ask(worker, Ask::CloseEndpoint(number)) {
                reclaim(part);
            }
        }
    }

    /// Lets an application go: its connections are reset, its groups closed, its memory unmapped.
    pub(crate) fn close_endpoint(&mut self, number: u16) -> Option<EndpointRecord> {
        let endpoint = self.endpoints.remove(&number)?;
        self.close_at_workers(number);
        self.groups.retain(|_, group| group.record.endpoint != number);
        Some(endpoint.record)
    }

    /// Opens a group at every worker.
    ///
    /// # Errors
    /// A sentence; no worker has the group then.
    pub(crate) fn open_group(
        &mut self,
        endpoint: u16,
        options: GroupOptions,
    ) -> Result<u32, String> {
        if !self.endpoints.contains_key(&endpoint) {
            return Err(format!("there is no endpoint {endpoint}"));
        }
        let config = group_config(&options)?;
        let group = self.unused_group()?;
        let mut at_workers = Vec::new();
        for worker in 0..self.workers.len() {
            let why = match self.ask(worker, Ask::OpenGroup { endpoint, group, config }) {
                Ok(Tell::Group(Ok(gd))) => {
                    at_workers.push(gd);
                    continue;
                }
                Ok(Tell::Group(Err(misuse))) => misuse.to_string(),
                Ok(_) => format!("worker {worker} answered something else"),
                Err(gone) => gone.to_string(),
            };
            for earlier in 0..worker {
                // It has the group: it has just opened it.
                let _ = self.ask(earlier, Ask::CloseGroup { endpoint, group });
            }
            return Err(format!("group `{}` on port {}: {why}", options.name, options.port));
        }
        self.generations.insert(group.index(), group.generation());
        let gd = group.to_bits();
        let record = GroupRecord { gd, endpoint, options };
        self.groups.insert(gd, Group { record, at_workers });
        Ok(gd)
    }

    /// The lowest place without a group, in its next generation.
    fn unused_group(&self) -> Result<Gd, String> {
        let most = self.line.options.groups;
        let taken = |index: u16| self.groups.keys().any(|gd| Gd::from_bits(*gd).index() == index);
        let index = (0..most)
            .find(|index| !taken(*index))
            .ok_or_else(|| format!("there are {most} groups already (--groups)"))?;
        let last = self.generations.get(&index).copied().unwrap_or(0);
        Ok(Gd::new(index, last % u16::MAX + 1))
    }

    /// Closes a group of an endpoint at every worker.
    ///
    /// # Errors
    /// A sentence: the endpoint has no such group.
    pub(crate) fn close_group(&mut self, endpoint: u16, gd: u32) -> Result<(), String> {
        let group = Gd::from_bits(gd);
        if self.groups.get(&gd).is_none_or(|group| group.record.endpoint != endpoint) {
            return Err(format!("endpoint {endpoint} has no group {group:?}"));
        }
        self.groups.remove(&gd);
        for worker in 0..self.workers.len() {
            match self.ask(worker, Ask::CloseGroup { endpoint, group }) {
                Ok(Tell::Done(Ok(()))) => {}
                Ok(Tell::Done(Err(misuse))) => return Err(format!("worker {worker}: {misuse}")),
                Ok(_) => return Err(format!("worker {worker} answered something else")),
                Err(gone) => return Err(gone.to_string()),
            }
        }
        Ok(())
    }

    /// The group that a worker knows by this handle.
    pub(crate) fn group_of(&self, worker: usize, at_worker: Gd) -> Option<&Group> {
        self.groups().find(|group| group.at_workers.get(worker) == Some(&at_worker))
    }

    /// One connection of an endpoint, and its group's handle.
    ///
    /// # Errors
    /// A sentence: the endpoint has no such connection.
    pub(crate) fn describe(&self, endpoint: u16, cd: u64) -> Result<(ConnectionInfo, u32), String> {
        let cd = Cd::from_bits(cd);
        let none = || format!("endpoint {endpoint} has no connection {cd:?}");
        let worker = usize::from(cd.worker());
        if worker >= self.workers.len() {
            return Err(none());
        }
        match self.ask(worker, Ask::Describe(cd)) {
            Ok(Tell::Connection(Ok(info))) => self
                .group_of(worker, info.group)
                .filter(|group| group.record.endpoint == endpoint)
                .map(|group| (info, group.record.gd))
                .ok_or_else(none),
            Ok(_) => Err(none()),
            Err(gone) => Err(gone.to_string()),
        }
    }
}

fn reclaim(part: &'static mut [u8]) {
    if let Err(error) = StaticBytes::reclaim(part) {
        warn(&format!("receive memory was not unmapped: {error}"));
    }
}

/// What the stack is told of a group.
fn group_config(options: &GroupOptions) -> Result<GroupConfig, String> {
    if options.port == 0 {
        return Err("a group listens on a port from 1 to 65535".to_owned());
    }
    if !(1..=1 << 30).contains(&options.window_max) {
        return Err(format!("window_max = {}: give 1 to {} bytes", options.window_max, 1 << 30));
    }
    let ms = |ms: u32| Duration::from_millis(ms.into());
    Ok(GroupConfig {
        port: options.port,
        family: match options.family {
            message::Family::V4 => Family::V4,
            message::Family::V6 => Family::V6,
            message::Family::Dual => Family::Dual,
        },
        accept: match options.accept {
            message::Accept::Automatic => Accept::Automatic,
            message::Accept::ByApplication { timeout_ms: 0 } => {
                Accept::ByApplication { timeout: ms(ACCEPT_TIMEOUT_MS) }
            }
            message::Accept::ByApplication { timeout_ms } => {
                Accept::ByApplication { timeout: ms(timeout_ms) }
            }
        },
        acknowledge: match options.acknowledge {
            message::Acknowledge::OnReceive => Acknowledge::OnReceive,
            message::Acknowledge::ByApplication { deadline_ms } => {
                Acknowledge::ByApplication { deadline: ms(deadline_ms) }
            }
        },
        window_max: options.window_max,
        nagle: options.nagle,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_taken_over_as_they_were_asked_for() {
        let options = GroupOptions {
            name: "presence".into(),
            port: 5222,
            family: message::Family::V6,
            accept: message::Accept::ByApplication { timeout_ms: 0 },
            acknowledge: message::Acknowledge::ByApplication { deadline_ms: 7 },
            window_max: 65_536,
            nagle: false,
        };
        let config = group_config(&options).unwrap();
        let waits = Duration::from_secs(10);
        assert_eq!(config.accept, Accept::ByApplication { timeout: waits });
        assert_eq!((config.port, config.family, config.nagle), (5222, Family::V6, false));
        assert!(group_config(&GroupOptions { port: 0, ..options.clone() }).is_err());
        assert!(group_config(&GroupOptions { window_max: 0, ..options }).is_err());
    }
}

//! Applications and their groups, as the control thread keeps them for all workers.
//!
//! Applications know a group by one handle, given here. Each worker's stack numbers its own
//! groups and pools, and not all alike: a place that one worker can use again still has a
//! connection in TIME-WAIT at another.

use core::time::Duration;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use xtcp_ring::message::{self, EndpointRecord, GroupOptions, GroupRecord};
use xtcp_ring::{
    DataplaneChannel, EndpointLayout, ExclusiveMapping, Mapping, Ringer, SharedMemory, StaticBytes,
    worker_part,
};
use xtcp_stack::config::{Accept, Acknowledge, Family, GroupConfig};
use xtcp_stack::handle::{Cd, Gd, PoolId};
use xtcp_stack::{ConnectionInfo, Instant};

use crate::applications::{NewEndpoint, NewLine};
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
    /// Kept for a successor to map.
    receive: SharedMemory,
    pub(crate) presence: Presence,
}

/// Whether an application is there.
#[derive(Debug)]
pub(crate) enum Presence {
    /// Its lifeline, which hangs up when it dies.
    Here(OwnedFd),
    /// It is gone, and a successor may come until then.
    Gone { until: Instant },
}

/// What became of an endpoint whose application is gone.
#[derive(Debug)]
pub(crate) enum Left {
    /// All of it is closed.
    Closed(EndpointRecord),
    /// It waits for a successor.
    Waiting(EndpointRecord),
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

/// The three files that come with a successor.
#[derive(Debug)]
pub(crate) struct SuccessorFiles {
    pub(crate) endpoint: OwnedFd,
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
        let presence = Presence::Here(lifeline);
        self.endpoints.insert(number, Endpoint { record, pools, receive, presence });
        Ok(())
    }

    /// An application is gone: keeps what it leaves for a successor, if it is to have one, and
    /// closes it otherwise.
    pub(crate) fn leave_endpoint(&mut self, number: u16) -> Option<Left> {
        let now = self.clock.now();
        let endpoint = self.endpoints.get_mut(&number)?;
        if matches!(endpoint.presence, Presence::Gone { .. }) {
            return None;
        }
        let wait = Duration::from_millis(endpoint.record.successor_ms.into());
        if wait.is_zero() {
            return self.close_endpoint(number).map(Left::Closed);
        }
        // The lifeline closes with this: one that is only cut off learns of it.
        endpoint.presence = Presence::Gone { until: now + wait };
        let record = endpoint.record.clone();
        for worker in 0..self.workers.len() {
            match self.ask(worker, Ask::OrphanEndpoint(number)) {
                Ok(Tell::Done(Ok(()))) => {}
                // Without all of it nobody can follow.
                _ => return self.close_endpoint(number).map(Left::Closed),
            }
        }
        Some(Left::Waiting(record))
    }

    /// Takes a successor in at every worker.
    ///
    /// # Errors
    /// A sentence. The endpoint waits on, or is closed if a worker failed.
    pub(crate) fn resume_endpoint(
        &mut self,
        record: EndpointRecord,
        files: SuccessorFiles,
    ) -> Result<(), String> {
        let number = record.endpoint;
        self.check_layout(&record)?;
        let left = self.endpoints.get(&number).filter(|left| !left.is_here());
        let follows = |left: &Endpoint| {
            let EndpointRecord { application, uid, receive_bytes, .. } = &left.record;
            (application, uid, receive_bytes)
                == (&record.application, &record.uid, &record.receive_bytes)
        };
        if !left.is_some_and(follows) {
            let name = &record.application;
            return Err(format!("endpoint {number} does not wait for a successor of `{name}`"));
        }
        let SuccessorFiles { endpoint, bell, lifeline } = files;
        let memory = SharedMemory::from_fd(endpoint, record.layout.total_bytes())
            .and_then(|memory| Mapping::writable(&memory))
            .map_err(|error| format!("endpoint {number}: its memory: {error}"))?;
        let lines = (0..record.layout.workers)
            .map(|worker| new_line(number, &record.layout, worker, &memory, &bell))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| format!("endpoint {number}: {why}"))?;
        for (worker, line) in lines.into_iter().enumerate() {
            match self.ask(worker, Ask::ResumeEndpoint(Box::new(line))) {
                Ok(Tell::Done(Ok(()))) => {}
                _ => {
                    self.close_endpoint(number);
                    return Err(format!("endpoint {number}: worker {worker} does not know it"));
                }
            }
        }
        if let Some(left) = self.endpoints.get_mut(&number) {
            left.record = record;
            left.presence = Presence::Here(lifeline);
        }
        Ok(())
    }

    /// Closes what has waited for a successor long enough.
    pub(crate) fn expire_endpoints(&mut self) -> Vec<EndpointRecord> {
        let now = self.clock.now();
        let expired: Vec<u16> = self
            .endpoints
            .iter()
            .filter(|(_, endpoint)| endpoint.waits_until().is_some_and(|until| until <= now))
            .map(|(number, _)| *number)
            .collect();
        expired.into_iter().filter_map(|number| self.close_endpoint(number)).collect()
    }

    /// When [`Self::expire_endpoints`] next has something to do.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.endpoints().filter_map(Endpoint::waits_until).min()
    }

    fn check_endpoint(&self, record: &EndpointRecord) -> Result<(), String> {
        let number = record.endpoint;
        let most = self.line.options.pools;
        if self.line.mode != Mode::App {
            return Err("this dataplane serves no applications: start it with --control".into());
        }
        if number >= most {
            return Err(format!("endpoint {number}: there are {most} at most (--pools)"));
        }
        if self.endpoints.contains_key(&number) {
            return Err(format!("endpoint {number} is open already"));
        }
        self.check_layout(record)
    }

    fn check_layout(&self, record: &EndpointRecord) -> Result<(), String> {
        let (number, workers) = (record.endpoint, self.workers.len());
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
        let line = match new_line(record.endpoint, layout, worker, endpoint, bell) {
            Ok(line) => line,
            Err(why) => {
                reclaim(receive);
                return Err(why);
            }
        };
        let receive_from = worker_part(record.receive_bytes, layout.workers, worker).start;
        let NewLine { number, channel, ringer } = line;
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

impl Endpoint {
    pub(crate) fn is_here(&self) -> bool {
        matches!(self.presence, Presence::Here(_))
    }

    /// Until when it waits for a successor; `None` while there is an application.
    pub(crate) fn waits_until(&self) -> Option<Instant> {
        match self.presence {
            Presence::Here(_) => None,
            Presence::Gone { until } => Some(until),
        }
    }

    pub(crate) fn receive_file(&self) -> BorrowedFd<'_> {
        self.receive.fd()
    }
}

/// A worker's end of an endpoint's rings, and its own end of the bell.
fn new_line(
    number: u16,
    layout: &EndpointLayout,
    worker: u8,
    endpoint: &Mapping,
    bell: &OwnedFd,
) -> Result<NewLine, String> {
    let channel =
        DataplaneChannel::open(endpoint, layout, worker).map_err(|unfit| unfit.to_string())?;
    let bell = bell.try_clone().map_err(|error| error.to_string())?;
    let ringer = Ringer::open(endpoint, bell).map_err(|unfit| unfit.to_string())?;
    Ok(NewLine { number, channel, ringer })
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
        ..GroupConfig::default()
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
            ..GroupOptions::new("group", 7)
        };
        let config = group_config(&options).unwrap();
        let waits = Duration::from_secs(10);
        assert_eq!(config.accept, Accept::ByApplication { timeout: waits });
        assert_eq!((config.port, config.family, config.nagle), (5222, Family::V6, false));
        assert!(group_config(&GroupOptions { port: 0, ..options.clone() }).is_err());
        assert!(group_config(&GroupOptions { window_max: 0, ..options }).is_err());
    }
}

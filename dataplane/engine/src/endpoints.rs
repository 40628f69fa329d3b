//! Applications, as the control thread keeps them for all workers.

use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;

use xtcp_ring::message::{EndpointRecord, Refused};
use xtcp_ring::{
    DataplaneChannel, EndpointLayout, ExclusiveMapping, Mapping, Ringer, SharedMemory, StaticBytes,
    worker_part,
};
use xtcp_stack::handle::{Cd, PoolId};
use xtcp_stack::{ConnectionInfo, Instant};

use crate::applications::{NewEndpoint, NewLine};
use crate::cli::Mode;
use crate::command::{Ask, Tell};
use crate::engine::{Departure, Endpoint, Engine, Presence};
use crate::refusals::refused_by_stack;
use crate::say::warn;

/// What became of an endpoint whose application is gone.
#[derive(Debug)]
pub(crate) enum Left {
    /// All of it is closed.
    Closed(EndpointRecord),
    /// It waits for a successor.
    Waiting(EndpointRecord),
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

    /// Takes an application in at every worker.
    ///
    /// # Errors
    /// A sentence; nothing of the endpoint is left then.
    pub(crate) fn open_endpoint(
        &mut self,
        record: EndpointRecord,
        files: EndpointFiles,
    ) -> Result<(), Refused> {
        let number = record.endpoint;
        self.check_endpoint(&record)?;
        let EndpointFiles { endpoint, receive, bell, lifeline } = files;
        let why = |what: &str, error: io::Error| {
            Refused::invalid(format!("endpoint {number}: {what}: {error}"))
        };
        let endpoint = SharedMemory::from_fd(endpoint, record.layout.total_bytes())
            .and_then(|memory| Mapping::writable(&memory))
            .map_err(|error| why("its memory", error))?;
        let receive_len = usize::try_from(record.receive_bytes)
            .map_err(|_| Refused::full(format!("endpoint {number}: too much receive memory")))?;
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
    pub(crate) fn leave_endpoint(&mut self, number: u16, why: Departure) -> Option<Left> {
        let now = self.clock.now();
        let endpoint = self.endpoints.get_mut(&number)?;
        if matches!(endpoint.presence, Presence::Gone { .. }) {
            return None;
        }
        let wait = match why {
            Departure::Died => endpoint.record.successor_ms,
            Departure::Lied(_) => endpoint.record.hostile_ms,
        };
        let wait = Duration::from_millis(wait.into());
        if wait.is_zero() {
            return self.close_endpoint(number).map(Left::Closed);
        }
        // The lifeline closes with this: one that is only cut off learns of it.
        endpoint.presence = Presence::Gone { until: now + wait, why };
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
    ) -> Result<(), Refused> {
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
            let why = format!("endpoint {number} does not wait for a successor of `{name}`");
            return Err(Refused::not_there(why));
        }
        let SuccessorFiles { endpoint, bell, lifeline } = files;
        let memory = SharedMemory::from_fd(endpoint, record.layout.total_bytes())
            .and_then(|memory| Mapping::writable(&memory))
            .map_err(|error| Refused::invalid(format!("endpoint {number}: its memory: {error}")))?;
        let lines = (0..record.layout.workers)
            .map(|worker| new_line(number, &record.layout, worker, &memory, &bell))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| Refused::invalid(format!("endpoint {number}: {why}")))?;
        for (worker, line) in lines.into_iter().enumerate() {
            match self.ask(worker, Ask::ResumeEndpoint(Box::new(line))) {
                Ok(Tell::Done(Ok(()))) => {}
                _ => {
                    self.close_endpoint(number);
                    let why = format!("endpoint {number}: worker {worker} does not know it");
                    return Err(Refused::not_there(why));
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

    fn check_endpoint(&self, record: &EndpointRecord) -> Result<(), Refused> {
        let number = record.endpoint;
        let most = self.line.options.pools;
        if self.line.mode != Mode::App {
            let why = "this dataplane serves no applications: start it with --control";
            return Err(Refused::misplaced(why));
        }
        if number >= most {
            let why = format!("endpoint {number}: there are {most} at most (--pools)");
            return Err(Refused::full(why));
        }
        if self.endpoints.contains_key(&number) {
            return Err(Refused::in_use(format!("endpoint {number} is open already")));
        }
        self.check_layout(record)
    }

    fn check_layout(&self, record: &EndpointRecord) -> Result<(), Refused> {
        let (number, workers) = (record.endpoint, self.workers.len());
        if usize::from(record.layout.workers) != workers {
            let given = record.layout.workers;
            return Err(Refused::invalid(format!(
                "endpoint {number} is laid out for {given} workers and there are {workers}"
            )));
        }
        let unfit = record.layout.check();
        unfit.map_err(|unfit| Refused::invalid(format!("endpoint {number}: {unfit}")))
    }

    fn open_at_workers(
        &self,
        record: &EndpointRecord,
        endpoint: &Mapping,
        bell: &OwnedFd,
        parts: Vec<&'static mut [u8]>,
    ) -> Result<Vec<PoolId>, Refused> {
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
                    let why_there = format!("endpoint {number}: worker {worker}: {why}");
                    return Err(Refused::new(why.refusal, why_there));
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
    ) -> Result<PoolId, Refused> {
        let layout = &record.layout;
        let line = match new_line(record.endpoint, layout, worker, endpoint, bell) {
            Ok(line) => line,
            Err(why) => {
                reclaim(receive);
                return Err(Refused::invalid(why));
            }
        };
        let receive_from = worker_part(record.receive_bytes, layout.workers, worker).start;
        let NewLine { number, channel, ringer } = line;
        let new = NewEndpoint { number, channel, ringer, receive, receive_from };
        match self.ask(usize::from(worker), Ask::OpenEndpoint(Box::new(new))) {
            Ok(Tell::Pool(Ok(pool))) => Ok(pool),
            Ok(Tell::Pool(Err((misuse, receive)))) => {
                reclaim(receive);
                Err(refused_by_stack("its pool", misuse))
            }
            Ok(_) => Err(Refused::not_now("it answered something else")),
            Err(gone) => Err(Refused::not_now(gone.to_string())),
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

    /// One connection of an endpoint, and its group's handle.
    ///
    /// # Errors
    /// The endpoint has no such connection.
    pub(crate) fn describe(
        &self,
        endpoint: u16,
        cd: u64,
    ) -> Result<(ConnectionInfo, u32), Refused> {
        let cd = Cd::from_bits(cd);
        let none = || Refused::not_there(format!("endpoint {endpoint} has no connection {cd:?}"));
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
            Err(gone) => Err(Refused::not_now(gone.to_string())),
        }
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

//! Applications that come, follow another, and go.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tracing::{error, info};
use xtcp_ring::message::{Answer, Command, EndpointRecord, GroupRecord, Refused, Reply, VERSION};
use xtcp_ring::{EndpointLayout, Mapping, SharedMemory, bell};

use super::{Answered, Desk, check_name};
use crate::client::Client;
use crate::config::receive_min;
use crate::dataplane::Attached;
use crate::memory;

impl Desk {
    pub(super) fn attach(
        &mut self,
        client: &mut Client,
        version: u32,
        application: String,
        receive_bytes: u64,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<(Reply, Vec<OwnedFd>)> {
        check_version(version)?;
        if client.endpoint.is_some() {
            let why = "this connection is an application already; detach first";
            return Err(Refused::misplaced(why));
        }
        check_name("an application", &application)?;
        self.refresh(interrupt)?;
        let predecessor = self.predecessor(client, &application)?;
        let layout = self.layout()?;
        let memory = endpoint_memory(&layout)?;
        let key =
            random().map_err(|error| Refused::not_now(format!("no random number: {error}")))?;
        let (record, files, resumed) = if let Some(left) = predecessor {
            let record = EndpointRecord { pid: client.pid, key, layout, ..left };
            let files = self.resume_endpoint(&record, memory, interrupt)?;
            let groups = self.up()?.groups.values();
            let theirs = groups.filter(|group| group.endpoint == record.endpoint);
            let groups: Vec<GroupRecord> = theirs.cloned().collect();
            (record, files, Some(groups))
        } else {
            let receive_bytes = self.receive_share(receive_bytes)?;
            let endpoint = self.free_endpoint()?;
            let receive =
                self.pages.create("receive", receive_bytes).map_err(|error| no_memory(&error))?;
            let record = EndpointRecord {
                endpoint,
                pool: endpoint,
                application,
                pid: client.pid,
                uid: client.uid,
                key,
                layout,
                receive_bytes: receive.len() as u64,
                successor_ms: self.config.applications.successor_ms,
                hostile_ms: self.config.applications.hostile_ms,
            };
            let files = self.open_endpoint(record.clone(), memory, receive, interrupt)?;
            (record, files, None)
        };
        let EndpointRecord { endpoint, pool, receive_bytes, .. } = record;
        client.endpoint = Some(Attached { endpoint, key });
        let reply = Reply::Attached { endpoint, pool, key, layout, receive_bytes, resumed };
        Ok((reply, files))
    }

    fn layout(&mut self) -> Answered<EndpointLayout> {
        let workers = self.up()?.workers;
        let applications = &self.config.applications;
        Ok(EndpointLayout {
            workers,
            submissions: applications.submissions,
            notices: applications.notices,
            arena_bytes: applications.arena,
        })
    }

    /// What an application of this name has left for its successor, if there was one. There are
    /// never two of a name at once: clients, and operators, would not know which is which.
    fn predecessor(
        &mut self,
        client: &Client,
        application: &str,
    ) -> Answered<Option<EndpointRecord>> {
        let up = self.up()?;
        let Some(record) = up.endpoints.values().find(|known| known.application == application)
        else {
            return Ok(None);
        };
        let EndpointRecord { endpoint, pid, uid, .. } = *record;
        if !up.waiting.contains(&endpoint) {
            return Err(Refused::in_use(format!(
                "application `{application}` is attached already (process {pid}): stop that one, or \
                 attach under another name"
            )));
        }
        if uid != client.uid {
            return Err(Refused::not_allowed(format!(
                "what application `{application}` has left waits for a successor of user {uid}, not \
                 {}: start it as that user, or attach under another name",
                client.uid
            )));
        }
        Ok(Some(record.clone()))
    }

    /// Has the dataplane give what was left to its successor; the successor's files.
    fn resume_endpoint(
        &mut self,
        record: &EndpointRecord,
        memory: SharedMemory,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Vec<OwnedFd>> {
        let (near_bell, far_bell) = bell::pair().map_err(|error| no_files(&error))?;
        let (near_line, far_line) = bell::lifeline().map_err(|error| no_files(&error))?;
        let files = [memory.fd(), near_bell.as_fd(), near_line.as_fd()];
        let command = Command::ResumeEndpoint(record.clone());
        let answer = self.up()?.call_for_files(&command, &files, interrupt);
        let (answer, theirs) = self.settle(answer)?;
        let (Answer::Resumed { .. }, Ok([receive])) = (&answer, <[OwnedFd; 1]>::try_from(theirs))
        else {
            return Err(self.nonsense(&answer));
        };
        let EndpointRecord { endpoint, application, pid, .. } = record;
        info!("application {application} (process {pid}) follows another at endpoint {endpoint}");
        if let Some(up) = self.dataplane.up() {
            up.waiting.remove(endpoint);
            up.endpoints.insert(*endpoint, record.clone());
        }
        Ok(vec![memory.into_fd(), receive, far_bell, far_line])
    }

    /// Has the dataplane open the endpoint; the application's files.
    fn open_endpoint(
        &mut self,
        record: EndpointRecord,
        memory: SharedMemory,
        receive: SharedMemory,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Vec<OwnedFd>> {
        let (near_bell, far_bell) = bell::pair().map_err(|error| no_files(&error))?;
        let (near_line, far_line) = bell::lifeline().map_err(|error| no_files(&error))?;
        let files = [memory.fd(), receive.fd(), near_bell.as_fd(), near_line.as_fd()];
        let endpoint = record.endpoint;
        self.call(&Command::OpenEndpoint(record.clone()), &files, interrupt)?;
        // The dataplane seals it once it has mapped it; nobody gets it before.
        if !receive.is_sealed_future_write().unwrap_or(false) {
            error!("the dataplane has not sealed the receive memory of endpoint {endpoint}");
            self.close_endpoint(endpoint, interrupt);
            return Err(Refused::not_now("the dataplane has not sealed the receive memory"));
        }
        let (application, pid, bytes) = (&record.application, record.pid, record.receive_bytes);
        info!("application {application} (process {pid}) at endpoint {endpoint}, {bytes} bytes");
        if let Some(up) = self.dataplane.up() {
            up.endpoints.insert(endpoint, record);
        }
        Ok(vec![memory.into_fd(), receive.into_fd(), far_bell, far_line])
    }

    /// Bytes an application gets that asks for `wanted`.
    fn receive_share(&mut self, wanted: u64) -> Answered<u64> {
        let granule = self.pages.granule();
        let (max, all) = (self.config.applications.receive_max, self.config.memory.receive);
        let up = self.up()?;
        let workers = u64::from(up.workers);
        let used: u64 = up.endpoints.values().map(|record| record.receive_bytes).sum();
        let wanted = if wanted == 0 { max } else { wanted };
        let least = receive_min(workers);
        if !(least..=max).contains(&wanted) {
            return Err(Refused::invalid(format!(
                "{wanted} bytes of receive memory are not to be had: ask for {least} to {max} \
                 (receive_max in [applications]), or 0 for the most"
            )));
        }
        let left = all.saturating_sub(used);
        if wanted > left {
            return Err(Refused::full(format!(
                "{wanted} bytes of receive memory are not to be had: applications have {used} of \
                 {all} (receive in [memory]); ask for less, or raise that"
            )));
        }
        Ok(wanted.next_multiple_of(workers * granule))
    }

    /// A number no endpoint has. Numbers go round, so that a stale one is not soon another's.
    fn free_endpoint(&mut self) -> Answered<u16> {
        let max = self.config.applications.max;
        let next = self.next_endpoint;
        let up = self.up()?;
        let free = (0..max)
            .map(|step| (next % max + step) % max)
            .find(|number| !up.endpoints.contains_key(number));
        let number = free.ok_or_else(|| {
            Refused::full(format!(
                "{max} applications are attached, as many as may be (max in [applications])"
            ))
        })?;
        self.next_endpoint = number + 1;
        Ok(number)
    }

    pub(super) fn resume(
        &mut self,
        client: &mut Client,
        version: u32,
        endpoint: u16,
        key: u64,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Reply> {
        check_version(version)?;
        if client.endpoint.is_some() {
            return Err(Refused::misplaced("this connection is an application already"));
        }
        self.refresh(interrupt)?;
        let attached = Attached { endpoint, key };
        if !self.up()?.is_attached(attached) {
            return Err(Refused::not_there("there is no such endpoint (any more); attach again"));
        }
        client.endpoint = Some(attached);
        Ok(Reply::Done)
    }

    pub(super) fn detach(
        &mut self,
        client: &mut Client,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Reply> {
        let endpoint = self.attached(client)?;
        self.close_endpoint(endpoint, interrupt);
        client.endpoint = None;
        info!("application at endpoint {endpoint} has detached");
        Ok(Reply::Done)
    }
}

fn check_version(version: u32) -> Answered<()> {
    if version == VERSION {
        return Ok(());
    }
    let why = format!("this appliance speaks version {VERSION}, not {version}: build both alike");
    Err(Refused::version(why))
}

fn endpoint_memory(layout: &EndpointLayout) -> Answered<SharedMemory> {
    let memory = memory::endpoint(layout.total_bytes()).map_err(|error| no_memory(&error))?;
    let mapping = Mapping::writable(&memory).map_err(|error| no_memory(&error))?;
    layout.prepare(&mapping).map_err(|error| no_memory(&error))?;
    Ok(memory)
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn no_files(error: &io::Error) -> Refused {
    Refused::full(format!("no files for another application: {error}"))
}

fn no_memory(error: &impl std::fmt::Display) -> Refused {
    Refused::full(error.to_string())
}

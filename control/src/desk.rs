//! Where requests are answered: who may have what, and how much is left.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use serde_json::{Value, json};
use tracing::{error, info, warn};
use xtcp_ring::message::{
    Accept, Answer, Command, EndpointRecord, GroupOptions, GroupRecord, Refusal, Reply, Request,
    Row, Topic, VERSION, name_is_valid,
};
use xtcp_ring::{EndpointLayout, Mapping, SharedMemory, bell};

use crate::client::{Attached, Client};
use crate::clock;
use crate::config::{Config, receive_min};
use crate::dataplane::{CallError, Dataplane, DataplaneError, Up};
use crate::instance::Instance;
use crate::memory::{self, Pages};

/// Rows of one table at most.
const ROWS_MAX: u32 = 10_000;

/// Longest an application may leave a client waiting, in milliseconds.
const ACCEPT_TIMEOUT_MAX: u32 = 60_000;

/// What is refused, in a sentence.
type Answered<T> = Result<T, String>;

/// The appliance's state, and its answers.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) config: Config,
    pub(crate) dataplane: Dataplane,
    name: String,
    pages: Pages,
    since: Instant,
    next_endpoint: u16,
}

impl Desk {
    pub(crate) fn new(config: Config, name: String, dataplane: Dataplane, pages: Pages) -> Self {
        Self { config, dataplane, name, pages, since: clock::now(), next_endpoint: 0 }
    }

    /// Does what is due with the dataplane.
    pub(crate) fn step(
        &mut self,
        instance: &Instance,
        interrupt: BorrowedFd<'_>,
    ) -> Result<(), DataplaneError> {
        while self.dataplane.step(&self.config, instance, &mut self.pages, interrupt)? {}
        Ok(())
    }

    /// An application whose endpoint has gone with its dataplane, or waits for another
    /// application or has one, is none any more.
    pub(crate) fn forget_lost_endpoint(&mut self, client: &mut Client) {
        let Some(attached) = client.endpoint else { return };
        let is_known = self.dataplane.up().map(|up| up.is_attached(attached));
        if is_known == Some(false) {
            client.endpoint = None;
        }
    }

    pub(crate) fn answer(
        &mut self,
        client: &mut Client,
        request: Request,
        interrupt: BorrowedFd<'_>,
    ) -> (Reply, Vec<OwnedFd>) {
        let mut files = Vec::new();
        let reply = match request {
            Request::Attach { version, application, receive_bytes } => {
                let attach = self.attach(client, version, application, receive_bytes, interrupt);
                attach.map(|(reply, theirs)| {
                    files = theirs;
                    reply
                })
            }
            Request::Resume { version, endpoint, key } => {
                self.resume(client, version, endpoint, key, interrupt)
            }
            Request::OpenGroup(options) => self.open_group(client, options, interrupt),
            Request::CloseGroup { gd } => self.close_group(client, gd, interrupt),
            Request::DrainGroup { gd, .. } => {
                Err(format!("group {gd} cannot be drained by this version"))
            }
            Request::Detach => self.detach(client, interrupt),
            Request::Describe { cd } => self.describe(client, cd, interrupt),
            Request::Status => Ok(Reply::Shown { rows: vec![self.status(interrupt)] }),
            Request::Show { topic, limit } => self.show(client, topic, limit, interrupt),
        };
        (reply.unwrap_or_else(|reason| Reply::Refused { refusal: Refusal::Invalid, reason }), files)
    }

    /// Tells the dataplane that an application has left. It may know already.
    fn close_endpoint(&mut self, endpoint: u16, interrupt: BorrowedFd<'_>) {
        let closed = self.call(&Command::CloseEndpoint { endpoint }, &[], interrupt);
        if let Err(why) = closed {
            info!("endpoint {endpoint}: {why}");
        }
        if let Some(up) = self.dataplane.up() {
            up.endpoints.remove(&endpoint);
            up.waiting.remove(&endpoint);
            up.groups.retain(|_, group| group.endpoint != endpoint);
        }
    }

    fn attach(
        &mut self,
        client: &mut Client,
        version: u32,
        application: String,
        receive_bytes: u64,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<(Reply, Vec<OwnedFd>)> {
        check_version(version)?;
        if client.endpoint.is_some() {
            return Err("this connection is an application already; detach first".into());
        }
        check_name("an application", &application)?;
        self.refresh(interrupt)?;
        let predecessor = self.predecessor(client, &application)?;
        let layout = self.layout()?;
        let memory = endpoint_memory(&layout)?;
        let key = random().map_err(|error| format!("no random number: {error}"))?;
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
                self.pages.create("receive", receive_bytes).map_err(|error| error.to_string())?;
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
            return Err(format!(
                "application `{application}` is attached already (process {pid}): stop that one, or \
                 attach under another name"
            ));
        }
        if uid != client.uid {
            return Err(format!(
                "what application `{application}` has left waits for a successor of user {uid}, not \
                 {}: start it as that user, or attach under another name",
                client.uid
            ));
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
            return Err("the dataplane has not sealed the receive memory".into());
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
            return Err(format!(
                "{wanted} bytes of receive memory are not to be had: ask for {least} to {max} \
                 (receive_max in [applications]), or 0 for the most"
            ));
        }
        let left = all.saturating_sub(used);
        if wanted > left {
            return Err(format!(
                "{wanted} bytes of receive memory are not to be had: applications have {used} of \
                 {all} (receive in [memory]); ask for less, or raise that"
            ));
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
            format!("{max} applications are attached, as many as may be (max in [applications])")
        })?;
        self.next_endpoint = number + 1;
        Ok(number)
    }

    fn resume(
        &mut self,
        client: &mut Client,
        version: u32,
        endpoint: u16,
        key: u64,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Reply> {
        check_version(version)?;
        if client.endpoint.is_some() {
            return Err("this connection is an application already".into());
        }
        self.refresh(interrupt)?;
        let attached = Attached { endpoint, key };
        if !self.up()?.is_attached(attached) {
            return Err("there is no such endpoint (any more); attach again".into());
        }
        client.endpoint = Some(attached);
        Ok(Reply::Done)
    }

    fn open_group(
        &mut self,
        client: &Client,
        mut options: GroupOptions,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Reply> {
        let endpoint = self.attached(client)?;
        check_name("a group", &options.name)?;
        self.complete(&mut options)?;
        let mut groups = self.up()?.groups.values();
        let same =
            |group: &&GroupRecord| group.endpoint == endpoint && group.options.name == options.name;
        if let Some(open) = groups.find(same) {
            return match difference(&open.options, &options) {
                None => Ok(Reply::Group { gd: open.gd }),
                Some(what) => Err(format!(
                    "group `{}` is open already and {what}; ask for the same, or close it first",
                    options.name
                )),
            };
        }
        let command = Command::OpenGroup { endpoint, options: options.clone() };
        let gd = match self.call(&command, &[], interrupt)? {
            Answer::Group { gd } => gd,
            other => return Err(self.nonsense(&other)),
        };
        info!("group {} of endpoint {endpoint} on port {}", options.name, options.port);
        self.up()?.groups.insert(gd, GroupRecord { gd, endpoint, options });
        Ok(Reply::Group { gd })
    }

    /// Fills in what a group leaves to the configuration, and checks the rest.
    fn complete(&self, options: &mut GroupOptions) -> Answered<()> {
        let tcp = &self.config.tcp;
        if options.port == 0 {
            return Err("a group's port is 1 to 65535".into());
        }
        if let Accept::ByApplication { timeout_ms } = &mut options.accept {
            if *timeout_ms == 0 {
                *timeout_ms = tcp.accept_timeout_ms;
            }
            if *timeout_ms > ACCEPT_TIMEOUT_MAX {
                return Err(format!(
                    "an accept time of {timeout_ms} ms is too long: {ACCEPT_TIMEOUT_MAX} at most"
                ));
            }
        }
        if options.window_max == 0 {
            options.window_max = tcp.window_max;
        }
        if !(4096..=tcp.window_max).contains(&options.window_max) {
            return Err(format!(
                "a window of {} bytes is not to be had: ask for 4096 to {} (window_max in [tcp]), or \
                 0 for the most",
                options.window_max, tcp.window_max
            ));
        }
        Ok(())
    }

    fn close_group(
        &mut self,
        client: &Client,
        gd: u32,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Reply> {
        let endpoint = self.attached(client)?;
        let is_theirs = |group: &GroupRecord| group.endpoint == endpoint;
        if !self.up()?.groups.get(&gd).is_some_and(is_theirs) {
            return Err(format!("there is no group {gd} of this application"));
        }
        self.call(&Command::CloseGroup { endpoint, gd }, &[], interrupt)?;
        self.up()?.groups.remove(&gd);
        Ok(Reply::Done)
    }

    fn detach(&mut self, client: &mut Client, interrupt: BorrowedFd<'_>) -> Answered<Reply> {
        let endpoint = self.attached(client)?;
        self.close_endpoint(endpoint, interrupt);
        client.endpoint = None;
        info!("application at endpoint {endpoint} has detached");
        Ok(Reply::Done)
    }

    fn describe(&mut self, client: &Client, cd: u64, interrupt: BorrowedFd<'_>) -> Answered<Reply> {
        let endpoint = self.attached(client)?;
        match self.call(&Command::Describe { endpoint, cd }, &[], interrupt)? {
            Answer::Described(info) => Ok(Reply::Described(info)),
            other => Err(self.nonsense(&other)),
        }
    }

    fn show(
        &mut self,
        client: &Client,
        topic: Topic,
        limit: u32,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Reply> {
        // An application must not see who another's clients are.
        if !client.is_operator {
            return Err("only root, or the user who runs xtcpd, may see this".into());
        }
        let limit = if limit == 0 { ROWS_MAX } else { limit.min(ROWS_MAX) };
        match self.call(&Command::Show { topic, limit }, &[], interrupt)? {
            Answer::Shown { rows } => Ok(Reply::Shown { rows }),
            other => Err(self.nonsense(&other)),
        }
    }

    fn status(&mut self, interrupt: BorrowedFd<'_>) -> Row {
        // Without a dataplane there is nothing to refresh, and the row says so.
        let _ = self.refresh(interrupt);
        let mut row = Row::new();
        let mut say = |heading: &str, value: Value| drop(row.insert(heading.into(), value));
        say("name", json!(self.name));
        say("state", json!(self.dataplane.state()));
        say("xtcpd_pid", json!(std::process::id()));
        let up = self.dataplane.up();
        let up = up.as_deref();
        say("dataplane_pid", json!(up.map(Up::pid)));
        say("workers", json!(up.map(|up| up.workers)));
        let waiting = up.map_or(0, |up| up.waiting.len());
        say("applications", json!(up.map_or(0, |up| up.endpoints.len()) - waiting));
        say("awaits_successor", json!(waiting));
        say("groups", json!(up.map_or(0, |up| up.groups.len())));
        let receive = |up: &Up| up.endpoints.values().map(|record| record.receive_bytes).sum();
        say("receive_used_bytes", json!(up.map_or(0u64, receive)));
        say("receive_bytes", json!(self.config.memory.receive));
        say("tables_bytes", json!(up.and_then(|up| up.tables_bytes)));
        say("connections_max", json!(self.config.memory.connections));
        say("restarts", json!(self.dataplane.restarts));
        say("up_s", json!((clock::now() - self.since).as_secs()));
        let addresses = &self.config.port.addresses;
        say("addresses", json!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>()));
        row
    }

    fn refresh(&mut self, interrupt: BorrowedFd<'_>) -> Answered<()> {
        let refreshed = self.up()?.refresh(interrupt);
        self.settle(refreshed)
    }

    fn call(
        &mut self,
        command: &Command,
        files: &[BorrowedFd<'_>],
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Answer> {
        let answer = self.up()?.call(command, files, interrupt);
        self.settle(answer)
    }

    /// A link on which an answer did not come is of no more use: the next answer would be taken
    /// for this one.
    fn settle<T>(&mut self, result: Result<T, CallError>) -> Answered<T> {
        result.map_err(|error| {
            if let CallError::Broken(why) = &error {
                warn!("the dataplane does not answer: {why}");
                self.dataplane.disconnect();
            }
            error.to_string()
        })
    }

    fn attached(&mut self, client: &Client) -> Answered<u16> {
        // While the dataplane is away nothing is known; that is said then.
        let up = self.dataplane.up();
        let is_ours = |attached: &Attached| up.is_none_or(|up| up.is_attached(*attached));
        client.endpoint.filter(is_ours).map(|attached| attached.endpoint).ok_or_else(|| {
            "this connection is no application: attach first (again, if the dataplane was restarted)"
                .into()
        })
    }

    fn up(&mut self) -> Answered<&mut Up> {
        self.dataplane.up().ok_or_else(|| "the dataplane is starting: try again in a moment".into())
    }

    fn nonsense(&mut self, answer: &Answer) -> String {
        error!("the dataplane's answer makes no sense: {answer:?}");
        self.dataplane.disconnect();
        "the dataplane's answer makes no sense".into()
    }
}

fn no_files(error: &io::Error) -> String {
    format!("no files for another application: {error}")
}

/// The first thing in which a group that is open is not what is asked for.
fn difference(open: &GroupOptions, asked: &GroupOptions) -> Option<String> {
    let told = |what: &str, open: &dyn std::fmt::Debug, asked: &dyn std::fmt::Debug| {
        let (open, asked) = (format!("{open:?}"), format!("{asked:?}"));
        (open != asked).then(|| format!("has {what} {open} where {asked} is asked for"))
    };
    told("port", &open.port, &asked.port)
        .or_else(|| told("family", &open.family, &asked.family))
        .or_else(|| told("accept", &open.accept, &asked.accept))
        .or_else(|| told("acknowledge", &open.acknowledge, &asked.acknowledge))
        .or_else(|| told("window_max", &open.window_max, &asked.window_max))
        .or_else(|| told("nagle", &open.nagle, &asked.nagle))
        // Whatever options are added later.
        .or_else(|| (open != asked).then(|| format!("is {open:?} where {asked:?} is asked for")))
}

fn check_version(version: u32) -> Answered<()> {
    if version == VERSION {
        return Ok(());
    }
    Err(format!("this appliance speaks version {VERSION}, not {version}: build both alike"))
}

fn check_name(whose: &str, name: &str) -> Answered<()> {
    if name_is_valid(name) {
        return Ok(());
    }
    Err(format!(
        "{whose}'s name has 1 to 64 letters, digits, dots, dashes and underscores, and does not \
         begin with a dot"
    ))
}

fn endpoint_memory(layout: &EndpointLayout) -> Answered<SharedMemory> {
    let memory = memory::endpoint(layout.total_bytes()).map_err(|error| error.to_string())?;
    let mapping = Mapping::writable(&memory).map_err(|error| error.to_string())?;
    layout.prepare(&mapping).map_err(|error| error.to_string())?;
    Ok(memory)
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

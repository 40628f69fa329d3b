//! The dataplane as the control thread holds it: the port, the workers, the applications.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use core::num::NonZeroU64;
use core::time::Duration;

use dpdk::{Burst, Eal, Pool, PortControl, PortInfo, RxQueue, StopError, TxQueue};
use rustix::event::{EventfdFlags, eventfd};
use xtcp_ring::message::{EndpointRecord, GroupOptions, GroupRecord};
use xtcp_ring::{
    DataplaneChannel, ExclusiveMapping, Mapping, Ringer, SharedMemory, StaticBytes, worker_part,
};
use xtcp_stack::config::{
    ADDRESSES_MAX, Accept, Acknowledge, Address, Config, Family, GroupConfig,
};
use xtcp_stack::handle::{Cd, Gd, PoolId, QueueId};
use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{ConnectionInfo, Instant, Stack};

use crate::applications::{Applications, NewEndpoint};
use crate::cli::{CommandLine, Mode};
use crate::clock::Clock;
use crate::command::{Alarm, Ask, Liar, Line, Tell};
use crate::error::EngineError;
use crate::exchange::Exchange;
use crate::memory::{Maker, take_over};
use crate::modes::{Behaviour, Builtin};
use crate::ports::{self, Opened};
use crate::say::warn;
use crate::spread::{Spread, SpreadBy};
use crate::stats::{Snapshot, WorkerCounters};
use crate::tx::TxSink;
use crate::worker::{Remains, Work, Worker};

/// How long a SYN waits for an application that does not say how long.
const ACCEPT_TIMEOUT_MS: u32 = 10_000;

/// A port that is up, and workers that wait for their memory.
#[derive(Debug)]
pub(crate) struct Prepared {
    line: CommandLine,
    eal: Eal,
    opened: Opened,
    configs: Vec<Config>,
    secret: [u8; 32],
    hugepages: bool,
    clock: Clock,
}

/// Workers that have all they need, and no threads yet.
#[derive(Debug)]
pub(crate) struct Dealt {
    line: CommandLine,
    eal: Eal,
    clock: Clock,
    by: SpreadBy,
    port: PortControl,
    pub(crate) workers: Vec<(Worker, Line)>,
    liars: Receiver<Liar>,
    wake: Arc<OwnedFd>,
    table_bytes: (usize, usize),
}

/// A running dataplane.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) line: CommandLine,
    pub(crate) clock: Clock,
    pub(crate) by: SpreadBy,
    workers: Vec<WorkerHandle>,
    port: PortControl,
    /// Held until the workers are gone; the last of EAL's holders.
    eal: Eal,
    endpoints: BTreeMap<u16, Endpoint>,
    groups: BTreeMap<u32, GroupRecord>,
    liars: Receiver<Liar>,
    /// Readable when a worker has found a liar.
    wake: Arc<OwnedFd>,
    started: Instant,
    /// Bytes of each worker's tables and of its part of the transmit buffer.
    pub(crate) table_bytes: (usize, usize),
    pub(crate) is_paused: bool,
}

/// An application as the control thread knows it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) record: EndpointRecord,
    pub(crate) pool: PoolId,
    /// Hangs up when the application dies.
    pub(crate) lifeline: OwnedFd,
}

#[derive(Debug)]
struct WorkerHandle {
    line: Line,
    thread: JoinHandle<Remains>,
}

/// The four files that come with an endpoint.
#[derive(Debug)]
pub(crate) struct EndpointFiles {
    pub(crate) endpoint: OwnedFd,
    pub(crate) receive: OwnedFd,
    pub(crate) bell: OwnedFd,
    pub(crate) lifeline: OwnedFd,
}

impl Prepared {
    /// Brings the port up.
    pub(crate) fn open(line: CommandLine, eal: Eal, hugepages: bool) -> Result<Self, EngineError> {
        let workers = u16::try_from(line.workers()).unwrap_or(u16::MAX);
        let opened = ports::open(&eal, &line.options, workers)?;
        Self::with(line, eal, opened, hugepages)
    }

    /// Everything but the memory, for a port that is up.
    pub(crate) fn with(
        line: CommandLine,
        eal: Eal,
        opened: Opened,
        hugepages: bool,
    ) -> Result<Self, EngineError> {
        let secret = fresh_secret()?;
        let mac = MacAddr(ports::own_mac(&opened.info));
        let configs =
            (0..line.workers()).map(|worker| config(&line, worker, mac, secret)).collect();
        let hz = NonZeroU64::new(eal.tsc_hz()).or_else(xtcp_cpu::tsc_hz);
        let clock = Clock::new(hz.unwrap_or(NonZeroU64::MIN));
        Ok(Self { line, eal, opened, configs, secret, hugepages, clock })
    }

    /// Bytes of memory each worker wants: its tables, and its part of the transmit buffer behind
    /// them.
    pub(crate) fn memory_bytes(&self) -> Vec<u64> {
        let bytes = |config: &Config| (tables_bytes(config) + config.transmit_bytes) as u64;
        self.configs.iter().map(bytes).collect()
    }

    /// Our address on the link.
    pub(crate) fn mac(&self) -> MacAddr {
        MacAddr(ports::own_mac(&self.opened.info))
    }

    pub(crate) fn info(&self) -> &PortInfo {
        &self.opened.info
    }

    pub(crate) fn workers(&self) -> usize {
        self.configs.len()
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn spread_by(&self) -> SpreadBy {
        self.opened.by
    }

    pub(crate) fn line(&self) -> &CommandLine {
        &self.line
    }

    /// Deals the workers memory made here.
    pub(crate) fn deal_alone(self) -> Result<Dealt, EngineError> {
        let maker = Maker::new(self.hugepages);
        let memory = self
            .memory_bytes()
            .into_iter()
            .map(|bytes| maker.make("tables", bytes))
            .collect::<Result<_, _>>()?;
        let receive = match self.line.mode {
            Mode::Echo | Mode::Answer => {
                let workers = u8::try_from(self.workers()).unwrap_or(u8::MAX);
                let page = 4096 * self.workers() as u64;
                let bytes = self.line.options.receive_bytes.next_multiple_of(page);
                maker.make("the receive buffer", bytes)?.into_static_parts(workers)
            }
            Mode::App | Mode::Icmpecho | Mode::Macswap => Vec::new(),
        };
        self.deal(memory, receive)
    }

    /// Deals the workers memory another process brought: one file each, of these sizes.
    pub(crate) fn deal_with(
        self,
        bytes: &[u64],
        files: Vec<OwnedFd>,
    ) -> Result<Dealt, EngineError> {
        let memory = files
            .into_iter()
            .zip(bytes)
            .map(|(file, &bytes)| take_over("tables", file, bytes))
            .collect::<Result<_, _>>()?;
        self.deal(memory, Vec::new())
    }

    fn deal(
        self,
        memory: Vec<ExclusiveMapping>,
        receive: Vec<&'static mut [u8]>,
    ) -> Result<Dealt, EngineError> {
        let Self { line, eal, opened, configs, secret, clock, .. } = self;
        let Opened { started, pools, by, info } = opened;
        let spread = Spread::new(&secret, configs.len(), by);
        let exchanges = Exchange::between(&eal, info.id, &spread, by, info.reta_size, &pools)?;
        let wake = Arc::new(wake_fd()?);
        let (liars_in, liars) = mpsc::channel();
        let mut stands = Stands {
            rx: started.rx.into_iter(),
            tx: started.tx.into_iter(),
            pools: pools.into_iter(),
            exchanges: exchanges.into_iter(),
            receive: receive.into_iter(),
        };
        let mut workers = Vec::new();
        for (number, (config, memory)) in configs.iter().zip(memory).enumerate() {
            let alarm = Alarm { worker: number, liars: liars_in.clone(), wake: Arc::clone(&wake) };
            workers.push(stands.worker(&line, config, memory, clock, alarm)?);
        }
        let table_bytes =
            configs.first().map_or((0, 0), |config| (tables_bytes(config), config.transmit_bytes));
        let port = started.control;
        Ok(Dealt { line, eal, clock, by, port, workers, liars, wake, table_bytes })
    }
}

impl Dealt {
    /// The port alone, for who lets the workers work in their own way.
    #[cfg(test)]
    pub(crate) fn into_port(self) -> PortControl {
        self.port
    }

    /// Starts the workers' threads.
    pub(crate) fn start(self) -> Result<Engine, EngineError> {
        let Self { line, eal, clock, by, port, workers, liars, wake, table_bytes } = self;
        let workers = workers
            .into_iter()
            .map(|(worker, to_worker)| hire(worker, to_worker, &eal, &line))
            .collect::<Result<_, _>>()?;
        Ok(Engine {
            line,
            clock,
            by,
            workers,
            port,
            eal,
            endpoints: BTreeMap::new(),
            groups: BTreeMap::new(),
            liars,
            wake,
            started: clock.now(),
            table_bytes,
            is_paused: false,
        })
    }
}

/// What is to be dealt out to the workers.
struct Stands {
    rx: std::vec::IntoIter<RxQueue>,
    tx: std::vec::IntoIter<TxQueue>,
    pools: std::vec::IntoIter<Pool>,
    exchanges: std::vec::IntoIter<Exchange>,
    receive: std::vec::IntoIter<&'static mut [u8]>,
}

impl Stands {
    fn worker(
        &mut self,
        line: &CommandLine,
        config: &Config,
        memory: ExclusiveMapping,
        clock: Clock,
        alarm: Alarm,
    ) -> Result<(Worker, Line), EngineError> {
        let number = usize::from(config.worker);
        let (tables, transmit) = memory
            .into_static_bytes()
            .split_at_mut_checked(tables_bytes(config))
            .unwrap_or_default();
        let mut stack = Stack::new(config, tables, transmit, clock.now())?;
        stack.set_answers_neighbours(number == 0);
        let work = work(line, config.worker, self.receive.next(), &mut stack)?;
        // There are as many transmit queues and pools as workers.
        let missing = || EngineError::Queues {
            device: "the device".to_owned(),
            kind: "transmit",
            most: 0,
            needed: u16::from(config.worker) + 1,
        };
        let tx = self.tx.next().ok_or_else(missing)?;
        let pool = self.pools.next().ok_or_else(missing)?;
        let (asks, asked) = mpsc::channel();
        let (tell, tells) = mpsc::channel();
        let worker = Worker {
            number,
            clock,
            burst_max: usize::from(line.options.burst),
            rx: self.rx.next(),
            tx: TxSink::new(tx, pool),
            frames: Burst::new(),
            exchange: self.exchanges.next(),
            stack,
            work,
            counters: WorkerCounters::default(),
            asks: asked,
            tells: tell,
            alarm,
        };
        Ok((worker, Line { asks, tells }))
    }
}

/// What this worker does with its frames.
fn work(
    line: &CommandLine,
    worker: u8,
    receive: Option<&'static mut [u8]>,
    stack: &mut Stack<'static>,
) -> Result<Work, EngineError> {
    let options = &line.options;
    let behaviour = match line.mode {
        Mode::App => return Ok(Work::Applications(Applications::new(worker))),
        Mode::Icmpecho => return Ok(Work::Builtin(None)),
        Mode::Macswap => return Ok(Work::Macswap),
        Mode::Echo => Behaviour::Echo,
        Mode::Answer => {
            Behaviour::Answer { request: options.request_bytes, answer: options.answer_bytes }
        }
    };
    let group = GroupConfig {
        port: options.listen_port,
        family: Family::Dual,
        accept: Accept::Automatic,
        acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
        window_max: 1 << 20,
        nagle: line.tcp.nagle,
    };
    let receive = receive.unwrap_or_default();
    let builtin = Builtin::open(behaviour, &group, receive, stack).map_err(EngineError::Builtin)?;
    Ok(Work::Builtin(Some(builtin)))
}

/// Starts the worker's thread and waits until it is on its core.
fn hire(
    worker: Worker,
    to_worker: Line,
    eal: &Eal,
    line: &CommandLine,
) -> Result<WorkerHandle, EngineError> {
    let number = worker.number;
    let core = line.worker_cores.get(number).copied();
    let (ready_in, ready) = mpsc::channel::<io::Result<()>>();
    let eal = eal.clone();
    let failed = |error| EngineError::Worker { worker: number, core, error };
    let thread = thread::Builder::new()
        .name(format!("xtcp-worker-{number}"))
        .spawn(move || {
            let pinned = core.map_or(Ok(()), dpdk::pin_to_core);
            let registered = pinned.and_then(|()| eal.register_thread().map_err(io::Error::other));
            let (guard, outcome) = match registered {
                Ok(guard) => (Some(guard), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // The control thread waits for this; if it is gone, the loop ends by itself.
            let _ = ready_in.send(outcome);
            if guard.is_some() { worker.run() } else { worker.rest() }
        })
        .map_err(failed)?;
    match ready.recv() {
        Ok(Ok(())) => Ok(WorkerHandle { line: to_worker, thread }),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(EngineError::WorkerGone),
    }
}

impl Engine {
    pub(crate) fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Since the workers were started.
    pub(crate) fn uptime(&self) -> Duration {
        self.clock.now().since(self.started)
    }

    pub(crate) fn port(&self) -> &PortControl {
        &self.port
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.values()
    }

    pub(crate) fn endpoint(&self, number: u16) -> Option<&Endpoint> {
        self.endpoints.get(&number)
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &GroupRecord> {
        self.groups.values()
    }

    pub(crate) fn wake(&self) -> &OwnedFd {
        &self.wake
    }

    /// The liars found since this was last asked.
    pub(crate) fn liars(&self) -> Vec<Liar> {
        // It is an alarm bell: how often it rang does not matter.
        let _ = rustix::io::read(&*self.wake, &mut [0_u8; 8]);
        self.liars.try_iter().collect()
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
        if self.line.mode != Mode::App {
            return Err("this dataplane serves no applications: start it with --control".into());
        }
        if number >= self.line.options.pools {
            let most = self.line.options.pools;
            return Err(format!("endpoint {number}: there are {most} at most (--pools)"));
        }
        if self.endpoints.contains_key(&number) {
            return Err(format!("endpoint {number} is open already"));
        }
        if usize::from(record.layout.workers) != self.workers.len() {
            return Err(format!(
                "endpoint {number} is laid out for {} workers and there are {}",
                record.layout.workers,
                self.workers.len()
            ));
        }
        record.layout.check().map_err(|unfit| format!("endpoint {number}: {unfit}"))?;
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
        let pool = self.open_at_workers(&record, &endpoint, &bell, parts)?;
        self.endpoints.insert(number, Endpoint { record, pool, lifeline });
        Ok(())
    }

    fn open_at_workers(
        &self,
        record: &EndpointRecord,
        endpoint: &Mapping,
        bell: &OwnedFd,
        parts: Vec<&'static mut [u8]>,
    ) -> Result<PoolId, String> {
        let number = record.endpoint;
        let mut parts = parts.into_iter();
        let mut pool = None;
        for worker in 0..record.layout.workers {
            let Some(receive) = parts.next() else { break };
            let made = DataplaneChannel::open(endpoint, &record.layout, worker)
                .map_err(|unfit| unfit.to_string())
                .and_then(|channel| {
                    let bell = bell.try_clone().map_err(|error| error.to_string())?;
                    let ringer = Ringer::open(endpoint, bell).map_err(|unfit| unfit.to_string())?;
                    Ok((channel, ringer))
                });
            let outcome = match made {
                Ok((channel, ringer)) => {
                    let receive_from =
                        worker_part(record.receive_bytes, record.layout.workers, worker).start;
                    let new = NewEndpoint { number, channel, ringer, receive, receive_from };
                    self.opened_pool(worker, new, pool)
                }
                Err(why) => {
                    reclaim(receive);
                    Err(why)
                }
            };
            match outcome {
                Ok(opened) => pool = Some(opened),
                Err(why) => {
                    self.close_at_workers(number);
                    parts.for_each(reclaim);
                    return Err(format!("endpoint {number}: {why}"));
                }
            }
        }
        pool.ok_or_else(|| format!("endpoint {number}: there are no workers"))
    }

    fn opened_pool(
        &self,
        worker: u8,
        new: NewEndpoint,
        expected: Option<PoolId>,
    ) -> Result<PoolId, String> {
        match self.ask(usize::from(worker), Ask::OpenEndpoint(Box::new(new))) {
            Ok(Tell::Pool(Ok(pool))) if expected.is_none_or(|expected| expected == pool) => {
                Ok(pool)
            }
            Ok(Tell::Pool(Err(misuse))) => Err(format!("worker {worker}: {misuse}")),
            Ok(_) => Err(format!("worker {worker} numbers its pools otherwise than the others")),
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
        self.groups.retain(|_, group| group.endpoint != number);
        Some(endpoint.record)
    }

    /// Opens a group at every worker; the handle is the same at each.
    ///
    /// # Errors
    /// A sentence; no worker has the group then.
    pub(crate) fn open_group(
        &mut self,
        endpoint: u16,
        options: GroupOptions,
    ) -> Result<u32, String> {
        let pool = self.endpoint(endpoint).ok_or_else(|| no_endpoint(endpoint))?.pool;
        let config = group_config(&options)?;
        let mut opened: Option<Gd> = None;
        for worker in 0..self.workers.len() {
            let told = self.ask(worker, Ask::OpenGroup(pool, QueueId(endpoint), config));
            let why = match told {
                Ok(Tell::Group(Ok(gd))) if opened.is_none_or(|first| first == gd) => {
                    opened = Some(gd);
                    continue;
                }
                Ok(Tell::Group(Ok(gd))) => {
                    let _ = self.ask(worker, Ask::CloseGroup(gd));
                    format!("worker {worker} numbers its groups otherwise than the others")
                }
                Ok(Tell::Group(Err(misuse))) => misuse.to_string(),
                Ok(_) => format!("worker {worker} answered something else"),
                Err(gone) => gone.to_string(),
            };
            if let Some(gd) = opened {
                for earlier in 0..worker {
                    let _ = self.ask(earlier, Ask::CloseGroup(gd));
                }
            }
            return Err(format!("group `{}` on port {}: {why}", options.name, options.port));
        }
        let gd = opened.ok_or_else(|| "there are no workers".to_owned())?.to_bits();
        self.groups.insert(gd, GroupRecord { gd, endpoint, options });
        Ok(gd)
    }

    /// Closes a group of an endpoint at every worker.
    ///
    /// # Errors
    /// A sentence: the endpoint has no such group.
    pub(crate) fn close_group(&mut self, endpoint: u16, gd: u32) -> Result<(), String> {
        if self.groups.get(&gd).is_none_or(|group| group.endpoint != endpoint) {
            return Err(format!("endpoint {endpoint} has no group {:?}", Gd::from_bits(gd)));
        }
        self.groups.remove(&gd);
        for worker in 0..self.workers.len() {
            match self.ask(worker, Ask::CloseGroup(Gd::from_bits(gd))) {
                Ok(Tell::Done(Ok(()))) => {}
                Ok(Tell::Done(Err(misuse))) => return Err(format!("worker {worker}: {misuse}")),
                Ok(_) => return Err(format!("worker {worker} answered something else")),
                Err(gone) => return Err(gone.to_string()),
            }
        }
        Ok(())
    }

    /// One connection of an endpoint.
    ///
    /// # Errors
    /// A sentence: the endpoint has no such connection.
    pub(crate) fn describe(&self, endpoint: u16, cd: u64) -> Result<ConnectionInfo, String> {
        let cd = Cd::from_bits(cd);
        let none = || format!("endpoint {endpoint} has no connection {cd:?}");
        let worker = usize::from(cd.worker());
        if worker >= self.workers.len() {
            return Err(none());
        }
        match self.ask(worker, Ask::Describe(cd)) {
            Ok(Tell::Connection(Ok(info))) => self
                .groups
                .get(&info.group.to_bits())
                .filter(|group| group.endpoint == endpoint)
                .map(|_| info)
                .ok_or_else(none),
            Ok(_) => Err(none()),
            Err(gone) => Err(gone.to_string()),
        }
    }

    /// Up to `limit` connections of all workers together.
    pub(crate) fn connections(&self, limit: usize) -> Result<Vec<ConnectionInfo>, EngineError> {
        let mut all = Vec::new();
        for worker in 0..self.workers.len() {
            let list = Vec::with_capacity(limit - all.len());
            if let Tell::Connections(list) = self.ask(worker, Ask::Connections(list))? {
                all.extend(list);
            }
        }
        all.truncate(limit);
        Ok(all)
    }

    /// What the workers have counted since they started, and what is in use.
    pub(crate) fn snapshots(&self) -> Result<Vec<Snapshot>, EngineError> {
        let mut snapshots = Vec::new();
        for worker in 0..self.workers.len() {
            let snapshot = Box::new(Snapshot::with_room());
            if let Tell::Snapshot(snapshot) = self.ask(worker, Ask::Snapshot(snapshot))? {
                snapshots.push(*snapshot);
            }
        }
        Ok(snapshots)
    }

    /// Stops the workers between two turns, or lets them go on.
    pub(crate) fn pause(&mut self, pause: bool) -> Result<(), EngineError> {
        for worker in 0..self.workers.len() {
            self.ask(worker, if pause { Ask::Pause } else { Ask::Resume })?;
        }
        self.is_paused = pause;
        Ok(())
    }

    /// Stops workers and port and gives everything back.
    pub(crate) fn end(self) -> Result<(), EngineError> {
        let Self { workers, port, eal, endpoints, .. } = self;
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for worker in &workers {
            worker.line.ask(Ask::End)?;
        }
        for worker in workers {
            let remains = worker.thread.join().map_err(|_| EngineError::WorkerGone)?;
            rx.extend(remains.rx);
            tx.push(remains.tx);
        }
        drop(endpoints);
        match port.stop(rx, tx) {
            Ok(port) => drop(port),
            Err(StopError::Driver(error)) => warn(&error.to_string()),
            Err(StopError::QueuesMissing(_)) => {
                warn("the port was not stopped: a queue is missing")
            }
        }
        if let Err(left) = eal.close() {
            warn(&left.to_string());
        }
        Ok(())
    }

    fn ask(&self, worker: usize, ask: Ask) -> Result<Tell, EngineError> {
        let worker = self.workers.get(worker).ok_or(EngineError::WorkerGone)?;
        Ok(worker.line.ask(ask)?)
    }
}

fn no_endpoint(number: u16) -> String {
    format!("there is no endpoint {number}")
}

fn reclaim(part: &'static mut [u8]) {
    if let Err(error) = StaticBytes::reclaim(part) {
        warn(&format!("receive memory was not unmapped: {error}"));
    }
}

/// What the stack is told of a group.
fn group_config(options: &GroupOptions) -> Result<GroupConfig, String> {
    use xtcp_ring::message;

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

/// What worker number `worker`'s stack is told.
fn config(line: &CommandLine, worker: usize, mac: MacAddr, secret: [u8; 32]) -> Config {
    let options = &line.options;
    let gateways = || options.gateway.iter();
    let connections = options.connections;
    let active = options.active.unwrap_or_else(|| (connections / 4).max(1024));
    let chunks = options.chunks.unwrap_or_else(|| active.saturating_mul(4));
    let workers = u32::try_from(line.workers()).unwrap_or(u32::MAX);
    let share = |total: u32| share(total, workers);
    Config {
        worker: u8::try_from(worker).unwrap_or(u8::MAX),
        mac,
        mtu: options.mtu,
        addresses: addresses(&options.ip, mac),
        gateway_v4: gateways().find_map(|ip| match ip {
            core::net::IpAddr::V4(ip) => Some(*ip),
            core::net::IpAddr::V6(_) => None,
        }),
        gateway_v6: gateways().find_map(|ip| match ip {
            core::net::IpAddr::V4(_) => None,
            core::net::IpAddr::V6(ip) => Some(*ip),
        }),
        secret,
        connections_max: share(connections),
        ipv6_connections_max: share(options.ipv6_connections.unwrap_or(connections)),
        active_max: share(active.min(connections)).max(64),
        chunks_max: share(chunks).max(256),
        transmit_bytes: transmit_bytes(options.transmit_bytes, line.workers()),
        neighbours_max: options.neighbours,
        pools_max: options.pools,
        groups_max: options.groups,
        queues_max: options.pools,
        tcp: line.tcp,
    }
}

/// A worker's part of `total` things that a hash spreads: an eighth more than its even share.
fn share(total: u32, workers: u32) -> u32 {
    match workers {
        0 | 1 => total,
        _ => {
            let even = total.div_ceil(workers);
            even.saturating_add(even / 8 + 16).min(total)
        }
    }
}

/// A worker's part of the transmit buffer: whole pages.
fn transmit_bytes(total: u64, workers: usize) -> usize {
    let part = total / workers.max(1) as u64;
    usize::try_from(part.max(1 << 16)).unwrap_or(usize::MAX) & !4095
}

/// The addresses given, and the link-local one that every IPv6 node has (RFC 4291 section 2.8).
fn addresses(given: &[Address], mac: MacAddr) -> [Option<Address>; ADDRESSES_MAX] {
    use core::net::{IpAddr, Ipv6Addr};

    let is_v6 = |address: &Address| address.ip.is_ipv6();
    let is_link_local =
        |address: &Address| matches!(address.ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let mut all = given.to_vec();
    if given.iter().any(is_v6) && !given.iter().any(is_link_local) {
        let [a, b, c, d, e, f] = mac.0;
        let half = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        let ip = Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(half));
        all.push(Address { ip: IpAddr::V6(ip), prefix_len: 64 });
    }
    let mut places = [None; ADDRESSES_MAX];
    for (place, address) in places.iter_mut().zip(all) {
        *place = Some(address);
    }
    places
}

/// Bytes of a worker's tables, whole pages.
fn tables_bytes(config: &Config) -> usize {
    Stack::memory_needed(config).next_multiple_of(4096)
}

fn fresh_secret() -> Result<[u8; 32], EngineError> {
    use std::io::Read;

    let mut secret = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut secret))
        .map_err(|error| EngineError::System { what: "read /dev/urandom", error })?;
    Ok(secret)
}

fn wake_fd() -> Result<OwnedFd, EngineError> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| EngineError::System { what: "make an eventfd", error: errno.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str) -> CommandLine {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        crate::cli::parse(&words).unwrap()
    }

    #[test]
    fn workers_share_what_is_given_with_some_to_spare() {
        let line = line("-l 0-2 -- --ip 10.0.0.1/8 --connections 1000 --transmit-bytes 1M");
        let config = config(&line, 1, MacAddr([2; 6]), [0; 32]);
        assert_eq!(config.worker, 1);
        assert_eq!(config.connections_max, 500 + 62 + 16);
        assert_eq!(config.transmit_bytes, 512 << 10);
        assert_eq!(share(1000, 1), 1000);
        assert_eq!(share(3, 2), 3);
        assert_eq!(share(u32::MAX, 2), (1 << 31) + (1 << 28) + 16);
    }

    #[test]
    fn an_ipv6_port_has_a_link_local_address() {
        let line = line("-- --ip 10.0.0.1/8 --ip fd77::2/64 --gateway fd77::1");
        let config = config(&line, 0, MacAddr([0x52, 0x54, 0, 1, 2, 3]), [0; 32]);
        let all: Vec<String> =
            config.addresses.iter().flatten().map(|address| address.ip.to_string()).collect();
        assert_eq!(all, ["10.0.0.1", "fd77::2", "fe80::5054:ff:fe01:203"]);
        assert_eq!(config.gateway_v6, Some("fd77::1".parse().unwrap()));
        assert_eq!(config.gateway_v4, None);
        let v4_only = addresses(&line.options.ip[..1], MacAddr([2; 6]));
        assert_eq!(v4_only.iter().flatten().count(), 1);
    }

    #[test]
    fn groups_are_taken_over_as_they_were_asked_for() {
        let options = GroupOptions {
            name: "presence".into(),
            port: 5222,
            family: xtcp_ring::message::Family::V6,
            accept: xtcp_ring::message::Accept::ByApplication { timeout_ms: 0 },
            acknowledge: xtcp_ring::message::Acknowledge::ByApplication { deadline_ms: 7 },
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

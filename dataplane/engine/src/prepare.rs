//! From the command line to workers at work: port, memory, stacks, threads.

use core::num::NonZeroU64;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use dpdk::{Burst, Eal, Pool, PortControl, PortInfo, RxQueue, TxQueue};
use rustix::event::{EventfdFlags, eventfd};
use xtcp_ring::ExclusiveMapping;
use xtcp_stack::Stack;
use xtcp_stack::config::{
    ADDRESSES_MAX, Accept, Acknowledge, Address, Config, Family, GroupConfig,
};
use xtcp_stack::wire::ethernet::MacAddr;

use crate::applications::Applications;
use crate::cli::{CommandLine, Mode, Secret};
use crate::clock::Clock;
use crate::command::{Alarm, Liar, Line};
use crate::engine::{Engine, WorkerHandle};
use crate::error::EngineError;
use crate::exchange::{Exchange, RING};
use crate::memory::{Maker, take_over};
use crate::modes::{Behaviour, Builtin};
use crate::offloads::{By, Offloads};
use crate::ports::{self, Opened};
use crate::spread::{Spread, SpreadBy};
use crate::stack_config::{config, tables_bytes};
use crate::stats::WorkerCounters;
use crate::tx::TxSink;
use crate::whole::Whole;
use crate::worker::{TimersWait, Work, Worker};

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
    offloads: Offloads,
    port: PortControl,
    pub(crate) workers: Vec<(Worker, Line)>,
    liars: Receiver<Liar>,
    wake: Arc<OwnedFd>,
    table_bytes: (usize, usize),
    addresses: [Option<Address>; ADDRESSES_MAX],
}

impl Prepared {
    /// Brings the port up.
    pub(crate) fn open(line: CommandLine, eal: Eal, hugepages: bool) -> Result<Self, EngineError> {
        ports::check_ring(&line.eal, &line.options)?;
        let workers = u16::try_from(line.workers()).unwrap_or(u16::MAX);
        let rss_key = match line.options.secret {
            Some(secret) => secret.rss_key(),
            None => fresh_secret()?,
        };
        let opened = ports::open(&eal, &line.options, workers, rss_key)?;
        Self::with(line, eal, opened, hugepages)
    }

    /// Everything but the memory, for a port that is up.
    pub(crate) fn with(
        line: CommandLine,
        eal: Eal,
        opened: Opened,
        hugepages: bool,
    ) -> Result<Self, EngineError> {
        let secret = match line.options.secret {
            Some(Secret(secret)) => secret,
            None => fresh_secret()?,
        };
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

    pub(crate) fn offloads(&self) -> Offloads {
        self.opened.offloads
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
        let Opened { started, pools, by, offloads, info } = opened;
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
            offloads,
        };
        let mut workers = Vec::new();
        for (number, (config, memory)) in configs.iter().zip(memory).enumerate() {
            let alarm = Alarm { worker: number, liars: liars_in.clone(), wake: Arc::clone(&wake) };
            workers.push(stands.worker(&line, config, memory, clock, alarm)?);
        }
        let table_bytes =
            configs.first().map_or((0, 0), |config| (tables_bytes(config), config.transmit_bytes));
        let addresses = configs.first().map_or([None; ADDRESSES_MAX], |config| config.addresses);
        let port = started.control;
        Ok(Dealt {
            line,
            eal,
            clock,
            by,
            offloads,
            port,
            workers,
            liars,
            wake,
            table_bytes,
            addresses,
        })
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
        let Self { line, eal, clock, by, offloads, port, workers, .. } = self;
        let Self { liars, wake, table_bytes, addresses, .. } = self;
        let workers = workers
            .into_iter()
            .map(|(worker, to_worker)| hire(worker, to_worker, &eal, &line))
            .collect::<Result<_, _>>()?;
        Ok(Engine {
            line,
            clock,
            by,
            offloads,
            link_downs: 0,
            workers,
            port,
            eal,
            addresses,
            endpoints: BTreeMap::new(),
            groups: BTreeMap::new(),
            generations: BTreeMap::new(),
            drain_turn: 0,
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
    offloads: Offloads,
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
        let frame_max = usize::from(ports::frame_max(&line.options));
        let room = usize::from(pool.data_room());
        let (asks, asked) = mpsc::channel();
        let (tell, tells) = mpsc::channel();
        let worker = Worker {
            number,
            clock,
            burst_max: usize::from(line.options.burst),
            belief: self.offloads.belief(),
            rx: self.rx.next(),
            tx: TxSink::new(tx, pool, self.offloads.sent == By::Device, frame_max),
            whole: Whole::new(frame_max, room),
            frames: Burst::new(),
            exchange: self.exchanges.next(),
            timers: TimersWait::new(u32::from(line.options.rxd).max(RING), line.options.burst),
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
        Mode::App => {
            return Ok(Work::Applications(Applications::new(worker, options.groups)));
        }
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
        ..GroupConfig::default()
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

fn fresh_secret<const BYTES: usize>() -> Result<[u8; BYTES], EngineError> {
    let mut secret = [0; BYTES];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut secret))
        .map_err(|error| EngineError::System { what: "read /dev/urandom", error })?;
    Ok(secret)
}

fn wake_fd() -> Result<OwnedFd, EngineError> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| EngineError::System { what: "make an eventfd", error: errno.into() })
}

//! The client's loop: connect, send, compare, again.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant as Moment};

use hdrhistogram::Histogram;
use xtcp_bench::client::{Latency, Sizes, StepReport};
use xtcp_bench::clock;
use xtcp_bench::payload::Payload;
use xtcp_stack::config::ADDRESSES_MAX;
use xtcp_stack::{
    Accept, Acknowledge, Address, Cd, Config, Event, Family, Gd, GroupConfig, Instant, Misuse,
    PoolId, QueueId, Stack, TcpConfig,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::device::Device;

const QUEUE: QueueId = QueueId(0);
/// Bytes given to the stack at once.
const PIECE: usize = 16 << 10;
/// Handshakes under way at once.
const CONNECTING_MAX: u32 = 256;
const RECEIVE_BYTES: usize = 64 << 20;
const TRANSMIT_BYTES: usize = 64 << 20;

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) connections: u32,
    pub(crate) rounds: u32,
    pub(crate) sizes: Sizes,
    pub(crate) seed: u64,
    pub(crate) patience: Duration,
}

/// One exchange under way on a connection.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    number: u32,
    round: u32,
    payload: Payload,
    body: u64,
    sent: u64,
    got: u64,
    began: Instant,
}

/// A stack on a device, and what its connections are at.
pub(crate) struct Client<'w> {
    work: &'w Work,
    device: Device,
    stack: Stack<'static>,
    pool: PoolId,
    group: Gd,
    epoch: Moment,
    exchanges: HashMap<Cd, Exchange>,
    /// Connections whose request has not been given to the stack in full.
    to_send: VecDeque<Cd>,
    next: u32,
    connecting: u32,
    open: u32,
    report: StepReport,
    latency: Histogram<u64>,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Zeroed memory for as long as the process lives.
fn memory(bytes: usize) -> &'static mut [u8] {
    vec![Line([0; 64]); bytes.div_ceil(64)].leak().as_mut_bytes()
}

fn config(device: &Device, own: &[Address], work: &Work) -> Result<Config, Box<dyn Error>> {
    let mut addresses = [None; ADDRESSES_MAX];
    for (place, address) in addresses.iter_mut().zip(own) {
        *place = Some(*address);
    }
    Ok(Config {
        worker: 0,
        mac: device.mac()?,
        mtu: 1500,
        addresses,
        gateway_v4: None,
        gateway_v6: None,
        secret: [7; 32],
        connections_max: work.connections + 1024,
        ipv6_connections_max: work.connections + 1024,
        active_max: work.connections + 1024,
        chunks_max: 4 * work.connections + 65_536,
        transmit_bytes: TRANSMIT_BYTES,
        neighbours_max: 64,
        pools_max: 1,
        groups_max: 4,
        queues_max: 1,
        throttle: xtcp_stack::Throttle::default(),
        net: xtcp_stack::NetConfig::default(),
        tcp: TcpConfig::default(),
    })
}

impl<'w> Client<'w> {
    pub(crate) fn new(
        device: Device,
        own: &[Address],
        work: &'w Work,
    ) -> Result<Self, Box<dyn Error>> {
        let config = config(&device, own, work)?;
        let tables = memory(Stack::memory_needed(&config));
        let transmit = memory(TRANSMIT_BYTES);
        let mut stack = Stack::new(&config, tables, transmit, Instant::ZERO)
            .map_err(|error| format!("{error:?}"))?;
        let refused = |misuse: Misuse| format!("{misuse:?}");
        let pool = stack.open_pool(memory(RECEIVE_BYTES)).map_err(|(misuse, _)| refused(misuse))?;
        let group = GroupConfig {
            port: 0,
            family: Family::Dual,
            accept: Accept::Automatic,
            acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
            window_max: 1 << 20,
            nagle: false,
            ..GroupConfig::default()
        };
        let group = stack.open_group(pool, QUEUE, &group).map_err(refused)?;
        Ok(Self {
            work,
            device,
            stack,
            pool,
            group,
            epoch: clock::now(),
            exchanges: HashMap::new(),
            to_send: VecDeque::new(),
            next: 0,
            connecting: 0,
            open: 0,
            report: StepReport { step: "load".to_owned(), ..StepReport::default() },
            latency: Histogram::new_with_bounds(1, 1_000_000_000_000, 3)?,
            scratch: vec![0; PIECE],
        })
    }

    /// Does all the work; the report says what failed.
    pub(crate) fn run(mut self) -> Result<StepReport, Box<dyn Error>> {
        let link = clock::Deadline::within(self.work.patience);
        link.poll(|| self.device.is_up().then_some(()))
            .ok_or("nobody is at the other end of the device")?;
        let mut moved_at = self.now();
        let mut moved = 0;
        let started = self.now();
        while self.next < self.work.connections || self.connecting + self.open > 0 {
            let now = self.now();
            self.turn(now)?;
            let moves = self.report.bytes_sent + self.report.bytes_received + u64::from(self.next);
            if moves != moved {
                (moved, moved_at) = (moves, now);
            } else if now.since(moved_at) > self.work.patience {
                let left = self.exchanges.len();
                self.fail(&format!("nothing moved any more with {left} exchanges unfinished"));
                break;
            }
        }
        self.report.seconds = self.now().since(started).as_secs_f64();
        self.report.latency = Latency::of(&self.latency);
        Ok(self.report)
    }

    fn now(&self) -> Instant {
        let since = clock::now().saturating_duration_since(self.epoch);
        Instant::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    fn turn(&mut self, now: Instant) -> Result<(), Box<dyn Error>> {
        let Self { device, stack, .. } = self;
        device.rx.each(|frames| stack.on_burst(frames, &mut device.tx, now));
        self.connect(now)?;
        while let Some(event) = self.stack.poll_event(QUEUE) {
            self.on_event(event, now);
        }
        for _ in 0..self.to_send.len() {
            let Some(connection) = self.to_send.pop_front() else { break };
            self.send(connection, now);
        }
        self.stack.on_timeout(now);
        self.stack.poll_frames(&mut self.device.tx, now);
        self.device.tx.flush();
        Ok(())
    }

    fn connect(&mut self, now: Instant) -> Result<(), Box<dyn Error>> {
        while self.next < self.work.connections && self.connecting < CONNECTING_MAX {
            let number = self.next;
            let server = self.work.servers[number as usize % self.work.servers.len()];
            let connection = self
                .stack
                .connect(self.group, server, now)
                .map_err(|misuse| format!("connecting to {server}: {misuse:?}"))?;
            self.exchanges.insert(connection, self.exchange(number, 0, now));
            self.next += 1;
            self.connecting += 1;
        }
        Ok(())
    }

    fn exchange(&self, number: u32, round: u32, began: Instant) -> Exchange {
        let Work { seed, sizes, .. } = self.work;
        let body = sizes.choose(*seed, number, round);
        let payload = Payload::new(*seed, number, round);
        Exchange { number, round, payload, body, sent: 0, got: 0, began }
    }

    fn on_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Opened { connection, .. } => {
                self.connecting -= 1;
                self.open += 1;
                if let Some(exchange) = self.exchanges.get_mut(&connection) {
                    exchange.began = now;
                }
                self.send(connection, now);
            }
            Event::Data { connection, at, len, offset, .. } => {
                self.on_data(connection, at, len, now);
                let end = offset + u64::from(len);
                if let Err(misuse) = self.stack.commit(self.group, connection, end, false, now) {
                    self.fail(&format!("acknowledging {end}: {misuse:?}"));
                }
            }
            Event::Closed { connection, reason, .. } => {
                if let Some(exchange) = self.exchanges.remove(&connection) {
                    let Exchange { number, round, got, .. } = exchange;
                    self.fail(&format!(
                        "connection {number}: round {round}: {reason:?} after {got} bytes"
                    ));
                    self.open = self.open.saturating_sub(1);
                }
            }
            Event::Acceptable { .. } | Event::Finished { .. } | Event::Drained { .. } => {}
        }
    }

    fn on_data(&mut self, connection: Cd, at: u64, len: u16, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(&connection) else { return };
        let bytes = self.stack.received(self.pool, at, len);
        if let Some(index) = exchange.payload.first_difference(exchange.got, bytes) {
            let (number, round) = (exchange.number, exchange.round);
            let wrong = exchange.got + index as u64;
            self.fail(&format!("connection {number}: round {round}: byte {wrong} differs"));
        }
        let Some(exchange) = self.exchanges.get_mut(&connection) else { return };
        exchange.got += u64::from(len);
        self.report.bytes_received += u64::from(len);
        if exchange.got < exchange.body {
            return;
        }
        let done = *exchange;
        let took = now.since(done.began).as_nanos();
        self.latency.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
        self.report.done += 1;
        if done.round + 1 < self.work.rounds {
            let next = self.exchange(done.number, done.round + 1, now);
            self.exchanges.insert(connection, next);
            self.send(connection, now);
        } else {
            self.exchanges.remove(&connection);
            self.open -= 1;
            if let Err(misuse) = self.stack.close(self.group, connection, now) {
                self.fail(&format!("closing connection {}: {misuse:?}", done.number));
            }
        }
    }

    /// Gives the stack as much of a request as it takes; what it does not take waits.
    fn send(&mut self, connection: Cd, now: Instant) {
        while let Some(exchange) = self.exchanges.get_mut(&connection) {
            let left = exchange.body - exchange.sent;
            let len = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            if len == 0 {
                return;
            }
            let piece = &mut self.scratch[..len];
            exchange.payload.write(exchange.sent, piece);
            match self.stack.send(self.group, connection, &*piece, now) {
                Ok(()) => {
                    exchange.sent += len as u64;
                    self.report.bytes_sent += len as u64;
                }
                Err(Misuse::NoBuffer | Misuse::SendQueueFull) => {
                    self.to_send.push_back(connection);
                    return;
                }
                Err(misuse) => {
                    let number = exchange.number;
                    self.fail(&format!("connection {number}: sending: {misuse:?}"));
                    return;
                }
            }
        }
    }

    fn fail(&mut self, why: &str) {
        self.report.failed += 1;
        if self.report.failures.len() < 5 {
            self.report.failures.push(why.to_owned());
        }
    }
}

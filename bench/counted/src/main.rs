//! `xtcp-counted EXCHANGES BYTES`: clients and a stack hand each other frames in bursts of 32, and
//! every exchange is answered, acknowledged and compared. No clock, no device, no chance: every run
//! executes the same instructions, so that `bench/count` can hold them against a limit.
//!
//! What is counted is what `serve` does: frames in, events, commit and answer, frames out.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use xtcp_generator::clients::{Clients, Event as Told, Habits};
use xtcp_generator::pattern::Answers;
use xtcp_generator::population::{Population, Prefix};
use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{
    Accept, Acknowledge, Address, Checksum, Config, Event, Family, GroupConfig, Instant, NetConfig,
    PoolId, QueueId, RxFrame, Stack, TcpConfig, Throttle, Transmit,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const QUEUE: QueueId = QueueId(0);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
const PORT: u16 = 7;
const CONNECTIONS: u32 = 1024;
const BURST: u32 = 32;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn memory(bytes: usize) -> &'static mut [u8] {
    vec![Line([0; 64]); bytes.div_ceil(64)].leak().as_mut_bytes()
}

/// Frames of one burst, in buffers that are used again.
struct Frames {
    buffers: Vec<[u8; 2048]>,
    lens: Vec<usize>,
}

impl Frames {
    fn new() -> Self {
        Self { buffers: vec![[0; 2048]; 256], lens: Vec::with_capacity(256) }
    }

    fn each(&self) -> Vec<RxFrame<'_>> {
        let frames = self.buffers.iter().zip(&self.lens);
        frames
            .map(|(buffer, &len)| RxFrame { bytes: &buffer[..len], checksum: Checksum::Unknown })
            .collect()
    }
}

impl Transmit for Frames {
    fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        let buffer = self.buffers.get_mut(self.lens.len())?;
        self.lens.push(len);
        buffer.get_mut(..len)
    }
}

fn config() -> Config {
    let mut addresses = [None; xtcp_stack::config::ADDRESSES_MAX];
    addresses[0] = Some(Address { ip: IpAddr::V4(SERVER), prefix_len: 10 });
    Config {
        worker: 0,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        addresses,
        gateway_v4: None,
        gateway_v6: None,
        secret: [9; 32],
        connections_max: CONNECTIONS,
        ipv6_connections_max: 1,
        // Each stays active until its client's delayed acknowledgement.
        active_max: 2 * CONNECTIONS,
        chunks_max: 8 * CONNECTIONS,
        transmit_bytes: 16 << 20,
        neighbours_max: 64,
        pools_max: 1,
        groups_max: 4,
        queues_max: 1,
        net: NetConfig::default(),
        throttle: Throttle::default(),
        tcp: TcpConfig::default(),
    }
}

struct Server {
    stack: Stack<'static>,
    pool: PoolId,
    copy: Vec<u8>,
}

fn server() -> Server {
    let config = config();
    let tables = memory(Stack::memory_needed(&config));
    let transmit = memory(config.transmit_bytes);
    let mut stack = Stack::new(&config, tables, transmit, Instant::ZERO).expect("enough memory");
    let pool = stack.open_pool(memory(16 << 20)).expect("room for a pool");
    let group = GroupConfig {
        port: PORT,
        family: Family::V4,
        accept: Accept::Automatic,
        acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
        window_max: 1 << 16,
        nagle: false,
        ..GroupConfig::default()
    };
    stack.open_group(pool, QUEUE, &group).expect("room for a group");
    Server { stack, pool, copy: vec![0; 2048] }
}

/// One turn of the server, as a worker with the mode echo has it. Its own function, for `bench/count`
/// counts what is done below it.
#[inline(never)]
fn serve(server: &mut Server, frames: &[RxFrame<'_>], now: Instant, out: &mut Frames) {
    let Server { stack, pool, copy } = server;
    stack.on_burst(frames, out, now);
    while let Some(event) = stack.poll_event(QUEUE) {
        if let Event::Data { group, connection, at, len, offset } = event {
            let copy = &mut copy[..usize::from(len)];
            copy.copy_from_slice(stack.received(*pool, at, len));
            let up_to = offset + u64::from(len);
            stack.answer(group, connection, up_to, &*copy, now).expect("there is room");
        }
    }
    stack.on_timeout(now);
    stack.poll_frames(out, now);
}

struct World {
    clients: Clients,
    server: Server,
    to_server: Frames,
    to_clients: Frames,
    now: u64,
    events: Vec<Told>,
}

impl World {
    fn new(bytes: u32) -> Self {
        let prefix = Prefix { ip: IpAddr::V4(Ipv4Addr::new(10, 65, 0, 0)), len: 16 };
        let at = SocketAddr::new(SERVER.into(), PORT);
        let population =
            Population::new(at, prefix, &(2000..=61_999), CONNECTIONS).expect("they fit");
        let habits = Habits {
            request: bytes,
            answer: bytes,
            answers: Answers::Echo,
            timestamps: true,
            delayed_ack_ms: 40,
            mtu: 1500,
        };
        let now = 1_000_000_000;
        Self {
            clients: Clients::new(population, MacAddr([2, 0, 0, 0, 0, 2]), habits, 1, now),
            server: server(),
            to_server: Frames::new(),
            to_clients: Frames::new(),
            now,
            events: Vec::new(),
        }
    }

    /// Both sides once: what the clients have sent goes to the server, and its answers to them.
    fn turn(&mut self) {
        self.now += 10_000;
        self.to_clients.lens.clear();
        let now = Instant::from_nanos(self.now);
        serve(&mut self.server, &self.to_server.each(), now, &mut self.to_clients);
        self.to_server.lens.clear();
        self.clients.set_now(self.now);
        self.clients.on_burst(&self.to_clients.each(), &mut self.to_server);
        self.clients.on_timeout(&mut self.to_server);
        self.clients.take_events(&mut self.events);
    }

    fn connect(&mut self) {
        while !self.clients.server_is_known(&mut self.to_server) {
            self.turn();
        }
        for first in (0..CONNECTIONS).step_by(BURST as usize) {
            for number in first..first + BURST {
                self.clients.open(number, &mut self.to_server);
            }
            self.turn();
            self.turn();
        }
        assert_eq!(self.clients.standing().open, CONNECTIONS);
        self.events.clear();
    }

    /// `count` exchanges, a whole number of bursts; says how many were answered.
    fn exchange(&mut self, count: u32) -> u32 {
        let mut number = 0;
        let mut answered = 0;
        for _ in 0..count / BURST {
            for _ in 0..BURST {
                // A stride that no prefetcher follows.
                number = (number + 389) % CONNECTIONS;
                self.clients.request(number, 1, self.now, &mut self.to_server);
            }
            self.turn();
            let answers = self.events.drain(..).filter(|event| matches!(event, Told::Answered(_)));
            answered += answers.count() as u32;
        }
        answered
    }
}

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<u32>());
    let (Some(Ok(exchanges)), Some(Ok(bytes @ 1..=1400))) = (numbers.next(), numbers.next()) else {
        eprintln!(
            "xtcp-counted: say how many exchanges, and of how many bytes: xtcp-counted 3200 64"
        );
        return ExitCode::FAILURE;
    };
    let mut world = World::new(bytes);
    world.connect();
    let answered = world.exchange(exchanges);
    println!("{answered} exchanges of {bytes} B");
    if answered == exchanges { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exchange_is_answered() {
        for bytes in [64, 1024] {
            let mut world = World::new(bytes);
            world.connect();
            assert_eq!(world.exchange(3200), 3200);
            assert_eq!(world.clients.counters().resent, 0);
        }
    }

    /// An idle connection's share of the tables, nothing left out.
    #[test]
    fn an_idle_connection_costs_72_bytes_and_16_more_with_ipv6() {
        let needed = |connections_max, ipv6_connections_max| {
            Stack::memory_needed(&Config { connections_max, ipv6_connections_max, ..config() })
        };
        let million = 1_000_000;
        let v4 = (needed(2 * million, 1) - needed(million, 1)) as f64 / f64::from(million);
        let v6 = (needed(million, million + 1) - needed(million, 1)) as f64 / f64::from(million);
        assert!(v4 <= 72.0, "{v4}");
        assert!(v6 <= 16.0, "{v6}");
    }
}

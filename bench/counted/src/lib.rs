//! What is counted, and what plays the world around it: clients and a server that hand each other
//! frames in bursts of 32. Every exchange is answered, acknowledged and compared. No clock, no device,
//! no chance: every run executes the same instructions, so that `bench/count` can hold them against a
//! limit.
//!
//! Without a pause a client's next request acknowledges its last answer, and no connection ever rests.
//! With a pause after every burst that is longer than a client delays its acknowledgement, that comes
//! bare: each exchange is three segments, unfolds its connection and folds it again, as it is with
//! millions of clients.
//!
//! | | |
//! |---|---|
//! | `xtcp-counted` | the stack alone, echoing |
//! | `xtcp-counted-rings` | a worker's part and an application's part of an exchange over the rings |
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use xtcp_generator::clients::{Clients, Event as Told, Habits};
use xtcp_generator::pattern::Answers;
use xtcp_generator::population::{Population, Prefix};
use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{
    Accept, Acknowledge, Address, Checksum, Config, Family, GroupConfig, Instant, NetConfig,
    RxFrame, Stack, TcpConfig, Throttle, Transmit,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the pool's receive memory.
pub const RECEIVE_BYTES: usize = 16 << 20;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
/// The port the server listens on.
pub const PORT: u16 = 7;
const CONNECTIONS: u32 = 1024;
const BURST: u32 = 32;
/// Milliseconds a client waits for a request that its acknowledgement could ride on.
pub const DELAYED_ACK: u16 = 40;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Zeroed memory, aligned to a cache line.
#[must_use]
pub fn memory(bytes: usize) -> &'static mut [u8] {
    vec![Line([0; 64]); bytes.div_ceil(64)].leak().as_mut_bytes()
}

/// Frames of one burst, in buffers that are used again.
pub struct Frames {
    buffers: Vec<[u8; 2048]>,
    lens: Vec<usize>,
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("lens", &self.lens).finish_non_exhaustive()
    }
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

/// A stack without pools.
///
/// # Panics
/// There is not enough memory.
#[must_use]
pub fn stack() -> Stack<'static> {
    let config = config();
    let tables = memory(Stack::memory_needed(&config));
    let transmit = memory(config.transmit_bytes);
    Stack::new(&config, tables, transmit, Instant::ZERO).expect("enough memory")
}

/// The group whose clients call.
#[must_use]
pub fn group() -> GroupConfig {
    GroupConfig {
        port: PORT,
        family: Family::V4,
        accept: Accept::Automatic,
        acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
        window_max: 1 << 16,
        nagle: false,
        ..GroupConfig::default()
    }
}

/// Who answers what clients send.
pub trait Serve {
    /// What a server does with a burst: frames in, frames out.
    fn serve(&mut self, frames: &[RxFrame<'_>], now: Instant, out: &mut Frames);
}

/// Clients, a server, and the cable between them.
pub struct World<S> {
    clients: Clients,
    server: S,
    to_server: Frames,
    to_clients: Frames,
    now: u64,
    events: Vec<Told>,
}

impl<S: fmt::Debug> fmt::Debug for World<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("server", &self.server).finish_non_exhaustive()
    }
}

impl<S: Serve> World<S> {
    /// Nobody has called yet; requests and answers of so many bytes.
    ///
    /// # Panics
    /// The clients do not fit their network, which is a mistake here.
    pub fn new(bytes: u32, server: S) -> Self {
        let prefix = Prefix { ip: IpAddr::V4(Ipv4Addr::new(10, 65, 0, 0)), len: 16 };
        let at = SocketAddr::new(SERVER.into(), PORT);
        let population =
            Population::new(at, prefix, &(2000..=61_999), CONNECTIONS).expect("they fit");
        let habits = Habits {
            request: bytes,
            answer: bytes,
            answers: Answers::Echo,
            timestamps: true,
            delayed_ack_ms: DELAYED_ACK,
            mtu: 1500,
        };
        let now = 1_000_000_000;
        Self {
            clients: Clients::new(population, MacAddr([2, 0, 0, 0, 0, 2]), habits, 1, now),
            server,
            to_server: Frames::new(),
            to_clients: Frames::new(),
            now,
            events: Vec::new(),
        }
    }

    /// Both sides once: what the clients have sent goes to the server, and its answers to them.
    pub fn turn(&mut self) {
        self.now += 10_000;
        self.to_clients.lens.clear();
        let now = Instant::from_nanos(self.now);
        self.server.serve(&self.to_server.each(), now, &mut self.to_clients);
        self.to_server.lens.clear();
        self.clients.set_now(self.now);
        self.clients.on_burst(&self.to_clients.each(), &mut self.to_server);
        self.clients.on_timeout(&mut self.to_server);
        self.clients.take_events(&mut self.events);
    }

    /// Every client calls.
    ///
    /// # Panics
    /// One was not let in.
    pub fn connect(&mut self) {
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

    /// Nobody asks anything for so many milliseconds. What the clients then say comes with the next
    /// burst.
    fn pause(&mut self, ms: u32) {
        self.now += u64::from(ms) * 1_000_000;
        self.clients.set_now(self.now);
        self.clients.on_timeout(&mut self.to_server);
    }

    /// `count` exchanges, a whole number of bursts, and after each so many milliseconds of pause; says
    /// how many were answered.
    pub fn exchange(&mut self, count: u32, pause: u32) -> u32 {
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
            self.pause(pause);
        }
        answered
    }

    /// Segments that clients have sent again.
    pub fn resent(&self) -> u64 {
        self.clients.counters().resent
    }

    /// Acknowledgements that clients have sent bare.
    pub fn bare_acknowledgements(&self) -> u64 {
        self.clients.counters().acks_out
    }

    /// Who answers.
    pub fn server(&self) -> &S {
        &self.server
    }
}

/// What is counted of a server means something only if it holds: whatever it is asked, it answers, and
/// nobody has to ask again.
///
/// # Panics
/// It does not.
pub fn assert_every_exchange_is_answered<S: Serve>(server: impl Fn() -> S) {
    for bytes in [64, 1024] {
        let mut world = World::new(bytes, server());
        world.connect();
        assert_eq!(world.exchange(3200, 0), 3200);
        assert_eq!(world.resent(), 0);
    }
}

/// `EXCHANGES BYTES [PAUSE]` from the command line, carried out. `program` is its name.
pub fn run<S: Serve>(program: &str, server: impl FnOnce() -> S) -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<u32>());
    let (Some(Ok(exchanges)), Some(Ok(bytes @ 1..=1400)), Ok(pause)) =
        (numbers.next(), numbers.next(), numbers.next().unwrap_or(Ok(0)))
    else {
        eprintln!(
            "{program}: say how many exchanges, of how many bytes, and how many milliseconds pass after \
             each 32 of them: {program} 3200 64 50"
        );
        return ExitCode::FAILURE;
    };
    let mut world = World::new(bytes, server());
    world.connect();
    let answered = world.exchange(exchanges, pause);
    println!("{answered} exchanges of {bytes} B");
    if answered == exchanges { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

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

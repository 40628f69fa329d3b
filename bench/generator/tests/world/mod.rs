//! One thread in which clients and a stack hand each other frames.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use xtcp_generator::clients::{Clients, Event, Habits};
use xtcp_generator::driver::{Driver, News, Progress};
use xtcp_generator::pattern::Answers;
use xtcp_generator::population::{Population, Prefix};
use xtcp_generator::step::Step;
use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{
    Accept, Acknowledge, Address, Checksum, Config, Event as Told, Family, GroupConfig, Instant,
    PoolId, QueueId, RxFrame, Stack, TcpConfig, Transmit,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const QUEUE: QueueId = QueueId(0);
const PORT: u16 = 7;
/// One turn of both sides.
const TURN: u64 = 50_000;
/// Longer than any script lasts, in nanoseconds.
const END: u64 = 300_000_000_000;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn memory(bytes: usize) -> &'static mut [u8] {
    vec![Line([0; 64]); bytes.div_ceil(64)].leak().as_mut_bytes()
}

/// What the link does to frames, in thousandths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) lose: u64,
    pub(crate) double: u64,
    pub(crate) swap: u64,
    pub(crate) flip: u64,
    pub(crate) state: u64,
}

impl Link {
    pub(crate) fn good() -> Self {
        Self { lose: 0, double: 0, swap: 0, flip: 0, state: 1 }
    }

    pub(crate) fn bad(seed: u64) -> Self {
        Self { lose: 20, double: 10, swap: 20, flip: 0, state: seed }
    }

    /// SplitMix64.
    fn chance(&mut self, thousandths: u64) -> bool {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % 1000 < thousandths
    }

    /// What comes out at the other end.
    fn carry(&mut self, frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for mut frame in frames {
            if self.chance(self.lose) {
                continue;
            }
            if self.chance(self.flip) {
                let last = frame.len() - 1;
                frame[last] ^= 0x10;
            }
            if self.chance(self.double) {
                out.push(frame.clone());
            }
            out.push(frame);
            if self.chance(self.swap) && out.len() > 1 {
                let last = out.len() - 1;
                out.swap(last, last - 1);
            }
        }
        out
    }
}

/// What the server does with requests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Server {
    Echo,
    /// As the dataplane's mode `answer`.
    Letters {
        request: u64,
        answer: usize,
    },
    /// An echo that damages one byte of the stream.
    Flips {
        at: u64,
    },
    /// It listens on another port.
    Deaf,
}

#[derive(Debug, Default)]
struct Out(Vec<Vec<u8>>);

impl Transmit for Out {
    fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.push(vec![0; len]);
        self.0.last_mut().map(Vec::as_mut_slice)
    }
}

fn each(frames: &[Vec<u8>]) -> Vec<RxFrame<'_>> {
    frames.iter().map(|bytes| RxFrame { bytes, checksum: Checksum::Unknown }).collect()
}

pub(crate) struct World {
    driver: Driver,
    /// Without steps the test drives the clients itself.
    bare: Option<Clients>,
    stack: Stack<'static>,
    pool: PoolId,
    server: Server,
    link: Link,
    pub(crate) now: u64,
    sleep: Option<(u64, u64)>,
    to_server: Vec<Vec<u8>>,
    to_clients: Vec<Vec<u8>>,
    pub(crate) news: Vec<News>,
}

pub(crate) fn steps(script: &str) -> Vec<Step> {
    script.split_whitespace().map(|step| step.parse().expect("a step")).collect()
}

fn stack(ip: IpAddr, port: u16) -> (Stack<'static>, PoolId) {
    let mut addresses = [None; xtcp_stack::config::ADDRESSES_MAX];
    addresses[0] = Some(Address { ip, prefix_len: if ip.is_ipv4() { 10 } else { 16 } });
    let config = Config {
        worker: 0,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        addresses,
        gateway_v4: None,
        gateway_v6: None,
        secret: [9; 32],
        connections_max: 4096,
        ipv6_connections_max: 1024,
        active_max: 4096,
        chunks_max: 16_384,
        transmit_bytes: 16 << 20,
        neighbours_max: 64,
        pools_max: 1,
        groups_max: 4,
        queues_max: 1,
        throttle: xtcp_stack::Throttle::default(),
        net: xtcp_stack::NetConfig::default(),
        tcp: TcpConfig::default(),
    };
    let tables = memory(Stack::memory_needed(&config));
    let transmit = memory(config.transmit_bytes);
    let mut stack = Stack::new(&config, tables, transmit, Instant::ZERO).expect("enough memory");
    let pool = stack.open_pool(memory(32 << 20)).expect("room for a pool");
    let group = GroupConfig {
        port,
        family: Family::Dual,
        accept: Accept::Automatic,
        acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
        window_max: 1 << 16,
        nagle: false,
        ..GroupConfig::default()
    };
    stack.open_group(pool, QUEUE, &group).expect("room for a group");
    (stack, pool)
}

impl World {
    pub(crate) fn new(clients: u32, link: Link, server: Server, steps: &[Step]) -> Self {
        let prefix = Prefix { ip: "10.65.0.0".parse().expect("an address"), len: 16 };
        Self::with("10.64.0.1".parse().expect("an address"), prefix, clients, (link, server), steps)
    }

    pub(crate) fn v6(clients: u32, steps: &[Step]) -> Self {
        let prefix = Prefix { ip: "fd65::".parse().expect("an address"), len: 64 };
        let ip = "fd65:0:1::1".parse().expect("an address");
        Self::with(ip, prefix, clients, (Link::good(), Server::Echo), steps)
    }

    fn with(
        ip: IpAddr,
        prefix: Prefix,
        count: u32,
        (link, server): (Link, Server),
        steps: &[Step],
    ) -> Self {
        let population =
            Population::new(SocketAddr::new(ip, PORT), prefix, &(2000..=61_999), count)
                .expect("they fit");
        let habits = Habits {
            request: 100,
            answer: 100,
            answers: if matches!(server, Server::Letters { .. }) {
                Answers::Letters
            } else {
                Answers::Echo
            },
            timestamps: true,
            delayed_ack_ms: 40,
            mtu: 1500,
        };
        let now = 1_000_000_000;
        let clients = || Clients::new(population, MacAddr([2, 0, 0, 0, 0, 2]), habits, 5, now);
        let port = if matches!(server, Server::Deaf) { PORT + 1 } else { PORT };
        let (stack, pool) = stack(ip, port);
        Self {
            driver: Driver::new(clients(), steps.to_vec(), now),
            bare: steps.is_empty().then(clients),
            stack,
            pool,
            server,
            link,
            now,
            sleep: None,
            to_server: Vec::new(),
            to_clients: Vec::new(),
            news: Vec::new(),
        }
    }

    /// The server does nothing from `from` for `long`, in nanoseconds.
    pub(crate) fn server_sleeps(&mut self, from: u64, long: u64) {
        self.sleep = Some((from, from.saturating_add(long)));
    }

    /// Until all steps are done.
    pub(crate) fn run(&mut self) {
        while self.driver.progress() != Progress::Done {
            assert!(self.now < END, "it did not come to its end");
            self.now += TURN;
            self.server_turn();
            let frames = self.link.carry(std::mem::take(&mut self.to_clients));
            let mut out = Out::default();
            self.driver.turn(&each(&frames), self.now, true, &mut out);
            self.to_server.extend(self.link.carry(out.0));
            self.news.extend(self.driver.take_news());
            self.driver.go_on();
        }
    }

    fn server_turn(&mut self) {
        if self.sleep.is_some_and(|(from, until)| (from..until).contains(&self.now)) {
            return;
        }
        let now = Instant::from_nanos(self.now);
        let mut out = Out::default();
        let frames = std::mem::take(&mut self.to_server);
        self.stack.on_burst(&each(&frames), &mut out, now);
        self.serve(now);
        self.stack.on_timeout(now);
        self.stack.poll_frames(&mut out, now);
        self.to_clients.extend(out.0);
    }

    fn serve(&mut self, now: Instant) {
        while let Some(event) = self.stack.poll_event(QUEUE) {
            match event {
                Told::Data { group, connection, at, len, offset } => {
                    let mut bytes = self.stack.received(self.pool, at, len).to_vec();
                    let end = offset + u64::from(len);
                    match self.server {
                        Server::Letters { request, answer } => {
                            let whole = end / request - offset / request;
                            let letters = (b'a'..=b'z').cycle().take(answer);
                            let letters: Vec<u8> = letters.collect();
                            bytes = letters.repeat(usize::try_from(whole).expect("few"));
                        }
                        Server::Flips { at } if (offset..end).contains(&at) => {
                            bytes[usize::try_from(at - offset).expect("within")] ^= 1;
                        }
                        _ => {}
                    }
                    self.stack.commit(group, connection, end, false, now).expect("it was given");
                    if !bytes.is_empty() {
                        self.stack.send(group, connection, &bytes[..], now).expect("there is room");
                    }
                }
                Told::Finished { group, connection, .. } => {
                    self.stack.close(group, connection, now).expect("it is open");
                }
                Told::Closed { group, connection, .. } => {
                    let _ = self.stack.abort(group, connection, now);
                }
                Told::Acceptable { .. } | Told::Opened { .. } | Told::Drained { .. } => {}
            }
        }
    }

    // For tests that drive the clients themselves.

    pub(crate) fn clients(&mut self) -> &mut Clients {
        self.bare.as_mut().expect("a world without steps")
    }

    /// Until the clients know where the server is.
    pub(crate) fn meet(&mut self) {
        let mut out = Out::default();
        let now = self.now;
        self.clients().set_now(now);
        while !self.clients().server_is_known(&mut out) {
            self.to_server.append(&mut out.0);
            self.server_turn();
            self.client_turn();
        }
    }

    /// Clients and server, until nobody sends any more at this time.
    pub(crate) fn settle(&mut self) {
        while !self.to_server.is_empty() || !self.to_clients.is_empty() {
            self.now += 1000;
            self.server_turn();
            self.client_turn();
        }
    }

    /// The clients' turn; gives what they sent.
    pub(crate) fn client_turn(&mut self) -> Vec<Vec<u8>> {
        let frames = std::mem::take(&mut self.to_clients);
        let (now, mut out) = (self.now, Out::default());
        let clients = self.clients();
        clients.set_now(now);
        clients.on_burst(&each(&frames), &mut out);
        clients.on_timeout(&mut out);
        self.to_server.extend(out.0.iter().cloned());
        out.0
    }

    pub(crate) fn open(&mut self, number: u32) {
        let mut out = Out::default();
        self.clients().open(number, &mut out);
        self.to_server.append(&mut out.0);
    }

    pub(crate) fn ask(&mut self, number: u32) {
        let (now, mut out) = (self.now, Out::default());
        self.clients().request(number, 1, now, &mut out);
        self.to_server.append(&mut out.0);
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.clients().take_events(&mut events);
        events
    }
}

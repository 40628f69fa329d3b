//! Two applications with pools of their own on a host with next to no memory, under any weather:
//! every stream is equal at the end, the books are right at every step, and everything is back.

use std::net::SocketAddr;
use std::time::Duration;

use xtcp_stack::{
    Config, Count, Gd, GroupConfig, Instant, PoolId, QueueId, Reason, Stop, TcpConfig, Throttle,
};

use crate::sim::app::{App, Habit, Stream};
use crate::sim::link::{Link, Weather, any_weather};
use crate::sim::net::Net as TwoHosts;
use crate::sim::rng::Rng;
use crate::sim::{
    Host, Memory, RECEIVE_BYTES, Wire, assert_well_formed, config, for_each_seed, ordinary_group,
    v4, v6, xtcp_group,
};

const PORT: u16 = 7;
/// The port and the queue of the other application.
const OTHER_PORT: u16 = 8;
const OTHER_QUEUE: QueueId = QueueId(1);
/// A server's receive buffers, in bytes: nine pages of payload and more.
const TINY: usize = 10 * 2048;

/// A host with next to no memory, and thresholds anywhere.
fn tiny(rng: &mut Rng) -> Config {
    let mut below = |most: u8| u8::try_from(rng.below(u64::from(most) + 1)).expect("small");
    let shrink_below = 40 + below(60);
    let withhold_below = shrink_below - below(shrink_below / 2);
    let hide_below = (withhold_below - below(withhold_below)).min(70);
    let throttle = Throttle { shrink_below, withhold_below, hide_below, pool_share: 50 };
    assert_eq!(throttle.check(), Ok(()));
    Config {
        transmit_bytes: 49 * 2048,
        chunks_max: 160,
        active_max: 40,
        connections_max: 40,
        ipv6_connections_max: 20,
        throttle,
        ..patient(1, 2)
    }
}

/// Nobody is given up: the weather is bad, and what is hidden is lost once more.
fn patient(worker: u8, number: u8) -> Config {
    let user_timeout = Duration::from_secs(3_000);
    let tcp = TcpConfig { user_timeout, syn_retries: 20, ..TcpConfig::default() };
    Config { tcp, ..config(worker, number) }
}

struct Net<'m> {
    client: Host<'m>,
    server: Host<'m>,
    /// The server's pools and groups.
    pools: [(PoolId, Gd); 2],
    clients: App,
    servers: [App; 2],
    links: [Link; 2],
    now: Instant,
}

impl Net<'_> {
    fn step(&mut self) {
        let mut wire = Wire::default();
        while let Some(frame) = self.links[1].arrived(self.now) {
            self.client.frame(&frame, &mut wire, self.now);
        }
        self.client.stack.on_timeout(self.now);
        self.clients.run(&mut self.client, self.now);
        self.client.flush(&mut wire, self.now);
        send(&mut self.links[0], wire, self.now);

        let mut wire = Wire::default();
        while let Some(frame) = self.links[0].arrived(self.now) {
            self.server.frame(&frame, &mut wire, self.now);
        }
        self.server.stack.on_timeout(self.now);
        for (app, (pool, group)) in self.servers.iter_mut().zip(self.pools) {
            (self.server.pool, self.server.group) = (pool, group);
            app.run(&mut self.server, self.now);
        }
        self.server.flush(&mut wire, self.now);
        send(&mut self.links[1], wire, self.now);
        for host in [&self.client, &self.server] {
            host.stack.audit().expect("the books are right and every rule is kept");
        }
        for info in self.server.stack.pools() {
            assert!(info.chunks <= info.chunks_most && info.active <= info.active_most);
            assert!(info.transmit_used <= info.transmit_most, "nobody takes more than its share");
        }
    }

    fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        loop {
            self.step();
            let hosts = [&self.client, &self.server];
            let timeouts = hosts.into_iter().filter_map(|host| host.stack.poll_timeout());
            let arrivals = self.links.iter().filter_map(Link::next_arrival);
            let restless = self.clients.is_restless() || self.servers.iter().any(App::is_restless);
            let nudge = restless.then(|| self.now + Duration::from_millis(5));
            let Some(next) = timeouts.chain(arrivals).chain(nudge).min() else { return };
            assert!(next > self.now, "time goes on");
            self.now = next;
            if self.now > end {
                return;
            }
        }
    }

    /// Every stream came to its end and was closed, and nothing is held.
    fn assert_all_arrived(&self, count: u64) {
        let figures: Vec<_> = self.server.stack.pools().collect();
        let counters = [self.client.stack.counters(), self.server.stack.counters()];
        let open: Vec<_> =
            self.client.stack.connections().chain(self.server.stack.connections()).collect();
        for (app, expected) in
            [(&self.clients, 2 * count), (&self.servers[0], count), (&self.servers[1], count)]
        {
            assert!(
                app.streams.is_empty(),
                "not done at {:?}: {:#?}\n{counters:#?}\n{figures:#?}\n{open:#?}",
                self.now,
                app.streams
            );
            for stream in &app.ended {
                assert_eq!(stream.closed, Some(Reason::Closed), "{stream:#?}\n{counters:#?}");
                assert_eq!((stream.sent, stream.received), (stream.to_send, stream.to_receive));
            }
            assert_eq!(app.ended.len() as u64, expected);
        }
        for host in [&self.client, &self.server] {
            host.assert_nothing_held();
            assert_eq!(host.stack.usage().time_wait, 0, "TIME-WAIT is over");
        }
    }
}

fn send(link: &mut Link, wire: Wire, now: Instant) {
    for frame in wire.frames {
        assert_well_formed(&frame);
        link.send(frame, now);
    }
}

/// How often each step was taken, in a run or several.
#[derive(Debug, Default)]
pub(crate) struct Taken([u64; 4]);

impl Taken {
    fn add(&mut self, host: &Host<'_>) {
        let counters = host.stack.counters();
        let steps = [
            counters.counted(Count::WindowsShrunk),
            counters.counted(Count::AcksWithheld),
            counters.stopped(Stop::TextHidden),
            counters.counted(Count::WaitsOver),
        ];
        self.0.iter_mut().zip(steps).for_each(|(sum, step)| *sum += step);
    }

    /// With one seed there may be none of some.
    fn assert_all(&self) {
        let single = std::env::var("XTCP_SEED").is_ok();
        assert!(single || self.0.iter().all(|&taken| taken > 20), "{self:?}");
    }
}

/// Streams in both directions between one host and two applications on another.
fn exchange(seed: u64, habit: Habit, count: u64, taken: &mut Taken) {
    let groups = groups(seed);
    let mut rng = Rng::new(seed ^ 0x5a);
    let scarce = tiny(&mut rng);
    let mut memory = [
        Memory::for_host(&patient(0, 1), RECEIVE_BYTES),
        Memory::for_host(&scarce, TINY + 2048 * usize::try_from(rng.below(8)).expect("small")),
        Memory::new(TINY),
    ];
    let [client, server, more] = &mut memory;
    let mut server = Host::new(server, &scarce, &groups[0]);
    let pool = server.stack.open_pool(&mut more.aligned()[..TINY]).expect("room for a pool");
    let group = server.stack.open_group(pool, OTHER_QUEUE, &groups[1]).expect("room");
    let weather = any_weather(seed);
    let mut net = Net {
        client: Host::new(client, &patient(0, 1), &ordinary_group(0)),
        pools: [(server.pool, server.group), (pool, group)],
        server,
        clients: App::new(Habit::Prompt, seed ^ 1),
        servers: [App::new(habit, seed ^ 2), App::new(Habit::Prompt, seed ^ 3)],
        links: [Link::new(weather, seed ^ 4), Link::new(weather, seed ^ 5)],
        now: Instant::from_millis(1_000),
    };
    net.servers[1].queue = OTHER_QUEUE;
    let sizes = move |port: u16| {
        let mut rng = Rng::new(seed ^ u64::from(port) << 20);
        let mut size = || {
            let magnitude = 4 + rng.below(13);
            1 + rng.below(1 << magnitude)
        };
        (size(), size())
    };
    let keys = move |port: u16| (seed ^ u64::from(port), !seed ^ u64::from(port) << 32);
    for app in &mut net.servers {
        app.arriving = Some(Box::new(move |port| {
            let ((up, down), (a, b)) = (sizes(port), keys(port));
            Stream::new((b, a), down, up)
        }));
    }
    for n in 0..2 * count {
        let ip = if n % 4 < 2 { v4(2) } else { v6(2) };
        let remote = SocketAddr::new(ip, if n % 2 == 0 { PORT } else { OTHER_PORT });
        let host = &mut net.client;
        let connection = host.stack.connect(host.group, remote, net.now).expect("room");
        let port = host.stack.connection(connection).expect("it is there").local.port();
        let ((up, down), (a, b)) = (sizes(port), keys(port));
        net.clients.streams.insert(connection, Stream::new((a, b), up, down));
    }
    net.run(Duration::from_secs(36_000));
    net.assert_all_arrived(count);
    taken.add(&net.server);
}

fn groups(seed: u64) -> [GroupConfig; 2] {
    let deadline = Duration::from_millis(30);
    let one = |kind: u64, port: u16| match kind % 4 {
        0 => xtcp_group(port),
        1 => ordinary_group(port),
        2 => GroupConfig { hold_limit: 1000, ..xtcp_group(port) },
        _ => GroupConfig {
            acknowledge: xtcp_stack::Acknowledge::ByApplication { deadline },
            ..xtcp_group(port)
        },
    };
    [one(seed, PORT), one(seed / 4, OTHER_PORT)]
}

/// Next to no memory and prompt applications.
pub(crate) fn prompt(seed: u64, taken: &mut Taken) {
    exchange(seed, Habit::Prompt, 1 + seed % 8, taken);
}

/// Next to no memory, and one of the applications is slow.
pub(crate) fn slow(seed: u64, taken: &mut Taken) {
    exchange(seed, Habit::Slow, 1 + seed % 8, taken);
}

#[test]
fn streams_are_equal_with_next_to_no_memory() {
    for_each_seed(400, |seed| prompt(seed, &mut Taken::default()));
}

#[test]
fn a_slow_application_with_next_to_no_memory_loses_nothing() {
    let mut taken = Taken::default();
    for_each_seed(400, |seed| slow(seed, &mut taken));
    taken.assert_all();
}

/// A server with so many descriptors sends 256 KiB to each of some clients, over a path that loses
/// three segments of a hundred: how many it sends, and how many of them again.
fn bulk(seed: u64, chunks_max: u32, send_queue_max: u32) -> (u64, u64) {
    const BYTES: u64 = 256 << 10;
    const CLIENTS: u64 = 8;
    let tcp = TcpConfig { send_queue_max, ..TcpConfig::default() };
    let configs = [config(0, 1), Config { chunks_max, tcp, ..config(1, 2) }];
    let mut memory = [0, 1].map(|at: usize| Memory::for_host(&configs[at], RECEIVE_BYTES));
    let client = GroupConfig { window_max: 8 << 20, ..ordinary_group(0) };
    let weather = Weather { delay: Duration::from_millis(25), loss: 30_000, ..Weather::default() };
    let groups = [&client, &ordinary_group(PORT)];
    let mut net = TwoHosts::of(&mut memory, (seed, weather), &configs, groups, Habit::Prompt);
    net.apps[1].arriving = Some(Box::new(|_| Stream::new((1, 2), BYTES, 1)));
    let (group, now) = (net.hosts[0].group, net.now);
    let remote = SocketAddr::new(v4(2), PORT);
    for _ in 0..CLIENTS {
        let connection = net.hosts[0].stack.connect(group, remote, now).expect("room");
        net.apps[0].streams.insert(connection, Stream::new((2, 1), 1, BYTES));
    }
    net.run(Duration::from_secs(3_600));
    let received = net.apps[0].ended.iter().map(|stream| stream.received);
    assert_eq!(received.sum::<u64>(), CLIENTS * BYTES);
    let counters = net.hosts[1].stack.counters();
    (counters.counted(Count::SegmentsOut), counters.counted(Count::SegmentsRetransmitted))
}

/// Text that is queued leaves descriptors to what is in flight: what has arrived is known, and not sent
/// again.
#[test]
fn scarce_descriptors_make_no_more_be_sent_again() {
    for descriptors in [128, 256, 512] {
        let sum = |bulk: &dyn Fn(u64) -> (u64, u64)| {
            (0..8).map(bulk).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
        };
        let scarce = sum(&|seed| bulk(seed, descriptors, 1 << 20));
        let plenty = sum(&|seed| bulk(seed, 16_384, descriptors * 2048 / 4 * 3 / 8));
        assert!(scarce.1 <= plenty.1 + plenty.1 / 10, "{descriptors}: {scarce:?}, {plenty:?}");
    }
}

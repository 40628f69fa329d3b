//! Two stacks over a simulated network: whatever the weather, the streams are equal at the end
//! and every buffer comes back.

mod sim;

use std::net::SocketAddr;
use std::time::Duration;

use sim::app::{App, Habit, Stream};
use sim::link::{Link, Weather, any_weather};
use sim::rng::Rng;
use sim::{
    Host, Memory, RECEIVE_BYTES, Wire, assert_well_formed, config, for_each_seed, ordinary_group,
    v4, v6, xtcp_group,
};
use xtcp_stack::{GroupConfig, Instant, Reason};

const PORT: u16 = 7;

/// A client's host, a server's host, and what is between them.
struct Net<'m> {
    hosts: [Host<'m>; 2],
    apps: [App; 2],
    links: [Link; 2],
    now: Instant,
}

impl<'m> Net<'m> {
    fn new(
        memory: &'m mut [Memory; 2],
        (seed, weather): (u64, Weather),
        server: &GroupConfig,
        habit: Habit,
    ) -> Self {
        let [client_memory, server_memory] = memory;
        Self {
            hosts: [
                Host::new(client_memory, &config(0, 1), &ordinary_group(0)),
                Host::new(server_memory, &config(1, 2), server),
            ],
            apps: [App::new(Habit::Prompt, seed ^ 1), App::new(habit, seed ^ 2)],
            links: [Link::new(weather, seed ^ 3), Link::new(weather, seed ^ 4)],
            now: Instant::from_millis(1_000),
        }
    }

    /// Everything that happens at this instant.
    fn step(&mut self) {
        for side in 0..2 {
            let mut wire = Wire::default();
            while let Some(frame) = self.links[1 - side].arrived(self.now) {
                self.hosts[side].frame(&frame, &mut wire, self.now);
            }
            self.apps[side].run(&mut self.hosts[side], self.now);
            self.hosts[side].flush(&mut wire, self.now);
            self.apps[side].run(&mut self.hosts[side], self.now);
            self.hosts[side].flush(&mut wire, self.now);
            for frame in wire.frames {
                assert_well_formed(&frame);
                self.links[side].send(frame, self.now);
            }
        }
    }

    /// Runs until nothing is left to happen, or until `limit`.
    fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        loop {
            self.step();
            let timeouts = self.hosts.iter().filter_map(|host| host.stack.poll_timeout());
            let arrivals = self.links.iter().filter_map(Link::next_arrival);
            let restless = self.apps.iter().any(App::is_restless);
            let nudge = restless.then(|| self.now + Duration::from_millis(5));
            let Some(next) = timeouts.chain(arrivals).chain(nudge).min() else { return };
            assert!(next > self.now, "time goes on");
            self.now = next;
            if self.now > end {
                return;
            }
        }
    }
}

/// Opens `count` connections, streams in both directions, and waits until all is over.
fn exchange(seed: u64, weather: Weather, server: &GroupConfig, habit: Habit, count: u64) -> u64 {
    let mut memory = [0, 1].map(|n| Memory::for_host(&config(n, n + 1), RECEIVE_BYTES));
    let mut net = Net::new(&mut memory, (seed, weather), server, habit);
    let sizes = move |port: u16| {
        let mut rng = Rng::new(seed ^ u64::from(port) << 20);
        let mut size = || {
            let magnitude = 4 + rng.below(14);
            1 + rng.below(1 << magnitude)
        };
        (size(), size())
    };
    let keys = move |port: u16| (seed ^ u64::from(port), !seed ^ u64::from(port) << 32);
    net.apps[1].arriving = Some(Box::new(move |port| {
        let ((up, down), (a, b)) = (sizes(port), keys(port));
        Stream::new((b, a), down, up)
    }));
    for n in 0..count {
        let ip = if n % 2 == 0 { v4(2) } else { v6(2) };
        let host = &mut net.hosts[0];
        let remote = SocketAddr::new(ip, PORT);
        let connection = host.stack.connect(host.group, remote, net.now).expect("room");
        let port = host.stack.connection(connection).expect("it is there").local.port();
        let ((up, down), (a, b)) = (sizes(port), keys(port));
        net.apps[0].streams.insert(connection, Stream::new((a, b), up, down));
    }
    net.run(Duration::from_secs(1_800));
    for side in 0..2 {
        let counters = net.hosts[side].stack.counters();
        assert!(
            net.apps[side].streams.is_empty(),
            "side {side} is not done at {:?}: {:#?}\n{counters:#?}",
            net.now,
            net.apps[side].streams
        );
        for stream in &net.apps[side].ended {
            assert_eq!(stream.closed, Some(Reason::Closed), "{stream:#?}\n{counters:#?}");
            assert_eq!((stream.sent, stream.received), (stream.to_send, stream.to_receive));
        }
        assert_eq!(net.apps[side].ended.len() as u64, count);
        net.hosts[side].assert_nothing_held();
        assert_eq!(net.hosts[side].stack.usage().time_wait, 0, "TIME-WAIT is over");
    }
    net.links[0].trace ^ net.links[1].trace
}

fn fair() -> Weather {
    Weather { delay: Duration::from_millis(10), ..Weather::default() }
}

#[test]
fn one_connection_in_fair_weather() {
    exchange(1, fair(), &ordinary_group(PORT), Habit::Prompt, 1);
}

#[test]
fn one_connection_the_xtcp_way() {
    exchange(1, fair(), &xtcp_group(PORT), Habit::Prompt, 1);
}

#[test]
fn many_connections_in_fair_weather() {
    exchange(2, fair(), &xtcp_group(PORT), Habit::Prompt, 100);
}

#[test]
fn streams_are_equal_in_any_weather() {
    for_each_seed(2_000, |seed| {
        let group = if seed % 2 == 0 { xtcp_group(PORT) } else { ordinary_group(PORT) };
        exchange(seed, any_weather(seed), &group, Habit::Prompt, 1 + seed % 7);
    });
}

#[test]
fn a_sloppy_application_loses_nothing() {
    for_each_seed(1_000, |seed| {
        let group = if seed % 3 == 0 { ordinary_group(PORT) } else { xtcp_group(PORT) };
        exchange(seed, any_weather(seed ^ 77), &group, Habit::Sloppy, 1 + seed % 3);
    });
}

#[test]
fn a_seed_replays() {
    let run = || exchange(42, any_weather(42), &xtcp_group(PORT), Habit::Sloppy, 3);
    assert_eq!(run(), run());
}

//! The stack against smoltcp, an independent TCP, over the same seeded links: whatever the
//! weather, the streams are equal at the end.

use std::net::SocketAddr;
use std::time::Duration;

use xtcp_stack::{Config, GroupConfig, Instant, Reason, TcpConfig};

use crate::sim::app::{App, Habit, Stream};
use crate::sim::link::{Link, Weather, any_weather};
use crate::sim::other::Other;
use crate::sim::rng::Rng;
use crate::sim::{
    Host, Memory, RECEIVE_BYTES, Wire, assert_well_formed, config, for_each_seed, ordinary_group,
    v4, v6, xtcp_group,
};

const PORT: u16 = 7;
/// The first of the ports that a client of smoltcp's calls from, or one of its servers listens on.
const OTHER_PORT: u16 = 9000;

/// Our host, smoltcp's, and what is between them.
struct Net<'m> {
    host: Host<'m>,
    app: App,
    other: Other,
    /// From us, and to us.
    links: [Link; 2],
    now: Instant,
}

/// Ours gives nobody up: see `weather`. Of four repetitions of a SYN none may arrive (seed 2,627).
fn patient() -> Config {
    Config { tcp: TcpConfig { syn_retries: 20, ..TcpConfig::default() }, ..config(0, 2) }
}

impl<'m> Net<'m> {
    fn new(memory: &'m mut Memory, seed: u64, weather: Weather, group: &GroupConfig) -> Self {
        let now = Instant::from_millis(1_000);
        let habit = if seed % 5 == 0 { Habit::Sloppy } else { Habit::Prompt };
        Self {
            host: Host::new(memory, &patient(), group),
            app: App::new(habit, seed ^ 1),
            other: Other::new(1, seed ^ 2, now),
            links: [Link::new(weather, seed ^ 3), Link::new(weather, seed ^ 4)],
            now,
        }
    }

    /// Everything that happens at this instant.
    fn step(&mut self) {
        let mut wire = Wire::default();
        while let Some(frame) = self.links[1].arrived(self.now) {
            self.host.frame(&frame, &mut wire, self.now);
        }
        for _ in 0..2 {
            self.app.run(&mut self.host, self.now);
            self.host.flush(&mut wire, self.now);
        }
        self.host.stack.audit().expect("the books are right and every rule is kept");
        for frame in wire.frames {
            assert_well_formed(&frame);
            self.links[0].send(frame, self.now);
        }
        while let Some(frame) = self.links[0].arrived(self.now) {
            self.other.port.arrived.push_back(frame);
        }
        self.other.run(self.now);
        for frame in self.other.port.sent.drain(..) {
            self.links[1].send(frame, self.now);
        }
    }

    /// Runs until nothing is left to happen, or until `limit`.
    fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        while self.now <= end {
            self.step();
            let arrivals = self.links.iter().filter_map(Link::next_arrival).min();
            let restless = self.app.is_restless() || self.other.is_restless();
            let nudge = restless.then(|| self.now + Duration::from_millis(5));
            let (ours, theirs) = (self.host.stack.poll_timeout(), self.other.next(self.now));
            let over = self.app.streams.is_empty() && self.other.open().is_empty();
            let theirs = theirs.filter(|_| !over);
            let next = [arrivals, nudge, ours, theirs].into_iter().flatten().min();
            let Some(next) = next else { return };
            assert!(next > self.now, "time goes on");
            self.now = next;
        }
    }

    fn assert_all_is_well(&self, count: usize) {
        let counters = self.host.stack.counters();
        let (ours, theirs) = (&self.app.streams, self.other.open());
        assert!(
            ours.is_empty() && theirs.is_empty(),
            "not done at {:?}: {ours:#?}\n{theirs:#?}\n{counters:#?}",
            self.now
        );
        assert_eq!((self.app.ended.len(), self.other.streams().count()), (count, count));
        for stream in self.app.ended.iter().chain(self.other.streams()) {
            assert_eq!((stream.sent, stream.received), (stream.to_send, stream.to_receive));
        }
        for stream in &self.app.ended {
            assert_eq!(stream.closed, Some(Reason::Closed), "{stream:#?}\n{counters:#?}");
        }
        self.host.assert_nothing_held();
    }
}

/// How many bytes a connection carries up and down, and their names.
fn streams(seed: u64, port: u16) -> (Stream, Stream) {
    let mut rng = Rng::new(seed ^ u64::from(port) << 20);
    let mut size = || {
        let magnitude = 4 + rng.below(13);
        1 + rng.below(1 << magnitude)
    };
    let (up, down) = (size(), size());
    let (a, b) = (seed ^ u64::from(port), !seed ^ u64::from(port) << 32);
    (Stream::new((a, b), up, down), Stream::new((b, a), down, up))
}

/// smoltcp calls us.
fn served_by_us(seed: u64, weather: Weather, group: &GroupConfig, count: u16) {
    let mut memory = Memory::for_host(&patient(), RECEIVE_BYTES);
    let mut net = Net::new(&mut memory, seed, weather, group);
    net.app.arriving = Some(Box::new(move |port| streams(seed, port).1));
    for n in 0..count {
        let port = OTHER_PORT + n;
        let to = if n % 2 == 0 { v4(2) } else { v6(2) };
        net.other.connect((to.into(), PORT), port, streams(seed, port).0);
    }
    net.run(Duration::from_secs(3_600));
    net.assert_all_is_well(count.into());
}

/// We call smoltcp.
fn served_by_the_other(seed: u64, weather: Weather, count: u16) {
    let mut memory = Memory::for_host(&patient(), RECEIVE_BYTES);
    let mut net = Net::new(&mut memory, seed, weather, &ordinary_group(0));
    for n in 0..count {
        let port = OTHER_PORT + n;
        let (ours, theirs) = streams(seed, port);
        net.other.listen(port, theirs);
        let to = if n % 2 == 0 { v4(1) } else { v6(1) };
        let host = &mut net.host;
        let remote = SocketAddr::new(to, port);
        let connection = host.stack.connect(host.group, remote, net.now).expect("room");
        net.app.streams.insert(connection, ours);
    }
    net.run(Duration::from_secs(3_600));
    net.assert_all_is_well(count.into());
}

fn count(seed: u64) -> u16 {
    u16::try_from(1 + seed % 4).expect("small")
}

/// smoltcp calls a group whose application acknowledges.
pub(crate) fn client_of_an_xtcp_group(seed: u64) {
    served_by_us(seed, any_weather(seed), &xtcp_group(PORT), count(seed));
}

/// smoltcp calls a group that acknowledges by itself.
pub(crate) fn client_of_an_ordinary_group(seed: u64) {
    served_by_us(seed, any_weather(!seed), &ordinary_group(PORT), count(seed));
}

/// smoltcp is called.
pub(crate) fn server(seed: u64) {
    served_by_the_other(seed, any_weather(seed ^ 55), count(seed));
}

#[test]
fn smoltcp_is_a_client_of_an_xtcp_group() {
    for_each_seed(300, client_of_an_xtcp_group);
}

#[test]
fn smoltcp_is_a_client_of_an_ordinary_group() {
    for_each_seed(300, client_of_an_ordinary_group);
}

#[test]
fn smoltcp_is_the_server() {
    for_each_seed(300, server);
}

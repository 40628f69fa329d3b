//! A device that takes nothing, one that gives nothing, a link that is down, a clock that jumps: in
//! the middle of streams in both directions. Nothing is lost, nobody stays stuck, nothing is kept.

use std::net::SocketAddr;
use std::time::Duration;

use xtcp_stack::{Congestion, Count, GroupConfig, Reason, TcpConfig};

use crate::sim::app::{App, Habit, Stream};
use crate::sim::link::{Link, Weather};
use crate::sim::net::Net;
use crate::sim::rng::Rng;
use crate::sim::{
    Memory, RECEIVE_BYTES, Wire, assert_well_formed, config, for_each_seed, ordinary_group, v4,
    xtcp_group,
};

const PORT: u16 = 7;
const CONNECTIONS: u64 = 6;
/// Bytes each way on each connection: more than a second of work for the link.
const BYTES: u64 = 400_000;
/// How long the device stalls: a transmit ring that is full, a pool without a frame.
const STALL: Duration = Duration::from_millis(100);
/// A link that is down outlasts the first retransmissions.
const DOWN: Duration = Duration::from_secs(3);
/// Longer than any timeout there is but keep-alive's.
const JUMP: Duration = Duration::from_secs(600);

/// What happens to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The transmit ring is full, or there is no frame to send with.
    TakesNothing,
    /// There is no frame to receive into: what comes is lost.
    GivesNothing,
    /// What is sent and what comes is lost.
    Down,
}

/// The network, and a server whose device and clock can fail.
struct Stalled<'m> {
    net: Net<'m>,
    fault: Option<Fault>,
    /// By how much the server's clock is ahead.
    ahead: Duration,
}

impl Stalled<'_> {
    fn step(&mut self) {
        for side in 0..2 {
            let fault = self.fault.filter(|_| side == 1);
            let now = if side == 1 { self.net.now + self.ahead } else { self.net.now };
            let full = fault == Some(Fault::TakesNothing);
            let mut wire = Wire { room: full.then_some(0), ..Wire::default() };
            let host = &mut self.net.hosts[side];
            while let Some(frame) = self.net.links[1 - side].arrived(self.net.now) {
                if matches!(fault, None | Some(Fault::TakesNothing)) {
                    host.frame(&frame, &mut wire, now);
                }
            }
            for _ in 0..2 {
                self.net.apps[side].run(host, now);
                host.flush(&mut wire, now);
            }
            for frame in wire.frames {
                assert_well_formed(&frame);
                if fault != Some(Fault::Down) {
                    self.net.links[side].send(frame, self.net.now);
                }
            }
        }
    }

    /// Lets `time` pass, or all there is to happen.
    fn run(&mut self, time: Duration) {
        let end = self.net.now + time;
        while self.net.now < end {
            self.step();
            let ahead = [Duration::ZERO, self.ahead];
            let hosts = self.net.hosts.iter().zip(ahead);
            // A timer may have been due at a clock that jumped, and is now.
            let timeouts = hosts.filter_map(|(host, ahead)| {
                let due = host.stack.poll_timeout()?;
                Some(self.net.now + due.since(self.net.now + ahead))
            });
            let arrivals = self.net.links.iter().filter_map(Link::next_arrival);
            let restless = self.net.apps.iter().any(App::is_restless);
            let nudge = restless.then(|| self.net.now + Duration::from_millis(5));
            let Some(next) = timeouts.chain(arrivals).chain(nudge).min() else { return };
            // Who cannot send is due all the time.
            self.net.now = next.max(self.net.now + Duration::from_micros(100)).min(end);
        }
    }

    fn streams_are_whole_and_nothing_is_kept(&mut self) {
        self.run(Duration::from_secs(900));
        for side in 0..2 {
            let (host, app) = (&self.net.hosts[side], &self.net.apps[side]);
            let counters = host.stack.counters();
            assert!(app.streams.is_empty(), "side {side}: {:#?}\n{counters:#?}", app.streams);
            for stream in &app.ended {
                assert_eq!(stream.closed, Some(Reason::Closed), "{stream:#?}\n{counters:#?}");
                assert_eq!((stream.sent, stream.received), (BYTES, BYTES));
            }
            assert_eq!(app.ended.len() as u64, CONNECTIONS);
            host.assert_nothing_held();
        }
    }

    fn received_by_server(&self) -> u64 {
        self.net.apps[1].streams.values().map(|stream| stream.received).sum()
    }

    fn counted(&self, side: usize, count: Count) -> u64 {
        self.net.hosts[side].stack.counters().counted(count)
    }
}

/// Streams under way, a random while after their start.
fn under_way(seed: u64, test: impl FnOnce(&mut Stalled<'_>)) {
    let mut rng = Rng::new(seed);
    let congestion = if rng.chance(500_000) { Congestion::Cubic } else { Congestion::NewReno };
    let weather = Weather {
        delay: Duration::from_millis(1 + rng.below(20)),
        loss: if rng.chance(500_000) { 5_000 } else { 0 },
        rate: 2_500_000,
        queue: Duration::from_millis(40),
        ..Weather::default()
    };
    let group = if rng.chance(500_000) { xtcp_group(PORT) } else { ordinary_group(PORT) };
    let mut memory = [0, 1].map(|n| Memory::for_host(&config(n, n + 1), RECEIVE_BYTES));
    let client = GroupConfig { congestion, ..ordinary_group(0) };
    let server = GroupConfig { congestion, ..group };
    let tcp = TcpConfig::default();
    let mut net = Net::new(&mut memory, (seed, weather), (tcp, &client, &server), Habit::Prompt);
    let keys = move |port: u16| (seed ^ u64::from(port), !seed ^ u64::from(port) << 32);
    net.apps[1].arriving = Some(Box::new(move |port| {
        let (a, b) = keys(port);
        Stream::new((b, a), BYTES, BYTES)
    }));
    for _ in 0..CONNECTIONS {
        let host = &mut net.hosts[0];
        let remote = SocketAddr::new(v4(2), PORT);
        let connection = host.stack.connect(host.group, remote, net.now).expect("room");
        let port = host.stack.connection(connection).expect("it is there").local.port();
        net.apps[0].streams.insert(connection, Stream::new(keys(port), BYTES, BYTES));
    }
    let mut stalled = Stalled { net, fault: None, ahead: Duration::ZERO };
    stalled.run(Duration::from_millis(100 + rng.below(150)));
    assert!(!stalled.net.apps[0].streams.is_empty(), "over too soon: this tests nothing");
    test(&mut stalled);
    stalled.streams_are_whole_and_nothing_is_kept();
}

/// The transmit ring is full for 100 ms, or all frames to send with are taken.
#[test]
fn a_device_that_takes_nothing_for_100_ms_costs_no_byte_and_no_connection() {
    for_each_seed(40, |seed| {
        under_way(seed, |stalled| {
            stalled.fault = Some(Fault::TakesNothing);
            stalled.run(STALL);
            let before: Vec<_> = stalled.net.apps[0].streams.values().cloned().collect();
            stalled.run(Duration::from_millis(20));
            let after: Vec<_> = stalled.net.apps[0].streams.values().cloned().collect();
            let received = |streams: &[Stream]| streams.iter().map(|one| one.received).sum::<u64>();
            assert_eq!(received(&before), received(&after), "something went out");
            stalled.fault = None;
        });
    });
}

/// No frame can be received into for 100 ms.
#[test]
fn a_device_that_gives_nothing_for_100_ms_costs_no_byte_and_no_connection() {
    for_each_seed(40, |seed| {
        under_way(seed, |stalled| {
            stalled.fault = Some(Fault::GivesNothing);
            let before = stalled.received_by_server();
            stalled.run(STALL);
            assert_eq!(stalled.received_by_server(), before);
            stalled.fault = None;
        });
    });
}

#[test]
fn a_link_that_is_down_for_seconds_costs_no_byte_and_no_connection() {
    for_each_seed(40, |seed| {
        under_way(seed, |stalled| {
            // Whoever is not open yet sends his SYN again.
            let sent_again = |stalled: &Stalled<'_>| {
                [0, 1].map(|side| stalled.counted(side, Count::SegmentsRetransmitted))
            };
            stalled.fault = Some(Fault::Down);
            let before = sent_again(stalled);
            stalled.run(DOWN);
            stalled.fault = None;
            assert_ne!(sent_again(stalled), before, "nobody noticed");
        });
    });
}

/// The server's clock jumps ahead by ten minutes while everybody else's goes on: every timer is due
/// at once, the user timeout too, and none of them proves anything.
#[test]
fn a_clock_that_jumps_by_minutes_costs_no_byte_and_no_connection() {
    for_each_seed(40, |seed| {
        under_way(seed, |stalled| {
            stalled.ahead = JUMP;
            stalled.run(Duration::from_millis(50));
            stalled.ahead = JUMP * 2;
        });
    });
}

/// The machine sleeps: nothing of the server runs for a while, then everything that came meanwhile is
/// there at once, and its timers are due.
#[test]
fn a_server_that_sleeps_for_seconds_costs_no_byte_and_no_connection() {
    for_each_seed(40, |seed| {
        under_way(seed, |stalled| {
            // What comes waits at the device.
            stalled.net.now = stalled.net.now + DOWN;
        });
    });
}

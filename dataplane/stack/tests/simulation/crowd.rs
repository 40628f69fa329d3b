//! N43: a thousand connections at once over a wire that loses, reorders, duplicates and corrupts, in
//! both directions. Every byte of every stream is compared, which is more than a digest of them, and
//! nothing is left of it. Times are the kernel's and the bench's to tell; here they decide nothing.
//!
//! `make test` runs three seeds, `make soak` every fiftieth of its own: 2,000 in a night.

use std::net::SocketAddr;
use std::time::Duration;

use xtcp_stack::{Config, GroupConfig, Reason, Stop, TcpConfig};

use crate::sim::app::{Habit, Stream};
use crate::sim::link::Weather;
use crate::sim::net::Net;
use crate::sim::rng::Rng;
use crate::sim::{Memory, config, for_each_seed, ordinary_group, v4, v6, xtcp_group};

const PORT: u16 = 7;
const CONNECTIONS: u64 = 1000;
const RECEIVE_BYTES: usize = 64 << 20;

/// In millionths.
const BAD: Weather = Weather {
    delay: Duration::from_millis(10),
    jitter: Duration::ZERO,
    loss: 50_000,
    reordering: 50_000,
    reorder_by: Duration::from_millis(15),
    duplication: 20_000,
    corruption: 10_000,
    rate: 0,
    queue: Duration::ZERO,
    mark: Duration::ZERO,
};

/// A host with room for all of them.
fn large(number: u8) -> Config {
    // Nobody is given up.
    let tcp = TcpConfig {
        user_timeout: Duration::from_secs(3_000),
        syn_retries: 20,
        ..TcpConfig::default()
    };
    Config {
        tcp,
        connections_max: 1200,
        ipv6_connections_max: 1200,
        active_max: 1200,
        chunks_max: 1 << 16,
        transmit_bytes: 64 << 20,
        ..config(number - 1, number)
    }
}

/// Bytes up and down of a client's stream.
fn sizes(seed: u64, port: u16) -> (u64, u64) {
    let mut rng = Rng::new(seed ^ u64::from(port) << 20);
    let mut size = || {
        let magnitude = 4 + rng.below(14);
        1 + rng.below(1 << magnitude)
    };
    (size(), size())
}

/// A thousand connections of one seed.
pub(crate) fn crowd(seed: u64) {
    let group = if seed % 2 == 0 { xtcp_group(PORT) } else { ordinary_group(PORT) };
    let mut memory = [1, 2].map(|n| Memory::for_host(&large(n), RECEIVE_BYTES));
    let client = GroupConfig { nagle: seed % 3 == 0, ..ordinary_group(0) };
    let configs = [large(1), large(2)];
    let mut net = Net::of(&mut memory, (seed, BAD), &configs, [&client, &group], Habit::Prompt);
    let keys = move |port: u16| (seed ^ u64::from(port), !seed ^ u64::from(port) << 32);
    net.apps[1].arriving = Some(Box::new(move |port| {
        let ((up, down), (a, b)) = (sizes(seed, port), keys(port));
        Stream::new((b, a), down, up)
    }));
    for n in 0..CONNECTIONS {
        let ip = if n % 2 == 0 { v4(2) } else { v6(2) };
        let host = &mut net.hosts[0];
        let remote = SocketAddr::new(ip, PORT);
        let connection = host.stack.connect(host.group, remote, net.now).expect("room");
        let port = host.stack.connection(connection).expect("it is there").local.port();
        let ((up, down), (a, b)) = (sizes(seed, port), keys(port));
        net.apps[0].streams.insert(connection, Stream::new((a, b), up, down));
    }
    net.run(Duration::from_secs(36_000));
    for (host, app) in net.hosts.iter().zip(&net.apps) {
        let counters = host.stack.counters();
        assert!(app.streams.is_empty(), "{} are not done\n{counters:#?}", app.streams.len());
        for stream in &app.ended {
            assert_eq!(stream.closed, Some(Reason::Closed), "{stream:#?}\n{counters:#?}");
            assert_eq!((stream.sent, stream.received), (stream.to_send, stream.to_receive));
        }
        assert_eq!(app.ended.len() as u64, CONNECTIONS);
        // The wire did what it is for.
        assert!(counters.stopped(Stop::TcpChecksum) > 50, "{counters:#?}");
        assert!(counters.stopped(Stop::DuplicateText) > 50, "{counters:#?}");
        host.assert_nothing_held();
        assert_eq!(host.stack.usage().time_wait, 0, "TIME-WAIT is over");
    }
}

#[test]
fn a_thousand_connections_in_bad_weather() {
    for_each_seed(3, crowd);
}

/// The row's letter.
#[test]
#[ignore = "it takes minutes: make soak runs it, too"]
fn a_thousand_connections_in_bad_weather_by_a_hundred_seeds() {
    (1..=100).for_each(crowd);
}

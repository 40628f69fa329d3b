//! Two stacks over a simulated network: whatever the weather, the streams are equal at the end
//! and every buffer comes back.

use std::net::SocketAddr;
use std::time::Duration;

use xtcp_stack::{Congestion, Ecn, GroupConfig, KeepAlive, Reason, TcpConfig};

use crate::sim::app::{Habit, Stream};
use crate::sim::link::{Weather, any_weather};
use crate::sim::net::Net;
use crate::sim::rng::Rng;
use crate::sim::{
    Memory, RECEIVE_BYTES, config, for_each_seed, ordinary_group, v4, v6, xtcp_group,
};

const PORT: u16 = 7;

/// What a TCP chooses, by seed: half of them as by default.
fn personality(seed: u64) -> (TcpConfig, Congestion) {
    let mut rng = Rng::new(!seed);
    let mut is = |one_in: u64| rng.below(one_in) == 0;
    let congestion = if is(2) { Congestion::Cubic } else { Congestion::NewReno };
    // Nobody is given up: where every fifth exchange of two frames fails, five repetitions of a SYN
    // may all be lost, the more when two of them wait for one neighbour.
    let patient = TcpConfig {
        user_timeout: Duration::from_secs(3_000),
        syn_retries: 20,
        ..TcpConfig::default()
    };
    if is(2) {
        return (patient, congestion);
    }
    let tcp = TcpConfig {
        ecn: if is(2) { Ecn::Ask } else { Ecn::Off },
        sack: !is(3),
        timestamps: !is(3),
        rack: !is(3),
        tail_loss_probe: !is(3),
        duplicate_threshold: if is(4) { 5 } else { 3 },
        hystart: !is(3),
        ..patient
    };
    (tcp, congestion)
}

/// Opens `count` connections, streams in both directions, and waits until all is over.
fn exchange(seed: u64, weather: Weather, server: &GroupConfig, habit: Habit, count: u64) -> u64 {
    let mut memory = [0, 1].map(|n| Memory::for_host(&config(n, n + 1), RECEIVE_BYTES));
    let (tcp, congestion) = personality(seed);
    let client = GroupConfig { congestion, ..ordinary_group(0) };
    let server = GroupConfig { congestion, ..*server };
    let mut net = Net::new(&mut memory, (seed, weather), (tcp, &client, &server), habit);
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
    net.run(Duration::from_secs(36_000));
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

/// Options of a group that no stream may notice.
fn with_any_options(seed: u64, group: GroupConfig) -> GroupConfig {
    let seconds = Duration::from_secs;
    let asks = KeepAlive { idle: seconds(2), interval: seconds(1), probes: 20 };
    let mut rng = Rng::new(seed ^ 0x6772_6f75_7073);
    GroupConfig {
        keep_alive: rng.chance(200_000).then_some(asks),
        hold_limit: if rng.chance(300_000) { 1 + rng.below(9_000) as u32 } else { 0 },
        idle_timeout: if rng.chance(100_000) { seconds(900) } else { Duration::ZERO },
        user_timeout: if rng.chance(300_000) { seconds(600) } else { Duration::ZERO },
        traffic_class: if rng.chance(300_000) { 0xb8 } else { 0 },
        ..group
    }
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

/// Any weather between prompt applications.
pub(crate) fn any(seed: u64) {
    let group = if seed % 2 == 0 { xtcp_group(PORT) } else { ordinary_group(PORT) };
    let group = with_any_options(seed, group);
    exchange(seed, any_weather(seed), &group, Habit::Prompt, 1 + seed % 7);
}

/// Any weather, and an application that leaves things lying.
pub(crate) fn sloppy(seed: u64) {
    let group = if seed % 3 == 0 { ordinary_group(PORT) } else { xtcp_group(PORT) };
    let group = with_any_options(seed, group);
    exchange(seed, any_weather(seed ^ 77), &group, Habit::Sloppy, 1 + seed % 3);
}

#[test]
fn streams_are_equal_in_any_weather() {
    for_each_seed(2_000, any);
}

#[test]
fn a_sloppy_application_loses_nothing() {
    for_each_seed(1_000, sloppy);
}

/// I12.
#[test]
fn a_seed_replays() {
    for_each_seed(8, |seed| {
        let run = || exchange(seed, any_weather(seed), &xtcp_group(PORT), Habit::Sloppy, 3);
        assert_eq!(run(), run());
    });
}

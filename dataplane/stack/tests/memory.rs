//! What memory costs, everything counted.

use xtcp_stack::config::ADDRESSES_MAX;
use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{Config, NetConfig, Stack, TcpConfig, Throttle};

const TEN_MILLION: u32 = 10_000_000;

/// One worker with ten million connections, of which so many can be active at once.
fn config(ipv6_connections_max: u32, active_max: u32) -> Config {
    Config {
        worker: 0,
        mac: MacAddr([2; 6]),
        mtu: 9_000,
        addresses: [None; ADDRESSES_MAX],
        gateway_v4: None,
        gateway_v6: None,
        secret: [0; 32],
        connections_max: TEN_MILLION,
        ipv6_connections_max,
        active_max,
        chunks_max: active_max * 4,
        transmit_bytes: 64 << 20,
        neighbours_max: 4096,
        pools_max: 64,
        groups_max: 1024,
        queues_max: 64,
        net: NetConfig::default(),
        throttle: Throttle::default(),
        tcp: TcpConfig::default(),
    }
}

/// Bytes of all tables, of the smallest buffers that `xtcpd --plan` gives, and of the stack itself,
/// for each connection.
fn bytes_each(config: &Config) -> f64 {
    let buffers = config.transmit_bytes * 2;
    let all = Stack::memory_needed(config) + size_of::<Stack<'_>>() + buffers;
    all as f64 / f64::from(TEN_MILLION)
}

/// The record, the place in the flow table, the IPv6 address, and its part of everything that does not
/// grow with connections: groups, ports, timers, neighbours, reassembly, rations, active records and
/// chunks for those that are not idle at the moment, and the buffers themselves.
#[test]
fn an_idle_connection_costs_at_most_128_bytes() {
    let few = 16_384;
    let (v4, v6) = (bytes_each(&config(1, few)), bytes_each(&config(TEN_MILLION, few)));
    assert!(v6 <= 128.0, "{v6:.1} bytes with IPv6");
    assert!(v4 <= 100.0, "{v4:.1} bytes without");
    // What the page of the crate says is the part that is there for every connection.
    let part = |config: &Config| {
        let none = Config { connections_max: 0, ipv6_connections_max: 0, ..*config };
        let grown = Stack::memory_needed(config) - Stack::memory_needed(&none);
        grown as f64 / f64::from(TEN_MILLION)
    };
    assert!((71.0..71.2).contains(&part(&config(0, few))), "{}", part(&config(0, few)));
    let with_address = part(&config(TEN_MILLION, few));
    assert!((87.0..87.2).contains(&with_address), "{with_address}");
}

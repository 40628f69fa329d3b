//! The command line as each worker's stack is told it.

use core::net::{IpAddr, Ipv6Addr};

use xtcp_stack::config::{ADDRESSES_MAX, Address, Config};
use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{NetConfig, Stack};

use crate::cli::CommandLine;

/// What worker number `worker`'s stack is told.
pub(crate) fn config(line: &CommandLine, worker: usize, mac: MacAddr, secret: [u8; 32]) -> Config {
    let options = &line.options;
    let gateways = || options.gateway.iter();
    let connections = options.connections;
    let active = options.active.unwrap_or_else(|| (connections / 4).max(1024));
    let chunks = options.chunks.unwrap_or_else(|| active.saturating_mul(4));
    let workers = u32::try_from(line.workers()).unwrap_or(u32::MAX);
    let share = |total: u32| share(total, workers);
    Config {
        worker: u8::try_from(worker).unwrap_or(u8::MAX),
        mac,
        mtu: options.mtu,
        addresses: addresses(&options.ip, mac),
        gateway_v4: gateways().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        }),
        gateway_v6: gateways().find_map(|ip| match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(*ip),
        }),
        secret,
        connections_max: share(connections),
        ipv6_connections_max: share(options.ipv6_connections.unwrap_or(connections)),
        active_max: share(active.min(connections)).max(64),
        chunks_max: share(chunks).max(256),
        transmit_bytes: transmit_bytes(options.transmit_bytes, line.workers()),
        neighbours_max: options.neighbours,
        pools_max: options.pools,
        groups_max: options.groups,
        queues_max: options.pools,
        throttle: line.throttle,
        net: net(line.net, line.workers()),
        tcp: line.tcp,
    }
}

/// What is below TCP. Fragments say no ports and all go to one worker: put together there, the
/// segment would be a stranger's to it, and be reset, if another has its connection.
fn net(given: NetConfig, workers: usize) -> NetConfig {
    let reassemblies_max = if workers > 1 { 0 } else { given.reassemblies_max };
    NetConfig { reassemblies_max, ..given }
}

/// A worker's part of `total` things that a hash spreads: an eighth more than its even share.
fn share(total: u32, workers: u32) -> u32 {
    match workers {
        0 | 1 => total,
        _ => {
            let even = total.div_ceil(workers);
            even.saturating_add(even / 8 + 16).min(total)
        }
    }
}

/// A worker's part of the transmit buffer: whole pages.
fn transmit_bytes(total: u64, workers: usize) -> usize {
    let part = total / workers.max(1) as u64;
    usize::try_from(part.max(1 << 16)).unwrap_or(usize::MAX) & !4095
}

/// The addresses given, and the link-local one that every IPv6 node has (RFC 4291 section 2.8).
fn addresses(given: &[Address], mac: MacAddr) -> [Option<Address>; ADDRESSES_MAX] {
    let is_v6 = |address: &Address| address.ip.is_ipv6();
    let is_link_local =
        |address: &Address| matches!(address.ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let mut all = given.to_vec();
    if given.iter().any(is_v6) && !given.iter().any(is_link_local) {
        let [a, b, c, d, e, f] = mac.0;
        let half = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        let ip = Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(half));
        all.push(Address { ip: IpAddr::V6(ip), prefix_len: 64 });
    }
    let mut places = [None; ADDRESSES_MAX];
    for (place, address) in places.iter_mut().zip(all) {
        *place = Some(address);
    }
    places
}

/// Bytes of a worker's tables, whole pages.
pub(crate) fn tables_bytes(config: &Config) -> usize {
    Stack::memory_needed(config).next_multiple_of(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str) -> CommandLine {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        crate::cli::parse(&words).unwrap()
    }

    #[test]
    fn workers_share_what_is_given_with_some_to_spare() {
        let line = line("-l 0-2 -- --ip 10.0.0.1/8 --connections 1000 --transmit-bytes 1M");
        let config = config(&line, 1, MacAddr([2; 6]), [0; 32]);
        assert_eq!(config.worker, 1);
        assert_eq!(config.connections_max, 500 + 62 + 16);
        assert_eq!(config.transmit_bytes, 512 << 10);
        assert_eq!(share(1000, 1), 1000);
        assert_eq!(share(3, 2), 3);
        assert_eq!(share(u32::MAX, 2), (1 << 31) + (1 << 28) + 16);
    }

    #[test]
    fn an_ipv6_port_has_a_link_local_address() {
        let line = line("-- --ip 10.0.0.1/8 --ip fd77::2/64 --gateway fd77::1");
        let config = config(&line, 0, MacAddr([0x52, 0x54, 0, 1, 2, 3]), [0; 32]);
        let all: Vec<String> =
            config.addresses.iter().flatten().map(|address| address.ip.to_string()).collect();
        assert_eq!(all, ["10.0.0.1", "fd77::2", "fe80::5054:ff:fe01:203"]);
        assert_eq!(config.gateway_v6, Some("fd77::1".parse().unwrap()));
        assert_eq!(config.gateway_v4, None);
        let v4_only = addresses(&line.options.ip[..1], MacAddr([2; 6]));
        assert_eq!(v4_only.iter().flatten().count(), 1);
    }
}

//! How little memory there is, and how the stack and its groups are set up.

use std::net::IpAddr;
use std::time::Duration;

use xtcp_stack::config::{ADDRESSES_MAX, Address, Config, TcpConfig};
use xtcp_stack::{
    Accept, Acknowledge, Congestion, Ecn, Family, GroupConfig, KeepAlive, NetConfig, SynCookies,
    Throttle,
};

use super::choices::Choices;
use super::{OUR_MAC, OUR_V4, OUR_V6, PORTS};

pub(super) const RECEIVE_BYTES: usize = 20 << 10;

const KEEP_ALIVE: KeepAlive =
    KeepAlive { idle: Duration::from_secs(30), interval: Duration::from_secs(5), probes: 3 };

/// How little memory there is, and what is done before it runs out.
pub(super) struct Scarcity {
    pub(super) receive_bytes: usize,
    pub(super) chunks_max: u32,
    pub(super) throttle: Throttle,
    /// Whether there is another pool.
    pub(super) has_neighbour: bool,
    pub(super) tcp: TcpConfig,
    pub(super) reassemblies_max: u16,
    /// Congestion control of every other group.
    pub(super) congestion: Congestion,
}

impl Scarcity {
    pub(super) fn choose(choices: &mut Choices<'_>) -> Self {
        let receive_bytes = [RECEIVE_BYTES, RECEIVE_BYTES, 12 << 10, 8 << 10][choices.below(4)];
        let [shrink_below, withhold_below, hide_below] =
            [[50, 20, 10], [0, 0, 0], [90, 70, 50], [100, 100, 30]][choices.below(4)];
        let pool_share = [50, 90][choices.below(2)];
        Self {
            receive_bytes,
            chunks_max: [64, 64, 20][choices.below(3)],
            throttle: Throttle { shrink_below, withhold_below, hide_below, pool_share },
            has_neighbour: choices.below(2) == 0,
            tcp: personality(choices),
            reassemblies_max: [64, 2][choices.below(2)],
            congestion: [Congestion::NewReno, Congestion::Cubic][choices.below(2)],
        }
    }
}

/// What a TCP chooses.
fn personality(choices: &mut Choices<'_>) -> TcpConfig {
    TcpConfig {
        half_open_max: 6,
        send_queue_max: 12_000,
        ecn: [Ecn::Accept, Ecn::Ask][choices.below(2)],
        rack: choices.below(4) != 0,
        tail_loss_probe: choices.below(4) != 0,
        resets_per_second: [1000, 2][choices.below(2)],
        syns_per_second: [0, 0, 0, 3][choices.below(4)],
        delayed_ack_segments: [2, 2, 1, 5][choices.below(4)],
        quick_acks: [0, 0, 3][choices.below(3)],
        syn_cookies: [SynCookies::WhenFull, SynCookies::WhenFull, SynCookies::Never]
            [choices.below(3)],
        hystart: choices.below(4) != 0,
        ..TcpConfig::default()
    }
}

pub(super) fn config(scarcity: &Scarcity) -> Config {
    let mut addresses = [None; ADDRESSES_MAX];
    addresses[0] = Some(Address { ip: IpAddr::V4(OUR_V4), prefix_len: 24 });
    addresses[1] = Some(Address { ip: IpAddr::V6(OUR_V6), prefix_len: 64 });
    Config {
        worker: 3,
        mac: OUR_MAC,
        mtu: 1500,
        addresses,
        gateway_v4: None,
        gateway_v6: None,
        secret: [7; 32],
        connections_max: 14,
        ipv6_connections_max: 6,
        active_max: 12,
        chunks_max: scarcity.chunks_max,
        transmit_bytes: 32 << 10,
        neighbours_max: 16,
        pools_max: 4,
        groups_max: 6,
        queues_max: 2,
        throttle: scarcity.throttle,
        net: NetConfig { reassemblies_max: scarcity.reassemblies_max, ..NetConfig::default() },
        tcp: scarcity.tcp,
    }
}

pub(super) fn group_config(at: usize, congestion: Congestion) -> GroupConfig {
    let by_application = Accept::ByApplication { timeout: Duration::from_secs(2) };
    let (accept, deadline) = match at {
        0 => (by_application, Some(Duration::ZERO)),
        1 => (Accept::Automatic, None),
        2 => (Accept::Automatic, Some(Duration::from_millis(70))),
        _ => (by_application, None),
    };
    let acknowledge = match deadline {
        Some(deadline) => Acknowledge::ByApplication { deadline },
        None => Acknowledge::OnReceive,
    };
    let window_max = [20_000, 1 << 18, 3000, u32::MAX][at];
    GroupConfig {
        port: PORTS[at],
        family: Family::Dual,
        accept,
        acknowledge,
        window_max,
        nagle: at != 1,
        congestion: if at % 2 == 0 { Congestion::NewReno } else { congestion },
        priority: [1, 3, 0, 2][at],
        hold_limit: if at == 0 { 4000 } else { 0 },
        keep_alive: (at == 1).then_some(KEEP_ALIVE),
        idle_timeout: if at == 2 { Duration::from_secs(20) } else { Duration::ZERO },
        user_timeout: if at == 3 { Duration::from_secs(30) } else { Duration::ZERO },
        ..GroupConfig::default()
    }
}

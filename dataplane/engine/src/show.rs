//! Tables for people: of ports, workers, pools, groups, connections and counters.

use serde_json::Value;
use xtcp_ring::message::{self, Row, Topic};
use xtcp_stack::ConnectionInfo;
use xtcp_stack::handle::Gd;
use xtcp_stack::wire::ethernet::MacAddr;

use crate::endpoints::{Endpoint, Group};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ports::own_mac;
use crate::spread::SpreadBy;
use crate::stats::{Snapshot, counter_rows, percent, row};

/// Rows shown when nobody says how many.
const LIMIT: usize = 10_000;

/// One table of what there is; `limit` rows at most, 0 for as many as go.
pub(crate) fn rows(engine: &Engine, topic: Topic, limit: u32) -> Result<Vec<Row>, EngineError> {
    let limit = match usize::try_from(limit) {
        Ok(limit @ 1..=LIMIT) => limit,
        _ => LIMIT,
    };
    let mut rows = match topic {
        Topic::Pools => pools(engine, &engine.snapshots()?),
        Topic::Groups => groups(engine, &engine.snapshots()?),
        Topic::Connections => {
            engine.connections(limit)?.iter().map(|info| connection(engine, info)).collect()
        }
        Topic::Ports => vec![port(engine)?],
        Topic::Workers => workers(engine, &engine.snapshots()?),
        Topic::Counters => counter_rows(&engine.snapshots()?),
    };
    rows.truncate(limit);
    Ok(rows)
}

fn pools(engine: &Engine, snapshots: &[Snapshot]) -> Vec<Row> {
    let of_endpoint = |endpoint: &Endpoint| {
        let record = &endpoint.record;
        let figures = || {
            snapshots.iter().zip(&endpoint.pools).flat_map(|(snapshot, pool)| {
                snapshot.pools.iter().filter(|info| info.pool == *pool)
            })
        };
        let groups =
            engine.groups().filter(|group| group.record.endpoint == record.endpoint).count();
        row([
            ("pool", record.pool.into()),
            ("application", record.application.clone().into()),
            ("pid", record.pid.into()),
            ("endpoint", record.endpoint.into()),
            ("waits for a successor (ms)", {
                endpoint.waits_until().map_or(Value::Null, |until| {
                    until
                        .since(engine.clock.now())
                        .as_millis()
                        .try_into()
                        .unwrap_or(u64::MAX)
                        .into()
                })
            }),
            ("groups", groups.into()),
            ("connections", figures().map(|info| u64::from(info.connections)).sum::<u64>().into()),
            ("receive (bytes)", record.receive_bytes.into()),
            ("receive for payload (bytes)", {
                figures().map(|info| info.receive_bytes).sum::<usize>().into()
            }),
            ("receive used (bytes)", figures().map(|info| info.receive_used).sum::<usize>().into()),
        ])
    };
    engine.endpoints().map(of_endpoint).collect()
}

fn groups(engine: &Engine, snapshots: &[Snapshot]) -> Vec<Row> {
    let of_group = |group: &Group| {
        let record = &group.record;
        let options = &record.options;
        let sum = |figure: fn(&xtcp_stack::GroupInfo) -> u64| -> u64 {
            let at_workers = snapshots.iter().zip(&group.at_workers);
            let infos = at_workers
                .flat_map(|(snapshot, gd)| snapshot.groups.iter().filter(|info| info.group == *gd));
            infos.map(figure).sum()
        };
        row([
            ("gd", format!("{:?}", Gd::from_bits(record.gd)).into()),
            ("group", options.name.clone().into()),
            ("endpoint", record.endpoint.into()),
            ("port", options.port.into()),
            ("family", format!("{:?}", options.family).to_lowercase().into()),
            ("accept", accept(options.accept).into()),
            ("acknowledge", acknowledge(options.acknowledge).into()),
            ("window max (bytes)", options.window_max.into()),
            ("connections", sum(|info| info.connections.into()).into()),
            ("accepted", sum(|info| info.accepted).into()),
            ("received (bytes)", sum(|info| info.bytes_in).into()),
            ("sent (bytes)", sum(|info| info.bytes_out).into()),
        ])
    };
    engine.groups().map(of_group).collect()
}

fn accept(accept: message::Accept) -> String {
    match accept {
        message::Accept::Automatic => "automatic".to_owned(),
        message::Accept::ByApplication { timeout_ms: 0 } => "application".to_owned(),
        message::Accept::ByApplication { timeout_ms } => {
            format!("application, within {timeout_ms} ms")
        }
    }
}

fn acknowledge(acknowledge: message::Acknowledge) -> String {
    match acknowledge {
        message::Acknowledge::OnReceive => "on receive".to_owned(),
        message::Acknowledge::ByApplication { deadline_ms: 0 } => "application".to_owned(),
        message::Acknowledge::ByApplication { deadline_ms } => {
            format!("application, or after {deadline_ms} ms")
        }
    }
}

fn connection(engine: &Engine, info: &ConnectionInfo) -> Row {
    // The modes echo and answer have a group that no application knows; and what is left of a
    // closed group has a name no more.
    let gd = match engine.group_of(usize::from(info.connection.worker()), info.group) {
        Some(group) => Value::from(format!("{:?}", Gd::from_bits(group.record.gd))),
        None => Value::Null,
    };
    row([
        ("cd", format!("{:?}", info.connection).into()),
        ("gd", gd),
        ("remote", info.remote.to_string().into()),
        ("local", info.local.to_string().into()),
        ("state", info.state.to_string().into()),
        ("active", info.active.into()),
        ("unread (bytes)", info.unread.into()),
        ("unsent (bytes)", info.unsent.into()),
        ("srtt (us)", info.srtt_us.into()),
        ("cwnd (bytes)", info.cwnd.into()),
    ])
}

/// The connection as messages have it.
pub(crate) fn described(info: &ConnectionInfo, gd: u32) -> message::ConnectionInfo {
    message::ConnectionInfo {
        cd: info.connection.to_bits(),
        gd,
        remote: info.remote,
        local: info.local,
        state: info.state.to_string(),
    }
}

fn port(engine: &Engine) -> Result<Row, EngineError> {
    let port = engine.port();
    let (info, stats) = (port.info()?, port.stats()?);
    let (rxd, txd) = port.descriptors();
    let mac = MacAddr(own_mac(&info)).to_string();
    Ok(row([
        ("port", info.id.into()),
        ("device", info.name.into()),
        ("driver", info.driver.into()),
        ("mac", mac.into()),
        ("link", if info.link.up { "up" } else { "down" }.into()),
        ("speed (Mb/s)", info.link.mbps.map_or(Value::Null, Value::from)),
        ("mtu (bytes)", engine.line.options.mtu.into()),
        ("spread by", spread_name(engine.by).into()),
        ("rx descriptors", rxd.into()),
        ("tx descriptors", txd.into()),
        ("rx frames", stats.rx_frames.into()),
        ("rx bytes", stats.rx_bytes.into()),
        ("tx frames", stats.tx_frames.into()),
        ("tx bytes", stats.tx_bytes.into()),
        ("rx missed", stats.rx_missed.into()),
        ("rx errors", stats.rx_errors.into()),
        ("rx no mbuf", stats.rx_no_mbuf.into()),
        ("tx errors", stats.tx_errors.into()),
    ]))
}

pub(crate) const fn spread_name(by: SpreadBy) -> &'static str {
    match by {
        SpreadBy::Device => "device (RSS)",
        SpreadBy::Workers => "workers",
    }
}

fn workers(engine: &Engine, snapshots: &[Snapshot]) -> Vec<Row> {
    let (tables, _) = engine.table_bytes;
    let of_worker = |snapshot: &Snapshot| {
        let (counters, usage) = (&snapshot.counters, &snapshot.usage);
        let core = engine.line.worker_cores.get(snapshot.worker);
        let busy = percent(counters.busy_ticks, counters.busy_ticks + counters.idle_ticks);
        row([
            ("worker", snapshot.worker.into()),
            ("core", core.map_or(Value::Null, |core| Value::from(*core))),
            ("busy (%)", busy.into()),
            ("connections", usage.connections.into()),
            ("time-wait", usage.time_wait.into()),
            ("half open", usage.half_open.into()),
            ("active", usage.active.into()),
            ("chunks", usage.chunks.into()),
            ("tables (bytes)", tables.into()),
            ("transmit (bytes)", usage.transmit_bytes.into()),
            ("transmit used (bytes)", usage.transmit_used.into()),
            ("rx frames", counters.rx_frames.into()),
            ("tx frames", counters.tx.frames.into()),
            ("handed over", counters.exchange.handed_over.into()),
            ("taken over", counters.exchange.received.into()),
        ])
    };
    snapshots.iter().map(of_worker).collect()
}

//! Tables for people: of ports, workers, pools, groups, connections and counters.

use serde_json::Value;
use xtcp_ring::message::{self, Drain, GroupOptions, Notify, Row, Topic};
use xtcp_stack::handle::Gd;
use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{ConnectionInfo, GroupCounts, GroupInfo, PoolInfo};

use crate::engine::{Departure, Endpoint, Engine, Group, Presence};
use crate::error::EngineError;
use crate::ports::{mbuf_room, own_mac};
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
        Topic::GroupCounters => group_counters(engine, &engine.snapshots()?),
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
    engine.endpoints().map(|endpoint| pool(engine, snapshots, endpoint)).collect()
}

/// All that a pool has, of its own and of what all share. Sums over the workers; each has its part.
fn pool(engine: &Engine, snapshots: &[Snapshot], endpoint: &Endpoint) -> Row {
    let record = &endpoint.record;
    let at_workers: Vec<&PoolInfo> = snapshots
        .iter()
        .zip(&endpoint.pools)
        .flat_map(|(snapshot, pool)| snapshot.pools.iter().filter(|info| info.pool == *pool))
        .collect();
    let sum = |figure: fn(&PoolInfo) -> u64| -> Value {
        at_workers.iter().map(|info| figure(info)).sum::<u64>().into()
    };
    let groups = engine.groups().filter(|group| group.record.endpoint == record.endpoint).count();
    let level = at_workers.iter().map(|info| info.level).max_by_key(|level| *level as u8);
    let waits_ms = endpoint.waits_until().map_or(Value::Null, |until| {
        u64::try_from(until.since(engine.clock.now()).as_millis()).unwrap_or(u64::MAX).into()
    });
    row([
        ("pool", record.pool.into()),
        ("application", record.application.clone().into()),
        ("pid", record.pid.into()),
        ("endpoint", record.endpoint.into()),
        ("state", state(endpoint).into()),
        ("waits for a successor (ms)", waits_ms),
        ("throttle", level.unwrap_or_default().name().into()),
        ("groups", groups.into()),
        ("connections", sum(|info| info.connections.into())),
        ("connections most", sum(|info| info.connections_most.into())),
        ("half open", sum(|info| info.half_open.into())),
        ("half open most", sum(|info| info.half_open_most.into())),
        ("ipv6 addresses", sum(|info| info.ipv6_addresses.into())),
        ("ipv6 addresses most", sum(|info| info.ipv6_addresses_most.into())),
        ("active", sum(|info| info.active.into())),
        ("active most", sum(|info| info.active_most.into())),
        ("chunks", sum(|info| info.chunks.into())),
        ("chunks most", sum(|info| info.chunks_most.into())),
        ("receive (bytes)", record.receive_bytes.into()),
        ("receive for payload (bytes)", sum(|info| info.receive_bytes as u64)),
        ("receive used (bytes)", sum(|info| info.receive_used as u64)),
        ("receive payload (bytes)", sum(|info| info.receive_payload as u64)),
        ("receive free (bytes)", sum(|info| info.receive_free as u64)),
        ("transmit used (bytes)", sum(|info| info.transmit_used as u64)),
        ("transmit payload (bytes)", sum(|info| info.transmit_payload as u64)),
        ("transmit most (bytes)", sum(|info| info.transmit_most as u64)),
        ("transmit free (bytes)", sum(|info| info.transmit_free as u64)),
        ("wait for room", sum(|info| info.waiting.into())),
        ("windows shrunk", sum(|info| info.windows_shrunk)),
        ("acks withheld", sum(|info| info.acks_withheld)),
        ("text hidden", sum(|info| info.text_hidden)),
    ])
}

/// Whether an application is there, and why not.
fn state(endpoint: &Endpoint) -> String {
    match &endpoint.presence {
        Presence::Here(_) => "attached".to_owned(),
        Presence::Gone { why: Departure::Died, .. } => "gone".to_owned(),
        Presence::Gone { why: Departure::Lied(lie), .. } => format!("cut off: {lie}"),
    }
}

fn groups(engine: &Engine, snapshots: &[Snapshot]) -> Vec<Row> {
    let of_group = |group: &Group| {
        let record = &group.record;
        let options = &record.options;
        let counts = counts(group, snapshots);
        let connections = at_workers(group, snapshots).map(|info| u64::from(info.connections));
        row([
            ("gd", format!("{:?}", Gd::from_bits(record.gd)).into()),
            ("group", options.name.clone().into()),
            ("application", application(engine, record.endpoint).into()),
            ("port", options.port.into()),
            ("addresses", addresses(options).into()),
            ("weight", options.weight.into()),
            ("priority", options.priority.into()),
            ("accept", accept(options.accept).into()),
            ("acknowledge", acknowledge(options).into()),
            ("notify", notify(options.notify).into()),
            ("window max (bytes)", options.window_max.into()),
            ("drain", group.drain.map_or(Value::Null, |drain| drained(drain).into())),
            ("connections", connections.sum::<u64>().into()),
            ("accepted", counts.accepted.into()),
            ("requests", counts.requests.into()),
            ("received (bytes)", counts.bytes_in.into()),
            ("sent (bytes)", counts.bytes_out.into()),
        ])
    };
    engine.groups().map(of_group).collect()
}

/// A group's figures at each worker.
fn at_workers<'a>(
    group: &'a Group,
    snapshots: &'a [Snapshot],
) -> impl Iterator<Item = &'a GroupInfo> {
    let at_workers = snapshots.iter().zip(&group.at_workers);
    at_workers.flat_map(|(snapshot, gd)| snapshot.groups.iter().filter(|info| info.group == *gd))
}

/// What all workers together have counted of a group.
fn counts(group: &Group, snapshots: &[Snapshot]) -> GroupCounts {
    let mut counts = GroupCounts::default();
    at_workers(group, snapshots).for_each(|info| counts += info.counts);
    counts
}

/// A row for each counter of each group.
fn group_counters(engine: &Engine, snapshots: &[Snapshot]) -> Vec<Row> {
    let of_group = |group: &Group| {
        let record = &group.record;
        let application = application(engine, record.endpoint);
        let of_counter = |(counter, meaning, count): (&str, &str, u64)| {
            row([
                ("application", application.clone().into()),
                ("group", record.options.name.clone().into()),
                ("counter", counter.into()),
                ("all", count.into()),
                ("meaning", meaning.into()),
            ])
        };
        counts(group, snapshots).rows().map(of_counter).collect::<Vec<_>>()
    };
    engine.groups().flat_map(of_group).collect()
}

fn application(engine: &Engine, endpoint: u16) -> String {
    let endpoint = engine.endpoints.get(&endpoint);
    endpoint.map_or_else(String::new, |endpoint| endpoint.record.application.clone())
}

/// Where a group listens.
fn addresses(options: &GroupOptions) -> String {
    if options.addresses.is_empty() {
        return format!("all of {:?}", options.family).to_lowercase();
    }
    options.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn notify(notify: Notify) -> String {
    match notify {
        Notify { requests: 0 | 1, .. } => "at once".to_owned(),
        Notify { requests, micros } => format!("{requests} requests, or after {micros} us"),
    }
}

fn drained(drain: Drain) -> String {
    let manner = match drain.manner {
        message::Manner::WhenIdle => "when idle",
        message::Manner::Close => "close",
        message::Manner::Reset => "reset",
    };
    match drain.per_second {
        0 => manner.to_owned(),
        rate => format!("{manner}, {rate}/s"),
    }
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

fn acknowledge(options: &GroupOptions) -> String {
    let deadline_ms = match options.acknowledge {
        message::Acknowledge::OnReceive => return "on receive".to_owned(),
        message::Acknowledge::ByApplication { deadline_ms } => deadline_ms,
    };
    let mut text = "application".to_owned();
    if deadline_ms > 0 {
        text += &format!(", or after {deadline_ms} ms");
    }
    if options.hold_limit > 0 {
        text += &format!(", or beyond {} bytes", options.hold_limit);
    }
    text
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
        ("link downs", engine.link_downs.into()),
        ("spread by", spread_name(engine.by).into()),
        ("rx checksums", engine.offloads.received.to_string().into()),
        ("tx checksums", engine.offloads.sent.to_string().into()),
        ("mbuf (bytes)", mbuf_room(&engine.line.options).into()),
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
            ("pools", usage.pools.into()),
            ("groups", usage.groups.into()),
            ("connections", usage.connections.into()),
            ("connections max", usage.connections_max.into()),
            ("time-wait", usage.time_wait.into()),
            ("half open", usage.half_open.into()),
            ("half open max", usage.half_open_max.into()),
            ("ipv6 addresses", usage.ipv6_addresses.into()),
            ("ipv6 addresses max", usage.ipv6_addresses_max.into()),
            ("active", usage.active.into()),
            ("active max", usage.active_max.into()),
            ("chunks", usage.chunks.into()),
            ("chunks max", usage.chunks_max.into()),
            ("tables (bytes)", tables.into()),
            ("transmit (bytes)", usage.transmit_bytes.into()),
            ("transmit used (bytes)", usage.transmit_used.into()),
            ("transmit payload (bytes)", usage.transmit_payload.into()),
            ("mbufs free", snapshot.frames_free.into()),
            ("rx frames", counters.rx_frames.into()),
            ("tx frames", counters.tx.frames.into()),
            ("handed over", counters.exchange.handed_over.into()),
            ("taken over", counters.exchange.received.into()),
        ])
    };
    snapshots.iter().map(of_worker).collect()
}

//! Every table full, and what then still works.

use std::time::Duration;

use xtcp_stack::{Config, GroupConfig, Misuse, QueueId, Stop, SynCookies, TcpConfig, Throttle};

use super::{NOTHING, PORT, client, ordinary, xtcp};
use crate::sim::peer::{ack, data, fin, rst, syn};
use crate::sim::{Memory, config, ordinary_group, xtcp_group};

/// Bad input 85.
#[test]
fn handshakes_under_way_are_bounded() {
    let syn_cookies = SynCookies::Never;
    let tcp = TcpConfig { half_open_max: 10, syn_retries: 1, syn_cookies, ..TcpConfig::default() };
    client(&Config { tcp, ..config(0, 2) }, 1 << 20, &ordinary_group(PORT), |peer| {
        for n in 0..3000 {
            peer.use_port(1000 + n);
            assert_eq!(peer.give(syn()).len(), usize::from(n < 10));
        }
        assert_eq!(peer.host.stack.usage().half_open, 10);
        peer.wait(Duration::from_secs(10));
        peer.host.assert_nothing_held();
        peer.use_port(999);
        peer.open();
    });
}

/// Design law 5: clients that come do not keep those out who are there.
#[test]
fn handshakes_leave_active_records_for_open_connections() {
    let config = Config { active_max: 32, ..config(0, 2) };
    client(&config, 1 << 20, &ordinary_group(PORT), |peer| {
        peer.open();
        for n in 0..100 {
            peer.use_port(5000 + n);
            peer.give(syn());
        }
        let usage = peer.host.stack.usage();
        assert!(usage.half_open >= 16 && usage.active < 32, "{usage:?}");
        peer.use_port(4000);
        peer.give(data(1, 1, b"still here"));
        assert_eq!(peer.events(), ["data 0+10 still here"]);
    });
}

#[test]
fn with_no_active_record_left_segments_wait_for_one() {
    let config = Config { active_max: 8, ..config(0, 2) };
    client(&config, 1 << 20, &xtcp_group(PORT), |peer| {
        let mut held = Vec::new();
        for n in 0..10 {
            peer.use_port(5000 + n);
            peer.open();
        }
        for n in 0..10 {
            peer.use_port(5000 + n);
            peer.give(data(1, 0, b"request").acking(1));
            if !peer.events().is_empty() {
                held.push(peer.cd());
            }
        }
        assert_eq!(held.len(), 7, "the last eighth is for those who come and go");
        assert!(peer.host.stack.counters().stopped(Stop::ActiveFull) >= 2);
        let (group, now) = (peer.host.group, peer.now);
        peer.host.stack.commit(group, held[0], 7, false, now).expect("given");
        peer.use_port(5000);
        assert_eq!(peer.turn().len(), 1);
        peer.use_port(5009);
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"], "sent again, it finds room");
    });
}

/// Not even an abort needs a record.
#[test]
fn a_group_closes_with_no_active_record_left() {
    let config = Config { active_max: 8, ..config(0, 2) };
    client(&config, 1 << 20, &xtcp_group(PORT), |peer| {
        for n in 0..20 {
            peer.use_port(5000 + n);
            peer.open();
        }
        for n in 0..8 {
            peer.use_port(5000 + n);
            peer.give(data(1, 1, b"request"));
        }
        let (group, now) = (peer.host.group, peer.now);
        peer.room = Some(0);
        peer.host.stack.close_group(group, now).expect("open");
        assert_eq!(peer.events(), NOTHING, "a closed group tells nothing");
        peer.room = None;
        for n in 0..20 {
            peer.use_port(5000 + n);
        }
        let pool = peer.host.pool;
        let again = peer.host.stack.open_group(pool, QueueId(0), &xtcp_group(PORT)).expect("room");
        assert_eq!(again.index(), group.index(), "the same place, so that all workers agree");
        assert_eq!(again.generation(), group.generation() + 1);
    });
}

#[test]
fn a_closed_group_resets_its_clients_and_holds_nothing() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        let (group, connection, now) = (peer.host.group, peer.cd(), peer.now);
        peer.host.stack.close_group(group, now).expect("open");
        assert_eq!(peer.turn(), ["RA 1+0 ack 1"]);
        assert_eq!(peer.events(), NOTHING);
        peer.host.assert_nothing_held();
        let stale = peer.host.stack.commit(group, connection, 7, false, now);
        assert_eq!(stale, Err(Misuse::StaleGroup));
        assert_eq!(peer.give(syn()).len(), 1, "nobody listens");
    });
}

/// TIME-WAIT is nobody's: it keeps no group and no pool from being opened again.
#[test]
fn connections_in_time_wait_are_no_groups() {
    ordinary(|peer| {
        peer.open();
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
        assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"]);
        assert_eq!(peer.events(), ["closed Closed held 0"]);
        let (group, now) = (peer.host.group, peer.now);
        assert_eq!(peer.host.stack.groups().next().map(|g| g.connections), Some(0));
        peer.host.stack.close_group(group, now).expect("open");
        let pool = peer.host.pool;
        let again = peer.host.stack.open_group(pool, QueueId(0), &ordinary_group(PORT));
        assert_eq!(again.map(|gd| gd.index()), Ok(group.index()));
        assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"]);
        peer.wait(Duration::from_secs(61));
        peer.host.assert_nothing_held();
    });
}

/// Two pools on one queue: closing one leaves the other's events alone.
#[test]
fn closing_a_pool_forgets_its_own_events_only() {
    let mut more = Memory::new(1 << 20);
    let config = config(0, 2);
    let mut memory = Memory::for_host(&config, 1 << 20);
    let mut peer = crate::sim::peer::Peer::new(&mut memory, &config, &xtcp_group(PORT));
    let other = peer.host.stack.open_pool(more.aligned()).expect("room");
    peer.host.stack.open_group(other, QueueId(0), &ordinary_group(PORT + 1)).expect("room");
    peer.call(PORT + 1);
    assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
    peer.give(data(1, 1, b"keep"));
    peer.call(PORT);
    peer.use_port(4001);
    peer.give(syn());
    let (pool, now) = (peer.host.pool, peer.now);
    assert!(peer.host.stack.close_pool(pool, now).is_some());
    peer.host.pool = other;
    assert_eq!(peer.events(), ["opened", "data 0+4 keep"]);
}

#[test]
fn a_full_transmit_ring_loses_nothing() {
    ordinary(|peer| {
        peer.open();
        peer.send(&[b'x'; 3 * 1460]);
        peer.room = Some(1);
        assert_eq!(peer.turn(), ["A 1+1460 ack 1"]);
        peer.room = Some(0);
        assert_eq!(peer.turn(), NOTHING);
        peer.room = None;
        assert_eq!(peer.turn(), ["A 1461+1460 ack 1", "PA 2921+1460 ack 1"]);
    });
}

#[test]
fn a_full_transmit_buffer_refuses_whole_and_recovers() {
    let config = Config { transmit_bytes: 16 << 10, ..config(0, 2) };
    client(&config, 1 << 20, &ordinary_group(PORT), |peer| {
        peer.open();
        let (group, connection, now) = (peer.host.group, peer.cd(), peer.now);
        let much = [b'x'; 20_000];
        let refused = peer.host.stack.send(group, connection, much.as_slice(), now);
        assert_eq!(refused, Err(Misuse::NoBuffer));
        assert_eq!(peer.host.stack.usage().chunks, 0, "nothing of it is kept");
        peer.send(&much[..10_000]);
        let refused = peer.host.stack.send(group, connection, &much[..5_000], now);
        assert_eq!(refused, Err(Misuse::NoBuffer));
        assert_eq!(peer.turn().len(), 6);
        assert_eq!(peer.give(ack(1, 8761)).len(), 1);
        peer.give(ack(1, 10_001));
        peer.send(&much[..5_000]);
    });
}

#[test]
fn a_send_queue_has_an_end() {
    let tcp = TcpConfig { send_queue_max: 1000, ..TcpConfig::default() };
    client(&Config { tcp, ..config(0, 2) }, 1 << 20, &ordinary_group(PORT), |peer| {
        peer.open();
        peer.send(&[b'x'; 1000]);
        let (group, connection, now) = (peer.host.group, peer.cd(), peer.now);
        let refused = peer.host.stack.send(group, connection, b"y".as_slice(), now);
        assert_eq!(refused, Err(Misuse::SendQueueFull));
        peer.turn();
        peer.give(ack(1, 1001));
        peer.send(b"y");
    });
}

/// A pool that is full takes nothing, keeps what it has acknowledged, and recovers.
#[test]
fn a_full_receive_buffer_recovers() {
    let group = GroupConfig { window_max: 1 << 20, ..xtcp_group(PORT) };
    let throttle = Throttle { shrink_below: 0, withhold_below: 0, hide_below: 0, pool_share: 0 };
    client(&Config { throttle, ..config(0, 2) }, 32 << 10, &group, |peer| {
        let mut full = Vec::new();
        for n in 0..12 {
            peer.use_port(5000 + n);
            peer.open();
        }
        for n in 0..12 {
            peer.use_port(5000 + n);
            peer.give(data(1, 1, &[b'x'; 1460]));
            peer.give(data(1461, 1, &[b'x'; 1460]));
            if !peer.events().is_empty() {
                full.push(peer.cd());
            }
        }
        assert!(peer.host.stack.counters().stopped(Stop::ReceiveBufferFull) > 0);
        let (group, now) = (peer.host.group, peer.now);
        for connection in full {
            peer.host.stack.abort(group, connection, now).expect("open");
        }
        for n in 0..12 {
            peer.use_port(5000 + n);
        }
        let mut wire = crate::sim::Wire::default();
        peer.host.flush(&mut wire, now);
        peer.events();
        peer.use_port(4000);
        peer.open();
        peer.give(data(1, 1, b"room again"));
        assert_eq!(peer.events().last().map(String::as_str), Some("data 0+10 room again"));
    });
}

/// N15: TIME-WAIT makes way.
#[test]
fn time_wait_makes_way_for_new_clients() {
    let config = Config { connections_max: 16, ..config(0, 2) };
    client(&config, 1 << 20, &ordinary_group(PORT), |peer| {
        for n in 0..100 {
            peer.use_port(5000 + n);
            peer.open();
            peer.close();
            assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
            assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"]);
            assert_eq!(peer.events(), ["closed Closed held 0"]);
        }
        assert_eq!(peer.host.stack.usage().time_wait, 16);
    });
}

#[test]
fn a_full_connection_table_turns_clients_away_and_recovers() {
    let config = Config { connections_max: 4, ..config(0, 2) };
    client(&config, 1 << 20, &ordinary_group(PORT), |peer| {
        for n in 0..4 {
            peer.use_port(5000 + n);
            peer.open();
        }
        peer.use_port(6000);
        assert_eq!(peer.give(syn()), NOTHING);
        assert_eq!(peer.host.stack.counters().stopped(Stop::ConnectionsFull), 1);
        peer.use_port(5000);
        peer.give(rst(1));
        assert_eq!(peer.events(), ["closed Reset held 0"]);
        peer.use_port(6000);
        peer.open();
    });
}

//! Each buffer, table and list of one pool driven to its end: what its peers see, what is counted,
//! that the other pool's exchanges take the same segments in the same rounds, that the statistics
//! answer, and that all comes back.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use xtcp_stack::wire::arp;
use xtcp_stack::wire::ethernet::{self, EtherType, MacAddr};
use xtcp_stack::{
    Accept, Config, Count, GroupConfig, Misuse, PoolInfo, Stop, SynCookies, TcpConfig,
};

use super::{
    Crowd, FIRST, NOTHING, OFF, OTHER_PORT, OTHER_QUEUE, Other, PORT, Throttle, info, two_pools,
};
use crate::sim::peer::{Peer, ack, data, rst, syn};
use crate::sim::{Wire, config, ordinary_group, xtcp_group};

/// The other pool is as it always is, and operators see figures.
fn assert_others_undisturbed(peer: &mut Peer<'_>, other: &mut Other) {
    for _ in 0..3 {
        other.exchange(peer);
    }
    assert_eq!(other.info(peer).connections, 1);
    assert!(peer.host.stack.usage().connections > 0 && peer.host.stack.groups().count() == 2);
    peer.host.stack.audit().expect("the books are right");
}

/// Everything of the pool under test is back.
fn assert_back(peer: &Peer<'_>) {
    let info = info(peer);
    let fresh = PoolInfo {
        connections: 0,
        half_open: 0,
        ipv6_addresses: 0,
        active: 0,
        chunks: 0,
        receive_used: 0,
        receive_payload: 0,
        receive_free: info.receive_bytes,
        transmit_used: 0,
        transmit_payload: 0,
        transmit_free: info.transmit_most,
        waiting: 0,
        ..info
    };
    assert_eq!(info, fresh);
}

fn stopped(peer: &Peer<'_>, stop: Stop) -> u64 {
    peer.host.stack.counters().stopped(stop)
}

#[test]
fn the_receive_buffer() {
    let throttle = Throttle { pool_share: 50, ..OFF };
    two_pools(&Config { throttle, ..config(0, 2) }, &xtcp_group(PORT), |peer, other| {
        let mut crowd = Crowd::default();
        crowd.fill_to(peer, 32);
        crowd.open(peer, 1);
        assert!(!crowd.fill(peer, 32), "there is no room");
        assert_eq!(stopped(peer, Stop::ReceiveBufferFull), 1);
        assert_eq!(info(peer).receive_free, 0);
        assert_others_undisturbed(peer, other);
        crowd.commit_all(peer);
        peer.turn();
        assert!(crowd.fill(peer, 32), "sent again, it is taken");
        crowd.commit_all(peer);
        crowd.leave(peer);
        assert_back(peer);
    });
}

#[test]
fn the_transmit_buffer() {
    let config = Config { transmit_bytes: 33 * 2048, ..config(0, 2) };
    two_pools(&config, &ordinary_group(PORT), |peer, other| {
        peer.open();
        let (group, connection) = (peer.host.group, peer.cd());
        let mut queued = 0;
        let refused = loop {
            let (stack, now) = (&mut peer.host.stack, peer.now);
            match stack.send(group, connection, [b'a'; 1000].as_slice(), now) {
                Ok(()) => queued += 1000,
                Err(refused) => break refused,
            }
        };
        assert_eq!((refused, info(peer).transmit_free), (Misuse::NoBuffer, 0));
        assert_others_undisturbed(peer, other);
        // Every byte arrives as the client acknowledges.
        let mut acked = 1;
        peer.use_port(4000);
        while acked <= queued {
            acked = (acked + 1460).min(queued + 1);
            peer.give(ack(1, acked));
            assert_eq!(stopped(peer, Stop::AckOfUnsent), 0, "it has come so far");
        }
        assert_eq!(info(peer).transmit_payload, 0);
        let got = peer.last_got();
        assert_eq!(got.seq + i64::try_from(got.text.len()).expect("short"), queued + 1);
        peer.send(b"more");
        peer.give(rst(1));
        peer.events();
        assert_back(peer);
    });
}

#[test]
fn the_chunks() {
    let config =
        Config { chunks_max: 64, throttle: Throttle { pool_share: 50, ..OFF }, ..config(0, 2) };
    two_pools(&config, &xtcp_group(PORT), |peer, other| {
        let mut crowd = Crowd::default();
        crowd.open(peer, 29);
        let small = |peer: &mut Peer<'_>, at: u16| {
            peer.use_port(FIRST + at);
            peer.give(data(1, 1, b"x"));
            !peer.events().is_empty()
        };
        assert!((0..28).all(|at| small(peer, at)));
        assert!(!small(peer, 28), "seven eighths of half of them");
        assert_eq!(stopped(peer, Stop::ReceiveBufferFull), 1);
        assert!(info(peer).receive_free > 0);
        assert_others_undisturbed(peer, other);
        // An answer still finds one, and with the commit there is room again.
        let (group, now) = (peer.host.group, peer.now);
        let first = crowd.clients[&FIRST].connection;
        peer.host.stack.send(group, first, b"answer".as_slice(), now).expect("room");
        peer.host.stack.commit(group, first, 1, false, now).expect("given");
        peer.turn();
        assert!(small(peer, 28));
        for at in 0..29 {
            peer.use_port(FIRST + at);
            peer.give(rst(2));
            peer.events();
            let connection = crowd.clients[&(FIRST + at)].connection;
            let _ = peer.host.stack.commit(group, connection, 1, false, now);
        }
        assert_back(peer);
    });
}

#[test]
fn the_active_records() {
    let config = Config { active_max: 32, ..config(0, 2) };
    two_pools(&config, &xtcp_group(PORT), |peer, other| {
        let mut crowd = Crowd::default();
        crowd.open(peer, 15);
        assert!((0..14).all(|at| crowd.fill(peer, at)));
        assert!(!crowd.fill(peer, 14), "seven eighths of half of them");
        assert_eq!(stopped(peer, Stop::ActiveFull), 1);
        let (group, now) = (peer.host.group, peer.now);
        let last = crowd.clients[&crowd.ports[14]].connection;
        let refused = peer.host.stack.send(group, last, b"x".as_slice(), now);
        assert_eq!(refused, Err(Misuse::TableFull));
        assert_others_undisturbed(peer, other);
        // There is one left for somebody who comes.
        crowd.open(peer, 1);
        crowd.commit(peer, 0);
        peer.turn();
        assert!(crowd.fill(peer, 14), "sent again, it is taken");
        crowd.commit_all(peer);
        crowd.leave(peer);
        assert_back(peer);
    });
}

#[test]
fn the_connections() {
    let config = Config { connections_max: 16, ..config(0, 2) };
    two_pools(&config, &ordinary_group(PORT), |peer, other| {
        let mut crowd = Crowd::default();
        crowd.open(peer, 8);
        peer.use_port(FIRST + 8);
        assert_eq!(peer.give(syn()), NOTHING, "no answer: it will try again");
        assert_eq!(stopped(peer, Stop::ConnectionsFull), 1);
        assert_others_undisturbed(peer, other);
        other.turns_away(peer);
        peer.use_port(FIRST);
        peer.give(rst(1));
        peer.events();
        peer.use_port(FIRST + 8);
        peer.open();
        crowd.leave(peer);
        peer.use_port(FIRST + 8);
        peer.give(rst(1));
        peer.events();
        assert_back(peer);
    });
}

#[test]
fn the_ipv6_addresses() {
    let config = Config { ipv6_connections_max: 8, ..config(0, 2) };
    two_pools(&config, &ordinary_group(PORT), |peer, other| {
        let v4 = (peer.client, peer.server);
        peer.use_ipv6();
        let mut crowd = Crowd::default();
        crowd.open(peer, 4);
        peer.use_port(FIRST + 4);
        assert_eq!(peer.give(syn()), NOTHING);
        assert_eq!(stopped(peer, Stop::ConnectionsFull), 1);
        assert_eq!((info(peer).ipv6_addresses, info(peer).ipv6_addresses_most), (4, 4));
        let v6 = (peer.client, peer.server);
        (peer.client, peer.server) = v4;
        peer.open();
        peer.give(rst(1));
        peer.events();
        assert_others_undisturbed(peer, other);
        (peer.client, peer.server) = v6;
        crowd.leave(peer);
        peer.use_port(FIRST + 4);
        peer.open();
        peer.give(rst(1));
        peer.events();
        (peer.client, peer.server) = v4;
        assert_back(peer);
    });
}

#[test]
fn the_handshakes() {
    let tcp =
        TcpConfig { half_open_max: 8, syn_cookies: SynCookies::Never, ..TcpConfig::default() };
    two_pools(&Config { tcp, ..config(0, 2) }, &xtcp_group(PORT), |peer, other| {
        for n in 0..100 {
            peer.use_port(FIRST + n);
            assert_eq!(peer.give(syn()), NOTHING);
        }
        assert_eq!(stopped(peer, Stop::HalfOpenFull), 96);
        assert_eq!((info(peer).half_open, info(peer).half_open_most), (4, 4));
        assert_others_undisturbed(peer, other);
        other.turns_away(peer);
        // Nobody accepts them, and they are turned away.
        let Accept::ByApplication { timeout } = xtcp_group(PORT).accept else { panic!() };
        peer.use_port(FIRST);
        let lines = peer.wait(timeout + Duration::from_millis(10));
        assert_eq!(lines.len(), 4, "RST each: {lines:?}");
        peer.events();
        assert_eq!(stopped(peer, Stop::NotAcceptedInTime), 4);
        assert_back(peer);
        peer.open();
        peer.give(rst(1));
        peer.events();
    });
}

/// A pool that is at its limit gives up handshakes of its own, and no others, though they are older.
#[test]
fn handshakes_make_way_for_those_of_their_own_pool_only() {
    let tcp =
        TcpConfig { half_open_max: 8, syn_cookies: SynCookies::Never, ..TcpConfig::default() };
    two_pools(&Config { tcp, ..config(0, 2) }, &xtcp_group(PORT), |peer, other| {
        peer.call(OTHER_PORT);
        for port in 9100..9103 {
            peer.use_port(port);
            assert_eq!(peer.give(syn()), NOTHING);
        }
        peer.call(PORT);
        peer.now = peer.now + Duration::from_millis(100);
        for n in 0..4 {
            peer.use_port(FIRST + n);
            assert_eq!(peer.give(syn()), NOTHING);
        }
        peer.now = peer.now + Duration::from_millis(1500);
        for n in 4..20 {
            peer.use_port(FIRST + n);
            assert_eq!(peer.give(syn()), NOTHING);
        }
        assert!((1..=4).contains(&stopped(peer, Stop::HandshakeEvicted)));
        assert_eq!((info(peer).half_open, other.info(peer).half_open), (4, 3));
        peer.call(OTHER_PORT);
        for port in 9100..9103 {
            peer.use_port(port);
            peer.give(rst(1));
        }
        while peer.host.stack.poll_event(OTHER_QUEUE).is_some() {}
        peer.call(PORT);
        peer.wait(Duration::from_secs(4));
        peer.events();
        assert_back(peer);
    });
}

/// Neighbours are everybody's: those in use stay, and whoever is new gives way.
#[test]
fn the_neighbours() {
    let config = Config { neighbours_max: 8, ..config(0, 2) };
    two_pools(&config, &ordinary_group(PORT), |peer, other| {
        peer.open();
        for n in 10..250 {
            let mac = MacAddr([2, 0, 0, 0, 1, n]);
            let packet = arp::Packet {
                operation: arp::Operation::Request,
                sender_mac: mac,
                sender_ip: Ipv4Addr::new(10, 0, 0, n),
                target_mac: peer.server_mac,
                target_ip: Ipv4Addr::new(10, 0, 0, 2),
            };
            let mut frame = vec![0; ethernet::HEADER + arp::PACKET];
            let rest = ethernet::emit(&mut frame, &MacAddr::BROADCAST, &mac, EtherType::ARP);
            packet.emit(rest.expect("room")).expect("room");
            let mut wire = Wire::default();
            peer.host.frame(&frame, &mut wire, peer.now);
            assert_eq!(wire.frames.len(), 1, "each is answered");
        }
        let evicted = peer.host.stack.counters().counted(Count::NeighboursEvicted);
        assert!(evicted + stopped(peer, Stop::NeighbourTableFull) >= 200);
        assert_others_undisturbed(peer, other);
        assert!(matches!(peer.client, IpAddr::V4(_)));
        peer.use_port(4000);
        peer.give(data(1, 1, b"still here"));
        assert_eq!(peer.events(), ["data 0+10 still here"]);
        peer.commit(10);
        peer.give(rst(11));
        peer.events();
        assert_back(peer);
    });
}

/// An application that stops reading: its events wait in its own connections' records.
#[test]
fn the_events_of_an_application_that_stops_reading() {
    let config = Config { active_max: 64, ..config(0, 2) };
    let group = GroupConfig { window_max: 1 << 20, ..ordinary_group(PORT) };
    two_pools(&config, &group, |peer, other| {
        let mut crowd = Crowd::default();
        crowd.open(peer, 20);
        let mut taken = [0_usize; 20];
        for round in 0..10 {
            for (port, taken) in crowd.ports.iter().zip(&mut taken) {
                peer.use_port(*port);
                let seq = 1 + i64::try_from(*taken).expect("small");
                let before = info(peer).receive_payload;
                peer.give(data(seq, 1, &[b'0' + round; 400]));
                *taken += info(peer).receive_payload - before;
            }
        }
        assert!(stopped(peer, Stop::TextHidden) > 0);
        assert!(info(peer).waiting > 0 && info(peer).receive_payload > 20_000);
        assert_others_undisturbed(peer, other);
        // It reads again: every byte that was taken, in order, and the rest when it is sent again.
        let mut given = 0;
        loop {
            let lines = peer.events();
            if lines.is_empty() {
                break;
            }
            given += lines.len();
        }
        assert!(given >= 20);
        let (hosts_group, now) = (peer.host.group, peer.now);
        for (at, port) in crowd.ports.iter().enumerate() {
            let connection = crowd.clients[port].connection;
            let up_to = u64::try_from(taken[at]).expect("small");
            peer.host.stack.commit(hosts_group, connection, up_to, false, now).expect("given");
        }
        peer.turn();
        assert_eq!((info(peer).waiting, info(peer).receive_payload), (0, 0));
        for (at, port) in crowd.ports.iter().enumerate() {
            peer.use_port(*port);
            let seq = 1 + i64::try_from(taken[at]).expect("small");
            peer.give(data(seq, 1, b"again"));
            assert_eq!(peer.events(), [format!("data {}+5 again", taken[at])]);
            peer.commit(u64::try_from(taken[at] + 5).expect("small"));
            peer.give(rst(seq + 5));
            peer.events();
        }
        assert_eq!(peer.host.stack.poll_event(OTHER_QUEUE), None);
        assert_back(peer);
    });
}

//! Without mbufs or buffers: what waits, what goes on, and that nothing is lost.

use core::time::Duration;

use dpdk::Mbuf;
use xtcp_ring::{DataplaneChannel, EndpointLayout, Mapping, Ringer, bell};
use xtcp_stack::config::{Acknowledge, GroupConfig};
use xtcp_stack::{Gd, Transmit};

use super::{Client, Loopback, again, arp_request, echo_request, sent_again};
use crate::applications::{NewEndpoint, Wake};
use crate::command::{Ask, Tell};
use crate::stats::{CounterRow, Snapshot};
use crate::test_world::{group, memory};

/// All frames to send with are taken for 100 ms, as by a device that gives none back. It is counted;
/// when they are back everybody is served, and none is missing.
#[test]
fn without_frames_to_send_with_the_worker_waits_and_loses_nothing() {
    let take_all = |loopback: &Loopback| -> Vec<Mbuf> {
        core::iter::from_fn(|| loopback.frames.alloc()).collect()
    };
    let mut loopback = Loopback::new(7, 1, "--forward-mode echo");
    let free = |loopback: &Loopback| loopback.snapshots()[0].frames_free;
    let all = free(&loopback);
    let mut client = Client::new(loopback.now);
    for _ in 0..20 {
        client.connect(loopback.now);
        client.turn(&mut loopback);
        loopback.turn();
    }
    // What had been sent before still comes, and its frames are taken, too; and those that the
    // worker has at hand are used up by others who call.
    let mut taken = take_all(&loopback);
    while loopback.snapshots()[0].counters.tx.no_mbuf == 0 {
        assert!(client.connections.len() < 100, "nobody wanted a frame");
        client.connect(loopback.now);
        client.turn(&mut loopback);
        taken.extend(take_all(&loopback));
        loopback.turn();
    }
    client.turn(&mut loopback);
    taken.extend(take_all(&loopback));
    let at_most: usize = client.received.iter().map(Vec::len).sum();
    for _ in 0..100 {
        loopback.turn();
        client.turn(&mut loopback);
    }
    assert_eq!(client.received.iter().map(Vec::len).sum::<usize>(), at_most);
    drop(taken);
    for round in 0.. {
        client.turn(&mut loopback);
        loopback.turn();
        if loopback.snapshots()[0].usage.connections == 0 {
            break;
        }
        assert!(round < 5000, "received {:?}", client.received);
    }
    for (number, bytes) in client.received.iter().enumerate() {
        assert_eq!(*bytes, format!("I am number {number}").as_bytes());
    }
    client.turn(&mut loopback);
    assert_eq!(free(&loopback), all, "frames are missing");
}

/// The pool is asked for many frames at once; where it has fewer they are sent all the same.
#[test]
fn the_last_frames_of_a_pool_are_sent_with_too() {
    let mut loopback = Loopback::new(10, 1, "");
    let mut taken: Vec<Mbuf> = core::iter::from_fn(|| loopback.frames.alloc()).collect();
    taken.truncate(taken.len() - 5);
    let (worker, _) = &mut loopback.workers[0];
    let sent = core::iter::from_fn(|| worker.tx.frame(60).map(drop)).count();
    assert_eq!((sent, worker.tx.counters().no_mbuf), (5, 1));
}

/// All frames to receive into are taken for 100 ms: what comes waits on the cable. When they are back
/// everybody is served, nobody has sent anything twice, and no frame is missing.
#[test]
fn without_frames_to_receive_into_what_comes_waits_on_the_cable() {
    let mut loopback = Loopback::over_a_cable(511, "--forward-mode echo");
    let mut client = Client::new(loopback.now);
    let free = |loopback: &Loopback| loopback.snapshots()[0].frames_free;
    let all = free(&loopback);
    for _ in 0..10 {
        client.connect(loopback.now);
        client.turn(&mut loopback);
        loopback.turn();
    }
    let taken: Vec<Mbuf> = core::iter::from_fn(|| loopback.frames.alloc()).collect();
    assert!(free(&loopback) < 32, "more than the worker had at hand");
    let before = loopback.snapshots()[0].counters.rx_frames;
    for _ in 0..10 {
        client.connect(loopback.now);
    }
    for _ in 0..100 {
        client.turn(&mut loopback);
        loopback.turn();
    }
    let counters = loopback.snapshots()[0].counters;
    assert_eq!(counters.rx_frames, before, "there was a frame to receive into");
    drop(taken);
    for round in 0.. {
        client.turn(&mut loopback);
        loopback.turn();
        if loopback.snapshots()[0].usage.connections == 0 {
            break;
        }
        assert!(round < 5000, "received {:?}", client.received);
    }
    assert!(loopback.snapshots()[0].counters.rx_frames > before);
    for (number, bytes) in client.received.iter().enumerate() {
        assert_eq!(*bytes, format!("I am number {number}").as_bytes());
    }
    let rows: Vec<CounterRow> = client.stack.counters().rows().collect();
    assert_eq!((again(&rows), sent_again(&loopback)), (0, 0));
    assert_eq!(free(&loopback), all, "frames are missing");
    // DPDK 22.11 has the two ends of a cable closed by two threads, which may both free the same.
    core::mem::forget(loopback);
}

const LAYOUT: EndpointLayout =
    EndpointLayout { workers: 1, submissions: 64, notices: 64, arena_bytes: 4096 };

/// With every buffer taken that its application can take, the worker answers the link and the
/// control thread as before.
#[test]
fn with_every_buffer_taken_the_worker_answers_all_the_same() {
    let mut loopback = Loopback::new(5, 1, "--control");
    let endpoint = Mapping::private(LAYOUT.total_bytes());
    LAYOUT.prepare(&endpoint).unwrap();
    let new = NewEndpoint {
        number: 0,
        channel: DataplaneChannel::open(&endpoint, &LAYOUT, 0).unwrap(),
        ringer: Ringer::open(&endpoint, bell::pair().unwrap().0).unwrap(),
        receive: memory(256 << 10),
        receive_from: 0,
    };
    let opened = loopback.command(Ask::OpenEndpoint(Box::new(new)));
    assert!(matches!(opened, Tell::Pool(Ok(_))), "{opened:?}");
    let held = Acknowledge::ByApplication { deadline: Duration::ZERO };
    let config = GroupConfig { acknowledge: held, ..group(7) };
    let name = Gd::new(0, 1);
    let ask = Ask::OpenGroup { endpoint: 0, group: name, config, wake: Wake::AT_ONCE };
    let opened = loopback.command(ask);
    assert!(matches!(opened, Tell::Group(Ok(_))), "{opened:?}");

    // Nobody reads the notices, nor what the clients send.
    let mut client = Client::new(loopback.now);
    for _ in 0..30 {
        client.connect(loopback.now);
        client.turn(&mut loopback);
        loopback.turn();
    }
    for round in 0..400 {
        client.turn(&mut loopback);
        loopback.turn();
        if round == 50 {
            for connection in &client.connections {
                let (group, now) = (client.group, loopback.now);
                client.stack.send(group, *connection, &[b'x'; 30_000][..], now).unwrap();
            }
        }
    }
    assert_eq!(loopback.snapshots()[0].pools[0].level.name(), "hide");

    let is_pong = |frame: &Vec<u8>| frame[23] == 1 && frame[34..36] == [0, 0];
    let request = echo_request(loopback.mac);
    assert!(loopback.ask(&request).iter().any(is_pong), "no ping is answered");
    let is_arp_reply = |frame: &Vec<u8>| frame[12..14] == [8, 6] && frame[20..22] == [0, 2];
    assert!(loopback.ask(&arp_request()).iter().any(is_arp_reply), "no ARP is answered");

    let told = loopback.command(Ask::Snapshot(Box::new(Snapshot::with_room())));
    let Tell::Snapshot(snapshot) = told else { panic!("{told:?}") };
    assert_eq!((snapshot.usage.connections, snapshot.groups[0].connections), (30, 30));
    let told = loopback.command(Ask::Connections(Vec::with_capacity(100)));
    let Tell::Connections(list) = told else { panic!("{told:?}") };
    assert_eq!(list.len(), 30);
    let close = Ask::CloseConnection { connection: list[0].connection, reset: true };
    assert!(matches!(loopback.command(close), Tell::Done(Ok(()))));
    let drain = Ask::DrainGroup {
        endpoint: 0,
        group: name,
        per_second: u32::MAX,
        manner: xtcp_stack::Manner::Reset,
    };
    assert!(matches!(loopback.command(drain), Tell::Done(Ok(()))));
    let told = loopback.command(Ask::CloseEndpoint(0));
    assert!(matches!(told, Tell::Memory(Some(part)) if part.len() == 256 << 10));
    let usage = loopback.snapshots()[0].usage;
    assert_eq!((usage.pools, usage.groups, usage.transmit_used), (0, 0, 0));
}

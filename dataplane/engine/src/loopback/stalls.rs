//! A worker that stood still, and one that has no end of frames.

use core::time::Duration;

use xtcp_stack::Transmit;

use super::{Client, Loopback, frame, sent_again};

/// What came before a long stall is read before deadlines that have passed meanwhile are served:
/// among it are the acknowledgements they waited for.
#[test]
fn a_worker_that_stood_still_reads_its_ring_before_it_retransmits() {
    let (mut loopback, mut client) = unacknowledged_echoes(8, 100);
    // The clients acknowledge, in frames of their own, and the worker does not look.
    loopback.now = loopback.now + Duration::from_millis(100);
    client.turn(&mut loopback);
    loopback.tx.flush();
    loopback.now = loopback.now + Duration::from_secs(10);
    for _ in 0..5 {
        loopback.turn();
    }
    assert_eq!(sent_again(&loopback), 0);
    let snapshots = loopback.snapshots();
    assert_eq!((snapshots[0].usage.connections, snapshots[0].usage.active), (100, 0));
}

/// Who fills every burst holds the timers up as long as it takes to read a full ring, and no longer.
#[test]
fn full_bursts_without_end_do_not_hold_timers_up_for_ever() {
    let (mut loopback, _client) = unacknowledged_echoes(9, 10);
    let junk = frame([0xff; 6], 0x88b5, &[0; 46]);
    let flood = |loopback: &mut Loopback, frames: usize| {
        for _ in 0..frames {
            loopback.tx.frame(junk.len()).unwrap().copy_from_slice(&junk);
        }
    };
    loopback.now = loopback.now + Duration::from_secs(10);
    flood(&mut loopback, 64);
    // Each is two turns of the worker, and a ring of 1,024 frames is 32 bursts.
    for _ in 0..16 {
        flood(&mut loopback, 64);
        loopback.turn();
        assert_eq!(sent_again(&loopback), 0);
    }
    flood(&mut loopback, 64);
    loopback.turn();
    assert_eq!(sent_again(&loopback), 10);
}

/// An echo whose answers have come to `clients` clients, which have not acknowledged them.
fn unacknowledged_echoes(port: u16, clients: usize) -> (Loopback, Client) {
    let mut loopback = Loopback::new(port, 1, "--forward-mode echo");
    let mut client = Client { greets: false, ..Client::new(loopback.now) };
    for _ in 0..clients {
        client.connect(loopback.now);
        client.turn(&mut loopback);
        loopback.turn();
    }
    for _ in 0..10 {
        client.turn(&mut loopback);
        loopback.turn();
    }
    for connection in client.connections.clone() {
        client.stack.send(client.group, connection, &b"hello"[..], loopback.now).unwrap();
    }
    for _ in 0..10 {
        client.turn(&mut loopback);
        loopback.turn();
    }
    client.turn(&mut loopback);
    assert!(client.received.iter().all(|bytes| bytes == b"hello"), "{:?}", client.received);
    assert_eq!(
        (loopback.snapshots()[0].usage.active as usize, sent_again(&loopback)),
        (clients, 0)
    );
    (loopback, client)
}

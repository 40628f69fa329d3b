//! Idle connections that end when every active record is taken.

use std::time::Duration;

use xtcp_stack::{Cd, Config, Misuse, Stop};

use super::{Crowd, NOTHING, OFF, PORT, info, one_pool};
use crate::sim::config;
use crate::sim::peer::{Peer, ack, data, fin, rst, syn};
use crate::sim::xtcp_group;

const ACTIVE: u32 = 16;
/// The ports of clients that are idle.
const IDLE: [u16; 2] = [4000, 4001];

/// Two idle connections, and others that have every active record: seven eighths of them have text
/// that the application has not committed, the rest wait to be accepted.
fn with_every_record_taken(test: impl FnOnce(&mut Peer<'_>, &Crowd, [Cd; 2])) {
    let config = Config { active_max: ACTIVE, throttle: OFF, ..config(0, 2) };
    one_pool(&config, &xtcp_group(PORT), |peer| {
        let idle = IDLE.map(|port| {
            peer.use_port(port);
            peer.open();
            peer.cd()
        });
        let mut crowd = Crowd::default();
        crowd.open(peer, 14);
        (0..14).for_each(|at| assert!(crowd.fill(peer, at), "there is room"));
        for port in [6000, 6001] {
            peer.use_port(port);
            assert_eq!(peer.give(syn()), NOTHING);
        }
        assert_eq!(peer.events(), ["acceptable"; 2]);
        assert_eq!(info(peer).active, ACTIVE);
        test(peer, &crowd, idle);
    });
}

fn stopped(peer: &Peer<'_>, stop: Stop) -> u64 {
    peer.host.stack.counters().stopped(stop)
}

/// The client at this port resets its idle connection.
fn reset(peer: &mut Peer<'_>, port: u16) {
    peer.use_port(port);
    let before = stopped(peer, Stop::ResetByPeer);
    assert_eq!(peer.give(rst(1)), NOTHING);
    assert_eq!(stopped(peer, Stop::ResetByPeer), before + 1);
}

/// The application commits what one of the others sent, whose record is free then.
fn free_one(peer: &mut Peer<'_>, crowd: &Crowd, at: usize) {
    crowd.commit(peer, at);
    peer.turn();
}

/// RFC 9293 section 3.10.7.4: it is over at once; the application is told when a record is free.
#[test]
fn a_reset_needs_no_record() {
    with_every_record_taken(|peer, crowd, idle| {
        peer.use_port(IDLE[0]);
        // RFC 5961: only the exact number will do; for a challenge there is no record.
        assert_eq!(peer.give(rst(2)), NOTHING);
        assert_eq!(stopped(peer, Stop::ActiveFull), 1);
        assert_eq!(peer.give(rst(1).text(b"why")), NOTHING, "with words of its sender");
        assert_eq!(stopped(peer, Stop::ResetByPeer), 1);
        assert_eq!(peer.give(ack(1, 1)), ["R 1+0"], "there is no connection any more");
        reset(peer, IDLE[1]);
        peer.wait(Duration::from_secs(1));
        assert_eq!(peer.events(), NOTHING, "no record to tell it by");

        free_one(peer, crowd, 0);
        peer.wait(Duration::from_millis(300));
        assert_eq!(peer.events(), ["closed Reset held 0"]);
        assert_eq!(peer.cd(), idle[0]);
        // The one record serves one after the other.
        peer.wait(Duration::from_millis(300));
        assert_eq!(peer.events(), ["closed Reset held 0"]);
        assert_eq!(peer.cd(), idle[1]);
        assert_eq!(info(peer).connections, 14 + 2);
        // And nothing is walked any more.
        assert_eq!(peer.wait(Duration::from_millis(300)), NOTHING);
        assert_eq!(peer.events(), NOTHING);
    });
}

/// What the application commands meanwhile is refused, and tells it when it can.
#[test]
fn a_command_after_such_a_reset_comes_too_late() {
    with_every_record_taken(|peer, crowd, idle| {
        reset(peer, IDLE[0]);
        let (group, now) = (peer.host.group, peer.now);
        let send =
            |peer: &mut Peer<'_>| peer.host.stack.send(group, idle[0], b"too late".as_slice(), now);
        assert_eq!(send(peer), Err(Misuse::TableFull));
        free_one(peer, crowd, 0);
        free_one(peer, crowd, 1);
        free_one(peer, crowd, 2);
        assert_eq!(send(peer), Err(Misuse::NotOpen));
        assert_eq!(peer.events(), ["closed Reset held 0"]);
        assert_eq!(send(peer), Err(Misuse::StaleConnection));
    });
}

/// The client may call again before the application knows that it was gone.
#[test]
fn a_client_may_call_again_after_such_a_reset() {
    with_every_record_taken(|peer, crowd, idle| {
        reset(peer, IDLE[0]);
        free_one(peer, crowd, 0);
        peer.give(syn());
        let mut told = peer.events();
        peer.wait(Duration::from_millis(50));
        told.extend(peer.events());
        assert_eq!(told, ["acceptable"]);
        let again = peer.cd();
        assert_ne!(again, idle[0]);
        free_one(peer, crowd, 1);
        peer.wait(Duration::from_millis(300));
        assert_eq!(peer.events(), ["closed Reset held 0"]);
        assert_eq!(peer.cd(), idle[0]);
        assert!(peer.host.stack.connection(again).is_ok());
    });
}

/// A group that ends meanwhile takes those of its connections along.
#[test]
fn a_group_may_end_after_such_a_reset() {
    with_every_record_taken(|peer, _, _| {
        reset(peer, IDLE[0]);
        reset(peer, IDLE[1]);
        let (group, now) = (peer.host.group, peer.now);
        peer.host.stack.close_group(group, now).expect("open");
        peer.turn();
        assert_eq!((peer.events(), info(peer).connections), (vec![], 0));
        peer.host.assert_nothing_held();
    });
}

/// What the application closes is closed with the next record: it is told so, as ever, once.
#[test]
fn a_close_is_done_when_a_record_is_free() {
    with_every_record_taken(|peer, crowd, idle| {
        let (group, now) = (peer.host.group, peer.now);
        for connection in idle {
            assert_eq!(peer.host.stack.close(group, connection, now), Ok(()));
            assert_eq!(peer.host.stack.close(group, connection, now), Err(Misuse::NotOpen));
        }
        assert_eq!(peer.wait(Duration::from_secs(1)), NOTHING, "no record to close it by");
        free_one(peer, crowd, 0);
        peer.use_port(IDLE[0]);
        let sent = peer.wait(Duration::from_millis(150));
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].ends_with("FA 1+0 ack 1"), "{sent:?}");
        assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"]);
        assert_eq!(peer.events(), ["closed Closed held 0"]);
        assert_eq!(peer.cd(), idle[0]);
        // The other's client comes first with the record that is free again, and learns that nobody reads.
        peer.use_port(IDLE[1]);
        assert_eq!(peer.give(data(1, 1, b"too late")), ["RA 1+0 ack 1"]);
        assert_eq!(peer.events(), ["closed Aborted held 0"]);
        assert_eq!(peer.cd(), idle[1]);
        assert_eq!(info(peer).connections, 14 + 2);
    });
}

/// What the application aborts is over at once; its client is told with the next record, or when it next
/// says something.
#[test]
fn an_abort_needs_no_record() {
    with_every_record_taken(|peer, crowd, idle| {
        let (group, now) = (peer.host.group, peer.now);
        assert_eq!(peer.host.stack.close(group, idle[1], now), Ok(()));
        for connection in idle {
            // Once more changes nothing, and a close becomes an abort.
            assert_eq!(peer.host.stack.abort(group, connection, now), Ok(()));
            assert_eq!(peer.host.stack.abort(group, connection, now), Ok(()));
            assert_eq!(peer.host.stack.close(group, connection, now), Err(Misuse::NotOpen));
        }
        peer.use_port(IDLE[0]);
        assert_eq!(peer.give(ack(1, 1)), ["R 1+0"], "there is no connection any more");
        for (port, connection) in IDLE.into_iter().zip(idle) {
            free_one(peer, crowd, usize::from(port - IDLE[0]));
            peer.use_port(port);
            let sent = peer.wait(Duration::from_millis(150));
            assert_eq!(sent.len(), 1, "{sent:?}");
            assert!(sent[0].ends_with("RA 1+0 ack 1"), "{sent:?}");
            assert_eq!(peer.events(), ["closed Aborted held 0"]);
            assert_eq!(peer.cd(), connection);
        }
        assert_eq!(info(peer).connections, 14 + 2);
        assert_eq!(peer.wait(Duration::from_secs(1)), NOTHING);
    });
}

/// A client resets what the application has closed already: it is over, and told once.
#[test]
fn a_reset_overtakes_a_close() {
    with_every_record_taken(|peer, crowd, idle| {
        let (group, now) = (peer.host.group, peer.now);
        assert_eq!(peer.host.stack.close(group, idle[0], now), Ok(()));
        reset(peer, IDLE[0]);
        free_one(peer, crowd, 0);
        assert_eq!(peer.wait(Duration::from_millis(300)), NOTHING);
        assert_eq!(peer.events(), ["closed Reset held 0"]);
        assert_eq!(peer.cd(), idle[0]);
    });
}

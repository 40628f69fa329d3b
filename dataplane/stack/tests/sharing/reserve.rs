//! With every buffer taken, connections are accepted, acknowledged and closed all the same.

use xtcp_stack::{Config, Misuse, Throttle};

use super::{Crowd, NOTHING, OFF, PORT, info, one_pool, two_pools};
use crate::sim::peer::{Peer, ack, data, fin, rst, syn, syn_with_sack};
use crate::sim::{config, xtcp_group};

/// Takes the whole receive buffer, the whole transmit buffer and all descriptors it can.
fn take_everything(peer: &mut Peer<'_>) -> Crowd {
    let mut crowd = Crowd::default();
    crowd.open(peer, 40);
    for at in 0..40 {
        crowd.fill(peer, at);
    }
    let (group, now) = (peer.host.group, peer.now);
    for at in 0..40 {
        let connection = crowd.clients[&crowd.ports[at]].connection;
        while peer.host.stack.send(group, connection, [b'x'; 900].as_slice(), now).is_ok() {}
    }
    peer.turn();
    let connection = crowd.clients[&crowd.ports[0]].connection;
    let refused = peer.host.stack.send(group, connection, [b'x'; 900].as_slice(), now);
    assert_eq!(refused, Err(Misuse::NoBuffer));
    assert_eq!(info(peer).transmit_free, 0);
    crowd
}

fn control_goes_on(config: &Config) {
    one_pool(config, &xtcp_group(PORT), |peer| {
        peer.use_port(4000);
        peer.open();
        let first = peer.cd();
        let crowd = take_everything(peer);
        // A client comes, and goes.
        peer.use_port(4001);
        assert_eq!(peer.give(syn()), NOTHING);
        assert_eq!(peer.events(), ["acceptable"]);
        peer.accept();
        assert_eq!(peer.turn(), ["SA 0+0 ack 1"]);
        assert_eq!(peer.give(ack(1, 1)), NOTHING);
        assert_eq!(peer.events(), ["opened"]);
        assert_eq!(peer.give(fin(1, 1)), ["A 1+0 ack 2"]);
        assert_eq!(peer.events(), ["finished 0"]);
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 2"]);
        assert_eq!(peer.give(ack(2, 2)), NOTHING);
        assert_eq!(peer.events(), ["closed Closed held 0"]);
        // One that was there is closed by the application.
        peer.use_port(4000);
        let (group, now) = (peer.host.group, peer.now);
        peer.host.stack.close(group, first, now).expect("open");
        assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
        peer.give(rst(1));
        assert_eq!(peer.events(), ["closed Reset held 0"]);
        // An acknowledgement frees what it acknowledges, whatever comes with it.
        let used = info(peer).transmit_used;
        let port = crowd.ports[0];
        peer.use_port(port);
        let said = crowd.clients[&port].said;
        peer.give(data(said, 2921, &[b'y'; 1000]));
        assert!(info(peer).transmit_used < used);
        // A commit is told. The statistics answer.
        crowd.commit(peer, 0);
        let lines = peer.turn();
        assert!(lines.iter().any(|line| line.ends_with(&format!("ack {said}"))), "{lines:?}");
        assert!(peer.host.stack.counters().rows().count() > 0);
        assert!(peer.host.stack.groups().all(|group| group.connections == 40));
        crowd.leave(peer);
        crowd.commit_all_left(peer);
        peer.host.assert_nothing_held();
    });
}

fn tight() -> Config {
    Config { transmit_bytes: 9 * 2048, chunks_max: 80, ..config(0, 2) }
}

#[test]
fn control_goes_on_when_all_is_taken() {
    control_goes_on(&Config { throttle: OFF, ..tight() });
}

#[test]
fn control_goes_on_when_all_is_throttled() {
    control_goes_on(&tight());
}

/// Of the descriptors text to send leaves a quarter, and what is known of its flight an eighth: for text
/// that is received.
#[test]
fn what_is_sent_leaves_descriptors_for_what_comes() {
    const ALL: u32 = 64;
    let config = Config { chunks_max: ALL, throttle: OFF, ..config(0, 2) };
    one_pool(&config, &xtcp_group(PORT), |peer| {
        peer.use_port(4000);
        let syn = syn_with_sack().options(|options| options.mss = Some(536));
        peer.open_with(syn);
        let (group, connection, now) = (peer.host.group, peer.cd(), peer.now);
        let send = |peer: &mut Peer<'_>| {
            peer.host.stack.send(group, connection, [b'x'; 2048].as_slice(), now)
        };
        while send(peer).is_ok() {}
        assert_eq!(send(peer), Err(Misuse::NoBuffer));
        assert_eq!(info(peer).chunks, ALL / 4 * 3);
        assert_eq!(peer.turn().len(), 10);
        // Every second segment has come, the last of them first: each is to be noted by itself.
        let at = |n: i64| 1 + 536 * n;
        for n in [9, 7, 5, 3, 1] {
            let blocks = [n, n + 2, n + 4].map(|n| (at(n), at(n + 1)));
            let told = blocks.iter().filter(|block| block.1 <= at(10)).count();
            peer.give(ack(1, 1).sacks(&blocks[..told]));
            assert!(info(peer).chunks <= ALL / 8 * 7, "{n}: {}", info(peer).chunks);
        }
        peer.use_port(4001);
        peer.open();
        peer.give(data(1, 1, b"heard"));
        assert_eq!(peer.events(), ["data 0+5 heard"]);
    });
}

/// Handshakes and text together have no more active records than their pool's share.
#[test]
fn handshakes_and_text_together_keep_to_the_share() {
    let throttle = Throttle { pool_share: 50, ..OFF };
    let config = Config { active_max: 32, throttle, ..config(0, 2) };
    two_pools(&config, &xtcp_group(PORT), |peer, other| {
        let mut crowd = Crowd::default();
        crowd.open(peer, 14);
        assert!((0..14).all(|at| crowd.fill(peer, at)));
        for port in 6000..6010 {
            peer.use_port(port);
            assert_eq!(peer.give(syn()), NOTHING);
        }
        assert_eq!((info(peer).active, info(peer).active_most), (16, 16));
        other.exchange(peer);
        crowd.commit_all(peer);
        peer.turn();
    });
}

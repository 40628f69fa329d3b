//! With every buffer taken, connections are accepted, acknowledged and closed all the same.

use xtcp_stack::{Config, Misuse};

use super::{Crowd, NOTHING, OFF, PORT, info, one_pool};
use crate::sim::peer::{Peer, ack, data, fin, rst, syn};
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

//! Connection groups: who gets a client, who is told first, who is asked or closed when idle, how a
//! group is drained, and what is counted of it. Segment by segment, as in `tests/tcp`.

#[path = "../sim/mod.rs"]
mod sim;

mod counts;
mod drain;
mod idle;
mod keep_alive;
mod limits;
mod priority;
mod sharing;

use std::time::Duration;

use sim::peer::{Peer, ack, syn};
use sim::{Memory, config};
use xtcp_stack::{Config, Gd, GroupConfig, GroupInfo};

const PORT: u16 = 7;
/// What the stack answers when it does not.
const NOTHING: [&str; 0] = [];
/// The first of a crowd's client ports.
const FIRST: u16 = 5000;

/// A client of a stack with one group.
fn with_group(group: &GroupConfig, test: impl FnOnce(&mut Peer<'_>)) {
    with(&config(0, 2), group, test);
}

/// The same, with this configuration.
fn with(config: &Config, group: &GroupConfig, test: impl FnOnce(&mut Peer<'_>)) {
    let mut memory = Memory::for_host(config, 1 << 20);
    test(&mut Peer::new(&mut memory, config, group));
}

/// Room for this many connections, all of them active.
fn room_for(connections: u32) -> Config {
    let most = connections + connections / 4 + 8;
    Config { connections_max: most, ipv6_connections_max: most, active_max: most, ..config(0, 2) }
}

/// What operators see of a group.
fn info(peer: &Peer<'_>, group: Gd) -> GroupInfo {
    peer.host.stack.groups().find(|info| info.group == group).expect("it is open")
}

/// Opens connections of a group that accepts by itself, from as many ports.
fn open_crowd(peer: &mut Peer<'_>, count: u16) {
    for port in FIRST..FIRST + count {
        peer.use_port(port);
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        peer.give(ack(1, 1));
        assert_eq!(peer.events(), ["opened"]);
    }
}

/// Lets time pass from deadline to deadline; every segment is shown with its client's port.
fn let_pass(
    peer: &mut Peer<'_>,
    duration: Duration,
    mut on_segment: impl FnMut(&mut Peer<'_>, u16, &str),
) {
    let end = peer.now + duration;
    loop {
        // A port that nobody has, so that every line names its own.
        peer.use_port(1);
        for line in peer.turn() {
            let (port, segment) =
                line["port ".len()..].split_once(": ").expect("a port and a segment");
            on_segment(peer, port.parse().expect("a port"), segment);
        }
        let next = peer.host.stack.poll_timeout().filter(|next| *next <= end);
        let Some(next) = next else { break };
        assert!(next > peer.now, "time goes on");
        peer.now = next;
    }
    peer.now = end;
}

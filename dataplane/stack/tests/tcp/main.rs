//! One client, segment by segment: what the stack answers to each, to the number.
//!
//! Lines read `flags seq+bytes ack number`, relative to both sides' initial sequence numbers; the
//! client's is chosen so that every test goes around the circle.

#[path = "../sim/mod.rs"]
mod sim;

mod closing;
mod congestion;
mod cookies;
mod cubic;
mod ecn;
mod handshake;
mod hostile;
mod hystart;
mod limits;
mod offload;
mod path;
mod personality;
mod rack;
mod reordering;
mod sack;
#[cfg(debug_assertions)]
mod steps;
mod text;
mod windows;

use sim::peer::Peer;
use sim::{Memory, config, ordinary_group, xtcp_group};
use xtcp_stack::{Config, GroupConfig};

const PORT: u16 = 7;
/// What the stack answers when it does not.
const NOTHING: [&str; 0] = [];

/// A client of a stack with this configuration, whose pool has this much memory.
fn client(
    config: &Config,
    receive_bytes: usize,
    group: &GroupConfig,
    test: impl FnOnce(&mut Peer<'_>),
) {
    let mut memory = Memory::for_host(config, receive_bytes);
    test(&mut Peer::new(&mut memory, config, group));
}

/// A client of a group whose application accepts and acknowledges.
fn xtcp(test: impl FnOnce(&mut Peer<'_>)) {
    client(&config(0, 2), 1 << 20, &xtcp_group(PORT), test);
}

/// A client of a group that behaves as an ordinary TCP.
fn ordinary(test: impl FnOnce(&mut Peer<'_>)) {
    client(&config(0, 2), 1 << 20, &ordinary_group(PORT), test);
}

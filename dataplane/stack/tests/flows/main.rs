//! The communication flows (Fig. 5a to 5d) and operation flows (Fig. 6a to 6i) of WO 02/091709,
//! one test each, over a simulated network: every segment, what both ends hold as confirmed, and
//! what is cached.
//!
//! The client is any TCP, driven by hand ([`client::Client`]). C and S of the figures, the numbers
//! of both sides' next bytes when a flow begins, are 1 here. An end's state is shown as in the
//! figures: `[X:Y]`, confirmed outbound and inbound numbers, and the bytes it caches because they
//! are not acknowledged yet.

#[path = "../sim/mod.rs"]
mod sim;

mod answer;
mod client;
mod communication;
mod operation;

use client::Client;
use sim::peer::{Got, Peer, Seg};
use sim::{Memory, config, xtcp_group};

const PORT: u16 = 7;
/// What the stack sends when it does not.
const NOTHING: [&str; 0] = [];

/// An established connection between a client and an application of XTCP, over both families.
fn flow(mut test: impl FnMut(&mut Flow<'_, '_>)) {
    before_any_connection(|peer| {
        peer.open();
        test(&mut Flow { peer, client: Client::new() });
    });
}

/// A client that has not called yet, over both families.
fn before_any_connection(mut test: impl FnMut(&mut Peer<'_>)) {
    for v6 in [false, true] {
        let config = config(0, 2);
        let mut memory = Memory::for_host(&config, 1 << 20);
        let mut peer = Peer::new(&mut memory, &config, &xtcp_group(PORT));
        if v6 {
            peer.use_ipv6();
        }
        test(&mut peer);
    }
}

/// Both ends of one connection.
struct Flow<'p, 'm> {
    peer: &'p mut Peer<'m>,
    client: Client,
}

impl Flow<'_, '_> {
    /// A segment of the client's reaches the server; what the server sends at once.
    fn server_gets(&mut self, seg: Seg) -> Vec<String> {
        self.peer.give(seg)
    }

    /// The last segment of the server's reaches the client, whose TCP answers.
    fn client_gets(&mut self) -> Option<Seg> {
        let got: Got = self.peer.last_got().clone();
        self.client.receive(&got)
    }

    /// Both ends' states, the client's first.
    fn states(&self) -> [String; 2] {
        [self.client.state(), self.server()]
    }

    /// The server's state, from what operators can see of it.
    fn server(&self) -> String {
        let stack = &self.peer.host.stack;
        let info = stack.connection(self.peer.cd()).expect("it is there");
        let group = stack.groups().next().expect("it is open");
        assert_eq!(group.connections, 1, "its counters are this connection's");
        let confirmed_out = 1 + group.counts.bytes_out - u64::from(info.unsent);
        let confirmed_in = 1 + group.counts.bytes_in - u64::from(info.unread);
        // The shared transmit buffer holds what is not acknowledged, and nothing else.
        let cached = stack.usage().transmit_used;
        assert_eq!(cached > 0, info.unsent > 0, "{cached} B of blocks for {} B", info.unsent);
        assert!(cached >= info.unsent as usize);
        format!("[{confirmed_out}:{confirmed_in}] {}", info.unsent)
    }
}

//! Buffers, tables and lists that run out: what each pool may take, what is done before nothing is
//! left, what the peer and the application see, and that everything comes back. Segment by segment,
//! as in `tests/tcp`.

#[path = "../sim/mod.rs"]
mod sim;

mod ends;
mod exhaustion;
mod hide;
mod reserve;
mod shares;
mod shrink;
mod withhold;

use std::collections::HashMap;

use sim::peer::{Peer, ack, data, rst, syn};
use sim::{Memory, xtcp_group};
use xtcp_stack::{Cd, Config, Event, Gd, GroupConfig, Misuse, PoolId, PoolInfo, QueueId, Throttle};

/// The port of the pool that is driven to its limits.
const PORT: u16 = 7;
/// The port of the other pool.
const OTHER_PORT: u16 = 8;
const OTHER_QUEUE: QueueId = QueueId(1);
/// What the stack answers when it does not.
const NOTHING: [&str; 0] = [];
/// The first of a crowd's client ports.
const FIRST: u16 = 5000;
/// The client port of the other pool's connection.
const OTHER_CLIENT: u16 = 9000;
/// Bytes of a receive buffer with 32 pages of 2 KB for payload.
const PAGES_32: usize = 33 * 2048;

/// No shares and no steps.
const OFF: Throttle = Throttle { shrink_below: 0, withhold_below: 0, hide_below: 0, pool_share: 0 };

/// A stack with one pool of 32 pages.
fn one_pool(config: &Config, group: &GroupConfig, test: impl FnOnce(&mut Peer<'_>)) {
    let mut memory = Memory::for_host(config, PAGES_32);
    let mut peer = Peer::new(&mut memory, config, group);
    test(&mut peer);
    peer.host.stack.audit().expect("the books are right");
}

/// A stack with two pools of 32 pages each. The other one has an open connection, of the XTCP way.
fn two_pools(config: &Config, group: &GroupConfig, test: impl FnOnce(&mut Peer<'_>, &mut Other)) {
    let mut memory = Memory::for_host(config, PAGES_32);
    let mut more = Memory::new(PAGES_32);
    let mut peer = Peer::new(&mut memory, config, group);
    let pool = peer.host.stack.open_pool(&mut more.aligned()[..PAGES_32]).expect("room for a pool");
    let opened = peer.host.stack.open_group(pool, OTHER_QUEUE, &xtcp_group(OTHER_PORT));
    let mut other =
        Other { pool, group: opened.expect("room"), connection: None, said: 1, heard: 1 };
    other.open(&mut peer);
    other.exchange(&mut peer);
    test(&mut peer, &mut other);
    other.exchange(&mut peer);
    other.close(&mut peer);
    peer.host.stack.audit().expect("the books are right");
}

/// The other pool's application and its one client.
struct Other {
    pool: PoolId,
    group: Gd,
    connection: Option<Cd>,
    /// The client's next number, and the stack's.
    said: i64,
    heard: i64,
}

impl Other {
    fn open(&mut self, peer: &mut Peer<'_>) {
        let port = self.talk(peer);
        assert_eq!(peer.give(syn()), NOTHING);
        let stack = &mut peer.host.stack;
        let Some(Event::Acceptable { group, connection }) = stack.poll_event(OTHER_QUEUE) else {
            panic!("a client waits");
        };
        stack.accept(group, connection, peer.now).expect("acceptable");
        assert_eq!(peer.turn(), ["SA 0+0 ack 1"]);
        assert_eq!(peer.give(ack(1, 1)), NOTHING);
        let told = peer.host.stack.poll_event(OTHER_QUEUE);
        assert_eq!(told, Some(Event::Opened { group, connection }));
        (self.group, self.connection) = (group, Some(connection));
        peer.use_port(port);
    }

    /// A request, its answer and acknowledgement in one segment, and the client's acknowledgement:
    /// each in its round, whatever happens to others.
    fn exchange(&mut self, peer: &mut Peer<'_>) {
        let port = self.talk(peer);
        let own = |lines: Vec<String>| -> Vec<String> {
            lines.into_iter().filter(|line| !line.starts_with("port")).collect()
        };
        let sent = own(peer.give(data(self.said, self.heard, &[b'q'; 900])));
        assert_eq!(sent, NOTHING, "the request is taken and not acknowledged");
        let Some(Event::Data { connection, len: 900, offset, .. }) =
            peer.host.stack.poll_event(OTHER_QUEUE)
        else {
            panic!("the request is given at once");
        };
        self.said += 900;
        let (stack, now) = (&mut peer.host.stack, peer.now);
        stack.commit(self.group, connection, offset + 900, false, now).expect("given");
        stack.send(self.group, connection, [b'a'; 1000].as_slice(), now).expect("room");
        let answer = format!("PA {}+1000 ack {}", self.heard, self.said);
        assert_eq!(own(peer.turn()), [answer], "answer and acknowledgement in one segment");
        self.heard += 1000;
        assert_eq!(own(peer.give(ack(self.said, self.heard))), NOTHING);
        assert_eq!(peer.host.stack.poll_event(OTHER_QUEUE), None);
        peer.use_port(port);
        peer.call(PORT);
    }

    /// Another client calls, and is told to go away: it finds the application there.
    fn turns_away(&mut self, peer: &mut Peer<'_>) {
        let port = self.talk(peer);
        peer.use_port(OTHER_CLIENT + 1);
        assert_eq!(peer.give(syn()), NOTHING);
        let stack = &mut peer.host.stack;
        let Some(Event::Acceptable { group, connection }) = stack.poll_event(OTHER_QUEUE) else {
            panic!("a client waits");
        };
        stack.refuse(group, connection, peer.now).expect("acceptable");
        let lines = peer.turn();
        assert!(lines.len() == 1 && lines[0].starts_with("RA"), "{lines:?}");
        while peer.host.stack.poll_event(OTHER_QUEUE).is_some() {}
        peer.use_port(port);
        peer.call(PORT);
    }

    fn close(&mut self, peer: &mut Peer<'_>) {
        self.talk(peer);
        peer.give(rst(self.said));
        let told = peer.host.stack.poll_event(OTHER_QUEUE);
        assert!(matches!(told, Some(Event::Closed { held: 0, .. })), "{told:?}");
    }

    fn talk(&self, peer: &mut Peer<'_>) -> u16 {
        let port = peer.use_port(OTHER_CLIENT);
        peer.call(OTHER_PORT);
        port
    }

    fn info(&self, peer: &Peer<'_>) -> PoolInfo {
        info_of(peer, self.pool)
    }
}

/// What operators see of the pool under test.
fn info(peer: &Peer<'_>) -> PoolInfo {
    info_of(peer, peer.host.pool)
}

fn info_of(peer: &Peer<'_>, pool: PoolId) -> PoolInfo {
    peer.host.stack.pools().find(|info| info.pool == pool).expect("it is open")
}

/// Clients of the pool under test, each with what it has said and heard.
#[derive(Default)]
struct Crowd {
    clients: HashMap<u16, Client>,
    /// The order in which they came.
    ports: Vec<u16>,
}

struct Client {
    connection: Cd,
    said: i64,
}

impl Crowd {
    /// Opens so many more connections.
    fn open(&mut self, peer: &mut Peer<'_>, count: usize) {
        for _ in 0..count {
            let port = FIRST + u16::try_from(self.ports.len()).expect("few");
            peer.use_port(port);
            peer.open();
            self.ports.push(port);
            self.clients.insert(port, Client { connection: peer.cd(), said: 1 });
        }
    }

    /// A client sends a full segment: a page of the receive buffer. Whether it was taken.
    fn fill(&mut self, peer: &mut Peer<'_>, at: usize) -> bool {
        let port = self.ports[at];
        let client = self.clients.get_mut(&port).expect("one of ours");
        peer.use_port(port);
        peer.give(data(client.said, 1, &[b'x'; 1460]));
        let taken = !peer.events().is_empty();
        client.said += i64::from(taken) * 1460;
        taken
    }

    /// Opens connections and fills until so many pages of the receive buffer are in use.
    fn fill_to(&mut self, peer: &mut Peer<'_>, pages: usize) {
        let used = |peer: &Peer<'_>| {
            let info = info(peer);
            (info.receive_bytes - info.receive_free) / 2048
        };
        while used(peer) < pages {
            self.open(peer, 1);
            assert!(self.fill(peer, self.ports.len() - 1), "there is room");
        }
        assert_eq!(used(peer), pages);
    }

    /// The application has done with everything a client said.
    fn commit(&self, peer: &mut Peer<'_>, at: usize) {
        let client = &self.clients[&self.ports[at]];
        let (group, now) = (peer.host.group, peer.now);
        let up_to = u64::try_from(client.said - 1).expect("positive");
        peer.host.stack.commit(group, client.connection, up_to, false, now).expect("given");
    }

    fn commit_all(&self, peer: &mut Peer<'_>) {
        (0..self.ports.len()).for_each(|at| self.commit(peer, at));
    }

    /// As [`Self::commit_all`], where some connections are gone with nothing held.
    fn commit_all_left(&self, peer: &mut Peer<'_>) {
        let (group, now) = (peer.host.group, peer.now);
        for client in self.clients.values() {
            let up_to = u64::try_from(client.said - 1).expect("positive");
            let done = peer.host.stack.commit(group, client.connection, up_to, false, now);
            assert!(matches!(done, Ok(()) | Err(Misuse::StaleConnection)), "{done:?}");
        }
    }

    /// All reset their connections.
    fn leave(&self, peer: &mut Peer<'_>) {
        for port in &self.ports {
            peer.use_port(*port);
            peer.give(rst(self.clients[port].said));
            peer.events();
        }
    }
}

/// The window the stack told last, in bytes.
fn window(peer: &Peer<'_>) -> u32 {
    u32::from(peer.last_got().window) << 7
}

//! Applications that die at any moment and are followed by others: every stream goes on where it
//! was committed, and nothing is held at the end.

mod sim;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use sim::link::{Link, Weather};
use sim::rng::{Rng, pattern};
use sim::{
    Host, Memory, QUEUE, RECEIVE_BYTES, Wire, config, for_each_seed, ordinary_group, v4, v6,
    xtcp_group,
};
use xtcp_stack::{Accept, Cd, Event, Gd, GroupConfig, Instant, Reason, State};

const PORT: u16 = 7;

/// Two hosts, and what is between them.
struct Net<'m> {
    client: Host<'m>,
    server: Host<'m>,
    links: [Link; 2],
    now: Instant,
}

impl<'m> Net<'m> {
    fn new(memory: &'m mut [Memory; 2], weather: (u64, Weather), server: &GroupConfig) -> Self {
        let [client_memory, server_memory] = memory;
        let (seed, weather) = weather;
        Self {
            client: Host::new(client_memory, &config(0, 1), &ordinary_group(0)),
            server: Host::new(server_memory, &config(1, 2), server),
            links: [Link::new(weather, seed ^ 3), Link::new(weather, seed ^ 4)],
            now: Instant::from_millis(1_000),
        }
    }

    fn connect(&mut self, v6_too: bool) -> Cd {
        let remote = SocketAddr::new(if v6_too { v6(2) } else { v4(2) }, PORT);
        self.client.stack.connect(self.client.group, remote, self.now).expect("room")
    }

    /// A millisecond passes; the client's events are its own.
    fn step(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        let sides = [&mut self.client, &mut self.server];
        for (side, host) in sides.into_iter().enumerate() {
            let mut wire = Wire::default();
            while let Some(frame) = self.links[1 - side].arrived(self.now) {
                host.frame(&frame, &mut wire, self.now);
            }
            host.flush(&mut wire, self.now);
            host.stack.audit().expect("the books are right and every rule is kept");
            for frame in wire.frames {
                self.links[side].send(frame, self.now);
            }
        }
    }

    fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    /// Lets all clients come: all but the first find no place while an address is resolved.
    fn settle(&mut self) {
        self.steps(3_000);
    }

    fn server_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.server.stack.poll_event(QUEUE)).collect()
    }

    fn send(&mut self, from: Cd, bytes: &[u8]) {
        self.client.stack.send(self.client.group, from, bytes, self.now).expect("room");
    }

    /// The server's application is followed by another.
    fn successor(&mut self) {
        self.server.stack.orphan_queue(QUEUE, self.now);
        self.server.stack.tell_again(QUEUE);
    }
}

fn fair() -> Weather {
    Weather { delay: Duration::from_millis(2), ..Weather::default() }
}

fn memory() -> [Memory; 2] {
    [0, 1].map(|n| Memory::for_host(&config(n, n + 1), RECEIVE_BYTES))
}

/// A server that accepts by itself and acknowledges as XTCP does.
fn automatic() -> GroupConfig {
    GroupConfig { accept: Accept::Automatic, ..xtcp_group(PORT) }
}

#[test]
fn what_was_not_committed_is_given_again_and_idle_connections_are_told() {
    let mut memory = memory();
    let mut net = Net::new(&mut memory, (1, fair()), &automatic());
    let idle = net.connect(false);
    let busy = net.connect(true);
    net.steps(20);
    assert_eq!(net.server_events().len(), 2);
    net.send(busy, b"one two three");
    net.steps(20);
    let [Event::Data { group, connection, offset: 0, len: 13, .. }] = net.server_events()[..]
    else {
        panic!("one piece")
    };
    net.server.stack.commit(group, connection, 4, false, net.now).expect("given");
    net.send(busy, b" four");
    net.client.stack.close(net.client.group, busy, net.now).expect("open");
    net.steps(20);
    // Nobody acknowledges anything of it in the meantime.
    let unsent = net.client.stack.connection(busy).expect("there").unsent;
    assert_eq!(unsent, 14);

    net.server.stack.orphan_queue(QUEUE, net.now);
    assert!(!net.server.stack.is_telling_again(QUEUE));
    net.server.stack.tell_again(QUEUE);
    let events = net.server_events();
    assert!(!net.server.stack.is_telling_again(QUEUE));
    let mut text = Vec::new();
    let mut next = 4;
    for event in &events[1..events.len() - 2] {
        let Event::Data { connection: of, at, len, offset, .. } = *event else {
            panic!("{events:?}")
        };
        assert_eq!((of, offset), (connection, next));
        next += u64::from(len);
        text.extend_from_slice(net.server.stack.received(net.server.pool, at, len));
    }
    assert_eq!(text, b"two three four");
    assert_eq!(events[0], Event::Opened { group, connection });
    let end = events[events.len() - 2];
    assert_eq!(end, Event::Finished { group, connection, offset: 18 });
    let Event::Opened { connection: second, .. } = events[events.len() - 1] else {
        panic!("the idle one: {events:?}")
    };
    let far = net.server.stack.connection(second).expect("there").remote.port();
    let near = net.client.stack.connection(idle).expect("there").local.port();
    assert_eq!(far, near);
    net.server.stack.commit(group, connection, 18, false, net.now).expect("given again");
    net.steps(20);
    assert_eq!(net.client.stack.connection(busy).expect("there").unsent, 0);
}

#[test]
fn a_client_that_waits_to_be_accepted_is_told_again() {
    let mut memory = memory();
    let mut net = Net::new(&mut memory, (2, fair()), &xtcp_group(PORT));
    let client = net.connect(false);
    net.steps(10);
    let events = net.server_events();
    let [Event::Acceptable { group, connection }] = events[..] else { panic!("{events:?}") };
    net.successor();
    assert_eq!(net.server_events(), events);
    net.server.stack.accept(group, connection, net.now).expect("it waits");
    // Accepted by one application, opened under the next.
    net.successor();
    net.steps(20);
    assert_eq!(net.server_events(), [Event::Opened { group, connection }]);
    let state = net.client.stack.connection(client).expect("there").state;
    assert_eq!(state, State::Established);
}

#[test]
fn who_ends_while_nobody_is_there_is_gone_without_a_word() {
    let mut memory = memory();
    let mut net = Net::new(&mut memory, (3, fair()), &automatic());
    let clients = [net.connect(false), net.connect(false), net.connect(true)];
    net.settle();
    assert_eq!(net.server_events().len(), 3);
    net.send(clients[0], b"read and not committed");
    net.steps(10);
    let Event::Data { group, connection, .. } = net.server_events()[0] else { panic!() };
    // One breaks before the application is gone and one after; one is closed by the application.
    let closed = net.server.stack.connections().find(|info| info.remote.is_ipv6());
    let closed = closed.expect("it is there").connection;
    net.server.stack.close(group, closed, net.now).expect("open");
    net.client.stack.abort(net.client.group, clients[0], net.now).expect("open");
    net.steps(10);
    assert!(net.server.stack.pools().all(|pool| pool.receive_used > 0), "it is being read");
    net.server.stack.orphan_queue(QUEUE, net.now);
    net.client.stack.abort(net.client.group, clients[1], net.now).expect("open");
    net.client.stack.close(net.client.group, clients[2], net.now).expect("open");
    net.steps(20);
    net.server.stack.tell_again(QUEUE);
    assert_eq!(net.server_events(), []);
    assert!(net.server.stack.connection(connection).is_err());
    net.server.assert_nothing_held();
}

#[test]
fn an_untold_connection_is_introduced_before_its_bytes_and_once() {
    let mut memory = memory();
    let mut net = Net::new(&mut memory, (4, fair()), &automatic());
    let clients: Vec<Cd> = (0..40).map(|n| net.connect(n % 2 == 0)).collect();
    net.settle();
    assert_eq!(net.server_events().len(), 40);
    net.server.stack.orphan_queue(QUEUE, net.now);
    net.server.stack.tell_again(QUEUE);
    let mut told: HashMap<Cd, usize> = HashMap::new();
    let mut first = net.server.stack.poll_event(QUEUE);
    // All others are told of while they send.
    for client in &clients {
        net.send(*client, b"hello");
    }
    net.steps(20);
    while let Some(event) = first.take().or_else(|| net.server.stack.poll_event(QUEUE)) {
        match event {
            Event::Opened { connection, .. } => *told.entry(connection).or_default() += 1,
            Event::Data { connection, .. } => assert_eq!(told.get(&connection), Some(&1)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((told.len(), told.values().sum::<usize>()), (40, 40));
}

/// What the server's applications know of a stream, one after another.
#[derive(Default)]
struct Stream {
    /// Committed to the stack; all that survives an application.
    committed: u64,
    /// Given to the application that there is.
    given: u64,
    /// Of the answer, which is the request again.
    answered: u64,
    known: bool,
    finished: bool,
    closed: bool,
}

/// A client's stream of known bytes, and how much of it has come back.
struct Sender {
    key: u64,
    len: u64,
    sent: u64,
    back: u64,
    closing: bool,
    ended: Option<Reason>,
}

struct Echo {
    streams: HashMap<Cd, Stream>,
    ports: HashMap<u16, u64>,
}

impl Echo {
    fn on_event(&mut self, event: Event, host: &mut Host<'_>, now: Instant) {
        match event {
            Event::Acceptable { group, connection } => {
                host.stack.accept(group, connection, now).expect("it is acceptable");
            }
            Event::Opened { connection, .. } => {
                let stream = self.streams.entry(connection).or_default();
                assert!(!stream.known, "{connection:?} is opened twice");
                assert!(!stream.closed, "{connection:?} was closed by a predecessor");
                stream.known = true;
            }
            Event::Data { connection, at, len, offset, .. } => {
                let port = host.stack.connection(connection).expect("there").remote.port();
                let key = self.ports[&port];
                let stream = self.streams.get_mut(&connection).expect("opened before");
                assert!(stream.known);
                assert_eq!(offset, stream.given);
                let bytes = host.stack.received(host.pool, at, len);
                let expected = (offset..).map(|at| pattern(key, at));
                assert!(bytes.iter().copied().eq(expected.take(len.into())));
                stream.given += u64::from(len);
            }
            Event::Finished { connection, offset, .. } => {
                let stream = self.streams.get_mut(&connection).expect("opened before");
                assert!(stream.known && offset == stream.given);
                stream.finished = true;
            }
            Event::Closed { connection, .. } => {
                let stream = self.streams.remove(&connection).expect("opened before");
                assert!(stream.known && stream.closed, "only the server closes last");
            }
            Event::Drained { group } => panic!("nobody drains {group:?}"),
        }
    }

    /// Answers some of what is given: bytes first, then the commit, then perhaps the close.
    fn work(&mut self, host: &mut Host<'_>, group: Gd, rng: &mut Rng, now: Instant) {
        let mut all: Vec<(&Cd, &mut Stream)> = self.streams.iter_mut().collect();
        all.sort_unstable_by_key(|(cd, _)| **cd);
        for (cd, stream) in all {
            if !stream.known || stream.closed || rng.chance(500_000) {
                continue;
            }
            let Ok(info) = host.stack.connection(*cd) else { continue };
            let key = self.ports[&info.remote.port()];
            let up_to = stream.committed + rng.below(stream.given - stream.committed + 1);
            // The application's own record of what it answered outlives it: it need not repeat.
            let bytes: Vec<u8> = (stream.answered..up_to).map(|at| pattern(key, at)).collect();
            if !bytes.is_empty() && host.stack.send(group, *cd, &bytes[..], now).is_err() {
                continue;
            }
            stream.answered = stream.answered.max(up_to);
            if rng.chance(800_000) {
                host.stack.commit(group, *cd, up_to, false, now).expect("it was given");
                stream.committed = up_to;
            }
            if stream.finished && stream.committed == stream.given {
                stream.closed = host.stack.close(group, *cd, now).is_ok();
            }
        }
    }

    /// The application dies; what it knew dies with it.
    fn die(&mut self) {
        self.streams.retain(|_, stream| !stream.closed);
        for stream in self.streams.values_mut() {
            stream.given = stream.committed;
            (stream.known, stream.finished) = (false, false);
        }
    }
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let weather = Weather {
        delay: Duration::from_millis(1 + rng.below(20)),
        loss: u32::try_from(rng.below(40_000)).expect("small"),
        reordering: u32::try_from(rng.below(50_000)).expect("small"),
        reorder_by: Duration::from_millis(3),
        ..Weather::default()
    };
    let mut memory = memory();
    let mut net = Net::new(&mut memory, (seed, weather), &xtcp_group(PORT));
    let mut senders: HashMap<Cd, Sender> = HashMap::new();
    let mut echo = Echo { streams: HashMap::new(), ports: HashMap::new() };
    for n in 0..4 {
        let cd = net.connect(n % 2 == 0);
        let port = net.client.stack.connection(cd).expect("there").local.port();
        echo.ports.insert(port, seed ^ n);
        let len = 1 + rng.below(60_000);
        senders.insert(
            cd,
            Sender { key: seed ^ n, len, sent: 0, back: 0, closing: false, ended: None },
        );
    }
    let group = net.server.group;
    let mut orphaned_for = 0;
    for _ in 0..60_000 {
        net.step();
        if orphaned_for > 0 {
            orphaned_for -= 1;
            if orphaned_for == 0 {
                net.server.stack.tell_again(QUEUE);
            }
        } else if rng.chance(10_000) {
            echo.die();
            net.server.stack.orphan_queue(QUEUE, net.now);
            orphaned_for = 1 + rng.below(100);
        } else {
            for _ in 0..rng.below(6) {
                let Some(event) = net.server.stack.poll_event(QUEUE) else { break };
                echo.on_event(event, &mut net.server, net.now);
            }
            echo.work(&mut net.server, group, &mut rng, net.now);
        }
        serve_client(&mut net, &mut senders);
        if senders.values().all(|sender| sender.ended.is_some()) && orphaned_for == 0 {
            break;
        }
    }
    for (cd, sender) in &senders {
        assert_eq!((sender.ended, sender.back), (Some(Reason::Closed), sender.len), "{cd:?}");
    }
    net.steps(130_000);
    for event in net.server_events() {
        echo.on_event(event, &mut net.server, net.now);
    }
    net.server.assert_nothing_held();
}

fn serve_client(net: &mut Net<'_>, senders: &mut HashMap<Cd, Sender>) {
    let (group, now) = (net.client.group, net.now);
    while let Some(event) = net.client.stack.poll_event(QUEUE) {
        match event {
            Event::Data { connection, at, len, offset, .. } => {
                let sender = senders.get_mut(&connection).expect("known");
                let bytes = net.client.stack.received(net.client.pool, at, len);
                let expected = (offset..).map(|at| pattern(sender.key, at));
                assert!(bytes.iter().copied().eq(expected.take(len.into())));
                sender.back = offset + u64::from(len);
                net.client.stack.commit(group, connection, sender.back, false, now).expect("given");
            }
            Event::Closed { connection, reason, .. } => {
                senders.get_mut(&connection).expect("known").ended = Some(reason);
            }
            Event::Opened { .. }
            | Event::Finished { .. }
            | Event::Acceptable { .. }
            | Event::Drained { .. } => {}
        }
    }
    let mut all: Vec<(&Cd, &mut Sender)> = senders.iter_mut().collect();
    all.sort_unstable_by_key(|(cd, _)| **cd);
    for (cd, sender) in all {
        if sender.ended.is_some() || sender.closing {
            continue;
        }
        if sender.back == sender.len {
            // Who closes first gets no more text: the whole answer has to be there.
            sender.closing = net.client.stack.close(group, *cd, now).is_ok();
            continue;
        }
        if sender.sent == sender.len {
            continue;
        }
        let end = sender.len.min(sender.sent + 3_000);
        let bytes: Vec<u8> = (sender.sent..end).map(|at| pattern(sender.key, at)).collect();
        if net.client.stack.send(group, *cd, &bytes[..], now).is_ok() {
            sender.sent = end;
        }
    }
}

#[test]
fn streams_survive_applications_that_die_at_any_moment() {
    for_each_seed(60, run);
}

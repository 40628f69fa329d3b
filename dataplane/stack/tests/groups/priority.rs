//! Whose events come first, and that nobody's never come.

use std::collections::HashMap;

use xtcp_stack::{Cd, Event, Gd, GroupConfig, PRIORITIES};

use super::{PORT, with_group};
use crate::sim::peer::{Peer, ack, data, syn};
use crate::sim::rng::Rng;
use crate::sim::{QUEUE, for_each_seed, ordinary_group};

/// Events after which every priority that waits has had one.
const ALL_HAD_ONE: usize = 4 * 64;

fn of_priority(priority: u8) -> GroupConfig {
    GroupConfig { priority, ..ordinary_group(PORT + u16::from(priority)) }
}

/// One client of a group of each priority, on one queue; the ports' last digits tell them apart.
fn with_all_priorities(test: impl FnOnce(&mut Peer<'_>, &mut Clients)) {
    with_group(&of_priority(0), |peer| {
        for priority in 1..PRIORITIES {
            let pool = peer.host.pool;
            peer.host.stack.open_group(pool, QUEUE, &of_priority(priority)).expect("room");
        }
        let mut clients = Clients { sent: HashMap::new(), of: HashMap::new() };
        for priority in 0..PRIORITIES {
            peer.use_port(4000 + u16::from(priority));
            peer.call(PORT + u16::from(priority));
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
            peer.give(ack(1, 1));
            let Some(Event::Opened { connection, .. }) = peer.host.stack.poll_event(QUEUE) else {
                panic!("it is told")
            };
            clients.of.insert(connection, priority);
        }
        test(peer, &mut clients);
    });
}

struct Clients {
    /// Bytes each has sent.
    sent: HashMap<u8, i64>,
    of: HashMap<Cd, u8>,
}

impl Clients {
    /// The client of this priority sends one byte.
    fn send(&mut self, peer: &mut Peer<'_>, priority: u8) {
        let sent = self.sent.entry(priority).or_default();
        peer.use_port(4000 + u16::from(priority));
        peer.call(PORT + u16::from(priority));
        peer.give(data(1 + *sent, 1, b"x"));
        *sent += 1;
    }

    /// The priority whose text is given next.
    fn next(&self, peer: &mut Peer<'_>) -> Option<u8> {
        let (group, connection, end): (Gd, Cd, u64) = match peer.host.stack.poll_event(QUEUE)? {
            Event::Data { group, connection, len, offset, .. } => {
                (group, connection, offset + u64::from(len))
            }
            event => panic!("{event:?}"),
        };
        let now = peer.now;
        peer.host.stack.commit(group, connection, end, false, now).expect("given");
        Some(self.of[&connection])
    }
}

#[test]
fn a_higher_priority_overtakes_a_lower_one() {
    with_all_priorities(|peer, clients| {
        for priority in [1, 3, 0, 2] {
            clients.send(peer, priority);
        }
        let order: Vec<u8> = std::iter::from_fn(|| clients.next(peer)).collect();
        assert_eq!(order, [3, 2, 1, 0]);
        // What comes later and higher goes before what waits.
        clients.send(peer, 0);
        clients.send(peer, 1);
        assert_eq!(clients.next(peer), Some(1));
        clients.send(peer, 2);
        assert_eq!(clients.next(peer), Some(2));
        assert_eq!(clients.next(peer), Some(0));
        assert_eq!(clients.next(peer), None);
    });
}

/// A client that sends faster than it is read does not keep its neighbours from being heard.
#[test]
fn connections_of_a_priority_take_turns() {
    with_group(&ordinary_group(PORT), |peer| {
        let mut connections = Vec::new();
        for port in [4000, 4001, 4002] {
            peer.use_port(port);
            peer.open();
            connections.push(peer.cd());
        }
        let mut sent = 0;
        let mut flood = |peer: &mut Peer<'_>| {
            peer.use_port(4000);
            peer.give(data(1 + sent, 1, &[b'x'; 1460]));
            sent += 1460;
        };
        for _ in 0..40 {
            flood(peer);
        }
        for port in [4001, 4002] {
            peer.use_port(port);
            peer.give(data(1, 1, b"me, too"));
        }
        let mut order = Vec::new();
        for _ in 0..20 {
            let Some(Event::Data { group, connection, len, offset, .. }) =
                peer.host.stack.poll_event(QUEUE)
            else {
                panic!("somebody always waits")
            };
            let (end, now) = (offset + u64::from(len), peer.now);
            peer.host.stack.commit(group, connection, end, false, now).expect("given");
            order.push(connections.iter().position(|known| *known == connection));
            flood(peer);
        }
        let first = |who| order.iter().position(|one| *one == Some(who));
        assert_eq!((first(1), first(2)), (Some(16), Some(17)), "{order:?}");
        assert_eq!(order[18..], [Some(0), Some(0)], "and then it goes on");
    });
}

/// A priority beyond the highest is the highest.
#[test]
fn priorities_end_at_the_highest() {
    with_group(&GroupConfig { priority: 200, ..ordinary_group(PORT) }, |peer| {
        peer.open();
        let seen = peer.host.stack.groups().next().map(|info| info.priority);
        assert_eq!(seen, Some(PRIORITIES - 1));
    });
}

/// Whoever waits and however long: everybody that waits is served within 256 events, and nearly all
/// of them are the highest's.
#[test]
fn no_priority_waits_for_ever() {
    const EVENTS: usize = 2048;
    for_each_seed(24, |seed| {
        let mut rng = Rng::new(seed);
        let busy: Vec<u8> = (0..PRIORITIES).filter(|_| rng.chance(700_000)).collect();
        let Some(highest) = busy.last().copied() else { return };
        with_all_priorities(|peer, clients| {
            for priority in &busy {
                clients.send(peer, *priority);
            }
            let mut last = HashMap::new();
            let mut got = [0; PRIORITIES as usize];
            for event in 0..EVENTS {
                let served = clients.next(peer).expect("somebody always waits");
                assert!(busy.contains(&served));
                clients.send(peer, served);
                last.insert(served, event);
                got[usize::from(served)] += 1;
                for priority in &busy {
                    let waited = event - last.get(priority).copied().unwrap_or(0);
                    assert!(waited <= ALL_HAD_ONE, "{priority} of {busy:?} waits {waited} events");
                }
            }
            let others = EVENTS - got[usize::from(highest)];
            assert!(others <= EVENTS / 64, "{busy:?} got {got:?}");
        });
    });
}

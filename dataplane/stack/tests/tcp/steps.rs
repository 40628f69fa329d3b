//! I8: what a segment costs is logarithmic at worst in what a connection holds, whatever the peer
//! sends. Steps are counted, not time: a step is a look at a record of buffered text or of a flight.

use std::time::Duration;

use super::{PORT, client};
use crate::sim::peer::{Peer, Seg, ack, data, syn_with_sack};
use crate::sim::rng::Rng;
use crate::sim::{config, ordinary_group};
use xtcp_stack::{Config, GroupConfig, TcpConfig};

/// The worst orders in which a peer can fill a thing from 0 to `n` - 1.
const ORDERS: [(&str, Order); 5] = [
    ("from the left", |n| (0..n).collect()),
    ("from the right", |n| (0..n).rev().collect()),
    ("from both ends", |n| {
        (0..n).map(|at| if at % 2 == 0 { at / 2 } else { n - 1 - at / 2 }).collect()
    }),
    ("bisecting", bisecting),
    ("at random", at_random),
];

/// The middle first, then the middles of what is left.
fn bisecting(n: i64) -> Vec<i64> {
    let mut order = Vec::new();
    let mut parts = std::collections::VecDeque::from([(0, n)]);
    while let Some((from, to)) = parts.pop_front() {
        if from < to {
            let middle = from + (to - from) / 2;
            order.push(middle);
            parts.extend([(from, middle), (middle + 1, to)]);
        }
    }
    order
}

fn at_random(n: i64) -> Vec<i64> {
    let mut rng = Rng::new(n.unsigned_abs());
    let mut order: Vec<i64> = (0..n).collect();
    for at in (1..order.len()).rev() {
        let other = rng.below(at as u64 + 1);
        order.swap(at, usize::try_from(other).expect("small"));
    }
    order
}

/// What a peer's segments cost.
#[derive(Debug, Default)]
struct Cost {
    segments: u64,
    steps: u64,
    worst: u64,
}

impl Cost {
    /// Steps that one segment costs, and those that it makes the stack send.
    fn add(&mut self, peer: &mut Peer<'_>, seg: Seg) {
        let before = peer.host.stack.steps();
        let sent = peer.give(seg).len() as u64;
        let steps = peer.host.stack.steps() - before;
        self.segments += 1 + sent;
        self.steps += steps;
        self.worst = self.worst.max(steps / (1 + sent));
    }
}

fn log2(n: i64) -> f64 {
    (n as f64).log2()
}

fn roomy() -> Config {
    Config { chunks_max: 65_536, ..config(0, 2) }
}

fn wide() -> GroupConfig {
    GroupConfig { window_max: 1 << 20, ..ordinary_group(PORT) }
}

/// Every other byte of a window, in an order, and once more; segments that lie across all of them, and
/// once more; and the first byte, which puts all in order. A segment that makes one of many pays for
/// each once, as each of them came once.
#[test]
fn text_beyond_holes_costs_a_logarithm_in_any_order() {
    for (name, order) in ORDERS {
        for n in [16, 64, 256, 500] {
            let mut costs: [Cost; 4] = std::array::from_fn(|_| Cost::default());
            client(&roomy(), 4 << 20, &wide(), |peer| {
                peer.open_with(syn_with_sack());
                let [apart, across, again, filled] = &mut costs;
                for at in order(n).into_iter().chain(order(n)) {
                    apart.add(peer, data(3 + 2 * at, 1, b"x"));
                }
                for cost in [across, again] {
                    for start in (2..2 * n).step_by(1400) {
                        cost.add(peer, data(start, 1, &[b'x'; 1400]));
                    }
                }
                filled.add(peer, data(1, 1, b"x"));
            });
            let [apart, across, again, filled] = costs;
            let limit = 6.0 * log2(n);
            assert!(apart.worst as f64 <= limit, "{name}, {n}: {apart:?}");
            assert!(again.worst as f64 <= limit, "{name}, {n}: {again:?}");
            assert!(across.steps as f64 <= limit * n as f64 * 1.5, "{name}, {n}: {across:?}");
            assert!(filled.steps as f64 <= limit * n as f64, "{name}, {n}: {filled:?}");
        }
    }
}

/// A server with this much on its way to a client that takes it, byte by byte if it likes.
fn sending(peer: &mut Peer<'_>, bytes: usize) {
    assert_eq!(peer.give(syn_with_sack().window(65_535)), ["SA 0+0 ack 1"]);
    peer.now = peer.now + Duration::from_millis(40);
    peer.give(ack(1, 1).window(65_535));
    assert_eq!(peer.events(), ["opened"]);
    peer.send(&vec![b'x'; bytes]);
    peer.turn();
    peer.now = peer.now + Duration::from_millis(40);
}

fn tell(blocks: &[(i64, i64)]) -> Seg {
    ack(1, 1).window(65_535).sacks(blocks)
}

/// At most so many steps, and few for few: four blocks take four places, each some steps away.
fn assert_few(cost: &Cost, n: i64, what: &str) {
    let worst = cost.worst as f64;
    assert!(worst <= 160.0 && worst <= 32.0 * log2(n), "{what}, {n}: {cost:?}");
}

/// SACK blocks of every other byte of what is in flight, in an order, one at a time and four at a
/// time; and the same again, which tells nothing new.
#[test]
fn sack_blocks_cost_a_logarithm_in_any_order() {
    for (name, order, n, rack) in everything() {
        let (mut one, mut many) = (Cost::default(), Cost::default());
        let tcp = TcpConfig { rack, ..TcpConfig::default() };
        client(&Config { tcp, ..roomy() }, 4 << 20, &wide(), |peer| {
            sending(peer, 14_600);
            let block = |at: i64| (4 + 2 * at, 5 + 2 * at);
            for at in order(n) {
                one.add(peer, tell(&[block(at)]));
            }
            for _ in 0..2 {
                for at in order(n) {
                    let far = |part: i64| block((at + part * n / 4) % n);
                    many.add(peer, tell(&[block(at), far(1), far(2), far(3)]));
                }
            }
        });
        assert_few(&one, n, name);
        assert_few(&many, n, name);
    }
}

/// A peer that tells every other byte, takes it back, tells the other bytes, reports as duplicates what
/// was never sent twice, and then acknowledges byte by byte.
#[test]
fn a_peer_that_changes_its_mind_costs_a_logarithm() {
    for (name, order, n, rack) in everything() {
        let [mut told, mut joined, mut reported, mut acked] = [(); 4].map(|()| Cost::default());
        let tcp = TcpConfig { rack, ..TcpConfig::default() };
        client(&Config { tcp, ..roomy() }, 4 << 20, &wide(), |peer| {
            sending(peer, 14_600);
            for start in [4, 5] {
                for at in order(n) {
                    told.add(peer, tell(&[(start + 2 * at, start + 1 + 2 * at)]));
                }
                // The timer fires, and what was told of the first byte is not true.
                peer.give(tell(&[(2, 4)]));
                peer.wait(Duration::from_secs(1));
            }
            // All that was marked apart becomes one, some by each segment: each flight is joined once.
            for _ in 0..=n / 16 {
                joined.add(peer, tell(&[(3, 5 + 2 * n)]));
            }
            for at in order(n) {
                let block = (4 + 2 * at, 5 + 2 * at);
                reported.add(peer, tell(&[block, (3, 5 + 2 * n)]));
            }
            for to in 1..3 * n {
                acked.add(peer, ack(1, 1 + to).window(65_535).sacks(&[(3 + to, 4 + to)]));
            }
        });
        let (flights, segments) = (n.unsigned_abs(), joined.segments);
        assert!(joined.steps <= 16 * flights + 160 * segments, "{name}, {n}: {joined:?}");
        for cost in [told, reported, acked] {
            assert_few(&cost, n, name);
        }
    }
}

type Order = fn(i64) -> Vec<i64>;

/// Every order and size, with RACK and without.
fn everything() -> impl Iterator<Item = (&'static str, Order, i64, bool)> {
    let sizes = [16, 64, 256, 1000];
    ORDERS.into_iter().flat_map(move |(name, order)| {
        sizes.into_iter().flat_map(move |n| [true, false].map(|rack| (name, order, n, rack)))
    })
}

//! Frames on their way to the worker they belong to.
//!
//! Between every two workers there is one ring of mbufs each way, with one sender and one
//! receiver. What does not fit is dropped and counted: the peer's retransmission is cheaper than a
//! worker that waits for another.

use core::fmt;

use dpdk::{Burst, Eal, Mbuf, MbufReceiver, MbufRing, MbufSender, Pool, RingError};

use crate::spread::{Owner, Spread, SpreadBy};
use crate::stats::ExchangeCounters;

/// Frames a ring between two workers holds.
pub(crate) const RING: u32 = 1024;

/// One worker's ends of the rings, and what it needs to choose.
pub(crate) struct Exchange {
    own: usize,
    spread: Spread,
    /// For verifying the device's choice: the size of its redirection table, and how many queues
    /// it spreads over. The table is filled round-robin.
    redirection: Option<(u32, u32)>,
    pool: Pool,
    /// To each other worker; `None` at our own place.
    outgoing: Vec<Option<Outgoing>>,
    incoming: Vec<MbufReceiver>,
    /// Frames that stay; empty between calls.
    kept: Burst,
    pub(crate) counters: ExchangeCounters,
}

struct Outgoing {
    ring: MbufSender,
    burst: Burst,
}

impl Exchange {
    /// The exchanges of all workers of a port, in their order; none for a single worker. `pools` are the
    /// workers' own; `reta_size` is the size of the device's redirection table.
    pub(crate) fn between(
        eal: &Eal,
        port: u16,
        spread: &Spread,
        by: SpreadBy,
        reta_size: u16,
        pools: &[Pool],
    ) -> Result<Vec<Self>, RingError> {
        if pools.len() < 2 {
            return Ok(Vec::new());
        }
        let queues = u32::try_from(pools.len()).unwrap_or(u32::MAX);
        let redirection =
            (by == SpreadBy::Device && reta_size > 0).then_some((u32::from(reta_size), queues));
        let mut exchanges: Vec<Self> = pools
            .iter()
            .enumerate()
            .map(|(own, pool)| Self {
                own,
                spread: *spread,
                redirection,
                pool: pool.clone(),
                outgoing: Vec::new(),
                incoming: Vec::new(),
                kept: Burst::new(),
                counters: ExchangeCounters::default(),
            })
            .collect();
        for from in 0..pools.len() {
            for to in 0..pools.len() {
                let outgoing = if from == to {
                    None
                } else {
                    let name = format!("xtcp-{port}-{from}-{to}");
                    let (ring, receiver) = MbufRing::create(eal, &name, RING)?;
                    exchanges[to].incoming.push(receiver);
                    Some(Outgoing { ring, burst: Burst::new() })
                };
                exchanges[from].outgoing.push(outgoing);
            }
        }
        Ok(exchanges)
    }

    /// Hands over what belongs to others; what is ours stays in `frames`, in its order.
    pub(crate) fn hand_over(&mut self, frames: &mut Burst) {
        if frames.is_empty() {
            return;
        }
        for mbuf in frames.drain() {
            match self.spread.owner(mbuf.bytes()) {
                Owner::Receiver => {
                    self.counters.rss_mismatch += u64::from(self.is_mismatch(&mbuf));
                    keep(&mut self.kept, mbuf);
                }
                Owner::Worker(worker) => match self.outgoing.get_mut(worker) {
                    Some(Some(outgoing)) => outgoing.put(mbuf, &mut self.counters),
                    _ => keep(&mut self.kept, mbuf),
                },
                Owner::Everyone => {
                    for outgoing in self.outgoing.iter_mut().flatten() {
                        match copy(&self.pool, &mbuf) {
                            Some(copy) => outgoing.put(copy, &mut self.counters),
                            None => self.counters.full += 1,
                        }
                    }
                    keep(&mut self.kept, mbuf);
                }
            }
        }
        frames.append(&mut self.kept);
        for outgoing in self.outgoing.iter_mut().flatten() {
            outgoing.flush(&mut self.counters);
        }
    }

    /// Takes what others have handed over, as far as there is room in `frames`. Says how many.
    pub(crate) fn receive(&mut self, frames: &mut Burst) -> usize {
        let mut received = 0;
        for ring in &mut self.incoming {
            if frames.is_full() {
                break;
            }
            received += ring.receive(frames);
        }
        // Who comes last gets what room is left: take turns.
        self.incoming.rotate_left(1);
        self.counters.received += received as u64;
        received
    }

    /// Whether the device's own hash says that the frame is another queue's.
    fn is_mismatch(&self, mbuf: &Mbuf) -> bool {
        match (self.redirection, mbuf.rss_hash()) {
            (Some((reta_size, queues)), Some(hash)) => {
                (hash % reta_size % queues) as usize != self.own
            }
            _ => false,
        }
    }
}

impl Outgoing {
    fn put(&mut self, mbuf: Mbuf, counters: &mut ExchangeCounters) {
        if let Err(mbuf) = self.burst.push(mbuf) {
            self.flush(counters);
            // The burst is empty now.
            let _ = self.burst.push(mbuf);
        }
    }

    fn flush(&mut self, counters: &mut ExchangeCounters) {
        if self.burst.is_empty() {
            return;
        }
        counters.handed_over += self.ring.send(&mut self.burst) as u64;
        counters.full += self.burst.len() as u64;
        self.burst.clear();
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("own", &self.own)
            .field("workers", &self.outgoing.len())
            .field("spread", &self.spread)
            .finish_non_exhaustive()
    }
}

/// As many are kept as came in one burst, so there is room.
fn keep(kept: &mut Burst, mbuf: Mbuf) {
    let _ = kept.push(mbuf);
}

fn copy(pool: &Pool, mbuf: &Mbuf) -> Option<Mbuf> {
    let mut copy = pool.alloc()?;
    copy.set_len(mbuf.bytes().len()).ok()?;
    copy.bytes_mut().copy_from_slice(mbuf.bytes());
    Some(copy)
}

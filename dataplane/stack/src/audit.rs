//! The books against the records: everything is counted anew, for tests, fuzzers and doubts; and the
//! rules that every connection keeps (`rules`).

mod rules;

use core::fmt;

use crate::buffer::Buffer;
use crate::handle::{Cd, PoolId};
use crate::stack::{POOLS_MAX, Stack};
use crate::table::chunk::Chunks;
use crate::table::slots::NONE;
use crate::tcp::record::{Active, ENDED, HALF_OPEN, ON_WAIT_LIST, V6};
use crate::tcp::seq::SeqNum;
use crate::tcp::state::State;

/// What the audit found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discrepancy {
    /// The books say something else than the records.
    Books {
        /// What was counted.
        what: &'static str,
        /// Whose it is.
        pool: PoolId,
        /// How much the records show.
        counted: u64,
        /// How much the books say.
        booked: u64,
    },
    /// A connection breaks a rule that every connection keeps, whatever its peer does.
    Connection {
        /// Which one.
        connection: Cd,
        /// The rule.
        rule: &'static str,
    },
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Books { what, pool, counted, booked } => {
                write!(f, "pool {} has {counted} {what}, and the books say {booked}", pool.0)
            }
            Self::Connection { connection, rule } => {
                write!(f, "of connection {:x} this is not so: {rule}", connection.to_bits())
            }
        }
    }
}

impl core::error::Error for Discrepancy {}

/// What one pool has.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    connections: u64,
    ipv6_addresses: u64,
    half_open: u64,
    actives: u64,
    waiting: u64,
    ends_untold: u64,
    received: Pieces,
    sent: Pieces,
    /// Records of runs beyond holes.
    runs: u64,
    flights: u64,
    flights_noted: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pieces {
    chunks: u64,
    payload: u64,
}

impl Pieces {
    fn add_list(&mut self, chunks: &Chunks<'_>, mut index: u32) {
        while index != NONE {
            let chunk = chunks.get(index);
            self.chunks += 1;
            self.payload += u64::from(chunk.len);
            index = chunk.next;
        }
    }

    fn add_circle(&mut self, chunks: &Chunks<'_>, last: u32) {
        let mut index = last;
        loop {
            let chunk = chunks.get(index);
            self.chunks += 1;
            self.payload += u64::from(chunk.len);
            index = chunk.next;
            if index == last {
                return;
            }
        }
    }
}

/// What is held without a gap beyond a hole.
struct RunBeyond {
    start: SeqNum,
    last: u32,
    /// Whether it has a record: all but the highest have.
    is_recorded: bool,
}

impl Stack<'_> {
    /// Counts anew from the records what is booked for each pool, and holds every connection against
    /// the rules that all of them keep. It looks at every connection and every piece: not for a
    /// running worker.
    ///
    /// # Errors
    /// The first discrepancy.
    pub fn audit(&self) -> Result<(), Discrepancy> {
        // What it looks at is no segment's cost.
        #[cfg(debug_assertions)]
        let steps = self.chunks.steps();
        let outcome = self.audit_all();
        #[cfg(debug_assertions)]
        self.chunks.forget_steps(steps);
        outcome
    }

    fn audit_all(&self) -> Result<(), Discrepancy> {
        let mut counts = [Count::default(); POOLS_MAX];
        for index in NONE + 1..self.connections_free.high_water() {
            let pool = self.groups[usize::from(self.connections[index as usize].group)].pool;
            let is_free =
                self.connections[index as usize].state() == State::Closed && !self.is_live(index);
            if let (false, Some(count)) = (is_free, counts.get_mut(usize::from(pool))) {
                self.count_connection(index, count);
            }
            if !is_free {
                self.check_connection(index)?;
            }
        }
        let is_there = |(at, count): &(usize, &Count)| {
            self.pools[*at].is_some() || count.connections + count.actives > 0
        };
        counts
            .iter()
            .enumerate()
            .filter(is_there)
            .try_for_each(|(at, count)| self.compare(at, count))?;
        (0..POOLS_MAX).try_for_each(|at| self.compare_without_any(at, &counts[at]))
    }

    /// A pool that is not there has nothing.
    fn compare_without_any(&self, at: usize, count: &Count) -> Result<(), Discrepancy> {
        let shares = &self.shares;
        let quotas = [&shares.connections, &shares.actives, &shares.half_open];
        let booked =
            quotas.iter().map(|quota| quota.used(at)).sum::<u32>() + self.chunks.quota().used(at);
        if booked == 0 || self.pools[at].is_some() || count.connections + count.actives > 0 {
            return Ok(());
        }
        let (pool, booked) = (Self::pool_id(at), booked.into());
        Err(Discrepancy::Books { what: "records of no connection", pool, counted: 0, booked })
    }

    fn count_connection(&self, index: u32, count: &mut Count) {
        let rec = &self.connections[index as usize];
        count.connections += 1;
        count.ipv6_addresses += u64::from(rec.has(V6));
        count.half_open += u64::from(rec.has(HALF_OPEN));
        count.ends_untold += u64::from(rec.is_notified(ENDED));
        let Some(active) = rec.active() else { return };
        let act = &self.actives[active as usize];
        count.actives += 1;
        count.waiting += u64::from(act.has(ON_WAIT_LIST));
        count.received.add_list(&self.chunks, act.rcv_list.head);
        for run in self.runs_beyond_holes(act) {
            count.runs += u64::from(run.is_recorded);
            count.received.add_circle(&self.chunks, run.last);
        }
        count.sent.add_list(&self.chunks, act.snd_list.head);
        count.flights_noted += u64::from(act.recovery.flights_count);
        let mut flight = act.recovery.flights.head;
        while flight != NONE {
            count.flights += 1;
            flight = self.chunks.flight(flight).next;
        }
    }

    /// What lies beyond holes, the lowest first.
    fn runs_beyond_holes(&self, act: &Active) -> impl Iterator<Item = RunBeyond> + '_ {
        let (root, top) = (act.ooo_runs, act.ooo_top);
        let mut next = self.chunks.first_run(root);
        let recorded = core::iter::from_fn(move || {
            (next != NONE).then(|| {
                let run = self.chunks.run(next);
                next = self.chunks.runs_around(root, run.seq).1;
                RunBeyond { start: run.seq, last: run.last, is_recorded: true }
            })
        });
        let highest = (top != NONE).then(|| {
            let start = self.chunks.get(self.chunks.get(top).next).seq;
            RunBeyond { start, last: top, is_recorded: false }
        });
        recorded.chain(highest)
    }

    fn compare(&self, at: usize, count: &Count) -> Result<(), Discrepancy> {
        let pool = self.pools[at].as_ref();
        let (shares, chunks) = (&self.shares, self.chunks.quota().used(at));
        let held = |buffer: &Buffer<'_>| (buffer.blocks(at), buffer.all_payload());
        let (blocks, payload) = pool.map_or((0, 0), |pool| held(&pool.receive));
        let waiting = pool.map_or(0, |pool| pool.figures.waiting_count);
        let ends_untold = pool.map_or(0, |pool| pool.figures.ends_untold);
        let sent_blocks = self.transmit.blocks(at);
        let pieces = count.received.chunks + count.sent.chunks;
        let rows = [
            ("connections", count.connections, shares.connections.used(at).into()),
            ("IPv6 addresses", count.ipv6_addresses, shares.ipv6_addresses.used(at).into()),
            ("handshakes", count.half_open, shares.half_open.used(at).into()),
            ("active records", count.actives, shares.actives.used(at).into()),
            ("waiting connections", count.waiting, waiting.into()),
            ("ends to be told", count.ends_untold, ends_untold.into()),
            ("flights", count.flights, count.flights_noted),
            ("chunks", pieces + count.runs + count.flights, chunks.into()),
            ("receive blocks", count.received.chunks, blocks.into()),
            ("received bytes", count.received.payload, payload as u64),
            ("transmit blocks", count.sent.chunks, sent_blocks.into()),
            ("bytes to send", count.sent.payload, self.transmit.payload(at) as u64),
        ];
        for (what, counted, booked) in rows {
            if counted != booked {
                return Err(Discrepancy::Books { what, pool: Self::pool_id(at), counted, booked });
            }
        }
        Ok(())
    }
}

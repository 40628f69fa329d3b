//! What each pool may take of what all share, and who waits until there is room.
//!
//! The shares are made anew whenever a pool opens or closes; see [`Quota`] for the rule. The
//! transmit buffer and the chunks keep their own.
//!
//! A connection whose acknowledgement is withheld, or whose window was told to be shut, is active
//! and stands in its pool's list. No timer asks for it: only what frees a buffer can end its wait,
//! and after that [`Stack::poll_frames`] comes.

use crate::counters::{Count, Stop};
use crate::group::Level;
use crate::handle::PoolId;
use crate::stack::{POOLS_MAX, Stack};
use crate::table::quota::Quota;
use crate::table::slots::NONE;
use crate::tcp::record::ON_WAIT_LIST;
use crate::tcp::throttle::level;
use crate::time::Instant;

use core::time::Duration;

/// Connections told of room in one turn: none may cost the others their turn.
const TOLD_BATCH: u32 = 256;

/// The shares of the tables, all in records.
#[derive(Debug)]
pub(crate) struct Shares {
    /// Without those in TIME-WAIT, which are nobody's and make way.
    pub(crate) connections: Quota<POOLS_MAX>,
    pub(crate) ipv6_addresses: Quota<POOLS_MAX>,
    pub(crate) half_open: Quota<POOLS_MAX>,
    pub(crate) actives: Quota<POOLS_MAX>,
}

impl Stack<'_> {
    /// The shares anew: a pool was opened or closed.
    pub(crate) fn share_out(&mut self) {
        let present = core::array::from_fn(|at| self.pools[at].is_some());
        let (percent, scarce) = (self.throttle.pool_share, self.throttle.first_below());
        let Shares { connections, ipv6_addresses, half_open, actives } = &mut self.shares;
        for quota in [connections, ipv6_addresses, half_open, actives] {
            quota.share(&present, percent, scarce);
        }
        self.transmit.share(&present, percent, scarce);
        self.chunks.share(&present, percent, scarce);
    }

    /// What is done because a pool's buffers are scarce.
    pub(crate) fn level_of(&self, pool: usize) -> Level {
        let Some(receive) = self.pools[pool].as_ref().map(|pool| &pool.receive) else {
            return Level::Room;
        };
        let parts = [receive.part(pool), self.transmit.part(pool), self.chunks.part(pool)];
        level(&self.throttle, parts)
    }

    /// An active record, counted for a pool.
    pub(crate) fn take_active(&mut self, pool: usize) -> Result<u32, Stop> {
        if !self.shares.actives.may_take(pool) {
            return Err(Stop::ActiveFull);
        }
        let active = self.actives_free.take(self.actives).ok_or(Stop::ActiveFull)?;
        self.shares.actives.take(pool);
        Ok(active)
    }

    /// Whether a connection may have an active record for text in either direction. Text leaves an
    /// eighth of its pool's to handshakes and to the commands and segments that end connections, as
    /// handshakes leave one to text.
    pub(crate) fn may_unfold_for_text(&self, index: u32) -> bool {
        let rec = &self.connections[index as usize];
        if rec.active().is_some() {
            return true;
        }
        let pool = usize::from(self.groups[usize::from(rec.group)].pool);
        // Who leaves a quarter leaves an eighth.
        if self.shares.actives.has_plenty(pool) {
            return true;
        }
        let all = self.shares.actives.used(pool);
        let others = all.saturating_sub(self.shares.half_open.used(pool));
        self.shares.actives.part(pool).leaves_an_eighth(others)
    }

    /// Puts a connection on its pool's list of those that wait, or takes it off.
    #[cold]
    pub(crate) fn wait_or_not(&mut self, active: u32, waits: bool) {
        if waits { self.start_waiting(active) } else { self.stop_waiting(active) }
    }

    fn start_waiting(&mut self, active: u32) {
        let act = &mut self.actives[active as usize];
        let Some(Some(pool)) = self.pools.get_mut(usize::from(act.pool)) else { return };
        let tail = core::mem::replace(&mut pool.figures.waiting.tail, active);
        pool.figures.waiting_count += 1;
        self.waiting += 1;
        act.set(ON_WAIT_LIST);
        (act.wait_next, act.wait_prev) = (NONE, tail);
        if tail == NONE {
            pool.figures.waiting.head = active;
        } else {
            self.actives[tail as usize].wait_next = active;
        }
    }

    pub(crate) fn stop_waiting(&mut self, active: u32) {
        let act = &mut self.actives[active as usize];
        let (next, prev) = (act.wait_next, act.wait_prev);
        let Some(Some(pool)) = self.pools.get_mut(usize::from(act.pool)) else { return };
        if !act.has(ON_WAIT_LIST) {
            return;
        }
        act.clear(ON_WAIT_LIST);
        pool.figures.waiting_count -= 1;
        self.waiting -= 1;
        if prev == NONE {
            pool.figures.waiting.head = next;
        } else {
            self.actives[prev as usize].wait_next = next;
        }
        if next == NONE {
            pool.figures.waiting.tail = prev;
        } else {
            self.actives[next as usize].wait_prev = prev;
        }
    }

    /// Where there is room again, those who waited tell their peers, the longest first.
    pub(crate) fn tell_of_room(&mut self) {
        if self.waiting == 0 {
            return;
        }
        for _ in 0..TOLD_BATCH {
            let Some(active) = self.next_with_room() else { return };
            self.stop_waiting(active);
            self.counters.count(Count::WaitsOver);
            let index = self.actives[active as usize].connection;
            self.tcb(index, active).on_room();
            self.settle(index);
        }
    }

    /// When [`Self::tell_of_room`] has more to do than one turn allows.
    pub(crate) fn room_deadline(&self) -> Option<Instant> {
        self.next_with_room().map(|_| self.now + Duration::from_millis(1))
    }

    fn next_with_room(&self) -> Option<u32> {
        if self.waiting == 0 {
            return None;
        }
        let with_room = |at: usize| {
            let pool = self.pools[at].as_ref()?;
            let head = pool.figures.waiting.head;
            let has_room =
                head != NONE && pool.receive.room(at) > 0 && self.level_of(at) < Level::Withhold;
            has_room.then_some(head)
        };
        (0..POOLS_MAX).find_map(with_room)
    }

    /// Pools are few; their numbers are 16 bits wide.
    pub(crate) fn pool_id(at: usize) -> PoolId {
        PoolId(u16::try_from(at).unwrap_or(u16::MAX))
    }
}

//! Handshakes under way: how many there may be, and who makes way when there are too many; and who
//! does when those whom the application has closed leave no room.

use core::time::Duration;

use crate::config::SynCookies;
use crate::counters::Stop;
use crate::event::Reason;
use crate::stack::Stack;
use crate::table::slots::NONE;
use crate::tcp::record::{Connection, HALF_OPEN};
use crate::tcp::state::State;

/// A handshake younger than this does not make way: its client may be answering just now.
const AGE_MIN: Duration = Duration::from_secs(1);

/// A peer that was heard of more recently may be about to end its connection in order.
const ORPHAN_SILENCE_MIN: Duration = Duration::from_secs(1);

/// Records drawn by lot to find a connection that can make way.
const DRAWS: u64 = 8;

/// What can be done for a client that calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reception {
    /// There is a record for its handshake.
    Record,
    /// It is answered by a cookie, without a record.
    Cookie,
}

impl Stack<'_> {
    /// How a SYN to this group is received.
    ///
    /// # Errors
    /// [`Stop::HalfOpenFull`].
    pub(crate) fn receive_syn(&mut self, group: u16) -> Result<Reception, Stop> {
        let automatic = self.groups[usize::from(group)].accept_by(self.now).is_none();
        let pool = self.groups[usize::from(group)].pool;
        match self.tcp.syn_cookies {
            SynCookies::Always if automatic => Ok(Reception::Cookie),
            SynCookies::WhenFull if automatic && !self.may_shake_hands(pool) => {
                Ok(Reception::Cookie)
            }
            _ => self.make_room_for_handshake(pool).map(|()| Reception::Record),
        }
    }

    /// Sees to it that one more handshake with a pool may be under way.
    ///
    /// # Errors
    /// [`Stop::HalfOpenFull`].
    pub(crate) fn make_room_for_handshake(&mut self, pool: u16) -> Result<(), Stop> {
        if self.may_shake_hands(pool) { Ok(()) } else { self.evict_handshake(pool) }
    }

    /// Whether one more handshake with a pool may be under way. Handshakes leave an eighth of its
    /// active records to connections that are open.
    fn may_shake_hands(&self, pool: u16) -> bool {
        let pool = usize::from(pool);
        let handshakes = self.shares.half_open.used(pool);
        self.half_open < self.tcp.half_open_max
            && self.shares.half_open.room(pool) > 0
            && self.shares.actives.part(pool).leaves_an_eighth(handshakes)
    }

    /// The oldest of some of the pool's handshakes drawn by lot makes way, without a word to its client, who may
    /// have lent its address unknowingly. Whoever floods us fills the table and is the likely one
    /// to be drawn.
    #[cold]
    fn evict_handshake(&mut self, pool: u16) -> Result<(), Stop> {
        let oldest = self.draw_most_silent(pool, AGE_MIN, |rec| rec.has(HALF_OPEN));
        let index = oldest.ok_or(Stop::HalfOpenFull)?;
        self.counters.stop(Stop::HandshakeEvicted);
        self.with_connection(index, |tcb| tcb.gone(Reason::Refused))?;
        if self.may_shake_hands(pool) { Ok(()) } else { Err(Stop::HalfOpenFull) }
    }

    /// For a client that finds no active record, the most silent of some of the pool's connections
    /// drawn by lot that the application has closed and whose peers leave unfinished, is reset. The
    /// record is free when that has left, for the client's next SYN: whoever lets many connections
    /// be closed and then says nothing keeps nobody out until they time out.
    #[cold]
    pub(crate) fn evict_orphan(&mut self, pool: u16) {
        let is_orphan = |rec: &Connection| {
            use State::{Closing, FinWait1, FinWait2, LastAck};
            matches!(rec.state(), FinWait1 | FinWait2 | Closing | LastAck)
        };
        let silent = self.draw_most_silent(pool, ORPHAN_SILENCE_MIN, is_orphan);
        let Some(index) = silent else { return };
        self.counters.stop(Stop::OrphanEvicted);
        // It has an active record.
        let _ = self.with_connection(index, |tcb| tcb.abort(Reason::TimedOut));
    }

    /// Of some of a pool's active connections drawn by lot, the one that is wanted and was heard of
    /// last the longest ago, but not less long than that.
    fn draw_most_silent(
        &mut self,
        pool: u16,
        at_least: Duration,
        is_wanted: impl Fn(&Connection) -> bool,
    ) -> Option<u32> {
        let now_ms = (self.now.as_millis() & 0xffff_ffff) as u32;
        let mut most: Option<(u32, u32)> = None;
        for draw in 0..DRAWS {
            let records = u64::from(self.actives_free.high_water()).max(2) - 1;
            self.draws = self.draws.wrapping_add(1);
            let active = 1 + (self.secret.lot(self.draws, draw) % records) as u32;
            let index = self.actives[active as usize].connection;
            let rec = &self.connections[index as usize];
            let of_pool = self.actives[active as usize].pool == pool;
            if index == NONE || rec.active() != Some(active) || !of_pool || !is_wanted(rec) {
                continue;
            }
            let silence_ms = now_ms.wrapping_sub(rec.heard_ms);
            if most.is_none_or(|(other, _)| silence_ms > other) {
                most = Some((silence_ms, index));
            }
        }
        let long_enough = most.filter(|(ms, _)| u128::from(*ms) >= at_least.as_millis());
        long_enough.map(|(_, index)| index)
    }
}

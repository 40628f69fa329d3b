//! Handshakes under way: how many there may be, and who makes way when there are too many.

use core::time::Duration;

use crate::config::SynCookies;
use crate::counters::Stop;
use crate::event::Reason;
use crate::stack::Stack;
use crate::table::slots::NONE;
use crate::tcp::record::HALF_OPEN;

/// A handshake younger than this does not make way: its client may be answering just now.
const AGE_MIN: Duration = Duration::from_secs(1);

/// Records drawn by lot to find a handshake that can make way.
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
        let now_ms = (self.now.as_millis() & 0xffff_ffff) as u32;
        let mut oldest: Option<(u32, u32)> = None;
        for draw in 0..DRAWS {
            let records = u64::from(self.actives_free.high_water()).max(2) - 1;
            self.draws = self.draws.wrapping_add(1);
            let active = 1 + (self.secret.lot(self.draws, draw) % records) as u32;
            let index = self.actives[active as usize].connection;
            let rec = &self.connections[index as usize];
            let of_pool = self.actives[active as usize].pool == pool;
            if index == NONE || rec.active() != Some(active) || !rec.has(HALF_OPEN) || !of_pool {
                continue;
            }
            let age_ms = now_ms.wrapping_sub(rec.heard_ms);
            if oldest.is_none_or(|(other, _)| age_ms > other) {
                oldest = Some((age_ms, index));
            }
        }
        let old_enough = oldest.filter(|(age, _)| u128::from(*age) >= AGE_MIN.as_millis());
        let (_, index) = old_enough.ok_or(Stop::HalfOpenFull)?;
        self.counters.stop(Stop::HandshakeEvicted);
        self.with_connection(index, |tcb| tcb.gone(Reason::Refused))?;
        if self.may_shake_hands(pool) { Ok(()) } else { Err(Stop::HalfOpenFull) }
    }
}

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
        match self.tcp.syn_cookies {
            SynCookies::Always if automatic => Ok(Reception::Cookie),
            SynCookies::WhenFull if automatic && self.are_handshakes_full() => {
                Ok(Reception::Cookie)
            }
            _ => self.make_room_for_handshake().map(|()| Reception::Record),
        }
    }

    /// Sees to it that one more handshake may be under way.
    ///
    /// # Errors
    /// [`Stop::HalfOpenFull`].
    pub(crate) fn make_room_for_handshake(&mut self) -> Result<(), Stop> {
        if self.are_handshakes_full() { self.evict_handshake() } else { Ok(()) }
    }

    /// Handshakes leave an eighth of the active records to connections that are open.
    fn are_handshakes_full(&self) -> bool {
        let all = self.actives.len();
        self.half_open >= self.tcp.half_open_max
            || (self.actives_free.in_use() as usize) >= all - all / 8
    }

    /// The oldest of some handshakes drawn by lot makes way, without a word to its client, who may
    /// have lent its address unknowingly. Whoever floods us fills the table and is the likely one
    /// to be drawn.
    #[cold]
    fn evict_handshake(&mut self) -> Result<(), Stop> {
        let now_ms = (self.now.as_millis() & 0xffff_ffff) as u32;
        let mut oldest: Option<(u32, u32)> = None;
        for draw in 0..DRAWS {
            let records = u64::from(self.actives_free.high_water()).max(2) - 1;
            self.draws = self.draws.wrapping_add(1);
            let active = 1 + (self.secret.lot(self.draws, draw) % records) as u32;
            let index = self.actives[active as usize].connection;
            let rec = &self.connections[index as usize];
            if index == NONE || rec.active() != Some(active) || !rec.has(HALF_OPEN) {
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
        if self.are_handshakes_full() { Err(Stop::HalfOpenFull) } else { Ok(()) }
    }
}

//! What is done before buffers run out (WO 02/091709, "Modifications and Alterations"): windows
//! shrink, then acknowledgements are withheld, then text is hidden. The ACK field of every segment
//! is processed first, whatever happens to its text.
//!
//! The level follows from what is free at the moment, without a memory of its own: a window moves on
//! by a segment at least, so a level that flutters tells nobody anything new.
//!
//! A scarce receive buffer is the application's own doing, and it alone can free it. A scarce
//! transmit buffer is freed by the peers, who may be in the same straits and wait for us: so there a
//! connection of which the application has read everything may still bring one piece.

use super::Tcb;
use super::record::{ACK_NOW, ON_WAIT_LIST, WITHHELD};
use super::state::State;
use crate::config::Throttle;
use crate::counters::Count;
use crate::group::Level;
use crate::table::quota::Part;
use crate::time::Instant;

/// One connection is offered at most this part of what is free in its pool.
const POOL_SHARE: u32 = 8;

/// What scarcity of any of these means.
pub(crate) fn level(throttle: &Throttle, parts: [Part; 3]) -> Level {
    let first = throttle.first_below();
    let is_below = |percent: u8| parts.iter().any(|part| part.is_below(percent));
    if !is_below(first) {
        Level::Room
    } else if is_below(throttle.hide_below) {
        Level::Hide
    } else if is_below(throttle.withhold_below) {
        Level::Withhold
    } else {
        Level::Shrink
    }
}

impl Tcb<'_, '_> {
    #[inline]
    fn level(&self) -> Level {
        if self.has_plenty() { Level::Room } else { level(self.throttle, self.parts()) }
    }

    /// Whether a look tells that nothing is scarce, as nearly always.
    #[inline]
    fn has_plenty(&self) -> bool {
        let pool = usize::from(self.group.pool);
        self.receive.has_plenty(pool)
            && self.transmit.has_plenty(pool)
            && self.chunks.quota().has_plenty(pool)
    }

    /// What its pool has and could have: of its receive buffer, the transmit buffer, the chunks.
    fn parts(&self) -> [Part; 3] {
        let pool = usize::from(self.group.pool);
        [self.receive.part(pool), self.transmit.part(pool), self.chunks.part(pool)]
    }

    /// Whether the stack acknowledges nothing by itself now. What the application commits is told
    /// all the same, for that frees memory.
    pub(super) fn withholds(&self) -> bool {
        self.level() >= Level::Withhold
    }

    /// An acknowledgement that is due waits until there is room.
    pub(super) fn withhold(&mut self) {
        self.act.set(WITHHELD);
        self.figures.acks_withheld += 1;
        self.counters.count(Count::AcksWithheld);
    }

    /// Whether new text is dropped now.
    #[inline]
    pub(super) fn hides(&self) -> bool {
        if self.has_plenty() {
            return false;
        }
        let below = self.throttle.hide_below;
        let [receive, transmit, chunks] = self.parts();
        let has_unread = self.act.rcv_committed != self.text_end();
        receive.is_below(below)
            || has_unread && (transmit.is_below(below) || chunks.is_below(below))
    }

    /// The most the pool lets this connection be offered: no more than a part of what is free, less
    /// while its buffers are scarce, and nothing only when nothing would be taken.
    pub(super) fn pool_window(&self) -> u32 {
        let free = u32::try_from(self.receive.room(usize::from(self.group.pool)));
        let free = free.unwrap_or(u32::MAX);
        if free == 0 {
            return 0;
        }
        let window = (free / POOL_SHARE).max(self.window_floor());
        if self.has_plenty() { window } else { window.min(self.scarce_window()) }
    }

    fn scarce_window(&self) -> u32 {
        let parts = self.parts();
        if parts[0].is_below(self.throttle.hide_below) {
            return 0;
        }
        if level(self.throttle, parts) == Level::Room {
            return u32::MAX;
        }
        self.shrunk_window(parts).max(self.window_floor())
    }

    /// The group's window in proportion to how far the scarcest part is between the first threshold
    /// and the last.
    fn shrunk_window(&self, parts: [Part; 3]) -> u32 {
        let (from, to) = (u64::from(self.throttle.first_below()), self.throttle.hide_below.into());
        let open = |part: Part| {
            let above = u64::from(part.free) * 100 / u64::from(part.of).max(1);
            above.saturating_sub(to).min(from - to)
        };
        let open = parts.into_iter().filter(|part| part.of > 0).map(open).min().unwrap_or(0);
        let window = u64::from(self.window_max()) * open / (from - to).max(1);
        u32::try_from(window).unwrap_or(u32::MAX)
    }

    /// What moves a window on, so that it can be told: a segment, or half of a small window.
    #[inline]
    pub(super) fn window_step(&self) -> u32 {
        u32::from(self.rec.mss).min(self.window_max() / 2)
    }

    #[inline]
    fn window_floor(&self) -> u32 {
        let unit = 1_u32 << self.rec.rcv_scale();
        (self.window_step() + (unit - 1)) & !(unit - 1)
    }

    /// Whether scarce buffers make the window smaller than the group would have it.
    pub(super) fn is_window_shrunk(&self) -> bool {
        !self.has_plenty()
            && self.level() >= Level::Shrink
            && self.pool_window() < self.group_window()
    }

    /// Whether the peer must be told once there is room: an acknowledgement was withheld, or it
    /// was last told of a window in which no segment fits.
    #[inline]
    pub(crate) fn waits_for_room(&self) -> bool {
        let withheld = self.act.has(WITHHELD) && self.act.rcv_ack != self.text_end();
        if withheld {
            return true;
        }
        self.is_shut() && (self.act.has(ON_WAIT_LIST) || self.pool_window() < self.window_step())
    }

    /// Whether the peer knows of no room although the group would give some.
    #[inline(always)]
    fn is_shut(&self) -> bool {
        let offered = self.rec.rcv_adv.since(self.rec.rcv_nxt);
        offered < u32::from(self.rec.mss) && self.is_nearly_shut(offered)
    }

    #[cold]
    fn is_nearly_shut(&self, offered: u32) -> bool {
        let step = self.window_step();
        offered < step && self.rec.state() == State::Established && self.group_window() >= step
    }

    /// There is room again: what was withheld is told, and the window.
    pub(crate) fn on_room(&mut self) {
        if self.act.has(WITHHELD) {
            self.act.clear(WITHHELD);
            let deadline = self.group.acknowledge_by(self.now);
            let overdue = deadline.is_some() && self.act.ack_at() == Instant::NEVER;
            if self.group.acknowledges_on_receive() || overdue {
                self.act.rcv_ack = self.text_end();
            }
            self.acknowledge_beyond_hold_limit();
        }
        self.act.set(ACK_NOW);
    }
}

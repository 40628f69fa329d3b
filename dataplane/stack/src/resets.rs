//! Idle connections that are reset when no active record is free.
//!
//! A RST needs no answer and no buffer, so it ends its connection whatever is scarce: segments do not
//! find it from then on, and its client may call again. Only to tell the application takes an active
//! record. Who waits for one is marked and counted, and found by the sweep; or by the application's
//! next command, which comes too late.

use crate::counters::Stop;
use crate::event::Reason;
use crate::group::Figures;
use crate::stack::Stack;
use crate::sweep::WITHOUT_RECORD;
use crate::tcp::record::RESET;
use crate::tcp::seq::SeqNum;
use crate::time::Instant;
use crate::wire::tcp::Segment;

impl Stack<'_> {
    /// A RST for an idle connection that no active record is free for. RFC 5961 section 3.2 demands
    /// the exact number. Without one the others would be answered by a challenge: they are dropped.
    #[cold]
    pub(crate) fn reset_without_record(&mut self, index: u32, segment: &Segment<'_>) -> Stop {
        let rec = &mut self.connections[index as usize];
        if SeqNum::new(segment.seq) != rec.rcv_nxt {
            return Stop::ActiveFull;
        }
        rec.notify(RESET);
        self.make_unfindable(index);
        if let Some(figures) = self.figures_of(index) {
            figures.resets_untold += 1;
        }
        self.sweep_by(self.now + WITHOUT_RECORD);
        Stop::ResetByPeer
    }

    /// A connection has an active record: if it was reset without one, it is gone now, and its
    /// application will be told.
    #[cold]
    pub(crate) fn end_if_reset(&mut self, index: u32, active: u32) {
        if self.forget_reset(index) {
            self.tcb(index, active).gone(Reason::Reset);
        }
    }

    /// The mark is taken off a connection. Whether it was there.
    pub(crate) fn forget_reset(&mut self, index: u32) -> bool {
        let rec = &mut self.connections[index as usize];
        if !rec.is_notified(RESET) {
            return false;
        }
        rec.unnotify(RESET);
        if let Some(figures) = self.figures_of(index) {
            figures.resets_untold -= 1;
        }
        self.review_sweep();
        true
    }

    /// The sweep has found one. Answers when to look again.
    #[cold]
    pub(crate) fn tell_of_reset(&mut self, index: u32) -> Instant {
        if self.unfold(index).is_err() {
            return self.now + WITHOUT_RECORD;
        }
        self.settle(index);
        Instant::NEVER
    }

    /// Whether an application is still to be told of a reset.
    pub(crate) fn has_resets_untold(&self) -> bool {
        self.pools.iter().flatten().any(|pool| pool.figures.resets_untold > 0)
    }

    fn figures_of(&mut self, index: u32) -> Option<&mut Figures> {
        let group = self.connections[index as usize].group;
        let pool = usize::from(self.groups[usize::from(group)].pool);
        let pool = self.pools.get_mut(pool)?.as_mut()?;
        Some(&mut pool.figures)
    }
}

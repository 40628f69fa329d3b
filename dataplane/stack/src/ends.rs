//! Idle connections that end when no active record is free.
//!
//! A client's RST needs no answer and no buffer, so it ends its connection whatever is scarce, and so does
//! the application's abort: segments do not find it from then on, and its client may call again. Only to
//! tell the application takes an active record, and to send the application's RST. The application's close
//! waits for one with its FIN. Who waits for a record is marked and counted, and found by the sweep; or by
//! the next segment or command that has one for it, which comes too late.

use crate::counters::Stop;
use crate::error::Misuse;
use crate::event::Reason;
use crate::group::Figures;
use crate::stack::Stack;
use crate::sweep::WITHOUT_RECORD;
use crate::tcp::record::ENDED;
use crate::tcp::seq::SeqNum;
use crate::time::Instant;
use crate::wire::tcp::Segment;

/// How a connection was ended, as its record keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum End {
    /// By its client.
    Reset,
    /// By the application: a FIN is to be sent.
    Close,
    /// By the application: a RST is to be sent.
    Abort,
}

impl End {
    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Close,
            2 => Self::Abort,
            _ => Self::Reset,
        }
    }
}

impl Stack<'_> {
    /// A RST for an idle connection that no active record is free for. RFC 5961 section 3.2 demands
    /// the exact number. Without one the others would be answered by a challenge: they are dropped.
    #[cold]
    pub(crate) fn reset_without_record(&mut self, index: u32, segment: &Segment<'_>) -> Stop {
        if SeqNum::new(segment.seq) != self.connections[index as usize].rcv_nxt {
            return Stop::ActiveFull;
        }
        self.mark_ended(index, End::Reset);
        Stop::ResetByPeer
    }

    /// The application closes or aborts an idle connection that no active record is free for.
    ///
    /// # Errors
    /// [`Misuse::NotOpen`]: it is closed already.
    #[cold]
    pub(crate) fn end_without_record(&mut self, index: u32, end: End) -> Result<(), Misuse> {
        match (self.marked_end(index), end) {
            (None, _) | (Some(End::Close), End::Abort) => self.mark_ended(index, end),
            (Some(_), End::Close) => return Err(Misuse::NotOpen),
            (Some(_), _) => {}
        }
        Ok(())
    }

    fn mark_ended(&mut self, index: u32, end: End) {
        let is_new = self.marked_end(index).is_none();
        let rec = &mut self.connections[index as usize];
        rec.notify(ENDED);
        rec.set_text_at(end as u8);
        if end != End::Close {
            self.make_unfindable(index);
        }
        if is_new && let Some(figures) = self.figures_of(index) {
            figures.ends_untold += 1;
        }
        self.sweep_by(self.now + WITHOUT_RECORD);
    }

    fn marked_end(&self, index: u32) -> Option<End> {
        let rec = &self.connections[index as usize];
        rec.is_notified(ENDED).then(|| End::from_code(rec.text_at()))
    }

    /// A connection has an active record: if it was ended without one, that is done now, and its
    /// application will be told.
    #[cold]
    pub(crate) fn end_as_marked(&mut self, index: u32, active: u32) {
        let Some(end) = self.forget_end(index) else { return };
        let mut tcb = self.tcb(index, active);
        match end {
            End::Reset => tcb.gone(Reason::Reset),
            End::Close => tcb.end(),
            End::Abort => tcb.abort(Reason::Aborted),
        }
    }

    /// The mark is taken off a connection. What it said, if it was there.
    pub(crate) fn forget_end(&mut self, index: u32) -> Option<End> {
        let end = self.marked_end(index)?;
        self.connections[index as usize].unnotify(ENDED);
        if let Some(figures) = self.figures_of(index) {
            figures.ends_untold -= 1;
        }
        self.review_sweep();
        Some(end)
    }

    /// The sweep has found one. Answers when to look again.
    #[cold]
    pub(crate) fn tell_of_end(&mut self, index: u32) -> Instant {
        if self.unfold(index).is_err() {
            return self.now + WITHOUT_RECORD;
        }
        self.settle(index);
        Instant::NEVER
    }

    /// Whether a connection that was ended still waits for a record.
    pub(crate) fn has_ends_untold(&self) -> bool {
        self.pools.iter().flatten().any(|pool| pool.figures.ends_untold > 0)
    }

    fn figures_of(&mut self, index: u32) -> Option<&mut Figures> {
        let group = self.connections[index as usize].group;
        let pool = usize::from(self.groups[usize::from(group)].pool);
        let pool = self.pools.get_mut(pool)?.as_mut()?;
        Some(&mut pool.figures)
    }
}

//! Commits and sends on several connections that act all together or not at all.
//!
//! Everything is asked first: every handle, every offset, every queue, and room for every byte. Only
//! when all of it is possible is any of it done, and nothing can come between: one worker does
//! one thing at a time. Room is counted as if every piece needed a block of the largest size, so
//! that what was found possible is; a transmit buffer that is nearly full refuses a little early.

use crate::buffer::PAGE;
use crate::error::Misuse;
use crate::handle::{Cd, Gd};
use crate::stack::Stack;
use crate::tcp::Tcb;
use crate::tcp::record::FIN_QUEUED;
use crate::time::Instant;
use crate::world::Payload;

/// One connection's part of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Part<P> {
    /// The connection's group.
    pub group: Gd,
    /// The connection.
    pub connection: Cd,
    /// Commit the stream before this offset, see [`Stack::commit`].
    pub commit: Option<u64>,
    /// Send these bytes; there may be none.
    pub payload: P,
}

impl Stack<'_> {
    /// Does all of the parts, in their order, or none of them.
    ///
    /// # Errors
    /// The first part that cannot be done, by its place, and why; nothing was done then.
    pub fn transact<P: Payload>(
        &mut self,
        parts: &[Part<P>],
        now: Instant,
    ) -> Result<(), (usize, Misuse)> {
        self.now = now;
        let checked = self.check_parts(parts);
        if checked.is_ok() {
            parts.iter().for_each(|part| self.do_part(part));
        }
        // Nothing folds or ends before all is done: what was found possible stays so. Those that
        // were only unfolded for the look fold again.
        for part in parts {
            if let Ok(index) = self.connection_index(part.connection) {
                self.settle(index);
            }
        }
        checked
    }

    /// Does a part that was found possible.
    fn do_part<P: Payload>(&mut self, part: &Part<P>) {
        let Ok(index) = self.connection_index(part.connection) else { return };
        let Some(active) = self.connections[index as usize].active() else { return };
        let mut tcb = self.tcb(index, active);
        if let Some(up_to) = part.commit {
            let committed = tcb.commit(up_to, false);
            debug_assert!(committed.is_ok(), "the offset was looked at: {committed:?}");
        }
        if !part.payload.is_empty() {
            let sent = tcb.send(&part.payload);
            debug_assert!(sent.is_ok(), "room was counted: {sent:?}");
        }
    }

    /// Whether all of it is possible. Every connection is unfolded after this.
    fn check_parts<P: Payload>(&mut self, parts: &[Part<P>]) -> Result<(), (usize, Misuse)> {
        let mut blocks = 0;
        for (place, part) in parts.iter().enumerate() {
            let refused = |misuse| (place, misuse);
            let group = self.group_index(part.group).map_err(refused)?;
            let index = self.connection_index(part.connection).map_err(refused)?;
            if self.connections[index as usize].group != group {
                return Err(refused(Misuse::NotInGroup));
            }
            if !part.payload.is_empty() && !self.may_unfold_for_text(index) {
                return Err(refused(Misuse::TableFull));
            }
            let active = self.unfold(index).map_err(|_| refused(Misuse::TableFull))?;
            let tcb = self.tcb(index, active);
            let pool = usize::from(tcb.group.pool);
            let received = tcb.receive.blocks(pool);
            if let Some(up_to) = part.commit {
                tcb.check_commit(up_to).map_err(refused)?;
            }
            if part.payload.is_empty() {
                continue;
            }
            let to_same =
                parts[..=place].iter().filter(|other| other.connection == part.connection);
            let bytes = to_same.map(|part| part.payload.len()).sum();
            tcb.check_send(bytes).map_err(refused)?;
            blocks += part.payload.len().div_ceil(PAGE);
            let room = self.transmit.room(pool) / PAGE;
            if blocks > room.min(self.chunks.room_to_send(pool, received)) {
                return Err(refused(Misuse::NoBuffer));
            }
        }
        Ok(())
    }
}

impl Tcb<'_, '_> {
    /// Whether the connection would take so many bytes more, if there is room for them.
    fn check_send(&self, bytes: usize) -> Result<(), Misuse> {
        if !self.rec.state().may_send() || self.act.has(FIN_QUEUED) {
            return Err(Misuse::NotOpen);
        }
        let queued = self.act.snd_end.since(self.rec.snd_una);
        let fits = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| queued.checked_add(bytes))
            .is_some_and(|queued| queued <= self.tcp.send_queue_max);
        if fits { Ok(()) } else { Err(Misuse::SendQueueFull) }
    }
}

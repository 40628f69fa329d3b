//! Draining a group: nobody new is taken, and who is there is sent away at a limited rate.
//!
//! The rate is a token bucket's by the stack's clock: in any time *t* no more than *rate × t*
//! connections are ended, one, and what a drain that was held up catches up, at most a hundredth
//! second's worth. Who is to be ended next is found by the sweep, so that draining keeps no list and
//! no rate is higher than the sweep's, about half a million a second.

use core::time::Duration;

use crate::config::Manner;
use crate::error::Misuse;
use crate::event::{Event, Reason};
use crate::group::Group;
use crate::handle::Gd;
use crate::stack::Stack;
use crate::sweep::WITHOUT_RECORD;
use crate::tcp::state::State;
use crate::time::Instant;

/// Time between two looks at a connection that has something under way.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Stack<'_> {
    /// The group listens no more, and its connections are ended as `manner` says, at most
    /// `per_second` of them a second; with 0 none is, and they end as they would. Each is told as
    /// it would be without draining. When none is left, and nothing given of one that broke is
    /// still being read, [`Event::Drained`] is told, once. The group stays open, and empty.
    ///
    /// Asked again it goes on at the new rate, in the new manner.
    ///
    /// # Errors
    /// [`Misuse::StaleGroup`].
    pub fn drain_group(
        &mut self,
        group: Gd,
        per_second: u32,
        manner: Manner,
        now: Instant,
    ) -> Result<(), Misuse> {
        self.now = now;
        let index = self.group_index(group)?;
        self.unlisten(index);
        self.groups[usize::from(index)].drain(per_second, manner, now);
        self.check_drained(index);
        self.begin_sweep();
        Ok(())
    }

    /// A connection of the group is gone, or there was none.
    pub(crate) fn check_drained(&mut self, group: u16) {
        let group = &mut self.groups[usize::from(group)];
        if group.becomes_drained() {
            self.queues[usize::from(group.queue)].drained += 1;
            self.review_sweep();
        }
    }

    /// The group ends otherwise: there is no drain to be told of.
    pub(crate) fn stop_draining(&mut self, group: u16) {
        let group = &mut self.groups[usize::from(group)];
        if group.stop_draining() {
            self.queues[usize::from(group.queue)].drained -= 1;
        }
    }

    /// A group of this queue whose draining has come to its end.
    pub(crate) fn next_drained(&mut self, queue: u16) -> Option<Event> {
        let untold = &mut self.queues.get_mut(usize::from(queue))?.drained;
        if *untold == 0 {
            return None;
        }
        let of_queue = |group: &Group| group.is_open() && group.queue == queue;
        for (at, group) in self.groups.iter_mut().enumerate() {
            if of_queue(group) && group.takes_tell_drained() {
                *untold -= 1;
                let group = group.gd(u16::try_from(at).unwrap_or(u16::MAX));
                return Some(Event::Drained { group });
            }
        }
        debug_assert!(false, "a group that drained is looked for in vain");
        None
    }

    /// Ends a connection of a draining group, if its manner and its rate let it. Answers when to
    /// look again.
    pub(crate) fn drain_one(&mut self, index: u32) -> Instant {
        let rec = &self.connections[index as usize];
        let group = &self.groups[usize::from(rec.group)];
        let (of, manner, state) = (rec.group, group.manner(), rec.state());
        let ends = match manner {
            Manner::WhenIdle => is_open(state) && self.has_nothing_under_way(index),
            Manner::Close => is_open(state) || !state.is_synchronized(),
            Manner::Reset => true,
        };
        if !ends && state.is_synchronized() && !is_open(state) {
            // It ends already.
            return Instant::NEVER;
        }
        let from = self.groups[usize::from(of)].drains_at();
        if !ends {
            return from.max(self.now + LOOK_AGAIN);
        }
        if from > self.now {
            return from;
        }
        let ended = self.with_connection(index, |tcb| match manner {
            Manner::Reset => tcb.abort(Reason::Aborted),
            Manner::WhenIdle | Manner::Close => tcb.end(),
        });
        match ended {
            Ok(()) => self.groups[usize::from(of)].note_drained_one(self.now),
            Err(_) => return self.now + WITHOUT_RECORD,
        }
        Instant::NEVER
    }

    /// Whether everything sent and received on an open connection is done with.
    pub(crate) fn has_nothing_under_way(&mut self, index: u32) -> bool {
        match self.connections[index as usize].active() {
            Some(active) => self.tcb(index, active).has_nothing_under_way(),
            None => true,
        }
    }
}

/// Whether we may still close a connection in this state.
pub(crate) const fn is_open(state: State) -> bool {
    matches!(state, State::Established | State::CloseWait)
}

//! An application that has gone, and its successor, which is told everything again.
//!
//! To the stack an application is an event queue. When it is gone, [`Stack::orphan_queue`] marks
//! every connection of its groups as *untold* and takes back what was given and not committed:
//! nobody reads it any more. Nothing is acknowledged by this, so the clients still have those bytes,
//! and so has the pool. From then on
//!
//! * an untold connection's first event is `Opened`, whatever happens on it first; then come the
//!   bytes from the committed offset on, and `Finished` if the peer has closed;
//! * one that ends untold is gone without a word: who is told of `Opened` is told of `Closed`;
//! * one that the predecessor had closed is not told at all;
//! * a SYN that waits is told again, as long as the group's time for accepting it lasts.
//!
//! An idle connection has no record that could stand in a queue, so [`Stack::tell_again`] starts a
//! walk over the table: whenever the queue is empty, the next untold connection is told.

use crate::event::Event;
use crate::handle::QueueId;
use crate::stack::Stack;
use crate::table::slots::NONE;
use crate::tcp::Tcb;
use crate::tcp::record::{
    ENDED, FIN_TAKEN, HELD, KNOWN, LISTED, TELL, TELL_ACCEPTABLE, TELL_FINISHED, TELL_OPENED,
    UNTOLD,
};
use crate::tcp::state::State;
use crate::time::Instant;

/// Records looked at for one event: none may cost the others their turn.
const LOOKS: u32 = 256;

impl Stack<'_> {
    /// The application that took the events of this queue is gone: nobody knows its connections
    /// any more, and what it was given and did not commit is no longer read. Nobody may poll the
    /// queue before [`Self::tell_again`].
    ///
    /// One pass over all records: about 10 ms for a million.
    pub fn orphan_queue(&mut self, queue: QueueId, now: Instant) {
        self.now = now;
        if let Some(queue) = self.queues.get_mut(usize::from(queue.0)) {
            queue.untold = NONE;
        }
        for index in NONE + 1..self.connections_free.high_water() {
            let rec = &self.connections[index as usize];
            let group = &self.groups[usize::from(rec.group)];
            let is_ours = group.is_open() && group.queue == queue.0 && !rec.has(LISTED);
            if !is_ours || rec.state() == State::Closed && !self.is_live(index) {
                continue;
            }
            self.connections[index as usize].options |= UNTOLD;
            if let Some(active) = self.connections[index as usize].active() {
                self.tcb(index, active).forget_application();
                self.settle(index);
            }
        }
    }

    /// A successor takes the events of this queue: every connection that is open and untold is
    /// told as `Opened`, those with bytes or news first.
    pub fn tell_again(&mut self, queue: QueueId) {
        if let Some(queue) = self.queues.get_mut(usize::from(queue.0)) {
            queue.untold = NONE + 1;
        }
    }

    /// Whether there may still be connections that the successor at this queue was not told of.
    #[must_use]
    pub fn is_telling_again(&self, queue: QueueId) -> bool {
        self.queues.get(usize::from(queue.0)).is_some_and(|queue| queue.untold != NONE)
    }

    /// The next connection that a successor was not told of. `None`: not now, or never again.
    pub(crate) fn next_untold(&mut self, queue: usize) -> Option<Event> {
        let mut index = self.queues.get(queue)?.untold;
        if index == NONE {
            return None;
        }
        let last = self.connections_free.high_water();
        let mut found = None;
        for _ in 0..LOOKS {
            if index >= last {
                index = NONE;
                break;
            }
            found = self.introduce(index, queue);
            index += 1;
            if found.is_some() {
                break;
            }
        }
        self.queues[queue].untold = index;
        found
    }

    /// Tells of a connection, if it is open, untold and of this queue.
    fn introduce(&mut self, index: u32, queue: usize) -> Option<Event> {
        let rec = self.connections[index as usize];
        let group = &self.groups[usize::from(rec.group)];
        let is_ours = group.is_open() && usize::from(group.queue) == queue;
        // What has ended without a record is not told of any more.
        if !is_ours || !rec.has(UNTOLD) || !is_open(rec.state()) || rec.is_notified(ENDED) {
            return None;
        }
        let group = group.gd(rec.group);
        self.connections[index as usize].options &= !UNTOLD;
        if let Some(active) = rec.active() {
            self.actives[active as usize].clear(TELL_OPENED);
            self.actives[active as usize].set(KNOWN);
            self.settle(index);
        }
        Some(Event::Opened { group, connection: self.cd(index) })
    }
}

/// Whether an application can do anything with a connection in this state.
const fn is_open(state: State) -> bool {
    matches!(state, State::Established | State::CloseWait)
}

impl Tcb<'_, '_> {
    /// Nobody knows of this connection any more, or reads what was given of it.
    fn forget_application(&mut self) {
        self.act.clear(TELL | KNOWN);
        if self.act.has(HELD) {
            // Whoever comes decides on it, and until then there is no connection.
            self.rec.options &= !UNTOLD;
            self.act.set(TELL_ACCEPTABLE);
            return;
        }
        if self.rec.state() == State::Closed {
            self.release_read();
            return;
        }
        self.act.rcv_given = self.act.rcv_committed;
        self.act.rcv_cursor = NONE;
        if self.act.has(FIN_TAKEN) && is_open(self.rec.state()) {
            self.act.set(TELL_FINISHED);
        }
    }

    /// Whether `Opened` comes before all other events of this connection. Says so once. One that
    /// cannot be told any more has no events.
    #[cold]
    pub(crate) fn is_introduced_first(&mut self) -> bool {
        if !self.rec.has(UNTOLD) {
            return false;
        }
        self.act.clear(TELL_OPENED);
        if is_open(self.rec.state()) {
            self.rec.options &= !UNTOLD;
            self.act.set(KNOWN);
            return true;
        }
        self.act.clear(TELL);
        false
    }
}

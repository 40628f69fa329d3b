//! Event queues: connections with something to tell, by their groups' priority.
//!
//! Each queue has a list per priority, and the highest with somebody on it is served first. So that
//! nobody waits for ever, one event in [`FAIR`] is for the priorities in turn, whatever waits
//! above: of [`PRIORITIES`] times [`FAIR`] events each of them gets at least one. Within a priority a
//! connection is told [`RUN`] events at most before the next one has its turn: a client that sends
//! faster than its application reads keeps nobody from being heard.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::config::PRIORITIES;
use crate::event::{Event, Reason};
use crate::handle::QueueId;
use crate::stack::{List, Stack};
use crate::table::slots::NONE;
use crate::tcp::record::{
    KNOWN, ON_EVENT_LIST, TELL_ACCEPTABLE, TELL_CLOSED, TELL_FINISHED, TELL_OPENED, UNTOLD,
};
use crate::tcp::state::State;

const LEVELS: usize = PRIORITIES as usize;

/// One event in so many is a lower priority's, if it waits.
const FAIR: u32 = 64;

/// Events one connection is told in a row while others of its priority wait.
const RUN: u8 = 16;

/// One event queue.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Queue {
    /// By priority: connections with something to tell.
    lists: [List; LEVELS],
    /// By priority: events given of the first connection on the list since it came to be that.
    runs: [u8; LEVELS],
    /// The next connection to look at for a successor, or `NONE`.
    pub(crate) untold: u32,
    /// Events given, around the circle.
    turn: u32,
    /// Groups whose draining has come to its end without the application knowing.
    pub(crate) drained: u32,
}

impl Queue {
    /// The priority whose turn it is, of those with somebody waiting.
    fn next(&self) -> Option<usize> {
        let waits = |level: &usize| !self.lists[*level].is_empty();
        if self.turn % FAIR == FAIR - 1 {
            let from = (self.turn / FAIR) as usize % LEVELS;
            return (from..LEVELS).chain(0..from).find(waits);
        }
        (0..LEVELS).rev().find(waits)
    }
}

impl Stack<'_> {
    /// The next event of a queue; `None` when there is none. Ask only while the event can be
    /// passed on: it is not given twice.
    pub fn poll_event(&mut self, queue: QueueId) -> Option<Event> {
        let QueueId(number) = queue;
        let queue = usize::from(number);
        loop {
            // All of its connections are told by now: this waits for nobody.
            if let Some(drained) = self.next_drained(number) {
                return Some(drained);
            }
            let Some(level) = self.queues.get(queue)?.next() else {
                return self.next_untold(queue);
            };
            let active = self.queues[queue].lists[level].head;
            let index = self.actives[active as usize].connection;
            if let Some((event, waits_for_word)) = self.next_event(index, active) {
                self.note_given(queue, level, waits_for_word);
                return Some(event);
            }
            self.take_from_event_list(queue, level);
            self.settle(index);
        }
    }

    /// An event of the first connection of a list was given: others may have their turn. One that
    /// was given its last text leaves at once: it waits for the application's word now, and nothing
    /// else becomes of it.
    fn note_given(&mut self, queue: usize, level: usize, waits_for_word: bool) {
        let queue_of = &mut self.queues[queue];
        queue_of.turn = queue_of.turn.wrapping_add(1);
        if waits_for_word {
            self.take_from_event_list(queue, level);
            return;
        }
        let List { head, tail } = queue_of.lists[level];
        queue_of.runs[level] += 1;
        if queue_of.runs[level] == RUN {
            queue_of.runs[level] = 0;
            if head != tail {
                self.take_from_event_list(queue, level);
                self.put_on_event_list(self.actives[head as usize].connection, head);
            }
        }
    }

    /// The next event of a connection, and whether it was its last text and nothing else is to tell.
    #[inline]
    fn next_event(&mut self, index: u32, active: u32) -> Option<(Event, bool)> {
        let connection = self.cd(index);
        let at = self.connections[index as usize].group;
        let group = self.groups[usize::from(at)].gd(at);
        let is_untold = self.connections[index as usize].has(UNTOLD);
        if is_untold && self.tcb(index, active).is_introduced_first() {
            return Some((Event::Opened { group, connection }, false));
        }
        let tcb = &mut self.tcb(index, active);
        if tcb.act.has(TELL_ACCEPTABLE) {
            tcb.act.clear(TELL_ACCEPTABLE);
            tcb.act.set(KNOWN);
            return Some((Event::Acceptable { group, connection }, false));
        }
        if tcb.act.has(TELL_OPENED) {
            tcb.act.clear(TELL_OPENED);
            tcb.act.set(KNOWN);
            return Some((Event::Opened { group, connection }, false));
        }
        if tcb.rec.state() != State::Closed
            && let Some(given) = tcb.give()
        {
            tcb.group.counts.requests += 1;
            let (at, len, offset) = (given.at, given.len, given.offset);
            let event = Event::Data { group, connection, at, len, offset };
            return Some((event, !tcb.has_event()));
        }
        if tcb.act.has(TELL_FINISHED) {
            tcb.act.clear(TELL_FINISHED);
            let offset = tcb.offset_of(tcb.rec.rcv_nxt);
            return Some((Event::Finished { group, connection, offset }, false));
        }
        if tcb.act.has(TELL_CLOSED) {
            tcb.act.clear(TELL_CLOSED);
            let code = u8::try_from(tcb.act.reason).unwrap_or(u8::MAX);
            let reason = Reason::from_code(code).unwrap_or(Reason::Aborted);
            let held = tcb.act.rcv_given.since(tcb.act.rcv_committed);
            return Some((Event::Closed { group, connection, reason, held }, false));
        }
        None
    }

    pub(crate) fn put_on_event_list(&mut self, index: u32, active: u32) {
        let act = &mut self.actives[active as usize];
        if act.has(ON_EVENT_LIST) {
            return;
        }
        act.set(ON_EVENT_LIST);
        act.event_next = NONE;
        let group = &self.groups[usize::from(self.connections[index as usize].group)];
        let list = &mut self.queues[usize::from(group.queue)].lists[group.priority()];
        let tail = core::mem::replace(&mut list.tail, active);
        if tail == NONE {
            list.head = active;
        } else {
            self.actives[tail as usize].event_next = active;
        }
    }

    /// Takes the first connection off one of a queue's lists.
    fn take_from_event_list(&mut self, queue: usize, level: usize) {
        self.queues[queue].runs[level] = 0;
        let list = &mut self.queues[queue].lists[level];
        let act = &mut self.actives[list.head as usize];
        act.clear(ON_EVENT_LIST);
        list.head = act.event_next;
        if list.head == NONE {
            list.tail = NONE;
        }
    }

    /// Takes connections without an owner off a queue's lists: nobody may ever ask for them.
    pub(crate) fn forget_nobodys_events(&mut self, queue: u16) {
        let nobodys = self.nobodys_group();
        for level in 0..LEVELS {
            let Some(queue) = self.queues.get_mut(usize::from(queue)) else { return };
            let mut active = core::mem::take(&mut queue.lists[level]).head;
            queue.runs[level] = 0;
            while active != NONE {
                let act = &mut self.actives[active as usize];
                let (index, next) = (act.connection, act.event_next);
                act.clear(ON_EVENT_LIST);
                if self.connections[index as usize].group == nobodys {
                    self.settle(index);
                } else {
                    self.put_on_event_list(index, active);
                }
                active = next;
            }
        }
    }
}

//! A walk over the connection table for what no timer stands for: peers to be asked whether they are
//! there, connections that have been idle too long, groups that drain, ends that wait for an active record.
//!
//! An idle connection is one folded record and has no timer (design law 4). So while some open group
//! wants it, and only then, the table is walked, [`LOOKS`] records every [`STEP`]: about half a
//! million a second, which costs a worker a hundredth of its time at most. A round over all records
//! finds out when the first of them is due, and until then nothing is walked at all.
//!
//! Silence is measured from `heard_ms`, when the peer was last heard. When text last came or went is
//! kept in one byte, in units of the group's idle timeout divided by 32 to 63: it is never
//! closed early, and late by up to two units or by the length of a round.

use core::time::Duration;

use crate::drain::is_open;
use crate::event::Reason;
use crate::stack::Stack;
use crate::table::slots::NONE;
use crate::tcp::record::{ASKING, ENDED, LISTED, TEXTED};
use crate::tcp::state::State;
use crate::time::Instant;

/// Records looked at in one step: none may cost the others their turn.
const LOOKS: u32 = 512;
/// Time from one step to the next.
const STEP: Duration = Duration::from_millis(1);

/// Time until a connection is looked at again that needed an active record when none was free.
pub(crate) const WITHOUT_RECORD: Duration = Duration::from_millis(100);

/// Where the walk stands.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// The next record, or `NONE` between two rounds.
    at: u32,
    /// When to go on; [`Instant::NEVER`] while no group wants it.
    next: Instant,
    /// When the first of the records looked at in this round must be looked at again.
    due: Instant,
    /// No record that comes up later is due before this has passed.
    shortest: Duration,
}

impl Sweep {
    pub(crate) const fn new() -> Self {
        Self { at: NONE, next: Instant::NEVER, due: Instant::NEVER, shortest: Duration::MAX }
    }

    /// When [`Stack::sweep`] has something to do.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        (self.next != Instant::NEVER).then_some(self.next)
    }
}

impl Stack<'_> {
    /// A group was opened, or drains: the walk begins now.
    pub(crate) fn begin_sweep(&mut self) {
        (self.sweep.due, self.sweep.next) = (self.now, self.now);
        self.review_sweep();
    }

    /// The walk goes on, or begins, by then.
    pub(crate) fn sweep_by(&mut self, soon: Instant) {
        self.sweep.due = self.sweep.due.min(soon);
        self.sweep.next = self.sweep.next.min(soon);
    }

    /// The groups are others, or ends were told: whether a walk is wanted, and how often.
    pub(crate) fn review_sweep(&mut self) {
        let watched = || self.groups.iter().filter(|group| group.is_watched());
        let shortest = watched().filter_map(crate::group::Group::shortest_idle_ms).min();
        let wanted = watched().next().is_some() || self.has_ends_untold();
        self.sweep.shortest = shortest.map_or(Duration::MAX, |ms| Duration::from_millis(ms.into()));
        if !wanted {
            (self.sweep.at, self.sweep.next) = (NONE, Instant::NEVER);
        }
    }

    /// The next step of the walk.
    pub(crate) fn sweep(&mut self) {
        if self.sweep.next > self.now {
            return;
        }
        if self.sweep.at == NONE {
            self.sweep.at = NONE + 1;
            self.sweep.due = self.now + self.sweep.shortest;
        }
        for _ in 0..LOOKS {
            let index = self.sweep.at;
            if index >= self.connections_free.high_water() {
                self.sweep.at = NONE;
                self.sweep.next = self.sweep.due.max(self.now + STEP);
                return;
            }
            let due = self.look(index);
            if self.sweep.next == Instant::NEVER {
                // That was the last connection of the last group that drained.
                return;
            }
            self.sweep.due = self.sweep.due.min(due);
            self.sweep.at = index + 1;
        }
        self.sweep.next = self.now + STEP;
    }

    /// Looks at one record. Answers when to look again.
    fn look(&mut self, index: u32) -> Instant {
        let rec = &self.connections[index as usize];
        if rec.is_notified(ENDED) {
            return self.tell_of_end(index);
        }
        let group = &self.groups[usize::from(rec.group)];
        let gone = matches!(rec.state(), State::Closed | State::TimeWait) || rec.has(LISTED);
        if gone || !group.is_watched() {
            return Instant::NEVER;
        }
        if group.is_draining() {
            return self.drain_one(index);
        }
        if !is_open(rec.state()) {
            return Instant::NEVER;
        }
        let idle = self.look_at_idleness(index);
        idle.min(self.look_at_silence(index))
    }

    /// RFC 9293 section 3.8.4: a peer that was not heard for too long is asked.
    fn look_at_silence(&mut self, index: u32) -> Instant {
        let rec = &self.connections[index as usize];
        let group = &self.groups[usize::from(rec.group)];
        let (idle, silence) = (group.keep_idle_ms, self.waited_ms(rec));
        if idle == 0 || !is_open(rec.state()) {
            return Instant::NEVER;
        }
        if silence < idle {
            return self.now + Duration::from_millis((idle - silence).into());
        }
        let again = self.now + group.keep_interval().max(STEP);
        let is_asked = rec.active().is_some_and(|active| self.actives[active as usize].has(ASKING));
        if !is_asked && self.may_ask_peers(usize::from(group.pool)) {
            // Without a record for it the peer is asked another time.
            let _ = self.with_connection(index, |tcb| tcb.ask());
        }
        again
    }

    /// Questions leave a quarter of a pool's active records to connections with something to do.
    fn may_ask_peers(&self, pool: usize) -> bool {
        let part = self.shares.actives.part(pool);
        part.free > 0 && !part.is_below(25)
    }

    /// A connection on which no text came or went for too long is closed.
    fn look_at_idleness(&mut self, index: u32) -> Instant {
        let of = self.connections[index as usize].group;
        let group = self.groups[usize::from(of)];
        if group.idle_timeout_ms == 0 {
            return Instant::NEVER;
        }
        let units = group.idle_units(self.now);
        let mark = (units & 0xff) as u8;
        if let Some(active) = self.connections[index as usize].active() {
            let idle = self.has_nothing_under_way(index);
            let act = &mut self.actives[active as usize];
            if !idle || act.has(TEXTED) {
                act.clear(TEXTED);
                self.connections[index as usize].set_text_at(mark);
            }
        }
        let age = u32::from(mark.wrapping_sub(self.connections[index as usize].text_at()));
        let limit = group.idle_limit();
        if age < limit {
            return Instant::from_millis((units + u64::from(limit - age)) << group.idle_shift);
        }
        let closed = self.with_connection(index, |tcb| {
            tcb.act.reason = Reason::Idle as u16;
            tcb.end();
        });
        if closed.is_ok() { Instant::NEVER } else { self.now + WITHOUT_RECORD }
    }
}

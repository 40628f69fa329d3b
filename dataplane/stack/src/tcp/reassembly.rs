//! Text beyond holes (RFC 9293 section 3.10.7.4, SHLD-31): held until what comes before it has come.
//!
//! What is held without a gap is a *run*: its chunks in a circle, known by the last one, so that
//! either end is at hand. The highest run is known to the connection itself; all others stand in a
//! tree (`table::runs`), 16 bytes each. So one hole, which is what nearly every loss makes, costs no
//! more than its chunks, and what follows the highest run, as nearly all does, is put behind it
//! without a search. Anything else is found in the tree, in about 2 log2(n) steps for n runs.
//!
//! A segment that lies across k runs makes one of them and of itself. That takes k searches, and k
//! runs fewer are left, each of which a segment had to make: so over all segments each costs a
//! logarithm, in whatever order a peer sends them (SegmentSmack, CVE-2018-5390), and a repetition of
//! what is held costs one search however many chunks it lies across. When a hole is filled, its run
//! moves chunk by chunk to the text in order, which every chunk does once.

use super::Tcb;
use super::record::{Range, SACKS};
use super::seq::SeqNum;
use crate::buffer::PAGE;
use crate::counters::{Outcome, Stop};
use crate::table::slots::NONE;

/// Chunks, and records of runs, that a connection may hold beyond holes.
const OUT_OF_ORDER_MAX: u32 = 1024;

/// A run that is held.
#[derive(Clone, Copy)]
struct Held {
    /// Its record; `NONE`: it is the highest.
    record: u32,
    start: SeqNum,
    end: SeqNum,
    last: u32,
}

impl Tcb<'_, '_> {
    /// A segment beyond a hole takes its place among those already there; bytes that are there
    /// already stay as they came first.
    pub(super) fn hold_out_of_order(&mut self, start: SeqNum, payload: &[u8]) -> Outcome {
        let mut seq = start;
        let outcome = self.place_out_of_order(&mut seq, payload);
        self.note_sack(Range { left: start, right: seq });
        outcome
    }

    /// Moves `seq` on to where the bytes that are held end.
    fn place_out_of_order(&mut self, seq: &mut SeqNum, mut payload: &[u8]) -> Outcome {
        while !payload.is_empty() {
            let (before, after) = self.held_around(*seq);
            if let Some(held) = before.filter(|held| held.end.after(*seq)) {
                let known = (held.end.since(*seq) as usize).min(payload.len());
                let from = *seq;
                *seq += length(known);
                self.note_duplicate(from, *seq);
                payload = &payload[known..];
                continue;
            }
            let mut room = payload.len().min(PAGE);
            if let Some(held) = after {
                room = room.min(held.start.since(*seq) as usize);
            }
            if self.act.ooo_count + 2 > OUT_OF_ORDER_MAX || !self.may_hold_out_of_order() {
                return Err(Stop::OutOfOrderFull);
            }
            let Some(index) = self.store(*seq, &payload[..room]) else {
                return Err(Stop::ReceiveBufferFull);
            };
            if !self.join(index, before, after) {
                self.chunks.give_back(self.receive, index);
                return Err(Stop::OutOfOrderFull);
            }
            self.act.ooo_count += 1;
            // If that reached the next run, what lies within that is held already.
            let reached = after.filter(|held| held.start == *seq + length(room));
            let known = reached.map_or(0, |held| held.end.since(held.start) as usize);
            *seq += length(room);
            payload = &payload[room..];
            let known = known.min(payload.len());
            self.note_duplicate(*seq, *seq + length(known));
            *seq += length(known);
            payload = &payload[known..];
        }
        Ok(())
    }

    /// The run at or before `seq`, and the next one after it.
    fn held_around(&self, seq: SeqNum) -> (Option<Held>, Option<Held>) {
        let Some(top) = self.highest() else { return (None, None) };
        if top.start.at_or_before(seq) {
            return (Some(top), None);
        }
        let (before, after) = self.chunks.runs_around(self.act.ooo_runs, seq);
        (self.held(before), self.held(after).or(Some(top)))
    }

    fn highest(&self) -> Option<Held> {
        let last = self.act.ooo_top;
        (last != NONE).then(|| {
            let chunk = self.chunks.get(last);
            let start = self.chunks.get(chunk.next).seq;
            Held { record: NONE, start, end: chunk.end(), last }
        })
    }

    fn lowest(&self) -> Option<Held> {
        self.held(self.chunks.first_run(self.act.ooo_runs)).or_else(|| self.highest())
    }

    fn held(&self, record: u32) -> Option<Held> {
        (record != NONE).then(|| {
            let run = self.chunks.run(record);
            let end = self.chunks.get(run.last).end();
            Held { record, start: run.seq, end, last: run.last }
        })
    }

    /// The chunk at `index` lengthens the run before it, or that after it, makes one of both, or is a
    /// run of its own. Answers whether there is a record for that.
    fn join(&mut self, index: u32, before: Option<Held>, after: Option<Held>) -> bool {
        let chunk = *self.chunks.get(index);
        let follows = before.filter(|held| held.end == chunk.seq);
        let leads = after.filter(|held| held.start == chunk.end());
        match (follows, leads) {
            (None, None) => return self.begin_run(index, chunk.seq, after.is_none()),
            (Some(run), None) => {
                self.link_behind(run, index);
                if run.record == NONE {
                    self.act.ooo_top = index;
                } else {
                    self.chunks.set_run_last(run.record, index);
                }
            }
            (None, Some(run)) => {
                // In a circle, before the first is behind the last.
                self.link_behind(run, index);
                if run.record != NONE {
                    self.chunks.set_run_start(run.record, chunk.seq);
                }
            }
            (Some(low), Some(high)) => {
                self.link_behind(low, index);
                let (first, middle) = (chunk_after(self, index), chunk_after(self, high.last));
                self.chunks.get_mut(index).next = middle;
                self.chunks.get_mut(high.last).next = first;
                if high.record == NONE {
                    self.remove_run(low.start);
                } else {
                    self.remove_run(high.start);
                    self.chunks.set_run_last(low.record, high.last);
                }
            }
        }
        true
    }

    fn begin_run(&mut self, index: u32, seq: SeqNum, highest: bool) -> bool {
        self.chunks.get_mut(index).next = index;
        if !highest {
            return self.insert_run(seq, index);
        }
        if self.highest().is_some_and(|top| !self.insert_run(top.start, top.last)) {
            return false;
        }
        self.act.ooo_top = index;
        true
    }

    fn insert_run(&mut self, seq: SeqNum, last: u32) -> bool {
        let inserted = self.chunks.insert_run(&mut self.act.ooo_runs, seq, last);
        self.act.ooo_count += u32::from(inserted);
        inserted
    }

    fn remove_run(&mut self, seq: SeqNum) {
        self.chunks.remove_run(&mut self.act.ooo_runs, seq);
        self.act.ooo_count -= 1;
    }

    /// The chunk at `index` comes after the last of a run in its circle.
    fn link_behind(&mut self, run: Held, index: u32) {
        let first = chunk_after(self, run.last);
        self.chunks.get_mut(index).next = first;
        self.chunks.get_mut(run.last).next = index;
    }

    /// The last quarter of the pool's memory and of its descriptors is for what is in order:
    /// otherwise holes nobody fills could fill both. So is all of it once acknowledgements are
    /// withheld.
    fn may_hold_out_of_order(&self) -> bool {
        let pool = usize::from(self.group.pool);
        let last = self.throttle.withhold_below.max(25);
        let (receive, mut chunks) = (self.receive.part(pool), self.chunks.part(pool));
        // What comes next takes a chunk, and perhaps a record of a run.
        chunks.free = chunks.free.saturating_sub(2);
        receive.free * 4 > receive.of && !receive.is_below(last) && !chunks.is_below(last)
    }

    /// What waits beyond a hole will be sent again: it makes way for what fills the hole. Whether
    /// that text need not be hidden now.
    pub(super) fn makes_way_for(&mut self, seq: SeqNum) -> bool {
        if seq != self.rec.rcv_nxt || self.act.ooo_top == NONE {
            return false;
        }
        self.release_out_of_order();
        !self.hides()
    }

    /// The hole is closed as far as it goes: what waited behind it is in order now.
    pub(super) fn fill_from_out_of_order(&mut self) {
        while let Some(run) = self.lowest().filter(|run| !run.start.after(self.rec.rcv_nxt)) {
            if run.record == NONE {
                self.act.ooo_top = NONE;
            } else {
                self.remove_run(run.start);
            }
            let mut index = self.open_circle(run.last);
            while index != NONE {
                let next = self.chunks.get(index).next;
                self.act.ooo_count -= 1;
                self.take_from_out_of_order(index);
                index = next;
            }
        }
    }

    /// The chunk at `index`, which lies at `rcv.nxt` or reaches it, is in order now.
    fn take_from_out_of_order(&mut self, index: u32) {
        let chunk = *self.chunks.get(index);
        if chunk.seq == self.rec.rcv_nxt {
            self.chunks.get_mut(index).next = NONE;
            self.chunks.append(&mut self.act.rcv_list, index);
            self.advance_rcv_nxt(chunk.len.into());
            return;
        }
        // It overlaps what has come in order meanwhile: only its end is new. If that found no room,
        // what follows it is not in order either, and will be sent again.
        let known = self.rec.rcv_nxt.since(chunk.seq).min(chunk.len.into()) as usize;
        let mut rest = [0; PAGE];
        let len = usize::from(chunk.len) - known;
        if !chunk.seq.after(self.rec.rcv_nxt) {
            let range = known..usize::from(chunk.len);
            rest[..len].copy_from_slice(self.receive.bytes(chunk.block, range));
        }
        self.chunks.give_back(self.receive, index);
        if !chunk.seq.after(self.rec.rcv_nxt) {
            let taken = self.append(&rest[..len]);
            self.advance_rcv_nxt(taken);
        }
    }

    /// The chunks of a run as a list: its first.
    fn open_circle(&mut self, last: u32) -> u32 {
        core::mem::replace(&mut self.chunks.get_mut(last).next, NONE)
    }

    /// What waits beyond holes is given back.
    pub(super) fn release_out_of_order(&mut self) {
        let top = core::mem::replace(&mut self.act.ooo_top, NONE);
        let mut last = if top == NONE { None } else { Some(top) };
        while let Some(run) = last {
            let mut index = self.open_circle(run);
            while index != NONE {
                let next = self.chunks.get(index).next;
                self.chunks.give_back(self.receive, index);
                index = next;
            }
            last = self.chunks.take_any_run(&mut self.act.ooo_runs);
        }
        self.act.ooo_count = 0;
        self.act.sacks = [Range::default(); SACKS];
    }
}

fn chunk_after(tcb: &Tcb<'_, '_>, index: u32) -> u32 {
    tcb.chunks.get(index).next
}

/// Payloads are shorter than 64 KB.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

//! The scoreboard: what is in flight, when it was sent, and what the peer says it has of it
//! (RFC 2018 section 5, RFC 6675, RFC 8985 section 5.2).
//!
//! Its records are *flights*: text that was sent at one time, or within a fraction of the round
//! trip. There are [`FLIGHTS_MAX`] at most: a window that is larger, or a peer that asks for more
//! pieces, gets coarser ones. One that is alone has no record: see `sole_flight`.
//!
//! # What an acknowledgement costs
//!
//! Flights are a list, 16 bytes each, and lists are walked. So every walk has a place to begin, where
//! the last one found that something can change, and a number of steps after which it ends:
//!
//! * SACK blocks begin at `fingers`, where the lowest and the highest block of the last
//!   acknowledgement began. What is newly marked, cut or joined is paid by the text sent; what only
//!   is passed, at most twice [`STEPS_MAX`] flights an acknowledgement. A block that is not reached is
//!   reached by one of the next, for the finger moves as far as the walk came.
//! * Losses are looked for from `undecided` on, before which everything sent once has arrived or is
//!   lost. What was sent once was sent in order, so the first that is too young ends the walk (RFC
//!   8985 section 6.2, step 5). What was sent again is looked for among the first [`STEPS_MAX`]
//!   flights: a loss that stands further back holds nothing up yet.
//! * The first that is lost stands at `lost_cursor`, which moves on with it, by [`STEPS_MAX`] flights
//!   at most at a time.
//!
//! That is a few dozen steps at worst, of which 64 are 16 cache lines, and one or two as a rule. A
//! tree would make it 4 * 2 * log2(512) = 72 for four blocks, in records of twice the size; it would be
//! paid by everybody who sends. Only timeouts, and a peer that takes back what it told, walk all of
//! it.

use super::Tcb;
use super::record::{FINGERS, SACK};
use super::recovery::{News, RACK_KNOWN, REORDERING, SOLE, TAIL_PROBE};
use super::seq::SeqNum;
use crate::counters::Count;
use crate::table::chunk::{AGAIN, ChunkList, Flight, LOST, SACKED};
use crate::table::slots::NONE;
use crate::wire::tcp::{SACK_BLOCKS_MAX, SackBlock, Segment};

/// Flights one connection has, at most.
const FLIGHTS_MAX: u16 = 512;
/// Flights that a walk passes without a change, at most.
pub(super) const STEPS_MAX: u32 = 32;
/// Of them SACK blocks leave so many to what is sent.
const FLIGHTS_KEPT: u16 = 64;
/// What is sent within this part of a round trip may be one flight.
const SAME_TIME: u32 = 64;

impl Tcb<'_, '_> {
    /// Microseconds of the stack's clock.
    pub(super) fn now_us(&self) -> u32 {
        ((self.now.as_nanos() / 1_000) & 0xffff_ffff) as u32
    }

    /// How long ago something was sent, in microseconds. It is in the past, so all of the 71 minutes
    /// that the clock has are: while a peer's window is closed a flight may be older than half of
    /// them.
    pub(super) fn age(&self, sent: u32) -> u32 {
        self.now_us().wrapping_sub(sent)
    }

    /// Bytes in flight: sent, and neither acknowledged nor known to have arrived or to be lost
    /// (RFC 6675's pipe).
    pub(super) fn pipe(&self) -> u32 {
        let recovery = &self.act.recovery;
        let sent = self.act.snd_nxt.since(self.rec.snd_una);
        sent.saturating_sub(recovery.sacked + recovery.lost)
    }

    /// Whether what was sent then may be told together.
    pub(super) fn is_same_time(&self, sent: u32, before: u32) -> bool {
        elapsed(sent, before) <= self.act.srtt_us / SAME_TIME
    }

    /// Text, or FIN, from `seq` to `end` is on its way, as a flight with a record.
    pub(super) fn note_listed_flight(&mut self, seq: SeqNum, end: SeqNum) {
        let marks = if seq.before(self.act.snd_max) { AGAIN } else { 0 };
        let len = u16::try_from(end.since(seq)).unwrap_or(u16::MAX);
        let flight = Flight { next: NONE, sent: self.now_us(), seq, len, marks };
        let tail = self.act.recovery.flights.tail;
        if tail != NONE {
            let last = self.chunks.flight(tail);
            if last.end() != seq {
                self.forget_flights();
            } else if self.extends(&last, &flight) {
                self.chunks.set_flight(tail, Flight { len: last.len + len, ..last });
                return;
            }
        }
        if !self.append_flight(flight) {
            self.forget_flights();
        }
    }

    /// Whether `flight` is told with `last`: sent at the same time, or there is no room.
    fn extends(&self, last: &Flight, flight: &Flight) -> bool {
        let together = self.is_same_time(flight.sent, last.sent);
        let alike = last.is_marked(flight.marks) && last.len.checked_add(flight.len).is_some();
        alike && (together || !self.may_split(FLIGHTS_MAX))
    }

    pub(super) fn append_flight(&mut self, flight: Flight) -> bool {
        if self.act.recovery.flights_count >= FLIGHTS_MAX {
            return false;
        }
        let Some(index) = self.chunks.take_flight(self.act.pool, flight) else { return false };
        let list = &mut self.act.recovery.flights;
        let tail = core::mem::replace(&mut list.tail, index);
        if tail == NONE {
            list.head = index;
        } else {
            let last = self.chunks.flight(tail);
            self.chunks.set_flight(tail, Flight { next: index, ..last });
        }
        self.act.recovery.flights_count += 1;
        true
    }

    /// Nothing is known of what is in flight.
    pub(super) fn forget_flights(&mut self) {
        let mut index = self.act.recovery.flights.head;
        while index != NONE {
            let next = self.chunks.flight(index).next;
            self.chunks.give_back_flight(index);
            index = next;
        }
        let recovery = &mut self.act.recovery;
        recovery.flights = ChunkList::default();
        recovery.lost_cursor = NONE;
        self.act.undecided = NONE;
        self.act.fingers = [NONE; FINGERS];
        let recovery = &mut self.act.recovery;
        (recovery.flights_count, recovery.sacked, recovery.lost) = (0, 0, 0);
        recovery.clear(SOLE);
    }

    /// Everything before `ack` has arrived: its flights end.
    pub(super) fn retire_listed_flights(&mut self, ack: SeqNum, news: &mut News) {
        loop {
            let head = self.act.recovery.flights.head;
            if head == NONE {
                break;
            }
            let flight = self.chunks.flight(head);
            if !flight.seq.before(ack) {
                break;
            }
            let gone = ack.earliest(flight.end()).since(flight.seq);
            let part = Flight { len: u16::try_from(gone).unwrap_or(u16::MAX), ..flight };
            self.retire(&part, news);
            if part.len < flight.len {
                let len = flight.len - part.len;
                self.chunks.set_flight(head, Flight { seq: ack, len, ..flight });
                break;
            }
            self.remove_head(head, flight.next);
        }
    }

    fn retire(&mut self, part: &Flight, news: &mut News) {
        let recovery = &mut self.act.recovery;
        if part.has(SACKED) {
            recovery.sacked -= u32::from(part.len);
            return;
        }
        if part.has(LOST) {
            recovery.lost -= u32::from(part.len);
        }
        if part.has(AGAIN) {
            news.again = true;
        } else if news.first_sent.is_none() {
            news.first_sent = Some(part.sent);
        }
        self.deliver(part, news);
    }

    fn remove_head(&mut self, head: u32, next: u32) {
        let recovery = &mut self.act.recovery;
        recovery.flights.head = next;
        if next == NONE {
            recovery.flights.tail = NONE;
        }
        recovery.flights_count -= 1;
        self.replace_places(head, NONE);
        self.chunks.give_back_flight(head);
    }

    /// Whoever stands at a flight that is no more stands at `instead` now; `NONE`: at the first.
    fn replace_places(&mut self, gone: u32, instead: u32) {
        let [low, high] = &mut self.act.fingers;
        for place in [&mut self.act.recovery.lost_cursor, &mut self.act.undecided, low, high] {
            if *place == gone {
                *place = instead;
            }
        }
    }

    /// RFC 8985 section 6.2, steps 1 to 3: what has arrived, was it sent later than anything that
    /// has arrived before, and was it overtaken?
    pub(super) fn deliver(&mut self, part: &Flight, news: &mut News) {
        news.delivered += u32::from(part.len);
        let rtt = self.age(part.sent).max(1);
        let end = part.end();
        let recovery = &mut self.act.recovery;
        if end.after(recovery.fack) {
            recovery.fack = end;
        } else if end.before(recovery.fack) && !part.has(AGAIN) {
            recovery.set(REORDERING);
        }
        if !part.has(AGAIN) {
            let shortest = if recovery.rtt_min == 0 { rtt } else { recovery.rtt_min.min(rtt) };
            recovery.rtt_min = shortest;
        } else if rtt < recovery.rtt_min {
            // So soon it can only be what was sent before.
            return;
        }
        let later = sent_after(part.sent, end, recovery.rack_sent, recovery.rack_end);
        if later || !recovery.has(RACK_KNOWN) {
            (recovery.rack_sent, recovery.rack_end) = (part.sent, end);
            recovery.rack_rtt = rtt;
            recovery.set(RACK_KNOWN);
        }
    }

    /// The SACK blocks of a segment (RFC 2018 section 5.1), its reported duplicates (RFC 2883
    /// section 5) among them.
    pub(super) fn take_sack_blocks(&mut self, seg: &Segment<'_>, news: &mut News) {
        let blocks = seg.options.sack.as_slice();
        if blocks.is_empty() || !self.rec.has(SACK) {
            return;
        }
        news.duplicate = duplicate_in(blocks, SeqNum::new(seg.ack));
        if news.duplicate.is_some() {
            self.counters.count(Count::DuplicatesReported);
        }
        let mut sorted = [(SeqNum::new(0), SeqNum::new(0)); SACK_BLOCKS_MAX];
        let mut count = 0;
        for block in blocks {
            let (left, right) = (SeqNum::new(block.left), SeqNum::new(block.right));
            let told = left.before(right)
                && left.after(self.rec.snd_una)
                && right.at_or_before(self.act.snd_max);
            if told {
                let mut at = count;
                while at > 0 && left.before(sorted[at - 1].0) {
                    sorted[at] = sorted[at - 1];
                    at -= 1;
                }
                sorted[at] = (left, right);
                count += 1;
            }
        }
        news.sacks = count > 0;
        self.mark_sacked(&sorted[..count], news);
    }

    /// Marks what lies in the blocks, which are in order. Neighbours that have both arrived become one
    /// flight.
    fn mark_sacked(&mut self, blocks: &[(SeqNum, SeqNum)], news: &mut News) {
        self.write_out_sole_flight();
        let (mut before, mut steps) = (NONE, 2 * STEPS_MAX);
        for (at, &(left, right)) in blocks.iter().enumerate() {
            before = self.place_before(left, before);
            before = self.walk_to(left, before, &mut steps);
            // The lowest block's place, and the highest's.
            let highest = at + 1 == blocks.len();
            if at == 0 {
                self.act.fingers[0] = before;
            }
            if highest {
                self.act.fingers[1] = before;
            }
            before = self.mark_block(before, (left, right), &mut steps, news);
        }
    }

    /// The nearest known place before `left`: `walked` or a finger; `NONE`: the first flight.
    fn place_before(&self, left: SeqNum, walked: u32) -> u32 {
        let mut nearest = (NONE, self.rec.snd_una);
        let [low, high] = self.act.fingers;
        for place in [walked, low, high] {
            if place != NONE && place != nearest.0 {
                let seq = self.chunks.flight(place).seq;
                if seq.before(left) && (nearest.0 == NONE || seq.after(nearest.1)) {
                    nearest = (place, seq);
                }
            }
        }
        nearest.0
    }

    /// From `before` to the last flight that ends at or before `left`, as far as the steps go. `NONE`
    /// stands before the first.
    fn walk_to(&self, left: SeqNum, mut before: u32, steps: &mut u32) -> u32 {
        let mut next = self.after(before);
        while next != NONE && *steps > 0 {
            let flight = self.chunks.flight(next);
            if flight.end().after(left) {
                break;
            }
            *steps -= 1;
            (before, next) = (next, flight.next);
        }
        before
    }

    /// The flight after this one; after `NONE` the first.
    fn after(&self, index: u32) -> u32 {
        if index == NONE { self.act.recovery.flights.head } else { self.chunks.flight(index).next }
    }

    /// Marks what lies in one block, which begins after `before`. Answers where it ends.
    fn mark_block(
        &mut self,
        mut before: u32,
        (left, right): (SeqNum, SeqNum),
        steps: &mut u32,
        news: &mut News,
    ) -> u32 {
        let mut previous = (before != NONE).then(|| self.chunks.flight(before));
        let mut index = previous.map_or(self.act.recovery.flights.head, |flight| flight.next);
        while index != NONE && *steps > 0 {
            let mut flight = self.chunks.flight(index);
            // Where the steps of the walk to the block ended, it may lie further on.
            let is_before = flight.end().at_or_before(left) && !flight.has(SACKED);
            if !flight.seq.before(right) || is_before {
                break;
            }
            if flight.has(SACKED) {
                *steps -= 1;
            } else if flight.seq.before(left) {
                *steps -= 1;
                // The part within the block, if it could be cut off, is next.
                self.split_for_block(index, left);
                flight = self.chunks.flight(index);
                (before, previous, index) = (index, Some(flight), flight.next);
                continue;
            } else {
                if flight.end().after(right) && !self.split_for_block(index, right) {
                    break;
                }
                self.mark_one_sacked(index, news);
                flight = self.chunks.flight(index);
            }
            if previous.is_some_and(|first| may_be_one(&first, &flight)) {
                self.merge(before, index);
                flight = self.chunks.flight(before);
            } else {
                before = index;
            }
            (previous, index) = (Some(flight), flight.next);
        }
        before
    }

    fn mark_one_sacked(&mut self, index: u32, news: &mut News) {
        let mut flight = self.chunks.flight(index);
        let len = u32::from(flight.len);
        if flight.has(LOST) {
            self.act.recovery.lost -= len;
        }
        self.act.recovery.sacked += len;
        self.deliver(&flight, news);
        flight.marks = flight.marks & !LOST | SACKED;
        self.chunks.set_flight(index, flight);
    }

    /// Makes one flight of two neighbours, if its length can be told.
    fn merge(&mut self, before: u32, index: u32) -> bool {
        let (first, second) = (self.chunks.flight(before), self.chunks.flight(index));
        let Some(len) = first.len.checked_add(second.len) else { return false };
        let marks = first.marks | second.marks;
        self.chunks.set_flight(before, Flight { next: second.next, len, marks, ..first });
        self.chunks.give_back_flight(index);
        let recovery = &mut self.act.recovery;
        recovery.flights_count -= 1;
        if recovery.flights.tail == index {
            recovery.flights.tail = before;
        }
        self.replace_places(index, before);
        true
    }

    fn split_for_block(&mut self, index: u32, at: SeqNum) -> bool {
        self.may_split(FLIGHTS_MAX - FLIGHTS_KEPT) && self.split(index, at)
    }

    /// Whether another flight may be taken.
    fn may_split(&self, most: u16) -> bool {
        let pool = usize::from(self.act.pool);
        self.act.recovery.flights_count < most && self.chunks.may_note_flight(pool)
    }

    /// Cuts a flight in two at `at`, which lies within it.
    fn split(&mut self, index: u32, at: SeqNum) -> bool {
        let flight = self.chunks.flight(index);
        let len = u16::try_from(at.since(flight.seq)).unwrap_or(u16::MAX);
        let rest = Flight { seq: at, len: flight.len - len, ..flight };
        let Some(new) = self.chunks.take_flight(self.act.pool, rest) else { return false };
        self.chunks.set_flight(index, Flight { next: new, len, ..flight });
        let recovery = &mut self.act.recovery;
        if recovery.flights.tail == index {
            recovery.flights.tail = new;
        }
        recovery.flights_count += 1;
        true
    }

    /// The flight at `index` is taken for lost. A probe that could not go yet would ask what is
    /// known now, and the cursor would pass what is lost before it.
    pub(super) fn mark_lost(&mut self, index: u32) {
        let mut flight = self.chunks.flight(index);
        flight.marks |= LOST;
        self.chunks.set_flight(index, flight);
        let cursor = self.act.recovery.lost_cursor;
        let first = self.act.recovery.lost == 0
            || cursor != NONE && flight.seq.before(self.chunks.flight(cursor).seq);
        let recovery = &mut self.act.recovery;
        if first {
            recovery.lost_cursor = index;
        }
        recovery.lost += u32::from(flight.len);
        recovery.clear(TAIL_PROBE);
    }

    /// Everything in flight is presumed lost, but for what the peer said it has. If the first of
    /// that is still not acknowledged, the peer gave it up (RFC 2018 section 8).
    pub(super) fn presume_lost(&mut self) {
        self.write_out_sole_flight();
        // What arrived before says nothing of what is sent now, and a window may have been shut for
        // longer than the clock tells.
        self.act.recovery.clear(RACK_KNOWN);
        let ChunkList { head, tail } = self.act.recovery.flights;
        let all_is_told = head != NONE
            && self.chunks.flight(head).seq == self.rec.snd_una
            && self.chunks.flight(tail).end() == self.act.snd_max
            && self.act.snd_nxt == self.act.snd_max;
        if !all_is_told {
            self.forget_flights();
            self.act.snd_nxt = self.rec.snd_una;
            self.act.snd_cursor = NONE;
            return;
        }
        let given_up = self.chunks.flight(head).has(SACKED);
        if !given_up && self.pipe() == 0 && self.act.recovery.lost > 0 {
            // It was presumed before.
            self.act.recovery.lost_cursor = NONE;
            return;
        }
        if given_up {
            self.counters.count(Count::SacksReneged);
            self.act.recovery.sacked = 0;
        }
        let mut index = head;
        while index != NONE {
            let mut flight = self.chunks.flight(index);
            if given_up && flight.has(SACKED) {
                flight.marks &= !SACKED;
                self.chunks.set_flight(index, flight);
            }
            if !flight.has(SACKED | LOST) {
                self.mark_lost(index);
            }
            index = flight.next;
        }
        // The first has not arrived.
        self.act.recovery.lost_cursor = NONE;
        self.act.undecided = self.act.recovery.flights.tail;
    }

    /// The first flight that is lost. `None`: there is none, or it was not reached yet.
    pub(super) fn first_lost(&self) -> Option<u32> {
        if self.act.recovery.lost == 0 {
            return None;
        }
        let cursor = self.act.recovery.lost_cursor;
        let index = if cursor == NONE { self.act.recovery.flights.head } else { cursor };
        if index == NONE {
            return None;
        }
        let flight = self.chunks.flight(index);
        let next = flight.next;
        if flight.has(LOST) {
            return Some(index);
        }
        (next != NONE && self.chunks.flight(next).has(LOST)).then_some(next)
    }

    /// Moves on to the first flight that is lost, or to the one before it, which may have been sent
    /// again together with it. If it is far, what comes next goes on: an acknowledgement, or the timer.
    pub(super) fn find_first_lost(&mut self) {
        if self.first_lost().is_some() || self.act.recovery.lost == 0 {
            return;
        }
        let mut index = self.after(self.act.recovery.lost_cursor);
        for _ in 0..STEPS_MAX {
            self.act.recovery.lost_cursor = index;
            // What is lost stands before the cursor if this is the end.
            if index == NONE || self.chunks.flight(index).has(LOST) {
                return;
            }
            index = self.chunks.flight(index).next;
        }
    }

    /// What must be true of the scoreboard after every acknowledgement.
    pub(super) fn scoreboard_is_whole(&self) -> bool {
        #[cfg(debug_assertions)]
        let steps = self.chunks.steps();
        let is_whole = self.scoreboard_adds_up();
        #[cfg(debug_assertions)]
        self.chunks.forget_steps(steps);
        is_whole
    }

    fn scoreboard_adds_up(&self) -> bool {
        let recovery = &self.act.recovery;
        let (mut sacked, mut lost, mut count) = (0, 0, 0);
        let mut index = recovery.flights.head;
        let mut next = None;
        while index != NONE {
            let flight = self.chunks.flight(index);
            if next.is_some_and(|next| next != flight.seq) || flight.seq.before(self.rec.snd_una) {
                return false;
            }
            sacked += if flight.has(SACKED) { u32::from(flight.len) } else { 0 };
            lost += if flight.has(LOST) { u32::from(flight.len) } else { 0 };
            count += 1;
            next = Some(flight.end());
            index = flight.next;
        }
        let lost_is_found = lost > 0 || self.first_lost().is_none();
        let sole_is_alone = count == 0 || !recovery.has(SOLE);
        let told = (recovery.sacked, recovery.lost, recovery.flights_count);
        lost_is_found
            && sole_is_alone
            && self.sole_flight_is_all()
            && told == (sacked, lost, count)
            && count <= FLIGHTS_MAX
    }

    /// The first `len` numbers of the flight at `index` were sent again.
    pub(super) fn note_sent_again(&mut self, index: u32, len: u32) {
        let flight = self.chunks.flight(index);
        let end = flight.seq + len;
        if end.before(flight.end()) {
            // If it cannot be cut, all of it counts as sent, and is lost again in time.
            self.split_to_send(index, end);
        }
        let mut flight = self.chunks.flight(index);
        if flight.has(LOST) {
            self.act.recovery.lost -= u32::from(flight.len);
        }
        flight.marks = flight.marks & !LOST | AGAIN;
        flight.sent = self.now_us();
        self.chunks.set_flight(index, flight);
        let before = self.act.recovery.lost_cursor;
        if before != NONE && before != index && self.was_sent_with(before, index) {
            self.merge(before, index);
        } else {
            self.act.recovery.lost_cursor = index;
        }
        self.find_first_lost();
    }

    fn split_to_send(&mut self, index: u32, at: SeqNum) -> bool {
        self.act.recovery.flights_count < FLIGHTS_MAX && self.split(index, at)
    }

    /// Whether two flights are neighbours and were sent again at the same time.
    fn was_sent_with(&self, before: u32, index: u32) -> bool {
        let (first, second) = (self.chunks.flight(before), self.chunks.flight(index));
        first.next == index
            && first.is_marked(AGAIN)
            && second.is_marked(AGAIN)
            && elapsed(second.sent, first.sent) <= self.act.srtt_us / SAME_TIME
    }

    /// The last flight is cut so that its last `len` numbers are one of their own.
    pub(super) fn split_tail(&mut self, len: u32) -> Option<u32> {
        self.write_out_sole_flight();
        let tail = self.act.recovery.flights.tail;
        if tail == NONE {
            return None;
        }
        let flight = self.chunks.flight(tail);
        if u32::from(flight.len) > len && !self.split_to_send(tail, flight.end() - len) {
            return None;
        }
        Some(self.act.recovery.flights.tail)
    }
}

/// Whether two neighbours have both arrived, and their length together can be told.
fn may_be_one(first: &Flight, second: &Flight) -> bool {
    first.has(SACKED) && second.has(SACKED) && first.len.checked_add(second.len).is_some()
}

/// Where the duplicates end that the first block reports: they are acknowledged, or within the
/// second block.
fn duplicate_in(blocks: &[SackBlock], ack: SeqNum) -> Option<SeqNum> {
    let range = |block: &SackBlock| (SeqNum::new(block.left), SeqNum::new(block.right));
    let (left, right) = blocks.first().map(range)?;
    let below = left.before(ack);
    let within = blocks.get(1).map(range).is_some_and(|(outer_left, outer_right)| {
        outer_left.at_or_before(left) && right.at_or_before(outer_right)
    });
    (left.before(right) && (below || within)).then_some(right)
}

/// Microseconds from `since` to `now`; 0 if it is later.
pub(super) const fn elapsed(now: u32, since: u32) -> u32 {
    let passed = now.wrapping_sub(since);
    if passed > i32::MAX as u32 { 0 } else { passed }
}

/// RFC 8985 section 5.1: of what was sent at the same time, the higher number was later.
pub(super) fn sent_after(sent: u32, end: SeqNum, other: u32, other_end: SeqNum) -> bool {
    elapsed(sent, other) > 0 || sent == other && end.after(other_end)
}

//! The sole flight: what an answer is, as a rule. It was sent at one time while nothing else was in
//! flight, and is acknowledged before anything else is sent.
//!
//! It reaches from `snd.una` to `snd.nxt` and was sent once, so that when is all there is to keep, and
//! the active record has room for that. [`SOLE`] says so. Before anything else becomes of it than that
//! it is acknowledged, it is written out: it gets a record like any other, and is the first in the list.

use super::Tcb;
use super::recovery::{News, RACK_KNOWN, SOLE};
use super::seq::SeqNum;
use crate::table::chunk::Flight;
use crate::table::slots::NONE;

impl Tcb<'_, '_> {
    /// Text, or FIN, from `seq` to `end` is on its way.
    #[inline]
    pub(super) fn note_flight(&mut self, seq: SeqNum, end: SeqNum) {
        if self.begins_sole_flight(seq) {
            self.act.recovery.set(SOLE);
            // What arrived before says nothing of it, and may have been longer ago than the clock tells.
            self.act.recovery.clear(RACK_KNOWN);
            self.act.sole_sent = self.now_us();
        } else if !self.extends_sole_flight(end) {
            self.write_out_sole_flight();
            self.note_listed_flight(seq, end);
        }
    }

    /// Whether nothing else is in flight, and what is sent from `seq` on is new.
    fn begins_sole_flight(&self, seq: SeqNum) -> bool {
        let recovery = &self.act.recovery;
        let alone = recovery.flights.is_empty() && !recovery.has(SOLE);
        alone && seq == self.rec.snd_una && seq == self.act.snd_max
    }

    /// Whether what ends at `end` now was sent with the sole flight.
    fn extends_sole_flight(&self, end: SeqNum) -> bool {
        self.act.recovery.has(SOLE)
            && end.since(self.rec.snd_una) <= u16::MAX.into()
            && self.is_same_time(self.now_us(), self.act.sole_sent)
    }

    /// Everything before `ack` has arrived: its flights end.
    #[inline]
    pub(super) fn retire_flights(&mut self, ack: SeqNum, news: &mut News) {
        if self.act.recovery.has(SOLE) {
            let part = self.sole_flight(ack);
            news.first_sent = Some(part.sent);
            self.deliver(&part, news);
            if ack == self.act.snd_nxt {
                self.act.recovery.clear(SOLE);
            }
        } else {
            self.retire_listed_flights(ack, news);
        }
    }

    /// From `una` to `end`, if that is all there is of the sole flight.
    fn sole_flight(&self, end: SeqNum) -> Flight {
        let seq = self.rec.snd_una;
        let len = u16::try_from(end.since(seq)).unwrap_or(u16::MAX);
        Flight { next: NONE, sent: self.act.sole_sent, seq, len, marks: 0 }
    }

    /// The sole flight, if there is one, gets a record like any other.
    #[inline]
    pub(super) fn write_out_sole_flight(&mut self) {
        if self.act.recovery.has(SOLE) {
            self.act.recovery.clear(SOLE);
            let flight = self.sole_flight(self.act.snd_nxt);
            if !self.append_flight(flight) {
                self.forget_flights();
            }
        }
    }

    /// What must be true of it, if there is one.
    pub(super) fn sole_flight_is_all(&self) -> bool {
        let len = self.act.snd_nxt.since(self.rec.snd_una);
        !self.act.recovery.has(SOLE)
            || self.act.snd_nxt == self.act.snd_max && (1..=u16::MAX.into()).contains(&len)
    }
}

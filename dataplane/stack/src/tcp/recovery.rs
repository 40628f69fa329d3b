//! Recovery from losses with selective acknowledgements: when it begins and ends, how much may be
//! sent meanwhile (RFC 9937, proportional rate reduction), and how it is taken back when nothing
//! was lost (RFC 3522 and RFC 4015 by timestamps, RFC 3708 by reported duplicates).
//!
//! A peer without SACK has NewReno's recovery, in `congestion`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Tcb;
use super::record::{RECOVERING, RETRANSMIT, SACK, TIMESTAMPS};
use super::seq::SeqNum;
use crate::counters::Count;
use crate::table::chunk::{ChunkList, LOST};
use crate::table::slots::NONE;
use crate::wire::tcp::Segment;

/// What an active connection knows of its flight and of what became of it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Recovery {
    /// What is in flight, in order of sequence numbers and without gaps. Empty with [`SOLE`].
    pub(crate) flights: ChunkList,
    pub(crate) flights_count: u16,
    /// [`UNDO`] and its siblings below.
    pub(crate) flags: u16,
    /// The first flight that is lost stands here or later; `NONE`: anywhere.
    pub(crate) lost_cursor: u32,
    /// The chunk that text was last copied from to be sent again, or `NONE`.
    pub(crate) text_cursor: u32,
    /// Bytes of the flights that are marked so.
    pub(crate) sacked: u32,
    pub(crate) lost: u32,
    /// The highest sequence number that has arrived (RFC 8985's RACK.fack).
    pub(crate) fack: SeqNum,

    /// Of what has arrived, that which was sent last (RFC 8985's RACK.xmit_ts, in microseconds,
    /// RACK.end_seq and RACK.rtt).
    pub(crate) rack_sent: u32,
    pub(crate) rack_end: SeqNum,
    pub(crate) rack_rtt: u32,
    /// The shortest round trip, in microseconds; 0 before the first.
    pub(crate) rtt_min: u32,
    /// Quarters of the shortest round trip that make the reordering window, less one.
    pub(crate) reorder_steps: u8,
    /// Recoveries after which it is one quarter again.
    pub(crate) reorder_persist: u8,
    /// Segments sent again in this recovery and not reported as duplicates.
    pub(crate) again: u16,
    /// Duplicates widen the window once until this is acknowledged.
    pub(crate) reorder_round: SeqNum,

    /// RFC 9937: bytes delivered and sent since the recovery began, and in flight when it did.
    pub(crate) delivered: u32,
    pub(crate) sent: u32,
    pub(crate) flight: u32,

    /// Congestion window and threshold before the recovery.
    pub(crate) prior_cwnd: u32,
    pub(crate) prior_ssthresh: u32,
    /// Timestamp of the first segment sent again.
    pub(crate) again_stamp: u32,
    /// A tail loss probe ends here.
    pub(crate) tail_end: SeqNum,
}

/// What the last recovery or timeout did can be taken back.
pub(crate) const UNDO: u16 = 1;
/// The retransmission timer runs as probe timeout (RFC 8985 section 7).
pub(crate) const TAIL_TIMER: u16 = 2;
/// The retransmission timer runs as reordering timer (RFC 8985 section 6.2, step 5).
pub(crate) const REORDER_TIMER: u16 = 4;
/// A tail loss probe must be sent.
pub(crate) const TAIL_PROBE: u16 = 8;
/// A tail loss probe is out; `tail_end` says where it ends.
pub(crate) const TAIL_OUT: u16 = 16;
/// The probe was a segment sent again.
pub(crate) const TAIL_AGAIN: u16 = 32;
/// Segments were seen to overtake each other.
pub(crate) const REORDERING: u16 = 64;
/// `rack_sent` and its siblings say something.
pub(crate) const RACK_KNOWN: u16 = 128;
/// `reorder_round` says something.
pub(crate) const REORDER_ROUND: u16 = 256;
/// Everything in flight is one flight, without a record: see `sole_flight`.
pub(crate) const SOLE: u16 = 512;

impl Recovery {
    pub(crate) const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(crate) const fn set(&mut self, flag: u16) {
        self.flags |= flag;
    }

    pub(crate) const fn clear(&mut self, flag: u16) {
        self.flags &= !flag;
    }
}

/// What one acknowledgement says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    /// Bytes acknowledged by the acknowledgement number.
    pub(super) acked: u32,
    /// Bytes that were not known to have arrived before.
    pub(super) delivered: u32,
    /// When the oldest of what is acknowledged was sent, if that is sure.
    pub(super) first_sent: Option<u32>,
    /// Some of what is acknowledged was sent more than once.
    pub(super) again: bool,
    /// Duplicates were reported, which end here.
    pub(super) duplicate: Option<SeqNum>,
    /// The segment tells SACK blocks.
    pub(super) sacks: bool,
    /// It says that routers marked what we sent.
    pub(super) congestion: bool,
}

impl Tcb<'_, '_> {
    /// An acknowledgement of a peer that tells what has arrived beyond holes.
    pub(super) fn on_selective_ack(&mut self, ack: SeqNum, seg: &Segment<'_>, news: &News) {
        self.widen_reordering_window(news);
        if self.act.has(RECOVERING) && !self.rec.snd_una.before(self.act.recover) {
            self.end_recovery();
            if news.duplicate.is_none() {
                self.narrow_reordering_window();
            }
        }
        self.check_tail_probe(ack, news);
        let lost = self.act.recovery.lost;
        if self.act.recovery.sacked > 0 || lost > 0 || self.act.has(RECOVERING) {
            self.detect_losses();
        }
        let lost_now = self.act.recovery.lost > lost;
        let in_episode = self.rec.snd_una.before(self.act.recover);
        if lost_now && !self.act.has(RECOVERING) && !in_episode {
            self.begin_recovery(news);
        }
        if self.act.has(RECOVERING) {
            self.reduce_proportionally(news, lost_now);
        } else if news.acked > 0 && !news.congestion {
            self.grow_window(ack, news.acked);
        }
        self.undo_if_spurious(seg, news);
    }

    /// RFC 9937 section 6.1: a loss was noticed by other than the timer.
    pub(super) fn begin_recovery(&mut self, news: &News) {
        self.remember_for_undo();
        let flight = self.flight() + news.acked;
        self.act.ssthresh = self.threshold_after_loss(flight);
        self.act.recover = self.act.snd_max;
        self.act.set(RECOVERING);
        self.note_reduced();
        let recovery = &mut self.act.recovery;
        let known = recovery.sacked.saturating_sub(news.delivered.saturating_sub(news.acked));
        recovery.flight = flight.saturating_sub(known).max(1);
        (recovery.delivered, recovery.sent) = (0, 0);
        recovery.clear(TAIL_OUT | TAIL_PROBE);
        self.counters.count(Count::FastRetransmits);
    }

    /// RFC 9937 section 6.2: the window follows what is delivered, down to the threshold.
    pub(super) fn reduce_proportionally(&mut self, news: &News, lost_now: bool) {
        let (pipe, mss) = (self.pipe(), self.segment_size());
        let ssthresh = self.act.ssthresh;
        let recovery = &mut self.act.recovery;
        if news.delivered == 0 && recovery.sent > 0 {
            // What nothing arrived for is as it was: what is found lost now may go in its place.
            return;
        }
        recovery.delivered = recovery.delivered.saturating_add(news.delivered);
        let may_send = if pipe > ssthresh {
            let share = u64::from(recovery.delivered) * u64::from(ssthresh);
            let share = share.div_ceil(u64::from(recovery.flight.max(1)));
            u32::try_from(share).unwrap_or(u32::MAX).saturating_sub(recovery.sent)
        } else {
            let behind = recovery.delivered.saturating_sub(recovery.sent);
            let safe = news.acked > 0 && !lost_now;
            let most = behind.max(news.delivered) + if safe { mss } else { 0 };
            most.min(ssthresh - pipe)
        };
        // The first retransmission goes at once.
        let may_send = if recovery.sent == 0 { may_send.max(mss) } else { may_send };
        // Nobody falls below a segment (RFC 5681 section 3.1): less would send nothing but probes.
        self.act.cwnd = pipe.saturating_add(may_send).max(mss);
    }

    /// Everything that was in flight when the recovery began has arrived.
    pub(super) fn end_recovery(&mut self) {
        self.act.clear(RECOVERING | RETRANSMIT);
        self.act.cwnd = self.act.ssthresh;
        self.act.dup_acks = 0;
    }

    /// A recovery begins, or a timeout without one.
    pub(super) fn remember_for_undo(&mut self) {
        let (cwnd, ssthresh) = (self.act.cwnd, self.act.ssthresh);
        let recovery = &mut self.act.recovery;
        (recovery.prior_cwnd, recovery.prior_ssthresh) = (cwnd, ssthresh);
        recovery.again = 0;
        recovery.set(UNDO);
    }

    /// A segment was sent again.
    pub(super) fn note_again(&mut self) {
        let stamp = self.timestamp();
        let recovery = &mut self.act.recovery;
        if recovery.again == 0 {
            recovery.again_stamp = stamp;
        }
        recovery.again = recovery.again.saturating_add(1);
    }

    /// RFC 3522 section 3.2: what is acknowledged echoes a timestamp from before the first segment
    /// was sent again, so it was the original that arrived. RFC 3708: all that was sent again was
    /// reported as duplicate, so all originals had arrived.
    pub(super) fn undo_if_spurious(&mut self, seg: &Segment<'_>, news: &News) {
        if !self.act.recovery.has(UNDO) || self.act.recovery.again == 0 {
            return;
        }
        let before = SeqNum::new(self.act.recovery.again_stamp);
        // Of what was sent since the recovery began the echo says nothing; and half the circle of
        // timestamps later it would seem to be older.
        let was_in_flight = (self.rec.snd_una - news.acked).before(self.act.recover);
        let echoes_the_original = news.acked > 0
            && was_in_flight
            && self.rec.has(TIMESTAMPS)
            && seg.options.timestamps.is_some_and(|t| SeqNum::new(t.echo).before(before));
        if news.duplicate.is_some_and(|end| end.at_or_before(self.act.recover)) {
            self.act.recovery.again -= 1;
        }
        if echoes_the_original || self.act.recovery.again == 0 {
            self.undo();
        }
    }

    /// Nothing was lost: the window is what it was, and what was not sent again yet need not be.
    fn undo(&mut self) {
        self.counters.count(Count::RecoveriesUndone);
        let act = &mut *self.act;
        act.clear(RECOVERING | RETRANSMIT);
        act.cwnd = act.cwnd.max(act.recovery.prior_cwnd);
        act.ssthresh = act.ssthresh.max(act.recovery.prior_ssthresh);
        act.recover = self.rec.snd_una;
        act.recovery.clear(UNDO);
        self.undo_cubic();
        self.unmark_lost();
    }

    /// No flight is taken for lost any more.
    fn unmark_lost(&mut self) {
        let cursor = self.act.recovery.lost_cursor;
        let mut index = if cursor == NONE { self.act.recovery.flights.head } else { cursor };
        // They stand from there on, and are to be looked at again.
        self.act.undecided = index;
        while index != NONE && self.act.recovery.lost > 0 {
            let mut flight = self.chunks.flight(index);
            if flight.has(LOST) {
                flight.marks &= !LOST;
                self.act.recovery.lost -= u32::from(flight.len);
                self.chunks.set_flight(index, flight);
            }
            index = flight.next;
        }
        self.act.recovery.lost_cursor = NONE;
    }

    /// Whether losses are noticed by selective acknowledgements.
    pub(super) fn is_selective(&self) -> bool {
        self.rec.has(SACK)
    }
}

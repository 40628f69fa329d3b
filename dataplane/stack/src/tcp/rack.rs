//! Losses noticed by time (RACK), and probes for those at the tail (TLP): RFC 8985.

use core::time::Duration;

use super::Tcb;
use super::record::{PERSISTING, RECOVERING};
use super::recovery::{
    News, RACK_KNOWN, REORDER_ROUND, REORDER_TIMER, REORDERING, TAIL_AGAIN, TAIL_OUT, TAIL_PROBE,
    TAIL_TIMER,
};
use super::scoreboard::{STEPS_MAX, sent_after};
use super::seq::SeqNum;
use crate::counters::Count;
use crate::table::chunk::{AGAIN, Flight, LOST, SACKED};
use crate::table::slots::NONE;

/// Recoveries for which a reordering window stays wide (RFC 8985 section 6.2, step 4).
const REORDER_PERSIST: u8 = 16;
/// How long a peer may delay its acknowledgement of a single segment, in nanoseconds (RFC 8985 section
/// 7.2).
const DELAYED_ACK_MAX: u64 = 200_000_000;
/// No probe goes sooner than this, in nanoseconds: on a short path only the peer's own delays are longer.
const PROBE_TIMEOUT_MIN: u64 = 2_000_000;

/// Whether a flight is lost.
enum Verdict {
    Lost,
    /// It will be if nothing of it has arrived after so many microseconds.
    In(u32),
    No,
    /// Neither this one nor any after it.
    NoneFurther,
}

impl Tcb<'_, '_> {
    /// RFC 8985 section 6.2, step 5, or RFC 6675's IsLost: marks what is lost.
    pub(super) fn detect_losses(&mut self) {
        self.write_out_sole_flight();
        if self.tcp.rack {
            let window = self.reordering_window();
            self.detect_among_sent_again(window);
            self.detect_among_sent_once(window);
        } else {
            self.detect_by_bytes();
        }
        self.find_first_lost();
    }

    /// What was sent again is among the first: what holds nothing up yet waits its turn.
    fn detect_among_sent_again(&mut self, window: u32) {
        let mut index = self.act.recovery.flights.head;
        for _ in 0..STEPS_MAX {
            if index == NONE {
                return;
            }
            let flight = self.chunks.flight(index);
            if !flight.has(SACKED | LOST | AGAIN) {
                return;
            }
            let is_late = || matches!(self.verdict(&flight, window, 0), Verdict::Lost);
            if !flight.has(SACKED | LOST) && is_late() {
                self.mark_lost(index);
            }
            index = flight.next;
        }
    }

    /// What was sent once was sent in order: the first that is not lost ends the walk.
    fn detect_among_sent_once(&mut self, window: u32) {
        let mut index = self.act.undecided;
        if index == NONE {
            index = self.act.recovery.flights.head;
        }
        while index != NONE {
            let flight = self.chunks.flight(index);
            if !flight.has(SACKED | LOST | AGAIN) {
                if !matches!(self.verdict(&flight, window, 0), Verdict::Lost) {
                    return;
                }
                self.mark_lost(index);
            }
            self.act.undecided = index;
            index = flight.next;
        }
    }

    /// Among the first flights, from which the bytes beyond each are known.
    fn detect_by_bytes(&mut self) {
        let (mut index, mut sacked_before) = (self.act.recovery.flights.head, 0);
        for _ in 0..2 * STEPS_MAX {
            if index == NONE {
                return;
            }
            let flight = self.chunks.flight(index);
            if flight.has(SACKED) {
                sacked_before += u32::from(flight.len);
            } else if !flight.has(LOST) {
                match self.verdict(&flight, 0, sacked_before) {
                    Verdict::Lost => self.mark_lost(index),
                    Verdict::NoneFurther => return,
                    Verdict::In(_) | Verdict::No => {}
                }
            }
            index = flight.next;
        }
    }

    fn verdict(&self, flight: &Flight, window: u32, sacked_before: u32) -> Verdict {
        let recovery = &self.act.recovery;
        if !self.tcp.rack {
            let beyond = recovery.sacked.saturating_sub(sacked_before);
            return match (flight.has(AGAIN), beyond > self.dupack_bytes()) {
                (true, _) => Verdict::No,
                (false, true) => Verdict::Lost,
                (false, false) => Verdict::NoneFurther,
            };
        }
        let (sent, end) = (recovery.rack_sent, recovery.rack_end);
        if !recovery.has(RACK_KNOWN) {
            return Verdict::NoneFurther;
        }
        if !sent_after(sent, end, flight.sent, flight.end()) {
            // What follows and was sent only once was sent later still.
            return if flight.has(AGAIN) { Verdict::No } else { Verdict::NoneFurther };
        }
        let limit = recovery.rack_rtt.saturating_add(window);
        match limit.saturating_sub(self.age(flight.sent)) {
            0 => Verdict::Lost,
            left => Verdict::In(left),
        }
    }

    /// More bytes than these beyond a segment mean that it is lost (RFC 6675 section 4, IsLost).
    fn dupack_bytes(&self) -> u32 {
        (u32::from(self.tcp.duplicate_threshold.max(1)) - 1) * self.segment_size()
    }

    /// RFC 8985 section 6.2, step 4: how much later than what was sent after it something may come.
    fn reordering_window(&self) -> u32 {
        let recovery = &self.act.recovery;
        let sure = self.act.has(RECOVERING) || recovery.sacked > self.dupack_bytes();
        if !recovery.has(REORDERING) && sure {
            return 0;
        }
        let steps = u32::from(recovery.reorder_steps) + 1;
        (recovery.rtt_min / 4).saturating_mul(steps).min(self.act.srtt_us)
    }

    /// Something was sent again that had arrived: the window was too short. Once per round trip.
    pub(super) fn widen_reordering_window(&mut self, news: &News) {
        let recovery = &mut self.act.recovery;
        if recovery.has(REORDER_ROUND) && !self.rec.snd_una.before(recovery.reorder_round) {
            recovery.clear(REORDER_ROUND);
        }
        if news.duplicate.is_some() && !recovery.has(REORDER_ROUND) {
            recovery.set(REORDER_ROUND);
            recovery.reorder_round = self.act.snd_max;
            recovery.reorder_steps = recovery.reorder_steps.saturating_add(1);
            recovery.reorder_persist = REORDER_PERSIST;
        }
    }

    /// A recovery has ended, and nothing was sent again in vain.
    pub(super) fn narrow_reordering_window(&mut self) {
        let recovery = &mut self.act.recovery;
        recovery.reorder_persist = recovery.reorder_persist.saturating_sub(1);
        if recovery.reorder_persist == 0 {
            recovery.reorder_steps = 0;
        }
    }

    /// If something may turn out to be lost without another acknowledgement, the timer says when.
    pub(super) fn arm_reorder_timer(&mut self) {
        if self.act.recovery.has(TAIL_TIMER) && self.probe_timeout_ns().is_none() {
            self.start_retransmission_timer();
        }
        if self.act.recovery.sacked == 0 || !self.tcp.rack || self.act.has(PERSISTING) {
            return;
        }
        let Some(left) = self.longest_wait() else { return };
        let at = self.now + Duration::from_micros(left.into());
        if at < self.act.rto_at() {
            self.act.set_rto(at);
            self.act.recovery.set(REORDER_TIMER);
        }
    }

    /// Until everything that is late now is lost, in microseconds: among the first flights, and among
    /// those that were sent once.
    fn longest_wait(&self) -> Option<u32> {
        let longest = self.longest_wait_from(self.act.recovery.flights.head, None);
        match self.act.undecided {
            NONE => longest,
            undecided => self.longest_wait_from(undecided, longest),
        }
    }

    fn longest_wait_from(&self, mut index: u32, mut longest: Option<u32>) -> Option<u32> {
        let window = self.reordering_window();
        for _ in 0..STEPS_MAX {
            if index == NONE {
                break;
            }
            let flight = self.chunks.flight(index);
            if !flight.has(SACKED | LOST) {
                match self.verdict(&flight, window, 0) {
                    Verdict::In(left) => longest = longest.max(Some(left)),
                    Verdict::NoneFurther => break,
                    Verdict::Lost | Verdict::No => {}
                }
            }
            index = flight.next;
        }
        longest
    }

    /// What was late is lost.
    pub(super) fn on_reorder_timeout(&mut self) {
        let lost = self.act.recovery.lost;
        self.detect_losses();
        let lost_now = self.act.recovery.lost > lost;
        let in_episode = self.rec.snd_una.before(self.act.recover);
        if lost_now && !self.act.has(RECOVERING) && !in_episode {
            self.begin_recovery(&News::default());
            self.reduce_proportionally(&News::default(), true);
        }
        self.start_retransmission_timer();
        self.arm_reorder_timer();
    }

    /// The retransmission timer starts anew, or that of the tail loss probe before it: no timeout
    /// reduces the window to a segment before a probe has asked (RFC 8985 section 7.2).
    pub(super) fn start_retransmission_timer(&mut self) {
        let (rto, probe) = (self.rto_ns(), self.probe_timeout_ns());
        self.act.set_rto(self.now.after_nanos(probe.map_or(rto, |probe| probe.min(rto))));
        if probe.is_some() {
            self.act.recovery.set(TAIL_TIMER);
        }
    }

    /// RFC 8985 section 7.2: twice the round trip, and what a peer may delay its acknowledgement of
    /// a single segment, in nanoseconds. `None` while losses are known or a probe is out.
    #[inline]
    fn probe_timeout_ns(&self) -> Option<u64> {
        let recovery = &self.act.recovery;
        let is_out = recovery.has(TAIL_OUT) && self.rec.snd_una.before(recovery.tail_end);
        let calm = !self.act.has(RECOVERING)
            && !is_out
            && !self.rec.snd_una.before(self.act.recover)
            && recovery.sacked + recovery.lost == 0
            && self.act.backoff == 0;
        if !calm || !self.is_selective() || !self.tcp.tail_loss_probe || self.act.srtt_us == 0 {
            return None;
        }
        let twice = (u64::from(self.act.srtt_us) * 2_000).max(PROBE_TIMEOUT_MIN);
        let single = self.flight() <= self.segment_size();
        Some(if single { twice + DELAYED_ACK_MAX } else { twice })
    }

    /// Nothing was acknowledged for so long that the tail may be lost: one segment asks for it.
    pub(super) fn on_tail_timeout(&mut self) {
        if self.act.recovery.has(TAIL_OUT) {
            // The last one came, and nobody has reported that it came twice.
            self.settle_tail_probe(self.flight());
        }
        self.write_out_sole_flight();
        self.act.recovery.set(TAIL_PROBE);
        if !self.wants_to_send() {
            self.act.recovery.clear(TAIL_PROBE);
        }
        self.act.set_rto(self.now + self.rto());
    }

    /// The probe is on its way; the timer now runs as the retransmission timer (RFC 8985 section
    /// 7.3).
    pub(super) fn on_tail_probe_sent(&mut self, again: bool) {
        self.counters.count(Count::TailProbes);
        let recovery = &mut self.act.recovery;
        recovery.clear(TAIL_PROBE | TAIL_AGAIN);
        recovery.set(TAIL_OUT);
        if again {
            recovery.set(TAIL_AGAIN);
        }
        recovery.tail_end = self.act.snd_max;
        self.act.set_rto(self.now + self.rto());
    }

    /// RFC 8985 section 7.4.2: whether the probe mended a loss nobody else noticed. The window is
    /// then reduced as for any other.
    pub(super) fn check_tail_probe(&mut self, ack: SeqNum, news: &News) {
        let recovery = &mut self.act.recovery;
        if !recovery.has(TAIL_OUT) || ack.before(recovery.tail_end) {
            return;
        }
        let reported = news.duplicate == Some(recovery.tail_end);
        let mended = recovery.has(TAIL_AGAIN) && !reported && ack.after(recovery.tail_end);
        let repeated = news.acked == 0 && !news.sacks;
        if !recovery.has(TAIL_AGAIN) || reported || mended || repeated {
            recovery.clear(TAIL_OUT | TAIL_AGAIN);
        }
        if mended {
            self.reduce_for_tail(self.flight() + news.acked);
        }
    }

    /// A probe is over of which no more is to be learnt.
    fn settle_tail_probe(&mut self, flight: u32) {
        let mended = self.act.recovery.has(TAIL_AGAIN);
        self.act.recovery.clear(TAIL_OUT | TAIL_AGAIN);
        if mended {
            self.reduce_for_tail(flight);
        }
    }

    fn reduce_for_tail(&mut self, flight: u32) {
        self.act.ssthresh = self.threshold_after_loss(flight);
        self.act.cwnd = self.act.cwnd.min(self.act.ssthresh);
        self.note_reduced();
    }
}

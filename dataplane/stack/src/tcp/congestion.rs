//! Congestion control: RFC 5681 (or CUBIC, in `cubic`) with NewReno's recovery (RFC 6582), byte counting (RFC 3465),
//! limited transmit (RFC 3042) and an initial window of ten segments (RFC 6928).

use super::Tcb;
use super::hystart::HyStart;
use super::record::{RECOVERING, RETRANSMIT};
use super::recovery::{News, TAIL_AGAIN, TAIL_OUT};
use super::seq::SeqNum;
use crate::counters::Count;

/// The least segment size a peer can talk us into: below it every byte would cost a frame
/// (CVE-2019-11479).
pub(super) const MSS_MIN: u16 = 48;
/// No round trip is taken for shorter, in microseconds, when duplicates are counted by it.
const ROUND_MIN_US: u32 = 1_000;
/// No window is larger than this.
const CWND_MAX: u32 = 1 << 30;

impl Tcb<'_, '_> {
    /// The peer's segment size is known: the window starts.
    pub(super) fn start_congestion(&mut self) {
        self.act.cwnd = self.initial_window();
        self.act.ssthresh = u32::MAX;
    }

    /// RFC 6928 section 2: min (10*MSS, max (2*MSS, 14600)), with the configured count.
    fn initial_window(&self) -> u32 {
        let mss = self.segment_size();
        let segments = u32::from(self.tcp.initial_window.max(1));
        (segments * mss).min((2 * mss).max(segments * 1460))
    }

    /// After an idle time of more than one retransmission timeout the path is not known any more
    /// (RFC 5681 section 4.1).
    pub(super) fn restart_after_idle(&mut self) {
        let idle = self.flight() == 0 && self.silence_exceeds_rto();
        if idle {
            self.act.cwnd = self.act.cwnd.min(self.initial_window());
            self.restart_cubic();
            self.act.hystart = HyStart::default();
        }
    }

    /// `snd.una` moved to `ack` by `acked` bytes.
    pub(super) fn on_new_ack(&mut self, ack: SeqNum, news: &News) {
        let mss = self.segment_size();
        if self.act.has(RECOVERING) {
            self.on_ack_in_recovery(ack, news.acked, mss);
            return;
        }
        self.act.dup_acks = 0;
        if !news.congestion {
            self.grow_window(ack, news.acked);
        }
    }

    /// What was acknowledged lets the window grow.
    pub(super) fn grow_window(&mut self, ack: SeqNum, acked: u32) {
        let mss = self.segment_size();
        let (cwnd, before) = (self.act.cwnd, self.flight() + acked);
        if before.saturating_mul(2) < cwnd {
            // The window was not used: it proves nothing (RFC 7661).
            self.restart_cubic();
            return;
        }
        // After a timeout an acknowledgement may cover what had arrived long before (RFC 3465
        // section 2.3).
        let most = if ack.after(self.act.recover) { 2 * mss } else { mss };
        let counted = acked.min(most);
        let grown = if cwnd < self.act.ssthresh {
            self.slow_start(ack, acked, most)
        } else if self.group.is_cubic() {
            self.act.cwnd = self.cubic_window(acked).min(CWND_MAX);
            return;
        } else {
            let share = u64::from(mss) * u64::from(counted) / u64::from(cwnd.max(1));
            u32::try_from(share).unwrap_or(mss).max(1)
        };
        self.act.cwnd = cwnd.saturating_add(grown).min(CWND_MAX);
    }

    /// RFC 6582 section 3.2, step 3: a full acknowledgement ends the recovery, a partial one
    /// names the next loss.
    fn on_ack_in_recovery(&mut self, ack: SeqNum, acked: u32, mss: u32) {
        let flight = self.flight();
        let act = &mut *self.act;
        if ack.before(act.recover) {
            act.set(RETRANSMIT);
            let back = if acked >= mss { mss } else { 0 };
            act.cwnd = act.cwnd.saturating_sub(acked).saturating_add(back).max(mss);
        } else {
            act.clear(RECOVERING | RETRANSMIT);
            act.dup_acks = 0;
            act.cwnd = act.ssthresh.min(flight.max(mss) + mss);
        }
    }

    /// RFC 5681 section 3.2 and RFC 6582 section 3.2, step 2.
    pub(super) fn on_duplicate_ack(&mut self) {
        let mss = self.segment_size();
        self.act.dup_acks = self.act.dup_acks.saturating_add(1);
        if self.act.has(RECOVERING) {
            self.inflate(mss);
            return;
        }
        let covers_recover = !self.rec.snd_una.before(self.act.recover);
        let threshold = u16::from(self.tcp.duplicate_threshold.max(1));
        if self.act.dup_acks == threshold && covers_recover {
            self.remember_for_undo();
            self.act.ssthresh = self.threshold_after_loss(self.flight());
            self.act.recover = self.act.snd_max;
            self.act.cwnd = self.act.ssthresh + u32::from(threshold) * mss;
            let before = self.act.recovery.prior_cwnd;
            self.allow_inflation(self.act.ssthresh.saturating_add(before));
            self.act.set(RECOVERING | RETRANSMIT);
            self.note_reduced();
            self.counters.count(Count::FastRetransmits);
        }
    }

    /// A duplicate says that a segment has left the network (RFC 5681 section 3.2, step 4), and no
    /// more can have in a round trip than the window let go in the one before: a peer that makes
    /// duplicates up gains nothing by more.
    fn inflate(&mut self, mss: u32) {
        if self.age(self.act.inflate_since) > self.act.srtt_us.max(ROUND_MIN_US) {
            self.allow_inflation(self.act.cwnd.saturating_add(self.act.ssthresh));
        }
        let inflated = self.act.cwnd.saturating_add(mss).min(self.act.inflate_to);
        self.act.cwnd = self.act.cwnd.max(inflated);
    }

    /// For a round trip from now on.
    fn allow_inflation(&mut self, to: u32) {
        self.act.inflate_to = to.min(CWND_MAX);
        self.act.inflate_since = self.now_us();
    }

    /// RFC 5681 section 3.1: the timer fired; one segment, and from the start.
    pub(super) fn on_retransmission_timeout(&mut self) {
        let mss = self.segment_size();
        if self.act.backoff == 0 {
            if !self.act.has(RECOVERING) {
                self.remember_for_undo();
            }
            self.act.ssthresh = self.threshold_after_loss(self.flight());
        }
        self.act.cwnd = mss;
        self.note_reduced();
        self.act.recover = self.act.snd_max;
        self.act.clear(RECOVERING | RETRANSMIT);
        self.act.dup_acks = 0;
        // What a probe asked is answered, and the window is reduced already.
        self.act.recovery.clear(TAIL_OUT | TAIL_AGAIN);
    }

    /// RFC 5681 section 3.1, equation (4), or CUBIC's.
    pub(super) fn threshold_after_loss(&mut self, flight: u32) -> u32 {
        if self.group.is_cubic() {
            return self.cubic_threshold(flight);
        }
        (flight / 2).max(2 * self.segment_size())
    }

    /// What the first two duplicate acknowledgements allow beyond the window (RFC 3042).
    pub(super) fn limited_transmit(&self) -> u32 {
        if self.act.has(RECOVERING) || self.is_selective() {
            return 0;
        }
        u32::from(self.act.dup_acks.min(2)) * self.segment_size()
    }

    /// Bytes sent and not acknowledged.
    pub(super) fn flight(&self) -> u32 {
        self.act.snd_max.since(self.rec.snd_una)
    }
}

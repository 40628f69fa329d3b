//! The retransmission timeout: RFC 6298.

use core::time::Duration;

use super::Tcb;
use super::record::TIMESTAMPS;
use super::recovery::News;
use super::seq::SeqNum;
use crate::time::{Instant, nanos};
use crate::wire::tcp::Segment;

/// Clock granularity G of RFC 6298: the timer wheel's.
const GRANULARITY_US: u32 = 1_000;
/// No round trip is believed to take longer.
const SAMPLE_MAX_US: u64 = 120_000_000;
/// More doublings than this only overflow.
const BACKOFF_MAX: u8 = 16;

impl Tcb<'_, '_> {
    /// The current timeout, doubled for every time it has fired in vain (5.5).
    pub(super) fn rto(&self) -> Duration {
        Duration::from_nanos(self.rto_ns())
    }

    /// As [`Self::rto`], in nanoseconds: every segment with text asks.
    #[inline]
    pub(super) fn rto_ns(&self) -> u64 {
        let base = if self.act.srtt_us == 0 {
            nanos(self.tcp.rto_initial)
        } else {
            let spread = (4 * self.act.rttvar_us).max(GRANULARITY_US);
            (u64::from(self.act.srtt_us) + u64::from(spread)) * 1_000
        };
        let at_least = base.max(nanos(self.tcp.rto_min));
        let doubled = at_least.saturating_mul(1 << self.act.backoff.min(BACKOFF_MAX));
        doubled.min(nanos(self.tcp.rto_max))
    }

    /// The timer fired in vain.
    pub(super) fn back_off(&mut self) {
        let before = self.rto();
        self.act.backoff = (self.act.backoff + 1).min(BACKOFF_MAX);
        let after = self.rto();
        debug_assert!(before <= after && after <= self.tcp.rto_max, "I10: {before:?}, {after:?}");
    }

    /// An acknowledgement of new data: it times the oldest of it, unless some was sent again (Karn);
    /// then what its timestamp echoes, which is unambiguous even so. Not if it reports a duplicate:
    /// that is what it answers, and the echo is of what came long before.
    pub(super) fn sample_round_trip(&mut self, news: &News, seg: &Segment<'_>) {
        match (news.first_sent, seg.options.timestamps) {
            (Some(sent), _) if !news.again => {
                let us = self.age(sent);
                self.sample(us.into());
                self.note_round_trip(us);
            }
            (_, Some(stamps)) if self.rec.has(TIMESTAMPS) && news.duplicate.is_none() => {
                self.sample_echo(stamps.echo);
            }
            _ => {}
        }
    }

    /// The handshake's round trip: if the SYN or SYN-ACK was sent more than once, only a timestamp
    /// tells that it was the last that was answered (Karn). The time to one before says more of
    /// what was lost than of the path.
    pub(super) fn sample_handshake(&mut self, seg: &Segment<'_>) {
        let sent = Instant::from_nanos(self.act.stalled_since);
        let stamp = SeqNum::new(self.timestamp_at(sent));
        let answers_the_last = |echo: u32| !SeqNum::new(echo).before(stamp);
        // A cookie was sent when nobody noted it.
        let is_sure = self.act.tries != 0
            && self.rec.has(TIMESTAMPS)
            && seg.options.timestamps.is_some_and(|stamps| answers_the_last(stamps.echo));
        if self.act.tries == 1 || is_sure {
            self.sample(self.now.as_nanos().saturating_sub(sent.as_nanos()) / 1_000);
        }
    }

    /// What was answered was sent when it says so.
    fn sample_echo(&mut self, echo: u32) {
        let elapsed_ms = self.timestamp().wrapping_sub(echo);
        self.sample(u64::from(elapsed_ms) * 1_000);
    }

    /// Section 2, (2.2) and (2.3). Samples out of reason are a lying peer's and say nothing.
    fn sample(&mut self, elapsed_us: u64) {
        if elapsed_us > SAMPLE_MAX_US {
            return;
        }
        let r = u32::try_from(elapsed_us).unwrap_or(u32::MAX).max(1);
        let act = &mut *self.act;
        if act.srtt_us == 0 {
            act.srtt_us = r;
            act.rttvar_us = r / 2;
        } else {
            act.rttvar_us = act.rttvar_us - act.rttvar_us / 4 + act.srtt_us.abs_diff(r) / 4;
            act.srtt_us = (act.srtt_us - act.srtt_us / 8 + r / 8).max(1);
        }
    }

    /// This connection's timestamp clock: milliseconds from an offset nobody can guess.
    pub(super) fn timestamp(&self) -> u32 {
        self.timestamp_at(self.now)
    }

    fn timestamp_at(&self, at: Instant) -> u32 {
        let ms = (at.as_millis() & 0xffff_ffff) as u32;
        ms.wrapping_add(self.act.ts_offset)
    }
}

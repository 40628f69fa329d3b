//! The retransmission timeout: RFC 6298.

use core::time::Duration;

use super::Tcb;
use super::record::TIMESTAMPS;
use super::recovery::News;
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
        let base = if self.act.srtt_us == 0 {
            self.tcp.rto_initial
        } else {
            let spread = (4 * self.act.rttvar_us).max(GRANULARITY_US);
            Duration::from_micros(u64::from(self.act.srtt_us) + u64::from(spread))
        };
        let at_least = base.max(self.tcp.rto_min);
        if self.act.backoff == 0 {
            return at_least.min(self.tcp.rto_max);
        }
        (at_least * (1 << self.act.backoff.min(BACKOFF_MAX))).min(self.tcp.rto_max)
    }

    /// The timer fired in vain.
    pub(super) fn back_off(&mut self) {
        let before = self.rto();
        self.act.backoff = (self.act.backoff + 1).min(BACKOFF_MAX);
        let after = self.rto();
        debug_assert!(before <= after && after <= self.tcp.rto_max, "I10: {before:?}, {after:?}");
    }

    /// An acknowledgement of new data: it times the oldest of it, unless some was sent again (Karn);
    /// then what its timestamp echoes, which is unambiguous even so.
    pub(super) fn sample_round_trip(&mut self, news: &News, seg: &Segment<'_>) {
        match (news.first_sent, seg.options.timestamps) {
            (Some(sent), _) if !news.again => self.sample(self.age(sent).into()),
            (_, Some(stamps)) if self.rec.has(TIMESTAMPS) => {
                self.sample_echo(stamps.echo);
            }
            _ => {}
        }
    }

    /// The handshake's round trip: if the SYN or SYN-ACK was sent more than once, only a timestamp
    /// tells which one was answered (Karn).
    pub(super) fn sample_handshake(&mut self, seg: &Segment<'_>) {
        if self.act.tries == 1 {
            let elapsed = self.now.as_nanos().saturating_sub(self.act.stalled_since) / 1_000;
            self.sample(elapsed);
        } else if let (true, Some(stamps)) = (self.rec.has(TIMESTAMPS), seg.options.timestamps) {
            self.sample_echo(stamps.echo);
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
        let ms = (self.now.as_millis() & 0xffff_ffff) as u32;
        ms.wrapping_add(self.act.ts_offset)
    }
}

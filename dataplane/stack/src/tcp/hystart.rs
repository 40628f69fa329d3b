//! Slow start that ends before the queue on the way is full: HyStart++ (RFC 9406), with whatever
//! congestion control comes after it.
//!
//! It looks at the first slow start only (section 4.3): later ones end at a threshold. One that was
//! folded in its middle begins its rounds anew.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Tcb;
use super::seq::SeqNum;

/// What is known of the rounds of slow start.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct HyStart {
    /// The round ends when this is acknowledged.
    round_end: SeqNum,
    /// The shortest round trip of the round before and of this, in microseconds; 0: none yet.
    last_us: u32,
    shortest_us: u32,
    /// The shortest round trip when conservative slow start began; 0: it has not.
    baseline_us: u32,
    /// Round trips measured in this round.
    samples: u16,
    /// Rounds of conservative slow start that are over.
    rounds: u8,
    /// 1 when `round_end` says something.
    has_round: u8,
}

/// So much longer a round trip must be than in the round before, in microseconds: an eighth, within
/// these (section 4.3: `MIN_RTT_THRESH`, `MAX_RTT_THRESH`, `MIN_RTT_DIVISOR`).
const LONGER_MIN: u32 = 4_000;
const LONGER_MAX: u32 = 16_000;
const LONGER_PART: u32 = 8;
/// Round trips of a round that say something (`N_RTT_SAMPLE`).
const SAMPLES: u16 = 8;
/// Conservative slow start grows by this part (`CSS_GROWTH_DIVISOR`)...
const SLOWER: u32 = 4;
/// ...for so many rounds (`CSS_ROUNDS`).
const ROUNDS: u8 = 5;
/// Segments that one acknowledgement counts for, where nothing is paced (`L`).
const AT_ONCE: u32 = 8;

impl Tcb<'_, '_> {
    /// Whether slow start is the first and watched.
    pub(super) const fn is_watched(&self) -> bool {
        self.tcp.hystart && self.act.ssthresh == u32::MAX
    }

    /// A round trip was measured.
    pub(super) fn note_round_trip(&mut self, us: u32) {
        if !self.is_watched() {
            return;
        }
        let hystart = &mut self.act.hystart;
        let shortest = if hystart.samples == 0 { us } else { hystart.shortest_us.min(us) };
        hystart.shortest_us = shortest.max(1);
        hystart.samples = hystart.samples.saturating_add(1);
    }

    /// By how much the window grows in slow start for `acked` bytes up to `ack`, `most` being what
    /// counts of them where nobody watches.
    pub(super) fn slow_start(&mut self, ack: SeqNum, acked: u32, most: u32) -> u32 {
        if !self.is_watched() {
            return acked.min(most);
        }
        self.act.hystart.judge();
        let slower = self.act.hystart.baseline_us != 0;
        let counted = acked.min(AT_ONCE * self.segment_size());
        let end = self.act.snd_max;
        let hystart = &mut self.act.hystart;
        // A round is of what is in flight: one that ended while nobody looked may seem to be ahead.
        let left = hystart.round_end.since_wrapping(ack);
        let is_over = left == 0 || left > end.since_wrapping(ack);
        if hystart.has_round == 0 {
            (hystart.has_round, hystart.round_end) = (1, end);
        } else if is_over {
            hystart.begin_round(end);
            if hystart.rounds == ROUNDS {
                self.leave_slow_start();
                return 0;
            }
        }
        if slower { counted / SLOWER } else { counted }
    }

    /// It was conservative for long enough: congestion avoidance goes on from here.
    fn leave_slow_start(&mut self) {
        self.act.ssthresh = self.act.cwnd;
        self.act.hystart = HyStart::default();
        self.start_cubic_here();
    }
}

impl HyStart {
    /// Section 4.2: round trips that got longer say that a queue builds up, and shorter ones that it
    /// was something else.
    fn judge(&mut self) {
        if self.samples < SAMPLES {
            return;
        }
        if self.baseline_us != 0 {
            if self.shortest_us < self.baseline_us {
                (self.baseline_us, self.rounds) = (0, 0);
            }
        } else if self.last_us != 0 {
            let longer = (self.last_us / LONGER_PART).clamp(LONGER_MIN, LONGER_MAX);
            if self.shortest_us >= self.last_us.saturating_add(longer) {
                self.baseline_us = self.shortest_us;
            }
        }
    }

    /// What is in flight until `end` is the next round.
    fn begin_round(&mut self, end: SeqNum) {
        self.rounds += u8::from(self.baseline_us != 0);
        self.last_us = if self.samples == 0 { 0 } else { self.shortest_us };
        (self.round_end, self.shortest_us, self.samples) = (end, 0, 0);
    }
}

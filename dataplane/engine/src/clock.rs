//! The only place that reads time.
//!
//! A worker reads the time-stamp counter once per turn and hands the instant down; the control
//! thread reads the same clock, so their instants compare.

use core::num::NonZeroU64;

use xtcp_cpu::Scale;
use xtcp_stack::time::Instant;

/// What the clock shows at its start: later than anything that was "a second ago" then.
const START_NS: u64 = 1_000_000_000;

/// A monotonic clock over the time-stamp counter. Copies show the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: u64,
    scale: Scale,
}

impl Clock {
    /// A clock that starts now; `hz` is the counter's rate.
    pub(crate) fn new(hz: NonZeroU64) -> Self {
        Self { start: xtcp_cpu::tsc(), scale: Scale::new(hz) }
    }

    /// The counter.
    #[inline]
    pub(crate) fn ticks(&self) -> u64 {
        xtcp_cpu::tsc()
    }

    /// The instant at which the counter stood at `ticks`.
    #[inline]
    pub(crate) fn at(&self, ticks: u64) -> Instant {
        // A core whose counter is a little behind must not see the beginning of the universe.
        let passed = ticks.saturating_sub(self.start);
        Instant::from_nanos(START_NS + self.scale.nanoseconds(passed))
    }

    /// The instant now.
    pub(crate) fn now(&self) -> Instant {
        self.at(self.ticks())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_ticks_is_a_second() {
        let clock = Clock::new(NonZeroU64::new(2_000_000_000).unwrap());
        let start = clock.at(clock.start);
        let later = clock.at(clock.start + 2_000_000_000);
        assert_eq!(later.since(start), core::time::Duration::from_secs(1));
        assert_eq!(clock.at(clock.start - 5), start);
        assert!(clock.now() >= start);
    }
}

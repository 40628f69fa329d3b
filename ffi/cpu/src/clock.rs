//! The time-stamp counter and its rate.

use core::num::NonZeroU64;

/// The time-stamp counter, in ticks since the machine started.
///
/// Not ordered against the instructions around it: good for time, not for counting cycles of a few
/// instructions.
#[inline(always)]
#[must_use]
pub fn tsc() -> u64 {
    read()
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn read() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and no system that runs this disables it
    // in user space (CR4.TSD).
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline(always)]
fn read() -> u64 {
    let ticks: u64;
    // SAFETY: reads a register that Linux opens to user space; touches neither memory nor flags.
    unsafe {
        core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags));
    }
    ticks
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn read() -> u64 {
    use core::sync::atomic::{AtomicU64, Ordering};
    static READS: AtomicU64 = AtomicU64::new(1);
    READS.fetch_add(1, Ordering::Relaxed)
}

/// Ticks per second, if the processor or the hypervisor says so; many (AMD's among them) do not.
///
/// `None` means: measure it, or take what EAL measured (`dpdk::Eal::tsc_hz`).
#[must_use]
pub fn tsc_hz() -> Option<NonZeroU64> {
    rate()
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn rate() -> Option<NonZeroU64> {
    // Leaf 0 says which leaves there are; 0x15 is the ratio of counter to crystal and its rate.
    if cpuid(0).eax >= 0x15 {
        let leaf = cpuid(0x15);
        if leaf.eax != 0 && leaf.ebx != 0 && leaf.ecx != 0 {
            let hz = u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax);
            return NonZeroU64::new(hz);
        }
    }
    // A hypervisor (bit 31 of leaf 1's ecx) may say the rate in kHz in its own leaf.
    if cpuid(1).ecx >> 31 == 1 && cpuid(0x4000_0000).eax >= 0x4000_0010 {
        return NonZeroU64::new(u64::from(cpuid(0x4000_0010).eax) * 1_000);
    }
    None
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unused_unsafe, reason = "unsafe to older compilers, safe to newer ones")]
pub(crate) fn cpuid(leaf: u32) -> core::arch::x86_64::CpuidResult {
    // SAFETY: every x86-64 processor has the instruction, and a leaf it lacks answers zeros or
    // another leaf's numbers.
    unsafe { core::arch::x86_64::__cpuid(leaf) }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
fn rate() -> Option<NonZeroU64> {
    let hz: u64;
    // SAFETY: reads a register that Linux opens to user space; touches neither memory nor flags.
    unsafe {
        core::arch::asm!("mrs {}, cntfrq_el0", out(reg) hz, options(nomem, nostack, preserves_flags));
    }
    NonZeroU64::new(hz)
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn rate() -> Option<NonZeroU64> {
    None
}

/// Turns ticks into nanoseconds with one multiplication and one shift.
///
/// The error is below one part in 2^31, less than a crystal's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Nanoseconds per tick, times 2^32.
    per_tick: u64,
    hz: NonZeroU64,
}

impl Scale {
    /// A scale for a counter of `hz` ticks per second; rates below 1 Hz cannot be said.
    ///
    /// A rate below 233 MHz would still be exact to one part in 2^31; up to 1 THz the error stays
    /// below one part in 4 million.
    #[must_use]
    pub const fn new(hz: NonZeroU64) -> Self {
        let per_tick = ((1_000_000_000_u128 << 32) / hz.get() as u128) as u64;
        Self { per_tick, hz }
    }

    /// Nanoseconds in `ticks`; 64 bits last 584 years.
    #[inline]
    #[must_use]
    pub const fn nanoseconds(self, ticks: u64) -> u64 {
        ((ticks as u128 * self.per_tick as u128) >> 32) as u64
    }

    /// Ticks in `nanoseconds`.
    #[inline]
    #[must_use]
    pub const fn ticks(self, nanoseconds: u64) -> u64 {
        (nanoseconds as u128 * self.hz.get() as u128 / 1_000_000_000) as u64
    }

    /// The rate, in ticks per second.
    #[must_use]
    pub const fn hz(self) -> NonZeroU64 {
        self.hz
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_never_goes_back() {
        let mut before = tsc();
        for _ in 0..10_000 {
            let now = tsc();
            assert!(now >= before, "{now} after {before}");
            before = now;
        }
        // Many reads take some ticks on every processor.
        assert!(tsc() > before.saturating_sub(1));
    }

    #[test]
    fn a_rate_that_is_said_is_plausible() {
        if let Some(hz) = tsc_hz() {
            assert!((1_000_000..100_000_000_000).contains(&hz.get()), "{hz} Hz");
        }
    }

    #[test]
    fn ticks_become_nanoseconds() {
        for (hz, ticks, nanoseconds) in [
            (1_000_000_000, 0, 0),
            (1_000_000_000, 1, 1),
            (1_000_000_000, u64::MAX, u64::MAX),
            (2_000_000_000, 2_000_000_000, 1_000_000_000),
            (25_000_000, 1, 40),
            (1, 3, 3_000_000_000),
        ] {
            let scale = Scale::new(NonZeroU64::new(hz).unwrap());
            assert_eq!(scale.nanoseconds(ticks), nanoseconds, "{ticks} ticks at {hz} Hz");
        }
    }

    #[test]
    fn a_day_is_a_day_to_a_millisecond() {
        const DAY: u64 = 86_400;
        for hz in [1_996_250_123, 2_399_998_765, 3_700_000_001] {
            let scale = Scale::new(NonZeroU64::new(hz).unwrap());
            let error = scale.nanoseconds(hz * DAY).abs_diff(DAY * 1_000_000_000);
            assert!(error < 1_000_000, "{error} ns in a day at {hz} Hz");
            assert_eq!(scale.ticks(DAY * 1_000_000_000), hz * DAY);
        }
    }
}

//! CUBIC (RFC 9438), in integers: bytes and milliseconds.
//!
//! An idle connection keeps its window and its threshold only; the window of the last loss follows
//! from the threshold, and its growth starts anew.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Tcb;

/// What CUBIC knows of the window's growth.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Cubic {
    /// The window when the last loss was noticed, in bytes; 0: it follows from the threshold.
    window_max: u32,
    /// What a window of RFC 5681 would have grown to, in bytes; 0: growth is to start.
    window_est: u32,
    /// When growth started, in milliseconds of the stack's clock (wraps after 49 days).
    epoch_ms: u32,
    /// How long after that the window is `window_max` again, in milliseconds.
    k_ms: u32,
}

/// The share of the window that is left after a loss: 0.7 (RFC 9438 section 4.6).
const BETA: (u64, u64) = (7, 10);
/// What a window that shrank again yields to new ones: (1 + beta) / 2 (section 4.7).
const FAST_CONVERGENCE: (u64, u64) = (17, 20);
/// 3 (1 - beta) / (1 + beta), a segment per round trip for the Reno-friendly window (section 4.3).
const ALPHA: (u64, u64) = (9, 17);
/// Growth is not computed further from its turning point, in milliseconds.
const FAR: i64 = 100_000;

impl Tcb<'_, '_> {
    /// A loss was noticed: the threshold from now on.
    pub(super) fn cubic_threshold(&mut self, flight: u32) -> u32 {
        let cwnd = self.act.cwnd;
        let cubic = &mut self.act.cubic;
        cubic.window_max =
            if cwnd < cubic.window_max { part(cwnd, FAST_CONVERGENCE) } else { cwnd };
        cubic.window_est = 0;
        part(flight, BETA).max(2 * self.segment_size())
    }

    /// The window was not used, or was changed by others: its growth starts anew from where it is.
    pub(super) const fn restart_cubic(&mut self) {
        self.act.cubic.window_est = 0;
    }

    /// Slow start ended without a loss: growth starts where its curve is flat (section 4.10).
    pub(super) const fn start_cubic_here(&mut self) {
        self.act.cubic.window_max = self.act.cwnd;
        self.act.cubic.window_est = 0;
    }

    /// It turned out that nothing was lost.
    pub(super) fn undo_cubic(&mut self) {
        let cubic = &mut self.act.cubic;
        cubic.window_max = cubic.window_max.max(self.act.recovery.prior_cwnd);
        cubic.window_est = 0;
    }

    /// Congestion avoidance (section 4.4 and 4.5): the window after `acked` bytes more.
    pub(super) fn cubic_window(&mut self, acked: u32) -> u32 {
        let (cwnd, mss) = (self.act.cwnd.max(1), self.segment_size());
        let now_ms = (self.now.as_millis() & 0xffff_ffff) as u32;
        if self.act.cubic.window_est == 0 {
            self.start_epoch(now_ms, mss);
        }
        let cubic = &mut self.act.cubic;
        let per_window = |bytes: u64| {
            let share = bytes * u64::from(acked) / u64::from(cwnd);
            u32::try_from(share).unwrap_or(u32::MAX)
        };
        let elapsed_ms = now_ms.wrapping_sub(cubic.epoch_ms);
        let rtt_ms = self.act.srtt_us / 1_000;
        let target = cubic.window_at(elapsed_ms.saturating_add(rtt_ms), mss);
        let target = target.clamp(cwnd, cwnd.saturating_add(cwnd / 2));
        let slope = if cubic.window_est < cubic.window_max { ALPHA } else { (1, 1) };
        let friendly = per_window(u64::from(mss) * slope.0 / slope.1).max(1);
        cubic.window_est = cubic.window_est.saturating_add(friendly);
        let grown = cwnd.saturating_add(per_window(u64::from(target - cwnd)));
        if cubic.window_at(elapsed_ms, mss) < cubic.window_est {
            grown.max(cubic.window_est)
        } else {
            grown
        }
    }

    fn start_epoch(&mut self, now_ms: u32, mss: u32) {
        let (cwnd, ssthresh) = (self.act.cwnd, self.act.ssthresh);
        let cubic = &mut self.act.cubic;
        if cubic.window_max == 0 && ssthresh != u32::MAX {
            cubic.window_max = part(ssthresh, (BETA.1, BETA.0));
        }
        cubic.epoch_ms = now_ms;
        cubic.window_est = cwnd.max(1);
        // K = cbrt ((W_max - cwnd) / C), with C = 0.4 segments per cubic second.
        let wanting = u64::from(cubic.window_max.saturating_sub(cwnd));
        cubic.k_ms = cube_root(wanting * 2_500_000_000 / u64::from(mss));
        cubic.window_max = cubic.window_max.max(cwnd);
    }
}

impl Cubic {
    /// W_cubic (t) = C (t - K)^3 + W_max (section 4.2), in bytes.
    fn window_at(&self, elapsed_ms: u32, mss: u32) -> u32 {
        let away = (i64::from(elapsed_ms) - i64::from(self.k_ms)).clamp(-FAR, FAR);
        let grown = away * away * away / 1_000_000 * 4 * i64::from(mss) / 10_000;
        let window = i64::from(self.window_max).saturating_add(grown).max(0);
        u32::try_from(window).unwrap_or(u32::MAX)
    }
}

fn part(bytes: u32, (of, all): (u64, u64)) -> u32 {
    u32::try_from(u64::from(bytes) * of / all).unwrap_or(u32::MAX)
}

/// The greatest whole number whose cube is not more than `x`.
fn cube_root(x: u64) -> u32 {
    let mut root: u64 = 0;
    // 2^22 cubed is beyond u64.
    for bit in (0..22).rev() {
        let next = root | 1 << bit;
        if next * next * next <= x {
            root = next;
        }
    }
    u32::try_from(root).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cube_roots_are_exact(x in 0_u64..1 << 62) {
            let root = u128::from(cube_root(x));
            let cube = |n: u128| n * n * n;
            prop_assert!(cube(root) <= u128::from(x) && u128::from(x) < cube(root + 1));
        }
    }

    /// RFC 9438 section 4.2: concave up to the window of the loss, which it reaches at K, convex
    /// beyond.
    #[test]
    fn the_window_is_a_cubic_function_of_time() {
        // 100 segments, and 30 of them lost: K = cbrt (30 / 0.4) = 4.217 s.
        let k_ms = cube_root(30 * 2_500_000_000);
        assert_eq!(k_ms, 4217);
        let cubic = Cubic { window_max: 100_000, k_ms, ..Cubic::default() };
        let at = |ms: u32| cubic.window_at(ms, 1000);
        assert!(at(0).abs_diff(70_000) < 100, "{}", at(0));
        assert_eq!(at(k_ms), 100_000);
        assert!(at(2 * k_ms).abs_diff(130_000) < 100);
        assert!(at(1000) - at(0) > at(4000) - at(3000));
        assert!(at(9000) - at(8000) > at(6000) - at(5000));
        assert!(at(u32::MAX) > 1 << 28);
    }
}

//! How far two cores are from each other: the round trip of a cache line.
//!
//! On shared machines it changes from minute to minute, by up to five times, and with it every figure
//! that two cores make together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use xtcp_bench::clock::{self, Deadline};

const ROUNDS: u64 = 20_000;
const BATCH: u64 = 200;
const PATIENCE: Duration = Duration::from_secs(5);

/// A cache line that two cores throw to each other.
#[repr(align(128))]
#[derive(Default)]
struct Ball(AtomicU64);

fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    // Where it is not allowed the figure is that of other cores, and is told as such by its size.
    let _ = sched_setaffinity(None, &cores);
}

/// The median round trip between two cores in nanoseconds; `None` if one of them did not answer.
#[must_use]
pub(crate) fn round_trip_ns(here: usize, there: usize) -> Option<f64> {
    let ball = Arc::new(Ball::default());
    let far = Arc::clone(&ball);
    let answering = std::thread::spawn(move || {
        pin(there);
        let patience = Deadline::within(PATIENCE);
        for round in 0..ROUNDS {
            wait_for(&far.0, round * 2 + 1, &patience)?;
            far.0.store(round * 2 + 2, Ordering::Release);
        }
        Some(())
    });
    let asking = std::thread::spawn(move || {
        pin(here);
        let patience = Deadline::within(PATIENCE);
        let mut batches = Vec::new();
        for batch in 0..ROUNDS / BATCH {
            let began = clock::now();
            for round in batch * BATCH..(batch + 1) * BATCH {
                ball.0.store(round * 2 + 1, Ordering::Release);
                wait_for(&ball.0, round * 2 + 2, &patience)?;
            }
            batches.push(began.elapsed().as_nanos() as f64 / BATCH as f64);
        }
        Some(batches)
    });
    answering.join().ok()??;
    let mut batches = asking.join().ok()??;
    batches.sort_by(f64::total_cmp);
    batches.get(batches.len() / 2).copied()
}

fn wait_for(ball: &AtomicU64, value: u64, patience: &Deadline) -> Option<()> {
    for spin in 0_u64.. {
        if ball.load(Ordering::Acquire) == value {
            return Some(());
        }
        std::hint::spin_loop();
        if spin % 65_536 == 65_535 && patience.is_over() {
            return None;
        }
    }
    None
}

//! What safe Rust cannot say to the processor: prefetch, the time-stamp counter, and vectors.
//!
//! ```text
//! tsc() -> u64                          ticks of the time-stamp counter; 10 ns to read
//! tsc_hz() -> Option<NonZeroU64>        its rate, if the processor says it (else ask the kernel or DPDK)
//! Scale::new(hz).nanoseconds(ticks)     ticks to nanoseconds in one multiplication
//! prefetch_read(&T), prefetch_write(&T) one cache line, and the function says which
//! prefetch_lines(&[u8], lines)          the first lines of a slice
//! sum_words(&[u8]) -> (u64, &[u8])      16-bit words summed by AVX2 where it is, and what is left
//! ```
//!
//! x86-64 and 64-bit Arm are spoken to directly. Elsewhere, and under miri, prefetching does
//! nothing, nothing is summed, and the counter counts how often it was read, which keeps it monotonic
//! and is enough for code that only needs time to advance.
#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]

mod clock;
mod prefetch;
mod sum;

pub use clock::{Scale, tsc, tsc_hz};
pub use prefetch::{LINE, prefetch_lines, prefetch_read, prefetch_write};
pub use sum::sum_words;

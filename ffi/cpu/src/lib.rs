//! What safe Rust cannot say to the processor: prefetch and the time-stamp counter.
//!
//! ```text
//! tsc() -> u64                          ticks of the time-stamp counter; 10 ns to read
//! tsc_hz() -> Option<NonZeroU64>        its rate, if the processor says it (else ask the kernel or DPDK)
//! Scale::new(hz).nanoseconds(ticks)     ticks to nanoseconds in one multiplication
//! prefetch_read(&T), prefetch_write(&T) one cache line, and the function says which
//! prefetch_lines(&[u8], lines)          the first lines of a slice
//! ```
//!
//! x86-64 and 64-bit Arm are spoken to directly. Elsewhere, and under miri, prefetching does
//! nothing and the counter counts how often it was read, which keeps it monotonic and is enough for
//! code that only needs time to advance.
#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]

mod clock;
mod prefetch;

pub use clock::{Scale, tsc, tsc_hz};
pub use prefetch::{LINE, prefetch_lines, prefetch_read, prefetch_write};

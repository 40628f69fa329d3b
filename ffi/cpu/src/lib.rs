//! What safe Rust cannot say to the processor: prefetch and the time-stamp counter.

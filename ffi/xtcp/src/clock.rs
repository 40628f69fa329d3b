//! The library's only clock: for sleeping, and for trying refused bytes again.

use std::time::Instant;

/// Now. A busy thread with nothing refused never asks.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock; nothing on the data path asks it"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

//! The control plane's clock.

use std::time::Instant;

/// Now.
#[must_use]
pub(crate) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the control plane's one clock")]
    Instant::now()
}

//! The wall clock of clients and tests; nothing of the appliance's data path asks it.

use std::time::{Duration, Instant, SystemTime};

/// Now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a load generator measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Microseconds since 1970, as captures have them.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "captures are stamped with this clock")]
pub fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A point in time by which something has to have happened.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    started: Instant,
    allowed: Duration,
}

impl Deadline {
    /// `allowed` from now.
    #[must_use]
    pub fn within(allowed: Duration) -> Self {
        Self { started: now(), allowed }
    }

    /// What is left of the time; zero when it is over.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.allowed.saturating_sub(self.started.elapsed())
    }

    /// Whether the time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Asks `attempt` again and again until it gives a value or the time is over; between two
    /// attempts the thread yields the core for 10 ms.
    pub fn poll<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            if let Some(value) = attempt() {
                return Some(value);
            }
            if self.is_over() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10).min(self.left()));
        }
    }
}

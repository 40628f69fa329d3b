//! An error number of the C library or of DPDK.

use std::fmt;
use std::io;

/// An error number, positive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    /// DPDK's own: the call is not for a secondary process.
    const SECONDARY: i32 = 1001;
    /// DPDK's own: EAL is not initialised.
    const NO_CONFIG: i32 = 1002;

    /// From what a function returned; DPDK returns them negative.
    pub(crate) const fn new(code: i32) -> Self {
        Self(code.saturating_abs())
    }

    /// The calling thread's last one in DPDK (`rte_errno`).
    pub(crate) fn last() -> Self {
        // SAFETY: reads a thread-local integer.
        Self::new(unsafe { dpdk_sys::shim_errno() })
    }

    /// The number, as in `errno.h`.
    #[must_use]
    pub const fn code(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("no reason given"),
            Self::SECONDARY => f.write_str("not in a secondary process"),
            Self::NO_CONFIG => f.write_str("EAL is not initialised"),
            code => io::Error::from_raw_os_error(code).fmt(f),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

/// `Ok` for what DPDK returns on success, which is 0 or more.
pub(crate) const fn check(returned: i32) -> Result<i32, Errno> {
    if returned < 0 { Err(Errno::new(returned)) } else { Ok(returned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_words() {
        assert_eq!(check(0), Ok(0));
        assert_eq!(check(3), Ok(3));
        assert_eq!(check(-22).unwrap_err().to_string(), "Invalid argument (os error 22)");
        assert_eq!(Errno::new(-1001).to_string(), "not in a secondary process");
        assert_eq!(Errno::new(i32::MIN).code(), i32::MAX);
    }
}

//! Sequence numbers: a circle of 2^32 on which "before" means "less than half a turn behind".

use core::fmt;
use core::ops::{Add, AddAssign, Sub};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A TCP sequence number (RFC 9293 section 3.4). It has no `<`: see [`Self::before`].
#[derive(
    Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(transparent)]
pub struct SeqNum(u32);

impl SeqNum {
    /// The number on the wire.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number for the wire.
    #[must_use]
    pub const fn to_u32(self) -> u32 {
        self.0
    }

    /// Whether `self` comes before `other`.
    #[must_use]
    pub const fn before(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) > i32::MAX as u32
    }

    /// Whether `self` comes after `other`.
    #[must_use]
    pub const fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// Whether `self` is `other` or comes before it.
    #[must_use]
    pub const fn at_or_before(self, other: Self) -> bool {
        !other.before(self)
    }

    /// The later of the two.
    #[must_use]
    pub const fn latest(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    /// The earlier of the two.
    #[must_use]
    pub const fn earliest(self, other: Self) -> Self {
        if self.before(other) { self } else { other }
    }

    /// Bytes from `earlier` to `self`; zero if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        if self.before(earlier) { 0 } else { self.0.wrapping_sub(earlier.0) }
    }

    /// Bytes from `earlier` to `self` around the whole circle.
    #[must_use]
    pub(crate) const fn since_wrapping(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;

    fn add(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, bytes: u32) {
        *self = *self + bytes;
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;

    fn sub(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_is_a_strict_one_within_half_a_turn(a: u32, step in 1_u32..1 << 31) {
            let (a, b) = (SeqNum::new(a), SeqNum::new(a) + step);
            prop_assert!(a.before(b) && !b.before(a) && b.after(a) && a.at_or_before(b));
            prop_assert_eq!(b.since(a), step);
            prop_assert_eq!(a.since(b), 0);
            prop_assert_eq!(a.latest(b), b);
            prop_assert_eq!(b.earliest(a), a);
            prop_assert_eq!(b - step, a);
        }
    }

    #[test]
    fn nothing_is_before_itself() {
        let a = SeqNum::new(u32::MAX);
        assert!(!a.before(a) && a.at_or_before(a));
        assert_eq!(a + 1, SeqNum::new(0));
    }
}

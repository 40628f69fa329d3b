//! How much each pool may take of what all pools share.
//!
//! With several pools open, one takes at most [`Quota::most`]; what that leaves is kept for the
//! others in equal parts, and nobody else gets it. So a pool that takes all it can takes nothing
//! from what another was promised. A pool alone may take everything.

/// What is free, of how much, for one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) free: u32,
    pub(crate) of: u32,
}

impl Part {
    /// Whether less than this many percent are free. Of nothing, nothing is wanting.
    pub(crate) const fn is_below(self, percent: u8) -> bool {
        (self.free as u64) * 100 < self.of as u64 * percent as u64
    }

    /// Whether so many in use leave an eighth of it, and of few things at least none.
    pub(crate) const fn leaves_an_eighth(self, in_use: u32) -> bool {
        in_use < self.of - self.of / 8
    }
}

/// The shares of one table or buffer, in its own units.
#[derive(Debug)]
pub(crate) struct Quota<const OWNERS: usize> {
    total: u32,
    in_use: u32,
    /// The most one owner may have.
    most: u32,
    /// What each owner gets for certain.
    kept: u32,
    /// What is kept for owners who have not taken it.
    reserved: u32,
    /// Who has less than this has so much left that nothing is scarce, and more than a quarter,
    /// whatever others do.
    plenty: u32,
    used: [u32; OWNERS],
}

impl<const OWNERS: usize> Quota<OWNERS> {
    /// Of `total` things, shared by nobody yet.
    pub(crate) const fn new(total: u32) -> Self {
        Self { total, in_use: 0, most: total, kept: 0, reserved: 0, plenty: 0, used: [0; OWNERS] }
    }

    /// The shares anew, for those who are there now. Who has more than his keeps it until he gives
    /// it back. `percent` 0: no shares. Below `scarce` percent free something is done.
    pub(crate) fn share(&mut self, present: &[bool; OWNERS], percent: u8, scarce: u8) {
        let owners = present.iter().filter(|there| **there).count();
        let others = u32::try_from(owners).unwrap_or(u32::MAX).saturating_sub(1);
        (self.most, self.kept, self.reserved) = (self.total, 0, 0);
        let plenty_of = |sure: u32| {
            let plenty = u64::from(sure) * u64::from(100 - scarce.min(100)) / 100;
            u32::try_from(plenty).unwrap_or(0).min(sure - sure / 4)
        };
        if others == 0 || percent == 0 {
            // Who has gone may not have given everything back yet.
            let gone = |(used, there): (&u32, &bool)| if *there { 0 } else { *used };
            let held: u32 = self.used.iter().zip(present).map(gone).sum();
            self.plenty = if others == 0 { plenty_of(self.total - held) } else { 0 };
            return;
        }
        let most = u64::from(self.total) * u64::from(percent.min(100)) / 100;
        self.most = u32::try_from(most).unwrap_or(self.total).max(1);
        self.kept = ((self.total - self.most.min(self.total)) / others).min(self.most);
        self.plenty = plenty_of(self.kept);
        let wanting = |(used, _): (&u32, &bool)| self.kept.saturating_sub(*used);
        self.reserved =
            self.used.iter().zip(present).filter(|(_, there)| **there).map(wanting).sum();
    }

    /// What an owner has, and could have more.
    #[inline]
    pub(crate) fn part(&self, owner: usize) -> Part {
        let (used, free) = (self.used(owner), self.room(owner));
        Part { free, of: used + free }
    }

    /// Whether it takes no more than a look to see that nothing is scarce for an owner.
    #[inline]
    pub(crate) fn has_plenty(&self, owner: usize) -> bool {
        self.used(owner) < self.plenty
    }

    /// How many more an owner may take.
    #[inline]
    pub(crate) fn room(&self, owner: usize) -> u32 {
        let used = self.used(owner);
        let free = self.total.saturating_sub(self.in_use);
        let kept = self.kept.saturating_sub(used);
        let open = free.saturating_sub(self.reserved);
        (kept + open).min(free).min(self.most.saturating_sub(used))
    }

    /// Whether an owner may take one more. He who has little may, whatever others have; that
    /// none is left at all the table itself knows.
    #[inline]
    pub(crate) fn may_take(&self, owner: usize) -> bool {
        self.has_plenty(owner) || self.room(owner) > 0
    }

    /// How many an owner has.
    #[inline]
    pub(crate) fn used(&self, owner: usize) -> u32 {
        self.used.get(owner).copied().unwrap_or(self.most)
    }

    /// The most one owner may have.
    pub(crate) const fn most(&self) -> u32 {
        self.most
    }

    /// How many there are.
    pub(crate) const fn total(&self) -> u32 {
        self.total
    }

    /// How many all owners have.
    pub(crate) const fn in_use(&self) -> u32 {
        self.in_use
    }

    /// An owner takes one; he had room for it, or it is the stack's own decision.
    #[inline]
    pub(crate) fn take(&mut self, owner: usize) {
        let used = &mut self.used[owner];
        if *used < self.kept {
            self.reserved -= 1;
        }
        *used += 1;
        self.in_use += 1;
    }

    #[inline]
    pub(crate) fn give_back(&mut self, owner: usize) {
        let used = &mut self.used[owner];
        debug_assert!(*used > 0, "an owner gives back more than he took");
        *used -= 1;
        self.in_use -= 1;
        if *used < self.kept {
            self.reserved += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWNERS: usize = 5;

    /// What is reserved, counted anew.
    fn reserved(quota: &Quota<OWNERS>, present: [bool; OWNERS]) -> u32 {
        let wanting = |owner| quota.kept.saturating_sub(quota.used(owner));
        (0..OWNERS).filter(|owner| present[*owner]).map(wanting).sum()
    }

    proptest! {
        /// Whatever the others do, an owner gets what is kept for him, nobody more than the most,
        /// and the books are right.
        #[test]
        fn nobody_takes_what_is_kept_for_another(
            total in 1_u32..200,
            percent in 0_u8..=100,
            owners in 2_usize..=OWNERS,
            steps in proptest::collection::vec((0_usize..OWNERS, any::<bool>()), 0..600),
        ) {
            let mut quota = Quota::<OWNERS>::new(total);
            let present = core::array::from_fn(|owner| owner < owners);
            quota.share(&present, percent, 50);
            for (owner, takes) in steps {
                let owner = owner % owners;
                if takes && quota.room(owner) > 0 {
                    quota.take(owner);
                } else if !takes && quota.used(owner) > 0 {
                    quota.give_back(owner);
                }
                let all: u32 = (0..owners).map(|owner| quota.used(owner)).sum();
                prop_assert_eq!(quota.in_use(), all);
                prop_assert!(all <= total && quota.used(owner) <= quota.most());
                prop_assert_eq!(quota.reserved, reserved(&quota, present));
                for owner in 0..owners {
                    let promised = quota.kept.saturating_sub(quota.used(owner));
                    prop_assert!(quota.room(owner) >= promised, "{:?} of {}", quota, owner);
                    let part = quota.part(owner);
                    let scarce = part.is_below(50);
                    prop_assert!(!scarce || !quota.has_plenty(owner), "{:?} of {}", quota, owner);
                    prop_assert_eq!(quota.may_take(owner), quota.room(owner) > 0);
                    let leaves_a_quarter = part.free > part.of / 4;
                    prop_assert!(leaves_a_quarter || !quota.has_plenty(owner), "{:?}", quota);
                }
            }
        }

        /// Owners come and go with things in use, and the books are right.
        #[test]
        fn shares_are_made_anew(
            total in 1_u32..100,
            percent in 0_u8..=100,
            rounds in proptest::collection::vec(
                (any::<[bool; OWNERS]>(), proptest::collection::vec(0_usize..OWNERS, 0..100)), 1..10),
        ) {
            let mut quota = Quota::<OWNERS>::new(total);
            for (present, takes) in rounds {
                quota.share(&present, percent, 50);
                for owner in takes {
                    if present[owner] && quota.room(owner) > 0 {
                        quota.take(owner);
                    }
                }
                prop_assert_eq!(quota.reserved, reserved(&quota, present));
                for (owner, there) in present.iter().enumerate() {
                    // Who goes gives back what he had.
                    let keeps = u32::from(owner % 2 == 0 && *there);
                    while quota.used(owner) > keeps {
                        quota.give_back(owner);
                    }
                }
            }
        }
    }

    #[test]
    fn shares_are_as_documented() {
        let mut quota = Quota::<OWNERS>::new(100);
        quota.share(&[true, false, false, false, false], 50, 50);
        assert_eq!((quota.most(), quota.room(0)), (100, 100), "alone, it has all");
        quota.share(&[true, false, true, false, false], 80, 50);
        assert_eq!((quota.most(), quota.kept), (80, 20));
        quota.share(&[true; OWNERS], 50, 50);
        assert_eq!((quota.most(), quota.kept), (50, 12));
        (0..50).for_each(|_| quota.take(0));
        assert_eq!((quota.room(0), quota.room(1)), (0, 14), "two are nobody's");
        (0..12).for_each(|_| quota.take(1));
        assert_eq!(quota.room(1), 2);
        quota.share(&[true; OWNERS], 0, 50);
        assert_eq!(quota.room(1), 38, "no shares");
        let part = quota.part(1);
        assert_eq!(part, Part { free: 38, of: 50 });
        assert!(!part.is_below(76) && part.is_below(77));
    }
}

//! Sets of groups, as `xtcp_select` takes them.

use super::numbers::{GROUPS_MAX, place};

/// Places in a word of a set.
const WORD: usize = 64;

/// Words of a set.
pub(super) const WORDS: usize = GROUPS_MAX / WORD;

/// One bit for each place of a group's number.
pub(super) type Places = [u64; WORDS];

/// Sets or clears one bit.
pub(super) fn mark(places: &mut Places, place: usize, value: bool) {
    if let Some(word) = places.get_mut(place / WORD) {
        let bit = 1 << (place % WORD);
        if value { *word |= bit } else { *word &= !bit }
    }
}

/// A set of groups' numbers (the specification's `xtcp_set`, laid out as `xtcp.h` has it).
#[repr(C)]
#[derive(Clone, Debug)]
pub struct NumberSet {
    /// Which places are members'.
    members: Places,
    /// The member at each place.
    numbers: [i32; GROUPS_MAX],
}

const _: () = assert!(size_of::<NumberSet>() == GROUPS_MAX / 8 + GROUPS_MAX * 4);

impl Default for NumberSet {
    fn default() -> Self {
        Self { members: [0; WORDS], numbers: [0; GROUPS_MAX] }
    }
}

impl NumberSet {
    /// Adds a group.
    pub fn insert(&mut self, gd: i32) {
        if let Some(number) = self.numbers.get_mut(place(gd)) {
            *number = gd;
            mark(&mut self.members, place(gd), true);
        }
    }

    /// Takes a group out.
    pub fn remove(&mut self, gd: i32) {
        if self.contains(gd) {
            mark(&mut self.members, place(gd), false);
        }
    }

    /// Whether a group is in it.
    #[must_use]
    pub fn contains(&self, gd: i32) -> bool {
        let word = self.members.get(place(gd) / WORD).copied().unwrap_or(0);
        word >> (place(gd) % WORD) & 1 == 1 && self.numbers.get(place(gd)) == Some(&gd)
    }

    /// How many groups are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no group is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.iter().all(|word| *word == 0)
    }

    /// The members, by place.
    pub fn iter(&self) -> impl Iterator<Item = i32> + '_ {
        self.members.iter().zip(self.numbers.chunks(WORD)).flat_map(|(word, numbers)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let place = usize::try_from(left.trailing_zeros()).ok()?;
                let number = numbers.get(place)?;
                left &= left - 1;
                Some(*number)
            })
        })
    }

    /// The set as it lies in memory.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let members = self.members.iter().flat_map(|word| word.to_ne_bytes());
        members.chain(self.numbers.iter().flat_map(|number| number.to_ne_bytes())).collect()
    }

    /// Whether every member is the number that is at its place of a list.
    pub(super) fn is_subset_of(&self, numbers: &[i32]) -> bool {
        let words = self.members.iter().zip(self.numbers.chunks(WORD));
        let nothing: &[i32] = &[];
        let open = numbers.chunks(WORD).chain(std::iter::repeat(nothing));
        words.zip(open).all(|((word, members), open)| {
            // Most often all of a word are the same, or none is a member.
            *word == 0 || members == open || is_subset(*word, members, open)
        })
    }

    /// Whether it has a member at one of these places.
    pub(super) fn has_any_at(&self, places: &Places) -> bool {
        self.members.iter().zip(places).any(|(member, place)| member & place != 0)
    }

    /// How many members are at these places.
    pub(super) fn count_at(&self, places: &Places) -> usize {
        let both = self.members.iter().zip(places).map(|(member, place)| member & place);
        both.map(|word| word.count_ones() as usize).sum()
    }

    /// Keeps the members at these places.
    pub(super) fn retain(&mut self, places: &Places) {
        for (member, place) in self.members.iter_mut().zip(places) {
            *member &= place;
        }
    }
}

fn is_subset(word: u64, members: &[i32], open: &[i32]) -> bool {
    let is_member = |place: usize| word >> place & 1 == 1;
    let mut places = members.iter().enumerate().filter(|(place, _)| is_member(*place));
    places.all(|(place, number)| open.get(place) == Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let mut set = NumberSet::default();
        for gd in [1, 63, 64, 1023, 1024, 5000] {
            set.insert(gd);
            set.insert(gd);
            assert!(set.contains(gd));
        }
        assert_eq!((set.len(), set.is_empty()), (6, false));
        assert_eq!(set.iter().collect::<Vec<_>>(), [1024, 1, 63, 64, 5000, 1023]);
        set.remove(64);
        set.remove(2);
        assert!(!set.contains(64) && !set.contains(2) && !set.contains(-5) && !set.contains(0));
        assert_eq!(set.len(), 5);
    }

    #[test]
    fn one_number_of_a_place_is_not_the_other() {
        let mut set = NumberSet::default();
        set.insert(5);
        let next = 5 + i32::try_from(GROUPS_MAX).unwrap();
        assert!(!set.contains(next));
        set.remove(next);
        assert!(set.contains(5));
        set.insert(next);
        assert!(set.contains(next) && !set.contains(5) && set.len() == 1);
    }
}

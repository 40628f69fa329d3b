//! Small positive numbers for groups and connections, as C wants them.
//!
//! A number's place in its table is the number modulo the table's size; numbers are given out in
//! ascending order, past those whose place is taken. So looking one up is one look, and a number
//! comes again only when some two thousand million others were given out in between: a stale one is
//! refused, not taken for another's.

use std::sync::atomic::{AtomicI32, Ordering};

use super::set::{self, NumberSet, Places};
use crate::endpoint::PRIORITIES;
use crate::handle::{Connection, Group, worker_of};

/// Groups one thread can have open at once.
pub const GROUPS_MAX: usize = 1024;

/// Places of a connection table at first.
const PLACES_MIN: usize = 64;

/// Most places of a connection table.
const PLACES_MAX: usize = 1 << 30;

/// Connections in a page of [`Connections::pages`].
const PAGE: usize = 1024;

/// Groups of all threads get their numbers here: one used by the wrong thread names nothing there.
static NEXT_GROUP: AtomicI32 = AtomicI32::new(1);

/// Pools, likewise.
static NEXT_POOL: AtomicI32 = AtomicI32::new(1);

/// The number after this one.
fn after(number: i32) -> i32 {
    number.checked_add(1).unwrap_or(1)
}

fn next(counter: &AtomicI32) -> i32 {
    let taken = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(after(n)));
    let (Ok(number) | Err(number)) = taken;
    number
}

/// A number for a pool.
pub(super) fn next_pool() -> i32 {
    next(&NEXT_POOL)
}

/// The place of a group's number in sets and tables.
pub(super) fn place(gd: i32) -> usize {
    usize::try_from(gd).unwrap_or(0) % GROUPS_MAX
}

/// A group of this thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenGroup {
    pub(super) gd: i32,
    pub(super) pool: i32,
    pub(super) group: Group,
    pub(super) priority: usize,
}

/// This thread's groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    places: Vec<Option<OpenGroup>>,
    /// The number at each place, 0 where there is none.
    numbers: Vec<i32>,
    /// Which places have groups of each priority.
    levels: [Places; PRIORITIES],
    count: usize,
}

impl Groups {
    /// Whether there is room for another.
    pub(super) fn has_room(&self) -> bool {
        self.count < GROUPS_MAX
    }

    /// Numbers a group. There is room.
    pub(super) fn insert(&mut self, pool: i32, group: Group, priority: u8) -> i32 {
        let priority = usize::from(priority).min(PRIORITIES - 1);
        self.places.resize(GROUPS_MAX, None);
        self.numbers.resize(GROUPS_MAX, 0);
        loop {
            let gd = next(&NEXT_GROUP);
            if let Some(free @ None) = self.places.get_mut(place(gd)) {
                *free = Some(OpenGroup { gd, pool, group, priority });
                self.count += 1;
                self.mark(gd, priority, true);
                return gd;
            }
        }
    }

    pub(super) fn get(&self, gd: i32) -> Option<OpenGroup> {
        self.places.get(place(gd)).copied().flatten().filter(|open| open.gd == gd)
    }

    pub(super) fn remove(&mut self, gd: i32) {
        if let Some(found) = self.places.get_mut(place(gd))
            && let Some(open) = found.take_if(|open| open.gd == gd)
        {
            self.count -= 1;
            self.mark(gd, open.priority, false);
        }
    }

    fn mark(&mut self, gd: i32, priority: usize, is_open: bool) {
        if let Some(level) = self.levels.get_mut(priority) {
            set::mark(level, place(gd), is_open);
        }
        if let Some(number) = self.numbers.get_mut(place(gd)) {
            *number = if is_open { gd } else { 0 };
        }
    }

    /// Whether all members of a set are open here. Whole words of them are compared at once.
    pub(super) fn has_all(&self, set: &NumberSet) -> bool {
        set.is_subset_of(&self.numbers)
    }

    /// The places with groups of a priority.
    pub(super) fn level(&self, priority: usize) -> Option<&Places> {
        self.levels.get(priority)
    }

    /// Forgets a pool's groups.
    pub(super) fn remove_pool(&mut self, pool: i32) {
        let of_pool = |open: &&OpenGroup| open.pool == pool;
        let gone: Vec<i32> =
            self.places.iter().flatten().filter(of_pool).map(|open| open.gd).collect();
        gone.into_iter().for_each(|gd| self.remove(gd));
    }
}

/// Number 0 is nobody's.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    number: i32,
    gd: u32,
    cd: u64,
}

const _: () = assert!(size_of::<Entry>() == 16);

/// A pool's connections that the application has a number of: 16 bytes a place and 4 to find the
/// number, with 7 of 8 places in use at most.
#[derive(Debug)]
pub(super) struct Connections {
    /// A power of two, or none.
    entries: Vec<Entry>,
    next: i32,
    count: usize,
    /// Numbers, by the appliance's handle: by worker, then by index.
    pages: Vec<Vec<Option<Box<[i32; PAGE]>>>>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { entries: Vec::new(), next: 1, count: 0, pages: Vec::new() }
    }
}

impl Connections {
    /// Numbers a connection; `None` when there is no memory for more.
    pub(super) fn insert(&mut self, connection: Connection) -> Option<i32> {
        if (self.count + 1) * 8 > self.entries.len() * 7 {
            self.grow()?;
        }
        loop {
            let number = self.next;
            self.next = after(number);
            let free = self.entry_mut(number)?;
            if free.number == 0 {
                *free = Entry { number, gd: connection.gd, cd: connection.cd };
                self.count += 1;
                self.note(connection.cd, number);
                return Some(number);
            }
        }
    }

    pub(super) fn get(&self, number: i32) -> Option<Connection> {
        let entry = self.entries.get(place_of(number, self.entries.len()))?;
        (number > 0 && entry.number == number).then_some(Connection { gd: entry.gd, cd: entry.cd })
    }

    /// The number of a connection that has one.
    pub(super) fn number_of(&self, connection: Connection) -> Option<i32> {
        let (page, place) = page_of(connection.cd);
        let pages = self.pages.get(usize::from(worker_of(connection.cd)))?;
        let number = pages.get(page)?.as_ref()?.get(place).copied()?;
        // The place may be another's, whose handle had the same index.
        (self.get(number)? == connection).then_some(number)
    }

    pub(super) fn remove(&mut self, number: i32) {
        if self.get(number).is_some()
            && let Some(entry) = self.entry_mut(number)
        {
            *entry = Entry::default();
            self.count -= 1;
        }
    }

    /// Forgets a group's connections.
    pub(super) fn remove_group(&mut self, group: Group) {
        for entry in &mut self.entries {
            if entry.number != 0 && entry.gd == group.0 {
                *entry = Entry::default();
                self.count -= 1;
            }
        }
    }

    fn entry_mut(&mut self, number: i32) -> Option<&mut Entry> {
        let place = place_of(number, self.entries.len());
        self.entries.get_mut(place)
    }

    /// Doubles the table. Numbers that had places of their own keep that.
    fn grow(&mut self) -> Option<()> {
        let places = (self.entries.len() * 2).max(PLACES_MIN);
        if places > PLACES_MAX {
            return None;
        }
        let mut entries: Vec<Entry> = Vec::new();
        entries.try_reserve_exact(places).ok()?;
        entries.resize(places, Entry::default());
        for entry in self.entries.iter().filter(|entry| entry.number != 0) {
            if let Some(place) = entries.get_mut(place_of(entry.number, places)) {
                *place = *entry;
            }
        }
        self.entries = entries;
        Some(())
    }

    /// Notes the number of a connection.
    fn note(&mut self, cd: u64, number: i32) {
        let (page, place) = page_of(cd);
        let pages = reach(&mut self.pages, usize::from(worker_of(cd)));
        let page = pages.and_then(|pages| reach(pages, page));
        let page = page.map(|page| page.get_or_insert_with(|| Box::new([0; PAGE])));
        if let Some(noted) = page.and_then(|page| page.get_mut(place)) {
            *noted = number;
        }
    }
}

/// The element at a place, which is made if it is not there.
fn reach<T: Default>(list: &mut Vec<T>, place: usize) -> Option<&mut T> {
    if list.len() <= place {
        list.resize_with(place + 1, T::default);
    }
    list.get_mut(place)
}

fn place_of(number: i32, places: usize) -> usize {
    // No places: the mask is none, and nothing is found.
    usize::try_from(number).unwrap_or(0) & places.wrapping_sub(1)
}

/// Page and place in it of a handle's index, which is its low 32 bits.
fn page_of(cd: u64) -> (usize, usize) {
    let index = usize::try_from(cd & 0xffff_ffff).unwrap_or(0);
    (index / PAGE, index % PAGE)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn connection(index: u32, generation: u64) -> Connection {
        Connection { gd: 7, cd: generation << 40 | u64::from(index) }
    }

    #[test]
    fn numbers_are_positive_and_ascend() {
        let mut connections = Connections::default();
        let numbers: Vec<_> =
            (0..5).map(|index| connections.insert(connection(index, 1)).unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        for wrong in [0, -1, 6, i32::MIN, i32::MAX] {
            assert_eq!(connections.get(wrong), None);
        }
    }

    #[test]
    fn a_number_that_was_given_back_does_not_name_its_place_s_next() {
        let mut connections = Connections::default();
        let old = connections.insert(connection(3, 1)).unwrap();
        connections.remove(old);
        let mut numbers = Vec::new();
        for index in 0..200 {
            numbers.push(connections.insert(connection(index, 2)).unwrap());
        }
        assert!(!numbers.contains(&old) && connections.get(old).is_none());
        assert_eq!(connections.number_of(connection(3, 1)), None, "the handle is stale, too");
        assert_eq!(connections.number_of(connection(3, 2)), Some(numbers[3]));
    }

    #[test]
    fn numbers_begin_again_past_those_in_use() {
        let mut connections = Connections::default();
        let lasting = connections.insert(connection(0, 1)).unwrap();
        connections.next = i32::MAX;
        let largest = connections.insert(connection(1, 1)).unwrap();
        let first = connections.insert(connection(2, 1)).unwrap();
        assert_eq!((lasting, largest, first), (1, i32::MAX, 2));
    }

    #[test]
    fn groups_of_two_threads_never_have_the_same_number() {
        let open = || {
            let mut groups = Groups::default();
            (0..300).map(|index| groups.insert(1, Group(index), 1)).collect::<Vec<_>>()
        };
        let other = std::thread::spawn(open);
        let mut all = open();
        all.extend(other.join().unwrap());
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 600);
        assert!(all.iter().all(|gd| *gd > 0));
    }

    #[test]
    fn a_thread_has_only_so_many_groups() {
        let mut groups = Groups::default();
        let numbers: Vec<_> = (0..GROUPS_MAX).map(|_| groups.insert(4, Group(1), 1)).collect();
        assert!(!groups.has_room());
        groups.remove(numbers[17]);
        assert!(groups.get(numbers[17]).is_none() && groups.has_room());
        let last = groups.insert(5, Group(2), 1);
        assert_eq!(place(last), place(numbers[17]));
        groups.remove_pool(4);
        assert_eq!(groups.count, 1);
        assert_eq!(groups.get(last).unwrap().pool, 5);
    }

    proptest! {
        /// Against a map that never forgets a number.
        #[test]
        fn a_number_names_its_connection_or_nothing(
            steps in proptest::collection::vec((any::<bool>(), 0..500_u32), 1..2000),
        ) {
            let mut connections = Connections::default();
            let mut alive: HashMap<i32, Connection> = HashMap::new();
            let mut ever = Vec::new();
            for (generation, (open, index)) in (1_u64..).zip(steps) {
                let taken = alive.values().any(|c| c.cd & 0xffff_ffff == u64::from(index));
                if open && !taken {
                    let connection = connection(index, generation);
                    let number = connections.insert(connection).unwrap();
                    prop_assert!(number > 0 && alive.insert(number, connection).is_none());
                    ever.push((number, connection));
                } else if !ever.is_empty() {
                    let (number, _) = ever[usize::try_from(index).unwrap() % ever.len()];
                    connections.remove(number);
                    alive.remove(&number);
                }
            }
            for (number, connection) in ever {
                prop_assert_eq!(connections.get(number), alive.get(&number).copied());
                let known = alive.contains_key(&number).then_some(number);
                prop_assert_eq!(connections.number_of(connection), known);
            }
            prop_assert_eq!(connections.count, alive.len());
        }
    }
}

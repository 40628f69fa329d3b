//! What has come, group by group, and which groups have something.
//!
//! A group with something is in the list of its priority; the links lie in the groups themselves.
//! So what is looked at for one event is the group it is of, however many are open.

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use super::Item;
use crate::handle::Group;

/// Priorities of groups, 0 the lowest.
pub(crate) const PRIORITIES: usize = 4;

/// Events of higher priorities that one of a lower one waits for at most.
pub(crate) const OVERTAKES_MAX: u32 = 16;

/// A list may name so many connections that it is of no matter to any more, and as many again as it
/// is of matter to.
pub(crate) const TRACES_MAX: usize = 64;

/// No place.
const NONE: u32 = u32::MAX;

/// One group's part of what has come.
#[derive(Debug)]
pub(super) struct GroupQueue {
    pub(super) gd: u32,
    priority: usize,
    items: VecDeque<Item>,
    /// Connections that can be accepted, and some that could.
    acceptable: VecDeque<u64>,
    /// Those of `acceptable` that can still be accepted.
    pending: HashSet<u64>,
    /// Workers that have no connection of it any more since it is drained, a bit each.
    drained: u128,
    /// It is in the list of its priority, between these.
    listed: bool,
    before: u32,
    behind: u32,
}

impl GroupQueue {
    fn has_something(&self) -> bool {
        !self.items.is_empty() || !self.pending.is_empty()
    }

    /// Its items, when it is closed.
    pub(super) fn into_items(self) -> VecDeque<Item> {
        self.items
    }
}

/// What a group had next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Taken {
    /// A connection that can be accepted.
    Acceptable(u64),
    /// Something to be told.
    Item(Item),
}

/// The groups of one priority that have something, in the order they get their turns.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
    /// Turns of higher priorities since one of these had its.
    overtaken: u32,
}

#[derive(Debug)]
pub(super) struct Queues {
    slots: Vec<Option<GroupQueue>>,
    free: Vec<u32>,
    /// The slot of each group.
    places: HashMap<u32, u32, BuildHasherDefault<Spread>>,
    /// The group that was looked for last, and its slot: an event is looked for many times, and most
    /// come for the group of the one before.
    found: Cell<(u32, u32)>,
    lists: [List; PRIORITIES],
    /// Groups looked at.
    #[cfg(test)]
    pub(super) looked_at: Cell<u64>,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            places: HashMap::default(),
            found: Cell::new((0, NONE)),
            lists: [List { first: NONE, last: NONE, overtaken: 0 }; PRIORITIES],
            #[cfg(test)]
            looked_at: Cell::new(0),
        }
    }
}

impl Queues {
    pub(super) fn contains(&self, gd: u32) -> bool {
        self.count_look();
        self.place(gd).is_some()
    }

    /// The slot of a group.
    #[inline]
    fn place(&self, gd: u32) -> Option<u32> {
        let (found, place) = self.found.get();
        if found == gd && place != NONE {
            return Some(place);
        }
        let place = *self.places.get(&gd)?;
        self.found.set((gd, place));
        Some(place)
    }

    /// Takes a group in, which is not here already.
    pub(super) fn add(&mut self, gd: u32, priority: u8) {
        let queue = GroupQueue {
            gd,
            priority: usize::from(priority).min(PRIORITIES - 1),
            items: VecDeque::new(),
            acceptable: VecDeque::new(),
            pending: HashSet::new(),
            drained: 0,
            listed: false,
            before: NONE,
            behind: NONE,
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        });
        if let Some(slot) = self.slots.get_mut(index(place)) {
            *slot = Some(queue);
            self.places.insert(gd, place);
        }
    }

    /// Forgets a group and gives what had come for it.
    pub(super) fn remove(&mut self, gd: u32) -> Option<GroupQueue> {
        let place = self.places.remove(&gd)?;
        self.found.set((0, NONE));
        self.unlist(place);
        let removed = self.slots.get_mut(index(place))?.take();
        self.free.push(place);
        removed
    }

    /// Puts an item behind all others of a group. `false`: there is no such group.
    pub(super) fn push(&mut self, gd: u32, item: Item) -> bool {
        self.change(gd, |queue| queue.items.push_back(item)).is_some()
    }

    /// Puts an item before all others of a group.
    pub(super) fn push_front(&mut self, gd: u32, item: Item) {
        self.change(gd, |queue| queue.items.push_front(item));
    }

    /// A connection can be accepted. `false`: there is no such group.
    pub(super) fn offer(&mut self, gd: u32, cd: u64) -> bool {
        let offered = self.change(gd, |queue| {
            queue.pending.insert(cd);
            queue.acceptable.push_back(cd);
            if queue.acceptable.len() > 2 * queue.pending.len() + TRACES_MAX {
                queue.acceptable.retain(|cd| queue.pending.contains(cd));
            }
        });
        offered.is_some()
    }

    /// A connection cannot be accepted any more. Answers whether it could.
    pub(super) fn withdraw(&mut self, gd: u32, cd: u64) -> bool {
        self.change(gd, |queue| queue.pending.remove(&cd)).unwrap_or(false)
    }

    /// The next connection of a group that can be accepted.
    pub(super) fn next_acceptable(&mut self, gd: u32) -> Option<u64> {
        self.change(gd, |queue| {
            loop {
                let cd = queue.acceptable.pop_front()?;
                if queue.pending.remove(&cd) {
                    return Some(cd);
                }
            }
        })?
    }

    /// What a group has next: what can be accepted first.
    pub(super) fn take(&mut self, gd: u32) -> Option<Taken> {
        self.change(gd, |queue| {
            while let Some(cd) = queue.acceptable.pop_front() {
                if queue.pending.remove(&cd) {
                    return Some(Taken::Acceptable(cd));
                }
            }
            queue.items.pop_front().map(Taken::Item)
        })?
    }

    /// The next item of a group, if it is such.
    pub(super) fn pop_if(&mut self, gd: u32, such: impl FnOnce(&Item) -> bool) -> Option<Item> {
        // A look only: nearly always the next is another connection's.
        if !self.get(gd)?.items.front().is_some_and(such) {
            return None;
        }
        self.change(gd, |queue| queue.items.pop_front())?
    }

    /// A worker has no connection of a drained group any more. Answers whether this was the last
    /// of these workers to say so.
    pub(super) fn on_drained(&mut self, gd: u32, worker: u8, workers: Range<u8>) -> bool {
        let bit = |worker: u8| 1_u128.checked_shl(worker.into()).unwrap_or(0);
        let all = workers.fold(0, |all, worker| all | bit(worker));
        let last = self.change(gd, |queue| {
            let before = queue.drained;
            queue.drained |= bit(worker);
            before & all != all && queue.drained & all == all
        });
        last.unwrap_or(false)
    }

    pub(super) fn is_readable(&self, gd: u32) -> bool {
        self.get(gd).is_some_and(|queue| !queue.items.is_empty())
    }

    pub(super) fn is_acceptable(&self, gd: u32) -> bool {
        self.get(gd).is_some_and(|queue| !queue.pending.is_empty())
    }

    /// Whether any group has something.
    pub(super) fn is_ready(&self) -> bool {
        self.lists.iter().any(|list| list.first != NONE)
    }

    /// The group whose turn it is. It gets its next behind the others of its priority.
    pub(super) fn turn(&mut self) -> Option<u32> {
        let waits = |list: &List| list.first != NONE;
        // One that was overtaken often enough goes first, the lowest before others.
        let due = |list: &List| waits(list) && list.overtaken >= OVERTAKES_MAX;
        let chosen = self.lists.iter().position(due);
        let chosen = chosen.or_else(|| self.lists.iter().rposition(waits))?;
        for lower in self.lists.iter_mut().take(chosen).filter(|list| waits(list)) {
            lower.overtaken = lower.overtaken.saturating_add(1);
        }
        let list = self.lists.get_mut(chosen)?;
        list.overtaken = 0;
        let place = list.first;
        if list.first != list.last {
            self.unlist(place);
            self.list(place);
        }
        self.slot(place).map(|queue| queue.gd)
    }

    /// The groups of a priority that have something.
    pub(super) fn ready(&self, priority: usize) -> impl Iterator<Item = Group> + '_ {
        let mut place = self.lists.get(priority).map_or(NONE, |list| list.first);
        std::iter::from_fn(move || {
            let queue = self.slot(place)?;
            place = queue.behind;
            Some(Group(queue.gd))
        })
    }

    fn get(&self, gd: u32) -> Option<&GroupQueue> {
        self.slot(self.place(gd)?)
    }

    fn slot(&self, place: u32) -> Option<&GroupQueue> {
        self.count_look();
        self.slots.get(index(place))?.as_ref()
    }

    fn slot_mut(&mut self, place: u32) -> Option<&mut GroupQueue> {
        self.count_look();
        self.slots.get_mut(index(place))?.as_mut()
    }

    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests count what is looked at"))]
    fn count_look(&self) {
        #[cfg(test)]
        self.looked_at.set(self.looked_at.get() + 1);
    }

    /// Changes a group, and has it in its list exactly if it has something then.
    fn change<R>(&mut self, gd: u32, change: impl FnOnce(&mut GroupQueue) -> R) -> Option<R> {
        let place = self.place(gd)?;
        let queue = self.slot_mut(place)?;
        let result = change(queue);
        match (queue.has_something(), queue.listed) {
            (true, false) => self.list(place),
            (false, true) => self.unlist(place),
            _ => {}
        }
        Some(result)
    }

    /// Puts a group, which is in no list, behind the others of its priority.
    fn list(&mut self, place: u32) {
        let Some(priority) = self.slot(place).map(|queue| queue.priority) else { return };
        let Some(list) = self.lists.get_mut(priority) else { return };
        let last = std::mem::replace(&mut list.last, place);
        if last == NONE {
            list.first = place;
            list.overtaken = 0;
        }
        if let Some(last) = self.slot_mut(last) {
            last.behind = place;
        }
        if let Some(queue) = self.slot_mut(place) {
            (queue.listed, queue.before, queue.behind) = (true, last, NONE);
        }
    }

    /// Takes a group out of its list, if it is in one.
    fn unlist(&mut self, place: u32) {
        let Some(queue) = self.slot_mut(place).filter(|queue| queue.listed) else { return };
        queue.listed = false;
        let (before, behind, priority) = (queue.before, queue.behind, queue.priority);
        match self.slot_mut(before) {
            Some(before) => before.behind = behind,
            None => self.set_end(priority, |list| list.first = behind),
        }
        match self.slot_mut(behind) {
            Some(behind) => behind.before = before,
            None => self.set_end(priority, |list| list.last = before),
        }
    }

    fn set_end(&mut self, priority: usize, set: impl FnOnce(&mut List)) {
        if let Some(list) = self.lists.get_mut(priority) {
            set(list);
        }
    }
}

fn index(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// Handles of groups come from the appliance, which is trusted: nobody chooses them to collide.
#[derive(Clone, Copy, Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, value: u32) {
        // Fibonacci hashing: both ends of the product depend on all bits.
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(cd: u64) -> Item {
        Item::Opened { cd }
    }

    /// Takes one item of the group whose turn it is.
    fn take(queues: &mut Queues) -> Option<u32> {
        let gd = queues.turn()?;
        queues.take(gd).map(|_| gd)
    }

    #[test]
    fn a_higher_priority_goes_first_and_a_lower_one_is_not_forgotten() {
        let mut queues = Queues::default();
        queues.add(1, 0);
        queues.add(2, 3);
        for cd in 0..100 {
            queues.push(1, item(cd));
            queues.push(2, item(cd));
        }
        let turns: Vec<u32> = std::iter::from_fn(|| take(&mut queues)).collect();
        let most = usize::try_from(OVERTAKES_MAX).unwrap();
        assert!(turns[..most].iter().all(|gd| *gd == 2));
        assert_eq!(turns[most], 1);
        assert!(turns[most + 1..2 * most + 1].iter().all(|gd| *gd == 2));
        assert_eq!(turns.len(), 200);
    }

    #[test]
    fn groups_of_one_priority_take_turns() {
        let mut queues = Queues::default();
        for gd in 1..=3 {
            queues.add(gd, 1);
            queues.push(gd, item(1));
            queues.push(gd, item(2));
        }
        let turns: Vec<u32> = std::iter::from_fn(|| take(&mut queues)).collect();
        assert_eq!(turns, [1, 2, 3, 1, 2, 3]);
    }

    /// The groups' number does not show in what is looked at for an event.
    #[test]
    fn an_event_costs_the_same_with_one_group_and_with_a_thousand() {
        let looked_at = |groups: u32| {
            let mut queues = Queues::default();
            (0..groups).for_each(|gd| queues.add(gd, 1));
            let before = queues.looked_at.get();
            for cd in 0..100 {
                queues.push(groups / 2, item(cd));
                assert_eq!(take(&mut queues), Some(groups / 2));
                assert_eq!(queues.turn(), None);
            }
            queues.looked_at.get() - before
        };
        let one = looked_at(1);
        assert!(one <= 100 * 12, "{one} for 100 events");
        assert_eq!(looked_at(1000), one);
    }

    #[test]
    fn clients_that_gave_up_waiting_leave_no_trace() {
        let mut queues = Queues::default();
        queues.add(1, 0);
        queues.offer(1, 1);
        for cd in 2..10_000 {
            queues.offer(1, cd);
            assert!(queues.withdraw(1, cd));
        }
        let listed = queues.get(1).map_or(0, |queue| queue.acceptable.len());
        assert!(listed <= 100, "{listed} are kept");
        assert_eq!(queues.next_acceptable(1), Some(1));
        assert_eq!(queues.next_acceptable(1), None);
    }

    proptest! {
        /// Against lists that are made anew each time.
        #[test]
        fn a_group_is_listed_exactly_while_it_has_something(
            steps in proptest::collection::vec((0_u8..7, 0_u32..12), 1..300),
        ) {
            let mut queues = Queues::default();
            let mut model: HashMap<u32, (usize, usize)> = HashMap::new();
            for (step, gd) in steps {
                let known = model.contains_key(&gd);
                match step {
                    0 if !known => {
                        queues.add(gd, u8::try_from(gd % 4).unwrap());
                        model.insert(gd, (0, 0));
                    }
                    1 => {
                        prop_assert_eq!(queues.remove(gd).is_some(), known);
                        model.remove(&gd);
                    }
                    2 => {
                        prop_assert_eq!(queues.push(gd, item(1)), known);
                        model.entry(gd).and_modify(|(items, _)| *items += 1);
                        if !known { model.remove(&gd); }
                    }
                    3 => {
                        let has = model.get(&gd).is_some_and(|(items, _)| *items > 0);
                        prop_assert_eq!(queues.pop_if(gd, |_| true).is_some(), has);
                        model.entry(gd).and_modify(|(items, _)| *items = items.saturating_sub(1));
                        if !known { model.remove(&gd); }
                    }
                    4 if known => {
                        let (_, offered) = model.get_mut(&gd).unwrap();
                        queues.offer(gd, *offered as u64);
                        *offered += 1;
                    }
                    5 => {
                        let has = model.get(&gd).is_some_and(|(_, offered)| *offered > 0);
                        prop_assert_eq!(queues.next_acceptable(gd).is_some(), has);
                        if has { *model.get_mut(&gd).unwrap() = (model[&gd].0, 0); }
                        while queues.next_acceptable(gd).is_some() {}
                    }
                    _ => {
                        let any = model.values().any(|(items, offered)| items + offered > 0);
                        prop_assert_eq!(queues.turn().is_some(), any);
                    }
                }
                let mut listed: Vec<u32> =
                    (0..PRIORITIES).flat_map(|p| queues.ready(p)).map(|group| group.0).collect();
                listed.sort_unstable();
                let with = |(gd, (items, offered)): (&u32, &(usize, usize))| {
                    (items + offered > 0).then_some(*gd)
                };
                let mut wanted: Vec<u32> = model.iter().filter_map(with).collect();
                wanted.sort_unstable();
                prop_assert_eq!(listed, wanted);
            }
        }
    }
}

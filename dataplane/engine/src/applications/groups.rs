//! The groups' handles, and how long their text lets an application sleep.

use core::time::Duration;

use xtcp_stack::handle::Gd;
use xtcp_stack::time::Instant;

use super::Lie;

/// When a sleeping application is woken for a group's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// By so many notices of text; 0 and 1: at once.
    pub notices: u32,
    /// Or so long after the first of them.
    pub delay: Duration,
}

impl Wake {
    /// By every notice.
    pub const AT_ONCE: Self = Self { notices: 1, delay: Duration::ZERO };
}

/// An application's sleep, as far as a worker lets it sleep on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sleep {
    /// Goes on whenever the application is woken or found awake: what groups have counted before
    /// counts no more.
    number: u64,
    /// When it is to be woken for what it was not woken for.
    until: Instant,
}

impl Sleep {
    /// The sleep after this one.
    pub(super) const fn next(self) -> Self {
        Self { number: self.number + 1, until: Instant::NEVER }
    }

    /// Whether there is something that the application was not woken for.
    pub(super) fn holds_back(&self) -> bool {
        self.until < Instant::NEVER
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until <= now
    }
}

impl Default for Sleep {
    fn default() -> Self {
        // Groups that have counted nothing stand at 0.
        Self { number: 1, until: Instant::NEVER }
    }
}

/// The groups' handles. Applications have one handle for a group at all workers; each worker's
/// stack has its own.
#[derive(Debug)]
pub(super) struct Groups {
    /// By the index of the applications' handle.
    named: Vec<Option<Named>>,
    /// By the index of the stack's.
    at_stack: Vec<AtStack>,
}

/// A group as applications name it.
#[derive(Clone, Copy, Debug)]
struct Named {
    name: Gd,
    endpoint: u16,
    at_stack: Gd,
}

/// A group as the stack numbers it.
#[derive(Clone, Copy, Debug)]
struct AtStack {
    name: Gd,
    wake: Wake,
    /// Notices of text told in the sleep of this number.
    told: u32,
    sleep: u64,
}

impl Groups {
    /// None yet, and room for so many.
    pub(super) fn new(most: u16) -> Self {
        let places = usize::from(most);
        let none = AtStack { name: Gd::from_bits(0), wake: Wake::AT_ONCE, told: 0, sleep: 0 };
        Self { named: vec![None; places], at_stack: vec![none; places] }
    }

    /// Whether applications can name a group so.
    pub(super) fn has_place(&self, name: Gd) -> bool {
        usize::from(name.index()) < self.named.len()
    }

    pub(super) fn insert(&mut self, name: Gd, endpoint: u16, at_stack: Gd, wake: Wake) {
        let named = self.named.get_mut(usize::from(name.index()));
        let place = self.at_stack.get_mut(usize::from(at_stack.index()));
        if let (Some(named), Some(place)) = (named, place) {
            *named = Some(Named { name, endpoint, at_stack });
            *place = AtStack { name, wake, told: 0, sleep: 0 };
        }
    }

    pub(super) fn remove(&mut self, name: Gd) {
        if let Some(place) = self.named.get_mut(usize::from(name.index())) {
            *place = None;
        }
    }

    pub(super) fn remove_all_of(&mut self, endpoint: u16) {
        for place in &mut self.named {
            *place = place.filter(|named| named.endpoint != endpoint);
        }
    }

    /// The stack's handle for a group of this endpoint; `None` if it is gone.
    pub(super) fn at_stack(&self, name: Gd, endpoint: u16) -> Result<Option<Gd>, Lie> {
        match self.named.get(usize::from(name.index())) {
            Some(Some(named)) if named.name == name => {
                if named.endpoint == endpoint {
                    Ok(Some(named.at_stack))
                } else {
                    Err(Lie::Group)
                }
            }
            _ => Ok(None),
        }
    }

    /// What applications call the stack's group.
    pub(super) fn name(&self, at_stack: Gd) -> Gd {
        self.at_stack.get(usize::from(at_stack.index())).map_or(at_stack, |group| group.name)
    }

    /// Counts a notice of this group's text. Whether it wakes its application at once; if not,
    /// `sleep` knows until when it may sleep on.
    #[inline]
    pub(super) fn wakes(&mut self, at_stack: Gd, sleep: &mut Sleep, now: Instant) -> bool {
        let Some(group) = self.at_stack.get_mut(usize::from(at_stack.index())) else {
            return true;
        };
        if group.wake.notices <= 1 {
            return true;
        }
        if group.sleep != sleep.number {
            group.sleep = sleep.number;
            group.told = 0;
            sleep.until = sleep.until.min(now + group.wake.delay);
        }
        group.told += 1;
        group.told >= group.wake.notices
    }
}

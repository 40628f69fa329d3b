//! Applications at one worker: what they submit becomes verbs, what happens becomes notices.
//!
//! An application is as hostile as the network. Each submission is copied out once, the copy is
//! checked field by field, and only then used. Who lies is *silenced* here, at once and for good:
//! its rings are not looked at any more; the control thread is told and closes the endpoint. What
//! an honest application can run into by a race (a connection that has just gone) is no lie and
//! only counted or answered.

mod counters;
mod endpoint;
mod groups;
mod submission;

use xtcp_ring::layout::kind;
use xtcp_ring::{DataplaneChannel, Notice, Ringer};
use xtcp_stack::config::{GroupConfig, Manner};
use xtcp_stack::event::Event;
use xtcp_stack::handle::{Cd, Gd, PoolId, QueueId};
use xtcp_stack::time::Instant;
use xtcp_stack::{Misuse, Stack};

use crate::refusals::close_code;

pub use self::counters::ApplicationCounters;
use self::endpoint::Endpoint;
pub use self::groups::Wake;
use self::groups::{Groups, Sleep};
pub(crate) use self::submission::LIES;
pub use self::submission::Lie;

/// An endpoint as a worker gets it from the control thread.
#[derive(Debug)]
pub struct NewEndpoint {
    /// Its number, which is its event queue's, too.
    pub number: u16,
    /// The rings and the arena, as this worker sees them.
    pub channel: DataplaneChannel,
    /// Wakes the application.
    pub ringer: Ringer,
    /// This worker's part of the pool's receive memory.
    pub receive: &'static mut [u8],
    /// Where that part begins in the memory as the application maps it, in bytes.
    pub receive_from: u64,
}

/// A successor's rings, for the endpoint that its predecessor left.
#[derive(Debug)]
pub(crate) struct NewLine {
    pub(crate) number: u16,
    pub(crate) channel: DataplaneChannel,
    pub(crate) ringer: Ringer,
}

/// What an application has left at this worker: its pool, with its groups and connections.
#[derive(Debug)]
struct Orphan {
    number: u16,
    pool: PoolId,
    receive_from: u64,
    /// The predecessor's; the successor's come after it.
    sleep: Sleep,
}

/// All applications at this worker.
#[derive(Debug)]
pub struct Applications {
    worker: u8,
    endpoints: Vec<Endpoint>,
    orphans: Vec<Orphan>,
    groups: Groups,
}

impl Applications {
    /// None yet; `groups_max` as the stack has it.
    #[must_use]
    pub fn new(worker: u8, groups_max: u16) -> Self {
        let groups = Groups::new(groups_max);
        Self { worker, endpoints: Vec::new(), orphans: Vec::new(), groups }
    }

    /// Takes an application in. The pool is the stack's number for it.
    ///
    /// # Errors
    /// The stack's reason; the memory comes back.
    pub fn open(
        &mut self,
        new: NewEndpoint,
        stack: &mut Stack<'static>,
    ) -> Result<PoolId, (Misuse, &'static mut [u8])> {
        let pool = stack.open_pool(new.receive)?;
        let NewEndpoint { number, channel, ringer, receive_from, .. } = new;
        let line = NewLine { number, channel, ringer };
        self.endpoints.push(Endpoint::new(line, pool, receive_from));
        Ok(pool)
    }

    /// An application is gone and may be followed: what it had published is done, what it had not
    /// committed is kept. Whether there was one.
    pub(crate) fn orphan(
        &mut self,
        number: u16,
        stack: &mut Stack<'static>,
        counters: &mut ApplicationCounters,
        now: Instant,
    ) -> bool {
        let Some(at) = self.endpoints.iter().position(|endpoint| endpoint.number == number) else {
            return false;
        };
        let mut endpoint = self.endpoints.swap_remove(at);
        if !endpoint.silenced
            && let Err(lie) = endpoint.finish(self.worker, &self.groups, stack, counters, now)
        {
            // Nobody is there to be cut off.
            endpoint.silence(lie, counters, &mut |_, _| ());
        }
        stack.orphan_queue(QueueId(number), now);
        self.orphans.push(endpoint.into_orphan());
        true
    }

    /// A successor takes what was left: it is told everything again. Whether there was anything.
    pub(crate) fn resume(&mut self, line: NewLine, stack: &mut Stack<'static>) -> bool {
        let of_number = |orphan: &Orphan| orphan.number == line.number;
        let Some(at) = self.orphans.iter().position(of_number) else { return false };
        let orphan = self.orphans.swap_remove(at);
        stack.tell_again(QueueId(orphan.number));
        self.endpoints.push(Endpoint::following(&orphan, line));
        true
    }

    /// Opens a group of an application, which knows it as `name`. Gives the stack's handle.
    ///
    /// # Errors
    /// There is no such application or place, or the stack's reason.
    pub fn open_group(
        &mut self,
        number: u16,
        name: Gd,
        config: &GroupConfig,
        wake: Wake,
        stack: &mut Stack<'static>,
    ) -> Result<Gd, Misuse> {
        let endpoint = self.endpoints.iter().find(|endpoint| endpoint.number == number);
        let pool = endpoint.ok_or(Misuse::NoSuchQueue)?.pool;
        if !self.groups.has_place(name) {
            return Err(Misuse::TableFull);
        }
        let at_stack = stack.open_group(pool, QueueId(number), config)?;
        self.groups.insert(name, number, at_stack, wake);
        Ok(at_stack)
    }

    /// Closes a group of an application.
    ///
    /// # Errors
    /// The application has no such group.
    pub(crate) fn close_group(
        &mut self,
        number: u16,
        name: Gd,
        stack: &mut Stack<'static>,
        now: Instant,
    ) -> Result<(), Misuse> {
        let Ok(Some(at_stack)) = self.groups.at_stack(name, number) else {
            return Err(Misuse::StaleGroup);
        };
        self.groups.remove(name);
        stack.close_group(at_stack, now)
    }

    /// Drains a group of an application, at so many connections a second.
    ///
    /// # Errors
    /// The application has no such group.
    pub(crate) fn drain_group(
        &mut self,
        number: u16,
        name: Gd,
        (per_second, manner): (u32, Manner),
        stack: &mut Stack<'static>,
        now: Instant,
    ) -> Result<(), Misuse> {
        let Ok(Some(at_stack)) = self.groups.at_stack(name, number) else {
            return Err(Misuse::StaleGroup);
        };
        stack.drain_group(at_stack, per_second, manner, now)
    }

    /// Lets an application go, or what it left: resets its connections, closes its groups and
    /// gives back its part of the receive memory.
    pub(crate) fn close(
        &mut self,
        number: u16,
        stack: &mut Stack<'static>,
        now: Instant,
    ) -> Option<&'static mut [u8]> {
        let here = self.endpoints.iter().position(|endpoint| endpoint.number == number);
        let left = self.orphans.iter().position(|orphan| orphan.number == number);
        let pool = match (here, left) {
            (Some(at), _) => self.endpoints.swap_remove(at).pool,
            (None, at) => self.orphans.swap_remove(at?).pool,
        };
        self.groups.remove_all_of(number);
        stack.close_pool(pool, now)
    }

    /// Does what the applications have submitted. `liar` is called once for each that is found
    /// lying. Says how many submissions there were.
    pub fn drain(
        &mut self,
        stack: &mut Stack<'static>,
        counters: &mut ApplicationCounters,
        mut liar: impl FnMut(u16, Lie),
        now: Instant,
    ) -> usize {
        let mut done = 0;
        for endpoint in self.endpoints.iter_mut().filter(|endpoint| !endpoint.silenced) {
            match endpoint.drain(self.worker, &self.groups, stack, counters, now) {
                Ok(count) => done += count,
                Err(lie) => endpoint.silence(lie, counters, &mut liar),
            }
        }
        done
    }

    /// Tells the applications what has happened, and wakes those whose sleep is over. Says how many
    /// notices there were.
    pub fn publish(
        &mut self,
        stack: &mut Stack<'static>,
        counters: &mut ApplicationCounters,
        mut liar: impl FnMut(u16, Lie),
        now: Instant,
    ) -> usize {
        let mut told = 0;
        for endpoint in self.endpoints.iter_mut().filter(|endpoint| !endpoint.silenced) {
            match endpoint.publish(self.worker, &mut self.groups, stack, counters, now) {
                Ok(count) => told += count,
                Err(lie) => endpoint.silence(lie, counters, &mut liar),
            }
        }
        told
    }
}

/// The worker's number and no connection's.
fn nobody(worker: u8) -> Cd {
    Cd::new(worker, 0, 0)
}

/// What an event is to the application; `worker` is ours, and its part of the pool's receive memory
/// begins at `receive_from`.
fn notice_of(event: Event, worker: u8, groups: &Groups, receive_from: u64) -> Notice {
    let of = |kind, group: Gd, connection: Cd| Notice {
        kind,
        gd: groups.name(group).to_bits(),
        cd: connection.to_bits(),
        ..Notice::default()
    };
    match event {
        Event::Acceptable { group, connection } => of(kind::ACCEPTABLE, group, connection),
        Event::Opened { group, connection } => of(kind::OPENED, group, connection),
        Event::Data { group, connection, at, len, offset } => {
            Notice { at: receive_from + at, len, offset, ..of(kind::DATA, group, connection) }
        }
        Event::Finished { group, connection, offset } => {
            Notice { offset, ..of(kind::FINISHED, group, connection) }
        }
        Event::Closed { group, connection, reason, held } => {
            let offset = u64::from(held);
            Notice { reason: close_code(reason), offset, ..of(kind::CLOSED, group, connection) }
        }
        Event::Drained { group } => of(kind::DRAINED, group, nobody(worker)),
    }
}

#[cfg(test)]
mod tests;

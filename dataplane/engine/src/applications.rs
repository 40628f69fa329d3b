//! Applications at one worker: what they submit becomes verbs, what happens becomes notices.
//!
//! An application is as hostile as the network. Each submission is copied out once, the copy is
//! checked field by field, and only then used. Who lies is *silenced* here, at once and for good:
//! its rings are not looked at any more; the control thread is told and closes the endpoint. What
//! an honest application can run into by a race (a connection that has just gone) is no lie and
//! only counted or answered.

use core::fmt;

use arrayvec::ArrayVec;
use xtcp_ring::layout::{BATCH_MAX, flag, kind, op};
use xtcp_ring::{Corrupt, DataplaneChannel, HostileArea, Notice, Ringer, Submission};
use xtcp_stack::config::GroupConfig;
use xtcp_stack::event::Event;
use xtcp_stack::handle::{Cd, Gd, PoolId, QueueId};
use xtcp_stack::time::Instant;
use xtcp_stack::world::Payload;
use xtcp_stack::{Misuse, Part, Stack};

use crate::stats::ApplicationCounters;

/// Submissions taken from one application per turn, so that none keeps the worker for itself.
const SUBMISSIONS_PER_TURN: u32 = 64;

/// Events told to one application per turn.
const NOTICES_PER_TURN: u32 = 64;

/// Every [`Lie`], in the order of its counters.
pub(crate) const LIES: [Lie; 8] = [
    Lie::Operation,
    Lie::Flags,
    Lie::Reserved,
    Lie::Arena,
    Lie::Group,
    Lie::Connection,
    Lie::Ring,
    Lie::Batch,
];

/// What no honest application can have submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    Operation,
    Flags,
    Reserved,
    Arena,
    Group,
    Connection,
    Ring,
    Batch,
}

impl Lie {
    /// The counter's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Operation => "lie-operation",
            Self::Flags => "lie-flags",
            Self::Reserved => "lie-reserved",
            Self::Arena => "lie-arena",
            Self::Group => "lie-group",
            Self::Connection => "lie-connection",
            Self::Ring => "lie-ring",
            Self::Batch => "lie-batch",
        }
    }
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operation => "it submitted an operation that does not exist",
            Self::Flags => "it set flags that its operation does not have",
            Self::Reserved => "it did not leave the reserved field zero",
            Self::Arena => "it wants bytes sent that do not lie in its arena",
            Self::Group => "it named a group of another application",
            Self::Connection => "it named a connection that is not of its group or worker",
            Self::Ring => "a ring position of its cannot be",
            Self::Batch => "it chained what cannot act together, or too much",
        })
    }
}

impl From<Corrupt> for Lie {
    fn from(_: Corrupt) -> Self {
        Self::Ring
    }
}

/// What a checked submission asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Accept,
    Refuse,
    Close,
    Abort,
    Send {
        /// Acknowledge up to this offset, and whether to give again what stays unacknowledged.
        acknowledge: Option<(u64, bool)>,
        /// Bytes of the arena, from and how many; inside it.
        at: u32,
        len: u32,
        close_after: bool,
    },
}

/// An endpoint as a worker gets it from the control thread.
#[derive(Debug)]
pub(crate) struct NewEndpoint {
    /// Its number, which is its event queue's, too.
    pub(crate) number: u16,
    pub(crate) channel: DataplaneChannel,
    pub(crate) ringer: Ringer,
    /// This worker's part of the pool's receive memory.
    pub(crate) receive: &'static mut [u8],
    /// Where that part begins in the memory as the application maps it.
    pub(crate) receive_from: u64,
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
}

/// One application at this worker.
#[derive(Debug)]
struct Endpoint {
    number: u16,
    pool: PoolId,
    channel: DataplaneChannel,
    ringer: Ringer,
    receive_from: u64,
    /// Places of the notice ring known to be free.
    room: u32,
    /// The notice ring's position when it was last published.
    published: u32,
    /// Places kept for refusals, so that a submission's outcome can always be told.
    reserve: u32,
    /// What belongs together, as far as it has come. Their places in the ring, and the bytes they
    /// name, stay the worker's until they act.
    batch: ArrayVec<Submission, BATCH_MAX>,
    /// It is a successor and was not told yet that it knows everything.
    resuming: bool,
    silenced: bool,
}

/// All applications at this worker.
#[derive(Debug)]
pub(crate) struct Applications {
    worker: u8,
    endpoints: Vec<Endpoint>,
    orphans: Vec<Orphan>,
    groups: Groups,
}

/// The groups' handles. Applications have one handle for a group at all workers; each worker's
/// stack has its own.
#[derive(Debug)]
struct Groups {
    /// By the index of the applications' handle.
    named: Vec<Option<Named>>,
    /// The applications' handle, by the index of the stack's.
    names: Vec<Gd>,
}

/// A group as applications name it.
#[derive(Clone, Copy, Debug)]
struct Named {
    name: Gd,
    endpoint: u16,
    at_stack: Gd,
}

impl Applications {
    /// None yet; `groups_max` as the stack has it.
    pub(crate) fn new(worker: u8, groups_max: u16) -> Self {
        let places = usize::from(groups_max);
        let groups = Groups { named: vec![None; places], names: vec![Gd::from_bits(0); places] };
        Self { worker, endpoints: Vec::new(), orphans: Vec::new(), groups }
    }

    /// Takes an application in. The pool is the stack's number for it.
    ///
    /// # Errors
    /// The stack's reason; the memory comes back.
    pub(crate) fn open(
        &mut self,
        new: NewEndpoint,
        stack: &mut Stack<'static>,
        now: Instant,
    ) -> Result<PoolId, (Misuse, &'static mut [u8])> {
        // The stack does not give back what it refuses; so first see whether it would take any.
        match stack.open_pool(Default::default()) {
            Ok(probe) => drop(stack.close_pool(probe, now)),
            Err(misuse) => return Err((misuse, new.receive)),
        }
        let pool = stack.open_pool(new.receive).map_err(|misuse| (misuse, Default::default()))?;
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
        let Endpoint { number, pool, receive_from, .. } = endpoint;
        self.orphans.push(Orphan { number, pool, receive_from });
        true
    }

    /// A successor takes what was left: it is told everything again. Whether there was anything.
    pub(crate) fn resume(&mut self, line: NewLine, stack: &mut Stack<'static>) -> bool {
        let of_number = |orphan: &Orphan| orphan.number == line.number;
        let Some(at) = self.orphans.iter().position(of_number) else { return false };
        let Orphan { number, pool, receive_from } = self.orphans.swap_remove(at);
        stack.tell_again(QueueId(number));
        let endpoint = Endpoint::new(line, pool, receive_from);
        self.endpoints.push(Endpoint { resuming: true, ..endpoint });
        true
    }

    /// Opens a group of an application, which knows it as `name`. Gives the stack's handle.
    ///
    /// # Errors
    /// There is no such application or place, or the stack's reason.
    pub(crate) fn open_group(
        &mut self,
        number: u16,
        name: Gd,
        config: &GroupConfig,
        stack: &mut Stack<'static>,
    ) -> Result<Gd, Misuse> {
        let endpoint = self.endpoints.iter().find(|endpoint| endpoint.number == number);
        let pool = endpoint.ok_or(Misuse::NoSuchQueue)?.pool;
        let place = self.groups.named.get_mut(usize::from(name.index()));
        let place = place.ok_or(Misuse::TableFull)?;
        let at_stack = stack.open_group(pool, QueueId(number), config)?;
        *place = Some(Named { name, endpoint: number, at_stack });
        self.groups.names[usize::from(at_stack.index())] = name;
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
        self.groups.named[usize::from(name.index())] = None;
        stack.close_group(at_stack, now)
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
        for place in &mut self.groups.named {
            *place = place.filter(|named| named.endpoint != number);
        }
        stack.close_pool(pool, now)
    }

    /// Does what the applications have submitted. `liar` is called once for each that is found
    /// lying. Says how many submissions there were.
    pub(crate) fn drain(
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

    /// Tells the applications what has happened. Says how many notices there were.
    pub(crate) fn publish(
        &mut self,
        stack: &mut Stack<'static>,
        counters: &mut ApplicationCounters,
        mut liar: impl FnMut(u16, Lie),
    ) -> usize {
        let mut told = 0;
        for endpoint in self.endpoints.iter_mut().filter(|endpoint| !endpoint.silenced) {
            match endpoint.publish(self.worker, &self.groups, stack, counters) {
                Ok(count) => told += count,
                Err(lie) => endpoint.silence(lie, counters, &mut liar),
            }
        }
        told
    }
}

impl Groups {
    /// The stack's handle for a group of this endpoint; `None` if it is gone.
    fn at_stack(&self, name: Gd, endpoint: u16) -> Result<Option<Gd>, Lie> {
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
    fn name(&self, at_stack: Gd) -> Gd {
        self.names.get(usize::from(at_stack.index())).copied().unwrap_or(at_stack)
    }
}

impl Endpoint {
    fn new(line: NewLine, pool: PoolId, receive_from: u64) -> Self {
        let NewLine { number, channel, ringer } = line;
        Self {
            number,
            pool,
            receive_from,
            room: 0,
            published: channel.notices.position(),
            reserve: channel.notices.capacity() / 8,
            batch: ArrayVec::new(),
            resuming: false,
            silenced: false,
            channel,
            ringer,
        }
    }

    fn silence(
        &mut self,
        lie: Lie,
        counters: &mut ApplicationCounters,
        liar: &mut impl FnMut(u16, Lie),
    ) {
        self.silenced = true;
        if let Some(at) = LIES.iter().position(|known| *known == lie) {
            counters.lies[at] += 1;
        }
        liar(self.number, lie);
    }

    fn drain(
        &mut self,
        worker: u8,
        groups: &Groups,
        stack: &mut Stack<'static>,
        counters: &mut ApplicationCounters,
        now: Instant,
    ) -> Result<usize, Lie> {
        let mut done = 0;
        while done < SUBMISSIONS_PER_TURN {
            // Each may have to be answered by a refusal: without a place for it, it waits.
            if self.room == 0 && self.look_for_room()? == 0 {
                break;
            }
            let Some(submission) = self.channel.submissions.pop()? else { break };
            done += 1;
            let verb = check(&submission, worker, &self.channel.arena)?;
            if self.is_of_batch(&submission)? {
                if self.is_batch_complete() {
                    self.act_together(groups, stack, counters, now)?;
                }
                continue;
            }
            let name = Gd::from_bits(submission.gd);
            match groups.at_stack(name, self.number)? {
                Some(gd) => self.act(&submission, gd, verb, stack, counters, now)?,
                None if matches!(verb, Verb::Send { len: 1.., .. }) => {
                    self.refuse(&submission, Misuse::StaleGroup, counters);
                }
                None => counters.stale += 1,
            }
        }
        if done > 0 {
            // A refusal is there before its submission counts as taken; the bell follows with
            // the turn's other notices.
            self.channel.notices.publish();
            self.channel.submissions.release_but(self.batch.len() as u32);
            counters.submissions += u64::from(done);
        }
        Ok(done as usize)
    }

    /// Does what a dead application had published: at most a ring of it, whatever its position
    /// says. Where there is no room for a send, nobody could try it again: it and all behind it
    /// count as never published, as if the application had died a little earlier. So what is
    /// acknowledged is also answered.
    fn finish(
        &mut self,
        worker: u8,
        groups: &Groups,
        stack: &mut Stack<'static>,
        counters: &mut ApplicationCounters,
        now: Instant,
    ) -> Result<(), Lie> {
        for _ in 0..self.channel.submissions.capacity() {
            let Some(submission) = self.channel.submissions.pop()? else { break };
            let verb = check(&submission, worker, &self.channel.arena)?;
            if self.is_of_batch(&submission)? {
                if self.is_batch_complete() && !self.act_together(groups, stack, counters, now)? {
                    break;
                }
                continue;
            }
            let Some(gd) = groups.at_stack(Gd::from_bits(submission.gd), self.number)? else {
                counters.stale += 1;
                continue;
            };
            let cd = Cd::from_bits(submission.cd);
            if let Verb::Send { at, len: len @ 1.., .. } = verb {
                let payload = ArenaBytes { arena: &self.channel.arena, at, len };
                match stack.send(gd, cd, &payload, now) {
                    Err(Misuse::NoBuffer | Misuse::SendQueueFull | Misuse::TableFull) => {
                        counters.sends_refused += 1;
                        break;
                    }
                    outcome => judge(outcome, &mut counters.sends_refused)?,
                }
            }
            let rest = match verb {
                Verb::Send { acknowledge, at, close_after, .. } => {
                    Verb::Send { acknowledge, at, len: 0, close_after }
                }
                other => other,
            };
            self.act(&submission, gd, rest, stack, counters, now)?;
            counters.submissions += 1;
        }
        Ok(())
    }

    /// Whether a submission is one of several that belong together. It is kept then.
    fn is_of_batch(&mut self, submission: &Submission) -> Result<bool, Lie> {
        if self.batch.is_empty() && submission.flags & flag::MORE == 0 {
            return Ok(false);
        }
        let is_plain =
            submission.op == op::SEND && submission.flags & (flag::AGAIN | flag::CLOSE_AFTER) == 0;
        if !is_plain || self.batch.try_push(*submission).is_err() {
            return Err(Lie::Batch);
        }
        Ok(true)
    }

    fn is_batch_complete(&self) -> bool {
        self.batch.last().is_some_and(|last| last.flags & flag::MORE == 0)
    }

    /// Does everything that belongs together, or tells that nothing of it was done.
    fn act_together(
        &mut self,
        groups: &Groups,
        stack: &mut Stack<'static>,
        counters: &mut ApplicationCounters,
        now: Instant,
    ) -> Result<bool, Lie> {
        let batch = core::mem::take(&mut self.batch);
        let mut parts: ArrayVec<Part<ArenaBytes<'_>>, BATCH_MAX> = ArrayVec::new();
        for submission in &batch {
            // A group that is gone has no handle; this one no group ever has.
            let group = groups.at_stack(Gd::from_bits(submission.gd), self.number)?;
            let Submission { flags, cd, offset, at, len, .. } = *submission;
            parts.push(Part {
                group: group.unwrap_or(Gd::from_bits(0)),
                connection: Cd::from_bits(cd),
                commit: (flags & flag::ACKNOWLEDGE != 0).then_some(offset),
                payload: ArenaBytes { arena: &self.channel.arena, at, len },
            });
        }
        let Err((place, misuse)) = stack.transact(&parts, now) else {
            counters.batches += 1;
            return Ok(true);
        };
        drop(parts);
        judge(Err(misuse), &mut counters.batches_refused)?;
        let Submission { gd, cd, .. } = batch[place];
        let (reason, offset) = (misuse as u8, batch.len() as u64);
        self.push(&Notice {
            kind: kind::BATCH_REFUSED,
            reason,
            gd,
            cd,
            offset,
            ..Notice::default()
        });
        Ok(false)
    }

    fn act(
        &mut self,
        submission: &Submission,
        gd: Gd,
        verb: Verb,
        stack: &mut Stack<'static>,
        counters: &mut ApplicationCounters,
        now: Instant,
    ) -> Result<(), Lie> {
        let cd = Cd::from_bits(submission.cd);
        match verb {
            Verb::Accept => judge(stack.accept(gd, cd, now), &mut counters.stale),
            Verb::Refuse => judge(stack.refuse(gd, cd, now), &mut counters.stale),
            Verb::Close => judge(stack.close(gd, cd, now), &mut counters.stale),
            Verb::Abort => judge(stack.abort(gd, cd, now), &mut counters.stale),
            Verb::Send { acknowledge, at, len, close_after } => {
                if let Some((up_to, again)) = acknowledge {
                    let outcome = stack.commit(gd, cd, up_to, again, now);
                    judge(outcome, &mut counters.commits_refused)?;
                }
                if len > 0 {
                    let payload = ArenaBytes { arena: &self.channel.arena, at, len };
                    if let Err(misuse) = stack.send(gd, cd, &payload, now) {
                        self.refuse(submission, misuse, counters);
                        // What was refused is submitted again, and comes before the end.
                        return judge(Err(misuse), &mut 0);
                    }
                }
                if close_after {
                    judge(stack.close(gd, cd, now), &mut counters.stale)?;
                }
                Ok(())
            }
        }
    }

    /// Tells that a send could not be queued. There is room: nothing is popped without it.
    fn refuse(
        &mut self,
        submission: &Submission,
        misuse: Misuse,
        counters: &mut ApplicationCounters,
    ) {
        counters.sends_refused += 1;
        let notice = Notice {
            kind: kind::SEND_REFUSED,
            reason: misuse as u8,
            gd: submission.gd,
            cd: submission.cd,
            offset: u64::from(submission.len),
            ..Notice::default()
        };
        self.push(&notice);
    }

    fn push(&mut self, notice: &Notice) {
        // `room` is what the application has shown to be free: the ring cannot be full.
        if self.room > 0 && self.channel.notices.push(notice).is_ok() {
            self.room -= 1;
        }
    }

    fn look_for_room(&mut self) -> Result<u32, Lie> {
        self.room = self.channel.notices.room()?;
        Ok(self.room)
    }

    fn publish(
        &mut self,
        worker: u8,
        groups: &Groups,
        stack: &mut Stack<'static>,
        counters: &mut ApplicationCounters,
    ) -> Result<usize, Lie> {
        let before = self.published;
        for _ in 0..NOTICES_PER_TURN {
            // The application's position is looked at only when what it has shown is used up.
            if self.room <= self.reserve && self.look_for_room()? <= self.reserve {
                break;
            }
            let queue = QueueId(self.number);
            let Some(event) = stack.poll_event(queue) else {
                if self.resuming && !stack.is_telling_again(queue) {
                    self.resuming = false;
                    let cd = Cd::new(worker, 0, 0).to_bits();
                    self.push(&Notice { kind: kind::RESUMED, cd, ..Notice::default() });
                }
                break;
            };
            self.push(&notice_of(event, groups, self.receive_from));
        }
        let told = self.channel.notices.position().wrapping_sub(before);
        if told > 0 {
            self.published = self.channel.notices.position();
            self.channel.notices.publish();
            counters.notices += u64::from(told);
            counters.bells += u64::from(self.ringer.ring_if_parked());
        }
        Ok(told as usize)
    }
}

/// A refused command: by a lie, or by a race, which is counted.
fn judge(outcome: Result<(), Misuse>, races: &mut u64) -> Result<(), Lie> {
    match outcome {
        Ok(()) => Ok(()),
        // A `cd` never changes its group, and a reused one has another generation.
        Err(Misuse::NotInGroup) => Err(Lie::Connection),
        Err(_) => {
            *races += 1;
            Ok(())
        }
    }
}

/// What the submission asks for, if an honest application can ask it.
fn check(submission: &Submission, worker: u8, arena: &HostileArea) -> Result<Verb, Lie> {
    let Submission { op, flags, reserved, cd, offset, at, len, .. } = *submission;
    if reserved != 0 {
        return Err(Lie::Reserved);
    }
    if Cd::from_bits(cd).worker() != worker {
        return Err(Lie::Connection);
    }
    let (verb, known_flags) = match op {
        op::ACCEPT => (Verb::Accept, 0),
        op::REFUSE => (Verb::Refuse, 0),
        op::CLOSE => (Verb::Close, 0),
        op::ABORT => (Verb::Abort, 0),
        op::SEND => {
            arena.check(at, len as usize).map_err(|_| Lie::Arena)?;
            let again = flags & flag::AGAIN != 0;
            // To be given something again without acknowledging anything is to acknowledge
            // nothing new.
            let up_to = if flags & flag::ACKNOWLEDGE != 0 { offset } else { 0 };
            let acknowledge =
                (flags & (flag::ACKNOWLEDGE | flag::AGAIN) != 0).then_some((up_to, again));
            let close_after = flags & flag::CLOSE_AFTER != 0;
            let known_flags = flag::ACKNOWLEDGE | flag::AGAIN | flag::CLOSE_AFTER | flag::MORE;
            (Verb::Send { acknowledge, at, len, close_after }, known_flags)
        }
        _ => return Err(Lie::Operation),
    };
    if flags & !known_flags != 0 {
        return Err(Lie::Flags);
    }
    Ok(verb)
}

fn notice_of(event: Event, groups: &Groups, receive_from: u64) -> Notice {
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
            Notice { reason: reason as u8, offset, ..of(kind::CLOSED, group, connection) }
        }
    }
}

/// Bytes of an arena; the range has been checked.
struct ArenaBytes<'a> {
    arena: &'a HostileArea,
    at: u32,
    len: u32,
}

impl Payload for ArenaBytes<'_> {
    fn len(&self) -> usize {
        self.len as usize
    }

    fn copy_to(&self, at: usize, into: &mut [u8]) {
        let from = self.at as usize + at;
        let copied = u32::try_from(from).ok().map(|from| self.arena.copy_out(from, into));
        assert!(matches!(copied, Some(Ok(()))), "the range was checked when it was submitted");
    }
}

#[cfg(test)]
mod tests;

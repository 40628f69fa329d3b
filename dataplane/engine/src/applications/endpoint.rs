//! One application at one worker: its rings, and what it is told when.

use arrayvec::ArrayVec;
use xtcp_ring::layout::{BATCH_MAX, flag, kind, op};
use xtcp_ring::{DataplaneChannel, Notice, Ringer, Submission};
use xtcp_stack::handle::{Cd, Gd, PoolId, QueueId};
use xtcp_stack::time::Instant;
use xtcp_stack::{Event, Misuse, Part, Stack};

use crate::refusals::refusal_code;

use super::counters::ApplicationCounters;
use super::groups::{Groups, Sleep};
use super::submission::{ArenaBytes, LIES, Lie, Verb, check, judge};
use super::{NewLine, Orphan, nobody, notice_of};

/// Submissions taken from one application per turn, so that none keeps the worker for itself.
const SUBMISSIONS_PER_TURN: u32 = 64;

/// Submissions copied out together, so that the records they name are fetched together: one fetch
/// after the other is what most of them would cost where connections are many.
const TOGETHER: usize = 32;

/// Events told to one application per turn.
const NOTICES_PER_TURN: u32 = 64;

/// One application at this worker.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) number: u16,
    pub(super) pool: PoolId,
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
    /// Something was told for which a sleeping application is to be woken now.
    is_urgent: bool,
    sleep: Sleep,
    /// It was found lying: it is not looked at any more.
    pub(super) silenced: bool,
}

impl Endpoint {
    pub(super) fn new(line: NewLine, pool: PoolId, receive_from: u64) -> Self {
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
            is_urgent: false,
            sleep: Sleep::default(),
            silenced: false,
            channel,
            ringer,
        }
    }

    /// The successor of one that has left.
    pub(super) fn following(orphan: &Orphan, line: NewLine) -> Self {
        let endpoint = Self::new(line, orphan.pool, orphan.receive_from);
        Self { resuming: true, sleep: orphan.sleep.next(), ..endpoint }
    }

    /// What it leaves.
    pub(super) fn into_orphan(self) -> Orphan {
        let Self { number, pool, receive_from, sleep, .. } = self;
        Orphan { number, pool, receive_from, sleep }
    }

    pub(super) fn silence(
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

    pub(super) fn drain(
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
            let mut asked = ArrayVec::new();
            self.take(self.room.min(SUBMISSIONS_PER_TURN - done), &mut asked)?;
            if asked.is_empty() {
                break;
            }
            stack.prefetch(asked.iter().map(|submission| Cd::from_bits(submission.cd)));
            for submission in &asked {
                self.obey(submission, worker, groups, stack, counters, now)?;
            }
            done += asked.len() as u32;
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

    /// Copies out what was submitted, a few at a time and at most so many, and has the bytes fetched
    /// that are to be sent: another core wrote them.
    fn take(&mut self, most: u32, asked: &mut ArrayVec<Submission, TOGETHER>) -> Result<(), Lie> {
        let known = self.channel.submissions.known()?.min(most).min(TOGETHER as u32);
        for _ in 0..known {
            let Some(submission) = self.channel.submissions.pop()? else { break };
            self.channel.arena.prefetch(submission.at, submission.len);
            asked.push(submission);
        }
        Ok(())
    }

    fn obey(
        &mut self,
        submission: &Submission,
        worker: u8,
        groups: &Groups,
        stack: &mut Stack<'static>,
        counters: &mut ApplicationCounters,
        now: Instant,
    ) -> Result<(), Lie> {
        let verb = check(submission, worker, &self.channel.arena)?;
        if self.is_of_batch(submission) {
            return self.join(submission, groups, stack, counters, now).map(drop);
        }
        match groups.at_stack(Gd::from_bits(submission.gd), self.number)? {
            Some(gd) => return self.act(submission, gd, verb, stack, counters, now),
            None if matches!(verb, Verb::Send { len: 1.., .. }) => {
                self.refuse(submission, Misuse::StaleGroup, counters);
            }
            None => counters.stale += 1,
        }
        Ok(())
    }

    /// Does what a dead application had published: at most a ring of it, whatever its position
    /// says. Where there is no room for a send, nobody could try it again: it and all behind it
    /// count as never published, as if the application had died a little earlier. So what is
    /// acknowledged is also answered.
    pub(super) fn finish(
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
            if self.is_of_batch(&submission) {
                if !self.join(&submission, groups, stack, counters, now)? {
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

    /// Whether a submission is one of several that belong together.
    fn is_of_batch(&self, submission: &Submission) -> bool {
        !self.batch.is_empty() || submission.flags & flag::MORE != 0
    }

    /// Keeps one of several until the last has come, and then does them all; `false` if nothing of
    /// them was done.
    fn join(
        &mut self,
        submission: &Submission,
        groups: &Groups,
        stack: &mut Stack<'static>,
        counters: &mut ApplicationCounters,
        now: Instant,
    ) -> Result<bool, Lie> {
        let is_plain =
            submission.op == op::SEND && submission.flags & (flag::AGAIN | flag::CLOSE_AFTER) == 0;
        if !is_plain || self.batch.try_push(*submission).is_err() {
            return Err(Lie::Batch);
        }
        if submission.flags & flag::MORE != 0 {
            return Ok(true);
        }
        self.act_together(groups, stack, counters, now)
    }

    /// Does everything that belongs together, or tells that nothing of it was done: `false`.
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
        let (reason, offset) = (refusal_code(misuse), batch.len() as u64);
        self.push(&Notice {
            kind: kind::BATCH_REFUSED,
            reason,
            gd,
            cd,
            offset,
            ..Notice::default()
        });
        self.is_urgent = true;
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
                let payload = ArenaBytes { arena: &self.channel.arena, at, len };
                // An answer takes one look at the connection, if all of it is possible as it is. If
                // not, one thing after the other: the acknowledgement counts without the bytes, they
                // go without it, and it may make room for them.
                let is_answered = matches!(acknowledge, Some((up_to, false))
                    if len > 0 && stack.answer(gd, cd, up_to, &payload, now).is_ok());
                if !is_answered && let Some((up_to, again)) = acknowledge {
                    let outcome = stack.commit(gd, cd, up_to, again, now);
                    judge(outcome, &mut counters.commits_refused)?;
                }
                if !is_answered
                    && len > 0
                    && let Err(misuse) = stack.send(gd, cd, &payload, now)
                {
                    self.refuse(submission, misuse, counters);
                    // What was refused is submitted again, and comes before the end.
                    return judge(Err(misuse), &mut 0);
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
            reason: refusal_code(misuse),
            gd: submission.gd,
            cd: submission.cd,
            offset: u64::from(submission.len),
            ..Notice::default()
        };
        self.push(&notice);
        self.is_urgent = true;
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

    pub(super) fn publish(
        &mut self,
        worker: u8,
        groups: &mut Groups,
        stack: &mut Stack<'static>,
        counters: &mut ApplicationCounters,
        now: Instant,
    ) -> Result<usize, Lie> {
        let before = self.published;
        for _ in 0..NOTICES_PER_TURN {
            // The application's position is looked at only when what it has shown is used up.
            if self.room <= self.reserve && self.look_for_room()? <= self.reserve {
                // It cannot be told of what comes: no reason to let it sleep on.
                self.is_urgent |= self.sleep.holds_back();
                break;
            }
            let queue = QueueId(self.number);
            let Some(event) = stack.poll_event(queue) else {
                if self.resuming && !stack.is_telling_again(queue) {
                    self.resuming = false;
                    self.is_urgent = true;
                    let cd = nobody(worker).to_bits();
                    self.push(&Notice { kind: kind::RESUMED, cd, ..Notice::default() });
                }
                break;
            };
            self.is_urgent |= match event {
                Event::Data { group, .. } => groups.wakes(group, &mut self.sleep, now),
                _ => true,
            };
            self.push(&notice_of(event, worker, groups, self.receive_from));
        }
        let told = self.channel.notices.position().wrapping_sub(before);
        if told > 0 {
            self.published = self.channel.notices.position();
            self.channel.notices.publish();
            counters.notices += u64::from(told);
        }
        if self.is_urgent || self.sleep.is_over(now) {
            self.wake(counters);
        } else if told > 0 && !self.ringer.is_parked() {
            // It is awake and finds by itself what has been told.
            self.sleep = self.sleep.next();
        }
        Ok(told as usize)
    }

    fn wake(&mut self, counters: &mut ApplicationCounters) {
        counters.bells += u64::from(self.ringer.ring_if_parked());
        self.is_urgent = false;
        self.sleep = self.sleep.next();
    }
}

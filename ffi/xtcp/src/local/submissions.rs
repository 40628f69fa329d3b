//! What the application asks of its local clients' worker.

use xtcp_ring::Notice;
use xtcp_ring::Submission;
use xtcp_ring::layout::{BATCH_MAX, flag, kind, op, refused};

use super::client::{Stage, Went};
use super::{Local, find};
use crate::inbox::CloseReason;

/// Most bytes that wait for one client to read.
const QUEUE_MAX: usize = 256 << 10;

impl Local {
    /// Does everything that was asked, as long as there is room for what it makes to tell.
    pub(super) fn take_submissions(&mut self) {
        let mut chain = Vec::new();
        // A chain is shown in one piece: the room for one refusal of all is enough.
        while !chain.is_empty() || self.has_room() {
            // Nobody else writes into these rings; what cannot be would be this library's mistake.
            let Ok(Some(submission)) = self.channel.submissions.pop() else { return };
            if submission.flags & flag::MORE != 0 && chain.len() < BATCH_MAX {
                chain.push(submission);
            } else if chain.is_empty() {
                self.submit(&submission);
            } else {
                chain.push(submission);
                self.submit_together(&std::mem::take(&mut chain));
            }
        }
    }

    fn submit(&mut self, submission: &Submission) {
        let Submission { cd, flags, len, .. } = *submission;
        match submission.op {
            op::ACCEPT => self.accept(cd),
            op::REFUSE => self.refuse(cd),
            op::SEND => {
                if let Err(reason) = self.check(submission, 0) {
                    if len > 0 {
                        self.tell_refused(kind::SEND_REFUSED, submission, len.into(), reason);
                    }
                    self.acknowledge(submission);
                } else {
                    self.acknowledge(submission);
                    self.send(submission);
                    if flags & flag::CLOSE_AFTER != 0 {
                        self.close(cd);
                    }
                }
            }
            op::CLOSE => self.close(cd),
            op::ABORT => self.end(cd, CloseReason::Aborted),
            _ => {}
        }
        self.rewatch(cd);
    }

    /// All of it or nothing.
    fn submit_together(&mut self, chain: &[Submission]) {
        let mut queued = 0;
        for submission in chain {
            if let Err(reason) = self.check(submission, queued) {
                let count = u64::try_from(chain.len()).unwrap_or(u64::MAX);
                return self.tell_refused(kind::BATCH_REFUSED, submission, count, reason);
            }
            queued += length(submission);
        }
        for submission in chain {
            self.acknowledge(submission);
            self.send(submission);
            self.rewatch(submission.cd);
        }
    }

    /// Whether a send is possible when so many bytes more wait for clients to read; if not, why.
    fn check(&self, submission: &Submission, queued: usize) -> Result<(), u8> {
        let client = self.client(submission.cd).ok_or(refused::GONE)?;
        if submission.flags & flag::ACKNOWLEDGE != 0 && submission.offset > client.read {
            return Err(refused::BEYOND_GIVEN);
        }
        if submission.len == 0 {
            return Ok(());
        }
        if client.stage != Stage::Open || client.closing {
            return Err(refused::NOT_OPEN);
        }
        let len = length(submission);
        if client.queued() > 0 && client.queued() + len > QUEUE_MAX {
            return Err(refused::BEHIND);
        }
        if self.queued + queued + len > self.queued_max {
            return Err(refused::NO_BUFFER);
        }
        Ok(())
    }

    fn acknowledge(&mut self, submission: &Submission) {
        if submission.flags & flag::ACKNOWLEDGE == 0 {
            return;
        }
        let Some(client) = find(&mut self.slots, submission.cd) else { return };
        client.acknowledge(submission.offset, &mut self.buffers);
        if client.stage == Stage::Gone && client.is_idle() {
            self.free_client(submission.cd);
        }
    }

    fn send(&mut self, submission: &Submission) {
        let len = length(submission);
        let Some(bytes) = self.scratch.get_mut(..len.min(super::READ_MAX)) else { return };
        let mut large;
        let bytes = if len > bytes.len() {
            large = vec![0; len];
            &mut large
        } else {
            bytes
        };
        if bytes.is_empty() || self.channel.arena.copy_out(submission.at, bytes).is_err() {
            return;
        }
        let Some(client) = find(&mut self.slots, submission.cd) else { return };
        let before = client.queued();
        let went = client.send(bytes);
        self.queued += client.queued() - before;
        if went == Went::Broken {
            self.end(submission.cd, CloseReason::Reset);
        }
    }

    fn accept(&mut self, cd: u64) {
        if self.client(cd).is_some_and(|client| matches!(client.stage, Stage::Waiting(_))) {
            self.open_client(cd);
        }
    }

    /// A client is in.
    pub(super) fn open_client(&mut self, cd: u64) {
        let Some(client) = find(&mut self.slots, cd) else { return };
        client.stage = Stage::Open;
        let gd = client.gd;
        self.tell(Notice { kind: kind::OPENED, gd, cd, ..Notice::default() });
        self.rewatch(cd);
    }

    fn refuse(&mut self, cd: u64) {
        if self.client(cd).is_some_and(|client| matches!(client.stage, Stage::Waiting(_))) {
            self.end(cd, CloseReason::Refused);
        }
    }

    /// Closes a connection behind what waits for its client, or gives a gone one up.
    fn close(&mut self, cd: u64) {
        let Some(client) = find(&mut self.slots, cd) else { return };
        match client.stage {
            Stage::Gone => self.free_client(cd),
            Stage::Waiting(_) => self.refuse(cd),
            Stage::Open => {
                // Nobody reads any more what was not acknowledged.
                client.closing = true;
                client.give_up(&mut self.buffers);
                self.close_if_done(cd);
            }
        }
    }

    fn tell_refused(&mut self, kind: u8, submission: &Submission, count: u64, reason: u8) {
        let Submission { gd, cd, .. } = *submission;
        self.tell(Notice { kind, reason, gd, cd, offset: count, ..Notice::default() });
    }
}

fn length(submission: &Submission) -> usize {
    usize::try_from(submission.len).unwrap_or(usize::MAX)
}

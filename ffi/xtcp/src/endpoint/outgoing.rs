//! What goes out: bytes, acknowledgements and commands, and bytes that must wait.

use std::time::{Duration, Instant};

use xtcp_ring::layout::op;

use super::{Ending, Endpoint, Item, Limits, Rest};
use crate::backlog::Backlog;
use crate::clock;
use crate::error::SendError;
use crate::handle::{Connection, worker_of};
use crate::lane::Lane;

/// Backlogs looked at in one turn, so that many slow clients do not hold up the others.
const BACKLOGS_A_TURN: usize = 64;

/// Most bytes kept for a connection whose handshake is not complete.
const OPENING_MAX: usize = 4096;

/// When to try again what found no room among all backlogs together.
const ROOM_AGAIN: Duration = Duration::from_millis(5);

impl Endpoint {
    /// Sends bytes: all or nothing.
    pub(crate) fn send(&mut self, to: Connection, bytes: &[u8]) -> Result<(), SendError> {
        self.usable(to)?;
        if !self.ending.is_empty() && self.ending.contains_key(&to) {
            return Err(SendError::Closed);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if (!self.backlogs.is_empty() && self.backlogs.contains_key(&to.cd))
            || self.is_opening(to.cd)
        {
            return self.send_later(to, bytes);
        }
        let lane = self.lane(to.cd)?;
        if bytes.len() > lane.piece_max() {
            return self.send_later(to, bytes);
        }
        if lane.is_staged(to) {
            return if lane.grow(to, bytes) { Ok(()) } else { self.send_later(to, bytes) };
        }
        if !lane.may_be_busy(to.cd) && lane.send(to, bytes).is_ok() {
            return Ok(());
        }
        // The worker may have come further since the last look.
        self.look_at(worker_of(to.cd));
        if self.backlogs.contains_key(&to.cd) || self.lane(to.cd)?.may_be_busy(to.cd) {
            return self.send_later(to, bytes);
        }
        self.lane(to.cd)?.send(to, bytes).map_err(|_| SendError::WouldBlock)
    }

    /// Keeps bytes until the fate of those before them is known.
    fn send_later(&mut self, to: Connection, bytes: &[u8]) -> Result<(), SendError> {
        let Limits { backlog_max, backlogs_max, .. } = self.limits;
        if bytes.len() > backlog_max {
            return Err(SendError::TooLong { max: backlog_max });
        }
        let kept = self.backlog_bytes;
        let waiting = self.backlogs.get(&to.cd).map_or(0, Backlog::len);
        let opening = self.is_opening(to.cd);
        let most = if opening { OPENING_MAX } else { backlog_max };
        if waiting + bytes.len() > most || kept + bytes.len() > backlogs_max {
            let backlog = self.backlog(to)?;
            backlog.announced = true;
            if waiting == 0 && !opening {
                // Others have taken all the room: an empty backlog that drains in a while. One of
                // a connection that is not open drains when it is.
                backlog.retry = Some(clock::now() + ROOM_AGAIN);
            }
            return Err(SendError::Behind { waiting });
        }
        self.backlog(to)?.append(bytes);
        self.backlog_bytes += bytes.len();
        Ok(())
    }

    pub(crate) fn acknowledge(&mut self, to: Connection, offset: u64) -> Result<(), SendError> {
        self.usable(to)?;
        if !self.backlogs.is_empty()
            && let Some(backlog) = self.backlogs.get_mut(&to.cd)
        {
            if backlog.goes_soon() {
                // It leaves with the bytes that wait, in one segment.
                backlog.acknowledge = backlog.acknowledge.max(Some(offset));
                return Ok(());
            }
            // This one says what waited, too.
            let waiting = backlog.acknowledge.take().unwrap_or(offset);
            self.lane(to.cd)?.acknowledge(to, offset.max(waiting));
            return Ok(());
        }
        self.lane(to.cd)?.acknowledge(to, offset);
        Ok(())
    }

    /// Sends bytes and acknowledges up to an offset, in one submission if nothing waits.
    pub(crate) fn answer(
        &mut self,
        to: Connection,
        bytes: &[u8],
        up_to: u64,
    ) -> Result<(), SendError> {
        self.send(to, bytes)?;
        if !self.backlogs.is_empty() || !self.gone.is_empty() || self.broken.is_some() {
            return self.acknowledge(to, up_to);
        }
        // It is as usable as it was for the bytes, and they wait for nothing.
        self.lane(to.cd)?.acknowledge(to, up_to);
        Ok(())
    }

    /// Whether a connection's handshake is not complete.
    pub(super) fn is_opening(&self, cd: u64) -> bool {
        !self.opening.is_empty() && self.opening.contains_key(&cd)
    }

    /// Ends a connection when everything sent so far has gone.
    pub(crate) fn close(&mut self, to: Connection) -> Result<(), SendError> {
        self.commandable(to)?;
        if self.ending.contains_key(&to) {
            return Ok(());
        }
        self.held.remove(&to.cd);
        let in_hand = self.in_hand == Some(to);
        self.end(to, if in_hand { Ending::CloseLater } else { Ending::Closing });
        Ok(())
    }

    /// Resets a connection; what waits for it is thrown away.
    pub(crate) fn abort(&mut self, to: Connection) -> Result<(), SendError> {
        self.commandable(to)?;
        self.reset(to);
        Ok(())
    }

    /// As [`Self::abort`], whatever waits for room.
    pub(super) fn reset(&mut self, to: Connection) {
        self.drop_backlog(to.cd);
        self.held.remove(&to.cd);
        let in_hand = self.in_hand == Some(to);
        self.end(to, if in_hand { Ending::AbortLater } else { Ending::Aborting });
    }

    /// Takes the next step to a connection's end.
    pub(super) fn end(&mut self, to: Connection, ending: Ending) {
        self.ending.insert(to, ending);
        let waits = self.backlogs.contains_key(&to.cd) || self.is_opening(to.cd);
        let Ok(lane) = self.lane(to.cd) else { return };
        match ending {
            Ending::CloseLater | Ending::AbortLater => {}
            Ending::Aborting => lane.command(op::ABORT, to),
            Ending::Closing if !waits && (lane.is_staged(to) || !lane.may_be_busy(to.cd)) => {
                lane.close(to);
            }
            // The close of a connection whose last bytes may be refused waits for their fate.
            Ending::Closing => {
                if let Ok(backlog) = self.backlog(to) {
                    backlog.close = true;
                }
            }
        }
    }

    /// Nobody reads any more what a closed connection still has: the worker may reuse it.
    pub(super) fn give_up(&mut self, closed: Connection) {
        if let Ok(lane) = self.lane(closed.cd) {
            lane.command(op::CLOSE, closed);
        }
    }

    pub(crate) fn accept(&mut self, to: Connection, accept: bool) -> Result<(), SendError> {
        self.commandable(to)?;
        let op = if accept { op::ACCEPT } else { op::REFUSE };
        self.lane(to.cd)?.command(op, to);
        if accept {
            self.opening.insert(to.cd, to.gd);
        }
        Ok(())
    }

    /// Goes on with what waits and shows the workers everything that was asked.
    pub(crate) fn flush(&mut self) {
        if !self.backlogs.is_empty() {
            self.advance_backlogs();
        }
        for lane in &mut self.lanes {
            lane.publish();
        }
        self.serve_local();
    }

    pub(crate) fn usable(&self, to: Connection) -> Result<(), SendError> {
        if self.broken.is_some() {
            return Err(SendError::Broken);
        }
        let is_gone = !self.gone.is_empty() && self.gone.contains_key(&to.cd);
        if is_gone || self.ended.contains(to.cd) || !self.has_group(to.group()) {
            return Err(SendError::Closed);
        }
        Ok(())
    }

    /// As [`Self::usable`], and not too many commands already wait for room in the ring.
    fn commandable(&mut self, to: Connection) -> Result<(), SendError> {
        self.usable(to)?;
        let lane = self.lane(to.cd)?;
        if lane.overflowing() < lane.capacity() { Ok(()) } else { Err(SendError::WouldBlock) }
    }

    pub(super) fn lane(&mut self, cd: u64) -> Result<&mut Lane, SendError> {
        self.lanes.get_mut(usize::from(worker_of(cd))).ok_or(SendError::Closed)
    }

    /// The connection's backlog, which may be new: then it waits for what is in flight.
    pub(super) fn backlog(&mut self, to: Connection) -> Result<&mut Backlog, SendError> {
        let opening = self.is_opening(to.cd);
        let lane = self.lanes.get_mut(usize::from(worker_of(to.cd))).ok_or(SendError::Closed)?;
        Ok(self.backlogs.entry(to.cd).or_insert_with(|| {
            self.turns.push_back(to.cd);
            let mut backlog = Backlog::new(to, lane.piece_max());
            // Nothing of a connection that is not open is in flight.
            backlog.barrier = (!opening).then(|| lane.barrier());
            backlog
        }))
    }

    pub(super) fn drop_backlog(&mut self, cd: u64) -> Option<Backlog> {
        let dropped = self.backlogs.remove(&cd)?;
        self.backlog_bytes -= dropped.len();
        Some(dropped)
    }

    fn advance_backlogs(&mut self) {
        let now = clock::now();
        for _ in 0..self.turns.len().min(BACKLOGS_A_TURN) {
            let Some(cd) = self.turns.pop_front() else { return };
            if self.is_opening(cd) {
                self.turns.push_back(cd);
                continue;
            }
            let Some(backlog) = self.backlogs.get_mut(&cd) else { continue };
            let Some(lane) = self.lanes.get_mut(usize::from(worker_of(cd))) else { continue };
            if let Some(taken) = advance(backlog, lane, now) {
                self.backlog_bytes -= taken;
                if backlog.len() == 0 && backlog.barrier.is_none() {
                    self.on_drained(cd);
                    continue;
                }
            }
            self.turns.push_back(cd);
        }
    }

    /// A connection is open: what waited for that goes in one piece if it can, with its close.
    pub(super) fn begin_sending(&mut self, to: Connection) {
        let Some(backlog) = self.backlogs.get_mut(&to.cd) else { return };
        let Some(lane) = self.lanes.get_mut(usize::from(worker_of(to.cd))) else { return };
        let len = backlog.len();
        let piece = backlog.piece();
        if piece.len() == len && (len == 0 || lane.send(to, piece).is_ok()) {
            self.on_drained(to.cd);
        }
    }

    /// Everything that waited has been taken.
    fn on_drained(&mut self, cd: u64) {
        let Some(drained) = self.drop_backlog(cd) else { return };
        let connection = drained.connection;
        self.acknowledge_alone(connection, drained.acknowledge);
        if drained.close
            && let Ok(lane) = self.lane(cd)
        {
            lane.close(connection);
        }
        if !drained.announced {
            return;
        }
        self.queues.push(connection.gd, Item::Drained { cd });
        self.give_what_waited(connection);
    }

    /// Nothing is in the way any more of a request that waits for that.
    pub(super) fn give_what_waited(&mut self, of: Connection) {
        if self.held.get(&of.cd).is_some_and(|given| given.rest == Rest::WhenDrained) {
            self.queues.push(of.gd, Item::Again { cd: of.cd });
        }
    }
}

/// Goes on with one backlog. Answers how many bytes are done with, if anything can have changed.
fn advance(backlog: &mut Backlog, lane: &mut Lane, now: Instant) -> Option<usize> {
    let mut taken = 0;
    if let Some(barrier) = backlog.barrier {
        if !lane.is_resolved(barrier) {
            return None;
        }
        taken = backlog.on_resolved(lane.piece_max());
    }
    if backlog.retry.is_some_and(|retry| retry > now) {
        return (backlog.len() > 0).then_some(taken);
    }
    if backlog.len() > 0 {
        let to = backlog.connection;
        let piece = backlog.piece();
        let len = piece.len();
        if lane.send(to, piece).is_ok() {
            if let Some(offset) = backlog.acknowledge.take() {
                lane.acknowledge(to, offset);
            }
            let barrier = lane.barrier();
            backlog.on_sent(len, barrier);
        }
    }
    Some(taken)
}

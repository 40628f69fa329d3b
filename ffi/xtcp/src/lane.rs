//! One worker's channel: what is asked of it, and where the bytes of an answer lie meanwhile.
//!
//! The youngest submission is *staged*: kept here until another one follows or the batch is
//! published, so that an answer in several pieces and its acknowledgement become one submission.
//!
//! A submission with bytes is *in flight* until the worker has consumed it; its place in the arena
//! is recycled then. The worker publishes a refusal before it releases the refused submission. So
//! when all notices have been read that were there after the consumed position was, what is
//! consumed is taken for good or is known to be refused. [`Lane::look`] keeps that order.

use std::collections::VecDeque;

use xtcp_ring::layout::{flag, op};
use xtcp_ring::{
    ApplicationChannel, ArenaWriter, Consumer, Corrupt, DataplaneChannel, EndpointLayout,
    HostileArea, Mapping, Notice, Producer, Submission, Unfit,
};

use crate::arena::{ArenaRing, Extent};
use crate::handle::Connection;
use crate::transaction::Part;

/// Submissions after which the worker is shown them, though the batch goes on.
const PUBLISH_EVERY: u32 = 32;

/// Most bytes of one submission. Also bounded by a quarter of the arena.
const PIECE_MAX: u32 = 64 << 10;

/// The ring or the arena has no room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// A submission that names bytes in the arena and may still be refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    pub(crate) connection: Connection,
    pub(crate) extent: Extent,
    /// The submission also closes the connection.
    pub(crate) close: bool,
    /// The worker has said no.
    refused: bool,
    /// Position of the ring behind the submission.
    position: u32,
}

#[derive(Clone, Copy, Debug)]
struct Staged {
    submission: Submission,
    extent: Option<Extent>,
}

impl Staged {
    /// Whether this only acknowledges on that connection, so that bytes can join it.
    fn is_acknowledgement(&self, to: Connection) -> bool {
        self.extent.is_none() && self.submission.op == op::SEND && self.submission.cd == to.cd
    }
}

#[derive(Debug)]
pub(crate) struct Lane {
    submissions: Producer<Submission>,
    notices: Consumer<Notice>,
    arena: ArenaWriter,
    /// The same bytes for reading: what was refused is fetched back.
    sent: HostileArea,
    places: ArenaRing,
    piece_max: u32,
    staged: Option<Staged>,
    /// Submissions without room in the ring, oldest first. They carry no bytes, or are older than
    /// those that do.
    overflow: VecDeque<Staged>,
    in_flight: VecDeque<InFlight>,
    /// How many submissions in flight belong to the connections of each slot. 0: certainly none.
    busy: Box<[u32]>,
    /// The consumed position when last looked at.
    consumed: u32,
    /// The fate of everything before this position is known.
    resolved: u32,
    unpublished: u32,
}

impl Lane {
    pub(crate) fn open(
        mapping: &Mapping,
        layout: &EndpointLayout,
        worker: u8,
    ) -> Result<Self, Unfit> {
        let channel = ApplicationChannel::open(mapping, layout, worker)?;
        let mirror = DataplaneChannel::open(mapping, layout, worker)?;
        // A power of two, as the ring's capacity is.
        let slots = (layout.submissions as usize * 2).clamp(64, 1 << 16);
        Ok(Self {
            places: ArenaRing::new(channel.arena.len()),
            piece_max: PIECE_MAX.min(channel.arena.len() / 4),
            submissions: channel.submissions,
            notices: channel.notices,
            arena: channel.arena,
            sent: mirror.arena,
            staged: None,
            overflow: VecDeque::new(),
            in_flight: VecDeque::with_capacity(layout.submissions as usize),
            busy: vec![0; slots].into_boxed_slice(),
            consumed: 0,
            resolved: 0,
            unpublished: 0,
        })
    }

    /// Most bytes of one submission.
    pub(crate) fn piece_max(&self) -> usize {
        self.piece_max as usize
    }

    /// Asks for bytes to be sent: all or nothing. The connection has none in flight.
    pub(crate) fn send(&mut self, to: Connection, bytes: &[u8]) -> Result<(), NoRoom> {
        self.push_overflow();
        let len = u32::try_from(bytes.len()).ok().filter(|len| *len <= self.piece_max);
        let slots = if self.staged.is_some() { 2 } else { 1 };
        if !self.overflow.is_empty() || self.room() < slots {
            return Err(NoRoom);
        }
        let extent = len.and_then(|len| self.places.reserve(len)).ok_or(NoRoom)?;
        let written = self.arena.write(extent.at, bytes);
        debug_assert!(written.is_ok(), "a reserved place lies inside the arena");
        let mut submission = match self.staged.take_if(|staged| staged.is_acknowledgement(to)) {
            Some(acknowledgement) => acknowledgement.submission,
            None => command(op::SEND, to),
        };
        submission.at = extent.at;
        submission.len = extent.len;
        self.stage(Staged { submission, extent: Some(extent) });
        self.count_busy(to.cd, 1);
        Ok(())
    }

    /// The arena's size.
    pub(crate) fn arena_bytes(&self) -> usize {
        self.arena.len() as usize
    }

    /// Asks for all parts to be done or none, and shows them to the worker in one piece. Answers
    /// the position that must be resolved for their fate to be known. The connections with bytes
    /// have none in flight.
    pub(crate) fn push_together(&mut self, parts: &[Part]) -> Result<u32, NoRoom> {
        self.publish();
        // One part alone would not be known for what it is: the second asks for nothing.
        let alone = parts.first().filter(|_| parts.len() == 1).map(|part| part.connection);
        let count = parts.len() + usize::from(alone.is_some());
        if !self.overflow.is_empty() || (self.room() as usize) < count {
            return Err(NoRoom);
        }
        let in_all: usize = parts.iter().map(|part| part.bytes.len()).sum();
        let whole = match u32::try_from(in_all) {
            Ok(0) => None,
            Ok(bytes) => Some(self.places.reserve(bytes).ok_or(NoRoom)?),
            Err(_) => return Err(NoRoom),
        };
        let mut before = 0;
        for (place, part) in parts.iter().enumerate() {
            let extent = whole.map(|whole| whole.part(before, part.bytes.len()));
            before += part.bytes.len();
            let last = place + 1 == count;
            self.push_part(part, extent.filter(|_| !part.bytes.is_empty()), last);
        }
        if let Some(connection) = alone {
            let submission = command(op::SEND, connection);
            self.overflow.push_back(Staged { submission, extent: None });
        }
        self.publish();
        Ok(self.submissions.position())
    }

    fn push_part(&mut self, part: &Part, extent: Option<Extent>, last: bool) {
        let mut submission = command(op::SEND, part.connection);
        if let Some(up_to) = part.up_to {
            submission.flags |= flag::ACKNOWLEDGE;
            submission.offset = up_to;
        }
        if !last {
            submission.flags |= flag::MORE;
        }
        if let Some(extent) = extent {
            let written = self.arena.write(extent.at, &part.bytes);
            debug_assert!(written.is_ok(), "a reserved place lies inside the arena");
            (submission.at, submission.len) = (extent.at, extent.len);
            self.count_busy(part.connection.cd, 1);
        }
        self.overflow.push_back(Staged { submission, extent });
    }

    /// Whether bytes for `to` would only make the staged submission longer.
    pub(crate) fn is_staged(&self, to: Connection) -> bool {
        self.staged.as_ref().is_some_and(|staged| {
            staged.extent.is_some()
                && staged.submission.cd == to.cd
                && staged.submission.flags & flag::CLOSE_AFTER == 0
        })
    }

    /// Makes the staged submission longer, if it is of the same connection and there is room.
    pub(crate) fn grow(&mut self, to: Connection, bytes: &[u8]) -> bool {
        if !self.is_staged(to) {
            return false;
        }
        let Some(staged) = &mut self.staged else { return false };
        let Some(extent) = staged.extent else { return false };
        let more = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if extent.len.saturating_add(more) > self.piece_max {
            return false;
        }
        let Some(grown) = self.places.extend(extent, more) else { return false };
        let written = self.arena.write(extent.at + extent.len, bytes);
        debug_assert!(written.is_ok(), "a reserved place lies inside the arena");
        staged.extent = Some(grown);
        staged.submission.len = grown.len;
        true
    }

    /// Acknowledges the connection's stream up to `offset`; rides on what is staged for it.
    pub(crate) fn acknowledge(&mut self, to: Connection, offset: u64) {
        if let Some(staged) = &mut self.staged
            && staged.submission.cd == to.cd
            && staged.submission.op == op::SEND
        {
            let submission = &mut staged.submission;
            submission.flags |= flag::ACKNOWLEDGE;
            submission.offset = submission.offset.max(offset);
            return;
        }
        let mut submission = command(op::SEND, to);
        submission.flags = flag::ACKNOWLEDGE;
        submission.offset = offset;
        self.stage(Staged { submission, extent: None });
    }

    /// Closes our direction behind what was sent.
    pub(crate) fn close(&mut self, to: Connection) {
        if self.is_staged(to)
            && let Some(staged) = &mut self.staged
        {
            staged.submission.flags |= flag::CLOSE_AFTER;
            return;
        }
        self.command(op::CLOSE, to);
    }

    /// Asks for something that carries no bytes. It is never refused for want of room.
    pub(crate) fn command(&mut self, op: u8, to: Connection) {
        self.stage(Staged { submission: command(op, to), extent: None });
    }

    /// How many submissions wait for room in the ring.
    pub(crate) fn overflowing(&self) -> usize {
        self.overflow.len()
    }

    /// The ring's capacity in submissions.
    pub(crate) fn capacity(&self) -> usize {
        self.submissions.capacity() as usize
    }

    /// Whether bytes of this connection may be in flight. A yes may be another connection's.
    pub(crate) fn may_be_busy(&self, cd: u64) -> bool {
        self.busy.get(slot(cd, self.busy.len())).is_some_and(|count| *count > 0)
    }

    /// Pushes what is staged and says which position must be resolved for its fate to be known.
    pub(crate) fn barrier(&mut self) -> u32 {
        self.unstage();
        let behind = u32::try_from(self.overflow.len()).unwrap_or(u32::MAX);
        self.submissions.position().wrapping_add(behind)
    }

    /// Whether the fate of everything before this position is known.
    pub(crate) fn is_resolved(&self, position: u32) -> bool {
        passed(self.resolved, position)
    }

    /// Shows the worker everything that was asked.
    pub(crate) fn publish(&mut self) {
        self.unstage();
        self.push_overflow();
        if self.unpublished > 0 {
            self.submissions.publish();
            self.unpublished = 0;
        }
    }

    /// First step of a look at the worker: how far it has come. Then read every notice with
    /// [`Self::next_notice`], then call [`Self::resolve`].
    pub(crate) fn look(&mut self) -> Result<(), Corrupt> {
        self.consumed = self.submissions.consumed()?;
        Ok(())
    }

    pub(crate) fn next_notice(&mut self) -> Result<Option<Notice>, Corrupt> {
        self.notices.pop()
    }

    /// Whether a notice is there.
    pub(crate) fn has_notice(&mut self) -> bool {
        // A corrupt ring has something to tell, too: the next look says what.
        self.notices.available().is_ok_and(|count| count > 0)
    }

    /// Whether the worker has no room for another notice until some are read.
    pub(crate) fn is_full_of_notices(&mut self) -> bool {
        let capacity = self.notices.capacity();
        // A corrupt ring is found out by the look that follows.
        self.notices.available().map_or(true, |count| count >= capacity)
    }

    /// Last step of a look: what was consumed and not refused is taken, and its bytes recycled.
    pub(crate) fn resolve(&mut self) {
        while let Some(oldest) = self.in_flight.front()
            && passed(self.consumed, oldest.position)
        {
            let (cd, end) = (oldest.connection.cd, oldest.extent.end);
            self.places.recycle(end);
            self.in_flight.pop_front();
            self.count_busy(cd, -1);
        }
        self.resolved = self.consumed;
    }

    /// Gives the places of all notices read back to the worker.
    pub(crate) fn release(&mut self) {
        self.notices.release();
    }

    /// The submission of `cd` that the worker refuses; with its bytes, the last `refused` of it.
    pub(crate) fn refused(&mut self, cd: u64, refused: u64) -> Option<(InFlight, Vec<u8>)> {
        let found =
            self.in_flight.iter_mut().find(|sent| sent.connection.cd == cd && !sent.refused)?;
        let refused = u32::try_from(refused).ok().filter(|n| *n <= found.extent.len)?;
        found.refused = true;
        let mut bytes = vec![0; refused as usize];
        self.sent.copy_out(found.extent.at + found.extent.len - refused, &mut bytes).ok()?;
        Some((*found, bytes))
    }

    fn stage(&mut self, staged: Staged) {
        self.unstage();
        self.staged = Some(staged);
    }

    fn unstage(&mut self) {
        if let Some(staged) = self.staged.take() {
            self.push_overflow();
            if !self.overflow.is_empty() || !self.push(&staged) {
                self.overflow.push_back(staged);
            }
        }
        if self.unpublished >= PUBLISH_EVERY {
            self.submissions.publish();
            self.unpublished = 0;
        }
    }

    fn push_overflow(&mut self) {
        while let Some(&oldest) = self.overflow.front() {
            if !self.push(&oldest) {
                return;
            }
            self.overflow.pop_front();
        }
    }

    /// Puts a submission into the ring. `false`: there is no room.
    fn push(&mut self, staged: &Staged) -> bool {
        let Staged { submission, extent } = staged;
        if self.submissions.push(submission).is_err() {
            return false;
        }
        if let Some(extent) = *extent {
            self.in_flight.push_back(InFlight {
                connection: Connection { gd: submission.gd, cd: submission.cd },
                extent,
                close: submission.flags & flag::CLOSE_AFTER != 0,
                refused: false,
                position: self.submissions.position(),
            });
        }
        self.unpublished += 1;
        true
    }

    /// Free places in the ring; looks at the worker only when there seem to be none.
    fn room(&mut self) -> u32 {
        let capacity = self.submissions.capacity();
        let room = capacity - self.submissions.position().wrapping_sub(self.consumed).min(capacity);
        if room >= 2 {
            return room;
        }
        // A worker that lies about its position is found out by the next look.
        self.submissions.room().unwrap_or(0)
    }

    fn count_busy(&mut self, cd: u64, by: i32) {
        let slot = slot(cd, self.busy.len());
        if let Some(count) = self.busy.get_mut(slot) {
            *count = count.saturating_add_signed(by);
        }
    }
}

fn command(op: u8, to: Connection) -> Submission {
    Submission { op, gd: to.gd, cd: to.cd, ..Submission::default() }
}

/// Whether a running position has reached another, less than half the circle ahead.
fn passed(position: u32, other: u32) -> bool {
    position.wrapping_sub(other) < 1 << 31
}

/// The slot of a connection, of a power of two: the low bits of its index spread evenly by
/// themselves.
fn slot(cd: u64, slots: usize) -> usize {
    usize::try_from(cd & 0xffff_ffff).unwrap_or(0) & slots.saturating_sub(1)
}

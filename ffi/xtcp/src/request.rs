//! Requests: bytes a client sent, read where the dataplane put them.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::mem;

use crate::application::Shared;
use crate::endpoint::Rest;
use crate::error::SendError;
use crate::handle::Connection;

/// Where bytes lie in the receive memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) at: u64,
    pub(crate) len: u32,
}

/// What is given of one connection: bytes that follow each other in its stream.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) connection: Connection,
    /// Stream offset of the first byte.
    pub(crate) offset: u64,
    /// Bytes in all pieces.
    len: u64,
    /// The client sends no more after this.
    pub(crate) last: bool,
    /// What was wanted with what is left.
    pub(crate) rest: Rest,
    pieces: Vec<Piece>,
}

impl Given {
    /// Nothing yet, in a list that may have been used before.
    pub(crate) fn new(connection: Connection, offset: u64, mut list: Vec<Piece>) -> Self {
        list.clear();
        Self { connection, offset, len: 0, last: false, rest: Rest::Hold, pieces: list }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Stream offset behind the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.len
    }

    /// Adds the bytes that follow.
    pub(crate) fn push(&mut self, piece: Piece) {
        self.len += u64::from(piece.len);
        if let Some(last) = self.pieces.last_mut()
            && last.at + u64::from(last.len) == piece.at
            && let Some(len) = last.len.checked_add(piece.len)
        {
            last.len = len;
            return;
        }
        self.pieces.push(piece);
    }

    /// Takes `count` bytes off the front; there are as many.
    fn advance(&mut self, count: u64) {
        self.offset += count;
        self.len -= count;
        if self.len == 0 {
            self.pieces.clear();
            return;
        }
        let mut left = count;
        let mut done = 0;
        for piece in &mut self.pieces {
            let cut = u32::try_from(left).unwrap_or(u32::MAX).min(piece.len);
            piece.at += u64::from(cut);
            piece.len -= cut;
            left -= u64::from(cut);
            if piece.len > 0 {
                break;
            }
            done += 1;
        }
        self.pieces.drain(..done);
    }

    /// Everything that is in it; nothing is left.
    pub(crate) fn take(&mut self) -> Self {
        let Self { connection, offset, len, last, rest, ref mut pieces } = *self;
        self.len = 0;
        Self { connection, offset, len, last, rest, pieces: mem::take(pieces) }
    }

    /// The list, for another; nothing is left.
    pub(crate) fn take_list(&mut self) -> Vec<Piece> {
        self.len = 0;
        mem::take(&mut self.pieces)
    }
}

/// Bytes of one connection that were given and not acknowledged.
///
/// The bytes are read in place, in memory the dataplane fills; they are not copied. A message may
/// be in several pieces, because it came in several segments: [`Self::contiguous`] and
/// [`Self::line`] copy only then, [`Self::slices`] never.
///
/// Acknowledging takes bytes off the front. What was read before cannot be used after it:
///
/// ```compile_fail,E0502
/// # fn f(mut request: xtcp::Request<'_>) -> Result<(), xtcp::SendError> {
/// let line = request.line().unwrap();
/// request.acknowledge(line.len() + 1)?;
/// println!("{line:?}"); // the dataplane may have put other bytes here
/// # Ok(()) }
/// ```
///
/// When a request is dropped, what is left of it is held, and given again in front of what comes
/// next on the connection. So a message that is not complete needs no buffer: look, and let go.
/// What could not be answered for want of room is given again when there is room.
///
/// Mind Nagle's algorithm: most clients send no further small segment while an earlier one is
/// unacknowledged. Where a message can come in several small segments, give the group a
/// [deadline](crate::Acknowledge::ByApplication), after which the appliance acknowledges by itself.
/// The bytes stay readable, and are given again, all the same.
pub struct Request<'i> {
    shared: &'i Shared,
    given: Given,
    rest: Cell<Rest>,
}

impl<'i> Request<'i> {
    pub(crate) fn new(shared: &'i Shared, given: Given) -> Self {
        Self { shared, given, rest: Cell::new(Rest::Hold) }
    }

    /// The connection it came on.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.given.connection
    }

    /// Offset of the first byte in the connection's stream; the first byte ever sent is 0.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.given.offset
    }

    /// Bytes given and not acknowledged.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.given.len).unwrap_or(usize::MAX)
    }

    /// Whether everything is acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Whether the client has ended its stream: after these bytes nothing more comes. An incomplete
    /// message will stay incomplete.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.given.last
    }

    /// The bytes, in the pieces they lie in.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> + Clone + '_ {
        self.first(usize::MAX)
    }

    /// At most the first `count` bytes, in the pieces they lie in.
    pub fn first(&self, count: usize) -> impl Iterator<Item = &[u8]> + Clone + '_ {
        let mut left = count;
        self.given.pieces.iter().map_while(move |piece| {
            let len = left.min(usize::try_from(piece.len).unwrap_or(usize::MAX));
            left -= len;
            let bytes = self.shared.bytes(piece.at, len)?;
            (len > 0).then_some(bytes)
        })
    }

    /// All bytes as one slice; copied only if they lie in several pieces.
    #[must_use]
    pub fn contiguous(&self) -> Cow<'_, [u8]> {
        self.head(usize::MAX)
    }

    /// At most the first `count` bytes as one slice; copied only if they lie in several pieces.
    #[must_use]
    pub fn head(&self, count: usize) -> Cow<'_, [u8]> {
        let mut slices = self.first(count);
        let Some(first) = slices.next() else { return Cow::Borrowed(&[]) };
        let mut all = Cow::Borrowed(first);
        for slice in slices {
            all.to_mut().extend_from_slice(slice);
        }
        all
    }

    /// Where a byte first occurs.
    #[must_use]
    pub fn position(&self, wanted: u8) -> Option<usize> {
        let mut before = 0;
        for slice in self.slices() {
            if let Some(place) = slice.iter().position(|byte| *byte == wanted) {
                return Some(before + place);
            }
            before += slice.len();
        }
        None
    }

    /// The first line without its `\n`, if it is complete. Acknowledge one byte more than its
    /// length.
    #[must_use]
    pub fn line(&self) -> Option<Cow<'_, [u8]>> {
        Some(self.head(self.position(b'\n')?))
    }

    /// Acknowledges the first `count` bytes: they are done with, and the client may forget them.
    /// 0 acknowledges nothing, nor what was deferred before.
    ///
    /// # Errors
    /// [`SendError::OverAcknowledged`] when fewer were given, [`SendError::Closed`] when the
    /// connection is gone.
    pub fn acknowledge(&mut self, count: usize) -> Result<(), SendError> {
        let up_to = self.after(count)?;
        self.noting(|shared, connection| {
            let mut endpoint = shared.endpoint.borrow_mut();
            // In front of no bytes may be some that were deferred.
            if count > 0 {
                endpoint.acknowledge(connection, up_to)
            } else {
                endpoint.usable(connection)
            }
        })?;
        self.advance(count);
        Ok(())
    }

    /// Acknowledges the first `count` bytes and sends an answer, in one segment if it fits.
    ///
    /// # Errors
    /// As [`Self::acknowledge`] and [`Self::send`]. Then neither was done.
    pub fn answer(&mut self, count: usize, answer: &[u8]) -> Result<(), SendError> {
        let up_to = self.after(count)?;
        self.noting(|shared, connection| {
            let mut endpoint = shared.endpoint.borrow_mut();
            if count > 0 {
                endpoint.answer(connection, answer, up_to)
            } else {
                endpoint.send(connection, answer)
            }
        })?;
        self.advance(count);
        Ok(())
    }

    /// Sends bytes to the client and acknowledges nothing. The bytes may be the request's own.
    ///
    /// When this fails for want of room, what is left of the request is given again as soon as
    /// there is room: just let go of it.
    ///
    /// # Errors
    /// As [`crate::Application::send`].
    pub fn send(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.noting(|shared, connection| shared.endpoint.borrow_mut().send(connection, bytes))
    }

    /// Lets go of the request; what is left of it is given again at the next receive, even if
    /// nothing more has come.
    pub fn again(self) {
        self.rest.set(Rest::Again);
    }

    /// Takes `count` bytes to be answered later. They are not given again, and not acknowledged
    /// until [`crate::Application::answer`] says so.
    ///
    /// TCP acknowledges from the front: acknowledging what comes later on the connection
    /// acknowledges this, too. 0 takes nothing, and its answer acknowledges nothing.
    ///
    /// # Errors
    /// [`SendError::OverAcknowledged`] when fewer were given.
    pub fn defer(&mut self, count: usize) -> Result<Deferred, SendError> {
        let up_to = if count > 0 { self.after(count)? } else { 0 };
        let deferred = Deferred { connection: self.connection(), up_to };
        self.advance(count);
        Ok(deferred)
    }

    /// The stream offset behind the first `count` bytes.
    pub(crate) fn after(&self, count: usize) -> Result<u64, SendError> {
        let given = self.len();
        if count > given {
            return Err(SendError::OverAcknowledged { given, acknowledged: count });
        }
        Ok(self.offset() + u64::try_from(count).unwrap_or(u64::MAX))
    }

    pub(crate) fn advance(&mut self, count: usize) {
        self.given.advance(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Something could not be done, with this request's bytes or another connection's; if it may
    /// be possible later, what is left is given again soon.
    pub(crate) fn note_refusal(&self, error: Option<SendError>) {
        if matches!(error, Some(SendError::WouldBlock | SendError::Behind { .. })) {
            self.rest.set(Rest::Again);
        }
    }

    /// Remembers why something could not be done, for [`Drop`].
    fn noting(
        &self,
        work: impl FnOnce(&Shared, Connection) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let result = work(self.shared, self.connection());
        match result {
            Err(SendError::WouldBlock) => self.rest.set(Rest::Again),
            Err(SendError::Behind { .. }) => self.rest.set(Rest::WhenDrained),
            _ => {}
        }
        result
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.given.rest = self.rest.get();
        self.shared.endpoint.borrow_mut().put_down(&mut self.given);
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("connection", &self.connection())
            .field("offset", &self.offset())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Bytes taken to be answered later, see [`Request::defer`].
#[must_use = "the client's bytes stay unacknowledged until this is answered"]
#[derive(Debug, PartialEq, Eq)]
pub struct Deferred {
    pub(crate) connection: Connection,
    pub(crate) up_to: u64,
}

impl Deferred {
    /// The connection they came on.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.connection
    }

    /// Stream offset behind the bytes taken; 0 if none were.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.up_to
    }
}

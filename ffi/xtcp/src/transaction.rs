//! Acknowledgements and sends on several connections that happen all together or not at all.

use std::fmt;

use xtcp_ring::layout::BATCH_MAX;

use crate::application::{Application, Shared};
use crate::error::SendError;
use crate::handle::Connection;
use crate::inbox::RefusalReason;
use crate::request::{Deferred, Request};

/// One connection's part.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) connection: Connection,
    /// Acknowledge up to this stream offset.
    pub(crate) up_to: Option<u64>,
    /// Send these bytes; there may be none.
    pub(crate) bytes: Vec<u8>,
}

/// Acknowledgements and sends that are to happen together, see [`Application::transaction`].
///
/// Nothing happens before [`Self::commit`]; what is dropped uncommitted never happens.
#[must_use = "nothing happens before it is committed"]
pub struct Transaction<'t, 'i> {
    shared: &'t Shared,
    parts: Vec<Part>,
    /// Requests to be taken off, and by how much, when all is done.
    taken: Vec<(&'t mut Request<'i>, usize)>,
}

impl<'t, 'i> Transaction<'t, 'i> {
    pub(crate) fn new(shared: &'t Shared) -> Self {
        Self { shared, parts: Vec::new(), taken: Vec::new() }
    }

    /// Acknowledges the first `count` bytes of a request; 0 acknowledges nothing.
    ///
    /// # Errors
    /// [`SendError::OverAcknowledged`] when fewer were given.
    pub fn acknowledge(
        &mut self,
        request: &'t mut Request<'i>,
        count: usize,
    ) -> Result<(), SendError> {
        let up_to = request.after(count)?;
        if count > 0 {
            self.acknowledge_to(request.connection(), up_to);
        }
        self.taken.push((request, count));
        Ok(())
    }

    /// Acknowledges bytes that were deferred. If the transaction fails, they still are.
    pub fn acknowledge_deferred(&mut self, deferred: &Deferred) {
        self.acknowledge_to(deferred.connection, deferred.up_to);
    }

    /// Sends bytes to a client. They are copied.
    pub fn send(&mut self, to: Connection, bytes: &[u8]) {
        self.change(to, |part| part.bytes.extend_from_slice(bytes));
    }

    /// Does all of it, or nothing. Waits until the worker has decided, which takes it a turn or
    /// two: some microseconds where it has a core of its own.
    ///
    /// All connections must be of one worker ([`Connection::worker`]): workers share nothing, and
    /// for two of them to act as one they would have to wait for each other. An appliance with
    /// one worker has no such bound.
    ///
    /// When this is `Ok` it is done, whatever becomes of this process. An application that dies
    /// while it waits here has done all of it or nothing.
    ///
    /// # Errors
    /// [`TransactionError`]. Nothing was done then, except as [`TransactionError::Gone`] says; what
    /// was to be acknowledged is still with this application.
    pub fn commit(self) -> Result<(), TransactionError> {
        let Self { shared, parts, taken } = self;
        let done = shared.transact(&parts);
        for (request, count) in taken {
            match &done {
                Ok(()) => request.advance(count),
                Err(error) => request.note_refusal(error.as_wait()),
            }
        }
        done
    }

    fn acknowledge_to(&mut self, connection: Connection, offset: u64) {
        self.change(connection, |part| part.up_to = part.up_to.max(Some(offset)));
    }

    /// Changes a connection's part, which may be new.
    fn change(&mut self, connection: Connection, change: impl FnOnce(&mut Part)) {
        let known = self.parts.iter_mut().find(|part| part.connection == connection);
        if let Some(part) = known {
            return change(part);
        }
        let mut part = Part { connection, up_to: None, bytes: Vec::new() };
        change(&mut part);
        self.parts.push(part);
    }
}

impl fmt::Debug for Transaction<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl Application {
    /// Begins a transaction: acknowledgements and sends on different connections that happen all
    /// together or not at all. So a message received from one client and sent to another is
    /// acknowledged and sent, or neither, and a relay that dies at any point neither loses a message
    /// nor sends one twice.
    ///
    /// ```no_run
    /// # fn relay(
    /// #     application: &xtcp::Application,
    /// #     request: &mut xtcp::Request<'_>,
    /// #     to: xtcp::Connection,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// let Some(line) = request.line() else { return Ok(()) };
    /// let len = line.len() + 1;
    /// let mut transaction = application.transaction();
    /// transaction.send(to, &request.head(len));
    /// transaction.acknowledge(request, len)?;
    /// transaction.commit()?;
    /// # Ok(()) }
    /// ```
    pub fn transaction<'t, 'i>(&'t self) -> Transaction<'t, 'i> {
        Transaction::new(self.shared())
    }
}

/// Why a transaction did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransactionError {
    /// Its connections are of several workers.
    SeveralWorkers,
    /// It has more connections, or more bytes, than go at once.
    TooLarge {
        /// Connections at most.
        connections: usize,
        /// Bytes at most for one connection; all together at most as many as the arena has.
        bytes: usize,
    },
    /// A connection cannot take it now or any more, as this library knows.
    Unready(SendError),
    /// The dataplane could not do one part.
    Refused {
        /// The first connection that was in the way.
        connection: Connection,
        /// Why.
        reason: RefusalReason,
    },
    /// The dataplane is gone, or the endpoint of no more use. It may have happened before.
    Gone,
}

impl TransactionError {
    /// What it means for a request that was part of it.
    pub(crate) fn as_wait(self) -> Option<SendError> {
        match self {
            Self::Unready(error) => Some(error),
            Self::Refused { reason: RefusalReason::Closed, .. } => None,
            Self::Refused { .. } => Some(SendError::WouldBlock),
            _ => None,
        }
    }
}

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SeveralWorkers => f.write_str(
                "the connections are of several workers, which cannot act as one; run the appliance \
                 with one worker, or keep a transaction to connections of one",
            ),
            Self::TooLarge { connections, bytes } => write!(
                f,
                "a transaction has at most {connections} connections and {bytes} bytes for each, and \
                 all of it has to fit the arena; make it smaller"
            ),
            Self::Unready(error) => write!(f, "{error}"),
            Self::Refused { connection, reason } => {
                write!(f, "nothing was done because of {connection:?}: {reason}")
            }
            Self::Gone => f.write_str("the dataplane is gone; attach again"),
        }
    }
}

impl std::error::Error for TransactionError {}

/// Connections of one transaction at most.
pub(crate) const PARTS_MAX: usize = BATCH_MAX;

//! Bytes that wait in this library because the worker could not take them yet.
//!
//! A connection's bytes must go in order, and the worker takes each submission or refuses it as a
//! whole. So a connection has at most one submission whose fate is unknown; what is sent meanwhile
//! waits here, as does what was refused, and goes when the fate is known, or a little later.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::handle::Connection;

/// The time between two attempts doubles so many times.
const DOUBLINGS: u32 = 6;

/// Smallest piece tried, in bytes.
const PIECE_MIN: usize = 1 << 10;

#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) connection: Connection,
    bytes: VecDeque<u8>,
    /// How many of the first bytes are in flight.
    sent: usize,
    /// The position at which the fate of what is in flight is known.
    pub(crate) barrier: Option<u32>,
    /// Not before this, after a refusal.
    pub(crate) retry: Option<Instant>,
    /// Refusals since anything was taken.
    refusals: u32,
    piece: usize,
    /// Close the connection when all is sent.
    pub(crate) close: bool,
    /// Acknowledge up to here with the next piece.
    pub(crate) acknowledge: Option<u64>,
    /// The application knows that something waits, and wants to know when nothing does.
    pub(crate) announced: bool,
}

impl Backlog {
    pub(crate) fn new(connection: Connection, piece: usize) -> Self {
        Self {
            connection,
            bytes: VecDeque::new(),
            sent: 0,
            barrier: None,
            retry: None,
            refusals: 0,
            piece,
            close: false,
            acknowledge: None,
            announced: false,
        }
    }

    /// Bytes kept.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds bytes behind all others.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Puts bytes that were sent directly, and refused, before all others.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().rev() {
            self.bytes.push_front(*byte);
        }
    }

    /// Whether the next piece goes as soon as the fate of what is in flight is known. Then an
    /// acknowledgement can go with it.
    pub(crate) fn goes_soon(&self) -> bool {
        self.barrier.is_some()
            && self.retry.is_none()
            && self.refusals == 0
            && self.len() > self.sent
    }

    /// Whether there are bytes that could go, but for room in the ring and the arena.
    pub(crate) fn found_no_room(&self) -> bool {
        self.barrier.is_none() && self.retry.is_none() && self.len() > 0
    }

    /// Whether the submission in flight was made from these bytes.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.sent > 0
    }

    /// The worker has refused the last `refused` of the bytes in flight.
    /// The next attempt is made after `pause`, and after longer when it was refused before.
    pub(crate) fn on_refused(&mut self, refused: usize, now: Instant, pause: Duration) {
        self.sent = self.sent.saturating_sub(refused);
        self.piece = (self.piece / 2).max(PIECE_MIN);
        self.retry = Some(now + pause * (1 << self.refusals.min(DOUBLINGS)));
        self.refusals = self.refusals.saturating_add(1);
    }

    /// The fate of what was in flight is known: what was not refused is gone. Answers how much.
    pub(crate) fn on_resolved(&mut self, piece_max: usize) -> usize {
        self.barrier = None;
        let taken = std::mem::take(&mut self.sent).min(self.bytes.len());
        if taken > 0 {
            self.bytes.drain(..taken);
            self.refusals = 0;
            self.piece = (self.piece * 2).min(piece_max);
        }
        taken
    }

    /// The next piece to send, in one slice.
    pub(crate) fn piece(&mut self) -> &[u8] {
        let len = self.piece.min(self.bytes.len());
        if self.bytes.as_slices().0.len() < len {
            self.bytes.make_contiguous();
        }
        self.bytes.as_slices().0.get(..len).unwrap_or_default()
    }

    /// The next piece is in flight; its fate is known at `barrier`.
    pub(crate) fn on_sent(&mut self, len: usize, barrier: u32) {
        self.sent = len;
        self.barrier = Some(barrier);
        self.retry = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn what_was_refused_goes_first_again() {
        let connection = Connection { gd: 1, cd: 1 };
        let mut backlog = Backlog::new(connection, 4);
        backlog.append(b"later");
        backlog.put_back(b"first ");
        assert_eq!(backlog.piece(), b"firs");
        backlog.on_sent(4, 7);
        backlog.on_refused(1, clock::now(), Duration::ZERO);
        assert_eq!(backlog.on_resolved(1 << 16), 3);
        let rest: Vec<u8> = std::iter::from_fn(|| {
            let piece = backlog.piece().to_vec();
            backlog.on_sent(piece.len(), 8);
            (backlog.on_resolved(1 << 16) > 0).then_some(piece)
        })
        .flatten()
        .collect();
        assert_eq!(rest, b"st later");
        assert_eq!(backlog.len(), 0);
    }
}

//! One connection's bytes that were not acknowledged, and what the application was told of them.

use std::collections::VecDeque;

use crate::inbox::CloseReason;
use crate::request::Piece;

/// What a receive gives of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// So many bytes, from the first that is not acknowledged.
    Bytes(u64),
    /// The client has ended its stream, and all its bytes were given.
    End,
    /// The connection is gone.
    Gone(CloseReason),
}

/// How far the end of the client's stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    ToTell,
    Told,
}

/// Kept for a connection with unacknowledged bytes or news of its end, and not for others.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) gd: u32,
    /// Stream offset of the first byte.
    offset: u64,
    pieces: VecDeque<Piece>,
    /// Bytes in all pieces.
    len: u64,
    /// How many of the first bytes the last receive gave.
    given: u64,
    /// There is something to give: new bytes, or old ones once more.
    fresh: bool,
    /// Give all once more when what waits for the client has gone.
    pub(super) when_drained: bool,
    end: End,
    gone: Option<CloseReason>,
    /// It is in its group's list.
    pub(super) queued: bool,
}

impl Unread {
    /// Nothing, at an offset.
    pub(super) fn new(gd: u32, offset: u64) -> Self {
        Self {
            gd,
            offset,
            pieces: VecDeque::new(),
            len: 0,
            given: 0,
            fresh: false,
            when_drained: false,
            end: End::NotYet,
            gone: None,
            queued: false,
        }
    }

    /// Stream offset of the first byte.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Stream offset of the byte that comes next.
    pub(super) fn next_offset(&self) -> u64 {
        self.offset + self.len
    }

    /// How many bytes were given and not acknowledged.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    /// Bytes have come, behind all others.
    pub(super) fn append(&mut self, pieces: impl Iterator<Item = Piece>) {
        if self.len == 0 {
            self.given = 0;
        }
        for piece in pieces {
            self.len += u64::from(piece.len);
            self.pieces.push_back(piece);
        }
        self.fresh = true;
    }

    /// The client sends no more.
    pub(super) fn finish(&mut self) {
        self.end = End::ToTell;
    }

    /// The connection is gone, and its bytes are the worker's again.
    pub(super) fn lose(&mut self, reason: CloseReason) {
        self.pieces.clear();
        self.len = 0;
        self.given = 0;
        self.fresh = false;
        self.gone = Some(reason);
    }

    /// Whether the connection is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Give what there is once more.
    pub(super) fn again(&mut self) {
        self.fresh = self.len > 0;
    }

    /// Takes acknowledged bytes off the front; so many were given. What is left is to be given
    /// again.
    pub(super) fn acknowledge(&mut self, count: u64) {
        self.offset += count;
        self.len = self.len.saturating_sub(count);
        self.given = self.given.saturating_sub(count);
        let mut left = count;
        while let Some(piece) = self.pieces.front_mut() {
            let cut = u32::try_from(left).unwrap_or(u32::MAX).min(piece.len);
            piece.at += u64::from(cut);
            piece.len -= cut;
            left -= u64::from(cut);
            if piece.len > 0 {
                break;
            }
            self.pieces.pop_front();
        }
        self.again();
    }

    /// Whether a receive has something to tell.
    pub(super) fn is_ready(&self) -> bool {
        self.fresh || self.gone.is_some() || self.end == End::ToTell
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_void(&self) -> bool {
        self.len == 0 && self.gone.is_none() && self.end == End::NotYet
    }

    /// What to give, at most so many bytes of it.
    pub(super) fn take(&mut self, most: u64) -> Option<Part> {
        if let Some(reason) = self.gone {
            return Some(Part::Gone(reason));
        }
        if self.fresh {
            self.given = self.len.min(most);
            // What found no room is given with the next receive, and all before it again.
            self.fresh = self.given < self.len;
            if self.end == End::Told {
                self.end = End::ToTell;
            }
            return Some(Part::Bytes(self.given));
        }
        if self.end == End::ToTell {
            self.end = End::Told;
            return Some(Part::End);
        }
        None
    }

    /// Where the first `count` bytes lie.
    pub(super) fn first(&self, count: u64) -> impl Iterator<Item = Piece> + '_ {
        let mut left = count;
        self.pieces.iter().map_while(move |piece| {
            let len = u32::try_from(left).unwrap_or(u32::MAX).min(piece.len);
            left -= u64::from(len);
            (len > 0).then_some(Piece { at: piece.at, len })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread(lens: &[u32]) -> Unread {
        let mut unread = Unread::new(1, 100);
        for (index, len) in (0..).zip(lens) {
            unread.append([Piece { at: index * 1000, len: *len }].into_iter());
        }
        unread
    }

    #[test]
    fn what_is_not_acknowledged_is_given_again_with_what_came_since() {
        let mut unread = unread(&[10]);
        assert_eq!(unread.take(u64::MAX), Some(Part::Bytes(10)));
        assert_eq!(unread.take(u64::MAX), None, "it is with the application");
        unread.append([Piece { at: 5000, len: 5 }].into_iter());
        assert_eq!(unread.take(u64::MAX), Some(Part::Bytes(15)));
        unread.acknowledge(12);
        assert_eq!((unread.offset(), unread.given()), (112, 3));
        assert_eq!(unread.take(u64::MAX), Some(Part::Bytes(3)));
        assert_eq!(unread.first(3).collect::<Vec<_>>(), [Piece { at: 5002, len: 3 }]);
        unread.acknowledge(3);
        assert!(unread.is_void() && !unread.is_ready());
    }

    #[test]
    fn what_finds_no_room_stays_ready_until_it_does() {
        let mut unread = unread(&[4, 4, 4]);
        assert_eq!(unread.take(6), Some(Part::Bytes(6)));
        let wanted = [Piece { at: 0, len: 4 }, Piece { at: 1000, len: 2 }];
        assert_eq!(unread.first(6).collect::<Vec<_>>(), wanted);
        assert!(unread.is_ready());
        assert_eq!(unread.take(100), Some(Part::Bytes(12)));
        assert!(!unread.is_ready());
    }

    #[test]
    fn the_end_comes_after_the_last_byte_and_again_after_bytes_given_again() {
        let mut unread = unread(&[8]);
        unread.finish();
        assert_eq!(unread.take(6), Some(Part::Bytes(6)));
        assert_eq!(unread.take(8), Some(Part::Bytes(8)));
        assert_eq!(unread.take(8), Some(Part::End));
        assert!(!unread.is_ready() && !unread.is_void());
        unread.acknowledge(5);
        assert_eq!(unread.take(8), Some(Part::Bytes(3)));
        assert_eq!(unread.take(8), Some(Part::End));
        unread.acknowledge(3);
        assert_eq!(unread.take(8), None);
    }

    #[test]
    fn a_lost_connection_has_no_bytes() {
        let mut unread = unread(&[8]);
        assert_eq!(unread.take(8), Some(Part::Bytes(8)));
        unread.lose(CloseReason::Reset);
        assert_eq!(unread.given(), 0);
        assert_eq!(unread.take(8), Some(Part::Gone(CloseReason::Reset)));
    }
}

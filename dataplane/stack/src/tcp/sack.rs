//! Selective acknowledgement, the receiving side (RFC 2018, RFC 2883): which SACK blocks go out.
//!
//! As Linux does it, the few parts beyond holes that grew last are remembered, so that a block costs
//! no search however many holes there are. A part that was forgotten and grows again is reported
//! from where it grew: less than is held, and never more.

use super::Tcb;
use super::record::{Range, SACK, SACKS};
use super::seq::SeqNum;
use crate::table::slots::NONE;
use crate::wire::tcp::{SackBlock, SackBlocks};

/// Kind, length and padding of a SACK option.
const OPTION: u32 = 4;
/// Bytes of one block.
const BLOCK: u32 = 8;

impl Tcb<'_, '_> {
    /// `held` lies beyond a hole, as a segment brought it: the first block from now on.
    pub(super) fn note_sack(&mut self, mut held: Range) {
        if !self.rec.has(SACK) || held.is_empty() {
            return;
        }
        let before = self.act.sacks;
        let mut after = [Range::default(); SACKS];
        let mut count = 1;
        for block in before.into_iter().filter(|block| !block.is_empty()) {
            if block.touches(held) {
                held.left = held.left.earliest(block.left);
                held.right = held.right.latest(block.right);
            } else if let Some(place) = after.get_mut(count) {
                *place = block;
                count += 1;
            }
        }
        after[0] = held;
        self.act.sacks = after;
    }

    /// Holes were filled: what lies before `rcv.nxt` is acknowledged otherwise. Where none are left,
    /// nothing is held beyond one, if all of it found room or not.
    pub(super) fn forget_sacks_in_order(&mut self) {
        if self.act.ooo_top == NONE {
            self.act.sacks = [Range::default(); SACKS];
            return;
        }
        let nxt = self.rec.rcv_nxt;
        let mut after = [Range::default(); SACKS];
        let left = self.act.sacks.into_iter().filter(|b| !b.is_empty() && b.left.after(nxt));
        for (place, block) in after.iter_mut().zip(left) {
            *place = block;
        }
        self.act.sacks = after;
    }

    /// The bytes from `left` to `right` came once more. One report holds one range: the first.
    pub(super) fn note_duplicate(&mut self, left: SeqNum, right: SeqNum) {
        if self.rec.has(SACK) && left.before(right) && self.act.duplicate.is_empty() {
            self.act.duplicate = Range { left, right };
        }
    }

    /// What came twice, as far as it can be told beside `ack`: below it, or within what is
    /// reported beyond a hole. What the application holds back lies between, and a block there
    /// would say that everything before it is lost.
    fn duplicate_to_report(&self, ack: SeqNum) -> Option<Range> {
        let Range { left, right } = self.act.duplicate;
        if left == right {
            return None;
        }
        if left.before(ack) {
            return Some(Range { left, right: right.earliest(ack) });
        }
        left.after(self.rec.rcv_nxt).then_some(Range { left, right })
    }

    /// Whether a segment with text or an acknowledgement carries SACK blocks now.
    pub(super) fn has_sack_blocks(&self) -> bool {
        self.rec.has(SACK) && (self.act.ooo_top != NONE || !self.act.duplicate.is_empty())
    }

    /// The blocks that go out beside `ack`, the newest first.
    pub(crate) fn sack_blocks(&self, ack: SeqNum) -> SackBlocks {
        let mut blocks = SackBlocks::NONE;
        if !self.has_sack_blocks() {
            return blocks;
        }
        let parts = self.act.sacks.into_iter().filter(|block| !block.is_empty());
        for Range { left, right } in self.duplicate_to_report(ack).into_iter().chain(parts) {
            blocks.push(SackBlock { left: left.to_u32(), right: right.to_u32() });
        }
        blocks
    }

    /// Bytes a SACK option takes from the text beside it now.
    pub(super) fn sack_option_length(&self) -> u32 {
        if !self.has_sack_blocks() {
            return 0;
        }
        let most = if self.rec.has(super::record::TIMESTAMPS) { SACKS - 1 } else { SACKS };
        let count = self.sack_blocks(self.ack_number()).as_slice().len().min(most);
        match u32::try_from(count) {
            Ok(0) | Err(_) => 0,
            Ok(count) => OPTION + BLOCK * count,
        }
    }
}

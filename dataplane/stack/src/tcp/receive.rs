//! The segment text (RFC 9293 section 3.10.7.4, seventh): what is held, in order or beyond a
//! hole, what the application is given, and the window that is offered (section 3.8.6.2).

use super::Tcb;
use super::arrives::payload_length;
use super::record::{ACK_NOW, FIN_QUEUED, FIN_SEEN, FIN_TAKEN, RETRANSMIT, SEND_RST, TEXTED};
use super::seq::SeqNum;
use super::state::State;
use crate::buffer::PAGE;
use crate::counters::{Outcome, Stop};
use crate::event::Reason;
use crate::table::slots::NONE;
use crate::wire::tcp::{Flags, Segment};

/// More acknowledgements than this of segments beyond a hole tell the peer nothing new (RFC 5681
/// section 3.2).
const DUPLICATES_OWED_MAX: u8 = 3;

/// One piece the application is given: where it lies, how long it is, its stream offset.
pub(crate) struct Given {
    pub(crate) at: u64,
    pub(crate) len: u16,
    pub(crate) offset: u64,
}

impl Tcb<'_, '_> {
    /// Seventh, process the segment text.
    pub(super) fn take_text(&mut self, seg: &Segment<'_>) -> Outcome {
        if seg.payload.is_empty() {
            return Ok(());
        }
        let (seq, payload) = self.trim(seg);
        self.note_duplicate(SeqNum::new(seg.seq), seq);
        if payload.is_empty() {
            self.act.set(ACK_NOW);
            if self.act.has(FIN_SEEN) && seq.after(self.act.fin_seq) {
                return Err(Stop::TextAfterFin);
            }
            // A FIN may follow text that is known already.
            return if seg.flags.contains(Flags::FIN) { Ok(()) } else { Err(Stop::DuplicateText) };
        }
        match self.rec.state() {
            State::Established => {}
            State::FinWait1 | State::FinWait2 => {
                // The application closed and nobody will read this: the peer must know
                // (RFC 9293 section 3.6.1, MUST-12's "aborted").
                self.act.set(SEND_RST);
                self.gone(Reason::Aborted);
                return Err(Stop::TextAfterClose);
            }
            _ => return Err(Stop::TextAfterFin),
        }
        if self.hides() && !self.makes_way_for(seq) {
            self.figures.text_hidden += 1;
            return Err(Stop::TextHidden);
        }
        if seq == self.rec.rcv_nxt {
            self.take_in_order(payload)
        } else {
            self.act.set(ACK_NOW);
            self.act.duplicates_owed = (self.act.duplicates_owed + 1).min(DUPLICATES_OWED_MAX);
            self.hold_out_of_order(seq, payload)
        }
    }

    /// Cuts off what was received before and what lies beyond the window or the peer's FIN.
    #[inline]
    fn trim<'s>(&self, seg: &Segment<'s>) -> (SeqNum, &'s [u8]) {
        let seq = SeqNum::new(seg.seq);
        let known = self.rec.rcv_nxt.since(seq).min(payload_length(seg));
        let payload = &seg.payload[known as usize..];
        let start = seq + known;
        let mut end = self.rec.rcv_adv;
        if self.act.has(FIN_SEEN) {
            end = end.earliest(self.act.fin_seq);
        }
        (start, &payload[..payload.len().min(end.since(start) as usize)])
    }

    #[inline(always)]
    fn take_in_order(&mut self, payload: &[u8]) -> Outcome {
        let had_hole = self.act.ooo_top != NONE;
        self.act.duplicates_owed = 0;
        let mut taken = self.append(payload);
        self.advance_rcv_nxt(taken);
        if had_hole && (taken as usize) < payload.len() {
            // What waits beyond the hole will be sent again; it makes way for what comes first.
            self.release_out_of_order();
            let rest = self.append(&payload[taken as usize..]);
            self.advance_rcv_nxt(rest);
            taken += rest;
        }
        if had_hole {
            self.fill_from_out_of_order();
            if self.withholds() {
                // It makes way for what has come in order, too.
                self.release_out_of_order();
            }
            self.forget_sacks_in_order();
        }
        self.acknowledge_text(had_hole);
        if (taken as usize) < payload.len() { Err(Stop::ReceiveBufferFull) } else { Ok(()) }
    }

    /// Appends to the in-order text, into the last block while it has room. Answers how many
    /// bytes found room.
    #[inline(always)]
    pub(super) fn append(&mut self, mut payload: &[u8]) -> u32 {
        let mut taken = 0;
        let tail = self.act.rcv_list.tail;
        if tail != NONE && self.chunks.get(tail).end() == self.rec.rcv_nxt {
            let chunk = *self.chunks.get(tail);
            let used = usize::from(chunk.len);
            let fits = (self.receive.size(chunk.block) - used).min(payload.len());
            self.receive.bytes_mut(chunk.block, used, fits).copy_from_slice(&payload[..fits]);
            self.chunks.extend(self.receive, tail, length16(fits));
            taken += u32::from(length16(fits));
            payload = &payload[fits..];
        }
        for piece in payload.chunks(PAGE) {
            let seq = self.rec.rcv_nxt + taken;
            let Some(index) = self.store(seq, piece) else { break };
            self.chunks.append(&mut self.act.rcv_list, index);
            taken += u32::from(length16(piece.len()));
        }
        taken
    }

    /// A chunk of the pool's receive buffer with these bytes.
    #[inline(always)]
    pub(super) fn store(&mut self, seq: SeqNum, piece: &[u8]) -> Option<u32> {
        let pool = self.group.pool;
        let has_room = self.chunks.quota().has_plenty(pool.into())
            || self.chunks.part(pool.into()).leaves_an_eighth(self.receive.blocks(pool.into()));
        if !has_room {
            return None;
        }
        let index = self.chunks.take(self.receive, pool, seq, length16(piece.len()))?;
        let block = self.chunks.get(index).block;
        self.receive.bytes_mut(block, 0, piece.len()).copy_from_slice(piece);
        Some(index)
    }

    pub(super) fn advance_rcv_nxt(&mut self, bytes: u32) {
        let before = self.rec.rcv_nxt.since_wrapping(self.rec.irs + 1);
        if before.checked_add(bytes).is_none() {
            self.rec.rcv_turns = self.rec.rcv_turns.wrapping_add(1);
        }
        self.rec.rcv_nxt += bytes;
        self.group.counts.bytes_in += u64::from(bytes);
        self.act.set(TEXTED);
    }

    /// Whether in-order text is acknowledged now, soon, or when the application says so.
    fn acknowledge_text(&mut self, had_hole: bool) {
        if had_hole {
            self.act.set(ACK_NOW);
        }
        if self.group.acknowledges_on_receive() {
            if self.withholds() {
                return self.withhold();
            }
            self.act.rcv_ack = self.text_end();
            let act = &mut *self.act;
            act.segments_owed = act.segments_owed.saturating_add(1);
            if act.quick_acks > 0 || act.segments_owed >= self.tcp.delayed_ack_segments {
                act.quick_acks = act.quick_acks.saturating_sub(1);
                act.set(ACK_NOW);
            } else if act.segments_owed == 1 {
                act.set_ack_timer(self.now + self.tcp.delayed_ack);
            }
        } else if let Some(deadline) = self.group.acknowledge_by(self.now) {
            self.act.set_ack_timer(self.act.ack_at().min(deadline));
        }
        self.acknowledge_beyond_hold_limit();
    }

    /// A group may hold back the acknowledgement of so many bytes and no more: of what is beyond,
    /// the oldest is acknowledged without the application's word.
    pub(super) fn acknowledge_beyond_hold_limit(&mut self) {
        let limit = self.group.hold_limit;
        let end = self.text_end();
        if limit != 0 && end.since(self.act.rcv_ack) > limit {
            if self.withholds() {
                return self.withhold();
            }
            self.act.rcv_ack = end - limit;
            self.act.set(ACK_NOW);
        }
    }

    /// A retransmitted request (WO 02/091709, Fig. 6e): if it was committed and its answer is
    /// still unacknowledged, answer and acknowledgement go again at once; if the application
    /// still has it, it is not given twice.
    pub(super) fn on_duplicate_text(&mut self) {
        let committed = self.act.rcv_committed == self.text_end();
        let sent_end = self.act.snd_end.earliest(self.act.snd_max);
        let answer_in_flight = self.rec.snd_una.before(sent_end);
        if !self.group.acknowledges_on_receive() && committed && answer_in_flight {
            self.act.set(RETRANSMIT);
        }
    }

    /// The next piece for the application, or `None` when it has everything.
    #[inline]
    pub(crate) fn give(&mut self) -> Option<Given> {
        let given = self.act.rcv_given;
        if !given.before(self.text_end()) || self.act.rcv_list.is_empty() {
            return None;
        }
        let mut index = self.act.rcv_cursor;
        if index == NONE {
            index = self.act.rcv_list.head;
        }
        while self.chunks.get(index).end().at_or_before(given) {
            index = self.chunks.get(index).next;
        }
        let chunk = *self.chunks.get(index);
        self.act.rcv_cursor = index;
        self.act.rcv_given = chunk.end();
        let skip = given.since(chunk.seq);
        Some(Given {
            at: chunk.block.at() as u64 + u64::from(skip),
            len: chunk.len - u16::try_from(skip).unwrap_or(chunk.len),
            offset: self.offset_of(given),
        })
    }

    /// Whether there is text the application was not given.
    #[inline]
    pub(crate) fn has_unread(&self) -> bool {
        self.act.rcv_given.before(self.text_end())
    }

    /// The 64-bit stream offset of a sequence number at or before the end of the text.
    #[inline]
    pub(crate) fn offset_of(&self, seq: SeqNum) -> u64 {
        let end = self.text_end();
        let low = end.since_wrapping(self.rec.irs + 1);
        let offset = u64::from(self.rec.rcv_turns) << 32 | u64::from(low);
        offset.saturating_sub(u64::from(end.since(seq)))
    }

    /// Gives back everything received but what the application reads in place.
    pub(crate) fn release_unread(&mut self) {
        self.release_out_of_order();
        if self.act.rcv_given == self.act.rcv_committed {
            self.release_read();
        }
    }

    /// Gives back what the application read in place, too: it will not look again.
    pub(crate) fn release_read(&mut self) {
        self.chunks.release(self.receive, &mut self.act.rcv_list);
        self.act.rcv_cursor = NONE;
        let end = self.text_end();
        (self.act.rcv_given, self.act.rcv_committed) = (end, end);
    }

    /// The window a SYN or SYN-ACK offers, which is never scaled.
    pub(super) fn first_window(&self) -> u32 {
        // Never nothing: who has only just come would wait for more in an active record.
        self.window_space().max(self.window_step()).min(u32::from(u16::MAX))
    }

    /// Bytes that may come beyond `rcv.nxt`: what the group and the pool allow.
    #[inline]
    fn window_space(&self) -> u32 {
        self.group_window().min(self.pool_window())
    }

    /// What the group allows, less what is unread.
    #[inline]
    pub(super) fn group_window(&self) -> u32 {
        let unread = self.rec.rcv_nxt.since(self.act.rcv_committed);
        self.window_max().saturating_sub(unread)
    }

    /// What the group allows, but not so little that a scaled window could not say it.
    #[inline]
    pub(super) fn window_max(&self) -> u32 {
        self.group.window_max.max(2 << self.rec.rcv_scale())
    }

    /// The window field to send beside `ack`, and the right edge it tells (RFC 9293 section
    /// 3.8.6.2.2): that never moves back, and moves on only by a segment or a good part of the
    /// window.
    #[inline]
    pub(super) fn window_to_offer(&self, ack: SeqNum) -> (u16, SeqNum) {
        let scale = self.rec.rcv_scale();
        let told = self.rec.rcv_adv.since(ack);
        let worth = told + self.window_step();
        let wanted = |space: u32| {
            let field = (self.rec.rcv_nxt + space).since(ack) >> scale;
            Some(field.min(u16::MAX.into())).filter(|field| field << scale >= worth)
        };
        // What the pool has is looked at only where the group would have the edge move on.
        let moved = wanted(self.group_window()).and_then(|_| wanted(self.window_space()));
        // Rounded down, an edge already offered would seem to move back (SHLD-14; RFC 7323 section 2.4
        // would let it, by less than a unit). So a peer that always leaves part of a unit is offered up
        // to a unit more each time, beyond what the group allows, until the pool's buffers are scarce.
        let kept = (told >> scale) + u32::from(told & ((1 << scale) - 1) != 0);
        let field = moved.unwrap_or(kept);
        (u16::try_from(field).unwrap_or(u16::MAX), ack + (field << scale))
    }

    /// Whether the window has opened so far that the peer should be told of it unasked: it could
    /// soon be out of room.
    #[inline(always)]
    pub(crate) fn should_update_window(&self) -> bool {
        let offered = self.rec.rcv_adv.since(self.rec.rcv_nxt);
        offered < WINDOW_LOW && self.should_update_low_window(offered)
    }

    #[cold]
    fn should_update_low_window(&self, offered: u32) -> bool {
        if self.act.has(FIN_TAKEN) || self.act.has(FIN_QUEUED) {
            return false;
        }
        let half = self.window_max() / 2;
        if offered >= half {
            return false;
        }
        let (_, edge) = self.window_to_offer(self.ack_number());
        edge.since(self.rec.rcv_adv) >= half.min(2 * u32::from(self.rec.mss))
    }
}

/// A window is told unasked only while less than this, in bytes, is left of what was offered: an
/// open one is told with the next acknowledgement anyway.
const WINDOW_LOW: u32 = 32 << 10;

/// Pieces are at most [`PAGE`] long.
fn length16(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

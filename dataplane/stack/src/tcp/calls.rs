//! What the application asks (RFC 9293 sections 3.10.2 to 3.10.5, and XTCP's own).

use super::Tcb;
use super::record::{ACK_NOW, FIN_QUEUED, HELD, KNOWN, SEND_SYN, TELL_ACCEPTABLE, TEXTED};
use super::seq::SeqNum;
use super::state::State;
use crate::buffer::PAGE;
use crate::error::Misuse;
use crate::event::Reason;
use crate::table::chunk::ChunkList;
use crate::table::slots::NONE;
use crate::time::Instant;
use crate::world::Payload;

/// Sequence numbers tell no more apart: half the largest window.
const SEND_QUEUE_MAX: u32 = 1 << 30;

impl Tcb<'_, '_> {
    /// The application takes the client: the handshake goes on.
    pub(crate) fn accept(&mut self) -> Result<(), Misuse> {
        if !self.act.has(HELD) {
            return Err(Misuse::NotAcceptable);
        }
        self.act.clear(HELD | TELL_ACCEPTABLE);
        self.act.set(KNOWN | SEND_SYN);
        self.act.set_life(Instant::NEVER);
        Ok(())
    }

    /// The application does not want the client: RST.
    pub(crate) fn refuse(&mut self) -> Result<(), Misuse> {
        if !self.act.has(HELD) {
            return Err(Misuse::NotAcceptable);
        }
        self.abort(Reason::Refused);
        Ok(())
    }

    /// The application has done with everything before the stream offset `up_to`: it is
    /// acknowledged and its buffers are free. With `again`, what stays is given once more.
    pub(crate) fn commit(&mut self, up_to: u64, again: bool) -> Result<(), Misuse> {
        self.check_commit(up_to)?;
        let committed = self.offset_of(self.act.rcv_committed);
        // Committed before: a repetition changes nothing.
        let bytes = u32::try_from(up_to.saturating_sub(committed)).unwrap_or(u32::MAX);
        if bytes > 0 {
            let seq = self.act.rcv_committed + bytes;
            self.act.rcv_committed = seq;
            self.act.set(TEXTED);
            let acknowledges = self.act.rcv_ack.before(seq);
            self.act.rcv_ack = self.act.rcv_ack.latest(seq);
            let cursor = self.act.rcv_cursor;
            if self.chunks.release_to(self.receive, &mut self.act.rcv_list, seq, cursor) {
                self.act.rcv_cursor = NONE;
            }
            if acknowledges {
                self.acknowledge_commit();
            }
        }
        if again && self.rec.state() != State::Closed {
            self.act.rcv_given = self.act.rcv_committed;
            self.act.rcv_cursor = NONE;
        } else if self.rec.state() == State::Closed && self.act.rcv_committed == self.act.rcv_given
        {
            self.release_read();
        }
        Ok(())
    }

    /// Whether so much was given.
    #[inline]
    pub(crate) fn check_commit(&self, up_to: u64) -> Result<(), Misuse> {
        let given = self.offset_of(self.act.rcv_given);
        if up_to > given { Err(Misuse::BeyondGiven) } else { Ok(()) }
    }

    /// In the XTCP way the commit is the acknowledgement; an ordinary group has acknowledged, unless
    /// that was withheld.
    fn acknowledge_commit(&mut self) {
        let closed = self.rec.state() == State::Closed;
        if !closed && self.act.last_ack_sent.before(self.ack_number()) {
            self.act.set(ACK_NOW);
        }
    }

    /// Queues bytes for sending: all of them, or none.
    pub(crate) fn send(&mut self, payload: &(impl Payload + ?Sized)) -> Result<(), Misuse> {
        if !self.rec.state().may_send() || self.act.has(FIN_QUEUED) {
            return Err(Misuse::NotOpen);
        }
        let len = u32::try_from(payload.len()).map_err(|_| Misuse::SendQueueFull)?;
        let queued = self.act.snd_end.since(self.rec.snd_una);
        if queued.saturating_add(len) > self.tcp.send_queue_max.min(SEND_QUEUE_MAX) {
            return Err(Misuse::SendQueueFull);
        }
        self.restart_after_idle();
        let fits = self.room_in_last_block().min(payload.len());
        let list = self.take_blocks(payload, fits).ok_or(Misuse::NoBuffer)?;
        self.extend_last_block(payload, fits);
        if !list.is_empty() {
            if self.act.snd_list.is_empty() {
                self.act.snd_list = list;
            } else {
                self.chunks.get_mut(self.act.snd_list.tail).next = list.head;
                self.act.snd_list.tail = list.tail;
            }
        }
        self.act.snd_end += len;
        self.act.set(TEXTED);
        self.group.counts.bytes_out += u64::from(len);
        Ok(())
    }

    /// Copies the payload from `at` on into blocks of its own; gives all back when one is
    /// wanting.
    fn take_blocks(
        &mut self,
        payload: &(impl Payload + ?Sized),
        mut at: usize,
    ) -> Option<ChunkList> {
        let mut list = ChunkList::default();
        let pool = self.group.pool;
        let received = self.receive.blocks(pool.into());
        let count = (payload.len() - at).div_ceil(PAGE);
        // Who leaves a quarter has room for one.
        let has_room = count <= 1 && self.chunks.quota().has_plenty(pool.into());
        if !has_room && count > self.chunks.room_to_send(pool.into(), received) {
            return None;
        }
        while at < payload.len() {
            let len = (payload.len() - at).min(PAGE);
            let seq = self.act.snd_end + u32::try_from(at).unwrap_or(u32::MAX);
            let Some(index) = self.chunks.take(self.transmit, pool, seq, length16(len)) else {
                self.chunks.release(self.transmit, &mut list);
                return None;
            };
            let block = self.chunks.get(index).block;
            payload.copy_to(at, self.transmit.bytes_mut(block, 0, len));
            self.chunks.append(&mut list, index);
            at += len;
        }
        Some(list)
    }

    #[inline]
    fn room_in_last_block(&mut self) -> usize {
        let tail = self.act.snd_list.tail;
        if tail == NONE {
            return 0;
        }
        let chunk = *self.chunks.get(tail);
        self.transmit.size(chunk.block) - usize::from(chunk.len)
    }

    fn extend_last_block(&mut self, payload: &(impl Payload + ?Sized), len: usize) {
        if len == 0 {
            return;
        }
        let tail = self.act.snd_list.tail;
        let chunk = *self.chunks.get(tail);
        let used = usize::from(chunk.len);
        payload.copy_to(0, self.transmit.bytes_mut(chunk.block, used, len));
        self.chunks.extend(self.transmit, tail, length16(len));
    }

    /// CLOSE: everything queued is still sent, then FIN. With a request the application never
    /// took the peer is told by RST (RFC 9293 SHLD-3): its bytes are lost and it must know.
    pub(crate) fn close(&mut self) -> Result<(), Misuse> {
        match self.rec.state() {
            State::Established | State::CloseWait => {}
            State::SynSent | State::SynReceived => {
                self.abort(Reason::Aborted);
                return Ok(());
            }
            State::Closed => {
                self.release_read();
                return Ok(());
            }
            _ => return Err(Misuse::NotOpen),
        }
        self.end();
        if self.rec.state() == State::Closed {
            self.release_read();
        }
        Ok(())
    }

    /// Everything queued is still sent, then FIN; but RST if a request was not taken, or there is
    /// no connection yet. What the application was given stays where it is.
    pub(crate) fn end(&mut self) {
        let next = match self.rec.state() {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            State::SynSent | State::SynReceived => return self.abort(Reason::Aborted),
            _ => return,
        };
        if self.act.rcv_committed != self.text_end() {
            return self.abort(Reason::Aborted);
        }
        self.stop_asking();
        self.act.set(FIN_QUEUED);
        self.rec.set_state(next);
    }

    /// ABORT: RST, and everything is forgotten.
    pub(crate) fn abort_call(&mut self) -> Result<(), Misuse> {
        if self.rec.state() != State::Closed {
            self.abort(Reason::Aborted);
        }
        self.release_read();
        Ok(())
    }

    /// OPEN, active: our SYN.
    pub(crate) fn open(&mut self, iss: SeqNum) {
        self.rec.snd_una = iss;
        let act = &mut *self.act;
        (act.snd_nxt, act.snd_max, act.snd_end) = (iss, iss, iss);
        act.set(SEND_SYN | KNOWN);
        self.rec.set_state(State::SynSent);
    }
}

/// Pieces are at most [`PAGE`] long.
fn length16(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

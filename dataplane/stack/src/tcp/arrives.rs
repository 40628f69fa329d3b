//! SEGMENT ARRIVES (RFC 9293 section 3.10.7): the RFC's checks, in the RFC's order.

use super::Tcb;
use super::record::{
    ACK_NOW, FIN_SEEN, FIN_TAKEN, HELD, SEND_SYN, TELL_FINISHED, TELL_OPENED, TEXTED, TIMESTAMPS,
};
use super::seq::SeqNum;
use super::state::State;
use crate::counters::{Outcome, Stop};
use crate::event::Reason;
use crate::time::Instant;
use crate::wire::tcp::{Flags, Segment};

/// After this long without a segment TS.Recent says nothing any more (RFC 7323 section 5.5).
const TS_RECENT_OUTDATED_MS: u32 = 24 * 24 * 3600 * 1000;

impl Tcb<'_, '_> {
    /// A segment of this connection, its checksum verified. `congested`: a router marked its packet
    /// (RFC 3168's CE).
    ///
    /// # Errors
    /// Why its processing ended early. What has to be answered is noted in the records, except
    /// that the caller answers [`Stop::AckNotOfSyn`] by RST.
    pub(crate) fn on_segment(&mut self, seg: &Segment<'_>, congested: bool) -> Outcome {
        if self.rec.state() == State::SynSent {
            return self.on_segment_in_syn_sent(seg);
        }
        if self.act.has(HELD) {
            return self.on_segment_while_held(seg);
        }
        self.check_timestamps(seg)?;
        self.check_sequence(seg)?;
        self.check_reset(seg)?;
        self.check_syn(seg)?;
        self.check_ack(seg)?;
        self.update_timestamp(seg);
        if self.rec.state() == State::Closed {
            // That was the acknowledgement of our FIN, and the end.
            return Ok(());
        }
        self.note_heard();
        self.note_congestion(seg, congested);
        self.check_urgent(seg);
        self.take_text(seg)?;
        self.check_fin(seg);
        Ok(())
    }

    /// Section 3.10.7.3: the answer to our SYN.
    fn on_segment_in_syn_sent(&mut self, seg: &Segment<'_>) -> Outcome {
        let ack = SeqNum::new(seg.ack);
        let ack_is_ours = seg.flags.contains(Flags::ACK) && ack == self.act.snd_max;
        if seg.flags.contains(Flags::RST) {
            if !ack_is_ours {
                return Err(Stop::ResetOutOfWindow);
            }
            self.gone(Reason::Refused);
            return Err(Stop::ResetByPeer);
        }
        if seg.flags.contains(Flags::ACK) && !ack_is_ours {
            return Err(Stop::AckNotOfSyn);
        }
        if !seg.flags.contains(Flags::SYN) {
            return Err(Stop::NoSyn);
        }
        self.take_syn(seg);
        if ack_is_ours {
            self.rec.snd_una = ack;
            self.enter_established(seg);
            self.act.set(ACK_NOW);
        } else {
            // Simultaneous open: our SYN goes out again as SYN-ACK.
            self.rec.set_state(State::SynReceived);
            self.act.set(SEND_SYN);
        }
        Ok(())
    }

    /// The SYN waits for the application; nothing but its withdrawal is of interest.
    fn on_segment_while_held(&mut self, seg: &Segment<'_>) -> Outcome {
        if seg.flags.contains(Flags::RST) {
            if SeqNum::new(seg.seq) != self.rec.rcv_nxt {
                return Err(Stop::ResetOutOfWindow);
            }
            self.gone(Reason::Reset);
            return Err(Stop::ResetByPeer);
        }
        Err(Stop::NotYetAccepted)
    }

    /// RFC 7323 section 5.3, PAWS: a segment older than what came before is not acceptable.
    //= https://www.rfc-editor.org/rfc/rfc7323#section-5.3
    //# If there is a Timestamps option in the arriving segment, SEG.TSval < TS.Recent, TS.Recent
    //# is valid …, and if the RST bit is not set, then treat the arriving segment as not
    //# acceptable
    fn check_timestamps(&mut self, seg: &Segment<'_>) -> Outcome {
        if !self.rec.has(TIMESTAMPS) || seg.flags.contains(Flags::RST) {
            return Ok(());
        }
        let Some(stamps) = seg.options.timestamps else {
            return Err(Stop::TimestampMissing);
        };
        let old = SeqNum::new(stamps.value).before(SeqNum::new(self.rec.ts_recent));
        if old && self.silence_ms() < TS_RECENT_OUTDATED_MS {
            self.answer_unacceptable(seg);
            return Err(Stop::OldTimestamp);
        }
        Ok(())
    }

    /// RFC 7323 section 4.3: what we echo is the timestamp of the last segment that spanned the
    /// acknowledgement number we sent last. Not before its ACK field was found good: a stamp of the
    /// future from whoever guesses one number and not the other would make the peer's segments old.
    fn update_timestamp(&mut self, seg: &Segment<'_>) {
        if let (true, Some(stamps)) = (self.rec.has(TIMESTAMPS), seg.options.timestamps)
            && SeqNum::new(seg.seq).at_or_before(self.act.last_ack_sent)
        {
            self.rec.ts_recent = stamps.value;
        }
    }

    /// First, check the sequence number.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
    //# There are four cases for the acceptability test for an incoming segment
    fn check_sequence(&mut self, seg: &Segment<'_>) -> Outcome {
        let seq = SeqNum::new(seg.seq);
        let len = sequence_length(seg);
        let (nxt, end) = (self.rec.rcv_nxt, self.rec.rcv_adv.latest(self.rec.rcv_nxt));
        let within = |seq: SeqNum| !seq.before(nxt) && seq.before(end);
        let acceptable = if seg.flags.contains(Flags::RST) {
            // A peer that forgot the connection takes its number from our acknowledgement.
            !seq.before(self.act.last_ack_sent.earliest(nxt)) && seq.at_or_before(end)
        } else if len == 0 {
            // At the right edge, too: there stand the acknowledgements of a peer that has filled
            // the window. Two such would otherwise never stop acknowledging each other's.
            !seq.before(nxt) && seq.at_or_before(end)
        } else {
            within(seq) || within(seq + (len - 1))
        };
        if acceptable {
            return Ok(());
        }
        self.on_unacceptable(seg, len)
    }

    /// "If an incoming segment is not acceptable, an acknowledgment should be sent in reply
    /// (unless the RST bit is set)". Its ACK field still counts if it lies as near as what the
    /// peer repeats or probes with, so that a full receive buffer never keeps the transmit buffer
    /// from being freed (design law 5).
    fn on_unacceptable(&mut self, seg: &Segment<'_>, len: u32) -> Outcome {
        if seg.flags.contains(Flags::RST) {
            return Err(Stop::ResetOutOfWindow);
        }
        let seq = SeqNum::new(seg.seq);
        let is_first_syn = seg.flags.contains(Flags::SYN) && seq == self.rec.irs;
        if self.rec.state() == State::SynReceived && is_first_syn {
            return self.on_syn_again(seg);
        }
        self.answer_unacceptable(seg);
        if seg.flags.contains(Flags::SYN) || !self.is_near(seq) {
            return Err(Stop::OutOfWindow);
        }
        if self.rec.state().is_synchronized() && seg.flags.contains(Flags::ACK) {
            self.process_ack(seg)?;
            self.note_heard();
        }
        if len > 0 && (seq + len).at_or_before(self.rec.rcv_nxt) {
            self.note_duplicate(seq, seq + payload_length(seg));
            self.on_duplicate_text();
            return Err(Stop::DuplicateText);
        }
        Err(Stop::OutOfWindow)
    }

    /// The peer did not see our SYN-ACK; or, of two that open at once, it has seen our SYN.
    fn on_syn_again(&mut self, seg: &Segment<'_>) -> Outcome {
        if seg.flags.contains(Flags::ACK) {
            self.check_ack_of_syn(seg)?;
            self.act.set(ACK_NOW);
        } else {
            // What is echoed is this one's: the time to the first would pass for a round trip.
            self.update_timestamp(seg);
            self.act.set(SEND_SYN);
        }
        Err(Stop::SynAgain)
    }

    /// Whether a number lies no further from the window than a window.
    fn is_near(&self, seq: SeqNum) -> bool {
        let reach = self.group.window_max.max(u16::MAX.into());
        self.rec.rcv_nxt.since(seq) <= reach && seq.since(self.rec.rcv_adv) <= reach
    }

    /// Text that is not acceptable is acknowledged each time: its sender is to know where we are.
    /// What has none could answer our answer for ever.
    fn answer_unacceptable(&mut self, seg: &Segment<'_>) {
        if sequence_length(seg) > 0 && !seg.flags.contains(Flags::SYN) {
            self.act.set(ACK_NOW);
        } else {
            self.challenge();
        }
    }

    /// An acknowledgement that says where we are (RFC 5961), but not often: whoever disagrees may
    /// answer it in kind.
    pub(super) fn challenge(&mut self) {
        let due = self.act.challenge_at();
        if due == Instant::NEVER || due <= self.now {
            self.act.set_challenge(self.now + self.tcp.challenge_interval);
            self.act.set(ACK_NOW);
        }
    }

    /// Second, check the RST bit; RFC 5961 section 3.2 demands the exact number. Of those there
    /// are two while the application holds back acknowledgements: what was received, and what the
    /// peer knows of it.
    fn check_reset(&mut self, seg: &Segment<'_>) -> Outcome {
        if !seg.flags.contains(Flags::RST) {
            return Ok(());
        }
        if self.rec.state() == State::TimeWait {
            // RFC 1337: TIME-WAIT is not assassinated.
            return Err(Stop::ResetInTimeWait);
        }
        let seq = SeqNum::new(seg.seq);
        if seq != self.rec.rcv_nxt && seq != self.act.last_ack_sent {
            self.challenge();
            return Err(Stop::ResetChallenged);
        }
        let all_is_said = matches!(self.rec.state(), State::Closing | State::LastAck)
            && self.rec.snd_una == self.act.snd_end;
        // "Enter the CLOSED state, delete the TCB, and return": both streams are complete.
        self.gone(if all_is_said { Reason::Closed } else { Reason::Reset });
        Err(Stop::ResetByPeer)
    }

    /// Fourth, check the SYN bit; RFC 5961 section 4.2 answers by a challenge. (The third check
    /// of the RFC, security and precedence, is for networks that no longer are.)
    fn check_syn(&mut self, seg: &Segment<'_>) -> Outcome {
        if !seg.flags.contains(Flags::SYN) {
            return Ok(());
        }
        self.challenge();
        Err(Stop::SynChallenged)
    }

    /// Fifth, check the ACK field.
    fn check_ack(&mut self, seg: &Segment<'_>) -> Outcome {
        if !seg.flags.contains(Flags::ACK) {
            return Err(Stop::NoAck);
        }
        if self.rec.state() == State::SynReceived {
            self.check_ack_of_syn(seg)?;
        }
        self.process_ack(seg)
    }

    fn check_ack_of_syn(&mut self, seg: &Segment<'_>) -> Outcome {
        let ack = SeqNum::new(seg.ack);
        if !ack.after(self.rec.snd_una) || ack.after(self.act.snd_max) {
            return Err(Stop::AckNotOfSyn);
        }
        self.rec.snd_una += 1;
        self.enter_established(seg);
        Ok(())
    }

    /// Sixth, check the URG bit: urgent data is data (RFC 6093 advises applications against
    /// more), its pointer is counted and not followed.
    fn check_urgent(&mut self, seg: &Segment<'_>) {
        if seg.flags.contains(Flags::URG) {
            self.counters.stop(Stop::UrgentIgnored);
        }
    }

    /// Eighth, check the FIN bit. The seventh, the segment text, is in `receive`.
    #[inline]
    fn check_fin(&mut self, seg: &Segment<'_>) {
        if seg.flags.contains(Flags::FIN) && !self.act.has(FIN_SEEN) {
            self.act.set(FIN_SEEN);
            self.act.fin_seq = SeqNum::new(seg.seq) + payload_length(seg);
            // In order or beyond a hole, it is answered at once.
            self.act.set(ACK_NOW);
        }
        if !self.act.has(FIN_SEEN)
            || self.act.has(FIN_TAKEN)
            || self.act.fin_seq != self.rec.rcv_nxt
        {
            return;
        }
        self.act.set(FIN_TAKEN | ACK_NOW | TELL_FINISHED);
        // What the peer sent as if it came after its FIN is nobody's.
        self.release_out_of_order();
        self.rec.rcv_nxt += 1;
        self.rec.rcv_adv = self.rec.rcv_adv.latest(self.rec.rcv_nxt);
        match self.rec.state() {
            State::Established => self.rec.set_state(State::CloseWait),
            State::FinWait1 => self.rec.set_state(State::Closing),
            State::FinWait2 => self.enter_time_wait(),
            _ => {}
        }
    }

    /// Takes what only a SYN tells: the peer's sequence numbers, options and window.
    pub(crate) fn take_syn(&mut self, seg: &Segment<'_>) {
        let seq = SeqNum::new(seg.seq);
        self.rec.irs = seq;
        self.rec.rcv_nxt = seq + 1;
        let act = &mut *self.act;
        (act.rcv_ack, act.rcv_committed, act.rcv_given) = (seq + 1, seq + 1, seq + 1);
        act.last_ack_sent = seq + 1;
        self.rec.rcv_adv = seq + 1 + self.first_window();
        self.take_syn_options(seg);
        // RFC 7323 section 2.2: the window of a SYN is never scaled.
        self.take_window(seg, u32::from(seg.window));
    }

    /// Our SYN is acknowledged.
    fn enter_established(&mut self, seg: &Segment<'_>) {
        self.rec.set_state(State::Established);
        let act = &mut *self.act;
        act.clear(SEND_SYN);
        act.set(TELL_OPENED | TEXTED);
        act.snd_nxt = act.snd_nxt.latest(self.rec.snd_una);
        act.snd_end = act.snd_end.latest(self.rec.snd_una);
        act.recover = self.rec.snd_una;
        act.set_rto(Instant::NEVER);
        act.set_life(Instant::NEVER);
        act.backoff = 0;
        self.group.counts.accepted += 1;
        let scale = if seg.flags.contains(Flags::SYN) { 0 } else { self.rec.snd_scale() };
        self.take_window(seg, u32::from(seg.window) << scale);
        self.sample_handshake(seg);
        self.note_heard();
    }

    fn enter_time_wait(&mut self) {
        self.rec.set_state(State::TimeWait);
        self.restart_time_wait();
        self.act.set_rto(Instant::NEVER);
        self.act.set_life(Instant::NEVER);
        self.tell_closed(Reason::Closed);
    }

    /// Both FINs are exchanged and acknowledged, ours last or together.
    pub(super) fn on_fin_acknowledged(&mut self) {
        match self.rec.state() {
            State::FinWait1 => {
                self.rec.set_state(State::FinWait2);
                self.act.set_life(self.now + self.tcp.fin_wait_2);
            }
            State::Closing => self.enter_time_wait(),
            State::LastAck => self.gone(Reason::Closed),
            _ => {}
        }
    }

    /// A segment in TIME-WAIT can only be the peer's FIN again: it did not see our
    /// acknowledgement, and the wait begins anew.
    pub(super) fn restart_time_wait(&mut self) {
        self.rec.heard_ms = self.now_ms();
    }

    #[inline]
    fn note_heard(&mut self) {
        if self.rec.state() != State::TimeWait {
            if self.tcp.quick_acks != 0 {
                self.allow_quick_acknowledgements();
            }
            self.rec.heard_ms = self.now_ms();
            self.stop_asking();
        }
    }

    /// At the start, and after a silence, the peer's window is small: the sooner it hears of what
    /// has arrived, the sooner that grows.
    #[cold]
    fn allow_quick_acknowledgements(&mut self) {
        let starts = self.rec.rcv_nxt == self.rec.irs + 1 && self.rec.rcv_turns == 0;
        if starts || self.silence_exceeds_rto() {
            self.act.quick_acks = self.tcp.quick_acks;
        }
    }

    pub(super) fn silence_ms(&self) -> u32 {
        self.now_ms().wrapping_sub(self.rec.heard_ms)
    }

    fn now_ms(&self) -> u32 {
        (self.now.as_millis() & 0xffff_ffff) as u32
    }
}

/// SEG.LEN: text, and one each for SYN and FIN.
pub(crate) fn sequence_length(seg: &Segment<'_>) -> u32 {
    payload_length(seg)
        + u32::from(seg.flags.contains(Flags::SYN))
        + u32::from(seg.flags.contains(Flags::FIN))
}

pub(crate) fn payload_length(seg: &Segment<'_>) -> u32 {
    u32::try_from(seg.payload.len()).unwrap_or(u32::MAX)
}

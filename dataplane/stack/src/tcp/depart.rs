//! Segment out: what may go now, in the order of urgency; then what having sent it means.
//!
//! [`Tcb::plan`] only looks; [`Tcb::copy_text`] fills in the bytes; [`Tcb::on_sent`] is told when
//! the frame is on its way.

use super::Tcb;
use super::record::{
    ACK_NOW, ASK, FIN_QUEUED, HELD, PERSISTING, PROBE, RECOVERING, RETRANSMIT, Range, SACK,
    SEND_RST, SEND_SYN, TIMESTAMPS, V6, WITHHELD,
};
use super::recovery::TAIL_PROBE;
use super::seq::SeqNum;
use super::state::State;
use crate::counters::Count;
use crate::stack::link_mss;
use crate::table::slots::NONE;
use crate::time::Instant;
use crate::wire::tcp::{Flags, Timestamps};

/// Timestamps with their padding, in every segment once agreed.
const TIMESTAMPS_LENGTH: u16 = 12;

/// The next segment to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    what: What,
    pub(crate) seq: SeqNum,
    pub(crate) ack: SeqNum,
    pub(crate) flags: Flags,
    /// Bytes of text.
    pub(crate) len: u16,
    /// The window field, scaled.
    pub(crate) window: u16,
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    /// Whether SACK blocks go along.
    pub(crate) sacks: bool,
    /// The ECN codepoint of its packet.
    pub(crate) ecn: u8,
    pub(crate) timestamps: Option<Timestamps>,
}

/// What goes next, before a segment is made of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    what: What,
    seq: SeqNum,
    /// Bytes of text.
    len: u32,
    fin: bool,
}

impl Step {
    const fn text(what: What, seq: SeqNum, len: u32, fin: bool) -> Self {
        Self { what, seq, len, fin }
    }

    pub(super) const fn bare(what: What, seq: SeqNum) -> Self {
        Self { what, seq, len: 0, fin: false }
    }
}

impl Plan {
    /// The sequence number after it.
    fn end(&self) -> SeqNum {
        self.seq + u32::from(self.len) + u32::from(self.flags.contains(Flags::FIN))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Reset,
    Syn,
    /// The segment at `snd.una` once more.
    Again,
    /// The first that is lost.
    Lost,
    Text,
    /// A tail loss probe.
    Tail,
    Probe,
    /// Whether the peer is there: see `keep_alive`.
    Question,
    Acknowledgement,
}

impl Tcb<'_, '_> {
    /// The segment that should go now, if any.
    #[inline(always)]
    pub(crate) fn plan(&self) -> Option<Plan> {
        if self.act.has(SEND_RST) {
            return Some(self.plan_reset());
        }
        if self.act.has(HELD) || self.rec.state() == State::Closed {
            return None;
        }
        if !self.rec.state().is_synchronized() {
            return self.plan_syn();
        }
        let step = self.next_step()?;
        Some(self.segment_of(step))
    }

    /// Whether [`Self::plan`] has a segment, at a fraction of its price.
    #[inline(always)]
    pub(crate) fn wants_to_send(&self) -> bool {
        if self.act.has(SEND_RST) {
            return true;
        }
        if self.act.has(HELD) || self.rec.state() == State::Closed {
            return false;
        }
        if self.act.has(ACK_NOW) {
            return true;
        }
        if !self.rec.state().is_synchronized() {
            return self.act.has(SEND_SYN);
        }
        self.next_step().is_some()
    }

    #[inline(always)]
    fn next_step(&self) -> Option<Step> {
        if !self.nothing_is_urgent() {
            return self.next_urgent_step();
        }
        if let Some(text) = self.next_text() {
            return Some(text);
        }
        self.next_acknowledgement()
    }

    #[cold]
    fn next_urgent_step(&self) -> Option<Step> {
        self.next_again()
            .or_else(|| self.next_lost())
            .or_else(|| self.next_tail())
            .or_else(|| self.next_text())
            .or_else(|| self.next_probe())
            .or_else(|| self.next_question())
            .or_else(|| self.next_acknowledgement())
    }

    /// Whether a look tells that there is nothing but new text and acknowledgements, as nearly
    /// always.
    #[inline]
    fn nothing_is_urgent(&self) -> bool {
        let recovery = &self.act.recovery;
        !self.act.has(RETRANSMIT | PROBE | ASK) && recovery.lost == 0 && !recovery.has(TAIL_PROBE)
    }

    fn plan_reset(&self) -> Plan {
        let flags = Flags::RST | Flags::ACK;
        self.segment(What::Reset, self.acceptable_number(), flags, 0)
    }

    fn plan_syn(&self) -> Option<Plan> {
        if !self.act.has(SEND_SYN) {
            return self.act.has(ACK_NOW).then(|| self.bare_acknowledgement());
        }
        let answer = self.rec.state() == State::SynReceived;
        let flags = if answer { Flags::SYN | Flags::ACK } else { Flags::SYN };
        let flags = flags | self.syn_ecn(answer);
        let scaled = !answer || self.rec.rcv_scale() != 0 || self.rec.snd_scale() != 0;
        Some(Plan {
            mss: Some(self.own_mss()),
            window_scale: scaled.then(|| self.own_scale()),
            sack_permitted: if answer { self.rec.has(SACK) } else { self.tcp.sack },
            ..self.segment(What::Syn, self.rec.snd_una, flags, 0)
        })
    }

    /// A loss was noticed, or the peer repeated a request whose answer is cached.
    fn next_again(&self) -> Option<Step> {
        let una = self.rec.snd_una;
        if !self.act.has(RETRANSMIT) || una == self.act.snd_max {
            return None;
        }
        let sent_end = self.act.snd_end.earliest(self.act.snd_max);
        let len = sent_end.since(una).min(self.text_room());
        let fin = self.fin_at(una + len) && self.act.snd_max.after(self.act.snd_end);
        (len > 0 || fin).then(|| Step::text(What::Again, una, len, fin))
    }

    /// The first that is lost, as far as windows allow. The peer's may have been taken back; its
    /// first loss is mended all the same (RFC 9293 MAY-7), but not again after a timeout.
    pub(super) fn next_lost(&self) -> Option<Step> {
        let flight = self.chunks.flight(self.first_lost()?);
        let (una, seq) = (self.rec.snd_una, flight.seq);
        let first = seq == una && self.act.has(RECOVERING) && self.rec.snd_wnd > 0;
        let window = if first { u32::MAX } else { (una + self.rec.snd_wnd).since(seq) };
        let text = flight.end().earliest(self.act.snd_end).since(seq);
        let len = text.min(self.text_room()).min(window);
        let fin = self.fin_at(seq + len) && flight.end().after(self.act.snd_end);
        let (pipe, cwnd) = (self.pipe(), self.act.cwnd);
        let allowed = pipe == 0 || pipe.saturating_add(len) <= cwnd;
        (allowed && (len > 0 || fin)).then(|| Step::text(What::Lost, seq, len, fin))
    }

    /// A tail loss probe: new text if there is some, else the last segment again (RFC 8985 section
    /// 7.3). The congestion window does not hold it back.
    fn next_tail(&self) -> Option<Step> {
        if !self.act.recovery.has(TAIL_PROBE) {
            return None;
        }
        let (nxt, end) = (self.act.snd_nxt, self.act.snd_end);
        let window = self.rec.snd_wnd.saturating_sub(nxt.since(self.rec.snd_una));
        let len = end.since(nxt).min(self.text_room()).min(window);
        if len > 0 {
            return Some(Step::text(What::Text, nxt, len, self.fin_at(nxt + len)));
        }
        let tail = self.act.recovery.flights.tail;
        if tail == NONE {
            return None;
        }
        let flight = self.chunks.flight(tail);
        let text_end = flight.end().earliest(end);
        let len = text_end.since(flight.seq).min(self.text_room());
        let fin = self.fin_at(text_end) && flight.end().after(end);
        Some(Step::text(What::Tail, text_end - len, len, fin))
    }

    /// Whether text or FIN is queued that was not sent yet.
    #[inline]
    fn has_text_left(&self) -> bool {
        let (nxt, end) = (self.act.snd_nxt, self.act.snd_end);
        nxt.before(end) || nxt == end && self.act.has(FIN_QUEUED)
    }

    /// New text, or old text after a retransmission timeout pulled `snd.nxt` back.
    #[inline]
    pub(super) fn next_text(&self) -> Option<Step> {
        if self.has_text_left() { self.next_text_left() } else { None }
    }

    #[inline(always)]
    fn next_text_left(&self) -> Option<Step> {
        let nxt = self.act.snd_nxt;
        let sent = nxt.since(self.rec.snd_una);
        let congestion = self.act.cwnd.saturating_add(self.limited_transmit());
        let window = self.rec.snd_wnd.saturating_sub(sent);
        let usable = window.min(congestion.saturating_sub(self.pipe()));
        let queued = self.act.snd_end.since(nxt);
        let len = queued.min(usable).min(self.text_room());
        let fin = self.fin_at(nxt + len);
        if len == 0 && !fin || len > 0 && !self.is_worth_sending(len, queued, sent) {
            return None;
        }
        Some(Step::text(What::Text, nxt, len, fin))
    }

    /// Sender's silly window avoidance and Nagle (RFC 9293 sections 3.8.6.2.1 and 3.7.4).
    #[inline]
    fn is_worth_sending(&self, len: u32, queued: u32, sent: u32) -> bool {
        let nagle = || self.tcp.nagle && self.group.nagle();
        let last = len == queued && (sent == 0 || !nagle() || self.act.has(FIN_QUEUED));
        let full = || len == self.text_room();
        let again = || self.act.snd_nxt.before(self.act.snd_max);
        // The override timeout: a window too small to be worth it is used in the end.
        let overdue = || self.act.has(PROBE);
        last || full() || again() || overdue() || len >= (self.act.snd_wnd_max / 2).max(1)
    }

    /// A zero-window probe carries one byte (RFC 9293 section 3.8.6.1).
    fn next_probe(&self) -> Option<Step> {
        if !self.act.has(PROBE) {
            return None;
        }
        let una = self.rec.snd_una;
        let len = self.act.snd_end.since(una).min(1);
        Some(Step::text(What::Probe, una, len, len == 0 && self.fin_at(una)))
    }

    #[inline(always)]
    fn next_acknowledgement(&self) -> Option<Step> {
        let due = self.act.has(ACK_NOW) || self.should_update_window();
        due.then(|| Step::bare(What::Acknowledgement, self.acceptable_number()))
    }

    fn bare_acknowledgement(&self) -> Plan {
        self.segment(What::Acknowledgement, self.acceptable_number(), Flags::ACK, 0)
    }

    /// The next number, as far as the peer's window goes: beyond it, where a probe or a window
    /// taken back has left us, the peer would answer an acknowledgement by an acknowledgement.
    fn acceptable_number(&self) -> SeqNum {
        self.act.snd_max.earliest(self.rec.snd_una + self.rec.snd_wnd)
    }

    #[inline]
    fn segment_of(&self, Step { what, seq, len, fin }: Step) -> Plan {
        let mut flags = Flags::ACK;
        if fin {
            flags |= Flags::FIN;
        }
        if len > 0 && seq + len == self.act.snd_end {
            // RFC 9293 MUST-61.
            flags |= Flags::PSH;
        }
        self.segment(what, seq, flags, u16::try_from(len).unwrap_or(u16::MAX))
    }

    fn segment(&self, what: What, seq: SeqNum, flags: Flags, len: u16) -> Plan {
        let ack = if flags.contains(Flags::ACK) { self.ack_number() } else { SeqNum::new(0) };
        let asks = flags.contains(Flags::SYN) && !flags.contains(Flags::ACK);
        let stamped = if asks { self.tcp.timestamps } else { self.rec.has(TIMESTAMPS) };
        let bare = flags.intersects(Flags::SYN | Flags::RST);
        let new_text = what == What::Text && len > 0 && !seq.before(self.act.snd_max);
        let (marks, ecn) = if bare { (Flags::NONE, 0) } else { self.ecn_of(new_text) };
        let echo = if asks { 0 } else { self.rec.ts_recent };
        Plan {
            what,
            seq,
            ack,
            flags: flags | marks,
            len,
            window: self.window_field(ack, flags),
            mss: None,
            window_scale: None,
            sack_permitted: false,
            sacks: !bare && self.has_sack_blocks(),
            ecn,
            timestamps: stamped.then(|| Timestamps { value: self.timestamp(), echo }),
        }
    }

    fn window_field(&self, ack: SeqNum, flags: Flags) -> u16 {
        if flags.contains(Flags::RST) {
            return 0;
        }
        if flags.contains(Flags::SYN) {
            return u16::try_from(self.first_window()).unwrap_or(u16::MAX);
        }
        self.window_to_offer(ack).0
    }

    #[inline]
    fn fin_at(&self, seq: SeqNum) -> bool {
        self.act.has(FIN_QUEUED) && seq == self.act.snd_end
    }

    /// The text of a planned segment.
    #[inline]
    pub(crate) fn copy_text(&mut self, plan: &Plan, into: &mut [u8]) {
        let new = plan.what == What::Text;
        let cursor =
            if new { &mut self.act.snd_cursor } else { &mut self.act.recovery.text_cursor };
        let from_cursor = *cursor != NONE && !plan.seq.before(self.chunks.get(*cursor).seq);
        let mut index = if from_cursor { *cursor } else { self.act.snd_list.head };
        let mut seq = plan.seq;
        let mut rest = into;
        while !rest.is_empty() && index != NONE {
            let chunk = *self.chunks.get(index);
            if seq.before(chunk.end()) {
                let skip = seq.since(chunk.seq) as usize;
                let len = (usize::from(chunk.len) - skip).min(rest.len());
                let (part, after) = rest.split_at_mut(len);
                part.copy_from_slice(self.transmit.bytes(chunk.block, skip..skip + len));
                rest = after;
                seq += u32::try_from(len).unwrap_or(u32::MAX);
                *cursor = index;
            }
            index = chunk.next;
        }
        debug_assert!(rest.is_empty(), "text is planned that is not queued");
    }

    /// The planned segment is on its way, or lost already; both look the same from here.
    pub(crate) fn on_sent(&mut self, plan: &Plan) {
        self.counters.count(Count::SegmentsOut);
        self.note_ecn_sent(plan.flags);
        if plan.flags.contains(Flags::ACK) {
            self.note_acknowledged(plan);
        }
        match plan.what {
            What::Reset => self.act.clear(SEND_RST),
            What::Syn => self.on_syn_sent(),
            What::Again => {
                self.act.clear(RETRANSMIT);
                self.write_out_sole_flight();
                let head = self.act.recovery.flights.head;
                if head != NONE {
                    self.note_sent_again(head, plan.end().since(plan.seq));
                }
                self.on_sent_again(plan);
                self.start_retransmission_timer();
            }
            What::Lost => {
                if let Some(index) = self.first_lost() {
                    self.note_sent_again(index, plan.end().since(plan.seq));
                }
                self.on_sent_again(plan);
                let stopped = self.act.has(PERSISTING) || self.act.rto_at() == Instant::NEVER;
                if plan.seq == self.rec.snd_una || stopped {
                    self.act.clear(PERSISTING | PROBE);
                    self.start_retransmission_timer();
                }
            }
            What::Tail => {
                let len = plan.end().since(plan.seq);
                if let Some(index) = self.split_tail(len) {
                    self.note_sent_again(index, len);
                }
                self.on_sent_again(plan);
                self.on_tail_probe_sent(true);
            }
            What::Text => self.on_text_sent(plan),
            What::Probe => {
                self.act.clear(PROBE);
                self.counters.count(Count::WindowProbes);
                self.act.snd_max = self.act.snd_max.latest(plan.end());
            }
            What::Question => self.on_question_sent(),
            What::Acknowledgement => self.on_acknowledgement_sent(),
        }
    }

    fn on_sent_again(&mut self, plan: &Plan) {
        self.counters.count(Count::SegmentsRetransmitted);
        self.group.counts.retransmitted += 1;
        self.note_again();
        let recovery = &mut self.act.recovery;
        recovery.sent = recovery.sent.saturating_add(plan.len.into());
    }

    /// I9: `len` bytes more do not exceed the congestion window, but for what two duplicate
    /// acknowledgements or a probe for the tail allow; a FIN before them is no text.
    fn keeps_to_its_window(&self, len: u16) -> bool {
        let most = self.act.cwnd.saturating_add(self.limited_transmit()).saturating_add(1);
        self.act.recovery.has(TAIL_PROBE) || self.pipe().saturating_add(len.into()) <= most
    }

    fn note_acknowledged(&mut self, plan: &Plan) {
        self.act.clear(ACK_NOW);
        self.act.segments_owed = 0;
        if plan.len > 0 && plan.ack.after(self.act.last_ack_sent) {
            self.group.counts.acks_on_answers += 1;
        }
        self.act.last_ack_sent = plan.ack;
        if plan.sacks {
            self.act.duplicate = Range::default();
        }
        // One is paid; text is no duplicate, and the peer stops counting.
        let owed = self.act.duplicates_owed.saturating_sub(1);
        self.act.duplicates_owed = if plan.what == What::Acknowledgement { owed } else { 0 };
        let scale = if plan.flags.contains(Flags::SYN) { 0 } else { self.rec.rcv_scale() };
        let edge = plan.ack + (u32::from(plan.window) << scale);
        self.rec.rcv_adv = self.rec.rcv_adv.latest(edge);
        if self.act.rcv_ack == self.text_end() {
            self.act.set_ack_timer(Instant::NEVER);
            self.act.clear(WITHHELD);
        }
        if self.is_window_shrunk() {
            self.figures.windows_shrunk += 1;
            self.counters.count(Count::WindowsShrunk);
        }
    }

    /// Segments beyond a hole that came together are owed an acknowledgement each, for the peer
    /// counts them (RFC 5681 section 3.2).
    fn on_acknowledgement_sent(&mut self) {
        self.counters.count(Count::BareAcks);
        self.group.counts.acks_bare += 1;
        if self.act.duplicates_owed > 0 {
            self.act.set(ACK_NOW);
        }
    }

    fn on_syn_sent(&mut self) {
        let act = &mut *self.act;
        act.clear(SEND_SYN);
        act.tries = act.tries.saturating_add(1);
        act.stalled_since = self.now.as_nanos();
        if act.tries > 1 {
            self.counters.count(Count::SegmentsRetransmitted);
            self.group.counts.retransmitted += 1;
        }
        act.snd_max = self.rec.snd_una + 1;
        (act.snd_nxt, act.snd_end) = (act.snd_max, act.snd_max);
        let at = self.now + self.rto();
        self.act.set_rto(at);
    }

    fn on_text_sent(&mut self, plan: &Plan) {
        let end = plan.end();
        // Where there is no room for another flight, nothing is known any more of what was lost.
        debug_assert!(
            plan.len == 0 || self.keeps_to_its_window(plan.len),
            "I9: more is in flight than may be"
        );
        self.note_flight(plan.seq, end);
        if plan.seq.before(self.act.snd_max) {
            self.counters.count(Count::SegmentsRetransmitted);
            self.group.counts.retransmitted += 1;
            self.note_again();
        }
        let act = &mut *self.act;
        act.recovery.sent = act.recovery.sent.saturating_add(plan.len.into());
        if self.rec.snd_una == act.snd_max {
            act.stalled_since = self.now.as_nanos();
        }
        act.snd_nxt = end;
        act.snd_max = act.snd_max.latest(end);
        // A probe for the tail goes sooner when there is more than one segment.
        let (mss, flight) = (self.segment_size(), self.flight());
        let more = flight > mss && flight <= mss + u32::from(plan.len);
        let act = &mut *self.act;
        if act.rto_at() == Instant::NEVER || act.has(PERSISTING) || more {
            act.clear(PERSISTING | PROBE);
            self.start_retransmission_timer();
        }
        if self.act.recovery.has(TAIL_PROBE) {
            self.on_tail_probe_sent(false);
        }
    }

    /// Something is queued or unacknowledged, nothing may go, and no timer runs: only the peer can
    /// change that, and it may have tried and been lost. So the persist timer runs.
    #[inline]
    pub(crate) fn persist_if_stuck(&mut self) {
        let una = self.rec.snd_una;
        let in_flight = una != self.act.snd_max;
        let waits = in_flight || self.act.snd_end.after(una) || self.fin_at(una);
        if waits && self.act.rto_at() == Instant::NEVER {
            self.persist_if_stuck_without_timer();
        }
    }

    fn persist_if_stuck_without_timer(&mut self) {
        let stuck = self.rec.state().is_synchronized() && self.next_text().is_none();
        if stuck && !self.act.has(PROBE) {
            self.act.set(PERSISTING);
            self.act.stalled_since = self.now.as_nanos();
            self.act.set_rto(self.now + self.rto());
        }
    }

    /// Payload of a full segment: what the peer takes, less the options every segment carries.
    pub(super) fn segment_size(&self) -> u32 {
        let options = if self.rec.has(TIMESTAMPS) { TIMESTAMPS_LENGTH } else { 0 };
        u32::from(self.rec.mss.saturating_sub(options).max(1))
    }

    /// Text a segment has room for now, SACK blocks considered.
    fn text_room(&self) -> u32 {
        self.segment_size().saturating_sub(self.sack_option_length()).max(1)
    }

    /// Payload a segment without options carries on our link.
    pub(super) fn own_mss(&self) -> u16 {
        link_mss(self.mtu, self.rec.has(V6))
    }
}

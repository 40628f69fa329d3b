//! Explicit congestion notification (RFC 3168): routers mark packets instead of dropping them, the
//! receiver echoes the mark, and the sender reduces its window as if there had been a loss.
//!
//! What is agreed and owed lies in the idle record: a mark may be owed for longer than anything is
//! under way.

use super::Tcb;
use super::arrives::payload_length;
use super::record::{ECHO, ECN, RECOVERING, REDUCED};
use super::recovery::{News, UNDO};
use crate::config::Ecn;
use crate::counters::Count;
use crate::wire::tcp::{Flags, Segment};

/// The codepoint of packets that may be marked, ECT(0).
const CAPABLE: u8 = 2;

impl Tcb<'_, '_> {
    /// RFC 3168 section 6.1.1: a SYN asks by both flags, a SYN-ACK agrees by ECE alone.
    pub(super) fn take_syn_ecn(&mut self, flags: Flags) {
        let asked = Flags::ECE | Flags::CWR;
        let agreed = if flags.contains(Flags::ACK) {
            self.tcp.ecn == Ecn::Ask && flags.0 & asked.0 == Flags::ECE.0
        } else {
            self.tcp.ecn != Ecn::Off && flags.contains(asked)
        };
        if agreed {
            self.rec.notify(ECN);
        } else {
            self.rec.unnotify(ECN | ECHO | REDUCED);
        }
    }

    /// The flags of our SYN, or of our SYN-ACK. A SYN that was lost may have been lost for asking
    /// (section 6.1.1.1).
    pub(super) fn syn_ecn(&self, answer: bool) -> Flags {
        if answer && self.rec.is_notified(ECN) {
            Flags::ECE
        } else if !answer && self.tcp.ecn == Ecn::Ask && self.act.tries == 0 {
            Flags::ECE | Flags::CWR
        } else {
            Flags::NONE
        }
    }

    /// Section 6.1.3: a mark is echoed until the peer says that it has reduced its window.
    pub(super) fn note_congestion(&mut self, seg: &Segment<'_>, congested: bool) {
        if !self.rec.is_notified(ECN) || payload_length(seg) == 0 {
            return;
        }
        if seg.flags.contains(Flags::CWR) {
            self.rec.unnotify(ECHO);
        }
        if congested {
            self.rec.notify(ECHO);
            self.counters.count(Count::CongestionMarks);
        }
    }

    /// Section 6.1.2: the peer echoes a mark; the window is reduced, once for what is in flight.
    /// Answers whether it is echoed: then the window does not grow.
    pub(super) fn take_congestion_echo(&mut self, seg: &Segment<'_>, news: &News) -> bool {
        let echoes = seg.flags.contains(Flags::ECE) && !seg.flags.contains(Flags::SYN);
        if !echoes || !self.rec.is_notified(ECN) {
            return false;
        }
        let flight = self.flight() + news.acked;
        let in_episode = self.rec.snd_una.before(self.act.recover);
        if !in_episode && !self.act.has(RECOVERING) && flight > 0 {
            self.act.ssthresh = self.threshold_after_loss(flight);
            self.act.cwnd = self.act.cwnd.min(self.act.ssthresh);
            self.act.recover = self.act.snd_max;
            // No loss, and nothing that could turn out to be none.
            self.act.recovery.clear(UNDO);
            self.note_reduced();
            self.counters.count(Count::CongestionEchoes);
        }
        true
    }

    /// The window was reduced, for whatever reason: the peer need not echo any more.
    pub(super) const fn note_reduced(&mut self) {
        if self.rec.is_notified(ECN) {
            self.rec.notify(REDUCED);
        }
    }

    /// What a segment carries besides, and the codepoint of its packet: only new text may be marked,
    /// so that nobody learns from a mark what was sent again (section 6.1.5).
    pub(super) fn ecn_of(&self, new_text: bool) -> (Flags, u8) {
        if !self.rec.is_notified(ECN) {
            return (Flags::NONE, 0);
        }
        let mut flags = Flags::NONE;
        if self.rec.is_notified(ECHO) {
            flags |= Flags::ECE;
        }
        if new_text && self.rec.is_notified(REDUCED) {
            flags |= Flags::CWR;
        }
        (flags, if new_text { CAPABLE } else { 0 })
    }

    /// A segment with these flags is on its way.
    pub(super) fn note_ecn_sent(&mut self, flags: Flags) {
        if flags.contains(Flags::CWR) && !flags.contains(Flags::SYN) {
            self.rec.unnotify(REDUCED);
        }
    }
}

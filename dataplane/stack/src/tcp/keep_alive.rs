//! Keep-alive (RFC 9293 section 3.8.4): a peer that was silent for long is asked whether it is there.
//!
//! Who is to be asked is found by the sweep; only while a peer is being asked has its connection an
//! active record. A question is a segment without text before the window (SHLD-12), which the
//! peer answers by an acknowledgement. Whatever is heard ends the asking. Since acknowledgements get
//! lost, more than one question must stay without an answer before the peer is down (MUST-29).

use super::Tcb;
use super::depart::{Step, What};
use super::record::{ASK, ASKING};
use super::state::State;
use crate::counters::Count;
use crate::time::Instant;

impl Tcb<'_, '_> {
    /// The peer was silent for too long.
    pub(crate) fn ask(&mut self) {
        if !self.may_ask() {
            return;
        }
        self.act.set(ASKING | ASK);
        self.act.tries = 0;
        self.act.set_life(self.now + self.group.keep_interval());
    }

    /// Whether the connection is open and nothing sent is outstanding (MUST-26): there the
    /// retransmission timer finds out whether the peer is there.
    fn may_ask(&self) -> bool {
        let una = self.rec.snd_una;
        matches!(self.rec.state(), State::Established | State::CloseWait)
            && self.act.snd_max == una
            && self.act.snd_end == una
    }

    /// The peer was heard, or the connection is being closed.
    #[inline]
    pub(super) fn stop_asking(&mut self) {
        if self.act.has(ASKING) {
            self.act.clear(ASKING | ASK);
            self.act.set_life(Instant::NEVER);
        }
    }

    /// No answer in time.
    pub(super) fn on_unanswered(&mut self) {
        if !self.may_ask() {
            self.stop_asking();
        } else if self.act.tries >= self.group.keep_probes {
            self.down();
        } else {
            self.act.set(ASK);
            self.act.set_life(self.now + self.group.keep_interval());
        }
    }

    /// SEG.SEQ = SND.NXT-1, without text.
    pub(super) fn next_question(&self) -> Option<Step> {
        let due = self.act.has(ASK) && self.may_ask();
        due.then(|| Step::bare(What::Question, self.rec.snd_una - 1))
    }

    pub(super) fn on_question_sent(&mut self) {
        self.act.clear(ASK);
        self.act.tries = self.act.tries.saturating_add(1);
        self.counters.count(Count::KeepAliveProbes);
        self.group.counts.keep_alive_probes += 1;
    }
}

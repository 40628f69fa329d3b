//! What happens when nothing happens (RFC 9293 section 3.10.8).

use core::time::Duration;

use super::Tcb;
use super::record::{ACK_NOW, ASKING, DOUBTED, HELD, PERSISTING, PROBE, SEND_SYN};
use super::recovery::{REORDER_TIMER, TAIL_TIMER};
use super::state::State;
use crate::counters::{Count, Stop};
use crate::event::Reason;
use crate::time::Instant;

/// RFC 9293's R1 (SHLD-10). No peer is given up before it was asked this often.
const TRIES_MIN: u8 = 3;

impl Tcb<'_, '_> {
    /// Serves every timer of the connection that is due.
    pub(crate) fn on_timeout(&mut self) {
        if self.act.life_at() <= self.now {
            self.act.set_life(Instant::NEVER);
            self.on_life_timeout();
        }
        if self.act.ack_at() <= self.now {
            self.act.set_ack_timer(Instant::NEVER);
            self.on_ack_due();
        }
        if self.act.challenge_at() <= self.now {
            self.act.set_challenge(Instant::NEVER);
        }
        if self.act.rto_at() <= self.now {
            let timer = self.act.recovery.flags;
            self.act.set_rto(Instant::NEVER);
            self.on_rto_timeout(timer);
        }
    }

    /// An ordinary group has acknowledged already; in the XTCP way this is the deadline after which
    /// the stack acknowledges by itself, if it does.
    fn on_ack_due(&mut self) {
        if self.act.rcv_ack != self.text_end() && self.withholds() {
            return self.withhold();
        }
        self.act.rcv_ack = self.text_end();
        self.act.set(ACK_NOW);
    }

    /// Not accepted in time, FIN-WAIT-2 with a silent peer, or a question not answered.
    fn on_life_timeout(&mut self) {
        if self.act.has(HELD) {
            self.counters.stop(Stop::NotAcceptedInTime);
            self.group.counts.unaccepted += 1;
            self.abort(Reason::Refused);
        } else if self.rec.state() == State::FinWait2 {
            self.gone(Reason::Closed);
        } else if self.act.has(ASKING) {
            self.on_unanswered();
        }
    }

    /// `timer`: what the timer was to be, by [`TAIL_TIMER`] and [`REORDER_TIMER`].
    fn on_rto_timeout(&mut self, timer: u16) {
        match self.rec.state() {
            State::SynSent | State::SynReceived => self.on_handshake_timeout(),
            _ if self.act.has(PERSISTING) => self.on_persist_timeout(),
            _ if timer & REORDER_TIMER != 0 => self.on_reorder_timeout(),
            _ if timer & TAIL_TIMER != 0 => self.on_tail_timeout(),
            _ => self.on_retransmission_due(),
        }
    }

    fn on_handshake_timeout(&mut self) {
        if self.act.tries > self.tcp.syn_retries {
            self.counters.stop(Stop::HandshakeTimedOut);
            self.gone(Reason::Refused);
            return;
        }
        self.back_off();
        self.doubt_at_r1();
        self.act.set(SEND_SYN);
    }

    /// RFC 9293 MUST-36: probe; MUST-37: as long as the peer answers, for ever. SHLD-29, 30:
    /// after one retransmission timeout, then ever more rarely. Only if the application has
    /// closed does a peer that never takes the rest have the user timeout and no more: nobody is
    /// left who could give it up (RFC 6429).
    fn on_persist_timeout(&mut self) {
        // The interval may be longer than the user timeout: silence begins when a probe stays
        // unanswered, not between two.
        let (interval, unheard) = (self.rto(), self.unheard_for());
        let silent = unheard >= self.user_timeout() && unheard > interval + interval / 4;
        if self.is_overdue() && (silent || !self.rec.state().may_send()) {
            self.down();
            return;
        }
        self.back_off();
        self.act.set(PROBE);
        self.act.set_rto(self.now + self.rto());
    }

    /// The seed's "resend" timer (WO 02/091709, Fig. 6h): send again, or the connection is down.
    fn on_retransmission_due(&mut self) {
        if self.is_overdue() {
            self.down();
            return;
        }
        self.on_retransmission_timeout();
        self.back_off();
        self.doubt_at_r1();
        self.counters.count(Count::RetransmissionTimeouts);
        self.presume_lost();
        self.suspect_black_hole();
        if self.next_lost().or_else(|| self.next_text()).is_none() {
            // The window was taken back under way: only a probe can say that it opens again
            // (MUST-35).
            self.act.set(PERSISTING | PROBE);
        }
        self.act.set_rto(self.now + self.rto());
    }

    /// Whether nothing has moved for the user timeout although the peer was asked often enough:
    /// a clock that jumps is no proof.
    fn is_overdue(&self) -> bool {
        let since = Instant::from_nanos(self.act.stalled_since);
        self.act.backoff >= TRIES_MIN && self.now.since(since) >= self.user_timeout()
    }

    fn user_timeout(&self) -> Duration {
        self.group.user_timeout(self.tcp.user_timeout)
    }

    /// R1: the way to the peer is doubtful, and whoever knows it looks again.
    fn doubt_at_r1(&mut self) {
        if self.act.backoff == TRIES_MIN {
            self.act.set(DOUBTED);
            self.group.counts.stalled += 1;
        }
    }

    /// The peer does not answer any more: purge and tell.
    pub(super) fn down(&mut self) {
        self.counters.stop(Stop::PeerDown);
        self.gone(Reason::TimedOut);
    }

    /// How long the peer has been silent.
    fn unheard_for(&self) -> Duration {
        Duration::from_millis(self.silence_ms().into())
    }

    /// Whether the peer was not heard for longer than the timeout: not in this millisecond, as most
    /// who are answered were.
    #[inline]
    pub(super) fn silence_exceeds_rto(&self) -> bool {
        self.silence_ms() != 0 && self.unheard_for() > self.rto()
    }
}

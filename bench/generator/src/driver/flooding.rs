//! A flood's step: forged segments on time, and what the clients do beside them.

use xtcp_report::sample::FloodReport;
use xtcp_stack::Transmit;

use super::{Driver, PER_TURN, Running, SECOND_NS};
use crate::step::{Action, Flood};

/// Forged segments sent in one turn, beside the clients'.
const FORGED_PER_TURN: u64 = 64;

impl Driver {
    /// Forges what is due, and has the clients do what they do meanwhile.
    pub(super) fn flood(&mut self, flood: &Flood, out: &mut impl Transmit) {
        self.load(&flood.load, out);
        // In the turn in which it ends comes what was due before, and nothing later.
        if std::mem::replace(&mut self.running.flooded, self.now >= self.running.ends) {
            return;
        }
        self.reconnect_some(flood, out);
        let forged = self.clients.counters().forged - self.tally.at_step.forged;
        for _ in 0..self.due_in_flood(flood.rate).saturating_sub(forged).min(FORGED_PER_TURN) {
            if !self.clients.forge(flood.kind, out) {
                return;
            }
        }
    }

    /// Clients that are not active come again, in turns; one that is still under way loses its turn.
    fn reconnect_some(&mut self, flood: &Flood, out: &mut impl Transmit) {
        let active = u64::from(self.active(&flood.load));
        let others = u64::from(self.clients.population().len()) - active;
        if others == 0 {
            return;
        }
        let due = self.due_in_flood(flood.reconnects).saturating_sub(self.running.reconnected);
        for _ in 0..due.min(PER_TURN.into()) {
            let number = self.order.client(active + self.running.reconnected % others);
            self.running.reconnected += 1;
            if self.clients.is_idle(number) {
                self.clients.reset(number, out);
                self.tally.second.closed += 1;
            }
            if self.clients.is_closed(number) {
                self.clients.open(number, out);
            }
        }
    }

    /// How many of so many a second are due, up to its end.
    fn due_in_flood(&self, rate: f64) -> u64 {
        let Running { started, ends, .. } = self.running;
        let since = self.now.min(ends).saturating_sub(started);
        (since as f64 / SECOND_NS as f64 * rate) as u64
    }

    /// What was forged in this step and what the server sent to nobody in it, if anything: the last
    /// answers to a flood come after it.
    pub(super) fn flood_report(&self) -> Option<FloodReport> {
        let (now, was) = (self.clients.counters(), self.tally.at_step);
        let answers = self.clients.path_counters().backscatter;
        let before = self.tally.path_at_step.backscatter;
        let sent = now.forged - was.forged;
        let (due, rate) = match self.action() {
            Some(Action::Flood(flood)) => {
                let seconds = flood.load.seconds;
                ((flood.rate * seconds) as u64, sent as f64 / seconds)
            }
            _ if answers == before => return None,
            _ => (0, 0.0),
        };
        Some(FloodReport {
            due,
            sent,
            rate,
            bytes: now.forged_bytes - was.forged_bytes,
            syn_acks: answers.syn_acks - before.syn_acks,
            resets: answers.resets - before.resets,
            other_answers: answers.others - before.others,
            answer_bytes: answers.bytes - before.bytes,
        })
    }
}

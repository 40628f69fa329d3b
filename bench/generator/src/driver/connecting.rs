//! Handshakes and ends: everybody has one turn, and so many are under way at once.

use xtcp_stack::Transmit;

use super::{AHEAD, Driver, PER_TURN, SECOND_NS};
use crate::step::{Flow, How};

impl Driver {
    pub(super) fn connect(&mut self, flow: Flow, out: &mut impl Transmit) {
        for _ in 0..self.allowance(flow) {
            if self.everybody_had_a_turn() {
                return;
            }
            let number = self.running.next as u32;
            self.running.next += 1;
            if self.clients.is_closed(number) {
                self.clients.open(number, out);
            }
        }
    }

    pub(super) fn close(&mut self, how: How, flow: Flow, again: bool, out: &mut impl Transmit) {
        for _ in 0..self.allowance(flow) {
            if self.everybody_had_a_turn() {
                return;
            }
            let number = self.order.client(self.running.next);
            self.clients.prefetch(self.order.client(self.running.next + AHEAD));
            self.running.next += 1;
            if self.clients.is_idle(number) {
                if how == How::Fin {
                    self.clients.close(number, out);
                    continue;
                }
                self.clients.reset(number, out);
                self.tally.second.closed += 1;
            }
            if again && self.clients.is_closed(number) {
                self.clients.open(number, out);
            }
        }
    }

    /// How many more may be begun now.
    fn allowance(&self, flow: Flow) -> u32 {
        let standing = self.clients.standing();
        let room = flow.under_way.saturating_sub(standing.opening + standing.closing);
        let due = flow.rate.map_or(u64::MAX, |rate| {
            let since = self.now.saturating_sub(self.running.started) as f64 / SECOND_NS as f64;
            ((since * rate) as u64 + 1).saturating_sub(self.running.next)
        });
        room.min(PER_TURN).min(u32::try_from(due).unwrap_or(u32::MAX))
    }

    pub(super) fn everybody_had_a_turn(&self) -> bool {
        self.running.next >= u64::from(self.clients.population().len())
    }
}

//! Requests: who asks when, at each pace.

use xtcp_stack::Transmit;

use super::{AHEAD, Driver, PER_TURN, SECOND_NS};
use crate::step::{Load, Pace};

impl Driver {
    pub(super) fn load(&mut self, load: &Load, out: &mut impl Transmit) {
        let active = u64::from(self.active(load));
        match load.pace {
            Pace::InFlight(most) => self.keep_in_flight(most, active, out),
            Pace::Rate(rate) => self.keep_rate(rate, active, out),
            Pace::Think(ms) => self.keep_thinking(ms, active, out),
        }
    }

    fn keep_in_flight(&mut self, most: u32, active: u64, out: &mut impl Transmit) {
        if self.now >= self.running.ends {
            return;
        }
        let room = most.saturating_sub(self.clients.standing().asking);
        for _ in 0..room.min(PER_TURN) {
            let number = self.next_in_turn(active);
            if self.clients.is_idle(number) {
                self.ask(number, self.now, out);
            }
        }
    }

    fn keep_rate(&mut self, rate: f64, active: u64, out: &mut impl Transmit) {
        for _ in 0..PER_TURN {
            let due = self.due(self.running.next, rate);
            if due > self.now || due >= self.running.ends {
                return;
            }
            let turn = self.running.next / active;
            let number = self.next_in_turn(active);
            let begun = u64::from(self.clients.requests(number, self.step_number()));
            // A client that still waits begins this one when its answer comes.
            if begun == turn && self.clients.is_idle(number) {
                self.ask(number, due, out);
            }
        }
    }

    fn keep_thinking(&mut self, ms: f64, active: u64, out: &mut impl Transmit) {
        if self.now >= self.running.ends {
            return;
        }
        for _ in 0..PER_TURN {
            // The first requests are spread over one time of thinking.
            let first = self.running.next;
            let first_due = self.running.started + (ms * 1e6 * first as f64 / active as f64) as u64;
            if first < active && first_due <= self.now {
                let number = self.next_in_turn(active);
                if self.clients.is_idle(number) {
                    self.ask(number, first_due, out);
                }
                continue;
            }
            let Some(&(due, number)) = self.running.thinking.front() else { return };
            if due > self.now {
                return;
            }
            self.running.thinking.pop_front();
            if let Some(&(_, later)) = self.running.thinking.get(AHEAD as usize) {
                self.clients.prefetch(later);
            }
            if self.clients.is_idle(number) {
                self.ask(number, due, out);
            }
        }
    }

    fn next_in_turn(&mut self, active: u64) -> u32 {
        let turn = self.running.next;
        self.running.next += 1;
        self.clients.prefetch(self.order.client((turn + AHEAD) % active));
        self.order.client(turn % active)
    }

    /// Begins a request that fell due while `number` still waited for its last answer.
    pub(super) fn catch_up(
        &mut self,
        number: u32,
        rate: f64,
        active: u64,
        out: &mut impl Transmit,
    ) {
        let rank = self.order.rank(number);
        let begun = u64::from(self.clients.requests(number, self.step_number()));
        let turn = begun * active + rank;
        if rank < active && turn < self.running.next && self.clients.is_idle(number) {
            self.ask(number, self.due(turn, rate), out);
        }
    }

    /// When the request of a turn is due.
    pub(super) fn due(&self, turn: u64, rate: f64) -> u64 {
        self.running.started + (turn as f64 * (SECOND_NS as f64 / rate)) as u64
    }

    fn ask(&mut self, number: u32, due: u64, out: &mut impl Transmit) {
        self.running.begun += 1;
        self.clients.request(number, self.step_number(), due, out);
    }
}

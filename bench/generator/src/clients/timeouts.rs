//! Time passes: retransmission timers, and acknowledgements that have waited long enough.

use xtcp_stack::Transmit;

use super::congestion::threshold;
use super::record::{Client, Marks, State, before};
use super::round_trips::{RTO_MAX, RTO_MIN, rto};
use super::{Clients, Failure, milliseconds};

/// Retransmissions before a client gives up: of a SYN, of anything else (Linux's numbers).
const SYN_RETRIES: u8 = 6;
const RETRIES: u8 = 15;

/// Timers worked off in one turn, and as many delayed acknowledgements.
pub(super) const TIMERS_PER_TURN: usize = 64;

impl Clients {
    /// Timers that are due, and acknowledgements that have waited long enough.
    pub fn on_timeout(&mut self, out: &mut impl Transmit) {
        let now = milliseconds(self.now_ns);
        let mut called = [0; TIMERS_PER_TURN];
        let count = self.wheel.take(now, &mut called);
        for &number in &called[..count] {
            self.prefetch(number);
        }
        for &number in &called[..count] {
            self.on_timer(number, now, out);
        }
        self.acknowledge_waiting(now, out);
    }

    fn on_timer(&mut self, number: u32, now: u32, out: &mut impl Transmit) {
        let client = &mut self.table[number as usize];
        client.marks.clear(Marks::IN_WHEEL);
        if !client.marks.has(Marks::TIMED) {
            return;
        }
        if before(now, client.rto_at) {
            self.stand_in_wheel(number);
            return;
        }
        if client.retries >= retries_max(client) {
            self.fail(number, Failure::Timeout);
            return;
        }
        client.retries += 1;
        let wait = (rto(client) << client.retries.min(10)).min(RTO_MAX);
        self.retransmit(number, out);
        self.start_timer(number, wait);
    }

    /// Sends the SYN again; or, from the oldest byte on, one segment at a time.
    fn retransmit(&mut self, number: u32, out: &mut impl Transmit) {
        let client = &mut self.table[number as usize];
        if client.state == State::SynSent {
            self.counters.resent += 1;
            self.send_syn(number, out);
            return;
        }
        client.ssthresh = threshold(client);
        client.cwnd = 1;
        client.dup_acks = 0;
        self.resend(number, out);
    }

    pub(super) fn start_timer(&mut self, number: u32, wait: u32) {
        let at = milliseconds(self.now_ns).wrapping_add(wait).wrapping_add(1);
        let client = &mut self.table[number as usize];
        client.rto_at = at;
        client.marks.set(Marks::TIMED);
        if !client.marks.has(Marks::IN_WHEEL) {
            self.stand_in_wheel(number);
        }
    }

    /// Puts a client into the wheel, for no longer than the shortest timer there is: so whoever
    /// stands there already is called in time for any timer that is started meanwhile.
    fn stand_in_wheel(&mut self, number: u32) {
        let now = milliseconds(self.now_ns);
        let client = &mut self.table[number as usize];
        client.marks.set(Marks::IN_WHEEL);
        let wait = client.rto_at.wrapping_sub(now).min(RTO_MIN);
        self.wheel.insert(number, now.wrapping_add(wait));
    }
}

const fn retries_max(client: &Client) -> u8 {
    if matches!(client.state, State::SynSent) { SYN_RETRIES } else { RETRIES }
}

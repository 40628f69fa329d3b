//! The end of a connection: the server's FIN, a reset from either side, and failures.

use xtcp_stack::Transmit;
use xtcp_stack::wire::tcp::{Flags, Segment};

use super::record::{Marks, State};
use super::{Clients, Event, Failure};

impl Clients {
    pub(super) fn on_fin(&mut self, number: u32, segment: &Segment<'_>, out: &mut impl Transmit) {
        let client = &mut self.table[number as usize];
        let at = segment.seq.wrapping_add(segment.payload.len() as u32);
        if at != client.rcv_nxt
            || matches!(client.state, State::TimeWait | State::Closing | State::LastAck)
        {
            self.acknowledge(number, out);
            return;
        }
        client.rcv_nxt = client.rcv_nxt.wrapping_add(1);
        match client.state {
            State::Established if client.answer_left > 0 => {
                self.fail_and_reset(number, Failure::EndedEarly, out);
            }
            State::Established => {
                client.marks.set(Marks::FIN);
                self.set_state(number, State::LastAck);
                self.transmit(number, out);
            }
            State::FinWait1 => {
                self.set_state(number, State::Closing);
                self.acknowledge(number, out);
            }
            _ => {
                self.acknowledge(number, out);
                self.end(number, State::TimeWait);
            }
        }
    }

    pub(super) fn on_reset(&mut self, number: u32) {
        match self.table[number as usize].state {
            State::TimeWait | State::Closing | State::LastAck => self.end(number, State::Closed),
            _ => self.fail(number, Failure::Reset),
        }
    }

    /// Both sides have ended. A client in TIME-WAIT was counted when it came there.
    pub(super) fn end(&mut self, number: u32, state: State) {
        let was = self.table[number as usize].state;
        self.forget(number, state);
        if was != State::TimeWait {
            self.events.push(Event::Closed(number));
        }
    }

    pub(super) fn fail(&mut self, number: u32, why: Failure) {
        self.forget(number, State::Closed);
        self.events.push(Event::Failed(number, why));
    }

    pub(super) fn fail_and_reset(&mut self, number: u32, why: Failure, out: &mut impl Transmit) {
        let seq = self.table[number as usize].snd_nxt;
        self.send(number, seq, Flags::RST | Flags::ACK, out);
        self.fail(number, why);
    }

    pub(super) fn set_state(&mut self, number: u32, state: State) {
        let client = &mut self.table[number as usize];
        let before = std::mem::replace(&mut client.state, state);
        if let Some(count) = self.standing.of(before) {
            *count -= 1;
        }
        if let Some(count) = self.standing.of(state) {
            *count += 1;
        }
    }

    /// Stops whatever is under way. The record stays for what is still heard of the connection.
    pub(super) fn forget(&mut self, number: u32, state: State) {
        self.set_state(number, state);
        let client = &mut self.table[number as usize];
        self.standing.asking -= u32::from(client.answer_left > 0);
        client.answer_left = 0;
        client.marks.clear(Marks::TIMED);
        client.marks.clear(Marks::ACK_OWED);
    }
}

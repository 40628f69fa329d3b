//! Text in: answers, compared and let go, and acknowledged at once or a little later.

use std::collections::VecDeque;

use xtcp_stack::Transmit;
use xtcp_stack::wire::tcp::{Flags, Segment};

use super::record::{Client, Marks, before};
use super::timeouts::TIMERS_PER_TURN;
use super::{Clients, Event, Failure, Habits, milliseconds};
use crate::pattern::{Answers, Pattern};

impl Clients {
    /// Text: compared and let go. `false` if the connection is over by it.
    pub(super) fn on_text(
        &mut self,
        number: u32,
        segment: &Segment<'_>,
        out: &mut impl Transmit,
    ) -> bool {
        let client = &mut self.table[number as usize];
        if before(client.rcv_nxt, segment.seq) {
            self.counters.out_of_order += 1;
            self.acknowledge(number, out);
            return false;
        }
        let skip = client.rcv_nxt.wrapping_sub(segment.seq) as usize;
        let Some(text) = segment.payload.get(skip..).filter(|text| !text.is_empty()) else {
            self.counters.old += 1;
            self.acknowledge(number, out);
            // A FIN may follow text that we have.
            return segment.flags.contains(Flags::FIN);
        };
        let len = text.len() as u32;
        if len > client.answer_left {
            self.fail_and_reset(number, Failure::TooMuch, out);
            return false;
        }
        if !is_right(client, number, text, &self.pattern, &self.habits) {
            self.fail_and_reset(number, Failure::WrongByte, out);
            return false;
        }
        self.counters.bytes_in += u64::from(len);
        client.rcv_nxt = client.rcv_nxt.wrapping_add(len);
        client.answer_left -= len;
        if client.answer_left == 0 {
            self.standing.asking -= 1;
            self.events.push(Event::Answered(number));
        }
        // More than a segment is acknowledged at once; less waits for a request to ride on.
        let unacknowledged = client.rcv_nxt.wrapping_sub(client.rcv_acked);
        if unacknowledged > u32::from(client.mss) || self.habits.delayed_ack_ms == 0 {
            self.acknowledge(number, out);
        } else {
            owe(client, number, &mut self.delayed, milliseconds(self.now_ns));
        }
        true
    }

    /// Acknowledges what has waited long enough.
    pub(super) fn acknowledge_waiting(&mut self, now: u32, out: &mut impl Transmit) {
        for _ in 0..TIMERS_PER_TURN {
            let Some(&number) = self.delayed.front() else { return };
            let client = &mut self.table[number as usize];
            let waited = (now as u16).wrapping_sub(client.ack_since);
            let owes = client.marks.has(Marks::ACK_OWED);
            if owes && waited < self.habits.delayed_ack_ms {
                return;
            }
            client.marks.clear(Marks::ACK_QUEUED);
            self.delayed.pop_front();
            if let Some(&later) = self.delayed.get(16) {
                self.prefetch(later);
            }
            if owes {
                self.acknowledge(number, out);
            }
        }
    }
}

/// An acknowledgement is due that may wait for a request to ride on.
fn owe(client: &mut Client, number: u32, delayed: &mut VecDeque<u32>, now: u32) {
    if !client.marks.has(Marks::ACK_OWED) {
        client.marks.set(Marks::ACK_OWED);
        client.ack_since = now as u16;
    }
    if !client.marks.has(Marks::ACK_QUEUED) {
        client.marks.set(Marks::ACK_QUEUED);
        delayed.push_back(number);
    }
}

/// Whether the text is what the next bytes of the answer must be.
fn is_right(client: &Client, number: u32, text: &[u8], pattern: &Pattern, habits: &Habits) -> bool {
    match habits.answers {
        Answers::Echo => {
            let seq = client.rcv_nxt.wrapping_add(client.echo_shift);
            text == pattern.request(number, seq, text.len())
        }
        Answers::Letters => text == pattern.letters(habits.answer - client.answer_left, text.len()),
    }
}

//! The ACK field: what the server has of ours, and what may go because of it.

use xtcp_stack::Transmit;
use xtcp_stack::wire::tcp::Segment;

use super::congestion::{grow, threshold};
use super::record::{Client, Marks, State, before};
use super::round_trips::{rto, sample};
use super::{Clients, milliseconds};

impl Clients {
    /// The ACK field; `false` if nothing more is to be done with the segment.
    pub(super) fn on_ack(
        &mut self,
        number: u32,
        segment: &Segment<'_>,
        out: &mut impl Transmit,
    ) -> bool {
        let now = milliseconds(self.now_ns);
        let client = &mut self.table[number as usize];
        // After a retransmission what was sent before it may be acknowledged, too.
        let sent = if client.marks.has(Marks::RESENT) { client.snd_last() } else { client.snd_nxt };
        let ack = segment.ack;
        if before(sent, ack) {
            self.acknowledge(number, out);
            return false;
        }
        if !before(client.snd_una, ack) {
            self.on_known_ack(number, segment, out);
            return true;
        }
        advance(client, ack, u32::from(segment.window) << client.scale);
        if let Some(timestamps) = segment.options.timestamps {
            sample(client, now.wrapping_sub(timestamps.echo));
        }
        if ack == client.snd_last() {
            client.marks.clear(Marks::TIMED);
            client.marks.clear(Marks::RESENT);
            return !client.marks.has(Marks::FIN) || self.on_fin_acknowledged(number);
        }
        let wait = rto(client);
        self.start_timer(number, wait);
        self.transmit(number, out);
        true
    }

    /// It says nothing new, but may move the window, or tell of a loss.
    fn on_known_ack(&mut self, number: u32, segment: &Segment<'_>, out: &mut impl Transmit) {
        let client = &mut self.table[number as usize];
        let window = u32::from(segment.window) << client.scale;
        let duplicate = segment.ack == client.snd_una
            && segment.is_empty()
            && window == client.snd_wnd
            && client.flight() > 0;
        if segment.ack == client.snd_una {
            client.snd_wnd = window;
        }
        if duplicate {
            client.dup_acks = client.dup_acks.saturating_add(1);
            if client.dup_acks == 3 {
                self.retransmit_fast(number, out);
            }
        } else if client.snd_nxt != client.snd_last() {
            self.transmit(number, out);
        }
    }

    /// Our FIN is among what is acknowledged; `false` if the connection is over by that.
    fn on_fin_acknowledged(&mut self, number: u32) -> bool {
        match self.table[number as usize].state {
            State::FinWait1 => {
                self.set_state(number, State::FinWait2);
                true
            }
            State::Closing => {
                self.end(number, State::TimeWait);
                false
            }
            State::LastAck => {
                self.end(number, State::Closed);
                false
            }
            _ => true,
        }
    }

    /// RFC 5681 section 3.2, without recovery of more than one loss in a window: the others wait for
    /// their timer.
    fn retransmit_fast(&mut self, number: u32, out: &mut impl Transmit) {
        let client = &mut self.table[number as usize];
        client.ssthresh = threshold(client);
        client.cwnd = client.ssthresh;
        self.resend(number, out);
    }
}

/// More has arrived.
fn advance(client: &mut Client, ack: u32, window: u32) {
    grow(client, ack);
    client.snd_una = ack;
    client.snd_wnd = window;
    client.retries = 0;
    client.dup_acks = 0;
    if before(client.snd_nxt, ack) {
        client.snd_nxt = ack;
    }
}

//! SEGMENT ARRIVES: the checks of RFC 9293 section 3.10.7, in their order.

use xtcp_stack::Transmit;
use xtcp_stack::wire::tcp::{Flags, Header, Options, Segment};

use super::depart::WINDOW_BYTES;
use super::record::{Client, Marks, State, before};
use super::round_trips::sample;
use super::{Clients, Event, Failure, milliseconds};

impl Clients {
    /// RFC 9293 section 3.10.7.
    pub(super) fn on_segment(
        &mut self,
        number: u32,
        segment: &Segment<'_>,
        out: &mut impl Transmit,
    ) {
        match self.table[number as usize].state {
            State::Closed => self.on_segment_of_nobody(number, segment, out),
            State::SynSent => self.on_answer_to_syn(number, segment, out),
            _ => self.on_synchronised(number, segment, out),
        }
    }

    /// RFC 9293 section 3.10.7.1.
    fn on_segment_of_nobody(
        &mut self,
        number: u32,
        segment: &Segment<'_>,
        out: &mut impl Transmit,
    ) {
        self.counters.old += 1;
        if segment.flags.contains(Flags::RST) {
            return;
        }
        let (seq, ack, flags) = if segment.flags.contains(Flags::ACK) {
            (segment.ack, 0, Flags::RST)
        } else {
            (0, segment.seq.wrapping_add(segment.len()), Flags::RST | Flags::ACK)
        };
        let options = Options::NONE;
        let header =
            Header { src_port: 0, dst_port: 0, seq, ack, flags, window: 0, urgent: 0, options };
        self.counters.segments_out += u64::from(self.path.send(number, header, &[], out));
    }

    /// RFC 9293 section 3.10.7.3, without simultaneous open: the server does not connect to us.
    fn on_answer_to_syn(&mut self, number: u32, segment: &Segment<'_>, out: &mut impl Transmit) {
        let client = &self.table[number as usize];
        let acknowledged = segment.flags.contains(Flags::ACK) && segment.ack == client.snd_nxt;
        if !acknowledged {
            self.on_segment_of_nobody(number, segment, out);
            return;
        }
        if segment.flags.contains(Flags::RST) {
            self.fail(number, Failure::Refused);
            return;
        }
        if !segment.flags.contains(Flags::SYN) {
            self.counters.old += 1;
            return;
        }
        self.agree(number, segment);
        self.set_state(number, State::Established);
        self.events.push(Event::Opened(number));
        self.acknowledge(number, out);
    }

    /// Takes over what the server says of itself with its SYN.
    fn agree(&mut self, number: u32, segment: &Segment<'_>) {
        let mss_max = self.mss();
        let client = &mut self.table[number as usize];
        let options = &segment.options;
        client.snd_una = segment.ack;
        client.rcv_nxt = segment.seq.wrapping_add(1);
        client.rcv_acked = client.rcv_nxt;
        client.echo_shift = client.snd_una.wrapping_sub(client.rcv_nxt);
        client.scale = options.window_scale.unwrap_or(0).min(14);
        client.snd_wnd = u32::from(segment.window);
        client.mss = options.mss.unwrap_or(536).clamp(88, mss_max);
        if let Some(timestamps) = options.timestamps.filter(|_| self.habits.timestamps) {
            client.marks.set(Marks::TIMESTAMPS);
            client.ts_recent = timestamps.value;
            sample(client, milliseconds(self.now_ns).wrapping_sub(timestamps.echo));
        }
        client.retries = 0;
        client.marks.clear(Marks::TIMED);
        client.marks.clear(Marks::RESENT);
    }

    /// RFC 9293 section 3.10.7.4.
    fn on_synchronised(&mut self, number: u32, segment: &Segment<'_>, out: &mut impl Transmit) {
        let client = &mut self.table[number as usize];
        if !is_acceptable(client, segment) {
            self.counters.old += 1;
            if !segment.flags.contains(Flags::RST) {
                self.acknowledge(number, out);
            }
            return;
        }
        if segment.flags.contains(Flags::RST) {
            // RFC 5961 section 3.2.
            if segment.seq == client.rcv_nxt {
                self.on_reset(number);
            } else {
                self.acknowledge(number, out);
            }
            return;
        }
        if segment.flags.contains(Flags::SYN) {
            self.acknowledge(number, out);
            return;
        }
        if !segment.flags.contains(Flags::ACK) {
            self.counters.old += 1;
            return;
        }
        if let Some(timestamps) = segment.options.timestamps {
            if !before(client.rcv_acked, segment.seq) {
                client.ts_recent = timestamps.value;
            }
        }
        if !self.on_ack(number, segment, out) {
            return;
        }
        if !segment.payload.is_empty() && !self.on_text(number, segment, out) {
            return;
        }
        if segment.flags.contains(Flags::FIN) {
            self.on_fin(number, segment, out);
        }
    }
}

/// RFC 9293 section 3.4, table 6; the window is never zero.
fn is_acceptable(client: &Client, segment: &Segment<'_>) -> bool {
    let within = |seq: u32| seq.wrapping_sub(client.rcv_nxt) < WINDOW_BYTES;
    let len = segment.len();
    within(segment.seq) || (len > 0 && within(segment.seq.wrapping_add(len - 1)))
}

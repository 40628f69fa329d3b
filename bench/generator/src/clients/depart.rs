//! Segments out: requests, what is sent again, acknowledgements.

use xtcp_stack::Transmit;
use xtcp_stack::wire::tcp::{Flags, Header, Options, Timestamps};

use super::record::{Client, Marks};
use super::round_trips::rto;
use super::{Clients, milliseconds};

/// Offered on a SYN and never exceeded by what a client reads at once: Linux's first window.
const SYN_WINDOW: u16 = 64_240;
const WINDOW_SCALE: u8 = 7;
/// The window in later segments, scaled.
const WINDOW: u16 = 502;
/// The same in bytes.
pub(super) const WINDOW_BYTES: u32 = (WINDOW as u32) << WINDOW_SCALE;

/// Bytes of an Internet and a TCP header.
const HEADERS_V4: u16 = 40;
const HEADERS_V6: u16 = 60;
const TIMESTAMPS_BYTES: u16 = 12;

impl Clients {
    /// Sends what window and congestion window let through.
    pub(super) fn transmit(&mut self, number: u32, out: &mut impl Transmit) {
        if self.send_text(number, out) {
            self.send_fin(number, out);
        }
        let client = &self.table[number as usize];
        if client.snd_una != client.snd_last() && !client.marks.has(Marks::TIMED) {
            let wait = rto(client);
            self.start_timer(number, wait);
        }
    }

    /// Says whether the FIN is next.
    fn send_text(&mut self, number: u32, out: &mut impl Transmit) -> bool {
        let client = &mut self.table[number as usize];
        let options = if client.marks.has(Marks::TIMESTAMPS) { TIMESTAMPS_BYTES } else { 0 };
        let most = u32::from(client.mss - options);
        let window = client.snd_wnd.min(u32::from(client.cwnd) * u32::from(client.mss));
        while client.snd_nxt != client.snd_end {
            let left = client.snd_end.wrapping_sub(client.snd_nxt);
            let room = window.saturating_sub(client.flight());
            let len = left.min(most).min(room);
            // Silly window avoidance (RFC 9293 section 3.8.6.2.1).
            if len == 0 || (len < left.min(most) && client.flight() > 0) {
                break;
            }
            let flags = if len == left { Flags::ACK | Flags::PSH } else { Flags::ACK };
            let header = header(client, client.snd_nxt, flags, self.now_ns);
            let text = self.pattern.request(number, client.snd_nxt, len as usize);
            if !self.path.send(number, header, text, out) {
                break;
            }
            self.counters.segments_out += 1;
            client.snd_nxt = client.snd_nxt.wrapping_add(len);
            client.rcv_acked = client.rcv_nxt;
            client.marks.clear(Marks::ACK_OWED);
        }
        client.snd_nxt == client.snd_end && client.marks.has(Marks::FIN)
    }

    fn send_fin(&mut self, number: u32, out: &mut impl Transmit) {
        let client = &mut self.table[number as usize];
        let seq = client.snd_nxt;
        client.snd_nxt = client.snd_nxt.wrapping_add(1);
        self.send(number, seq, Flags::FIN | Flags::ACK, out);
    }

    /// Sends from the oldest unacknowledged byte on; one byte if the window is shut.
    pub(super) fn resend(&mut self, number: u32, out: &mut impl Transmit) {
        let client = &mut self.table[number as usize];
        client.snd_nxt = client.snd_una;
        client.marks.set(Marks::RESENT);
        self.counters.resent += 1;
        if client.snd_wnd == 0 && client.snd_una != client.snd_end {
            let text = self.pattern.request(number, client.snd_una, 1);
            let header = header(client, client.snd_una, Flags::ACK | Flags::PSH, self.now_ns);
            self.counters.segments_out += u64::from(self.path.send(number, header, text, out));
            client.snd_nxt = client.snd_una.wrapping_add(1);
        } else {
            self.transmit(number, out);
        }
    }

    pub(super) fn send_syn(&mut self, number: u32, out: &mut impl Transmit) {
        let client = &self.table[number as usize];
        let value = milliseconds(self.now_ns);
        let options = Options {
            mss: Some(self.mss()),
            window_scale: Some(WINDOW_SCALE),
            timestamps: self.habits.timestamps.then_some(Timestamps { value, echo: 0 }),
            ..Options::NONE
        };
        let header = Header {
            src_port: 0,
            dst_port: 0,
            seq: client.snd_una,
            ack: 0,
            flags: Flags::SYN,
            window: SYN_WINDOW,
            urgent: 0,
            options,
        };
        self.counters.segments_out += u64::from(self.path.send(number, header, &[], out));
    }

    /// Says what was received so far.
    pub(super) fn acknowledge(&mut self, number: u32, out: &mut impl Transmit) {
        let seq = self.table[number as usize].snd_nxt;
        self.counters.acks_out += 1;
        self.send(number, seq, Flags::ACK, out);
    }

    /// Sends a segment without text.
    pub(super) fn send(&mut self, number: u32, seq: u32, flags: Flags, out: &mut impl Transmit) {
        let client = &mut self.table[number as usize];
        let header = header(client, seq, flags, self.now_ns);
        client.rcv_acked = client.rcv_nxt;
        client.marks.clear(Marks::ACK_OWED);
        self.counters.segments_out += u64::from(self.path.send(number, header, &[], out));
    }

    /// The largest segment that fits the link.
    pub(super) const fn mss(&self) -> u16 {
        let headers =
            if self.path.population().server().is_ipv4() { HEADERS_V4 } else { HEADERS_V6 };
        self.habits.mtu - headers
    }
}

/// A header of an established connection.
#[inline]
fn header(client: &Client, seq: u32, flags: Flags, now_ns: u64) -> Header {
    let timestamps = client
        .marks
        .has(Marks::TIMESTAMPS)
        .then(|| Timestamps { value: milliseconds(now_ns), echo: client.ts_recent });
    let options = Options { timestamps, ..Options::NONE };
    let ack = client.rcv_nxt;
    Header { src_port: 0, dst_port: 0, seq, ack, flags, window: WINDOW, urgent: 0, options }
}

//! The clients' TCP: what RFC 9293 asks of a client that connects, sends requests, reads answers at
//! once and closes.
//!
//! What a client does not do is what costs memory: it keeps no segment that arrives out of order
//! (it acknowledges what it has and the server sends again, so it does not offer SACK), and it
//! makes the bytes of a retransmission anew. Round trips are measured by timestamps, in
//! milliseconds; without timestamps the retransmission timeout stays at its first value.

use std::collections::VecDeque;

use xtcp_stack::wire::tcp::{Flags, Header, Options, Segment, Timestamps};
use xtcp_stack::{RxFrame, Transmit};

use crate::flood::Forger;
use crate::path::{Arrived, Path, PathCounters};
use crate::pattern::{Answers, Pattern, mix};
use crate::population::Population;
use crate::record::{Client, Marks, State, before};
use crate::step::Forged;
use crate::timers::Wheel;

/// Offered on a SYN and never exceeded by what a client reads at once: Linux's first window.
const SYN_WINDOW: u16 = 64_240;
const WINDOW_SCALE: u8 = 7;
/// The window in later segments, scaled.
const WINDOW: u16 = 502;
const WINDOW_BYTES: u32 = (WINDOW as u32) << WINDOW_SCALE;

/// Milliseconds.
const RTO_FIRST: u32 = 1000;
const RTO_MIN: u32 = 200;
const RTO_MAX: u32 = 120_000;
/// Retransmissions before a client gives up: of a SYN, of anything else (Linux's numbers).
const SYN_RETRIES: u8 = 6;
const RETRIES: u8 = 15;

/// RFC 6928, in segments.
const INITIAL_WINDOW: u8 = 10;
/// Frames looked at together, so that records are fetched ahead of their use.
const AHEAD: usize = 32;
/// Timers worked off in one turn.
const TIMERS_PER_TURN: usize = 64;
/// Bytes of an Internet and a TCP header.
const HEADERS_V4: u16 = 40;
const HEADERS_V6: u16 = 60;
const TIMESTAMPS_BYTES: u16 = 12;
const STEP_SHIFT: u32 = 24;

/// What all clients have in common.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Bytes of a request.
    pub request: u32,
    /// Bytes of an answer.
    pub answer: u32,
    /// What answers consist of.
    pub answers: Answers,
    /// Offer timestamps (RFC 7323), as Linux does.
    pub timestamps: bool,
    /// How long an acknowledgement waits for a request to ride on, in milliseconds; Linux's is 40.
    pub delayed_ack_ms: u16,
    /// Bytes of an IP packet on the link.
    pub mtu: u16,
}

/// What happened to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server accepted it.
    Opened(u32),
    /// The whole answer is there, every byte as it should be.
    Answered(u32),
    /// Both sides have ended, as it wished.
    Closed(u32),
    /// It is closed, and should not be.
    Failed(u32, Failure),
}

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server answered the SYN with RST.
    Refused,
    /// The server reset it.
    Reset,
    /// The server ended while a request was under way.
    EndedEarly,
    /// Nothing was acknowledged any more.
    Timeout,
    /// A byte of the answer is wrong.
    WrongByte,
    /// More came than was asked for.
    TooMuch,
}

impl Failure {
    /// The failure as the end of a sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Refused => "the server refused the connection",
            Self::Reset => "the server reset the connection",
            Self::EndedEarly => "the server ended before its answer was complete",
            Self::Timeout => "nothing was acknowledged any more",
            Self::WrongByte => "an answer had a wrong byte",
            Self::TooMuch => "more came than was asked for",
        }
    }
}

/// What the clients did, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Segments received, each with a good checksum.
    pub segments_in: u64,
    /// Segments sent.
    pub segments_out: u64,
    /// Of those, segments that carried only an acknowledgement.
    pub acks_out: u64,
    /// Segments sent again, SYN and FIN included.
    pub resent: u64,
    /// Segments that came out of order and were let go.
    pub out_of_order: u64,
    /// Segments that were old.
    pub old: u64,
    /// Bytes of answers, each compared.
    pub bytes_in: u64,
    /// Bytes of requests, without what was sent again.
    pub bytes_out: u64,
    /// Forged segments sent, which are none of the above.
    pub forged: u64,
    /// Bytes of their frames.
    pub forged_bytes: u64,
}

/// How many clients are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Waiting for the answer to their SYN.
    pub opening: u32,
    /// Established.
    pub open: u32,
    /// Ending, the server's side or their own not yet acknowledged.
    pub closing: u32,
    /// Established with a request under way.
    pub asking: u32,
}

impl Standing {
    const fn of(&mut self, state: State) -> Option<&mut u32> {
        match state {
            State::Closed | State::TimeWait => None,
            State::SynSent => Some(&mut self.opening),
            State::Established => Some(&mut self.open),
            State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck => {
                Some(&mut self.closing)
            }
        }
    }
}

/// All clients.
#[derive(Debug)]
pub struct Clients {
    table: Vec<Client>,
    standing: Standing,
    path: Path,
    forger: Forger,
    pattern: Pattern,
    habits: Habits,
    wheel: Wheel,
    /// Clients that owe an acknowledgement, those that owe it longest first.
    delayed: VecDeque<u32>,
    events: Vec<Event>,
    counters: Counters,
    key: u64,
    now_ns: u64,
}

impl Clients {
    /// Clients that are all closed. `seed` makes their bytes and sequence numbers.
    #[must_use]
    pub fn new(
        population: Population,
        own_mac: xtcp_stack::wire::ethernet::MacAddr,
        habits: Habits,
        seed: u64,
        now_ns: u64,
    ) -> Self {
        Self {
            table: vec![Client::default(); population.len() as usize],
            standing: Standing::default(),
            path: Path::new(population, own_mac),
            forger: Forger::new(seed, habits.timestamps),
            pattern: Pattern::new(seed),
            habits,
            wheel: Wheel::new(milliseconds(now_ns)),
            delayed: VecDeque::new(),
            events: Vec::new(),
            counters: Counters::default(),
            key: mix(seed ^ 0x5851_f42d_4c95_7f2d),
            now_ns,
        }
    }

    /// Bytes kept of each client.
    pub const BYTES_EACH: usize = size_of::<Client>();

    /// What they did so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// How many are where.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// What became of frames that were no segments for them.
    #[must_use]
    pub const fn path_counters(&self) -> PathCounters {
        self.path.counters
    }

    /// Who they are.
    #[must_use]
    pub const fn population(&self) -> &Population {
        self.path.population()
    }

    /// Changes the sizes of requests and answers; no request may be under way.
    pub fn set_sizes(&mut self, request: u32, answer: u32) {
        self.habits.request = request;
        self.habits.answer = answer;
    }

    /// Moves the clock; all that follows happens then.
    pub fn set_now(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// Whether it is known where the server is. If not, it is asked.
    pub fn server_is_known(&mut self, out: &mut impl Transmit) -> bool {
        self.path.is_known(milliseconds(self.now_ns), out)
    }

    /// Has client `number` fetched into the cache, for use a little later.
    pub fn prefetch(&self, number: u32) {
        if let Some(client) = self.table.get(number as usize) {
            xtcp_cpu::prefetch_write(client);
        }
    }

    /// Whether client `number` is open with no request under way.
    #[must_use]
    pub fn is_idle(&self, number: u32) -> bool {
        let client = &self.table[number as usize];
        client.state == State::Established && client.answer_left == 0
    }

    /// Whether client `number` has no connection.
    #[must_use]
    pub fn is_closed(&self, number: u32) -> bool {
        matches!(self.table[number as usize].state, State::Closed | State::TimeWait)
    }

    /// How many requests client `number` has begun in this step.
    #[must_use]
    pub fn requests(&self, number: u32, step: u8) -> u32 {
        let requests = self.table[number as usize].requests;
        if requests >> STEP_SHIFT == u32::from(step) {
            requests & ((1 << STEP_SHIFT) - 1)
        } else {
            0
        }
    }

    /// Nanoseconds since the time client `number`'s request was to begin.
    #[must_use]
    pub fn waited_ns(&self, number: u32) -> u64 {
        let begun = self.table[number as usize].begun_at;
        u64::from(begun_units(self.now_ns).wrapping_sub(begun)) << 6
    }

    /// What happened since the last call goes to the end of `into`.
    pub fn take_events(&mut self, into: &mut Vec<Event>) {
        into.append(&mut self.events);
    }

    /// Connects client `number`, which must be closed.
    pub fn open(&mut self, number: u32, out: &mut impl Transmit) {
        // RFC 6528: a clock of 4 us and a hash that nobody outside can compute.
        let iss =
            (mix(self.key ^ u64::from(number)) as u32).wrapping_add((self.now_ns >> 12) as u32);
        self.path.introduce(number, out);
        self.set_state(number, State::SynSent);
        let client = &mut self.table[number as usize];
        *client = Client {
            snd_una: iss,
            snd_nxt: iss.wrapping_add(1),
            snd_end: iss.wrapping_add(1),
            state: State::SynSent,
            marks: client.marks.only(Marks::PLACES),
            mss: 536,
            cwnd: INITIAL_WINDOW,
            ssthresh: u8::MAX,
            requests: client.requests,
            ..Client::default()
        };
        self.send_syn(number, out);
        self.start_timer(number, RTO_FIRST);
    }

    /// Sends a request on client `number`, which must be [idle](Self::is_idle); it was to begin at
    /// `due_ns`, in step `step`.
    pub fn request(&mut self, number: u32, step: u8, due_ns: u64, out: &mut impl Transmit) {
        let count = self.requests(number, step) + 1;
        let Habits { request, answer, .. } = self.habits;
        let client = &mut self.table[number as usize];
        client.requests = u32::from(step) << STEP_SHIFT | count & ((1 << STEP_SHIFT) - 1);
        client.begun_at = begun_units(due_ns);
        client.answer_left = answer;
        self.standing.asking += 1;
        client.snd_end = client.snd_end.wrapping_add(request);
        self.counters.bytes_out += u64::from(request);
        self.transmit(number, out);
    }

    /// Ends client `number`'s side, which must be [idle](Self::is_idle); the server is to end, too.
    pub fn close(&mut self, number: u32, out: &mut impl Transmit) {
        self.set_state(number, State::FinWait1);
        self.table[number as usize].marks.set(Marks::FIN);
        self.transmit(number, out);
    }

    /// Resets client `number`'s connection.
    pub fn reset(&mut self, number: u32, out: &mut impl Transmit) {
        let client = &self.table[number as usize];
        if client.state != State::SynSent {
            self.send(number, client.snd_nxt, Flags::RST | Flags::ACK, out);
        }
        self.forget(number, State::Closed);
    }

    /// Sends a segment from an address that no client has; says whether the device had room for it.
    pub fn forge(&mut self, kind: Forged, out: &mut impl Transmit) -> bool {
        let Some(len) = self.forger.send(kind, &self.path, out) else { return false };
        self.counters.forged += 1;
        self.counters.forged_bytes += len as u64;
        true
    }

    /// Frames in.
    pub fn on_burst(&mut self, frames: &[RxFrame<'_>], out: &mut impl Transmit) {
        for part in frames.chunks(AHEAD) {
            let mut arrived = arrayvec::ArrayVec::<Arrived<'_>, AHEAD>::new();
            for frame in part {
                if let Some(segment) = self.path.read(frame.bytes, out) {
                    self.prefetch(segment.number);
                    arrived.push(segment);
                }
            }
            for Arrived { number, segment } in arrived {
                self.counters.segments_in += 1;
                self.on_segment(number, &segment, out);
            }
        }
    }

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
        let most = if client.state == State::SynSent { SYN_RETRIES } else { RETRIES };
        if client.retries >= most {
            self.fail(number, Failure::Timeout);
            return;
        }
        client.retries += 1;
        let wait = (rto(client) << client.retries.min(10)).min(RTO_MAX);
        if client.state == State::SynSent {
            self.counters.resent += 1;
            self.send_syn(number, out);
        } else {
            // RFC 5681, equation 4; then from the oldest on, one segment at a time.
            let in_flight = client.flight() / u32::from(client.mss);
            client.ssthresh = u8::try_from(in_flight / 2).unwrap_or(u8::MAX).max(2);
            client.cwnd = 1;
            client.dup_acks = 0;
            self.resend(number, out);
        }
        self.start_timer(number, wait);
    }

    /// Sends from the oldest unacknowledged byte on; one byte if the window is shut.
    fn resend(&mut self, number: u32, out: &mut impl Transmit) {
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

    /// RFC 9293 section 3.10.7.
    fn on_segment(&mut self, number: u32, segment: &Segment<'_>, out: &mut impl Transmit) {
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
        let client = &mut self.table[number as usize];
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
        let options = &segment.options;
        client.snd_una = segment.ack;
        client.rcv_nxt = segment.seq.wrapping_add(1);
        client.rcv_acked = client.rcv_nxt;
        client.echo_shift = client.snd_una.wrapping_sub(client.rcv_nxt);
        client.scale = options.window_scale.unwrap_or(0).min(14);
        client.snd_wnd = u32::from(segment.window);
        let headers =
            if self.path.population().server().is_ipv4() { HEADERS_V4 } else { HEADERS_V6 };
        client.mss = options.mss.unwrap_or(536).clamp(88, self.habits.mtu - headers);
        if let Some(timestamps) = options.timestamps.filter(|_| self.habits.timestamps) {
            client.marks.set(Marks::TIMESTAMPS);
            client.ts_recent = timestamps.value;
            sample(client, milliseconds(self.now_ns).wrapping_sub(timestamps.echo));
        }
        client.retries = 0;
        client.marks.clear(Marks::TIMED);
        client.marks.clear(Marks::RESENT);
        self.set_state(number, State::Established);
        self.events.push(Event::Opened(number));
        self.acknowledge(number, out);
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

    /// The ACK field; `false` if nothing more is to be done with the segment.
    fn on_ack(&mut self, number: u32, segment: &Segment<'_>, out: &mut impl Transmit) -> bool {
        let now = milliseconds(self.now_ns);
        let client = &mut self.table[number as usize];
        let ack = segment.ack;
        // After a retransmission what was sent before it may be acknowledged, too.
        let sent = if client.marks.has(Marks::RESENT) { client.snd_last() } else { client.snd_nxt };
        if before(sent, ack) {
            self.acknowledge(number, out);
            return false;
        }
        let window = u32::from(segment.window) << client.scale;
        if !before(client.snd_una, ack) {
            let duplicate = ack == client.snd_una
                && segment.is_empty()
                && window == client.snd_wnd
                && client.flight() > 0;
            if ack == client.snd_una {
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
            return true;
        }
        grow(client, ack);
        client.snd_una = ack;
        client.snd_wnd = window;
        client.retries = 0;
        client.dup_acks = 0;
        if before(client.snd_nxt, ack) {
            client.snd_nxt = ack;
        }
        if let Some(timestamps) = segment.options.timestamps {
            sample(client, now.wrapping_sub(timestamps.echo));
        }
        if ack == client.snd_last() {
            client.marks.clear(Marks::TIMED);
            client.marks.clear(Marks::RESENT);
            return self.on_all_acknowledged(number);
        }
        let wait = rto(client);
        self.start_timer(number, wait);
        self.transmit(number, out);
        true
    }

    /// Our FIN may be among what is acknowledged; `false` if the connection is over by that.
    fn on_all_acknowledged(&mut self, number: u32) -> bool {
        let client = &self.table[number as usize];
        if !client.marks.has(Marks::FIN) {
            return true;
        }
        match client.state {
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
        let in_flight = client.flight() / u32::from(client.mss);
        client.ssthresh = u8::try_from(in_flight / 2).unwrap_or(u8::MAX).max(2);
        client.cwnd = client.ssthresh;
        self.resend(number, out);
    }

    /// Text: compared and let go. `false` if the connection is over by it.
    fn on_text(&mut self, number: u32, segment: &Segment<'_>, out: &mut impl Transmit) -> bool {
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
        let unacknowledged = client.rcv_nxt.wrapping_sub(client.rcv_acked);
        if unacknowledged > u32::from(client.mss) || self.habits.delayed_ack_ms == 0 {
            self.acknowledge(number, out);
        } else {
            self.owe(number);
        }
        true
    }

    /// An acknowledgement is due that may wait for a request to ride on.
    fn owe(&mut self, number: u32) {
        let client = &mut self.table[number as usize];
        if !client.marks.has(Marks::ACK_OWED) {
            client.marks.set(Marks::ACK_OWED);
            client.ack_since = milliseconds(self.now_ns) as u16;
        }
        if !client.marks.has(Marks::ACK_QUEUED) {
            client.marks.set(Marks::ACK_QUEUED);
            self.delayed.push_back(number);
        }
    }

    fn on_fin(&mut self, number: u32, segment: &Segment<'_>, out: &mut impl Transmit) {
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

    fn on_reset(&mut self, number: u32) {
        match self.table[number as usize].state {
            State::TimeWait | State::Closing | State::LastAck => self.end(number, State::Closed),
            _ => self.fail(number, Failure::Reset),
        }
    }

    /// Both sides have ended. A client in TIME-WAIT was counted when it came there.
    fn end(&mut self, number: u32, state: State) {
        let was = self.table[number as usize].state;
        self.forget(number, state);
        if was != State::TimeWait {
            self.events.push(Event::Closed(number));
        }
    }

    fn fail(&mut self, number: u32, why: Failure) {
        self.forget(number, State::Closed);
        self.events.push(Event::Failed(number, why));
    }

    fn fail_and_reset(&mut self, number: u32, why: Failure, out: &mut impl Transmit) {
        let seq = self.table[number as usize].snd_nxt;
        self.send(number, seq, Flags::RST | Flags::ACK, out);
        self.fail(number, why);
    }

    fn set_state(&mut self, number: u32, state: State) {
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
    fn forget(&mut self, number: u32, state: State) {
        self.set_state(number, state);
        let client = &mut self.table[number as usize];
        self.standing.asking -= u32::from(client.answer_left > 0);
        client.answer_left = 0;
        client.marks.clear(Marks::TIMED);
        client.marks.clear(Marks::ACK_OWED);
    }

    /// Sends what window and congestion window let through.
    fn transmit(&mut self, number: u32, out: &mut impl Transmit) {
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
        let fin_is_next = client.snd_nxt == client.snd_end && client.marks.has(Marks::FIN);
        if fin_is_next {
            let seq = client.snd_nxt;
            client.snd_nxt = client.snd_nxt.wrapping_add(1);
            self.send(number, seq, Flags::FIN | Flags::ACK, out);
        }
        let client = &self.table[number as usize];
        if client.snd_una != client.snd_last() && !client.marks.has(Marks::TIMED) {
            let wait = rto(client);
            self.start_timer(number, wait);
        }
    }

    fn send_syn(&mut self, number: u32, out: &mut impl Transmit) {
        let client = &self.table[number as usize];
        let headers =
            if self.path.population().server().is_ipv4() { HEADERS_V4 } else { HEADERS_V6 };
        let value = milliseconds(self.now_ns);
        let options = Options {
            mss: Some(self.habits.mtu - headers),
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
    fn acknowledge(&mut self, number: u32, out: &mut impl Transmit) {
        let seq = self.table[number as usize].snd_nxt;
        self.counters.acks_out += 1;
        self.send(number, seq, Flags::ACK, out);
    }

    /// Sends a segment without text.
    fn send(&mut self, number: u32, seq: u32, flags: Flags, out: &mut impl Transmit) {
        let client = &mut self.table[number as usize];
        let header = header(client, seq, flags, self.now_ns);
        client.rcv_acked = client.rcv_nxt;
        client.marks.clear(Marks::ACK_OWED);
        self.counters.segments_out += u64::from(self.path.send(number, header, &[], out));
    }

    fn start_timer(&mut self, number: u32, wait: u32) {
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

const fn milliseconds(ns: u64) -> u32 {
    (ns / 1_000_000) as u32
}

const fn begun_units(ns: u64) -> u32 {
    (ns >> 6) as u32
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

/// RFC 9293 section 3.4, table 6; the window is never zero.
fn is_acceptable(client: &Client, segment: &Segment<'_>) -> bool {
    let within = |seq: u32| seq.wrapping_sub(client.rcv_nxt) < WINDOW_BYTES;
    let len = segment.len();
    within(segment.seq) || (len > 0 && within(segment.seq.wrapping_add(len - 1)))
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

/// RFC 5681 section 3.1: slow start, then congestion avoidance, in whole segments.
fn grow(client: &mut Client, ack: u32) {
    let bytes = ack.wrapping_sub(client.snd_una);
    let segments = bytes.div_ceil(u32::from(client.mss)).min(255) as u8;
    if client.cwnd < client.ssthresh {
        client.cwnd = client.cwnd.saturating_add(segments);
        return;
    }
    client.acked = client.acked.saturating_add(segments);
    if client.acked >= client.cwnd {
        client.acked = 0;
        client.cwnd = client.cwnd.saturating_add(1);
    }
}

/// RFC 6298 section 2, in Jacobson's integers: `srtt` times 8, `rttvar` times 4.
fn sample(client: &mut Client, ms: u32) {
    // A clock of milliseconds may say zero; more than 4 s do not fit and are as good as 4 s.
    let ms = ms.clamp(1, 4095) as i32;
    if client.srtt == 0 {
        client.srtt = (ms * 8) as u16;
        client.rttvar = (ms * 2) as u16;
        return;
    }
    let error = ms - i32::from(client.srtt) / 8;
    let srtt = i32::from(client.srtt) + error;
    let rttvar = i32::from(client.rttvar) + error.abs() - i32::from(client.rttvar) / 4;
    client.srtt = srtt.clamp(1, 0x7fff) as u16;
    client.rttvar = rttvar.clamp(1, 0x7fff) as u16;
}

/// RFC 6298 (2.3), with Linux's lower bound.
fn rto(client: &Client) -> u32 {
    if client.srtt == 0 {
        return RTO_FIRST;
    }
    (u32::from(client.srtt) / 8 + u32::from(client.rttvar)).clamp(RTO_MIN, RTO_MAX)
}

//! The clients' TCP: what RFC 9293 asks of a client that connects, sends requests, reads answers at
//! once and closes.
//!
//! What a client does not do is what costs memory: it keeps no segment that arrives out of order
//! (it acknowledges what it has and the server sends again, so it does not offer SACK), and it
//! makes the bytes of a retransmission anew. Round trips are measured by timestamps, in
//! milliseconds; without timestamps the retransmission timeout stays at its first value.
//!
//! | room | what is in it |
//! |---|---|
//! | `record` | what is kept of one client, 64 bytes |
//! | `told` | what is told of them: events, failures, counters |
//! | `arrives` | a segment comes in: RFC 9293 section 3.10.7 |
//! | `acknowledged` | its ACK field |
//! | `text` | its text, and the acknowledgement of it |
//! | `closing` | its FIN or RST, and every other end |
//! | `depart` | segments go out, for the first time or again |
//! | `timeouts` | time passes |
//! | `timers` | the wheel in which clients wait for it |
//! | `round_trips` | RFC 6298 |
//! | `congestion` | RFC 5681 |

mod acknowledged;
mod arrives;
mod closing;
mod congestion;
mod depart;
mod record;
mod round_trips;
mod text;
mod timeouts;
mod timers;
mod told;

use std::collections::VecDeque;

use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::wire::tcp::Flags;
use xtcp_stack::{RxFrame, Transmit};

pub use told::{Counters, Event, Failure, Standing};

use self::congestion::INITIAL_WINDOW;
use self::record::{Client, Marks, State};
use self::round_trips::RTO_FIRST;
use self::timers::Wheel;
use crate::flood::Forger;
use crate::path::{Arrived, Path, PathCounters};
use crate::pattern::{Answers, Pattern, mix};
use crate::population::Population;
use crate::step::Forged;

/// Frames looked at together, so that records are fetched ahead of their use.
const AHEAD: usize = 32;

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
        own_mac: MacAddr,
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
        self.table[number as usize].requests_in(step)
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
        let Habits { request, answer, .. } = self.habits;
        let client = &mut self.table[number as usize];
        client.count_request(step);
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
}

const fn milliseconds(ns: u64) -> u32 {
    (ns / 1_000_000) as u32
}

const fn begun_units(ns: u64) -> u32 {
    (ns >> 6) as u32
}

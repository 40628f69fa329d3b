//! Who does what when: the steps, their pace, and what is told of them.

mod flooding;

use std::collections::VecDeque;

use hdrhistogram::Histogram;
use xtcp_report::sample::{Latency, Second, StepReport};
use xtcp_stack::{RxFrame, Transmit};

use crate::clients::{Clients, Counters, Event, Failure};
use crate::path::PathCounters;
use crate::step::{Action, Flood, Flow, How, Load, Pace, Step};

/// Requests, handshakes or ends begun in one turn.
const PER_TURN: u32 = 32;
/// How far ahead of its use a client is fetched.
const AHEAD: u64 = 16;
/// What was begun in a step has so long to end after it.
const GRACE_NS: u64 = 10_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Failures that are told as sentences.
const SENTENCES: usize = 5;
/// The longest latency that is told apart, in nanoseconds: 275 s, more than records can count.
const LATENCY_MAX: u64 = 1 << 38;

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The server has not yet said where it is.
    Seeking,
    /// A step is under way.
    Working,
    /// A step is over; [`Driver::go_on`] begins the next.
    Resting,
    /// All steps are done.
    Done,
}

/// What comes out of a run while it goes on.
#[derive(Clone, Debug)]
pub enum News {
    /// A second is over. The histogram is of its latencies, in nanoseconds.
    Second(Box<(Second, Histogram<u64>)>),
    /// A step is over. The histogram is of all its latencies, in nanoseconds.
    Step(Box<(StepReport, Histogram<u64>)>),
}

/// The clients and what they are to do.
#[derive(Debug)]
pub struct Driver {
    clients: Clients,
    steps: Vec<Step>,
    at: usize,
    progress: Progress,
    now: u64,
    began: u64,
    running: Running,
    order: Order,
    tally: Tally,
    events: Vec<Event>,
    news: Vec<News>,
}

/// Where a step is at.
#[derive(Debug, Default)]
struct Running {
    started: u64,
    /// When its requests or its idling end.
    ends: u64,
    /// Whose turn is next; for loads, how many turns there were.
    next: u64,
    begun: u64,
    /// Floods: turns of the clients that reconnect.
    reconnected: u64,
    /// Floods: requests of clients that have just connected.
    first_requests: u64,
    /// Floods: it is over.
    flooded: bool,
    /// Answers that came before `ends`.
    in_time: u64,
    /// Thinking clients and when they are done thinking, in that order.
    thinking: VecDeque<(u64, u32)>,
}

/// What was counted in this step and in this second.
#[derive(Debug)]
struct Tally {
    step: StepReport,
    second: Second,
    second_ends: u64,
    second_began: u64,
    at_step: Counters,
    path_at_step: PathCounters,
    at_second: Counters,
    latencies: Histogram<u64>,
    all_latencies: Histogram<u64>,
}

/// The order in which clients take turns: a stride through all of them that no prefetcher follows.
#[derive(Clone, Copy, Debug)]
struct Order {
    clients: u64,
    stride: u64,
    inverse: u64,
}

impl Order {
    fn new(clients: u32) -> Self {
        let clients = u64::from(clients.max(1));
        let mut stride = (clients as f64 * 0.618_034) as u64 | 1;
        while gcd(stride, clients) != 1 {
            stride += 2;
        }
        let stride = stride % clients.max(2);
        let inverse = inverse(stride, clients);
        Self { clients, stride, inverse }
    }

    /// The client of a rank.
    fn client(self, rank: u64) -> u32 {
        (rank % self.clients * self.stride % self.clients) as u32
    }

    /// The rank of a client.
    fn rank(self, client: u32) -> u64 {
        u64::from(client) * self.inverse % self.clients
    }
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The number whose product with `a` is 1 modulo `n`, which has no divisor in common with it.
fn inverse(a: u64, n: u64) -> u64 {
    let (mut old, mut new) = ((a as i64, 1_i64), (n as i64, 0_i64));
    while new.0 != 0 {
        let quotient = old.0 / new.0;
        (old, new) = (new, (old.0 - quotient * new.0, old.1 - quotient * new.1));
    }
    old.1.rem_euclid(n as i64) as u64
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("the bounds are constants, and sound")
}

impl Tally {
    fn new() -> Self {
        Self {
            step: StepReport::default(),
            second: Second::default(),
            second_ends: 0,
            second_began: 0,
            at_step: Counters::default(),
            path_at_step: PathCounters::default(),
            at_second: Counters::default(),
            latencies: empty(),
            all_latencies: empty(),
        }
    }
}

impl Driver {
    /// Clients that will do `steps` one after the other, from `now` on.
    #[must_use]
    pub fn new(clients: Clients, steps: Vec<Step>, now: u64) -> Self {
        let order = Order::new(clients.population().len());
        Self {
            clients,
            steps,
            at: 0,
            progress: Progress::Seeking,
            now,
            began: now,
            running: Running::default(),
            order,
            tally: Tally::new(),
            events: Vec::new(),
            news: Vec::new(),
        }
    }

    /// What they are at.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// The clients.
    #[must_use]
    pub const fn clients(&self) -> &Clients {
        &self.clients
    }

    /// How far the step is, from 0 to 1.
    #[must_use]
    pub fn share_done(&self) -> f64 {
        let all = f64::from(self.clients.population().len());
        match self.steps.get(self.at).map(|step| &step.action) {
            Some(Action::Load(_) | Action::Idle { .. } | Action::Flood(_)) => {
                let whole = self.running.ends.saturating_sub(self.running.started).max(1);
                (self.now.saturating_sub(self.running.started) as f64 / whole as f64).min(1.0)
            }
            Some(_) => self.running.next as f64 / all,
            None => 1.0,
        }
    }

    /// What is to be told since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Has a step done before those that are left.
    pub fn insert(&mut self, step: Step) {
        let at = (self.at + 1).min(self.steps.len());
        self.steps.insert(at, step);
    }

    /// Begins the next step.
    pub fn go_on(&mut self) {
        if self.progress == Progress::Resting {
            self.at += 1;
            self.begin();
        }
    }

    /// One turn at time `now`: frames in, timers, and what is to be begun. `room`: the device takes
    /// more; if not, nothing new is begun.
    pub fn turn(&mut self, frames: &[RxFrame<'_>], now: u64, room: bool, out: &mut impl Transmit) {
        self.now = now;
        self.clients.set_now(now);
        self.clients.on_burst(frames, out);
        self.attend(out);
        if self.progress == Progress::Working {
            if room {
                self.advance(out);
            }
            if self.is_over() {
                self.end_step();
            } else if now >= self.tally.second_ends {
                self.end_second();
            }
        } else if self.progress == Progress::Seeking && self.clients.server_is_known(out) {
            self.begin();
        }
        self.clients.on_timeout(out);
        self.attend(out);
    }

    fn begin(&mut self) {
        let Some(step) = self.steps.get(self.at) else {
            self.progress = Progress::Done;
            return;
        };
        self.progress = Progress::Working;
        let seconds = match &step.action {
            Action::Load(load) => load.seconds,
            Action::Idle { seconds } => *seconds,
            Action::Flood(flood) => flood.load.seconds,
            _ => 0.0,
        };
        let ends = self.now + (seconds * SECOND_NS as f64) as u64;
        self.running = Running { started: self.now, ends, ..Running::default() };
        self.tally.step = StepReport { step: step.name.clone(), ..StepReport::default() };
        self.tally.all_latencies.reset();
        if let Action::Load(load) | Action::Flood(Flood { load, .. }) = step.action {
            self.clients.set_sizes(load.request, load.answer);
            self.tally.step.active = self.active(&load);
        }
        self.begin_second();
    }

    fn active(&self, load: &Load) -> u32 {
        let all = self.clients.population().len();
        if load.active == 0 { all } else { load.active.min(all) }
    }

    /// The load of the step, a flood's too.
    fn load_of_step(&self) -> Option<Load> {
        match self.action() {
            Some(Action::Load(load) | Action::Flood(Flood { load, .. })) => Some(*load),
            _ => None,
        }
    }

    /// The step's number as requests are counted by.
    const fn step_number(&self) -> u8 {
        // 0 is what a record begins with.
        (self.at % 255) as u8 + 1
    }

    /// What happened to clients.
    fn attend(&mut self, out: &mut impl Transmit) {
        let mut events = std::mem::take(&mut self.events);
        self.clients.take_events(&mut events);
        for event in events.drain(..) {
            match event {
                Event::Opened(number) => {
                    self.tally.second.opened += 1;
                    if let Some(Action::Flood(_)) = self.action() {
                        self.running.first_requests += 1;
                        self.clients.request(number, self.step_number(), self.now, out);
                    }
                }
                Event::Answered(number) => self.on_answer(number, out),
                Event::Closed(number) => {
                    self.tally.second.closed += 1;
                    if let Some(Action::Reconnect(How::Fin, _)) = self.action() {
                        self.clients.open(number, out);
                    }
                }
                Event::Failed(number, failure) => self.on_failure(number, failure),
            }
        }
        self.events = events;
    }

    fn action(&self) -> Option<&Action> {
        let working = self.progress == Progress::Working;
        self.steps.get(self.at).filter(|_| working).map(|step| &step.action)
    }

    fn on_failure(&mut self, number: u32, failure: Failure) {
        self.tally.second.failed += 1;
        let failures = &mut self.tally.step.failures;
        if failures.len() < SENTENCES {
            let (ip, port) = self.clients.population().address(number);
            failures.push(format!("client {number} ({ip} port {port}): {}", failure.sentence()));
        }
    }

    fn on_answer(&mut self, number: u32, out: &mut impl Transmit) {
        let waited = self.clients.waited_ns(number);
        self.tally.latencies.saturating_record(waited.max(1));
        self.tally.second.answers += 1;
        self.running.in_time += u64::from(self.now < self.running.ends);
        let Some(load) = self.load_of_step() else { return };
        match load.pace {
            Pace::InFlight(_) => {}
            Pace::Think(ms) => {
                self.running.thinking.push_back((self.now + (ms * 1e6) as u64, number));
            }
            Pace::Rate(rate) => self.catch_up(number, rate, u64::from(self.active(&load)), out),
        }
    }

    /// Begins a request that fell due while `number` still waited for its last answer.
    fn catch_up(&mut self, number: u32, rate: f64, active: u64, out: &mut impl Transmit) {
        let rank = self.order.rank(number);
        let begun = u64::from(self.clients.requests(number, self.step_number()));
        let turn = begun * active + rank;
        if rank < active && turn < self.running.next && self.clients.is_idle(number) {
            self.ask(number, self.due(turn, rate), out);
        }
    }

    /// When the request of a turn is due.
    fn due(&self, turn: u64, rate: f64) -> u64 {
        self.running.started + (turn as f64 * (SECOND_NS as f64 / rate)) as u64
    }

    fn ask(&mut self, number: u32, due: u64, out: &mut impl Transmit) {
        self.running.begun += 1;
        self.clients.request(number, self.step_number(), due, out);
    }

    /// Begins what is to be begun now.
    fn advance(&mut self, out: &mut impl Transmit) {
        match self.action().cloned() {
            Some(Action::Connect(flow)) => self.connect(flow, out),
            Some(Action::Close(how, flow)) => self.close(how, flow, false, out),
            Some(Action::Reconnect(how, flow)) => self.close(how, flow, true, out),
            Some(Action::Load(load)) => self.load(&load, out),
            Some(Action::Flood(flood)) => self.flood(&flood, out),
            Some(Action::Idle { .. }) | None => {}
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

    fn everybody_had_a_turn(&self) -> bool {
        self.running.next >= u64::from(self.clients.population().len())
    }

    fn connect(&mut self, flow: Flow, out: &mut impl Transmit) {
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

    fn close(&mut self, how: How, flow: Flow, again: bool, out: &mut impl Transmit) {
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

    fn load(&mut self, load: &Load, out: &mut impl Transmit) {
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

    fn next_in_turn(&mut self, active: u64) -> u32 {
        let turn = self.running.next;
        self.running.next += 1;
        self.clients.prefetch(self.order.client((turn + AHEAD) % active));
        self.order.client(turn % active)
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

    fn is_over(&self) -> bool {
        let standing = self.clients.standing();
        match self.action() {
            Some(Action::Connect(_) | Action::Close(..) | Action::Reconnect(..)) => {
                self.everybody_had_a_turn() && standing.opening + standing.closing == 0
            }
            Some(Action::Load(load) | Action::Flood(Flood { load, .. })) => {
                let under_way = standing.asking + standing.opening > 0;
                let waits = match load.pace {
                    Pace::Rate(rate) => {
                        let all_due = self.due(self.running.next, rate) >= self.running.ends;
                        under_way || !all_due
                    }
                    _ => under_way,
                };
                self.now >= self.running.ends
                    && (!waits || self.now >= self.running.ends + GRACE_NS)
            }
            Some(Action::Idle { .. }) => self.now >= self.running.ends,
            None => false,
        }
    }

    fn begin_second(&mut self) {
        self.tally.at_second = self.clients.counters();
        self.tally.second_began = self.now;
        self.tally.second_ends = self.now + SECOND_NS;
        self.tally.second = Second::default();
        self.tally.latencies.reset();
    }

    fn end_second(&mut self) {
        let standing = self.clients.standing();
        let tally = &mut self.tally;
        let mut second = std::mem::take(&mut tally.second);
        second.step = tally.step.step.clone();
        second.at = (self.now - self.began) as f64 / SECOND_NS as f64;
        second.seconds = (self.now - tally.second_began) as f64 / SECOND_NS as f64;
        second.open = standing.open;
        second.opening = standing.opening;
        second.forged = self.clients.counters().forged - tally.at_second.forged;
        second.resent = self.clients.counters().resent - tally.at_second.resent;
        second.latency = Latency::of(&tally.latencies);
        tally.step.opened += second.opened;
        tally.step.closed += second.closed;
        tally.step.answers += second.answers;
        tally.step.failed += second.failed;
        // Both have the same bounds, so that nothing can be out of them.
        let _ = tally.all_latencies.add(&tally.latencies);
        let latencies = std::mem::replace(&mut tally.latencies, empty());
        self.news.push(News::Second(Box::new((second, latencies))));
        self.begin_second();
    }

    fn end_step(&mut self) {
        self.end_second();
        let now = self.clients.counters();
        let path = self.clients.path_counters();
        let was = self.tally.at_step;
        let mut step = std::mem::take(&mut self.tally.step);
        step.seconds = (self.now - self.running.started) as f64 / SECOND_NS as f64;
        step.open = self.clients.standing().open;
        step.requests = self.running.begun + self.running.first_requests;
        step.segments_out = now.segments_out - was.segments_out;
        step.acks_out = now.acks_out - was.acks_out;
        step.resent = now.resent - was.resent;
        step.segments_in = now.segments_in - was.segments_in;
        step.out_of_order = now.out_of_order - was.out_of_order;
        step.bytes_out = now.bytes_out - was.bytes_out;
        step.bytes_in = now.bytes_in - was.bytes_in;
        step.damaged = path.damaged;
        step.unsent = path.unsent;
        step.flood = self.flood_report();
        let asked = self.running.ends.saturating_sub(self.running.started) as f64 / 1e9;
        step.rate = match self.action() {
            Some(Action::Load(load) | Action::Flood(Flood { load, .. })) => {
                if matches!(load.pace, Pace::Rate(_)) {
                    step.missed = self.running.next.saturating_sub(self.running.begun);
                }
                self.running.in_time as f64 / asked
            }
            Some(Action::Connect(_) | Action::Reconnect(..)) => step.opened as f64 / step.seconds,
            Some(Action::Close(..)) => step.closed as f64 / step.seconds,
            Some(Action::Idle { .. }) | None => 0.0,
        };
        step.latency = Latency::of(&self.tally.all_latencies);
        let latencies = self.tally.all_latencies.clone();
        // What goes and comes before the next step begins is the next one's, so that they add up.
        (self.tally.at_step, self.tally.path_at_step) = (now, path);
        self.news.push(News::Step(Box::new((step, latencies))));
        self.progress = Progress::Resting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_has_one_rank_and_is_found_by_it() {
        for clients in [1, 2, 3, 7, 64, 1000, 99_991] {
            let order = Order::new(clients);
            let mut seen = vec![false; clients as usize];
            for rank in 0..u64::from(clients) {
                let client = order.client(rank);
                assert!(!std::mem::replace(&mut seen[client as usize], true));
                assert_eq!(order.rank(client), rank, "of {clients}");
            }
        }
    }
}

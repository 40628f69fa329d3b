//! Who does what when: the steps, their pace, and what is told of them.
//!
//! | room | what is in it |
//! |---|---|
//! | `connecting` | handshakes and ends: everybody has one turn |
//! | `loading` | requests, at each pace |
//! | `flooding` | forged segments, and what the clients do beside them |
//! | `order` | whose turn is when |
//! | `tally` | what is counted and told |

mod connecting;
mod flooding;
mod loading;
mod order;
mod tally;

use std::collections::VecDeque;

use hdrhistogram::Histogram;
use xtcp_report::sample::{Second, StepReport};
use xtcp_stack::{RxFrame, Transmit};

use self::order::Order;
use self::tally::Tally;
use crate::clients::{Clients, Event, Failure};
use crate::step::{Action, Flood, How, Load, Pace, Step};

/// Requests, handshakes or ends begun in one turn.
const PER_TURN: u32 = 32;
/// How far ahead of its use a client is fetched.
const AHEAD: u64 = 16;
/// What was begun in a step has so long to end after it.
const GRACE_NS: u64 = 10_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Failures that are told as sentences.
const SENTENCES: usize = 5;

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
}

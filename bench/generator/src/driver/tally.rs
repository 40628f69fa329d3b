//! What is counted while a step goes on, and told when a second or the step is over.

use hdrhistogram::Histogram;
use xtcp_report::sample::{Latency, Second, StepReport};

use super::{Driver, News, Progress, SECOND_NS};
use crate::clients::Counters;
use crate::path::PathCounters;
use crate::step::{Action, Pace};

/// The longest latency that is told apart, in nanoseconds: 275 s, more than records can count.
const LATENCY_MAX: u64 = 1 << 38;

/// What was counted in this step and in this second.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) step: StepReport,
    pub(super) second: Second,
    pub(super) second_ends: u64,
    second_began: u64,
    pub(super) at_step: Counters,
    pub(super) path_at_step: PathCounters,
    at_second: Counters,
    pub(super) latencies: Histogram<u64>,
    pub(super) all_latencies: Histogram<u64>,
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("the bounds are constants, and sound")
}

impl Tally {
    pub(super) fn new() -> Self {
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
    pub(super) fn begin_second(&mut self) {
        self.tally.at_second = self.clients.counters();
        self.tally.second_began = self.now;
        self.tally.second_ends = self.now + SECOND_NS;
        self.tally.second = Second::default();
        self.tally.latencies.reset();
    }

    pub(super) fn end_second(&mut self) {
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

    pub(super) fn end_step(&mut self) {
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
        step.missed = self.missed();
        step.rate = self.rate(&step);
        step.latency = Latency::of(&self.tally.all_latencies);
        let latencies = self.tally.all_latencies.clone();
        // What goes and comes before the next step begins is the next one's, so that they add up.
        (self.tally.at_step, self.tally.path_at_step) = (now, path);
        self.news.push(News::Step(Box::new((step, latencies))));
        self.progress = Progress::Resting;
    }

    /// Requests that were due and not begun.
    fn missed(&self) -> u64 {
        match self.load_of_step().map(|load| load.pace) {
            Some(Pace::Rate(_)) => self.running.next.saturating_sub(self.running.begun),
            _ => 0,
        }
    }

    /// What the step was about, per second.
    fn rate(&self, step: &StepReport) -> f64 {
        match self.action() {
            Some(Action::Load(_) | Action::Flood(_)) => {
                let asked = self.running.ends.saturating_sub(self.running.started) as f64 / 1e9;
                self.running.in_time as f64 / asked
            }
            Some(Action::Connect(_) | Action::Reconnect(..)) => step.opened as f64 / step.seconds,
            Some(Action::Close(..)) => step.closed as f64 / step.seconds,
            Some(Action::Idle { .. }) | None => 0.0,
        }
    }
}

//! One thread's share of the connections: an epoll loop that connects, loads and closes them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::connection::{Connection, Failure, Happened, Traffic};
use super::load::{Load, Pace};
use super::{Plan, StepReport};
use crate::clock;
use crate::payload::Payload;

const SCRATCH_BYTES: usize = 64 << 10;
const FAILURES_TOLD: usize = 5;
/// What epoll calls the timer.
const TIMER: usize = usize::MAX;

/// One thread's connections.
#[derive(Debug)]
pub(super) struct Driver<'p> {
    plan: &'p Plan,
    thread: u32,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// When the timer rings, if it does.
    timer_is_at: Option<Instant>,
    places: Vec<Place>,
    scratch: Vec<u8>,
    rounds_done: u32,
}

/// Where a connection lies; its number is `index * threads + thread`.
#[derive(Debug)]
struct Place {
    connection: Option<Connection>,
    number: u32,
    interest: EventFlags,
    rounds_left: u32,
}

/// The step under way.
#[derive(Debug)]
struct Step<'s> {
    done: &'s AtomicU64,
    report: StepReport,
    latency: Histogram<u64>,
    traffic: Traffic,
    outstanding: usize,
    last_progress: Instant,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl<'s> Step<'s> {
    fn new(name: &str, done: &'s AtomicU64) -> io::Result<Self> {
        Ok(Self {
            done,
            report: StepReport { step: name.to_owned(), ..StepReport::default() },
            latency: super::report::empty_histogram()?,
            traffic: Traffic::default(),
            outstanding: 0,
            last_progress: clock::now(),
            due: BinaryHeap::new(),
        })
    }

    fn succeed(&mut self) {
        self.report.done += 1;
        self.done.fetch_add(1, Ordering::Relaxed);
        self.last_progress = clock::now();
    }

    fn fail(&mut self, place: &mut Place, failure: Failure) {
        self.report.failed += 1;
        if self.report.failures.len() < FAILURES_TOLD {
            self.report.failures.push(format!("connection {}: {failure}", place.number));
        }
        place.connection = None;
        place.rounds_left = 0;
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    fn finish(mut self) -> (StepReport, Histogram<u64>) {
        self.report.bytes_sent = self.traffic.sent;
        self.report.bytes_received = self.traffic.received;
        (self.report, self.latency)
    }
}

impl<'p> Driver<'p> {
    pub(super) fn new(plan: &'p Plan, thread: u32) -> io::Result<Self> {
        let places = (thread..plan.connections)
            .step_by(plan.threads as usize)
            .map(|number| Place {
                connection: None,
                number,
                interest: EventFlags::empty(),
                rounds_left: 0,
            })
            .collect();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER as u64), EventFlags::IN)?;
        Ok(Self {
            plan,
            thread,
            epoll,
            timer,
            timer_is_at: None,
            places,
            scratch: vec![0; SCRATCH_BYTES],
            rounds_done: 0,
        })
    }

    /// Connects all, at most `connecting_max` at once.
    pub(super) fn connect(&mut self, done: &AtomicU64) -> io::Result<(StepReport, Histogram<u64>)> {
        let mut step = Step::new("connect", done)?;
        let at_once = (self.plan.connecting_max / self.plan.threads).max(1) as usize;
        let mut next = 0;
        while next < self.places.len() || step.outstanding > 0 {
            while next < self.places.len() && step.outstanding < at_once {
                step.outstanding += 1;
                self.open(next, &mut step)?;
                next += 1;
            }
            self.turn(&mut step, |_, _, step, happened| {
                if happened == Happened::Connected {
                    step.succeed();
                    step.outstanding -= 1;
                }
            })?;
        }
        Ok(step.finish())
    }

    /// Every connection makes its exchanges.
    pub(super) fn load(
        &mut self,
        load: &Load,
        done: &AtomicU64,
    ) -> io::Result<(StepReport, Histogram<u64>)> {
        let mut step = Step::new("load", done)?;
        let started = clock::now();
        for index in 0..self.places.len() {
            if self.places[index].connection.is_none() || load.rounds == 0 {
                continue;
            }
            self.places[index].rounds_left = load.rounds;
            step.outstanding += 1;
            step.due.push(Reverse((self.due(load, index, 0, started), index)));
        }
        while step.outstanding > 0 {
            self.begin_what_is_due(load, started, &mut step)?;
            self.turn(&mut step, |driver, index, step, happened| {
                driver.on_load(load, started, index, step, happened);
            })?;
        }
        self.rounds_done += load.rounds;
        Ok(step.finish())
    }

    /// Closes all in order and waits for the other side's end of stream.
    pub(super) fn close(&mut self, done: &AtomicU64) -> io::Result<(StepReport, Histogram<u64>)> {
        let mut step = Step::new("close", done)?;
        for index in 0..self.places.len() {
            let Some(connection) = &mut self.places[index].connection else { continue };
            step.outstanding += 1;
            match connection.begin_to_close() {
                Ok(()) => self.set_interest(index)?,
                Err(failure) => step.fail(&mut self.places[index], failure),
            }
        }
        while step.outstanding > 0 {
            self.turn(&mut step, |driver, index, step, happened| {
                if happened == Happened::Closed {
                    step.succeed();
                    step.outstanding -= 1;
                    driver.places[index].connection = None;
                }
            })?;
        }
        Ok(step.finish())
    }

    fn open(&mut self, index: usize, step: &mut Step<'_>) -> io::Result<()> {
        let place = &mut self.places[index];
        let target = self.plan.targets[place.number as usize % self.plan.targets.len()];
        match Connection::open(target) {
            Ok(connection) => {
                place.interest = EventFlags::OUT;
                let data = EventData::new_u64(index as u64);
                epoll::add(&self.epoll, &connection, data, place.interest)?;
                place.connection = Some(connection);
            }
            Err(failure) => step.fail(place, failure),
        }
        Ok(())
    }

    /// When the given round of a connection is due.
    fn due(&self, load: &Load, index: usize, round: u32, started: Instant) -> Instant {
        match load.pace {
            Pace::Closed => clock::now(),
            Pace::Think(pause) if round == 0 => {
                // The first requests are spread over one pause, so that they do not march in step.
                started + pause.mul_f64(index as f64 / self.places.len() as f64)
            }
            Pace::Think(pause) => clock::now() + pause,
            Pace::Rate(rate) => {
                let turn = u64::from(round) * u64::from(self.plan.connections)
                    + index as u64 * u64::from(self.plan.threads)
                    + u64::from(self.thread);
                started + Duration::from_secs_f64(turn as f64 / rate)
            }
        }
    }

    /// Counts an answer and says when the connection's next request is due.
    fn on_load(
        &mut self,
        load: &Load,
        started: Instant,
        index: usize,
        step: &mut Step<'_>,
        happened: Happened,
    ) {
        let Happened::Answered { latency } = happened else { return };
        step.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        step.succeed();
        let place = &mut self.places[index];
        place.rounds_left -= 1;
        if place.rounds_left == 0 {
            step.outstanding -= 1;
            return;
        }
        let round = load.rounds - place.rounds_left;
        step.due.push(Reverse((self.due(load, index, round, started), index)));
    }

    fn begin_what_is_due(
        &mut self,
        load: &Load,
        started: Instant,
        step: &mut Step<'_>,
    ) -> io::Result<()> {
        let now = clock::now();
        while let Some(&Reverse((due, index))) = step.due.peek() {
            if due > now {
                break;
            }
            step.due.pop();
            let place = &mut self.places[index];
            let Some(connection) = &mut place.connection else { continue };
            if !connection.is_resting() {
                continue;
            }
            let round = self.rounds_done + load.rounds - place.rounds_left;
            let seed = self.plan.seed;
            let body = load.sizes.choose(seed, place.number, round);
            let payload = Payload::new(seed, place.number, round);
            connection.begin(self.plan.framing, payload, round, body, due);
            match connection.on_ready(&mut self.scratch, &mut step.traffic) {
                Ok(happened) => {
                    self.on_load(load, started, index, step, happened);
                    self.set_interest(index)?;
                }
                Err(failure) => step.fail(place, failure),
            }
        }
        Ok(())
    }

    /// Waits for sockets that are ready (or for the next request that is due) and serves them.
    fn turn(
        &mut self,
        step: &mut Step<'_>,
        mut on: impl FnMut(&mut Self, usize, &mut Step<'_>, Happened),
    ) -> io::Result<()> {
        if step.outstanding == 0 {
            return Ok(());
        }
        let mut events: Vec<epoll::Event> = Vec::with_capacity(512);
        self.set_timer(step)?;
        let at_most = self.plan.patience.min(Duration::from_secs(1));
        let timeout = Timespec::try_from(at_most).map_err(io::Error::other)?;
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
        for event in &events {
            let index = event.data.u64() as usize;
            if index == TIMER {
                continue;
            }
            let Some(connection) = &mut self.places[index].connection else { continue };
            let before = step.traffic.sent + step.traffic.received;
            match connection.on_ready(&mut self.scratch, &mut step.traffic) {
                Ok(happened) => {
                    on(self, index, step, happened);
                    self.set_interest(index)?;
                }
                Err(failure) => step.fail(&mut self.places[index], failure),
            }
            if step.traffic.sent + step.traffic.received != before {
                step.last_progress = clock::now();
            }
        }
        if step.last_progress.elapsed() > self.plan.patience && step.due.is_empty() {
            self.give_up(step);
        }
        Ok(())
    }

    /// Sets the timer to the next request that is due; epoll's own timeout only knows milliseconds.
    fn set_timer(&mut self, step: &Step<'_>) -> io::Result<()> {
        let due = step.due.peek().map(|Reverse((due, _))| *due);
        if self.timer_is_at == due && due.is_some_and(|due| due > clock::now()) {
            return Ok(());
        }
        self.timer_is_at = due;
        // A timer of zero would never ring.
        let wait =
            due.map(|due| due.saturating_duration_since(clock::now()).max(Duration::from_nanos(1)));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = match wait {
            Some(wait) => Timespec::try_from(wait).map_err(io::Error::other)?,
            None => zero,
        };
        let once = Itimerspec { it_interval: zero, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Fails whatever has not finished.
    fn give_up(&mut self, step: &mut Step<'_>) {
        for place in &mut self.places {
            let Some(connection) = &place.connection else { continue };
            let unfinished = match step.report.step.as_str() {
                "load" => place.rounds_left > 0,
                "connect" => connection.wants_to_write(),
                _ => !connection.is_ended(),
            };
            if unfinished {
                let failure = connection.silence();
                step.fail(place, failure);
            }
        }
        step.outstanding = 0;
    }

    fn set_interest(&mut self, index: usize) -> io::Result<()> {
        let place = &mut self.places[index];
        let Some(connection) = &place.connection else { return Ok(()) };
        let wanted = if connection.wants_to_write() {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        };
        if wanted != place.interest {
            place.interest = wanted;
            epoll::modify(&self.epoll, connection, EventData::new_u64(index as u64), wanted)?;
        }
        Ok(())
    }
}

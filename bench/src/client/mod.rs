//! Thousands of kernel TCP clients in one process.
//!
//! A [`Plan`] says whom to connect to and what to do there; [`run`] does it in steps (connect all,
//! each load in turn, close all) and tells an observer how far it is. All connections stay open from
//! the first load to the last, so `connections` is how many are concurrent. Every byte of every
//! answer is compared with what was sent.

mod connection;
mod driver;
mod load;
mod report;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

pub use load::{Load, LoadError, Pace, Sizes};
pub use report::{Latency, StepReport};

use crate::clock;
use driver::Driver;

/// What surrounds a request's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Framing {
    /// Nothing: the server sends back whatever comes.
    #[default]
    Raw,
    /// The presence server's `ECHO <len>` line before each request; the answer has none.
    Presence,
}

impl Framing {
    fn header(self, body: u64) -> Vec<u8> {
        match self {
            Self::Raw => Vec::new(),
            Self::Presence => format!("ECHO {body}\n").into_bytes(),
        }
    }
}

/// Whom to connect to and what to do there.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Servers, taken in turn by connection number; at least one.
    pub targets: Vec<SocketAddr>,
    /// Connections open at once.
    pub connections: u32,
    /// Handshakes under way at once.
    pub connecting_max: u32,
    /// Threads the connections are dealt to, 1 up.
    pub threads: u32,
    /// What surrounds a request.
    pub framing: Framing,
    /// What all bytes and sizes are made from.
    pub seed: u64,
    /// How long nothing may move before what is unfinished counts as failed.
    pub patience: Duration,
    /// Loads, one after the other.
    pub loads: Vec<Load>,
}

/// What an observer is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// About ten times a second.
    Progress {
        /// `connect`, `load` or `close`.
        step: String,
        /// How many are done.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// A step is over; the next begins when the observer returns.
    Step(StepReport),
}

#[derive(Clone, Debug)]
enum Order {
    Connect,
    Load(Load),
    Close,
}

/// Runs the plan. Returns the number of connections that failed in any step.
///
/// # Errors
/// When the machine refuses what the clients themselves need (epoll, threads, files); what the
/// server does wrong is in the reports.
pub fn run(plan: &Plan, mut observe: impl FnMut(Event)) -> io::Result<u64> {
    allow_many_files()?;
    let done = AtomicU64::new(0);
    let mut failed = 0;
    std::thread::scope(|scope| {
        let (answer_to, answers) = mpsc::channel();
        let mut orders = Vec::new();
        for thread in 0..plan.threads {
            let (order_to, order_from) = mpsc::channel::<Order>();
            orders.push(order_to);
            let (answer_to, done) = (answer_to.clone(), &done);
            std::thread::Builder::new()
                .name(format!("clients-{thread}"))
                .spawn_scoped(scope, move || serve(plan, thread, &order_from, &answer_to, done))?;
        }
        let steps = std::iter::once(Order::Connect)
            .chain(plan.loads.iter().cloned().map(Order::Load))
            .chain(std::iter::once(Order::Close));
        for order in steps {
            done.store(0, Ordering::Relaxed);
            for to in &orders {
                to.send(order.clone()).map_err(io::Error::other)?;
            }
            let report = collect(plan, &order, &answers, &done, &mut observe)?;
            failed += report.failed;
            observe(Event::Step(report));
        }
        Ok(failed)
    })
}

type Answer = io::Result<(StepReport, Histogram<u64>)>;

fn serve(
    plan: &Plan,
    thread: u32,
    orders: &mpsc::Receiver<Order>,
    answers: &mpsc::Sender<Answer>,
    done: &AtomicU64,
) {
    let mut driver = match Driver::new(plan, thread) {
        Ok(driver) => driver,
        Err(error) => {
            // Nobody listens any more only when the run has already failed.
            let _ = answers.send(Err(error));
            return;
        }
    };
    for order in orders {
        let answer = match order {
            Order::Connect => driver.connect(done),
            Order::Load(load) => driver.load(&load, done),
            Order::Close => driver.close(done),
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

fn collect(
    plan: &Plan,
    order: &Order,
    answers: &mpsc::Receiver<Answer>,
    done: &AtomicU64,
    observe: &mut impl FnMut(Event),
) -> io::Result<StepReport> {
    let started = clock::now();
    let connections = u64::from(plan.connections);
    let (name, total) = match order {
        Order::Connect => ("connect", connections),
        Order::Load(load) => ("load", connections * u64::from(load.rounds)),
        Order::Close => ("close", connections),
    };
    let mut report = StepReport::default();
    let mut histogram = report::empty_histogram()?;
    let mut missing = plan.threads;
    while missing > 0 {
        match answers.recv_timeout(Duration::from_millis(100)) {
            Ok(answer) => {
                let (part, latency) = answer?;
                report.add(part);
                histogram.add(latency).map_err(io::Error::other)?;
                missing -= 1;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => observe(Event::Progress {
                step: name.to_owned(),
                done: done.load(Ordering::Relaxed),
                total,
            }),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    report.seconds = started.elapsed().as_secs_f64();
    report.latency = Latency::of(&histogram);
    if let Order::Load(Load { hgrm: Some(path), .. }) = order {
        report::write_hgrm(&histogram, path)?;
    }
    Ok(report)
}

/// Raises the limit of open files to what the machine allows.
fn allow_many_files() -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

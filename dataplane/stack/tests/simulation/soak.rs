//! All simulations over many seeds, on every core: `make soak`.
//!
//! `XTCP_SEEDS` says how many (100,000), `XTCP_FIRST_SEED` where to begin (0), `XTCP_THREADS` on how
//! many cores (all). What fails is printed with the command that replays it, and again at the end.

use std::io::Write as _;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::sim::variable;
use crate::{crowd, hostile, scarce, smoltcp, weather};

/// The name of a test that goes by seeds, and what one seed does.
pub(crate) type Simulation = (&'static str, fn(u64));

pub(crate) const SIMULATIONS: [Simulation; 9] = [
    ("weather::streams_are_equal_in_any_weather", weather::any),
    ("weather::a_sloppy_application_loses_nothing", weather::sloppy),
    ("scarce::streams_are_equal_with_next_to_no_memory", |seed| {
        scarce::prompt(seed, &mut scarce::Taken::default());
    }),
    ("scarce::a_slow_application_with_next_to_no_memory_loses_nothing", |seed| {
        scarce::slow(seed, &mut scarce::Taken::default());
    }),
    ("smoltcp::smoltcp_is_a_client_of_an_xtcp_group", smoltcp::client_of_an_xtcp_group),
    ("smoltcp::smoltcp_is_a_client_of_an_ordinary_group", smoltcp::client_of_an_ordinary_group),
    ("smoltcp::smoltcp_is_the_server", smoltcp::server),
    ("hostile::nothing_the_network_or_the_application_does_breaks_the_stack", hostile::hostile),
    ("crowd::a_thousand_connections_in_bad_weather", |seed| {
        if seed % CROWD_EVERY == 0 {
            crowd::crowd(seed);
        }
    }),
];

/// A thousand connections take as long as fifty other seeds.
const CROWD_EVERY: u64 = 50;

/// Failures after which no more are looked for.
const FAILURES_MAX: usize = 10;

/// How often it says how far it is, where nobody watches.
const REPORT: Duration = Duration::from_secs(60);

/// What all cores work on.
struct Work {
    first: u64,
    seeds: u64,
    /// The next seed, counted from `first`.
    next: AtomicU64,
    done: AtomicU64,
    over: AtomicBool,
    failures: Mutex<Vec<String>>,
    started: Instant,
}

impl Work {
    fn new(first: u64, seeds: u64) -> Self {
        Self {
            first,
            seeds,
            next: AtomicU64::new(0),
            done: AtomicU64::new(0),
            over: AtomicBool::new(false),
            failures: Mutex::new(Vec::new()),
            started: now(),
        }
    }

    /// One core's part: seed after seed, each through every simulation.
    fn run(&self, simulations: &[Simulation]) {
        while !self.over.load(Ordering::Relaxed) {
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            if place >= self.seeds {
                return;
            }
            let seed = self.first + place;
            for (name, simulation) in simulations {
                if catch_unwind(|| simulation(seed)).is_err() {
                    self.note_failure(seed, name);
                }
            }
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn note_failure(&self, seed: u64, name: &str) {
        let replay = format!(
            "XTCP_SEED={seed} cargo test -p xtcp-stack --test simulation -- --exact {name}"
        );
        eprintln!("\nseed {seed} fails; this replays it:\n  {replay}");
        let mut failures = self.failures.lock().expect("nobody panics with it");
        failures.push(replay);
        if failures.len() >= FAILURES_MAX {
            self.over.store(true, Ordering::Relaxed);
        }
    }

    /// How far it is, in a line.
    fn progress(&self) -> String {
        let (done, took) = (self.done.load(Ordering::Relaxed), (now() - self.started));
        let rate = done as f64 / took.as_secs_f64().max(0.001);
        let left = self.seeds.saturating_sub(done) as f64 / rate.max(0.001);
        let failures = self.failures.lock().expect("nobody panics with it").len();
        format!(
            "{done} of {} seeds, {:.0} %, {rate:.1} seeds/s, {} left, {failures} failed",
            self.seeds,
            100.0 * done as f64 / self.seeds.max(1) as f64,
            clock(left)
        )
    }

    /// Says how far it is until all cores are done, in one line that is written over if somebody
    /// watches.
    fn report(&self, is_done: impl Fn() -> bool) {
        let watched = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let mut due = now();
        while !is_done() {
            if now() >= due {
                let line = self.progress();
                if watched {
                    eprint!("\r\x1b[K{line}");
                    let _ = std::io::stderr().flush();
                } else {
                    eprintln!("{line}");
                }
                due += if watched { Duration::from_millis(500) } else { REPORT };
            }
            thread::sleep(Duration::from_millis(50));
        }
        let end = if watched { "\r\x1b[K" } else { "" };
        eprintln!("{end}{} in {}", self.progress(), clock((now() - self.started).as_secs_f64()));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how fast it goes is measured here and decides nothing"
)]
fn now() -> Instant {
    Instant::now()
}

/// Hours, minutes and seconds.
fn clock(seconds: f64) -> String {
    let seconds = seconds.min(359_999.0) as u64;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Runs simulations over seeds on so many cores, until all is done or `stop` says so.
fn soak(work: &Work, threads: usize, simulations: &[Simulation], stop: impl Fn() -> bool) {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work.run(simulations))).collect();
        work.report(|| {
            if stop() {
                work.over.store(true, Ordering::Relaxed);
            }
            workers.iter().all(thread::ScopedJoinHandle::is_finished)
        });
    });
}

/// Ends early, and says how far it is, on Ctrl-C: each core ends the seed it is at.
#[test]
#[ignore = "it runs for hours: make soak"]
fn every_simulation_for_a_night() {
    let interrupted = std::sync::Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, interrupted.clone())
        .expect("a signal");
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads =
        variable("XTCP_THREADS").map_or(cores, |n| usize::try_from(n).unwrap_or(1).max(1));
    let work = Work::new(
        variable("XTCP_FIRST_SEED").unwrap_or(0),
        variable("XTCP_SEEDS").unwrap_or(100_000),
    );
    soak(&work, threads, &SIMULATIONS, || interrupted.load(Ordering::Relaxed));
    let failures = work.failures.into_inner().expect("nobody panics with it");
    if interrupted.load(Ordering::Relaxed) {
        eprintln!("interrupted; XTCP_FIRST_SEED={} goes on", work.first + work.done.into_inner());
    }
    assert!(failures.is_empty(), "these fail:\n{}", failures.join("\n"));
}

/// What fails is found on every core, is told with its seed, and ends nothing before there are many.
#[test]
fn a_soak_finds_the_seeds_that_fail() {
    fn fails_at_some(seed: u64) {
        if seed % 40 == 7 {
            // A panic without a word: what other tests say is theirs.
            std::panic::resume_unwind(Box::new(seed));
        }
    }
    let work = Work::new(100, 200);
    soak(&work, 2, &[("some::test", fails_at_some)], || false);
    let many = Work::new(0, 100_000);
    soak(&many, 2, &[("some::test", fails_at_some)], || false);
    assert_eq!(work.done.load(Ordering::Relaxed), 200);
    let mut failures = work.failures.into_inner().expect("nobody panics with it");
    failures.sort_unstable();
    let seeds = [127, 167, 207, 247, 287];
    let replay = seeds.map(|seed| {
        format!("XTCP_SEED={seed} cargo test -p xtcp-stack --test simulation -- --exact some::test")
    });
    assert_eq!(failures, replay);
    assert!(many.done.into_inner() < 1000, "it ends when much fails");
}

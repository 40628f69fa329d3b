//! One measurement: between two looks at the cores' distance, again when they moved, told and kept.

use std::path::{Path, PathBuf};

use indicatif::HumanCount;
use rustix::thread::sched_getaffinity;
use serde::{Deserialize, Serialize};
use xtcp_bench::appliance::Programs;
use xtcp_report::sample::Latency;

use crate::distance::round_trip_ns;
use crate::pair::{Measured, Outcome, Pair};
use crate::screen::Screen;

/// The two cores have moved when their round trip changed by more than this factor.
const MOVED: f64 = 1.5;
/// Times a measurement during which the cores moved is made.
const TRIES: usize = 3;

/// What is measured where only a thousand of all who are open talk.
pub(crate) const BY_FEW: &str = "exchanges by 1,000 of them";

/// What one measurement came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Case {
    /// Its name: who answers, and what is asked.
    pub(crate) name: String,
    /// Who answers, over what.
    pub(crate) server: String,
    /// Connections open.
    pub(crate) open: u32,
    /// What was measured: exchanges, set-ups, closes, reconnections.
    pub(crate) what: String,
    /// Bytes of request and of answer.
    pub(crate) bytes: u32,
    /// Per second.
    pub(crate) rate: f64,
    /// Nanoseconds of work of the server for each; of a kernel, of its whole core.
    pub(crate) busy_ns: f64,
    /// Share of the time the server worked.
    pub(crate) busy_share: f64,
    /// Segments on the wire for each.
    pub(crate) segments: f64,
    /// Latency of exchanges.
    pub(crate) latency: Option<Latency>,
    /// Connections that failed.
    pub(crate) failed: u64,
    /// Requests that were due and never begun.
    pub(crate) missed: u64,
    /// Segments the clients sent again.
    pub(crate) resent: u64,
    /// The round trip of a cache line between the cores, before and after, in nanoseconds.
    pub(crate) distance_ns: (f64, f64),
    /// Whether it changed too much in every try.
    pub(crate) moved: bool,
}

/// Memory of a server's process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Connections it held open.
    pub(crate) open: u32,
    /// Connections its tables have room for.
    pub(crate) room: u32,
    /// Bytes it held in all.
    pub(crate) bytes: u64,
}

/// Where things are, how long loads last, and what was measured.
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    pub(crate) out: PathBuf,
    pub(crate) seconds: f64,
    pub(crate) cases: Vec<Case>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) screen: Screen,
    /// Whether the priority of processes is left as it is.
    pub(crate) polite: bool,
    /// The clients' core and the server's.
    pub(crate) cores: (usize, usize),
}

impl Bench {
    pub(crate) fn new(out: &Path, seconds: f64, screen: Screen, polite: bool) -> Outcome<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..1024).filter(|core| allowed.is_set(*core));
        let first = cores.next().ok_or("no core")?;
        let second =
            cores.next().ok_or("two cores are needed: one for the server, one for the clients")?;
        Ok(Self {
            programs: Programs::locate()?,
            out: out.to_owned(),
            seconds,
            cases: Vec::new(),
            memory: Vec::new(),
            screen,
            polite,
            cores: (first, second),
        })
    }

    pub(crate) fn distance(&self) -> f64 {
        round_trip_ns(self.cores.0, self.cores.1).unwrap_or(f64::NAN)
    }

    /// Has a step done between two measurements of the cores' distance; again if they moved and there
    /// is time.
    pub(crate) fn measure(
        &mut self,
        pair: &mut Pair,
        server: &str,
        what: &str,
        bytes: u32,
        step: &str,
    ) -> Outcome<Case> {
        // What is closed cannot be closed again.
        let tries = if what == "closes" { 1 } else { TRIES };
        let mut attempt = 1;
        loop {
            let began = self.screen.elapsed();
            let before = self.distance();
            let measured = pair.step(step, &self.screen)?;
            let case = self.case(server, what, bytes, before, &measured);
            let took = self.screen.elapsed() - began;
            if !case.moved || attempt >= tries || !self.screen.has_time_for(took) {
                self.keep(case.clone());
                return Ok(case);
            }
            self.screen.say(&format!("  the cores moved during {}: again", case.name));
            attempt += 1;
        }
    }

    pub(crate) fn case(
        &self,
        server: &str,
        what: &str,
        bytes: u32,
        before: f64,
        measured: &Measured,
    ) -> Case {
        let after = self.distance();
        let clients = &measured.clients;
        let count = match what {
            "set-ups" | "reconnections" => clients.opened,
            "closes" => clients.closed,
            _ => clients.answers,
        };
        let each = count.max(1) as f64;
        // What was closed was open before.
        let closed =
            if what == "closes" { u32::try_from(clients.closed).unwrap_or(u32::MAX) } else { 0 };
        let open = clients.open.max(closed);
        if let Some(why) = clients.failures.first() {
            self.screen.say(&format!("  {} clients failed, as this one: {why}", clients.failed));
        }
        Case {
            name: format!("{server}, {} open, {}", grouped(f64::from(open)), sized(what, bytes)),
            server: server.to_owned(),
            open,
            what: what.to_owned(),
            bytes,
            rate: clients.rate,
            busy_ns: measured.busy_ns / each,
            busy_share: measured.busy_share,
            segments: (clients.segments_in + clients.segments_out) as f64 / each,
            latency: clients.latency,
            failed: clients.failed,
            missed: clients.missed,
            resent: clients.resent,
            distance_ns: (before, after),
            moved: !(before / after < MOVED && after / before < MOVED),
        }
    }

    pub(crate) fn keep(&mut self, case: Case) {
        let latency = case.latency.map_or_else(String::new, |l| {
            format!("  p50 {:.1}  p99 {:.1}  p99.9 {:.1} us", l.p50_us, l.p99_us, l.p99_9_us)
        });
        self.screen.say(&format!(
            "  {:<72} {:>10.0}/s  {:>6.0} ns of the server each  cores {:.0}/{:.0} ns{}{latency}",
            case.name,
            case.rate,
            case.busy_ns,
            case.distance_ns.0,
            case.distance_ns.1,
            if case.moved { " (they moved)" } else { "" },
        ));
        self.cases.push(case);
    }
}

/// `1,234,567`.
pub(crate) fn grouped(value: f64) -> HumanCount {
    HumanCount(value.round_ties_even() as u64)
}

/// What is measured, told with its size: `exchanges of 64 B at half of the peak`.
pub(crate) fn sized(what: &str, bytes: u32) -> String {
    if bytes == 0 {
        return what.to_owned();
    }
    let (things, how) = what
        .split_once(' ')
        .map_or((what, String::new()), |(things, how)| (things, format!(" {how}")));
    format!("{things} of {bytes} B{how}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_follows_what_it_is_the_size_of() {
        assert_eq!(sized("set-ups", 0), "set-ups");
        assert_eq!(sized("exchanges", 64), "exchanges of 64 B");
        assert_eq!(sized(BY_FEW, 64), "exchanges of 64 B by 1,000 of them");
    }

    #[test]
    fn numbers_are_whole_and_in_groups_of_three() {
        for (value, text) in
            [(0.4, "0"), (999.5, "1,000"), (1e3, "1,000"), (1_234_567.2, "1,234,567")]
        {
            assert_eq!(grouped(value).to_string(), text);
        }
    }
}

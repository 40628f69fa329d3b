//! Hostile and broken input against the running dataplane, frame by frame from a packet socket: what
//! each must be answered with. Every row of the list is a test with a name, of one address family or
//! of both.
//!
//! Needs root and a release build (`make test` makes it). The rows of one setting share a dataplane,
//! one after the other, so that what one leaves behind would be noticed by the next.
//!
//! What a frame on the wire cannot bring about is tested elsewhere: applications that close (N12,
//! N13), TIME-WAIT (N14, N15) and full queues (N19) in `dataplane/stack/tests/hostile`, as are
//! checksums a device lies about (N41); chains of buffers (N36) in the engine; exhaustion (N37) in
//! `dataplane/stack/tests/sharing`; replays (N42) in `dataplane/stack/tests/simulation.rs`; a bad wire
//! (N43) in `bench/tests/kernel/loss.rs`.

#[expect(dead_code, reason = "the tests against the kernel need more of it")]
#[path = "../kernel/rig.rs"]
mod rig;

mod addresses;
mod control;
mod closing;
mod crowds;
mod established;
mod fragments;
mod lab;
mod lasting;
mod link;
mod listening;
mod malformed;
mod odd;
mod opening;
mod packets;
mod pieces;
mod rows;
mod served;
mod wire;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use lab::{Lab, Setting};
use libtest_mimic::{Arguments, Trial};
use rig::Rig;
use rows::Row;

const ROWS: &[&[Row]] = &[
    malformed::ROWS,
    listening::ROWS,
    addresses::ROWS,
    established::ROWS,
    opening::ROWS,
    fragments::ROWS,
    control::ROWS,
    link::ROWS,
    lasting::ROWS,
    crowds::ROWS,
    closing::ROWS,
    pieces::ROWS,
    odd::ROWS,
];

/// The machine, and the dataplane that runs on it at present.
#[derive(Default)]
struct Bench {
    lab: Option<Lab>,
    rig: Option<Rig>,
}

impl Bench {
    /// The dataplane of this setting; another is ended first.
    fn lab(&mut self, setting: Setting) -> &mut Lab {
        if self.lab.as_ref().is_some_and(|lab| lab.setting != setting) {
            self.lab = None;
        }
        let rig = self.rig.get_or_insert_with(Rig::new);
        self.lab.get_or_insert_with(|| Lab::start(rig, setting))
    }
}

fn main() -> ExitCode {
    // The wire is one, and so are its counters.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let bench = Arc::new(Mutex::new(Bench::default()));
    let mut rows: Vec<&'static Row> = ROWS.iter().copied().flatten().collect();
    rows.sort_by_key(|row| row.setting as u8);
    let mut trials = Vec::new();
    for row in rows {
        for family in row.families {
            let bench = Arc::clone(&bench);
            let name = format!("{}::{family:?}", row.name).to_lowercase();
            trials.push(Trial::test(name, move || {
                // A row that failed leaves nothing that the next would like to have.
                let failed = bench.is_poisoned();
                bench.clear_poison();
                let mut bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
                if failed {
                    bench.lab = None;
                }
                (row.run)(bench.lab(row.setting), *family);
                Ok(())
            }));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(bench);
    conclusion.exit_code()
}

//! Hostile and broken input against the running dataplane, frame by frame from a packet socket: what
//! each must be answered with. Every row of the list is a test with a name, of one address family or
//! of both.
//!
//! Needs root and a release build (`make test` makes it). The rows of one setting share a dataplane,
//! one after the other, so that what one leaves behind would be noticed by the next.
//!
//! `docs/hostile.md` says which row is where. What no frame and no application can bring about is
//! tested elsewhere, and named there: a clock that jumps, checksums a device lies about (N41), seeds
//! that are tried again (N42), a thousand connections on a bad wire (N43).

#[expect(dead_code, reason = "the tests against the kernel need more of it")]
#[path = "../kernel/rig.rs"]
mod rig;

mod addresses;
mod closing;
mod control;
mod crowds;
mod established;
mod fragments;
mod lab;
mod lasting;
mod link;
mod listening;
mod malformed;
mod odd;
mod odd_packets;
mod opening;
mod packets;
mod pieces;
mod rows;
mod served;
mod settings;
mod wire;

use std::cell::RefCell;
use std::process::ExitCode;

use lab::{Family, Lab, Setting};
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
    odd_packets::ROWS,
];

/// The machine, and the dataplane that runs on it at present.
#[derive(Default)]
struct Bench {
    lab: Option<Lab>,
    rig: Option<Rig>,
    /// A row is being run, or has failed.
    at_work: bool,
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

thread_local! {
    /// An application of XTCP stays with its thread, and all rows run in the first.
    static BENCH: RefCell<Bench> = RefCell::default();
}

/// Runs a row on the dataplane of its setting.
fn run(row: &Row, family: Family) {
    BENCH.with_borrow_mut(|bench| {
        // A row that failed leaves nothing that the next would like to have.
        if std::mem::replace(&mut bench.at_work, true) {
            bench.lab = None;
        }
        (row.run)(bench.lab(row.setting), family);
        bench.at_work = false;
    });
}

fn main() -> ExitCode {
    // The wire is one, and so are its counters.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let mut rows: Vec<&'static Row> = ROWS.iter().copied().flatten().collect();
    rows.sort_by_key(|row| row.setting as u8);
    let mut trials = Vec::new();
    for row in rows {
        for &family in row.families {
            let name = format!("{}::{family:?}", row.name).to_lowercase();
            trials.push(Trial::test(name, move || {
                run(row, family);
                Ok(())
            }));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(BENCH.take());
    conclusion.exit_code()
}

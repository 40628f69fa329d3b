//! `make demo` and `make run`: the whole appliance on one machine, driven by kernel clients.
//!
//! ```text
//!   here                                        namespace xtcp-demo
//!   presence   xtcpd                            nc, xtcp-bench kernel-client, tcpdump
//!       \       |                                       |
//!        xtcp-dataplane ==== demo0 --- veth --- peer ===+
//! ```
//!
//! Everything made is written into a [`Ledger`] first. Whatever ends the demo (its own end, a failure,
//! a panic, Ctrl-C) undoes what the ledger says, and so does the next start after a `kill -9`.

mod conversation;
mod ledger;
mod load;
mod names;
mod report;
mod screen;
mod stage;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::appliance::ApplianceError;
use crate::capture::CaptureError;
use crate::machine::{MachineError, need_root};
use crate::process::ProcessError;

use ledger::Ledger;
use screen::Screen;
use stage::Stage;

/// What the demo is asked to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Connections open at once, half IPv4, half IPv6
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(2..=19_000))]
    pub connections: u32,
    /// Exchanges of 1 KB on every connection, as fast as they go
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Exchanges per second over all connections while latency is measured
    #[arg(long, default_value_t = 5000.0)]
    pub rate: f64,
    /// Exchanges on every connection while latency is measured
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub paced_rounds: u32,
    /// Where the capture and the distribution of latencies are left
    #[arg(long, default_value = "bench/out")]
    pub out: PathBuf,
}

/// Why the demo failed.
#[derive(Debug)]
pub enum DemoError {
    /// The machine.
    Machine(MachineError),
    /// The appliance.
    Appliance(ApplianceError),
    /// A process.
    Process(ProcessError),
    /// The capture.
    Capture(CaptureError),
    /// A file.
    File(PathBuf, io::Error),
    /// Another demo runs.
    Busy(PathBuf),
    /// Something of the demo's names is there and is not the demo's.
    InTheWay(PathBuf),
    /// Something did not hold that had to.
    NotHeld(String),
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(error) => write!(f, "{error}"),
            Self::Appliance(error) => write!(f, "{error}"),
            Self::Process(error) => write!(f, "{error}"),
            Self::Capture(error) => write!(f, "{error}"),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Busy(lock) => write!(
                f,
                "a demo is running already (it holds {}); stop it with Ctrl-C first",
                lock.display()
            ),
            Self::InTheWay(path) => write!(
                f,
                "{} is there already and is not the demo's; the demo needs its name, so remove it",
                path.display()
            ),
            Self::NotHeld(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for DemoError {}

impl From<MachineError> for DemoError {
    fn from(error: MachineError) -> Self {
        Self::Machine(error)
    }
}

impl From<ApplianceError> for DemoError {
    fn from(error: ApplianceError) -> Self {
        Self::Appliance(error)
    }
}

impl From<ProcessError> for DemoError {
    fn from(error: ProcessError) -> Self {
        Self::Process(error)
    }
}

impl From<CaptureError> for DemoError {
    fn from(error: CaptureError) -> Self {
        Self::Capture(error)
    }
}

/// Brings everything up, drives it, reports, and takes everything away again.
///
/// # Errors
/// When anything did not hold; what was made is gone nevertheless.
pub fn demo(options: &Options) -> Result<(), DemoError> {
    with_ledger(|ledger, screen| {
        let out = &options.out;
        std::fs::create_dir_all(out).map_err(|error| DemoError::File(out.clone(), error))?;
        let stage = Stage::set(ledger, screen)?;
        screen.step("three people talk, with nc");
        conversation::hold(&stage, ledger, screen)?;
        let driven = load::drive(&stage, ledger, screen, options)?;
        screen.step("reading the capture");
        report::tell(&driven, options)
    })
}

/// Brings everything up and keeps it until Ctrl-C.
///
/// # Errors
/// When it does not come up, or a process ends by itself.
pub fn run() -> Result<(), DemoError> {
    with_ledger(|ledger, screen| {
        let mut stage = Stage::set(ledger, screen)?;
        stage.tell_how_to_connect();
        stage.wait_for_an_end()
    })
}

fn with_ledger(
    body: impl FnOnce(&Ledger, &mut Screen) -> Result<(), DemoError>,
) -> Result<(), DemoError> {
    need_root()?;
    let ledger = Ledger::open()?;
    ledger.undo_on_signals_and_panics()?;
    let mut screen = Screen::new();
    let outcome = body(&ledger, &mut screen);
    screen.clear();
    ledger.wait_if_ending();
    if outcome.is_err() {
        ledger.keep_logs(Path::new("bench/out"));
    }
    ledger.undo();
    outcome
}

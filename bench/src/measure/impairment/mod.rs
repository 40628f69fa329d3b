//! The impairment matrix: what loss, reordering, duplication, corruption and a narrow place do to
//! transfers by XTCP and by the kernel's own TCP, over the same path and with the same kernel clients.

mod cases;
mod report;
mod stage;
pub mod transfer;
mod verdict;
pub mod weather;
pub mod wire;

use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use self::cases::{Impairment, KINDS, Kind, ROWS, SIMULATED};
use self::stage::{LEFT, PORT, SERVER, Side, Stage};
use self::transfer::Outcome;
use self::verdict::Verdict;
use super::{Failure, publish};

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// A sixth of the bytes, and of the rows loss of 5 %, reordering, corruption and a narrow place
    #[arg(long)]
    pub quick: bool,
    /// Instead of the matrix, the wires of the table that the stack's simulator keeps, and bulk to the
    /// clients only; several minutes
    #[arg(long, conflicts_with = "quick")]
    pub simulated: bool,
    /// Only rows whose name begins so, e.g. "loss"
    #[arg(long, default_value = "")]
    pub row: String,
    /// Only kinds whose name begins so: down, up, exchange
    #[arg(long, default_value = "")]
    pub kind: String,
    /// The stack acknowledges what comes by itself, not the application
    #[arg(long)]
    pub on_receive: bool,
    /// How often each case is run; the report has the median
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub repeat: u32,
    /// What chance decides is decided by this, and by the number of the case
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Keep every capture
    #[arg(long)]
    pub keep: bool,
    /// Where the report and the captures are left
    #[arg(long, default_value = "bench/out")]
    pub out: PathBuf,
    /// Put the table into this file, between its marks: bench/README.md
    #[arg(long, conflicts_with_all = ["quick", "row", "kind", "on_receive"])]
    pub readme: Option<PathBuf>,
}

/// Rows of a quick run.
const QUICK: [&str; 4] = ["loss 5", "reordered", "corrupted", "narrow, 20"];
/// How much less a quick run transfers.
const QUICK_SHARE: u64 = 6;
const PATIENCE: Duration = Duration::from_secs(120);

impl Options {
    fn rows(&self) -> Vec<Impairment> {
        let quick = |row: &Impairment| QUICK.iter().any(|name| row.name.starts_with(name));
        let wanted =
            |row: &Impairment| row.name.starts_with(&self.row) && (!self.quick || quick(row));
        let all = if self.simulated { &SIMULATED[..] } else { &ROWS };
        all.iter().copied().filter(wanted).collect()
    }

    fn kinds(&self) -> Vec<Kind> {
        let wanted = |kind: &Kind| {
            let is_bulk_down = matches!(kind, Kind::Down(_));
            kind.name().starts_with(&self.kind) && (is_bulk_down || !self.simulated)
        };
        KINDS.into_iter().filter(wanted).collect()
    }

    fn share(&self) -> u64 {
        if self.quick { QUICK_SHARE } else { 1 }
    }
}

/// One run of one case.
#[derive(Clone, Debug)]
struct Measured {
    row: Impairment,
    kind: Kind,
    side: Side,
    /// Megabits a second, of all connections together.
    goodput: f64,
    p99_ms: f64,
    verdict: Verdict,
    /// Of what the server sent: frames, those the wire lost, those of them that found its queue full.
    lost: [u64; 3],
    /// Frames the capture could not keep.
    missed: u64,
}

/// Measures and reports; whatever time says is only told.
///
/// # Errors
/// When something is missing, a byte is lost or changed, or a segment is not what it should be.
pub fn run(options: &Options) -> Result<(), Failure> {
    std::fs::create_dir_all(&options.out)?;
    let (rows, kinds) = (options.rows(), options.kinds());
    if rows.is_empty() || kinds.is_empty() {
        return Err("no row or kind is called so; leave --row and --kind out to have all".into());
    }
    let stage = Stage::set()?;
    let mut all = Vec::new();
    for side in [Side::Linux, Side::Xtcp] {
        let served = stage.serve(side, options.on_receive)?;
        for row in &rows {
            for kind in &kinds {
                for turn in 0..options.repeat {
                    let one = measure(&stage, options, (side, *row, *kind, turn))?;
                    say(&one);
                    all.push(one);
                }
            }
        }
        drop(served);
    }
    publish(&report::text(options, &all), &options.out, "impairments.txt")?;
    let markdown = options.out.join("impairments.md");
    std::fs::write(&markdown, report::markdown(&all))?;
    if let Some(readme) = &options.readme {
        let text = std::fs::read_to_string(readme)?;
        let table = report::for_readme(options, &all, &machine());
        let text = report::put(options, &text, &table)
            .ok_or("the README lacks the marks to put the table between")?;
        std::fs::write(readme, text)?;
    }
    let mut faults = report::faults(&all);
    for (warning, case) in report::warnings(&all) {
        if is_ours(&stage, options, &warning, case)? {
            faults.push(format!("every time of XTCP, and never of Linux: {warning}"));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Faults(faults).into()) }
}

/// Runs in which a warning must come again, and runs of Linux's that must not have it.
const AGAIN: [(Side, u32); 2] = [(Side::Xtcp, 2), (Side::Linux, 4)];

/// Whether a warning on our segments is ours, and no chance: the case is run again, on both sides.
fn is_ours(
    stage: &Stage,
    options: &Options,
    warning: &str,
    (row, kind): (Impairment, Kind),
) -> Result<bool, Failure> {
    let mut shown = [Vec::new(), Vec::new()];
    for ((side, times), shown) in AGAIN.into_iter().zip(&mut shown) {
        let served = stage.serve(side, options.on_receive)?;
        for turn in 0..times {
            let one = measure(stage, options, (side, row, kind, options.repeat + turn))?;
            say(&one);
            shown.push(one.verdict.remarks.contains_key(warning));
        }
        drop(served);
    }
    Ok(verdict::is_ours(&shown[0], &shown[1]))
}

/// What it was measured on, in a line.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let name = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let name = name.trim_start_matches(|c: char| c == ':' || c.is_whitespace());
    format!("{name}, {cores} cores, Linux {}", kernel.trim())
}

type Case = (Side, Impairment, Kind, u32);

fn measure(stage: &Stage, options: &Options, case: Case) -> Result<Measured, Failure> {
    let (side, row, kind, turn) = case;
    let name = format!("{}, {}, {}", row.name, kind.name(), side.name());
    let in_case = |error: Failure| -> Failure { format!("{name}: {error}").into() };
    let file = options.out.join(format!(
        "impairment-{}.pcap",
        name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    ));
    let seed = options.seed + u64::from(turn);
    let mut wire = stage.wire(row.weather, seed)?;
    let capture = stage.capture(&file)?;
    let plan = kind.plan(&row, options.share());
    let port = kind.control().port(PORT);
    let clients = stage.clients(port, &format!("{plan} --seed {seed}"))?;
    let said = clients.finish(PATIENCE).map_err(|error| in_case(error.into()))?;
    let outcome = said.iter().find_map(|line| serde_json::from_str::<Outcome>(line).ok());
    let outcome = outcome.ok_or_else(|| in_case("the clients told nothing".into()))?;
    let missed = capture.finish()?;
    wire.stop()?;
    let lost = wire::told_of(LEFT, &wire.said());
    let lost = lost.ok_or_else(|| in_case("the wire did not say what it lost".into()))?;
    let verdict = verdict::judge(&file, SERVER, row.weather.corrupt > 0).map_err(in_case)?;
    if !options.keep && verdict.faults.is_empty() {
        std::fs::remove_file(&file)?;
    }
    let (goodput, p99_ms) = figures(&outcome, kind.bytes(&row, options.share()), &plan);
    Ok(Measured { row, kind, side, goodput, p99_ms, verdict, lost, missed })
}

/// Goodput of all connections together in Mbit/s, as if each took the mean of the times (the last
/// one's luck would count for all otherwise), and the 99th percentile of the times in ms.
fn figures(outcome: &Outcome, bytes: u64, plan: &str) -> (f64, f64) {
    let mut took = outcome.took_us.clone();
    took.sort_unstable();
    let transfers = took.len().max(1);
    let mean_us = took.iter().sum::<u64>() as f64 / transfers as f64;
    let words: Vec<&str> = plan.split(' ').collect();
    let connections = words.get(1).and_then(|word| word.parse::<f64>().ok()).unwrap_or(1.0);
    let goodput = connections * bytes as f64 * 8.0 / mean_us.max(1.0);
    let p99 = took.get((transfers * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
    (goodput, p99 as f64 / 1000.0)
}

fn say(one: &Measured) {
    let mut out = std::io::stderr().lock();
    // Whoever does not listen need not be told.
    let _ = writeln!(
        out,
        "{:<6} {:<15} {:<14} {:>7.2} Mbit/s  p99 {:>8.1} ms  {} segments again ({} in vain) for {} \
         lost ({} in the queue){}",
        one.side.name(),
        one.row.name,
        one.kind.name(),
        one.goodput,
        one.p99_ms,
        one.verdict.again,
        one.verdict.spurious,
        one.lost[1],
        one.lost[2],
        if one.verdict.faults.is_empty() { "" } else { "  FAULTS" }
    );
}

/// What must not be, a sentence each.
#[derive(Debug)]
struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the captures show what must not be:\n{}", self.0.join("\n"))
    }
}

impl std::error::Error for Faults {}

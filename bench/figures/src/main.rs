//! `make bench`: every figure in one run, beside the Linux kernel's on the same machine.
#![forbid(unsafe_code)]

mod cases;
mod distance;
mod pair;
mod server;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use xtcp_bench::clock;
use xtcp_bench::machine::need_root;
use xtcp_report::compare;
use xtcp_report::machine::Machine;

use cases::{Bench, held_by_memory};
use pair::Outcome;
use table::Figures;

/// Measures, compares, reports.
#[derive(Debug, Parser)]
#[command(version)]
enum Arguments {
    /// Runs all cases and writes the table, JSON and charts
    Table {
        /// Directory for what is written
        #[arg(long, default_value = "bench/out")]
        out: PathBuf,
        /// File whose table is replaced
        #[arg(long)]
        readme: Option<PathBuf>,
        /// Most connections; fewer if memory holds no more
        #[arg(long, default_value_t = 10_000_000)]
        most: u32,
        /// Seconds of each load
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// Only these cases: alone, application, kernel
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Puts two runs (JSON files) side by side
    Report {
        /// The first
        a: PathBuf,
        /// The second
        b: PathBuf,
    },
    /// Serves an echo on the XTCP interface: the application of the table's cases
    Server {
        /// The appliance's name
        #[arg(long, default_value = "xtcp")]
        instance: String,
        /// Where its sockets are
        #[arg(long, default_value = "/run/xtcp")]
        run_dir: PathBuf,
        /// Its port
        #[arg(long, default_value_t = 7)]
        port: u16,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse() {
        Arguments::Table { out, readme, most, seconds, only } => {
            table(&out, readme.as_deref(), most, seconds, &only)
        }
        Arguments::Report { a, b } => report(&a, &b),
        Arguments::Server { instance, run_dir, port } => server::serve(&instance, run_dir, port),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtcp-figures: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(a: &Path, b: &Path) -> Outcome<()> {
    let read = |path: &Path| -> Outcome<serde_json::Value> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_str(&text)
            .map_err(|error| format!("{} is no run: {error}", path.display()))?)
    };
    print!("{}", compare::table(&read(a)?, &read(b)?));
    Ok(())
}

fn table(
    out: &Path,
    readme: Option<&Path>,
    most: u32,
    seconds: f64,
    only: &[String],
) -> Outcome<()> {
    need_root()?;
    let began = clock::now();
    let mut bench = Bench::new(out, seconds)?;
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    if wanted("alone") {
        bench.alone(1000, true)?;
        if most >= 1_000_000 {
            bench.alone(1_000_000, true)?;
        }
        let held = held_by_memory(most);
        if held > 1_000_000 {
            bench.alone(held, false)?;
        }
    }
    if wanted("application") {
        bench.application(1000)?;
        if most >= 1_000_000 {
            bench.application(1_000_000)?;
        }
    }
    if wanted("kernel") {
        // A process of the kernel's has 20,000 descriptors on many machines.
        for connections in [1000, 10_000] {
            bench.beside_the_kernel(connections)?;
        }
    }
    let figures = Figures {
        command: std::env::args().collect::<Vec<_>>().join(" "),
        machine: Machine::look(),
        took: began.elapsed().as_secs_f64(),
        cases: std::mem::take(&mut bench.cases),
        memory: std::mem::take(&mut bench.memory),
    };
    figures.write(out, readme)?;
    println!("\n{}", figures.markdown());
    Ok(())
}

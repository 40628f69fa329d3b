//! `make bench`: every figure in one run, beside the Linux kernel's on the same machine.
#![forbid(unsafe_code)]

mod cases;
mod distance;
mod measure;
mod pair;
mod priority;
mod screen;
mod stage;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use xtcp_bench::machine::need_root;
use xtcp_report::compare;
use xtcp_report::machine::Machine;

use cases::{Kind, held_by_memory};
use measure::Bench;
use pair::Outcome;
use screen::Screen;
use stage::Stage;
use table::{Failed, Figures};

/// Measures, compares, reports.
#[derive(Debug, Parser)]
#[command(version)]
enum Arguments {
    /// Runs all cases and writes the table, JSON and charts
    Table(Table),
    /// Puts two runs (JSON files) side by side
    Report {
        /// The first
        a: PathBuf,
        /// The second
        b: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Table {
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
    /// Minutes that are not exceeded: what does not fit is left out and told
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Two to three minutes: a hundred thousand connections at most, loads of a second
    #[arg(long)]
    quick: bool,
    /// Leave the priority as it is; otherwise all runs at the highest, so that other work on the machine
    /// disturbs less
    #[arg(long)]
    polite: bool,
    /// Only these cases: alone, answer, application, kernel, cores
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse() {
        Arguments::Table(options) => table(&options),
        Arguments::Report { a, b } => report(&a, &b).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
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

impl Table {
    /// What is run, the most telling first.
    fn kinds(&self) -> Vec<Kind> {
        let (few, many) = if self.quick { (1000, 100_000) } else { (1000, 1_000_000) };
        let many = many.min(self.most);
        let mut kinds = vec![Kind::Alone(few), Kind::Alone(many)];
        // A process of the kernel's has 20,000 descriptors on many machines.
        let on_both = if self.quick { &[10_000][..] } else { &[1000, 10_000][..] };
        kinds.extend(on_both.iter().flat_map(|open| [Kind::Linux(*open), Kind::Veth(*open)]));
        kinds.extend([Kind::Application(few), Kind::Application(many), Kind::Cores]);
        kinds.extend([Kind::Answer(64), Kind::Answer(1024)]);
        let most = held_by_memory(self.most);
        if !self.quick && most > many {
            kinds.extend([Kind::Alone(most), Kind::Application(most)]);
        }
        kinds.dedup();
        let wanted =
            |kind: &Kind| self.only.is_empty() || self.only.iter().any(|o| o == kind.group());
        kinds.retain(wanted);
        kinds
    }

    fn seconds(&self) -> f64 {
        if self.quick { self.seconds.min(1.0) } else { self.seconds }
    }
}

/// Runs the cases; one that fails is told, and the others go on. Says whether all went well.
fn table(options: &Table) -> Outcome<bool> {
    need_root()?;
    let stage = Stage::set(options.polite)?;
    let (kinds, seconds) = (options.kinds(), options.seconds());
    let expected = kinds.iter().map(|kind| kind.expected(seconds)).sum();
    let limit = Duration::try_from_secs_f64(options.minutes * 60.0)?;
    let mut bench =
        Bench::new(&options.out, seconds, Screen::new(expected, limit), options.polite)?;
    let mut figures = Figures {
        command: std::env::args().collect::<Vec<_>>().join(" "),
        machine: Machine::look(),
        ..Figures::default()
    };
    for (index, kind) in kinds.iter().enumerate() {
        let name = format!("{} of {}: {}", index + 1, kinds.len(), kind.name());
        let outcome = if bench.screen.begin(&name, kind.expected(seconds)) {
            bench.run(*kind)
        } else {
            Err(format!("left out: it does not fit into {} minutes", options.minutes).into())
        };
        bench.screen.end();
        stage.wait_if_ending();
        if let Err(error) = outcome {
            bench.screen.say(&format!("  FAILED: {error}"));
            figures.failed.push(Failed { name: kind.name(), why: error.to_string() });
        }
        figures.took = bench.screen.elapsed();
        figures.cases.clone_from(&bench.cases);
        figures.memory.clone_from(&bench.memory);
        figures.write(&options.out, None)?;
    }
    bench.screen.clear();
    figures.write(&options.out, options.readme.as_deref())?;
    println!("\n{}", figures.markdown());
    Ok(figures.failed.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Table {
        let words = ["xtcp-figures", "table"].into_iter().chain(line.split_whitespace());
        match Arguments::parse_from(words) {
            Arguments::Table(options) => options,
            Arguments::Report { .. } => panic!("no table"),
        }
    }

    #[test]
    fn the_whole_table_is_expected_within_its_time() {
        let all = options("");
        let expected: f64 = all.kinds().iter().map(|kind| kind.expected(all.seconds())).sum();
        assert!(expected < 15.0 * 60.0, "{expected} s, with what is run again to come");
        let quick = options("--quick");
        let expected: f64 = quick.kinds().iter().map(|kind| kind.expected(quick.seconds())).sum();
        assert!(expected < 3.0 * 60.0, "{expected} s");
    }

    #[test]
    fn cases_are_chosen_by_group_and_by_size() {
        assert!(options("--only cores").kinds() == [Kind::Cores]);
        assert_eq!(options("--only alone --most 1000").kinds(), [Kind::Alone(1000)]);
        assert!(options("").kinds().contains(&Kind::Linux(10_000)));
    }
}

//! The matrix as a table: each case once, XTCP beside Linux.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::cases::{Impairment, Kind};
use super::stage::Side;
use super::transfer::Control;
use super::{Measured, Options};

/// A case's runs, one side's.
struct Runs<'m>(Vec<&'m Measured>);

impl Runs<'_> {
    fn median(&self, figure: impl Fn(&Measured) -> f64) -> f64 {
        let mut all: Vec<f64> = self.0.iter().map(|one| figure(one)).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(0.0)
    }

    fn goodput(&self) -> f64 {
        self.median(|one| one.goodput)
    }

    fn p99_ms(&self) -> f64 {
        self.median(|one| one.p99_ms)
    }

    /// Of a hundred segments with text, how many were sent again, and how many of them in vain.
    fn again(&self) -> String {
        let sum = |count: fn(&Measured) -> u64| self.0.iter().map(|one| count(one)).sum::<u64>();
        let texts = sum(|one| one.verdict.texts).max(1) as f64;
        let share = |count: u64| count as f64 * 100.0 / texts;
        let (again, spurious) = (sum(|one| one.verdict.again), sum(|one| one.verdict.spurious));
        format!("{:.1} ({:.1})", share(again), share(spurious))
    }

    /// Of a hundred frames, how many the wire lost, and how many of them in its queue.
    fn lost(&self) -> String {
        let sum = |place: usize| self.0.iter().map(|one| one.lost[place]).sum::<u64>() as f64;
        let share = |place: usize| sum(place) * 100.0 / sum(0).max(1.0);
        format!("{:.1} ({:.1})", share(1), share(2))
    }
}

/// A line of the table.
fn lines(all: &[Measured]) -> Vec<(Impairment, Kind, Runs<'_>, Runs<'_>)> {
    let mut cases: Vec<(Impairment, Kind)> = Vec::new();
    for one in all {
        if !cases.contains(&(one.row, one.kind)) {
            cases.push((one.row, one.kind));
        }
    }
    let runs = |row: Impairment, kind: Kind, side: Side| {
        let wanted = |one: &&Measured| (one.row, one.kind, one.side) == (row, kind, side);
        Runs(all.iter().filter(wanted).collect())
    };
    cases
        .into_iter()
        .map(|(row, kind)| (row, kind, runs(row, kind, Side::Xtcp), runs(row, kind, Side::Linux)))
        .collect()
}

/// Columns of the table.
const HEADINGS: [&str; 11] = [
    "wire",
    "transfer",
    "XTCP Mbit/s",
    "Linux Mbit/s",
    "ratio",
    "XTCP p99 ms",
    "Linux p99 ms",
    "XTCP again %",
    "Linux again %",
    "XTCP lost %",
    "Linux lost %",
];

fn cells(all: &[Measured]) -> Vec<[String; 11]> {
    let cells = |(row, kind, ours, theirs): (Impairment, Kind, Runs<'_>, Runs<'_>)| {
        [
            row.name.to_owned(),
            kind.name().to_owned(),
            format!("{:.2}", ours.goodput()),
            format!("{:.2}", theirs.goodput()),
            format!("{:.2}", ours.goodput() / theirs.goodput().max(0.001)),
            format!("{:.1}", ours.p99_ms()),
            format!("{:.1}", theirs.p99_ms()),
            ours.again(),
            theirs.again(),
            ours.lost(),
            theirs.lost(),
        ]
    };
    lines(all).into_iter().map(cells).collect()
}

pub(super) fn text(options: &Options, all: &[Measured]) -> String {
    let mut text = format!(
        "Transfers over an impaired wire, 10 ms each way: a server over XTCP ({}) beside one on the \
         kernel's TCP,\nthe same kernel clients and wire (seed {}), {} run(s) of each. Goodput: of \
         all connections together, by the\nmean time of theirs. p99: of the transfers' times. \
         Again: of the servers' segments with text, those sent\nagain, (those sent again although \
         they had been acknowledged), as tshark sees them. Lost: of the servers'\nframes, those the \
         wire lost, (those of them that found its queue full).\n\n",
        if options.on_receive { "acknowledges on receive" } else { "acknowledges on commit" },
        options.seed,
        options.repeat,
    );
    let line = |cells: &[String; 11]| {
        let [wire, transfer, rest @ ..] = cells;
        let mut line = format!("{wire:<15} {transfer:<14}");
        for cell in rest {
            // Writing to a string cannot fail.
            let _ = write!(line, " {cell:>13}");
        }
        line + "\n"
    };
    text += &line(&HEADINGS.map(str::to_owned));
    for cells in cells(all) {
        text += &line(&cells);
    }
    text += "\n";
    text += &remarks(all);
    text
}

/// Of a row of the simulator's wires: what its own server gets, of the table that is kept beside it.
fn kept(row: &str, kind: Kind) -> Option<&'static str> {
    const TABLE: &str = include_str!("../../../../dataplane/stack/tests/goodput.txt");
    let (loss, rtt) = row.strip_suffix(" ms")?.split_once(" %, ")?;
    let column = match kind {
        Kind::Down(Control::NewReno) => 4,
        Kind::Down(Control::Cubic) => 5,
        Kind::Up | Kind::Exchange => return None,
    };
    let lines = TABLE.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = lines.take_while(|cells| cells.first() != Some(&"queue"));
    let cells = found.into_iter().find(|cells| cells.starts_with(&[loss, rtt]))?;
    cells.get(column).copied()
}

/// The table as a README has it: how it was made, and a column for the simulator where there is one.
pub(super) fn for_readme(options: &Options, all: &[Measured], machine: &str) -> String {
    let what = if options.simulated { "--simulated " } else { "" };
    let mut text = format!(
        "`xtcp-bench impairments {what}--repeat {} --seed {}`, {machine}.\n\n",
        options.repeat, options.seed
    );
    let mut lines = lines(all).into_iter().map(|(row, kind, ..)| kept(row.name, kind));
    for (number, line) in markdown(all).lines().enumerate() {
        let cell = match number {
            _ if !options.simulated => String::new(),
            0 => " simulator Mbit/s |".to_owned(),
            1 => "--:|".to_owned(),
            _ => format!(" {} |", lines.next().flatten().unwrap_or_default()),
        };
        text += &format!("{line}{cell}\n");
    }
    text
}

/// Where the table of a run goes in a README.
fn marks(options: &Options) -> [&'static str; 2] {
    if options.simulated {
        ["<!-- impairments: simulated -->", "<!-- end of impairments: simulated -->"]
    } else {
        ["<!-- impairments: matrix -->", "<!-- end of impairments: matrix -->"]
    }
}

/// `readme` with the table between its marks; `None` when it lacks them.
pub(super) fn put(options: &Options, readme: &str, table: &str) -> Option<String> {
    let [begin, end] = marks(options);
    let (head, rest) = readme.split_once(begin)?;
    let (_, tail) = rest.split_once(end)?;
    Some(format!("{head}{begin}\n{table}{end}{tail}"))
}

pub(super) fn markdown(all: &[Measured]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&HEADINGS.map(str::to_owned));
    text += "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for cells in cells(all) {
        text += &line(&cells);
    }
    text
}

/// All remarks on one side's segments, whatever the case.
fn remarks_of(all: &[Measured], side: Side) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for one in all.iter().filter(|one| one.side == side) {
        for (remark, count) in &one.verdict.remarks {
            *sum.entry(remark.clone()).or_default() += count;
        }
    }
    sum
}

fn remarks(all: &[Measured]) -> String {
    let (ours, theirs) = (remarks_of(all, Side::Xtcp), remarks_of(all, Side::Linux));
    let mut text =
        format!("{:>8} {:>8}  tshark's remarks on the server's segments\n", "XTCP", "Linux");
    let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    for name in names {
        let count = |of: &BTreeMap<String, u64>| of.get(name).copied().unwrap_or(0);
        let _ = writeln!(text, "{:>8} {:>8}  {name}", count(&ours), count(&theirs));
    }
    let missed: u64 = all.iter().map(|one| one.missed).sum();
    if missed > 0 {
        let _ = writeln!(text, "\nThe captures lack {missed} frames.");
    }
    text
}

/// Warnings on our segments that Linux's never got, whatever the case, and the first case of each.
pub(super) fn warnings(all: &[Measured]) -> BTreeMap<String, (Impairment, Kind)> {
    let of_linux = remarks_of(all, Side::Linux);
    let mut odd = BTreeMap::new();
    // A frame that the capture lacks makes the expert remark on the next.
    for one in all.iter().filter(|one| one.side == Side::Xtcp && one.missed == 0) {
        for warning in one.verdict.warnings.iter().filter(|name| !of_linux.contains_key(*name)) {
            odd.entry(warning.clone()).or_insert((one.row, one.kind));
        }
    }
    odd
}

/// What must not be, whatever the other side's segments get.
pub(super) fn faults(all: &[Measured]) -> Vec<String> {
    let mut faults = Vec::new();
    // Linux sends 0xffff where a checksum comes to 0; that is its own affair.
    for one in all.iter().filter(|one| one.side == Side::Xtcp) {
        let (row, kind) = (one.row.name, one.kind.name());
        for fault in &one.verdict.faults {
            faults.push(format!("{row}, {kind}: {fault}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::super::cases::{KINDS, SIMULATED};
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn every_row_of_the_simulators_wires_is_in_its_table() {
        for row in SIMULATED {
            for kind in [Kind::Down(Control::NewReno), Kind::Down(Control::Cubic)] {
                let kept = kept(row.name, kind).and_then(|cell| cell.parse::<f64>().ok());
                assert!(kept.is_some_and(|rate| rate > 0.0 && rate < 20.0), "{row:?}");
            }
            assert_eq!(kept(row.name, KINDS[2]), None);
        }
    }

    #[test]
    fn a_table_goes_between_the_marks_that_are_there() {
        let readme = include_str!("../../../README.md");
        for (words, other) in [(&["x"][..], "simulated"), (&["x", "--simulated"], "matrix")] {
            let options = Line::parse_from(words).options;
            let written = put(&options, readme, "TABLE\n").expect("the marks are there");
            let again = put(&options, &written, "TABLE\n").expect("the marks are still there");
            assert_eq!(again, written);
            assert!(written.contains("-->\nTABLE\n<!-- end of impairments"), "{other}");
            assert!(written.contains(&format!("<!-- impairments: {other} -->")));
            assert_eq!(put(&options, "no marks", "TABLE"), None);
        }
    }
}

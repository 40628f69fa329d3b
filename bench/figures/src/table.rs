//! The figures as a table, as plots and as JSON.

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xtcp_report::machine::Machine;
use xtcp_report::plot::{self, Axis, Series};

use crate::measure::{BY_FEW, Case, Memory, grouped, sized};
use crate::pair::Outcome;

/// Everything of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// The command line.
    pub(crate) command: String,
    /// On what.
    pub(crate) machine: Machine,
    /// How long it took, in seconds.
    pub(crate) took: f64,
    /// The cases.
    pub(crate) cases: Vec<Case>,
    /// Memory by connections.
    pub(crate) memory: Vec<Memory>,
    /// Cases that came to nothing, or not to their end.
    pub(crate) failed: Vec<Failed>,
}

/// A case that failed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) name: String,
    pub(crate) why: String,
}

impl Figures {
    /// By connections: the bytes that each costs beyond what the smallest case holds, and those of the
    /// whole process divided by them.
    fn bytes_each(&self) -> Vec<(u32, f64, f64)> {
        let Some(least) = self.memory.iter().min_by_key(|memory| memory.room) else {
            return Vec::new();
        };
        let more = self.memory.iter().filter(|memory| memory.room > least.room);
        let each = more.map(|memory| {
            let bytes = memory.bytes.saturating_sub(least.bytes) as f64;
            let whole = memory.bytes as f64 / f64::from(memory.open.max(1));
            (memory.open, bytes / f64::from(memory.room - least.room), whole)
        });
        each.collect()
    }

    /// The table in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "{}\n\nCommand: `{}` ({:.0} s)\n\n",
            self.machine.line(),
            self.command,
            self.took
        );
        text += "| case | per second | server's ns each | segments each | p50 / p99 / p99.9 / p99.99 in µs | cores' round trip in ns |\n";
        text += "|---|---:|---:|---:|---|---|\n";
        for case in &self.cases {
            let latency = case.latency.map_or_else(String::new, |l| {
                format!(
                    "{:.1} / {:.1} / {:.1} / {:.1}",
                    l.p50_us, l.p99_us, l.p99_9_us, l.p99_99_us
                )
            });
            let moved = if case.moved { " (moved)" } else { "" };
            let again = match case.resent {
                0 => String::new(),
                resent => format!(" ({} sent again)", grouped(resent as f64)),
            };
            let segments = match case.segments {
                0.0 => String::new(),
                segments => format!("{segments:.2}{again}"),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {segments} | {latency} | {:.0} / {:.0}{moved} |",
                case.name,
                grouped(case.rate),
                case.busy_ns,
                case.distance_ns.0,
                case.distance_ns.1
            );
        }
        text += "\n| memory of the dataplane's process | each connection | all of it, by connections |\n";
        text += "|---|---:|---:|\n";
        for (open, bytes, whole) in self.bytes_each() {
            let open = grouped(f64::from(open));
            let _ = writeln!(text, "| {open} open, idle | {bytes:.1} B | {whole:.1} B |");
        }
        text += &self.ratios();
        text + &self.what_went_wrong()
    }

    /// What a reader has to know before believing the table.
    fn what_went_wrong(&self) -> String {
        let mut text = String::new();
        for case in self.cases.iter().filter(|case| case.failed > 0 || case.missed > 0) {
            let _ = writeln!(
                text,
                "\n{}: {} connections failed, {} requests were due and not made.",
                case.name, case.failed, case.missed
            );
        }
        for Failed { name, why } in &self.failed {
            let why = why.lines().next().unwrap_or_default();
            let _ = writeln!(text, "\n{name}: not to its end, {why}");
        }
        text
    }

    /// What compares, as ratios.
    fn ratios(&self) -> String {
        let mut text = String::from("\n| ratio | |\n|---|---:|\n");
        for bytes in [64, 1024] {
            let memif = || self.cases.iter().filter(is(MEMIF, "exchanges", bytes));
            if let Some(few) = memif().min_by_key(|case| case.open) {
                let talking = self.cases.iter().filter(is(MEMIF, BY_FEW, bytes));
                let all = memif().filter(|case| case.open > few.open).map(|case| (case, ""));
                for (many, word) in all.chain(talking.map(|case| (case, " by 1,000"))) {
                    let _ = writeln!(
                        text,
                        "| exchanges of {bytes} B{word} with {} open, against {} open | {:.2} |",
                        grouped(f64::from(many.open)),
                        grouped(f64::from(few.open)),
                        many.rate / few.rate
                    );
                }
            }
            // These two were measured one after the other, so the cores were as far apart in both.
            for few in self.cases.iter().filter(is(MEMIF, BY_FEW, bytes)) {
                for all in memif().filter(|all| all.open == few.open) {
                    let _ = writeln!(
                        text,
                        "| exchanges of {bytes} B by all {} open, against by 1,000 of them | {:.2} |",
                        grouped(f64::from(all.open)),
                        all.rate / few.rate
                    );
                }
            }
        }
        let threads = |cores| {
            let name = format!("stack and clients in one thread, {cores}");
            self.cases.iter().find(|case| case.server == name).map(|case| case.rate)
        };
        if let (Some(one), Some(two)) = (threads("one core"), threads("two cores")) {
            let _ = writeln!(
                text,
                "| two stacks on two cores, nothing shared, against one: rate | {:.2} |",
                two / one
            );
        }
        for (what, bytes) in [("set-ups", 0), ("closes", 0), ("exchanges", 64), ("exchanges", 1024)]
        {
            for kernel in self.cases.iter().filter(is("Linux (veth)", what, bytes)) {
                let ours = self.cases.iter().filter(is("dataplane alone (veth)", what, bytes));
                for ours in ours.filter(|ours| ours.open == kernel.open) {
                    let _ = writeln!(
                        text,
                        "| {}, {} open, this project / Linux, same veth and clients: rate | {:.2} |",
                        sized(what, bytes),
                        grouped(f64::from(kernel.open)),
                        ours.rate / kernel.rate
                    );
                }
            }
        }
        text
    }

    /// Writes everything into `out`, and the table into `readme` between its marks.
    pub(crate) fn write(&self, out: &Path, readme: Option<&Path>) -> Outcome<()> {
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join("figures.json"), serde_json::to_string_pretty(self)?)?;
        let markdown = self.markdown();
        std::fs::write(out.join("figures.md"), &markdown)?;
        self.draw(out)?;
        if let Some(readme) = readme {
            let text = std::fs::read_to_string(readme)?;
            let (head, rest) =
                text.split_once(BEGIN).ok_or("no mark in the README to put the table behind")?;
            let (_, tail) =
                rest.split_once(END).ok_or("no mark in the README to end the table at")?;
            std::fs::write(readme, format!("{head}{BEGIN}\n{markdown}{END}{tail}"))?;
        }
        Ok(())
    }

    fn draw(&self, out: &Path) -> Outcome<()> {
        let open = Axis { name: "connections open", logarithmic: true };
        for (what, bytes, file) in
            [("exchanges", 64, "64"), ("exchanges", 1024, "1024"), ("set-ups", 0, "set-ups")]
        {
            let mut series: Vec<Series> = Vec::new();
            // Without a device between them they are not to be compared with the others.
            let cases = self.cases.iter().filter(|case| case.segments > 0.0);
            for case in cases.filter(|case| case.what == what && case.bytes == bytes) {
                let point = (f64::from(case.open), case.rate);
                match series.iter_mut().find(|one| one.name == case.server) {
                    Some(one) => one.points.push(point),
                    None => series.push(Series { name: case.server.clone(), points: vec![point] }),
                }
            }
            let title = format!("{} per second against connections open", sized(what, bytes));
            let rate = Axis { name: "per second", logarithmic: true };
            plot::lines(&out.join(format!("rate-{file}.svg")), &title, open, rate, &series)?;
        }
        let each = self.bytes_each();
        let points = |of: fn(&(u32, f64, f64)) -> f64| {
            each.iter()
                .map(|one| (f64::from(one.0), of(one)))
                .filter(|point| point.1 < 1000.0)
                .collect()
        };
        let series = [
            Series { name: "each connection, IPv4".to_owned(), points: points(|one| one.1) },
            Series { name: "the whole process, divided".to_owned(), points: points(|one| one.2) },
            Series { name: "goal".to_owned(), points: vec![(1e5, 128.0), (1e7, 128.0)] },
        ];
        let bytes = Axis { name: "bytes of the server's process for each", logarithmic: false };
        plot::lines(&out.join("memory.svg"), "Memory per idle connection", open, bytes, &series)?;
        Ok(())
    }
}

/// Picks the cases of a server and of what was measured.
fn is<'n>(server: &'n str, what: &'n str, bytes: u32) -> impl Fn(&&Case) -> bool + 'n {
    move |case| case.server == server && case.what == what && case.bytes == bytes
}

/// The server whose cases differ in nothing but the connections.
const MEMIF: &str = "dataplane alone (memif)";

const BEGIN: &str = "<!-- figures: written by make bench -->";
const END: &str = "<!-- end of figures -->";

#[cfg(test)]
mod tests {
    use super::*;

    fn case(server: &str, what: &str, open: u32, bytes: u32, rate: f64) -> Case {
        let (server, what) = (server.to_owned(), what.to_owned());
        Case { server, what, open, bytes, rate, ..Case::default() }
    }

    #[test]
    fn ratios_compare_what_is_alike_and_nothing_else() {
        let figures = Figures {
            cases: vec![
                case("dataplane alone (memif)", "exchanges", 1000, 64, 2e6),
                case("dataplane alone (memif)", "exchanges", 1_000_000, 64, 1e6),
                case("dataplane alone (memif)", BY_FEW, 1_000_000, 64, 1.8e6),
                case("Linux (veth)", "exchanges", 1000, 64, 1e5),
                case("Linux (veth)", "exchanges", 9000, 1024, 1e5),
                case("dataplane alone (veth)", "exchanges", 1000, 64, 3e5),
            ],
            memory: vec![
                Memory { open: 1000, room: 70_000, bytes: 100_000_000 },
                Memory { open: 1_000_000, room: 1_070_000, bytes: 170_000_000 },
            ],
            failed: vec![Failed { name: "one".to_owned(), why: "it broke\nhere".to_owned() }],
            ..Figures::default()
        };
        let text = figures.markdown();
        assert!(
            text.contains("| exchanges of 64 B with 1,000,000 open, against 1,000 open | 0.50 |"),
            "{text}"
        );
        let few = "| exchanges of 64 B by 1,000 with 1,000,000 open, against 1,000 open | 0.90 |";
        assert!(text.contains(few), "{text}");
        let all = "| exchanges of 64 B by all 1,000,000 open, against by 1,000 of them | 0.56 |";
        assert!(text.contains(all), "{text}");
        assert!(text.contains("same veth and clients: rate | 3.00 |"), "{text}");
        assert_eq!(text.matches("rate |").count(), 1, "{text}");
        assert!(text.contains("| 1,000,000 open, idle | 70.0 B | 170.0 B |"), "{text}");
        assert!(text.ends_with("one: not to its end, it broke\n"), "{text}");
    }

    #[test]
    fn the_table_goes_between_its_marks() {
        let out = std::env::temp_dir().join(format!("xtcp-figures-test-{}", std::process::id()));
        std::fs::create_dir_all(&out).unwrap();
        let readme = out.join("README.md");
        std::fs::write(&readme, format!("before {BEGIN} old {END} after")).unwrap();
        Figures::default().write(&out, Some(&readme)).unwrap();
        let text = std::fs::read_to_string(&readme).unwrap();
        assert!(text.starts_with("before ") && text.ends_with(" after") && !text.contains(" old "));
        assert!(text.contains("| case |"));
        std::fs::remove_dir_all(out).unwrap();
    }
}

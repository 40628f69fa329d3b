//! What a worker counts, and the rows people see.

use serde_json::{Map, Value};
use xtcp_ring::message::Row;
use xtcp_stack::{Count, GroupInfo, POOLS_MAX, PoolInfo, Stop, Usage};

use crate::applications::{ApplicationCounters, LIES};

/// A counter's name, meaning and value.
pub(crate) type CounterRow = (&'static str, &'static str, u64);

/// Upper bounds of the burst-size histogram's classes, and their names.
const BURST_CLASSES: [(usize, &str); 6] = [
    (0, "rx-bursts-0"),
    (1, "rx-bursts-1"),
    (4, "rx-bursts-2-4"),
    (8, "rx-bursts-5-8"),
    (16, "rx-bursts-9-16"),
    (usize::MAX, "rx-bursts-17-32"),
];

/// Frames received at once, in classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bursts([u64; BURST_CLASSES.len()]);

impl Bursts {
    #[inline]
    pub(crate) fn count(&mut self, frames: usize) {
        let class = match frames {
            0 => 0,
            1 => 1,
            2..=4 => 2,
            5..=8 => 3,
            9..=16 => 4,
            _ => 5,
        };
        self.0[class] += 1;
    }
}

/// One worker's own counters; the stack has its own beside them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WorkerCounters {
    /// Turns of the loop.
    pub(crate) turns: u64,
    /// Ticks of turns that did something.
    pub(crate) busy_ticks: u64,
    /// Ticks of turns that found nothing to do.
    pub(crate) idle_ticks: u64,
    pub(crate) bursts: Bursts,
    pub(crate) rx_frames: u64,
    pub(crate) rx_bytes: u64,
    /// Frames that came in several mbufs.
    pub(crate) rx_pieces: u64,
    /// Of these, frames longer than any should be.
    pub(crate) rx_too_long: u64,
    /// TCP segments whose checksum the device had found good, and bad.
    pub(crate) rx_verified: u64,
    pub(crate) rx_doubted: u64,
    pub(crate) tx: TxCounters,
    pub(crate) exchange: ExchangeCounters,
    pub(crate) applications: ApplicationCounters,
}

/// What the transmit side counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TxCounters {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Times the transmit queue did not take all.
    pub(crate) full: u64,
    /// Times there was no mbuf for a frame.
    pub(crate) no_mbuf: u64,
    /// Frames whose TCP checksum was left to the device.
    pub(crate) completed: u64,
    /// Frames that went in several mbufs.
    pub(crate) pieces: u64,
    /// Frames whose work the driver would not give to its device.
    pub(crate) refused: u64,
}

/// What the exchange of frames between workers counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ExchangeCounters {
    /// Frames of another worker's flows, handed over.
    pub(crate) handed_over: u64,
    /// Frames others handed over to us.
    pub(crate) received: u64,
    /// Frames lost because the other worker's ring was full.
    pub(crate) full: u64,
    /// Frames which the device gave to this worker though their hash is another's.
    pub(crate) rss_mismatch: u64,
}

impl WorkerCounters {
    /// Name, meaning and value of every counter.
    pub(crate) fn rows(&self) -> impl Iterator<Item = CounterRow> + '_ {
        let Self { tx, exchange, applications, .. } = self;
        let plain = [
            ("turns", "Turns of the worker's loop.", self.turns),
            ("busy-ticks", "Ticks of turns that did something.", self.busy_ticks),
            ("idle-ticks", "Ticks of turns that found nothing to do.", self.idle_ticks),
            ("rx-frames", "Frames the device gave.", self.rx_frames),
            ("rx-bytes", "Their bytes.", self.rx_bytes),
            ("rx-multi-segment", "Frames that came in several mbufs.", self.rx_pieces),
            ("rx-too-long", "Those longer than a frame can be, dropped.", self.rx_too_long),
            ("rx-checksum-good", "TCP checksums the device found good.", self.rx_verified),
            ("rx-checksum-bad", "Those it found bad, to be verified again.", self.rx_doubted),
            ("tx-frames", "Frames made for the device.", tx.frames),
            ("tx-bytes", "Their bytes.", tx.bytes),
            ("tx-full", "Times the device did not take all.", tx.full),
            ("tx-no-mbuf", "Times there was no mbuf for a frame.", tx.no_mbuf),
            ("tx-checksum-device", "TCP checksums left to the device.", tx.completed),
            ("tx-multi-segment", "Frames that went in several mbufs.", tx.pieces),
            ("tx-refused", "Frames the driver found unfit for its device.", tx.refused),
            ("spread-handed-over", "Frames handed to the worker they belong to.", {
                exchange.handed_over
            }),
            ("spread-received", "Frames other workers handed over.", exchange.received),
            ("spread-ring-full", "Frames lost on the way to another worker.", exchange.full),
            ("rss-mismatch", "Frames the device gave to the wrong queue.", exchange.rss_mismatch),
            ("submissions", "What applications asked.", applications.submissions),
            ("notices", "What applications were told.", applications.notices),
            ("sends-refused", "Sends that could not be queued.", applications.sends_refused),
            ("commits-refused", "Acknowledgements that were stale or too far.", {
                applications.commits_refused
            }),
            ("submissions-stale", "Commands for what is gone.", applications.stale),
            ("batches", "Submissions that acted together.", applications.batches),
            ("batches-refused", "Those of which none acted.", applications.batches_refused),
            ("bells", "Sleeping applications woken.", applications.bells),
        ];
        let bursts = BURST_CLASSES.iter().zip(self.bursts.0);
        let bursts = bursts.map(|((_, name), count)| (*name, "Looks at the device.", count));
        let lies = LIES.iter().zip(applications.lies);
        let lies = lies.map(|(lie, count)| (lie.name(), "Applications cut off for it.", count));
        plain.into_iter().chain(bursts).chain(lies)
    }

    /// Share of the ticks that did something, in percent.
    pub(crate) fn busy_percent(&self, since: &Self) -> f64 {
        let busy = self.busy_ticks.saturating_sub(since.busy_ticks);
        let idle = self.idle_ticks.saturating_sub(since.idle_ticks);
        percent(busy, busy + idle)
    }
}

/// What a worker tells of itself when asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) worker: usize,
    pub(crate) counters: WorkerCounters,
    /// The stack's counters, in its order.
    pub(crate) stack: Vec<CounterRow>,
    /// Mbufs that are free to receive into and to send with.
    pub(crate) frames_free: u32,
    /// What is in use of the stack's tables.
    pub(crate) usage: Usage,
    pub(crate) pools: Vec<PoolInfo>,
    pub(crate) groups: Vec<GroupInfo>,
}

impl Snapshot {
    /// With room for all there usually is, so that the worker need not allocate.
    pub(crate) fn with_room() -> Self {
        let counters = Stop::ALL.len() + Count::ALL.len();
        Self {
            stack: Vec::with_capacity(counters),
            pools: Vec::with_capacity(POOLS_MAX),
            groups: Vec::with_capacity(1024),
            ..Self::default()
        }
    }
}

/// `part` of `whole` in percent with one decimal; 0 of nothing.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 1000.0 / whole as f64).round() / 10.0 }
}

/// A row from its columns.
pub(crate) fn row<const N: usize>(columns: [(&str, Value); N]) -> Row {
    columns.into_iter().map(|(heading, value)| (heading.to_owned(), value)).collect()
}

/// What happened per second between two looks, per worker.
pub(crate) fn rates(before: &[Snapshot], after: &[Snapshot], seconds: f64) -> Vec<Row> {
    let per_second =
        |then: u64, now: u64| (now.saturating_sub(then) as f64 / seconds).round() as u64;
    let megabits = |then: u64, now: u64| {
        (now.saturating_sub(then) as f64 * 8.0 / seconds / 1e5).round() / 10.0
    };
    let of_worker = |(before, after): (&Snapshot, &Snapshot)| {
        let (then, now) = (&before.counters, &after.counters);
        row([
            ("worker", after.worker.into()),
            ("busy (%)", now.busy_percent(then).into()),
            ("turns/s", per_second(then.turns, now.turns).into()),
            ("rx frames/s", per_second(then.rx_frames, now.rx_frames).into()),
            ("rx (Mb/s)", megabits(then.rx_bytes, now.rx_bytes).into()),
            ("tx frames/s", per_second(then.tx.frames, now.tx.frames).into()),
            ("tx (Mb/s)", megabits(then.tx.bytes, now.tx.bytes).into()),
            ("connections", after.usage.connections.into()),
            ("active", after.usage.active.into()),
        ])
    };
    before.iter().zip(after).map(of_worker).collect()
}

/// One row per counter: its name, each worker's figure, the sum if there are several workers, and
/// its meaning.
pub(crate) fn counter_rows(snapshots: &[Snapshot]) -> Vec<Row> {
    let columns: Vec<Vec<CounterRow>> = snapshots
        .iter()
        .map(|snapshot| snapshot.counters.rows().chain(snapshot.stack.iter().copied()).collect())
        .collect();
    let Some(first) = columns.first() else { return Vec::new() };
    let row_of = |(index, (name, what, _)): (usize, &CounterRow)| {
        let mut row = Map::new();
        row.insert("counter".to_owned(), Value::from(*name));
        let figures = || columns.iter().filter_map(|column| column.get(index)).map(|row| row.2);
        for (snapshot, figure) in snapshots.iter().zip(figures()) {
            row.insert(format!("worker {}", snapshot.worker), Value::from(figure));
        }
        if columns.len() > 1 {
            row.insert("all".to_owned(), Value::from(figures().sum::<u64>()));
        }
        row.insert("meaning".to_owned(), Value::from(*what));
        row
    };
    first.iter().enumerate().map(row_of).collect()
}

/// Rows as an aligned table: numbers to the right, a heading, nothing for no rows.
pub(crate) fn table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return "(none)\n".to_owned() };
    let headings: Vec<&String> = first.keys().collect();
    let cell = |row: &Row, heading: &str| match row.get(heading) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let widths: Vec<usize> = headings
        .iter()
        .map(|heading| {
            let widest = rows.iter().map(|row| cell(row, heading).chars().count()).max();
            widest.unwrap_or(0).max(heading.chars().count())
        })
        .collect();
    let mut text = String::new();
    let mut line = |cells: Vec<(String, bool)>| {
        let padded = cells.iter().zip(&widths).map(|((cell, right), &width)| {
            if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    };
    let numeric = |heading: &str| first.get(heading).is_some_and(Value::is_number);
    line(headings.iter().map(|heading| ((*heading).clone(), numeric(heading))).collect());
    for row in rows {
        line(headings.iter().map(|heading| (cell(row, heading), numeric(heading))).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_fall_into_the_class_that_is_named() {
        for frames in 0..=32 {
            let mut bursts = Bursts::default();
            bursts.count(frames);
            let class = bursts.0.iter().position(|count| *count == 1).unwrap();
            assert!(frames <= BURST_CLASSES[class].0, "{frames}");
            assert!(class == 0 || frames > BURST_CLASSES[class - 1].0, "{frames}");
        }
    }

    #[test]
    fn every_counter_has_a_name_of_its_own() {
        let names: Vec<_> = WorkerCounters::default().rows().map(|(name, ..)| name).collect();
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
    }

    #[test]
    fn a_table_is_aligned_and_summed() {
        let of = |worker, turns| Snapshot {
            worker,
            counters: WorkerCounters { turns, ..Default::default() },
            stack: vec![("segments-in", "Segments received.", 7)],
            ..Default::default()
        };
        let rows = counter_rows(&[of(0, 5), of(1, 1000)]);
        let text = table(&rows);
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(words(lines[0]), ["counter", "worker", "0", "worker", "1", "all", "meaning"]);
        assert_eq!(words(lines[1])[..4], ["turns", "5", "1000", "1005"]);
        let last = lines.last().unwrap();
        assert_eq!(words(last)[..4], ["segments-in", "7", "7", "14"]);
        let ends_at = |line: &str, word: &str| line.find(word).unwrap() + word.len();
        assert_eq!(ends_at(lines[1], "1005"), ends_at(last, " 14"));
        assert_eq!(table(&[]), "(none)\n");
        assert_eq!((percent(1, 8), percent(0, 0)), (12.5, 0.0));
    }
}

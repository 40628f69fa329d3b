//! The files of a run: `.hgrm`, tagged `.hlog`, JSON, CSV.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2Serializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::sample::{Second, StepReport};

/// A run as its JSON file has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    /// What it is called.
    pub label: String,
    /// The command line that made it.
    pub command: String,
    /// On what.
    pub machine: Machine,
    /// Its steps.
    pub steps: Vec<StepReport>,
    /// Its seconds.
    pub seconds: Vec<Second>,
}

/// The files of one run, written as it goes on.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    run: Run,
    began_us: u64,
    /// Each second's latencies, for the log.
    intervals: Vec<(usize, Histogram<u64>)>,
}

impl Files {
    /// Files `LABEL.json`, `LABEL.csv`, `LABEL.hlog` and `LABEL-STEP.hgrm` in `directory`, which is
    /// made if it is not there. `began_us`: microseconds since 1970.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(directory: &Path, run: Run, began_us: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned(), run, began_us, intervals: Vec::new() })
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("{}{ending}", self.run.label))
    }

    /// A second is over; its latencies are in nanoseconds.
    pub fn second(&mut self, second: Second, latencies: Histogram<u64>) {
        if !latencies.is_empty() {
            self.intervals.push((self.run.seconds.len(), latencies));
        }
        self.run.seconds.push(second);
    }

    /// A step is over; its latencies are in nanoseconds.
    ///
    /// # Errors
    /// When its percentiles cannot be written.
    pub fn step(&mut self, step: StepReport, latencies: &Histogram<u64>) -> io::Result<()> {
        if !latencies.is_empty() {
            write_hgrm(latencies, &self.path(&format!("-{}.hgrm", step.step)))?;
        }
        self.run.steps.push(step);
        Ok(())
    }

    /// The run is over.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish(self) -> io::Result<Run> {
        fs::write(self.path(".json"), serde_json::to_string_pretty(&self.run)?)?;
        write_csv(&self.run.seconds, &self.path(".csv"))?;
        self.write_hlog()?;
        Ok(self.run)
    }

    /// HdrHistogram's interval log: one line per second, tagged with its step.
    fn write_hlog(&self) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(self.path(".hlog"))?);
        let mut serializer = V2Serializer::new();
        let began = UNIX_EPOCH + Duration::from_micros(self.began_us);
        let failed = |error: &dyn std::fmt::Debug| io::Error::other(format!("{error:?}"));
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment(&format!("{}: nanoseconds", self.run.label))
            .with_start_time(began)
            .with_base_time(began)
            .with_max_value_divisor(1e6)
            .begin_log_with(&mut out, &mut serializer)
            .map_err(|error| failed(&error))?;
        for (index, latencies) in &self.intervals {
            let second = &self.run.seconds[*index];
            let from = Duration::from_secs_f64((second.at - second.seconds).max(0.0));
            let long = Duration::from_secs_f64(second.seconds);
            log.write_histogram(latencies, from, long, Tag::new(&second.step))
                .map_err(|error| failed(&error))?;
        }
        out.flush()
    }
}

/// Reads a run's JSON file.
///
/// # Errors
/// When it is not there or is no run.
pub fn read_run(path: &Path) -> io::Result<Run> {
    let text = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    serde_json::from_str(&text)
        .map_err(|error| io::Error::other(format!("{} is no run: {error}", path.display())))
}

/// Writes the distribution in the text form HdrHistogram's plotter reads: values in microseconds from
/// a histogram of nanoseconds.
///
/// # Errors
/// When the file cannot be written.
pub fn write_hgrm(histogram: &Histogram<u64>, path: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut count = 0;
    for step in histogram.iter_quantiles(5) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / 1000.0, step.quantile());
        write!(out, "{value:12.3} {quantile:2.12} {count:10}")?;
        if quantile < 1.0 {
            write!(out, " {:14.2}", 1.0 / (1.0 - quantile))?;
        }
        writeln!(out)?;
    }
    let (mean, deviation) = (histogram.mean() / 1000.0, histogram.stdev() / 1000.0);
    let (max, total) = (histogram.max() as f64 / 1000.0, histogram.len());
    writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]")?;
    writeln!(out, "#[Max     = {max:12.3}, Total count    = {total:12}]")?;
    writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), 2048)?;
    out.flush()
}

/// One line per second.
fn write_csv(seconds: &[Second], path: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    writeln!(
        out,
        "step,at_s,seconds,open,opening,opened,closed,answers,failed,resent,p50_us,p90_us,p99_us,\
         p99_9_us,p99_99_us,max_us"
    )?;
    for s in seconds {
        write!(
            out,
            "{},{:.3},{:.3},{},{},{},{},{},{},{}",
            s.step,
            s.at,
            s.seconds,
            s.open,
            s.opening,
            s.opened,
            s.closed,
            s.answers,
            s.failed,
            s.resent
        )?;
        match s.latency {
            Some(l) => writeln!(
                out,
                ",{:.3},{:.3},{:.3},{:.3},{:.3},{:.3}",
                l.p50_us, l.p90_us, l.p99_us, l.p99_9_us, l.p99_99_us, l.max_us
            )?,
            None => writeln!(out, ",,,,,,")?,
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn what_is_written_is_read_back() {
        let directory = std::env::temp_dir().join(format!("xtcp-report-{}", std::process::id()));
        let run = Run { label: "try".to_owned(), ..Run::default() };
        let mut files = Files::new(&directory, run, 1_700_000_000_000_000).unwrap();
        let mut latencies = Histogram::new_with_bounds(1, 1 << 38, 3).unwrap();
        latencies.record_n(5_000, 999).unwrap();
        latencies.record(2_000_000).unwrap();
        let second = Second { step: "load".to_owned(), at: 1.0, seconds: 1.0, ..Second::default() };
        files.second(second, latencies.clone());
        files.second(Second::default(), Histogram::new_with_bounds(1, 1 << 38, 3).unwrap());
        let step = StepReport { step: "load".to_owned(), answers: 1000, ..StepReport::default() };
        files.step(step, &latencies).unwrap();
        files.finish().unwrap();

        let run = read_run(&directory.join("try.json")).unwrap();
        assert_eq!((run.steps[0].answers, run.seconds.len()), (1000, 2));
        let csv = fs::read_to_string(directory.join("try.csv")).unwrap();
        let columns: Vec<usize> = csv.lines().map(|line| line.matches(',').count()).collect();
        assert_eq!(columns, [15, 15, 15]);
        let hgrm = fs::read_to_string(directory.join("try-load.hgrm")).unwrap();
        assert!(hgrm.contains("Total count    =         1000]"), "{hgrm}");
        let log = fs::read(directory.join("try.hlog")).unwrap();
        let entries: Vec<_> = IntervalLogIterator::new(&log).map(Result::unwrap).collect();
        let intervals: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            })
            .collect();
        assert_eq!(intervals.len(), 1, "an empty second is not logged");
        assert_eq!(intervals[0].tag().map(|tag| tag.as_str()), Some("load"));
        let bytes = decode(intervals[0].encoded_histogram());
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        assert_eq!((read.len(), read.value_at_quantile(0.5) / 100), (1000, 50));
        fs::remove_dir_all(directory).unwrap();
    }

    /// Base64, as the log has it.
    fn decode(text: &str) -> Vec<u8> {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
        for letter in text.bytes().filter(|letter| *letter != b'=') {
            let value = LETTERS.iter().position(|known| *known == letter).expect("base64");
            bits = bits << 6 | value as u32;
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count) as u8);
            }
        }
        bytes
    }
}

//! What the clients say of what they did.

use std::io::{self, Write};
use std::path::Path;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What a step came to, over all threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// `connect`, `load` or `close`.
    pub step: String,
    /// Handshakes, exchanges or closings that went right.
    pub done: u64,
    /// Connections given up.
    pub failed: u64,
    /// The first few reasons, each a sentence.
    pub failures: Vec<String>,
    /// Bytes of payload sent.
    pub bytes_sent: u64,
    /// Bytes of payload received, each compared.
    pub bytes_received: u64,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Of the exchanges, if there were any.
    pub latency: Option<Latency>,
}

/// Latency of exchanges in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p99_9_us: f64,
    /// 99.99th percentile.
    pub p99_99_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl StepReport {
    /// Adds another thread's part of the same step.
    pub(super) fn add(&mut self, other: Self) {
        let Self { step, done, failed, failures, bytes_sent, bytes_received, seconds, latency: _ } =
            other;
        self.step = step;
        self.done += done;
        self.failed += failed;
        self.failures.extend(failures);
        self.bytes_sent += bytes_sent;
        self.bytes_received += bytes_received;
        self.seconds = self.seconds.max(seconds);
    }
}

/// 1 ns to 1,000 s with three digits.
pub(super) fn empty_histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 1_000_000_000_000, 3).map_err(io::Error::other)
}

impl Latency {
    /// The percentiles of a histogram of nanoseconds; `None` when it is empty.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Some(Self {
            mean_us: histogram.mean() / 1000.0,
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p99_9_us: us(0.999),
            p99_99_us: us(0.9999),
            max_us: histogram.max() as f64 / 1000.0,
        })
    }
}

/// Writes the distribution in the text form HdrHistogram's plotter reads, values in microseconds.
pub(super) fn write_hgrm(histogram: &Histogram<u64>, path: &Path) -> io::Result<()> {
    let mut out = io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    writeln!(out)?;
    let mut count = 0;
    for step in histogram.iter_quantiles(5) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / 1000.0, step.quantile());
        if quantile < 1.0 {
            writeln!(
                out,
                "{value:12.3} {quantile:2.12} {count:10} {:14.2}",
                1.0 / (1.0 - quantile)
            )?;
        } else {
            writeln!(out, "{value:12.3} {quantile:2.12} {count:10}")?;
        }
    }
    let (mean, deviation) = (histogram.mean() / 1000.0, histogram.stdev() / 1000.0);
    writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]")?;
    let (max, total) = (histogram.max() as f64 / 1000.0, histogram.len());
    writeln!(out, "#[Max     = {max:12.3}, Total count    = {total:12}]")?;
    writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), 2048)?;
    out.flush()
}

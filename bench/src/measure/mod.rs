//! Measurements anyone can repeat: `xtcp-bench acknowledgement`, `xtcp-bench wakeup`,
//! `xtcp-bench batch`, `xtcp-bench impairments`. Each prints a report and leaves it, with what it was made from, in a directory.

pub mod acknowledgement;
pub mod batch;
pub mod impairment;
mod played;
mod stage;
pub mod wakeup;

use std::error::Error;
use std::io::Write;
use std::path::Path;

use hdrhistogram::Histogram;

/// Why a measurement failed, as a sentence.
pub type Failure = Box<dyn Error>;

/// Prints a report and writes it to a file in `directory`.
fn publish(report: &str, directory: &Path, name: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(report.as_bytes())?;
    std::fs::create_dir_all(directory)?;
    let file = directory.join(name);
    std::fs::write(&file, report)?;
    writeln!(out, "\n(also in {})", file.display())?;
    Ok(())
}

/// A histogram of nanoseconds as a row of microseconds: p50, p99, p99.9, the longest, how many.
fn row_of_us(name: &str, histogram: &Histogram<u64>) -> String {
    let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    let (longest, count) = (histogram.max() as f64 / 1000.0, histogram.len());
    format!(
        "{name:<44} {:>8.1} {:>8.1} {:>8.1} {longest:>9.1} {count:>8}\n",
        us(0.5),
        us(0.99),
        us(0.999)
    )
}

/// The heading of [`row_of_us`].
fn heading_of_us(what: &str) -> String {
    format!("{what:<44} {:>8} {:>8} {:>8} {:>9} {:>8}\n", "p50", "p99", "p99.9", "longest", "count")
}

//! The records of a run: one per second and one per step.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Percentiles of latencies in microseconds.
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

/// One second of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// The step's name.
    pub step: String,
    /// Seconds since the run began, at the end of this one.
    pub at: f64,
    /// How long it was, in seconds: shorter at a step's end.
    pub seconds: f64,
    /// Connections open at its end.
    pub open: u32,
    /// Handshakes under way at its end.
    pub opening: u32,
    /// Handshakes completed in it.
    pub opened: u64,
    /// Connections ended in it as they should.
    pub closed: u64,
    /// Answers that came in it.
    pub answers: u64,
    /// Connections that failed in it.
    pub failed: u64,
    /// Segments the clients sent again in it.
    pub resent: u64,
    /// Forged segments sent in it, by a flood.
    #[serde(default)]
    pub forged: u64,
    /// Of the answers that came in it.
    pub latency: Option<Latency>,
}

/// What a flood consisted of, and what the server sent to addresses that are nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FloodReport {
    /// Forged segments that were to be sent.
    pub due: u64,
    /// Those that were: fewer where the device or a core could not carry them.
    pub sent: u64,
    /// Of them, per second.
    pub rate: f64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// SYN-ACKs to nobody.
    pub syn_acks: u64,
    /// Resets to nobody.
    pub resets: u64,
    /// Other segments to nobody.
    pub other_answers: u64,
    /// Bytes of the frames of these three.
    pub answer_bytes: u64,
}

/// A whole step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its name.
    pub step: String,
    /// How long it took, in seconds, from its beginning to the last answer.
    pub seconds: f64,
    /// Connections open at its end.
    pub open: u32,
    /// Clients that made requests.
    pub active: u32,
    /// Handshakes completed.
    pub opened: u64,
    /// Connections ended as they should.
    pub closed: u64,
    /// Requests begun.
    pub requests: u64,
    /// Answers complete, every byte compared.
    pub answers: u64,
    /// What the step was about (answers, else handshakes, else ends) per second; for answers: those
    /// that came while requests were begun.
    pub rate: f64,
    /// Requests that were due and never begun, because their client still waited at the end.
    pub missed: u64,
    /// Connections that failed.
    pub failed: u64,
    /// The first few failures, each a sentence.
    pub failures: Vec<String>,
    /// Segments the clients sent.
    pub segments_out: u64,
    /// Of those, such that only acknowledged.
    pub acks_out: u64,
    /// Of those, sent again.
    pub resent: u64,
    /// Segments the clients got.
    pub segments_in: u64,
    /// Of those, out of order.
    pub out_of_order: u64,
    /// Frames that were damaged.
    pub damaged: u64,
    /// Frames the clients' device had no room for.
    pub unsent: u64,
    /// Bytes of requests.
    pub bytes_out: u64,
    /// Bytes of answers, each compared.
    pub bytes_in: u64,
    /// What was forged beside, and what was sent to nobody; `None` if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flood: Option<FloodReport>,
    /// Of the answers, from the time each request was due.
    pub latency: Option<Latency>,
}

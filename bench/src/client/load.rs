//! What the clients are asked to do in one step: how many rounds, of what sizes, at what pace.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::payload::choose;

/// One step of load.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Exchanges on every connection.
    pub rounds: u32,
    /// Bytes of each request's body.
    pub sizes: Sizes,
    /// When the next request goes.
    pub pace: Pace,
    /// Where the latencies' distribution is to be written, in HdrHistogram's text form.
    pub hgrm: Option<PathBuf>,
}

/// Sizes of request bodies in bytes, from 1 up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// Always the same.
    Fixed(u64),
    /// Every size equally likely.
    Uniform(RangeInclusive<u64>),
    /// Every order of magnitude equally likely.
    Logarithmic(RangeInclusive<u64>),
}

/// When a connection's next request goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as the answer is there.
    Closed,
    /// This long after the answer.
    Think(Duration),
    /// So many requests per second over all connections in turn, whether or not answers are there:
    /// latency counts from the time a request was due, so a stalled server cannot hide it.
    Rate(f64),
}

/// Why a load cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError(String);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

impl Sizes {
    /// The size for one exchange.
    #[must_use]
    pub fn choose(&self, seed: u64, connection: u32, round: u32) -> u64 {
        match self {
            Self::Fixed(n) => *n,
            Self::Uniform(range) => {
                range.start() + choose(seed, connection, round, range.end() - range.start() + 1)
            }
            Self::Logarithmic(range) => {
                let share = choose(seed, connection, round, 1 << 20) as f64 / f64::from(1 << 20);
                let (low, high) = ((*range.start() as f64).ln(), ((*range.end() + 1) as f64).ln());
                let size = (low + share * (high - low)).exp() as u64;
                size.clamp(*range.start(), *range.end())
            }
        }
    }
}

impl FromStr for Sizes {
    type Err = LoadError;

    /// `1024`, `1..1048576` (uniform) or `log:1..1048576`.
    fn from_str(text: &str) -> Result<Self, LoadError> {
        let wrong = || {
            LoadError(format!(
                "`{text}` is no size: write 1024, 1..1048576 or log:1..1048576, from 1 up"
            ))
        };
        let number = |text: &str| text.parse().ok().filter(|n| *n > 0).ok_or_else(wrong);
        let (logarithmic, range) = match text.strip_prefix("log:") {
            Some(range) => (true, range),
            None => (false, text),
        };
        match range.split_once("..") {
            None if logarithmic => Err(wrong()),
            None => Ok(Self::Fixed(number(range)?)),
            Some((low, high)) => {
                let range = number(low)?..=number(high)?;
                match (range.is_empty(), logarithmic) {
                    (true, _) => Err(wrong()),
                    (false, true) => Ok(Self::Logarithmic(range)),
                    (false, false) => Ok(Self::Uniform(range)),
                }
            }
        }
    }
}

impl FromStr for Load {
    type Err = LoadError;

    /// Comma-separated: `rounds=4,sizes=1024` and one of `closed`, `think-ms=50`, `rate=8000`;
    /// `hgrm=FILE` besides.
    fn from_str(text: &str) -> Result<Self, LoadError> {
        let mut load =
            Self { rounds: 1, sizes: Sizes::Fixed(1024), pace: Pace::Closed, hgrm: None };
        for part in text.split(',') {
            let wrong = || {
                LoadError(format!(
                    "`{part}` in a load: write rounds=N, sizes=.., closed, think-ms=N, rate=N or hgrm=FILE"
                ))
            };
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                "rounds" => load.rounds = value.parse().map_err(|_| wrong())?,
                "sizes" => load.sizes = value.parse()?,
                "closed" => load.pace = Pace::Closed,
                "think-ms" => {
                    load.pace =
                        Pace::Think(Duration::from_millis(value.parse().map_err(|_| wrong())?));
                }
                "rate" => {
                    let rate: f64 = value.parse().map_err(|_| wrong())?;
                    if !rate.is_finite() || rate <= 0.0 {
                        return Err(wrong());
                    }
                    load.pace = Pace::Rate(rate);
                }
                "hgrm" => load.hgrm = Some(PathBuf::from(value)),
                _ => return Err(wrong()),
            }
        }
        Ok(load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_reads_back_as_written() {
        let load: Load = "rounds=3,sizes=log:1..1048576,rate=8000,hgrm=a/b.hgrm".parse().unwrap();
        assert_eq!(load.rounds, 3);
        assert_eq!(load.sizes, Sizes::Logarithmic(1..=1_048_576));
        assert_eq!(load.pace, Pace::Rate(8000.0));
        assert_eq!(load.hgrm, Some(PathBuf::from("a/b.hgrm")));
        let load: Load = "think-ms=50".parse().unwrap();
        assert_eq!(load.pace, Pace::Think(Duration::from_millis(50)));
    }

    #[test]
    fn a_wrong_load_is_refused_with_the_part_that_is_wrong() {
        for (text, names) in [
            ("round=3", "`round=3`"),
            ("sizes=0", "`0`"),
            ("sizes=9..3", "`9..3`"),
            ("sizes=log:7", "`log:7`"),
            ("rate=0", "`rate=0`"),
            ("rate=inf", "`rate=inf`"),
            ("think-ms=-1", "`think-ms=-1`"),
        ] {
            let error = text.parse::<Load>().unwrap_err().to_string();
            assert!(error.starts_with(names), "{error}");
        }
    }

    #[test]
    fn chosen_sizes_stay_in_range_and_reach_its_ends() {
        for sizes in [Sizes::Uniform(1..=9), Sizes::Logarithmic(1..=9)] {
            let chosen: Vec<u64> = (0..500).map(|n| sizes.choose(7, n, 0)).collect();
            assert_eq!(chosen.iter().min(), Some(&1));
            assert_eq!(chosen.iter().max(), Some(&9));
        }
    }
}

//! On what something was measured.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Machine and commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// Linux's release.
    pub kernel: String,
    /// The commit, with `+` behind it if files differ from it.
    pub commit: String,
}

impl Machine {
    /// This machine and the commit of the working directory; what is not known is empty.
    #[must_use]
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib = memory.split(' ').next().and_then(|number| number.parse::<u64>().ok());
        let commit = git(&["rev-parse", "--short=12", "HEAD"]);
        let changed = !git(&["status", "--porcelain", "--untracked-files=no"]).is_empty();
        Self {
            processor: value(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory: kib.unwrap_or(0) << 10,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: if changed { commit + "+" } else { commit },
        }
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { processor, cores, memory, kernel, commit } = self;
        let gib = *memory as f64 / f64::from(1 << 30);
        format!("{processor}, {cores} cores, {gib:.0} GiB, Linux {kernel}, commit {commit}")
    }
}

fn git(words: &[&str]) -> String {
    let said = Command::new("git").args(words).output();
    said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned()).unwrap_or_default()
}

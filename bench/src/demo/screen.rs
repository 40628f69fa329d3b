//! What the demo says while it works: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock;

/// How often a plain line tells progress.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// Standard error, or the terminal behind it.
#[derive(Debug)]
pub(super) struct Screen {
    bar: Option<ProgressBar>,
    terminal: bool,
    told: Instant,
    started: Instant,
}

impl Screen {
    pub(super) fn new() -> Self {
        let now = clock::now();
        Self { bar: None, terminal: std::io::stderr().is_terminal(), told: now, started: now }
    }

    /// Says what begins now.
    pub(super) fn step(&mut self, what: &str) {
        self.clear();
        eprintln!("[{:5.1} s] {what}", self.started.elapsed().as_secs_f64());
        self.told = clock::now();
    }

    /// Says something that stays.
    pub(super) fn say(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    /// Says how far it is.
    pub(super) fn progress(&mut self, what: &str, done: u64, total: u64) {
        if self.terminal {
            let bar = self.bar.get_or_insert_with(|| {
                let style = ProgressStyle::with_template("  {msg} [{bar:40}] {pos}/{len} {eta}");
                ProgressBar::new(total)
                    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
            bar.set_length(total);
            bar.set_message(what.to_owned());
            bar.set_position(done);
        } else if self.told.elapsed() >= PLAIN_EVERY {
            self.told = clock::now();
            eprintln!("  {what}: {done} of {total}");
        }
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

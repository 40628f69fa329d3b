//! How a run is told while it goes on: which case, how far, how long it will take.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use xtcp_bench::clock;
use xtcp_report::sample::Second;

/// Progress over all cases, by their expected times.
pub(crate) struct Screen {
    began: Instant,
    /// The longest the run may take.
    limit: Duration,
    /// Seconds expected of all cases, and of those that are over.
    expected: f64,
    over: f64,
    /// Of the case in hand.
    case: f64,
    case_began: Instant,
    name: String,
    bar: Option<ProgressBar>,
}

impl Screen {
    /// For cases that are expected to take so many seconds together.
    pub(crate) fn new(expected: f64, limit: Duration) -> Self {
        let style = ProgressStyle::with_template("{bar:20} {wide_msg}").ok();
        let bar = style
            .filter(|_| std::io::stderr().is_terminal())
            .map(|style| ProgressBar::new(1000).with_style(style));
        let now = clock::now();
        let (over, case, name) = (0.0, 0.0, String::new());
        Self { began: now, limit, expected, over, case, case_began: now, name, bar }
    }

    /// Seconds since the run began.
    pub(crate) fn elapsed(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Whether so many more seconds, and the cases to come, still fit.
    pub(crate) fn has_time_for(&self, seconds: f64) -> bool {
        let to_come = (self.expected - self.over - self.case).max(0.0);
        self.elapsed() + seconds + to_come <= self.limit.as_secs_f64()
    }

    /// How long a single step may take at most.
    pub(crate) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.began.elapsed()).max(Duration::from_secs(5))
    }

    /// A case begins; says whether there is time for it.
    pub(crate) fn begin(&mut self, name: &str, seconds: f64) -> bool {
        self.name = name.to_owned();
        self.case = seconds;
        self.case_began = clock::now();
        let fits = self.elapsed() + seconds <= self.limit.as_secs_f64();
        self.say(&format!("{} {name}", self.times()));
        fits
    }

    /// It is over.
    pub(crate) fn end(&mut self) {
        self.over += self.case;
        self.case = 0.0;
    }

    /// A line that stays.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{line}")),
            None => println!("{line}"),
        }
    }

    /// A second of the clients.
    pub(crate) fn second(&self, second: &Second) {
        let Some(bar) = &self.bar else { return };
        let done = self.over + self.case_began.elapsed().as_secs_f64().min(self.case);
        bar.set_position((done / self.expected.max(1.0) * 1000.0) as u64);
        bar.set_message(format!(
            "{} {}: {}, {} open, {:.0} opened/s, {:.0} answers/s",
            self.times(),
            self.name,
            second.step,
            second.open,
            second.opened as f64 / second.seconds,
            second.answers as f64 / second.seconds,
        ));
    }

    /// `[ 2:10 gone, about 7:30 left]`: as the cases that are over took against what was expected.
    fn times(&self) -> String {
        let elapsed = self.elapsed();
        let pace = if self.over > 0.0 {
            ((elapsed - self.case_began.elapsed().as_secs_f64()) / self.over).max(0.3)
        } else {
            1.0
        };
        let done = self.over + self.case_began.elapsed().as_secs_f64().min(self.case);
        let left = (self.expected - done) * pace;
        let left = left.min(self.limit.as_secs_f64() - elapsed).max(0.0);
        let text = |seconds: f64| format!("{}:{:02}", seconds as u64 / 60, seconds as u64 % 60);
        format!("[{} gone, about {} left]", text(elapsed), text(left))
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_goes_by_what_is_to_come_and_by_the_limit() {
        let mut screen = Screen::new(100.0, Duration::from_secs(120));
        assert!(screen.begin("one", 60.0));
        assert!(screen.times().ends_with("about 1:40 left]") || screen.times().contains("1:39"));
        assert!(screen.has_time_for(70.0), "40 to come");
        assert!(!screen.has_time_for(90.0));
        screen.end();
        assert!(!screen.begin("too long", 130.0));
    }
}

//! Options by key and value, as C programs give them.

use std::path::PathBuf;
use std::time::Duration;

use super::failure::Failure;
use crate::application::Attach;
use crate::handle::{Accept, Acknowledge, Family, GroupOptions};

impl Attach {
    /// Changes one thing by its name: `application`, `instance`, `run_dir`, `backlog_max`,
    /// `backlogs_max` (bytes), `timeout_ms`.
    ///
    /// # Errors
    /// [`Failure::Option`] for another key, or a value that cannot be.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        match key {
            "application" => value.clone_into(&mut self.application),
            "instance" => value.clone_into(&mut self.instance),
            "run_dir" => self.run_dir = PathBuf::from(value),
            "backlog_max" => self.backlog_max = number(key, value)?,
            "backlogs_max" => self.backlogs_max = number(key, value)?,
            "timeout_ms" => self.timeout = milliseconds(key, value)?,
            _ => {
                let known = "application, instance, run_dir, backlog_max, backlogs_max, timeout_ms";
                return Err(unknown(key, known));
            }
        }
        Ok(())
    }
}

impl GroupOptions {
    /// Changes one thing by its name: `name`, `dual_stack` (0, 1), `accept` (`application`,
    /// `automatic`), `accept_timeout_ms`, `acknowledge` (`application`, `on_receive`),
    /// `acknowledge_after_ms`, `window_max` (bytes), `nagle` (0, 1).
    ///
    /// # Errors
    /// [`Failure::Option`] for another key, or a value that cannot be.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        match (key, value) {
            ("name", _) => value.clone_into(&mut self.name),
            ("dual_stack", _) => {
                if truth(key, value)? {
                    self.family = Family::Dual;
                }
            }
            ("accept", "application") => {
                self.accept = Accept::ByApplication { timeout: Duration::ZERO };
            }
            ("accept", "automatic") => self.accept = Accept::Automatic,
            ("accept_timeout_ms", _) => {
                self.accept = Accept::ByApplication { timeout: milliseconds(key, value)? };
            }
            ("acknowledge", "application") => {
                self.acknowledge = Acknowledge::ByApplication { deadline: Duration::ZERO };
            }
            ("acknowledge", "on_receive") => self.acknowledge = Acknowledge::OnReceive,
            ("acknowledge_after_ms", _) => {
                let deadline = milliseconds(key, value)?;
                self.acknowledge = Acknowledge::ByApplication { deadline };
            }
            ("window_max", _) => self.window_max = number(key, value)?,
            ("nagle", _) => self.nagle = truth(key, value)?,
            ("accept", _) => return Err(wrong(key, value, "application or automatic")),
            ("acknowledge", _) => return Err(wrong(key, value, "application or on_receive")),
            _ => {
                let known = "name, dual_stack, accept, accept_timeout_ms, acknowledge, \
                             acknowledge_after_ms, window_max, nagle";
                return Err(unknown(key, known));
            }
        }
        Ok(())
    }
}

fn unknown(key: &str, known: &str) -> Failure {
    let what = format!("there is none of this name; there are {known}");
    Failure::Option { key: key.to_owned(), what }
}

fn wrong(key: &str, value: &str, right: &str) -> Failure {
    let what = format!("`{value}` cannot be; it takes {right}");
    Failure::Option { key: key.to_owned(), what }
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, Failure> {
    value.parse().map_err(|_| wrong(key, value, "a whole number that is not too large"))
}

fn milliseconds(key: &str, value: &str) -> Result<Duration, Failure> {
    number(key, value).map(|count: u32| Duration::from_millis(count.into()))
}

fn truth(key: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(wrong(key, value, "0 or 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_changes_its_thing() {
        let mut options = GroupOptions { family: Family::V6, ..GroupOptions::new("a", 7) };
        for (key, value) in [
            ("name", "chat"),
            ("dual_stack", "1"),
            ("accept", "automatic"),
            ("acknowledge_after_ms", "200"),
            ("window_max", "65536"),
            ("nagle", "1"),
        ] {
            options.set(key, value).unwrap();
        }
        let wanted = GroupOptions {
            accept: Accept::Automatic,
            acknowledge: Acknowledge::ByApplication { deadline: Duration::from_millis(200) },
            window_max: 65536,
            nagle: true,
            ..GroupOptions::new("chat", 7)
        };
        assert_eq!(options, wanted);
        options.set("accept_timeout_ms", "1500").unwrap();
        let timeout = Duration::from_millis(1500);
        assert_eq!(options.accept, Accept::ByApplication { timeout });
        options.set("acknowledge", "on_receive").unwrap();
        assert_eq!(options.acknowledge, Acknowledge::OnReceive);
        options.set("acknowledge", "application").unwrap();
        options.set("accept", "application").unwrap();
        assert_eq!(options.accept, GroupOptions::new("chat", 7).accept);
        assert_eq!(options.acknowledge, GroupOptions::new("chat", 7).acknowledge);

        let mut attach = Attach::new("a");
        for (key, value) in [
            ("application", "chat"),
            ("instance", "two"),
            ("run_dir", "/tmp/x"),
            ("backlog_max", "1000"),
            ("backlogs_max", "2000"),
            ("timeout_ms", "3000"),
        ] {
            attach.set(key, value).unwrap();
        }
        let wanted = Attach {
            instance: "two".to_owned(),
            run_dir: PathBuf::from("/tmp/x"),
            backlog_max: 1000,
            backlogs_max: 2000,
            timeout: Duration::from_secs(3),
            ..Attach::new("chat")
        };
        assert_eq!(attach, wanted);
    }

    #[test]
    fn what_cannot_be_is_a_sentence() {
        let mut options = GroupOptions::new("a", 7);
        for (key, value, words) in [
            ("windw_max", "1", "there are name, dual_stack"),
            ("window_max", "-1", "`-1` cannot be; it takes a whole number"),
            ("window_max", "4294967296", "not too large"),
            ("nagle", "yes", "0 or 1"),
            ("accept", "never", "application or automatic"),
            ("acknowledge", "", "application or on_receive"),
        ] {
            let failure = options.set(key, value).unwrap_err();
            assert_eq!(failure.errno(), rustix::io::Errno::INVAL);
            let sentence = failure.to_string();
            assert!(sentence.contains(key) && sentence.contains(words), "{sentence}");
        }
        assert_eq!(options, GroupOptions::new("a", 7));
        let sentence = Attach::new("a").set("rundir", "/").unwrap_err().to_string();
        assert!(sentence.contains("run_dir"), "{sentence}");
    }
}

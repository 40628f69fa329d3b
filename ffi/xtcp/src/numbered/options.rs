//! Options by key and value, as C programs give them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::failure::Failure;
use crate::application::Attach;
use crate::group::{Accept, Acknowledge, Congestion, Family, GroupOptions, KeepAlive};

impl Attach {
    /// Changes one thing by its name: `application`, `instance`, `run_dir`, `backlog_max`,
    /// `backlogs_max`, `local_bytes` (bytes), `timeout_ms`.
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
            "local_bytes" => self.local_bytes = number(key, value)?,
            "timeout_ms" => self.timeout = milliseconds(key, value)?,
            _ => {
                let known = "application, instance, run_dir, backlog_max, backlogs_max, \
                             local_bytes, timeout_ms";
                return Err(unknown(key, known));
            }
        }
        Ok(())
    }
}

/// Keys of a group's options, as `xtcp.h` tells them.
const GROUP_KEYS: &str = "name, path, dual_stack, address, weight, priority, accept, accept_timeout_ms, \
                          acknowledge, acknowledge_after_ms, hold_limit, window_max, nagle, \
                          notify_requests, notify_us, keep_alive_idle_ms, keep_alive_interval_ms, \
                          keep_alive_probes, idle_timeout_ms, user_timeout_ms, congestion, dscp, \
                          traffic_class, hop_limit";

impl GroupOptions {
    /// Changes one thing by its name. What each key means is said in `xtcp.h`; they are `name`, `path`
    /// (of a UNIX socket), `dual_stack` (0, 1), `address` (one of the appliance's; each adds one), `weight` (1 to
    /// 255), `priority` (0 to 3), `accept` (`application`, `automatic`), `accept_timeout_ms`,
    /// `acknowledge` (`application`, `on_receive`), `acknowledge_after_ms`, `hold_limit` (bytes),
    /// `window_max` (bytes), `nagle` (0, 1), `notify_requests`, `notify_us` (1 to 1,000,000),
    /// `keep_alive_idle_ms`, `keep_alive_interval_ms`, `keep_alive_probes` (1 to 255),
    /// `idle_timeout_ms`, `user_timeout_ms`, `congestion` (`new_reno`, `cubic`), `dscp` (0 to 63),
    /// `traffic_class` (0 to 252, a multiple of 4) and `hop_limit` (1 to 255).
    ///
    /// # Errors
    /// [`Failure::Option`] for another key, or a value that cannot be.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        match (key, value) {
            ("name", _) => value.clone_into(&mut self.name),
            ("path", _) => match &mut self.path {
                Some(path) => *path = PathBuf::from(value),
                None => return Err(wrong(key, value, "nothing: only a PF_UNIX group has a path")),
            },
            ("dual_stack", _) => {
                if truth(key, value)? {
                    self.family = Family::Dual;
                }
            }
            ("address", _) => self.addresses.push(address(key, value)?),
            ("weight", _) => self.weight = within(key, value, 1, u8::MAX)?,
            ("priority", _) => self.priority = within(key, value, 0, 3)?,
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
            ("hold_limit", _) => self.hold_limit = number(key, value)?,
            ("window_max", _) => self.window_max = number(key, value)?,
            ("nagle", _) => self.nagle = truth(key, value)?,
            ("accept", _) => return Err(wrong(key, value, "application or automatic")),
            ("acknowledge", _) => return Err(wrong(key, value, "application or on_receive")),
            _ => return self.set_timing(key, value),
        }
        Ok(())
    }

    fn set_timing(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        match key {
            "notify_requests" => self.notify.requests = number(key, value)?,
            "notify_us" => {
                let micros = within(key, value, 1, 1_000_000)?;
                self.notify.after = Duration::from_micros(micros);
            }
            "keep_alive_idle_ms" => self.keep_alive_mut().idle = milliseconds(key, value)?,
            "keep_alive_interval_ms" => {
                self.keep_alive_mut().interval = milliseconds(key, value)?;
            }
            "keep_alive_probes" => self.keep_alive_mut().probes = within(key, value, 1, u8::MAX)?,
            "idle_timeout_ms" => self.idle_timeout = milliseconds(key, value)?,
            "user_timeout_ms" => self.user_timeout = milliseconds(key, value)?,
            _ => return self.set_packets(key, value),
        }
        Ok(())
    }

    fn set_packets(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        match (key, value) {
            ("congestion", "new_reno") => self.congestion = Congestion::NewReno,
            ("congestion", "cubic") => self.congestion = Congestion::Cubic,
            ("congestion", _) => return Err(wrong(key, value, "new_reno or cubic")),
            ("dscp", _) => self.traffic_class = within(key, value, 0, 63)? << 2,
            ("traffic_class", _) => {
                let class: u8 = number(key, value)?;
                if class & 3 != 0 {
                    let right = "a multiple of 4 up to 252: the two lowest bits are ECN's";
                    return Err(wrong(key, value, right));
                }
                self.traffic_class = class;
            }
            ("hop_limit", _) => self.hop_limit = within(key, value, 1, u8::MAX)?,
            _ => return Err(unknown(key, GROUP_KEYS)),
        }
        Ok(())
    }

    /// The usual questions, if none were asked for yet.
    fn keep_alive_mut(&mut self) -> &mut KeepAlive {
        self.keep_alive.get_or_insert(KeepAlive::USUAL)
    }
}

fn address(key: &str, value: &str) -> Result<IpAddr, Failure> {
    value.parse().map_err(|_| wrong(key, value, "an IPv4 or IPv6 address of the appliance's"))
}

fn within<T>(key: &str, value: &str, least: T, most: T) -> Result<T, Failure>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
{
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| wrong(key, value, &format!("a whole number from {least} to {most}")))
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
    use crate::group::Notify;

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
            ("address", "10.0.0.9"),
            ("address", "fd77::9"),
            ("weight", "9"),
            ("priority", "3"),
            ("hold_limit", "4096"),
            ("notify_requests", "8"),
            ("notify_us", "50"),
            ("keep_alive_probes", "3"),
            ("idle_timeout_ms", "60000"),
            ("user_timeout_ms", "30000"),
            ("congestion", "cubic"),
            ("dscp", "46"),
            ("hop_limit", "3"),
        ] {
            options.set(key, value).unwrap();
        }
        let wanted = GroupOptions {
            accept: Accept::Automatic,
            acknowledge: Acknowledge::ByApplication { deadline: Duration::from_millis(200) },
            window_max: 65536,
            nagle: true,
            addresses: vec!["10.0.0.9".parse().unwrap(), "fd77::9".parse().unwrap()],
            weight: 9,
            priority: 3,
            hold_limit: 4096,
            notify: Notify { requests: 8, after: Duration::from_micros(50) },
            keep_alive: Some(KeepAlive { probes: 3, ..KeepAlive::USUAL }),
            idle_timeout: Duration::from_secs(60),
            user_timeout: Duration::from_secs(30),
            congestion: Congestion::Cubic,
            traffic_class: 46 << 2,
            hop_limit: 3,
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
        options.set("traffic_class", "8").unwrap();
        options.set("congestion", "new_reno").unwrap();
        options.set("keep_alive_idle_ms", "1000").unwrap();
        options.set("keep_alive_interval_ms", "500").unwrap();
        assert_eq!((options.traffic_class, options.congestion), (8, Congestion::NewReno));
        let mut local = GroupOptions::unix("local", "");
        local.set("path", "/tmp/socket").unwrap();
        assert_eq!(local, GroupOptions::unix("local", "/tmp/socket"));
        let (idle, interval) = (Duration::from_secs(1), Duration::from_millis(500));
        assert_eq!(options.keep_alive, Some(KeepAlive { idle, interval, probes: 3 }));
        assert_eq!(options.accept, GroupOptions::new("chat", 7).accept);
        assert_eq!(options.acknowledge, GroupOptions::new("chat", 7).acknowledge);
    }

    #[test]
    fn every_key_of_a_pool_changes_its_thing() {
        let mut attach = Attach::new("a");
        for (key, value) in [
            ("application", "chat"),
            ("instance", "two"),
            ("run_dir", "/tmp/x"),
            ("backlog_max", "1000"),
            ("backlogs_max", "2000"),
            ("local_bytes", "70000"),
            ("timeout_ms", "3000"),
        ] {
            attach.set(key, value).unwrap();
        }
        let wanted = Attach {
            instance: "two".to_owned(),
            run_dir: PathBuf::from("/tmp/x"),
            backlog_max: 1000,
            backlogs_max: 2000,
            local_bytes: 70_000,
            timeout: Duration::from_secs(3),
            ..Attach::new("chat")
        };
        assert_eq!(attach, wanted);
    }

    #[test]
    fn what_cannot_be_is_a_sentence() {
        let mut options = GroupOptions::new("a", 7);
        for (key, value, words) in [
            ("windw_max", "1", "there are name, path, dual_stack"),
            ("window_max", "-1", "`-1` cannot be; it takes a whole number"),
            ("window_max", "4294967296", "not too large"),
            ("nagle", "yes", "0 or 1"),
            ("accept", "never", "application or automatic"),
            ("acknowledge", "", "application or on_receive"),
            ("weight", "0", "from 1 to 255"),
            ("priority", "4", "from 0 to 3"),
            ("address", "localhost", "an IPv4 or IPv6 address"),
            ("notify_us", "1000001", "from 1 to 1000000"),
            ("congestion", "bbr", "new_reno or cubic"),
            ("dscp", "64", "from 0 to 63"),
            ("traffic_class", "7", "a multiple of 4"),
            ("hop_limit", "0", "from 1 to 255"),
            ("path", "/tmp/socket", "only a PF_UNIX group"),
            ("keep_alive_probes", "256", "from 1 to 255"),
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

//! The highest priority for as long as a run lasts, so that other work on the machine disturbs less.

use std::fs;

/// As `nice` counts.
const HIGHEST: i32 = -20;
/// Where the kernel groups processes by session it shares cores between groups first; the group has a
/// number of its own.
const GROUP: &str = "/proc/self/autogroup";

/// The priority, until it is given back.
#[derive(Debug)]
pub(crate) struct Priority {
    group_before: Option<String>,
}

impl Priority {
    /// Takes it, for this process and those it starts; where it is not allowed all stays as it is.
    pub(crate) fn highest() -> Self {
        let _ = rustix::process::setpriority_process(None, HIGHEST);
        let group = fs::read_to_string(GROUP).ok();
        // `/autogroup-12 nice 0`
        let before = group.and_then(|text| text.split_whitespace().next_back().map(str::to_owned));
        let taken = before.is_some() && fs::write(GROUP, HIGHEST.to_string()).is_ok();
        Self { group_before: before.filter(|_| taken) }
    }

    /// Takes it for a process that has made a session of its own.
    pub(crate) fn extend_to(pid: u32) {
        // Where it is not allowed all stays as it is.
        let _ = fs::write(format!("/proc/{pid}/autogroup"), HIGHEST.to_string());
    }

    /// Gives the session's other processes what they had.
    pub(crate) fn give_back(&self) {
        if let Some(before) = &self.group_before {
            // The group is gone with the session at the latest.
            let _ = fs::write(GROUP, before);
        }
    }
}

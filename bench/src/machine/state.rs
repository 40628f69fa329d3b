//! What the machine has of the things a run may leave behind, to compare before and after.

use std::collections::BTreeSet;

use super::{HugePages, MachineError, read_file, run};

/// Namespaces, interfaces, mounts, rules, huge pages, run-time files and processes of the appliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineState {
    things: BTreeSet<String>,
}

impl MachineState {
    /// Looks at the machine.
    ///
    /// # Errors
    /// When a tool is missing or /proc cannot be read.
    pub fn look() -> Result<Self, MachineError> {
        let mut things = BTreeSet::new();
        let mut add = |kind: &str, text: &str| {
            things.insert(format!("{kind} {}", text.trim()));
        };
        for line in run("ip netns list")?.lines() {
            add("namespace", line.split_whitespace().next().unwrap_or_default());
        }
        for line in run("ip -o link show")?.lines() {
            let name = line.split(": ").nth(1).unwrap_or_default();
            add("interface", name.split('@').next().unwrap_or_default());
        }
        for line in run("nft list tables")?.lines() {
            add("nftables", line);
        }
        for line in read_file("/proc/mounts")?.lines() {
            add("mount", line);
        }
        add("huge pages", &HugePages::total()?.to_string());
        for directory in ["/run/xtcp", "/run/xtcp-demo", "/dev/hugepages", "/run/dpdk"] {
            if std::path::Path::new(directory).exists() {
                add("file", directory);
            }
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                add("file", &entry.path().to_string_lossy());
            }
        }
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            if status.contains("State:\tZ") {
                // It has ended; whoever inherited it has not asked for its status yet.
                continue;
            }
            if OURS.contains(&name.trim()) {
                add("process", &format!("{} {}", entry.file_name().to_string_lossy(), name));
            }
        }
        Ok(Self { things })
    }

    /// What is there now and was not there `before`.
    #[must_use]
    pub fn more_than(&self, before: &Self) -> Vec<String> {
        self.things.difference(&before.things).cloned().collect()
    }
}

/// Programs of the appliance and of its tools.
const OURS: &[&str] = &[
    "xtcpd",
    "xtcp-dataplane",
    "xtcp-demo",
    "xtcp-bench",
    "xtcp-stack-clie",
    "presence",
    "tcpdump",
];

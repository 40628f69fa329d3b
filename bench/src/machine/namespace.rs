//! A network namespace that is gone when its owner is.

use super::{MachineError, run};

/// A network namespace made by `ip netns add`, its loopback up.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes it.
    ///
    /// # Errors
    /// When there is one of this name, or the kernel refuses.
    pub fn create(name: &str) -> Result<Self, MachineError> {
        run(&format!("ip netns add {name}"))?;
        let namespace = Self { name: name.to_owned() };
        run(&format!("ip -n {name} link set lo up"))?;
        Ok(namespace)
    }

    /// Its name, as `ip netns exec` takes it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a command line inside it to its end; gives what it printed.
    ///
    /// # Errors
    /// When the program is missing or ends with another status than 0.
    pub fn run(&self, line: &str) -> Result<String, MachineError> {
        run(&format!("ip netns exec {} {line}", self.name))
    }

    /// A counter of the kernel's TCP inside it, by its name in /proc/net/netstat, e.g.
    /// `TCPDSACKRecv`; `None` when this kernel has no such counter.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub fn tcp_counter(&self, name: &str) -> Result<Option<u64>, MachineError> {
        let text = self.run("cat /proc/net/netstat")?;
        let mut lines = text.lines();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let mut both = names.split_whitespace().zip(values.split_whitespace());
            if let Some((_, value)) = both.find(|(n, _)| *n == name) {
                return Ok(value.parse().ok());
            }
        }
        Ok(None)
    }

    /// Takes one away that a killed process left, if there is one.
    pub fn sweep(name: &str) {
        if std::path::Path::new("/run/netns").join(name).exists() {
            // Whoever removed it meanwhile did what was wanted.
            let _ = run(&format!("ip netns del {name}"));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run(&format!("ip netns del {}", self.name)) {
            eprintln!("{error}");
        }
    }
}

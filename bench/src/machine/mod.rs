//! What the demo and the tests make of the machine they run on: namespaces, veth pairs, a lossy wire,
//! huge pages. Whatever is made belongs to a guard that takes it away again, also when a test panics.

mod hugepages;
mod link;
mod lossy_wire;
mod namespace;
mod state;

use std::fmt;
use std::io;
use std::process::{Command, Stdio};

pub use hugepages::{HUGE_PAGE_BYTES, HugePages};
pub use link::{VethPair, quieten};
pub use lossy_wire::{Impairments, LossyWire, Tally, Victim, Way};
pub use namespace::Namespace;
pub use state::MachineState;

/// Why the machine did not do what was asked.
#[derive(Debug)]
pub enum MachineError {
    /// A program that has to be there is not.
    Missing {
        /// Its name.
        program: String,
    },
    /// A program said no.
    Refused {
        /// The whole command.
        command: String,
        /// What it said.
        said: String,
    },
    /// A file of the kernel could not be read or written.
    File {
        /// Its path.
        path: String,
        /// The reason.
        error: io::Error,
    },
    /// Only root can do this.
    NotRoot,
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { program } => {
                write!(f, "`{program}` is not installed; `make setup` installs what is needed")
            }
            Self::Refused { command, said } => write!(f, "`{command}` said: {}", said.trim()),
            Self::File { path, error } => write!(f, "{path}: {error}"),
            Self::NotRoot => {
                write!(f, "network namespaces and packet sockets need root; run this as root")
            }
        }
    }
}

impl std::error::Error for MachineError {}

/// Refuses to go on as anybody but root.
///
/// # Errors
/// When not root.
pub fn need_root() -> Result<(), MachineError> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(MachineError::NotRoot) }
}

/// Runs a command line (words separated by blanks) to its end; gives what it printed.
///
/// # Errors
/// When the program is missing or ends with another status than 0.
pub fn run(line: &str) -> Result<String, MachineError> {
    run_with_input(line, None)
}

/// As [`run`], with text on standard input.
///
/// # Errors
/// When the program is missing or ends with another status than 0.
pub fn run_with_input(line: &str, input: Option<&str>) -> Result<String, MachineError> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let refused = |said: String| MachineError::Refused { command: line.to_owned(), said };
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => MachineError::Missing { program: program.to_owned() },
        _ => refused(error.to_string()),
    })?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        io::Write::write_all(&mut stdin, input.as_bytes())
            .map_err(|error| refused(error.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|error| refused(error.to_string()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(refused(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// Writes a kernel file under /proc or /sys.
pub(crate) fn write_file(path: &str, text: &str) -> Result<(), MachineError> {
    std::fs::write(path, text).map_err(|error| MachineError::File { path: path.to_owned(), error })
}

/// Reads a kernel file under /proc or /sys.
pub(crate) fn read_file(path: &str) -> Result<String, MachineError> {
    std::fs::read_to_string(path)
        .map_err(|error| MachineError::File { path: path.to_owned(), error })
}

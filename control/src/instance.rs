//! One appliance of a name: its run-time directory, its lock, and whether its dataplane lives.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Where instances' directories are unless said otherwise.
pub const RUN_DIR: &str = "/run/xtcp";

/// Socket that applications and `xtcpctl` come to.
#[must_use]
pub fn control_socket(run_dir: &Path, name: &str) -> PathBuf {
    run_dir.join(name).join("xtcpd.sock")
}

/// The hold on a name. The kernel ends it with the process, even after `kill -9`.
#[derive(Debug)]
pub struct Instance {
    directory: PathBuf,
    lock: File,
}

/// Why a name cannot be held.
#[derive(Debug)]
pub enum InstanceError {
    /// Another `xtcpd` holds it.
    Held {
        /// The name.
        name: String,
        /// Who, if it says so.
        pid: Option<u32>,
    },
    /// Its directory or lock cannot be made.
    Directory(PathBuf, io::Error),
}

impl fmt::Display for InstanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { name, pid } => {
                let who = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
                write!(
                    f,
                    "an xtcpd{who} already runs as `{name}`: stop it, or give this one another name \
                     with --name"
                )
            }
            Self::Directory(path, error) => write!(
                f,
                "{}: {error}; run as root, or choose a directory of your own with --run-dir",
                path.display()
            ),
        }
    }
}

impl std::error::Error for InstanceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Held { .. } => None,
            Self::Directory(_, error) => Some(error),
        }
    }
}

impl Instance {
    /// Makes the directory and takes the lock.
    ///
    /// # Errors
    /// Somebody holds it, or the directory cannot be made.
    pub fn hold(run_dir: &Path, name: &str) -> Result<Self, InstanceError> {
        let directory = run_dir.join(name);
        let denied = |path: &Path, error| InstanceError::Directory(path.to_owned(), error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory)
            .map_err(|error| denied(&directory, error))?;
        let path = directory.join("xtcpd.lock");
        let mut lock = open(&path).map_err(|error| denied(&path, error))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut text = String::new();
            let pid = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(InstanceError::Held { name: name.to_owned(), pid });
        }
        let note = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        note.map_err(|error| denied(&path, error))?;
        Ok(Self { directory, lock })
    }

    /// Socket that applications and `xtcpctl` come to.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.directory.join("xtcpd.sock")
    }

    /// Socket of the dataplane.
    #[must_use]
    pub fn dataplane_socket(&self) -> PathBuf {
        self.directory.join("dataplane.sock")
    }

    /// Whether a dataplane of this name lives: it holds its lock as long as it does.
    ///
    /// # Errors
    /// The lock cannot be opened.
    pub fn dataplane_lives(&self) -> io::Result<bool> {
        let lock = open(&self.directory.join("dataplane.lock"))?;
        // A shared lock, so that two who ask do not take each other for a dataplane.
        Ok(flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
    }

    /// Removes what a dead dataplane left behind. One that lives keeps it, whoever started that: nobody
    /// could reach it any more.
    pub fn clear_dataplane(&self) {
        if self.dataplane_lives().unwrap_or(true) {
            return;
        }
        // Mostly it is not there: a dataplane that ends in order removes it itself.
        let _ = std::fs::remove_file(self.dataplane_socket());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The file stays: removed, two holders could have two files of one name. What it says is
        // not true any more; if it cannot be emptied nothing is lost.
        let _ = self.lock.set_len(0);
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

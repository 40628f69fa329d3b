//! One dataplane of a name: its run-time directory and its lock.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::EngineError;

/// The hold on an instance's name, for as long as it lives; the kernel ends it with the process.
#[derive(Debug)]
pub(crate) struct Instance {
    directory: PathBuf,
    /// Holds the lock.
    lock: File,
}

impl Instance {
    /// Makes the instance's directory and takes its lock.
    ///
    /// # Errors
    /// Another dataplane holds the name, or the directory cannot be made.
    pub(crate) fn hold(run_dir: &Path, name: &str) -> Result<Self, EngineError> {
        let directory = run_dir.join(name);
        let denied = |path: &Path, error| EngineError::RunDirectory(path.to_owned(), error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory)
            .map_err(|error| denied(&directory, error))?;
        let path = directory.join("dataplane.lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| denied(&path, error))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(EngineError::Held { name: name.to_owned(), pid: holder(&mut lock) });
        }
        note_pid(&mut lock).map_err(|error| denied(&path, error))?;
        Ok(Self { directory, lock })
    }

    /// Where `xtcpd` finds us.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("dataplane.sock")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The lock file stays: to remove it would let two holders have two files of one name.
        // What it says is no longer true, though. If it cannot be emptied nothing is lost.
        let _ = self.lock.set_len(0);
    }
}

fn note_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

/// The process that holds the lock, if it says so.
fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_second_of_the_same_name_is_told_who_holds_it() {
        let run_dir = std::env::temp_dir().join(format!("xtcp-engine-{}", std::process::id()));
        let first = Instance::hold(&run_dir, "one").unwrap();
        let refused = Instance::hold(&run_dir, "one").unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        assert!(refused.contains("--name"), "{refused}");
        let other = Instance::hold(&run_dir, "two").unwrap();
        assert_eq!(other.socket(), run_dir.join("two/dataplane.sock"));
        drop(first);
        drop(Instance::hold(&run_dir, "one").unwrap());
        drop(other);
        fs::remove_dir_all(&run_dir).unwrap();
    }
}

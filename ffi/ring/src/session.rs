//! Starting a process that outlives its parent's terminal and session.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Starts `command` as the leader of a session of its own: neither a Ctrl-C at our terminal nor
/// the terminal's end reaches it.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let lead = || rustix::process::setsid().map(drop).map_err(io::Error::from);
    // SAFETY: between fork and exec the closure makes one system call and does not allocate,
    // lock or unwind.
    unsafe { command.pre_exec(lead) };
    command.spawn()
}

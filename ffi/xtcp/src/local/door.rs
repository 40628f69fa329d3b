//! The socket in the file system at which local clients knock.
//!
//! A file that a killed server left is replaced, one that a living server listens at is not. Servers
//! that come and go at one path take the directory's lock for each step, so that none of two that
//! start together removes the other's file.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{self};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use xtcp_ring::message::Refusal;

use crate::error::Error;

/// Clients that may wait for the next look; the kernel cuts this at its own bound.
const BACKLOG: i32 = 4096;

/// Where clients connect. Its drop removes it from the file system.
#[derive(Debug)]
pub(super) struct Door {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode of the file, to tell it from another's.
    file: (u64, u64),
    /// Who made it: a forked child has a copy, and must leave the file alone.
    process: u32,
}

impl Door {
    /// Listens at `path`. Who may connect is said by the file's permissions, as the process's umask
    /// leaves them.
    ///
    /// # Errors
    /// [`Error::Refused`] when the path cannot be or is another's, [`Error::System`].
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let address = SocketAddrUnix::new(path).map_err(|_| Error::Refused {
            refusal: Refusal::Invalid,
            reason: format!("{} is too long for a socket's path (107 bytes)", path.display()),
        })?;
        let failed = |source| Error::System { what: "listen on a UNIX socket", source };
        let lock = lock(path).map_err(failed)?;
        if !clear(path, &address).map_err(failed)? {
            return Err(Error::Refused {
                refusal: Refusal::InUse,
                reason: format!(
                    "{} is there and is no dead server's socket; end who listens at it, or take \
                     another path",
                    path.display()
                ),
            });
        }
        let opened = listen(path, &address).map_err(failed);
        drop(lock);
        opened
    }

    /// The next client, if one is there.
    ///
    /// # Errors
    /// The kernel's: too many open files.
    pub(super) fn accept(&self) -> io::Result<Option<OwnedFd>> {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match net::accept_with(&self.socket, flags) {
                Ok(client) => return Ok(Some(client)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn is_ours(&self) -> bool {
        let there = std::fs::symlink_metadata(&self.path);
        there.is_ok_and(|file| (file.dev(), file.ino()) == self.file)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            return;
        }
        // Without the lock the file may stay. It is found to be a dead server's then.
        let lock = lock(&self.path);
        if lock.is_ok() && self.is_ours() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Takes the directory's lock; it is given back when this is closed, and when the process dies.
fn lock(path: &Path) -> io::Result<File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(parent.unwrap_or_else(|| Path::new(".")))?;
    loop {
        match flock(&directory, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(directory),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes what a dead server left. Answers whether the path is free then.
fn clear(path: &Path, address: &SocketAddrUnix) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let knock = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match net::connect(&knock, address) {
        Err(Errno::NOENT) => Ok(true),
        // Nobody listens there: it is a dead server's, or no socket at all.
        Err(Errno::CONNREFUSED) if is_socket(path) => {
            std::fs::remove_file(path)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

fn listen(path: &Path, address: &SocketAddrUnix) -> io::Result<Door> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    net::bind(&socket, address)?;
    net::listen(&socket, BACKLOG)?;
    let file = std::fs::symlink_metadata(path)?;
    Ok(Door {
        socket,
        path: path.to_owned(),
        file: (file.dev(), file.ino()),
        process: std::process::id(),
    })
}

//! Messages over UNIX sockets, with file descriptors beside them.
//!
//! A message is JSON in one or more records of a `SOCK_SEQPACKET` socket. The first byte of a
//! record says whether another follows ([`MORE`]) or not ([`LAST`]); files travel with the first.
//! A receiver says how much it is willing to take, so a hostile sender cannot make it hold more.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    sockopt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of one record at most, its first byte included.
pub const RECORD_MAX: usize = 64 << 10;

/// Files that can come with a message at most: one per worker.
pub const FILES_MAX: usize = crate::layout::WORKERS_MAX as usize;

/// First byte of a record that is followed by another of the same message.
pub const MORE: u8 = 1;

/// First byte of a message's last record.
pub const LAST: u8 = 0;

/// What a message between processes that trust each other may have in bytes.
pub const MESSAGE_MAX: usize = 16 << 20;

/// Why a message did not go or come.
#[derive(Debug)]
pub enum TransportError {
    /// The other side has closed the connection.
    Closed,
    /// The time is over.
    TimedOut,
    /// The message is larger than this side takes, in bytes.
    TooLong(usize),
    /// The message is not one this side knows.
    Malformed(String),
    /// The operating system's.
    Io(io::Error),
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the other side has closed the connection"),
            Self::TimedOut => f.write_str("the other side did not answer in time"),
            Self::TooLong(max) => write!(f, "the message is longer than {max} bytes"),
            Self::Malformed(why) => write!(f, "the message is not understood: {why}"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Errno> for TransportError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::AGAIN => Self::TimedOut,
            Errno::PIPE | Errno::CONNRESET => Self::Closed,
            errno => Self::Io(errno.into()),
        }
    }
}

/// A connection that carries messages.
#[derive(Debug)]
pub struct Seqpacket {
    fd: OwnedFd,
}

impl Seqpacket {
    /// Connects to a socket. `timeout` bounds this and every later call; `None` waits for ever.
    ///
    /// # Errors
    /// The kernel's: nobody listens there, no permission, the path is longer than 107 bytes.
    pub fn connect(path: &Path, timeout: Option<Duration>) -> io::Result<Self> {
        let connection = Self { fd: socket(SocketFlags::empty())? };
        connection.set_timeout(timeout)?;
        net::connect(&connection.fd, &address(path)?)?;
        Ok(connection)
    }

    /// Two connected ends.
    ///
    /// # Errors
    /// The kernel has no more files to give.
    pub fn pair() -> io::Result<(Self, Self)> {
        let kind = SocketType::SEQPACKET;
        let (one, other) = net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok((Self { fd: one }, Self { fd: other }))
    }

    /// Bounds every later blocking call; `None` waits for ever.
    ///
    /// # Errors
    /// The timeout is zero.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        sockopt::set_socket_timeout(&self.fd, sockopt::Timeout::Recv, timeout)?;
        sockopt::set_socket_timeout(&self.fd, sockopt::Timeout::Send, timeout)?;
        Ok(())
    }

    /// The socket, for polling.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The process at the other end, as the kernel knows it; `None` if it is of another pid
    /// namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn peer_pid(&self) -> io::Result<Option<u32>> {
        let pid = sockopt::socket_peercred(&self.fd)?.pid.as_raw_pid();
        Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0))
    }

    /// Sends a message, and files beside it (at most [`FILES_MAX`]), waiting while the other side
    /// is behind.
    ///
    /// # Errors
    /// [`TransportError`]; after any but [`TransportError::TooLong`] the connection is of no more
    /// use, because part of the message may have gone.
    pub fn send<T: Serialize>(
        &self,
        message: &T,
        files: &[BorrowedFd<'_>],
    ) -> Result<(), TransportError> {
        let mut files = files;
        for record in records(message)? {
            self.send_record(&record, files, SendFlags::empty())?;
            files = &[];
        }
        Ok(())
    }

    /// Sends one record of [`records`] without waiting.
    ///
    /// # Errors
    /// [`TransportError::TimedOut`]: the other side is behind, try again when the socket is
    /// writable.
    pub fn try_send_record(
        &self,
        record: &[u8],
        files: &[BorrowedFd<'_>],
    ) -> Result<(), TransportError> {
        self.send_record(record, files, SendFlags::DONTWAIT)
    }

    /// Receives a message of at most [`MESSAGE_MAX`] bytes, and its files.
    ///
    /// # Errors
    /// [`TransportError`]; after any the connection is of no more use.
    pub fn recv<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), TransportError> {
        let mut partial = Partial::new(MESSAGE_MAX, FILES_MAX);
        loop {
            if let Some(text) = self.recv_record(&mut partial, RecvFlags::empty())? {
                return Ok((parse(&text)?, partial.files));
            }
        }
    }

    /// Receives at most one record without waiting; `None`: the message is not complete yet.
    /// `partial` keeps its beginning and must be the same for one connection. One record at a
    /// time, so that a sender who never ends cannot hold its receiver.
    ///
    /// # Errors
    /// [`TransportError::Malformed`]: the message was complete and not understood; the connection
    /// may go on. After any other it is of no more use.
    pub fn try_recv<T: DeserializeOwned>(
        &self,
        partial: &mut Partial,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, TransportError> {
        match self.recv_record(partial, RecvFlags::DONTWAIT) {
            Ok(Some(text)) => {
                let files = std::mem::take(&mut partial.files);
                Ok(Some((parse(&text)?, files)))
            }
            Ok(None) | Err(TransportError::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The user who runs the process at the other end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn peer_user(&self) -> io::Result<u32> {
        Ok(sockopt::socket_peercred(&self.fd)?.uid.as_raw())
    }

    fn send_record(
        &self,
        record: &[u8],
        files: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> Result<(), TransportError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(TransportError::TooLong(FILES_MAX));
        }
        let flags = flags | SendFlags::NOSIGNAL;
        loop {
            match net::sendmsg(&self.fd, &[IoSlice::new(record)], &mut beside, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The text of the message if this was its last record.
    fn recv_record(
        &self,
        partial: &mut Partial,
        flags: RecvFlags,
    ) -> Result<Option<Vec<u8>>, TransportError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
        let wanted = if partial.files_max == 0 { 0 } else { space.len() };
        let mut beside = RecvAncillaryBuffer::new(&mut space[..wanted]);
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let mut record = vec![0; RECORD_MAX];
        let received = loop {
            let into = &mut [IoSliceMut::new(&mut record)];
            match net::recvmsg(&self.fd, into, &mut beside, flags) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                partial.files.extend(files);
            }
        }
        if received.bytes == 0 {
            return Err(TransportError::Closed);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(TransportError::TooLong(RECORD_MAX));
        }
        partial.add(&record[..received.bytes])
    }
}

/// A message that has not come in full, and the bounds of what is taken.
#[derive(Debug)]
pub struct Partial {
    text: Vec<u8>,
    files: Vec<OwnedFd>,
    text_max: usize,
    files_max: usize,
}

impl Partial {
    /// Takes messages of up to `text_max` bytes with up to `files_max` files. With 0 the kernel
    /// throws away files that come.
    #[must_use]
    pub fn new(text_max: usize, files_max: usize) -> Self {
        Self { text: Vec::new(), files: Vec::new(), text_max, files_max }
    }

    fn add(&mut self, record: &[u8]) -> Result<Option<Vec<u8>>, TransportError> {
        let (&mark, text) = record.split_first().ok_or(TransportError::Closed)?;
        if self.text.len() + text.len() > self.text_max {
            return Err(TransportError::TooLong(self.text_max));
        }
        if self.files.len() > self.files_max {
            return Err(TransportError::Malformed(format!("more than {} files", self.files_max)));
        }
        self.text.extend_from_slice(text);
        let why = match mark {
            LAST => return Ok(Some(std::mem::take(&mut self.text))),
            MORE if !text.is_empty() => return Ok(None),
            MORE => "a record of nothing, to be continued".to_owned(),
            mark => format!("a record starts with {mark}, not 0 or 1"),
        };
        self.text.clear();
        self.files.clear();
        Err(TransportError::Malformed(why))
    }
}

/// A message cut into records.
///
/// # Errors
/// [`TransportError::TooLong`] beyond [`MESSAGE_MAX`].
pub fn records<T: Serialize>(message: &T) -> Result<Vec<Vec<u8>>, TransportError> {
    let text = serde_json::to_vec(message)
        .map_err(|error| TransportError::Malformed(error.to_string()))?;
    if text.len() > MESSAGE_MAX {
        return Err(TransportError::TooLong(MESSAGE_MAX));
    }
    let parts = text.chunks(RECORD_MAX - 1);
    let last = parts.len() - 1;
    let record = |(index, part): (usize, &[u8])| {
        let mark = if index == last { LAST } else { MORE };
        [&[mark], part].concat()
    };
    Ok(parts.enumerate().map(record).collect())
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, TransportError> {
    serde_json::from_slice(text).map_err(|error| TransportError::Malformed(error.to_string()))
}

/// A socket others connect to. Its drop removes it from the file system.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path` with the permissions `mode`. A socket that is there already is replaced:
    /// hold the instance's lock before calling this.
    ///
    /// # Errors
    /// The kernel's: no such directory, no permission, the path is longer than 107 bytes.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        let fd = socket(SocketFlags::NONBLOCK)?;
        let address = address(path)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        net::bind(&fd, &address)?;
        let listener = Self { fd, path: path.to_owned() };
        rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(mode))?;
        net::listen(&listener.fd, 64)?;
        Ok(listener)
    }

    /// The next connection, without waiting; `None` when there is none.
    ///
    /// # Errors
    /// The kernel's: too many open files.
    pub fn accept(&self) -> io::Result<Option<Seqpacket>> {
        loop {
            match net::accept_with(&self.fd, SocketFlags::CLOEXEC) {
                Ok(fd) => return Ok(Some(Seqpacket { fd })),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The socket, for polling: readable when somebody connects.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // It may have been removed by whoever cleans up after us; nothing is lost then.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    Ok(net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(path).map_err(|_| {
        let text = format!("{} is too long for a socket's path (107 bytes)", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

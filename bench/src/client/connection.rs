//! One client connection: connecting, exchanging, closing, every byte compared.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, ipproto, sockopt};

use super::Framing;
use crate::clock;
use crate::payload::Payload;

/// Bytes moved in one direction before another connection gets its turn.
const TURN_BYTES: u64 = 256 << 10;

/// What happened to a connection when its socket was ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Happened {
    /// Nothing that counts yet.
    Nothing,
    /// The handshake is complete.
    Connected,
    /// The answer is there, complete and right.
    Answered {
        /// Time since the request was due.
        latency: Duration,
    },
    /// The other side closed after us.
    Closed,
}

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A system call on the socket said no.
    System(&'static str, Errno),
    /// A byte of the answer is not the one that was sent.
    Differs { round: u32, at: u64 },
    /// The other side closed in the middle of an exchange or between two.
    Ended { round: u32, at: u64 },
    /// Bytes came that nobody asked for.
    Surplus,
    /// Nothing happened for as long as the plan allows.
    Silent { round: u32, sent: u64, got: u64 },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(call, errno) => write!(f, "{call}: {errno}"),
            Self::Differs { round, at } => {
                write!(f, "round {round}: byte {at} of the answer is not what was sent")
            }
            Self::Ended { round, at } => {
                write!(f, "round {round}: the server closed after {at} bytes of the answer")
            }
            Self::Surplus => write!(f, "the server sent bytes that no request asked for"),
            Self::Silent { round, sent, got } => write!(
                f,
                "round {round}: nothing moved any more after {sent} bytes sent and {got} received"
            ),
        }
    }
}

/// One exchange under way.
#[derive(Clone, Debug)]
struct Exchange {
    payload: Payload,
    round: u32,
    header: Vec<u8>,
    body: u64,
    written: u64,
    read: u64,
    due: Instant,
}

#[derive(Clone, Debug)]
enum State {
    Connecting,
    Resting { round: u32 },
    Exchanging(Exchange),
    Closing,
    Ended,
}

/// Bytes that went over all connections of a thread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// A client's end of one connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    state: State,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(target: SocketAddr) -> Result<Self, Failure> {
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
                .map_err(|errno| Failure::System("socket", errno))?;
        sockopt::set_tcp_nodelay(&socket, true)
            .map_err(|errno| Failure::System("TCP_NODELAY", errno))?;
        match rustix::net::connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Self { socket, state: State::Connecting }),
            Err(errno) => Err(Failure::System("connect", errno)),
        }
    }

    /// Whether it waits for room in the socket (or for the handshake).
    pub(super) fn wants_to_write(&self) -> bool {
        match &self.state {
            State::Connecting => true,
            State::Exchanging(exchange) => exchange.written < exchange.request(),
            State::Resting { .. } | State::Closing | State::Ended => false,
        }
    }

    /// Whether it can take a request.
    pub(super) fn is_resting(&self) -> bool {
        matches!(self.state, State::Resting { .. })
    }

    /// Whether it is over, well or not.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Gives it a request, written as far as the socket takes it.
    pub(super) fn begin(
        &mut self,
        framing: Framing,
        payload: Payload,
        round: u32,
        body: u64,
        due: Instant,
    ) {
        let header = framing.header(body);
        self.state =
            State::Exchanging(Exchange { payload, round, header, body, written: 0, read: 0, due });
    }

    /// Says that nothing more will be sent.
    pub(super) fn begin_to_close(&mut self) -> Result<(), Failure> {
        self.state = State::Closing;
        rustix::net::shutdown(&self.socket, Shutdown::Write)
            .map_err(|errno| Failure::System("shutdown", errno))
    }

    /// What [`Failure::Silent`] says of it now.
    pub(super) fn silence(&self) -> Failure {
        match &self.state {
            State::Exchanging(e) => {
                Failure::Silent { round: e.round, sent: e.written, got: e.read }
            }
            State::Connecting => Failure::System("connect", Errno::TIMEDOUT),
            State::Resting { .. } | State::Closing | State::Ended => {
                Failure::System("close", Errno::TIMEDOUT)
            }
        }
    }

    /// The socket is ready: go on.
    pub(super) fn on_ready(
        &mut self,
        scratch: &mut [u8],
        traffic: &mut Traffic,
    ) -> Result<Happened, Failure> {
        match &mut self.state {
            State::Connecting => self.finish_connecting(),
            State::Exchanging(exchange) => {
                exchange.write(self.socket.as_fd(), scratch, traffic)?;
                let answered = exchange.read(self.socket.as_fd(), scratch, traffic)?;
                if !answered {
                    return Ok(Happened::Nothing);
                }
                let latency = clock::now().saturating_duration_since(exchange.due);
                self.state = State::Resting { round: exchange.round };
                Ok(Happened::Answered { latency })
            }
            State::Resting { round } => {
                let round = *round;
                match read(self.socket.as_fd(), scratch)? {
                    None => Ok(Happened::Nothing),
                    Some(0) => Err(Failure::Ended { round, at: 0 }),
                    Some(_) => Err(Failure::Surplus),
                }
            }
            State::Closing => match read(self.socket.as_fd(), scratch)? {
                None => Ok(Happened::Nothing),
                Some(0) => {
                    self.state = State::Ended;
                    Ok(Happened::Closed)
                }
                Some(_) => Err(Failure::Surplus),
            },
            State::Ended => Ok(Happened::Nothing),
        }
    }

    fn finish_connecting(&mut self) -> Result<Happened, Failure> {
        sockopt::socket_error(&self.socket)
            .and_then(|error| error)
            .map_err(|errno| Failure::System("connect", errno))?;
        match rustix::net::getpeername(&self.socket) {
            Ok(_) => {
                self.state = State::Resting { round: 0 };
                Ok(Happened::Connected)
            }
            Err(Errno::NOTCONN) => Ok(Happened::Nothing),
            Err(errno) => Err(Failure::System("connect", errno)),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Exchange {
    fn request(&self) -> u64 {
        self.header.len() as u64 + self.body
    }

    /// Puts header and body into `out` from offset `written`; says how many bytes.
    fn next_bytes(&self, out: &mut [u8]) -> usize {
        let header_len = self.header.len() as u64;
        if self.written < header_len {
            let header = &self.header[self.written as usize..];
            let body = (out.len() - header.len()).min(self.body as usize);
            out[..header.len()].copy_from_slice(header);
            self.payload.write(0, &mut out[header.len()..header.len() + body]);
            return header.len() + body;
        }
        let at = self.written - header_len;
        let len = usize::try_from(self.body - at).map_or(out.len(), |left| left.min(out.len()));
        self.payload.write(at, &mut out[..len]);
        len
    }

    fn write(
        &mut self,
        socket: BorrowedFd<'_>,
        scratch: &mut [u8],
        traffic: &mut Traffic,
    ) -> Result<(), Failure> {
        let mut turn = 0;
        while self.written < self.request() && turn < TURN_BYTES {
            let len = self.next_bytes(scratch);
            match rustix::net::send(socket, &scratch[..len], rustix::net::SendFlags::NOSIGNAL) {
                Ok(written) => {
                    self.written += written as u64;
                    traffic.sent += written as u64;
                    turn += written as u64;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Failure::System("send", errno)),
            }
        }
        Ok(())
    }

    /// Reads and compares; true when the answer is complete.
    fn read(
        &mut self,
        socket: BorrowedFd<'_>,
        scratch: &mut [u8],
        traffic: &mut Traffic,
    ) -> Result<bool, Failure> {
        let mut turn = 0;
        while turn < TURN_BYTES {
            let Some(len) = read(socket, scratch)? else { break };
            if len == 0 {
                return Err(Failure::Ended { round: self.round, at: self.read });
            }
            if self.read + len as u64 > self.body {
                return Err(Failure::Surplus);
            }
            if let Some(index) = self.payload.first_difference(self.read, &scratch[..len]) {
                return Err(Failure::Differs { round: self.round, at: self.read + index as u64 });
            }
            self.read += len as u64;
            traffic.received += len as u64;
            turn += len as u64;
            // The usual small answer came whole: spare the read that would say "no more".
            if self.read == self.body {
                break;
            }
        }
        Ok(self.read == self.body && self.written == self.request())
    }
}

/// Some bytes, 0 at the end of the stream, `None` when there are none yet.
fn read(socket: BorrowedFd<'_>, scratch: &mut [u8]) -> Result<Option<usize>, Failure> {
    loop {
        match rustix::io::read(socket, &mut *scratch) {
            Ok(len) => return Ok(Some(len)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Failure::System("read", errno)),
        }
    }
}

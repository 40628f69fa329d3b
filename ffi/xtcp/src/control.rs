//! Words with `xtcpd`: what is rare goes over its socket.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use xtcp_ring::message::{Reply, Request, VERSION};
use xtcp_ring::{Seqpacket, TransportError};

use crate::error::Error;

/// Who this application is to `xtcpd`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) endpoint: u16,
    pub(crate) key: u64,
}

#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
    timeout: Duration,
    socket: Option<Seqpacket>,
    /// Known once attached; a restarted `xtcpd` takes us back by it.
    identity: Option<Identity>,
}

impl Control {
    pub(crate) fn new(path: PathBuf, timeout: Duration) -> Self {
        Self { path, timeout, socket: None, identity: None }
    }

    pub(crate) fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }

    /// Asks, on a new connection if the old one is broken.
    ///
    /// # Errors
    /// [`Error::Control`] or, in `xtcpd`'s words, [`Error::Refused`].
    pub(crate) fn ask(&mut self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), Error> {
        if let Some(socket) = &self.socket {
            // An xtcpd that was restarted has closed the old connection, and got nothing of this.
            // One that goes away after the question may have done what was asked: say so then.
            match socket.send(request, &[]) {
                Ok(()) => return self.answer(),
                Err(_) => self.socket = None,
            }
        }
        self.connect()?;
        self.exchange(request)
    }

    fn connect(&mut self) -> Result<(), Error> {
        let connected = Seqpacket::connect(&self.path, Some(self.timeout));
        self.socket = Some(connected.map_err(|source| self.unreachable(source))?);
        let Some(Identity { endpoint, key }) = self.identity else { return Ok(()) };
        self.exchange(&Request::Resume { version: VERSION, endpoint, key }).map(drop)
    }

    fn exchange(&mut self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), Error> {
        let sent = self.socket.as_ref().map(|socket| socket.send(request, &[]));
        match sent.unwrap_or(Err(TransportError::Closed)) {
            Ok(()) => self.answer(),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn answer(&mut self) -> Result<(Reply, Vec<OwnedFd>), Error> {
        let received = self.socket.as_ref().map(Seqpacket::recv);
        match received.unwrap_or(Err(TransportError::Closed)) {
            Ok((Reply::Refused { refusal, reason }, _)) => Err(Error::Refused { refusal, reason }),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// A connection that failed is not used again.
    fn failed(&mut self, error: TransportError) -> Error {
        self.socket = None;
        self.unreachable(io::Error::other(error))
    }

    fn unreachable(&self, source: io::Error) -> Error {
        Error::Control { path: self.path.clone(), source }
    }
}

/// `xtcpd` answered a question that was not asked.
pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::Handover { what: format!("xtcpd answered {reply:?} to another question") }
}

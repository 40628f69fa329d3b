//! One connection to `xtcpd.sock`: an application or an operator, and possibly hostile.
//!
//! Its messages are bounded in size, files it sends are thrown away, and while it does not take
//! its answer it is not asked for its next request.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use xtcp_ring::message::{Refusal, Reply, Request};
use xtcp_ring::transport::{Partial, records};
use xtcp_ring::{Seqpacket, TransportError};

use crate::dataplane::Attached;

/// Bytes of a request at most.
const REQUEST_MAX: usize = 8 << 10;

/// Messages nobody understands that a connection may send before it is closed.
const NONSENSE_MAX: u32 = 16;

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    link: Seqpacket,
    partial: Partial,
    unsent: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    nonsense: u32,
    /// The process at the other end, 0 if it cannot be known.
    pub(crate) pid: u32,
    /// Whether it is run by root or by the user who runs us.
    pub(crate) is_operator: bool,
    /// Its user.
    pub(crate) uid: u32,
    /// Its endpoint, when it has become an application.
    pub(crate) endpoint: Option<Attached>,
}

impl Client {
    pub(crate) fn new(link: Seqpacket) -> io::Result<Self> {
        let user = link.peer_user()?;
        Ok(Self {
            pid: link.peer_pid()?.unwrap_or(0),
            is_operator: user == 0 || user == rustix::process::geteuid().as_raw(),
            uid: user,
            link,
            partial: Partial::new(REQUEST_MAX, 0),
            unsent: VecDeque::new(),
            nonsense: 0,
            endpoint: None,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.link.fd()
    }

    /// What to wait for.
    pub(crate) fn interest(&self) -> PollFlags {
        if self.unsent.is_empty() { PollFlags::IN } else { PollFlags::OUT }
    }

    /// Sends what is unsent; if that is all, reads one request, for [`Self::reply`] to answer.
    pub(crate) fn next_request(&mut self) -> Result<Option<Request>, TransportError> {
        self.flush()?;
        if !self.unsent.is_empty() {
            return Ok(None);
        }
        match self.link.try_recv::<Request>(&mut self.partial) {
            Ok(received) => Ok(received.map(|(request, _)| request)),
            Err(TransportError::Malformed(why)) if self.nonsense < NONSENSE_MAX => {
                self.nonsense += 1;
                let reason = format!("the message is not understood: {why}");
                let refused = Reply::Refused { refusal: Refusal::Invalid, reason };
                self.reply(&refused, Vec::new()).map(|()| None)
            }
            Err(error) => Err(error),
        }
    }

    /// Answers a request, at once or as soon as the other end takes it.
    pub(crate) fn reply(
        &mut self,
        reply: &Reply,
        files: Vec<OwnedFd>,
    ) -> Result<(), TransportError> {
        let mut files = Some(files);
        for record in records(reply)? {
            self.unsent.push_back((record, files.take().unwrap_or_default()));
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        while let Some((record, files)) = self.unsent.front() {
            let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            match self.link.try_send_record(record, &files) {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(TransportError::TimedOut) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

//! One client: its end of a connection, and what the model knows of it.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use xtcp::{Connection, Deferred, Request};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// The application has ended it.
    Ending,
    Closed,
}

/// One client, as the model has it.
pub(super) struct Client {
    pub(super) stream: Option<TcpStream>,
    pub(super) connection: Connection,
    pub(super) stage: Stage,
    /// The appliance acknowledges by itself after a while, so the application may let go of what it
    /// wants only with more.
    pub(super) holds: bool,
    /// Not everything need arrive: it was reset, or closed with something unread.
    pub(super) lossy: bool,
    pub(super) finished: bool,
    /// The rest of its last request was let go of.
    pub(super) let_go: bool,
    /// It has sent one byte more, so that what is held is given again.
    nudged: bool,
    pub(super) sent: Vec<u8>,
    pub(super) taken: usize,
    pub(super) acknowledged: usize,
    pub(super) wanted: Vec<u8>,
    pub(super) received: Vec<u8>,
}

impl Client {
    pub(super) fn new(stream: TcpStream, connection: Connection, holds: bool) -> Self {
        Self {
            stream: Some(stream),
            connection,
            stage: Stage::Open,
            holds,
            lossy: false,
            finished: false,
            let_go: false,
            nudged: false,
            sent: Vec::new(),
            taken: 0,
            acknowledged: 0,
            wanted: Vec::new(),
            received: Vec::new(),
        }
    }

    /// Sends as much of `len` bytes as its kernel takes. Answers how much.
    pub(super) fn send(&mut self, client: usize, len: usize) -> usize {
        if self.stage != Stage::Open || self.finished {
            return 0;
        }
        let bytes = text(client, self.sent.len(), len);
        let Some(stream) = &mut self.stream else { return 0 };
        match stream.write(&bytes) {
            Ok(count) => {
                self.sent.extend_from_slice(&bytes[..count]);
                count
            }
            Err(error) => {
                assert!(error.kind() == ErrorKind::WouldBlock, "{error}: {self:?}");
                0
            }
        }
    }

    pub(super) fn finish(&mut self) {
        if self.stage == Stage::Open && !std::mem::replace(&mut self.finished, true) {
            let stream = self.stream.as_ref().expect("it is open");
            stream.shutdown(Shutdown::Write).unwrap();
        }
    }

    pub(super) fn reset(&mut self) {
        if self.stage == Stage::Open
            && let Some(stream) = self.stream.take()
        {
            (self.finished, self.lossy) = (true, true);
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
    }

    /// What was let go of and held is given again with what comes next.
    pub(super) fn nudge(&mut self, client: usize) {
        if self.holds && !self.nudged {
            self.nudged = self.send(client, 1) > 0;
        }
    }

    /// Takes what has arrived.
    pub(super) fn listen(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let mut buf = [0; 16 << 10];
        while let Ok(count @ 1..) = stream.read(&mut buf) {
            self.received.extend_from_slice(&buf[..count]);
        }
    }

    /// Whether it has everything it is to have, and was heard out.
    pub(super) fn is_done(&self) -> bool {
        let heard = self.stage != Stage::Open || self.let_go || self.taken == self.sent.len();
        self.lossy || (heard && self.received.len() >= self.wanted.len())
    }

    /// The port its kernel knows it by, and how many bytes that must still hold for it, because the
    /// application has not acknowledged them; `None` where something else may have.
    pub(super) fn unacknowledged(&self) -> Option<(u16, usize)> {
        let stream = self.stream.as_ref()?;
        let sure = self.stage == Stage::Open && !self.lossy && !self.holds;
        let port = stream.local_addr().unwrap().port();
        sure.then(|| (port, self.sent.len() - self.acknowledged))
    }
}

impl fmt::Debug for Client {
    /// Lengths, not bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, stage, holds, lossy, finished, let_go, nudged, .. } = self;
        let (sent, taken, acknowledged) = (self.sent.len(), self.taken, self.acknowledged);
        let (wanted, received) = (self.wanted.len(), self.received.len());
        write!(
            f,
            "{connection:?} {stage:?}, holds {holds}, lossy {lossy}, finished {finished}, \
             let go {let_go}, nudged {nudged}: sent {sent}, taken {taken}, \
             acknowledged {acknowledged}; sent to {wanted}, received {received}"
        )
    }
}

/// A request to be answered later: whose, and how far it goes in the client's stream.
pub(super) struct Later {
    pub(super) client: usize,
    pub(super) deferred: Deferred,
    pub(super) up_to: usize,
}

/// Looks at a request, and does with it what the choice says.
pub(super) fn on_request(
    mut request: Request<'_>,
    who: usize,
    known: &mut Client,
    later: &mut Vec<Later>,
    choice: usize,
) {
    assert_eq!(known.stage, Stage::Open, "a request after the end");
    let all = request.contiguous().into_owned();
    let offset = usize::try_from(request.offset()).unwrap();
    assert_eq!(offset, known.taken, "given from the first byte that was not taken: {known:?}");
    // Not `assert_eq`, which would print the bytes.
    assert!(known.sent[offset..].starts_with(&all), "other bytes than were sent: {known:?}");
    assert!(request.acknowledge(all.len() + 1).is_err(), "more than was given");
    let count = all.len() * (choice % 5) / 4;
    let acknowledged = match choice {
        255 => request.acknowledge(all.len()).is_ok().then_some(all.len()),
        0..80 => request.acknowledge(count).is_ok().then_some(count),
        80..160 => {
            let bytes = text(who + 50, known.wanted.len(), choice * 10);
            request.answer(count, &bytes).is_ok().then(|| {
                known.wanted.extend(bytes);
                count
            })
        }
        160..200 if count > 0 => {
            let deferred = request.defer(count).unwrap();
            known.taken += count;
            later.push(Later { client: who, deferred, up_to: known.taken });
            None
        }
        _ => None,
    };
    if let Some(count @ 1..) = acknowledged {
        known.taken += count;
        known.acknowledged = known.taken;
    }
    // Where nobody else acknowledges, a client whose bytes are held may be unable to send those
    // the application waits for: it takes what it has.
    if !known.holds || choice % 2 == 0 {
        request.again();
    } else {
        known.let_go |= request.is_last();
    }
}

/// Bytes that tell whose they are and where they belong.
pub(super) fn text(client: usize, from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at * 31 + at / 251 + client * 97).to_le_bytes()[0]).collect()
}

//! A worker that is played: real rings, bell and receive memory, handed over as `xtcpd` does, and no
//! dataplane behind them. So the application library can be measured alone.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use xtcp::{Application, Attach, GroupOptions, Inbox};
use xtcp_ring::layout::{flag, kind, op};
use xtcp_ring::{
    DataplaneChannel, EndpointLayout, Listener, Mapping, Notice, PageSize, Reply, Request, Ringer,
    Seqpacket, SharedMemory, bell,
};

use super::Failure;

const LAYOUT: EndpointLayout =
    EndpointLayout { workers: 1, submissions: 512, notices: 512, arena_bytes: 1 << 20 };

/// Bytes of the receive memory: requests lie one behind the other, in a circle.
const RECEIVE: usize = 1 << 20;

/// The group's handle.
const GD: u32 = 1 << 16 | 1;

/// The appliance, as far as one application can see it. Its files are closed, and so the application
/// told of its end, when this is dropped.
pub(super) struct Played {
    channel: DataplaneChannel,
    ringer: Ringer,
    run_dir: PathBuf,
    _lifeline: std::os::fd::OwnedFd,
    /// Offset in each connection's stream.
    streams: Vec<u64>,
    next_byte: u64,
    answer: Vec<u8>,
}

/// How to attach to it.
#[derive(Clone, Debug)]
pub(super) struct Door(PathBuf);

impl Played {
    /// With this many open connections in one group.
    pub(super) fn new(connections: usize) -> Result<Self, Failure> {
        let run_dir = std::env::temp_dir().join(format!("xtcp-bench-{}", std::process::id()));
        std::fs::create_dir_all(run_dir.join("xtcp"))?;
        let listener = Listener::bind(&run_dir.join("xtcp/xtcpd.sock"), 0o600)?;
        let receive = SharedMemory::create("receive", RECEIVE, PageSize::Ordinary)?;
        let endpoint = SharedMemory::create("endpoint", LAYOUT.total_bytes(), PageSize::Ordinary)?;
        let mapping = Mapping::writable(&endpoint)?;
        LAYOUT.prepare(&mapping).map_err(|unfit| format!("{unfit:?}"))?;
        let (bell, sleeping_end) = bell::pair()?;
        let (reading, writing) = bell::lifeline()?;
        let channel = DataplaneChannel::open(&mapping, &LAYOUT, 0);
        let mut played = Self {
            channel: channel.map_err(|unfit| format!("{unfit:?}"))?,
            ringer: Ringer::open(&mapping, bell).map_err(|unfit| format!("{unfit:?}"))?,
            run_dir,
            _lifeline: reading,
            streams: vec![0; connections],
            next_byte: 0,
            answer: vec![0; 64 << 10],
        };
        let reply = Reply::Attached {
            endpoint: 0,
            pool: 0,
            key: 1,
            layout: LAYOUT,
            receive_bytes: RECEIVE as u64,
            resumed: None,
        };
        let files = [endpoint.into_fd(), receive.into_fd(), sleeping_end, writing];
        thread::spawn(move || {
            // Nobody listens any more only when the measurement is over.
            let _ = converse(&listener, &reply, &files.each_ref().map(AsFd::as_fd));
        });
        for connection in 0..connections {
            let cd = cd(connection);
            played.tell(&Notice { kind: kind::OPENED, gd: GD, cd, ..Notice::default() });
        }
        played.channel.notices.publish();
        Ok(played)
    }

    /// For the thread that is to be the application.
    pub(super) fn door(&self) -> Door {
        Door(self.run_dir.clone())
    }

    fn tell(&mut self, notice: &Notice) {
        self.channel.notices.push(notice).expect("the application reads its notices");
    }

    /// Gives one request of this many bytes on each of the first `count` connections, in one go.
    pub(super) fn give(&mut self, count: usize, bytes: u16) {
        for connection in 0..count {
            let len = u64::from(bytes);
            if self.next_byte + len > RECEIVE as u64 {
                self.next_byte = 0;
            }
            let (cd, offset, at) = (cd(connection), self.streams[connection], self.next_byte);
            let notice = Notice { kind: kind::DATA, gd: GD, cd, len: bytes, offset, at, reason: 0 };
            self.tell(&notice);
            self.streams[connection] += len;
            self.next_byte += len;
        }
        self.channel.notices.publish();
    }

    /// Wakes the application if it sleeps; says whether it did.
    pub(super) fn ring(&self) -> bool {
        self.ringer.ring_if_parked()
    }

    /// Takes what was submitted, copying the bytes as a worker does; gives how many of it answer and
    /// acknowledge.
    pub(super) fn take(&mut self) -> usize {
        let mut answers = 0;
        while let Some(asked) = self.channel.submissions.pop().expect("an honest application") {
            let into = &mut self.answer[..asked.len as usize];
            self.channel.arena.copy_out(asked.at, into).expect("inside the arena");
            answers += usize::from(asked.op == op::SEND && asked.flags & flag::ACKNOWLEDGE != 0);
        }
        self.channel.submissions.release();
        answers
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.run_dir);
    }
}

impl Door {
    /// Makes the calling thread the application.
    pub(super) fn attach(&self) -> Result<(Application, Inbox), Failure> {
        let attach = Attach { run_dir: self.0.clone(), ..Attach::new("measured") };
        let (application, inbox) = Application::attach(&attach)?;
        application.open_group(&GroupOptions::new("measured", 7))?;
        Ok((application, inbox))
    }
}

fn cd(connection: usize) -> u64 {
    1 << 40 | (connection as u64 + 1)
}

/// `xtcpd`, for one application.
fn converse(
    listener: &Listener,
    attached: &Reply,
    files: &[std::os::fd::BorrowedFd<'_>],
) -> Result<(), Failure> {
    let socket: Seqpacket = loop {
        poll(&mut [PollFd::from_borrowed_fd(listener.fd(), PollFlags::IN)], None)?;
        if let Some(socket) = listener.accept()? {
            break socket;
        }
    };
    loop {
        match socket.recv::<Request>()? {
            (Request::Attach { .. }, _) => socket.send(attached, files)?,
            (Request::OpenGroup(_), _) => socket.send(&Reply::Group { gd: GD }, &[])?,
            _ => socket.send(&Reply::Done, &[])?,
        }
    }
}

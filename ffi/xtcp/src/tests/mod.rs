//! The library against workers that are played by the test: real rings, no dataplane, no `xtcpd`.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use xtcp_ring::layout::{flag, kind, op};
use xtcp_ring::{
    DataplaneChannel, EndpointLayout, Mapping, Notice, PageSize, Ringer, SharedMemory, Submission,
    bell,
};

use crate::application::Handover;
use crate::control::Control;
use crate::{Application, Attach, Connection, Event, Group, Inbox, Request};

mod attaching;
mod hostile;
mod local;
mod model;
mod numbered;
mod receiving;
mod resting;
mod sending;
mod transacting;
mod waiting;

/// The one group most tests have.
const GD: u32 = 0x0001_0000;

/// Bytes of the receive memory of each worker.
const PART: u64 = 64 << 10;

/// A connection of [`GD`] at a worker.
fn connection(worker: u8, index: u32) -> Connection {
    Connection { gd: GD, cd: 1 << 40 | u64::from(worker) << 32 | u64::from(index) }
}

/// A submission with the bytes it names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    submission: Submission,
    bytes: Vec<u8>,
}

impl Asked {
    fn acknowledged(&self) -> Option<u64> {
        (self.submission.flags & flag::ACKNOWLEDGE != 0).then_some(self.submission.offset)
    }
}

/// One worker's end of the rings.
struct Worker {
    channel: DataplaneChannel,
    ringer: Ringer,
}

impl Worker {
    /// The next submission, without releasing it.
    fn peek(&mut self) -> Option<Asked> {
        let submission = self.channel.submissions.pop().expect("an honest application")?;
        assert_eq!(submission.reserved, 0);
        let mut bytes = vec![0; submission.len as usize];
        self.channel.arena.copy_out(submission.at, &mut bytes).expect("inside the arena");
        Some(Asked { submission, bytes })
    }

    /// Everything submitted, taken and released.
    fn take(&mut self) -> Vec<Asked> {
        let all = std::iter::from_fn(|| self.peek()).collect();
        self.channel.submissions.release();
        all
    }

    fn tell(&mut self, notice: Notice) {
        self.channel.notices.push(&notice).expect("room for a notice");
        self.channel.notices.publish();
        self.ringer.ring_if_parked();
    }

    fn tell_of(&mut self, kind: u8, connection: Connection) {
        self.tell(Notice { kind, gd: connection.gd, cd: connection.cd, ..Notice::default() });
    }

    fn refuse(&mut self, asked: &Asked, reason: u8) {
        let Submission { gd, cd, len, .. } = asked.submission;
        let offset = u64::from(len);
        self.tell(Notice { kind: kind::SEND_REFUSED, reason, gd, cd, offset, ..Notice::default() });
    }
}

/// The appliance, as far as an application can see it.
struct Fake {
    workers: Vec<Worker>,
    receive: SharedMemory,
    mapping: Mapping,
    /// The dataplane's end; closing it is the dataplane's death.
    lifeline: Option<OwnedFd>,
    /// Where the next bytes go in each worker's part.
    next: Vec<u64>,
}

impl Fake {
    /// Puts bytes into the receive memory, behind all others, and tells of them in one piece.
    fn data(&mut self, connection: Connection, offset: u64, bytes: &[u8]) {
        let worker = usize::from(connection.worker());
        let at = PART * worker as u64 + self.next[worker];
        rustix::io::pwrite(self.receive.fd(), bytes, at).expect("the receive memory is writable");
        // A gap, so that pieces do not lie side by side by accident.
        self.next[worker] += bytes.len() as u64 + 1;
        let Connection { gd, cd } = connection;
        let len = bytes.len().try_into().expect("a piece");
        let notice = Notice { kind: kind::DATA, gd, cd, len, offset, at, ..Notice::default() };
        self.workers[worker].tell(notice);
    }
}

const LAYOUT: EndpointLayout =
    EndpointLayout { workers: 2, submissions: 16, notices: 64, arena_bytes: 4096 };

/// An attached application with the group [`GD`] open, and its appliance.
fn attached() -> (Application, Inbox, Fake) {
    attached_with(LAYOUT, &Attach::new("test"))
}

fn attached_with(layout: EndpointLayout, attach: &Attach) -> (Application, Inbox, Fake) {
    let (fake, handover) = appliance(layout);
    let control = Control::new(PathBuf::from("/nonexistent/xtcpd.sock"), Duration::from_secs(5));
    let (application, inbox) =
        Application::assemble(handover, attach, control).expect("memory that fits");
    application.shared().endpoint.borrow_mut().add_group(Group(GD), 1);
    (application, inbox, fake)
}

/// Memory, rings and bell as `xtcpd` makes them.
fn appliance(layout: EndpointLayout) -> (Fake, Handover) {
    let receive_bytes = PART * u64::from(layout.workers);
    let len = usize::try_from(receive_bytes).expect("a small memory");
    let receive = SharedMemory::create("receive", len, PageSize::Ordinary).expect("memory");
    let endpoint =
        SharedMemory::create("endpoint", layout.total_bytes(), PageSize::Ordinary).expect("memory");
    let mapping = Mapping::writable(&endpoint).expect("a mapping");
    layout.prepare(&mapping).expect("a layout");
    let (bell, sleeping_end) = bell::pair().expect("a bell");
    let workers = (0..layout.workers)
        .map(|number| Worker {
            channel: DataplaneChannel::open(&mapping, &layout, number).expect("a channel"),
            ringer: Ringer::open(&mapping, bell.try_clone().expect("a file")).expect("a ringer"),
        })
        .collect();
    let (reading, writing) = rustix::pipe::pipe().expect("a pipe");
    let handover = Handover {
        layout,
        receive_bytes,
        endpoint: endpoint.fd().try_clone_to_owned().expect("a file"),
        receive: receive.fd().try_clone_to_owned().expect("a file"),
        bell: sleeping_end,
        lifeline: writing,
        resumed: None,
    };
    let next = vec![0; usize::from(layout.workers)];
    (Fake { workers, receive, mapping, lifeline: Some(reading), next }, handover)
}

/// What an event was, without what it borrows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Acceptable(Connection),
    Request(Connection, u64, Vec<u8>),
    Other(String),
}

/// Everything that has come; requests are let go of untouched.
fn seen(inbox: &mut Inbox) -> Vec<Seen> {
    let mut all = Vec::new();
    let mut batch = inbox.receive().expect("a sound endpoint");
    while let Some(event) = batch.next_event() {
        all.push(match event {
            Event::Acceptable(client) => Seen::Acceptable(client.connection()),
            Event::Request(request) => seen_request(&request),
            other => Seen::Other(format!("{other:?}")),
        });
    }
    all
}

fn seen_request(request: &Request<'_>) -> Seen {
    Seen::Request(request.connection(), request.offset(), request.contiguous().into_owned())
}

/// Does something with the next request, which must be there.
fn with_request<R>(inbox: &mut Inbox, work: impl FnOnce(Request<'_>) -> R) -> R {
    let mut batch = inbox.receive().expect("a sound endpoint");
    loop {
        match batch.next_event().expect("a request") {
            Event::Request(request) => return work(request),
            _ => continue,
        }
    }
}

/// Runs the library until it has nothing more to say to the workers, which take everything.
fn settle(inbox: &mut Inbox, fake: &mut Fake) -> Vec<Asked> {
    let mut all = Vec::new();
    for _ in 0..1000 {
        inbox.turn().expect("a sound endpoint");
        let asked: Vec<Asked> = fake.workers.iter_mut().flat_map(Worker::take).collect();
        if asked.is_empty() && inbox.sleep_max().is_none() {
            return all;
        }
        all.extend(asked);
    }
    panic!("the library does not come to rest");
}

fn ops(asked: &[Asked]) -> Vec<(u8, u64)> {
    asked.iter().map(|asked| (asked.submission.op, asked.submission.cd)).collect()
}

/// Names the operations that the tests compare.
const SEND: u8 = op::SEND;

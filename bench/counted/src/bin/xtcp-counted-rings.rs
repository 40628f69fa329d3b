//! `xtcp-counted-rings EXCHANGES BYTES [PAUSE]`: a worker and an application that meet in shared memory. What
//! is counted is what `work` does, a worker's turns: frames in, submissions, notices, frames out; and
//! what `answer` does, an application's turn in the library: notices, a look at the bytes, answers.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{self, ExitCode};
use std::{env, error, fs, thread};

use rustix::event::{PollFd, PollFlags, poll};
use xtcp::{Application, Attach, Event, GroupOptions, Inbox};
use xtcp_counted::{Frames, PORT, RECEIVE_BYTES, Serve, group, stack};
use xtcp_engine::applications::{ApplicationCounters, Applications, NewEndpoint, Wake};
use xtcp_ring::{
    DataplaneChannel, EndpointLayout, ExclusiveMapping, Listener, Mapping, PageSize, Reply,
    Request, Ringer, SharedMemory, bell,
};
use xtcp_stack::{Gd, Instant, RxFrame, Stack};

/// The application's number.
const NUMBER: u16 = 0;

const LAYOUT: EndpointLayout =
    EndpointLayout { workers: 1, submissions: 1024, notices: 1024, arena_bytes: 1 << 20 };

type Failure = Box<dyn error::Error + Send + Sync>;

/// A worker's part, and the application's.
struct Server {
    stack: Stack<'static>,
    applications: Applications,
    counters: ApplicationCounters,
    application: Application,
    inbox: Inbox,
    copy: Vec<u8>,
    _lifeline: OwnedFd,
}

fn server() -> Server {
    let endpoint = SharedMemory::create("endpoint", LAYOUT.total_bytes(), PageSize::Ordinary)
        .expect("memory for rings");
    let receive = SharedMemory::create("receive", RECEIVE_BYTES, PageSize::Ordinary)
        .expect("memory for requests");
    let mapping = Mapping::writable(&endpoint).expect("rings can be mapped");
    LAYOUT.prepare(&mapping).expect("the layout fits");
    let (bell, sleeping_end) = bell::pair().expect("a bell");
    let (lifeline, held_end) = bell::lifeline().expect("a lifeline");
    let new = NewEndpoint {
        number: NUMBER,
        channel: DataplaneChannel::open(&mapping, &LAYOUT, 0).expect("the layout fits"),
        ringer: Ringer::open(&mapping, bell).expect("the header fits"),
        receive: ExclusiveMapping::map(&receive).expect("nobody else has it").into_static_bytes(),
        receive_from: 0,
    };
    let mut stack = stack();
    let mut applications = Applications::new(0, 4);
    applications.open(new, &mut stack).expect("room for a pool");
    let name = Gd::new(1, 1);
    applications
        .open_group(NUMBER, name, &group(), Wake::AT_ONCE, &mut stack)
        .expect("room for a group");
    let files = [endpoint.into_fd(), receive.into_fd(), sleeping_end, held_end];
    let (application, inbox) = attach(name, &files.each_ref().map(AsFd::as_fd));
    Server {
        stack,
        applications,
        counters: ApplicationCounters::default(),
        application,
        inbox,
        copy: Vec::new(),
        _lifeline: lifeline,
    }
}

/// The application's part, handed over by an `xtcpd` that is played.
fn attach(group: Gd, files: &[BorrowedFd<'_>]) -> (Application, Inbox) {
    let run_dir = env::temp_dir().join(format!("xtcp-counted-{}", process::id()));
    fs::create_dir_all(run_dir.join("xtcp")).expect("a directory for a socket");
    let listener = Listener::bind(&run_dir.join("xtcp/xtcpd.sock"), 0o600).expect("a socket");
    let attached = thread::scope(|scope| {
        let played = scope.spawn(|| introduce(&listener, group, files));
        let attach = Attach { run_dir: run_dir.clone(), ..Attach::new("counted") };
        let attached = Application::attach(&attach).expect("rings are handed over");
        attached.0.open_group(&GroupOptions::new("counted", PORT)).expect("a group");
        played.join().expect("it does not panic").expect("a conversation");
        attached
    });
    fs::remove_dir_all(run_dir).expect("what was made can be removed");
    attached
}

/// What `xtcpd` says to an application that attaches and opens a group.
fn introduce(listener: &Listener, group: Gd, files: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    poll(&mut [PollFd::from_borrowed_fd(listener.fd(), PollFlags::IN)], None)?;
    let socket = listener.accept()?.ok_or("nobody calls")?;
    loop {
        match socket.recv::<Request>()?.0 {
            Request::Attach { .. } => {
                let attached = Reply::Attached {
                    endpoint: NUMBER,
                    pool: 0,
                    key: 1,
                    layout: LAYOUT,
                    receive_bytes: RECEIVE_BYTES as u64,
                    resumed: None,
                };
                socket.send(&attached, files)?;
            }
            _ => return Ok(socket.send(&Reply::Group { gd: group.to_bits() }, &[])?),
        }
    }
}

impl Serve for Server {
    /// Requests in and told; answered; answers out.
    fn serve(&mut self, frames: &[RxFrame<'_>], now: Instant, out: &mut Frames) {
        work(self, frames, now, out);
        answer(self);
        work(self, &[], now, out);
    }
}

/// A worker's turn. Its own function, for `bench/count` counts what is done below it.
#[inline(never)]
fn work(server: &mut Server, frames: &[RxFrame<'_>], now: Instant, out: &mut Frames) {
    let Server { stack, applications, counters, .. } = server;
    stack.on_burst(frames, out, now);
    applications.drain(stack, counters, |_, lie| panic!("{lie}"), now);
    applications.publish(stack, counters, |_, lie| panic!("{lie}"), now);
    stack.on_timeout(now);
    stack.poll_frames(out, now);
}

/// An application's turn: an echo. Its own function, for `bench/count` counts what is done below it.
#[inline(never)]
fn answer(server: &mut Server) {
    let Server { application, inbox, copy, .. } = server;
    let mut batch = inbox.receive().expect("the worker is there");
    while let Some(event) = batch.next_event() {
        if let Event::Request(mut request) = event {
            copy.clear();
            request.slices().for_each(|slice| copy.extend_from_slice(slice));
            request.answer(copy.len(), copy).expect("there is room");
        }
    }
    application.flush();
}

fn main() -> ExitCode {
    xtcp_counted::run("xtcp-counted-rings", server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exchange_is_answered() {
        xtcp_counted::assert_every_exchange_is_answered(server);
    }
}

//! An appliance that is played: an `xtcpd` with a socket, one worker with rings, and clients whose
//! TCP is perfect. Applications cannot tell it from the real one, be they this process or another.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xtcp_ring::layout::{flag, kind, op};
use xtcp_ring::message::{ConnectionInfo, Family, GroupOptions, GroupRecord, Reply, Request};
use xtcp_ring::{
    DataplaneChannel, EndpointLayout, Listener, Mapping, Notice, PageSize, Ringer, Seqpacket,
    SharedMemory, bell,
};

/// One worker, with rings small enough to fill.
const LAYOUT: EndpointLayout =
    EndpointLayout { workers: 1, submissions: 64, notices: 256, arena_bytes: 64 << 10 };

/// Bytes of each application's receive memory; nothing is put there twice.
const RECEIVE: u64 = 16 << 20;

/// How long something may take that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client(u64);

/// How far a client's connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its SYN waits.
    Waiting,
    /// The handshake is complete.
    Open,
    /// The application has closed.
    Closed,
    /// The application has reset or refused it.
    Reset,
}

#[derive(Debug)]
struct Session {
    endpoint: usize,
    gd: u32,
    stage: Stage,
    sent: u64,
    /// What was sent, from the first byte on.
    text: Vec<u8>,
    acknowledged: u64,
    received: Vec<u8>,
    /// Segments with bytes that came, and of these the ones with an acknowledgement.
    answers: usize,
    acknowledging_answers: usize,
}

struct Endpoint {
    application: String,
    channel: DataplaneChannel,
    ringer: Ringer,
    receive: SharedMemory,
    /// Where the next bytes go.
    next: u64,
    /// The dataplane's end; closing it is the dataplane's death.
    lifeline: Option<OwnedFd>,
}

#[derive(Default)]
struct World {
    endpoints: Vec<Endpoint>,
    /// Endpoint and options of each group, by its handle.
    groups: HashMap<u32, (usize, GroupOptions)>,
    sessions: HashMap<u64, Session>,
    opened: u32,
    /// Nothing is taken from the rings.
    stalled: bool,
    /// What an application leaves is its successor's.
    keeps: bool,
}

struct Shared {
    world: Mutex<World>,
    changed: Condvar,
    ends: AtomicBool,
}

/// The played appliance; it ends when this is dropped.
pub(crate) struct Appliance {
    run_dir: PathBuf,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Appliance {
    /// Starts the instance `xtcp` in a directory of its own.
    pub(crate) fn start() -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("xtcp-played-{}-{number}", std::process::id());
        let run_dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(run_dir.join("xtcp")).expect("a directory");
        let socket = run_dir.join("xtcp/xtcpd.sock");
        let listener = Listener::bind(&socket, 0o600).expect("a socket");
        let shared = Arc::new(Shared {
            world: Mutex::default(),
            changed: Condvar::new(),
            ends: AtomicBool::new(false),
        });
        let (xtcpd, worker) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || serve(&listener, &xtcpd)),
            thread::spawn(move || work(&worker)),
        ];
        Self { run_dir, shared, threads }
    }

    /// What `XTCP_RUN_DIR` is to be.
    pub(crate) fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The names of the applications that ever attached.
    pub(crate) fn applications(&self) -> Vec<String> {
        self.world().endpoints.iter().map(|endpoint| endpoint.application.clone()).collect()
    }

    /// What the group on a port was opened with; waits until it is.
    pub(crate) fn group(&self, port: u16) -> GroupOptions {
        let world = self.wait_until(|world| find_group(world, port).is_some());
        let gd = find_group(&world, port).expect("just found");
        world.groups[&gd].1.clone()
    }

    /// A client connects to a port, whose group is waited for.
    pub(crate) fn connect(&self, port: u16) -> Client {
        let client = self.connect_as(port, Stage::Waiting);
        let acceptable = Notice { kind: kind::ACCEPTABLE, ..Notice::default() };
        tell(&mut self.world(), client.0, acceptable);
        client
    }

    fn connect_as(&self, port: u16, stage: Stage) -> Client {
        let mut world = self.wait_until(|world| find_group(world, port).is_some());
        let gd = find_group(&world, port).expect("just found");
        world.opened += 1;
        let cd = 1 << 40 | u64::from(world.opened);
        let (endpoint, _) = world.groups[&gd];
        world.sessions.insert(
            cd,
            Session {
                endpoint,
                gd,
                stage,
                sent: 0,
                text: Vec::new(),
                acknowledged: 0,
                received: Vec::new(),
                answers: 0,
                acknowledging_answers: 0,
            },
        );
        Client(cd)
    }

    /// A client connects to a group that accepts automatically.
    pub(crate) fn connect_automatically(&self, port: u16) -> Client {
        let client = self.connect_as(port, Stage::Open);
        let opened = Notice { kind: kind::OPENED, ..Notice::default() };
        tell(&mut self.world(), client.0, opened);
        client
    }

    /// A client sends, in one segment; as soon as its handshake is complete.
    pub(crate) fn send(&self, client: Client, bytes: &[u8]) {
        let is_open = |world: &World| world.sessions[&client.0].stage != Stage::Waiting;
        let mut world = self.wait_until(is_open);
        let session = world.sessions.get_mut(&client.0).expect("a client");
        let (endpoint, offset) = (session.endpoint, session.sent);
        session.sent += bytes.len() as u64;
        session.text.extend_from_slice(bytes);
        let endpoint = &mut world.endpoints[endpoint];
        let at = endpoint.next;
        rustix::io::pwrite(endpoint.receive.fd(), bytes, at).expect("the receive memory");
        endpoint.next += bytes.len() as u64 + 1;
        assert!(endpoint.next <= RECEIVE, "the test sends too much");
        let len = bytes.len().try_into().expect("one segment");
        tell(
            &mut world,
            client.0,
            Notice { kind: kind::DATA, len, offset, at, ..Notice::default() },
        );
    }

    /// A client sends no more.
    pub(crate) fn finish(&self, client: Client) {
        let mut world = self.world();
        let offset = world.sessions[&client.0].sent;
        tell(&mut world, client.0, Notice { kind: kind::FINISHED, offset, ..Notice::default() });
    }

    /// A connection ends for a reason of the stack's: 1 reset by the client, 2 down.
    pub(crate) fn end(&self, client: Client, reason: u8) {
        let mut world = self.world();
        let session = &world.sessions[&client.0];
        let offset = session.sent - session.acknowledged;
        tell(
            &mut world,
            client.0,
            Notice { kind: kind::CLOSED, reason, offset, ..Notice::default() },
        );
    }

    /// Waits until a client has got this text behind all else, and takes everything it got.
    pub(crate) fn expect(&self, client: Client, end: &str) -> String {
        let got = |world: &World| world.sessions[&client.0].received.ends_with(end.as_bytes());
        let mut world = self.wait_until(got);
        let session = world.sessions.get_mut(&client.0).expect("a client");
        String::from_utf8(std::mem::take(&mut session.received)).expect("text")
    }

    /// Waits until a client has got so many bytes, and takes them.
    pub(crate) fn expect_bytes(&self, client: Client, count: usize) -> Vec<u8> {
        let got = |world: &World| world.sessions[&client.0].received.len() >= count;
        let mut world = self.wait_until(got);
        std::mem::take(&mut world.sessions.get_mut(&client.0).expect("a client").received)
    }

    /// How far a connection has come.
    pub(crate) fn stage(&self, client: Client) -> Stage {
        self.world().sessions[&client.0].stage
    }

    /// Waits until a connection has come so far.
    pub(crate) fn expect_stage(&self, client: Client, stage: Stage) {
        drop(self.wait_until(|world| world.sessions[&client.0].stage == stage));
    }

    /// Waits until so many of a client's bytes are acknowledged.
    pub(crate) fn expect_acknowledged(&self, client: Client, count: u64) {
        drop(self.wait_until(|world| world.sessions[&client.0].acknowledged == count));
    }

    /// How many of a client's bytes are acknowledged.
    pub(crate) fn acknowledged(&self, client: Client) -> u64 {
        self.world().sessions[&client.0].acknowledged
    }

    /// Segments with bytes a client got, and how many of them acknowledged something.
    pub(crate) fn answers(&self, client: Client) -> (usize, usize) {
        let world = self.world();
        let session = &world.sessions[&client.0];
        (session.answers, session.acknowledging_answers)
    }

    /// The worker takes nothing from the rings, or does again.
    pub(crate) fn stall(&self, stalled: bool) {
        self.world().stalled = stalled;
    }

    /// What an application leaves from now on is its successor's.
    pub(crate) fn keep(&self) {
        self.world().keeps = true;
    }

    /// The dataplane dies.
    pub(crate) fn die(&self) {
        for endpoint in &mut self.world().endpoints {
            endpoint.lifeline = None;
        }
    }

    /// Waits until every application has let go of its lifeline.
    pub(crate) fn expect_all_gone(&self) {
        let world = self.world();
        for endpoint in &world.endpoints {
            let lifeline = endpoint.lifeline.as_ref().expect("the dataplane lives");
            let mut file = [PollFd::new(lifeline, PollFlags::empty())];
            let most = Timespec { tv_sec: 30, tv_nsec: 0 };
            let hung_up = poll(&mut file, Some(&most)).expect("a poll");
            assert_eq!(hung_up, 1, "{} is still there", endpoint.application);
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().expect("no test has panicked there")
    }

    fn wait_until(&self, mut is_so: impl FnMut(&World) -> bool) -> MutexGuard<'_, World> {
        let (world, time) = self
            .shared
            .changed
            .wait_timeout_while(self.world(), PATIENCE, |world| !is_so(world))
            .expect("no test has panicked there");
        assert!(!time.timed_out(), "what was waited for does not happen; {:?}", world.sessions);
        world
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.run_dir);
    }
}

fn find_group(world: &World, port: u16) -> Option<u32> {
    world.groups.iter().find(|(_, (_, options))| options.port == port).map(|(gd, _)| *gd)
}

fn tell(world: &mut World, cd: u64, notice: Notice) {
    let session = &world.sessions[&cd];
    let endpoint = &mut world.endpoints[session.endpoint];
    let notice = Notice { gd: session.gd, cd, ..notice };
    endpoint.channel.notices.push(&notice).expect("room for a notice");
    endpoint.channel.notices.publish();
    endpoint.ringer.ring_if_parked();
}

/// The worker: polls the rings as a real one does.
fn work(shared: &Shared) {
    while !shared.ends.load(Ordering::Relaxed) {
        let mut world = shared.world.lock().expect("no test has panicked there");
        let mut any = false;
        if !world.stalled {
            for index in 0..world.endpoints.len() {
                any |= drain(&mut world, index);
            }
        }
        drop(world);
        if any {
            shared.changed.notify_all();
        } else {
            thread::sleep(Duration::from_micros(100));
        }
    }
}

fn drain(world: &mut World, index: usize) -> bool {
    let mut any = false;
    while let Some(asked) =
        world.endpoints[index].channel.submissions.pop().expect("an honest application")
    {
        any = true;
        let mut bytes = vec![0; asked.len as usize];
        let arena = &world.endpoints[index].channel.arena;
        arena.copy_out(asked.at, &mut bytes).expect("inside the arena");
        let Some(session) = world.sessions.get_mut(&asked.cd) else { continue };
        assert_eq!((session.gd, session.endpoint), (asked.gd, index), "whose connection");
        let closed = Notice { kind: kind::CLOSED, ..Notice::default() };
        match asked.op {
            op::ACCEPT => {
                session.stage = Stage::Open;
                tell(world, asked.cd, Notice { kind: kind::OPENED, ..Notice::default() });
                continue;
            }
            op::SEND => {
                assert_eq!(session.stage, Stage::Open, "bytes before the handshake or after close");
                let acknowledges = asked.flags & flag::ACKNOWLEDGE != 0;
                if acknowledges {
                    assert!(asked.offset <= session.sent, "beyond what was sent");
                    session.acknowledged = session.acknowledged.max(asked.offset);
                }
                if !bytes.is_empty() {
                    session.answers += 1;
                    session.acknowledging_answers += usize::from(acknowledges);
                }
                session.received.extend(bytes);
            }
            op::ABORT | op::REFUSE => {
                session.stage = Stage::Reset;
                tell(world, asked.cd, Notice { reason: 3, ..closed });
                continue;
            }
            op::CLOSE => {}
            other => panic!("operation {other}"),
        }
        let closes = asked.op == op::CLOSE || asked.flags & flag::CLOSE_AFTER != 0;
        if closes && session.stage == Stage::Open {
            session.stage = Stage::Closed;
            tell(world, asked.cd, closed);
        }
    }
    world.endpoints[index].channel.submissions.release();
    any
}

/// `xtcpd`: a thread for each connection, which ends when its application does.
fn serve(listener: &Listener, shared: &Arc<Shared>) {
    while !shared.ends.load(Ordering::Relaxed) {
        let mut file = [PollFd::from_borrowed_fd(listener.fd(), PollFlags::IN)];
        let while_nobody_comes = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        if poll(&mut file, Some(&while_nobody_comes)).expect("a poll") == 0 {
            continue;
        }
        let Some(socket) = listener.accept().expect("a socket") else { continue };
        let shared = Arc::clone(shared);
        thread::spawn(move || converse(&socket, &shared));
    }
}

fn converse(socket: &Seqpacket, shared: &Shared) {
    let mut endpoint = None;
    while let Ok((request, _)) = socket.recv::<Request>() {
        let mut world = shared.world.lock().expect("no test has panicked there");
        let reply = match request {
            Request::Attach { application, .. } => {
                let (made, mut reply, files) = attach(application);
                let number = world.endpoints.len();
                endpoint = Some(number);
                world.endpoints.push(made);
                if world.keeps {
                    let left = inherit(&mut world, number);
                    if let Reply::Attached { resumed, .. } = &mut reply {
                        *resumed = left;
                    }
                }
                let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
                socket.send(&reply, &files).expect("the application listens");
                shared.changed.notify_all();
                continue;
            }
            Request::OpenGroup(options) if options.port == 1 => Reply::Refused {
                refusal: xtcp_ring::message::Refusal::InUse,
                reason: "port 1 is the test's".to_owned(),
            },
            Request::OpenGroup(options) => {
                world.opened += 1;
                let open = find_group(&world, options.port).filter(|_| world.keeps);
                let gd = open.unwrap_or(1 << 16 | world.opened);
                world.groups.insert(gd, (endpoint.expect("attached"), options));
                Reply::Group { gd }
            }
            Request::CloseGroup { gd } => {
                world.groups.remove(&gd);
                for session in world.sessions.values_mut().filter(|session| session.gd == gd) {
                    session.stage = Stage::Reset;
                }
                Reply::Done
            }
            Request::Describe { cd } => match world.sessions.get(&cd) {
                Some(session) => Reply::Described(describe(&world, session, cd)),
                None => Reply::Refused {
                    refusal: xtcp_ring::message::Refusal::NotThere,
                    reason: "no such connection".to_owned(),
                },
            },
            Request::DrainGroup { gd, .. } => {
                drain_group(&mut world, gd);
                Reply::Done
            }
            Request::Detach => Reply::Done,
            other => panic!("{other:?}"),
        };
        drop(world);
        shared.changed.notify_all();
        if socket.send(&reply, &[]).is_err() {
            return;
        }
    }
}

/// Gives an application what its predecessor left: groups, open connections, and what they sent.
fn inherit(world: &mut World, heir: usize) -> Option<Vec<GroupRecord>> {
    let name = world.endpoints[heir].application.clone();
    let former = world.endpoints[..heir].iter().rposition(|one| one.application == name)?;
    let mut left = Vec::new();
    for (gd, (owner, options)) in world.groups.iter_mut().filter(|(_, (of, _))| *of == former) {
        *owner = heir;
        left.push(GroupRecord { gd: *gd, endpoint: 0, options: options.clone() });
    }
    let of_former = |session: &Session| session.endpoint == former && session.stage == Stage::Open;
    let mut open: Vec<u64> =
        world.sessions.iter().filter(|(_, one)| of_former(one)).map(|(cd, _)| *cd).collect();
    open.sort_unstable();
    for cd in open {
        let session = world.sessions.get_mut(&cd).expect("just found");
        session.endpoint = heir;
        let offset = session.acknowledged;
        let rest = session.text[usize::try_from(offset).expect("small")..].to_vec();
        tell(world, cd, Notice { kind: kind::OPENED, ..Notice::default() });
        if !rest.is_empty() {
            let endpoint = &mut world.endpoints[heir];
            let at = endpoint.next;
            rustix::io::pwrite(endpoint.receive.fd(), &rest, at).expect("the receive memory");
            endpoint.next += rest.len() as u64 + 1;
            let len = rest.len().try_into().expect("one segment");
            tell(world, cd, Notice { kind: kind::DATA, len, offset, at, ..Notice::default() });
        }
    }
    let channel = &mut world.endpoints[heir].channel;
    let complete = Notice { kind: kind::RESUMED, ..Notice::default() };
    channel.notices.push(&complete).expect("room for a notice");
    channel.notices.publish();
    Some(left)
}

/// Ends a group's connections at once, and says that none is left.
fn drain_group(world: &mut World, gd: u32) {
    let of_group = |session: &Session| session.gd == gd && session.stage == Stage::Open;
    let open: Vec<u64> =
        world.sessions.iter().filter(|(_, one)| of_group(one)).map(|(cd, _)| *cd).collect();
    for cd in open {
        world.sessions.get_mut(&cd).expect("just found").stage = Stage::Closed;
        tell(world, cd, Notice { kind: kind::CLOSED, ..Notice::default() });
    }
    let endpoint = &mut world.endpoints[world.groups[&gd].0];
    let drained = Notice { kind: kind::DRAINED, gd, ..Notice::default() };
    endpoint.channel.notices.push(&drained).expect("room for a notice");
    endpoint.channel.notices.publish();
    endpoint.ringer.ring_if_parked();
}

fn describe(world: &World, session: &Session, cd: u64) -> ConnectionInfo {
    let (_, options) = &world.groups[&session.gd];
    let of = |host: u32, port: u16| match options.family {
        Family::V4 => format!("10.77.0.{host}:{port}"),
        Family::V6 | Family::Dual => format!("[fd77::{host}]:{port}"),
    };
    ConnectionInfo {
        cd,
        gd: session.gd,
        remote: of(1, 40000).parse().expect("an address"),
        local: of(2, options.port).parse().expect("an address"),
        state: "ESTABLISHED".to_owned(),
    }
}

/// Memory, rings and bell as `xtcpd` makes them.
fn attach(application: String) -> (Endpoint, Reply, [OwnedFd; 4]) {
    let bytes = |bytes: u64| usize::try_from(bytes).expect("a small memory");
    let receive =
        SharedMemory::create("receive", bytes(RECEIVE), PageSize::Ordinary).expect("memory");
    let memory =
        SharedMemory::create("endpoint", LAYOUT.total_bytes(), PageSize::Ordinary).expect("memory");
    let mapping = Mapping::writable(&memory).expect("a mapping");
    LAYOUT.prepare(&mapping).expect("a layout");
    let (bell, sleeping_end) = bell::pair().expect("a bell");
    let (reading, writing) = bell::lifeline().expect("a lifeline");
    let endpoint = Endpoint {
        application,
        channel: DataplaneChannel::open(&mapping, &LAYOUT, 0).expect("a channel"),
        ringer: Ringer::open(&mapping, bell).expect("a ringer"),
        receive,
        next: 0,
        lifeline: Some(reading),
    };
    let reply = Reply::Attached {
        endpoint: 0,
        pool: 0,
        key: 1,
        layout: LAYOUT,
        receive_bytes: RECEIVE,
        resumed: None,
    };
    let receive = endpoint.receive.fd().try_clone_to_owned().expect("a file");
    (endpoint, reply, [memory.into_fd(), receive, sleeping_end, writing])
}

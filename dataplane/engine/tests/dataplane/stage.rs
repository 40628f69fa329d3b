//! A dataplane, what `xtcpd` is to it, and applications.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use xtcp_ring::message::{
    Accept, Acknowledge, Answer, Command as Order, EndpointRecord, Family, GroupOptions, Refused,
    State, VERSION,
};
use xtcp_ring::{EndpointLayout, Mapping, PageSize, Seqpacket, SharedMemory, bell};

pub(crate) const WORKERS: u8 = 2;

pub(crate) const LAYOUT: EndpointLayout =
    EndpointLayout { workers: WORKERS, submissions: 16, notices: 16, arena_bytes: 4096 };

pub(crate) const RECEIVE: u64 = 1 << 20;

/// How long anything may take; nothing here comes near it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Held while a process is started.
static STARTING: Mutex<()> = Mutex::new(());

/// While it is held no test starts a process. One that is being started has all our files for a moment,
/// the lifeline of an application among them, which then does not hang up when the application ends.
pub(crate) fn nobody_starts() -> MutexGuard<'static, ()> {
    // A test that failed while it held it has spoiled nothing.
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program with these arguments.
pub(crate) fn spawn(words: &str) -> Child {
    let _only_us = nobody_starts();
    Command::new(env!("CARGO_BIN_EXE_xtcp-dataplane"))
        .args(words.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A dataplane process and its directory, both gone when this is dropped.
pub(crate) struct Dataplane {
    pub(crate) child: Child,
    said: BufReader<ChildStderr>,
    pub(crate) run_dir: PathBuf,
    owns_dir: bool,
}

impl Dataplane {
    /// Starts one for `xtcpd` and waits until it listens.
    pub(crate) fn for_control(test: &str) -> Self {
        let mut dataplane = Self::start(run_dir(test), true, "--control");
        dataplane.hears("waiting for xtcpd");
        dataplane
    }

    pub(crate) fn start(run_dir: PathBuf, owns_dir: bool, options: &str) -> Self {
        let eal = "-l 0 --no-pci --no-huge -m 160 --vdev=net_ring0 --";
        let common = "--ip 10.9.0.1/24 --workers-cores 0,1 --connections 100 --transmit-bytes 1M";
        let words = format!("{eal} {common} --name t --run-dir {} {options}", run_dir.display());
        let mut child = spawn(&words);
        let said = BufReader::new(child.stderr.take().unwrap());
        Self { child, said, run_dir, owns_dir }
    }

    /// Waits for a line on standard error that has these words.
    pub(crate) fn hears(&mut self, words: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let read = self.said.read_line(&mut line).unwrap();
            assert!(read > 0, "it ended without saying `{words}`:\n{all}");
            if line.contains(words) {
                return line;
            }
            all.push_str(&line);
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir.join("t/dataplane.sock")
    }

    pub(crate) fn connect(&self) -> Xtcpd {
        Xtcpd(Seqpacket::connect(&self.socket(), Some(PATIENCE)).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; says the status and what it still said.
    pub(crate) fn ended(&mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.owns_dir {
            let _ = fs::remove_dir_all(&self.run_dir);
        }
    }
}

pub(crate) fn run_dir(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("xtcp-dataplane-{test}-{}", std::process::id()))
}

/// What `xtcpd` is to a dataplane.
pub(crate) struct Xtcpd(pub(crate) Seqpacket);

impl Xtcpd {
    pub(crate) fn ask(&self, order: &Order, files: &[&OwnedFd]) -> Answer {
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        self.0.send(order, &files).unwrap();
        self.0.recv().unwrap().0
    }

    pub(crate) fn refusal(&self, order: &Order, files: &[&OwnedFd]) -> String {
        self.refused(order, files).reason
    }

    pub(crate) fn refused(&self, order: &Order, files: &[&OwnedFd]) -> Refused {
        match self.ask(order, files) {
            Answer::Refused { refusal, reason } => Refused { refusal, reason },
            other => panic!("{order:?} was answered by {other:?}"),
        }
    }

    pub(crate) fn done(&self, order: &Order, files: &[&OwnedFd]) {
        assert_eq!(self.ask(order, files), Answer::Done, "{order:?}");
    }

    pub(crate) fn state(&self) -> State {
        match self.ask(&Order::Hello { version: VERSION }, &[]) {
            Answer::Welcome { state, workers, .. } => {
                assert_eq!(workers, WORKERS);
                state
            }
            other => panic!("Hello was answered by {other:?}"),
        }
    }

    /// Endpoints and groups of a running dataplane.
    pub(crate) fn running(&self) -> (Vec<u16>, Vec<u32>) {
        let State::Running { endpoints, groups, .. } = self.state() else {
            panic!("it has no memory")
        };
        let numbers = endpoints.iter().map(|record| record.endpoint);
        (numbers.collect(), groups.iter().map(|group| group.gd).collect())
    }

    pub(crate) fn brings_memory(&self) {
        let State::Fresh { tables_bytes_per_worker } = self.state() else { panic!("it has some") };
        let memory: Vec<SharedMemory> = tables_bytes_per_worker
            .iter()
            .map(|bytes| shared("tables", usize::try_from(*bytes).unwrap()))
            .collect();
        let files: Vec<OwnedFd> = memory.iter().map(file).collect();
        let tables_bytes = memory.iter().map(|memory| memory.len() as u64).collect();
        self.done(&Order::Memory { tables_bytes }, &files.iter().collect::<Vec<_>>());
    }
}

pub(crate) fn shared(name: &str, bytes: usize) -> SharedMemory {
    SharedMemory::create(name, bytes, PageSize::Ordinary).unwrap()
}

pub(crate) fn file(memory: &SharedMemory) -> OwnedFd {
    memory.fd().try_clone_to_owned().unwrap()
}

/// An application, and what `xtcpd` made for it.
pub(crate) struct App {
    pub(crate) record: EndpointRecord,
    pub(crate) endpoint: SharedMemory,
    pub(crate) receive: SharedMemory,
    pub(crate) bell: OwnedFd,
    /// The dataplane's end, until it is sent.
    pub(crate) lifeline: OwnedFd,
    /// The application's own end.
    pub(crate) life: OwnedFd,
    pub(crate) mapping: Mapping,
}

impl App {
    pub(crate) fn new(number: u16) -> Self {
        let endpoint = shared("endpoint", LAYOUT.total_bytes());
        let mapping = Mapping::writable(&endpoint).unwrap();
        LAYOUT.prepare(&mapping).unwrap();
        let (lifeline, life) = bell::lifeline().unwrap();
        let record = EndpointRecord {
            endpoint: number,
            pool: number,
            application: format!("app{number}"),
            pid: 4711,
            uid: 0,
            key: 1,
            layout: LAYOUT,
            receive_bytes: RECEIVE,
            successor_ms: 0,
            hostile_ms: 0,
        };
        let receive = shared("receive", usize::try_from(RECEIVE).unwrap());
        Self { record, endpoint, receive, bell: bell::pair().unwrap().0, lifeline, life, mapping }
    }

    pub(crate) fn attach(self, xtcpd: &Xtcpd) -> Attached {
        let order = Order::OpenEndpoint(self.record.clone());
        let (endpoint, receive) = (file(&self.endpoint), file(&self.receive));
        xtcpd.done(&order, &[&endpoint, &receive, &self.bell, &self.lifeline]);
        // Our copies would keep the lifeline and the bell alive.
        let Self { receive, life, mapping, .. } = self;
        Attached { receive, life, mapping }
    }
}

/// An application at work.
pub(crate) struct Attached {
    pub(crate) receive: SharedMemory,
    pub(crate) life: OwnedFd,
    pub(crate) mapping: Mapping,
}

impl Attached {
    /// Waits until the dataplane has let go of us.
    pub(crate) fn is_cut_off(&self) {
        let mut polled = [PollFd::new(&self.life, PollFlags::empty())];
        let limit = Timespec { tv_sec: 30, tv_nsec: 0 };
        assert_eq!(poll(&mut polled, Some(&limit)).unwrap(), 1, "still attached");
        assert!(polled[0].revents().contains(PollFlags::ERR));
    }
}

pub(crate) fn group(name: &str, port: u16) -> GroupOptions {
    GroupOptions {
        name: name.to_owned(),
        port,
        family: Family::Dual,
        accept: Accept::Automatic,
        acknowledge: Acknowledge::OnReceive,
        window_max: 65_536,
        nagle: false,
        ..GroupOptions::new("group", 7)
    }
}

pub(crate) fn open_group(xtcpd: &Xtcpd, endpoint: u16, port: u16) -> u32 {
    let options = group("group", port);
    match xtcpd.ask(&Order::OpenGroup { endpoint, options }, &[]) {
        Answer::Group { gd } => gd,
        other => panic!("OpenGroup was answered by {other:?}"),
    }
}

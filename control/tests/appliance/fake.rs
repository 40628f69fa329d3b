//! A dataplane without packets: it speaks the commands, maps and seals the memory, watches the
//! lifelines, and misbehaves when a name says so.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use xtcp_ring::layout::kind;
use xtcp_ring::message::{
    Answer, Command, ConnectionInfo, Drain, EndpointRecord, GroupRecord, Refused, Row, State, Topic,
};
use xtcp_ring::transport::{FILES_MAX, MESSAGE_MAX, Partial};
use xtcp_ring::{
    DataplaneChannel, ExclusiveMapping, Listener, Mapping, Notice, Ringer, Seqpacket, SharedMemory,
    StaticBytes, TransportError,
};

/// Its command line, in one variable: the test harness would not understand it as arguments.
pub(crate) const ARGUMENTS: &str = "XTCP_FAKE_ARGUMENTS";

/// So many connections make one that wants nobody to look at its lock before it has it,
pub(crate) const JEALOUS: &str = "11111";
/// one that says that it was given memory and does not answer,
pub(crate) const STALLED: &str = "22222";
/// and one that dies of its memory the second time it is started.
pub(crate) const DYING: &str = "33333";

struct Endpoint {
    record: EndpointRecord,
    channel: DataplaneChannel,
    ringer: Ringer,
    /// `None`: the application is gone, and a successor may come.
    lifeline: Option<OwnedFd>,
    memory: SharedMemory,
    receive: Vec<&'static mut [u8]>,
}

#[derive(Default)]
struct Fake {
    workers: u8,
    /// What it asks for each worker's tables.
    tables_bytes: u64,
    furnished: bool,
    takes_memory: bool,
    /// Says how often one was furnished.
    dies_at: Option<PathBuf>,
    endpoints: BTreeMap<u16, Endpoint>,
    groups: BTreeMap<u32, GroupRecord>,
    next_gd: u32,
    drained: Option<(u32, Drain)>,
}

/// Serves until it is told to stop.
pub(crate) fn serve() -> ! {
    let line = env::var(ARGUMENTS).expect("started by xtcpd");
    let words: Vec<_> = line.split(' ').collect();
    let option = |name: &str| {
        let at = words.iter().position(|word| *word == name).expect(name);
        words[at + 1]
    };
    let directory = PathBuf::from(option("--run-dir")).join(option("--name"));
    assert!(words.contains(&"--control"));
    let connections = option("--connections");
    let _lock = lock(&directory, connections);
    let listener = Listener::bind(&directory.join("dataplane.sock"), 0o600).expect("a socket");
    let workers = option("--workers-cores").split(',').count() as u8;
    // So many connections nobody has memory for.
    let tables_bytes = if connections == "2147483648" { 1 << 63 } else { 10_000 };
    let mut fake = Fake { workers, tables_bytes, next_gd: 100, ..Fake::default() };
    fake.takes_memory = connections != STALLED;
    fake.dies_at = (connections == DYING).then(|| directory.join("furnished"));
    let mut session: Option<(Seqpacket, Partial)> = None;
    loop {
        let mut files = vec![PollFd::from_borrowed_fd(listener.fd(), PollFlags::IN)];
        let here = fake.endpoints.iter().filter_map(|(number, endpoint)| {
            endpoint.lifeline.as_ref().map(|lifeline| (*number, lifeline))
        });
        let here: Vec<_> = here.collect();
        files.extend(here.iter().map(|(_, line)| PollFd::new(*line, PollFlags::empty())));
        if let Some((link, _)) = &session {
            files.push(PollFd::from_borrowed_fd(link.fd(), PollFlags::IN));
        }
        poll(&mut files, None).expect("polled");
        let connected = !files[0].revents().is_empty();
        let dead = files[1..].iter().zip(&here).filter(|(file, _)| !file.revents().is_empty());
        let dead: Vec<u16> = dead.map(|(_, (number, _))| *number).collect();
        for number in dead {
            fake.leave(number);
        }
        if connected {
            session = listener
                .accept()
                .expect("accepted")
                .map(|link| (link, Partial::new(MESSAGE_MAX, FILES_MAX)));
        }
        let Some((link, partial)) = &mut session else { continue };
        match link.try_recv::<Command>(partial) {
            Ok(None) => {}
            Ok(Some((Command::Stop, _))) => {
                link.send(&Answer::Done, &[]).expect("answered");
                drop(listener);
                process::exit(0);
            }
            Ok(Some((command, files))) => match fake.obey(command, files) {
                Some(answer) => {
                    let files: Vec<_> = fake.file_of(&answer).into_iter().collect();
                    // Who asked may be gone by now.
                    if link.send(&answer, &files).is_err() {
                        session = None;
                    }
                }
                None => session = None,
            },
            Err(TransportError::Closed) => session = None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The hold on its name.
fn lock(directory: &Path, connections: &str) -> File {
    let path = directory.join("dataplane.lock");
    if connections == JEALOUS {
        std::fs::remove_file(&path).expect("xtcpd has looked before it started us");
        // Whoever looks makes it. These are ten looks.
        for _ in 0..200 {
            std::thread::sleep(Duration::from_millis(1));
            assert!(!path.exists(), "somebody looks at the lock");
        }
    }
    let lock = File::options().write(true).open(&path);
    let lock = lock.or_else(|_| File::create(&path)).expect("a lock");
    flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("nobody else of this name");
    lock
}

impl Fake {
    /// Takes its tables, or misbehaves.
    fn furnish(&mut self, tables_bytes: Vec<u64>, files: Vec<OwnedFd>) -> Answer {
        if !self.takes_memory {
            // Past the test harness, which would keep it.
            writeln!(std::io::stderr(), "the fake has its memory").expect("said");
            loop {
                std::thread::park();
            }
        }
        if let Some(path) = &self.dies_at {
            let mut told = File::options().create(true).append(true).open(path).expect("a file");
            told.write_all(b"x").expect("written");
            if told.metadata().expect("a length").len() == 2 {
                process::exit(4);
            }
        }
        assert_eq!(files.len(), usize::from(self.workers));
        for (file, bytes) in files.into_iter().zip(tables_bytes) {
            let memory = SharedMemory::from_fd(file, bytes as usize).expect("tables");
            ExclusiveMapping::map(&memory).expect("mapped").into_static_bytes().fill(1);
        }
        self.furnished = true;
        Answer::Done
    }

    fn obey(&mut self, command: Command, files: Vec<OwnedFd>) -> Option<Answer> {
        Some(match command {
            Command::Hello { .. } => {
                self.look_at_lifelines();
                Answer::Welcome { state: self.state(), pid: process::id(), workers: self.workers }
            }
            Command::Memory { tables_bytes } => self.furnish(tables_bytes, files),
            Command::OpenEndpoint(record) => self.open(record, files),
            Command::ResumeEndpoint(record) => self.resume(record, files),
            Command::OpenGroup { endpoint, options } => match options.name.as_str() {
                "die" => process::exit(3),
                "hang-up" => return None,
                "nonsense" => Answer::Done,
                "full" => Refused::full("the fake has too many groups").into(),
                "refuse" => Refused::in_use("the port is taken by the fake").into(),
                _ => {
                    let gd = self.next_gd;
                    self.next_gd += 1;
                    self.groups.insert(gd, GroupRecord { gd, endpoint, options });
                    self.tell(endpoint, gd);
                    Answer::Group { gd }
                }
            },
            Command::CloseGroup { endpoint, gd } => {
                assert_eq!(self.groups.remove(&gd).map(|group| group.endpoint), Some(endpoint));
                Answer::Done
            }
            Command::DrainGroup { endpoint, gd, drain } => {
                assert_eq!(self.groups[&gd].endpoint, endpoint);
                // The last that was ordered can be shown.
                self.drained = Some((gd, drain));
                Answer::Done
            }
            Command::CloseConnection { connection, reset } => match connection.as_str() {
                "0/1.1" if reset => Answer::Done,
                _ => Refused::not_there("there is no such connection at the fake").into(),
            },
            Command::CloseEndpoint { endpoint } => {
                self.close(endpoint);
                Answer::Done
            }
            Command::Describe { cd, .. } => Answer::Described(ConnectionInfo {
                cd,
                gd: 100,
                remote: "10.0.0.9:999".parse().expect("an address"),
                local: "10.0.0.1:7".parse().expect("an address"),
                state: "ESTABLISHED".into(),
            }),
            Command::Show { topic, limit } => Answer::Shown { rows: self.rows(topic, limit) },
            Command::Stop => unreachable!("dealt with"),
        })
    }

    fn state(&self) -> State {
        if !self.furnished {
            let tables_bytes_per_worker = vec![self.tables_bytes; usize::from(self.workers)];
            return State::Fresh { tables_bytes_per_worker };
        }
        State::Running {
            endpoints: self.endpoints.values().map(|endpoint| endpoint.record.clone()).collect(),
            waiting: self
                .endpoints
                .values()
                .filter(|endpoint| endpoint.lifeline.is_none())
                .map(|endpoint| endpoint.record.endpoint)
                .collect(),
            groups: self.groups.values().cloned().collect(),
        }
    }

    fn open(&mut self, record: EndpointRecord, files: Vec<OwnedFd>) -> Answer {
        let [endpoint, receive, bell, lifeline] =
            <[OwnedFd; 4]>::try_from(files).expect("four files");
        let endpoint = SharedMemory::from_fd(endpoint, record.layout.total_bytes());
        let endpoint = Mapping::writable(&endpoint.expect("memory")).expect("mapped");
        let receive =
            SharedMemory::from_fd(receive, record.receive_bytes as usize).expect("memory");
        let mut parts =
            ExclusiveMapping::map(&receive).expect("mapped").into_static_parts(self.workers);
        parts[0][..5].copy_from_slice(b"hello");
        if record.application != "unsealed" {
            receive.seal_future_write().expect("sealed");
        }
        let opened = Endpoint {
            channel: DataplaneChannel::open(&endpoint, &record.layout, 0).expect("a channel"),
            ringer: Ringer::open(&endpoint, bell).expect("a ringer"),
            lifeline: Some(lifeline),
            memory: receive,
            receive: parts,
            record,
        };
        self.endpoints.insert(opened.record.endpoint, opened);
        Answer::Done
    }

    /// A notice that points at the five bytes.
    fn tell(&mut self, endpoint: u16, gd: u32) {
        let endpoint = self.endpoints.get_mut(&endpoint).expect("an endpoint");
        let notice = Notice { kind: kind::DATA, len: 5, gd, cd: 1, ..Notice::default() };
        endpoint.channel.notices.push(&notice).expect("room");
        endpoint.channel.notices.publish();
        endpoint.ringer.ring_if_parked();
    }

    fn resume(&mut self, record: EndpointRecord, files: Vec<OwnedFd>) -> Answer {
        let [endpoint, bell, lifeline] = <[OwnedFd; 3]>::try_from(files).expect("three files");
        let memory = SharedMemory::from_fd(endpoint, record.layout.total_bytes());
        let memory = Mapping::writable(&memory.expect("memory")).expect("mapped");
        let left = self.endpoints.get_mut(&record.endpoint).expect("an endpoint");
        assert!(left.lifeline.is_none());
        assert_eq!((left.record.uid, left.record.pool), (record.uid, record.pool));
        left.channel = DataplaneChannel::open(&memory, &record.layout, 0).expect("a channel");
        left.ringer = Ringer::open(&memory, bell).expect("a ringer");
        left.lifeline = Some(lifeline);
        left.record = record;
        Answer::Resumed { endpoint: left.record.endpoint }
    }

    fn file_of(&self, answer: &Answer) -> Option<BorrowedFd<'_>> {
        let Answer::Resumed { endpoint } = answer else { return None };
        Some(self.endpoints[endpoint].memory.fd())
    }

    fn look_at_lifelines(&mut self) {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let is_dead = |endpoint: &&Endpoint| {
            let lifeline = endpoint.lifeline.as_ref();
            let polled = lifeline.map(|line| {
                poll(&mut [PollFd::new(line, PollFlags::empty())], Some(&at_once)).expect("polled")
            });
            polled == Some(1)
        };
        let dead = self.endpoints.values().filter(is_dead);
        let dead: Vec<u16> = dead.map(|endpoint| endpoint.record.endpoint).collect();
        for number in dead {
            self.leave(number);
        }
    }

    fn leave(&mut self, number: u16) {
        match self.endpoints.get_mut(&number) {
            Some(endpoint) if endpoint.record.successor_ms > 0 => endpoint.lifeline = None,
            _ => self.close(number),
        }
    }

    fn close(&mut self, endpoint: u16) {
        let Some(endpoint) = self.endpoints.remove(&endpoint) else { return };
        self.groups.retain(|_, group| group.endpoint != endpoint.record.endpoint);
        for part in endpoint.receive {
            StaticBytes::reclaim(part).expect("mapped");
        }
    }

    fn rows(&self, topic: Topic, limit: u32) -> Vec<Row> {
        let row = |fields: &[(&str, serde_json::Value)]| -> Row {
            fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
        };
        match topic {
            Topic::Pools => self
                .endpoints
                .values()
                .map(|endpoint| {
                    let record = &endpoint.record;
                    row(&[
                        ("pool", json!(record.pool)),
                        ("application", json!(record.application)),
                        ("receive (bytes)", json!(record.receive_bytes)),
                        ("hostile (ms)", json!(record.hostile_ms)),
                    ])
                })
                .collect(),
            Topic::Groups => self
                .groups
                .values()
                .map(|group| {
                    let drain = self.drained.filter(|(gd, _)| *gd == group.gd);
                    row(&[
                        ("group", json!(group.options.name)),
                        ("application", json!(self.endpoints[&group.endpoint].record.application)),
                        // Connections of a group that is drained are gone at once.
                        ("connections", json!(if drain.is_some() { 0 } else { 5 })),
                        ("drain", json!(drain.map(|(_, drain)| format!("{drain:?}")))),
                    ])
                })
                .collect(),
            // As much as may be asked for.
            Topic::Counters => (0..limit)
                .map(|number| row(&[("counter", json!("x".repeat(100))), ("count", json!(number))]))
                .collect(),
            _ => Vec::new(),
        }
    }
}

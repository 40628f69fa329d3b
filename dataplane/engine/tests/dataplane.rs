//! The program as `xtcpd`, applications and operators meet it, over a net_ring port.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use xtcp_ring::layout::{kind, op};
use xtcp_ring::message::{
    Accept, Acknowledge, Answer, Command as Order, EndpointRecord, Family, GroupOptions, State,
    Topic, VERSION,
};
use xtcp_ring::{
    ApplicationChannel, EndpointLayout, Mapping, PageSize, Seqpacket, SharedMemory, Submission,
    bell,
};

const WORKERS: u8 = 2;

const LAYOUT: EndpointLayout =
    EndpointLayout { workers: WORKERS, submissions: 16, notices: 16, arena_bytes: 4096 };

const RECEIVE: u64 = 1 << 20;

/// How long anything may take; nothing here comes near it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A dataplane process and its directory, both gone when this is dropped.
struct Dataplane {
    child: Child,
    said: BufReader<ChildStderr>,
    run_dir: PathBuf,
    owns_dir: bool,
}

impl Dataplane {
    /// Starts one for `xtcpd` and waits until it listens.
    fn for_control(test: &str) -> Self {
        let mut dataplane = Self::start(run_dir(test), true, "--control");
        dataplane.hears("waiting for xtcpd");
        dataplane
    }

    fn start(run_dir: PathBuf, owns_dir: bool, options: &str) -> Self {
        let eal = "-l 0 --no-pci --no-huge -m 160 --vdev=net_ring0 --";
        let common = "--ip 10.9.0.1/24 --workers-cores 0,1 --connections 100 --transmit-bytes 1M";
        let words = format!("{eal} {common} --name t --run-dir {} {options}", run_dir.display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_xtcp-dataplane"))
            .args(words.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        Self { child, said, run_dir, owns_dir }
    }

    /// Waits for a line on standard error that has these words.
    fn hears(&mut self, words: &str) -> String {
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

    fn socket(&self) -> PathBuf {
        self.run_dir.join("t/dataplane.sock")
    }

    fn connect(&self) -> Xtcpd {
        Xtcpd(Seqpacket::connect(&self.socket(), Some(PATIENCE)).unwrap())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; says the status and what it still said.
    fn ended(&mut self) -> (ExitStatus, String) {
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

fn run_dir(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("xtcp-dataplane-{test}-{}", std::process::id()))
}

/// What `xtcpd` is to a dataplane.
struct Xtcpd(Seqpacket);

impl Xtcpd {
    fn ask(&self, order: &Order, files: &[&OwnedFd]) -> Answer {
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        self.0.send(order, &files).unwrap();
        self.0.recv().unwrap().0
    }

    fn refusal(&self, order: &Order, files: &[&OwnedFd]) -> String {
        match self.ask(order, files) {
            Answer::Refused { reason, .. } => reason,
            other => panic!("{order:?} was answered by {other:?}"),
        }
    }

    fn done(&self, order: &Order, files: &[&OwnedFd]) {
        assert_eq!(self.ask(order, files), Answer::Done, "{order:?}");
    }

    fn state(&self) -> State {
        match self.ask(&Order::Hello { version: VERSION }, &[]) {
            Answer::Welcome { state, workers, .. } => {
                assert_eq!(workers, WORKERS);
                state
            }
            other => panic!("Hello was answered by {other:?}"),
        }
    }

    /// Endpoints and groups of a running dataplane.
    fn running(&self) -> (Vec<u16>, Vec<u32>) {
        let State::Running { endpoints, groups, .. } = self.state() else {
            panic!("it has no memory")
        };
        let numbers = endpoints.iter().map(|record| record.endpoint);
        (numbers.collect(), groups.iter().map(|group| group.gd).collect())
    }

    fn brings_memory(&self) {
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

fn shared(name: &str, bytes: usize) -> SharedMemory {
    SharedMemory::create(name, bytes, PageSize::Ordinary).unwrap()
}

fn file(memory: &SharedMemory) -> OwnedFd {
    memory.fd().try_clone_to_owned().unwrap()
}

/// An application, and what `xtcpd` made for it.
struct App {
    record: EndpointRecord,
    endpoint: SharedMemory,
    receive: SharedMemory,
    bell: OwnedFd,
    /// The dataplane's end, until it is sent.
    lifeline: OwnedFd,
    /// The application's own end.
    life: OwnedFd,
    mapping: Mapping,
}

impl App {
    fn new(number: u16) -> Self {
        let endpoint = shared("endpoint", LAYOUT.total_bytes());
        let mapping = Mapping::writable(&endpoint).unwrap();
        LAYOUT.prepare(&mapping).unwrap();
        let (lifeline, life) = rustix::pipe::pipe().unwrap();
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

    fn attach(self, xtcpd: &Xtcpd) -> Attached {
        let order = Order::OpenEndpoint(self.record.clone());
        let (endpoint, receive) = (file(&self.endpoint), file(&self.receive));
        xtcpd.done(&order, &[&endpoint, &receive, &self.bell, &self.lifeline]);
        // Our copies would keep the lifeline and the bell alive.
        let Self { receive, life, mapping, .. } = self;
        Attached { receive, life, mapping }
    }
}

/// An application at work.
struct Attached {
    receive: SharedMemory,
    life: OwnedFd,
    mapping: Mapping,
}

impl Attached {
    /// Waits until the dataplane has let go of us.
    fn is_cut_off(&self) {
        let mut polled = [PollFd::new(&self.life, PollFlags::empty())];
        let limit = Timespec { tv_sec: 30, tv_nsec: 0 };
        assert_eq!(poll(&mut polled, Some(&limit)).unwrap(), 1, "still attached");
        assert!(polled[0].revents().contains(PollFlags::ERR));
    }
}

fn group(name: &str, port: u16) -> GroupOptions {
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

fn open_group(xtcpd: &Xtcpd, endpoint: u16, port: u16) -> u32 {
    let options = group("group", port);
    match xtcpd.ask(&Order::OpenGroup { endpoint, options }, &[]) {
        Answer::Group { gd } => gd,
        other => panic!("OpenGroup was answered by {other:?}"),
    }
}

#[test]
fn xtcpd_brings_memory_and_applications_and_finds_them_again() {
    let dataplane = Dataplane::for_control("take-over");
    let xtcpd = dataplane.connect();
    let other = VERSION + 1;
    assert!(xtcpd.refusal(&Order::Hello { version: other }, &[]).contains("version"));
    let early = Order::Show { topic: Topic::Workers, limit: 0 };
    assert!(xtcpd.refusal(&early, &[]).contains("no memory"));
    let short = shared("tables", 4096);
    let files = [&file(&short), &file(&short)];
    let too_small = Order::Memory { tables_bytes: vec![4096, 4096] };
    assert!(xtcpd.refusal(&too_small, &files).contains("4096"));
    xtcpd.brings_memory();
    assert!(xtcpd.refusal(&too_small, &files).contains("already"));

    let app = App::new(3).attach(&xtcpd);
    assert!(app.receive.is_sealed_future_write().unwrap());
    let gd = open_group(&xtcpd, 3, 7);
    drop(xtcpd);
    let xtcpd = dataplane.connect();
    assert_eq!(xtcpd.running(), (vec![3], vec![gd]));
    assert_ne!(open_group(&xtcpd, 3, 8), gd);
}

#[test]
fn what_cannot_be_is_refused_in_a_sentence() {
    let dataplane = Dataplane::for_control("refusals");
    let xtcpd = dataplane.connect();
    xtcpd.brings_memory();
    let _app = App::new(0).attach(&xtcpd);
    let gd = open_group(&xtcpd, 0, 7);
    let open = |record: EndpointRecord| Order::OpenEndpoint(record);
    let fresh = App::new(1);
    let files = [&file(&fresh.endpoint), &file(&fresh.receive), &fresh.bell, &fresh.lifeline];
    let record = || fresh.record.clone();
    let one_worker = EndpointLayout { workers: 1, ..LAYOUT };
    let odd = EndpointLayout { submissions: 3, ..LAYOUT };
    for (order, files, words) in [
        (open(App::new(0).record), &files[..], "open already"),
        (open(record()), &files[..3], "four files"),
        (open(EndpointRecord { endpoint: 64, ..record() }), &files[..], "64 at most"),
        (open(EndpointRecord { layout: one_worker, ..record() }), &files[..], "1 workers"),
        (open(EndpointRecord { layout: odd, ..record() }), &files[..], "power of two"),
        (open(EndpointRecord { receive_bytes: 4096, ..record() }), &files[..], "announced"),
        (Order::OpenGroup { endpoint: 9, options: group("g", 1) }, &[], "no endpoint 9"),
        (Order::OpenGroup { endpoint: 0, options: group("g", 0) }, &[], "port"),
        (Order::CloseGroup { endpoint: 1, gd }, &[], "no group"),
        (Order::CloseGroup { endpoint: 0, gd: gd + 1 }, &[], "no group"),
        (Order::CloseEndpoint { endpoint: 1 }, &[], "no endpoint"),
        (Order::Describe { endpoint: 0, cd: 1 << 40 | 1 }, &[], "no connection"),
        (Order::Describe { endpoint: 0, cd: u64::MAX }, &[], "no connection"),
    ] {
        let reason = xtcpd.refusal(&order, files);
        assert!(reason.contains(words), "{order:?}: {reason}");
    }
    xtcpd.done(&Order::CloseGroup { endpoint: 0, gd }, &[]);
    xtcpd.done(&Order::CloseEndpoint { endpoint: 0 }, &[]);
    assert_eq!(xtcpd.running(), (vec![], vec![]));
    // The number can be used again, by others and with another handle for the group.
    let _app = App::new(0).attach(&xtcpd);
    assert_ne!(open_group(&xtcpd, 0, 7), gd);
}

#[test]
fn every_table_can_be_shown() {
    let dataplane = Dataplane::for_control("tables");
    let xtcpd = dataplane.connect();
    xtcpd.brings_memory();
    let _app = App::new(0).attach(&xtcpd);
    open_group(&xtcpd, 0, 7);
    for (topic, rows, column) in [
        (Topic::Pools, 1, "receive used (bytes)"),
        (Topic::Groups, 1, "acknowledge"),
        (Topic::Connections, 0, ""),
        (Topic::Ports, 1, "rx frames"),
        (Topic::Workers, 2, "busy (%)"),
        (Topic::Counters, 5, "all"),
    ] {
        let limit = if topic == Topic::Counters { 5 } else { 0 };
        match xtcpd.ask(&Order::Show { topic, limit }, &[]) {
            Answer::Shown { rows: shown } => {
                assert_eq!(shown.len(), rows, "{topic:?}");
                assert!(shown.iter().all(|row| row.contains_key(column)), "{topic:?}: {shown:?}");
            }
            other => panic!("{topic:?} was answered by {other:?}"),
        }
    }
}

#[test]
fn a_liar_and_a_dead_application_are_let_go_and_nobody_else() {
    let mut dataplane = Dataplane::for_control("liars");
    let xtcpd = dataplane.connect();
    xtcpd.brings_memory();
    let honest = App::new(0).attach(&xtcpd);
    let liar = App::new(1).attach(&xtcpd);
    let mortal = App::new(2).attach(&xtcpd);
    let gd = open_group(&xtcpd, 0, 7);
    open_group(&xtcpd, 1, 8);
    open_group(&xtcpd, 2, 9);

    // Worker 1 finds it out; worker 0 has to let it go as well.
    let mut channel = ApplicationChannel::open(&liar.mapping, &LAYOUT, 1).unwrap();
    let worker_1 = 1 << 32;
    let theirs = Submission { op: op::ABORT, gd, cd: worker_1, ..Submission::default() };
    channel.submissions.push(&theirs).unwrap();
    channel.submissions.publish();
    liar.is_cut_off();
    let line = dataplane.hears("cut off");
    assert!(line.contains("`app1`") && line.contains("group of another"), "{line}");

    drop(mortal.life);
    let line = dataplane.hears("is gone");
    assert!(line.contains("`app2`") && line.contains("4711"), "{line}");
    assert_eq!(xtcpd.running(), (vec![0], vec![gd]));
    drop(honest);
}

/// What a dead application leaves, and its successor.
#[test]
fn a_dead_application_is_waited_for_and_followed() {
    let mut dataplane = Dataplane::for_control("successor");
    let xtcpd = dataplane.connect();
    xtcpd.brings_memory();
    let keep = |number: u16, successor_ms| {
        let mut app = App::new(number);
        app.record.successor_ms = successor_ms;
        app
    };
    let hour = 3_600_000;
    let first = keep(0, hour).attach(&xtcpd);
    let gd = open_group(&xtcpd, 0, 7);
    let follower = keep(0, hour);
    let record = EndpointRecord { key: 2, pid: 4712, ..follower.record.clone() };
    let resume = |record: EndpointRecord| Order::ResumeEndpoint(record);
    let files = [&file(&follower.endpoint), &follower.bell, &follower.lifeline];
    let early = xtcpd.refusal(&resume(record.clone()), &files);
    assert!(early.contains("does not wait for a successor"), "{early}");

    drop(first);
    // Asked at once, it knows: whoever follows may be quick.
    let State::Running { waiting, .. } = xtcpd.state() else { panic!("it has no memory") };
    assert_eq!(waiting, [0]);
    dataplane.hears("wait 3600000 ms for a successor");
    let pools = xtcpd.ask(&Order::Show { topic: Topic::Pools, limit: 0 }, &[]);
    let Answer::Shown { rows } = pools else { panic!("{pools:?}") };
    assert!(rows[0]["waits for a successor (ms)"].as_u64().unwrap() > 3_000_000, "{rows:?}");
    for (record, files, words) in [
        (record.clone(), &files[..2], "three files"),
        (EndpointRecord { uid: 1, ..record.clone() }, &files[..], "does not wait"),
        (EndpointRecord { application: "x".into(), ..record.clone() }, &files[..], "does not wait"),
        (EndpointRecord { receive_bytes: 1, ..record.clone() }, &files[..], "does not wait"),
        (EndpointRecord { endpoint: 5, ..record.clone() }, &files[..], "does not wait"),
    ] {
        let reason = xtcpd.refusal(&resume(record), files);
        assert!(reason.contains(words), "{reason}");
    }
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    xtcpd.0.send(&resume(record), &files).unwrap();
    let (answer, theirs): (Answer, Vec<OwnedFd>) = xtcpd.0.recv().unwrap();
    assert_eq!(answer, Answer::Resumed { endpoint: 0 });
    let [receive] = <[OwnedFd; 1]>::try_from(theirs).unwrap();
    let len = usize::try_from(RECEIVE).unwrap();
    assert!(SharedMemory::from_fd(receive, len).unwrap().is_sealed_future_write().unwrap());
    assert_eq!(xtcpd.running(), (vec![0], vec![gd]));
    let State::Running { waiting, endpoints, .. } = xtcpd.state() else {
        panic!("it has no memory")
    };
    assert_eq!((waiting.len(), endpoints[0].pid), (0, 4712));
    for worker in 0..WORKERS {
        let mut channel = ApplicationChannel::open(&follower.mapping, &LAYOUT, worker).unwrap();
        let told = std::iter::repeat_with(|| channel.notices.pop().unwrap()).flatten().next();
        assert_eq!(told.map(|notice| notice.kind), Some(kind::RESUMED));
    }

    // Nobody follows this one in time.
    drop(keep(1, 1).attach(&xtcpd));
    dataplane.hears("no successor of application `app1` came in 1 ms");
    assert_eq!(xtcpd.running(), (vec![0], vec![gd]));
}

#[test]
fn a_second_of_the_name_is_refused_and_a_killed_one_is_followed() {
    let mut first = Dataplane::for_control("names");
    let mut second = Dataplane::start(first.run_dir.clone(), false, "--control");
    let (status, said) = second.ended();
    assert_eq!(status.code(), Some(1));
    let pid = first.child.id().to_string();
    assert!(said.contains("already running") && said.contains(&pid), "{said}");

    first.signal(Signal::KILL);
    first.ended();
    assert!(first.socket().exists(), "a killed process cleans nothing up");
    let mut third = Dataplane::start(first.run_dir.clone(), false, "--control");
    third.hears("waiting for xtcpd");
    third.connect().brings_memory();
    third.signal(Signal::TERM);
    let (status, said) = third.ended();
    assert!(status.success(), "{said}");
    assert!(!third.socket().exists());
}

#[test]
fn stop_ends_it_well_with_memory_and_without() {
    for with_memory in [false, true] {
        let mut dataplane = Dataplane::for_control(&format!("stop-{with_memory}"));
        let xtcpd = dataplane.connect();
        if with_memory {
            xtcpd.brings_memory();
        }
        xtcpd.done(&Order::Stop, &[]);
        let (status, said) = dataplane.ended();
        assert!(status.success(), "{said}");
        assert!(!said.contains("warning"), "{said}");
    }
}

#[test]
fn the_prompt_answers_and_quits() {
    let mut dataplane = Dataplane::start(run_dir("prompt"), true, "-i --forward-mode echo");
    let mut stdin = dataplane.child.stdin.take().unwrap();
    let typed = "help show\nstop\nstop\nshow workers\nstart\nshow port info 0\nshow port stats all\n\
                 show config\nshow status\nshow counters all\nfrobnicate\nquit\n";
    stdin.write_all(typed.as_bytes()).unwrap();
    let mut shown = String::new();
    dataplane.child.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    let (status, said) = dataplane.ended();
    assert!(status.success(), "{said}");
    for words in [
        "show port info N|all",
        "the workers have stopped",
        "the workers stand already",
        "busy (%)",
        "the workers go on",
        "Driver name: net_ring",
        "NIC statistics for port 0",
        "listen port                  7",
        "2 workers at work",
        "spread-handed-over",
        "`frobnicate` is no command",
    ] {
        assert!(shown.contains(words), "`{words}` is not in:\n{shown}");
    }
}

#[test]
fn help_teaches_and_errors_name_the_option() {
    let run = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtcp-dataplane"));
        let output = command.args(words.split_whitespace()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    for help in ["-h", "--help", "--no-pci -- --help"] {
        let (code, shown, _) = run(help);
        assert_eq!(code, Some(0));
        assert!(shown.contains("--vdev=net_tap0,iface=xtcp0") && shown.contains("--stats-period"));
    }
    let directory = run_dir("errors");
    let path = directory.display();
    let own = format!("-- --ip 10.9.0.1/24 --run-dir {path}");
    for (words, expected, option) in [
        ("--no-pci".to_owned(), 2, "--ip"),
        ("-- --ip nonsense".to_owned(), 2, "--ip"),
        (format!("--vdev=net_nonsense0 {own}"), 1, "net_nonsense0"),
        (format!("--no-huge --in-memory {own}"), 1, "--in-memory"),
        (format!("--no-huge --no-pci {own}"), 1, "--vdev"),
        (format!("-l 900 --no-huge --vdev=net_ring0 {own}"), 1, "-l"),
        (format!("--no-huge --vdev=net_ring0 {own} --workers-cores 900"), 1, "--workers-cores"),
        (format!("--no-huge --vdev=net_ring0 {own} --port 3"), 1, "--port 3"),
        (format!("--no-huge --vdev=net_ring0 {own} --spread hardware"), 1, "--spread"),
    ] {
        let (code, _, said) = run(&words);
        assert_eq!(code, Some(expected), "{words}: {said}");
        assert!(said.contains(option), "{words}: {said}");
    }
    assert!(Path::new(&directory).exists());
    fs::remove_dir_all(directory).unwrap();
}

//! What the tests against the kernel share: one at a time, names of their own, nothing left behind.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use xtcp_bench::appliance::{Instance, Programs};
use xtcp_bench::client::{Event, StepReport};
use xtcp_bench::machine::{Impairments, LossyWire, Namespace, VethPair, need_root};
use xtcp_bench::process::{Launch, Running, find, kill_by_id};

/// Addresses of every test: the namespaces keep them apart.
pub(crate) const SERVER_V4: &str = "10.77.0.2";
pub(crate) const SERVER_V6: &str = "fd77::2";
pub(crate) const CLIENT_V4: &str = "10.77.0.1";
pub(crate) const CLIENT_V6: &str = "fd77::1";

/// How long a start may take: EAL may zero a huge page of 1 GB first.
pub(crate) const START: Duration = Duration::from_secs(60);

/// A machine of its own for one test: a namespace for the clients, a directory, unique names.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) namespace: Namespace,
    pub(crate) programs: Programs,
    pub(crate) directory: PathBuf,
    prefix: String,
    _alone: File,
}

impl Rig {
    /// Waits until no other test uses the machine, removes what killed tests left, and makes one.
    ///
    /// # Panics
    /// When something is missing; it is said what, and the test fails.
    pub(crate) fn new() -> Self {
        need_root().unwrap();
        let programs = Programs::locate().unwrap_or_else(|error| panic!("{error}"));
        let alone = File::create("/run/lock/xtcp-tests").unwrap();
        flock(&alone, FlockOperation::LockExclusive).unwrap();
        sweep();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("xt{:x}t{count}", std::process::id());
        let directory = Path::new("/run/xtcp-tests").join(&prefix);
        std::fs::create_dir_all(&directory).unwrap();
        let namespace = Namespace::create(&prefix).unwrap_or_else(|error| panic!("{error}"));
        Self { namespace, programs, directory, prefix, _alone: alone }
    }

    /// An interface name that only this test uses.
    pub(crate) fn interface(&self, suffix: char) -> String {
        format!("{}{suffix}", self.prefix)
    }

    /// An instance name that only this test uses.
    pub(crate) fn instance_name(&self, suffix: char) -> String {
        format!("{}{suffix}", self.prefix)
    }

    /// The clients' addresses on an interface inside the namespace.
    pub(crate) fn add_client_addresses(&self, interface: &str) {
        for (ip, len) in [(CLIENT_V4, 24), (CLIENT_V6, 64)] {
            self.namespace.add_address(interface, ip.parse().unwrap(), len).unwrap();
        }
    }

    /// A veth pair, the clients' end (`peer`) with their addresses inside the namespace.
    pub(crate) fn veth(&self) -> VethPair {
        let pair = VethPair::create(&self.interface('v'), "peer", &self.namespace)
            .unwrap_or_else(|error| panic!("{error}"));
        self.add_client_addresses("peer");
        pair
    }

    /// A wire that does this to its frames, the clients' end (`client`) with their addresses inside
    /// the namespace.
    pub(crate) fn bad_wire(&self, impairments: Impairments) -> LossyWire {
        let wire = LossyWire::create(&self.interface('v'), "client", &self.namespace, impairments)
            .unwrap_or_else(|error| panic!("{error}"));
        self.add_client_addresses("client");
        // Debian's clients use cubic, which namespaces may not choose where the machine's default
        // is another; reno is its nearest relative. (BBR without SACK sends one segment per
        // timeout.)
        self.namespace.run("sysctl -qw net.ipv4.tcp_congestion_control=reno").unwrap();
        wire
    }

    /// A dataplane of its own with the usual arguments; `eal` is DPDK's part of the command line.
    pub(crate) fn dataplane(&self, name: &str, eal: &str, own: &str) -> Launch {
        Launch::new(name, self.programs.path("xtcp-dataplane").unwrap())
            .arguments(&format!("-l {} --no-huge -m 256 {eal} --", cores()))
            .arguments(&format!("--name {name} --run-dir {}", self.directory.display()))
            .arguments(&format!("--ip {SERVER_V4}/24 --ip {SERVER_V6}/64 {own}"))
            .log(&self.directory.join(format!("{name}.log")))
    }

    /// An instance of the whole appliance on an interface.
    pub(crate) fn appliance(&self, name: &str, interface: &str) -> Swept {
        Swept(Instance {
            name: name.to_owned(),
            run_dir: self.directory.join("run"),
            directory: self.directory.clone(),
            programs: self.programs.clone(),
            device: format!("net_af_packet0,iface={interface}"),
            addresses: vec![format!("{SERVER_V4}/24"), format!("{SERVER_V6}/64")],
            connections: 4096,
            active: 4096,
            hugepages: "never",
            successor: "close",
            tcp: String::new(),
            namespace: None,
        })
    }

    /// Runs kernel clients inside the namespace to their end; gives their steps' reports.
    ///
    /// # Panics
    /// When any connection failed; it is said which and why.
    pub(crate) fn clients(&self, arguments: &str) -> Vec<StepReport> {
        let launch = self.client_launch(arguments);
        let mut running = launch.start().unwrap_or_else(|error| panic!("{error}"));
        let status = running.wait(Duration::from_secs(300));
        let said = running.said();
        let steps = steps(&said);
        match status {
            Ok(status) if status.success() => steps,
            Ok(status) => panic!("{}: {status}\n{steps:#?}", launch.line()),
            Err(error) => panic!("{}: {error}\n{}", launch.line(), running.tail()),
        }
    }

    /// Kernel clients inside the namespace, to be started.
    pub(crate) fn client_launch(&self, arguments: &str) -> Launch {
        Launch::new("kernel-client", self.programs.path("xtcp-bench").unwrap())
            .arguments("kernel-client --json")
            .arguments(arguments)
            .inside(self.namespace.name())
    }

    /// Connects from inside the namespace; the connection stays there, whoever uses it.
    pub(crate) fn connect(&self, server: &str, port: u16) -> io::Result<TcpStream> {
        self.connecting(server, port).join().expect("connecting does not panic")
    }

    /// As [`Self::connect`], by a thread: for those who have to accept meanwhile.
    pub(crate) fn connecting(
        &self,
        server: &str,
        port: u16,
    ) -> thread::JoinHandle<io::Result<TcpStream>> {
        let path = format!("/run/netns/{}", self.namespace.name());
        let server: IpAddr = server.parse().expect("an address");
        thread::spawn(move || {
            let namespace = File::open(path)?;
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network)?;
            let stream = TcpStream::connect((server, port))?;
            stream.set_nodelay(true)?;
            // A test that waits for what does not come fails then.
            stream.set_read_timeout(Some(START))?;
            Ok(stream)
        })
    }

    /// How many bytes each of the namespace's TCP ports has sent, or is to send, that are not
    /// acknowledged; a FIN counts as one.
    ///
    /// # Panics
    /// When the kernel's list of connections is not what it is documented to be.
    pub(crate) fn unacknowledged(&self) -> HashMap<u16, usize> {
        let path = format!("/run/netns/{}", self.namespace.name());
        let reading = thread::spawn(move || {
            let namespace = File::open(path)?;
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network)?;
            let read =
                |file: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
            Ok::<_, io::Error>(read("tcp")? + &read("tcp6")?)
        });
        let list = reading.join().expect("reading does not panic").unwrap();
        let queue = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            let (_, port) = fields.next()?.rsplit_once(':')?;
            let (unacknowledged, _) = fields.nth(2)?.split_once(':')?;
            Some((
                u16::from_str_radix(port, 16).ok()?,
                usize::from_str_radix(unacknowledged, 16).ok()?,
            ))
        };
        let is_title = |line: &&str| line.contains("local_address");
        let lines = list.lines().filter(|line| !is_title(line));
        let mut ports = HashMap::new();
        for (port, unacknowledged) in lines.map(|line| queue(line).expect("proc(5)'s format")) {
            *ports.entry(port).or_default() += unacknowledged;
        }
        ports
    }

    /// `nc` inside the namespace.
    pub(crate) fn nc(&self, server: &str, port: u16) -> Running {
        Launch::new("nc", "nc")
            .arguments(&format!("{server} {port}"))
            .inside(self.namespace.name())
            .start()
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if thread::panicking() {
            tell_logs(&self.directory);
        }
        // Dropped before the namespace, whose processes were dropped before this.
        let _ = std::fs::remove_dir_all(&self.directory);
        let _ = std::fs::remove_dir("/run/xtcp-tests");
    }
}

/// An appliance whose orphans are killed when the test is over, however it ends.
#[derive(Debug)]
pub(crate) struct Swept(pub(crate) Instance);

impl std::ops::Deref for Swept {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.0
    }
}

impl Drop for Swept {
    fn drop(&mut self) {
        self.0.sweep();
    }
}

/// The reports among the lines of a client.
pub(crate) fn steps(said: &[String]) -> Vec<StepReport> {
    let events = said.iter().filter_map(|line| serde_json::from_str(line).ok());
    events
        .filter_map(|event| match event {
            Event::Step(report) => Some(report),
            Event::Progress { .. } => None,
        })
        .collect()
}

/// Waits for the next step's end of a client that runs.
pub(crate) fn next_step(client: &mut Running, read: &mut usize) -> StepReport {
    let (line, next) = client
        .wait_for_line(*read, "the end of its step", Duration::from_secs(120), |line| {
            line.contains("\"event\":\"step\"")
        })
        .unwrap_or_else(|error| panic!("{error}"));
    *read = next;
    steps(&[line]).remove(0)
}

/// Targets of both families.
pub(crate) fn targets(port: u16) -> String {
    let v4: SocketAddr = format!("{SERVER_V4}:{port}").parse().unwrap();
    let v6: SocketAddr = format!("[{SERVER_V6}]:{port}").parse().unwrap();
    format!("--target {v4} --target {v6}")
}

/// The control core and one worker core, or one core for both where there is no other.
fn cores() -> &'static str {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores > 1 { "0-1" } else { "0" }
}

/// Removes what tests left whose process is gone; needs to be alone on the machine.
fn sweep() {
    for entry in std::fs::read_dir("/run/xtcp-tests").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        for program in ["xtcpd", "xtcp-dataplane", "presence", "relay"] {
            let run_dir = entry.path().join("run").display().to_string();
            for pid in find(program, &[run_dir.as_str()]) {
                kill_by_id(pid);
            }
            for pid in find(program, &[&entry.path().display().to_string()]) {
                kill_by_id(pid);
            }
        }
        VethPair::sweep(&format!("{name}v"));
        VethPair::sweep(&format!("{name}w"));
        Namespace::sweep(&name);
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

fn tell_logs(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("--- {}, last lines\n{tail}", path.display());
        }
    }
}

/// Waits until a dataplane without xtcpd says that there is somebody at the other end.
pub(crate) fn wait_until_up(dataplane: &mut Running) {
    dataplane
        .wait_for_line(0, "`the link is up`", START, |line| line.contains("the link is up"))
        .unwrap_or_else(|error| panic!("{error}"));
}

/// The seed of this run: `XTCP_SEED`, or one from the clock.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("XTCP_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(xtcp_bench::clock::wall_us)
}

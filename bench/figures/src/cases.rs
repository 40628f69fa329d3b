//! The cases of `make bench`: who answers whom over what, and what is asked of them.

use std::path::PathBuf;
use std::time::Duration;

use xtcp_bench::appliance::Instance;
use xtcp_bench::clock;
use xtcp_bench::machine::{HUGE_PAGE_BYTES, HugePages, Namespace, VethPair};
use xtcp_bench::process::{Launch, Running};

use crate::measure::{BY_FEW, Bench, Case, Memory};
use crate::pair::{Measured, Outcome, Pair, Server, generator};
use crate::priority::Priority;
use crate::screen::Screen;
use crate::stage::{DIRECTORY, NAME, NAMESPACE, NEAR, Stage};

const PATIENCE: Duration = Duration::from_secs(60);
/// The veth pair's end in the namespace.
const FAR: &str = "xtcpfig1";
/// Records for connections with data in flight; the same in every case, so that memory compares. Where
/// clients acknowledge 40 ms after an answer, seven eighths of them last for 3.5 million exchanges a second.
const ACTIVE: u32 = 160_000;
/// Connections of the smallest cases' tables, as if so many were to be open.
const ROOM: u32 = 1000;
/// Clients of many that talk while the others are idle, and the fewest that are ever open.
const FEW: u32 = 1000;
/// Exchanges that two stacks are timed with, each.
const COUNTED: u32 = 4_000_000;
/// Fewer connections are opened and ended too fast for a rate.
const MANY: u32 = 10_000;

const ALONE: &str = "dataplane alone (memif)";
const ANSWER: &str = "dataplane alone, mode answer (memif)";
const APPLICATION: &str = "application over the rings (memif)";
const LINUX: &str = "Linux (veth)";
const VETH: &str = "dataplane alone (veth)";
const THREADS: &str = "stack and clients in one thread";

/// One pair of server and clients, and all that is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The dataplane's built-in echo over net_memif with so many connections.
    Alone(u32),
    /// Its mode `answer`, with requests and answers of so many bytes.
    Answer(u32),
    /// An application's process answers, over the rings; it shares a core with the clients.
    Application(u32),
    /// A server of kernel sockets over a veth pair.
    Linux(u32),
    /// The dataplane over the same veth pair.
    Veth(u32),
    /// Two stacks with nothing in common, first one core at work and then both.
    Cores,
}

impl Kind {
    /// For `--only`.
    pub(crate) const fn group(self) -> &'static str {
        match self {
            Self::Alone(_) => "alone",
            Self::Answer(_) => "answer",
            Self::Application(_) => "application",
            Self::Linux(_) | Self::Veth(_) => "kernel",
            Self::Cores => "cores",
        }
    }

    /// For people.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Alone(open) => format!("{ALONE}, {open} connections"),
            Self::Answer(bytes) => format!("{ANSWER}, {bytes} B"),
            Self::Application(open) => format!("{APPLICATION}, {open} connections"),
            Self::Linux(open) => format!("{LINUX}, {open} connections"),
            Self::Veth(open) => format!("{VETH}, {open} connections"),
            Self::Cores => format!("{THREADS}, on one core and on two"),
        }
    }

    /// How many seconds it takes, about, when each load is driven for `load` seconds and set-ups and
    /// ends go at a quarter of a million per second.
    pub(crate) fn expected(self, load: f64) -> f64 {
        let flows = |open: u32| f64::from(open) / 250e3;
        match self {
            Self::Alone(open) if open <= 1_000_000 => 8.0 + 8.0 * load + 3.0 * flows(open),
            Self::Alone(open) => 12.0 + 6.0 * load + 2.0 * flows(open),
            Self::Answer(_) => 4.0 + load,
            Self::Application(open) => 8.0 + 2.0 * load + 2.0 * flows(open),
            Self::Linux(_) | Self::Veth(_) => 5.0 + 3.0 * load,
            Self::Cores => 16.0,
        }
    }
}

impl Bench {
    /// Runs one case; what it measured is kept also when it fails half way.
    pub(crate) fn run(&mut self, kind: Kind) -> Outcome<()> {
        match kind {
            Kind::Alone(connections) => self.alone(connections),
            Kind::Answer(bytes) => self.answer(bytes),
            Kind::Application(connections) => self.application(connections),
            Kind::Linux(connections) => self.over_veth(connections, true),
            Kind::Veth(connections) => self.over_veth(connections, false),
            Kind::Cores => self.two_cores(),
        }
    }

    fn alone(&mut self, connections: u32) -> Outcome<()> {
        // Everything is asked of up to a million connections; of more, what shows that they cost no rate.
        let all = connections <= 1_000_000;
        let room = connections.max(ACTIVE) + ROOM;
        let pages = Pages::reserve(room, &self.screen)?;
        let before = self.distance();
        let options = format!("--forward-mode=echo --connections {room} --active {ACTIVE}");
        let server = self.dataplane(&options, &memif("server"), pages.huge, None)?;
        let launch = self.clients(
            &memif("client"),
            connections,
            &format!("alone-{connections}"),
            pages.huge,
        )?;
        let (mut pair, measured) = Pair::connect(server, &launch, &self.screen)?;
        self.keep_set_ups(ALONE, before, &measured);
        let open = measured.clients.open;
        self.memory.extend(pair.server.memory().map(|bytes| Memory { open, room, bytes }));
        let seconds = self.seconds;
        for bytes in [64, 1024] {
            let peak = self.peak(&mut pair, ALONE, bytes, 256)?;
            if connections > FEW {
                self.few(&mut pair, ALONE, bytes)?;
            }
            for (share, word) in [(0.5, "half of the peak"), (0.9, "nine tenths of the peak")] {
                if all && bytes == 1024 {
                    let rate = (peak.rate * share).max(1.0);
                    let step = format!(
                        "load,name=share-{share},seconds={seconds},rate={rate},request=1024"
                    );
                    self.measure(&mut pair, ALONE, &format!("exchanges at {word}"), 1024, &step)?;
                }
            }
        }
        self.seed(&mut pair, ALONE, seconds * 2.0)?;
        if all && connections >= MANY {
            let step = "reconnect,name=storm,how=rst,under-way=512";
            self.measure(&mut pair, ALONE, "reconnections", 0, step)?;
        }
        self.close(&mut pair, ALONE, connections, 512)?;
        pair.end()
    }

    fn answer(&mut self, bytes: u32) -> Outcome<()> {
        let pages = Pages::reserve(ACTIVE + ROOM, &self.screen)?;
        let options = format!(
            "--forward-mode=answer --request-bytes {bytes} --answer-bytes {bytes} --connections {} \
             --active {ACTIVE}",
            ACTIVE + ROOM
        );
        let server = self.dataplane(&options, &memif("server"), pages.huge, None)?;
        let launch = self
            .clients(&memif("client"), 1000, &format!("answer-{bytes}"), pages.huge)?
            .arguments("--answers letters");
        let (mut pair, _) = Pair::connect(server, &launch, &self.screen)?;
        self.peak(&mut pair, ANSWER, bytes, 256)?;
        pair.end()
    }

    fn application(&mut self, connections: u32) -> Outcome<()> {
        let pages = Pages::reserve(connections.max(ACTIVE), &self.screen)?;
        let before = self.distance();
        let instance = Instance {
            name: NAME.to_owned(),
            run_dir: PathBuf::from(DIRECTORY),
            directory: PathBuf::from(DIRECTORY),
            programs: self.programs.clone(),
            device: memif("server"),
            addresses: vec!["10.64.0.1/10".to_owned()],
            connections: connections + ROOM,
            active: ACTIVE.min(connections + ROOM),
            hugepages: if pages.huge { "auto" } else { "never" },
            successor: "close",
            tcp: String::new(),
            namespace: None,
        };
        let xtcpd = instance.start()?;
        if !self.polite {
            instance.dataplanes().into_iter().for_each(Priority::extend_to);
        }
        let mut application = Launch::new("application", "taskset")
            .arguments(&format!("-c {}", self.cores.0))
            .argument(self.programs.path("xtcp-bench")?.display().to_string())
            .arguments(&format!("server --instance {NAME} --port 7 --run-dir {DIRECTORY}"))
            .start()?;
        application
            .wait_for_line(0, "`ready on port`", PATIENCE, |line| line.contains("ready on port"))?;
        let server = Server::Application {
            _application: application,
            _xtcpd: xtcpd,
            instance: Box::new(instance),
        };
        let label = format!("application-{connections}");
        let launch =
            self.clients(&memif("client"), connections, &label, pages.huge)?.argument("--yields");
        let (mut pair, measured) = Pair::connect(server, &launch, &self.screen)?;
        self.keep_set_ups(APPLICATION, before, &measured);
        for bytes in [64, 1024] {
            self.peak(&mut pair, APPLICATION, bytes, 256)?;
        }
        self.close(&mut pair, APPLICATION, connections, 512)?;
        pair.end()
    }

    /// The same clients over the same veth pair: once the kernel answers, once the dataplane.
    fn over_veth(&mut self, connections: u32, kernel: bool) -> Outcome<()> {
        let namespace = Namespace::create(NAMESPACE)?;
        let _pair = VethPair::create(NEAR, FAR, &namespace)?;
        let (name, server) = if kernel {
            namespace.add_address(FAR, "10.64.0.1".parse()?, 10)?;
            // Room for all who have connected and are not accepted yet: Linux at its best.
            namespace.run("sysctl -qw net.core.somaxconn=65535")?;
            namespace.run("sysctl -qw net.ipv4.tcp_max_syn_backlog=65535")?;
            self.steer(&namespace)?;
            (LINUX, self.kernel_server()?)
        } else {
            let room = ACTIVE + ROOM;
            let options = format!("--forward-mode=echo --connections {room} --active {ACTIVE}");
            (VETH, self.dataplane(&options, &packet(FAR), false, Some(NAMESPACE))?)
        };
        let before = self.distance();
        let label = format!("{}-{connections}", if kernel { "kernel" } else { "veth" });
        let launch = self.clients(&packet(NEAR), connections, &label, false)?;
        let (mut both, measured) = Pair::connect(server, &launch, &self.screen)?;
        self.keep_set_ups(name, before, &measured);
        for bytes in [64, 1024] {
            self.peak(&mut both, name, bytes, 64)?;
        }
        self.seed(&mut both, name, self.seconds)?;
        self.close(&mut both, name, connections, 64)?;
        both.end()
    }

    /// The kernel's own share of the work is to be done on the server's core, as the dataplane's is;
    /// otherwise it would be done on the clients'.
    fn steer(&self, namespace: &Namespace) -> Outcome<()> {
        let cores = format!("{:x}", 1_u64 << self.cores.1.min(63));
        let place = format!("/sys/class/net/{FAR}/queues/rx-0/rps_cpus");
        let set = Launch::new("steering", "sh")
            .argument("-c")
            .argument(format!("echo {cores} > {place}"))
            .inside(namespace.name());
        set.finish(PATIENCE)?;
        Ok(())
    }

    /// All clients have connected meanwhile.
    fn keep_set_ups(&mut self, name: &str, before: f64, measured: &Measured) {
        let case = self.case(name, "set-ups", 0, before, measured);
        if case.open >= MANY {
            self.keep(case);
        }
    }

    /// All clients end.
    fn close(&mut self, pair: &mut Pair, name: &str, open: u32, under_way: u32) -> Outcome<()> {
        if open >= MANY {
            let step = format!("close,how=fin,under-way={under_way}");
            self.measure(pair, name, "closes", 0, &step)?;
        }
        Ok(())
    }

    /// The most exchanges per second.
    fn peak(&mut self, pair: &mut Pair, name: &str, bytes: u32, in_flight: u32) -> Outcome<Case> {
        let seconds = self.seconds;
        let step = format!(
            "load,name=peak-{bytes},seconds={seconds},in-flight={in_flight},request={bytes}"
        );
        self.measure(pair, name, "exchanges", bytes, &step)
    }

    /// The most exchanges per second of a few, while all the others are open and idle.
    fn few(&mut self, pair: &mut Pair, name: &str, bytes: u32) -> Outcome<Case> {
        let seconds = self.seconds;
        let step = format!(
            "load,name=few-{bytes},seconds={seconds},in-flight=256,active={FEW},request={bytes}"
        );
        self.measure(pair, name, BY_FEW, bytes, &step)
    }

    /// The specification's load.
    fn seed(&mut self, pair: &mut Pair, name: &str, seconds: f64) -> Outcome<Case> {
        let step = format!("load,name=seed,seconds={seconds},rate=30000,request=1024");
        self.measure(pair, name, "exchanges at 30,000/s", 1024, &step)
    }

    /// Timed from outside: one stack with its clients on one core, then one on each of two.
    fn two_cores(&mut self) -> Outcome<()> {
        let program = self.programs.path("xtcp-counted")?;
        let start = |core: usize| {
            Launch::new("xtcp-counted", "taskset")
                .arguments(&format!("-c {core}"))
                .argument(program.display().to_string())
                .arguments(&format!("{COUNTED} 64"))
                .start()
        };
        let limit = self.screen.left();
        let timed = |cores: &[usize]| -> Outcome<f64> {
            let began = clock::now();
            let mut running = Vec::<Running>::new();
            for core in cores {
                running.push(start(*core)?);
            }
            for one in &mut running {
                let status = one.wait(limit)?;
                if !status.success() {
                    return Err(one.failure(status).into());
                }
            }
            Ok(cores.len() as f64 * f64::from(COUNTED) / began.elapsed().as_secs_f64())
        };
        let (here, there) = self.cores;
        for (word, cores) in [("one core", &[there][..]), ("two cores", &[here, there][..])] {
            let before = self.distance();
            let rate = timed(cores)?;
            let after = self.distance();
            self.keep(Case {
                name: format!("{THREADS}, {word}, 1024 open, exchanges of 64 B"),
                server: format!("{THREADS}, {word}"),
                open: 1024,
                what: "exchanges".to_owned(),
                bytes: 64,
                rate,
                busy_ns: cores.len() as f64 * 1e9 / rate,
                busy_share: 1.0,
                distance_ns: (before, after),
                ..Case::default()
            });
        }
        Ok(())
    }

    /// The generator at one end of `device`.
    fn clients(&self, device: &str, connections: u32, label: &str, huge: bool) -> Outcome<Launch> {
        let program = self.programs.path("xtcp-generator")?;
        // No more than the device's ring holds: the other end may be away for a while.
        let under_way = if device.starts_with("net_memif") { 512 } else { 64 };
        let launch =
            generator(&program, self.cores.0, device, connections, (&self.out, label), eal(huge));
        Ok(launch.argument(format!("--step=connect,under-way={under_way}")))
    }

    fn kernel_server(&self) -> Outcome<Server> {
        let core = self.cores.1;
        let mut process = Launch::new("kernel-server", "taskset")
            .arguments(&format!("-c {core}"))
            .argument(self.programs.path("xtcp-bench")?.display().to_string())
            .arguments("kernel-server --listen 10.64.0.1:7")
            .inside(NAMESPACE)
            .start()?;
        process
            .wait_for_line(0, "`listening on`", PATIENCE, |line| line.contains("listening on"))?;
        Ok(Server::Kernel { process, core })
    }

    fn dataplane(
        &self,
        options: &str,
        device: &str,
        huge: bool,
        namespace: Option<&str>,
    ) -> Outcome<Server> {
        let (control, worker) = self.cores;
        let pages = eal(huge);
        let mut launch = Launch::new("xtcp-dataplane", self.programs.path("xtcp-dataplane")?)
            .arguments(&format!("-l {control},{worker} --no-pci {pages}"))
            .argument(format!("--vdev={device}"))
            .arguments(&format!("-- --name {NAME} --run-dir {DIRECTORY}"))
            .arguments("--ip 10.64.0.1/10 -i --ipv6-connections 1")
            .arguments(options);
        if let Some(namespace) = namespace {
            launch = launch.inside(namespace);
        }
        let mut process = launch.start()?;
        process.wait_for_line(0, "`the link is`", PATIENCE, |line| line.contains("the link is"))?;
        Ok(Server::Alone(process))
    }
}

/// Huge pages for one case, given back when it is over.
struct Pages {
    /// Whether there are enough.
    huge: bool,
    _guard: HugePages,
}

/// EAL's memory: without huge pages its frames lie at the same place of each page, and so in the same
/// few lines of the cache.
const fn eal(huge: bool) -> &'static str {
    if huge { "--in-memory --iova-mode=va -m 128" } else { "--no-huge -m 128" }
}

impl Pages {
    /// As many as tables with room for so many connections, buffers and EAL on both sides take.
    fn reserve(room: u32, screen: &Screen) -> Outcome<Self> {
        let wanted = (u64::from(room) * 72 + (768 << 20)) / HUGE_PAGE_BYTES;
        let guard = Stage::huge_pages(wanted)?;
        let free = HugePages::free()?;
        let huge = free >= wanted;
        if !huge {
            screen.say(&format!(
                "  {free} of {wanted} huge pages could be had: ordinary ones are used"
            ));
        }
        Ok(Self { huge, _guard: guard })
    }
}

fn memif(role: &str) -> String {
    format!("net_memif0,role={role},socket={DIRECTORY}/memif.sock,socket-abstract=no")
}

fn packet(interface: &str) -> String {
    format!("net_af_packet0,iface={interface}")
}

/// Connections that memory holds on both ends, `most` at most: 64 B for each client, and 80 for each
/// of the server's, with a gigabyte to spare.
#[must_use]
pub(crate) fn held_by_memory(most: u32) -> u32 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    let kib: u64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let room = (kib << 10).saturating_sub(1 << 30) / 160;
    u32::try_from(room).unwrap_or(u32::MAX).min(most)
}

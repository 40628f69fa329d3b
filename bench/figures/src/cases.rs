//! The cases of `make bench`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::thread::sched_getaffinity;
use serde::{Deserialize, Serialize};
use xtcp_bench::appliance::{Instance, Programs};
use xtcp_bench::machine::{HUGE_PAGE_BYTES, HugePages, Namespace, VethPair};
use xtcp_bench::process::Launch;
use xtcp_report::sample::Latency;

use crate::distance::round_trip_ns;
use crate::pair::{Measured, Outcome, Pair, Server, generator};

const PATIENCE: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "xtcp-figures";
const NEAR: &str = "xtcpfig0";
const FAR: &str = "xtcpfig1";
/// The two cores have moved when their round trip changed by more than this factor.
const MOVED: f64 = 1.5;
/// Times a case during which the cores moved is run.
const TRIES: usize = 3;
/// Records for connections with data in flight; the same in every case, so that memory compares.
const ACTIVE: u32 = 70_000;

/// What one case came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Case {
    /// Its name: who answers, and what is asked.
    pub(crate) name: String,
    /// Who answers, over what.
    pub(crate) server: String,
    /// Connections open.
    pub(crate) open: u32,
    /// What was measured: exchanges, set-ups, closes, reconnections.
    pub(crate) what: String,
    /// Bytes of request and of answer.
    pub(crate) bytes: u32,
    /// Per second.
    pub(crate) rate: f64,
    /// Nanoseconds of work of the server for each; of a kernel, of its whole core.
    pub(crate) busy_ns: f64,
    /// Share of the time the server worked.
    pub(crate) busy_share: f64,
    /// Segments on the wire for each.
    pub(crate) segments: f64,
    /// Latency of exchanges.
    pub(crate) latency: Option<Latency>,
    /// Connections that failed.
    pub(crate) failed: u64,
    /// Segments the clients sent again.
    pub(crate) resent: u64,
    /// The round trip of a cache line between the cores, before and after, in nanoseconds.
    pub(crate) distance_ns: (f64, f64),
    /// Whether it changed too much in every try.
    pub(crate) moved: bool,
}

/// Memory of a server's process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Connections it held open.
    pub(crate) open: u32,
    /// Bytes it held in all.
    pub(crate) bytes: u64,
}

/// Where things are and how long cases take.
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    pub(crate) out: PathBuf,
    pub(crate) seconds: f64,
    pub(crate) cases: Vec<Case>,
    pub(crate) memory: Vec<Memory>,
    /// Whether the dataplane has huge pages in this case.
    huge: bool,
    cores: (usize, usize),
    directory: PathBuf,
}

impl Bench {
    pub(crate) fn new(out: &Path, seconds: f64) -> Outcome<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..1024).filter(|core| allowed.is_set(*core));
        let first = cores.next().ok_or("no core")?;
        let second =
            cores.next().ok_or("two cores are needed: one for the server, one for the clients")?;
        let directory = std::env::temp_dir().join(format!("xtcp-figures-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        Ok(Self {
            programs: Programs::locate()?,
            out: out.to_owned(),
            seconds,
            cases: Vec::new(),
            memory: Vec::new(),
            huge: false,
            cores: (first, second),
            directory,
        })
    }

    fn distance(&self) -> f64 {
        round_trip_ns(self.cores.0, self.cores.1).unwrap_or(f64::NAN)
    }

    /// Runs a step between two measurements of the cores' distance, again if they moved.
    fn measure(
        &mut self,
        pair: &mut Pair,
        server: &str,
        what: &str,
        bytes: u32,
        step: &str,
    ) -> Outcome<Case> {
        let mut last = Case::default();
        for _ in 0..TRIES {
            let before = self.distance();
            let measured = pair.step(step)?;
            last = self.case(server, what, bytes, before, &measured);
            if !last.moved {
                break;
            }
        }
        self.keep(last.clone());
        Ok(last)
    }

    fn case(&self, server: &str, what: &str, bytes: u32, before: f64, measured: &Measured) -> Case {
        let after = self.distance();
        let clients = &measured.clients;
        let count = match what {
            "set-ups" | "reconnections" => clients.opened,
            "closes" => clients.closed,
            _ => clients.answers,
        };
        let each = count.max(1) as f64;
        // What was closed was open before.
        let closed =
            if what == "closes" { u32::try_from(clients.closed).unwrap_or(u32::MAX) } else { 0 };
        let open = clients.open.max(closed);
        Case {
            name: format!("{server}, {} open, {what}{}", open, sized(bytes)),
            server: server.to_owned(),
            open,
            what: what.to_owned(),
            bytes,
            rate: clients.rate,
            busy_ns: measured.busy_ns / each,
            busy_share: measured.busy_share,
            segments: (clients.segments_in + clients.segments_out) as f64 / each,
            latency: clients.latency,
            failed: clients.failed,
            resent: clients.resent,
            distance_ns: (before, after),
            moved: !(before / after < MOVED && after / before < MOVED),
        }
    }

    fn keep(&mut self, case: Case) {
        let latency = case.latency.map_or_else(String::new, |l| {
            format!("  p50 {:.1}  p99 {:.1}  p99.9 {:.1} us", l.p50_us, l.p99_us, l.p99_9_us)
        });
        println!(
            "{:<64} {:>10.0}/s  {:>6.0} ns of the server each  cores {:.0}/{:.0} ns{}{latency}",
            case.name,
            case.rate,
            case.busy_ns,
            case.distance_ns.0,
            case.distance_ns.1,
            if case.moved { "  (they moved)" } else { "" },
        );
        self.cases.push(case);
    }

    /// The dataplane alone over net_memif, with so many connections.
    pub(crate) fn alone(&mut self, connections: u32, all: bool) -> Outcome<()> {
        let name = "dataplane alone (memif)";
        // As many as tables, buffers and EAL take; given back when the case is over.
        let wanted = (u64::from(connections.max(ACTIVE)) * 72 + (480 << 20)) / HUGE_PAGE_BYTES;
        let _pages = HugePages::reserve(wanted)?;
        self.huge = HugePages::free()? >= wanted;
        let before = self.distance();
        let server = self.start_dataplane(connections, &memif("server", &self.socket()), None)?;
        self.huge = false;
        let label = format!("alone-{connections}");
        let launch = generator(
            &self.programs.path("xtcp-generator")?,
            &memif("client", &self.socket()),
            connections,
            (&self.out, &label),
        );
        let (mut pair, measured) = Pair::connect(server, &launch)?;
        let case = self.case(name, "set-ups", 0, before, &measured);
        self.keep(case);
        if let Some(bytes) = pair.server.memory() {
            self.memory.push(Memory { open: measured.clients.open, bytes });
        }
        let seconds = self.seconds;
        for bytes in [64, 1024] {
            let step =
                format!("load,name=peak-{bytes},seconds={seconds},in-flight=256,request={bytes}");
            let peak = self.measure(&mut pair, name, "exchanges", bytes, &step)?;
            for (share, word) in [(0.5, "half of the peak"), (0.9, "nine tenths of the peak")] {
                if all && bytes == 1024 {
                    let rate = peak.rate * share;
                    let step = format!(
                        "load,name=share-{share},seconds={seconds},rate={rate},request=1024"
                    );
                    self.measure(&mut pair, name, &format!("exchanges at {word}"), 1024, &step)?;
                }
            }
        }
        let step = format!("load,name=seed,seconds={},rate=30000,request=1024", seconds * 2.0);
        self.measure(&mut pair, name, "exchanges at 30,000/s", 1024, &step)?;
        if all {
            self.measure(
                &mut pair,
                name,
                "reconnections",
                0,
                "reconnect,name=storm,how=rst,under-way=512",
            )?;
        }
        self.measure(&mut pair, name, "closes", 0, "close,how=fin,under-way=512")?;
        pair.end()
    }

    /// An application's process answers, over the rings; it shares a core with the clients.
    pub(crate) fn application(&mut self, connections: u32) -> Outcome<()> {
        let name = "application over the rings (memif)";
        let before = self.distance();
        let instance = Instance {
            name: "figures".to_owned(),
            run_dir: self.directory.join("run"),
            directory: self.directory.clone(),
            programs: self.programs.clone(),
            device: memif("server", &self.socket()),
            addresses: vec!["10.64.0.1/10".to_owned()],
            connections: connections + 1000,
            active: ACTIVE.min(connections + 1000),
            hugepages: "never",
            successor: "close",
            tcp: String::new(),
            namespace: None,
        };
        let xtcpd = instance.start()?;
        let own = std::env::current_exe()?;
        let mut application = Launch::new("application", "taskset")
            .arguments(&format!("-c {}", self.cores.0))
            .argument(own.display().to_string())
            .arguments("server --instance figures --port 7 --run-dir")
            .argument(instance.run_dir.display().to_string())
            .start()?;
        application
            .wait_for_line(0, "`ready on port`", PATIENCE, |line| line.contains("ready on port"))?;
        let server = Server::Application {
            _application: application,
            _xtcpd: xtcpd,
            instance: Box::new(instance),
        };
        let label = format!("application-{connections}");
        let launch = generator(
            &self.programs.path("xtcp-generator")?,
            &memif("client", &self.socket()),
            connections,
            (&self.out, &label),
        )
        .argument("--yields");
        let (mut pair, measured) = Pair::connect(server, &launch)?;
        let case = self.case(name, "set-ups", 0, before, &measured);
        self.keep(case);
        for bytes in [64, 1024] {
            let step = format!(
                "load,name=peak-{bytes},seconds={},in-flight=256,request={bytes}",
                self.seconds
            );
            self.measure(&mut pair, name, "exchanges", bytes, &step)?;
        }
        self.measure(&mut pair, name, "closes", 0, "close,how=fin,under-way=512")?;
        pair.end()
    }

    /// The same clients over the same veth pair: once the kernel answers, once the dataplane.
    pub(crate) fn beside_the_kernel(&mut self, connections: u32) -> Outcome<()> {
        for kernel in [true, false] {
            VethPair::sweep(NEAR);
            Namespace::sweep(NAMESPACE);
            let namespace = Namespace::create(NAMESPACE)?;
            let pair = VethPair::create(NEAR, FAR, &namespace)?;
            let (name, server, clients_at) = if kernel {
                namespace.add_address(FAR, "10.64.0.1".parse()?, 10)?;
                ("Linux (veth)", self.start_kernel()?, NEAR)
            } else {
                let device = packet(FAR);
                (
                    "dataplane alone (veth)",
                    self.start_dataplane(connections, &device, Some(NAMESPACE))?,
                    NEAR,
                )
            };
            let before = self.distance();
            let label = format!("{}-{connections}", if kernel { "kernel" } else { "veth" });
            let launch = generator(
                &self.programs.path("xtcp-generator")?,
                &packet(clients_at),
                connections,
                (&self.out, &label),
            );
            let (mut both, measured) = Pair::connect(server, &launch)?;
            let case = self.case(name, "set-ups", 0, before, &measured);
            self.keep(case);
            let seconds = self.seconds;
            for bytes in [64, 1024] {
                let step = format!(
                    "load,name=peak-{bytes},seconds={seconds},in-flight=64,request={bytes}"
                );
                self.measure(&mut both, name, "exchanges", bytes, &step)?;
            }
            let step = format!("load,name=seed,seconds={seconds},rate=30000,request=1024");
            self.measure(&mut both, name, "exchanges at 30,000/s", 1024, &step)?;
            self.measure(&mut both, name, "closes", 0, "close,how=fin,under-way=64")?;
            both.end()?;
            drop(pair);
        }
        Ok(())
    }

    fn socket(&self) -> String {
        self.directory.join("memif.sock").display().to_string()
    }

    fn start_kernel(&self) -> Outcome<Server> {
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

    fn start_dataplane(
        &self,
        connections: u32,
        device: &str,
        namespace: Option<&str>,
    ) -> Outcome<Server> {
        let (control, worker) = self.cores;
        let pages =
            if self.huge { "--in-memory --iova-mode=va -m 128" } else { "--no-huge -m 128" };
        let mut launch = Launch::new("xtcp-dataplane", self.programs.path("xtcp-dataplane")?)
            .arguments(&format!("-l {control},{worker} --no-pci {pages}"))
            .argument(format!("--vdev={device}"))
            .arguments("-- --name figures --run-dir")
            .argument(self.directory.display().to_string())
            .arguments("--ip 10.64.0.1/10 --forward-mode=echo -i --ipv6-connections 1")
            .arguments(&format!(
                "--connections {} --active {ACTIVE}",
                connections.max(ACTIVE) + 1000
            ));
        if let Some(namespace) = namespace {
            launch = launch.inside(namespace);
        }
        let mut process = launch.start()?;
        process.wait_for_line(0, "`the link is`", PATIENCE, |line| line.contains("the link is"))?;
        Ok(Server::Alone(process))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What cannot be removed is in the temporary directory, where it is found.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn sized(bytes: u32) -> String {
    if bytes == 0 { String::new() } else { format!(" of {bytes} B") }
}

fn memif(role: &str, socket: &str) -> String {
    format!("net_memif0,role={role},socket={socket},socket-abstract=no")
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

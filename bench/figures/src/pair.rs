//! A server and the generator at the two ends of a device, and what is asked of both.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use xtcp_bench::appliance::Instance;
use xtcp_bench::clock::{self, Deadline};
use xtcp_bench::process::{Launch, Running};
use xtcp_report::sample::StepReport;

use crate::screen::Screen;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// How long a process has to say what is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the generator has to write its files.
const ENDING: Duration = Duration::from_secs(30);

/// What a server has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// Ticks of turns that did something; of a kernel, clock ticks of its core that were not idle.
    busy: f64,
    /// Ticks in all.
    all: f64,
    /// When, in microseconds.
    at_us: f64,
}

/// Who answers.
pub(crate) enum Server {
    /// The dataplane with its built-in echo, asked at its prompt.
    Alone(Running),
    /// The appliance with an application's process.
    Application { _application: Running, _xtcpd: Running, instance: Box<Instance> },
    /// The kernel.
    Kernel { process: Running, core: usize },
}

impl Server {
    /// What it has used so far.
    fn used(&mut self) -> Outcome<Used> {
        let at_us = clock::wall_us() as f64;
        let (busy, idle) = match self {
            Self::Alone(process) => {
                let skip = process.said().len();
                process.tell("show counters all")?;
                let (busy, next) = process.wait_for_line(skip, "busy-ticks", PATIENCE, |line| {
                    line.starts_with("busy-ticks")
                })?;
                let (idle, _) = process.wait_for_line(next, "idle-ticks", PATIENCE, |line| {
                    line.starts_with("idle-ticks")
                })?;
                (first_number(&busy), first_number(&idle))
            }
            Self::Application { instance, .. } => {
                let rows = instance.show("counters")?;
                let of = |name: &str| {
                    let row = rows
                        .iter()
                        .find(|row| row.get("counter").and_then(Value::as_str) == Some(name));
                    row.and_then(|row| row.values().find_map(Value::as_f64)).unwrap_or(0.0)
                };
                (of("busy-ticks"), of("idle-ticks"))
            }
            Self::Kernel { core, .. } => core_ticks(*core)?,
        };
        Ok(Used { busy, all: busy + idle, at_us })
    }

    /// Bytes of memory its process holds, huge pages included.
    pub(crate) fn memory(&self) -> Option<u64> {
        let pid = match self {
            Self::Alone(process) | Self::Kernel { process, .. } => process.pid(),
            Self::Application { instance, .. } => *instance.dataplanes().first()?,
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some((of("VmRSS:")? + of("HugetlbPages:").unwrap_or(0)) << 10)
    }
}

fn first_number(line: &str) -> f64 {
    line.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(0.0)
}

/// A core's ticks since the start, busy and idle.
fn core_ticks(core: usize) -> Outcome<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{core} ");
    let line =
        stat.lines().find(|line| line.starts_with(&name)).ok_or("no such core in /proc/stat")?;
    let ticks: Vec<f64> =
        line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    let idle = ticks.get(3).unwrap_or(&0.0) + ticks.get(4).unwrap_or(&0.0);
    Ok((ticks.iter().take(8).sum::<f64>() - idle, idle))
}

/// A server and its clients.
pub(crate) struct Pair {
    pub(crate) server: Server,
    generator: Running,
    heard: usize,
}

/// What a step came to, on both sides.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) clients: StepReport,
    /// Nanoseconds the server worked, all together.
    pub(crate) busy_ns: f64,
    /// Share of the time it worked.
    pub(crate) busy_share: f64,
}

impl Pair {
    /// Starts the generator against a server that is up; it connects all clients.
    pub(crate) fn connect(
        mut server: Server,
        generator: &Launch,
        screen: &Screen,
    ) -> Outcome<(Self, Measured)> {
        let before = server.used()?;
        let generator = generator.start()?;
        let mut pair = Self { server, generator, heard: 0 };
        let clients = pair.next_step(screen)?;
        let measured = pair.since(before, clients)?;
        Ok((pair, measured))
    }

    /// Has the clients do one step.
    pub(crate) fn step(&mut self, step: &str, screen: &Screen) -> Outcome<Measured> {
        let before = self.server.used()?;
        self.generator.tell(step)?;
        let clients = self.next_step(screen)?;
        self.since(before, clients)
    }

    fn since(&mut self, before: Used, clients: StepReport) -> Outcome<Measured> {
        let after = self.server.used()?;
        let wall_ns = (after.at_us - before.at_us) * 1000.0;
        let share = (after.busy - before.busy) / (after.all - before.all).max(1.0);
        Ok(Measured { clients, busy_ns: share * wall_ns, busy_share: share })
    }

    /// What the step comes to; its seconds are shown meanwhile.
    fn next_step(&mut self, screen: &Screen) -> Outcome<StepReport> {
        let limit = Deadline::within(screen.left());
        loop {
            let (line, heard) = self.generator.wait_for_line(
                self.heard,
                "what a step came to",
                limit.left(),
                |l| l.starts_with("{\"step\":") || l.starts_with("{\"second\":"),
            )?;
            self.heard = heard;
            let mut value: Value = serde_json::from_str(&line)?;
            if value["step"].is_object() {
                return Ok(serde_json::from_value(value["step"].take())?);
            }
            screen.second(&serde_json::from_value(value["second"].take())?);
        }
    }

    /// Ends the generator, which writes its files, and then the server.
    pub(crate) fn end(mut self) -> Outcome<()> {
        self.generator.tell("")?;
        // One whose clients had failures says so by its status; they are in its report.
        self.generator.wait(ENDING)?;
        Ok(())
    }
}

/// The generator's command line on `core` at one end of `device`.
pub(crate) fn generator(
    program: &Path,
    core: usize,
    device: &str,
    connections: u32,
    (out, label): (&Path, &str),
    eal: &str,
) -> Launch {
    Launch::new("xtcp-generator", program)
        .arguments(&format!("-l {core} --no-pci {eal} --file-prefix xtcp-figures-clients"))
        .argument(format!("--vdev={device}"))
        .arguments("-- --server 10.64.0.1:7 --clients 10.65.0.0/16 --hold")
        .arguments(&format!("--connections {connections} --label {label} --out"))
        .argument(out.display().to_string())
}

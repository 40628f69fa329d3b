//! The load: thousands of kernel clients at once, captured.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::ledger::Ledger;
use super::names::{NAMESPACE, PEER, PORT, SERVER_V4, SERVER_V6};
use super::screen::Screen;
use super::stage::Stage;
use super::{DemoError, Options};
use crate::capture::{self, Analysis, Capture};
use crate::client::{Event, StepReport};
use crate::clock;
use crate::process::{Launch, Running, resident_bytes};

/// Bytes of a request's body and so of its answer.
pub(super) const BODY_BYTES: u32 = 1024;

/// How long a client may say nothing; it tells progress ten times a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// Resident memory of the processes, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resident {
    pub(super) xtcpd: u64,
    pub(super) dataplane: u64,
    pub(super) presence: u64,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Driven {
    pub(super) connect: StepReport,
    /// As fast as it goes.
    pub(super) fast: StepReport,
    /// At the rate asked for; latency is told from this one.
    pub(super) paced: StepReport,
    pub(super) close: StepReport,
    /// Before the connections and while all are open and idle.
    pub(super) resident: [Resident; 2],
    /// `show workers` while all connections are open and idle.
    pub(super) workers: Vec<Map<String, Value>>,
    pub(super) capture: PathBuf,
    /// Frames the capture lost.
    pub(super) not_captured: u64,
    pub(super) analysis_fast: Analysis,
    pub(super) analysis_paced: Analysis,
}

/// Runs the load.
pub(super) fn drive(
    stage: &Stage,
    ledger: &Ledger,
    screen: &mut Screen,
    options: &Options,
) -> Result<Driven, DemoError> {
    let pcap = options.out.join("demo.pcap");
    let capture = ledger.capture(|| Capture::start(PEER, NAMESPACE, &pcap))?;
    let before = resident(stage);
    let mut clients = ledger.start("kernel-client", || launch_clients(stage, options))?;
    let mut read = 0;

    screen.step(&format!("{} kernel clients connect, half IPv4, half IPv6", options.connections));
    let connect = follow(&mut clients, &mut read, screen)?;
    let connected_us = clock::wall_us();
    let resident = [before, resident(stage)];
    let workers = stage.instance.show("workers")?;
    clients.tell("go on")?;

    screen.step(&format!("{} exchanges on each, as fast as they go", options.rounds));
    let fast = follow(&mut clients, &mut read, screen)?;
    let fast_us = clock::wall_us();
    clients.tell("go on")?;

    screen.step(&format!("{} exchanges a second over all of them", options.rate));
    let paced = follow(&mut clients, &mut read, screen)?;
    let paced_us = clock::wall_us();
    clients.tell("go on")?;

    screen.step("closing");
    let close = follow(&mut clients, &mut read, screen)?;
    clients.tell("go on")?;
    // Its status says whether any connection failed; the reports say which and why.
    clients.wait(PATIENCE)?;
    let not_captured = capture.finish()?;
    let parts = capture::analyse(&pcap, PORT, &[connected_us, fast_us, paced_us])?;
    Ok(Driven {
        connect,
        fast,
        paced,
        close,
        resident,
        workers,
        capture: pcap,
        not_captured,
        analysis_fast: parts[1],
        analysis_paced: parts[2],
    })
}

fn launch_clients(stage: &Stage, options: &Options) -> Result<Running, DemoError> {
    let hgrm = options.out.join("demo.hgrm");
    let launch = Launch::new("kernel-client", stage.instance.programs.path("xtcp-bench")?)
        .arguments("kernel-client --json --hold --framing presence")
        .arguments(&format!("--target {SERVER_V4}:{PORT} --target [{SERVER_V6}]:{PORT}"))
        .arguments(&format!("--connections {}", options.connections))
        .arguments(&format!("--load rounds={},sizes={BODY_BYTES}", options.rounds))
        .argument("--load")
        .argument(format!(
            "rounds={},sizes={BODY_BYTES},rate={},hgrm={}",
            options.paced_rounds,
            options.rate,
            hgrm.display()
        ))
        .inside(NAMESPACE);
    Ok(launch.start()?)
}

/// Shows progress until the step is over.
fn follow(
    clients: &mut Running,
    read: &mut usize,
    screen: &mut Screen,
) -> Result<StepReport, DemoError> {
    loop {
        let (line, next) = clients
            .wait_for_line(*read, "how far it is", PATIENCE, |line| line.starts_with('{'))?;
        *read = next;
        match serde_json::from_str(&line) {
            Ok(Event::Progress { step, done, total }) => screen.progress(&step, done, total),
            Ok(Event::Step(report)) => {
                screen.clear();
                return Ok(report);
            }
            Err(error) => {
                return Err(DemoError::NotHeld(format!("kernel-client said {line}: {error}")));
            }
        }
    }
}

fn resident(stage: &Stage) -> Resident {
    let of = |pid| resident_bytes(pid).unwrap_or(0);
    Resident {
        xtcpd: of(stage.xtcpd.pid()),
        dataplane: stage.instance.dataplanes().into_iter().map(of).sum(),
        presence: of(stage.presence.pid()),
    }
}

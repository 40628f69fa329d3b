//! What acknowledgement by the application does to the wire: the same exchanges of the same kernel
//! clients, once with a server over XTCP and once with one over the kernel's own TCP.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::stage::{FAR, SERVER, Stage};
use super::{Failure, publish};
use crate::appliance::Instance;
use crate::capture::{Analysis, Capture, analyse};
use crate::client::{Event, StepReport};
use crate::clock::Deadline;
use crate::judge::judge;
use crate::process::{Launch, Running};

const PORT: u16 = 7200;
const READY: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Connections open at once
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub connections: u32,
    /// Exchanges on each connection
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Bytes of a request and of its answer
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1400))]
    pub bytes: u32,
    /// Milliseconds the server takes for an answer; several are measured one after the other
    #[arg(long = "after-ms", value_delimiter = ',', default_values_t = [0, 1, 50])]
    pub after_ms: Vec<u64>,
    /// Milliseconds a client rests between an answer and its next request; 0: not at all
    #[arg(long, default_value_t = 100)]
    pub think_ms: u64,
    /// Where the report and the captures are left
    #[arg(long, default_value = "bench/out")]
    pub out: PathBuf,
}

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Xtcp,
    Linux,
}

impl Server {
    const fn name(self) -> &'static str {
        match self {
            Self::Xtcp => "xtcp",
            Self::Linux => "linux",
        }
    }
}

/// One run.
#[derive(Debug)]
struct Measured {
    server: Server,
    after_ms: u64,
    exchanges: u64,
    packets: Analysis,
    /// What tshark calls a retransmission, by the clients and by the server.
    again: [u64; 2],
    /// Of these, the ones of bytes that had been acknowledged.
    spurious: [u64; 2],
    latency_p50_us: f64,
}

/// Measures and reports.
///
/// # Errors
/// When something is missing or does not hold, a sentence.
pub fn run(options: &Options) -> Result<(), Failure> {
    std::fs::create_dir_all(&options.out)?;
    let stage = Stage::set()?;
    let mut all = Vec::new();
    for &after_ms in &options.after_ms {
        stage.give_to_the_kernel()?;
        let kernel = start_kernel_server(&stage, options, after_ms)?;
        all.push(exchange(&stage, options, Server::Linux, after_ms)?);
        drop(kernel);

        let appliance = stage.give_to_an_appliance()?;
        let application = start_application(&appliance.instance, options, after_ms)?;
        all.push(exchange(&stage, options, Server::Xtcp, after_ms)?);
        drop(application);
        appliance.stop()?;
    }
    publish(&report(options, &all), &options.out, "acknowledgement.txt")
}

fn exchange_arguments(options: &Options, after_ms: u64) -> String {
    format!("--exchange {} --after-ms {after_ms}", options.bytes)
}

fn start_kernel_server(
    stage: &Stage,
    options: &Options,
    after_ms: u64,
) -> Result<Running, Failure> {
    let mut server = Launch::new("kernel-server", std::env::current_exe()?)
        .arguments(&format!("kernel-server --listen {SERVER}:{PORT}"))
        .arguments(&exchange_arguments(options, after_ms))
        .inside(stage.servers.name())
        .start()?;
    server.wait_for_line(0, "`listening on`", READY, |line| line.starts_with("listening on"))?;
    Ok(server)
}

fn start_application(
    instance: &Instance,
    options: &Options,
    after_ms: u64,
) -> Result<Running, Failure> {
    let mut application = Launch::new("xtcp-server", std::env::current_exe()?)
        .arguments(&format!("xtcp-server --instance {} --port {PORT} --run-dir", instance.name))
        .argument(instance.run_dir.display().to_string())
        .arguments(&exchange_arguments(options, after_ms))
        .start()?;
    application.wait_for_line(0, "`ready on`", READY, |line| line.starts_with("ready on"))?;
    Ok(application)
}

/// The clients' run, captured at their end.
fn exchange(
    stage: &Stage,
    options: &Options,
    server: Server,
    after_ms: u64,
) -> Result<Measured, Failure> {
    let file = options.out.join(format!("acknowledgement-{}-{after_ms}ms.pcap", server.name()));
    let capture = Capture::start_live(FAR, stage.clients.name(), &file)?;
    let said = Launch::new("kernel-client", std::env::current_exe()?)
        .arguments(&format!("kernel-client --json --target {SERVER}:{PORT}"))
        // No more at once than a listening kernel socket keeps: repeated SYNs say nothing here.
        .arguments(&format!("--connections {} --connecting-max 64", options.connections))
        .arguments(&format!("--load rounds={},sizes={},{}", options.rounds, options.bytes, {
            match options.think_ms {
                0 => "closed".to_owned(),
                pause => format!("think-ms={pause}"),
            }
        }))
        .inside(stage.clients.name())
        .finish(Duration::from_secs(600))?;
    wait_for_the_end(&file, options.connections)?;
    let dropped = capture.finish()?;
    if dropped > 0 {
        return Err(format!("the capture lost {dropped} frames; use fewer connections").into());
    }
    measured(server, after_ms, &load_report(&said)?, &file)
}

/// Waits until every connection's FINs are in the capture.
fn wait_for_the_end(file: &Path, connections: u32) -> Result<(), Failure> {
    let ended = Deadline::within(READY).poll(|| {
        let analysis = analyse(file, PORT, &[]).ok()?;
        (analysis[0].closing >= 2 * u64::from(connections)).then_some(())
    });
    ended.ok_or_else(|| "the capture has no end; use fewer connections".into())
}

fn load_report(said: &[String]) -> Result<StepReport, Failure> {
    let events = said.iter().filter_map(|line| serde_json::from_str(line).ok());
    let mut steps = events.filter_map(|event| match event {
        Event::Step(report) => Some(report),
        Event::Progress { .. } => None,
    });
    steps.find(|step| step.step == "load").ok_or_else(|| "the clients made no exchanges".into())
}

fn measured(
    server: Server,
    after_ms: u64,
    load: &StepReport,
    file: &Path,
) -> Result<Measured, Failure> {
    let analysis = analyse(file, PORT, &[])?;
    let (mut again, mut spurious) = ([0; 2], [0; 2]);
    for segment in judge(file)? {
        let by = usize::from(segment.to != PORT);
        again[by] += u64::from(segment.again);
        spurious[by] += u64::from(segment.spurious);
    }
    Ok(Measured {
        server,
        after_ms,
        exchanges: load.done,
        packets: analysis[0],
        again,
        spurious,
        latency_p50_us: load.latency.map_or(0.0, |latency| latency.p50_us),
    })
}

fn report(options: &Options, all: &[Measured]) -> String {
    let Options { connections, rounds, bytes, think_ms, .. } = options;
    let mut text = format!(
        "Packets per exchange of {bytes} B and {bytes} B: {connections} connections, {rounds} \
         exchanges on each, clients rest {think_ms} ms.\n\
         Captured at the clients (Linux kernel); retransmissions as tshark sees them, spurious: of \
         bytes that had been acknowledged.\n\n\
         {:>9} {:<6} {:>9} {:>8} {:>8} {:>8} {:>10} {:>10} {:>9} {:>13} {:>13} {:>9}\n",
        "answer",
        "server",
        "exchanges",
        "packets",
        "requests",
        "answers",
        "acks by",
        "acks by",
        "acks on",
        "again by",
        "spurious by",
        "p50 (us)"
    );
    let _ = writeln!(
        text,
        "{:>9} {:<6} {:>9} {:>8} {:>8} {:>8} {:>10} {:>10} {:>9} {:>13} {:>13}",
        "after",
        "",
        "",
        "per exch",
        "per exch",
        "per exch",
        "clients",
        "server",
        "answers",
        "client/server",
        "client/server"
    );
    for one in all {
        let per = |count: u64| count as f64 / one.exchanges.max(1) as f64;
        let packets = &one.packets;
        let _ = writeln!(
            text,
            "{:>6} ms {:<6} {:>9} {:>8.3} {:>8.3} {:>8.3} {:>10.3} {:>10.3} {:>7.1} % {:>13} {:>13} \
             {:>9.0}",
            one.after_ms,
            one.server.name(),
            one.exchanges,
            per(packets.exchanging()),
            per(packets.requests),
            per(packets.answers),
            per(packets.client_acks),
            per(packets.server_acks),
            packets.share_on_answer() * 100.0,
            format!("{}/{}", one.again[0], one.again[1]),
            format!("{}/{}", one.spurious[0], one.spurious[1]),
            one.latency_p50_us
        );
    }
    text
}

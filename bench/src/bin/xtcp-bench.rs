//! Kernel clients and a kernel server: `xtcp-bench kernel-client`, `xtcp-bench kernel-server`.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use xtcp_bench::client::{self, Event, Framing, Load, Plan, StepReport};
use xtcp_bench::echo_server::EchoServer;

/// Loads a TCP server from kernel sockets and compares every byte of every answer.
#[derive(Debug, Parser)]
#[command(version)]
enum Arguments {
    /// Connects many clients, runs loads on them, closes them.
    KernelClient(ClientArguments),
    /// Sends back what comes, from kernel sockets: something to try the clients on.
    KernelServer {
        /// Address and port to listen on.
        #[arg(long, default_value = "127.0.0.1:7777")]
        listen: SocketAddr,
    },
}

#[derive(Debug, clap::Args)]
struct ClientArguments {
    /// Server, e.g. 10.77.0.2:7777 or [fd77::2]:7777; several are taken in turn.
    #[arg(long = "target", required = true)]
    targets: Vec<SocketAddr>,
    /// Connections open at once.
    #[arg(long, default_value_t = 100)]
    connections: u32,
    /// Handshakes under way at once.
    #[arg(long, default_value_t = 256)]
    connecting_max: u32,
    /// Threads the connections are dealt to.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// What surrounds a request.
    #[arg(long, value_enum, default_value_t = Framing::Raw)]
    framing: Framing,
    /// What all bytes and sizes are made from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds nothing may move before what is unfinished counts as failed.
    #[arg(long, default_value_t = 30.0)]
    patience: f64,
    /// A load, e.g. rounds=4,sizes=1024 or rounds=3,sizes=log:1..1048576,rate=8000 or
    /// rounds=2,think-ms=50,hgrm=out.hgrm; several run one after the other.
    #[arg(long = "load")]
    loads: Vec<Load>,
    /// Tell what happens as one JSON object a line.
    #[arg(long)]
    json: bool,
    /// After each step wait for a line on standard input.
    #[arg(long)]
    hold: bool,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse() {
        Arguments::KernelClient(arguments) => run_client(&arguments),
        Arguments::KernelServer { listen } => run_server(listen),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtcp-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_server(listen: SocketAddr) -> io::Result<ExitCode> {
    let server = EchoServer::bind(listen)?;
    println!("listening on {}", server.address()?);
    server.serve()?;
    Ok(ExitCode::SUCCESS)
}

fn run_client(arguments: &ClientArguments) -> io::Result<ExitCode> {
    let plan = Plan {
        targets: arguments.targets.clone(),
        connections: arguments.connections,
        connecting_max: arguments.connecting_max,
        threads: arguments.threads.min(arguments.connections.max(1)),
        framing: arguments.framing,
        seed: arguments.seed,
        patience: Duration::try_from_secs_f64(arguments.patience).map_err(io::Error::other)?,
        loads: arguments.loads.clone(),
    };
    let mut told = Ok(());
    let failed = client::run(&plan, |event| {
        let result = tell(&event, arguments);
        if told.is_ok() {
            told = result;
        }
    })?;
    told?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(event: &Event, arguments: &ClientArguments) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(event)?)?;
    } else {
        match event {
            Event::Progress { step, done, total } => writeln!(out, "{step}: {done} of {total}")?,
            Event::Step(report) => tell_step(&mut out, report)?,
        }
    }
    out.flush()?;
    if arguments.hold && matches!(event, Event::Step(_)) {
        io::stdin().lock().read_line(&mut String::new())?;
    }
    Ok(())
}

fn tell_step(out: &mut impl Write, report: &StepReport) -> io::Result<()> {
    writeln!(
        out,
        "{}: {} done, {} failed in {:.3} s; {} B sent, {} B received and compared",
        report.step,
        report.done,
        report.failed,
        report.seconds,
        report.bytes_sent,
        report.bytes_received
    )?;
    for failure in &report.failures {
        writeln!(out, "  {failure}")?;
    }
    if let Some(l) = &report.latency {
        writeln!(
            out,
            "  latency in us: p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  p99.99 {:.1}  max {:.1}",
            l.p50_us, l.p90_us, l.p99_us, l.p99_9_us, l.p99_99_us, l.max_us
        )?;
    }
    Ok(())
}

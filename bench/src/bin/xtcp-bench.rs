//! Kernel clients, servers to set them against, and measurements: `xtcp-bench --help`.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use xtcp_bench::client::{self, Event, Framing, Load, Plan, StepReport};
use xtcp_bench::echo_server::EchoServer;
use xtcp_bench::exchange::{Exchange, Place, echo_by_xtcp, serve_by_xtcp, serve_from_the_kernel};
use xtcp_bench::measure::impairment::{self, transfer, wire};
use xtcp_bench::measure::{Failure, acknowledgement, batch, wakeup};

/// Clients, servers and measurements of XTCP. The measurements need root and a release build; each
/// prints a report and leaves it in bench/out:
///
///   xtcp-bench acknowledgement      packets per exchange, XTCP against the kernel's own TCP
///   xtcp-bench wakeup               how long a sleeping application takes to be awake
///   xtcp-bench batch                what a request costs in batches of 1, 8, 32
///   xtcp-bench impairments          loss, reordering, corruption, a narrow place, beside Linux
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
enum Arguments {
    /// Connects many clients, runs loads on them, closes them; every byte of every answer is compared.
    KernelClient(ClientArguments),
    /// Sends back what comes, from kernel sockets: something to try the clients on.
    KernelServer {
        /// Address and port to listen on.
        #[arg(long, default_value = "127.0.0.1:7777")]
        listen: SocketAddr,
        #[command(flatten)]
        exchange: ExchangeArguments,
    },
    /// Answers requests of a fixed size, as an application of XTCP: the answer acknowledges. Without a
    /// size it sends back whatever comes, at once.
    #[command(name = "server", alias = "xtcp-server")]
    XtcpServer {
        /// Name of the appliance's instance.
        #[arg(long, default_value = "xtcp")]
        instance: String,
        /// Where the instances' sockets are.
        #[arg(long, default_value = "/run/xtcp")]
        run_dir: PathBuf,
        /// TCP port to listen on, IPv4 and IPv6.
        #[arg(long, default_value_t = 7777)]
        port: u16,
        #[command(flatten)]
        exchange: ExchangeArguments,
    },
    /// Packets per exchange and retransmissions: the same exchanges of the same kernel clients with a
    /// server over XTCP and with one over the kernel's own TCP, over the same veth, from a capture.
    Acknowledgement(acknowledgement::Options),
    /// How long it takes until a parked application thread is awake: from the bell, and from a kernel
    /// client's send, with groups that notify at once and ones that wait for more.
    Wakeup(wakeup::Options),
    /// What a request costs in the application library and over the rings, by the size of its batch.
    Batch(batch::Options),
    /// What loss, reordering, duplication, corruption and a narrow place do to transfers by XTCP and by
    /// the kernel's own TCP, over the same path with the same clients; captures judged by tshark.
    Impairments(impairment::Options),
    /// Carries frames between two interfaces, later, fewer, twice or damaged; ends by SIGTERM.
    Wire(wire::Options),
    /// Transfers in both directions with a server of transfers; says as JSON how long each took.
    Transfer(transfer::Plan),
    /// A server of transfers on kernel sockets: NewReno on --port, CUBIC on the next.
    KernelTransfers {
        /// Address to listen on.
        #[arg(long, default_value = "127.0.0.1")]
        address: IpAddr,
        /// The first of two ports.
        #[arg(long, default_value_t = 7300)]
        port: u16,
    },
    /// A server of transfers as an application of XTCP: NewReno on --port, CUBIC on the next.
    XtcpTransfers {
        /// Name of the appliance's instance.
        #[arg(long, default_value = "xtcp")]
        instance: String,
        /// Where the instances' sockets are.
        #[arg(long, default_value = "/run/xtcp")]
        run_dir: PathBuf,
        /// The first of two ports.
        #[arg(long, default_value_t = 7300)]
        port: u16,
        /// The stack acknowledges what comes by itself, not the application.
        #[arg(long)]
        on_receive: bool,
    },
    /// Puts two runs (JSON files of bench/out) side by side: `report A.json B.json`.
    #[command(disable_help_flag = true)]
    Report(Words),
    /// Every figure in one run, as `make bench` has them: `table --quick`, `table --help`.
    #[command(disable_help_flag = true)]
    Table(Words),
    /// Millions of clients in user space on a DPDK device: `generator [EAL ARGUMENTS] -- --help`.
    #[command(disable_help_flag = true)]
    Generator(Words),
}

/// The command line of a program beside this one.
#[derive(Clone, Debug, clap::Args)]
struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

impl Words {
    /// Becomes that program; comes back only if it is not there.
    fn become_program(&self, program: &str, subcommand: Option<&str>) -> Result<ExitCode, Failure> {
        use std::os::unix::process::CommandExt as _;
        let path = std::env::current_exe()?.with_file_name(program);
        let error = std::process::Command::new(&path).args(subcommand).args(&self.words).exec();
        Err(format!("{}: {error}; `make build` builds it", path.display()).into())
    }
}

#[derive(Clone, Copy, Debug, clap::Args)]
struct ExchangeArguments {
    /// Requests have so many bytes and are answered when they have come in full; without this,
    /// a kernel-server sends back whatever comes, at once.
    #[arg(long)]
    exchange: Option<usize>,
    /// Milliseconds from a request to its answer.
    #[arg(long, default_value_t = 0, requires = "exchange")]
    after_ms: u64,
}

impl ExchangeArguments {
    fn exchange(self) -> Option<Exchange> {
        let after = Duration::from_millis(self.after_ms);
        self.exchange.filter(|bytes| *bytes > 0).map(|bytes| Exchange { bytes, after })
    }
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
        Arguments::KernelClient(arguments) => run_client(&arguments).map_err(Failure::from),
        Arguments::KernelServer { listen, exchange } => {
            run_server(listen, exchange.exchange()).map_err(Failure::from)
        }
        Arguments::XtcpServer { instance, run_dir, port, exchange } => {
            run_application(&Place { instance, run_dir, port }, exchange.exchange())
        }
        Arguments::Acknowledgement(options) => acknowledgement::run(&options).map(succeeded),
        Arguments::Wakeup(options) => wakeup::run(&options).map(succeeded),
        Arguments::Batch(options) => batch::run(&options).map(succeeded),
        Arguments::Report(words) => words.become_program("xtcp-figures", Some("report")),
        Arguments::Table(words) => words.become_program("xtcp-figures", Some("table")),
        Arguments::Generator(words) => words.become_program("xtcp-generator", None),
        Arguments::Impairments(options) => impairment::run(&options).map(succeeded),
        Arguments::Wire(options) => wire::run(&options).map(succeeded).map_err(Failure::from),
        Arguments::Transfer(plan) => run_transfers(&plan).map_err(Failure::from),
        Arguments::KernelTransfers { address, port } => {
            transfer::serve_from_the_kernel(address, port, || println!("ready on port {port}"))
                .map(succeeded)
                .map_err(Failure::from)
        }
        Arguments::XtcpTransfers { instance, run_dir, port, on_receive } => {
            let place = transfer::Place { instance, run_dir, first: port, on_receive };
            transfer::serve_by_xtcp(&place, || println!("ready on port {port}"))
                .map(succeeded)
                .map_err(Failure::from)
        }
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtcp-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn succeeded((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

fn run_server(listen: SocketAddr, exchange: Option<Exchange>) -> io::Result<ExitCode> {
    if let Some(exchange) = exchange {
        let listener = TcpListener::bind(listen)?;
        println!("listening on {}", listener.local_addr()?);
        serve_from_the_kernel(&listener, exchange)?;
        return Ok(ExitCode::SUCCESS);
    }
    let server = EchoServer::bind(listen)?;
    println!("listening on {}", server.address()?);
    server.serve()?;
    Ok(ExitCode::SUCCESS)
}

fn run_application(place: &Place, exchange: Option<Exchange>) -> Result<ExitCode, Failure> {
    let ready = || println!("ready on port {}", place.port);
    match exchange {
        Some(exchange) => serve_by_xtcp(place, exchange, ready)?,
        None => echo_by_xtcp(place, ready)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_transfers(plan: &transfer::Plan) -> io::Result<ExitCode> {
    let outcome = transfer::run_clients(plan)?;
    println!("{}", serde_json::to_string(&outcome)?);
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

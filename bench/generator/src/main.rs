//! `xtcp-generator [EAL ARGUMENTS] -- [OPTIONS]`: the load generator's program.
//!
//! It is a process of its own on a core of its own; the server is at the other end of a virtual
//! device:
//!
//! ```text
//! xtcp-dataplane -l 0-1 --no-pci --no-huge -m 512 --vdev=net_memif0,role=server,socket=/run/m.sock \
//!     -- --ip 10.64.0.1/10 --forward-mode=echo --connections 1000000
//! xtcp-generator -l 0 --no-pci --no-huge -m 256 --vdev=net_memif0,role=client,socket=/run/m.sock \
//!     -- --server 10.64.0.1:7 --clients 10.65.0.0/16 --connections 1000000 \
//!     --step connect --step load,in-flight=256,seconds=5 --step close
//! ```
//! What happened is told as one JSON object a line on standard output, for people on standard error.
#![forbid(unsafe_code)]

mod device;

use std::error::Error;
use std::io::{BufRead, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use clap::Parser;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use xtcp_bench::clock::{self, Deadline};
use xtcp_cpu::Scale;
use xtcp_generator::clients::{Clients, Habits};
use xtcp_generator::driver::{Driver, News, Progress};
use xtcp_generator::pattern::Answers;
use xtcp_generator::population::{Population, Prefix};
use xtcp_generator::step::{Action, Step};
use xtcp_report::files::{Files, Run as Record};
use xtcp_report::machine::Machine;
use xtcp_report::plot;
use xtcp_report::sample::{Second, StepReport};

use device::Device;

/// Turns between two looks at the terminal and at what there is to tell.
const TURNS_PER_LOOK: u64 = 1024;

/// What comes after the EAL arguments and `--`.
#[derive(Debug, Parser)]
#[command(
    name = "xtcp-generator",
    version,
    override_usage = "xtcp-generator [EAL ARGUMENTS] -- [OPTIONS]",
    about = "Millions of TCP clients in user space on a DPDK device; every byte of every answer compared."
)]
struct Options {
    /// The server, e.g. 10.64.0.1:7 or [fd64::1]:7
    #[arg(long)]
    server: SocketAddr,
    /// The clients' addresses, e.g. 10.65.0.0/16; neighbours are told that all of them are here
    #[arg(long, value_parser = prefix)]
    clients: Prefix,
    /// The ports of each address
    #[arg(long, default_value = "2000-61999", value_parser = ports)]
    ports: RangeInclusive<u16>,
    /// Clients in all
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=200_000_000))]
    connections: u32,
    /// What is done, step by step: connect,rate=R,under-way=N · load,seconds=S,in-flight=N|rate=R|
    /// think-ms=MS,active=N,request=BYTES,answer=BYTES · idle,seconds=S · close,how=fin|rst ·
    /// reconnect,how=fin|rst · flood,kind=syn|ack,rate=R,seconds=S,exchanges=R,reconnects=R,active=N;
    /// each with name=.. A flood is R forged segments a second, SYNs or ACKs, from addresses of
    /// --clients that no client has, whether or not the server can bear it; beside it the active
    /// clients make so many exchanges a second, and so many of the others a second reset their
    /// connection, connect again and make one
    #[arg(long = "step", required = true)]
    steps: Vec<Step>,
    /// What answers consist of
    #[arg(long, value_enum, default_value_t = Answers::Echo)]
    answers: Answers,
    /// Do not offer timestamps
    #[arg(long)]
    no_timestamps: bool,
    /// How long an acknowledgement waits for a request to ride on; 0: not at all
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(0..=499))]
    delayed_ack_ms: u16,
    /// Bytes of an IP packet on the link
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1280..=9000))]
    mtu: u16,
    /// Queues of the device, each way; of each client those of its port
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    queues: u8,
    /// What all bytes and sequence numbers are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// After each step wait for a line on standard input: a step to be done next, or nothing
    #[arg(long)]
    hold: bool,
    /// Give the core to others in every turn that finds nothing to do: for cores that are shared
    #[arg(long)]
    yields: bool,
    /// Directory for percentiles, log, JSON, CSV and charts; without it none are written
    #[arg(long)]
    out: Option<PathBuf>,
    /// Name of the files in it
    #[arg(long, default_value = "generator")]
    label: String,
    /// Seconds to wait for the server
    #[arg(long, default_value_t = 20)]
    patience: u64,
}

fn prefix(text: &str) -> Result<Prefix, String> {
    let wrong = || format!("`{text}` is no prefix, such as 10.65.0.0/16 or fd65::/64");
    let (ip, len) = text.split_once('/').ok_or_else(wrong)?;
    let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
    let len = len.parse().map_err(|_| wrong())?;
    let most = if ip.is_ipv4() { 30 } else { 126 };
    if len > most { Err(wrong()) } else { Ok(Prefix { ip, len }) }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("`{text}` is no range of ports, such as 2000-61999");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let (first, last) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
    if first == 0 || first > last { Err(wrong()) } else { Ok(first..=last) }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtcp-generator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let cut = words.iter().position(|word| word == "--").unwrap_or(0);
    let (eal, own) = words.split_at(cut);
    let own = own.iter().map(String::as_str).filter(|word| *word != "--");
    let options = Options::parse_from(std::iter::once("xtcp-generator").chain(own));
    let population =
        Population::new(options.server, options.clients, &options.ports, options.connections)?;
    for step in &options.steps {
        can_be_done(step, &population)?;
    }
    let device = Device::open(eal, options.mtu, usize::from(options.queues))?;
    let up = Deadline::within(Duration::from_secs(options.patience));
    up.poll(|| device.is_up().then_some(())).ok_or("nobody is at the other end of the device")?;
    Run::new(device, population, &options)?.go()
}

/// Whether there is what a step needs.
fn can_be_done(step: &Step, population: &Population) -> Result<(), String> {
    if matches!(step.action, Action::Flood(_)) && !population.has_strangers() {
        return Err(format!(
            "the step `{}` forges segments from addresses that no client has; give --clients a \
             shorter prefix, or fewer --connections",
            step.name
        ));
    }
    Ok(())
}

/// A run and how it is told.
struct Run {
    device: Device,
    driver: Driver,
    scale: Scale,
    lines: Option<Receiver<String>>,
    yields: bool,
    patience: Duration,
    held: bool,
    paper: Option<Paper>,
    bar: Option<ProgressBar>,
}

/// The run's files.
struct Paper {
    files: Files,
    directory: PathBuf,
    label: String,
    /// The percentiles of each step, for their chart.
    latencies: Vec<(String, Histogram<u64>)>,
}

impl Paper {
    fn new(directory: &std::path::Path, label: &str) -> std::io::Result<Self> {
        let record = Record {
            label: label.to_owned(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            machine: Machine::look(),
            ..Record::default()
        };
        let files = Files::new(directory, record, clock::wall_us())?;
        let (directory, label) = (directory.to_owned(), label.to_owned());
        Ok(Self { files, directory, label, latencies: Vec::new() })
    }

    fn finish(self) -> Result<(), Box<dyn Error>> {
        let Self { files, directory, label, latencies } = self;
        let run = files.finish()?;
        let title = format!(
            "{label}: {} clients",
            run.steps.iter().map(|step| step.open).max().unwrap_or(0)
        );
        let named: Vec<_> = latencies.iter().map(|(name, one)| (name.as_str(), one)).collect();
        plot::percentiles(&directory.join(format!("{label}-percentiles.svg")), &title, &named)?;
        plot::over_time(&directory.join(format!("{label}-time.svg")), &title, &run.seconds)
    }
}

/// A bar on a terminal; nothing elsewhere.
fn bar() -> Option<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:24} {msg}").ok()?;
    std::io::stderr().is_terminal().then(|| ProgressBar::new(1000).with_style(style))
}

impl Run {
    fn new(
        device: Device,
        population: Population,
        options: &Options,
    ) -> Result<Self, Box<dyn Error>> {
        let hz =
            NonZeroU64::new(device.tsc_hz()).ok_or("EAL does not know the processor's clock")?;
        let scale = Scale::new(hz);
        let habits = Habits {
            request: 64,
            answer: 64,
            answers: options.answers,
            timestamps: !options.no_timestamps,
            delayed_ack_ms: options.delayed_ack_ms,
            mtu: options.mtu,
        };
        let now = scale.nanoseconds(xtcp_cpu::tsc());
        let clients = Clients::new(population, device.mac()?, habits, options.seed, now);
        let driver = Driver::new(clients, options.steps.clone(), now);
        Ok(Self {
            device,
            driver,
            scale,
            lines: options.hold.then(lines_of_standard_input),
            yields: options.yields,
            patience: Duration::from_secs(options.patience),
            held: true,
            paper: options.out.as_deref().map(|out| Paper::new(out, &options.label)).transpose()?,
            bar: bar(),
        })
    }

    fn go(mut self) -> Result<bool, Box<dyn Error>> {
        let seeking = Deadline::within(self.patience);
        for turn in 0_u64.. {
            let moved = self.turn();
            if self.yields && !moved {
                std::thread::yield_now();
            }
            if turn % TURNS_PER_LOOK != 0 {
                continue;
            }
            self.tell()?;
            match self.driver.progress() {
                Progress::Seeking if seeking.is_over() => {
                    return Err(
                        "the server does not say where it is (ARP or neighbour discovery)".into()
                    );
                }
                Progress::Resting if !self.is_held()? => self.driver.go_on(),
                Progress::Done => break,
                Progress::Seeking | Progress::Working | Progress::Resting => {}
            }
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some(paper) = self.paper.take() {
            paper.finish()?;
        }
        Ok(self.held)
    }

    /// One turn; says whether any frame came.
    fn turn(&mut self) -> bool {
        let Self { device, driver, scale, .. } = self;
        let Device { rx, tx, .. } = device;
        let moved = rx.each(|frames| {
            let now = scale.nanoseconds(xtcp_cpu::tsc());
            driver.turn(frames, now, tx.has_room(), tx);
            !frames.is_empty()
        });
        tx.flush();
        moved
    }

    /// Whether the next step waits for a line on standard input; one that is a step is done first,
    /// and the end of standard input ends the run.
    fn is_held(&mut self) -> Result<bool, Box<dyn Error>> {
        match self.lines.as_ref().map(Receiver::try_recv) {
            None => Ok(false),
            Some(Ok(line)) => {
                if !line.trim().is_empty() {
                    let step = line.trim().parse()?;
                    can_be_done(&step, self.driver.clients().population())?;
                    self.driver.insert(step);
                }
                Ok(false)
            }
            Some(Err(TryRecvError::Empty)) => Ok(true),
            Some(Err(TryRecvError::Disconnected)) => Err("standard input has ended".into()),
        }
    }

    fn show(&self, second: &Second) {
        let done = self.driver.share_done();
        let line = line(second, done);
        match &self.bar {
            Some(bar) => {
                bar.set_position((done * 1000.0) as u64);
                bar.set_message(line);
            }
            None => eprintln!("{line}"),
        }
    }

    fn tell(&mut self) -> std::io::Result<()> {
        for news in self.driver.take_news() {
            let mut out = std::io::stdout().lock();
            match news {
                News::Second(told) => {
                    self.show(&told.0);
                    writeln!(out, "{}", json!({ "second": told.0 }))?;
                    if let Some(paper) = &mut self.paper {
                        paper.files.second(told.0, told.1);
                    }
                }
                News::Step(told) => {
                    self.held &= is_sound(&told.0);
                    writeln!(out, "{}", json!({ "step": told.0 }))?;
                    if let Some(paper) = &mut self.paper {
                        if !told.1.is_empty() {
                            paper.latencies.push((told.0.step.clone(), told.1.clone()));
                        }
                        paper.files.step(told.0, &told.1)?;
                    }
                }
            }
            out.flush()?;
        }
        Ok(())
    }
}

/// Whether everything was as it should be.
fn is_sound(step: &StepReport) -> bool {
    step.failed == 0 && step.damaged == 0 && step.missed == 0
}

/// One line for people.
fn line(second: &Second, done: f64) -> String {
    let latency = second.latency.map_or_else(String::new, |latency| {
        format!(
            "  p50 {:.1}  p99 {:.1}  p99.9 {:.1} us",
            latency.p50_us, latency.p99_us, latency.p99_9_us
        )
    });
    let forged = if second.forged == 0 {
        String::new()
    } else {
        format!("  {:>9.0} forged/s", second.forged as f64 / second.seconds)
    };
    format!(
        "{:7.1} s  {:<12} {:3.0} %  {:>9} open  {:>9.0} opened/s  {:>9.0} answers/s  {:>6} resent{forged}{latency}",
        second.at,
        second.step,
        done * 100.0,
        second.open,
        second.opened as f64 / second.seconds,
        second.answers as f64 / second.seconds,
        second.resent,
    )
}

/// Standard input, line by line, without waiting for it.
fn lines_of_standard_input() -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

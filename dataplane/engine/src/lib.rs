//! Gives the stack its world: ports, queues, cores, clock, shared memory.
//!
//! The engine decides *when* and *on which core*, never *what*: frames, submissions and times go
//! into the [`xtcp_stack::Stack`], frames, notices and counters come out.
//!
//! # Threads
//!
//! | | does | may |
//! |---|---|---|
//! | worker, one per core | `worker`: receive, obey, tell, time, send | neither log, lock, allocate nor make a system call per frame |
//! | control thread | `control`: `xtcpd`, lifelines, prompt, signals, statistics | log, allocate, wait |
//!
//! Workers share nothing. The control thread asks them through channels that they look at every
//! 256 turns (`command`), frames of another worker's flows go through rings of mbufs
//! (`exchange`), and applications are met in shared memory (`applications`).
//!
//! # Where things are
//!
//! | | |
//! |---|---|
//! | [`cli`] | the command line, and every sentence about it |
//! | `ports` | the port's queues and pools, and whether its RSS is to be believed |
//! | `offloads` | which work is the device's |
//! | `worker`, `whole` | the loop; frames that came in pieces |
//! | [`applications`] | submissions checked field by field; notices |
//! | `modes` | echo and answer, without an application |
//! | `spread`, `exchange` | which worker a frame belongs to, and its way there |
//! | `tx` | the stack's frames to the device |
//! | `clock` | the only place that reads time |
//! | `prepare`, `stack_config` | from the command line to workers at work |
//! | `engine`, `endpoints`, `groups`, `group_config` | workers, applications and their groups as the control thread holds them |
//! | `control`, `xtcpd`, `refusals`, `prompt`, `show`, `stats` | people and `xtcpd` |

#![forbid(unsafe_code)]

pub mod applications;
pub mod cli;
mod clock;
mod command;
mod control;
mod endpoints;
mod engine;
mod error;
mod exchange;
mod group_config;
mod groups;
mod instance;
#[cfg(test)]
mod loopback;
mod memory;
mod modes;
mod offloads;
mod ports;
mod prepare;
mod prompt;
mod refusals;
mod say;
mod show;
mod spread;
mod stack_config;
mod stats;
#[cfg(test)]
mod test_world;
mod tx;
mod whole;
mod worker;
mod xtcpd;

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use dpdk::{Eal, EalArgs, Pool};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use xtcp_ring::Listener;

use cli::{CliError, CommandLine};
use control::Control;
pub use error::EngineError;
use instance::Instance;
use prepare::Prepared;
use say::{note, warn};

/// Megabytes of ordinary pages for what is not frames: queues, rings, devices.
const DEVICES_MB: u64 = 96;

/// Runs a dataplane to its end; `arguments` do not hold the program's name.
#[must_use]
pub fn run(arguments: &[String]) -> ExitCode {
    let line = match cli::parse(arguments) {
        Ok(line) => line,
        Err(CliError::Clap(said)) => {
            // Help goes to standard output, everything else to standard error.
            let _ = said.print();
            return ExitCode::from(u8::try_from(said.exit_code()).unwrap_or(2));
        }
        Err(error) => {
            eprintln!("xtcp-dataplane: {error}");
            return ExitCode::from(2);
        }
    };
    match serve(line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtcp-dataplane: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(mut line: CommandLine) -> Result<(), EngineError> {
    let signals = signals()?;
    let instance = Instance::hold(&line.options.run_dir, &line.options.name)?;
    let args = eal_args(&mut line)?;
    note(&format!("EAL: {args}"));
    let hugepages = args.wants_hugepages();
    let eal = Eal::init(&args)?;
    let prepared = Prepared::open(line, eal, hugepages)?;
    introduce(&prepared);
    let control = if prepared.line().options.control {
        let path = instance.socket();
        let listener = Listener::bind(&path, 0o600)
            .map_err(|error| EngineError::RunDirectory(path.clone(), error))?;
        note(&format!("waiting for xtcpd at {}", path.display()));
        Control::waiting(prepared, listener, signals)
    } else {
        Control::running(prepared.deal_alone()?.start()?, signals)
    };
    control.run()
}

/// Readable when the process is asked to end.
fn signals() -> Result<UnixStream, EngineError> {
    let failed = |error| EngineError::System { what: "catch signals", error };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let theirs = theirs.try_clone().map_err(failed)?;
        signal_hook::low_level::pipe::register(signal, theirs).map_err(failed)?;
    }
    Ok(ours)
}

/// EAL's arguments: those given, and what follows from ours.
fn eal_args(line: &mut CommandLine) -> Result<EalArgs, EngineError> {
    let mut words = line.eal.clone();
    let says = |words: &[String], option: &str| words.iter().any(|word| word.starts_with(option));
    if let Some(core) = line.control_core {
        words.extend(["-l".to_owned(), core.to_string()]);
    }
    if !says(&words, "--file-prefix") {
        let prefix: String = format!("xtcp-{}", line.options.name).chars().take(32).collect();
        words.push(format!("--file-prefix={prefix}"));
    }
    let about_hugepages =
        ["--no-huge", "--in-memory", "--huge-dir", "--socket-mem", "--legacy-mem"];
    if !about_hugepages.iter().any(|option| says(&words, option)) && !has_free_hugepages() {
        warn(
            "no hugepages are free: using ordinary pages, which are slower; reserve some with \
             `sysctl vm.nr_hugepages=N` (2 MiB each), or say --no-huge",
        );
        words.push("--no-huge".to_owned());
    }
    let mut args = EalArgs::parse(&words)?;
    let room = ports::mbuf_room(&line.options);
    let frames = Pool::memory_needed(line.options.total_num_mbufs, room);
    let megabytes = frames.div_ceil(1 << 20) + DEVICES_MB;
    args.ensure_megabytes(u32::try_from(megabytes).unwrap_or(u32::MAX));
    if line.worker_cores.is_empty() {
        // Without -l: the second core that we may use, or the only one.
        let cores = args.cores();
        line.worker_cores.extend(cores.get(1).or_else(|| cores.first()));
    }
    Ok(args)
}

/// Whether the kernel has hugepages of any size to give.
fn has_free_hugepages() -> bool {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else { return false };
    sizes.flatten().any(|size| {
        let free = fs::read_to_string(size.path().join("free_hugepages"));
        free.is_ok_and(|free| free.trim().parse::<u64>().is_ok_and(|pages| pages > 0))
    })
}

/// Says what is served, and how.
fn introduce(prepared: &Prepared) {
    let (info, line) = (prepared.info(), prepared.line());
    let cores: Vec<String> = line.worker_cores.iter().map(ToString::to_string).collect();
    note(&format!(
        "port {} is {} ({}), {}; mode {}, workers on cores {}, flows spread by {}",
        info.id,
        info.name,
        info.driver,
        prepared.mac(),
        line.mode,
        cores.join(","),
        show::spread_name(prepared.spread_by()),
    ));
    if line.options.secret.is_some() {
        warn(
            "--secret is given: whoever knows it can forge connections; leave it out where \
             strangers call",
        );
    }
    // The driver does not say how many the other end has. A queue without a ring there uses the first
    // ring, which is the first worker's.
    if info.driver == "net_memif" && prepared.workers() > 1 {
        warn(&format!(
            "the other end of {} must have {} queue pairs, one for each worker, or frames are lost",
            info.name,
            prepared.workers()
        ));
    }
    let offloads = prepared.offloads();
    note(&format!(
        "TCP checksums are verified by {} and completed by {}",
        offloads.received, offloads.sent
    ));
    let addresses: Vec<String> =
        line.options.ip.iter().map(|own| format!("{}/{}", own.ip, own.prefix_len)).collect();
    if !addresses.is_empty() {
        note(&format!("addresses {}", addresses.join(" ")));
    }
}

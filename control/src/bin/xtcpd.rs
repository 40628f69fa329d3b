//! The control plane's daemon.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use xtcp_control::command_line;
use xtcp_control::config::{Config, Hugepages, INSTANCE_NAME_RULE, instance_name_is_valid};
use xtcp_control::instance::RUN_DIR;
use xtcp_control::plan::{self, Load, Machine, Plan};
use xtcp_control::reserve::Reserve;
use xtcp_control::service::{self, Place};

/// Runs an XTCP appliance: its memory, its dataplane, its applications' pools and groups.
///
/// Ctrl-C or SIGTERM stops all of it. Killed (kill -9) it stops no traffic; started again it takes
/// over the dataplane that runs.
#[derive(Debug, Parser)]
#[command(name = "xtcpd", version, term_width = 100)]
struct Options {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "configs/xtcp.toml")]
    config: PathBuf,
    /// Name of this instance, in place of the configuration's
    #[arg(long, value_name = "NAME", value_parser = instance_name)]
    name: Option<String>,
    /// Directory that holds the instances' run-time directories
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    run_dir: PathBuf,
    /// Check the configuration, show the dataplane's command line, and end
    #[arg(long)]
    check: bool,
    /// Say what so many connections need of memory, huge pages, cores and queues, whether this
    /// machine has it, and end
    #[arg(long, value_name = "CONNECTIONS", value_parser = connections, conflicts_with = "check")]
    plan: Option<u64>,
    /// The plan's exchanges per second, such as 30k
    #[arg(long, value_name = "RATE", default_value = "30k", value_parser = plan::number)]
    plan_rate: u64,
    /// The plan's bytes of a request, and of an answer
    #[arg(long, value_name = "BYTES", default_value = "1024", value_parser = plan::number)]
    plan_bytes: u64,
    /// The dataplane's program [default: xtcp-dataplane beside this one]
    #[arg(long, value_name = "PATH")]
    dataplane: Option<PathBuf>,
}

/// As many as a configuration can have.
fn connections(text: &str) -> Result<u64, String> {
    let connections = plan::number(text)?;
    if connections > 1 << 31 {
        Err("at most 2147483648 connections".into())
    } else {
        Ok(connections)
    }
}

fn instance_name(name: &str) -> Result<String, String> {
    if instance_name_is_valid(name) { Ok(name.into()) } else { Err(INSTANCE_NAME_RULE.into()) }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(connections) = options.plan {
        let (rate, bytes) = (options.plan_rate, options.plan_bytes);
        return show_plan(Load { connections, rate, bytes });
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    match work(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn work(options: Options) -> Result<(), Box<dyn Display>> {
    fn fatal(error: impl Display + 'static) -> Box<dyn Display> {
        Box::new(error)
    }
    let config = Config::read(&options.config).map_err(fatal)?;
    let name = options.name.unwrap_or_else(|| config.name.clone());
    if options.check {
        check(&config, &name, &options.run_dir);
        return Ok(());
    }
    config.check_cores(&available_cores()).map_err(fatal)?;
    let dataplane = match options.dataplane {
        Some(path) => path,
        None => std::env::current_exe().map_err(fatal)?.with_file_name("xtcp-dataplane"),
    };
    service::run(config, Place { name, run_dir: options.run_dir, dataplane }).map_err(fatal)
}

fn check(config: &Config, name: &str, run_dir: &Path) {
    let megabytes = command_line::eal_megabytes(config);
    let asked = Reserve::of_this_machine().free().take_as_eal(megabytes);
    let huge = match config.memory.hugepages {
        Hugepages::Never => None,
        Hugepages::Require => asked.or(Some(megabytes)),
        Hugepages::Auto => asked,
    };
    let line = command_line::dataplane(config, name, run_dir, huge);
    println!("{}: good; the dataplane would be started as", config.path.display());
    println!("xtcp-dataplane {}", line.join(" "));
}

/// Says what a load needs; fails if this machine does not have it.
fn show_plan(load: Load) -> ExitCode {
    let plan = match Plan::of(load) {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    print!("{plan}");
    let lacks = plan.lacks(&Machine::look(available_cores().len() as u64));
    if lacks.is_empty() {
        println!("This machine has all of it.");
        return ExitCode::SUCCESS;
    }
    println!("This machine lacks");
    for lack in lacks {
        println!("  {lack}");
    }
    ExitCode::FAILURE
}

/// Cores the scheduler lets this process use.
fn available_cores() -> Vec<u16> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..1024u16).filter(|core| set.is_set(usize::from(*core))).collect()
}

//! `make demo` and `make run`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use xtcp_bench::demo;

/// The appliance on this machine, served to kernel clients in a network namespace. Needs root.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    options: demo::Options,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Brings everything up and keeps it until Ctrl-C
    Run,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.verb {
        None => demo::demo(&arguments.options),
        Some(Verb::Run) => demo::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtcp-demo: {error}");
            ExitCode::FAILURE
        }
    }
}

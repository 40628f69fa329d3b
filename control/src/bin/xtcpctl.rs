//! The operator's command line.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use xtcp_control::config::{INSTANCE_NAME_RULE, instance_name_is_valid};
use xtcp_control::instance::{RUN_DIR, control_socket};
use xtcp_control::table;
use xtcp_ring::message::{Reply, Request, Row, Topic};
use xtcp_ring::{Seqpacket, TransportError};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);

/// Shows how an XTCP appliance is.
#[derive(Debug, Parser)]
#[command(name = "xtcpctl", version, term_width = 100)]
struct Options {
    /// Name of the instance
    #[arg(long, value_name = "NAME", default_value = "xtcp", value_parser = instance_name, global = true)]
    name: String,
    /// Directory that holds the instances' run-time directories
    #[arg(long, value_name = "DIR", default_value = RUN_DIR, global = true)]
    run_dir: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The appliance in a few lines
    Status,
    /// A table of what there is
    Show {
        /// pools, groups, connections, ports, workers or counters
        #[arg(value_name = "TOPIC", value_parser = topic)]
        topic: Topic,
        /// Rows at most; 0 for as many as there are, up to 10000
        #[arg(long, value_name = "N", default_value_t = 0)]
        limit: u32,
    },
}

fn instance_name(name: &str) -> Result<String, String> {
    if instance_name_is_valid(name) { Ok(name.into()) } else { Err(INSTANCE_NAME_RULE.into()) }
}

fn topic(word: &str) -> Result<Topic, String> {
    let found = Topic::ALL.into_iter().find(|topic| topic.name() == word);
    found.ok_or_else(|| format!("it can be {}", Topic::ALL.map(Topic::name).join(", ")))
}

fn main() -> ExitCode {
    let options = Options::parse();
    match ask(&options).and_then(|rows| print(&options, &rows)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn ask(options: &Options) -> Result<Vec<Row>, String> {
    let path = control_socket(&options.run_dir, &options.name);
    let link = Seqpacket::connect(&path, Some(ANSWER)).map_err(|error| {
        format!(
            "no appliance `{}` answers at {} ({error}); start it with xtcpd, or name another with \
             --name and --run-dir",
            options.name,
            path.display()
        )
    })?;
    let request = match options.verb {
        Verb::Status => Request::Status,
        Verb::Show { topic, limit } => Request::Show { topic, limit },
    };
    let asked = link.send(&request, &[]).and_then(|()| link.recv::<Reply>());
    let (reply, _) = asked.map_err(|error: TransportError| format!("xtcpd: {error}"))?;
    match reply {
        Reply::Shown { rows } => Ok(rows),
        Reply::Refused { reason, .. } => Err(reason),
        other => Err(format!("xtcpd answers {other:?}, which makes no sense")),
    }
}

fn print(options: &Options, rows: &[Row]) -> Result<(), String> {
    let text = match (&options.verb, options.json, rows) {
        (Verb::Status, true, [row, ..]) => json(row)?,
        (_, true, rows) => json(rows)?,
        (Verb::Status, false, [row, ..]) => table::render_one(row),
        (Verb::Show { topic, .. }, false, []) => format!("no {}\n", topic.name()),
        (_, false, rows) => table::render(rows),
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| format!("standard output: {error}")),
    }
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    Ok(text + "\n")
}

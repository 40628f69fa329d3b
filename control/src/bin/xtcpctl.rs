//! The operator's command line: looks, and orders that go past applications.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use xtcp_control::config::{INSTANCE_NAME_RULE, instance_name_is_valid};
use xtcp_control::instance::{RUN_DIR, control_socket};
use xtcp_control::table;
use xtcp_ring::message::{self, Drain, Order, Reply, Request, Row, Topic};
use xtcp_ring::{Seqpacket, TransportError};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);

/// Between two looks at a group that is drained.
const LOOK: Duration = Duration::from_secs(1);

/// Shows how an XTCP appliance is, and gives it orders.
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
    /// Take no more clients for a group, and end its connections little by little
    #[command(after_help = "Before a restart of its application:\n  \
        xtcpctl drain chat/main --rate 500 --wait && systemctl restart chat")]
    Drain {
        /// The group's name; APPLICATION/GROUP where several have it
        #[arg(value_name = "GROUP")]
        group: String,
        /// Connections a second, at most; 0: as fast as it goes
        #[arg(long, value_name = "N", default_value_t = 1000)]
        rate: u32,
        /// Which connections, and how
        #[arg(long, value_enum, default_value_t = Manner::WhenIdle)]
        manner: Manner,
        /// Return when no connection is left
        #[arg(long)]
        wait: bool,
    },
    /// End one connection
    Close {
        /// As `show connections` has it, such as 0/17.1
        #[arg(value_name = "CONNECTION")]
        connection: String,
        /// By RST; else by FIN after what is queued
        #[arg(long)]
        reset: bool,
    },
    /// Let an application go: reset its connections, close its groups, forget what it left
    CutOff {
        /// Its name
        #[arg(value_name = "APPLICATION")]
        application: String,
    },
}

/// Which connections a drain ends, and how.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Manner {
    /// Those with nothing under way, by FIN; the others as soon as that is so of them
    WhenIdle,
    /// All, by FIN after what is queued
    Close,
    /// All, by RST
    Reset,
}

impl From<Manner> for message::Manner {
    fn from(manner: Manner) -> Self {
        match manner {
            Manner::WhenIdle => Self::WhenIdle,
            Manner::Close => Self::Close,
            Manner::Reset => Self::Reset,
        }
    }
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
    match obey(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn obey(options: &Options) -> Result<(), String> {
    let link = connect(options)?;
    let order = match &options.verb {
        Verb::Status => return print(options, &rows(ask(&link, &Request::Status)?)?),
        Verb::Show { topic, limit } => {
            let show = Request::Show { topic: *topic, limit: *limit };
            return print(options, &rows(ask(&link, &show)?)?);
        }
        Verb::Drain { group, rate, manner, .. } => Order::DrainGroup {
            group: group.clone(),
            drain: Drain { per_second: *rate, manner: (*manner).into() },
        },
        Verb::Close { connection, reset } => {
            Order::CloseConnection { connection: connection.clone(), reset: *reset }
        }
        Verb::CutOff { application } => Order::CutOff { application: application.clone() },
    };
    match ask(&link, &Request::Order(order))? {
        Reply::Done => {}
        other => return Err(nonsense(&other)),
    }
    match &options.verb {
        Verb::Drain { group, wait: true, .. } => wait_for(&link, group),
        _ => Ok(()),
    }
}

fn connect(options: &Options) -> Result<Seqpacket, String> {
    let path = control_socket(&options.run_dir, &options.name);
    Seqpacket::connect(&path, Some(ANSWER)).map_err(|error| {
        format!(
            "no appliance `{}` answers at {} ({error}); start it with xtcpd, or name another with \
             --name and --run-dir",
            options.name,
            path.display()
        )
    })
}

fn ask(link: &Seqpacket, request: &Request) -> Result<Reply, String> {
    let asked = link.send(request, &[]).and_then(|()| link.recv::<Reply>());
    let (reply, _) = asked.map_err(|error: TransportError| format!("xtcpd: {error}"))?;
    match reply {
        Reply::Refused { reason, .. } => Err(reason),
        reply => Ok(reply),
    }
}

fn rows(reply: Reply) -> Result<Vec<Row>, String> {
    match reply {
        Reply::Shown { rows } => Ok(rows),
        other => Err(nonsense(&other)),
    }
}

fn nonsense(reply: &Reply) -> String {
    format!("xtcpd answers {reply:?}, which makes no sense")
}

/// Says how many connections a drained group has left until it has none, or is gone.
fn wait_for(link: &Seqpacket, named: &str) -> Result<(), String> {
    let (application, name) = match named.split_once('/') {
        Some((application, name)) => (Some(application), name),
        None => (None, named),
    };
    let is_meant = |row: &Row| {
        let text = |heading: &str| row.get(heading).and_then(serde_json::Value::as_str);
        text("group") == Some(name)
            && application.is_none_or(|wanted| text("application") == Some(wanted))
    };
    let show = Request::Show { topic: Topic::Groups, limit: 0 };
    let mut before = None;
    loop {
        let groups = rows(ask(link, &show)?)?;
        let left = groups.iter().filter(|row| is_meant(row));
        let left = left.filter_map(|row| row.get("connections")?.as_u64()).sum::<u64>();
        if left == 0 {
            return Ok(());
        }
        if before.replace(left) != Some(left) {
            eprintln!("{left} connections are left");
        }
        std::thread::sleep(LOOK);
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

//! The prompt on standard input, in testpmd's manner.

use core::fmt::Write;

use xtcp_ring::message::Topic;
use xtcp_stack::wire::ethernet::MacAddr;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::ports::own_mac;
use crate::show;
use crate::stats::table;

/// Shown before each command.
pub(crate) const PROMPT: &str = "xtcp> ";

/// Every command: what is typed, and what it does.
const COMMANDS: [(&str, &str); 15] = [
    ("help [COMMAND]", "this list, or the commands that begin like this"),
    ("start", "let the workers go on after `stop`"),
    ("stop", "stop the workers: frames wait at the device, and then are lost"),
    ("show port info N|all", "what the device is and can do"),
    ("show port stats N|all", "what the device has counted"),
    ("clear port stats N|all", "set the device's counters to zero"),
    ("show workers", "what each worker does and holds"),
    ("show counters [all]", "counters that are not zero, or all"),
    ("show pools", "applications and their receive buffers"),
    ("show groups", "connection groups"),
    ("show group-counters", "what was counted of each of them"),
    ("show connections [N]", "the first N connections, 20 if nothing is said"),
    ("show config", "what the dataplane was started with"),
    ("show status", "whether it works, and since when"),
    ("quit", "end the dataplane"),
];

/// What is to happen after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Prompt,
    Quit,
}

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Typed {
    Nothing,
    Help(String),
    Start,
    Stop,
    PortInfo,
    PortStats,
    ClearPortStats,
    Counters { all: bool },
    Table(Topic, u32),
    Config,
    Status,
    Quit,
}

/// Does what was typed; the text is for standard output.
pub(crate) fn obey(text: &str, engine: &mut Engine) -> Result<(String, Next), EngineError> {
    let typed = match parse(text, engine.port().id()) {
        Ok(Typed::Quit) => return Ok((String::new(), Next::Quit)),
        Ok(typed) => typed,
        Err(sentence) => return Ok((format!("{sentence}\n"), Next::Prompt)),
    };
    let shown = match typed {
        Typed::Nothing | Typed::Quit => String::new(),
        Typed::Help(begin) => help(&begin),
        Typed::Start => pause(engine, false)?,
        Typed::Stop => pause(engine, true)?,
        Typed::PortInfo => port_info(engine)?,
        Typed::PortStats => port_stats(engine)?,
        Typed::ClearPortStats => match engine.port().clear_stats() {
            Ok(()) => format!("NIC statistics for port {} cleared\n", engine.port().id()),
            Err(error) => format!("{error}\n"),
        },
        Typed::Counters { all } => {
            let mut rows = show::rows(engine, Topic::Counters, 0)?;
            rows.retain(|row| {
                all || row.values().any(|value| value.as_u64().is_some_and(|count| count > 0))
            });
            table(&rows)
        }
        Typed::Table(topic, limit) => table(&show::rows(engine, topic, limit)?),
        Typed::Config => config(engine),
        Typed::Status => status(engine),
    };
    Ok((shown, Next::Prompt))
}

/// What the words mean; `port` is the one there is.
fn parse(text: &str, port: u16) -> Result<Typed, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let ours = |typed: Typed, which: &str| match which.parse::<u16>() {
        _ if which == "all" => Ok(typed),
        Ok(number) if number == port => Ok(typed),
        Ok(number) => Err(format!("there is no port {number} here; port {port} is served")),
        Err(_) => Err(format!("`{which}` is no port; say {port} or all")),
    };
    match words.as_slice() {
        [] => Ok(Typed::Nothing),
        ["help" | "?", begin @ ..] => Ok(Typed::Help(begin.join(" "))),
        ["start"] => Ok(Typed::Start),
        ["stop"] => Ok(Typed::Stop),
        ["quit" | "exit"] => Ok(Typed::Quit),
        ["show", "port", "info", which] => ours(Typed::PortInfo, which),
        ["show", "port", "stats", which] => ours(Typed::PortStats, which),
        ["clear", "port", "stats", which] => ours(Typed::ClearPortStats, which),
        ["show", "workers"] => Ok(Typed::Table(Topic::Workers, 0)),
        ["show", "pools"] => Ok(Typed::Table(Topic::Pools, 0)),
        ["show", "groups"] => Ok(Typed::Table(Topic::Groups, 0)),
        ["show", "group-counters"] => Ok(Typed::Table(Topic::GroupCounters, 0)),
        ["show", "connections"] => Ok(Typed::Table(Topic::Connections, 20)),
        ["show", "connections", limit] => match limit.parse() {
            Ok(limit) => Ok(Typed::Table(Topic::Connections, limit)),
            Err(_) => Err(format!("`{limit}` is no number of connections")),
        },
        ["show", "counters"] => Ok(Typed::Counters { all: false }),
        ["show", "counters", "all"] => Ok(Typed::Counters { all: true }),
        ["show", "config"] => Ok(Typed::Config),
        ["show", "status"] => Ok(Typed::Status),
        _ => Err(format!("`{}` is no command; `help` lists them", words.join(" "))),
    }
}

fn help(begin: &str) -> String {
    let mut text = String::new();
    for (command, what) in COMMANDS.iter().filter(|(command, _)| command.starts_with(begin)) {
        let _ = writeln!(text, "{command:24} {what}");
    }
    if text.is_empty() {
        let _ = writeln!(text, "no command begins with `{begin}`; `help` lists them");
    }
    text
}

fn pause(engine: &mut Engine, pause: bool) -> Result<String, EngineError> {
    let was_paused = engine.is_paused;
    engine.pause(pause)?;
    Ok(match (was_paused, pause) {
        (false, true) => "the workers have stopped; `start` lets them go on\n",
        (true, false) => "the workers go on\n",
        (true, true) => "the workers stand already\n",
        (false, false) => "the workers are at work already\n",
    }
    .to_owned())
}

/// As testpmd shows it.
pub(crate) fn port_info(engine: &Engine) -> Result<String, EngineError> {
    let info = engine.port().info()?;
    let (rxd, txd) = engine.port().descriptors();
    let mac = MacAddr(own_mac(&info));
    let speed = info.link.mbps.map_or_else(|| "unknown".to_owned(), |mbps| format!("{mbps} Mbps"));
    let mut text = String::new();
    let _ =
        writeln!(text, "\n********************* Infos for port {} *********************", info.id);
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "{what}: {value}");
    };
    line("MAC address", mac.to_string().to_uppercase());
    line("Device name", info.name.clone());
    line("Driver name", info.driver.clone());
    let socket = info.socket.map_or_else(|| "any".to_owned(), |socket| socket.to_string());
    line("Connect to socket", socket);
    line("Link status", if info.link.up { "up" } else { "down" }.to_owned());
    line("Link speed", speed);
    let duplex = if info.link.full_duplex { "full-duplex" } else { "half-duplex" };
    line("Link duplex", duplex.to_owned());
    line("MTU", info.mtu.to_string());
    line("Maximum MTU", info.max_mtu.to_string());
    line("Redirection table size", info.reta_size.to_string());
    line("Max possible RX queues", info.max_rx_queues.to_string());
    line("Max possible TX queues", info.max_tx_queues.to_string());
    line("RX descriptors of a queue", rxd.to_string());
    line("TX descriptors of a queue", txd.to_string());
    line("Flows are spread by", show::spread_name(engine.by).to_owned());
    line("RX TCP checksums by", engine.offloads.received.to_string());
    line("TX TCP checksums by", engine.offloads.sent.to_string());
    Ok(text)
}

/// As testpmd shows it.
pub(crate) fn port_stats(engine: &Engine) -> Result<String, EngineError> {
    let stats = engine.port().stats()?;
    let (id, bar) = (engine.port().id(), "#".repeat(24));
    let mut text = String::new();
    let _ = writeln!(text, "\n  {bar} NIC statistics for port {id:<2} {bar}");
    let _ = writeln!(
        text,
        "  RX-packets: {:<10} RX-missed: {:<10} RX-bytes:  {}",
        stats.rx_frames, stats.rx_missed, stats.rx_bytes
    );
    let _ = writeln!(text, "  RX-errors: {}", stats.rx_errors);
    let _ = writeln!(text, "  RX-nombuf: {}", stats.rx_no_mbuf);
    let _ = writeln!(
        text,
        "  TX-packets: {:<10} TX-errors: {:<10} TX-bytes:  {}",
        stats.tx_frames, stats.tx_errors, stats.tx_bytes
    );
    let _ = writeln!(text, "  {}", "#".repeat(76));
    Ok(text)
}

fn config(engine: &Engine) -> String {
    let (line, options) = (&engine.line, &engine.line.options);
    let (tables, transmit) = engine.table_bytes;
    let mut text = String::new();
    let mut say = |what: &str, value: String| {
        let _ = writeln!(text, "{what:28} {value}");
    };
    say("name", options.name.clone());
    say("forward mode", line.mode.to_string());
    let addresses = options.ip.iter().map(|own| format!("{}/{}", own.ip, own.prefix_len));
    say("addresses", addresses.collect::<Vec<_>>().join(" "));
    let gateways = options.gateway.iter().map(ToString::to_string);
    say("gateways", gateways.collect::<Vec<_>>().join(" "));
    say("mtu (bytes)", options.mtu.to_string());
    say("workers", engine.worker_count().to_string());
    say("worker cores", format!("{:?}", line.worker_cores));
    say("flows are spread by", show::spread_name(engine.by).to_owned());
    say("burst (frames)", options.burst.to_string());
    say("frame buffers (mbufs)", options.total_num_mbufs.to_string());
    say("connections", options.connections.to_string());
    say("tables per worker (bytes)", tables.to_string());
    say("transmit per worker (bytes)", transmit.to_string());
    if matches!(line.mode, crate::cli::Mode::Echo | crate::cli::Mode::Answer) {
        say("listen port", options.listen_port.to_string());
        say("receive buffer (bytes)", options.receive_bytes.to_string());
    }
    say("tcp", format!("{:?}", line.tcp));
    text
}

fn status(engine: &Engine) -> String {
    let state = if engine.is_paused { "stopped" } else { "at work" };
    let seconds = engine.uptime().as_secs();
    format!(
        "{}: {} workers {state}, started {seconds} s ago, {} applications, {} groups\n",
        engine.line.options.name,
        engine.worker_count(),
        engine.endpoints().count(),
        engine.groups().count(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood_as_the_help_lists_them() {
        for (command, _) in COMMANDS {
            let typed = command
                .replace("N|all", "all")
                .replace("[COMMAND]", "show")
                .replace("[all]", "all")
                .replace("[N]", "5");
            assert!(parse(&typed, 0).is_ok(), "{typed}");
        }
        assert_eq!(parse("  ", 0), Ok(Typed::Nothing));
        assert_eq!(parse("show connections 7", 0), Ok(Typed::Table(Topic::Connections, 7)));
        assert_eq!(parse("show port stats 3", 3), Ok(Typed::PortStats));
    }

    #[test]
    fn what_is_not_understood_is_answered_by_a_sentence() {
        for (typed, sentence) in [
            ("show port stats 1", "no port 1"),
            ("show port info x", "say 0 or all"),
            ("show connections many", "no number"),
            ("reboot", "help"),
            ("show", "help"),
        ] {
            let refusal = parse(typed, 0).unwrap_err();
            assert!(refusal.contains(sentence), "{typed}: {refusal}");
        }
        assert!(help("show port").lines().count() == 2);
        assert!(help("zz").contains("no command"));
    }
}

//! A client in user space: XTCP's own stack on a DPDK device.
//!
//! A kernel client on one core is slower than the dataplane it drives, and some devices (net_memif)
//! have no kernel at the other end. This one opens connections to a TCP echo and compares every byte:
//!
//! ```text
//! xtcp-stack-client -l 0 --no-pci --no-huge -m 256 --vdev=net_memif0,role=client,socket=/run/m.sock \
//!     -- --ip 10.77.0.1/24 --server 10.77.0.2:7 --connections 64 --rounds 1000 --sizes 1024
//! ```
//! The last line on standard output is a report in JSON, as `xtcp-bench kernel-client` writes it.
#![forbid(unsafe_code)]

mod client;
mod device;

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use xtcp_bench::client::{Event, Sizes};
use xtcp_stack::Address;

use client::{Client, Work};
use device::Device;

/// What comes after the EAL arguments and `--`.
#[derive(Debug, Parser)]
#[command(
    version,
    override_usage = "xtcp-stack-client [EAL ARGUMENTS] -- [OPTIONS]",
    about = "A TCP client in user space: XTCP's own stack on a DPDK device, every byte compared."
)]
struct Options {
    /// Own address with its prefix length; once per family
    #[arg(long, required = true, value_parser = address)]
    ip: Vec<Address>,
    /// A TCP echo, e.g. 10.77.0.2:7; several are taken in turn
    #[arg(long, required = true)]
    server: Vec<SocketAddr>,
    /// Connections open at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Exchanges on each
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Sizes of requests: 1024, 1..1048576 or log:1..1048576
    #[arg(long, default_value = "1024", value_parser = Sizes::from_str)]
    sizes: Sizes,
    /// What all bytes and sizes are made from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds nothing may move before the run counts as failed
    #[arg(long, default_value_t = 20)]
    patience: u64,
}

fn address(text: &str) -> Result<Address, String> {
    let wrong = || format!("`{text}` is no address with a prefix length, such as 10.77.0.1/24");
    let (ip, len) = text.split_once('/').ok_or_else(wrong)?;
    let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
    let prefix_len = len.parse().map_err(|_| wrong())?;
    let len_max = if ip.is_ipv4() { 32 } else { 128 };
    if prefix_len > len_max { Err(wrong()) } else { Ok(Address { ip, prefix_len }) }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtcp-stack-client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let cut = words.iter().position(|word| word == "--").unwrap_or(0);
    let (eal, own) = words.split_at(cut);
    let own = own.iter().map(String::as_str).filter(|word| *word != "--");
    let options = Options::parse_from(std::iter::once("xtcp-stack-client").chain(own));
    let work = Work {
        servers: options.server,
        connections: options.connections,
        rounds: options.rounds,
        sizes: options.sizes,
        seed: options.seed,
        patience: Duration::from_secs(options.patience),
    };
    let device = Device::open(eal)?;
    let report = Client::new(device, &options.ip, &work)?.run()?;
    let held = report.failed == 0;
    println!("{}", serde_json::to_string(&Event::Step(report))?);
    Ok(held)
}

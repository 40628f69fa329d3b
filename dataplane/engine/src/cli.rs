//! The command line: EAL arguments, `--`, our own, in testpmd's manner.
//!
//! Every refusal names the option and says what to do. What passes here is consistent in itself;
//! whether the device can do it is asked in `ports`.

mod error;
mod net;
mod secret;
mod tcp;
mod throttle;

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;
use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};
use xtcp_stack::config::{ADDRESSES_MAX, Address, NetConfig, TcpConfig, Throttle};

pub use self::error::CliError;
pub use self::net::{NetOptions, Way};
pub use self::secret::Secret;
pub use self::tcp::{Cookies, TcpOptions};
pub use self::throttle::ThrottleOptions;

/// Frames a burst can hold, at most.
pub const BURST_MAX: u16 = 32;
/// Workers, at most: the worker's number is 8 bits of every connection handle.
pub const WORKERS_MAX: usize = 64;

/// Shown by `--help` after the list of options.
const EXAMPLES: &str = "\
EAL arguments (before the --) are DPDK's: -l 0-1 (control core first, then one worker per core),
-a 0000:03:00.0 or --vdev=..., --no-pci, --no-huge, -m MB, --in-memory, --file-prefix, --log-level.

Try it on a plain machine, as root; then `ping 10.77.0.2` and `nc 10.77.0.2 7` from the same machine:
  xtcp-dataplane --no-pci --no-huge -m 512 --vdev=net_tap0,iface=xtcp0 \\
      -- --ip 10.77.0.2/24 --forward-mode=echo -i
  ip addr add 10.77.0.1/24 dev xtcp0 && ip link set xtcp0 up";

/// Our own part of the command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "xtcp-dataplane",
    about = "The dataplane of the XTCP appliance: one poll-mode worker per core and queue.",
    override_usage = "xtcp-dataplane [EAL ARGUMENTS] -- [OPTIONS]",
    version,
    after_help = EXAMPLES,
    term_width = 100
)]
pub struct Options {
    /// Name of this instance: its run-time directory, lock and file prefix
    #[arg(long, default_value = "xtcp", value_name = "NAME", value_parser = instance_name)]
    pub name: String,
    /// Directory that holds the instances' run-time directories
    #[arg(long, default_value = "/run/xtcp", value_name = "DIR")]
    pub run_dir: PathBuf,
    /// Serve dataplane.sock: xtcpd brings the memory, the applications and their groups
    #[arg(long)]
    pub control: bool,
    /// Keep the prompt `xtcp> ` on standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// Print statistics every so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub stats_period: Option<u32>,

    /// For repeating a run, never for serving strangers: what sequence numbers and cookies are
    /// drawn from, as 64 hexadecimal digits or a file with them or 32 bytes [default: fresh]
    #[arg(long, value_name = "DIGITS|FILE")]
    pub secret: Option<Secret>,

    /// DPDK port to serve
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub port: u16,
    /// Own address with the length of its on-link prefix, such as 10.77.0.2/24 or fd77::2/64;
    /// once per address
    #[arg(long, value_name = "ADDRESS/LEN", action = ArgAction::Append, value_parser = address)]
    pub ip: Vec<Address>,
    /// Next hop for what is not on the link; once per family
    #[arg(long, value_name = "ADDRESS", action = ArgAction::Append)]
    pub gateway: Vec<IpAddr>,
    /// Largest IP packet on the link, in bytes
    #[arg(long, default_value_t = 1500, value_name = "BYTES",
          value_parser = clap::value_parser!(u16).range(1280..=9216))]
    pub mtu: u16,
    /// Who verifies and completes TCP checksums
    #[arg(long, value_enum, default_value_t = OffloadChoice::Auto, value_name = "WHEN")]
    pub offloads: OffloadChoice,

    /// Cores of the workers, such as 1,2 or 1-3 [default: those of -l but its first]
    #[arg(long, value_name = "CORES")]
    pub workers_cores: Option<CoreList>,
    /// Receive queues: 1, or as many as workers [default: as many as workers, if the device can]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub rxq: Option<u16>,
    /// Transmit queues: as many as workers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub txq: Option<u16>,
    /// Descriptors of each receive queue
    #[arg(long, default_value_t = 1024, value_name = "N",
          value_parser = clap::value_parser!(u16).range(32..=32_768))]
    pub rxd: u16,
    /// Descriptors of each transmit queue
    #[arg(long, default_value_t = 1024, value_name = "N",
          value_parser = clap::value_parser!(u16).range(32..=32_768))]
    pub txd: u16,
    /// Frames received at once
    #[arg(long, default_value_t = 32, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=32))]
    pub burst: u16,
    /// Frame buffers (mbufs) of all workers together
    #[arg(long, default_value_t = 8192, value_name = "N",
          value_parser = clap::value_parser!(u32).range(512..=16_777_216))]
    pub total_num_mbufs: u32,
    /// Bytes an mbuf has room for; a longer frame takes several, if the device can do that
    /// [default: the longest frame of --mtu, 2048 at least]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(512..=16_384))]
    pub mbuf_size: Option<u16>,
    /// Who decides which worker a frame belongs to
    #[arg(long, value_enum, default_value_t = SpreadChoice::Auto, value_name = "WHO")]
    pub spread: SpreadChoice,

    /// Connections of all workers together
    #[arg(long, default_value_t = 100_000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1 << 31))]
    pub connections: u32,
    /// How many of them may be IPv6 [default: all]
    #[arg(long, value_name = "N")]
    pub ipv6_connections: Option<u32>,
    /// Connections with data in flight or unread, at once [default: a quarter, 1024 at least]
    #[arg(long, value_name = "N")]
    pub active: Option<u32>,
    /// Descriptors of buffered segments [default: four times --active]
    #[arg(long, value_name = "N")]
    pub chunks: Option<u32>,
    /// Shared transmit buffer of all workers together, such as 64MiB
    #[arg(long, default_value = "64MiB", value_name = "BYTES", value_parser = size)]
    pub transmit_bytes: u64,
    /// Receive buffer of the built-in modes echo and answer
    #[arg(long, default_value = "64MiB", value_name = "BYTES", value_parser = size)]
    pub receive_bytes: u64,
    /// Neighbours (ARP and ND entries together) each worker remembers
    #[arg(long, default_value_t = 4096, value_name = "N",
          value_parser = clap::value_parser!(u32).range(16..=1 << 20))]
    pub neighbours: u32,
    /// Connection pools and application endpoints
    #[arg(long, default_value_t = 64, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub pools: u16,
    /// Connection groups
    #[arg(long, default_value_t = 1024, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=32_768))]
    pub groups: u16,

    /// What is done with what arrives [default: app with --control, else icmpecho]
    #[arg(long, value_enum, value_name = "MODE")]
    pub forward_mode: Option<Mode>,
    /// TCP port of the modes echo and answer
    #[arg(long, default_value_t = 7, value_name = "PORT",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub listen_port: u16,
    /// Mode answer: bytes of a request
    #[arg(long, default_value_t = 64, value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub request_bytes: u32,
    /// Mode answer: bytes of an answer
    #[arg(long, default_value_t = 64, value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub answer_bytes: u32,

    /// The link, and the ways beyond it.
    #[command(flatten)]
    pub net: NetOptions,
    /// What TCP is told.
    #[command(flatten)]
    pub tcp: TcpOptions,
    /// What is done before buffers run out.
    #[command(flatten)]
    pub throttle: ThrottleOptions,
}

/// What is done with what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Connections go to the applications that xtcpd brings
    App,
    /// The stack alone: ARP, neighbour discovery and ping are answered, connections refused
    Icmpecho,
    /// Every frame goes back with its Ethernet addresses swapped; no stack
    Macswap,
    /// A TCP echo on --listen-port
    Echo,
    /// Every --request-bytes received on --listen-port are answered with --answer-bytes
    Answer,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::App => "app",
            Self::Icmpecho => "icmpecho",
            Self::Macswap => "macswap",
            Self::Echo => "echo",
            Self::Answer => "answer",
        })
    }
}

/// When TCP checksums are the device's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OffloadChoice {
    /// The device if it spares us the work, else the stack
    Auto,
    /// The device wherever it says it can, even if its driver computes them
    On,
    /// The stack
    Off,
}

/// Who decides which worker a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SpreadChoice {
    /// The device if it has RSS on the TCP 4-tuple, else the workers
    Auto,
    /// The device; refused if it has no RSS
    Hardware,
    /// The workers: each hands over what belongs to another
    Software,
}

/// A list of cores as `-l` has it: `1,2`, `0-3`, `1-2,5`. In the order given, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreList(pub Vec<u16>);

impl FromStr for CoreList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no list of cores; write it like 1,2 or 0-3 or 1-2,5");
        let number = |part: &str| part.parse::<u16>().ok().filter(|core| *core < 1024);
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = number(first).zip(number(last)).ok_or_else(wrong)?;
            if first > last {
                return Err(wrong());
            }
            for core in first..=last {
                if cores.contains(&core) {
                    return Err(format!("core {core} stands twice in `{text}`; name it once"));
                }
                cores.push(core);
            }
        }
        Ok(Self(cores))
    }
}

/// The whole command line, taken apart.
#[derive(Clone, Debug)]
pub struct CommandLine {
    /// Arguments before the `--` but for `-l`, which is ours.
    pub eal: Vec<String>,
    /// Core of the control thread: the first of `-l`, if that was given.
    pub control_core: Option<u16>,
    /// Cores of the workers; empty: nothing was said, one worker wherever it may run.
    pub worker_cores: Vec<u16>,
    /// Arguments after the `--`.
    pub options: Options,
    /// `options.forward_mode` or its default.
    pub mode: Mode,
    /// What the options about the link amount to.
    pub net: NetConfig,
    /// What the TCP options amount to.
    pub tcp: TcpConfig,
    /// What the throttle's options amount to.
    pub throttle: Throttle,
}

impl CommandLine {
    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.worker_cores.len().max(1)
    }
}

/// Takes the command line (without the program's name) apart and checks it.
///
/// # Errors
/// A sentence for each thing that is wrong; `--help` and `--version` come as [`CliError::Clap`],
/// too, which prints them to standard output and exits with 0.
pub fn parse(arguments: &[String]) -> Result<CommandLine, CliError> {
    let split = arguments.iter().position(|argument| argument == "--");
    let (eal, own) = match split {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    for argument in eal {
        match argument.as_str() {
            "-h" | "--help" | "-V" | "--version" => {
                return Options::try_parse_from(["xtcp-dataplane", argument])
                    .map_err(CliError::Clap)
                    .and(Err(CliError::NoAddress));
            }
            _ if is_own_option(argument) => {
                return Err(CliError::OwnOptionBeforeDashes(argument.clone()));
            }
            _ => {}
        }
    }
    let options = Options::try_parse_from(
        ["xtcp-dataplane"].into_iter().chain(own.iter().map(String::as_str)),
    )
    .map_err(CliError::Clap)?;
    let (eal, lcores) = take_lcores(eal)?;
    let (control_core, worker_cores) = cores(lcores, options.workers_cores.as_ref())?;
    check(&options, worker_cores.len().max(1))?;
    let mode = mode(&options)?;
    let tcp = options.tcp.config()?;
    let throttle = options.throttle.config()?;
    let net = options.net.config(&options.ip)?;
    Ok(CommandLine { eal, control_core, worker_cores, options, mode, net, tcp, throttle })
}

/// Whether `argument` is one of ours and none of EAL's.
fn is_own_option(argument: &str) -> bool {
    const OWN: [&str; 14] = [
        "--ip",
        "--gateway",
        "--mtu",
        "--name",
        "--run-dir",
        "--control",
        "--forward-mode",
        "--interactive",
        "--stats-period",
        "--rxq",
        "--txq",
        "--burst",
        "--workers-cores",
        "--connections",
    ];
    let option = argument.split('=').next().unwrap_or(argument);
    OWN.contains(&option) || option == "-i"
}

/// EAL's arguments without `-l`, and its value.
fn take_lcores(eal: &[String]) -> Result<(Vec<String>, Option<CoreList>), CliError> {
    let mut rest = Vec::new();
    let mut lcores = None;
    let mut arguments = eal.iter();
    while let Some(argument) = arguments.next() {
        let value = match argument.as_str() {
            "-l" | "--lcores" => Some(arguments.next().map_or("", String::as_str)),
            "-c" => return Err(CliError::CoreMask),
            other => other
                .strip_prefix("--lcores=")
                .or_else(|| other.strip_prefix("-l").filter(|list| !list.starts_with('-'))),
        };
        match value {
            Some(list) => lcores = Some(list.parse().map_err(CliError::Lcores)?),
            None => rest.push(argument.clone()),
        }
    }
    Ok((rest, lcores))
}

fn cores(
    lcores: Option<CoreList>,
    workers: Option<&CoreList>,
) -> Result<(Option<u16>, Vec<u16>), CliError> {
    let control = lcores.as_ref().and_then(|list| list.0.first().copied());
    let cores = match (workers, lcores) {
        (Some(list), _) => list.0.clone(),
        (None, Some(list)) if list.0.len() == 1 => list.0,
        (None, Some(list)) => list.0[1..].to_vec(),
        (None, None) => Vec::new(),
    };
    if cores.len() > WORKERS_MAX {
        return Err(CliError::TooManyWorkers(cores.len()));
    }
    Ok((control, cores))
}

fn mode(options: &Options) -> Result<Mode, CliError> {
    match (options.control, options.forward_mode) {
        (true, None | Some(Mode::App)) => Ok(Mode::App),
        (true, Some(mode)) => Err(CliError::ModeWithControl(mode)),
        (false, Some(Mode::App)) => Err(CliError::AppWithoutControl),
        (false, mode) => Ok(mode.unwrap_or(Mode::Icmpecho)),
    }
}

fn check(options: &Options, workers: usize) -> Result<(), CliError> {
    if options.ip.is_empty() && options.forward_mode != Some(Mode::Macswap) {
        return Err(CliError::NoAddress);
    }
    if options.ip.len() > ADDRESSES_MAX {
        return Err(CliError::TooManyAddresses(options.ip.len()));
    }
    for (index, address) in options.ip.iter().enumerate() {
        if options.ip[..index].iter().any(|earlier| earlier.ip == address.ip) {
            return Err(CliError::AddressTwice(address.ip));
        }
    }
    check_gateways(options)?;
    if options.rxq.is_some_and(|rxq| rxq != 1 && usize::from(rxq) != workers) {
        return Err(CliError::ReceiveQueues { rxq: options.rxq.unwrap_or(0), workers });
    }
    if options.txq.is_some_and(|txq| usize::from(txq) != workers) {
        return Err(CliError::TransmitQueues { txq: options.txq.unwrap_or(0), workers });
    }
    if options.ipv6_connections.is_some_and(|ipv6| ipv6 > options.connections) {
        return Err(CliError::Ipv6Connections);
    }
    let queues = u32::try_from(workers).unwrap_or(u32::MAX);
    let needed = queues * (u32::from(options.rxd) + u32::from(options.txd) + 256);
    if options.total_num_mbufs < needed {
        return Err(CliError::TooFewMbufs { given: options.total_num_mbufs, needed });
    }
    Ok(())
}

fn check_gateways(options: &Options) -> Result<(), CliError> {
    for (index, gateway) in options.gateway.iter().enumerate() {
        let same_family = |ip: &IpAddr| ip.is_ipv4() == gateway.is_ipv4();
        if options.gateway[..index].iter().any(same_family) {
            return Err(CliError::GatewayTwice(*gateway));
        }
        let link_local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !link_local && !options.ip.iter().any(|own| on_link(own, *gateway)) {
            return Err(CliError::OffLink("--gateway", *gateway));
        }
        if options.ip.iter().any(|own| own.ip == *gateway) {
            return Err(CliError::IsOwn("--gateway", *gateway));
        }
    }
    Ok(())
}

/// Whether `ip` lies in the on-link prefix of `own`.
fn on_link(own: &Address, ip: IpAddr) -> bool {
    let (own_bits, ip_bits, width) = match (own.ip, ip) {
        (IpAddr::V4(own), IpAddr::V4(ip)) => {
            (u128::from(own.to_bits()), u128::from(ip.to_bits()), 32)
        }
        (IpAddr::V6(own), IpAddr::V6(ip)) => (own.to_bits(), ip.to_bits(), 128),
        _ => return false,
    };
    let host_bits = width - u32::from(own.prefix_len);
    host_bits >= 128 || own_bits >> host_bits == ip_bits >> host_bits
}

/// `10.77.0.2/24`.
fn address(text: &str) -> Result<Address, String> {
    let Some((ip, len)) = text.split_once('/') else {
        return Err(format!("the prefix length is missing; write it like {text}/24"));
    };
    let ip: IpAddr = ip.parse().map_err(|_| format!("`{ip}` is no IPv4 or IPv6 address"))?;
    let width = if ip.is_ipv4() { 32 } else { 128 };
    let prefix_len = len
        .parse()
        .ok()
        .filter(|len| *len <= width)
        .ok_or_else(|| format!("`{len}` is no prefix length; give 0 to {width}"))?;
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || broadcast {
        return Err(format!("{ip} cannot be a port's own address; give a unicast address"));
    }
    Ok(Address { ip, prefix_len })
}

/// `65536`, `64K`, `64KiB`, `64M`, `64MiB`, `1G`, `1GiB`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => Some(0),
        "K" | "KiB" => Some(10),
        "M" | "MiB" => Some(20),
        "G" | "GiB" => Some(30),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(shift)
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .filter(|bytes| (1 << 16..=1 << 42).contains(bytes))
        .ok_or_else(|| format!("`{text}` is no size; give 64KiB to 4096GiB, like 64MiB or 1GiB"))
}

fn instance_name(text: &str) -> Result<String, String> {
    if !xtcp_ring::message::name_is_valid(text) {
        return Err("use 1 to 64 of A-Z a-z 0-9 . _ -, not starting with a dot".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use xtcp_stack::config::SynCookies;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn refusal(line: &str) -> String {
        parse(&words(line)).expect_err(line).to_string()
    }

    #[test]
    fn the_command_line_of_the_help_is_understood() {
        let line = "--no-pci --no-huge -m 512 --vdev=net_tap0,iface=xtcp0 \
                    -- --ip 10.77.0.2/24 --forward-mode=echo -i";
        let parsed = parse(&words(line)).unwrap();
        assert_eq!(parsed.eal, words("--no-pci --no-huge -m 512 --vdev=net_tap0,iface=xtcp0"));
        assert_eq!(parsed.mode, Mode::Echo);
        assert!(parsed.options.interactive);
        assert_eq!((parsed.control_core, parsed.workers()), (None, 1));
        assert!(EXAMPLES.contains("--no-pci --no-huge -m 512 --vdev=net_tap0,iface=xtcp0"));
    }

    #[test]
    fn cores_come_from_l_and_l_stays_with_us() {
        for (line, eal, control, workers) in [
            ("-l 0-2 --no-pci -- --ip 10.0.0.1/8", "--no-pci", Some(0), vec![1, 2]),
            ("-l3,1 -- --ip 10.0.0.1/8", "", Some(3), vec![1]),
            ("--lcores=5 -- --ip 10.0.0.1/8", "", Some(5), vec![5]),
            ("-l 0 -- --ip 10.0.0.1/8 --workers-cores 1,4-5", "", Some(0), vec![1, 4, 5]),
            ("-- --ip 10.0.0.1/8 --workers-cores 1", "", None, vec![1]),
            ("--log-level 8 -- --ip 10.0.0.1/8", "--log-level 8", None, vec![]),
        ] {
            let parsed = parse(&words(line)).unwrap();
            assert_eq!(parsed.eal, words(eal), "{line}");
            assert_eq!(parsed.control_core, control, "{line}");
            assert_eq!(parsed.worker_cores, workers, "{line}");
        }
    }

    #[test]
    fn every_refusal_names_the_option_and_a_way_out() {
        for (line, option, remedy) in [
            ("--ip 10.0.0.1/8", "--ip", "after `--`"),
            ("-i", "-i", "after `--`"),
            ("--no-pci", "--ip", "--ip 10.77.0.2/24"),
            ("--no-pci --", "--ip", "--ip 10.77.0.2/24"),
            ("-c 3 -- --ip 10.0.0.1/8", "-c", "-l 0-1"),
            ("-l 3-1 -- --ip 10.0.0.1/8", "-l", "1-2,5"),
            ("-l 1,1 -- --ip 10.0.0.1/8", "-l", "once"),
            ("-l -- --ip 10.0.0.1/8", "-l", "1-2,5"),
            ("-- --ip 10.0.0.1", "--ip", "10.0.0.1/24"),
            ("-- --ip 10.0.0.1/33", "--ip", "0 to 32"),
            ("-- --ip fd77::1/129", "--ip", "0 to 128"),
            ("-- --ip 224.0.0.1/24", "--ip", "unicast"),
            ("-- --ip host/24", "--ip", "no IPv4 or IPv6"),
            ("-- --ip 10.0.0.1/8 --ip 10.0.0.1/16", "--ip", "once"),
            ("-- --ip 10.0.0.1/24 --gateway 10.0.1.1", "--gateway", "on the link"),
            ("-- --ip 10.0.0.1/24 --gateway 10.0.0.1", "--gateway", "router"),
            ("-- --ip 10.0.0.1/24 --gateway 10.0.0.2 --gateway 10.0.0.3", "--gateway", "one for"),
            ("-- --ip 10.0.0.1/24 --offloads maybe", "--offloads", "auto, on, off"),
            ("-- --ip 10.0.0.1/24 --mbuf-size 100", "--mbuf-size", "512..=16384"),
            ("-- --ip 10.0.0.1/24 --mtu 500", "--mtu", "1280..=9216"),
            ("-l 0-2 -- --ip 10.0.0.1/24 --rxq 3", "--rxq", "1 or 2"),
            ("-l 0-2 -- --ip 10.0.0.1/24 --txq 1", "--txq", "give 2"),
            ("-- --ip 10.0.0.1/24 --ipv6-connections 200000", "--ipv6-connections", "raise"),
            ("-- --ip 10.0.0.1/24 --total-num-mbufs 1000", "--total-num-mbufs", "at least 2304"),
            ("-- --ip 10.0.0.1/24 --control --forward-mode echo", "--forward-mode", "leave one"),
            ("-- --ip 10.0.0.1/24 --forward-mode app", "--forward-mode", "xtcpd"),
            ("-- --ip 10.0.0.1/24 --forward-mode sing", "--forward-mode", "icmpecho"),
            ("-- --ip 10.0.0.1/24 --transmit-bytes 12", "--transmit-bytes", "64MiB"),
            ("-- --ip 10.0.0.1/24 --transmit-bytes 1TB", "--transmit-bytes", "64MiB"),
            ("-- --ip 10.0.0.1/24 --send-queue-max 8G", "--send-queue-max", "less than 4GiB"),
            ("-- --ip 10.0.0.1/24 --rto-min-ms 60000 --rto-max-ms 1000", "--rto-min-ms", "lower"),
            ("-- --ip 10.0.0.1/24 --vlan 4095", "--vlan", "1..=4094"),
            ("-- --ip 10.0.0.1/24 --route 10.1.0.0/16", "--route", "10.1.0.0/16,10.77.0.9"),
            ("-- --ip 10.0.0.1/24 --route 10.1.0.0/16,10.0.1.1", "--route", "on the link"),
            ("-- --ip 10.0.0.1/24 --route 10.1.0.0/16,10.0.0.1", "--route", "our own address"),
            ("-- --ip 10.0.0.1/24 --syn-cookies often", "--syn-cookies", "when-full"),
            ("-- --ip 10.0.0.1/24 --hide-below 101", "--hide-below", "0..=100"),
            ("-- --ip 10.0.0.1/24 --pool-share 0", "--pool-share", "1..=100"),
            ("-- --ip 10.0.0.1/24 --hide-below 21", "--hide-below", "0 leaves a step out"),
            ("-- --ip 10.0.0.1/24 --delayed-ack-ms 500", "--delayed-ack-ms", "1..=499"),
            ("-- --ip 10.0.0.1/24 --name ../x", "--name", "1 to 64"),
            ("-- --ip 10.0.0.1/24 --connection 3", "--connection", "--connections"),
            ("-- --ip 10.0.0.1/24 --burst 33", "--burst", "1..=32"),
            ("-- --ip 10.0.0.1/24 --secret 0123", "--secret", "64 hexadecimal digits"),
            ("-- --ip 10.0.0.1/24 --secret /nowhere", "--secret", "head -c 32 /dev/urandom"),
        ] {
            let sentence = refusal(line);
            assert!(sentence.contains(option), "{line}: {sentence}");
            assert!(sentence.contains(remedy), "{line}: {sentence}");
        }
    }

    #[test]
    fn sizes_and_addresses_are_read_as_people_write_them() {
        for (text, bytes) in
            [("65536", 65_536), ("64K", 65_536), ("2MiB", 2 << 20), ("3G", 3 << 30)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert!(size("18446744073709551615G").is_err());
        let own = address("fd77::2/64").unwrap();
        assert!(on_link(&own, "fd77::ffff".parse().unwrap()));
        assert!(!on_link(&own, "fd78::1".parse().unwrap()));
        assert!(!on_link(&own, "10.0.0.1".parse().unwrap()));
        assert!(on_link(&address("10.0.0.1/0").unwrap(), "9.9.9.9".parse().unwrap()));
        assert!(on_link(&address("fd77::1/0").unwrap(), "::9".parse().unwrap()));
        let link_local = "-- --ip fd77::2/64 --gateway fe80::1";
        assert!(parse(&words(link_local)).is_ok());
    }

    #[test]
    fn what_is_left_out_keeps_the_stacks_default() {
        let parsed = parse(&words("-- --ip 10.0.0.1/8 --time-wait-ms 1 --no-nagle")).unwrap();
        assert_eq!(parsed.tcp.time_wait, Duration::from_millis(1));
        assert_eq!(parsed.tcp.rto_min, TcpConfig::default().rto_min);
        assert!(!parsed.tcp.nagle);
        assert_eq!(parsed.net, NetConfig::default());
        assert!(parsed.tcp.sack && parsed.tcp.rack && parsed.tcp.timestamps && parsed.tcp.hystart);
        let line = "-- --ip 10.0.0.1/8 --no-sack --no-tail-loss-probe --no-hystart --vlan 7 \
                    --syn-cookies always --route 10.1.0.0/16,10.0.0.2 --reassemblies 0";
        let said = parse(&words(line)).unwrap();
        assert!(!said.tcp.sack && !said.tcp.tail_loss_probe && !said.tcp.hystart && said.tcp.rack);
        assert_eq!(said.tcp.syn_cookies, SynCookies::Always);
        assert_eq!((said.net.vlan, said.net.reassemblies_max), (Some(7), 0));
        assert!(said.net.routes[0].is_some() && said.net.routes[1].is_none());
        assert_eq!(parsed.throttle, Throttle::default());
        let throttled = "-- --ip 10.0.0.1/8 --shrink-below 0 --hide-below 20 --pool-share 100";
        let expected =
            Throttle { shrink_below: 0, withhold_below: 20, hide_below: 20, pool_share: 100 };
        assert_eq!(parse(&words(throttled)).unwrap().throttle, expected);
        assert_eq!(parsed.mode, Mode::Icmpecho);
        assert_eq!(parse(&words("-- --ip 10.0.0.1/8 --control")).unwrap().mode, Mode::App);
        let macswap = "-- --forward-mode macswap";
        assert_eq!(parse(&words(macswap)).unwrap().mode, Mode::Macswap);
    }
}

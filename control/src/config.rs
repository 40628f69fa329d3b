//! The configuration file: what it can say, what is meant when it does not, and every refusal with
//! its file and line.

mod route;
mod source;
mod tcp;
mod throttle;

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::de::DeValue;

pub use self::route::{ROUTES_MAX, Route};
use self::source::{Section, Source};
pub use self::tcp::Tcp;
pub use self::throttle::Throttle;

/// Own addresses, both families together.
pub const ADDRESSES_MAX: usize = 16;

/// Bytes of receive memory that one application can have.
pub const RECEIVE_MAX: u64 = 1 << 40;

/// Bytes an instance's name can have.
pub const INSTANCE_NAME_MAX: usize = 32;

/// Everything `xtcpd` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// Name of the instance: of its directory, its locks and its sockets.
    pub name: String,
    /// `[port]`.
    pub port: Port,
    /// `[workers]`.
    pub workers: Workers,
    /// `[memory]`.
    pub memory: Memory,
    /// `[tcp]`.
    pub tcp: Tcp,
    /// `[throttle]`.
    pub throttle: Throttle,
    /// `[applications]`.
    pub applications: Applications,
}

/// The network port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The DPDK device.
    pub device: Device,
    /// Own addresses, 1 to [`ADDRESSES_MAX`].
    pub addresses: Vec<Address>,
    /// Next hop off the link, IPv4.
    pub gateway_v4: Option<Ipv4Addr>,
    /// Next hop off the link, IPv6.
    pub gateway_v6: Option<Ipv6Addr>,
    /// Ways beside the gateways, [`ROUTES_MAX`] at most.
    pub routes: Vec<Route>,
    /// The VLAN all frames are of.
    pub vlan: Option<u16>,
    /// Packets put together from fragments at once, of each worker, if that was said.
    pub reassemblies: Option<u16>,
    /// How often it is asked at the start who else has our addresses, if that was said.
    pub duplicate_probes: Option<u16>,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// When TCP checksums are the device's work, as the dataplane takes it, if that was said.
    pub offloads: Option<&'static str>,
    /// Descriptors of each receive queue.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue.
    pub tx_descriptors: u16,
    /// Frames received at once.
    pub burst: u16,
}

/// A DPDK device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A network card, by its PCI address.
    Pci(String),
    /// A virtual device, as `--vdev` has it.
    Virtual(String),
}

/// An own address and its on-link prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of the prefix in bits.
    pub prefix_len: u8,
}

impl Address {
    fn is_on_link(&self, ip: IpAddr) -> bool {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let apart = (bits(self.ip) ^ bits(ip)).leading_zeros();
        self.ip.is_ipv4() == ip.is_ipv4() && apart >= u32::from(self.prefix_len)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix_len)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((ip, len)) = text.split_once('/') else {
            return Err(format!("`{text}` has no prefix length; write it like {text}/24"));
        };
        let ip = IpAddr::from_str(ip)
            .map_err(|_| format!("`{ip}` is no IPv4 or IPv6 address, like 10.77.0.2 or fd77::2"))?;
        let max = if ip.is_ipv4() { 32 } else { 128 };
        let prefix_len = len
            .parse()
            .ok()
            .filter(|len| *len <= max)
            .ok_or_else(|| format!("`/{len}` is no prefix length; it can be 0 to {max}"))?;
        let limited = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || limited {
            return Err(format!("{ip} cannot be a host's address; give a unicast address"));
        }
        Ok(Self { ip, prefix_len })
    }
}

/// Who runs where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workers {
    /// One worker and one queue for each of these cores.
    pub cores: Vec<u16>,
    /// Core of the dataplane's control thread.
    pub control_core: u16,
    line: usize,
}

/// Sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Which pages.
    pub hugepages: Hugepages,
    /// Connections of all workers together.
    pub connections: u32,
    /// How many of them may be IPv6; `None`: all.
    pub ipv6_connections: Option<u32>,
    /// Connections with data in flight or unread at once; `None`: the dataplane's default.
    pub active: Option<u32>,
    /// Descriptors of buffered segments; `None`: the dataplane's default.
    pub chunks: Option<u32>,
    /// Shared transmit buffer of all workers together, in bytes.
    pub transmit: u64,
    /// Receive memory of all pools together, in bytes.
    pub receive: u64,
    /// Frame buffers (mbufs).
    pub frames: u32,
    /// Bytes each has room for; `None`: the longest frame of the MTU.
    pub frame_bytes: Option<u16>,
}

/// Which pages memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hugepages {
    /// Huge where there are some, with one warning where not.
    Auto,
    /// Huge, or nothing runs.
    Require,
    /// Ordinary.
    Never,
}

/// What applications get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applications {
    /// How many at once.
    pub max: u16,
    /// Groups of all of them together.
    pub groups: u16,
    /// Entries of each submission ring.
    pub submissions: u32,
    /// Entries of each notice ring.
    pub notices: u32,
    /// Bytes of the arena of each application and worker.
    pub arena: u32,
    /// Receive memory of one application, at most, in bytes.
    pub receive_max: u64,
    /// Permissions of the socket applications come to.
    pub socket_mode: u32,
    /// How long what an application leaves waits for its successor, in milliseconds; 0: it is
    /// closed at once.
    pub successor_ms: u32,
    /// The same of an application that was found lying.
    pub hostile_ms: u32,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// What is wrong with it, a sentence each, in the order of lines.
    Faults(Vec<String>),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(
                f,
                "{}: the configuration cannot be read: {error}; name it with --config FILE",
                path.display()
            ),
            Self::Faults(faults) => f.write_str(&faults.join("\n")),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(_, error) => Some(error),
            Self::Faults(_) => None,
        }
    }
}

/// How long a successor is waited for when the configuration does not say, in milliseconds.
const SUCCESSOR_TIMEOUT_MS: u32 = 30_000;

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or every fault that is in it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let bytes =
            fs::read(path).map_err(|error| ConfigError::Unreadable(path.to_owned(), error))?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let good = &bytes[..error.valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            ConfigError::Faults(vec![format!(
                "{}:{line}: this is no UTF-8, which a configuration must be; save the file as such, \
                 or write this line anew",
                path.display()
            )])
        })?;
        Self::parse(path, text)
    }

    /// Reads a text; `path` is what refusals call it.
    ///
    /// # Errors
    /// Every fault that is in it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = Source::new(path, text);
        let config = source.parse().and_then(|table| {
            let top = Section::top(&source, &table);
            let config = Self::from_sections(path, &top);
            top.finish();
            config
        });
        let faults = source.into_faults();
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(ConfigError::Faults(faults)),
        }
    }

    fn from_sections(path: &Path, top: &Section<'_, '_>) -> Option<Self> {
        let name = top.text("name").unwrap_or("xtcp");
        if !instance_name_is_valid(name) {
            top.fault("name", format_args!("`name` is `{name}`; {INSTANCE_NAME_RULE}"));
        }
        // Each section is read even if another has a fault, so that all faults are told.
        let port = read_port(top.section("port"));
        let workers = read_workers(top.section("workers"));
        let count = workers.cores.len() as u64;
        let memory = read_memory(top.section("memory"), port.as_ref(), count);
        let tcp = tcp::read(top.section("tcp"));
        let throttle = throttle::read(top.section("throttle"));
        let applications = read_applications(top.section("applications"), &memory, count);
        Some(Self {
            path: path.to_owned(),
            name: name.to_owned(),
            port: port?,
            workers,
            memory,
            tcp,
            throttle,
            applications,
        })
    }

    /// Whether this machine has the cores that are asked for, given those we may run on.
    ///
    /// # Errors
    /// A sentence with file and line for a core that is not among them.
    pub fn check_cores(&self, available: &[u16]) -> Result<(), ConfigError> {
        let wanted = self.workers.cores.iter().chain([&self.workers.control_core]);
        for core in wanted {
            if !available.contains(core) {
                let path = self.path.display();
                let line = self.workers.line;
                let cores: Vec<_> = available.iter().map(u16::to_string).collect();
                return Err(ConfigError::Faults(vec![format!(
                    "{path}:{line}: [workers] names core {core}, and this process can run on cores \
                     {} only; name others",
                    cores.join(", ")
                )]));
            }
        }
        Ok(())
    }
}

/// What a name of an instance must be, for people.
pub const INSTANCE_NAME_RULE: &str =
    "a name has 1 to 32 letters, digits, - and _, because a directory is named after it";

/// Whether this can name an instance.
#[must_use]
pub fn instance_name_is_valid(name: &str) -> bool {
    (1..=INSTANCE_NAME_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn read_port(port: Section<'_, '_>) -> Option<Port> {
    let device = read_device(&port);
    let addresses = read_addresses(&port);
    let gateway_v4 = read_gateway::<Ipv4Addr>(&port, "gateway_v4", addresses.as_deref());
    let gateway_v6 = read_gateway::<Ipv6Addr>(&port, "gateway_v6", addresses.as_deref());
    let routes = route::read(&port, addresses.as_deref());
    let small = |key, range| port.integer(key, range).and_then(|n| u16::try_from(n).ok());
    let vlan = small("vlan", 1..=4094);
    let reassemblies = small("reassemblies", 0..=65_535);
    let duplicate_probes = small("duplicate_probes", 0..=10);
    let mtu = small("mtu", 1280..=9216).unwrap_or(1500);
    let offloads = port.choice("offloads", &OFFLOADS);
    let rx_descriptors = small("rx_descriptors", 32..=32_768).unwrap_or(1024);
    let tx_descriptors = small("tx_descriptors", 32..=32_768).unwrap_or(1024);
    let burst = small("burst", 1..=32).unwrap_or(32);
    port.finish();
    Some(Port {
        device: device?,
        addresses: addresses?,
        gateway_v4,
        gateway_v6,
        routes,
        vlan,
        reassemblies,
        duplicate_probes,
        mtu,
        offloads,
        rx_descriptors,
        tx_descriptors,
        burst,
    })
}

/// As `--offloads` has them.
const OFFLOADS: [(&str, &str); 3] = [("auto", "auto"), ("on", "on"), ("off", "off")];

const DEVICES: &str = "a PCI address like 0000:03:00.0, or a DPDK virtual device like \
                       net_af_packet0,iface=xtcp0";

fn read_device(port: &Section<'_, '_>) -> Option<Device> {
    let Some(text) = port.text("device") else {
        if !port.has("device") {
            port.fault("device", format_args!("[port] has no `device`; give {DEVICES}"));
        }
        return None;
    };
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    let name = text.split(',').next().unwrap_or_default();
    if is_pci_address(name) && plain {
        Some(Device::Pci(text.to_owned()))
    } else if name.starts_with("net_") && plain {
        Some(Device::Virtual(text.to_owned()))
    } else {
        port.fault("device", format_args!("`device` in [port] is `{text}`; it can be {DEVICES}"));
        None
    }
}

/// `0000:03:00.0` or `03:00.0`.
fn is_pci_address(text: &str) -> bool {
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let parts: Vec<_> = text.split(':').collect();
    let (domain, bus, slot) = match parts[..] {
        [bus, slot] => ("0000", bus, slot),
        [domain, bus, slot] => (domain, bus, slot),
        _ => return false,
    };
    let slot = slot.split_once('.');
    hex(domain, 4)
        && hex(bus, 2)
        && slot.is_some_and(|(device, function)| hex(device, 2) && hex(function, 1))
}

fn read_addresses(port: &Section<'_, '_>) -> Option<Vec<Address>> {
    let texts =
        port.array("addresses", ADDRESSES_MAX, "strings such as \"10.77.0.2/24\"", DeValue::as_str);
    let Some(texts) = texts else {
        if !port.has("addresses") {
            let what = "[port] has no `addresses`; give at least one, such as [\"10.77.0.2/24\"]";
            port.fault("addresses", what);
        }
        return None;
    };
    let mut addresses: Vec<Address> = Vec::new();
    for (line, text) in texts {
        let what = match Address::from_str(text) {
            Ok(address) if addresses.iter().any(|known| known.ip == address.ip) => {
                format!("{} stands twice in `addresses`; give it once", address.ip)
            }
            Ok(address) => {
                addresses.push(address);
                continue;
            }
            Err(what) => what,
        };
        port.fault_in(line, what);
    }
    Some(addresses)
}

fn read_gateway<T: FromStr + Copy + Into<IpAddr>>(
    port: &Section<'_, '_>,
    key: &'static str,
    addresses: Option<&[Address]>,
) -> Option<T> {
    let text = port.text(key)?;
    let Ok(gateway) = T::from_str(text) else {
        let family = if key == "gateway_v4" { "IPv4" } else { "IPv6" };
        port.fault(key, format_args!("`{key}` in [port] is `{text}`, no {family} address"));
        return None;
    };
    let ip: IpAddr = gateway.into();
    let addresses = addresses?;
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfe80);
    if addresses.iter().any(|own| own.ip == ip) {
        port.fault(key, format_args!("`{key}` is {ip}, our own address; give the router's"));
    } else if !link_local && !addresses.iter().any(|own| own.is_on_link(ip)) {
        let what = format!(
            "`{key}` is {ip}, in no prefix of `addresses`, so it cannot be reached; give a gateway \
             on the link, or the address whose prefix holds it"
        );
        port.fault(key, what);
    }
    Some(gateway)
}

fn read_workers(workers: Section<'_, '_>) -> Workers {
    const CORE: RangeInclusive<u64> = 0..=1023;
    const WORKERS_MAX: usize = xtcp_ring::layout::WORKERS_MAX as usize;
    let read = |value: &DeValue<'_>| {
        let number = value.as_integer()?;
        u64::from_str_radix(number.as_str(), number.radix()).ok()
    };
    let control_core = workers.integer("control_core", CORE).unwrap_or(0);
    let given = workers
        .array("cores", WORKERS_MAX, "numbers of cores", read)
        .unwrap_or_else(|| vec![(0, 1)]);
    let mut cores = Vec::new();
    for (line, core) in given {
        match u16::try_from(core) {
            Ok(core) if cores.contains(&core) => {
                workers.fault_in(line, format_args!("core {core} stands twice in `cores`"));
            }
            Ok(core) if CORE.contains(&u64::from(core)) => cores.push(core),
            _ => workers.fault_in(line, format_args!("`cores` holds {core}; a core is 0 to 1023")),
        }
    }
    let line = workers.line_of("cores");
    workers.finish();
    Workers { cores, control_core: u16::try_from(control_core).unwrap_or(0), line }
}

fn read_memory(memory: Section<'_, '_>, port: Option<&Port>, workers: u64) -> Memory {
    const PAGES: [(&str, Hugepages); 3] =
        [("auto", Hugepages::Auto), ("require", Hugepages::Require), ("never", Hugepages::Never)];
    const COUNT: RangeInclusive<u64> = 1..=1 << 31;
    let hugepages = memory.choice("hugepages", &PAGES).unwrap_or(Hugepages::Auto);
    let count = |key| memory.integer(key, COUNT).and_then(|number| u32::try_from(number).ok());
    let connections = count("connections").unwrap_or(100_000);
    let ipv6_connections = count("ipv6_connections");
    let active = count("active");
    let chunks = count("chunks");
    let transmit = memory.bytes("transmit", 1 << 20..=4 << 40).unwrap_or(64 << 20);
    let receive = memory.bytes("receive", 1 << 20..=4 << 40).unwrap_or(256 << 20);
    let frames = memory.integer("frames", 512..=16_777_216).unwrap_or(8192);
    let frame_bytes = memory.integer("frame_bytes", 512..=16_384);
    let frame_bytes = frame_bytes.and_then(|bytes| u16::try_from(bytes).ok());
    for (key, value) in [("ipv6_connections", ipv6_connections), ("active", active)] {
        if let Some(value) = value.filter(|value| *value > connections) {
            let what = format!(
                "`{key}` in [memory] is {value}, more than `connections` ({connections}), of which \
                 it is a part; raise that or lower this"
            );
            memory.fault(key, what);
        }
    }
    if let Some(port) = port {
        let descriptors = u64::from(port.rx_descriptors) + u64::from(port.tx_descriptors);
        let needed = workers * (descriptors + 256);
        if frames < needed {
            let what = format!(
                "`frames` in [memory] is {frames}, too few to fill the queues of {workers} workers; \
                 give at least {needed}, or fewer `rx_descriptors` and `tx_descriptors` in [port]"
            );
            memory.fault("frames", what);
        }
    }
    memory.finish();
    let frames = u32::try_from(frames).unwrap_or(u32::MAX);
    Memory {
        hugepages,
        connections,
        ipv6_connections,
        active,
        chunks,
        transmit,
        receive,
        frames,
        frame_bytes,
    }
}

fn read_applications(applications: Section<'_, '_>, memory: &Memory, workers: u64) -> Applications {
    const ACCESS: [(&str, u32); 3] = [("owner", 0o600), ("group", 0o660), ("everyone", 0o666)];
    let entries = |key, default| {
        let entries = applications.integer(key, 64..=1 << 20).unwrap_or(default);
        if !entries.is_power_of_two() {
            let (low, high) = (entries.next_power_of_two() / 2, entries.next_power_of_two());
            let what = format!(
                "`{key}` in [applications] is {entries}; a ring has a power of two of entries, such \
                 as {low} or {high}"
            );
            applications.fault(key, what);
        }
        u32::try_from(entries).unwrap_or(1 << 20)
    };
    let small = |key, range, default| {
        let number = applications.integer(key, range).unwrap_or(default);
        u16::try_from(number).unwrap_or(u16::MAX)
    };
    let submissions = entries("submissions", 4096);
    let notices = entries("notices", 8192);
    let max = small("max", 1..=64, 64);
    let groups = small("groups", 1..=32_768, 1024);
    let arena = applications.bytes("arena", 64 << 10..=1 << 30).unwrap_or(4 << 20);
    let receive_max = applications.bytes("receive_max", receive_min(workers)..=RECEIVE_MAX);
    let receive_max = match receive_max {
        Some(bytes) if bytes > memory.receive => {
            let what = format!(
                "`receive_max` in [applications] is {}, more than `receive` in [memory] ({}), which \
                 all applications share; lower it or raise that",
                source::Size(bytes),
                source::Size(memory.receive)
            );
            applications.fault("receive_max", what);
            bytes
        }
        Some(bytes) => bytes,
        None => memory.receive.min(128 << 20),
    };
    let socket_mode = applications.choice("access", &ACCESS).unwrap_or(0o660);
    let (successor_ms, hostile_ms) = read_successor(&applications);
    applications.finish();
    let arena = u32::try_from(arena.next_multiple_of(4096)).unwrap_or(1 << 30);
    Applications {
        max,
        groups,
        submissions,
        notices,
        arena,
        receive_max,
        socket_mode,
        successor_ms,
        hostile_ms,
    }
}

/// How long what an application leaves is kept, and what one leaves that has lied; 0: not at all.
fn read_successor(applications: &Section<'_, '_>) -> (u32, u32) {
    const LEFT: [(&str, bool); 2] = [("close", false), ("keep", true)];
    let keep = applications.choice("successor", &LEFT).unwrap_or(false);
    let keep_liars = applications.choice("hostile", &LEFT).unwrap_or(keep);
    let given = applications.integer("successor_timeout_ms", 1..=86_400_000);
    let ms = given.map_or(SUCCESSOR_TIMEOUT_MS, |ms| u32::try_from(ms).unwrap_or(u32::MAX));
    let kept = |keep: bool| if keep { ms } else { 0 };
    (kept(keep), kept(keep_liars))
}

/// Receive memory an application must have at least, in bytes.
#[must_use]
pub const fn receive_min(workers: u64) -> u64 {
    workers * (256 << 10)
}

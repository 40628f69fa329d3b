//! EAL's arguments, understood before EAL sees them.
//!
//! The spellings are EAL's own. What EAL would only notice after it has changed the machine, or
//! would take in a way that harms (probing every PCI device, say), is settled here.

use std::fmt;

use dpdk_sys::drivers::{DRIVERS, Kind};

use crate::eal::allowed_cores;

/// EAL numbers its threads below this; a core above it goes by another number.
const LCORES: u16 = 128;
/// Cores the kernel's affinity masks reach.
const CORES: u16 = 1_024;
/// Megabytes of ordinary pages if nobody says how many.
const ORDINARY_MB: u32 = 256;

/// What EAL is to be started with.
///
/// Beyond what is asked for: no telemetry socket; no PCI device is probed unless one is allowed; the
/// memory is this process's alone (`--in-memory`, or ordinary pages with `--no-huge`); EAL gets the
/// first core only, the others are for the workers, which are threads of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalArgs {
    cores: Vec<u16>,
    vdevs: Vec<String>,
    allowed: Vec<String>,
    memory: Memory,
    file_prefix: Option<String>,
    iova_mode: Option<IovaMode>,
    single_file_segments: bool,
    channels: Option<u8>,
    log_levels: Vec<String>,
}

/// Where EAL's memory comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Memory {
    /// Ordinary pages, so many megabytes.
    Ordinary { megabytes: u32 },
    /// Hugepages without files.
    Anonymous { reserved: Reserved },
    /// Hugepages in files of a mounted hugetlbfs.
    Files { dir: Option<String>, legacy: bool, no_shconf: bool, reserved: Reserved },
}

/// How many hugepages are taken at once; more are taken when they are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reserved {
    OnDemand,
    Megabytes(u32),
    PerSocket(Vec<u32>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IovaMode {
    Physical,
    Virtual,
}

/// The options, as they were given.
#[derive(Default)]
struct Given {
    cores: Option<Vec<u16>>,
    vdevs: Vec<String>,
    allowed: Vec<String>,
    no_pci: bool,
    no_huge: bool,
    in_memory: bool,
    legacy: bool,
    no_shconf: bool,
    megabytes: Option<u32>,
    per_socket: Option<Vec<u32>>,
    huge_dir: Option<String>,
    file_prefix: Option<String>,
    iova_mode: Option<IovaMode>,
    single_file_segments: bool,
    channels: Option<u8>,
    log_levels: Vec<String>,
}

/// An option and whether it wants a value.
type Spelling = (&'static str, bool);

/// Every option that is understood.
const OPTIONS: &[Spelling] = &[
    ("-l", true),
    ("--lcores", true),
    ("--vdev", true),
    ("-a", true),
    ("--allow", true),
    ("--no-pci", false),
    ("--no-huge", false),
    ("-m", true),
    ("--socket-mem", true),
    ("--in-memory", false),
    ("--huge-dir", true),
    ("--legacy-mem", false),
    ("--no-shconf", false),
    ("--file-prefix", true),
    ("--iova-mode", true),
    ("--single-file-segments", false),
    ("-n", true),
    ("--log-level", true),
    ("--no-telemetry", false),
    ("--proc-type", true),
];

/// EAL's options that are not taken, and why. The first word decides.
const REFUSED: &[(&str, &str)] = &[
    ("-c", "a mask of cores is hard to read; list them with -l"),
    ("--main-lcore", "the first core of -l is the control core"),
    ("-s", "the appliance has no service cores"),
    ("-S", "the appliance has no service cores"),
    ("-b", "no PCI device is taken unless it is allowed; name those to take with -a"),
    ("--block", "no PCI device is taken unless it is allowed; name those to take with -a"),
    ("-d", "the drivers are part of the program, none is loaded"),
    ("--telemetry", "statistics come from the appliance itself"),
];

impl EalArgs {
    /// Understands arguments as EAL spells them, without the program's name and without `--`.
    ///
    /// Without `-l`, the cores are those the process may run on.
    ///
    /// # Errors
    /// If an option is unknown, refused, lacks its value or contradicts another.
    pub fn parse<S: AsRef<str>>(args: &[S]) -> Result<Self, EalArgError> {
        let mut given = Given::default();
        let mut words = args.iter().map(AsRef::as_ref);
        while let Some(word) = words.next() {
            let (option, attached) = split(word)?;
            if !option.1 {
                if attached.is_some() {
                    return Err(EalArgError::NoValueWanted { option: option.0 });
                }
                given.set_flag(option.0);
                continue;
            }
            let value = attached.or_else(|| words.next());
            let value = value.filter(|value| !value.is_empty());
            given.set(option.0, value.ok_or(EalArgError::ValueMissing { option: option.0 })?)?;
        }
        given.settle()
    }

    /// The cores, the control core first.
    #[must_use]
    pub fn cores(&self) -> &[u16] {
        &self.cores
    }

    /// The virtual devices, as given.
    #[must_use]
    pub fn vdevs(&self) -> &[String] {
        &self.vdevs
    }

    /// The PCI devices that are taken, as given.
    #[must_use]
    pub fn allowed(&self) -> &[String] {
        &self.allowed
    }

    /// The name that keeps several appliances on one machine apart.
    #[must_use]
    pub fn file_prefix(&self) -> Option<&str> {
        self.file_prefix.as_deref()
    }

    /// Whether EAL takes hugepages.
    #[must_use]
    pub const fn wants_hugepages(&self) -> bool {
        !matches!(self.memory, Memory::Ordinary { .. })
    }

    /// Whether EAL keeps its memory in files that other processes could open.
    pub(crate) const fn has_files(&self) -> bool {
        matches!(self.memory, Memory::Files { .. })
    }

    /// With ordinary pages, makes them at least `megabytes`: what pools need
    /// ([`crate::Pool::memory_needed`]) and some for the devices. Hugepages grow by themselves.
    pub fn ensure_megabytes(&mut self, megabytes: u32) {
        if let Memory::Ordinary { megabytes: given } = &mut self.memory {
            *given = megabytes.max(*given);
        }
    }

    /// The exact arguments EAL gets, the program's name first.
    #[must_use]
    pub fn line(&self) -> Vec<String> {
        let mut line = vec!["xtcp-dataplane".to_owned()];
        let mut add = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
        match self.cores[0] {
            core if core < LCORES => add(&["-l", &core.to_string()]),
            core => add(&["--lcores", &format!("0@{core}")]),
        }
        if self.allowed.is_empty() {
            add(&["--no-pci"]);
        }
        for device in &self.allowed {
            add(&["-a", device]);
        }
        for device in &self.vdevs {
            add(&["--vdev", device]);
        }
        match &self.memory {
            Memory::Ordinary { megabytes } => {
                add(&["--no-huge", "--no-shconf", "-m", &megabytes.to_string()]);
            }
            Memory::Anonymous { reserved } => {
                add(&["--in-memory"]);
                reserved.add_to(&mut add);
            }
            Memory::Files { dir, legacy, no_shconf, reserved } => {
                if let Some(dir) = dir {
                    add(&["--huge-dir", dir]);
                }
                if *legacy {
                    add(&["--legacy-mem"]);
                }
                if *no_shconf {
                    add(&["--no-shconf"]);
                }
                reserved.add_to(&mut add);
            }
        }
        if self.single_file_segments {
            add(&["--single-file-segments"]);
        }
        match self.iova_mode {
            Some(IovaMode::Physical) => add(&["--iova-mode", "pa"]),
            Some(IovaMode::Virtual) => add(&["--iova-mode", "va"]),
            None => (),
        }
        if let Some(prefix) = &self.file_prefix {
            add(&["--file-prefix", prefix]);
        }
        if let Some(channels) = self.channels {
            add(&["-n", &channels.to_string()]);
        }
        for level in &self.log_levels {
            add(&["--log-level", level]);
        }
        add(&["--no-telemetry"]);
        line
    }
}

impl fmt::Display for EalArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line().join(" "))
    }
}

impl Reserved {
    fn add_to(&self, add: &mut impl FnMut(&[&str])) {
        match self {
            Self::OnDemand => (),
            Self::Megabytes(megabytes) => add(&["-m", &megabytes.to_string()]),
            Self::PerSocket(sockets) => {
                let sockets: Vec<String> = sockets.iter().map(ToString::to_string).collect();
                add(&["--socket-mem", &sockets.join(",")]);
            }
        }
    }
}

/// The option a word begins with, and the value attached to it: `--vdev=x`, `-l0`.
fn split(word: &str) -> Result<(Spelling, Option<&str>), EalArgError> {
    let (name, attached) = match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => (name, Some(value)),
        _ => match word.char_indices().nth(2) {
            Some((end, _)) if !word.starts_with("--") => (&word[..end], Some(&word[end..])),
            _ => (word, None),
        },
    };
    if let Some(option) = OPTIONS.iter().find(|option| option.0 == name) {
        return Ok((*option, attached));
    }
    match REFUSED.iter().find(|refused| refused.0 == name) {
        Some((option, why)) => Err(EalArgError::Refused { option, why }),
        None => Err(EalArgError::Unknown { word: word.to_owned() }),
    }
}

impl Given {
    fn set_flag(&mut self, option: &'static str) {
        match option {
            "--no-pci" => self.no_pci = true,
            "--no-huge" => self.no_huge = true,
            "--in-memory" => self.in_memory = true,
            "--legacy-mem" => self.legacy = true,
            "--no-shconf" => self.no_shconf = true,
            "--single-file-segments" => self.single_file_segments = true,
            // Telemetry is always off.
            _ => (),
        }
    }

    fn set(&mut self, option: &'static str, value: &str) -> Result<(), EalArgError> {
        let wanted = |wanted| EalArgError::BadValue { option, value: value.to_owned(), wanted };
        let megabytes = |word: &str| word.parse().ok().filter(|mb| (1..=1 << 22).contains(mb));
        match option {
            "-l" | "--lcores" => {
                if self.cores.is_some() {
                    return Err(EalArgError::Twice { option: "-l" });
                }
                let cores = parse_cores(value).ok_or_else(|| wanted(CORES_WANTED))?;
                self.cores = Some(cores);
            }
            "--vdev" => {
                check_vdev(value, &self.vdevs)?;
                self.vdevs.push(value.to_owned());
            }
            "-a" | "--allow" => {
                if !is_pci(value) {
                    return Err(wanted(
                        "a PCI address like 0000:03:00.0, with `,` and its options",
                    ));
                }
                self.allowed.push(value.to_owned());
            }
            "-m" => {
                let given = megabytes(value).ok_or_else(|| wanted("megabytes, 1 to 4194304"))?;
                self.megabytes = Some(given);
            }
            "--socket-mem" => {
                let sockets = value
                    .split(',')
                    .map(|word| if word == "0" { Some(0) } else { megabytes(word) })
                    .collect();
                self.per_socket = Some(Option::ok_or_else(sockets, || {
                    wanted("megabytes per NUMA node, like 1024,0")
                })?);
            }
            "--huge-dir" => self.huge_dir = Some(value.to_owned()),
            "--file-prefix" => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                if value.len() > 32 || !value.chars().all(plain) {
                    return Err(wanted("at most 32 letters, digits, `-`, `_` and `.`"));
                }
                self.file_prefix = Some(value.to_owned());
            }
            "--iova-mode" => {
                self.iova_mode = Some(match value {
                    "pa" => IovaMode::Physical,
                    "va" => IovaMode::Virtual,
                    _ => return Err(wanted("`va` or `pa`")),
                });
            }
            "-n" => {
                let channels = value.parse().ok().filter(|channels| (1..=32).contains(channels));
                self.channels = Some(channels.ok_or_else(|| wanted("memory channels, 1 to 32"))?);
            }
            "--log-level" => {
                let level = |c: char| c.is_ascii_graphic();
                if !value.chars().all(level) {
                    return Err(wanted("a level, or a pattern, `:` and a level"));
                }
                self.log_levels.push(value.to_owned());
            }
            // --proc-type
            _ if value == "primary" => (),
            _ => return Err(EalArgError::Refused { option, why: ONE_PROCESS }),
        }
        Ok(())
    }

    /// Resolves what depends on several options.
    fn settle(self) -> Result<EalArgs, EalArgError> {
        if self.no_pci && !self.allowed.is_empty() {
            return Err(conflict("--no-pci", "-a", "one says no PCI device, the other names one"));
        }
        let memory = self.memory()?;
        let ordinary = matches!(memory, Memory::Ordinary { .. });
        if ordinary && self.iova_mode == Some(IovaMode::Physical) {
            return Err(conflict(
                "--no-huge",
                "--iova-mode pa",
                "ordinary pages have no physical address that lasts",
            ));
        }
        if ordinary && self.single_file_segments {
            return Err(conflict(
                "--no-huge",
                "--single-file-segments",
                "without hugepages there are no segments to choose files for",
            ));
        }
        let cores = match self.cores {
            Some(cores) => cores,
            None => {
                allowed_cores().ok().filter(|cores| !cores.is_empty()).unwrap_or_else(|| vec![0])
            }
        };
        // These devices give their memory to another process, by file descriptors.
        let shared = self.vdevs.iter().any(|device| shares_memory(device));
        // A PCI device may need physical addresses; EAL finds out. Virtual ones never do.
        let iova_mode = match self.iova_mode {
            None if self.allowed.is_empty() => Some(IovaMode::Virtual),
            given => given,
        };
        Ok(EalArgs {
            cores,
            vdevs: self.vdevs,
            allowed: self.allowed,
            single_file_segments: self.single_file_segments || (shared && !ordinary),
            memory,
            file_prefix: self.file_prefix,
            iova_mode,
            channels: self.channels,
            log_levels: self.log_levels,
        })
    }

    fn memory(&self) -> Result<Memory, EalArgError> {
        if self.no_huge {
            let hugepages = [
                (self.in_memory, "--in-memory"),
                (self.huge_dir.is_some(), "--huge-dir"),
                (self.per_socket.is_some(), "--socket-mem"),
            ];
            if let Some((_, other)) = hugepages.iter().find(|(given, _)| *given) {
                let why = "one says no hugepages, the other is about them";
                return Err(conflict("--no-huge", other, why));
            }
            return Ok(Memory::Ordinary { megabytes: self.megabytes.unwrap_or(ORDINARY_MB) });
        }
        let reserved = match (self.megabytes, &self.per_socket) {
            (Some(_), Some(_)) => {
                return Err(conflict("-m", "--socket-mem", "both say how much to reserve"));
            }
            (Some(megabytes), None) => Reserved::Megabytes(megabytes),
            (None, Some(sockets)) => Reserved::PerSocket(sockets.clone()),
            (None, None) => Reserved::OnDemand,
        };
        if self.in_memory && self.legacy {
            let why = "memory without files is always taken in DPDK's newer way";
            return Err(conflict("--in-memory", "--legacy-mem", why));
        }
        if self.in_memory && self.huge_dir.is_some() {
            return Err(conflict(
                "--in-memory",
                "--huge-dir",
                "one says no files, the other where",
            ));
        }
        Ok(if self.legacy || self.huge_dir.is_some() {
            let (dir, legacy, no_shconf) = (self.huge_dir.clone(), self.legacy, self.no_shconf);
            Memory::Files { dir, legacy, no_shconf, reserved }
        } else {
            Memory::Anonymous { reserved }
        })
    }
}

const ONE_PROCESS: &str = "the dataplane is the only DPDK process: applications attach through \
                           xtcpd and share no memory of DPDK";

const CORES_WANTED: &str = "cores like 0-3,8, each once and below 1024, the control core first; \
                            sets in brackets and `@` are not needed, as every thread of the \
                            appliance has one core";

/// The cores of a list like `0-3,8`.
fn parse_cores(list: &str) -> Option<Vec<u16>> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CORES {
            return None;
        }
        for core in first..=last {
            if cores.contains(&core) {
                return None;
            }
            cores.push(core);
        }
    }
    Some(cores)
}

/// Whether a word is a PCI address, with or without domain and options.
fn is_pci(word: &str) -> bool {
    let address = word.split(',').next().unwrap_or(word);
    let address = address.strip_prefix("pci:").unwrap_or(address);
    let hex = |part: &str, most: usize| {
        (1..=most).contains(&part.len()) && part.chars().all(|c| c.is_ascii_hexdigit())
    };
    let Some((slot, function)) = address.rsplit_once('.') else { return false };
    if !matches!(function.as_bytes(), [b'0'..=b'7']) {
        return false;
    }
    match slot.split(':').collect::<Vec<_>>()[..] {
        [bus, device] => hex(bus, 2) && hex(device, 2),
        [domain, bus, device] => hex(domain, 8) && hex(bus, 2) && hex(device, 2),
        _ => false,
    }
}

/// Refuses a virtual device that no driver would take.
fn check_vdev(device: &str, others: &[String]) -> Result<(), EalArgError> {
    let name = device.split(',').next().unwrap_or(device);
    let virtual_devices = || DRIVERS.iter().filter(|driver| driver.kind == Kind::Virtual);
    if !virtual_devices().any(|driver| driver.devices.iter().any(|begin| name.starts_with(begin))) {
        let known: Vec<&str> = virtual_devices().map(|driver| driver.devices[0]).collect();
        return Err(EalArgError::NoDriver { device: name.to_owned(), known: known.join(", ") });
    }
    if others.iter().any(|other| other.split(',').next() == Some(name)) {
        return Err(EalArgError::DeviceTwice { device: name.to_owned() });
    }
    Ok(())
}

/// Whether a virtual device maps EAL's memory into another process.
fn shares_memory(device: &str) -> bool {
    let begins = ["net_vhost", "eth_vhost", "net_virtio_user", "virtio_user"];
    begins.iter().any(|begin| device.starts_with(begin))
        || (device.starts_with("net_memif") && device.contains("zero-copy=yes"))
}

const fn conflict(one: &'static str, other: &'static str, why: &'static str) -> EalArgError {
    EalArgError::Conflict { one, other, why }
}

/// Why the arguments are not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EalArgError {
    /// No such option.
    Unknown {
        /// The word.
        word: String,
    },
    /// An option of EAL that the appliance does not take.
    Refused {
        /// The option.
        option: &'static str,
        /// The reason and the remedy.
        why: &'static str,
    },
    /// An option without its value.
    ValueMissing {
        /// The option.
        option: &'static str,
    },
    /// An option with a value it does not want.
    NoValueWanted {
        /// The option.
        option: &'static str,
    },
    /// A value that does not fit its option.
    BadValue {
        /// The option.
        option: &'static str,
        /// The value.
        value: String,
        /// What would fit.
        wanted: &'static str,
    },
    /// An option given twice.
    Twice {
        /// The option.
        option: &'static str,
    },
    /// Options that contradict each other.
    Conflict {
        /// One of them.
        one: &'static str,
        /// The other.
        other: &'static str,
        /// How.
        why: &'static str,
    },
    /// A virtual device without driver.
    NoDriver {
        /// Its name.
        device: String,
        /// What there is.
        known: String,
    },
    /// Two virtual devices of the same name.
    DeviceTwice {
        /// The name.
        device: String,
    },
}

impl fmt::Display for EalArgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { word } => {
                let known: Vec<&str> = OPTIONS.iter().map(|option| option.0).collect();
                write!(f, "unknown EAL option {word:?}; known are {}", known.join(" "))
            }
            Self::Refused { option, why } => write!(f, "{option} is not taken: {why}"),
            Self::ValueMissing { option } => write!(f, "{option} wants a value behind it"),
            Self::NoValueWanted { option } => write!(f, "{option} takes no value"),
            Self::BadValue { option, value, wanted } => {
                write!(f, "{option} {value:?} is not understood; it wants {wanted}")
            }
            Self::Twice { option } => write!(f, "{option} is given twice; give it once"),
            Self::Conflict { one, other, why } => {
                write!(f, "{one} and {other} contradict each other: {why}; drop one")
            }
            Self::NoDriver { device, known } => write!(
                f,
                "there is no driver for the virtual device {device:?}; names begin with one of \
                 {known}"
            ),
            Self::DeviceTwice { device } => write!(
                f,
                "the virtual device {device:?} is named twice; give the second another number"
            ),
        }
    }
}

impl std::error::Error for EalArgError {}

//! `xtcpd --plan 10M`: what a load needs of memory, huge pages, cores and queues, and whether this
//! machine has it.
//!
//! Sizes are the stack's own; a test holds them against it. Rates are those of `bench/README.md`, by
//! half: a worker that is to keep its latency is not loaded further.

use std::fmt;
use std::fs;

use xtcp_ring::PageSize;

use crate::config::RECEIVE_MAX;
use crate::reserve::{HugePages, Reserve};

/// Always, for every connection: its record, and its part of the flow table of 64-byte buckets with
/// nine connections in each.
const RECORD: u64 = 64;
const BUCKET: u64 = 64;
const PER_BUCKET: u64 = 9;
/// An IPv6 connection's address.
const ADDRESS_V6: u64 = 16;
/// A connection with data in flight or unread.
const ACTIVE: u64 = 384;
/// A piece of buffered text; each active connection has room for four.
const CHUNK: u64 = 16;
const CHUNKS_EACH: u64 = 4;
/// Tables that do not grow with the load, of one worker: ports, groups, neighbours, timers, paths,
/// reassembly.
const FIXED: u64 = 4 << 20;
/// Frames of one worker: both rings, the workers' caches and bursts, with headers and headroom.
const FRAMES: u64 = 8192 * (2048 + 640);
/// What EAL takes beside frames.
const EAL: u64 = 128 << 20;
/// Buffers are cut from pages of this size.
const PAGE: u64 = 2048;
/// Of free buffer space so much stays free, so that windows stay open (`shrink_below`).
const HALF_FREE: u64 = 2;

/// Exchanges per second that one worker is to have at most, small and of 1 KB.
const SMALL_PER_WORKER: u64 = 500_000;
const LARGE_PER_WORKER: u64 = 250_000;
/// Requests and answers up to this size are small.
const SMALL: u64 = 256;
/// A connection is active from its request until its client has acknowledged the answer: a round
/// trip of the Internet and a delayed acknowledgement, in milliseconds.
const ACTIVE_MS: u64 = 300;
/// Room for so many set-ups at once, whatever the rate.
const ACTIVE_LEAST: u64 = 16_384;
/// What one appliance can have.
const WORKERS_MAX: u64 = xtcp_ring::layout::WORKERS_MAX as u64;

/// What is asked of the appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Connections open at once.
    pub connections: u64,
    /// Exchanges per second.
    pub rate: u64,
    /// Bytes of a request, and of an answer.
    pub bytes: u64,
}

/// What it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    load: Load,
    /// Workers, each with a core and a queue of its own.
    pub workers: u64,
    /// Connections active at once.
    pub active: u64,
    /// Bytes of all workers' tables.
    pub tables: u64,
    /// Bytes of the transmit buffer.
    pub transmit: u64,
    /// Bytes of the receive buffers, all of them one application's.
    pub receive: u64,
    /// Bytes of frames and of EAL.
    pub frames: u64,
}

/// What a machine has.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Bytes that could be had now.
    pub memory: u64,
    /// Huge pages that are free.
    pub hugepages: HugePages,
    /// How to have more.
    pub reserve: Reserve,
    /// Cores.
    pub cores: u64,
}

/// A number as people write it: `10M`, `30k`, `10_000_000`, `1.5M`.
///
/// # Errors
/// A sentence that says how to write it.
pub fn number(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no number; write it like 10M, 30k or 10000000");
    let plain = text.replace('_', "");
    let (digits, factor) = match plain.char_indices().last() {
        Some((at, 'k' | 'K')) => (&plain[..at], 1e3),
        Some((at, 'm' | 'M')) => (&plain[..at], 1e6),
        Some((at, 'g' | 'G')) => (&plain[..at], 1e9),
        _ => (plain.as_str(), 1.0),
    };
    let value = digits.parse::<f64>().map_err(|_| wrong())? * factor;
    if !(1.0..=1e12).contains(&value) {
        return Err(wrong());
    }
    Ok(value.round() as u64)
}

impl Plan {
    /// What `load` needs.
    ///
    /// # Errors
    /// A sentence: it is more than one appliance can be configured for.
    pub fn of(load: Load) -> Result<Self, String> {
        let per_worker = if load.bytes <= SMALL { SMALL_PER_WORKER } else { LARGE_PER_WORKER };
        let workers = load.rate.div_ceil(per_worker).max(1);
        if workers > WORKERS_MAX {
            return Err(format!(
                "{} exchanges per second need {} workers, and an appliance has {WORKERS_MAX} at \
                 most; plan for {} per second, and for several appliances",
                grouped(load.rate),
                grouped(workers),
                grouped(WORKERS_MAX * per_worker)
            ));
        }
        let active = (load.rate * ACTIVE_MS / 1000).max(ACTIVE_LEAST).min(load.connections);
        // A hash spreads connections over workers: each has an eighth more than its even share.
        let spread =
            |count: u64| if workers == 1 { count } else { count + count / 8 + 16 * workers };
        let tables = spread(load.connections) * (RECORD + ADDRESS_V6)
            + (spread(load.connections).div_ceil(PER_BUCKET) + workers) * BUCKET
            + spread(active) * (ACTIVE + CHUNKS_EACH * CHUNK)
            + workers * FIXED;
        let each = load.bytes.next_multiple_of(128).max(128) * HALF_FREE;
        let buffers = active.checked_mul(each).filter(|bytes| *bytes <= RECEIVE_MAX);
        let buffers = buffers.ok_or_else(|| {
            format!(
                "{} connections with {} B in hand at once need more than the {} of receive buffers \
                 that an application can have; plan for fewer bytes, or a lower rate",
                grouped(active),
                grouped(load.bytes),
                mib(RECEIVE_MAX)
            )
        })?;
        let buffers = buffers.max(16 << 20).next_multiple_of(PAGE);
        let frames = workers * FRAMES + EAL;
        Ok(Self { load, workers, active, tables, transmit: buffers, receive: buffers, frames })
    }

    /// All memory, in bytes.
    #[must_use]
    pub const fn memory(&self) -> u64 {
        self.tables + self.transmit + self.receive + self.frames
    }

    /// The memories beside EAL's, in bytes: each is of pages of its own. A worker's tables and its part
    /// of the transmit buffer are one.
    fn memories(&self) -> impl Iterator<Item = u64> {
        let worker = (self.tables + self.transmit).div_ceil(self.workers);
        let parts = self.workers * PageSize::Huge2M.bytes() as u64;
        (0..self.workers).map(move |_| worker).chain([self.receive.next_multiple_of(parts)])
    }

    /// Whether it is all to be had of these huge pages, which are taken as the appliance takes them.
    #[must_use]
    pub fn fits(&self, mut free: HugePages) -> bool {
        free.take_as_eal(self.frames.div_ceil(1 << 20)).is_some()
            && self.memories().all(|bytes| free.take(bytes))
    }

    /// Huge pages that do, one size alone or both: the first as it is best, with those of 1 GiB where
    /// they are well filled.
    #[must_use]
    pub fn ways(&self) -> Vec<HugePages> {
        const PLENTY: u64 = u64::MAX >> 32;
        let needs = |of_1g, of_2m| {
            let plenty = HugePages { of_1g, of_2m };
            let mut free = plenty;
            free.take_as_eal(self.frames.div_ceil(1 << 20));
            self.memories().for_each(|bytes| {
                free.take(bytes);
            });
            HugePages { of_1g: of_1g - free.of_1g, of_2m: of_2m - free.of_2m }
        };
        let mut ways = vec![needs(PLENTY, PLENTY), needs(0, PLENTY), needs(PLENTY, 0)];
        if ways[0] == ways[1] || ways[0] == ways[2] {
            ways.remove(0);
        }
        ways
    }

    /// Cores: one for each worker, one for control and applications.
    #[must_use]
    pub const fn cores(&self) -> u64 {
        self.workers + 1
    }

    /// What `machine` lacks, each a sentence with its remedy.
    #[must_use]
    pub fn lacks(&self, machine: &Machine) -> Vec<String> {
        let mut lacks = Vec::new();
        // Free huge pages are no longer among the memory that could be had.
        let HugePages { of_1g, of_2m } = machine.hugepages;
        let memory = machine.memory
            + of_1g * PageSize::Huge1G.bytes() as u64
            + of_2m * PageSize::Huge2M.bytes() as u64;
        if memory < self.memory() {
            lacks.push(format!(
                "memory: {} are needed and {} can be had; add memory, or plan for fewer connections",
                mib(self.memory()),
                mib(memory)
            ));
        }
        if !self.fits(machine.hugepages) {
            let ways: Vec<String> = self.ways().iter().map(ToString::to_string).collect();
            lacks.push(format!(
                "huge pages: {} are needed, {of_2m} of 2 MiB and {of_1g} of 1 GiB are free; reserve \
                 them with {}",
                ways.join(", or "),
                machine.reserve.remedy(&self.ways()),
            ));
        }
        if machine.cores < self.cores() {
            lacks.push(format!(
                "cores: {} are needed and {} may be used; give the appliance more cores, or plan \
                 for a lower rate",
                self.cores(),
                machine.cores
            ));
        }
        lacks
    }
}

impl Machine {
    /// This machine, with the cores this process may use.
    #[must_use]
    pub fn look(cores: u64) -> Self {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        let reserve = Reserve::of_this_machine();
        Self { memory: kib.unwrap_or(0) << 10, hugepages: reserve.free(), reserve, cores }
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", grouped(bytes.div_ceil(1 << 20)))
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { connections, rate, bytes } = self.load;
        writeln!(
            f,
            "{} connections and {} exchanges of {} B per second need",
            grouped(connections),
            grouped(rate),
            grouped(bytes)
        )?;
        writeln!(f, "  memory      {:>12}", mib(self.memory()))?;
        for (what, bytes) in [
            ("tables", self.tables),
            ("transmit buffer", self.transmit),
            ("receive buffers", self.receive),
            ("frames and EAL", self.frames),
        ] {
            writeln!(f, "    {what:<18} {:>12}", mib(bytes))?;
        }
        for (way, name) in self.ways().iter().zip(["huge pages", "  or", "  or"]) {
            writeln!(f, "  {name:<12} {way}")?;
        }
        writeln!(
            f,
            "  cores       {:>12}: {} for workers, 1 for control and applications",
            self.cores(),
            self.workers
        )?;
        writeln!(f, "  queues      {:>12} to receive, and as many to send", self.workers)?;
        writeln!(f, "as in this configuration:")?;
        let cores: Vec<String> = (1..=self.workers).map(|core| core.to_string()).collect();
        writeln!(f, "  [workers]\n  cores = [{}]\n  control_core = 0", cores.join(", "))?;
        writeln!(f, "  [memory]\n  hugepages = \"require\"\n  connections = {connections}")?;
        writeln!(f, "  active = {}\n  chunks = {}", self.active, self.active * CHUNKS_EACH)?;
        let whole = |bytes: u64| bytes.div_ceil(1 << 20);
        writeln!(f, "  transmit = \"{}MiB\"", whole(self.transmit))?;
        writeln!(f, "  receive = \"{}MiB\"", whole(self.receive))?;
        writeln!(f, "  frames = {}", 8192 * self.workers)?;
        writeln!(f, "  [applications]\n  receive_max = \"{}MiB\"", whole(self.receive))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_MILLION: Load = Load { connections: 10_000_000, rate: 30_000, bytes: 1024 };

    fn planned(load: Load) -> Plan {
        Plan::of(load).unwrap_or_else(|why| panic!("{why}"))
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (text, value) in [
            ("10M", 10_000_000),
            ("30k", 30_000),
            ("1.5M", 1_500_000),
            ("10_000", 10_000),
            ("7", 7),
        ] {
            assert_eq!(number(text), Ok(value));
        }
        for text in ["", "M", "-3", "0", "ten", "1e40", "nan"] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ten_million_connections_fit_where_the_goal_says() {
        let plan = planned(TEN_MILLION);
        assert_eq!((plan.workers, plan.cores()), (1, 2));
        let each = plan.tables as f64 / 10e6;
        assert!((87.0..96.0).contains(&each), "{each} B for each, IPv6 included");
        assert!(plan.memory() < 1_280_000_000, "{}", plan.memory());
        assert_eq!(plan.active, 16_384);
    }

    #[test]
    fn the_configuration_it_writes_is_one() {
        for load in [
            TEN_MILLION,
            Load { connections: 1000, rate: 3_000_000, bytes: 64 },
            Load { connections: 1, rate: 1, bytes: 1 },
            Load { connections: 1, rate: 1, bytes: RECEIVE_MAX / HALF_FREE },
            Load { connections: 1 << 31, rate: WORKERS_MAX * SMALL_PER_WORKER, bytes: SMALL },
            Load { connections: 1 << 31, rate: WORKERS_MAX * LARGE_PER_WORKER, bytes: 65_536 },
        ] {
            let text = planned(load).to_string();
            let (_, toml) = text.split_once("configuration:\n").expect("it ends with one");
            let port = "[port]\ndevice = \"net_tap0\"\naddresses = [\"10.0.0.1/8\"]\n";
            let config = crate::config::Config::parse(
                std::path::Path::new("plan.toml"),
                &format!("{port}{toml}"),
            );
            let config = config.unwrap_or_else(|error| panic!("{error}\n{toml}"));
            assert_eq!(u64::from(config.memory.connections), load.connections);
            assert_eq!(config.workers.cores.len() as u64, planned(load).workers);
        }
    }

    /// The largest numbers that are numbers.
    #[test]
    fn what_no_appliance_can_have_is_said() {
        const MOST: u64 = 1_000_000_000_000;
        for (load, word) in [
            (Load { rate: MOST, ..TEN_MILLION }, "16,000,000 per second, and for several"),
            (Load { rate: WORKERS_MAX * LARGE_PER_WORKER + 1, ..TEN_MILLION }, "65 workers"),
            (Load { bytes: MOST, ..TEN_MILLION }, "fewer bytes, or a lower rate"),
            (Load { connections: 1, rate: 1, bytes: RECEIVE_MAX / HALF_FREE + 1 }, "fewer bytes"),
            (Load { connections: 1 << 31, rate: MOST, bytes: MOST }, "workers"),
        ] {
            let why = Plan::of(load).expect_err(word);
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn what_a_machine_lacks_is_said_with_its_remedy() {
        let plan = planned(Load { rate: 3_000_000, ..TEN_MILLION });
        let reserve = Reserve::at("/nowhere");
        let hugepages = HugePages::default();
        let small = Machine { memory: 1 << 30, hugepages, reserve, cores: 2 };
        let lacks = plan.lacks(&small).join("\n");
        for word in
            ["memory: ", "`echo ", "hugepagesz=1G hugepages=", "0 of 1 GiB are free", "cores: "]
        {
            assert!(lacks.contains(word), "{word}: {lacks}");
        }
        let large = Machine { memory: 1 << 40, cores: plan.cores(), ..small };
        for hugepages in plan.ways() {
            assert_eq!(plan.lacks(&Machine { hugepages, ..large.clone() }), Vec::<String>::new());
            let HugePages { of_1g, of_2m } = hugepages;
            let one_short = match of_2m {
                0 => HugePages { of_1g: of_1g - 1, of_2m },
                _ => HugePages { of_1g, of_2m: of_2m - 1 },
            };
            let lacks = plan.lacks(&Machine { hugepages: one_short, ..large.clone() });
            assert_eq!(lacks.len(), 1, "{one_short}");
        }
    }

    /// Ten million connections' tables fill most of a page of 1 GiB, and EAL takes one.
    #[test]
    fn huge_pages_are_planned_as_they_are_taken() {
        let plan = planned(TEN_MILLION);
        let ways: Vec<String> = plan.ways().iter().map(ToString::to_string).collect();
        let [best, small, large] = ways.as_slice() else { panic!("{ways:?}") };
        assert!(best.starts_with("2 of 1 GiB and ") && best.ends_with(" of 2 MiB"), "{best}");
        assert!(small.ends_with(" of 2 MiB") && !small.contains("GiB"), "{small}");
        assert_eq!(large, "3 of 1 GiB");
        let text = plan.to_string();
        for way in &ways {
            assert!(text.contains(&format!(" {way}\n")), "{text}");
        }
        // Four workers' tables are four memories, none of which fills half of such a page.
        let four = planned(Load { rate: 1_000_000, ..TEN_MILLION });
        let receive = four.receive.next_multiple_of(4 << 21);
        assert_eq!((four.workers, four.ways().len()), (4, 3), "{four}");
        assert_eq!(four.ways()[0].of_1g, 1 + receive.div_ceil(1 << 30), "{four}");
        assert_eq!(four.ways()[2].of_1g, 1 + 4 + receive.div_ceil(1 << 30), "{four}");
    }

    /// The sizes above, held against the stack's own sum.
    #[test]
    fn the_stack_needs_what_is_planned() {
        use xtcp_stack::config::{ADDRESSES_MAX, Config, NetConfig, TcpConfig, Throttle};
        for load in [TEN_MILLION, Load { connections: 100_000, rate: 1000, bytes: 64 }] {
            let plan = planned(load);
            let connections = u32::try_from(load.connections).expect("few");
            let active = u32::try_from(plan.active).expect("few");
            let config = Config {
                worker: 0,
                mac: xtcp_stack::wire::ethernet::MacAddr([2; 6]),
                mtu: 1500,
                addresses: [None; ADDRESSES_MAX],
                gateway_v4: None,
                gateway_v6: None,
                secret: [0; 32],
                connections_max: connections,
                ipv6_connections_max: connections,
                active_max: active,
                chunks_max: active * 4,
                transmit_bytes: 1 << 20,
                neighbours_max: 4096,
                pools_max: 64,
                groups_max: 1024,
                queues_max: 64,
                net: NetConfig::default(),
                throttle: Throttle::default(),
                tcp: TcpConfig::default(),
            };
            let needed = xtcp_stack::Stack::memory_needed(&config) as u64;
            assert!(needed <= plan.tables, "{needed} of {} planned", plan.tables);
            assert!(plan.tables - needed < FIXED, "{needed}, and {} planned", plan.tables);
        }
    }
}

//! How long a stream stands still when much is lost: timeouts, how many in a row, and the longest time
//! in which nothing new arrived. What a table of many seeds has is kept, so that whoever changes the
//! recovery sees what he did; `XTCP_TABLE=write` writes it anew.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use xtcp_stack::{Cd, Congestion, Count, GroupConfig, TcpConfig};

use crate::sim::app::{Habit, Stream};
use crate::sim::link::Weather;
use crate::sim::net::Net;
use crate::sim::{Memory, RECEIVE_BYTES, config, ordinary_group, v4, variable};

const PORT: u16 = 7;
/// Bytes of one bulk transfer, of one request, and of one answer.
const BULK: u64 = 256 << 10;
const EXCHANGE: u64 = 1 << 10;
/// Exchanges of one connection.
const ROUNDS: u64 = 60;
/// Seeds of each line.
const SEEDS: u64 = 60;

/// The path of the bench's impairments: 10 ms each way, 100 Mbit/s with 50 ms of queue.
const PATH: Weather = Weather {
    delay: Duration::from_millis(10),
    jitter: Duration::ZERO,
    loss: 0,
    duplication: 0,
    corruption: 0,
    reordering: 0,
    reorder_by: Duration::ZERO,
    rate: 12_500_000,
    queue: Duration::from_millis(50),
    mark: Duration::ZERO,
};

/// What became of one connection's transfers.
#[derive(Clone, Debug, Default)]
struct Course {
    /// Milliseconds of each transfer.
    took: Vec<u64>,
    /// Timeouts of the server, and most of them without anything new at the client in between.
    timeouts: u64,
    in_a_row: u64,
    probes: u64,
    undone: u64,
    /// Milliseconds in which nothing new arrived at either side, at most.
    silence: u64,
}

/// What is transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One answer of [`BULK`].
    Bulk,
    /// [`ROUNDS`] requests and answers of [`EXCHANGE`].
    Exchange,
}

/// A network under observation.
struct Watched<'m> {
    net: Net<'m>,
    connection: Cd,
    course: Course,
    /// Timeouts since something new arrived, and when that was.
    row: u64,
    moved: (u64, Duration),
}

impl Watched<'_> {
    fn received(&self) -> u64 {
        let server: u64 = self.net.apps[1].streams.values().map(|stream| stream.received).sum();
        server + self.client().received
    }

    fn client(&self) -> &Stream {
        &self.net.apps[0].streams[&self.connection]
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.net.now.as_nanos())
    }

    fn step(&mut self) {
        self.net.step();
        let counters = self.net.hosts[1].stack.counters();
        let timeouts = counters.counted(Count::RetransmissionTimeouts);
        self.course.probes = counters.counted(Count::TailProbes);
        self.course.undone = counters.counted(Count::RecoveriesUndone);
        self.row += timeouts - self.course.timeouts;
        self.course.timeouts = timeouts;
        self.course.in_a_row = self.course.in_a_row.max(self.row);
        let (received, now) = (self.received(), self.elapsed());
        let silent = now.saturating_sub(self.moved.1).as_millis();
        self.course.silence = self.course.silence.max(u64::try_from(silent).expect("short"));
        if received != self.moved.0 {
            (self.row, self.moved) = (0, (received, now));
        }
    }

    /// One transfer: a request, and its answer.
    fn transfer(&mut self, request: u64, answer: u64) {
        let started = self.elapsed();
        let client = self.net.apps[0].streams.get_mut(&self.connection).expect("open");
        client.to_send += request;
        let (asked, wanted) = (client.to_send, client.received + answer);
        loop {
            self.step();
            for server in self.net.apps[1].streams.values_mut() {
                if server.received == asked {
                    server.to_send = wanted;
                }
            }
            self.step();
            if self.client().received == wanted {
                break;
            }
            assert!(self.net.wait(), "it is stuck");
            assert!(self.elapsed() - started < Duration::from_secs(3_600), "it takes for ever");
        }
        let took = (self.elapsed() - started).as_millis();
        self.course.took.push(u64::try_from(took).expect("short"));
    }
}

/// What becomes of a connection over this path.
fn course(seed: u64, weather: Weather, congestion: Congestion, kind: Kind) -> Course {
    let mut memory = [0, 1].map(|n| Memory::for_host(&config(n, n + 1), RECEIVE_BYTES));
    let client = GroupConfig { window_max: 1 << 20, nagle: false, ..ordinary_group(0) };
    let server = GroupConfig { congestion, nagle: false, ..ordinary_group(PORT) };
    let parties = (TcpConfig::default(), &client, &server);
    let mut net = Net::new(&mut memory, (seed, weather), parties, Habit::Prompt);
    // Neither has all it is to have: nobody closes.
    net.apps[1].arriving = Some(Box::new(|_| Stream::new((1, 2), 0, u64::MAX)));
    let group = net.hosts[0].group;
    let remote = SocketAddr::new(v4(2), PORT);
    let connection = net.hosts[0].stack.connect(group, remote, net.now).expect("room");
    net.apps[0].streams.insert(connection, Stream::new((2, 1), 0, u64::MAX));
    net.run_until(Duration::from_secs(100), |net| {
        net.apps.iter().all(|app| app.streams.values().any(|stream| stream.opened))
    });
    let moved = (0, Duration::from_nanos(net.now.as_nanos()));
    let mut watched = Watched { net, connection, course: Course::default(), row: 0, moved };
    match kind {
        Kind::Bulk => watched.transfer(1, BULK),
        Kind::Exchange => (0..ROUNDS).for_each(|_| watched.transfer(EXCHANGE, EXCHANGE)),
    }
    watched.course
}

/// The lines: what the wire does, the congestion control, and what is transferred.
const LINES: [(&str, Weather, Congestion, Kind); 6] = [
    ("bulk, 5 % lost", Weather { loss: 50_000, ..PATH }, Congestion::NewReno, Kind::Bulk),
    ("bulk, 5 % lost", Weather { loss: 50_000, ..PATH }, Congestion::Cubic, Kind::Bulk),
    ("bulk, 1 % lost", Weather { loss: 10_000, ..PATH }, Congestion::Cubic, Kind::Bulk),
    ("exchanges, 1 % lost", Weather { loss: 10_000, ..PATH }, Congestion::Cubic, Kind::Exchange),
    ("exchanges, 5 % lost", Weather { loss: 50_000, ..PATH }, Congestion::Cubic, Kind::Exchange),
    (
        "exchanges, 1 % damaged",
        Weather { corruption: 10_000, ..PATH },
        Congestion::Cubic,
        Kind::Exchange,
    ),
];

fn table(seeds: u64) -> String {
    let mut text = format!(
        "{seeds} connections each; milliseconds\n\n{:<24}{:>8} {:>6} {:>6} {:>6} {:>7} {:>6} {:>6} \
         {:>6} {:>6} {:>9} {:>8}\n",
        "",
        "control",
        "mean",
        "p50",
        "p99",
        "longest",
        "probes",
        "undone",
        "timers",
        "in row",
        "silence99",
        "longest"
    );
    for (name, weather, congestion, kind) in LINES {
        let mut courses: Vec<(u64, Course)> =
            (0..seeds).map(|seed| (seed, course(seed, weather, congestion, kind))).collect();
        let mut took: Vec<u64> = courses.iter().flat_map(|(_, one)| one.took.clone()).collect();
        took.sort_unstable();
        courses.sort_by_key(|(_, one)| one.silence);
        let at =
            |of: u64, len: usize| (len * usize::try_from(of).expect("small")).div_ceil(100) - 1;
        let sum =
            |count: fn(&Course) -> u64| courses.iter().map(|(_, one)| count(one)).sum::<u64>();
        let most = courses.iter().map(|(_, one)| one.in_a_row).max().unwrap_or(0);
        let mean = took.iter().sum::<u64>() / took.len() as u64;
        let (p50, p99) = (took[at(50, took.len())], took[at(99, took.len())]);
        let silence99 = courses[at(99, courses.len())].1.silence;
        let (worst, longest) = courses.last().map(|(s, one)| (*s, one.silence)).expect("some");
        writeln!(
            text,
            "{name:<24}{:>8} {mean:>6} {p50:>6} {p99:>6} {:>7} {:>6} {:>6} {:>6} {most:>6} \
             {silence99:>9} {longest:>8} of seed {worst}",
            format!("{congestion:?}").to_lowercase(),
            took[took.len() - 1],
            sum(|one| one.probes),
            sum(|one| one.undone),
            sum(|one| one.timeouts),
        )
        .expect("room");
    }
    text
}

#[test]
fn streams_stand_still_no_longer_than_they_did() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/silences.txt");
    if let Some(seeds) = variable("XTCP_SEEDS") {
        return println!("{}", table(seeds));
    }
    let found = table(SEEDS);
    if std::env::var_os("XTCP_TABLE").is_some() {
        std::fs::write(&path, &found).expect("the table can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, kept, "left: now, right: before; XTCP_TABLE=write keeps it\n{found}");
}

/// The longest silences there were among 3,000 seeds of each line, in milliseconds: a round trip that
/// was none (of a SYN-ACK or its answer that had been lost), and timeouts where a probe was due.
#[test]
fn the_longest_silences_are_gone() {
    let worst = [(0, 427, 16_267), (1, 28, 2_251), (3, 16, 877), (4, 375, 10_174), (5, 141, 2_001)];
    for (line, seed, before) in worst {
        let (name, weather, congestion, kind) = LINES[line];
        let Course { silence, in_a_row, .. } = course(seed, weather, congestion, kind);
        let told = format!("{name}, seed {seed}: {silence} ms, {before} before");
        assert!(silence < 650 && in_a_row < 2, "{told}");
    }
}

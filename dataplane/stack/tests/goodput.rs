//! How much gets through, by loss, round trip and congestion control: a table that is kept, so that
//! whoever changes it sees what he did.
//!
//! `XTCP_TABLE=write` writes it anew.

mod sim;

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sim::app::{Habit, Stream};
use sim::link::Weather;
use sim::net::Net;
use sim::{Memory, config, ordinary_group, v4};
use xtcp_stack::{Congestion, Count, Ecn, GroupConfig, TcpConfig};

const PORT: u16 = 7;
/// Bytes of each transfer.
const BYTES: u64 = 2 << 20;
/// Runs per cell.
const RUNS: u64 = 3;
/// 20 Mbit/s.
const RATE: u64 = 2_500_000;
const RECEIVE_BYTES: usize = 32 << 20;

/// How a column's TCP mends losses and grows its window.
const COLUMNS: [(&str, bool, bool, Congestion, Ecn); 5] = [
    ("newreno", false, false, Congestion::NewReno, Ecn::Off),
    ("+ sack", true, false, Congestion::NewReno, Ecn::Off),
    ("+ rack", true, true, Congestion::NewReno, Ecn::Off),
    ("cubic", true, true, Congestion::Cubic, Ecn::Off),
    ("+ ecn", true, true, Congestion::Cubic, Ecn::Ask),
];

/// Lost frames per million.
const LOSSES: [u32; 4] = [0, 1_000, 10_000, 50_000];
/// Round trips in milliseconds.
const ROUND_TRIPS: [u64; 3] = [10, 50, 200];

/// A server sends; kilobits per second from its first segment to the last byte at the client.
fn goodput(seed: u64, weather: Weather, tcp: TcpConfig, congestion: Congestion) -> u64 {
    transfer(seed, weather, tcp, congestion).0
}

/// As [`goodput`]; and how many segments the server sent again.
fn transfer(seed: u64, weather: Weather, tcp: TcpConfig, congestion: Congestion) -> (u64, u64) {
    let mut memory = [0, 1].map(|n| Memory::for_host(&config(n, n + 1), RECEIVE_BYTES));
    let client = GroupConfig { window_max: 8 << 20, ..ordinary_group(0) };
    let server = GroupConfig { congestion, ..ordinary_group(PORT) };
    let mut net = Net::new(&mut memory, (seed, weather), (tcp, &client, &server), Habit::Prompt);
    net.apps[1].arriving = Some(Box::new(move |_| Stream::new((1, 2), BYTES, 1)));
    let remote = SocketAddr::new(v4(2), PORT);
    let group = net.hosts[0].group;
    let connection = net.hosts[0].stack.connect(group, remote, net.now).expect("room");
    net.apps[0].streams.insert(connection, Stream::new((2, 1), 1, BYTES));
    let start = net.now;
    net.run_until(Duration::from_secs(3_600), |net| {
        net.apps[0].streams.get(&connection).is_none_or(|stream| stream.received == BYTES)
    });
    let micros = u64::try_from(net.now.since(start).as_micros()).expect("short");
    let again = net.hosts[1].stack.counters().counted(Count::SegmentsRetransmitted);
    (BYTES * 8 * 1_000 / micros, again)
}

fn table() -> String {
    let mut text =
        "Mbit/s of 20, one connection, 2 MiB, a queue of 50 ms that marks from 25 ms on\n\n"
            .to_owned();
    text += "loss %  rtt ms";
    for (name, ..) in COLUMNS {
        write!(text, "  {name:>8}").expect("room");
    }
    text.push('\n');
    for loss in LOSSES {
        for rtt in ROUND_TRIPS {
            let delay = Duration::from_millis(rtt) / 2;
            let queue = Duration::from_millis(50);
            let mark = queue / 2;
            let weather = Weather { delay, loss, rate: RATE, queue, mark, ..Weather::default() };
            write!(text, "{:>6}  {rtt:>6}", f64::from(loss) / 10_000.0).expect("room");
            for (_, sack, rack, congestion, ecn) in COLUMNS {
                let tcp =
                    TcpConfig { sack, rack, tail_loss_probe: rack, ecn, ..TcpConfig::default() };
                let total: u64 =
                    (0..RUNS).map(|seed| goodput(seed, weather, tcp, congestion)).sum();
                let mean = total / RUNS;
                write!(text, "  {:>5}.{:02}", mean / 1_000, mean % 1_000 / 10).expect("room");
            }
            text.push('\n');
        }
    }
    text
}

/// Queues of the narrowest place in milliseconds: from a few frames to two round trips.
const QUEUES: [u64; 4] = [5, 10, 20, 40];
/// 10 Mbit/s.
const NARROW: u64 = 1_250_000;

/// What a burst into a short queue costs, nothing else being lost: what pacing could gain.
fn table_by_queue() -> String {
    let mut text = "\nMbit/s of 10, one connection, 2 MiB, a round trip of 20 ms, by the queue; and \
                    segments sent again of a hundred\n\nqueue ms   newreno    again     cubic    again\n"
        .to_owned();
    for queue in QUEUES {
        write!(text, "{queue:>8}").expect("room");
        for congestion in [Congestion::NewReno, Congestion::Cubic] {
            let weather = Weather {
                delay: Duration::from_millis(10),
                rate: NARROW,
                queue: Duration::from_millis(queue),
                ..Weather::default()
            };
            let (rate, again) = transfer(0, weather, TcpConfig::default(), congestion);
            let segments = BYTES.div_ceil(1_448);
            let share = again * 1_000 / segments;
            write!(text, "  {:>5}.{:02}", rate / 1_000, rate % 1_000 / 10).expect("room");
            write!(text, "  {:>5}.{}", share / 10, share % 10).expect("room");
        }
        text.push('\n');
    }
    text
}

/// Wires that lose nothing but what finds their queue full: kilobytes a second, round trip, and
/// queue, in milliseconds.
const CLEAR: [(u64, u64, u64); 5] = [
    (1_250_000, 20, 40),
    (2_500_000, 50, 50),
    (2_500_000, 200, 50),
    (12_500_000, 20, 50),
    (12_500_000, 100, 50),
];

/// What it gains to leave slow start before the queue is full.
fn table_by_slow_start() -> String {
    let mut text = "\nMbit/s, one connection, 2 MiB, nothing lost but what finds the queue full, without and \
                    with HyStart++; and segments sent again of a hundred\n\nMbit/s  rtt ms  queue ms".to_owned();
    for name in ["newreno", "hystart", "cubic", "hystart"] {
        write!(text, "  {name:>8}  again").expect("room");
    }
    text.push('\n');
    for (rate, rtt, queue) in CLEAR {
        write!(text, "{:>6}  {rtt:>6}  {queue:>8}", rate / 125_000).expect("room");
        for congestion in [Congestion::NewReno, Congestion::Cubic] {
            for hystart in [false, true] {
                let weather = Weather {
                    delay: Duration::from_millis(rtt) / 2,
                    rate,
                    queue: Duration::from_millis(queue),
                    ..Weather::default()
                };
                let tcp = TcpConfig { hystart, ..TcpConfig::default() };
                let (kbits, again) = transfer(0, weather, tcp, congestion);
                let share = again * 1_000 / BYTES.div_ceil(1_448);
                write!(text, "  {:>5}.{:02}", kbits / 1_000, kbits % 1_000 / 10).expect("room");
                write!(text, "  {:>3}.{}", share / 10, share % 10).expect("room");
            }
        }
        text.push('\n');
    }
    text
}

#[test]
fn goodput_is_what_it_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goodput.txt");
    let found = table() + &table_by_queue() + &table_by_slow_start();
    if std::env::var_os("XTCP_TABLE").is_some() {
        fs::write(&path, &found).expect("the table can be written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, kept, "left: now, right: before; XTCP_TABLE=write keeps it\n{found}");
}

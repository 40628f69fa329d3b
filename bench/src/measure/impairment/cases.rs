//! The cases of the matrix: what the wire does, and what is transferred over it.

use super::transfer::Control;
use super::weather::Weather;

/// What the wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Impairment {
    pub(super) name: &'static str,
    pub(super) weather: Weather,
    /// Bytes of each bulk transfer: seconds of work for Linux.
    pub(super) bytes: u64,
    /// Connections at a time.
    pub(super) connections: u32,
}

/// 10 ms each way, 100 Mbit/s with 50 ms of queue, unless a row says otherwise.
const PATH: Weather = Weather {
    delay_us: 10_000,
    lost: 0,
    twice: 0,
    corrupt: 0,
    late: 0,
    late_by_us: 8_000,
    rate: 12_500_000,
    queue_us: 50_000,
};
const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// All rows of the table.
pub(super) const ROWS: [Impairment; 9] = [
    row("none", PATH, 3 * MIB, 4),
    row("loss 1 %", Weather { lost: 10_000, ..PATH }, MIB, 8),
    row("loss 5 %", Weather { lost: 50_000, ..PATH }, 256 * KIB, 8),
    row("reordered 3 %", Weather { late: 30_000, ..PATH }, 2 * MIB, 4),
    row("duplicated 3 %", Weather { twice: 30_000, ..PATH }, 3 * MIB, 4),
    row("corrupted 1 %", Weather { corrupt: 10_000, ..PATH }, MIB, 8),
    // A bottleneck of 10 Mbit/s: a queue of two round trips, of one, and of six full frames.
    row("narrow, 40 ms", Weather { rate: 1_250_000, queue_us: 40_000, ..PATH }, 2 * MIB, 1),
    row("narrow, 20 ms", Weather { rate: 1_250_000, queue_us: 20_000, ..PATH }, 512 * KIB, 4),
    row("narrow, 7 ms", Weather { rate: 1_250_000, queue_us: 7_000, ..PATH }, 512 * KIB, 4),
];

/// The wires of the table the stack's simulator keeps (`dataplane/stack/tests/goodput.txt`): 20 Mbit/s
/// with 50 ms of queue, 2 MiB on one connection, by loss and round trip.
pub(super) const SIMULATED: [Impairment; 12] = [
    simulated("0 %, 10 ms", 0, 10),
    simulated("0 %, 50 ms", 0, 50),
    simulated("0 %, 200 ms", 0, 200),
    simulated("0.1 %, 10 ms", 1_000, 10),
    simulated("0.1 %, 50 ms", 1_000, 50),
    simulated("0.1 %, 200 ms", 1_000, 200),
    simulated("1 %, 10 ms", 10_000, 10),
    simulated("1 %, 50 ms", 10_000, 50),
    simulated("1 %, 200 ms", 10_000, 200),
    simulated("5 %, 10 ms", 50_000, 10),
    simulated("5 %, 50 ms", 50_000, 50),
    simulated("5 %, 200 ms", 50_000, 200),
];

const fn simulated(name: &'static str, lost: u32, rtt_ms: u64) -> Impairment {
    let (delay_us, rate, queue_us) = (rtt_ms * 500, 2_500_000, 50_000);
    row(name, Weather { delay_us, lost, rate, queue_us, ..PATH }, 2 * MIB, 1)
}

const fn row(name: &'static str, weather: Weather, bytes: u64, connections: u32) -> Impairment {
    Impairment { name, weather, bytes, connections }
}

/// What is transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bulk to the clients, by this congestion control of the server.
    Down(Control),
    /// Bulk to the server, by CUBIC of the clients.
    Up,
    /// A request and an answer of 1 KiB, again and again.
    Exchange,
}

/// All columns' kinds.
pub(super) const KINDS: [Kind; 4] =
    [Kind::Down(Control::NewReno), Kind::Down(Control::Cubic), Kind::Up, Kind::Exchange];

/// Connections of [`Kind::Exchange`], and exchanges on each.
const EXCHANGES: (u32, u32) = (16, 60);

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Down(Control::NewReno) => "down, newreno",
            Self::Down(Control::Cubic) => "down, cubic",
            Self::Up => "up",
            Self::Exchange => "exchange",
        }
    }

    /// The server's congestion control.
    pub(super) const fn control(self) -> Control {
        match self {
            Self::Down(control) => control,
            Self::Up | Self::Exchange => Control::Cubic,
        }
    }

    /// Arguments of the clients, for bulk of a `share`-th of the row's bytes.
    pub(super) fn plan(self, row: &Impairment, share: u64) -> String {
        let Impairment { bytes, connections, .. } = *row;
        let bytes = bytes / share;
        match self {
            Self::Down(_) => format!("--connections {connections} --download {bytes}"),
            Self::Up => format!("--connections {connections} --upload {bytes}"),
            Self::Exchange => {
                let (connections, rounds) = EXCHANGES;
                let rounds = u64::from(rounds) / share;
                // With the order, and with the hash: a KiB each.
                format!(
                    "--connections {connections} --rounds {rounds} --upload 1000 --download 1016"
                )
            }
        }
    }

    /// Bytes one transfer has.
    pub(super) const fn bytes(self, row: &Impairment, share: u64) -> u64 {
        match self {
            Self::Down(_) | Self::Up => row.bytes / share,
            Self::Exchange => 1024,
        }
    }
}

//! What keeps a dataplane from starting or working, in sentences that say what to do.

use core::fmt;
use std::io;
use std::path::PathBuf;

use dpdk::{EalArgError, EalError, PoolError, PortError, RingError};
use xtcp_stack::{MemoryTooSmall, Misuse};

use crate::cli::CliError;

/// Why there is no dataplane.
#[derive(Debug)]
#[non_exhaustive]
pub enum EngineError {
    /// Our own part of the command line.
    Cli(CliError),
    /// EAL's part of the command line.
    EalArgs(EalArgError),
    /// EAL did not start.
    Eal(EalError),
    /// The run-time directory or something in it cannot be made.
    RunDirectory(PathBuf, io::Error),
    /// Another dataplane has the name.
    Held {
        /// The name.
        name: String,
        /// The process that holds it, if it said so.
        pid: Option<u32>,
    },
    /// There is no such port.
    NoPort {
        /// What `--port` said.
        port: u16,
        /// The ports there are.
        ports: Vec<u16>,
    },
    /// The device has fewer queues than are needed.
    Queues {
        /// The device.
        device: String,
        /// `receive` or `transmit`.
        kind: &'static str,
        /// How many it has.
        most: u16,
        /// How many are needed.
        needed: u16,
    },
    /// `--spread=hardware`, and the device has no RSS.
    NoRss(String),
    /// `--mtu` is more than the device has.
    Mtu {
        /// The device.
        device: String,
        /// What it has.
        most: u16,
        /// What was asked for.
        mtu: u16,
    },
    /// The frames of net_af_packet's ring are too short for the MTU, or longer than an mbuf.
    PacketRing {
        /// What was asked for.
        mtu: u16,
        /// Bytes of a ring's frame.
        framesz: u32,
        /// Bytes it should have.
        needed: u32,
    },
    /// `--mbuf-size` is less than a frame needs, and the device takes it in one piece only.
    Pieces {
        /// The device.
        device: String,
        /// What was asked for.
        given: u16,
        /// The longest frame, in bytes.
        needed: u16,
    },
    /// Said by the port.
    Port(PortError),
    /// The mbuf pool.
    Pool(PoolError),
    /// The rings between workers.
    Ring(RingError),
    /// Memory for tables and buffers.
    Memory {
        /// What for.
        what: &'static str,
        /// How much, in bytes.
        bytes: u64,
        /// The reason.
        error: io::Error,
    },
    /// The memory `xtcpd` brought is too small.
    Tables(MemoryTooSmall),
    /// The built-in application could not be opened.
    Builtin(Misuse),
    /// A thread could not be started or put on its core.
    Worker {
        /// Which worker.
        worker: usize,
        /// Its core.
        core: Option<u16>,
        /// The reason.
        error: io::Error,
    },
    /// The operating system.
    System {
        /// What was tried.
        what: &'static str,
        /// The reason.
        error: io::Error,
    },
    /// A worker's thread has ended by itself.
    WorkerGone,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cli(error) => write!(f, "{error}"),
            Self::EalArgs(error) => write!(f, "{error}"),
            Self::Eal(error) => write!(f, "{error}"),
            Self::RunDirectory(path, error) => write!(
                f,
                "{}: {error}; run as root, or give a directory of yours with --run-dir",
                path.display()
            ),
            Self::Held { name, pid } => {
                write!(f, "a dataplane named `{name}` is already running")?;
                if let Some(pid) = pid {
                    write!(f, " (process {pid})")?;
                }
                f.write_str("; stop it, or start this one with another --name")
            }
            Self::NoPort { port, ports } if ports.is_empty() => write!(
                f,
                "--port {port}: there are no ports at all; name a device among the EAL arguments, \
                 such as --vdev=net_tap0,iface=xtcp0 or -a 0000:03:00.0"
            ),
            Self::NoPort { port, ports } => {
                write!(f, "--port {port}: there is no such port; there are {ports:?}")
            }
            Self::Queues { device, kind, most, needed } => write!(
                f,
                "{device} has {most} {kind} queues and {needed} are needed; use fewer workers (-l, \
                 --workers-cores), or give the device more queues if it takes an argument for that"
            ),
            Self::NoRss(device) => write!(
                f,
                "--spread=hardware: {device} cannot spread TCP over IPv4 and IPv6 by addresses and \
                 ports; leave it out, and the workers do it"
            ),
            Self::Mtu { device, most, mtu } => {
                write!(f, "--mtu {mtu}: {device} takes {most} at most; give no more than that")
            }
            Self::PacketRing { mtu, framesz, needed } => {
                write_packet_ring(f, *mtu, *framesz, *needed)
            }
            Self::Pieces { device, given, needed } => write!(
                f,
                "--mbuf-size {given}: a frame can have {needed} bytes, and {device} does not take \
                 one in several pieces; give {needed} or more, or leave it out"
            ),
            Self::Port(error) => write!(f, "{error}"),
            Self::Pool(error) => write!(f, "{error}"),
            Self::Ring(error) => write!(f, "{error}"),
            Self::Memory { what, bytes, error } => write!(
                f,
                "no {} MiB for {what} ({error}); ask for less (--connections, --transmit-bytes, \
                 --receive-bytes)",
                bytes >> 20
            ),
            Self::Tables(error) => write!(f, "the tables' memory: {error}"),
            Self::Builtin(error) => write!(f, "the built-in application: {error}"),
            Self::Worker { worker, core: Some(core), error } => write!(
                f,
                "worker {worker} cannot run on core {core} ({error}); name cores this process may \
                 use with -l or --workers-cores"
            ),
            Self::Worker { worker, core: None, error } => {
                write!(f, "worker {worker} cannot be started: {error}")
            }
            Self::System { what, error } => write!(f, "cannot {what}: {error}"),
            Self::WorkerGone => f.write_str("a worker has ended by itself; this is a bug"),
        }
    }
}

fn write_packet_ring(
    f: &mut fmt::Formatter<'_>,
    mtu: u16,
    framesz: u32,
    needed: u32,
) -> fmt::Result {
    write!(
        f,
        "--mtu {mtu}: the frames of net_af_packet's ring have {framesz} bytes; add \
         framesz={needed},blocksz={} to the device, say --mbuf-size {needed} (in a configuration: \
         frame_bytes), and give the kernel's interface the MTU, too: ip link set NAME mtu {mtu}",
        2 * needed
    )
}

impl core::error::Error for EngineError {}

macro_rules! wraps {
    ($($variant:ident($error:ty),)*) => {
        $(impl From<$error> for EngineError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

wraps! {
    Cli(CliError),
    EalArgs(EalArgError),
    Eal(EalError),
    Port(PortError),
    Pool(PoolError),
    Ring(RingError),
    Tables(MemoryTooSmall),
}

impl From<crate::command::Gone> for EngineError {
    fn from(_: crate::command::Gone) -> Self {
        Self::WorkerGone
    }
}

//! Why a command line is not understood, and what to write instead.

use core::fmt;
use core::net::IpAddr;

use xtcp_stack::config::{ADDRESSES_MAX, BadThrottle, ROUTES_MAX};

use super::{Mode, WORKERS_MAX};

/// What is wrong with a command line.
#[derive(Debug)]
pub enum CliError {
    /// Found by clap, which says it well; also `--help` and `--version`.
    Clap(clap::Error),
    /// One of our options stands among EAL's.
    OwnOptionBeforeDashes(String),
    /// A core mask.
    CoreMask,
    /// `-l` cannot be read.
    Lcores(String),
    /// More than [`WORKERS_MAX`].
    TooManyWorkers(usize),
    /// No `--ip`.
    NoAddress,
    /// More than the stack holds.
    TooManyAddresses(usize),
    /// An address is given twice.
    AddressTwice(IpAddr),
    /// Two gateways of a family.
    GatewayTwice(IpAddr),
    /// A router, as this option gives it, in no on-link prefix.
    OffLink(&'static str, IpAddr),
    /// One that is our own address.
    IsOwn(&'static str, IpAddr),
    /// `--rxq` is neither 1 nor the number of workers.
    ReceiveQueues {
        /// What was asked for.
        rxq: u16,
        /// How many there are.
        workers: usize,
    },
    /// `--txq` is not the number of workers.
    TransmitQueues {
        /// What was asked for.
        txq: u16,
        /// How many there are.
        workers: usize,
    },
    /// More IPv6 connections than connections.
    Ipv6Connections,
    /// The mbufs would not fill the queues.
    TooFewMbufs {
        /// What was given.
        given: u32,
        /// What the queues take.
        needed: u32,
    },
    /// A built-in mode beside `--control`.
    ModeWithControl(Mode),
    /// `--forward-mode=app` without `--control`.
    AppWithoutControl,
    /// `--send-queue-max` beyond 32 bits.
    SendQueueMax,
    /// `--rto-min-ms` above `--rto-max-ms`.
    RtoBounds,
    /// More routes than the stack holds.
    TooManyRoutes(usize),
    /// The throttle's steps are not one after another.
    Throttle(BadThrottle),
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clap(error) => write!(f, "{error}"),
            Self::OwnOptionBeforeDashes(option) => write!(
                f,
                "`{option}` is not an EAL argument; options of the dataplane come after `--`, as in \
                 `xtcp-dataplane --no-pci --vdev=net_tap0 -- --ip 10.77.0.2/24`"
            ),
            Self::CoreMask => f.write_str("-c: core masks are not taken; list the cores: -l 0-1"),
            Self::Lcores(what) => write!(f, "-l: {what}"),
            Self::TooManyWorkers(workers) => {
                write!(f, "--workers-cores: {workers} workers are too many; {WORKERS_MAX} at most")
            }
            Self::NoAddress => f.write_str(
                "--ip: the port has no address; give at least one, such as --ip 10.77.0.2/24",
            ),
            Self::TooManyAddresses(given) => {
                write!(f, "--ip: {given} addresses are too many; {ADDRESSES_MAX} at most")
            }
            Self::AddressTwice(ip) => write!(f, "--ip: {ip} is given twice; give it once"),
            Self::GatewayTwice(ip) => write!(
                f,
                "--gateway: {ip} is the second of its family; one for IPv4 and one for IPv6"
            ),
            Self::OffLink(option, ip) => write!(
                f,
                "{option}: {ip} is in no prefix of --ip, so it cannot be reached; give a router on \
                 the link, or the --ip whose prefix holds it"
            ),
            Self::IsOwn(option, ip) => {
                write!(f, "{option}: {ip} is our own address; give the router's")
            }
            Self::ReceiveQueues { rxq, workers } => write!(
                f,
                "--rxq={rxq} does not fit {workers} workers; leave it out, or give 1 or {workers}"
            ),
            Self::TransmitQueues { txq, workers } => write!(
                f,
                "--txq={txq} does not fit {workers} workers, each of which needs its own; leave it \
                 out, or give {workers}"
            ),
            Self::Ipv6Connections => f.write_str(
                "--ipv6-connections is part of --connections and cannot be more; raise --connections",
            ),
            Self::TooFewMbufs { given, needed } => write!(
                f,
                "--total-num-mbufs={given} would not fill the queues' descriptors; give at least \
                 {needed}, or fewer descriptors (--rxd, --txd)"
            ),
            Self::ModeWithControl(mode) => write!(
                f,
                "--forward-mode={mode} does not go with --control, which serves applications; \
                 leave one of them out"
            ),
            Self::AppWithoutControl => f.write_str(
                "--forward-mode=app needs --control and a running xtcpd; start xtcpd, or choose \
                 echo, answer, icmpecho or macswap",
            ),
            Self::SendQueueMax => f.write_str("--send-queue-max: give less than 4GiB"),
            Self::RtoBounds => {
                f.write_str("--rto-min-ms is above --rto-max-ms; lower it or raise the other")
            }
            Self::TooManyRoutes(given) => {
                write!(f, "--route: {given} routes are too many; {ROUTES_MAX} at most")
            }
            Self::Throttle(bad) => {
                write!(f, "--shrink-below, --withhold-below, --hide-below: {bad}")
            }
        }
    }
}

impl core::error::Error for CliError {}

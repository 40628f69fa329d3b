//! The XTCP state machine, sans-IO: frames, commands and times in; frames, events and deadlines
//! out.
//!
//! It knows no DPDK, no OS clock, no thread, no file, no heap and no pointer: everything it keeps
//! are plain records addressed by index, in memory it is given ([`Stack::new`]). One [`Stack`] is
//! one worker's whole world; workers share nothing.
//!
//! # How it is driven
//!
//! Four kinds of call, the time always last:
//!
//! * **`on_*`**, something happened: [`Stack::on_burst`], [`Stack::on_timeout`];
//! * **verbs**, an application commands: [`Stack::open_pool`], [`Stack::open_group`],
//!   [`Stack::accept`], [`Stack::commit`], [`Stack::send`], [`Stack::close`], [`Stack::abort`],
//!   [`Stack::drain_group`];
//! * **`poll_*`**, what is to be done: [`Stack::poll_frames`], [`Stack::poll_event`],
//!   [`Stack::poll_timeout`];
//! * nouns, for those who look: [`Stack::counters`], [`Stack::usage`], [`Stack::connections`].
//!
//! A worker's turn is `on_burst`, commands, `on_timeout`, `poll_frames`, `poll_event`.
//!
//! # What it costs
//!
//! | | bytes | when |
//! |---|---|---|
//! | connection record | 64 | always |
//! | flow table | 7.1 | always |
//! | IPv6 address | 16 | IPv6 only |
//! | active record | 384 | data in flight or unread, opening or closing |
//! | chunk | 16 | per buffered segment |
//! | block of a shared buffer | 128 to 2,048 | per buffered segment |
//!
//! So an idle IPv4 connection costs 71 bytes and an idle IPv6 one 87, everything counted.
//!
//! # Where things are
//!
//! | | |
//! |---|---|
//! | [`wire`] | bytes to values and back, no state |
//! | [`net`] | addresses, routes, neighbours, ICMP |
//! | [`tcp`] | one connection: RFC 9293's rooms |
//! | `fragments` | segments that come in pieces |
//! | `frames_in`, `frames_out` | between frames and connections |
//! | `commands` | what applications ask and are told |
//! | `transaction` | several commands that act together or not at all |
//! | `successor` | an application that has gone, and the next of its name |
//! | `half_open`, `cookies` | handshakes: how many, and without a record |
//! | `rations` | answers to segments of no connection |
//! | `reports` | what ICMP says of our segments |
//! | `lifecycle` | records made, folded, freed |
//! | `ends` | idle connections that end when no active record is free |
//! | `listen` | which group gets a client |
//! | `queues` | what is told, by priority |
//! | `sweep`, `drain` | idle connections looked at; groups that end theirs |
//! | `shares` | what each pool may take, and who waits for room |
//! | `audit` | everything counted anew |
//! | `table`, [`buffer`] | the records and the shared buffers |

#![no_std]
#![forbid(unsafe_code)]

mod audit;
pub mod buffer;
mod commands;
pub mod config;
mod cookies;
pub mod counters;
mod drain;
mod ends;
pub mod error;
pub mod event;
mod fragments;
mod frames_in;
mod frames_out;
pub mod group;
pub mod group_counts;
mod half_open;
pub mod handle;
pub mod inspect;
mod lifecycle;
mod listen;
pub mod memory;
pub mod net;
mod queues;
mod rations;
mod reports;
mod secret;
mod shares;
mod stack;
mod successor;
mod sweep;
mod table;
pub mod tcp;
pub mod time;
mod transaction;
pub mod wire;
pub mod world;

pub use audit::Discrepancy;
pub use config::{
    Accept, Acknowledge, Address, BadThrottle, Config, Congestion, Ecn, Family, GroupConfig,
    KeepAlive, Manner, NetConfig, PRIORITIES, Route, SynCookies, TcpConfig, Throttle,
};
pub use counters::{Count, Counters, Outcome, Stop};
pub use error::Misuse;
pub use event::{Event, Reason};
pub use group::{GroupInfo, Level, PoolInfo};
pub use group_counts::GroupCounts;
pub use handle::{Cd, Gd, PoolId, QueueId};
pub use inspect::{ConnectionInfo, SoftError, Usage};
pub use memory::MemoryTooSmall;
pub use stack::{POOLS_MAX, Stack};
pub use tcp::state::State;
pub use time::Instant;
pub use transaction::Part;
pub use world::{Below, Checksum, Completion, Payload, RxFrame, Transmit};

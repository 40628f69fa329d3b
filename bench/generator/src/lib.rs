//! Millions of TCP clients in user space, to show what a server holds and how fast it is.
//!
//! | module | what it is |
//! |---|---|
//! | [`population`] | who the clients are: number, address and port computed from each other |
//! | [`clients`] | their TCP, 64 bytes each |
//! | [`pattern`] | the bytes of requests and answers, each compared |
//! | [`step`] | what they are asked to do: connect, load, idle, close, reconnect, flood |
//! | [`driver`] | when each does it |
//!
//! Nothing here knows a device or a clock: frames and times are arguments, so the whole runs
//! against a stack in the same thread in tests, with loss from a seed. The program `xtcp-generator`
//! puts a DPDK device under it.
//!
//! # What a flood is
//! Forged segments, so many a second whether or not the server can bear it, from addresses of the
//! clients' prefix that no client has; and beside them what the clients do: exchanges, each compared,
//! and connections given up and opened anew. What the server sends to those addresses is counted,
//! not answered: nobody is there.
//!
//! # What a latency is
//! At a [`step::Pace::Rate`] the time each request is due is computed beforehand; a latency counts from
//! there, also when the client could not begin the request in time because its last answer was late
//! or because the generator was. So neither can hide a stall (no coordinated omission).
#![forbid(unsafe_code)]

pub mod clients;
pub mod driver;
mod flood;
mod path;
pub mod pattern;
pub mod population;
pub mod step;

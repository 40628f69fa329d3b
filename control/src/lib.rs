//! The control plane: configuration, supervision, pools and groups, and the operator's command line.
//!
//! `xtcpd` reads the configuration ([`config`]), starts the dataplane ([`command_line`]), makes all
//! memory and hands it to applications. It is on no data path: killed, it stops no traffic, and
//! started again it takes over the dataplane it finds. `xtcpctl` asks it how things are.
//!
//! ```text
//! /run/xtcp/NAME/xtcpd.lock      held by xtcpd for as long as it lives
//!                xtcpd.sock      applications and xtcpctl
//!                dataplane.lock  held by the dataplane
//!                dataplane.sock  xtcpd alone
//! ```

#![forbid(unsafe_code)]

mod client;
mod clock;
pub mod command_line;
pub mod config;
mod dataplane;
mod desk;
pub mod instance;
pub mod memory;
pub mod plan;
mod process;
pub mod reserve;
pub mod service;
pub mod table;

pub use dataplane::DataplaneError;

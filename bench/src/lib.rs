//! The demo, kernel clients that drive the appliance, and what tests against the Linux kernel need.
//!
//! | module | what it is |
//! |---|---|
//! | [`payload`] | bytes made from a seed, so that every byte can be checked without keeping any |
//! | [`client`] | thousands of kernel TCP clients in one process, each answer compared |
//! | [`echo_server`] | an ordinary kernel server, to try the clients on |
//! | [`exchange`] | the same small server twice: over XTCP, and over the kernel's TCP |
//! | [`machine`] | namespaces, veth pairs, a lossy wire, huge pages; each gone when its owner is |
//! | [`process`] | child processes that do not outlive the one that started them |
//! | [`capture`] | a capture of one's own and what it says about packets per exchange |
//! | [`judge`] | what `tshark` says of a capture, segment by segment |
//! | [`appliance`] | `xtcpd`, the dataplane and an application, started and stopped together |
//! | [`measure`] | what `xtcp-bench` measures |
//! | [`demo`] | `make demo` and `make run` |
#![forbid(unsafe_code)]

pub mod appliance;
pub mod capture;
pub mod client;
pub mod clock;
pub mod demo;
pub mod echo_server;
pub mod exchange;
pub mod judge;
pub mod machine;
pub mod measure;
pub mod payload;
pub mod process;

//! The control plane: configuration, supervision, pools and groups, and the operator's command line.

#![forbid(unsafe_code)]

pub mod config;

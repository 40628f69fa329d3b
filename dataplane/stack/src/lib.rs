//! The XTCP state machine, sans-IO: frames, commands and times in; frames, events and deadlines out.

#![no_std]
#![forbid(unsafe_code)]

pub mod config;
pub mod counters;
pub mod event;
pub mod handle;
pub mod time;
pub mod wire;
pub mod world;

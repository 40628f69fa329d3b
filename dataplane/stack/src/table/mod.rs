//! The tables: plain records addressed by index, in memory that was given.
//!
//! Index 0 of every table is never handed out, so that zeroed memory means "none" everywhere
//! and a table of millions need not be touched before it is used.

pub(crate) mod chunk;
pub(crate) mod flow;
pub(crate) mod narrow;
pub(crate) mod quota;
pub(crate) mod runs;
pub(crate) mod slots;
pub(crate) mod timer;

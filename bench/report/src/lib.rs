//! What measurements leave behind.
//!
//! | module | what it is |
//! |---|---|
//! | [`sample`] | a second, a step, percentiles: the records of a run |
//! | [`files`] | `.hgrm`, tagged `.hlog`, JSON and CSV of a run |
//! | [`plot`] | SVG charts |
//! | [`machine`] | on what it was measured |
//! | [`compare`] | two runs side by side |
#![forbid(unsafe_code)]

pub mod compare;
pub mod files;
pub mod machine;
pub mod plot;
pub mod sample;

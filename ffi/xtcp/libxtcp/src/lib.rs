//! The application library for C programs: `../include/xtcp.h` in `libxtcp.so` and `libxtcp.a`.
//!
//! The account behind the calls is [`library::numbered`]'s, in safe Rust. Here pointers become
//! slices ([`pointers`]), failures become numbers, and each thread finds its own pools
//! ([`thread`]). [`calls`] has the specification's functions, [`beyond`] the others.
//!
//! Nothing here panics for anything a C program can do: what is wrong is a negative errno value,
//! and a sentence from `xtcp_last_error`.

#![deny(
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::missing_safety_doc
)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod address;
pub mod beyond;
pub mod calls;
mod pointers;
mod setup;
#[cfg(test)]
mod tests;
mod thread;

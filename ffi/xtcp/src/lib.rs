//! The application library: pools, groups, accept, receive, send with acknowledgement, select.
//!
//! An application server has many clients that are idle nearly always. It sees *groups* (one
//! descriptor for many connections) and *connections*; what clients send it reads in place, and
//! **nothing is acknowledged before the application says so**. A client keeps what is not
//! acknowledged and sends it again, so a server that dies between taking a request and acting on it
//! loses nothing.
//!
//! ```no_run
//! use std::time::Duration;
//! use xtcp::{Acknowledge, Application, Attach, Event, GroupOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (application, mut inbox) = Application::attach(&Attach::new("echo"))?;
//! application.open_group(&GroupOptions {
//!     // Only answers acknowledge; but a client whose line comes in two halves waits for this.
//!     acknowledge: Acknowledge::ByApplication { deadline: Duration::from_millis(200) },
//!     ..GroupOptions::new("echo", 7)
//! })?;
//! while inbox.wait(None)? {
//!     let mut batch = inbox.receive()?;
//!     while let Some(event) = batch.next_event() {
//!         match event {
//!             Event::Acceptable(client) => drop(client.accept()?),
//!             Event::Request(mut request) => {
//!                 // Answer every complete line and acknowledge it with the same segment. What is
//!                 // left is let go of, and given again when more has come.
//!                 while let Some(line) = request.line() {
//!                     let answer = [line.as_ref(), b"\n"].concat();
//!                     if request.answer(answer.len(), &answer).is_err() {
//!                         break; // no room: the rest is given again when there is
//!                     }
//!                 }
//!             }
//!             Event::Finished(connection) => application.close(connection)?,
//!             _ => {}
//!         }
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # How to read this crate
//!
//! * [`Application`] sends, [`Inbox`] receives; one thread has both. [`Inbox::wait`] sleeps; a
//!   thread that has work makes no system call.
//! * [`Batch`] gives [`Event`]s one at a time; [`Request`] is one connection's bytes.
//! * [`Request::answer`] acknowledges and sends; [`Request::defer`] and [`Application::answer`] do
//!   so later.
//! * [`Application::transaction`] acknowledges and sends on several connections, all or nothing.
//! * [`Application::resumed`] tells a restarted server what it finds.
//! * [`GroupOptions`] says what a group is like; [`GroupOptions::unix`] makes one of local clients,
//!   on a UNIX socket; [`Application::drain_group`] brings one to its end at a limited rate.
//! * A thread may attach several times: each [`Application`] is a pool of its own. Their inboxes are
//!   slept on together through [`std::os::fd::AsFd`], see [`Inbox::arm`]. Threads that share the
//!   work attach once each; nothing of one can be moved to another.
//! * [`Error`] says that the appliance is gone or refused, [`SendError`] that one submission was
//!   not taken.
//!
//! | specification | here |
//! |---|---|
//! | `xtcp_initialize`, `xtcp_finalize` | [`Application::attach`], [`Application::detach`] |
//! | `xtcp_open_group`, `xtcp_close_group` | [`Application::open_group`], [`Application::close_group`] |
//! | `xtcp_accept` | [`Acceptable::accept`], or [`Inbox::accept`] |
//! | `xtcp_pars` | [`Application::describe`] |
//! | `xtcp_close` | [`Application::close`] |
//! | `xtcp_recv` | [`Inbox::receive`], [`Inbox::receive_from`] |
//! | `xtcp_send` with `ackd` | [`Request::answer`], [`Request::acknowledge`], [`Application::send`] |
//! | `xtcp_set`, `XTCP_SET` … | [`GroupSet`] |
//! | `xtcp_select` | [`Inbox::select`], [`Inbox::wait`] |
//!
//! (The specification is WO 02/091709; its Fig. 4 is the interface.)

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod application;
mod arena;
mod backlog;
mod clock;
mod control;
mod endpoint;
mod error;
mod group;
mod handle;
mod inbox;
mod lane;
mod local;
pub mod numbered;
mod request;
#[cfg(test)]
mod tests;
mod transaction;

pub use application::{Application, Attach, ResumedGroup};
pub use error::{Error, SendError};
pub use group::{
    Accept, Acknowledge, Congestion, Drain, Family, GroupOptions, KeepAlive, Manner, Notify,
};
pub use handle::{Connection, ConnectionInfo, Group, GroupSet, Ready};
pub use inbox::{Acceptable, Batch, CloseReason, Event, Inbox, RefusalReason};
pub use local::LocalPeer;
pub use request::{Deferred, Request};
pub use transaction::{Transaction, TransactionError};
pub use xtcp_ring::message::Refusal;

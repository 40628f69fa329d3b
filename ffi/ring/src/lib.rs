//! The contract between the dataplane, the control plane and applications: memory, rings, messages.
//!
//! Three processes meet here and none trusts another further than it must:
//!
//! * An **application** is as hostile as the network. The dataplane copies every entry and every
//!   byte out of the application's memory once, checks the copy and uses the copy ([`ring`],
//!   [`HostileArea`]). A position that cannot be is [`Corrupt`]: the liar is detached.
//! * The **dataplane** is trusted by applications: bytes it has given are not changed until they
//!   are acknowledged, so an application reads them in place ([`ReadOnlyMapping`]).
//! * The **control plane** makes all memory and hands it over ([`SharedMemory`], [`Seqpacket`]).
//!
//! # Memory
//!
//! ```text
//! SharedMemory::create(name, len, PageSize) -> io::Result<SharedMemory>   // sealed against resizing
//! SharedMemory::from_fd(OwnedFd, len)       -> io::Result<SharedMemory>   // refuses what could shrink
//! ExclusiveMapping::map(&SharedMemory)      -> io::Result<ExclusiveMapping>
//!     .into_static_bytes() -> &'static mut [u8]       .into_static_parts(n) -> Vec<&'static mut [u8]>
//!     StaticBytes::reclaim(&'static mut [u8]) -> Result<bool, NotMapped>  // true: was the last part
//! Mapping::writable(&SharedMemory) -> io::Result<Mapping>     Mapping::private(len)  // heap, for tests
//! ReadOnlyMapping::map(&SharedMemory) -> io::Result<ReadOnlyMapping>;  .bytes(at, len) -> Option<&[u8]>
//! ```
//!
//! # Endpoint
//!
//! One endpoint memory per application: a header page, then for each worker a submission ring, a
//! notice ring and an arena ([`EndpointLayout`]).
//!
//! ```text
//! EndpointLayout { workers, submissions, notices, arena_bytes }.total_bytes()
//! DataplaneChannel::open(&Mapping, &EndpointLayout, worker)   -> Result<DataplaneChannel, Unfit>
//!     .submissions: Consumer<Submission>   .notices: Producer<Notice>   .arena: HostileArea
//! ApplicationChannel::open(&Mapping, &EndpointLayout, worker) -> Result<ApplicationChannel, Unfit>
//!     .submissions: Producer<Submission>   .notices: Consumer<Notice>   .arena: ArenaWriter
//! Producer: room() -> Result<u32, Corrupt>, push(&T) -> Result<(), Full>, publish(), position(), consumed()
//! Consumer: pop() -> Result<Option<T>, Corrupt>, release()
//! bell::pair() -> (OwnedFd /* dataplane's end */, OwnedFd /* application's end */)
//! Ringer::open(&Mapping, OwnedFd).ring_if_parked()     Sleeper::open(&Mapping, OwnedFd).park(..)
//! ```
//!
//! # Messages
//!
//! [`message`] has the words, [`Seqpacket`] carries them (JSON over `SOCK_SEQPACKET`, file
//! descriptors beside them).

#![deny(unsafe_op_in_unsafe_fn)]

pub mod bell;
#[cfg(not(loom))]
pub mod channel;
pub mod layout;
pub mod memory;
pub mod message;
pub mod page;
pub mod ring;
pub mod session;
mod sync;
pub mod transport;

pub use bell::{Ringer, Sleeper, Woken};
#[cfg(not(loom))]
pub use channel::{ApplicationChannel, ArenaWriter, DataplaneChannel, HostileArea, OutOfArea};
pub use layout::{EndpointLayout, Notice, Submission, Unfit, worker_part};
pub use memory::{
    ExclusiveMapping, Mapping, NotMapped, ReadOnlyMapping, SharedMemory, StaticBytes,
};
pub use message::{Answer, Command, Reply, Request};
pub use page::PageSize;
pub use ring::{Consumer, Corrupt, Full, Producer};
pub use transport::{Listener, Seqpacket, TransportError};

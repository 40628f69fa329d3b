//! Owners in safe Rust for DPDK's objects: Eal, Port, RxQueue, TxQueue, Pool, Burst, Mbuf.
//!
//! # What cannot be written
//! * **A frame freed or used after it was sent.** An [`Mbuf`] is the only owner of its frame and
//!   cannot be cloned. [`TxQueue::send`] takes frames out of the [`Burst`] exactly when the device
//!   has taken them; what the device did not take stays in the burst, still owned.
//! * **An endless spin on a full ring.** `send` tries once and says how many went. There is no call
//!   that waits.
//! * **Two threads on one queue.** Queues are `Send`, not `Sync`, not `Clone`, and work on
//!   `&mut self`.
//! * **A device stopped under a worker.** [`PortControl::stop`] wants every queue back.
//! * **Memory that ends before its frames.** Every object holds the [`Eal`]; pools live until the
//!   last of them is gone, and EAL's memory is only given back when every frame has come home.
//!
//! The compiler refuses, each for one of these reasons:
//! ```compile_fail,E0382
//! fn used_after_it_was_given_away(burst: &mut dpdk::Burst, mbuf: dpdk::Mbuf) {
//!     let _ = burst.push(mbuf);
//!     mbuf.len();
//! }
//! ```
//! ```compile_fail,E0599
//! fn freed_twice(mbuf: dpdk::Mbuf) -> (dpdk::Mbuf, dpdk::Mbuf) {
//!     (mbuf.clone(), mbuf)
//! }
//! ```
//! ```compile_fail,E0277
//! fn shared_by_threads<T: Sync>() {}
//! shared_by_threads::<dpdk::TxQueue>();
//! ```
//! ```compile_fail,E0382
//! fn sent_on_a_stopped_device(mut port: dpdk::StartedPort, burst: &mut dpdk::Burst) {
//!     let stopped = port.control.stop(port.rx, port.tx);
//!     port.tx[0].send(burst);
//! }
//! ```
//!
//! # Signatures
//! ```text
//! EalArgs::parse(&[impl AsRef<str>]) -> Result<EalArgs, EalArgError>     .cores() .line() .file_prefix() ...
//! Eal::init(&EalArgs) -> Result<Eal, EalError>                           once per process; Clone, Send, Sync
//!     .register_thread() -> Result<RegisteredThread, EalError>           in every worker, after pin_to_core
//!     .tsc_hz() .has_hugepages() .close() -> Result<(), NotClosed>
//! pin_to_core(core) -> io::Result<()>    allowed_cores() -> io::Result<Vec<u16>>
//!
//! Pool::create(&Eal, name, count, cache, data_room) -> Result<Pool, PoolError>   Clone, Send, Sync
//!     .alloc() -> Option<Mbuf>   .alloc_frame(len) -> Option<Mbuf>   .alloc_into(&mut Burst, n) -> usize   .available() .in_use() .count()
//! Mbuf  .bytes() .bytes_mut() .len() .set_len(n) .room() .is_linear() .linearize() .chain(Mbuf)
//!       .copy_to(&mut [u8]) -> Option<usize>   .copy_from(&[u8]) -> bool
//!       .checksum() -> RxChecksum   .complete_tcp_checksum(l2, l3, v6)   .rss_hash() -> Option<u32>
//! Burst::new()   .push(Mbuf) .pop() .iter() .iter_mut() .drain() .append(&mut Burst) .len() .room() .clear()
//!
//! Port::all(&Eal) -> Vec<u16>   Port::open(&Eal, id) -> Result<Port, PortError>
//!     .info() -> Result<PortInfo, PortError>
//!     .configure(&PortConfig) -> Result<StartedPort, PortError>
//! StartedPort { rx: Vec<RxQueue>, tx: Vec<TxQueue>, control: PortControl }
//!     control .stats() .clear_stats() .link() .mac() .info() .set_promiscuous(b) .set_all_multicast(b)
//!             .stop(rx, tx) -> Result<Port, StopError>
//! RxQueue .receive(&mut Burst) -> usize  .receive_at_most(&mut Burst, n) -> usize
//! TxQueue .send(&mut Burst) -> usize
//!
//! MbufRing::create(&Eal, name, capacity) -> Result<(MbufSender, MbufReceiver), RingError>
//!     sender .send(&mut Burst) -> usize     receiver .receive(&mut Burst) -> usize
//!
//! DRIVERS, LEFT_OUT: the bill of hardware
//! ```
//!
//! # A worker's loop
//! ```no_run
//! # fn work(mut rx: dpdk::RxQueue, mut tx: dpdk::TxQueue) {
//! let mut burst = dpdk::Burst::new();
//! loop {
//!     rx.receive(&mut burst);
//!     for mbuf in burst.iter_mut() {
//!         mbuf.bytes_mut().rotate_left(6);
//!     }
//!     tx.send(&mut burst);
//!     burst.clear(); // what the device had no room for is dropped, knowingly
//! }
//! # }
//! ```
#![deny(unsafe_op_in_unsafe_fn)]

mod args;
mod burst;
mod eal;
mod errno;
mod mbuf;
mod pool;
mod port;
mod queue;
mod ring;

pub use args::{EalArgError, EalArgs};
pub use burst::{BURST, Burst};
pub use dpdk_sys::drivers::{DRIVERS, Driver, Kind, LEFT_OUT, LeftOut};
pub use eal::{Eal, EalError, NotClosed, RegisteredThread, allowed_cores, pin_to_core};
pub use errno::Errno;
pub use mbuf::{Mbuf, RxChecksum, TooLong};
pub use pool::{Pool, PoolError};
pub use port::{
    Link, Port, PortConfig, PortControl, PortError, PortInfo, PortStats, RSS_KEY_MAX, StartedPort,
    StopError,
};
pub use queue::{RxQueue, TxQueue};
pub use ring::{MbufReceiver, MbufRing, MbufSender, RingError};

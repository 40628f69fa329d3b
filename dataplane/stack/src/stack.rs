//! One worker's stack: its tables, and what moves them on.

use core::net::IpAddr;

use crate::buffer::Buffer;
use crate::config::{Config, TcpConfig, Throttle};
use crate::counters::Counters;
use crate::frames_out::Egress;
use crate::group::{Figures, Group, Pool};
use crate::memory::{Carver, MemoryTooSmall, bytes_of};
use crate::net::reassembly::{Datagram, Reassembly};
use crate::net::{Interface, NeighbourRecord, ParkedFrame};
use crate::queues::Queue;
use crate::rations::{CALLERS, RATIONS, Rations};
use crate::secret::Secret;
use crate::shares::Shares;
use crate::sweep::Sweep;
use crate::table::chunk::{Chunk, Chunks};
use crate::table::flow::{Bucket, FlowTable, buckets_for};
use crate::table::narrow::{NARROW_MAX, Narrow, NarrowPaths};
use crate::table::quota::Quota;
use crate::table::slots::{FreeList, Linked, NONE};
use crate::table::timer::Wheel;
use crate::tcp::Tcb;
use crate::tcp::record::{Active, Connection, DOUBTED, V6};
use crate::time::Instant;
use crate::wire::ethernet;
use crate::world::Transmit;

/// Pools a worker can have: an application server has one or a few.
pub const POOLS_MAX: usize = 64;
/// Frames held for neighbours that have not answered yet, in all.
const PARKED: usize = 64;
/// One list head per port.
const PORTS: usize = 1 << 16;

/// One worker's whole state. See the crate's page for how it is driven.
pub struct Stack<'m> {
    pub(crate) worker: u8,
    pub(crate) mtu: u16,
    pub(crate) tcp: TcpConfig,
    pub(crate) throttle: Throttle,
    pub(crate) secret: Secret,
    pub(crate) now: Instant,
    pub(crate) interface: Interface<'m>,
    pub(crate) reassembly: Reassembly<'m>,
    pub(crate) counters: Counters,

    pub(crate) flows: FlowTable<'m>,
    pub(crate) connections: &'m mut [Connection],
    pub(crate) connections_free: FreeList,
    pub(crate) addresses_v6: &'m mut [AddressV6],
    pub(crate) addresses_v6_free: FreeList,
    pub(crate) actives: &'m mut [Active],
    pub(crate) actives_free: FreeList,
    pub(crate) timers: Wheel<'m>,
    pub(crate) chunks: Chunks<'m>,
    pub(crate) paths: NarrowPaths<'m>,
    pub(crate) rations: Rations<'m>,
    /// Rations of those who call.
    pub(crate) callers: Rations<'m>,
    pub(crate) transmit: Buffer<'m, POOLS_MAX>,
    pub(crate) shares: Shares,

    pub(crate) pools: [Option<Pool<'m>>; POOLS_MAX],
    /// The receive buffer of connections whose pool is closed: nothing fits in it.
    pub(crate) nowhere: Buffer<'m>,
    /// Their figures, which nobody looks at.
    pub(crate) nobodys_figures: Figures,
    /// Connections of all pools that wait to be told of room.
    pub(crate) waiting: u32,
    /// The last one is nobody's and never open: its connections have an end, but no owner.
    pub(crate) groups: &'m mut [Group],
    /// Index plus 1 of the first group on each port.
    pub(crate) ports: &'m mut [u16],
    pub(crate) queues: &'m mut [Queue],
    pub(crate) sweep: Sweep,
    pub(crate) out: List,
    pub(crate) time_wait: List,
    pub(crate) time_wait_count: u32,
    pub(crate) half_open: u32,
    /// Until then a cookie may come back.
    pub(crate) cookies_until: Instant,
    /// Lots drawn so far.
    pub(crate) draws: u64,
    pub(crate) next_port: u16,
    /// Where a frame is written that must wait for its neighbour.
    pub(crate) scratch: &'m mut [u8],
}

/// First and last of a list of records by index.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
)]
#[repr(C)]
pub(crate) struct List {
    pub(crate) head: u32,
    pub(crate) tail: u32,
}

/// A remote IPv6 address, beside the connection's one cache line.
#[derive(
    Clone,
    Copy,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
)]
#[repr(C)]
pub(crate) struct AddressV6 {
    words: [u32; 4],
}

impl AddressV6 {
    pub(crate) fn new(ip: core::net::Ipv6Addr) -> Self {
        let bits = ip.to_bits();
        let word = |shift: u32| (bits >> shift & 0xffff_ffff) as u32;
        Self { words: [word(96), word(64), word(32), word(0)] }
    }

    pub(crate) fn ip(self) -> core::net::Ipv6Addr {
        let bits = self.words.iter().fold(0_u128, |bits, &word| bits << 32 | u128::from(word));
        core::net::Ipv6Addr::from_bits(bits)
    }
}

impl Linked for AddressV6 {
    fn link(&mut self) -> &mut u32 {
        &mut self.words[0]
    }
}

impl<'m> Stack<'m> {
    /// Bytes of table memory one worker needs with this configuration, without the transmit
    /// buffer and the pools' receive buffers.
    #[must_use]
    pub fn memory_needed(config: &Config) -> usize {
        let connections = config.connections_max as usize + 1;
        bytes_of::<Bucket>(buckets_for(connections))
            + bytes_of::<Connection>(connections)
            + bytes_of::<AddressV6>(config.ipv6_connections_max as usize + 1)
            + bytes_of::<Active>(config.active_max as usize + 1)
            + bytes_of::<Chunk>(config.chunks_max as usize + 1)
            + bytes_of::<Narrow>(NARROW_MAX)
            + bytes_of::<u32>(RATIONS)
            + bytes_of::<u32>(CALLERS)
            + bytes_of::<NeighbourRecord>(config.neighbours_max as usize)
            + bytes_of::<ParkedFrame>(PARKED)
            + bytes_of::<Datagram>(usize::from(config.net.reassemblies_max))
            + bytes_of::<u8>(pieces_bytes(config))
            + bytes_of::<u32>(Wheel::SLOTS)
            + bytes_of::<Group>(config.groups_max as usize + 1)
            + bytes_of::<u16>(PORTS)
            + bytes_of::<Queue>(config.queues_max as usize)
            + bytes_of::<u8>(scratch_bytes(config))
    }

    /// A stack with nothing in it. `tables` is zeroed memory of at least
    /// [`Self::memory_needed`] bytes; `transmit` becomes this worker's part of the shared
    /// transmit buffer, aligned to 64 bytes.
    ///
    /// # Errors
    /// The memory is too small, and by how much.
    pub fn new(
        config: &Config,
        tables: &'m mut [u8],
        transmit: &'m mut [u8],
        now: Instant,
    ) -> Result<Self, MemoryTooSmall> {
        let connections = config.connections_max as usize + 1;
        let mut carver = Carver::new(tables);
        let secret = Secret::new(&config.secret);
        let salt = (secret.lot(u64::MAX, 0) & 0xffff_ffff) as u32;
        let neighbours = carver.take(config.neighbours_max as usize)?;
        let parked = carver.take(PARKED)?;
        let datagrams = carver.take(usize::from(config.net.reassemblies_max))?;
        let pieces = carver.take(pieces_bytes(config))?;
        let stack = Self {
            worker: config.worker,
            mtu: config.mtu,
            tcp: config.tcp,
            throttle: config.throttle,
            secret,
            now,
            interface: Interface::new(config, neighbours, parked),
            reassembly: Reassembly::new(datagrams, pieces, config.mtu),
            counters: Counters::new(),
            flows: FlowTable::new(carver.take(buckets_for(connections))?),
            connections: carver.take(connections)?,
            connections_free: FreeList::new(),
            addresses_v6: carver.take(config.ipv6_connections_max as usize + 1)?,
            addresses_v6_free: FreeList::new(),
            actives: carver.take(config.active_max as usize + 1)?,
            actives_free: FreeList::new(),
            timers: Wheel::new(carver.take(Wheel::SLOTS)?, now),
            chunks: Chunks::new(carver.take(config.chunks_max as usize + 1)?, salt),
            paths: NarrowPaths::new(carver.take(NARROW_MAX)?),
            rations: Rations::new(carver.take(RATIONS)?),
            callers: Rations::new(carver.take(CALLERS)?),
            transmit: Buffer::new(transmit),
            shares: Shares {
                connections: Quota::new(config.connections_max),
                ipv6_addresses: Quota::new(config.ipv6_connections_max),
                half_open: Quota::new(config.tcp.half_open_max),
                actives: Quota::new(config.active_max),
            },
            pools: [const { None }; POOLS_MAX],
            nowhere: Buffer::new(&mut []),
            nobodys_figures: Figures::default(),
            waiting: 0,
            groups: carver.take(config.groups_max as usize + 1)?,
            ports: carver.take(PORTS)?,
            queues: carver.take(config.queues_max as usize)?,
            sweep: Sweep::new(),
            out: List::default(),
            time_wait: List::default(),
            time_wait_count: 0,
            half_open: 0,
            cookies_until: Instant::ZERO,
            draws: 0,
            next_port: 0,
            scratch: carver.take(scratch_bytes(config))?,
        };
        if let Some(nobodys) = stack.groups.last_mut() {
            nobodys.make_nobodys();
        }
        Ok(stack)
    }

    /// Serves every deadline that has passed.
    pub fn on_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some(active) = self.timers.expired(self.actives, now) {
            let index = self.actives[active as usize].connection;
            self.tcb(index, active).on_timeout();
            self.heed_doubt(index, active);
            self.settle(index);
        }
        self.expire_time_wait();
        self.widen_paths();
        self.sweep();
    }

    /// RFC 9293 MUST-20 (b): a connection at R1 has its neighbour looked at again.
    fn heed_doubt(&mut self, index: u32, active: u32) {
        let act = &mut self.actives[active as usize];
        if act.has(DOUBTED) {
            act.clear(DOUBTED);
            let remote = self.remote_of(&self.connections[index as usize]);
            self.interface.doubt(remote);
        }
    }

    /// When [`Self::on_timeout`] next has something to do; `None` while nothing is under way.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let time_wait = self.time_wait_deadline();
        let (net, room) = (self.interface.poll_timeout(), self.room_deadline());
        let times = [self.timers.next(), time_wait, self.sweep.timeout(), net, room];
        times.into_iter().flatten().min()
    }

    /// Whether this worker answers ARP requests, neighbour solicitations and echo requests; of
    /// several workers on one port only one should.
    pub fn set_answers_neighbours(&mut self, answers: bool) {
        self.interface.set_answers(answers);
    }

    /// One connection at work: its records and the tables it may touch.
    #[inline(always)]
    pub(crate) fn tcb(&mut self, index: u32, active: u32) -> Tcb<'_, 'm> {
        self.tcb_and_egress(index, active).0
    }

    /// As [`Self::tcb`], and what its segments leave by.
    #[inline(always)]
    pub(crate) fn tcb_and_egress(
        &mut self,
        index: u32,
        active: u32,
    ) -> (Tcb<'_, 'm>, Egress<'_, 'm>) {
        let rec = &mut self.connections[index as usize];
        let group = &mut self.groups[usize::from(rec.group)];
        let (receive, figures) = match self.pools.get_mut(usize::from(group.pool)) {
            Some(Some(pool)) if group.is_open() => (&mut pool.receive, &mut pool.figures),
            _ => (&mut self.nowhere, &mut self.nobodys_figures),
        };
        let tcb = Tcb {
            mtu: self.mtu,
            rec,
            act: &mut self.actives[active as usize],
            group,
            receive,
            figures,
            transmit: &mut self.transmit,
            chunks: &mut self.chunks,
            paths: &mut self.paths,
            counters: &mut self.counters,
            tcp: &self.tcp,
            throttle: &self.throttle,
            now: self.now,
        };
        let egress = Egress {
            interface: &mut self.interface,
            addresses_v6: self.addresses_v6,
            scratch: self.scratch,
        };
        (tcb, egress)
    }

    /// An own address by its place.
    pub(crate) fn local_address(&self, local: u8) -> IpAddr {
        self.interface.source(local)
    }

    /// Tells the link where our addresses are: after a start, or when the link came up.
    pub fn announce(&mut self, out: &mut impl Transmit) {
        self.interface.announce(out, &mut self.counters);
    }

    /// The address of a connection's peer.
    #[inline]
    pub(crate) fn remote_of(&self, rec: &Connection) -> IpAddr {
        remote_in(self.addresses_v6, rec)
    }

    /// Where a connection stands in the flow table.
    pub(crate) fn hash_of(&self, rec: &Connection) -> u64 {
        let ports = u32::from(rec.remote_port) << 16 | u32::from(rec.local_port);
        self.secret.flow_hash(self.remote_of(rec), ports, rec.local)
    }
}

impl core::fmt::Debug for Stack<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stack")
            .field("worker", &self.worker)
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

impl List {
    pub(crate) const fn is_empty(self) -> bool {
        self.head == NONE
    }
}

/// The address of a connection's peer.
#[inline]
pub(crate) fn remote_in(addresses_v6: &[AddressV6], rec: &Connection) -> IpAddr {
    if rec.has(V6) {
        IpAddr::V6(addresses_v6[rec.remote as usize].ip())
    } else {
        IpAddr::V4(core::net::Ipv4Addr::from_bits(rec.remote))
    }
}

/// Payload a segment without options carries on our link.
pub(crate) const fn link_mss(mtu: u16, v6: bool) -> u16 {
    mtu.saturating_sub(if v6 { 60 } else { 40 })
}

fn scratch_bytes(config: &Config) -> usize {
    usize::from(config.mtu) + ethernet::HEADER + ethernet::TAG
}

/// What packets in pieces lie in.
fn pieces_bytes(config: &Config) -> usize {
    usize::from(config.net.reassemblies_max) * Reassembly::capacity_for(config.mtu)
}

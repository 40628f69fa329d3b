//! What operators may look at.

use core::net::SocketAddr;

use crate::counters::Counters;
use crate::error::Misuse;
use crate::group::{GroupInfo, Pool, PoolInfo};
use crate::handle::{Cd, Gd, PoolId, QueueId};
use crate::stack::Stack;
use crate::table::slots::NONE;
use crate::tcp::record::{LISTED, SOFT_ERROR};
use crate::tcp::state::State;

/// What is in use of one worker's tables, and how much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Connection records, those in TIME-WAIT too.
    pub connections: u32,
    /// All connection records.
    pub connections_max: u32,
    /// Connections in TIME-WAIT.
    pub time_wait: u32,
    /// Handshakes under way.
    pub half_open: u32,
    /// Handshakes that may be under way.
    pub half_open_max: u32,
    /// Records of remote IPv6 addresses, those in TIME-WAIT too.
    pub ipv6_addresses: u32,
    /// All of them.
    pub ipv6_addresses_max: u32,
    /// Active records: connections with something under way.
    pub active: u32,
    /// All active records.
    pub active_max: u32,
    /// Chunks, for receiving and sending.
    pub chunks: u32,
    /// All chunks.
    pub chunks_max: u32,
    /// Bytes of the transmit buffer that payload can take.
    pub transmit_bytes: usize,
    /// Bytes of its blocks in use.
    pub transmit_used: usize,
    /// Bytes of payload in them.
    pub transmit_payload: usize,
    /// Pools that are open.
    pub pools: u32,
    /// Groups that are open.
    pub groups: u32,
}

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its handle.
    pub connection: Cd,
    /// Its group.
    pub group: Gd,
    /// The client.
    pub remote: SocketAddr,
    /// Where it connected to.
    pub local: SocketAddr,
    /// Its state.
    pub state: State,
    /// Whether it has an active record.
    pub active: bool,
    /// Bytes received and not committed.
    pub unread: u32,
    /// Bytes queued and not acknowledged.
    pub unsent: u32,
    /// Smoothed round-trip time in microseconds; 0 before the first measurement.
    pub srtt_us: u32,
    /// Congestion window in bytes.
    pub cwnd: u32,
    /// Payload of a full segment, before options.
    pub mss: u16,
    /// What ICMP said last of what is in flight (RFC 9293 MUST-47).
    pub soft_error: Option<SoftError>,
}

/// An ICMP error that ends no connection, but may explain why one does not get on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftError {
    /// The message's type: ICMP's or ICMPv6's, as the connection's address.
    pub kind: u8,
    /// Its code.
    pub code: u8,
}

impl SoftError {
    const fn from_record(bits: u16) -> Self {
        let [kind, code] = bits.to_be_bytes();
        Self { kind, code }
    }
}

impl Stack<'_> {
    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many records of buffered text and of flights were looked at so far: what a segment costs
    /// whatever the machine. Counted in debug builds only.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.chunks.steps()
    }

    /// What is in use.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let all = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        Usage {
            connections: self.connections_free.in_use(),
            connections_max: self.shares.connections.total(),
            time_wait: self.time_wait_count,
            half_open: self.half_open,
            half_open_max: self.shares.half_open.total(),
            ipv6_addresses: self.addresses_v6_free.in_use(),
            ipv6_addresses_max: self.shares.ipv6_addresses.total(),
            active: self.actives_free.in_use(),
            active_max: self.shares.actives.total(),
            chunks: self.chunks.quota().in_use(),
            chunks_max: self.chunks.quota().total(),
            transmit_bytes: self.transmit.capacity(),
            transmit_used: self.transmit.in_use(),
            transmit_payload: self.transmit.all_payload(),
            pools: all(self.pools.iter().flatten().count()),
            groups: all(self.groups.iter().filter(|group| group.is_open()).count()),
        }
    }

    /// The queue a group's events go to.
    #[must_use]
    pub fn group_queue(&self, group: Gd) -> Option<QueueId> {
        let index = self.group_index(group).ok()?;
        Some(QueueId(self.groups[usize::from(index)].queue))
    }

    /// Bytes of a [`crate::Event::Data`], to be read until they are committed.
    #[must_use]
    pub fn received(&self, pool: PoolId, at: u64, len: u16) -> &[u8] {
        let pool = self.pools.get(usize::from(pool.0)).and_then(Option::as_ref);
        pool.and_then(|pool| pool.receive.at(at, len)).unwrap_or_default()
    }

    /// The pools.
    pub fn pools(&self) -> impl Iterator<Item = PoolInfo> + '_ {
        self.pools
            .iter()
            .enumerate()
            .filter_map(|(at, pool)| Some(self.pool_info(at, pool.as_ref()?)))
    }

    fn pool_info(&self, at: usize, pool: &Pool<'_>) -> PoolInfo {
        let (shares, chunks) = (&self.shares, self.chunks.quota());
        PoolInfo {
            pool: Self::pool_id(at),
            level: self.level_of(at),
            connections: shares.connections.used(at),
            connections_most: shares.connections.most(),
            half_open: shares.half_open.used(at),
            half_open_most: shares.half_open.most(),
            ipv6_addresses: shares.ipv6_addresses.used(at),
            ipv6_addresses_most: shares.ipv6_addresses.most(),
            active: shares.actives.used(at),
            active_most: shares.actives.most(),
            chunks: chunks.used(at),
            chunks_most: chunks.most(),
            receive_bytes: pool.receive.capacity(),
            receive_used: pool.receive.in_use(),
            receive_payload: pool.receive.all_payload(),
            receive_free: pool.receive.room(at),
            transmit_used: self.transmit.used(at),
            transmit_payload: self.transmit.payload(at),
            transmit_most: self.transmit.most(),
            transmit_free: self.transmit.room(at),
            waiting: pool.figures.waiting_count,
            text_hidden: pool.figures.text_hidden,
            acks_withheld: pool.figures.acks_withheld,
            windows_shrunk: pool.figures.windows_shrunk,
        }
    }

    /// The open groups.
    pub fn groups(&self) -> impl Iterator<Item = GroupInfo> + '_ {
        self.groups.iter().enumerate().filter(|(_, group)| group.is_open()).map(|(at, group)| {
            GroupInfo {
                group: group.gd(u16::try_from(at).unwrap_or(u16::MAX)),
                pool: PoolId(group.pool),
                queue: QueueId(group.queue),
                port: group.port,
                priority: u8::try_from(group.priority()).unwrap_or(u8::MAX),
                draining: group.is_draining(),
                connections: group.connections,
                counts: group.counts,
            }
        })
    }

    /// One connection.
    ///
    /// # Errors
    /// [`Misuse::StaleConnection`].
    pub fn connection(&self, connection: Cd) -> Result<ConnectionInfo, Misuse> {
        self.connection_index(connection).map(|index| self.info(index))
    }

    /// Every connection, those in TIME-WAIT too.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionInfo> + '_ {
        (NONE + 1..self.connections_free.high_water())
            .filter(|&index| self.connections[index as usize].state() != State::Closed)
            .map(|index| self.info(index))
    }

    fn info(&self, index: u32) -> ConnectionInfo {
        let rec = &self.connections[index as usize];
        let tuple = self.tuple_of(rec);
        let active = if rec.has(LISTED) { None } else { rec.active() };
        let mut info = ConnectionInfo {
            connection: self.cd(index),
            group: self.groups[usize::from(rec.group)].gd(rec.group),
            remote: SocketAddr::new(tuple.remote, tuple.remote_port),
            local: SocketAddr::new(tuple.local, tuple.local_port),
            state: rec.state(),
            active: active.is_some(),
            unread: 0,
            unsent: 0,
            srtt_us: u32::from(rec.srtt) << 8,
            cwnd: u32::from(rec.cwnd) * u32::from(rec.mss),
            mss: rec.mss,
            soft_error: None,
        };
        if let Some(active) = active {
            let act = &self.actives[active as usize];
            info.unread = rec.rcv_nxt.since(act.rcv_committed);
            info.unsent = act.snd_end.since(rec.snd_una);
            info.srtt_us = act.srtt_us;
            info.cwnd = act.cwnd;
            info.soft_error = act.has(SOFT_ERROR).then(|| SoftError::from_record(act.soft_error));
        }
        info
    }
}

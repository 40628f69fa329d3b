//! Connection pools and connection groups as the stack keeps them.

use core::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::buffer::Buffer;
use crate::config::{Accept, Acknowledge, Family, GroupConfig};
use crate::handle::{Gd, PoolId, QueueId};
use crate::time::Instant;

/// A connection pool: a receive buffer for whatever connections its groups have.
pub(crate) struct Pool<'m> {
    pub(crate) receive: Buffer<'m>,
}

/// A connection group, as a plain record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Group {
    pub(crate) generation: u16,
    pub(crate) port: u16,
    pub(crate) pool: u16,
    pub(crate) queue: u16,
    /// Index of the next group on the same port, plus 1; 0 ends the list.
    pub(crate) next_on_port: u16,
    family: u8,
    /// [`OPEN`] and its siblings below.
    flags: u8,
    pub(crate) window_max: u32,
    /// 0: connections are accepted by the stack.
    accept_ms: u32,
    /// 0: never.
    deadline_ms: u32,
    pub(crate) connections: u32,
    reserved: u32,
    /// Connections accepted since the group was opened.
    pub(crate) accepted: u64,
    /// Stream bytes received in order, and queued for sending.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// The largest window a TCP header can tell (RFC 7323 section 2.3).
const WINDOW_MAX: u32 = 1 << 30;

const OPEN: u8 = 1;
const ACKNOWLEDGE_ON_RECEIVE: u8 = 2;
const NAGLE: u8 = 4;

impl Group {
    /// Fills the record; its generation goes on.
    pub(crate) fn open(&mut self, pool: PoolId, queue: QueueId, config: &GroupConfig) {
        let mut flags = OPEN;
        let (accept_ms, deadline_ms);
        match config.accept {
            Accept::ByApplication { timeout } => accept_ms = at_least_1_ms(timeout),
            Accept::Automatic => accept_ms = 0,
        }
        match config.acknowledge {
            Acknowledge::ByApplication { deadline } if deadline.is_zero() => deadline_ms = 0,
            Acknowledge::ByApplication { deadline } => deadline_ms = at_least_1_ms(deadline),
            Acknowledge::OnReceive => {
                deadline_ms = 0;
                flags |= ACKNOWLEDGE_ON_RECEIVE;
            }
        }
        if config.nagle {
            flags |= NAGLE;
        }
        *self = Self {
            generation: (self.generation % u16::MAX) + 1,
            port: config.port,
            pool: pool.0,
            queue: queue.0,
            next_on_port: 0,
            family: config.family as u8,
            flags,
            window_max: config.window_max.clamp(1, WINDOW_MAX),
            accept_ms,
            deadline_ms,
            connections: 0,
            reserved: 0,
            accepted: 0,
            bytes_in: 0,
            bytes_out: 0,
        };
    }

    /// The group of connections without an owner.
    pub(crate) const fn make_nobodys(&mut self) {
        self.pool = u16::MAX;
        self.window_max = 1;
    }

    pub(crate) const fn close(&mut self) {
        self.flags = 0;
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.flags & OPEN != 0
    }

    pub(crate) const fn gd(&self, index: u16) -> Gd {
        Gd::new(index, self.generation)
    }

    /// Whether it listens on addresses of this family.
    pub(crate) const fn takes(&self, v6: bool) -> bool {
        self.family == Family::Dual as u8 || (self.family == Family::V6 as u8) == v6
    }

    /// Until when a SYN that arrives now waits for the application; `None`: it need not wait.
    pub(crate) fn accept_by(&self, now: Instant) -> Option<Instant> {
        (self.accept_ms != 0).then(|| now + Duration::from_millis(self.accept_ms.into()))
    }

    pub(crate) const fn acknowledges_on_receive(&self) -> bool {
        self.flags & ACKNOWLEDGE_ON_RECEIVE != 0
    }

    /// When the stack acknowledges by itself what arrives now.
    pub(crate) fn acknowledge_by(&self, now: Instant) -> Option<Instant> {
        (self.deadline_ms != 0).then(|| now + Duration::from_millis(self.deadline_ms.into()))
    }

    pub(crate) const fn nagle(&self) -> bool {
        self.flags & NAGLE != 0
    }
}

fn at_least_1_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// A pool's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolInfo {
    /// Its number.
    pub pool: PoolId,
    /// Its connections.
    pub connections: u32,
    /// Bytes of its receive buffer that payload can take.
    pub receive_bytes: usize,
    /// Bytes of the blocks in use.
    pub receive_used: usize,
}

/// A group's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its handle.
    pub group: Gd,
    /// Its pool.
    pub pool: PoolId,
    /// The queue its events go to.
    pub queue: QueueId,
    /// Its port.
    pub port: u16,
    /// Its connections.
    pub connections: u32,
    /// Connections accepted since it was opened.
    pub accepted: u64,
    /// Stream bytes received in order.
    pub bytes_in: u64,
    /// Stream bytes queued for sending.
    pub bytes_out: u64,
}

//! Connection pools and connection groups as the stack keeps them.

use core::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::buffer::Buffer;
use crate::config::{Accept, Acknowledge, Congestion, Family, GroupConfig, Manner, PRIORITIES};
use crate::group_counts::GroupCounts;
use crate::handle::{Gd, PoolId, QueueId};
use crate::stack::List;
use crate::time::Instant;

/// A connection pool: a receive buffer for whatever connections its groups have.
pub(crate) struct Pool<'m> {
    pub(crate) receive: Buffer<'m>,
    pub(crate) figures: Figures,
}

/// What is counted of a pool, and who waits for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) text_hidden: u64,
    pub(crate) acks_withheld: u64,
    pub(crate) windows_shrunk: u64,
    /// Connections that wait until the pool's buffers are less scarce.
    pub(crate) waiting: List,
    pub(crate) waiting_count: u32,
    /// Connections that were ended and wait for an active record.
    pub(crate) ends_untold: u32,
}

impl<'m> Pool<'m> {
    /// A pool with this receive buffer. Below `scarce` percent free something is done.
    pub(crate) fn new(receive: &'m mut [u8], scarce: u8) -> Self {
        let mut receive = Buffer::new(receive);
        receive.share(&[true], 0, scarce);
        Self { receive, figures: Figures::default() }
    }
}

/// A connection group, as a plain record: what was chosen in its first line, what is counted for
/// every segment in its second.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub(crate) struct Group {
    pub(crate) generation: u16,
    pub(crate) port: u16,
    pub(crate) pool: u16,
    pub(crate) queue: u16,
    /// Index of the next group on the same port, plus 1; 0 ends the list.
    pub(crate) next_on_port: u16,
    /// Bit n: it listens on the nth own address. 0: on all of its family.
    addresses: u16,
    family: u8,
    /// [`OPEN`] and its siblings below.
    flags: u8,
    weight: u8,
    priority: u8,
    pub(crate) window_max: u32,
    /// 0: no limit.
    pub(crate) hold_limit: u32,
    /// 0: connections are accepted by the stack.
    accept_ms: u32,
    /// 0: never.
    deadline_ms: u32,
    /// 0: the stack's.
    user_timeout_ms: u32,
    /// 0: connections may be idle for ever.
    pub(crate) idle_timeout_ms: u32,
    /// 0: peers are not asked.
    pub(crate) keep_idle_ms: u32,
    keep_interval_ms: u32,
    pub(crate) connections: u32,
    drain_per_second: u32,
    traffic_class: u8,
    pub(crate) hop_limit: u8,
    pub(crate) keep_probes: u8,
    /// [`Manner`], as a number.
    drain_manner: u8,
    /// Idle times are measured in units of so many powers of two of a millisecond.
    pub(crate) idle_shift: u8,
    reserved: [u8; 3],
    pub(crate) counts: GroupCounts,
    /// When the next connection may be ended, in nanoseconds, if it drains.
    drain_from: u64,
    reserved_too: [u64; 4],
}

const _: () = assert!(size_of::<Group>() == 256);

/// The largest window a TCP header can tell (RFC 7323 section 2.3).
const WINDOW_MAX: u32 = 1 << 30;

/// Questions below this would take one lost answer for proof (RFC 9293 MUST-29).
const PROBES_MIN: u8 = 2;

/// Half the circle of the milliseconds a connection record keeps: 24 days.
const WATCHED_MS_MAX: u32 = 1 << 31;

/// A drain that was kept from ending connections catches up by no more than this.
const DRAIN_CREDIT: Duration = Duration::from_millis(10);

const OPEN: u8 = 1;
const ACKNOWLEDGE_ON_RECEIVE: u8 = 2;
const NAGLE: u8 = 4;
const DRAINING: u8 = 8;
/// Its last connection is gone while it drains.
const DRAINED: u8 = 16;
/// And the application is to be told.
const TELL_DRAINED: u8 = 32;
const CUBIC: u8 = 64;

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
            Acknowledge::ByApplication { deadline } => deadline_ms = ms_if_any(deadline),
            Acknowledge::OnReceive => {
                deadline_ms = 0;
                flags |= ACKNOWLEDGE_ON_RECEIVE;
            }
        }
        if config.nagle {
            flags |= NAGLE;
        }
        if config.congestion == Congestion::Cubic {
            flags |= CUBIC;
        }
        let idle_timeout_ms = ms_if_any(config.idle_timeout).min(WATCHED_MS_MAX);
        let (keep_idle_ms, keep_interval_ms, keep_probes) = match config.keep_alive {
            Some(keep) => (
                at_least_1_ms(keep.idle).min(WATCHED_MS_MAX),
                at_least_1_ms(keep.interval).min(WATCHED_MS_MAX),
                keep.probes.max(PROBES_MIN),
            ),
            None => (0, 0, 0),
        };
        *self = Self {
            generation: (self.generation % u16::MAX) + 1,
            port: config.port,
            pool: pool.0,
            queue: queue.0,
            next_on_port: 0,
            addresses: config.addresses,
            family: config.family as u8,
            flags,
            weight: config.weight.max(1),
            priority: config.priority.min(PRIORITIES - 1),
            window_max: config.window_max.clamp(1, WINDOW_MAX),
            hold_limit: config.hold_limit,
            accept_ms,
            deadline_ms,
            user_timeout_ms: ms_if_any(config.user_timeout),
            idle_timeout_ms,
            keep_idle_ms,
            keep_interval_ms,
            connections: 0,
            drain_per_second: 0,
            traffic_class: config.traffic_class,
            hop_limit: config.hop_limit.max(1),
            keep_probes,
            drain_manner: 0,
            idle_shift: idle_shift(idle_timeout_ms),
            reserved: [0; 3],
            counts: GroupCounts::default(),
            drain_from: 0,
            reserved_too: [0; 4],
        };
    }

    /// The group of connections without an owner.
    pub(crate) fn make_nobodys(&mut self) {
        self.pool = u16::MAX;
        self.window_max = 1;
        self.hop_limit = GroupConfig::default().hop_limit;
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

    /// Whether it listens on the own address of this place and family.
    pub(crate) const fn takes(&self, local: u8, v6: bool) -> bool {
        let family = self.family == Family::Dual as u8 || (self.family == Family::V6 as u8) == v6;
        family && (!self.names_addresses() || self.addresses >> (local & 15) & 1 != 0)
    }

    /// Whether it listens on some addresses only.
    pub(crate) const fn names_addresses(&self) -> bool {
        self.addresses != 0
    }

    /// Its share of the clients.
    pub(crate) fn weight(&self) -> u32 {
        self.weight.into()
    }

    /// 0 to [`PRIORITIES`] - 1.
    pub(crate) fn priority(&self) -> usize {
        self.priority.into()
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

    /// Whether its connections follow RFC 9438 instead of RFC 5681.
    pub(crate) const fn is_cubic(&self) -> bool {
        self.flags & CUBIC != 0
    }

    pub(crate) const fn nagle(&self) -> bool {
        self.flags & NAGLE != 0
    }

    /// The upper six bits of the traffic class (RFC 2474).
    pub(crate) const fn dscp(&self) -> u8 {
        self.traffic_class >> 2
    }

    /// RFC 9293's R2: its own, or the stack's.
    pub(crate) fn user_timeout(&self, stacks: Duration) -> Duration {
        if self.user_timeout_ms == 0 {
            stacks
        } else {
            Duration::from_millis(self.user_timeout_ms.into())
        }
    }

    /// Time between two questions whether the peer is still there.
    pub(crate) fn keep_interval(&self) -> Duration {
        Duration::from_millis(self.keep_interval_ms.into())
    }

    /// Whether its connections must be looked at while nothing happens on them.
    pub(crate) const fn is_watched(&self) -> bool {
        let watched = self.idle_timeout_ms != 0 || self.keep_idle_ms != 0 || self.is_draining();
        self.is_open() && watched && self.flags & DRAINED == 0
    }

    /// The shortest idle time that something follows from.
    pub(crate) fn shortest_idle_ms(&self) -> Option<u32> {
        [self.idle_timeout_ms, self.keep_idle_ms].into_iter().filter(|ms| *ms != 0).min()
    }

    /// `now` in the units of its idle times.
    pub(crate) const fn idle_units(&self, now: Instant) -> u64 {
        now.as_millis() >> self.idle_shift
    }

    /// Units after which an idle connection has been so for the idle timeout, wherever in its
    /// unit it began.
    pub(crate) const fn idle_limit(&self) -> u32 {
        self.idle_timeout_ms.div_ceil(1 << self.idle_shift) + 1
    }

    /// Ends its connections from now on. Again: in another way.
    pub(crate) const fn drain(&mut self, per_second: u32, manner: Manner, now: Instant) {
        if !self.is_draining() {
            self.drain_from = now.as_nanos();
        }
        self.flags |= DRAINING;
        self.drain_per_second = per_second;
        self.drain_manner = manner as u8;
    }

    pub(crate) const fn is_draining(&self) -> bool {
        self.flags & DRAINING != 0
    }

    /// Forgets that it drains. Answers whether the application was still to be told of its end.
    pub(crate) const fn stop_draining(&mut self) -> bool {
        let told = self.flags & TELL_DRAINED == 0;
        self.flags &= !(DRAINING | DRAINED | TELL_DRAINED);
        !told
    }

    pub(crate) const fn manner(&self) -> Manner {
        const CLOSE: u8 = Manner::Close as u8;
        const RESET: u8 = Manner::Reset as u8;
        match self.drain_manner {
            CLOSE => Manner::Close,
            RESET => Manner::Reset,
            _ => Manner::WhenIdle,
        }
    }

    /// When the next connection may be ended; [`Instant::NEVER`] at a rate of 0.
    pub(crate) const fn drains_at(&self) -> Instant {
        if self.drain_per_second == 0 {
            Instant::NEVER
        } else {
            Instant::from_nanos(self.drain_from)
        }
    }

    /// A connection was ended: the next one has to wait for its turn.
    pub(crate) fn note_drained_one(&mut self, now: Instant) {
        let each = Duration::from_secs(1) / self.drain_per_second.max(1);
        let from = Instant::from_nanos(self.drain_from).max(now - DRAIN_CREDIT);
        self.drain_from = (from + each).as_nanos();
        self.counts.drained += 1;
    }

    /// Whether its end is reached and has to be told; answers so once.
    pub(crate) const fn becomes_drained(&mut self) -> bool {
        let reached = self.is_draining() && self.connections == 0 && self.flags & DRAINED == 0;
        if reached {
            self.flags |= DRAINED | TELL_DRAINED;
        }
        reached
    }

    /// Whether its end has to be told; answers so once.
    pub(crate) const fn takes_tell_drained(&mut self) -> bool {
        let tell = self.flags & TELL_DRAINED != 0;
        self.flags &= !TELL_DRAINED;
        tell
    }
}

/// So many halvings bring a time to 32 to 63 units, which one byte counts with room to spare.
const fn idle_shift(ms: u32) -> u8 {
    let bits = u32::BITS - ms.leading_zeros();
    bits.saturating_sub(6) as u8
}

fn at_least_1_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// 0 only for no time at all.
fn ms_if_any(duration: Duration) -> u32 {
    if duration.is_zero() { 0 } else { at_least_1_ms(duration) }
}

/// What is done because a pool's buffers are scarce, mildest first; each does what those before
/// it do. See [`crate::config::Throttle`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nothing: there is room.
    #[default]
    Room = 0,
    /// Offered windows shrink.
    Shrink = 1,
    /// The stack acknowledges no new text by itself.
    Withhold = 2,
    /// New text is dropped.
    Hide = 3,
}

impl Level {
    /// The name operators see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Shrink => "shrink",
            Self::Withhold => "withhold",
            Self::Hide => "hide",
        }
    }
}

/// A pool's figures. What is *in use* is back at zero when all its groups are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolInfo {
    /// Its number.
    pub pool: PoolId,
    /// What is done because its buffers are scarce.
    pub level: Level,
    /// Its connections in use.
    pub connections: u32,
    /// The most connections it may have now.
    pub connections_most: u32,
    /// Handshakes of its groups under way.
    pub half_open: u32,
    /// The most handshakes it may have under way now.
    pub half_open_most: u32,
    /// Records of remote IPv6 addresses in use.
    pub ipv6_addresses: u32,
    /// The most of them it may have now.
    pub ipv6_addresses_most: u32,
    /// Active records in use.
    pub active: u32,
    /// The most active records it may have now.
    pub active_most: u32,
    /// Descriptors of buffered pieces in use, for receiving and sending.
    pub chunks: u32,
    /// The most descriptors it may have now.
    pub chunks_most: u32,
    /// Bytes of its receive buffer that payload can take.
    pub receive_bytes: usize,
    /// Bytes of the receive buffer's blocks in use.
    pub receive_used: usize,
    /// Bytes of payload in them.
    pub receive_payload: usize,
    /// Bytes in pages of the receive buffer of which nothing is in use.
    pub receive_free: usize,
    /// Bytes of the transmit buffer's blocks in use.
    pub transmit_used: usize,
    /// Bytes of payload in them.
    pub transmit_payload: usize,
    /// The most bytes of the transmit buffer it may have now.
    pub transmit_most: usize,
    /// Bytes in pages of the transmit buffer that it could take now.
    pub transmit_free: usize,
    /// Connections that wait to be told of room.
    pub waiting: u32,
    /// Segments whose text was hidden since the pool was opened.
    pub text_hidden: u64,
    /// Segments whose text the stack did not acknowledge by itself.
    pub acks_withheld: u64,
    /// Windows told that scarce buffers made smaller.
    pub windows_shrunk: u64,
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
    /// Its priority.
    pub priority: u8,
    /// Whether it does not listen any more and its connections are being ended.
    pub draining: bool,
    /// Its connections.
    pub connections: u32,
    /// What was counted since it was opened.
    pub counts: GroupCounts,
}

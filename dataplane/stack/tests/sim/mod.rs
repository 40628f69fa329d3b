//! A simulated network: hosts, links between them, and a clock that jumps from event to event.
//!
//! Everything follows from a seed; the same seed gives the same run, to the byte.

#![allow(dead_code, reason = "each test file uses its part of the simulator")]

pub(crate) mod app;
pub(crate) mod audited;
pub(crate) mod link;
pub(crate) mod net;
pub(crate) mod other;
pub(crate) mod peer;
pub(crate) mod rng;

use std::net::IpAddr;
use std::time::Duration;

use audited::Audited;
use xtcp_stack::wire::checksum;
use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{
    Accept, Acknowledge, Address, Below, Completion, Config, Family, Gd, GroupConfig, Instant,
    Level, PoolId, PoolInfo, QueueId, RxFrame, Stack, TcpConfig, Transmit,
};

/// Memory as the engine would map it: zeroed and aligned to cache lines. The system gives it page
/// by page when it is first touched, so that a host that does little costs little.
pub(crate) struct Memory {
    bytes: Vec<u8>,
}

impl Memory {
    const ALIGNMENT: usize = 64;

    pub(crate) fn new(bytes: usize) -> Self {
        Self { bytes: vec![0; bytes + Self::ALIGNMENT] }
    }

    /// All a host needs in one piece.
    pub(crate) fn for_host(config: &Config, receive_bytes: usize) -> Self {
        let tables = Stack::memory_needed(config).next_multiple_of(Self::ALIGNMENT);
        Self::new(tables + config.transmit_bytes + receive_bytes)
    }

    pub(crate) fn aligned(&mut self) -> &mut [u8] {
        let skip = self.bytes.as_ptr().align_offset(Self::ALIGNMENT);
        &mut self.bytes[skip..]
    }
}

/// Where a stack's frames go: into a list.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    pub(crate) frames: Vec<Vec<u8>>,
    /// Frames that may still be taken; the rest find no room.
    pub(crate) room: Option<usize>,
    /// It is a device that completes TCP checksums.
    pub(crate) completes: bool,
    /// The frames to complete, and what each has in front of its segment.
    pub(crate) promised: Vec<(usize, Below)>,
}

impl Transmit for Wire {
    fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(1)?;
        }
        self.frames.push(vec![0xee; len]);
        self.frames.last_mut().map(Vec::as_mut_slice)
    }

    fn segment(&mut self, len: usize, below: Below) -> Option<(&mut [u8], Completion)> {
        if !self.completes {
            return self.frame(len).map(|frame| (frame, Completion::Here));
        }
        self.promised.push((self.frames.len(), below));
        self.frame(len).map(|frame| (frame, Completion::Device))
    }
}

impl Wire {
    /// The frames as they leave the device: it adds up the segment with what it finds in the
    /// checksum field, and has no idea of pseudo-headers.
    pub(crate) fn leave(&mut self) -> &[Vec<u8>] {
        for (index, below) in self.promised.drain(..) {
            // Asked for, and no room.
            let Some(frame) = self.frames.get_mut(index) else { continue };
            let ether_type = if below.is_v6 { [0x86, 0xdd] } else { [8, 0] };
            assert_eq!(frame[usize::from(below.ethernet) - 2..][..2], ether_type);
            let segment = &mut frame[usize::from(below.ethernet) + usize::from(below.ip)..];
            let sum = checksum::field(checksum::sum(segment, 0));
            segment[16..18].copy_from_slice(&sum.to_be_bytes());
        }
        &self.frames
    }
}

/// The configuration tests start from.
pub(crate) fn config(worker: u8, number: u8) -> Config {
    let mut addresses = [None; xtcp_stack::config::ADDRESSES_MAX];
    addresses[0] = Some(Address { ip: v4(number), prefix_len: 24 });
    addresses[1] = Some(Address { ip: v6(number), prefix_len: 64 });
    Config {
        worker,
        mac: MacAddr([2, 0, 0, 0, 0, number]),
        mtu: 1500,
        addresses,
        gateway_v4: None,
        gateway_v6: None,
        secret: [number; 32],
        connections_max: 256,
        ipv6_connections_max: 256,
        active_max: 256,
        chunks_max: 16_384,
        transmit_bytes: 8 << 20,
        neighbours_max: 64,
        pools_max: 4,
        groups_max: 8,
        queues_max: 4,
        throttle: xtcp_stack::Throttle::default(),
        net: xtcp_stack::NetConfig::default(),
        tcp: TcpConfig::default(),
    }
}

pub(crate) fn v4(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

pub(crate) fn v6(number: u8) -> IpAddr {
    IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)])
}

/// One host: a stack with one pool, one queue and one group.
pub(crate) struct Host<'m> {
    pub(crate) stack: Audited<'m>,
    pub(crate) pool: PoolId,
    pub(crate) group: Gd,
}

pub(crate) const QUEUE: QueueId = QueueId(0);

/// A group that an application of XTCP would open.
pub(crate) fn xtcp_group(port: u16) -> GroupConfig {
    GroupConfig {
        port,
        family: Family::Dual,
        accept: Accept::ByApplication { timeout: Duration::from_secs(3) },
        acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
        window_max: 1 << 18,
        nagle: true,
        ..GroupConfig::default()
    }
}

/// A group that behaves as an ordinary TCP.
pub(crate) fn ordinary_group(port: u16) -> GroupConfig {
    GroupConfig {
        accept: Accept::Automatic,
        acknowledge: Acknowledge::OnReceive,
        ..xtcp_group(port)
    }
}

/// Bytes of a host's receive buffer where a test does not say otherwise.
pub(crate) const RECEIVE_BYTES: usize = 8 << 20;

impl<'m> Host<'m> {
    /// A host in `memory`, of [`Memory::for_host`].
    pub(crate) fn new(memory: &'m mut Memory, config: &Config, group: &GroupConfig) -> Self {
        let tables = Stack::memory_needed(config).next_multiple_of(Memory::ALIGNMENT);
        let (tables, buffers) = memory.aligned().split_at_mut(tables);
        let (transmit, receive) = buffers.split_at_mut(config.transmit_bytes);
        let receive_bytes = receive.len() / Memory::ALIGNMENT * Memory::ALIGNMENT;
        let receive = &mut receive[..receive_bytes];
        let mut stack = Stack::new(config, tables, transmit, Instant::ZERO).expect("enough memory");
        let pool = stack.open_pool(receive).expect("room for a pool");
        let group = stack.open_group(pool, QUEUE, group).expect("room for a group");
        Self { stack: Audited::when_asked(stack), pool, group }
    }

    /// Hands one frame in.
    pub(crate) fn frame(&mut self, bytes: &[u8], wire: &mut Wire, now: Instant) {
        let frame = RxFrame { bytes, checksum: xtcp_stack::Checksum::Unknown };
        self.stack.on_burst(&[frame], wire, now);
    }

    /// Everything that is due now goes out.
    pub(crate) fn flush(&mut self, wire: &mut Wire, now: Instant) {
        self.stack.on_timeout(now);
        self.stack.poll_frames(wire, now);
    }

    /// What must be true when nothing is open and all is told: all memory is back.
    pub(crate) fn assert_nothing_held(&self) {
        assert_nothing_held(&self.stack);
    }
}

/// What must be true when nothing is open and all is told: every buffer, table and list of every
/// pool is as it was when the pool was opened. TIME-WAIT alone may last.
pub(crate) fn assert_nothing_held(stack: &Stack<'_>) {
    stack.audit().expect("the books are right");
    let usage = stack.usage();
    assert_eq!(usage.chunks, 0, "chunks are held: {stack:?}");
    assert_eq!(usage.active, 0, "active records are held: {stack:?}");
    assert_eq!((usage.transmit_used, usage.transmit_payload), (0, 0), "transmit blocks are held");
    assert_eq!(usage.connections, usage.time_wait, "connections are held");
    assert!(usage.ipv6_addresses <= usage.time_wait, "IPv6 addresses are held");
    assert_eq!(usage.half_open, 0, "handshakes are counted that are over");
    for info in stack.pools() {
        let fresh = PoolInfo {
            level: Level::Room,
            connections: 0,
            half_open: 0,
            ipv6_addresses: 0,
            active: 0,
            chunks: 0,
            receive_used: 0,
            receive_payload: 0,
            receive_free: info.receive_bytes,
            transmit_used: 0,
            transmit_payload: 0,
            transmit_free: info.transmit_most,
            waiting: 0,
            ..info
        };
        assert_eq!(info, fresh, "not everything is back");
    }
}

/// Every frame sent is read by somebody else's parser, and its checksums are right.
pub(crate) fn assert_well_formed(frame: &[u8]) {
    use etherparse::{NetHeaders, TransportHeader};
    let packet = etherparse::PacketHeaders::from_ethernet_slice(frame).expect("well formed");
    let payload = packet.payload.slice();
    if let Some(NetHeaders::Ipv4(ip, _)) = &packet.net {
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    }
    match (packet.transport, packet.net) {
        (Some(TransportHeader::Tcp(tcp)), Some(NetHeaders::Ipv4(ip, _))) => {
            let right = tcp.calc_checksum_ipv4(&ip, payload).expect("a length");
            assert_eq!(tcp.checksum, right, "TCP checksum");
        }
        (Some(TransportHeader::Tcp(tcp)), Some(NetHeaders::Ipv6(ip, _))) => {
            let right = tcp.calc_checksum_ipv6(&ip, payload).expect("a length");
            assert_eq!(tcp.checksum, right, "TCP checksum");
        }
        (Some(TransportHeader::Icmpv6(icmp)), Some(NetHeaders::Ipv6(ip, _))) => {
            let right = icmp.icmp_type.calc_checksum(ip.source, ip.destination, payload);
            assert_eq!(Ok(icmp.checksum), right, "ICMPv6 checksum");
        }
        _ => {}
    }
}

/// A number from the environment.
pub(crate) fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Seeds to try: `XTCP_SEED=n` replays one, `XTCP_SEEDS=n` tries that many, from
/// `XTCP_FIRST_SEED` on.
pub(crate) fn for_each_seed(default: u64, mut test: impl FnMut(u64)) {
    if let Some(seed) = variable("XTCP_SEED") {
        return test(seed);
    }
    let first = variable("XTCP_FIRST_SEED").unwrap_or(0);
    for seed in first..first + variable("XTCP_SEEDS").unwrap_or(default) {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(seed)));
        if let Err(panic) = run {
            eprintln!("seed {seed} fails; XTCP_SEED={seed} replays it");
            std::panic::resume_unwind(panic);
        }
    }
}

//! What the stack alone costs: nanoseconds per exchange, without a device, a ring or an
//! application's process.
//!
//! Two stacks hand each other frames in bursts of 32; the time-stamp counter is read around the
//! calls of the serving one only: requests in (checksum, copy, events), commit and answer, answers
//! out (copy, checksum), the clients' acknowledgements in. Run with
//! `cargo bench -p xtcp-bench --bench exchange`; `XTCP_CONNECTIONS=1000000` for more of them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{
    Accept, Acknowledge, Address, Cd, Config, Event, Family, Gd, GroupConfig, Instant, PoolId,
    QueueId, RxFrame, Stack, TcpConfig, Transmit,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const BURST: usize = 32;
/// An active open picks from this many local ports for each port of the server.
const CONNECTIONS_PER_PORT: usize = 16_000;
const QUEUE: QueueId = QueueId(0);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn memory(bytes: usize) -> &'static mut [u8] {
    vec![Line([0; 64]); bytes.div_ceil(64)].leak().as_mut_bytes()
}

/// Frames of one burst, in buffers that are used again.
struct Frames {
    buffers: Vec<[u8; 2048]>,
    lens: Vec<usize>,
}

impl Frames {
    fn new() -> Self {
        Self { buffers: vec![[0; 2048]; 4 * BURST], lens: Vec::with_capacity(4 * BURST) }
    }

    fn each(&self) -> Vec<RxFrame<'_>> {
        let frames = self.buffers.iter().zip(&self.lens);
        frames
            .map(|(buffer, &len)| RxFrame {
                bytes: &buffer[..len],
                checksum: xtcp_stack::Checksum::Unknown,
            })
            .collect()
    }
}

impl Transmit for Frames {
    fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        let buffer = self.buffers.get_mut(self.lens.len())?;
        self.lens.push(len);
        Some(&mut buffer[..len])
    }
}

struct Host {
    stack: Stack<'static>,
    pool: PoolId,
    groups: Vec<Gd>,
    frames: Frames,
}

fn host(number: u8, connections: usize, ports: &[u16]) -> Host {
    let mut addresses = [None; xtcp_stack::config::ADDRESSES_MAX];
    addresses[0] = Some(Address { ip: IpAddr::from([10, 0, 0, number]), prefix_len: 24 });
    let config = Config {
        worker: 0,
        mac: MacAddr([2, 0, 0, 0, 0, number]),
        mtu: 1500,
        addresses,
        gateway_v4: None,
        gateway_v6: None,
        secret: [number; 32],
        connections_max: u32::try_from(connections).expect("not that many"),
        ipv6_connections_max: 1,
        active_max: 4096,
        chunks_max: 8192,
        transmit_bytes: 16 << 20,
        neighbours_max: 64,
        pools_max: 1,
        groups_max: 256,
        queues_max: 1,
        throttle: xtcp_stack::Throttle::default(),
        net: xtcp_stack::NetConfig::default(),
        tcp: TcpConfig::default(),
    };
    let tables = memory(Stack::memory_needed(&config));
    let transmit = memory(config.transmit_bytes);
    let mut stack = Stack::new(&config, tables, transmit, Instant::ZERO).expect("enough memory");
    let pool = stack.open_pool(memory(16 << 20)).expect("room for a pool");
    let groups = ports
        .iter()
        .map(|&port| {
            let group = GroupConfig {
                port,
                family: Family::V4,
                accept: Accept::Automatic,
                acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
                window_max: 1 << 16,
                nagle: false,
                ..GroupConfig::default()
            };
            stack.open_group(pool, QUEUE, &group).expect("room for a group")
        })
        .collect();
    Host { stack, pool, groups, frames: Frames::new() }
}

impl Host {
    /// What the other host sent comes in; what this one has to send is in its frames after.
    fn receive(&mut self, from: &Frames, now: Instant) {
        self.frames.lens.clear();
        self.stack.on_burst(&from.each(), &mut self.frames, now);
        self.stack.poll_frames(&mut self.frames, now);
    }

    /// Answers every request with as many bytes, and commits it.
    fn answer(&mut self, bytes: &[u8], now: Instant) -> usize {
        let mut answered = 0;
        while let Some(event) = self.stack.poll_event(QUEUE) {
            if let Event::Data { group, connection, len, offset, .. } = event {
                let up_to = offset + u64::from(len);
                self.stack.commit(group, connection, up_to, false, now).expect("it was given");
                self.stack.send(group, connection, bytes, now).expect("there is room");
                answered += 1;
            }
        }
        self.stack.poll_frames(&mut self.frames, now);
        answered
    }
}

fn open(client: &mut Host, server: &mut Host, count: usize, ports: &[u16]) -> Vec<(Gd, Cd)> {
    let now = Instant::from_millis(1);
    let group = client.groups[0];
    let mut connections = Vec::with_capacity(count);
    for at in 0..count {
        let port = ports[at / CONNECTIONS_PER_PORT];
        let remote = SocketAddr::new(IpAddr::from([10, 0, 0, 2]), port);
        let connection = client.stack.connect(group, remote, now).expect("a free port");
        connections.push((group, connection));
        client.frames.lens.clear();
        client.stack.poll_frames(&mut client.frames, now);
        // ARP the first time; SYN, SYN-ACK, ACK.
        for _ in 0..4 {
            server.receive(&client.frames, now);
            client.receive(&server.frames, now);
        }
        while client.stack.poll_event(QUEUE).is_some() {}
        while server.stack.poll_event(QUEUE).is_some() {}
    }
    connections
}

/// Ticks the server took for `exchanges` exchanges.
fn exchange(
    client: &mut Host,
    server: &mut Host,
    connections: &[(Gd, Cd)],
    size: usize,
    exchanges: usize,
) -> u64 {
    let payload = vec![0x55_u8; size];
    let mut ticks = 0;
    let mut at = 0;
    let mut now = Instant::from_millis(10);
    for _ in 0..exchanges / BURST {
        now = now + Duration::from_micros(10);
        client.frames.lens.clear();
        for _ in 0..BURST {
            let (group, connection) = connections[at];
            // A stride that no prefetcher follows.
            at = (at + 7919) % connections.len();
            client.stack.send(group, connection, payload.as_slice(), now).expect("room");
        }
        client.stack.poll_frames(&mut client.frames, now);
        let begun = xtcp_cpu::tsc();
        server.receive(&client.frames, now);
        let answered = server.answer(&payload, now);
        ticks += xtcp_cpu::tsc() - begun;
        assert_eq!(answered, BURST);
        client.receive(&server.frames, now);
        while let Some(event) = client.stack.poll_event(QUEUE) {
            if let Event::Data { group, connection, len, offset, .. } = event {
                let up_to = offset + u64::from(len);
                client.stack.commit(group, connection, up_to, false, now).expect("it was given");
            }
        }
        client.stack.poll_frames(&mut client.frames, now);
        let begun = xtcp_cpu::tsc();
        server.receive(&client.frames, now);
        ticks += xtcp_cpu::tsc() - begun;
    }
    ticks
}

fn main() {
    let count = std::env::var("XTCP_CONNECTIONS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_usize);
    let ports: Vec<u16> = (0..count.div_ceil(CONNECTIONS_PER_PORT))
        .map(|n| 1_000 + u16::try_from(n).expect("not that many"))
        .collect();
    let mut client = host(1, count + 64, &[0]);
    let mut server = host(2, count + 64, &ports);
    let connections = open(&mut client, &mut server, count, &ports);
    let usage = server.stack.usage();
    println!("{} connections open, {} of them active", usage.connections, usage.active);
    let hz = xtcp_cpu::tsc_hz().map_or(2.6e9, |hz| hz.get() as f64);
    for size in [64, 1024] {
        let exchanges = 400_000 / BURST * BURST;
        exchange(&mut client, &mut server, &connections, size, exchanges / 10);
        let mut best = f64::MAX;
        for _ in 0..5 {
            let ticks = exchange(&mut client, &mut server, &connections, size, exchanges);
            best = best.min(ticks as f64 / hz * 1e9 / exchanges as f64);
        }
        println!("{size:>5} B request and answer: {best:>6.0} ns per exchange (best of 5)");
    }
    let pool = server.stack.pools().find(|pool| pool.pool == server.pool);
    assert_eq!(pool.map(|pool| pool.receive_used), Some(0), "all requests were committed");
}

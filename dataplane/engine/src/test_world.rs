//! A server's and a client's stack on one cable, for tests of what stands around a stack.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;

use xtcp_ring::{ExclusiveMapping, PageSize, SharedMemory};
use xtcp_stack::config::{
    ADDRESSES_MAX, Accept, Acknowledge, Address, Config, Family, GroupConfig, TcpConfig,
};
use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{Cd, Checksum, Event, Gd, Instant, PoolId, QueueId, RxFrame, Stack, Transmit};

/// Where the first application listens; the next ones one further each.
pub(crate) const LISTEN: u16 = 7000;

/// Both ends and the cable.
pub(crate) struct World {
    pub(crate) server: Stack<'static>,
    pub(crate) client: Stack<'static>,
    pub(crate) now: Instant,
    client_group: Gd,
    client_pool: PoolId,
    /// The connection that the client sends on and hears of.
    current: Option<Cd>,
    received: Vec<u8>,
    finished: bool,
    /// Segments from this port of the server's are lost.
    lost_port: Option<u16>,
}

/// A cable: frames in one direction.
#[derive(Default)]
pub(crate) struct Cable(VecDeque<Vec<u8>>);

impl Transmit for Cable {
    fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.push_back(vec![0; len]);
        self.0.back_mut().map(Vec::as_mut_slice)
    }
}

/// Zeroed memory on a page.
pub(crate) fn memory(bytes: usize) -> &'static mut [u8] {
    let memory = SharedMemory::create("test", bytes, PageSize::Ordinary).unwrap();
    ExclusiveMapping::map(&memory).unwrap().into_static_bytes()
}

/// A group that accepts and acknowledges by itself.
pub(crate) fn group(port: u16) -> GroupConfig {
    GroupConfig {
        port,
        family: Family::Dual,
        accept: Accept::Automatic,
        acknowledge: Acknowledge::OnReceive,
        window_max: 65_536,
        nagle: false,
        ..GroupConfig::default()
    }
}

/// A host whose stack queues so much for one connection, and for all of them.
fn stack(ip: IpAddr, mac: u8, queued: (u32, usize), now: Instant) -> Stack<'static> {
    let (send_queue_max, transmit_bytes) = queued;
    let mut addresses = [None; ADDRESSES_MAX];
    addresses[0] = Some(Address { ip, prefix_len: 24 });
    let tcp =
        TcpConfig { send_queue_max, delayed_ack: Duration::from_millis(1), ..TcpConfig::default() };
    let config = Config {
        worker: 0,
        mac: MacAddr([2, 0, 0, 0, 0, mac]),
        mtu: 1500,
        addresses,
        gateway_v4: None,
        gateway_v6: None,
        secret: [mac; 32],
        connections_max: 1024,
        ipv6_connections_max: 16,
        active_max: 1024,
        chunks_max: 4096,
        transmit_bytes,
        neighbours_max: 64,
        pools_max: 8,
        groups_max: 16,
        queues_max: 8,
        throttle: xtcp_stack::Throttle::default(),
        net: xtcp_stack::NetConfig::default(),
        tcp,
    };
    let tables = memory(Stack::memory_needed(&config));
    Stack::new(&config, tables, memory(config.transmit_bytes), now).unwrap()
}

impl World {
    pub(crate) const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    pub(crate) fn new() -> Self {
        let now = Instant::from_millis(1000);
        let server = stack(Self::SERVER, 1, (16_384, 1 << 20), now);
        let mut client = stack(Self::CLIENT, 2, (1 << 20, 8 << 20), now);
        let client_pool = client.open_pool(memory(1 << 20)).unwrap();
        let client_group = client.open_group(client_pool, QueueId(0), &group(0)).unwrap();
        Self {
            server,
            client,
            now,
            client_group,
            client_pool,
            current: None,
            received: Vec::new(),
            finished: false,
            lost_port: None,
        }
    }

    /// The client connects; frames go when [`Self::exchange`] is called.
    pub(crate) fn connect(&mut self, port: u16) -> Cd {
        let remote = SocketAddr::new(Self::SERVER, port);
        self.client.connect(self.client_group, remote, self.now).unwrap()
    }

    /// From now on the client speaks on this connection.
    pub(crate) fn opened(&mut self, connection: Cd) {
        self.current = Some(connection);
        self.received.clear();
        self.finished = false;
    }

    pub(crate) fn client_sends(&mut self, bytes: &[u8]) {
        self.client_sends_on(self.current.unwrap(), bytes);
    }

    /// As [`Self::client_sends`], on any of the client's connections.
    pub(crate) fn client_sends_on(&mut self, connection: Cd, bytes: &[u8]) {
        self.client.send(self.client_group, connection, bytes, self.now).unwrap();
    }

    /// As [`Self::client_sends`], unless the connection or its direction has ended.
    pub(crate) fn client_sends_if_open(&mut self, bytes: &[u8]) {
        // What has ended takes nothing, and whoever calls this does not mind.
        let _ = self.client.send(self.client_group, self.current.unwrap(), bytes, self.now);
    }

    /// From now on nothing of what this port of the server's sends arrives.
    pub(crate) fn lose_from(&mut self, port: u16) {
        self.lost_port = Some(port);
    }

    pub(crate) fn client_is_open(&mut self) -> bool {
        let info = self.client.connection(self.current.unwrap());
        info.is_ok_and(|info| info.state == xtcp_stack::State::Established)
    }

    pub(crate) fn client_closes(&mut self) {
        self.client.close(self.client_group, self.current.unwrap(), self.now).unwrap();
    }

    /// What the client has received on its current connection.
    pub(crate) fn client_received(&self) -> &[u8] {
        &self.received
    }

    pub(crate) fn client_is_finished(&self) -> bool {
        self.finished
    }

    /// Bytes the client has sent and the server not acknowledged.
    pub(crate) fn client_unacknowledged(&self) -> u32 {
        self.client.connection(self.current.unwrap()).map_or(0, |info| info.unsent)
    }

    /// Two milliseconds pass and frames go both ways once. Says how many.
    pub(crate) fn exchange(&mut self) -> usize {
        self.now = self.now + Duration::from_millis(2);
        let (mut to_server, mut to_client) = (Cable::default(), Cable::default());
        self.client.on_timeout(self.now);
        self.client.poll_frames(&mut to_server, self.now);
        deliver(&to_server, &mut self.server, &mut to_client, self.now);
        self.server.on_timeout(self.now);
        self.server.poll_frames(&mut to_client, self.now);
        let lost = self.lost_port.map(u16::to_be_bytes);
        // Behind an Ethernet header and an IPv4 header without options.
        to_client.0.retain(|frame| {
            lost.is_none() || frame.get(34..36) != lost.as_ref().map(|port| &port[..])
        });
        let mut replies = Cable::default();
        deliver(&to_client, &mut self.client, &mut replies, self.now);
        deliver(&replies, &mut self.server, &mut Cable::default(), self.now);
        self.take_events();
        to_server.0.len() + to_client.0.len() + replies.0.len()
    }

    fn take_events(&mut self) {
        while let Some(event) = self.client.poll_event(QueueId(0)) {
            match event {
                Event::Data { group, connection, at, len, offset } => {
                    if self.current == Some(connection) {
                        let bytes = self.client.received(self.client_pool, at, len);
                        self.received.extend_from_slice(bytes);
                    }
                    let up_to = offset + u64::from(len);
                    self.client.commit(group, connection, up_to, false, self.now).unwrap();
                }
                Event::Finished { connection, .. } if self.current == Some(connection) => {
                    self.finished = true;
                }
                _ => {}
            }
        }
    }
}

fn deliver(cable: &Cable, to: &mut Stack<'static>, out: &mut Cable, now: Instant) {
    for bytes in &cable.0 {
        to.on_burst(&[RxFrame { bytes, checksum: Checksum::Unknown }], out, now);
    }
}

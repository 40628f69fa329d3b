//! Workers and a client over a real DPDK port in one process, turn by turn.
//!
//! What is sent on queue N of a net_ring port is received on queue N. The workers receive on the
//! first queues and send on the others, we do it the other way round. Everybody has their turn in
//! order and takes all there is, so nothing depends on time or chance.

mod shortage;
mod stalls;

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::sync::OnceLock;

use dpdk::{Burst, Eal, EalArgs, Mbuf, Pool, Port, PortConfig, PortControl, RxQueue, StartedPort};
use xtcp_stack::config::{ADDRESSES_MAX, Acknowledge, Address, Config, GroupConfig, TcpConfig};
use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{
    Cd, Checksum, Event, Gd, Instant, PoolId, QueueId, RxFrame, Stack, State, Transmit,
};

use crate::cli::CommandLine;
use crate::command::{Ask, Line, Tell};
use crate::offloads::{Offloads, plan};
use crate::ports::{Opened, frame_max, own_mac};
use crate::prepare::Prepared;
use crate::spread::SpreadBy;
use crate::stats::{CounterRow, Snapshot};
use crate::test_world::{group, memory};
use crate::tx::TxSink;
use crate::worker::Worker;

/// Ports in a loop: one for each test.
const PORTS: u16 = 14;

/// Two ports with a cable between them, behind those: the workers' and ours.
const CABLE: (u16, u16) = (PORTS, PORTS + 1);

/// The longest frame that we send.
const OUR_LONGEST: usize = 16_000;

const SERVER: &str = "10.9.0.1";
const CLIENT: &str = "10.9.0.2";
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// What guards against waiting for ever for a cable; nothing is decided by it but that it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// The process's EAL, made by whichever test comes first.
fn eal() -> Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    let eal = EAL.get_or_init(|| {
        let mut words: Vec<String> = ["--no-pci", "--no-huge", "-m", "256"].map(Into::into).into();
        words.extend((0..PORTS).map(|port| format!("--vdev=net_ring{port}")));
        let socket = format!("socket=xtcp-loopback-{}", std::process::id());
        words.push(format!("--vdev=net_memif0,role=server,{socket}"));
        words.push(format!("--vdev=net_memif1,role=client,{socket}"));
        Eal::init(&EalArgs::parse(&words).unwrap()).unwrap()
    });
    eal.clone()
}

fn pool(name: &str, port: u16, count: u32) -> Pool {
    Pool::create(&eal(), &format!("{name}-{port}"), count, 0, 2048).unwrap()
}

fn command_line(port: u16, options: &str) -> CommandLine {
    let words = format!(
        "-- --port {port} --ip {SERVER}/24 --total-num-mbufs 8192 --connections 1000 \
         --transmit-bytes 4M --receive-bytes 4M {options}"
    );
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    crate::cli::parse(&words).unwrap()
}

/// The workers at their end of a port, and our end.
struct Loopback {
    workers: Vec<(Worker, Line)>,
    now: Instant,
    mac: [u8; 6],
    rx: Vec<RxQueue>,
    tx: TxSink,
    /// What the first worker receives and sends with.
    frames: Pool,
    /// The workers' port is up as long as this is there.
    _control: PortControl,
}

impl Loopback {
    /// `rx_queues` of the workers receive from the device, the others only from each other.
    fn new(port: u16, rx_queues: usize, options: &str) -> Self {
        let line = command_line(port, options);
        let workers = line.workers();
        let pools: Vec<Pool> =
            (0..workers).map(|worker| pool(&format!("worker{worker}"), port, 2047)).collect();
        let frames = pools[0].clone();
        let port = Port::open(&eal(), port).unwrap();
        let ours = pool("ours", port.id(), 2047);
        let offloads = plan(&line.options, &port.info().unwrap(), frame_max(&line.options), 2048);
        let config = PortConfig {
            rss: false,
            mtu: line.options.mtu,
            pieces: offloads.pieces,
            ..PortConfig::new(vec![ours.clone(); workers * 2])
        };
        let StartedPort { mut rx, mut tx, control } = port.configure(&config).unwrap();
        let our_rx = rx.split_off(workers);
        rx.truncate(rx_queues);
        let their_tx = tx.split_off(workers);
        let started = StartedPort { rx, tx: their_tx, control };
        let tx = TxSink::new(tx.remove(0), ours, false, OUR_LONGEST);
        Self::with(line, started, pools, offloads, (our_rx, tx, frames))
    }

    /// One worker with `frames` mbufs at its end of a cable.
    #[expect(clippy::disallowed_methods, reason = "a cable that never comes up ends the test")]
    fn over_a_cable(frames: u32, options: &str) -> Self {
        let (theirs, ours) = CABLE;
        let line = command_line(theirs, options);
        let frames = pool("worker0", theirs, frames);
        let our_frames = pool("ours", ours, 2047);
        let port = Port::open(&eal(), theirs).unwrap();
        let offloads = plan(&line.options, &port.info().unwrap(), frame_max(&line.options), 2048);
        let start =
            |port: Port, pool: &Pool| port.configure(&PortConfig::new(vec![pool.clone()])).unwrap();
        let started = start(port, &frames);
        let StartedPort { rx, mut tx, control } =
            start(Port::open(&eal(), ours).unwrap(), &our_frames);
        // The two ends greet each other in a thread of EAL's.
        let since = std::time::Instant::now();
        while !(started.control.link().unwrap().up && control.link().unwrap().up) {
            assert!(since.elapsed() < PATIENCE, "the two ends do not find each other");
            std::thread::yield_now();
        }
        let tx = TxSink::new(tx.remove(0), our_frames, false, OUR_LONGEST);
        // Our end is never closed: it lets go of its rings in that thread when it sees that theirs
        // has closed, and a close of ours at the same time would give them back twice.
        std::mem::forget(control);
        let pools = vec![frames.clone()];
        Self::with(line, started, pools, offloads, (rx, tx, frames))
    }

    fn with(
        line: CommandLine,
        started: StartedPort,
        pools: Vec<Pool>,
        offloads: Offloads,
        (rx, tx, frames): (Vec<RxQueue>, TxSink, Pool),
    ) -> Self {
        let info = started.control.info().unwrap();
        let mac = own_mac(&info);
        let opened = Opened { started, info, pools, by: SpreadBy::Workers, offloads };
        let mut dealt = Prepared::with(line, eal(), opened, false).unwrap().deal_alone().unwrap();
        Self {
            now: Instant::from_millis(2000),
            workers: core::mem::take(&mut dealt.workers),
            mac,
            rx,
            tx,
            frames,
            _control: dealt.into_port(),
        }
    }

    /// Every worker has a turn, and once more for what another has handed over.
    fn turn(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        self.tx.flush();
        for _ in 0..2 {
            for (worker, _) in &mut self.workers {
                worker.turn(self.now);
            }
        }
    }

    /// Sends a frame of ours and says what comes back at once.
    fn ask(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.tx.frame(frame.len()).unwrap().copy_from_slice(frame);
        self.turn();
        let mut answers = Vec::new();
        let mut burst = Burst::new();
        for queue in &mut self.rx {
            while queue.receive(&mut burst) > 0 {
                answers.extend(burst.drain().map(|mbuf| bytes_of_all(&mbuf)));
            }
        }
        answers
    }

    /// What the only worker answers the control thread.
    fn command(&mut self, ask: Ask) -> Tell {
        self.workers[0].0.answer(ask, self.now)
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        let of = |(worker, _): &(Worker, Line)| {
            let mut snapshot = Snapshot::with_room();
            worker.fill(&mut snapshot);
            snapshot
        };
        self.workers.iter().map(of).collect()
    }
}

/// A frame's bytes, in however many pieces it came.
fn bytes_of_all(mbuf: &Mbuf) -> Vec<u8> {
    let mut bytes = vec![0; mbuf.len()];
    mbuf.copy_to(&mut bytes).unwrap();
    bytes
}

/// An Ethernet frame of ours.
fn frame(to: [u8; 6], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&to, &CLIENT_MAC, &ethertype.to_be_bytes()[..], packet].concat()
}

fn bytes_of(ip: &str) -> [u8; 4] {
    let ip: core::net::Ipv4Addr = ip.parse().unwrap();
    ip.octets()
}

/// Who has the server's address? (RFC 826)
fn arp_request() -> Vec<u8> {
    let packet =
        [&[0, 1, 8, 0, 6, 4, 0, 1][..], &CLIENT_MAC, &bytes_of(CLIENT), &[0; 6], &bytes_of(SERVER)];
    frame([0xff; 6], 0x0806, &packet.concat())
}

/// The internet checksum (RFC 1071), as slowly as it is written there.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn echo_request(to: [u8; 6]) -> Vec<u8> {
    echo_request_with(to, b"are you there?")
}

fn echo_request_with(to: [u8; 6], text: &[u8]) -> Vec<u8> {
    let mut icmp = [&[8, 0, 0, 0, 0x12, 0x34, 0, 7][..], text].concat();
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    let [high, low] = (28 + text.len() as u16).to_be_bytes();
    let mut header = [0x45, 0, high, low, 0, 1, 0x40, 0, 64, 1, 0, 0].to_vec();
    header.extend(bytes_of(CLIENT));
    header.extend(bytes_of(SERVER));
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    frame(to, 0x0800, &[header, icmp].concat())
}

#[test]
fn icmpecho_answers_arp_and_ping() {
    let mut loopback = Loopback::new(0, 1, "");
    let answers = loopback.ask(&arp_request());
    let [reply] = &answers[..] else { panic!("one reply: {answers:02x?}") };
    assert_eq!(reply[..6], CLIENT_MAC);
    assert_eq!(reply[20..22], [0, 2], "ARP reply");
    assert_eq!(reply[22..28], loopback.mac);
    assert_eq!(reply[28..32], bytes_of(SERVER));

    let request = echo_request(loopback.mac);
    let answers = loopback.ask(&request);
    let [reply] = &answers[..] else { panic!("one reply: {answers:02x?}") };
    assert_eq!(reply[..6], CLIENT_MAC);
    assert_eq!(reply[34..36], [0, 0], "echo reply");
    assert_eq!(reply[38..], request[38..]);
    assert_eq!(checksum(&reply[34..]), [0, 0]);
    assert_eq!(checksum(&reply[14..34]), [0, 0]);
    let counters = loopback.snapshots()[0].counters;
    assert_eq!((counters.rx_frames, counters.tx.frames), (2, 2));
}

/// Mbufs of 2,048 bytes on a link of 9,000: what is longer comes, and goes, in several.
#[test]
fn a_frame_in_several_mbufs_is_one_to_the_stack() {
    let mut loopback = Loopback::new(6, 1, "--mtu 9000 --mbuf-size 2048");
    loopback.ask(&arp_request());
    let text: Vec<u8> = (0..9_000 - 28).map(|at| (at * 13 + at / 256) as u8).collect();
    // One piece, one that it just fills, one byte more; as many pieces as there are.
    for len in [100, 2_006, 2_007, 4_000, text.len()] {
        let request = echo_request_with(loopback.mac, &text[..len]);
        let answers = loopback.ask(&request);
        let [reply] = &answers[..] else { panic!("{} answers to {len} bytes", answers.len()) };
        assert_eq!((reply.len(), &reply[34..36]), (request.len(), &[0, 0][..]), "{len}");
        assert!(reply[42..] == text[..len] && checksum(&reply[34..]) == [0, 0], "{len}");
    }
    let counters = loopback.snapshots()[0].counters;
    assert_eq!((counters.rx_pieces, counters.rx_too_long, counters.tx.pieces), (3, 0, 3));
    // Longer than any frame of the link: nobody copies that, and the next one is answered.
    let too_long = echo_request_with(loopback.mac, &[7; 10_000]);
    assert!(loopback.ask(&too_long).is_empty());
    assert_eq!(loopback.snapshots()[0].counters.rx_too_long, 1);
    assert_eq!(loopback.ask(&echo_request(loopback.mac)).len(), 1);
}

#[test]
fn of_two_workers_one_answers_and_both_learn() {
    let mut loopback = Loopback::new(1, 1, "--workers-cores 0,1");
    assert_eq!(loopback.ask(&arp_request()).len(), 1);
    let request = echo_request(loopback.mac);
    assert_eq!(loopback.ask(&request).len(), 1);
    let learned = loopback.snapshots().iter().all(|snapshot| {
        snapshot.stack.iter().any(|(name, _, count)| *name == "arp-in" && *count == 1)
    });
    assert!(learned);
}

#[test]
fn macswap_sends_every_frame_back() {
    let mut loopback = Loopback::new(2, 1, "--forward-mode macswap");
    let runt = vec![7; 5];
    let there = frame([1, 2, 3, 4, 5, 6], 0x1234, b"anything at all");
    let mut back = there.clone();
    back[..12].rotate_left(6);
    assert_eq!(loopback.ask(&there), [back]);
    assert_eq!(loopback.ask(&runt), [runt]);
}

#[test]
fn a_full_device_makes_the_stack_wait_and_loses_nothing() {
    let mut loopback = Loopback::new(4, 1, "");
    let (worker, _) = &mut loopback.workers[0];
    let mut sent = 0_u32;
    while let Some(room) = worker.tx.frame(60) {
        room[..4].copy_from_slice(&sent.to_be_bytes());
        sent += 1;
        assert!(sent < 5000, "the ring has 1,023 places and the burst 32");
    }
    assert!(worker.tx.counters().full > 0);
    assert_eq!((worker.tx.counters().no_mbuf, worker.tx.counters().frames), (0, u64::from(sent)));

    let mut burst = Burst::new();
    let mut next = 0_u32;
    while next < sent {
        worker.tx.flush();
        assert!(loopback.rx[0].receive(&mut burst) > 0, "{next} of {sent} came");
        for mbuf in burst.drain() {
            assert_eq!(mbuf.bytes()[..4], next.to_be_bytes());
            next += 1;
        }
    }
    assert!(worker.tx.frame(60).is_some());
}

/// A client of many connections, each of which sends its number and wants it back.
struct Client {
    stack: Stack<'static>,
    group: Gd,
    pool: PoolId,
    connections: Vec<Cd>,
    /// What has come back on each.
    received: Vec<Vec<u8>>,
    /// Whether it sends its number as soon as it is connected.
    greets: bool,
    /// The last SYN that came, from the TCP header on.
    syn: Vec<u8>,
}

impl Client {
    fn new(now: Instant) -> Self {
        let mut addresses = [None; ADDRESSES_MAX];
        let ip: IpAddr = CLIENT.parse().unwrap();
        addresses[0] = Some(Address { ip, prefix_len: 24 });
        let config = Config {
            worker: 0,
            mac: MacAddr(CLIENT_MAC),
            mtu: 1500,
            addresses,
            gateway_v4: None,
            gateway_v6: None,
            secret: [9; 32],
            connections_max: 1024,
            ipv6_connections_max: 1,
            active_max: 1024,
            chunks_max: 4096,
            transmit_bytes: 4 << 20,
            neighbours_max: 64,
            pools_max: 1,
            groups_max: 1,
            queues_max: 1,
            throttle: xtcp_stack::Throttle::default(),
            net: xtcp_stack::NetConfig::default(),
            tcp: TcpConfig::default(),
        };
        let tables = memory(Stack::memory_needed(&config));
        let transmit = memory(config.transmit_bytes);
        let mut stack = Stack::new(&config, tables, transmit, now).unwrap();
        let pool = stack.open_pool(memory(4 << 20)).unwrap();
        let config = GroupConfig { acknowledge: Acknowledge::OnReceive, ..group(0) };
        let group = stack.open_group(pool, QueueId(0), &config).unwrap();
        let (connections, received) = (Vec::new(), Vec::new());
        Self { stack, group, pool, connections, received, greets: true, syn: Vec::new() }
    }

    fn connect(&mut self, now: Instant) {
        let server = SocketAddr::new(SERVER.parse().unwrap(), 7);
        self.connections.push(self.stack.connect(self.group, server, now).unwrap());
        self.received.push(Vec::new());
    }

    /// Frames from the workers in, ours out, events served.
    fn turn(&mut self, loopback: &mut Loopback) {
        let now = loopback.now;
        for queue in &mut loopback.rx {
            let mut burst = Burst::new();
            while queue.receive(&mut burst) > 0 {
                for mbuf in &burst {
                    // Behind Ethernet's header and IPv4's without options; SYN and ACK of TCP.
                    if mbuf.bytes().get(47) == Some(&0x12) {
                        self.syn = mbuf.bytes()[34..].to_vec();
                    }
                    let frame = RxFrame { bytes: mbuf.bytes(), checksum: Checksum::Unknown };
                    self.stack.on_burst(&[frame], &mut loopback.tx, now);
                }
                burst.clear();
            }
        }
        self.stack.on_timeout(now);
        self.stack.poll_frames(&mut loopback.tx, now);
        while let Some(event) = self.stack.poll_event(QueueId(0)) {
            self.on_event(event, now);
        }
    }

    fn on_event(&mut self, event: Event, now: Instant) {
        let place = |connection: Cd| self.connections.iter().position(|cd| *cd == connection);
        match event {
            Event::Opened { group, connection } if self.greets => {
                let number = place(connection).unwrap();
                let line = format!("I am number {number}");
                self.stack.send(group, connection, line.as_bytes(), now).unwrap();
            }
            Event::Data { group, connection, at, len, offset } => {
                let number = place(connection).unwrap();
                let bytes = self.stack.received(self.pool, at, len);
                self.received[number].extend_from_slice(bytes);
                let up_to = offset + u64::from(len);
                self.stack.commit(group, connection, up_to, false, now).unwrap();
                if self.received[number] == format!("I am number {number}").as_bytes() {
                    self.stack.close(group, connection, now).unwrap();
                }
            }
            Event::Acceptable { .. }
            | Event::Opened { .. }
            | Event::Finished { .. }
            | Event::Closed { .. }
            | Event::Drained { .. } => {}
        }
    }
}

#[test]
fn every_flow_meets_its_worker_whoever_received_its_frames() {
    let options = "--workers-cores 0,1,2 --forward-mode echo";
    let mut loopback = Loopback::new(3, 1, options);
    let mut client = Client::new(loopback.now);
    for _ in 0..60 {
        client.connect(loopback.now);
        client.turn(&mut loopback);
        loopback.turn();
    }
    for round in 0.. {
        client.turn(&mut loopback);
        loopback.turn();
        let whole = |(number, bytes): (usize, &Vec<u8>)| {
            bytes == format!("I am number {number}").as_bytes()
        };
        if client.received.iter().enumerate().all(whole) {
            break;
        }
        assert!(round < 5000, "received {:?}", client.received);
    }
    let snapshots = loopback.snapshots();
    let opened = |snapshot: &Snapshot| {
        let found = snapshot.stack.iter().find(|(name, ..)| *name == "connections-opened");
        found.map_or(0, |(.., count)| *count)
    };
    // Worker 0 has received everything, and kept its own.
    let [first, others @ ..] = &snapshots[..] else { panic!("three workers") };
    assert_eq!(snapshots.iter().map(opened).sum::<u64>(), 60);
    assert!(snapshots.iter().all(|snapshot| opened(snapshot) > 5), "{snapshots:?}");
    assert!(others.iter().all(|other| other.counters.rx_frames == 0));
    let received: u64 = others.iter().map(|other| other.counters.exchange.received).sum();
    assert_eq!(first.counters.exchange.handed_over, received);
    assert_eq!(snapshots.iter().map(|all| all.counters.exchange.full).sum::<u64>(), 0);
    assert_eq!(sent_again(&loopback), 0, "{snapshots:?}");
    assert!(client.stack.connections().all(|info| info.state != State::SynSent));
}

/// What nobody can guess follows from the secret and from nothing else.
#[test]
fn a_run_with_the_secret_of_another_is_the_same() {
    let syn = |port: u16, digit: &str| {
        let options = format!("--forward-mode echo --secret {}", digit.repeat(64));
        let mut loopback = Loopback::new(port, 1, &options);
        let mut client = Client::new(loopback.now);
        client.connect(loopback.now);
        for _ in 0..5 {
            client.turn(&mut loopback);
            loopback.turn();
        }
        assert!(client.syn.len() >= 20, "nobody answers");
        client.syn
    };
    let first = syn(11, "7");
    assert_eq!(syn(12, "7"), first);
    // Sequence numbers among it.
    assert_ne!(syn(13, "8")[4..8], first[4..8]);
}

/// How many segments the workers have sent again.
fn sent_again(loopback: &Loopback) -> u64 {
    loopback.snapshots().iter().map(|snapshot| again(&snapshot.stack)).sum()
}

fn again(rows: &[CounterRow]) -> u64 {
    let found = rows.iter().find(|(name, ..)| *name == "segments-retransmitted");
    found.map_or(0, |(.., count)| *count)
}

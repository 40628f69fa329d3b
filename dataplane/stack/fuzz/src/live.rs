//! A stack with live connections under whatever a hostile network and a hostile application do.
//!
//! The input is read as a list of choices: segments relative to where the connections stand,
//! garbage, time, verbs with right and wrong handles, no room for frames. What must hold whatever
//! comes is asserted after every step; the numbers in the comments are the invariants' (I1 the
//! stream, I2 to I13 below).

#[path = "live/losses.rs"]
mod losses;
#[path = "live/odd.rs"]
mod odd;
#[path = "live/succession.rs"]
mod succession;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use xtcp_stack::config::{ADDRESSES_MAX, Address, Config, TcpConfig};
use xtcp_stack::wire::checksum::PseudoHeader;
use xtcp_stack::wire::ethernet::{self, EtherType, Frame, MacAddr};
use xtcp_stack::wire::tcp::{self, Flags, Segment};
use xtcp_stack::wire::{arp, checksum, icmpv4, icmpv6, ipv4, ipv6};
use xtcp_stack::{
    Accept, Acknowledge, Cd, Checksum, Congestion, Count, Counters, Ecn, Event, Family, Gd,
    GroupConfig, Instant, KeepAlive, Manner, Misuse, NetConfig, PoolId, PoolInfo, QueueId, RxFrame,
    Stack, State, SynCookies, Throttle, Transmit,
};

const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const THEIR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OUR_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OUR_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const QUEUE: QueueId = QueueId(0);
/// The listening ports: one group each.
const PORTS: [u16; 4] = [7, 8, 9, 10];
/// Clients: two addresses of each family, three ports each.
const CLIENTS: usize = 12;
const ALIGNMENT: usize = 64;
const RECEIVE_BYTES: usize = 20 << 10;
/// Calls of `poll_frames` after which a stack that is left alone has nothing more to send.
const TURNS_MAX: usize = 600;
/// Deadlines after which a stack that is left alone has no more.
const STEPS_MAX: usize = 20_000;
/// Longer than TIME-WAIT and every other time the stack waits by itself.
const LONG: Duration = Duration::from_secs(24 * 3600);

const KEEP_ALIVE: KeepAlive =
    KeepAlive { idle: Duration::from_secs(30), interval: Duration::from_secs(5), probes: 3 };

/// Runs one input to its end and tears everything down. `look` is shown every frame sent. Answers
/// what was counted: what no input makes rise is not tested here.
pub fn run(input: &[u8], look: impl Fn(&[u8])) -> Counters {
    let mut choices = Choices { bytes: input, at: 0 };
    let scarcity = Scarcity::choose(&mut choices);
    let config = config(&scarcity);
    let tables = Stack::memory_needed(&config).next_multiple_of(ALIGNMENT);
    let mut memory = vec![0; tables + config.transmit_bytes + RECEIVE_BYTES + ALIGNMENT];
    let skip = memory.as_ptr().align_offset(ALIGNMENT);
    let (tables, buffers) = memory[skip..].split_at_mut(tables);
    let (transmit, receive) = buffers.split_at_mut(config.transmit_bytes);
    let receive = &mut receive[..scarcity.receive_bytes];
    let now = Instant::from_millis(1 << 20);
    let stack = Stack::new(&config, tables, transmit, now).expect("enough memory");
    let mut world = World::new(stack, receive, (now, scarcity.congestion), &look);
    if scarcity.has_neighbour {
        // Somebody to share with, who has nothing.
        world.stack.open_pool(&mut []).expect("room");
    }
    while !choices.are_over() {
        world.step(&mut choices);
    }
    world.tear_down();
    world.stack.counters().clone()
}

/// How little memory there is, and what is done before it runs out.
struct Scarcity {
    receive_bytes: usize,
    chunks_max: u32,
    throttle: Throttle,
    /// Whether there is another pool.
    has_neighbour: bool,
    tcp: TcpConfig,
    reassemblies_max: u16,
    /// Congestion control of every other group.
    congestion: Congestion,
}

impl Scarcity {
    fn choose(choices: &mut Choices<'_>) -> Self {
        let receive_bytes = [RECEIVE_BYTES, RECEIVE_BYTES, 12 << 10, 8 << 10][choices.below(4)];
        let [shrink_below, withhold_below, hide_below] =
            [[50, 20, 10], [0, 0, 0], [90, 70, 50], [100, 100, 30]][choices.below(4)];
        let pool_share = [50, 90][choices.below(2)];
        Self {
            receive_bytes,
            chunks_max: [64, 64, 20][choices.below(3)],
            throttle: Throttle { shrink_below, withhold_below, hide_below, pool_share },
            has_neighbour: choices.below(2) == 0,
            tcp: personality(choices),
            reassemblies_max: [64, 2][choices.below(2)],
            congestion: [Congestion::NewReno, Congestion::Cubic][choices.below(2)],
        }
    }
}

/// What a TCP chooses.
fn personality(choices: &mut Choices<'_>) -> TcpConfig {
    TcpConfig {
        half_open_max: 6,
        send_queue_max: 12_000,
        ecn: [Ecn::Accept, Ecn::Ask][choices.below(2)],
        rack: choices.below(4) != 0,
        tail_loss_probe: choices.below(4) != 0,
        resets_per_second: [1000, 2][choices.below(2)],
        syns_per_second: [0, 0, 0, 3][choices.below(4)],
        delayed_ack_segments: [2, 2, 1, 5][choices.below(4)],
        quick_acks: [0, 0, 3][choices.below(3)],
        syn_cookies: [SynCookies::WhenFull, SynCookies::WhenFull, SynCookies::Never]
            [choices.below(3)],
        hystart: choices.below(4) != 0,
        ..TcpConfig::default()
    }
}

fn config(scarcity: &Scarcity) -> Config {
    let mut addresses = [None; ADDRESSES_MAX];
    addresses[0] = Some(Address { ip: IpAddr::V4(OUR_V4), prefix_len: 24 });
    addresses[1] = Some(Address { ip: IpAddr::V6(OUR_V6), prefix_len: 64 });
    Config {
        worker: 3,
        mac: OUR_MAC,
        mtu: 1500,
        addresses,
        gateway_v4: None,
        gateway_v6: None,
        secret: [7; 32],
        connections_max: 14,
        ipv6_connections_max: 6,
        active_max: 12,
        chunks_max: scarcity.chunks_max,
        transmit_bytes: 32 << 10,
        neighbours_max: 16,
        pools_max: 4,
        groups_max: 6,
        queues_max: 2,
        throttle: scarcity.throttle,
        net: NetConfig { reassemblies_max: scarcity.reassemblies_max, ..NetConfig::default() },
        tcp: scarcity.tcp,
    }
}

fn group_config(at: usize, congestion: Congestion) -> GroupConfig {
    let by_application = Accept::ByApplication { timeout: Duration::from_secs(2) };
    let (accept, deadline) = match at {
        0 => (by_application, Some(Duration::ZERO)),
        1 => (Accept::Automatic, None),
        2 => (Accept::Automatic, Some(Duration::from_millis(70))),
        _ => (by_application, None),
    };
    let acknowledge = match deadline {
        Some(deadline) => Acknowledge::ByApplication { deadline },
        None => Acknowledge::OnReceive,
    };
    let window_max = [20_000, 1 << 18, 3000, u32::MAX][at];
    GroupConfig {
        port: PORTS[at],
        family: Family::Dual,
        accept,
        acknowledge,
        window_max,
        nagle: at != 1,
        congestion: if at % 2 == 0 { Congestion::NewReno } else { congestion },
        priority: [1, 3, 0, 2][at],
        hold_limit: if at == 0 { 4000 } else { 0 },
        keep_alive: (at == 1).then_some(KEEP_ALIVE),
        idle_timeout: if at == 2 { Duration::from_secs(20) } else { Duration::ZERO },
        user_timeout: if at == 3 { Duration::from_secs(30) } else { Duration::ZERO },
        ..GroupConfig::default()
    }
}

/// The input as a list of choices; when it is used up every choice is 0.
struct Choices<'i> {
    bytes: &'i [u8],
    at: usize,
}

impl Choices<'_> {
    fn are_over(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    /// 0 to `bound` - 1.
    fn below(&mut self, bound: usize) -> usize {
        let wide = if bound > 256 { 2 } else { 1 };
        let number = (0..wide).fold(0, |number, _| number << 8 | usize::from(self.byte()));
        number % bound
    }

    fn word(&mut self) -> u32 {
        (0..4).fold(0, |word, _| word << 8 | u32::from(self.byte()))
    }

    fn some(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }
}

/// What the outside knows of one client's connection.
#[derive(Clone, Debug, Default)]
struct Client {
    port: u16,
    server_port: u16,
    /// Initial sequence numbers it has used.
    starts: Vec<u32>,
    /// Its next sequence number.
    next: u32,
    /// The stack's next sequence number, and what it acknowledged, as last seen.
    theirs: u32,
    acknowledged: u32,
    /// The scale of the stack's windows, if its SYN was seen, and the furthest right edge and
    /// acknowledgement it told since.
    scale: Option<u8>,
    edge: Option<u32>,
    acked: Option<u32>,
    timestamp: Option<u32>,
    /// The stack's timestamp, as last seen.
    echo: u32,
    /// The furthest the stack has sent, and what of it the client has acknowledged.
    furthest: u32,
    said: u32,
    /// The scale of the client's own windows, and the furthest right edge that it told since the
    /// handshake.
    own_scale: u8,
    offered: Option<u32>,
}

/// What an application knows of a connection.
#[derive(Clone, Copy, Debug)]
struct Known {
    group: Gd,
    given: u64,
    committed: u64,
}

/// Room for some frames.
#[derive(Default)]
struct Wire {
    frames: Vec<Vec<u8>>,
    room: Option<usize>,
}

impl Transmit for Wire {
    fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(1)?;
        }
        self.frames.push(vec![0xee; len]);
        self.frames.last_mut().map(Vec::as_mut_slice)
    }
}

struct World<'m, 'l> {
    stack: Stack<'m>,
    now: Instant,
    look: &'l dyn Fn(&[u8]),
    congestion: Congestion,
    pool: PoolId,
    groups: Vec<Gd>,
    clients: Vec<Client>,
    /// Calls of our own: of two that open at once none is turned away.
    calls: u32,
    known: HashMap<Cd, Known>,
    /// What the application's predecessors had committed of connections they knew.
    left: HashMap<Cd, u64>,
    /// Handles of any time.
    handles: Vec<Cd>,
    /// Frames that have waited for a neighbour.
    parked: u64,
    /// Frames that arrive together.
    burst: Vec<(Vec<u8>, Checksum)>,
}

impl<'m, 'l> World<'m, 'l> {
    fn new(
        mut stack: Stack<'m>,
        receive: &'m mut [u8],
        (now, congestion): (Instant, Congestion),
        look: &'l dyn Fn(&[u8]),
    ) -> Self {
        let pool = stack.open_pool(receive).expect("room");
        let groups = (0..PORTS.len())
            .map(|at| stack.open_group(pool, QUEUE, &group_config(at, congestion)).expect("room"))
            .collect();
        let client = |at: usize| Client {
            port: 1000 + u16::try_from(at).unwrap_or(0),
            server_port: PORTS[at % PORTS.len()],
            ..Client::default()
        };
        let mut world = Self {
            stack,
            now,
            look,
            congestion,
            pool,
            groups,
            clients: (0..CLIENTS).map(client).collect(),
            calls: 0,
            known: HashMap::new(),
            left: HashMap::new(),
            handles: Vec::new(),
            parked: 0,
            burst: Vec::new(),
        };
        for at in 0..4 {
            world.introduce(at, THEIR_MAC);
        }
        world.deliver();
        world
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(46) {
            0..=2 => self.handshake(choices),
            3 => self.syn(choices),
            4..=9 => self.text_in_order(choices),
            10..=12 => self.any_segment(choices),
            13 | 14 => self.acknowledge(choices),
            15 | 16 => self.good_citizen(choices),
            17 if choices.below(2) == 0 => self.garbage(choices),
            17 => self.damaged(choices),
            18 => self.reset(choices),
            19..=22 => self.application(choices),
            23 => self.wrong_verb(choices),
            24 | 25 => self.tick(choices),
            26 => self.deliver_and_send(usize::from(choices.byte() % 4)),
            27 if choices.below(8) == 0 => self.groups_come_and_go(choices),
            27 if choices.below(8) == 0 => self.drain(choices),
            28 if choices.below(3) == 0 => self.connect(choices),
            29 if choices.below(3) == 0 => {
                let mac = MacAddr([2, 0, 0, 0, 0, choices.byte()]);
                self.introduce(choices.below(4), if mac == OUR_MAC { THEIR_MAC } else { mac });
            }
            30 => self.complain(choices),
            31 if choices.below(2) == 0 => self.cut(choices),
            32..=35 => self.lose(choices),
            36 | 37 => self.ask_and_answer(choices),
            38 => self.mark(choices),
            39..=41 => self.odd(choices),
            42 if choices.below(4) == 0 => self.succeed(choices),
            43 | 44 => self.transact(choices),
            _ => drop(self.deliver()),
        }
        if self.burst.len() >= 40 {
            self.deliver();
        }
        self.assert_books_are_right();
    }

    /// I7 at every step: what is booked is what there is, and no pool has more than its share.
    fn assert_books_are_right(&self) {
        self.stack.audit().expect("I7: the books are right");
        let usage = self.stack.usage();
        for info in self.stack.pools() {
            assert!(info.receive_payload <= info.receive_used, "I7: {info:?}");
            assert!(info.receive_used + info.receive_free <= info.receive_bytes, "I7: {info:?}");
            assert!(info.transmit_payload <= info.transmit_used, "I7: {info:?}");
            assert!(info.transmit_used <= info.transmit_most, "I7: {info:?}");
            assert!(info.chunks <= info.chunks_most && info.active <= info.active_most);
            assert!(info.connections <= info.connections_most, "I7: {info:?}");
            // Of two that open at once one may go beyond its share.
            assert!(info.half_open <= info.connections, "I7: {info:?}");
            assert!(info.waiting <= info.active, "I7: {info:?}");
        }
        let of_all = |figure: fn(&PoolInfo) -> usize| -> usize {
            self.stack.pools().map(|info| figure(&info)).sum()
        };
        assert_eq!(of_all(|info| info.chunks as usize), usage.chunks as usize, "I7");
        assert_eq!(of_all(|info| info.transmit_used), usage.transmit_used, "I7");
        assert_eq!(of_all(|info| info.transmit_payload), usage.transmit_payload, "I7");
        assert!(of_all(|info| info.active as usize) <= usage.active as usize, "I7");
        assert!(of_all(|info| info.connections as usize) <= usage.connections as usize, "I7");
        assert!(usage.half_open <= 6 + self.calls && usage.time_wait <= 14, "I14: {usage:?}");
    }

    /// The client's address: even ones IPv4, odd ones IPv6.
    fn address(at: usize) -> IpAddr {
        let number = u8::try_from(10 + at % 4).unwrap_or(10);
        if at % 2 == 0 {
            IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
        } else {
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()))
        }
    }

    /// The stack learns, or is told wrongly, where a client is.
    fn introduce(&mut self, at: usize, mac: MacAddr) {
        let frame = match Self::address(at) {
            IpAddr::V4(ip) => {
                let packet = arp::Packet {
                    operation: arp::Operation::Request,
                    sender_mac: mac,
                    sender_ip: ip,
                    target_mac: OUR_MAC,
                    target_ip: OUR_V4,
                };
                let mut frame = vec![0; ethernet::HEADER + arp::PACKET];
                let rest = ethernet::emit(&mut frame, &OUR_MAC, &mac, EtherType::ARP);
                packet.emit(rest.expect("room")).expect("room");
                frame
            }
            IpAddr::V6(ip) => {
                let ask = icmpv6::Solicitation { target: OUR_V6, source_mac: Some(mac) };
                let len = ask.message_len();
                let header = ipv6::Header {
                    src: ip,
                    dst: OUR_V6,
                    protocol: icmpv6::PROTOCOL,
                    hop_limit: 255,
                    dscp: 0,
                    ecn: 0,
                    flow_label: 0,
                    payload_len: u16::try_from(len).expect("small"),
                };
                let mut frame = vec![0; ethernet::HEADER + ipv6::HEADER + len];
                let packet = ethernet::emit(&mut frame, &OUR_MAC, &mac, EtherType::IPV6);
                let message = header.emit(packet.expect("room")).expect("room");
                ask.emit(message, ip, OUR_V6).expect("room");
                frame
            }
        };
        self.burst.push((frame, Checksum::Unknown));
    }

    fn syn(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        self.syn_of(at, choices);
    }

    fn syn_of(&mut self, at: usize, choices: &mut Choices<'_>) {
        let start = match choices.below(4) {
            0 => 0xffff_fff0,
            1 => self.clients[at].next,
            2 => self.clients[at].next.wrapping_add(choices.word() >> 12),
            _ => choices.word(),
        };
        let client = &mut self.clients[at];
        client.starts.push(start);
        client.next = start.wrapping_add(1);
        client.timestamp = (choices.below(2) == 0).then_some(choices.word());
        let mut options = tcp::Options {
            mss: (choices.below(4) != 0).then_some([0, 1, 100, 1460, 9000][choices.below(5)]),
            window_scale: (choices.below(3) != 0).then_some(choices.byte()),
            ..tcp::Options::NONE
        };
        if let Some(value) = client.timestamp {
            options.timestamps = Some(tcp::Timestamps { value, echo: 0 });
        }
        options.sack_permitted = choices.below(4) != 0;
        let asks_ecn = choices.below(3) == 0;
        let flags = if asks_ecn { Flags::SYN | Flags::ECE | Flags::CWR } else { Flags::SYN };
        client.own_scale = options.window_scale.unwrap_or(0).min(14);
        let window = u16::try_from(choices.below(1 << 16)).unwrap_or(0);
        self.segment(at, (flags, start, 0), window, options, &[]);
    }

    /// A client that does everything right, and an application that wants it.
    fn handshake(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        let busy = self.clients[at].port;
        if self.stack.connections().any(|info| info.remote.port() == busy) {
            return;
        }
        let server_port = PORTS[choices.below(PORTS.len())];
        self.clients[at].server_port = server_port;
        self.syn_of(at, choices);
        self.deliver();
        while let Some(event) = self.stack.poll_event(QUEUE) {
            if let Event::Acceptable { group, connection } = event {
                self.meet(group, connection);
                self.stack.accept(group, connection, self.now).expect("acceptable");
            } else {
                self.on_event(event, choices);
            }
        }
        self.deliver();
        let (seq, ack) = (self.clients[at].next, self.clients[at].theirs);
        self.segment(at, (Flags::ACK, seq, ack), 65_535, tcp::Options::NONE, &[]);
    }

    /// Everything is acknowledged, the window is open; now and then the client has said all.
    fn good_citizen(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        let client = &self.clients[at];
        let (seq, ack) = (client.acknowledged.max(1), client.theirs);
        let closes = choices.below(6) == 0;
        let flags = if closes { Flags::ACK | Flags::FIN } else { Flags::ACK };
        let seq = if closes || choices.below(2) == 0 { client.next } else { seq };
        self.segment(at, (flags, seq, ack), 65_535, tcp::Options::NONE, &[]);
        if closes {
            self.clients[at].next = seq.wrapping_add(1);
        }
    }

    /// Text, an acknowledgement of everything, perhaps a FIN: what an honest client would send.
    /// What was lost before it makes it text beyond a hole.
    fn text_in_order(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        let len = choices.below(1500);
        let client = &self.clients[at];
        let seq = match choices.below(8) {
            0 => client.acknowledged,
            1 => client.next.wrapping_add(1 + u32::from(choices.byte()) * 8),
            _ => client.next,
        };
        let mut flags = Flags::ACK;
        if choices.below(12) == 0 {
            flags |= Flags::FIN;
        }
        let (ack, text) = (client.theirs, self.text(at, seq, len));
        let window = [0, 1, 100, 5000, 65_535][choices.below(5)];
        self.segment(at, (flags, seq, ack), window, tcp::Options::NONE, &text);
        let end = seq.wrapping_add(u32::try_from(len).unwrap_or(0));
        self.clients[at].next = end.wrapping_add(u32::from(flags.contains(Flags::FIN)));
    }

    /// Any flags, numbers near and far, odd options, the same text for the same number.
    fn any_segment(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        let client = &self.clients[at];
        let base = [client.next, client.acknowledged][choices.below(2)];
        let seq = self.near(choices, base);
        let ack = self.near(choices, self.clients[at].theirs);
        let len = [0, 0, 1, 7, 100, 1460][choices.below(6)];
        let flags = match choices.below(6) {
            0 => Flags(choices.byte()),
            1 => Flags::ACK | Flags::FIN,
            2 => Flags::SYN | Flags::ACK,
            _ => Flags::ACK | Flags::PSH,
        };
        let timestamps = (choices.below(3) == 0)
            .then(|| tcp::Timestamps { value: choices.word(), echo: choices.word() });
        let mut sack = tcp::SackBlocks::NONE;
        for _ in 0..choices.below(4) {
            sack.push(tcp::SackBlock { left: choices.word(), right: choices.word() });
        }
        let options = tcp::Options { timestamps, sack, ..tcp::Options::NONE };
        // What a SYN carries is not in the stream.
        let text_at = if flags.contains(Flags::SYN) { seq.wrapping_add(1) } else { seq };
        let text = self.text(at, text_at, len);
        let window = u16::try_from(choices.below(1 << 16)).unwrap_or(0);
        if flags.contains(Flags::SYN) {
            self.clients[at].starts.push(seq);
        }
        self.segment(at, (flags, seq, ack), window, options, &text);
    }

    fn near(&self, choices: &mut Choices<'_>, base: u32) -> u32 {
        match choices.below(8) {
            0 | 1 => base,
            2 => base.wrapping_add(1),
            3 => base.wrapping_sub(1),
            4 => base.wrapping_add(choices.word() >> 20),
            5 => base.wrapping_sub(choices.word() >> 20),
            6 => base.wrapping_add(choices.word() >> 12),
            _ => choices.word(),
        }
    }

    fn acknowledge(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        let (seq, ack) = (self.clients[at].next, self.near(choices, self.clients[at].theirs));
        let window = [0, 1, 500, 65_535][choices.below(4)];
        for _ in 0..1 + choices.below(5) {
            self.segment(at, (Flags::ACK, seq, ack), window, tcp::Options::NONE, &[]);
        }
    }

    /// A RST alone: whatever it does, no RST comes back, and at most one challenge (I5).
    fn reset(&mut self, choices: &mut Choices<'_>) {
        self.deliver();
        let at = choices.below(CLIENTS);
        let base = [self.clients[at].next, self.clients[at].acknowledged][choices.below(2)];
        let seq = self.near(choices, base);
        let ack = self.near(choices, self.clients[at].theirs);
        let flags = Flags(choices.byte() & !Flags::SYN.0 | Flags::RST.0);
        self.segment(at, (flags, seq, ack), 0, tcp::Options::NONE, &[]);
        let sent = self.deliver();
        assert!(sent.iter().all(|frame| !is_reset(frame)), "a RST is answered by a RST");
        // What it frees may open the windows of others.
        let (address, port) = (Self::address(at), self.clients[at].port);
        let is_back =
            |(ip, segment): (IpAddr, Segment<'_>)| ip == address && segment.dst_port == port;
        let segments = sent.iter().filter(|frame| read(frame).is_some_and(is_back)).count();
        assert!(segments <= 1, "a RST is answered by {segments} segments");
    }

    fn garbage(&mut self, choices: &mut Choices<'_>) {
        let len = choices.below(80);
        let mut frame = choices.some(len);
        if choices.below(2) == 0 {
            let ethertype = [EtherType::IPV4, EtherType::IPV6, EtherType::ARP][choices.below(3)];
            let mut head = [0; ethernet::HEADER];
            ethernet::emit(&mut head, &OUR_MAC, &THEIR_MAC, ethertype).expect("room");
            frame.splice(0..0, head);
        }
        self.burst.push((frame, Checksum::Bad));
    }

    /// An ICMP error about a segment of ours, in flight or not, of any type.
    fn complain(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        let client = &self.clients[at];
        let (port, server_port) = (client.port, client.server_port);
        let base = match choices.below(4) {
            0 => client.furthest.wrapping_sub(1),
            _ => client.theirs.wrapping_sub(choices.below(1500) as u32),
        };
        let seq = self.near(choices, base);
        let word = [0_u32, 68, 552, 1006, 1280, 1400, 1500, 9000][choices.below(8)];
        let len = 40 + choices.below(1480) as u16;
        let mut message = match Self::address(at) {
            IpAddr::V4(_) => [[3, 4], [3, 4], [3, 3], [3, 1], [11, 0]][choices.below(5)].to_vec(),
            IpAddr::V6(_) => [[2, 0], [2, 0], [1, 4], [1, 0], [4, 1]][choices.below(5)].to_vec(),
        };
        message.extend([0, 0]);
        message.extend(word.to_be_bytes());
        // What it quotes is a packet of ours: one to us, turned around.
        let (src_port, dst_port, options) = (server_port, port, tcp::Options::NONE);
        let (ack, flags, window, urgent) = (0, Flags::ACK, 0, 0);
        let header = tcp::Header { src_port, dst_port, seq, ack, flags, window, urgent, options };
        let mut quoted = frame_of(Self::address(at), &header, &[]).split_off(ethernet::HEADER);
        let (length, ends) = match Self::address(at) {
            IpAddr::V4(_) => (2, 12),
            IpAddr::V6(_) => (4, 8),
        };
        quoted[length..length + 2].copy_from_slice(&len.to_be_bytes());
        let half = if ends == 12 { 4 } else { 16 };
        quoted[ends..ends + 2 * half].rotate_left(half);
        quoted.truncate(quoted.len() - choices.below(14));
        message.extend(quoted);
        self.burst.push((icmp_frame(Self::address(at), message), Checksum::Unknown));
    }

    /// The last segment of the burst comes in two pieces, in either order, perhaps not both.
    fn cut(&mut self, choices: &mut Choices<'_>) {
        self.text_in_order(choices);
        let Some((frame, _)) = self.burst.pop() else { return };
        let head = ethernet::HEADER + ipv4::HEADER;
        let is_v4 = frame[12..14] == [8, 0];
        if !is_v4 || frame.len() <= head + 24 {
            self.burst.push((frame, Checksum::Unknown));
            return;
        }
        let middle = 24 + choices.below((frame.len() - head - 24).div_ceil(8)) / 8 * 8;
        let piece = |start: usize, end: usize, more: bool| {
            let mut piece = [&frame[..head], &frame[head + start..head + end]].concat();
            let len = (piece.len() - ethernet::HEADER) as u16;
            piece[16..18].copy_from_slice(&len.to_be_bytes());
            let field = (start / 8) as u16 | if more { 0x2000 } else { 0 };
            piece[20..22].copy_from_slice(&field.to_be_bytes());
            piece[24..26].fill(0);
            let sum = checksum::field(checksum::sum(&piece[ethernet::HEADER..head], 0));
            piece[24..26].copy_from_slice(&sum.to_be_bytes());
            piece
        };
        let mut pieces = vec![piece(0, middle, true), piece(middle, frame.len() - head, false)];
        match choices.below(4) {
            0 => pieces.reverse(),
            1 => drop(pieces.pop()),
            _ => {}
        }
        self.burst.extend(pieces.into_iter().map(|piece| (piece, Checksum::Unknown)));
    }

    /// A good frame with a bit turned (several may cancel out in the checksum), or cut short.
    fn damaged(&mut self, choices: &mut Choices<'_>) {
        self.text_in_order(choices);
        let Some((mut frame, _)) = self.burst.pop() else { return };
        let at = choices.below(frame.len());
        frame[at] ^= 1 << choices.below(8);
        if choices.below(4) == 0 {
            frame.truncate(choices.below(frame.len()));
        }
        self.burst.push((frame, Checksum::Unknown));
    }

    /// The bytes a client's stream has from a sequence number on: always the same.
    fn text(&self, at: usize, seq: u32, len: usize) -> Vec<u8> {
        let port = self.clients[at].port;
        (0..len).map(|n| byte_at(port, seq.wrapping_add(u32::try_from(n).unwrap_or(0)))).collect()
    }

    fn segment(
        &mut self,
        at: usize,
        (flags, seq, ack): (Flags, u32, u32),
        window: u16,
        mut options: tcp::Options,
        text: &[u8],
    ) {
        let client = &mut self.clients[at];
        if let (None, Some(value)) = (options.timestamps, &mut client.timestamp) {
            *value = value.wrapping_add(1);
            options.timestamps = Some(tcp::Timestamps { value: *value, echo: client.echo });
        }
        client.offer(flags, ack, window);
        let header = tcp::Header {
            src_port: client.port,
            dst_port: client.server_port,
            seq,
            ack,
            flags,
            window,
            urgent: u16::from(flags.0),
            options,
        };
        let frame = frame_of(Self::address(at), &header, text);
        self.burst.push((frame, Checksum::Unknown));
    }

    /// What has come is handed in, and what is to be sent is, until nothing more is.
    fn deliver(&mut self) -> Vec<Vec<u8>> {
        let mut sent = self.hand_in();
        for _ in 0..TURNS_MAX {
            let frames = self.turn(None);
            if frames.is_empty() {
                if let Some(next) = self.stack.poll_timeout() {
                    assert!(next > self.now, "I6: {next:?} is not after {:?}", self.now);
                }
                return sent;
            }
            sent.extend(frames);
        }
        panic!("I4: it does not stop sending: {:?}", self.stack.counters());
    }

    /// As [`Self::deliver`], but with room for a few frames only.
    fn deliver_and_send(&mut self, room: usize) {
        self.hand_in();
        assert!(self.turn(Some(room)).len() <= room);
    }

    fn hand_in(&mut self) -> Vec<Vec<u8>> {
        let burst = std::mem::take(&mut self.burst);
        let frames: Vec<RxFrame<'_>> =
            burst.iter().map(|(bytes, checksum)| RxFrame { bytes, checksum: *checksum }).collect();
        let mut wire = Wire::default();
        self.stack.on_burst(&frames, &mut wire, self.now);
        // A solicitation is answered, and may release a frame that waited.
        assert!(wire.frames.len() <= 2 * frames.len(), "I4: more is answered than came");
        self.see(&wire.frames);
        wire.frames
    }

    fn turn(&mut self, room: Option<usize>) -> Vec<Vec<u8>> {
        let mut wire = Wire { room, ..Wire::default() };
        self.stack.on_timeout(self.now);
        self.stack.poll_frames(&mut wire, self.now);
        self.see(&wire.frames);
        wire.frames
    }

    /// Takes in what the stack said: it is well formed (I13), and takes nothing back.
    fn see(&mut self, frames: &[Vec<u8>]) {
        let parked = self.stack.counters().counted(Count::FramesParked);
        if std::mem::replace(&mut self.parked, parked) != parked {
            // Frames that wait for a neighbour come late or never: what was told is not known.
            self.clients
                .iter_mut()
                .for_each(|client| (client.scale, client.offered) = (None, None));
        }
        for bytes in frames {
            (self.look)(bytes);
            let Some((ip, segment)) = read(bytes) else { continue };
            let client =
                self.clients.iter_mut().enumerate().find(|(at, client)| {
                    client.port == segment.dst_port && Self::address(*at) == ip
                });
            let Some((_, client)) = client else { continue };
            if client.server_port == segment.src_port {
                client.see(&segment);
            }
        }
    }

    fn tick(&mut self, choices: &mut Choices<'_>) {
        self.deliver();
        let step = match choices.below(8) {
            0 if choices.below(4) == 0 => Duration::from_secs(choices.below(200) as u64),
            1 if choices.below(16) == 0 => Duration::from_secs(3600),
            2 => Duration::from_micros(choices.below(3000) as u64),
            _ => {
                let next = self.stack.poll_timeout().unwrap_or(self.now);
                next.since(self.now) + Duration::from_micros(choices.below(4) as u64)
            }
        };
        self.now = self.now + step;
        self.deliver();
    }

    /// The application takes its events and does something about each.
    fn application(&mut self, choices: &mut Choices<'_>) {
        for _ in 0..choices.below(12) {
            let Some(event) = self.stack.poll_event(QUEUE) else {
                self.assert_none_vanished();
                break;
            };
            self.on_event(event, choices);
        }
        for _ in 0..choices.below(6) {
            let known: Vec<Cd> = self.sorted();
            if known.is_empty() {
                return;
            }
            let connection = known[choices.below(known.len())];
            self.verb(connection, choices);
        }
    }

    /// When all is told, whoever was not told to be gone is there.
    fn assert_none_vanished(&self) {
        for connection in self.known.keys() {
            let there = self.stack.connection(*connection);
            assert!(there.is_ok(), "the end of {connection:?} was never told");
        }
    }

    fn sorted(&self) -> Vec<Cd> {
        let mut known: Vec<Cd> = self.known.keys().copied().collect();
        known.sort_unstable();
        known
    }

    fn on_event(&mut self, event: Event, choices: &mut Choices<'_>) {
        match event {
            Event::Acceptable { group, connection } => {
                self.meet(group, connection);
                let _ = match choices.below(5) {
                    0 => self.stack.refuse(group, connection, self.now),
                    1 => Ok(()),
                    _ => self.stack.accept(group, connection, self.now),
                };
            }
            Event::Opened { group, connection } => self.meet(group, connection),
            Event::Data { connection, at, len, offset, .. } => {
                self.take(connection, at, len, offset);
            }
            Event::Finished { connection, offset, .. } => {
                let known = self.known[&connection];
                assert_eq!(offset, known.given, "I1: the stream ends where it was given");
            }
            Event::Closed { group, connection, held, .. } => {
                let known = self.known.remove(&connection).expect("it was told of");
                assert_eq!(u64::from(held), known.given - known.committed);
                if held > 0 {
                    self.stack
                        .commit(group, connection, known.given, false, self.now)
                        .expect("held");
                }
            }
            Event::Drained { group } => self.on_drained(group),
        }
    }

    fn meet(&mut self, group: Gd, connection: Cd) {
        self.handles.push(connection);
        let committed = self.left.get(&connection).copied().unwrap_or(0);
        self.known.entry(connection).or_insert(Known { group, given: committed, committed });
    }

    /// I1: pieces follow each other and are what the client sent.
    fn take(&mut self, connection: Cd, at: u64, len: u16, offset: u64) {
        let info = self.stack.connection(connection).expect("open");
        let known = self.known.get_mut(&connection).expect("it was told of");
        assert_eq!(offset, known.given, "I1: pieces follow each other");
        known.given += u64::from(len);
        let bytes = self.stack.received(self.pool, at, len);
        assert_eq!(bytes.len(), usize::from(len));
        let client = self.clients.iter().find(|client| client.port == info.remote.port());
        let client = client.expect("one of ours");
        let fits = |start: &u32| {
            let from = start.wrapping_add(1).wrapping_add((offset & 0xffff_ffff) as u32);
            bytes
                .iter()
                .zip(0..)
                .all(|(byte, n)| *byte == byte_at(client.port, from.wrapping_add(n)))
        };
        assert!(client.starts.iter().any(fits), "I1: bytes nobody sent, at {offset}");
    }

    fn verb(&mut self, connection: Cd, choices: &mut Choices<'_>) {
        let group = self.known[&connection].group;
        let now = self.now;
        match choices.below(8) {
            0 => {
                // With something unread it is an abort; without, there is nothing to give up.
                let closed = self.stack.close(group, connection, now);
                self.give_up(connection, closed);
            }
            1 if choices.below(3) == 0 => {
                let aborted = self.stack.abort(group, connection, now);
                self.give_up(connection, aborted);
            }
            2..=4 => {
                let text = vec![0x5a; choices.below(5000)];
                let _ = self.stack.send(group, connection, text.as_slice(), now);
            }
            _ => {
                let Some(known) = self.known.get_mut(&connection) else { return };
                let open = usize::try_from(known.given - known.committed).unwrap_or(0);
                let up_to = known.committed + choices.below(open + 1) as u64;
                let again = choices.below(4) == 0;
                let result = self.stack.commit(group, connection, up_to, again, now);
                if let (Ok(()), Ok(info)) = (result, self.stack.connection(connection)) {
                    known.committed = up_to;
                    // Of a connection that is gone nothing is given again.
                    let given_again = again && info.state != State::Closed;
                    known.given = if given_again { up_to } else { known.given };
                }
                let _ = self.stack.commit(group, connection, up_to + 1 + open as u64, false, now);
            }
        }
    }

    /// What the application was given it will not look at again.
    fn give_up(&mut self, connection: Cd, result: Result<(), Misuse>) {
        if let (Ok(()), Some(known)) = (result, self.known.get_mut(&connection)) {
            known.committed = known.given;
        }
    }

    /// Handles of nothing, of other groups, of other times.
    fn wrong_verb(&mut self, choices: &mut Choices<'_>) {
        let connection = match choices.below(3) {
            0 => Cd::from_bits(u64::from(choices.word()) << 32 | u64::from(choices.word())),
            1 => Cd::new(3, choices.byte().into(), choices.byte().into()),
            _ if self.handles.is_empty() => return,
            _ => self.handles[choices.below(self.handles.len())],
        };
        if self.known.contains_key(&connection) {
            return;
        }
        let group = match choices.below(2) {
            0 => Gd::from_bits(choices.word()),
            _ => self.groups[choices.below(self.groups.len())],
        };
        let now = self.now;
        if self.stack.connection(connection).is_ok_and(|info| info.group == group) {
            // A lucky guess: the application is not told of it yet.
            return;
        }
        let before = self.stack.usage();
        assert!(self.stack.send(group, connection, b"x".as_slice(), now).is_err());
        assert!(self.stack.commit(group, connection, u64::MAX, true, now).is_err());
        assert!(self.stack.accept(group, connection, now).is_err());
        assert!(self.stack.refuse(group, connection, now).is_err());
        assert!(self.stack.close(group, connection, now).is_err());
        assert!(self.stack.abort(group, connection, now).is_err());
        assert_eq!(self.stack.usage(), before, "a wrong handle changes nothing");
    }

    fn groups_come_and_go(&mut self, choices: &mut Choices<'_>) {
        if choices.below(4) != 0 {
            return;
        }
        self.deliver();
        let at = choices.below(PORTS.len());
        let closed = self.groups[at];
        if choices.below(4) == 0 {
            let memory = self.stack.close_pool(self.pool, self.now).expect("open");
            self.pool = self.stack.open_pool(memory).expect("room");
            self.known.clear();
            for (at, group) in self.groups.iter_mut().enumerate() {
                *group = self
                    .stack
                    .open_group(self.pool, QUEUE, &group_config(at, self.congestion))
                    .expect("room");
            }
        } else {
            self.stack.close_group(closed, self.now).expect("open");
            self.known.retain(|_, known| known.group != closed);
            let again = self
                .stack
                .open_group(self.pool, QUEUE, &group_config(at, self.congestion))
                .expect("room");
            assert_eq!(again.index(), closed.index(), "all workers choose the same place");
            self.groups[at] = again;
        }
        self.deliver();
    }

    /// A group sends its connections away, fast or slowly or not at all.
    fn drain(&mut self, choices: &mut Choices<'_>) {
        let group = self.groups[choices.below(PORTS.len())];
        let rate = u32::from(choices.byte()) * u32::from(choices.byte());
        let manner = [Manner::WhenIdle, Manner::Close, Manner::Reset][choices.below(3)];
        self.stack.drain_group(group, rate, manner, self.now).expect("open");
    }

    /// All of its connections were told to be gone; another group takes its place.
    fn on_drained(&mut self, group: Gd) {
        assert!(self.known.values().all(|known| known.group != group), "one of them is left");
        let info = self.stack.groups().find(|info| info.group == group).expect("open");
        assert_eq!((info.connections, info.draining), (0, true));
        let at = self.groups.iter().position(|known| *known == group).expect("ours");
        self.stack.close_group(group, self.now).expect("open");
        self.groups[at] = self
            .stack
            .open_group(self.pool, QUEUE, &group_config(at, self.congestion))
            .expect("room");
    }

    fn connect(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        let group = self.groups[choices.below(self.groups.len())];
        let remote = SocketAddr::new(Self::address(at), self.clients[at].port);
        if let Ok(connection) = self.stack.connect(group, remote, self.now) {
            self.calls += 1;
            self.meet(group, connection);
            let local = self.stack.connection(connection).expect("it is there").local;
            self.clients[at].server_port = local.port();
        }
        self.deliver();
    }

    /// Nobody says anything any more: whatever waits for a peer comes to an end by itself, and what
    /// remains waits for the application alone.
    fn outlast_the_peers(&mut self) {
        for info in self.stack.groups().filter(|info| info.draining).collect::<Vec<_>>() {
            // Whoever waits for its application is looked at again and again.
            self.stack.drain_group(info.group, 0, Manner::WhenIdle, self.now).expect("open");
        }
        let end = self.now + LONG;
        for _ in 0..STEPS_MAX {
            let Some(next) = self.stack.poll_timeout().filter(|next| *next < end) else { break };
            self.now = next;
            self.deliver();
            let mut choices = Choices { bytes: &[], at: 0 };
            while let Some(event) = self.stack.poll_event(QUEUE) {
                self.on_event(event, &mut choices);
            }
        }
        assert!(self.stack.poll_timeout().is_none_or(|next| next >= end), "it never rests");
        for info in self.stack.connections() {
            let waits = matches!(info.state, State::Established | State::CloseWait);
            assert!(waits && info.unsent == 0, "it waits for ever: {info:?}");
        }
    }

    /// I7: when all is closed and time has passed, everything is back.
    fn tear_down(&mut self) {
        self.deliver();
        let mut choices = Choices { bytes: &[], at: 0 };
        while let Some(event) = self.stack.poll_event(QUEUE) {
            self.on_event(event, &mut choices);
        }
        self.assert_none_vanished();
        self.deliver();
        self.outlast_the_peers();
        for group in self.groups.clone() {
            self.stack.close_group(group, self.now).expect("open");
        }
        self.deliver();
        self.now = self.now + LONG;
        self.deliver();
        assert_eq!(self.stack.poll_event(QUEUE), None, "closed groups tell nothing");
        let usage = self.stack.usage();
        let held = (usage.connections, usage.half_open, usage.time_wait, usage.active);
        assert_eq!(held, (0, 0, 0, 0), "I7: {usage:?}");
        assert_eq!((usage.chunks, usage.transmit_used), (0, 0), "I7: {usage:?}");
        assert!(self.stack.pools().all(|pool| pool.receive_used == 0 && pool.connections == 0));
        assert_eq!(self.stack.connections().count(), 0);
    }
}

impl Client {
    /// What the client acknowledges, and how far the stack may send: more than it takes from this,
    /// if it does not believe the segment, but never less.
    fn offer(&mut self, flags: Flags, ack: u32, window: u16) {
        // No queue is longer than this.
        const AHEAD: u32 = 20_000;
        if !flags.contains(Flags::ACK) || flags.contains(Flags::RST) {
            return;
        }
        if is_before(self.said, ack) && !is_before(self.furthest, ack) {
            self.said = ack;
        }
        let believable = self.furthest.wrapping_add(AHEAD).wrapping_sub(ack) < 1 << 30;
        let scale = if flags.contains(Flags::SYN) { 0 } else { self.own_scale };
        let edge = ack.wrapping_add(u32::from(window) << scale);
        if let Some(offered) = self.offered.filter(|_| believable) {
            self.offered = Some(if is_before(offered, edge) { edge } else { offered });
        }
    }

    /// I2 and I3: nothing is sent beyond what the client ever offered, but for a probe's one byte.
    fn note_sent(&mut self, segment: &Segment<'_>) {
        let end = segment.seq.wrapping_add(segment.len());
        if segment.flags.contains(Flags::SYN) {
            (self.furthest, self.said) = (end, segment.seq);
            // The window of a SYN that this answers is not scaled, and may be anything.
            self.offered = segment.flags.contains(Flags::ACK).then(|| end.wrapping_add(0xffff));
            return;
        }
        if is_before(self.furthest, end) {
            self.furthest = end;
        }
        if let Some(offered) = self.offered {
            let beyond = end.wrapping_sub(offered);
            assert!(beyond <= 1 || beyond > 1 << 31, "I3: {beyond} bytes beyond the window");
        }
    }

    fn see(&mut self, segment: &Segment<'_>) {
        let flags = segment.flags;
        if flags.contains(Flags::RST) {
            (self.scale, self.offered) = (None, None);
            return;
        }
        self.note_sent(segment);
        if flags.contains(Flags::SYN) {
            // Our SYN alone agrees nothing, and what answers it here offers no scale.
            let scale = segment.options.window_scale.filter(|_| flags.contains(Flags::ACK));
            self.scale = Some(scale.unwrap_or(0));
            (self.edge, self.acked) = (None, None);
        }
        self.theirs = segment.seq.wrapping_add(segment.len());
        self.echo = segment.options.timestamps.map_or(self.echo, |stamps| stamps.value);
        if !flags.contains(Flags::ACK) {
            return;
        }
        self.acknowledged = segment.ack;
        let Some(scale) = self.scale else { return };
        let scale = if flags.contains(Flags::SYN) { 0 } else { scale };
        let edge = segment.ack.wrapping_add(u32::from(segment.window) << scale);
        let is_back =
            |now: u32, before: Option<u32>| before.is_some_and(|b| now.wrapping_sub(b) > 1 << 31);
        // TIME-WAIT offers no window.
        let offers = segment.window > 0;
        assert!(!offers || !is_back(edge, self.edge), "SHLD-14: the right edge moves back");
        assert!(!is_back(segment.ack, self.acked), "an acknowledgement is taken back");
        (self.edge, self.acked) = (Some(edge), Some(segment.ack));
    }
}

/// Whether `a` comes before `b` in sequence space.
fn is_before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

/// The byte a client's stream has at a sequence number.
fn byte_at(port: u16, seq: u32) -> u8 {
    let mixed = (seq ^ u32::from(port).rotate_left(20)).wrapping_mul(0x9e37_79b9);
    (mixed >> 24) as u8
}

fn frame_of(src: IpAddr, header: &tcp::Header, text: &[u8]) -> Vec<u8> {
    let len = header.header_len() + text.len();
    let payload_len = u16::try_from(len).expect("it fits");
    let (dst, ip_len, ethertype) = match src {
        IpAddr::V4(_) => (IpAddr::V4(OUR_V4), ipv4::HEADER, EtherType::IPV4),
        IpAddr::V6(_) => (IpAddr::V6(OUR_V6), ipv6::HEADER, EtherType::IPV6),
    };
    let mut frame = vec![0; ethernet::HEADER + ip_len + len];
    let packet = ethernet::emit(&mut frame, &OUR_MAC, &THEIR_MAC, ethertype).expect("room");
    let segment = match src {
        IpAddr::V4(src) => ipv4::Header {
            src,
            dst: OUR_V4,
            protocol: tcp::PROTOCOL,
            ttl: 64,
            dscp: 0,
            ecn: 0,
            identification: 0,
            payload_len,
        }
        .emit(packet),
        IpAddr::V6(src) => ipv6::Header {
            src,
            dst: OUR_V6,
            protocol: tcp::PROTOCOL,
            hop_limit: 64,
            dscp: 0,
            ecn: 0,
            flow_label: 0,
            payload_len,
        }
        .emit(packet),
    };
    let segment = segment.expect("room");
    header.emit(segment).expect("room").copy_from_slice(text);
    tcp::set_checksum(segment, PseudoHeader::new(src, dst, tcp::PROTOCOL));
    frame
}

/// An ICMP or ICMPv6 message in its frame, its checksum right.
fn icmp_frame(src: IpAddr, mut message: Vec<u8>) -> Vec<u8> {
    let payload_len = u16::try_from(message.len()).expect("it fits");
    let (dscp, ecn, flow_label, identification, ttl) = (0, 0, 0, 0, 64);
    let (partial, mut head) = match src {
        IpAddr::V4(_) => (0, vec![0; ethernet::HEADER + ipv4::HEADER]),
        IpAddr::V6(src) => {
            let pseudo = PseudoHeader::v6(src, OUR_V6, icmpv6::PROTOCOL);
            (pseudo.sum(message.len()), vec![0; ethernet::HEADER + ipv6::HEADER])
        }
    };
    let field = checksum::field(checksum::sum(&message, partial));
    message[2..4].copy_from_slice(&field.to_be_bytes());
    let ethertype = if src.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
    let packet = ethernet::emit(&mut head, &OUR_MAC, &THEIR_MAC, ethertype).expect("room");
    let rest = match src {
        IpAddr::V4(src) => {
            let (dst, protocol) = (OUR_V4, icmpv4::PROTOCOL);
            ipv4::Header { src, dst, protocol, ttl, dscp, ecn, identification, payload_len }
                .emit(packet)
        }
        IpAddr::V6(src) => {
            let (dst, protocol, hop_limit) = (OUR_V6, icmpv6::PROTOCOL, ttl);
            ipv6::Header { src, dst, protocol, hop_limit, dscp, ecn, flow_label, payload_len }
                .emit(packet)
        }
    };
    assert!(rest.is_some_and(|rest| rest.is_empty()), "the headers fill it");
    head.extend(message);
    head
}

/// A segment of the stack's and whom it is for; I13: all of it is well formed.
fn read(bytes: &[u8]) -> Option<(IpAddr, Segment<'_>)> {
    let frame = Frame::parse(bytes).expect("I13: Ethernet");
    assert_eq!(frame.src, OUR_MAC);
    let (src, dst, protocol, payload) = match frame.ethertype {
        EtherType::IPV4 => {
            let packet = ipv4::Packet::parse(frame.payload).expect("I13: IPv4");
            (IpAddr::V4(packet.src), IpAddr::V4(packet.dst), packet.protocol, packet.payload)
        }
        EtherType::IPV6 => {
            let packet = ipv6::Packet::parse(frame.payload).expect("I13: IPv6");
            (IpAddr::V6(packet.src), IpAddr::V6(packet.dst), packet.protocol, packet.payload)
        }
        _ => return None,
    };
    if protocol != tcp::PROTOCOL {
        return None;
    }
    assert!(frame.dst.is_unicast(), "a segment goes to everybody");
    let segment = Segment::parse(payload).expect("I13: TCP");
    assert!(segment.checksum_ok(PseudoHeader::new(src, dst, protocol)), "I13: TCP checksum");
    Some((dst, segment))
}

fn is_reset(frame: &[u8]) -> bool {
    read(frame).is_some_and(|(_, segment)| segment.flags.contains(Flags::RST))
}

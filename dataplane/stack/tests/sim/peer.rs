//! A client driven by hand, segment by segment, with numbers relative to both sides' initial
//! ones; what the stack answers is shown as a line each.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use xtcp_stack::wire::checksum::{self, PseudoHeader};
use xtcp_stack::wire::ethernet::{self, EtherType, MacAddr};
use xtcp_stack::wire::tcp::{self, Flags, Segment, Timestamps};
use xtcp_stack::wire::{arp, icmpv4, icmpv6, ipv4, ipv6};
use xtcp_stack::{Cd, Config, Event, GroupConfig, Instant};

use super::{Host, Memory, QUEUE, Wire, assert_well_formed};

/// The stack's IPv4 address, and the client's.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The same for IPv6.
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(crate) const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// The client's initial sequence number: every test goes around the circle.
pub(crate) const ISN: u32 = 0xffff_fff8;

/// A segment to the stack.
#[derive(Clone, Debug)]
pub(crate) struct Seg {
    flags: Flags,
    /// Relative to the client's initial sequence number.
    seq: i64,
    /// Relative to the stack's.
    ack: i64,
    text: Vec<u8>,
    window: u16,
    urgent: u16,
    options: tcp::Options,
    /// Options as they stand in the header, whole words, after the others.
    raw_options: Vec<u8>,
    /// SACK blocks, relative to the stack's initial sequence number.
    sacks: Vec<(i64, i64)>,
    /// The ECN codepoint of its packet.
    ecn: u8,
}

/// A segment without anything special.
fn plain(flags: Flags, seq: i64, ack: i64) -> Seg {
    Seg {
        flags,
        seq,
        ack,
        text: Vec::new(),
        window: 500,
        urgent: 0,
        options: tcp::Options::NONE,
        raw_options: Vec::new(),
        sacks: Vec::new(),
        ecn: 0,
    }
}

/// SYN with a segment size of 1,460 bytes and a window scale of 7.
pub(crate) fn syn() -> Seg {
    let options = tcp::Options { mss: Some(1460), window_scale: Some(7), ..tcp::Options::NONE };
    Seg { options, window: 64_000, ..plain(Flags::SYN, 0, 0) }
}

/// As [`syn`], with SACK permitted.
pub(crate) fn syn_with_sack() -> Seg {
    syn().options(|options| options.sack_permitted = true)
}

pub(crate) fn ack(seq: i64, ack: i64) -> Seg {
    plain(Flags::ACK, seq, ack)
}

pub(crate) fn data(seq: i64, ack: i64, text: &[u8]) -> Seg {
    Seg { text: text.to_vec(), ..plain(Flags::ACK | Flags::PSH, seq, ack) }
}

pub(crate) fn fin(seq: i64, ack: i64) -> Seg {
    plain(Flags::ACK | Flags::FIN, seq, ack)
}

pub(crate) fn rst(seq: i64) -> Seg {
    plain(Flags::RST, seq, 0)
}

impl Seg {
    /// The window field as it stands in the header.
    pub(crate) fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    pub(crate) fn flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    pub(crate) fn at(mut self, seq: i64) -> Self {
        self.seq = seq;
        self
    }

    pub(crate) fn acking(mut self, ack: i64) -> Self {
        self.ack = ack;
        self.flags |= Flags::ACK;
        self
    }

    pub(crate) fn text(mut self, text: &[u8]) -> Self {
        self.text = text.to_vec();
        self
    }

    pub(crate) fn urgent(mut self, pointer: u16) -> Self {
        self.urgent = pointer;
        self.flags |= Flags::URG;
        self
    }

    pub(crate) fn stamps(mut self, value: u32, echo: u32) -> Self {
        self.options.timestamps = Some(Timestamps { value, echo });
        self
    }

    /// Its timestamps.
    pub(crate) fn stamps_of(self) -> Option<Timestamps> {
        self.options.timestamps
    }

    pub(crate) fn raw_options(mut self, bytes: &[u8]) -> Self {
        self.raw_options = bytes.to_vec();
        self
    }

    /// SACK blocks, relative to the stack's initial sequence number.
    pub(crate) fn sacks(mut self, blocks: &[(i64, i64)]) -> Self {
        self.sacks = blocks.to_vec();
        self
    }

    /// Marked by a router (RFC 3168).
    pub(crate) fn marked(mut self) -> Self {
        self.ecn = 3;
        self
    }

    pub(crate) fn options(mut self, change: impl FnOnce(&mut tcp::Options)) -> Self {
        change(&mut self.options);
        self
    }
}

/// A segment of the stack's.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) flags: Flags,
    /// Relative to the stack's initial sequence number.
    pub(crate) seq: i64,
    /// Relative to the client's.
    pub(crate) ack: i64,
    pub(crate) window: u16,
    /// The ECN codepoint of its packet.
    pub(crate) ecn: u8,
    pub(crate) options: tcp::Options,
    pub(crate) text: Vec<u8>,
    /// DiffServ code point, and time to live or hop limit, of its packet.
    pub(crate) dscp: u8,
    pub(crate) hop_limit: u8,
}

impl Got {
    /// `PA 1+5 ack 6`: flags, first sequence number, bytes, acknowledgement.
    fn line(&self) -> String {
        let letters = [
            (Flags::SYN, 'S'),
            (Flags::FIN, 'F'),
            (Flags::RST, 'R'),
            (Flags::PSH, 'P'),
            (Flags::ACK, 'A'),
            (Flags::ECE, 'E'),
            (Flags::CWR, 'W'),
        ];
        let flags: String =
            letters.iter().filter(|(f, _)| self.flags.contains(*f)).map(|(_, c)| c).collect();
        let mut line = format!("{flags} {}+{}", self.seq, self.text.len());
        if self.flags.contains(Flags::ACK) {
            line += &format!(" ack {}", self.ack);
        }
        line
    }
}

/// A stack and one client of it.
pub(crate) struct Peer<'m> {
    pub(crate) host: Host<'m>,
    pub(crate) now: Instant,
    /// Frames the stack finds room for, if not all.
    pub(crate) room: Option<usize>,
    /// The stack's device completes TCP checksums, and has done so for so many.
    pub(crate) completes: bool,
    pub(crate) completed: usize,
    /// The connection told of last.
    pub(crate) connection: Option<Cd>,
    /// The last segment the stack sent.
    pub(crate) last: Option<Got>,
    /// The client's address, the stack's, and where its frames go.
    pub(crate) client: IpAddr,
    pub(crate) server: IpAddr,
    pub(crate) server_mac: MacAddr,
    port: u16,
    server_port: u16,
    /// Both sides' initial sequence numbers, by the client's port.
    numbers: HashMap<u16, (u32, u32)>,
}

impl<'m> Peer<'m> {
    /// A client that the stack has already heard of, so that it need not ask for its address.
    pub(crate) fn new(memory: &'m mut Memory, config: &Config, group: &GroupConfig) -> Self {
        let mut peer = Self {
            host: Host::new(memory, config, group),
            now: Instant::from_millis(10_000),
            room: None,
            completes: false,
            completed: 0,
            connection: None,
            last: None,
            client: IpAddr::V4(CLIENT),
            server: IpAddr::V4(SERVER),
            server_mac: SERVER_MAC,
            port: 4000,
            server_port: group.port,
            numbers: HashMap::new(),
        };
        peer.host.stack.audit_every_step();
        peer.say_by_arp(arp::Operation::Request);
        peer
    }

    fn say_by_arp(&mut self, operation: arp::Operation) {
        let packet = arp::Packet {
            operation,
            sender_mac: CLIENT_MAC,
            sender_ip: CLIENT,
            target_mac: SERVER_MAC,
            target_ip: SERVER,
        };
        let mut frame = vec![0; ethernet::HEADER + arp::PACKET];
        let rest = ethernet::emit(&mut frame, &MacAddr::BROADCAST, &CLIENT_MAC, EtherType::ARP);
        packet.emit(rest.expect("room")).expect("room");
        self.host.frame(&frame, &mut Wire::default(), self.now);
    }

    /// IPv6 from now on.
    pub(crate) fn use_ipv6(&mut self) {
        (self.client, self.server) = (IpAddr::V6(CLIENT_V6), IpAddr::V6(SERVER_V6));
        let ask = icmpv6::Solicitation { target: SERVER_V6, source_mac: Some(CLIENT_MAC) };
        let mut message = vec![0; ask.message_len()];
        ask.emit(&mut message, CLIENT_V6, SERVER_V6).expect("room");
        let frame = self.frame_with(icmpv6::PROTOCOL, &message);
        self.host.frame(&frame, &mut Wire::default(), self.now);
    }

    /// The client's port from now on. Answers what it was.
    pub(crate) fn use_port(&mut self, port: u16) -> u16 {
        std::mem::replace(&mut self.port, port)
    }

    /// Another initial sequence number of the client's from now on.
    pub(crate) fn start_at(&mut self, isn: u32) {
        self.numbers.insert(self.port, (isn, 0));
    }

    /// The stack's port from now on.
    pub(crate) fn call(&mut self, server_port: u16) {
        self.server_port = server_port;
    }

    /// The initial sequence number the stack chose.
    pub(crate) fn iss(&self) -> u32 {
        self.numbers_of(self.port).1
    }

    fn numbers_of(&self, port: u16) -> (u32, u32) {
        self.numbers.get(&port).copied().unwrap_or((ISN, 0))
    }

    /// Gives the stack a segment; what it answers at once.
    pub(crate) fn give(&mut self, seg: Seg) -> Vec<String> {
        self.give_all([seg])
    }

    /// Gives the stack segments that arrive together; what it answers at once.
    pub(crate) fn give_all(&mut self, segs: impl IntoIterator<Item = Seg>) -> Vec<String> {
        let mut wire = self.wire();
        for seg in segs {
            let frame = self.frame_of(&seg);
            self.host.frame(&frame, &mut wire, self.now);
        }
        self.host.flush(&mut wire, self.now);
        self.take(&mut wire)
    }

    /// Gives the stack a frame as it is; what it answers at once.
    pub(crate) fn give_frame(&mut self, frame: &[u8]) -> Vec<String> {
        let frames = self.exchange(frame);
        frames.iter().filter_map(|frame| self.read(frame)).collect()
    }

    /// Gives the stack a frame as it is; the frames it sends at once, unread.
    pub(crate) fn exchange(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let mut wire = self.wire();
        self.host.frame(frame, &mut wire, self.now);
        self.host.flush(&mut wire, self.now);
        wire.leave();
        wire.frames
    }

    /// An ICMP error of this type, code and word about a packet of `len` bytes that the stack has
    /// sent, its segment at `seq`; what the stack answers at once.
    pub(crate) fn complain(
        &mut self,
        (kind, code, word): (u8, u8, u32),
        seq: i64,
        len: u16,
    ) -> Vec<String> {
        let quoted = self.quote(seq, len);
        let mut message = vec![kind, code, 0, 0];
        message.extend(word.to_be_bytes());
        message.extend(quoted);
        let (protocol, partial) = match (self.client, self.server) {
            (IpAddr::V4(_), _) => (icmpv4::PROTOCOL, 0),
            (src, dst) => {
                let pseudo = PseudoHeader::new(src, dst, icmpv6::PROTOCOL);
                (icmpv6::PROTOCOL, pseudo.sum(message.len()))
            }
        };
        let field = checksum::field(checksum::sum(&message, partial));
        message[2..4].copy_from_slice(&field.to_be_bytes());
        let frame = self.frame_with(protocol, &message);
        self.give_frame(&frame)
    }

    /// The head of a packet of the stack's, as an ICMP error quotes it.
    pub(crate) fn quote(&self, seq: i64, len: u16) -> Vec<u8> {
        let (dscp, ecn, flow_label, identification) = (0, 0, 0, 0);
        let (ttl, hop_limit, protocol) = (64, 64, tcp::PROTOCOL);
        let mut packet = vec![0; ipv6::HEADER + 8];
        let rest = match (self.server, self.client) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                packet.truncate(ipv4::HEADER + 8);
                let payload_len = len - ipv4::HEADER as u16;
                ipv4::Header { src, dst, protocol, ttl, dscp, ecn, identification, payload_len }
                    .emit(&mut packet)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let payload_len = len - ipv6::HEADER as u16;
                ipv6::Header { src, dst, protocol, hop_limit, dscp, ecn, flow_label, payload_len }
                    .emit(&mut packet)
            }
            _ => panic!("two families"),
        };
        let rest = rest.expect("room");
        rest[..2].copy_from_slice(&self.server_port.to_be_bytes());
        rest[2..4].copy_from_slice(&self.port.to_be_bytes());
        rest[4..].copy_from_slice(&from_relative(self.iss(), seq).to_be_bytes());
        packet
    }

    /// What the stack has to send now.
    pub(crate) fn turn(&mut self) -> Vec<String> {
        let mut wire = self.wire();
        self.host.flush(&mut wire, self.now);
        self.take(&mut wire)
    }

    /// Lets time pass from deadline to deadline; what the stack sends meanwhile, with the
    /// milliseconds since the start of the wait.
    pub(crate) fn wait(&mut self, duration: Duration) -> Vec<String> {
        let start = self.now;
        let end = start + duration;
        let mut lines = Vec::new();
        loop {
            for line in self.turn() {
                lines.push(format!("{} ms: {line}", self.now.since(start).as_millis()));
            }
            let next = self.host.stack.poll_timeout().filter(|next| *next <= end);
            let Some(next) = next else { break };
            assert!(next > self.now, "time goes on: {next:?} after {:?}", self.now);
            self.now = next;
        }
        self.now = end;
        for line in self.turn() {
            lines.push(format!("{} ms: {line}", self.now.since(start).as_millis()));
        }
        lines
    }

    /// Everything the application is told now.
    pub(crate) fn events(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(event) = self.host.stack.poll_event(QUEUE) {
            let (connection, line) = match event {
                Event::Acceptable { connection, .. } => (connection, "acceptable".to_owned()),
                Event::Opened { connection, .. } => (connection, "opened".to_owned()),
                Event::Data { connection, at, len, offset, .. } => {
                    let bytes = self.host.stack.received(self.host.pool, at, len);
                    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(12)]).into_owned();
                    (connection, format!("data {offset}+{len} {start}"))
                }
                Event::Finished { connection, offset, .. } => {
                    (connection, format!("finished {offset}"))
                }
                Event::Closed { connection, reason, held, .. } => {
                    (connection, format!("closed {reason:?} held {held}"))
                }
                Event::Drained { group } => {
                    assert_eq!(group, self.host.group);
                    lines.push("drained".to_owned());
                    continue;
                }
            };
            self.connection = Some(connection);
            lines.push(line);
        }
        lines
    }

    /// The connection told of last.
    pub(crate) fn cd(&self) -> Cd {
        self.connection.expect("one was told of")
    }

    pub(crate) fn accept(&mut self) {
        let (group, connection) = (self.host.group, self.cd());
        self.host.stack.accept(group, connection, self.now).expect("acceptable");
    }

    pub(crate) fn commit(&mut self, up_to: u64) {
        let (group, connection) = (self.host.group, self.cd());
        self.host.stack.commit(group, connection, up_to, false, self.now).expect("given");
    }

    pub(crate) fn send(&mut self, text: &[u8]) {
        let (group, connection) = (self.host.group, self.cd());
        self.host.stack.send(group, connection, text, self.now).expect("room");
    }

    pub(crate) fn close(&mut self) {
        let (group, connection) = (self.host.group, self.cd());
        self.host.stack.close(group, connection, self.now).expect("open");
    }

    pub(crate) fn abort(&mut self) {
        let (group, connection) = (self.host.group, self.cd());
        self.host.stack.abort(group, connection, self.now).expect("there");
    }

    /// A handshake to its end, with the application's acceptance if the group asks for it.
    pub(crate) fn open(&mut self) {
        self.open_with(syn());
    }

    /// As [`Self::open`], with this SYN; its timestamps go on in the acknowledgement.
    pub(crate) fn open_with(&mut self, syn: Seg) {
        let stamps = syn.options.timestamps;
        let mut answer = self.give(syn);
        if answer.is_empty() {
            assert_eq!(self.events(), ["acceptable"]);
            self.accept();
            answer = self.turn();
        }
        assert_eq!(answer, ["SA 0+0 ack 1"]);
        let mut last = ack(1, 1);
        if let (Some(ours), Some(theirs)) = (stamps, self.last_got().options.timestamps) {
            last = last.stamps(ours.value, theirs.value);
        }
        assert_eq!(self.give(last), [""; 0]);
        assert_eq!(self.events(), ["opened"]);
    }

    /// The last segment the stack sent.
    pub(crate) fn last_got(&self) -> &Got {
        self.last.as_ref().expect("the stack sent something")
    }

    /// The SACK blocks of the last segment, relative to the client's initial sequence number.
    pub(crate) fn last_sacks(&self) -> Vec<(i64, i64)> {
        let isn = self.numbers_of(self.port).0;
        let blocks = self.last_got().options.sack;
        let relative = |b: &tcp::SackBlock| (to_relative(isn, b.left), to_relative(isn, b.right));
        blocks.as_slice().iter().map(relative).collect()
    }

    fn wire(&self) -> Wire {
        Wire { room: self.room, completes: self.completes, ..Wire::default() }
    }

    fn take(&mut self, wire: &mut Wire) -> Vec<String> {
        self.completed += wire.promised.len();
        wire.leave().iter().filter_map(|frame| self.read(frame)).collect()
    }

    /// A segment in its frame.
    pub(crate) fn frame_of(&self, seg: &Seg) -> Vec<u8> {
        let (isn, iss) = self.numbers_of(self.port);
        let mut options = seg.options;
        for &(left, right) in &seg.sacks {
            let (left, right) = (from_relative(iss, left), from_relative(iss, right));
            options.sack.push(tcp::SackBlock { left, right });
        }
        let header = tcp::Header {
            src_port: self.port,
            dst_port: self.server_port,
            seq: from_relative(isn, seg.seq),
            ack: if seg.flags.contains(Flags::ACK) { from_relative(iss, seg.ack) } else { 0 },
            flags: seg.flags,
            window: seg.window,
            urgent: seg.urgent,
            options,
        };
        let header_len = header.header_len();
        let mut segment = vec![0; header_len + seg.raw_options.len() + seg.text.len()];
        header.emit(&mut segment).expect("room");
        let (raw, text) = segment[header_len..].split_at_mut(seg.raw_options.len());
        raw.copy_from_slice(&seg.raw_options);
        text.copy_from_slice(&seg.text);
        segment[12] += u8::try_from(seg.raw_options.len() / 4 * 16).expect("at most 40 bytes");
        let pseudo = PseudoHeader::new(self.client, self.server, tcp::PROTOCOL);
        tcp::set_checksum(&mut segment, pseudo);
        self.frame_marked(tcp::PROTOCOL, &segment, seg.ecn)
    }

    /// A packet of this protocol in its frame.
    pub(crate) fn frame_with(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        self.frame_marked(protocol, payload, 0)
    }

    /// With these ECN bits.
    fn frame_marked(&self, protocol: u8, payload: &[u8], ecn: u8) -> Vec<u8> {
        let payload_len = u16::try_from(payload.len()).expect("it fits");
        let (dscp, flow_label, identification) = (0, 0, 0);
        let (ttl, hop_limit) = (64, 255);
        let (ip_len, ethertype) = match self.client {
            IpAddr::V4(_) => (ipv4::HEADER, EtherType::IPV4),
            IpAddr::V6(_) => (ipv6::HEADER, EtherType::IPV6),
        };
        let mut frame = vec![0; ethernet::HEADER + ip_len + payload.len()];
        let packet = ethernet::emit(&mut frame, &self.server_mac, &CLIENT_MAC, ethertype);
        let packet = packet.expect("room");
        let into = match (self.client, self.server) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                ipv4::Header { src, dst, protocol, ttl, dscp, ecn, identification, payload_len }
                    .emit(packet)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                ipv6::Header { src, dst, protocol, hop_limit, dscp, ecn, flow_label, payload_len }
                    .emit(packet)
            }
            _ => panic!("two families"),
        };
        into.expect("room").copy_from_slice(payload);
        frame
    }

    /// A segment as a line. Questions for the client's address are answered and not shown.
    fn read(&mut self, frame: &[u8]) -> Option<String> {
        assert_well_formed(frame);
        let ethernet = ethernet::Frame::parse(frame).expect("well formed");
        assert!(ethernet.dst == CLIENT_MAC || ethernet.dst.0[0] & 1 == 1, "it goes to the client");
        let (src, dst, protocol, payload, fields) = match ethernet.ethertype {
            EtherType::ARP => {
                self.say_by_arp(arp::Operation::Reply);
                return None;
            }
            EtherType::IPV4 => {
                let packet = ipv4::Packet::parse(ethernet.payload).expect("well formed");
                let (src, dst) = (IpAddr::V4(packet.src), IpAddr::V4(packet.dst));
                (src, dst, packet.protocol, packet.payload, (packet.dscp, packet.ttl, packet.ecn))
            }
            _ => {
                let packet = ipv6::Packet::parse(ethernet.payload).expect("well formed");
                let (src, dst) = (IpAddr::V6(packet.src), IpAddr::V6(packet.dst));
                (
                    src,
                    dst,
                    packet.protocol,
                    packet.payload,
                    (packet.dscp, packet.hop_limit, packet.ecn),
                )
            }
        };
        if protocol != tcp::PROTOCOL {
            return None;
        }
        assert_eq!((src, dst), (self.server, self.client));
        let segment = Segment::parse(payload).expect("well formed");
        let port = segment.dst_port;
        let (isn, mut iss) = self.numbers_of(port);
        if segment.flags.contains(Flags::SYN | Flags::ACK) {
            iss = segment.seq;
            self.numbers.insert(port, (isn, iss));
        }
        let got = Got {
            flags: segment.flags,
            seq: to_relative(iss, segment.seq),
            ack: to_relative(isn, segment.ack),
            window: segment.window,
            ecn: fields.2,
            options: segment.options,
            text: segment.payload.to_vec(),
            dscp: fields.0,
            hop_limit: fields.1,
        };
        let line = got.line();
        self.last = Some(got);
        Some(if port == self.port { line } else { format!("port {port}: {line}") })
    }
}

fn from_relative(base: u32, number: i64) -> u32 {
    let number = u32::try_from(number.rem_euclid(1 << 32)).expect("below 2^32");
    base.wrapping_add(number)
}

/// Half a turn in both directions.
fn to_relative(base: u32, number: u32) -> i64 {
    let ahead = i64::from(number.wrapping_sub(base));
    if ahead < 1 << 31 { ahead } else { ahead - (1 << 32) }
}

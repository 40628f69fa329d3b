//! What comes from outside: segments as an honest client sends them, and all sorts of others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xtcp_stack::wire::ethernet::{self, EtherType, MacAddr};
use xtcp_stack::wire::tcp::{self, Flags, Segment};
use xtcp_stack::wire::{arp, checksum, icmpv6, ipv4, ipv6};
use xtcp_stack::{Checksum, Event};

use super::choices::Choices;
use super::client::byte_at;
use super::frames::{frame_of, icmp_frame, is_reset, read};
use super::{CLIENTS, OUR_MAC, OUR_V4, OUR_V6, PORTS, QUEUE, THEIR_MAC, World};

impl World<'_, '_> {
    /// The client's address: even ones IPv4, odd ones IPv6.
    pub(super) fn address(at: usize) -> IpAddr {
        let number = u8::try_from(10 + at % 4).unwrap_or(10);
        if at % 2 == 0 {
            IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
        } else {
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()))
        }
    }

    /// The stack learns, or is told wrongly, where a client is.
    pub(super) fn introduce(&mut self, at: usize, mac: MacAddr) {
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

    pub(super) fn syn(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        self.syn_of(at, choices);
    }

    pub(super) fn syn_of(&mut self, at: usize, choices: &mut Choices<'_>) {
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
    pub(super) fn handshake(&mut self, choices: &mut Choices<'_>) {
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
    pub(super) fn good_citizen(&mut self, choices: &mut Choices<'_>) {
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
    pub(super) fn text_in_order(&mut self, choices: &mut Choices<'_>) {
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
    pub(super) fn any_segment(&mut self, choices: &mut Choices<'_>) {
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

    pub(super) fn near(&self, choices: &mut Choices<'_>, base: u32) -> u32 {
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

    pub(super) fn acknowledge(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        let (seq, ack) = (self.clients[at].next, self.near(choices, self.clients[at].theirs));
        let window = [0, 1, 500, 65_535][choices.below(4)];
        for _ in 0..1 + choices.below(5) {
            self.segment(at, (Flags::ACK, seq, ack), window, tcp::Options::NONE, &[]);
        }
    }

    /// A RST alone: whatever it does, no RST comes back, and at most one challenge (I5).
    pub(super) fn reset(&mut self, choices: &mut Choices<'_>) {
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

    pub(super) fn garbage(&mut self, choices: &mut Choices<'_>) {
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
    pub(super) fn complain(&mut self, choices: &mut Choices<'_>) {
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
    pub(super) fn cut(&mut self, choices: &mut Choices<'_>) {
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
    pub(super) fn damaged(&mut self, choices: &mut Choices<'_>) {
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
    pub(super) fn text(&self, at: usize, seq: u32, len: usize) -> Vec<u8> {
        let port = self.clients[at].port;
        (0..len).map(|n| byte_at(port, seq.wrapping_add(u32::try_from(n).unwrap_or(0)))).collect()
    }

    pub(super) fn segment(
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
}

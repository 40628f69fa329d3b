//! Frames to and from the server. Neighbours are told that every address of the clients' prefix is
//! here; the one neighbour that is asked for is the server.

use std::net::{IpAddr, Ipv6Addr};

use xtcp_stack::Transmit;
use xtcp_stack::wire::checksum::{self, PseudoHeader};
use xtcp_stack::wire::ethernet::{self, EtherType, Frame, MacAddr};
use xtcp_stack::wire::icmpv6::{self, Advertisement, Message, Solicitation};
use xtcp_stack::wire::{arp, ipv4, ipv6, tcp};

use crate::population::Population;

/// The server is asked for this often, in milliseconds.
const ASK_EVERY: u32 = 1000;

const TTL: u8 = 64;

/// The way to the server.
#[derive(Debug)]
pub(crate) struct Path {
    population: Population,
    own_mac: MacAddr,
    server_mac: Option<MacAddr>,
    asked_at: Option<u32>,
    /// Addresses, from the first on, that have asked for the server themselves.
    introduced: u32,
    pub(crate) counters: PathCounters,
}

/// What became of frames that were no good segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathCounters {
    /// Frames that no parser took, or with a wrong checksum: the server or the wire damages them.
    pub damaged: u64,
    /// Sound frames for somebody else, or of a protocol the clients do not speak.
    pub foreign: u64,
    /// Frames that the device had no room for.
    pub unsent: u64,
    /// Segments to addresses that forged ones came from.
    pub backscatter: Backscatter,
}

/// What the server sent to addresses that are nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backscatter {
    /// Answers to SYNs.
    pub syn_acks: u64,
    /// Resets.
    pub resets: u64,
    /// Anything else.
    pub others: u64,
    /// Bytes of all these frames.
    pub bytes: u64,
}

/// A segment for one of our clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived<'f> {
    pub(crate) number: u32,
    pub(crate) segment: tcp::Segment<'f>,
}

impl Backscatter {
    fn count(&mut self, flags: tcp::Flags, frame_len: usize) {
        let kind = if flags.contains(tcp::Flags::RST) {
            &mut self.resets
        } else if flags.contains(tcp::Flags::SYN | tcp::Flags::ACK) {
            &mut self.syn_acks
        } else {
            &mut self.others
        };
        *kind += 1;
        self.bytes += frame_len as u64;
    }
}

impl Path {
    pub(crate) fn new(population: Population, own_mac: MacAddr) -> Self {
        let counters = PathCounters::default();
        Self { population, own_mac, server_mac: None, asked_at: None, introduced: 0, counters }
    }

    pub(crate) const fn population(&self) -> &Population {
        &self.population
    }

    /// Whether the server has said where it is. If not, it is asked, once a second.
    pub(crate) fn is_known(&mut self, now_ms: u32, out: &mut impl Transmit) -> bool {
        if self.server_mac.is_some() {
            return true;
        }
        if self.asked_at.is_none_or(|asked| now_ms.wrapping_sub(asked) >= ASK_EVERY) {
            self.asked_at = Some(now_ms);
            self.ask(self.population.address(0).0, out);
        }
        false
    }

    /// Has client `number`'s address ask for the server if it has not yet: every host does before its
    /// first SYN, and by that the server knows where to send its answers.
    pub(crate) fn introduce(&mut self, number: u32, out: &mut impl Transmit) {
        let index = self.population.address_index(number);
        if index >= self.introduced {
            self.introduced = index + 1;
            self.ask(self.population.address(number).0, out);
        }
    }

    fn ask(&mut self, own: IpAddr, out: &mut impl Transmit) {
        let asked = match (own, self.population.server().ip()) {
            (IpAddr::V4(own), IpAddr::V4(server)) => {
                self.send_arp(arp::Operation::Request, own, MacAddr([0; 6]), server, out)
            }
            (IpAddr::V6(own), IpAddr::V6(server)) => self.solicit(own, server, out),
            _ => None,
        };
        self.counters.unsent += u64::from(asked.is_none());
    }

    /// Takes a frame: a segment for a client is handed on, neighbours are answered.
    pub(crate) fn read<'f>(
        &mut self,
        bytes: &'f [u8],
        out: &mut impl Transmit,
    ) -> Option<Arrived<'f>> {
        let Ok(frame) = Frame::parse(bytes) else {
            self.counters.damaged += 1;
            return None;
        };
        match frame.ethertype {
            EtherType::IPV4 => self.read_v4(&frame, bytes.len()),
            EtherType::IPV6 => self.read_v6(&frame, bytes.len(), out),
            EtherType::ARP => {
                self.on_arp(&frame, out);
                None
            }
            _ => {
                self.counters.foreign += 1;
                None
            }
        }
    }

    fn read_v4<'f>(&mut self, frame: &Frame<'f>, len: usize) -> Option<Arrived<'f>> {
        let Ok(packet) = ipv4::Packet::parse(frame.payload) else {
            self.counters.damaged += 1;
            return None;
        };
        if packet.protocol != tcp::PROTOCOL || packet.is_fragment() {
            self.counters.foreign += 1;
            return None;
        }
        let pseudo = PseudoHeader::v4(packet.src, packet.dst, tcp::PROTOCOL);
        self.read_tcp(packet.payload, (packet.src.into(), packet.dst.into()), pseudo, len)
    }

    fn read_v6<'f>(
        &mut self,
        frame: &Frame<'f>,
        len: usize,
        out: &mut impl Transmit,
    ) -> Option<Arrived<'f>> {
        let Ok(packet) = ipv6::Packet::parse(frame.payload) else {
            self.counters.damaged += 1;
            return None;
        };
        match packet.protocol {
            tcp::PROTOCOL => {
                let pseudo = PseudoHeader::v6(packet.src, packet.dst, tcp::PROTOCOL);
                self.read_tcp(packet.payload, (packet.src.into(), packet.dst.into()), pseudo, len)
            }
            icmpv6::PROTOCOL => {
                self.on_icmpv6(&packet, frame.src, out);
                None
            }
            _ => {
                self.counters.foreign += 1;
                None
            }
        }
    }

    #[inline]
    fn read_tcp<'f>(
        &mut self,
        bytes: &'f [u8],
        (src, dst): (IpAddr, IpAddr),
        pseudo: PseudoHeader,
        frame_len: usize,
    ) -> Option<Arrived<'f>> {
        let segment = tcp::Segment::parse(bytes).ok();
        let Some(segment) = segment.filter(|segment| segment.checksum_ok(pseudo)) else {
            self.counters.damaged += 1;
            return None;
        };
        let server = self.population.server();
        let number = self.population.number(dst, segment.dst_port);
        let is_servers = src == server.ip() && segment.src_port == server.port();
        match number.filter(|_| is_servers) {
            Some(number) => Some(Arrived { number, segment }),
            None if is_servers && self.population.is_stranger(dst) => {
                self.counters.backscatter.count(segment.flags, frame_len);
                None
            }
            None => {
                self.counters.foreign += 1;
                None
            }
        }
    }

    fn on_arp(&mut self, frame: &Frame<'_>, out: &mut impl Transmit) {
        let Ok(packet) = arp::Packet::parse(frame.payload) else {
            self.counters.damaged += 1;
            return;
        };
        if IpAddr::V4(packet.sender_ip) == self.population.server().ip() {
            self.server_mac = Some(packet.sender_mac);
        }
        let asks = packet.operation == arp::Operation::Request;
        if asks && self.population.answers_for(packet.target_ip.into()) {
            let (own, to) = (packet.target_ip, packet.sender_ip);
            let sent = self.send_arp(arp::Operation::Reply, own, packet.sender_mac, to, out);
            self.counters.unsent += u64::from(sent.is_none());
        }
    }

    fn send_arp(
        &self,
        operation: arp::Operation,
        own: std::net::Ipv4Addr,
        target_mac: MacAddr,
        target_ip: std::net::Ipv4Addr,
        out: &mut impl Transmit,
    ) -> Option<()> {
        let to = if operation == arp::Operation::Request { MacAddr::BROADCAST } else { target_mac };
        let buf = out.frame(ethernet::HEADER + arp::PACKET)?;
        let rest = ethernet::emit(buf, &to, &self.own_mac, EtherType::ARP)?;
        let sender_mac = self.own_mac;
        arp::Packet { operation, sender_mac, sender_ip: own, target_mac, target_ip }.emit(rest)?;
        Some(())
    }

    fn on_icmpv6(&mut self, packet: &ipv6::Packet<'_>, from: MacAddr, out: &mut impl Transmit) {
        let server = self.population.server().ip();
        match Message::parse(packet) {
            Ok(Message::NeighbourAdvertisement(told)) if IpAddr::V6(told.target) == server => {
                self.server_mac = told.target_mac.or(self.server_mac);
            }
            Ok(Message::NeighbourSolicitation(asked)) => {
                if self.population.answers_for(asked.target.into()) && !packet.src.is_unspecified()
                {
                    let to = asked.source_mac.unwrap_or(from);
                    let sent = self.advertise(asked.target, packet.src, to, out);
                    self.counters.unsent += u64::from(sent.is_none());
                }
            }
            Ok(_) => self.counters.foreign += 1,
            Err(_) => self.counters.damaged += 1,
        }
    }

    fn advertise(
        &self,
        target: Ipv6Addr,
        to: Ipv6Addr,
        mac: MacAddr,
        out: &mut impl Transmit,
    ) -> Option<()> {
        let target_mac = Some(self.own_mac);
        let message =
            Advertisement { target, target_mac, router: false, solicited: true, overrides: true };
        let rest = self.icmpv6_frame((target, to), mac, message.message_len(), out)?;
        message.emit(rest, target, to)?;
        Some(())
    }

    fn solicit(&self, own: Ipv6Addr, server: Ipv6Addr, out: &mut impl Transmit) -> Option<()> {
        let group = icmpv6::solicited_node(server);
        let message = Solicitation { target: server, source_mac: Some(self.own_mac) };
        let mac = icmpv6::multicast_mac(group);
        let rest = self.icmpv6_frame((own, group), mac, message.message_len(), out)?;
        message.emit(rest, own, group)?;
        Some(())
    }

    fn icmpv6_frame<'o>(
        &self,
        (src, dst): (Ipv6Addr, Ipv6Addr),
        to: MacAddr,
        len: usize,
        out: &'o mut impl Transmit,
    ) -> Option<&'o mut [u8]> {
        let buf = out.frame(ethernet::HEADER + ipv6::HEADER + len)?;
        let rest = ethernet::emit(buf, &to, &self.own_mac, EtherType::IPV6)?;
        let (dscp, ecn, flow_label) = (0, 0, 0);
        let (protocol, hop_limit) = (icmpv6::PROTOCOL, icmpv6::ND_HOP_LIMIT);
        let payload_len = u16::try_from(len).ok()?;
        ipv6::Header { src, dst, protocol, hop_limit, dscp, ecn, flow_label, payload_len }
            .emit(rest)
    }

    /// Sends a segment of client `number`; ports are filled in here. Says whether there was room.
    #[inline]
    pub(crate) fn send(
        &mut self,
        number: u32,
        header: tcp::Header,
        text: &[u8],
        out: &mut impl Transmit,
    ) -> bool {
        let sent = self.try_send(self.population.address(number), header, text, out).is_some();
        self.counters.unsent += u64::from(!sent);
        sent
    }

    /// Sends a segment that is no client's. Says how long its frame is, if there was room.
    pub(crate) fn send_forged(
        &self,
        from: (IpAddr, u16),
        header: tcp::Header,
        out: &mut impl Transmit,
    ) -> Option<usize> {
        self.try_send(from, header, &[], out)
    }

    #[inline]
    fn try_send(
        &self,
        (own, port): (IpAddr, u16),
        mut header: tcp::Header,
        text: &[u8],
        out: &mut impl Transmit,
    ) -> Option<usize> {
        let server = self.population.server();
        header.src_port = port;
        header.dst_port = server.port();
        let header_len = header.header_len();
        let len = header_len + text.len();
        let payload_len = u16::try_from(len).ok()?;
        let mac = self.server_mac?;
        let (protocol, dscp, ecn) = (tcp::PROTOCOL, 0, 0);
        let net_header = if own.is_ipv4() { ipv4::HEADER } else { ipv6::HEADER };
        let frame_len = ethernet::HEADER + net_header + len;
        let (segment, pseudo) = match (own, server.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let buf = out.frame(frame_len)?;
                let rest = ethernet::emit(buf, &mac, &self.own_mac, EtherType::IPV4)?;
                let (ttl, identification) = (TTL, 0);
                let ip = ipv4::Header {
                    src,
                    dst,
                    protocol,
                    ttl,
                    dscp,
                    ecn,
                    identification,
                    payload_len,
                };
                (ip.emit(rest)?, PseudoHeader::v4(src, dst, protocol))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let buf = out.frame(frame_len)?;
                let rest = ethernet::emit(buf, &mac, &self.own_mac, EtherType::IPV6)?;
                let (hop_limit, flow_label) = (TTL, 0);
                let ip = ipv6::Header {
                    src,
                    dst,
                    protocol,
                    hop_limit,
                    dscp,
                    ecn,
                    flow_label,
                    payload_len,
                };
                (ip.emit(rest)?, PseudoHeader::v6(src, dst, protocol))
            }
            _ => return None,
        };
        let place = header.emit(segment)?;
        let text_sum = checksum::copy_and_sum(place, text, 0);
        tcp::set_checksum_with(segment, header_len, text_sum, pseudo);
        Some(frame_len)
    }
}

//! ICMP and ICMPv6: echoes are answered, neighbours too, errors are handed up if they are about
//! one of our segments. Of the errors a host can send, only what IPv6 demands of its extension headers
//! is sent, by `problems`: the others nobody needs of a host that serves TCP and nothing else, and
//! they can then not be used to scan (RFC 1122 section 3.2.2.1 and RFC 4443 section 3.1 have them as
//! SHOULD).

use core::net::Ipv6Addr;

use super::Interface;
use super::addresses::Key;
use super::neighbours::News;
use crate::counters::{Count, Counters, Outcome, Stop};
use crate::time::Instant;
use crate::wire::ethernet::{self, EtherType, MacAddr};
use crate::wire::icmp::{Error, Failure};
use crate::wire::icmpv6::{Advertisement, Solicitation};
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};
use crate::world::Transmit;

/// Time to live and hop limit of what we send.
pub(super) const HOPS: u8 = 64;

/// [`ipv6::MTU_MIN`], as a message tells an MTU.
const IPV6_MTU_MIN: u32 = ipv6::MTU_MIN as u32;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

impl Interface<'_> {
    /// An ICMP message has come in this packet, from the station `src_mac`. Gives the error it
    /// reports about a TCP segment of ours, to be believed only if the segment's sequence number is in
    /// flight (RFC 5927).
    ///
    /// # Errors
    /// The reason it was not acted on.
    pub fn on_icmpv4(
        &mut self,
        packet: &ipv4::Packet<'_>,
        src_mac: MacAddr,
        out: &mut impl Transmit,
        counters: &mut Counters,
    ) -> Result<Option<Error>, Stop> {
        if packet.is_fragment() {
            return Err(Stop::IpFragment);
        }
        if packet.source_routed {
            return Err(Stop::Ipv4SourceRoute);
        }
        // Echo requests to groups are not answered (RFC 1122 section 3.2.2.6 allows it).
        if self.local(packet.dst.into()).is_none() {
            return Err(Stop::IpForeign);
        }
        if !self.is_valid_source(packet.src.into()) {
            return Err(Stop::IpSource);
        }
        match icmpv4::Message::parse(packet.payload)? {
            icmpv4::Message::EchoRequest(echo) if self.answers => {
                self.echo_v4(packet, echo, src_mac, out)?;
                counters.count(Count::EchoRepliesOut);
                Ok(None)
            }
            icmpv4::Message::EchoRequest(_) => Ok(None),
            icmpv4::Message::Error(error) => self.check_error(error),
            icmpv4::Message::ErrorAboutOther => Err(Stop::IcmpErrorIgnored),
            icmpv4::Message::SourceQuench => Err(Stop::IcmpQuench),
            icmpv4::Message::Redirect => Err(Stop::IcmpRedirect),
            icmpv4::Message::EchoReply(_) | icmpv4::Message::Other { .. } => Err(Stop::IcmpIgnored),
        }
    }

    /// An ICMPv6 message has come in this packet, from the station `src_mac`; otherwise as
    /// [`Self::on_icmpv4`].
    ///
    /// # Errors
    /// The reason it was not acted on.
    pub fn on_icmpv6(
        &mut self,
        packet: &ipv6::Packet<'_>,
        src_mac: MacAddr,
        out: &mut impl Transmit,
        counters: &mut Counters,
        now: Instant,
    ) -> Result<Option<Error>, Stop> {
        if matches!(packet.fragment, ipv6::Fragment::Part { .. }) {
            return Err(Stop::IpFragment);
        }
        let for_us = self.local(packet.dst.into()).is_some();
        if !for_us && !self.addresses.is_member(packet.dst) {
            return Err(Stop::IpForeign);
        }
        let message = icmpv6::Message::parse(packet)?;
        if let icmpv6::Message::NeighbourSolicitation(asked) = message {
            return self.on_solicitation(packet, asked, src_mac, out, counters, now).map(|()| None);
        }
        if let icmpv6::Message::NeighbourAdvertisement(told) = message {
            return self.on_advertisement(packet, told, out, counters, now).map(|()| None);
        }
        if !self.is_valid_source(packet.src.into()) {
            return Err(Stop::IpSource);
        }
        match message {
            icmpv6::Message::EchoRequest(_) if !for_us => Err(Stop::IpGroup),
            icmpv6::Message::EchoRequest(echo) if self.answers => {
                self.echo_v6(packet, echo, src_mac, out)?;
                counters.count(Count::EchoRepliesOut);
                Ok(None)
            }
            icmpv6::Message::EchoRequest(_) => Ok(None),
            // RFC 8201 section 4: the path MTU is never below the least a link can have.
            icmpv6::Message::Error(Error {
                failure: Failure::PacketTooBig { mtu: ..IPV6_MTU_MIN },
                ..
            }) => Err(Stop::IcmpErrorIgnored),
            icmpv6::Message::Error(error) => self.check_error(error),
            icmpv6::Message::ErrorAboutOther => Err(Stop::IcmpErrorIgnored),
            icmpv6::Message::Router { .. } => Err(Stop::IcmpRedirect),
            _ => Err(Stop::IcmpIgnored),
        }
    }

    /// An error is only about us if the quoted packet is from us.
    fn check_error(&self, error: Error) -> Result<Option<Error>, Stop> {
        match self.local(error.quoted.src) {
            Some(_) => Ok(Some(error)),
            None => Err(Stop::IcmpErrorIgnored),
        }
    }

    /// Somebody asks where one of our addresses is (RFC 4861 sections 7.2.3 and 7.2.4).
    fn on_solicitation(
        &mut self,
        packet: &ipv6::Packet<'_>,
        asked: Solicitation,
        src_mac: MacAddr,
        out: &mut impl Transmit,
        counters: &mut Counters,
        now: Instant,
    ) -> Outcome {
        if self.local(asked.target.into()).is_none() {
            return Err(Stop::NdForeign);
        }
        if packet.src.is_unspecified() {
            if src_mac == self.mac {
                // Our own question, sent back by the link (RFC 4862 section 5.4.3).
                return Err(Stop::NdForeign);
            }
            self.yield_if_detecting(asked.target.into(), counters)?;
            // Duplicate address detection: everybody hears that the address is taken.
            return self.advertise(asked.target, (ALL_NODES, None), out, counters);
        }
        if self.local(packet.src.into()).is_some() {
            return self.defend(packet.src.into(), out, counters, now);
        }
        let asker = Key::of(packet.src.into());
        let mac = asked.source_mac.unwrap_or(src_mac);
        if !mac.is_unicast() || mac == self.mac {
            return Err(Stop::NdInvalid);
        }
        if !self.is_valid_source(packet.src.into()) {
            return Err(Stop::IpSource);
        }
        if asked.source_mac.is_some() && self.addresses.is_on_link(asker) {
            let news = News { mac: Some(mac), solicited: false, overrides: true, wants_us: true };
            match self.neighbours.learn(asker, news, counters, now) {
                Ok(Some(waited)) => self.release(waited, out, counters),
                // Without room in the table it is answered all the same.
                learned => counters.outcome(learned.map(|_| ())),
            }
        }
        self.advertise(asked.target, (packet.src, Some(mac)), out, counters)
    }

    /// A neighbour says where it is (RFC 4861 section 7.2.5).
    fn on_advertisement(
        &mut self,
        packet: &ipv6::Packet<'_>,
        told: Advertisement,
        out: &mut impl Transmit,
        counters: &mut Counters,
        now: Instant,
    ) -> Outcome {
        let ours = told.target_mac == Some(self.mac);
        if ours || told.target_mac.is_some_and(|mac| !mac.is_unicast()) {
            return Err(Stop::NdInvalid);
        }
        if self.local(told.target.into()).is_some() {
            return self.defend(told.target.into(), out, counters, now);
        }
        if !self.is_valid_source(packet.src.into()) {
            return Err(Stop::IpSource);
        }
        let news = News {
            mac: told.target_mac,
            solicited: told.solicited,
            overrides: told.overrides,
            wants_us: false,
        };
        let target = Key::of(told.target.into());
        if let Some(waited) = self.neighbours.learn(target, news, counters, now)? {
            self.release(waited, out, counters);
        }
        Ok(())
    }

    /// Answers whoever asked, or tells everybody if there is no one to answer.
    fn advertise(
        &self,
        target: Ipv6Addr,
        (dst, mac): (Ipv6Addr, Option<MacAddr>),
        out: &mut impl Transmit,
        counters: &mut Counters,
    ) -> Outcome {
        if !self.answers {
            return Ok(());
        }
        let told = Advertisement {
            target,
            target_mac: Some(self.mac),
            router: false,
            solicited: mac.is_some(),
            overrides: true,
        };
        let mac = mac.unwrap_or_else(|| icmpv6::multicast_mac(dst));
        let emit = |buf: &mut [u8]| told.emit(buf, target, dst).map(|_| ());
        let header = nd_header(target, dst, told.message_len());
        self.send_v6(mac, header, emit, out)?;
        counters.count(Count::AdvertisementsOut);
        Ok(())
    }

    /// Tells everybody that `ip` is ours (RFC 4861 section 7.2.6).
    pub(super) fn announce_v6(
        &self,
        ip: Ipv6Addr,
        out: &mut impl Transmit,
        counters: &mut Counters,
    ) -> Outcome {
        self.advertise(ip, (ALL_NODES, None), out, counters)
    }

    /// Asks who has `target`: its group, or whoever had it (RFC 4861 section 7.2.2).
    pub(super) fn ask_v6(
        &self,
        source: Ipv6Addr,
        target: Ipv6Addr,
        mac: Option<MacAddr>,
        out: &mut impl Transmit,
        counters: &mut Counters,
    ) -> Outcome {
        // Without an address of its own to be answered at, it says nothing of itself.
        let source_mac = (!source.is_unspecified()).then_some(self.mac);
        let asked = Solicitation { target, source_mac };
        let group = icmpv6::solicited_node(target);
        let everybody = || (group, icmpv6::multicast_mac(group));
        let (dst, mac) = mac.map_or_else(everybody, |mac| (target, mac));
        let emit = |buf: &mut [u8]| asked.emit(buf, source, dst).map(|_| ());
        self.send_v6(mac, nd_header(source, dst, asked.message_len()), emit, out)?;
        counters.count(Count::SolicitationsOut);
        Ok(())
    }

    /// Sends the echo back where the request came from.
    fn echo_v4(
        &self,
        packet: &ipv4::Packet<'_>,
        echo: icmpv4::Echo<'_>,
        src_mac: MacAddr,
        out: &mut impl Transmit,
    ) -> Outcome {
        if !src_mac.is_unicast() {
            return Err(Stop::FrameSource);
        }
        let len = ethernet::header_len(self.vlan) + ipv4::HEADER + echo.message_len();
        let header = ipv4::Header {
            src: packet.dst,
            dst: packet.src,
            protocol: icmpv4::PROTOCOL,
            ttl: HOPS,
            dscp: packet.dscp,
            ecn: 0,
            identification: 0,
            payload_len: echo.message_len() as u16,
        };
        let frame = out.frame(len).ok_or(Stop::TransmitFull)?;
        ethernet::emit_in(self.vlan, frame, &src_mac, &self.mac, EtherType::IPV4)
            .and_then(|rest| header.emit(rest))
            .and_then(|rest| echo.emit_reply(rest))
            .map(|_| ())
            .ok_or(Stop::TransmitFull)
    }

    fn echo_v6(
        &self,
        packet: &ipv6::Packet<'_>,
        echo: icmpv6::Echo<'_>,
        src_mac: MacAddr,
        out: &mut impl Transmit,
    ) -> Outcome {
        if !src_mac.is_unicast() {
            return Err(Stop::FrameSource);
        }
        let header = ipv6::Header {
            src: packet.dst,
            dst: packet.src,
            protocol: icmpv6::PROTOCOL,
            hop_limit: HOPS,
            dscp: packet.dscp,
            ecn: 0,
            flow_label: 0,
            payload_len: echo.message_len() as u16,
        };
        let emit = |buf: &mut [u8]| echo.emit_reply(buf, header.src, header.dst).map(|_| ());
        self.send_v6(src_mac, header, emit, out)
    }

    pub(super) fn send_v6(
        &self,
        dst: MacAddr,
        header: ipv6::Header,
        emit: impl FnOnce(&mut [u8]) -> Option<()>,
        out: &mut impl Transmit,
    ) -> Outcome {
        let len = ethernet::header_len(self.vlan) + ipv6::HEADER + usize::from(header.payload_len);
        let frame = out.frame(len).ok_or(Stop::TransmitFull)?;
        ethernet::emit_in(self.vlan, frame, &dst, &self.mac, EtherType::IPV6)
            .and_then(|rest| header.emit(rest))
            .and_then(emit)
            .ok_or(Stop::TransmitFull)
    }
}

/// The header of a neighbour discovery message.
fn nd_header(src: Ipv6Addr, dst: Ipv6Addr, message_len: usize) -> ipv6::Header {
    ipv6::Header {
        src,
        dst,
        protocol: icmpv6::PROTOCOL,
        hop_limit: icmpv6::ND_HOP_LIMIT,
        dscp: 0,
        ecn: 0,
        flow_label: 0,
        payload_len: message_len as u16,
    }
}

//! ARP (RFC 826, RFC 1122 section 2.3.2, RFC 5227): asking, answering, and whom to believe.

use core::net::Ipv4Addr;

use super::Interface;
use super::addresses::Key;
use super::neighbours::News;
use crate::counters::{Count, Counters, Outcome, Stop};
use crate::time::Instant;
use crate::wire::arp::{self, Operation, Packet};
use crate::wire::ethernet::{self, EtherType, MacAddr};
use crate::world::Transmit;

impl Interface<'_> {
    /// An ARP packet has come: the payload of its frame. Only who is on our link is believed,
    /// only who asks for us is newly remembered, and nobody about our own addresses.
    ///
    /// # Errors
    /// The reason it was not acted on.
    pub fn on_arp(
        &mut self,
        bytes: &[u8],
        out: &mut impl Transmit,
        counters: &mut Counters,
        now: Instant,
    ) -> Outcome {
        counters.count(Count::ArpIn);
        let packet = Packet::parse(bytes)?;
        if !packet.sender_mac.is_unicast() || packet.sender_mac == self.mac {
            return Err(Stop::ArpSender);
        }
        let for_us = self.local(packet.target_ip.into()).is_some();
        let asks = packet.operation == Operation::Request;
        if packet.sender_ip.is_unspecified() {
            // A probe (RFC 5227 section 2.1.1): who looks for a free address has none yet.
            if for_us && asks {
                self.yield_if_detecting(packet.target_ip.into(), counters)?;
            }
            return if for_us && asks {
                self.answer(&packet, out, counters)
            } else {
                Err(Stop::ArpForeign)
            };
        }
        if self.local(packet.sender_ip.into()).is_some() {
            return self.defend(packet.sender_ip.into(), out, counters, now);
        }
        let sender = Key::of(packet.sender_ip.into());
        if !self.is_valid_source(packet.sender_ip.into()) || !self.addresses.is_on_link(sender) {
            return Err(Stop::ArpSender);
        }
        let news = News {
            mac: Some(packet.sender_mac),
            solicited: !asks && for_us,
            overrides: true,
            wants_us: asks && for_us,
        };
        let learned = self.neighbours.learn(sender, news, counters, now);
        if let Ok(Some(waited)) = learned {
            self.release(waited, out, counters);
        }
        match (asks, for_us) {
            (true, true) => {
                // Without room in the table it is answered all the same.
                counters.outcome(learned.map(|_| ()));
                self.answer(&packet, out, counters)
            }
            (false, true) => learned.map(|_| ()),
            (_, false) => Err(Stop::ArpForeign),
        }
    }

    /// Tells the asker that we have what it asks for.
    fn answer(&self, asked: &Packet, out: &mut impl Transmit, counters: &mut Counters) -> Outcome {
        if !self.answers {
            return Ok(());
        }
        let reply = Packet {
            operation: Operation::Reply,
            sender_mac: self.mac,
            sender_ip: asked.target_ip,
            target_mac: asked.sender_mac,
            target_ip: asked.sender_ip,
        };
        self.send_arp(asked.sender_mac, &reply, out)?;
        counters.count(Count::ArpRepliesOut);
        Ok(())
    }

    /// Asks who has `target`: everybody, or whoever had it.
    pub(super) fn ask_v4(
        &self,
        source: Ipv4Addr,
        target: Ipv4Addr,
        mac: Option<MacAddr>,
        out: &mut impl Transmit,
        counters: &mut Counters,
    ) -> Outcome {
        let request = Packet {
            operation: Operation::Request,
            sender_mac: self.mac,
            sender_ip: source,
            target_mac: MacAddr::default(),
            target_ip: target,
        };
        self.send_arp(mac.unwrap_or(MacAddr::BROADCAST), &request, out)?;
        counters.count(Count::ArpRequestsOut);
        Ok(())
    }

    /// Says that `ip` is ours: a request for it from itself (RFC 5227 section 2.3).
    pub(super) fn announce_v4(
        &self,
        ip: Ipv4Addr,
        out: &mut impl Transmit,
        counters: &mut Counters,
    ) -> Outcome {
        self.ask_v4(ip, ip, None, out, counters)
    }

    fn send_arp(&self, dst: MacAddr, packet: &Packet, out: &mut impl Transmit) -> Outcome {
        let len = ethernet::header_len(self.vlan) + arp::PACKET;
        let frame = out.frame(len).ok_or(Stop::TransmitFull)?;
        ethernet::emit_in(self.vlan, frame, &dst, &self.mac, EtherType::ARP)
            .and_then(|rest| packet.emit(rest))
            .map(|_| ())
            .ok_or(Stop::TransmitFull)
    }
}

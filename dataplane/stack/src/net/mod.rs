//! The network layer of one port: own addresses, the way to a destination, ARP, neighbour
//! discovery and ICMP.
//!
//! [`Interface`] answers three questions of the stack above: is this frame or packet for us, and
//! can its sender be real; to which Ethernet address does a packet to this destination go; and
//! what do ARP, ICMP and ICMPv6 want. Nothing is forwarded, no route is learned: redirects and
//! router advertisements are counted and ignored, and routes are the configuration's. Own addresses
//! come from the operator; whether somebody else has them is asked at the start if so configured, and
//! a claim that comes later is counted and defended against (RFC 5227 section 2.4 (c)).

mod addresses;
mod arp;
mod detection;
mod icmp;
mod neighbours;
mod problems;
pub mod reassembly;

use core::net::IpAddr;

use self::addresses::{Addresses, Key};
use self::detection::Detection;
use self::neighbours::{Known, Neighbours, Question};
pub use self::neighbours::{NeighbourRecord, PARKED_FRAME_MAX, PENDING_MAX, ParkedFrame};
use self::problems::Ration;
use crate::config::Config;
use crate::counters::{Count, Counters, Outcome, Stop};
use crate::time::Instant;
use crate::wire::ethernet::MacAddr;
use crate::world::Transmit;

/// Whom an Ethernet destination address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacClass {
    /// Us.
    Ours,
    /// A group, which we may be in: what is in the frame decides.
    Multicast,
    /// Everybody.
    Broadcast,
    /// Another station.
    Foreign,
}

/// What is known of the way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// Frames go to this Ethernet address.
    Mac(MacAddr),
    /// The neighbour is being asked; [`Interface::park`] holds one frame for it.
    Pending,
    /// There is no way, or, rarely, no room in the neighbour table.
    NoRoute,
}

/// One port's network layer, on memory it is given.
#[derive(Debug)]
pub struct Interface<'m> {
    mac: MacAddr,
    /// 0 for none.
    vlan: u16,
    detection: Detection,
    addresses: Addresses,
    neighbours: Neighbours<'m>,
    answers: bool,
    defended: Option<Instant>,
    problems: Ration,
}

impl<'m> Interface<'m> {
    /// An interface with an empty neighbour table. The memory is zeroed, or was an interface's
    /// with the same configuration and secret before; a table of twice the neighbours in use at once
    /// has room for each of them. As many neighbours as `parked` has places, up
    /// to [`PENDING_MAX`], can have a frame waiting.
    #[must_use]
    pub fn new(
        config: &Config,
        neighbours: &'m mut [NeighbourRecord],
        parked: &'m mut [ParkedFrame],
    ) -> Self {
        Self {
            mac: config.mac,
            vlan: config.net.vlan.unwrap_or(0) & 0x0fff,
            detection: Detection::new(config.net.duplicate_probes),
            addresses: Addresses::new(config),
            neighbours: Neighbours::new(&config.secret, neighbours, parked),
            answers: true,
            defended: None,
            problems: Ration::default(),
        }
    }

    /// Our Ethernet address.
    #[must_use]
    pub const fn mac(&self) -> MacAddr {
        self.mac
    }

    /// The VLAN frames are of; 0 for none.
    #[inline]
    #[must_use]
    pub const fn vlan(&self) -> u16 {
        self.vlan
    }

    /// Whether this worker answers ARP, neighbour solicitations, echo requests and packets whose
    /// extension headers are refused (at first it does). Of several workers that all learn from
    /// copies of these frames, one may.
    pub const fn set_answers(&mut self, answers: bool) {
        self.answers = answers;
    }

    /// Whom a frame's destination means.
    #[inline]
    #[must_use]
    pub fn accepts_mac(&self, dst: MacAddr) -> MacClass {
        if dst == self.mac {
            MacClass::Ours
        } else if dst == MacAddr::BROADCAST {
            MacClass::Broadcast
        } else if dst.is_multicast() {
            MacClass::Multicast
        } else {
            MacClass::Foreign
        }
    }

    /// The place of an own address in [`Config::addresses`]; `None` if it is not ours.
    #[inline]
    #[must_use]
    pub fn local(&self, ip: IpAddr) -> Option<u8> {
        self.addresses.local(ip)
    }

    /// The own address at this place in [`Config::addresses`].
    #[must_use]
    pub fn address(&self, index: u8) -> Option<IpAddr> {
        self.addresses.at(index)
    }

    /// As [`Self::address`], as the source of a packet; unspecified if there is none.
    #[inline]
    pub(crate) fn source(&self, index: u8) -> IpAddr {
        self.addresses.at(index).unwrap_or(IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED))
    }

    /// Whether somebody else can have sent from `ip` (MUST-63): it is not unspecified, loopback,
    /// multicast or a broadcast address, and not ours.
    #[inline]
    #[must_use]
    pub fn is_valid_source(&self, ip: IpAddr) -> bool {
        self.addresses.is_valid_source(ip)
    }

    /// The neighbour through whom a packet reaches `dst`: `dst` itself if it is on the link, else
    /// the gateway. `None` without a gateway, for groups and for ourselves.
    #[must_use]
    pub fn next_hop(&self, dst: IpAddr) -> Option<IpAddr> {
        self.addresses.next_hop(Key::of(dst)).map(Key::ip)
    }

    /// The Ethernet address for packets to `dst`. A neighbour nobody knows is asked for at once,
    /// then by [`Self::poll_frames`].
    #[inline]
    pub fn resolve(
        &mut self,
        dst: IpAddr,
        out: &mut impl Transmit,
        counters: &mut Counters,
        now: Instant,
    ) -> Resolved {
        let Some(neighbour) = self.addresses.next_hop(Key::of(dst)) else {
            counters.stop(Stop::NoRoute);
            return Resolved::NoRoute;
        };
        match self.neighbours.resolve(neighbour, counters, now) {
            Known::Mac(mac) => Resolved::Mac(mac),
            Known::Pending => Resolved::Pending,
            Known::Ask => {
                self.ask(Question { neighbour, mac: None }, out, counters, now);
                Resolved::Pending
            }
            Known::Full => {
                counters.stop(Stop::NeighbourTableFull);
                Resolved::NoRoute
            }
        }
    }

    /// Room for a frame of exactly `len` bytes to `dst`, of which [`Self::resolve`] has said
    /// `Pending`. The caller writes it whole but for the Ethernet destination, which is filled in
    /// when the neighbour answers and the frame is sent. The neighbour's frame that waited before is
    /// dropped. `None` if the frame is longer than [`PARKED_FRAME_MAX`] or no place is left: it is
    /// lost then, and TCP sends it again.
    pub fn park(&mut self, dst: IpAddr, len: usize, counters: &mut Counters) -> Option<&mut [u8]> {
        let neighbour = self.addresses.next_hop(Key::of(dst))?;
        self.neighbours.park(neighbour, len, counters)
    }

    /// The peer at `dst` has acknowledged something new: whoever carries our packets to it is
    /// there (RFC 4861 section 7.3.1).
    #[inline]
    pub fn confirm(&mut self, dst: IpAddr, now: Instant) {
        if let Some(neighbour) = self.addresses.next_hop(Key::of(dst)) {
            self.neighbours.confirm(neighbour, now);
        }
    }

    /// The peer at `dst` does not acknowledge: whoever carries our packets to it is asked again
    /// (RFC 9293 MUST-20, RFC 1122 section 3.3.1.4).
    pub fn doubt(&mut self, dst: IpAddr) {
        if let Some(neighbour) = self.addresses.next_hop(Key::of(dst)) {
            self.neighbours.doubt(neighbour);
        }
    }

    /// Asks the neighbours that are due again, and gives up those that do not answer.
    pub fn poll_frames(&mut self, out: &mut impl Transmit, counters: &mut Counters, now: Instant) {
        self.poll_detection(out, counters, now);
        let mut slot = 0;
        while let Some(question) = self.neighbours.poll(&mut slot, counters, now) {
            self.ask(question, out, counters, now);
        }
    }

    /// When [`Self::poll_frames`] next has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.neighbours.due().min(self.detection.due());
        (due < Instant::NEVER).then_some(due)
    }

    /// Tells everybody on the link where our addresses are: after a start or a change of the
    /// link (RFC 5227 section 2.3, RFC 4861 section 7.2.6).
    pub fn announce(&self, out: &mut impl Transmit, counters: &mut Counters) {
        for ip in self.addresses.all() {
            let outcome = self.announce_one(ip, out, counters);
            counters.outcome(outcome);
        }
    }

    fn announce_one(
        &self,
        ip: IpAddr,
        out: &mut impl Transmit,
        counters: &mut Counters,
    ) -> Outcome {
        match ip {
            IpAddr::V4(ip) => self.announce_v4(ip, out, counters),
            IpAddr::V6(ip) => self.announce_v6(ip, out, counters),
        }
    }

    /// Somebody claims an address of ours. It is told to everybody whose it is, but not more
    /// often than every ten seconds, or two such hosts would never stop (RFC 5227 section 2.4,
    /// `DEFEND_INTERVAL`).
    fn defend(
        &mut self,
        ip: IpAddr,
        out: &mut impl Transmit,
        counters: &mut Counters,
        now: Instant,
    ) -> Outcome {
        const DEFEND_INTERVAL: core::time::Duration = core::time::Duration::from_secs(10);
        self.yield_if_detecting(ip, counters)?;
        let due = self.defended.is_none_or(|last| now >= last + DEFEND_INTERVAL);
        if due && self.answers {
            self.defended = Some(now);
            counters.count(Count::AddressesDefended);
            let outcome = self.announce_one(ip, out, counters);
            counters.outcome(outcome);
        }
        Err(Stop::AddressConflict)
    }

    /// Sends a question, if there is one left in the ration.
    #[cold]
    fn ask(
        &mut self,
        question: Question,
        out: &mut impl Transmit,
        counters: &mut Counters,
        now: Instant,
    ) {
        let Some(source) = self.addresses.source_for(question.neighbour) else { return };
        if !self.neighbours.may_ask(now) {
            return;
        }
        let asked = match (source.ip(), question.neighbour.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                self.ask_v4(source, target, question.mac, out, counters)
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                self.ask_v6(source, target, question.mac, out, counters)
            }
            _ => return,
        };
        counters.outcome(asked);
    }

    /// Sends the frame that waited in this place for a neighbour, which is now known.
    fn release(
        &mut self,
        (slot, mac): (usize, MacAddr),
        out: &mut impl Transmit,
        counters: &mut Counters,
    ) {
        let Some(parked) = self.neighbours.parked(slot) else { return };
        let sent = out.frame(parked.len()).is_some_and(|frame| {
            frame.copy_from_slice(parked);
            if let Some(dst) = frame.get_mut(..6) {
                dst.copy_from_slice(&mac.0);
            }
            true
        });
        counters.outcome(if sent { Ok(()) } else { Err(Stop::TransmitFull) });
        self.neighbours.discard(slot);
    }
}

#[cfg(test)]
mod tests;

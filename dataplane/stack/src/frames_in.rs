//! Frames in: from bytes to the connection they are for.

use core::net::IpAddr;

use crate::counters::{Count, Outcome, Stop};
use crate::half_open::Reception;
use crate::net::MacClass;
use crate::net::reassembly::Part;
use crate::secret::Tuple;
use crate::stack::Stack;
use crate::table::slots::NONE;
use crate::tcp::record::{
    Connection, HELD, LISTED, SEND_SYN, TELL_ACCEPTABLE, TIMESTAMPS, UNFINDABLE,
};
use crate::tcp::seq::SeqNum;
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::checksum::PseudoHeader;
use crate::wire::ethernet::{EtherType, Frame, MacAddr};
use crate::wire::ipv6::Fragment;
use crate::wire::tcp::{Flags, Segment};
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6, tcp};
use crate::world::{Checksum, RxFrame, Transmit};

/// Frames looked at together, so that the memory of one is fetched while another is worked on.
const BATCH: usize = 32;

/// A segment with a good checksum, on its way to its connection.
pub(crate) struct Arrival<'f> {
    pub(crate) segment: Segment<'f>,
    pub(crate) remote: IpAddr,
    /// Index of our address.
    pub(crate) local: u8,
    /// Who sent the frame: a reply without a connection goes back there.
    pub(crate) from: MacAddr,
    /// A router marked its packet (RFC 3168's CE).
    congested: bool,
    hash: u64,
    /// Which connection it is likely for, by its tag alone; `NONE` before the table was asked, or if
    /// it has none.
    candidate: u32,
}

/// A TCP segment as the packet around it tells of it.
pub(crate) struct Carried<'f> {
    /// Who sent the frame, and whom it was for.
    pub(crate) from: (MacAddr, MacClass),
    /// Both ends of the packet, the sender's first.
    pub(crate) ends: (IpAddr, IpAddr),
    /// Its ECN bits.
    pub(crate) ecn: u8,
    /// The whole segment.
    pub(crate) bytes: &'f [u8],
    /// What the device says of its checksum.
    pub(crate) checksum: Checksum,
}

/// RFC 3168 section 5.
const CONGESTION_EXPERIENCED: u8 = 3;

/// What names a connection: both ends, ours by the place of its address.
pub(crate) struct Name {
    pub(crate) remote: IpAddr,
    pub(crate) remote_port: u16,
    pub(crate) local: u8,
    pub(crate) local_port: u16,
}

impl Name {
    /// Both ports as the flow table has them.
    #[inline]
    pub(crate) const fn ports(&self) -> u32 {
        (self.remote_port as u32) << 16 | self.local_port as u32
    }
}

impl Arrival<'_> {
    #[inline]
    const fn name(&self) -> Name {
        Name {
            remote: self.remote,
            remote_port: self.segment.src_port,
            local: self.local,
            local_port: self.segment.dst_port,
        }
    }
}

impl Stack<'_> {
    /// Frames that arrived together, in their order.
    pub fn on_burst(&mut self, frames: &[RxFrame<'_>], out: &mut impl Transmit, now: Instant) {
        self.now = now;
        for batch in frames.chunks(BATCH) {
            let mut arrivals = [const { None }; BATCH];
            for (frame, arrival) in batch.iter().zip(&mut arrivals) {
                let outcome = self.classify(frame, arrival, out);
                self.counters.outcome(outcome);
            }
            let arrivals = &mut arrivals[..batch.len()];
            for arrival in arrivals.iter_mut().flatten() {
                arrival.candidate = self.flows.candidate(arrival.hash).unwrap_or(NONE);
                xtcp_cpu::prefetch_write(&self.connections[arrival.candidate as usize]);
            }
            for arrival in arrivals.iter().flatten() {
                let active = self.connections[arrival.candidate as usize].active();
                if let Some(act) = active.and_then(|active| self.actives.get(active as usize)) {
                    act.prefetch();
                }
            }
            // What an acknowledgement ends is found by those records: asked for together, too.
            for arrival in arrivals.iter().flatten() {
                let active = self.connections[arrival.candidate as usize].active();
                if let Some(act) = active.and_then(|active| self.actives.get(active as usize)) {
                    self.chunks.prefetch(act.recovery.flights.head);
                    self.chunks.prefetch(act.snd_list.head);
                }
            }
            for arrival in arrivals.iter().flatten() {
                let outcome = self.on_arrival(arrival, out);
                self.counters.outcome(outcome);
            }
        }
    }

    /// What a frame is. All but TCP is dealt with here; a segment arrives in `arrival`.
    #[inline]
    fn classify<'f>(
        &mut self,
        frame: &RxFrame<'f>,
        arrival: &mut Option<Arrival<'f>>,
        out: &mut impl Transmit,
    ) -> Outcome {
        self.counters.count(Count::FramesIn);
        self.counters.add(Count::BytesIn, frame.bytes.len() as u64);
        let ethernet = Frame::parse(frame.bytes)?;
        let class = self.interface.accepts_mac(ethernet.dst);
        if class == MacClass::Foreign {
            return Err(Stop::FrameForeign);
        }
        if ethernet.vlan != self.interface.vlan() {
            return Err(Stop::FrameVlan);
        }
        match ethernet.ethertype {
            EtherType::IPV4 => self.classify_ipv4(&ethernet, class, frame.checksum, arrival, out),
            EtherType::IPV6 => self.classify_ipv6(&ethernet, class, frame.checksum, arrival, out),
            EtherType::ARP => {
                let counters = &mut self.counters;
                self.interface.on_arp(ethernet.payload, out, counters, self.now)
            }
            _ => Err(Stop::FrameEtherType),
        }
    }

    #[inline]
    fn classify_ipv4<'f>(
        &mut self,
        frame: &Frame<'f>,
        class: MacClass,
        checksum: Checksum,
        arrival: &mut Option<Arrival<'f>>,
        out: &mut impl Transmit,
    ) -> Outcome {
        let packet = ipv4::Packet::parse(frame.payload)?;
        if packet.source_routed {
            return Err(Stop::Ipv4SourceRoute);
        }
        let (src, dst) = (IpAddr::V4(packet.src), IpAddr::V4(packet.dst));
        if packet.is_fragment() {
            if packet.protocol != tcp::PROTOCOL {
                return Err(Stop::IpFragment);
            }
            let part = Part {
                src,
                dst,
                identification: packet.identification.into(),
                protocol: packet.protocol,
                offset: packet.fragment_offset,
                more: packet.more_fragments,
                ecn: packet.ecn,
                bytes: packet.payload,
            };
            return self.on_fragment(&part, (frame.src, class), out);
        }
        match packet.protocol {
            tcp::PROTOCOL => {
                let (from, ends, ecn) = ((frame.src, class), (src, dst), packet.ecn);
                let carried = Carried { from, ends, ecn, bytes: packet.payload, checksum };
                self.arrive(&carried, arrival)
            }
            // RFC 1122 section 3.2.2: nothing sent to a group's station is about one of us.
            icmpv4::PROTOCOL if class != MacClass::Ours => Err(Stop::IpGroup),
            icmpv4::PROTOCOL => {
                let counters = &mut self.counters;
                match self.interface.on_icmpv4(&packet, frame.src, out, counters)? {
                    Some(error) => self.on_icmp_error(&error),
                    None => Ok(()),
                }
            }
            _ => Err(Stop::IpProtocol),
        }
    }

    /// Not inlined: what it needs would cost every IPv4 packet some instructions.
    #[inline(never)]
    fn classify_ipv6<'f>(
        &mut self,
        frame: &Frame<'f>,
        class: MacClass,
        checksum: Checksum,
        arrival: &mut Option<Arrival<'f>>,
        out: &mut impl Transmit,
    ) -> Outcome {
        let packet = ipv6::Packet::parse(frame.payload)
            .map_err(|malformed| self.refuse_ipv6(frame, class, malformed.into(), out))?;
        let (src, dst) = (IpAddr::V6(packet.src), IpAddr::V6(packet.dst));
        if let Fragment::Part { identification, offset, more } = packet.fragment {
            if packet.protocol == icmpv6::PROTOCOL {
                // Neighbour discovery must not come in pieces (RFC 6980), errors do not.
                return Err(Stop::IpFragment);
            }
            let (protocol, ecn, bytes) = (packet.protocol, packet.ecn, packet.payload);
            let part = Part { src, dst, identification, protocol, offset, more, ecn, bytes };
            return self.on_fragment(&part, (frame.src, class), out);
        }
        match packet.protocol {
            tcp::PROTOCOL => {
                let (from, ends, ecn) = ((frame.src, class), (src, dst), packet.ecn);
                let carried = Carried { from, ends, ecn, bytes: packet.payload, checksum };
                self.arrive(&carried, arrival)
            }
            icmpv6::PROTOCOL if class != MacClass::Ours && !packet.dst.is_multicast() => {
                Err(Stop::IpGroup)
            }
            icmpv6::PROTOCOL => {
                let counters = &mut self.counters;
                match self.interface.on_icmpv6(&packet, frame.src, out, counters, self.now)? {
                    Some(error) => self.on_icmp_error(&error),
                    None => Ok(()),
                }
            }
            _ => Err(self.refuse_ipv6(frame, class, Stop::IpProtocol, out)),
        }
    }

    /// An IPv6 packet goes no further, for this reason, and its sender may have to be told.
    #[cold]
    fn refuse_ipv6(
        &mut self,
        frame: &Frame<'_>,
        class: MacClass,
        stop: Stop,
        out: &mut impl Transmit,
    ) -> Stop {
        let (from, counters) = ((frame.src, class), &mut self.counters);
        let told = self.interface.on_refused_ipv6(frame.payload, from, out, counters, self.now);
        self.counters.outcome(told);
        stop
    }

    /// A TCP segment for us, from an address a host can have, with a good checksum: it arrives.
    #[inline(always)]
    pub(crate) fn arrive<'f>(
        &mut self,
        carried: &Carried<'f>,
        place: &mut Option<Arrival<'f>>,
    ) -> Outcome {
        let &Carried { from: (from, class), ends: (remote, dst), ecn, bytes, checksum } = carried;
        if class != MacClass::Ours {
            // RFC 1122 section 3.3.6: a broadcast frame carries no TCP.
            return Err(Stop::IpGroup);
        }
        if !from.is_unicast() {
            // IEEE 802.3 has no such source, and what is answered there goes to everybody.
            return Err(Stop::FrameSource);
        }
        let local = self.interface.local(dst).ok_or(Stop::IpForeign)?;
        if !self.interface.is_valid_source(remote) {
            return Err(Stop::IpSource);
        }
        let congested = ecn == CONGESTION_EXPERIENCED;
        let (segment, hash, candidate) = (Segment::NOTHING, 0, NONE);
        let arrival =
            place.insert(Arrival { segment, remote, local, from, congested, hash, candidate });
        let outcome = self.read_segment(arrival, dst, bytes, checksum);
        if outcome.is_err() {
            *place = None;
        }
        outcome
    }

    #[inline(always)]
    fn read_segment<'f>(
        &mut self,
        arrival: &mut Arrival<'f>,
        dst: IpAddr,
        bytes: &'f [u8],
        checksum: Checksum,
    ) -> Outcome {
        arrival.segment.read(bytes)?;
        let Segment { src_port, dst_port, .. } = arrival.segment;
        let ports = u32::from(src_port) << 16 | u32::from(dst_port);
        arrival.hash = self.secret.flow_hash(arrival.remote, ports, arrival.local);
        // Its bucket is fetched while the sum is made.
        self.flows.prefetch(arrival.hash);
        let pseudo = PseudoHeader::new(arrival.remote, dst, tcp::PROTOCOL);
        if checksum != Checksum::Good && !tcp::checksum_ok(bytes, pseudo) {
            return Err(Stop::TcpChecksum);
        }
        self.counters.count(Count::SegmentsIn);
        Ok(())
    }

    /// SEGMENT ARRIVES: whose is it?
    pub(crate) fn on_arrival(&mut self, arrival: &Arrival<'_>, out: &mut impl Transmit) -> Outcome {
        let name = arrival.name();
        let likely = arrival.candidate;
        let found = if likely != NONE && self.is_findable(likely) && self.is_named(likely, &name) {
            Some(likely)
        } else {
            self.find(arrival.hash, &name)
        };
        debug_assert_eq!(found, self.find(arrival.hash, &name), "the candidate is another's");
        let Some(index) = found else {
            return self.on_segment_without_connection(arrival, out);
        };
        if self.connections[index as usize].has(LISTED) {
            return self.on_segment_in_time_wait(index, arrival, out);
        }
        let segment = &arrival.segment;
        let is_reset = || segment.flags.contains(Flags::RST);
        let active = if segment.payload.is_empty() || is_reset() {
            self.unfold(index)
        } else {
            // Its ACK field says nothing if there is no room: whoever is folded has nothing
            // unacknowledged.
            self.unfold_for_text(index)
        };
        let active = match active {
            Err(_) if is_reset() => return Err(self.reset_without_record(index, segment)),
            active => active?,
        };
        let congested = arrival.congested;
        let outcome = self.with_active(index, active, |tcb| tcb.on_segment(segment, congested));
        if outcome == Err(Stop::AckNotOfSyn) {
            self.send_reset(arrival, out);
        }
        outcome
    }

    /// The connection of this name, whose hash the caller knows.
    #[inline]
    pub(crate) fn find(&self, hash: u64, name: &Name) -> Option<u32> {
        self.flows.find(hash, |index| self.is_named(index, name))
    }

    /// Whether the flow table has it: segments before in the same burst may have ended it.
    #[inline]
    fn is_findable(&self, index: u32) -> bool {
        let rec = &self.connections[index as usize];
        rec.state() != State::Closed && !rec.has(UNFINDABLE)
    }

    #[inline]
    fn is_named(&self, index: u32, name: &Name) -> bool {
        let rec = &self.connections[index as usize];
        rec.remote_port == name.remote_port
            && rec.local_port == name.local_port
            && rec.local == name.local
            && self.remote_of(rec) == name.remote
    }

    /// RFC 9293 sections 3.10.7.1 (CLOSED) and 3.10.7.2 (LISTEN).
    fn on_segment_without_connection(
        &mut self,
        arrival: &Arrival<'_>,
        out: &mut impl Transmit,
    ) -> Outcome {
        let flags = arrival.segment.flags;
        if flags.contains(Flags::RST) {
            return Err(Stop::NoConnectionReset);
        }
        let listener = self.listener(arrival.segment.dst_port, arrival.local, arrival.hash);
        let Some(group) = listener else {
            return Err(self.reset(arrival, Stop::NoConnection, out));
        };
        if flags.contains(Flags::ACK) {
            let outcome = self.on_ack_of_cookie(arrival, group);
            if let Err(stop @ (Stop::NoConnection | Stop::CookieForged)) = outcome {
                return Err(self.reset(arrival, stop, out));
            }
            return outcome;
        }
        if !flags.contains(Flags::SYN) || flags.contains(Flags::FIN) {
            return Err(Stop::NotForListener);
        }
        self.ration_call(arrival)?;
        match self.receive_syn(group)? {
            Reception::Record => self.on_syn(arrival, group, None),
            Reception::Cookie => self.answer_by_cookie(arrival, group, out),
        }
    }

    /// Counts a SYN against its sender's calls in this second.
    fn ration_call(&mut self, arrival: &Arrival<'_>) -> Outcome {
        let per_second = self.tcp.syns_per_second;
        let left = self.callers.take(arrival.remote, per_second, &self.secret, self.now);
        if left { Ok(()) } else { Err(Stop::SynRationed) }
    }

    /// A client: it waits for the application, or is answered at once. Our sequence numbers start
    /// after `beyond`, the last one of the connection it replaces.
    fn on_syn(&mut self, arrival: &Arrival<'_>, group: u16, beyond: Option<SeqNum>) -> Outcome {
        let segment = &arrival.segment;
        let tuple = Tuple {
            remote: arrival.remote,
            remote_port: segment.src_port,
            local: self.local_address(arrival.local),
            local_port: segment.dst_port,
        };
        let (index, active) = self.create(&tuple, arrival.local, group)?;
        let mut iss = SeqNum::new(self.secret.initial_sequence(&tuple, self.now.as_nanos()));
        if let Some(beyond) = beyond {
            iss = iss.latest(beyond + BEYOND_TIME_WAIT);
        }
        let mut tcb = self.tcb(index, active);
        tcb.rec.set_state(State::SynReceived);
        tcb.rec.snd_una = iss;
        (tcb.act.snd_nxt, tcb.act.snd_max, tcb.act.snd_end) = (iss, iss, iss);
        tcb.take_syn(segment);
        tcb.rec.heard_ms = (tcb.now.as_millis() & 0xffff_ffff) as u32;
        match tcb.group.accept_by(tcb.now) {
            Some(deadline) => {
                tcb.act.set(HELD | TELL_ACCEPTABLE);
                tcb.act.set_life(deadline);
            }
            None => tcb.act.set(SEND_SYN),
        }
        self.settle(index);
        Ok(())
    }

    /// TIME-WAIT (RFC 9293 section 3.10.7.4): RST is ignored (RFC 1337), a newer SYN opens anew
    /// (RFC 6191), the peer's FIN starts the wait again, and all that could have been lost is told
    /// where we are. What takes no sequence number could answer that for ever and is not told.
    fn on_segment_in_time_wait(
        &mut self,
        index: u32,
        arrival: &Arrival<'_>,
        out: &mut impl Transmit,
    ) -> Outcome {
        let (segment, rec) = (&arrival.segment, self.connections[index as usize]);
        if segment.flags.contains(Flags::RST) {
            return Err(Stop::ResetInTimeWait);
        }
        let listener = self.listener(segment.dst_port, arrival.local, arrival.hash);
        if let (true, Some(group)) = (opens_anew(segment, &rec), listener) {
            self.ration_call(arrival)?;
            // Not by cookie: that could not keep its distance from the old numbers.
            self.make_room_for_handshake(self.groups[usize::from(group)].pool)?;
            self.cut_time_wait_short(index);
            return self.on_syn(arrival, group, Some(rec.snd_una));
        }
        if segment.is_empty() {
            return Err(Stop::OutOfWindow);
        }
        let end = SeqNum::new(segment.seq) + segment.len();
        if segment.flags.contains(Flags::FIN) && end == rec.rcv_nxt {
            self.connections[index as usize].heard_ms = (self.now.as_millis() & 0xffff_ffff) as u32;
        }
        self.acknowledge_in_time_wait(index, arrival, out);
        Err(Stop::DuplicateText)
    }

    fn acknowledge_in_time_wait(
        &mut self,
        index: u32,
        arrival: &Arrival<'_>,
        out: &mut impl Transmit,
    ) {
        let rec = self.connections[index as usize];
        let mut options = tcp::Options::NONE;
        if rec.has(TIMESTAMPS) {
            let offset = self.secret.timestamp_offset(&self.tuple_of(&rec));
            let ms = (self.now.as_millis() & 0xffff_ffff) as u32;
            let value = ms.wrapping_add(offset);
            options.timestamps = Some(tcp::Timestamps { value, echo: rec.ts_recent });
        }
        let header = tcp::Header {
            src_port: rec.local_port,
            dst_port: rec.remote_port,
            seq: rec.snd_una.to_u32(),
            ack: rec.rcv_nxt.to_u32(),
            flags: Flags::ACK,
            window: 0,
            urgent: 0,
            options,
        };
        self.reply(arrival.from, arrival.remote, arrival.local, &header, out);
        self.counters.count(Count::BareAcks);
    }

    /// Answers a segment of no connection by RST, within its sender's ration.
    fn reset(&mut self, arrival: &Arrival<'_>, stop: Stop, out: &mut impl Transmit) -> Stop {
        let per_second = self.tcp.resets_per_second;
        if !self.rations.take(arrival.remote, per_second, &self.secret, self.now) {
            return Stop::ResetRationed;
        }
        self.send_reset(arrival, out);
        stop
    }

    /// RST for a segment of no connection (RFC 9293 section 3.10.7.1).
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.1
    //# If the ACK bit is off, sequence number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN>
    //# <CTL=RST,ACK> If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>
    fn send_reset(&mut self, arrival: &Arrival<'_>, out: &mut impl Transmit) {
        let segment = &arrival.segment;
        let (seq, ack, flags) = if segment.flags.contains(Flags::ACK) {
            (segment.ack, 0, Flags::RST)
        } else {
            (0, segment.seq.wrapping_add(segment.len()), Flags::RST | Flags::ACK)
        };
        let header = tcp::Header {
            src_port: segment.dst_port,
            dst_port: segment.src_port,
            seq,
            ack,
            flags,
            window: 0,
            urgent: 0,
            options: tcp::Options::NONE,
        };
        self.reply(arrival.from, arrival.remote, arrival.local, &header, out);
        self.counters.count(Count::ResetsOut);
    }
}

/// How far the sequence numbers of a connection lie beyond those of one in TIME-WAIT that it
/// replaces: more than an unscaled window.
const BEYOND_TIME_WAIT: u32 = 1 << 16;

/// Whether a segment is a SYN that a connection in TIME-WAIT makes way for (RFC 6191, RFC 9293
/// MAY-2): later by its timestamp, or by its sequence number if the timestamps do not say that it
/// is older.
fn opens_anew(segment: &Segment<'_>, rec: &Connection) -> bool {
    let control = Flags(segment.flags.0 & (Flags::SYN | Flags::ACK | Flags::FIN).0);
    if control != Flags::SYN {
        return false;
    }
    let later = SeqNum::new(segment.seq).after(rec.rcv_nxt);
    match segment.options.timestamps {
        Some(stamps) if rec.has(TIMESTAMPS) => {
            let (value, recent) = (SeqNum::new(stamps.value), SeqNum::new(rec.ts_recent));
            value.after(recent) || value == recent && later
        }
        _ => later,
    }
}

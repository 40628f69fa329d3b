//! Frames out: what connections have to send, and replies that need none.

use core::net::IpAddr;

use crate::counters::{Count, Stop};
use crate::net::{Interface, Resolved};
use crate::stack::{AddressV6, Stack, remote_in};
use crate::tcp::{Plan, Tcb};
use crate::time::Instant;
use crate::wire::checksum::PseudoHeader;
use crate::wire::ethernet::{self, EtherType, MacAddr};
use crate::wire::tcp::{self, Flags};
use crate::wire::{ipv4, ipv6};
use crate::world::{Below, Completion, Transmit};

/// Segments one connection sends before the next has its turn.
const TURN: u32 = 16;
/// Time to live, or hop limit, of replies that are no connection's (RFC 1700).
const TTL: u8 = 64;

/// Whether a segment left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Emitted {
    /// It is on its way, waits for its neighbour, or is lost; a timer watches over it.
    Yes,
    /// There is no room for a frame now.
    NoRoom,
}

/// Both ends of a frame.
struct Path {
    /// 0 for none.
    vlan: u16,
    src_mac: MacAddr,
    dst_mac: MacAddr,
    src: IpAddr,
    dst: IpAddr,
    dscp: u8,
    ecn: u8,
    hop_limit: u8,
}

impl Path {
    /// What goes in front of the segment; both lengths are far below 256.
    const fn below(&self) -> Below {
        let is_v6 = self.dst.is_ipv6();
        let ip = if is_v6 { ipv6::HEADER } else { ipv4::HEADER };
        Below { ethernet: ethernet::header_len(self.vlan) as u8, ip: ip as u8, is_v6 }
    }
}

/// What the segments of one connection leave by.
pub(crate) struct Egress<'t, 'm> {
    pub(crate) interface: &'t mut Interface<'m>,
    pub(crate) addresses_v6: &'t [AddressV6],
    /// Where a frame is written that must wait for its neighbour.
    pub(crate) scratch: &'t mut [u8],
}

impl Stack<'_> {
    /// Sends what connections have to send, each its turn, until all have had one or there is no
    /// room for more frames.
    pub fn poll_frames(&mut self, out: &mut impl Transmit, now: Instant) {
        self.now = now;
        self.interface.poll_frames(out, &mut self.counters, now);
        self.tell_of_room();
        let last = self.out.tail;
        while let Some(active) = self.take_from_out_list() {
            let index = self.actives[active as usize].connection;
            let room = self.send_turn(index, active, out);
            if room == Emitted::NoRoom || active == last {
                return;
            }
        }
    }

    /// Sends what a connection has to send, as far as its turn and the room for frames go, and does
    /// what its records ask for then.
    #[inline]
    fn send_turn(&mut self, index: u32, active: u32, out: &mut impl Transmit) -> Emitted {
        let (mut tcb, mut egress) = self.tcb_and_egress(index, active);
        for _ in 0..TURN {
            let Some(plan) = tcb.plan() else {
                if tcb.only_waits() {
                    let deadline = tcb.act.deadline();
                    self.timers.arm(self.actives, active, deadline);
                    return Emitted::Yes;
                }
                let outlook = tcb.outlook_when_sent();
                self.settle_as(index, active, &outlook);
                return Emitted::Yes;
            };
            if egress.emit(&mut tcb, &plan, out) == Emitted::NoRoom {
                tcb.counters.stop(Stop::TransmitFull);
                self.settle(index);
                return Emitted::NoRoom;
            }
            tcb.on_sent(&plan);
        }
        self.settle(index);
        Emitted::Yes
    }

    /// A segment that belongs to no connection's queue, straight back where it came from.
    pub(crate) fn reply(
        &mut self,
        to: MacAddr,
        dst: IpAddr,
        local: u8,
        header: &tcp::Header,
        out: &mut impl Transmit,
    ) {
        let src = self.local_address(local);
        let (vlan, src_mac) = (self.interface.vlan(), self.interface.mac());
        let path = Path { vlan, src_mac, dst_mac: to, src, dst, dscp: 0, ecn: 0, hop_limit: TTL };
        let len = frame_len(&path, header, 0);
        let Some((frame, completion)) = out.segment(len, path.below()) else {
            self.counters.stop(Stop::TransmitFull);
            return;
        };
        write(frame, &path, header, completion, |_| {});
        self.counters.count(Count::FramesOut);
        self.counters.count(Count::SegmentsOut);
        self.counters.add(Count::BytesOut, len as u64);
    }
}

impl Egress<'_, '_> {
    #[inline(always)]
    fn emit(&mut self, tcb: &mut Tcb<'_, '_>, plan: &Plan, out: &mut impl Transmit) -> Emitted {
        let dst = remote_in(self.addresses_v6, tcb.rec);
        match self.interface.resolve(dst, out, tcb.counters, tcb.now) {
            Resolved::Mac(mac) => {
                let path = self.path_to(mac, tcb, plan);
                let header = header_of(tcb, plan);
                let len = frame_len(&path, &header, usize::from(plan.len));
                let Some((frame, completion)) = out.segment(len, path.below()) else {
                    return Emitted::NoRoom;
                };
                write(frame, &path, &header, completion, |text| tcb.copy_text(plan, text));
                tcb.counters.count(Count::FramesOut);
                tcb.counters.add(Count::BytesOut, len as u64);
            }
            Resolved::Pending => self.park(tcb, plan),
            // Counted where it was found.
            Resolved::NoRoute => {}
        }
        if plan.flags.contains(Flags::RST) {
            tcb.counters.count(Count::ResetsOut);
        }
        Emitted::Yes
    }

    #[inline(always)]
    fn path_to(&self, mac: MacAddr, tcb: &Tcb<'_, '_>, plan: &Plan) -> Path {
        Path {
            vlan: self.interface.vlan(),
            src_mac: self.interface.mac(),
            dst_mac: mac,
            src: self.interface.source(tcb.rec.local),
            dst: remote_in(self.addresses_v6, tcb.rec),
            dscp: tcb.group.dscp(),
            ecn: plan.ecn,
            hop_limit: tcb.group.hop_limit,
        }
    }

    /// The frame is written all the same, whole, and waits for its neighbour.
    #[cold]
    fn park(&mut self, tcb: &mut Tcb<'_, '_>, plan: &Plan) {
        let path = self.path_to(MacAddr::BROADCAST, tcb, plan);
        let header = header_of(tcb, plan);
        let len = frame_len(&path, &header, usize::from(plan.len));
        let Some(frame) = self.scratch.get_mut(..len) else { return };
        write(frame, &path, &header, Completion::Here, |text| tcb.copy_text(plan, text));
        if let Some(place) = self.interface.park(path.dst, len, tcb.counters) {
            place.copy_from_slice(frame);
        }
    }
}

/// Ethernet, IP and TCP header, the text, and the checksum over it, or the device's part of it.
#[inline(always)]
fn write(
    frame: &mut [u8],
    path: &Path,
    header: &tcp::Header,
    completion: Completion,
    text: impl FnOnce(&mut [u8]),
) {
    let Some((segment, pseudo)) = write_lower_layers(frame, path) else { return };
    if let Some(into) = header.emit(segment) {
        text(into);
    }
    match completion {
        Completion::Here => tcp::set_checksum(segment, pseudo),
        Completion::Device => tcp::set_pseudo_sum(segment, pseudo),
    }
}

/// Writes the Ethernet and IP headers and returns what is left for the segment, and what its
/// checksum takes from them.
#[inline(always)]
fn write_lower_layers<'b>(
    frame: &'b mut [u8],
    path: &Path,
) -> Option<(&'b mut [u8], PseudoHeader)> {
    match (path.src, path.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let (to, from) = (&path.dst_mac, &path.src_mac);
            let packet = ethernet::emit_in(path.vlan, frame, to, from, EtherType::IPV4)?;
            let payload_len = u16::try_from(packet.len().checked_sub(ipv4::HEADER)?).ok()?;
            let header = ipv4::Header {
                src,
                dst,
                protocol: tcp::PROTOCOL,
                ttl: path.hop_limit,
                dscp: path.dscp,
                ecn: path.ecn,
                identification: 0,
                payload_len,
            };
            Some((header.emit(packet)?, PseudoHeader::v4(src, dst, tcp::PROTOCOL)))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let (to, from) = (&path.dst_mac, &path.src_mac);
            let packet = ethernet::emit_in(path.vlan, frame, to, from, EtherType::IPV6)?;
            let payload_len = u16::try_from(packet.len().checked_sub(ipv6::HEADER)?).ok()?;
            let header = ipv6::Header {
                src,
                dst,
                protocol: tcp::PROTOCOL,
                hop_limit: path.hop_limit,
                dscp: path.dscp,
                ecn: path.ecn,
                flow_label: 0,
                payload_len,
            };
            Some((header.emit(packet)?, PseudoHeader::v6(src, dst, tcp::PROTOCOL)))
        }
        _ => None,
    }
}

#[inline(always)]
fn header_of(tcb: &Tcb<'_, '_>, plan: &Plan) -> tcp::Header {
    let sack = if plan.sacks { tcb.sack_blocks(plan.ack) } else { tcp::SackBlocks::NONE };
    tcp::Header {
        src_port: tcb.rec.local_port,
        dst_port: tcb.rec.remote_port,
        seq: plan.seq.to_u32(),
        ack: plan.ack.to_u32(),
        flags: plan.flags,
        window: plan.window,
        urgent: 0,
        options: tcp::Options {
            mss: plan.mss,
            window_scale: plan.window_scale,
            sack_permitted: plan.sack_permitted,
            timestamps: plan.timestamps,
            sack,
        },
    }
}

#[inline(always)]
fn frame_len(path: &Path, header: &tcp::Header, text: usize) -> usize {
    let ip = if path.dst.is_ipv6() { ipv6::HEADER } else { ipv4::HEADER };
    ethernet::header_len(path.vlan) + ip + header.header_len() + text
}

//! ICMPv6 messages (RFC 4443) and those of neighbour discovery we speak (RFC 4861).

use core::net::Ipv6Addr;

use super::Malformed;
use super::checksum::{self, PseudoHeader};
use super::ethernet::MacAddr;
use super::icmp::{Error, Failure, Quoted};
use super::ipv6::{self, Fragment, Packet};

/// ICMPv6's number among the upper-layer protocols.
pub const PROTOCOL: u8 = 58;

/// Bytes of the header every message has.
pub const HEADER: usize = 8;

/// Bytes of a neighbour solicitation or advertisement with one link-layer address.
pub const NEIGHBOUR_MESSAGE: usize = 32;

/// The hop limit that proves a neighbour (RFC 4861 section 3.1): no router can have sent it on.
pub const ND_HOP_LIMIT: u8 = 255;

const UNREACHABLE: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;
const PARAMETER_PROBLEM: u8 = 4;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
pub(super) const REDIRECT: u8 = 137;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'f> {
    /// Somebody asks for an echo.
    EchoRequest(Echo<'f>),
    /// An echo we did not ask for.
    EchoReply(Echo<'f>),
    /// An error about a TCP segment.
    Error(Error),
    /// An error about something else, or with too little of what it is about.
    ErrorAboutOther,
    /// Who has this address?
    NeighbourSolicitation(Solicitation),
    /// I have this address.
    NeighbourAdvertisement(Advertisement),
    /// Router solicitation, router advertisement or redirect: routes are the configuration's.
    Router {
        /// The type.
        kind: u8,
    },
    /// A type we do not know, to be discarded (RFC 4443 section 2.4).
    Other {
        /// The type.
        kind: u8,
    },
}

/// An echo request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<'f> {
    /// Identifier.
    pub identifier: u16,
    /// Sequence number.
    pub sequence: u16,
    /// The data to be echoed.
    pub data: &'f [u8],
}

/// What is wrong with a packet whose sender is told (RFC 4443 section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ProblemCode {
    /// A field of a header.
    Field = 0,
    /// A next header nobody here knows, or not in that place.
    NextHeader = 1,
    /// An option nobody here knows.
    Option = 2,
}

/// A parameter problem (RFC 4443 section 3.4), as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterProblem<'f> {
    /// What is wrong.
    pub code: ProblemCode,
    /// Where in the packet, in bytes from its first on.
    pub pointer: u32,
    /// The packet, of which as much is sent back as fits.
    pub packet: &'f [u8],
}

/// A neighbour solicitation (RFC 4861 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Whose link-layer address is asked for.
    pub target: Ipv6Addr,
    /// The asker's own.
    pub source_mac: Option<MacAddr>,
}

/// A neighbour advertisement (RFC 4861 section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Whose link-layer address is told.
    pub target: Ipv6Addr,
    /// The address.
    pub target_mac: Option<MacAddr>,
    /// R: the sender is a router.
    pub router: bool,
    /// S: the answer to a solicitation.
    pub solicited: bool,
    /// O: what was known before no longer holds.
    pub overrides: bool,
}

impl<'f> Message<'f> {
    /// Reads the message in a packet.
    ///
    /// # Errors
    /// `IcmpTruncated`, `IcmpChecksum`, `NdInvalid`, `NdOption`.
    pub fn parse(packet: &Packet<'f>) -> Result<Self, Malformed> {
        let bytes = packet.payload;
        let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(Malformed::IcmpTruncated);
        };
        let pseudo = PseudoHeader::v6(packet.src, packet.dst, PROTOCOL);
        if !checksum::is_valid(checksum::sum(bytes, pseudo.sum(bytes.len()))) {
            return Err(Malformed::IcmpChecksum);
        }
        let [kind, code, _, _, w0, w1, w2, w3] = *header;
        let (identifier, sequence) = (u16::from_be_bytes([w0, w1]), u16::from_be_bytes([w2, w3]));
        let echo = Echo { identifier, sequence, data: body };
        Ok(match kind {
            ECHO_REQUEST => Self::EchoRequest(echo),
            ECHO_REPLY => Self::EchoReply(echo),
            PACKET_TOO_BIG => {
                let mtu = u32::from_be_bytes([w0, w1, w2, w3]);
                Self::error(body, Failure::PacketTooBig { mtu })
            }
            UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM => {
                Self::error(body, Failure::Unreachable { kind, code })
            }
            NEIGHBOUR_SOLICITATION => {
                Self::NeighbourSolicitation(parse_solicitation(packet, code, body)?)
            }
            NEIGHBOUR_ADVERTISEMENT => {
                Self::NeighbourAdvertisement(parse_advertisement(packet, code, w0, body)?)
            }
            ROUTER_SOLICITATION | ROUTER_ADVERTISEMENT | REDIRECT => Self::Router { kind },
            kind => Self::Other { kind },
        })
    }

    fn error(data: &[u8], failure: Failure) -> Self {
        Quoted::parse_v6(data)
            .map_or(Self::ErrorAboutOther, |quoted| Self::Error(Error { quoted, failure }))
    }
}

impl Echo<'_> {
    /// Bytes of the message.
    #[must_use]
    pub fn message_len(&self) -> usize {
        HEADER + self.data.len()
    }

    /// Writes an echo reply from `src` to `dst` at the head of `buf` and returns the bytes after
    /// it; `None` if they are fewer than [`Self::message_len`].
    pub fn emit_reply<'b>(
        &self,
        buf: &'b mut [u8],
        src: Ipv6Addr,
        dst: Ipv6Addr,
    ) -> Option<&'b mut [u8]> {
        self.emit(ECHO_REPLY, buf, src, dst)
    }

    /// Writes an echo request, as [`Self::emit_reply`] does a reply.
    pub fn emit_request<'b>(
        &self,
        buf: &'b mut [u8],
        src: Ipv6Addr,
        dst: Ipv6Addr,
    ) -> Option<&'b mut [u8]> {
        self.emit(ECHO_REQUEST, buf, src, dst)
    }

    fn emit<'b>(
        &self,
        kind: u8,
        buf: &'b mut [u8],
        src: Ipv6Addr,
        dst: Ipv6Addr,
    ) -> Option<&'b mut [u8]> {
        let ([i0, i1], [s0, s1]) = (self.identifier.to_be_bytes(), self.sequence.to_be_bytes());
        emit_with(buf, [kind, 0, 0, 0, i0, i1, s0, s1], self.data, (src, dst))
    }
}

impl ParameterProblem<'_> {
    /// Bytes of the message: with its header never more than [`ipv6::MTU_MIN`].
    #[must_use]
    pub fn message_len(&self) -> usize {
        HEADER + self.quote().len()
    }

    /// Writes the message at the head of `buf` and returns the bytes after it; `None` if they are
    /// fewer than [`Self::message_len`].
    pub fn emit<'b>(
        &self,
        buf: &'b mut [u8],
        src: Ipv6Addr,
        dst: Ipv6Addr,
    ) -> Option<&'b mut [u8]> {
        let [p0, p1, p2, p3] = self.pointer.to_be_bytes();
        let header = [PARAMETER_PROBLEM, self.code as u8, 0, 0, p0, p1, p2, p3];
        emit_with(buf, header, self.quote(), (src, dst))
    }

    /// As much of the packet as fits (RFC 4443 section 2.4 (c)).
    fn quote(&self) -> &[u8] {
        const QUOTE_MAX: usize = ipv6::MTU_MIN - ipv6::HEADER - HEADER;
        &self.packet[..self.packet.len().min(QUOTE_MAX)]
    }
}

/// Writes a message of this header, its checksum zero, and this data.
fn emit_with<'b>(
    buf: &'b mut [u8],
    bytes: [u8; HEADER],
    data: &[u8],
    (src, dst): (Ipv6Addr, Ipv6Addr),
) -> Option<&'b mut [u8]> {
    let (message, rest) = buf.split_at_mut_checked(HEADER + data.len())?;
    let (header, body) = message.split_first_chunk_mut::<HEADER>()?;
    let pseudo = PseudoHeader::v6(src, dst, PROTOCOL).sum(HEADER + data.len());
    let sum = checksum::copy_and_sum(body, data, pseudo);
    *header = bytes;
    let field = checksum::field(checksum::sum(header, sum));
    header[2..4].copy_from_slice(&field.to_be_bytes());
    Some(rest)
}

impl Solicitation {
    /// Writes the message with its source link-layer address, [`NEIGHBOUR_MESSAGE`] bytes, or 8
    /// fewer without one, at the head of `buf` and returns the bytes after it; `None` if they are
    /// too few.
    pub fn emit<'b>(
        &self,
        buf: &'b mut [u8],
        src: Ipv6Addr,
        dst: Ipv6Addr,
    ) -> Option<&'b mut [u8]> {
        let option = self.source_mac.map(|mac| (SOURCE_LINK_LAYER, mac));
        emit_neighbour(buf, [NEIGHBOUR_SOLICITATION, 0], self.target, option, (src, dst))
    }

    /// Bytes of the message.
    #[must_use]
    pub fn message_len(&self) -> usize {
        NEIGHBOUR_MESSAGE - if self.source_mac.is_some() { 0 } else { 8 }
    }
}

impl Advertisement {
    /// Writes the message with its target link-layer address, [`NEIGHBOUR_MESSAGE`] bytes, or 8
    /// fewer without one, at the head of `buf` and returns the bytes after it; `None` if they are
    /// too few.
    pub fn emit<'b>(
        &self,
        buf: &'b mut [u8],
        src: Ipv6Addr,
        dst: Ipv6Addr,
    ) -> Option<&'b mut [u8]> {
        let mut flags = 0;
        for (set, flag) in
            [(self.router, ROUTER), (self.solicited, SOLICITED), (self.overrides, OVERRIDE)]
        {
            flags |= if set { flag } else { 0 };
        }
        let option = self.target_mac.map(|mac| (TARGET_LINK_LAYER, mac));
        emit_neighbour(buf, [NEIGHBOUR_ADVERTISEMENT, flags], self.target, option, (src, dst))
    }

    /// Bytes of the message.
    #[must_use]
    pub fn message_len(&self) -> usize {
        NEIGHBOUR_MESSAGE - if self.target_mac.is_some() { 0 } else { 8 }
    }
}

/// The group every node with this address listens to (RFC 4291 section 2.7.1).
#[must_use]
pub const fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(PREFIX | ip.to_bits() & 0x00ff_ffff)
}

/// The Ethernet address of an IPv6 group (RFC 2464 section 7).
#[must_use]
pub const fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// The checks of RFC 4861 section 7.1.1. Neighbour discovery is never fragmented (RFC 6980).
fn parse_solicitation(
    packet: &Packet<'_>,
    code: u8,
    body: &[u8],
) -> Result<Solicitation, Malformed> {
    let (target, source_mac) = parse_neighbour(packet, code, body, SOURCE_LINK_LAYER)?;
    // Duplicate address detection asks from nowhere, of the target's group, and names no source.
    let detects = packet.src.is_unspecified();
    if detects && (packet.dst != solicited_node(target) || source_mac.is_some()) {
        return Err(Malformed::NdInvalid);
    }
    Ok(Solicitation { target, source_mac })
}

/// The checks of RFC 4861 section 7.1.2.
fn parse_advertisement(
    packet: &Packet<'_>,
    code: u8,
    flags: u8,
    body: &[u8],
) -> Result<Advertisement, Malformed> {
    let (target, target_mac) = parse_neighbour(packet, code, body, TARGET_LINK_LAYER)?;
    let solicited = flags & SOLICITED != 0;
    if packet.dst.is_multicast() && solicited {
        return Err(Malformed::NdInvalid);
    }
    let (router, overrides) = (flags & ROUTER != 0, flags & OVERRIDE != 0);
    Ok(Advertisement { target, target_mac, router, solicited, overrides })
}

/// What both have: the target, and the link-layer address in the option of the kind sought.
fn parse_neighbour(
    packet: &Packet<'_>,
    code: u8,
    body: &[u8],
    sought: u8,
) -> Result<(Ipv6Addr, Option<MacAddr>), Malformed> {
    let Some((target, options)) = body.split_first_chunk::<16>() else {
        return Err(Malformed::IcmpTruncated);
    };
    let target = Ipv6Addr::from(*target);
    let whole = packet.fragment == Fragment::None;
    if packet.hop_limit != ND_HOP_LIMIT || !whole || code != 0 || target.is_multicast() {
        return Err(Malformed::NdInvalid);
    }
    Ok((target, find_link_layer(options, sought)?))
}

/// Walks the options (RFC 4861 section 4.6): kind, length in 8-byte units, never zero. Unknown
/// ones are passed over, of two the first counts.
fn find_link_layer(options: &[u8], sought: u8) -> Result<Option<MacAddr>, Malformed> {
    let mut found = None;
    let mut rest = options;
    while !rest.is_empty() {
        let len = rest.get(1).map_or(0, |units| usize::from(*units) * 8);
        let Some((option, behind)) = rest.split_at_checked(len) else {
            return Err(Malformed::NdOption);
        };
        match *option {
            [] => return Err(Malformed::NdOption),
            [kind, 1, a, b, c, d, e, f] if kind == sought => {
                found = found.or(Some(MacAddr([a, b, c, d, e, f])));
            }
            _ => {}
        }
        rest = behind;
    }
    Ok(found)
}

/// Writes a neighbour message: type and flags, target, one option.
fn emit_neighbour(
    buf: &mut [u8],
    [kind, flags]: [u8; 2],
    target: Ipv6Addr,
    option: Option<(u8, MacAddr)>,
    (src, dst): (Ipv6Addr, Ipv6Addr),
) -> Option<&mut [u8]> {
    let len = NEIGHBOUR_MESSAGE - if option.is_some() { 0 } else { 8 };
    let (message, rest) = buf.split_at_mut_checked(len)?;
    message.get_mut(..HEADER)?.copy_from_slice(&[kind, 0, 0, 0, flags, 0, 0, 0]);
    message.get_mut(HEADER..24)?.copy_from_slice(&target.octets());
    if let Some((kind, MacAddr([a, b, c, d, e, f]))) = option {
        message.get_mut(24..)?.copy_from_slice(&[kind, 1, a, b, c, d, e, f]);
    }
    let pseudo = PseudoHeader::v6(src, dst, PROTOCOL).sum(len);
    let field = checksum::field(checksum::sum(message, pseudo));
    message.get_mut(2..4)?.copy_from_slice(&field.to_be_bytes());
    Some(rest)
}

#[cfg(test)]
mod tests;

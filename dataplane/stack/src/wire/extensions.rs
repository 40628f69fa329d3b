//! The walk along IPv6's extension headers (RFC 8200 section 4), and what a sender is to be told of
//! those that forbid it.

use core::net::Ipv6Addr;

use super::icmpv6::{self, ProblemCode};
use super::ipv6::{self, Fragment};
use super::{Malformed, tcp};

/// Extension headers walked before a packet is given up. RFC 8504 section 5.3 lets a node set
/// such a bound; no honest sender comes near it.
pub const EXTENSIONS_MAX: usize = 8;

/// The next-header value of a packet with nothing after its headers.
pub const NO_NEXT_HEADER: u8 = 59;

pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const DESTINATION: u8 = 60;

/// Where the fixed header names what follows it.
const NAMED_FIRST_AT: usize = 6;

/// Where a routing header has its type.
const ROUTING_TYPE_AT: usize = 2;

/// What a packet's sender is to be told of its extension headers (RFC 4443 section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub code: ProblemCode,
    /// Where in the packet, in bytes from its first on.
    pub pointer: u32,
    /// It is told of packets to groups, too: an option's highest bits are 10 (RFC 8200 section 4.2).
    pub of_groups: bool,
}

/// A packet whose sender is to be told what is wrong with its extension headers, if who it is and to
/// whom it sent the packet allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused<'f> {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// What is wrong.
    pub problem: Problem,
    /// The whole packet, without the padding of short frames.
    pub packet: &'f [u8],
}

impl<'f> Refused<'f> {
    /// What is to be told of a packet. `None` if it is nothing: its extension headers are in order,
    /// or it has none; what is wrong is to be passed over in silence; it is an ICMPv6 error, or not
    /// said to be none, of which nothing may be told (RFC 4443 section 2.4 (e)).
    #[cold]
    #[must_use]
    pub fn parse(bytes: &'f [u8]) -> Option<Self> {
        let (header, payload) = ipv6::split(bytes).ok()?;
        let first = header[NAMED_FIRST_AT];
        if !matches!(first, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
            return None;
        }
        let problem = match walk(first, payload) {
            Err(refusal) => refusal.problem?,
            Ok(upper) if upper.is_known() => return None,
            Ok(upper) => Problem::of(ProblemCode::NextHeader, upper.named_at),
        };
        let packet = bytes.get(..ipv6::HEADER + payload.len())?;
        let (src, dst) = (ipv6::address(header, 8), ipv6::address(header, 24));
        (!may_be_error(first, payload)).then_some(Self { src, dst, problem, packet })
    }
}

impl Problem {
    const fn of(code: ProblemCode, at: usize) -> Self {
        Self { code, pointer: at as u32, of_groups: false }
    }
}

/// Why the walk ended early, and what is to be told of it, if anything.
pub(super) struct Refusal {
    pub(super) malformed: Malformed,
    problem: Option<Problem>,
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self { malformed, problem: None }
    }
}

/// What the extension headers lead to.
pub(super) struct Upper<'f> {
    pub(super) protocol: u8,
    /// Where in the packet the protocol is named.
    pub(super) named_at: usize,
    pub(super) fragment: Fragment,
    pub(super) payload: &'f [u8],
}

impl Upper<'_> {
    /// Whether it is something we speak, or nothing at all; of a part that is known of the whole.
    const fn is_known(&self) -> bool {
        matches!(self.protocol, tcp::PROTOCOL | icmpv6::PROTOCOL | NO_NEXT_HEADER)
            || matches!(self.fragment, Fragment::Part { .. })
    }
}

/// Walks the extension headers (RFC 8200 section 4). Hop-by-hop options may only stand first
/// (section 4.1); a fragment that is only a part ends the walk, for what follows it may not be
/// here.
#[cold]
pub(super) fn walk(first: u8, payload: &[u8]) -> Result<Upper<'_>, Refusal> {
    let named_at = NAMED_FIRST_AT;
    let mut upper = Upper { protocol: first, named_at, fragment: Fragment::None, payload };
    for place in 0..EXTENSIONS_MAX {
        let at = ipv6::HEADER + payload.len() - upper.payload.len();
        let (header, rest) = match upper.protocol {
            HOP_BY_HOP if place != 0 => {
                let problem = Some(Problem::of(ProblemCode::NextHeader, upper.named_at));
                return Err(Refusal { malformed: Malformed::Ipv6ExtensionChain, problem });
            }
            HOP_BY_HOP | DESTINATION => {
                let (header, rest) = split_extension(upper.payload)?;
                check_options(header, at)?;
                (header, rest)
            }
            ROUTING => {
                let (header, rest) = split_extension(upper.payload)?;
                // Nothing is forwarded here, and types with segments left that we do not know
                // (all of them; type 0 is dead by RFC 5095) are to be discarded (section 4.4).
                if header.get(3) != Some(&0) {
                    let problem = Some(Problem::of(ProblemCode::Field, at + ROUTING_TYPE_AT));
                    return Err(Refusal { malformed: Malformed::Ipv6Routing, problem });
                }
                (header, rest)
            }
            FRAGMENT => {
                if upper.fragment != Fragment::None {
                    return Err(Malformed::Ipv6ExtensionChain.into());
                }
                let (protocol, fragment, rest) = split_fragment(upper.payload)?;
                upper = Upper { protocol, named_at: at, fragment, payload: rest };
                if fragment != Fragment::Atomic {
                    return Ok(upper);
                }
                continue;
            }
            _ => return Ok(upper),
        };
        let protocol = header.first().copied().unwrap_or(NO_NEXT_HEADER);
        upper = Upper { protocol, named_at: at, payload: rest, ..upper };
    }
    match upper.protocol {
        HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION => Err(Malformed::Ipv6ExtensionChain.into()),
        _ => Ok(upper),
    }
}

/// Cuts an extension header of the common form off: next header, length in 8-byte units without
/// the first.
fn split_extension(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let len = bytes.get(1).map(|units| (usize::from(*units) + 1) * 8);
    len.and_then(|len| bytes.split_at_checked(len)).ok_or(Malformed::Ipv6ExtensionLength)
}

/// Cuts a fragment header off (section 4.5).
fn split_fragment(bytes: &[u8]) -> Result<(u8, Fragment, &[u8]), Malformed> {
    let Some(([protocol, _, o0, o1, i0, i1, i2, i3], rest)) = bytes.split_first_chunk::<8>() else {
        return Err(Malformed::Ipv6ExtensionLength);
    };
    let field = u16::from_be_bytes([*o0, *o1]);
    let (offset, more) = (field & 0xfff8, field & 1 != 0);
    if offset == 0 && !more {
        return Ok((*protocol, Fragment::Atomic, rest));
    }
    let identification = u32::from_be_bytes([*i0, *i1, *i2, *i3]);
    Ok((*protocol, Fragment::Part { identification, offset, more }, rest))
}

/// Goes through the options of a header that begins `at` so many bytes: those we do not know (all
/// but padding) are passed over or refused as their two highest bits say (section 4.2). Jumbo
/// payloads are refused this way.
fn check_options(header: &[u8], at: usize) -> Result<(), Refusal> {
    const PAD_1: u8 = 0;
    let mut rest = header.get(2..).unwrap_or_default();
    while let [kind, after @ ..] = rest {
        if *kind == PAD_1 {
            rest = after;
            continue;
        }
        let action = kind >> 6;
        if action != 0 {
            let told = Problem::of(ProblemCode::Option, at + header.len() - rest.len());
            let problem = (action != 1).then_some(Problem { of_groups: action == 2, ..told });
            return Err(Refusal { malformed: Malformed::Ipv6Option, problem });
        }
        let len = after.first().map(|len| usize::from(*len) + 2);
        rest = len.and_then(|len| rest.get(len..)).ok_or(Malformed::Ipv6ExtensionLength)?;
    }
    Ok(())
}

/// Whether a packet is an ICMPv6 error or a redirect, whatever is wrong with the headers before it;
/// also if it cannot be told: what it is stands in another fragment, or beyond the packet.
fn may_be_error(first: u8, payload: &[u8]) -> bool {
    const INFORMATIONAL: u8 = 128;
    let (mut protocol, mut rest) = (first, payload);
    for _ in 0..=EXTENSIONS_MAX {
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let Ok(([next, ..], after)) = split_extension(rest) else { return true };
                (protocol, rest) = (*next, after);
            }
            FRAGMENT => match split_fragment(rest) {
                Err(_) | Ok((_, Fragment::Part { offset: 1.., .. }, _)) => return true,
                Ok((next, _, after)) => (protocol, rest) = (next, after),
            },
            icmpv6::PROTOCOL => {
                return rest
                    .first()
                    .is_none_or(|kind| *kind < INFORMATIONAL || *kind == icmpv6::REDIRECT);
            }
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv6::{HEADER, Header, Packet};

    /// Looks at a packet of these extension headers and payload, with 6 bytes of padding behind.
    fn with<T>(first: u8, payload: &[u8], look: impl FnOnce(&[u8]) -> T) -> T {
        let header = Header {
            src: "fd77::1".parse().unwrap(),
            dst: "fd77::2".parse().unwrap(),
            protocol: first,
            hop_limit: 255,
            dscp: 0,
            ecn: 0,
            flow_label: 0,
            payload_len: payload.len() as u16,
        };
        let mut bytes = [0xee; 1200];
        let rest = header.emit(&mut bytes).unwrap();
        rest[..payload.len()].copy_from_slice(payload);
        look(&bytes[..HEADER + payload.len() + 6])
    }

    fn parse<T>(
        first: u8,
        payload: &[u8],
        look: impl FnOnce(Packet<'_>) -> T,
    ) -> Result<T, Malformed> {
        with(first, payload, |bytes| Packet::parse(bytes).map(look))
    }

    /// Code and pointer of what is to be told of a packet, and whether of groups, too.
    fn told(first: u8, chain: &[[u8; 8]]) -> Option<(u8, u32, bool)> {
        with(first, chain.as_flattened(), |bytes| {
            let refused = Refused::parse(bytes)?;
            assert_eq!(refused.packet, &bytes[..HEADER + chain.len() * 8], "all but the padding");
            assert_eq!((refused.src, refused.dst), (address(bytes, 8), address(bytes, 24)));
            let Problem { code, pointer, of_groups } = refused.problem;
            Some((code as u8, pointer, of_groups))
        })
    }

    fn address(bytes: &[u8], at: usize) -> Ipv6Addr {
        Ipv6Addr::from(*bytes[at..].first_chunk::<16>().unwrap())
    }

    const fn pad(next: u8) -> [u8; 8] {
        [next, 0, 1, 4, 0, 0, 0, 0]
    }

    const TEXT: [u8; 8] = [0xff; 8];

    #[test]
    fn the_walk_ends_at_the_upper_layer() {
        let chain = [
            [DESTINATION, 0, 1, 4, 0, 0, 0, 0],
            [ROUTING, 0, 0, 0, 0, 0, 0, 0],
            [FRAGMENT, 0, 4, 0, 0, 0, 0, 0],
            [6, 0, 0, 0, 0, 0, 0, 7],
        ];
        parse(HOP_BY_HOP, chain.as_flattened(), |packet| {
            assert_eq!((packet.protocol, packet.fragment), (6, Fragment::Atomic));
            assert_eq!(packet.payload, b"");
        })
        .unwrap();
    }

    #[test]
    fn chains_are_bounded_and_ordered() {
        let mut chain = [pad(DESTINATION); 100];
        assert_eq!(
            parse(DESTINATION, chain.as_flattened(), |_| ()),
            Err(Malformed::Ipv6ExtensionChain)
        );
        chain[EXTENSIONS_MAX - 1] = pad(58);
        assert_eq!(
            parse(DESTINATION, chain[..EXTENSIONS_MAX].as_flattened(), |packet| packet.protocol),
            Ok(58)
        );
        let late = [pad(HOP_BY_HOP), pad(6)];
        assert_eq!(
            parse(DESTINATION, late.as_flattened(), |_| ()),
            Err(Malformed::Ipv6ExtensionChain)
        );
        let twice = [[FRAGMENT, 0, 0, 0, 0, 0, 0, 1], [6, 0, 0, 0, 0, 0, 0, 1]];
        assert_eq!(
            parse(FRAGMENT, twice.as_flattened(), |_| ()),
            Err(Malformed::Ipv6ExtensionChain)
        );
    }

    #[test]
    fn unknown_options_are_treated_as_their_bits_say() {
        let of = |kind: u8, len: u8| parse(HOP_BY_HOP, &[6, 0, kind, len, 0, 0, 0, 0], |_| ());
        assert_eq!(of(0x1e, 4), Ok(()));
        for kind in [0x5e, 0x9e, 0xde, 0xc2] {
            assert_eq!(of(kind, 4), Err(Malformed::Ipv6Option), "kind {kind:#x}");
        }
        assert_eq!(of(0x1e, 5), Err(Malformed::Ipv6ExtensionLength));
        assert_eq!(
            parse(HOP_BY_HOP, &[6, 0, 0, 0, 0, 0, 0, 0x1e], |_| ()),
            Err(Malformed::Ipv6ExtensionLength)
        );
    }

    #[test]
    fn extensions_beyond_the_packet_and_routes_are_refused() {
        for first in [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION] {
            assert_eq!(parse(first, &[6], |_| ()), Err(Malformed::Ipv6ExtensionLength));
        }
        assert_eq!(
            parse(DESTINATION, &[6, 1, 1, 4, 0, 0, 0, 0], |_| ()),
            Err(Malformed::Ipv6ExtensionLength)
        );
        assert_eq!(parse(ROUTING, &[6, 0, 0, 1, 0, 0, 0, 0], |_| ()), Err(Malformed::Ipv6Routing));
    }

    #[test]
    fn parts_end_the_walk() {
        parse(FRAGMENT, &[DESTINATION, 0, 0x12, 0x39, 0, 0, 1, 2, 9, 9], |packet| {
            let part = Fragment::Part { identification: 0x102, offset: 0x1238, more: true };
            assert_eq!((packet.protocol, packet.fragment), (DESTINATION, part));
            assert_eq!(packet.payload, [9, 9]);
        })
        .unwrap();
        parse(FRAGMENT, &[6, 0, 0, 1, 0, 0, 0, 9], |packet| {
            let first = Fragment::Part { identification: 9, offset: 0, more: true };
            assert_eq!(packet.fragment, first);
        })
        .unwrap();
    }

    /// RFC 8200 section 4.2.
    #[test]
    fn the_pointer_of_an_option_is_at_its_type() {
        let option = |kind: u8| [6, 0, 1, 0, 0, kind, 0, 0];
        for first in [HOP_BY_HOP, DESTINATION] {
            for kind in [0x1e, 0x5e] {
                assert_eq!(told(first, &[option(kind), TEXT]), None, "{kind:#x}");
            }
            for (kind, of_groups) in [(0x9e, true), (0x80, true), (0xde, false), (0xc2, false)] {
                assert_eq!(told(first, &[option(kind), TEXT]), Some((2, 45, of_groups)));
                let second = [pad(DESTINATION), option(kind), TEXT];
                assert_eq!(told(first, &second), Some((2, 53, of_groups)), "{kind:#x}");
            }
        }
    }

    /// RFC 8200 sections 4 and 4.4.
    #[test]
    fn the_pointer_of_a_header_is_at_its_name_and_that_of_a_route_at_its_type() {
        let route = |left: u8| [6, 0, 4, left, 0, 0, 0, 0];
        assert_eq!(told(ROUTING, &[route(1), TEXT]), Some((0, 42, false)));
        assert_eq!(told(DESTINATION, &[pad(ROUTING), route(9), TEXT]), Some((0, 50, false)));
        assert_eq!(told(ROUTING, &[route(0), TEXT]), None);
        let late = [pad(ROUTING), [HOP_BY_HOP, 0, 0, 0, 0, 0, 0, 0], pad(6), TEXT];
        assert_eq!(told(DESTINATION, &late), Some((1, 48, false)));
        assert_eq!(told(DESTINATION, &[pad(17), TEXT]), Some((1, 40, false)));
        assert_eq!(told(FRAGMENT, &[[17, 0, 0, 0, 0, 0, 0, 0], TEXT]), Some((1, 40, false)));
        for known in [6, 58, NO_NEXT_HEADER] {
            assert_eq!(told(DESTINATION, &[pad(known), TEXT]), None, "{known}");
        }
    }

    #[test]
    fn nothing_is_told_of_what_is_not_the_headers_fault() {
        assert_eq!(told(17, &[TEXT]), None);
        assert_eq!(told(DESTINATION, &[[6, 1, 1, 4, 0, 0, 0, 0]]), None, "beyond the packet");
        assert_eq!(told(FRAGMENT, &[[17, 0, 0, 1, 0, 0, 0, 0], TEXT]), None, "a part");
        let twice = [[FRAGMENT, 0, 0, 0, 0, 0, 0, 1], [6, 0, 0, 0, 0, 0, 0, 1], TEXT];
        assert_eq!(told(FRAGMENT, &twice), None);
        let mut long = [pad(DESTINATION); 100];
        long[99] = pad(6);
        assert_eq!(told(DESTINATION, &long), None, "our own bound");
        let told_of = |bytes: &[u8]| Refused::parse(bytes).is_some();
        with(DESTINATION, &[6, 0, 0xde, 0, 0, 0, 0, 0], |bytes| {
            assert!(told_of(bytes));
            assert!((0..HEADER + 8).all(|len| !told_of(&bytes[..len])), "cut short");
            let mut other = [0; HEADER + 8];
            other.copy_from_slice(&bytes[..HEADER + 8]);
            other[0] = 0x40;
            assert!(!told_of(&other));
        });
    }

    /// RFC 4443 section 2.4 (e), whatever else stands before the message.
    #[test]
    fn nothing_is_told_of_errors() {
        let bad = |next: u8| [next, 0, 0x9e, 4, 0, 0, 0, 0];
        let message = |kind: u8| [kind, 0, 0, 0, 0, 0, 0, 0];
        for (kind, is_error) in
            [(1, true), (4, true), (127, true), (137, true), (128, false), (135, false)]
        {
            let expected = (!is_error).then_some((2, 42, true));
            assert_eq!(told(HOP_BY_HOP, &[bad(58), message(kind)]), expected, "type {kind}");
            let far = [bad(ROUTING), [FRAGMENT, 0, 9, 9, 0, 0, 0, 0], [58, 0, 0, 1, 0, 0, 0, 0]];
            assert_eq!(told(HOP_BY_HOP, &[&far[..], &[message(kind)]].concat()), expected);
        }
        let second_part = [[58, 0, 0, 8, 0, 0, 0, 0], TEXT];
        assert_eq!(told(HOP_BY_HOP, &[&[bad(FRAGMENT)], &second_part[..]].concat()), None);
        assert_eq!(told(HOP_BY_HOP, &[bad(58)]), None, "nothing says what it is");
        assert_eq!(told(HOP_BY_HOP, &[bad(60), [58, 9, 1, 4, 0, 0, 0, 0]]), None);
        let mut long = [bad(DESTINATION); 100];
        long[99] = bad(6);
        assert_eq!(told(DESTINATION, &long), None);
        assert_eq!(
            told(DESTINATION, &[&[pad(HOP_BY_HOP), pad(58)][..], &[message(1)]].concat()),
            None
        );
    }
}

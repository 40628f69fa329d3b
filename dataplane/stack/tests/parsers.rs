//! The parsers' laws on bytes that proptest makes: arbitrary ones, valid ones, and valid ones
//! with some bytes changed or cut off. The laws are those of the fuzz targets (`fuzz/src/lib.rs`);
//! here they are kept on every machine. Etherparse, an independent parser, is asked as well.

#[expect(unreachable_pub, reason = "they are public to the fuzz targets")]
#[path = "../fuzz/src/lib.rs"]
mod laws;

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use xtcp_stack::wire::checksum::{self, PseudoHeader};
use xtcp_stack::wire::ethernet::{self, EtherType, Frame, MacAddr};
use xtcp_stack::wire::tcp::{self, Flags, SackBlock, SackBlocks, Segment, Timestamps};
use xtcp_stack::wire::{arp, icmpv4, icmpv6, ipv4, ipv6};

/// Bytes changed, and how many of them are left.
#[derive(Clone, Debug)]
struct Damage {
    changes: Vec<(Index, u8)>,
    cut: Option<Index>,
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let changes = vec((any::<Index>(), any::<u8>()), 0..4);
        let cut = option::weighted(0.2, any::<Index>());
        (changes, cut).prop_map(|(changes, cut)| Self { changes, cut })
    }

    fn done_to(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for (at, value) in &self.changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
        }
        if let Some(cut) = self.cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes
    }
}

fn any_options() -> impl Strategy<Value = tcp::Options> {
    let timestamps = any::<(u32, u32)>().prop_map(|(value, echo)| Timestamps { value, echo });
    let block = any::<(u32, u32)>().prop_map(|(left, right)| SackBlock { left, right });
    let sack = vec(block, 0..5).prop_map(|blocks| {
        let mut sack = SackBlocks::NONE;
        blocks.into_iter().for_each(|block| sack.push(block));
        sack
    });
    let (mss, scale) = (option::of(any::<u16>()), option::of(any::<u8>()));
    (mss, scale, any::<bool>(), option::of(timestamps), sack).prop_map(
        |(mss, window_scale, sack_permitted, timestamps, sack)| tcp::Options {
            mss,
            window_scale,
            sack_permitted,
            timestamps,
            sack,
        },
    )
}

prop_compose! {
    fn any_header()(
        ports in any::<(u16, u16)>(),
        numbers in any::<(u32, u32)>(),
        flags in any::<u8>(),
        window in any::<u16>(),
        urgent in any::<u16>(),
        options in any_options(),
    ) -> tcp::Header {
        tcp::Header {
            src_port: ports.0,
            dst_port: ports.1,
            seq: numbers.0,
            ack: numbers.1,
            flags: Flags(flags),
            window,
            urgent,
            options,
        }
    }
}

/// A TCP segment with a right checksum, as it leaves us.
fn segment(header: &tcp::Header, text: &[u8], pseudo: PseudoHeader) -> Vec<u8> {
    let header_len = header.header_len();
    let mut bytes = vec![0; header_len + text.len()];
    let text_sum = checksum::copy_and_sum(header.emit(&mut bytes).unwrap(), text, 0);
    tcp::set_checksum_with(&mut bytes, header_len, text_sum, pseudo);
    bytes
}

prop_compose! {
    fn any_ipv4()(
        addresses in any::<(u32, u32)>(),
        fields in any::<(u8, u8, u16)>(),
        dscp in 0..64u8,
        ecn in 0..4u8,
    ) -> ipv4::Header {
        ipv4::Header {
            src: Ipv4Addr::from_bits(addresses.0),
            dst: Ipv4Addr::from_bits(addresses.1),
            protocol: fields.0,
            ttl: fields.1,
            dscp,
            ecn,
            identification: fields.2,
            payload_len: 0,
        }
    }
}

prop_compose! {
    fn any_ipv6()(
        addresses in any::<(u128, u128)>(),
        hop_limit in any::<u8>(),
        dscp in 0..64u8,
        ecn in 0..4u8,
        flow_label in 0..1u32 << 20,
        protocol in prop_oneof![Just(0u8), Just(43), Just(44), Just(60), Just(58), any::<u8>()],
    ) -> ipv6::Header {
        ipv6::Header {
            src: Ipv6Addr::from_bits(addresses.0),
            dst: Ipv6Addr::from_bits(addresses.1),
            protocol,
            hop_limit,
            dscp,
            ecn,
            flow_label,
            payload_len: 0,
        }
    }
}

/// Bytes that look like a chain of extension headers: few of them go too far.
fn any_chain() -> impl Strategy<Value = Vec<u8>> {
    let next = prop_oneof![Just(0u8), Just(43), Just(44), Just(60), Just(6), Just(58)];
    let header = (next, prop_oneof![4 => Just(0u8), 1 => 0..3u8], vec(0..6u8, 6))
        .prop_map(|(next, len, body)| [&[next, len][..], &body].concat());
    vec(header, 0..12).prop_map(|headers| headers.concat())
}

fn packet_v4(header: &ipv4::Header, payload: &[u8]) -> Vec<u8> {
    let header = ipv4::Header { payload_len: payload.len() as u16, ..*header };
    let mut bytes = vec![0; ipv4::HEADER + payload.len()];
    header.emit(&mut bytes).unwrap().copy_from_slice(payload);
    bytes
}

fn packet_v6(header: &ipv6::Header, payload: &[u8]) -> Vec<u8> {
    let header = ipv6::Header { payload_len: payload.len() as u16, ..*header };
    let mut bytes = vec![0; ipv6::HEADER + payload.len()];
    header.emit(&mut bytes).unwrap().copy_from_slice(payload);
    bytes
}

fn frame(ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ethernet::HEADER + payload.len()];
    let (dst, src) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    ethernet::emit(&mut bytes, &dst, &src, ethertype).unwrap().copy_from_slice(payload);
    bytes
}

/// What both parsers say of a TCP segment.
fn assert_same_segment(ours: &Segment<'_>, theirs: &etherparse::TcpSlice<'_>) {
    assert_eq!(ours.src_port, theirs.source_port());
    assert_eq!(ours.dst_port, theirs.destination_port());
    assert_eq!((ours.seq, ours.ack), (theirs.sequence_number(), theirs.acknowledgment_number()));
    assert_eq!((ours.window, ours.urgent), (theirs.window_size(), theirs.urgent_pointer()));
    for (flag, set) in [
        (Flags::FIN, theirs.fin()),
        (Flags::SYN, theirs.syn()),
        (Flags::RST, theirs.rst()),
        (Flags::PSH, theirs.psh()),
        (Flags::ACK, theirs.ack()),
        (Flags::URG, theirs.urg()),
        (Flags::ECE, theirs.ece()),
        (Flags::CWR, theirs.cwr()),
    ] {
        assert_eq!(ours.flags.contains(flag), set, "{flag:?}");
    }
    assert_eq!((ours.header, ours.payload), (theirs.header_slice(), theirs.payload()));
}

/// The first of each option etherparse finds before the first error, of those we know.
fn options_by_etherparse(theirs: &etherparse::TcpSlice<'_>) -> tcp::Options {
    use etherparse::TcpOptionElement as Element;
    let mut found = tcp::Options::NONE;
    for element in theirs.options_iterator() {
        match element {
            Ok(Element::MaximumSegmentSize(mss)) => found.mss = found.mss.or(Some(mss)),
            Ok(Element::WindowScale(shift)) => {
                found.window_scale = found.window_scale.or(Some(shift));
            }
            Ok(Element::SelectiveAcknowledgementPermitted) => found.sack_permitted = true,
            Ok(Element::Timestamp(value, echo)) => {
                found.timestamps = found.timestamps.or(Some(Timestamps { value, echo }));
            }
            Ok(Element::SelectiveAcknowledgement(first, others)) => {
                if found.sack == SackBlocks::NONE {
                    let blocks = [Some(first)].into_iter().chain(others).flatten();
                    blocks.for_each(|(left, right)| found.sack.push(SackBlock { left, right }));
                }
            }
            Ok(Element::Noop) => {}
            Err(_) => break,
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_keep_every_law(bytes in vec(any::<u8>(), 0..200)) {
        laws::ethernet_frame(&bytes);
        laws::arp(&bytes);
        laws::ipv4(&bytes);
        laws::ipv6(&bytes);
        laws::icmpv4(&bytes);
        laws::icmpv6(&bytes);
        laws::tcp(&bytes);
    }

    #[test]
    fn any_script_is_survived_by_packets_in_pieces(script in vec(any::<u8>(), 0..2_000)) {
        laws::reassembly(&script);
    }

    #[test]
    fn any_script_is_survived_by_the_network_layer(script in vec(any::<u8>(), 0..2_000)) {
        laws::interface(&script);
    }

    #[test]
    fn damaged_frames_keep_the_law(
        tag in option::of(any::<[u8; 4]>()),
        payload in vec(any::<u8>(), 0..64),
        damage in Damage::any(),
    ) {
        let payload = tag.map_or_else(Vec::new, |tag| tag.to_vec()).into_iter().chain(payload);
        let ethertype = if tag.is_some() { EtherType::VLAN } else { EtherType::IPV4 };
        laws::ethernet_frame(&damage.done_to(frame(ethertype, &payload.collect::<Vec<_>>())));
    }

    #[test]
    fn damaged_arp_keeps_the_law(
        body in vec(any::<u8>(), arp::PACKET - 8..60),
        operation in 0..4u8,
        damage in Damage::any(),
    ) {
        let bytes = [&[0, 1, 8, 0, 6, 4, 0, operation][..], &body].concat();
        laws::arp(&bytes);
        laws::arp(&damage.done_to(bytes));
    }

    #[test]
    fn damaged_ipv4_keeps_the_law(
        header in any_ipv4(),
        payload in vec(any::<u8>(), 0..100),
        damage in Damage::any(),
    ) {
        let bytes = packet_v4(&header, &payload);
        prop_assert_eq!(ipv4::Packet::parse(&bytes).unwrap().payload, &payload);
        laws::ipv4(&damage.done_to(bytes));
    }

    #[test]
    fn damaged_ipv6_keeps_the_law(
        header in any_ipv6(),
        chain in any_chain(),
        damage in Damage::any(),
    ) {
        let bytes = packet_v6(&header, &chain);
        laws::ipv6(&bytes);
        laws::ipv6(&damage.done_to(bytes));
    }

    #[test]
    fn damaged_icmp_keeps_the_law(
        kind in prop_oneof![0..13u8, any::<u8>()],
        code in 0..6u8,
        word in any::<u32>(),
        quoted in any_ipv4(),
        text in vec(any::<u8>(), 0..30),
        damage in Damage::any(),
    ) {
        let quoted = packet_v4(&ipv4::Header { protocol: 6, ..quoted }, &text);
        let bytes = [&[kind, code, 0, 0][..], &word.to_be_bytes(), &quoted].concat();
        laws::icmpv4(&bytes);
        laws::icmpv4(&damage.done_to(bytes));
    }

    #[test]
    fn damaged_icmpv6_keeps_the_law(
        header in any_ipv6(),
        kind in prop_oneof![1..5u8, 128..140u8],
        word in any::<u32>(),
        target in any::<u128>(),
        options in vec((0..6u8, 0..3u8, vec(any::<u8>(), 6)), 0..4),
        damage in Damage::any(),
    ) {
        let header = ipv6::Header { hop_limit: 255, protocol: 58, ..header };
        let options = options.iter().flat_map(|(kind, len, body)| [&[*kind, *len][..], body].concat());
        let options: Vec<u8> = options.collect();
        let message = [&[kind, 0, 0, 0][..], &word.to_be_bytes(), &target.to_be_bytes(), &options];
        let bytes = packet_v6(&header, &message.concat());
        laws::icmpv6(&bytes);
        laws::icmpv6(&damage.done_to(bytes));
    }

    #[test]
    fn damaged_segments_keep_the_law(
        header in any_header(),
        text in vec(any::<u8>(), 0..100),
        damage in Damage::any(),
    ) {
        let pseudo = PseudoHeader::v4(Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, tcp::PROTOCOL);
        let bytes = segment(&header, &text, pseudo);
        laws::tcp(&bytes);
        laws::tcp(&damage.done_to(bytes));
    }

    #[test]
    fn arbitrary_options_keep_the_law(
        options in vec(prop_oneof![0..10u8, Just(34), any::<u8>()], 0..=40),
        flags in any::<u8>(),
    ) {
        let mut bytes = vec![0; tcp::HEADER + options.len().next_multiple_of(4)];
        bytes[12] = (bytes.len() / 4) as u8 * 16;
        bytes[13] = flags;
        bytes[tcp::HEADER..tcp::HEADER + options.len()].copy_from_slice(&options);
        laws::tcp(&bytes);
    }

    /// Every segment we write is read by an independent parser as by us, and to it the checksums
    /// are right (invariant: what is sent parses).
    #[test]
    fn etherparse_reads_what_we_write(
        v4 in any_ipv4(),
        v6 in any_ipv6(),
        header in any_header(),
        text in vec(any::<u8>(), 0..1_500),
    ) {
        let pseudo = PseudoHeader::v4(v4.src, v4.dst, tcp::PROTOCOL);
        let bytes = segment(&header, &text, pseudo);
        let v4 = ipv4::Header { protocol: tcp::PROTOCOL, ..v4 };
        let bytes = frame(EtherType::IPV4, &packet_v4(&v4, &bytes));
        let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
        let Some(NetSlice::Ipv4(net)) = &sliced.net else { panic!("{:?}", sliced.net) };
        prop_assert_eq!(net.header().header_checksum(), net.header().to_header().calc_header_checksum());
        prop_assert!(net.header().dont_fragment() && !net.is_payload_fragmented());
        let packet = ipv4::Packet::parse(Frame::parse(&bytes).unwrap().payload).unwrap();
        prop_assert_eq!(packet.src, net.header().source_addr());
        prop_assert_eq!(packet.dst, net.header().destination_addr());
        prop_assert_eq!(packet.dscp, net.header().dcp().value());
        prop_assert_eq!(packet.ecn, net.header().ecn().value());
        let Some(TransportSlice::Tcp(theirs)) = &sliced.transport else { panic!("no segment") };
        let sum = theirs.calc_checksum_ipv4(packet.src.octets(), packet.dst.octets());
        prop_assert_eq!(Ok(theirs.checksum()), sum);
        let ours = Segment::parse(packet.payload).unwrap();
        prop_assert!(ours.checksum_ok(pseudo));
        assert_same_segment(&ours, theirs);
        prop_assert_eq!(ours.options, options_by_etherparse(theirs));

        let pseudo = PseudoHeader::v6(v6.src, v6.dst, tcp::PROTOCOL);
        let bytes = segment(&header, &text, pseudo);
        let v6 = ipv6::Header { protocol: tcp::PROTOCOL, ..v6 };
        let bytes = frame(EtherType::IPV6, &packet_v6(&v6, &bytes));
        let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
        let Some(NetSlice::Ipv6(net)) = &sliced.net else { panic!("{:?}", sliced.net) };
        let packet = ipv6::Packet::parse(Frame::parse(&bytes).unwrap().payload).unwrap();
        prop_assert_eq!(packet.src, net.header().source_addr());
        prop_assert_eq!(packet.dst, net.header().destination_addr());
        prop_assert_eq!(packet.flow_label, net.header().flow_label().value());
        prop_assert_eq!(packet.hop_limit, net.header().hop_limit());
        let Some(TransportSlice::Tcp(theirs)) = &sliced.transport else { panic!("no segment") };
        let sum = theirs.calc_checksum_ipv6(packet.src.octets(), packet.dst.octets());
        prop_assert_eq!(Ok(theirs.checksum()), sum);
    }

    /// Both parsers find the same in damaged segments, or both find nothing.
    #[test]
    fn etherparse_agrees_on_damaged_segments(
        header in any_header(),
        text in vec(any::<u8>(), 0..40),
        damage in Damage::any(),
    ) {
        let pseudo = PseudoHeader::v4(Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, tcp::PROTOCOL);
        let bytes = damage.done_to(segment(&header, &text, pseudo));
        match (Segment::parse(&bytes), etherparse::TcpSlice::from_slice(&bytes)) {
            (Ok(ours), Ok(theirs)) => assert_same_segment(&ours, &theirs),
            (Err(_), Err(_)) => {}
            (ours, theirs) => panic!("{ours:?} but {theirs:?}"),
        }
    }

    #[test]
    fn etherparse_reads_our_echoes(
        identifier in any::<u16>(),
        sequence in any::<u16>(),
        data in vec(any::<u8>(), 0..100),
        addresses in any::<(u128, u128)>(),
    ) {
        use etherparse::{IcmpEchoHeader, Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type};
        let header = IcmpEchoHeader { id: identifier, seq: sequence };
        let echo = icmpv4::Echo { identifier, sequence, data: &data };
        let mut bytes = vec![0; echo.message_len()];
        echo.emit_reply(&mut bytes).unwrap();
        let theirs = Icmpv4Slice::from_slice(&bytes).unwrap();
        prop_assert_eq!(theirs.icmp_type(), Icmpv4Type::EchoReply(header));
        prop_assert_eq!(theirs.icmp_type().calc_checksum(theirs.payload()), theirs.checksum());

        let (src, dst) = (Ipv6Addr::from_bits(addresses.0), Ipv6Addr::from_bits(addresses.1));
        let echo = icmpv6::Echo { identifier, sequence, data: &data };
        echo.emit_reply(&mut bytes, src, dst).unwrap();
        let theirs = Icmpv6Slice::from_slice(&bytes).unwrap();
        prop_assert_eq!(theirs.icmp_type(), Icmpv6Type::EchoReply(header));
        prop_assert!(theirs.is_checksum_valid(src.octets(), dst.octets()));
    }
}

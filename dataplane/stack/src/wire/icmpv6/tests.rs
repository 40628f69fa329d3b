use core::net::IpAddr;

use super::*;
use crate::wire::ipv6;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

fn us() -> Ipv6Addr {
    "fd77::2".parse().unwrap()
}

fn them() -> Ipv6Addr {
    "fd77::1".parse().unwrap()
}

/// The packet that carries `payload` from them.
fn packet(dst: Ipv6Addr, payload: &[u8]) -> Packet<'_> {
    Packet {
        src: them(),
        dst,
        protocol: PROTOCOL,
        hop_limit: 255,
        dscp: 0,
        ecn: 0,
        flow_label: 0,
        fragment: Fragment::None,
        payload,
    }
}

/// Completes the checksum of a message from them.
fn seal(message: &mut [u8], dst: Ipv6Addr) {
    message[2..4].fill(0);
    let pseudo = PseudoHeader::v6(them(), dst, PROTOCOL).sum(message.len());
    let field = checksum::field(checksum::sum(message, pseudo));
    message[2..4].copy_from_slice(&field.to_be_bytes());
}

#[test]
fn echoes_are_read_as_written() {
    let echo = Echo { identifier: 77, sequence: 3, data: b"payload" };
    let mut bytes = [0; 15];
    assert!(echo.emit_request(&mut bytes, them(), us()).unwrap().is_empty());
    assert_eq!(Message::parse(&packet(us(), &bytes)), Ok(Message::EchoRequest(echo)));
    echo.emit_reply(&mut bytes, them(), us()).unwrap();
    assert_eq!(Message::parse(&packet(us(), &bytes)), Ok(Message::EchoReply(echo)));
    assert!(echo.emit_reply(&mut bytes[..14], them(), us()).is_none());
    let elsewhere = packet("fd77::3".parse().unwrap(), &bytes);
    assert_eq!(Message::parse(&elsewhere), Err(Malformed::IcmpChecksum));
    assert_eq!(Message::parse(&packet(us(), &bytes[..7])), Err(Malformed::IcmpTruncated));
}

#[test]
fn neighbour_messages_are_read_as_written() {
    for mac in [None, Some(MAC)] {
        let asked = Solicitation { target: us(), source_mac: mac };
        let mut bytes = [0; NEIGHBOUR_MESSAGE];
        let left = asked.emit(&mut bytes, them(), us()).unwrap().len();
        assert_eq!(NEIGHBOUR_MESSAGE - left, asked.message_len());
        let message = Message::parse(&packet(us(), &bytes[..asked.message_len()]));
        assert_eq!(message, Ok(Message::NeighbourSolicitation(asked)));
        assert!(asked.emit(&mut bytes[..asked.message_len() - 1], them(), us()).is_none());

        for flags in 0..8 {
            let told = Advertisement {
                target: them(),
                target_mac: mac,
                router: flags & 1 != 0,
                solicited: flags & 2 != 0,
                overrides: flags & 4 != 0,
            };
            told.emit(&mut bytes, them(), us()).unwrap();
            let message = Message::parse(&packet(us(), &bytes[..told.message_len()]));
            assert_eq!(message, Ok(Message::NeighbourAdvertisement(told)));
        }
    }
}

#[test]
fn neighbour_messages_from_beyond_the_link_are_refused() {
    let asked = Solicitation { target: us(), source_mac: Some(MAC) };
    let mut bytes = [0; NEIGHBOUR_MESSAGE];
    asked.emit(&mut bytes, them(), us()).unwrap();
    let good = packet(us(), &bytes);
    for hop_limit in [0, 1, 64, 254] {
        assert_eq!(Message::parse(&Packet { hop_limit, ..good }), Err(Malformed::NdInvalid));
    }
    let fragment = Fragment::Atomic;
    assert_eq!(Message::parse(&Packet { fragment, ..good }), Err(Malformed::NdInvalid));
    bytes[1] = 1;
    seal(&mut bytes, us());
    assert_eq!(Message::parse(&packet(us(), &bytes)), Err(Malformed::NdInvalid), "code");
    bytes[1] = 0;
    bytes[8] = 0xff;
    seal(&mut bytes, us());
    assert_eq!(Message::parse(&packet(us(), &bytes)), Err(Malformed::NdInvalid), "target");
}

#[test]
fn duplicate_address_detection_has_its_own_form() {
    let group = solicited_node(us());
    let parse = |dst, source_mac| {
        let asked = Solicitation { target: us(), source_mac };
        let mut bytes = [0; NEIGHBOUR_MESSAGE];
        asked.emit(&mut bytes, Ipv6Addr::UNSPECIFIED, dst).unwrap();
        let payload = &bytes[..asked.message_len()];
        let packet = Packet { src: Ipv6Addr::UNSPECIFIED, ..packet(dst, payload) };
        Message::parse(&packet).map(|_| ())
    };
    assert_eq!(parse(group, None), Ok(()));
    assert_eq!(parse(us(), None), Err(Malformed::NdInvalid));
    assert_eq!(parse(group, Some(MAC)), Err(Malformed::NdInvalid));
}

#[test]
fn a_solicited_advertisement_goes_to_one() {
    let mut told = Advertisement {
        target: them(),
        target_mac: Some(MAC),
        router: false,
        solicited: true,
        overrides: true,
    };
    let all = "ff02::1".parse().unwrap();
    let mut bytes = [0; NEIGHBOUR_MESSAGE];
    told.emit(&mut bytes, them(), all).unwrap();
    assert_eq!(Message::parse(&packet(all, &bytes)), Err(Malformed::NdInvalid));
    told.solicited = false;
    told.emit(&mut bytes, them(), all).unwrap();
    let message = Message::parse(&packet(all, &bytes));
    assert_eq!(message, Ok(Message::NeighbourAdvertisement(told)));
}

#[test]
fn options_of_length_zero_or_beyond_the_message_refuse_it() {
    let parse = |options: [u8; 16], len: usize| {
        let mut bytes = [0; 40];
        bytes[0] = NEIGHBOUR_SOLICITATION;
        bytes[8..24].copy_from_slice(&us().octets());
        bytes[24..].copy_from_slice(&options);
        let bytes = &mut bytes[..24 + len];
        seal(bytes, us());
        Message::parse(&packet(us(), bytes)).map(|message| match message {
            Message::NeighbourSolicitation(asked) => asked.source_mac,
            other => panic!("{other:?}"),
        })
    };
    let mac = |last| Some(MacAddr([2, 0, 0, 0, 0, last]));
    assert_eq!(parse([1, 1, 2, 0, 0, 0, 0, 7, 1, 1, 2, 0, 0, 0, 0, 8], 16), Ok(mac(7)));
    assert_eq!(parse([14, 1, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 8], 16), Ok(mac(8)));
    assert_eq!(parse([1, 2, 2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0], 16), Ok(None));
    assert_eq!(parse([0; 16], 0), Ok(None));
    assert_eq!(parse([0; 16], 8), Err(Malformed::NdOption));
    assert_eq!(
        parse([1, 0, 2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0], 8),
        Err(Malformed::NdOption)
    );
    assert_eq!(
        parse([1, 3, 2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0], 16),
        Err(Malformed::NdOption)
    );
    assert_eq!(
        parse([1, 1, 2, 0, 0, 0, 0, 7, 1, 0, 0, 0, 0, 0, 0, 0], 9),
        Err(Malformed::NdOption)
    );
    for len in 0..16 {
        let mut bytes = [0; 24];
        bytes[0] = NEIGHBOUR_ADVERTISEMENT;
        seal(&mut bytes[..8 + len], us());
        let message = Message::parse(&packet(us(), &bytes[..8 + len]));
        assert_eq!(message, Err(Malformed::IcmpTruncated));
    }
}

#[test]
fn errors_about_tcp_say_what_befell_the_segment() {
    let parse = |kind: u8, word: u32| {
        let mut bytes = [0; 8 + 48];
        bytes[0] = kind;
        bytes[4..8].copy_from_slice(&word.to_be_bytes());
        let quoted = ipv6::Header {
            src: us(),
            dst: them(),
            protocol: 6,
            hop_limit: 1,
            dscp: 0,
            ecn: 0,
            flow_label: 0,
            payload_len: 20,
        };
        let rest = quoted.emit(&mut bytes[8..]).unwrap();
        rest.copy_from_slice(&[0, 7, 0, 8, 0, 0, 0, 9]);
        seal(&mut bytes, us());
        match Message::parse(&packet(us(), &bytes)) {
            Ok(Message::Error(error)) => {
                assert_eq!((error.quoted.src, error.quoted.seq), (IpAddr::V6(us()), 9));
                Some(error.failure)
            }
            Ok(Message::Router { .. } | Message::Other { .. }) => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(parse(2, 1280), Some(Failure::PacketTooBig { mtu: 1280 }));
    assert_eq!(parse(2, 70_000), Some(Failure::PacketTooBig { mtu: 70_000 }));
    assert_eq!(parse(1, 0), Some(Failure::Unreachable { kind: 1, code: 0 }));
    for kind in [133, 134, 137, 100, 143, 255] {
        assert_eq!(parse(kind, 0), None);
    }
    let mut short = [1, 0, 0, 0, 0, 0, 0, 0, 9];
    seal(&mut short, us());
    assert_eq!(Message::parse(&packet(us(), &short)), Ok(Message::ErrorAboutOther));
}

#[test]
fn groups_have_their_addresses() {
    let ip = "2001:db8::1234:5678:9abc".parse().unwrap();
    let group: Ipv6Addr = "ff02::1:ff78:9abc".parse().unwrap();
    assert_eq!(solicited_node(ip), group);
    assert_eq!(multicast_mac(group), MacAddr([0x33, 0x33, 0xff, 0x78, 0x9a, 0xbc]));
}

//! Rows 90 to 93, N30 and N31: packets in pieces, and headers before TCP's.

use std::net::IpAddr;
use std::time::Duration;

use crate::lab::packets::{ACK, ETHERNET, IPV4, IPV6, SYN, What, ipv4_with, ipv6, mss, seal};
use crate::lab::{Client, Family, Lab};
use crate::rows::{Row, rows};

/// `net_af_packet` asks the kernel to put the pieces of IPv4 packets together before it sees them
/// (`PACKET_FANOUT_FLAG_DEFRAG`), so that those of IPv4 come by a tap.
pub(crate) const ROWS: &[Row] = rows![
    Pieces V4:
        row_90_a_syn_in_two_pieces_is_answered,
        row_91_overlapping_pieces_and_giants_do_no_harm,
        row_92_a_tiny_first_piece_is_met_by_silence,
        row_93_pieces_without_end_are_bounded;
    Usual V6:
        row_90_a_syn_in_two_pieces_is_answered,
        row_91_overlapping_pieces_and_giants_do_no_harm,
        row_92_a_tiny_first_piece_is_met_by_silence,
        row_93_pieces_without_end_are_bounded,
        row_n30_extension_headers_are_bounded_and_treated_as_their_bits_say,
        row_n31_pieces_of_ipv6_are_whole_alone_or_dropped;
];

/// A SYN's bytes, 40 of them, with a good checksum.
pub(crate) fn syn(client: &Client) -> Vec<u8> {
    let options = [&mss(1460)[..], &[1; 16]].concat();
    let mut body = client.syn().with(&options).bytes();
    seal(client.ip, client.server, 6, &mut body);
    body
}

/// Sends a piece of a packet: its bytes, where they begin, and whether more follow.
pub(crate) fn piece(
    lab: &Lab,
    client: &Client,
    id: u16,
    (offset, more): (u16, bool),
    bytes: &[u8],
) {
    piece_of(lab, client, 6, id, (offset, more), bytes);
}

fn piece_of(
    lab: &Lab,
    client: &Client,
    protocol: u8,
    id: u16,
    (offset, more): (u16, bool),
    bytes: &[u8],
) {
    assert_eq!(offset % 8, 0);
    match (client.ip, client.server) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let field = (offset / 8) | if more { 0x2000 } else { 0 };
            lab.send_packet(IPV4, &ipv4_with((src, dst), protocol, (id, field), &[], bytes));
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = [
                &[protocol, 0][..],
                &(offset | u16::from(more)).to_be_bytes(),
                &u32::from(id).to_be_bytes(),
            ]
            .concat();
            let body = [&header[..], bytes].concat();
            lab.send_packet(IPV6, &ipv6((src, dst), 44, 64, &body));
        }
        _ => unreachable!("a client is of one family"),
    }
}

fn row_90_a_syn_in_two_pieces_is_answered(lab: &mut Lab, family: Family) {
    for backwards in [false, true] {
        let mut client = lab.client(family);
        let whole = syn(&client);
        let mut pieces = [((0, true), &whole[..24]), ((24, false), &whole[24..])];
        if backwards {
            pieces.reverse();
        }
        for (place, bytes) in pieces {
            piece(lab, &client, client.port, place, bytes);
        }
        let answers = lab.answers(&client);
        let [answer] = &answers[..] else { panic!("not one answer: {answers:?}") };
        lab.complete(&mut client, answer);
        lab.assert_alive(client);
    }
}

fn row_91_overlapping_pieces_and_giants_do_no_harm(lab: &mut Lab, family: Family) {
    let client = lab.client(family);
    let whole = syn(&client);
    let id = client.port;
    // Teardrop: the second lies within the first.
    piece(lab, &client, id, (0, true), &whole[..32]);
    piece(lab, &client, id, (8, false), &whole[8..16]);
    // The same bytes again, but others.
    piece(lab, &client, id + 1000, (0, true), &whole[..24]);
    piece(lab, &client, id + 1000, (16, false), &[0xee; 24]);
    // Ping of death: beyond what a packet can be.
    piece(lab, &client, id + 2000, (65_528, false), &[0xee; 1000]);
    piece_of(lab, &client, 1, id + 3000, (65_528, false), &[0xee; 1000]);
    // Nothing, an odd length with more to come, and a hole that is never filled.
    piece(lab, &client, id + 4000, (0, true), &[]);
    piece(lab, &client, id + 5000, (0, true), &whole[..23]);
    piece(lab, &client, id + 6000, (32, false), &whole[32..]);
    let answers = lab.answers(&client);
    assert!(answers.is_empty(), "{answers:?}");
    lab.assert_serves(family);
}

fn row_92_a_tiny_first_piece_is_met_by_silence(lab: &mut Lab, family: Family) {
    let client = lab.client(family);
    let whole = syn(&client);
    piece(lab, &client, client.port, (0, true), &whole[..8]);
    assert!(lab.answers(&client).is_empty(), "half a header says nothing");
    lab.assert_serves(family);
}

fn row_93_pieces_without_end_are_bounded(lab: &mut Lab, family: Family) {
    let resident = lab.resident();
    for n in 0..2000 {
        let client = Client { ip: family.host(1000 + n % 100), ..lab.client(family) };
        let whole = syn(&client);
        piece(lab, &client, n, (0, true), &whole[..24]);
        lab.pace(usize::from(n));
    }
    lab.settle();
    // The oldest made way: what comes now is put together.
    row_90_a_syn_in_two_pieces_is_answered(lab, family);
    lab.assert_serves(family);
    let grown = lab.resident().saturating_sub(resident);
    assert!(grown < 4 << 20, "{grown} bytes more");
}

fn row_n30_extension_headers_are_bounded_and_treated_as_their_bits_say(
    lab: &mut Lab,
    family: Family,
) {
    /// Next header, length, and options that are padding.
    const fn pad(next: u8) -> [u8; 8] {
        [next, 0, 1, 4, 0, 0, 0, 0]
    }
    let send = |lab: &mut Lab, first: u8, headers: &[[u8; 8]]| {
        let client = lab.client(family);
        let body = [headers.as_flattened(), &syn(&client)].concat();
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (client.ip, client.server) else { panic!() };
        let packet = ipv6((src, dst), first, 64, &body);
        (client, crate::lab::packets::frame(lab.dut, crate::wire::OUR_MAC, IPV6, &packet))
    };
    // Harmless ones are passed over.
    let option = |kind: u8, next: u8| [next, 0, kind, 2, 9, 9, 1, 0];
    for (first, headers) in [
        (0, &[pad(6)][..]),
        (0, &[pad(60), pad(43), [6, 0, 0, 0, 0, 0, 0, 0]]),
        (60, &[option(0x1e, 6)]),
    ] {
        let (mut client, frame) = send(lab, first, headers);
        lab.wire.send(&frame);
        let answers = lab.answers(&client);
        if first == 0 && headers.len() == 3 {
            // A routing header's type 0 without segments left is passed over, padding is not one.
            assert!(answers.len() <= 1, "{answers:?}");
            continue;
        }
        let [answer] = &answers[..] else { panic!("{headers:02x?}: {answers:?}") };
        lab.complete(&mut client, answer);
        lab.assert_alive(client);
    }
    // A hundred of them, and an option that says so: silence.
    let mut long = [pad(60); 100];
    long[99] = pad(6);
    let silent: [(u8, &[[u8; 8]], &str); 2] =
        [(60, &long, "ipv6-extension-chain"), (60, &[option(0x5e, 6)], "ipv6-option")];
    for (first, headers, counter) in silent {
        let (_, frame) = send(lab, first, headers);
        lab.assert_silence(&frame, counter);
    }
    // Hop-by-hop options in the second place; unknown options by their bits; a jumbo payload; a route
    // yet to go; a protocol behind headers that nobody here speaks: by code and pointer.
    let told = [
        (60, &[pad(0), pad(6)][..], "ipv6-extension-chain", [1, 40]),
        (60, &[option(0x9e, 6)], "ipv6-option", [2, 42]),
        (60, &[pad(60), option(0xde, 6)], "ipv6-option", [2, 50]),
        (0, &[[6, 0, 0xc2, 4, 0, 1, 0, 0]], "ipv6-option", [2, 42]),
        (43, &[[6, 0, 0, 1, 0, 0, 0, 0]], "ipv6-routing", [0, 42]),
        (60, &[pad(17)], "ip-protocol", [1, 40]),
    ];
    // Other rows may have used up the ration of messages. It is whole again after a second without any.
    std::thread::sleep(Duration::from_secs(1));
    for (first, headers, counter, what) in told {
        let (client, frame) = send(lab, first, headers);
        assert_told(lab, &client, &frame, counter, what);
    }
    let (_, frame) = send(lab, 60, &[option(0x9e, 6)]);
    assert_told_seldom(lab, &frame);
    lab.assert_serves(family);
}

/// This frame is counted under this name, and answered by one Parameter Problem with this code and
/// pointer and the whole packet in it. (Whatever is seen has a checksum that is right.)
fn assert_told(lab: &mut Lab, client: &Client, frame: &[u8], counter: &str, what: [u8; 2]) {
    let before = lab.counts();
    lab.wire.forget();
    lab.wire.send(frame);
    lab.settle();
    // A client of another row may be answered again meanwhile.
    let of_another = |what: &What| matches!(what, What::Tcp { tcp, .. } if tcp.to != client.port);
    let came = lab.wire.take(|seen| (!of_another(&seen.what)).then(|| seen.clone()));
    let after = lab.counts();
    for counter in [counter, "parameter-problems-out"] {
        assert_eq!(after.of(counter), before.of(counter) + 1, "{:?}", after.beyond(&before));
    }
    let [answer] = &came[..] else { panic!("not one message: {came:?}") };
    let What::Icmp { src, dst, kind: 4, rest } = &answer.what else { panic!("{answer:?}") };
    assert_eq!((*src, *dst), (client.server, client.ip));
    assert_eq!((answer.from, answer.to), (lab.dut, crate::wire::OUR_MAC));
    let [code, pointer] = what;
    assert_eq!(answer.bytes[ETHERNET + 40 + 1], code, "the code");
    assert_eq!(rest[..4], [0, 0, 0, pointer], "the pointer");
    assert_eq!(rest[4..], frame[ETHERNET..], "the packet");
}

/// Of many at once few are told of, and the others are counted: ten a second, beside what was saved
/// up.
fn assert_told_seldom(lab: &mut Lab, frame: &[u8]) {
    const SENT: u64 = 200;
    let (before, began) = (lab.counts(), xtcp_bench::clock::now());
    (0..SENT).for_each(|_| lab.wire.send(frame));
    lab.settle();
    let (after, took) = (lab.counts(), began.elapsed());
    let rose = |name: &str| after.of(name) - before.of(name);
    let told = lab.wire.take(|seen| matches!(seen.what, What::Icmp { kind: 4, .. }).then_some(()));
    let told = told.len() as u64;
    assert_eq!(rose("ipv6-option"), SENT);
    assert_eq!(
        (rose("parameter-problems-out"), rose("parameter-problem-rationed")),
        (told, SENT - told)
    );
    let most = 10 + took.as_millis() / 100 + 1;
    assert!(u128::from(told) <= most, "{told} of at most {most} in {took:?}");
}

fn row_n31_pieces_of_ipv6_are_whole_alone_or_dropped(lab: &mut Lab, family: Family) {
    // An atomic fragment is a packet, whatever pieces of its identification there are.
    let mut client = lab.client(family);
    let whole = syn(&client);
    piece(lab, &client, client.port, (0, true), &[0xee; 32]);
    piece(lab, &client, client.port, (0, false), &whole);
    let answers = lab.answers(&client);
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    assert!(answer.has(SYN | ACK));
    lab.complete(&mut client, answer);
    lab.assert_alive(client);
    // Overlapping pieces lose the packet (RFC 5722): what completes it is not answered either.
    let client = lab.client(family);
    let whole = syn(&client);
    piece(lab, &client, client.port, (0, true), &whole[..24]);
    let overlaps = lab.count("fragment-overlap");
    piece(lab, &client, client.port, (16, true), &[0xee; 8]);
    piece(lab, &client, client.port, (24, false), &whole[24..]);
    // And all that still comes of it, be it whole: "including those not yet received".
    piece(lab, &client, client.port, (0, true), &whole[..24]);
    piece(lab, &client, client.port, (24, false), &whole[24..]);
    let answers = lab.answers(&client);
    assert!(answers.is_empty(), "{answers:?}");
    assert_eq!(lab.count("fragment-overlap"), overlaps + 4);
    // Another identification is another packet.
    piece(lab, &client, client.port + 1, (24, false), &whole[24..]);
    piece(lab, &client, client.port + 1, (0, true), &whole[..24]);
    let answers = lab.answers(&client);
    assert!(answers.len() == 1 && answers[0].has(SYN | ACK), "{answers:?}");
    lab.abort(&Client { nxt: answers[0].ack, ..client.clone() });
    // Neighbour discovery in pieces (RFC 6980), and whole in an atomic fragment.
    let before = lab.count("ip-fragment");
    let mut solicitation =
        [135, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let IpAddr::V6(own) = client.server else { panic!() };
    solicitation[8..].copy_from_slice(&own.octets());
    seal(client.ip, client.server, 58, &mut solicitation);
    piece_of(lab, &client, 58, 7, (0, true), &solicitation[..16]);
    piece_of(lab, &client, 58, 7, (16, false), &solicitation[16..]);
    lab.settle();
    assert_eq!(lab.count("ip-fragment"), before + 2);
    piece_of(lab, &client, 58, 8, (0, false), &solicitation);
    let answered = lab.wire.wait_for(Duration::ZERO, |seen| match &seen.what {
        What::Icmp { kind: 136, .. } => Some(()),
        _ => None,
    });
    lab.settle();
    assert!(answered.is_none(), "nor is that answered");
    lab.assert_serves(family);
}

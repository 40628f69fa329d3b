//! Rows A4 to A7, A14 to A16: what the list does not have of that which is below TCP. Mostly all there
//! is of something, each judged by a rule that is written here and not taken from the stack.

use std::net::IpAddr;

use crate::fragments::{piece, syn};
use crate::lab::packets::{
    ACK, ETHERNET, IPV4, IPV6, RST, SYN, What, be32, frame, ipv4_with, ipv6, moved, mss, packet,
    seal, seal_ipv4,
};
use crate::lab::{Client, Family, Lab, PATIENCE, packet_of};
use crate::rows::{Row, rows};
use crate::wire::OUR_MAC;

pub(crate) const ROWS: &[Row] = rows![
    Usual BOTH:
        row_a6_errors_that_quote_oddities_are_not_believed,
        row_a16_nobody_is_made_to_answer_a_group_of_hosts;
    Usual V4:
        row_a14_odd_bits_of_an_ipv4_header_change_nothing;
    Usual V6:
        row_a4_of_all_pairs_of_pieces_only_whole_ones_are_answered,
        row_a5_extension_headers_in_every_order_are_passed_over_or_refused,
        row_a7_options_of_discovery_at_every_length_do_no_harm;
    Pieces V4:
        row_a4_of_all_pairs_of_pieces_only_whole_ones_are_answered;
    Pieces BOTH:
        row_a15_tunnels_and_strange_protocols_are_met_by_silence;
];

/// Of a SYN's 40 bytes, five blocks, every two pieces there can be: they are answered if they are the
/// whole and the first of them has the header in it (RFC 1858), in either order; and whatever lies
/// over the header (RFC 3128) is not.
fn row_a4_of_all_pairs_of_pieces_only_whole_ones_are_answered(lab: &mut Lab, family: Family) {
    const BLOCKS: u16 = 5;
    let all = |f: &mut dyn FnMut((u16, u16))| {
        for from in 0..BLOCKS {
            for to in from + 1..=BLOCKS {
                f((from, to));
            }
        }
    };
    let mut pairs = Vec::new();
    all(&mut |one| all(&mut |other| pairs.push((one, other))));
    for (one, other) in pairs {
        let client = lab.client(family);
        let whole = syn(&client);
        for (from, to) in [one, other] {
            let bytes = &whole[usize::from(from) * 8..usize::from(to) * 8];
            piece(lab, &client, client.port, (from * 8, to != BLOCKS), bytes);
        }
        let (low, high) = if one.0 <= other.0 { (one, other) } else { (other, one) };
        let parts = low.0 == 0 && low.1 == high.0 && high.1 == BLOCKS && low.1 >= 3;
        // The whole of it in a single fragment is a packet of its own with IPv6 (RFC 6946); and with
        // IPv4 it never was one.
        let alone = [one, other].iter().filter(|piece| **piece == (0, BLOCKS)).count();
        let answers = lab.answers(&client);
        assert_eq!(!answers.is_empty(), parts || alone > 0, "{one:?} and {other:?}: {answers:?}");
        assert!(answers.iter().all(|tcp| tcp.has(SYN | ACK)), "{one:?} and {other:?}: {answers:?}");
        if let Some(answer) = answers.first() {
            lab.abort(&Client { nxt: answer.ack, ..client });
        }
    }
}

/// Hop-by-hop options, routing, destination options, an atomic fragment: every order of up to three.
/// Hop-by-hop options stand first (RFC 8200 section 4.1), and one fragment is enough.
fn row_a5_extension_headers_in_every_order_are_passed_over_or_refused(
    lab: &mut Lab,
    family: Family,
) {
    const KINDS: [u8; 4] = [0, 43, 60, 44];
    let mut orders: Vec<Vec<u8>> = vec![Vec::new()];
    for _ in 0..3 {
        let longer = orders.iter().flat_map(|order| {
            KINDS.map(|kind| order.iter().copied().chain([kind]).collect::<Vec<_>>())
        });
        orders = orders.iter().cloned().chain(longer.collect::<Vec<_>>()).collect();
    }
    orders.sort();
    orders.dedup();
    assert_eq!(orders.len(), 1 + 4 + 16 + 64);
    for order in orders {
        // 59 is the end, and 17 and 50 are nothing of ours.
        for last in [6, 59, 17, 50] {
            let client = lab.client(family);
            let mut body = Vec::new();
            for (at, kind) in order.iter().enumerate() {
                let next = order.get(at + 1).copied().unwrap_or(last);
                match kind {
                    44 => body.extend([next, 0, 0, 0, 0, 0, 0, 7]),
                    43 => body.extend([next, 0, 0, 0, 0, 0, 0, 0]),
                    _ => body.extend([next, 0, 1, 4, 0, 0, 0, 0]),
                }
            }
            body.extend(syn(&client));
            let first = order.first().copied().unwrap_or(last);
            let (IpAddr::V6(src), IpAddr::V6(dst)) = (client.ip, client.server) else { panic!() };
            lab.send_packet(IPV6, &ipv6((src, dst), first, 64, &body));
            let answers = lab.answers(&client);
            let fragments = order.iter().filter(|kind| **kind == 44).count();
            let hops_first = order.iter().skip(1).all(|kind| *kind != 0);
            let good = last == 6 && hops_first && fragments <= 1;
            assert_eq!(answers.len(), usize::from(good), "{order:?} {last}: {answers:?}");
            if let Some(answer) = answers.first() {
                assert!(answer.has(SYN | ACK), "{order:?}: {answer:?}");
                lab.send(&client, &Client { nxt: answer.ack, ..client.clone() }.segment(RST));
            }
        }
    }
}

/// Numbers that anybody can compute again (Numerical Recipes' generator).
fn chance(state: &mut u32) -> u32 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    *state >> 8
}

/// A thousand quotes of what is in flight, each spoilt in some way: at most a soft error, a path that
/// is no narrower than the floor, and the text comes.
fn row_a6_errors_that_quote_oddities_are_not_believed(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    lab.send(&client, &client.data(&[b'x'; 100]));
    client.nxt = moved(client.nxt, 100);
    let of_client = client.clone();
    let quoted = lab.wire.wait_for(PATIENCE, |seen| {
        let tcp = crate::lab::for_client(&of_client, seen)?;
        (!tcp.text.is_empty()).then(|| seen.bytes[ETHERNET..].to_vec())
    });
    let quoted = quoted.expect("an answer");
    let header = if family == Family::V4 { 20 } else { 40 };
    let (unreachable, too_big) =
        if family == Family::V4 { ([3, 3], [3, 4]) } else { ([1, 4], [2, 0]) };
    let before = lab.counts();
    let (mut state, mut spoilt_headers, mut never_sent) = (0x5eed, 0, 0);
    for n in 0..1000 {
        let mut quote = quoted.clone();
        match n % 4 {
            // A header that lies about what follows it, or about who it is from.
            0 => {
                let at = chance(&mut state) as usize % header;
                // With IPv4 its own length makes it another quote; elsewhere it is read as it is.
                quote[at] ^= 1 << (chance(&mut state) % 8);
            }
            // An error about an error, or about another protocol.
            1 => quote[if family == Family::V4 { 9 } else { 6 }] = (chance(&mut state) % 256) as u8,
            // Numbers that were never sent.
            2 => {
                let seq = be32(&quote, header + 4).wrapping_add(1000 + chance(&mut state));
                quote[header + 4..header + 8].copy_from_slice(&seq.to_be_bytes());
            }
            // Cut off anywhere before its sequence number is whole.
            _ => quote.truncate(chance(&mut state) as usize % (header + 8)),
        }
        if quote == quoted {
            continue;
        }
        let [kind, code] = if n % 3 == 0 { too_big } else { unreachable };
        spoilt_headers += u64::from(n % 4 == 0);
        never_sent += u64::from(n % 4 == 2 && n % 3 != 0);
        let mtu = (chance(&mut state) % 2000) as u16;
        let [high, low] = mtu.to_be_bytes();
        let source = (family.host(1 + (n % 50) as u16), family.server());
        lab.send_icmp(source, [kind, code, 0, 0, 0, 0, high, low], &quote);
        lab.pace(n);
    }
    lab.settle();
    let after = lab.counts();
    let rose = |name| after.of(name) - before.of(name);
    assert!(rose("icmp-not-in-flight") >= never_sent, "{:?}", after.beyond(&before));
    // Of a header some bits say nothing that matters.
    let believed = rose("soft-errors") + rose("path-mtu-reduced");
    assert!(believed <= spoilt_headers, "{:?}", after.beyond(&before));
    assert_eq!(lab.collect(&mut client, 100), [b'x'; 100]);
    lab.settle();
    lab.heard(&client);
    lab.send(&client, &client.data(&[b'y'; 1400]));
    client.nxt = moved(client.nxt, 1400);
    let first = lab.next(&client);
    let floor = if family == Family::V4 { 512 } else { 1220 };
    assert!(first.text.len() >= floor, "{} bytes", first.text.len());
    lab.abort(&client);
    lab.assert_serves(family);
}

/// A solicitation and an advertisement, each with an option of every kind that is known and every
/// length it may claim, in all the room there may be.
fn row_a7_options_of_discovery_at_every_length_do_no_harm(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    let (IpAddr::V6(host), IpAddr::V6(own)) = (family.host(77), family.server()) else { panic!() };
    let mut sent = 0;
    for (message, flags) in [(135, 0), (136, 0x20), (136, 0x60)] {
        for kind in [0, 1, 2, 3, 5, 14, 255] {
            for len in [0, 1, 2, 3, 31, 255] {
                for room in [1_usize, 2, 7, 8, 9, 15, 16, 24, 64] {
                    let target = if message == 135 { own } else { host };
                    let mut body =
                        [&[message, 0, 0, 0, flags, 0, 0, 0][..], &target.octets()].concat();
                    let at = body.len();
                    body.resize(at + room, 2);
                    body[at] = kind;
                    if room > 1 {
                        body[at + 1] = len;
                    }
                    seal(host.into(), own.into(), 58, &mut body);
                    lab.send_packet(IPV6, &ipv6((host, own), 58, 255, &body));
                    sent += 1;
                    lab.pace(sent);
                }
            }
        }
    }
    lab.settle();
    // Wherever they have told the appliance that the host is, ours is where it was.
    lab.wire.forget();
    let before = lab.counts();
    let mut body =
        [&[135, 0, 0, 0, 0, 0, 0, 0][..], &own.octets(), &[1, 0, 2, 2, 2, 2, 2, 2]].concat();
    seal(host.into(), own.into(), 58, &mut body);
    lab.assert_silence(
        &frame(lab.dut, OUR_MAC, IPV6, &ipv6((host, own), 58, 255, &body)),
        "nd-option",
    );
    assert_eq!(lab.count("nd-option"), before.of("nd-option") + 1);
    lab.assert_alive(client);
    lab.assert_serves(family);
}

/// The bit that must be zero, a time to live that is over (RFC 1122 section 3.2.1.7), a type of
/// service of any kind, an identification that is always the same.
fn row_a14_odd_bits_of_an_ipv4_header_change_nothing(lab: &mut Lab, family: Family) {
    let changes: [fn(&mut [u8]); 7] = [
        |packet| packet[6] |= 0x80,
        |packet| packet[6] = 0,
        |packet| packet[8] = 0,
        |packet| packet[8] = 1,
        |packet| packet[1] = 0xff,
        |packet| packet[1] = 0x02,
        |packet| packet[4..6].fill(0xff),
    ];
    for change in changes {
        let mut client = lab.client(family);
        let mut frame = client.frame(lab.dut, &client.syn().with(&mss(1460)));
        let packet = packet_of(&mut frame);
        change(packet);
        seal_ipv4(packet);
        lab.wire.send(&frame);
        let answer = lab.next(&client);
        lab.complete(&mut client, &answer);
        lab.assert_alive(client);
    }
}

/// What is inside another packet is nobody's (Ripple20), and a protocol that is not spoken here gets
/// no answer that somebody could be made to receive.
fn row_a15_tunnels_and_strange_protocols_are_met_by_silence(lab: &mut Lab, family: Family) {
    let client = lab.client(family);
    let mut body = client.syn().bytes();
    seal(client.ip, client.server, 6, &mut body);
    let inner = packet(client.ip, client.server, 6, &body);
    // IPv4 and IPv6 in IP, GRE, IP compression, ESP, AH, UDP, SCTP, IGMP, and what is not assigned.
    for protocol in [4, 41, 47, 108, 50, 51, 17, 132, 2, 0xfd] {
        let outer = packet(client.ip, client.server, protocol, &inner);
        let kind = if family == Family::V4 { IPV4 } else { IPV6 };
        let outer = frame(lab.dut, OUR_MAC, kind, &outer);
        lab.assert_silence(&outer, "ip-protocol");
    }
    // In pieces, too.
    if let (IpAddr::V4(src), IpAddr::V4(dst)) = (client.ip, client.server) {
        for (field, bytes) in [(0x2000, &inner[..24]), (3, &inner[24..])] {
            let piece = ipv4_with((src, dst), 4, (7, field), &[], bytes);
            lab.assert_silence(&frame(lab.dut, OUR_MAC, IPV4, &piece), "ip-fragment");
        }
    }
    lab.assert_serves(family);
}

/// An echo to or from a group, in frames to one station or to all: nobody's neighbours are told what
/// he did not ask (smurf), and no answer goes to a group.
fn row_a16_nobody_is_made_to_answer_a_group_of_hosts(lab: &mut Lab, family: Family) {
    let own = family.server();
    let victim = family.host(9);
    let (groups, kind): (&[&str], u8) = match family {
        Family::V4 => (&["10.77.255.255", "255.255.255.255", "224.0.0.1"], 8),
        // Of the last two it is a member.
        Family::V6 => (&["ff02::2", "ff05::1", "ff0e::1", "ff02::1", "ff02::1:ff00:2"], 128),
    };
    for group in groups {
        let group: IpAddr = group.parse().expect("an address");
        for (src, dst) in [(victim, group), (group, own)] {
            for to in [lab.dut, [0xff; 6], [0x33, 0x33, 0, 0, 0, 1]] {
                let mut body = vec![kind, 0, 0, 0, 0, 1, 0, 1];
                let protocol = if family == Family::V4 { 1 } else { 58 };
                seal(src, dst, protocol, &mut body);
                let ethertype = if family == Family::V4 { IPV4 } else { IPV6 };
                lab.wire.send(&frame(to, OUR_MAC, ethertype, &packet(src, dst, protocol, &body)));
            }
        }
    }
    lab.settle();
    let answers = lab.wire.take(|seen| match &seen.what {
        What::Icmp { dst, kind: 0 | 129, .. } => Some(*dst),
        _ => None,
    });
    assert!(answers.is_empty(), "{answers:?} were answered");
    lab.assert_serves(family);
}

//! Rows 94 to 100, N22 and N23: what ICMP may say, and by whom it is not believed.

use std::net::IpAddr;

use crate::lab::packets::{ETHERNET, What, ipv4_with, moved};
use crate::lab::{Client, Family, Lab, PATIENCE};
use crate::rows::{Row, rows};

pub(crate) const ROWS: &[Row] = rows![
    Usual V4:
        row_94_source_quench_is_ignored,
        row_100_redirects_are_ignored,
        row_n22_path_mtus_are_floored_and_never_raised;
    Usual BOTH:
        row_95_an_unreachable_net_or_host_is_a_soft_error,
        row_96_an_unreachable_port_out_of_the_window_is_ignored,
        row_97_an_unreachable_port_in_the_window_is_a_soft_error,
        row_98_a_tiny_path_mtu_is_floored,
        row_99_an_error_that_quotes_too_little_is_ignored;
    Usual V6:
        row_100_ipv6_redirects_and_routers_are_ignored,
        row_n23_a_packet_too_big_below_1280_is_ignored;
];

/// A client to whom text is under way, and the packet that carries it.
fn in_flight(lab: &mut Lab, family: Family, len: usize) -> (Client, Vec<u8>) {
    let mut client = lab.open(family);
    lab.send(&client, &client.data(&vec![b'x'; len]));
    client.nxt = moved(client.nxt, len as i64);
    let of_client = client.clone();
    let packet = lab.wire.wait_for(PATIENCE, |seen| match &seen.what {
        What::Tcp { dst, tcp, .. } if *dst == of_client.ip && tcp.to == of_client.port => {
            (!tcp.text.is_empty()).then(|| seen.bytes[ETHERNET..].to_vec())
        }
        _ => None,
    });
    (client, packet.expect("an answer"))
}

/// What a router quotes of a packet: its header and so many bytes.
fn quote(family: Family, packet: &[u8], bytes: usize) -> &[u8] {
    let header = if family == Family::V4 { 20 } else { 40 };
    &packet[..header + bytes]
}

/// A router far away, for those who cannot know better.
fn router(family: Family) -> (IpAddr, IpAddr) {
    (family.host(1), family.server())
}

/// The text that is under way comes, and the connection is alive.
fn assert_alive(lab: &mut Lab, mut client: Client, len: usize) {
    let text = lab.collect(&mut client, len);
    assert!(text.iter().all(|byte| *byte == b'x'));
    lab.assert_alive(client);
}

/// Sends a message and says by how much a counter rose.
fn counted(lab: &mut Lab, family: Family, head: [u8; 8], quote: &[u8], counter: &str) -> u64 {
    let before = lab.count(counter);
    lab.send_icmp(router(family), head, quote);
    lab.settle();
    lab.count(counter) - before
}

fn row_94_source_quench_is_ignored(lab: &mut Lab, family: Family) {
    let (client, packet) = in_flight(lab, family, 100);
    let quote = quote(family, &packet, 8).to_vec();
    assert_eq!(counted(lab, family, [4, 0, 0, 0, 0, 0, 0, 0], &quote, "icmp-quench"), 1);
    assert_alive(lab, client, 100);
}

/// Type and codes of unreachability: of net or host, and of protocol or port.
fn unreachable(family: Family) -> (u8, &'static [u8], &'static [u8]) {
    match family {
        Family::V4 => (3, &[0, 1, 5, 11, 12], &[2, 3]),
        Family::V6 => (1, &[0, 2, 3], &[1, 4]),
    }
}

fn row_95_an_unreachable_net_or_host_is_a_soft_error(lab: &mut Lab, family: Family) {
    let (kind, codes, _) = unreachable(family);
    for code in codes {
        let (client, packet) = in_flight(lab, family, 100);
        let quote = quote(family, &packet, 8).to_vec();
        let head = [kind, *code, 0, 0, 0, 0, 0, 0];
        assert_eq!(counted(lab, family, head, &quote, "soft-errors"), 1, "code {code}");
        assert_alive(lab, client, 100);
    }
}

fn row_96_an_unreachable_port_out_of_the_window_is_ignored(lab: &mut Lab, family: Family) {
    let (kind, _, codes) = unreachable(family);
    let (client, packet) = in_flight(lab, family, 100);
    let at = if family == Family::V4 { 20 } else { 40 };
    for code in codes {
        for by in [-1, 100_000, 1 << 30] {
            let mut quote = quote(family, &packet, 8).to_vec();
            let seq = moved(crate::lab::packets::be32(&quote, at + 4), by);
            quote[at + 4..at + 8].copy_from_slice(&seq.to_be_bytes());
            let head = [kind, *code, 0, 0, 0, 0, 0, 0];
            assert_eq!(counted(lab, family, head, &quote, "icmp-not-in-flight"), 1, "{code} {by}");
        }
    }
    assert_alive(lab, client, 100);
}

fn row_97_an_unreachable_port_in_the_window_is_a_soft_error(lab: &mut Lab, family: Family) {
    let (kind, _, codes) = unreachable(family);
    for code in codes {
        let (client, packet) = in_flight(lab, family, 100);
        let quote = quote(family, &packet, 8).to_vec();
        let head = [kind, *code, 0, 0, 0, 0, 0, 0];
        assert_eq!(counted(lab, family, head, &quote, "soft-errors"), 1, "code {code}");
        assert_alive(lab, client, 100);
    }
}

/// The head of a message that tells an MTU.
fn too_big(family: Family, mtu: u32) -> [u8; 8] {
    let [a, b, c, d] = mtu.to_be_bytes();
    match family {
        Family::V4 => [3, 4, 0, 0, 0, 0, c, d],
        Family::V6 => [2, 0, 0, 0, a, b, c, d],
    }
}

/// Bytes of text in the segments that come when these are sent for.
fn largest(lab: &mut Lab, client: &mut Client, len: usize) -> usize {
    let mut largest = 0;
    let mut left = len;
    while left > 0 {
        let tcp = lab.next(client);
        if tcp.seq != client.rcv || tcp.text.is_empty() {
            continue;
        }
        largest = largest.max(tcp.text.len());
        left -= tcp.text.len();
        client.rcv = moved(client.rcv, tcp.text.len() as i64);
        lab.send(client, &client.segment(crate::lab::packets::ACK));
    }
    largest
}

fn row_98_a_tiny_path_mtu_is_floored(lab: &mut Lab, family: Family) {
    let (mut client, packet) = in_flight(lab, family, 1400);
    let quote = quote(family, &packet, 8).to_vec();
    // Of IPv6 only what no link may have: 1280.
    let (mtu, floor) = if family == Family::V4 { (68, 512) } else { (1280, 1220) };
    let head = too_big(family, mtu);
    assert_eq!(counted(lab, family, head, &quote, "path-mtu-reduced"), 1);
    // The piece that went already may come whole; what is sent for now is of the new size.
    lab.collect(&mut client, 1400);
    lab.settle();
    lab.heard(&client);
    lab.send(&client, &client.data(&[b'x'; 1400]));
    client.nxt = moved(client.nxt, 1400);
    assert_eq!(largest(lab, &mut client, 1400), floor);
    lab.assert_alive(client);
}

fn row_99_an_error_that_quotes_too_little_is_ignored(lab: &mut Lab, family: Family) {
    let (client, packet) = in_flight(lab, family, 100);
    let (kind, ..) = unreachable(family);
    let whole = quote(family, &packet, 8).to_vec();
    for len in [0, 1, 19, 20, 27, 39, 40, 47].into_iter().filter(|len| *len < whole.len()) {
        let soft = counted(lab, family, [kind, 1, 0, 0, 0, 0, 0, 0], &whole[..len], "soft-errors");
        assert_eq!(soft, 0, "{len} bytes");
    }
    // A header that lies about its own length.
    let mut lie = whole.clone();
    lie[0] |= 0x0f;
    counted(lab, family, [kind, 1, 0, 0, 0, 0, 0, 0], &lie, "soft-errors");
    assert_alive(lab, client, 100);
}

fn row_100_redirects_are_ignored(lab: &mut Lab, family: Family) {
    let (client, packet) = in_flight(lab, family, 100);
    let quote = quote(family, &packet, 8).to_vec();
    for code in 0..4 {
        let head = [5, code, 0, 0, 10, 77, 128, 1];
        assert_eq!(counted(lab, family, head, &quote, "icmp-redirect"), 1);
    }
    assert_alive(lab, client, 100);
}

fn row_100_ipv6_redirects_and_routers_are_ignored(lab: &mut Lab, family: Family) {
    let (client, packet) = in_flight(lab, family, 100);
    let redirect = [&[0x77; 32][..], quote(family, &packet, 8)].concat();
    for kind in [133, 134, 137] {
        let head = [kind, 0, 0, 0, 64, 0, 255, 255];
        assert_eq!(counted(lab, family, head, &redirect, "icmp-redirect"), 1, "type {kind}");
    }
    assert_alive(lab, client, 100);
}

fn row_n22_path_mtus_are_floored_and_never_raised(lab: &mut Lab, family: Family) {
    let (mut client, packet) = in_flight(lab, family, 1400);
    let quote = quote(family, &packet, 8).to_vec();
    // Larger than the link: nothing changes, however often.
    let reduced = lab.count("path-mtu-reduced");
    for mtu in [1501, 9000, 65_535] {
        lab.send_icmp(router(family), too_big(family, mtu), &quote);
    }
    lab.settle();
    assert_eq!(lab.count("path-mtu-reduced"), reduced);
    // A thousand of all sizes: a few are believed at most, and none below the floor.
    for n in 0..1000_u32 {
        lab.send_icmp(router(family), too_big(family, n * 7919 % 1500), &quote);
        lab.pace(n as usize);
    }
    lab.settle();
    let believed = lab.count("path-mtu-reduced") - reduced;
    assert!((1..=16).contains(&believed), "{believed} were believed");
    lab.collect(&mut client, 1400);
    lab.settle();
    lab.heard(&client);
    lab.send(&client, &client.data(&[b'x'; 1400]));
    client.nxt = moved(client.nxt, 1400);
    assert!(largest(lab, &mut client, 1400) >= 512);
    // An error about a packet that is none.
    let (IpAddr::V4(src), IpAddr::V4(dst)) = router(family) else { panic!() };
    let lie = ipv4_with((dst, src), 17, (0, 0), &[], &[0; 8]);
    assert_eq!(counted(lab, family, too_big(family, 600), &lie, "icmp-error-ignored"), 1);
    lab.assert_alive(client);
}

fn row_n23_a_packet_too_big_below_1280_is_ignored(lab: &mut Lab, family: Family) {
    let (mut client, packet) = in_flight(lab, family, 1400);
    let quote = quote(family, &packet, 8).to_vec();
    for mtu in [0, 68, 1279] {
        let head = too_big(family, mtu);
        assert_eq!(counted(lab, family, head, &quote, "icmp-error-ignored"), 1, "{mtu}");
    }
    lab.collect(&mut client, 1400);
    lab.settle();
    lab.heard(&client);
    lab.send(&client, &client.data(&[b'x'; 1400]));
    client.nxt = moved(client.nxt, 1400);
    assert_eq!(largest(lab, &mut client, 1400), 1400);
    lab.assert_alive(client);
}

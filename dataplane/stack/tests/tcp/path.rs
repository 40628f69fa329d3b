//! What ICMP may say, and what it may not; how large packets get.

use std::time::Duration;

use xtcp_stack::wire::tcp::SackBlock;
use xtcp_stack::{Config, Count, GroupConfig, SoftError, State, Stop, TcpConfig};

use super::{NOTHING, PORT, client, xtcp};
use crate::sim::peer::{Peer, ack, data, syn};
use crate::sim::{config, ordinary_group};

const PORT_UNREACHABLE: (u8, u8, u32) = (3, 3, 0);
const HOST_UNREACHABLE: (u8, u8, u32) = (3, 1, 0);

/// Fragmentation needed, and the MTU of the next hop.
fn too_big(mtu: u32) -> (u8, u8, u32) {
    (3, 4, mtu)
}

/// A client of an ordinary group that sends small segments at once.
fn ordinary(test: impl FnOnce(&mut Peer<'_>)) {
    let group = GroupConfig { nagle: false, ..ordinary_group(PORT) };
    client(&config(0, 2), 1 << 20, &group, test);
}

fn soft_error(peer: &Peer<'_>) -> Option<SoftError> {
    peer.host.stack.connections().next().expect("one").soft_error
}

fn mss(peer: &Peer<'_>) -> u16 {
    peer.host.stack.connections().next().expect("one").mss
}

fn stopped(peer: &Peer<'_>, stop: Stop) -> u64 {
    peer.host.stack.counters().stopped(stop)
}

fn counted(peer: &Peer<'_>, count: Count) -> u64 {
    peer.host.stack.counters().counted(count)
}

/// Sends 4,000 bytes and sees three segments on the way.
fn send_three(peer: &mut Peer<'_>) {
    peer.open();
    peer.send(&[b'x'; 4000]);
    assert_eq!(peer.turn(), ["A 1+1460 ack 1", "A 1461+1460 ack 1", "PA 2921+1080 ack 1"]);
}

/// Bad input 95 and 97: what is said of what is in flight is remembered and ends nothing.
#[test]
fn errors_about_what_is_in_flight_are_soft() {
    for (kind, code) in [(3, 0), (3, 1), (3, 2), (3, 3), (3, 5), (3, 13), (11, 0), (12, 0)] {
        ordinary(|peer| {
            send_three(peer);
            assert_eq!(peer.complain((kind, code, 0), 1461, 1500), NOTHING);
            assert_eq!(soft_error(peer), Some(SoftError { kind, code }));
            assert_eq!(counted(peer, Count::SoftErrors), 1);
            assert_eq!(peer.give(ack(1, 4001)), NOTHING);
            peer.give(data(1, 4001, b"alive"));
            assert_eq!(peer.events(), ["data 0+5 alive"]);
            assert_eq!(peer.host.stack.usage().transmit_used, 0);
        });
    }
}

/// Bad input 96, RFC 5927 section 4.1.
#[test]
fn errors_about_what_is_not_in_flight_are_not_believed() {
    ordinary(|peer| {
        send_three(peer);
        assert_eq!(peer.give(ack(1, 1461)), NOTHING);
        let wrong = [0, 1, 1460, 4001, 1 << 30, -(1 << 30)];
        for (n, seq) in (1..).zip(wrong) {
            peer.complain(PORT_UNREACHABLE, seq, 1500);
            peer.complain(too_big(1000), seq, 1500);
            assert_eq!(stopped(peer, Stop::IcmpNotInFlight), 2 * n, "{seq}");
        }
        assert_eq!((soft_error(peer), mss(peer)), (None, 1460));
        peer.complain(PORT_UNREACHABLE, 1461, 1500);
        assert!(soft_error(peer).is_some());
        peer.use_port(4001);
        peer.complain(PORT_UNREACHABLE, 1461, 1500);
        assert_eq!(stopped(peer, Stop::IcmpErrorIgnored), 1, "of no connection");
    });
}

/// Nothing of an idle connection, or of one that waits for its application, is in flight.
#[test]
fn who_has_sent_nothing_is_complained_of_in_vain() {
    xtcp(|peer| {
        assert_eq!(peer.give(syn()), NOTHING);
        peer.complain(PORT_UNREACHABLE, 0, 60);
        assert_eq!(peer.host.stack.usage().half_open, 1);
        assert_eq!(peer.events(), ["acceptable"]);
        peer.accept();
        peer.turn();
        peer.give(ack(1, 1));
        peer.complain(PORT_UNREACHABLE, 0, 60);
        peer.complain(PORT_UNREACHABLE, 1, 60);
        assert_eq!(stopped(peer, Stop::IcmpNotInFlight), 3);
        assert_eq!(peer.events(), ["opened"]);
    });
}

/// RFC 1122 section 4.2.3.9: a handshake is given up if the peer has no such port or no TCP, and
/// goes on if only the way is said to be bad.
#[test]
fn a_handshake_ends_if_its_peer_has_no_such_port() {
    ordinary(|peer| {
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        peer.complain(HOST_UNREACHABLE, 0, 60);
        peer.complain(PORT_UNREACHABLE, 1, 60);
        assert_eq!(peer.host.stack.usage().half_open, 1);
        peer.complain(PORT_UNREACHABLE, 0, 60);
        assert_eq!(stopped(peer, Stop::HandshakeUnreachable), 1);
        assert_eq!(peer.events(), NOTHING);
        peer.host.assert_nothing_held();
        peer.open();
    });
    ordinary(|peer| {
        peer.use_ipv6();
        for (at, error) in [(1, 4, 0), (4, 1, 0)].into_iter().enumerate() {
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
            peer.complain((1, 0, 0), 0, 80);
            assert_eq!(peer.host.stack.usage().half_open, 1);
            peer.complain(error, 0, 80);
            assert_eq!(stopped(peer, Stop::HandshakeUnreachable), 1 + at as u64);
            peer.host.assert_nothing_held();
        }
    });
}

/// A call of ours that is answered so has an end the application hears of.
#[test]
fn a_call_to_no_port_is_refused() {
    ordinary(|peer| {
        let (group, now) = (peer.host.group, peer.now);
        let remote = std::net::SocketAddr::new(peer.client, 4000);
        let connection = peer.host.stack.connect(group, remote, now).expect("room");
        let local = peer.host.stack.connection(connection).expect("it is there").local.port();
        peer.call(local);
        assert_eq!(peer.turn().len(), 1);
        let iss = peer.last_got().seq;
        peer.complain(PORT_UNREACHABLE, iss + 1, 60);
        assert_eq!(stopped(peer, Stop::IcmpNotInFlight), 1);
        peer.complain(PORT_UNREACHABLE, iss, 60);
        assert_eq!(peer.events(), ["closed Refused held 0"]);
        peer.host.assert_nothing_held();
    });
}

/// RFC 1191: what was too big goes again at once, smaller, and its acknowledgement is not waited
/// for; after a while full segments are tried again.
#[test]
fn a_narrow_path_is_believed_and_tried_again() {
    ordinary(|peer| {
        send_three(peer);
        let again = ["A 1+1360 ack 1", "A 1361+1360 ack 1", "PA 2721+1280 ack 1"];
        assert_eq!(peer.complain(too_big(1400), 1, 1500), again);
        assert_eq!(peer.complain(too_big(1400), 1361, 1500), NOTHING, "it is known");
        assert_eq!(stopped(peer, Stop::IcmpMtuIgnored), 1);
        assert_eq!((mss(peer), counted(peer, Count::PathMtuReduced)), (1360, 1));
        assert_eq!(peer.give(ack(1, 4001)), NOTHING);
        assert_eq!(peer.host.stack.usage().active, 0, "folded, it stays narrow");
        peer.send(&[b'y'; 1400]);
        assert_eq!(peer.turn().first().map(String::as_str), Some("A 4001+1360 ack 1"));
        peer.give(ack(1, 5361));
        peer.give(ack(1, 5401));
        peer.wait(Duration::from_secs(601));
        assert_eq!((mss(peer), counted(peer, Count::PathMtuRaised)), (1460, 1));
        peer.send(&[b'z'; 1460]);
        assert_eq!(peer.turn(), ["PA 5401+1460 ack 1"]);
    });
}

/// What has arrived beyond the hole is not sent again for being too big.
#[test]
fn a_narrow_path_is_found_while_losses_are_mended() {
    ordinary(|peer| {
        peer.open_with(syn().options(|options| options.sack_permitted = true));
        peer.send(&[b'x'; 4000]);
        assert_eq!(peer.turn().len(), 3);
        let iss = peer.iss();
        let known = SackBlock { left: iss.wrapping_add(1461), right: iss.wrapping_add(2921) };
        peer.give(ack(1, 1).options(|options| options.sack.push(known)));
        let mut again = peer.complain(too_big(1000), 1, 1500);
        assert_eq!(again.first().map(String::as_str), Some("A 1+960 ack 1"));
        again.extend(peer.give(ack(1, 961).options(|options| options.sack.push(known))));
        again.extend(peer.wait(Duration::from_secs(3)));
        assert!(again.iter().all(|line| !line.contains("+1460")), "{again:?}");
        peer.give(ack(1, 4001));
        assert_eq!(peer.host.stack.usage().transmit_used, 0);
        peer.give(data(1, 4001, b"alive"));
        assert_eq!(peer.events(), ["data 0+5 alive"]);
    });
}

/// Bad input 98 and N22: no news makes segments smaller than is configured, or larger.
#[test]
fn forged_path_mtus_have_a_floor_and_an_end() {
    ordinary(|peer| {
        send_three(peer);
        peer.complain(too_big(1500), 1, 1500);
        peer.complain(too_big(9000), 1, 1500);
        peer.complain(too_big(1200), 1, 1100);
        assert_eq!(mss(peer), 1460, "a packet that would have fitted proves nothing");
        peer.complain(too_big(68), 1, 1500);
        assert_eq!(mss(peer), 512);
        for mtu in 0..1000 {
            assert_eq!(peer.complain(too_big(mtu), 1, 1500), NOTHING);
        }
        assert_eq!(mss(peer), 512);
        peer.give(ack(1, 4001));
        peer.give(data(1, 4001, b"alive"));
        assert_eq!(peer.events(), ["data 0+5 alive"]);
    });
    ordinary(|peer| {
        send_three(peer);
        for mtu in 1..900 {
            peer.complain(too_big(1499 - mtu), 1, 1500);
        }
        assert_eq!(counted(peer, Count::PathMtuReduced), 8);
        assert!(mss(peer) > 1400, "{}", mss(peer));
    });
}

/// RFC 1191 section 5: routers of old do not say how much they take.
#[test]
fn without_an_mtu_the_next_common_one_is_tried() {
    ordinary(|peer| {
        send_three(peer);
        peer.complain(too_big(0), 1, 1500);
        assert_eq!(mss(peer), 1452);
        peer.complain(too_big(0), 1, 1492);
        assert_eq!(mss(peer), 966);
    });
}

/// N23, RFC 8201 section 4.
#[test]
fn an_ipv6_path_takes_at_least_1280_bytes() {
    ordinary(|peer| {
        peer.use_ipv6();
        peer.open();
        peer.send(&[b'x'; 4000]);
        assert_eq!(peer.turn().first().map(String::as_str), Some("A 1+1440 ack 1"));
        peer.complain((2, 0, 1279), 1, 1500);
        assert_eq!(mss(peer), 1440);
        assert_eq!(peer.complain((2, 0, 1280), 1, 1500).len(), 4);
        assert_eq!(mss(peer), 1220);
    });
}

/// RFC 4821: where nobody says what is too big, smaller segments are tried after two timeouts.
#[test]
fn a_black_hole_is_got_around() {
    ordinary(|peer| {
        peer.open();
        peer.send(&[b'x'; 3000]);
        peer.turn();
        let lines = peer.wait(Duration::from_secs(1));
        let sizes: Vec<&str> = lines.iter().filter_map(|line| line.split(": ").nth(1)).collect();
        assert_eq!(sizes, ["A 1+1460 ack 1", "A 1+1240 ack 1"]);
        assert_eq!(counted(peer, Count::BlackHolesSuspected), 1);
        peer.wait(Duration::from_secs(3));
        assert_eq!(mss(peer), 512);
        peer.wait(Duration::from_secs(30));
        assert_eq!(counted(peer, Count::BlackHolesSuspected), 2, "it has an end");
        assert!(!peer.give(ack(1, 513)).is_empty());
        assert_eq!(peer.host.stack.connections().next().map(|c| c.state), Some(State::Established));
    });
}

/// Small segments that are lost say nothing of a path's width.
#[test]
fn lost_small_segments_are_no_black_hole() {
    ordinary(|peer| {
        peer.open();
        peer.send(b"answer");
        peer.turn();
        peer.wait(Duration::from_secs(20));
        assert_eq!(mss(peer), 1460);
    });
}

/// What is remembered of narrow paths is bounded; of more the oldest stay narrow.
#[test]
fn a_client_that_comes_after_does_not_inherit_a_narrow_path() {
    let tcp = TcpConfig { path_mtu_age: Duration::from_secs(5), ..TcpConfig::default() };
    let group = GroupConfig { nagle: false, ..ordinary_group(PORT) };
    client(&Config { tcp, ..config(0, 2) }, 1 << 20, &group, |peer| {
        send_three(peer);
        peer.complain(too_big(1000), 1, 1500);
        assert_eq!(mss(peer), 960);
        peer.abort();
        peer.turn();
        peer.events();
        peer.host.assert_nothing_held();
        peer.use_port(4001);
        peer.open_with(syn().options(|options| options.mss = Some(700)));
        peer.wait(Duration::from_secs(10));
        assert_eq!((mss(peer), counted(peer, Count::PathMtuRaised)), (700, 0));
    });
}

/// A window that a timeout has made one small segment lets a full one go when the path widens, and the
/// client need not wait for the timer.
#[test]
fn a_path_that_widens_leaves_a_window_of_a_segment() {
    let tcp = TcpConfig { path_mtu_age: Duration::from_secs(5), ..TcpConfig::default() };
    let group = GroupConfig { nagle: false, ..ordinary_group(PORT) };
    client(&Config { tcp, ..config(0, 2) }, 1 << 20, &group, |peer| {
        send_three(peer);
        peer.complain(too_big(1000), 1, 1500);
        assert!(!peer.wait(Duration::from_secs(4)).is_empty(), "the timer fires");
        let cwnd = |peer: &Peer<'_>| peer.host.stack.connection(peer.cd()).expect("open").cwnd;
        assert_eq!(cwnd(peer), u32::from(mss(peer)), "one small segment");
        while mss(peer) < 1460 {
            peer.wait(Duration::from_millis(10));
        }
        assert!(cwnd(peer) >= 1460, "{}", cwnd(peer));
    });
}

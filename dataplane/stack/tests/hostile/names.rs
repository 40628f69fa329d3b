//! N40: connections are told apart by every part of their names.
//!
//! The flow table's hash covers the whole name, so that of two names which differ in one part hardly
//! any would be mistaken for each other even if that part were never compared. Here the table has two
//! buckets: one name in 512 has both the bucket and the tag of a given one, and of each kind so many
//! are tried that a dozen must.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xtcp_stack::{Address, Config};

use super::{NOTHING, dut_with};
use crate::sim::peer::{Peer, data, rst};
use crate::sim::{config, v4, v6};

/// The client's port where it is not another on purpose.
const CLIENT_PORT: u16 = 4000;
/// The stack's, likewise.
const SERVER_PORT: u16 = super::PORT;
/// Names that differ in one part.
const NAMES: u16 = 8192;
/// The stack's further addresses, of each family.
const FURTHER: u8 = 7;

/// Two buckets of the flow table, and seven addresses more of each family.
fn small_table() -> Config {
    let mut config = Config { connections_max: 8, ..config(0, 2) };
    for n in 0..FURTHER {
        let at = usize::from(2 + 2 * n);
        config.addresses[at] = Some(Address { ip: v4(100 + n), prefix_len: 24 });
        config.addresses[at + 1] = Some(Address { ip: v6(100 + n), prefix_len: 64 });
    }
    config
}

/// With a client over each family.
fn over_both(mut test: impl FnMut(&mut Peer<'_>)) {
    for is_v6 in [false, true] {
        dut_with(&small_table(), |peer| {
            if is_v6 {
                peer.use_ipv6();
            }
            test(peer);
        });
    }
}

/// A segment with the numbers of the connection from [`CLIENT_PORT`], but another name, is no
/// connection's: it is reset, or its sender's ration is used up.
fn assert_no_ones(peer: &mut Peer<'_>, iss: u32, name: &dyn std::fmt::Debug) {
    let known = peer.iss() == iss;
    let ack = if known { 1 } else { i64::from(iss) + 1 };
    let answer = peer.give(data(1, ack, b"another's"));
    assert!(answer.iter().all(|line| line.starts_with("R ")), "{name:?}: {answer:?}");
    assert_eq!(peer.events(), NOTHING, "{name:?} was taken for another");
}

/// The client's own segment is taken.
fn assert_own(peer: &mut Peer<'_>) {
    peer.use_port(CLIENT_PORT);
    peer.give(data(1, 1, b"my own"));
    assert_eq!(peer.events(), ["data 0+6 my own"]);
}

#[test]
fn connections_are_told_apart_by_the_clients_port() {
    over_both(|peer| {
        peer.open();
        let iss = peer.iss();
        for port in CLIENT_PORT + 1..=CLIENT_PORT + NAMES {
            peer.use_port(port);
            assert_no_ones(peer, iss, &port);
        }
        assert_own(peer);
    });
}

#[test]
fn connections_are_told_apart_by_our_port() {
    over_both(|peer| {
        peer.open();
        let iss = peer.iss();
        for port in SERVER_PORT + 1..=SERVER_PORT + NAMES {
            peer.call(port);
            assert_no_ones(peer, iss, &port);
        }
        peer.call(SERVER_PORT);
        assert_own(peer);
    });
}

/// Another host, near and far: of an IPv6 address each half counts.
fn another(client: IpAddr, n: u16) -> IpAddr {
    match client {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 | u32::from(n))),
        IpAddr::V6(ip) => {
            let shift = if n % 2 == 0 { 16 } else { 64 };
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() ^ u128::from(n) << shift))
        }
    }
}

#[test]
fn connections_are_told_apart_by_the_clients_address() {
    over_both(|peer| {
        peer.open();
        let (own, iss) = (peer.client, peer.iss());
        for n in 1..=NAMES {
            peer.client = another(own, n);
            assert_no_ones(peer, iss, &peer.client.clone());
        }
        peer.client = own;
        assert_own(peer);
    });
}

#[test]
fn connections_are_told_apart_by_our_address() {
    over_both(|peer| {
        let own = peer.server;
        // There are few of ours, so the connection is another each time.
        for port in CLIENT_PORT..CLIENT_PORT + 1000 {
            peer.use_port(port);
            peer.open();
            let iss = peer.iss();
            for n in 0..FURTHER {
                peer.server = if own.is_ipv4() { v4(100 + n) } else { v6(100 + n) };
                assert_no_ones(peer, iss, &(port, peer.server));
            }
            peer.server = own;
            peer.give(rst(1));
            assert_eq!(peer.events(), ["closed Reset held 0"]);
        }
    });
}

/// The same four numbers in the other family: an IPv4 address is no IPv6 address, nor the place in
/// which one is kept.
#[test]
fn connections_are_told_apart_by_their_family() {
    dut_with(&small_table(), |peer| {
        let (client, server) = (peer.client, peer.server);
        peer.use_ipv6();
        let (client_v6, server_v6) = (peer.client, peer.server);
        for port in CLIENT_PORT..CLIENT_PORT + NAMES {
            peer.use_port(port);
            (peer.client, peer.server) = (client_v6, server_v6);
            peer.open();
            let iss = peer.iss();
            // Its address lies in the first place of its table, or the second.
            for bits in [1, 2] {
                (peer.client, peer.server) = (IpAddr::V4(Ipv4Addr::from_bits(bits << 24)), server);
                assert_no_ones(peer, iss, &port);
                (peer.client, peer.server) = (IpAddr::V4(Ipv4Addr::from_bits(bits)), server);
                assert_no_ones(peer, iss, &port);
            }
            (peer.client, peer.server) = (client, server);
            assert_no_ones(peer, iss, &port);
            (peer.client, peer.server) = (client_v6, server_v6);
            peer.give(rst(1));
            assert_eq!(peer.events(), ["closed Reset held 0"]);
        }
    });
}

/// Many stand in the table at once, some of them with one bucket and one tag: each is found.
#[test]
fn connections_with_one_bucket_and_one_tag_are_all_found() {
    const CLIENTS: u16 = 600;
    let active_max = 2 * u32::from(CLIENTS);
    let config = Config { connections_max: CLIENTS.into(), active_max, ..config(0, 2) };
    dut_with(&config, |peer| {
        for port in 2000..2000 + CLIENTS {
            peer.use_port(port);
            peer.open();
        }
        for port in 2000..2000 + CLIENTS {
            peer.use_port(port);
            peer.give(data(1, 1, port.to_string().as_bytes()));
            assert_eq!(peer.events(), [format!("data 0+4 {port}")]);
            peer.commit(4);
            peer.turn();
        }
        for port in 2000..2000 + CLIENTS {
            peer.use_port(port);
            peer.give(rst(5));
            assert_eq!(peer.events(), ["closed Reset held 0"]);
        }
        peer.host.assert_nothing_held();
    });
}

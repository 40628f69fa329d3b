//! Several groups on one port: who gets a client.

use std::net::IpAddr;

use xtcp_stack::{Address, Config, Event, Family, Gd, GroupConfig};

use super::{NOTHING, PORT, info, room_for, with};
use crate::sim::peer::{Peer, ack, rst, syn};
use crate::sim::rng::Rng;
use crate::sim::{QUEUE, config, for_each_seed, ordinary_group, xtcp_group};

const SECOND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

/// A stack with a second IPv4 address, in place 2.
fn two_addresses() -> Config {
    let mut config = config(0, 2);
    config.addresses[2] = Some(Address { ip: SECOND, prefix_len: 24 });
    config
}

fn open(peer: &mut Peer<'_>, group: &GroupConfig) -> Gd {
    peer.host.stack.open_group(peer.host.pool, QUEUE, group).expect("room")
}

fn connections(peer: &Peer<'_>, groups: &[Gd]) -> Vec<u32> {
    groups.iter().map(|group| info(peer, *group).connections).collect()
}

/// MUST-43: a group may name the addresses it listens on, and goes before those that do not.
#[test]
fn a_group_that_names_the_address_goes_before_one_that_takes_any() {
    with(&two_addresses(), &ordinary_group(PORT), |peer| {
        let any = peer.host.group;
        let named = open(peer, &GroupConfig { addresses: 1 << 2, ..ordinary_group(PORT) });
        for n in 0..20 {
            peer.use_port(4000 + n);
            peer.server = SECOND;
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
            peer.server = IpAddr::from([10, 0, 0, 2]);
            peer.use_port(4100 + n);
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        }
        assert_eq!(connections(peer, &[any, named]), [20, 20]);
        let now = peer.now;
        peer.host.stack.close_group(named, now).expect("open");
        peer.server = SECOND;
        peer.use_port(4300);
        assert_eq!(peer.turn().len(), 20, "each is reset");
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"], "now the other one takes it");
    });
}

#[test]
fn a_group_that_names_other_addresses_takes_nobody() {
    let group = GroupConfig { addresses: 1 << 2, ..ordinary_group(PORT) };
    with(&two_addresses(), &group, |peer| {
        assert_eq!(peer.give(syn()), ["RA 0+0 ack 1"], "as from a closed port");
        peer.server = SECOND;
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        peer.use_ipv6();
        peer.use_port(4001);
        assert_eq!(peer.give(syn()), ["RA 0+0 ack 1"], "nor of the other family");
    });
}

#[test]
fn families_share_a_port() {
    let of_ipv4 = GroupConfig { family: Family::V4, ..ordinary_group(PORT) };
    with(&config(0, 2), &of_ipv4, |peer| {
        let of_ipv6 = open(peer, &GroupConfig { family: Family::V6, ..ordinary_group(PORT) });
        let groups = [peer.host.group, of_ipv6];
        for n in 0..10 {
            peer.use_port(4000 + n);
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        }
        assert_eq!(connections(peer, &groups), [10, 0]);
        peer.use_ipv6();
        for n in 0..10 {
            peer.use_port(4100 + n);
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        }
        assert_eq!(connections(peer, &groups), [10, 10]);
    });
}

/// Any weights: each group gets its share of the clients, as far as chance lets it.
#[test]
fn clients_are_shared_by_weight() {
    const CLIENTS: u16 = 3000;
    for_each_seed(12, |seed| {
        let mut rng = Rng::new(seed);
        let count = 2 + rng.below(4);
        let weights: Vec<u8> =
            (0..count).map(|_| u8::try_from(1 + rng.below(255)).expect("a byte")).collect();
        let of = |weight: u8| GroupConfig { weight, ..ordinary_group(PORT) };
        let secret = [u8::try_from(seed % 256).expect("a byte"); 32];
        let config = Config { secret, ..room_for(CLIENTS.into()) };
        with(&config, &of(weights[0]), |peer| {
            let mut groups = vec![peer.host.group];
            groups.extend(weights[1..].iter().map(|weight| open(peer, &of(*weight))));
            for port in 1000..1000 + CLIENTS {
                peer.use_port(port);
                assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
            }
            let got = connections(peer, &groups);
            assert_eq!(got.iter().sum::<u32>(), u32::from(CLIENTS));
            let all: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
            for (weight, got) in weights.iter().zip(&got) {
                let share = f64::from(*weight) / f64::from(all);
                let expected = share * f64::from(CLIENTS);
                let deviation = (expected * (1.0 - share)).sqrt();
                let off = (f64::from(*got) - expected).abs();
                assert!(off <= 5.0 * deviation + 1.0, "{weights:?} give {:?}", &got);
            }
        });
    });
}

/// A SYN that comes again meets the same choice, without anybody remembering the first.
#[test]
fn a_repeated_syn_comes_to_the_same_group() {
    with(&config(0, 2), &xtcp_group(PORT), |peer| {
        open(peer, &xtcp_group(PORT));
        open(peer, &GroupConfig { weight: 3, ..xtcp_group(PORT) });
        let mut seen = std::collections::HashSet::new();
        for n in 0..50 {
            peer.use_port(4000 + n);
            let mut first = None;
            for _ in 0..4 {
                assert_eq!(peer.give(syn()), NOTHING);
                let Some(Event::Acceptable { group, connection }) =
                    peer.host.stack.poll_event(QUEUE)
                else {
                    panic!("nobody is told")
                };
                assert_eq!(*first.get_or_insert(group), group);
                let now = peer.now;
                peer.host.stack.refuse(group, connection, now).expect("it waits");
                assert!(peer.turn()[0].starts_with("RA "));
                while peer.host.stack.poll_event(QUEUE).is_some() {}
            }
            seen.extend(first);
        }
        assert_eq!(seen.len(), 3, "and still all get some");
    });
}

/// Which of two groups a client comes to hangs on the secret: nobody can aim at one.
#[test]
fn the_choice_hangs_on_the_secret() {
    let choices = |secret: u8| {
        let mut choices = Vec::new();
        with(&Config { secret: [secret; 32], ..config(0, 2) }, &ordinary_group(PORT), |peer| {
            let other = open(peer, &ordinary_group(PORT));
            for n in 0..64 {
                peer.use_port(4000 + n);
                let before = info(peer, other).connections;
                peer.give(syn());
                choices.push(info(peer, other).connections > before);
            }
        });
        choices
    };
    assert_eq!(choices(1), choices(1));
    assert_ne!(choices(1), choices(2));
}

/// With the last group of a port its clients are told so, and the others' are not touched.
#[test]
fn a_closed_group_leaves_its_port_to_the_others() {
    with(&config(0, 2), &ordinary_group(PORT), |peer| {
        let other = open(peer, &ordinary_group(PORT));
        let third = open(peer, &GroupConfig { weight: 9, ..ordinary_group(PORT) });
        let (first, now) = (peer.host.group, peer.now);
        peer.host.stack.close_group(third, now).expect("open");
        peer.host.stack.close_group(first, now).expect("open");
        for n in 0..20 {
            peer.use_port(4000 + n);
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
            peer.give(ack(1, 1));
        }
        assert_eq!(info(peer, other).connections, 20);
        peer.give(rst(1));
        peer.host.stack.close_group(other, now).expect("open");
        peer.use_port(4100);
        peer.turn();
        assert_eq!(peer.give(syn()), ["RA 0+0 ack 1"], "as from a closed port");
    });
}

//! Rows 101 to 104 and N32 to N35: the link, its neighbours, and tags.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::lab::packets::{ARP, IPV4, IPV6, Mac, What, arp, frame, ipv6, seal};
use crate::lab::{Family, Lab, PATIENCE};
use crate::rows::{Row, rows};
use crate::wire::{OUR_MAC, advertisement};

pub(crate) const ROWS: &[Row] = rows![
    Usual V4:
        row_101_malformed_arp_does_no_harm,
        row_102_a_poisoned_neighbour_recovers,
        row_103_a_flood_of_neighbours_keeps_nobody_out,
        row_n34_a_claim_on_our_address_is_contradicted_now_and_then;
    Usual BOTH:
        row_104_frames_of_no_kind_are_met_by_silence,
        row_n33_a_sweep_of_neighbours_displaces_nobody,
        row_n35_a_tagged_frame_is_for_nobody_without_a_vlan;
    Usual V6:
        row_102_an_overridden_neighbour_recovers,
        row_n32_discovery_from_afar_or_malformed_is_ignored;
    Tagged BOTH:
        row_n35_a_member_of_a_vlan_hears_its_own_frames_only;
    Cautious V6:
        row_n32_an_address_somebody_else_has_is_not_used;
];

const THIEF: Mac = [2, 0x66, 0, 0, 0, 6];
const ALL: Mac = [0xff; 6];

fn own_v4() -> Ipv4Addr {
    v4(Family::V4.server())
}

fn v4(ip: IpAddr) -> Ipv4Addr {
    let IpAddr::V4(ip) = ip else { panic!("{ip}") };
    ip
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    let IpAddr::V6(ip) = ip else { panic!("{ip}") };
    ip
}

fn row_101_malformed_arp_does_no_harm(lab: &mut Lab, family: Family) {
    let good = arp(1, (OUR_MAC, v4(family.host(9))), ([0; 6], own_v4()));
    let spoilt = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        frame(lab.dut, OUR_MAC, ARP, &packet)
    };
    let cases = [
        (spoilt(4, 0), "arp-kind"),
        (spoilt(4, 255), "arp-kind"),
        (spoilt(5, 255), "arp-kind"),
        (spoilt(0, 9), "arp-kind"),
        (spoilt(7, 0), "arp-operation"),
        (spoilt(6, 0xff), "arp-operation"),
        (frame(lab.dut, OUR_MAC, ARP, &good[..27]), "arp-truncated"),
        (frame(lab.dut, OUR_MAC, ARP, &[]), "arp-truncated"),
    ];
    for (frame, counter) in cases {
        lab.assert_silence(&frame, counter);
    }
    lab.assert_serves(family);
}

fn row_102_a_poisoned_neighbour_recovers(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    let claim = arp(2, (THIEF, v4(client.ip)), (lab.dut, own_v4()));
    lab.wire.send(&frame(lab.dut, THIEF, ARP, &claim));
    let claim = arp(1, (THIEF, v4(client.ip)), ([0; 6], v4(client.ip)));
    lab.wire.send(&frame(ALL, THIEF, ARP, &claim));
    lab.settle();
    // What is sent to the thief is lost, if anything is; but asked again, the true one answers.
    lab.echo(&mut client, b"whose is it?");
    lab.assert_alive(client);
}

fn row_102_an_overridden_neighbour_recovers(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    let (host, own) = (v6(client.ip), v6(family.server()));
    for flags in [0x20, 0x60, 0xe0] {
        let body = advertisement((host, own), host, flags, THIEF);
        lab.wire.send(&frame(lab.dut, THIEF, IPV6, &ipv6((host, own), 58, 255, &body)));
    }
    lab.settle();
    lab.echo(&mut client, b"whose is it?");
    lab.assert_alive(client);
}

fn row_103_a_flood_of_neighbours_keeps_nobody_out(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    for n in 0..3000_u16 {
        let [high, low] = n.to_be_bytes();
        let host = Ipv4Addr::new(10, 77, 128 | high, low);
        let mac = [2, 0x55, 0, 0, high, low];
        let kind = 1 + n % 2;
        let packet = arp(kind, (mac, host), (if kind == 1 { [0; 6] } else { lab.dut }, own_v4()));
        lab.wire.send(&frame(if kind == 1 { ALL } else { lab.dut }, mac, ARP, &packet));
        lab.pace(n.into());
    }
    lab.settle();
    lab.wire.forget();
    lab.assert_serves(family);
    lab.assert_alive(client);
}

fn row_104_frames_of_no_kind_are_met_by_silence(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    let of = |ethertype, len| frame(lab.dut, OUR_MAC, ethertype, &vec![0x45; len]);
    let mut cases = vec![
        (of(0x88cc, 100), "frame-ethertype"),
        (of(0xffff, 46), "frame-ethertype"),
        (of(0x0026, 46), "frame-length-field"),
        (of(0x05dc, 1500), "frame-length-field"),
    ];
    let (ethertype, counter) = match family {
        Family::V4 => (IPV4, "ipv4-truncated"),
        Family::V6 => (IPV6, "ipv6-truncated"),
    };
    cases.push((of(ethertype, 1), counter));
    cases.push((of(ethertype, 19), counter));
    for (frame, counter) in cases {
        lab.assert_silence(&frame, counter);
    }
    lab.assert_alive(client);
}

fn row_n32_discovery_from_afar_or_malformed_is_ignored(lab: &mut Lab, family: Family) {
    let (host, own) = (v6(family.host(9)), v6(family.server()));
    let solicitation = |option: &[u8]| {
        let mut body = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &own.octets(), option].concat();
        seal(host.into(), own.into(), 58, &mut body);
        body
    };
    let ours = [&[1, 1][..], &OUR_MAC].concat();
    let send = |lab: &Lab, hops: u8, body: &[u8]| {
        frame(lab.dut, OUR_MAC, IPV6, &ipv6((host, own), 58, hops, body))
    };
    for hops in [0, 64, 254] {
        let frame = send(lab, hops, &solicitation(&ours));
        lab.assert_silence(&frame, "nd-invalid");
    }
    let frame = send(lab, 255, &solicitation(&[1, 0, 0, 0, 0, 0, 0, 0]));
    lab.assert_silence(&frame, "nd-option");
    let frame = send(lab, 255, &solicitation(&[1, 9, 0, 0, 0, 0, 0, 0]));
    lab.assert_silence(&frame, "nd-option");
    let body = solicitation(&ours);
    let frame = send(lab, 255, &body[..20]);
    lab.wire.send(&frame);
    // A flood of router advertisements changes no way.
    let before = lab.count("icmp-redirect");
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 66);
    let nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut body = vec![134, 0, 0, 0, 64, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0];
    seal(router.into(), nodes.into(), 58, &mut body);
    let flood = frame_to([0x33, 0x33, 0, 0, 0, 1], &ipv6((router, nodes), 58, 255, &body));
    for n in 0..500 {
        lab.wire.send(&flood);
        lab.pace(n);
    }
    lab.settle();
    assert_eq!(lab.count("icmp-redirect") - before, 500);
    // A good one is answered.
    lab.wire.send(&send(lab, 255, &solicitation(&ours)));
    let answer = lab.wire.wait_for(PATIENCE, |seen| match &seen.what {
        What::Icmp { kind: 136, dst, .. } => Some(*dst),
        _ => None,
    });
    assert_eq!(answer, Some(host.into()));
    lab.assert_serves(family);
}

fn frame_to(to: Mac, packet: &[u8]) -> Vec<u8> {
    frame(to, OUR_MAC, IPV6, packet)
}

fn row_n32_an_address_somebody_else_has_is_not_used(lab: &mut Lab, family: Family) {
    // It asks three times at the start, and is told that the address is taken.
    let own = v6(family.server());
    let tell = |lab: &mut Lab| {
        let asked = lab.wire.wait_for(PATIENCE, |seen| match &seen.what {
            What::Icmp { src, kind: 135, rest, .. } if src.is_unspecified() => {
                (rest[4..20] == own.octets()).then_some(())
            }
            _ => None,
        });
        assert!(asked.is_some(), "it asks for nobody");
        let nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let body = advertisement((own, nodes), own, 0x20, THIEF);
        let packet = ipv6((own, nodes), 58, 255, &body);
        lab.wire.send(&frame([0x33, 0x33, 0, 0, 0, 1], THIEF, IPV6, &packet));
    };
    tell(lab);
    lab.await_addresses();
    assert_eq!(lab.count("addresses-given-up"), 1);
    let client = lab.client(family);
    let answers = lab.exchange(&client, &client.syn());
    assert!(answers.is_empty(), "{answers:?}");
    lab.assert_serves(Family::V4);
}

/// A host on the link asks where the appliance is.
fn ask_for_us(lab: &Lab, host: IpAddr) {
    match host {
        IpAddr::V4(host) => {
            let question = arp(1, (OUR_MAC, host), ([0; 6], own_v4()));
            lab.wire.send(&frame(ALL, OUR_MAC, ARP, &question));
        }
        IpAddr::V6(host) => {
            let own = v6(Family::V6.server());
            let mut question = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &own.octets(), &[1, 1]].concat();
            question.extend(OUR_MAC);
            seal(host.into(), own.into(), 58, &mut question);
            lab.send_packet(IPV6, &ipv6((host, own), 58, 255, &question));
        }
    }
}

fn row_n33_a_sweep_of_neighbours_displaces_nobody(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    lab.echo(&mut client, b"before");
    let before = lab.counts();
    lab.wire.sought = Some((client.ip, 0));
    // Clients nobody knows, each of whom has to be looked for but those that ask for us first. Of IPv4
    // they are all that the link can have, and half of them are there; of IPv6 none is.
    for n in 1..65_000_u32 {
        let ip = match family {
            Family::V4 => Ipv4Addr::from(0x0a4d_0000 + n).into(),
            Family::V6 => Ipv6Addr::from(0xfd77 << 112 | 0xdead_u128 << 48 | u128::from(n)).into(),
        };
        if ip == client.ip || ip == family.server() {
            continue;
        }
        let stranger = crate::lab::Client { ip, ..client.clone() };
        if n % 2 == 0 {
            ask_for_us(lab, ip);
        }
        lab.send(&stranger, &stranger.syn());
        lab.pace(n as usize);
        if n % 1000 == 0 {
            lab.wire.forget();
            lab.echo(&mut client, b"meanwhile");
        }
    }
    lab.settle();
    lab.wire.forget();
    // Those that are known are 1,024 at most, and the client who is there is one of them still:
    // nobody is asked for it.
    let after = lab.counts();
    let made = after.of("neighbours-learned") - before.of("neighbours-learned");
    let gone = after.of("neighbours-evicted") - before.of("neighbours-evicted");
    assert!(made <= gone + 1024, "{made} neighbours were learned, and {gone} let go of");
    lab.echo(&mut client, b"after");
    let sought = lab.wire.sought.take();
    assert_eq!(sought, Some((client.ip, 0)), "it was let go of");
    lab.assert_serves(family);
    lab.assert_alive(client);
    // Their handshakes are under way for a minute yet, and others would go by cookie.
    lab.restart();
}

fn row_n34_a_claim_on_our_address_is_contradicted_now_and_then(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    let before = lab.counts();
    let claim = arp(1, (THIEF, own_v4()), ([0; 6], own_v4()));
    for _ in 0..100 {
        lab.wire.send(&frame(ALL, THIEF, ARP, &claim));
    }
    lab.settle();
    let defences = lab.wire.take(|seen| match &seen.what {
        What::Arp { sender, target, .. } => {
            (sender.1 == own_v4() && *target == own_v4()).then_some(sender.0)
        }
        _ => None,
    });
    assert_eq!(defences, [lab.dut], "one announcement in ten seconds (RFC 5227)");
    let after = lab.counts();
    assert_eq!(after.of("addresses-defended") - before.of("addresses-defended"), 1);
    assert_eq!(after.of("address-conflict") - before.of("address-conflict"), 100);
    lab.assert_alive(client);
}

/// A frame with tags before its EtherType.
fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let tags: Vec<u8> = tags
        .iter()
        .flat_map(|(kind, tag)| [kind.to_be_bytes(), tag.to_be_bytes()])
        .flatten()
        .collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

fn row_n35_a_tagged_frame_is_for_nobody_without_a_vlan(lab: &mut Lab, family: Family) {
    let client = lab.client(family);
    let plain = client.frame(lab.dut, &client.syn());
    lab.assert_silence(&tagged(&plain, &[(0x8100, 5)]), "frame-vlan");
    lab.assert_silence(&tagged(&plain, &[(0x8100, 4094)]), "frame-vlan");
    // Two tags are never taken for one.
    let before = lab.count("segments-in");
    lab.wire.send(&tagged(&plain, &[(0x88a8, 7), (0x8100, 5)]));
    lab.wire.send(&tagged(&plain, &[(0x8100, 7), (0x8100, 5)]));
    assert!(lab.answers(&client).is_empty());
    assert_eq!(lab.count("segments-in"), before);
    // A priority is no membership.
    let mut client = lab.client(family);
    let plain = client.frame(lab.dut, &client.syn());
    lab.wire.send(&tagged(&plain, &[(0x8100, 0xe000)]));
    let answers = lab.answers(&client);
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    lab.complete(&mut client, answer);
    lab.assert_alive(client);
}

fn row_n35_a_member_of_a_vlan_hears_its_own_frames_only(lab: &mut Lab, family: Family) {
    // The probe is a member, too: it tags what it sends.
    let client = lab.open(family);
    let stranger = lab.client(family);
    let plain = stranger.frame(lab.dut, &stranger.syn());
    let member = lab.wire.vlan.take();
    let before = lab.counts();
    lab.wire.send(&plain);
    for id in [0, 6, 4094] {
        lab.wire.send(&tagged(&plain, &[(0x8100, id)]));
    }
    lab.wire.vlan = member;
    assert!(lab.answers(&stranger).is_empty());
    let after = lab.counts();
    assert_eq!(after.of("frame-vlan") - before.of("frame-vlan"), 4);
    lab.assert_serves(family);
    lab.assert_alive(client);
}

//! Rows 38 to 44: packets from where nobody is, and for somebody else.

use std::net::{IpAddr, Ipv4Addr};

use crate::lab::packets::{ACK, ETHERNET, IPV4, Mac, SYN, frame, ipv4_with, seal};
use crate::lab::{Client, Family, Lab, PORT};
use crate::rows::{Row, rows};
use crate::wire::OUR_MAC;

pub(crate) const ROWS: &[Row] = rows![
    Usual BOTH:
        row_38_a_packet_from_ourselves_is_met_by_silence,
        row_39_a_source_no_host_can_have_is_met_by_silence,
        row_40_a_group_or_broadcast_address_is_met_by_silence,
        row_41_a_broadcast_frame_for_one_host_is_met_by_silence,
        row_42_a_frame_for_another_station_is_met_by_silence,
        row_43_a_packet_for_another_host_is_not_forwarded;
    Usual V4:
        row_44_ip_options_are_passed_over_but_for_source_routes;
];

const BROADCAST: Mac = [0xff; 6];

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().expect("an address")).collect()
}

/// A SYN from and to these, in a frame to this station.
fn syn(lab: &mut Lab, to: Mac, src: IpAddr, dst: IpAddr) -> Vec<u8> {
    let client = Client { ip: src, server: dst, ..lab.client(Family::V4) };
    client.frame(to, &client.syn())
}

fn row_38_a_packet_from_ourselves_is_met_by_silence(lab: &mut Lab, family: Family) {
    let own = family.server();
    let client = Client { ip: own, port: PORT, ..lab.client(family) };
    let frame = client.frame(lab.dut, &client.syn());
    lab.assert_silence(&frame, "ip-source");
    lab.assert_serves(family);
}

fn row_39_a_source_no_host_can_have_is_met_by_silence(lab: &mut Lab, family: Family) {
    let sources = match family {
        Family::V4 => addresses(&[
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "10.77.255.255",
            "10.77.0.0",
        ]),
        Family::V6 => addresses(&["::1", "::", "ff02::1", "::ffff:10.77.0.9"]),
    };
    for src in sources {
        let frame = syn(lab, lab.dut, src, family.server());
        lab.assert_silence(&frame, "ip-source");
    }
}

fn row_40_a_group_or_broadcast_address_is_met_by_silence(lab: &mut Lab, family: Family) {
    let groups = match family {
        Family::V4 => addresses(&["255.255.255.255", "10.77.255.255", "224.0.0.1"]),
        Family::V6 => addresses(&["ff02::1", "ff02::2"]),
    };
    for dst in groups {
        let frame = syn(lab, lab.dut, family.host(9), dst);
        lab.assert_silence(&frame, "ip-foreign");
        let frame = syn(lab, BROADCAST, family.host(9), dst);
        lab.assert_silence(&frame, "ip-group");
    }
}

fn row_41_a_broadcast_frame_for_one_host_is_met_by_silence(lab: &mut Lab, family: Family) {
    let frame = syn(lab, BROADCAST, family.host(9), family.server());
    lab.assert_silence(&frame, "ip-group");
}

fn row_42_a_frame_for_another_station_is_met_by_silence(lab: &mut Lab, family: Family) {
    let frame = syn(lab, [2, 0x77, 0, 0, 0, 0x99], family.host(9), family.server());
    lab.assert_silence(&frame, "frame-foreign");
}

fn row_43_a_packet_for_another_host_is_not_forwarded(lab: &mut Lab, family: Family) {
    for dst in [family.host(77), addresses(&["192.0.2.1", "2001:db8::1"])[family as usize]] {
        let frame = syn(lab, lab.dut, family.host(9), dst);
        lab.assert_silence(&frame, "ip-foreign");
    }
}

fn row_44_ip_options_are_passed_over_but_for_source_routes(lab: &mut Lab, family: Family) {
    let with = |lab: &mut Lab, options: &[u8]| {
        let client = lab.client(family);
        let mut body = client.syn().bytes();
        seal(client.ip, client.server, 6, &mut body);
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (client.ip, client.server) else { panic!() };
        let packet = ipv4_with((src, dst), 6, (0, 0x4000), options, &body);
        (client, frame(lab.dut, OUR_MAC, IPV4, &packet))
    };
    let hop = Ipv4Addr::new(10, 77, 0, 66).octets();
    for kind in [131, 137] {
        let route = [&[kind, 7, 4][..], &hop, &[0]].concat();
        let (_, frame) = with(lab, &route);
        lab.assert_silence(&frame, "ipv4-source-route");
    }
    let timestamp = [68, 8, 5, 0, 0, 0, 0, 0];
    let record = [&[7, 7, 4][..], &[0; 4], &[0]].concat();
    for harmless in [&timestamp[..], &record, &[1, 1, 1, 1], &[0x94, 4, 0, 0], &[222, 4, 9, 9]] {
        let (mut client, frame) = with(lab, harmless);
        lab.wire.send(&frame);
        let answers = lab.wire.wait_for(crate::lab::PATIENCE, |seen| {
            let crate::lab::packets::What::Tcp { dst, tcp, .. } = &seen.what else { return None };
            (*dst == client.ip && tcp.to == client.port)
                .then(|| (tcp.clone(), seen.bytes[ETHERNET]))
        });
        let (answer, first) = answers.expect("an answer");
        assert!(answer.has(SYN | ACK), "{answer:?}");
        assert_eq!(first, 0x45, "no option is sent back");
        lab.complete(&mut client, &answer);
        lab.assert_alive(client);
    }
    // A list that is no list.
    let (_, frame) = with(lab, &[68, 40, 5, 0]);
    lab.assert_silence(&frame, "ipv4-option");
}

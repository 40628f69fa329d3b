//! Rows 1 to 11: packets and segments that are not what they say.

use crate::lab::packets::{ACK, ETHERNET, FIN, SYN, seal_ipv4};
use crate::lab::{Client, Family, Lab, packet_of};
use crate::rows::{Row, rows};

pub(crate) const ROWS: &[Row] = rows![
    Usual BOTH:
        row_1_a_bad_tcp_checksum_is_met_by_silence,
        row_2_a_zero_tcp_checksum_is_met_by_silence,
        row_4_a_packet_too_short_for_its_segment_is_met_by_silence,
        row_5_a_packet_longer_than_its_frame_is_met_by_silence,
        row_7_another_ip_version_is_met_by_silence,
        row_8_a_data_offset_below_the_header_is_met_by_silence,
        row_9_a_data_offset_beyond_the_segment_is_met_by_silence,
        row_10_a_truncated_tcp_header_is_met_by_silence,
        row_11_padding_is_no_payload;
    Usual V4:
        row_3_a_bad_ip_checksum_is_met_by_silence,
        row_6_an_ip_header_of_four_words_is_met_by_silence;
];

/// Where the segment begins in a frame.
pub(crate) fn tcp_at(family: Family) -> usize {
    match family {
        Family::V4 => ETHERNET + 20,
        Family::V6 => ETHERNET + 40,
    }
}

/// A SYN's frame.
pub(crate) fn syn(lab: &mut Lab, family: Family) -> Vec<u8> {
    let client = lab.client(family);
    client.frame(lab.dut, &client.syn())
}

/// Says that the packet is so long, and seals its header.
fn set_length(frame: &mut [u8], family: Family, body: usize) {
    let packet = packet_of(frame);
    match family {
        Family::V4 => {
            packet[2..4].copy_from_slice(&u16::try_from(20 + body).unwrap().to_be_bytes());
            seal_ipv4(packet);
        }
        Family::V6 => {
            packet[4..6].copy_from_slice(&u16::try_from(body).unwrap().to_be_bytes());
        }
    }
}

/// Changes a segment behind its addresses and makes the checksum right again.
fn changed(client: &Client, lab: &Lab, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    use crate::lab::packets::{ethertype, frame, packet, seal};
    let mut body = client.syn().bytes();
    change(&mut body);
    if body.len() >= 18 {
        seal(client.ip, client.server, 6, &mut body);
    }
    let packet = packet(client.ip, client.server, 6, &body);
    frame(lab.dut, crate::wire::OUR_MAC, ethertype(client.ip), &packet)
}

fn row_1_a_bad_tcp_checksum_is_met_by_silence(lab: &mut Lab, family: Family) {
    let mut frame = syn(lab, family);
    frame[tcp_at(family) + 16] ^= 0x55;
    lab.assert_silence(&frame, "tcp-checksum");
    lab.assert_serves(family);
}

fn row_2_a_zero_tcp_checksum_is_met_by_silence(lab: &mut Lab, family: Family) {
    let mut frame = syn(lab, family);
    frame[tcp_at(family) + 16..tcp_at(family) + 18].fill(0);
    lab.assert_silence(&frame, "tcp-checksum");
}

fn row_3_a_bad_ip_checksum_is_met_by_silence(lab: &mut Lab, family: Family) {
    let mut frame = syn(lab, family);
    frame[ETHERNET + 10] ^= 0x55;
    lab.assert_silence(&frame, "ipv4-checksum");
}

fn row_4_a_packet_too_short_for_its_segment_is_met_by_silence(lab: &mut Lab, family: Family) {
    let mut frame = syn(lab, family);
    set_length(&mut frame, family, 0);
    lab.assert_silence(&frame, "tcp-truncated");
}

fn row_5_a_packet_longer_than_its_frame_is_met_by_silence(lab: &mut Lab, family: Family) {
    let counter = match family {
        Family::V4 => "ipv4-total-length",
        Family::V6 => "ipv6-payload-length",
    };
    for body in [21, 1400, 65_000] {
        let mut frame = syn(lab, family);
        set_length(&mut frame, family, body);
        lab.assert_silence(&frame, counter);
    }
}

fn row_6_an_ip_header_of_four_words_is_met_by_silence(lab: &mut Lab, family: Family) {
    let mut frame = syn(lab, family);
    packet_of(&mut frame)[0] = 0x44;
    seal_ipv4(packet_of(&mut frame));
    lab.assert_silence(&frame, "ipv4-header-length");
}

fn row_7_another_ip_version_is_met_by_silence(lab: &mut Lab, family: Family) {
    let mut frame = syn(lab, family);
    let (first, counter) = match family {
        Family::V4 => (0x55, "ipv4-version"),
        Family::V6 => (0x50, "ipv6-version"),
    };
    packet_of(&mut frame)[0] = first;
    if family == Family::V4 {
        packet_of(&mut frame)[0] = 0x55;
        seal_ipv4(packet_of(&mut frame));
    }
    lab.assert_silence(&frame, counter);
}

fn row_8_a_data_offset_below_the_header_is_met_by_silence(lab: &mut Lab, family: Family) {
    let client = lab.client(family);
    let frame = changed(&client, lab, |body| body[12] = 0x40);
    lab.assert_silence(&frame, "tcp-data-offset");
}

fn row_9_a_data_offset_beyond_the_segment_is_met_by_silence(lab: &mut Lab, family: Family) {
    let client = lab.client(family);
    let frame = changed(&client, lab, |body| body[12] = 0xf0);
    lab.assert_silence(&frame, "tcp-data-offset");
}

fn row_10_a_truncated_tcp_header_is_met_by_silence(lab: &mut Lab, family: Family) {
    let client = lab.client(family);
    for len in [8, 19] {
        let frame = changed(&client, lab, |body| body.truncate(len));
        lab.assert_silence(&frame, "tcp-truncated");
    }
}

fn row_11_padding_is_no_payload(lab: &mut Lab, family: Family) {
    let mut client = lab.client(family);
    let padded = |lab: &Lab, frame: Vec<u8>| {
        let mut frame = frame;
        frame.resize(frame.len().max(60) + 6, 0xee);
        lab.wire.send(&frame);
    };
    padded(lab, client.frame(lab.dut, &client.syn()));
    let answers = lab.answers(&client);
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    assert!(answer.has(SYN | ACK));
    client.nxt = answer.ack;
    client.rcv = answer.seq.wrapping_add(1);
    // A bare acknowledgement, three bytes, and an end: nobody gets a byte more.
    padded(lab, client.frame(lab.dut, &client.segment(ACK)));
    assert!(lab.answers(&client).is_empty());
    padded(lab, client.frame(lab.dut, &client.data(b"abc")));
    client.nxt = client.nxt.wrapping_add(3);
    assert_eq!(lab.collect(&mut client, 3), b"abc");
    padded(lab, client.frame(lab.dut, &client.segment(FIN | ACK)));
    client.nxt = client.nxt.wrapping_add(1);
    let end = lab.next(&client);
    assert!(end.text.is_empty() && end.ack == client.nxt, "{end:?}");
    lab.settle();
    lab.abort(&client);
}

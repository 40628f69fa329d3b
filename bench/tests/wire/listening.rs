//! Rows 12 to 37: what a closed port and a listening one say to segments of no connection, and what a
//! SYN's options may be.

use crate::lab::packets::{ACK, FIN, PSH, RST, SYN, Tcp, URG, moved, mss};
use crate::lab::{CLOSED, Client, Family, Lab};
use crate::rows::{Row, rows};

pub(crate) const ROWS: &[Row] = rows![
    Usual BOTH:
        row_12_a_syn_to_a_closed_port_is_reset,
        row_13_an_ack_to_a_closed_port_is_reset_by_its_own_number,
        row_14_a_rst_to_a_closed_port_is_met_by_silence,
        row_15_an_ack_to_a_listener_is_reset_by_its_own_number,
        row_16_a_rst_to_a_listener_is_met_by_silence,
        row_17_a_fin_to_a_listener_is_met_by_silence,
        row_18_no_flags_to_a_listener_are_met_by_silence,
        row_19_a_syn_with_rst_is_met_by_silence,
        row_20_a_syn_with_fin_is_met_by_silence,
        row_21_a_christmas_tree_is_met_by_silence,
        row_22_a_syn_ack_to_a_listener_is_reset_by_its_own_number,
        row_23_text_on_a_syn_is_not_delivered_twice,
        row_24_an_option_of_length_zero_does_no_harm,
        row_25_an_option_of_length_one_does_no_harm,
        row_26_an_option_beyond_the_header_does_no_harm,
        row_27_a_segment_size_of_three_bytes_does_no_harm,
        row_28_a_segment_size_of_zero_is_usable,
        row_29_a_segment_size_of_one_is_usable,
        row_30_a_window_scale_of_255_is_14,
        row_31_unknown_options_of_a_syn_are_ignored,
        row_32_forty_bytes_of_no_operation_are_accepted,
        row_33_options_after_the_end_are_ignored,
        row_34_options_that_come_twice_do_no_harm,
        row_35_an_unknown_option_beside_text_is_accepted,
        row_36_without_a_segment_size_it_is_the_default,
        row_37_a_tiny_segment_size_makes_a_bounded_number_of_segments;
];

fn row_12_a_syn_to_a_closed_port_is_reset(lab: &mut Lab, family: Family) {
    let client = Client { server_port: CLOSED, ..lab.client(family) };
    let answer = lab.answer(&client, &client.syn());
    assert_eq!((answer.flags, answer.seq), (RST | ACK, 0));
    assert_eq!(answer.ack, moved(client.isn, 1));
    // Text counts, too.
    let answer = lab.answer(&client, &client.syn().text(b"12345"));
    assert_eq!(answer.ack, moved(client.isn, 6));
}

/// An ACK for nothing, which is answered by RST with its number and without ACK.
fn reset_by_its_own_number(lab: &mut Lab, family: Family, port: u16, flags: u16) {
    let client = Client { server_port: port, rcv: 0x1234_5678, ..lab.client(family) };
    let answer = lab.answer(&client, &client.segment(flags));
    assert_eq!((answer.flags, answer.seq), (RST, 0x1234_5678), "{answer:?}");
}

fn row_13_an_ack_to_a_closed_port_is_reset_by_its_own_number(lab: &mut Lab, family: Family) {
    reset_by_its_own_number(lab, family, CLOSED, ACK);
    reset_by_its_own_number(lab, family, CLOSED, SYN | ACK);
    reset_by_its_own_number(lab, family, CLOSED, FIN | ACK);
}

fn row_15_an_ack_to_a_listener_is_reset_by_its_own_number(lab: &mut Lab, family: Family) {
    reset_by_its_own_number(lab, family, crate::lab::PORT, ACK);
}

fn row_22_a_syn_ack_to_a_listener_is_reset_by_its_own_number(lab: &mut Lab, family: Family) {
    reset_by_its_own_number(lab, family, crate::lab::PORT, SYN | ACK);
}

fn silent(lab: &mut Lab, family: Family, port: u16, flags: u16, counter: &str) {
    let client = Client { server_port: port, rcv: 1, ..lab.client(family) };
    let frame = client.frame(lab.dut, &client.segment(flags));
    lab.assert_silence(&frame, counter);
}

fn row_14_a_rst_to_a_closed_port_is_met_by_silence(lab: &mut Lab, family: Family) {
    silent(lab, family, CLOSED, RST, "no-connection-reset");
    silent(lab, family, CLOSED, RST | ACK, "no-connection-reset");
}

fn row_16_a_rst_to_a_listener_is_met_by_silence(lab: &mut Lab, family: Family) {
    silent(lab, family, crate::lab::PORT, RST, "no-connection-reset");
    silent(lab, family, crate::lab::PORT, RST | ACK, "no-connection-reset");
}

fn row_17_a_fin_to_a_listener_is_met_by_silence(lab: &mut Lab, family: Family) {
    silent(lab, family, crate::lab::PORT, FIN, "not-for-listener");
}

fn row_18_no_flags_to_a_listener_are_met_by_silence(lab: &mut Lab, family: Family) {
    silent(lab, family, crate::lab::PORT, 0, "not-for-listener");
}

fn row_19_a_syn_with_rst_is_met_by_silence(lab: &mut Lab, family: Family) {
    silent(lab, family, crate::lab::PORT, SYN | RST, "no-connection-reset");
}

fn row_20_a_syn_with_fin_is_met_by_silence(lab: &mut Lab, family: Family) {
    silent(lab, family, crate::lab::PORT, SYN | FIN, "not-for-listener");
}

fn row_21_a_christmas_tree_is_met_by_silence(lab: &mut Lab, family: Family) {
    silent(lab, family, crate::lab::PORT, FIN | URG | PSH, "not-for-listener");
}

fn row_23_text_on_a_syn_is_not_delivered_twice(lab: &mut Lab, family: Family) {
    let mut client = lab.client(family);
    let answer = lab.answer(&client, &client.syn().with(&mss(1460)).text(b"early"));
    // It is not taken: without fast open nobody may answer before the handshake is over.
    lab.complete(&mut client, &answer);
    lab.echo(&mut client, b"early");
    lab.assert_alive(client);
}

/// A SYN with these options opens a connection that works.
fn opens(lab: &mut Lab, family: Family, options: &[u8]) {
    let client = lab.open_with(family, options);
    lab.assert_alive(client);
}

fn row_24_an_option_of_length_zero_does_no_harm(lab: &mut Lab, family: Family) {
    opens(lab, family, &[8, 0, 0, 0]);
    opens(lab, family, &[2, 0, 5, 180]);
    opens(lab, family, &[1, 1, 3, 0]);
}

fn row_25_an_option_of_length_one_does_no_harm(lab: &mut Lab, family: Family) {
    opens(lab, family, &[8, 1, 8, 1]);
    opens(lab, family, &[200, 1, 2, 1]);
}

fn row_26_an_option_beyond_the_header_does_no_harm(lab: &mut Lab, family: Family) {
    opens(lab, family, &[1, 1, 8, 10]);
    opens(lab, family, &[2, 40, 5, 180]);
    opens(lab, family, &[1, 1, 1, 2]);
    opens(lab, family, &[1, 5, 255, 0]);
}

fn row_27_a_segment_size_of_three_bytes_does_no_harm(lab: &mut Lab, family: Family) {
    opens(lab, family, &[2, 3, 5, 1]);
}

/// Bytes of text in each segment of an answer of `len` bytes, the client's SYN having these options.
fn sizes(lab: &mut Lab, family: Family, options: &[u8], len: usize) -> Vec<usize> {
    let mut client = lab.open_with(family, options);
    for text in vec![b'x'; len].chunks(1400) {
        lab.send(&client, &client.data(text));
        client.nxt = moved(client.nxt, text.len() as i64);
    }
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < len {
        let tcp = lab.next(&client);
        if tcp.seq != client.rcv || tcp.text.is_empty() {
            continue;
        }
        sizes.push(tcp.text.len());
        client.rcv = moved(client.rcv, tcp.text.len() as i64);
        lab.send(&client, &client.segment(ACK));
    }
    lab.assert_alive(client);
    sizes
}

/// The smallest segments that are sent, whatever a client asks for.
const FLOOR: usize = 48;

fn row_28_a_segment_size_of_zero_is_usable(lab: &mut Lab, family: Family) {
    let sizes = sizes(lab, family, &mss(0), 1000);
    assert!(sizes.iter().all(|size| (1..=536).contains(size)), "{sizes:?}");
    assert!(sizes.len() <= 1000_usize.div_ceil(FLOOR) + 1, "{sizes:?}");
}

fn row_29_a_segment_size_of_one_is_usable(lab: &mut Lab, family: Family) {
    let sizes = sizes(lab, family, &mss(1), 1000);
    assert!(sizes.len() <= 1000_usize.div_ceil(FLOOR) + 1, "{sizes:?}");
}

fn row_30_a_window_scale_of_255_is_14(lab: &mut Lab, family: Family) {
    let mut client = lab.open_with(family, &[&mss(1460)[..], &[3, 3, 255, 1]].concat());
    // One unit of the window is 16 KiB then: more than the first congestion window.
    client.window = 1;
    lab.send(&client, &client.segment(ACK));
    lab.echo(&mut client, &[b'x'; 40_000]);
    lab.settle();
    lab.heard(&client);
    for text in [b'y'; 30_000].chunks(1000) {
        lab.send(&client, &client.data(text));
        client.nxt = moved(client.nxt, text.len() as i64);
    }
    let mut highest = client.rcv;
    for tcp in lab.answers(&client) {
        let end = moved(tcp.seq, tcp.text.len() as i64);
        if crate::lab::packets::since(end, highest) > 0 {
            highest = end;
        }
    }
    let flight = highest.wrapping_sub(client.rcv);
    assert!((14_601..=16_384).contains(&flight), "{flight} bytes are under way");
    lab.abort(&client);
}

fn row_31_unknown_options_of_a_syn_are_ignored(lab: &mut Lab, family: Family) {
    opens(lab, family, &[200, 4, 1, 2, 253, 6, 1, 2, 3, 4, 1, 1]);
}

fn row_32_forty_bytes_of_no_operation_are_accepted(lab: &mut Lab, family: Family) {
    opens(lab, family, &[1; 40]);
}

fn row_33_options_after_the_end_are_ignored(lab: &mut Lab, family: Family) {
    let options = [0, 0, 0, 0, 2, 4, 0, 100];
    let client = lab.open_with(family, &options);
    lab.assert_alive(client);
    // Had they been read, segments would be of 100 bytes.
    let sizes = sizes(lab, family, &options, 536);
    assert_eq!(sizes, [536]);
}

fn row_34_options_that_come_twice_do_no_harm(lab: &mut Lab, family: Family) {
    opens(lab, family, &[2, 4, 5, 180, 2, 4, 2, 0, 3, 3, 7, 3, 3, 2, 1, 1]);
    let stamps = [8, 10, 0, 0, 0, 1, 0, 0, 0, 0];
    opens(lab, family, &[&stamps[..], &stamps, &[4, 2, 4, 2]].concat());
}

fn row_35_an_unknown_option_beside_text_is_accepted(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    lab.send(&client, &client.data(b"with").with(&[200, 3, 1, 1]));
    client.nxt = moved(client.nxt, 4);
    assert_eq!(lab.collect(&mut client, 4), b"with");
    lab.assert_alive(client);
}

fn row_36_without_a_segment_size_it_is_the_default(lab: &mut Lab, family: Family) {
    let default = match family {
        Family::V4 => 536,
        Family::V6 => 1220,
    };
    let sizes = sizes(lab, family, &[], 5000);
    assert_eq!(sizes.iter().max(), Some(&default), "{sizes:?}");
}

fn row_37_a_tiny_segment_size_makes_a_bounded_number_of_segments(lab: &mut Lab, family: Family) {
    let sizes = sizes(lab, family, &mss(48), 8192);
    assert!(sizes.iter().all(|size| *size <= 88), "{sizes:?}");
    assert!(sizes.len() <= 8192_usize.div_ceil(FLOOR) + 8, "{} segments", sizes.len());
    // The first segment of a handshake says nothing else than was asked for.
    let client = lab.client(family);
    let answer: Tcp = lab.answer(&client, &client.syn().with(&mss(48)));
    assert!(answer.option(2).is_some(), "{answer:?}");
    lab.abort(&Client { nxt: answer.ack, ..client });
}

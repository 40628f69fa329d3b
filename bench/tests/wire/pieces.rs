//! Rows N36 and N37: frames in several mbufs, and next to no mbufs at all.

use crate::lab::packets::{ACK, moved, mss};
use crate::lab::{Client, Family, Lab, PATIENCE, Setting};
use crate::rows::{Row, rows};
use crate::{addresses, established, fragments, malformed, opening};
use xtcp_bench::clock::{Deadline, now};

pub(crate) const ROWS: &[Row] = rows![
    Pieces BOTH:
        row_n36_frames_in_several_mbufs_are_dealt_with_as_in_one,
        row_n37_a_device_that_takes_nothing_for_a_while_loses_nothing;
];

/// Rows that would be another flood.
const FLOODS: [&str; 2] = [
    "row_85_a_flood_of_syns_keeps_nobody_out",
    "row_86_clients_with_closed_windows_keep_nobody_out",
];

/// Whatever is in one mbuf elsewhere is in three here. Mbufs of a byte each, and with them a header
/// that many share, no device makes: they are `ffi/dpdk/tests/pieces.rs`.
fn row_n36_frames_in_several_mbufs_are_dealt_with_as_in_one(lab: &mut Lab, family: Family) {
    let before = lab.counts();
    let lists =
        [malformed::ROWS, established::ROWS, opening::ROWS, fragments::ROWS, addresses::ROWS];
    for row in lists.into_iter().flatten() {
        let fits = matches!(row.setting, Setting::Usual | Setting::Pieces);
        if fits && row.families.contains(&family) && !FLOODS.contains(&row.name) {
            (row.run)(lab, family);
        }
    }
    // Texts of every length around what one, two and three mbufs hold, and single bytes.
    let mut client = lab.open_with(family, &mss(1460));
    let lengths = (1..40).chain(300..600).chain(780..1100).chain(1380..=1400);
    for len in lengths.step_by(3) {
        let text: Vec<u8> = (0..len).map(|n: usize| (n % 251) as u8).collect();
        lab.echo(&mut client, &text);
        lab.settle();
        lab.heard(&client);
    }
    for byte in b"one by one".iter().cycle().take(500) {
        lab.echo(&mut client, &[*byte]);
    }
    lab.assert_alive(client);
    let after = lab.counts();
    let rose = |name| after.of(name) - before.of(name);
    assert!(rose("rx-multi-segment") > 100 && rose("tx-multi-segment") > 100);
    assert_eq!(rose("rx-too-long"), 0);
}

/// The tap takes nothing while it is down: what there is to send fills the transmit ring and then the
/// mbufs, and whatever is acknowledged by then was answered for.
fn row_n37_a_device_that_takes_nothing_for_a_while_loses_nothing(lab: &mut Lab, family: Family) {
    let mut clients: Vec<Client> = (0..100).map(|_| lab.open(family)).collect();
    let text = |client: &Client| [client.port.to_be_bytes(); 600].concat();
    let before = lab.counts();
    // The workers rest until all of it is there, and then there is nowhere to send it.
    lab.ask("stop");
    for client in &mut clients {
        lab.send(client, &client.data(&text(client)));
        client.nxt = moved(client.nxt, 1200);
    }
    lab.set_far_end("down");
    lab.ask("start");
    let began = now();
    while began.elapsed() < std::time::Duration::from_millis(150) {
        lab.ask("show status");
    }
    lab.set_far_end("up");
    lab.await_addresses();
    let after = lab.counts();
    let full = after.of("transmit-full") - before.of("transmit-full");
    assert!(full > 0, "{:?}", after.beyond(&before));
    // What was lost with the frames that could not come is sent again, as by any client.
    for client in &mut clients {
        let start = client.clone();
        let mut stream: Vec<u8> = Vec::new();
        let deadline = Deadline::within(PATIENCE);
        while stream.len() < 1200 {
            assert!(!deadline.is_over(), "{} of 1200 bytes came", stream.len());
            lab.settle();
            for tcp in lab.heard(client) {
                if tcp.seq == client.rcv && !tcp.text.is_empty() {
                    stream.extend(&tcp.text);
                    client.rcv = moved(client.rcv, tcp.text.len() as i64);
                }
            }
            if stream.is_empty() {
                lab.send(client, &start.data(&text(client)).seq(-1200));
            } else {
                lab.send(client, &client.segment(ACK));
            }
        }
        assert_eq!(stream, text(client));
    }
    for client in clients {
        lab.assert_alive(client);
    }
    lab.assert_serves(family);
}

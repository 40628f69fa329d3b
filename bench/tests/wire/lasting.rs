//! Rows N1 to N15, N24 to N29: connections that are abused for longer, or that nobody ends.

use std::time::{Duration, Instant};

use crate::established::{self, open_stamped};
use crate::lab::packets::{
    ACK, AE, CWR, ECE, FIN, RST, SYN, Tcp, moved, mss, sacks, seal_ipv4, since, stamps,
};
use crate::lab::{Client, Family, Lab, PATIENCE, packet_of};
use crate::rows::{Row, rows};
use xtcp_bench::clock::{Deadline, now};

pub(crate) const ROWS: &[Row] = rows![
    Usual BOTH:
        row_n2_challenges_are_rationed_for_each_connection_alone,
        row_n3_a_dialogue_of_challenges_and_resets_ends,
        row_n4_split_acks_open_the_window_no_faster,
        row_n5_duplicate_acks_without_a_loss_cause_one_recovery_at_most,
        row_n7_tiny_segments_in_the_worst_order_are_bounded,
        row_n8_single_bytes_cost_no_block_each,
        row_n21_a_peer_with_tiny_segments_is_served_within_bounds,
        row_n24_senseless_timestamps_do_no_harm,
        row_n25_options_of_a_syn_mean_nothing_later,
        row_n26_sequence_numbers_wrap_and_nothing_changes,
        row_n27_congestion_is_told_only_where_it_was_agreed,
        row_n28_fast_open_cookies_are_passed_over,
        row_n29_signatures_are_passed_over;
    Patient BOTH:
        row_n6_sack_of_every_other_byte_is_bounded_and_may_be_taken_back;
    Narrow BOTH:
        row_n1_an_exact_rst_is_taken_at_a_closed_window;
    Hasty BOTH:
        row_n9_a_closed_window_that_answers_is_probed_for_ever,
        row_n10_a_peer_that_vanishes_is_down,
        row_n11_a_peer_that_vanishes_while_closing_leaves_nothing,
        row_n18_a_reflected_syn_is_not_amplified;
];

/// Sends so many bytes in segments of 1000.
fn send_all(lab: &mut Lab, client: &mut Client, len: usize) {
    for (n, text) in vec![b'x'; len].chunks(1000).enumerate() {
        lab.send(client, &client.data(text));
        client.nxt = moved(client.nxt, text.len() as i64);
        lab.pace(n);
    }
}

/// The number after the last byte that came for a client.
fn highest(client: &Client, heard: &[Tcp]) -> u32 {
    let ends = heard.iter().map(|tcp| moved(tcp.seq, tcp.text.len() as i64));
    ends.max_by_key(|end| since(*end, client.rcv)).unwrap_or(client.rcv)
}

/// How many challenges a connection may have sent since.
fn ration(since: Instant) -> usize {
    2 + since.elapsed().as_millis() as usize / 100
}

fn row_n1_an_exact_rst_is_taken_at_a_closed_window(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    client.window = 0;
    // The echo can say no more, so it takes no more, until nothing is taken at all.
    let mut full = None;
    for _ in 0..10_000 {
        lab.send(&client, &client.data(&[b'x'; 1000]));
        client.nxt = moved(client.nxt, 1000);
        let answers = lab.answers(&client);
        full = answers
            .iter()
            .rev()
            .find(|tcp| since(client.nxt, moved(tcp.ack, tcp.window.into())) > 1000)
            .cloned();
        if full.is_some() {
            break;
        }
    }
    let full = full.expect("its window is full at last");
    client.nxt = moved(full.ack, full.window.into());
    let frame = client.frame(lab.dut, &client.segment(RST));
    lab.wire.send(&frame);
    lab.settle();
    lab.heard(&client);
    lab.assert_gone(&client);
}

fn row_n2_challenges_are_rationed_for_each_connection_alone(lab: &mut Lab, family: Family) {
    let (client, other) = (lab.open(family), lab.open(family));
    let began = now();
    for n in 0..10_000 {
        let flags = if n % 2 == 0 { RST } else { SYN };
        lab.send(&client, &client.segment(flags).seq(100));
        lab.pace(n);
    }
    let answers = lab.answers(&client);
    assert!((1..=ration(began)).contains(&answers.len()), "{} challenges", answers.len());
    // The other's are its own: nobody can count this one's by it (CVE-2016-5696).
    let answer = lab.answer(&other, &other.segment(RST).seq(100));
    assert_eq!((answer.seq, answer.ack), (other.rcv, other.nxt));
    lab.assert_alive(other);
    lab.assert_alive(client);
}

fn row_n3_a_dialogue_of_challenges_and_resets_ends(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    let began = now();
    let mut challenges = 0;
    for _ in 0..200 {
        for answer in lab.exchange(&client, &client.segment(RST).seq(7)) {
            challenges += 1;
            assert_eq!((answer.flags, answer.seq, answer.ack), (ACK, client.rcv, client.nxt));
        }
    }
    assert!((1..=ration(began)).contains(&challenges), "{challenges} challenges");
    lab.assert_alive(client);
}

fn row_n4_split_acks_open_the_window_no_faster(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    send_all(lab, &mut client, 40_000);
    let first = highest(&client, &lab.answers(&client));
    for n in 1..=1000 {
        lab.send(&client, &client.segment(ACK).ack(n));
        lab.pace(n as usize);
    }
    let now = highest(&client, &lab.answers(&client));
    let by = since(now, first);
    assert!((0..=4 * 1460).contains(&by), "{by} bytes more for 1000 acknowledged");
    lab.abort(&client);
}

fn row_n5_duplicate_acks_without_a_loss_cause_one_recovery_at_most(lab: &mut Lab, family: Family) {
    for options in [mss(1460), [&mss(1460)[..], &[4, 2, 1, 1]].concat()] {
        let mut client = lab.client(family);
        let began = now();
        let syn_ack = lab.answer(&client, &client.syn().with(&options));
        // A path so long that all the duplicates come within one round trip, however busy the machine:
        // in each, as many bytes may have left the network.
        while began.elapsed() < Duration::from_millis(400) {
            lab.settle();
        }
        lab.complete(&mut client, &syn_ack);
        send_all(lab, &mut client, 60_000);
        let first = highest(&client, &lab.answers(&client));
        let before = lab.count("fast-retransmits");
        for n in 0..100 {
            lab.send(&client, &client.segment(ACK));
            lab.pace(n);
        }
        let answers = lab.answers(&client);
        let recoveries = lab.count("fast-retransmits") - before;
        assert!(recoveries <= 1, "{recoveries} recoveries");
        let flight = since(first, client.rcv);
        let by = since(highest(&client, &answers), first);
        // No more than has provably left the network.
        assert!(by <= flight, "{by} bytes more, {flight} were under way");
        lab.abort(&client);
    }
}

/// A client to whom so many bytes are under way, all at once.
fn flying(lab: &mut Lab, family: Family, flight: usize) -> Client {
    let options = [&mss(1460)[..], &[4, 2, 1, 3, 3, 7]].concat();
    let mut client = lab.open_with(family, &options);
    let mut len = flight / 8;
    for _ in 0..20 {
        send_all(lab, &mut client, len);
        let answers = lab.answers(&client);
        if usize::try_from(since(highest(&client, &answers), client.rcv)) == Ok(flight) {
            return client;
        }
        // What the window lets go is acknowledged, and opens it further.
        let came = take(lab, &mut client, &answers);
        drain(lab, &mut client, len - came);
        lab.settle();
        lab.heard(&client);
        len = flight.min(2 * len);
    }
    panic!("no window takes {flight} bytes");
}

/// Acknowledges each of these segments, whose bytes are all `x`; says how many bytes were new.
fn take(lab: &mut Lab, client: &mut Client, segments: &[Tcp]) -> usize {
    let mut came = 0;
    for (n, tcp) in segments.iter().enumerate() {
        let skip = usize::try_from(since(client.rcv, tcp.seq)).unwrap_or(usize::MAX);
        if let Some(new) = tcp.text.get(skip..) {
            assert!(new.iter().all(|byte| *byte == b'x'));
            came += new.len();
            client.rcv = moved(client.rcv, new.len() as i64);
        }
        if !tcp.text.is_empty() {
            lab.send(client, &client.segment(ACK));
            lab.pace(n + 1);
        }
    }
    came
}

/// Takes so many bytes, and acknowledges each segment.
fn drain(lab: &mut Lab, client: &mut Client, len: usize) {
    let (mut came, mut segments) = (0, 0);
    let mut deadline = Deadline::within(2 * PATIENCE);
    while came < len {
        let tcp = lab.next(client);
        let new = take(lab, client, std::slice::from_ref(&tcp));
        if new > 0 {
            deadline = Deadline::within(2 * PATIENCE);
        }
        assert!(!deadline.is_over(), "{came} of {len} bytes, and then nothing new");
        came += new;
        segments += 1;
        lab.pace(segments);
    }
}

fn row_n6_sack_of_every_other_byte_is_bounded_and_may_be_taken_back(lab: &mut Lab, family: Family) {
    const FLIGHT: usize = 1 << 20;
    let mut client = flying(lab, family, FLIGHT);
    let (resident, before) = (lab.resident(), lab.counts());
    let blocks: Vec<(u32, u32)> = (0..FLIGHT as i64 / 2)
        .map(|n| (moved(client.rcv, 2 * n + 1), moved(client.rcv, 2 * n + 2)))
        .collect();
    for (n, four) in blocks.chunks(4).enumerate() {
        lab.send(&client, &client.segment(ACK).with(&sacks(four)));
        lab.pace(n);
        if n % 1000 == 0 {
            lab.wire.forget();
        }
    }
    lab.settle();
    lab.wire.forget();
    let grown = lab.resident().saturating_sub(resident);
    assert!(grown < 1 << 20, "{grown} bytes more");
    let after = lab.counts();
    // 131,072 acknowledgements, and nothing that answers each of them.
    let out = after.of("segments-out") - before.of("segments-out");
    assert!(out < 10_000, "{out} segments");
    // Nothing of it was true but for the first bytes: all else comes again, for nothing was let go of.
    client.rcv = moved(client.rcv, 1000);
    lab.send(&client, &client.segment(ACK));
    drain(lab, &mut client, FLIGHT - 1000);
    lab.assert_alive(client);
    // And if all was said to be there but for the first bytes, and then those alone were.
    let mut client = flying(lab, family, FLIGHT);
    let before = lab.count("sacks-reneged");
    let rest = (moved(client.rcv, 1000), moved(client.rcv, FLIGHT as i64));
    lab.send(&client, &client.segment(ACK).with(&sacks(&[rest])));
    client.rcv = rest.0;
    lab.send(&client, &client.segment(ACK));
    lab.until("it is noticed", |lab| lab.count("sacks-reneged") > before);
    drain(lab, &mut client, FLIGHT - 1000);
    lab.assert_alive(client);
}

fn row_n7_tiny_segments_in_the_worst_order_are_bounded(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    let resident = lab.resident();
    for n in 0..20_000_usize {
        // Backwards, every other byte: none joins another.
        lab.send(&client, &client.data(b"y").seq(2 + 2 * (20_000 - n as i64)));
        lab.pace(n);
    }
    let answers = lab.answers(&client);
    assert!(answers.iter().all(|tcp| tcp.ack == client.nxt && tcp.text.is_empty()));
    let grown = lab.resident().saturating_sub(resident);
    assert!(grown < 16 << 20, "{grown} bytes more");
    lab.assert_serves(family);
    // All of it in order: each byte comes back once.
    for (n, text) in [b'y'; 41_000].chunks(1000).enumerate() {
        lab.send(&client, &client.data(text));
        client.nxt = moved(client.nxt, 1000);
        lab.pace(n);
    }
    assert_eq!(lab.collect(&mut client, 41_000), [b'y'; 41_000]);
    lab.assert_alive(client);
}

fn row_n8_single_bytes_cost_no_block_each(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    client.window = 0;
    let resident = lab.resident();
    for n in 0..20_000 {
        lab.send(&client, &client.data(b"z"));
        client.nxt = moved(client.nxt, 1);
        lab.pace(n);
    }
    lab.settle();
    let grown = lab.resident().saturating_sub(resident);
    assert!(grown < 8 << 20, "{grown} bytes more");
    lab.assert_serves(family);
    client.window = u16::MAX;
    lab.heard(&client);
    lab.send(&client, &client.segment(ACK));
    assert_eq!(lab.collect(&mut client, 20_000), [b'z'; 20_000]);
    lab.assert_alive(client);
}

fn row_n9_a_closed_window_that_answers_is_probed_for_ever(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    client.window = 0;
    lab.send(&client, &client.data(b"held back"));
    client.nxt = moved(client.nxt, 9);
    assert!(lab.next(&client).text.is_empty(), "only acknowledged");
    // Far longer than the user timeout, which is two seconds here.
    let began = now();
    let mut probes = 0;
    while began.elapsed() < Duration::from_secs(5) {
        lab.next(&client);
        lab.send(&client, &client.segment(ACK));
        probes += 1;
    }
    assert!((4..40).contains(&probes), "{probes} probes");
    client.window = u16::MAX;
    lab.send(&client, &client.segment(ACK));
    assert_eq!(lab.collect(&mut client, 9), b"held back");
    lab.assert_alive(client);
}

fn row_n10_a_peer_that_vanishes_is_down(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    let before = lab.count("peer-down");
    lab.send(&client, &client.data(b"and gone"));
    let first = lab.next(&client);
    let again = lab.next(&client);
    assert_eq!((first.seq, &first.text), (again.seq, &again.text));
    lab.until("it is down", |lab| lab.count("peer-down") > before);
    lab.heard(&client);
    lab.assert_gone(&client);
}

fn row_n11_a_peer_that_vanishes_while_closing_leaves_nothing(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    let before = lab.count("peer-down");
    lab.send(&client, &client.segment(FIN | ACK));
    let answers = lab.answers(&client);
    assert!(answers.iter().any(|tcp| tcp.has(FIN)), "{answers:?}");
    // LAST-ACK, and nobody acknowledges.
    let client = Client { nxt: moved(client.nxt, 1), ..client };
    lab.until("it is given up", |lab| lab.count("peer-down") > before);
    lab.heard(&client);
    lab.assert_gone(&client);
}

/// RFC 9293 demands three minutes of a SYN (MUST-23), not of its answer.
fn row_n18_a_reflected_syn_is_not_amplified(lab: &mut Lab, family: Family) {
    // As Linux asks, as little as anybody asks, and with much to read.
    let linux = [&mss(1460)[..], &[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]].concat();
    for (options, text) in [(&linux[..], &b""[..]), (&[], b""), (&mss(1460), &[b'x'; 1000])] {
        let client = lab.client(family);
        let before = lab.count("handshake-timed-out");
        let syn = client.syn().with(options).text(text);
        let len = client.frame(lab.dut, &syn).len();
        lab.send(&client, &syn);
        lab.until("it is given up", |lab| lab.count("handshake-timed-out") > before);
        let answers = lab.heard(&client);
        assert_eq!(answers.len(), 5, "{answers:?}");
        // Who says no segment size is told ours all the same (SHLD-5): these four bytes vanish in
        // the padding of an Ethernet frame of IPv4, and are all there is of amplification with IPv6.
        let at_most = if options.is_empty() { (len + 4).max(60) } else { len };
        let lens = answers.iter().map(|tcp| client.frame(lab.dut, tcp).len());
        assert!(lens.max() <= Some(at_most), "{answers:?}");
    }
}

fn row_n21_a_peer_with_tiny_segments_is_served_within_bounds(lab: &mut Lab, family: Family) {
    let mut client = lab.open_with(family, &mss(88));
    let (len, mut segments) = (1_000_000, 0);
    let (mut sent, mut came) = (0, 0);
    while came < len {
        // As much as is under way on both sides together.
        while sent < len && sent - came < 20_000 {
            lab.send(&client, &client.data(&[b'x'; 1000]));
            client.nxt = moved(client.nxt, 1000);
            sent += 1000;
        }
        let tcp = lab.next(&client);
        segments += 1;
        if tcp.seq == client.rcv && !tcp.text.is_empty() {
            came += tcp.text.len();
            client.rcv = moved(client.rcv, tcp.text.len() as i64);
            lab.send(&client, &client.segment(ACK));
        }
    }
    assert!(segments < 2 * len / 88, "{segments} segments for {len} bytes");
    lab.assert_alive(client);
}

fn row_n24_senseless_timestamps_do_no_harm(lab: &mut Lab, family: Family) {
    let mut client = open_stamped(lab, family);
    let echo = client.clock.unwrap().1;
    for old in [0, 1_000_000_u32.wrapping_sub(1 << 31).wrapping_add(1), 999_999] {
        let answers = lab.exchange(&client, &client.data(b"old").with(&stamps(old, echo)));
        assert!(answers.iter().all(|tcp| tcp.text.is_empty() && tcp.ack == client.nxt));
    }
    // None where both had agreed.
    let before = lab.count("timestamp-missing");
    assert!(lab.exchange(&client, &client.data(b"bare").with(&[])).is_empty());
    assert_eq!(lab.count("timestamp-missing"), before + 1);
    // Echoes of what was never sent: no round trip is measured by them, and nobody dies.
    for garbage in [0, u32::MAX, echo.wrapping_add(1 << 30)] {
        client.clock = client.clock.map(|(value, _)| (value + 1, garbage));
        lab.send(&client, &client.data(b"text"));
        client.nxt = moved(client.nxt, 4);
        assert_eq!(lab.collect(&mut client, 4), b"text");
    }
    lab.assert_alive(client);
}

fn row_n25_options_of_a_syn_mean_nothing_later(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    let late = [&mss(100)[..], &[4, 2, 3, 3, 14, 1, 1, 1]].concat();
    lab.send(&client, &client.data(b"late").with(&late));
    client.nxt = moved(client.nxt, 4);
    assert_eq!(lab.collect(&mut client, 4), b"late");
    // The size is what it was, no block is told, and a window of 2000 is one.
    client.window = 2000;
    lab.send(&client, &client.segment(ACK).with(&late));
    send_all(lab, &mut client, 8000);
    let answers = lab.answers(&client);
    assert!(since(highest(&client, &answers), client.rcv) <= 2000, "{answers:?}");
    assert!(answers.iter().any(|tcp| tcp.text.len() > 900), "{answers:?}");
    let answer = lab.exchange(&client, &client.data(b"beyond").seq(100));
    assert!(answer.iter().all(|tcp| tcp.sacks().is_empty()), "{answer:?}");
    lab.abort(&client);
}

fn row_n26_sequence_numbers_wrap_and_nothing_changes(lab: &mut Lab, family: Family) {
    lab.wraps = true;
    let setting = lab.setting;
    for row in established::ROWS.iter().filter(|row| row.setting == setting) {
        (row.run)(lab, family);
    }
    let mut client = lab.open(family);
    assert_eq!(client.isn, 0xffff_fff0);
    lab.echo(&mut client, &[b'w'; 10_000]);
    lab.abort(&client);
    lab.wraps = false;
}

/// A segment whose packet a router has marked.
fn marked(lab: &Lab, client: &Client, tcp: &Tcp) -> Vec<u8> {
    let mut frame = client.frame(lab.dut, tcp);
    let packet = packet_of(&mut frame);
    match client.family() {
        Family::V4 => {
            packet[1] |= 3;
            seal_ipv4(packet);
        }
        Family::V6 => packet[1] |= 0x30,
    }
    frame
}

fn row_n27_congestion_is_told_only_where_it_was_agreed(lab: &mut Lab, family: Family) {
    // Asked for as RFC 3168 has it, and more accurately: the answer is RFC 3168's.
    for asked in [ECE | CWR, AE | ECE | CWR] {
        let mut client = lab.client(family);
        let answer = lab.answer(&client, &client.syn().with(&mss(1460)).flags(SYN | asked));
        assert_eq!(answer.flags, SYN | ACK | ECE);
        lab.complete(&mut client, &answer);
        // A storm of marks is echoed until it is heeded, and does no more.
        for _ in 0..50 {
            lab.wire.send(&marked(lab, &client, &client.data(b"m")));
            client.nxt = moved(client.nxt, 1);
        }
        let answers = lab.answers(&client);
        assert!(answers.iter().all(|tcp| tcp.has(ECE)), "{answers:?}");
        client.rcv = highest(&client, &answers);
        let heeded = client.data(b"h");
        lab.send(&client, &heeded.clone().flags(heeded.flags | CWR));
        client.nxt = moved(client.nxt, 1);
        let answers = lab.answers(&client);
        assert!(answers.iter().any(|tcp| !tcp.has(ECE)), "{answers:?}");
        client.rcv = highest(&client, &answers);
        lab.assert_alive(client);
    }
    // Not agreed: neither marks nor echoes mean anything.
    let mut client = lab.open(family);
    let before = lab.count("congestion-echoes");
    lab.wire.send(&marked(lab, &client, &client.data(b"mark")));
    client.nxt = moved(client.nxt, 4);
    let answers = lab.answers(&client);
    assert!(answers.iter().all(|tcp| !tcp.has(ECE)), "{answers:?}");
    client.rcv = highest(&client, &answers);
    for _ in 0..20 {
        lab.send(&client, &client.segment(ACK | ECE));
    }
    lab.settle();
    assert_eq!(lab.count("congestion-echoes"), before);
    lab.assert_alive(client);
}

fn row_n28_fast_open_cookies_are_passed_over(lab: &mut Lab, family: Family) {
    for len in [0_usize, 1, 2, 3, 4, 5, 8, 15, 16, 17] {
        let mut client = lab.client(family);
        let cookie = [&[34, 2 + len as u8][..], &vec![7; len]].concat();
        let options = [&mss(1460)[..], &cookie].concat();
        let answer = lab.answer(&client, &client.syn().with(&options).text(b"early"));
        assert!(answer.option(34).is_none(), "{answer:?}");
        lab.complete(&mut client, &answer);
        lab.assert_alive(client);
    }
}

fn row_n29_signatures_are_passed_over(lab: &mut Lab, family: Family) {
    for kind in [19, 29] {
        let signature = [&[kind, 18][..], &[7; 16], &[1, 1]].concat();
        let mut client = lab.open_with(family, &[&mss(1460)[..], &signature].concat());
        lab.send(&client, &client.data(b"signed").with(&signature));
        client.nxt = moved(client.nxt, 6);
        assert_eq!(lab.collect(&mut client, 6), b"signed");
        lab.assert_alive(client);
    }
}

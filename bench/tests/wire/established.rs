//! Rows 50 to 71: what strangers and broken peers send to an open connection.

use crate::lab::packets::{ACK, FIN, PSH, RST, SYN, URG, moved, mss, sacks, since, stamps};
use crate::lab::{Client, Family, Lab};
use crate::rows::{Row, rows};

pub(crate) const ROWS: &[Row] = rows![
    Usual BOTH:
        row_50_an_exact_rst_ends_the_connection,
        row_51_a_rst_in_the_window_gets_a_challenge_ack,
        row_52_a_rst_out_of_the_window_is_met_by_silence,
        row_53_a_syn_in_the_window_gets_a_challenge_ack,
        row_54_a_syn_that_comes_again_gets_an_ack,
        row_55_an_ack_of_what_was_not_sent_is_answered_and_its_text_dropped,
        row_56_an_ack_from_long_ago_is_challenged_and_its_text_dropped,
        row_57_a_segment_without_ack_is_met_by_silence,
        row_58_text_beyond_the_window_is_answered_and_not_delivered,
        row_59_text_that_came_before_is_answered_and_not_delivered_again,
        row_60_a_keep_alive_probe_is_answered,
        row_61_text_beyond_a_hole_is_told_by_sack_and_delivered_in_order,
        row_62_a_contradicting_overlap_changes_nothing,
        row_63_text_after_the_end_is_ignored,
        row_64_urgent_pointers_do_no_harm,
        row_65_reserved_bits_are_ignored,
        row_67_a_window_that_shrinks_is_survived,
        row_68_optimistic_acks_are_ignored,
        row_69_senseless_sack_blocks_do_no_harm,
        row_70_an_old_timestamp_is_answered_and_its_text_dropped,
        row_71_an_exact_rst_may_have_an_old_timestamp;
    Hasty BOTH:
        row_66_a_closed_window_is_probed_ever_more_rarely_and_opens_again;
];

/// One bare acknowledgement that says where both are.
fn assert_challenge(lab: &mut Lab, client: &Client, tcp: &crate::lab::packets::Tcp) {
    let answer = lab.answer(client, tcp);
    assert_eq!((answer.flags, answer.text.len()), (ACK, 0), "{answer:?}");
    assert_eq!((answer.seq, answer.ack), (client.rcv, client.nxt), "{answer:?}");
}

fn assert_silence(lab: &mut Lab, client: &Client, tcp: &crate::lab::packets::Tcp, counter: &str) {
    let frame = client.frame(lab.dut, tcp);
    lab.assert_silence(&frame, counter);
}

fn row_50_an_exact_rst_ends_the_connection(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    assert_silence(lab, &client, &client.segment(RST), "reset-by-peer");
    lab.assert_gone(&client);
}

fn row_51_a_rst_in_the_window_gets_a_challenge_ack(lab: &mut Lab, family: Family) {
    for by in [1, 100, 30_000] {
        let client = lab.open(family);
        assert_challenge(lab, &client, &client.segment(RST).seq(by));
        lab.assert_alive(client);
    }
}

fn row_52_a_rst_out_of_the_window_is_met_by_silence(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    for by in [-1, -1000, 1 << 30] {
        let tcp = client.segment(RST).seq(by);
        assert_silence(lab, &client, &tcp, "reset-out-of-window");
    }
    lab.assert_alive(client);
}

fn row_53_a_syn_in_the_window_gets_a_challenge_ack(lab: &mut Lab, family: Family) {
    for flags in [SYN, SYN | ACK] {
        let client = lab.open(family);
        assert_challenge(lab, &client, &client.segment(flags).seq(500));
        lab.assert_alive(client);
    }
}

fn row_54_a_syn_that_comes_again_gets_an_ack(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    assert_challenge(lab, &client, &client.syn());
    lab.assert_alive(client);
}

fn row_55_an_ack_of_what_was_not_sent_is_answered_and_its_text_dropped(
    lab: &mut Lab,
    family: Family,
) {
    let client = lab.open(family);
    assert_challenge(lab, &client, &client.data(b"hopeful").ack(1000));
    lab.assert_alive(client);
}

fn row_56_an_ack_from_long_ago_is_challenged_and_its_text_dropped(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    assert_challenge(lab, &client, &client.data(b"injected").ack(-(1 << 30)));
    lab.assert_alive(client);
}

fn row_57_a_segment_without_ack_is_met_by_silence(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    assert_silence(lab, &client, &client.segment(PSH).text(b"bare"), "no-ack");
    assert_silence(lab, &client, &client.segment(0), "no-ack");
    lab.assert_alive(client);
}

fn row_58_text_beyond_the_window_is_answered_and_not_delivered(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    assert_challenge(lab, &client, &client.data(b"far").seq(1 << 24));
    lab.assert_alive(client);
}

fn row_59_text_that_came_before_is_answered_and_not_delivered_again(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    lab.echo(&mut client, b"one");
    lab.settle();
    // Each time, and at once.
    for _ in 0..3 {
        assert_challenge(lab, &client, &client.data(b"one").seq(-3));
    }
    lab.assert_alive(client);
}

fn row_60_a_keep_alive_probe_is_answered(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    assert_challenge(lab, &client, &client.segment(ACK).seq(-1));
    assert_challenge(lab, &client, &client.data(&[0]).seq(-1));
    lab.assert_alive(client);
}

fn row_61_text_beyond_a_hole_is_told_by_sack_and_delivered_in_order(lab: &mut Lab, family: Family) {
    let options = [&mss(1460)[..], &[4, 2, 1, 1]].concat();
    let mut client = lab.open_with(family, &options);
    let answer = lab.answer(&client, &client.data(b"world").seq(6));
    assert_eq!((answer.ack, answer.text.len()), (client.nxt, 0));
    assert_eq!(answer.sacks(), [(moved(client.nxt, 6), moved(client.nxt, 11))]);
    let answer = lab.answer(&client, &client.data(b"!").seq(20));
    let newest = (moved(client.nxt, 20), moved(client.nxt, 21));
    assert_eq!(answer.sacks().first(), Some(&newest), "the newest stands first");
    assert_eq!(answer.sacks().len(), 2);
    lab.send(&client, &client.data(b"hello "));
    client.nxt = moved(client.nxt, 11);
    assert_eq!(lab.collect(&mut client, 11), b"hello world");
    lab.abort(&client);
}

fn row_62_a_contradicting_overlap_changes_nothing(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    lab.echo(&mut client, b"abcdef");
    lab.settle();
    lab.send(&client, &client.data(b"XXXXXXghi").seq(-6));
    client.nxt = moved(client.nxt, 3);
    assert_eq!(lab.collect(&mut client, 3), b"ghi");
    // Beyond a hole as well: what came first stays, whatever lies over one end of it, or the whole.
    for (seq, text) in [(4, b"EFGH".as_slice()), (2, b"cdXX"), (6, b"XXIJ"), (3, b"dXXXXI")] {
        lab.send(&client, &client.data(text).seq(seq));
    }
    lab.send(&client, &client.data(b"ab"));
    client.nxt = moved(client.nxt, 10);
    assert_eq!(lab.collect(&mut client, 10), b"abcdEFGHIJ");
    lab.assert_alive(client);
}

fn row_63_text_after_the_end_is_ignored(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    let answers = lab.exchange(&client, &client.segment(FIN | ACK));
    client.nxt = moved(client.nxt, 1);
    assert!(answers.iter().any(|tcp| tcp.ack == client.nxt), "{answers:?}");
    let answers = lab.exchange(&client, &client.data(b"late"));
    assert!(answers.iter().all(|tcp| tcp.text.is_empty()), "{answers:?}");
    lab.abort(&client);
}

fn row_64_urgent_pointers_do_no_harm(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    for (urgent, text) in
        [(0, &b""[..]), (1, b""), (1000, b""), (0, b"a"), (1, b"b"), (65_535, b"c"), (2, b"def")]
    {
        let mut tcp = client.data(text);
        tcp.flags |= URG;
        tcp.urgent = urgent;
        lab.send(&client, &tcp);
        client.nxt = moved(client.nxt, text.len() as i64);
        if !text.is_empty() {
            assert_eq!(lab.collect(&mut client, text.len()), text);
        }
    }
    lab.assert_alive(client);
}

fn row_65_reserved_bits_are_ignored(lab: &mut Lab, family: Family) {
    let mut client = lab.client(family);
    let answer = lab.answer(&client, &client.syn().with(&mss(1460)).flags(SYN | 0xe00));
    assert_eq!(answer.flags & 0xe00, 0, "none is sent");
    lab.complete(&mut client, &answer);
    let tcp = client.data(b"reserved");
    lab.send(&client, &tcp.clone().flags(tcp.flags | 0xf00));
    client.nxt = moved(client.nxt, 8);
    assert_eq!(lab.collect(&mut client, 8), b"reserved");
    lab.assert_alive(client);
}

fn row_66_a_closed_window_is_probed_ever_more_rarely_and_opens_again(
    lab: &mut Lab,
    family: Family,
) {
    let mut client = open_stamped(lab, family);
    client.window = 0;
    lab.send(&client, &client.data(b"held back"));
    client.nxt = moved(client.nxt, 9);
    // The first probe may follow at once.
    let answer = lab.next(&client);
    assert_eq!((answer.ack, answer.text.len()), (client.nxt, 0), "only acknowledged: {answer:?}");
    // The appliance's own clock, in milliseconds, says when each probe left.
    let mut left = vec![answer.stamps().expect("agreed").0];
    for _ in 0..6 {
        let probe = lab.next(&client);
        assert!(probe.text.len() <= 1 && probe.seq == client.rcv, "{probe:?}");
        left.push(probe.stamps().expect("agreed").0);
        // It is there, and still takes nothing.
        lab.send(&client, &client.segment(ACK));
    }
    // A busy machine serves a timer late, and never early: the least timeout, which is 20 ms here,
    // and twice as much each time.
    let gaps: Vec<u32> = left.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    let least = (0..).map(|n| 20_u32 << n);
    assert!(gaps.iter().zip(least).all(|(gap, least)| *gap >= least), "{gaps:?}");
    client.window = u16::MAX;
    lab.send(&client, &client.segment(ACK));
    assert_eq!(stream(lab, &mut client, 9), b"held back");
    lab.assert_alive(client);
}

/// The next bytes for a client that has nothing to be acknowledged.
fn stream(lab: &mut Lab, client: &mut Client, len: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    while stream.len() < len {
        let tcp = lab.next(client);
        let skip = usize::try_from(since(client.rcv, tcp.seq)).unwrap_or(usize::MAX);
        let Some(new) = tcp.text.get(skip..) else { continue };
        stream.extend(new);
        client.rcv = moved(client.rcv, new.len() as i64);
        lab.send(client, &client.segment(ACK));
    }
    stream
}

fn row_67_a_window_that_shrinks_is_survived(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    for text in [b'x'; 5000].chunks(1000) {
        lab.send(&client, &client.data(text));
        client.nxt = moved(client.nxt, 1000);
    }
    let answers = lab.answers(&client);
    let sent = answers.iter().map(|tcp| moved(tcp.seq, tcp.text.len() as i64));
    let sent = sent.max_by_key(|end| since(*end, client.rcv)).unwrap();
    assert!(since(sent, client.rcv) > 4000, "{answers:?}");
    // The first segment is acknowledged, and the window ends 100 bytes behind it.
    let start = client.clone();
    client.rcv = moved(client.rcv, 1000);
    client.window = 100;
    lab.send(&client, &client.segment(ACK));
    for text in [b'y'; 5000].chunks(1000) {
        lab.send(&client, &client.data(text));
        client.nxt = moved(client.nxt, 1000);
    }
    for tcp in lab.answers(&client) {
        let end = moved(tcp.seq, tcp.text.len() as i64);
        assert!(since(end, sent) <= 0, "new text in a window that was taken back: {tcp:?}");
    }
    (client.window, client.rcv) = (u16::MAX, moved(start.rcv, 1000));
    lab.send(&client, &client.segment(ACK));
    let rest = stream(lab, &mut client, 9000);
    assert_eq!(rest, [[b'x'; 4000].as_slice(), &[b'y'; 5000]].concat());
    lab.assert_alive(client);
}

fn row_68_optimistic_acks_are_ignored(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    lab.echo(&mut client, &[b'x'; 20_000]);
    let before = lab.count("ack-of-unsent");
    for ahead in 1..=20 {
        lab.send(&client, &client.segment(ACK).ack(ahead * 50_000));
    }
    let answers = lab.answers(&client);
    assert!(answers.len() <= 20 && answers.iter().all(|tcp| tcp.ack == client.nxt), "{answers:?}");
    assert_eq!(lab.count("ack-of-unsent"), before + 20);
    lab.assert_alive(client);
}

fn row_69_senseless_sack_blocks_do_no_harm(lab: &mut Lab, family: Family) {
    let options = [&mss(1460)[..], &[4, 2, 1, 1]].concat();
    let mut client = lab.open_with(family, &options);
    for text in [b'x'; 8000].chunks(1000) {
        lab.send(&client, &client.data(text));
        client.nxt = moved(client.nxt, 1000);
    }
    lab.settle();
    let at = |by| moved(client.rcv, by);
    let lists: [&[(u32, u32)]; 7] = [
        &[(at(2000), at(1000))],
        &[(at(-5000), at(-4000))],
        &[(at(-1000), at(1000))],
        &[(at(7000), at(100_000))],
        &[(at(1 << 30), at(1 << 31))],
        &[(at(3000), at(3000)), (at(0), at(0))],
        &[(at(1), at(2)), (at(3), at(4)), (at(2), at(1)), (at(5), at(1 << 20))],
    ];
    for blocks in lists {
        lab.send(&client, &client.segment(ACK).with(&sacks(blocks)));
        lab.send(&client, &client.segment(ACK).with(&[1, 1, 5, 5, 1, 2, 3, 0]));
    }
    lab.settle();
    assert_eq!(stream(lab, &mut client, 8000), [b'x'; 8000]);
    lab.assert_alive(client);
}

/// A client with timestamps agreed.
pub(crate) fn open_stamped(lab: &mut Lab, family: Family) -> Client {
    let mut client = lab.client(family);
    client.clock = Some((1_000_000, 0));
    let options = [&mss(1460)[..], &stamps(1_000_000, 0)].concat();
    let answer = lab.answer(&client, &client.syn().with(&options));
    assert!(answer.stamps().is_some(), "{answer:?}");
    lab.complete(&mut client, &answer);
    client
}

fn row_70_an_old_timestamp_is_answered_and_its_text_dropped(lab: &mut Lab, family: Family) {
    let client = open_stamped(lab, family);
    let old = stamps(900_000, client.clock.unwrap().1);
    let before = lab.count("old-timestamp");
    assert_challenge(lab, &client, &client.data(b"old").with(&old));
    assert_eq!(lab.count("old-timestamp"), before + 1);
    lab.assert_alive(client);
}

fn row_71_an_exact_rst_may_have_an_old_timestamp(lab: &mut Lab, family: Family) {
    let client = open_stamped(lab, family);
    let old = stamps(900_000, client.clock.unwrap().1);
    assert_silence(lab, &client, &client.segment(RST).with(&old), "reset-by-peer");
    lab.assert_gone(&client);
}

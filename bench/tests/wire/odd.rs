//! Rows A1 to A3, A8 to A13, A17 and A18: of TCP what the list does not have. Mostly all there is of
//! something, each judged by a rule that is written here and not taken from the stack.

use crate::established::open_stamped;
use crate::lab::packets::{ACK, FIN, PSH, RST, SYN, Tcp, moved, mss, since, stamps};
use crate::lab::{CLOSED, Client, Family, Lab, PORT};
use crate::rows::{Row, rows};

pub(crate) const ROWS: &[Row] = rows![
    Usual BOTH:
        row_a1_every_combination_of_flags_to_a_port_gets_what_the_rfc_says,
        row_a2_no_combination_of_flags_harms_an_open_connection,
        row_a3_options_cut_off_at_every_length_open_connections,
        row_a8_timestamps_wrap_and_nothing_changes,
        row_a9_a_split_handshake_opens_one_connection,
        row_a10_a_client_that_was_restarted_comes_in_again,
        row_a11_nothing_comes_after_an_end_beyond_a_hole,
        row_a12_a_closed_window_from_the_start_is_no_end,
        row_a13_ports_of_zero_do_no_harm,
        row_a17_a_made_up_dialogue_of_two_open_connections_ends,
        row_a18_urgent_text_of_any_shape_is_text;
];

/// RFC 9293 sections 3.10.7.1 and 3.10.7.2, for every one of the flags and the reserved bits.
fn row_a1_every_combination_of_flags_to_a_port_gets_what_the_rfc_says(
    lab: &mut Lab,
    family: Family,
) {
    for (server_port, listens) in [(PORT, true), (CLOSED, false)] {
        for flags in (0..256).chain([0x100, 0x102, 0xe02, 0xf12, 0xf04, 0xf00]) {
            let client = Client { server_port, rcv: 0x7654_3210, ..lab.client(family) };
            let tcp = Tcp { ack: 0x7654_3210, ..client.segment(flags) };
            let answers = lab.exchange(&client, &tcp);
            let (is_syn, is_fin) = (flags & SYN != 0, flags & FIN != 0);
            let expected = if flags & RST != 0 {
                None
            } else if flags & ACK != 0 {
                Some((RST, tcp.ack, 0))
            } else if !listens {
                let len = i64::from(is_syn) + i64::from(is_fin);
                Some((RST | ACK, 0, moved(tcp.seq, len)))
            } else if is_syn && !is_fin {
                assert!(answers.len() == 1 && answers[0].has(SYN | ACK), "{flags:#x}: {answers:?}");
                assert_eq!(answers[0].ack, moved(tcp.seq, 1));
                lab.abort(&Client { nxt: answers[0].ack, ..client });
                continue;
            } else {
                None
            };
            let got = answers.iter().map(|tcp| (tcp.flags, tcp.seq, tcp.ack));
            assert_eq!(got.collect::<Vec<_>>(), Vec::from_iter(expected), "{flags:#x}");
        }
    }
}

/// Beside the window, at its edges and in the middle: one answer at most, never a RST, and of those
/// that take no text's place one in 100 ms; and the connection goes on. What would end it, the exact RST and an acceptable FIN, is left out.
fn row_a2_no_combination_of_flags_harms_an_open_connection(lab: &mut Lab, family: Family) {
    let client = lab.open(family);
    let began = xtcp_bench::clock::now();
    let mut challenges = 0;
    for seq in [-70_000, -1, 5, 30_000, 1 << 24, 1 << 31] {
        for ack in [-(1 << 30), 0, 1 << 20] {
            for flags in 0..64 {
                if flags & FIN != 0 && (0..1 << 20).contains(&seq) {
                    continue;
                }
                let tcp = Tcp { urgent: 9, ..client.segment(flags) }.seq(seq).ack(ack);
                let answers = lab.exchange(&client, &tcp);
                assert!(answers.len() <= 1, "{tcp:?}: {answers:?}");
                let unharmed = |answer: &Tcp| {
                    answer.flags == ACK && (answer.seq, answer.ack) == (client.rcv, client.nxt)
                };
                assert!(answers.iter().all(unharmed), "{tcp:?}: {answers:?}");
                // A FIN that was lost is acknowledged each time.
                challenges += if flags & FIN == 0 { answers.len() } else { 0 };
            }
        }
    }
    let ration = 2 + began.elapsed().as_millis() as usize / 100;
    assert!((1..=ration).contains(&challenges), "{challenges} where {ration} are the ration");
    lab.assert_alive(client);
}

/// Every kind that is known and two that are not, every length it may claim, in as much of the header
/// as is left: MUST-7, and none of it keeps a client out.
fn row_a3_options_cut_off_at_every_length_open_connections(lab: &mut Lab, family: Family) {
    for kind in [2, 3, 4, 5, 8, 19, 28, 29, 30, 34, 200, 254] {
        for len in (0..=12).chain([39, 40, 41, 128, 255]) {
            for room in [2, 3, 4, 7, 8, 11, 20, 40_usize] {
                // Cut off at the end of the header; what comes before is not lost.
                let mut options = vec![1; 40_usize.saturating_sub(room).min(4)];
                let at = options.len();
                options.resize((at + room).min(40).next_multiple_of(4).min(40), 0x55);
                options[at..at + 2].copy_from_slice(&[kind, len]);
                let client = lab.client(family);
                lab.send(&client, &client.syn().with(&options));
                let answer = lab.next(&client);
                assert!(answer.has(SYN | ACK), "{options:?}: {answer:?}");
                assert_eq!(answer.ack, moved(client.isn, 1), "{options:?}");
                lab.send(&client, &Client { nxt: answer.ack, ..client.clone() }.segment(RST));
            }
        }
        lab.settle();
        lab.wire.forget();
    }
    lab.assert_serves(family);
}

/// RFC 7323 section 5.2: timestamps are compared as sequence numbers are, around the circle.
fn row_a8_timestamps_wrap_and_nothing_changes(lab: &mut Lab, family: Family) {
    let mut client = lab.client(family);
    client.clock = Some((u32::MAX - 20, 0));
    let options = [&mss(1460)[..], &stamps(u32::MAX - 20, 0)].concat();
    let answer = lab.answer(&client, &client.syn().with(&options));
    lab.complete(&mut client, &answer);
    for _ in 0..40 {
        lab.echo(&mut client, b"around");
        client.clock = client.clock.map(|(ours, theirs)| (ours.wrapping_add(1), theirs));
    }
    assert!(client.clock.expect("agreed").0 < 1000, "it has wrapped");
    // From before the wrap, and as far ahead as anything can be.
    lab.settle();
    lab.heard(&client);
    let echo = client.clock.expect("agreed").1;
    let before = lab.count("old-timestamp");
    let answers = lab.exchange(&client, &client.data(b"old").with(&stamps(u32::MAX - 10, echo)));
    assert!(answers.iter().all(|tcp| tcp.text.is_empty() && tcp.ack == client.nxt), "{answers:?}");
    assert_eq!(lab.count("old-timestamp"), before + 1);
    lab.assert_alive(client);
}

/// A SYN where the last ACK should be, with the same number or another: what was begun goes on, and
/// no second one is opened beside it.
fn row_a9_a_split_handshake_opens_one_connection(lab: &mut Lab, family: Family) {
    let mut client = lab.client(family);
    let answer = lab.answer(&client, &client.syn().with(&mss(1460)));
    let before = lab.count("connections-opened");
    for by in [0, 1, 1000] {
        let again = client.syn().seq(by).with(&mss(1460));
        let answers = lab.exchange(&client, &again);
        assert!(answers.len() <= 1, "{answers:?}");
        for tcp in answers {
            // The same SYN-ACK, or where we are: nothing about another SYN.
            assert_eq!(tcp.ack, moved(client.isn, 1), "{tcp:?}");
            assert!(!tcp.has(RST), "{tcp:?}");
        }
    }
    // The answer to its SYN with a SYN of its own: two that open at once, which nobody asked for.
    let both = Tcp { ack: moved(answer.seq, 1), ..client.syn() }.flags(SYN | ACK);
    let answers = lab.exchange(&client, &both);
    assert!(answers.iter().all(|tcp| !tcp.has(SYN)), "{answers:?}");
    client.irs = answer.seq;
    (client.nxt, client.rcv) = (answer.ack, moved(answer.seq, 1));
    lab.send(&client, &client.segment(ACK));
    lab.settle();
    lab.heard(&client);
    assert_eq!(lab.count("connections-opened"), before + 1);
    lab.assert_alive(client);
}

/// RFC 9293 section 3.5.1, the half-open connection: its SYN is challenged, it answers by RST, and
/// the SYN that it sends again opens.
fn row_a10_a_client_that_was_restarted_comes_in_again(lab: &mut Lab, family: Family) {
    for by in [-5_000_000_i64, 1, 500, 40_000, 5_000_000] {
        let mut old = lab.open(family);
        lab.echo(&mut old, b"before the crash");
        lab.settle();
        lab.heard(&old);
        let isn = moved(old.nxt, by);
        let mut client = Client { isn, nxt: isn, rcv: 0, ..old.clone() };
        let challenge = lab.answer(&client, &client.syn().with(&mss(1460)));
        assert_eq!((challenge.flags, challenge.ack), (ACK, old.nxt), "{by}: {challenge:?}");
        // "an old duplicate": <SEQ=SEG.ACK><CTL=RST>.
        lab.send(&client, &Tcp { seq: challenge.ack, ack: 0, ..client.segment(RST) });
        lab.settle();
        lab.connect(&mut client, &mss(1460));
        assert!(since(client.irs, old.irs) > 0, "its numbers go on");
        lab.echo(&mut client, b"after it");
        lab.assert_alive(client);
    }
}

/// A FIN beyond a hole, text beyond the FIN, and another FIN: the stream ends where the first said.
fn row_a11_nothing_comes_after_an_end_beyond_a_hole(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    lab.send(&client, &client.segment(FIN | ACK).seq(5));
    lab.send(&client, &client.data(b"beyond").seq(6));
    lab.send(&client, &client.data(b"over it").seq(3));
    lab.send(&client, &client.segment(FIN | ACK).seq(20));
    lab.settle();
    lab.heard(&client);
    lab.send(&client, &client.data(b"hello"));
    client.nxt = moved(client.nxt, 6);
    let mut text: Vec<u8> = Vec::new();
    let end = loop {
        let tcp = lab.next(&client);
        assert!(!tcp.has(RST), "{tcp:?}");
        if tcp.seq == client.rcv {
            text.extend(&tcp.text);
            client.rcv = moved(client.rcv, tcp.text.len() as i64);
            if tcp.has(FIN) {
                break tcp;
            }
        }
    };
    assert_eq!(text, b"hello");
    assert_eq!(end.ack, client.nxt, "and the FIN that came first is acknowledged");
    client.rcv = moved(client.rcv, 1);
    lab.send(&client, &client.segment(ACK));
    lab.settle();
    lab.heard(&client);
    lab.assert_gone(&client);
}

/// A window of nothing in the SYN, and in the last ACK, scaled or not.
fn row_a12_a_closed_window_from_the_start_is_no_end(lab: &mut Lab, family: Family) {
    for options in [mss(1460), [&mss(1460)[..], &[3, 3, 14, 1]].concat()] {
        let mut client = lab.client(family);
        client.window = 0;
        lab.connect(&mut client, &options);
        lab.send(&client, &client.data(b"are you there?"));
        client.nxt = moved(client.nxt, 14);
        let answers = lab.answers(&client);
        assert!(answers.iter().all(|tcp| tcp.text.len() <= 1 && !tcp.has(RST)), "{answers:?}");
        client.window = u16::MAX;
        lab.send(&client, &client.segment(ACK));
        assert_eq!(lab.collect(&mut client, 14), b"are you there?");
        lab.assert_alive(client);
    }
}

fn row_a13_ports_of_zero_do_no_harm(lab: &mut Lab, family: Family) {
    let client = Client { server_port: 0, ..lab.client(family) };
    let answer = lab.answer(&client, &client.syn());
    assert!(answer.has(RST | ACK), "nobody listens there: {answer:?}");
    // As a client's it is a number like any other.
    let mut client = Client { port: 0, ..lab.client(family) };
    lab.connect(&mut client, &mss(1460));
    lab.echo(&mut client, b"from nowhere");
    lab.assert_alive(client);
}

/// Whoever knows of two connections can write to each what the other would have sent, with numbers
/// that are wrong: the two would tell each other for ever where they are, if they did not ration it.
fn row_a17_a_made_up_dialogue_of_two_open_connections_ends(lab: &mut Lab, family: Family) {
    let (one, other) = (lab.open(family), lab.open(family));
    let began = xtcp_bench::clock::now();
    lab.send(&one, &one.segment(ACK).seq(-1));
    lab.send(&other, &other.segment(ACK).seq(-1));
    let mut said = 0;
    // Each answer of the one is given to the other as it stands, but for the ports.
    for _ in 0..500 {
        lab.settle();
        let (of_one, of_other) = (lab.heard(&one), lab.heard(&other));
        said += of_one.len() + of_other.len();
        for (tcp, client) in
            of_one.iter().map(|tcp| (tcp, &other)).chain(of_other.iter().map(|tcp| (tcp, &one)))
        {
            lab.send(client, &Tcp { from: client.port, to: client.server_port, ..tcp.clone() });
        }
        if of_one.is_empty() && of_other.is_empty() {
            lab.send(&one, &one.segment(ACK).seq(-1));
        }
    }
    let ration = 4 + 2 * began.elapsed().as_millis() as usize / 100;
    assert!((1..=ration).contains(&said), "{said} segments where {ration} are the ration");
    lab.assert_alive(one);
    lab.assert_alive(other);
}

/// Every pointer around the length of its text, with FIN, with a byte before it, and out of order
/// (AMNESIA:33's CVE-2020-17437, URGENT/11): it is counted and changes nothing.
fn row_a18_urgent_text_of_any_shape_is_text(lab: &mut Lab, family: Family) {
    const URG: u16 = crate::lab::packets::URG;
    let mut client = open_stamped(lab, family);
    let before = lab.count("urgent-ignored");
    let mut sent = 0;
    for len in [0_usize, 1, 2, 100] {
        let n = len as u16;
        for pointer in [0, 1, n.wrapping_sub(1), n, n + 1, n + 2, 0x7fff, 0x8000, u16::MAX] {
            let tcp = Tcp { urgent: pointer, ..client.segment(ACK | PSH | URG) };
            lab.send(&client, &tcp.text(&vec![b'u'; len]));
            client.nxt = moved(client.nxt, len as i64);
            sent += 1;
            if len > 0 {
                assert_eq!(lab.collect(&mut client, len), vec![b'u'; len]);
            }
        }
    }
    lab.settle();
    assert_eq!(lab.count("urgent-ignored"), before + sent);
    // Without the flag a pointer is no pointer.
    let tcp = Tcp { urgent: 3, ..client.data(b"plain") };
    lab.send(&client, &tcp);
    client.nxt = moved(client.nxt, 5);
    assert_eq!(lab.collect(&mut client, 5), b"plain");
    lab.assert_alive(client);
}

//! Rows 80 to 86: handshakes that go wrong, and many of them.

use std::collections::HashSet;
use std::time::Duration;

use crate::established::open_stamped;
use crate::lab::packets::{ACK, FIN, RST, SYN, Tcp, moved, mss, since};
use crate::lab::{Client, Family, Lab};
use crate::rows::{Row, rows};

pub(crate) const ROWS: &[Row] = rows![
    Usual BOTH:
        row_80_a_wrong_ack_in_a_handshake_is_reset_and_the_handshake_stays,
        row_81_only_an_exact_rst_ends_a_handshake,
        row_83_text_stands_for_a_last_ack_that_was_lost,
        row_84_initial_sequence_numbers_tell_nothing,
        row_85_a_flood_of_syns_keeps_nobody_out,
        row_86_clients_with_closed_windows_keep_nobody_out;
    Hasty BOTH:
        row_82_a_syn_ack_is_repeated_ever_more_rarely_and_then_given_up;
];

/// A client whose SYN was answered; its last acknowledgement was not sent.
fn half_open(lab: &mut Lab, family: Family) -> (Client, Tcp) {
    let client = lab.client(family);
    let answer = lab.answer(&client, &client.syn().with(&mss(1460)));
    assert!(answer.has(SYN | ACK), "{answer:?}");
    let (nxt, rcv) = (answer.ack, moved(answer.seq, 1));
    (Client { irs: answer.seq, nxt, rcv, ..client }, answer)
}

fn row_80_a_wrong_ack_in_a_handshake_is_reset_and_the_handshake_stays(
    lab: &mut Lab,
    family: Family,
) {
    let (mut client, syn_ack) = half_open(lab, family);
    for wrong in [-1, 1, 1 << 30] {
        let tcp = client.segment(ACK).ack(wrong);
        let answer = lab.answer(&client, &tcp);
        assert_eq!((answer.flags, answer.seq), (RST, tcp.ack), "{answer:?}");
    }
    lab.complete(&mut client, &syn_ack);
    lab.assert_alive(client);
}

fn row_81_only_an_exact_rst_ends_a_handshake(lab: &mut Lab, family: Family) {
    let (mut client, syn_ack) = half_open(lab, family);
    for by in [-1, 1 << 30, 5] {
        let answers = lab.exchange(&client, &client.segment(RST).seq(by));
        assert!(answers.iter().all(|tcp| !tcp.has(RST)), "{answers:?}");
    }
    lab.complete(&mut client, &syn_ack);
    lab.assert_alive(client);
    let (client, _) = half_open(lab, family);
    assert!(lab.exchange(&client, &client.segment(RST)).is_empty());
    lab.assert_gone(&client);
}

fn row_82_a_syn_ack_is_repeated_ever_more_rarely_and_then_given_up(lab: &mut Lab, family: Family) {
    // Its station is known: of what waits for one that has to be asked for, only one is sent.
    let known = lab.open(family);
    lab.abort(&known);
    let client = lab.client(family);
    let before = lab.count("handshake-timed-out");
    let began = xtcp_bench::clock::now();
    lab.send(&client, &client.syn());
    let first = lab.next(&client);
    let mut times = Vec::new();
    for _ in 0..4 {
        let again = lab.next(&client);
        assert_eq!((again.flags, again.seq), (first.flags, first.seq));
        times.push(began.elapsed());
    }
    // A timer is never early: 50 ms after the first, and twice as long each time. All are counted from
    // the SYN, so that nothing seems early because we looked late at what came before it.
    let at_least = [50, 150, 350, 750].map(|ms| Duration::from_millis(ms - ms / 10));
    let mut both = times.iter().zip(at_least);
    assert!(both.all(|(time, least)| *time > least), "{times:?}");
    while lab.count("handshake-timed-out") == before {
        lab.settle();
    }
    assert!(lab.heard(&client).is_empty(), "four times are enough");
    let rcv = moved(first.seq, 1);
    lab.assert_gone(&Client { nxt: first.ack, rcv, ..client });
}

fn row_83_text_stands_for_a_last_ack_that_was_lost(lab: &mut Lab, family: Family) {
    let (mut client, _) = half_open(lab, family);
    lab.echo(&mut client, b"first words");
    lab.assert_alive(client);
}

fn row_84_initial_sequence_numbers_tell_nothing(lab: &mut Lab, family: Family) {
    let mut numbers = Vec::new();
    for _ in 0..64 {
        let (client, answer) = half_open(lab, family);
        numbers.push(answer.seq);
        lab.abort(&client);
    }
    let steps: Vec<i32> = numbers.windows(2).map(|pair| since(pair[1], pair[0])).collect();
    assert_eq!(steps.iter().collect::<HashSet<_>>().len(), 63, "a constant step: {steps:?}");
    let far = steps.iter().filter(|step| step.unsigned_abs() > 1 << 24).count();
    assert!(far > 50, "neighbours are close to each other: {steps:?}");
    // Nor does the second difference tell one from the last.
    let seconds: HashSet<i32> = steps.windows(2).map(|p| p[1].wrapping_sub(p[0])).collect();
    assert_eq!(seconds.len(), 62);
    // The same client's move forward, and not by chance.
    let (client, mut last) = half_open(lab, family);
    for _ in 0..8 {
        lab.abort(&client);
        let answer = lab.answer(&client, &client.syn().with(&mss(1460)));
        let step = since(answer.seq, last.seq);
        assert!((1..1 << 28).contains(&step), "{step}");
        last = answer;
    }
    lab.abort(&client);
}

fn row_85_a_flood_of_syns_keeps_nobody_out(lab: &mut Lab, family: Family) {
    let honest = lab.open(family);
    let model = lab.client(family);
    let flooder =
        |n: u16| Client { ip: family.host(300 + n % 50), port: 2000 + n, ..model.clone() };
    for n in 0..3000 {
        let client = flooder(n);
        lab.send(&client, &client.syn().with(&mss(1460)));
        lab.pace(n.into());
    }
    lab.settle();
    lab.wire.forget();
    lab.assert_serves(family);
    lab.assert_alive(honest);
    for n in 0..3000 {
        let client = flooder(n);
        lab.send(&client, &client.segment(RST).seq(1));
        lab.pace(n.into());
    }
    lab.settle();
    lab.wire.forget();
}

fn row_86_clients_with_closed_windows_keep_nobody_out(lab: &mut Lab, family: Family) {
    let mut stopped = Vec::new();
    for _ in 0..200 {
        let mut client = lab.open(family);
        client.window = 0;
        lab.send(&client, &client.data(&[b'x'; 1000]));
        client.nxt = moved(client.nxt, 1000);
        stopped.push(client);
    }
    lab.assert_serves(family);
    for client in &stopped {
        lab.send(client, &client.segment(RST));
    }
    lab.settle();
    lab.wire.forget();
    // With timestamps and an end, as most of them come.
    let client = open_stamped(lab, family);
    lab.exchange(&client, &client.segment(FIN | ACK));
    lab.abort(&Client { nxt: moved(client.nxt, 1), ..client });
}

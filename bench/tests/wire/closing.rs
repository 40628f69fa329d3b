//! Rows N11 to N15, N19 and N40: what becomes of a connection that the application has closed, and of
//! clients that it does not take or has very many of.

use std::time::Duration;

use crate::lab::packets::{ACK, FIN, RST, SYN, Tcp, moved, mss, since, stamps};
use crate::lab::{Client, Family, Lab, PORT};
use crate::rows::{Row, rows};
use crate::served::{ASKING_PORT, Habit, OTHER_PORT};
use xtcp::{CloseReason, Connection};
use xtcp_bench::clock::now;

pub(crate) const ROWS: &[Row] = rows![
    Served BOTH:
        row_n11_a_peer_that_vanishes_after_our_close_leaves_nothing,
        row_n12_fin_wait_2_ends_though_the_peer_is_silent,
        row_n12_a_client_that_only_ended_its_own_stream_is_still_told,
        row_n13_text_after_the_close_is_reset,
        row_n13_a_close_with_unread_text_is_a_reset,
        row_n14_time_wait_answers_what_could_be_lost_and_ignores_the_rest,
        row_n14_a_newer_syn_ends_time_wait_and_an_older_does_not,
        row_n15_sixty_thousand_closes_keep_nobody_out,
        row_n19_clients_beyond_those_that_wait_are_dropped_and_come_in_later;
    Narrow BOTH:
        row_n19_a_last_ack_without_room_is_dropped_and_good_later;
    Crowded BOTH:
        row_n40_65_000_connections_of_one_address_are_told_apart;
];

/// A client whose connection the application knows.
fn opened(lab: &mut Lab, family: Family) -> (Client, Connection) {
    lab.served().forget();
    let client = lab.open(family);
    let connection = lab.served().next_opened();
    (client, connection)
}

/// The application closes; the FIN that its client gets.
fn close(lab: &mut Lab, client: &Client, connection: Connection) -> Tcp {
    lab.served().close(connection);
    let fin = lab.next(client);
    assert!(fin.has(FIN | ACK) && fin.text.is_empty(), "{fin:?}");
    assert_eq!((fin.seq, fin.ack), (client.rcv, client.nxt), "{fin:?}");
    fin
}

fn row_n11_a_peer_that_vanishes_after_our_close_leaves_nothing(lab: &mut Lab, family: Family) {
    // FIN-WAIT-1, and CLOSING: its own FIN comes, but it never acknowledges ours.
    for ends_too in [false, true] {
        let (mut client, connection) = opened(lab, family);
        let before = lab.count("peer-down");
        close(lab, &client, connection);
        if ends_too {
            lab.send(&client, &client.segment(FIN | ACK));
            client.nxt = moved(client.nxt, 1);
            let answers = lab.answers(&client);
            assert!(answers.iter().any(|tcp| tcp.ack == client.nxt), "{answers:?}");
        }
        lab.until("it is given up", |lab| lab.count("peer-down") > before);
        assert_eq!(lab.served().end_of(connection), CloseReason::TimedOut);
        // It was asked, ever again and by nothing but the FIN.
        let heard = lab.heard(&client);
        assert!((2..30).contains(&heard.len()), "{heard:?}");
        assert!(heard.iter().all(|tcp| tcp.has(FIN) && tcp.seq == client.rcv), "{heard:?}");
        assert_eq!(lab.served().usage("active"), 0, "its state is given back");
        lab.assert_gone(&client);
    }
}

fn row_n12_fin_wait_2_ends_though_the_peer_is_silent(lab: &mut Lab, family: Family) {
    let (mut client, connection) = opened(lab, family);
    close(lab, &client, connection);
    client.rcv = moved(client.rcv, 1);
    lab.send(&client, &client.segment(ACK));
    lab.settle();
    lab.heard(&client);
    // It is there still: a probe is answered.
    let answers = lab.exchange(&client, &client.segment(ACK).seq(-1));
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((answer.flags, answer.seq, answer.ack), (ACK, client.rcv, client.nxt));
    assert_eq!(lab.served().end_of(connection), CloseReason::Closed);
    assert!(lab.heard(&client).is_empty(), "there is nothing to say meanwhile");
    assert_eq!(lab.served().usage("active"), 0);
    lab.assert_gone(&client);
}

/// XTCP's close is the end of both streams (WO 02/091709, Fig. 4): it has no `shutdown`, after which
/// FIN-WAIT-2 would have to last. It is the client that may end its stream and go on reading.
fn row_n12_a_client_that_only_ended_its_own_stream_is_still_told(lab: &mut Lab, family: Family) {
    let (mut client, connection) = opened(lab, family);
    lab.served().habit = Habit::Leave;
    let answers = lab.exchange(&client, &client.segment(FIN | ACK));
    client.nxt = moved(client.nxt, 1);
    assert!(answers.iter().all(|tcp| tcp.ack == client.nxt && !tcp.has(FIN)), "{answers:?}");
    // Longer than FIN-WAIT-2 and the user timeout last here.
    let began = now();
    while began.elapsed() < Duration::from_secs(2) {
        lab.settle();
    }
    lab.served().send(connection, b"the last words");
    assert_eq!(lab.collect(&mut client, 14), b"the last words");
    lab.served().close(connection);
    let fin = lab.next(&client);
    assert!(fin.has(FIN) && fin.seq == client.rcv, "{fin:?}");
    client.rcv = moved(client.rcv, 1);
    assert!(lab.exchange(&client, &client.segment(ACK)).is_empty());
    assert_eq!(lab.served().end_of(connection), CloseReason::Closed);
    lab.assert_gone(&client);
}

fn row_n13_text_after_the_close_is_reset(lab: &mut Lab, family: Family) {
    // In FIN-WAIT-1, and in FIN-WAIT-2.
    for acknowledged in [false, true] {
        let (mut client, connection) = opened(lab, family);
        close(lab, &client, connection);
        let end = moved(client.rcv, 1);
        if acknowledged {
            client.rcv = end;
            lab.send(&client, &client.segment(ACK));
            lab.settle();
        }
        lab.heard(&client);
        lab.send(&client, &client.data(b"who reads this?"));
        let mut answers = lab.answers(&client);
        // Its timer is short here.
        answers.retain(|tcp| !tcp.has(FIN));
        let [reset] = &answers[..] else { panic!("{answers:?}") };
        assert!(reset.has(RST) && reset.seq == end, "{reset:?}");
        assert_eq!(lab.served().end_of(connection), CloseReason::Aborted);
        client.rcv = end;
        lab.assert_gone(&client);
    }
}

/// SHLD-3.
fn row_n13_a_close_with_unread_text_is_a_reset(lab: &mut Lab, family: Family) {
    let (mut client, connection) = opened(lab, family);
    lab.served().habit = Habit::Leave;
    lab.send(&client, &client.data(b"a request"));
    lab.settle();
    lab.heard(&client);
    lab.served().close(connection);
    let reset = lab.next(&client);
    assert!(reset.has(RST) && !reset.has(FIN), "{reset:?}");
    assert_eq!((reset.seq, reset.text.len()), (client.rcv, 0), "{reset:?}");
    assert_eq!(lab.served().end_of(connection), CloseReason::Aborted);
    client.nxt = moved(client.nxt, 9);
    lab.assert_gone(&client);
}

/// Both have closed, the application first.
fn into_time_wait(lab: &mut Lab, client: &mut Client, connection: Connection) {
    close(lab, client, connection);
    client.rcv = moved(client.rcv, 1);
    lab.send(client, &client.segment(FIN | ACK));
    client.nxt = moved(client.nxt, 1);
    lab.settle();
    let answers = lab.heard(client);
    let last = answers.last().expect("its FIN is acknowledged");
    assert_eq!((last.flags, last.seq, last.ack), (ACK, client.rcv, client.nxt), "{answers:?}");
    assert_eq!(lab.served().end_of(connection), CloseReason::Closed);
}

/// TIME-WAIT says where it is.
fn assert_where_we_are(lab: &mut Lab, client: &Client, tcp: &Tcp) {
    let answer = lab.answer(client, tcp);
    assert_eq!(
        (answer.flags, answer.seq, answer.ack, answer.text.len()),
        (ACK, client.rcv, client.nxt, 0),
        "{answer:?}"
    );
}

fn row_n14_time_wait_answers_what_could_be_lost_and_ignores_the_rest(
    lab: &mut Lab,
    family: Family,
) {
    let (mut client, connection) = opened(lab, family);
    into_time_wait(lab, &mut client, connection);
    // RFC 1337: no RST ends it, be it exact.
    for by in [0, -1, 1, 1000] {
        let frame = client.frame(lab.dut, &client.segment(RST).seq(by));
        lab.assert_silence(&frame, "reset-in-time-wait");
        let frame = client.frame(lab.dut, &client.segment(RST | ACK).seq(by));
        lab.assert_silence(&frame, "reset-in-time-wait");
    }
    // The FIN again, text from before it, and text that nobody can have sent.
    assert_where_we_are(lab, &client, &client.segment(FIN | ACK).seq(-1));
    assert_where_we_are(lab, &client, &client.data(b"old").seq(-100));
    assert_where_we_are(lab, &client, &client.data(b"new"));
    assert_where_we_are(lab, &client, &client.segment(SYN | ACK).seq(500));
    // What takes no number could answer an answer for ever.
    let frame = client.frame(lab.dut, &client.segment(ACK));
    lab.assert_silence(&frame, "out-of-window");
    let frame = client.frame(lab.dut, &client.segment(ACK).seq(-100));
    lab.assert_silence(&frame, "out-of-window");
    assert_where_we_are(lab, &client, &client.segment(FIN | ACK).seq(-1));
}

fn row_n14_a_newer_syn_ends_time_wait_and_an_older_does_not(lab: &mut Lab, family: Family) {
    // By the sequence number alone.
    let (mut client, connection) = opened(lab, family);
    into_time_wait(lab, &mut client, connection);
    let (isn, end) = (client.isn, client.rcv);
    for older in [isn, moved(isn, -1000), moved(client.nxt, -1)] {
        let syn = Tcp { seq: older, ..client.syn() };
        assert_where_we_are(lab, &client, &syn.with(&mss(1460)));
    }
    (client.isn, client.nxt) = (moved(client.nxt, 1000), moved(client.nxt, 1000));
    lab.connect(&mut client, &mss(1460));
    let by = since(client.irs, end);
    assert!(by > 0, "its numbers are {} below the old ones", -by);
    lab.echo(&mut client, b"anew");
    lab.assert_alive(client);
    // By the timestamp, which goes before the number (RFC 6191).
    for (value_by, isn_by, newer) in
        [(-1_i64, 1 << 20, false), (0, -1000, false), (0, 1 << 20, true), (1, -1000, true)]
    {
        lab.served().forget();
        let mut client = crate::established::open_stamped(lab, family);
        let connection = lab.served().next_opened();
        into_time_wait(lab, &mut client, connection);
        let value = client.clock.expect("agreed").0;
        let value = moved(value, value_by);
        let options = [&mss(1460)[..], &stamps(value, 0)].concat();
        let syn = Tcp { seq: moved(client.nxt, isn_by), ..client.syn() }.with(&options);
        let answers = lab.exchange(&client, &syn);
        let [answer] = &answers[..] else { panic!("{value_by} {isn_by}: {answers:?}") };
        let opens = answer.has(SYN | ACK) && answer.ack == moved(syn.seq, 1);
        assert_eq!(opens, newer, "{value_by} {isn_by}: {answer:?}");
        if opens {
            lab.abort(&Client { nxt: answer.ack, ..client });
        } else {
            assert_eq!((answer.flags, answer.ack), (ACK, client.nxt), "{answer:?}");
        }
    }
}

/// Clients of one host with ports of their own, connected together.
fn connect_all(lab: &mut Lab, batch: &mut [Client]) {
    for client in batch.iter() {
        lab.send(client, &client.syn().with(&mss(1460)));
    }
    for client in batch.iter_mut() {
        let answer = lab.next(client);
        assert!(answer.has(SYN | ACK), "{answer:?}");
        (client.irs, client.nxt, client.rcv) = (answer.seq, answer.ack, moved(answer.seq, 1));
        lab.send(client, &client.segment(ACK));
    }
}

fn row_n15_sixty_thousand_closes_keep_nobody_out(lab: &mut Lab, family: Family) {
    const BATCH: u16 = 100;
    lab.served().forget();
    lab.served().habit = Habit::CloseAtOnce;
    let model = Client { ip: family.host(8), ..lab.client(family) };
    let mut resident = 0;
    for first in (2000..62_000).step_by(BATCH.into()) {
        let mut batch: Vec<Client> =
            (first..first + BATCH).map(|port| Client { port, ..model.clone() }).collect();
        connect_all(lab, &mut batch);
        for client in &mut batch {
            let mut fin = lab.next(client);
            while fin.has(SYN) {
                // Times are short here: it had not seen the last ACK yet.
                fin = lab.next(client);
            }
            assert!(fin.has(FIN) && fin.seq == client.rcv, "{fin:?}");
            client.rcv = moved(client.rcv, 1);
            lab.send(client, &client.segment(FIN | ACK));
        }
        lab.settle();
        lab.wire.forget();
        if first == 12_000 {
            // Twice as many have closed as there are records.
            resident = lab.resident();
        }
    }
    let served = lab.served();
    let closed = served.ended.values().filter(|reason| **reason == CloseReason::Closed).count();
    assert_eq!(closed, 60_000);
    let (waiting, all) = (served.usage("time-wait"), served.usage("connections max"));
    assert!((1000..=all).contains(&waiting), "{waiting} of {all} are in TIME-WAIT");
    served.forget();
    let grown = lab.resident().saturating_sub(resident);
    assert!(grown < 2 << 20, "{grown} bytes more");
    for _ in 0..100 {
        lab.assert_serves(family);
    }
    lab.served().forget();
}

/// The policy: a SYN waits for the application and gets no answer until it is taken. Beyond those
/// that may wait it is dropped in silence, and its client sends it again.
fn row_n19_clients_beyond_those_that_wait_are_dropped_and_come_in_later(
    lab: &mut Lab,
    family: Family,
) {
    lab.served().forget();
    lab.served().sleeps = true;
    let client = |lab: &mut Lab| Client { server_port: ASKING_PORT, ..lab.client(family) };
    let mut clients: Vec<Client> = (0..128).map(|_| client(lab)).collect();
    for one in &clients {
        lab.send(one, &one.syn().with(&mss(1460)));
    }
    lab.settle();
    let before = lab.counts();
    let mut late = client(lab);
    for _ in 0..3 {
        assert!(lab.exchange(&late, &late.syn().with(&mss(1460))).is_empty());
    }
    let after = lab.counts();
    let by = |name| after.of(name) - before.of(name);
    // After a second the oldest of those that wait could make way; not one of them is reset.
    assert_eq!(by("half-open-full") + by("handshake-evicted") + by("not-yet-accepted"), 3);
    for one in &clients {
        assert!(lab.heard(one).is_empty(), "nobody is answered");
    }
    // Those whom the table has lost by then ask once more, as any client does.
    lab.served().sleeps = false;
    lab.settle();
    for one in &mut clients {
        let mut heard = lab.heard(one);
        if heard.is_empty() {
            lab.send(one, &one.syn().with(&mss(1460)));
            heard = vec![lab.next(one)];
        }
        let answer = &heard[0];
        assert!(answer.has(SYN | ACK) && answer.ack == moved(one.isn, 1), "{answer:?}");
        (one.irs, one.nxt, one.rcv) = (answer.seq, answer.ack, moved(answer.seq, 1));
        lab.send(one, &one.segment(ACK));
    }
    lab.send(&late, &late.syn().with(&mss(1460)));
    let answer = lab.next(&late);
    lab.complete(&mut late, &answer);
    lab.echo(&mut late, b"late, but in");
    for one in &mut clients {
        lab.settle();
        lab.heard(one);
        lab.echo(one, b"first come");
    }
    clients.push(late);
    clients.iter().for_each(|one| lab.abort(one));
    lab.served().forget();
}

/// The other half of the policy: a last ACK finds its record, for it is made when the SYN comes; or,
/// with a cookie, it finds room or gets no answer, and the client's next segment is as good.
fn row_n19_a_last_ack_without_room_is_dropped_and_good_later(lab: &mut Lab, family: Family) {
    let model = lab.client(family);
    let flooder = |n: u16| Client { ip: family.host(300 + n), port: 2000 + n, ..model.clone() };
    for n in 0..16 {
        lab.send(&flooder(n), &flooder(n).syn().with(&mss(1460)));
    }
    lab.settle();
    lab.wire.forget();
    let before = lab.counts();
    let mut inside = Vec::new();
    let mut outside = loop {
        assert!(inside.len() < 64, "there are no more records");
        let mut client = lab.client(family);
        let answer = lab.answer(&client, &client.syn().with(&mss(1460)));
        assert!(answer.has(SYN | ACK), "{answer:?}");
        (client.irs, client.nxt, client.rcv) = (answer.seq, answer.ack, moved(answer.seq, 1));
        // Whether there is room or not, nothing is said, and above all no RST.
        let answers = lab.exchange(&client, &client.segment(ACK));
        assert!(answers.is_empty(), "{answers:?}");
        if lab.count("connections-full") > before.of("connections-full") {
            break client;
        }
        inside.push(client);
    };
    assert!(inside.len() >= 32, "only {} were let in", inside.len());
    assert!(lab.count("cookies-out") > before.of("cookies-out"));
    // Its text finds no room either; and then somebody goes.
    assert!(lab.exchange(&outside, &outside.data(b"let me in")).is_empty());
    lab.abort(&inside.pop().expect("somebody"));
    lab.echo(&mut outside, b"let me in");
    lab.assert_alive(outside);
    inside.iter().for_each(|client| lab.abort(client));
    for n in 0..16 {
        lab.send(&flooder(n), &flooder(n).segment(RST).seq(1));
    }
    lab.settle();
    lab.wire.forget();
}

fn row_n40_65_000_connections_of_one_address_are_told_apart(lab: &mut Lab, family: Family) {
    const BATCH: u16 = 50;
    lab.served().forget();
    let model = Client { ip: family.host(8), ..lab.client(family) };
    // Each port calls both listeners.
    let mut all: Vec<Client> = Vec::with_capacity(65_000);
    for first in (2000..34_500).step_by(BATCH.into()) {
        let of_port = |port| {
            [PORT, OTHER_PORT].map(|server_port| Client { port, server_port, ..model.clone() })
        };
        let mut batch: Vec<Client> = (first..first + BATCH).flat_map(of_port).collect();
        connect_all(lab, &mut batch);
        all.append(&mut batch);
    }
    lab.settle();
    assert_eq!(lab.served().usage("connections"), 65_000);
    // One in five says who it is: one listener says the same, and the other the reverse.
    for batch in all.chunks_mut(250) {
        let speakers = || (0..batch.len()).step_by(5);
        let text = |client: &Client| format!("{} calls {}", client.port, client.server_port);
        for at in speakers() {
            lab.send(&batch[at], &batch[at].data(text(&batch[at]).as_bytes()));
        }
        for at in speakers() {
            let client = &mut batch[at];
            let mut expected = text(client).into_bytes();
            client.nxt = moved(client.nxt, expected.len() as i64);
            if client.server_port == OTHER_PORT {
                expected.reverse();
            }
            assert_eq!(lab.collect(client, expected.len()), expected);
        }
    }
    // All are reset, and some come again at once: further on than before.
    for (n, client) in all.iter().enumerate() {
        lab.send(client, &client.segment(RST));
        lab.pace(n);
    }
    lab.settle();
    lab.wire.forget();
    assert_eq!(lab.served().usage("connections"), 0);
    for mut client in all.into_iter().step_by(997) {
        let old = client.irs;
        client.isn = moved(client.nxt, 100_000);
        client.nxt = client.isn;
        lab.connect(&mut client, &mss(1460));
        let by = since(client.irs, old);
        assert!(by > 0, "the numbers went back by {by}");
        lab.abort(&client);
    }
    lab.served().forget();
}

//! Rows N16, N17, N20, N37 to N40: many strangers, and a world that changes under open connections.

use crate::lab::packets::{ACK, RST, moved, mss};
use crate::lab::{Client, Family, Lab};
use crate::rows::{Row, rows};
use crate::wire::OUR_MAC;
use rustix::process::Signal;
use xtcp_bench::clock::now;

pub(crate) const ROWS: &[Row] = rows![
    Usual BOTH:
        row_n16_open_connections_work_through_a_flood_of_syns,
        row_n20_idle_connections_cost_a_record_each,
        row_n39_a_stalled_clock_causes_no_storm,
        row_n40_a_client_may_come_again_at_once;
    Usual V4:
        row_n38_a_neighbour_that_changes_its_station_is_found_again;
    Narrow BOTH:
        row_n17_forged_cookies_open_nothing_and_are_not_amplified;
    Hasty BOTH:
        row_n38_a_link_that_was_down_carries_what_it_carried,
        row_n38_clients_of_a_dataplane_that_was_restarted_are_reset;
];

/// Frames of a flood. A million a second for half a minute is more than this wire carries: what is
/// asked of such a flood are shares, which hold of any part of it.
const FLOOD: usize = 200_000;

/// A stranger on the link who is not the same twice.
fn stranger(family: Family, n: usize, client: &Client) -> Client {
    let host = 2000 + u16::try_from(n % 500).expect("few");
    let port = 1024 + u16::try_from(n / 500 % 60_000).expect("a port");
    Client { ip: family.host(host), port, ..client.clone() }
}

fn row_n16_open_connections_work_through_a_flood_of_syns(lab: &mut Lab, family: Family) {
    let mut honest = lab.open(family);
    let before = lab.counts();
    let model = lab.client(family);
    let (mut full, mut asked, mut answered) = (0, 0, 0);
    for n in 0..FLOOD {
        let stranger = stranger(family, n, &model);
        lab.send(&stranger, &stranger.syn().with(&mss(1460)));
        lab.pace(n);
        if n % 500 == 0 {
            // Sent once, and never again: what is lost is goodput that is lost.
            lab.wire.forget();
            let text = honest.data(b"through the flood");
            lab.send(&honest, &text);
            asked += 1;
            let answers = lab.answers(&honest);
            if answers.iter().any(|tcp| tcp.text == b"through the flood") {
                answered += 1;
                honest.nxt = moved(honest.nxt, 17);
                honest.rcv = moved(honest.rcv, 17);
                lab.send(&honest, &honest.segment(ACK));
            }
        }
        if n == FLOOD / 2 {
            // By now as many handshakes are kept as may be.
            full = lab.resident();
        }
    }
    lab.settle();
    lab.wire.forget();
    assert!(answered * 10 >= asked * 8, "{answered} of {asked} requests were answered at once");
    let after = lab.counts();
    let rose = |name| after.of(name) - before.of(name);
    // Each handshake that is kept has a record, and the rest went by cookie.
    assert!(rose("cookies-out") as usize > FLOOD - 70_000, "{:?}", after.beyond(&before));
    let grown = lab.resident().saturating_sub(full);
    assert!(grown < 1 << 20, "{grown} bytes more in the second half");
    lab.assert_serves(family);
    lab.assert_alive(honest);
    lab.restart();
}

/// A cookie is out, so that ACKs are looked at for one; none of these is it.
///
/// The ration of resets is an address's, or an IPv6 network's of 64 bits: whoever has one address of
/// such a network has them all (RFC 4941), and a ration for each would be none. So a neighbour that
/// shares the forger's network shares its ration with IPv6, and not with IPv4.
fn row_n17_forged_cookies_open_nothing_and_are_not_amplified(lab: &mut Lab, family: Family) {
    let honest = lab.open(family);
    let model = lab.client(family);
    let flooder = |n: u16| Client { ip: family.host(300 + n), port: 2000 + n, ..model.clone() };
    for n in 0..20 {
        lab.send(&flooder(n), &flooder(n).syn().with(&mss(1460)));
    }
    lab.settle();
    lab.wire.forget();
    let before = lab.counts();
    assert!(before.of("cookies-out") >= 4, "handshakes go by cookie");
    let began = now();
    for n in 0..100_000_usize {
        let forger =
            Client { port: 1024 + (n % 60_000) as u16, ip: family.host(8), ..model.clone() };
        let ack = moved(0, n as i64 * 7_654_321);
        lab.send(&forger, &Client { rcv: ack, ..forger.clone() }.segment(ACK));
        lab.pace(n);
    }
    lab.settle();
    lab.wire.forget();
    let seconds = began.elapsed().as_secs() + 2;
    let after = lab.counts();
    let rose = |name| after.of(name) - before.of(name);
    assert!(rose("resets-out") <= 1000 * seconds, "{} in {seconds} s", rose("resets-out"));
    assert_eq!(rose("cookie-forged"), rose("resets-out"));
    // None was lost on its way, none is answered by more than one segment, and none is longer.
    assert_eq!(rose("cookie-forged") + rose("reset-rationed"), 100_000);
    assert!(rose("segments-out") <= rose("segments-in"), "{:?}", after.beyond(&before));
    assert!(rose("bytes-out") <= rose("bytes-in"), "{:?}", after.beyond(&before));
    assert_eq!((rose("connections-opened"), rose("cookies-back")), (0, 0));
    // The forger's ration is nobody else's.
    let elsewhere = match family {
        Family::V4 => family.host(9),
        Family::V6 => std::net::Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 9).into(),
    };
    let client = Client { server_port: crate::lab::CLOSED, ip: elsewhere, ..lab.client(family) };
    assert!(lab.answer(&client, &client.syn()).has(RST));
    lab.assert_serves(family);
    lab.assert_alive(honest);
    for n in 0..20 {
        lab.send(&flooder(n), &flooder(n).segment(RST).seq(1));
    }
    lab.settle();
    lab.wire.forget();
}

fn row_n20_idle_connections_cost_a_record_each(lab: &mut Lab, family: Family) {
    const CLIENTS: usize = 10_000;
    let resident = lab.resident();
    let mut all = Vec::with_capacity(CLIENTS);
    while all.len() < CLIENTS {
        let mut batch: Vec<Client> = (0..100).map(|_| lab.client(family)).collect();
        for client in &batch {
            lab.send(client, &client.syn().with(&mss(1460)));
        }
        for client in &mut batch {
            let answer = lab.next(client);
            (client.nxt, client.rcv) = (answer.ack, moved(answer.seq, 1));
            lab.send(client, &client.segment(ACK));
        }
        all.append(&mut batch);
    }
    // A byte from each now and then, and to each its own.
    for batch in all.chunks_mut(100) {
        for client in batch.iter_mut() {
            let [_, low] = client.port.to_be_bytes();
            lab.send(client, &client.data(&[low]));
            client.nxt = moved(client.nxt, 1);
        }
        for client in batch {
            let [_, low] = client.port.to_be_bytes();
            assert_eq!(lab.collect(client, 1), [low]);
        }
    }
    lab.settle();
    let each = lab.resident().saturating_sub(resident) / CLIENTS as u64;
    assert!(each <= 256, "{each} bytes for each");
    for (n, client) in all.iter().enumerate() {
        lab.send(client, &client.segment(RST));
        lab.pace(n);
    }
    lab.settle();
    lab.wire.forget();
}

fn row_n38_a_neighbour_that_changes_its_station_is_found_again(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    lab.echo(&mut client, b"before");
    lab.settle();
    lab.heard(&client);
    let new = [2, 0x77, 0, 0, 0, 2];
    lab.wire.station = new;
    // The probe hears what goes to its old station; a host that has moved does not, and all it can
    // do is to send again.
    let text = client.data(b"after");
    lab.send(&client, &text);
    let of_client = client.clone();
    let found = lab.wire.wait_for(2 * crate::lab::PATIENCE, |seen| {
        let tcp = crate::lab::for_client(&of_client, seen)?;
        (seen.to == new && tcp.text == b"after").then_some(tcp)
    });
    assert!(found.is_some(), "it still sends to where nobody is");
    lab.wire.station = OUR_MAC;
    lab.restart();
}

fn row_n38_clients_of_a_dataplane_that_was_restarted_are_reset(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    lab.echo(&mut client, b"before");
    lab.restart();
    let answer = lab.answer(&client, &client.data(b"after"));
    assert_eq!((answer.flags & RST, answer.seq), (RST, client.rcv));
    lab.assert_serves(family);
}

fn row_n38_a_link_that_was_down_carries_what_it_carried(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    lab.echo(&mut client, b"before");
    lab.send(&client, &client.data(b"under way"));
    client.nxt = moved(client.nxt, 9);
    lab.next(&client);
    // For some of its retransmission timeouts, and not as long as the user timeout.
    lab.set_link("down");
    let began = now();
    while began.elapsed() < std::time::Duration::from_millis(300) {
        lab.ask("show status");
    }
    lab.set_link("up");
    lab.await_addresses();
    assert_eq!(lab.collect(&mut client, 9), b"under way");
    lab.settle();
    lab.heard(&client);
    lab.echo(&mut client, b"after");
    lab.assert_alive(client);
    lab.assert_serves(family);
}

/// A clock that jumps by an hour is the simulation's: this machine's does not.
fn row_n39_a_stalled_clock_causes_no_storm(lab: &mut Lab, family: Family) {
    const CLIENTS: usize = 50;
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| lab.open(family)).collect();
    for client in &mut clients {
        lab.send(client, &client.data(b"under way"));
        client.nxt = moved(client.nxt, 9);
    }
    lab.settle();
    // Where the machine was busy, more than once.
    clients.iter().for_each(|client| assert!(!lab.heard(client).is_empty()));
    let before = lab.count("retransmission-timeouts");
    lab.process().signal(Signal::STOP);
    // Many times its retransmission timeout.
    std::thread::sleep(std::time::Duration::from_secs(5));
    clients.iter().for_each(|client| drop(lab.heard(client)));
    lab.process().signal(Signal::CONT);
    lab.settle();
    let timeouts = lab.count("retransmission-timeouts") - before;
    assert!(timeouts <= 2 * CLIENTS as u64, "{timeouts} timers fired");
    for mut client in clients {
        let answers = lab.heard(&client);
        assert!((1..=2).contains(&answers.len()), "once is enough: {answers:?}");
        assert_eq!(answers[0].text, b"under way");
        client.rcv = moved(client.rcv, 9);
        lab.send(&client, &client.segment(ACK));
        lab.assert_alive(client);
    }
    lab.assert_serves(family);
}

fn row_n40_a_client_may_come_again_at_once(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    for _ in 0..50 {
        lab.echo(&mut client, b"once more");
        let old = client.irs;
        lab.send(&client, &client.segment(RST));
        client.isn = moved(client.nxt, 100_000);
        client.nxt = client.isn;
        lab.connect(&mut client, &mss(1460));
        let by = crate::lab::packets::since(client.irs, old);
        assert!(by > 0, "the numbers went back by {by}");
    }
    lab.assert_alive(client);
}

//! Rows N16, N17, N20, N38 to N40: many strangers, and a world that changes under open connections.

use crate::lab::packets::{ACK, RST, moved, mss};
use crate::lab::{Client, Family, Lab};
use crate::rows::{Row, rows};
use crate::wire::OUR_MAC;
use rustix::process::Signal;
use xtcp_bench::clock::now;

pub(crate) const ROWS: &[Row] = rows![
    Usual BOTH:
        row_n16_open_connections_work_through_a_flood_of_syns,
        row_n17_forged_cookies_open_nothing_and_are_not_amplified,
        row_n20_idle_connections_cost_a_record_each,
        row_n39_a_stalled_clock_causes_no_storm,
        row_n40_a_client_may_come_again_at_once;
    Usual V4:
        row_n38_a_neighbour_that_changes_its_station_is_found_again;
    Hasty BOTH:
        row_n38_clients_of_a_dataplane_that_was_restarted_are_reset;
];

/// Frames of a flood. A million a second for half a minute is more than this wire carries.
const FLOOD: usize = 100_000;

/// A stranger on the link who is not the same twice.
fn stranger(family: Family, n: usize, client: &Client) -> Client {
    let host = 2000 + u16::try_from(n % 500).expect("few");
    let port = 1024 + u16::try_from(n / 500 % 60_000).expect("a port");
    Client { ip: family.host(host), port, ..client.clone() }
}

fn row_n16_open_connections_work_through_a_flood_of_syns(lab: &mut Lab, family: Family) {
    let mut honest = lab.open(family);
    let (resident, before) = (lab.resident(), lab.counts());
    let model = lab.client(family);
    for n in 0..FLOOD {
        let stranger = stranger(family, n, &model);
        lab.send(&stranger, &stranger.syn().with(&mss(1460)));
        lab.pace(n);
        if n % 1000 == 0 {
            lab.wire.forget();
            lab.echo(&mut honest, b"through the flood");
        }
    }
    lab.settle();
    lab.wire.forget();
    let after = lab.counts();
    assert!(after.of("cookies-out") > before.of("cookies-out"), "{:?}", after.beyond(&before));
    let grown = lab.resident().saturating_sub(resident);
    // Each handshake that is kept has a record, and not more than are allowed are kept.
    assert!(grown < 65_536 * 640, "{grown} bytes more");
    lab.assert_serves(family);
    lab.assert_alive(honest);
    lab.restart();
}

fn row_n17_forged_cookies_open_nothing_and_are_not_amplified(lab: &mut Lab, family: Family) {
    let honest = lab.open(family);
    let before = lab.counts();
    let model = lab.client(family);
    let began = now();
    for n in 0..50_000_usize {
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
    let resets = after.of("resets-out") - before.of("resets-out");
    assert!(resets <= 1000 * seconds, "{resets} resets in {seconds} s");
    assert_eq!(after.of("connections-opened"), before.of("connections-opened"));
    // The forger's ration is nobody else's.
    let honest_host = match family {
        Family::V4 => family.host(9),
        Family::V6 => std::net::Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 9).into(),
    };
    let client = Client { server_port: crate::lab::CLOSED, ip: honest_host, ..lab.client(family) };
    assert!(lab.answer(&client, &client.syn()).has(RST));
    lab.assert_serves(family);
    lab.assert_alive(honest);
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

fn row_n39_a_stalled_clock_causes_no_storm(lab: &mut Lab, family: Family) {
    let mut client = lab.open(family);
    lab.send(&client, &client.data(b"under way"));
    client.nxt = moved(client.nxt, 9);
    lab.next(&client);
    lab.process().signal(Signal::STOP);
    // Many times its retransmission timeout.
    std::thread::sleep(std::time::Duration::from_secs(2));
    lab.heard(&client);
    lab.process().signal(Signal::CONT);
    let answers = lab.answers(&client);
    assert!((1..=2).contains(&answers.len()), "once is enough: {answers:?}");
    assert_eq!(lab.collect(&mut client, 9), b"under way");
    lab.assert_alive(client);
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

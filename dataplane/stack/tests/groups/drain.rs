//! Draining: nobody new, everybody away, never faster than was said.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use xtcp_stack::{Cd, Event, Instant, Manner, Misuse};

use super::{FIRST, NOTHING, PORT, info, let_pass, open_crowd, room_for, with, with_group};
use crate::sim::peer::{Peer, ack, data, fin, syn};
use crate::sim::rng::Rng;
use crate::sim::{QUEUE, for_each_seed, ordinary_group, xtcp_group};

const FAST: u32 = 1_000_000;

fn drain(peer: &mut Peer<'_>, per_second: u32, manner: Manner) {
    let (group, now) = (peer.host.group, peer.now);
    peer.host.stack.drain_group(group, per_second, manner, now).expect("open");
}

/// A client that closes when it is closed to.
fn answer_fin(peer: &mut Peer<'_>, port: u16, segment: &str) {
    if segment.starts_with("FA ") {
        peer.use_port(port);
        peer.give(fin(1, 2));
    }
}

#[test]
fn a_group_without_connections_is_drained_at_once_and_once() {
    with_group(&xtcp_group(PORT), |peer| {
        drain(peer, 1, Manner::WhenIdle);
        assert_eq!(peer.events(), ["drained"]);
        drain(peer, 5, Manner::Reset);
        peer.wait(Duration::from_secs(10));
        assert_eq!(peer.events(), NOTHING);
        assert_eq!(peer.host.stack.poll_timeout(), None, "nothing is looked at any more");
        assert!(info(peer, peer.host.group).draining);
    });
}

#[test]
fn a_draining_group_takes_nobody() {
    with_group(&ordinary_group(PORT), |peer| {
        peer.open();
        drain(peer, 0, Manner::Close);
        peer.use_port(4001);
        assert_eq!(peer.give(syn()), ["RA 0+0 ack 1"], "as from a closed port");
        let (group, now) = (peer.host.group, peer.now);
        let remote = SocketAddr::from(([10, 0, 0, 1], 9));
        let refused = peer.host.stack.connect(group, remote, now);
        assert_eq!(refused, Err(Misuse::Draining));
        let pool = peer.host.pool;
        let other = peer.host.stack.open_group(pool, QUEUE, &ordinary_group(PORT)).expect("room");
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"], "another group does");
        assert_eq!(info(peer, other).connections, 1);
        assert_eq!(info(peer, group).connections, 1);
    });
}

/// At a rate of 0 the connections end as they would.
#[test]
fn at_no_rate_nobody_is_sent_away() {
    with_group(&ordinary_group(PORT), |peer| {
        peer.open();
        drain(peer, 0, Manner::Reset);
        assert_eq!(peer.wait(Duration::from_secs(60)), NOTHING);
        peer.give(fin(1, 1));
        assert_eq!(peer.events(), ["finished 0"]);
        peer.close();
        peer.turn();
        peer.give(ack(2, 2));
        assert_eq!(peer.events(), ["closed Closed held 0", "drained"]);
        assert_eq!(info(peer, peer.host.group).counts.drained, 0);
    });
}

#[test]
fn when_idle_waits_for_what_is_under_way() {
    with_group(&xtcp_group(PORT), |peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        drain(peer, FAST, Manner::WhenIdle);
        assert_eq!(peer.wait(Duration::from_secs(60)), NOTHING, "the application has it");
        peer.commit(7);
        peer.send(b"answer");
        assert_eq!(peer.turn(), ["PA 1+6 ack 8"]);
        let sent = peer.wait(Duration::from_millis(100));
        assert_eq!(sent, NOTHING, "the client has not acknowledged");
        assert_eq!(peer.give(ack(8, 7)), NOTHING);
        let sent = peer.wait(Duration::from_millis(100));
        assert!(sent[0].ends_with("FA 7+0 ack 8"), "{sent:?}");
        assert_eq!(peer.give(fin(8, 8)), ["A 8+0 ack 9"]);
        assert_eq!(peer.events(), ["closed Closed held 0", "drained"]);
        assert_eq!(info(peer, peer.host.group).counts.drained, 1);
    });
}

/// What waits to be accepted may still be, and what closes already is left to close.
#[test]
fn when_idle_leaves_handshakes_and_closes_alone() {
    with_group(&xtcp_group(PORT), |peer| {
        peer.give(syn());
        assert_eq!(peer.events(), ["acceptable"]);
        drain(peer, FAST, Manner::WhenIdle);
        assert_eq!(peer.wait(Duration::from_secs(1)), NOTHING);
        peer.accept();
        assert_eq!(peer.turn(), ["SA 0+0 ack 1"]);
        assert_eq!(peer.give(data(1, 1, b"request")), NOTHING);
        assert_eq!(peer.events(), ["opened", "data 0+7 request"]);
        peer.commit(7);
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 8"]);
        peer.give(fin(8, 2));
        assert_eq!(peer.events(), ["closed Closed held 0", "drained"]);
        assert_eq!(info(peer, peer.host.group).counts.drained, 0);
    });
}

#[test]
fn close_sends_what_is_queued_and_then_fin() {
    with_group(&ordinary_group(PORT), |peer| {
        peer.open();
        peer.give(ack(1, 1).window(0));
        peer.send(b"answer");
        drain(peer, FAST, Manner::Close);
        assert_eq!(peer.turn(), NOTHING, "the client takes nothing now");
        assert_eq!(peer.give(ack(1, 1)), ["FPA 1+6 ack 1"]);
        assert_eq!(peer.give(fin(1, 8)), ["A 8+0 ack 2"]);
        assert_eq!(peer.events(), ["closed Closed held 0", "drained"]);
    });
}

/// SHLD-3: a client whose request nobody took must know; the application keeps what it reads.
#[test]
fn close_resets_a_client_whose_request_was_not_taken() {
    with_group(&xtcp_group(PORT), |peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        drain(peer, FAST, Manner::Close);
        assert_eq!(peer.turn(), ["RA 1+0 ack 1"]);
        assert_eq!(peer.events(), ["closed Aborted held 7"]);
        assert_eq!(peer.events(), NOTHING, "it is still read");
        peer.commit(7);
        assert_eq!(peer.events(), ["drained"]);
        peer.host.assert_nothing_held();
    });
}

#[test]
fn reset_resets_whatever_is_under_way() {
    with_group(&ordinary_group(PORT), |peer| {
        peer.open();
        peer.send(b"never seen");
        assert_eq!(peer.turn(), ["PA 1+10 ack 1"]);
        peer.use_port(4001);
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"], "a handshake under way, too");
        drain(peer, FAST, Manner::Reset);
        let mut resets = 0;
        let_pass(peer, Duration::from_secs(1), |_, _, segment| {
            resets += usize::from(segment.starts_with("RA "));
        });
        assert_eq!(resets, 2);
        assert_eq!(peer.events(), ["closed Aborted held 0", "drained"]);
        peer.host.assert_nothing_held();
    });
}

/// More connections than one step of the walk looks at, each told, and then the end.
#[test]
fn a_large_group_is_drained_to_the_last() {
    const COUNT: u16 = 3000;
    with(&room_for(COUNT.into()), &ordinary_group(PORT), |peer| {
        open_crowd(peer, COUNT);
        let start = peer.now;
        drain(peer, 10_000, Manner::WhenIdle);
        let mut last = start;
        let_pass(peer, Duration::from_secs(2), |peer, port, segment| {
            last = last.max(peer.now);
            answer_fin(peer, port, segment);
        });
        let took = last.since(start);
        let expected = Duration::from_millis(300);
        assert!(took >= expected - Duration::from_millis(15), "too fast: {took:?}");
        assert!(took <= expected + Duration::from_millis(60), "too slow: {took:?}");
        let events = peer.events();
        assert_eq!(events.len(), usize::from(COUNT) + 1);
        assert_eq!(events.iter().filter(|line| *line == "closed Closed held 0").count(), 3000);
        assert_eq!(info(peer, peer.host.group).counts.drained, COUNT.into());
    });
}

/// A drain that is asked for again goes on in the new way.
#[test]
fn a_drain_can_change_its_rate_and_manner() {
    with_group(&ordinary_group(PORT), |peer| {
        open_crowd(peer, 100);
        drain(peer, 1, Manner::WhenIdle);
        let mut ends = Vec::new();
        let_pass(peer, Duration::from_millis(4_500), |_, port, segment| {
            ends.push((port, segment.to_owned()));
        });
        assert!(ends.iter().all(|(_, segment)| segment.starts_with("FA ")));
        let ports: std::collections::HashSet<u16> = ends.iter().map(|(port, _)| *port).collect();
        assert_eq!(ports.len(), 5, "one at once, and one a second");
        drain(peer, 1_000, Manner::Reset);
        let mut resets = 0;
        let_pass(peer, Duration::from_secs(1), |_, _, segment| {
            resets += usize::from(segment.starts_with("RA "));
        });
        assert_eq!(resets, 100, "also those whose FIN was not answered");
        assert_eq!(peer.events().len(), 101);
        peer.host.assert_nothing_held();
    });
}

#[test]
fn connections_and_group_of_a_drain_can_be_ended_otherwise() {
    with_group(&ordinary_group(PORT), |peer| {
        open_crowd(peer, 3);
        let cd = peer.cd();
        drain(peer, 0, Manner::Close);
        let (group, now) = (peer.host.group, peer.now);
        peer.host.stack.abort(group, cd, now).expect("open");
        assert_eq!(peer.events(), ["closed Aborted held 0"]);
        peer.host.stack.close_group(group, now).expect("open");
        peer.use_port(1);
        assert_eq!(peer.turn().len(), 3);
        assert_eq!(peer.events(), NOTHING, "a closed group tells nothing, not even its drain");
        assert_eq!(peer.host.stack.poll_timeout().filter(|at| *at == now), None);
        peer.host.assert_nothing_held();
        let gone = peer.host.stack.drain_group(group, 1, Manner::Close, now);
        assert_eq!(gone, Err(Misuse::StaleGroup));
    });
    with_group(&ordinary_group(PORT), |peer| {
        // Drained and not told yet when it is closed; and its place is another's.
        drain(peer, 1, Manner::Close);
        let (group, pool, now) = (peer.host.group, peer.host.pool, peer.now);
        peer.host.stack.close_group(group, now).expect("open");
        let again = ordinary_group(PORT);
        peer.host.group = peer.host.stack.open_group(pool, QUEUE, &again).expect("room");
        assert_eq!(peer.events(), NOTHING);
        peer.open();
    });
}

/// The application dies while its group drains: the drain goes on, and its successor hears of the
/// end alone.
#[test]
fn a_successor_hears_of_a_drain_its_predecessor_did_not_outlive() {
    with_group(&xtcp_group(PORT), |peer| {
        peer.open();
        peer.use_port(4001);
        peer.open();
        peer.give(data(1, 1, b"request"));
        drain(peer, 0, Manner::WhenIdle);
        let now = peer.now;
        peer.host.stack.orphan_queue(QUEUE, now);
        drain(peer, FAST, Manner::Reset);
        let mut resets = 0;
        let_pass(peer, Duration::from_secs(1), |_, _, segment| {
            resets += usize::from(segment.starts_with("RA "));
        });
        assert_eq!(resets, 2);
        peer.host.stack.tell_again(QUEUE);
        assert_eq!(peer.events(), ["drained"]);
        peer.host.assert_nothing_held();
    });
}

/// One client of a crowd under a drain, and what it knows.
#[derive(Default)]
struct Client {
    sent: i64,
    acked: i64,
    got: i64,
    over: bool,
}

/// Any traffic, any rates and manners: in no time are more connections ended than the rate allows,
/// every connection is told once that it is closed, and after the last of them the drain's end.
#[test]
fn no_drain_is_too_fast_and_none_loses_a_connection() {
    for_each_seed(60, |seed| {
        let mut rng = Rng::new(seed);
        let group = if seed % 2 == 0 { xtcp_group(PORT) } else { ordinary_group(PORT) };
        let count = 20 + u16::try_from(rng.below(60)).expect("few");
        with(&room_for(count.into()), &group, |peer| {
            let mut crowd: HashMap<u16, Client> = HashMap::new();
            for port in FIRST..FIRST + count {
                peer.use_port(port);
                peer.open();
                crowd.insert(port, Client::default());
            }
            let mut drained = false;
            let mut told: HashMap<Cd, u32> = HashMap::new();
            let manners = [Manner::WhenIdle, Manner::Close, Manner::Reset];
            for round in 0..6 {
                let rate = 1 + u32::try_from(rng.below(200)).expect("small");
                let manner = manners[usize::try_from(rng.below(3)).expect("small")];
                drain(peer, rate, manner);
                let (start, before) = (peer.now, info(peer, peer.host.group).counts.drained);
                for _ in 0..rng.below(200) {
                    step(peer, &mut crowd, &mut rng, &mut told, &mut drained);
                    peer.now = peer.now + Duration::from_micros(rng.below(8_000));
                    let ended = info(peer, peer.host.group).counts.drained - before;
                    assert!(ended <= allowed(rate, start, peer.now), "{ended} in round {round}");
                }
            }
            drain(peer, 10_000, Manner::Reset);
            for _ in 0..200 {
                step(peer, &mut crowd, &mut rng, &mut told, &mut drained);
                peer.now = peer.now + Duration::from_millis(5);
            }
            assert!(drained, "the drain ends: {:?}", info(peer, peer.host.group));
            assert_eq!(told.len(), usize::from(count), "each of them is told of");
            assert!(told.values().all(|times| *times == 1), "once");
            assert_eq!(info(peer, peer.host.group).connections, 0);
        });
    });
}

/// Connections that a drain may end between two times.
fn allowed(rate: u32, from: Instant, to: Instant) -> u64 {
    let micros = to.since(from) + Duration::from_millis(10);
    let by_rate = u128::from(rate) * micros.as_micros() / 1_000_000;
    u64::try_from(by_rate).expect("small") + 1
}

/// Some clients say something, the application does something about it, and frames go out.
fn step(
    peer: &mut Peer<'_>,
    crowd: &mut HashMap<u16, Client>,
    rng: &mut Rng,
    told: &mut HashMap<Cd, u32>,
    drained: &mut bool,
) {
    let ports: Vec<u16> = {
        let mut ports: Vec<u16> = crowd.keys().copied().collect();
        ports.sort_unstable();
        ports
    };
    for port in ports {
        let client = crowd.get_mut(&port).expect("known");
        if client.over || !rng.chance(100_000) {
            continue;
        }
        let repeats = client.sent > client.acked;
        if !repeats {
            client.sent += 4;
        }
        let seq = 1 + client.sent - 4;
        peer.use_port(port);
        peer.give(data(seq, 1 + client.got, b"ping"));
    }
    work(peer, rng, told, drained);
    peer.use_port(1);
    for line in peer.turn() {
        let (port, segment) = line["port ".len()..].split_once(": ").expect("a port");
        let port: u16 = port.parse().expect("a port");
        let client = crowd.get_mut(&port).expect("known");
        if segment.starts_with('R') {
            client.over = true;
            continue;
        }
        hear(peer, port, client, segment);
    }
    work(peer, rng, told, drained);
}

/// A client takes a segment, acknowledges it, and closes when it is closed to.
fn hear(peer: &mut Peer<'_>, port: u16, client: &mut Client, segment: &str) {
    let (flags, rest) = segment.split_once(' ').expect("flags");
    let (seq, rest) = rest.split_once('+').expect("a sequence number");
    let (len, acked) = rest.split_once(" ack ").expect("an acknowledgement");
    let [seq, len, acked] = [seq, len, acked].map(|text| text.parse::<i64>().expect("a number"));
    client.acked = client.acked.max(acked - 1);
    if seq == 1 + client.got {
        client.got += len;
    }
    peer.use_port(port);
    let next = 1 + client.sent;
    if flags.contains('F') && seq + len == 1 + client.got {
        client.over = true;
        peer.give(fin(next, 2 + client.got));
    } else if len > 0 {
        peer.give(ack(next, 1 + client.got));
    }
}

/// The application answers most of what it is given, and keeps count of what it is told.
fn work(peer: &mut Peer<'_>, rng: &mut Rng, told: &mut HashMap<Cd, u32>, drained: &mut bool) {
    let now = peer.now;
    while let Some(event) = peer.host.stack.poll_event(QUEUE) {
        assert!(!*drained, "after the end comes {event:?}");
        match event {
            Event::Data { group, connection, len, offset, .. } => {
                if rng.chance(700_000) {
                    let end = offset + u64::from(len);
                    // It may have been closed meanwhile.
                    let _ = peer.host.stack.commit(group, connection, end, false, now);
                    let _ = peer.host.stack.send(group, connection, b"pong".as_slice(), now);
                }
            }
            Event::Closed { group, connection, held, .. } => {
                *told.entry(connection).or_default() += 1;
                if held > 0 {
                    peer.host.stack.close(group, connection, now).expect("something is held");
                }
            }
            Event::Drained { group } => {
                assert_eq!(group, peer.host.group);
                *drained = true;
            }
            Event::Finished { .. } => {}
            event => panic!("{event:?}"),
        }
    }
}

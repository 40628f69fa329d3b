//! Fig. 6a to 6i: what the service does on each request of the application's and each packet of the
//! client's. Block numbers are the figures'.

use std::time::Duration;

use xtcp_stack::{Misuse, Usage};

use crate::sim::peer::{Peer, ack, data, syn};
use crate::sim::{Memory, QUEUE, xtcp_group};
use crate::{NOTHING, PORT, before_any_connection, flow};

/// Bytes in use of each pool's shared receive buffer.
fn receive_used(peer: &Peer<'_>) -> Vec<usize> {
    peer.host.stack.pools().map(|pool| pool.receive_used).collect()
}

fn usage(peer: &Peer<'_>) -> Usage {
    peer.host.stack.usage()
}

/// Shows sequence numbers of a RST that answers a SYN, which come from nowhere.
fn flags_and_ack(lines: &[String]) -> Vec<String> {
    let of = |line: &String| {
        let mut words = line.split(' ');
        let flags = words.next().unwrap_or_default().to_owned();
        flags + " " + &words.skip(1).collect::<Vec<_>>().join(" ")
    };
    lines.iter().map(of).collect()
}

#[test]
fn fig_6a_a_pool_is_made_with_a_receive_buffer_of_its_own_and_torn_down_with_all_in_it() {
    before_any_connection(|peer| {
        let memory = Box::leak(Box::new(Memory::new(1 << 18))).aligned();
        let bytes = memory.len() / 64 * 64;
        let before = peer.host.stack.pools().count();
        let pool = peer.host.stack.open_pool(&mut memory[..bytes]).expect("room for a pool");
        let group = peer.host.stack.open_group(pool, QUEUE, &xtcp_group(PORT + 1));
        let group = group.expect("room for a group");
        assert_eq!(peer.host.stack.pools().count(), before + 1);
        let info = peer.host.stack.pools().find(|info| info.pool == pool).expect("it is there");
        assert!(info.receive_bytes > bytes * 9 / 10 && info.receive_bytes < bytes, "{info:?}");
        assert_eq!((info.connections, info.receive_used), (0, 0));

        // A client of the old pool and one of the new one.
        peer.open();
        assert_eq!(peer.give(data(1, 1, b"old")), NOTHING);
        let old = receive_used(peer);
        assert!(old[0] > 0 && old[1] == 0, "{old:?}");
        peer.use_port(4001);
        peer.call(PORT + 1);
        peer.give(syn());
        assert!(peer.events().ends_with(&["acceptable".to_owned()]));
        let connection = peer.cd();
        peer.host.stack.accept(group, connection, peer.now).expect("acceptable");
        assert_eq!(peer.turn(), ["SA 0+0 ack 1"]);
        assert_eq!(peer.give_all([ack(1, 1), data(1, 1, b"new")]), NOTHING);
        let both = receive_used(peer);
        assert!(both[0] == old[0] && both[1] > 0, "each in its own: {both:?}");

        let given_back = peer.host.stack.close_pool(pool, peer.now).expect("the memory again");
        assert_eq!(given_back.len(), bytes);
        let reset = peer.turn();
        assert!(reset.len() == 1 && reset[0].starts_with('R'), "{reset:?}");
        assert_eq!(receive_used(peer), old[..1], "the other pool goes on");
        assert!(peer.host.stack.groups().all(|info| info.group != group), "its group went with it");
        peer.use_port(4002);
        assert_eq!(flags_and_ack(&peer.give(syn())), ["RA ack 1"], "nobody listens there");
    });
}

#[test]
fn fig_6b_a_group_is_one_descriptor_for_all_its_connections_and_closes_with_them() {
    before_any_connection(|peer| {
        let group = peer.host.group;
        let mut connections = Vec::new();
        for port in 5000..5003 {
            peer.use_port(port);
            peer.open();
            assert_eq!(peer.give(data(1, 1, b"hello")), NOTHING);
            assert_eq!(peer.events(), ["data 0+5 hello"]);
            connections.push(peer.cd());
        }
        let info = peer.host.stack.groups().next().expect("one group");
        assert_eq!((info.group, info.connections, info.counts.accepted), (group, 3, 3));
        for &connection in &connections {
            let attached = peer.host.stack.connection(connection).expect("open");
            assert_eq!(attached.group, group);
            peer.host.stack.commit(group, connection, 5, false, peer.now).expect("of this group");
        }
        let acknowledged = peer.turn();
        assert_eq!(acknowledged.len(), 3, "{acknowledged:?}");

        peer.host.stack.close_group(group, peer.now).expect("it is open");
        let resets = peer.turn();
        assert!(resets.len() == 3 && resets.iter().all(|line| line.contains("R")), "{resets:?}");
        let refused = peer.host.stack.send(group, connections[0], b"late".as_slice(), peer.now);
        assert!(matches!(refused, Err(Misuse::StaleGroup | Misuse::StaleConnection)));
        assert_eq!(peer.host.stack.groups().count(), 0);
        peer.use_port(5003);
        assert_eq!(flags_and_ack(&peer.give(syn())), ["RA ack 1"], "nobody listens there");
        peer.host.assert_nothing_held();
    });
}

#[test]
fn fig_6c_a_connection_request_is_told_and_accepting_completes_the_handshake() {
    before_any_connection(|peer| {
        assert_eq!(peer.give(syn()), NOTHING, "622");
        assert_eq!(peer.events(), ["acceptable"], "624");
        peer.accept();
        assert_eq!(peer.turn(), ["SA 0+0 ack 1"], "628");
        assert_eq!(peer.give(ack(1, 1)), NOTHING);
        assert_eq!(peer.events(), ["opened"]);
        let info = peer.host.stack.connection(peer.cd()).expect("open");
        assert_eq!(info.group, peer.host.group, "attached");
    });
}

#[test]
fn fig_6c_a_connection_request_that_is_not_accepted_in_time_is_rejected() {
    before_any_connection(|peer| {
        assert_eq!(peer.give(syn()), NOTHING, "622");
        assert_eq!(peer.events(), ["acceptable"], "624");
        assert_eq!(peer.wait(Duration::from_millis(2900)), NOTHING, "it may still be accepted");
        let sent = peer.wait(Duration::from_millis(200));
        assert!(sent.len() == 1 && sent[0].ends_with(" ack 1") && sent[0].contains(": RA "));
        assert_eq!(peer.events(), ["closed Refused held 0"]);
        let (group, connection) = (peer.host.group, peer.cd());
        let refused = peer.host.stack.accept(group, connection, peer.now);
        assert_eq!(refused, Err(Misuse::StaleConnection), "too late");
        peer.host.assert_nothing_held();
    });
}

#[test]
fn fig_6d_the_parameters_of_a_connection_are_its_client_s_address_and_port() {
    before_any_connection(|peer| {
        for port in [4000, 60_001] {
            peer.use_port(port);
            peer.open();
            let info = peer.host.stack.connection(peer.cd()).expect("open");
            assert_eq!((info.remote.ip(), info.remote.port()), (peer.client, port));
            assert_eq!((info.local.ip(), info.local.port()), (peer.server, PORT));
        }
    });
}

#[test]
fn fig_6e_a_request_is_buffered_in_its_pool_told_of_once_and_not_acknowledged() {
    flow(|flow| {
        let request = flow.client.request(b"request");
        assert_eq!(flow.server_gets(request), NOTHING);
        assert!(receive_used(flow.peer)[0] >= 7, "646: in the shared buffer");
        assert_eq!(flow.peer.events(), ["data 0+7 request"], "648");
        assert_eq!(flow.peer.events(), NOTHING, "once");
    });
}

#[test]
fn fig_6e_of_a_repeated_request_the_cached_reply_and_its_acknowledgement_are_queued_again() {
    flow(|flow| {
        let request = flow.client.request(b"request");
        assert_eq!(flow.server_gets(request), NOTHING);
        assert_eq!(flow.peer.events(), ["data 0+7 request"]);
        flow.peer.commit(7);
        flow.peer.send(b"reply");
        assert_eq!(flow.peer.turn(), ["PA 1+5 ack 8"]);
        for _ in 0..3 {
            let again = flow.client.again();
            assert_eq!(flow.server_gets(again), ["PA 1+5 ack 8"], "650 and 652, in one segment");
            assert_eq!(flow.peer.events(), NOTHING, "the application is not told");
            assert_eq!(receive_used(flow.peer), [0], "nothing is buffered twice");
        }
    });
}

#[test]
fn fig_6f_a_read_gives_what_was_buffered_and_it_stays_until_it_is_acknowledged() {
    flow(|flow| {
        let request = flow.client.request(b"request");
        assert_eq!(flow.server_gets(request), NOTHING);
        let used = receive_used(flow.peer);
        assert_eq!(flow.peer.events(), ["data 0+7 request"], "656 and 658");
        assert_eq!(receive_used(flow.peer), used, "reading frees nothing");
        flow.peer.commit(7);
        assert_eq!(receive_used(flow.peer), [0], "acknowledging does");
        assert_eq!(flow.peer.turn(), ["A 1+0 ack 8"]);
    });
}

#[test]
fn fig_6g_an_answer_is_queued_with_its_acknowledgement_cached_and_timed() {
    flow(|flow| {
        let request = flow.client.request(b"onetwo");
        assert_eq!(flow.server_gets(request), NOTHING);
        assert_eq!(flow.peer.events(), ["data 0+6 onetwo"]);
        assert_eq!(usage(flow.peer).transmit_used, 0);
        flow.peer.commit(3);
        flow.peer.send(b"answer");
        assert!(usage(flow.peer).transmit_used >= 6, "668: in the shared transmit buffer");
        assert_eq!(flow.peer.turn(), ["PA 1+6 ack 4"], "664, and 666 to the byte");
        let resend = flow.peer.host.stack.poll_timeout().expect("670");
        assert!(resend > flow.peer.now && resend <= flow.peer.now + Duration::from_secs(1));
    });
}

/// The transmit buffer is one for all pools, groups and connections; the amount acknowledged is each
/// connection's own.
#[test]
fn fig_6g_answers_of_all_connections_share_one_transmit_buffer() {
    before_any_connection(|peer| {
        let mut used = 0;
        for port in 5000..5004 {
            peer.use_port(port);
            peer.open();
            assert_eq!(peer.give(data(1, 1, b"request")), NOTHING);
            assert_eq!(peer.events(), ["data 0+7 request"]);
            peer.commit(u64::from(port - 5000));
            peer.send(&[b'x'; 1000]);
            assert_eq!(peer.turn(), [format!("PA 1+1000 ack {}", port - 4999)]);
            let now_used = usage(peer).transmit_used;
            assert!(now_used >= used + 1000, "{used}, then {now_used}");
            used = now_used;
        }
        for port in 5000..5004 {
            peer.use_port(port);
            assert_eq!(peer.give(ack(8, 1001)), NOTHING);
        }
        assert_eq!(usage(peer).transmit_used, 0);
    });
}

#[test]
fn fig_6h_the_resend_timer_queues_the_cached_answer_again() {
    flow(|flow| {
        let request = flow.client.request(b"request");
        assert_eq!(flow.server_gets(request), NOTHING);
        assert_eq!(flow.peer.events(), ["data 0+7 request"]);
        flow.peer.commit(7);
        flow.peer.send(b"answer");
        assert_eq!(flow.peer.turn(), ["PA 1+6 ack 8"]);
        flow.peer.now = flow.peer.host.stack.poll_timeout().expect("672");
        let mut sent = flow.peer.turn();
        while sent.is_empty() {
            flow.peer.now = flow.peer.host.stack.poll_timeout().expect("still timed");
            sent = flow.peer.turn();
        }
        assert_eq!(sent, ["PA 1+6 ack 8"], "674, 676");
        assert!(usage(flow.peer).transmit_used >= 6, "it stays cached");
    });
}

#[test]
fn fig_6h_after_the_connection_s_timeout_the_answer_is_purged_and_the_connection_is_down() {
    flow(|flow| {
        let request = flow.client.request(b"request");
        assert_eq!(flow.server_gets(request), NOTHING);
        assert_eq!(flow.peer.events(), ["data 0+7 request"]);
        flow.peer.commit(7);
        flow.peer.send(b"answer");
        let mut down = false;
        for _ in 0..200 {
            flow.peer.wait(Duration::from_secs(1));
            down = flow.peer.events() == ["closed TimedOut held 0"];
            assert_eq!(usage(flow.peer).transmit_used > 0, !down, "purged then, and not before");
            if down {
                break;
            }
        }
        assert!(down, "674, 678");
        assert_eq!(flow.peer.wait(Duration::from_secs(300)), NOTHING, "it is not sent any more");
    });
}

#[test]
fn fig_6i_an_acknowledgement_purges_what_was_cached_and_deletes_the_timer() {
    flow(|flow| {
        let request = flow.client.request(b"request");
        assert_eq!(flow.server_gets(request), NOTHING);
        assert_eq!(flow.peer.events(), ["data 0+7 request"]);
        flow.peer.commit(7);
        let mss = if flow.peer.client.is_ipv6() { 1440 } else { 1460 };
        flow.peer.send(&vec![b'a'; 4 * mss]);
        let segment = |n: usize, flags: &str| format!("{flags} {}+{mss} ack 8", 1 + n * mss);
        let sent = [segment(0, "A"), segment(1, "A"), segment(2, "A"), segment(3, "PA")];
        assert_eq!(flow.peer.turn(), sent);
        let all = usage(flow.peer).transmit_used;
        assert_eq!(flow.server_gets(ack(8, 1 + 2 * mss as i64)), NOTHING, "682, of a part");
        let rest = usage(flow.peer).transmit_used;
        assert!(rest < all && rest >= 2 * mss, "684: the part is purged: {all}, then {rest}");
        assert_eq!(flow.server_gets(ack(8, 1 + 4 * mss as i64)), NOTHING);
        assert_eq!(usage(flow.peer).transmit_used, 0, "684");
        assert_eq!(flow.peer.wait(Duration::from_secs(300)), NOTHING, "686");
        assert_eq!(usage(flow.peer).active, 0, "folded");
    });
}

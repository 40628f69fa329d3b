//! What a group chooses for its connections: the user timeout, held bytes, DiffServ, hop limit.

use std::time::Duration;

use xtcp_stack::{Count, GroupConfig};

use super::{NOTHING, PORT, info, with_group};
use crate::sim::peer::{ack, data, syn};
use crate::sim::{QUEUE, ordinary_group, xtcp_group};

/// MUST-20 (c), MUST-21: R2 is the group's.
#[test]
fn a_group_sets_its_user_timeout() {
    let ends_after = |user_timeout: Duration| {
        let mut ended = None;
        with_group(&GroupConfig { user_timeout, ..ordinary_group(PORT) }, |peer| {
            peer.open();
            peer.send(b"answer");
            for second in 0..1000 {
                peer.wait(Duration::from_secs(1));
                if peer.events() == ["closed TimedOut held 0"] {
                    ended = Some(second);
                    break;
                }
            }
        });
        ended
    };
    let (short, stacks) = (Duration::from_secs(20), Duration::ZERO);
    assert!(matches!(ends_after(short), Some(20..40)));
    assert!(matches!(ends_after(stacks), Some(100..180)), "RFC 9293 SHLD-11");
    assert!(matches!(ends_after(Duration::from_secs(400)), Some(400..480)));
}

/// MUST-20 (b), SHLD-10: after three retransmissions the neighbour is looked at again, although
/// it was heard of just now.
#[test]
fn r1_doubts_the_neighbour() {
    let asked_after = |answers: bool| {
        let mut asked = 0;
        with_group(&ordinary_group(PORT), |peer| {
            peer.open();
            // It is stale at first, asked, and then believed for 15 s at least.
            peer.wait(Duration::from_secs(6));
            let before = peer.host.stack.counters().counted(Count::ArpRequestsOut);
            peer.send(b"answer");
            peer.turn();
            if answers {
                peer.give(ack(1, 7));
            }
            peer.wait(Duration::from_secs(12));
            asked = peer.host.stack.counters().counted(Count::ArpRequestsOut) - before;
            let stalled = info(peer, peer.host.group).counts.stalled;
            assert_eq!(stalled, u64::from(!answers));
        });
        asked
    };
    assert_eq!(asked_after(true), 0);
    assert_eq!(asked_after(false), 1);
}

#[test]
fn beyond_the_hold_limit_the_stack_acknowledges_the_oldest() {
    let group = GroupConfig { hold_limit: 1000, ..xtcp_group(PORT) };
    with_group(&group, |peer| {
        peer.open();
        assert_eq!(peer.give(data(1, 1, &[b'a'; 600])), NOTHING, "so much is held");
        assert_eq!(peer.give(data(601, 1, &[b'b'; 400])), NOTHING, "to the byte");
        assert_eq!(peer.give(data(1001, 1, b"c")), ["A 1+0 ack 2"], "and no more");
        assert_eq!(peer.give(data(1002, 1, &[b'd'; 500])), ["A 1+0 ack 502"]);
        let given = peer.events();
        assert!(given[0].starts_with("data 0+"), "all of it is given: {given:?}");
        // The application commits what was acknowledged, and more.
        peer.commit(400);
        assert_eq!(peer.turn(), NOTHING);
        peer.commit(900);
        assert_eq!(peer.turn(), ["A 1+0 ack 901"]);
        peer.commit(1501);
        assert_eq!(peer.turn(), ["A 1+0 ack 1502"]);
    });
    with_group(&xtcp_group(PORT), |peer| {
        peer.open();
        assert_eq!(peer.give(data(1, 1, &[b'a'; 1400])), NOTHING);
        assert_eq!(peer.give(data(1401, 1, &[b'a'; 1400])), NOTHING, "without a limit, never");
    });
}

/// MUST-48, MUST-49, SHLD-22: on every segment of the group's, and of nobody else's.
#[test]
fn a_group_sets_diffserv_and_hop_limit() {
    // The two low bits are ECN's, and no application's business.
    let group = GroupConfig { traffic_class: 0xbb, hop_limit: 3, ..ordinary_group(PORT) };
    for v6 in [false, true] {
        with_group(&group, |peer| {
            if v6 {
                peer.use_ipv6();
            }
            let other = GroupConfig { hop_limit: 0, ..ordinary_group(PORT + 1) };
            let pool = peer.host.pool;
            peer.host.stack.open_group(pool, QUEUE, &other).expect("room");
            let fields = |peer: &crate::sim::peer::Peer<'_>| {
                let got = peer.last_got();
                (got.dscp, got.hop_limit)
            };
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
            assert_eq!(fields(peer), (0xbb >> 2, 3));
            peer.give(ack(1, 1));
            assert_eq!(peer.events(), ["opened"]);
            peer.send(b"answer");
            assert_eq!(peer.turn(), ["PA 1+6 ack 1"]);
            assert_eq!(fields(peer), (0xbb >> 2, 3));
            peer.abort();
            assert_eq!(peer.turn(), ["RA 7+0 ack 1"]);
            assert_eq!(fields(peer), (0xbb >> 2, 3));
            peer.use_port(4001);
            peer.call(PORT + 1);
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
            assert_eq!(fields(peer), (0, 1), "no packet has a hop limit of 0");
            peer.use_port(4002);
            peer.call(PORT + 2);
            assert_eq!(peer.give(syn()), ["RA 0+0 ack 1"]);
            assert_eq!(fields(peer), (0, 64));
        });
    }
}

/// The reset of a group's last words leaves the way the stack's own do.
#[test]
fn a_closed_group_still_reaches_its_clients() {
    with_group(&GroupConfig { hop_limit: 3, ..ordinary_group(PORT) }, |peer| {
        peer.open();
        let (group, now) = (peer.host.group, peer.now);
        peer.host.stack.close_group(group, now).expect("open");
        assert_eq!(peer.turn(), ["RA 1+0 ack 1"]);
        assert_eq!(peer.last_got().hop_limit, 64);
    });
}

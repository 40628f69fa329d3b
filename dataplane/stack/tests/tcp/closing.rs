//! FIN, RST, TIME-WAIT.

use std::time::Duration;

use xtcp_stack::wire::tcp::Flags;
use xtcp_stack::{Misuse, State};

use super::{NOTHING, ordinary, xtcp};
use crate::sim::peer::{ISN, Peer, ack, data, fin, rst, syn};

fn states(peer: &Peer<'_>) -> Vec<State> {
    peer.host.stack.connections().map(|info| info.state).collect()
}

#[test]
fn we_close_first() {
    ordinary(|peer| {
        peer.open();
        peer.send(b"bye");
        peer.close();
        assert_eq!(peer.turn(), ["FPA 1+3 ack 1"]);
        assert_eq!(states(peer), [State::FinWait1]);
        assert_eq!(peer.give(ack(1, 5)), NOTHING);
        assert_eq!(states(peer), [State::FinWait2]);
        assert_eq!(peer.give(fin(1, 5)), ["A 5+0 ack 2"]);
        assert_eq!(peer.events(), ["closed Closed held 0"]);
        assert_eq!(states(peer), [State::TimeWait]);
        assert_eq!(peer.host.stack.usage().active, 0, "TIME-WAIT is folded");
        assert_eq!(peer.wait(Duration::from_secs(59)), NOTHING);
        assert_eq!(states(peer), [State::TimeWait]);
        peer.wait(Duration::from_secs(2));
        assert_eq!(states(peer), []);
        peer.host.assert_nothing_held();
    });
}

/// FIN-WAIT-2 has nothing to send and nothing to probe, however long it lasts.
#[test]
fn fin_wait_2_is_silent_and_ends() {
    ordinary(|peer| {
        peer.open();
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
        assert_eq!(peer.give(ack(1, 2)), NOTHING);
        assert_eq!(peer.wait(Duration::from_secs(30)), NOTHING);
        assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"], "the right number all the same");
        assert_eq!(peer.events(), ["closed Closed held 0"]);
    });
    ordinary(|peer| {
        peer.open();
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
        assert_eq!(peer.give(ack(1, 2)), NOTHING);
        assert_eq!(peer.wait(Duration::from_secs(61)), NOTHING);
        assert_eq!(peer.events(), ["closed Closed held 0"], "N12: a silent peer");
        peer.host.assert_nothing_held();
    });
}

#[test]
fn the_peer_closes_first() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"last"));
        assert_eq!(peer.give(fin(5, 1)), ["A 1+0 ack 1"], "the text is not committed");
        assert_eq!(peer.events(), ["data 0+4 last", "finished 4"]);
        peer.commit(4);
        peer.send(b"answer");
        assert_eq!(peer.turn(), ["PA 1+6 ack 6"], "now the FIN is acknowledged, too");
        peer.close();
        assert_eq!(peer.turn(), ["FA 7+0 ack 6"]);
        assert_eq!(peer.give(ack(6, 8)), NOTHING);
        assert_eq!(peer.events(), ["closed Closed held 0"]);
        peer.host.assert_nothing_held();
    });
}

#[test]
fn both_close_at_once() {
    ordinary(|peer| {
        peer.open();
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
        assert_eq!(peer.give(fin(1, 1)), ["A 2+0 ack 2"]);
        assert_eq!(states(peer), [State::Closing]);
        assert_eq!(peer.give(ack(2, 2)), NOTHING);
        assert_eq!(peer.events(), ["finished 0", "closed Closed held 0"][1..]);
        assert_eq!(states(peer), [State::TimeWait]);
    });
}

#[test]
fn a_lost_fin_is_sent_again_and_the_peers_again_acknowledged() {
    ordinary(|peer| {
        peer.open();
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
        let sent = peer.wait(Duration::from_millis(1100));
        assert!(!sent.is_empty() && sent.iter().all(|line| line.ends_with("FA 1+0 ack 1")));
        assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"]);
        assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"], "before it is told");
        assert_eq!(peer.events(), ["closed Closed held 0"]);
        assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"], "and after");
    });
}

/// N13, MUST-12: what nobody will read is refused.
#[test]
fn text_after_our_close_is_reset() {
    ordinary(|peer| {
        peer.open();
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
        assert_eq!(peer.give(data(1, 2, b"late")), ["RA 2+0 ack 1"]);
        assert_eq!(peer.events(), ["closed Aborted held 0"]);
        peer.host.assert_nothing_held();
    });
}

/// SHLD-3.
#[test]
fn a_close_with_unread_text_is_a_reset() {
    xtcp(|peer| {
        peer.open();
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["data 0+7 request"]);
        peer.close();
        assert_eq!(peer.turn(), ["RA 1+0 ack 1"]);
        assert_eq!(peer.events(), ["closed Aborted held 0"]);
        peer.host.assert_nothing_held();
    });
}

#[test]
fn an_abort_is_a_reset_and_the_handle_is_stale() {
    ordinary(|peer| {
        peer.open();
        peer.send(b"never");
        peer.abort();
        assert_eq!(peer.turn(), ["RA 1+0 ack 1"]);
        assert_eq!(peer.events(), ["closed Aborted held 0"]);
        peer.host.assert_nothing_held();
        let (group, connection, now) = (peer.host.group, peer.cd(), peer.now);
        let stale = peer.host.stack.send(group, connection, b"x".as_slice(), now);
        assert_eq!(stale, Err(Misuse::StaleConnection));
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"], "the same index, another connection");
        let stale = peer.host.stack.abort(group, connection, now);
        assert_eq!(stale, Err(Misuse::StaleConnection));
    });
}

/// A connection that is gone but not yet told of is nobody's any more.
#[test]
fn what_comes_between_the_end_and_its_telling_changes_nothing() {
    ordinary(|peer| {
        peer.open();
        assert_eq!(peer.give(rst(1)), NOTHING);
        assert_eq!(peer.give(rst(1)), NOTHING);
        assert_eq!(peer.give(ack(1, 1)), ["R 1+0"], "as without a connection");
        assert_eq!(peer.give(syn().at(100)), ["SA 0+0 ack 101"], "a new one");
        assert_eq!(peer.events(), ["closed Reset held 0"], "told all the same");
        assert_eq!(peer.give(ack(101, 1)), NOTHING);
        assert_eq!(peer.events(), ["opened"]);
        assert_eq!(peer.host.stack.usage().connections, 1);
    });
}

/// Bad input 50 to 52.
#[test]
fn a_reset_needs_the_exact_number() {
    ordinary(|peer| {
        peer.open();
        assert_eq!(peer.give(rst(0)), NOTHING, "out of the window");
        assert_eq!(peer.give(rst(1 << 20)), NOTHING, "out of the window");
        assert_eq!(peer.give(rst(2)), ["A 1+0 ack 1"], "in the window");
        assert_eq!(states(peer), [State::Established]);
        assert_eq!(peer.give(rst(1).text(b"why: SHLD-2")), NOTHING);
        assert_eq!(peer.events(), ["closed Reset held 0"]);
        peer.host.assert_nothing_held();
    });
}

/// RFC 9293 section 3.10.7.4: the peer forgot the connection; our FIN was all that was left.
#[test]
fn a_reset_in_last_ack_is_no_loss() {
    ordinary(|peer| {
        peer.open();
        assert_eq!(peer.give(fin(1, 1)), ["A 1+0 ack 2"]);
        assert_eq!(peer.events(), ["finished 0"]);
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 2"]);
        assert_eq!(peer.give(rst(2)), NOTHING);
        assert_eq!(peer.events(), ["closed Closed held 0"]);
    });
    ordinary(|peer| {
        peer.open();
        assert_eq!(peer.give(fin(1, 1)), ["A 1+0 ack 2"]);
        assert_eq!(peer.events(), ["finished 0"]);
        peer.send(b"unheard");
        peer.close();
        assert_eq!(peer.turn(), ["FPA 1+7 ack 2"]);
        assert_eq!(peer.give(rst(2)), NOTHING);
        assert_eq!(peer.events(), ["closed Reset held 0"], "but this is");
    });
}

/// A FIN that ends the connection ends the look at its segment, too.
#[test]
fn nothing_comes_after_the_end() {
    ordinary(|peer| {
        peer.open();
        assert_eq!(peer.give(fin(1, 1)), ["A 1+0 ack 2"]);
        assert_eq!(peer.events(), ["finished 0"]);
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 2"]);
        assert_eq!(peer.give(fin(2, 2).text(b"beyond the end")), NOTHING);
        assert_eq!(peer.events(), ["closed Closed held 0"]);
        peer.host.assert_nothing_held();
    });
}

fn into_time_wait(peer: &mut Peer<'_>) {
    peer.close();
    assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
    assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"]);
    assert_eq!(peer.events(), ["closed Closed held 0"]);
    assert_eq!(states(peer), [State::TimeWait]);
}

/// N14, RFC 1337.
#[test]
fn time_wait_answers_what_could_be_lost_and_ignores_the_rest() {
    ordinary(|peer| {
        peer.open();
        into_time_wait(peer);
        assert_eq!(peer.give(rst(2)), NOTHING);
        assert_eq!(peer.give(ack(2, 2)), NOTHING);
        assert_eq!(peer.give(ack(-100, 2)), NOTHING, "nothing in it that could be lost");
        assert_eq!(peer.give(data(-100, 1, b"old")), ["A 2+0 ack 2"]);
        assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"]);
        assert_eq!(states(peer), [State::TimeWait]);
    });
}

#[test]
fn only_the_peers_own_fin_starts_time_wait_again() {
    ordinary(|peer| {
        peer.open();
        into_time_wait(peer);
        peer.wait(Duration::from_secs(40));
        peer.give(fin(1, 2));
        peer.wait(Duration::from_secs(40));
        assert_eq!(states(peer), [State::TimeWait]);
        peer.give(fin(700, 2));
        peer.wait(Duration::from_secs(21));
        assert_eq!(states(peer), []);
    });
}

/// RFC 6191, RFC 9293 section 3.6.1 (MAY-2).
#[test]
fn a_newer_syn_ends_time_wait_and_an_older_does_not() {
    ordinary(|peer| {
        peer.open();
        into_time_wait(peer);
        let before = peer.iss();
        assert_eq!(peer.give(syn()), ["A 2+0 ack 2"], "not newer");
        peer.start_at(ISN.wrapping_add(1000));
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        assert!(peer.iss().wrapping_sub(before) > 2, "beyond what the last one used");
        assert!(peer.iss().wrapping_sub(before) < 1 << 31);
        assert_eq!(peer.give(ack(1, 1)), NOTHING);
        assert_eq!(peer.events(), ["opened"]);
        assert_eq!(peer.give(rst(1)), NOTHING);
        assert_eq!(peer.events(), ["closed Reset held 0"]);
        peer.wait(Duration::from_secs(61));
        peer.host.assert_nothing_held();
    });
}

#[test]
fn timestamps_decide_which_syn_is_newer() {
    ordinary(|peer| {
        peer.open_with(syn().stamps(1000, 0));
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
        assert_eq!(peer.give(fin(1, 2).stamps(1001, 0)), ["A 2+0 ack 2"]);
        assert_eq!(peer.events(), ["closed Closed held 0"]);
        let old = syn().at(1 << 20).stamps(900, 0);
        assert_eq!(peer.give(old), ["A 2+0 ack 2"], "a larger number, but from before");
        let new = syn().at(-1000).stamps(1002, 0);
        assert_eq!(peer.give(new), ["SA 0+0 ack -999"]);
    });
}

#[test]
fn after_a_long_stream_a_new_connection_starts_beyond_it() {
    ordinary(|peer| {
        peer.open();
        let mut acked = 1;
        while acked < 200_000 {
            peer.send(&[b'x'; 1460]);
            peer.turn();
            acked += 1460;
            peer.give(ack(1, acked));
        }
        peer.close();
        peer.turn();
        assert_eq!(peer.give(fin(1, acked + 1)).len(), 1);
        peer.events();
        assert_eq!(states(peer), [State::TimeWait]);
        let before = peer.iss();
        assert_eq!(peer.give(syn().at(70_000)).len(), 1);
        assert_eq!(peer.last_got().flags, Flags::SYN | Flags::ACK);
        let step = i64::from(peer.iss().wrapping_sub(before));
        assert!(step > acked && step < 1 << 31, "{step}");
    });
}

/// N11: whoever closed does not wait for ever for a peer that only ever says "not now".
#[test]
fn a_closed_connection_does_not_probe_for_ever() {
    ordinary(|peer| {
        peer.open();
        peer.give(ack(1, 1).window(0));
        peer.send(b"never read");
        peer.close();
        for _ in 0..10 {
            peer.wait(Duration::from_secs(20));
            peer.give(ack(1, 1).window(0));
        }
        assert_eq!(peer.events(), ["closed TimedOut held 0"]);
        peer.host.assert_nothing_held();
    });
}

/// N10, N39: a clock that jumps is no proof against the peer.
#[test]
fn a_jump_of_the_clock_does_not_end_connections() {
    ordinary(|peer| {
        peer.open();
        peer.send(b"answer");
        assert_eq!(peer.turn(), ["PA 1+6 ack 1"]);
        peer.now = peer.now + Duration::from_secs(3600);
        assert_eq!(peer.turn(), ["PA 1+6 ack 1"], "once");
        assert_eq!(peer.events(), NOTHING);
        assert_eq!(peer.give(ack(1, 7)), NOTHING);
        assert_eq!(states(peer), [State::Established]);
    });
}

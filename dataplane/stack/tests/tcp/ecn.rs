//! Explicit congestion notification (RFC 3168).

use super::{NOTHING, PORT, client, ordinary, xtcp};
use crate::sim::peer::{Peer, Seg, ack, data, syn, syn_with_sack};
use crate::sim::{config, ordinary_group};
use std::time::Duration;
use xtcp_stack::wire::tcp::Flags;
use xtcp_stack::{Config, Count, Ecn, TcpConfig};

/// What may be marked.
const CAPABLE: u8 = 2;

fn asking(syn: Seg) -> Seg {
    syn.flags(Flags::SYN | Flags::ECE | Flags::CWR)
}

fn with_ecn(ecn: Ecn, test: impl FnOnce(&mut Peer<'_>)) {
    let tcp = TcpConfig { ecn, ..TcpConfig::default() };
    client(&Config { tcp, ..config(0, 2) }, 1 << 20, &ordinary_group(PORT), test);
}

fn open(peer: &mut Peer<'_>) {
    assert_eq!(peer.give(asking(syn_with_sack())), ["SAE 0+0 ack 1"]);
    assert_eq!(peer.last_got().ecn, 0, "a SYN-ACK may not be marked");
    assert_eq!(peer.give(ack(1, 1)), NOTHING);
    assert_eq!(peer.events(), ["opened"]);
}

fn cwnd(peer: &Peer<'_>) -> u32 {
    peer.host.stack.connection(peer.cd()).expect("open").cwnd
}

fn echo(seg: Seg) -> Seg {
    seg.flags(Flags::ACK | Flags::ECE)
}

/// Section 6.1.1: both flags ask, and one answers; only if it is wanted.
#[test]
fn it_is_agreed_with_whom_asks() {
    ordinary(open);
    ordinary(|peer| assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]));
    ordinary(|peer| {
        let half = syn().flags(Flags::SYN | Flags::ECE);
        assert_eq!(peer.give(half), ["SA 0+0 ack 1"]);
    });
    with_ecn(Ecn::Off, |peer| {
        assert_eq!(peer.give(asking(syn())), ["SA 0+0 ack 1"]);
        peer.give(ack(1, 1));
        peer.events();
        peer.send(b"text");
        assert_eq!(peer.turn(), ["PA 1+4 ack 1"]);
        assert_eq!(peer.last_got().ecn, 0);
        assert_eq!(peer.give(data(1, 5, b"one").marked()), NOTHING);
        assert_eq!(peer.give(data(4, 5, b"two").marked()), ["A 5+0 ack 7"]);
    });
}

/// Section 6.1.3: from the mark until the sender says that it has reduced its window.
#[test]
fn a_mark_is_echoed_until_it_is_heeded() {
    ordinary(|peer| {
        open(peer);
        peer.give(data(1, 1, b"one").marked());
        assert_eq!(peer.give(data(4, 1, b"two")), ["AE 1+0 ack 7"]);
        peer.give(data(7, 1, b"three"));
        assert_eq!(peer.give(data(12, 1, b"four")), ["AE 1+0 ack 16"]);
        peer.send(b"text");
        assert_eq!(peer.turn(), ["PAE 1+4 ack 16"]);
        let heeded = data(16, 5, b"five").flags(Flags::ACK | Flags::CWR);
        peer.give(heeded);
        assert_eq!(peer.give(data(20, 5, b"six")), ["A 5+0 ack 23"]);
        assert_eq!(peer.host.stack.counters().counted(Count::CongestionMarks), 1);
    });
}

/// It may be owed while nothing else is known of the connection.
#[test]
fn a_mark_is_remembered_by_an_idle_connection() {
    xtcp(|peer| {
        peer.give(asking(syn_with_sack()));
        peer.events();
        peer.accept();
        assert_eq!(peer.turn(), ["SAE 0+0 ack 1"]);
        peer.give(ack(1, 1));
        peer.give(data(1, 1, b"request").marked());
        peer.events();
        peer.commit(7);
        assert_eq!(peer.turn(), ["AE 1+0 ack 8"]);
        assert_eq!(peer.host.stack.usage().active, 0, "folded");
        peer.give(data(8, 1, b"next"));
        peer.events();
        peer.commit(11);
        assert_eq!(peer.turn(), ["AE 1+0 ack 12"]);
    });
}

/// What is out of the window says nothing.
#[test]
fn marks_of_strangers_are_not_echoed() {
    ordinary(|peer| {
        open(peer);
        peer.give(data(-9000, 1, b"old").marked());
        peer.give(ack(1, 1).marked());
        peer.give(data(1, 1, b"one"));
        assert_eq!(peer.give(data(4, 1, b"two")), ["A 1+0 ack 7"]);
    });
}

/// Sections 6.1.2 and 6.1.5.
#[test]
fn an_echo_reduces_the_window_once() {
    ordinary(|peer| {
        open(peer);
        peer.send(&[b'x'; 40 * 1460]);
        assert_eq!(peer.turn().len(), 10);
        assert_eq!(peer.last_got().ecn, CAPABLE);
        let before = cwnd(peer);
        assert_eq!(peer.give(echo(ack(1, 1461))), NOTHING);
        let after = cwnd(peer);
        assert_eq!(after, before / 2);
        for n in 2..=5 {
            assert_eq!(peer.give(echo(ack(1, 1 + 1460 * n))), NOTHING);
        }
        assert_eq!(cwnd(peer), after, "once for what is in flight");
        let sent = peer.give(echo(ack(1, 1 + 1460 * 6)));
        assert_eq!(sent, ["AW 14601+1460 ack 1"], "and the peer is told");
        let sent = peer.give(ack(1, 1 + 1460 * 7));
        assert_eq!(sent, ["A 16061+1460 ack 1"], "once");
        peer.give(echo(ack(1, 1 + 1460 * 11)));
        assert!(cwnd(peer) < after, "another window, another mark");
        assert_eq!(peer.host.stack.counters().counted(Count::CongestionEchoes), 2);
    });
}

#[test]
fn an_echo_nobody_agreed_to_is_ignored() {
    ordinary(|peer| {
        peer.open_with(syn_with_sack());
        peer.send(&[b'x'; 40 * 1460]);
        assert_eq!(peer.turn().len(), 10);
        assert_eq!(peer.last_got().ecn, 0);
        assert_eq!(peer.give(echo(ack(1, 2921))).len(), 4);
    });
}

/// Section 6.1.5: neither what goes again nor what has no text may be marked.
#[test]
fn only_new_text_may_be_marked() {
    ordinary(|peer| {
        open(peer);
        peer.send(b"text");
        peer.turn();
        assert_eq!(peer.last_got().ecn, CAPABLE);
        let sent = peer.wait(Duration::from_millis(300));
        assert!(!sent.is_empty());
        assert_eq!((peer.last_got().seq, peer.last_got().ecn), (1, 0));
        peer.give(data(1, 5, b"one"));
        assert_eq!(peer.give(data(4, 5, b"two")), ["A 5+0 ack 7"]);
        assert_eq!(peer.last_got().ecn, 0);
    });
}

/// A loss reduces the window, too, and the peer need not echo for it.
#[test]
fn a_loss_is_told_as_reduction() {
    ordinary(|peer| {
        open(peer);
        peer.send(&[b'x'; 20 * 1460]);
        peer.turn();
        peer.now = peer.now + Duration::from_millis(20);
        let sent = peer.give(ack(1, 1).sacks(&[(1461, 14_601)]));
        assert!(sent.contains(&"A 1+1460 ack 1".to_owned()), "{sent:?}");
        let told = sent.iter().filter(|line| line.starts_with("AW ")).count();
        assert_eq!(told, 1, "with the first new text, and not with what goes again: {sent:?}");
    });
}

/// A mark is no loss: what the network duplicates after it takes neither it back nor a recovery before it.
#[test]
fn a_duplicate_takes_no_mark_back() {
    ordinary(|peer| {
        open(peer);
        peer.send(&[b'x'; 40 * 1460]);
        assert_eq!(peer.turn().len(), 10);
        let at = |n: i64| 1 + 1460 * n;
        peer.now = peer.now + Duration::from_millis(20);
        peer.give(ack(1, 1).sacks(&[(at(1), at(10))]));
        let counted = |peer: &Peer<'_>, of| peer.host.stack.counters().counted(of);
        assert_eq!(counted(peer, Count::SegmentsRetransmitted), 1);
        peer.now = peer.now + Duration::from_millis(20);
        let all = peer.last_got().seq + 1460;
        peer.give(ack(1, all));
        peer.now = peer.now + Duration::from_millis(20);
        peer.give(echo(ack(1, all + 1460)));
        assert_eq!(counted(peer, Count::CongestionEchoes), 1);
        let reduced = cwnd(peer);
        peer.give(ack(1, all + 1460).sacks(&[(all, all + 1460)]));
        assert_eq!(counted(peer, Count::DuplicatesReported), 1);
        assert_eq!(counted(peer, Count::RecoveriesUndone), 0);
        assert_eq!(cwnd(peer), reduced);
    });
}

//! Connections whose peer does not end them as it should, and TIME-WAIT.

use std::time::Duration;

use xtcp_stack::wire::tcp::Flags;
use xtcp_stack::{Config, Stop};

use super::{NOTHING, assert_serves, assert_silence, dut, dut_with, open, stopped};
use crate::sim::config;
use crate::sim::peer::{ack, data, fin, rst, syn};

/// N13.
#[test]
fn text_for_an_application_that_has_closed_is_reset() {
    open(|peer| {
        peer.connection = peer.host.stack.connections().next().map(|info| info.connection);
        peer.close();
        assert_eq!(peer.turn(), ["FA 1+0 ack 1"]);
        let lines = peer.give(data(1, 2, b"too late"));
        assert_eq!(lines.len(), 1);
        assert!(peer.last_got().flags.contains(Flags::RST));
    });
}

/// N14, RFC 1337 and RFC 6191.
#[test]
fn time_wait_is_left_by_a_newer_syn_only() {
    open(|peer| {
        peer.connection = peer.host.stack.connections().next().map(|info| info.connection);
        peer.close();
        peer.turn();
        assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"]);
        peer.events();
        assert_eq!(peer.host.stack.usage().time_wait, 1);
        let frame = peer.frame_of(&rst(2));
        assert_silence(peer, &frame, Stop::ResetInTimeWait);
        assert_eq!(peer.give(fin(1, 2)), ["A 2+0 ack 2"], "its FIN is acknowledged again");
        assert_eq!(peer.give(syn().at(-5)), ["A 2+0 ack 2"], "an older SYN opens nothing");
        assert_eq!(peer.host.stack.usage().time_wait, 1);
        let lines = peer.give(syn().at(5000));
        assert_eq!(lines.len(), 1);
        let got = peer.last_got();
        assert_eq!((got.flags, got.ack), (Flags::SYN | Flags::ACK, 5001));
    });
}

/// N15.
#[test]
fn time_wait_keeps_nobody_out() {
    dut(|peer| {
        for port in 0..600 {
            peer.use_port(2000 + port);
            peer.open();
            peer.close();
            peer.turn();
            peer.give(fin(1, 2));
            peer.events();
        }
        let usage = peer.host.stack.usage();
        assert!(usage.connections <= 256 && usage.time_wait <= 256, "{usage:?}");
        assert_serves(peer);
    });
}

/// N10: whoever does not answer is given up, and the application is told.
#[test]
fn a_peer_that_vanishes_is_down() {
    open(|peer| {
        peer.send(b"answer");
        peer.turn();
        let sent = peer.wait(Duration::from_secs(300));
        assert!((4..=12).contains(&sent.len()), "{sent:?}");
        assert_eq!(peer.events(), ["closed TimedOut held 0"]);
        assert_eq!(stopped(peer, Stop::PeerDown), 1);
        peer.host.assert_nothing_held();
        assert_serves(peer);
    });
}

/// N11 and N12: an end the peer does not answer is an end all the same, whoever began it.
#[test]
fn a_peer_that_vanishes_while_closing_leaves_nothing() {
    for (ours_first, acknowledged) in [(true, false), (true, true), (false, false)] {
        open(|peer| {
            peer.connection = peer.host.stack.connections().next().map(|info| info.connection);
            if !ours_first {
                peer.give(fin(1, 1));
                peer.events();
            }
            peer.close();
            assert_eq!(peer.turn().len(), 1, "its FIN");
            if acknowledged {
                peer.give(ack(1, 2));
            }
            peer.wait(Duration::from_secs(300));
            peer.events();
            peer.host.assert_nothing_held();
            assert_eq!(peer.host.stack.usage().connections, 0);
            assert_serves(peer);
        });
    }
}

/// N11: peers that leave what the application has closed unfinished keep nobody out, not even until
/// they time out; and those that do finish are left to it.
#[test]
fn closed_connections_that_are_left_unfinished_make_way() {
    const ACTIVE: u16 = 16;
    let config = Config { active_max: ACTIVE.into(), ..config(0, 2) };
    for acknowledged in [false, true] {
        dut_with(&config, |peer| {
            for port in 2000..2000 + ACTIVE {
                peer.use_port(port);
                peer.open();
                peer.close();
                assert_eq!(peer.turn().len(), 1, "its FIN");
                if acknowledged {
                    peer.give(ack(1, 2));
                }
            }
            peer.use_port(4000);
            assert_eq!(peer.give(syn()), NOTHING, "they may be about to finish");
            assert_eq!(stopped(peer, Stop::OrphanEvicted), 0);
            peer.now = peer.now + Duration::from_secs(1);
            peer.turn();
            let lines = peer.give(syn());
            let one_is_told = lines.len() == 1 && lines[0].ends_with(": RA 2+0 ack 1");
            assert!(one_is_told, "and nobody else is answered: {lines:?}");
            assert_eq!(stopped(peer, Stop::OrphanEvicted), 1);
            assert_eq!(peer.events(), ["closed TimedOut held 0"]);
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"], "sent again, it finds room");
            assert_eq!(peer.give(ack(1, 1)), NOTHING);
            assert_eq!(peer.events(), ["opened"]);
        });
    }
}

/// N11: whoever is open does not make way for a client, however long it has been silent.
#[test]
fn open_connections_do_not_make_way() {
    const EACH: u16 = 8;
    let config = Config { active_max: (2 * EACH).into(), ..config(0, 2) };
    dut_with(&config, |peer| {
        for port in 1000..1000 + EACH {
            peer.use_port(port);
            peer.open();
            peer.give(data(1, 1, b"not committed"));
            peer.events();
        }
        peer.now = peer.now + Duration::from_millis(100);
        peer.turn();
        for port in 2000..2000 + EACH {
            peer.use_port(port);
            peer.open();
            peer.close();
            peer.turn();
        }
        for port in 3000..3000 + EACH {
            peer.now = peer.now + Duration::from_secs(2);
            peer.use_port(port);
            peer.give(syn());
        }
        assert!(stopped(peer, Stop::OrphanEvicted) > 0);
        for port in 1000..1000 + EACH {
            peer.use_port(port);
            peer.give(data(14, 1, b", and more"));
            assert!(peer.events().iter().any(|line| line.ends_with("+10 , and more")), "{port}");
        }
    });
}

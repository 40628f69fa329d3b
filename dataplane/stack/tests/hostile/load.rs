//! Many clients at once, none of them kind.

use std::time::Duration;

use xtcp_stack::{Config, Count, Stop, SynCookies, TcpConfig};

use super::{NOTHING, assert_serves, dut, dut_with};
use crate::sim::config;
use crate::sim::peer::{ack, data, rst, syn};

/// Bad input 85 and N16: a flood costs no memory beyond its table, and keeps nobody out.
#[test]
fn a_flood_of_syns_keeps_nobody_out() {
    for syn_cookies in [SynCookies::WhenFull, SynCookies::Always] {
        let tcp = TcpConfig { half_open_max: 50, syn_cookies, ..TcpConfig::default() };
        dut_with(&Config { tcp, ..config(0, 2) }, |peer| {
            peer.open();
            for port in 1000..4000 {
                peer.use_port(port);
                assert_eq!(peer.give(syn()).len(), 1);
            }
            let usage = peer.host.stack.usage();
            assert!(usage.half_open <= 50 && usage.connections <= 51, "{usage:?}");
            peer.use_port(4000);
            peer.give(data(1, 1, b"there before"));
            assert_eq!(peer.events(), ["data 0+12 there before"]);
            assert_serves(peer);
        });
    }
}

/// N17: each forged cookie is answered by one RST at most, and opens nothing.
#[test]
fn a_flood_of_forged_cookies_opens_nothing() {
    let tcp = TcpConfig { syn_cookies: SynCookies::Always, ..TcpConfig::default() };
    dut_with(&Config { tcp, ..config(0, 2) }, |peer| {
        peer.give(syn());
        for n in 0..10_000 {
            peer.use_port(1000 + (n % 3000) as u16);
            assert!(peer.give(ack(n * 7919, n * 104_729)).len() <= 1);
        }
        assert_eq!(peer.host.stack.usage().connections, 0);
        let stopped = |stop| peer.host.stack.counters().stopped(stop);
        assert_eq!(stopped(Stop::CookieForged), 1000, "as many as are answered");
        assert_eq!(stopped(Stop::ResetRationed), 9000);
        assert_eq!(peer.host.stack.counters().counted(Count::ResetsOut), 1000);
        assert_serves(peer);
    });
}

/// Bad input 86, sockstress: clients with closed windows cost their own answers and no more.
#[test]
fn clients_with_closed_windows_keep_nobody_out() {
    dut(|peer| {
        for port in 2000..2200 {
            peer.use_port(port);
            peer.open();
            peer.give(ack(1, 1).window(0));
            peer.send(b"answer");
            assert_eq!(peer.turn(), NOTHING);
        }
        assert_serves(peer);
        peer.wait(Duration::from_secs(300));
        assert!(peer.host.stack.counters().counted(Count::WindowProbes) > 0);
        let mut told = peer.events();
        told.retain(|line| !line.contains("TimedOut"));
        assert_eq!(told, NOTHING, "who never answers a probe is down");
        peer.host.assert_nothing_held();
        assert_serves(peer);
    });
}

/// N40: the same client again and again, at once.
#[test]
fn a_client_may_come_again_at_once() {
    dut(|peer| {
        let mut last = None;
        for _ in 0..500 {
            peer.now = peer.now + Duration::from_millis(1);
            peer.open();
            let iss = peer.iss();
            assert!(last.is_none_or(|last| iss.wrapping_sub(last) < 1 << 31), "forward");
            last = Some(iss);
            peer.give(rst(1));
            assert_eq!(peer.events(), ["closed Reset held 0"]);
        }
        peer.host.assert_nothing_held();
    });
}

/// RFC 5961 section 7, CVE-2016-5696: what one address is answered tells nothing of another's.
#[test]
fn resets_are_rationed_for_each_sender_alone() {
    let tcp = TcpConfig { resets_per_second: 10, ..TcpConfig::default() };
    dut_with(&Config { tcp, ..config(0, 2) }, |peer| {
        let mut answers = 0;
        for n in 0..100 {
            answers += peer.give(ack(n, n)).len();
        }
        assert_eq!(answers, 10);
        peer.use_ipv6();
        assert_eq!(peer.give(ack(1, 1)).len(), 1, "another sender has its own");
    });
}

/// N19: with every record taken a client is not refused but left to try again.
#[test]
fn a_full_table_drops_and_recovers() {
    let tcp = TcpConfig { syn_cookies: SynCookies::Never, ..TcpConfig::default() };
    dut_with(&Config { tcp, connections_max: 10, ..config(0, 2) }, |peer| {
        for port in 2000..2010 {
            peer.use_port(port);
            peer.open();
        }
        peer.use_port(4000);
        for _ in 0..3 {
            assert_eq!(peer.give(syn()), NOTHING, "no RST");
        }
        assert_eq!(peer.host.stack.counters().stopped(Stop::ConnectionsFull), 3);
        peer.use_port(2000);
        peer.give(rst(1));
        peer.events();
        assert_serves(peer);
    });
}

/// N20: what an idle client costs is what an idle record costs, however long it stays.
#[test]
fn slow_clients_cost_a_record_each() {
    dut(|peer| {
        for port in 2000..2200 {
            peer.use_port(port);
            peer.open();
        }
        for round in 0..6 {
            peer.now = peer.now + Duration::from_secs(10);
            for port in 2000..2200 {
                peer.use_port(port);
                peer.give(data(1 + round, 1, b"x"));
                for line in peer.events() {
                    assert!(line.starts_with("data"), "{line}");
                }
                peer.commit(round as u64 + 1);
            }
            peer.wait(Duration::from_secs(1));
            let usage = peer.host.stack.usage();
            assert_eq!((usage.active, usage.chunks), (0, 0), "{usage:?}");
        }
    });
}

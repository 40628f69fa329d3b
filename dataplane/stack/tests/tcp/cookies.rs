//! Handshakes of which nothing is kept (RFC 4987), and those that make way.

use std::time::Duration;

use xtcp_stack::{Config, Count, GroupConfig, Stop, SynCookies, TcpConfig};

use super::{NOTHING, PORT, client};
use crate::sim::peer::{Peer, ack, data, rst, syn};
use crate::sim::{config, ordinary_group, xtcp_group};

/// A stack that keeps two handshakes at most.
fn tight(syn_cookies: SynCookies, group: &GroupConfig, test: impl FnOnce(&mut Peer<'_>)) {
    let tcp = TcpConfig { half_open_max: 2, syn_cookies, ..TcpConfig::default() };
    client(&Config { tcp, ..config(0, 2) }, 1 << 20, group, test);
}

fn at_once() -> GroupConfig {
    GroupConfig { nagle: false, ..ordinary_group(PORT) }
}

/// Fills the table of handshakes, and comes as another client then.
fn flood(peer: &mut Peer<'_>) {
    for port in 1000..1002 {
        peer.use_port(port);
        assert_eq!(peer.give(syn()).len(), 1);
    }
    peer.use_port(4000);
}

fn stopped(peer: &Peer<'_>, stop: Stop) -> u64 {
    peer.host.stack.counters().stopped(stop)
}

fn counted(peer: &Peer<'_>, count: Count) -> u64 {
    peer.host.stack.counters().counted(count)
}

/// N16: memory stays as it is, and whoever is real gets in.
#[test]
fn beyond_the_table_handshakes_go_by_cookie() {
    tight(SynCookies::WhenFull, &at_once(), |peer| {
        flood(peer);
        let before = peer.host.stack.usage();
        for port in 2000..5000 {
            peer.use_port(port);
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        }
        assert_eq!(peer.host.stack.usage(), before, "nothing is kept");
        assert_eq!(counted(peer, Count::CookiesOut), 3000);
        assert_eq!(peer.give(ack(1, 1)), NOTHING);
        assert_eq!(peer.events(), ["opened"]);
        let usage = peer.host.stack.usage();
        assert_eq!((usage.connections, usage.half_open), (3, 2));
        assert_eq!(counted(peer, Count::CookiesBack), 1);
        assert_eq!(counted(peer, Count::ConnectionsOpened), 1);
        peer.send(b"answer");
        assert_eq!(peer.turn(), ["PA 1+6 ack 1"]);
        assert_eq!(peer.give(data(1, 7, b"request")), NOTHING);
        assert_eq!(peer.events(), ["data 0+7 request"]);
        assert!(!peer.wait(Duration::from_secs(1)).is_empty(), "and acknowledges it");
    });
}

#[test]
fn text_may_come_with_the_cookie() {
    tight(SynCookies::WhenFull, &at_once(), |peer| {
        flood(peer);
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), ["opened", "data 0+7 request"]);
        peer.give(data(1, 1, b"request"));
        assert_eq!(peer.events(), NOTHING, "and only once");
    });
}

/// What a SYN says is not lost: the largest segment in the number, the rest in the timestamp.
#[test]
fn a_cookie_keeps_what_the_client_offered() {
    for now in [0, 1, 17, 31, 63, 64, 1000] {
        tight(SynCookies::Always, &at_once(), |peer| {
            peer.now = peer.now + Duration::from_millis(now);
            let offer = syn().stamps(77, 0).options(|options| {
                (options.mss, options.sack_permitted) = (Some(1410), true);
                options.window_scale = Some(5);
            });
            peer.open_with(offer);
            let got = peer.last_got().options;
            assert_eq!(got.timestamps.map(|stamps| stamps.echo), Some(77));
            assert_eq!((got.mss, got.sack_permitted), (Some(1460), true));
            assert_eq!(got.window_scale, Some(7));
            let ours = got.timestamps.expect("agreed").value;
            peer.give(ack(1, 1).window(10).stamps(78, ours));
            peer.send(&[b'x'; 4000]);
            assert_eq!(peer.turn(), ["A 1+320 ack 1"], "the window is scaled by 5");
            let later = peer.last_got().options.timestamps.expect("agreed");
            assert!(later.value.wrapping_sub(ours) < 128, "its clock never goes back");
            peer.give(ack(1, 321).window(1000).stamps(79, later.value));
            peer.turn();
            peer.give(ack(1, 1709).window(1000).stamps(80, later.value));
            let info = peer.host.stack.connections().next().expect("one");
            assert_eq!(info.mss, 1400, "the next smaller that a cookie can say");
            peer.give(data(100, 321, b"beyond a hole").stamps(81, later.value));
            assert_eq!(peer.last_got().options.sack.as_slice().len(), 1);
        });
    }
}

/// Without timestamps nobody keeps a window scale for us, so none is agreed.
#[test]
fn without_timestamps_only_the_segment_size_is_kept() {
    for (offered, kept) in [
        (None, 536),
        (Some(0), 48),
        (Some(40), 48),
        (Some(215), 48),
        (Some(1220), 1220),
        (Some(1459), 1440),
        (Some(9000), 1460),
    ] {
        tight(SynCookies::Always, &at_once(), |peer| {
            peer.open_with(syn().options(|options| {
                (options.mss, options.sack_permitted) = (offered, true);
            }));
            let got = peer.last_got().options;
            assert_eq!((got.window_scale, got.sack_permitted), (None, false));
            assert_eq!(got.timestamps, None);
            assert_eq!(peer.host.stack.connections().next().map(|one| one.mss), Some(kept));
            peer.give(ack(1, 1).window(10));
            peer.send(&[b'x'; 4000]);
            assert_eq!(peer.turn(), ["PA 1+10 ack 1"].map(|line| line.replace("PA", "A")));
        });
    }
}

/// N17: RST as for any ACK of no connection, and nothing is made.
#[test]
fn forged_and_borrowed_cookies_open_nothing() {
    tight(SynCookies::Always, &at_once(), |peer| {
        assert_eq!(peer.give(ack(1, 1)), ["R 1+0"], "none is out");
        assert_eq!(stopped(peer, Stop::CookieForged), 0);
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        let iss = peer.iss();
        for bit in 0..32 {
            // The segment size and the epoch stand in clear in the low bits: nor may they change.
            let flipped = (iss ^ 1 << bit).wrapping_sub(iss).cast_signed();
            assert_eq!(peer.give(ack(1, 1 + i64::from(flipped))).len(), 1, "{bit}");
            assert_eq!(peer.give(ack(1 + (1_i64 << bit), 1)).len(), 1, "{bit}");
        }
        assert_eq!(stopped(peer, Stop::CookieForged), 64);
        assert_eq!(peer.give(rst(1)), NOTHING);
        let cookie = i64::from(peer.iss());
        peer.use_port(4001);
        assert_eq!(peer.give(ack(1, cookie + 1)).len(), 1, "another client's");
        assert_eq!(peer.host.stack.usage().connections, 0);
        peer.use_port(4000);
        assert_eq!(peer.give(ack(1, 1)), NOTHING);
        assert_eq!(peer.events(), ["opened"]);
    });
}

/// N16: cookies are good for one to two minutes.
#[test]
fn old_cookies_are_stale() {
    for (age, good) in [(0, true), (63, true), (129, false), (257, false), (4 * 3600, false)] {
        tight(SynCookies::Always, &at_once(), |peer| {
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
            peer.now = peer.now + Duration::from_secs(age);
            // Others keep coming.
            peer.use_port(4001);
            peer.give(syn());
            peer.use_port(4000);
            assert_eq!(peer.give(ack(1, 1)).is_empty(), good, "after {age} s");
            assert_eq!(peer.host.stack.usage().connections, u32::from(good));
        });
    }
}

/// Where the application accepts, the SYN-ACK is its word and never a cookie.
#[test]
fn groups_that_ask_their_application_send_no_cookies() {
    for syn_cookies in [SynCookies::WhenFull, SynCookies::Always] {
        tight(syn_cookies, &xtcp_group(PORT), |peer| {
            for port in 1000..1002 {
                peer.use_port(port);
                assert_eq!(peer.give(syn()), NOTHING);
            }
            peer.use_port(4000);
            assert_eq!(peer.give(syn()), NOTHING);
            assert_eq!(stopped(peer, Stop::HalfOpenFull), 1);
            assert_eq!(counted(peer, Count::CookiesOut), 0);
            assert_eq!(peer.give(ack(1, 1)), ["R 1+0"], "nor takes any");
            assert_eq!(peer.events(), ["acceptable", "acceptable"]);
        });
    }
}

/// Whoever has had a second for its handshake makes way; the application hears of the end of what
/// it has heard of.
#[test]
fn old_handshakes_make_way() {
    let slow = GroupConfig {
        accept: xtcp_stack::Accept::ByApplication { timeout: Duration::from_secs(60) },
        ..xtcp_group(PORT)
    };
    tight(SynCookies::WhenFull, &slow, |peer| {
        for port in 1000..1002 {
            peer.use_port(port);
            peer.give(syn());
        }
        assert_eq!(peer.events(), ["acceptable", "acceptable"]);
        peer.now = peer.now + Duration::from_millis(999);
        peer.use_port(4000);
        assert_eq!(peer.give(syn()), NOTHING);
        assert_eq!(stopped(peer, Stop::HandshakeEvicted), 0);
        peer.now = peer.now + Duration::from_millis(1);
        for port in 4000..4002 {
            peer.use_port(port);
            // Lots are drawn: one more call may be needed, and a client makes it.
            for _ in 0..20 {
                assert_eq!(peer.give(syn()), NOTHING);
            }
        }
        assert_eq!(stopped(peer, Stop::HandshakeEvicted), 2);
        assert_eq!(peer.host.stack.usage().half_open, 2);
        let mut told = peer.events();
        told.sort();
        let (come, gone) = ("acceptable", "closed Refused held 0");
        assert_eq!(told, [come, come, gone, gone]);
    });
}

/// Bad input 85: nothing is left of a flood.
#[test]
fn handshakes_that_come_to_nothing_leave_nothing() {
    tight(SynCookies::Never, &at_once(), |peer| {
        for second in 0..20 {
            for port in 1000..1100 {
                peer.use_port(port);
                peer.give(syn());
            }
            assert!(peer.host.stack.usage().half_open <= 2, "in second {second}");
            peer.wait(Duration::from_secs(1));
        }
        assert!(stopped(peer, Stop::HandshakeEvicted) > 10);
        peer.wait(Duration::from_secs(200));
        peer.host.assert_nothing_held();
    });
}

/// Without room for a connection a cookie is not answered: its client tries again.
#[test]
fn a_cookie_that_finds_no_room_is_good_later() {
    let tcp = TcpConfig { syn_cookies: SynCookies::Always, ..TcpConfig::default() };
    let config = Config { tcp, connections_max: 2, ..config(0, 2) };
    client(&config, 1 << 20, &at_once(), |peer| {
        for port in 1000..1002 {
            peer.use_port(port);
            peer.open();
        }
        let last = peer.cd();
        peer.use_port(4000);
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        assert_eq!(peer.give(ack(1, 1)), NOTHING, "no RST");
        assert_eq!(stopped(peer, Stop::ConnectionsFull), 1);
        peer.connection = Some(last);
        peer.abort();
        peer.turn();
        peer.events();
        assert_eq!(peer.give(data(1, 1, b"request")), NOTHING);
        assert_eq!(peer.events(), ["opened", "data 0+7 request"]);
    });
}

/// When a SYN-ACK left of which nothing was kept, nobody knows: its answer tells no round trip, however
/// long the stack has run.
#[test]
fn a_cookie_tells_no_round_trip() {
    for seconds in [0, 30, 100, 200] {
        tight(SynCookies::Always, &at_once(), |peer| {
            peer.now = peer.now + Duration::from_secs(seconds);
            peer.open_with(syn().stamps(77, 0));
            let info = peer.host.stack.connection(peer.cd()).expect("open");
            assert_eq!(info.srtt_us, 0, "{seconds} s after the start");
            peer.send(b"lost");
            assert_eq!(peer.turn().len(), 1);
            let again = peer.wait(Duration::from_millis(1100));
            assert_eq!(again.len(), 1, "after a second (RFC 6298 section 2.1): {again:?}");
        });
    }
}

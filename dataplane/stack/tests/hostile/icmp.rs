//! ICMP: what is believed, and what is answered.

use std::time::Duration;

use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::wire::{checksum, icmpv4};
use xtcp_stack::{Count, Stop};

use super::{IP, NOTHING, assert_alive, assert_silence, dut, look, rose};
use crate::sim::peer::{Peer, ack};

/// A client to whom 4,000 bytes are on their way.
fn in_flight(test: impl FnOnce(&mut Peer<'_>)) {
    dut(|peer| {
        peer.open();
        peer.send(&[b'x'; 4000]);
        assert_eq!(peer.turn().len(), 3);
        test(peer);
        peer.give(ack(1, 4001));
        assert_eq!(peer.host.stack.usage().transmit_used, 0, "all of it arrived");
        assert_alive(peer, 1, 4001);
    });
}

/// An ICMP message in its frame.
fn frame(peer: &Peer<'_>, head: [u8; 8], body: &[u8]) -> Vec<u8> {
    let mut message = [&head[..], body].concat();
    message[2..4].fill(0);
    let field = checksum::field(checksum::sum(&message, 0));
    message[2..4].copy_from_slice(&field.to_be_bytes());
    peer.frame_with(icmpv4::PROTOCOL, &message)
}

/// Bad input 94, MUST-55.
#[test]
fn source_quench_is_ignored() {
    in_flight(|peer| {
        let quench = frame(peer, [4, 0, 0, 0, 0, 0, 0, 0], &peer.quote(1, 1500));
        for _ in 0..10 {
            assert_silence(peer, &quench, Stop::IcmpQuench);
        }
    });
}

/// Bad input 95 and 97, MUST-56, RFC 5927 section 5.2.
#[test]
fn unreachable_about_what_is_in_flight_is_soft() {
    for code in [0, 1, 2, 3, 5, 13] {
        in_flight(|peer| {
            let before = look(peer);
            assert_eq!(peer.complain((3, code, 0), 1461, 1500), NOTHING);
            assert_eq!(rose(peer, &before), [("soft-errors", 1)]);
            assert_eq!(look(peer).connections, before.connections);
        });
    }
}

/// Bad input 96, RFC 5927 section 4.1.
#[test]
fn unreachable_about_what_is_not_in_flight_is_ignored() {
    in_flight(|peer| {
        for seq in [0, 4001, 100_000, -5] {
            let error = frame(peer, [3, 3, 0, 0, 0, 0, 0, 0], &peer.quote(seq, 1500));
            assert_silence(peer, &error, Stop::IcmpNotInFlight);
        }
    });
}

/// Bad input 98 and N22: never below the floor, larger ones are ignored, and it comes to an end.
#[test]
fn path_mtus_are_floored_and_counted() {
    in_flight(|peer| {
        for mtu in [1500, 1501, 9000, 65_535_u16] {
            let [high, low] = mtu.to_be_bytes();
            let error = frame(peer, [3, 4, 0, 0, 0, 0, high, low], &peer.quote(1, 1500));
            assert_silence(peer, &error, Stop::IcmpMtuIgnored);
        }
        let again = peer.complain((3, 4, 68), 1, 1500);
        assert_eq!(again.first().map(String::as_str), Some("A 1+512 ack 1"));
        for mtu in 0..1000 {
            peer.complain((3, 4, mtu), 1, 1500);
        }
        assert_eq!(peer.host.stack.counters().counted(Count::PathMtuReduced), 1);
    });
}

/// Bad input 99.
#[test]
fn an_error_that_quotes_too_little_is_ignored() {
    in_flight(|peer| {
        let quoted = peer.quote(1, 1500);
        for len in 0..quoted.len() {
            let error = frame(peer, [3, 3, 0, 0, 0, 0, 0, 0], &quoted[..len]);
            assert_silence(peer, &error, Stop::IcmpErrorIgnored);
        }
        let mut other = quoted.clone();
        other[9] = 17;
        let error = frame(peer, [3, 3, 0, 0, 0, 0, 0, 0], &other);
        assert_silence(peer, &error, Stop::IcmpErrorIgnored);
        let mut theirs = quoted.clone();
        theirs[15] = 9;
        let error = frame(peer, [3, 3, 0, 0, 0, 0, 0, 0], &theirs);
        assert_silence(peer, &error, Stop::IcmpErrorIgnored);
        let whole = frame(peer, [3, 3, 0, 0, 0, 0, 0, 0], &quoted);
        let mut bad = whole.clone();
        bad[IP + 22] ^= 1;
        assert_silence(peer, &bad, Stop::IcmpChecksum);
        for len in 0..8 {
            let short = peer.frame_with(icmpv4::PROTOCOL, &whole[IP + 20..IP + 20 + len]);
            assert_silence(peer, &short, Stop::IcmpTruncated);
        }
    });
}

/// Bad input 100.
#[test]
fn redirects_are_ignored() {
    in_flight(|peer| {
        for code in 0..4 {
            let redirect = frame(peer, [5, code, 0, 0, 10, 0, 0, 66], &peer.quote(1, 1500));
            assert_silence(peer, &redirect, Stop::IcmpRedirect);
        }
    });
}

/// RFC 1122 section 3.2.2.6: an echo for one of us, in a frame for one of us.
#[test]
fn only_echoes_for_us_alone_are_answered() {
    in_flight(|peer| {
        let echo = |peer: &Peer<'_>| frame(peer, [8, 0, 0, 0, 0, 7, 0, 1], b"payload");
        let request = echo(peer);
        assert_eq!(peer.exchange(&request).len(), 1);
        for dst in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1])] {
            let mut grouped = request.clone();
            grouped[..6].copy_from_slice(&dst.0);
            assert_silence(peer, &grouped, Stop::IpGroup);
        }
        let server = peer.server;
        peer.server = [10, 0, 0, 255].into();
        let broadcast = echo(peer);
        assert_silence(peer, &broadcast, Stop::IpForeign);
        peer.server = server;
        let client = peer.client;
        peer.client = [10, 0, 0, 255].into();
        let amplified = echo(peer);
        assert_silence(peer, &amplified, Stop::IpSource);
        peer.client = client;
        for kind in [0, 1, 13, 14, 15, 17, 30, 255] {
            let other = frame(peer, [kind, 0, 0, 0, 0, 7, 0, 1], b"payload");
            assert_silence(peer, &other, Stop::IcmpIgnored);
        }
    });
}

/// A forged error in the middle of a handshake needs its number, too.
#[test]
fn a_handshake_survives_errors_about_other_numbers() {
    dut(|peer| {
        assert_eq!(peer.give(crate::sim::peer::syn()), ["SA 0+0 ack 1"]);
        for seq in [1, -1, 1000] {
            peer.complain((3, 3, 0), seq, 60);
        }
        peer.now = peer.now + Duration::from_millis(100);
        assert_eq!(peer.give(ack(1, 1)), NOTHING);
        assert_eq!(peer.events(), ["opened"]);
    });
}

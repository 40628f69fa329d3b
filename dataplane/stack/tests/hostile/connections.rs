//! Segments of open and of opening connections.

use std::net::IpAddr;
use std::time::Duration;

use xtcp_stack::wire::tcp::{Flags, SackBlock};
use xtcp_stack::{Address, Config, Count, State, Stop};

use super::{
    NOTHING, PORT, assert_alive, assert_answer, assert_serves, assert_silence, dut, dut_with,
};
use crate::sim::peer::{ISN, Peer, ack, data, fin, rst, syn};
use crate::sim::{QUEUE, config, ordinary_group, v4};

/// An open connection.
fn open(test: impl FnOnce(&mut Peer<'_>)) {
    dut(|peer| {
        peer.open();
        test(peer);
    });
}

fn second(peer: &mut Peer<'_>) {
    peer.now = peer.now + Duration::from_secs(1);
}

fn stopped(peer: &Peer<'_>, stop: Stop) -> u64 {
    peer.host.stack.counters().stopped(stop)
}

const WHERE_WE_ARE: &str = "A 1+0 ack 1";

/// Bad input 50.
#[test]
fn an_exact_reset_ends_the_connection() {
    open(|peer| {
        assert_eq!(peer.give(rst(1)), NOTHING);
        assert_eq!(peer.events(), ["closed Reset held 0"]);
        peer.host.assert_nothing_held();
        assert_serves(peer);
    });
}

/// Bad input 51 and 52, RFC 5961 section 3.
#[test]
fn an_inexact_reset_is_challenged_and_one_beyond_the_window_is_ignored() {
    open(|peer| {
        for seq in [2, 100, 60_000] {
            second(peer);
            assert_answer(peer, rst(seq), &[WHERE_WE_ARE], Some(Stop::ResetChallenged));
        }
        for seq in [0, -1, 1 << 24, -(1 << 30)] {
            let frame = peer.frame_of(&rst(seq));
            assert_silence(peer, &frame, Stop::ResetOutOfWindow);
        }
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 53 and 54, RFC 5961 section 4.
#[test]
fn a_syn_on_an_open_connection_is_challenged() {
    open(|peer| {
        second(peer);
        assert_answer(peer, syn().at(500), &[WHERE_WE_ARE], Some(Stop::SynChallenged));
        second(peer);
        assert_answer(peer, syn(), &[WHERE_WE_ARE], Some(Stop::OutOfWindow));
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 55 and 68: optimistic acknowledgements open no window and deliver no text.
#[test]
fn an_ack_of_what_was_never_sent_is_answered_and_its_text_dropped() {
    open(|peer| {
        peer.send(&[b'x'; 20_000]);
        let first = peer.turn().len();
        second(peer);
        for n in 0..50 {
            peer.give(data(1, 20_001 + n * 1000, b"injected"));
        }
        assert_eq!(stopped(peer, Stop::AckOfUnsent), 50);
        assert_eq!(peer.events(), NOTHING);
        let info = peer.host.stack.connections().next().expect("one");
        assert_eq!(info.unsent, 20_000, "nothing counts as arrived");
        assert_eq!(first, 10);
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 56, RFC 5961 section 5.
#[test]
fn an_ack_from_long_ago_is_challenged_and_its_text_dropped() {
    open(|peer| {
        second(peer);
        let old = data(1, 1 - 70_000, b"injected");
        assert_answer(peer, old, &[WHERE_WE_ARE], Some(Stop::AckTooOld));
        assert_eq!(peer.events(), NOTHING);
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 57.
#[test]
fn a_segment_without_ack_is_dropped() {
    open(|peer| {
        let frame = peer.frame_of(&data(1, 1, b"text").flags(Flags::PSH));
        assert_silence(peer, &frame, Stop::NoAck);
        let frame = peer.frame_of(&fin(1, 1).flags(Flags::FIN));
        assert_silence(peer, &frame, Stop::NoAck);
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 58.
#[test]
fn text_beyond_the_window_is_answered_and_not_delivered() {
    open(|peer| {
        let far = data(1 + (1 << 24), 1, b"beyond");
        assert_answer(peer, far, &[WHERE_WE_ARE], Some(Stop::OutOfWindow));
        assert_eq!(peer.events(), NOTHING);
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 59, RFC 2883.
#[test]
fn text_that_came_before_is_answered_at_once_and_not_delivered_again() {
    open(|peer| {
        peer.give(data(1, 1, b"text"));
        assert_eq!(peer.events(), ["data 0+4 text"]);
        for _ in 0..3 {
            let answer = ["A 1+0 ack 5"];
            assert_answer(peer, data(1, 1, b"text"), &answer, Some(Stop::DuplicateText));
        }
        assert_eq!(peer.events(), NOTHING);
        assert_alive(peer, 5, 1);
    });
}

/// Bad input 60, RFC 1122 section 4.2.3.6.
#[test]
fn a_keep_alive_probe_is_answered() {
    open(|peer| {
        second(peer);
        assert_answer(peer, ack(0, 1), &[WHERE_WE_ARE], Some(Stop::OutOfWindow));
        second(peer);
        let byte = data(0, 1, b"?");
        assert_answer(peer, byte, &[WHERE_WE_ARE], Some(Stop::DuplicateText));
        assert_alive(peer, 1, 1);
    });
}

/// Bad input 61, RFC 2018.
#[test]
fn text_beyond_a_hole_is_told_at_once_and_delivered_in_order() {
    dut(|peer| {
        peer.open_with(syn().options(|options| options.sack_permitted = true));
        assert_eq!(peer.give(data(6, 1, b"world")), [WHERE_WE_ARE]);
        let told = peer.last_got().options.sack;
        let (left, right) = (ISN.wrapping_add(6), ISN.wrapping_add(11));
        assert_eq!(told.as_slice(), [SackBlock { left, right }]);
        assert_eq!(peer.events(), NOTHING);
        assert_eq!(peer.give(data(1, 1, b"hello")), ["A 1+0 ack 11"]);
        assert_eq!(peer.events().concat(), "data 0+5 hellodata 5+5 world");
    });
}

/// Bad input 62: whoever was first is right.
#[test]
fn text_that_contradicts_what_came_first_changes_nothing() {
    open(|peer| {
        peer.give(data(1, 1, b"right"));
        peer.give(data(1, 1, b"wrong and more"));
        let told = peer.events().concat();
        assert!(told.starts_with("data 0+") && told.contains("right"), "{told}");
        assert!(!told.contains("wrong"), "{told}");
        assert_eq!(stopped(peer, Stop::TcpChecksum), 0);
    });
}

/// Bad input 63.
#[test]
fn text_after_the_end_is_not_delivered() {
    open(|peer| {
        peer.give(fin(1, 1).text(b"last"));
        assert_eq!(peer.events(), ["data 0+4 last", "finished 4"]);
        peer.give(data(6, 1, b"more"));
        peer.give(data(5, 1, b"more"));
        assert_eq!(peer.events(), NOTHING);
        assert_eq!(peer.host.stack.connections().next().map(|c| c.state), Some(State::CloseWait));
    });
}

/// Bad input 64: urgent pointers of all kinds, CVE-2019-12255.
#[test]
fn urgent_pointers_do_no_harm() {
    open(|peer| {
        let mut seq = 1;
        for pointer in [0, 1, 3, 4, 5, 100, u16::MAX] {
            peer.give(ack(seq, 1).urgent(pointer));
            assert_eq!(peer.events(), NOTHING, "without text");
            peer.give(data(seq, 1, b"text").urgent(pointer));
            assert_eq!(peer.events(), [format!("data {}+4 text", seq - 1)], "{pointer}");
            seq += 4;
        }
        assert_eq!(stopped(peer, Stop::UrgentIgnored), 14);
        assert_alive(peer, seq, 1);
    });
}

/// Bad input 66 and N9: a closed window is probed ever more rarely, for as long as it answers.
#[test]
fn a_closed_window_is_probed_and_opens_again() {
    open(|peer| {
        peer.give(ack(1, 1).window(0));
        peer.send(b"answer");
        assert_eq!(peer.turn(), NOTHING);
        let mut probes = 0;
        for _ in 0..24 * 60 {
            let sent = peer.wait(Duration::from_secs(60));
            probes += sent.len();
            assert!(sent.iter().all(|line| line.contains("1+1 ack 1")), "{sent:?}");
            peer.give(ack(1, 1).window(0));
        }
        assert!((24 * 55..24 * 70).contains(&probes), "about one a minute: {probes}");
        assert_eq!(peer.give(ack(1, 1)), ["PA 1+6 ack 1"]);
        assert_alive(peer, 1, 7);
    });
}

/// Bad input 67, SHLD-15 to 17.
#[test]
fn a_window_that_shrinks_is_survived() {
    open(|peer| {
        peer.send(&[b'x'; 10_000]);
        assert_eq!(peer.turn().len(), 7);
        for window in [10, 1, 0, 3, 500] {
            peer.give(ack(1, 1).window(window));
        }
        peer.wait(Duration::from_secs(2));
        peer.give(ack(1, 10_001));
        assert_eq!(peer.host.stack.usage().transmit_used, 0);
        assert_alive(peer, 1, 10_001);
    });
}

/// Bad input 69, CVE-2019-11477: blocks that say nothing sensible.
#[test]
fn senseless_selective_acknowledgements_do_no_harm() {
    dut(|peer| {
        peer.open_with(syn().options(|options| options.sack_permitted = true));
        peer.send(&[b'x'; 20_000]);
        peer.turn();
        let iss = peer.iss();
        let block = |left: i64, right: i64| SackBlock {
            left: iss.wrapping_add(left as u32),
            right: iss.wrapping_add(right as u32),
        };
        for blocks in [
            [block(5000, 2000), block(1, 1), block(-500, -100), block(1 << 30, 2)],
            [block(-500, 40_000), block(40_000, 50_000), block(0, 1), block(2, 3)],
            [block(1461, 2921), block(1461, 2921), block(2000, 2001), block(1 << 31, 7)],
        ] {
            for _ in 0..5 {
                let lines = peer.give(ack(1, 1).options(|options| {
                    blocks.iter().for_each(|block| options.sack.push(*block));
                }));
                assert!(lines.len() <= 16, "{lines:?}");
            }
        }
        for _ in 0..60 {
            let info = peer.host.stack.connections().next().expect("one");
            if info.unsent == 0 {
                break;
            }
            peer.wait(Duration::from_secs(1));
            let top = peer.last_got().seq + peer.last_got().text.len() as i64;
            peer.give(ack(1, top));
        }
        assert_eq!(peer.host.stack.usage().transmit_used, 0, "all of it arrives in the end");
    });
}

/// Bad input 70 and 71, RFC 7323 section 5: old timestamps, and a RST that needs none.
#[test]
fn old_timestamps_are_refused_but_on_a_reset() {
    dut(|peer| {
        peer.open_with(syn().stamps(1000, 0));
        let echo = peer.last_got().options.timestamps.expect("agreed").value;
        second(peer);
        let old = data(1, 1, b"old").stamps(900, echo);
        assert_answer(peer, old, &[WHERE_WE_ARE], Some(Stop::OldTimestamp));
        let frame = peer.frame_of(&data(1, 1, b"none"));
        assert_silence(peer, &frame, Stop::TimestampMissing);
        peer.give(data(1, 1, b"new").stamps(1001, echo));
        assert_eq!(peer.events(), ["data 0+3 new"]);
        assert_eq!(peer.give(rst(4).stamps(1, echo)), NOTHING);
        assert_eq!(peer.events(), ["closed Reset held 3"]);
    });
}

/// RFC 7323 section 5.3: PAWS comes before anything else is believed of a segment, and so its ACK field
/// frees nothing. That of a repeated segment with a timestamp in order does, even if its text is known.
#[test]
fn an_old_timestamp_is_looked_at_first() {
    dut(|peer| {
        peer.open_with(syn().stamps(1000, 0));
        let echo = peer.last_got().options.timestamps.expect("agreed").value;
        peer.give(data(1, 1, b"x").stamps(1005, echo));
        assert_eq!(peer.events(), ["data 0+1 x"]);
        peer.send(b"answer");
        peer.turn();
        let held = |peer: &Peer<'_>| peer.host.stack.usage().transmit_payload;
        assert_eq!(held(peer), 6);
        peer.give(data(1, 7, b"x").stamps(1004, echo));
        assert_eq!((stopped(peer, Stop::OldTimestamp), held(peer)), (1, 6));
        peer.give(data(1, 7, b"x").stamps(1005, echo));
        assert_eq!((stopped(peer, Stop::DuplicateText), held(peer)), (1, 0));
    });
}

/// RFC 7323 section 5.5: a clock may have gone half around since the peer was heard last.
#[test]
fn a_timestamp_from_24_days_ago_says_nothing() {
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    for (silence, taken) in [(days(23), false), (days(25), true)] {
        dut(|peer| {
            peer.open_with(syn().stamps(1000, 0));
            let echo = peer.last_got().options.timestamps.expect("agreed").value;
            peer.turn();
            peer.now = peer.now + silence;
            peer.give(data(1, 1, b"back").stamps(900, echo));
            assert_eq!(!peer.events().is_empty(), taken, "after {silence:?}");
        });
    }
}

/// N24: no garbage of a timestamp ends a connection or times a round trip.
#[test]
fn senseless_timestamps_do_no_harm() {
    dut(|peer| {
        peer.open_with(syn().stamps(0, 0));
        let before = peer.host.stack.connections().next().map(|info| info.srtt_us);
        for (n, (value, echo)) in
            (1..).zip([(0, 0), (1, u32::MAX), (2, 1 << 31), (3, 12345), (1 << 30, 0)])
        {
            second(peer);
            peer.give(data(n, 1, b"x").stamps(value, echo));
        }
        assert_eq!(peer.events(), ["data 0+5 xxxxx"]);
        let back = data(6, 1, b"x").stamps((1_u32 << 30).wrapping_sub(1 << 31), 0);
        peer.give(back);
        let after = peer.host.stack.connections().next().map(|info| info.srtt_us);
        assert_eq!(before, after, "nothing was in flight to be timed");
        peer.give(data(6, 1, b"alive").stamps((1 << 30) + 1, 0));
        assert!(!peer.events().is_empty());
    });
}

/// Bad input 80.
#[test]
fn a_wrong_ack_in_a_handshake_is_reset_and_the_handshake_stays() {
    dut(|peer| {
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        for wrong in [0, 2, 1000, -1000] {
            let answer = format!("R {wrong}+0");
            assert_answer(peer, ack(1, wrong), &[&answer], Some(Stop::AckNotOfSyn));
        }
        assert_eq!(peer.give(ack(1, 1)), NOTHING);
        assert_eq!(peer.events(), ["opened"]);
    });
}

/// Bad input 81, RFC 5961.
#[test]
fn only_an_exact_reset_ends_a_handshake() {
    dut(|peer| {
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        for seq in [0, 1 << 24] {
            let frame = peer.frame_of(&rst(seq));
            assert_silence(peer, &frame, Stop::ResetOutOfWindow);
        }
        peer.give(rst(2));
        assert_eq!(peer.host.stack.usage().half_open, 1);
        assert_eq!(peer.give(rst(1)), NOTHING);
        peer.host.assert_nothing_held();
    });
}

/// Bad input 82 and N18: a SYN-ACK is sent a few times, ever more rarely, then given up.
#[test]
fn an_unanswered_handshake_is_given_up() {
    dut(|peer| {
        let mut sent = peer.give(syn()).len();
        sent += peer.wait(Duration::from_secs(200)).len();
        assert_eq!(sent, 5, "whoever's address was lent gets so many");
        assert_eq!(stopped(peer, Stop::HandshakeTimedOut), 1);
        peer.host.assert_nothing_held();
    });
}

/// Bad input 83, MUST-42.
#[test]
fn text_stands_for_a_last_acknowledgement_that_was_lost() {
    dut(|peer| {
        assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
        peer.give(data(1, 1, b"hello"));
        assert_eq!(peer.events(), ["opened", "data 0+5 hello"]);
    });
}

/// Bad input 84 and N40, RFC 6528: no step to be seen; for the same client always forward.
#[test]
fn initial_sequence_numbers_tell_nothing() {
    dut(|peer| {
        let mut numbers = Vec::new();
        for port in 4000..4064 {
            peer.use_port(port);
            peer.give(syn());
            numbers.push(peer.iss());
            peer.give(rst(1));
        }
        let steps: Vec<u32> = numbers.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
        let mut distinct = steps.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), steps.len());
        assert!(steps.iter().filter(|step| **step < 1 << 16).count() < 3);
        peer.use_port(4000);
        let mut last = numbers[0];
        for _ in 0..10 {
            second(peer);
            peer.give(syn());
            let step = peer.iss().wrapping_sub(last);
            assert!((1..1 << 20).contains(&step), "{step}");
            last = peer.iss();
            peer.give(rst(1));
        }
    });
}

/// RFC 6528: of two clients that differ in any part of their names nobody knows one number by the other's.
#[test]
fn initial_sequence_numbers_hang_on_every_part_of_the_name() {
    let mut config = config(0, 2);
    config.addresses[2] = Some(Address { ip: v4(3), prefix_len: 24 });
    // Everybody else is behind the client's host.
    config.gateway_v4 = Some([10, 0, 0, 1].into());
    dut_with(&config, |peer| {
        let other = ordinary_group(PORT + 1);
        peer.host.stack.open_group(peer.host.pool, QUEUE, &other).expect("room");
        let mut numbers = Vec::new();
        for n in 0..16_u8 {
            let bit = |at: u8| n >> at & 1;
            peer.client = IpAddr::from([11, 0, 0, 1 + bit(0)]);
            peer.server = v4(2 + bit(1));
            peer.use_port(4000 + u16::from(bit(2)));
            peer.call(PORT + u16::from(bit(3)));
            assert_eq!(peer.give(syn()), ["SA 0+0 ack 1"]);
            numbers.push(peer.iss());
        }
        // Neither are two alike, nor does the same change of a name make the same difference.
        let differences = (0..16_usize).flat_map(|n| {
            let part = |at: usize| numbers[n].wrapping_sub(numbers[n ^ 1 << at]);
            (0..4).filter(move |at| n >> at & 1 == 1).map(part).collect::<Vec<u32>>()
        });
        let mut distinct: Vec<u32> = differences.collect();
        assert!(!distinct.contains(&0), "two of {numbers:x?} are alike");
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 32);
    });
}

/// N1, MUST-66.
#[test]
fn a_reset_is_taken_at_a_closed_window() {
    dut(|peer| {
        peer.open();
        // The application takes nothing until the window is closed.
        let mut seq = 1;
        for _ in 0..1000 {
            peer.give(data(seq, 1, &[b'x'; 1400]));
            if peer.last_got().window == 0 {
                break;
            }
            seq = peer.last_got().ack;
        }
        assert_eq!(peer.last_got().window, 0, "it closes");
        let seq = peer.last_got().ack;
        assert_eq!(peer.give(rst(seq)), NOTHING);
        let told = peer.events();
        assert!(told.iter().any(|line| line.starts_with("closed Reset")), "{told:?}");
    });
}

/// N2 and N3, CVE-2016-5696: each connection has its own ration, and says where it is whatever it
/// is asked.
#[test]
fn challenges_are_rationed_for_each_connection_alone() {
    open(|peer| {
        peer.use_port(4001);
        peer.open();
        peer.use_port(4000);
        second(peer);
        let mut answers = Vec::new();
        for n in 0..10_000 {
            answers.extend(peer.give(rst(2 + n % 100)));
            answers.extend(peer.give(syn().at(2 + n % 100)));
        }
        assert_eq!(answers, [WHERE_WE_ARE]);
        peer.use_port(4001);
        assert_eq!(peer.give(rst(2)), [WHERE_WE_ARE], "another's is untouched");
        peer.use_port(4000);
        assert_alive(peer, 1, 1);
    });
}

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

/// N39: a clock that jumps ends nothing by itself.
#[test]
fn a_clock_that_jumps_ends_no_connection() {
    open(|peer| {
        peer.send(b"answer");
        peer.turn();
        peer.now = peer.now + Duration::from_secs(3600);
        let sent = peer.turn();
        assert!(sent.len() <= 1, "no storm: {sent:?}");
        assert_eq!(peer.host.stack.counters().counted(Count::RetransmissionTimeouts), 1);
        peer.give(ack(1, 7));
        assert_alive(peer, 1, 7);
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

/// N38: after a restart those who knew us are told that we do not know them.
#[test]
fn clients_of_a_stack_that_was_restarted_are_reset() {
    dut(|peer| {
        let answer = ["R 5000+0"];
        assert_answer(peer, data(1000, 5000, b"more"), &answer, Some(Stop::NoConnection));
        assert_answer(peer, ack(999, 5000), &answer, Some(Stop::NoConnection));
        assert_serves(peer);
    });
}

/// N41: what a device says of checksums is believed only if it says that they are good.
#[test]
fn a_device_that_calls_a_checksum_bad_is_checked() {
    use xtcp_stack::{Checksum, RxFrame};
    dut(|peer| {
        let good = peer.frame_of(&syn());
        let mut bad = good.clone();
        bad[super::TCP_V4 + 16] ^= 1;
        for (bytes, checksum, answers) in [
            (&bad, Checksum::Unknown, 0),
            (&bad, Checksum::Bad, 0),
            (&good, Checksum::Bad, 1),
            (&good, Checksum::Unknown, 1),
        ] {
            let mut wire = crate::sim::Wire::default();
            peer.host.stack.on_burst(&[RxFrame { bytes, checksum }], &mut wire, peer.now);
            peer.host.flush(&mut wire, peer.now);
            assert_eq!(wire.frames.len(), answers, "{checksum:?}");
        }
        assert_eq!(stopped(peer, Stop::TcpChecksum), 2);
    });
}

/// N37: with no room for frames nothing acknowledged is lost, and it goes on when there is some.
#[test]
fn a_full_transmit_ring_loses_nothing() {
    open(|peer| {
        peer.room = Some(0);
        for n in 0..100 {
            peer.give(data(1 + 5 * n, 1, b"hello"));
            peer.now = peer.now + Duration::from_millis(1);
        }
        peer.send(b"answer");
        assert_eq!(peer.turn(), NOTHING);
        assert!(stopped(peer, Stop::TransmitFull) > 0);
        peer.room = None;
        assert_eq!(peer.turn(), ["PA 1+6 ack 501"]);
        let bytes: u32 = peer.host.stack.connections().map(|info| info.unread).sum();
        assert_eq!(bytes, 500);
    });
}

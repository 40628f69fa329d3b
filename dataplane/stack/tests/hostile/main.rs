//! Broken, hostile and merely odd input, from the wire's lowest layer up: what each must be answered
//! with, under which name it is counted, and that it changes nothing else.

#[path = "../sim/mod.rs"]
mod sim;

mod acknowledgements;
mod arp;
mod endings;
mod ethernet;
mod families;
mod handshakes;
mod icmp;
mod ipv4;
mod ipv6;
mod load;
mod names;
mod problems;
mod resets;
mod surroundings;
mod tcp;
mod text;
mod timestamps;

use std::time::Duration;

use sim::peer::{Peer, Seg, data};
use sim::{Memory, config, ordinary_group};
use xtcp_stack::wire::checksum::{self, PseudoHeader};
use xtcp_stack::{Config, ConnectionInfo, Counters, GroupConfig, State, Stop, Usage};

const PORT: u16 = 7;
const NOTHING: [&str; 0] = [];

/// Where a packet begins in a frame, and a segment in one of IPv4 or IPv6.
const IP: usize = 14;
const TCP_V4: usize = 34;
const TCP_V6: usize = 54;

/// The answer that tells a client which has sent nothing, and was sent nothing, where it is.
const WHERE_WE_ARE: &str = "A 1+0 ack 1";

/// What rises with every frame that is looked at.
const LOOKED_AT: [&str; 4] = ["frames-in", "bytes-in", "segments-in", "arp-in"];

/// A stack with an ordinary group, and one client.
fn dut(test: impl FnOnce(&mut Peer<'_>)) {
    dut_with(&config(0, 2), test);
}

fn dut_with(config: &Config, test: impl FnOnce(&mut Peer<'_>)) {
    let group = GroupConfig { nagle: false, ..ordinary_group(PORT) };
    let mut memory = Memory::for_host(config, 1 << 20);
    test(&mut Peer::new(&mut memory, config, &group));
}

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

/// All that could change.
struct Look {
    counters: Counters,
    usage: Usage,
    connections: Vec<(State, u32, u32, u16)>,
}

fn look(peer: &Peer<'_>) -> Look {
    let of = |info: ConnectionInfo| (info.state, info.unread, info.unsent, info.mss);
    Look {
        counters: peer.host.stack.counters().clone(),
        usage: peer.host.stack.usage(),
        connections: peer.host.stack.connections().map(of).collect(),
    }
}

/// The counters that rose since, beside those of looking.
fn rose(peer: &Peer<'_>, before: &Look) -> Vec<(&'static str, u64)> {
    let now = peer.host.stack.counters().rows();
    now.zip(before.counters.rows())
        .map(|(now, before)| (now.0, now.2 - before.2))
        .filter(|(name, by)| *by > 0 && !LOOKED_AT.contains(name))
        .collect()
}

/// The reasons to stop that were counted since.
fn stops(peer: &Peer<'_>, before: &Look) -> Vec<(Stop, u64)> {
    let by = |stop: Stop| peer.host.stack.counters().stopped(stop) - before.counters.stopped(stop);
    Stop::ALL.iter().map(|stop| (*stop, by(*stop))).filter(|(_, by)| *by > 0).collect()
}

/// This frame is answered by nothing, counted under one name, and changes nothing.
fn assert_silence(peer: &mut Peer<'_>, frame: &[u8], stop: Stop) {
    let before = look(peer);
    let answer = peer.exchange(frame);
    assert_eq!(rose(peer, &before), [(stop.name(), 1)]);
    assert!(answer.is_empty(), "{answer:02x?}");
    assert_eq!(peer.host.stack.usage(), before.usage);
    assert_eq!(look(peer).connections, before.connections);
}

/// This segment is answered so, stopped for this reason if for any, and changes nothing.
fn assert_answer(peer: &mut Peer<'_>, seg: Seg, answer: &[&str], stop: Option<Stop>) {
    let before = look(peer);
    assert_eq!(peer.give(seg), answer);
    let expected: Vec<(Stop, u64)> = stop.map(|stop| (stop, 1)).into_iter().collect();
    assert_eq!(stops(peer, &before), expected);
    assert_eq!(look(peer).connections, before.connections);
}

/// The open connection still takes text at `seq`, and the stack still takes other clients.
fn assert_alive(peer: &mut Peer<'_>, seq: i64, ack: i64) {
    peer.now = peer.now + Duration::from_secs(1);
    peer.give(data(seq, ack, b"alive"));
    let told = peer.events();
    assert!(told.iter().any(|line| line.ends_with("+5 alive")), "{told:?}");
    assert_serves(peer);
}

/// The stack takes a client and its text.
fn assert_serves(peer: &mut Peer<'_>) {
    peer.now = peer.now + Duration::from_secs(1);
    // What others have to send is not of interest.
    peer.turn();
    peer.use_port(60_000);
    peer.open();
    peer.give(data(1, 1, b"served"));
    assert_eq!(peer.events(), ["data 0+6 served"]);
    peer.abort();
    peer.turn();
    peer.events();
    peer.use_port(4000);
}

/// Makes the checksum of a frame's IPv4 header right again.
fn seal_ipv4(frame: &mut [u8]) {
    let len = usize::from(frame[IP] & 0x0f) * 4;
    frame[IP + 10..IP + 12].fill(0);
    let field = checksum::field(checksum::sum(&frame[IP..IP + len], 0));
    frame[IP + 10..IP + 12].copy_from_slice(&field.to_be_bytes());
}

/// Makes the checksum of a frame's TCP segment right again, wherever its packet goes.
fn seal_tcp_v4(frame: &mut [u8]) {
    let address = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).expect("four");
    let (src, dst) = (address(IP + 12).into(), address(IP + 16).into());
    let pseudo = PseudoHeader::v4(src, dst, 6);
    frame[TCP_V4 + 16..TCP_V4 + 18].fill(0);
    xtcp_stack::wire::tcp::set_checksum(&mut frame[TCP_V4..], pseudo);
}

/// Bytes put into a frame at `at`.
fn insert(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    [&frame[..at], bytes, &frame[at..]].concat()
}

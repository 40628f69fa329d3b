//! A message relay that is killed again and again at random moments, under load and over a wire that
//! loses, reorders and duplicates: nothing is lost, and nothing comes twice.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::{self, SendFlags};
use rustix::process::Signal;
use xtcp_bench::machine::Impairments;
use xtcp_bench::process::{Launch, Running};

use crate::rig::{Rig, SERVER_V4, START, Swept, seed};

const FROM: u16 = 7001;
const TO: u16 = 7002;

/// Clients that send, each its own numbers.
const SENDERS: usize = 4;

/// What the wire does to a thousand frames, in each direction.
const IMPAIRED: Impairments = Impairments { lost: 20, late: 20, twice: 10 };

/// How long nothing may come, restarts and retransmissions included.
const SILENCE: Duration = Duration::from_secs(30);

fn connect(rig: &Rig, port: u16) -> TcpStream {
    let stream = rig.connect(SERVER_V4, port).unwrap();
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    stream.set_write_timeout(Some(SILENCE)).unwrap();
    stream
}

fn start(rig: &Rig, appliance: &Swept) -> Running {
    Launch::new("relay", rig.programs.path("examples/relay").unwrap())
        .arguments(&format!("--instance {} --from {FROM} --to {TO}", appliance.name))
        .argument("--run-dir")
        .argument(appliance.run_dir.display().to_string())
        .log(&appliance.log("relay"))
        .start()
        .unwrap_or_else(|error| panic!("{error}"))
}

fn wait_until_ready(relay: &mut Running) -> String {
    let ready = relay.wait_for_line(0, "`ready on ports`", START, |l| l.contains("ready on ports"));
    ready.unwrap_or_else(|error| panic!("{error}")).0
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % bound
    }
}

/// Sends numbered lines of random length until told to stop, and one more that says so. Says how
/// many.
///
/// Each line is a segment of its own, as the specification has its messages ("below the MTU"). A
/// line across two segments whose second is lost would stay where it is: the relay acknowledges whole
/// lines only, and a client whose congestion window is down to one segment sends no other than the
/// first one that is not acknowledged.
fn send(mut stream: TcpStream, number: usize, stop: &AtomicBool, mut rng: Rng) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let filling = "x".repeat(usize::try_from(rng.below(300)).unwrap());
        let line = format!("{number} {sent} {filling}\n");
        assert_eq!(net::send(&stream, line.as_bytes(), SendFlags::EOR), Ok(line.len()));
        sent += 1;
    }
    stream.write_all(format!("{number} {sent} end\n").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    sent + 1
}

/// Reads lines until every sender has said that it ends; its numbers follow each other.
fn receive(stream: TcpStream, received: &AtomicU64) -> [u64; SENDERS] {
    let mut next = [0; SENDERS];
    let mut ended = 0;
    let mut lines = BufReader::new(stream).lines();
    while ended < SENDERS {
        let Some(line) = lines.next() else { panic!("the stream ends at {next:?}") };
        let line = line.unwrap_or_else(|error| panic!("after {next:?}: {error}"));
        let mut words = line.split(' ');
        let mut word = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(sender), Some(number)) = (word(), word()) else { panic!("{line}") };
        let expected = &mut next[usize::try_from(sender).unwrap()];
        assert_eq!(number, *expected, "of sender {sender}: lost, repeated or out of order");
        *expected += 1;
        ended += usize::from(line.ends_with(" end"));
        received.fetch_add(1, Ordering::Release);
    }
    next
}

/// `XTCP_KILLS=200` for a soak.
fn kills() -> u64 {
    std::env::var("XTCP_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

#[test]
fn a_relay_killed_at_random_moments_loses_nothing_and_repeats_nothing() {
    let rig = Rig::new();
    let wire = rig.bad_wire(IMPAIRED);
    let mut appliance = rig.appliance(&rig.instance_name('a'), wire.near());
    appliance.0.successor = "keep";
    let _xtcpd = appliance.start().unwrap_or_else(|error| panic!("{error}"));
    let mut relay = start(&rig, &appliance);
    assert!(wait_until_ready(&mut relay).ends_with(" 0 groups found"));

    let seed = seed();
    eprintln!("XTCP_SEED={seed}");
    let received = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let receiver = {
        let (stream, received) = (connect(&rig, TO), received.clone());
        thread::spawn(move || receive(stream, &received))
    };
    let senders: Vec<_> = (0..SENDERS)
        .map(|number| {
            let (stream, stop) = (connect(&rig, FROM), stop.clone());
            let rng = Rng(seed ^ number as u64);
            thread::spawn(move || send(stream, number, &stop, rng))
        })
        .collect();

    let mut rng = Rng(!seed);
    for kill in 0..kills() {
        // Some do not live to attach; the others die after some lines more.
        if rng.below(5) > 0 {
            let enough = received.load(Ordering::Acquire) + 1 + rng.below(3000);
            while received.load(Ordering::Acquire) < enough {
                assert!(!receiver.is_finished(), "after {kill} kills");
                assert!(relay.is_running(), "after {kill} kills:\n{}", relay.tail());
                thread::yield_now();
            }
        }
        relay.kill().unwrap();
        relay = start(&rig, &appliance);
    }
    assert!(wait_until_ready(&mut relay).ends_with(" 2 groups found"));
    stop.store(true, Ordering::Relaxed);
    let sent: Vec<u64> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    assert_eq!(receiver.join().unwrap()[..], sent);
    let tally = wire.tally().unwrap();
    assert!(tally.lost > kills() && tally.twice > 0 && tally.late > 0, "{tally:?}");
    eprintln!("{} lines were relayed by {} relays", sent.iter().sum::<u64>(), kills() + 1);
    eprintln!("{tally:?}");
}

/// Waits until so many connections of the appliance have heard the end of their client's stream.
fn wait_for_ends(appliance: &Swept, count: usize) {
    let ended = || {
        let connections = appliance.show("connections").unwrap_or_else(|error| panic!("{error}"));
        let has_ended = |row: &&serde_json::Map<String, serde_json::Value>| {
            row.values().any(|value| value.as_str() == Some("CLOSE-WAIT"))
        };
        connections.iter().filter(has_ended).count()
    };
    assert!((0..1000).any(|_| ended() == count), "{} have ended", ended());
}

/// The relay finds the receiver's end and a line for it in one look.
#[test]
fn a_line_that_comes_with_the_receiver_s_end_is_not_forgotten() {
    let rig = Rig::new();
    let veth = rig.veth();
    let appliance = rig.appliance(&rig.instance_name('a'), veth.near());
    let _xtcpd = appliance.start().unwrap_or_else(|error| panic!("{error}"));
    let mut relay = start(&rig, &appliance);
    wait_until_ready(&mut relay);
    let first = connect(&rig, TO);
    let (mut sender, other) = (connect(&rig, FROM), connect(&rig, FROM));
    sender.write_all(b"one\n").unwrap();
    let mut line = String::new();
    BufReader::new(&first).read_line(&mut line).unwrap();
    assert_eq!(line, "one\n");

    relay.signal(Signal::STOP);
    first.shutdown(Shutdown::Write).unwrap();
    wait_for_ends(&appliance, 1);
    sender.write_all(b"two\n").unwrap();
    // What comes behind it on the wire says that it has come.
    other.shutdown(Shutdown::Write).unwrap();
    wait_for_ends(&appliance, 2);
    relay.signal(Signal::CONT);
    // If the relay had not done with the first line yet, it sees the second before the end.
    line.clear();
    (&first).read_to_string(&mut line).unwrap();
    let next = connect(&rig, TO);
    if line.is_empty() {
        BufReader::new(&next).read_line(&mut line).unwrap();
    }
    assert_eq!(line, "two\n");
    assert!(relay.is_running(), "{}", relay.tail());
}

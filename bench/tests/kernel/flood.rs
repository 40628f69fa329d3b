//! Rows N16 and N17: a million forged segments a second over net_memif, while clients are served and
//! new ones come in. The clients are `xtcp-generator`'s, which compare every answer.
//!
//! `cargo test -p xtcp-bench --test kernel flood -- --ignored --nocapture` floods for half a minute
//! each, over both families. A machine that cannot carry a million a second says how many it
//! carried; everything else is asked of it all the same.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use xtcp_bench::clock::{Deadline, now};
use xtcp_bench::process::{Launch, Running, resident_bytes};

use crate::rig::{Rig, START};

const PATIENCE: Duration = Duration::from_secs(60);
/// Forged segments a second.
const RATE: u64 = 1_000_000;
/// Handshakes that are kept at most.
const HALF_OPEN_MAX: u64 = 1024;
/// A SYN-ACK that is kept is sent so often beside the first, to whoever does not answer.
const REPEATS: u64 = 5;
/// The longest SYN-ACK's frame, of IPv6 with timestamps.
const SYN_ACK_BYTES: u64 = 14 + 40 + 40;
/// What one address is sent at most.
const RESETS_PER_SECOND: u64 = 1000;
/// What the honest clients do meanwhile.
const HONEST: &str = "exchanges=5000,reconnects=200,active=1000";
const CLIENTS: u64 = 2000;

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
}

/// A dataplane with its echo and its prompt, and the generator at the other end of its device.
struct Pair {
    dataplane: Running,
    heard: usize,
    generator: Running,
    told: usize,
    _rig: Rig,
}

impl Pair {
    /// All clients, of the first address of a prefix, are connected.
    fn connect(family: Family, clients: &str) -> Self {
        let rig = Rig::new();
        let memif = |role: &str| {
            let socket = rig.directory.join("m.sock");
            format!("--vdev=net_memif0,role={role},socket={}", socket.display())
        };
        let options = format!(
            "--ip 10.64.0.1/10 --ip fd64::1/16 --forward-mode=echo --listen-port 7 -i \
             --connections 20000 --active 8192 --half-open-max {HALF_OPEN_MAX}"
        );
        let mut dataplane = rig
            .dataplane("flooded", &memif("server"), &options)
            .start()
            .unwrap_or_else(|error| panic!("{error}"));
        // Its link is up when the other end comes.
        dataplane
            .wait_for_line(0, "its addresses", START, |line| line.contains("addresses"))
            .unwrap_or_else(|error| panic!("{error}"));
        let server = match family {
            Family::V4 => "10.64.0.1:7",
            Family::V6 => "[fd64::1]:7",
        };
        let generator = Launch::new("generator", rig.programs.path("xtcp-generator").unwrap())
            .arguments(&format!("-l 0 --no-pci --no-huge -m 128 {} --", memif("client")))
            .arguments(&format!("--server {server} --clients {clients} --connections {CLIENTS}"))
            .arguments("--hold --step connect")
            .start()
            .unwrap_or_else(|error| panic!("{error}"));
        let mut pair = Self { dataplane, heard: 0, generator, told: 0, _rig: rig };
        let connected = pair.end_of_step();
        assert_eq!((of(&connected, "open"), of(&connected, "failed")), (CLIENTS, 0), "{connected}");
        pair
    }

    /// As many handshakes are under way as may be, none of which will be completed: no client
    /// reconnects meanwhile.
    fn fill(&mut self) {
        let deadline = Deadline::within(PATIENCE);
        while self.counts()["cookies-out"] < 1000 {
            assert!(!deadline.is_over(), "no handshake goes by cookie");
            self.step("flood,kind=syn,rate=100000,seconds=0.1,exchanges=100");
        }
        // The last acknowledgements are sent.
        self.step("idle,seconds=0.1");
    }

    /// What a step of the clients came to.
    fn step(&mut self, step: &str) -> Value {
        self.generator.tell(step).unwrap_or_else(|error| panic!("{error}"));
        self.end_of_step()
    }

    fn end_of_step(&mut self) -> Value {
        let is_end = |line: &str| line.starts_with("{\"step\":");
        let waited = self.generator.wait_for_line(self.told, "a step's end", PATIENCE, is_end);
        let (line, next) = waited.unwrap_or_else(|error| panic!("{error}"));
        self.told = next;
        serde_json::from_str::<Value>(&line).expect("JSON")["step"].take()
    }

    /// The answer to a command at the dataplane's prompt.
    fn ask(&mut self, command: &str) -> Vec<String> {
        for line in [command, "show status"] {
            self.dataplane.tell(line).unwrap_or_else(|error| panic!("{error}"));
        }
        let is_end = |line: &str| line.contains(" s ago, ");
        let waited = self.dataplane.wait_for_line(self.heard, "its status", PATIENCE, is_end);
        let (_, next) = waited.unwrap_or_else(|error| panic!("{error}"));
        let said = self.dataplane.said()[self.heard..next].to_vec();
        self.heard = next;
        said
    }

    /// All counters.
    fn counts(&mut self) -> HashMap<String, u64> {
        let lines = self.ask("show counters all");
        let counts = lines.iter().filter_map(|line| {
            let mut words = line.trim_start_matches("xtcp> ").split_whitespace();
            let name = words.next()?;
            // Its meaning stands before or behind the figure.
            let mut figures = [words.next(), words.next_back()].into_iter().flatten();
            Some((name.to_owned(), figures.find_map(|word| word.parse().ok())?))
        });
        counts.collect()
    }

    /// The counters when so many segments have come; the last may be on their way.
    fn counts_when_in(&mut self, segments: u64, before: &Counts) -> Risen {
        let deadline = Deadline::within(PATIENCE);
        loop {
            let risen = Risen { now: self.counts(), before: before.clone() };
            if risen.of("segments-in") >= segments {
                return risen;
            }
            assert!(!deadline.is_over(), "not {segments} segments have come: {:?}", risen.all());
        }
    }

    fn resident(&self) -> u64 {
        resident_bytes(self.dataplane.pid()).expect("it runs")
    }

    /// Everybody exchanges and leaves.
    fn end(mut self) {
        // Everybody has a turn.
        let load = self.step(&format!("load,rate={},seconds=0.1", 10 * CLIENTS));
        assert_eq!((of(&load, "failed"), of(&load, "damaged")), (0, 0), "{load}");
        assert_eq!((of(&load, "answers"), of(&load, "missed")), (CLIENTS, 0), "{load}");
        let close = self.step("close");
        assert_eq!((of(&close, "closed"), of(&close, "failed")), (CLIENTS, 0), "{close}");
        // It is as well as before. Both are killed, not asked to end: when one end of a net_memif goes,
        // DPDK frees what the interrupt thread and the worker of the other still read.
        assert!(self.ask("show status").iter().any(|line| line.contains("1 workers at work")));
        self.dataplane.kill().unwrap_or_else(|error| panic!("{error}"));
        self.generator.kill().unwrap_or_else(|error| panic!("{error}"));
    }
}

type Counts = HashMap<String, u64>;

/// Counters now and before.
struct Risen {
    now: Counts,
    before: Counts,
}

impl Risen {
    fn of(&self, name: &str) -> u64 {
        let of = |counts: &Counts| {
            *counts.get(name).unwrap_or_else(|| panic!("no counter {name} in {counts:?}"))
        };
        of(&self.now) - of(&self.before)
    }

    /// Segments that hit a handshake under way by chance, and were none of it.
    fn of_handshakes(&self) -> u64 {
        let names =
            ["old-timestamp", "out-of-window", "syn-again", "syn-challenged", "ack-not-of-syn"];
        names.iter().map(|name| self.of(name)).sum()
    }

    fn all(&self) -> Vec<(&str, u64)> {
        let names = self.now.keys().map(String::as_str);
        names.map(|name| (name, self.of(name))).filter(|(_, by)| *by > 0).collect()
    }
}

/// A figure of a step.
fn of(step: &Value, name: &str) -> u64 {
    step[name].as_u64().unwrap_or_else(|| panic!("no figure {name} in {step}"))
}

/// What was forged in two steps, the second of which only listened, and what came of it.
fn forged(steps: [&Value; 2], name: &str) -> u64 {
    steps.iter().map(|step| step["flood"][name].as_u64().unwrap_or(0)).sum()
}

/// What holds of any flood: whoever was there noticed nothing, and whoever came was let in.
fn assert_served(flood: &Value) {
    assert_eq!((of(flood, "failed"), of(flood, "damaged")), (0, 0), "{flood}");
    assert_eq!((of(flood, "missed"), of(flood, "open")), (0, CLIENTS), "{flood}");
    assert_eq!(of(flood, "answers"), of(flood, "requests"), "{flood}");
    assert!(of(flood, "opened") >= 100, "{flood}");
    // Goodput: what was sent again was lost, or late.
    assert!(of(flood, "resent") * 5 <= of(flood, "requests"), "{flood}");
}

/// Says how much of the flood there was; it must have been one.
fn tell(name: &str, family: Family, flood: &Value, risen: &Risen, grown: u64) {
    let (due, sent) = (of(&flood["flood"], "due"), of(&flood["flood"], "sent"));
    assert!(sent >= 20 * HALF_OPEN_MAX && sent <= due, "{flood}");
    let rate = flood["flood"]["rate"].as_f64().unwrap_or_default();
    let word = if sent < due { "this machine carries no more of " } else { "" };
    eprintln!(
        "{name} over {family:?}: {sent} forged segments, {rate:.0} a second ({word}{RATE}); {} exchanges \
         and {} new connections beside them, {} segments sent again; {} B in, {} B out; {grown} B more \
         memory",
        of(flood, "answers"),
        of(flood, "opened"),
        of(flood, "resent"),
        risen.of("bytes-in"),
        risen.of("bytes-out"),
    );
}

/// Row N16.
fn flood_of_syns(family: Family, seconds: u32) {
    let clients = match family {
        Family::V4 => "10.65.0.0/16",
        Family::V6 => "fd64:0:0:1::/64",
    };
    let mut pair = Pair::connect(family, clients);
    // All that may be kept is kept before it begins: the rest goes by cookie.
    pair.fill();
    let (full, before) = (pair.resident(), pair.counts());
    let flood = pair.step(&format!("flood,kind=syn,rate={RATE},seconds={seconds},{HONEST}"));
    let after = pair.step("idle,seconds=0.1");
    let (sent, opened) = (forged([&flood, &after], "sent"), of(&flood, "opened"));
    let segments = sent + of(&flood, "segments_out") + of(&after, "segments_out");
    let risen = pair.counts_when_in(segments, &before);
    let grown = pair.resident().saturating_sub(full);
    tell("a flood of SYNs", family, &flood, &risen, grown);
    assert_served(&flood);
    assert_eq!(risen.of("segments-in"), segments, "{:?}", risen.all());
    // Each SYN got a cookie and no record, but for the places of handshakes that had lasted long
    // enough, and of those who came into such a place.
    let freed = risen.of("handshake-timed-out");
    assert_eq!(risen.of("connections-opened"), opened, "{:?}", risen.all());
    let by_record = opened.saturating_sub(risen.of("cookies-back"));
    assert!(by_record <= freed && risen.of("cookies-back") <= opened, "{:?}", risen.all());
    let answered = risen.of("cookies-out") + risen.of_handshakes();
    let least = sent + opened - freed - by_record;
    let syns = least..=sent + opened + of(&flood, "resent");
    assert!(syns.contains(&answered), "{answered} of {syns:?} SYNs: {:?}", risen.all());
    assert_eq!((risen.of("handshake-evicted"), risen.of("half-open-full")), (0, 0));
    // Nothing is longer than what it answers, but for the SYN-ACKs of handshakes that are kept.
    let repeats = (HALF_OPEN_MAX + freed) * REPEATS;
    let most = risen.of("bytes-in") + repeats * SYN_ACK_BYTES;
    assert!(risen.of("bytes-out") <= most, "{:?}", risen.all());
    assert!(forged([&flood, &after], "syn_acks") <= sent + repeats, "{flood}");
    assert!(forged([&flood, &after], "other_answers") <= risen.of_handshakes(), "{flood}");
    assert!(grown < 1 << 20, "{grown} bytes more");
    pair.end();
}

/// Row N17. Resets are rationed by address, and by an IPv6 network's of 64 bits.
fn flood_of_acks(family: Family, seconds: u32) {
    let (clients, senders) = match family {
        Family::V4 => ("10.65.0.0/24", 253),
        Family::V6 => ("fd64:0:0:1::/64", 1),
    };
    let mut pair = Pair::connect(family, clients);
    // Cookies are out, so that ACKs are looked at for one.
    pair.fill();
    let (full, before, began) = (pair.resident(), pair.counts(), now());
    let flood = pair.step(&format!("flood,kind=ack,rate={RATE},seconds={seconds},{HONEST}"));
    let after = pair.step("idle,seconds=0.1");
    let (sent, opened) = (forged([&flood, &after], "sent"), of(&flood, "opened"));
    let segments = sent + of(&flood, "segments_out") + of(&after, "segments_out");
    let risen = pair.counts_when_in(segments, &before);
    let most = RESETS_PER_SECOND * senders * (began.elapsed().as_secs() + 2);
    let grown = pair.resident().saturating_sub(full);
    tell("a flood of ACKs", family, &flood, &risen, grown);
    assert_served(&flood);
    assert_eq!(risen.of("segments-in"), segments, "{:?}", risen.all());
    // 28 bits of a cookie are nobody's to know: one flood of half a minute in nine guesses one.
    let guessed = risen.of("connections-opened").saturating_sub(opened);
    assert!(guessed <= 3, "{:?}", risen.all());
    if risen.of("handshake-timed-out") == 0 {
        assert_eq!(risen.of("cookies-back"), opened + guessed, "{:?}", risen.all());
    }
    let judged = risen.of("cookie-forged") + risen.of("reset-rationed") + risen.of_handshakes();
    let acks = sent - guessed..=sent - guessed + of(&flood, "resent");
    assert!(acks.contains(&judged), "{judged} of {acks:?} ACKs: {:?}", risen.all());
    let resets = risen.of("resets-out");
    assert_eq!(resets, risen.of("cookie-forged") + risen.of("ack-not-of-syn"), "{:?}", risen.all());
    assert!(resets <= most, "{resets} resets where {most} may be");
    assert!(forged([&flood, &after], "resets") <= resets, "{flood}");
    // Who hits a handshake by chance is told where it is, at most.
    assert!(forged([&flood, &after], "other_answers") <= risen.of_handshakes(), "{flood}");
    let repeats = HALF_OPEN_MAX * REPEATS * SYN_ACK_BYTES;
    assert!(risen.of("bytes-out") <= risen.of("bytes-in") + repeats, "{:?}", risen.all());
    assert!(grown < 1 << 20, "{grown} bytes more");
    pair.end();
}

#[test]
fn row_n16_clients_are_served_through_a_million_syns_a_second() {
    flood_of_syns(Family::V4, 4);
    flood_of_syns(Family::V6, 2);
}

#[test]
fn row_n17_a_million_forged_cookies_a_second_open_nothing() {
    flood_of_acks(Family::V4, 4);
    flood_of_acks(Family::V6, 2);
}

#[test]
#[ignore = "two minutes: half a minute of each flood and family"]
fn rows_n16_and_n17_for_half_a_minute() {
    for family in [Family::V4, Family::V6] {
        flood_of_syns(family, 30);
        flood_of_acks(family, 30);
    }
}

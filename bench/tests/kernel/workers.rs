//! Two workers at one device: clients of the generator, every answer compared, and each connection at
//! one worker from its first segment to its last.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use xtcp_bench::clock::Deadline;
use xtcp_bench::process::{Launch, Running};

use crate::rig::{Rig, SERVER_V4, START};

const PATIENCE: Duration = Duration::from_secs(120);

/// Clients; none of their addresses is the kernel's own.
const CLIENTS: u32 = 3_000;

/// Handshakes, requests and ends that are under way at once: fewer than any ring on the way holds.
const UNDER_WAY: u32 = 64;

/// What each of the two workers has counted.
type Counters = BTreeMap<String, [u64; 2]>;

/// The dataplane's echo with two workers and a prompt.
fn start_echo(rig: &Rig, device: &str) -> Running {
    let own = "--forward-mode=echo --listen-port 7 --workers-cores 0,1 --connections 10000 -i";
    let launch = rig.dataplane("echo", &format!("--no-pci --vdev={device}"), own);
    launch.start().unwrap_or_else(|error| panic!("{error}"))
}

/// The generator, which does a step for each line it is told.
fn start_clients(rig: &Rig, device: &str, inside: Option<&str>, queues: u8) -> Running {
    let mut launch = Launch::new("clients", rig.programs.path("xtcp-generator").unwrap())
        .arguments(&format!("-l 0 --no-pci --no-huge -m 128 --vdev={device}"))
        .arguments(&format!("--file-prefix {}", rig.instance_name('g')))
        .arguments(&format!("-- --server {SERVER_V4}:7 --clients 10.77.0.128/25 --hold --yields"))
        .arguments(&format!("--connections {CLIENTS} --queues {queues}"))
        .arguments(&format!("--step connect,under-way={UNDER_WAY}"))
        .log(&rig.directory.join("clients.log"));
    if let Some(namespace) = inside {
        launch = launch.inside(namespace);
    }
    launch.start().unwrap_or_else(|error| panic!("{error}"))
}

/// What the generator reports of the step under way when it ends; nothing may have gone wrong in it.
fn step_ends(clients: &mut Running, read: &mut usize) -> BTreeMap<String, Value> {
    let (line, next) = clients
        .wait_for_line(*read, "the end of its step", PATIENCE, |line| line.starts_with("{\"step\""))
        .unwrap_or_else(|error| panic!("{error}"));
    *read = next;
    let mut told: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(&line).unwrap();
    let report = told.remove("step").unwrap();
    for wrong in ["failed", "damaged", "missed", "unsent"] {
        assert_eq!(report[wrong], 0, "{report:#?}");
    }
    report
}

/// What the prompt says of both workers.
fn counters(echo: &mut Running) -> Counters {
    let from = echo.said().len();
    echo.tell("show counters all").unwrap();
    echo.tell("show status").unwrap();
    echo.wait_for_line(from, "its status", START, |line| line.contains("2 workers at work"))
        .unwrap_or_else(|error| panic!("{error}"));
    let row = |line: &String| {
        let mut words = line.trim_start_matches("xtcp> ").split_whitespace();
        let name = words.next()?.to_owned();
        let mut figure = || words.next()?.parse().ok();
        Some((name, [figure()?, figure()?]))
    };
    echo.said()[from..].iter().filter_map(row).collect()
}

/// That both workers have their part of so many; a hash does not cut it in halves.
fn is_shared(figures: [u64; 2], all: u64) -> bool {
    figures.iter().sum::<u64>() == all && figures.iter().all(|figure| *figure > all / 4)
}

/// Set-ups, exchanges, new connections in place of the old ones, and ends.
fn serve(echo: &mut Running, clients: &mut Running) {
    let (all, mut read) = (u64::from(CLIENTS), 0);
    let connected = step_ends(clients, &mut read);
    assert_eq!((&connected["opened"], &connected["open"]), (&json!(all), &json!(all)));
    let opened = counters(echo)["connections-opened"];
    assert!(is_shared(opened, all), "{opened:?}");

    // Two requests for each client, however long the answers take.
    clients.tell("load,seconds=4,rate=1500,request=700").unwrap();
    let load = step_ends(clients, &mut read);
    assert_eq!((&load["active"], &load["requests"]), (&json!(all), &json!(2 * all)), "{load:#?}");
    assert_eq!((&load["answers"], &load["bytes_in"]), (&load["requests"], &load["bytes_out"]));

    clients.tell(&format!("reconnect,how=rst,under-way={UNDER_WAY}")).unwrap();
    let again = step_ends(clients, &mut read);
    assert_eq!((&again["opened"], &again["open"]), (&json!(all), &json!(all)), "{again:#?}");

    clients.tell(&format!("close,how=fin,under-way={UNDER_WAY}")).unwrap();
    let closed = step_ends(clients, &mut read);
    assert_eq!((&closed["closed"], &closed["open"]), (&json!(all), &json!(0)), "{closed:#?}");
    let seen = when_ended(echo, 2 * all);
    for counter in ["connections-opened", "connections-ended"] {
        assert!(is_shared(seen[counter], 2 * all), "{counter}: {:?}", seen[counter]);
    }
    // The device does not know whose a flow is: each worker gets frames of the other's.
    let [handed, received] = ["spread-handed-over", "spread-received"].map(|name| seen[name]);
    assert!(handed.iter().all(|frames| *frames > all), "{handed:?}");
    assert_eq!([handed[1], handed[0]], received);
    assert_eq!(seen["spread-ring-full"], [0, 0]);
    // A segment at the other worker would be one of no connection, and be reset.
    assert_eq!(seen["resets-out"], [0, 0]);
}

/// What both workers have counted when so many connections have ended: the last acknowledgements may
/// be on their way.
fn when_ended(echo: &mut Running, ended: u64) -> Counters {
    let deadline = Deadline::within(PATIENCE);
    loop {
        let seen = counters(echo);
        if seen["connections-ended"].iter().sum::<u64>() >= ended || deadline.is_over() {
            return seen;
        }
    }
}

/// The kernel gives each flow to one of two queues, by a hash of its own.
#[test]
fn two_workers_on_two_queues_of_af_packet() {
    let rig = Rig::new();
    let veth = rig.veth();
    let mut echo = start_echo(&rig, &format!("net_af_packet0,iface={},qpairs=2", veth.near()));
    crate::rig::wait_until_up(&mut echo);
    let inside = Some(rig.namespace.name());
    let mut clients = start_clients(&rig, "net_af_packet0,iface=peer", inside, 1);
    serve(&mut echo, &mut clients);
    clients.tell("").unwrap();
    let status = clients.wait(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    assert!(status.success(), "{status}\n{}", clients.tail());
    let status = echo.stop().unwrap();
    assert!(status.success(), "{status}\n{}", echo.tail());
}

/// The clients choose one of two queues by their ports.
#[test]
fn two_workers_on_two_queues_of_memif() {
    let rig = Rig::new();
    let memif =
        |role: &str| format!("net_memif0,role={role},socket={}/m.sock", rig.directory.display());
    let mut echo = start_echo(&rig, &memif("server"));
    // It cannot know how many the other end has, and its link is up when that comes.
    for line in ["must have 2 queue pairs", "the link is down"] {
        echo.wait_for_line(0, line, START, |said| said.contains(line))
            .unwrap_or_else(|error| panic!("{error}"));
    }
    let mut clients = start_clients(&rig, &memif("client"), None, 2);
    serve(&mut echo, &mut clients);
    // Both are killed, not asked to end: when one end of a net_memif goes, DPDK frees what the
    // interrupt thread and the workers of the other still read.
    for end in [&mut echo, &mut clients] {
        end.kill().unwrap_or_else(|error| panic!("{error}"));
    }
}

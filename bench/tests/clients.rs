//! The clients themselves, against ordinary kernel servers on the loopback: what they report has to
//! be believed in every other test, so here they must also be able to fail.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use xtcp_bench::client::{self, Event, Framing, Plan, StepReport};
use xtcp_bench::echo_server::EchoServer;

fn echo_server(listen: &str, spoil: Option<u64>) -> SocketAddr {
    let mut server = EchoServer::bind(listen.parse().unwrap()).unwrap();
    server.spoil = spoil;
    let address = server.address().unwrap();
    std::thread::spawn(move || server.serve());
    address
}

fn plan(targets: Vec<SocketAddr>, connections: u32, loads: &[&str]) -> Plan {
    Plan {
        targets,
        connections,
        connecting_max: 64,
        threads: 2,
        framing: Framing::Raw,
        seed: 42,
        patience: Duration::from_secs(20),
        loads: loads.iter().map(|load| load.parse().unwrap()).collect(),
    }
}

/// Runs the plan; gives the reports of its steps and how many connections failed.
fn run(plan: &Plan) -> (Vec<StepReport>, u64) {
    let mut steps = Vec::new();
    let failed = client::run(plan, |event| {
        if let Event::Step(report) = event {
            steps.push(report);
        }
    })
    .unwrap();
    (steps, failed)
}

#[test]
fn every_pace_makes_all_exchanges_over_both_families() {
    let targets = vec![echo_server("127.0.0.1:0", None), echo_server("[::1]:0", None)];
    let loads = [
        "rounds=3,sizes=1024",
        "rounds=2,sizes=log:1..300000",
        "rounds=2,sizes=1..2000,think-ms=5",
        "rounds=2,sizes=100,rate=5000",
    ];
    let (steps, failed) = run(&plan(targets, 100, &loads));
    assert_eq!(failed, 0, "{steps:?}");
    let done: Vec<(&str, u64)> = steps.iter().map(|s| (s.step.as_str(), s.done)).collect();
    let want = [
        ("connect", 100),
        ("load", 300),
        ("load", 200),
        ("load", 200),
        ("load", 200),
        ("close", 100),
    ];
    assert_eq!(done, want);
    for load in &steps[1..5] {
        assert_eq!(load.bytes_sent, load.bytes_received);
        assert!(load.latency.is_some_and(|latency| latency.p50_us > 0.0));
    }
    assert_eq!(steps[1].bytes_sent, 300 * 1024);
    // 200 requests, the last of them due after 199/5000 of a second.
    assert!(steps[4].seconds >= 199.0 / 5000.0, "{steps:?}");
}

#[test]
fn one_wrong_bit_is_found_and_named() {
    let target = echo_server("127.0.0.1:0", Some(5_000));
    let (steps, failed) = run(&plan(vec![target], 1, &["rounds=2,sizes=3000"]));
    assert_eq!(failed, 1);
    let want = "connection 0: round 1: byte 2000 of the answer is not what was sent";
    assert_eq!(steps[1].failures, [want]);
}

#[test]
fn a_server_that_closes_early_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
    });
    let (steps, failed) = run(&plan(vec![target], 1, &["sizes=1000"]));
    assert_eq!(failed, 1);
    assert_eq!(
        steps[1].failures,
        ["connection 0: round 0: the server closed after 0 bytes of the answer"]
    );
}

#[test]
fn a_server_that_says_nothing_is_told_when_patience_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut plan = plan(vec![listener.local_addr().unwrap()], 1, &["sizes=1000"]);
    plan.patience = Duration::from_millis(200);
    let (steps, failed) = run(&plan);
    // Once in the load and not again at closing: it is given up.
    assert_eq!(failed, 1, "{steps:?}");
    assert_eq!(
        steps[1].failures,
        ["connection 0: round 0: nothing moved any more after 1000 bytes sent and 0 received"]
    );
}

#[test]
fn nobody_listening_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    drop(listener);
    let (steps, failed) = run(&plan(vec![target], 3, &[]));
    assert_eq!(failed, 3);
    assert!(steps[0].failures[0].contains("refused"), "{steps:?}");
}

#[test]
fn the_distribution_is_left_in_a_file() {
    let target = echo_server("127.0.0.1:0", None);
    let path = std::env::temp_dir().join(format!("xtcp-clients-{}.hgrm", std::process::id()));
    let load = format!("rounds=50,sizes=10,hgrm={}", path.display());
    let (_, failed) = run(&plan(vec![target], 2, &[&load]));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(failed, 0);
    assert!(text.contains("TotalCount"), "{text}");
    assert!(text.contains("Total count    =          100"), "{text}");
}

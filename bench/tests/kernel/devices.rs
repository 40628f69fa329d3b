//! The dataplane alone, its TCP echo, against clients of the Linux kernel, over each virtual device a
//! kernel can be at the other end of.

use std::time::Duration;

use xtcp_bench::process::{Launch, Running};

use crate::rig::{CLIENT_V4, CLIENT_V6, Rig, SERVER_V4, SERVER_V6, START, steps, targets};

const PATIENCE: Duration = Duration::from_secs(120);

/// Starts the dataplane's echo on a device and waits until it forwards.
fn start_echo(rig: &Rig, eal: &str) -> Running {
    let launch = rig.dataplane("echo", eal, "--forward-mode=echo --listen-port 7");
    let mut dataplane = launch.start().unwrap_or_else(|error| panic!("{error}"));
    crate::rig::wait_until_up(&mut dataplane);
    dataplane
}

/// Both families: many small exchanges, then few large ones.
fn exchange(rig: &Rig) {
    let steps = rig.clients(&format!(
        "{} --connections 200 --load rounds=20,sizes=1..2000 --load rounds=1,sizes=log:1..1048576",
        targets(7)
    ));
    let done: Vec<u64> = steps.iter().map(|step| step.done).collect();
    assert_eq!(done, [200, 4000, 200, 200], "{steps:?}");
    for load in &steps[1..3] {
        assert_eq!(load.bytes_sent, load.bytes_received);
    }
}

#[test]
fn over_af_packet_on_veth() {
    let rig = Rig::new();
    let veth = rig.veth();
    let mut dataplane = start_echo(&rig, &format!("--vdev=net_af_packet0,iface={}", veth.near()));
    exchange(&rig);
    let status = dataplane.stop().unwrap();
    assert!(status.success(), "{status}\n{}", dataplane.tail());
}

#[test]
fn over_af_xdp_on_veth() {
    let rig = Rig::new();
    let veth = rig.veth();
    let mut dataplane = start_echo(&rig, &format!("--vdev=net_af_xdp0,iface={}", veth.near()));
    exchange(&rig);
    let status = dataplane.stop().unwrap();
    assert!(status.success(), "{status}\n{}", dataplane.tail());
}

#[test]
fn over_a_tap() {
    let rig = Rig::new();
    let tap = rig.interface('t');
    let mut dataplane = start_echo(&rig, &format!("--vdev=net_tap0,iface={tap}"));
    // A tap may change its namespace while it is open.
    xtcp_bench::machine::run(&format!("ip link set {tap} netns {}", rig.namespace.name())).unwrap();
    xtcp_bench::machine::run(&format!("ip -n {} link set {tap} up", rig.namespace.name())).unwrap();
    rig.add_client_addresses(&tap);
    exchange(&rig);
    let status = dataplane.stop().unwrap();
    assert!(status.success(), "{status}\n{}", dataplane.tail());
}

#[test]
fn two_dataplanes_over_memif() {
    let rig = Rig::new();
    let memif = |role: &str| {
        format!("--vdev=net_memif0,role={role},socket={}/m.sock", rig.directory.display())
    };
    let echo = rig.dataplane("echo", &memif("server"), "--forward-mode=echo --listen-port 7");
    let mut echo = echo.start().unwrap_or_else(|error| panic!("{error}"));
    // Its link is up when the other end comes.
    echo.wait_for_line(0, "`the link is down`", START, |line| line.contains("the link is down"))
        .unwrap_or_else(|error| panic!("{error}"));
    let client = Launch::new("client", rig.programs.path("xtcp-stack-client").unwrap())
        .arguments(&format!("-l 0 --no-pci --no-huge -m 256 {} --", memif("client")))
        .arguments(&format!("--ip {CLIENT_V4}/24 --ip {CLIENT_V6}/64"))
        .arguments(&format!("--server {SERVER_V4}:7 --server [{SERVER_V6}]:7"))
        .arguments("--connections 200 --rounds 50 --sizes log:1..100000");
    let said = client.finish(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    let report = &steps(&said)[0];
    assert_eq!((report.done, report.failed), (10_000, 0), "{report:?}");
    assert_eq!(report.bytes_sent, report.bytes_received);
    // It is not asked to end: when the client's end of a net_memif went, DPDK freed what the
    // interrupt thread and the worker of this one may still have read.
    echo.kill().unwrap_or_else(|error| panic!("{error}"));
}

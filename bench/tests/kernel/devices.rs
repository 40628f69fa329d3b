//! The dataplane alone, its TCP echo, against clients of the Linux kernel, over each virtual device a
//! kernel can be at the other end of.

use crate::rig::{Rig, targets};
use xtcp_bench::process::Running;

/// Starts the dataplane's echo on a device and waits until it forwards.
fn start_echo(rig: &Rig, eal: &str) -> Running {
    let launch = rig.dataplane("echo", eal, "--forward-mode=echo --listen-port 7");
    let mut dataplane = launch.start().unwrap_or_else(|error| panic!("{error}"));
    crate::rig::wait_until_forwarding(&mut dataplane);
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

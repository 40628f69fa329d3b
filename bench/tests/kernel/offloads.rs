//! Checksums left to the device, jumbo frames and frames in several mbufs: against clients of the
//! kernel, which verify every checksum, with `tshark` as the judge.

use std::collections::BTreeMap;
use std::time::Duration;

use xtcp_bench::capture::Capture;
use xtcp_bench::judge::{Judged, judge};
use xtcp_bench::machine::{VethPair, run};
use xtcp_bench::process::Running;

use crate::rig::{Rig, START, targets};

const PATIENCE: Duration = Duration::from_secs(120);

/// TCP's header in a segment with timestamps.
const HEADER: u32 = 32;

/// The dataplane's echo with a prompt.
fn start_echo(rig: &Rig, eal: &str, own: &str) -> Running {
    let own = format!("--forward-mode=echo --listen-port 7 -i {own}");
    let launch = rig.dataplane("echo", eal, &own);
    let mut dataplane = launch.start().unwrap_or_else(|error| panic!("{error}"));
    crate::rig::wait_until_up(&mut dataplane);
    dataplane
}

/// A tap whose other end is the kernel's, inside the rig's namespace; the dataplane's echo on it.
fn echo_on_tap(rig: &Rig, own: &str) -> (Running, String) {
    let tap = rig.interface('t');
    let dataplane = start_echo(rig, &format!("--vdev=net_tap0,iface={tap}"), own);
    let inside = rig.namespace.name();
    run(&format!("ip link set {tap} netns {inside}")).unwrap();
    run(&format!("ip -n {inside} link set {tap} up")).unwrap();
    rig.namespace.run(&format!("ip link set {tap} gso_max_segs 1")).unwrap();
    rig.add_client_addresses(&tap);
    (dataplane, tap)
}

/// Both families: small exchanges, then long ones; what a capture of all says.
fn exchange(rig: &Rig, interface: &str) -> Vec<Judged> {
    let file = rig.directory.join("offloads.pcap");
    let capture = Capture::start_whole(interface, rig.namespace.name(), &file).unwrap();
    let steps = rig.clients(&format!(
        "{} --connections 20 --load rounds=5,sizes=1..2000 --load rounds=2,sizes=100000..300000",
        targets(7)
    ));
    let done: Vec<u64> = steps.iter().map(|step| step.done).collect();
    assert_eq!(done, [20, 100, 40, 20], "{steps:?}");
    for load in &steps[1..3] {
        assert_eq!(load.bytes_sent, load.bytes_received);
    }
    // The kernel may not keep all for it; what it kept are thousands.
    capture.finish().unwrap();
    let judged = judge(&file).unwrap();
    assert!(judged.len() > 500, "{} segments", judged.len());
    let faults: Vec<&Judged> = judged.iter().filter(|segment| segment.fault.is_some()).collect();
    assert!(faults.is_empty(), "{} faults, such as {:?}", faults.len(), faults[0]);
    judged
}

/// The longest texts, ours and the clients'. IPv4's are 20 bytes longer than IPv6's, and the longest.
fn longest(judged: &[Judged]) -> (u32, u32) {
    let of = |is_ours: bool| {
        judged.iter().filter(|seg| (seg.from == 7) == is_ours).map(|seg| seg.len).max().unwrap_or(0)
    };
    (of(true), of(false))
}

/// What the prompt's counters say, and that the program ends well.
fn counters_at_the_end(mut dataplane: Running) -> BTreeMap<String, u64> {
    let from = dataplane.said().len();
    dataplane.tell("show counters all").unwrap();
    dataplane.tell("show port info 0").unwrap();
    dataplane
        .wait_for_line(from, "the port's information", START, |line| {
            line.contains("TX TCP checksums by")
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let said = dataplane.said();
    let status = dataplane.stop().unwrap();
    assert!(status.success(), "{status}\n{}", dataplane.tail());
    let counter = |line: &String| {
        let mut words = line.trim_start_matches("xtcp> ").split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    said.iter().filter_map(counter).collect()
}

/// A segment that waits for its neighbour's address is completed here: there may be one per family.
fn all_but_the_first_were_completed(counters: &BTreeMap<String, u64>) {
    let (sent, completed) = (counters["segments-out"], counters["tx-checksum-device"]);
    assert!(completed > 1_000 && (completed..=completed + 2).contains(&sent), "{counters:?}");
}

/// The tap's driver computes checksums: the kernel verifies ours, the driver the kernel's.
#[test]
fn a_tap_has_the_checksums() {
    let rig = Rig::new();
    let (dataplane, tap) = echo_on_tap(&rig, "--offloads on");
    let judged = exchange(&rig, &tap);
    assert_eq!(longest(&judged), (1500 - 20 - HEADER, 1500 - 20 - HEADER));
    let counters = counters_at_the_end(dataplane);
    all_but_the_first_were_completed(&counters);
    assert_eq!(counters["rx-checksum-good"], counters["segments-in"]);
    assert_eq!((counters["rx-checksum-bad"], counters["tx-refused"]), (0, 0));
}

/// What its driver does is not worth leaving to it, unless that is wanted.
#[test]
fn a_tap_is_not_left_its_checksums_unasked() {
    let rig = Rig::new();
    let (dataplane, tap) = echo_on_tap(&rig, "");
    exchange(&rig, &tap);
    let counters = counters_at_the_end(dataplane);
    assert_eq!((counters["tx-checksum-device"], counters["rx-checksum-good"]), (0, 0));
}

/// Frames of 1,514 bytes come and go in three mbufs, and the device completes their checksums.
#[test]
fn a_tap_has_the_checksums_of_frames_in_small_mbufs() {
    let rig = Rig::new();
    let (dataplane, tap) = echo_on_tap(&rig, "--mbuf-size 512 --offloads on");
    exchange(&rig, &tap);
    let counters = counters_at_the_end(dataplane);
    all_but_the_first_were_completed(&counters);
    let (sent, received) = (counters["tx-multi-segment"], counters["rx-multi-segment"]);
    assert!(sent > 1_000 && received > 1_000, "{counters:?}");
    assert_eq!(counters["rx-too-long"], 0);
}

/// The dataplane's echo on a veth pair that takes 9,000 bytes, the clients' end so many.
fn jumbo_echo(rig: &Rig, client_mtu: u16) -> (Running, VethPair) {
    let veth = rig.veth();
    let near = veth.near();
    run(&format!("ip link set {near} mtu 9000")).unwrap();
    rig.namespace.run(&format!("ip link set peer mtu {client_mtu}")).unwrap();
    let ring = "framesz=16384,blocksz=32768,framecnt=512";
    let device = format!("--vdev=net_af_packet0,iface={near},{ring}");
    (start_echo(rig, &device, "--mtu 9000 --mbuf-size 16384"), veth)
}

#[test]
fn jumbo_frames_over_af_packet() {
    let rig = Rig::new();
    let (dataplane, _veth) = jumbo_echo(&rig, 9000);
    let judged = exchange(&rig, "peer");
    assert_eq!(longest(&judged), (9000 - 20 - HEADER, 9000 - 20 - HEADER));
    counters_at_the_end(dataplane);
}

/// A client whose end of the link takes 1,500 bytes says so by its segment size.
#[test]
fn a_client_of_1500_bytes_on_a_link_of_9000() {
    let rig = Rig::new();
    let (dataplane, _veth) = jumbo_echo(&rig, 1500);
    let judged = exchange(&rig, "peer");
    assert_eq!(longest(&judged), (1500 - 20 - HEADER, 1500 - 20 - HEADER));
    counters_at_the_end(dataplane);
}

/// What cannot be is said before anybody is served.
#[test]
fn jumbo_frames_that_do_not_fit_are_refused() {
    let rig = Rig::new();
    let veth = rig.veth();
    let tap = rig.interface('t');
    for (device, remedy) in [
        (format!("--vdev=net_af_packet0,iface={}", veth.near()), "framesz=16384,blocksz=32768"),
        (format!("--vdev=net_tap0,iface={tap}"), "no more than that"),
    ] {
        let launch = rig.dataplane("small", &device, "--mtu 9000");
        let refused = launch.finish(PATIENCE).unwrap_err().to_string();
        assert!(refused.contains("--mtu 9000") && refused.contains(remedy), "{refused}");
    }
}

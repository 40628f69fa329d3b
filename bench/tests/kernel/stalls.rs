//! The real dataplane stalled in the middle of traffic: stopped and continued, its link down and up, a
//! device that takes nothing, frames too few. No byte is lost, nobody stays stuck, what happened has
//! a name, and nothing is kept. Times decide nothing.

use std::time::Duration;

use rustix::process::Signal;
use xtcp_bench::clock::Deadline;
use xtcp_bench::machine::run;
use xtcp_bench::process::Running;

use crate::rig::{Rig, SERVER_V4, START, Swept, steps};

const PORT: u16 = 7777;
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECTIONS: u64 = 40;
const ROUNDS: u64 = 40;

/// The appliance on a veth pair, the presence server on it, and clients that have begun.
struct Scene {
    load: Running,
    presence: Running,
    _xtcpd: Running,
    appliance: Swept,
}

impl Scene {
    /// `how` follows the device's name: its options.
    fn set(rig: &Rig, near: &str, how: &str) -> Self {
        let mut appliance = rig.appliance(&rig.instance_name('a'), near);
        appliance.0.device += how;
        let xtcpd = appliance.start().unwrap_or_else(|error| panic!("{error}"));
        let presence = appliance.start_presence(PORT).unwrap_or_else(|error| panic!("{error}"));
        let load = rig.client_launch(&format!(
            "--target {SERVER_V4}:{PORT} --framing presence --connections {CONNECTIONS} \
             --patience 60 --load rounds={ROUNDS},sizes=log:1..60000,think-ms=20"
        ));
        let mut load = load.start().unwrap_or_else(|error| panic!("{error}"));
        // The end of the first step: everybody is connected.
        load.wait_for_line(0, "the end of connecting", START, |l| l.contains("\"event\":\"step\""))
            .unwrap_or_else(|error| panic!("{error}"));
        let scene = Self { load, presence, _xtcpd: xtcpd, appliance };
        let begun = scene.counter("tx-frames") + 200;
        scene.wait_until("traffic flows", || scene.counter("tx-frames") > begun);
        scene
    }

    fn wait_until(&self, what: &str, so: impl Fn() -> bool) {
        let reached = Deadline::within(PATIENCE).poll(|| so().then_some(()));
        assert!(reached.is_some(), "{what}: waited for in vain");
    }

    fn counter(&self, name: &str) -> u64 {
        let rows = self.appliance.show("counters").unwrap_or_else(|error| panic!("{error}"));
        let row = rows.iter().find(|row| row.values().any(|value| value == name));
        let row = row.unwrap_or_else(|| panic!("no counter {name}"));
        row.values().filter_map(serde_json::Value::as_u64).sum()
    }

    fn dataplane(&self) -> rustix::process::Pid {
        let [pid] = self.appliance.dataplanes()[..] else { panic!("one dataplane runs") };
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
    }

    /// Every exchange was made on the connection it began on, and afterwards nothing is held.
    fn all_is_well(mut self) {
        let status = self.load.wait(PATIENCE * 3).unwrap_or_else(|error| panic!("{error}"));
        let steps = steps(&self.load.said());
        assert!(status.success(), "{status}\n{steps:#?}");
        assert_eq!((steps[1].done, steps[1].failed), (CONNECTIONS * ROUNDS, 0), "{steps:#?}");
        assert!(self.presence.is_running(), "{}", self.presence.tail());
        let held = ["connections", "half open", "active", "chunks", "transmit used (bytes)"];
        self.wait_until("everything is given back", || {
            let workers = self.appliance.show("workers").unwrap_or_else(|error| panic!("{error}"));
            workers.iter().all(|worker| {
                let figure = |column: &str| {
                    worker[column].as_u64().unwrap_or_else(|| panic!("{column}: {worker:?}"))
                };
                let waiting = figure("time-wait");
                held.iter().all(|column| match *column {
                    "connections" => figure(column) == waiting,
                    _ => figure(column) == 0,
                })
            })
        });
    }
}

/// The clock jumps: for three seconds nothing of the dataplane runs, then all that came is there at
/// once and every timer is due.
#[test]
fn a_dataplane_stopped_for_three_seconds_and_continued_loses_nothing() {
    let rig = Rig::new();
    let veth = rig.veth();
    let scene = Scene::set(&rig, veth.near(), "");
    let pid = scene.dataplane();
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    // What is tested is a pause of this length; nothing is waited for.
    std::thread::sleep(Duration::from_secs(3));
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(scene.dataplane(), pid, "xtcpd took a pause for an end");
    scene.all_is_well();
}

#[test]
fn a_link_that_goes_down_and_comes_up_again_loses_nothing() {
    let rig = Rig::new();
    let veth = rig.veth();
    let scene = Scene::set(&rig, veth.near(), "");
    run(&format!("ip link set {} down", veth.near())).unwrap();
    // Every retransmission of the clients and of ours is for nothing now; some are waited for.
    let before = scene.counter("retransmission-timeouts");
    scene.wait_until("a timeout is counted", || scene.counter("retransmission-timeouts") > before);
    run(&format!("ip link set {} up", veth.near())).unwrap();
    scene.all_is_well();
}

/// The clients' end: to the dataplane only the carrier is gone.
#[test]
fn a_carrier_that_is_gone_and_back_again_loses_nothing() {
    let rig = Rig::new();
    let veth = rig.veth();
    let scene = Scene::set(&rig, veth.near(), "");
    let before = scene.counter("retransmission-timeouts");
    rig.namespace.run("ip link set peer down").unwrap();
    scene.wait_until("a timeout is counted", || scene.counter("retransmission-timeouts") > before);
    rig.namespace.run("ip link set peer up").unwrap();
    scene.all_is_well();
}

/// Nothing leaves the queue behind the device, so its ring fills and takes nothing more. When the
/// queue is taken away, what it held is lost.
#[test]
fn a_full_transmit_ring_is_named_and_loses_nothing() {
    let rig = Rig::new();
    let veth = rig.veth();
    let scene =
        Scene::set(&rig, veth.near(), ",qdisc_bypass=0,framecnt=32,blocksz=4096,framesz=2048");
    let before = scene.counter("tx-full");
    run(&format!(
        "tc qdisc add dev {} root tbf rate 8kbit burst 2000 limit 100000000",
        veth.near()
    ))
    .unwrap();
    scene.wait_until("the ring is full", || scene.counter("tx-full") > before);
    run(&format!("tc qdisc del dev {} root", veth.near())).unwrap();
    scene.all_is_well();
}

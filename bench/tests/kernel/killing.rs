//! `kill -9` of each process in turn, then a start that works; and second instances.

use std::time::Duration;

use crate::rig::{Rig, SERVER_V4, SERVER_V6, START, Swept, next_step};
use xtcp_bench::clock::Deadline;
use xtcp_bench::process::{Running, kill_by_id};

const PORT: u16 = 7777;
const PATIENCE: Duration = Duration::from_secs(30);

fn start(appliance: &Swept) -> Running {
    appliance.start().unwrap_or_else(|error| panic!("{error}"))
}

fn start_presence(appliance: &Swept) -> Running {
    appliance.start_presence(PORT).unwrap_or_else(|error| panic!("{error}"))
}

/// Kernel clients of both families get their answers.
fn serves(rig: &Rig) {
    let steps = rig.clients(&format!(
        "--target {SERVER_V4}:{PORT} --target [{SERVER_V6}]:{PORT} --framing presence \
         --connections 50 --load rounds=4,sizes=1..3000"
    ));
    assert_eq!(steps[1].done, 200, "{steps:?}");
}

/// A person who is logged in, and how many lines of theirs were read.
fn log_in(rig: &Rig, name: &str) -> (Running, usize) {
    let mut nc = rig.nc(SERVER_V4, PORT);
    nc.tell(&format!("LOGIN {name}")).unwrap();
    let wanted = format!("OK {name} is here");
    let (_, read) = nc
        .wait_for_line(0, &wanted, PATIENCE, |line| line == wanted)
        .unwrap_or_else(|error| panic!("{error}"));
    (nc, read)
}

fn answers(nc: &mut Running, read: usize, said: &str, wanted: &str) {
    nc.tell(said).unwrap();
    nc.wait_for_line(read, wanted, PATIENCE, |line| line == wanted)
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn killing_xtcpd_stops_no_traffic_and_a_new_one_takes_over() {
    let rig = Rig::new();
    let veth = rig.veth();
    let appliance = rig.appliance(&rig.instance_name('a'), veth.near());
    let mut xtcpd = start(&appliance);
    let _presence = start_presence(&appliance);
    let before = appliance.dataplanes();
    assert_eq!(before.len(), 1);
    let (mut anna, read) = log_in(&rig, "anna");

    xtcpd.kill().unwrap();
    // An open connection goes on, and new ones come, without any xtcpd.
    answers(&mut anna, read, "WHO", "HERE anna");
    serves(&rig);

    let mut xtcpd = start(&appliance);
    assert_eq!(appliance.dataplanes(), before, "the new xtcpd has to take over the old dataplane");
    let groups = appliance.show("groups").unwrap_or_else(|error| panic!("{error}"));
    assert!(format!("{groups:?}").contains("7777"), "{groups:?}");
    serves(&rig);
    answers(&mut anna, read + 1, "WHO", "HERE anna");

    let status = xtcpd.stop().unwrap();
    assert!(status.success(), "{status}\n{}", xtcpd.tail());
    assert_eq!(appliance.dataplanes(), [0; 0], "xtcpd stops, so the appliance stops");
}

#[test]
fn a_killed_dataplane_is_started_again_and_serves() {
    let rig = Rig::new();
    let veth = rig.veth();
    let appliance = rig.appliance(&rig.instance_name('a'), veth.near());
    let mut xtcpd = start(&appliance);
    let mut presence = start_presence(&appliance);
    serves(&rig);
    let before = appliance.dataplanes();
    assert_eq!(before.len(), 1);

    kill_by_id(before[0]);
    // The application is told that the dataplane is gone, and ends with a sentence.
    let status = presence.wait(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    assert!(!status.success(), "{}", presence.tail());
    assert!(presence.tail().contains("presence: "), "{}", presence.tail());

    let again = Deadline::within(START)
        .poll(|| appliance.dataplanes().into_iter().find(|pid| !before.contains(pid)));
    assert!(again.is_some(), "no dataplane was started again:\n{}", xtcpd.tail());
    appliance.wait_until_up(&mut xtcpd).unwrap_or_else(|error| panic!("{error}"));
    let _presence = start_presence(&appliance);
    serves(&rig);
}

#[test]
fn a_killed_application_costs_only_its_own_clients() {
    let rig = Rig::new();
    let veth = rig.veth();
    let appliance = rig.appliance(&rig.instance_name('a'), veth.near());
    let _xtcpd = start(&appliance);
    let mut presence = start_presence(&appliance);
    let before = appliance.dataplanes();
    let (mut anna, _) = log_in(&rig, "anna");

    presence.kill().unwrap();
    // The dataplane resets the dead application's connections: nc ends.
    anna.wait(PATIENCE).unwrap_or_else(|error| panic!("anna was not told: {error}"));

    let _presence = start_presence(&appliance);
    serves(&rig);
    assert_eq!(appliance.dataplanes(), before, "the dataplane has to have gone on");
}

#[test]
fn after_everything_was_killed_a_start_works() {
    let rig = Rig::new();
    let veth = rig.veth();
    let appliance = rig.appliance(&rig.instance_name('a'), veth.near());
    let mut xtcpd = start(&appliance);
    let mut presence = start_presence(&appliance);
    serves(&rig);

    xtcpd.kill().unwrap();
    presence.kill().unwrap();
    for pid in appliance.dataplanes() {
        kill_by_id(pid);
    }

    let mut xtcpd = start(&appliance);
    let mut presence = start_presence(&appliance);
    serves(&rig);
    assert!(presence.stop().unwrap().success(), "{}", presence.tail());
    assert!(xtcpd.stop().unwrap().success(), "{}", xtcpd.tail());
    let left: Vec<_> = std::fs::read_dir(appliance.run_time_directory())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().ends_with(".sock"))
        .collect();
    assert!(left.is_empty(), "sockets stayed behind: {left:?}");
}

#[test]
fn a_second_instance_is_refused_by_name_and_runs_under_another() {
    let rig = Rig::new();
    let veth = rig.veth();
    let one = rig.appliance(&rig.instance_name('a'), veth.near());
    let _one_runs = start(&one);

    let mut second = one.launch().unwrap_or_else(|error| panic!("{error}"));
    let status = second.wait(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    assert!(!status.success());
    let said = second.tail();
    assert!(said.contains(&one.name) && said.contains("already"), "not a helpful sentence: {said}");

    // Beside it, another name on another device: a null device is enough to come up.
    let mut other = rig.appliance(&rig.instance_name('b'), veth.near());
    other.0.device = "net_null0".to_owned();
    other.0.addresses = vec!["10.78.0.2/24".to_owned()];
    let _other_runs = start(&other);
    let _presence = start_presence(&one);
    serves(&rig);
}

#[test]
fn a_dead_client_does_not_stop_the_others() {
    let rig = Rig::new();
    let veth = rig.veth();
    let appliance = rig.appliance(&rig.instance_name('a'), veth.near());
    let _xtcpd = start(&appliance);
    let _presence = start_presence(&appliance);
    let doomed = rig.client_launch(&format!(
        "--target {SERVER_V4}:{PORT} --framing presence --connections 200 --hold \
         --load rounds=1000,sizes=1..3000"
    ));
    let mut doomed = doomed.start().unwrap_or_else(|error| panic!("{error}"));
    let mut read = 0;
    assert_eq!(next_step(&mut doomed, &mut read).done, 200);
    doomed.tell("go on").unwrap();
    doomed.kill().unwrap();
    serves(&rig);
}

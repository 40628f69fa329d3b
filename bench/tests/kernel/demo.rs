//! `make demo`: it ends by itself with status 0, and leaves a capture, a distribution and nothing else,
//! whether it ends, is interrupted or is killed.

use std::time::Duration;

use crate::rig::Rig;
use rustix::process::Signal;
use xtcp_bench::machine::{MachineState, Namespace};
use xtcp_bench::process::{Launch, Running};

const PATIENCE: Duration = Duration::from_secs(180);

fn demo(rig: &Rig, arguments: &str) -> Launch {
    Launch::new("xtcp-demo", rig.programs.path("xtcp-demo").unwrap())
        .arguments(&format!("--out {} {arguments}", rig.directory.display()))
}

fn left_behind(before: &MachineState) -> Vec<String> {
    MachineState::look().unwrap().more_than(before)
}

fn wait_for(demo: &mut Running, what: &str) {
    demo.wait_for_line(0, what, PATIENCE, |line| line.contains(what))
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_demo_holds_and_leaves_a_capture_and_a_distribution() {
    let rig = Rig::new();
    let before = MachineState::look().unwrap();
    let said = demo(&rig, "").finish(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(said.last().map(String::as_str), Some("Everything held."), "{said:#?}");
    println!("{}", said.join("\n"));
    assert_eq!(left_behind(&before), [""; 0]);
    let mut left: Vec<String> = std::fs::read_dir(&rig.directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    assert_eq!(left, ["demo.hgrm", "demo.pcap"]);
}

#[test]
fn ctrl_c_takes_everything_away() {
    let rig = Rig::new();
    let before = MachineState::look().unwrap();
    for (arguments, when) in [("run", "The appliance is up"), ("", "exchanges on each")] {
        let mut demo = demo(&rig, arguments).start().unwrap_or_else(|error| panic!("{error}"));
        wait_for(&mut demo, when);
        assert_ne!(left_behind(&before), [""; 0], "while it runs there has to be something");
        demo.signal(Signal::INT);
        let status = demo.wait(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(status.code(), Some(130), "{}", demo.tail());
        assert_eq!(left_behind(&before), [""; 0]);
    }
}

#[test]
fn what_has_the_demos_name_and_is_not_the_demos_is_let_alone() {
    let rig = Rig::new();
    let theirs = Namespace::create("xtcp-demo").unwrap_or_else(|error| panic!("{error}"));
    let mut demo = demo(&rig, "").start().unwrap();
    let status = demo.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1));
    let said = demo.tail();
    assert!(said.contains("/run/netns/xtcp-demo is there already"), "{said}");
    theirs.run("true").unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_second_demo_is_refused_and_one_after_a_kill_cleans_up() {
    let rig = Rig::new();
    let before = MachineState::look().unwrap();
    let mut killed = demo(&rig, "--connections 500").start().unwrap();
    wait_for(&mut killed, "exchanges on each");

    let mut second = demo(&rig, "").start().unwrap();
    let status = second.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(second.tail().contains("a demo is running already"), "{}", second.tail());

    killed.kill().unwrap();
    let said = demo(&rig, "--connections 500 --rounds 2 --paced-rounds 1")
        .finish(PATIENCE)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(said.last().map(String::as_str), Some("Everything held."), "{said:#?}");
    assert_eq!(left_behind(&before), [""; 0]);
}

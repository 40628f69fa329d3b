//! What is told and left when something ends in the midst of a start, and when files run out.

use std::process::Command;

use rustix::process::Signal;
use xtcp_ring::message::{Reply, Request};

use super::{ask, attached, fake};
use crate::stage::{Stage, send};

fn connections(number: &str) -> Stage {
    Stage::new(&format!("[memory]\nconnections = {number}\n"))
}

/// A dataplane that is starting has to find its lock free, however often xtcpd looks for it.
#[test]
fn a_starting_dataplanes_lock_is_left_alone() {
    let stage = connections(fake::JEALOUS);
    let _appliance = stage.start();
    assert_eq!(stage.status()["restarts"], 0);
}

#[test]
fn a_signal_while_a_dataplane_is_furnished_ends_everything_in_order() {
    let stage = connections(fake::STALLED);
    let mut appliance = Stage::launch(stage.command("t"));
    appliance.wait_for("the fake has its memory");
    appliance.send(Signal::INT);
    assert_eq!(appliance.wait().code(), Some(0));
    assert!(!stage.dataplane_lives(), "nobody is left");
}

/// What ends a first start is no reason to leave applications alone for good.
#[test]
fn a_dataplane_that_dies_of_its_memory_is_started_again() {
    let stage = connections(fake::DYING);
    let appliance = stage.start();
    stage.kill_dataplane();
    appliance.wait_for("the dataplane has ended (signal: 9");
    appliance.wait_for("the dataplane has ended (exit status: 4)");
    appliance.wait_for("the dataplane runs");
    assert_eq!(stage.status()["restarts"], 2);
}

/// Its socket is the only way to it.
#[test]
fn a_dataplane_that_was_not_reached_can_be_reached_later() {
    let stage = Stage::new("");
    let mut appliance = stage.start();
    let link = stage.connect();
    let _application = attached(&link, "chat");
    let before = stage.status()["dataplane_pid"].clone();
    let pid = before.as_u64().expect("a process") as u32;
    appliance.kill();
    send(pid, Signal::STOP);
    let mut appliance = Stage::launch(stage.command("t"));
    appliance.wait_for("taking it over");
    appliance.send(Signal::TERM);
    appliance.wait_for("is left running");
    assert_eq!(appliance.wait().code(), Some(0));
    send(pid, Signal::CONT);
    let _appliance = stage.start();
    let status = stage.status();
    assert_eq!((&status["dataplane_pid"], &status["applications"]), (&before, &1.into()));
}

#[test]
fn without_files_who_is_there_is_served_and_the_log_stays_short() {
    let stage = Stage::new("");
    let mut command = Command::new("sh");
    let xtcpd = stage.command("t");
    command.args(["-c", "ulimit -n 40 && exec \"$0\" \"$@\""]).arg(xtcpd.get_program());
    command.args(xtcpd.get_args()).env_remove("RUST_LOG");
    let appliance = Stage::launch(command);
    appliance.wait_for(" ready: applications");
    let link = stage.connect();
    let many: Vec<_> = (0..60).map(|_| stage.connect()).collect();
    appliance.wait_for("cannot be accepted");
    let up = || {
        let (Reply::Shown { rows }, _) = ask(&link, &Request::Status) else { panic!("no status") };
        rows[0]["up_s"].as_u64().expect("seconds")
    };
    let since = up();
    for _ in 0..500 {
        up();
    }
    let (said, seconds) = (appliance.said("cannot be accepted"), up() - since);
    assert!(said as u64 <= seconds + 2, "{said} lines in {seconds} seconds");
    drop(many);
    assert_eq!(stage.status()["state"], "running");
}

//! What operators order, and what nobody should write.

use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::Value;
use xtcp_ring::message::{Drain, Manner, Refusal, Reply, Request};
use xtcp_ring::{Seqpacket, TransportError};

use crate::requests::requests;
use crate::stage::Stage;
use crate::{ask, attach, attached, is_cut, mutants, options, refused};

fn open(link: &Seqpacket, name: &str) -> u32 {
    match ask(link, &Request::OpenGroup(options(name))).0 {
        Reply::Group { gd } => gd,
        other => panic!("{other:?}"),
    }
}

/// The rows of a table.
fn shown(stage: &Stage, topic: &str) -> Vec<Value> {
    let (code, text) = stage.xtcpctl(&["show", topic, "--json"]);
    assert_eq!(code, Some(0), "{text}");
    serde_json::from_str(&text).expect("rows")
}

#[test]
fn an_application_drains_its_own_group_and_no_other() {
    let stage = Stage::new("");
    let _appliance = stage.start();
    let (one, other) = (stage.connect(), stage.connect());
    let (_one, _other) = (attached(&one, "one"), attached(&other, "other"));
    let gd = open(&one, "main");
    let drain = Drain { per_second: 7, manner: Manner::Reset };
    let request = Request::DrainGroup { gd, drain };
    assert_eq!(refused(&other, &request).refusal, Refusal::NotThere);
    assert_eq!(shown(&stage, "groups")[0]["drain"], Value::Null);
    assert_eq!(ask(&one, &request).0, Reply::Done);
    let told = shown(&stage, "groups")[0]["drain"].clone();
    assert_eq!(told, "Drain { per_second: 7, manner: Reset }");
}

#[test]
fn operators_drain_groups_by_name() {
    let stage = Stage::new("");
    let appliance = stage.start();
    let (one, other) = (stage.connect(), stage.connect());
    let (_one, _other) = (attached(&one, "one"), attached(&other, "other"));
    open(&one, "main");
    open(&other, "main");
    open(&other, "side");
    for (named, reason) in [
        ("main", "several groups are named `main`: say which of one/main, other/main\n"),
        ("none", "there is no group `none`; `xtcpctl show groups` has their names\n"),
        ("one/side", "there is no group `one/side`; `xtcpctl show groups` has their names\n"),
    ] {
        assert_eq!(stage.xtcpctl(&["drain", named]), (Some(1), reason.into()));
    }
    assert_eq!(stage.xtcpctl(&["drain", "side"]), (Some(0), String::new()));
    let side = Drain { per_second: 1000, manner: Manner::WhenIdle };
    let row = |name: &str, application: &str| {
        let rows = shown(&stage, "groups");
        let found = |row: &&Value| row["group"] == name && row["application"] == application;
        rows.iter().find(found).expect("a group").clone()
    };
    assert_eq!(row("side", "other")["drain"], format!("{side:?}"));
    let words = ["drain", "other/main", "--rate", "5", "--manner", "close", "--wait"];
    assert_eq!(stage.xtcpctl(&words), (Some(0), String::new()));
    let main = Drain { per_second: 5, manner: Manner::Close };
    assert_eq!(row("main", "other")["drain"], format!("{main:?}"));
    assert_eq!(row("main", "one")["drain"], Value::Null);
    appliance.wait_for("orders DrainGroup");
}

#[test]
fn operators_close_a_connection_and_cut_an_application_off() {
    let stage = Stage::new("[applications]\nsuccessor = \"keep\"\n");
    let _appliance = stage.start();
    assert_eq!(stage.xtcpctl(&["close", "0/1.1", "--reset"]), (Some(0), String::new()));
    let none = "there is no such connection at the fake\n";
    assert_eq!(stage.xtcpctl(&["close", "0/1.1"]), (Some(1), none.into()));

    let link = stage.connect();
    let application = attached(&link, "chat");
    assert_eq!(stage.xtcpctl(&["cut-off", "chat"]), (Some(0), String::new()));
    assert!(is_cut(&application.lifeline));
    assert_eq!(stage.status()["applications"], 0);
    let (code, text) = stage.xtcpctl(&["cut-off", "chat"]);
    assert_eq!(code, Some(1));
    assert!(text.starts_with("there is no application `chat`"), "{text}");

    // What waits for a successor can be let go as well.
    drop(attached(&link, "chat"));
    stage.wait_until("awaits_successor", &1.into());
    assert_eq!(stage.xtcpctl(&["cut-off", "chat"]), (Some(0), String::new()));
    assert_eq!(stage.status()["awaits_successor"], 0);
}

#[test]
fn only_operators_order() {
    let stage = Stage::new("[applications]\naccess = \"everyone\"\n");
    let _appliance = stage.start();
    if !rustix::process::geteuid().is_root() {
        // Only root can be somebody else.
        return;
    }
    let link = stage.connect();
    let application = attached(&link, "chat");
    open(&link, "main");
    let program = stage.xtcpctl_of_others();
    for words in [&["drain", "main"][..], &["close", "0/1.1", "--reset"], &["cut-off", "chat"]] {
        let mut command = Command::new(&program);
        command.args(["--name", "t", "--run-dir"]).arg(stage.directory()).args(words);
        let output = command.uid(65_534).gid(65_534).output().expect("xtcpctl");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(text, "only root, or the user who runs xtcpd, may order this\n", "{words:?}");
    }
    assert_eq!(shown(&stage, "groups")[0]["drain"], Value::Null);
    drop(application);
}

#[test]
fn what_liars_leave_is_the_configurations_to_say() {
    for (text, ms) in [("hostile = \"keep\"", 30_000), ("successor = \"keep\"", 30_000), ("", 0)] {
        let stage = Stage::new(&format!("[applications]\n{text}\n"));
        let _appliance = stage.start();
        let _application = attached(&stage.connect(), "chat");
        assert_eq!(shown(&stage, "pools")[0]["hostile (ms)"], ms, "{text}");
    }
}

/// Whatever is written to its socket, xtcpd answers each message or closes that connection, and
/// works on for others.
#[test]
fn no_message_hurts_xtcpd() {
    let stage = Stage::new("[applications]\nmax = 3\n");
    let _appliance = stage.start();
    let honest = stage.connect();
    let application = attached(&honest, "honest");
    let (mut sent, mut closed) = (0, 0);
    let mut link = stage.connect();
    for request in requests() {
        for mutant in mutants::of(&serde_json::to_value(&request).expect("text")) {
            if link.send(&mutant, &[]).is_err() {
                closed += 1;
                link = stage.connect();
                continue;
            }
            match link.recv::<Reply>() {
                Ok(_) => sent += 1,
                // After so much nonsense.
                Err(TransportError::Closed) => {
                    closed += 1;
                    link = stage.connect();
                }
                Err(error) => panic!("{mutant}: {error}"),
            }
        }
    }
    assert!(sent > 300 && closed > 10, "{sent} answered, {closed} times closed");
    assert!(matches!(ask(&stage.connect(), &attach("more", 0)).0, Reply::Attached { .. }));
    open(&honest, "main");
    drop(application);
}

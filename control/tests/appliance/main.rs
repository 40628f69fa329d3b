//! xtcpd and xtcpctl with a fake dataplane: attach, take over, supervise, refuse, clean up.

mod fake;
#[path = "../../../ffi/ring/tests/mutants/mod.rs"]
mod mutants;
mod orders;
mod phases;
#[path = "../../../ffi/ring/tests/samples/requests.rs"]
mod requests;
mod stage;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use xtcp_ring::message::{
    Accept, Acknowledge, Drain, Family, GroupOptions, Manner, Refusal, Refused, Reply, Request,
    Topic, VERSION,
};
use xtcp_ring::{
    ApplicationChannel, EndpointLayout, Mapping, ReadOnlyMapping, Seqpacket, SharedMemory, Sleeper,
    TransportError, Woken,
};

use stage::{Appliance, LIMIT, Stage};

/// Not a test: the process that xtcpd starts as its dataplane.
#[test]
#[ignore = "xtcpd starts this as its dataplane"]
fn fake_dataplane() {
    fake::serve();
}

fn options(name: &str) -> GroupOptions {
    GroupOptions {
        name: name.into(),
        port: 7,
        family: Family::Dual,
        accept: Accept::ByApplication { timeout_ms: 0 },
        acknowledge: Acknowledge::ByApplication { deadline_ms: 0 },
        window_max: 0,
        nagle: true,
        ..GroupOptions::new("group", 7)
    }
}

fn ask(link: &Seqpacket, request: &Request) -> (Reply, Vec<OwnedFd>) {
    link.send(request, &[]).expect("sent");
    link.recv().expect("answered")
}

fn refusal(link: &Seqpacket, request: &Request) -> String {
    refused(link, request).reason
}

fn refused(link: &Seqpacket, request: &Request) -> Refused {
    match ask(link, request) {
        (Reply::Refused { refusal, reason }, _) => Refused { refusal, reason },
        (other, _) => panic!("{request:?} was answered by {other:?}"),
    }
}

fn attach(name: &str, receive_bytes: u64) -> Request {
    Request::Attach { version: VERSION, application: name.into(), receive_bytes }
}

/// What an application holds.
struct Attached {
    endpoint: u16,
    key: u64,
    channel: ApplicationChannel,
    sleeper: Sleeper,
    receive: ReadOnlyMapping,
    lifeline: OwnedFd,
    files: [OwnedFd; 2],
    layout: EndpointLayout,
}

fn attached(link: &Seqpacket, name: &str) -> Attached {
    let (reply, files) = ask(link, &attach(name, 1 << 20));
    let Reply::Attached { endpoint, key, layout, receive_bytes, .. } = reply else {
        panic!("{reply:?}");
    };
    let [memory, receive, bell, lifeline] = <[OwnedFd; 4]>::try_from(files).expect("four files");
    let copies = [&memory, &receive].map(|file| file.try_clone().expect("a copy"));
    let memory = SharedMemory::from_fd(memory, layout.total_bytes()).expect("memory");
    let mapping = Mapping::writable(&memory).expect("mapped");
    let receive = SharedMemory::from_fd(receive, receive_bytes as usize).expect("memory");
    Attached {
        endpoint,
        key,
        channel: ApplicationChannel::open(&mapping, &layout, 0).expect("a channel"),
        sleeper: Sleeper::open(&mapping, bell).expect("a sleeper"),
        receive: ReadOnlyMapping::map(&receive).expect("mapped"),
        lifeline,
        files: copies,
        layout,
    }
}

/// Whether the dataplane's end of a lifeline closes.
fn is_cut(lifeline: &OwnedFd) -> bool {
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    poll(&mut [PollFd::new(lifeline, PollFlags::empty())], Some(&limit)) == Ok(1)
}

#[test]
fn an_application_attaches_opens_a_group_and_reads_in_place() {
    let stage = Stage::new("");
    let appliance = stage.start();
    let link = stage.connect();
    let mut application = attached(&link, "chat");
    assert_eq!(application.layout.workers, stage.workers);
    let Attached { channel, sleeper, .. } = &mut application;
    let (reply, _) = ask(&link, &Request::OpenGroup(options("main")));
    let Reply::Group { gd } = reply else { panic!("{reply:?}") };
    let ready = || channel.notices.available().expect("honest") > 0;
    assert_ne!(sleeper.park(ready, None, Some(LIMIT)).expect("slept"), Woken::TimedOut);
    let notice = channel.notices.pop().expect("honest").expect("a notice");
    assert_eq!(notice.gd, gd);
    let bytes = application.receive.bytes(notice.at, usize::from(notice.len));
    assert_eq!(bytes, Some(&b"hello"[..]));

    let receive_len = application.receive.len();
    let [_, receive] = application.files;
    let sealed = SharedMemory::from_fd(receive, receive_len).expect("memory");
    assert!(Mapping::writable(&sealed).is_err(), "the application cannot write requests");

    let (reply, _) = ask(&link, &Request::Describe { cd: 5 });
    assert!(matches!(reply, Reply::Described(info) if info.cd == 5));
    assert_eq!(stage.status()["groups"], 1);
    assert_eq!(ask(&link, &Request::CloseGroup { gd }).0, Reply::Done);
    assert_eq!(stage.status()["groups"], 0);
    assert_eq!(ask(&link, &Request::Detach).0, Reply::Done);
    assert!(is_cut(&application.lifeline));
    assert_eq!(stage.status()["applications"], 0);
    drop(attached(&link, "again"));
    drop(appliance);
}

#[test]
fn what_is_refused_to_who_is_no_application_and_why() {
    let stage = Stage::new("[applications]\nreceive_max = \"2MiB\"\n");
    let _appliance = stage.start();
    let link = stage.connect();
    let first =
        "this connection is no application: attach first (again, if the dataplane was restarted)";
    use Refusal::{Invalid, Misplaced, NotNow, NotThere, Version};
    let drain = Drain { per_second: 1, manner: Manner::Close };
    let table = [
        (Request::Detach, Misplaced, first),
        (Request::OpenGroup(options("main")), Misplaced, first),
        (Request::CloseGroup { gd: 1 }, Misplaced, first),
        (Request::DrainGroup { gd: 1, drain }, Misplaced, first),
        (Request::Describe { cd: 1 }, Misplaced, first),
        (
            Request::Attach { version: 99, application: "x".into(), receive_bytes: 0 },
            Version,
            "this appliance speaks version 3, not 99: build both alike",
        ),
        (attach("", 0), Invalid, "an application's name has 1 to 64 letters"),
        (attach("../x", 0), Invalid, "an application's name has 1 to 64 letters"),
        (attach(&"x".repeat(65), 0), Invalid, "an application's name has 1 to 64 letters"),
        (attach("x", 1), Invalid, "1 bytes of receive memory are not to be had: ask for "),
        (
            attach("x", u64::MAX),
            Invalid,
            "18446744073709551615 bytes of receive memory are not to be had",
        ),
        (
            Request::Resume { version: VERSION, endpoint: 0, key: 0 },
            NotThere,
            "there is no such endpoint (any more); attach again",
        ),
        (attach("unsealed", 0), NotNow, "the dataplane has not sealed the receive memory"),
    ];
    for (request, kind, reason) in table {
        let refused = refused(&link, &request);
        assert!(refused.reason.starts_with(reason), "{request:?}: {refused}");
        assert_eq!(refused.refusal, kind, "{request:?}: {refused}");
    }
    assert_eq!(stage.status()["applications"], 0);
}

#[test]
fn what_is_refused_to_an_application_and_why() {
    let stage = Stage::new("");
    let _appliance = stage.start();
    let link = stage.connect();
    let group = |change: &dyn Fn(&mut GroupOptions)| {
        let mut options = options("main");
        change(&mut options);
        Request::OpenGroup(options)
    };
    use Refusal::{Full, InUse, Invalid, Misplaced, NotThere};
    let drain = Drain { per_second: 1, manner: Manner::Close };
    let _application = attached(&link, "good");
    let table = [
        (attach("twice", 0), Misplaced, "this connection is an application already; detach first"),
        (group(&|options| options.port = 0), Invalid, "`port` is 0: give 1 to 65535"),
        (group(&|options| options.name.clear()), Invalid, "a group's name has 1 to 64 letters"),
        (
            group(&|options| options.window_max = 1 << 30),
            Invalid,
            "a window of 1073741824 bytes is not to be had",
        ),
        (
            group(&|options| options.accept = Accept::ByApplication { timeout_ms: 100_000 }),
            Invalid,
            "an accept time of 100000 ms is too long: 60000 at most",
        ),
        // What the dataplane finds out keeps its kind.
        (group(&|options| options.name = "refuse".into()), InUse, "the port is taken by the fake"),
        (group(&|options| options.name = "full".into()), Full, "the fake has too many groups"),
        (Request::CloseGroup { gd: 1 }, NotThere, "there is no group 1 of this application"),
        (Request::DrainGroup { gd: 1, drain }, NotThere, "there is no group 1 of this application"),
    ];
    for (request, kind, reason) in table {
        let refused = refused(&link, &request);
        assert!(refused.reason.starts_with(reason), "{request:?}: {refused}");
        assert_eq!(refused.refusal, kind, "{request:?}: {refused}");
    }
    let (reply, _) = ask(&link, &group(&|_| {}));
    let Reply::Group { gd } = reply else { panic!("{reply:?}") };
    let other = stage.connect();
    let _second = attached(&other, "other");
    let refused = refusal(&other, &Request::CloseGroup { gd });
    assert_eq!(refused, format!("there is no group {gd} of this application"));
}

#[test]
fn what_is_given_out_is_counted() {
    let stage = Stage::new(
        "[memory]\nhugepages = \"never\"\nreceive = \"3MiB\"\n[applications]\nmax = 2\n",
    );
    let _appliance = stage.start();
    let links = [(); 3].map(|()| stage.connect());
    let large = ask(&links[0], &attach("large", 2 << 20));
    assert!(matches!(large.0, Reply::Attached { .. }), "{large:?}");
    let refused = refusal(&links[1], &attach("larger", 2 << 20));
    assert!(refused.starts_with("2097152 bytes of receive memory are not to be had: applications have 2097152 of 3145728"), "{refused}");
    let small = attached(&links[1], "small");
    let refused = refusal(&links[2], &attach("third", 1 << 20));
    assert!(refused.contains("applications have 3145728 of 3145728"), "{refused}");
    assert_eq!(stage.status()["receive_used_bytes"], 3 << 20);

    // An application ends, and everything it had is there again.
    drop(large);
    stage.wait_until("receive_used_bytes", &(1 << 20).into());
    let again = attached(&links[2], "again");
    assert_ne!(again.endpoint, small.endpoint);
    let fourth = stage.connect();
    let refused = refusal(&fourth, &attach("fourth", 1 << 20));
    assert!(refused.starts_with("2 applications are attached, as many as may be"), "{refused}");
}

#[test]
fn a_killed_xtcpd_stops_nothing_and_its_successor_takes_over() {
    let stage = Stage::new("");
    let mut appliance = stage.start();
    let link = stage.connect();
    let mut application = attached(&link, "chat");
    let (reply, _) = ask(&link, &Request::OpenGroup(options("main")));
    assert!(matches!(reply, Reply::Group { .. }), "{reply:?}");
    let before = stage.status();
    appliance.kill();
    assert!(matches!(link.recv::<Reply>(), Err(TransportError::Closed)));
    let woken = application.sleeper.park(
        || false,
        Some(application.lifeline.as_fd()),
        Some(Duration::ZERO),
    );
    assert_eq!(woken.expect("slept"), Woken::TimedOut, "the dataplane lives");

    let appliance = stage.start();
    let after = stage.status();
    assert_eq!(after["dataplane_pid"], before["dataplane_pid"]);
    assert_ne!(after["xtcpd_pid"], before["xtcpd_pid"]);
    assert_eq!((&after["applications"], &after["groups"]), (&1.into(), &1.into()));
    assert_eq!(after["receive_used_bytes"], before["receive_used_bytes"]);

    let link = stage.connect();
    let Attached { endpoint, key, .. } = application;
    let wrong = Request::Resume { version: VERSION, endpoint, key: key ^ 1 };
    assert_eq!(refusal(&link, &wrong), "there is no such endpoint (any more); attach again");
    let right = Request::Resume { version: VERSION, endpoint, key };
    assert_eq!(ask(&link, &right).0, Reply::Done);
    let (reply, _) = ask(&link, &Request::OpenGroup(options("second")));
    assert!(matches!(reply, Reply::Group { .. }), "{reply:?}");
    let channel = &mut application.channel;
    let notices = [(); 2].map(|()| channel.notices.pop().expect("honest").is_some());
    assert_eq!(notices, [true, true], "the rings are the same");

    // A new one can attach beside it, and the successor ends a dataplane it did not start.
    let other = stage.connect();
    assert_ne!(attached(&other, "other").endpoint, endpoint);
    drop(appliance);
    assert!(is_cut(&application.lifeline));
}

#[test]
fn a_dataplane_that_dies_is_started_again() {
    let stage = Stage::new("");
    let appliance = stage.start();
    let link = stage.connect();
    let application = attached(&link, "chat");
    let first = stage.status();
    stage.kill_dataplane();
    appliance.wait_for("the dataplane has ended (signal: 9");
    assert!(is_cut(&application.lifeline), "the application is told");
    appliance.wait_for("the dataplane runs");
    let second = stage.status();
    assert_ne!(first["dataplane_pid"], second["dataplane_pid"]);
    assert_eq!((&second["restarts"], &second["applications"]), (&1.into(), &0.into()));
    let refused = refusal(&link, &Request::OpenGroup(options("main")));
    assert!(refused.starts_with("this connection is no application"), "{refused}");
    let _again = attached(&link, "chat");

    // It dies while it is asked.
    let refused = refusal(&link, &Request::OpenGroup(options("die")));
    assert!(refused.starts_with("the dataplane does not answer"), "{refused}");
    appliance.wait_for("the dataplane has ended (exit status: 3)");
    appliance.wait_for("the dataplane runs");
    assert_eq!(stage.status()["restarts"], 2);
    let _again = attached(&link, "chat");
}

#[test]
fn a_dataplane_that_talks_nonsense_is_greeted_again() {
    let stage = Stage::new("");
    let appliance = stage.start();
    let link = stage.connect();
    let _application = attached(&link, "chat");
    let before = stage.status();
    for (name, reason) in [
        ("nonsense", "the dataplane's answer makes no sense"),
        ("hang-up", "the dataplane does not answer"),
    ] {
        let refused = refusal(&link, &Request::OpenGroup(options(name)));
        assert!(refused.starts_with(reason), "{refused}");
        appliance.wait_for("the dataplane runs");
        // The application is known again without having done anything.
        let (reply, _) = ask(&link, &Request::OpenGroup(options(&format!("after-{name}"))));
        assert!(matches!(reply, Reply::Group { .. }), "{reply:?}");
    }
    let after = stage.status();
    assert_eq!(before["dataplane_pid"], after["dataplane_pid"]);
    assert_eq!((&after["groups"], &after["restarts"]), (&2.into(), &0.into()));
}

#[test]
fn a_second_of_the_same_name_is_refused_and_another_name_is_not() {
    let stage = Stage::new("");
    let appliance = stage.start();
    let refused = stage.command("t").output().expect("xtcpd");
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8(refused.stderr).expect("text");
    let sentence = format!(
        "an xtcpd (process {}) already runs as `t`: stop it, or give this one another name with \
         --name\n",
        appliance.pid()
    );
    assert!(text.ends_with(&sentence), "{text}");
    let other = stage.start_as("other");
    assert_ne!(stage.status_of("other")["dataplane_pid"], stage.status()["dataplane_pid"]);
    drop(other);
    assert_eq!(stage.status()["state"], "running");
}

#[test]
fn a_signal_ends_everything_in_order() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let stage = Stage::new("");
        let mut appliance = stage.start();
        let link = stage.connect();
        let application = attached(&link, "chat");
        appliance.send(signal);
        assert_eq!(appliance.wait().code(), Some(0), "{signal:?}");
        assert!(is_cut(&application.lifeline), "{signal:?}");
        let left: Vec<_> = stage.run_time_files();
        assert_eq!(left, ["dataplane.lock", "xtcpd.lock"], "{signal:?}");
        assert!(!stage.dataplane_lives(), "{signal:?}");
    }
}

#[test]
fn what_kill_9_leaves_is_cleared() {
    let stage = Stage::new("");
    let mut appliance = stage.start();
    let dead = stage.status()["dataplane_pid"].clone();
    appliance.kill();
    stage.kill_dataplane();
    assert_eq!(
        stage.run_time_files(),
        ["dataplane.lock", "dataplane.sock", "xtcpd.lock", "xtcpd.sock"]
    );
    let _appliance = stage.start();
    let status = stage.status();
    assert_eq!(status["state"], "running");
    assert_ne!(status["dataplane_pid"], dead);
}

#[test]
fn a_dataplane_that_does_not_start_ends_xtcpd_with_a_sentence() {
    let stage = Stage::new("");
    let program = stage.script("broken", "echo 'EAL: no such device' >&2; exit 7");
    for (program, sentence) in [
        (
            program,
            "the dataplane ended before it was ready (exit status: 7); what it said stands above\n",
        ),
        (
            "/nonexistent".into(),
            "/nonexistent: the dataplane does not start: No such file or directory (os error 2); build it, or name it with --dataplane PATH\n",
        ),
    ] {
        let output = stage.command_with("t", &program).output().expect("xtcpd");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.ends_with(sentence), "{text}");
    }
}

/// A dataplane that was left would be taken over by the next xtcpd, with the sizes it was started
/// with, whatever the configuration says by then.
#[test]
fn a_dataplane_without_its_memory_ends_with_xtcpd() {
    let stage = Stage::new("[memory]\nconnections = 2147483648\n");
    let output = stage.command("t").output().expect("xtcpd");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no memory for tables"), "{said}");
    assert!(!stage.dataplane_lives(), "nobody is left");
}

#[test]
fn a_hostile_client_costs_nobody_else() {
    let stage = Stage::new("");
    let _appliance = stage.start();
    let hostile = stage.connect();
    for record in [&b"\0nonsense"[..], b"\0{\"Attach\":{}}", b"\x09x", b"\0", b"\0[[[[[["] {
        hostile.try_send_record(record, &[]).expect("sent");
        let (reply, _) = hostile.recv::<Reply>().expect("answered");
        let Reply::Refused { reason, .. } = reply else { panic!("{reply:?}") };
        assert!(reason.starts_with("the message is not understood"), "{reason}");
    }
    assert_eq!(ask(&hostile, &Request::Status).0, ask(&hostile, &Request::Status).0);
    let mut answers = 0;
    for _ in 0..50 {
        if hostile.try_send_record(b"\0?", &[]).is_err() || hostile.recv::<Reply>().is_err() {
            break;
        }
        answers += 1;
    }
    assert!((1..=16).contains(&answers), "{answers} answers to nonsense");

    let large = stage.connect();
    large.try_send_record(&[b' '; 20_000], &[]).expect("sent");
    assert!(matches!(large.recv::<Reply>(), Err(TransportError::Closed)));

    let silent: Vec<_> = (0..200).map(|_| stage.connect()).collect();
    let greedy = stage.connect();
    let show = Request::Show { topic: Topic::Counters, limit: u32::MAX };
    greedy.set_timeout(Some(Duration::from_millis(1))).expect("a timeout");
    // Asks for more than a megabyte at a time and takes nothing.
    while greedy.send(&show, &[]).is_ok() {}
    let honest = stage.connect();
    let _application = attached(&honest, "honest");
    assert_eq!(stage.status()["applications"], 1);
    drop((silent, greedy));
    assert_eq!(stage.status()["state"], "running");
}

#[test]
fn an_answer_of_any_length_arrives() {
    let stage = Stage::new("");
    let _appliance = stage.start();
    let link = stage.connect();
    let show = Request::Show { topic: Topic::Counters, limit: 0 };
    let (Reply::Shown { rows }, _) = ask(&link, &show) else { panic!("no table") };
    assert_eq!(rows.len(), 10_000);
    assert_eq!(rows[9_999]["count"], 9_999);
}

#[test]
fn xtcpctl_shows_tables_and_json() {
    let stage = Stage::new("");
    let appliance = stage.start();
    let link = stage.connect();
    let _application = attached(&link, "chat");
    let (code, text) = stage.xtcpctl(&["show", "pools"]);
    assert_eq!(code, Some(0));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "pool  application  receive (bytes)  hostile (ms)");
    assert!(lines[1].starts_with("   0  chat "), "{text}");
    assert_eq!(stage.xtcpctl(&["show", "connections"]), (Some(0), "no connections\n".into()));
    let (_, text) = stage.xtcpctl(&["show", "pools", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(rows[0]["application"], "chat");
    let (_, text) = stage.xtcpctl(&["show", "counters", "--limit", "3"]);
    assert_eq!(text.lines().count(), 4, "{text}");
    let (_, text) = stage.xtcpctl(&["status"]);
    assert!(text.contains("state               running\n"), "{text}");
    let (code, text) = stage.xtcpctl(&["show", "everything"]);
    assert_ne!(code, Some(0));
    assert!(
        text.contains("pools, groups, group-counters, connections, ports, workers, counters"),
        "{text}"
    );
    drop(appliance);
    let (code, text) = stage.xtcpctl(&["status"]);
    assert_eq!(code, Some(1));
    assert!(text.starts_with("no appliance `t` answers at "), "{text}");
}

#[test]
fn other_users_may_attach_if_allowed_and_see_nobody_elses_clients() {
    let stage = Stage::new("[applications]\naccess = \"everyone\"\n");
    let _appliance = stage.start();
    let mode = fs::metadata(stage.socket("t")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    if !rustix::process::geteuid().is_root() {
        // Only root can be somebody else.
        return;
    }
    let program = stage.xtcpctl_of_others();
    let run = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["--name", "t", "--run-dir"]).arg(stage.directory()).args(words);
        command.uid(65_534).gid(65_534).output().expect("xtcpctl")
    };
    assert!(run(&["status"]).status.success());
    let refused = run(&["show", "connections"]);
    let text = String::from_utf8(refused.stderr).expect("text");
    assert_eq!(text, "only root, or the user who runs xtcpd, may see this\n");
}

#[test]
fn the_socket_is_for_the_group_unless_said_otherwise() {
    let stage = Stage::new("");
    let _appliance: Appliance = stage.start();
    let mode = fs::metadata(stage.socket("t")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn a_killed_application_is_followed_by_the_next_of_its_name_and_nobody_else() {
    let stage = Stage::new("[applications]\nsuccessor = \"keep\"\n");
    let mut appliance = stage.start();
    let first_link = stage.connect();
    let first = attached(&first_link, "chat");
    let Reply::Group { gd } = ask(&first_link, &Request::OpenGroup(options("main"))).0 else {
        panic!("no group");
    };
    let second_link = stage.connect();
    let refused = refusal(&second_link, &attach("chat", 0));
    let sentence = "application `chat` is attached already (process ";
    assert!(refused.starts_with(sentence) && refused.contains("another name"), "{refused}");

    // It dies, though its connection to xtcpd is still there.
    let Attached { endpoint, key, lifeline, receive, .. } = first;
    drop(lifeline);
    stage.wait_until("awaits_successor", &1.into());
    assert_eq!(stage.status()["applications"], 0);
    let refused = refusal(&first_link, &Request::Detach);
    assert!(refused.starts_with("this connection is no application"), "{refused}");
    let resume = Request::Resume { version: VERSION, endpoint, key };
    assert!(refusal(&stage.connect(), &resume).starts_with("there is no such endpoint"));

    // A restarted xtcpd knows it as well.
    appliance.kill();
    let _appliance = stage.start();
    let link = stage.connect();
    let other = attached(&stage.connect(), "other");
    assert_ne!(other.endpoint, endpoint);
    let (reply, files) = ask(&link, &attach("chat", 0));
    let Reply::Attached { endpoint: again, key: new_key, resumed, receive_bytes, .. } = reply
    else {
        panic!("{reply:?}");
    };
    assert_eq!((again, receive_bytes), (endpoint, receive.len() as u64));
    assert_ne!(new_key, key);
    let groups = resumed.expect("what was left");
    assert_eq!((groups.len(), groups[0].gd, &*groups[0].options.name), (1, gd, "main"));
    let [_, memory, _, lifeline] = <[OwnedFd; 4]>::try_from(files).expect("four files");
    let memory = SharedMemory::from_fd(memory, receive.len()).expect("the same memory");
    let memory = ReadOnlyMapping::map(&memory).expect("mapped");
    assert_eq!(memory.bytes(0, 5), Some(&b"hello"[..]));

    // A group of the name is the group, unless something else is wanted.
    let (reply, _) = ask(&link, &Request::OpenGroup(options("main")));
    assert_eq!(reply, Reply::Group { gd });
    let elsewhere = GroupOptions { port: 8, ..options("main") };
    let refused = refusal(&link, &Request::OpenGroup(elsewhere));
    assert_eq!(
        refused,
        "group `main` is open already and has port 7 where 8 is asked for; ask for the same, or \
         close it first"
    );
    assert_eq!(stage.status()["groups"], 1);

    // One that detaches leaves nothing.
    assert_eq!(ask(&link, &Request::Detach).0, Reply::Done);
    assert!(is_cut(&lifeline));
    let (reply, _) = ask(&link, &attach("chat", 1 << 20));
    assert!(matches!(reply, Reply::Attached { resumed: None, .. }), "{reply:?}");
}

#[test]
fn only_the_same_user_follows() {
    if !rustix::process::geteuid().is_root() {
        // Only root can be somebody else.
        return;
    }
    let stage = Stage::new("[applications]\nsuccessor = \"keep\"\naccess = \"everyone\"\n");
    let _appliance = stage.start();
    drop(attached(&stage.connect(), "chat"));
    stage.wait_until("awaits_successor", &1.into());
    // The kernel tells the user of the moment of the connection.
    let foreign = std::thread::spawn({
        let socket = stage.socket("t");
        move || {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65_534)).expect("root");
            let link = Seqpacket::connect(&socket, Some(LIMIT)).expect("connected");
            refusal(&link, &attach("chat", 0))
        }
    });
    let refused = foreign.join().expect("refused");
    assert!(refused.contains("waits for a successor of user 0, not 65534"), "{refused}");
}

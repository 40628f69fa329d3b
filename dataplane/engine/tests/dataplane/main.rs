//! The program as `xtcpd`, applications and operators meet it, over a net_ring port.

#[path = "../../../../ffi/ring/tests/samples/commands.rs"]
mod commands;
#[path = "../../../../ffi/ring/tests/mutants/mod.rs"]
mod mutants;
mod orders;
mod stage;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::process::Signal;
use xtcp_ring::layout::{kind, op};
use xtcp_ring::message::{
    Answer, Command as Order, EndpointRecord, Refusal, State, Topic, VERSION,
};
use xtcp_ring::{ApplicationChannel, EndpointLayout, SharedMemory, Submission};

use stage::{App, Dataplane, LAYOUT, RECEIVE, WORKERS, file, group, open_group, run_dir, shared};

#[test]
fn xtcpd_brings_memory_and_applications_and_finds_them_again() {
    let dataplane = Dataplane::for_control("take-over");
    let xtcpd = dataplane.connect();
    let other = VERSION + 1;
    let refused = xtcpd.refused(&Order::Hello { version: other }, &[]);
    assert_eq!(refused.refusal, Refusal::Version, "{refused}");
    let early = Order::Show { topic: Topic::Workers, limit: 0 };
    let refused = xtcpd.refused(&early, &[]);
    assert!(refused.reason.contains("no memory"), "{refused}");
    assert_eq!(refused.refusal, Refusal::NotNow);
    let short = shared("tables", 4096);
    let files = [&file(&short), &file(&short)];
    let too_small = Order::Memory { tables_bytes: vec![4096, 4096] };
    assert!(xtcpd.refusal(&too_small, &files).contains("4096"));
    xtcpd.brings_memory();
    assert!(xtcpd.refusal(&too_small, &files).contains("already"));

    let app = App::new(3).attach(&xtcpd);
    assert!(app.receive.is_sealed_future_write().unwrap());
    let gd = open_group(&xtcpd, 3, 7);
    drop(xtcpd);
    let xtcpd = dataplane.connect();
    assert_eq!(xtcpd.running(), (vec![3], vec![gd]));
    assert_ne!(open_group(&xtcpd, 3, 8), gd);
}

#[test]
fn what_cannot_be_is_refused_in_a_sentence() {
    let dataplane = Dataplane::for_control("refusals");
    let xtcpd = dataplane.connect();
    xtcpd.brings_memory();
    let _app = App::new(0).attach(&xtcpd);
    let gd = open_group(&xtcpd, 0, 7);
    let open = |record: EndpointRecord| Order::OpenEndpoint(record);
    let fresh = App::new(1);
    let files = [&file(&fresh.endpoint), &file(&fresh.receive), &fresh.bell, &fresh.lifeline];
    let record = || fresh.record.clone();
    let one_worker = EndpointLayout { workers: 1, ..LAYOUT };
    let odd = EndpointLayout { submissions: 3, ..LAYOUT };
    let close = |connection: &str| Order::CloseConnection {
        connection: connection.to_owned(),
        reset: false,
    };
    use Refusal::{Full, InUse, Invalid, NotThere};
    let large = EndpointRecord { endpoint: 64, ..record() };
    let short = EndpointRecord { layout: one_worker, ..record() };
    for (order, files, kind, words) in [
        (open(App::new(0).record), &files[..], InUse, "open already"),
        (open(record()), &files[..3], Invalid, "four files"),
        (open(large), &files[..], Full, "64 at most"),
        (open(short), &files[..], Invalid, "1 workers"),
        (open(EndpointRecord { layout: odd, ..record() }), &files[..], Invalid, "power of two"),
        (
            open(EndpointRecord { receive_bytes: 4096, ..record() }),
            &files[..],
            Invalid,
            "announced",
        ),
        (Order::OpenGroup { endpoint: 9, options: group("g", 1) }, &[], NotThere, "no endpoint 9"),
        (Order::OpenGroup { endpoint: 0, options: group("g", 0) }, &[], Invalid, "`port` is 0"),
        (Order::CloseGroup { endpoint: 1, gd }, &[], NotThere, "no group"),
        (Order::CloseGroup { endpoint: 0, gd: gd + 1 }, &[], NotThere, "no group"),
        (Order::CloseEndpoint { endpoint: 1 }, &[], NotThere, "no endpoint"),
        (Order::Describe { endpoint: 0, cd: 1 << 40 | 1 }, &[], NotThere, "no connection"),
        (Order::Describe { endpoint: 0, cd: u64::MAX }, &[], NotThere, "no connection"),
        (close("0/1.1"), &[], NotThere, "no connection cd 0/1.1"),
        (close("2/1.1"), &[], NotThere, "no connection cd 2/1.1"),
        (close("one"), &[], Invalid, "write it as"),
    ] {
        let refused = xtcpd.refused(&order, files);
        assert!(refused.reason.contains(words), "{order:?}: {refused}");
        assert_eq!(refused.refusal, kind, "{order:?}: {refused}");
    }
    xtcpd.done(&Order::CloseGroup { endpoint: 0, gd }, &[]);
    xtcpd.done(&Order::CloseEndpoint { endpoint: 0 }, &[]);
    assert_eq!(xtcpd.running(), (vec![], vec![]));
    // The number can be used again, by others and with another handle for the group.
    let _app = App::new(0).attach(&xtcpd);
    assert_ne!(open_group(&xtcpd, 0, 7), gd);
}

#[test]
fn every_table_can_be_shown() {
    let dataplane = Dataplane::for_control("tables");
    let xtcpd = dataplane.connect();
    xtcpd.brings_memory();
    let _app = App::new(0).attach(&xtcpd);
    open_group(&xtcpd, 0, 7);
    for (topic, rows, column) in [
        (Topic::Pools, 1, "receive used (bytes)"),
        (Topic::Pools, 1, "throttle"),
        (Topic::Groups, 1, "acknowledge"),
        (Topic::GroupCounters, 5, "meaning"),
        (Topic::Connections, 0, ""),
        (Topic::Ports, 1, "rx frames"),
        (Topic::Workers, 2, "busy (%)"),
        (Topic::Counters, 5, "all"),
    ] {
        let counters = [Topic::Counters, Topic::GroupCounters].contains(&topic);
        let limit = if counters { 5 } else { 0 };
        match xtcpd.ask(&Order::Show { topic, limit }, &[]) {
            Answer::Shown { rows: shown } => {
                assert_eq!(shown.len(), rows, "{topic:?}");
                assert!(shown.iter().all(|row| row.contains_key(column)), "{topic:?}: {shown:?}");
            }
            other => panic!("{topic:?} was answered by {other:?}"),
        }
    }
}

#[test]
fn a_liar_and_a_dead_application_are_let_go_and_nobody_else() {
    let mut dataplane = Dataplane::for_control("liars");
    let xtcpd = dataplane.connect();
    xtcpd.brings_memory();
    let honest = App::new(0).attach(&xtcpd);
    let liar = App::new(1).attach(&xtcpd);
    let mortal = App::new(2).attach(&xtcpd);
    let gd = open_group(&xtcpd, 0, 7);
    open_group(&xtcpd, 1, 8);
    open_group(&xtcpd, 2, 9);

    // Worker 1 finds it out; worker 0 has to let it go as well.
    let mut channel = ApplicationChannel::open(&liar.mapping, &LAYOUT, 1).unwrap();
    let worker_1 = 1 << 32;
    let theirs = Submission { op: op::ABORT, gd, cd: worker_1, ..Submission::default() };
    channel.submissions.push(&theirs).unwrap();
    channel.submissions.publish();
    liar.is_cut_off();
    let line = dataplane.hears("cut off");
    assert!(line.contains("`app1`") && line.contains("group of another"), "{line}");

    drop(mortal.life);
    let line = dataplane.hears("is gone");
    assert!(line.contains("`app2`") && line.contains("4711"), "{line}");
    assert_eq!(xtcpd.running(), (vec![0], vec![gd]));
    drop(honest);
}

/// What a dead application leaves, and its successor.
#[test]
fn a_dead_application_is_waited_for_and_followed() {
    let mut dataplane = Dataplane::for_control("successor");
    let xtcpd = dataplane.connect();
    xtcpd.brings_memory();
    let keep = |number: u16, successor_ms| {
        let mut app = App::new(number);
        app.record.successor_ms = successor_ms;
        app
    };
    let hour = 3_600_000;
    let first = keep(0, hour).attach(&xtcpd);
    let gd = open_group(&xtcpd, 0, 7);
    let follower = keep(0, hour);
    let record = EndpointRecord { key: 2, pid: 4712, ..follower.record.clone() };
    let resume = |record: EndpointRecord| Order::ResumeEndpoint(record);
    let files = [&file(&follower.endpoint), &follower.bell, &follower.lifeline];
    let early = xtcpd.refusal(&resume(record.clone()), &files);
    assert!(early.contains("does not wait for a successor"), "{early}");

    let nobody_starts = stage::nobody_starts();
    drop(first);
    // Asked at once, it knows: whoever follows may be quick.
    let State::Running { waiting, .. } = xtcpd.state() else { panic!("it has no memory") };
    assert_eq!(waiting, [0]);
    drop(nobody_starts);
    dataplane.hears("wait 3600000 ms for a successor");
    let pools = xtcpd.ask(&Order::Show { topic: Topic::Pools, limit: 0 }, &[]);
    let Answer::Shown { rows } = pools else { panic!("{pools:?}") };
    assert!(rows[0]["waits for a successor (ms)"].as_u64().unwrap() > 3_000_000, "{rows:?}");
    for (record, files, words) in [
        (record.clone(), &files[..2], "three files"),
        (EndpointRecord { uid: 1, ..record.clone() }, &files[..], "does not wait"),
        (EndpointRecord { application: "x".into(), ..record.clone() }, &files[..], "does not wait"),
        (EndpointRecord { receive_bytes: 1, ..record.clone() }, &files[..], "does not wait"),
        (EndpointRecord { endpoint: 5, ..record.clone() }, &files[..], "does not wait"),
    ] {
        let reason = xtcpd.refusal(&resume(record), files);
        assert!(reason.contains(words), "{reason}");
    }
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    xtcpd.0.send(&resume(record), &files).unwrap();
    let (answer, theirs): (Answer, Vec<OwnedFd>) = xtcpd.0.recv().unwrap();
    assert_eq!(answer, Answer::Resumed { endpoint: 0 });
    let [receive] = <[OwnedFd; 1]>::try_from(theirs).unwrap();
    let len = usize::try_from(RECEIVE).unwrap();
    assert!(SharedMemory::from_fd(receive, len).unwrap().is_sealed_future_write().unwrap());
    assert_eq!(xtcpd.running(), (vec![0], vec![gd]));
    let State::Running { waiting, endpoints, .. } = xtcpd.state() else {
        panic!("it has no memory")
    };
    assert_eq!((waiting.len(), endpoints[0].pid), (0, 4712));
    for worker in 0..WORKERS {
        let mut channel = ApplicationChannel::open(&follower.mapping, &LAYOUT, worker).unwrap();
        let told = std::iter::repeat_with(|| channel.notices.pop().unwrap()).flatten().next();
        assert_eq!(told.map(|notice| notice.kind), Some(kind::RESUMED));
    }

    // Nobody follows this one in time.
    drop(keep(1, 1).attach(&xtcpd));
    dataplane.hears("no successor of application `app1` came in 1 ms");
    assert_eq!(xtcpd.running(), (vec![0], vec![gd]));
}

#[test]
fn a_second_of_the_name_is_refused_and_a_killed_one_is_followed() {
    let mut first = Dataplane::for_control("names");
    let mut second = Dataplane::start(first.run_dir.clone(), false, "--control");
    let (status, said) = second.ended();
    assert_eq!(status.code(), Some(1));
    let pid = first.child.id().to_string();
    assert!(said.contains("already running") && said.contains(&pid), "{said}");

    first.signal(Signal::KILL);
    first.ended();
    assert!(first.socket().exists(), "a killed process cleans nothing up");
    let mut third = Dataplane::start(first.run_dir.clone(), false, "--control");
    third.hears("waiting for xtcpd");
    third.connect().brings_memory();
    third.signal(Signal::TERM);
    let (status, said) = third.ended();
    assert!(status.success(), "{said}");
    assert!(!third.socket().exists());
}

#[test]
fn stop_ends_it_well_with_memory_and_without() {
    for with_memory in [false, true] {
        let mut dataplane = Dataplane::for_control(&format!("stop-{with_memory}"));
        let xtcpd = dataplane.connect();
        if with_memory {
            xtcpd.brings_memory();
        }
        xtcpd.done(&Order::Stop, &[]);
        let (status, said) = dataplane.ended();
        assert!(status.success(), "{said}");
        assert!(!said.contains("warning"), "{said}");
    }
}

#[test]
fn the_prompt_answers_and_quits() {
    let mut dataplane = Dataplane::start(run_dir("prompt"), true, "-i --forward-mode echo");
    let mut stdin = dataplane.child.stdin.take().unwrap();
    let typed = "help show\nstop\nstop\nshow workers\nstart\nshow port info 0\nshow port stats all\n\
                 show config\nshow status\nshow counters all\nfrobnicate\nquit\n";
    stdin.write_all(typed.as_bytes()).unwrap();
    let mut shown = String::new();
    dataplane.child.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    let (status, said) = dataplane.ended();
    assert!(status.success(), "{said}");
    for words in [
        "show port info N|all",
        "the workers have stopped",
        "the workers stand already",
        "busy (%)",
        "the workers go on",
        "Driver name: net_ring",
        "NIC statistics for port 0",
        "listen port                  7",
        "2 workers at work",
        "spread-handed-over",
        "`frobnicate` is no command",
    ] {
        assert!(shown.contains(words), "`{words}` is not in:\n{shown}");
    }
}

#[test]
fn help_teaches_and_errors_name_the_option() {
    let run = |words: &str| {
        let output = stage::spawn(words).wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    for help in ["-h", "--help", "--no-pci -- --help"] {
        let (code, shown, _) = run(help);
        assert_eq!(code, Some(0));
        assert!(shown.contains("--vdev=net_tap0,iface=xtcp0") && shown.contains("--stats-period"));
    }
    let directory = run_dir("errors");
    let path = directory.display();
    let own = format!("-- --ip 10.9.0.1/24 --run-dir {path}");
    for (words, expected, option) in [
        ("--no-pci".to_owned(), 2, "--ip"),
        ("-- --ip nonsense".to_owned(), 2, "--ip"),
        (format!("--vdev=net_nonsense0 {own}"), 1, "net_nonsense0"),
        (format!("--no-huge --in-memory {own}"), 1, "--in-memory"),
        (format!("--no-huge --no-pci {own}"), 1, "--vdev"),
        (format!("-l 900 --no-huge --vdev=net_ring0 {own}"), 1, "-l"),
        (format!("--no-huge --vdev=net_ring0 {own} --workers-cores 900"), 1, "--workers-cores"),
        (format!("--no-huge --vdev=net_ring0 {own} --port 3"), 1, "--port 3"),
        (format!("--no-huge --vdev=net_ring0 {own} --spread hardware"), 1, "--spread"),
    ] {
        let (code, _, said) = run(&words);
        assert_eq!(code, Some(expected), "{words}: {said}");
        assert!(said.contains(option), "{words}: {said}");
    }
    assert!(Path::new(&directory).exists());
    fs::remove_dir_all(directory).unwrap();
}

//! What operators and configurations decide: drains, liars; and messages nobody should write.

use serde_json::Value;
use xtcp_ring::layout::kind;
use xtcp_ring::message::{
    Answer, Command as Order, Drain, GroupOptions, Manner, Notify, Refusal, Row, State, Topic,
};
use xtcp_ring::{ApplicationChannel, Notice, Seqpacket, Submission};

use crate::commands::commands;
use crate::mutants;
use crate::stage::{App, Attached, Dataplane, LAYOUT, WORKERS, Xtcpd, group, open_group};

fn rows(xtcpd: &Xtcpd, topic: Topic) -> Vec<Row> {
    match xtcpd.ask(&Order::Show { topic, limit: 0 }, &[]) {
        Answer::Shown { rows } => rows,
        other => panic!("{topic:?} was answered by {other:?}"),
    }
}

fn open(xtcpd: &Xtcpd, options: GroupOptions) -> u32 {
    match xtcpd.ask(&Order::OpenGroup { endpoint: 0, options }, &[]) {
        Answer::Group { gd } => gd,
        other => panic!("OpenGroup was answered by {other:?}"),
    }
}

/// The first notice of a worker; there will be one.
fn notice(app: &Attached, worker: u8) -> Notice {
    let mut channel = ApplicationChannel::open(&app.mapping, &LAYOUT, worker).unwrap();
    std::iter::repeat_with(|| channel.notices.pop().unwrap()).flatten().next().unwrap()
}

#[test]
fn a_group_is_drained_at_every_worker() {
    let dataplane = Dataplane::for_control("drain");
    let xtcpd = dataplane.connect();
    xtcpd.brings_memory();
    let app = App::new(0).attach(&xtcpd);
    let gd = open_group(&xtcpd, 0, 7);
    let drain = Drain { per_second: 1, manner: Manner::Close };
    let others = xtcpd.refused(&Order::DrainGroup { endpoint: 1, gd, drain }, &[]);
    assert_eq!(others.refusal, Refusal::NotThere, "{others}");
    let none = xtcpd.refused(&Order::DrainGroup { endpoint: 0, gd: gd + 1, drain }, &[]);
    assert_eq!(none.refusal, Refusal::NotThere, "{none}");
    assert_eq!(rows(&xtcpd, Topic::Groups)[0]["drain"], Value::Null);

    xtcpd.done(&Order::DrainGroup { endpoint: 0, gd, drain }, &[]);
    for worker in 0..WORKERS {
        let notice = notice(&app, worker);
        let of_worker = u64::from(worker) << 32;
        assert_eq!((notice.kind, notice.gd, notice.cd), (kind::DRAINED, gd, of_worker));
    }
    assert_eq!(rows(&xtcpd, Topic::Groups)[0]["drain"], "close, 1/s");
    xtcpd.done(&Order::CloseGroup { endpoint: 0, gd }, &[]);
}

/// Several groups share a port, by address, weight and priority; each is shown as it was opened.
#[test]
fn groups_share_a_port_and_are_shown_as_they_were_opened() {
    let dataplane = Dataplane::for_control("groups");
    let xtcpd = dataplane.connect();
    xtcpd.brings_memory();
    let _app = App::new(0).attach(&xtcpd);
    let plain = open(&xtcpd, group("plain", 7));
    let named = GroupOptions {
        addresses: vec!["10.9.0.1".parse().unwrap()],
        weight: 9,
        priority: 3,
        notify: Notify { requests: 8, micros: 50 },
        ..GroupOptions::new("named", 7)
    };
    assert_ne!(open(&xtcpd, named.clone()), plain);
    let shown = rows(&xtcpd, Topic::Groups);
    let named_row = shown.iter().find(|row| row["group"] == "named").unwrap();
    assert_eq!(named_row["addresses"], "10.9.0.1");
    assert_eq!(named_row["notify"], "8 requests, or after 50 us");
    assert_eq!((&named_row["weight"], &named_row["priority"]), (&9.into(), &3.into()));
    assert_eq!(named_row["application"], "app0");

    let elsewhere = GroupOptions { addresses: vec!["10.9.0.9".parse().unwrap()], ..named };
    let refused = xtcpd.refused(&Order::OpenGroup { endpoint: 0, options: elsewhere }, &[]);
    assert_eq!(refused.refusal, Refusal::NotThere);
    assert!(refused.reason.contains("it has 10.9.0.1"), "{refused}");
}

#[test]
fn what_a_liar_leaves_is_kept_or_closed_as_it_is_configured() {
    let mut dataplane = Dataplane::for_control("hostile");
    let xtcpd = dataplane.connect();
    xtcpd.brings_memory();
    let hour = 3_600_000;
    for (number, hostile_ms, successor_ms) in [(0, hour, 0), (1, 0, hour)] {
        let mut app = App::new(number);
        (app.record.hostile_ms, app.record.successor_ms) = (hostile_ms, successor_ms);
        let liar = app.attach(&xtcpd);
        let mut channel = ApplicationChannel::open(&liar.mapping, &LAYOUT, 0).unwrap();
        let lie = Submission { op: 99, ..Submission::default() };
        channel.submissions.push(&lie).unwrap();
        channel.submissions.publish();
        liar.is_cut_off();
        let said = dataplane.hears("cut off by worker 0");
        let left = if hostile_ms > 0 { "wait for a successor" } else { "are reset" };
        assert!(said.contains("an operation that does not exist"), "{said}");
        assert!(said.contains(left), "{said}");
    }
    let State::Running { waiting, endpoints, .. } = xtcpd.state() else { panic!("no memory") };
    assert_eq!((waiting, endpoints.len()), (vec![0], 1));
    let pools = rows(&xtcpd, Topic::Pools);
    assert_eq!(pools[0]["state"], "cut off: it submitted an operation that does not exist");
    let counters = rows(&xtcpd, Topic::Counters);
    let lies = counters.iter().find(|row| row["counter"] == "lie-operation").unwrap();
    assert_eq!(lies["all"], 2);
}

/// Whatever is written to its socket, the dataplane answers each message, and works on.
#[test]
fn no_message_hurts_the_dataplane() {
    let dataplane = Dataplane::for_control("mutants");
    let xtcpd = dataplane.connect();
    let sent = send_mutants(&xtcpd.0);
    assert!(sent > 500, "{sent} messages");
    xtcpd.brings_memory();
    // A number that no mutant has.
    let app = App::new(5).attach(&xtcpd);
    let gd = open_group(&xtcpd, 5, 7);
    send_mutants(&xtcpd.0);
    assert_eq!(xtcpd.running(), (vec![5], vec![gd]), "nobody comes without files");
    drop(app);
}

/// Every command with one thing wrong, each answered by something; says how many there were.
fn send_mutants(link: &Seqpacket) -> usize {
    let mut sent = 0;
    for command in commands() {
        if command == Order::Stop {
            continue;
        }
        for mutant in mutants::of(&serde_json::to_value(&command).unwrap()) {
            if mutant == "Stop" {
                continue;
            }
            link.send(&mutant, &[]).unwrap();
            let answered = link.recv::<Answer>();
            assert!(answered.is_ok(), "{mutant}: {answered:?}");
            sent += 1;
        }
    }
    sent
}

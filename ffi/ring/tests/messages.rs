//! Messages as they are written, and as nobody should write them.
#![cfg(not(loom))]

#[path = "samples/commands.rs"]
mod commands;
mod mutants;
#[path = "samples/requests.rs"]
mod requests;

use std::net::IpAddr;

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use xtcp_ring::message::{
    Accept, Acknowledge, Answer, Command, Congestion, ConnectionInfo, Family, GroupOptions,
    GroupRecord, KeepAlive, Notify, Refusal, Refused, Reply, Request, State,
};

use commands::{LAYOUT, commands, record};
use requests::{options, requests};

fn info() -> ConnectionInfo {
    ConnectionInfo {
        cd: 1 << 40,
        gd: 1 << 16,
        remote: "10.0.0.9:999".parse().expect("an address"),
        local: "[fd77::2]:7".parse().expect("an address"),
        state: "ESTABLISHED".into(),
    }
}

fn replies() -> Vec<Reply> {
    let group = GroupRecord { gd: 1, endpoint: 1, options: options() };
    vec![
        Reply::Attached {
            endpoint: 1,
            pool: 1,
            key: 2,
            layout: LAYOUT,
            receive_bytes: 1 << 20,
            resumed: Some(vec![group]),
        },
        Reply::Group { gd: 1 },
        Reply::Done,
        Reply::Described(info()),
        Reply::Shown { rows: vec![serde_json::Map::new()] },
        Refused::full("no more").into(),
    ]
}

fn answers() -> Vec<Answer> {
    let group = GroupRecord { gd: 1, endpoint: 1, options: options() };
    let running =
        State::Running { endpoints: vec![record()], waiting: vec![1], groups: vec![group] };
    let fresh = State::Fresh { tables_bytes_per_worker: vec![4096] };
    vec![
        Answer::Welcome { state: running, pid: 1, workers: 2 },
        Answer::Welcome { state: fresh, pid: 1, workers: 2 },
        Answer::Group { gd: 1 },
        Answer::Resumed { endpoint: 1 },
        Answer::Done,
        Answer::Described(info()),
        Answer::Shown { rows: Vec::new() },
        Refused::not_now("later").into(),
    ]
}

/// What is written is read as it was, and what is not like it is refused, or read as what it says.
fn is_read_as_written<T>(messages: Vec<T>)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    for message in messages {
        let written = serde_json::to_value(&message).expect("text");
        let read: T = serde_json::from_value(written.clone()).expect("read");
        assert_eq!(read, message);
        for mutant in mutants::of(&written) {
            if let Ok(read) = serde_json::from_value::<T>(mutant) {
                let again = serde_json::to_value(&read).expect("text");
                let same = serde_json::from_value::<T>(again).expect("its own words");
                assert_eq!(same, read);
            }
        }
    }
}

#[test]
fn every_message_is_read_as_written() {
    is_read_as_written(requests());
    is_read_as_written(commands());
    is_read_as_written(replies());
    is_read_as_written(answers());
}

#[test]
fn numbers_that_do_not_fit_their_field_are_refused() {
    let written = serde_json::to_value(options()).expect("text");
    for (field, value) in [
        ("port", json!(65_536)),
        ("weight", json!(256)),
        ("priority", json!(-1)),
        ("hold_limit", json!(1_u64 << 32)),
        ("traffic_class", json!(0.5)),
        ("hop_limit", json!("64")),
        ("addresses", json!(["10.0.0.256"])),
        ("congestion", json!("Vegas")),
    ] {
        let mut fields = written.clone();
        fields[field] = value.clone();
        let read = serde_json::from_value::<GroupOptions>(fields);
        assert!(read.is_err(), "{field} = {value}: {read:?}");
    }
}

#[test]
fn a_refusal_is_its_sentence_and_its_kind() {
    for (refused, refusal) in [
        (Refused::invalid("x"), Refusal::Invalid),
        (Refused::in_use("x"), Refusal::InUse),
        (Refused::not_there("x"), Refusal::NotThere),
        (Refused::full("x"), Refusal::Full),
        (Refused::not_allowed("x"), Refusal::NotAllowed),
        (Refused::version("x"), Refusal::Version),
        (Refused::not_now("x"), Refusal::NotNow),
        (Refused::misplaced("x"), Refusal::Misplaced),
    ] {
        assert_eq!(refused.to_string(), "x");
        let reason = "x".to_owned();
        assert_eq!(
            Reply::from(refused.clone()),
            Reply::Refused { refusal, reason: reason.clone() }
        );
        assert_eq!(Answer::from(refused), Answer::Refused { refusal, reason });
    }
}

prop_compose! {
    fn any_options()(
        name in ".{0,8}",
        small in any::<(u16, u8, u8, u8, u8, bool)>(),
        large in any::<(u32, u32, u32, u32, u32, u32)>(),
        addresses in proptest::collection::vec(any::<IpAddr>(), 0..4),
        keep_alive in proptest::option::of(any::<(u32, u32, u8)>()),
        choices in any::<(bool, bool, bool)>(),
    ) -> GroupOptions {
        let (port, weight, priority, traffic_class, hop_limit, nagle) = small;
        let (hold_limit, window_max, idle_timeout_ms, user_timeout_ms, requests, micros) = large;
        GroupOptions {
            name,
            port,
            family: if choices.0 { Family::V4 } else { Family::V6 },
            addresses,
            weight,
            priority,
            accept: if choices.1 {
                Accept::Automatic
            } else {
                Accept::ByApplication { timeout_ms: micros }
            },
            acknowledge: Acknowledge::OnReceive,
            hold_limit,
            window_max,
            nagle,
            notify: Notify { requests, micros },
            keep_alive: keep_alive
                .map(|(idle_ms, interval_ms, probes)| KeepAlive { idle_ms, interval_ms, probes }),
            idle_timeout_ms,
            user_timeout_ms,
            congestion: if choices.2 { Congestion::NewReno } else { Congestion::Cubic },
            traffic_class,
            hop_limit,
        }
    }
}

/// JSON of any shape, with the words of the messages in it.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("OpenGroup"),
        Just("DrainGroup"),
        Just("Order"),
        Just("CutOff"),
        Just("gd"),
        Just("drain"),
        Just("manner"),
        Just("endpoint"),
        Just("options"),
        Just("Refused"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((word.clone(), inner), 0..5).prop_map(|fields| {
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            }),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_a_group_asks_for_arrives_as_it_is(options in any_options()) {
        let text = serde_json::to_string(&Request::OpenGroup(options.clone())).expect("text");
        let read: Request = serde_json::from_str(&text).expect("read");
        prop_assert_eq!(read, Request::OpenGroup(options));
    }

    #[test]
    fn no_json_panics_its_reader(value in any_json()) {
        let text = value.to_string();
        let _ = serde_json::from_str::<Request>(&text);
        let _ = serde_json::from_str::<Command>(&text);
        let _ = serde_json::from_str::<Reply>(&text);
        let _ = serde_json::from_str::<Answer>(&text);
    }

    #[test]
    fn no_bytes_panic_their_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = serde_json::from_slice::<Request>(&bytes);
        let _ = serde_json::from_slice::<Command>(&bytes);
    }
}

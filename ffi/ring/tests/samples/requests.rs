//! One of every request.

use xtcp_ring::message::{
    Acknowledge, Drain, GroupOptions, KeepAlive, Manner, Notify, Order, Request, Topic, VERSION,
};

/// A group with everything set.
pub(crate) fn options() -> GroupOptions {
    GroupOptions {
        addresses: vec!["10.0.0.1".parse().expect("one"), "fd77::2".parse().expect("another")],
        notify: Notify { requests: 8, micros: 50 },
        keep_alive: Some(KeepAlive { idle_ms: 1, interval_ms: 2, probes: 3 }),
        acknowledge: Acknowledge::ByApplication { deadline_ms: 9 },
        ..GroupOptions::new("group", 7)
    }
}

fn drain() -> Drain {
    Drain { per_second: 100, manner: Manner::WhenIdle }
}

pub(crate) fn requests() -> Vec<Request> {
    let order = |order| Request::Order(order);
    vec![
        Request::Attach { version: VERSION, application: "chat".into(), receive_bytes: 1 << 20 },
        Request::Resume { version: VERSION, endpoint: 1, key: 2 },
        Request::OpenGroup(options()),
        Request::CloseGroup { gd: 1 },
        Request::DrainGroup { gd: 1, drain: drain() },
        Request::Detach,
        Request::Describe { cd: 1 },
        Request::Status,
        Request::Show { topic: Topic::GroupCounters, limit: 3 },
        order(Order::DrainGroup { group: "chat/group".into(), drain: drain() }),
        order(Order::CloseConnection { connection: "0/1.1".into(), reset: true }),
        order(Order::CutOff { application: "chat".into() }),
    ]
}

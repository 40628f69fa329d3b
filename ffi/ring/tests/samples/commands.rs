//! One of every command.

use xtcp_ring::layout::EndpointLayout;
use xtcp_ring::message::{Command, Drain, EndpointRecord, GroupOptions, Manner, Topic, VERSION};

pub(crate) const LAYOUT: EndpointLayout =
    EndpointLayout { workers: 2, submissions: 8, notices: 16, arena_bytes: 8192 };

pub(crate) fn record() -> EndpointRecord {
    EndpointRecord {
        endpoint: 1,
        pool: 1,
        application: "chat".into(),
        pid: 2,
        uid: 3,
        key: 4,
        layout: LAYOUT,
        receive_bytes: 1 << 20,
        successor_ms: 5,
        hostile_ms: 6,
    }
}

pub(crate) fn commands() -> Vec<Command> {
    let drain = Drain { per_second: 100, manner: Manner::WhenIdle };
    let options = GroupOptions::new("group", 7);
    vec![
        Command::Hello { version: VERSION },
        Command::Memory { tables_bytes: vec![4096, 4096] },
        Command::OpenEndpoint(record()),
        Command::ResumeEndpoint(record()),
        Command::OpenGroup { endpoint: 1, options },
        Command::CloseGroup { endpoint: 1, gd: 1 },
        Command::DrainGroup { endpoint: 1, gd: 1, drain },
        Command::CloseConnection { connection: "0/1.1".into(), reset: false },
        Command::CloseEndpoint { endpoint: 1 },
        Command::Describe { endpoint: 1, cd: 1 },
        Command::Show { topic: Topic::Pools, limit: 0 },
        Command::Stop,
    ]
}

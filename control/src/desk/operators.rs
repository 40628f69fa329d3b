//! What only operators may ask: what there is, and orders that go past applications.

use std::os::fd::BorrowedFd;

use serde_json::{Value, json};
use tracing::info;
use xtcp_ring::message::{Answer, Command, GroupRecord, Order, Refused, Reply, Row, Topic};

use super::{Answered, Desk};
use crate::client::Client;
use crate::clock;
use crate::dataplane::Up;

/// Rows of one table at most.
const ROWS_MAX: u32 = 10_000;

impl Desk {
    pub(super) fn show(
        &mut self,
        client: &Client,
        topic: Topic,
        limit: u32,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Reply> {
        // An application must not see who another's clients are.
        check_operator(client, "see")?;
        let limit = if limit == 0 { ROWS_MAX } else { limit.min(ROWS_MAX) };
        match self.call(&Command::Show { topic, limit }, &[], interrupt)? {
            Answer::Shown { rows } => Ok(Reply::Shown { rows }),
            other => Err(self.nonsense(&other)),
        }
    }

    pub(super) fn status(&mut self, interrupt: BorrowedFd<'_>) -> Row {
        // Without a dataplane there is nothing to refresh, and the row says so.
        let _ = self.refresh(interrupt);
        let mut row = Row::new();
        let mut say = |heading: &str, value: Value| drop(row.insert(heading.into(), value));
        say("name", json!(self.name));
        say("state", json!(self.dataplane.state()));
        say("xtcpd_pid", json!(std::process::id()));
        let up = self.dataplane.up();
        let up = up.as_deref();
        say("dataplane_pid", json!(up.map(Up::pid)));
        say("workers", json!(up.map(|up| up.workers)));
        let waiting = up.map_or(0, |up| up.waiting.len());
        say("applications", json!(up.map_or(0, |up| up.endpoints.len()) - waiting));
        say("awaits_successor", json!(waiting));
        say("groups", json!(up.map_or(0, |up| up.groups.len())));
        let receive = |up: &Up| up.endpoints.values().map(|record| record.receive_bytes).sum();
        say("receive_used_bytes", json!(up.map_or(0u64, receive)));
        say("receive_bytes", json!(self.config.memory.receive));
        say("tables_bytes", json!(up.and_then(|up| up.tables_bytes)));
        say("connections_max", json!(self.config.memory.connections));
        say("restarts", json!(self.dataplane.restarts));
        say("up_s", json!((clock::now() - self.since).as_secs()));
        let addresses = &self.config.port.addresses;
        say("addresses", json!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>()));
        row
    }

    pub(super) fn order(
        &mut self,
        client: &Client,
        order: &Order,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Reply> {
        check_operator(client, "order")?;
        // Applications end without telling us.
        self.refresh(interrupt)?;
        let command = match order {
            Order::DrainGroup { group, drain } => {
                let GroupRecord { gd, endpoint, .. } = *named_group(self.up()?, group)?;
                Command::DrainGroup { endpoint, gd, drain: *drain }
            }
            Order::CloseConnection { connection, reset } => {
                Command::CloseConnection { connection: connection.clone(), reset: *reset }
            }
            Order::CutOff { application } => {
                let mut known = self.up()?.endpoints.values();
                let record = known.find(|record| record.application == *application);
                let endpoint = record.map(|record| record.endpoint).ok_or_else(|| {
                    Refused::not_there(format!(
                        "there is no application `{application}`, nor what one has left; `xtcpctl \
                         show pools` has their names"
                    ))
                })?;
                Command::CloseEndpoint { endpoint }
            }
        };
        self.call(&command, &[], interrupt)?;
        info!("process {} of user {} orders {order:?}", client.pid, client.uid);
        self.refresh(interrupt)?;
        Ok(Reply::Done)
    }
}

/// The group an operator means: by its name, with its application's and a slash before it where
/// that is not enough.
fn named_group<'a>(up: &'a Up, named: &str) -> Answered<&'a GroupRecord> {
    let (application, name) = match named.split_once('/') {
        Some((application, name)) => (Some(application), name),
        None => (None, named),
    };
    let owner = |group: &GroupRecord| {
        up.endpoints.get(&group.endpoint).map_or("", |record| record.application.as_str())
    };
    let is_meant = |group: &&GroupRecord| {
        group.options.name == name && application.is_none_or(|wanted| owner(group) == wanted)
    };
    let meant: Vec<&GroupRecord> = up.groups.values().filter(is_meant).collect();
    match meant[..] {
        [group] => Ok(group),
        [] => Err(Refused::not_there(format!(
            "there is no group `{named}`; `xtcpctl show groups` has their names"
        ))),
        _ => {
            let whole = meant.iter().map(|group| format!("{}/{name}", owner(group)));
            Err(Refused::invalid(format!(
                "several groups are named `{named}`: say which of {}",
                whole.collect::<Vec<_>>().join(", ")
            )))
        }
    }
}

/// What is everybody's is root's, and of the user who runs us.
fn check_operator(client: &Client, what: &str) -> Answered<()> {
    if client.is_operator {
        return Ok(());
    }
    Err(Refused::not_allowed(format!("only root, or the user who runs xtcpd, may {what} this")))
}

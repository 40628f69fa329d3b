//! Groups that applications open, drain and close.

use std::os::fd::BorrowedFd;

use tracing::info;
use xtcp_ring::message::{
    Accept, Answer, Command, Drain, GroupOptions, GroupRecord, Refused, Reply,
};

use super::{Answered, Desk, check_name};
use crate::client::Client;

/// Longest an application may leave a client waiting, in milliseconds.
const ACCEPT_TIMEOUT_MAX: u32 = 60_000;

impl Desk {
    pub(super) fn open_group(
        &mut self,
        client: &Client,
        mut options: GroupOptions,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Reply> {
        let endpoint = self.attached(client)?;
        check_name("a group", &options.name)?;
        self.complete(&mut options)?;
        let mut groups = self.up()?.groups.values();
        let same =
            |group: &&GroupRecord| group.endpoint == endpoint && group.options.name == options.name;
        if let Some(open) = groups.find(same) {
            return match difference(&open.options, &options) {
                None => Ok(Reply::Group { gd: open.gd }),
                Some(what) => Err(Refused::in_use(format!(
                    "group `{}` is open already and {what}; ask for the same, or close it first",
                    options.name
                ))),
            };
        }
        let command = Command::OpenGroup { endpoint, options: options.clone() };
        let gd = match self.call(&command, &[], interrupt)? {
            Answer::Group { gd } => gd,
            other => return Err(self.nonsense(&other)),
        };
        info!("group {} of endpoint {endpoint} on port {}", options.name, options.port);
        self.up()?.groups.insert(gd, GroupRecord { gd, endpoint, options });
        Ok(Reply::Group { gd })
    }

    /// Fills in what a group leaves to the configuration, and checks the rest.
    fn complete(&self, options: &mut GroupOptions) -> Answered<()> {
        let tcp = &self.config.tcp;
        if options.port == 0 {
            return Err(Refused::invalid("`port` is 0: give 1 to 65535"));
        }
        if let Accept::ByApplication { timeout_ms } = &mut options.accept {
            if *timeout_ms == 0 {
                *timeout_ms = tcp.accept_timeout_ms;
            }
            if *timeout_ms > ACCEPT_TIMEOUT_MAX {
                return Err(Refused::invalid(format!(
                    "an accept time of {timeout_ms} ms is too long: {ACCEPT_TIMEOUT_MAX} at most"
                )));
            }
        }
        if options.window_max == 0 {
            options.window_max = tcp.window_max;
        }
        if !(4096..=tcp.window_max).contains(&options.window_max) {
            return Err(Refused::invalid(format!(
                "a window of {} bytes is not to be had: ask for 4096 to {} (window_max in [tcp]), or \
                 0 for the most",
                options.window_max, tcp.window_max
            )));
        }
        Ok(())
    }

    pub(super) fn close_group(
        &mut self,
        client: &Client,
        gd: u32,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Reply> {
        let endpoint = self.owner(client, gd)?;
        self.call(&Command::CloseGroup { endpoint, gd }, &[], interrupt)?;
        self.up()?.groups.remove(&gd);
        Ok(Reply::Done)
    }

    pub(super) fn drain_group(
        &mut self,
        client: &Client,
        gd: u32,
        drain: Drain,
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Reply> {
        let endpoint = self.owner(client, gd)?;
        self.call(&Command::DrainGroup { endpoint, gd, drain }, &[], interrupt)?;
        info!("group {gd} of endpoint {endpoint} is drained: {drain:?}");
        Ok(Reply::Done)
    }

    /// The client's endpoint, if the group is its own.
    fn owner(&mut self, client: &Client, gd: u32) -> Answered<u16> {
        let endpoint = self.attached(client)?;
        let is_theirs = |group: &GroupRecord| group.endpoint == endpoint;
        if !self.up()?.groups.get(&gd).is_some_and(is_theirs) {
            let why = format!("there is no group {gd} of this application");
            return Err(Refused::not_there(why));
        }
        Ok(endpoint)
    }
}

/// The first thing in which a group that is open is not what is asked for.
fn difference(open: &GroupOptions, asked: &GroupOptions) -> Option<String> {
    let told = |what: &str, open: &dyn std::fmt::Debug, asked: &dyn std::fmt::Debug| {
        let (open, asked) = (format!("{open:?}"), format!("{asked:?}"));
        (open != asked).then(|| format!("has {what} {open} where {asked} is asked for"))
    };
    told("port", &open.port, &asked.port)
        .or_else(|| told("family", &open.family, &asked.family))
        .or_else(|| told("addresses", &open.addresses, &asked.addresses))
        .or_else(|| told("weight", &open.weight, &asked.weight))
        .or_else(|| told("priority", &open.priority, &asked.priority))
        .or_else(|| told("accept", &open.accept, &asked.accept))
        .or_else(|| told("acknowledge", &open.acknowledge, &asked.acknowledge))
        .or_else(|| told("hold_limit", &open.hold_limit, &asked.hold_limit))
        .or_else(|| told("window_max", &open.window_max, &asked.window_max))
        .or_else(|| told("nagle", &open.nagle, &asked.nagle))
        .or_else(|| told("notify", &open.notify, &asked.notify))
        .or_else(|| told("keep_alive", &open.keep_alive, &asked.keep_alive))
        // Whatever options are added later.
        .or_else(|| (open != asked).then(|| format!("is {open:?} where {asked:?} is asked for")))
}

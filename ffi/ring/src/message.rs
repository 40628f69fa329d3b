//! The words processes say to each other over their sockets.
//!
//! Data never goes this way: sockets carry what is rare (attach, open a group, show), rings what is
//! frequent.

mod group;
mod refusal;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::layout::EndpointLayout;
pub use crate::layout::VERSION;
pub use group::{
    Accept, Acknowledge, Congestion, Drain, Family, GroupOptions, KeepAlive, Manner, Notify,
};
pub use refusal::{Refusal, Refused};

/// Bytes a name can have; see [`name_is_valid`].
pub const NAME_MAX: usize = 64;

/// Whether this may name an instance, an application or a group: 1 to [`NAME_MAX`] of
/// `A-Z a-z 0-9 . _ -`, not starting with a dot (an instance's name is a directory's).
#[must_use]
pub fn name_is_valid(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// An application or `xtcpctl` to `xtcpd`. Each is answered by one [`Reply`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Become an application, with a pool of its own, or with the pool, groups and connections
    /// that one of this name and user has left. Answered by [`Reply::Attached`].
    Attach {
        /// [`VERSION`].
        version: u32,
        /// The application's name, see [`name_is_valid`].
        application: String,
        /// Size of the pool's receive memory in bytes; 0 takes the configured maximum. A pool that
        /// a predecessor left has the size it has.
        receive_bytes: u64,
    },
    /// Be again, on a new connection after `xtcpd` was restarted, the application that got this
    /// endpoint and key. Answered by [`Reply::Done`].
    Resume {
        /// [`VERSION`].
        version: u32,
        /// From [`Reply::Attached`].
        endpoint: u16,
        /// From [`Reply::Attached`].
        key: u64,
    },
    /// Open a group in the application's pool, or get the handle of the group of this name that
    /// is open in it with the same options. Answered by [`Reply::Group`].
    OpenGroup(GroupOptions),
    /// Close a group and reset its connections. Answered by [`Reply::Done`].
    CloseGroup {
        /// From [`Reply::Group`].
        gd: u32,
    },
    /// Take no more clients for a group, and end its connections little by little; each is told as
    /// any that ends, and [`crate::layout::kind::DRAINED`] when none is left. The group stays open
    /// until it is closed. Answered by [`Reply::Done`].
    DrainGroup {
        /// From [`Reply::Group`].
        gd: u32,
        /// How.
        drain: Drain,
    },
    /// Give up the pool, its groups and connections. Answered by [`Reply::Done`].
    Detach,
    /// Who is at the other end of one of the application's connections. Answered by
    /// [`Reply::Described`].
    Describe {
        /// The connection's handle.
        cd: u64,
    },
    /// How the appliance is. Answered by [`Reply::Shown`], one row.
    Status,
    /// One table of what there is. Answered by [`Reply::Shown`].
    Show {
        /// Which.
        topic: Topic,
        /// Rows at most; 0 for as many as go.
        limit: u32,
    },
    /// What only root and the user who runs `xtcpd` may ask. Answered by [`Reply::Done`].
    Order(Order),
}

/// What an operator asks of groups and connections that are applications'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// See [`Request::DrainGroup`].
    DrainGroup {
        /// The group's name, with the application's and a slash before it where several have the
        /// name.
        group: String,
        /// How.
        drain: Drain,
    },
    /// End one connection; its application is told as of any that ends.
    CloseConnection {
        /// As the table of connections has it: `cd 0/17.1`, with or without the `cd`.
        connection: String,
        /// By RST; else by FIN after what is queued.
        reset: bool,
    },
    /// Let an application go that is there, or what it left for a successor: its connections are
    /// reset, its groups closed.
    CutOff {
        /// Its name.
        application: String,
    },
}

/// `xtcpd`'s answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// With four files: endpoint memory, receive memory (read-only), bell, lifeline.
    ///
    /// The lifeline is the writing end of a pipe that only the application holds: its closing
    /// tells the dataplane that the application is gone. Nothing is ever written; a poll for no
    /// events reports `POLLERR` when the dataplane is gone.
    Attached {
        /// The endpoint's number.
        endpoint: u16,
        /// The pool's number.
        pool: u16,
        /// For [`Request::Resume`].
        key: u64,
        /// The endpoint memory's layout.
        layout: EndpointLayout,
        /// Exact size of the receive memory in bytes.
        receive_bytes: u64,
        /// The groups that a predecessor of the same name left, if there was one and it left its
        /// pool; their connections are told of as they were before.
        resumed: Option<Vec<GroupRecord>>,
    },
    /// The group's handle, the same at every worker.
    Group {
        /// The handle.
        gd: u32,
    },
    /// It is done.
    Done,
    /// The connection.
    Described(ConnectionInfo),
    /// A table.
    Shown {
        /// Its rows; a row's keys are the columns' headings, with their units.
        rows: Vec<Row>,
    },
    /// It is not done.
    Refused {
        /// Of which kind, for programs.
        refusal: Refusal,
        /// A sentence that says why and what to do.
        reason: String,
    },
}

/// One row of a table: heading to value, in the order of columns.
pub type Row = Map<String, Value>;

/// One connection, described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// The connection's handle.
    pub cd: u64,
    /// Its group's handle.
    pub gd: u32,
    /// The client.
    pub remote: SocketAddr,
    /// The appliance.
    pub local: SocketAddr,
    /// The TCP's state, as RFC 9293 writes it: `ESTABLISHED`.
    pub state: String,
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// Applications' pools.
    Pools,
    /// Connection groups.
    Groups,
    /// What was counted of each of them.
    GroupCounters,
    /// Connections.
    Connections,
    /// NIC ports.
    Ports,
    /// Workers.
    Workers,
    /// Every counter.
    Counters,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Pools,
        Self::Groups,
        Self::GroupCounters,
        Self::Connections,
        Self::Ports,
        Self::Workers,
        Self::Counters,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pools => "pools",
            Self::Groups => "groups",
            Self::GroupCounters => "group-counters",
            Self::Connections => "connections",
            Self::Ports => "ports",
            Self::Workers => "workers",
            Self::Counters => "counters",
        }
    }
}

/// `xtcpd` to the dataplane, over `dataplane.sock`. Each is answered by one [`Answer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first word on a connection, and again whenever `xtcpd` wants to know what has become of
    /// its applications. Answered by [`Answer::Welcome`].
    Hello {
        /// [`VERSION`].
        version: u32,
    },
    /// With one file per worker: the tables and transmit buffer, of the sizes the dataplane asked
    /// for or larger. Once, in a [`State::Fresh`] dataplane; it starts its workers then.
    Memory {
        /// Exact size of each worker's memory in bytes.
        tables_bytes: Vec<u64>,
    },
    /// A new application, with four files: endpoint memory, receive memory, the dataplane's end of
    /// the bell, the reading end of the lifeline. The dataplane maps the receive memory and then
    /// seals it against further writers before it answers [`Answer::Done`].
    OpenEndpoint(EndpointRecord),
    /// A successor of the application that left this endpoint, with three files: endpoint memory,
    /// the dataplane's end of the bell, the reading end of the lifeline. The record replaces the
    /// former one; number, pool, name, user and receive memory are the same. Answered by
    /// [`Answer::Resumed`].
    ResumeEndpoint(EndpointRecord),
    /// Open a group at every worker. Answered by [`Answer::Group`].
    OpenGroup {
        /// Whose.
        endpoint: u16,
        /// What kind.
        options: GroupOptions,
    },
    /// Close a group at every worker.
    CloseGroup {
        /// Whose; a group of another endpoint is refused.
        endpoint: u16,
        /// Which.
        gd: u32,
    },
    /// See [`Request::DrainGroup`].
    DrainGroup {
        /// Whose; a group of another endpoint is refused.
        endpoint: u16,
        /// Which.
        gd: u32,
        /// How.
        drain: Drain,
    },
    /// See [`Order::CloseConnection`].
    CloseConnection {
        /// As the dataplane shows it.
        connection: String,
        /// By RST; else by FIN after what is queued.
        reset: bool,
    },
    /// Close an endpoint, its pool, its groups and connections.
    CloseEndpoint {
        /// Which.
        endpoint: u16,
    },
    /// Describe a connection of an endpoint. Answered by [`Answer::Described`].
    Describe {
        /// Whose; a connection of another endpoint is refused.
        endpoint: u16,
        /// Which.
        cd: u64,
    },
    /// A table. Answered by [`Answer::Shown`].
    Show {
        /// Which.
        topic: Topic,
        /// Rows at most; 0 for as many as go.
        limit: u32,
    },
    /// End: reset nothing, stop the workers, release the device, exit.
    Stop,
}

/// The dataplane's answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Command::Hello`].
    Welcome {
        /// What the dataplane holds.
        state: State,
        /// Its process.
        pid: u32,
        /// Its workers.
        workers: u8,
    },
    /// To [`Command::OpenGroup`].
    Group {
        /// The handle.
        gd: u32,
    },
    /// To [`Command::ResumeEndpoint`], with one file: the pool's receive memory.
    Resumed {
        /// Which.
        endpoint: u16,
    },
    /// It is done.
    Done,
    /// To [`Command::Describe`].
    Described(ConnectionInfo),
    /// To [`Command::Show`].
    Shown {
        /// The rows, see [`Reply::Shown`].
        rows: Vec<Row>,
    },
    /// It is not done.
    Refused {
        /// Of which kind, for programs.
        refusal: Refusal,
        /// A sentence that says why.
        reason: String,
    },
}

/// What a dataplane holds when `xtcpd` comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing; it waits for [`Command::Memory`].
    Fresh {
        /// Bytes each worker needs for its tables and its part of the transmit buffer.
        tables_bytes_per_worker: Vec<u64>,
    },
    /// Traffic. Here is what a former `xtcpd` has set up and has not ended since.
    Running {
        /// Endpoints, each with its pool.
        endpoints: Vec<EndpointRecord>,
        /// Numbers of those whose application is gone, and that wait for a successor.
        waiting: Vec<u16>,
        /// Groups.
        groups: Vec<GroupRecord>,
    },
}

/// An application's endpoint and pool, as `xtcpd` made them. The dataplane keeps the record as it
/// is and gives it back in [`State::Running`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// Its number, from 0.
    pub endpoint: u16,
    /// Its pool's number.
    pub pool: u16,
    /// The application's name.
    pub application: String,
    /// Its process, as the kernel told when it attached.
    pub pid: u32,
    /// Its user, as the kernel told. Only the same user's application can follow it.
    pub uid: u32,
    /// Proves to a restarted `xtcpd` who an application is.
    pub key: u64,
    /// The endpoint memory's layout.
    pub layout: EndpointLayout,
    /// Exact size of the receive memory in bytes.
    pub receive_bytes: u64,
    /// How long its pool, groups and connections wait for a successor when it is gone, in
    /// milliseconds; 0: they are closed at once.
    pub successor_ms: u32,
    /// The same for one that was found lying.
    pub hostile_ms: u32,
}

/// A group, as it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// The handle.
    pub gd: u32,
    /// Whose.
    pub endpoint: u16,
    /// What kind.
    pub options: GroupOptions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["x", "xtcp", "a.b_c-9", &"n".repeat(64)] {
            assert!(name_is_valid(good), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "ä", "a\0", &"n".repeat(65)] {
            assert!(!name_is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn rows_keep_the_order_of_their_columns() {
        let text = r#"{"Shown":{"rows":[{"zeta":1,"alpha":2}]}}"#;
        let reply: Reply = serde_json::from_str(text).expect("a reply");
        assert_eq!(serde_json::to_string(&reply).expect("text"), text);
    }
}

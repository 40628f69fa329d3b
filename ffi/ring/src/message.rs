//! The words processes say to each other over their sockets.
//!
//! Data never goes this way: sockets carry what is rare (attach, open a group, show), rings what is
//! frequent.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::layout::EndpointLayout;
pub use crate::layout::VERSION;

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

/// Why something is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A value that cannot be.
    Invalid,
    /// The name, or what is named, is taken.
    InUse,
    /// There is no such thing, or no more.
    NotThere,
    /// A limit is reached: groups, applications, memory.
    Full,
    /// This user may not.
    NotAllowed,
    /// The two sides were not built alike.
    Version,
    /// The dataplane is not there at the moment.
    NotNow,
    /// Not what can be asked here.
    Misplaced,
}

/// One row of a table: heading to value, in the order of columns.
pub type Row = Map<String, Value>;

/// What a group is opened with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOptions {
    /// The group's name, see [`name_is_valid`].
    pub name: String,
    /// TCP port, 1 to 65535. Groups may share a port: of those that listen on the address a
    /// client calls, the ones that name it go before the ones that take any, and among them chance
    /// decides by weight.
    pub port: u16,
    /// Which of the appliance's addresses.
    pub family: Family,
    /// Only these of the appliance's addresses; empty: all of the family.
    pub addresses: Vec<IpAddr>,
    /// Its share of the clients among groups on the same port and address: 1 to 255.
    pub weight: u8,
    /// 0 to 3: requests of a higher one overtake those of a lower one under load.
    pub priority: u8,
    /// Who completes handshakes.
    pub accept: Accept,
    /// Who acknowledges.
    pub acknowledge: Acknowledge,
    /// If not 0, the stack acknowledges by itself what is beyond so many unacknowledged bytes of a
    /// connection, and gives up redelivery for them.
    pub hold_limit: u32,
    /// Largest window offered to one connection, in bytes.
    pub window_max: u32,
    /// Nagle's algorithm.
    pub nagle: bool,
    /// When a sleeping application is woken.
    pub notify: Notify,
    /// Whether, and how, idle clients are asked if they are still there.
    pub keep_alive: Option<KeepAlive>,
    /// A connection on which no text came or went for so many milliseconds is closed; 0: never.
    pub idle_timeout_ms: u32,
    /// Unacknowledged for so many milliseconds, a connection is down; 0 takes the configured time.
    pub user_timeout_ms: u32,
    /// Congestion control.
    pub congestion: Congestion,
    /// The IPv4 type of service, or IPv6 traffic class, of what is sent; its ECN bits are 0.
    pub traffic_class: u8,
    /// Time to live, or hop limit, of what is sent: 1 to 255.
    pub hop_limit: u8,
}

impl GroupOptions {
    /// The XTCP way: IPv4 and IPv6, accepted and acknowledged by the application only, a window of
    /// 256 KiB, no Nagle.
    #[must_use]
    pub fn new(name: &str, port: u16) -> Self {
        Self {
            name: name.to_owned(),
            port,
            family: Family::Dual,
            addresses: Vec::new(),
            weight: 1,
            priority: 1,
            accept: Accept::ByApplication { timeout_ms: 0 },
            acknowledge: Acknowledge::ByApplication { deadline_ms: 0 },
            hold_limit: 0,
            window_max: 256 << 10,
            nagle: false,
            notify: Notify::AT_ONCE,
            keep_alive: None,
            idle_timeout_ms: 0,
            user_timeout_ms: 0,
            congestion: Congestion::NewReno,
            traffic_class: 0,
            hop_limit: 64,
        }
    }
}

/// When a sleeping application is woken for a group's requests. Anything else wakes it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// As soon as so many requests are there; 0 and 1: at once.
    pub requests: u32,
    /// Or the first of them has waited for so many microseconds, 1 to 1,000,000.
    pub micros: u32,
}

impl Notify {
    /// For every request.
    pub const AT_ONCE: Self = Self { requests: 1, micros: 0 };
}

/// How idle clients are asked if they are still there (RFC 9293 section 3.8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepAlive {
    /// Nothing heard for so many milliseconds, a client is asked.
    pub idle_ms: u32,
    /// Milliseconds between two questions.
    pub interval_ms: u32,
    /// Unanswered questions after which the connection is down: 1 to 255.
    pub probes: u8,
}

/// How a connection finds out how much the network carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Congestion {
    /// RFC 5681.
    NewReno,
    /// RFC 9438.
    Cubic,
}

/// How a group's connections are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Connections a second, at most, of all workers together; 0: as fast as it goes.
    pub per_second: u32,
    /// Which, and how.
    pub manner: Manner,
}

/// Which connections are ended, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manner {
    /// Those with nothing under way, by FIN; the others as soon as that is so of them.
    WhenIdle,
    /// All, by FIN after what is queued.
    Close,
    /// All, by RST.
    Reset,
}

/// Which of the appliance's addresses a group listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Both.
    Dual,
}

/// Who completes handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accept {
    /// The application, else the client is refused.
    ByApplication {
        /// How long a client waits, in milliseconds; 0 takes the configured time.
        timeout_ms: u32,
    },
    /// The stack, at once.
    Automatic,
}

/// Who acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acknowledge {
    /// Only the application.
    ByApplication {
        /// If not 0, the stack acknowledges by itself after so many milliseconds and gives up
        /// redelivery for those bytes.
        deadline_ms: u32,
    },
    /// The stack, as bytes arrive.
    OnReceive,
}

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
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Applications' pools.
    Pools,
    /// Connection groups.
    Groups,
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
    pub const ALL: [Self; 6] =
        [Self::Pools, Self::Groups, Self::Connections, Self::Ports, Self::Workers, Self::Counters];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pools => "pools",
            Self::Groups => "groups",
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

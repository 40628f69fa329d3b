//! The whole appliance with this test as its application: for rows about who accepts, who listens and
//! who closes, which no frame alone can bring about.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use xtcp::{
    Accept, Acknowledge, Application, Attach, CloseReason, Connection, Event, Group, GroupOptions,
    Inbox,
};
use xtcp_bench::clock::Deadline;
use xtcp_bench::process::Running;

use crate::lab::{Counts, PATIENCE, PORT};
use crate::rig::{Rig, SERVER_V4, SERVER_V6, Swept};

/// The port of a group whose clients the stack takes by itself, as at [`PORT`].
pub(crate) const OTHER_PORT: u16 = 8;
/// The port of a group whose clients the application takes.
pub(crate) const ASKING_PORT: u16 = 10;

/// What the application does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Every request is answered: at [`OTHER_PORT`] by the bytes turned upside down, else by them.
    Answer,
    /// Requests and ends are looked at and left as they are.
    Leave,
    /// Each connection is closed as soon as it is there.
    CloseAtOnce,
}

/// The appliance, and the application that this thread is.
pub(crate) struct Served {
    application: Application,
    inbox: Inbox,
    other: Group,
    pub(crate) habit: Habit,
    /// Connections in the order they opened, as long as nobody took them.
    pub(crate) opened: VecDeque<Connection>,
    /// It does not look what has come.
    pub(crate) sleeps: bool,
    /// How connections ended.
    pub(crate) ended: HashMap<Connection, CloseReason>,
    // The appliance goes before what it was made of.
    xtcpd: Running,
    pub(crate) appliance: Swept,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("habit", &self.habit).finish_non_exhaustive()
    }
}

/// What of a setting the appliance has to be told.
pub(crate) struct Sizes {
    pub(crate) connections: u32,
    pub(crate) active: u32,
    pub(crate) tcp: &'static str,
}

impl Served {
    /// Starts the appliance on an interface, and attaches.
    pub(crate) fn start(rig: &Rig, interface: &str, sizes: &Sizes) -> Self {
        let mut appliance = rig.appliance(&rig.instance_name('w'), interface);
        appliance.0.addresses = vec![format!("{SERVER_V4}/16"), format!("{SERVER_V6}/64")];
        (appliance.0.connections, appliance.0.active) = (sizes.connections, sizes.active);
        sizes.tcp.clone_into(&mut appliance.0.tcp);
        let xtcpd = appliance.start().unwrap_or_else(|error| panic!("{error}"));
        let attach = Attach {
            instance: appliance.name.clone(),
            run_dir: appliance.run_dir.clone(),
            receive_bytes: 16 << 20,
            ..Attach::new("wire")
        };
        let (application, inbox) = Application::attach(&attach).expect("the appliance is up");
        let open = |name: &str, port, accept| {
            // Acknowledged by the application, so that what it does not take is known to be unread.
            let acknowledge = Acknowledge::ByApplication { deadline: Duration::ZERO };
            let options = GroupOptions { accept, acknowledge, ..GroupOptions::new(name, port) };
            application.open_group(&options).expect("a free port")
        };
        open("wire", PORT, Accept::Automatic);
        let other = open("other", OTHER_PORT, Accept::Automatic);
        let timeout = Duration::from_secs(60);
        open("asking", ASKING_PORT, Accept::ByApplication { timeout });
        Self {
            application,
            inbox,
            other,
            habit: Habit::Answer,
            opened: VecDeque::new(),
            sleeps: false,
            ended: HashMap::new(),
            xtcpd,
            appliance,
        }
    }

    /// As at the start, for the next row.
    pub(crate) fn forget(&mut self) {
        (self.habit, self.sleeps) = (Habit::Answer, false);
        self.turn();
        self.opened.clear();
        self.ended.clear();
    }

    /// Does with what has come what the habit is, and shows the workers what it leads to.
    pub(crate) fn turn(&mut self) {
        if self.sleeps {
            return;
        }
        let mut batch = self.inbox.receive().expect("the dataplane lives");
        while let Some(event) = batch.next_event() {
            match event {
                Event::Acceptable(client) => drop(client.accept().expect("it waits")),
                Event::Opened(connection) => {
                    if self.habit == Habit::CloseAtOnce {
                        self.application.close(connection).expect("it is open");
                    }
                    self.opened.push_back(connection);
                }
                Event::Request(mut request) if self.habit == Habit::Answer => {
                    let connection = request.connection();
                    let mut bytes = request.contiguous().into_owned();
                    if connection.group() == self.other {
                        bytes.reverse();
                    }
                    request.answer(bytes.len(), &bytes).expect("room for an answer");
                }
                Event::Finished(connection) if self.habit != Habit::Leave => {
                    // Gone already, if its reset came with it.
                    let _ = self.application.close(connection);
                }
                Event::Closed { connection, reason } => {
                    self.ended.insert(connection, reason);
                }
                _ => {}
            }
        }
        self.application.flush();
    }

    /// The next connection that opened.
    pub(crate) fn next_opened(&mut self) -> Connection {
        self.until("a client's handshake", |served| served.opened.pop_front())
    }

    /// Takes turns until there is what is wanted.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let deadline = Deadline::within(PATIENCE);
        loop {
            self.turn();
            if let Some(found) = wanted(self) {
                return found;
            }
            assert!(!deadline.is_over(), "{what} did not happen in time");
            self.inbox.wait(Some(deadline.left())).expect("the dataplane lives");
        }
    }

    /// Says how a connection ended, when it has.
    pub(crate) fn end_of(&mut self, connection: Connection) -> CloseReason {
        self.until("its end", |served| served.ended.get(&connection).copied())
    }

    pub(crate) fn close(&mut self, connection: Connection) {
        self.application.close(connection).expect("it is open");
        self.application.flush();
    }

    pub(crate) fn send(&mut self, connection: Connection, bytes: &[u8]) {
        self.application.send(connection, bytes).expect("room");
        self.application.flush();
    }

    /// All counters, of the one worker.
    pub(crate) fn counts(&self) -> Counts {
        let rows = self.appliance.show("counters").unwrap_or_else(|error| panic!("{error}"));
        let pairs = rows.iter().filter_map(|row| {
            let value = row.iter().find(|(key, _)| key.starts_with("worker "))?.1.as_u64()?;
            Some((row["counter"].as_str()?.to_owned(), value))
        });
        Counts::new(pairs.collect())
    }

    /// A figure of the worker's.
    pub(crate) fn usage(&self, column: &str) -> u64 {
        let rows = self.appliance.show("workers").unwrap_or_else(|error| panic!("{error}"));
        rows[0][column].as_u64().expect("a figure")
    }

    pub(crate) fn supervisor(&mut self) -> &mut Running {
        &mut self.xtcpd
    }
}

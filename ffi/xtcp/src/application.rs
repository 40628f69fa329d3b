//! The sending half of an attached application, and how it is attached.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use xtcp_ring::message::{GroupRecord, Refusal, Reply, Request, VERSION};
use xtcp_ring::{EndpointLayout, Mapping, ReadOnlyMapping, SharedMemory, Sleeper};

use crate::control::{Control, Identity, unexpected};
use crate::endpoint::{Endpoint, Limits};
use crate::error::{Error, SendError};
use crate::group::{Drain, GroupOptions};
use crate::handle::{Connection, ConnectionInfo, Group};
use crate::inbox::{Inbox, is_hung_up};
use crate::local::{self, LocalPeer};
use crate::request::Deferred;
use crate::transaction::{Part, TransactionError};

/// Refused bytes are tried again after this time, and then after longer ones. Tests do not wait.
const RETRY_PAUSE: Duration = Duration::from_micros(if cfg!(test) { 0 } else { 1000 });

/// How to attach. Start from [`Attach::new`] and change what differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// The application's name, as operators see it: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub application: String,
    /// The appliance's instance: `xtcp` unless it was given another name.
    pub instance: String,
    /// Where instances have their sockets: `/run/xtcp` unless it was set up otherwise.
    pub run_dir: PathBuf,
    /// Size of the pool's receive buffer in bytes (the specification's `buffer_pool_size`); 0
    /// takes the most the appliance gives one application. A pool that a predecessor left has the
    /// size it has, see [`Application::resumed`].
    pub receive_bytes: u64,
    /// Most bytes that may wait here for one client that reads slowly.
    pub backlog_max: usize,
    /// Most bytes that may wait here for all such clients together.
    pub backlogs_max: usize,
    /// Size of the receive buffer for clients of UNIX sockets in bytes, and as much for what they
    /// have not read: 64 KiB to 1 GiB. It is made when the first such group is opened.
    pub local_bytes: usize,
    /// How long `xtcpd` may take to answer.
    pub timeout: Duration,
}

impl Attach {
    /// To the instance `xtcp` below `/run/xtcp`, with a receive buffer as large as it gives.
    #[must_use]
    pub fn new(application: &str) -> Self {
        Self {
            application: application.to_owned(),
            instance: "xtcp".to_owned(),
            run_dir: PathBuf::from("/run/xtcp"),
            receive_bytes: 0,
            backlog_max: 1 << 20,
            backlogs_max: 64 << 20,
            local_bytes: 4 << 20,
            timeout: Duration::from_secs(10),
        }
    }
}

/// What both halves share.
pub(crate) struct Shared {
    memory: ReadOnlyMapping,
    /// The receive memory of local clients, if there was a group for them.
    local: OnceCell<ReadOnlyMapping>,
    pub(crate) endpoint: RefCell<Endpoint>,
    pub(crate) sleeper: Sleeper,
    /// Readable when the bell was rung or a local client has sent something.
    pub(crate) watch: Rc<OwnedFd>,
    /// Where the instance's sockets are, this application's name, and its local clients' memory.
    home: PathBuf,
    name: String,
    local_bytes: usize,
    /// Its closing tells the dataplane that we are gone; its error tells us that the dataplane is.
    pub(crate) lifeline: OwnedFd,
    control: RefCell<Control>,
    resumed: Option<Vec<ResumedGroup>>,
}

/// A group that a predecessor of the same name has left, see [`Application::resumed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumedGroup {
    /// Its handle, the same as the predecessor's.
    pub group: Group,
    /// The name it was opened with.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Its priority.
    pub priority: u8,
}

impl Shared {
    pub(crate) fn is_dataplane_gone(&self) -> bool {
        is_hung_up(self.lifeline.as_fd())
    }

    /// What to sleep on: the bell alone, if there is nothing else.
    pub(crate) fn sleep_fd(&self) -> BorrowedFd<'_> {
        if self.local.get().is_some() { self.watch.as_fd() } else { self.sleeper.fd() }
    }

    /// Bytes that a notice has told of.
    pub(crate) fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        match at.checked_sub(local::BASE) {
            None => self.memory.bytes(at, len),
            Some(at) => self.local.get()?.bytes(at, len),
        }
    }

    pub(crate) fn transact(&self, parts: &[Part]) -> Result<(), TransactionError> {
        self.endpoint.borrow_mut().transact(parts, || self.is_dataplane_gone())
    }
}

/// What `xtcpd` hands over, as files and sizes.
pub(crate) struct Handover {
    pub(crate) layout: EndpointLayout,
    pub(crate) receive_bytes: u64,
    pub(crate) endpoint: OwnedFd,
    pub(crate) receive: OwnedFd,
    pub(crate) bell: OwnedFd,
    pub(crate) lifeline: OwnedFd,
    /// What a predecessor has left, if there was one.
    pub(crate) resumed: Option<Vec<GroupRecord>>,
}

/// The sending half of an attached application: groups, answers, closing.
///
/// It belongs to one thread. When it and its [`Inbox`] are dropped, or the process ends, the
/// appliance resets the application's connections and takes its memory back, or keeps them for a
/// successor if it is configured so (`successor = "keep"`), see [`Self::resumed`].
pub struct Application {
    shared: Rc<Shared>,
}

impl Application {
    /// Attaches this thread to the appliance (the specification's `xtcp_initialize`): a connection
    /// pool with its own receive buffer, and rings to every worker.
    ///
    /// # Errors
    /// [`Error::Control`] when `xtcpd` is not there, [`Error::Refused`] when it does not want to (an
    /// application of this name lives, for one), [`Error::Handover`] when the two were not built alike.
    pub fn attach(attach: &Attach) -> Result<(Self, Inbox), Error> {
        let socket = attach.run_dir.join(&attach.instance).join("xtcpd.sock");
        let mut control = Control::new(socket, attach.timeout);
        let (reply, files) = control.ask(&Request::Attach {
            version: VERSION,
            application: attach.application.clone(),
            receive_bytes: attach.receive_bytes,
        })?;
        let Reply::Attached { endpoint: number, key, layout, receive_bytes, resumed, .. } = reply
        else {
            return Err(unexpected(&reply));
        };
        let count = files.len();
        let Ok([endpoint, receive, bell, lifeline]) = <[OwnedFd; 4]>::try_from(files) else {
            return Err(Error::Handover { what: format!("xtcpd sent {count} files of 4") });
        };
        control.set_identity(Identity { endpoint: number, key });
        let handover =
            Handover { layout, receive_bytes, endpoint, receive, bell, lifeline, resumed };
        Self::assemble(handover, attach, control)
    }

    pub(crate) fn assemble(
        handover: Handover,
        attach: &Attach,
        control: Control,
    ) -> Result<(Self, Inbox), Error> {
        let Handover { layout, receive_bytes, endpoint, receive, bell, lifeline, resumed } =
            handover;
        let memory = map(endpoint, "map the endpoint's memory", Mapping::writable)?;
        let receive = map(receive, "map the receive buffer", ReadOnlyMapping::map)?;
        if u64::try_from(receive.len()).is_ok_and(|len| len < receive_bytes) {
            let what = format!("a receive buffer of {} bytes, not {receive_bytes}", receive.len());
            return Err(Error::Handover { what });
        }
        let unfit = |unfit: xtcp_ring::Unfit| Error::Handover { what: unfit.to_string() };
        let limits = Limits {
            backlog_max: attach.backlog_max,
            backlogs_max: attach.backlogs_max,
            receive_bytes,
            retry_pause: RETRY_PAUSE,
        };
        let mut endpoint =
            Endpoint::open(&memory, &layout, limits, receive.clone()).map_err(unfit)?;
        let resumed = resumed.map(|left| {
            endpoint.resume(left.iter().map(|group| (Group(group.gd), group.options.priority)));
            left.into_iter().map(resumed_group).collect()
        });
        let sleeper = Sleeper::open(&memory, bell).map_err(unfit)?;
        let shared = Rc::new(Shared {
            memory: receive,
            local: OnceCell::new(),
            endpoint: RefCell::new(endpoint),
            watch: Rc::new(local::watch(sleeper.fd())?),
            sleeper,
            home: attach.run_dir.join(&attach.instance),
            name: attach.application.clone(),
            local_bytes: attach.local_bytes,
            lifeline,
            control: RefCell::new(control),
            resumed,
        });
        Ok((Self { shared: Rc::clone(&shared) }, Inbox::new(shared)))
    }

    /// The groups that a predecessor has left, if this application follows one; `None`: it starts
    /// with nothing.
    ///
    /// An application that dies, at any point, is followed by the next that attaches with its name
    /// as the same user, if the appliance is configured to keep what it leaves (`successor =
    /// "keep"`) and not too much time has passed. The successor has the groups at once: every
    /// connection comes as [`crate::Event::Opened`] with the handle it had before, then everything
    /// its client has sent that was not acknowledged, from the first such byte on (see
    /// [`crate::Request::offset`]), and [`crate::Event::Finished`]. After the last of them comes
    /// [`crate::Event::Resumed`]: a connection that was not told of by then is gone. What the
    /// predecessor had asked, and the appliance had seen, is done; what waited in its own memory
    /// is gone with it.
    ///
    /// [`Self::open_group`] with a name that is among these gives that group; one that is not
    /// wanted any more is closed by [`Self::close_group`].
    #[must_use]
    pub fn resumed(&self) -> Option<&[ResumedGroup]> {
        self.shared.resumed.as_deref()
    }

    /// Opens a connection group (the specification's `xtcp_open_group`): from now on clients come.
    /// A group of this name that is open already, perhaps by a predecessor, is the one that is
    /// meant.
    ///
    /// # Errors
    /// [`Error::Refused`] when the appliance does not do it: no such address, too many groups, a
    /// group of this name with other options (it is said which), a socket that somebody listens at.
    /// [`Error::System`] when a UNIX socket cannot be made.
    pub fn open_group(&self, options: &GroupOptions) -> Result<Group, Error> {
        if let Some(path) = &options.path {
            return self.open_local(options, path);
        }
        match self.ask(&Request::OpenGroup(options.to_message()))? {
            Reply::Group { gd } => {
                let group = Group(gd);
                self.shared.endpoint.borrow_mut().add_group(group, options.priority);
                Ok(group)
            }
            reply => Err(unexpected(&reply)),
        }
    }

    fn open_local(&self, options: &GroupOptions, path: &Path) -> Result<Group, Error> {
        let shared = &*self.shared;
        let path = if path.as_os_str().is_empty() {
            shared.home.join(format!("{}-{}.sock", shared.name, options.port))
        } else {
            path.to_owned()
        };
        let mut endpoint = shared.endpoint.borrow_mut();
        if let Some(memory) = endpoint.begin_local(shared.local_bytes, &shared.watch)? {
            let set = shared.local.set(memory);
            debug_assert!(set.is_ok(), "local clients begin once");
        }
        endpoint.open_local(options, &path)
    }

    /// Closes a group (the specification's `xtcp_close_group`): its connections are reset, its
    /// handles name nothing any more, and what had come for it is forgotten.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`] when it is not open, [`Error::InHand`] while a request of its is in
    /// hand.
    pub fn close_group(&self, group: Group) -> Result<(), Error> {
        if !self.shared.endpoint.borrow().has_group(group) {
            return Err(Error::NoSuchGroup);
        }
        if self.shared.endpoint.borrow().has_in_hand(group) {
            return Err(Error::InHand);
        }
        if self.shared.endpoint.borrow().is_local(group) {
            self.shared.endpoint.borrow_mut().remove_group(group);
            return Ok(());
        }
        match self.ask(&Request::CloseGroup { gd: group.0 })? {
            Reply::Done => {
                self.shared.endpoint.borrow_mut().remove_group(group);
                Ok(())
            }
            reply => Err(unexpected(&reply)),
        }
    }

    /// Takes no more clients for a group and brings its connections to their end, at most so many
    /// a second: so that a server can be replaced without a storm of reconnecting clients. Each is
    /// told as any that ends ([`crate::Event::Closed`]), and when no worker has one any more
    /// [`crate::Event::GroupDrained`] says so, once. The group stays open until it is closed.
    ///
    /// Draining a group again changes how; a group that follows another on its port may be open
    /// all the while.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`] when it is not open, and [`Error::Refused`].
    pub fn drain_group(&self, group: Group, drain: &Drain) -> Result<(), Error> {
        if !self.shared.endpoint.borrow().has_group(group) {
            return Err(Error::NoSuchGroup);
        }
        if self.shared.endpoint.borrow_mut().drain_local(group, drain) {
            return Ok(());
        }
        match self.ask(&Request::DrainGroup { gd: group.0, drain: drain.to_message() })? {
            Reply::Done => Ok(()),
            reply => Err(unexpected(&reply)),
        }
    }

    /// Who is at the other end of a connection (the specification's `xtcp_pars`). Asks `xtcpd`:
    /// not for every request.
    ///
    /// # Errors
    /// [`Error::Refused`] when the connection is gone, or a local one: see [`Self::local_peer`].
    pub fn describe(&self, connection: Connection) -> Result<ConnectionInfo, Error> {
        if self.shared.endpoint.borrow().is_local(connection.group()) {
            return Err(Error::Refused {
                refusal: Refusal::Misplaced,
                reason: "a local client has no address; ask who it is".to_owned(),
            });
        }
        match self.ask(&Request::Describe { cd: connection.cd })? {
            Reply::Described(info) => {
                Ok(ConnectionInfo { remote: info.remote, local: info.local, state: info.state })
            }
            reply => Err(unexpected(&reply)),
        }
    }

    /// Who is at the other end of a connection of a UNIX socket; `None` if it is gone, or not one
    /// of a local client.
    #[must_use]
    pub fn local_peer(&self, connection: Connection) -> Option<LocalPeer> {
        self.shared.endpoint.borrow().local_peer(connection)
    }

    /// Where a group of local clients has its socket; `None` if it is not one.
    #[must_use]
    pub fn local_path(&self, group: Group) -> Option<PathBuf> {
        self.shared.endpoint.borrow().local_path(group)
    }

    /// Sends bytes to a client and acknowledges nothing. They go in the order of the calls, all of
    /// them or none; a client that reads slowly makes them wait here (see
    /// [`crate::Event::SendRefused`]).
    ///
    /// The bytes are copied. The worker sees them at the next [`Inbox::receive`] or
    /// [`Inbox::wait`], or when there are many, or at [`Self::flush`].
    ///
    /// # Errors
    /// [`SendError::WouldBlock`], [`SendError::Behind`] and [`SendError::TooLong`] for want of
    /// room, [`SendError::Closed`] when the connection is gone.
    pub fn send(&self, connection: Connection, bytes: &[u8]) -> Result<(), SendError> {
        self.shared.endpoint.borrow_mut().send(connection, bytes)
    }

    /// Acknowledges bytes that were deferred, and sends the answer to them.
    ///
    /// # Errors
    /// As [`Self::send`]. Then nothing was done, and the deferred is to be answered again.
    pub fn answer(&self, deferred: &Deferred, answer: &[u8]) -> Result<(), SendError> {
        let Deferred { connection, up_to } = *deferred;
        self.shared.endpoint.borrow_mut().answer(connection, answer, up_to)
    }

    /// Closes a connection when everything sent has gone (the specification's `xtcp_close`).
    /// [`crate::Event::Closed`] follows when the client has closed its side.
    ///
    /// This is the end: nothing more of the client's is given. If it sent something that was not
    /// acknowledged, or sends more, it gets a reset, so that it knows that nobody read it. A request
    /// of the connection that is in hand can be read and acknowledged to its end.
    ///
    /// # Errors
    /// [`SendError::Closed`] when it is gone, [`SendError::WouldBlock`] when the worker is more
    /// than a whole ring behind.
    pub fn close(&self, connection: Connection) -> Result<(), SendError> {
        self.shared.endpoint.borrow_mut().close(connection)
    }

    /// Resets a connection; what waits for its client is thrown away. [`crate::Event::Closed`]
    /// follows.
    ///
    /// # Errors
    /// As [`Self::close`].
    pub fn abort(&self, connection: Connection) -> Result<(), SendError> {
        self.shared.endpoint.borrow_mut().abort(connection)
    }

    /// Shows the workers now what was asked so far. [`Inbox::receive`] and [`Inbox::wait`] do it,
    /// too.
    pub fn flush(&self) {
        self.shared.endpoint.borrow_mut().flush();
    }

    /// Detaches from the appliance (the specification's `xtcp_finalize`): connections are reset,
    /// groups and pool are gone when this returns.
    ///
    /// # Errors
    /// [`Error::Control`] when `xtcpd` does not answer; the end of the process does it then.
    pub fn detach(self, inbox: Inbox) -> Result<(), Error> {
        drop(inbox);
        self.flush();
        match self.ask(&Request::Detach)? {
            Reply::Done => Ok(()),
            reply => Err(unexpected(&reply)),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    fn ask(&self, request: &Request) -> Result<Reply, Error> {
        self.shared.control.borrow_mut().ask(request).map(|(reply, _)| reply)
    }
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application").field("memory", &self.shared.memory).finish_non_exhaustive()
    }
}

fn resumed_group(record: GroupRecord) -> ResumedGroup {
    let GroupRecord { gd, options, .. } = record;
    ResumedGroup {
        group: Group(gd),
        name: options.name,
        port: options.port,
        priority: options.priority,
    }
}

fn map<M>(
    file: OwnedFd,
    what: &'static str,
    map: impl FnOnce(&SharedMemory) -> io::Result<M>,
) -> Result<M, Error> {
    let mapped = || {
        let size = rustix::fs::fstat(&file)?.st_size;
        let len = usize::try_from(size).map_err(io::Error::other)?;
        map(&SharedMemory::from_fd(file, len)?)
    };
    mapped().map_err(|source| Error::System { what, source })
}

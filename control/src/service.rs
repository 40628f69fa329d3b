//! `xtcpd`'s loop: signals, the dataplane, applications and operators, one after another.
//!
//! One thread is enough: nothing here is on a data path, and every wait has an end.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tracing::{debug, info, warn};
use xtcp_ring::Listener;

use crate::client::Client;
use crate::clock;
use crate::config::Config;
use crate::dataplane::{Dataplane, DataplaneError, Plan};
use crate::desk::Desk;
use crate::instance::{Instance, InstanceError};
use crate::memory::Pages;

/// Connections of applications and operators at once.
const CLIENTS_MAX: usize = 512;

/// Of them so many are kept for operators, whatever applications do,
const OPERATORS_KEPT: usize = 32;
/// and one user's applications have so many at most, so that others find a place.
const PER_USER: usize = (CLIENTS_MAX - OPERATORS_KEPT) / 2;

/// How long the door stays shut when somebody cannot be let in: the kernel would say at once that they
/// are still there.
const SHUT: Duration = Duration::from_secs(1);

/// Open files for that many, each with the four files of an application underway, and for us.
const FILES: u64 = 4096;

/// Where `xtcpd` runs and what it starts.
#[derive(Clone, Debug)]
pub struct Place {
    /// The instance's name.
    pub name: String,
    /// Directory of the instances' directories.
    pub run_dir: PathBuf,
    /// The dataplane's program.
    pub dataplane: PathBuf,
}

/// Why `xtcpd` ends other than by a signal.
#[derive(Debug)]
pub enum ServiceError {
    /// The name.
    Instance(InstanceError),
    /// The dataplane.
    Dataplane(DataplaneError),
    /// The operating system, and what it was asked for.
    System(String, io::Error),
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(error) => write!(f, "{error}"),
            Self::Dataplane(error) => write!(f, "{error}"),
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for ServiceError {}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> ServiceError {
    let what = what.into();
    move |error| ServiceError::System(what, error)
}

/// Runs the appliance until a signal ends it.
///
/// # Errors
/// [`ServiceError`]: what must be mended before another start.
pub fn run(config: Config, place: Place) -> Result<(), ServiceError> {
    let signals = signals().map_err(system("signals"))?;
    raise_file_limit();
    let instance = Instance::hold(&place.run_dir, &place.name).map_err(ServiceError::Instance)?;
    let plan = Plan { program: place.dataplane, name: place.name.clone(), run_dir: place.run_dir };
    let dataplane = Dataplane::find(plan, &instance).map_err(system("dataplane.lock"))?;
    let pages = Pages::new(config.memory.hugepages);
    let desk = Desk::new(config, place.name, dataplane, pages);
    let mut service = Service {
        signals,
        instance,
        desk,
        listener: None,
        shut_until: None,
        clients: BTreeMap::new(),
        next: 0,
    };
    let ended = service.turn_until_signal();
    info!("stopping");
    service.listener = None;
    service.clients.clear();
    service.desk.dataplane.stop(service.signals.as_fd());
    service.instance.clear_dataplane();
    ended
}

/// Many systems start processes with room for 1,024 files and let them ask for more.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES, |maximum| maximum.min(FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            warn!("the limit of open files stays as it is: {error}");
        }
    }
}

/// A socket that is readable when a signal wants us to end.
fn signals() -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    Ok(reader)
}

struct Service {
    signals: UnixStream,
    instance: Instance,
    desk: Desk,
    /// There from the moment the appliance is ready for the first time.
    listener: Option<Listener>,
    /// The door is shut until then.
    shut_until: Option<Instant>,
    clients: BTreeMap<u64, Client>,
    next: u64,
}

/// What was ready.
struct Ready {
    signal: bool,
    listener: bool,
    clients: Vec<u64>,
}

impl Service {
    fn turn_until_signal(&mut self) -> Result<(), ServiceError> {
        loop {
            let Self { desk, instance, signals, .. } = self;
            let stepped = desk.step(instance, signals.as_fd());
            match stepped {
                Ok(()) => {}
                Err(DataplaneError::Interrupted) => {
                    self.take_signals();
                    return Ok(());
                }
                Err(error) => return Err(ServiceError::Dataplane(error)),
            }
            for client in self.clients.values_mut() {
                self.desk.forget_lost_endpoint(client);
            }
            self.open_door()?;
            let ready = self.wait().map_err(system("poll"))?;
            if ready.signal {
                self.take_signals();
                return Ok(());
            }
            for number in ready.clients {
                self.serve(number);
            }
            if ready.listener {
                self.admit();
            }
        }
    }

    /// Empties the pipe, so that only a further signal is another.
    fn take_signals(&mut self) {
        let mut bytes = [0; 64];
        while self.signals.read(&mut bytes).is_ok_and(|count| count > 0) {}
    }

    fn open_door(&mut self) -> Result<(), ServiceError> {
        if self.listener.is_some() || self.desk.dataplane.up().is_none() {
            return Ok(());
        }
        let path = self.instance.control_socket();
        let mode = self.desk.config.applications.socket_mode;
        let listener = Listener::bind(&path, mode).map_err(system(path.display().to_string()))?;
        self.listener = Some(listener);
        info!("ready: applications and xtcpctl come to {}", path.display());
        Ok(())
    }

    fn wait(&mut self) -> io::Result<Ready> {
        if self.shut_until.is_some_and(|until| until <= clock::now()) {
            self.shut_until = None;
        }
        let watch = |fd, flags| PollFd::from_borrowed_fd(fd, flags);
        let mut files = vec![watch(self.signals.as_fd(), PollFlags::IN)];
        let is_open = self.clients.len() < CLIENTS_MAX && self.shut_until.is_none();
        let door = self.listener.as_ref().filter(|_| is_open);
        files.extend(door.map(|listener| watch(listener.fd(), PollFlags::IN)));
        let first_client = files.len();
        files.extend(self.clients.values().map(|client| watch(client.fd(), client.interest())));
        let behind_clients = files.len();
        let dataplane = self.desk.dataplane.files();
        files.extend(dataplane.into_iter().map(|fd| watch(fd, PollFlags::IN)));
        let deadlines = [self.desk.dataplane.deadline(), self.shut_until];
        let timeout = deadlines.into_iter().flatten().min().map(until);
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |file: &PollFd<'_>| !file.revents().is_empty();
        let ready_clients = files[first_client..behind_clients].iter().map(is_ready);
        Ok(Ready {
            signal: is_ready(&files[0]),
            listener: door.is_some() && is_ready(&files[1]),
            clients: self
                .clients
                .keys()
                .zip(ready_clients)
                .filter_map(|(number, ready)| ready.then_some(*number))
                .collect(),
        })
    }

    fn serve(&mut self, number: u64) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let served = client.next_request().and_then(|request| {
            let Some(request) = request else { return Ok(()) };
            let (reply, files) = self.desk.answer(client, request, self.signals.as_fd());
            client.reply(&reply, files)
        });
        if let Err(why) = served {
            // Its endpoint stays: the lifeline says whether the application is gone, and one that
            // only lost its connection comes back by `Resume`.
            debug!("connection {number}, process {}: {why}", client.pid);
            self.clients.remove(&number);
            // What it held may be what another needs.
            self.shut_until = None;
        }
    }

    /// The door is shut when all places are taken; before that operators find one.
    fn has_place_for(&self, client: &Client) -> bool {
        let others = || self.clients.values().filter(|other| !other.is_operator);
        let by_user = || others().filter(|other| other.uid == client.uid);
        client.is_operator || is_place_left(others().count(), by_user().count())
    }

    fn admit(&mut self) {
        let Some(listener) = &self.listener else { return };
        match listener.accept() {
            Ok(Some(link)) => match Client::new(link) {
                Ok(client) if self.has_place_for(&client) => {
                    self.clients.insert(self.next, client);
                    self.next += 1;
                }
                Ok(client) => debug!(
                    "a connection of process {} is closed: user {} has too many, or all have",
                    client.pid, client.uid
                ),
                Err(error) => warn!("a connection is turned away: {error}"),
            },
            Ok(None) => {}
            Err(error) => {
                warn!(
                    "a connection cannot be accepted: {error}; let xtcpd have more open files \
                     (`ulimit -n`, LimitNOFILE), {FILES} at best"
                );
                self.shut_until = Some(clock::now() + SHUT);
            }
        }
    }
}

/// Whether one who is no operator finds a place where others have `taken` and its user `by_user`.
const fn is_place_left(taken: usize, by_user: usize) -> bool {
    taken < CLIENTS_MAX - OPERATORS_KEPT && by_user < PER_USER
}

fn until(at: Instant) -> Timespec {
    clock::timespec(at.saturating_duration_since(clock::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_user_nor_all_users_together_take_every_place() {
        assert!(is_place_left(0, 0));
        assert!(is_place_left(PER_USER, PER_USER - 1) && !is_place_left(PER_USER, PER_USER));
        assert!(is_place_left(2 * PER_USER - 1, 0) && !is_place_left(2 * PER_USER, 0));
    }
}

//! Groups of local clients, on UNIX sockets, served by the library itself.
//!
//! This is one more worker, in the application's own thread, with rings of its own like any: it takes
//! submissions and writes notices, and nothing else in the library knows that its clients come
//! through the kernel. It works when the endpoint looks at it. There is none before the first
//! such group is opened.
//!
//! The kernel is asked for news in two cases: before a sleep, and every so many turns
//! ([`Local::is_due`]). All sockets are in one epoll instance, together with the bell of the
//! other workers; that is the file an application sleeps on.

mod buffers;
mod client;
mod door;
mod drain;
mod submissions;

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use xtcp_ring::layout::kind;
use xtcp_ring::message::Refusal;
use xtcp_ring::{
    DataplaneChannel, EndpointLayout, Mapping, Notice, PageSize, ReadOnlyMapping, SharedMemory,
};

use crate::clock;
use crate::error::Error;
use crate::group::{Accept, GroupOptions, milliseconds};
use crate::handle::Group;
use crate::inbox::CloseReason;
use crate::lane::Lane;
use buffers::Buffers;
use client::{Client, Stage, Told, Went};
use door::Door;
use drain::Draining;

/// Local receive memory lies behind all others, as notices tell it.
pub(crate) const BASE: u64 = 1 << 63;

/// Local groups' handles have these indices; the appliance's begin at 0.
const FIRST_INDEX: u32 = 0xff00;

/// Local groups of one endpoint at most.
const GROUPS_MAX: usize = 0x100;

/// A client waits so long to be accepted if the group does not say otherwise.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Turns with news of other workers between two questions to the kernel.
const BUSY_TURNS: u32 = 32;

/// Turns without.
const IDLE_TURNS: u32 = 8;

/// News taken from the kernel at once.
const EVENTS: usize = 64;

/// Most bytes read from one client before it is another's turn.
const READ_MAX: usize = 32 << 10;

/// Most clients accepted at a time.
const ACCEPTS: usize = 64;

/// Places of the notice ring that one step may take: a read, or a submission.
const STEP_NOTICES: u32 = 16;

/// When to accept again after the process has run out of files.
const FILES_AGAIN: Duration = Duration::from_millis(100);

/// What the bell's news are marked with: no handle is 0.
const BELL: u64 = 0;

/// Bytes of the receive buffer, and as many for sending, at least.
const BYTES_MIN: usize = 64 << 10;

/// The process at the other end of a local connection when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalPeer {
    /// Its number.
    pub process: i32,
    /// The user it ran as.
    pub user: u32,
    /// The user's group.
    pub group: u32,
}

/// One local group.
struct LocalGroup {
    gd: u32,
    options: GroupOptions,
    /// `None` once it is drained.
    door: Option<Door>,
    draining: Option<Draining>,
}

/// The index's part of a handle never names two clients at once.
struct Slot {
    generation: u32,
    client: Option<Client>,
}

pub(crate) struct Local {
    worker: u8,
    channel: DataplaneChannel,
    buffers: Buffers,
    watch: Rc<OwnedFd>,
    groups: Vec<LocalGroup>,
    group_generation: u32,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Clients that wait to be accepted, the oldest first, and some that did.
    waiting: VecDeque<u64>,
    /// Clients with something to read for which there was no buffer or no notice.
    starved: VecDeque<u64>,
    /// Bytes that wait for clients to read.
    queued: usize,
    queued_max: usize,
    /// The process has no file left for another client; try again then.
    out_of_files: Option<Instant>,
    events: Vec<epoll::Event>,
    scratch: Box<[u8]>,
    turns: u32,
    /// Questions to the kernel.
    #[cfg(test)]
    pub(crate) looks: u64,
}

/// The epoll instance an application sleeps on, with the bell in it.
pub(crate) fn watch(bell: impl AsFd) -> Result<OwnedFd, Error> {
    let made = || {
        let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&watch, bell, EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(watch)
    };
    made().map_err(|errno: rustix::io::Errno| Error::System {
        what: "make an epoll instance",
        source: errno.into(),
    })
}

impl Local {
    /// A worker of this number, with a receive buffer of so many bytes and as many for sending. With
    /// it come its lane and its receive memory for reading.
    pub(crate) fn open(
        worker: u8,
        bytes: usize,
        watch: Rc<OwnedFd>,
    ) -> Result<(Self, Lane, ReadOnlyMapping), Error> {
        // The second channel is there for its arena: it is the receive buffer.
        let arena = bytes.clamp(BYTES_MIN, 1 << 30).next_multiple_of(4096);
        let arena_bytes = u32::try_from(arena).unwrap_or(1 << 30);
        let layout = EndpointLayout { workers: 2, submissions: 256, notices: 1024, arena_bytes };
        let failed = |source| Error::System { what: "make the memory of local clients", source };
        let memory = SharedMemory::create("local", layout.total_bytes(), PageSize::Ordinary);
        let memory = memory.map_err(failed)?;
        let mapping = Mapping::writable(&memory).map_err(failed)?;
        let reading = ReadOnlyMapping::map(&memory).map_err(failed)?;
        let unfit = |unfit: xtcp_ring::Unfit| Error::Handover { what: unfit.to_string() };
        layout.prepare(&mapping).map_err(unfit)?;
        let local = Self {
            worker,
            channel: DataplaneChannel::open(&mapping, &layout, 0).map_err(unfit)?,
            buffers: Buffers::open(&mapping, &layout, 1, BASE).map_err(unfit)?,
            watch,
            groups: Vec::new(),
            group_generation: 0,
            slots: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            starved: VecDeque::new(),
            queued: 0,
            queued_max: arena,
            out_of_files: None,
            events: Vec::with_capacity(EVENTS),
            scratch: vec![0; READ_MAX].into_boxed_slice(),
            turns: 0,
            #[cfg(test)]
            looks: 0,
        };
        Ok((local, Lane::open(&mapping, &layout, 0).map_err(unfit)?, reading))
    }

    pub(crate) fn worker(&self) -> u8 {
        self.worker
    }

    /// Opens a group at a path, or finds the one that is open there.
    pub(crate) fn open_group(
        &mut self,
        options: &GroupOptions,
        path: &Path,
    ) -> Result<Group, Error> {
        let refuse = |refusal, reason| Err(Error::Refused { refusal, reason });
        if !xtcp_ring::message::name_is_valid(&options.name) {
            let reason =
                "a group's name is 1 to 64 of A-Z a-z 0-9 . _ -, not first a dot".to_owned();
            return refuse(Refusal::Invalid, reason);
        }
        let options = GroupOptions { path: Some(path.to_owned()), ..options.clone() };
        let at = |group: &&LocalGroup| group.options.path == options.path;
        if let Some(open) = self.groups.iter().find(at) {
            if open.options == options {
                return Ok(Group(open.gd));
            }
            let reason = format!("a group with other options is open at {}", path.display());
            return refuse(Refusal::InUse, reason);
        }
        if self.groups.len() >= GROUPS_MAX {
            let reason = format!("{GROUPS_MAX} groups of local clients are open; close one");
            return refuse(Refusal::Full, reason);
        }
        let door = Door::open(path)?;
        let gd = self.next_gd();
        let added =
            epoll::add(&*self.watch, door.fd(), EventData::new_u64(u64::from(gd)), EventFlags::IN);
        added.map_err(|errno| Error::System { what: "watch a socket", source: errno.into() })?;
        self.groups.push(LocalGroup { gd, options, door: Some(door), draining: None });
        Ok(Group(gd))
    }

    /// A handle that no group of this endpoint has, or had a short while ago.
    fn next_gd(&mut self) -> u32 {
        loop {
            self.group_generation = self.group_generation % 0x00ff_0000 + 1;
            // The lowest bits of the count are the index, the others the generation.
            let index = FIRST_INDEX | (self.group_generation & 0xff);
            let gd = ((self.group_generation >> 8) + 1) << 16 | index;
            if self.groups.iter().all(|group| group.gd != gd) {
                return gd;
            }
        }
    }

    pub(crate) fn has_group(&self, group: Group) -> bool {
        self.groups.iter().any(|open| open.gd == group.0)
    }

    /// Closes a group: its connections are ended, its socket is removed.
    pub(crate) fn close_group(&mut self, group: Group) {
        self.close_door(group);
        self.groups.retain(|open| open.gd != group.0);
        for index in 0..self.slots.len() {
            let of_group = |slot: &Slot| slot.client.as_ref().is_some_and(|c| c.gd == group.0);
            if self.slots.get(index).is_some_and(of_group) {
                self.free_slot(u32::try_from(index).unwrap_or(u32::MAX));
            }
        }
    }

    /// Lets nobody in any more.
    fn close_door(&mut self, group: Group) {
        let Some(open) = self.groups.iter_mut().find(|open| open.gd == group.0) else { return };
        if let Some(door) = open.door.take() {
            // A forked child may have a copy, which would go on to ring. It is not watched while
            // there are no files for clients.
            let _ = epoll::delete(&*self.watch, door.fd());
        }
    }

    /// Where a group's socket is.
    pub(crate) fn path_of(&self, gd: u32) -> Option<PathBuf> {
        self.groups.iter().find(|group| group.gd == gd)?.options.path.clone()
    }

    /// Who is at the other end of a connection.
    pub(crate) fn peer(&self, cd: u64) -> Option<LocalPeer> {
        let socket = self.client(cd)?.socket()?;
        let peer = rustix::net::sockopt::socket_peercred(socket).ok()?;
        Some(LocalPeer {
            process: peer.pid.as_raw_nonzero().get(),
            user: peer.uid.as_raw(),
            group: peer.gid.as_raw(),
        })
    }

    /// Whether the kernel is to be asked in this turn, of which the other workers had news or not.
    pub(crate) fn is_due(&mut self, busy: bool) -> bool {
        self.turns += 1;
        self.turns >= if busy { BUSY_TURNS } else { IDLE_TURNS }
    }

    /// When something is to be done though nothing happens.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if !self.starved.is_empty() && self.buffers.free() > 0 {
            return Some(clock::now());
        }
        // Each group says for itself how long its clients wait.
        let waiting = self.waiting.iter().filter_map(|cd| match self.client(*cd)?.stage {
            Stage::Waiting(until) => Some(until),
            _ => None,
        });
        let drains = self.groups.iter().filter_map(|group| group.draining.as_ref()?.next());
        drains.chain(waiting).chain(self.out_of_files).min()
    }

    /// Does what was asked.
    pub(crate) fn serve(&mut self) {
        self.take_submissions();
        if self.groups.iter().any(|group| group.draining.is_some()) {
            self.advance_drains(clock::now());
        }
        self.channel.notices.publish();
        self.channel.submissions.release();
    }

    /// Asks the kernel for news.
    pub(crate) fn look(&mut self) {
        self.turns = 0;
        #[cfg(test)]
        {
            self.looks += 1;
        }
        self.expire();
        for _ in 0..self.starved.len() {
            let Some(cd) = self.starved.pop_front() else { break };
            if let Some(client) = self.client_mut(cd) {
                client.starved = false;
            }
            self.read(cd);
            self.rewatch(cd);
        }
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        // What fails here once fails again, and the clients wait meanwhile.
        let _ = epoll::wait(&*self.watch, spare_capacity(&mut events), Some(&at_once));
        for event in &events {
            let (data, flags) = (event.data.u64(), event.flags);
            match u32::try_from(data) {
                Ok(0) => {}
                Ok(gd) => self.let_in(gd),
                Err(_) => self.on_news(data, flags),
            }
        }
        self.events = events;
        self.channel.notices.publish();
    }

    fn on_news(&mut self, cd: u64, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            let before = self.client(cd).map_or(0, Client::queued);
            let went = self.client_mut(cd).map_or(Went::Nothing, Client::flush);
            let after = self.client(cd).map_or(0, Client::queued);
            self.queued -= before - after;
            match went {
                Went::Broken => return self.end(cd, CloseReason::Reset),
                _ => self.close_if_done(cd),
            }
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.read(cd);
        }
        self.rewatch(cd);
    }

    /// Reads what a client has sent, as far as there is room for it.
    fn read(&mut self, cd: u64) {
        let room = self.channel.notices.room().unwrap_or(0);
        let Self { slots, buffers, scratch, channel, .. } = self;
        let Some(client) = find(slots, cd) else { return };
        if client.starved || !client.is_readable() {
            return;
        }
        let most = client.room(buffers).min(scratch.len());
        if most == 0 || room < STEP_NOTICES {
            client.starved = true;
            self.starved.push_back(cd);
            return;
        }
        let Some(scratch) = scratch.get_mut(..most) else { return };
        match client.receive(scratch) {
            Went::Bytes(count) => {
                let (gd, bytes) = (client.gd, scratch.get(..count).unwrap_or_default());
                client.keep(bytes, buffers, |Told { offset, at, len }| {
                    let kind = kind::DATA;
                    let notice = Notice { kind, gd, cd, len, offset, at, ..Notice::default() };
                    let _ = channel.notices.push(&notice);
                });
            }
            Went::Nothing => {}
            Went::End => {
                client.finished = true;
                let (gd, offset) = (client.gd, client.read);
                self.tell(Notice { kind: kind::FINISHED, gd, cd, offset, ..Notice::default() });
            }
            Went::Broken => self.end(cd, CloseReason::Reset),
        }
    }

    /// Lets clients in that have connected.
    fn let_in(&mut self, gd: u32) {
        for _ in 0..ACCEPTS {
            if self.channel.notices.room().unwrap_or(0) < STEP_NOTICES {
                return;
            }
            let Some(group) = self.groups.iter().find(|group| group.gd == gd) else { return };
            let Some(door) = &group.door else { return };
            match door.accept() {
                Ok(Some(socket)) => self.add_client(gd, socket),
                Ok(None) => return,
                Err(_) => {
                    // No file is left. Knocking is not heard until there may be one again.
                    let _ = epoll::delete(&*self.watch, door.fd());
                    self.out_of_files = Some(clock::now() + FILES_AGAIN);
                    return;
                }
            }
        }
    }

    fn add_client(&mut self, gd: u32, socket: OwnedFd) {
        let Some(group) = self.groups.iter().find(|group| group.gd == gd) else { return };
        let (accept, window) = (group.options.accept, group.options.window_max);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 1, client: None });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let Some(slot) = self.slots.get_mut(place(index.into())) else { return };
        let (worker, generation) = (u64::from(self.worker), u64::from(slot.generation));
        let cd = generation << 40 | worker << 32 | u64::from(index);
        let timeout = match accept {
            Accept::ByApplication { timeout } if !timeout.is_zero() => timeout,
            _ => ACCEPT_TIMEOUT,
        };
        let timeout = Duration::from_millis(milliseconds(timeout).into());
        slot.client = Some(Client::new(gd, cd, socket, window, clock::now() + timeout));
        if accept == Accept::Automatic {
            self.open_client(cd);
        } else {
            self.waiting.push_back(cd);
            self.tell(Notice { kind: kind::ACCEPTABLE, gd, cd, ..Notice::default() });
        }
    }

    /// Refuses who has waited too long, and knocking is heard again when there may be files.
    fn expire(&mut self) {
        if self.waiting.is_empty() && self.out_of_files.is_none() {
            return;
        }
        let now = clock::now();
        for _ in 0..self.waiting.len() {
            let Some(cd) = self.waiting.pop_front() else { break };
            match self.client(cd).map(|client| client.stage) {
                Some(Stage::Waiting(until)) if until <= now && self.has_room() => {
                    self.end(cd, CloseReason::Refused);
                }
                Some(Stage::Waiting(_)) => self.waiting.push_back(cd),
                _ => {}
            }
        }
        if self.out_of_files.is_some_and(|again| again <= now) {
            self.out_of_files = None;
            for group in &self.groups {
                let Some(door) = &group.door else { continue };
                let data = EventData::new_u64(u64::from(group.gd));
                // One that is still watched is there already.
                let _ = epoll::add(&*self.watch, door.fd(), data, EventFlags::IN);
            }
        }
    }

    fn has_room(&mut self) -> bool {
        self.channel.notices.room().unwrap_or(0) >= STEP_NOTICES
    }

    /// Ends a client's connection and tells why.
    fn end(&mut self, cd: u64, reason: CloseReason) {
        let Some(client) = find(&mut self.slots, cd) else { return };
        if client.stage == Stage::Gone {
            return;
        }
        self.queued -= client.queued();
        client.end(&self.watch);
        let (gd, held) = (client.gd, client.read - client.acknowledged);
        let (kind, reason) = (kind::CLOSED, reason.code());
        self.tell(Notice { kind, reason, gd, cd, offset: held, ..Notice::default() });
        if held == 0 {
            self.free_client(cd);
        }
    }

    /// Closes a connection that is to be closed, if all has gone out.
    fn close_if_done(&mut self, cd: u64) {
        if self.client(cd).is_some_and(|client| client.closing && client.queued() == 0) {
            self.end(cd, CloseReason::Closed);
        }
    }

    /// Nobody has anything of this client's any more.
    fn free_client(&mut self, cd: u64) {
        if self.client(cd).is_some() {
            self.free_slot(u32::try_from(cd & 0xffff_ffff).unwrap_or(u32::MAX));
        }
    }

    fn free_slot(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(place(index.into())) else { return };
        let Some(mut client) = slot.client.take() else { return };
        self.queued -= client.queued();
        client.end(&self.watch);
        client.give_up(&mut self.buffers);
        // 24 bits, and never 0.
        slot.generation = slot.generation % 0x00ff_ffff + 1;
        self.free.push(index);
    }

    /// Has the kernel tell what is wanted now of a client's socket.
    fn rewatch(&mut self, cd: u64) {
        let Some(client) = find(&mut self.slots, cd) else { return };
        let wanted = client.wanted();
        if wanted == client.watched {
            return;
        }
        let Some(socket) = client.socket() else { return };
        let data = EventData::new_u64(cd);
        let done = if wanted.is_empty() {
            epoll::delete(&*self.watch, socket)
        } else if client.watched.is_empty() {
            epoll::add(&*self.watch, socket, data, wanted)
        } else {
            epoll::modify(&*self.watch, socket, data, wanted)
        };
        match done {
            Ok(()) => client.watched = wanted,
            // The kernel has no memory for it: a connection nobody hears of is better ended.
            Err(_) => self.end(cd, CloseReason::Aborted),
        }
    }

    /// There is room: it was looked for before this step.
    fn tell(&mut self, notice: Notice) {
        let told = self.channel.notices.push(&notice);
        debug_assert!(told.is_ok(), "a step begins with room for what it tells");
    }

    /// Copies of all sockets, as a forked child has them.
    #[cfg(test)]
    pub(crate) fn copies(&self) -> Vec<OwnedFd> {
        let clients = self.slots.iter().filter_map(|slot| slot.client.as_ref()?.socket());
        let doors = self.groups.iter().filter_map(|group| Some(group.door.as_ref()?.fd()));
        let all = clients.map(AsFd::as_fd).chain(doors);
        all.map(|socket| socket.try_clone_to_owned().expect("a file")).collect()
    }

    fn client(&self, cd: u64) -> Option<&Client> {
        let slot = self.slots.get(place(cd))?;
        slot.client.as_ref().filter(|client| client.cd == cd)
    }

    fn client_mut(&mut self, cd: u64) -> Option<&mut Client> {
        find(&mut self.slots, cd)
    }
}

fn find(slots: &mut [Slot], cd: u64) -> Option<&mut Client> {
    slots.get_mut(place(cd))?.client.as_mut().filter(|client| client.cd == cd)
}

/// The place of a handle: its low 32 bits.
fn place(cd: u64) -> usize {
    usize::try_from(cd & 0xffff_ffff).unwrap_or(usize::MAX)
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("worker", &self.worker).finish_non_exhaustive()
    }
}

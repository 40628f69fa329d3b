//! One pool: what has come for each of its groups, in the order it is to be given.

use std::collections::{HashMap, HashSet, VecDeque};

use super::failure::Failure;
use super::numbers::{Connections, place};
use super::set::{self, Places, WORDS};
use super::unread::{Part, Unread};
use crate::application::{Application, Shared};
use crate::endpoint::{Next, Scope, TRACES_MAX};
use crate::error::{Error, SendError};
use crate::handle::{Connection, Group, worker_of};
use crate::inbox::{CloseReason, Inbox, RefusalReason};
use crate::request::Given;
use crate::transaction::Part as Joint;

/// Receives after which the workers are looked at, though more is there to give.
const TURN_EVERY: u32 = 32;

/// One group's part.
#[derive(Debug)]
struct GroupState {
    gd: i32,
    /// Connections that can be accepted, and some that could.
    acceptable: VecDeque<u64>,
    waiting: HashSet<u64>,
    /// Connections with something to give, and some that had.
    ready: VecDeque<u64>,
    /// How many of them still have.
    ready_count: usize,
    drained: Drained,
    /// Numbers of connections that a predecessor left, to be told.
    left: VecDeque<i32>,
}

impl GroupState {
    /// Forgets who can be accepted no more, if they are many.
    fn sweep_acceptable(&mut self) {
        if self.acceptable.len() > 2 * self.waiting.len() + TRACES_MAX {
            self.acceptable.retain(|cd| self.waiting.contains(cd));
        }
    }

    /// Forgets who has nothing to give any more, if they are many. Who has is named once.
    fn sweep_ready(&mut self, unread: &HashMap<u64, Unread>) {
        if self.ready.len() > 2 * self.ready_count + TRACES_MAX {
            let mut named = HashSet::new();
            let has_something = |cd: &u64| unread.get(cd).is_some_and(|unread| unread.queued);
            self.ready.retain(|cd| has_something(cd) && named.insert(*cd));
        }
    }
}

/// How far the end of a drained group has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    No,
    ToTell,
    Told,
}

/// A connection's turn to be received from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) cd: i32,
    pub(super) connection: Connection,
    /// Stream offset of the first byte.
    pub(super) offset: u64,
    pub(super) part: Part,
}

/// A pool with its groups and connections.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) number: i32,
    pub(super) application: Application,
    inbox: Inbox,
    pub(super) connections: Connections,
    groups: HashMap<u32, GroupState>,
    unread: HashMap<u64, Unread>,
    /// Connections that a predecessor left, as far as they were told of.
    resumed: u64,
    /// All of them were.
    pub(super) resumed_all: bool,
    /// Groups of this pool.
    pub(super) open: Places,
    /// Groups with something to receive.
    pub(super) readable: Places,
    /// Groups with a connection to accept.
    pub(super) acceptable: Places,
    /// Receives since the workers were looked at.
    receives: u32,
    /// A select looks at this pool.
    pub(super) watched: bool,
}

impl Pool {
    pub(super) fn new(number: i32, application: Application, inbox: Inbox) -> Self {
        let resumed_all = application.resumed().is_none();
        Self {
            number,
            application,
            inbox,
            connections: Connections::default(),
            groups: HashMap::new(),
            unread: HashMap::new(),
            resumed: 0,
            resumed_all,
            open: [0; WORDS],
            readable: [0; WORDS],
            acceptable: [0; WORDS],
            receives: 0,
            watched: false,
        }
    }

    pub(super) fn detach(self) -> Result<(), Failure> {
        Ok(self.application.detach(self.inbox)?)
    }

    pub(super) fn shared(&self) -> &Shared {
        self.application.shared()
    }

    pub(super) fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    pub(super) fn inbox_ref(&self) -> &Inbox {
        &self.inbox
    }

    /// The number of a group that is here.
    pub(super) fn number_of_group(&self, group: Group) -> Option<i32> {
        self.groups.get(&group.0).map(|state| state.gd)
    }

    pub(super) fn add_group(&mut self, group: Group, gd: i32) {
        let state = GroupState {
            gd,
            acceptable: VecDeque::new(),
            waiting: HashSet::new(),
            ready: VecDeque::new(),
            ready_count: 0,
            drained: Drained::No,
            left: VecDeque::new(),
        };
        set::mark(&mut self.open, place(gd), true);
        self.groups.insert(group.0, state);
    }

    /// Forgets a closed group and its connections.
    pub(super) fn remove_group(&mut self, group: Group) {
        if let Some(state) = self.groups.remove(&group.0) {
            for places in [&mut self.open, &mut self.readable, &mut self.acceptable] {
                set::mark(places, place(state.gd), false);
            }
        }
        self.unread.retain(|_, unread| unread.gd != group.0);
        self.connections.remove_group(group);
    }

    /// Shows the workers what was asked and takes in what has come, of all groups.
    pub(super) fn turn(&mut self) -> Result<(), Failure> {
        self.inbox.turn()?;
        self.sort()
    }

    /// As [`Self::turn`], and asks the kernel what local clients have sent.
    pub(super) fn turn_looking(&mut self) -> Result<(), Failure> {
        self.inbox.turn_looking()?;
        self.sort()
    }

    fn sort(&mut self) -> Result<(), Failure> {
        self.receives = 0;
        let mut any = false;
        loop {
            let next = self.shared().endpoint.borrow_mut().next(Scope::All);
            let Some(next) = next else { break };
            self.on_next(next)?;
            any = true;
        }
        if any {
            // A greeting that has waited, or bytes given back: nobody is to sleep on that.
            self.application.flush();
        }
        Ok(())
    }

    fn on_next(&mut self, next: Next) -> Result<(), Failure> {
        match next {
            Next::Acceptable(client) => {
                if let Some(group) = self.groups.get_mut(&client.gd) {
                    group.acceptable.push_back(client.cd);
                    group.waiting.insert(client.cd);
                    group.sweep_acceptable();
                    set::mark(&mut self.acceptable, place(group.gd), true);
                }
            }
            Next::Opened(connection) => self.on_opened(connection),
            Next::Request(given) => return self.on_request(given),
            Next::Finished(connection) => {
                let empty = || Unread::new(connection.gd, 0);
                self.unread.entry(connection.cd).or_insert_with(empty).finish();
                self.queue(connection);
            }
            Next::Closed(connection, reason) => self.on_closed(connection, reason),
            // What waited has gone, or is lost.
            Next::Drained(connection) | Next::Refused(connection, _, RefusalReason::Closed) => {
                if let Some(unread) = self.unread.get_mut(&connection.cd)
                    && std::mem::take(&mut unread.when_drained)
                {
                    unread.again();
                    self.queue(connection);
                }
            }
            Next::GroupDrained(group) => {
                if let Some(state) = self.groups.get_mut(&group.0) {
                    state.drained = Drained::ToTell;
                    set::mark(&mut self.readable, place(state.gd), true);
                }
            }
            Next::Resumed => self.resumed_all = true,
            // The library keeps the bytes and tries again.
            Next::Refused(..) => {}
        }
        Ok(())
    }

    /// One that a predecessor left gets its number now: the application may want to send to it
    /// before it hears of it.
    fn on_opened(&mut self, connection: Connection) {
        if self.resumed_all || self.connections.number_of(connection).is_some() {
            return;
        }
        let number = self.connections.insert(connection);
        if let (Some(number), Some(state)) = (number, self.groups.get_mut(&connection.gd)) {
            self.resumed += 1;
            state.left.push_back(number);
        }
    }

    /// How many connections a predecessor left, when all were told of.
    pub(super) fn resumed(&mut self) -> Result<u64, Failure> {
        if !self.resumed_all {
            self.turn()?;
        }
        if self.resumed_all { Ok(self.resumed) } else { Err(Failure::Nothing) }
    }

    /// The next connection of a group that a predecessor left and that was not told of here.
    pub(super) fn next_resumed(&mut self, group: Group) -> Result<i32, Failure> {
        self.turn()?;
        let Self { groups, connections, resumed_all, .. } = self;
        let state = groups.get_mut(&group.0).ok_or(Failure::NoGroup)?;
        while let Some(number) = state.left.pop_front() {
            if connections.get(number).is_some() {
                return Ok(number);
            }
        }
        Err(if *resumed_all { Failure::NoneLeft } else { Failure::Nothing })
    }

    /// Takes the bytes over: from now on this module knows what was given of them.
    fn on_request(&mut self, mut given: Given) -> Result<(), Failure> {
        let (connection, offset) = (given.connection, given.offset);
        let empty = || Unread::new(connection.gd, offset);
        let unread = self.unread.entry(connection.cd).or_insert_with(empty);
        let wanted = unread.next_offset();
        let mut pieces = given.take_list();
        unread.append(pieces.drain(..));
        // With nothing left of it in hand, the endpoint holds nothing.
        let mut nothing = Given::new(connection, offset, pieces);
        self.shared().endpoint.borrow_mut().put_down(&mut nothing);
        if wanted != offset {
            let what = format!("bytes at stream offset {offset} where {wanted} is next");
            return Err(Error::Corrupt { worker: worker_of(connection.cd), what }.into());
        }
        self.queue(connection);
        Ok(())
    }

    fn on_closed(&mut self, connection: Connection, reason: CloseReason) {
        if let Some(group) = self.groups.get_mut(&connection.gd)
            && group.waiting.remove(&connection.cd)
        {
            // The application never heard of it.
            let any = !group.waiting.is_empty();
            set::mark(&mut self.acceptable, place(group.gd), any);
            return;
        }
        if self.connections.number_of(connection).is_some() {
            let empty = || Unread::new(connection.gd, 0);
            self.unread.entry(connection.cd).or_insert_with(empty).lose(reason);
            self.queue(connection);
        } else {
            self.forget(connection);
        }
    }

    /// Puts a connection into its group's list if it has something to give and is not there.
    fn queue(&mut self, connection: Connection) {
        let Some(unread) = self.unread.get_mut(&connection.cd) else { return };
        let Some(group) = self.groups.get_mut(&connection.gd) else { return };
        if !unread.queued && unread.is_ready() {
            unread.queued = true;
            group.ready.push_back(connection.cd);
            group.ready_count += 1;
            group.sweep_ready(&self.unread);
            set::mark(&mut self.readable, place(group.gd), true);
        }
    }

    /// Connections that the lists of a group name, those with nothing to give among them.
    #[cfg(test)]
    pub(super) fn listed(&self, group: Group) -> usize {
        self.groups.get(&group.0).map_or(0, |state| state.ready.len() + state.acceptable.len())
    }

    /// Takes a connection out of its group's list, or leaves its trace there.
    fn unqueue(&mut self, connection: Connection) {
        let Some(unread) = self.unread.get_mut(&connection.cd) else { return };
        if std::mem::take(&mut unread.queued)
            && let Some(group) = self.groups.get_mut(&connection.gd)
        {
            group.ready_count = group.ready_count.saturating_sub(1);
            let any = group.ready_count > 0 || group.drained == Drained::ToTell;
            set::mark(&mut self.readable, place(group.gd), any);
        }
    }

    /// Forgets what is unread of a connection.
    fn forget(&mut self, connection: Connection) {
        self.unqueue(connection);
        self.unread.remove(&connection.cd);
    }

    /// Whether any group has something to receive or to accept.
    pub(super) fn is_ready(&self) -> bool {
        self.readable.iter().chain(&self.acceptable).any(|word| *word != 0)
    }

    /// What is next to be received in a group, at most so many bytes of it.
    pub(super) fn take(&mut self, group: Group, most: u64) -> Result<Taken, Failure> {
        self.receives += 1;
        if self.receives > TURN_EVERY {
            self.turn()?;
        }
        if let Some(taken) = self.take_known(group, most)? {
            return Ok(taken);
        }
        if self.receives > 0 || self.shared().endpoint.borrow().is_local(group) {
            self.turn_looking()?;
        }
        self.take_known(group, most)?.ok_or(Failure::Nothing)
    }

    /// As [`Self::take`], of what was taken in from the workers already.
    pub(super) fn take_known(&mut self, group: Group, most: u64) -> Result<Option<Taken>, Failure> {
        loop {
            let state = self.groups.get_mut(&group.0).ok_or(Failure::NoGroup)?;
            let Some(cd) = state.ready.pop_front() else {
                if state.drained == Drained::No {
                    return Ok(None);
                }
                state.drained = Drained::Told;
                set::mark(&mut self.readable, place(state.gd), false);
                return Err(Failure::Drained);
            };
            let connection = Connection { gd: group.0, cd };
            if !self.unread.get(&cd).is_some_and(|unread| unread.queued) {
                continue;
            }
            let Some(number) = self.number(connection) else {
                if let Some(state) = self.groups.get_mut(&group.0) {
                    state.ready.push_front(cd);
                }
                return Err(Failure::TooMany);
            };
            self.unqueue(connection);
            if let Some(taken) = self.take_of(connection, number, most) {
                return Ok(Some(taken));
            }
        }
    }

    fn take_of(&mut self, connection: Connection, cd: i32, most: u64) -> Option<Taken> {
        let unread = self.unread.get_mut(&connection.cd)?;
        let offset = unread.offset();
        let part = unread.take(most)?;
        if let Part::Gone(_) = part {
            self.unread.remove(&connection.cd);
            self.connections.remove(cd);
        } else {
            self.queue(connection);
        }
        Some(Taken { cd, connection, offset, part })
    }

    /// A connection's number, which it may get now.
    fn number(&mut self, connection: Connection) -> Option<i32> {
        let known = self.connections.number_of(connection);
        known.or_else(|| self.connections.insert(connection))
    }

    /// The bytes that were just taken, where they lie.
    pub(super) fn slices(&self, taken: &Taken) -> impl Iterator<Item = &[u8]> {
        let count = if let Part::Bytes(count) = taken.part { count } else { 0 };
        let unread = self.unread.get(&taken.connection.cd);
        let pieces = unread.into_iter().flat_map(move |unread| unread.first(count));
        pieces.filter_map(|piece| self.shared().bytes(piece.at, usize::try_from(piece.len).ok()?))
    }

    /// Accepts the next connection of a group that waits for it.
    pub(super) fn accept(&mut self, group: Group) -> Result<i32, Failure> {
        let connection = self.decide(group, true)?;
        let Some(number) = self.number(connection) else {
            // A client that no number is left for is better sent away than kept unheard.
            let _ = self.application.abort(connection);
            return Err(Failure::TooMany);
        };
        Ok(number)
    }

    /// Refuses the next connection of a group that waits to be accepted.
    pub(super) fn refuse(&mut self, group: Group) -> Result<(), Failure> {
        self.decide(group, false).map(drop)
    }

    fn decide(&mut self, group: Group, accept: bool) -> Result<Connection, Failure> {
        loop {
            let connection = self.next_acceptable(group)?;
            let decided = self.shared().endpoint.borrow_mut().accept(connection, accept);
            self.application.flush();
            match decided {
                Ok(()) => return Ok(connection),
                // It gave up waiting.
                Err(SendError::Closed) => {}
                Err(error) => {
                    self.wait_again(connection);
                    return Err(error.into());
                }
            }
        }
    }

    fn next_acceptable(&mut self, group: Group) -> Result<Connection, Failure> {
        let waits = |pool: &Self| pool.groups.get(&group.0).map(|state| !state.waiting.is_empty());
        if waits(self) == Some(false) {
            self.turn_looking()?;
        }
        let state = self.groups.get_mut(&group.0).ok_or(Failure::NoGroup)?;
        while let Some(cd) = state.acceptable.pop_front() {
            if state.waiting.remove(&cd) {
                let any = !state.waiting.is_empty();
                set::mark(&mut self.acceptable, place(state.gd), any);
                return Ok(Connection { gd: group.0, cd });
            }
        }
        Err(if state.drained == Drained::No { Failure::Nothing } else { Failure::Drained })
    }

    /// A connection stays the next to be accepted.
    fn wait_again(&mut self, connection: Connection) {
        if let Some(group) = self.groups.get_mut(&connection.gd) {
            group.acceptable.push_front(connection.cd);
            group.waiting.insert(connection.cd);
            set::mark(&mut self.acceptable, place(group.gd), true);
        }
    }

    /// Whether a connection is gone and the application was not told yet.
    pub(super) fn is_gone(&self, connection: Connection) -> bool {
        self.unread.get(&connection.cd).is_some_and(Unread::is_gone)
    }

    /// Bytes of a connection given and not acknowledged.
    pub(super) fn given(&self, connection: Connection) -> u64 {
        self.unread.get(&connection.cd).map_or(0, Unread::given)
    }

    pub(super) fn send(&mut self, to: Connection, bytes: &[u8]) -> Result<(), SendError> {
        self.application.send(to, bytes)
    }

    /// Acknowledges bytes that were given; there are as many. What is left is given again.
    pub(super) fn acknowledge(&mut self, to: Connection, count: u64) -> Result<(), SendError> {
        let Some(unread) = self.unread.get_mut(&to.cd).filter(|_| count > 0) else {
            return Ok(());
        };
        let up_to = unread.offset() + count;
        self.application.shared().endpoint.borrow_mut().acknowledge(to, up_to)?;
        self.is_acknowledged(to, count);
        Ok(())
    }

    /// Stream offset behind the first `count` bytes of what is unread of a connection.
    pub(super) fn offset_behind(&self, of: Connection, count: u64) -> Option<u64> {
        self.unread.get(&of.cd).map(|unread| unread.offset() + count)
    }

    /// Takes bytes off that the worker was told of.
    pub(super) fn is_acknowledged(&mut self, to: Connection, count: u64) {
        let Some(unread) = self.unread.get_mut(&to.cd).filter(|_| count > 0) else { return };
        unread.acknowledge(count);
        if unread.is_void() {
            self.forget(to);
        } else if unread.is_ready() {
            self.queue(to);
        } else {
            self.unqueue(to);
        }
    }

    /// Gives what is unread of a connection once more, when there may be room for its answer.
    pub(super) fn give_again(&mut self, of: Connection, why: SendError) {
        let Some(unread) = self.unread.get_mut(&of.cd) else { return };
        match why {
            SendError::WouldBlock => unread.again(),
            SendError::Behind { .. } => unread.when_drained = true,
            _ => return,
        }
        self.queue(of);
    }

    /// Does all parts or none; with each goes how many bytes it acknowledges.
    pub(super) fn transact(&mut self, parts: Vec<(Joint, u64)>) -> Result<(), Failure> {
        let (parts, counts): (Vec<Joint>, Vec<u64>) = parts.into_iter().unzip();
        let done = self.shared().transact(&parts);
        for (part, count) in parts.iter().zip(counts) {
            match &done {
                Ok(()) => self.is_acknowledged(part.connection, count),
                Err(error) => {
                    if let Some(error) = error.as_wait().filter(|_| count > 0) {
                        let again = match error {
                            SendError::Behind { .. } => SendError::WouldBlock,
                            error => error,
                        };
                        self.give_again(part.connection, again);
                    }
                }
            }
        }
        done.map_err(Failure::Transaction)
    }

    /// Ends a connection; its number is free if this succeeds.
    pub(super) fn close(&mut self, cd: i32, connection: Connection) -> Result<(), Failure> {
        gone_is_closed(self.application.close(connection))?;
        self.let_go(cd, connection);
        Ok(())
    }

    /// Resets a connection; its number is free if this succeeds.
    pub(super) fn abort(&mut self, cd: i32, connection: Connection) -> Result<(), Failure> {
        gone_is_closed(self.application.abort(connection))?;
        self.let_go(cd, connection);
        Ok(())
    }

    fn let_go(&mut self, cd: i32, connection: Connection) {
        self.forget(connection);
        self.connections.remove(cd);
        self.application.flush();
    }
}

/// What the client has ended first is ended all the same.
fn gone_is_closed(ended: Result<(), SendError>) -> Result<(), SendError> {
    if ended == Err(SendError::Closed) { Ok(()) } else { ended }
}

//! The specification's interface with its integers: what `libxtcp` is made of.
//!
//! C programs know groups and connections by small positive numbers, receive copies of what came,
//! and acknowledge *so many bytes of the last receive* later. This module keeps the account that it
//! takes; `libxtcp` only turns pointers into slices and [`Failure`]s into numbers. Rust programs
//! have no need of it: [`crate::Application`] and [`crate::Inbox`] do the same with types.
//!
//! # What a receive gives
//!
//! A connection is *ready* when it has something to tell: bytes that were not given yet, the end of
//! the client's stream, or its own end. A receive gives all its unacknowledged bytes from the first
//! on, as many as fit. Then they are with the application, and the connection is ready again when
//!
//! * more has come: old and new bytes are given together;
//! * some of the bytes given were acknowledged and some were not: the rest is given again;
//! * not everything found room: the next receive begins at the same byte.
//!
//! So nothing is given twice without a reason, and a server that handles a message at a time, or
//! waits for the rest of one, keeps no buffer of its own.
//!
//! # Threads
//!
//! A [`Pools`] belongs to one thread, as an endpoint does. Groups' numbers are drawn from one
//! counter for all threads, so one that is used by the wrong thread names nothing there.
//!
//! # Cost
//!
//! A connection with a number costs 20 bytes a place here. Places double when 7 of 8 are in use, so
//! that is 23 to 46 bytes a connection. One with unacknowledged bytes or news costs a record more.

mod failure;
mod numbers;
mod options;
mod pool;
mod set;
mod unread;
mod wait;

use std::path::PathBuf;

use xtcp_ring::message::Refusal;

use crate::application::{Application, Attach, ResumedGroup};
use crate::error::{Error, SendError};
use crate::group::{Drain, GroupOptions};
use crate::handle::{Connection, ConnectionInfo, Group};
use crate::inbox::{CloseReason, Inbox};
use crate::local::LocalPeer;
use crate::transaction::Part as Joint;
pub use failure::Failure;
pub use numbers::GROUPS_MAX;
use numbers::{Groups, next_pool};
use pool::{Pool, Taken};
pub use rustix::io::Errno;
pub use set::NumberSet;
use unread::Part;

/// The number of a thread's first pool, the one `xtcp_initialize` makes.
pub const FIRST_POOL: i32 = 0;

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The connection's number.
    pub cd: i32,
    /// The connection.
    pub connection: Connection,
    /// Offset of the first byte in the connection's stream; the first byte ever sent is 0.
    pub offset: u64,
    /// What it is.
    pub what: What,
}

/// What a receive tells of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// So many bytes.
    Bytes(u64),
    /// The client has ended its stream, and all its bytes were given. It can still be sent to.
    End,
    /// The connection is gone, and its number with it.
    Gone(CloseReason),
}

/// When an answer finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// Acknowledge all the same: the request is done with (`xtcp_send`).
    AcknowledgeStill,
    /// Do neither, and give the request again when there may be room (`xtcp_answer`).
    GiveAgain,
}

/// One connection's part of a transaction, see [`Pools::transact`].
#[derive(Clone, Copy, Debug)]
pub struct Sending<'b> {
    /// The group's number.
    pub gd: i32,
    /// The connection's number.
    pub cd: i32,
    /// Bytes to be acknowledged, of those given.
    pub acknowledged: u64,
    /// Bytes to be sent.
    pub bytes: &'b [u8],
}

/// One thread's pools, groups and connections, by number.
#[derive(Debug, Default)]
pub struct Pools {
    pools: Vec<Pool>,
    groups: Groups,
    /// Selects in a row that left a group of a lower priority out.
    overtakes: u32,
}

impl Pools {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Attaches to the appliance: a further pool, whose number is answered.
    ///
    /// # Errors
    /// As [`Application::attach`].
    pub fn open(&mut self, attach: &Attach) -> Result<i32, Failure> {
        let (application, inbox) = Application::attach(attach)?;
        let number = next_pool();
        self.add(number, application, inbox);
        Ok(number)
    }

    /// Attaches to the appliance: the thread's [`FIRST_POOL`] (`xtcp_initialize`).
    ///
    /// # Errors
    /// As [`Application::attach`], and [`Failure::PoolIsThere`].
    pub fn initialize(&mut self, attach: &Attach) -> Result<(), Failure> {
        if self.pool(FIRST_POOL).is_ok() {
            return Err(Failure::PoolIsThere);
        }
        let (application, inbox) = Application::attach(attach)?;
        self.add(FIRST_POOL, application, inbox);
        Ok(())
    }

    pub(crate) fn add(&mut self, number: i32, application: Application, inbox: Inbox) {
        let left: Vec<ResumedGroup> = application.resumed().unwrap_or_default().to_vec();
        self.pools.push(Pool::new(number, application, inbox));
        for ResumedGroup { group, priority, .. } in left {
            if self.groups.has_room() {
                // The pool is there.
                let _ = self.add_group(number, group, priority);
            }
        }
    }

    /// Detaches a pool from the appliance (`xtcp_finalize`): its groups are closed, its connections
    /// reset.
    ///
    /// # Errors
    /// [`Failure::NoPool`]; and what `xtcpd` has against it, though the pool is gone in any case.
    pub fn close_pool(&mut self, number: i32) -> Result<(), Failure> {
        let at = self.pools.iter().position(|pool| pool.number == number);
        let pool = self.pools.remove(at.ok_or(Failure::NoPool)?);
        self.groups.remove_pool(number);
        pool.detach()
    }

    /// Opens a group in a pool and answers its number (`xtcp_open_group`).
    ///
    /// # Errors
    /// [`Failure::NoPool`], [`Failure::TooMany`] and as [`Application::open_group`].
    pub fn open_group(&mut self, pool: i32, options: &GroupOptions) -> Result<i32, Failure> {
        if !self.groups.has_room() {
            return Err(Failure::TooMany);
        }
        let group = self.pool(pool)?.application.open_group(options)?;
        self.add_group(pool, group, options.priority)
    }

    pub(crate) fn add_group(
        &mut self,
        pool: i32,
        group: Group,
        priority: u8,
    ) -> Result<i32, Failure> {
        let pool = find(&mut self.pools, pool)?;
        if let Some(gd) = pool.number_of_group(group) {
            return Ok(gd);
        }
        let gd = self.groups.insert(pool.number, group, priority);
        pool.add_group(group, gd);
        Ok(gd)
    }

    /// Closes a group (`xtcp_close_group`): its connections are reset, its number and theirs name
    /// nothing any more.
    ///
    /// # Errors
    /// [`Failure::NoGroup`] and as [`Application::close_group`].
    pub fn close_group(&mut self, gd: i32) -> Result<(), Failure> {
        let open = self.groups.get(gd).ok_or(Failure::NoGroup)?;
        self.pool(open.pool)?.application.close_group(open.group)?;
        self.remove_group(gd);
        Ok(())
    }

    pub(crate) fn remove_group(&mut self, gd: i32) {
        let Some(open) = self.groups.get(gd) else { return };
        if let Ok(pool) = self.pool(open.pool) {
            pool.remove_group(open.group);
        }
        self.groups.remove(gd);
    }

    /// Takes no more clients for a group and brings its connections to their end. When none is left,
    /// and the end of each was received, a receive fails with [`Failure::Drained`].
    ///
    /// # Errors
    /// [`Failure::NoGroup`] and as [`Application::drain_group`].
    pub fn drain_group(&mut self, gd: i32, drain: &Drain) -> Result<(), Failure> {
        let open = self.groups.get(gd).ok_or(Failure::NoGroup)?;
        Ok(self.pool(open.pool)?.application.drain_group(open.group, drain)?)
    }

    /// The groups that a predecessor left in a pool, with their numbers.
    ///
    /// # Errors
    /// [`Failure::NoPool`].
    pub fn resumed_groups(&mut self, pool: i32) -> Result<Vec<(i32, ResumedGroup)>, Failure> {
        let pool = self.pool(pool)?;
        let left = pool.application.resumed().unwrap_or_default().iter();
        let numbered = left.filter_map(|left| {
            let gd = pool.number_of_group(left.group)?;
            Some((gd, left.clone()))
        });
        Ok(numbered.collect())
    }

    /// How many connections a predecessor left in a pool.
    ///
    /// # Errors
    /// [`Failure::Nothing`] until all were told of, [`Failure::NoPool`] and
    /// [`Failure::Appliance`].
    pub fn resumed_connections(&mut self, pool: i32) -> Result<u64, Failure> {
        self.pool(pool)?.resumed()
    }

    /// The number of the next connection of a group that a predecessor left; each is told once. It
    /// may have been received from already.
    ///
    /// # Errors
    /// [`Failure::NoneLeft`] when all were told, [`Failure::Nothing`] when more may come,
    /// [`Failure::NoGroup`] and [`Failure::Appliance`].
    pub fn next_resumed(&mut self, gd: i32) -> Result<i32, Failure> {
        let open = self.groups.get(gd).ok_or(Failure::NoGroup)?;
        self.pool(open.pool)?.next_resumed(open.group)
    }

    /// Who is at the other end of a connection of a UNIX socket, and where that is; `None`: it is
    /// not one.
    ///
    /// # Errors
    /// [`Failure::NoGroup`] and [`Failure::NoConnection`].
    pub fn local_peer(
        &mut self,
        gd: i32,
        cd: i32,
    ) -> Result<Option<(PathBuf, LocalPeer)>, Failure> {
        let (pool, connection) = self.connection(gd, cd)?;
        let Some(path) = pool.application.local_path(connection.group()) else { return Ok(None) };
        let peer = pool.application.local_peer(connection).ok_or(Failure::NoConnection)?;
        Ok(Some((path, peer)))
    }

    /// Accepts the group's next connection and answers its number (`xtcp_accept`).
    ///
    /// # Errors
    /// [`Failure::Nothing`] when none waits, [`Failure::NoGroup`], [`Failure::TooMany`], and
    /// [`Failure::Appliance`].
    pub fn accept(&mut self, gd: i32) -> Result<i32, Failure> {
        let open = self.groups.get(gd).ok_or(Failure::NoGroup)?;
        self.pool(open.pool)?.accept(open.group)
    }

    /// Refuses the group's next connection: the client gets a reset at once.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub fn refuse(&mut self, gd: i32) -> Result<(), Failure> {
        let open = self.groups.get(gd).ok_or(Failure::NoGroup)?;
        self.pool(open.pool)?.refuse(open.group)
    }

    /// Who is at the other end of a connection (`xtcp_pars`). Asks `xtcpd`.
    ///
    /// # Errors
    /// [`Failure::NoGroup`], [`Failure::NoConnection`] and as [`Application::describe`].
    pub fn describe(&mut self, gd: i32, cd: i32) -> Result<ConnectionInfo, Failure> {
        let (pool, connection) = self.connection(gd, cd)?;
        pool.application.describe(connection).map_err(|error| match error {
            Error::Refused { refusal: Refusal::NotThere, .. } => Failure::NoConnection,
            error => error.into(),
        })
    }

    /// Closes a connection when everything sent has gone (`xtcp_close`); nothing more is told of
    /// it.
    ///
    /// # Errors
    /// [`Failure::NoGroup`], [`Failure::NoConnection`], and [`Failure::Send`] when the worker is
    /// behind: then it is not closed.
    pub fn close(&mut self, gd: i32, cd: i32) -> Result<(), Failure> {
        let (pool, connection) = self.connection(gd, cd)?;
        pool.close(cd, connection)
    }

    /// Resets a connection; what waits for its client is thrown away, and nothing more is told of
    /// it.
    ///
    /// # Errors
    /// As [`Self::close`].
    pub fn abort(&mut self, gd: i32, cd: i32) -> Result<(), Failure> {
        let (pool, connection) = self.connection(gd, cd)?;
        pool.abort(cd, connection)
    }

    /// Receives what one connection of a group has to tell (`xtcp_recv`): at most `most` bytes,
    /// which the sink gets in pieces, in order.
    ///
    /// The pieces lie in the receive memory and stay as they are until they are acknowledged, the
    /// connection is ended here, or the next call that receives or waits.
    ///
    /// # Errors
    /// [`Failure::Nothing`] when nothing is there, [`Failure::NoGroup`], [`Failure::TooMany`] and
    /// [`Failure::Appliance`].
    pub fn receive(
        &mut self,
        gd: i32,
        most: u64,
        sink: impl FnMut(&[u8]),
    ) -> Result<Received, Failure> {
        let open = self.groups.get(gd).ok_or(Failure::NoGroup)?;
        let pool = self.pool(open.pool)?;
        let taken = pool.take(open.group, most)?;
        pool.slices(&taken).for_each(sink);
        Ok(taken.into())
    }

    /// Receives from at most `count` connections of a group, and looks at the workers only before
    /// the first: so no piece of the batch is given up while others are read. The sink gets each
    /// connection's pieces. Answers how many.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn receive_batch(
        &mut self,
        gd: i32,
        count: usize,
        most: u64,
        mut sink: impl FnMut(Received, &mut dyn Iterator<Item = &[u8]>),
    ) -> Result<usize, Failure> {
        let open = self.groups.get(gd).ok_or(Failure::NoGroup)?;
        let pool = self.pool(open.pool)?;
        pool.turn()?;
        for done in 0..count {
            match pool.take_known(open.group, most) {
                Ok(Some(taken)) => sink(taken.into(), &mut pool.slices(&taken)),
                Ok(None) if done == 0 => return Err(Failure::Nothing),
                Err(failure) if done == 0 => return Err(failure),
                // What has failed now fails again at the beginning of the next batch.
                Ok(None) | Err(_) => return Ok(done),
            }
        }
        Ok(count)
    }

    /// Acknowledges the first `acknowledged` of the bytes that the last receive gave of a
    /// connection and that were not acknowledged since, and sends bytes to its client, in one
    /// segment if they fit (`xtcp_send`). The bytes go all or not at all.
    ///
    /// The workers are shown it by [`Self::flush`].
    ///
    /// # Errors
    /// [`Failure::OverAcknowledged`], [`Failure::NoGroup`] and [`Failure::NoConnection`]: nothing
    /// was done. [`Failure::Send`]: the bytes were not sent, and what `no_room` says was done with
    /// the acknowledgement.
    pub fn send(
        &mut self,
        gd: i32,
        cd: i32,
        acknowledged: u64,
        bytes: &[u8],
        no_room: NoRoom,
    ) -> Result<(), Failure> {
        let (pool, connection) = self.connection(gd, cd)?;
        if pool.is_gone(connection) {
            return Err(SendError::Closed.into());
        }
        let given = pool.given(connection);
        if acknowledged > given {
            return Err(Failure::OverAcknowledged { given, acknowledged });
        }
        let sent = pool.send(connection, bytes);
        if let (Err(error), NoRoom::GiveAgain) = (sent, no_room) {
            pool.give_again(connection, error);
            return Err(error.into());
        }
        pool.acknowledge(connection, acknowledged)?;
        Ok(sent?)
    }

    /// Acknowledges and sends on several connections of one pool, all or nothing, and waits for the
    /// outcome, see [`Application::transaction`]. A connection may occur several times.
    ///
    /// # Errors
    /// As [`Self::send`], [`Failure::SeveralPools`] and [`Failure::Transaction`]: nothing was done.
    pub fn transact(&mut self, sendings: &[Sending<'_>]) -> Result<(), Failure> {
        let Some(first) = sendings.first() else { return Ok(()) };
        let number = self.groups.get(first.gd).ok_or(Failure::NoGroup)?.pool;
        let mut together: Vec<(Joint, u64)> = Vec::new();
        for Sending { gd, cd, acknowledged, bytes } in sendings {
            let (pool, connection) = self.connection(*gd, *cd)?;
            if pool.number != number {
                return Err(Failure::SeveralPools);
            }
            if pool.is_gone(connection) {
                return Err(SendError::Closed.into());
            }
            let known = together.iter().position(|(part, _)| part.connection == connection);
            let known = known.unwrap_or_else(|| {
                together.push((Joint { connection, up_to: None, bytes: Vec::new() }, 0));
                together.len() - 1
            });
            let Some((part, count)) = together.get_mut(known) else { continue };
            part.bytes.extend_from_slice(bytes);
            *count = count.saturating_add(*acknowledged);
            let given = pool.given(connection);
            if *count > given {
                return Err(Failure::OverAcknowledged { given, acknowledged: *count });
            }
            if *count > 0 {
                part.up_to = pool.offset_behind(connection, *count);
            }
        }
        self.pool(number)?.transact(together)
    }

    /// Shows the workers of a group's pool what was asked so far.
    ///
    /// # Errors
    /// [`Failure::NoGroup`].
    pub fn flush(&mut self, gd: i32) -> Result<(), Failure> {
        let open = self.groups.get(gd).ok_or(Failure::NoGroup)?;
        self.pool(open.pool)?.application.flush();
        Ok(())
    }

    /// Shows all workers what was asked so far.
    pub fn flush_all(&mut self) {
        for pool in &self.pools {
            pool.application.flush();
        }
    }

    /// Connections that the lists of a group name, those with nothing to give among them.
    #[cfg(test)]
    pub(crate) fn listed(&mut self, gd: i32) -> Result<usize, Failure> {
        let open = self.groups.get(gd).ok_or(Failure::NoGroup)?;
        Ok(self.pool(open.pool)?.listed(open.group))
    }

    /// The connection that a number names.
    ///
    /// # Errors
    /// [`Failure::NoGroup`] and [`Failure::NoConnection`].
    pub fn named(&mut self, gd: i32, cd: i32) -> Result<Connection, Failure> {
        self.connection(gd, cd).map(|(_, connection)| connection)
    }

    /// The number of the group's connection that has this handle ([`Connection::handle`]).
    ///
    /// # Errors
    /// [`Failure::NoGroup`] and [`Failure::NoConnection`].
    pub fn number(&mut self, gd: i32, handle: u64) -> Result<i32, Failure> {
        let open = self.groups.get(gd).ok_or(Failure::NoGroup)?;
        let connection = Connection { gd: open.group.0, cd: handle };
        let pool = self.pool(open.pool)?;
        pool.connections.number_of(connection).ok_or(Failure::NoConnection)
    }

    fn pool(&mut self, number: i32) -> Result<&mut Pool, Failure> {
        find(&mut self.pools, number)
    }

    fn connection(&mut self, gd: i32, cd: i32) -> Result<(&mut Pool, Connection), Failure> {
        let open = self.groups.get(gd).ok_or(Failure::NoGroup)?;
        let pool = self.pool(open.pool)?;
        let connection = pool.connections.get(cd).filter(|found| found.group() == open.group);
        Ok((pool, connection.ok_or(Failure::NoConnection)?))
    }
}

impl From<Taken> for Received {
    fn from(taken: Taken) -> Self {
        let Taken { cd, connection, offset, part } = taken;
        let what = match part {
            Part::Bytes(count) => What::Bytes(count),
            Part::End => What::End,
            Part::Gone(reason) => What::Gone(reason),
        };
        Self { cd, connection, offset, what }
    }
}

fn find(pools: &mut [Pool], number: i32) -> Result<&mut Pool, Failure> {
    pools.iter_mut().find(|pool| pool.number == number).ok_or(Failure::NoPool)
}

impl Connection {
    /// The appliance's handle of the connection, as `xtcpctl` shows it. No other connection of the
    /// same dataplane ever has it, short of 16 million at the same place.
    #[must_use]
    pub fn handle(self) -> u64 {
        self.cd
    }
}

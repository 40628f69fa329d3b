//! What applications command and are told: XTCP's verbs, with every handle verified.

use core::net::{IpAddr, SocketAddr};

use crate::config::{ADDRESSES_MAX, GroupConfig};
use crate::counters::Stop;
use crate::ends::End;
use crate::error::Misuse;
use crate::group::{Group, Pool};
use crate::handle::{Cd, Gd, PoolId, QueueId};
use crate::secret::Tuple;
use crate::stack::Stack;
use crate::table::slots::NONE;
use crate::tcp::Tcb;
use crate::tcp::record::{Active, LISTED, OPENED_BY_US};
use crate::tcp::seq::SeqNum;
use crate::tcp::state::State;
use crate::time::Instant;
use crate::world::Payload;

/// First port of those an active open picks from (RFC 6335).
const EPHEMERAL: u16 = 49_152;

impl<'m> Stack<'m> {
    /// A pool with this receive buffer, aligned to 64 bytes; about 1 % of it describes the rest.
    ///
    /// # Errors
    /// [`Misuse::TableFull`]; the memory comes back.
    pub fn open_pool(&mut self, receive: &'m mut [u8]) -> Result<PoolId, (Misuse, &'m mut [u8])> {
        let Some(at) = self.pools.iter().position(Option::is_none) else {
            return Err((Misuse::TableFull, receive));
        };
        self.pools[at] = Some(Pool::new(receive, self.throttle.first_below()));
        self.share_out();
        Ok(Self::pool_id(at))
    }

    /// Closes a pool with all its groups and connections and gives its memory back. Its
    /// applications are told nothing more; its clients are sent RST.
    pub fn close_pool(&mut self, pool: PoolId, now: Instant) -> Option<&'m mut [u8]> {
        self.now = now;
        self.pools.get(usize::from(pool.0))?.as_ref()?;
        self.end_groups(|_, group| group.pool == pool.0);
        let closed = self.pools[usize::from(pool.0)].take();
        self.share_out();
        closed.map(|pool| pool.receive.into_memory())
    }

    /// A group of `pool` whose events go to `queue`. With port 0 it does not listen. Several groups
    /// may have the same port: see `listen` for who gets a client.
    ///
    /// # Errors
    /// [`Misuse::NoSuchPool`], [`Misuse::NoSuchQueue`], [`Misuse::TableFull`].
    pub fn open_group(
        &mut self,
        pool: PoolId,
        queue: QueueId,
        config: &GroupConfig,
    ) -> Result<Gd, Misuse> {
        if !self.pools.get(usize::from(pool.0)).is_some_and(Option::is_some) {
            return Err(Misuse::NoSuchPool);
        }
        if usize::from(queue.0) >= self.queues.len() {
            return Err(Misuse::NoSuchQueue);
        }
        // The first place that is free, whatever clients do: all workers choose the same.
        let (_, groups) = self.groups.split_last().ok_or(Misuse::TableFull)?;
        let at = groups.iter().position(|group| !group.is_open()).ok_or(Misuse::TableFull)?;
        let index = u16::try_from(at).map_err(|_| Misuse::TableFull)?;
        self.groups[at].open(pool, queue, config);
        if config.port != 0 {
            self.listen(index);
        }
        self.begin_sweep();
        Ok(self.groups[at].gd(index))
    }

    /// Closes a group: nobody is accepted any more, and its connections are aborted. Its
    /// application is told nothing more of them, and their handles name nothing.
    ///
    /// # Errors
    /// [`Misuse::StaleGroup`].
    pub fn close_group(&mut self, group: Gd, now: Instant) -> Result<(), Misuse> {
        self.now = now;
        let index = self.group_index(group)?;
        self.end_groups(|at, _| at == index);
        Ok(())
    }

    /// Ends the open groups that are such: one pass over the connections for all of them together,
    /// and only as far as they have any.
    fn end_groups(&mut self, is_such: impl Fn(u16, &Group) -> bool) {
        let ends = |stack: &Self, at: u16| {
            let group = &stack.groups[usize::from(at)];
            group.is_open() && is_such(at, group)
        };
        let nobodys = self.nobodys_group();
        let mut left = 0;
        for at in 0..nobodys {
            if ends(self, at) {
                self.unlisten(at);
                self.stop_draining(at);
                left += self.groups[usize::from(at)].connections;
            }
        }
        for index in 1..self.connections_free.high_water() {
            if left == 0 {
                break;
            }
            if self.has_owner(index) && ends(self, self.connections[index as usize].group) {
                self.abandon(index);
                left -= 1;
            }
        }
        for at in 0..nobodys {
            if ends(self, at) {
                self.groups[usize::from(at)].close();
                self.forget_nobodys_events(self.groups[usize::from(at)].queue);
            }
        }
        self.review_sweep();
    }

    /// The application takes the client whose SYN waits.
    ///
    /// # Errors
    /// A stale or foreign handle, or [`Misuse::NotAcceptable`].
    pub fn accept(&mut self, group: Gd, connection: Cd, now: Instant) -> Result<(), Misuse> {
        self.command(group, connection, now, |tcb| tcb.accept())
    }

    /// The application does not want the client whose SYN waits: RST.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub fn refuse(&mut self, group: Gd, connection: Cd, now: Instant) -> Result<(), Misuse> {
        self.command(group, connection, now, |tcb| tcb.refuse())
    }

    /// The application has done with the stream before the 64-bit offset `up_to`: in a group
    /// where the application acknowledges, this is the acknowledgement. With `again`, what was
    /// given beyond is given once more.
    ///
    /// # Errors
    /// A stale or foreign handle, or [`Misuse::BeyondGiven`].
    pub fn commit(
        &mut self,
        group: Gd,
        connection: Cd,
        up_to: u64,
        again: bool,
        now: Instant,
    ) -> Result<(), Misuse> {
        self.command(group, connection, now, |tcb| tcb.commit(up_to, again))
    }

    /// Queues bytes for sending: all, or none and the reason.
    ///
    /// # Errors
    /// A stale or foreign handle, [`Misuse::NotOpen`], [`Misuse::NoBuffer`],
    /// [`Misuse::SendQueueFull`], [`Misuse::TableFull`].
    pub fn send(
        &mut self,
        group: Gd,
        connection: Cd,
        payload: &(impl Payload + ?Sized),
        now: Instant,
    ) -> Result<(), Misuse> {
        let index = self.commanded(group, connection, now)?;
        let active = self.unfold_for_text(index);
        self.command_active(index, active, |tcb| tcb.send(payload))
    }

    /// [`Self::send`], and then [`Self::commit`] without `again`: what a server does with a request.
    /// Both, or nothing and the reason.
    ///
    /// # Errors
    /// As those of the two.
    pub fn answer(
        &mut self,
        group: Gd,
        connection: Cd,
        up_to: u64,
        payload: &(impl Payload + ?Sized),
        now: Instant,
    ) -> Result<(), Misuse> {
        let index = self.commanded(group, connection, now)?;
        let active = self.unfold_for_text(index);
        self.command_active(index, active, |tcb| {
            tcb.check_commit(up_to)?;
            tcb.send(payload)?;
            tcb.commit(up_to, false)
        })
    }

    /// Everything queued is still sent, then FIN; from an idle connection that finds no active record as
    /// soon as one is free.
    ///
    /// # Errors
    /// A stale or foreign handle, or [`Misuse::NotOpen`].
    pub fn close(&mut self, group: Gd, connection: Cd, now: Instant) -> Result<(), Misuse> {
        let index = self.commanded(group, connection, now)?;
        match self.unfold(index) {
            Ok(active) => self.with_active(index, active, |tcb| tcb.close()),
            Err(_) => self.end_without_record(index, End::Close),
        }
    }

    /// RST, and everything is forgotten; the RST of an idle connection that finds no active record leaves as
    /// soon as one is free.
    ///
    /// # Errors
    /// A stale or foreign handle.
    pub fn abort(&mut self, group: Gd, connection: Cd, now: Instant) -> Result<(), Misuse> {
        let index = self.commanded(group, connection, now)?;
        match self.unfold(index) {
            Ok(active) => self.with_active(index, active, |tcb| tcb.abort_call()),
            Err(_) => self.end_without_record(index, End::Abort),
        }
    }

    /// Opens a connection to `remote`: for tests and load generators.
    ///
    /// # Errors
    /// [`Misuse::StaleGroup`], [`Misuse::Draining`], [`Misuse::TableFull`]; [`Misuse::NoAddress`] if no host can have
    /// the remote address, or we have none of its family.
    pub fn connect(&mut self, group: Gd, remote: SocketAddr, now: Instant) -> Result<Cd, Misuse> {
        self.now = now;
        let group = self.group_index(group)?;
        if self.groups[usize::from(group)].is_draining() {
            return Err(Misuse::Draining);
        }
        if !self.interface.is_valid_source(remote.ip()) {
            // What cannot answer cannot be called (RFC 9293 MUST-46).
            return Err(Misuse::NoAddress);
        }
        let local = self.source_for(remote.ip()).ok_or(Misuse::NoAddress)?;
        let tuple = self.unused_tuple(remote, local).ok_or(Misuse::TableFull)?;
        let (index, active) = self.create(&tuple, local, group).map_err(|_| Misuse::TableFull)?;
        let iss = SeqNum::new(self.secret.initial_sequence(&tuple, now.as_nanos()));
        let tcb = &mut self.tcb(index, active);
        tcb.rec.options |= OPENED_BY_US;
        tcb.open(iss);
        self.settle(index);
        Ok(self.cd(index))
    }

    /// The first own address of a family.
    fn source_for(&self, remote: IpAddr) -> Option<u8> {
        let last = u8::try_from(ADDRESSES_MAX).unwrap_or(u8::MAX);
        (0..last).find(|&at| {
            self.interface.address(at).is_some_and(|ip| ip.is_ipv4() == remote.is_ipv4())
        })
    }

    /// A tuple with a local port that no connection to `remote` uses.
    fn unused_tuple(&mut self, remote: SocketAddr, local: u8) -> Option<Tuple> {
        for _ in 0..=u16::MAX - EPHEMERAL {
            let local_port = EPHEMERAL + self.next_port % (u16::MAX - EPHEMERAL + 1);
            self.next_port = self.next_port.wrapping_add(1);
            let ports = u32::from(remote.port()) << 16 | u32::from(local_port);
            let hash = self.secret.flow_hash(remote.ip(), ports, local);
            let tuple = Tuple {
                remote: remote.ip(),
                remote_port: remote.port(),
                local: self.local_address(local),
                local_port,
            };
            let taken = self
                .flows
                .find(hash, |index| self.tuple_of(&self.connections[index as usize]) == tuple);
            if taken.is_none() {
                return Some(tuple);
            }
        }
        None
    }

    /// Has the records fetched that commands for these connections will look at: for many together
    /// this takes hardly longer than for one. Handles are not verified here; one that names nothing
    /// fetches nothing, or what nobody asks for.
    pub fn prefetch(&self, connections: impl Iterator<Item = Cd> + Clone) {
        let record = |connection: Cd| self.connections.get(connection.index() as usize);
        for record in connections.clone().filter_map(record) {
            xtcp_cpu::prefetch_write(record);
        }
        let active = |connection: Cd| self.actives.get(record(connection)?.active()? as usize);
        connections.clone().filter_map(active).for_each(Active::prefetch);
        // What a commit gives back.
        connections.filter_map(active).for_each(|act| self.chunks.prefetch(act.rcv_list.head));
    }

    fn command(
        &mut self,
        group: Gd,
        connection: Cd,
        now: Instant,
        f: impl FnOnce(&mut Tcb<'_, 'm>) -> Result<(), Misuse>,
    ) -> Result<(), Misuse> {
        let index = self.commanded(group, connection, now)?;
        let active = self.unfold(index);
        self.command_active(index, active, f)
    }

    /// The connection a command is for, if it is of that group.
    #[inline]
    fn commanded(&mut self, group: Gd, connection: Cd, now: Instant) -> Result<u32, Misuse> {
        self.now = now;
        let group = self.group_index(group)?;
        let index = self.connection_index(connection)?;
        if self.connections[index as usize].group != group {
            return Err(Misuse::NotInGroup);
        }
        Ok(index)
    }

    /// Runs a command, if the connection could be unfolded for it.
    #[inline]
    fn command_active(
        &mut self,
        index: u32,
        active: Result<u32, Stop>,
        f: impl FnOnce(&mut Tcb<'_, 'm>) -> Result<(), Misuse>,
    ) -> Result<(), Misuse> {
        match active {
            Ok(active) => self.with_active(index, active, f),
            Err(stop) => {
                self.counters.stop(stop);
                Err(Misuse::TableFull)
            }
        }
    }

    pub(crate) fn group_index(&self, group: Gd) -> Result<u16, Misuse> {
        let index = group.index();
        let found = self.groups.get(usize::from(index));
        match found {
            Some(found) if found.is_open() && found.gd(index) == group => Ok(index),
            _ => Err(Misuse::StaleGroup),
        }
    }

    pub(crate) fn connection_index(&self, connection: Cd) -> Result<u32, Misuse> {
        let index = connection.index();
        let ours = connection.worker() == self.worker
            && index != NONE
            && index < self.connections_free.high_water();
        if !ours {
            return Err(Misuse::StaleConnection);
        }
        let rec = &self.connections[index as usize];
        let gone = match rec.state() {
            // What remains of it is the stack's business alone.
            State::TimeWait => true,
            State::Closed => rec.has(LISTED) || !self.is_live(index),
            _ => false,
        };
        if gone || rec.generation() != connection.generation() {
            return Err(Misuse::StaleConnection);
        }
        Ok(index)
    }

    pub(crate) fn cd(&self, index: u32) -> Cd {
        Cd::new(self.worker, index, self.connections[index as usize].generation())
    }
}

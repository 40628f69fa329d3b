//! The life of a connection's records: made, unfolded, put on lists, folded, freed.

use core::net::IpAddr;
use core::time::Duration;

use crate::counters::{Count, Stop};
use crate::event::Reason;
use crate::secret::Tuple;
use crate::stack::{AddressV6, POOLS_MAX, Stack, link_mss};
use crate::table::slots::NONE;
use crate::tcp::Tcb;
use crate::tcp::record::{
    ACK_NOW, Active, Connection, ENDED, FIN_QUEUED, HALF_OPEN, KNOWN, LISTED, ON_A_LIST,
    ON_EVENT_LIST, ON_OUT_LIST, ON_WAIT_LIST, SEND_RST, TELL, TEXTED, TIMESTAMPS, UNFINDABLE, V6,
};
use crate::tcp::state::State;
use crate::time::Instant;

/// TIME-WAIT entries looked at in one turn: none may cost the others their turn.
const TIME_WAIT_BATCH: u32 = 256;

/// The owner of what no pool is charged with.
const NOBODY: u16 = u16::MAX;

/// TIME-WAIT entries given up for one IPv6 client that finds no place for its address.
const ADDRESS_TRIES: u32 = 64;

/// What a connection's records ask for, and what was not seen to yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook {
    sends: bool,
    tells: bool,
    /// Whether it waits for room, if that is new.
    waits: Option<bool>,
    /// It is counted wrongly among the handshakes.
    turns_half_open: bool,
    state: State,
    next: Next,
    deadline: Instant,
}

/// What becomes of a connection that stands in no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Stay,
    Fold,
    TimeWait,
    Free,
}

impl Outlook {
    /// Whether there is nothing but to send, to tell and to be woken.
    #[inline]
    const fn stays_as_it_is(&self) -> bool {
        self.waits.is_none()
            && !self.turns_half_open
            && !matches!(self.state, State::Closed)
            && matches!(self.next, Next::Stay)
    }

    /// Whether there is nothing but to be woken.
    fn only_wakes(&self) -> bool {
        self.stays_as_it_is() && !self.sends && !self.tells && self.deadline != Instant::NEVER
    }

    /// Whether there is nothing but to fold it.
    const fn only_folds(&self) -> bool {
        let quiet = !self.sends && !self.tells && !self.turns_half_open;
        quiet && self.waits.is_none() && matches!(self.next, Next::Fold)
    }
}

impl<'m> Stack<'m> {
    /// A new connection and its active record, in the flow table and of its group.
    pub(crate) fn create(
        &mut self,
        tuple: &Tuple,
        local: u8,
        group: u16,
    ) -> Result<(u32, u32), Stop> {
        let pool = self.groups[usize::from(group)].pool;
        let owner = usize::from(pool);
        if self.shares.connections.room(owner) == 0
            || tuple.remote.is_ipv6() && self.shares.ipv6_addresses.room(owner) == 0
        {
            return Err(Stop::ConnectionsFull);
        }
        let active = match self.take_active(owner) {
            Ok(active) => active,
            Err(stop) => {
                self.evict_orphan(pool);
                return Err(stop);
            }
        };
        let Some(index) = self.take_connection() else {
            self.give_back_new_active(active, owner);
            return Err(Stop::ConnectionsFull);
        };
        let Some((remote, v6)) = self.keep_address(tuple.remote) else {
            self.connections[index as usize].options = 0;
            self.give_back_new_active(active, owner);
            self.connections_free.give_back(self.connections, index);
            return Err(Stop::ConnectionsFull);
        };
        let rec = &mut self.connections[index as usize];
        // Generations go on where the last connection of this index left off.
        let generation = rec.generation().max(1);
        zerocopy::FromZeros::zero(rec);
        rec.set_generation(generation);
        (rec.remote, rec.remote_port) = (remote, tuple.remote_port);
        (rec.local, rec.local_port) = (local, tuple.local_port);
        (rec.options, rec.group) = (v6, group);
        (rec.mss, rec.active) = (link_mss(self.mtu, v6 == V6), active);
        (rec.cwnd, rec.ssthresh) = (1, u16::MAX);
        let rec = *rec;
        let offset = self.secret.timestamp_offset(tuple);
        self.actives[active as usize].unfold(index, &rec, offset);
        self.actives[active as usize].flags = 0;
        self.actives[active as usize].pool = pool;
        self.flows.insert(self.hash_of(&rec), index);
        let group = &mut self.groups[usize::from(group)];
        group.connections += 1;
        group.counts.opened += 1;
        self.shares.connections.take(owner);
        if v6 == V6 {
            self.shares.ipv6_addresses.take(owner);
        }
        Ok((index, active))
    }

    /// Gives back an active record that nobody has used yet.
    fn give_back_new_active(&mut self, active: u32, owner: usize) {
        self.actives_free.give_back(self.actives, active);
        self.shares.actives.give_back(owner);
    }

    /// A free connection record, if need be the one that has been longest in TIME-WAIT: a burst
    /// of closes never keeps new clients out.
    fn take_connection(&mut self) -> Option<u32> {
        if let Some(index) = self.connections_free.take(self.connections) {
            return Some(index);
        }
        if self.time_wait.is_empty() {
            return None;
        }
        self.free_oldest_time_wait();
        self.connections_free.take(self.connections)
    }

    fn keep_address(&mut self, ip: IpAddr) -> Option<(u32, u8)> {
        match ip {
            IpAddr::V4(ip) => Some((ip.to_bits(), 0)),
            IpAddr::V6(ip) => {
                let index = self.take_address_v6()?;
                self.addresses_v6[index as usize] = AddressV6::new(ip);
                Some((index, V6))
            }
        }
    }

    fn take_address_v6(&mut self) -> Option<u32> {
        for _ in 0..ADDRESS_TRIES {
            let taken = self.addresses_v6_free.take(self.addresses_v6);
            if taken.is_some() || self.time_wait.is_empty() {
                return taken;
            }
            self.free_oldest_time_wait();
        }
        None
    }

    /// Runs `f` on a connection, unfolded for it, and then does what its records ask for.
    pub(crate) fn with_connection<R>(
        &mut self,
        index: u32,
        f: impl FnOnce(&mut Tcb<'_, 'm>) -> R,
    ) -> Result<R, Stop> {
        let active = self.unfold(index)?;
        Ok(self.with_active(index, active, f))
    }

    /// As [`Self::with_connection`], of one that is unfolded.
    #[inline]
    pub(crate) fn with_active<R>(
        &mut self,
        index: u32,
        active: u32,
        f: impl FnOnce(&mut Tcb<'_, 'm>) -> R,
    ) -> R {
        let mut tcb = self.tcb(index, active);
        let result = f(&mut tcb);
        if tcb.is_seen_to() {
            self.put_on_out_list(active);
            return result;
        }
        if tcb.rests() {
            self.fold(index, active);
            return result;
        }
        let outlook = tcb.outlook();
        self.settle_as(index, active, &outlook);
        result
    }

    #[inline]
    pub(crate) fn unfold(&mut self, index: u32) -> Result<u32, Stop> {
        match self.connections[index as usize].active() {
            Some(active) => Ok(active),
            None => self.unfold_idle(index),
        }
    }

    /// As [`Self::unfold`], for text in either direction.
    #[inline]
    pub(crate) fn unfold_for_text(&mut self, index: u32) -> Result<u32, Stop> {
        match self.connections[index as usize].active() {
            Some(active) => Ok(active),
            None if self.may_unfold_for_text(index) => self.unfold_idle(index),
            None => Err(Stop::ActiveFull),
        }
    }

    fn unfold_idle(&mut self, index: u32) -> Result<u32, Stop> {
        let rec = &self.connections[index as usize];
        let pool = self.groups[usize::from(rec.group)].pool;
        let offset =
            if rec.has(TIMESTAMPS) { self.secret.timestamp_offset(&self.tuple_of(rec)) } else { 0 };
        let active = self.take_active(pool.into())?;
        let rec = &mut self.connections[index as usize];
        let act = &mut self.actives[active as usize];
        act.unfold(index, rec, offset);
        act.pool = pool;
        rec.active = active;
        if rec.is_notified(ENDED) {
            self.end_as_marked(index, active);
        }
        Ok(active)
    }

    /// Does what a connection's records ask for: to be sent, to be told, to be woken, to be
    /// folded, to be freed.
    pub(crate) fn settle(&mut self, index: u32) {
        let Some(active) = self.connections[index as usize].active() else { return };
        let outlook = self.tcb(index, active).outlook();
        self.settle_as(index, active, &outlook);
    }

    /// As [`Self::settle`], by one who has looked already.
    #[inline(always)]
    pub(crate) fn settle_as(&mut self, index: u32, active: u32, outlook: &Outlook) {
        if outlook.sends {
            self.put_on_out_list(active);
        }
        if outlook.tells {
            self.put_on_event_list(index, active);
        }
        if !outlook.stays_as_it_is() {
            self.settle_changes(index, active, outlook);
        } else if outlook.deadline != Instant::NEVER {
            self.timers.arm(self.actives, active, outlook.deadline);
        }
    }

    fn settle_changes(&mut self, index: u32, active: u32, outlook: &Outlook) {
        if let Some(waits) = outlook.waits {
            self.wait_or_not(active, waits);
        }
        if outlook.turns_half_open {
            self.turn_half_open(index);
        }
        if outlook.state == State::Closed {
            // It waits for its RST to leave or its end to be told. To segments it is gone.
            self.make_unfindable(index);
        }
        if outlook.next != Next::Stay && self.actives[active as usize].flags & ON_A_LIST == 0 {
            return match outlook.next {
                Next::Free => self.free(index, active),
                Next::TimeWait => self.list_time_wait(index, active),
                Next::Fold | Next::Stay => self.fold(index, active),
            };
        }
        if outlook.deadline != Instant::NEVER {
            self.timers.arm(self.actives, active, outlook.deadline);
        }
    }

    #[inline]
    fn put_on_out_list(&mut self, active: u32) {
        let act = &mut self.actives[active as usize];
        if act.has(ON_OUT_LIST) {
            return;
        }
        act.set(ON_OUT_LIST);
        act.out_next = NONE;
        let tail = core::mem::replace(&mut self.out.tail, active);
        if tail == NONE {
            self.out.head = active;
        } else {
            self.actives[tail as usize].out_next = active;
        }
    }

    /// The connection that waited longest to send, taken off the list.
    #[inline]
    pub(crate) fn take_from_out_list(&mut self) -> Option<u32> {
        let active = self.out.head;
        if active == NONE {
            return None;
        }
        let act = &mut self.actives[active as usize];
        act.clear(ON_OUT_LIST);
        self.out.head = act.out_next;
        if self.out.head == NONE {
            self.out.tail = NONE;
        }
        Some(active)
    }

    #[cold]
    fn turn_half_open(&mut self, index: u32) {
        let rec = &mut self.connections[index as usize];
        rec.options ^= HALF_OPEN;
        let is_half_open = rec.has(HALF_OPEN);
        let owner = usize::from(self.groups[usize::from(rec.group)].pool);
        if is_half_open {
            self.half_open += 1;
            self.shares.half_open.take(owner);
            return;
        }
        self.half_open -= 1;
        if owner < POOLS_MAX {
            self.shares.half_open.give_back(owner);
        }
        if rec.state().is_synchronized() {
            self.counters.count(Count::ConnectionsOpened);
        }
    }

    /// An idle connection gives its active record back (design law 4).
    fn fold(&mut self, index: u32, active: u32) {
        self.timers.disarm(self.actives, active);
        let rec = &mut self.connections[index as usize];
        self.actives[active as usize].fold(rec);
        if self.actives[active as usize].has(TEXTED) {
            let units = self.groups[usize::from(rec.group)].idle_units(self.now);
            rec.set_text_at((units & 0xff) as u8);
        }
        self.give_back_active(active);
    }

    fn give_back_active(&mut self, active: u32) {
        let act = &mut self.actives[active as usize];
        act.connection = NONE;
        if act.pool != NOBODY {
            self.shares.actives.give_back(usize::from(act.pool));
        }
        self.actives_free.give_back(self.actives, active);
    }

    /// TIME-WAIT needs no more than the idle record, and all wait equally long: a list.
    fn list_time_wait(&mut self, index: u32, active: u32) {
        let mut tcb = self.tcb(index, active);
        tcb.release_all();
        tcb.rec.snd_una = tcb.act.snd_max;
        self.leave_group(index);
        self.fold(index, active);
        self.connections[index as usize].options |= LISTED;
        self.append_time_wait(index);
        self.time_wait_count += 1;
    }

    fn append_time_wait(&mut self, index: u32) {
        self.connections[index as usize].active = NONE;
        let tail = core::mem::replace(&mut self.time_wait.tail, index);
        if tail == NONE {
            self.time_wait.head = index;
        } else {
            self.connections[tail as usize].active = index;
        }
    }

    /// Frees those whose time has passed. One whose wait began anew goes to the end.
    pub(crate) fn expire_time_wait(&mut self) {
        for _ in 0..TIME_WAIT_BATCH {
            let head = self.time_wait.head;
            if head == NONE {
                return;
            }
            let rec = &self.connections[head as usize];
            let (waited, next) = (self.waited_ms(rec), rec.active);
            if rec.state() == State::Closed || u128::from(waited) >= self.tcp.time_wait.as_millis()
            {
                self.free_oldest_time_wait();
            } else if next != NONE && waited < self.waited_ms(&self.connections[next as usize]) {
                self.time_wait.head = next;
                self.append_time_wait(head);
            } else {
                return;
            }
        }
    }

    /// How long the peer has been silent; in TIME-WAIT, how long that has lasted.
    pub(crate) fn waited_ms(&self, rec: &Connection) -> u32 {
        ((self.now.as_millis() & 0xffff_ffff) as u32).wrapping_sub(rec.heard_ms)
    }

    pub(crate) fn time_wait_deadline(&self) -> Option<Instant> {
        if self.time_wait.is_empty() {
            return None;
        }
        let rec = &self.connections[self.time_wait.head as usize];
        let waited = Duration::from_millis(self.waited_ms(rec).into());
        let left = self.tcp.time_wait.saturating_sub(waited);
        // At least a millisecond away, so that whoever waits for it gets somewhere.
        Some(self.now + left.max(Duration::from_millis(1)))
    }

    fn free_oldest_time_wait(&mut self) {
        let index = self.time_wait.head;
        let rec = &mut self.connections[index as usize];
        self.time_wait.head = rec.active;
        rec.active = NONE;
        if self.time_wait.head == NONE {
            self.time_wait.tail = NONE;
        }
        self.time_wait_count -= 1;
        self.free_record(index);
    }

    /// A new SYN ends a TIME-WAIT early: the address is free at once, the record when its turn
    /// on the list comes.
    pub(crate) fn cut_time_wait_short(&mut self, index: u32) {
        self.make_unfindable(index);
        self.connections[index as usize].set_state(State::Closed);
    }

    pub(crate) fn make_unfindable(&mut self, index: u32) {
        let rec = self.connections[index as usize];
        if !rec.has(UNFINDABLE) {
            self.flows.remove(self.hash_of(&rec), index);
            self.connections[index as usize].options |= UNFINDABLE;
        }
    }

    fn free(&mut self, index: u32, active: u32) {
        self.tcb(index, active).release_all();
        self.timers.disarm(self.actives, active);
        self.give_back_active(active);
        self.connections[index as usize].active = NONE;
        self.free_record(index);
    }

    fn free_record(&mut self, index: u32) {
        self.make_unfindable(index);
        let rec = self.connections[index as usize];
        if rec.has(V6) {
            self.addresses_v6_free.give_back(self.addresses_v6, rec.remote);
        }
        self.leave_group(index);
        let rec = &mut self.connections[index as usize];
        rec.set_state(State::Closed);
        rec.options = 0;
        rec.set_generation(rec.generation() % crate::handle::Cd::GENERATION_MAX + 1);
        self.connections_free.give_back(self.connections, index);
        self.counters.count(Count::ConnectionsEnded);
    }

    /// The connection is the stack's business alone from now on.
    fn leave_group(&mut self, index: u32) {
        let nobodys = self.nobodys_group();
        let rec = &mut self.connections[index as usize];
        let group = core::mem::replace(&mut rec.group, nobodys);
        if group == nobodys {
            return;
        }
        let (active, v6, half_open) = (rec.active(), rec.has(V6), rec.has(HALF_OPEN));
        let left = &mut self.groups[usize::from(group)];
        left.connections -= 1;
        let owner = usize::from(left.pool);
        self.shares.connections.give_back(owner);
        if v6 {
            self.shares.ipv6_addresses.give_back(owner);
        }
        if half_open {
            self.shares.half_open.give_back(owner);
        }
        if let Some(active) = active {
            self.stop_waiting(active);
            self.actives[active as usize].pool = NOBODY;
            self.shares.actives.give_back(owner);
        }
        self.check_drained(group);
    }

    pub(crate) fn nobodys_group(&self) -> u16 {
        u16::try_from(self.groups.len() - 1).unwrap_or(u16::MAX)
    }

    /// The owner closes the group or its pool, and has no more to do with its connections: they
    /// are reset. One without anything under way may find no active record to send that with; its
    /// client is told when it next says something.
    pub(crate) fn abandon(&mut self, index: u32) {
        let Ok(active) = self.unfold(index) else {
            self.counters.stop(Stop::AbortedSilently);
            self.forget_end(index);
            self.free_record(index);
            return;
        };
        self.tcb(index, active).abandon();
        self.leave_group(index);
        self.settle(index);
    }

    /// Whether a record is a connection that a group has.
    pub(crate) fn has_owner(&self, index: u32) -> bool {
        let rec = &self.connections[index as usize];
        rec.group != self.nobodys_group() && (rec.state() != State::Closed || self.is_live(index))
    }

    /// Whether an active record says that it is this connection's: a free connection record
    /// keeps a link in the same place.
    pub(crate) fn is_live(&self, index: u32) -> bool {
        self.connections[index as usize]
            .active()
            .and_then(|active| self.actives.get(active as usize))
            .is_some_and(|act| act.connection == index)
    }

    pub(crate) fn tuple_of(&self, rec: &Connection) -> Tuple {
        Tuple {
            remote: self.remote_of(rec),
            remote_port: rec.remote_port,
            local: self.local_address(rec.local),
            local_port: rec.local_port,
        }
    }
}

impl Tcb<'_, '_> {
    /// Reset, and nobody is told.
    fn abandon(&mut self) {
        if !matches!(self.rec.state(), State::Closed | State::TimeWait) {
            self.abort(Reason::Aborted);
        }
        self.act.clear(TELL);
        self.release_all();
    }

    /// What the records ask for now. Of a connection that stands in the list of those with something
    /// to send, `poll_frames` will ask again: until then nothing is looked at that could only put
    /// it there.
    #[inline(always)]
    pub(crate) fn outlook(&mut self) -> Outlook {
        if self.act.has(ON_OUT_LIST) {
            return self.outlook_of(false, None);
        }
        self.persist_if_stuck();
        let (sends, waits) = (self.wants_to_send(), self.waits_for_room());
        debug_assert_eq!(sends, self.plan().is_some(), "what is wanted and what is planned differ");
        self.outlook_of(sends, Some(waits))
    }

    /// As [`Self::outlook`] of one that stands in no list to send, and has nothing to send.
    #[inline(always)]
    pub(crate) fn outlook_when_sent(&mut self) -> Outlook {
        self.persist_if_stuck();
        let waits = self.waits_for_room();
        debug_assert!(!self.wants_to_send(), "it has sent all that it wants to send");
        self.outlook_of(false, Some(waits))
    }

    /// Whether the list to send is all that an open connection asks for now: `poll_frames` then does
    /// the rest.
    #[inline]
    fn is_seen_to(&self) -> bool {
        let seen_to = self.act.has(ON_OUT_LIST | ACK_NOW)
            && self.rec.state() == State::Established
            && !self.rec.has(HALF_OPEN)
            && !self.has_event();
        debug_assert!(!seen_to || self.act.has(ON_OUT_LIST) || self.wants_to_send());
        seen_to
    }

    /// Whether an open connection that has sent what it wants to send waits for its peer to acknowledge
    /// it, and for nothing else.
    #[inline(always)]
    pub(crate) fn only_waits(&mut self) -> bool {
        let only_waits = self.rec.state() == State::Established
            && !self.rec.has(HALF_OPEN)
            && self.act.flags & (TELL | ON_A_LIST) == 0
            && self.rec.snd_una != self.act.snd_max
            && self.act.rto_at() != Instant::NEVER
            && !self.has_unread()
            && !self.waits_for_room();
        debug_assert!(!only_waits || self.outlook_when_sent().only_wakes(), "more is to be done");
        only_waits
    }

    /// Whether an open connection has come to rest, as most acknowledgements leave it: it is folded, and
    /// its window is so wide open that its peer need not hear of it.
    #[inline]
    fn rests(&mut self) -> bool {
        self.act.rcv_list.is_empty() && self.is_at_rest()
    }

    fn is_at_rest(&mut self) -> bool {
        let rests = self.act.flags & !(KNOWN | TEXTED) == 0
            && self.rec.state() == State::Established
            && !self.rec.has(HALF_OPEN)
            && self.is_idle()
            && !self.should_update_window()
            && !self.waits_for_room();
        debug_assert!(
            !rests || self.outlook().only_folds(),
            "a connection rests that is not at rest"
        );
        rests
    }

    #[inline(always)]
    fn outlook_of(&self, sends: bool, waits: Option<bool>) -> Outlook {
        let tells = self.has_event();
        let waits = waits.filter(|waits| *waits != self.act.has(ON_WAIT_LIST));
        let state = self.rec.state();
        let next = match state {
            _ if sends || tells || self.act.has(ON_OUT_LIST | ON_EVENT_LIST) => Next::Stay,
            State::Closed if self.is_released() => Next::Free,
            State::TimeWait => Next::TimeWait,
            State::Established if self.is_idle() => Next::Fold,
            _ => Next::Stay,
        };
        let turns_half_open = (state == State::SynReceived) != self.rec.has(HALF_OPEN);
        Outlook {
            sends,
            tells: tells && !self.act.has(ON_EVENT_LIST),
            waits,
            turns_half_open,
            state,
            next,
            deadline: self.act.deadline(),
        }
    }

    /// Whether there is something to tell the application.
    #[inline]
    pub(crate) fn has_event(&self) -> bool {
        self.act.flags & TELL != 0 || self.has_unread() && self.rec.state() != State::Closed
    }

    /// Whether nobody has any more business with a closed connection.
    fn is_released(&self) -> bool {
        self.act.flags & (TELL | SEND_RST) == 0 && self.act.rcv_committed == self.act.rcv_given
    }

    /// Whether everything the active record knows follows from the idle one.
    #[inline]
    fn is_idle(&self) -> bool {
        let Active { snd_max, snd_end, rcv_ack, rcv_committed, rcv_given, .. } = *self.act;
        self.act.is_quiet()
            && snd_max == self.rec.snd_una
            && snd_end == self.rec.snd_una
            && rcv_ack == self.rec.rcv_nxt
            && rcv_committed == self.rec.rcv_nxt
            && rcv_given == self.rec.rcv_nxt
    }

    /// Whether nothing sent waits for its acknowledgement, nothing received for the application,
    /// and nothing is to be told, on an open connection.
    pub(crate) fn has_nothing_under_way(&self) -> bool {
        let Active { snd_max, snd_end, rcv_ack, rcv_committed, rcv_given, ooo_top, .. } = *self.act;
        let received = self.text_end();
        self.act.flags & (TELL | FIN_QUEUED) == 0
            && (snd_max, snd_end) == (self.rec.snd_una, self.rec.snd_una)
            && (rcv_ack, rcv_committed, rcv_given) == (received, received, received)
            && ooo_top == NONE
    }

    /// Gives everything back that is still held.
    fn release_all(&mut self) {
        self.release_sent();
        self.act.rcv_given = self.act.rcv_committed;
        self.release_unread();
    }
}

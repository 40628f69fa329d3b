//! The neighbour table: who on the link has which Ethernet address, for ARP and ND alike.
//!
//! RFC 4861 section 7.3.2's states serve both families. The table is bounded in each direction:
//! a sweep over the addresses of a link only displaces what the sweep itself has made (RFC 6583),
//! never a neighbour in use; at most [`PENDING_MAX`] neighbours are being asked for at once; and
//! all questions together are rationed.

use core::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::addresses::Key;
use crate::counters::{Count, Counters, Stop};
use crate::time::Instant;
use crate::wire::ethernet::MacAddr;

/// Neighbours that can be waited for, or probed, at the same time.
pub const PENDING_MAX: usize = 64;

/// Largest frame that is held for a neighbour, in bytes.
pub const PARKED_FRAME_MAX: usize = 1522;

/// Records per bucket; two cache lines. Every neighbour has two buckets it can be in.
const WAYS: usize = 4;

/// Questions before a neighbour is given up (RFC 4861 section 10: `MAX_MULTICAST_SOLICIT`,
/// `MAX_UNICAST_SOLICIT`).
const TRIES_MAX: u8 = 3;

/// Time between questions (`RETRANS_TIMER`; RFC 1122 section 2.3.2.1 has 1 s for ARP as well).
const RETRANS_TIMER: Duration = Duration::from_secs(1);

/// Time a stale neighbour is used before it is asked (`DELAY_FIRST_PROBE_TIME`).
const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);

/// Least time a confirmed neighbour is believed (`REACHABLE_TIME` times `MIN_RANDOM_FACTOR`); up
/// to 34 s more are drawn from its address, so that not all expire together.
const REACHABLE_MIN: Duration = Duration::from_secs(15);

/// A neighbour nothing was sent to for this long may be displaced.
const IN_USE: Duration = Duration::from_secs(60);

/// Questions sent per tick, all neighbours together: about 950 a second.
const QUESTIONS_PER_TICK: u8 = 64;

/// What is known of a neighbour. All zero is an empty place.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NeighbourRecord {
    address: [u8; 16],
    mac: [u8; 6],
    state: u8,
    tries: u8,
    /// When `state` ends or the next question is due, in ticks.
    deadline: u32,
    /// When something was last sent to it, in ticks; 0 for never.
    used: u32,
}

const _: () = assert!(size_of::<NeighbourRecord>() == 32);

/// A frame that waits for its neighbour's Ethernet address. All zero is an empty place.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ParkedFrame {
    len: u16,
    bytes: [u8; PARKED_FRAME_MAX],
}

impl core::fmt::Debug for ParkedFrame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ParkedFrame").field("len", &self.len).finish_non_exhaustive()
    }
}

impl ParkedFrame {
    /// The frame that waits here, if one does.
    fn frame(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len.into()).filter(|frame| !frame.is_empty())
    }
}

/// The states of RFC 4861 section 7.3.2. A plain number in the record, so that any bytes are a
/// record.
mod state {
    pub(super) const EMPTY: u8 = 0;
    pub(super) const INCOMPLETE: u8 = 1;
    pub(super) const REACHABLE: u8 = 2;
    pub(super) const STALE: u8 = 3;
    pub(super) const DELAY: u8 = 4;
    pub(super) const PROBE: u8 = 5;
}

/// What the table says of a neighbour something is to be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Its address.
    Mac(MacAddr),
    /// It is being asked.
    Pending,
    /// It is to be asked, now.
    Ask,
    /// There is no place for it.
    Full,
}

/// A question that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) neighbour: Key,
    /// Whom to ask: the neighbour where it was last seen, or everybody.
    pub(super) mac: Option<MacAddr>,
}

/// What an ARP or ND message says about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) mac: Option<MacAddr>,
    /// It answers a question of ours.
    pub(super) solicited: bool,
    /// A different address than the known one replaces it.
    pub(super) overrides: bool,
    /// The neighbour wants something of us, so that it is worth a new entry.
    pub(super) wants_us: bool,
}

/// The table, the frames that wait, and the neighbours with a timer.
#[derive(Debug)]
pub(super) struct Neighbours<'m> {
    records: &'m mut [NeighbourRecord],
    /// The frame that waits for the neighbour in the same place of `pending`.
    parked: &'m mut [ParkedFrame],
    /// Places in `records` of neighbours that are incomplete, delayed or probed.
    pending: [Option<u32>; PENDING_MAX],
    bucket_mask: u64,
    keys: [u64; 3],
    /// Where the last one was found that something was sent to: often a router, and the next one, too.
    last: usize,
    /// No pending neighbour's deadline is before this.
    due: Instant,
    questions_tick: u32,
    questions_left: u8,
}

impl<'m> Neighbours<'m> {
    pub(super) fn new(
        secret: &[u8; 32],
        records: &'m mut [NeighbourRecord],
        parked: &'m mut [ParkedFrame],
    ) -> Self {
        let buckets = (records.len() / WAYS).max(1);
        let bucket_mask = (1u64 << buckets.ilog2()) - 1;
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&secret[at..at + 8]);
            u64::from_le_bytes(word) ^ 0x6e65_6967_6862_6f75
        };
        Self {
            records,
            parked,
            pending: [None; PENDING_MAX],
            bucket_mask,
            keys: [word(0), word(8), word(24) | 1],
            last: 0,
            due: Instant::NEVER,
            questions_tick: 0,
            questions_left: 0,
        }
    }

    /// When [`Self::poll`] next has something to do.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Says where a neighbour is that something is to be sent to, and makes an entry for it if
    /// there is none.
    #[inline]
    pub(super) fn resolve(&mut self, key: Key, counters: &mut Counters, now: Instant) -> Known {
        if !self.is_at(self.last, key) {
            let Some(place) = self.find(key) else {
                return self.begin(key, counters, now);
            };
            self.last = place;
        }
        let place = self.last;
        let Some(record) = self.records.get_mut(place) else { return Known::Full };
        record.used = tick(now);
        let mac = MacAddr(record.mac);
        match record.state {
            state::INCOMPLETE => return Known::Pending,
            state::REACHABLE if !is_past(record.deadline, now) => {}
            state::REACHABLE | state::STALE => self.delay(place, now),
            _ => {}
        }
        Known::Mac(mac)
    }

    /// Takes in what a message says, and returns the neighbour's Ethernet address and its place
    /// among the pending if frames may have waited for just this (RFC 826; RFC 4861 sections 7.2.3
    /// and 7.2.5).
    pub(super) fn learn(
        &mut self,
        key: Key,
        news: News,
        counters: &mut Counters,
        now: Instant,
    ) -> Result<Option<(usize, MacAddr)>, Stop> {
        let Some(place) = self.find(key) else {
            return self.learn_new(key, news, counters, now).map(|()| None);
        };
        let reachable_until = self.reachable_until(key, now);
        let Some(record) = self.records.get_mut(place) else { return Ok(None) };
        let known = (record.state != state::INCOMPLETE).then_some(MacAddr(record.mac));
        // An answer without an address only helps if one is known.
        let Some(mac) = news.mac.or(known) else { return Err(Stop::NeighbourUnknown) };
        let moved = known.is_some_and(|known| known != mac);
        if moved && !news.overrides {
            // Somebody else answers for it: do not move, but look again soon.
            if record.state == state::REACHABLE {
                record.state = state::STALE;
            }
            return Ok(None);
        }
        let was = record.state;
        record.mac = mac.0;
        if news.solicited && matches!(was, state::INCOMPLETE | state::PROBE) {
            (record.state, record.deadline) = (state::REACHABLE, reachable_until);
        } else if news.solicited && !moved {
            // Nobody was asked: it confirms what is known and no more.
        } else if moved || was == state::INCOMPLETE {
            record.state = state::STALE;
        }
        let settled = matches!(record.state, state::REACHABLE | state::STALE);
        let waited = if settled { self.forget_pending(place) } else { None };
        Ok(waited.map(|slot| (slot, mac)))
    }

    /// Somebody above has proof that the neighbour gets what is sent to it (RFC 4861 section
    /// 7.3.1).
    #[inline]
    pub(super) fn confirm(&mut self, key: Key, now: Instant) {
        let Some(place) = self.find(key) else { return };
        let until = self.reachable_until(key, now);
        let Some(record) = self.records.get_mut(place) else { return };
        let was = record.state;
        if was == state::INCOMPLETE {
            return;
        }
        (record.state, record.deadline) = (state::REACHABLE, until);
        if matches!(was, state::DELAY | state::PROBE) {
            self.forget_pending(place);
        }
    }

    /// Somebody above gets no answer by way of this neighbour (RFC 9293 MUST-20): it is asked once
    /// something is sent to it again.
    pub(super) fn doubt(&mut self, key: Key) {
        let Some(place) = self.find(key) else { return };
        if let Some(record) = self.records.get_mut(place)
            && record.state == state::REACHABLE
        {
            record.state = state::STALE;
        }
    }

    /// Room for a frame of `len` bytes that waits for a neighbour being asked for. A frame that
    /// waited there before gives way (RFC 1122 section 2.3.2.2: the latest is kept).
    pub(super) fn park(
        &mut self,
        key: Key,
        len: usize,
        counters: &mut Counters,
    ) -> Option<&mut [u8]> {
        let place = self.find(key)?;
        if self.records.get(place)?.state != state::INCOMPLETE || len == 0 {
            return None;
        }
        let slot = self.pending_slot(place)?;
        let parked = self.parked.get_mut(slot)?;
        let room = parked.bytes.get_mut(..len)?;
        if parked.len != 0 {
            counters.stop(Stop::NeighbourReplaced);
        }
        counters.count(Count::FramesParked);
        parked.len = len as u16;
        Some(room)
    }

    /// The frame that waited in this place among the pending. It stays until [`Self::discard`].
    pub(super) fn parked(&self, slot: usize) -> Option<&[u8]> {
        self.parked.get(slot)?.frame()
    }

    /// Gives the place of a parked frame free.
    pub(super) fn discard(&mut self, slot: usize) {
        if let Some(parked) = self.parked.get_mut(slot) {
            parked.len = 0;
        }
    }

    /// Takes one question out of the ration; false when it is used up.
    pub(super) fn may_ask(&mut self, now: Instant) -> bool {
        let now = tick(now);
        if self.questions_tick != now {
            self.questions_tick = now;
            self.questions_left = QUESTIONS_PER_TICK;
        }
        let may = self.questions_left > 0;
        self.questions_left = self.questions_left.saturating_sub(1);
        may
    }

    /// Goes through the pending neighbours from place `*slot` on: gives up those that did not
    /// answer and returns the next question that is due. Done when it returns `None`.
    pub(super) fn poll(
        &mut self,
        slot: &mut usize,
        counters: &mut Counters,
        now: Instant,
    ) -> Option<Question> {
        if *slot == 0 {
            if now < self.due {
                return None;
            }
            self.due = Instant::NEVER;
        }
        while let Some(pending) = self.pending.get(*slot) {
            let here = *slot;
            *slot += 1;
            let Some(place) = *pending else { continue };
            let question = self.poll_one(here, place as usize, counters, now);
            self.arm(place as usize, now);
            if question.is_some() {
                return question;
            }
        }
        None
    }

    /// Does what is due for one pending neighbour.
    fn poll_one(
        &mut self,
        slot: usize,
        place: usize,
        counters: &mut Counters,
        now: Instant,
    ) -> Option<Question> {
        let record = self.records.get_mut(place)?;
        if !is_past(record.deadline, now) {
            return None;
        }
        if record.state == state::DELAY {
            (record.state, record.tries) = (state::PROBE, 0);
        }
        if record.tries >= TRIES_MAX {
            self.give_up(slot, counters);
            return None;
        }
        record.tries += 1;
        record.deadline = tick_after(now, RETRANS_TIMER);
        let mac = (record.state == state::PROBE).then_some(MacAddr(record.mac));
        Some(Question { neighbour: Key(u128::from_be_bytes(record.address)), mac })
    }

    /// Makes an entry for a neighbour nothing is known of, to be asked for at once.
    #[cold]
    fn begin(&mut self, key: Key, counters: &mut Counters, now: Instant) -> Known {
        let Some(place) = self.make_room(key, true, counters, now) else { return Known::Full };
        let Some(slot) = self.pending_room(counters) else { return Known::Full };
        let Some(record) = self.records.get_mut(place) else { return Known::Full };
        *record = NeighbourRecord {
            address: key.0.to_be_bytes(),
            mac: [0; 6],
            state: state::INCOMPLETE,
            tries: 1,
            deadline: tick_after(now, RETRANS_TIMER),
            used: tick(now),
        };
        counters.count(Count::NeighboursLearned);
        self.pending[slot] = Some(place as u32);
        self.arm(place, now);
        Known::Ask
    }

    /// Makes an entry for somebody who wants something of us and says where it is: stale, for
    /// nothing proves it.
    fn learn_new(
        &mut self,
        key: Key,
        news: News,
        counters: &mut Counters,
        now: Instant,
    ) -> Result<(), Stop> {
        let (Some(mac), true) = (news.mac, news.wants_us) else {
            return Err(Stop::NeighbourUnknown);
        };
        let place = self.make_room(key, false, counters, now).ok_or(Stop::NeighbourTableFull)?;
        let Some(record) = self.records.get_mut(place) else { return Ok(()) };
        *record = NeighbourRecord {
            address: key.0.to_be_bytes(),
            mac: mac.0,
            state: state::STALE,
            tries: 0,
            deadline: tick(now),
            used: 0,
        };
        counters.count(Count::NeighboursLearned);
        Ok(())
    }

    /// A stale neighbour is used: it is asked soon, unless somebody confirms it before. Half the
    /// pending places are kept for neighbours nothing can be sent to before they answer; without a
    /// place it stays stale, and in use.
    #[cold]
    fn delay(&mut self, place: usize, now: Instant) {
        let half = PENDING_MAX / 2;
        let free = (half..PENDING_MAX).find(|slot| self.pending[*slot].is_none());
        let Some(record) = self.records.get_mut(place) else { return };
        record.state = state::STALE;
        if let Some(slot) = free {
            record.state = state::DELAY;
            record.deadline = tick_after(now, DELAY_FIRST_PROBE);
            self.pending[slot] = Some(place as u32);
            self.arm(place, now);
        }
    }

    /// Whether a neighbour's record is in this place.
    #[inline]
    fn is_at(&self, place: usize, key: Key) -> bool {
        let address = key.0.to_be_bytes();
        let is_it = |r: &NeighbourRecord| r.address == address && r.state != state::EMPTY;
        self.records.get(place).is_some_and(is_it)
    }

    fn find(&self, key: Key) -> Option<usize> {
        let address = key.0.to_be_bytes();
        let [first, second] = self.buckets(key);
        self.find_in(first, &address).or_else(|| self.find_in(second, &address))
    }

    #[inline]
    fn find_in(&self, start: usize, address: &[u8; 16]) -> Option<usize> {
        let bucket = self.bucket(start);
        let is_it = |r: &NeighbourRecord| r.address == *address && r.state != state::EMPTY;
        bucket.iter().position(is_it).map(|way| start + way)
    }

    fn bucket(&self, start: usize) -> &[NeighbourRecord] {
        let end = self.records.len().min(start + WAYS);
        self.records.get(start..end).unwrap_or_default()
    }

    /// Where the two buckets of a neighbour start. Keyed, so that nobody can aim at one.
    #[inline]
    fn buckets(&self, key: Key) -> [usize; 2] {
        let hash = self.hash(key);
        [hash, hash >> 32].map(|hash| (hash & self.bucket_mask) as usize * WAYS)
    }

    /// The two buckets of a new neighbour, the emptier first: so a table half full takes every
    /// neighbour, and most take two thirds.
    fn buckets_for_new(&self, key: Key) -> [usize; 2] {
        let [first, second] = self.buckets(key);
        let empty = |start: usize| {
            self.bucket(start).iter().filter(|record| record.state == state::EMPTY).count()
        };
        if empty(second) > empty(first) { [second, first] } else { [first, second] }
    }

    #[inline]
    fn hash(&self, key: Key) -> u64 {
        let (high, low) = ((key.0 >> 64) as u64, key.0 as u64);
        let mixed = fold(high ^ self.keys[0], low ^ self.keys[1]);
        fold(mixed ^ self.keys[0], self.keys[2])
    }

    /// A place for a new neighbour in its two buckets: an empty one, or that of the neighbour
    /// that is worth least.
    fn make_room(
        &mut self,
        key: Key,
        wanted: bool,
        counters: &mut Counters,
        now: Instant,
    ) -> Option<usize> {
        let mut least: Option<(Worth, usize)> = None;
        for start in self.buckets_for_new(key) {
            for (way, record) in self.bucket(start).iter().enumerate() {
                let worth = record.worth(now);
                let displaceable = match worth {
                    Worth::InUse => false,
                    // What somebody claims does not end a search of ours.
                    Worth::Incomplete { .. } => wanted,
                    Worth::Empty | Worth::NeverUsed { .. } | Worth::Unused { .. } => true,
                };
                if displaceable && least.is_none_or(|(other, _)| worth < other) {
                    least = Some((worth, start + way));
                }
            }
        }
        let (worth, place) = least?;
        if worth != Worth::Empty {
            counters.count(Count::NeighboursEvicted);
            if let Some(slot) = self.pending_slot(place) {
                self.give_up(slot, counters);
            }
        }
        Some(place)
    }

    /// A free place among the pending, if need be that of the neighbour longest asked for.
    fn pending_room(&mut self, counters: &mut Counters) -> Option<usize> {
        if let Some(free) = self.pending.iter().position(Option::is_none) {
            return Some(free);
        }
        let incomplete = |(slot, place): (usize, &Option<u32>)| {
            let record = self.records.get((*place)? as usize)?;
            (record.state == state::INCOMPLETE).then_some((record.used, slot))
        };
        let (_, slot) = self.pending.iter().enumerate().filter_map(incomplete).min()?;
        counters.count(Count::NeighboursEvicted);
        self.give_up(slot, counters);
        Some(slot)
    }

    /// Forgets a pending neighbour and the frame that waits for it.
    fn give_up(&mut self, slot: usize, counters: &mut Counters) {
        let place = self.pending.get_mut(slot).and_then(Option::take);
        if let Some(record) = place.and_then(|place| self.records.get_mut(place as usize)) {
            record.state = state::EMPTY;
        }
        if self.parked(slot).is_some() {
            counters.stop(Stop::NeighbourUnresolved);
            self.discard(slot);
        }
    }

    fn pending_slot(&self, place: usize) -> Option<usize> {
        self.pending.iter().position(|pending| *pending == Some(place as u32))
    }

    /// The neighbour needs no timer any more.
    fn forget_pending(&mut self, place: usize) -> Option<usize> {
        let slot = self.pending_slot(place)?;
        self.pending[slot] = None;
        Some(slot)
    }

    /// Brings `due` forward to a pending neighbour's deadline.
    fn arm(&mut self, place: usize, now: Instant) {
        let Some(record) = self.records.get(place) else { return };
        if !matches!(record.state, state::INCOMPLETE | state::DELAY | state::PROBE) {
            return;
        }
        let ticks = u64::from(record.deadline.wrapping_sub(tick(now)).min(i32::MAX as u32));
        let at = Instant::from_nanos(((now.as_nanos() >> TICK_BITS) + ticks) << TICK_BITS);
        self.due = self.due.min(at);
    }

    fn reachable_until(&self, key: Key, now: Instant) -> u32 {
        let more = (self.hash(key) >> 16) as u32 % 512;
        tick_after(now, REACHABLE_MIN).wrapping_add(more)
    }
}

/// How much a neighbour is worth keeping, least first; among equals, the one longest so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    Empty,
    Incomplete { ticks_left: i32 },
    NeverUsed { ticks_left: i32 },
    Unused { ticks_left: i32 },
    InUse,
}

impl NeighbourRecord {
    fn worth(&self, now: Instant) -> Worth {
        let left = |deadline: u32| deadline.wrapping_sub(tick(now)) as i32;
        match self.state {
            state::EMPTY => Worth::Empty,
            state::INCOMPLETE => Worth::Incomplete { ticks_left: left(self.used) },
            _ if self.used == 0 => Worth::NeverUsed { ticks_left: left(self.deadline) },
            _ => match left(self.used.wrapping_add(ticks(IN_USE))) {
                ticks_left @ ..0 => Worth::Unused { ticks_left },
                _ => Worth::InUse,
            },
        }
    }
}

/// A tick is 2^26 ns, 67 ms: fine enough for a neighbour's timers, and 32 bits of them are nine
/// years.
const TICK_BITS: u32 = 26;

/// The tick of an instant; never 0, which stands for "never".
#[inline]
fn tick(now: Instant) -> u32 {
    ((now.as_nanos() >> TICK_BITS) as u32).max(1)
}

/// The first tick that lies wholly after `now + duration`.
fn tick_after(now: Instant, duration: Duration) -> u32 {
    tick(now + duration).wrapping_add(1)
}

const fn ticks(duration: Duration) -> u32 {
    (duration.as_nanos() >> TICK_BITS) as u32
}

#[inline]
fn is_past(deadline: u32, now: Instant) -> bool {
    tick(now).wrapping_sub(deadline) as i32 >= 0
}

/// Multiplies to 128 bits and folds the halves together.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

//! Waiting until a group is ready, over several pools.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Pools;
use super::failure::Failure;
use super::pool::Pool;
use super::set::{NumberSet, Places, WORDS};
use crate::clock;
use crate::endpoint::{OVERTAKES_MAX, PRIORITIES};
use crate::error::Error;

/// Turns to wait awake for a worker that is about to take something.
const SPINS: u32 = 200;

impl Pools {
    /// Waits until a group of `readable` has something to receive or one of `acceptable` a
    /// connection to accept (`xtcp_select`), or the time is over (`None`: no limit). Leaves only
    /// the ready groups in the sets and answers how many members are left.
    ///
    /// # Errors
    /// [`Failure::NoGroup`] for a member that is not open, [`Failure::Interrupted`], and
    /// [`Failure::Appliance`]. The sets are as they were then.
    pub fn select(
        &mut self,
        mut readable: Option<&mut NumberSet>,
        mut acceptable: Option<&mut NumberSet>,
        timeout: Option<Duration>,
    ) -> Result<usize, Failure> {
        self.watch(readable.as_deref(), acceptable.as_deref())?;
        let mut waiting = Waiting { timeout, deadline: None, spins: 0, gone: false };
        let mut look = false;
        loop {
            let (mut read, mut accept) = ([0; WORDS], [0; WORDS]);
            for pool in self.pools.iter_mut().filter(|pool| pool.watched) {
                if look {
                    pool.turn_looking()?
                } else {
                    pool.turn()?
                }
                add(&mut read, &pool.readable);
                add(&mut accept, &pool.acceptable);
            }
            let count = |set: Option<&NumberSet>, at: &Places| set.map_or(0, |s| s.count_at(at));
            let ready = count(readable.as_deref(), &read) + count(acceptable.as_deref(), &accept);
            let look_first = !std::mem::replace(&mut look, true) && self.has_local();
            if ready == 0 && (look_first || waiting.goes_on(&self.pools)?) {
                continue;
            }
            if let Some(level) =
                self.favoured(readable.as_deref(), &read, acceptable.as_deref(), &accept)
            {
                keep(&mut read, &level);
                keep(&mut accept, &level);
            }
            let ready = count(readable.as_deref(), &read) + count(acceptable.as_deref(), &accept);
            if let Some(set) = &mut readable {
                set.retain(&read);
            }
            if let Some(set) = &mut acceptable {
                set.retain(&accept);
            }
            return Ok(ready);
        }
    }

    /// The places of the highest priority of which something is ready, if it overtakes others now.
    fn favoured(
        &mut self,
        readable: Option<&NumberSet>,
        read: &Places,
        acceptable: Option<&NumberSet>,
        accept: &Places,
    ) -> Option<Places> {
        let at = |set: Option<&NumberSet>, ready: &Places, level: &Places| {
            let mut both = *ready;
            keep(&mut both, level);
            set.is_some_and(|set| set.has_any_at(&both))
        };
        let is_ready = |level: &&Places| at(readable, read, level) || at(acceptable, accept, level);
        let levels = (0..PRIORITIES).rev().filter_map(|priority| self.groups.level(priority));
        let mut ready = levels.filter(is_ready).copied();
        let highest = ready.next()?;
        if ready.next().is_none() || self.overtakes >= OVERTAKES_MAX {
            self.overtakes = 0;
            return None;
        }
        self.overtakes += 1;
        Some(highest)
    }

    /// Whether a watched pool has groups of local clients.
    fn has_local(&self) -> bool {
        let mut watched = self.pools.iter().filter(|pool| pool.watched);
        watched.any(|pool| pool.shared().endpoint.borrow().has_local())
    }

    /// Marks the pools whose groups are in the sets.
    fn watch(
        &mut self,
        readable: Option<&NumberSet>,
        acceptable: Option<&NumberSet>,
    ) -> Result<(), Failure> {
        let sets = || readable.into_iter().chain(acceptable);
        if !sets().all(|set| self.groups.has_all(set)) {
            return Err(Failure::NoGroup);
        }
        for pool in &mut self.pools {
            pool.watched = sets().any(|set| set.has_any_at(&pool.open));
        }
        Ok(())
    }

    /// For a program with an event loop of its own: the file to sleep on until it can be read, and
    /// for how long at most (`None`: no limit). Answers `None` when something is there already: do
    /// not sleep.
    ///
    /// Call this or [`Self::select`] again after the sleep, whatever ended it.
    ///
    /// # Errors
    /// [`Failure::NoPool`] and [`Failure::Appliance`].
    pub fn arm(&mut self, pool: i32) -> Result<Option<(RawFd, Option<Duration>)>, Failure> {
        let pool = self.pool(pool)?;
        loop {
            pool.turn_looking()?;
            if pool.is_ready() {
                return Ok(None);
            }
            if pool.inbox().arm()? {
                let fd = pool.inbox_ref().as_fd().as_raw_fd();
                return Ok(Some((fd, pool.inbox_ref().sleep_max())));
            }
        }
    }
}

fn add(all: &mut Places, some: &Places) {
    for (all, some) in all.iter_mut().zip(some) {
        *all |= some;
    }
}

fn keep(all: &mut Places, some: &Places) {
    for (all, some) in all.iter_mut().zip(some) {
        *all &= some;
    }
}

/// How long a wait has come.
struct Waiting {
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    spins: u32,
    /// A dataplane is gone; what it said last was taken in.
    gone: bool,
}

impl Waiting {
    /// Waits, and says whether to look again: not when the time is over.
    fn goes_on(&mut self, pools: &[Pool]) -> Result<bool, Failure> {
        if self.gone {
            return Err(Error::DataplaneGone.into());
        }
        if self.timeout == Some(Duration::ZERO) {
            return Ok(false);
        }
        let watched = || pools.iter().filter(|pool| pool.watched);
        let settling = |pool: &Pool| pool.shared().endpoint.borrow().is_settling();
        if self.spins < SPINS && watched().any(settling) {
            self.spins += 1;
            std::hint::spin_loop();
            return Ok(true);
        }
        let mut sleep = watched().filter_map(|pool| pool.inbox_ref().sleep_max()).min();
        if let Some(timeout) = self.timeout {
            let now = clock::now();
            // So long that it cannot be said is without limit.
            let deadline = self.deadline.or_else(|| now.checked_add(timeout));
            self.deadline = deadline;
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(now);
                if left.is_zero() {
                    return Ok(false);
                }
                sleep = Some(sleep.map_or(left, |sleep| sleep.min(left)));
            }
        }
        self.sleep(pools, sleep)?;
        Ok(true)
    }

    fn sleep(&mut self, pools: &[Pool], most: Option<Duration>) -> Result<(), Failure> {
        let watched = || pools.iter().filter(|pool| pool.watched).map(Pool::shared);
        for shared in watched() {
            shared.sleeper.announce();
        }
        let something = watched().any(|shared| shared.endpoint.borrow_mut().has_notice());
        let woken = if something {
            Ok(())
        } else {
            let mut files: Vec<PollFd<'_>> = Vec::new();
            files.extend(watched().map(|s| PollFd::from_borrowed_fd(s.sleep_fd(), PollFlags::IN)));
            files.extend(watched().map(|s| PollFd::new(&s.lifeline, PollFlags::empty())));
            let woken = sleep_on(&mut files, most);
            let lifelines = files.iter().skip(files.len() / 2);
            self.gone = lifelines.into_iter().any(|file| !file.revents().is_empty());
            woken
        };
        for shared in watched() {
            shared.sleeper.awake();
        }
        match woken {
            Ok(()) => Ok(()),
            Err(Errno::INTR) => Err(Failure::Interrupted),
            Err(errno) => {
                Err(Error::System { what: "sleep", source: io::Error::from(errno) }.into())
            }
        }
    }
}

fn sleep_on(files: &mut [PollFd<'_>], most: Option<Duration>) -> Result<(), Errno> {
    let most = most.map(|most| Timespec {
        tv_sec: most.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: most.subsec_nanos().into(),
    });
    poll(files, most.as_ref()).map(drop)
}

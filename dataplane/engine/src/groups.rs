//! Connection groups, as the control thread keeps them for all workers.
//!
//! Applications know a group by one handle, given here. Each worker's stack numbers its own
//! groups and pools, and not all alike: a place that one worker can use again still has a
//! connection in TIME-WAIT at another.

use xtcp_ring::message::{Drain, GroupOptions, GroupRecord, Refused};
use xtcp_stack::handle::Gd;

use crate::command::{Ask, Tell};
use crate::engine::{Engine, Group};
use crate::group_config::{group_config, manner, wake};
use crate::refusals::refused_by_stack;

impl Engine {
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// Opens a group at every worker.
    ///
    /// # Errors
    /// No worker has the group then.
    pub(crate) fn open_group(
        &mut self,
        endpoint: u16,
        options: GroupOptions,
    ) -> Result<u32, Refused> {
        if !self.endpoints.contains_key(&endpoint) {
            return Err(Refused::not_there(format!("there is no endpoint {endpoint}")));
        }
        let config = group_config(&options, &self.addresses)?;
        let wake = wake(options.notify)?;
        let group = self.unused_group()?;
        let what = format!("group `{}` on port {}", options.name, options.port);
        // Even if it does not come to be: a worker may have told of it by then.
        self.generations.insert(group.index(), group.generation());
        let mut at_workers = Vec::new();
        for worker in 0..self.workers.len() {
            let why = match self.ask(worker, Ask::OpenGroup { endpoint, group, config, wake }) {
                Ok(Tell::Group(Ok(gd))) => {
                    at_workers.push(gd);
                    continue;
                }
                Ok(Tell::Group(Err(misuse))) => refused_by_stack(&what, misuse),
                Ok(_) => nonsense(worker),
                Err(gone) => Refused::not_now(gone.to_string()),
            };
            for earlier in 0..worker {
                // It has the group: it has just opened it.
                let _ = self.ask(earlier, Ask::CloseGroup { endpoint, group });
            }
            return Err(why);
        }
        let gd = group.to_bits();
        let record = GroupRecord { gd, endpoint, options };
        self.groups.insert(gd, Group { record, at_workers, drain: None });
        Ok(gd)
    }

    /// The lowest place without a group, in its next generation.
    fn unused_group(&self) -> Result<Gd, Refused> {
        let most = self.line.options.groups;
        let taken = |index: u16| self.groups.keys().any(|gd| Gd::from_bits(*gd).index() == index);
        let index = (0..most).find(|index| !taken(*index)).ok_or_else(|| {
            Refused::full(format!(
                "there are {most} groups already, as many as may be (groups in [applications])"
            ))
        })?;
        let last = self.generations.get(&index).copied().unwrap_or(0);
        Ok(Gd::new(index, last % u16::MAX + 1))
    }

    /// Closes a group of an endpoint at every worker.
    ///
    /// # Errors
    /// The endpoint has no such group.
    pub(crate) fn close_group(&mut self, endpoint: u16, gd: u32) -> Result<(), Refused> {
        self.check_owner(endpoint, gd)?;
        self.groups.remove(&gd);
        let group = Gd::from_bits(gd);
        for worker in 0..self.workers.len() {
            match self.ask(worker, Ask::CloseGroup { endpoint, group }) {
                Ok(Tell::Done(Ok(()))) => {}
                Ok(Tell::Done(Err(misuse))) => {
                    return Err(refused_by_stack(&format!("worker {worker}"), misuse));
                }
                Ok(_) => return Err(nonsense(worker)),
                Err(gone) => return Err(Refused::not_now(gone.to_string())),
            }
        }
        Ok(())
    }

    /// Drains a group of an endpoint at every worker, each at its share of the rate.
    ///
    /// # Errors
    /// The endpoint has no such group.
    pub(crate) fn drain_group(
        &mut self,
        endpoint: u16,
        gd: u32,
        drain: Drain,
    ) -> Result<(), Refused> {
        self.check_owner(endpoint, gd)?;
        self.ask_to_drain(endpoint, gd, drain, 0)?;
        if let Some(group) = self.groups.get_mut(&gd) {
            group.drain = Some(drain);
        }
        Ok(())
    }

    /// Where a rate is too low for every worker to have its part, the workers take turns, a
    /// second each. To be called once a second.
    pub(crate) fn turn_drains(&mut self) {
        self.drain_turn = self.drain_turn.wrapping_add(1);
        let slow: Vec<(u16, u32, Drain)> = self
            .groups()
            .filter_map(|group| Some((group, group.drain?)))
            .filter(|(_, drain)| (1..self.workers.len()).contains(&(drain.per_second as usize)))
            .map(|(group, drain)| (group.record.endpoint, group.record.gd, drain))
            .collect();
        for (endpoint, gd, drain) in slow {
            // A worker that has ended is noticed elsewhere.
            let _ = self.ask_to_drain(endpoint, gd, drain, self.drain_turn);
        }
    }

    fn ask_to_drain(
        &self,
        endpoint: u16,
        gd: u32,
        drain: Drain,
        turn: usize,
    ) -> Result<(), Refused> {
        let group = Gd::from_bits(gd);
        let manner = manner(drain.manner);
        for (worker, per_second) in shares(drain.per_second, self.workers.len(), turn).enumerate() {
            match self.ask(worker, Ask::DrainGroup { endpoint, group, per_second, manner }) {
                Ok(Tell::Done(Ok(()))) => {}
                Ok(Tell::Done(Err(misuse))) => {
                    return Err(refused_by_stack(&format!("worker {worker}"), misuse));
                }
                Ok(_) => return Err(nonsense(worker)),
                Err(gone) => return Err(Refused::not_now(gone.to_string())),
            }
        }
        Ok(())
    }

    fn check_owner(&self, endpoint: u16, gd: u32) -> Result<(), Refused> {
        match self.groups.get(&gd) {
            Some(group) if group.record.endpoint == endpoint => Ok(()),
            _ => {
                let group = Gd::from_bits(gd);
                Err(Refused::not_there(format!("endpoint {endpoint} has no group {group:?}")))
            }
        }
    }

    /// The group that a worker knows by this handle.
    pub(crate) fn group_of(&self, worker: usize, at_worker: Gd) -> Option<&Group> {
        self.groups().find(|group| group.at_workers.get(worker) == Some(&at_worker))
    }
}

/// Each worker's share of a rate; together they are the rate. With 0 each is as fast as it can. Who
/// gets what cannot be divided goes on with the turn.
fn shares(per_second: u32, workers: usize, turn: usize) -> impl Iterator<Item = u32> {
    let count = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
    let (even, rest) = (per_second / count, (per_second % count) as usize);
    let first = turn.wrapping_mul(rest) % workers.max(1);
    (0..workers).map(move |worker| match per_second {
        0 => u32::MAX,
        _ => even + u32::from((worker + workers - first) % workers < rest),
    })
}

fn nonsense(worker: usize) -> Refused {
    Refused::not_now(format!("worker {worker} answered something else"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_the_whole_rate_and_nobody_waits_for_ever() {
        let of = |rate, workers, turn| shares(rate, workers, turn).collect::<Vec<_>>();
        assert_eq!(of(10, 4, 0), [3, 3, 2, 2]);
        assert_eq!(of(0, 2, 0), [u32::MAX; 2]);
        for (rate, workers) in [(1, 2), (3, 5), (2, 4), (7, 7), (100, 3), (u32::MAX, 64)] {
            let mut had = vec![false; workers];
            for turn in 0..workers {
                let shares = of(rate, workers, turn);
                let whole: u64 = shares.iter().map(|share| u64::from(*share)).sum();
                assert_eq!(whole, u64::from(rate));
                shares.iter().zip(&mut had).for_each(|(share, had)| *had |= *share > 0);
            }
            assert!(had.iter().all(|had| *had), "{rate} over {workers}: {had:?}");
        }
    }
}

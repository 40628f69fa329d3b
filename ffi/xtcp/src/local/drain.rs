//! Bringing a local group's connections to their end, at a limited rate.

use std::time::{Duration, Instant};

use xtcp_ring::Notice;
use xtcp_ring::layout::kind;

use super::client::Stage;
use super::{Local, find};
use crate::clock;
use crate::group::{Drain, Manner};
use crate::handle::Group;
use crate::inbox::CloseReason;

/// How often to look for clients that have become idle.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How far the draining of a group has come.
#[derive(Debug)]
pub(super) struct Draining {
    drain: Drain,
    /// The next connection may be ended then; `None`: none is left.
    next: Option<Instant>,
}

impl Draining {
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }
}

impl Local {
    /// Takes no more clients for a group and ends its connections little by little.
    pub(crate) fn drain_group(&mut self, group: Group, drain: &Drain) {
        self.close_door(group);
        let Some(open) = self.groups.iter_mut().find(|open| open.gd == group.0) else { return };
        open.draining = Some(Draining { drain: *drain, next: Some(clock::now()) });
    }

    pub(super) fn advance_drains(&mut self, now: Instant) {
        for index in 0..self.groups.len() {
            let Some(group) = self.groups.get(index) else { return };
            let gd = group.gd;
            let Some(Draining { drain, next: Some(next) }) = &group.draining else { continue };
            let (drain, mut next) = (*drain, *next);
            let pause = match drain.per_second {
                0 => Duration::ZERO,
                count => Duration::from_secs(1) / count,
            };
            let mut left = false;
            for cd in self.clients_of(gd) {
                if next > now || !self.has_room() {
                    left = true;
                    break;
                }
                if self.drain_client(cd, drain.manner) {
                    next = next.max(now.checked_sub(pause).unwrap_or(now)) + pause;
                } else {
                    left = true;
                }
            }
            let next = if left {
                Some(if next > now { next } else { now + LOOK_AGAIN })
            } else if self.clients_of(gd).is_empty() && self.has_room() {
                let cd = u64::from(self.worker) << 32;
                self.tell(Notice { kind: kind::DRAINED, gd, cd, ..Notice::default() });
                None
            } else {
                Some(now + LOOK_AGAIN)
            };
            if let Some(draining) = self.groups.get_mut(index).and_then(|g| g.draining.as_mut()) {
                draining.next = next;
            }
        }
    }

    /// A group's clients that are not gone.
    fn clients_of(&self, gd: u32) -> Vec<u64> {
        let clients = self.slots.iter().filter_map(|slot| slot.client.as_ref());
        let there = clients.filter(|client| client.gd == gd && client.stage != Stage::Gone);
        there.map(|client| client.cd).collect()
    }

    /// Ends a connection, if this is its time; `false`: it is not.
    fn drain_client(&mut self, cd: u64, manner: Manner) -> bool {
        let Some(client) = find(&mut self.slots, cd) else { return true };
        match (client.stage, manner) {
            (Stage::Waiting(_), _) => self.end(cd, CloseReason::Refused),
            (_, Manner::Reset) => self.end(cd, CloseReason::Aborted),
            (_, Manner::WhenIdle) if !client.is_idle() => return false,
            _ => {
                client.closing = true;
                self.close_if_done(cd);
                self.rewatch(cd);
                // One whose client has not read everything is ended when it has.
                return self.client(cd).is_none_or(|client| client.stage == Stage::Gone);
            }
        }
        true
    }
}

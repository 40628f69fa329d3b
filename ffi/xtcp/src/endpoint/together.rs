//! Submissions that act together: handed over in one piece, and waited for.

use xtcp_ring::Notice;

use super::Endpoint;
use crate::error::SendError;
use crate::handle::{Connection, worker_of};
use crate::inbox::RefusalReason;
use crate::lane::NoRoom;
use crate::transaction::{PARTS_MAX, Part, TransactionError};

/// Looks at a worker that has not decided yet after which another thread may have the core, and
/// after which it is asked whether anybody is there.
const LOOKS_A_SLICE: u32 = 256;

/// What is known of the batch that is under way. One is at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Together {
    under_way: bool,
    refused: Option<(Connection, RefusalReason)>,
}

impl Endpoint {
    /// Does all parts or none, and waits for the outcome. `is_gone` says whether the dataplane is.
    pub(crate) fn transact(
        &mut self,
        parts: &[Part],
        is_gone: impl Fn() -> bool,
    ) -> Result<(), TransactionError> {
        let Some(worker) = self.check_parts(parts)? else { return Ok(()) };
        // What was sent before on these connections must be known to be taken: a refusal would put
        // it behind what is sent now.
        self.await_worker(worker, &is_gone, |endpoint| {
            let sends = parts.iter().filter(|part| !part.bytes.is_empty());
            let lane = endpoint.lanes.get(usize::from(worker));
            lane.is_none_or(|lane| {
                sends.into_iter().all(|part| !lane.may_be_busy(part.connection.cd))
            })
        })?;
        self.check_parts(parts)?;
        let position = match self.push_together(worker, parts) {
            Ok(position) => position,
            Err(NoRoom) => return Err(TransactionError::Unready(SendError::WouldBlock)),
        };
        self.together = Together { under_way: true, refused: None };
        let waited = self.await_worker(worker, &is_gone, |endpoint| {
            let lane = endpoint.lanes.get(usize::from(worker));
            lane.is_none_or(|lane| lane.is_resolved(position))
        });
        let Together { refused, .. } = std::mem::take(&mut self.together);
        waited?;
        match refused {
            None => Ok(()),
            Some((connection, reason)) => Err(TransactionError::Refused { connection, reason }),
        }
    }

    /// The one worker of all parts, if every part is possible as far as is known here.
    fn check_parts(&self, parts: &[Part]) -> Result<Option<u8>, TransactionError> {
        let Some(first) = parts.first() else { return Ok(None) };
        let worker = worker_of(first.connection.cd);
        if parts.iter().any(|part| worker_of(part.connection.cd) != worker) {
            return Err(TransactionError::SeveralWorkers);
        }
        let unready = TransactionError::Unready;
        let lane = self.lanes.get(usize::from(worker)).ok_or_else(|| unready(SendError::Closed))?;
        let (connections, bytes) = (PARTS_MAX.min(lane.capacity()), lane.piece_max());
        let in_all: usize = parts.iter().map(|part| part.bytes.len()).sum();
        if parts.len() > connections
            || in_all > lane.arena_bytes()
            || parts.iter().any(|part| part.bytes.len() > bytes)
        {
            return Err(TransactionError::TooLarge { connections, bytes });
        }
        for part in parts {
            self.usable(part.connection).map_err(unready)?;
            if part.bytes.is_empty() {
                continue;
            }
            if self.ending.contains_key(&part.connection) {
                return Err(unready(SendError::Closed));
            }
            if self.is_opening(part.connection.cd) {
                return Err(unready(SendError::Behind { waiting: 0 }));
            }
            if let Some(backlog) = self.backlogs.get(&part.connection.cd) {
                return Err(unready(SendError::Behind { waiting: backlog.len() }));
            }
        }
        Ok(Some(worker))
    }

    fn push_together(&mut self, worker: u8, parts: &[Part]) -> Result<u32, NoRoom> {
        self.lanes.get_mut(usize::from(worker)).ok_or(NoRoom)?.push_together(parts)
    }

    /// Looks at a worker until something is so.
    fn await_worker(
        &mut self,
        worker: u8,
        is_gone: &impl Fn() -> bool,
        is_so: impl Fn(&Self) -> bool,
    ) -> Result<(), TransactionError> {
        let mut looks = 0_u32;
        while !is_so(self) {
            if let Some(lane) = self.lanes.get_mut(usize::from(worker)) {
                lane.publish();
                // What is taken in here makes room for what the worker has to say.
                lane.release();
            }
            self.look_at(worker);
            if self.broken.is_some() {
                return Err(TransactionError::Gone);
            }
            looks = looks.wrapping_add(1);
            if looks % LOOKS_A_SLICE == 0 {
                if is_gone() {
                    return Err(TransactionError::Gone);
                }
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        Ok(())
    }

    pub(super) fn on_batch_refused(&mut self, notice: &Notice) -> Result<(), String> {
        if !self.together.under_way {
            return Err("a refusal of what was not asked together".to_owned());
        }
        let connection = Connection { gd: notice.gd, cd: notice.cd };
        self.together.refused = Some((connection, RefusalReason::from_code(notice.reason)));
        Ok(())
    }
}

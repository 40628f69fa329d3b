//! What comes in: notices are checked and sorted by group, and given out in order.

use xtcp_ring::Notice;
use xtcp_ring::layout::kind;

use super::{Ending, Endpoint, Item, Next, Rest, Resuming, SPARE_MAX, Scope};
use crate::clock;
use crate::error::{Error, SendError};
use crate::handle::{Connection, Group, worker_of};
use crate::inbox::{CloseReason, RefusalReason};
use crate::request::{Given, Piece};

impl Endpoint {
    /// One turn: what was asked goes out, what was read makes room, what has come is taken in.
    /// Answers whether anything has come.
    pub(crate) fn turn(&mut self) -> Result<bool, Error> {
        self.check()?;
        for lane in &mut self.lanes {
            lane.publish();
            lane.release();
        }
        let later = std::mem::take(&mut self.later);
        for connection in later {
            if let Some(queue) = self.queue(connection.gd) {
                queue.items.push_back(Item::Again { cd: connection.cd });
            }
        }
        let mut any = false;
        for worker in 0..self.lanes.len() {
            any |= self.look_at(u8::try_from(worker).unwrap_or(u8::MAX));
        }
        self.flush();
        self.check()?;
        Ok(any)
    }

    /// Takes in what a worker tells, and answers whether it told anything. What cannot be breaks
    /// the endpoint.
    pub(super) fn look_at(&mut self, worker: u8) -> bool {
        self.try_look_at(worker).unwrap_or_else(|what| {
            self.broken.get_or_insert((worker, what));
            true
        })
    }

    fn try_look_at(&mut self, worker: u8) -> Result<bool, String> {
        let index = usize::from(worker);
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(false) };
        if lane.overflowing() > lane.capacity() {
            // The worker is far behind: whatever it tells would only make more to ask.
            return Ok(false);
        }
        let mut any = false;
        lane.look().map_err(|corrupt| corrupt.to_string())?;
        while let Some(lane) = self.lanes.get_mut(index) {
            let Some(notice) = lane.next_notice().map_err(|corrupt| corrupt.to_string())? else {
                lane.resolve();
                break;
            };
            self.on_notice(worker, &notice)?;
            any = true;
        }
        Ok(any)
    }

    fn on_notice(&mut self, worker: u8, notice: &Notice) -> Result<(), String> {
        let Notice { cd, gd, .. } = *notice;
        if worker_of(cd) != worker {
            return Err(format!("a notice of worker {}'s connection", worker_of(cd)));
        }
        if notice.kind == kind::SEND_REFUSED {
            self.on_send_refused(notice)?;
            return Ok(());
        }
        if notice.kind == kind::BATCH_REFUSED {
            return self.on_batch_refused(notice);
        }
        if notice.kind == kind::RESUMED {
            return self.on_resumed();
        }
        let piece = Piece { at: notice.at, len: u32::from(notice.len) };
        if notice.kind == kind::DATA {
            self.check_piece(piece, notice.offset)?;
            if !self.ending.is_empty() && self.is_unwanted(Connection { gd, cd }) {
                return Ok(());
            }
        }
        let closed = self.closed.contains(&gd);
        let Some(queue) = self.queues.iter_mut().find(|queue| queue.gd == gd) else {
            return if closed { Ok(()) } else { Err(format!("a notice of unknown group {gd:#x}")) };
        };
        match notice.kind {
            kind::ACCEPTABLE => {
                queue.pending.insert(cd);
                queue.acceptable.push_back(cd);
            }
            kind::OPENED => queue.items.push_back(Item::Opened { cd }),
            kind::DATA => {
                queue.items.push_back(Item::Data { cd, offset: notice.offset, piece });
            }
            kind::FINISHED => queue.items.push_back(Item::Finished { cd }),
            kind::CLOSED => return self.on_closed(notice),
            other => return Err(format!("a notice of kind {other}")),
        }
        Ok(())
    }

    fn on_resumed(&mut self) -> Result<(), String> {
        self.resuming = match self.resuming {
            Resuming::Workers(1) => Resuming::Complete,
            Resuming::Workers(left @ 2..) => Resuming::Workers(left - 1),
            _ => return Err("the end of a list that was not begun".to_owned()),
        };
        Ok(())
    }

    /// Whether these are bytes of a connection the application has ended. If they come after the
    /// end, the client is to know that nobody reads them.
    fn is_unwanted(&mut self, from: Connection) -> bool {
        let Some(ending) = self.ending.get(&from) else { return false };
        if *ending == Ending::Closing && !self.backlogs.contains_key(&from.cd) {
            self.end(from, Ending::Aborting);
        }
        true
    }

    fn on_closed(&mut self, notice: &Notice) -> Result<(), String> {
        let Notice { cd, gd, reason, .. } = *notice;
        let reason = CloseReason::from_code(reason)
            .ok_or_else(|| format!("reason {reason} of a closing"))?;
        let Some(queue) = self.queue(gd) else { return Ok(()) };
        if queue.pending.remove(&cd) {
            // The application never heard of it.
            return Ok(());
        }
        queue.items.push_back(Item::Closed { cd, reason });
        self.gone.insert(cd, notice.offset > 0);
        self.ending.remove(&Connection { gd, cd });
        self.held.remove(&cd);
        self.drop_backlog(cd);
        Ok(())
    }

    fn check_piece(&self, piece: Piece, offset: u64) -> Result<(), String> {
        let len = u64::from(piece.len);
        let end = piece.at.checked_add(len);
        if piece.len == 0 || end.is_none_or(|end| end > self.limits.receive_bytes) {
            return Err(format!(
                "{len} bytes at {} of a receive memory of {}",
                piece.at, self.limits.receive_bytes
            ));
        }
        if offset.checked_add(len).is_none() {
            return Err(format!("{len} bytes at stream offset {offset}"));
        }
        Ok(())
    }

    fn on_send_refused(&mut self, notice: &Notice) -> Result<(), String> {
        let Notice { cd, gd, .. } = *notice;
        let connection = Connection { gd, cd };
        if !self.has_group(connection.group()) || self.gone.contains_key(&cd) {
            return Ok(());
        }
        let reason = RefusalReason::from_code(notice.reason);
        let lane = self.lane(cd).map_err(|error| error.to_string())?;
        let Some((sent, bytes)) = lane.refused(cd, notice.offset) else {
            // Its bytes are gone, and others may have followed them: better no stream than one
            // with a hole.
            self.reset(connection);
            return Ok(());
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let announced = match reason {
            RefusalReason::Closed => {
                self.drop_backlog(cd);
                false
            }
            RefusalReason::ClientBehind | RefusalReason::NoBuffer => {
                self.keep_refused(connection, &bytes, sent.close).map_err(|e| e.to_string())?
            }
        };
        if !announced && let Some(queue) = self.queue(gd) {
            queue.items.push_back(Item::Refused { cd, bytes: bytes.len(), reason });
        }
        Ok(())
    }

    /// Keeps refused bytes for another attempt. Answers whether the application knew already.
    fn keep_refused(
        &mut self,
        connection: Connection,
        bytes: &[u8],
        close: bool,
    ) -> Result<bool, SendError> {
        let now = clock::now();
        let pause = self.limits.retry_pause;
        let backlog = self.backlog(connection)?;
        let put_back = !backlog.is_in_flight();
        if put_back {
            backlog.put_back(bytes);
        }
        backlog.on_refused(bytes.len(), now, pause);
        backlog.close |= close;
        let announced = std::mem::replace(&mut backlog.announced, true);
        if put_back {
            self.backlog_bytes += bytes.len();
        }
        Ok(announced)
    }

    /// The next thing of these groups, what can be accepted first.
    pub(crate) fn next(&mut self, scope: Scope) -> Option<Next> {
        for index in 0..self.queues.len() {
            let gd = self.queues.get(index)?.gd;
            if !scope.includes(gd) {
                continue;
            }
            if let Some(connection) = self.next_acceptable(Group(gd)) {
                return Some(Next::Acceptable(connection));
            }
            while let Some(item) = self.queues.get_mut(index)?.items.pop_front() {
                let next = self.on_item(index, gd, item);
                if let Some(Next::Request(given)) = &next {
                    self.in_hand = Some(given.connection);
                }
                if next.is_some() {
                    return next;
                }
            }
        }
        if matches!(scope, Scope::All) && self.resuming == Resuming::Complete {
            self.resuming = Resuming::Told;
            return Some(Next::Resumed);
        }
        None
    }

    /// The next connection of a group that can be accepted.
    pub(crate) fn next_acceptable(&mut self, group: Group) -> Option<Connection> {
        let queue = self.queue(group.0)?;
        loop {
            let cd = queue.acceptable.pop_front()?;
            if queue.pending.remove(&cd) {
                return Some(Connection { gd: group.0, cd });
            }
        }
    }

    fn on_item(&mut self, index: usize, gd: u32, item: Item) -> Option<Next> {
        let connection = |cd| Connection { gd, cd };
        if self.is_void(gd, item) {
            return None;
        }
        match item {
            Item::Opened { cd } => Some(Next::Opened(connection(cd))),
            Item::Closed { cd, reason } => {
                if self.gone.remove(&cd).unwrap_or(false) {
                    self.give_up(connection(cd));
                }
                Some(Next::Closed(connection(cd), reason))
            }
            Item::Data { cd, offset, piece } => self.on_data(index, connection(cd), offset, piece),
            Item::Again { cd } => {
                let given = self.held.remove(&cd)?;
                Some(Next::Request(self.with_adjacent(index, given)))
            }
            Item::Finished { cd } => match self.held.remove(&cd) {
                None => Some(Next::Finished(connection(cd))),
                Some(mut given) => {
                    given.last = true;
                    Some(Next::Request(given))
                }
            },
            Item::Refused { cd, bytes, reason } => {
                Some(Next::Refused(connection(cd), bytes, reason))
            }
            Item::Drained { cd } => Some(Next::Drained(connection(cd))),
        }
    }

    /// Whether an item has no meaning any more, because its connection is gone or was ended.
    fn is_void(&self, gd: u32, item: Item) -> bool {
        if self.gone.is_empty() && self.ending.is_empty() {
            return false;
        }
        let cd = match item {
            Item::Opened { .. } | Item::Closed { .. } => return false,
            Item::Refused { cd, .. } | Item::Drained { cd } => return self.gone.contains_key(&cd),
            Item::Data { cd, .. } | Item::Again { cd } | Item::Finished { cd } => cd,
        };
        self.gone.contains_key(&cd) || self.ending.contains_key(&Connection { gd, cd })
    }

    /// New bytes: with what is held of the connection, and with the pieces that follow at once.
    fn on_data(
        &mut self,
        index: usize,
        connection: Connection,
        offset: u64,
        piece: Piece,
    ) -> Option<Next> {
        let held = if self.held.is_empty() { None } else { self.held.remove(&connection.cd) };
        let mut given = held.unwrap_or_else(|| {
            Given::new(connection, offset, self.spare.pop().unwrap_or_default())
        });
        if given.end() != offset {
            let what = format!("bytes at stream offset {offset} where {} is next", given.end());
            self.broken.get_or_insert_with(|| (worker_of(connection.cd), what));
            return None;
        }
        given.push(piece);
        Some(Next::Request(self.with_adjacent(index, given)))
    }

    fn with_adjacent(&mut self, index: usize, mut given: Given) -> Given {
        let Some(queue) = self.queues.get_mut(index) else { return given };
        while let Some(Item::Data { cd, offset, piece }) = queue.items.front()
            && *cd == given.connection.cd
            && *offset == given.end()
        {
            given.push(*piece);
            queue.items.pop_front();
        }
        given
    }

    /// The application lets go of a request.
    pub(crate) fn put_down(&mut self, given: Given) {
        let connection = given.connection;
        self.in_hand = None;
        match self.ending.get(&connection) {
            Some(Ending::CloseLater) => self.end(connection, Ending::Closing),
            Some(Ending::AbortLater) => self.end(connection, Ending::Aborting),
            Some(Ending::Closing | Ending::Aborting) => {}
            None => return self.put_down_open(given),
        }
        self.reuse(given);
    }

    fn put_down_open(&mut self, given: Given) {
        let connection = given.connection;
        if self.gone.contains_key(&connection.cd) {
            // Its bytes are given up with its `Closed`.
        } else if given.last && (given.is_empty() || given.rest == Rest::Hold) {
            // Nothing more will come, and what is left is not wanted again: this was the end.
            if let Some(queue) = self.queue(connection.gd) {
                queue.items.push_front(Item::Finished { cd: connection.cd });
            }
        } else if !given.is_empty() && self.has_group(connection.group()) {
            self.hold(given);
            return;
        }
        self.reuse(given);
    }

    fn reuse(&mut self, given: Given) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(given.into_list());
        }
    }

    fn hold(&mut self, given: Given) {
        let connection = given.connection;
        let again = match given.rest {
            Rest::Hold => false,
            Rest::Again => true,
            // It may have drained while the request was in hand.
            Rest::WhenDrained => !self.backlogs.contains_key(&connection.cd),
        };
        if again {
            self.later.push(connection);
        }
        self.held.insert(connection.cd, given);
    }
}

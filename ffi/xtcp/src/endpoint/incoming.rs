//! What comes in: notices are checked and sorted by group, and given out in order.

use std::ops::Range;

use xtcp_ring::Notice;
use xtcp_ring::layout::kind;

use super::queues::Taken;
use super::{Ending, Endpoint, Item, Next, Rest, Resuming, SPARE_MAX, Scope};
use crate::clock;
use crate::error::{Error, SendError};
use crate::handle::{Connection, Group, worker_of};
use crate::inbox::{CloseReason, RefusalReason};
use crate::request::{Given, Piece};

impl Endpoint {
    /// One turn: what was asked goes out, what was read makes room, what has come is taken in.
    /// `look` asks the kernel for news of local clients, too. Answers whether anything has come.
    pub(crate) fn turn(&mut self, look: bool) -> Result<bool, Error> {
        self.check()?;
        for lane in &mut self.lanes {
            lane.publish();
            lane.release();
        }
        let later = std::mem::take(&mut self.later);
        for connection in later {
            self.queues.push(connection.gd, Item::Again { cd: connection.cd });
        }
        let mut any = false;
        for worker in 0..self.workers {
            any |= self.look_at(u8::try_from(worker).unwrap_or(u8::MAX));
        }
        any |= self.turn_local(look, any);
        self.flush();
        self.check()?;
        Ok(any)
    }

    /// Takes in what a worker tells, and answers whether it told anything. What cannot be breaks
    /// the endpoint.
    pub(super) fn look_at(&mut self, worker: u8) -> bool {
        if self.is_local_worker(worker) {
            self.serve_local();
        }
        self.try_look_at(worker).unwrap_or_else(|what| {
            self.broken.get_or_insert((worker, what));
            true
        })
    }

    fn try_look_at(&mut self, worker: u8) -> Result<bool, String> {
        let index = usize::from(worker);
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(false) };
        if lane.overflowing() > lane.capacity() && !lane.is_full_of_notices() {
            // The worker is far behind: whatever it tells would only make more to ask. But one
            // that can tell nothing more takes nothing more, either.
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
            self.check_piece(worker, piece, notice.offset)?;
            if !self.ending.is_empty() && self.is_unwanted(Connection { gd, cd }) {
                return Ok(());
            }
            // All that has come is looked at before any of it is given: then it is at hand.
            self.receive.prefetch(notice.at);
        }
        let is_known = match notice.kind {
            kind::ACCEPTABLE => self.queues.offer(gd, cd),
            kind::OPENED => {
                if self.opening.remove(&cd).is_some() {
                    self.begin_sending(Connection { gd, cd });
                }
                self.queues.push(gd, Item::Opened { cd })
            }
            kind::DATA => self.queues.push(gd, Item::Data { cd, offset: notice.offset, piece }),
            kind::FINISHED => self.queues.push(gd, Item::Finished { cd }),
            kind::CLOSED => self.on_closed(notice)?,
            kind::DRAINED => self.on_group_drained(gd, worker),
            other => return Err(format!("a notice of kind {other}")),
        };
        if is_known || self.closed.contains(&gd) {
            Ok(())
        } else {
            Err(format!("a notice of unknown group {gd:#x}"))
        }
    }

    /// A worker has no connection of a drained group any more.
    fn on_group_drained(&mut self, gd: u32, worker: u8) -> bool {
        let all =
            if self.is_local_worker(worker) { worker..worker + 1 } else { self.all_workers() };
        if self.queues.on_drained(gd, worker, all) {
            self.queues.push(gd, Item::GroupDrained);
        }
        self.queues.contains(gd)
    }

    /// The numbers of the appliance's workers.
    fn all_workers(&self) -> Range<u8> {
        0..u8::try_from(self.workers).unwrap_or(u8::MAX)
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

    /// A connection is gone. Answers whether its group is here.
    fn on_closed(&mut self, notice: &Notice) -> Result<bool, String> {
        let Notice { cd, gd, reason, .. } = *notice;
        let reason = CloseReason::from_code(reason)
            .ok_or_else(|| format!("reason {reason} of a closing"))?;
        if self.queues.withdraw(gd, cd) {
            // The application never heard of it.
            return Ok(true);
        }
        if !self.queues.push(gd, Item::Closed { cd, reason }) {
            return Ok(false);
        }
        self.opening.remove(&cd);
        self.gone.insert(cd, notice.offset > 0);
        self.ending.remove(&Connection { gd, cd });
        self.held.remove(&cd);
        self.drop_backlog(cd);
        Ok(true)
    }

    fn check_piece(&self, worker: u8, piece: Piece, offset: u64) -> Result<(), String> {
        if self.is_local_worker(worker) {
            // The library wrote this itself, and where these bytes lie is looked up when they are
            // read.
            return Ok(());
        }
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
        if self.usable(connection).is_err() {
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
                let waiting = self.drop_backlog(cd).and_then(|backlog| backlog.acknowledge);
                self.acknowledge_alone(connection, waiting);
                false
            }
            RefusalReason::ClientBehind | RefusalReason::NoBuffer => {
                self.keep_refused(connection, &bytes, sent.close).map_err(|e| e.to_string())?
            }
        };
        if !announced {
            self.queues.push(gd, Item::Refused { cd, bytes: bytes.len(), reason });
        }
        if reason == RefusalReason::Closed {
            // What waited is lost, and says `Drained` no more.
            self.give_what_waited(connection);
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
        let waiting = backlog.acknowledge.take();
        if put_back {
            self.backlog_bytes += bytes.len();
        }
        self.acknowledge_alone(connection, waiting);
        Ok(announced)
    }

    /// An acknowledgement that was to go with bytes does not wait for them any more.
    pub(super) fn acknowledge_alone(&mut self, to: Connection, waiting: Option<u64>) {
        if let Some(offset) = waiting
            && let Ok(lane) = self.lane(to.cd)
        {
            lane.acknowledge(to, offset);
        }
    }

    /// The next thing of these groups: of the one whose turn it is, what can be accepted first.
    pub(crate) fn next(&mut self, scope: Scope) -> Option<Next> {
        if let Scope::Only(group) = scope {
            return self.next_of(group);
        }
        while let Some(gd) = self.queues.turn() {
            let next = self.next_of(Group(gd));
            if next.is_some() {
                return next;
            }
        }
        if self.resuming == Resuming::Complete {
            self.resuming = Resuming::Told;
            return Some(Next::Resumed);
        }
        None
    }

    fn next_of(&mut self, group: Group) -> Option<Next> {
        loop {
            let next = match self.queues.take(group.0)? {
                Taken::Acceptable(cd) => Some(Next::Acceptable(Connection { gd: group.0, cd })),
                Taken::Item(item) => self.on_item(group.0, item),
            };
            if next.is_some() {
                return next;
            }
        }
    }

    /// The next connection of a group that can be accepted.
    pub(crate) fn next_acceptable(&mut self, group: Group) -> Option<Connection> {
        let cd = self.queues.next_acceptable(group.0)?;
        Some(Connection { gd: group.0, cd })
    }

    fn on_item(&mut self, gd: u32, item: Item) -> Option<Next> {
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
                self.ended.insert(cd);
                Some(Next::Closed(connection(cd), reason))
            }
            Item::Data { cd, offset, piece } => self.on_data(connection(cd), offset, piece),
            Item::Again { cd } => {
                let mut given = self.held.remove(&cd)?;
                self.add_adjacent(&mut given);
                Some(self.hand_over(given))
            }
            Item::Finished { cd } => match self.held.remove(&cd) {
                None => Some(Next::Finished(connection(cd))),
                Some(mut given) => {
                    given.last = true;
                    Some(self.hand_over(given))
                }
            },
            Item::Refused { cd, bytes, reason } => {
                Some(Next::Refused(connection(cd), bytes, reason))
            }
            Item::Drained { cd } => Some(Next::Drained(connection(cd))),
            Item::GroupDrained => Some(Next::GroupDrained(Group(gd))),
        }
    }

    /// Whether an item has no meaning any more, because its connection is gone or was ended.
    fn is_void(&self, gd: u32, item: Item) -> bool {
        if self.gone.is_empty() && self.ending.is_empty() {
            return false;
        }
        let cd = match item {
            Item::Opened { .. } | Item::Closed { .. } | Item::GroupDrained => return false,
            Item::Refused { cd, .. } | Item::Drained { cd } => return self.gone.contains_key(&cd),
            Item::Data { cd, .. } | Item::Again { cd } | Item::Finished { cd } => cd,
        };
        self.gone.contains_key(&cd) || self.ending.contains_key(&Connection { gd, cd })
    }

    /// New bytes: with what is held of the connection, and with the pieces that follow at once.
    fn on_data(&mut self, connection: Connection, offset: u64, piece: Piece) -> Option<Next> {
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
        self.add_adjacent(&mut given);
        Some(self.hand_over(given))
    }

    /// The application has a request in hand from now on.
    fn hand_over(&mut self, given: Given) -> Next {
        self.in_hand = Some(given.connection);
        Next::Request(given)
    }

    /// Adds the pieces that follow at once.
    fn add_adjacent(&mut self, given: &mut Given) {
        let Connection { gd, cd: of } = given.connection;
        loop {
            let end = given.end();
            let next = self.queues.pop_if(
                gd,
                |item| matches!(item, Item::Data { cd, offset, .. } if *cd == of && *offset == end),
            );
            let Some(Item::Data { piece, .. }) = next else { return };
            given.push(piece);
        }
    }

    /// The application lets go of a request; it is empty then.
    pub(crate) fn put_down(&mut self, given: &mut Given) {
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

    fn put_down_open(&mut self, given: &mut Given) {
        let connection = given.connection;
        if self.gone.contains_key(&connection.cd) {
            // Its bytes are given up with its `Closed`.
        } else if given.last && (given.is_empty() || given.rest == Rest::Hold) {
            // Nothing more will come, and what is left is not wanted again: this was the end.
            self.queues.push_front(connection.gd, Item::Finished { cd: connection.cd });
        } else if !given.is_empty() && self.has_group(connection.group()) {
            self.hold(given.take());
            return;
        }
        self.reuse(given);
    }

    fn reuse(&mut self, given: &mut Given) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(given.take_list());
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

//! The application: what it does, rightly and wrongly, and what it must be told.

use std::net::SocketAddr;

use xtcp_stack::{Cd, Event, Gd, Manner, Misuse, State};

use super::choices::Choices;
use super::client::byte_at;
use super::scarcity::group_config;
use super::{CLIENTS, Known, PORTS, QUEUE, World};

impl World<'_, '_> {
    /// The application takes its events and does something about each.
    pub(super) fn application(&mut self, choices: &mut Choices<'_>) {
        for _ in 0..choices.below(12) {
            let Some(event) = self.stack.poll_event(QUEUE) else {
                self.assert_none_vanished();
                break;
            };
            self.on_event(event, choices);
        }
        for _ in 0..choices.below(6) {
            let known: Vec<Cd> = self.sorted();
            if known.is_empty() {
                return;
            }
            let connection = known[choices.below(known.len())];
            self.verb(connection, choices);
        }
    }

    /// When all is told, whoever was not told to be gone is there.
    pub(super) fn assert_none_vanished(&self) {
        for connection in self.known.keys() {
            let there = self.stack.connection(*connection);
            assert!(there.is_ok(), "the end of {connection:?} was never told");
        }
    }

    pub(super) fn sorted(&self) -> Vec<Cd> {
        let mut known: Vec<Cd> = self.known.keys().copied().collect();
        known.sort_unstable();
        known
    }

    pub(super) fn on_event(&mut self, event: Event, choices: &mut Choices<'_>) {
        match event {
            Event::Acceptable { group, connection } => {
                self.meet(group, connection);
                let _ = match choices.below(5) {
                    0 => self.stack.refuse(group, connection, self.now),
                    1 => Ok(()),
                    _ => self.stack.accept(group, connection, self.now),
                };
            }
            Event::Opened { group, connection } => self.meet(group, connection),
            Event::Data { connection, at, len, offset, .. } => {
                self.take(connection, at, len, offset);
            }
            Event::Finished { connection, offset, .. } => {
                let known = self.known[&connection];
                assert_eq!(offset, known.given, "I1: the stream ends where it was given");
            }
            Event::Closed { group, connection, held, .. } => {
                let known = self.known.remove(&connection).expect("it was told of");
                assert_eq!(u64::from(held), known.given - known.committed);
                if held > 0 {
                    self.stack
                        .commit(group, connection, known.given, false, self.now)
                        .expect("held");
                }
            }
            Event::Drained { group } => self.on_drained(group),
        }
    }

    pub(super) fn meet(&mut self, group: Gd, connection: Cd) {
        self.handles.push(connection);
        let committed = self.left.get(&connection).copied().unwrap_or(0);
        self.known.entry(connection).or_insert(Known { group, given: committed, committed });
    }

    /// I1: pieces follow each other and are what the client sent.
    pub(super) fn take(&mut self, connection: Cd, at: u64, len: u16, offset: u64) {
        let info = self.stack.connection(connection).expect("open");
        let known = self.known.get_mut(&connection).expect("it was told of");
        assert_eq!(offset, known.given, "I1: pieces follow each other");
        known.given += u64::from(len);
        let bytes = self.stack.received(self.pool, at, len);
        assert_eq!(bytes.len(), usize::from(len));
        let client = self.clients.iter().find(|client| client.port == info.remote.port());
        let client = client.expect("one of ours");
        let fits = |start: &u32| {
            let from = start.wrapping_add(1).wrapping_add((offset & 0xffff_ffff) as u32);
            bytes
                .iter()
                .zip(0..)
                .all(|(byte, n)| *byte == byte_at(client.port, from.wrapping_add(n)))
        };
        assert!(client.starts.iter().any(fits), "I1: bytes nobody sent, at {offset}");
    }

    pub(super) fn verb(&mut self, connection: Cd, choices: &mut Choices<'_>) {
        let group = self.known[&connection].group;
        let now = self.now;
        match choices.below(8) {
            0 => {
                // With something unread it is an abort; without, there is nothing to give up.
                let closed = self.stack.close(group, connection, now);
                self.give_up(connection, closed);
            }
            1 if choices.below(3) == 0 => {
                let aborted = self.stack.abort(group, connection, now);
                self.give_up(connection, aborted);
            }
            2..=4 => {
                let text = vec![0x5a; choices.below(5000)];
                let _ = self.stack.send(group, connection, text.as_slice(), now);
            }
            _ => {
                let Some(known) = self.known.get_mut(&connection) else { return };
                let open = usize::try_from(known.given - known.committed).unwrap_or(0);
                let up_to = known.committed + choices.below(open + 1) as u64;
                let again = choices.below(4) == 0;
                let result = self.stack.commit(group, connection, up_to, again, now);
                if let (Ok(()), Ok(info)) = (result, self.stack.connection(connection)) {
                    known.committed = up_to;
                    // Of a connection that is gone nothing is given again.
                    let given_again = again && info.state != State::Closed;
                    known.given = if given_again { up_to } else { known.given };
                }
                let _ = self.stack.commit(group, connection, up_to + 1 + open as u64, false, now);
            }
        }
    }

    /// What the application was given it will not look at again.
    pub(super) fn give_up(&mut self, connection: Cd, result: Result<(), Misuse>) {
        if let (Ok(()), Some(known)) = (result, self.known.get_mut(&connection)) {
            known.committed = known.given;
        }
    }

    /// Handles of nothing, of other groups, of other times.
    pub(super) fn wrong_verb(&mut self, choices: &mut Choices<'_>) {
        let connection = match choices.below(3) {
            0 => Cd::from_bits(u64::from(choices.word()) << 32 | u64::from(choices.word())),
            1 => Cd::new(3, choices.byte().into(), choices.byte().into()),
            _ if self.handles.is_empty() => return,
            _ => self.handles[choices.below(self.handles.len())],
        };
        if self.known.contains_key(&connection) {
            return;
        }
        let group = match choices.below(2) {
            0 => Gd::from_bits(choices.word()),
            _ => self.groups[choices.below(self.groups.len())],
        };
        let now = self.now;
        if self.stack.connection(connection).is_ok_and(|info| info.group == group) {
            // A lucky guess: the application is not told of it yet.
            return;
        }
        let before = self.stack.usage();
        assert!(self.stack.send(group, connection, b"x".as_slice(), now).is_err());
        assert!(self.stack.commit(group, connection, u64::MAX, true, now).is_err());
        assert!(self.stack.accept(group, connection, now).is_err());
        assert!(self.stack.refuse(group, connection, now).is_err());
        assert!(self.stack.close(group, connection, now).is_err());
        assert!(self.stack.abort(group, connection, now).is_err());
        assert_eq!(self.stack.usage(), before, "a wrong handle changes nothing");
    }

    pub(super) fn groups_come_and_go(&mut self, choices: &mut Choices<'_>) {
        if choices.below(4) != 0 {
            return;
        }
        self.deliver();
        let at = choices.below(PORTS.len());
        let closed = self.groups[at];
        if choices.below(4) == 0 {
            let memory = self.stack.close_pool(self.pool, self.now).expect("open");
            self.pool = self.stack.open_pool(memory).expect("room");
            self.known.clear();
            for (at, group) in self.groups.iter_mut().enumerate() {
                *group = self
                    .stack
                    .open_group(self.pool, QUEUE, &group_config(at, self.congestion))
                    .expect("room");
            }
        } else {
            self.stack.close_group(closed, self.now).expect("open");
            self.known.retain(|_, known| known.group != closed);
            let again = self
                .stack
                .open_group(self.pool, QUEUE, &group_config(at, self.congestion))
                .expect("room");
            assert_eq!(again.index(), closed.index(), "all workers choose the same place");
            self.groups[at] = again;
        }
        self.deliver();
    }

    /// A group sends its connections away, fast or slowly or not at all.
    pub(super) fn drain(&mut self, choices: &mut Choices<'_>) {
        let group = self.groups[choices.below(PORTS.len())];
        let rate = u32::from(choices.byte()) * u32::from(choices.byte());
        let manner = [Manner::WhenIdle, Manner::Close, Manner::Reset][choices.below(3)];
        self.stack.drain_group(group, rate, manner, self.now).expect("open");
    }

    /// All of its connections were told to be gone; another group takes its place.
    pub(super) fn on_drained(&mut self, group: Gd) {
        assert!(self.known.values().all(|known| known.group != group), "one of them is left");
        let info = self.stack.groups().find(|info| info.group == group).expect("open");
        assert_eq!((info.connections, info.draining), (0, true));
        let at = self.groups.iter().position(|known| *known == group).expect("ours");
        self.stack.close_group(group, self.now).expect("open");
        self.groups[at] = self
            .stack
            .open_group(self.pool, QUEUE, &group_config(at, self.congestion))
            .expect("room");
    }

    pub(super) fn connect(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        let group = self.groups[choices.below(self.groups.len())];
        let remote = SocketAddr::new(Self::address(at), self.clients[at].port);
        if let Ok(connection) = self.stack.connect(group, remote, self.now) {
            self.calls += 1;
            self.meet(group, connection);
            let local = self.stack.connection(connection).expect("it is there").local;
            self.clients[at].server_port = local.port();
        }
        self.deliver();
    }
}

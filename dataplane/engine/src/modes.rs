//! What the dataplane can do without an application: a TCP echo, and an answerer for load tests.
//!
//! Both live off the stack's public interface like any application, and keep its law: nothing is
//! acknowledged before its answer is queued. A send that is refused leaves the bytes
//! unacknowledged and is made up for later.

use core::time::Duration;

use xtcp_stack::buffer::PAGE;
use xtcp_stack::config::GroupConfig;
use xtcp_stack::event::Event;
use xtcp_stack::handle::{Cd, Gd, PoolId, QueueId};
use xtcp_stack::time::Instant;
use xtcp_stack::world::Payload;
use xtcp_stack::{Misuse, Stack};

/// Events taken per turn.
const EVENTS_PER_TURN: usize = 256;

/// Connections that may wait for room to send at once; further ones are reset.
const WAITING_MAX: usize = 4096;

/// How long a connection waits before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// The queue of the built-in application; there is no other.
const QUEUE: QueueId = QueueId(0);

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// The same bytes.
    Echo,
    /// `answer` bytes for every `request` bytes.
    Answer { request: u32, answer: u32 },
}

/// A connection whose answer was refused.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    group: Gd,
    connection: Cd,
    /// From here the stream is to be given again.
    from: u64,
    /// It has been asked for; what is given from now on counts.
    asked: bool,
    /// The peer has ended its stream here.
    end: Option<u64>,
}

/// The built-in application of one worker.
#[derive(Debug)]
pub(crate) struct Builtin {
    behaviour: Behaviour,
    pool: PoolId,
    waiting: Vec<Waiting>,
    retry_at: Instant,
    /// A copy of received bytes: they lie in the stack that is asked to send them.
    copy: Box<[u8; PAGE]>,
}

impl Builtin {
    /// Opens the pool over `receive`, and the group.
    pub(crate) fn open(
        behaviour: Behaviour,
        group: &GroupConfig,
        receive: &'static mut [u8],
        stack: &mut Stack<'static>,
    ) -> Result<Self, Misuse> {
        let pool = stack.open_pool(receive).map_err(|(misuse, _)| misuse)?;
        stack.open_group(pool, QUEUE, group)?;
        Ok(Self {
            behaviour,
            pool,
            waiting: Vec::with_capacity(WAITING_MAX),
            retry_at: Instant::NEVER,
            copy: Box::new([0; PAGE]),
        })
    }

    /// Answers what there is. Says how many events there were.
    pub(crate) fn turn(&mut self, stack: &mut Stack<'static>, now: Instant) -> usize {
        if now >= self.retry_at {
            self.retry(stack, now);
        }
        for done in 0..EVENTS_PER_TURN {
            let Some(event) = stack.poll_event(QUEUE) else { return done };
            self.on_event(event, stack, now);
        }
        EVENTS_PER_TURN
    }

    fn on_event(&mut self, event: Event, stack: &mut Stack<'static>, now: Instant) {
        match event {
            // The group accepts by itself and nobody drains it: these say nothing to us.
            Event::Acceptable { .. } | Event::Opened { .. } | Event::Drained { .. } => {}
            Event::Data { group, connection, at, len, offset } => {
                self.on_data(group, connection, (at, len, offset), stack, now);
            }
            Event::Finished { group, connection, offset } => match self.waits(connection) {
                Some(place) => self.waiting[place].end = Some(offset),
                None => end(group, connection, stack, now),
            },
            Event::Closed { group, connection, .. } => {
                if let Some(place) = self.waits(connection) {
                    self.waiting.swap_remove(place);
                }
                // Gives back what was received and cannot be answered any more.
                let _ = stack.abort(group, connection, now);
            }
        }
    }

    fn on_data(
        &mut self,
        group: Gd,
        connection: Cd,
        (at, len, offset): (u64, u16, u64),
        stack: &mut Stack<'static>,
        now: Instant,
    ) {
        let place = self.waits(connection);
        if let Some(place) = place {
            // What was given before the bytes were asked for once more comes again in its turn.
            if !self.waiting[place].asked {
                return;
            }
        }
        let (answered, refused) = self.answer(group, connection, (at, len, offset), stack, now);
        match refused {
            None => {
                if let Some(place) = place {
                    self.go_on(place, offset + u64::from(len), stack, now);
                }
            }
            Some(Misuse::NoBuffer | Misuse::SendQueueFull) => {
                let waiting =
                    Waiting { group, connection, from: answered, asked: false, end: None };
                if !self.wait(waiting, place) {
                    let _ = stack.abort(group, connection, now);
                }
                self.retry_at = self.retry_at.min(now + RETRY_AFTER);
            }
            // The connection is gone or going; its last event comes or has come.
            Some(_) => {}
        }
    }

    /// Sends what the bytes deserve, and commits what is answered. Says up to where that is, and why
    /// no further.
    fn answer(
        &mut self,
        group: Gd,
        connection: Cd,
        (at, len, offset): (u64, u16, u64),
        stack: &mut Stack<'static>,
        now: Instant,
    ) -> (u64, Option<Misuse>) {
        let given_up_to = offset + u64::from(len);
        match self.behaviour {
            Behaviour::Echo => {
                let copy = &mut self.copy[..usize::from(len)];
                copy.copy_from_slice(stack.received(self.pool, at, len));
                match stack.answer(group, connection, given_up_to, &*copy, now) {
                    Ok(()) => (given_up_to, None),
                    Err(misuse) => (offset, Some(misuse)),
                }
            }
            Behaviour::Answer { request, answer } => {
                let request = u64::from(request);
                let pattern = Pattern { bytes: answer as usize };
                for number in offset / request..given_up_to / request {
                    let up_to = (number + 1) * request;
                    if let Err(misuse) = stack.answer(group, connection, up_to, &pattern, now) {
                        return (number * request, Some(misuse));
                    }
                }
                (given_up_to / request * request, None)
            }
        }
    }

    /// A connection that waited has been answered up to `from`.
    fn go_on(&mut self, place: usize, from: u64, stack: &mut Stack<'static>, now: Instant) {
        let Waiting { group, connection, end: ends_at, .. } = self.waiting[place];
        self.waiting[place].from = from;
        match ends_at {
            Some(ends_at) if ends_at > from => {}
            Some(_) => {
                self.waiting.swap_remove(place);
                end(group, connection, stack, now);
            }
            None => drop(self.waiting.swap_remove(place)),
        }
    }

    fn waits(&self, connection: Cd) -> Option<usize> {
        self.waiting.iter().position(|waiting| waiting.connection == connection)
    }

    /// Puts it where it already waits, or at the end; `false` if there is no room.
    fn wait(&mut self, waiting: Waiting, place: Option<usize>) -> bool {
        match place {
            Some(place) => {
                let end = self.waiting[place].end;
                self.waiting[place] = Waiting { end, ..waiting };
            }
            None if self.waiting.len() < WAITING_MAX => self.waiting.push(waiting),
            None => return false,
        }
        true
    }

    /// Asks for the bytes whose answers were refused once more.
    fn retry(&mut self, stack: &mut Stack<'static>, now: Instant) {
        self.retry_at = Instant::NEVER;
        for waiting in self.waiting.iter_mut().filter(|waiting| !waiting.asked) {
            let Waiting { group, connection, from, .. } = *waiting;
            waiting.asked = stack.commit(group, connection, from, true, now).is_ok();
        }
    }
}

/// The peer has ended and everything is answered: end, too.
fn end(group: Gd, connection: Cd, stack: &mut Stack<'static>, now: Instant) {
    // A stale handle only says that the connection has gone meanwhile.
    let _ = stack.close(group, connection, now);
}

/// Answers of the mode answer: the letters, over and over.
struct Pattern {
    bytes: usize,
}

impl Payload for Pattern {
    fn len(&self) -> usize {
        self.bytes
    }

    fn copy_to(&self, at: usize, into: &mut [u8]) {
        for (offset, byte) in into.iter_mut().enumerate() {
            *byte = b'a' + ((at + offset) % 26) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use xtcp_stack::config::Acknowledge;

    use super::*;
    use crate::test_world::{LISTEN, World, group, memory};

    fn scene(behaviour: Behaviour) -> (World, Builtin) {
        let mut world = World::new();
        let config = GroupConfig {
            acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
            ..group(LISTEN)
        };
        let builtin =
            Builtin::open(behaviour, &config, memory(1 << 20), &mut world.server).unwrap();
        let client = world.connect(LISTEN);
        world.opened(client);
        (world, builtin)
    }

    /// Both sides work until `done`, or for 2000 rounds of two milliseconds. Says in how many
    /// rounds a connection waited.
    fn run(
        world: &mut World,
        builtin: &mut Builtin,
        mut done: impl FnMut(&mut World) -> bool,
    ) -> usize {
        let mut waited = 0;
        for _ in 0..2000 {
            world.exchange();
            builtin.turn(&mut world.server, world.now);
            waited += builtin.waiting.len();
            if done(world) {
                return waited;
            }
        }
        panic!("it did not come to its end: {} received", world.client_received().len());
    }

    #[test]
    fn an_echo_larger_than_the_send_queue_comes_back_whole_and_then_ends() {
        let (mut world, mut builtin) = scene(Behaviour::Echo);
        run(&mut world, &mut builtin, World::client_is_open);
        let sent: Vec<u8> = (0..200_000_u32).map(|at| (at * 7 + at / 251) as u8).collect();
        world.client_sends(&sent);
        let waited =
            run(&mut world, &mut builtin, |world| world.client_received().len() == sent.len());
        assert!(waited > 0, "the send queue was never full: this tests nothing");
        assert_eq!(world.client_received(), sent);
        assert!(builtin.waiting.is_empty());
        world.client_closes();
        run(&mut world, &mut builtin, |world| world.server.connections().count() == 0);
    }

    #[test]
    fn a_full_send_queue_makes_its_connection_wait_and_no_other() {
        let (mut world, mut builtin) = scene(Behaviour::Answer { request: 4, answer: 16_000 });
        run(&mut world, &mut builtin, World::client_is_open);
        world.client_sends(b"1111222233334444");
        world.exchange();
        builtin.turn(&mut world.server, world.now);
        assert_eq!(builtin.waiting.len(), 1, "the queue has room for one answer of four");
        run(&mut world, &mut builtin, |world| world.client_received().len() == 64_000);
        run(&mut world, &mut builtin, |world| world.client_unacknowledged() == 0);
        assert!(builtin.waiting.is_empty());
    }

    #[test]
    fn requests_are_answered_when_they_are_complete_and_not_acknowledged_before() {
        let (mut world, mut builtin) = scene(Behaviour::Answer { request: 10, answer: 3 });
        run(&mut world, &mut builtin, World::client_is_open);
        world.client_sends(b"123456789");
        for _ in 0..20 {
            world.exchange();
            builtin.turn(&mut world.server, world.now);
        }
        assert_eq!(world.client_received(), b"");
        assert_eq!(world.client_unacknowledged(), 9);
        world.client_sends(b"0123456789012345");
        run(&mut world, &mut builtin, |world| world.client_received().len() == 6);
        run(&mut world, &mut builtin, |world| world.client_unacknowledged() == 5);
        assert_eq!(world.client_received(), b"abcabc");
    }
}

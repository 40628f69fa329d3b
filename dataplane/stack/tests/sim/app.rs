//! Applications for simulated hosts: streams of known bytes in both directions, every byte
//! compared.

use std::collections::HashMap;

use xtcp_stack::{Cd, Event, Instant, Misuse, QueueId, Reason};

use super::rng::{Rng, pattern};
use super::{Host, QUEUE};

/// How an application treats what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Commits every piece when it gets it.
    Prompt,
    /// Commits a random part of what it has, and asks for the rest again now and then.
    Sloppy,
    /// Lets what it has lie for a good while.
    Slow,
}

/// One connection as its application sees it.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Names the bytes sent and the bytes expected.
    pub(crate) send_key: u64,
    pub(crate) receive_key: u64,
    pub(crate) to_send: u64,
    pub(crate) to_receive: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) committed: u64,
    pub(crate) opened: bool,
    pub(crate) finished: bool,
    pub(crate) closing: bool,
    pub(crate) closed: Option<Reason>,
}

impl Stream {
    pub(crate) fn new(keys: (u64, u64), to_send: u64, to_receive: u64) -> Self {
        Self {
            send_key: keys.0,
            receive_key: keys.1,
            to_send,
            to_receive,
            sent: 0,
            received: 0,
            committed: 0,
            opened: false,
            finished: false,
            closing: false,
            closed: None,
        }
    }

    fn is_done(&self) -> bool {
        self.sent == self.to_send && self.committed == self.to_receive
    }
}

/// The application of one host.
pub(crate) struct App {
    pub(crate) streams: HashMap<Cd, Stream>,
    pub(crate) ended: Vec<Stream>,
    habit: Habit,
    rng: Rng,
    /// Where its events come from.
    pub(crate) queue: QueueId,
    /// Times it was told that its group is drained.
    pub(crate) drained: u32,
    /// Makes the stream of a client that arrives: by its port, which both sides know.
    pub(crate) arriving: Option<Box<dyn Fn(u16) -> Stream>>,
}

impl App {
    pub(crate) fn new(habit: Habit, seed: u64) -> Self {
        Self {
            streams: HashMap::new(),
            ended: Vec::new(),
            habit,
            rng: Rng::new(seed),
            queue: QUEUE,
            drained: 0,
            arriving: None,
        }
    }

    /// Takes all events, sends what can be sent, closes what is done.
    pub(crate) fn run(&mut self, host: &mut Host<'_>, now: Instant) {
        while let Some(event) = host.stack.poll_event(self.queue) {
            self.on_event(event, host, now);
        }
        let mut connections: Vec<Cd> = self.streams.keys().copied().collect();
        connections.sort_unstable();
        for connection in connections {
            self.work(connection, host, now);
        }
    }

    fn on_event(&mut self, event: Event, host: &mut Host<'_>, now: Instant) {
        match event {
            Event::Acceptable { connection, .. } => {
                self.arrive(connection, host);
                host.stack.accept(host.group, connection, now).expect("it is acceptable");
            }
            Event::Opened { connection, .. } => {
                if !self.streams.contains_key(&connection) {
                    self.arrive(connection, host);
                }
                self.streams.get_mut(&connection).expect("known").opened = true;
            }
            Event::Data { connection, at, len, offset, .. } => {
                self.take(connection, (at, len, offset), host, now);
            }
            Event::Finished { connection, offset, .. } => {
                let stream = self.streams.get_mut(&connection).expect("known");
                assert_eq!(offset, stream.to_receive, "the stream ends where it should");
                stream.finished = true;
            }
            Event::Closed { connection, reason, .. } => {
                let mut stream = self.streams.remove(&connection).expect("known");
                stream.closed = Some(reason);
                // A late duplicate of a SYN that was answered long ago opens nothing.
                let by_a_late_syn = !stream.opened && self.arriving.is_some();
                if !by_a_late_syn {
                    self.ended.push(stream);
                }
                // What it still held of a connection that broke is given back by closing.
                match host.stack.close(host.group, connection, now) {
                    Ok(()) | Err(Misuse::StaleConnection) => {}
                    Err(misuse) => panic!("closing what is gone: {misuse}"),
                }
            }
            Event::Drained { .. } => self.drained += 1,
        }
    }

    fn arrive(&mut self, connection: Cd, host: &Host<'_>) {
        let info = host.stack.connection(connection).expect("it is there");
        let make = self.arriving.as_ref().expect("a server");
        self.streams.insert(connection, make(info.remote.port()));
    }

    fn take(
        &mut self,
        connection: Cd,
        (at, len, offset): (u64, u16, u64),
        host: &mut Host<'_>,
        now: Instant,
    ) {
        let stream = self.streams.get_mut(&connection).expect("known");
        assert_eq!(offset, stream.received, "pieces follow each other");
        let bytes = host.stack.received(host.pool, at, len);
        assert_eq!(bytes.len(), usize::from(len));
        for (byte, place) in bytes.iter().zip(offset..) {
            assert_eq!(*byte, pattern(stream.receive_key, place), "byte {place} of the stream");
        }
        stream.received += u64::from(len);
        assert!(stream.received <= stream.to_receive, "no more than was sent");
        match self.habit {
            Habit::Prompt => self.commit(connection, u64::MAX, false, host, now),
            Habit::Sloppy if self.rng.chance(300_000) => {
                let again = self.rng.chance(500_000);
                let most = self.rng.below(u64::from(len) * 3);
                self.commit(connection, most, again, host, now);
            }
            Habit::Sloppy | Habit::Slow => {}
        }
    }

    fn commit(
        &mut self,
        connection: Cd,
        most: u64,
        again: bool,
        host: &mut Host<'_>,
        now: Instant,
    ) {
        let stream = self.streams.get_mut(&connection).expect("known");
        let up_to = stream.received.min(stream.committed.saturating_add(most));
        host.stack.commit(host.group, connection, up_to, again, now).expect("it was given");
        stream.committed = up_to;
        if again {
            stream.received = up_to;
        }
    }

    fn work(&mut self, connection: Cd, host: &mut Host<'_>, now: Instant) {
        let gets_to_it = match self.habit {
            Habit::Prompt => 0,
            Habit::Sloppy => 400_000,
            Habit::Slow => 20_000,
        };
        if gets_to_it > 0 && self.rng.chance(gets_to_it) {
            self.commit(connection, u64::MAX, false, host, now);
        }
        let stream = self.streams.get_mut(&connection).expect("known");
        while stream.opened && stream.sent < stream.to_send {
            let len = (stream.to_send - stream.sent).min(1 + self.rng.below(20_000));
            let bytes: Vec<u8> =
                (stream.sent..stream.sent + len).map(|at| pattern(stream.send_key, at)).collect();
            match host.stack.send(host.group, connection, bytes.as_slice(), now) {
                Ok(()) => stream.sent += len,
                Err(Misuse::NoBuffer | Misuse::SendQueueFull | Misuse::NotOpen) => break,
                Err(misuse) => panic!("sending: {misuse}"),
            }
        }
        if stream.opened && stream.is_done() && !stream.closing {
            stream.closing = host.stack.close(host.group, connection, now).is_ok();
        }
    }

    /// Whether an application that must be asked again without an event has work left.
    pub(crate) fn is_restless(&self) -> bool {
        self.habit != Habit::Prompt && self.streams.values().any(|s| s.committed < s.received)
            || self.streams.values().any(|s| s.opened && s.sent < s.to_send)
    }
}

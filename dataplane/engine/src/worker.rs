//! One core's loop. A worker owns everything of its core and shares nothing.

use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use arrayvec::ArrayVec;
use dpdk::{BURST, Burst, Mbuf, RxQueue, TxQueue};
use xtcp_stack::handle::Cd;
use xtcp_stack::time::Instant;
use xtcp_stack::world::{Checksum, RxFrame};
use xtcp_stack::{Misuse, Stack};

use crate::applications::Applications;
use crate::clock::Clock;
use crate::command::{Alarm, Ask, Tell};
use crate::exchange::Exchange;
use crate::modes::Builtin;
use crate::offloads::Belief;
use crate::stats::{Snapshot, WorkerCounters};
use crate::tx::TxSink;
use crate::whole::{Places, Whole};

/// Turns between two looks at what the control thread asks.
const TURNS_PER_LOOK: u64 = 256;

/// How long timers wait while every burst is full.
///
/// After a stall (the process was stopped, the machine paused) what has come meanwhile stands in the
/// device's ring, the acknowledgements that deadlines were waiting for among it: it is read first.
/// After so many bursts all that was there has been read, and what fills the ring from then on is no
/// reason to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimersWait {
    bursts_max: u32,
    bursts: u32,
}

impl TimersWait {
    /// For as long as it takes to empty rings of `frames` in bursts of `burst`.
    pub(crate) const fn new(frames: u32, burst: u16) -> Self {
        let burst = if burst == 0 { 1 } else { burst as u32 };
        Self { bursts_max: frames.div_ceil(burst), bursts: 0 }
    }

    /// Whether timers are served in a turn that received a burst like this.
    fn is_over(&mut self, full: bool) -> bool {
        let over = !full || self.bursts >= self.bursts_max;
        self.bursts = if over { 0 } else { self.bursts + 1 };
        over
    }
}

/// What is done with the frames.
#[derive(Debug)]
pub(crate) enum Work {
    /// They go to the stack, and its events to the applications.
    Applications(Applications),
    /// They go to the stack, and its events to a built-in application, if any.
    Builtin(Option<Builtin>),
    /// They go back where they came from; the stack sees none.
    Macswap,
}

/// Everything of one core.
#[derive(Debug)]
pub(crate) struct Worker {
    // Read only.
    pub(crate) number: usize,
    pub(crate) clock: Clock,
    /// Frames received at once, at most.
    pub(crate) burst_max: usize,
    /// What of the device's word on checksums counts.
    pub(crate) belief: Belief,

    // Its own.
    /// `None`: the device has fewer queues than there are workers; all comes by the exchange.
    pub(crate) rx: Option<RxQueue>,
    pub(crate) tx: TxSink,
    pub(crate) frames: Burst,
    pub(crate) whole: Whole,
    pub(crate) exchange: Option<Exchange>,
    pub(crate) timers: TimersWait,
    pub(crate) stack: Stack<'static>,
    pub(crate) work: Work,
    pub(crate) counters: WorkerCounters,

    // To and from the control thread.
    pub(crate) asks: Receiver<Ask>,
    pub(crate) tells: Sender<Tell>,
    pub(crate) alarm: Alarm,
}

/// What a worker's end leaves.
#[derive(Debug)]
pub(crate) struct Remains {
    pub(crate) rx: Option<RxQueue>,
    pub(crate) tx: TxQueue,
}

/// What a turn received.
#[derive(Clone, Copy, Debug)]
struct Received {
    done: usize,
    /// There may be more where it came from.
    full: bool,
}

/// What the control thread wants of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    GoOn,
    Pause,
    End,
}

impl Worker {
    /// Ends before it began.
    pub(crate) fn rest(self) -> Remains {
        Remains { rx: self.rx, tx: self.tx.into_queue() }
    }

    /// Works until it is told to end.
    pub(crate) fn run(mut self) -> Remains {
        let mut started = self.clock.ticks();
        loop {
            let now = self.clock.at(started);
            let done = self.turn(now);
            if self.counters.turns % TURNS_PER_LOOK == 0 && self.attend(now) == Wish::End {
                return self.rest();
            }
            started = self.account(started, done);
        }
    }

    /// One turn; says how much there was to do.
    ///
    /// Events are told before frames are made, so that what is answered here leaves in the turn it
    /// came in, while its connection is still at hand, and an application that is awake hears of it
    /// as early.
    pub(crate) fn turn(&mut self, now: Instant) -> usize {
        let Received { mut done, full } = self.receive(now);
        done += self.obey(now);
        done += self.tell(now);
        if self.timers.is_over(full) {
            self.stack.on_timeout(now);
        }
        self.stack.poll_frames(&mut self.tx, now);
        done += self.tx.flush();
        self.counters.turns += 1;
        done
    }

    /// Frames in: from the device and from other workers to the stack.
    fn receive(&mut self, now: Instant) -> Received {
        let from_device = match &mut self.rx {
            Some(rx) => rx.receive_at_most(&mut self.frames, self.burst_max),
            None => 0,
        };
        self.counters.bursts.count(from_device);
        self.counters.rx_frames += from_device as u64;
        self.counters.rx_bytes += self.frames.iter().map(|mbuf| mbuf.len() as u64).sum::<u64>();
        let mut received = from_device;
        if self.frames.iter().any(|mbuf| !mbuf.is_linear()) {
            self.sift();
        }
        let mut full = from_device == self.burst_max;
        if let Some(exchange) = &mut self.exchange {
            exchange.hand_over(&mut self.frames);
            received += exchange.receive(&mut self.frames);
            full |= self.frames.is_full();
        }
        let received = Received { done: received, full };
        if self.frames.is_empty() {
            return received;
        }
        if matches!(self.work, Work::Macswap) {
            self.swap_and_send();
        } else {
            self.hand_to_stack(now);
        }
        self.frames.clear();
        received
    }

    /// What came in pieces is brought together, or will be when the stack gets it.
    #[cold]
    fn sift(&mut self) {
        let in_pieces = self.frames.iter().filter(|mbuf| !mbuf.is_linear()).count();
        self.counters.rx_pieces += in_pieces as u64;
        self.counters.rx_too_long += self.whole.sift(&mut self.frames);
    }

    fn hand_to_stack(&mut self, now: Instant) {
        let mut places = self.whole.places();
        let belief = self.belief;
        let frames: ArrayVec<RxFrame<'_>, BURST> =
            self.frames.iter().map(|mbuf| rx_frame(mbuf, belief, &mut places)).collect();
        for frame in &frames {
            self.counters.rx_verified += u64::from(frame.checksum == Checksum::Good);
            self.counters.rx_doubted += u64::from(frame.checksum == Checksum::Bad);
        }
        self.stack.on_burst(&frames, &mut self.tx, now);
    }

    fn swap_and_send(&mut self) {
        for mbuf in &mut self.frames {
            if let Some(addresses) = mbuf.bytes_mut().first_chunk_mut::<12>() {
                addresses.rotate_left(6);
            }
        }
        self.tx.forward(&mut self.frames);
    }

    /// What applications submit becomes the stack's verbs.
    fn obey(&mut self, now: Instant) -> usize {
        let Work::Applications(applications) = &mut self.work else { return 0 };
        let counters = &mut self.counters.applications;
        let alarm = &self.alarm;
        applications.drain(
            &mut self.stack,
            counters,
            |endpoint, lie| alarm.raise(endpoint, lie),
            now,
        )
    }

    /// What has happened becomes notices, or is answered here.
    fn tell(&mut self, now: Instant) -> usize {
        let counters = &mut self.counters.applications;
        let alarm = &self.alarm;
        match &mut self.work {
            Work::Applications(applications) => {
                let liar = |endpoint, lie| alarm.raise(endpoint, lie);
                applications.publish(&mut self.stack, counters, liar, now)
            }
            Work::Builtin(Some(builtin)) => builtin.turn(&mut self.stack, now),
            Work::Builtin(None) | Work::Macswap => 0,
        }
    }

    /// Books the turn's ticks; the end of one turn is the beginning of the next.
    fn account(&mut self, started: u64, done: usize) -> u64 {
        let ended = self.clock.ticks();
        let ticks = ended.saturating_sub(started);
        if done > 0 {
            self.counters.busy_ticks += ticks;
        } else {
            self.counters.idle_ticks += ticks;
        }
        ended
    }

    /// Answers what the control thread asks; while it wants us to pause, waits for the next.
    fn attend(&mut self, now: Instant) -> Wish {
        let mut wish = Wish::GoOn;
        loop {
            let ask = if wish == Wish::Pause {
                self.asks.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.asks.try_recv()
            };
            let ask = match ask {
                Ok(ask) => ask,
                Err(TryRecvError::Empty) => return wish,
                // The control thread is gone: so is the reason to work.
                Err(TryRecvError::Disconnected) => return Wish::End,
            };
            match ask {
                Ask::Pause => wish = Wish::Pause,
                Ask::Resume => wish = Wish::GoOn,
                Ask::End => wish = Wish::End,
                _ => {}
            }
            let tell = self.answer(ask, now);
            if self.tells.send(tell).is_err() || wish == Wish::End {
                return Wish::End;
            }
        }
    }

    pub(crate) fn answer(&mut self, ask: Ask, now: Instant) -> Tell {
        let stack = &mut self.stack;
        match (ask, &mut self.work) {
            (Ask::OpenEndpoint(new), Work::Applications(applications)) => {
                Tell::Pool(applications.open(*new, stack))
            }
            (Ask::OpenEndpoint(new), _) => Tell::Pool(Err((Misuse::NoSuchQueue, new.receive))),
            (Ask::CloseEndpoint(number), Work::Applications(applications)) => {
                Tell::Memory(applications.close(number, stack, now))
            }
            (Ask::CloseEndpoint(_), _) => Tell::Memory(None),
            (Ask::OrphanEndpoint(number), Work::Applications(applications)) => {
                let counters = &mut self.counters.applications;
                Tell::Done(known(applications.orphan(number, stack, counters, now)))
            }
            (Ask::ResumeEndpoint(line), Work::Applications(applications)) => {
                Tell::Done(known(applications.resume(*line, stack)))
            }
            (Ask::OrphanEndpoint(_) | Ask::ResumeEndpoint(_), _) => Tell::Done(known(false)),
            (
                Ask::OpenGroup { endpoint, group, config, wake },
                Work::Applications(applications),
            ) => Tell::Group(applications.open_group(endpoint, group, &config, wake, stack)),
            (Ask::CloseGroup { endpoint, group }, Work::Applications(applications)) => {
                Tell::Done(applications.close_group(endpoint, group, stack, now))
            }
            (
                Ask::DrainGroup { endpoint, group, per_second, manner },
                Work::Applications(applications),
            ) => Tell::Done(applications.drain_group(
                endpoint,
                group,
                (per_second, manner),
                stack,
                now,
            )),
            (Ask::OpenGroup { .. }, _) => Tell::Group(Err(Misuse::NoSuchQueue)),
            (Ask::CloseGroup { .. } | Ask::DrainGroup { .. }, _) => {
                Tell::Done(Err(Misuse::StaleGroup))
            }
            (Ask::CloseConnection { connection, reset }, _) => {
                Tell::Done(close_connection(stack, connection, reset, now))
            }
            (Ask::Describe(connection), _) => Tell::Connection(stack.connection(connection)),
            (Ask::Connections(mut list), _) => {
                let room = list.capacity();
                list.extend(stack.connections().take(room));
                Tell::Connections(list)
            }
            (Ask::Snapshot(mut snapshot), _) => {
                self.fill(&mut snapshot);
                Tell::Snapshot(snapshot)
            }
            (Ask::Announce, Work::Applications(_) | Work::Builtin(_)) => {
                stack.announce(&mut self.tx);
                Tell::Done(Ok(()))
            }
            (Ask::Announce, Work::Macswap) | (Ask::Pause | Ask::Resume | Ask::End, _) => {
                Tell::Done(Ok(()))
            }
        }
    }

    pub(crate) fn fill(&self, snapshot: &mut Snapshot) {
        snapshot.worker = self.number;
        snapshot.counters = self.counters;
        snapshot.counters.tx = self.tx.counters();
        snapshot.frames_free = self.tx.frames_free();
        if let Some(exchange) = &self.exchange {
            snapshot.counters.exchange = exchange.counters;
        }
        snapshot.stack.clear();
        snapshot.stack.extend(self.stack.counters().rows());
        snapshot.usage = self.stack.usage();
        snapshot.pools.clear();
        snapshot.pools.extend(self.stack.pools());
        snapshot.groups.clear();
        snapshot.groups.extend(self.stack.groups());
    }
}

fn close_connection(
    stack: &mut Stack<'static>,
    connection: Cd,
    reset: bool,
    now: Instant,
) -> Result<(), Misuse> {
    let group = stack.connection(connection)?.group;
    if reset { stack.abort(group, connection, now) } else { stack.close(group, connection, now) }
}

fn known(is_known: bool) -> Result<(), Misuse> {
    if is_known { Ok(()) } else { Err(Misuse::NoSuchQueue) }
}

fn rx_frame<'f>(mbuf: &'f Mbuf, belief: Belief, places: &mut Places<'f>) -> RxFrame<'f> {
    RxFrame { bytes: places.bytes(mbuf), checksum: belief.in_word(mbuf.checksum()) }
}

//! A stack with live connections under whatever a hostile network and a hostile application do.
//!
//! The input is read as a list of choices: segments relative to where the connections stand,
//! garbage, time, verbs with right and wrong handles, no room for frames. What must hold whatever
//! comes is asserted after every step; the numbers in the comments are the invariants' (I1 the
//! stream, I2 to I15 below).

#[path = "live/application.rs"]
mod application;
#[path = "live/choices.rs"]
mod choices;
#[path = "live/client.rs"]
mod client;
#[path = "live/frames.rs"]
mod frames;
#[path = "live/losses.rs"]
mod losses;
#[path = "live/network.rs"]
mod network;
#[path = "live/odd.rs"]
mod odd;
#[path = "live/scarcity.rs"]
mod scarcity;
#[path = "live/succession.rs"]
mod succession;

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use xtcp_stack::wire::ethernet::MacAddr;
use xtcp_stack::{
    Cd, Checksum, Congestion, Count, Counters, Gd, Instant, Manner, PoolId, PoolInfo, QueueId,
    RxFrame, Stack, State, Transmit,
};

use choices::Choices;
use client::Client;
use frames::{is_problem, read};
use scarcity::{RECEIVE_BYTES, Scarcity, config, group_config};

const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const THEIR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OUR_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OUR_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const QUEUE: QueueId = QueueId(0);
/// The listening ports: one group each.
const PORTS: [u16; 4] = [7, 8, 9, 10];
/// Clients: two addresses of each family, three ports each.
const CLIENTS: usize = 12;
const ALIGNMENT: usize = 64;
/// Calls of `poll_frames` after which a stack that is left alone has nothing more to send.
const TURNS_MAX: usize = 600;
/// Deadlines after which a stack that is left alone has no more.
const STEPS_MAX: usize = 20_000;
/// Longer than TIME-WAIT and every other time the stack waits by itself.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// Runs one input to its end and tears everything down. `look` is shown every frame sent. Answers
/// what was counted: what no input makes rise is not tested here.
pub fn run(input: &[u8], look: impl Fn(&[u8])) -> Counters {
    let mut choices = Choices { bytes: input, at: 0 };
    let scarcity = Scarcity::choose(&mut choices);
    let config = config(&scarcity);
    let tables = Stack::memory_needed(&config).next_multiple_of(ALIGNMENT);
    let mut memory = vec![0; tables + config.transmit_bytes + RECEIVE_BYTES + ALIGNMENT];
    let skip = memory.as_ptr().align_offset(ALIGNMENT);
    let (tables, buffers) = memory[skip..].split_at_mut(tables);
    let (transmit, receive) = buffers.split_at_mut(config.transmit_bytes);
    let receive = &mut receive[..scarcity.receive_bytes];
    let now = Instant::from_millis(1 << 20);
    let stack = Stack::new(&config, tables, transmit, now).expect("enough memory");
    let mut world = World::new(stack, receive, (now, scarcity.congestion), &look);
    if scarcity.has_neighbour {
        // Somebody to share with, who has nothing.
        world.stack.open_pool(&mut []).expect("room");
    }
    while !choices.are_over() {
        world.step(&mut choices);
    }
    world.tear_down();
    world.stack.counters().clone()
}

/// What an application knows of a connection.
#[derive(Clone, Copy, Debug)]
struct Known {
    group: Gd,
    given: u64,
    committed: u64,
}

/// Room for some frames.
#[derive(Default)]
struct Wire {
    frames: Vec<Vec<u8>>,
    room: Option<usize>,
}

impl Transmit for Wire {
    fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(1)?;
        }
        self.frames.push(vec![0xee; len]);
        self.frames.last_mut().map(Vec::as_mut_slice)
    }
}

struct World<'m, 'l> {
    stack: Stack<'m>,
    now: Instant,
    look: &'l dyn Fn(&[u8]),
    congestion: Congestion,
    pool: PoolId,
    groups: Vec<Gd>,
    clients: Vec<Client>,
    /// Calls of our own: of two that open at once none is turned away.
    calls: u32,
    known: HashMap<Cd, Known>,
    /// What the application's predecessors had committed of connections they knew.
    left: HashMap<Cd, u64>,
    /// Handles of any time.
    handles: Vec<Cd>,
    /// Frames that have waited for a neighbour.
    parked: u64,
    /// When it began, and how often somebody was told of his extension headers since.
    started: Instant,
    problems: u64,
    /// Frames that arrive together.
    burst: Vec<(Vec<u8>, Checksum)>,
}

impl<'m, 'l> World<'m, 'l> {
    fn new(
        mut stack: Stack<'m>,
        receive: &'m mut [u8],
        (now, congestion): (Instant, Congestion),
        look: &'l dyn Fn(&[u8]),
    ) -> Self {
        let pool = stack.open_pool(receive).expect("room");
        let groups = (0..PORTS.len())
            .map(|at| stack.open_group(pool, QUEUE, &group_config(at, congestion)).expect("room"))
            .collect();
        let client = |at: usize| Client {
            port: 1000 + u16::try_from(at).unwrap_or(0),
            server_port: PORTS[at % PORTS.len()],
            ..Client::default()
        };
        let mut world = Self {
            stack,
            now,
            look,
            congestion,
            pool,
            groups,
            clients: (0..CLIENTS).map(client).collect(),
            calls: 0,
            known: HashMap::new(),
            left: HashMap::new(),
            handles: Vec::new(),
            parked: 0,
            started: now,
            problems: 0,
            burst: Vec::new(),
        };
        for at in 0..4 {
            world.introduce(at, THEIR_MAC);
        }
        world.deliver();
        world
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(46) {
            0..=2 => self.handshake(choices),
            3 => self.syn(choices),
            4..=9 => self.text_in_order(choices),
            10..=12 => self.any_segment(choices),
            13 | 14 => self.acknowledge(choices),
            15 | 16 => self.good_citizen(choices),
            17 if choices.below(2) == 0 => self.garbage(choices),
            17 => self.damaged(choices),
            18 => self.reset(choices),
            19..=22 => self.application(choices),
            23 => self.wrong_verb(choices),
            24 | 25 => self.tick(choices),
            26 => self.deliver_and_send(usize::from(choices.byte() % 4)),
            27 if choices.below(8) == 0 => self.groups_come_and_go(choices),
            27 if choices.below(8) == 0 => self.drain(choices),
            28 if choices.below(3) == 0 => self.connect(choices),
            29 if choices.below(3) == 0 => {
                let mac = MacAddr([2, 0, 0, 0, 0, choices.byte()]);
                self.introduce(choices.below(4), if mac == OUR_MAC { THEIR_MAC } else { mac });
            }
            30 => self.complain(choices),
            31 if choices.below(2) == 0 => self.cut(choices),
            32..=35 => self.lose(choices),
            36 | 37 => self.ask_and_answer(choices),
            38 => self.mark(choices),
            39..=41 => self.odd(choices),
            42 if choices.below(4) == 0 => self.succeed(choices),
            43 | 44 => self.transact(choices),
            _ => drop(self.deliver()),
        }
        if self.burst.len() >= 40 {
            self.deliver();
        }
        self.assert_books_are_right();
    }

    /// I7 at every step: what is booked is what there is, and no pool has more than its share.
    fn assert_books_are_right(&self) {
        self.stack.audit().expect("I7: the books are right");
        let usage = self.stack.usage();
        for info in self.stack.pools() {
            assert!(info.receive_payload <= info.receive_used, "I7: {info:?}");
            assert!(info.receive_used + info.receive_free <= info.receive_bytes, "I7: {info:?}");
            assert!(info.transmit_payload <= info.transmit_used, "I7: {info:?}");
            assert!(info.transmit_used <= info.transmit_most, "I7: {info:?}");
            assert!(info.chunks <= info.chunks_most && info.active <= info.active_most);
            assert!(info.connections <= info.connections_most, "I7: {info:?}");
            // Of two that open at once one may go beyond its share.
            assert!(info.half_open <= info.connections, "I7: {info:?}");
            assert!(info.waiting <= info.active, "I7: {info:?}");
        }
        let of_all = |figure: fn(&PoolInfo) -> usize| -> usize {
            self.stack.pools().map(|info| figure(&info)).sum()
        };
        assert_eq!(of_all(|info| info.chunks as usize), usage.chunks as usize, "I7");
        assert_eq!(of_all(|info| info.transmit_used), usage.transmit_used, "I7");
        assert_eq!(of_all(|info| info.transmit_payload), usage.transmit_payload, "I7");
        assert!(of_all(|info| info.active as usize) <= usage.active as usize, "I7");
        assert!(of_all(|info| info.connections as usize) <= usage.connections as usize, "I7");
        assert!(usage.half_open <= 6 + self.calls && usage.time_wait <= 14, "I14: {usage:?}");
    }

    /// What has come is handed in, and what is to be sent is, until nothing more is.
    fn deliver(&mut self) -> Vec<Vec<u8>> {
        let mut sent = self.hand_in();
        for _ in 0..TURNS_MAX {
            let frames = self.turn(None);
            if frames.is_empty() {
                if let Some(next) = self.stack.poll_timeout() {
                    assert!(next > self.now, "I6: {next:?} is not after {:?}", self.now);
                }
                return sent;
            }
            sent.extend(frames);
        }
        panic!("I4: it does not stop sending: {:?}", self.stack.counters());
    }

    /// As [`Self::deliver`], but with room for a few frames only.
    fn deliver_and_send(&mut self, room: usize) {
        self.hand_in();
        assert!(self.turn(Some(room)).len() <= room);
    }

    fn hand_in(&mut self) -> Vec<Vec<u8>> {
        let burst = std::mem::take(&mut self.burst);
        let frames: Vec<RxFrame<'_>> =
            burst.iter().map(|(bytes, checksum)| RxFrame { bytes, checksum: *checksum }).collect();
        let mut wire = Wire::default();
        self.stack.on_burst(&frames, &mut wire, self.now);
        // A solicitation is answered, and may release a frame that waited.
        assert!(wire.frames.len() <= 2 * frames.len(), "I4: more is answered than came");
        self.see(&wire.frames);
        wire.frames
    }

    fn turn(&mut self, room: Option<usize>) -> Vec<Vec<u8>> {
        let mut wire = Wire { room, ..Wire::default() };
        self.stack.on_timeout(self.now);
        self.stack.poll_frames(&mut wire, self.now);
        self.see(&wire.frames);
        wire.frames
    }

    /// Takes in what the stack said: it is well formed (I13), and takes nothing back.
    fn see(&mut self, frames: &[Vec<u8>]) {
        let parked = self.stack.counters().counted(Count::FramesParked);
        if std::mem::replace(&mut self.parked, parked) != parked {
            // Frames that wait for a neighbour come late or never: what was told is not known.
            self.clients
                .iter_mut()
                .for_each(|client| (client.scale, client.offered) = (None, None));
        }
        for bytes in frames {
            (self.look)(bytes);
            self.problems += u64::from(is_problem(bytes));
            let Some((ip, segment)) = read(bytes) else { continue };
            let client =
                self.clients.iter_mut().enumerate().find(|(at, client)| {
                    client.port == segment.dst_port && Self::address(*at) == ip
                });
            let Some((_, client)) = client else { continue };
            if client.server_port == segment.src_port {
                client.see(&segment);
            }
        }
        self.assert_few_problems();
    }

    /// I15: no more than RFC 4443 section 2.4 (f) gives as its example.
    fn assert_few_problems(&self) {
        assert_eq!(self.problems, self.stack.counters().counted(Count::ParameterProblemsOut));
        let most = 10 + self.now.since(self.started).as_millis() / 100;
        assert!(u128::from(self.problems) <= most, "I15: {} of {most}", self.problems);
    }

    fn tick(&mut self, choices: &mut Choices<'_>) {
        self.deliver();
        let step = match choices.below(8) {
            0 if choices.below(4) == 0 => Duration::from_secs(choices.below(200) as u64),
            1 if choices.below(16) == 0 => Duration::from_secs(3600),
            2 => Duration::from_micros(choices.below(3000) as u64),
            _ => {
                let next = self.stack.poll_timeout().unwrap_or(self.now);
                next.since(self.now) + Duration::from_micros(choices.below(4) as u64)
            }
        };
        self.now = self.now + step;
        self.deliver();
    }

    /// Nobody says anything any more: whatever waits for a peer comes to an end by itself, and what
    /// remains waits for the application alone.
    fn outlast_the_peers(&mut self) {
        for info in self.stack.groups().filter(|info| info.draining).collect::<Vec<_>>() {
            // Whoever waits for its application is looked at again and again.
            self.stack.drain_group(info.group, 0, Manner::WhenIdle, self.now).expect("open");
        }
        let end = self.now + LONG;
        for _ in 0..STEPS_MAX {
            let Some(next) = self.stack.poll_timeout().filter(|next| *next < end) else { break };
            self.now = next;
            self.deliver();
            let mut choices = Choices { bytes: &[], at: 0 };
            while let Some(event) = self.stack.poll_event(QUEUE) {
                self.on_event(event, &mut choices);
            }
        }
        assert!(self.stack.poll_timeout().is_none_or(|next| next >= end), "it never rests");
        for info in self.stack.connections() {
            let waits = matches!(info.state, State::Established | State::CloseWait);
            assert!(waits && info.unsent == 0, "it waits for ever: {info:?}");
        }
    }

    /// I7: when all is closed and time has passed, everything is back.
    fn tear_down(&mut self) {
        self.deliver();
        let mut choices = Choices { bytes: &[], at: 0 };
        while let Some(event) = self.stack.poll_event(QUEUE) {
            self.on_event(event, &mut choices);
        }
        self.assert_none_vanished();
        self.deliver();
        self.outlast_the_peers();
        for group in self.groups.clone() {
            self.stack.close_group(group, self.now).expect("open");
        }
        self.deliver();
        self.now = self.now + LONG;
        self.deliver();
        assert_eq!(self.stack.poll_event(QUEUE), None, "closed groups tell nothing");
        let usage = self.stack.usage();
        let held = (usage.connections, usage.half_open, usage.time_wait, usage.active);
        assert_eq!(held, (0, 0, 0, 0), "I7: {usage:?}");
        assert_eq!((usage.chunks, usage.transmit_used), (0, 0), "I7: {usage:?}");
        assert!(self.stack.pools().all(|pool| pool.receive_used == 0 && pool.connections == 0));
        assert_eq!(self.stack.connections().count(), 0);
    }
}

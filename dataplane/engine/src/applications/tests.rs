//! Honest applications, and every liar we could think of, against a real stack and real rings.

use core::net::SocketAddr;
use core::time::Duration;

use proptest::prelude::*;
use xtcp_ring::layout::{BATCH_MAX, flag, op, refused};
use xtcp_ring::{
    ApplicationChannel, EndpointLayout, ExclusiveMapping, Mapping, PageSize, Producer,
    ReadOnlyMapping, SharedMemory, Submission, bell,
};
use xtcp_stack::config::{Accept, Acknowledge, Family};

use super::*;
use crate::test_world::{LISTEN, World, group, memory};

mod answering;
mod draining;
mod sharing;
mod waking;

const LAYOUT: EndpointLayout =
    EndpointLayout { workers: 1, submissions: 128, notices: 64, arena_bytes: 4096 };

/// Where the consumer's position lies in a ring.
const CONSUMER: usize = 128;

/// An application and all it holds.
struct App {
    number: u16,
    endpoint: Mapping,
    channel: ApplicationChannel,
    receive: ReadOnlyMapping,
    gd: Gd,
}

/// A server with applications, a client beside it.
struct Scene {
    world: World,
    applications: Applications,
    counters: ApplicationCounters,
    liars: Vec<(u16, Lie)>,
}

fn by_application(port: u16) -> GroupConfig {
    GroupConfig {
        accept: Accept::ByApplication { timeout: Duration::from_secs(5) },
        acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
        ..group(port)
    }
}

impl Scene {
    fn new() -> Self {
        Self {
            world: World::new(),
            applications: Applications::new(0, 16),
            counters: ApplicationCounters::default(),
            liars: Vec::new(),
        }
    }

    fn attach(&mut self, number: u16, config: &GroupConfig) -> App {
        self.attach_patiently(number, config, Wake::AT_ONCE)
    }

    fn attach_patiently(&mut self, number: u16, config: &GroupConfig, wake: Wake) -> App {
        let endpoint = Mapping::private(LAYOUT.total_bytes());
        LAYOUT.prepare(&endpoint).unwrap();
        let channel = ApplicationChannel::open(&endpoint, &LAYOUT, 0).unwrap();
        let receive = SharedMemory::create("receive", 1 << 20, PageSize::Ordinary).unwrap();
        let readable = ReadOnlyMapping::map(&receive).unwrap();
        let (ours, _theirs) = bell::pair().unwrap();
        let new = NewEndpoint {
            number,
            channel: DataplaneChannel::open(&endpoint, &LAYOUT, 0).unwrap(),
            ringer: Ringer::open(&endpoint, ours).unwrap(),
            receive: ExclusiveMapping::map(&receive).unwrap().into_static_bytes(),
            receive_from: 0,
        };
        let stack = &mut self.world.server;
        self.applications.open(new, stack).unwrap();
        // Applications and the stack number groups differently.
        let gd = Gd::new(15 - number, 77);
        let at_stack = self.applications.open_group(number, gd, config, wake, stack).unwrap();
        assert_ne!(gd, at_stack);
        App { number, endpoint, channel, receive: readable, gd }
    }

    /// The application has died; what it published is done.
    fn dies(&mut self, app: &App) {
        let (stack, now) = (&mut self.world.server, self.world.now);
        assert!(self.applications.orphan(app.number, stack, &mut self.counters, now));
    }

    /// Another follows it, with rings of its own.
    fn follow(&mut self, dead: App) -> App {
        let endpoint = Mapping::private(LAYOUT.total_bytes());
        LAYOUT.prepare(&endpoint).unwrap();
        let channel = ApplicationChannel::open(&endpoint, &LAYOUT, 0).unwrap();
        let (ours, _theirs) = bell::pair().unwrap();
        let line = NewLine {
            number: dead.number,
            channel: DataplaneChannel::open(&endpoint, &LAYOUT, 0).unwrap(),
            ringer: Ringer::open(&endpoint, ours).unwrap(),
        };
        assert!(self.applications.resume(line, &mut self.world.server));
        App { endpoint, channel, ..dead }
    }

    /// What a worker does between two bursts.
    fn turn(&mut self) {
        let (liars, now) = (&mut self.liars, self.world.now);
        let stack = &mut self.world.server;
        self.applications.drain(stack, &mut self.counters, |n, lie| liars.push((n, lie)), now);
        self.applications.publish(stack, &mut self.counters, |n, lie| liars.push((n, lie)), now);
    }

    /// Lets frames and notices go to and fro until nothing moves.
    fn settle(&mut self) {
        loop {
            self.turn();
            if self.world.exchange() == 0 {
                self.turn();
                return;
            }
        }
    }

    /// A connection of the client that the application has accepted.
    fn connected(&mut self, app: &mut App) -> Cd {
        let port = LISTEN + app.number;
        let client = self.world.connect(port);
        self.settle();
        let acceptable = app.expect(kind::ACCEPTABLE);
        app.submit(Submission { op: op::ACCEPT, ..app.about(Cd::from_bits(acceptable.cd)) });
        self.settle();
        app.expect(kind::OPENED);
        self.world.opened(client);
        Cd::from_bits(acceptable.cd)
    }
}

impl App {
    fn about(&self, cd: Cd) -> Submission {
        Submission { gd: self.gd.to_bits(), cd: cd.to_bits(), ..Submission::default() }
    }

    fn submit(&mut self, submission: Submission) {
        self.channel.submissions.push(&submission).unwrap();
        self.channel.submissions.publish();
    }

    fn notices(&mut self) -> Vec<Notice> {
        let popped = core::iter::from_fn(|| self.channel.notices.pop().unwrap()).collect();
        self.channel.notices.release();
        popped
    }

    fn expect(&mut self, kind: u8) -> Notice {
        let notices = self.notices();
        let [notice] = notices[..] else { panic!("one notice was expected: {notices:?}") };
        assert_eq!(notice.kind, kind, "{notice:?}");
        notice
    }
}

#[test]
fn a_request_is_read_in_place_and_its_answer_brings_the_acknowledgement() {
    let mut scene = Scene::new();
    let mut app = scene.attach(0, &by_application(LISTEN));
    let cd = scene.connected(&mut app);
    scene.world.client_sends(b"what time is it?");
    scene.settle();
    let data = app.expect(kind::DATA);
    assert_eq!((data.len, data.offset, data.gd), (16, 0, app.gd.to_bits()));
    assert_eq!(app.receive.bytes(data.at, 16).unwrap(), b"what time is it?");
    assert_eq!(scene.world.client_unacknowledged(), 16);

    app.channel.arena.write(100, b"late").unwrap();
    let flags = flag::ACKNOWLEDGE | flag::CLOSE_AFTER;
    app.submit(Submission { op: op::SEND, flags, offset: 16, at: 100, len: 4, ..app.about(cd) });
    scene.settle();
    assert_eq!(scene.world.client_received(), b"late");
    assert_eq!(scene.world.client_unacknowledged(), 0);
    assert!(scene.world.client_is_finished());
    assert!(scene.liars.is_empty());
    assert_eq!(scene.counters.submissions, 2);
}

#[test]
fn what_is_not_acknowledged_is_given_again() {
    let mut scene = Scene::new();
    let mut app = scene.attach(0, &by_application(LISTEN));
    let cd = scene.connected(&mut app);
    scene.world.client_sends(b"one two");
    scene.settle();
    app.expect(kind::DATA);
    let again = Submission { op: op::SEND, flags: flag::AGAIN, ..app.about(cd) };
    app.submit(again);
    scene.settle();
    let data = app.expect(kind::DATA);
    assert_eq!((data.offset, data.len), (0, 7));
    app.submit(Submission { flags: flag::ACKNOWLEDGE | flag::AGAIN, offset: 4, ..again });
    scene.settle();
    let data = app.expect(kind::DATA);
    assert_eq!((data.offset, data.len), (4, 3));
    assert_eq!(app.receive.bytes(data.at, 3).unwrap(), b"two");
}

/// A lie in words, what it is, and the submission: the liar, another application, a connection
/// of each.
type Case = (&'static str, Lie, fn(&App, &App, Cd, Cd) -> Submission);

const FIELDS: [Case; 8] = [
    ("no operation", Lie::Operation, |app, _, cd, _| app.about(cd)),
    ("an operation of tomorrow", Lie::Operation, |app, _, cd, _| Submission {
        op: 200,
        ..app.about(cd)
    }),
    ("an unknown flag", Lie::Flags, |app, _, cd, _| Submission {
        op: op::SEND,
        flags: 0x80,
        ..app.about(cd)
    }),
    ("a flag of another operation", Lie::Flags, |app, _, cd, _| Submission {
        op: op::CLOSE,
        flags: flag::ACKNOWLEDGE,
        ..app.about(cd)
    }),
    ("a reserved bit", Lie::Reserved, |app, _, cd, _| Submission {
        op: op::SEND,
        reserved: 1,
        ..app.about(cd)
    }),
    ("a byte too many", Lie::Arena, |app, _, cd, _| Submission {
        op: op::SEND,
        at: 1,
        len: 4096,
        ..app.about(cd)
    }),
    ("an offset beyond the arena", Lie::Arena, |app, _, cd, _| Submission {
        op: op::SEND,
        at: 4097,
        ..app.about(cd)
    }),
    ("a sum that wraps", Lie::Arena, |app, _, cd, _| Submission {
        op: op::SEND,
        at: u32::MAX,
        len: u32::MAX,
        ..app.about(cd)
    }),
];

const HANDLES: [Case; 4] = [
    ("another's group", Lie::Group, |app, other, cd, _| Submission {
        op: op::ABORT,
        gd: other.gd.to_bits(),
        ..app.about(cd)
    }),
    ("another's group and connection", Lie::Group, |_, other, _, theirs| Submission {
        op: op::ABORT,
        ..other.about(theirs)
    }),
    ("another's connection", Lie::Connection, |app, _, _, theirs| Submission {
        op: op::ABORT,
        ..app.about(theirs)
    }),
    ("a connection of another worker", Lie::Connection, |app, _, cd, _| Submission {
        op: op::ABORT,
        ..app.about(Cd::new(1, cd.index(), cd.generation()))
    }),
];

#[test]
fn a_liar_is_cut_off_at_its_first_lie_and_nobody_else_notices() {
    for (what, lie, submission) in FIELDS.into_iter().chain(HANDLES) {
        let mut scene = Scene::new();
        let mut liar = scene.attach(0, &by_application(LISTEN));
        let mut honest = scene.attach(1, &by_application(LISTEN + 1));
        let theirs = scene.connected(&mut honest);
        let cd = scene.connected(&mut liar);
        liar.submit(submission(&liar, &honest, cd, theirs));
        scene.settle();
        assert_eq!(scene.liars, [(0, lie)], "{what}");
        let at = LIES.iter().position(|known| *known == lie).unwrap();
        assert_eq!(scene.counters.lies[at], 1, "{what}");

        // It is heard no more, whatever it says, and told no more.
        liar.submit(Submission { op: op::CLOSE, ..liar.about(cd) });
        let consumed = liar.channel.submissions.consumed().unwrap();
        scene.settle();
        assert_eq!(scene.liars.len(), 1, "{what}");
        assert_eq!(liar.channel.submissions.consumed().unwrap(), consumed, "{what}");

        let info = scene.world.server.connection(theirs).unwrap();
        assert_eq!(info.state, xtcp_stack::State::Established, "{what}");
        honest.submit(Submission { op: op::CLOSE, ..honest.about(theirs) });
        scene.settle();
        assert!(
            scene
                .world
                .server
                .connection(theirs)
                .is_ok_and(|info| info.state != { xtcp_stack::State::Established })
        );
        let now = scene.world.now;
        let back = scene.applications.close(0, &mut scene.world.server, now);
        assert_eq!(back.map(|memory| memory.len()), Some(1 << 20), "{what}");
    }
}

#[test]
fn positions_that_cannot_be_are_lies() {
    let offsets = LAYOUT.channel(0);
    // The submission ring's producer claims more than the ring has; the notice ring's consumer
    // claims to have read what was never written.
    for (at, capacity, claim) in
        [(offsets.submissions, 256, 129), (offsets.notices + CONSUMER, 128, 5)]
    {
        let mut scene = Scene::new();
        let app = scene.attach(0, &by_application(LISTEN));
        let mut jump = Producer::<Notice>::new(&app.endpoint, at, capacity).unwrap();
        for _ in 0..claim {
            jump.push(&Notice::default()).unwrap();
        }
        // The entries have gone over the ring; only the position counts here.
        jump.publish();
        scene.turn();
        assert_eq!(scene.liars, [(0, Lie::Ring)], "position {claim} at {at}");
    }
}

#[test]
fn a_send_that_does_not_fit_is_told_and_not_closed_after() {
    let mut scene = Scene::new();
    let mut app = scene.attach(0, &by_application(LISTEN));
    let cd = scene.connected(&mut app);
    let send = Submission { op: op::SEND, len: 4096, ..app.about(cd) };
    // The world's stacks queue 16 KiB for a connection, and nothing leaves between two turns.
    for _ in 0..4 {
        app.submit(send);
    }
    app.submit(Submission { flags: flag::CLOSE_AFTER, ..send });
    scene.turn();
    let refused = app.expect(kind::SEND_REFUSED);
    assert_eq!((refused.cd, refused.offset), (cd.to_bits(), 4096));
    assert_eq!(refused.reason, refused::BEHIND);
    assert_eq!(scene.counters.sends_refused, 1);
    scene.settle();
    assert_eq!(scene.world.client_received().len(), 16_384);
    assert!(!scene.world.client_is_finished());
}

#[test]
fn handles_that_have_gone_stale_are_no_lie() {
    let mut scene = Scene::new();
    let mut app = scene.attach(0, &by_application(LISTEN));
    let cd = scene.connected(&mut app);
    app.submit(Submission { op: op::ABORT, ..app.about(cd) });
    app.submit(Submission { op: op::CLOSE, ..app.about(cd) });
    app.submit(Submission { op: op::ACCEPT, ..app.about(cd) });
    app.submit(Submission { op: op::SEND, len: 3, ..app.about(cd) });
    scene.turn();
    let gone = Gd::new(app.gd.index(), app.gd.generation() + 1);
    app.submit(Submission { op: op::CLOSE, gd: gone.to_bits(), ..app.about(cd) });
    scene.settle();
    assert!(scene.liars.is_empty(), "{:?}", scene.liars);
    assert!(scene.counters.stale >= 2, "{:?}", scene.counters);
    let kinds: Vec<u8> = app.notices().iter().map(|notice| notice.kind).collect();
    assert!(kinds.contains(&kind::CLOSED) && kinds.contains(&kind::SEND_REFUSED), "{kinds:?}");
}

#[test]
fn who_does_not_read_its_notices_is_told_later_and_loses_nothing() {
    let mut scene = Scene::new();
    let config = GroupConfig { accept: Accept::Automatic, ..by_application(LISTEN) };
    let mut app = scene.attach(0, &config);
    for _ in 0..200 {
        scene.world.connect(LISTEN);
        scene.settle();
    }
    // An eighth of the ring is kept for refusals.
    let first = app.notices();
    assert_eq!(first.len(), 56);
    let mut opened: Vec<u64> = first.iter().map(|notice| notice.cd).collect();
    while opened.len() < 200 {
        scene.settle();
        let more = app.notices();
        assert!(!more.is_empty(), "told {} of 200", opened.len());
        opened.extend(more.iter().map(|notice| notice.cd));
    }
    opened.sort_unstable();
    opened.dedup();
    assert_eq!(opened.len(), 200);
}

#[test]
fn a_submission_waits_while_its_refusal_could_not_be_told() {
    let mut scene = Scene::new();
    let mut app = scene.attach(0, &by_application(LISTEN));
    let cd = scene.connected(&mut app);
    app.submit(Submission { op: op::ABORT, ..app.about(cd) });
    scene.settle();
    app.expect(kind::CLOSED);
    for _ in 0..100 {
        app.submit(Submission { op: op::SEND, len: 1, ..app.about(cd) });
    }
    scene.settle();
    assert_eq!(app.channel.submissions.consumed().unwrap(), 2 + 64);
    assert_eq!(app.notices().len(), 64);
    scene.settle();
    assert_eq!(app.channel.submissions.consumed().unwrap(), 2 + 100);
    assert_eq!(app.notices().len(), 36);
}

#[test]
fn a_sleeping_application_is_woken_once() {
    let mut scene = Scene::new();
    let app = scene.attach(0, &by_application(LISTEN));
    let flag = xtcp_ring::ring::ParkFlag::new(&app.endpoint, xtcp_ring::layout::PARKED).unwrap();
    flag.park();
    scene.world.connect(LISTEN);
    scene.settle();
    scene.world.connect(LISTEN);
    scene.settle();
    assert_eq!((scene.counters.notices, scene.counters.bells), (2, 0), "its bell's end is closed");
    assert!(!flag.take(), "the flag was taken when the bell was rung");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever a hostile application submits: nothing panics, it is cut off or harmless, and
    /// another's connection is as it was.
    #[test]
    fn no_submissions_hurt_anybody_else(
        hostile in proptest::collection::vec(
            (0_u8..8, any::<u8>(), 0_u16..2, 0_u32..4, 0_u64..4, any::<u64>(), 0_u32..5000, 0_u32..5000),
            1..60,
        ),
    ) {
        let mut scene = Scene::new();
        let mut liar = scene.attach(0, &by_application(LISTEN));
        let mut honest = scene.attach(1, &by_application(LISTEN + 1));
        let theirs = scene.connected(&mut honest);
        let own = scene.connected(&mut liar);
        for (op, flags, reserved, gd, cd, offset, at, len) in hostile {
            let gd = [liar.gd, honest.gd, Gd::from_bits(0), Gd::from_bits(u32::MAX)][gd as usize];
            let cd = [own, theirs, Cd::from_bits(0), Cd::from_bits(u64::MAX)][cd as usize];
            let (gd, cd) = (gd.to_bits(), cd.to_bits());
            liar.submit(Submission { op, flags: flags & 0xf, reserved, gd, cd, offset, at, len });
            scene.settle();
            let _ = liar.notices();
        }
        prop_assert!(scene.liars.len() <= 1);
        let info = scene.world.server.connection(theirs);
        prop_assert!(info.is_ok_and(|info| info.state == xtcp_stack::State::Established));
        prop_assert!(honest.notices().is_empty());
    }
}

/// The client is at the address the connection says.
#[test]
fn a_connection_can_be_described() {
    let mut scene = Scene::new();
    let mut app = scene.attach(0, &by_application(LISTEN));
    let cd = scene.connected(&mut app);
    let info = scene.world.server.connection(cd).unwrap();
    assert_eq!(info.local, SocketAddr::new(World::SERVER, LISTEN));
    assert_eq!(info.remote.ip(), World::CLIENT);
    assert_eq!(memory(4096).len(), 4096);
    assert_eq!(group(9).family, Family::Dual);
}

#[test]
fn a_successor_gets_what_was_not_acknowledged_and_what_was_published_is_done() {
    let mut scene = Scene::new();
    let mut app = scene.attach(0, &by_application(LISTEN));
    let cd = scene.connected(&mut app);
    scene.world.client_sends(b"one two three");
    scene.settle();
    app.expect(kind::DATA);
    app.channel.arena.write(0, b"1").unwrap();
    let answer = Submission { op: op::SEND, flags: flag::ACKNOWLEDGE, len: 1, ..app.about(cd) };
    app.submit(Submission { offset: 4, ..answer });
    // Asked and never published: it has not happened.
    app.channel.submissions.push(&Submission { offset: 8, ..answer }).unwrap();
    scene.dies(&app);
    scene.world.client_sends(b" four");
    scene.settle();
    assert_eq!(scene.world.client_received(), b"1");
    assert_eq!(scene.world.client_unacknowledged(), 14);

    let mut app = scene.follow(app);
    scene.settle();
    let notices = app.notices();
    let told: Vec<(u8, u64)> = notices.iter().map(|notice| (notice.kind, notice.offset)).collect();
    assert_eq!(told, [(kind::OPENED, 0), (kind::DATA, 4), (kind::RESUMED, 0)]);
    assert!(
        notices[..2]
            .iter()
            .all(|notice| (notice.gd, notice.cd) == (app.gd.to_bits(), cd.to_bits()))
    );
    assert_eq!(app.receive.bytes(notices[1].at, 14).unwrap(), b"two three four");
    app.submit(Submission { op: op::SEND, flags: flag::ACKNOWLEDGE, offset: 18, ..app.about(cd) });
    scene.settle();
    assert_eq!(scene.world.client_unacknowledged(), 0);
    assert!(scene.liars.is_empty());
}

#[test]
fn what_a_dead_application_could_not_send_it_has_not_acknowledged() {
    let mut scene = Scene::new();
    let mut app = scene.attach(0, &by_application(LISTEN));
    let cd = scene.connected(&mut app);
    scene.world.client_sends(b"0123456789");
    scene.settle();
    app.expect(kind::DATA);
    // Four fill the queue of 16 KiB; the fifth has no room, and the last must not overtake it.
    let answer = Submission { op: op::SEND, flags: flag::ACKNOWLEDGE, len: 4096, ..app.about(cd) };
    for offset in 1..=5 {
        app.submit(Submission { offset, ..answer });
    }
    app.submit(Submission { offset: 6, len: 0, ..answer });
    scene.dies(&app);
    scene.settle();
    assert_eq!(scene.world.client_received().len(), 16_384);
    assert_eq!(scene.world.client_unacknowledged(), 6);
    let mut app = scene.follow(app);
    scene.settle();
    assert_eq!(app.notices()[1].offset, 4);
}

#[test]
fn a_liar_may_be_followed_and_is_not_heard_any_more() {
    let mut scene = Scene::new();
    let mut app = scene.attach(0, &by_application(LISTEN));
    let cd = scene.connected(&mut app);
    app.submit(Submission { op: 99, ..app.about(cd) });
    app.submit(Submission { op: op::ABORT, ..app.about(cd) });
    scene.settle();
    assert_eq!(scene.liars, [(0, Lie::Operation)]);
    scene.dies(&app);
    let mut app = scene.follow(app);
    scene.settle();
    let kinds: Vec<u8> = app.notices().iter().map(|notice| notice.kind).collect();
    assert_eq!(kinds, [kind::OPENED, kind::RESUMED]);
    let (stack, now) = (&mut scene.world.server, scene.world.now);
    assert!(!scene.applications.orphan(1, stack, &mut scene.counters, now));
    assert!(scene.applications.orphan(0, stack, &mut scene.counters, now));
    // Nobody comes.
    assert_eq!(scene.applications.close(0, stack, now).map(|part| part.len()), Some(1 << 20));
    scene.settle();
    assert!(!scene.world.client_is_open());
}

/// Two connections: the client has sent ten bytes on the first and hears of the second.
fn relay() -> (Scene, App, Cd, Cd) {
    let mut scene = Scene::new();
    let mut app = scene.attach(0, &by_application(LISTEN));
    let from = scene.connected(&mut app);
    scene.world.client_sends(b"0123456789");
    scene.settle();
    app.expect(kind::DATA);
    let to = scene.connected(&mut app);
    (scene, app, from, to)
}

/// Bytes of the first connection that the server has not acknowledged.
fn unread(scene: &Scene, from: Cd) -> u32 {
    scene.world.server.connection(from).unwrap().unread
}

#[test]
fn what_belongs_together_acts_together() {
    let (mut scene, mut app, from, to) = relay();
    app.channel.arena.write(0, b"relayed").unwrap();
    let flags = flag::ACKNOWLEDGE | flag::MORE;
    app.submit(Submission { op: op::SEND, flags, offset: 10, ..app.about(from) });
    scene.settle();
    assert_eq!(unread(&scene, from), 10, "half of it does nothing");
    assert_eq!(app.channel.submissions.consumed().unwrap(), 2, "and stays the worker's");
    app.submit(Submission { op: op::SEND, len: 7, ..app.about(to) });
    scene.settle();
    assert_eq!(unread(&scene, from), 0);
    assert_eq!(scene.world.client_received(), b"relayed");
    assert_eq!(app.channel.submissions.consumed().unwrap(), 4);
    assert_eq!((scene.counters.batches, scene.counters.batches_refused), (1, 0));
    assert!(app.notices().is_empty() && scene.liars.is_empty());
}

#[test]
fn when_one_part_cannot_be_done_none_is() {
    let more = flag::ACKNOWLEDGE | flag::MORE;
    // More than was given; a queue of 16 KiB that the parts fill only together; a stale handle.
    for case in 0..3 {
        let (mut scene, mut app, from, to) = relay();
        let before = scene.world.server.usage();
        let ack = Submission { op: op::SEND, flags: more, offset: 10, ..app.about(from) };
        let send = Submission { op: op::SEND, len: 4096, ..app.about(to) };
        let chained = Submission { flags: flag::MORE, ..send };
        let gone = Cd::new(0, to.index(), to.generation() + 1);
        let (parts, place, why) = match case {
            0 => (
                vec![chained, Submission { flags: 1, offset: 11, ..ack }],
                1,
                refused::BEYOND_GIVEN,
            ),
            1 => (vec![ack, chained, chained, chained, chained, send], 5, refused::BEHIND),
            _ => (vec![ack, Submission { cd: gone.to_bits(), ..send }], 1, refused::GONE),
        };
        for part in &parts {
            app.submit(*part);
        }
        scene.settle();
        let refused = app.expect(kind::BATCH_REFUSED);
        assert_eq!((refused.cd, refused.offset), (parts[place].cd, parts.len() as u64));
        assert_eq!(refused.reason, why, "case {case}");
        assert_eq!((unread(&scene, from), scene.world.client_received().len()), (10, 0));
        assert_eq!(scene.world.server.usage(), before, "case {case}");
        // It can be tried again, in a better way.
        app.submit(ack);
        app.submit(send);
        scene.settle();
        assert_eq!((unread(&scene, from), scene.world.client_received().len()), (0, 4096));
    }
}

#[test]
fn who_dies_before_the_last_part_has_done_none() {
    let (mut scene, mut app, from, to) = relay();
    let flags = flag::ACKNOWLEDGE | flag::MORE;
    app.submit(Submission { op: op::SEND, flags: flag::MORE, len: 7, ..app.about(to) });
    app.submit(Submission { op: op::SEND, flags, offset: 10, ..app.about(from) });
    scene.turn();
    let last = Submission { op: op::SEND, len: 1, ..app.about(to) };
    app.channel.submissions.push(&last).unwrap();
    scene.dies(&app);
    scene.settle();
    assert_eq!((unread(&scene, from), scene.world.client_received().len()), (10, 0));
    let mut app = scene.follow(app);
    scene.settle();
    assert!(app.notices().iter().any(|notice| notice.kind == kind::DATA && notice.len == 10));

    // What was published to its end is done, dead or not.
    app.submit(Submission { op: op::SEND, flags, offset: 10, ..app.about(from) });
    app.submit(last);
    scene.dies(&app);
    scene.settle();
    assert_eq!((unread(&scene, from), scene.world.client_received().len()), (0, 1));
}

#[test]
fn what_follows_what_a_dead_application_could_not_do_together_is_not_done() {
    let (mut scene, mut app, from, to) = relay();
    let flags = flag::ACKNOWLEDGE | flag::MORE;
    // More than was given: nothing of it is done.
    app.submit(Submission { op: op::SEND, flags, offset: 11, ..app.about(from) });
    app.submit(Submission { op: op::SEND, len: 7, ..app.about(to) });
    app.submit(Submission { op: op::SEND, len: 1, ..app.about(to) });
    scene.dies(&app);
    scene.settle();
    assert_eq!((unread(&scene, from), scene.world.client_received().len()), (10, 0));
}

#[test]
fn what_cannot_act_together_is_a_lie() {
    let more = |app: &App, cd| Submission { op: op::SEND, flags: flag::MORE, ..app.about(cd) };
    type Chain = fn(Submission) -> Vec<Submission>;
    let chains: [Chain; 4] = [
        |part| vec![part; BATCH_MAX + 1],
        |part| vec![part, Submission { op: op::CLOSE, flags: 0, ..part }],
        |part| vec![part, Submission { flags: flag::CLOSE_AFTER, ..part }],
        |part| vec![Submission { flags: flag::MORE | flag::AGAIN, ..part }],
    ];
    for chain in chains {
        let (mut scene, mut app, from, _) = relay();
        for part in chain(more(&app, from)) {
            app.submit(part);
        }
        scene.settle();
        assert_eq!(scene.liars, [(0, Lie::Batch)]);
    }
}

//! Acknowledging and sending in one submission: it means what one after the other would mean, whatever
//! is possible of it.

use super::*;

/// An application that was given ten bytes, and their connection.
fn asked() -> (Scene, App, Cd) {
    let mut scene = Scene::new();
    let mut app = scene.attach(0, &by_application(LISTEN));
    let cd = scene.connected(&mut app);
    scene.world.client_sends(b"0123456789");
    scene.settle();
    app.expect(kind::DATA);
    (scene, app, cd)
}

/// The answer to so many bytes, itself so long.
fn answer(app: &App, cd: Cd, offset: u64, len: u32) -> Submission {
    Submission { op: op::SEND, flags: flag::ACKNOWLEDGE, offset, len, ..app.about(cd) }
}

/// Bytes that were given and not acknowledged.
fn unread(scene: &Scene, cd: Cd) -> u32 {
    scene.world.server.connection(cd).unwrap().unread
}

#[test]
fn a_part_is_answered_and_the_rest_stays() {
    let (mut scene, mut app, cd) = asked();
    app.submit(answer(&app, cd, 4, 3));
    scene.settle();
    assert_eq!((unread(&scene, cd), scene.world.client_unacknowledged()), (6, 6));
    assert_eq!(scene.world.client_received().len(), 3);
    // What was acknowledged before is so again, and goes no further back.
    app.submit(answer(&app, cd, 2, 1));
    scene.settle();
    assert_eq!((unread(&scene, cd), scene.world.client_received().len()), (6, 4));
    assert!(app.notices().is_empty());
    assert_eq!(scene.counters.commits_refused, 0);
}

#[test]
fn an_acknowledgement_counts_though_its_answer_finds_no_room() {
    let (mut scene, mut app, cd) = asked();
    // The queue of 16 KiB is full.
    for _ in 0..4 {
        app.submit(Submission { op: op::SEND, len: 4096, ..app.about(cd) });
    }
    let last = answer(&app, cd, 10, 4096);
    app.submit(Submission { flags: last.flags | flag::CLOSE_AFTER, ..last });
    scene.turn();
    let refused = app.expect(kind::SEND_REFUSED);
    assert_eq!((refused.reason, refused.offset), (refused::BEHIND, 4096));
    assert_eq!(unread(&scene, cd), 0);
    scene.settle();
    assert_eq!(scene.world.client_unacknowledged(), 0);
    assert_eq!(scene.world.client_received().len(), 16_384);
    assert!(
        !scene.world.client_is_finished(),
        "what was refused is submitted again before the end"
    );
    assert_eq!((scene.counters.sends_refused, scene.counters.commits_refused), (1, 0));
}

#[test]
fn an_answer_goes_though_more_is_acknowledged_than_was_given() {
    let (mut scene, mut app, cd) = asked();
    app.submit(answer(&app, cd, 11, 5));
    scene.settle();
    assert_eq!(unread(&scene, cd), 10);
    assert_eq!(scene.world.client_received().len(), 5);
    assert!(app.notices().is_empty(), "nothing of it was refused that can be told");
    assert_eq!((scene.counters.sends_refused, scene.counters.commits_refused), (0, 1));
}

#[test]
fn after_our_end_an_answer_is_refused_and_its_acknowledgement_is_not() {
    let (mut scene, mut app, cd) = asked();
    app.submit(answer(&app, cd, 10, 0));
    app.submit(Submission { op: op::CLOSE, ..app.about(cd) });
    app.submit(answer(&app, cd, 10, 1));
    scene.turn();
    let refused = app.expect(kind::SEND_REFUSED);
    assert_eq!((refused.reason, refused.offset), (refused::NOT_OPEN, 1));
    assert_eq!((scene.counters.sends_refused, scene.counters.commits_refused), (1, 0));
}

/// The transmit buffer of 1 MiB is full of what clients do not take.
#[test]
fn an_acknowledgement_counts_though_no_buffer_is_left_for_its_answer() {
    let mut scene = Scene::new();
    let config = GroupConfig { accept: Accept::Automatic, ..by_application(LISTEN) };
    let mut app = scene.attach(0, &config);
    let client = scene.world.connect(LISTEN);
    scene.settle();
    let cd = Cd::from_bits(app.expect(kind::OPENED).cd);
    scene.world.opened(client);
    scene.world.client_sends(b"0123456789");
    scene.settle();
    app.expect(kind::DATA);
    for _ in 0..80 {
        scene.world.connect(LISTEN);
    }
    scene.settle();
    let mut others = app.notices();
    scene.settle();
    others.extend(app.notices());
    assert_eq!(others.len(), 80);
    for opened in others.iter().cycle().take(4 * 80) {
        let about = app.about(Cd::from_bits(opened.cd));
        app.submit(Submission { op: op::SEND, len: 4096, ..about });
        scene.turn();
        app.notices();
    }
    assert!(scene.counters.sends_refused > 0, "there was room for all of it");
    app.submit(answer(&app, cd, 10, 4096));
    scene.turn();
    let refused = app.expect(kind::SEND_REFUSED);
    assert_eq!((refused.reason, refused.cd), (refused::NO_BUFFER, cd.to_bits()));
    assert_eq!(unread(&scene, cd), 0);
}

#[test]
fn what_is_gone_is_told_once_for_both() {
    let (mut scene, mut app, cd) = asked();
    app.submit(Submission { op: op::ABORT, ..app.about(cd) });
    app.submit(answer(&app, cd, 10, 7));
    app.submit(answer(&app, cd, 10, 0));
    scene.turn();
    let notices = app.notices();
    let told: Vec<(u8, u8, u64)> =
        notices.iter().map(|notice| (notice.kind, notice.reason, notice.offset)).collect();
    assert_eq!(told.iter().filter(|told| told.0 == kind::SEND_REFUSED).count(), 1, "{told:?}");
    assert!(scene.liars.is_empty());
}

#[test]
fn an_answer_that_wants_the_rest_again_gets_both() {
    let (mut scene, mut app, cd) = asked();
    let both = answer(&app, cd, 4, 2);
    app.submit(Submission { flags: both.flags | flag::AGAIN, ..both });
    scene.settle();
    let data = app.expect(kind::DATA);
    assert_eq!((data.offset, data.len), (4, 6));
    assert_eq!(scene.world.client_received().len(), 2);
}

#[test]
fn an_answer_can_be_the_last_word() {
    let (mut scene, mut app, cd) = asked();
    let last = answer(&app, cd, 10, 2);
    app.submit(Submission { flags: last.flags | flag::CLOSE_AFTER, ..last });
    scene.settle();
    assert_eq!((unread(&scene, cd), scene.world.client_received().len()), (0, 2));
    assert!(scene.world.client_is_finished());
}

/// Submissions are copied out many at a time; what stands before a lie is done all the same.
#[test]
fn what_was_asked_before_a_lie_is_done() {
    let (mut scene, mut app, cd) = asked();
    for offset in 1..=5 {
        app.submit(answer(&app, cd, offset, 1));
    }
    app.submit(Submission { op: 99, ..app.about(cd) });
    app.submit(answer(&app, cd, 6, 1));
    scene.settle();
    assert_eq!(scene.liars, [(0, Lie::Operation)]);
    assert_eq!((unread(&scene, cd), scene.world.client_received().len()), (5, 5));
}

#[test]
fn what_is_asked_at_once_is_done_in_its_order() {
    let (mut scene, mut app, cd) = asked();
    let text: Vec<u8> = (0..100).collect();
    app.channel.arena.write(0, &text).unwrap();
    for at in 0..100 {
        app.submit(Submission { at, ..answer(&app, cd, 10, 1) });
    }
    scene.turn();
    assert_eq!(app.channel.submissions.consumed().unwrap(), 1 + 64, "a turn's share");
    scene.settle();
    assert_eq!(app.channel.submissions.consumed().unwrap(), 1 + 100);
    assert_eq!(scene.world.client_received(), text);
}

/// One thing an application asks in the property below.
#[derive(Clone, Copy, Debug)]
struct Asked {
    acknowledge: Option<u64>,
    again: bool,
    len: u32,
    close_after: bool,
    /// Instead of all that.
    abort: bool,
    /// Of a handle that has gone stale.
    stale: bool,
    /// The worker turns after it, the network too.
    turns: (bool, bool),
}

fn asked_by_chance() -> impl Strategy<Value = Asked> {
    let acknowledge = proptest::option::weighted(0.8, 0_u64..60);
    let len = prop_oneof![3 => 0_u32..100, 2 => 3000_u32..4096];
    let rare = |weight| proptest::bool::weighted(weight);
    (acknowledge, rare(0.1), len, (rare(0.05), rare(0.02), rare(0.05)), (rare(0.4), rare(0.3)))
        .prop_map(|(acknowledge, again, len, (close_after, abort, stale), turns)| Asked {
            acknowledge,
            again,
            len,
            close_after,
            abort,
            stale,
            turns,
        })
}

/// What came of it, seen from all sides.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    notices: Vec<Notice>,
    received: Vec<u8>,
    unacknowledged: u32,
    finished: bool,
    unread: Option<u32>,
    refused: (u64, u64),
}

/// Carries it out, each as one submission, or acknowledging and sending one after the other.
fn outcome(all: &[Asked], apart: bool) -> Outcome {
    let (mut scene, mut app, cd) = asked();
    let text: Vec<u8> = (0..4096_u32).map(|at| (at * 31 % 251) as u8).collect();
    app.channel.arena.write(0, &text).unwrap();
    let mut notices = Vec::new();
    for (number, asked) in all.iter().enumerate() {
        let cd = if asked.stale { Cd::new(0, cd.index(), cd.generation() + 1) } else { cd };
        let mut flags = 0;
        flags |= if asked.acknowledge.is_some() { flag::ACKNOWLEDGE } else { 0 };
        flags |= if asked.again { flag::AGAIN } else { 0 };
        let (at, after) = (number as u32, if asked.close_after { flag::CLOSE_AFTER } else { 0 });
        let (len, offset) = (asked.len.min(4096 - at), asked.acknowledge.unwrap_or(0));
        let both = Submission { op: op::SEND, offset, at, len, ..app.about(cd) };
        if asked.abort {
            app.submit(Submission { op: op::ABORT, ..app.about(cd) });
        } else if apart && flags != 0 {
            app.submit(Submission { flags, len: 0, ..both });
            app.submit(Submission { flags: after, ..both });
        } else {
            app.submit(Submission { flags: flags | after, ..both });
        }
        if asked.turns.0 {
            scene.turn();
            notices.extend(app.notices());
        }
        if asked.turns.1 {
            scene.world.client_sends_if_open(b"and more");
            scene.world.exchange();
        }
    }
    scene.settle();
    notices.extend(app.notices());
    assert!(scene.liars.is_empty());
    Outcome {
        notices,
        received: scene.world.client_received().to_vec(),
        unacknowledged: scene.world.client_unacknowledged(),
        finished: scene.world.client_is_finished(),
        unread: scene.world.server.connection(cd).ok().map(|info| info.unread),
        refused: (scene.counters.sends_refused, scene.counters.commits_refused),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn together_is_one_after_the_other(all in proptest::collection::vec(asked_by_chance(), 1..25)) {
        prop_assert_eq!(outcome(&all, false), outcome(&all, true));
    }
}

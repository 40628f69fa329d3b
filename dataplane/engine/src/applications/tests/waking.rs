//! When a sleeping application is woken.

use xtcp_ring::layout::PARKED;
use xtcp_ring::ring::ParkFlag;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// An application with one open connection, asleep. Its group's text wakes it by threes.
fn asleep() -> (Scene, App, Cd, ParkFlag) {
    asleep_with(Wake { notices: 3, delay: SECOND })
}

fn asleep_with(wake: Wake) -> (Scene, App, Cd, ParkFlag) {
    let mut scene = Scene::new();
    let mut app = scene.attach_patiently(0, &by_application(LISTEN), wake);
    let cd = scene.connected(&mut app);
    let flag = ParkFlag::new(&app.endpoint, PARKED).unwrap();
    flag.park();
    (scene, app, cd, flag)
}

/// One more notice of text.
fn request(scene: &mut Scene) {
    scene.world.client_sends(b"a request");
    scene.settle();
}

#[test]
fn a_patient_group_wakes_by_the_number() {
    let (mut scene, mut app, _, flag) = asleep();
    for told in 1..=3 {
        assert!(flag.is_parked(), "woken by {told}");
        request(&mut scene);
    }
    assert!(!flag.is_parked(), "not woken by three");
    assert_eq!(app.notices().len(), 3);
    // It counts anew in the next sleep.
    flag.park();
    request(&mut scene);
    request(&mut scene);
    assert!(flag.is_parked());
    request(&mut scene);
    assert!(!flag.is_parked());
}

#[test]
fn a_request_does_not_wait_longer_than_it_may_for_others() {
    let (mut scene, _app, _, flag) = asleep();
    request(&mut scene);
    let told_before = scene.world.now;
    scene.turn();
    assert!(flag.is_parked());
    scene.world.now = told_before + SECOND;
    scene.turn();
    assert!(!flag.is_parked());
    // Nothing is due any more.
    flag.park();
    scene.world.now = scene.world.now + SECOND + SECOND;
    scene.turn();
    assert!(flag.is_parked());
}

#[test]
fn what_it_finds_by_itself_does_not_count() {
    let (mut scene, mut app, _, flag) = asleep();
    flag.unpark();
    request(&mut scene);
    request(&mut scene);
    assert_eq!(app.notices().len(), 2);
    flag.park();
    let parked = scene.world.now;
    request(&mut scene);
    assert!(flag.is_parked(), "it counts what was told to an application awake");
    scene.world.now = parked + SECOND;
    scene.turn();
    assert!(flag.is_parked(), "the time runs from what it has found by itself");
    scene.world.now = scene.world.now + SECOND;
    scene.turn();
    assert!(!flag.is_parked());
}

#[test]
fn all_else_wakes_at_once() {
    let (mut scene, _app, _, flag) = asleep();
    scene.world.client_closes();
    scene.settle();
    assert!(!flag.is_parked(), "the end of a stream");

    let (mut scene, _app, _, flag) = asleep();
    scene.world.connect(LISTEN);
    scene.settle();
    assert!(!flag.is_parked(), "a client to be accepted");

    let (mut scene, mut app, cd, flag) = asleep();
    for _ in 0..5 {
        app.submit(Submission { op: op::SEND, len: 4096, ..app.about(cd) });
    }
    scene.turn();
    assert!(!flag.is_parked(), "a refusal");
}

#[test]
fn a_full_ring_wakes_whoever_sleeps_before_it() {
    let (mut scene, mut app, _, flag) =
        asleep_with(Wake { notices: 1000, delay: Duration::from_secs(3600) });
    // The ring has 64 places, and 8 are kept for refusals.
    let mut told = 0;
    while flag.is_parked() {
        request(&mut scene);
        told += 1;
        assert!(told <= 57, "it sleeps before a full ring");
    }
    assert_eq!(app.notices().len(), 56);
}

#[test]
fn each_group_counts_for_itself() {
    let (mut scene, app, _, flag) = asleep();
    let other = Gd::new(3, 1);
    let stack = &mut scene.world.server;
    let config = GroupConfig { accept: Accept::Automatic, ..by_application(LISTEN + 9) };
    let wake = Wake { notices: 2, delay: SECOND };
    scene.applications.open_group(app.number, other, &config, wake, stack).unwrap();
    let second = scene.world.connect(LISTEN + 9);
    scene.settle();
    flag.park();
    request(&mut scene);
    scene.world.client_sends_on(second, b"x");
    scene.settle();
    assert!(flag.is_parked(), "one of each is neither three nor two");
    scene.world.client_sends_on(second, b"y");
    scene.settle();
    assert!(!flag.is_parked());
}

#[test]
fn a_successor_does_not_inherit_its_predecessors_patience() {
    let (mut scene, app, _, _) = asleep();
    request(&mut scene);
    scene.dies(&app);
    let mut app = scene.follow(app);
    scene.settle();
    assert_eq!(app.notices().len(), 3, "opened, text, resumed");
    let flag = ParkFlag::new(&app.endpoint, PARKED).unwrap();
    flag.park();
    let parked = scene.world.now;
    request(&mut scene);
    request(&mut scene);
    assert!(flag.is_parked(), "what its predecessor was told counts");
    scene.world.now = parked + SECOND + SECOND;
    scene.turn();
    assert!(!flag.is_parked(), "nobody remembers when it is to be woken");
}

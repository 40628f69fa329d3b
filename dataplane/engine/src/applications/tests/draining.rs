//! Groups that send their clients away.

use xtcp_stack::config::Manner;

use super::*;

/// An application with so many open connections.
fn crowd(count: usize) -> (Scene, App) {
    let mut scene = Scene::new();
    let config = GroupConfig { accept: Accept::Automatic, ..by_application(LISTEN) };
    let mut app = scene.attach(0, &config);
    for _ in 0..count {
        scene.world.connect(LISTEN);
        scene.settle();
    }
    assert_eq!(app.notices().len(), count);
    (scene, app)
}

impl Scene {
    fn drain(&mut self, app: &App, per_second: u32, manner: Manner) -> Result<(), Misuse> {
        let (stack, now) = (&mut self.world.server, self.world.now);
        self.applications.drain_group(app.number, app.gd, (per_second, manner), stack, now)
    }
}

#[test]
fn connections_end_at_the_rate_and_then_the_group_is_drained() {
    let (mut scene, mut app) = crowd(20);
    scene.drain(&app, 100, Manner::Reset).unwrap();
    let started = scene.world.now;
    let mut closed = 0;
    let drained = loop {
        scene.turn();
        let mut notices = app.notices();
        let last = notices.pop_if(|notice| notice.kind == kind::DRAINED);
        assert!(notices.iter().all(|notice| notice.kind == kind::CLOSED), "{notices:?}");
        closed += notices.len() as u128;
        let ms = scene.world.now.since(started).as_millis();
        assert!(closed <= 2 + ms / 10, "{closed} in {ms} ms");
        assert!(ms < 10_000, "{closed} of 20 are closed");
        if let Some(last) = last {
            break last;
        }
        scene.world.exchange();
    };
    assert_eq!(closed, 20);
    assert_eq!((drained.gd, Cd::from_bits(drained.cd)), (app.gd.to_bits(), Cd::new(0, 0, 0)));
    // Nobody new comes in, and it is told once.
    scene.world.connect(LISTEN);
    scene.settle();
    assert_eq!(app.notices(), []);
}

#[test]
fn an_empty_group_is_drained_at_once() {
    let (mut scene, mut app) = crowd(0);
    scene.drain(&app, 1, Manner::WhenIdle).unwrap();
    scene.turn();
    app.expect(kind::DRAINED);
}

#[test]
fn only_its_own_application_drains_a_group() {
    let (mut scene, app) = crowd(1);
    let other = App { number: 1, ..app };
    assert_eq!(scene.drain(&other, 1, Manner::Reset), Err(Misuse::StaleGroup));
    let gone = App { number: 0, gd: Gd::new(9, 9), ..other };
    assert_eq!(scene.drain(&gone, 1, Manner::Reset), Err(Misuse::StaleGroup));
}

//! Several applications at one worker: what one does to itself is nobody else's matter. Counted in
//! turns of the worker, not in time.

use xtcp_stack::group::{Level, PoolInfo};

use super::*;

/// Requests the honest application answers.
const EXCHANGES: usize = 50;

/// Connections of the other: enough to queue more than all the transmit buffer has.
const CROWD: usize = 100;

/// Turns until the honest application has answered all its requests, one after another.
fn turns(scene: &mut Scene, app: &mut App, cd: Cd) -> usize {
    let mut turns = 0;
    for number in 1..=EXCHANGES {
        scene.world.client_sends(&[b'q'; 1000]);
        while scene.world.client_received().len() < number * 1000 {
            scene.turn();
            scene.world.exchange();
            turns += 1;
            assert!(turns < 100 * EXCHANGES, "request {number} is not answered");
            for notice in app.notices() {
                assert_eq!(notice.kind, kind::DATA, "{notice:?}");
                let offset = notice.offset + u64::from(notice.len);
                let flags = flag::ACKNOWLEDGE;
                // As much as was asked.
                let len = u32::from(notice.len);
                app.submit(Submission { op: op::SEND, flags, offset, len, ..app.about(cd) });
            }
        }
    }
    turns
}

/// An application whose clients have sent all that its buffer takes, and that has read none of it.
fn one_that_does_not_read(scene: &mut Scene) -> App {
    let config = GroupConfig { accept: Accept::Automatic, ..by_application(LISTEN) };
    let app = scene.attach(0, &config);
    for _ in 0..CROWD {
        let client = scene.world.connect(LISTEN);
        scene.settle();
        scene.world.client_sends_on(client, &[b'x'; 30_000]);
    }
    for _ in 0..200 {
        scene.turn();
        scene.world.exchange();
    }
    assert_eq!(scene.level_of(&app), Level::Hide);
    app
}

/// One that sends without end to clients that are gone.
fn one_that_sends_without_end(scene: &mut Scene) -> App {
    let config = GroupConfig { accept: Accept::Automatic, ..by_application(LISTEN) };
    let mut app = scene.attach(0, &config);
    let mut connections = Vec::new();
    for _ in 0..CROWD {
        scene.world.connect(LISTEN);
        scene.settle();
        connections.extend(app.notices().iter().map(|notice| Cd::from_bits(notice.cd)));
    }
    scene.world.lose_from(LISTEN);
    let refused_before = scene.counters.sends_refused;
    for cd in connections.iter().cycle().take(5 * CROWD) {
        app.submit(Submission { op: op::SEND, len: 4096, ..app.about(*cd) });
        scene.turn();
        app.notices();
    }
    assert!(scene.counters.sends_refused > refused_before, "there was room for all of it");
    app
}

/// One whose submissions never end, all for what is gone.
fn one_that_never_stops_asking(scene: &mut Scene) -> App {
    let mut app = scene.attach(0, &by_application(LISTEN));
    let gone = app.about(Cd::new(0, 5, 5));
    for _ in 0..LAYOUT.submissions {
        app.submit(Submission { op: op::SEND, len: 1, ..gone });
    }
    app
}

/// With every buffer taken that one can take, what is not on the data path goes on, and what is
/// taken comes back to the last byte.
#[test]
fn every_buffer_is_accounted_for_and_comes_back() {
    let mut scene = Scene::new();
    let before = scene.world.server.usage();
    let full = one_that_does_not_read(&mut scene);
    let pool = scene.pool_of(&full);
    assert!(pool.receive_free < pool.receive_bytes / 10, "{pool:?}");
    assert!(pool.receive_payload <= pool.receive_used, "{pool:?}");
    assert!(pool.receive_used + pool.receive_free <= pool.receive_bytes, "{pool:?}");
    assert!(pool.text_hidden > 0 && pool.windows_shrunk > 0, "{pool:?}");

    // It can be looked at and closed, and others come and go.
    let usage = scene.world.server.usage();
    assert_eq!((usage.connections, usage.pools), (CROWD as u32, 1));
    assert_eq!(scene.world.server.connections().count(), CROWD);
    let mut other = scene.attach(1, &by_application(LISTEN + 1));
    scene.connected_amid_others(&mut other);
    let (stack, now) = (&mut scene.world.server, scene.world.now);
    assert!(scene.applications.close(1, stack, now).is_some());
    assert!(scene.applications.close(0, stack, now).is_some());
    scene.settle();
    assert_eq!(scene.world.server.usage(), before);
}

#[test]
fn whatever_one_does_the_other_is_answered_in_as_many_turns() {
    type Makes = fn(&mut Scene) -> App;
    let mut alone = None;
    let others: [Option<Makes>; 4] = [
        None,
        Some(one_that_does_not_read),
        Some(one_that_sends_without_end),
        Some(one_that_never_stops_asking),
    ];
    for (case, other) in others.into_iter().enumerate() {
        let mut scene = Scene::new();
        // A pool alone may take everything; what is shared is kept for those who are there.
        let mut honest = scene.attach(1, &by_application(LISTEN + 1));
        let _other = other.map(|makes| makes(&mut scene));
        let cd = scene.connected_amid_others(&mut honest);
        let turns = turns(&mut scene, &mut honest, cd);
        assert_eq!(turns, *alone.get_or_insert(turns), "case {case}");
        assert!(scene.liars.is_empty());
    }
}

impl Scene {
    fn pool_of(&self, app: &App) -> PoolInfo {
        let group = self.applications.groups.at_stack(app.gd, app.number).unwrap().unwrap();
        let group = self.world.server.groups().find(|info| info.group == group).unwrap();
        self.world.server.pools().find(|info| info.pool == group.pool).unwrap()
    }

    fn level_of(&self, app: &App) -> Level {
        self.pool_of(app).level
    }

    /// As [`Self::connected`], while others never come to rest.
    fn connected_amid_others(&mut self, app: &mut App) -> Cd {
        let client = self.world.connect(LISTEN + app.number);
        let mut accepted = None;
        for _ in 0..100 {
            self.turn();
            self.world.exchange();
            for notice in app.notices() {
                let cd = Cd::from_bits(notice.cd);
                match notice.kind {
                    kind::ACCEPTABLE => app.submit(Submission { op: op::ACCEPT, ..app.about(cd) }),
                    kind::OPENED => accepted = Some(cd),
                    _ => panic!("{notice:?}"),
                }
            }
            if let Some(cd) = accepted {
                self.world.opened(client);
                return cd;
            }
        }
        panic!("nobody was accepted");
    }
}

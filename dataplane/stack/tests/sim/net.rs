//! Two hosts with applications and the links between them.

use std::time::Duration;

use xtcp_stack::{Config, GroupConfig, Instant, TcpConfig};

use super::app::{App, Habit};
use super::link::{Link, Weather};
use super::{Host, Memory, Wire, assert_well_formed, config};

/// A client's host, a server's host, and what is between them.
pub(crate) struct Net<'m> {
    pub(crate) hosts: [Host<'m>; 2],
    pub(crate) apps: [App; 2],
    pub(crate) links: [Link; 2],
    pub(crate) now: Instant,
    steps: u64,
}

impl<'m> Net<'m> {
    pub(crate) fn new(
        memory: &'m mut [Memory; 2],
        (seed, weather): (u64, Weather),
        (tcp, client, server): (TcpConfig, &GroupConfig, &GroupConfig),
        habit: Habit,
    ) -> Self {
        let configs = [Config { tcp, ..config(0, 1) }, Config { tcp, ..config(1, 2) }];
        Self::of(memory, (seed, weather), &configs, [client, server], habit)
    }

    /// Hosts of any kind.
    pub(crate) fn of(
        memory: &'m mut [Memory; 2],
        (seed, weather): (u64, Weather),
        configs: &[Config; 2],
        groups: [&GroupConfig; 2],
        habit: Habit,
    ) -> Self {
        let [client, server] = memory;
        Self {
            hosts: [
                Host::new(client, &configs[0], groups[0]),
                Host::new(server, &configs[1], groups[1]),
            ],
            apps: [App::new(Habit::Prompt, seed ^ 1), App::new(habit, seed ^ 2)],
            links: [Link::new(weather, seed ^ 3), Link::new(weather, seed ^ 4)],
            now: Instant::from_millis(1_000),
            steps: 0,
        }
    }

    /// Everything that happens at this instant.
    pub(crate) fn step(&mut self) {
        for side in 0..2 {
            let mut wire = Wire::default();
            while let Some(frame) = self.links[1 - side].arrived(self.now) {
                self.hosts[side].frame(&frame, &mut wire, self.now);
            }
            self.apps[side].run(&mut self.hosts[side], self.now);
            self.hosts[side].flush(&mut wire, self.now);
            self.apps[side].run(&mut self.hosts[side], self.now);
            self.hosts[side].flush(&mut wire, self.now);
            self.audit(side);
            for frame in wire.frames {
                assert_well_formed(&frame);
                self.links[side].send(frame, self.now);
            }
        }
    }

    /// Every step with a few connections; with many, so that it costs no more for each.
    fn audit(&mut self, side: usize) {
        self.steps += 1;
        let stack = &self.hosts[side].stack;
        if self.steps % (1 + u64::from(stack.usage().connections) / 8) == 0 {
            stack.audit().expect("the books are right and every rule is kept");
        }
    }

    /// Runs until nothing is left to happen, or until `limit`.
    pub(crate) fn run(&mut self, limit: Duration) {
        self.run_until(limit, |_| false);
    }

    /// Runs until this is so, until nothing is left to happen, or until `limit`.
    pub(crate) fn run_until(&mut self, limit: Duration, over: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        loop {
            self.step();
            if over(self) {
                return;
            }
            if !self.wait() || self.now > end {
                return;
            }
        }
    }

    /// Lets time pass until something happens. Answers whether anything will.
    pub(crate) fn wait(&mut self) -> bool {
        let timeouts = self.hosts.iter().filter_map(|host| host.stack.poll_timeout());
        let arrivals = self.links.iter().filter_map(Link::next_arrival);
        let restless = self.apps.iter().any(App::is_restless);
        let nudge = restless.then(|| self.now + Duration::from_millis(5));
        let Some(next) = timeouts.chain(arrivals).chain(nudge).min() else { return false };
        assert!(next > self.now, "time goes on");
        self.now = next;
        true
    }
}

//! A link between two hosts: delay, loss, reordering, duplication, corruption, a queue.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use xtcp_stack::Instant;

use super::rng::Rng;

/// What a link does to frames; shares are per million.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) delay: Duration,
    /// Up to this much more, evenly: frames overtake each other.
    pub(crate) jitter: Duration,
    pub(crate) loss: u32,
    pub(crate) duplication: u32,
    pub(crate) corruption: u32,
    /// Frames that wait this much longer than the others.
    pub(crate) reordering: u32,
    pub(crate) reorder_by: Duration,
}

/// Weather from a seed: anything from a good local network to a very bad mobile one.
pub(crate) fn any_weather(seed: u64) -> Weather {
    let mut rng = Rng::new(seed);
    let mut share = |most| u32::try_from(rng.below(most)).expect("small");
    let (loss, duplication) = (share(80_000), share(30_000));
    let (corruption, reordering) = (share(20_000), share(100_000));
    let delay = Duration::from_micros(rng.below(100_000));
    let jitter = Duration::from_micros(rng.below(10_000));
    let reorder_by = Duration::from_micros(rng.below(50_000));
    Weather { delay, jitter, loss, duplication, corruption, reordering, reorder_by }
}

/// One direction of a link.
pub(crate) struct Link {
    weather: Weather,
    rng: Rng,
    /// Arrival time, order of sending, bytes.
    flying: BinaryHeap<Reverse<(u64, u64, Vec<u8>)>>,
    sent: u64,
    /// A hash over all that arrived and when: two runs of one seed have the same.
    pub(crate) trace: u64,
}

impl Link {
    pub(crate) fn new(weather: Weather, seed: u64) -> Self {
        Self { weather, rng: Rng::new(seed), flying: BinaryHeap::new(), sent: 0, trace: seed }
    }

    pub(crate) fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    pub(crate) fn send(&mut self, frame: Vec<u8>, now: Instant) {
        if self.rng.chance(self.weather.loss) {
            return;
        }
        if self.rng.chance(self.weather.duplication) {
            self.fly(frame.clone(), now);
        }
        self.fly(frame, now);
    }

    fn fly(&mut self, mut frame: Vec<u8>, now: Instant) {
        let jitter = u64::try_from(self.weather.jitter.as_nanos()).unwrap_or(0);
        let mut delay = self.weather.delay + Duration::from_nanos(self.rng.below(jitter + 1));
        if self.rng.chance(self.weather.reordering) {
            delay += self.weather.reorder_by;
        }
        if self.rng.chance(self.weather.corruption) && !is_arp(&frame) {
            let at = usize::try_from(self.rng.below(frame.len() as u64)).unwrap_or(0);
            frame[at] ^= 1 << self.rng.below(8);
        }
        self.sent += 1;
        self.flying.push(Reverse(((now + delay).as_nanos(), self.sent, frame)));
    }

    /// The next frame that has arrived by `now`.
    pub(crate) fn arrived(&mut self, now: Instant) -> Option<Vec<u8>> {
        let Reverse((at, ..)) = self.flying.peek()?;
        if *at > now.as_nanos() {
            return None;
        }
        let Reverse((at, _, frame)) = self.flying.pop()?;
        for &byte in at.to_le_bytes().iter().chain(&frame) {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Some(frame)
    }

    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.flying.peek().map(|Reverse((at, ..))| Instant::from_nanos(*at))
    }
}

/// ARP has no checksum: what the Ethernet's own does not catch poisons any host's table.
fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x06])
}

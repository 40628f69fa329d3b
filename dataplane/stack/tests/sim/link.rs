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
    /// Bytes per second of the narrowest place; 0: as many as there are.
    pub(crate) rate: u64,
    /// What waits there for longer than this, if not zero, is lost.
    pub(crate) queue: Duration,
    /// What waits there for longer than this, if not zero, is marked (RFC 3168) if it may be.
    pub(crate) mark: Duration,
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
    let mut weather = Weather {
        delay,
        jitter,
        loss,
        duplication,
        corruption,
        reordering,
        reorder_by,
        ..Weather::default()
    };
    // One in three is narrow somewhere, and marks what waits there.
    if rng.below(3) == 0 {
        weather.rate = 100_000 << rng.below(8);
        weather.queue = Duration::from_millis(5 + rng.below(200));
        weather.mark = weather.queue / 4;
    }
    weather
}

/// One direction of a link.
pub(crate) struct Link {
    weather: Weather,
    rng: Rng,
    /// Arrival time, order of sending, bytes.
    flying: BinaryHeap<Reverse<(u64, u64, Vec<u8>)>>,
    sent: u64,
    /// Until when the narrowest place is busy with what was sent before, in nanoseconds.
    busy_until: u64,
    /// A hash over all that arrived and when: two runs of one seed have the same.
    pub(crate) trace: u64,
}

impl Link {
    pub(crate) fn new(weather: Weather, seed: u64) -> Self {
        let (flying, rng) = (BinaryHeap::new(), Rng::new(seed));
        Self { weather, rng, flying, sent: 0, busy_until: 0, trace: seed }
    }

    pub(crate) fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    pub(crate) fn send(&mut self, mut frame: Vec<u8>, now: Instant) {
        let Some(now) = self.queue(&mut frame, now) else { return };
        if self.rng.chance(self.weather.loss) {
            return;
        }
        if self.rng.chance(self.weather.duplication) {
            self.fly(frame.clone(), now);
        }
        self.fly(frame, now);
    }

    /// When a frame has passed the narrowest place.
    fn queue(&mut self, frame: &mut [u8], now: Instant) -> Option<Instant> {
        let Weather { rate, queue, mark, .. } = self.weather;
        if rate == 0 {
            return Some(now);
        }
        let wait = Duration::from_nanos(self.busy_until.saturating_sub(now.as_nanos()));
        if !queue.is_zero() && wait > queue {
            return None;
        }
        if !mark.is_zero() && wait > mark {
            experience_congestion(frame);
        }
        let takes = frame.len() as u64 * 1_000_000_000 / rate;
        self.busy_until = (now + wait).as_nanos() + takes;
        Some(Instant::from_nanos(self.busy_until))
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

/// What a router does to an IPv4 packet whose sender knows ECN: CE (RFC 3168 section 5), and the
/// checksum with it (RFC 1624).
fn experience_congestion(frame: &mut [u8]) {
    const CLASS: usize = 15;
    const CHECKSUM: usize = 24;
    let is_ipv4 = frame.get(12..14) == Some(&[0x08, 0x00]);
    if !is_ipv4 || frame[CLASS] & 3 == 0 {
        return;
    }
    let before = u16::from_be_bytes([frame[CLASS - 1], frame[CLASS]]);
    frame[CLASS] |= 3;
    let after = u16::from_be_bytes([frame[CLASS - 1], frame[CLASS]]);
    let sum = u16::from_be_bytes([frame[CHECKSUM], frame[CHECKSUM + 1]]);
    let sum = u32::from(!sum) + u32::from(!before) + u32::from(after);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from(sum).expect("folded");
    frame[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
}

//! What a wire does to the frames of one direction: the model of the stack's own simulator, so that
//! one can be held against the other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;

/// What happens to frames. Shares are per million of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Weather {
    /// Microseconds every frame takes, each way
    #[arg(long, default_value_t = 0)]
    pub delay_us: u64,
    /// Of a million frames, so many are lost
    #[arg(long, default_value_t = 0)]
    pub lost: u32,
    /// Of a million frames, so many come twice
    #[arg(long, default_value_t = 0)]
    pub twice: u32,
    /// In a million frames, a bit of so many is turned
    #[arg(long, default_value_t = 0)]
    pub corrupt: u32,
    /// Of a million frames, so many come late
    #[arg(long, default_value_t = 0)]
    pub late: u32,
    /// Microseconds a late frame takes more
    #[arg(long, default_value_t = 0)]
    pub late_by_us: u64,
    /// Bytes a second the narrowest place lets through; 0: all
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// A frame that would wait there for so many microseconds is lost; 0: none is
    #[arg(long, default_value_t = 0)]
    pub queue_us: u64,
}

impl Weather {
    /// The arguments that say the same to `xtcp-bench wire`.
    #[must_use]
    pub fn arguments(&self) -> String {
        let Self { delay_us, lost, twice, corrupt, late, late_by_us, rate, queue_us } = self;
        let mut line = format!("--delay-us {delay_us} --lost {lost} --twice {twice}");
        // Writing to a string cannot fail.
        let _ = write!(line, " --corrupt {corrupt} --late {late} --late-by-us {late_by_us}");
        let _ = write!(line, " --rate {rate} --queue-us {queue_us}");
        line
    }
}

/// What a direction did so far, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) frames: u64,
    pub(super) lost: u64,
    /// Of the lost, those that found the queue full.
    pub(super) overflowed: u64,
    pub(super) twice: u64,
    pub(super) corrupt: u64,
    pub(super) late: u64,
}

/// One direction. Times are nanoseconds of any clock that does not go back.
#[derive(Debug)]
pub(super) struct Way {
    weather: Weather,
    random: Random,
    /// Arrival, order of sending, bytes.
    flying: BinaryHeap<Reverse<(u64, u64, Vec<u8>)>>,
    sent: u64,
    /// Until when the narrowest place is busy.
    busy_until: u64,
    pub(super) tally: Tally,
}

impl Way {
    pub(super) const fn new(weather: Weather, seed: u64) -> Self {
        Self {
            weather,
            random: Random(seed),
            flying: BinaryHeap::new(),
            sent: 0,
            busy_until: 0,
            tally: Tally { frames: 0, lost: 0, overflowed: 0, twice: 0, corrupt: 0, late: 0 },
        }
    }

    pub(super) fn send(&mut self, frame: &[u8], now: u64) {
        self.tally.frames += 1;
        let Some(passed) = self.pass_the_narrowest_place(frame.len(), now) else {
            self.tally.lost += 1;
            self.tally.overflowed += 1;
            return;
        };
        if self.random.hits(self.weather.lost) {
            self.tally.lost += 1;
            return;
        }
        if self.random.hits(self.weather.twice) {
            self.tally.twice += 1;
            self.fly(frame.to_vec(), passed);
        }
        self.fly(frame.to_vec(), passed);
    }

    fn pass_the_narrowest_place(&mut self, bytes: usize, now: u64) -> Option<u64> {
        let Weather { rate, queue_us, .. } = self.weather;
        if rate == 0 {
            return Some(now);
        }
        let wait = self.busy_until.saturating_sub(now);
        if queue_us > 0 && wait > queue_us * 1_000 {
            return None;
        }
        self.busy_until = now + wait + bytes as u64 * 1_000_000_000 / rate;
        Some(self.busy_until)
    }

    fn fly(&mut self, mut frame: Vec<u8>, from: u64) {
        let mut at = from + self.weather.delay_us * 1_000;
        if self.random.hits(self.weather.late) {
            self.tally.late += 1;
            at += self.weather.late_by_us * 1_000;
        }
        if is_ipv4(&frame) && self.random.hits(self.weather.corrupt) {
            self.tally.corrupt += 1;
            let behind = frame.len() - ETHERNET_BYTES;
            let place = usize::try_from(self.random.below(behind as u64)).unwrap_or(0);
            if let Some(byte) = frame.get_mut(ETHERNET_BYTES + place) {
                *byte ^= 1 << self.random.below(8);
            }
        }
        self.sent += 1;
        self.flying.push(Reverse((at, self.sent, frame)));
    }

    /// The next frame that has arrived by `now`.
    pub(super) fn arrived(&mut self, now: u64) -> Option<Vec<u8>> {
        if self.next_arrival()? > now {
            return None;
        }
        self.flying.pop().map(|Reverse((.., frame))| frame)
    }

    pub(super) fn next_arrival(&self) -> Option<u64> {
        self.flying.peek().map(|Reverse((at, ..))| *at)
    }
}

const ETHERNET_BYTES: usize = 14;

/// ARP has no checksum: a bit turned there poisons any host's table, and says nothing of TCP.
fn is_ipv4(frame: &[u8]) -> bool {
    frame.get(12..ETHERNET_BYTES) == Some(&[0x08, 0x00])
}

/// SplitMix64.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// In `0..bound`; `bound` must not be 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn hits(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(1_000_000) < u64::from(per_million)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn frame(number: u16) -> Vec<u8> {
        let mut frame = vec![0; 1000];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[20..22].copy_from_slice(&number.to_be_bytes());
        frame
    }

    fn all(way: &mut Way) -> Vec<(u64, Vec<u8>)> {
        std::iter::from_fn(|| {
            let at = way.next_arrival()?;
            Some((at, way.arrived(at)?))
        })
        .collect()
    }

    #[test]
    fn frames_take_their_time_and_keep_their_order() {
        let mut way = Way::new(Weather { delay_us: 10_000, ..Weather::default() }, 1);
        for number in 0..100 {
            way.send(&frame(number), u64::from(number));
        }
        assert!(way.arrived(10 * MS - 1).is_none());
        let arrived = all(&mut way);
        for (number, (at, bytes)) in (0..).zip(&arrived) {
            assert_eq!((*at, bytes), (10 * MS + u64::from(number), &frame(number)));
        }
        assert_eq!(arrived.len(), 100);
    }

    #[test]
    fn a_narrow_place_spaces_frames_and_loses_what_its_queue_cannot_hold() {
        // A millisecond for each frame, five can wait.
        let weather = Weather { rate: 1_000_000, queue_us: 5_000, ..Weather::default() };
        let mut way = Way::new(weather, 1);
        for number in 0..10 {
            way.send(&frame(number), 0);
        }
        let at: Vec<u64> = all(&mut way).iter().map(|(at, _)| *at / MS).collect();
        assert_eq!(at, [1, 2, 3, 4, 5, 6]);
        assert_eq!((way.tally.lost, way.tally.overflowed), (4, 4));
    }

    #[test]
    fn each_share_is_what_was_asked_for_and_one_bit_is_turned() {
        let weather = Weather {
            lost: 50_000,
            twice: 20_000,
            corrupt: 30_000,
            late: 40_000,
            late_by_us: 8_000,
            ..Weather::default()
        };
        let mut way = Way::new(weather, 7);
        for _ in 0..100_000 {
            way.send(&frame(5), 0);
        }
        let Tally { frames, lost, twice, corrupt, late, .. } = way.tally;
        for (count, wanted) in [(lost, 5_000), (twice, 1_900), (corrupt, 2_907), (late, 3_876)] {
            assert!(count.abs_diff(wanted) < wanted / 10, "{count}, not about {wanted}");
        }
        let arrived = all(&mut way);
        assert_eq!(arrived.len() as u64, frames - lost + twice);
        let turned = |bytes: &[u8]| -> u32 {
            bytes.iter().zip(frame(5)).map(|(a, b)| (a ^ b).count_ones()).sum()
        };
        assert!(arrived.iter().all(|(_, bytes)| turned(bytes) <= 1));
        assert_eq!(arrived.iter().filter(|(_, bytes)| turned(bytes) == 1).count() as u64, corrupt);
    }

    #[test]
    fn a_seed_says_everything() {
        let weather = Weather { lost: 100_000, late: 100_000, late_by_us: 5, ..Weather::default() };
        let run = |seed| {
            let mut way = Way::new(weather, seed);
            (0..1000).for_each(|number| way.send(&frame(number), 0));
            all(&mut way)
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }
}

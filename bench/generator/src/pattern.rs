//! The bytes of requests and answers: every byte of an answer can be checked, none is kept.

/// Bytes after which the pattern of requests repeats; a power of two, so that sequence numbers may
/// wrap.
const PERIOD: usize = 1 << 15;
/// The longest slice that is asked for.
const SLICE_MAX: usize = 9216;

/// What an answer consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Answers {
    /// The request's bytes.
    Echo,
    /// The letters of the alphabet over and over, from `a` in every answer: what the dataplane's
    /// mode `answer` sends.
    Letters,
}

/// The bytes of all requests and answers.
#[derive(Clone, Debug)]
pub struct Pattern {
    random: Vec<u8>,
    letters: Vec<u8>,
}

/// SplitMix64's finaliser: every input bit reaches every output bit.
#[inline]
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

impl Pattern {
    /// The bytes made from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let word = |n: u64| mix(seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let period: Vec<u8> = (0..PERIOD as u64 / 8).flat_map(|n| word(n).to_le_bytes()).collect();
        let random = period.iter().copied().cycle().take(PERIOD + SLICE_MAX).collect();
        let letters = (b'a'..=b'z').cycle().take(26 + SLICE_MAX).collect();
        Self { random, letters }
    }

    /// The bytes of client `number` from sequence number `seq` on, `len` of them, at most 9,216.
    /// Other clients have other bytes there, and so has every other place in the stream within
    /// 32 KB.
    #[inline]
    #[must_use]
    pub fn request(&self, number: u32, seq: u32, len: usize) -> &[u8] {
        let shift = mix(u64::from(number) + 1) as u32;
        let at = seq.wrapping_add(shift) as usize % PERIOD;
        &self.random[at..at + len]
    }

    /// The letters from position `at` of an answer on, `len` of them, at most 9,216.
    #[inline]
    #[must_use]
    pub fn letters(&self, at: u32, len: usize) -> &[u8] {
        let at = at as usize % 26;
        &self.letters[at..at + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_differ_by_place_and_client_and_survive_the_wrap_of_sequence_numbers() {
        let pattern = Pattern::new(1);
        let whole = pattern.request(7, u32::MAX - 99, 200).to_vec();
        assert_eq!(&whole[100..], pattern.request(7, 0, 100));
        assert_eq!(&whole[150..], pattern.request(7, 50, 50));
        assert_ne!(pattern.request(7, 0, 16), pattern.request(8, 0, 16));
        assert_ne!(pattern.request(7, 0, 16), pattern.request(7, 16, 16));
        assert_ne!(pattern.request(7, 0, 16), Pattern::new(2).request(7, 0, 16));
    }

    #[test]
    fn letters_begin_with_a_and_go_round() {
        let pattern = Pattern::new(1);
        assert_eq!(pattern.letters(0, 3), b"abc");
        assert_eq!(pattern.letters(25, 3), b"zab");
        assert_eq!(pattern.letters(26 * 1000 + 1, SLICE_MAX)[..2], *b"bc");
    }
}

//! Bytes made from a seed: any part of any exchange's bytes can be made again at any time, so
//! every byte of gigabytes is checked and none is kept.

/// The bytes of one exchange on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    key: u64,
}

const WORD: usize = size_of::<u64>();
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Payload {
    /// Bytes that differ by seed, connection and round.
    #[must_use]
    pub fn new(seed: u64, connection: u32, round: u32) -> Self {
        let place = u64::from(connection) << 32 | u64::from(round);
        Self { key: mix(mix(seed) ^ place.wrapping_mul(GOLDEN)) }
    }

    /// Writes the bytes from offset `at` on.
    pub fn write(&self, at: u64, out: &mut [u8]) {
        let mut place = at;
        let mut rest = out;
        while !rest.is_empty() {
            let word = self.word(place / WORD as u64).to_le_bytes();
            let skip = (place % WORD as u64) as usize;
            let len = (WORD - skip).min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&word[skip..skip + len]);
            place += len as u64;
            rest = later;
        }
    }

    /// Index in `got` of the first byte that differs from the bytes at offset `at`.
    #[must_use]
    pub fn first_difference(&self, at: u64, got: &[u8]) -> Option<usize> {
        let mut want = [0; 4096];
        let mut done = 0;
        while done < got.len() {
            let part = &got[done..got.len().min(done + want.len())];
            let want = &mut want[..part.len()];
            self.write(at + done as u64, want);
            if part != want {
                let within = part.iter().zip(want.iter()).position(|(a, b)| a != b);
                return within.map(|i| done + i);
            }
            done += part.len();
        }
        None
    }

    fn word(&self, index: u64) -> u64 {
        mix(self.key.wrapping_add(index.wrapping_mul(GOLDEN)))
    }
}

/// A number in `0..n`, from the same three coordinates as a payload; `n` must not be 0.
#[must_use]
pub fn choose(seed: u64, connection: u32, round: u32, n: u64) -> u64 {
    Payload::new(!seed, connection, round).word(0) % n
}

/// SplitMix64's finaliser: every input bit reaches every output bit.
fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_part_equals_the_same_part_of_the_whole(
            seed: u64, at in 0_u64..9000, len in 0_usize..9000,
        ) {
            let payload = Payload::new(seed, 3, 4);
            let mut whole = vec![0; 18_000];
            payload.write(0, &mut whole);
            let mut part = vec![0; len];
            payload.write(at, &mut part);
            let start = usize::try_from(at).unwrap();
            prop_assert_eq!(&part[..], &whole[start..start + len]);
            prop_assert_eq!(payload.first_difference(at, &part), None);
        }

        #[test]
        fn one_wrong_byte_is_found_where_it_is(
            seed: u64, at in 0_u64..9000, len in 1_usize..9000, wrong: prop::sample::Index, flip in 1_u8..,
        ) {
            let payload = Payload::new(seed, 0, 0);
            let mut bytes = vec![0; len];
            payload.write(at, &mut bytes);
            let wrong = wrong.index(len);
            bytes[wrong] ^= flip;
            prop_assert_eq!(payload.first_difference(at, &bytes), Some(wrong));
        }
    }

    #[test]
    fn bytes_of_another_connection_round_or_seed_differ() {
        let of = |seed, connection, round| {
            let mut bytes = [0; 16];
            Payload::new(seed, connection, round).write(0, &mut bytes);
            bytes
        };
        assert_ne!(of(1, 0, 0), of(1, 1, 0));
        assert_ne!(of(1, 0, 0), of(1, 0, 1));
        assert_ne!(of(1, 0, 0), of(2, 0, 0));
        assert_ne!(of(1, 1, 0), of(1, 0, 1));
    }
}

//! The secret that a run is repeated with.

use core::fmt;
use core::str::FromStr;
use std::fs::File;
use std::io::{self, Read};

use dpdk::RSS_KEY_MAX;

/// Bytes of a secret.
const BYTES: usize = 32;

/// What sequence numbers, cookies, ports and lots are drawn from, in place of a fresh secret.
///
/// Written as 64 hexadecimal digits, or as the path of a file that holds them or the 32 bytes
/// themselves. It shows in no log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub(crate) [u8; BYTES]);

impl Secret {
    /// A card's key that follows from it. The card tells its key to whoever asks, so it is 64 bits
    /// of the secret, spread.
    pub(crate) fn rss_key(&self) -> [u8; RSS_KEY_MAX] {
        let mut state = self.0.chunks_exact(8).fold(0, |state, word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            scramble(state ^ u64::from_le_bytes(bytes))
        });
        let mut key = [0; RSS_KEY_MAX];
        for word in key.chunks_exact_mut(8) {
            state = scramble(state);
            word.copy_from_slice(&state.to_le_bytes());
        }
        key
    }
}

/// One step of SplitMix64.
const fn scramble(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(secret) = from_digits(text) {
            return Ok(Self(secret));
        }
        match read(text) {
            Ok(bytes) => of_file(&bytes).map(Self).ok_or_else(|| {
                format!("{text} does not hold 32 bytes or 64 hexadecimal digits; write one there")
            }),
            Err(error) => Err(format!(
                "these are not 64 hexadecimal digits, and a file of that name cannot be read \
                 ({error}); make one with `head -c 32 /dev/urandom >FILE`"
            )),
        }
    }
}

/// The front of a file: one byte more than the longest that is taken, which are 64 digits with the
/// ends of a line that somebody's editor left.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(2 * BYTES as u64 + 3).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn of_file(bytes: &[u8]) -> Option<[u8; BYTES]> {
    bytes.try_into().ok().or_else(|| from_digits(core::str::from_utf8(bytes).ok()?.trim_end()))
}

fn from_digits(digits: &str) -> Option<[u8; BYTES]> {
    let digits = digits.as_bytes();
    if digits.len() != 2 * BYTES {
        return None;
    }
    let mut secret = [0; BYTES];
    for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(value(pair[0])? << 4 | value(pair[1])?).ok()?;
    }
    Some(secret)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1F";

    fn counted() -> [u8; BYTES] {
        core::array::from_fn(|at| at as u8)
    }

    #[test]
    fn digits_and_files_are_read_and_everything_else_is_refused() {
        assert_eq!(DIGITS.parse::<Secret>().unwrap().0, counted());
        let path = std::env::temp_dir().join(format!("xtcp-secret-{}", std::process::id()));
        let name = path.to_str().unwrap();
        let in_file = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            name.parse::<Secret>().map(|secret| secret.0)
        };
        assert_eq!(in_file(&counted()), Ok(counted()));
        assert_eq!(in_file(DIGITS.as_bytes()), Ok(counted()));
        assert_eq!(in_file(format!("{DIGITS}\r\n").as_bytes()), Ok(counted()));
        for wrong in [&b""[..], &[7; 31], &[7; 33], &[b'0'; 63], &[b'0'; 65], &[b'g'; 64]] {
            let refused = in_file(wrong).unwrap_err();
            assert!(refused.contains("32 bytes or 64 hexadecimal digits"), "{refused}");
        }
        std::fs::remove_file(&path).unwrap();
        for wrong in ["", "00", &DIGITS[1..], &format!("{DIGITS}0"), "/nowhere/at/all"] {
            let refused = wrong.parse::<Secret>().unwrap_err();
            assert!(refused.contains("64 hexadecimal digits"), "{refused}");
        }
    }

    #[test]
    fn a_cards_key_follows_from_the_secret_and_does_not_tell_it() {
        let secret = Secret(counted());
        let key = secret.rss_key();
        assert_eq!(key, secret.rss_key());
        assert!(!key.windows(4).any(|part| secret.0.windows(4).any(|own| own == part)));
        let mut other = counted();
        other[31] ^= 1;
        assert_ne!(Secret(other).rss_key(), key);
        assert_eq!(format!("{secret:?}"), "Secret");
    }
}

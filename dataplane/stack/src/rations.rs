//! Answers to segments of no connection, and clients' calls, rationed by whom they go to or come
//! from.
//!
//! A ration for all senders together would tell one of them what another was answered
//! (CVE-2016-5696). So each has its own, in one of many places that a keyed function picks anew
//! every minute: whoever shares a place with whom is nobody's to choose or to know. (Challenges of
//! open connections are rationed by each connection, in `tcp::arrives`.)

use core::net::IpAddr;
use core::time::Duration;

use crate::secret::Secret;
use crate::time::Instant;

/// Places for senders' rations.
pub(crate) const RATIONS: usize = 1024;

/// Places for the rations of those who call: more, for two honest networks should not meet.
pub(crate) const CALLERS: usize = 16_384;

/// How long senders keep their places.
const REDEAL: Duration = Duration::from_secs(60);

/// Each place's answers in its current second.
pub(crate) struct Rations<'m> {
    /// The second, in the high 16 bits, and the answers given in it.
    places: &'m mut [u32],
}

impl<'m> Rations<'m> {
    /// `places` is zeroed.
    pub(crate) fn new(places: &'m mut [u32]) -> Self {
        Self { places }
    }

    /// Takes one answer out of a sender's ration of so many `per_second`; 0 is no limit. False when
    /// there is none left.
    pub(crate) fn take(
        &mut self,
        remote: IpAddr,
        per_second: u16,
        secret: &Secret,
        now: Instant,
    ) -> bool {
        if per_second == 0 || self.places.is_empty() {
            return true;
        }
        let deal = now.as_millis() / REDEAL.as_millis() as u64;
        let lot = secret.lot(deal, sender(remote));
        let place = &mut self.places[(lot % self.places.len() as u64) as usize];
        // No second is 0: all places begin as if they had been used in another.
        let second = (now.as_millis() / 1000 % 0xffff + 1) as u32;
        if *place >> 16 != second {
            *place = second << 16;
        }
        let given = *place & 0xffff;
        let left = given < u32::from(per_second);
        *place += u32::from(left);
        left
    }
}

/// Whom a ration is for: an IPv4 address, or the network that an IPv6 host has for itself.
fn sender(remote: IpAddr) -> u64 {
    match remote {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_its_ration_and_no_others() {
        let secret = Secret::new(&[7; 32]);
        let mut places = [0; RATIONS];
        let mut rations = Rations::new(&mut places);
        let mut now = Instant::from_millis(1);
        let one = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..3 {
            let given = (0..1000).filter(|_| rations.take(one, 100, &secret, now)).count();
            assert_eq!(given, 100);
            now = now + Duration::from_secs(1);
        }
        let others = (2..=101).map(|n| IpAddr::from([10, 0, 0, n]));
        let hungry = others.filter(|other| !rations.take(*other, 100, &secret, now)).count();
        assert_eq!(hungry, 0);
        assert!((0..100_000).all(|_| rations.take(one, 0, &secret, now)), "no limit");
    }

    /// Who shares a place this minute does not the next.
    #[test]
    fn places_are_dealt_anew() {
        let secret = Secret::new(&[7; 32]);
        let shares = |now: Instant| -> usize {
            let mut places = [0; RATIONS];
            let mut rations = Rations::new(&mut places);
            assert!(rations.take(IpAddr::from([10, 0, 0, 1]), 1, &secret, now));
            (2..=u16::MAX)
                .map(|n| IpAddr::from((u32::from(n) | 0x0b00_0000).to_be_bytes()))
                .position(|other| !rations.take(other, 1, &secret, now))
                .unwrap_or(usize::MAX)
        };
        let first = shares(Instant::from_millis(1));
        assert_ne!(first, shares(Instant::from_millis(60_001)));
        assert_eq!(first, shares(Instant::from_millis(59_000)));
    }
}

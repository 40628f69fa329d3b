//! Numbers nobody outside can guess: keyed by a secret that is fresh at every boot.

use core::net::IpAddr;

/// What names a connection: both ends' addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple {
    pub(crate) remote: IpAddr,
    pub(crate) remote_port: u16,
    pub(crate) local: IpAddr,
    pub(crate) local_port: u16,
}

/// What a SYN said, as far as a cookie keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Which of eight segment sizes.
    pub(crate) size: usize,
    /// Its other options in few bits, which the client's timestamp brings back.
    pub(crate) options: u32,
}

/// The keys derived from [`crate::Config::secret`].
#[derive(Clone, Copy)]
pub(crate) struct Secret {
    sequence: (u64, u64),
    flow: [u64; 4],
    cookie: (u64, u64),
}

impl Secret {
    pub(crate) fn new(bytes: &[u8; 32]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let sequence = (word(0), word(8));
        let seed = (word(16), word(24));
        // An odd multiplier never collapses a product to zero by itself.
        let flow = [1, 2, 3, 4].map(|n| siphash(seed, &[n]) | 1);
        let cookie = (siphash(seed, &[5]), siphash(seed, &[6]));
        Self { sequence, flow, cookie }
    }

    /// Initial sequence number: a 4 µs clock plus a keyed function of the connection.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.4.1
    //# The generator MUST be clock driven … ISN = M + F(localip, localport, remoteip, remoteport,
    //# secretkey)
    pub(crate) fn initial_sequence(&self, tuple: &Tuple, now_ns: u64) -> u32 {
        let clock = now_ns / 4_000;
        low32(clock.wrapping_add(self.of(tuple, 1)))
    }

    /// Offset of a connection's timestamp clock (RFC 7323 section 5.4, note on randomisation).
    pub(crate) fn timestamp_offset(&self, tuple: &Tuple) -> u32 {
        low32(self.of(tuple, 2))
    }

    /// The initial sequence number of a handshake of which nothing is kept: 28 keyed bits, one of
    /// the epoch, three that say which of the segment sizes.
    pub(crate) fn cookie(&self, tuple: &Tuple, irs: u32, epoch: u64, said: Said) -> u32 {
        let ports = u64::from(tuple.remote_port) << 16 | u64::from(tuple.local_port);
        let (r, l) = (address_words(tuple.remote), address_words(tuple.local));
        let clear = ((epoch & 1) << 3) as u32 | said.size as u32 & 7;
        let said = u64::from(irs) << 32 | u64::from(said.options) << 8 | u64::from(clear);
        let keyed = siphash(self.cookie, &[ports, r.0, r.1, l.0, l.1, said, epoch]);
        low32(keyed) & !15 | clear
    }

    /// A number nobody can guess.
    pub(crate) fn lot(&self, turn: u64, draw: u64) -> u64 {
        siphash(self.cookie, &[turn, draw])
    }

    #[inline]
    fn of(&self, tuple: &Tuple, purpose: u64) -> u64 {
        let ports = u64::from(tuple.remote_port) << 16 | u64::from(tuple.local_port);
        let first = purpose << 32 | ports;
        if let (IpAddr::V4(remote), IpAddr::V4(local)) = (tuple.remote, tuple.local) {
            // Both are one word: every connection that is unfolded asks.
            let pair = u64::from(remote.to_bits()) << 32 | u64::from(local.to_bits());
            return siphash(self.sequence, &[first, pair]);
        }
        let (r, l) = (address_words(tuple.remote), address_words(tuple.local));
        siphash(self.sequence, &[first, r.0, r.1, l.0, l.1])
    }

    /// Where a connection stands in the flow table. Keyed, so that nobody can aim at one bucket.
    #[inline(always)]
    pub(crate) fn flow_hash(&self, remote: IpAddr, ports: u32, local: u8) -> u64 {
        let low = u64::from(ports) << 8 | u64::from(local);
        let folded = match remote {
            IpAddr::V4(ip) => fold(u64::from(ip.to_bits()) ^ self.flow[0], low ^ self.flow[1]),
            IpAddr::V6(_) => {
                let (a, b) = address_words(remote);
                fold(fold(a ^ self.flow[0], b ^ self.flow[3]) ^ self.flow[2], low ^ self.flow[1])
            }
        };
        fold(folded ^ self.flow[2], self.flow[3])
    }
}

impl Secret {
    /// A number below `bound` that hangs on the connection with this flow hash and on the key
    /// alone; 0 if there is none.
    pub(crate) fn choose(&self, flow_hash: u64, bound: u32) -> u32 {
        let mixed = fold(flow_hash ^ self.flow[3], self.flow[0]);
        ((u64::from(bound) * (mixed >> 32)) >> 32) as u32
    }
}

fn address_words(ip: IpAddr) -> (u64, u64) {
    match ip {
        IpAddr::V4(ip) => (u64::from(ip.to_bits()), 4),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            ((bits >> 64) as u64, (bits & u128::from(u64::MAX)) as u64)
        }
    }
}

fn low32(x: u64) -> u32 {
    (x & 0xffff_ffff) as u32
}

/// Multiplies to 128 bits and folds the halves together.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ (product & u128::from(u64::MAX)) as u64
}

/// SipHash-2-4 of whole 64-bit words.
fn siphash<const WORDS: usize>(key: (u64, u64), words: &[u64; WORDS]) -> u64 {
    let mut v = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    for &word in words {
        absorb(&mut v, word);
    }
    let length = (WORDS as u64 * 8) << 56;
    absorb(&mut v, length);
    v[2] ^= 0xff;
    for _ in 0..4 {
        sip_round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    sip_round(v);
    sip_round(v);
    v[0] ^= word;
}

#[inline(always)]
fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference implementation's vector for the 8-byte message 00 01 … 07.
    #[test]
    fn siphash_agrees_with_its_authors() {
        let key = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(siphash(key, &[0x0706_0504_0302_0100]), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn the_sequence_clock_moves_forward_for_one_tuple() {
        let secret = Secret::new(&[7; 32]);
        let tuple = Tuple {
            remote: IpAddr::from([10, 0, 0, 1]),
            remote_port: 4000,
            local: IpAddr::from([10, 0, 0, 2]),
            local_port: 7,
        };
        let a = secret.initial_sequence(&tuple, 1_000_000_000);
        let b = secret.initial_sequence(&tuple, 2_000_000_000);
        assert_eq!(b.wrapping_sub(a), 250_000);
        let other = Tuple { remote_port: 4001, ..tuple };
        assert_ne!(secret.initial_sequence(&other, 1_000_000_000), a);
    }
}

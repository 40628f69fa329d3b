//! Transfers in both directions, and two servers that do the same: an application of XTCP and an
//! ordinary server on the kernel's own TCP.
//!
//! A client sends an order, then the bytes it said it would upload; the server answers with a hash of
//! what arrived and the bytes that were to be downloaded, of which the client compares each. Then
//! comes the next order, or the end.

mod application;
mod client;
mod kernel;

pub use self::application::{Place, serve as serve_by_xtcp};
pub use self::client::{Outcome, Plan, run as run_clients};
pub use self::kernel::serve as serve_from_the_kernel;

use crate::payload::Payload;

/// What a server listens on: one port for each congestion control it sends by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Control {
    /// `reno` in Linux, RFC 5681 and its companions here
    NewReno,
    /// CUBIC, RFC 9438
    Cubic,
}

impl Control {
    /// Both.
    pub const ALL: [Self; 2] = [Self::NewReno, Self::Cubic];

    /// The port after `first` it has.
    #[must_use]
    pub const fn port(self, first: u16) -> u16 {
        match self {
            Self::NewReno => first,
            Self::Cubic => first + 1,
        }
    }

    /// Its name in Linux.
    #[must_use]
    pub const fn in_linux(self) -> &'static str {
        match self {
            Self::NewReno => "reno",
            Self::Cubic => "cubic",
        }
    }
}

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    upload: u64,
    download: u64,
    /// What all bytes are made from.
    seed: u64,
}

/// Bytes of an order.
const ORDER: usize = 24;
/// Bytes of the hash in front of a download.
const HASH: usize = 8;

impl Order {
    fn to_bytes(self) -> [u8; ORDER] {
        let mut bytes = [0; ORDER];
        let words = [self.upload, self.download, self.seed];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; ORDER]) -> Self {
        let word = |at: usize| {
            let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
            u64::from_le_bytes(word.unwrap_or_default())
        };
        Self { upload: word(0), download: word(8), seed: word(16) }
    }

    fn uploaded(&self) -> Payload {
        Payload::new(self.seed, 0, 0)
    }

    fn downloaded(&self) -> Payload {
        Payload::new(self.seed, 1, 0)
    }
}

/// FNV-1a of bytes that come in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hash(u64);

impl Hash {
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// What a server has still to do for one client, whatever its TCP is.
#[derive(Debug, Default)]
struct Job {
    order: Option<Order>,
    /// Of the order: what has arrived, and the hash of it.
    uploaded: u64,
    hash: Option<Hash>,
    /// Of the answer: what has been sent, the hash included.
    sent: u64,
}

impl Job {
    /// What the server still waits for of the current order's upload; `None`: for an order.
    fn wants(&self) -> Option<u64> {
        self.order.map(|order| order.upload - self.uploaded)
    }

    fn start(&mut self, order: Order) {
        *self = Self { order: Some(order), hash: Some(Hash::EMPTY), ..Self::default() };
    }

    fn upload(&mut self, bytes: &[u8]) {
        self.uploaded += bytes.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.add(bytes);
        }
    }

    /// Writes the next bytes of the answer; gives how many. None are left when it is 0.
    fn answer(&self, into: &mut [u8]) -> usize {
        let (Some(order), Some(Hash(hash))) = (self.order, self.hash) else { return 0 };
        let all = HASH as u64 + order.download;
        let len = usize::try_from(all - self.sent).unwrap_or(usize::MAX).min(into.len());
        let into = &mut into[..len];
        let at = usize::try_from(self.sent).unwrap_or(usize::MAX);
        let (of_hash, of_text) = into.split_at_mut(HASH.saturating_sub(at).min(len));
        if let Some(rest) = hash.to_le_bytes().get(at..) {
            of_hash.copy_from_slice(&rest[..of_hash.len()]);
        }
        order.downloaded().write(self.sent.saturating_sub(HASH as u64), of_text);
        len
    }

    /// So much of the answer has been sent; whether that is all.
    fn has_sent(&mut self, len: usize) -> bool {
        self.sent += len as u64;
        let all = self.order.map_or(0, |order| HASH as u64 + order.download);
        if self.sent < all {
            return false;
        }
        *self = Self::default();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_what_it_was() {
        let order = Order { upload: 1 << 40, download: 77, seed: u64::MAX - 1 };
        assert_eq!(Order::from_bytes(&order.to_bytes()), order);
    }

    #[test]
    fn an_answer_is_the_same_in_pieces_of_any_length() {
        let order = Order { upload: 5, download: 100, seed: 9 };
        let answer = |piece: usize| {
            let mut job = Job::default();
            job.start(order);
            job.upload(b"ab");
            job.upload(b"cde");
            assert_eq!(job.wants(), Some(0));
            let (mut all, mut bytes) = (Vec::new(), vec![0; piece]);
            loop {
                let len = job.answer(&mut bytes);
                all.extend(&bytes[..len]);
                if job.has_sent(len) {
                    return all;
                }
            }
        };
        let whole = answer(1000);
        assert_eq!(whole.len(), HASH + 100);
        let mut hash = Hash::EMPTY;
        hash.add(b"abcde");
        assert_eq!(whole[..HASH], hash.0.to_le_bytes());
        assert_eq!(order.downloaded().first_difference(0, &whole[HASH..]), None);
        for piece in [1, 3, 7, 8, 9, 50, 108] {
            assert_eq!(answer(piece), whole, "in pieces of {piece}");
        }
    }
}

//! The Internet checksum (RFC 1071), alone and fused with a copy.
//!
//! A *partial* is the ones' complement sum of big-endian 16-bit words, at most `0xffff`, in a
//! `u32` so that a few of them can be added before folding. Sums of pieces add up as long as
//! every piece but the last has an even length; [`at_odd_offset`] turns the others.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes summed per turn of the loop.
const STRIDE: usize = 32;

/// From so many bytes on it is worth a call to ask what the processor can.
const LONG: usize = 128;

/// The sum of `bytes`, added to `partial`. An odd last byte counts as if a zero followed.
#[must_use]
pub fn sum(bytes: &[u8], partial: u32) -> u32 {
    if bytes.len() < LONG { Total(0).sum(bytes, partial) } else { sum_long(bytes, partial) }
}

#[inline(never)]
fn sum_long(bytes: &[u8], partial: u32) -> u32 {
    let (words, rest) = xtcp_cpu::sum_words(bytes);
    Total(words.into()).sum(rest, partial)
}

/// Copies `from` to `into` and returns the sum of what was copied, added to `partial`: one pass
/// over memory where a copy and a checksum would be two.
///
/// Copies as many bytes as the shorter of the two has.
#[must_use]
pub fn copy_and_sum(into: &mut [u8], from: &[u8], partial: u32) -> u32 {
    let len = into.len().min(from.len());
    let (into, from) = (&mut into[..len], &from[..len]);
    let mut total = Total(0);
    let mut targets = into.chunks_exact_mut(STRIDE);
    let mut rest = from;
    while let (Some(target), Some((stride, after))) = (targets.next(), rest.split_first_chunk()) {
        target.copy_from_slice(stride);
        total.add_stride(stride);
        rest = after;
    }
    targets.into_remainder().copy_from_slice(rest);
    total.finish(rest, partial)
}

/// The partial of a piece that starts at an odd offset, from its sum taken as if at an even one
/// (RFC 1071 section 2 (B): swapping bytes commutes with the sum).
#[must_use]
pub const fn at_odd_offset(partial: u32) -> u32 {
    (fold(partial as u64) as u16).swap_bytes() as u32
}

/// Two partials added.
#[must_use]
pub const fn add(a: u32, b: u32) -> u32 {
    fold(a as u64 + b as u64)
}

/// The checksum field's value for what was summed with that field zero.
#[must_use]
pub const fn field(partial: u32) -> u16 {
    !(fold(partial as u64) as u16)
}

/// Whether bytes summed *with* their checksum field are undamaged.
#[must_use]
pub const fn is_valid(partial: u32) -> bool {
    fold(partial as u64) == 0xffff
}

/// A checksum field after `old` in the covered bytes became `new` (RFC 1624, equation 3).
#[must_use]
pub const fn update(field: u16, old: u16, new: u16) -> u16 {
    !(fold(!field as u64 + !old as u64 + new as u64) as u16)
}

/// The sum of the pseudo-header's addresses and protocol (RFC 9293 section 3.1 and RFC 8200
/// section 8.1), to which each segment adds its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PseudoHeader(u32);

impl PseudoHeader {
    /// For an upper-layer protocol between two IPv4 addresses.
    #[inline(always)]
    #[must_use]
    pub fn v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8) -> Self {
        let pairs = u64::from(src.to_bits()) + u64::from(dst.to_bits());
        Self(fold(pairs + u64::from(protocol)))
    }

    /// For an upper-layer protocol between two IPv6 addresses.
    #[inline]
    #[must_use]
    pub fn v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8) -> Self {
        let pairs = words(src.to_bits()) + words(dst.to_bits());
        Self(fold(pairs + u64::from(protocol)))
    }

    /// For two addresses of one family; of different families they make no pseudo-header, and
    /// the sum then fits no packet.
    #[inline(always)]
    #[must_use]
    pub fn new(src: IpAddr, dst: IpAddr, protocol: u8) -> Self {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Self::v4(src, dst, protocol),
            (IpAddr::V6(src), IpAddr::V6(dst)) => Self::v6(src, dst, protocol),
            (IpAddr::V4(src), IpAddr::V6(dst)) => Self::v6(src.to_ipv6_mapped(), dst, protocol),
            (IpAddr::V6(src), IpAddr::V4(dst)) => Self::v6(src, dst.to_ipv6_mapped(), protocol),
        }
    }

    /// The partial for an upper-layer packet of `len` bytes, header included. It is also what a
    /// device that completes checksums wants to find in the checksum field.
    #[inline]
    #[must_use]
    pub fn sum(self, len: usize) -> u32 {
        fold(u64::from(self.0) + len as u64)
    }
}

/// The four 32-bit words of an address, added; their 16-bit halves fold to the same sum.
fn words(bits: u128) -> u64 {
    let (high, low) = ((bits >> 64) as u64, bits as u64);
    (high >> 32) + (high & 0xffff_ffff) + (low >> 32) + (low & 0xffff_ffff)
}

/// A sum under way, of 64-bit words in the machine's byte order: 2^16 is 1 here, and so is 2^64, so
/// that the carries out of a word, which gather in the high half, count one each.
struct Total(u128);

impl Total {
    #[inline(always)]
    fn add(&mut self, word: [u8; 8]) {
        self.0 = self.0.wrapping_add(u64::from_ne_bytes(word).into());
    }

    #[inline(always)]
    fn add_stride(&mut self, stride: &[u8; STRIDE]) {
        let mut rest = &stride[..];
        while let Some((word, after)) = rest.split_first_chunk() {
            self.add(*word);
            rest = after;
        }
    }

    #[inline(always)]
    fn sum(mut self, mut bytes: &[u8], partial: u32) -> u32 {
        while let Some((stride, after)) = bytes.split_first_chunk() {
            self.add_stride(stride);
            bytes = after;
        }
        self.finish(bytes, partial)
    }

    /// Adds what is left after the last whole stride, and turns the machine's byte order into the
    /// network's (RFC 1071 section 2 (B): the sum does not care until it is used).
    #[inline(always)]
    fn finish(mut self, mut rest: &[u8], partial: u32) -> u32 {
        while let Some((word, after)) = rest.split_first_chunk() {
            self.add(*word);
            rest = after;
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            self.add(last);
        }
        let total = add_wide(self.0 as u64, (self.0 >> 64) as u64);
        add(u32::from(u16::from_be(fold(total) as u16)), partial)
    }
}

/// Two 64-bit sums, the carry brought back in.
#[inline(always)]
const fn add_wide(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    // A sum that has a carry has room for it.
    sum.wrapping_add(carry as u64)
}

/// A sum brought to 16 bits by adding the carries back (end-around carry).
#[inline(always)]
pub(super) const fn fold(total: u64) -> u32 {
    let (sum, carry) = (total as u32).overflowing_add((total >> 32) as u32);
    // A sum that has a carry has room for it.
    let sum = sum.wrapping_add(carry as u32);
    // Both halves added in both orders: the carry of the lower is in the upper.
    sum.wrapping_add(sum.rotate_left(16)) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word by word (RFC 1071 section 4.1).
    fn sum_slowly(bytes: &[u8]) -> u32 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total >> 16) + (total & 0xffff);
        }
        total
    }

    #[test]
    fn sums_the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&bytes, 0), 0xddf2);
        assert_eq!(field(sum(&bytes, 0)), 0x220d);
    }

    #[test]
    fn sums_a_known_ipv4_header() {
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert!(is_valid(sum(&header, 0)));
        let mut zeroed = header;
        zeroed[10..12].fill(0);
        assert_eq!(field(sum(&zeroed, 0)), 0xb861);
    }

    #[test]
    fn agrees_with_the_definition_at_every_length_and_start() {
        let bytes: [u8; 300] = core::array::from_fn(|i| (i * 37 + (i >> 3) * 91 + 5) as u8);
        for start in 0..9 {
            for len in 0..=bytes.len() - start {
                let piece = &bytes[start..start + len];
                assert_eq!(sum(piece, 0), sum_slowly(piece), "start {start}, length {len}");
                let mut copy = [0xaa; 300];
                assert_eq!(copy_and_sum(&mut copy[..len], piece, 0), sum_slowly(piece));
                assert_eq!(&copy[..len], piece);
                assert!(copy[len..].iter().all(|byte| *byte == 0xaa));
            }
        }
    }

    #[test]
    fn all_ones_do_not_lose_a_carry() {
        let bytes = [0xff; 9000];
        for len in [1, 2, 3, 31, 32, 33, 1460, 8999, 9000] {
            assert_eq!(sum(&bytes[..len], 0xffff), add(sum_slowly(&bytes[..len]), 0xffff));
        }
    }

    #[test]
    fn pieces_add_up_also_after_an_odd_one() {
        let bytes: [u8; 97] = core::array::from_fn(|i| (i * 151 + 7) as u8);
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            let rest = sum(tail, 0);
            let rest = if cut % 2 == 1 { at_odd_offset(rest) } else { rest };
            assert_eq!(field(add(sum(head, 0), rest)), field(sum(&bytes, 0)), "cut at {cut}");
        }
    }

    #[test]
    fn copies_only_what_both_sides_have() {
        let mut short = [0; 3];
        assert_eq!(copy_and_sum(&mut short, &[1, 2, 3, 4, 5], 0), sum_slowly(&[1, 2, 3]));
        let mut long = [9; 5];
        assert_eq!(copy_and_sum(&mut long, &[1, 2, 3], 0), sum_slowly(&[1, 2, 3]));
        assert_eq!(long, [1, 2, 3, 9, 9]);
    }

    #[test]
    fn a_changed_word_updates_the_field() {
        let mut bytes: [u8; 24] = core::array::from_fn(|i| (i * 29) as u8);
        for (old, new) in [(0x1234, 0xabcd), (0x0000, 0xffff), (0x0800, 0x0000)] {
            bytes[4..6].copy_from_slice(&u16::to_be_bytes(old));
            let before = field(sum(&bytes, 0));
            bytes[4..6].copy_from_slice(&u16::to_be_bytes(new));
            let (updated, anew) = (update(before, old, new), field(sum(&bytes, 0)));
            assert!(is_valid(add(sum(&bytes, 0), u32::from(updated))), "{updated:x} {anew:x}");
        }
    }

    #[test]
    fn pseudo_headers_are_summed_as_if_written_out() {
        let (src, dst) = (Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(255, 254, 253, 252));
        let mut written = [0; 12];
        written[..4].copy_from_slice(&src.octets());
        written[4..8].copy_from_slice(&dst.octets());
        written[9] = 6;
        written[10..].copy_from_slice(&1234u16.to_be_bytes());
        assert_eq!(PseudoHeader::v4(src, dst, 6).sum(1234), sum_slowly(&written));

        let (src, dst) = (Ipv6Addr::from_bits(u128::MAX), "fd77::2".parse().unwrap());
        let mut written = [0; 40];
        written[..16].copy_from_slice(&src.octets());
        written[16..32].copy_from_slice(&Ipv6Addr::octets(&dst));
        written[32..36].copy_from_slice(&70_000u32.to_be_bytes());
        written[39] = 58;
        assert_eq!(PseudoHeader::v6(src, dst, 58).sum(70_000), sum_slowly(&written));
    }
}

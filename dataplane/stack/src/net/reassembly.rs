//! Packets put together from fragments (RFC 791, RFC 815, RFC 8200 section 4.5), within bounds: so
//! many packets at once, none larger than the link's own, none for longer than a minute.
//!
//! Which blocks of 8 bytes have come is a bit each, so that a fragment costs its own length,
//! however many came before and in whatever order. A packet whose fragments overlap is lost
//! whole, with all that still comes of it (RFC 5722); of IPv4 as well, where nobody honest does
//! that either (RFC 1858, RFC 3128).

use core::net::IpAddr;
use core::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::addresses::Key;
use crate::counters::{Count, Counters, Stop};
use crate::time::Instant;
use crate::wire::tcp;

/// The largest payload that can be put together: a jumbo frame's.
pub const REASSEMBLED_MAX: usize = 9216;

/// RFC 8200 section 4.5, and the least of RFC 1122 section 3.3.2.
const TIMEOUT: Duration = Duration::from_secs(60);

const WORDS: usize = REASSEMBLED_MAX / 8 / 64;

/// A part of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Part<'f> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address: ours.
    pub dst: IpAddr,
    /// Which parts belong together.
    pub identification: u32,
    /// The protocol of IPv4, or the next header of IPv6's fragment header.
    pub protocol: u8,
    /// Where it lies in the whole, in bytes: a multiple of 8.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
    /// ECN code point.
    pub ecn: u8,
    /// The part.
    pub bytes: &'f [u8],
}

/// A packet that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    place: usize,
    /// Bytes of its payload.
    pub len: usize,
    /// As of its first part.
    pub protocol: u8,
    /// ECN code point: congestion experienced if any part met it (RFC 3168 section 5.3).
    pub ecn: u8,
}

/// A packet of which parts have come. All zero is a free place.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Datagram {
    map: [u64; WORDS],
    src: [u8; 16],
    dst: [u8; 16],
    identification: u32,
    /// When its first part came, in milliseconds of the stack's clock; they wrap.
    since_ms: u32,
    /// Bytes that have come.
    received: u16,
    /// Where the last part ends; 0 as long as it has not come.
    total: u16,
    /// How far the parts reach.
    reach: u16,
    state: u8,
    protocol: u8,
    ecn_seen: u8,
    ecn: u8,
    reserved: [u8; 6],
}

const FREE: u8 = 0;
const WAITING: u8 = 1;
/// Parts overlapped: nothing of it is taken any more.
const DEAD: u8 = 2;

const CONGESTION_EXPERIENCED: u8 = 3;

impl core::fmt::Debug for Datagram {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Datagram").field("received", &self.received).finish_non_exhaustive()
    }
}

/// The packets of which parts have come.
#[derive(Debug)]
pub struct Reassembly<'m> {
    datagrams: &'m mut [Datagram],
    bytes: &'m mut [u8],
    capacity: usize,
}

impl<'m> Reassembly<'m> {
    /// Places for as many packets as there are records. The memory is zeroed and has
    /// [`Self::capacity_for`] bytes for each.
    #[must_use]
    pub fn new(datagrams: &'m mut [Datagram], bytes: &'m mut [u8], mtu: u16) -> Self {
        Self { datagrams, bytes, capacity: Self::capacity_for(mtu) }
    }

    /// Bytes one packet can have where the link takes `mtu`: IPv6 demands 1,500 (RFC 8200 section
    /// 5).
    #[must_use]
    pub fn capacity_for(mtu: u16) -> usize {
        usize::from(mtu.max(1500)).next_multiple_of(8).min(REASSEMBLED_MAX)
    }

    /// Takes a part in. The packet, if that was its last: [`Self::lend`] has its bytes, and
    /// [`Self::release`] gives its place free.
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn take(
        &mut self,
        part: &Part<'_>,
        counters: &mut Counters,
        now: Instant,
    ) -> Result<Option<Whole>, Stop> {
        if self.datagrams.is_empty() {
            return Err(Stop::IpFragment);
        }
        let len = part.bytes.len();
        let end = usize::from(part.offset) + len;
        if len == 0 || part.more && len % 8 != 0 {
            return Err(Stop::FragmentInvalid);
        }
        if end > self.capacity {
            return Err(Stop::FragmentTooBig);
        }
        // RFC 1858, RFC 7112: what the packet is must stand in its first part.
        if part.offset == 0 && len < tcp::HEADER {
            return Err(Stop::FragmentInvalid);
        }
        let place = match self.find(part, now) {
            Some(place) => place,
            None => self.begin(part, counters, now)?,
        };
        let start = place * self.capacity + usize::from(part.offset);
        let Some(room) = self.bytes.get_mut(start..start + len) else {
            return Err(Stop::FragmentTooBig);
        };
        let datagram = &mut self.datagrams[place];
        datagram.insert(part, room)?;
        counters.count(Count::FragmentsHeld);
        if !datagram.is_whole() {
            return Ok(None);
        }
        let (len, protocol) = (datagram.total.into(), datagram.protocol);
        let Some(ecn) = datagram.ecn() else {
            datagram.state = FREE;
            return Err(Stop::FragmentInvalid);
        };
        counters.count(Count::PacketsReassembled);
        Ok(Some(Whole { place, len, protocol, ecn }))
    }

    /// The memory all packets lie in, for as long as one of them is looked at.
    pub fn lend(&mut self) -> &'m mut [u8] {
        core::mem::take(&mut self.bytes)
    }

    /// A packet's bytes in the memory that was lent.
    #[must_use]
    pub fn payload<'b>(&self, whole: &Whole, bytes: &'b [u8]) -> &'b [u8] {
        let start = whole.place * self.capacity;
        bytes.get(start..start + whole.len).unwrap_or_default()
    }

    /// Takes the memory back, and gives a packet's place free.
    pub fn release(&mut self, whole: &Whole, bytes: &'m mut [u8]) {
        self.bytes = bytes;
        if let Some(datagram) = self.datagrams.get_mut(whole.place) {
            datagram.state = FREE;
        }
    }

    /// Packets of which parts have come and which are still waited for.
    #[must_use]
    pub fn in_use(&self, now: Instant) -> usize {
        self.datagrams.iter().filter(|datagram| datagram.is_alive(now)).count()
    }

    fn find(&self, part: &Part<'_>, now: Instant) -> Option<usize> {
        let (src, dst) = (octets(part.src), octets(part.dst));
        self.datagrams.iter().position(|datagram| {
            datagram.identification == part.identification
                && datagram.src == src
                && datagram.dst == dst
                && (part.src.is_ipv6() || datagram.protocol == part.protocol)
                && datagram.is_alive(now)
        })
    }

    /// A place for a packet nothing has come of: a free one, else that of the oldest from the same
    /// sender if it has more than its share, else that of the oldest.
    fn begin(
        &mut self,
        part: &Part<'_>,
        counters: &mut Counters,
        now: Instant,
    ) -> Result<usize, Stop> {
        let src = octets(part.src);
        let free = self.datagrams.iter().position(|datagram| !datagram.is_alive(now));
        let theirs = self.datagrams.iter().filter(|d| d.src == src && d.is_alive(now)).count();
        let greedy = theirs > 0 && theirs >= self.datagrams.len().div_ceil(4);
        let place = if let (Some(free), false) = (free, greedy) {
            if self.datagrams[free].state == WAITING {
                counters.stop(Stop::FragmentTimedOut);
            }
            free
        } else {
            counters.stop(Stop::FragmentEvicted);
            self.oldest(|datagram| !greedy || datagram.src == src && datagram.is_alive(now), now)
                .ok_or(Stop::IpFragment)?
        };
        self.datagrams[place] = Datagram {
            map: [0; WORDS],
            src,
            dst: octets(part.dst),
            identification: part.identification,
            since_ms: milliseconds(now),
            received: 0,
            total: 0,
            reach: 0,
            state: WAITING,
            protocol: part.protocol,
            ecn_seen: 0,
            ecn: 0,
            reserved: [0; 6],
        };
        Ok(place)
    }

    fn oldest(&self, is_candidate: impl Fn(&Datagram) -> bool, now: Instant) -> Option<usize> {
        let candidates = self.datagrams.iter().enumerate().filter(|(_, d)| is_candidate(d));
        candidates.max_by_key(|(_, d)| milliseconds(now).wrapping_sub(d.since_ms)).map(|(at, _)| at)
    }
}

impl Datagram {
    fn is_alive(&self, now: Instant) -> bool {
        let age_ms = milliseconds(now).wrapping_sub(self.since_ms);
        self.state != FREE && u128::from(age_ms) < TIMEOUT.as_millis()
    }

    const fn is_whole(&self) -> bool {
        self.total != 0 && self.received == self.total
    }

    /// Takes a part in, whose place in the packet is `room`.
    fn insert(&mut self, part: &Part<'_>, room: &mut [u8]) -> Result<(), Stop> {
        if self.state == DEAD {
            return Err(Stop::FragmentOverlap);
        }
        let end = part.offset + part.bytes.len() as u16;
        let blocks = usize::from(part.offset / 8)..usize::from(end.div_ceil(8));
        let known = blocks.clone().filter(|block| self.has(*block)).count();
        let beyond = self.total != 0 && (end > self.total || !part.more && end != self.total);
        if known == blocks.len() && !beyond && *room == *part.bytes && self.is_end(part, end) {
            return Err(Stop::FragmentDuplicate);
        }
        if known > 0 || beyond || !part.more && self.reach > end {
            self.state = DEAD;
            return Err(Stop::FragmentOverlap);
        }
        room.copy_from_slice(part.bytes);
        for block in blocks {
            self.map[block / 64] |= 1 << (block % 64);
        }
        self.received += part.bytes.len() as u16;
        self.reach = self.reach.max(end);
        if !part.more {
            self.total = end;
        }
        if part.offset == 0 {
            (self.protocol, self.ecn) = (part.protocol, part.ecn);
        }
        self.ecn_seen |= 1 << part.ecn;
        Ok(())
    }

    const fn has(&self, block: usize) -> bool {
        self.map[block / 64] >> (block % 64) & 1 == 1
    }

    /// Whether a part agrees with what is known of the packet's end.
    const fn is_end(&self, part: &Part<'_>, end: u16) -> bool {
        (self.total != 0 && self.total == end) != part.more
    }

    /// RFC 3168 section 5.3: none, if parts disagree on whether their sender speaks ECN.
    const fn ecn(&self) -> Option<u8> {
        if self.ecn_seen >> CONGESTION_EXPERIENCED & 1 == 0 {
            return Some(self.ecn);
        }
        if self.ecn_seen & 1 == 1 { None } else { Some(CONGESTION_EXPERIENCED) }
    }
}

const fn octets(ip: IpAddr) -> [u8; 16] {
    Key::of(ip).0.to_be_bytes()
}

const fn milliseconds(now: Instant) -> u32 {
    (now.as_millis() & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;
    use zerocopy::FromZeros;

    use super::*;

    const MTU: u16 = 1500;

    struct Memory {
        datagrams: Vec<Datagram>,
        bytes: Vec<u8>,
    }

    fn memory(places: usize) -> Memory {
        Memory {
            datagrams: (0..places).map(|_| Datagram::new_zeroed()).collect(),
            bytes: vec![0; places * Reassembly::capacity_for(MTU)],
        }
    }

    fn part(identification: u32, offset: u16, more: bool, bytes: &[u8]) -> Part<'_> {
        Part {
            src: IpAddr::from([10, 0, 0, 1]),
            dst: IpAddr::from([10, 0, 0, 2]),
            identification,
            protocol: 6,
            offset,
            more,
            ecn: 0,
            bytes,
        }
    }

    /// What comes of parts in this order.
    fn all(parts: &[Part<'_>]) -> (Vec<Result<bool, Stop>>, Option<Vec<u8>>) {
        let mut memory = memory(2);
        let mut reassembly = Reassembly::new(&mut memory.datagrams, &mut memory.bytes, MTU);
        let (mut counters, now) = (Counters::new(), Instant::from_millis(5));
        let mut packet = None;
        let results = parts.iter().map(|part| {
            let whole = reassembly.take(part, &mut counters, now)?;
            if let Some(whole) = &whole {
                let bytes = reassembly.lend();
                packet = Some(reassembly.payload(whole, bytes).to_vec());
                reassembly.release(whole, bytes);
            }
            Ok(whole.is_some())
        });
        (results.collect(), packet)
    }

    proptest! {
        /// In whatever order the parts come, and however often, the packet is the one sent.
        #[test]
        fn a_packet_is_put_together_in_any_order(
            len in 20_usize..1500,
            cut in 3_usize..40,
            order in any::<u64>(),
        ) {
            let packet: Vec<u8> = (0..len).map(|at| (at * 7 % 251) as u8).collect();
            let mut parts: Vec<Part<'_>> = packet.chunks(cut * 8).enumerate().map(|(at, bytes)| {
                let offset = at * cut * 8;
                part(9, offset as u16, offset + bytes.len() < len, bytes)
            }).collect();
            let mut lot = order | 1;
            for at in (1..parts.len()).rev() {
                lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                parts.swap(at, (lot >> 33) as usize % (at + 1));
            }
            let twice: Vec<Part<'_>> =
                parts[..parts.len() - 1].iter().flat_map(|part| [*part, *part]).collect();
            let last = *parts.last().unwrap();
            let (results, whole) = all(&[&twice[..], &[last]].concat());
            prop_assert_eq!(whole.as_ref(), Some(&packet));
            let duplicates = results.iter().filter(|r| **r == Err(Stop::FragmentDuplicate)).count();
            prop_assert_eq!(duplicates, parts.len() - 1);
        }
    }

    /// Bad input 91, RFC 5722: teardrop and its like.
    #[test]
    fn overlapping_parts_lose_the_packet_whole() {
        let (a, b) = ([1; 64], [2; 64]);
        for evil in [
            part(1, 32, true, &a),
            part(1, 0, true, &b),
            part(1, 56, false, &a[..9]),
            part(1, 8, true, &a[..24]),
            part(1, 0, false, &a[..32]),
        ] {
            let (results, whole) =
                all(&[part(1, 0, true, &a), evil, part(1, 64, false, &b[..5]), evil]);
            let lost = Err(Stop::FragmentOverlap);
            let expected = if evil.bytes == &a[..24] {
                // It says again what is known, but in other pieces.
                [Ok(false), Err(Stop::FragmentDuplicate), Ok(true), Ok(false)]
            } else {
                [Ok(false), lost, lost, lost]
            };
            assert_eq!(results[..3], expected[..3], "{evil:?}");
            assert_eq!(whole.is_some(), expected[2] == Ok(true));
        }
    }

    #[test]
    fn a_packet_has_one_end() {
        let a = [1; 64];
        let (results, _) = all(&[part(1, 64, false, &a), part(1, 128, true, &a)]);
        assert_eq!(results[1], Err(Stop::FragmentOverlap));
        let (results, _) = all(&[part(1, 64, false, &a), part(1, 0, false, &a)]);
        assert_eq!(results[1], Err(Stop::FragmentOverlap));
        let (results, _) = all(&[part(1, 64, true, &a), part(1, 0, false, &a)]);
        assert_eq!(results[1], Err(Stop::FragmentOverlap));
    }

    /// Bad input 91 and 92: ping of death, tiny first parts, odd ones.
    #[test]
    fn parts_no_honest_sender_makes_are_refused() {
        let a = [1; 64];
        for (evil, stop) in [
            (part(1, 65528, false, &a), Stop::FragmentTooBig),
            (part(1, 1448, true, &a), Stop::FragmentTooBig),
            (part(1, 0, true, &a[..8]), Stop::FragmentInvalid),
            (part(1, 0, true, &a[..60]), Stop::FragmentInvalid),
            (part(1, 8, true, &[]), Stop::FragmentInvalid),
            (part(1, 8, false, &[]), Stop::FragmentInvalid),
        ] {
            assert_eq!(all(&[evil]).0, [Err(stop)], "{evil:?}");
        }
    }

    /// Bad input 93: whoever never completes anything costs others nothing for long.
    #[test]
    fn what_is_never_completed_makes_way() {
        let mut memory = memory(8);
        let mut reassembly = Reassembly::new(&mut memory.datagrams, &mut memory.bytes, MTU);
        let mut counters = Counters::new();
        let now = Instant::from_millis(5);
        let bytes = [1; 64];
        let honest = Part { src: IpAddr::from([10, 0, 0, 9]), ..part(7, 0, true, &bytes) };
        assert_eq!(reassembly.take(&honest, &mut counters, now), Ok(None));
        for n in 0..2000 {
            let _ = reassembly.take(&part(n, 0, true, &bytes), &mut counters, now);
        }
        assert_eq!(reassembly.in_use(now), 1 + 2, "a sender has a quarter");
        let last = Part { offset: 64, more: false, ..honest };
        let whole = reassembly.take(&last, &mut counters, now).unwrap().expect("whole");
        assert_eq!(whole.len, 128);
        for n in 0..20 {
            let src = IpAddr::from([10, 0, 1, n]);
            let _ = reassembly.take(&Part { src, ..part(1, 0, true, &bytes) }, &mut counters, now);
        }
        assert_eq!(reassembly.in_use(now), 8);
        let later = now + TIMEOUT;
        assert_eq!(reassembly.in_use(later), 0);
        let late = reassembly.take(&part(1, 64, false, &bytes), &mut counters, later);
        assert_eq!(late, Ok(None), "its first part is forgotten");
    }

    /// RFC 3168 section 5.3.
    #[test]
    fn congestion_is_kept() {
        let bytes = [1; 64];
        let with = |first: u8, second: u8| {
            let mut memory = memory(1);
            let mut reassembly = Reassembly::new(&mut memory.datagrams, &mut memory.bytes, MTU);
            let (mut counters, now) = (Counters::new(), Instant::from_millis(5));
            let one = Part { ecn: first, ..part(1, 0, true, &bytes) };
            let two = Part { ecn: second, ..part(1, 64, false, &bytes) };
            reassembly.take(&one, &mut counters, now).unwrap();
            reassembly.take(&two, &mut counters, now).map(|whole| whole.unwrap().ecn)
        };
        assert_eq!(with(2, 3), Ok(3));
        assert_eq!(with(3, 1), Ok(3));
        assert_eq!(with(2, 2), Ok(2));
        assert_eq!(with(0, 0), Ok(0));
        assert_eq!(with(0, 3), Err(Stop::FragmentInvalid));
    }
}

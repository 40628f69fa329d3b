//! One frame.

use std::fmt;
use std::ptr::NonNull;
use std::slice;

use dpdk_sys as sys;

/// The only owner of a frame in a pool; dropped, the frame goes home.
///
/// Invariant: the pointer is to a live mbuf with a reference count of one, and nobody else has it,
/// neither in Rust nor in a driver. Frames come in from [`crate::Pool`], [`crate::RxQueue`] and
/// [`crate::MbufReceiver`], which all hand theirs over, and nothing here raises the count. It is a bare pointer
/// (`repr(transparent)`), so that an array of them is what DPDK calls an array of mbufs.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// SAFETY: the owner is the only one to have the mbuf, and its pool takes it back from any thread.
unsafe impl Send for Mbuf {}

const _: () = assert!(size_of::<Mbuf>() == size_of::<*mut sys::rte_mbuf>());

/// What the device says of a received frame's TCP checksum.
///
/// Some drivers (i40e's among them) call every frame good in which their device saw nothing wrong,
/// those in which it found no TCP among them. So the word counts only of frames in which the device
/// says that there is a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxChecksum {
    /// Nothing that is to be believed.
    Unknown,
    /// Verified good.
    Good,
    /// Found bad, in TCP or in the IPv4 header.
    Bad,
    /// Not there to be verified, as the frame comes from a neighbour in the same machine and was on
    /// no wire. That is what DPDK means by "none"; some drivers of cards mean that none was looked
    /// at.
    Absent,
}

/// The frame would not fit its buffer, or is in several pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Bytes that would fit.
    pub room: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the frame's buffer holds {} bytes", self.room)
    }
}

impl std::error::Error for TooLong {}

impl Mbuf {
    fn header(&self) -> &sys::rte_mbuf {
        // SAFETY: the mbuf is live and nobody else has it.
        unsafe { self.0.as_ref() }
    }

    fn header_mut(&mut self) -> &mut sys::rte_mbuf {
        // SAFETY: the mbuf is live and nobody else has it.
        unsafe { self.0.as_mut() }
    }

    /// The frame's bytes, from the Ethernet header on: all of them if the frame [is
    /// linear](Self::is_linear), else those of the first piece.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let len = usize::from(self.header().data_len);
        // SAFETY: `data_len` bytes from the start on are in the buffer, which lives as long as the
        // mbuf and is borrowed with it. They were written by the system (fresh pages), a driver or
        // us, so they are initialised.
        unsafe { slice::from_raw_parts(start(self.header()), len) }
    }

    /// The bytes of [`Self::bytes`], to be changed.
    #[inline]
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = usize::from(self.header().data_len);
        // SAFETY: as in `bytes`; the buffer is this mbuf's alone, as its count is one.
        unsafe { slice::from_raw_parts_mut(start(self.header()), len) }
    }

    /// Bytes in the whole frame.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.header().pkt_len as usize
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the frame lies in one piece. Some virtual devices cut where others would not.
    #[inline]
    #[must_use]
    pub fn is_linear(&self) -> bool {
        self.header().nb_segs == 1
    }

    /// Brings all pieces into the first.
    ///
    /// # Errors
    /// If they do not fit; the frame is then as before.
    pub fn linearize(&mut self) -> Result<(), TooLong> {
        // SAFETY: the mbuf is live and ours alone; its pieces are ours with it.
        match unsafe { sys::shim_linearize(self.0.as_ptr()) } {
            0 => Ok(()),
            _ => Err(TooLong { room: self.room() }),
        }
    }

    /// Bytes the frame could have.
    #[inline]
    #[must_use]
    pub fn room(&self) -> usize {
        usize::from(self.header().buf_len.saturating_sub(self.header().data_off))
    }

    /// Copies the whole frame, all its pieces, to the front of `into`; returns its length, or `None`
    /// if it would not fit.
    #[must_use]
    pub fn copy_to(&self, into: &mut [u8]) -> Option<usize> {
        let mut rest = into.get_mut(..self.len())?;
        for piece in self.pieces() {
            // SAFETY: the pieces are live as long as their first.
            let header = unsafe { piece.as_ref() };
            let len = usize::from(header.data_len);
            let (head, tail) = rest.split_at_mut_checked(len)?;
            // SAFETY: as in `bytes`; `start` is that of this piece's own buffer.
            head.copy_from_slice(unsafe { slice::from_raw_parts(start(header), len) });
            rest = tail;
        }
        Some(self.len())
    }

    /// Writes the whole frame, all its pieces, from `from`, which has as many bytes; says whether
    /// it has.
    #[must_use]
    pub fn copy_from(&mut self, from: &[u8]) -> bool {
        if from.len() != self.len() {
            return false;
        }
        let mut rest = from;
        for piece in self.pieces() {
            // SAFETY: the pieces are live as long as their first.
            let header = unsafe { piece.as_ref() };
            let Some((head, tail)) = rest.split_at_checked(usize::from(header.data_len)) else {
                return false;
            };
            // SAFETY: as in `bytes_mut`; `start` is that of this piece's own buffer, and the pieces
            // are ours alone with their first.
            unsafe { slice::from_raw_parts_mut(start(header), head.len()) }.copy_from_slice(head);
            rest = tail;
        }
        true
    }

    /// The pieces, the first first.
    fn pieces(&self) -> impl Iterator<Item = NonNull<sys::rte_mbuf>> + use<> {
        let count = usize::from(self.header().nb_segs);
        let next = |piece: &NonNull<sys::rte_mbuf>| {
            // SAFETY: the pieces are live as long as their first, which outlives the iterator: it
            // does not leave the methods that borrow it.
            NonNull::new(unsafe { piece.as_ref() }.next)
        };
        std::iter::successors(Some(self.0), next).take(count)
    }

    /// Puts `tail` behind the frame: another piece, or several.
    ///
    /// # Errors
    /// Gives it back if that were too many.
    pub fn chain(&mut self, tail: Self) -> Result<(), Self> {
        // SAFETY: both are live, ours alone, and two.
        match unsafe { sys::shim_chain(self.0.as_ptr(), tail.0.as_ptr()) } {
            0 => {
                // It goes home with the first piece now.
                std::mem::forget(tail);
                Ok(())
            }
            _ => Err(tail),
        }
    }

    /// Has the device complete the checksum of the TCP segment that begins after `ethernet` and
    /// `ip` bytes of headers. Its field has the pseudo-header's sum in it, the queue's port was
    /// configured with [`tx_checksums`](crate::PortConfig::tx_checksums), and the frame is linear
    /// that far.
    #[inline]
    pub fn complete_tcp_checksum(&mut self, ethernet: u8, ip: u8, is_v6: bool) {
        let family = if is_v6 { sys::SHIM_TX_IPV6 } else { sys::SHIM_TX_IPV4 };
        let header = self.header_mut();
        header.ol_flags |= sys::SHIM_TX_TCP_CKSUM | family;
        let lengths = u64::from(ethernet) | u64::from(ip) << sys::SHIM_L2_LEN_BITS;
        header.__bindgen_anon_3.tx_offload = lengths;
    }

    /// Gives the frame `len` bytes. New ones hold whatever the buffer held, which may be an earlier
    /// frame: write them all before sending.
    ///
    /// # Errors
    /// If they would not fit, or the frame is not linear.
    #[inline]
    pub fn set_len(&mut self, len: usize) -> Result<(), TooLong> {
        if !self.is_linear() {
            return Err(TooLong { room: usize::from(self.header().data_len) });
        }
        let room = self.room();
        match u16::try_from(len) {
            Ok(bytes) if len <= room => {
                let header = self.header_mut();
                header.data_len = bytes;
                header.pkt_len = u32::from(bytes);
                Ok(())
            }
            _ => Err(TooLong { room }),
        }
    }

    /// What the device says of the checksums.
    #[inline]
    #[must_use]
    pub fn checksum(&self) -> RxChecksum {
        let header = self.header();
        // SAFETY: every bit pattern is a valid u32; pools and drivers write it, if only zero.
        let kind = unsafe { header.__bindgen_anon_1.packet_type };
        verdict(header.ol_flags, kind)
    }

    /// The device's RSS hash, if it computed one.
    #[inline]
    #[must_use]
    pub fn rss_hash(&self) -> Option<u32> {
        let header = self.header();
        if header.ol_flags & sys::SHIM_RX_RSS_HASH == 0 {
            return None;
        }
        // SAFETY: the union has one field.
        let hash = unsafe { header.__bindgen_anon_2.hash };
        // SAFETY: every bit pattern is a valid u32, and the flag says that this is the field that
        // was written.
        Some(unsafe { hash.rss })
    }
}

/// The first byte of a piece.
fn start(piece: &sys::rte_mbuf) -> *mut u8 {
    debug_assert!(piece.data_off <= piece.buf_len, "data offset past the buffer");
    // SAFETY: drivers and `Pool` keep `data_off` within the buffer.
    unsafe { piece.buf_addr.cast::<u8>().add(usize::from(piece.data_off)) }
}

/// What a received frame's flags and packet type say of its TCP checksum.
const fn verdict(flags: u64, kind: u32) -> RxChecksum {
    if kind & sys::SHIM_PTYPE_L4_MASK != sys::SHIM_PTYPE_L4_TCP {
        return RxChecksum::Unknown;
    }
    match flags & sys::SHIM_RX_L4_CKSUM_MASK {
        sys::SHIM_RX_L4_CKSUM_BAD => RxChecksum::Bad,
        sys::SHIM_RX_L4_CKSUM_GOOD => RxChecksum::Good,
        sys::SHIM_RX_L4_CKSUM_NONE => RxChecksum::Absent,
        _ => RxChecksum::Unknown,
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: the mbuf is live and this was its only owner.
        unsafe { sys::shim_free(self.0.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mbuf({} bytes in {} pieces)", self.len(), self.header().nb_segs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layer 3 of the packet types: IPv4 and IPv6 with and without extensions.
    const LAYERS_3: [u32; 4] = [0x10, 0x30, 0x40, 0xc0];

    #[test]
    fn n41_a_devices_word_counts_of_tcp_only() {
        let (good, bad) = (sys::SHIM_RX_L4_CKSUM_GOOD, sys::SHIM_RX_L4_CKSUM_BAD);
        let none = sys::SHIM_RX_L4_CKSUM_NONE;
        for layer_3 in LAYERS_3 {
            let tcp = layer_3 | sys::SHIM_PTYPE_L4_TCP | 1;
            assert_eq!(verdict(0, tcp), RxChecksum::Unknown);
            assert_eq!(verdict(good, tcp), RxChecksum::Good);
            assert_eq!(verdict(none, tcp), RxChecksum::Absent);
            assert_eq!(verdict(bad, tcp), RxChecksum::Bad);
            // UDP, a fragment, SCTP, ICMP, nothing known.
            for layer_4 in [0x200, 0x300, 0x400, 0x500, 0] {
                for flags in [0, good, none, bad] {
                    assert_eq!(verdict(flags, layer_3 | layer_4 | 1), RxChecksum::Unknown);
                }
            }
        }
    }

    #[test]
    fn other_flags_say_nothing_of_tcps_checksum() {
        let of_tcp = sys::SHIM_RX_L4_CKSUM_MASK;
        let tcp = 0x10 | sys::SHIM_PTYPE_L4_TCP;
        let bits = (0..64).map(|bit| 1_u64 << bit).filter(|bit| bit & of_tcp == 0);
        for other in bits {
            assert_eq!(verdict(other, tcp), RxChecksum::Unknown, "{other:x}");
            assert_eq!(verdict(other | sys::SHIM_RX_L4_CKSUM_GOOD, tcp), RxChecksum::Good);
        }
    }
}

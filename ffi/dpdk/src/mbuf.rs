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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxChecksum {
    /// Nothing.
    Unknown,
    /// Verified good, the IPv4 header's included if there is one.
    Good,
    /// Found bad, in TCP or in the IPv4 header.
    Bad,
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

    /// The first byte of the frame.
    fn start(&self) -> *mut u8 {
        let header = self.header();
        debug_assert!(header.data_off <= header.buf_len, "data offset past the buffer");
        // SAFETY: drivers and `Pool` keep `data_off` within the buffer.
        unsafe { header.buf_addr.cast::<u8>().add(usize::from(header.data_off)) }
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
        unsafe { slice::from_raw_parts(self.start(), len) }
    }

    /// The bytes of [`Self::bytes`], to be changed.
    #[inline]
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = usize::from(self.header().data_len);
        // SAFETY: as in `bytes`; the buffer is this mbuf's alone, as its count is one.
        unsafe { slice::from_raw_parts_mut(self.start(), len) }
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

    /// Whether the frame lies in one piece. It always does when the port's MTU fits the pool's
    /// data room, which [`crate::Port::configure`] sees to.
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
        let flags = self.header().ol_flags;
        let ip = flags & sys::SHIM_RX_IP_CKSUM_MASK;
        let l4 = flags & sys::SHIM_RX_L4_CKSUM_MASK;
        if l4 == sys::SHIM_RX_L4_CKSUM_BAD || ip == sys::SHIM_RX_IP_CKSUM_BAD {
            RxChecksum::Bad
        } else if l4 == sys::SHIM_RX_L4_CKSUM_GOOD || l4 == sys::SHIM_RX_L4_CKSUM_NONE {
            // "None" is DPDK's word for: not in the frame, but its integrity is verified.
            RxChecksum::Good
        } else {
            RxChecksum::Unknown
        }
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

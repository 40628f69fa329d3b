//! What the stack needs of the world around it: frames in, room for frames out, payload to copy.

/// What the NIC says of a frame's checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing: the stack verifies.
    #[default]
    Unknown,
    /// Verified good by the device.
    Good,
    /// Found bad by the device; the stack verifies again, for devices are known to err.
    Bad,
}

/// A received frame: all its bytes, linear, from the Ethernet header on, without the FCS.
#[derive(Clone, Copy, Debug)]
pub struct RxFrame<'f> {
    /// The bytes.
    pub bytes: &'f [u8],
    /// What the device says of the checksums.
    pub checksum: Checksum,
}

/// Where frames go.
pub trait Transmit {
    /// Room for one frame of exactly `len` bytes, which the caller then writes whole; it is sent
    /// as soon as the caller has returned to the engine. `None` when the transmit ring or its
    /// mempool is full: the caller tries again later or counts the loss.
    fn frame(&mut self, len: usize) -> Option<&mut [u8]>;

    /// As [`Self::frame`], for a frame with one whole TCP segment, and who completes its checksum.
    ///
    /// If that is the device, the checksum field gets the pseudo-header's sum, not complemented
    /// ([`PseudoHeader::sum`](crate::wire::checksum::PseudoHeader::sum)), and nothing adds the text
    /// up. An IPv4 header's checksum is always written here.
    fn segment(&mut self, len: usize, below: Below) -> Option<(&mut [u8], Completion)> {
        let _ = below;
        self.frame(len).map(|frame| (frame, Completion::Here))
    }
}

/// What a frame has in front of its TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Below {
    /// Bytes of the Ethernet header, a VLAN tag included.
    pub ethernet: u8,
    /// Bytes of the IP header.
    pub ip: u8,
    /// Whether that is IPv6's.
    pub is_v6: bool,
}

/// Who completes a TCP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The stack writes it.
    Here,
    /// The device does, from the pseudo-header's sum in its field.
    Device,
}

/// Bytes an application wants sent, wherever they lie.
///
/// They may lie in memory that another process is changing, so they are copied out once.
pub trait Payload {
    /// How many bytes.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes `at .. at + into.len()` to `into`; the range lies within [`Self::len`].
    fn copy_to(&self, at: usize, into: &mut [u8]);
}

impl Payload for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn copy_to(&self, at: usize, into: &mut [u8]) {
        into.copy_from_slice(&self[at..at + into.len()]);
    }
}

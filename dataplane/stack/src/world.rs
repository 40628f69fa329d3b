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

//! TCP segments and their options (RFC 9293 section 3.1, RFC 7323, RFC 2018).

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

use super::Malformed;
use super::checksum::{self, PseudoHeader};

/// Bytes of a header without options.
pub const HEADER: usize = 20;

/// Bytes of a header with all the options that fit.
pub const HEADER_MAX: usize = 60;

/// TCP's number among the upper-layer protocols.
pub const PROTOCOL: u8 = 6;

/// SACK blocks that fit in a header (RFC 2018 section 3); three beside timestamps.
pub const SACK_BLOCKS_MAX: usize = 4;

/// The control bits.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// No bit.
    pub const NONE: Self = Self(0);
    /// The sender has nothing more to send.
    pub const FIN: Self = Self(0x01);
    /// Sequence numbers are being synchronised.
    pub const SYN: Self = Self(0x02);
    /// The connection is reset.
    pub const RST: Self = Self(0x04);
    /// The receiver should push what it has.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number means something.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer means something.
    pub const URG: Self = Self(0x20);
    /// Congestion was experienced (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// The congestion window was reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Whether every bit of `flags` is set.
    #[must_use]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether any bit of `flags` is set.
    #[must_use]
    pub const fn intersects(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let mut separator = "";
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 >> bit & 1 == 1 {
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

/// The timestamps option (RFC 7323 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the receiver's clock, as the sender saw it last.
    pub echo: u32,
}

/// One SACK block: bytes received out of order (RFC 2018 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlock {
    /// Sequence number of the first byte.
    pub left: u32,
    /// Sequence number after the last byte.
    pub right: u32,
}

/// The blocks of a SACK option, in its order.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [SackBlock; SACK_BLOCKS_MAX],
    count: u8,
}

impl SackBlocks {
    /// No block.
    pub const NONE: Self = Self { blocks: [SackBlock { left: 0, right: 0 }; 4], count: 0 };

    /// Adds a block at the end; one too many is left out.
    pub fn push(&mut self, block: SackBlock) {
        if let Some(place) = self.blocks.get_mut(usize::from(self.count)) {
            *place = block;
            self.count += 1;
        }
    }

    /// The blocks.
    #[must_use]
    pub fn as_slice(&self) -> &[SackBlock] {
        self.blocks.get(..usize::from(self.count)).unwrap_or_default()
    }
}

impl fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// The options we know. Others are passed over (MUST-6), the authentication options of RFC 2385
/// and RFC 5925 and the Fast Open cookie of RFC 7413 among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size, as received: any value, zero too. Only on SYN.
    pub mss: Option<u16>,
    /// Window scale shift, as received: 15 to 255 are to be read as 14 (RFC 7323 section 2.3).
    /// Only on SYN.
    pub window_scale: Option<u8>,
    /// Whether the sender may be sent SACK blocks. Only on SYN.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// SACK blocks: any numbers, reversed and foreign ones too.
    pub sack: SackBlocks,
}

impl Options {
    /// No option.
    pub const NONE: Self = Self {
        mss: None,
        window_scale: None,
        sack_permitted: false,
        timestamps: None,
        sack: SackBlocks::NONE,
    };
}

/// A received segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'f> {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK; without meaning if the ACK bit is not set.
    pub ack: u32,
    /// The control bits. The reserved ones are not looked at (RFC 9293 section 3.1).
    pub flags: Flags,
    /// SEG.WND, not scaled.
    pub window: u16,
    /// SEG.UP: urgent pointer; any value.
    pub urgent: u16,
    /// The options.
    pub options: Options,
    /// The header with its options.
    pub header: &'f [u8],
    /// The text.
    pub payload: &'f [u8],
}

impl<'f> Segment<'f> {
    /// A place for one.
    pub const NOTHING: Self = Self {
        src_port: 0,
        dst_port: 0,
        seq: 0,
        ack: 0,
        flags: Flags::NONE,
        window: 0,
        urgent: 0,
        options: Options::NONE,
        header: &[],
        payload: &[],
    };

    /// Reads a segment: all of an IP packet's payload. Its checksum is another matter:
    /// [`checksum_ok`], or [`Self::copy_payload`] along with the copy.
    ///
    /// # Errors
    /// `TcpTruncated`, `TcpDataOffset`.
    #[inline]
    pub fn parse(bytes: &'f [u8]) -> Result<Self, Malformed> {
        let mut segment = Self::NOTHING;
        segment.read(bytes)?;
        Ok(segment)
    }

    /// As [`Self::parse`], in place: a segment is too large to be moved for nothing. After an error
    /// it means nothing.
    ///
    /// # Errors
    /// As those of [`Self::parse`].
    #[inline(always)]
    pub fn read(&mut self, bytes: &'f [u8]) -> Result<(), Malformed> {
        let Some((fixed, _)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(Malformed::TcpTruncated);
        };
        let header_len = usize::from(fixed[12] >> 4) * 4;
        if header_len < HEADER {
            return Err(Malformed::TcpDataOffset);
        }
        let Some((header, payload)) = bytes.split_at_checked(header_len) else {
            return Err(Malformed::TcpDataOffset);
        };
        self.src_port = u16::from_be_bytes([fixed[0], fixed[1]]);
        self.dst_port = u16::from_be_bytes([fixed[2], fixed[3]]);
        self.seq = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        self.ack = u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
        self.flags = Flags(fixed[13]);
        self.window = u16::from_be_bytes([fixed[14], fixed[15]]);
        self.urgent = u16::from_be_bytes([fixed[18], fixed[19]]);
        self.header = header;
        self.payload = payload;
        self.options = Options::NONE;
        // Every segment of an open connection carries timestamps and nothing else, laid out as
        // RFC 7323's appendix A recommends: that is looked for first.
        match header.get(HEADER..) {
            None | Some([]) => {}
            Some(&[k0, k1, k2, k3, v0, v1, v2, v3, e0, e1, e2, e3])
                if u32::from_be_bytes([k0, k1, k2, k3]) == TIMESTAMPS_KIND =>
            {
                let value = u32::from_be_bytes([v0, v1, v2, v3]);
                let echo = u32::from_be_bytes([e0, e1, e2, e3]);
                self.options.timestamps = Some(Timestamps { value, echo });
            }
            Some(options) => self.options = walk_options(options, self.flags.contains(Flags::SYN)),
        }
        Ok(())
    }

    /// SEG.LEN: the text, and one for each of SYN and FIN.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.payload.len() as u32
            + u32::from(self.flags.contains(Flags::SYN))
            + u32::from(self.flags.contains(Flags::FIN))
    }

    /// Whether it takes no sequence number.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the checksum is right (MUST-3).
    #[must_use]
    pub fn checksum_ok(&self, pseudo: PseudoHeader) -> bool {
        let len = self.header.len() + self.payload.len();
        let sum = checksum::sum(self.header, pseudo.sum(len));
        checksum::is_valid(checksum::sum(self.payload, sum))
    }

    /// Copies the whole text to `into`, which must have its length, and says in the same pass
    /// whether the segment's checksum is right. If it is not, or the lengths differ, what was
    /// written to `into` means nothing.
    #[must_use]
    pub fn copy_payload(&self, into: &mut [u8], pseudo: PseudoHeader) -> bool {
        let len = self.header.len() + self.payload.len();
        let sum = checksum::sum(self.header, pseudo.sum(len));
        let sum = checksum::copy_and_sum(into, self.payload, sum);
        into.len() == self.payload.len() && checksum::is_valid(sum)
    }
}

/// Whether a whole segment's checksum is right (MUST-3). A zero field has no special meaning.
#[inline(always)]
#[must_use]
pub fn checksum_ok(segment: &[u8], pseudo: PseudoHeader) -> bool {
    checksum::is_valid(checksum::sum(segment, pseudo.sum(segment.len())))
}

/// A header to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK.
    pub ack: u32,
    /// The control bits.
    pub flags: Flags,
    /// SEG.WND, scaled already.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// The options. SACK blocks that do not fit beside the others are left out; those that only
    /// a SYN carries are left out of other segments (MUST-65).
    pub options: Options,
}

impl Header {
    /// Bytes of the header with its options, a multiple of 4.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        HEADER + OptionLayout::of(self).len
    }

    /// Writes the header with its options at the head of `buf`, the checksum field zero, and
    /// returns the bytes after it, where the text goes; `None` if `buf` is shorter than
    /// [`Self::header_len`]. [`set_checksum`] or [`set_checksum_with`] then completes it.
    #[inline(always)]
    pub fn emit<'b>(&self, buf: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let layout = OptionLayout::of(self);
        let (fixed, rest) = buf.split_first_chunk_mut::<HEADER>()?;
        let (options, text) = rest.split_at_mut_checked(layout.len)?;
        fixed[..2].copy_from_slice(&self.src_port.to_be_bytes());
        fixed[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        fixed[4..8].copy_from_slice(&self.seq.to_be_bytes());
        fixed[8..12].copy_from_slice(&self.ack.to_be_bytes());
        fixed[12] = ((HEADER + layout.len) / 4) as u8 * 16;
        fixed[13] = self.flags.0;
        fixed[14..16].copy_from_slice(&self.window.to_be_bytes());
        fixed[16..18].fill(0);
        fixed[18..].copy_from_slice(&self.urgent.to_be_bytes());
        match (self.options.timestamps, options.first_chunk_mut::<TIMESTAMPS_ALONE>()) {
            (Some(timestamps), Some(place)) if layout.is_timestamps_alone() => {
                place[..4].copy_from_slice(&TIMESTAMPS_KIND.to_be_bytes());
                place[4..8].copy_from_slice(&timestamps.value.to_be_bytes());
                place[8..].copy_from_slice(&timestamps.echo.to_be_bytes());
            }
            _ if layout.len == 0 => {}
            _ => self.options.emit(options, layout)?,
        }
        Some(text)
    }
}

/// Writes the checksum of a whole segment whose field is zero (MUST-2). Bytes too short for a
/// TCP header are left alone.
#[inline]
pub fn set_checksum(segment: &mut [u8], pseudo: PseudoHeader) {
    let sum = checksum::sum(segment, pseudo.sum(segment.len()));
    put_checksum(segment, sum);
}

/// As [`set_checksum`], for a segment whose text (the bytes after `header_len`) was summed
/// already, as [`checksum::copy_and_sum`] does: only the header is read again.
pub fn set_checksum_with(
    segment: &mut [u8],
    header_len: usize,
    text_sum: u32,
    pseudo: PseudoHeader,
) {
    let header = segment.get(..header_len).unwrap_or_default();
    let sum = checksum::sum(header, pseudo.sum(segment.len()));
    put_checksum(segment, checksum::add(sum, text_sum));
}

/// Leaves in the checksum field what a device that completes it wants to find: the sum of the
/// pseudo-header, which no complement is taken of.
pub fn set_pseudo_sum(segment: &mut [u8], pseudo: PseudoHeader) {
    let sum = pseudo.sum(segment.len());
    if let Some(fixed) = segment.first_chunk_mut::<HEADER>() {
        // Folded, it has 16 bits.
        fixed[16..18].copy_from_slice(&(sum as u16).to_be_bytes());
    }
}

#[inline]
fn put_checksum(segment: &mut [u8], sum: u32) {
    if let Some(fixed) = segment.first_chunk_mut::<HEADER>() {
        fixed[16..18].copy_from_slice(&checksum::field(sum).to_be_bytes());
    }
}

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// Bytes of timestamps and the two NOPs before them (RFC 7323 appendix A).
const TIMESTAMPS_ALONE: usize = 12;
/// What those begin with: the NOPs, kind and length.
const TIMESTAMPS_KIND: u32 = u32::from_be_bytes([NOP, NOP, TIMESTAMPS, 10]);

/// Bytes of options a header has room for.
const OPTIONS_MAX: usize = HEADER_MAX - HEADER;

/// Reads the options one by one (RFC 9293 section 3.2). A length below 2 or beyond the header ends the list, for nothing
/// after it can be found (MUST-7); a known option of a wrong length is passed over like an unknown
/// one. Of an option that comes twice the first counts. MSS, window scale and SACK-permitted
/// count only on a SYN (MUST-65, RFC 7323 section 2.2, RFC 2018 section 2).
fn walk_options(options: &[u8], syn: bool) -> Options {
    let mut found = Options::NONE;
    let mut rest = options;
    while let [kind, after @ ..] = rest {
        match *kind {
            END => break,
            NOP => {
                rest = after;
                continue;
            }
            _ => {}
        }
        let len = after.first().copied().map_or(0, usize::from);
        let Some((option, behind)) = rest.split_at_checked(len) else { break };
        match *option {
            // Shorter than its own kind and length: the list ends here.
            [] | [_] => break,
            [MSS, 4, a, b] if syn => {
                found.mss = found.mss.or_else(|| Some(u16::from_be_bytes([a, b])));
            }
            [WINDOW_SCALE, 3, shift] if syn => {
                found.window_scale = found.window_scale.or(Some(shift));
            }
            [SACK_PERMITTED, 2] if syn => found.sack_permitted = true,
            [TIMESTAMPS, 10, v0, v1, v2, v3, e0, e1, e2, e3] => {
                let value = u32::from_be_bytes([v0, v1, v2, v3]);
                let echo = u32::from_be_bytes([e0, e1, e2, e3]);
                found.timestamps = found.timestamps.or(Some(Timestamps { value, echo }));
            }
            [SACK, _, ref blocks @ ..] if found.sack == SackBlocks::NONE => {
                found.sack = parse_sack(blocks);
            }
            _ => {}
        }
        rest = behind;
    }
    found
}

/// The blocks of a SACK option; none if they are not whole ones.
fn parse_sack(bytes: &[u8]) -> SackBlocks {
    let mut found = SackBlocks::NONE;
    let mut blocks = bytes.chunks_exact(8);
    for block in &mut blocks {
        if let [l0, l1, l2, l3, r0, r1, r2, r3] = *block {
            found.push(SackBlock {
                left: u32::from_be_bytes([l0, l1, l2, l3]),
                right: u32::from_be_bytes([r0, r1, r2, r3]),
            });
        }
    }
    if blocks.remainder().is_empty() { found } else { SackBlocks::NONE }
}

/// Which options are written, and how many bytes they take.
#[derive(Clone, Copy)]
struct OptionLayout {
    syn: bool,
    sack_blocks: usize,
    len: usize,
}

impl OptionLayout {
    const fn is_timestamps_alone(&self) -> bool {
        !self.syn && self.sack_blocks == 0 && self.len == TIMESTAMPS_ALONE
    }

    #[inline]
    fn of(header: &Header) -> Self {
        let options = &header.options;
        let syn = header.flags.contains(Flags::SYN);
        if !syn && options.sack.count == 0 {
            // As nearly all segments of an open connection.
            let len = if options.timestamps.is_some() { TIMESTAMPS_ALONE } else { 0 };
            return Self { syn, sack_blocks: 0, len };
        }
        let mut len = 0;
        if syn {
            len += if options.mss.is_some() { 4 } else { 0 };
            len += if options.window_scale.is_some() { 4 } else { 0 };
        }
        // SACK-permitted takes the place of the two NOPs before timestamps, as Linux has it.
        let permits = syn && options.sack_permitted;
        len += match (options.timestamps.is_some(), permits) {
            (true, _) => 12,
            (false, true) => 4,
            (false, false) => 0,
        };
        let room = (OPTIONS_MAX - len).saturating_sub(4) / 8;
        let sack_blocks = options.sack.as_slice().len().min(room);
        len += if sack_blocks == 0 { 0 } else { 4 + 8 * sack_blocks };
        Self { syn, sack_blocks, len }
    }
}

impl Options {
    /// Writes the options in the order Linux has on its SYN (MSS, SACK-permitted, timestamps,
    /// NOP, window scale), so that middleboxes see what they know; SACK blocks come last.
    fn emit(&self, options: &mut [u8], layout: OptionLayout) -> Option<()> {
        let mut rest = options;
        if let Some(mss) = self.mss.filter(|_| layout.syn) {
            let [a, b] = mss.to_be_bytes();
            rest = put(rest, [MSS, 4, a, b])?;
        }
        let permits = layout.syn && self.sack_permitted;
        match (self.timestamps, permits) {
            (Some(timestamps), _) => {
                let lead = if permits { [SACK_PERMITTED, 2] } else { [NOP, NOP] };
                rest = put(rest, [lead[0], lead[1], TIMESTAMPS, 10])?;
                rest = put(rest, timestamps.value.to_be_bytes())?;
                rest = put(rest, timestamps.echo.to_be_bytes())?;
            }
            (None, true) => rest = put(rest, [NOP, NOP, SACK_PERMITTED, 2])?,
            (None, false) => {}
        }
        if let Some(shift) = self.window_scale.filter(|_| layout.syn) {
            rest = put(rest, [NOP, WINDOW_SCALE, 3, shift])?;
        }
        let blocks = self.sack.as_slice().get(..layout.sack_blocks)?;
        if !blocks.is_empty() {
            rest = put(rest, [NOP, NOP, SACK, 2 + 8 * layout.sack_blocks as u8])?;
            for block in blocks {
                rest = put(rest, block.left.to_be_bytes())?;
                rest = put(rest, block.right.to_be_bytes())?;
            }
        }
        Some(())
    }
}

/// Writes four bytes and returns what is after them.
#[inline]
fn put(buf: &mut [u8], bytes: [u8; 4]) -> Option<&mut [u8]> {
    let (head, rest) = buf.split_first_chunk_mut::<4>()?;
    *head = bytes;
    Some(rest)
}

#[cfg(test)]
mod tests;

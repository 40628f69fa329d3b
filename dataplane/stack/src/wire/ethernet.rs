//! Ethernet II frames, without the frame check sequence.

use core::fmt;

use super::Malformed;

/// Bytes of the header.
pub const HEADER: usize = 14;

/// Bytes of an 802.1Q tag.
pub const TAG: usize = 4;

/// Bytes of the header of a frame of this VLAN; 0 is none.
#[inline]
#[must_use]
pub const fn header_len(vlan: u16) -> usize {
    if vlan == 0 { HEADER } else { HEADER + TAG }
}

/// An EtherType (IEEE 802.3 clause 3.2.6): what the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4 (RFC 894).
    pub const IPV4: Self = Self(0x0800);
    /// ARP (RFC 826).
    pub const ARP: Self = Self(0x0806);
    /// IPv6 (RFC 2464).
    pub const IPV6: Self = Self(0x86dd);
    /// An IEEE 802.1Q tag follows.
    pub const VLAN: Self = Self(0x8100);
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Every station.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it names a group of stations; broadcast is one.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Whether it can be one station's: neither a group's nor all zero.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'f> {
    /// Whom it is for.
    pub dst: MacAddr,
    /// Whom it is from.
    pub src: MacAddr,
    /// The VLAN its tag names, 1 to 4095; 0 without a tag, or with one of a priority only.
    pub vlan: u16,
    /// What the payload is.
    pub ethertype: EtherType,
    /// The bytes after the header, with the padding of short frames still at their end.
    pub payload: &'f [u8],
}

impl<'f> Frame<'f> {
    /// Reads a frame.
    ///
    /// A priority tag (802.1Q with VLAN identifier 0) is the same frame as without it. A second
    /// tag is not read: its EtherType is that of the payload, and nobody's.
    ///
    /// # Errors
    /// `FrameTruncated`, `FrameLengthField`.
    #[inline]
    pub fn parse(bytes: &'f [u8]) -> Result<Self, Malformed> {
        let Some((header, payload)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(Malformed::FrameTruncated);
        };
        // Addresses are taken whole: put together byte by byte they cost twice the instructions.
        let [dst @ .., _, _, _, _, _, _, _, _] = *header;
        let [_, _, _, _, _, _, src @ .., t0, t1] = *header;
        let (dst, src) = (MacAddr(dst), MacAddr(src));
        let ethertype = EtherType(u16::from_be_bytes([t0, t1]));
        let (vlan, ethertype, payload) = match ethertype {
            EtherType::VLAN => untag(payload)?,
            _ => (0, ethertype, payload),
        };
        if ethertype.0 < 0x0600 {
            return Err(Malformed::FrameLengthField);
        }
        Ok(Self { dst, src, vlan, ethertype, payload })
    }
}

/// The VLAN a tag names, and what it stands before.
fn untag(bytes: &[u8]) -> Result<(u16, EtherType, &[u8]), Malformed> {
    let Some(([c0, c1, t0, t1], payload)) = bytes.split_first_chunk::<4>() else {
        return Err(Malformed::FrameTruncated);
    };
    let vlan = u16::from_be_bytes([*c0, *c1]) & 0x0fff;
    Ok((vlan, EtherType(u16::from_be_bytes([*t0, *t1])), payload))
}

/// Writes a header at the head of `buf` and returns the bytes after it; `None` if they are fewer
/// than [`HEADER`].
#[inline]
pub fn emit<'b>(
    buf: &'b mut [u8],
    dst: &MacAddr,
    src: &MacAddr,
    ethertype: EtherType,
) -> Option<&'b mut [u8]> {
    let (header, payload) = buf.split_first_chunk_mut::<HEADER>()?;
    header[..6].copy_from_slice(&dst.0);
    header[6..12].copy_from_slice(&src.0);
    header[12..].copy_from_slice(&ethertype.0.to_be_bytes());
    Some(payload)
}

/// As [`emit`], with the tag of a VLAN unless it is 0; `None` if the bytes are fewer than
/// [`header_len`].
#[inline]
pub fn emit_in<'b>(
    vlan: u16,
    buf: &'b mut [u8],
    dst: &MacAddr,
    src: &MacAddr,
    ethertype: EtherType,
) -> Option<&'b mut [u8]> {
    if vlan == 0 {
        return emit(buf, dst, src, ethertype);
    }
    let (tag, payload) = emit(buf, dst, src, EtherType::VLAN)?.split_first_chunk_mut::<TAG>()?;
    tag[..2].copy_from_slice(&vlan.to_be_bytes());
    tag[2..].copy_from_slice(&ethertype.0.to_be_bytes());
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DST: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const SRC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn frame(ethertype: u16, payload: &[u8]) -> ([u8; 64], usize) {
        let mut buf = [0; 64];
        let rest = emit(&mut buf, &DST, &SRC, EtherType(ethertype)).unwrap();
        rest[..payload.len()].copy_from_slice(payload);
        (buf, HEADER + payload.len())
    }

    #[test]
    fn reads_what_it_writes() {
        let (bytes, len) = frame(0x0800, &[1, 2, 3]);
        let parsed = Frame::parse(&bytes[..len]).unwrap();
        let vlan = 0;
        let written =
            Frame { dst: DST, src: SRC, vlan, ethertype: EtherType::IPV4, payload: &[1, 2, 3] };
        assert_eq!(parsed, written);
        assert!(emit(&mut [0; 13], &DST, &SRC, EtherType::ARP).is_none());
    }

    #[test]
    fn runts_lengths_and_tags_are_told_apart() {
        assert_eq!(Frame::parse(&[0; 13]), Err(Malformed::FrameTruncated));
        let (bytes, _) = frame(46, &[]);
        assert_eq!(Frame::parse(&bytes), Err(Malformed::FrameLengthField));
        let (bytes, len) = frame(0x8100, &[0xe0, 0x00, 0x08, 0x00, 7]);
        let parsed = Frame::parse(&bytes[..len]).unwrap();
        assert_eq!((parsed.ethertype, parsed.payload), (EtherType::IPV4, &[7][..]));
        let (bytes, len) = frame(0x8100, &[0xe0, 0x05, 0x08, 0x00, 7]);
        let parsed = Frame::parse(&bytes[..len]).unwrap();
        assert_eq!((parsed.vlan, parsed.ethertype), (5, EtherType::IPV4));
        let mut again = [0; HEADER + TAG + 1];
        let rest = emit_in(5, &mut again, &DST, &SRC, EtherType::IPV4).unwrap();
        rest[0] = 7;
        assert_eq!(Frame::parse(&again).unwrap(), parsed);
        assert!(emit_in(5, &mut again[..HEADER + 3], &DST, &SRC, EtherType::IPV4).is_none());
        let (bytes, len) = frame(0x8100, &[0, 0, 8]);
        assert_eq!(Frame::parse(&bytes[..len]), Err(Malformed::FrameTruncated));
        // The inner type of a tagged frame may be a length, too, and QinQ is just unknown.
        let (bytes, _) = frame(0x8100, &[0, 0, 0, 46]);
        assert_eq!(Frame::parse(&bytes), Err(Malformed::FrameLengthField));
        let (bytes, _) = frame(0x88a8, &[0, 0, 8, 0]);
        assert_eq!(Frame::parse(&bytes).unwrap().ethertype, EtherType(0x88a8));
    }

    #[test]
    fn addresses_know_their_kind() {
        assert!(MacAddr::BROADCAST.is_multicast());
        assert!(MacAddr([0x33, 0x33, 0, 0, 0, 1]).is_multicast());
        assert!(DST.is_unicast() && !MacAddr([0; 6]).is_unicast());
    }
}

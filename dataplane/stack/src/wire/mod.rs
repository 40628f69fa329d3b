//! Bytes to values and back: one file per header, no state, no time, no memory of its own.
//!
//! Two laws hold in every file.
//!
//! * *Parsing never trusts a length.* A `parse` takes any bytes and gives a value that lies wholly
//!   within them, or the one [`Malformed`] that says what was wrong. It allocates nothing, cannot
//!   panic, and reads a header straight through; only option lists are loops, each bounded by the
//!   length of the header it stands in.
//! * *Emitting is the inverse.* `parse(emit(x)) == x` for every `x` that can be emitted. An `emit`
//!   writes at the head of the buffer it is given and returns the bytes after what it wrote, where
//!   the next layer writes; `None` if the buffer is too short.
//!
//! A *frame* is Ethernet's, a *packet* IP's, a *segment* TCP's.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod extensions;
pub mod icmp;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod tcp;

/// Why bytes are not the header they are said to be. Each has its [`crate::counters::Stop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than an Ethernet header, or than its VLAN tag.
    FrameTruncated,
    /// An IEEE 802.3 length stands where the EtherType should (values below 1536).
    FrameLengthField,
    /// Shorter than an ARP packet for Ethernet and IPv4.
    ArpTruncated,
    /// ARP for other hardware or another protocol, or with lengths not 6 and 4.
    ArpKind,
    /// An ARP operation other than request and reply.
    ArpOperation,
    /// Shorter than an IPv4 header.
    Ipv4Truncated,
    /// The version field is not 4.
    Ipv4Version,
    /// The header length is below 20 bytes or beyond the packet.
    Ipv4HeaderLength,
    /// The total length is below the header's or beyond the frame.
    Ipv4TotalLength,
    /// The header checksum is wrong.
    Ipv4Checksum,
    /// An option's length is below 2 or beyond the header.
    Ipv4Option,
    /// Shorter than an IPv6 header.
    Ipv6Truncated,
    /// The version field is not 6.
    Ipv6Version,
    /// The payload length is beyond the frame.
    Ipv6PayloadLength,
    /// An extension header or one of its options goes beyond the packet.
    Ipv6ExtensionLength,
    /// More extension headers than are walked, or one twice, or hop-by-hop options not first.
    Ipv6ExtensionChain,
    /// An option we do not know and must not skip (RFC 8200 section 4.2).
    Ipv6Option,
    /// A routing header with segments left: nothing is forwarded here.
    Ipv6Routing,
    /// Shorter than an ICMP message of its type.
    IcmpTruncated,
    /// The ICMP checksum is wrong.
    IcmpChecksum,
    /// A neighbour discovery message that RFC 4861 section 7.1 says to discard.
    NdInvalid,
    /// A neighbour discovery option of length zero or beyond the message.
    NdOption,
    /// Shorter than a TCP header.
    TcpTruncated,
    /// The data offset is below 5 words or beyond the segment.
    TcpDataOffset,
}

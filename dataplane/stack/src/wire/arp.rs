//! ARP for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use super::Malformed;
use super::ethernet::MacAddr;

/// Bytes of a packet.
pub const PACKET: usize = 28;

/// Ethernet, IPv4, address lengths 6 and 4: the only ARP there is here.
const KIND: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

/// What a packet asks or says (`ar$op`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target's protocol address?
    Request,
    /// The sender has it.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// `ar$op`.
    pub operation: Operation,
    /// `ar$sha`.
    pub sender_mac: MacAddr,
    /// `ar$spa`; unspecified in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// `ar$tha`; without meaning in a request.
    pub target_mac: MacAddr,
    /// `ar$tpa`.
    pub target_ip: Ipv4Addr,
}

impl Packet {
    /// Reads a packet; what follows it in a padded frame is passed over.
    ///
    /// # Errors
    /// `ArpTruncated`, `ArpKind`, `ArpOperation`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some((packet, _)) = bytes.split_first_chunk::<PACKET>() else {
            return Err(Malformed::ArpTruncated);
        };
        if packet[..6] != KIND {
            return Err(Malformed::ArpKind);
        }
        let operation = match [packet[6], packet[7]] {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return Err(Malformed::ArpOperation),
        };
        let mac = |at: usize| {
            let mut mac = [0; 6];
            mac.copy_from_slice(&packet[at..at + 6]);
            MacAddr(mac)
        };
        let ip =
            |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        Ok(Self {
            operation,
            sender_mac: mac(8),
            sender_ip: ip(14),
            target_mac: mac(18),
            target_ip: ip(24),
        })
    }

    /// Writes the packet at the head of `buf` and returns the bytes after it; `None` if they are
    /// fewer than [`PACKET`].
    pub fn emit<'b>(&self, buf: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let (packet, rest) = buf.split_first_chunk_mut::<PACKET>()?;
        packet[..6].copy_from_slice(&KIND);
        packet[6] = 0;
        packet[7] = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        packet[8..14].copy_from_slice(&self.sender_mac.0);
        packet[14..18].copy_from_slice(&self.sender_ip.octets());
        packet[18..24].copy_from_slice(&self.target_mac.0);
        packet[24..].copy_from_slice(&self.target_ip.octets());
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARSED: Packet = Packet {
        operation: Operation::Request,
        sender_mac: MacAddr([2, 0, 0, 0, 0, 9]),
        sender_ip: Ipv4Addr::new(10, 0, 0, 9),
        target_mac: MacAddr([0; 6]),
        target_ip: Ipv4Addr::new(10, 0, 0, 1),
    };

    #[test]
    fn reads_what_it_writes_and_passes_over_padding() {
        let mut bytes = [0xee; 46];
        assert_eq!(PARSED.emit(&mut bytes).unwrap().len(), 46 - PACKET);
        assert_eq!(Packet::parse(&bytes), Ok(PARSED));
        assert!(PARSED.emit(&mut [0; 27]).is_none());
    }

    #[test]
    fn malformed_packets_have_their_reason() {
        let mut good = [0; PACKET];
        PARSED.emit(&mut good).unwrap();
        assert_eq!(Packet::parse(&good[..27]), Err(Malformed::ArpTruncated));
        for (at, value) in [(1, 6), (2, 0x86), (4, 0), (4, 255), (5, 16)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(Packet::parse(&bad), Err(Malformed::ArpKind), "byte {at}");
        }
        for (at, value) in [(7, 0), (7, 3), (6, 1)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(Packet::parse(&bad), Err(Malformed::ArpOperation), "byte {at}");
        }
    }
}

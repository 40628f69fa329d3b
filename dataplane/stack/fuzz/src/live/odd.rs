//! Frames no honest host sends, or seldom: around a good segment, or in its place. Their checksums
//! are right, so that they get as far as their contents let them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xtcp_stack::Checksum;
use xtcp_stack::wire::checksum::PseudoHeader;
use xtcp_stack::wire::ethernet::{self, MacAddr};
use xtcp_stack::wire::tcp::{self, Flags, Options};
use xtcp_stack::wire::{arp, checksum, icmpv6, ipv4, ipv6};

use super::choices::Choices;
use super::frames::icmp_frame;
use super::{CLIENTS, OUR_MAC, OUR_V4, OUR_V6, THEIR_MAC, World};

const IP: usize = ethernet::HEADER;
/// Where TCP begins behind an IPv4 header without options.
const TCP: usize = IP + ipv4::HEADER;

/// IPv4 options, whole words: what is skipped, what is refused, what is broken.
const V4_OPTIONS: [&[u8]; 7] = [
    &[1, 1, 1, 1],
    &[0, 0, 0, 0],
    &[131, 7, 4, 10, 0, 0, 9, 0],
    &[137, 3, 4, 0],
    &[68, 0, 0, 0],
    &[7, 200, 4, 0],
    &[148, 4, 0, 0],
];

/// IPv6 extension headers, their kind first and whole words of eight: the byte that names what
/// follows is filled in.
const V6_EXTENSIONS: [(u8, &[u8]); 9] = [
    (0, &[0, 0, 1, 4, 0, 0, 0, 0]),
    (60, &[0, 0, 1, 4, 0, 0, 0, 0]),
    (60, &[0, 0, 0xc2, 4, 0, 0, 0, 0]),
    (60, &[0, 0, 0x3e, 4, 0, 0, 0, 0]),
    (60, &[0, 9, 1, 4, 0, 0, 0, 0]),
    (43, &[0, 0, 0, 0, 0, 0, 0, 0]),
    (43, &[0, 0, 0, 7, 0, 0, 0, 0]),
    (44, &[0, 0, 0, 0, 0, 0, 0, 1]),
    (44, &[0, 0, 0, 9, 0, 0, 0, 1]),
];

impl World<'_, '_> {
    pub(super) fn odd(&mut self, choices: &mut Choices<'_>) {
        match choices.below(9) {
            0 => self.odd_icmp(choices),
            1 => self.odd_arp(choices),
            2 => self.odd_neighbour(choices),
            3 => self.odd_addresses(choices),
            4 | 5 => self.odd_network_header(choices),
            6 => self.odd_ethernet(choices),
            7 => self.odd_fragment(choices),
            _ => self.odd_tcp_header(choices),
        }
    }

    fn any_frame(&mut self, choices: &mut Choices<'_>) -> Vec<u8> {
        self.text_in_order(choices);
        self.burst.pop().map_or_else(Vec::new, |(frame, _)| frame)
    }

    fn push(&mut self, frame: Vec<u8>) {
        self.burst.push((frame, Checksum::Unknown));
    }

    /// Messages that are answered, ignored or refused, and some cut short or damaged.
    fn odd_icmp(&mut self, choices: &mut Choices<'_>) {
        let src = Self::address(choices.below(CLIENTS));
        let kinds = if src.is_ipv4() {
            [8, 0, 4, 5, 9, 13, 3, 255]
        } else {
            [128, 129, 1, 137, 134, 133, 2, 200]
        };
        let mut message = vec![kinds[choices.below(8)], 0, 0, 0];
        let len = choices.below(40);
        message.extend(choices.some(len));
        let mut frame = icmp_frame(src, message);
        match choices.below(4) {
            0 => *frame.last_mut().expect("it has bytes") ^= 1,
            1 if src.is_ipv6() => frame[IP + 7] = 255,
            2 => frame[6] |= 1,
            _ => {}
        }
        self.push(frame);
    }

    /// ARP of any operation, from and about anybody, for our address, too.
    fn odd_arp(&mut self, choices: &mut Choices<'_>) {
        let client = Ipv4Addr::new(10, 0, 0, 10);
        let other = Ipv4Addr::new(10, 0, 0, 200 | choices.byte());
        let away = Ipv4Addr::new(192, 0, 2, 1);
        let all = [client, other, away, OUR_V4, Ipv4Addr::BROADCAST, Ipv4Addr::UNSPECIFIED];
        let packet = arp::Packet {
            operation: [arp::Operation::Request, arp::Operation::Reply][choices.below(2)],
            sender_mac: MacAddr([choices.byte() & 3, 0, 0, 0, 1, choices.byte()]),
            sender_ip: all[choices.below(6)],
            target_mac: OUR_MAC,
            target_ip: all[choices.below(6)],
        };
        let mut frame = vec![0; ethernet::HEADER + arp::PACKET];
        let rest = ethernet::emit(
            &mut frame,
            &[OUR_MAC, MacAddr::BROADCAST][choices.below(2)],
            &THEIR_MAC,
            ethernet::EtherType::ARP,
        );
        packet.emit(rest.expect("room")).expect("room");
        if choices.below(6) == 0 {
            let field = choices.below(8);
            frame[IP + field] ^= choices.byte();
        }
        self.push(frame);
    }

    /// Neighbour discovery about anybody, from afar, with options of no length.
    fn odd_neighbour(&mut self, choices: &mut Choices<'_>) {
        let src = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 10 + u16::from(choices.byte()));
        let target = [OUR_V6, src, Ipv6Addr::LOCALHOST][choices.below(3)];
        let mac = MacAddr([2, 0, 0, 0, 2, choices.byte()]);
        let mut message = vec![0; 32];
        let len = if choices.below(2) == 0 {
            let ask = icmpv6::Solicitation { target, source_mac: Some(mac) };
            ask.emit(&mut message, src, OUR_V6).expect("room");
            ask.message_len()
        } else {
            let told = icmpv6::Advertisement {
                target,
                target_mac: Some(mac),
                router: false,
                solicited: choices.below(2) == 0,
                overrides: choices.below(2) == 0,
            };
            32 - told.emit(&mut message, src, OUR_V6).expect("room").len()
        };
        message.truncate(len);
        match choices.below(5) {
            0 => message[25] = choices.byte(),
            1 => message.truncate(choices.below(32)),
            2 => message[1] = 1,
            _ => {}
        }
        if message.len() < 4 {
            message.resize(4, 0);
        }
        message[2..4].fill(0);
        let mut frame = icmp_frame(src.into(), message);
        frame[IP + 7] = if choices.below(4) == 0 { 64 } else { 255 };
        self.push(frame);
    }

    /// A SYN from or to where none can come from or go to.
    fn odd_addresses(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        let seq = choices.word();
        self.clients[at].starts.push(seq);
        self.segment(at, (Flags::SYN, seq, 0), 1000, Options::NONE, &[]);
        let Some((mut frame, _)) = self.burst.pop() else { return };
        if frame[IP] >> 4 == 4 {
            let odd: [[u8; 4]; 7] = [
                [127, 0, 0, 1],
                [0; 4],
                [255; 4],
                [224, 0, 0, 1],
                [10, 0, 0, 255],
                OUR_V4.octets(),
                [192, 0, 2, 9],
            ];
            let place = IP + [12, 16][choices.below(2)];
            frame[place..place + 4].copy_from_slice(&odd[choices.below(7)]);
        } else {
            let odd = [
                Ipv6Addr::LOCALHOST,
                Ipv6Addr::UNSPECIFIED,
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
                OUR_V6,
                Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9),
            ];
            let place = IP + [8, 24][choices.below(2)];
            frame[place..place + 16].copy_from_slice(&odd[choices.below(5)].octets());
        }
        seal(&mut frame);
        self.push(frame);
    }

    /// A good segment behind options or extension headers, good and bad.
    fn odd_network_header(&mut self, choices: &mut Choices<'_>) {
        let (mut frame, mut times) = (self.any_frame(choices), 1);
        if frame[IP] >> 4 == 4 {
            let options = V4_OPTIONS[choices.below(V4_OPTIONS.len())];
            frame.splice(TCP..TCP, options.iter().copied());
            frame[IP] += u8::try_from(options.len() / 4).expect("short");
        } else {
            let headers = 1 + choices.below(3) * choices.below(5);
            // More often at once than senders are told of.
            times = if headers == 5 { 12 } else { 1 };
            for _ in 0..headers {
                let (kind, bytes) = V6_EXTENSIONS[choices.below(V6_EXTENSIONS.len())];
                let mut bytes = bytes.to_vec();
                bytes[0] = std::mem::replace(&mut frame[IP + 6], kind);
                let at = IP + ipv6::HEADER;
                frame.splice(at..at, bytes);
            }
        }
        set_length(&mut frame);
        for _ in 0..times {
            self.push(frame.clone());
        }
    }

    /// A good packet in a frame that is for others, from a group, or of a VLAN.
    fn odd_ethernet(&mut self, choices: &mut Choices<'_>) {
        let mut frame = self.any_frame(choices);
        match choices.below(5) {
            0 => frame[6] |= 1,
            1 => frame[..6].fill(0xff),
            2 => frame[0] ^= 4,
            tags => {
                let tag = [0x81, 0x00, 0, choices.byte() & 1];
                for _ in 3..=tags {
                    frame.splice(12..12, tag);
                }
            }
        }
        self.push(frame);
    }

    /// A piece of a packet, of any place and length, twice, beside others or over them.
    fn odd_fragment(&mut self, choices: &mut Choices<'_>) {
        let mut frame = self.any_frame(choices);
        let field = choices.below(1 << 13) as u16 & [0x1fff, 7, 0xff, 0][choices.below(4)];
        let more = choices.below(2) as u16;
        if frame[IP] >> 4 == 4 {
            frame[IP + 4..IP + 6].copy_from_slice(&[0, choices.byte() & 3]);
            let field = field | more << 13;
            frame[IP + 6..IP + 8].copy_from_slice(&field.to_be_bytes());
            if choices.below(8) == 0 {
                frame[IP + 9] = 17;
            }
        } else {
            let field = (field << 3 | more).to_be_bytes();
            let kind = std::mem::replace(&mut frame[IP + 6], 44);
            let header = [kind, 0, field[0], field[1], 0, 0, 0, choices.byte() & 3];
            frame.splice(IP + ipv6::HEADER..IP + ipv6::HEADER, header);
        }
        if choices.below(2) == 0 {
            let len = frame.len();
            frame.truncate(len.min(IP + 60 + choices.below(200)));
        }
        set_length(&mut frame);
        if choices.below(3) == 0 {
            self.push(frame.clone());
        }
        self.push(frame);
    }

    /// A good segment with any flags, window, urgent pointer and options, or cut short.
    fn odd_tcp_header(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        let seq = self.clients[at].next;
        let stamps = tcp::Timestamps { value: choices.word(), echo: choices.word() };
        let options = Options {
            mss: Some(1000),
            timestamps: Some(stamps),
            window_scale: Some(7),
            sack_permitted: true,
            ..Options::NONE
        };
        let ack = self.clients[at].furthest;
        self.segment(at, (Flags::SYN | Flags::ACK, seq, ack), 1000, options, &[]);
        let Some((mut frame, _)) = self.burst.pop() else { return };
        let start = if frame[IP] >> 4 == 4 { TCP } else { IP + ipv6::HEADER };
        frame[start + 13] = choices.byte();
        frame[start + 12] |= choices.byte() & 15;
        for _ in 0..choices.below(4) {
            let place = start + 14 + choices.below(frame.len() - start - 14);
            if !(start + 16..start + 18).contains(&place) {
                frame[place] = choices.byte();
            }
        }
        match choices.below(8) {
            0 => frame.truncate(start + choices.below(20)),
            1 => frame[start + 12] = choices.byte(),
            _ => {}
        }
        if frame.get(start + 13).is_some_and(|flags| Flags(*flags).contains(Flags::SYN)) {
            self.clients[at].starts.push(seq);
        }
        // Whatever window it tells now is scaled or not as it likes.
        self.clients[at].offered = None;
        set_length(&mut frame);
        seal(&mut frame);
        self.push(frame);
    }
}

/// The length field says what there is.
fn set_length(frame: &mut [u8]) {
    let len = frame.len() - IP;
    if frame[IP] >> 4 == 4 {
        let len = u16::try_from(len).expect("short");
        frame[IP + 2..IP + 4].copy_from_slice(&len.to_be_bytes());
        seal_v4(frame);
    } else {
        let len = u16::try_from(len - ipv6::HEADER).expect("short");
        frame[IP + 4..IP + 6].copy_from_slice(&len.to_be_bytes());
    }
}

fn seal_v4(frame: &mut [u8]) {
    let end = IP + usize::from(frame[IP] & 15) * 4;
    frame[IP + 10..IP + 12].fill(0);
    let sum = checksum::field(checksum::sum(&frame[IP..end], 0));
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
}

/// Checksums of a segment right behind an IP header without options.
fn seal(frame: &mut [u8]) {
    let (src, dst, start): (IpAddr, IpAddr, usize) = if frame[IP] >> 4 == 4 {
        seal_v4(frame);
        let address = |at: usize| -> IpAddr {
            let octets: [u8; 4] = frame[at..at + 4].try_into().expect("four");
            octets.into()
        };
        (address(IP + 12), address(IP + 16), TCP)
    } else {
        let address = |at: usize| -> IpAddr {
            let octets: [u8; 16] = frame[at..at + 16].try_into().expect("sixteen");
            octets.into()
        };
        (address(IP + 8), address(IP + 24), IP + ipv6::HEADER)
    };
    if frame.len() >= start + tcp::HEADER {
        tcp::set_checksum(&mut frame[start..], PseudoHeader::new(src, dst, tcp::PROTOCOL));
    }
}

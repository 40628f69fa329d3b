//! Which worker a frame belongs to.
//!
//! A connection lives in one worker's tables, so all frames of a flow must reach that worker.
//! Where the device has no RSS the receiving worker looks at the frame's addresses and ports and
//! hands it over. Only what is needed to choose is read here; the stack of the owner parses again
//! and judges, so a frame that cannot be read is simply kept.

use xtcp_stack::wire::ethernet::HEADER as ETHERNET_HEADER;
use xtcp_stack::wire::extensions::Refused;
use xtcp_stack::wire::ipv6;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;
const IPV6: u16 = 0x86dd;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// IPv6 extension headers the stack walks at most, too.
const EXTENSIONS_MAX: usize = 8;

/// To whom a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// To this worker.
    Worker(usize),
    /// To the worker that has it: the device has spread the flows.
    Receiver,
    /// To every worker: ARP and neighbour discovery, from which each neighbour table learns.
    /// Worker 0 answers.
    Everyone,
}

/// Who knows where a flow lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpreadBy {
    /// The device's RSS.
    Device,
    /// [`Spread::owner`].
    Workers,
}

/// The choice of a worker; the same on every worker of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    /// Keeps strangers from aiming all their flows at one worker.
    key: u64,
    workers: usize,
    by: SpreadBy,
}

/// What a TCP frame's headers say of the flow: its ends as the bytes stand in the packet.
#[derive(Clone, Copy)]
struct Flow<'f> {
    source: &'f [u8],
    destination: &'f [u8],
    /// Source port, destination port.
    ports: [u8; 4],
}

/// What a frame is to the spread.
enum Kind<'f> {
    Flow(Flow<'f>),
    /// An ICMP error about a flow.
    About(Flow<'f>),
    Neighbour,
    Other,
}

impl Spread {
    pub(crate) fn new(secret: &[u8; 32], workers: usize, by: SpreadBy) -> Self {
        let mut key = [0; 8];
        key.copy_from_slice(&secret[..8]);
        // The stack's generators use the same secret: take a number of our own from it.
        Self { key: mix(u64::from_le_bytes(key), 0x7370_7265_6164), workers, by }
    }

    /// To whom the frame goes.
    pub(crate) fn owner(&self, frame: &[u8]) -> Owner {
        match (classify(frame), self.by) {
            (Some(Kind::Flow(flow) | Kind::About(flow)), SpreadBy::Workers) => {
                Owner::Worker(self.worker_of(&flow))
            }
            (Some(Kind::Flow(_)), SpreadBy::Device) => Owner::Receiver,
            // The device has hashed the error itself and not the flow it is about.
            (Some(Kind::About(_)), SpreadBy::Device) | (Some(Kind::Neighbour), _) => {
                Owner::Everyone
            }
            (Some(Kind::Other) | None, _) => Owner::Worker(0),
        }
    }

    fn worker_of(&self, flow: &Flow<'_>) -> usize {
        let mut hash = mix(self.key, u64::from(u32::from_le_bytes(flow.ports)));
        for address in [flow.source, flow.destination] {
            for word in address.chunks(8) {
                let mut bytes = [0; 8];
                bytes[..word.len()].copy_from_slice(word);
                hash = mix(hash, u64::from_le_bytes(bytes));
            }
        }
        // The high bits of a product are the mixed ones: scale them to the number of workers.
        let scaled = (u128::from(hash) * self.workers as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }
}

/// Folds the 128-bit product, so that every bit of both reaches every bit of the outcome.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd6e8_feb8_6659_fd93);
    (product as u64) ^ (product >> 64) as u64
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]))
}

/// `None`: too short to say.
fn classify(frame: &[u8]) -> Option<Kind<'_>> {
    let mut at = ETHERNET_HEADER;
    let mut ethertype = be16(frame, at - 2)?;
    while matches!(ethertype, VLAN | QINQ) {
        at += 4;
        ethertype = be16(frame, at - 2)?;
    }
    let packet = frame.get(at..)?;
    match ethertype {
        ARP => Some(Kind::Neighbour),
        IPV4 => classify_ipv4(packet),
        IPV6 => classify_ipv6(packet),
        _ => Some(Kind::Other),
    }
}

fn classify_ipv4(packet: &[u8]) -> Option<Kind<'_>> {
    match *packet.get(9)? {
        TCP => flow_ipv4(packet).map(Kind::Flow),
        ICMP => {
            // Destination unreachable, time exceeded, parameter problem quote the packet we sent.
            let icmp = packet.get(header_ipv4(packet)?..)?;
            let quotes = matches!(icmp.first()?, 3 | 11 | 12);
            Some(quoted(quotes, icmp, flow_ipv4))
        }
        _ => Some(Kind::Other),
    }
}

fn classify_ipv6(packet: &[u8]) -> Option<Kind<'_>> {
    let (protocol, at) = upper_layer(packet)?;
    if at > ipv6::HEADER && Refused::parse(packet).is_some() {
        // Its sender is told what is wrong with its extension headers by worker 0, who answers.
        return Some(Kind::Other);
    }
    match protocol {
        TCP => flow_ipv6(packet).map(Kind::Flow),
        ICMPV6 => {
            let icmp = packet.get(at..)?;
            match icmp.first()? {
                133..=137 => Some(Kind::Neighbour),
                kind => Some(quoted((1..=4).contains(kind), icmp, flow_ipv6)),
            }
        }
        _ => Some(Kind::Other),
    }
}

/// The flow of the packet that an ICMP error quotes, seen from the peer.
fn quoted<'f>(quotes: bool, icmp: &'f [u8], flow: fn(&'f [u8]) -> Option<Flow<'f>>) -> Kind<'f> {
    match icmp.get(8..).filter(|_| quotes).and_then(flow) {
        Some(ours) => {
            let [a, b, c, d] = ours.ports;
            Kind::About(Flow {
                source: ours.destination,
                destination: ours.source,
                ports: [c, d, a, b],
            })
        }
        None => Kind::Other,
    }
}

fn header_ipv4(packet: &[u8]) -> Option<usize> {
    Some(usize::from(packet.first()? & 0x0f) * 4).filter(|len| *len >= 20)
}

fn flow_ipv4(packet: &[u8]) -> Option<Flow<'_>> {
    let is_fragment = be16(packet, 6)? & 0x3fff != 0;
    if *packet.get(9)? != TCP || is_fragment {
        return None;
    }
    let ports = packet.get(header_ipv4(packet)?..)?.first_chunk()?;
    Some(Flow { source: &packet[12..16], destination: &packet[16..20], ports: *ports })
}

fn flow_ipv6(packet: &[u8]) -> Option<Flow<'_>> {
    let (protocol, at) = upper_layer(packet)?;
    if protocol != TCP {
        return None;
    }
    let ports = packet.get(at..)?.first_chunk()?;
    Some(Flow { source: &packet[8..24], destination: &packet[24..40], ports: *ports })
}

/// The upper layer's protocol and where it begins, past the extension headers.
fn upper_layer(packet: &[u8]) -> Option<(u8, usize)> {
    let mut protocol = *packet.get(6)?;
    let mut at = ipv6::HEADER;
    for _ in 0..EXTENSIONS_MAX {
        let length = match protocol {
            // Hop-by-hop options, routing, destination options.
            0 | 43 | 60 => (usize::from(*packet.get(at + 1)?) + 1) * 8,
            // A fragment that is the whole (RFC 6946); a part of one is nobody's flow.
            44 if be16(packet, at + 2)? & 0xfff9 == 0 => 8,
            _ => break,
        };
        protocol = *packet.get(at)?;
        at += length;
    }
    Some((protocol, at))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An Ethernet frame around `packet`.
    pub(crate) fn frame(ethertype: u16, packet: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x02; 12];
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend(packet);
        bytes
    }

    fn ipv4(protocol: u8, source: u32, destination: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        bytes[0] = 0x45;
        bytes[9] = protocol;
        bytes[12..16].copy_from_slice(&source.to_be_bytes());
        bytes[16..20].copy_from_slice(&destination.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn ipv6(protocol: u8, source: u128, destination: u128, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[0] = 0x60;
        bytes[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        bytes[6] = protocol;
        bytes[8..24].copy_from_slice(&source.to_be_bytes());
        bytes[24..40].copy_from_slice(&destination.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn ports(source: u16, destination: u16) -> Vec<u8> {
        [source.to_be_bytes(), destination.to_be_bytes()].concat()
    }

    fn spread(workers: usize) -> Spread {
        Spread::new(&[7; 32], workers, SpreadBy::Workers)
    }

    #[test]
    fn every_flow_always_goes_to_the_same_worker_and_the_workers_share_evenly() {
        for workers in [1, 2, 3, 7, 64] {
            let spread = spread(workers);
            let mut share = vec![0_u32; workers];
            for client in 0..20_000_u32 {
                let segment = ports(1024 + (client % 60_000) as u16, 7);
                let packet = ipv4(TCP, 0x0a00_0000 + client, 0x0a4d_0002, &segment);
                let bytes = frame(IPV4, &packet);
                let owner = spread.owner(&bytes);
                let mut longer = bytes.clone();
                longer.extend([0xaa; 900]);
                let mut tagged = frame(VLAN, &[&[0, 5, 8, 0], packet.as_slice()].concat());
                assert_eq!(spread.owner(&longer), owner);
                assert_eq!(spread.owner(&tagged), owner);
                tagged[0] ^= 1;
                assert_eq!(spread.owner(&tagged), owner);
                let Owner::Worker(worker) = owner else { panic!("a flow has one owner") };
                share[worker] += 1;
            }
            let fair = 20_000 / workers as u32;
            for count in share {
                assert!(count > fair / 2 && count < fair * 2, "{count} of {fair}: {workers}");
            }
        }
    }

    #[test]
    fn ipv6_options_and_headers_do_not_move_a_flow() {
        let spread = spread(5);
        for client in 0..200_u128 {
            let segment = ports(4000, 7);
            let plain = frame(IPV6, &ipv6(TCP, 1 << 120 | client, 2 << 120, &segment));
            let options = [&[TCP, 0, 1, 4, 0, 0, 0, 0], segment.as_slice()].concat();
            let routed = frame(IPV6, &ipv6(60, 1 << 120 | client, 2 << 120, &options));
            assert_eq!(spread.owner(&plain), spread.owner(&routed));
            let whole = [&[TCP, 0, 0, 0, 1, 2, 3, 4], segment.as_slice()].concat();
            let whole = frame(IPV6, &ipv6(44, 1 << 120 | client, 2 << 120, &whole));
            assert_eq!(spread.owner(&plain), spread.owner(&whole));
            let mut with_options = ipv4(TCP, 9, 8, &[[1; 4].as_slice(), &segment].concat());
            with_options[0] = 0x46;
            let without = frame(IPV4, &ipv4(TCP, 9, 8, &segment));
            assert_eq!(spread.owner(&frame(IPV4, &with_options)), spread.owner(&without));
        }
    }

    #[test]
    fn an_icmp_error_goes_where_its_connection_is() {
        let spread = spread(16);
        for client in 0..200_u32 {
            let theirs = frame(IPV4, &ipv4(TCP, 100 + client, 7, &ports(4000, 80)));
            let ours = ipv4(TCP, 7, 100 + client, &[ports(80, 4000), vec![0; 4]].concat());
            let error = [&[3, 4, 0, 0, 0, 0, 5, 0], ours.as_slice()].concat();
            let error = frame(IPV4, &ipv4(ICMP, 55, 7, &error));
            assert_eq!(spread.owner(&error), spread.owner(&theirs));

            let (peer, own) = (u128::from(client) + 100, 7);
            let theirs = frame(IPV6, &ipv6(TCP, peer, own, &ports(4000, 80)));
            let ours = ipv6(TCP, own, peer, &[ports(80, 4000), vec![0; 4]].concat());
            let error = [&[2, 0, 0, 0, 0, 0, 5, 0], ours.as_slice()].concat();
            let error = frame(IPV6, &ipv6(ICMPV6, 55, 7, &error));
            assert_eq!(spread.owner(&error), spread.owner(&theirs));
        }
    }

    #[test]
    fn neighbours_are_for_everyone_and_the_rest_for_worker_0() {
        let spread = spread(4);
        let solicitation = frame(IPV6, &ipv6(ICMPV6, 1, 2, &[135; 24]));
        let arp = frame(ARP, &[0; 28]);
        for bytes in [&solicitation, &arp] {
            assert_eq!(spread.owner(bytes), Owner::Everyone);
        }
        let mut fragment = ipv4(TCP, 1, 2, &ports(3, 4));
        fragment[6] = 0x20;
        for bytes in [
            frame(IPV4, &ipv4(ICMP, 1, 2, &[8; 64])),
            frame(IPV6, &ipv6(ICMPV6, 1, 2, &[128; 64])),
            frame(IPV4, &ipv4(17, 1, 2, &[0; 64])),
            frame(IPV4, &fragment),
            frame(0x88cc, &[0; 64]),
        ] {
            assert_eq!(spread.owner(&bytes), Owner::Worker(0));
        }
    }

    /// Whatever stands behind the header that is refused.
    #[test]
    fn refused_extension_headers_are_for_worker_0() {
        for by in [SpreadBy::Workers, SpreadBy::Device] {
            let spread = Spread::new(&[7; 32], 4, by);
            for port in 0..50 {
                let segment = ports(port, 80);
                let solicitation = vec![135; 24];
                for (protocol, upper) in [(TCP, &segment), (ICMPV6, &solicitation)] {
                    for (first, header) in [
                        (60, [protocol, 0, 0xde, 4, 0, 0, 0, 0]),
                        (43, [protocol, 0, 0, 1, 0, 0, 0, 0]),
                    ] {
                        let payload = [&header, upper.as_slice()].concat();
                        let refused = frame(IPV6, &ipv6(first, 1, 2, &payload));
                        assert_eq!(spread.owner(&refused), Owner::Worker(0));
                    }
                }
            }
        }
    }

    #[test]
    fn where_the_device_spreads_only_what_it_cannot_know_is_moved() {
        let spread = Spread::new(&[7; 32], 4, SpreadBy::Device);
        let ours = ipv4(TCP, 7, 100, &[ports(80, 4000), vec![0; 4]].concat());
        let error = [&[3, 4, 0, 0, 0, 0, 5, 0], ours.as_slice()].concat();
        for (packet, owner) in [
            (ipv4(TCP, 1, 2, &ports(3, 4)), Owner::Receiver),
            (ipv4(ICMP, 1, 2, &error), Owner::Everyone),
            (ipv4(ICMP, 1, 2, &[8; 64]), Owner::Worker(0)),
        ] {
            assert_eq!(spread.owner(&frame(IPV4, &packet)), owner);
        }
        assert_eq!(spread.owner(&frame(ARP, &[0; 28])), Owner::Everyone);
    }

    #[test]
    fn a_cut_frame_is_read_only_as_far_as_it_goes() {
        let options = [&[TCP, 0, 1, 4, 0, 0, 0, 0], ports(1, 2).as_slice()].concat();
        let quoted = [&[3, 4, 0, 0, 0, 0, 5, 0], ipv4(TCP, 1, 2, &ports(3, 4)).as_slice()].concat();
        for whole in [
            frame(IPV4, &ipv4(TCP, 1, 2, &ports(3, 4))),
            frame(IPV6, &ipv6(60, 1, 2, &options)),
            frame(IPV4, &ipv4(ICMP, 1, 2, &quoted)),
            frame(VLAN, &[0, 5, 8, 0]),
        ] {
            for len in 0..whole.len() {
                let owner = spread(4).owner(&whole[..len]);
                assert!(matches!(owner, Owner::Worker(0..4)), "{len} bytes of {whole:02x?}");
            }
        }
    }
}

//! A capture of one's own, and what it says: how many packets an exchange took, and on what the
//! acknowledgement of each request rode.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{Launch, ProcessError, Running};

/// Bytes kept of each frame: all headers there can be, and a little payload to look at.
const SNAP_BYTES: usize = 128;

/// A capture under way, by tcpdump.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Running,
}

impl Capture {
    /// Captures TCP on an interface inside a namespace into a file; returns when tcpdump listens.
    /// Of each frame the headers are kept.
    ///
    /// # Errors
    /// When tcpdump is missing or refuses.
    pub fn start(interface: &str, namespace: &str, file: &Path) -> Result<Self, ProcessError> {
        // 256 MiB of ring: the whole demo fits even if tcpdump gets no core for seconds.
        let how = format!("-s {SNAP_BYTES} -B 262144");
        Self::start_with(&how, interface, namespace, file)
    }

    /// As [`Self::start`], but writes each as soon as it is seen, so that the file can be read
    /// meanwhile.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_live(interface: &str, namespace: &str, file: &Path) -> Result<Self, ProcessError> {
        let how = format!("-s {SNAP_BYTES} -B 262144 --immediate-mode -U");
        Self::start_with(&how, interface, namespace, file)
    }

    /// As [`Self::start_live`], but keeps whole frames, so that checksums can be computed.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_whole(
        interface: &str,
        namespace: &str,
        file: &Path,
    ) -> Result<Self, ProcessError> {
        Self::start_with("-s 0 -B 65536 --immediate-mode -U", interface, namespace, file)
    }

    fn start_with(
        how: &str,
        interface: &str,
        namespace: &str,
        file: &Path,
    ) -> Result<Self, ProcessError> {
        let mut tcpdump = Launch::new("tcpdump", "tcpdump")
            .arguments(&format!("-i {interface} {how} -Z root -nn -w"))
            .argument(file.display().to_string())
            .argument("tcp or ip6 proto 6")
            .inside(namespace)
            .start()?;
        tcpdump.wait_for_line(0, "`listening on`", Duration::from_secs(20), |line| {
            line.contains("listening on")
        })?;
        Ok(Self { tcpdump })
    }

    /// Process id of tcpdump.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.tcpdump.pid()
    }

    /// Ends the capture; gives the number of frames the kernel could not keep for it.
    ///
    /// # Errors
    /// When tcpdump did not end well.
    pub fn finish(mut self) -> Result<u64, ProcessError> {
        let status = self.tcpdump.stop()?;
        let said = self.tcpdump.said();
        let dropped = said.iter().find_map(|line| line.strip_suffix(" packets dropped by kernel"));
        match dropped.and_then(|count| count.trim().parse().ok()) {
            Some(count) => Ok(count),
            None => Err(self.tcpdump.failure(status)),
        }
    }
}

/// A captured TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    at_us: u64,
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    seq: u32,
    ack: u32,
    flags: u8,
    payload_len: u32,
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

/// What a part of a capture comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Analysis {
    /// Connections with at least one segment.
    pub connections: u64,
    /// Segments of handshakes.
    pub handshake: u64,
    /// Segments from the first FIN or RST of a connection on.
    pub closing: u64,
    /// Segments with bytes from a client.
    pub requests: u64,
    /// Segments with bytes from the server.
    pub answers: u64,
    /// Segments without bytes from a client.
    pub client_acks: u64,
    /// Segments without bytes from the server.
    pub server_acks: u64,
    /// Of `requests` and `answers`, those that came again.
    pub again: u64,
    /// Request segments first acknowledged by a segment that carries bytes.
    pub acknowledged_on_answer: u64,
    /// Request segments first acknowledged by a segment without bytes.
    pub acknowledged_alone: u64,
}

impl Analysis {
    /// Segments between handshake and closing.
    #[must_use]
    pub fn exchanging(&self) -> u64 {
        self.requests + self.answers + self.client_acks + self.server_acks
    }

    /// Share of the request segments whose acknowledgement rode on an answer; 0 when there are none.
    #[must_use]
    pub fn share_on_answer(&self) -> f64 {
        let all = self.acknowledged_on_answer + self.acknowledged_alone;
        if all == 0 { 0.0 } else { self.acknowledged_on_answer as f64 / all as f64 }
    }
}

/// Why a capture cannot be read.
#[derive(Debug)]
pub enum CaptureError {
    /// The file.
    File(PathBuf, io::Error),
    /// It is not what tcpdump writes here (classic pcap, microseconds, Ethernet).
    NotPcap(PathBuf),
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NotPcap(path) => {
                write!(f, "{}: not a classic pcap file of Ethernet frames", path.display())
            }
        }
    }
}

impl std::error::Error for CaptureError {}

/// One connection as far as the capture has told.
#[derive(Debug, Default)]
struct Flow {
    client_next: Option<u32>,
    server_next: Option<u32>,
    handshake_over: bool,
    closing: bool,
    /// Ends of request segments not yet acknowledged, in order.
    waiting: Vec<u32>,
    seen_in_part: bool,
}

/// How many TCP segments a capture has that may still be going on.
///
/// # Errors
/// When the file is no capture of Ethernet frames.
pub fn count_segments(path: &Path) -> Result<usize, CaptureError> {
    let bytes = std::fs::read(path).map_err(|error| CaptureError::File(path.to_owned(), error))?;
    let segments = segments(&bytes).ok_or_else(|| CaptureError::NotPcap(path.to_owned()))?;
    Ok(segments.count())
}

/// Reads a capture of connections to `server_port` and counts, apart for each part of it: part `n`
/// ends at `ends_us[n]` (microseconds since 1970), the last at the end of the file.
///
/// # Errors
/// When the file is no capture of Ethernet frames.
pub fn analyse(
    path: &Path,
    server_port: u16,
    ends_us: &[u64],
) -> Result<Vec<Analysis>, CaptureError> {
    let bytes = std::fs::read(path).map_err(|error| CaptureError::File(path.to_owned(), error))?;
    let segments = segments(&bytes).ok_or_else(|| CaptureError::NotPcap(path.to_owned()))?;
    Ok(count(segments, server_port, ends_us))
}

fn count(
    segments: impl Iterator<Item = Segment>,
    server_port: u16,
    ends_us: &[u64],
) -> Vec<Analysis> {
    let mut parts = vec![Analysis::default()];
    let mut flows: HashMap<(IpAddr, u16), Flow> = HashMap::new();
    for segment in segments {
        while ends_us.get(parts.len() - 1).is_some_and(|end| segment.at_us >= *end) {
            parts.push(Analysis::default());
            flows.values_mut().for_each(|flow| flow.seen_in_part = false);
        }
        let last = parts.len() - 1;
        let part = &mut parts[last];
        let from_client = segment.to.1 == server_port;
        if !from_client && segment.from.1 != server_port {
            continue;
        }
        let client = if from_client { segment.from } else { segment.to };
        let flow = flows.entry(client).or_default();
        if segment.flags & (SYN | FIN | RST) == SYN && from_client {
            *flow = Flow::default();
        }
        if !flow.seen_in_part {
            flow.seen_in_part = true;
            part.connections += 1;
        }
        flow.count(&segment, from_client, part);
    }
    parts.resize(ends_us.len() + 1, Analysis::default());
    parts
}

impl Flow {
    fn count(&mut self, segment: &Segment, from_client: bool, part: &mut Analysis) {
        self.closing |= segment.flags & (FIN | RST) != 0;
        if !from_client {
            self.acknowledge(segment, part);
        }
        if segment.flags & SYN != 0 {
            part.handshake += 1;
            return;
        }
        let next = segment.seq.wrapping_add(segment.payload_len);
        if segment.payload_len > 0 {
            let (expected, counter) = if from_client {
                (&mut self.client_next, &mut part.requests)
            } else {
                (&mut self.server_next, &mut part.answers)
            };
            *counter += 1;
            self.handshake_over = true;
            if expected.is_some_and(|expected| !is_after(next, expected)) {
                part.again += 1;
            } else {
                *expected = Some(next);
                if from_client {
                    self.waiting.push(next);
                }
            }
        } else if self.closing {
            part.closing += 1;
        } else if !self.handshake_over && from_client {
            self.handshake_over = true;
            part.handshake += 1;
        } else if from_client {
            part.client_acks += 1;
        } else {
            part.server_acks += 1;
        }
    }

    fn acknowledge(&mut self, segment: &Segment, part: &mut Analysis) {
        let before = self.waiting.len();
        self.waiting.retain(|end| is_after(*end, segment.ack));
        let acknowledged = (before - self.waiting.len()) as u64;
        if segment.payload_len > 0 {
            part.acknowledged_on_answer += acknowledged;
        } else {
            part.acknowledged_alone += acknowledged;
        }
    }
}

/// Whether sequence number `a` lies after `b`.
fn is_after(a: u32, b: u32) -> bool {
    let ahead = a.wrapping_sub(b);
    ahead != 0 && ahead < 1 << 31
}

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// The TCP segments of a classic little-endian pcap file of Ethernet frames; a record cut short
/// ends it.
fn segments(bytes: &[u8]) -> Option<impl Iterator<Item = Segment>> {
    let is_pcap = little(bytes, 0)? == 0xa1b2_c3d4 && little(bytes, 20)? == 1;
    if !is_pcap {
        return None;
    }
    let mut at = FILE_HEADER;
    Some(
        std::iter::from_fn(move || {
            let seconds = u64::from(little(bytes, at)?);
            let at_us = seconds * 1_000_000 + u64::from(little(bytes, at + 4)?);
            let len = little(bytes, at + 8)? as usize;
            let frame = bytes.get(at + RECORD_HEADER..)?.get(..len)?;
            at += RECORD_HEADER + len;
            Some((at_us, frame))
        })
        .filter_map(|(at_us, frame)| segment(at_us, frame)),
    )
}

/// Reads one frame; `None` when it is no TCP segment in IPv4 or IPv6 without extension headers.
fn segment(at_us: u64, frame: &[u8]) -> Option<Segment> {
    let packet = frame.get(14..)?;
    let (from, to, ip_payload_len, tcp): (IpAddr, IpAddr, usize, &[u8]) = match big(frame, 12)? {
        0x0800 => {
            let header = usize::from(packet.first()? & 15) * 4;
            if *packet.get(9)? != 6 {
                return None;
            }
            let address =
                |at: usize| -> Option<[u8; 4]> { packet.get(at..at + 4)?.try_into().ok() };
            let len = usize::from(big(packet, 2)?).checked_sub(header)?;
            (address(12)?.into(), address(16)?.into(), len, packet.get(header..)?)
        }
        0x86dd => {
            if *packet.get(6)? != 6 {
                return None;
            }
            let address =
                |at: usize| -> Option<[u8; 16]> { packet.get(at..at + 16)?.try_into().ok() };
            let len = usize::from(big(packet, 4)?);
            (address(8)?.into(), address(24)?.into(), len, packet.get(40..)?)
        }
        _ => return None,
    };
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    let number = |at: usize| Some(u32::from(big(tcp, at)?) << 16 | u32::from(big(tcp, at + 2)?));
    Some(Segment {
        at_us,
        from: (from, big(tcp, 0)?),
        to: (to, big(tcp, 2)?),
        seq: number(4)?,
        ack: number(8)?,
        flags: *tcp.get(13)?,
        payload_len: u32::try_from(ip_payload_len.checked_sub(header)?).ok()?,
    })
}

fn little(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn big(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    const SERVER: u16 = 7777;

    /// A pcap file of segments `(at_us, from the client, flags, seq, ack, payload bytes)`, cut at
    /// [`SNAP_BYTES`] as tcpdump does.
    fn pcap(segments: &[(u64, bool, &str, u32, u32, usize)], v6: bool) -> Vec<u8> {
        let mut file = Vec::new();
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 128, 1] {
            file.extend(word.to_le_bytes());
        }
        for &(at_us, from_client, flags, seq, ack, len) in segments {
            let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
            let ip = match (v6, from_client) {
                (true, true) => link.ipv6([1; 16], [2; 16], 64),
                (true, false) => link.ipv6([2; 16], [1; 16], 64),
                (false, true) => link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
                (false, false) => link.ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64),
            };
            let (from, to) = if from_client { (40_000, SERVER) } else { (SERVER, 40_000) };
            let mut tcp = ip.tcp(from, to, seq, 1000);
            for flag in flags.chars() {
                tcp = match flag {
                    'S' => tcp.syn(),
                    'F' => tcp.fin(),
                    'R' => tcp.rst(),
                    _ => tcp.ack(ack),
                };
            }
            let mut frame = Vec::new();
            tcp.write(&mut frame, &vec![7; len]).unwrap();
            let kept = frame.len().min(SNAP_BYTES);
            let (seconds, micros) = (at_us / 1_000_000, at_us % 1_000_000);
            for word in [seconds, micros, kept as u64, frame.len() as u64] {
                file.extend(u32::try_from(word).unwrap().to_le_bytes());
            }
            file.extend(&frame[..kept]);
        }
        file
    }

    /// Handshake, one request answered at once, one acknowledged first, one sent twice; closing.
    fn conversation() -> Vec<(u64, bool, &'static str, u32, u32, usize)> {
        let near_wrap = u32::MAX - 500;
        vec![
            (1, true, "S", near_wrap.wrapping_sub(1), 0, 0),
            (2, false, "SA", 99, near_wrap, 0),
            (3, true, "A", near_wrap, 100, 0),
            (4, true, "A", near_wrap, 100, 1024),
            (5, false, "A", 100, near_wrap.wrapping_add(1024), 1024),
            (6, true, "A", near_wrap.wrapping_add(1024), 1124, 0),
            (7, true, "A", near_wrap.wrapping_add(1024), 1124, 1024),
            (8, false, "A", 1124, near_wrap.wrapping_add(2048), 0),
            (9, false, "A", 1124, near_wrap.wrapping_add(2048), 1024),
            (10, true, "A", near_wrap.wrapping_add(2048), 2148, 1024),
            (11, true, "A", near_wrap.wrapping_add(2048), 2148, 1024),
            (12, false, "A", 2148, near_wrap.wrapping_add(3072), 1024),
            (13, true, "FA", near_wrap.wrapping_add(3072), 3172, 0),
            (14, false, "FA", 3172, near_wrap.wrapping_add(3073), 0),
            (15, true, "A", near_wrap.wrapping_add(3073), 3173, 0),
        ]
    }

    #[test]
    fn a_conversation_is_counted_over_both_families() {
        for v6 in [false, true] {
            let file = pcap(&conversation(), v6);
            let counted = count(segments(&file).unwrap(), SERVER, &[]);
            let want = Analysis {
                connections: 1,
                handshake: 3,
                closing: 3,
                requests: 4,
                answers: 3,
                client_acks: 1,
                server_acks: 1,
                again: 1,
                acknowledged_on_answer: 2,
                acknowledged_alone: 1,
            };
            assert_eq!(counted, [want]);
            assert_eq!(counted[0].exchanging(), 9);
        }
    }

    #[test]
    fn parts_are_counted_apart() {
        let file = pcap(&conversation(), false);
        let counted = count(segments(&file).unwrap(), SERVER, &[4, 10, 1000]);
        assert_eq!(counted.len(), 4);
        assert_eq!((counted[0].handshake, counted[0].exchanging()), (3, 0));
        assert_eq!((counted[1].requests, counted[1].answers), (2, 2));
        assert_eq!((counted[2].requests, counted[2].answers, counted[2].closing), (2, 1, 3));
        assert_eq!(counted[3], Analysis::default());
    }

    #[test]
    fn what_is_no_capture_is_refused_and_a_cut_one_ends() {
        assert!(segments(b"no capture at all, just some text").is_none());
        let file = pcap(&conversation(), false);
        for len in FILE_HEADER..file.len() {
            assert!(segments(&file[..len]).unwrap().count() < 15);
        }
        assert_eq!(segments(&file).unwrap().count(), 15);
    }
}

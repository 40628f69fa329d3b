//! A capture as `tshark` sees it, segment by segment: somebody else's parser, checksums and memory of
//! what was sent before.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::process::{Launch, ProcessError};

/// How long a capture may take to be read.
const PATIENCE: Duration = Duration::from_secs(300);

/// One TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Number of its connection in the capture, from 0 on.
    pub stream: u32,
    /// Source port.
    pub from: u16,
    /// Destination port.
    pub to: u16,
    /// SYN, FIN, RST, PSH, ACK as `S`, `F`, `R`, `P`, `A`.
    pub flags: String,
    /// Sequence number, relative to the connection's first of that side.
    pub seq: u32,
    /// Acknowledgement number, relative to the other side's first.
    pub ack: u32,
    /// Bytes of text.
    pub len: u32,
    /// Whether its sender had sent these numbers before.
    pub again: bool,
    /// Whether its sender sent them although they had been acknowledged.
    pub spurious: bool,
    /// What is wrong with it, if anything: a field that does not parse, a checksum.
    pub fault: Option<String>,
}

impl fmt::Display for Judged {
    /// `PA 1+1000 ack 1001`: flags, first sequence number, bytes, acknowledgement.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}+{}", self.flags, self.seq, self.len)?;
        if self.flags.contains('A') {
            write!(f, " ack {}", self.ack)?;
        }
        Ok(())
    }
}

/// What tshark is asked of each frame, in this order.
const FIELDS: [&str; 14] = [
    "tcp.stream",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
    "tcp.seq",
    "tcp.ack",
    "tcp.len",
    "tcp.analysis.retransmission",
    "tcp.analysis.spurious_retransmission",
    "_ws.malformed",
    "tcp.checksum.status",
    "tcp.checksum.ffff",
    "ip.version",
    "ip.checksum.status",
];

/// Reads the TCP segments of a capture. Checksums are computed where whole frames were kept.
///
/// # Errors
/// When tshark is missing (`make setup` installs it) or does not read the file.
pub fn judge(capture: &Path) -> Result<Vec<Judged>, ProcessError> {
    let mut launch = Launch::new("tshark", "tshark")
        .arguments("-n -o tcp.check_checksum:TRUE -o ip.check_checksum:TRUE")
        .arguments("-o tcp.relative_sequence_numbers:TRUE -Y tcp -T fields -E separator=, -r")
        .argument(capture.display().to_string());
    for field in FIELDS {
        launch = launch.argument("-e").argument(field);
    }
    let said = launch.finish(PATIENCE)?;
    Ok(said.iter().filter_map(|line| parse(line)).collect())
}

/// `None` for what tshark says beside its answers.
fn parse(line: &str) -> Option<Judged> {
    let fields: Vec<&str> = line.split(',').collect();
    let [
        stream,
        from,
        to,
        flags,
        seq,
        ack,
        len,
        again,
        spurious,
        malformed,
        tcp_sum,
        minus_zero,
        ip,
        ip_sum,
    ] = fields[..]
    else {
        return None;
    };
    // Of one segment in 65,536 the sum is zero; Linux and some drivers write the other zero of a one's
    // complement, as UDP must. Every receiver takes it (RFC 1624 section 3), and tshark calls it bad.
    let tcp_sum_is_bad = tcp_sum == BAD && minus_zero.is_empty();
    let flags = u16::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
    let letters = [(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (16, 'A')];
    let faults = [
        (!malformed.is_empty(), "it does not parse"),
        (tcp_sum_is_bad, "its TCP checksum is wrong"),
        (ip == "4" && ip_sum == BAD, "its IPv4 checksum is wrong"),
    ];
    Some(Judged {
        stream: stream.parse().ok()?,
        from: from.parse().ok()?,
        to: to.parse().ok()?,
        flags: letters.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, one)| *one).collect(),
        seq: seq.parse().ok()?,
        ack: ack.parse().unwrap_or(0),
        len: len.parse().ok()?,
        again: !again.is_empty(),
        spurious: !spurious.is_empty(),
        fault: faults.iter().find(|(is_so, _)| *is_so).map(|(_, fault)| (*fault).to_owned()),
    })
}

/// tshark's word for a checksum that is not what it should be.
const BAD: &str = "0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tshark_says_is_read() {
        let judged = parse("3,40000,7777,0x0018,1,1,1000,,,,1,,4,1").unwrap();
        assert_eq!(judged.to_string(), "PA 1+1000 ack 1");
        assert_eq!((judged.stream, judged.from, judged.to), (3, 40_000, 7777));
        assert_eq!((judged.again, judged.spurious, judged.fault), (false, false, None));
        let judged = parse("0,7777,40000,0x0004,9,,0,1,1,,1,,,").unwrap();
        assert_eq!(judged.to_string(), "R 9+0");
        assert_eq!((judged.again, judged.spurious, judged.fault), (true, true, None));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let fault = |line: &str| parse(line).unwrap().fault.unwrap_or_default();
        assert_eq!(fault("0,1,2,0x0010,1,1,0,,,,0,,4,1"), "its TCP checksum is wrong");
        assert_eq!(fault("0,1,2,0x0010,1,1,0,,,,1,,4,0"), "its IPv4 checksum is wrong");
        assert_eq!(fault("0,1,2,0x0010,1,1,0,,,Malformed,1,,,"), "it does not parse");
        assert_eq!(fault("0,1,2,0x0010,1,1,0,,,,0,1,4,1"), "", "0xffff for 0 is no fault");
        assert!(parse("Running as user \"root\" and group \"root\".").is_none());
    }
}

//! What `tshark` says of the segments a server sent: checksums, retransmissions, its expert's
//! remarks; and whether any lies outside the window its peer had offered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use super::super::Failure;
use super::stage::PORT;
use crate::process::Launch;

const PATIENCE: Duration = Duration::from_secs(120);

/// Of the segments one side sent in one capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// With text.
    pub(super) texts: u64,
    /// Of these, sent again.
    pub(super) again: u64,
    /// Of these, after they had been acknowledged.
    pub(super) spurious: u64,
    /// What must not be: malformed, a wrong checksum, outside the window, a reset before the end.
    pub(super) faults: Vec<String>,
    /// The expert's remarks, numbers left out, and how often.
    pub(super) remarks: BTreeMap<String, u64>,
    /// Those of them that are warnings or errors, and say more than what the wire did.
    pub(super) warnings: BTreeSet<String>,
}

/// Most faults that are told.
const FAULTS_MAX: usize = 5;

const FIELDS: [&str; 16] = [
    "tcp.stream",
    "ip.src",
    "tcp.seq_raw",
    "tcp.ack_raw",
    "tcp.window_size_value",
    "tcp.options.wscale.shift",
    "tcp.flags",
    "tcp.len",
    "tcp.analysis.retransmission",
    "tcp.analysis.spurious_retransmission",
    "_ws.malformed",
    "tcp.checksum.status",
    "ip.checksum.status",
    "_ws.expert.message",
    "_ws.expert.severity",
    // Never empty: what ends in blanks may be cut.
    "frame.number",
];

/// Judges what `server` sent; `corrupt`: the wire turns bits of what reaches it.
pub(super) fn judge(file: &Path, server: &str, corrupt: bool) -> Result<Verdict, Failure> {
    if !corrupt {
        return judge_all(file, server);
    }
    // What the wire has damaged is no part of the conversation. It came from the clients: what the
    // server itself sent is judged before it is left out.
    let sound = file.with_extension("sound.pcap");
    tshark(file)
        .argument("-Y")
        .argument("ip.checksum.status == 1 && tcp.checksum.status == 1")
        .argument("-w")
        .argument(sound.display().to_string())
        .finish(PATIENCE)?;
    let mut verdict = judge_all(&sound, server)?;
    verdict.faults.extend(judge_all(file, server)?.faults.into_iter().filter(|one| {
        // The other kinds are seen in what is left, where they mean something.
        one.contains("checksum") || one.contains("parse")
    }));
    std::fs::remove_file(sound)?;
    Ok(verdict)
}

fn tshark(file: &Path) -> Launch {
    // Above TCP nothing is guessed: bytes made from a seed look like anybody's protocol at times.
    Launch::new("tshark", "tshark")
        .arguments(&format!("-d tcp.port=={PORT}-{},data", PORT + 1))
        .arguments("-n -o tcp.check_checksum:TRUE -o ip.check_checksum:TRUE -r")
        .argument(file.display().to_string())
}

fn judge_all(file: &Path, server: &str) -> Result<Verdict, Failure> {
    let mut launch = tshark(file).arguments("-Y tcp -T fields -E separator=/t -E aggregator=|");
    for field in FIELDS {
        launch = launch.argument("-e").argument(field);
    }
    Ok(count(&launch.finish(PATIENCE)?, server))
}

fn count(lines: &[String], server: &str) -> Verdict {
    let mut verdict = Verdict::default();
    let mut windows: HashMap<&str, Window> = HashMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        // Anything else is what tshark says beside its answers.
        let Ok(fields) = <[&str; 16]>::try_from(fields) else { continue };
        let Some(segment) = Segment::read(&fields) else { continue };
        let window = windows.entry(segment.stream).or_default();
        if segment.from == server {
            // What a run before this one has left goes on here; it was judged there.
            if window.begun {
                verdict.add(&segment, window);
            }
        } else if segment.fault.is_none() {
            window.offer(&segment);
        }
        window.finished[usize::from(segment.from == server)] |= segment.flags & FIN != 0;
        if segment.flags & RST != 0 {
            window.finished = [true; 2];
        }
    }
    verdict
}

struct Segment<'t> {
    number: &'t str,
    stream: &'t str,
    from: &'t str,
    seq: u32,
    ack: u32,
    window: u32,
    /// Window scale, where the option is there.
    shift: Option<u32>,
    flags: u32,
    len: u32,
    again: bool,
    spurious: bool,
    fault: Option<&'static str>,
    remarks: &'t str,
    /// Of each remark.
    severities: &'t str,
}

const FIN: u32 = 1;
const SYN: u32 = 2;
const RST: u32 = 4;
const ACK: u32 = 16;

/// tshark's word for a checksum that is not what it should be.
const BAD: &str = "0";

impl<'t> Segment<'t> {
    fn read(fields: &[&'t str; 16]) -> Option<Self> {
        let [stream, from, seq, ack, window, shift, flags, len, rest @ ..] = *fields;
        let [again, spurious, malformed, tcp_sum, ip_sum, remarks, severities, number] = rest;
        let faults = [
            (!malformed.is_empty(), "does not parse"),
            (tcp_sum == BAD, "has a wrong TCP checksum"),
            (ip_sum == BAD, "has a wrong IPv4 checksum"),
        ];
        Some(Self {
            number,
            stream,
            from,
            seq: seq.parse().ok()?,
            ack: ack.parse().unwrap_or(0),
            window: window.parse().ok()?,
            shift: shift.parse().ok(),
            flags: u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?,
            len: len.parse().ok()?,
            again: !again.is_empty(),
            spurious: !spurious.is_empty(),
            fault: faults.iter().find(|(is_so, _)| *is_so).map(|(_, fault)| *fault),
            remarks,
            severities,
        })
    }
}

/// Up to where the client of a connection has let its server send.
#[derive(Default)]
struct Window {
    /// Its SYN was seen.
    begun: bool,
    shift: u32,
    end: Option<u32>,
    /// FIN was seen of the client, and of the server.
    finished: [bool; 2],
}

impl Window {
    fn offer(&mut self, segment: &Segment<'_>) {
        if segment.flags & SYN != 0 {
            let shift = segment.shift.unwrap_or(0);
            *self = Self { begun: true, shift, ..Self::default() };
            return;
        }
        if segment.flags & (ACK | RST) != ACK {
            return;
        }
        let end = segment.ack.wrapping_add(segment.window << self.shift);
        if self.end.is_none_or(|before| !is_after(before, end)) {
            self.end = Some(end);
        }
    }
}

impl Verdict {
    fn add(&mut self, segment: &Segment<'_>, window: &Window) {
        let mut fault = segment.fault;
        if segment.len > 0 {
            self.texts += 1;
            self.again += u64::from(segment.again);
            self.spurious += u64::from(segment.spurious);
            let end = segment.seq.wrapping_add(segment.len);
            // A byte at a shut window asks whether it is open (RFC 9293 section 3.8.6.1).
            if segment.len > 1 && window.end.is_some_and(|most| is_after(end, most)) {
                fault = fault.or(Some("is outside the window its peer has offered"));
            }
        }
        if segment.flags & RST != 0 && window.finished != [true; 2] {
            fault = fault.or(Some("is a reset before both have ended"));
        }
        if let Some(fault) = fault
            && self.faults.len() < FAULTS_MAX
        {
            self.faults.push(format!("frame {} {fault}", segment.number));
        }
        let severities = segment.severities.split('|').chain(std::iter::repeat(""));
        for (remark, severity) in segment.remarks.split('|').zip(severities) {
            if remark.is_empty() {
                continue;
            }
            let plain: String = remark.chars().filter(|c| !c.is_ascii_digit()).collect();
            // What is not known to be less counts as a warning.
            let is_warning = severity.parse().unwrap_or(WARNING) >= WARNING;
            if is_warning && !OF_THE_WIRE.iter().any(|one| plain.contains(one)) {
                self.warnings.insert(plain.clone());
            }
            *self.remarks.entry(plain).or_default() += 1;
        }
    }
}

/// Whether sequence number `a` lies after `b`.
fn is_after(a: u32, b: u32) -> bool {
    let ahead = a.wrapping_sub(b);
    ahead != 0 && ahead < 1 << 31
}

/// tshark's number for a warning; errors are above it, notes and chat below.
const WARNING: u32 = 0x60_0000;

/// Warnings that only say which segments the wire had lost, held back or brought twice, or that the
/// other side is slow or resets: one run has some, another run others.
const OF_THE_WIRE: [&str; 8] = [
    "suspected) retransmission",
    "suspected) out-of-order",
    "Previous segment(s) not captured",
    "ACKed segment that wasn't captured",
    "TCP window specified by the receiver is now completely full",
    "D-SACK Sequence",
    "TCP Zero Window segment",
    // A reset before the end is a fault; after it, it answers what came late.
    "Connection reset (RST)",
];

/// Whether a warning on our segments is ours and not chance's: every further run under the same
/// impairment has it again, and of Linux's runs none.
pub(super) fn is_ours(again: &[bool], of_linux: &[bool]) -> bool {
    again.iter().all(|shown| *shown) && !of_linux.iter().any(|shown| *shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "10.0.0.2";

    fn line(from: &str, rest: &str) -> String {
        format!("0\t{from}\t{}\t7", rest.replace(' ', "\t").replace('_', ""))
    }

    /// seq ack window shift flags len again spurious malformed tcp ip remarks severities.
    fn judged(lines: &[(&str, &str)]) -> Verdict {
        let lines: Vec<String> = lines.iter().map(|(from, rest)| line(from, rest)).collect();
        count(&lines, SERVER)
    }

    const OPENED: [(&str, &str); 2] = [
        ("10.0.0.1", "4294967290 0 1000 3 0x0002 0 _ _ _ 1 1 _ _"),
        ("10.0.0.1", "4294967291 100 500 _ 0x0010 0 _ _ _ 1 1 _ _"),
    ];

    #[test]
    fn windows_are_scaled_and_followed() {
        let mut lines = OPENED.to_vec();
        lines.push((SERVER, "3100 1 9 _ 0x0010 1000 _ _ _ 1 1 _ _"));
        assert_eq!(judged(&lines).faults, [""; 0]);
        lines.push((SERVER, "3101 1 9 _ 0x0010 1000 _ _ _ 1 1 _ _"));
        let fault = ["frame 7 is outside the window its peer has offered"];
        assert_eq!(judged(&lines).faults, fault);
        // A window that shrinks takes nothing back, and one that moves allows more.
        let later = ("10.0.0.1", "4294967291 200 500 _ 0x0010 0 _ _ _ 1 1 _ _");
        let shrunk = ("10.0.0.1", "4294967291 300 1 _ 0x0010 0 _ _ _ 1 1 _ _");
        lines.splice(2..2, [later, shrunk]);
        assert_eq!(judged(&lines).faults, [""; 0]);
        lines.push((SERVER, "4200 1 9 _ 0x0010 1 _ _ _ 1 1 _ _"));
        assert_eq!(judged(&lines).faults, [""; 0], "a probe");
    }

    /// What is late comes to nobody; a reset before the end is a fault of ours.
    #[test]
    fn a_reset_is_a_fault_unless_both_have_ended() {
        let mut lines = OPENED.to_vec();
        let reset = (SERVER, "100 0 0 _ 0x0004 0 _ _ _ 1 1 reset 6291456");
        lines.push((SERVER, "100 1 9 _ 0x0011 0 _ _ _ 1 1 _ _"));
        lines.push(reset);
        assert_eq!(judged(&lines).faults, ["frame 7 is a reset before both have ended"]);
        lines.insert(3, ("10.0.0.1", "4294967291 101 500 _ 0x0011 0 _ _ _ 1 1 _ _"));
        assert_eq!(judged(&lines).faults, [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_said_of_the_server_only() {
        let mut lines = OPENED.to_vec();
        lines.push(("10.0.0.1", "1 1 1 _ 0x0010 0 _ _ _ 0 0 _ _"));
        assert_eq!(judged(&lines).faults, [""; 0]);
        lines.push((SERVER, "100 1 9 _ 0x0010 10 _ _ _ 0 1 _ _"));
        lines.push((SERVER, "100 1 9 _ 0x0010 10 _ _ _ 1 0 _ _"));
        lines.push((SERVER, "100 1 9 _ 0x0010 10 1 1 Malformed 1 1 _ _"));
        let verdict = judged(&lines);
        let faults = ["has a wrong TCP checksum", "has a wrong IPv4 checksum", "does not parse"];
        assert_eq!(verdict.faults, faults.map(|fault| format!("frame 7 {fault}")));
        assert_eq!((verdict.texts, verdict.again, verdict.spurious), (3, 1, 1));
    }

    /// Notes say what is, warnings what should not be; of those, some are the wire's.
    #[test]
    fn warnings_are_kept_that_are_not_of_the_wire() {
        let remarks = "Duplicate|D-SACK:Sequence|Window:1:too:small|Odd";
        let severities = "4194304|6291456|6291456|8388608";
        let texts = format!("100 1 9 _ 0x0010 10 _ _ _ 1 1 {remarks} {severities}");
        let mut lines: Vec<String> = OPENED.iter().map(|(from, rest)| line(from, rest)).collect();
        lines.push(line(SERVER, &texts).replace(':', " "));
        let verdict = count(&lines, SERVER);
        assert_eq!(verdict.remarks.len(), 4);
        let warnings: Vec<&str> = verdict.warnings.iter().map(String::as_str).collect();
        assert_eq!(warnings, ["Odd", "Window  too small"]);
    }

    #[test]
    fn a_warning_is_ours_when_it_always_is_and_never_of_linux() {
        assert!(is_ours(&[true, true], &[false; 4]));
        assert!(!is_ours(&[true, false], &[false; 4]), "chance");
        assert!(!is_ours(&[true, true], &[false, false, true, false]), "Linux has it, too");
    }
}

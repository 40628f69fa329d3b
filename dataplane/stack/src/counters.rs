//! Every reason a frame, packet, segment or message went no further, and what was counted.
//!
//! Plain numbers of one worker: nobody else writes them, so nothing here is atomic.

use core::fmt;

use crate::wire::Malformed;

/// What every `on_*` in the stack gives: done, or the named reason it stopped. No silent drop can
/// be expressed.
pub type Outcome = Result<(), Stop>;

/// Defines an enum whose variants each have a name and a sentence for operators.
macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($variant:ident, $name:literal, $what:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $type {
            $(#[doc = $what] $variant,)*
        }

        impl $type {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name operators see.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }
    };
}

named! {
    /// Why something received went no further, or something to be sent was not.
    Stop {
        FrameTruncated, "frame-truncated", "Shorter than an Ethernet header or its VLAN tag.";
        FrameLengthField, "frame-length-field", "An IEEE 802.3 length instead of an EtherType.";
        FrameVlan, "frame-vlan", "Tagged for a VLAN this port is not a member of.";
        FrameForeign, "frame-foreign", "For another station's Ethernet address.";
        FrameSource, "frame-source", "From a group's Ethernet address.";
        FrameEtherType, "frame-ethertype", "Neither IPv4, IPv6 nor ARP.";
        ArpTruncated, "arp-truncated", "Shorter than an ARP packet.";
        ArpKind, "arp-kind", "ARP for other than IPv4 over Ethernet.";
        ArpOperation, "arp-operation", "ARP that neither asks nor answers.";
        ArpSender, "arp-sender", "ARP from a sender no neighbour can have.";
        ArpForeign, "arp-foreign", "ARP about addresses that are not ours.";
        AddressConflict, "address-conflict", "Somebody else claims one of our addresses.";
        Ipv4Truncated, "ipv4-truncated", "Shorter than an IPv4 header.";
        Ipv4Version, "ipv4-version", "The version in an IPv4 header is not 4.";
        Ipv4HeaderLength, "ipv4-header-length", "IPv4 header length below 20 or beyond the packet.";
        Ipv4TotalLength, "ipv4-total-length", "IPv4 total length below the header's or beyond the frame.";
        Ipv4Checksum, "ipv4-checksum", "Wrong IPv4 header checksum.";
        Ipv4Option, "ipv4-option", "An IPv4 option with an illegal length.";
        Ipv4SourceRoute, "ipv4-source-route", "A source-routed IPv4 packet (RFC 7126).";
        Ipv6Truncated, "ipv6-truncated", "Shorter than an IPv6 header.";
        Ipv6Version, "ipv6-version", "The version in an IPv6 header is not 6.";
        Ipv6PayloadLength, "ipv6-payload-length", "IPv6 payload length beyond the frame.";
        Ipv6ExtensionLength, "ipv6-extension-length", "An IPv6 extension header beyond the packet.";
        Ipv6ExtensionChain, "ipv6-extension-chain", "Too many IPv6 extension headers, or out of order.";
        Ipv6Option, "ipv6-option", "An unknown IPv6 option that must not be skipped.";
        Ipv6Routing, "ipv6-routing", "An IPv6 routing header with segments left.";
        IpFragment, "ip-fragment", "A fragment of what is not put together: of other than TCP, or of anything.";
        FragmentInvalid, "fragment-invalid", "A fragment no honest sender makes: empty, odd, without its header.";
        FragmentTooBig, "fragment-too-big", "A fragment beyond the largest packet put together.";
        FragmentOverlap, "fragment-overlap", "A fragment of a packet whose fragments overlap (RFC 5722).";
        FragmentDuplicate, "fragment-duplicate", "A fragment that came twice.";
        FragmentEvicted, "fragment-evicted", "A packet in pieces that made way for a newer one.";
        FragmentTimedOut, "fragment-timed-out", "A packet in pieces of which the rest did not come.";
        IpForeign, "ip-foreign", "For an IP address that is not ours.";
        IpSource, "ip-source", "From an IP address no host can have (MUST-63).";
        IpGroup, "ip-group", "Unicast traffic to a broadcast or multicast address (MUST-57).";
        IpProtocol, "ip-protocol", "An upper-layer protocol other than TCP and ICMP.";
        ParameterProblemRationed, "parameter-problem-rationed", "A Parameter Problem not sent, beyond their ration.";
        IcmpTruncated, "icmp-truncated", "Shorter than an ICMP message of its type.";
        IcmpChecksum, "icmp-checksum", "Wrong ICMP checksum.";
        IcmpIgnored, "icmp-ignored", "An ICMP message of a type this host does not act on.";
        IcmpRedirect, "icmp-redirect", "A redirect or router message: routes are the configuration's.";
        IcmpQuench, "icmp-quench", "Source quench (MUST-55).";
        IcmpErrorIgnored, "icmp-error-ignored", "An ICMP error about nothing of ours.";
        IcmpNotInFlight, "icmp-not-in-flight", "An ICMP error about a segment that is not in flight (RFC 5927).";
        IcmpMtuIgnored, "icmp-mtu-ignored", "A path MTU that explains no loss, or one too many.";
        NdInvalid, "nd-invalid", "Neighbour discovery that RFC 4861 section 7.1 says to discard.";
        NdOption, "nd-option", "A neighbour discovery option with an illegal length.";
        NdForeign, "nd-foreign", "Neighbour discovery about addresses that are not ours.";
        NeighbourUnknown, "neighbour-unknown", "A neighbour's answer to a question not asked.";
        NeighbourTableFull, "neighbour-table-full", "No place for a neighbour beside those in use.";
        NeighbourUnresolved, "neighbour-unresolved", "A packet whose neighbour did not answer.";
        NeighbourReplaced, "neighbour-replaced", "A waiting packet gave way to a newer one.";
        NoRoute, "no-route", "Neither on the link nor with a gateway.";
        TransmitFull, "transmit-full", "No room in the transmit ring or its buffers.";
        TcpTruncated, "tcp-truncated", "Shorter than a TCP header.";
        TcpDataOffset, "tcp-data-offset", "TCP data offset below 5 words or beyond the segment.";
        TcpChecksum, "tcp-checksum", "Wrong TCP checksum (MUST-3).";
        NoConnection, "no-connection", "A segment of no connection, answered by RST.";
        NoConnectionReset, "no-connection-reset", "A RST of no connection, ignored.";
        ResetRationed, "reset-rationed", "A segment of no connection beyond its sender's ration of RST.";
        SynRationed, "syn-rationed", "A SYN beyond what its sender's address may call in a second.";
        NotForListener, "not-for-listener", "Neither SYN, ACK nor RST to a port we listen on.";
        HalfOpenFull, "half-open-full", "A SYN beyond the handshakes that may be under way.";
        HandshakeEvicted, "handshake-evicted", "A handshake under way that made way for a newer one.";
        OrphanEvicted, "orphan-evicted", "A connection the application had closed and its peer not, that made way for a client.";
        CookieForged, "cookie-forged", "An ACK with a SYN cookie that is none of ours, answered by RST.";
        ConnectionsFull, "connections-full", "A SYN beyond the connection table.";
        ActiveFull, "active-full", "A segment or command for which no active record was free.";
        NotYetAccepted, "not-yet-accepted", "A segment while its SYN waits for the application.";
        NotAcceptedInTime, "not-accepted-in-time", "A SYN the application did not accept in time.";
        HandshakeTimedOut, "handshake-timed-out", "A handshake the peer did not complete.";
        HandshakeUnreachable, "handshake-unreachable", "A handshake whose peer has no such port, by ICMP.";
        PeerDown, "peer-down", "A connection whose peer stopped answering.";
        TimestampMissing, "timestamp-missing", "No timestamp where both had agreed (RFC 7323).";
        OldTimestamp, "old-timestamp", "Older than what came before (PAWS, RFC 7323).";
        OutOfWindow, "out-of-window", "Text or control outside the receive window, answered by ACK.";
        DuplicateText, "duplicate-text", "Text that was received before, answered by ACK.";
        ResetByPeer, "reset-by-peer", "A RST that ended its connection.";
        ResetOutOfWindow, "reset-out-of-window", "A RST with a number outside the window.";
        ResetChallenged, "reset-challenged", "A RST with a number not exact, answered by ACK (RFC 5961).";
        ResetInTimeWait, "reset-in-time-wait", "A RST in TIME-WAIT (RFC 1337).";
        SynAgain, "syn-again", "A SYN repeated before the handshake was complete.";
        SynChallenged, "syn-challenged", "A SYN on an open connection, answered by ACK (RFC 5961).";
        NoSyn, "no-syn", "Neither SYN nor RST in answer to our SYN.";
        NoAck, "no-ack", "A segment without ACK on an open connection.";
        AckNotOfSyn, "ack-not-of-syn", "An ACK that does not acknowledge our SYN, answered by RST.";
        AckOfUnsent, "ack-of-unsent", "An ACK of what was never sent, answered by ACK.";
        AckTooOld, "ack-too-old", "An ACK older than any window explains (RFC 5961).";
        TextAfterClose, "text-after-close", "Text for an application that has closed, answered by RST.";
        TextAfterFin, "text-after-fin", "Text after the peer's own FIN.";
        ReceiveBufferFull, "receive-buffer-full", "Text for which the pool has no room.";
        OutOfOrderFull, "out-of-order-full", "More segments beyond a hole than are held.";
        TextHidden, "text-hidden", "Text dropped because the pool's buffers are scarce; its ACK field was processed.";
        UrgentIgnored, "urgent-ignored", "An urgent pointer; its data was taken as data.";
        AbortedSilently, "aborted-silently", "A connection aborted without room for its RST.";
    }
}

named! {
    /// What is counted beside the reasons to stop.
    Count {
        FramesIn, "frames-in", "Frames received.";
        BytesIn, "bytes-in", "Bytes of frames received.";
        FramesOut, "frames-out", "Frames sent.";
        BytesOut, "bytes-out", "Bytes of frames sent.";
        SegmentsIn, "segments-in", "TCP segments received with a good checksum.";
        SegmentsOut, "segments-out", "TCP segments sent.";
        SegmentsRetransmitted, "segments-retransmitted", "TCP segments sent again.";
        FastRetransmits, "fast-retransmits", "Losses noticed by acknowledgements.";
        RetransmissionTimeouts, "retransmission-timeouts", "Losses noticed by the timer.";
        CongestionMarks, "congestion-marks", "Segments that routers marked on their way to us (CE, RFC 3168).";
        CongestionEchoes, "congestion-echoes", "Windows reduced because routers marked what we sent.";
        DuplicatesReported, "duplicates-reported", "Segments the peer says came twice (RFC 2883).";
        RecoveriesUndone, "recoveries-undone", "Losses that were none, and what they did taken back.";
        SacksReneged, "sacks-reneged", "Times a peer gave up what it had said to have.";
        TailProbes, "tail-probes", "Probes for losses at the end of what was sent (RFC 8985).";
        WindowProbes, "window-probes", "Zero-window probes sent.";
        KeepAliveProbes, "keep-alive-probes", "Questions to idle peers whether they are there.";
        BareAcks, "bare-acks", "Acknowledgements sent without data.";
        SoftErrors, "soft-errors", "ICMP errors remembered for a connection (MUST-47).";
        PathMtuReduced, "path-mtu-reduced", "Times a path took less than was thought (RFC 1191).";
        PathMtuRaised, "path-mtu-raised", "Narrow paths tried again with full segments.";
        BlackHolesSuspected, "black-holes-suspected", "Full segments that vanished without ICMP (RFC 4821).";
        WindowsShrunk, "windows-shrunk", "Windows told that scarce buffers made smaller.";
        AcksWithheld, "acks-withheld", "Text not acknowledged by the stack while buffers are scarce.";
        WaitsOver, "waits-over", "Connections told of room after their pool's buffers were scarce.";
        ResetsOut, "resets-out", "RST segments sent.";
        CookiesOut, "cookies-out", "SYNs answered by a cookie (RFC 4987).";
        CookiesBack, "cookies-back", "Cookies that came back and were ours.";
        ConnectionsOpened, "connections-opened", "Handshakes completed.";
        ConnectionsEnded, "connections-ended", "Connections that were open and are gone.";
        ArpIn, "arp-in", "ARP packets received.";
        ArpRequestsOut, "arp-requests-out", "ARP requests sent.";
        ArpRepliesOut, "arp-replies-out", "ARP replies sent.";
        SolicitationsOut, "solicitations-out", "Neighbour solicitations sent.";
        AdvertisementsOut, "advertisements-out", "Neighbour advertisements sent.";
        EchoRepliesOut, "echo-replies-out", "ICMP and ICMPv6 echo replies sent.";
        ParameterProblemsOut, "parameter-problems-out", "Refused IPv6 extension headers told to their sender (RFC 4443).";
        FragmentsHeld, "fragments-held", "Fragments taken to be put together.";
        PacketsReassembled, "packets-reassembled", "Packets put together from fragments.";
        AddressesGivenUp, "addresses-given-up", "Own addresses that somebody else had (RFC 4862, RFC 5227).";
        AddressesDefended, "addresses-defended", "Announcements against a claim on our address.";
        NeighboursLearned, "neighbours-learned", "Neighbour table entries made.";
        NeighboursEvicted, "neighbours-evicted", "Neighbour table entries given up for others.";
        FramesParked, "frames-parked", "Frames held until their neighbour answers.";
    }
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::FrameTruncated => Self::FrameTruncated,
            Malformed::FrameLengthField => Self::FrameLengthField,
            Malformed::ArpTruncated => Self::ArpTruncated,
            Malformed::ArpKind => Self::ArpKind,
            Malformed::ArpOperation => Self::ArpOperation,
            Malformed::Ipv4Truncated => Self::Ipv4Truncated,
            Malformed::Ipv4Version => Self::Ipv4Version,
            Malformed::Ipv4HeaderLength => Self::Ipv4HeaderLength,
            Malformed::Ipv4TotalLength => Self::Ipv4TotalLength,
            Malformed::Ipv4Checksum => Self::Ipv4Checksum,
            Malformed::Ipv4Option => Self::Ipv4Option,
            Malformed::Ipv6Truncated => Self::Ipv6Truncated,
            Malformed::Ipv6Version => Self::Ipv6Version,
            Malformed::Ipv6PayloadLength => Self::Ipv6PayloadLength,
            Malformed::Ipv6ExtensionLength => Self::Ipv6ExtensionLength,
            Malformed::Ipv6ExtensionChain => Self::Ipv6ExtensionChain,
            Malformed::Ipv6Option => Self::Ipv6Option,
            Malformed::Ipv6Routing => Self::Ipv6Routing,
            Malformed::IcmpTruncated => Self::IcmpTruncated,
            Malformed::IcmpChecksum => Self::IcmpChecksum,
            Malformed::NdInvalid => Self::NdInvalid,
            Malformed::NdOption => Self::NdOption,
            Malformed::TcpTruncated => Self::TcpTruncated,
            Malformed::TcpDataOffset => Self::TcpDataOffset,
        }
    }
}

/// One worker's counters.
#[derive(Clone)]
pub struct Counters {
    stops: [u64; Stop::ALL.len()],
    counts: [u64; Count::ALL.len()],
}

impl Counters {
    /// All zero.
    #[must_use]
    pub const fn new() -> Self {
        Self { stops: [0; Stop::ALL.len()], counts: [0; Count::ALL.len()] }
    }

    /// Counts a reason to stop.
    #[inline]
    pub fn stop(&mut self, stop: Stop) {
        if let Some(counter) = self.stops.get_mut(stop as usize) {
            *counter = counter.wrapping_add(1);
        }
    }

    /// Counts one.
    #[inline]
    pub fn count(&mut self, count: Count) {
        self.add(count, 1);
    }

    /// Counts several.
    #[inline]
    pub fn add(&mut self, count: Count, by: u64) {
        if let Some(counter) = self.counts.get_mut(count as usize) {
            *counter = counter.wrapping_add(by);
        }
    }

    /// Counts an outcome's reason, if it has one.
    #[inline]
    pub fn outcome(&mut self, outcome: Outcome) {
        if let Err(stop) = outcome {
            self.stop(stop);
        }
    }

    /// How often something stopped for this reason.
    #[must_use]
    pub fn stopped(&self, stop: Stop) -> u64 {
        self.stops.get(stop as usize).copied().unwrap_or_default()
    }

    /// What was counted.
    #[must_use]
    pub fn counted(&self, count: Count) -> u64 {
        self.counts.get(count as usize).copied().unwrap_or_default()
    }

    /// Name, meaning and value of every counter.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let counts = Count::ALL.iter().map(|count| (count.name(), count.what()));
        let stops = Stop::ALL.iter().map(|stop| (stop.name(), stop.what()));
        let values = self.counts.iter().chain(&self.stops);
        counts.chain(stops).zip(values).map(|((name, what), value)| (name, what, *value))
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows what is not zero.
impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = self.rows().filter(|(.., value)| *value != 0);
        f.debug_map().entries(counted.map(|(name, _, value)| (name, value))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_counter_and_a_word_of_its_own() {
        let counters = Counters::new();
        for (place, (name, what, value)) in counters.rows().enumerate() {
            assert_eq!(counters.rows().position(|(other, ..)| other == name), Some(place));
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte.is_ascii_digit())
            );
            assert!(what.ends_with('.') && value == 0);
        }
        assert_eq!(counters.rows().count(), Stop::ALL.len() + Count::ALL.len());
    }

    #[test]
    fn what_is_counted_is_shown_under_its_name() {
        let mut counters = Counters::default();
        counters.add(Count::BytesIn, 60);
        counters.outcome(Err(Malformed::TcpTruncated.into()));
        counters.outcome(Ok(()));
        counters.stop(Stop::TcpTruncated);
        let shown = |name| counters.rows().find(|row| row.0 == name).map(|row| row.2);
        assert_eq!((shown("bytes-in"), shown("tcp-truncated")), (Some(60), Some(2)));
        assert_eq!(counters.rows().map(|row| row.2).sum::<u64>(), 62);
        assert_eq!(counters.stopped(Stop::TcpTruncated), 2);
        assert_eq!(counters.counted(Count::BytesIn), 60);
    }
}

//! What the path says of itself: ICMP errors about our segments (RFC 1122 section 4.2.3.9, RFC
//! 5927), and how large a packet it takes (RFC 1191, RFC 8201), found out without ICMP where that
//! is swallowed (RFC 4821).

use super::Tcb;
use super::record::{PERSISTING, RETRANSMIT, SOFT_ERROR, V6};
use super::seq::SeqNum;
use crate::counters::{Count, Outcome, Stop};
use crate::event::Reason;
use crate::table::narrow::Narrow;
use crate::wire::icmp::{Error, Failure};

/// Least MTU of an IPv6 link, and what RFC 8899 section 5.1.2 tries first where packets vanish.
const BASE_MTU: u16 = 1280;

/// Least MTU of an IPv4 link (RFC 791).
const IPV4_MTU_MIN: u16 = 68;

/// How often one connection's segments shrink until they may grow again: no path has more links
/// each narrower than the one before, and whoever forges such news gains no more.
const NARROWINGS_MAX: u8 = 8;

/// Common MTUs, for routers that do not tell theirs (RFC 1191 section 7.1).
const PLATEAUS: [u16; 7] = [8166, 4352, 2002, 1492, 1006, 508, 296];

impl Tcb<'_, '_> {
    /// An ICMP error quotes a segment of this connection.
    ///
    /// # Errors
    /// Why it is not believed, or that it ended the handshake.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.9.2.2
    //# a TCP implementation MUST act on an ICMP error message passed up from the IP layer,
    //# directing it to the connection that created the error
    pub(crate) fn on_icmp_error(&mut self, error: &Error) -> Outcome {
        // RFC 5927 section 4.1: only whoever sees the segments knows what is in flight.
        let seq = SeqNum::new(error.quoted.seq);
        if seq.before(self.rec.snd_una) || !seq.before(self.act.snd_max) {
            return Err(Stop::IcmpNotInFlight);
        }
        match error.failure {
            Failure::PacketTooBig { mtu } => self.on_packet_too_big(mtu, error.quoted.len),
            Failure::Unreachable { kind, code } => self.on_unreachable(kind, code),
        }
    }

    /// A soft error is remembered for those who ask, and ends nothing (MUST-56). What RFC 1122
    /// calls hard is soft once a connection is open (RFC 5927 section 5.2): only a handshake whose
    /// peer has no such port or no TCP is given up.
    fn on_unreachable(&mut self, kind: u8, code: u8) -> Outcome {
        let hard = if self.rec.has(V6) {
            matches!((kind, code), (1, 4) | (4, 1))
        } else {
            matches!((kind, code), (3, 2 | 3))
        };
        if hard && !self.rec.state().is_synchronized() {
            self.gone(Reason::Refused);
            return Err(Stop::HandshakeUnreachable);
        }
        self.act.soft_error = u16::from_be_bytes([kind, code]);
        self.act.set(SOFT_ERROR);
        self.counters.count(Count::SoftErrors);
        Ok(())
    }

    /// RFC 1191 sections 3 and 5, RFC 8201 section 4. Never below what is configured, and never
    /// because of a packet that would have fitted.
    fn on_packet_too_big(&mut self, mtu: u32, quoted_len: u32) -> Outcome {
        let mtu = if mtu == 0 { plateau_below(quoted_len) } else { mtu };
        if mtu >= quoted_len {
            return Err(Stop::IcmpMtuIgnored);
        }
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).max(self.mtu_min());
        if self.narrow_to(mtu) { Ok(()) } else { Err(Stop::IcmpMtuIgnored) }
    }

    /// Full segments have timed out twice, and perhaps nobody may say why: smaller ones are tried
    /// (RFC 4821 section 7.7, RFC 8899 section 4.3).
    pub(super) fn suspect_black_hole(&mut self) {
        let queued = self.act.snd_end.since(self.rec.snd_una);
        if queued < self.segment_size() || self.act.backoff % 2 != 0 {
            return;
        }
        let base = BASE_MTU.max(self.mtu_min());
        let narrower = self.narrow_to(base) || self.narrow_to(self.mtu_min());
        if narrower {
            // Still one segment after a timeout.
            self.act.cwnd = self.segment_size();
            self.counters.count(Count::BlackHolesSuspected);
        }
    }

    /// Segments fit in packets of this size from now on; what is in flight goes again. False if
    /// they are that small already, or have shrunk too often.
    fn narrow_to(&mut self, mtu: u16) -> bool {
        let headers = if self.rec.has(V6) { 60 } else { 40 };
        let mss = mtu.saturating_sub(headers);
        if mss >= self.rec.mss || mss == 0 || self.act.narrowings >= NARROWINGS_MAX {
            return false;
        }
        self.paths.remember(Narrow::new(self.act.connection, self.rec, self.now));
        self.rec.mss = mss;
        self.act.narrowings += 1;
        self.counters.count(Count::PathMtuReduced);
        if !self.act.has(PERSISTING) && self.rec.state().is_synchronized() {
            // RFC 1191 section 6.5: lost for its size and not for congestion.
            self.act.clear(RETRANSMIT);
            self.presume_lost();
            self.act.set_rto(self.now + self.rto());
        }
        true
    }

    fn mtu_min(&self) -> u16 {
        if self.rec.has(V6) { BASE_MTU } else { self.tcp.path_mtu_min.max(IPV4_MTU_MIN) }
    }
}

/// The largest common MTU below `len`.
fn plateau_below(len: u32) -> u32 {
    PLATEAUS
        .into_iter()
        .map(u32::from)
        .find(|&mtu| mtu < len)
        .unwrap_or_else(|| IPV4_MTU_MIN.into())
}

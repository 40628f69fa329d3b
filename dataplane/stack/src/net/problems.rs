//! Parameter Problem: what the sender of an IPv6 packet is told whose extension headers are refused
//! (RFC 8200 section 4, RFC 4443 sections 2.4 and 3.4).
//!
//! It is told before anybody asks which connection a packet is for, so that neither the message nor
//! the ration of them says anything about connections. The ration is one for all, and so small that
//! nobody can be flooded with messages by packets that pretend to come from him.

use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;

use super::addresses::Key;
use super::{Interface, MacClass};
use crate::counters::{Count, Counters, Outcome, Stop};
use crate::time::Instant;
use crate::wire::ethernet::MacAddr;
use crate::wire::extensions::Refused;
use crate::wire::icmpv6::{self, ParameterProblem};
use crate::wire::ipv6;
use crate::world::Transmit;

/// Messages that may be sent at once, and how long it takes until one more may be: the token bucket
/// that RFC 4443 section 2.4 (f) gives as its example.
const BURST: u32 = 10;
const PERIOD: Duration = Duration::from_millis(100);

/// What is left of the ration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ration {
    /// When it is whole again.
    whole: Instant,
}

impl Ration {
    /// Takes one message out of it; false when none is left.
    fn take(&mut self, now: Instant) -> bool {
        let whole = self.whole.max(now) + PERIOD;
        let left = whole.since(now) <= PERIOD * BURST;
        if left {
            self.whole = whole;
        }
        left
    }
}

impl Interface<'_> {
    /// An IPv6 packet has come, at the head of `bytes`, that goes no further. Tells its sender if its
    /// extension headers are why, and as far as RFC 4443 section 2.4 (e) and (f) let it.
    ///
    /// # Errors
    /// `ParameterProblemRationed`, `TransmitFull`: it was to be told and was not.
    #[cold]
    pub fn on_refused_ipv6(
        &mut self,
        bytes: &[u8],
        (from, class): (MacAddr, MacClass),
        out: &mut impl Transmit,
        counters: &mut Counters,
        now: Instant,
    ) -> Outcome {
        if !self.answers || !from.is_unicast() {
            return Ok(());
        }
        let Some(refused) = Refused::parse(bytes) else { return Ok(()) };
        let Some(source) = self.source_of_problem(&refused, class) else { return Ok(()) };
        if !self.problems.take(now) {
            return Err(Stop::ParameterProblemRationed);
        }
        let Refused { src: dst, problem, packet, .. } = refused;
        let told = ParameterProblem { code: problem.code, pointer: problem.pointer, packet };
        let header = ipv6::Header {
            src: source,
            dst,
            protocol: icmpv6::PROTOCOL,
            hop_limit: super::icmp::HOPS,
            dscp: 0,
            ecn: 0,
            flow_label: 0,
            payload_len: told.message_len() as u16,
        };
        self.send_v6(from, header, |buf| told.emit(buf, source, dst).map(|_| ()), out)?;
        counters.count(Count::ParameterProblemsOut);
        Ok(())
    }

    /// Our address its sender is told from: the one the packet was sent to, or one near the sender.
    /// `None` if it is not to be told.
    fn source_of_problem(&self, refused: &Refused<'_>, class: MacClass) -> Option<Ipv6Addr> {
        let (src, dst) = (IpAddr::V6(refused.src), IpAddr::V6(refused.dst));
        let to_group = dst.is_multicast() || class != MacClass::Ours;
        if to_group && !refused.problem.of_groups || !self.is_valid_source(src) {
            return None;
        }
        let source = if dst.is_multicast() && self.addresses.is_member(refused.dst) {
            self.addresses.source_for(Key::of(src))?.ip()
        } else {
            dst
        };
        match source {
            IpAddr::V6(source) if self.local(source.into()).is_some() => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ration_is_ten_at_once_and_ten_a_second() {
        let mut ration = Ration::default();
        let mut now = Instant::from_millis(1);
        let mut taken = |now: Instant| (0..100).filter(|_| ration.take(now)).count();
        assert_eq!(taken(now), 10);
        now = now + PERIOD - Duration::from_nanos(1);
        assert_eq!(taken(now), 0);
        now = now + Duration::from_nanos(1);
        assert_eq!(taken(now), 1);
        now = now + Duration::from_millis(250);
        assert_eq!(taken(now), 2);
        now = now + Duration::from_secs(3600);
        assert_eq!(taken(now), 10, "what is not taken is not saved up");
        assert_eq!(taken(Instant::from_millis(1)), 0, "a clock that goes back gives nothing");
    }
}

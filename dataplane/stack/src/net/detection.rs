//! Whether our addresses are ours alone (RFC 4862 section 5.4, RFC 5227 section 2.1).
//!
//! The operator's addresses are used at once, as RFC 4429 has it: a server that comes back must
//! not be away for seconds more. But while it is asked who else has them, whoever answers keeps
//! them, and we let go. Later claims are defended against.

use core::net::IpAddr;
use core::time::Duration;

use super::Interface;
use super::addresses::Key;
use crate::counters::{Count, Counters, Outcome, Stop};
use crate::time::Instant;
use crate::world::Transmit;

/// Between two questions, and after the last (RFC 4862 section 5.1; RFC 5227 section 1.1 has 1 to
/// 2 s).
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Between two announcements, and how many there are (RFC 5227 section 1.1).
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
const ANNOUNCEMENTS: u8 = 2;

/// What is left to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detection {
    probes: u8,
    announcements: u8,
    /// Whether the answers are still waited for.
    under_way: bool,
    due: Instant,
}

impl Detection {
    /// It starts with the first turn, unless there are no `probes`.
    pub(super) const fn new(probes: u8) -> Self {
        let some = probes > 0;
        Self {
            probes,
            announcements: if some { ANNOUNCEMENTS } else { 0 },
            under_way: some,
            due: if some { Instant::ZERO } else { Instant::NEVER },
        }
    }

    pub(super) const fn due(&self) -> Instant {
        self.due
    }
}

impl Interface<'_> {
    /// Asks, waits, announces: one step if one is due.
    #[inline]
    pub(super) fn poll_detection(
        &mut self,
        out: &mut impl Transmit,
        counters: &mut Counters,
        now: Instant,
    ) {
        if self.detection.due <= now {
            self.detect(out, counters, now);
        }
    }

    #[cold]
    fn detect(&mut self, out: &mut impl Transmit, counters: &mut Counters, now: Instant) {
        if self.detection.probes > 0 {
            self.detection.probes -= 1;
            self.detection.due = now + PROBE_INTERVAL;
            for ip in self.addresses.all() {
                let outcome = if self.answers { self.probe(ip, out, counters) } else { Ok(()) };
                counters.outcome(outcome);
            }
            return;
        }
        self.detection.under_way = false;
        self.detection.announcements = self.detection.announcements.saturating_sub(1);
        let more = self.detection.announcements > 0;
        self.detection.due = if more { now + ANNOUNCE_INTERVAL } else { Instant::NEVER };
        if self.answers {
            self.announce(out, counters);
        }
    }

    /// Asks for an address of ours without saying that it is ours.
    fn probe(&self, ip: IpAddr, out: &mut impl Transmit, counters: &mut Counters) -> Outcome {
        match ip {
            IpAddr::V4(ip) => {
                self.ask_v4(core::net::Ipv4Addr::UNSPECIFIED, ip, None, out, counters)
            }
            IpAddr::V6(ip) => {
                self.ask_v6(core::net::Ipv6Addr::UNSPECIFIED, ip, None, out, counters)
            }
        }
    }

    /// Another station asks for an address of ours as we do, or says that it has it: while it is
    /// asked who has it, that ends our use of it.
    ///
    /// # Errors
    /// [`Stop::AddressConflict`] if it does.
    pub(super) fn yield_if_detecting(&mut self, ip: IpAddr, counters: &mut Counters) -> Outcome {
        if !self.detection.under_way || !self.addresses.give_up(Key::of(ip)) {
            return Ok(());
        }
        counters.count(Count::AddressesGivenUp);
        Err(Stop::AddressConflict)
    }
}

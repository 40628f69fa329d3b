//! What routers and peers report of our segments by ICMP, brought to the connection they quote.

use core::time::Duration;

use crate::counters::{Count, Outcome, Stop};
use crate::frames_in::Name;
use crate::stack::Stack;
use crate::tcp::record::LISTED;
use crate::wire::icmp::Error;

impl Stack<'_> {
    /// An ICMP error about a segment that is said to be ours (RFC 9293 section 3.9.2.2).
    ///
    /// # Errors
    /// Why it is not believed, or what it ended.
    #[cold]
    pub(crate) fn on_icmp_error(&mut self, error: &Error) -> Outcome {
        let quoted = &error.quoted;
        let local = self.interface.local(quoted.src).ok_or(Stop::IcmpErrorIgnored)?;
        let name = Name {
            remote: quoted.dst,
            remote_port: quoted.dst_port,
            local,
            local_port: quoted.src_port,
        };
        let hash = self.secret.flow_hash(name.remote, name.ports(), local);
        let index = self.find(hash, &name).ok_or(Stop::IcmpErrorIgnored)?;
        // Of an idle connection nothing is in flight.
        let active = self.connections[index as usize].active().ok_or(Stop::IcmpNotInFlight)?;
        let outcome = self.tcb(index, active).on_icmp_error(error);
        self.settle(index);
        outcome
    }

    /// Paths that were narrow long enough may have widened (RFC 1191 section 6.3).
    pub(crate) fn widen_paths(&mut self) {
        let age = self.tcp.path_mtu_age.max(Duration::from_secs(1)).as_millis();
        let age_ms = u32::try_from(age).unwrap_or(u32::MAX);
        while let Some(narrow) = self.paths.expired(age_ms, self.now) {
            let rec = &mut self.connections[narrow.connection as usize];
            let same = rec.generation() == narrow.generation && !rec.has(LISTED);
            if !same || rec.mss >= narrow.mss {
                continue;
            }
            rec.mss = narrow.mss;
            let (active, segment) = (rec.active(), u32::from(rec.mss));
            self.counters.count(Count::PathMtuRaised);
            if let Some(active) = active {
                let act = &mut self.actives[active as usize];
                act.narrowings = 0;
                // A window of one small segment would let no full one go.
                act.cwnd = act.cwnd.max(segment);
            }
        }
    }
}

//! The TCP of RFC 9293: what one connection does with what happens to it.
//!
//! | file | RFC 9293 | what |
//! |---|---|---|
//! | `arrives` | 3.10.7 | SEGMENT ARRIVES, in the RFC's order |
//! | `acknowledge` | 3.10.7.4 fifth, 3.8 | the ACK field: what it frees, what it says of the path |
//! | `receive` | 3.10.7.4 seventh, 3.8.6.2 | text in: in order, for the application; the window we offer |
//! | `reassembly` | 3.10.7.4 seventh | text beyond holes |
//! | `sack` | | SACK blocks out (RFC 2018, 2883) |
//! | `depart` | 3.7, 3.8.6 | segment out: what may go now |
//! | `calls` | 3.10.1 to 3.10.6 | what the application asks |
//! | `path` | 3.9.2.2, 3.7.2 | ICMP errors, path MTU |
//! | `timeouts` | 3.10.8 | what happens when nothing happens |
//! | `keep_alive` | 3.8.4 | whether a silent peer is still there |
//! | `throttle` | | what is done before buffers run out |
//! | `congestion`, `rtt` | 3.8.1, 3.8.2 | RFC 5681 and 6582, RFC 6298 |
//! | `cubic` | | CUBIC (RFC 9438) |
//! | `hystart` | | leaving slow start before the queue is full (RFC 9406) |
//! | `ecn` | | explicit congestion notification (RFC 3168) |
//! | `scoreboard` | | what is in flight and what the peer has of it (RFC 2018) |
//! | `sole_flight` | | a flight that is alone, without a record |
//! | `rack` | | losses noticed by time, probes for the tail (RFC 8985) |
//! | `recovery` | | what is sent meanwhile, and what if nothing was lost (RFC 9937, 3522, 3708) |
//!
//! All of them are rooms of [`Tcb`]: one connection's records and the tables it may touch, put
//! together for the length of one call. They decide and note what is to be done in the records;
//! [`crate::Stack`] sends, tells, arms timers, folds and frees accordingly.

mod acknowledge;
mod arrives;
mod calls;
mod congestion;
pub(crate) mod cubic;
mod depart;
mod ecn;
pub(crate) mod hystart;
mod keep_alive;
mod path;
mod rack;
mod reassembly;
mod receive;
pub(crate) mod record;
pub(crate) mod recovery;
mod rtt;
mod sack;
mod scoreboard;
pub mod seq;
mod sole_flight;
pub mod state;
pub(crate) mod throttle;
mod timeouts;

pub(crate) use depart::Plan;

use record::{Active, Connection};
use state::State;

use crate::buffer::Buffer;
use crate::config::{TcpConfig, Throttle};
use crate::counters::Counters;
use crate::event::Reason;
use crate::group::{Figures, Group};
use crate::stack::POOLS_MAX;
use crate::table::chunk::Chunks;
use crate::table::narrow::NarrowPaths;
use crate::table::slots::NONE;
use crate::time::Instant;

/// One connection at work, and what it may touch.
pub(crate) struct Tcb<'t, 'm> {
    pub(crate) rec: &'t mut Connection,
    pub(crate) act: &'t mut Active,
    pub(crate) group: &'t mut Group,
    /// Its pool's receive buffer.
    pub(crate) receive: &'t mut Buffer<'m>,
    /// Its pool's counters.
    pub(crate) figures: &'t mut Figures,
    pub(crate) transmit: &'t mut Buffer<'m, POOLS_MAX>,
    pub(crate) chunks: &'t mut Chunks<'m>,
    pub(crate) counters: &'t mut Counters,
    pub(crate) tcp: &'t TcpConfig,
    pub(crate) throttle: &'t Throttle,
    pub(crate) now: Instant,
    /// Those whose path is narrower than the link.
    pub(crate) paths: &'t mut NarrowPaths<'m>,
    /// Of our link.
    pub(crate) mtu: u16,
}

impl Tcb<'_, '_> {
    /// The connection is gone: whatever it held is given back, except what the application was
    /// given and still reads in place.
    pub(crate) fn gone(&mut self, reason: Reason) {
        self.release_sent();
        self.release_unread();
        self.act.set_rto(Instant::NEVER);
        self.act.set_ack_timer(Instant::NEVER);
        self.act.set_life(Instant::NEVER);
        self.act.set_challenge(Instant::NEVER);
        self.tell_closed(reason);
        self.act.flags &= record::TELL | record::SEND_RST | record::ON_A_LIST | record::SOFT_ERROR;
        self.rec.set_state(State::Closed);
    }

    /// What was queued and sent is given back.
    pub(crate) fn release_sent(&mut self) {
        self.chunks.release(self.transmit, &mut self.act.snd_list);
        self.act.snd_cursor = NONE;
        self.act.recovery.text_cursor = NONE;
        self.forget_flights();
    }

    /// RST to the peer (RFC 9293 section 3.10.5), and gone.
    pub(crate) fn abort(&mut self, reason: Reason) {
        if !matches!(self.rec.state(), State::Closed | State::SynSent | State::TimeWait) {
            self.act.set(record::SEND_RST);
        }
        self.gone(reason);
    }

    /// Every connection ends once.
    fn count_end(&mut self, reason: Reason) {
        let by_peer = self.rec.state() == State::LastAck;
        let counts = &mut self.group.counts;
        let counter = match reason {
            Reason::Closed if by_peer => &mut counts.closed_by_peer,
            Reason::Closed => &mut counts.closed_by_us,
            Reason::Idle => &mut counts.closed_idle,
            Reason::Reset => &mut counts.reset,
            Reason::TimedOut => &mut counts.timed_out,
            Reason::Aborted => &mut counts.aborted,
            Reason::Refused => &mut counts.refused,
        };
        *counter += 1;
    }

    /// Tells the application, unless it was never told that there is a connection.
    pub(crate) fn tell_closed(&mut self, reason: Reason) {
        self.act.clear(record::TELL);
        let for_idleness = self.act.reason == Reason::Idle as u16 && reason == Reason::Closed;
        let reason = if for_idleness { Reason::Idle } else { reason };
        self.act.reason = reason as u16;
        self.count_end(reason);
        if self.act.has(record::KNOWN) && !self.rec.has(record::UNTOLD) {
            self.act.set(record::TELL_CLOSED);
        }
    }
}

//! The two records of a connection: the one it always has, and the one it has while something
//! is under way (design law 4).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::cubic::Cubic;
use super::hystart::HyStart;
use super::recovery::Recovery;
use super::seq::SeqNum;
use super::state::State;
use crate::handle::Cd;
use crate::table::chunk::ChunkList;
use crate::table::slots::{Linked, NONE};
use crate::table::timer::{Place, Timed};
use crate::time::Instant;

/// What every connection keeps, idle or not: one cache line.
///
/// Whatever else a TCP knows follows from it when a connection is idle: `snd.nxt` and what is
/// queued end at `snd.una`, `rcv.nxt` is acknowledged and read, no timer runs.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub(crate) struct Connection {
    /// The IPv4 address, or the index into the table of IPv6 addresses if [`V6`] is set.
    pub(crate) remote: u32,
    pub(crate) remote_port: u16,
    pub(crate) local_port: u16,
    /// Index of our address.
    pub(crate) local: u8,
    /// The state in the low four bits; [`ECN`] and its siblings in the high ones.
    state: u8,
    /// Our window scale in the high four bits, the peer's in the low.
    scales: u8,
    /// [`V6`] and its siblings below.
    pub(crate) options: u8,
    /// The generation of the handle in the low 24 bits; above, when text last came or went, in
    /// units of the group's (see `sweep`).
    marks: u32,
    pub(crate) group: u16,
    /// Largest payload the peer takes, before options (RFC 9293 MUST-16).
    pub(crate) mss: u16,
    pub(crate) snd_una: SeqNum,
    /// The peer's window in bytes, as of the last segment that told it.
    pub(crate) snd_wnd: u32,
    pub(crate) rcv_nxt: SeqNum,
    /// Right edge of the window the peer was offered; it never moves back.
    pub(crate) rcv_adv: SeqNum,
    /// RFC 7323 TS.Recent.
    pub(crate) ts_recent: u32,
    /// When the peer was last heard, in milliseconds of the stack's clock (wraps after 49 days).
    /// In TIME-WAIT: when that state was entered.
    pub(crate) heard_ms: u32,
    /// Smoothed round-trip time and its variation in units of 256 µs, at most 16.7 s.
    pub(crate) srtt: u16,
    pub(crate) rttvar: u16,
    /// Slow-start threshold and congestion window in segments.
    pub(crate) ssthresh: u16,
    pub(crate) cwnd: u16,
    /// High 32 bits of the offset of `rcv_nxt` in the peer's stream.
    pub(crate) rcv_turns: u32,
    /// The peer's initial sequence number.
    pub(crate) irs: SeqNum,
    /// Index of the [`Active`] record, or `NONE`. In TIME-WAIT the next connection in that list;
    /// in the free list the next free one.
    pub(crate) active: u32,
}

const _: () = assert!(size_of::<Connection>() == 64);

/// The remote address is IPv6.
pub(crate) const V6: u8 = 1;
/// RFC 7323 timestamps were agreed.
pub(crate) const TIMESTAMPS: u8 = 2;
/// We opened it (MUST-11: SYN-RECEIVED knows where it came from).
pub(crate) const OPENED_BY_US: u8 = 4;
/// In TIME-WAIT and on that list, so `active` is a link.
pub(crate) const LISTED: u8 = 8;
/// Counted among the handshakes under way.
pub(crate) const HALF_OPEN: u8 = 16;
/// Not in the flow table any more: segments do not find it.
pub(crate) const UNFINDABLE: u8 = 32;
/// Both sides take selective acknowledgements (RFC 2018).
pub(crate) const SACK: u8 = 64;
/// The application that there is now was not told of it; see `successor`.
pub(crate) const UNTOLD: u8 = 128;

/// The bits of the state.
const STATE: u8 = 0x0f;
/// Explicit congestion notification was agreed (RFC 3168).
pub(crate) const ECN: u8 = 0x80;
/// The peer is told of a mark until it says that it reduced its window.
pub(crate) const ECHO: u8 = 0x40;
/// The peer is to be told that we reduced ours.
pub(crate) const REDUCED: u8 = 0x20;
/// It was ended while no active record was free: see `ends`. How says [`Connection::text_at`], which says
/// nothing else any more.
pub(crate) const ENDED: u8 = 0x10;

impl Connection {
    pub(crate) const fn state(&self) -> State {
        State::from_code(self.state & STATE)
    }

    pub(crate) const fn set_state(&mut self, state: State) {
        self.state = self.state & !STATE | state as u8;
    }

    pub(crate) const fn has(&self, option: u8) -> bool {
        self.options & option != 0
    }

    /// The generation of the handle; 0 before the record is first used.
    pub(crate) const fn generation(&self) -> u32 {
        self.marks & Cd::GENERATION_MAX
    }

    pub(crate) const fn set_generation(&mut self, generation: u32) {
        self.marks = self.marks & !Cd::GENERATION_MAX | generation & Cd::GENERATION_MAX;
    }

    /// When text last came or went.
    pub(crate) const fn text_at(&self) -> u8 {
        (self.marks >> 24) as u8
    }

    pub(crate) const fn set_text_at(&mut self, units: u8) {
        self.marks = self.marks & Cd::GENERATION_MAX | (units as u32) << 24;
    }

    /// Whether all of [`ECN`] and its siblings in `marks` are set.
    pub(crate) const fn is_notified(&self, marks: u8) -> bool {
        self.state & marks == marks
    }

    pub(crate) const fn notify(&mut self, marks: u8) {
        self.state |= marks;
    }

    pub(crate) const fn unnotify(&mut self, marks: u8) {
        self.state &= !marks;
    }

    /// Shift of the windows the peer tells us.
    pub(crate) const fn snd_scale(&self) -> u8 {
        self.scales & 15
    }

    /// Shift of the windows we tell.
    pub(crate) const fn rcv_scale(&self) -> u8 {
        self.scales >> 4
    }

    /// Both 0 to 14.
    pub(crate) const fn set_scales(&mut self, snd: u8, rcv: u8) {
        self.scales = rcv << 4 | snd & 15;
    }

    /// The active record's index; `None` for an idle connection.
    pub(crate) const fn active(&self) -> Option<u32> {
        if self.active == NONE || self.has(LISTED) { None } else { Some(self.active) }
    }
}

impl Linked for Connection {
    fn link(&mut self) -> &mut u32 {
        &mut self.active
    }
}

/// Parts beyond holes that are remembered for SACK blocks: as many as a header has room for.
pub(crate) const SACKS: usize = 4;

/// Places in the scoreboard that are remembered.
pub(crate) const FINGERS: usize = 2;

/// A range of sequence numbers, empty if both are equal.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub(crate) struct Range {
    pub(crate) left: SeqNum,
    /// The number after the last.
    pub(crate) right: SeqNum,
}

impl Range {
    pub(crate) fn is_empty(self) -> bool {
        self.left == self.right
    }

    /// Whether the two overlap or meet.
    pub(crate) fn touches(self, other: Self) -> bool {
        self.left.at_or_before(other.right) && other.left.at_or_before(self.right)
    }
}

/// What a connection keeps while data is in flight, queued or unread, or while it opens or
/// closes: six cache lines, taken from a table of their own and given back.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub(crate) struct Active {
    // Whose it is and where it stands.
    pub(crate) connection: u32,
    /// [`ACK_NOW`] and its siblings below.
    pub(crate) flags: u32,
    pub(crate) out_next: u32,
    pub(crate) event_next: u32,
    place: Place,
    /// Retransmission or persist timer; [`Instant::NEVER`] when off. Nanoseconds.
    rto_at: u64,
    /// Delayed-acknowledgement timer.
    ack_at: u64,
    /// Acceptance, handshake, FIN-WAIT-2.
    life_at: u64,
    /// Until then nothing more is answered that an acknowledgement could answer for ever.
    challenge_at: u64,
    /// Since when something has been unacknowledged without progress. Nanoseconds.
    pub(crate) stalled_since: u64,

    // Send sequence space.
    pub(crate) snd_nxt: SeqNum,
    /// The highest `snd_nxt` ever; it stays when a retransmission timeout pulls `snd_nxt` back.
    pub(crate) snd_max: SeqNum,
    /// The sequence number after the last byte queued.
    pub(crate) snd_end: SeqNum,
    pub(crate) snd_wl1: SeqNum,
    pub(crate) snd_wl2: SeqNum,
    /// The largest window the peer ever offered, in bytes.
    pub(crate) snd_wnd_max: u32,
    pub(crate) snd_list: ChunkList,
    /// The chunk that `snd_nxt` was last found in, or `NONE`.
    pub(crate) snd_cursor: u32,

    // Congestion (RFC 5681, 6582), in bytes.
    pub(crate) cwnd: u32,
    pub(crate) ssthresh: u32,
    pub(crate) recover: SeqNum,
    pub(crate) dup_acks: u16,
    pub(crate) backoff: u8,
    pub(crate) tries: u8,

    // Round-trip time (RFC 6298), in microseconds.
    pub(crate) srtt_us: u32,
    pub(crate) rttvar_us: u32,

    // Receive sequence space.
    /// What we acknowledge.
    pub(crate) rcv_ack: SeqNum,
    /// The acknowledgement number of the last segment sent (RFC 7323 Last.ACK.sent).
    pub(crate) last_ack_sent: SeqNum,
    /// The application has committed what lies before; its buffers are free.
    pub(crate) rcv_committed: SeqNum,
    /// The application was given what lies before.
    pub(crate) rcv_given: SeqNum,
    /// In-order bytes, from `rcv_committed` on.
    pub(crate) rcv_list: ChunkList,
    /// The chunk that `rcv_given` was last found in, or `NONE`.
    pub(crate) rcv_cursor: u32,
    /// The last chunk of the highest run beyond a hole, or `NONE`: see `reassembly`.
    pub(crate) ooo_top: u32,
    /// What came twice and was not yet reported (RFC 2883).
    pub(crate) duplicate: Range,
    /// Why it ended, once CLOSED: [`crate::Reason`].
    pub(crate) reason: u16,
    /// The pool it is counted for; [`u16::MAX`] once it is nobody's.
    pub(crate) pool: u16,
    /// Offset of this connection's timestamp clock.
    pub(crate) ts_offset: u32,
    /// When the sole flight was sent, if there is one: see `sole_flight`. Microseconds.
    pub(crate) sole_sent: u32,
    /// Segments with text since the last acknowledgement that left.
    pub(crate) segments_owed: u8,
    /// Segments that are still acknowledged at once ([`crate::TcpConfig::quick_acks`]).
    pub(crate) quick_acks: u8,
    /// How often the path has turned out narrower.
    pub(crate) narrowings: u8,
    /// Acknowledgements owed to segments beyond a hole, one each, as far as the peer counts.
    pub(crate) duplicates_owed: u8,
    /// Flights before this one have arrived, are lost, or were sent again: see `scoreboard`.
    pub(crate) undecided: u32,

    /// What is in flight and how its losses are mended.
    pub(crate) recovery: Recovery,
    /// Where the last SACK blocks began.
    pub(crate) fingers: [u32; FINGERS],
    pub(crate) hystart: HyStart,
    pub(crate) cubic: Cubic,

    // The last line: what few segments touch. It is left as it was when the record is given back, and
    // taken as it is, so that most connections never fetch it: what must be zero then is zero whenever
    // nothing lies beyond a hole, and a flag says of the rest whether it says something.
    /// What lies beyond holes, the part that grew last first (RFC 2018 section 4).
    pub(crate) sacks: [Range; SACKS],
    /// Chunks beyond holes, and records of their runs.
    pub(crate) ooo_count: u32,
    /// The other runs beyond holes: the root of their tree, or `NONE`.
    pub(crate) ooo_runs: u32,
    /// The FIN's sequence number, if [`FIN_SEEN`].
    pub(crate) fin_seq: SeqNum,
    pub(crate) wait_next: u32,
    pub(crate) wait_prev: u32,
    /// Without SACK, in recovery: duplicates widen the window up to here, and since when; see
    /// `congestion`.
    pub(crate) inflate_to: u32,
    pub(crate) inflate_since: u32,
    /// The last ICMP error about a segment in flight, type and code, if [`SOFT_ERROR`] (MUST-47).
    pub(crate) soft_error: u16,
    spare: u16,
}

const _: () = assert!(size_of::<Active>() == 384);
/// Bytes of the lines that most segments touch.
const HOT: usize = 5 * 64;
const _: () = assert!(core::mem::offset_of!(Active, sacks) == HOT);

/// An acknowledgement must leave without delay.
pub(crate) const ACK_NOW: u32 = 1;
/// One segment at `snd_una` must be sent again.
pub(crate) const RETRANSMIT: u32 = 1 << 1;
/// The application closed; FIN follows `snd_end`.
pub(crate) const FIN_QUEUED: u32 = 1 << 2;
/// The peer's FIN is known (`fin_seq`), perhaps beyond a hole.
pub(crate) const FIN_SEEN: u32 = 1 << 3;
/// The peer's FIN was reached and counted in `rcv_nxt`.
pub(crate) const FIN_TAKEN: u32 = 1 << 4;
/// A SYN waits for the application to accept.
pub(crate) const HELD: u32 = 1 << 5;
/// SYN or SYN-ACK must be sent.
pub(crate) const SEND_SYN: u32 = 1 << 6;
/// RST must be sent; nothing else.
pub(crate) const SEND_RST: u32 = 1 << 7;
/// The retransmission timer runs as persist timer (RFC 9293 section 3.8.6.1).
pub(crate) const PERSISTING: u32 = 1 << 8;
/// A zero-window probe must be sent.
pub(crate) const PROBE: u32 = 1 << 9;
/// In fast recovery (RFC 6582).
pub(crate) const RECOVERING: u32 = 1 << 10;
/// Stands in the list of those with something to send.
pub(crate) const ON_OUT_LIST: u32 = 1 << 12;
/// Stands in its queue's list of those with something to tell.
pub(crate) const ON_EVENT_LIST: u32 = 1 << 13;
/// The application was told of the connection, or opened it.
pub(crate) const KNOWN: u32 = 1 << 14;
/// Text the stack would have acknowledged by itself waits until buffers are less scarce.
pub(crate) const WITHHELD: u32 = 1 << 24;
/// Stands in its pool's list of those that wait until buffers are less scarce.
pub(crate) const ON_WAIT_LIST: u32 = 1 << 25;
/// `soft_error` says something.
pub(crate) const SOFT_ERROR: u32 = 1 << 26;
/// Stands in any list.
pub(crate) const ON_A_LIST: u32 = ON_OUT_LIST | ON_EVENT_LIST | ON_WAIT_LIST;
/// To tell: a SYN waits.
pub(crate) const TELL_ACCEPTABLE: u32 = 1 << 16;
/// To tell: the handshake is complete.
pub(crate) const TELL_OPENED: u32 = 1 << 17;
/// To tell: the peer closed.
pub(crate) const TELL_FINISHED: u32 = 1 << 18;
/// To tell: it is gone.
pub(crate) const TELL_CLOSED: u32 = 1 << 19;

/// Text came or went since the connection was last folded, or looked at for idleness.
pub(crate) const TEXTED: u32 = 1 << 28;
/// The peer is being asked whether it is there (RFC 9293 section 3.8.4).
pub(crate) const ASKING: u32 = 1 << 29;
/// The question must be sent.
pub(crate) const ASK: u32 = 1 << 30;
/// R1 is reached: the way to the peer is doubtful (RFC 9293 section 3.8.3).
pub(crate) const DOUBTED: u32 = 1 << 31;

/// What waits to be told.
pub(crate) const TELL: u32 = TELL_ACCEPTABLE | TELL_OPENED | TELL_FINISHED | TELL_CLOSED;

impl Active {
    /// Unfolds a connection: everything an active one knows that follows from the idle record.
    pub(crate) fn unfold(&mut self, index: u32, record: &Connection, ts_offset: u32) {
        let una = record.snd_una;
        let mss = u32::from(record.mss);
        self.as_mut_bytes()[..HOT].fill(0);
        debug_assert!(self.is_last_line_clean(), "what lies beyond holes was not given back");
        self.connection = index;
        self.ts_offset = ts_offset;
        self.rto_at = u64::MAX;
        self.ack_at = u64::MAX;
        self.life_at = u64::MAX;
        self.challenge_at = u64::MAX;
        (self.snd_nxt, self.snd_max, self.snd_end) = (una, una, una);
        // The last segment that told a window came before rcv.nxt, or repeats what is known.
        (self.snd_wl1, self.snd_wl2) = (record.rcv_nxt - 1, una);
        self.snd_wnd_max = record.snd_wnd;
        self.recover = una;
        self.recovery.fack = una;
        self.flags = KNOWN;
        self.cwnd = u32::from(record.cwnd) * mss;
        self.ssthresh = match record.ssthresh {
            u16::MAX => u32::MAX,
            segments => u32::from(segments) * mss,
        };
        self.srtt_us = u32::from(record.srtt) << 8;
        self.rttvar_us = u32::from(record.rttvar) << 8;
        self.rcv_ack = record.rcv_nxt;
        self.last_ack_sent = record.rcv_nxt;
        self.rcv_committed = record.rcv_nxt;
        self.rcv_given = record.rcv_nxt;
    }

    fn is_last_line_clean(&self) -> bool {
        self.sacks.iter().all(|range| range.is_empty())
            && (self.ooo_count, self.ooo_runs) == (0, NONE)
    }

    /// Has the lines fetched that every segment touches.
    #[inline]
    pub(crate) fn prefetch(&self) {
        xtcp_cpu::prefetch_write(self);
        xtcp_cpu::prefetch_write(&self.snd_end);
        xtcp_cpu::prefetch_write(&self.rcv_ack);
        xtcp_cpu::prefetch_write(&self.recovery);
        xtcp_cpu::prefetch_write(&self.fingers);
    }

    /// Folds what the idle record keeps back into it.
    pub(crate) fn fold(&self, record: &mut Connection) {
        let mss = u32::from(record.mss).max(1);
        let segments = |bytes: u32| {
            let nearest = bytes.saturating_add(mss / 2) / mss;
            u16::try_from(nearest).unwrap_or(u16::MAX)
        };
        record.cwnd = segments(self.cwnd).max(1);
        record.ssthresh = segments(self.ssthresh);
        let units = |us: u32| u16::try_from(us.div_ceil(256)).unwrap_or(u16::MAX);
        record.srtt = units(self.srtt_us);
        record.rttvar = units(self.rttvar_us);
        record.active = NONE;
    }

    pub(crate) const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    pub(crate) const fn set(&mut self, flag: u32) {
        self.flags |= flag;
    }

    pub(crate) const fn clear(&mut self, flag: u32) {
        self.flags &= !flag;
    }

    pub(crate) const fn rto_at(&self) -> Instant {
        Instant::from_nanos(self.rto_at)
    }

    pub(crate) const fn ack_at(&self) -> Instant {
        Instant::from_nanos(self.ack_at)
    }

    pub(crate) const fn life_at(&self) -> Instant {
        Instant::from_nanos(self.life_at)
    }

    pub(crate) const fn challenge_at(&self) -> Instant {
        Instant::from_nanos(self.challenge_at)
    }

    pub(crate) const fn set_challenge(&mut self, at: Instant) {
        self.challenge_at = at.as_nanos();
    }

    pub(crate) const fn set_rto(&mut self, at: Instant) {
        self.rto_at = at.as_nanos();
        self.recovery.flags &= !(super::recovery::TAIL_TIMER | super::recovery::REORDER_TIMER);
    }

    pub(crate) const fn set_ack_timer(&mut self, at: Instant) {
        self.ack_at = at.as_nanos();
    }

    pub(crate) const fn set_life(&mut self, at: Instant) {
        self.life_at = at.as_nanos();
    }

    /// Whether nothing is to be done, no timer runs and nothing is held beyond a hole. That it still
    /// stands in the list of those that wait for room does not count, nor an error that ended nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        self.flags & !(KNOWN | TEXTED | ON_WAIT_LIST | SOFT_ERROR) == 0
            && self.rcv_list.is_empty()
            && self.deadline() == Instant::NEVER
            && self.ooo_top == NONE
    }

    /// The earliest of its timers.
    pub(crate) fn deadline(&self) -> Instant {
        let first = self.rto_at.min(self.ack_at).min(self.life_at).min(self.challenge_at);
        Instant::from_nanos(first)
    }
}

impl Linked for Active {
    fn link(&mut self) -> &mut u32 {
        &mut self.out_next
    }
}

impl Timed for Active {
    fn place(&mut self) -> &mut Place {
        &mut self.place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_and_unfolding_keep_what_an_idle_connection_is() {
        let mut record = Connection::read_from_bytes(&[0; 64]).expect("any bytes are a record");
        record.mss = 1460;
        record.snd_una = SeqNum::new(77);
        record.rcv_nxt = SeqNum::new(u32::MAX);
        (record.cwnd, record.ssthresh) = (10, u16::MAX);
        (record.srtt, record.rttvar) = (3, 2);
        let mut active = Active::read_from_bytes(&[0; 384]).expect("any bytes are a record");
        active.as_mut_bytes()[..HOT].fill(0xff);
        active.unfold(5, &record, 9);
        assert_eq!((active.cwnd, active.ssthresh), (14_600, u32::MAX));
        assert_eq!(active.deadline(), Instant::NEVER);
        let mut again = record;
        active.fold(&mut again);
        assert_eq!(again.as_bytes(), record.as_bytes());
    }
}

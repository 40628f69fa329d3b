//! What must be true of every connection between two calls, whatever its peer and its application
//! do. Most of it follows from RFC 9293's own comparisons (section 3.4); the numbers are those of the
//! list of invariants on the page of `tests/simulation`.

use super::Discrepancy;
use crate::stack::Stack;
use crate::table::chunk::{ChunkList, LOST, SACKED};
use crate::table::slots::NONE;
use crate::tcp::record::{Active, Connection, ENDED, FIN_TAKEN, ON_OUT_LIST, TIMESTAMPS};
use crate::tcp::recovery::SOLE;
use crate::tcp::seq::SeqNum;
use crate::tcp::state::State;
use crate::time::Instant;

/// A rule, and whether it is kept.
type Rule = (&'static str, bool);

impl Stack<'_> {
    /// Holds one connection against the rules.
    pub(super) fn check_connection(&self, index: u32) -> Result<(), Discrepancy> {
        let rec = &self.connections[index as usize];
        if rec.state() == State::Closed {
            // It is over; what its application reads in place is all that is left of it.
            return Ok(());
        }
        let Some(active) = rec.active() else {
            let rules = [
                ("I9: an idle connection may send a segment", rec.cwnd >= 1),
                ("an idle connection's window is not behind", is_ahead(rec)),
                ("what was ended without a record has one soon", self.is_told_soon(rec)),
            ];
            return self.judge(index, rules);
        };
        let act = &self.actives[active as usize];
        self.judge(index, self.timer_rules(rec, act))?;
        self.judge(index, number_rules(rec, act))?;
        if rec.state().is_synchronized() {
            self.judge(index, self.sending_rules(rec, act))?;
        }
        self.judge(index, self.receiving_rules(rec, act))
    }

    /// A connection that was ended without an active record is unfolded by the sweep.
    fn is_told_soon(&self, rec: &Connection) -> bool {
        !rec.is_notified(ENDED) || self.sweep.timeout().is_some()
    }

    fn judge<const RULES: usize>(
        &self,
        index: u32,
        rules: [Rule; RULES],
    ) -> Result<(), Discrepancy> {
        match rules.into_iter().find(|(_, kept)| !kept) {
            Some((rule, _)) => Err(Discrepancy::Connection { connection: self.cd(index), rule }),
            None => Ok(()),
        }
    }

    fn timer_rules(&self, rec: &Connection, act: &Active) -> [Rule; 2] {
        let rto = act.rto_at();
        let (off, busy) = (rto == Instant::NEVER, act.has(ON_OUT_LIST));
        let waits = rec.state().is_synchronized() && act.snd_max != rec.snd_una;
        [
            (
                "I10: the retransmission timer is no further than its limit",
                off || rto.since(self.now) <= self.tcp.rto_max,
            ),
            ("what is in flight has a timer, or is about to be sent", !off || !waits || busy),
        ]
    }

    fn sending_rules(&self, rec: &Connection, act: &Active) -> [Rule; 3] {
        let options = if rec.has(TIMESTAMPS) { 12 } else { 0 };
        let segment = u32::from(rec.mss.saturating_sub(options).max(1));
        let queued = match self.unbroken(act.snd_list) {
            None => act.snd_list.is_empty() && act.snd_end.at_or_before(rec.snd_una),
            Some((first, end)) => {
                let kept = self.chunks.get(act.snd_list.head).end().after(rec.snd_una);
                first.at_or_before(rec.snd_una) && kept && end == act.snd_end
            }
        };
        [
            ("I9: the congestion window is a segment at least", act.cwnd >= segment),
            ("what is not acknowledged is kept, and nothing else", queued),
            ("the scoreboard adds up", self.scoreboard_adds_up(rec, act)),
        ]
    }

    fn receiving_rules(&self, rec: &Connection, act: &Active) -> [Rule; 5] {
        let text_end = if act.has(FIN_TAKEN) { rec.rcv_nxt - 1 } else { rec.rcv_nxt };
        let unread = match self.unbroken(act.rcv_list) {
            None => act.rcv_list.is_empty() && act.rcv_committed == text_end,
            Some((first, end)) => {
                let kept = self.chunks.get(act.rcv_list.head).end().after(act.rcv_committed);
                first.at_or_before(act.rcv_committed) && kept && end == text_end
            }
        };
        let in_order =
            act.rcv_committed.at_or_before(act.rcv_given) && act.rcv_given.at_or_before(text_end);
        [
            ("the window's right edge is not behind", is_ahead(rec)),
            ("committed, given, received: in this order", in_order),
            ("nothing is acknowledged that has not come", act.rcv_ack.at_or_before(text_end)),
            ("I7: what is not committed is kept, and nothing else", unread),
            (
                "I7: what is beyond holes lies in order within the window",
                self.holes_are_told(rec, act),
            ),
        ]
    }

    /// Where a list begins and ends whose chunks follow each other; `None` if it is empty or they do
    /// not.
    fn unbroken(&self, list: ChunkList) -> Option<(SeqNum, SeqNum)> {
        let (mut index, mut end) = (list.head, None);
        let first = (index != NONE).then(|| self.chunks.get(index).seq)?;
        while index != NONE {
            let chunk = self.chunks.get(index);
            let follows = end.is_none_or(|end| chunk.seq == end);
            if !follows || chunk.len == 0 || (chunk.next == NONE) != (index == list.tail) {
                return None;
            }
            end = Some(chunk.end());
            index = chunk.next;
        }
        end.map(|end| (first, end))
    }

    /// Flights lie in order and without gaps from `snd.una` on, and their sums are right.
    fn scoreboard_adds_up(&self, rec: &Connection, act: &Active) -> bool {
        let (mut sacked, mut lost, mut index) = (0, 0, act.recovery.flights.head);
        let mut expected = None;
        while index != NONE {
            let flight = self.chunks.flight(index);
            if expected.is_some_and(|seq| seq != flight.seq) || flight.seq.before(rec.snd_una) {
                return false;
            }
            let len = u32::from(flight.len);
            sacked += if flight.has(SACKED) { len } else { 0 };
            lost += if flight.has(LOST) { len } else { 0 };
            expected = Some(flight.end());
            index = flight.next;
        }
        let within = expected.is_none_or(|end| end.at_or_before(act.snd_max));
        let sole_is_all = !act.recovery.has(SOLE)
            || expected.is_none() && rec.snd_una.before(act.snd_nxt) && act.snd_nxt == act.snd_max;
        within && sole_is_all && (sacked, lost) == (act.recovery.sacked, act.recovery.lost)
    }

    /// What waits beyond holes lies in order, without overlaps, within the window that was offered;
    /// between two runs there is a gap.
    fn holes_are_told(&self, rec: &Connection, act: &Active) -> bool {
        let (mut end, mut count) = (rec.rcv_nxt, 0);
        for run in self.runs_beyond_holes(act) {
            if !run.start.after(end) {
                return false;
            }
            end = run.start;
            count += u32::from(run.is_recorded);
            let mut index = self.chunks.get(run.last).next;
            loop {
                let chunk = self.chunks.get(index);
                if chunk.seq != end || chunk.len == 0 {
                    return false;
                }
                (end, count) = (chunk.end(), count + 1);
                if index == run.last {
                    break;
                }
                index = chunk.next;
            }
        }
        end.at_or_before(rec.rcv_adv + 1) && count == act.ooo_count
    }
}

/// I2, and what is queued beside what is sent. Beyond the largest window that was ever offered lies
/// one number at most: a probe's byte, a FIN or a SYN.
fn number_rules(rec: &Connection, act: &Active) -> [Rule; 4] {
    let (una, nxt, max, end) = (rec.snd_una, act.snd_nxt, act.snd_max, act.snd_end);
    let in_order = una.at_or_before(nxt) && nxt.at_or_before(max);
    [
        ("I2: SND.UNA =< SND.NXT =< the furthest ever sent", in_order),
        (
            "I2, I3: nothing is sent beyond the largest window",
            max.since(una) <= act.snd_wnd_max + 1,
        ),
        ("nothing is sent that is not queued, but a FIN", max.at_or_before(end + 1)),
        ("what is queued is not behind, but for a FIN", una.at_or_before(end + 1)),
    ]
}

/// The peer may use the window up, and its FIN needs none.
fn is_ahead(rec: &Connection) -> bool {
    rec.rcv_nxt.at_or_before(rec.rcv_adv + 1)
}

//! The ACK field (RFC 9293 section 3.10.7.4, fifth): what it frees, and what it says of the path.

use super::Tcb;
use super::arrives::payload_length;
use super::record::{FIN_QUEUED, FIN_TAKEN, PERSISTING, RETRANSMIT, SACK, TEXTED, TIMESTAMPS};
use super::recovery::News;
use super::seq::SeqNum;
use super::state::State;
use crate::counters::{Outcome, Stop};
use crate::table::slots::NONE;
use crate::time::Instant;
use crate::wire::tcp::{Flags, Segment};

impl Tcb<'_, '_> {
    /// The ACK field in the synchronized states.
    pub(super) fn process_ack(&mut self, seg: &Segment<'_>) -> Outcome {
        let ack = SeqNum::new(seg.ack);
        self.check_ack_range(ack)?;
        let windows_equal = self.window_of(seg) == self.rec.snd_wnd;
        let repeats = ack == self.rec.snd_una && windows_equal && self.is_duplicate_ack(seg);
        let mut news = News { acked: ack.since(self.rec.snd_una), ..News::default() };
        if news.acked > 0 {
            self.advance_una(ack, &mut news);
        }
        self.take_sack_blocks(seg, &mut news);
        if news.acked > 0 {
            self.sample_round_trip(&news, seg);
        }
        news.congestion = self.take_congestion_echo(seg, &news);
        if self.is_selective() {
            self.on_selective_ack(ack, seg, &news);
        } else if news.acked > 0 {
            self.on_new_ack(ack, &news);
            self.undo_if_spurious(seg, &news);
        } else if repeats {
            self.on_duplicate_ack();
        }
        if news.acked > 0 {
            self.restart_retransmission_timer();
        }
        self.find_first_lost();
        self.arm_reorder_timer();
        debug_assert!(self.scoreboard_is_whole(), "the scoreboard contradicts itself");
        self.update_window(seg, ack);
        if self.is_fin_acknowledged() {
            self.on_fin_acknowledged();
        }
        if self.rec.state() == State::TimeWait && seg.flags.contains(Flags::FIN) {
            self.restart_time_wait();
        }
        Ok(())
    }

    /// An ACK of what was never sent is answered and ignored; so is one older than any window
    /// could explain (RFC 5961 section 5.2).
    #[inline]
    fn check_ack_range(&mut self, ack: SeqNum) -> Outcome {
        if ack.after(self.act.snd_max) {
            self.challenge();
            return Err(Stop::AckOfUnsent);
        }
        if ack.before(self.rec.snd_una - self.act.snd_wnd_max) {
            self.challenge();
            return Err(Stop::AckTooOld);
        }
        Ok(())
    }

    /// `snd.una` moves: buffers are freed.
    fn advance_una(&mut self, ack: SeqNum, news: &mut News) {
        self.retire_flights(ack, news);
        self.rec.snd_una = ack;
        let act = &mut *self.act;
        if act.snd_nxt.before(ack) {
            act.snd_nxt = ack;
            act.snd_cursor = NONE;
        }
        act.snd_cursor = self.chunks.kept(act.snd_cursor, ack);
        act.recovery.text_cursor = self.chunks.kept(act.recovery.text_cursor, ack);
        act.recover = act.recover.latest(ack - BEHIND_MAX);
        self.chunks.release_to(self.transmit, &mut act.snd_list, ack, NONE);
        if ack == act.snd_max {
            act.clear(RETRANSMIT);
        }
        act.set(TEXTED);
        act.backoff = 0;
        act.stalled_since = self.now.as_nanos();
    }

    /// RFC 6298 (5.2) and (5.3).
    fn restart_retransmission_timer(&mut self) {
        self.act.clear(PERSISTING);
        if self.rec.snd_una == self.act.snd_max {
            self.act.set_rto(Instant::NEVER);
        } else {
            self.start_retransmission_timer();
        }
    }

    /// RFC 5681 section 2: outstanding data, no text, no SYN or FIN, nothing new.
    fn is_duplicate_ack(&self, seg: &Segment<'_>) -> bool {
        self.rec.snd_una != self.act.snd_max
            && payload_length(seg) == 0
            && !seg.flags.contains(Flags::FIN)
            && !self.act.has(PERSISTING)
    }

    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
    //# If SND.UNA =< SEG.ACK =< SND.NXT, the send window should be updated.  If (SND.WL1 <
    //# SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK)), set SND.WND <- SEG.WND
    #[inline]
    fn update_window(&mut self, seg: &Segment<'_>, ack: SeqNum) {
        let seq = SeqNum::new(seg.seq);
        let newer = self.act.snd_wl1.before(seq)
            || self.act.snd_wl1 == seq && self.act.snd_wl2.at_or_before(ack);
        if newer && !ack.before(self.rec.snd_una) {
            self.take_window(seg, self.window_of(seg));
        }
    }

    /// The peer's window is now `window` bytes.
    #[inline]
    pub(super) fn take_window(&mut self, seg: &Segment<'_>, window: u32) {
        let act = &mut *self.act;
        self.rec.snd_wnd = window;
        act.snd_wnd_max = act.snd_wnd_max.max(window);
        act.snd_wl1 = SeqNum::new(seg.seq);
        act.snd_wl2 = SeqNum::new(seg.ack);
        if act.has(PERSISTING) {
            // What the probes left unacknowledged goes again, as after a timeout.
            self.presume_lost();
            self.stop_persisting_if_possible();
        }
    }

    /// Unless the window is still too small to be worth using: then the timer goes on.
    fn stop_persisting_if_possible(&mut self) {
        if self.next_lost().or_else(|| self.next_text()).is_none() {
            return;
        }
        let act = &mut *self.act;
        act.clear(PERSISTING);
        act.backoff = 0;
        act.stalled_since = self.now.as_nanos();
        act.set_rto(Instant::NEVER);
    }

    #[inline]
    fn window_of(&self, seg: &Segment<'_>) -> u32 {
        u32::from(seg.window) << self.rec.snd_scale()
    }

    #[inline]
    fn is_fin_acknowledged(&self) -> bool {
        self.act.has(FIN_QUEUED) && self.rec.snd_una == self.act.snd_end + 1
    }

    /// The acknowledgement number to send: in XTCP what the application has committed, in an
    /// ordinary group what has arrived.
    #[inline]
    pub(super) fn ack_number(&self) -> SeqNum {
        if self.act.rcv_ack == self.text_end() { self.rec.rcv_nxt } else { self.act.rcv_ack }
    }

    /// The sequence number after the last byte of in-order text.
    #[inline]
    pub(crate) fn text_end(&self) -> SeqNum {
        if self.act.has(FIN_TAKEN) { self.rec.rcv_nxt - 1 } else { self.rec.rcv_nxt }
    }

    /// Takes the options of a SYN (RFC 9293 section 3.7.1, RFC 7323 sections 2 and 3).
    pub(super) fn take_syn_options(&mut self, seg: &Segment<'_>) {
        let default_mss = if self.rec.has(super::record::V6) { 1220 } else { 536 };
        let offered = seg.options.mss.unwrap_or(default_mss).max(super::congestion::MSS_MIN);
        // `rec.mss` holds what our link takes.
        self.rec.mss = self.rec.mss.min(offered);
        match seg.options.window_scale {
            Some(scale) => self.rec.set_scales(scale.min(SCALE_MAX), self.own_scale()),
            None => self.rec.set_scales(0, 0),
        }
        if let (true, Some(stamps)) = (self.tcp.timestamps, seg.options.timestamps) {
            self.rec.options |= TIMESTAMPS;
            self.rec.ts_recent = stamps.value;
        } else {
            self.rec.options &= !TIMESTAMPS;
        }
        if self.tcp.sack && seg.options.sack_permitted {
            self.rec.options |= SACK;
        } else {
            self.rec.options &= !SACK;
        }
        self.take_syn_ecn(seg.flags);
        self.start_congestion();
    }

    /// The window scale we offer.
    pub(super) fn own_scale(&self) -> u8 {
        self.tcp.window_scale.min(SCALE_MAX)
    }
}

/// How far behind `snd.una` the end of the last recovery may lie: at twice as much it would seem to be
/// ahead. No acknowledgement covers more than this.
const BEHIND_MAX: u32 = 1 << 30;

/// RFC 7323 section 2.3.
const SCALE_MAX: u8 = 14;

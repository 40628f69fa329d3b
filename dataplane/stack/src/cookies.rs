//! SYN cookies (RFC 4987 section 3.6): a handshake of which nothing is kept until its client has
//! proved that it is where it says it is.
//!
//! The initial sequence number carries 28 bits of a keyed function of the connection, the client's
//! number, the epoch and what the SYN said, and, in clear, which of two epochs and which of eight
//! segment sizes. The rest of what it said the client keeps for us: in the low bits of our
//! timestamp, which it echoes. Without timestamps there is no window scale and no selective
//! acknowledgement.
//! Cookies are for groups that accept by themselves: where the application decides, the SYN-ACK is
//! its word.

use core::time::Duration;

use crate::counters::{Count, Outcome, Stop};
use crate::event::Reason;
use crate::frames_in::Arrival;
use crate::secret::{Said, Tuple};
use crate::stack::{Stack, link_mss};
use crate::tcp::seq::SeqNum;
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::tcp::{Flags, Header, Options, Segment, Timestamps};
use crate::world::Transmit;

/// A cookie is good for this long at least, and twice as long at most.
const EPOCH: Duration = Duration::from_secs(64);

/// Segment sizes a cookie can say; a client gets the largest that is not beyond its own.
const SIZES: [u16; 8] = [48, 216, 536, 1220, 1360, 1400, 1440, 1460];

/// Bits of a timestamp that carry what the SYN said.
const SAID: u32 = 0x3f;
/// In the four low ones its window scale; this is none.
const NO_SCALE: u32 = 15;
/// SACK-permitted.
const SACK: u32 = 16;

impl Stack<'_> {
    /// Answers a SYN and forgets it.
    #[cold]
    pub(crate) fn answer_by_cookie(
        &mut self,
        arrival: &Arrival<'_>,
        group: u16,
        out: &mut impl Transmit,
    ) -> Outcome {
        let segment = &arrival.segment;
        let tuple = self.tuple_of_arrival(arrival);
        let v6 = arrival.remote.is_ipv6();
        let default_mss = if v6 { 1220 } else { 536 };
        let offered = segment.options.mss.unwrap_or(default_mss);
        let size = SIZES.iter().rposition(|&size| size <= offered).unwrap_or(0);
        let timestamps = segment.options.timestamps.filter(|_| self.tcp.timestamps);
        let scale = segment.options.window_scale.filter(|_| timestamps.is_some());
        let sack = self.tcp.sack && timestamps.is_some() && segment.options.sack_permitted;
        let options =
            scale.map_or(NO_SCALE, |scale| scale.min(14).into()) | (SACK * u32::from(sack));
        let said = Said { size, options };
        let header = Header {
            src_port: tuple.local_port,
            dst_port: tuple.remote_port,
            seq: self.secret.cookie(&tuple, segment.seq, epoch(self.now), said),
            ack: segment.seq.wrapping_add(1),
            flags: Flags::SYN | Flags::ACK,
            window: self.cookie_window(group),
            urgent: 0,
            options: Options {
                mss: Some(link_mss(self.mtu, v6)),
                window_scale: scale.map(|_| self.tcp.window_scale.min(14)),
                sack_permitted: sack,
                timestamps: timestamps.map(|theirs| Timestamps {
                    value: self.timestamp_that_says(options, &tuple),
                    echo: theirs.value,
                }),
                ..Options::NONE
            },
        };
        self.cookies_until = self.now + 2 * EPOCH;
        self.counters.count(Count::CookiesOut);
        self.reply(arrival.from, arrival.remote, arrival.local, &header, out);
        Ok(())
    }

    /// Our timestamp with these low bits: the latest that is not in the future.
    fn timestamp_that_says(&self, said: u32, tuple: &Tuple) -> u32 {
        let ms = (self.now.as_millis() & 0xffff_ffff) as u32;
        let clock = ms.wrapping_add(self.secret.timestamp_offset(tuple));
        let value = clock & !SAID | said;
        let ahead = (clock & SAID) < said;
        value.wrapping_sub(if ahead { SAID + 1 } else { 0 })
    }

    /// An ACK to a port on which a group listens: if it brings back a cookie, its connection is
    /// made now.
    ///
    /// # Errors
    /// [`Stop::NoConnection`] if no cookie is out, [`Stop::CookieForged`] if it is none of ours: RST
    /// is the answer to both. Without room for a connection there is no answer: the client will
    /// try again.
    #[cold]
    pub(crate) fn on_ack_of_cookie(&mut self, arrival: &Arrival<'_>, group: u16) -> Outcome {
        let segment = &arrival.segment;
        let automatic = self.groups[usize::from(group)].accept_by(self.now).is_none();
        if !automatic || self.now >= self.cookies_until || segment.flags.contains(Flags::SYN) {
            return Err(Stop::NoConnection);
        }
        let tuple = self.tuple_of_arrival(arrival);
        let cookie = segment.ack.wrapping_sub(1);
        let (size, parity) = (cookie as usize & 7, u64::from(cookie >> 3 & 1));
        let now = epoch(self.now);
        let made = now - (now & 1 ^ parity).min(now);
        let irs = segment.seq.wrapping_sub(1);
        let options = segment.options.timestamps.map_or(NO_SCALE, |stamps| stamps.echo & SAID);
        if self.secret.cookie(&tuple, irs, made, Said { size, options }) != cookie {
            return Err(Stop::CookieForged);
        }
        self.counters.count(Count::CookiesBack);
        self.open_by_cookie(arrival, &tuple, group, Said { size, options })
    }

    /// The handshake as it would have been, and its last segment.
    fn open_by_cookie(
        &mut self,
        arrival: &Arrival<'_>,
        tuple: &Tuple,
        group: u16,
        said: Said,
    ) -> Outcome {
        let segment = &arrival.segment;
        let scale = said.options & 15;
        let syn = Segment {
            seq: segment.seq.wrapping_sub(1),
            flags: Flags::SYN,
            options: Options {
                mss: Some(SIZES[said.size]),
                window_scale: (scale != NO_SCALE).then_some(scale as u8),
                sack_permitted: said.options & SACK != 0,
                ..segment.options
            },
            payload: &[],
            ..*segment
        };
        let (index, active) = self.create(tuple, arrival.local, group)?;
        let iss = SeqNum::new(segment.ack) - 1;
        let promised = self.cookie_window(group).into();
        let mut tcb = self.tcb(index, active);
        tcb.rec.set_state(State::SynReceived);
        tcb.rec.snd_una = iss;
        (tcb.act.snd_nxt, tcb.act.snd_max, tcb.act.snd_end) = (iss + 1, iss + 1, iss + 1);
        tcb.take_syn(&syn);
        // RFC 9293 SHLD-14: whatever is free now, so much was offered.
        tcb.rec.rcv_adv = tcb.rec.rcv_nxt + promised;
        tcb.rec.heard_ms = (tcb.now.as_millis() & 0xffff_ffff) as u32;
        self.settle(index);
        self.with_connection(index, |tcb| {
            let outcome = tcb.on_segment(segment, false);
            if tcb.rec.state() == State::SynReceived {
                // A cookie is good once or not at all: half a connection is what it avoids.
                tcb.gone(Reason::Refused);
            }
            outcome
        })?
    }

    /// The window offered with a cookie: the same whenever its client comes back.
    fn cookie_window(&self, group: u16) -> u16 {
        u16::try_from(self.groups[usize::from(group)].window_max).unwrap_or(u16::MAX)
    }

    fn tuple_of_arrival(&self, arrival: &Arrival<'_>) -> Tuple {
        Tuple {
            remote: arrival.remote,
            remote_port: arrival.segment.src_port,
            local: self.local_address(arrival.local),
            local_port: arrival.segment.dst_port,
        }
    }
}

const fn epoch(now: Instant) -> u64 {
    now.as_millis() / EPOCH.as_millis() as u64
}

//! What is kept of one client: one cache line.

/// One client. Everything else is computed: its address from its number, its bytes from its
/// sequence numbers.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Client {
    /// SND.UNA.
    pub(crate) snd_una: u32,
    /// SND.NXT.
    pub(crate) snd_nxt: u32,
    /// The sequence number after the last byte that is to be sent.
    pub(crate) snd_end: u32,
    /// SND.WND in bytes.
    pub(crate) snd_wnd: u32,
    /// RCV.NXT.
    pub(crate) rcv_nxt: u32,
    /// The last acknowledgement number that was sent.
    pub(crate) rcv_acked: u32,
    /// Our initial sequence number less the server's: an echoed byte's place in the request.
    pub(crate) echo_shift: u32,
    /// TS.Recent (RFC 7323 section 4.3).
    pub(crate) ts_recent: u32,
    /// Bytes of the answer that are to come; 0: no request is under way.
    pub(crate) answer_left: u32,
    /// Requests begun in this step (24 bits), and of which step they are (8 bits).
    pub(crate) requests: u32,
    /// When the request was to begin, in units of 64 ns.
    pub(crate) begun_at: u32,
    /// When the retransmission timer expires, in milliseconds.
    pub(crate) rto_at: u32,
    /// Smoothed round trip in milliseconds, times 8.
    pub(crate) srtt: u16,
    /// Its variation in milliseconds, times 4.
    pub(crate) rttvar: u16,
    /// Largest segment that may be sent, options included.
    pub(crate) mss: u16,
    /// When an acknowledgement became due, in milliseconds.
    pub(crate) ack_since: u16,
    pub(crate) state: State,
    pub(crate) marks: Marks,
    /// Retransmissions of what is oldest.
    pub(crate) retries: u8,
    /// Congestion window in segments.
    pub(crate) cwnd: u8,
    /// Slow start threshold in segments.
    pub(crate) ssthresh: u8,
    /// Duplicate acknowledgements in a row.
    pub(crate) dup_acks: u8,
    /// The server's window scale.
    pub(crate) scale: u8,
    /// Congestion avoidance: segments acknowledged since the window last grew.
    pub(crate) acked: u8,
}

const _: () = assert!(size_of::<Client>() == 64);

/// A client's state (RFC 9293 section 3.3.2). Its clients do not listen, so there is no LISTEN and
/// no SYN-RECEIVED, and it answers the server's end with its own at once, so there is no CLOSE-WAIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    #[default]
    Closed,
    SynSent,
    Established,
    FinWait1,
    FinWait2,
    Closing,
    LastAck,
    /// Its four-tuple can be used again at once with a higher sequence number (RFC 6191).
    TimeWait,
}

/// Yes or no, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks(u8);

impl Marks {
    /// It stands in a slot of the timer wheel.
    pub(crate) const IN_WHEEL: Self = Self(1);
    /// Its retransmission timer runs.
    pub(crate) const TIMED: Self = Self(2);
    /// It owes an acknowledgement.
    pub(crate) const ACK_OWED: Self = Self(4);
    /// It stands in the queue of delayed acknowledgements.
    pub(crate) const ACK_QUEUED: Self = Self(8);
    /// Something was sent again that is not yet acknowledged.
    pub(crate) const RESENT: Self = Self(16);
    /// A FIN follows the last byte.
    pub(crate) const FIN: Self = Self(32);
    /// The server sends timestamps.
    pub(crate) const TIMESTAMPS: Self = Self(64);
    /// What says where a client stands, not what it is: survives a reconnection.
    pub(crate) const PLACES: Self = Self(1 | 8);

    pub(crate) const fn has(self, mark: Self) -> bool {
        self.0 & mark.0 != 0
    }

    pub(crate) const fn set(&mut self, mark: Self) {
        self.0 |= mark.0;
    }

    pub(crate) const fn clear(&mut self, mark: Self) {
        self.0 &= !mark.0;
    }

    pub(crate) const fn only(self, mark: Self) -> Self {
        Self(self.0 & mark.0)
    }
}

/// Where in [`Client::requests`] the step's number begins.
const STEP_SHIFT: u32 = 24;

impl Client {
    /// Requests begun in this step.
    pub(crate) fn requests_in(&self, step: u8) -> u32 {
        if self.requests >> STEP_SHIFT == u32::from(step) {
            self.requests & ((1 << STEP_SHIFT) - 1)
        } else {
            0
        }
    }

    /// One more is begun in this step.
    pub(crate) fn count_request(&mut self, step: u8) {
        let count = self.requests_in(step) + 1;
        self.requests = u32::from(step) << STEP_SHIFT | count & ((1 << STEP_SHIFT) - 1);
    }

    /// The sequence number after everything that is to be sent, the FIN included.
    pub(crate) const fn snd_last(&self) -> u32 {
        self.snd_end.wrapping_add(self.marks.has(Marks::FIN) as u32)
    }

    /// Bytes in flight.
    pub(crate) const fn flight(&self) -> u32 {
        self.snd_nxt.wrapping_sub(self.snd_una)
    }
}

/// Whether `a` comes before `b` in sequence space.
pub(crate) const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

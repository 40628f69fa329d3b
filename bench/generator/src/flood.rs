//! Forged segments from addresses that are nobody's, and what the server answers them: the flood that
//! a server has to live through, beside clients that are served meanwhile.

use xtcp_stack::Transmit;
use xtcp_stack::wire::tcp::{Flags, Header, Options, Timestamps};

use crate::path::Path;
use crate::pattern::mix;
use crate::step::Forged;

/// Announced by forged segments; a size like any other.
const MSS_V4: u16 = 1460;
const MSS_V6: u16 = 1440;
const WINDOW: u16 = 64_240;
const WINDOW_SCALE: u8 = 7;

/// Where forged segments come from: a stream of numbers that does not repeat, made from a seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forger {
    state: u64,
    timestamps: bool,
}

impl Forger {
    pub(crate) const fn new(seed: u64, timestamps: bool) -> Self {
        Self { state: mix(seed ^ 0x2545_f491_4f6c_dd1d), timestamps }
    }

    /// SplitMix64.
    const fn lot(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// Sends one forged segment; says how long its frame is, if the device had room for it.
    pub(crate) fn send(
        &mut self,
        kind: Forged,
        path: &Path,
        out: &mut impl Transmit,
    ) -> Option<usize> {
        let from = path.population().stranger(self.lot())?;
        let header = self.header(kind, from.0.is_ipv4());
        path.send_forged(from, header, out)
    }

    /// What a client would send: the SYN of ours, or an ACK that could bring back a cookie.
    const fn header(&mut self, kind: Forged, v4: bool) -> Header {
        let (numbers, stamps) = (self.lot(), self.lot());
        let timestamps = match kind {
            _ if !self.timestamps => None,
            Forged::Syn => Some(Timestamps { value: stamps as u32, echo: 0 }),
            Forged::Ack => Some(Timestamps { value: stamps as u32, echo: (stamps >> 32) as u32 }),
        };
        let (flags, ack, options) = match kind {
            Forged::Syn => {
                let mss = if v4 { MSS_V4 } else { MSS_V6 };
                let window_scale = Some(WINDOW_SCALE);
                let options = Options { mss: Some(mss), window_scale, timestamps, ..Options::NONE };
                (Flags::SYN, 0, options)
            }
            Forged::Ack => {
                (Flags::ACK, (numbers >> 32) as u32, Options { timestamps, ..Options::NONE })
            }
        };
        let seq = numbers as u32;
        // The ports are filled in on the way.
        Header { src_port: 0, dst_port: 0, seq, ack, flags, window: WINDOW, urgent: 0, options }
    }
}

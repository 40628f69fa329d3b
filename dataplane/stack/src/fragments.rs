//! Segments that come in pieces: put together, then taken as if they had come whole.

use crate::counters::{Outcome, Stop};
use crate::frames_in::Carried;
use crate::net::MacClass;
use crate::net::reassembly::{Part, Whole};
use crate::stack::Stack;
use crate::wire::ethernet::MacAddr;
use crate::wire::{ipv6, tcp};
use crate::world::{Checksum, Transmit};

impl Stack<'_> {
    /// A part of a packet has come, from the station `from`. Only TCP is put together: an ICMP
    /// message that does not fit in a packet is none we act on, and neighbour discovery must not
    /// come so (RFC 6980).
    ///
    /// # Errors
    /// Why it was not taken.
    #[cold]
    pub(crate) fn on_fragment(
        &mut self,
        part: &Part<'_>,
        (from, class): (MacAddr, MacClass),
        out: &mut impl Transmit,
    ) -> Outcome {
        if class != MacClass::Ours {
            return Err(Stop::IpGroup);
        }
        self.interface.local(part.dst).ok_or(Stop::IpForeign)?;
        if !self.interface.is_valid_source(part.src) {
            return Err(Stop::IpSource);
        }
        let taken = self.reassembly.take(part, &mut self.counters, self.now)?;
        let Some(whole) = taken else { return Ok(()) };
        let memory = self.reassembly.lend();
        let payload = self.reassembly.payload(&whole, memory);
        let outcome = self.on_whole(part, &whole, payload, from, out);
        self.reassembly.release(&whole, memory);
        outcome
    }

    fn on_whole(
        &mut self,
        part: &Part<'_>,
        whole: &Whole,
        payload: &[u8],
        from: MacAddr,
        out: &mut impl Transmit,
    ) -> Outcome {
        let (protocol, bytes) = if part.src.is_ipv6() {
            ipv6::upper_layer(whole.protocol, payload)?
        } else {
            (whole.protocol, payload)
        };
        if protocol != tcp::PROTOCOL {
            return Err(Stop::IpFragment);
        }
        let ends = (part.src, part.dst);
        // A device sees the parts and knows nothing of the whole's checksum.
        let (from, checksum) = ((from, MacClass::Ours), Checksum::Unknown);
        let carried = Carried { from, ends, ecn: whole.ecn, bytes, checksum };
        let mut arrival = None;
        self.arrive(&carried, &mut arrival)?;
        arrival.map_or(Ok(()), |arrival| self.on_arrival(&arrival, out))
    }
}

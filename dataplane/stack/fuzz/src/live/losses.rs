//! What the network does to what the stack sends, as its clients tell: losses, one by one, things
//! that come twice, marks; and clients that keep asking and answering.

use xtcp_stack::wire::ethernet;
use xtcp_stack::wire::tcp::{Flags, Options, SackBlock, SackBlocks};
use xtcp_stack::wire::{checksum, ipv4};

use super::choices::Choices;
use super::{CLIENTS, World};

/// Segment sizes that losses are counted in.
const SIZES: [u32; 4] = [1448, 536, 88, 1];

impl World<'_, '_> {
    /// One acknowledgement or several with SACK blocks about what is in flight: some as a receiver
    /// would tell, some that are reported twice (RFC 2883), some that are lies.
    pub(super) fn lose(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        let size = SIZES[choices.below(SIZES.len())];
        let (said, furthest) = (self.clients[at].said, self.clients[at].furthest);
        let segments = (furthest.wrapping_sub(said) / size).clamp(1, 1 << 12);
        let moves = choices.below(4) == 0;
        let ack = if moves { said.wrapping_add(size) } else { said };
        let window = [65_535, 65_535, 500, 0][choices.below(4)];
        for _ in 0..1 + choices.below(4) {
            let mut sack = SackBlocks::NONE;
            for _ in 0..1 + choices.below(3) {
                let nth = choices.below(segments as usize + 1) as u32;
                let left = match choices.below(12) {
                    0 => said.wrapping_sub(size),
                    1 => self.near(choices, furthest),
                    _ => said.wrapping_add(nth * size),
                };
                let right = match choices.below(12) {
                    0 => left.wrapping_sub(1),
                    1 => furthest,
                    2 => furthest.wrapping_add(1),
                    _ => left.wrapping_add(size * (1 + choices.below(3) as u32)),
                };
                sack.push(SackBlock { left, right });
            }
            let options = Options { sack, ..Options::NONE };
            let seq = self.clients[at].next;
            self.segment(at, (Flags::ACK, seq, ack), window, options, &[]);
        }
    }

    /// A client that has said and heard all so far, and says more: what keeps a connection busy
    /// long enough to get anywhere.
    pub(super) fn ask_and_answer(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(CLIENTS);
        for _ in 0..1 + choices.below(4) {
            self.deliver();
            let client = &self.clients[at];
            let (seq, ack) = (client.acknowledged, client.furthest);
            let len = 1 + choices.below(400);
            let text = self.text(at, seq, len);
            self.segment(at, (Flags::ACK | Flags::PSH, seq, ack), 65_535, Options::NONE, &text);
            self.clients[at].next = seq.wrapping_add(len as u32);
            self.deliver();
            self.application(choices);
        }
    }

    /// The last segment of the burst was marked on its way, or says that what we sent was.
    pub(super) fn mark(&mut self, choices: &mut Choices<'_>) {
        const CLASS: usize = ethernet::HEADER + 1;
        let at = choices.below(CLIENTS);
        let client = &self.clients[at];
        let (seq, ack) = (client.next, client.furthest);
        let flags = [Flags::ACK | Flags::ECE, Flags::ACK | Flags::CWR, Flags::ACK];
        let text = self.text(at, seq, 40);
        self.segment(at, (flags[choices.below(3)], seq, ack), 65_535, Options::NONE, &text);
        self.clients[at].next = seq.wrapping_add(40);
        let Some((frame, _)) = self.burst.last_mut() else { return };
        if frame[ethernet::HEADER] >> 4 == 4 {
            frame[CLASS] |= 3;
            let header = ethernet::HEADER..ethernet::HEADER + ipv4::HEADER;
            frame[header.start + 10..header.start + 12].fill(0);
            let sum = checksum::field(checksum::sum(&frame[header.clone()], 0));
            frame[header.start + 10..header.start + 12].copy_from_slice(&sum.to_be_bytes());
        } else {
            frame[CLASS] |= 0x30;
        }
    }
}

//! What the outside knows of a connection, and what it may never see.

use xtcp_stack::wire::tcp::{Flags, Segment};

/// What the outside knows of one client's connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub(super) port: u16,
    pub(super) server_port: u16,
    /// Initial sequence numbers it has used.
    pub(super) starts: Vec<u32>,
    /// Its next sequence number.
    pub(super) next: u32,
    /// The stack's next sequence number, and what it acknowledged, as last seen.
    pub(super) theirs: u32,
    pub(super) acknowledged: u32,
    /// The scale of the stack's windows, if its SYN was seen, and the furthest right edge and
    /// acknowledgement it told since.
    pub(super) scale: Option<u8>,
    pub(super) edge: Option<u32>,
    pub(super) acked: Option<u32>,
    pub(super) timestamp: Option<u32>,
    /// The stack's timestamp, as last seen.
    pub(super) echo: u32,
    /// The furthest the stack has sent, and what of it the client has acknowledged.
    pub(super) furthest: u32,
    pub(super) said: u32,
    /// The scale of the client's own windows, and the furthest right edge that it told since the
    /// handshake.
    pub(super) own_scale: u8,
    pub(super) offered: Option<u32>,
}

impl Client {
    /// What the client acknowledges, and how far the stack may send: more than it takes from this,
    /// if it does not believe the segment, but never less.
    pub(super) fn offer(&mut self, flags: Flags, ack: u32, window: u16) {
        // No queue is longer than this.
        const AHEAD: u32 = 20_000;
        if !flags.contains(Flags::ACK) || flags.contains(Flags::RST) {
            return;
        }
        if is_before(self.said, ack) && !is_before(self.furthest, ack) {
            self.said = ack;
        }
        let believable = self.furthest.wrapping_add(AHEAD).wrapping_sub(ack) < 1 << 30;
        let scale = if flags.contains(Flags::SYN) { 0 } else { self.own_scale };
        let edge = ack.wrapping_add(u32::from(window) << scale);
        if let Some(offered) = self.offered.filter(|_| believable) {
            self.offered = Some(if is_before(offered, edge) { edge } else { offered });
        }
    }

    /// I2 and I3: nothing is sent beyond what the client ever offered, but for a probe's one byte.
    fn note_sent(&mut self, segment: &Segment<'_>) {
        let end = segment.seq.wrapping_add(segment.len());
        if segment.flags.contains(Flags::SYN) {
            (self.furthest, self.said) = (end, segment.seq);
            // The window of a SYN that this answers is not scaled, and may be anything.
            self.offered = segment.flags.contains(Flags::ACK).then(|| end.wrapping_add(0xffff));
            return;
        }
        if is_before(self.furthest, end) {
            self.furthest = end;
        }
        if let Some(offered) = self.offered {
            let beyond = end.wrapping_sub(offered);
            assert!(beyond <= 1 || beyond > 1 << 31, "I3: {beyond} bytes beyond the window");
        }
    }

    pub(super) fn see(&mut self, segment: &Segment<'_>) {
        let flags = segment.flags;
        if flags.contains(Flags::RST) {
            (self.scale, self.offered) = (None, None);
            return;
        }
        self.note_sent(segment);
        if flags.contains(Flags::SYN) {
            // Our SYN alone agrees nothing, and what answers it here offers no scale.
            let scale = segment.options.window_scale.filter(|_| flags.contains(Flags::ACK));
            self.scale = Some(scale.unwrap_or(0));
            (self.edge, self.acked) = (None, None);
        }
        self.theirs = segment.seq.wrapping_add(segment.len());
        self.echo = segment.options.timestamps.map_or(self.echo, |stamps| stamps.value);
        if !flags.contains(Flags::ACK) {
            return;
        }
        self.acknowledged = segment.ack;
        let Some(scale) = self.scale else { return };
        let scale = if flags.contains(Flags::SYN) { 0 } else { scale };
        let edge = segment.ack.wrapping_add(u32::from(segment.window) << scale);
        let is_back =
            |now: u32, before: Option<u32>| before.is_some_and(|b| now.wrapping_sub(b) > 1 << 31);
        // TIME-WAIT offers no window.
        let offers = segment.window > 0;
        assert!(!offers || !is_back(edge, self.edge), "SHLD-14: the right edge moves back");
        assert!(!is_back(segment.ack, self.acked), "an acknowledgement is taken back");
        (self.edge, self.acked) = (Some(edge), Some(segment.ack));
    }
}

/// Whether `a` comes before `b` in sequence space.
fn is_before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

/// The byte a client's stream has at a sequence number.
pub(super) fn byte_at(port: u16, seq: u32) -> u8 {
    let mixed = (seq ^ u32::from(port).rotate_left(20)).wrapping_mul(0x9e37_79b9);
    (mixed >> 24) as u8
}

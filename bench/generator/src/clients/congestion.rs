//! Congestion control (RFC 5681), in whole segments.

use super::record::Client;

/// RFC 6928, in segments.
pub(super) const INITIAL_WINDOW: u8 = 10;

/// Section 3.1: slow start, then congestion avoidance.
pub(super) fn grow(client: &mut Client, ack: u32) {
    let bytes = ack.wrapping_sub(client.snd_una);
    let segments = bytes.div_ceil(u32::from(client.mss)).min(255) as u8;
    if client.cwnd < client.ssthresh {
        client.cwnd = client.cwnd.saturating_add(segments);
        return;
    }
    client.acked = client.acked.saturating_add(segments);
    if client.acked >= client.cwnd {
        client.acked = 0;
        client.cwnd = client.cwnd.saturating_add(1);
    }
}

/// Equation 4: the slow start threshold after a loss, half of what is in flight.
pub(super) fn threshold(client: &Client) -> u8 {
    let in_flight = client.flight() / u32::from(client.mss);
    u8::try_from(in_flight / 2).unwrap_or(u8::MAX).max(2)
}

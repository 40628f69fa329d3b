//! Round trips and the retransmission timeout (RFC 6298), in milliseconds.

use super::record::Client;

/// Before a round trip was measured.
pub(super) const RTO_FIRST: u32 = 1000;
pub(super) const RTO_MIN: u32 = 200;
pub(super) const RTO_MAX: u32 = 120_000;

/// Section 2, in Jacobson's integers: `srtt` times 8, `rttvar` times 4.
pub(super) fn sample(client: &mut Client, ms: u32) {
    // A clock of milliseconds may say zero; more than 4 s do not fit and are as good as 4 s.
    let ms = ms.clamp(1, 4095) as i32;
    if client.srtt == 0 {
        client.srtt = (ms * 8) as u16;
        client.rttvar = (ms * 2) as u16;
        return;
    }
    let error = ms - i32::from(client.srtt) / 8;
    let srtt = i32::from(client.srtt) + error;
    let rttvar = i32::from(client.rttvar) + error.abs() - i32::from(client.rttvar) / 4;
    client.srtt = srtt.clamp(1, 0x7fff) as u16;
    client.rttvar = rttvar.clamp(1, 0x7fff) as u16;
}

/// Equation 2.3, with Linux's lower bound.
pub(super) fn rto(client: &Client) -> u32 {
    if client.srtt == 0 {
        return RTO_FIRST;
    }
    (u32::from(client.srtt) / 8 + u32::from(client.rttvar)).clamp(RTO_MIN, RTO_MAX)
}

//! The client's TCP, as the figures show it: ordinary, and knowing nothing of XTCP.

use crate::sim::peer::{Got, Seg, ack, data};

/// An ordinary TCP after its handshake. It sends when it is told to and acknowledges what it gets.
pub(crate) struct Client {
    /// X of the figures: the number up to which the server has acknowledged.
    confirmed_out: i64,
    /// Y: the number up to which it has received, and acknowledges.
    confirmed_in: i64,
    /// What the server has not acknowledged.
    cached: Vec<u8>,
    /// Everything it has received, in order and once.
    pub(crate) received: Vec<u8>,
}

impl Client {
    pub(crate) const fn new() -> Self {
        Self { confirmed_out: 1, confirmed_in: 1, cached: Vec::new(), received: Vec::new() }
    }

    /// `[X:Y]` and the bytes cached.
    pub(crate) fn state(&self) -> String {
        format!("[{}:{}] {}", self.confirmed_out, self.confirmed_in, self.cached.len())
    }

    /// Its application sends: the segment, acknowledging what was received so far.
    pub(crate) fn request(&mut self, text: &[u8]) -> Seg {
        let at = self.confirmed_out + self.cached.len() as i64;
        self.cached.extend(text);
        data(at, self.confirmed_in, text)
    }

    /// Its timer fires: what is not acknowledged goes again.
    pub(crate) fn again(&self) -> Seg {
        assert!(!self.cached.is_empty(), "nothing is to be repeated");
        data(self.confirmed_out, self.confirmed_in, &self.cached)
    }

    /// A segment arrives; the acknowledgement it asks for.
    pub(crate) fn receive(&mut self, got: &Got) -> Option<Seg> {
        let acknowledged = usize::try_from(got.ack - self.confirmed_out).expect("it goes on");
        assert!(acknowledged <= self.cached.len(), "what was never sent is acknowledged");
        self.cached.drain(..acknowledged);
        self.confirmed_out = got.ack;
        if got.text.is_empty() {
            return None;
        }
        if got.seq == self.confirmed_in {
            self.received.extend(&got.text);
            self.confirmed_in += got.text.len() as i64;
        }
        Some(ack(self.confirmed_out + self.cached.len() as i64, self.confirmed_in))
    }
}

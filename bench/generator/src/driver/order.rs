//! The order in which clients take turns.

/// A stride through all of them that no prefetcher follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    clients: u64,
    stride: u64,
    inverse: u64,
}

impl Order {
    pub(super) fn new(clients: u32) -> Self {
        let clients = u64::from(clients.max(1));
        let mut stride = (clients as f64 * 0.618_034) as u64 | 1;
        while gcd(stride, clients) != 1 {
            stride += 2;
        }
        let stride = stride % clients.max(2);
        let inverse = inverse(stride, clients);
        Self { clients, stride, inverse }
    }

    /// The client of a rank.
    pub(super) fn client(self, rank: u64) -> u32 {
        (rank % self.clients * self.stride % self.clients) as u32
    }

    /// The rank of a client.
    pub(super) fn rank(self, client: u32) -> u64 {
        u64::from(client) * self.inverse % self.clients
    }
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The number whose product with `a` is 1 modulo `n`, which has no divisor in common with it.
fn inverse(a: u64, n: u64) -> u64 {
    let (mut old, mut new) = ((a as i64, 1_i64), (n as i64, 0_i64));
    while new.0 != 0 {
        let quotient = old.0 / new.0;
        (old, new) = (new, (old.0 - quotient * new.0, old.1 - quotient * new.1));
    }
    old.1.rem_euclid(n as i64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_has_one_rank_and_is_found_by_it() {
        for clients in [1, 2, 3, 7, 64, 1000, 99_991] {
            let order = Order::new(clients);
            let mut seen = vec![false; clients as usize];
            for rank in 0..u64::from(clients) {
                let client = order.client(rank);
                assert!(!std::mem::replace(&mut seen[client as usize], true));
                assert_eq!(order.rank(client), rank, "of {clients}");
            }
        }
    }
}

//! Who the clients are: client `n` has an address and a port that are computed from `n`, and `n` is
//! computed from them. There is no table of flows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

/// All clients of one server.
#[derive(Clone, Copy, Debug)]
pub struct Population {
    server: SocketAddr,
    /// Bits of the first client's address; the others follow it.
    first: u128,
    prefix: Prefix,
    port_first: u16,
    ports: u32,
    clients: u32,
}

/// The addresses that are answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Any address of it.
    pub ip: IpAddr,
    /// Its length in bits: 0 to 32, or 0 to 128.
    pub len: u8,
}

/// Why there are no such clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PopulationError {
    /// Server and clients are of different families.
    Families,
    /// The prefix has too few addresses.
    TooMany {
        /// Clients it has room for.
        room: u128,
    },
    /// The server lies among the clients.
    ServerAmongClients(IpAddr),
}

impl fmt::Display for PopulationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Families => f.write_str(
                "--clients and --server are of different families; give both as IPv4 or as IPv6",
            ),
            Self::TooMany { room } => write!(
                f,
                "--clients with --ports has room for {room} connections; give a shorter prefix or \
                 more ports"
            ),
            Self::ServerAmongClients(ip) => write!(
                f,
                "--clients: the server {ip} lies among its clients; give a prefix beside it"
            ),
        }
    }
}

impl std::error::Error for PopulationError {}

impl Prefix {
    fn host_bits(self) -> u32 {
        let width = if self.ip.is_ipv4() { 32 } else { 128 };
        width - u32::from(self.len)
    }

    fn base(self) -> u128 {
        let host_bits = self.host_bits();
        if host_bits >= 128 { 0 } else { bits(self.ip) >> host_bits << host_bits }
    }

    fn holds(self, ip: IpAddr) -> bool {
        let inside = Self { ip, len: self.len };
        ip.is_ipv4() == self.ip.is_ipv4() && inside.base() == self.base()
    }
}

const fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits() as u128,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

impl Population {
    /// `clients` clients of `server`: as many of each address as there are `ports`, the addresses
    /// counted up from the first host of `prefix`.
    ///
    /// # Errors
    /// When they do not fit, or the server would be one of them.
    pub fn new(
        server: SocketAddr,
        prefix: Prefix,
        ports: &RangeInclusive<u16>,
        clients: u32,
    ) -> Result<Self, PopulationError> {
        if server.is_ipv4() != prefix.ip.is_ipv4() {
            return Err(PopulationError::Families);
        }
        let count = u32::from(*ports.end()).saturating_sub(u32::from(*ports.start())) + 1;
        let population = Self {
            server,
            first: prefix.base() + 1,
            prefix,
            port_first: *ports.start(),
            ports: count,
            clients,
        };
        let room = population.hosts() * u128::from(count);
        if u128::from(clients) > room {
            return Err(PopulationError::TooMany { room });
        }
        let last = population.address(clients.saturating_sub(1)).0;
        let (low, high) = (population.first, bits(last));
        if (low..=high).contains(&bits(server.ip())) {
            return Err(PopulationError::ServerAmongClients(server.ip()));
        }
        Ok(population)
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.clients
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.clients == 0
    }

    /// The server.
    #[must_use]
    pub const fn server(&self) -> SocketAddr {
        self.server
    }

    /// Client `number`'s address and port.
    #[inline]
    #[must_use]
    pub fn address(&self, number: u32) -> (IpAddr, u16) {
        let ip = self.first + u128::from(self.address_index(number));
        let port = self.port_first.wrapping_add((number % self.ports) as u16);
        (self.ip(ip), port)
    }

    /// Which address client `number` has, the first being 0.
    #[must_use]
    pub const fn address_index(&self, number: u32) -> u32 {
        number / self.ports
    }

    /// Whose address and port these are.
    #[inline]
    #[must_use]
    pub fn number(&self, ip: IpAddr, port: u16) -> Option<u32> {
        let index = u32::try_from(bits(ip).checked_sub(self.first)?).ok()?;
        let port = u32::from(port.checked_sub(self.port_first)?);
        let number = index.checked_mul(self.ports)?.checked_add(port)?;
        (port < self.ports && number < self.clients).then_some(number)
    }

    /// Whether there are addresses of the prefix that no client has.
    #[must_use]
    pub fn has_strangers(&self) -> bool {
        self.strangers() > 0
    }

    /// An address of the prefix that no client has, and a port, both picked by `lot`.
    #[must_use]
    pub fn stranger(&self, lot: u64) -> Option<(IpAddr, u16)> {
        let ip = self.first_stranger() + u128::from(lot).checked_rem(self.strangers())?;
        // None of the system's.
        let port = 1024 + (lot >> 48) as u16 % (u16::MAX - 1024);
        Some((self.ip(ip), port))
    }

    /// Whether `ip` is an address that [forged segments](Self::stranger) come from.
    #[must_use]
    pub fn is_stranger(&self, ip: IpAddr) -> bool {
        let place = bits(ip).checked_sub(self.first_stranger());
        ip.is_ipv4() == self.server.is_ipv4() && place.is_some_and(|at| at < self.strangers())
    }

    /// Behind the last client, and behind the server if that comes next.
    fn first_stranger(&self) -> u128 {
        let behind = self.first + u128::from(self.clients.div_ceil(self.ports));
        behind.max(if self.prefix.holds(self.server.ip()) { bits(self.server.ip()) + 1 } else { 0 })
    }

    fn strangers(&self) -> u128 {
        (self.first + self.hosts()).saturating_sub(self.first_stranger())
    }

    /// Neither the network's own address nor, in IPv4, the broadcast address.
    fn hosts(&self) -> u128 {
        (1_u128 << self.prefix.host_bits().min(64)).saturating_sub(2)
    }

    fn ip(&self, bits: u128) -> IpAddr {
        match self.server {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        }
    }

    /// Whether neighbours are told that `ip` is here: every address of the prefix but the server's.
    #[must_use]
    pub fn answers_for(&self, ip: IpAddr) -> bool {
        self.prefix.holds(ip) && ip != self.server.ip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn population(clients: u32) -> Result<Population, PopulationError> {
        let prefix = Prefix { ip: "10.78.0.0".parse().unwrap(), len: 16 };
        Population::new("10.77.0.2:7".parse().unwrap(), prefix, &(2000..=61_999), clients)
    }

    #[test]
    fn every_client_has_an_address_of_its_own_and_is_found_by_it() {
        for prefix in ["10.78.0.0", "fd78::"] {
            let ip: IpAddr = prefix.parse().unwrap();
            let server = if ip.is_ipv4() { "10.77.0.2:7" } else { "[fd77::2]:7" };
            let prefix = Prefix { ip, len: if ip.is_ipv4() { 16 } else { 64 } };
            let all = Population::new(server.parse().unwrap(), prefix, &(60_000..=65_535), 100_000)
                .unwrap();
            let mut seen = std::collections::HashSet::new();
            for number in 0..all.len() {
                let (ip, port) = all.address(number);
                assert_eq!(all.number(ip, port), Some(number));
                assert!(seen.insert((ip, port)) && all.answers_for(ip));
            }
            let (ip, port) = all.address(100_000);
            assert_eq!(all.number(ip, port), None, "one too many");
            assert_eq!(all.number(ip, 59_999), None);
            assert_eq!(all.number(prefix.ip, 60_000), None, "the network's own address");
        }
    }

    #[test]
    fn strangers_are_of_the_prefix_and_nobody_else() {
        for (prefix, len, server) in [
            ("10.78.0.0", 16, "10.77.0.2:7"),
            ("10.77.0.0", 24, "10.77.0.5:7"),
            ("fd78::", 64, "[fd77::2]:7"),
        ] {
            let prefix = Prefix { ip: prefix.parse().unwrap(), len };
            let all =
                Population::new(server.parse().unwrap(), prefix, &(2000..=2999), 3000).unwrap();
            let mut seen = std::collections::HashSet::new();
            for n in 0..10_000 {
                let (ip, port) = all.stranger(crate::pattern::mix(n)).unwrap();
                assert!(all.is_stranger(ip) && all.answers_for(ip) && port >= 1024, "{ip}");
                assert_eq!(all.number(ip, port), None, "{ip} is a client's");
                seen.insert((ip, port));
            }
            assert!(seen.len() > 9900, "{} of 10,000 differ", seen.len());
            assert!(!all.is_stranger(all.address(2999).0) && !all.is_stranger(all.server().ip()));
        }
        // The last of six addresses is a client's.
        let prefix = Prefix { ip: "10.78.0.0".parse().unwrap(), len: 29 };
        let of = |clients| {
            Population::new("10.77.0.2:7".parse().unwrap(), prefix, &(1..=10), clients).unwrap()
        };
        assert!(of(50).has_strangers() && !of(51).has_strangers());
        assert_eq!(
            (of(60).stranger(7), of(50).stranger(7).unwrap().0),
            (None, "10.78.0.6".parse().unwrap())
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_option_that_helps() {
        assert!(population(10_000_000).is_ok());
        let prefix = Prefix { ip: "10.77.0.0".parse().unwrap(), len: 24 };
        let of = |server: &str, clients| {
            Population::new(server.parse().unwrap(), prefix, &(1..=1000), clients)
        };
        assert_eq!(
            of("10.77.0.2:7", 1001).unwrap_err().to_string().split(' ').next(),
            Some("--clients:")
        );
        assert!(of("10.77.0.2:7", 1000).is_ok());
        assert_eq!(
            of("10.1.0.2:7", 254_001).unwrap_err(),
            PopulationError::TooMany { room: 254_000 }
        );
        assert_eq!(of("[::2]:7", 1).unwrap_err(), PopulationError::Families);
    }
}

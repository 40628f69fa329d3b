//! Own addresses, on-link prefixes and gateways: whose a packet is, and where it goes.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{ADDRESSES_MAX, Config, ROUTES_MAX};

/// An address of either family as one number: IPv4 as `::ffff:a.b.c.d`, which no IPv6 packet may
/// carry. So that none can pretend, an IPv6 address of that form becomes [`Key::NONE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) u128);

impl Key {
    /// Nobody's address.
    pub(super) const NONE: Self = Self(0);

    const MAPPED: u128 = 0xffff_0000_0000;
    const V4_BITS: u128 = 0xffff_ffff;

    #[inline]
    pub(super) const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self(Self::MAPPED | ip.to_bits() as u128),
            IpAddr::V6(ip) => {
                let key = Self(ip.to_bits());
                if key.is_v4() { Self::NONE } else { key }
            }
        }
    }

    #[inline]
    pub(super) const fn is_v4(self) -> bool {
        self.0 & !Self::V4_BITS == Self::MAPPED
    }

    pub(super) const fn ip(self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from_bits((self.0 & Self::V4_BITS) as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(self.0))
        }
    }
}

/// An own address and the mask of its on-link prefix.
#[derive(Clone, Copy, Debug)]
struct Own {
    key: Key,
    mask: u128,
}

impl Own {
    const fn has_on_link(self, key: Key) -> bool {
        (self.key.0 ^ key.0) & self.mask == 0 && self.key.is_v4() == key.is_v4()
    }
}

/// A way to the destinations of a prefix.
#[derive(Clone, Copy, Debug)]
struct Way {
    key: Key,
    mask: u128,
    via: Key,
}

impl Way {
    const fn leads_to(self, dst: Key) -> bool {
        (self.key.0 ^ dst.0) & self.mask == 0 && self.key.is_v4() == dst.is_v4()
    }
}

/// The mask of a prefix, as [`Key`] has it.
fn mask_of(ip: IpAddr, prefix_len: u8) -> u128 {
    let unused = if ip.is_ipv4() { 96 } else { 0 };
    let prefix_len = u32::from(prefix_len) + unused;
    u128::MAX.checked_shl(128u32.saturating_sub(prefix_len)).unwrap_or(0)
}

/// Own addresses, gateways and routes.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    own: [Own; ADDRESSES_MAX],
    /// Place in [`Config::addresses`] of each.
    index: [u8; ADDRESSES_MAX],
    count: usize,
    /// The own addresses once more, by that place.
    places: [Option<IpAddr>; ADDRESSES_MAX],
    /// Bit n: the nth is somebody else's.
    given_up: u16,
    /// The longest prefix first.
    routes: [Way; ROUTES_MAX],
    routes_count: usize,
    gateway_v4: Option<Key>,
    gateway_v6: Option<Key>,
    /// The own IPv4 addresses once more, as every packet is held against them.
    links_v4: [LinkV4; ADDRESSES_MAX],
    links_v4_count: usize,
}

/// An own IPv4 address and the mask of its prefix; see [`Own`], which it agrees with.
#[derive(Clone, Copy, Debug, Default)]
struct LinkV4 {
    ip: u32,
    mask: u32,
    /// Its place among the own.
    place: u8,
}

impl LinkV4 {
    #[inline]
    const fn has_on_link(self, ip: u32) -> bool {
        (self.ip ^ ip) & self.mask == 0
    }

    /// Whether it is this address, its subnet's broadcast address, or the old all-zeros one (RFC
    /// 1122 section 3.2.1.3). Prefixes of 31 and 32 bits have neither (RFC 3021).
    #[inline]
    const fn is_own_or_broadcast(self, ip: u32) -> bool {
        let host = !self.mask;
        let bits = ip & host;
        ip == self.ip || self.has_on_link(ip) && host > 1 && (bits == host || bits == 0)
    }
}

impl Addresses {
    pub(super) fn new(config: &Config) -> Self {
        let nobody = Own { key: Key::NONE, mask: u128::MAX };
        let mut addresses = Self {
            own: [nobody; ADDRESSES_MAX],
            index: [0; ADDRESSES_MAX],
            count: 0,
            places: [None; ADDRESSES_MAX],
            given_up: 0,
            routes: [Way { key: Key::NONE, mask: 0, via: Key::NONE }; ROUTES_MAX],
            routes_count: 0,
            gateway_v4: config.gateway_v4.map(|ip| Key::of(ip.into())),
            gateway_v6: config.gateway_v6.map(|ip| Key::of(ip.into())),
            links_v4: [LinkV4::default(); ADDRESSES_MAX],
            links_v4_count: 0,
        };
        for (place, address) in config.addresses.iter().enumerate() {
            let Some(address) = address.filter(|address| !address.ip.is_unspecified()) else {
                continue;
            };
            let mask = mask_of(address.ip, address.prefix_len);
            if let IpAddr::V4(ip) = address.ip {
                let (ip, mask) = (ip.to_bits(), (mask & Key::V4_BITS) as u32);
                let link = LinkV4 { ip, mask, place: addresses.count as u8 };
                addresses.links_v4[addresses.links_v4_count] = link;
                addresses.links_v4_count += 1;
            }
            addresses.own[addresses.count] = Own { key: Key::of(address.ip), mask };
            addresses.index[addresses.count] = place as u8;
            addresses.count += 1;
            addresses.places[place] = Some(Key::of(address.ip).ip());
        }
        for route in config.net.routes.iter().flatten() {
            let (key, via) = (Key::of(route.prefix), Key::of(route.via));
            addresses.routes[addresses.routes_count] =
                Way { key, mask: mask_of(route.prefix, route.prefix_len), via };
            addresses.routes_count += 1;
        }
        let count = addresses.routes_count;
        addresses.routes[..count].sort_unstable_by_key(|way| core::cmp::Reverse(way.mask));
        addresses
    }

    /// Somebody else has this address: it is not ours any more. False if it was not.
    pub(super) fn give_up(&mut self, key: Key) -> bool {
        let Some(place) = self.iter().position(|own| own.key == key) else { return false };
        let before = self.given_up;
        self.given_up |= 1 << place;
        self.given_up != before
    }

    #[inline]
    fn iter(&self) -> core::slice::Iter<'_, Own> {
        self.own.get(..self.count).unwrap_or_default().iter()
    }

    /// The place in [`Config::addresses`] of an own address.
    #[inline(always)]
    pub(super) fn local(&self, ip: IpAddr) -> Option<u8> {
        let place = match ip {
            IpAddr::V4(ip) => {
                let ip = ip.to_bits();
                usize::from(self.links_v4().find(|link| link.ip == ip)?.place)
            }
            IpAddr::V6(_) => {
                let key = Key::of(ip);
                self.iter().position(|own| own.key == key)?
            }
        };
        if self.given_up >> place & 1 == 1 {
            return None;
        }
        self.index.get(place).copied()
    }

    /// The own address at this place in [`Config::addresses`].
    #[inline]
    pub(super) fn at(&self, index: u8) -> Option<IpAddr> {
        self.places.get(usize::from(index)).copied().flatten()
    }

    /// Every own address that nobody else has.
    pub(super) fn all(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let ours = |(place, _): &(usize, &Own)| self.given_up >> place & 1 == 0;
        self.iter().enumerate().filter(ours).map(|(_, own)| own.key.ip())
    }

    /// Whether a packet to `group` is for us: all nodes, and those who have an address of ours
    /// (RFC 4291 section 2.8).
    pub(super) fn is_member(&self, group: Ipv6Addr) -> bool {
        const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        group == ALL_NODES
            || self.all().any(|ip| match ip {
                IpAddr::V4(_) => false,
                IpAddr::V6(ip) => crate::wire::icmpv6::solicited_node(ip) == group,
            })
    }

    #[inline]
    fn links_v4(&self) -> core::slice::Iter<'_, LinkV4> {
        self.links_v4.get(..self.links_v4_count).unwrap_or_default().iter()
    }

    /// Whether somebody else can have sent from this address (RFC 9293 section 3.9.2.3, MUST-63).
    #[inline(always)]
    pub(super) fn is_valid_source(&self, ip: IpAddr) -> bool {
        match ip {
            // RFC 1122 section 3.2.1.3: this network, loopback, multicast, broadcast.
            IpAddr::V4(ip) => {
                let [first, ..] = ip.octets();
                let possible =
                    first != 0 && !ip.is_loopback() && !ip.is_multicast() && !ip.is_broadcast();
                let ip = ip.to_bits();
                possible && !self.links_v4().any(|link| link.is_own_or_broadcast(ip))
            }
            // RFC 4291 sections 2.5 and 2.7; a mapped address has no key.
            IpAddr::V6(ip) => {
                let key = Key::of(ip.into());
                let possible = !ip.is_loopback() && !ip.is_multicast() && key != Key::NONE;
                possible && !self.iter().any(|own| own.key == key)
            }
        }
    }

    /// Whether `key` is on the link: in a prefix of ours, or link-local (RFC 4861 section 5.2).
    pub(super) fn is_on_link(&self, key: Key) -> bool {
        is_link_local_v6(key) || self.iter().any(|own| own.has_on_link(key))
    }

    /// The neighbour through whom a packet reaches `dst`: itself, or the gateway. `None` for
    /// ourselves, for groups, and where no way leads.
    #[inline]
    pub(super) fn next_hop(&self, dst: Key) -> Option<Key> {
        if dst.is_v4() {
            return self.next_hop_v4((dst.0 & Key::V4_BITS) as u32);
        }
        let mut on_link = is_link_local_v6(dst);
        for own in self.iter() {
            if own.key == dst {
                return None;
            }
            on_link |= own.has_on_link(dst);
        }
        if is_group(dst) || dst == Key::NONE {
            return None;
        }
        if on_link { Some(dst) } else { self.route(dst).or(self.gateway_v6) }
    }

    #[inline]
    fn next_hop_v4(&self, ip: u32) -> Option<Key> {
        let (dst, mut on_link) = (Key(Key::MAPPED | u128::from(ip)), false);
        for link in self.links_v4() {
            if link.is_own_or_broadcast(ip) {
                return None;
            }
            on_link |= link.has_on_link(ip);
        }
        let ip = Ipv4Addr::from_bits(ip);
        if ip.is_multicast() || ip.is_broadcast() {
            return None;
        }
        if on_link { Some(dst) } else { self.route(dst).or(self.gateway_v4) }
    }

    /// The router of the longest prefix a destination has.
    fn route(&self, dst: Key) -> Option<Key> {
        let routes = self.routes.get(..self.routes_count)?;
        routes.iter().find(|way| way.leads_to(dst)).map(|way| way.via)
    }

    /// The own address to ask for a neighbour from: one in its prefix, else the first of its
    /// family.
    pub(super) fn source_for(&self, neighbour: Key) -> Option<Key> {
        let family = |own: &&Own| own.key.is_v4() == neighbour.is_v4();
        let near = self.iter().find(|own| own.has_on_link(neighbour));
        near.or_else(|| self.iter().find(family)).map(|own| own.key)
    }
}

fn is_link_local_v6(key: Key) -> bool {
    key.0 >> 118 == 0xfe80 >> 6
}

fn is_group(key: Key) -> bool {
    match key.ip() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn own_addresses_keep_their_place_in_the_configuration() {
        let addresses = Addresses::new(&config());
        for (place, text) in [(0, "10.77.0.2"), (2, "fd77::2"), (3, "192.0.2.8")] {
            assert_eq!(addresses.local(ip(text)), Some(place), "{text}");
            assert_eq!(addresses.at(place), Some(ip(text)));
        }
        for text in ["10.77.0.1", "fd77::1", "::", "0.0.0.0", "::ffff:10.77.0.2"] {
            assert_eq!(addresses.local(ip(text)), None, "{text}");
        }
        assert_eq!((addresses.at(1), addresses.at(200)), (None, None));
    }

    #[test]
    fn sources_nobody_else_can_have_are_refused() {
        let addresses = Addresses::new(&config());
        let bad = [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "255.255.255.255",
            "10.77.0.255",
            "10.77.0.0",
            "10.77.0.2",
            "192.0.2.8",
            "::",
            "::1",
            "ff02::1",
            "fd77::2",
            "::ffff:10.77.0.9",
        ];
        for text in bad {
            assert!(!addresses.is_valid_source(ip(text)), "{text}");
        }
        for text in ["10.77.0.1", "8.8.8.8", "192.0.2.9", "fd77::1", "2001:db8::1", "fe80::1"] {
            assert!(addresses.is_valid_source(ip(text)), "{text}");
        }
    }

    #[test]
    fn packets_go_to_the_neighbour_or_to_the_gateway() {
        let addresses = Addresses::new(&config());
        let next_hop = |text| addresses.next_hop(Key::of(ip(text))).map(Key::ip);
        for (dst, neighbour) in [
            ("10.77.0.9", Some("10.77.0.9")),
            ("192.0.2.9", Some("192.0.2.9")),
            ("192.0.2.10", Some("10.77.0.1")),
            ("8.8.8.8", Some("10.77.0.1")),
            ("fd77::9", Some("fd77::9")),
            ("fe80::9", Some("fe80::9")),
            ("2001:db8::9", Some("fd77::1")),
            ("10.77.0.255", None),
            ("10.77.0.2", None),
            ("255.255.255.255", None),
            ("224.0.0.1", None),
            ("ff02::1", None),
            ("::", None),
            ("::ffff:10.77.0.9", None),
        ] {
            assert_eq!(next_hop(dst), neighbour.map(ip), "{dst}");
        }
        let alone = Config { gateway_v4: None, gateway_v6: None, ..config() };
        let addresses = Addresses::new(&alone);
        assert_eq!(addresses.next_hop(Key::of(ip("8.8.8.8"))), None);
        assert_eq!(addresses.next_hop(Key::of(ip("2001:db8::9"))), None);
    }

    #[test]
    fn the_longest_prefix_shows_the_way() {
        let mut config = config();
        let route = |prefix, prefix_len, via| {
            let (prefix, via) = (ip(prefix), ip(via));
            Some(crate::config::Route { prefix, prefix_len, via })
        };
        config.net.routes[0] = route("172.16.0.0", 12, "10.77.0.12");
        config.net.routes[3] = route("172.16.5.0", 24, "10.77.0.24");
        config.net.routes[5] = route("2001:db8:5::", 48, "fd77::48");
        config.net.routes[6] = route("0.0.0.0", 1, "10.77.0.32");
        config.net.routes[7] = route("172.16.5.9", 32, "10.77.0.33");
        let addresses = Addresses::new(&config);
        let next_hop = |text| addresses.next_hop(Key::of(ip(text))).map(Key::ip);
        for (dst, via) in [
            ("172.16.5.9", "10.77.0.33"),
            ("172.16.5.8", "10.77.0.24"),
            ("172.16.6.1", "10.77.0.12"),
            ("172.32.0.1", "10.77.0.1"),
            ("8.8.8.8", "10.77.0.32"),
            ("10.77.0.99", "10.77.0.99"),
            ("2001:db8:5::1", "fd77::48"),
            ("2001:db8:6::1", "fd77::1"),
            ("::1.2.3.4", "fd77::1"),
        ] {
            assert_eq!(next_hop(dst), Some(ip(via)), "{dst}");
        }
    }

    #[test]
    fn neighbours_are_asked_from_an_address_of_their_prefix() {
        let addresses = Addresses::new(&config());
        let source = |text| addresses.source_for(Key::of(ip(text))).map(Key::ip);
        assert_eq!(source("10.77.0.9"), Some(ip("10.77.0.2")));
        assert_eq!(source("192.0.2.9"), Some(ip("192.0.2.8")));
        assert_eq!(source("172.16.0.1"), Some(ip("10.77.0.2")));
        assert_eq!(source("fe80::1"), Some(ip("fd77::2")));
    }

    #[test]
    fn a_prefix_of_no_bits_holds_only_its_own_family() {
        let mut config = config();
        config.gateway_v4 = None;
        config.addresses = [None; ADDRESSES_MAX];
        config.addresses[0] = Some(crate::config::Address { ip: ip("2001:db8::2"), prefix_len: 0 });
        let addresses = Addresses::new(&config);
        assert!(addresses.is_on_link(Key::of(ip("2600::1"))));
        assert!(!addresses.is_on_link(Key::of(ip("10.0.0.1"))));
        assert_eq!(addresses.next_hop(Key::of(ip("10.0.0.1"))), None);
    }

    #[test]
    fn we_are_in_the_groups_of_our_addresses() {
        let addresses = Addresses::new(&config());
        for (group, member) in [
            ("ff02::1", true),
            ("ff02::1:ff00:2", true),
            ("ff02::1:ff00:3", false),
            ("ff02::2", false),
        ] {
            assert_eq!(addresses.is_member(group.parse().unwrap()), member, "{group}");
        }
    }
}

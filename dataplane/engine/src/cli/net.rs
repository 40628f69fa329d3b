//! Options of what is below TCP.

use core::net::IpAddr;
use core::str::FromStr;

use clap::ArgAction;
use xtcp_stack::config::{Address, NetConfig, ROUTES_MAX, Route};

use super::{CliError, on_link};

/// The part of the command line about the link and the ways beyond it; what is left out keeps the
/// stack's default.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Link and routes")]
pub struct NetOptions {
    /// VLAN that all frames are of, with its tag [default: none, and no tag]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..=4094))]
    pub vlan: Option<u16>,
    /// A way beside the gateways, such as 10.1.0.0/16,10.77.0.9; once per route
    #[arg(long, value_name = "PREFIX/LEN,ROUTER", action = ArgAction::Append)]
    pub route: Vec<Way>,
    /// Packets put together from fragments at once, per worker; 0: fragments are dropped
    /// [default: 64]
    #[arg(long, value_name = "N")]
    pub reassemblies: Option<u16>,
    /// How often it is asked at the start who else has our addresses; 0: not at all [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=10))]
    pub duplicate_probes: Option<u8>,
}

impl NetOptions {
    /// The choices for the stack; `own` are the port's addresses.
    ///
    /// # Errors
    /// Too many routes, or a router that is not on the link.
    pub fn config(&self, own: &[Address]) -> Result<NetConfig, CliError> {
        let default = NetConfig::default();
        if self.route.len() > ROUTES_MAX {
            return Err(CliError::TooManyRoutes(self.route.len()));
        }
        let mut routes = [None; ROUTES_MAX];
        for (place, Way(route)) in routes.iter_mut().zip(&self.route) {
            let via = route.via;
            let link_local = matches!(via, IpAddr::V6(ip) if ip.is_unicast_link_local());
            if own.iter().any(|own| own.ip == via) {
                return Err(CliError::IsOwn("--route", via));
            }
            if !link_local && !own.iter().any(|own| on_link(own, via)) {
                return Err(CliError::OffLink("--route", via));
            }
            *place = Some(*route);
        }
        Ok(NetConfig {
            vlan: self.vlan,
            routes,
            reassemblies_max: self.reassemblies.unwrap_or(default.reassemblies_max),
            duplicate_probes: self.duplicate_probes.unwrap_or(default.duplicate_probes),
        })
    }
}

/// A route as it is typed: `10.1.0.0/16,10.77.0.9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way(pub Route);

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no route; write it like 10.1.0.0/16,10.77.0.9");
        let (prefix, via) = text.split_once(',').ok_or_else(wrong)?;
        let (prefix, len) = prefix.split_once('/').ok_or_else(wrong)?;
        let prefix: IpAddr = prefix.parse().map_err(|_| wrong())?;
        let via: IpAddr = via.parse().map_err(|_| wrong())?;
        let width = if prefix.is_ipv4() { 32 } else { 128 };
        let prefix_len = len
            .parse()
            .ok()
            .filter(|len| *len <= width)
            .ok_or_else(|| format!("`{len}` is no prefix length; give 0 to {width}"))?;
        if prefix.is_ipv4() != via.is_ipv4() {
            return Err(format!("{via} is not of the family of {prefix}; give a router that is"));
        }
        Ok(Self(Route { prefix, prefix_len, via }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_people_write_them() {
        let route = Route {
            prefix: "10.1.0.0".parse().unwrap(),
            prefix_len: 16,
            via: "10.77.0.9".parse().unwrap(),
        };
        assert_eq!("10.1.0.0/16,10.77.0.9".parse(), Ok(Way(route)));
        assert!("fd78::/32,fe80::1".parse::<Way>().is_ok());
        for (text, words) in [
            ("", "like 10.1.0.0/16"),
            ("10.1.0.0,10.77.0.9", "like 10.1.0.0/16"),
            ("10.1.0.0/16", "like 10.1.0.0/16"),
            ("10.1.0.0/33,10.77.0.9", "0 to 32"),
            ("10.1.0.0/16,fe80::1", "family"),
        ] {
            let refused = text.parse::<Way>().expect_err(text);
            assert!(refused.contains(words), "{text}: {refused}");
        }
    }
}

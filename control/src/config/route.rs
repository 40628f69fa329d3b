//! Ways to destinations beyond the link.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use toml::de::DeValue;

use super::Address;
use super::source::Section;

/// Routes one port can have beside its gateways.
pub const ROUTES_MAX: usize = 16;

/// A way to destinations beyond the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Any address of the destinations.
    pub prefix: IpAddr,
    /// How many of its bits they share.
    pub prefix_len: u8,
    /// The router.
    pub via: IpAddr,
}

/// As the dataplane's command line has it.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{},{}", self.prefix, self.prefix_len, self.via)
    }
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no route; write it like 10.1.0.0/16 via 10.77.0.9");
        let (prefix, via) = text.split_once(" via ").ok_or_else(wrong)?;
        let (prefix, len) = prefix.trim().split_once('/').ok_or_else(wrong)?;
        let prefix = IpAddr::from_str(prefix).map_err(|_| wrong())?;
        let via = IpAddr::from_str(via.trim()).map_err(|_| wrong())?;
        let max = if prefix.is_ipv4() { 32 } else { 128 };
        let prefix_len = len
            .parse()
            .ok()
            .filter(|len| *len <= max)
            .ok_or_else(|| format!("`/{len}` is no prefix length; it can be 0 to {max}"))?;
        if prefix.is_ipv4() != via.is_ipv4() {
            return Err(format!("{via} is not of the family of {prefix}; give a router that is"));
        }
        Ok(Self { prefix, prefix_len, via })
    }
}

/// `routes` of `[port]`, whose addresses these are.
pub(super) fn read(port: &Section<'_, '_>, addresses: Option<&[Address]>) -> Vec<Route> {
    let of = "strings such as \"10.1.0.0/16 via 10.77.0.9\"";
    let texts = port.array("routes", ROUTES_MAX, of, DeValue::as_str).unwrap_or_default();
    let mut routes = Vec::new();
    for (line, text) in texts {
        match Route::from_str(text) {
            Ok(route) => {
                if let Some(what) = addresses.and_then(|own| is_out_of_reach(route.via, own)) {
                    port.fault_in(line, what);
                }
                routes.push(route);
            }
            Err(what) => port.fault_in(line, what),
        }
    }
    routes
}

/// Why a router cannot be one.
fn is_out_of_reach(via: IpAddr, own: &[Address]) -> Option<String> {
    let link_local = matches!(via, IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfe80);
    if own.iter().any(|own| own.ip == via) {
        return Some(format!("{via} in `routes` is our own address; give the router's"));
    }
    if link_local || own.iter().any(|own| own.is_on_link(via)) {
        return None;
    }
    Some(format!(
        "{via} in `routes` is in no prefix of `addresses`, so it cannot be reached; give a router on \
         the link, or the address whose prefix holds it"
    ))
}

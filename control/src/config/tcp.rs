//! `[tcp]`.

use std::ops::RangeInclusive;

use super::source::Section;

/// The choices a TCP has; what is left out keeps the stack's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Keys that were given and their numbers, for the dataplane's command line.
    pub given: Vec<(&'static str, u64)>,
    /// What is on unless it is switched off, and was, for the dataplane's command line.
    pub switched_off: Vec<&'static str>,
    /// When handshakes go by cookie, if that was said, as the dataplane's command line has it.
    pub syn_cookies: Option<&'static str>,
    /// Whether routers may mark packets, if that was said, as the dataplane's command line has it.
    pub ecn: Option<&'static str>,
    /// How long a client waits for an application's accept when its group does not say, in
    /// milliseconds.
    pub accept_timeout_ms: u32,
    /// Largest window a group may offer, in bytes.
    pub window_max: u32,
}

/// Numbers of `[tcp]` that go to the dataplane as they are, with their ranges.
const TCP_NUMBERS: [(&str, RangeInclusive<u64>); 19] = [
    ("rto_initial_ms", 10..=60_000),
    ("rto_min_ms", 1..=60_000),
    ("rto_max_ms", 1000..=600_000),
    ("user_timeout_ms", 1000..=86_400_000),
    ("syn_retries", 0..=15),
    ("time_wait_ms", 0..=240_000),
    ("fin_wait_2_ms", 0..=600_000),
    ("initial_window", 1..=100),
    ("delayed_ack_ms", 1..=499),
    ("delayed_ack_segments", 1..=255),
    ("quick_acks", 0..=255),
    ("challenge_interval_ms", 1..=60_000),
    ("resets_per_second", 0..=65_535),
    ("syns_per_second", 0..=65_535),
    ("window_scale", 0..=14),
    ("half_open_max", 1..=1 << 31),
    ("duplicate_threshold", 1..=255),
    ("path_mtu_min", 68..=9000),
    ("path_mtu_age_ms", 1000..=86_400_000),
];

/// What is on unless it is switched off.
const SWITCHES: [&str; 6] = ["nagle", "timestamps", "sack", "rack", "tail_loss_probe", "hystart"];

/// When handshakes go by cookie.
const COOKIES: [(&str, &str); 3] =
    [("never", "never"), ("when-full", "when-full"), ("always", "always")];

/// Whether routers may mark packets instead of dropping them.
const MARKS: [(&str, &str); 3] = [("off", "off"), ("accept", "accept"), ("ask", "ask")];

pub(super) fn read(tcp: Section<'_, '_>) -> Tcp {
    let mut given: Vec<_> = TCP_NUMBERS
        .iter()
        .filter_map(|(key, range)| Some((*key, tcp.integer(key, range.clone())?)))
        .collect();
    let send_queue_max = tcp.bytes("send_queue_max", 64 << 10..=1 << 30);
    given.extend(send_queue_max.map(|bytes| ("send_queue_max", bytes)));
    let number = |wanted: &str| given.iter().find(|(key, _)| *key == wanted).map(|(_, n)| *n);
    let (min, max) = (number("rto_min_ms").unwrap_or(200), number("rto_max_ms").unwrap_or(60_000));
    if min > max {
        let what = format!("`rto_min_ms` is {min}, above `rto_max_ms` ({max}); lower it");
        tcp.fault("rto_min_ms", what);
    }
    let is_off = |key: &&'static str| tcp.boolean(key) == Some(false);
    let switched_off = SWITCHES.into_iter().filter(is_off).collect();
    let syn_cookies = tcp.choice("syn_cookies", &COOKIES);
    let ecn = tcp.choice("ecn", &MARKS);
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let accept_timeout_ms = tcp.integer("accept_timeout_ms", 1..=60_000).map_or(5000, small);
    let window_max = tcp.bytes("window_max", 4096..=1 << 30).map_or(1 << 20, small);
    tcp.finish();
    Tcp { given, switched_off, syn_cookies, ecn, accept_timeout_ms, window_max }
}

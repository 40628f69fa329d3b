//! What an application asks of a group, as the stack and the workers are told it.

use core::net::IpAddr;
use core::ops::RangeInclusive;
use core::time::Duration;

use xtcp_ring::message::{self, GroupOptions, Notify, Refused};
use xtcp_stack::config::{
    Accept, Acknowledge, Address, Congestion, Family, GroupConfig, KeepAlive, Manner, PRIORITIES,
};

use crate::applications::Wake;

/// How long a SYN waits for an application that does not say how long.
const ACCEPT_TIMEOUT_MS: u32 = 10_000;

/// Longest time without a word after which an idle client is asked, and between two questions, in
/// milliseconds: a week.
const KEEP_ALIVE_MAX_MS: u32 = 7 * 86_400_000;

/// The two bits of a traffic class that are not the application's (RFC 3168 section 5).
const ECN_BITS: u8 = 3;

/// What the stack is told of a group; `own` are the addresses of the port, in the stack's order.
///
/// # Errors
/// A sentence that names the option, its value and what it can be.
pub(crate) fn group_config(
    options: &GroupOptions,
    own: &[Option<Address>],
) -> Result<GroupConfig, Refused> {
    let ms = |ms: u32| Duration::from_millis(ms.into());
    within("port", &options.port, &(1..=u16::MAX))?;
    within("weight", &options.weight, &(1..=u8::MAX))?;
    within("priority", &options.priority, &(0..=PRIORITIES - 1))?;
    within("window_max", &options.window_max, &(1..=1 << 30))?;
    within("hop_limit", &options.hop_limit, &(1..=u8::MAX))?;
    if options.traffic_class & ECN_BITS != 0 {
        return Err(Refused::invalid(format!(
            "`traffic_class` is {}: give a multiple of 4, its two lowest bits are ECN's",
            options.traffic_class
        )));
    }
    Ok(GroupConfig {
        port: options.port,
        family: match options.family {
            message::Family::V4 => Family::V4,
            message::Family::V6 => Family::V6,
            message::Family::Dual => Family::Dual,
        },
        addresses: address_bits(options, own)?,
        weight: options.weight,
        priority: options.priority,
        accept: match options.accept {
            message::Accept::Automatic => Accept::Automatic,
            message::Accept::ByApplication { timeout_ms: 0 } => {
                Accept::ByApplication { timeout: ms(ACCEPT_TIMEOUT_MS) }
            }
            message::Accept::ByApplication { timeout_ms } => {
                Accept::ByApplication { timeout: ms(timeout_ms) }
            }
        },
        acknowledge: acknowledge(options)?,
        hold_limit: options.hold_limit,
        window_max: options.window_max,
        nagle: options.nagle,
        keep_alive: options.keep_alive.map(keep_alive).transpose()?,
        idle_timeout: ms(options.idle_timeout_ms),
        user_timeout: ms(options.user_timeout_ms),
        congestion: match options.congestion {
            message::Congestion::NewReno => Congestion::NewReno,
            message::Congestion::Cubic => Congestion::Cubic,
        },
        traffic_class: options.traffic_class,
        hop_limit: options.hop_limit,
    })
}

/// When the workers wake a sleeping application for a group's text.
///
/// # Errors
/// As [`group_config`].
pub(crate) fn wake(notify: Notify) -> Result<Wake, Refused> {
    let Notify { requests, micros } = notify;
    if requests <= 1 {
        return Ok(Wake::AT_ONCE);
    }
    if !(1..=Notify::MICROS_MAX).contains(&micros) {
        return Err(Refused::invalid(format!(
            "`notify` is {requests} requests or {micros} microseconds: give 1 to {} microseconds, \
             for a request must not wait for others that never come",
            Notify::MICROS_MAX
        )));
    }
    Ok(Wake { notices: requests, delay: Duration::from_micros(micros.into()) })
}

/// How a group's connections are ended, as the stack has it.
pub(crate) const fn manner(manner: message::Manner) -> Manner {
    match manner {
        message::Manner::WhenIdle => Manner::WhenIdle,
        message::Manner::Close => Manner::Close,
        message::Manner::Reset => Manner::Reset,
    }
}

fn acknowledge(options: &GroupOptions) -> Result<Acknowledge, Refused> {
    match options.acknowledge {
        message::Acknowledge::OnReceive if options.hold_limit != 0 => {
            Err(Refused::invalid(format!(
                "`hold_limit` is {}: give 0 where the stack acknowledges on receive and nothing is held",
                options.hold_limit
            )))
        }
        message::Acknowledge::OnReceive => Ok(Acknowledge::OnReceive),
        message::Acknowledge::ByApplication { deadline_ms } => {
            let deadline = Duration::from_millis(deadline_ms.into());
            Ok(Acknowledge::ByApplication { deadline })
        }
    }
}

fn keep_alive(asked: message::KeepAlive) -> Result<KeepAlive, Refused> {
    let message::KeepAlive { idle_ms, interval_ms, probes } = asked;
    within("keep_alive.idle_ms", &idle_ms, &(1..=KEEP_ALIVE_MAX_MS))?;
    within("keep_alive.interval_ms", &interval_ms, &(1..=KEEP_ALIVE_MAX_MS))?;
    within("keep_alive.probes", &probes, &(1..=u8::MAX))?;
    let ms = |ms: u32| Duration::from_millis(ms.into());
    Ok(KeepAlive { idle: ms(idle_ms), interval: ms(interval_ms), probes })
}

/// Bit n for the nth of our own addresses; 0 for all.
fn address_bits(options: &GroupOptions, own: &[Option<Address>]) -> Result<u16, Refused> {
    let mut bits = 0;
    for ip in &options.addresses {
        let is_of_family = match options.family {
            message::Family::V4 => ip.is_ipv4(),
            message::Family::V6 => ip.is_ipv6(),
            message::Family::Dual => true,
        };
        if !is_of_family {
            let family = format!("{:?}", options.family).to_lowercase();
            return Err(Refused::invalid(format!(
                "`addresses` has {ip}, and `family` is {family}: leave it out, or say dual"
            )));
        }
        let Some(place) = own.iter().position(|own| own.is_some_and(|own| own.ip == *ip)) else {
            let there: Vec<String> =
                own.iter().flatten().map(|own: &Address| IpAddr::to_string(&own.ip)).collect();
            return Err(Refused::not_there(format!(
                "`addresses` has {ip}, which is none of the appliance's: it has {}",
                there.join(", ")
            )));
        };
        // There are 16 at most.
        bits |= 1 << place;
    }
    Ok(bits)
}

fn within<T>(option: &str, value: &T, range: &RangeInclusive<T>) -> Result<(), Refused>
where
    T: PartialOrd + core::fmt::Display,
{
    if range.contains(value) {
        return Ok(());
    }
    let (least, most) = (range.start(), range.end());
    Err(Refused::invalid(format!("`{option}` is {value}: give {least} to {most}")))
}

#[cfg(test)]
mod tests {
    use xtcp_ring::message::Refusal;

    use super::*;

    fn own() -> Vec<Option<Address>> {
        let own = |ip: &str, prefix_len| Address { ip: ip.parse().unwrap(), prefix_len };
        vec![Some(own("10.0.0.1", 8)), Some(own("fd77::2", 64)), Some(own("10.0.0.2", 8)), None]
    }

    #[test]
    fn groups_are_taken_over_as_they_were_asked_for() {
        let asked = message::KeepAlive { idle_ms: 7_200_000, interval_ms: 75_000, probes: 9 };
        let options = GroupOptions {
            name: "presence".into(),
            port: 5222,
            family: message::Family::Dual,
            addresses: vec!["10.0.0.2".parse().unwrap(), "fd77::2".parse().unwrap()],
            weight: 7,
            priority: 3,
            accept: message::Accept::ByApplication { timeout_ms: 0 },
            acknowledge: message::Acknowledge::ByApplication { deadline_ms: 7 },
            hold_limit: 9000,
            window_max: 65_536,
            nagle: true,
            notify: Notify { requests: 8, micros: 50 },
            keep_alive: Some(asked),
            idle_timeout_ms: 5000,
            user_timeout_ms: 6000,
            congestion: message::Congestion::Cubic,
            traffic_class: 0xb8,
            hop_limit: 3,
        };
        let config = group_config(&options, &own()).unwrap();
        let waits = Duration::from_secs(10);
        assert_eq!(config.accept, Accept::ByApplication { timeout: waits });
        let deadline = Duration::from_millis(7);
        assert_eq!(config.acknowledge, Acknowledge::ByApplication { deadline });
        assert_eq!((config.port, config.family, config.nagle), (5222, Family::Dual, true));
        assert_eq!((config.addresses, config.weight, config.priority), (0b110, 7, 3));
        assert_eq!((config.hold_limit, config.window_max), (9000, 65_536));
        let keep_alive = KeepAlive {
            idle: Duration::from_secs(7200),
            interval: Duration::from_secs(75),
            probes: 9,
        };
        assert_eq!(config.keep_alive, Some(keep_alive));
        assert_eq!(config.idle_timeout, Duration::from_secs(5));
        assert_eq!(config.user_timeout, Duration::from_secs(6));
        assert_eq!(config.congestion, Congestion::Cubic);
        assert_eq!((config.traffic_class, config.hop_limit), (0xb8, 3));
        let plain = group_config(&GroupOptions::new("plain", 7), &own()).unwrap();
        assert_eq!((plain.addresses, plain.keep_alive), (0, None));
    }

    /// What is changed, the kind of the refusal, and words of it.
    type Case = (fn(&mut GroupOptions), Refusal, [&'static str; 2]);

    const REFUSED: [Case; 13] = [
        (|of| of.port = 0, Refusal::Invalid, ["`port` is 0", "1 to 65535"]),
        (|of| of.weight = 0, Refusal::Invalid, ["`weight` is 0", "1 to 255"]),
        (|of| of.priority = 4, Refusal::Invalid, ["`priority` is 4", "0 to 3"]),
        (|of| of.window_max = 0, Refusal::Invalid, ["`window_max` is 0", "1 to 1073741824"]),
        (|of| of.window_max = u32::MAX, Refusal::Invalid, ["4294967295", "1 to 1073741824"]),
        (|of| of.hop_limit = 0, Refusal::Invalid, ["`hop_limit` is 0", "1 to 255"]),
        (|of| of.traffic_class = 0xb9, Refusal::Invalid, ["`traffic_class` is 185", "ECN"]),
        (
            |of| {
                of.hold_limit = 5;
                of.acknowledge = message::Acknowledge::OnReceive;
            },
            Refusal::Invalid,
            ["`hold_limit` is 5", "give 0"],
        ),
        (
            |of| of.addresses = vec!["10.0.0.9".parse().unwrap()],
            Refusal::NotThere,
            ["10.0.0.9", "it has 10.0.0.1, fd77::2, 10.0.0.2"],
        ),
        (
            |of| {
                of.family = message::Family::V6;
                of.addresses = vec!["10.0.0.1".parse().unwrap()];
            },
            Refusal::Invalid,
            ["10.0.0.1", "`family` is v6"],
        ),
        (|of| set_keep_alive(of, 0, 1, 1), Refusal::Invalid, ["`keep_alive.idle_ms` is 0", "1 to"]),
        (|of| set_keep_alive(of, 1, 0, 1), Refusal::Invalid, ["`keep_alive.interval_ms`", "1 to"]),
        (|of| set_keep_alive(of, 1, 1, 0), Refusal::Invalid, ["`keep_alive.probes` is 0", "255"]),
    ];

    fn set_keep_alive(options: &mut GroupOptions, idle_ms: u32, interval_ms: u32, probes: u8) {
        options.keep_alive = Some(message::KeepAlive { idle_ms, interval_ms, probes });
    }

    #[test]
    fn every_refusal_names_the_option_its_value_and_what_it_can_be() {
        for (change, refusal, words) in REFUSED {
            let mut options = GroupOptions::new("group", 7);
            change(&mut options);
            let refused = group_config(&options, &own()).expect_err(words[0]);
            assert_eq!(refused.refusal, refusal, "{refused}");
            assert!(words.iter().all(|word| refused.reason.contains(word)), "{refused}");
        }
    }

    #[test]
    fn a_request_never_waits_for_ever_for_others() {
        assert_eq!(wake(Notify::AT_ONCE), Ok(Wake::AT_ONCE));
        assert_eq!(wake(Notify { requests: 0, micros: 9 }), Ok(Wake::AT_ONCE));
        let delay = Duration::from_secs(1);
        let patient = wake(Notify { requests: 9, micros: 1_000_000 });
        assert_eq!(patient, Ok(Wake { notices: 9, delay }));
        for micros in [0, 1_000_001] {
            let refused = wake(Notify { requests: 2, micros }).expect_err("too patient");
            assert!(refused.reason.contains("1 to 1000000 microseconds"), "{refused}");
        }
    }
}

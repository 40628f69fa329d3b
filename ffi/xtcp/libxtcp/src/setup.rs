//! What pools and groups are made with: arguments, options and the environment.

use std::path::PathBuf;
use std::time::Duration;

use library::numbered::{Errno, Failure};
use library::{Attach, Family, GroupOptions};

/// Longest name the appliance takes.
const NAME_MAX: usize = 64;

/// How to attach, as far as the environment says.
pub(crate) fn attach(buffer_pool_size: usize) -> Attach {
    let mut attach = Attach::new(&program_name());
    if let Ok(name) = std::env::var("XTCP_APPLICATION") {
        attach.application = name;
    }
    if let Ok(instance) = std::env::var("XTCP_INSTANCE") {
        attach.instance = instance;
    }
    if let Some(run_dir) = std::env::var_os("XTCP_RUN_DIR") {
        attach.run_dir = PathBuf::from(run_dir);
    }
    attach.receive_bytes = u64::try_from(buffer_pool_size).unwrap_or(u64::MAX);
    attach
}

/// The program's name, in letters the appliance takes.
fn program_name() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    name_of(name.trim_end())
}

fn name_of(program: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let letters = program.trim_start_matches('.').chars();
    let name: String = letters.take(NAME_MAX).map(|c| if fits(c) { c } else { '-' }).collect();
    if name.is_empty() { "libxtcp".to_owned() } else { name }
}

/// A group as `xtcp_open_group` asks for it: the specification's, which acknowledges nothing by
/// itself.
pub(crate) fn group(
    domain: i32,
    kind: i32,
    protocol: i32,
    port: u16,
) -> Result<GroupOptions, Failure> {
    let refuse = |errno, what| Err(Failure::Argument { errno, what });
    let (family, name) = match domain {
        libc::PF_INET => (Family::V4, "inet"),
        libc::PF_INET6 => (Family::V6, "inet6"),
        libc::PF_UNIX => (Family::Dual, "unix"),
        _ => return refuse(Errno::AFNOSUPPORT, "domain is PF_INET, PF_INET6 or PF_UNIX"),
    };
    if kind != libc::SOCK_STREAM {
        return refuse(Errno::SOCKTNOSUPPORT, "type is SOCK_STREAM");
    }
    let is_local = domain == libc::PF_UNIX;
    if protocol != 0 && (is_local || protocol != libc::IPPROTO_TCP) {
        return refuse(Errno::PROTONOSUPPORT, "protocol is 0");
    }
    if port == 0 {
        return refuse(Errno::INVAL, "port is 1 to 65535");
    }
    let name = format!("{name}-{port}");
    if is_local {
        return Ok(GroupOptions { port, ..GroupOptions::unix(&name, "") });
    }
    Ok(GroupOptions { family, ..GroupOptions::new(&name, port) })
}

/// A C program's time.
pub(crate) fn timeout(time: libc::timeval) -> Result<Duration, Failure> {
    let what = "timeout has negative seconds, or microseconds beyond 0 to 999999";
    let wrong = |_| Failure::Argument { errno: Errno::INVAL, what };
    let seconds = u64::try_from(time.tv_sec).map_err(wrong)?;
    let micros = u32::try_from(time.tv_usec).map_err(wrong)?;
    if micros >= 1_000_000 {
        return Err(Failure::Argument { errno: Errno::INVAL, what });
    }
    Ok(Duration::new(seconds, micros * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_s_name_becomes_one_the_appliance_takes() {
        assert_eq!(name_of("presence"), "presence");
        assert_eq!(name_of("my server/ä"), "my-server--");
        assert_eq!(name_of("..hidden"), "hidden");
        assert_eq!(name_of(""), "libxtcp");
        assert_eq!(name_of(&"n".repeat(100)).len(), 64);
    }

    #[test]
    fn groups_are_what_the_specification_asks_for() {
        let asked = |domain, kind, protocol, port| {
            group(domain, kind, protocol, port)
                .map(|options| (options.name, options.family, options.port))
                .map_err(|failure| failure.errno())
        };
        let (inet, inet6, stream) = (libc::PF_INET, libc::PF_INET6, libc::SOCK_STREAM);
        assert_eq!(asked(inet, stream, 0, 7), Ok(("inet-7".to_owned(), Family::V4, 7)));
        assert_eq!(asked(inet6, stream, 6, 9), Ok(("inet6-9".to_owned(), Family::V6, 9)));
        assert_eq!(asked(libc::PF_UNIX, stream, 0, 7).unwrap().0, "unix-7");
        assert_eq!(asked(libc::PF_UNIX, stream, 6, 7), Err(Errno::PROTONOSUPPORT));
        assert_eq!(asked(-1, stream, 0, 7), Err(Errno::AFNOSUPPORT));
        assert_eq!(asked(inet, libc::SOCK_DGRAM, 0, 7), Err(Errno::SOCKTNOSUPPORT));
        assert_eq!(asked(inet, stream, 17, 7), Err(Errno::PROTONOSUPPORT));
        assert_eq!(asked(inet, stream, 0, 0), Err(Errno::INVAL));
    }

    #[test]
    fn times_are_taken_or_refused() {
        let asked = |tv_sec, tv_usec| {
            timeout(libc::timeval { tv_sec, tv_usec }).map_err(|failure| failure.errno())
        };
        assert_eq!(asked(0, 0), Ok(Duration::ZERO));
        assert_eq!(asked(2, 999_999), Ok(Duration::from_micros(2_999_999)));
        for (seconds, micros) in [(-1, 0), (0, -1), (0, 1_000_000), (i64::MIN, i64::MIN)] {
            assert_eq!(asked(seconds, micros), Err(Errno::INVAL));
        }
        assert!(asked(i64::MAX, 0).is_ok());
    }
}

//! A wire in user space between two interfaces: frames that come at one end go out at the other
//! after a while, or as the [`Weather`] has it. This kernel has no netem; and what a seed says can be
//! said again.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind, socket,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::weather::{Tally, Way, Weather};
use crate::clock;

/// Which interfaces, and what happens between them.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// One end; nobody else may have an address on it
    #[arg(long)]
    left: String,
    /// The other end
    #[arg(long)]
    right: String,
    /// What chance decides is decided by this
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    weather: Weather,
}

/// Bytes a socket may be behind: a tenth of a second at a gigabit.
const BEHIND_BYTES: usize = 16 << 20;
/// Frames taken from one end before the other has its turn.
const AT_ONCE: usize = 64;
const FRAME_MAX: usize = 16 << 10;

/// Carries frames until told to end (SIGTERM), then says what it did with them.
///
/// # Errors
/// When there is no such interface, or the process may not have packet sockets.
pub fn run(options: &Options) -> io::Result<()> {
    let ends = [end(&options.left)?, end(&options.right)?];
    let over = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&over))?;
    }
    let mut ways = [0, 1].map(|way| Way::new(options.weather, options.seed * 2 + way));
    println!("carrying frames between {} and {}", options.left, options.right);
    let started = clock::now();
    while !over.load(Ordering::Relaxed) {
        carry(&ends, &mut ways, started)?;
    }
    let mut out = io::stdout().lock();
    for (name, way) in [&options.left, &options.right].into_iter().zip(&ways) {
        let Tally { frames, lost, overflowed, twice, corrupt, late } = way.tally;
        writeln!(
            out,
            "from {name}: {frames} frames, {lost} lost, {overflowed} of them by a full queue, \
             {twice} twice, {corrupt} corrupt, {late} late"
        )?;
    }
    Ok(())
}

/// Of what a wire said at its end: frames that came at an end, those lost, and those of them that
/// found the queue full.
pub(super) fn told_of(end: &str, said: &[String]) -> Option<[u64; 3]> {
    let start = format!("from {end}: ");
    let line = said.iter().find_map(|line| line.strip_prefix(&start))?;
    let mut counts = line.split(", ").map(|part| part.split(' ').next().unwrap_or("").parse());
    Some([counts.next()?.ok()?, counts.next()?.ok()?, counts.next()?.ok()?])
}

/// A packet socket on an interface: it gets what arrives there, and not what it sends itself.
fn end(interface: &str) -> io::Result<OwnedFd> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no interface {interface}"));
    let is_it = |address: &LinkAddr| address.family() == Some(AddressFamily::Packet);
    let address = getifaddrs()?
        .filter(|one| one.interface_name == interface)
        .find_map(|one| one.address?.as_link_addr().copied().filter(is_it))
        .ok_or_else(missing)?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    // The address names no protocol, so the socket's own stays: all.
    bind(fd.as_raw_fd(), &address)?;
    set_socket_recv_buffer_size_force(&fd, BEHIND_BYTES)?;
    // What came before it was bound may be of any interface.
    while receive(&fd, &mut vec![0; FRAME_MAX])?.is_some() {}
    Ok(fd)
}

/// Sends what has arrived by now, and takes what comes until the next is to arrive.
fn carry(ends: &[OwnedFd; 2], ways: &mut [Way; 2], started: Instant) -> io::Result<()> {
    let now = nanoseconds(started.elapsed());
    for (way, to) in ways.iter_mut().zip([&ends[1], &ends[0]]) {
        while let Some(frame) = way.arrived(now) {
            match send(to, &frame, SendFlags::empty()) {
                // A queue that is full, or an interface that is down, loses frames as any does.
                Ok(_) | Err(Errno::NOBUFS | Errno::AGAIN | Errno::NETDOWN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    let next = ways.iter().filter_map(Way::next_arrival).min();
    let wait = next.map(|at| Duration::from_nanos(at.saturating_sub(now)));
    let wait = wait.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
    let mut both = [PollFd::new(&ends[0], PollFlags::IN), PollFd::new(&ends[1], PollFlags::IN)];
    match poll(&mut both, wait.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let now = nanoseconds(started.elapsed());
    let mut frame = [0; FRAME_MAX];
    for (way, from) in ways.iter_mut().zip(ends) {
        for _ in 0..AT_ONCE {
            let Some(len) = receive(from, &mut frame)? else { break };
            way.send(&frame[..len], now);
        }
    }
    Ok(())
}

/// The length of the next frame, if there is one.
fn receive(fd: &OwnedFd, frame: &mut [u8]) -> io::Result<Option<usize>> {
    match recv(fd.as_fd(), frame, RecvFlags::empty()) {
        Ok((len, _)) => Ok(Some(len)),
        Err(Errno::AGAIN | Errno::INTR | Errno::NETDOWN) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

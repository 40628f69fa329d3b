//! The far end of the appliance's wire: a packet socket in the clients' namespace, whose kernel has no
//! address and says nothing. Whoever the appliance looks for on the link is answered for.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, send, socket,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::lab::Family;
use crate::packets::{ARP, IPV6, Mac, Seen, What, arp, frame, ipv6, seal};
use xtcp_bench::clock::Deadline;

/// The probe's station.
pub(crate) const OUR_MAC: Mac = [0x02, 0x77, 0, 0, 0, 1];

/// Hosts that nobody answers for: 10.77.128.0/17 and fd77:0:0:0:dead::/80, and the appliance.
pub(crate) fn is_dead(ip: IpAddr) -> bool {
    if [Family::V4.server(), Family::V6.server()].contains(&ip) {
        return true;
    }
    match ip {
        IpAddr::V4(ip) => ip.octets()[2] >= 128,
        IpAddr::V6(ip) => ip.segments()[4] == 0xdead,
    }
}

/// A socket that sends any frame and sees each that comes.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: OwnedFd,
    /// What came and nobody has asked for yet.
    seen: VecDeque<Seen>,
    /// The station that hosts on the link are answered for by.
    pub(crate) station: Mac,
    /// The VLAN that what is sent is tagged for.
    pub(crate) vlan: Option<u16>,
    /// A host, and how often everybody was asked where it is.
    pub(crate) sought: Option<(IpAddr, u32)>,
}

impl Wire {
    /// On an interface inside a namespace.
    pub(crate) fn open(namespace: &str, interface: &str) -> Self {
        let (path, interface) = (format!("/run/netns/{namespace}"), interface.to_owned());
        let opening = thread::spawn(move || {
            let namespace = File::open(path)?;
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network)?;
            open_on(&interface)
        });
        let socket = opening.join().expect("opening does not panic").expect("a packet socket");
        Self { socket, seen: VecDeque::new(), station: OUR_MAC, vlan: None, sought: None }
    }

    /// Sends a frame, with a tag if the wire is a VLAN's.
    pub(crate) fn send(&self, frame: &[u8]) {
        let mut frame = frame.to_vec();
        if let Some(vlan) = self.vlan {
            let [high, low] = vlan.to_be_bytes();
            frame.splice(12..12, [0x81, 0, high, low]);
        }
        let frame = &frame[..];
        loop {
            match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => return,
                // The appliance has not emptied its ring yet.
                Err(nix::Error::ENOBUFS | nix::Error::EAGAIN) => thread::yield_now(),
                Err(error) => panic!("a frame of {} bytes: {error}", frame.len()),
            }
        }
    }

    /// The first frame that is wanted, of those that came and those that come in time. The others
    /// are kept.
    pub(crate) fn wait_for<T>(
        &mut self,
        within: Duration,
        mut wanted: impl FnMut(&Seen) -> Option<T>,
    ) -> Option<T> {
        let deadline = Deadline::within(within);
        let mut looked_at = 0;
        loop {
            while let Some(seen) = self.seen.get(looked_at) {
                if let Some(found) = wanted(seen) {
                    self.seen.remove(looked_at);
                    return Some(found);
                }
                looked_at += 1;
            }
            if !self.receive(deadline.left()) && deadline.is_over() {
                return None;
            }
        }
    }

    /// All frames that came and are wanted.
    pub(crate) fn take<T>(&mut self, mut wanted: impl FnMut(&Seen) -> Option<T>) -> Vec<T> {
        let mut taken = Vec::new();
        self.seen.retain(|seen| match wanted(seen) {
            Some(found) => {
                taken.push(found);
                false
            }
            None => true,
        });
        taken
    }

    /// Forgets what came.
    pub(crate) fn forget(&mut self) {
        self.seen.clear();
    }

    /// The socket's interface was down, which is told once, whenever that is.
    pub(crate) fn forget_error(&self) {
        let _ = rustix::net::sockopt::socket_error(&self.socket);
    }

    /// Takes in what has come; waits so long for the first of it. Says whether anything came.
    fn receive(&mut self, within: Duration) -> bool {
        let timeout = Timespec::try_from(within).expect("seconds");
        let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut ready, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return false,
            Ok(_) => {}
            Err(error) => panic!("waiting for frames: {error}"),
        }
        let mut bytes = vec![0; 1 << 16];
        while let Ok((_, len)) =
            rustix::net::recv(&self.socket, &mut bytes[..], RecvFlags::DONTWAIT)
        {
            let seen = Seen::parse(&bytes[..len]);
            if !self.answer_for_hosts(&seen) {
                self.seen.push_back(seen);
            }
        }
        true
    }

    /// Answers who looks for a host on the link; says whether that was it.
    fn answer_for_hosts(&mut self, seen: &Seen) -> bool {
        match &seen.what {
            What::Arp { operation: 1, sender, target } if sender.1 != *target => {
                self.note_sought(seen, (*target).into());
                if !is_dead((*target).into()) {
                    self.tell_arp(*target, *sender);
                }
                true
            }
            What::Icmp { src: IpAddr::V6(asking), kind: 135, rest, .. }
                if !asking.is_unspecified() =>
            {
                let target: [u8; 16] = rest[4..20].try_into().expect("sixteen");
                self.note_sought(seen, IpAddr::V6(target.into()));
                if !is_dead(IpAddr::V6(target.into())) {
                    self.tell_advertisement(target.into(), seen.from, *asking);
                }
                true
            }
            _ => false,
        }
    }

    fn note_sought(&mut self, seen: &Seen, target: IpAddr) {
        let asks_everybody = seen.to[0] & 1 == 1;
        if let Some((host, times)) = &mut self.sought
            && asks_everybody
            && *host == target
        {
            *times += 1;
        }
    }

    fn tell_arp(&self, host: Ipv4Addr, asking: (Mac, Ipv4Addr)) {
        let body = arp(2, (self.station, host), asking);
        self.send(&frame(asking.0, self.station, ARP, &body));
    }

    fn tell_advertisement(&self, host: Ipv6Addr, to: Mac, asking: Ipv6Addr) {
        let body = advertisement((host, asking), host, 0x60, self.station);
        self.send(&frame(to, self.station, IPV6, &ipv6((host, asking), 58, 255, &body)));
    }
}

/// A neighbour advertisement from and to these about `target`; `flags` are its first byte's.
pub(crate) fn advertisement(
    (src, dst): (Ipv6Addr, Ipv6Addr),
    target: Ipv6Addr,
    flags: u8,
    station: Mac,
) -> Vec<u8> {
    let mut body = vec![136, 0, 0, 0, flags, 0, 0, 0];
    body.extend(target.octets());
    body.extend([2, 1]);
    body.extend(station);
    seal(src.into(), dst.into(), 58, &mut body);
    body
}

fn open_on(interface: &str) -> io::Result<OwnedFd> {
    let all = SockProtocol::EthAll;
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, all)?;
    // Room for a flood's answers until they are looked at.
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 256 << 20)?;
    let mut addresses = nix::ifaddrs::getifaddrs()?;
    let link = addresses.find_map(|found| {
        let link = found.address.and_then(|address| address.as_link_addr().copied());
        link.filter(|_| found.interface_name == interface)
    });
    let link = link.ok_or(io::ErrorKind::NotFound)?;
    bind(socket.as_raw_fd(), &link)?;
    Ok(socket)
}

//! A host with somebody else's TCP: smoltcp's.

use std::collections::VecDeque;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as Micros;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint};
use xtcp_stack::Instant;

use super::app::Stream;
use super::rng::{Rng, pattern};
use super::{v4, v6};

/// Frames to and from smoltcp.
#[derive(Default)]
pub(crate) struct Port {
    pub(crate) arrived: VecDeque<Vec<u8>>,
    pub(crate) sent: Vec<Vec<u8>>,
}

pub(crate) struct Arrived(Vec<u8>);
pub(crate) struct Sent<'p>(&'p mut Vec<Vec<u8>>);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Port {
    type RxToken<'p> = Arrived;
    type TxToken<'p> = Sent<'p>;

    fn receive(&mut self, _: Micros) -> Option<(Arrived, Sent<'_>)> {
        let frame = self.arrived.pop_front()?;
        Some((Arrived(frame), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _: Micros) -> Option<Sent<'_>> {
        Some(Sent(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// One connection of smoltcp's and what it is to carry.
struct Talk {
    socket: SocketHandle,
    stream: Stream,
}

/// A host with smoltcp.
pub(crate) struct Other {
    pub(crate) port: Port,
    interface: Interface,
    sockets: SocketSet<'static>,
    talks: Vec<Talk>,
    ended: Vec<Stream>,
    rng: Rng,
}

impl Other {
    pub(crate) fn new(number: u8, seed: u64, now: Instant) -> Self {
        let mut port = Port::default();
        let mac = EthernetAddress([2, 0, 0, 0, 0, number]);
        let mut config = Config::new(HardwareAddress::Ethernet(mac));
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut port, micros(now));
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(v4(number).into(), 24)).expect("room");
            addresses.push(IpCidr::new(v6(number).into(), 64)).expect("room");
        });
        Self {
            port,
            interface,
            sockets: SocketSet::new(Vec::new()),
            talks: Vec::new(),
            ended: Vec::new(),
            rng: Rng::new(seed),
        }
    }

    fn socket(&mut self) -> Socket<'static> {
        let mut size = || {
            let magnitude = 11 + self.rng.below(6);
            usize::try_from(64 + self.rng.below(1 << magnitude)).expect("small")
        };
        let (receive, send) =
            (SocketBuffer::new(vec![0; size()]), SocketBuffer::new(vec![0; size()]));
        let mut socket = Socket::new(receive, send);
        socket.set_nagle_enabled(self.rng.chance(500_000));
        socket
    }

    /// Opens a connection from `local_port`.
    pub(crate) fn connect(&mut self, to: (IpAddress, u16), local_port: u16, stream: Stream) {
        let mut socket = self.socket();
        let remote = IpEndpoint::new(to.0, to.1);
        socket.connect(self.interface.context(), remote, local_port).expect("a free port");
        let socket = self.sockets.add(socket);
        self.talks.push(Talk { socket, stream });
    }

    /// Waits for one connection to `port`.
    pub(crate) fn listen(&mut self, port: u16, stream: Stream) {
        let mut socket = self.socket();
        socket.listen(port).expect("a port");
        let socket = self.sockets.add(socket);
        self.talks.push(Talk { socket, stream });
    }

    /// Everything that happens at this instant.
    pub(crate) fn run(&mut self, now: Instant) {
        self.interface.poll(micros(now), &mut self.port, &mut self.sockets);
        for at in (0..self.talks.len()).rev() {
            let talk = &mut self.talks[at];
            let socket = self.sockets.get_mut::<Socket<'_>>(talk.socket);
            talk.stream.work(socket, &mut self.rng);
            if talk.stream.opened && socket.state() == State::Closed {
                let talk = self.talks.swap_remove(at);
                self.sockets.remove(talk.socket);
                self.ended.push(talk.stream);
            }
        }
        self.interface.poll(micros(now), &mut self.port, &mut self.sockets);
    }

    /// When it next has something to do.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(micros(now), &self.sockets)?;
        let at = Instant::from_nanos(u64::try_from(at.total_micros()).unwrap_or(0) * 1000);
        // It may ask for the past; a millisecond later does.
        Some(at.max(Instant::from_nanos(now.as_nanos() + 1_000_000)))
    }

    /// The streams that have not ended: in CLOSING and TIME-WAIT both FINs are there, and only
    /// acknowledgements are wanting. (In CLOSING smoltcp may forget its timer and stay for ever.)
    pub(crate) fn open(&self) -> Vec<&Stream> {
        let is_open = |talk: &&Talk| {
            let state = self.sockets.get::<Socket<'_>>(talk.socket).state();
            !matches!(state, State::Closing | State::TimeWait)
        };
        self.talks.iter().filter(is_open).map(|talk| &talk.stream).collect()
    }

    /// Every stream there was.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.ended.iter().chain(self.talks.iter().map(|talk| &talk.stream))
    }

    /// Whether its applications have work left that no frame announces.
    pub(crate) fn is_restless(&self) -> bool {
        self.talks.iter().any(|talk| talk.stream.opened && !talk.stream.closing)
    }
}

impl Stream {
    /// Sends and takes what the socket lets it.
    fn work(&mut self, socket: &mut Socket<'_>, rng: &mut Rng) {
        self.opened |= socket.may_send();
        if !self.opened {
            return;
        }
        while socket.can_send() && self.sent < self.to_send {
            let most = 1 + rng.below(5000);
            let end = self.to_send.min(self.sent + most);
            let bytes: Vec<u8> = (self.sent..end).map(|at| pattern(self.send_key, at)).collect();
            self.sent += socket.send_slice(&bytes).expect("it can") as u64;
        }
        let mut bytes = [0; 3000];
        let most = usize::try_from(rng.below(3000)).expect("small");
        while socket.can_recv() && most > 0 {
            let len = socket.recv_slice(&mut bytes[..most]).expect("it can");
            for byte in &bytes[..len] {
                let wanted = pattern(self.receive_key, self.received);
                assert_eq!(*byte, wanted, "byte {} of the stream", self.received);
                self.received += 1;
            }
            assert!(self.received <= self.to_receive, "no more than was sent");
        }
        self.finished |= !socket.may_recv();
        if self.sent == self.to_send && self.received == self.to_receive && !self.closing {
            socket.close();
            self.closing = true;
        }
    }
}

fn micros(now: Instant) -> Micros {
    Micros::from_micros(i64::try_from(now.as_nanos() / 1000).expect("not that late"))
}

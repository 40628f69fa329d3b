//! An ordinary kernel server that sends back what comes, to try the clients on.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

/// What one client's echo may hold back while the client does not read.
const HELD_MAX: usize = 256 << 10;
/// Connections that wait to be accepted; the kernel takes `net.core.somaxconn` if that is less.
const BACKLOG: i32 = 16_384;
const LISTENER: u64 = u64::MAX;

/// A listening echo server.
#[derive(Debug)]
pub struct EchoServer {
    listener: TcpListener,
    /// For tests of the clients: turn over one bit of the echoed byte with this number, counted
    /// over all connections.
    pub spoil: Option<u64>,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    held: VecDeque<u8>,
    ended: bool,
}

impl EchoServer {
    /// Listens.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        // Rust's own is 128, which clients that connect faster than they are accepted overflow: each
        // loss costs its client a second.
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, spoil: None })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves for good.
    ///
    /// # Errors
    /// When the kernel refuses epoll or a new connection.
    pub fn serve(&self) -> io::Result<()> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &self.listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let mut clients: HashMap<u64, Client> = HashMap::new();
        let (mut next, mut echoed) = (0, 0);
        let mut events: Vec<epoll::Event> = Vec::with_capacity(512);
        loop {
            events.clear();
            match epoll::wait(&epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            for event in &events {
                let key = event.data.u64();
                if key == LISTENER {
                    while let Some(stream) = self.accept()? {
                        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                        epoll::add(&epoll, &stream, EventData::new_u64(next), interest)?;
                        let client = Client { stream, held: VecDeque::new(), ended: false };
                        clients.insert(next, client);
                        next += 1;
                    }
                } else if let Some(client) = clients.get_mut(&key)
                    && !client.echo(self.spoil, &mut echoed)
                {
                    clients.remove(&key);
                }
            }
        }
    }

    fn accept(&self) -> io::Result<Option<TcpStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(Some(stream))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Client {
    /// Moves what can be moved; false when the connection is over.
    fn echo(&mut self, spoil: Option<u64>, echoed: &mut u64) -> bool {
        let mut scratch = [0; 16 << 10];
        loop {
            let mut moved = false;
            if !self.ended && self.held.len() < HELD_MAX {
                match rustix::io::read(&self.stream, &mut scratch) {
                    Ok(0) => self.ended = true,
                    Ok(len) => {
                        moved = true;
                        if let Some(at) = spoil.and_then(|at| at.checked_sub(*echoed))
                            && at < len as u64
                        {
                            scratch[at as usize] ^= 1;
                        }
                        *echoed += len as u64;
                        self.held.extend(&scratch[..len]);
                    }
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(_) => return false,
                }
            }
            let (front, _) = self.held.as_slices();
            if !front.is_empty() {
                match rustix::net::send(&self.stream, front, rustix::net::SendFlags::NOSIGNAL) {
                    Ok(len) => {
                        moved = true;
                        self.held.drain(..len);
                    }
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(_) => return false,
                }
            }
            if self.ended && self.held.is_empty() {
                return false;
            }
            if !moved {
                return true;
            }
        }
    }
}

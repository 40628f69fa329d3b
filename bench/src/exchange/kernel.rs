//! The server on kernel sockets: one thread and epoll, as such servers are written.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::Exchange;
use crate::clock;

const LISTENER: u64 = u64::MAX;

struct Server {
    exchange: Exchange,
    clients: HashMap<u64, Client>,
    /// Answers in the order they are due.
    due: VecDeque<(Instant, u64, Vec<u8>)>,
}

struct Client {
    stream: TcpStream,
    /// Of a request that has not come in full.
    begun: Vec<u8>,
}

/// Serves for good.
///
/// # Errors
/// When the kernel refuses epoll or a new connection.
pub fn serve(listener: &TcpListener, exchange: Exchange) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut server = Server { exchange, clients: HashMap::new(), due: VecDeque::new() };
    let mut next = 0;
    let mut events: Vec<epoll::Event> = Vec::with_capacity(512);
    loop {
        events.clear();
        let timeout = server.until_the_next().map(Timespec::try_from).transpose();
        let timeout = timeout.map_err(io::Error::other)?;
        match epoll::wait(&epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in &events {
            let key = event.data.u64();
            if key != LISTENER {
                server.on_readable(key);
                continue;
            }
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(next), EventFlags::IN)?;
            server.clients.insert(next, Client { stream, begun: Vec::new() });
            next += 1;
        }
        server.answer_what_is_due();
    }
}

impl Server {
    fn until_the_next(&self) -> Option<std::time::Duration> {
        let (due, ..) = self.due.front()?;
        Some(due.saturating_duration_since(clock::now()))
    }

    fn on_readable(&mut self, key: u64) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let mut bytes = [0; 16 << 10];
        match rustix::io::read(&client.stream, &mut bytes) {
            Ok(len @ 1..) => client.begun.extend(&bytes[..len]),
            Err(Errno::AGAIN | Errno::INTR) => return,
            Ok(0) | Err(_) => {
                self.clients.remove(&key);
                return;
            }
        }
        let Exchange { bytes, after } = self.exchange;
        while client.begun.len() >= bytes {
            let rest = client.begun.split_off(bytes);
            let request = std::mem::replace(&mut client.begun, rest);
            if after.is_zero() {
                if !client.answer(&request) {
                    self.clients.remove(&key);
                    return;
                }
            } else {
                self.due.push_back((clock::now() + after, key, request));
            }
        }
    }

    fn answer_what_is_due(&mut self) {
        while self.due.front().is_some_and(|(due, ..)| *due <= clock::now()) {
            let Some((_, key, answer)) = self.due.pop_front() else { return };
            if self.clients.get(&key).is_some_and(|client| !client.answer(&answer)) {
                self.clients.remove(&key);
            }
        }
    }
}

impl Client {
    /// Whether the answer could be sent. A client that does not read is not served further.
    fn answer(&self, answer: &[u8]) -> bool {
        send(&self.stream, answer, SendFlags::NOSIGNAL) == Ok(answer.len())
    }
}

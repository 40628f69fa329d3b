//! Kernel clients: a thread for each connection.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_tcp_congestion;
use serde::{Deserialize, Serialize};

use super::{HASH, Hash, ORDER, Order};
use crate::clock;
use crate::payload::choose;

/// What is transferred.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Plan {
    /// The server, e.g. 10.77.0.2:7300
    #[arg(long)]
    pub target: SocketAddr,
    /// Connections at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub connections: u32,
    /// Transfers on each
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Bytes a transfer takes to the server
    #[arg(long, default_value_t = 0)]
    pub upload: u64,
    /// Bytes a transfer takes from the server
    #[arg(long, default_value_t = 0)]
    pub download: u64,
    /// What all bytes are made from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The clients' congestion control
    #[arg(long, value_enum, default_value_t = super::Control::Cubic)]
    pub congestion: super::Control,
    /// Seconds nothing may come or go before a transfer counts as stuck
    #[arg(long, default_value_t = 60)]
    pub patience: u64,
}

/// What became of it. Every byte arrived and was compared, or there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Microseconds of each transfer, from its order's first byte sent to its answer's last received.
    pub took_us: Vec<u64>,
}

/// Transfers everything.
///
/// # Errors
/// When a connection cannot be made, breaks or stands still, or a byte is not what it was: which one.
pub fn run(plan: &Plan) -> io::Result<Outcome> {
    let start = Arc::new(Barrier::new(plan.connections as usize));
    let threads: Vec<_> = (0..plan.connections)
        .map(|number| {
            let (plan, start) = (*plan, Arc::clone(&start));
            thread::spawn(move || transfer(&plan, number, &start))
        })
        .collect();
    let mut took_us = Vec::new();
    for (number, thread) in threads.into_iter().enumerate() {
        let of_one = thread.join().map_err(|_| io::Error::other("a client's thread panicked"))?;
        let of_one = of_one.map_err(|error| {
            io::Error::new(error.kind(), format!("connection {number}: {error}"))
        })?;
        took_us.extend(of_one);
    }
    Ok(Outcome { took_us })
}

fn transfer(plan: &Plan, number: u32, start: &Barrier) -> io::Result<Vec<u64>> {
    let connected = connect(plan);
    // Who could not connect must not keep the others waiting.
    start.wait();
    let mut stream = connected?;
    (0..plan.rounds)
        .map(|round| {
            let order = Order {
                upload: plan.upload,
                download: plan.download,
                seed: choose(plan.seed, number, round, u64::MAX),
            };
            let started = clock::now();
            exchange(&mut stream, order)
                .map_err(|error| io::Error::new(error.kind(), format!("round {round}: {error}")))?;
            Ok(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX))
        })
        .collect()
}

fn connect(plan: &Plan) -> io::Result<TcpStream> {
    let patience = Duration::from_secs(plan.patience);
    let stream = TcpStream::connect_timeout(&plan.target, patience)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    // Root may choose what a namespace may not.
    set_tcp_congestion(&stream, plan.congestion.in_linux())?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream, order: Order) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    let hash = send(stream, order, &mut bytes)?;
    let mut answer = [0; HASH];
    stream.read_exact(&mut answer)?;
    if answer != hash.0.to_le_bytes() {
        let what = "the server's hash of what it received is not that of what was sent";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut at = 0;
    while at < order.download {
        let len = stream.read(&mut bytes)?;
        if len == 0 {
            let what = format!("the stream ends after {at} of {} bytes", order.download);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        if let Some(wrong) = order.downloaded().first_difference(at, &bytes[..len]) {
            let what = format!("byte {} is not what was sent", at + wrong as u64);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        at += len as u64;
    }
    Ok(())
}

/// The order and its upload; a small one in one segment.
fn send(stream: &mut TcpStream, order: Order, bytes: &mut [u8]) -> io::Result<Hash> {
    let mut hash = Hash::EMPTY;
    let mut sent = 0;
    let mut filled = ORDER;
    bytes[..ORDER].copy_from_slice(&order.to_bytes());
    loop {
        let room = &mut bytes[filled..];
        let len = usize::try_from(order.upload - sent).unwrap_or(usize::MAX).min(room.len());
        order.uploaded().write(sent, &mut room[..len]);
        hash.add(&room[..len]);
        stream.write_all(&bytes[..filled + len])?;
        sent += len as u64;
        filled = 0;
        if sent == order.upload {
            return Ok(hash);
        }
    }
}

//! The server on kernel sockets: a thread for each client, as few as there are.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::thread;

use rustix::net::sockopt::set_tcp_congestion;

use super::{Control, Job, ORDER, Order};

/// Serves for good, on two ports from `first` on; calls `ready` when clients may come.
///
/// # Errors
/// When an address is taken or the kernel lacks a congestion control.
pub fn serve(address: IpAddr, first: u16, ready: impl FnOnce()) -> io::Result<()> {
    let mut threads = Vec::new();
    for control in Control::ALL {
        let listener = TcpListener::bind((address, control.port(first)))?;
        // Who is accepted inherits it; root may choose what a namespace may not.
        set_tcp_congestion(&listener, control.in_linux())?;
        threads.push(thread::spawn(move || accept(&listener)));
    }
    ready();
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a listener's thread panicked"))??;
    }
    Ok(())
}

fn accept(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        // Whoever is gone in the middle says so himself.
        thread::spawn(move || serve_one(stream));
    }
}

fn serve_one(mut stream: TcpStream) -> io::Result<()> {
    let mut job = Job::default();
    let mut bytes = vec![0; 64 << 10];
    loop {
        let mut order = [0; ORDER];
        stream.read_exact(&mut order)?;
        job.start(Order::from_bytes(&order));
        while let Some(left @ 1..) = job.wants() {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            match stream.read(&mut bytes[..most])? {
                0 => return Ok(()),
                len => job.upload(&bytes[..len]),
            }
        }
        loop {
            let len = job.answer(&mut bytes);
            stream.write_all(&bytes[..len])?;
            if job.has_sent(len) {
                break;
            }
        }
    }
}

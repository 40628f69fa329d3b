//! A small HTTP/1.1 server over XTCP: what is put is kept in memory, and can be got.
//!
//! ```text
//! $ curl -T photo.jpg http://10.77.0.2:8080/photo
//! $ curl http://10.77.0.2:8080/photo
//! ```
//!
//! What to look for: **a request is acknowledged when its answer has been sent**, however long that
//! is. While the client reads slowly, sending fails for want of room, the request is let go of, and
//! it is given again when there is room; the only thing to remember is how much was sent. Requests
//! that were sent ahead (pipelining) wait behind it in the appliance's receive buffer.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use xtcp::{
    Acknowledge, Application, Attach, Connection, Event, GroupOptions, Inbox, Request, SendError,
};

/// Longest head of a request.
const HEAD_MAX: usize = 16 << 10;
/// Largest thing that is kept, and how many.
const BODY_MAX: usize = 64 << 20;
const KEPT_MAX: usize = 16;
/// Bytes given to the library at once.
const PIECE: usize = 64 << 10;

/// HTTP server over XTCP.
#[derive(Parser)]
struct Options {
    /// Name of the appliance's instance.
    #[arg(long, default_value = "xtcp")]
    instance: String,
    /// Where the instances' sockets are.
    #[arg(long, default_value = "/run/xtcp")]
    run_dir: PathBuf,
    /// TCP port to listen on, IPv4 and IPv6.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let (application, mut inbox) = Application::attach(&Attach {
        instance: options.instance.clone(),
        run_dir: options.run_dir.clone(),
        ..Attach::new("http")
    })?;
    application.open_group(&GroupOptions {
        // A long answer must not make its request come again.
        acknowledge: Acknowledge::ByApplication { deadline: Duration::from_millis(40) },
        ..GroupOptions::new("http", options.port)
    })?;
    println!("http: ready on port {}, Ctrl-C ends it", options.port);
    let kept = HashMap::from([("/".to_owned(), Rc::from(&b"hello\n"[..]))]);
    let mut server = Server { application, clients: HashMap::new(), kept };
    while !stop.load(Ordering::Relaxed) {
        inbox.wait(Some(Duration::from_millis(500)))?;
        server.serve(&mut inbox)?;
    }
    server.application.detach(inbox)?;
    Ok(())
}

struct Server {
    application: Application,
    clients: HashMap<Connection, Client>,
    /// What was put, by its path.
    kept: HashMap<String, Rc<[u8]>>,
}

#[derive(Default)]
struct Client {
    /// The answer that is being sent, and how much of it was.
    answer: Option<(Answer, usize)>,
    /// What is being put.
    body: Option<Body>,
    /// It is to be closed, and what still comes is not listened to.
    closing: bool,
}

/// What is being put: its path, what there is of it, how much it will be, and whether its answer is
/// the last.
struct Body {
    path: String,
    bytes: Vec<u8>,
    length: usize,
    last: bool,
}

/// An answer, and the bytes of the request it answers.
#[derive(Clone)]
struct Answer {
    head: Rc<[u8]>,
    body: Rc<[u8]>,
    answered: usize,
    last: bool,
}

/// What of a head is of interest.
struct Head {
    method: String,
    path: String,
    length: usize,
    continues: bool,
    last: bool,
}

impl Head {
    fn parse(text: &str) -> Option<Self> {
        let (first, fields) = text.split_once("\r\n").unwrap_or((text, ""));
        let [method, path, version] = first.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        let mut head = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            length: 0,
            continues: false,
            last: version != "HTTP/1.1",
        };
        for (name, value) in fields.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.parse().ok()?,
                "connection" => head.last |= value.eq_ignore_ascii_case("close"),
                "expect" => head.continues = value.eq_ignore_ascii_case("100-continue"),
                // Bodies of unknown length are not taken.
                "transfer-encoding" => return None,
                _ => {}
            }
        }
        Some(head)
    }
}

impl Server {
    fn serve(&mut self, inbox: &mut Inbox) -> Result<(), Box<dyn Error>> {
        let mut batch = inbox.receive()?;
        while let Some(event) = batch.next_event() {
            match event {
                Event::Acceptable(client) => {
                    self.clients.insert(client.accept()?, Client::default());
                }
                Event::Request(request) => match self.on_request(request) {
                    // For want of room, what is left is given again; a closed one says so itself.
                    Ok(())
                    | Err(SendError::WouldBlock | SendError::Behind { .. } | SendError::Closed) => {
                    }
                    Err(error) => return Err(error.into()),
                },
                Event::Finished(connection) => self.close(connection)?,
                Event::Closed { connection, .. } => drop(self.clients.remove(&connection)),
                _ => {}
            }
        }
        Ok(())
    }

    fn close(&mut self, connection: Connection) -> Result<(), SendError> {
        match self.application.close(connection) {
            Ok(()) | Err(SendError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn on_request(&mut self, mut request: Request<'_>) -> Result<(), SendError> {
        let connection = request.connection();
        while !request.is_empty() {
            let Some(client) = self.clients.get_mut(&connection) else { return Ok(()) };
            if client.closing {
                let len = request.len();
                request.acknowledge(len)?;
            } else if let Some((answer, sent)) = &mut client.answer {
                send(&mut request, answer, sent)?;
                client.closing = answer.last;
                client.answer = None;
                if client.closing {
                    self.close(connection)?;
                }
            } else if client.body.is_some() {
                self.take_body(connection, &mut request)?;
            } else {
                let text = request.head(request.len().min(HEAD_MAX)).into_owned();
                let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else {
                    if text.len() < HEAD_MAX && !request.is_last() {
                        return Ok(());
                    }
                    self.prepare(connection, "431 Too Large", Rc::from([]), text.len(), true);
                    continue;
                };
                let head = std::str::from_utf8(&text[..end]).ok().and_then(Head::parse);
                self.on_head(connection, &mut request, head, end + 4)?;
            }
        }
        Ok(())
    }

    /// A whole head of `len` bytes stands in front of the request.
    fn on_head(
        &mut self,
        connection: Connection,
        request: &mut Request<'_>,
        head: Option<Head>,
        len: usize,
    ) -> Result<(), SendError> {
        let nothing = || Rc::from([]);
        let Some(head) = head else {
            self.prepare(connection, "400 Bad Request", nothing(), len, true);
            return Ok(());
        };
        match (head.method.as_str(), self.kept.get(&head.path)) {
            ("GET", Some(body)) => {
                let body = Rc::clone(body);
                self.prepare(connection, "200 OK", body, len, head.last);
            }
            ("GET", None) => self.prepare(connection, "404 Not Found", nothing(), len, head.last),
            ("PUT", _) if head.length > BODY_MAX || self.kept.len() >= KEPT_MAX => {
                self.prepare(connection, "413 Content Too Large", nothing(), len, true);
            }
            ("PUT", _) if head.length == 0 => {
                self.kept.insert(head.path, nothing());
                self.prepare(connection, "201 Created", nothing(), len, head.last);
            }
            ("PUT", _) => {
                let Some(client) = self.clients.get_mut(&connection) else { return Ok(()) };
                if head.continues {
                    request.answer(len, b"HTTP/1.1 100 Continue\r\n\r\n")?;
                } else {
                    request.acknowledge(len)?;
                }
                let Head { path, length, last, .. } = head;
                client.body = Some(Body { path, bytes: Vec::with_capacity(length), length, last });
            }
            _ => self.prepare(connection, "405 Method Not Allowed", nothing(), len, true),
        }
        Ok(())
    }

    /// Takes what has come of a body. The last of it is acknowledged by the answer.
    fn take_body(
        &mut self,
        connection: Connection,
        request: &mut Request<'_>,
    ) -> Result<(), SendError> {
        let Some(client) = self.clients.get_mut(&connection) else { return Ok(()) };
        let Some(Body { path, bytes, length, last }) = &mut client.body else { return Ok(()) };
        let mut taken = 0;
        for piece in request.first(*length - bytes.len()) {
            bytes.extend_from_slice(piece);
            taken += piece.len();
        }
        if bytes.len() < *length {
            return request.acknowledge(taken);
        }
        let (path, body, last) = (std::mem::take(path), Rc::from(std::mem::take(bytes)), *last);
        client.body = None;
        self.kept.insert(path, body);
        self.prepare(connection, "201 Created", Rc::from([]), taken, last);
        Ok(())
    }

    /// What is to be sent next, for so many bytes of the request.
    fn prepare(
        &mut self,
        connection: Connection,
        status: &str,
        body: Rc<[u8]>,
        answered: usize,
        last: bool,
    ) {
        let close = if last { "Connection: close\r\n" } else { "" };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{close}Content-Length: {length}\r\n\r\n");
        let head = Rc::from(head.into_bytes());
        if let Some(client) = self.clients.get_mut(&connection) {
            client.answer = Some((Answer { head, body, answered, last }, 0));
        }
    }
}

/// Sends an answer from where it was left, and then acknowledges what it answers.
fn send(request: &mut Request<'_>, answer: &Answer, sent: &mut usize) -> Result<(), SendError> {
    let head = answer.head.len();
    if *sent == 0 && answer.body.len() < PIECE {
        let whole = [&answer.head[..], &answer.body].concat();
        return request.answer(answer.answered, &whole);
    }
    if *sent == 0 {
        request.send(&answer.head)?;
        *sent = head;
    }
    while let Some(rest) = answer.body.get(*sent - head..).filter(|rest| !rest.is_empty()) {
        let piece = &rest[..rest.len().min(PIECE)];
        request.send(piece)?;
        *sent += piece.len();
    }
    request.acknowledge(answer.answered)
}

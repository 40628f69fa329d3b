//! A small presence and message server: who is here, and a word from one to another.
//!
//! It is meant to be read. Start an appliance, then this, then talk to it with `nc`:
//!
//! ```text
//! $ nc 10.77.0.2 7777
//! LOGIN alice
//! OK alice is here
//! MSG bob are you there?
//! ERR bob is not here
//! ```
//!
//! What to look for:
//!
//! * One thread serves every client. It sleeps in [`Inbox::wait`] when nothing is to be done.
//! * **There is no input buffer.** A line that has not come in full is simply not acknowledged: the
//!   request is let go of, and given again with more when more has come. The bytes stay in the
//!   appliance's receive buffer until we say that we are done with them.
//! * **There is no output buffer.** What a slow client does not read waits in the library. When too
//!   much waits, sending fails, the request stays unacknowledged, and so the client that asks for
//!   much and reads little is slowed down by its own TCP.
//! * A line and its answer are one step: `request.answer(length, answer)` acknowledges and answers
//!   in one segment, or does neither.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use xtcp::{
    Acknowledge, Application, Attach, Connection, Event, Family, GroupOptions, Inbox, Request,
    SendError,
};

/// What HELP says, and with it the whole protocol.
const HELP: &str = "\
LOGIN name       be somebody: 1 to 32 letters, digits, - and _
MSG name text    tell somebody something
WHO              who is here
ECHO n           then n bytes (at most 1048576): get the same bytes back, and nothing else
HELP             this
QUIT             go
.
";

/// How long a client waits for an acknowledgement at most. Answers bring it much sooner; this is for
/// half a line. Nagle's algorithm in the client's TCP keeps the other half back until the first is
/// acknowledged, so somebody has to do that: the appliance does, after this time.
const PATIENCE: Duration = Duration::from_millis(200);

/// Longest line in bytes.
const LINE_MAX: usize = 4096;

/// Longest body of an ECHO in bytes.
const ECHO_MAX: usize = 1 << 20;

/// Presence and message server over XTCP.
#[derive(Parser)]
struct Options {
    /// Name of the appliance's instance.
    #[arg(long, default_value = "xtcp")]
    instance: String,
    /// Where the instances' sockets are.
    #[arg(long, default_value = "/run/xtcp")]
    run_dir: PathBuf,
    /// TCP port to listen on, IPv4 and IPv6.
    #[arg(long, default_value_t = 7777)]
    port: u16,
    /// Receive buffer in MiB, shared by all clients; 0 takes what the appliance gives at most.
    #[arg(long, default_value_t = 0)]
    receive_mib: u64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("presence: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    // Ctrl-C ends the sleep in `wait` and sets this.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }

    let (application, mut inbox) = Application::attach(&Attach {
        instance: options.instance.clone(),
        run_dir: options.run_dir.clone(),
        receive_bytes: options.receive_mib << 20,
        ..Attach::new("presence")
    })?;
    application.open_group(&GroupOptions {
        family: Family::Dual,
        acknowledge: Acknowledge::ByApplication { deadline: PATIENCE },
        ..GroupOptions::new("presence", options.port)
    })?;
    println!("presence: ready on port {}, Ctrl-C ends it", options.port);

    let mut server = Server { application, clients: HashMap::new(), names: HashMap::new() };
    while !stop.load(Ordering::Relaxed) {
        // The time is for a signal that comes between the look at `stop` and the sleep.
        inbox.wait(Some(Duration::from_millis(500)))?;
        server.serve(&mut inbox)?;
    }

    let left = server.clients.len();
    server.farewell(&mut inbox)?;
    server.application.detach(inbox)?;
    println!("presence: done, {left} clients were still here");
    Ok(())
}

struct Server {
    application: Application,
    clients: HashMap<Connection, Client>,
    /// Who is here, by name.
    names: HashMap<String, Connection>,
}

/// What this server knows of a client. The library knows nothing of one that is idle.
#[derive(Default)]
struct Client {
    name: Option<String>,
    /// Bytes of an ECHO's body that have not come yet.
    echo: usize,
    /// What the line in front has led to, whose answer found no room yet.
    done: Option<Step>,
    /// We have closed: what still comes is not listened to.
    closing: bool,
}

/// What a line leads to.
enum Step {
    /// This answer.
    Answer(String),
    /// The next so many bytes are an ECHO's body.
    Echo(usize),
    /// This answer, and the end of the connection.
    Quit(String),
}

impl Server {
    /// Does everything that has come.
    fn serve(&mut self, inbox: &mut Inbox) -> Result<(), Box<dyn Error>> {
        let mut batch = inbox.receive()?;
        while let Some(event) = batch.next_event() {
            match event {
                Event::Acceptable(client) => {
                    // The handshake waits for this word. A busier server could `refuse` here.
                    let connection = client.accept()?;
                    self.clients.insert(connection, Client::default());
                }
                Event::Request(request) => match self.on_request(request) {
                    // Done, or no room for the answer: then what is left of the request is given
                    // again when there is room, because we have not acknowledged it.
                    Ok(()) | Err(SendError::WouldBlock | SendError::Behind { .. }) => {}
                    // Its `Closed` is on the way.
                    Err(SendError::Closed) => {}
                    Err(error) => return Err(error.into()),
                },
                Event::Finished(connection) => self.close(connection)?,
                Event::Closed { connection, .. } => self.forget(connection),
                // `Opened` says that the handshake is complete: a server that talks first would do
                // so now. `SendRefused` and `Drained` tell of slow clients; the library keeps
                // their bytes.
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes as many lines and bodies off the request as have come in full.
    fn on_request(&mut self, mut request: Request<'_>) -> Result<(), SendError> {
        let from = request.connection();
        while !request.is_empty() {
            let Some(client) = self.clients.get_mut(&from) else { return Ok(()) };
            if client.closing {
                request.acknowledge(request.len())?;
            } else if client.echo > 0 {
                client.echo -= echo(&mut request, client.echo)?;
            } else if let Some(line) = request.line() {
                let (length, before) = (line.len() + 1, request.len());
                // A line is done once, however often its answer is tried.
                let step = match client.done.take() {
                    Some(step) => step,
                    None => self.on_line(from, &line),
                };
                let taken = self.take(from, &step, &mut request, length);
                if request.len() == before
                    && let Some(client) = self.clients.get_mut(&from)
                {
                    client.done = Some(step);
                }
                taken?;
            } else if request.len() > LINE_MAX || request.is_last() {
                let step = Step::Quit("ERR that is no line\n".to_owned());
                let length = request.len();
                self.take(from, &step, &mut request, length)?;
            } else {
                // The line is not complete. Dropping the request keeps what there is of it.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Acknowledges a line of this length, with its answer.
    fn take(
        &mut self,
        from: Connection,
        step: &Step,
        request: &mut Request<'_>,
        length: usize,
    ) -> Result<(), SendError> {
        match step {
            Step::Answer(answer) => request.answer(length, answer.as_bytes()),
            Step::Echo(count) => {
                request.acknowledge(length)?;
                if let Some(client) = self.clients.get_mut(&from) {
                    client.echo = *count;
                }
                Ok(())
            }
            Step::Quit(answer) => {
                request.answer(length, answer.as_bytes())?;
                self.close(from)
            }
        }
    }

    fn on_line(&mut self, from: Connection, line: &[u8]) -> Step {
        let Ok(line) = std::str::from_utf8(line) else {
            return Step::Answer("ERR that is not UTF-8\n".to_owned());
        };
        let line = line.trim_end_matches('\r');
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let answer = match word {
            "LOGIN" => self.login(from, rest),
            "MSG" => self.message(from, rest),
            "WHO" => Ok(self.who()),
            "HELP" => Ok(HELP.to_owned()),
            "QUIT" => return Step::Quit("BYE\n".to_owned()),
            "ECHO" => match rest.parse() {
                Ok(count) if count <= ECHO_MAX => return Step::Echo(count),
                _ => Err(format!("ECHO wants a number up to {ECHO_MAX}")),
            },
            _ => Err("HELP tells what there is".to_owned()),
        };
        Step::Answer(answer.unwrap_or_else(|why| format!("ERR {why}\n")))
    }

    /// Gives the client a name, in place of another it had.
    fn login(&mut self, from: Connection, name: &str) -> Result<String, String> {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=32).contains(&name.len()) || !name.bytes().all(letters) {
            return Err("a name is 1 to 32 letters, digits, - and _".to_owned());
        }
        if self.names.get(name).is_some_and(|holder| *holder != from) {
            return Err(format!("{name} is taken"));
        }
        let Some(client) = self.clients.get_mut(&from) else { return Ok(String::new()) };
        if let Some(former) = client.name.replace(name.to_owned()) {
            self.names.remove(&former);
        }
        self.names.insert(name.to_owned(), from);
        Ok(format!("OK {name} is here\n"))
    }

    /// Passes a text on. The sender's line is acknowledged after this: if we die in between, the
    /// sender's TCP still has it.
    fn message(&self, from: Connection, rest: &str) -> Result<String, String> {
        let sender = self.clients.get(&from).and_then(|client| client.name.as_ref());
        let sender = sender.ok_or("LOGIN first")?;
        let (name, text) = rest.split_once(' ').ok_or("MSG wants a name and a text")?;
        let to = self.names.get(name).ok_or_else(|| format!("{name} is not here"))?;
        let message = format!("FROM {sender} {text}\n");
        match self.application.send(*to, message.as_bytes()) {
            Ok(()) => Ok(format!("OK {name} has it\n")),
            Err(SendError::Behind { .. }) => Err(format!("{name} does not read")),
            Err(SendError::Closed) => Err(format!("{name} is not here")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn who(&self) -> String {
        let mut names: Vec<&str> = self.names.keys().map(String::as_str).collect();
        names.sort_unstable();
        format!("HERE {}\n", names.join(" "))
    }

    /// Says no more to a client; it is forgotten when it has closed its side, too.
    fn close(&mut self, connection: Connection) -> Result<(), SendError> {
        let Some(client) = self.clients.get_mut(&connection) else { return Ok(()) };
        client.closing = true;
        if let Some(name) = client.name.take() {
            self.names.remove(&name);
        }
        self.application.close(connection)
    }

    fn forget(&mut self, connection: Connection) {
        if let Some(name) = self.clients.remove(&connection).and_then(|client| client.name) {
            self.names.remove(&name);
        }
    }

    /// Closes all connections and gives the clients a moment to do the same.
    fn farewell(&mut self, inbox: &mut Inbox) -> Result<(), Box<dyn Error>> {
        let connections: Vec<Connection> = self.clients.keys().copied().collect();
        for connection in connections {
            match self.application.close(connection) {
                Ok(()) | Err(SendError::Closed) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // What clients do not finish in ten quiet moments is reset with the detaching.
        let mut moments = 10;
        while !self.clients.is_empty() && moments > 0 {
            if !inbox.wait(Some(Duration::from_millis(50)))? {
                moments -= 1;
            }
            self.serve(inbox)?;
        }
        Ok(())
    }
}

/// Sends back as much of a body as has come and finds room, and acknowledges just that much.
fn echo(request: &mut Request<'_>, wanted: usize) -> Result<usize, SendError> {
    let mut sent = 0;
    let mut result = Ok(());
    // The bytes go from where the client's segments were put into the answer, without a stop.
    for piece in request.first(wanted) {
        result = request.send(piece);
        if result.is_err() {
            break;
        }
        sent += piece.len();
    }
    request.acknowledge(sent)?;
    match result {
        Err(error) if sent == 0 => Err(error),
        _ => Ok(sent),
    }
}

//! The server as an application of XTCP: what it has hashed it acknowledges, and the last
//! acknowledgement rides on the answer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use xtcp::{
    Acknowledge, Application, Attach, Congestion, Connection, Error, Event, GroupOptions, Inbox,
    Request, SendError,
};

use super::{Control, Job, ORDER, Order};

/// Where to serve.
#[derive(Clone, Debug)]
pub struct Place {
    /// The appliance's instance.
    pub instance: String,
    /// Where instances have their sockets.
    pub run_dir: PathBuf,
    /// The first of two ports.
    pub first: u16,
    /// The stack acknowledges by itself, as any TCP.
    pub on_receive: bool,
}

/// Bytes handed over at once.
const PIECE: usize = 16 << 10;
/// Bytes a client may be ahead of its acknowledgements: more than the path has.
const WINDOW: u32 = 1 << 20;
/// How soon what found the worker behind is tried again.
const SOON: Duration = Duration::from_millis(1);

struct Server {
    application: Application,
    clients: HashMap<Connection, Client>,
    /// Those whose next piece found the worker's ring full.
    waiting: Vec<Connection>,
    piece: Box<[u8; PIECE]>,
}

#[derive(Default)]
struct Client {
    job: Job,
    /// Its end has come: when everything is sent, ours.
    finished: bool,
    /// As much waits for it as may; `Drained` says when it goes on.
    behind: bool,
}

/// Serves until the appliance is gone; calls `ready` when clients may come.
///
/// # Errors
/// When the appliance is not there, refuses, or goes.
pub fn serve(place: &Place, ready: impl FnOnce()) -> Result<(), Error> {
    let attach = Attach {
        instance: place.instance.clone(),
        run_dir: place.run_dir.clone(),
        ..Attach::new("transfer")
    };
    let (application, mut inbox) = Application::attach(&attach)?;
    for control in Control::ALL {
        let acknowledge = if place.on_receive {
            Acknowledge::OnReceive
        } else {
            Acknowledge::ByApplication { deadline: Duration::ZERO }
        };
        application.open_group(&GroupOptions {
            acknowledge,
            congestion: match control {
                Control::NewReno => Congestion::NewReno,
                Control::Cubic => Congestion::Cubic,
            },
            window_max: WINDOW,
            ..GroupOptions::new(control.in_linux(), control.port(place.first))
        })?;
    }
    ready();
    let (clients, waiting, piece) = (HashMap::new(), Vec::new(), Box::new([0; PIECE]));
    let mut server = Server { application, clients, waiting, piece };
    loop {
        inbox.wait((!server.waiting.is_empty()).then_some(SOON))?;
        server.receive(&mut inbox)?;
        for connection in std::mem::take(&mut server.waiting) {
            server.send(connection);
        }
        server.application.flush();
    }
}

impl Server {
    fn receive(&mut self, inbox: &mut Inbox) -> Result<(), Error> {
        let mut batch = inbox.receive()?;
        while let Some(event) = batch.next_event() {
            match event {
                // Who cannot be accepted now is offered again or gives up.
                Event::Acceptable(client) => drop(client.accept()),
                Event::Request(mut request) => {
                    let client = self.clients.entry(request.connection()).or_default();
                    take(&mut request, &mut client.job);
                    let connection = request.connection();
                    drop(request);
                    self.send(connection);
                }
                Event::Drained(connection) => {
                    if let Some(client) = self.clients.get_mut(&connection) {
                        client.behind = false;
                    }
                    self.send(connection);
                }
                Event::Finished(connection) => {
                    self.clients.entry(connection).or_default().finished = true;
                    self.send(connection);
                }
                Event::Closed { connection, .. } => drop(self.clients.remove(&connection)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends what there is to be sent and may be.
    fn send(&mut self, connection: Connection) {
        let Some(client) = self.clients.get_mut(&connection) else { return };
        while client.job.wants() == Some(0) && !client.behind {
            let len = client.job.answer(&mut self.piece[..]);
            match self.application.send(connection, &self.piece[..len]) {
                Ok(()) => drop(client.job.has_sent(len)),
                Err(SendError::Behind { .. }) => client.behind = true,
                Err(SendError::WouldBlock) => return self.waiting.push(connection),
                // It is gone; its last event comes.
                Err(_) => return,
            }
        }
        if client.finished && client.job.wants().is_none() {
            // One that has closed meanwhile needs no end.
            let _ = self.application.close(connection);
        }
    }
}

/// Takes what has come as far as it can be used; what cannot be is given again.
fn take(request: &mut Request<'_>, job: &mut Job) {
    loop {
        let count = match job.wants() {
            None => {
                let head = request.head(ORDER);
                let Ok(order) = <&[u8; ORDER]>::try_from(&*head) else { return };
                job.start(Order::from_bytes(order));
                ORDER
            }
            Some(left) => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(request.len());
                if count == 0 {
                    return;
                }
                request.first(count).for_each(|bytes| job.upload(bytes));
                count
            }
        };
        // Refused only for one that is gone.
        if request.acknowledge(count).is_err() {
            return;
        }
    }
}

//! The server as an application of XTCP: the answer acknowledges.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use xtcp::{Application, Attach, Deferred, Error, Event, GroupOptions, Inbox, SendError};

use super::Exchange;
use crate::clock;

/// Where to serve.
#[derive(Clone, Debug)]
pub struct Place {
    /// The appliance's instance.
    pub instance: String,
    /// Where instances have their sockets.
    pub run_dir: PathBuf,
    /// The port.
    pub port: u16,
}

struct Server {
    application: Application,
    exchange: Exchange,
    /// Answers in the order they are due.
    due: VecDeque<(Instant, Deferred, Vec<u8>)>,
}

/// Serves until the appliance is gone; calls `ready` when clients may come.
///
/// # Errors
/// When the appliance is not there, refuses, or goes.
pub fn serve(place: &Place, exchange: Exchange, ready: impl FnOnce()) -> Result<(), Error> {
    let attach = Attach {
        instance: place.instance.clone(),
        run_dir: place.run_dir.clone(),
        ..Attach::new("exchange")
    };
    let (application, mut inbox) = Application::attach(&attach)?;
    application.open_group(&GroupOptions::new("exchange", place.port))?;
    ready();
    let mut server = Server { application, exchange, due: VecDeque::new() };
    loop {
        inbox.wait(server.until_the_next())?;
        server.receive(&mut inbox)?;
        server.answer_what_is_due();
        server.application.flush();
    }
}

impl Server {
    fn until_the_next(&self) -> Option<Duration> {
        let (due, ..) = self.due.front()?;
        Some(due.saturating_duration_since(clock::now()))
    }

    fn receive(&mut self, inbox: &mut Inbox) -> Result<(), Error> {
        let Exchange { bytes, after } = self.exchange;
        let mut batch = inbox.receive()?;
        while let Some(event) = batch.next_event() {
            match event {
                // Who cannot be accepted now is offered again or gives up.
                Event::Acceptable(client) => drop(client.accept()),
                Event::Request(mut request) => {
                    while request.len() >= bytes {
                        let answer = request.head(bytes).into_owned();
                        if after.is_zero() {
                            if request.answer(bytes, &answer).is_err() {
                                break;
                            }
                        } else {
                            let Ok(deferred) = request.defer(bytes) else { break };
                            self.due.push_back((clock::now() + after, deferred, answer));
                        }
                    }
                }
                Event::Finished(connection) => drop(self.application.close(connection)),
                _ => {}
            }
        }
        Ok(())
    }

    fn answer_what_is_due(&mut self) {
        while self.due.front().is_some_and(|(due, ..)| *due <= clock::now()) {
            let Some((due, deferred, answer)) = self.due.pop_front() else { return };
            let answered = self.application.answer(&deferred, &answer);
            if matches!(answered, Err(SendError::WouldBlock)) {
                // The worker is a whole ring behind: the others wait with it.
                self.due.push_front((due, deferred, answer));
                return;
            }
            // Otherwise it is sent, or its client is gone.
        }
    }
}

//! A message relay: lines that come on one port go to the receiver connected to another, each once.
//!
//! It keeps nothing. A line is acknowledged to its sender and queued for the receiver in one
//! transaction, so that it can be killed at any moment and started again: with `successor = "keep"`
//! in the appliance's configuration the next relay finds its groups and connections as they were,
//! and every line that was not relayed is given to it.
//!
//! ```text
//! $ nc 10.77.0.2 7002          # the receiver
//! $ nc 10.77.0.2 7001          # a sender
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use xtcp::{
    Application, Attach, Connection, Event, Group, GroupOptions, GroupSet, Inbox, RefusalReason,
    Request, SendError, TransactionError,
};

/// Most bytes relayed at once; also of one line.
const BLOCK_MAX: usize = 16 << 10;

/// Message relay over XTCP.
#[derive(Parser)]
struct Options {
    /// Name of the appliance's instance.
    #[arg(long, default_value = "xtcp")]
    instance: String,
    /// Where the instances' sockets are.
    #[arg(long, default_value = "/run/xtcp")]
    run_dir: PathBuf,
    /// TCP port of the senders.
    #[arg(long, default_value_t = 7001)]
    from: u16,
    /// TCP port of the receiver; who connects first is it.
    #[arg(long, default_value_t = 7002)]
    to: u16,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<std::convert::Infallible, Box<dyn Error>> {
    let (application, mut inbox) = Application::attach(&Attach {
        instance: options.instance.clone(),
        run_dir: options.run_dir.clone(),
        ..Attach::new("relay")
    })?;
    // What a predecessor has left is found by these names.
    let receivers = application.open_group(&GroupOptions::new("receivers", options.to))?;
    application.open_group(&GroupOptions::new("senders", options.from))?;
    let found = application.resumed().map_or(0, <[_]>::len);
    println!("relay: ready on ports {} and {}, {found} groups found", options.from, options.to);
    let mut relay = Relay { application, receivers, waiting: Vec::new() };
    loop {
        if relay.waiting.is_empty() {
            relay.wait_for_receiver(&mut inbox)?;
        } else {
            inbox.wait(None)?;
            relay.serve(&mut inbox)?;
        }
    }
}

struct Relay {
    application: Application,
    receivers: Group,
    /// Connected receivers; the first gets everything.
    waiting: Vec<Connection>,
}

impl Relay {
    /// Without a receiver the senders' lines stay where they are: in the pool, and with the senders.
    fn wait_for_receiver(&mut self, inbox: &mut Inbox) -> Result<(), Box<dyn Error>> {
        let set = GroupSet::from([self.receivers]);
        inbox.select(&set, &set, None)?;
        let mut batch = inbox.receive_from(self.receivers)?;
        while let Some(event) = batch.next_event() {
            self.on_event(event)?;
        }
        Ok(())
    }

    fn serve(&mut self, inbox: &mut Inbox) -> Result<(), Box<dyn Error>> {
        let mut batch = inbox.receive()?;
        while let Some(event) = batch.next_event() {
            self.on_event(event)?;
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event<'_>) -> Result<(), Box<dyn Error>> {
        match event {
            Event::Acceptable(client) => drop(client.accept()?),
            Event::Opened(client) if client.group() == self.receivers => self.waiting.push(client),
            Event::Request(mut request) if request.connection().group() == self.receivers => {
                // What a receiver says is not for anybody.
                request.acknowledge(request.len())?;
            }
            Event::Request(request) => return self.relay(request),
            Event::Finished(client) => {
                // A receiver that says no more gets no more: it may be gone.
                self.waiting.retain(|one| *one != client);
                self.application.close(client)?;
            }
            Event::Closed { connection, .. } => self.waiting.retain(|one| *one != connection),
            _ => {}
        }
        Ok(())
    }

    /// All complete lines of the request, and their acknowledgement, block by block: both or neither.
    fn relay(&mut self, mut request: Request<'_>) -> Result<(), Box<dyn Error>> {
        loop {
            let Some(&receiver) = self.waiting.first() else {
                // It comes again, and waits for a receiver as what has not come yet does.
                request.again();
                return Ok(());
            };
            let block = request.head(BLOCK_MAX).into_owned();
            let Some(end) = block.iter().rposition(|byte| *byte == b'\n') else {
                if block.len() == BLOCK_MAX {
                    self.give_up(request.connection())?;
                }
                // The rest of a line is given again with what comes next.
                return Ok(());
            };
            let Some(lines) = block.get(..=end) else { return Ok(()) };
            let mut transaction = self.application.transaction();
            transaction.acknowledge(&mut request, lines.len())?;
            transaction.send(receiver, lines);
            match transaction.commit() {
                Ok(()) => {}
                // Nothing was done: the request comes again, for this receiver or for the next.
                Err(TransactionError::Refused { connection, reason }) => {
                    if connection == receiver && reason == RefusalReason::Closed {
                        self.waiting.retain(|one| *one != receiver);
                    }
                    request.again();
                    return Ok(());
                }
                Err(TransactionError::Unready(_)) => {
                    request.again();
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Resets a sender whose line is longer than any; it may be gone meanwhile.
    fn give_up(&self, sender: Connection) -> Result<(), SendError> {
        match self.application.abort(sender) {
            Ok(()) | Err(SendError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

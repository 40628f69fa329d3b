//! Where requests are answered: who may have what, and how much is left.

mod attaching;
mod groups;
mod operators;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use tracing::{error, info, warn};
use xtcp_ring::message::{Answer, Command, Refused, Reply, Request, name_is_valid};

use crate::client::Client;
use crate::clock;
use crate::config::Config;
use crate::dataplane::{Attached, CallError, Dataplane, DataplaneError, Up};
use crate::instance::Instance;
use crate::memory::Pages;

/// What is asked for, or why it is not done.
type Answered<T> = Result<T, Refused>;

/// The appliance's state, and its answers.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) config: Config,
    pub(crate) dataplane: Dataplane,
    name: String,
    pages: Pages,
    since: Instant,
    next_endpoint: u16,
}

impl Desk {
    pub(crate) fn new(config: Config, name: String, dataplane: Dataplane, pages: Pages) -> Self {
        Self { config, dataplane, name, pages, since: clock::now(), next_endpoint: 0 }
    }

    /// Does what is due with the dataplane.
    pub(crate) fn step(
        &mut self,
        instance: &Instance,
        interrupt: BorrowedFd<'_>,
    ) -> Result<(), DataplaneError> {
        while self.dataplane.step(&self.config, instance, &mut self.pages, interrupt)? {}
        Ok(())
    }

    /// An application whose endpoint has gone with its dataplane, or waits for another
    /// application or has one, is none any more.
    pub(crate) fn forget_lost_endpoint(&mut self, client: &mut Client) {
        let Some(attached) = client.endpoint else { return };
        let is_known = self.dataplane.up().map(|up| up.is_attached(attached));
        if is_known == Some(false) {
            client.endpoint = None;
        }
    }

    pub(crate) fn answer(
        &mut self,
        client: &mut Client,
        request: Request,
        interrupt: BorrowedFd<'_>,
    ) -> (Reply, Vec<OwnedFd>) {
        let mut files = Vec::new();
        let reply = match request {
            Request::Attach { version, application, receive_bytes } => {
                let attach = self.attach(client, version, application, receive_bytes, interrupt);
                attach.map(|(reply, theirs)| {
                    files = theirs;
                    reply
                })
            }
            Request::Resume { version, endpoint, key } => {
                self.resume(client, version, endpoint, key, interrupt)
            }
            Request::OpenGroup(options) => self.open_group(client, options, interrupt),
            Request::CloseGroup { gd } => self.close_group(client, gd, interrupt),
            Request::DrainGroup { gd, drain } => self.drain_group(client, gd, drain, interrupt),
            Request::Detach => self.detach(client, interrupt),
            Request::Describe { cd } => self.describe(client, cd, interrupt),
            Request::Status => Ok(Reply::Shown { rows: vec![self.status(interrupt)] }),
            Request::Show { topic, limit } => self.show(client, topic, limit, interrupt),
            Request::Order(order) => self.order(client, &order, interrupt),
        };
        (reply.unwrap_or_else(Reply::from), files)
    }

    /// Tells the dataplane that an application has left. It may know already.
    fn close_endpoint(&mut self, endpoint: u16, interrupt: BorrowedFd<'_>) {
        let closed = self.call(&Command::CloseEndpoint { endpoint }, &[], interrupt);
        if let Err(why) = closed {
            info!("endpoint {endpoint}: {why}");
        }
        if let Some(up) = self.dataplane.up() {
            up.endpoints.remove(&endpoint);
            up.waiting.remove(&endpoint);
            up.groups.retain(|_, group| group.endpoint != endpoint);
        }
    }

    fn describe(&mut self, client: &Client, cd: u64, interrupt: BorrowedFd<'_>) -> Answered<Reply> {
        let endpoint = self.attached(client)?;
        match self.call(&Command::Describe { endpoint, cd }, &[], interrupt)? {
            Answer::Described(info) => Ok(Reply::Described(info)),
            other => Err(self.nonsense(&other)),
        }
    }

    fn refresh(&mut self, interrupt: BorrowedFd<'_>) -> Answered<()> {
        let refreshed = self.up()?.refresh(interrupt);
        self.settle(refreshed)
    }

    fn call(
        &mut self,
        command: &Command,
        files: &[BorrowedFd<'_>],
        interrupt: BorrowedFd<'_>,
    ) -> Answered<Answer> {
        let answer = self.up()?.call(command, files, interrupt);
        self.settle(answer)
    }

    /// A link on which an answer did not come is of no more use: the next answer would be taken
    /// for this one.
    fn settle<T>(&mut self, result: Result<T, CallError>) -> Answered<T> {
        result.map_err(|error| {
            if let CallError::Broken(why) = &error {
                warn!("the dataplane does not answer: {why}");
                self.dataplane.disconnect();
            }
            match error {
                CallError::Refused(refused) => refused,
                away => Refused::not_now(away.to_string()),
            }
        })
    }

    fn attached(&mut self, client: &Client) -> Answered<u16> {
        // While the dataplane is away nothing is known; that is said then.
        let up = self.dataplane.up();
        let is_ours = |attached: &Attached| up.is_none_or(|up| up.is_attached(*attached));
        client.endpoint.filter(is_ours).map(|attached| attached.endpoint).ok_or_else(|| {
            Refused::misplaced(
                "this connection is no application: attach first (again, if the dataplane was \
                 restarted)",
            )
        })
    }

    fn up(&mut self) -> Answered<&mut Up> {
        let starting = "the dataplane is starting: try again in a moment";
        self.dataplane.up().ok_or_else(|| Refused::not_now(starting))
    }

    fn nonsense(&mut self, answer: &Answer) -> Refused {
        error!("the dataplane's answer makes no sense: {answer:?}");
        self.dataplane.disconnect();
        Refused::not_now("the dataplane's answer makes no sense")
    }
}

fn check_name(whose: &str, name: &str) -> Answered<()> {
    if name_is_valid(name) {
        return Ok(());
    }
    Err(Refused::invalid(format!(
        "{whose}'s name has 1 to 64 letters, digits, dots, dashes and underscores, and does not \
         begin with a dot"
    )))
}

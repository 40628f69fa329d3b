//! What a running dataplane does for `xtcpd`.

use std::os::fd::OwnedFd;

use xtcp_ring::message::{Answer, Command, Refused};
use xtcp_stack::handle::Cd;

use crate::command::{Ask, Tell};
use crate::endpoints::{EndpointFiles, SuccessorFiles};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::refusals::refused_by_stack;
use crate::show;

/// Does what `xtcpd` commands.
///
/// # Errors
/// The dataplane cannot go on. What it can refuse it answers.
pub(crate) fn obey(
    command: Command,
    files: Vec<OwnedFd>,
    engine: &mut Engine,
) -> Result<Answer, EngineError> {
    let answer = match command {
        Command::Show { topic, limit } => {
            return Ok(Answer::Shown { rows: show::rows(engine, topic, limit)? });
        }
        command => act(command, files, engine),
    };
    Ok(answer.unwrap_or_else(Answer::from))
}

fn act(command: Command, files: Vec<OwnedFd>, engine: &mut Engine) -> Result<Answer, Refused> {
    match command {
        Command::OpenEndpoint(record) => {
            let Ok([endpoint, receive, bell, lifeline]) = <[OwnedFd; 4]>::try_from(files) else {
                return Err(Refused::invalid("an endpoint comes with four files"));
            };
            let files = EndpointFiles { endpoint, receive, bell, lifeline };
            engine.open_endpoint(record, files).map(|()| Answer::Done)
        }
        Command::ResumeEndpoint(record) => {
            let Ok([memory, bell, lifeline]) = <[OwnedFd; 3]>::try_from(files) else {
                return Err(Refused::invalid("a successor comes with three files"));
            };
            let endpoint = record.endpoint;
            let files = SuccessorFiles { endpoint: memory, bell, lifeline };
            engine.resume_endpoint(record, files).map(|()| Answer::Resumed { endpoint })
        }
        Command::OpenGroup { endpoint, options } => {
            engine.open_group(endpoint, options).map(|gd| Answer::Group { gd })
        }
        Command::CloseGroup { endpoint, gd } => {
            engine.close_group(endpoint, gd).map(|()| Answer::Done)
        }
        Command::DrainGroup { endpoint, gd, drain } => {
            engine.drain_group(endpoint, gd, drain).map(|()| Answer::Done)
        }
        Command::CloseConnection { connection, reset } => {
            close_connection(engine, &connection, reset).map(|()| Answer::Done)
        }
        Command::CloseEndpoint { endpoint } => match engine.close_endpoint(endpoint) {
            Some(_) => Ok(Answer::Done),
            None => Err(Refused::not_there(format!("there is no endpoint {endpoint}"))),
        },
        Command::Describe { endpoint, cd } => engine
            .describe(endpoint, cd)
            .map(|(info, gd)| Answer::Described(show::described(&info, gd))),
        Command::Hello { .. } | Command::Memory { .. } | Command::Stop | Command::Show { .. } => {
            Err(Refused::misplaced("this is asked otherwise"))
        }
    }
}

/// Ends one connection, whosever it is.
fn close_connection(engine: &Engine, named: &str, reset: bool) -> Result<(), Refused> {
    let Some(cd) = handle(named) else {
        return Err(Refused::invalid(format!(
            "`{named}` names no connection: write it as `show connections` does, like 0/17.1"
        )));
    };
    let none = || Refused::not_there(format!("there is no connection {cd:?} (any more)"));
    let worker = usize::from(cd.worker());
    if worker >= engine.worker_count() {
        return Err(none());
    }
    match engine.ask(worker, Ask::CloseConnection { connection: cd, reset }) {
        Ok(Tell::Done(Ok(()))) => Ok(()),
        Ok(Tell::Done(Err(xtcp_stack::Misuse::StaleConnection))) => Err(none()),
        Ok(Tell::Done(Err(misuse))) => Err(refused_by_stack(&format!("{cd:?}"), misuse)),
        Ok(_) => Err(Refused::not_now(format!("worker {worker} answered something else"))),
        Err(gone) => Err(Refused::not_now(gone.to_string())),
    }
}

/// The handle that tables show as `cd 0/17.1`: worker, index, generation.
fn handle(named: &str) -> Option<Cd> {
    let named = named.trim();
    let (worker, rest) = named.strip_prefix("cd").unwrap_or(named).trim().split_once('/')?;
    let (index, generation) = rest.split_once('.')?;
    Some(Cd::new(worker.parse().ok()?, index.parse().ok()?, generation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_named_as_tables_show_them() {
        let cd = Cd::new(3, 70_000, 9);
        assert_eq!(handle(&format!("{cd:?}")), Some(cd));
        assert_eq!(handle("3/70000.9"), Some(cd));
        assert_eq!(handle(" cd  3/70000.9 "), Some(cd));
        for nonsense in ["", "cd", "3/9", "3.9", "300/1.1", "-1/1.1", "3/70000.9.1", "a/b.c"] {
            assert_eq!(handle(nonsense), None, "{nonsense}");
        }
    }
}

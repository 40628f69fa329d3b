//! The dataplane as the control thread holds it.

mod endpoint;
mod group;

use core::time::Duration;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use dpdk::{Eal, PortControl, StopError};
use xtcp_stack::config::{ADDRESSES_MAX, Address};
use xtcp_stack::{ConnectionInfo, Instant};

pub(crate) use self::endpoint::{Departure, Endpoint, Presence};
pub(crate) use self::group::Group;
use crate::cli::CommandLine;
use crate::clock::Clock;
use crate::command::{Ask, Liar, Line, Tell};
use crate::error::EngineError;
use crate::offloads::Offloads;
use crate::say::{note, warn};
use crate::spread::SpreadBy;
use crate::stats::Snapshot;
use crate::worker::Remains;

/// A running dataplane.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) line: CommandLine,
    pub(crate) clock: Clock,
    pub(crate) by: SpreadBy,
    pub(crate) offloads: Offloads,
    /// Times the link was found down that had been up.
    pub(crate) link_downs: u64,
    pub(crate) workers: Vec<WorkerHandle>,
    pub(crate) port: PortControl,
    /// Held until the workers are gone; the last of EAL's holders.
    pub(crate) eal: Eal,
    /// Our own, in the order in which the workers' stacks have them.
    pub(crate) addresses: [Option<Address>; ADDRESSES_MAX],
    /// By number.
    pub(crate) endpoints: BTreeMap<u16, Endpoint>,
    /// By handle.
    pub(crate) groups: BTreeMap<u32, Group>,
    /// The generation of the last group at each place.
    pub(crate) generations: BTreeMap<u16, u16>,
    /// Seconds in which slow drains took turns.
    pub(crate) drain_turn: usize,
    pub(crate) liars: Receiver<Liar>,
    /// Readable when a worker has found a liar.
    pub(crate) wake: Arc<OwnedFd>,
    pub(crate) started: Instant,
    /// Bytes of each worker's tables and of its part of the transmit buffer.
    pub(crate) table_bytes: (usize, usize),
    pub(crate) is_paused: bool,
}

/// A worker at work.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) line: Line,
    pub(crate) thread: JoinHandle<Remains>,
}

impl Engine {
    pub(crate) fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Since the workers were started.
    pub(crate) fn uptime(&self) -> Duration {
        self.clock.now().since(self.started)
    }

    pub(crate) fn port(&self) -> &PortControl {
        &self.port
    }

    pub(crate) fn wake(&self) -> &OwnedFd {
        &self.wake
    }

    /// The liars found since this was last asked.
    pub(crate) fn liars(&self) -> Vec<Liar> {
        // It is an alarm bell: how often it rang does not matter.
        let _ = rustix::io::read(&*self.wake, &mut [0_u8; 8]);
        self.liars.try_iter().collect()
    }

    /// Up to `limit` connections of all workers together.
    pub(crate) fn connections(&self, limit: usize) -> Result<Vec<ConnectionInfo>, EngineError> {
        let mut all = Vec::new();
        for worker in 0..self.workers.len() {
            let list = Vec::with_capacity(limit - all.len());
            if let Tell::Connections(list) = self.ask(worker, Ask::Connections(list))? {
                all.extend(list);
            }
        }
        all.truncate(limit);
        Ok(all)
    }

    /// What the workers have counted since they started, and what is in use.
    pub(crate) fn snapshots(&self) -> Result<Vec<Snapshot>, EngineError> {
        let mut snapshots = Vec::new();
        for worker in 0..self.workers.len() {
            let snapshot = Box::new(Snapshot::with_room());
            if let Tell::Snapshot(snapshot) = self.ask(worker, Ask::Snapshot(snapshot))? {
                snapshots.push(*snapshot);
            }
        }
        Ok(snapshots)
    }

    /// Tells the link where our addresses are; worker 0 speaks for all.
    pub(crate) fn announce(&self) -> Result<(), EngineError> {
        self.ask(0, Ask::Announce).map(drop)
    }

    /// Stops the workers between two turns, or lets them go on.
    pub(crate) fn pause(&mut self, pause: bool) -> Result<(), EngineError> {
        for worker in 0..self.workers.len() {
            self.ask(worker, if pause { Ask::Pause } else { Ask::Resume })?;
        }
        self.is_paused = pause;
        Ok(())
    }

    /// Stops workers and port and gives everything back.
    pub(crate) fn end(self) -> Result<(), EngineError> {
        let Self { workers, port, eal, endpoints, .. } = self;
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for worker in &workers {
            worker.line.ask(Ask::End)?;
        }
        for worker in workers {
            let remains = worker.thread.join().map_err(|_| EngineError::WorkerGone)?;
            rx.extend(remains.rx);
            tx.push(remains.tx);
        }
        drop(endpoints);
        match port.stop(rx, tx) {
            Ok(port) => drop(port),
            Err(StopError::Driver(error)) => warn(&error.to_string()),
            Err(StopError::QueuesMissing(_)) => {
                warn("the port was not stopped: a queue is missing")
            }
        }
        if let Err(left) = eal.close() {
            note(&format!("{left}; the end of the process takes them"));
        }
        Ok(())
    }

    pub(crate) fn ask(&self, worker: usize, ask: Ask) -> Result<Tell, EngineError> {
        let worker = self.workers.get(worker).ok_or(EngineError::WorkerGone)?;
        Ok(worker.line.ask(ask)?)
    }
}

//! Three namespaces in a row: servers, the wire, clients.
//!
//! ```text
//! servers: near ==== left :wire: right ==== far :clients
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::super::Failure;
use super::weather::Weather;
use crate::appliance::{Instance, Programs};
use crate::clock::Deadline;
use crate::machine::{Namespace, need_root, quieten, run};
use crate::process::{Launch, Running};

const SERVERS: &str = "xtcp-imp-s";
const BETWEEN: &str = "xtcp-imp-w";
const CLIENTS: &str = "xtcp-imp-c";
const NEAR: &str = "near";
/// The servers' end of the wire: what passes here servers have sent, or is about to reach them.
pub(super) const LEFT: &str = "left";
const RIGHT: &str = "right";
const FAR: &str = "far";
/// The servers' address.
pub(super) const SERVER: &str = "10.77.0.2";
const CLIENT: &str = "10.77.0.1/24";
/// The first port of the servers.
pub(super) const PORT: u16 = 7300;
const DIRECTORY: &str = "/run/xtcp-impairments";
const READY: Duration = Duration::from_secs(60);

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Linux,
    Xtcp,
}

impl Side {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Xtcp => "xtcp",
        }
    }
}

/// The namespaces; gone when this is dropped. What a killed one left is removed first.
#[derive(Debug)]
pub(super) struct Stage {
    programs: Programs,
    servers: Namespace,
    between: Namespace,
    clients: Namespace,
    _alone: File,
}

/// A server that runs; stopped on drop, the application before its appliance.
#[derive(Debug)]
pub(super) struct Served {
    _server: Running,
    _appliance: Option<Appliance>,
}

#[derive(Debug)]
struct Appliance {
    xtcpd: Running,
    instance: Instance,
}

impl Drop for Appliance {
    fn drop(&mut self) {
        // One that ended badly may have left its dataplane.
        if !self.xtcpd.stop().is_ok_and(|status| status.success()) {
            self.instance.sweep();
        }
    }
}

impl Stage {
    pub(super) fn set() -> Result<Self, Failure> {
        need_root()?;
        let programs = Programs::locate()?;
        let alone = File::create("/run/lock/xtcp-impairments")?;
        if flock(&alone, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err("another measurement of impairments runs; wait for its end".into());
        }
        appliance(&programs).sweep();
        [SERVERS, BETWEEN, CLIENTS].into_iter().for_each(Namespace::sweep);
        let servers = Namespace::create(SERVERS)?;
        let between = Namespace::create(BETWEEN)?;
        let clients = Namespace::create(CLIENTS)?;
        for namespace in [&servers, &between, &clients] {
            namespace.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1")?;
            // What a connection learned of the path is not for the next one.
            namespace.run("sysctl -qw net.ipv4.tcp_no_metrics_save=1")?;
        }
        let pairs = [(&servers, NEAR, LEFT), (&clients, FAR, RIGHT)];
        for (namespace, outer, inner) in pairs {
            let (name, to) = (namespace.name(), between.name());
            run(&format!("ip -n {name} link add {outer} type veth peer name {inner} netns {to}"))?;
            for (namespace, end) in [(namespace, outer), (&between, inner)] {
                quieten(end, Some(namespace))?;
                namespace.run(&format!("ip link set {end} up"))?;
            }
        }
        clients.run(&format!("ip addr add {CLIENT} dev {FAR}"))?;
        Ok(Self { programs, servers, between, clients, _alone: alone })
    }

    /// Starts a server; the wire need not carry yet.
    pub(super) fn serve(&self, side: Side, on_receive: bool) -> Result<Served, Failure> {
        self.servers.run(&format!("ip addr flush dev {NEAR}"))?;
        self.clients.run(&format!("ip neigh flush dev {FAR}"))?;
        match side {
            Side::Linux => {
                self.servers.run(&format!("ip addr add {SERVER}/24 dev {NEAR}"))?;
                let server = Launch::new("kernel-transfers", std::env::current_exe()?)
                    .arguments(&format!("kernel-transfers --address {SERVER} --port {PORT}"))
                    .inside(self.servers.name());
                Ok(Served { _server: started(&server)?, _appliance: None })
            }
            Side::Xtcp => {
                let instance = appliance(&self.programs);
                let xtcpd = instance.start()?;
                let appliance = Appliance { xtcpd, instance };
                let mut server = Launch::new("xtcp-transfers", std::env::current_exe()?)
                    .arguments(&format!("xtcp-transfers --port {PORT} --run-dir"))
                    .argument(appliance.instance.run_dir.display().to_string())
                    .arguments(&format!("--instance {}", appliance.instance.name));
                if on_receive {
                    server = server.argument("--on-receive");
                }
                Ok(Served { _server: started(&server)?, _appliance: Some(appliance) })
            }
        }
    }

    /// A wire of this weather; carries until it is stopped.
    pub(super) fn wire(&self, weather: Weather, seed: u64) -> Result<Running, Failure> {
        let mut wire = Launch::new("wire", std::env::current_exe()?)
            .arguments(&format!("wire --left {LEFT} --right {RIGHT} --seed {seed}"))
            .arguments(&weather.arguments())
            .inside(self.between.name())
            .start()?;
        wire.wait_for_line(0, "`carrying frames`", READY, |l| l.starts_with("carrying frames"))?;
        // Both ends know each other before anything is measured: while there was no wire they may
        // have found nobody.
        let met = Deadline::within(READY)
            .poll(|| self.clients.run(&format!("ping -n -q -c 1 -W 1 {SERVER}")).ok());
        met.ok_or("the server does not answer a ping over the wire")?;
        Ok(wire)
    }

    /// What the wire does to the frames is not seen here yet for what servers send, and already for
    /// what reaches them.
    pub(super) fn capture(&self, file: &Path) -> Result<crate::capture::Capture, Failure> {
        Ok(crate::capture::Capture::start_whole(LEFT, self.between.name(), file)?)
    }

    /// Clients, to be run to their end.
    pub(super) fn clients(&self, port: u16, plan: &str) -> Result<Launch, Failure> {
        Ok(Launch::new("kernel-transfer-client", std::env::current_exe()?)
            .arguments(&format!("transfer --target {SERVER}:{port} {plan}"))
            .inside(self.clients.name()))
    }
}

fn started(server: &Launch) -> Result<Running, Failure> {
    let mut server = server.start()?;
    server.wait_for_line(0, "`ready on port`", READY, |line| line.starts_with("ready on port"))?;
    Ok(server)
}

fn appliance(programs: &Programs) -> Instance {
    Instance {
        name: "impairments".to_owned(),
        run_dir: PathBuf::from(DIRECTORY).join("run"),
        directory: PathBuf::from(DIRECTORY),
        programs: programs.clone(),
        device: format!("net_af_packet0,iface={NEAR}"),
        addresses: vec![format!("{SERVER}/24")],
        connections: 16_384,
        // Four descriptors for each: bulk has hundreds queued and in flight on one connection.
        active: 16_384,
        hugepages: "never",
        successor: "close",
        tcp: String::new(),
        namespace: Some(SERVERS.to_owned()),
    }
}

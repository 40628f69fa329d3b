//! Where measurements take place: two namespaces, a veth between them, and on the servers' side either
//! the kernel or the appliance.

use std::fs::File;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

use super::Failure;
use crate::appliance::{Instance, Programs};
use crate::machine::{Namespace, need_root, quieten, run};
use crate::process::Running;

/// The servers' and the clients' namespaces.
const SERVERS: &str = "xtcp-bench-s";
const CLIENTS: &str = "xtcp-bench-c";
/// Ends of the veth.
const NEAR: &str = "near";
pub(super) const FAR: &str = "far";
/// The servers' address.
pub(super) const SERVER: &str = "10.77.0.2";
const CLIENT: &str = "10.77.0.1/24";
const DIRECTORY: &str = "/run/xtcp-bench";

/// The two namespaces; gone when this is dropped. What a killed one left is removed first.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) programs: Programs,
    pub(super) servers: Namespace,
    pub(super) clients: Namespace,
    _alone: File,
}

impl Stage {
    pub(super) fn set() -> Result<Self, Failure> {
        need_root()?;
        let programs = Programs::locate()?;
        let alone = File::create("/run/lock/xtcp-bench")?;
        if flock(&alone, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err("another measurement runs; wait for its end".into());
        }
        appliance(&programs).sweep();
        Namespace::sweep(SERVERS);
        Namespace::sweep(CLIENTS);
        let servers = Namespace::create(SERVERS)?;
        let clients = Namespace::create(CLIENTS)?;
        servers.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1")?;
        run(&format!("ip -n {SERVERS} link add {NEAR} type veth peer name {FAR} netns {CLIENTS}"))?;
        for (namespace, interface) in [(&servers, NEAR), (&clients, FAR)] {
            quieten(interface, Some(namespace))?;
            namespace.run(&format!("ip link set {interface} up"))?;
        }
        clients.run(&format!("ip addr add {CLIENT} dev {FAR}"))?;
        Ok(Self { programs, servers, clients, _alone: alone })
    }

    /// The kernel has the servers' address.
    pub(super) fn give_to_the_kernel(&self) -> Result<(), Failure> {
        self.servers.run(&format!("ip addr replace {SERVER}/24 dev {NEAR}"))?;
        self.forget_neighbours()
    }

    /// The appliance has the servers' address.
    pub(super) fn give_to_an_appliance(&self) -> Result<Up, Failure> {
        self.servers.run(&format!("ip addr flush dev {NEAR}"))?;
        self.forget_neighbours()?;
        let instance = appliance(&self.programs);
        let xtcpd = instance.start()?;
        Ok(Up { xtcpd, instance })
    }

    /// Who has the address changes.
    fn forget_neighbours(&self) -> Result<(), Failure> {
        self.clients.run(&format!("ip neigh flush dev {FAR}"))?;
        Ok(())
    }
}

/// An appliance on the stage.
#[derive(Debug)]
pub(super) struct Up {
    // Dropped, and so stopped, first.
    xtcpd: Running,
    pub(super) instance: Instance,
}

impl Up {
    /// Stops it in order.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        let status = self.xtcpd.stop()?;
        if status.success() { Ok(()) } else { Err(self.xtcpd.failure(status).into()) }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // An xtcpd that ended badly may have left its dataplane.
        if !self.xtcpd.is_running() {
            self.instance.sweep();
        }
    }
}

fn appliance(programs: &Programs) -> Instance {
    Instance {
        name: "bench".to_owned(),
        run_dir: PathBuf::from(DIRECTORY).join("run"),
        directory: PathBuf::from(DIRECTORY),
        programs: programs.clone(),
        device: format!("net_af_packet0,iface={NEAR}"),
        addresses: vec![format!("{SERVER}/24")],
        connections: 8192,
        active: 8192,
        hugepages: "never",
        successor: "close",
        tcp: String::new(),
        namespace: Some(SERVERS.to_owned()),
    }
}

//! The stage: huge pages, the network, and the three processes of the appliance.

use std::path::PathBuf;
use std::time::Duration;

use super::DemoError;
use super::ledger::Ledger;
use super::names::{
    DIRECTORY, INSTANCE, INTERFACE, NAMESPACE, PEER, PORT, RUN_DIR, SERVER_V4, SERVER_V6,
};
use super::screen::Screen;
use crate::appliance::{Instance, Programs};
use crate::machine::{HugePages, Namespace, VethPair};
use crate::process::Running;

/// Connections the dataplane has room for.
pub(super) const ROOM: u32 = 100_000;

/// Tables, buffers and DPDK's own memory for this demo, in pages of 2 MiB.
const HUGE_PAGES: u64 = 224;

/// Everything that is up.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) instance: Instance,
    // Dropped, and so stopped, in this order.
    pub(super) presence: Running,
    pub(super) xtcpd: Running,
}

impl Stage {
    /// Brings everything up.
    pub(super) fn set(ledger: &Ledger, screen: &mut Screen) -> Result<Self, DemoError> {
        let instance = Instance {
            name: INSTANCE.to_owned(),
            run_dir: PathBuf::from(RUN_DIR),
            directory: PathBuf::from(DIRECTORY),
            programs: Programs::locate()?,
            // Room for a request of every connection at once, in frames of the kernel's ring.
            device: format!("net_af_packet0,iface={INTERFACE},framecnt=8192"),
            addresses: vec![format!("{SERVER_V4}/24"), format!("{SERVER_V6}/64")],
            connections: ROOM,
            active: 8192,
            hugepages: "auto",
            successor: "close",
            tcp: String::new(),
            namespace: None,
        };
        ledger.claim()?;
        reserve_huge_pages(ledger, screen)?;
        screen.step(&format!("network namespace {NAMESPACE}: {PEER} == {INTERFACE}"));
        ledger.change(set_up_network)?;
        screen.step("xtcpd, which starts xtcp-dataplane");
        let mut xtcpd = ledger.start("xtcpd", || instance.launch())?;
        instance.wait_until_up(&mut xtcpd)?;
        screen.step("the presence server, an XTCP application");
        let mut presence = ledger.start("presence", || instance.launch_presence(PORT))?;
        Instance::wait_for_presence(&mut presence)?;
        Ok(Self { instance, xtcpd, presence })
    }

    /// Says how a person gets in.
    pub(super) fn tell_how_to_connect(&self) {
        let control = self.instance.programs.path("xtcpctl").unwrap_or_default();
        println!(
            "
The appliance is up. From another terminal, as root:
  ip netns exec {NAMESPACE} nc {SERVER_V4} {PORT}        (or: nc {SERVER_V6} {PORT})
and type, each on its line: LOGIN anna / WHO / MSG anna hello / HELP / QUIT
  {control} --name {INSTANCE} status
  {control} --name {INSTANCE} show connections
Logs are in {DIRECTORY}. Ctrl-C here ends it and takes everything away again.",
            control = control.display()
        );
    }

    /// Returns when a process has ended that should not have.
    pub(super) fn wait_for_an_end(&mut self) -> Result<(), DemoError> {
        let day = Duration::from_secs(86_400);
        loop {
            // Ctrl-C is served by a thread of its own.
            let end = crate::clock::Deadline::within(day).poll(|| {
                if !self.xtcpd.is_running() {
                    return Some("xtcpd");
                }
                (!self.presence.is_running()).then_some("presence")
            });
            let Some(name) = end else { continue };
            let running = if name == "xtcpd" { &mut self.xtcpd } else { &mut self.presence };
            let status = running.wait(Duration::from_secs(1))?;
            return Err(running.failure(status).into());
        }
    }
}

fn reserve_huge_pages(ledger: &Ledger, screen: &mut Screen) -> Result<(), DemoError> {
    let Ok(free) = HugePages::free() else {
        screen.step("WARNING: this kernel has no huge pages of 2 MiB; ordinary pages are used");
        return Ok(());
    };
    if free >= HUGE_PAGES {
        return Ok(());
    }
    screen.step(&format!("{} huge pages of 2 MiB, given back at the end", HUGE_PAGES - free));
    match ledger.add_huge_pages(HUGE_PAGES) {
        Ok(()) => {
            let free = HugePages::free()?;
            if free < HUGE_PAGES {
                screen.step(&format!(
                    "WARNING: only {free} huge pages of the {HUGE_PAGES} wanted could be had; what \
                     does not fit uses ordinary pages"
                ));
            }
        }
        Err(error) => {
            screen.step(&format!("WARNING: no huge pages, ordinary ones are used: {error}"));
        }
    }
    Ok(())
}

fn set_up_network() -> Result<(), DemoError> {
    // Undone by name from the ledger, so neither guard may undo it when this function ends.
    let namespace = Namespace::create(NAMESPACE)?;
    let pair = VethPair::create(INTERFACE, PEER, &namespace)?;
    namespace.add_address(PEER, std::net::Ipv4Addr::new(10, 77, 0, 1).into(), 24)?;
    namespace.add_address(PEER, std::net::Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1).into(), 64)?;
    std::mem::forget(pair);
    std::mem::forget(namespace);
    Ok(())
}

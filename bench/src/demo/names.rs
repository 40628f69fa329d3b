//! The names, places and addresses that the demo takes on a machine.

/// The appliance's name.
pub(super) const INSTANCE: &str = "demo";
/// Where the appliance keeps its socket and lock.
pub(super) const RUN_DIR: &str = "/run/xtcp";
/// Configuration, logs and the ledger while a demo runs.
pub(super) const DIRECTORY: &str = "/run/xtcp-demo";
/// The clients' network namespace.
pub(super) const NAMESPACE: &str = "xtcp-demo";
/// The dataplane's end of the veth pair.
pub(super) const INTERFACE: &str = "xtcp-demo0";
/// The clients' end.
pub(super) const PEER: &str = "peer";
/// The presence server's port,
pub(super) const PORT: u16 = 7777;
/// and its addresses.
pub(super) const SERVER_V4: &str = "10.77.0.2";
/// As above.
pub(super) const SERVER_V6: &str = "fd77::2";

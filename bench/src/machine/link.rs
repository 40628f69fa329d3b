//! A veth pair: the dataplane's end here, the clients' end in a namespace.

use std::net::IpAddr;

use super::{MachineError, Namespace, run, run_with_input, write_file};

/// A veth pair. The near end is the dataplane's alone: the kernel here has no address on it and
/// sees none of its frames.
#[derive(Debug)]
pub struct VethPair {
    near: String,
}

impl VethPair {
    /// Makes the pair, both ends up, the far end inside the namespace; names of at most 15 bytes.
    ///
    /// # Errors
    /// When a name is taken or the kernel refuses.
    pub fn create(near: &str, far: &str, namespace: &Namespace) -> Result<Self, MachineError> {
        let inside = namespace.name();
        run(&format!("ip link add {near} type veth peer name {far} netns {inside}"))?;
        let pair = Self { near: near.to_owned() };
        write_file(&format!("/proc/sys/net/ipv6/conf/{near}/disable_ipv6"), "1")?;
        quieten(near, None)?;
        quieten(far, Some(namespace))?;
        // Packet and XDP sockets get frames before this rule. Without it a kernel that forwards
        // would route the clients' packets.
        let rules = format!(
            "table netdev {table} {{\n chain ingress {{\n type filter hook ingress device \"{near}\" \
             priority 0; policy drop;\n }}\n}}\n",
            table = table(near)
        );
        run_with_input("nft -f -", Some(&rules))?;
        run(&format!("ip link set {near} up"))?;
        run(&format!("ip -n {inside} link set {far} up"))?;
        Ok(pair)
    }

    /// Name of the near end.
    #[must_use]
    pub fn near(&self) -> &str {
        &self.near
    }

    /// Takes one away that a killed process left, if there is one.
    pub fn sweep(near: &str) {
        // Absent is as good as removed.
        let _ = run(&format!("ip link del {near}"));
        let _ = run(&format!("nft delete table netdev {}", table(near)));
    }
}

impl Drop for VethPair {
    fn drop(&mut self) {
        for line in [
            format!("ip link del {}", self.near),
            format!("nft delete table netdev {}", table(&self.near)),
        ] {
            if let Err(error) = run(&line) {
                eprintln!("{error}");
            }
        }
    }
}

fn table(near: &str) -> String {
    format!("only_{}", near.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}

/// Makes an interface send what the wire would carry: finished checksums, one segment a frame.
///
/// # Errors
/// When there is no such interface or the kernel refuses.
pub fn quieten(interface: &str, namespace: Option<&Namespace>) -> Result<(), MachineError> {
    let offloads = format!("ethtool -K {interface} tx off tso off gso off gro off");
    let segments = format!("ip link set {interface} gso_max_segs 1");
    match namespace {
        None => run(&offloads).and_then(|_| run(&segments))?,
        Some(namespace) => namespace.run(&offloads).and_then(|_| namespace.run(&segments))?,
    };
    Ok(())
}

impl Namespace {
    /// Gives an interface inside an address with its prefix length; usable at once.
    ///
    /// # Errors
    /// When there is no such interface or the address is there already.
    pub fn add_address(
        &self,
        interface: &str,
        ip: IpAddr,
        prefix_len: u8,
    ) -> Result<(), MachineError> {
        let nodad = if ip.is_ipv6() { " nodad" } else { "" };
        run(&format!("ip -n {} addr add {ip}/{prefix_len} dev {interface}{nodad}", self.name()))?;
        Ok(())
    }
}

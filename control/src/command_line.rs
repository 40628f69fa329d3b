//! The configuration as `xtcp-dataplane`'s command line: EAL arguments, `--`, its own.

use std::path::Path;

use crate::config::{Config, Device, Port};

/// Bytes EAL needs beside the frames: queues, rings, devices.
const EAL_BYTES: u64 = 128 << 20;

/// Bytes a frame buffer takes beside its packet: mbuf, headroom, mempool header, rounding.
const FRAME_OVERHEAD: u64 = 640;

/// Megabytes of memory EAL is to have.
#[must_use]
pub fn eal_megabytes(config: &Config) -> u64 {
    let whole = config.port.mtu.next_multiple_of(2048);
    let room = u64::from(config.memory.frame_bytes.unwrap_or(whole)) + FRAME_OVERHEAD;
    (u64::from(config.memory.frames) * room + EAL_BYTES).div_ceil(1 << 20)
}

/// The dataplane's arguments, its program's name not among them. EAL gets so many megabytes of huge
/// pages, or with `None` ordinary ones.
#[must_use]
pub fn dataplane(config: &Config, name: &str, run_dir: &Path, huge: Option<u64>) -> Vec<String> {
    let mut line = eal(config, name, huge);
    line.push("--".into());
    let mut own = |option: &str, value: String| {
        line.push(format!("--{option}"));
        line.push(value);
    };
    own("name", name.into());
    own("run-dir", run_dir.display().to_string());
    network(&config.port, &mut own);
    let port = &config.port;
    own("workers-cores", list(&config.workers.cores));
    own("rxd", port.rx_descriptors.to_string());
    own("txd", port.tx_descriptors.to_string());
    own("burst", port.burst.to_string());
    let memory = &config.memory;
    own("total-num-mbufs", memory.frames.to_string());
    if let Some(bytes) = memory.frame_bytes {
        own("mbuf-size", bytes.to_string());
    }
    own("connections", memory.connections.to_string());
    let counts = [
        ("ipv6-connections", memory.ipv6_connections),
        ("active", memory.active),
        ("chunks", memory.chunks),
    ];
    for (option, count) in counts {
        if let Some(count) = count {
            own(option, count.to_string());
        }
    }
    own("transmit-bytes", memory.transmit.to_string());
    own("pools", config.applications.max.to_string());
    own("groups", config.applications.groups.to_string());
    for (key, number) in config.tcp.given.iter().chain(&config.throttle.given) {
        own(&key.replace('_', "-"), number.to_string());
    }
    let whens = [("syn-cookies", config.tcp.syn_cookies), ("ecn", config.tcp.ecn)];
    for (option, when) in whens {
        if let Some(when) = when {
            own(option, when.into());
        }
    }
    line.push("--control".into());
    let switched_off = config.tcp.switched_off.iter();
    line.extend(switched_off.map(|key| format!("--no-{}", key.replace('_', "-"))));
    line
}

/// Addresses, ways and bounds of the network.
fn network(port: &Port, own: &mut impl FnMut(&str, String)) {
    for address in &port.addresses {
        own("ip", address.to_string());
    }
    for gateway in port.gateway_v4.iter().map(ToString::to_string) {
        own("gateway", gateway);
    }
    for gateway in port.gateway_v6.iter().map(ToString::to_string) {
        own("gateway", gateway);
    }
    for route in &port.routes {
        own("route", route.to_string());
    }
    let counts = [
        ("vlan", port.vlan),
        ("reassemblies", port.reassemblies),
        ("duplicate-probes", port.duplicate_probes),
    ];
    for (option, count) in counts {
        if let Some(count) = count {
            own(option, count.to_string());
        }
    }
    own("mtu", port.mtu.to_string());
    if let Some(when) = port.offloads {
        own("offloads", when.into());
    }
}

fn eal(config: &Config, name: &str, huge: Option<u64>) -> Vec<String> {
    let mut line = vec!["-l".into(), config.workers.control_core.to_string()];
    match &config.port.device {
        Device::Pci(address) => line.extend(["-a".into(), address.clone()]),
        Device::Virtual(device) => {
            line.extend(["--no-pci".into(), format!("--vdev={device}")]);
            // memif's zero copy and vhost hand whole memory files to the other side.
            let shares = ["net_memif", "net_vhost", "net_virtio_user"];
            if huge.is_some() && shares.iter().any(|driver| device.starts_with(driver)) {
                line.push("--single-file-segments".into());
            }
        }
    }
    let (pages, megabytes) = match huge {
        Some(megabytes) => (["--in-memory", "--iova-mode=va"], megabytes),
        None => (["--no-huge", "--no-shconf"], eal_megabytes(config)),
    };
    line.extend(pages.map(Into::into));
    line.extend(["--no-telemetry".into(), "-m".into(), megabytes.to_string()]);
    line.push(format!("--file-prefix=xtcp-{name}"));
    line
}

fn list(cores: &[u16]) -> String {
    cores.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("x.toml"), text).unwrap_or_else(|error| panic!("{error}"))
    }

    const LEAST: &str = "[port]\ndevice = \"net_tap0\"\naddresses = [\"10.0.0.1/8\"]\n";

    #[test]
    fn a_virtual_device_on_ordinary_pages() {
        let line = dataplane(&config(LEAST), "one", Path::new("/run/x"), None);
        assert_eq!(
            line.join(" "),
            "-l 0 --no-pci --vdev=net_tap0 --no-huge --no-shconf --no-telemetry -m 149 \
             --file-prefix=xtcp-one -- --name one --run-dir /run/x --ip 10.0.0.1/8 --mtu 1500 \
             --workers-cores 1 --rxd 1024 --txd 1024 --burst 32 --total-num-mbufs 8192 \
             --connections 100000 --transmit-bytes 67108864 --pools 64 --groups 1024 --control"
        );
    }

    #[test]
    fn a_card_on_huge_pages_with_everything_said() {
        let text = "
[port]
device = \"0000:03:00.0\"
addresses = [\"10.0.0.1/8\", \"fd77::2/64\"]
gateway_v4 = \"10.0.0.2\"
gateway_v6 = \"fe80::1\"
routes = [\"10.1.0.0/16 via 10.0.0.9\", \"fd78::/32 via fe80::9\"]
vlan = 7
mtu = 9000
offloads = \"off\"
[workers]
cores = [2, 3]
control_core = 1
[memory]
ipv6_connections = 1000
frame_bytes = 2048
active = 2000
chunks = 3000
[tcp]
rto_min_ms = 100
nagle = false
tail_loss_probe = false
sack = true
syn_cookies = \"always\"
send_queue_max = \"1MiB\"
[throttle]
hide_below = 0
pool_share = 80
";
        let line = dataplane(&config(text), "two", Path::new("/run/x"), Some(1024)).join(" ");
        for part in [
            "-l 1 -a 0000:03:00.0 --in-memory --iova-mode=va --no-telemetry -m 1024",
            "--ip 10.0.0.1/8 --ip fd77::2/64 --gateway 10.0.0.2 --gateway fe80::1 \
             --route 10.1.0.0/16,10.0.0.9 --route fd78::/32,fe80::9 --vlan 7 --mtu 9000 --offloads off",
            "--workers-cores 2,3",
            "--total-num-mbufs 8192 --mbuf-size 2048",
            "--ipv6-connections 1000 --active 2000 --chunks 3000",
            "--rto-min-ms 100 --send-queue-max 1048576 --hide-below 0 --pool-share 80 \
             --syn-cookies always --control --no-nagle --no-tail-loss-probe",
        ] {
            assert!(line.contains(part), "{part}\n{line}");
        }
    }
}

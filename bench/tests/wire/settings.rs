//! What the appliance is started with, and on which device: a veth pair's near end, or a tap.

use crate::lab::PORT;
use crate::packets::Mac;
use crate::rig::{Rig, SERVER_V4, SERVER_V6};
use crate::served::{Served, Sizes};
use xtcp_bench::machine::{Namespace, VethPair, run};
use xtcp_bench::process::{Launch, Running};

/// What the dataplane is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Everything as it is unless somebody says otherwise.
    Usual,
    /// Long times, so that who looks closely at what is under way is not taken for lost.
    Patient,
    /// Short times, so that what takes a minute takes a second.
    Hasty,
    /// Tables so small that they are full at once.
    Narrow,
    /// A member of VLAN 5.
    Tagged,
    /// It asks who else has its addresses before it uses them.
    Cautious,
    /// On a tap, with mbufs so small that a full frame takes three.
    Pieces,
    /// With an application, which is this test.
    Served,
    /// As that, with room for more clients than one host has ports.
    Crowded,
}

impl Setting {
    fn options(self) -> &'static str {
        match self {
            Self::Usual => "--neighbours 1024",
            Self::Patient => "--rto-initial-ms 4000 --rto-min-ms 4000 --no-tail-loss-probe",
            Self::Hasty => {
                "--rto-initial-ms 50 --rto-min-ms 20 --rto-max-ms 1000 --user-timeout-ms 2000 \
                 --time-wait-ms 1500 --fin-wait-2-ms 500"
            }
            Self::Narrow => {
                "--connections 64 --active 64 --chunks 256 --half-open-max 16 \
                 --receive-bytes 1MiB --transmit-bytes 1MiB --send-queue-max 64KiB --neighbours 64"
            }
            Self::Tagged => "--vlan 5",
            Self::Cautious => "--duplicate-probes 3",
            Self::Pieces => {
                "--mbuf-size 512 --rxd 64 --txd 64 --total-num-mbufs 512 --neighbours 1024"
            }
            Self::Served | Self::Crowded => "",
        }
    }

    /// What the appliance is started with where there is an application.
    fn sizes(self) -> Option<Sizes> {
        match self {
            Self::Served => Some(Sizes {
                connections: 4096,
                active: 1024,
                tcp: "half_open_max = 128\nrto_initial_ms = 100\nrto_min_ms = 50\nrto_max_ms = 1000\n\
                      user_timeout_ms = 1500\nfin_wait_2_ms = 1500",
            }),
            Self::Crowded => Some(Sizes { connections: 66_000, active: 4096, tcp: "" }),
            _ => None,
        }
    }
}

/// Who is at the appliance's end.
#[derive(Debug)]
pub(crate) enum Dataplane {
    /// A dataplane with a prompt, of whose lines so many were read, and how to start another.
    Alone { running: Running, read: usize, launch: Launch },
    /// The appliance with an application.
    Served(Box<Served>),
}

/// Starts a setting's dataplane on its device, whose far end is `peer` in the clients' namespace; gives
/// the near end, if it is another device, and the dataplane's station.
pub(crate) fn start(rig: &Rig, setting: Setting) -> (Dataplane, Option<VethPair>, Mac) {
    if setting == Setting::Pieces {
        let (dataplane, dut) = on_tap(rig, setting);
        return (dataplane, None, dut);
    }
    let veth = VethPair::create(&rig.interface('v'), "peer", &rig.namespace)
        .unwrap_or_else(|error| panic!("{error}"));
    be_silent(&rig.namespace);
    let near = veth.near();
    let dataplane = match setting.sizes() {
        Some(sizes) => Dataplane::Served(Box::new(Served::start(rig, near, &sizes))),
        None => alone(rig, setting, &format!("net_af_packet0,iface={near}")),
    };
    let dut = mac_of(near);
    (dataplane, Some(veth), dut)
}

fn mac_of(interface: &str) -> Mac {
    let path = format!("/sys/class/net/{interface}/address");
    let text = std::fs::read_to_string(path).expect("an interface has an address");
    let mut bytes = text.trim().split(':').map(|hex| u8::from_str_radix(hex, 16).expect("hex"));
    std::array::from_fn(|_| bytes.next().expect("six"))
}

/// A dataplane with its TCP echo and its prompt on a device.
fn alone(rig: &Rig, setting: Setting, device: &str) -> Dataplane {
    let name = rig.instance_name('w');
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = if cores > 1 { "0-1" } else { "0" };
    let program = rig.programs.path("xtcp-dataplane").unwrap_or_else(|error| panic!("{error}"));
    let launch = Launch::new("xtcp-dataplane", program)
        .arguments(&format!("-l {cores} --no-huge -m 256 --vdev={device} --"))
        .arguments(&format!("--name {name} --run-dir {}", rig.directory.display()))
        .arguments(&format!("--ip {SERVER_V4}/16 --ip {SERVER_V6}/64 --no-nagle -i"))
        .arguments(&format!("--forward-mode=echo --listen-port {PORT} {}", setting.options()))
        .log(&rig.directory.join("wire.log"));
    let mut running = launch.start().unwrap_or_else(|error| panic!("{error}"));
    crate::rig::wait_until_up(&mut running);
    Dataplane::Alone { running, read: 0, launch }
}

/// A dataplane on a tap, whose other end is the clients'; and its station. A tap may change its
/// namespace while it is open.
fn on_tap(rig: &Rig, setting: Setting) -> (Dataplane, Mac) {
    let (tap, inside) = (rig.interface('t'), rig.namespace.name());
    let dataplane = alone(rig, setting, &format!("net_tap0,iface={tap}"));
    // The kernel's end has the device's address; the dataplane's is one bit further, and local.
    let mut dut = mac_of(&tap);
    (dut[0], dut[5]) = (dut[0] | 2, dut[5] ^ 1);
    let run = |line: &str| run(line).unwrap_or_else(|error| panic!("{error}"));
    run(&format!("ip link set {tap} netns {inside} name peer"));
    be_silent(&rig.namespace);
    run(&format!("ip -n {inside} link set peer up"));
    (dataplane, dut)
}

/// The kernel at the clients' end has no address there and answers nothing.
fn be_silent(namespace: &Namespace) {
    namespace.run("sysctl -qw net.ipv6.conf.peer.disable_ipv6=1").expect("sysctl");
}

//! The bill of hardware: which of DPDK's drivers are linked into the appliance, and why the others
//! are not.
//!
//! `build.rs` links exactly what [`DRIVERS`] and [`SUPPORT`] name, statically and whole, so the
//! table is the truth by construction: what it does not name is not in the binary.

/// Where a driver's devices are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Made by `--vdev`: lives in the kernel, in memory or in another process.
    Virtual,
    /// Found on the PCI bus and named with `-a`.
    Physical,
}

/// One driver that is linked.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    /// The archive's name without `librte_` and `.a`.
    pub library: &'static str,
    /// Virtual or physical.
    pub kind: Kind,
    /// What `--vdev` names begin with (several for a driver with several devices); empty for
    /// physical devices.
    pub devices: &'static [&'static str],
    /// The hardware, in words.
    pub what: &'static str,
}

const fn virtual_device(
    library: &'static str,
    devices: &'static [&'static str],
    what: &'static str,
) -> Driver {
    Driver { library, kind: Kind::Virtual, devices, what }
}

const fn physical(library: &'static str, what: &'static str) -> Driver {
    Driver { library, kind: Kind::Physical, devices: &[], what }
}

/// Every driver that is linked.
pub const DRIVERS: &[Driver] = &[
    virtual_device("net_af_packet", &["net_af_packet", "eth_af_packet"], "Linux packet socket"),
    virtual_device("net_af_xdp", &["net_af_xdp"], "Linux XDP socket"),
    virtual_device("net_bond", &["net_bonding"], "several ports bonded into one"),
    // Its control thread unmaps the memory of a peer that leaves while a worker may be in the midst of
    // it, and that worker's process then ends by SIGSEGV (DPDK 22.11: eth_memif_rx behind
    // memif_disconnect). So end the dataplane first, and do not serve strangers' processes by it.
    virtual_device("net_memif", &["net_memif"], "shared memory with another process, for figures"),
    virtual_device("net_null", &["net_null", "eth_null"], "no wire at all, for measurements"),
    virtual_device("net_pcap", &["net_pcap", "eth_pcap"], "capture file or libpcap interface"),
    virtual_device("net_ring", &["net_ring", "eth_ring"], "loop in memory, for tests"),
    virtual_device("net_tap", &["net_tap", "net_tun"], "Linux TAP or TUN interface"),
    virtual_device("net_vhost", &["net_vhost", "eth_vhost"], "vhost-user, the switch's end"),
    virtual_device(
        "net_virtio",
        &["net_virtio_user", "virtio_user"],
        "vhost-user or vhost-net, the guest's end; also virtio on PCI",
    ),
    physical("net_bnxt", "Broadcom NetXtreme-C and NetXtreme-E, 10 to 200 Gb/s"),
    physical("net_e1000", "Intel 8254x and 8257x (em), 8257x to I354 (igb), 1 Gb/s"),
    physical("net_ena", "Amazon Elastic Network Adapter"),
    physical("net_gve", "Google Virtual Ethernet"),
    physical("net_i40e", "Intel 700 series, 10 to 40 Gb/s"),
    physical("net_iavf", "Intel adaptive virtual function"),
    physical("net_ice", "Intel 800 series, 10 to 100 Gb/s"),
    physical("net_igc", "Intel I225 and I226, 2.5 Gb/s"),
    physical("net_ixgbe", "Intel 82598 to X550, 10 Gb/s"),
    physical("net_mlx5", "NVIDIA ConnectX-4 to ConnectX-7 and BlueField, 10 to 400 Gb/s"),
    physical("net_vmxnet3", "VMware's virtual adapter"),
];

/// What is linked whole beside the drivers, because it registers itself when it is loaded and
/// nothing calls it by name: the buses, and the mempool's handler.
pub const SUPPORT: &[&str] =
    &["bus_auxiliary", "bus_pci", "bus_vdev", "common_iavf", "common_mlx5", "mempool_ring"];

/// A driver of Debian's DPDK 22.11 that is not linked.
#[derive(Clone, Copy, Debug)]
pub struct LeftOut {
    /// The archives' names without `librte_` and `.a`.
    pub libraries: &'static [&'static str],
    /// Why not, in a sentence.
    pub why: &'static str,
}

/// Every network driver of Debian's DPDK 22.11 that is not linked.
///
/// To have one, move its name to [`DRIVERS`] (and the bus or common archive it needs to
/// [`SUPPORT`]); the reasons are about what the appliance promises, not about what would link.
pub const LEFT_OUT: &[LeftOut] = &[
    LeftOut {
        libraries: &[
            "net_cnxk",
            "net_dpaa",
            "net_dpaa2",
            "net_enetc",
            "net_enetfec",
            "net_octeontx",
            "net_pfe",
            "net_thunderx",
        ],
        why: "Part of a system on chip with Arm cores, whose ports do not exist beside the x86-64 \
              cores the appliance runs on.",
    },
    LeftOut {
        libraries: &["net_ipn3ke", "net_liquidio", "net_octeon_ep"],
        why: "A port of an accelerator card, which works only with what the vendor loads onto the \
              card.",
    },
    LeftOut {
        libraries: &["net_failsafe", "net_netvsc", "net_vdev_netvsc"],
        why: "Hyper-V and Azure: needs the VMBus and a pair of devices behind one port, which \
              the appliance's one-port configuration cannot say yet.",
    },
    LeftOut {
        libraries: &["net_mlx4"],
        why: "ConnectX-3: out of the vendor's support; ConnectX-4 and later are linked.",
    },
    LeftOut {
        libraries: &["net_bnx2x", "net_nfp", "net_qede"],
        why: "Needs a firmware file that Debian's free archive does not have.",
    },
    LeftOut { libraries: &["net_avp", "net_fm10k"], why: "Out of production." },
    LeftOut {
        libraries: &[
            "net_ark",
            "net_atlantic",
            "net_axgbe",
            "net_cxgbe",
            "net_enic",
            "net_hinic",
            "net_hns3",
            "net_idpf",
            "net_ionic",
            "net_ngbe",
            "net_sfc",
            "net_txgbe",
        ],
        why: "Would link, but is not among the adapters the appliance is meant for: each adds \
              code that runs as root at every start and that nobody here has seen run.",
    },
    LeftOut {
        libraries: &["net_softnic"],
        why: "A software pipeline rather than a device; needs DPDK's packet framework.",
    },
];

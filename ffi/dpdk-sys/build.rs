//! Generates the bindings, compiles the shim and links DPDK statically with the drivers that
//! `src/drivers.rs` names. Whatever is missing ends the build in one sentence with its remedy.

use std::env;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

#[path = "src/drivers.rs"]
#[expect(unreachable_pub, dead_code, reason = "public in the crate this file belongs to")]
mod drivers;

const REMEDY: &str = "apt-get install --no-install-recommends gcc pkg-config libdpdk-dev \
                      libclang1-14 libclang-common-14-dev";

/// Every function of DPDK that is called, by name.
const FUNCTIONS: &[&str] = &[
    "rte_eal_init",
    "rte_eal_cleanup",
    "rte_eal_get_runtime_dir",
    "rte_eal_has_hugepages",
    "rte_get_tsc_hz",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_eth_find_next_owned_by",
    "rte_eth_dev_info_get",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_configure",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_dev_close",
    "rte_eth_rx_queue_setup",
    "rte_eth_tx_queue_setup",
    "rte_eth_macaddr_get",
    "rte_eth_link_get_nowait",
    "rte_eth_stats_get",
    "rte_eth_stats_reset",
    "rte_eth_promiscuous_enable",
    "rte_eth_promiscuous_disable",
    "rte_eth_allmulticast_enable",
    "rte_eth_allmulticast_disable",
    "rte_eth_dev_rss_reta_update",
    "rte_eth_dev_rss_reta_query",
    "rte_pktmbuf_pool_init",
    "rte_pktmbuf_init",
    "rte_pktmbuf_free_bulk",
    "rte_mempool_create_empty",
    "rte_mempool_set_ops_byname",
    "rte_mempool_populate_default",
    "rte_mempool_obj_iter",
    "rte_mempool_free",
    "rte_mempool_avail_count",
    "rte_mempool_in_use_count",
    "rte_ring_get_memsize",
    "rte_ring_init",
    "rte_zmalloc",
    "rte_free",
    "shim_.*",
];

/// Every constant that is read.
const CONSTANTS: &[&str] = &[
    "SHIM_.*",
    "RTE_MEMPOOL_F_NO_IOVA_CONTIG",
    "RTE_MEMPOOL_CACHE_MAX_SIZE",
    "RTE_PKTMBUF_HEADROOM",
    "RTE_MAX_ETHPORTS",
    "RTE_ETH_NAME_MAX_LEN",
    "RING_F_SP_ENQ",
    "RING_F_SC_DEQ",
];

/// Every type that is named, beside those the functions take.
const TYPES: &[&str] = &["rte_pktmbuf_pool_private"];

/// DPDK's own libraries that the drivers and the shim call, callers before callees.
const LIBRARIES: &[&str] = &[
    "vhost",
    "gso",
    "security",
    "cryptodev",
    "dmadev",
    "hash",
    "timer",
    "pci",
    "ethdev",
    "meter",
    "net",
    "mbuf",
    "mempool",
    "rcu",
    "ring",
    "eal",
    "telemetry",
    "kvargs",
];

/// Shared libraries of the system, with what needs them.
const SYSTEM: &[&str] = &["pcap", "xdp", "bpf", "ibverbs", "mlx5", "numa", "bsd", "m"];

/// Ends the build in one sentence: cargo prints it and fails. (It would also print everything else
/// if the script failed itself.)
fn refuse(cause: &str) -> ! {
    println!("cargo::error={cause}; install what the build needs with: {REMEDY}");
    exit(0)
}

fn pkg_config(arguments: &[&str]) -> Option<String> {
    let output = Command::new("pkg-config").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/shim.c");
    println!("cargo::rerun-if-changed=src/shim.h");
    println!("cargo::rerun-if-changed=src/drivers.rs");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_LIBDIR");

    if pkg_config(&["--version"]).is_none() {
        refuse("pkg-config is not installed");
    }
    let Some(version) = pkg_config(&["--modversion", "libdpdk"]) else {
        refuse("DPDK's development files (libdpdk.pc) were not found");
    };
    if !version.starts_with("22.11") {
        refuse(&format!("DPDK {version} is installed, but the bindings are for 22.11"));
    }
    // The tool itself, because the crate of its name drops `-include rte_config.h` and `-march`,
    // without which clang and the structures' layouts go wrong.
    let cflags = pkg_config(&["--cflags", "libdpdk"]).unwrap_or_default();
    let cflags: Vec<&str> = cflags.split_whitespace().collect();
    let libdir = PathBuf::from(pkg_config(&["--variable=libdir", "libdpdk"]).unwrap_or_default());

    link(&libdir);
    compile_shim(&cflags);
    generate(&cflags);
}

/// Names what the linker takes, and looks whether it is there.
fn link(libdir: &Path) {
    println!("cargo::rustc-link-search=native={}", libdir.display());
    let drivers = drivers::DRIVERS.iter().map(|driver| driver.library);
    for whole in drivers.chain(drivers::SUPPORT.iter().copied()) {
        require(libdir, &format!("librte_{whole}.a"));
        // Not bundled: each archive is read from where Debian put it when a program is linked.
        println!("cargo::rustc-link-lib=static:+whole-archive,-bundle=rte_{whole}");
    }
    for library in LIBRARIES {
        require(libdir, &format!("librte_{library}.a"));
        println!("cargo::rustc-link-lib=static:-bundle=rte_{library}");
    }
    for library in SYSTEM {
        require(libdir, &format!("lib{library}.so"));
        println!("cargo::rustc-link-lib=dylib={library}");
    }
}

fn require(libdir: &Path, file: &str) {
    if !libdir.join(file).exists() {
        refuse(&format!("{} is missing", libdir.join(file).display()));
    }
}

fn compile_shim(cflags: &[&str]) {
    let mut build = cc::Build::new();
    build.file("src/shim.c").std("gnu11").opt_level(3).warnings(false).cargo_warnings(false);
    for flag in cflags {
        build.flag(flag);
    }
    if build.try_get_compiler().is_err() {
        refuse("no C compiler was found");
    }
    if build.try_compile("xtcp_dpdk_shim").is_err() {
        refuse("the C compiler could not compile src/shim.c against DPDK's headers");
    }
}

fn generate(cflags: &[&str]) {
    let mut builder = bindgen::Builder::default()
        .header("src/shim.h")
        .clang_args(cflags)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .use_core()
        .derive_debug(false)
        .derive_default(false)
        .generate_comments(false)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .allowlist_recursively(true);
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for constant in CONSTANTS {
        builder = builder.allowlist_var(constant);
    }

    // bindgen panics when there is no libclang; its message would drown ours.
    panic::set_hook(Box::new(|_| ()));
    let generated = panic::catch_unwind(panic::AssertUnwindSafe(|| builder.generate()));
    let _ = panic::take_hook();
    let bindings = match generated {
        Ok(Ok(bindings)) => bindings,
        Ok(Err(error)) => {
            let error = error.to_string();
            let first = error.lines().next().unwrap_or("no reason given");
            refuse(&format!("bindgen could not read DPDK's headers ({first})"))
        }
        Err(_) => refuse("libclang was not found"),
    };
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    if let Err(error) = bindings.write_to_file(out.join("bindings.rs")) {
        refuse(&format!("the bindings could not be written to {} ({error})", out.display()));
    }
}

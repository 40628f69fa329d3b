//! Raw bindings to the part of DPDK 22.11 the appliance uses.
//!
//! `build.rs` generates them from the installed headers with an explicit allowlist: the list is the
//! documentation of what is used of DPDK. `shim.c` adds the inline functions, entered once per
//! burst. The drivers are linked statically and whole from the list in [`drivers`]; nothing of
//! DPDK is loaded at run time.
//!
//! Nothing of ours is here: owners in safe Rust are in the crate `dpdk`.
//!
//! # What a build needs
//! Debian packages: `gcc pkg-config libdpdk-dev libclang1-14 libclang-common-14-dev`, with
//! `--no-install-recommends`. `libdpdk-dev` itself depends on the libraries the drivers need:
//! `libpcap-dev` (net_pcap), `libxdp-dev` and `libbpf-dev` (net_af_xdp), `libibverbs-dev`
//! (common_mlx5), `libnuma-dev` (EAL, vhost) and `libbsd-dev` (everywhere). A build without them
//! ends in one sentence that says so.
//!
//! # What a run needs
//! The shared libraries of those packages: `libpcap0.8 libxdp1 libbpf1 libibverbs1
//! ibverbs-providers libnuma1 libbsd0`.

pub mod drivers;

mod bindings {
    #![expect(
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::multiple_unsafe_ops_per_block,
        clippy::undocumented_unsafe_blocks,
        clippy::use_self,
        missing_docs,
        missing_debug_implementations,
        non_camel_case_types,
        non_upper_case_globals,
        unused_qualifications,
        reason = "generated from DPDK's headers, in DPDK's words"
    )]
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

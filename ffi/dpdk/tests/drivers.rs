//! The bill of hardware is what is linked: each driver's registration is in this very program.

use std::env;
use std::fs;

use dpdk::{DRIVERS, Kind, LEFT_OUT};

#[test]
fn every_physical_driver_is_in_the_program() {
    let program = fs::read(env::current_exe().unwrap()).unwrap();
    let has =
        |symbol: &str| program.windows(symbol.len()).any(|window| window == symbol.as_bytes());
    // Put together at run time, so that the program does not have the name for being looked for.
    let registration = |library: &str| match library {
        "net_mlx5" => ["rte_mlx5", "_pmd_init"].concat(),
        _ => ["pciinit", "fn_", library].concat(),
    };
    for driver in DRIVERS.iter().filter(|driver| driver.kind == Kind::Physical) {
        assert!(has(&registration(driver.library)), "{} is not linked", driver.library);
    }
    assert!(has(&["rte_virtio_net", "_pci_pmd_init"].concat()), "virtio on PCI is not linked");
    for library in LEFT_OUT.iter().flat_map(|left_out| left_out.libraries) {
        assert!(!has(&registration(library)), "{library} is linked although it is left out");
    }
}

#[test]
fn a_driver_is_listed_once() {
    let listed = DRIVERS.iter().map(|driver| driver.library);
    let left_out = LEFT_OUT.iter().flat_map(|left_out| left_out.libraries.iter().copied());
    let mut all: Vec<&str> = listed.chain(left_out).collect();
    all.sort_unstable();
    let before = all.len();
    all.dedup();
    assert_eq!(all.len(), before);
    assert_eq!(before, 54, "Debian's DPDK 22.11 has 54 network drivers");
}

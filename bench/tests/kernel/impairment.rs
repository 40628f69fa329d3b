//! The impairment matrix in its short form: every byte arrives over every wire, both sides' hashes are
//! equal, and `tshark` finds nothing at our segments that it does not find at Linux's. Times decide
//! nothing.

use std::time::Duration;

use xtcp_bench::process::Launch;

use crate::rig::Rig;

/// What the wires of a quick run do, and the transfers over each.
const WIRES: [&str; 4] = ["loss 5 %", "reordered 3 %", "corrupted 1 %", "narrow, 20 ms"];
const TRANSFERS: [&str; 4] = ["down, newreno", "down, cubic", "up", "exchange"];

#[test]
fn every_byte_survives_every_impairment_and_tshark_finds_nothing_odd() {
    let rig = Rig::new();
    // It ends with a failure when a byte is not what it was, when a segment is malformed, has a wrong
    // checksum, lies outside its window or resets before the end, or when the expert warns of ours each
    // time and never of Linux's.
    let said = Launch::new("xtcp-bench", rig.programs.path("xtcp-bench").unwrap())
        .arguments("impairments --quick --out")
        .argument(rig.directory.display().to_string())
        .finish(Duration::from_secs(300))
        .unwrap_or_else(|error| panic!("{error}"));
    println!("{}", said.join("\n"));
    let table = std::fs::read_to_string(rig.directory.join("impairments.md")).unwrap();
    let mut rows = table.lines().skip(2).map(|line| {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    });
    for wire in WIRES {
        for transfer in TRANSFERS {
            let row = rows.next().unwrap_or_else(|| panic!("{wire}, {transfer} is missing"));
            assert_eq!(row[..2], [wire, transfer]);
            let figure = |column: usize| -> f64 {
                let cell = row[column].split(' ').next().unwrap_or_default();
                cell.parse().unwrap_or_else(|_| panic!("{row:?}"))
            };
            assert!(figure(2) > 0.0 && figure(3) > 0.0, "nothing was transferred: {row:?}");
            // The wire did what it is for: of our frames, and of Linux's.
            if wire == "loss 5 %" {
                assert!(figure(9) > 1.0 && figure(10) > 1.0, "{row:?}");
            }
        }
    }
    assert!(rows.next().is_none());
}

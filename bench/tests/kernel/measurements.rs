//! The measurements of `xtcp-bench` run, and their reports say what they are for; in their short form,
//! and without judging a time.

use std::time::Duration;

use crate::rig::Rig;
use xtcp_bench::process::Launch;

/// Runs a measurement; gives what it printed, after checking that it left the same in a file.
fn measure(rig: &Rig, line: &str, file: &str) -> Vec<String> {
    let said = Launch::new("xtcp-bench", rig.programs.path("xtcp-bench").unwrap())
        .arguments(line)
        .argument("--out")
        .argument(rig.directory.display().to_string())
        .finish(Duration::from_secs(300))
        .unwrap_or_else(|error| panic!("{error}"));
    let report = std::fs::read_to_string(rig.directory.join(file)).unwrap();
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(said[..lines.len()], lines);
    said
}

/// The words of the report's lines that begin with one of these.
fn rows(said: &[String], begins: &str) -> Vec<Vec<String>> {
    let rows = said.iter().filter(|line| line.trim_start().starts_with(begins));
    rows.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The counts are exact: that the kernel acknowledges alone what takes long, and XTCP never.
#[test]
fn acknowledgement_reports_packets_of_both_servers() {
    let rig = Rig::new();
    let line = "acknowledgement --connections 20 --rounds 5 --after-ms 0,200 --think-ms 60";
    let said = measure(&rig, line, "acknowledgement.txt");
    println!("{}", said.join("\n"));
    let (at_once, late) = (rows(&said, "0 ms "), rows(&said, "200 ms "));
    let servers = |rows: &[Vec<String>]| rows.iter().map(|row| row[2].clone()).collect::<Vec<_>>();
    assert_eq!(servers(&at_once), ["linux", "xtcp"]);
    assert_eq!(servers(&late), ["linux", "xtcp"]);
    for row in at_once.iter().chain(&late) {
        assert_eq!(row[3], "100", "exchanges: {row:?}");
    }
    // Linux delays an acknowledgement by 40 ms at least and 200 ms at most.
    let by_server = |row: &[String]| row[8].parse::<f64>().unwrap();
    assert!(by_server(&late[0]) > 0.5, "{late:?}");
    assert!(by_server(&at_once[1]) < 0.05, "{at_once:?}");
    for server in ["linux", "xtcp"] {
        let capture = rig.directory.join(format!("acknowledgement-{server}-200ms.pcap"));
        assert!(capture.metadata().unwrap().len() > 0);
    }
}

#[test]
fn wakeup_reports_a_distribution_of_each_kind() {
    let rig = Rig::new();
    let said = measure(&rig, "wakeup --wakeups 100 --pause-us 200", "wakeup.txt");
    println!("{}", said.join("\n"));
    assert_eq!(rows(&said, "parked").len(), 5, "{said:#?}");
    let polling = rows(&said, "polling");
    assert_eq!(polling.len(), 1);
    for row in rows(&said, "parked").iter().chain(&polling) {
        let figures: Vec<f64> =
            row[row.len() - 5..].iter().map(|word| word.parse().unwrap()).collect();
        assert!(figures[..4].is_sorted() && figures[0] > 0.0, "{row:?}");
        assert!(figures[4] >= 100.0, "{row:?}");
    }
}

#[test]
fn batch_reports_a_cost_of_each_size() {
    let rig = Rig::new();
    let said = measure(&rig, "batch --requests 3200", "batch.txt");
    println!("{}", said.join("\n"));
    for size in ["1 ", "8 ", "32 "] {
        let rows = rows(&said, size);
        assert_eq!(rows.len(), 1, "{said:#?}");
        assert_eq!(rows[0].len(), 7, "{rows:?}");
    }
}

//! Every configuration that is shipped is good, and every refusal names its file and line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtcp_control::command_line;
use xtcp_control::config::{Config, Device, Hugepages};

const PORT: &str = "[port]\ndevice = \"net_tap0\"\naddresses = [\"10.0.0.1/8\"]\n";

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

fn faults(text: &str) -> String {
    match Config::parse(Path::new("x.toml"), text) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_shipped_configuration_is_good() {
    let mut count = 0;
    for entry in fs::read_dir(configs()).expect("configs/") {
        let path = entry.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            Config::read(&path).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
    }
    assert!(count >= 3, "only {count} configurations were found");
}

/// What is commented out in `xtcp.toml` says what is done without it.
#[test]
fn the_commented_defaults_are_the_defaults() {
    let path = configs().join("xtcp.toml");
    let text = fs::read_to_string(&path).expect("xtcp.toml");
    let plain = Config::parse(&path, &text).expect("good");
    let mut uncommented = String::new();
    let mut count = 0;
    for line in text.lines() {
        let setting = line.strip_prefix("# ").filter(|rest| {
            let key = rest.split(" = ").next().unwrap_or_default();
            rest.contains(" = ") && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        });
        count += usize::from(setting.is_some());
        uncommented.push_str(setting.unwrap_or(line));
        uncommented.push('\n');
    }
    assert!(count > 20, "only {count} settings were found");
    let full = Config::parse(&path, &uncommented).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(full.applications, plain.applications);
    assert_eq!(full.workers, plain.workers);
    assert_eq!(full.port.mtu, plain.port.mtu);
    assert_eq!(full.port.rx_descriptors, plain.port.rx_descriptors);
    assert_eq!(full.port.tx_descriptors, plain.port.tx_descriptors);
    assert_eq!(full.port.burst, plain.port.burst);
    assert_eq!(full.memory.frames, plain.memory.frames);
    assert_eq!(full.memory.ipv6_connections, Some(plain.memory.connections));
    assert_eq!(full.tcp.accept_timeout_ms, plain.tcp.accept_timeout_ms);
    assert_eq!(full.tcp.window_max, plain.tcp.window_max);
    assert_eq!((full.tcp.switched_off, &plain.tcp.switched_off), (vec![], &vec![]));
    assert_eq!((full.tcp.syn_cookies, plain.tcp.syn_cookies), (Some("when-full"), None));
    assert_eq!((full.port.reassemblies, full.port.duplicate_probes), (Some(64), Some(0)));
    assert_eq!(plain.tcp.given, []);
    assert_eq!(full.tcp.given.len(), 20, "every number of [tcp] is shown");
    assert_eq!(plain.throttle.given, []);
    let shown =
        [("shrink_below", 50), ("withhold_below", 20), ("hide_below", 10), ("pool_share", 50)];
    assert_eq!(full.throttle.given, shown);
}

#[test]
fn the_least_configuration() {
    let config = Config::parse(Path::new("x.toml"), PORT).expect("good");
    assert_eq!(config.name, "xtcp");
    assert_eq!(config.port.device, Device::Virtual("net_tap0".into()));
    assert_eq!(config.workers.cores, [1]);
    assert_eq!(config.memory.hugepages, Hugepages::Auto);
    assert_eq!(config.memory.receive, 256 << 20);
    assert_eq!(config.applications.receive_max, 128 << 20);
    assert_eq!(config.applications.arena, 4 << 20);
}

/// What follows the port, and what is said of it.
const REFUSALS: [(&str, &str); 35] = [
    (
        "[tcp]\nwindw_max = 4096",
        "x.toml:5: unknown key `windw_max` in [tcp]; did you mean `window_max`?",
    ),
    ("[tpc]", "x.toml:4: unknown key `tpc` in the file; did you mean `tcp`?"),
    (
        "[memory]\ncolour = 1",
        "x.toml:5: unknown key `colour` in [memory]; known are hugepages, connections, ipv6_connections, active, chunks, transmit, receive, frames, frame_bytes",
    ),
    (
        "[memory]\nhugepages = \"maybe\"",
        "x.toml:5: `hugepages` in [memory] is maybe; it can be \"auto\" or \"require\" or \"never\"",
    ),
    (
        "[memory]\nhugepages = true",
        "x.toml:5: `hugepages` in [memory] is of type boolean; it must be a string in quotation marks",
    ),
    (
        "[memory]\n\n\nconnections = 0",
        "x.toml:7: `connections` in [memory] is 0; it can be 1 to 2147483648",
    ),
    (
        "[memory]\nconnections = -5",
        "x.toml:5: `connections` in [memory] is -5; it can be 1 to 2147483648",
    ),
    (
        "[memory]\nconnections = \"many\"",
        "x.toml:5: `connections` in [memory] is of type string; it must be an integer, 1 to 2147483648",
    ),
    (
        "[memory]\nconnections = 10\nipv6_connections = 20",
        "x.toml:6: `ipv6_connections` in [memory] is 20, more than `connections` (10), of which it is a part; raise that or lower this",
    ),
    (
        "[memory]\nconnections = 10\nactive = 20",
        "x.toml:6: `active` in [memory] is 20, more than `connections` (10), of which it is a part; raise that or lower this",
    ),
    (
        "[memory]\ntransmit = \"64MB\"",
        "x.toml:5: `transmit` in [memory] is 64MB; it can be 1MiB to 4TiB, written like \"64MiB\" or as a number of bytes",
    ),
    (
        "[memory]\ntransmit = 1.5",
        "x.toml:5: `transmit` in [memory] is of type float; it must be 1MiB to 4TiB, written like \"64MiB\" or as a number of bytes",
    ),
    (
        "[memory]\nframes = 1000",
        "x.toml:5: `frames` in [memory] is 1000, too few to fill the queues of 1 workers; give at least 2304, or fewer `rx_descriptors` and `tx_descriptors` in [port]",
    ),
    ("[workers]\ncores = []", "x.toml:5: `cores` in [workers] holds 0; it can hold 1 to 64"),
    ("[workers]\ncores = [1,\n2, 1]", "x.toml:6: core 1 stands twice in `cores`"),
    ("[workers]\ncores = [5000]", "x.toml:5: `cores` holds 5000; a core is 0 to 1023"),
    (
        "[workers]\ncores = [\"one\"]",
        "x.toml:5: `cores` in [workers] holds a value of type string; it must hold numbers of cores",
    ),
    (
        "[workers]\ncores = 1",
        "x.toml:5: `cores` in [workers] is of type integer; it must be a list of numbers of cores in brackets",
    ),
    (
        "[tcp]\nrto_min_ms = 50000\nrto_max_ms = 1000",
        "x.toml:5: `rto_min_ms` is 50000, above `rto_max_ms` (1000); lower it",
    ),
    (
        "[tcp]\ndelayed_ack_ms = 500",
        "x.toml:5: `delayed_ack_ms` in [tcp] is 500; it can be 1 to 499",
    ),
    ("[tcp]\nnagle = 1", "x.toml:5: `nagle` in [tcp] is of type integer; it must be true or false"),
    (
        "[applications]\nnotices = 1000",
        "x.toml:5: `notices` in [applications] is 1000; a ring has a power of two of entries, such as 512 or 1024",
    ),
    (
        "[applications]\nreceive_max = \"1GiB\"",
        "x.toml:5: `receive_max` in [applications] is 1GiB, more than `receive` in [memory] (256MiB), which all applications share; lower it or raise that",
    ),
    (
        "[applications]\nsuccessor = \"kept\"",
        "x.toml:5: `successor` in [applications] is kept; it can be \"close\" or \"keep\"",
    ),
    (
        "[applications]\naccess = \"all\"",
        "x.toml:5: `access` in [applications] is all; it can be \"owner\" or \"group\" or \"everyone\"",
    ),
    (
        "[tcp]\nsyn_cookies = \"often\"",
        "x.toml:5: `syn_cookies` in [tcp] is often; it can be \"never\" or \"when-full\" or \"always\"",
    ),
    (
        "[applications]\nhostile = \"forgive\"",
        "x.toml:5: `hostile` in [applications] is forgive; it can be \"close\" or \"keep\"",
    ),
    (
        "[throttle]\nshrink_below = 101",
        "x.toml:5: `shrink_below` in [throttle] is 101; it can be 0 to 100",
    ),
    ("[throttle]\npool_share = 0", "x.toml:5: `pool_share` in [throttle] is 0; it can be 1 to 100"),
    (
        "[throttle]\nwithold_below = 10",
        "x.toml:5: unknown key `withold_below` in [throttle]; did you mean `withhold_below`?",
    ),
    (
        "[throttle]\nshrink_below = 40\nwithhold_below = 60",
        "x.toml:6: `withhold_below` in [throttle] is 60, above `shrink_below` (40), which comes first when memory gets scarce; lower it or raise the other",
    ),
    (
        "[throttle]\nwithhold_below = 0\nhide_below = 51",
        "x.toml:6: `hide_below` in [throttle] is 51, above `shrink_below` (50), which comes first when memory gets scarce; lower it or raise the other",
    ),
    (
        "[throttle]\nwithhold_below = 5",
        "x.toml:5: `hide_below` in [throttle] is 10, above `withhold_below` (5), which comes first when memory gets scarce; lower it or raise the other",
    ),
    ("[memory\n", "x.toml:4: this is not TOML: unclosed table, expected `]`"),
    ("[port]\n", "x.toml:4: this is not TOML: duplicate key"),
];

#[test]
fn every_refusal_has_its_line_and_its_way_out() {
    for (text, sentence) in REFUSALS {
        assert_eq!(faults(&format!("{PORT}{text}")), sentence, "{text}");
    }
}

#[test]
fn every_refusal_of_the_port() {
    const OFF_LINK: &str = "x.toml:4: `gateway_v4` is 10.1.0.1, in no prefix of `addresses`, so it cannot be reached; give a gateway on the link, or the address whose prefix holds it";
    const DEVICES: &str =
        "a PCI address like 0000:03:00.0, or a DPDK virtual device like net_af_packet0,iface=xtcp0";
    let good = "device = \"net_tap0\"\naddresses = [\"10.0.0.1/24\"]\n";
    let table = [
        (String::new(), format!("x.toml:1: [port] has no `device`; give {DEVICES}\nx.toml:1: [port] has no `addresses`; give at least one, such as [\"10.77.0.2/24\"]")),
        ("device = \"eth0\"\naddresses = [\"10.0.0.1/24\"]".into(), format!("x.toml:2: `device` in [port] is `eth0`; it can be {DEVICES}")),
        ("device = \"net_tap0 --help\"\naddresses = [\"10.0.0.1/24\"]".into(), format!("x.toml:2: `device` in [port] is `net_tap0 --help`; it can be {DEVICES}")),
        ("device = \"net_tap0\"\naddresses = []".into(), "x.toml:3: `addresses` in [port] holds 0; it can hold 1 to 16".into()),
        ("device = \"net_tap0\"\naddresses = [\n\"10.0.0.1\"]".into(), "x.toml:4: `10.0.0.1` has no prefix length; write it like 10.0.0.1/24".into()),
        ("device = \"net_tap0\"\naddresses = [\"10.0.0.1/8\", \"10.0.0.1/16\"]".into(), "x.toml:3: 10.0.0.1 stands twice in `addresses`; give it once".into()),
        ("device = \"net_tap0\"\naddresses = [\"10.0.0.1/8\", \"fd77::2/129\"]".into(), "x.toml:3: `/129` is no prefix length; it can be 0 to 128".into()),
        ("device = \"net_tap0\"\naddresses = [\"10.0.0.1/8\", \"224.0.0.1/8\"]".into(), "x.toml:3: 224.0.0.1 cannot be a host's address; give a unicast address".into()),
        ("device = \"net_tap0\"\naddresses = [\"10.0.0.1/8\", \"here/8\"]".into(), "x.toml:3: `here` is no IPv4 or IPv6 address, like 10.77.0.2 or fd77::2".into()),
        (format!("{good}gateway_v4 = \"10.1.0.1\""), OFF_LINK.into()),
        (format!("{good}gateway_v4 = \"10.0.0.1\""), "x.toml:4: `gateway_v4` is 10.0.0.1, our own address; give the router's".into()),
        (format!("{good}gateway_v4 = \"fd77::1\""), "x.toml:4: `gateway_v4` in [port] is `fd77::1`, no IPv4 address".into()),
        (format!("{good}routes = [\"10.1.0.0/16\"]"), "x.toml:4: `10.1.0.0/16` is no route; write it like 10.1.0.0/16 via 10.77.0.9".into()),
        (format!("{good}routes = [\"10.1.0.0/40 via 10.0.0.9\"]"), "x.toml:4: `/40` is no prefix length; it can be 0 to 32".into()),
        (format!("{good}routes = [\"10.1.0.0/16 via fe80::1\"]"), "x.toml:4: fe80::1 is not of the family of 10.1.0.0; give a router that is".into()),
        (format!("{good}routes = [\n\"10.1.0.0/16 via 10.0.1.9\"]"), "x.toml:5: 10.0.1.9 in `routes` is in no prefix of `addresses`, so it cannot be reached; give a router on the link, or the address whose prefix holds it".into()),
        (format!("{good}routes = [\"10.1.0.0/16 via 10.0.0.1\"]"), "x.toml:4: 10.0.0.1 in `routes` is our own address; give the router's".into()),
        (format!("{good}vlan = 0"), "x.toml:4: `vlan` in [port] is 0; it can be 1 to 4094".into()),
        (format!("{good}mtu = 100"), "x.toml:4: `mtu` in [port] is 100; it can be 1280 to 9216".into()),
        (format!("name = \"../x\"\n{good}"), "x.toml:2: unknown key `name` in [port]; known are device, addresses, gateway_v4, gateway_v6, routes, vlan, reassemblies, duplicate_probes, mtu, offloads, rx_descriptors, tx_descriptors, burst".into()),
    ];
    for (text, sentence) in table {
        let text = if text.is_empty() { text } else { format!("[port]\n{text}") };
        assert_eq!(faults(&text), sentence, "{text}");
    }
    let name =
        faults("name = \"../x\"\n[port]\ndevice = \"net_tap0\"\naddresses = [\"10.0.0.1/8\"]");
    assert!(name.starts_with("x.toml:1: `name` is `../x`; a name has 1 to 32 letters"), "{name}");
}

#[test]
fn all_faults_are_told_at_once_in_the_order_of_lines() {
    let text = format!("{PORT}mtu = 1\n[workers]\ncores = []\n[tcp]\nnagel = true\n[zoo]\n");
    let faults = faults(&text);
    let lines: Vec<_> = faults.lines().map(|fault| fault.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["x.toml:4:", "x.toml:6:", "x.toml:8:", "x.toml:9:"], "{faults}");
}

#[test]
fn a_core_this_machine_has_not() {
    let config = Config::parse(Path::new("x.toml"), &format!("{PORT}[workers]\ncores = [1, 9]"));
    let config = config.expect("good");
    assert!(config.check_cores(&[0, 1, 9]).is_ok());
    let refused = config.check_cores(&[0, 1]).expect_err("no core 9").to_string();
    let sentence = "x.toml:5: [workers] names core 9, and this process can run on cores 0, 1 only; \
                    name others";
    assert_eq!(refused, sentence);
}

#[test]
fn check_shows_the_command_line_and_starts_nothing() {
    let path = configs().join("xtcp.toml");
    let run_dir = std::env::temp_dir().join(format!("xtcp-check-{}", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_xtcpd"))
        .args(["--check", "--name", "other", "--config"])
        .arg(&path)
        .arg("--run-dir")
        .arg(&run_dir)
        .output()
        .expect("xtcpd");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    let config = Config::read(&path).expect("good");
    let line = command_line::dataplane(&config, "other", &run_dir, None);
    let own = line.iter().skip_while(|word| *word != "--").cloned().collect::<Vec<_>>();
    assert!(text.contains(&own.join(" ")), "{text}");
    assert!(!run_dir.exists());
}

#[test]
fn a_bad_configuration_is_refused_with_status_one() {
    let path = std::env::temp_dir().join(format!("xtcp-bad-{}.toml", std::process::id()));
    fs::write(&path, "[port]\ndevise = \"net_tap0\"\naddresses = [\"10.0.0.1/8\"]\n")
        .expect("a file");
    for file in [&path, &PathBuf::from("/nonexistent/x.toml")] {
        let output = Command::new(env!("CARGO_BIN_EXE_xtcpd"))
            .args(["--check", "--config"])
            .arg(file)
            .output()
            .expect("xtcpd");
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(text.contains(&file.display().to_string()), "{text}");
        if file == &path {
            assert!(text.contains(":2: unknown key `devise` in [port]; did you mean `device`?"));
        }
    }
    fs::remove_file(path).expect("removed");
}

#[test]
fn what_is_no_text_is_told_by_its_line() {
    let path = std::env::temp_dir().join(format!("xtcp-latin-{}.toml", std::process::id()));
    fs::write(&path, b"[port]\n# for M\xfcnchen\n").expect("a file");
    let told = Config::read(&path).expect_err("Latin-1").to_string();
    fs::remove_file(&path).expect("removed");
    let begin = format!("{}:2: this is no UTF-8", path.display());
    assert!(told.starts_with(&begin) && told.contains("save the file"), "{told}");
}

#[test]
fn what_a_dead_application_leaves_is_closed_unless_it_is_to_be_kept() {
    for (text, ms, hostile_ms) in [
        ("", 0, 0),
        ("successor = \"close\"\nsuccessor_timeout_ms = 5", 0, 0),
        ("successor = \"keep\"", 30_000, 30_000),
        ("successor = \"keep\"\nsuccessor_timeout_ms = 5", 5, 5),
        ("successor = \"keep\"\nhostile = \"close\"", 30_000, 0),
        ("hostile = \"keep\"", 0, 30_000),
        ("hostile = \"keep\"\nsuccessor_timeout_ms = 5", 0, 5),
    ] {
        let text = format!("{PORT}[applications]\n{text}\n");
        let config = Config::parse(Path::new("x.toml"), &text).expect("good");
        assert_eq!(config.applications.successor_ms, ms, "{text}");
        assert_eq!(config.applications.hostile_ms, hostile_ms, "{text}");
    }
}

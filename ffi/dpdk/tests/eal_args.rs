//! What becomes of EAL's arguments.

use dpdk::{EalArgError, EalArgs};

fn line(args: &str) -> String {
    let words: Vec<&str> = args.split_whitespace().collect();
    match EalArgs::parse(&words) {
        Ok(args) => args.to_string(),
        Err(error) => panic!("{args}: {error}"),
    }
}

fn refusal(args: &str) -> (EalArgError, String) {
    let words: Vec<&str> = args.split_whitespace().collect();
    match EalArgs::parse(&words) {
        Ok(parsed) => panic!("{args} was taken as {parsed}"),
        Err(error) => (error.clone(), error.to_string()),
    }
}

#[test]
fn the_line_has_what_was_asked_for_and_safe_defaults() {
    for (given, expected) in [
        ("-l 0", "-l 0 --no-pci --in-memory --iova-mode va --no-telemetry"),
        ("-l 1,0", "-l 1 --no-pci --in-memory --iova-mode va --no-telemetry"),
        ("-l2-5", "-l 2 --no-pci --in-memory --iova-mode va --no-telemetry"),
        ("--lcores=3,5-6", "-l 3 --no-pci --in-memory --iova-mode va --no-telemetry"),
        ("-l 200", "--lcores 0@200 --no-pci --in-memory --iova-mode va --no-telemetry"),
        (
            "-l 0 --no-huge",
            "-l 0 --no-pci --no-huge --no-shconf -m 256 --iova-mode va --no-telemetry",
        ),
        (
            "-l 0 --no-huge --no-shconf --no-pci --no-telemetry -m64",
            "-l 0 --no-pci --no-huge --no-shconf -m 64 --iova-mode va --no-telemetry",
        ),
        (
            "-l 0 --vdev net_tap0,iface=x0 --vdev=net_null1 --no-huge -m 99 --file-prefix xtcp-a",
            "-l 0 --no-pci --vdev net_tap0,iface=x0 --vdev net_null1 --no-huge --no-shconf -m 99 \
             --iova-mode va --file-prefix xtcp-a --no-telemetry",
        ),
        (
            "-l 0 -a 0000:03:00.0,rx_vec_en=1 -a 04:00.1 -n 4",
            "-l 0 -a 0000:03:00.0,rx_vec_en=1 -a 04:00.1 --in-memory -n 4 --no-telemetry",
        ),
        (
            "-l 0 --allow 03:00.0 --iova-mode pa --socket-mem 1024,0 --log-level=pmd.net.tap:debug",
            "-l 0 -a 03:00.0 --in-memory --socket-mem 1024,0 --iova-mode pa \
             --log-level pmd.net.tap:debug --no-telemetry",
        ),
        (
            "-l 0 --huge-dir /mnt/huge -m 512",
            "-l 0 --no-pci --huge-dir /mnt/huge -m 512 --iova-mode va --no-telemetry",
        ),
        (
            "-l 0 --legacy-mem --no-shconf --proc-type primary",
            "-l 0 --no-pci --legacy-mem --no-shconf --iova-mode va --no-telemetry",
        ),
        (
            "-l 0 --vdev net_memif0,role=client,zero-copy=yes",
            "-l 0 --no-pci --vdev net_memif0,role=client,zero-copy=yes --in-memory \
             --single-file-segments --iova-mode va --no-telemetry",
        ),
        (
            "-l 0 --vdev net_memif0,role=client --single-file-segments",
            "-l 0 --no-pci --vdev net_memif0,role=client --in-memory --single-file-segments \
             --iova-mode va --no-telemetry",
        ),
        (
            "-l 0 --vdev net_vhost0,iface=/run/v --in-memory",
            "-l 0 --no-pci --vdev net_vhost0,iface=/run/v --in-memory --single-file-segments \
             --iova-mode va --no-telemetry",
        ),
        (
            "-l 0 --vdev net_memif0,zero-copy=yes --no-huge",
            "-l 0 --no-pci --vdev net_memif0,zero-copy=yes --no-huge --no-shconf -m 256 \
             --iova-mode va --no-telemetry",
        ),
    ] {
        assert_eq!(line(given), format!("xtcp-dataplane {expected}"), "{given}");
    }
}

#[test]
fn cores_are_a_list_with_the_control_core_first() {
    let cores = |args: &[&str]| EalArgs::parse(args).unwrap().cores().to_vec();
    assert_eq!(cores(&["-l", "0-1"]), [0, 1]);
    assert_eq!(cores(&["-l", "7,0-2,9"]), [7, 0, 1, 2, 9]);
    assert_eq!(cores(&["--lcores", "1023"]), [1023]);
    assert!(!cores(&[]).is_empty(), "those the process may use");
}

#[test]
fn what_contradicts_is_refused() {
    for (given, one, other) in [
        ("-l 0 --no-pci -a 03:00.0", "--no-pci", "-a"),
        ("-l 0 --no-huge --in-memory", "--no-huge", "--in-memory"),
        ("-l 0 --no-huge --huge-dir /x", "--no-huge", "--huge-dir"),
        ("-l 0 --no-huge --socket-mem 64", "--no-huge", "--socket-mem"),
        ("-l 0 --no-huge --iova-mode=pa", "--no-huge", "--iova-mode pa"),
        ("-l 0 --no-huge --single-file-segments", "--no-huge", "--single-file-segments"),
        ("-l 0 --in-memory --legacy-mem", "--in-memory", "--legacy-mem"),
        ("-l 0 --in-memory --huge-dir /x", "--in-memory", "--huge-dir"),
        ("-l 0 -m 64 --socket-mem 64", "-m", "--socket-mem"),
    ] {
        let (error, sentence) = refusal(given);
        assert!(matches!(error, EalArgError::Conflict { .. }), "{given}: {error:?}");
        let expected = format!("{one} and {other} contradict each other: ");
        assert!(sentence.starts_with(&expected), "{given}: {sentence}");
    }
}

#[test]
fn what_is_not_understood_is_refused_with_what_would_be() {
    for (given, part) in [
        ("--lcore 0", "unknown EAL option \"--lcore\"; known are -l --lcores"),
        ("x", "unknown EAL option \"x\""),
        ("--vdevnet_null0", "unknown EAL option"),
        ("-q 1", "unknown EAL option \"-q\""),
        ("-l", "-l wants a value"),
        ("-l 0 --vdev=", "--vdev wants a value"),
        ("-l 0 -l 1", "-l is given twice"),
        ("-l 1,1", "-l \"1,1\" is not understood"),
        ("-l 3-1", "cores like 0-3,8"),
        ("-l 1024", "below 1024"),
        ("-l ,", "cores like"),
        ("-l 0-70000", "cores like"),
        ("--lcores (0-3)@1", "sets in brackets"),
        ("-m 0", "megabytes"),
        ("-m 1g", "megabytes"),
        ("--socket-mem 64,x", "per NUMA node"),
        ("-n 0", "memory channels"),
        ("--no-huge=1", "--no-huge takes no value"),
        ("--iova-mode dc", "`va` or `pa`"),
        ("--file-prefix a/b", "letters, digits"),
        ("-a eth0", "a PCI address"),
        ("-a 0000:03:00.8", "a PCI address"),
        ("-a :03:00.0", "a PCI address"),
        ("--vdev net_wire0", "no driver for the virtual device \"net_wire0\"; names begin with"),
        ("--vdev net_tap0 --vdev net_tap0,iface=y", "\"net_tap0\" is named twice"),
        ("--proc-type secondary", "the only DPDK process"),
        ("--proc-type=auto", "the only DPDK process"),
        ("-c 3", "-c is not taken: a mask of cores"),
        ("-d librte_net_tap.so", "part of the program"),
        ("-b 03:00.0", "name those to take with -a"),
        ("--block=03:00.0", "name those to take with -a"),
        ("--main-lcore 1", "the first core of -l"),
    ] {
        let (_, sentence) = refusal(given);
        assert!(sentence.contains(part), "{given}: {sentence}");
        assert!(!sentence.contains('\n') && !sentence.contains("  "), "{given}: {sentence}");
    }
}

#[test]
fn ordinary_memory_grows_to_what_the_pools_need() {
    let mut args = EalArgs::parse(&["-l", "0", "--no-huge", "-m", "64"]).unwrap();
    assert!(!args.wants_hugepages());
    args.ensure_megabytes(32);
    assert!(args.to_string().contains("-m 64 "), "{args}");
    args.ensure_megabytes(640);
    assert!(args.to_string().contains("-m 640 "), "{args}");

    let mut args = EalArgs::parse(&["-l", "0"]).unwrap();
    assert!(args.wants_hugepages());
    args.ensure_megabytes(640);
    assert!(!args.to_string().contains("640"), "{args}");
}

#[test]
fn what_was_given_can_be_asked_for() {
    let given = ["-l", "0", "-a", "03:00.0", "--vdev", "net_null0", "--file-prefix", "xtcp-b"];
    let args = EalArgs::parse(&given).unwrap();
    assert_eq!(args.vdevs(), ["net_null0"]);
    assert_eq!(args.allowed(), ["03:00.0"]);
    assert_eq!(args.file_prefix(), Some("xtcp-b"));
}

//! Every virtual driver that the bill of hardware names carries frames, both ways.
//!
//! EAL starts once per process, so each device has a process of its own, and in it two ports with a
//! wire between them, or a loop. Devices on kernel interfaces get a network namespace of their own,
//! which takes its interfaces along when the process ends, however it ends.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Output};
use std::time::{Duration, Instant};

use dpdk::{
    BURST, Burst, DRIVERS, Eal, EalArgs, Kind, Mbuf, Pool, Port, PortConfig, RxChecksum,
    StartedPort,
};

/// Devices that a second process starts before the scenario does, to send back what it gets: the
/// scenario's driver, the other's driver, its device, the file it makes when it is ready.
const REFLECTORS: &[[&str; 4]] =
    &[["net_virtio", "net_vhost", "net_vhost0,iface=DIR/vhost.sock", "vhost.sock"]];

/// How a device is tried.
struct Scenario {
    /// Its name, and the driver's.
    driver: &'static str,
    /// What makes its interfaces, if it needs any, in its own namespace.
    interfaces: &'static [&'static str],
    /// The virtual devices; `DIR` is a directory of the scenario's own.
    devices: &'static [&'static str],
    /// What is done with the ports.
    run: fn(&Pool, Vec<StartedPort>, &Paths),
}

const NO_IPV6: &[&str] = &["sysctl -qw net.ipv6.conf.default.disable_ipv6=1"];
const VETH: &[&str] = &[
    NO_IPV6[0],
    "ip link add xa0 type veth peer name xb0",
    "ip link set xa0 up",
    "ip link set xb0 up",
];

const SCENARIOS: &[Scenario] = &[
    Scenario { driver: "net_null", interfaces: &[], devices: &["net_null0"], run: starts },
    Scenario { driver: "net_ring", interfaces: &[], devices: &["net_ring0"], run: loops },
    Scenario {
        driver: "net_memif",
        interfaces: &[],
        devices: &[
            "net_memif0,role=server,socket=DIR/memif.sock,socket-abstract=no",
            "net_memif1,role=client,socket=DIR/memif.sock,socket-abstract=no",
        ],
        run: talk_and_close_one,
    },
    Scenario {
        driver: "net_pcap",
        interfaces: &[],
        devices: &["net_pcap0,rx_pcap=DIR/in.pcap,tx_pcap=DIR/out.pcap"],
        run: copies_a_capture,
    },
    Scenario {
        driver: "net_bond",
        interfaces: NO_IPV6,
        devices: &[
            "net_tap0,iface=xt0",
            "net_af_packet0,iface=xt0",
            "net_bonding0,mode=1,slave=net_tap0",
        ],
        run: talk,
    },
    // The guest's end connects when EAL starts, so the switch's end is in another process.
    Scenario {
        driver: "net_virtio",
        interfaces: &[],
        devices: &["net_virtio_user0,path=DIR/vhost.sock"],
        run: loops_and_completes,
    },
    Scenario {
        driver: "net_tap",
        interfaces: NO_IPV6,
        devices: &["net_tap0,iface=xt0", "net_af_packet0,iface=xt0"],
        run: talk_and_judge,
    },
    Scenario {
        driver: "net_af_packet",
        interfaces: VETH,
        devices: &["net_af_packet0,iface=xa0", "net_af_packet1,iface=xb0"],
        run: talk,
    },
    Scenario {
        driver: "net_af_xdp",
        interfaces: VETH,
        devices: &["net_af_xdp0,iface=xa0", "net_af_packet0,iface=xb0"],
        run: talk,
    },
];

/// Frames each way.
const FRAMES: usize = 2_000;
/// What guards against waiting for ever; nothing is decided by it but that a device is broken.
const PATIENCE: Duration = Duration::from_secs(20);
/// The Ethernet type for experiments, which no kernel sends.
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];

/// Who sends.
const STATION: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if let [first, name, dir] = &words[..]
        && first == "--child"
    {
        child(name, &Paths { dir: dir.into() });
        return ExitCode::SUCCESS;
    }
    if let [first, device, dir] = &words[..]
        && first == "--reflector"
    {
        reflector(device, &Paths { dir: dir.into() });
    }
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    every_virtual_driver_has_a_scenario();
    let wanted: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let mut failed = 0;
    for scenario in SCENARIOS {
        let name = scenario.driver;
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        if name == "net_af_xdp" && !rustix::process::geteuid().is_root() {
            println!("device {name} ... NOT TRIED: only root may load the program it needs");
            continue;
        }
        match parent(scenario) {
            Ok(()) => println!("device {name} ... ok"),
            Err(why) => {
                println!("device {name} ... FAILED\n{why}");
                failed += 1;
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn every_virtual_driver_has_a_scenario() {
    for driver in DRIVERS.iter().filter(|driver| driver.kind == Kind::Virtual) {
        let tried = SCENARIOS.iter().any(|scenario| scenario.driver == driver.library)
            || REFLECTORS.iter().any(|reflector| reflector[1] == driver.library);
        assert!(tried, "{} is linked, but nothing tries it", driver.library);
    }
}

/// Runs a scenario in a process of its own.
fn parent(scenario: &Scenario) -> Result<(), String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let name = format!("xtcp-device-{}-{}", std::process::id(), scenario.driver);
    let dir = env::temp_dir().join(name);
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    // A guard against drivers that wait for ever, in places where the scenario cannot look.
    let mut command = Command::new("timeout");
    command.arg("60");
    if !scenario.interfaces.is_empty() {
        command.args(["unshare", "--net"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
    }
    let output = command.arg(&program).args(["--child", scenario.driver]).arg(&dir).output();
    let removed = fs::remove_dir_all(&dir);
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    removed.map_err(|error| format!("{}: {error}", dir.display()))?;
    if output.status.success() { Ok(()) } else { Err(said(&output)) }
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err), output.status)
}

/// Where a scenario keeps its files.
struct Paths {
    dir: PathBuf,
}

impl Paths {
    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn child(name: &str, paths: &Paths) {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.driver == name).unwrap();
    for line in scenario.interfaces {
        let mut words = line.split(' ');
        let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
        assert!(output.status.success(), "{line}: {}", said(&output));
    }
    fs::write(paths.file("in.pcap"), capture(FRAMES)).unwrap();

    let reflector = REFLECTORS.iter().find(|reflector| reflector[0] == name);
    let _reflector = reflector.map(|[_, _, device, file]| {
        let program = env::current_exe().unwrap();
        let arguments = ["--reflector", device, paths.dir.to_str().unwrap()];
        let reflector = Reflector(Command::new(program).args(arguments).spawn().unwrap());
        wait(|| paths.file(file).exists(), "the other process is ready");
        reflector
    });
    let (pool, started) = start(scenario.devices, paths, true);
    for port in &started {
        println!("{:?}", port.control.info().unwrap());
    }
    (scenario.run)(&pool, started, paths);
}

/// Starts EAL with `devices` and all their ports, which have the care of checksums if they can and
/// are asked to.
fn start(devices: &[&str], paths: &Paths, checksums: bool) -> (Pool, Vec<StartedPort>) {
    let mut line: Vec<String> = ["-l", "0", "--no-huge", "-m", "128"].map(String::from).into();
    for device in devices {
        line.push("--vdev".into());
        line.push(device.replace("DIR", paths.dir.to_str().unwrap()));
    }
    let eal = Eal::init(&EalArgs::parse(&line).unwrap()).unwrap();
    let pool = Pool::create(&eal, "frames", 8_191, 64, Pool::DATA_ROOM).unwrap();
    let mut config = PortConfig::new(vec![pool.clone()]);
    config.promiscuous = true;
    (config.rx_checksums, config.tx_checksums) = (checksums, checksums);
    // Ports are numbered as they were named. A bond starts and stops its members itself.
    let is_member = |id: &u16| {
        let name = devices[usize::from(*id)].split(',').next().unwrap();
        devices.iter().any(|device| device.ends_with(&format!("slave={name}")))
    };
    let ids = Port::all(&eal).into_iter().filter(|id| !is_member(id));
    let start = |id| Port::open(&eal, id).unwrap().configure(&config).unwrap();
    (pool, ids.map(start).collect())
}

/// Another process, which ends with the scenario.
struct Reflector(Child);

impl Drop for Reflector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends back what arrives, until it is killed or the scenario has died.
fn reflector(device: &str, paths: &Paths) -> ! {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    // It sends what it received, so nothing may be left for it to complete.
    let (_pool, mut started) = start(&[device], paths, false);
    let StartedPort { rx, tx, .. } = &mut started[0];
    let mut burst = Burst::new();
    loop {
        rx[0].receive(&mut burst);
        tx[0].send(&mut burst);
        if burst.is_empty() {
            std::thread::yield_now();
        }
    }
}

/// The device starts, takes frames to send without fault, stops, and starts again.
fn starts(pool: &Pool, started: Vec<StartedPort>, _paths: &Paths) {
    for StartedPort { rx, mut tx, control } in started {
        let mut burst = numbered(pool, 0, BURST);
        tx[0].send(&mut burst);
        let port = control.stop(rx, tx).unwrap();
        let again = port.configure(&PortConfig::new(vec![pool.clone()])).unwrap();
        assert_eq!(again.control.descriptors(), (1_024, 1_024));
    }
}

/// What the device sends, it receives.
fn loops(pool: &Pool, mut started: Vec<StartedPort>, _paths: &Paths) {
    let StartedPort { rx, tx, control } = &mut started[0];
    wait(|| control.link().unwrap().up, "the link is up");
    exchange(pool, |burst| tx[0].send(burst), |burst| rx[0].receive(burst));
}

/// What either of two devices sends, the other receives.
fn talk(pool: &Pool, mut started: Vec<StartedPort>, _paths: &Paths) {
    exchange_both_ways(pool, &mut started);
}

/// As [`talk`]. The other end of net_memif lets go of its rings in a thread of EAL's when it sees
/// that this one has closed; a close by us at the same time would give them back twice.
fn talk_and_close_one(pool: &Pool, mut started: Vec<StartedPort>, _paths: &Paths) {
    exchange_both_ways(pool, &mut started);
    std::mem::forget(started.pop());
}

fn exchange_both_ways(pool: &Pool, started: &mut [StartedPort]) {
    for port in started.iter() {
        wait(|| port.control.link().unwrap().up, "the link is up");
    }
    let [one, other] = started else { panic!("{} ports", started.len()) };
    exchange(pool, |burst| one.tx[0].send(burst), |burst| other.rx[0].receive(burst));
    exchange(pool, |burst| other.tx[0].send(burst), |burst| one.rx[0].receive(burst));
    for port in started.iter() {
        let stats = port.control.stats().unwrap();
        assert!(stats.rx_frames >= FRAMES as u64, "{stats:?}");
        // net_tap counts a burst that its kernel interface did not take at once as errors.
        assert!(stats.tx_frames + stats.tx_errors >= FRAMES as u64, "{stats:?}");
    }
}

/// As [`loops`]; and the device, or the one at its other end, completes TCP checksums.
fn loops_and_completes(pool: &Pool, mut started: Vec<StartedPort>, _paths: &Paths) {
    let StartedPort { rx, tx, control } = &mut started[0];
    wait(|| control.link().unwrap().up, "the link is up");
    assert!(control.completes_tcp() && control.verifies_tcp(), "{:?}", control.info());
    exchange(pool, |burst| tx[0].send(burst), |burst| rx[0].receive(burst));
    for segment in segments() {
        let back = ask(&segment.promised(pool), &mut |b| tx[0].send(b), &mut |b| rx[0].receive(b));
        assert!(back.0 == segment.whole(), "{:02x?}", back.0);
    }
    assert_eq!(tx[0].refused(), 0);
}

/// As [`talk`]; and the tap completes TCP checksums and judges those it receives.
fn talk_and_judge(pool: &Pool, mut started: Vec<StartedPort>, paths: &Paths) {
    for port in &started {
        wait(|| port.control.link().unwrap().up, "the link is up");
    }
    let [tap, kernel] = &mut started[..] else { panic!("two ports") };
    assert!(tap.control.completes_tcp() && tap.control.verifies_tcp());
    assert!(!kernel.control.completes_tcp() && !kernel.control.verifies_tcp());
    for segment in segments() {
        let out = segment.promised(pool);
        let (bytes, _) = ask(&out, &mut |b| tap.tx[0].send(b), &mut |b| kernel.rx[0].receive(b));
        assert!(bytes == segment.whole(), "{bytes:02x?}");

        let mut damaged = segment.whole();
        *damaged.last_mut().unwrap() ^= 1;
        for (bytes, verdict) in [(segment.whole(), RxChecksum::Good), (damaged, RxChecksum::Bad)] {
            let out = || mbuf_of(pool, &bytes);
            let back = ask(&out, &mut |b| kernel.tx[0].send(b), &mut |b| tap.rx[0].receive(b));
            assert_eq!(back, (bytes.clone(), verdict));
        }
    }
    talk(pool, started, paths);
}

/// Sends the frame again and again until one of its size arrives, which may take a device a while;
/// what arrived, and what the device says of it.
fn ask(
    frame: &dyn Fn() -> Mbuf,
    send: &mut dyn FnMut(&mut Burst) -> usize,
    receive: &mut dyn FnMut(&mut Burst) -> usize,
) -> (Vec<u8>, RxChecksum) {
    let len = frame().len();
    let (mut out, mut back) = (Burst::new(), Burst::new());
    let begin = now();
    loop {
        out.clear();
        assert!(out.push(frame()).is_ok());
        send(&mut out);
        for _ in 0..1_000 {
            receive(&mut back);
            for mbuf in back.drain() {
                if mbuf.len() == len && mbuf.bytes()[6..12] == STATION {
                    return (mbuf.bytes().to_vec(), mbuf.checksum());
                }
            }
        }
        assert!(begin.elapsed() < PATIENCE, "a TCP segment in {len} bytes does not arrive");
    }
}

/// A TCP segment in its frame.
struct Segment {
    is_v6: bool,
    text: usize,
}

/// No two of the same length: an odd text, an even one, none.
fn segments() -> impl Iterator<Item = Segment> {
    let of = |is_v6| [1, 501, 1_000].map(|text| Segment { is_v6, text });
    of(false).into_iter().chain(of(true))
}

impl Segment {
    /// Bytes of the IP header.
    const fn ip(&self) -> usize {
        if self.is_v6 { 40 } else { 20 }
    }

    /// The frame with the pseudo-header's sum where TCP's checksum will be.
    fn frame(&self) -> Vec<u8> {
        let tcp = 20 + self.text;
        let (mut frame, addresses) = (Vec::from([0xff; 6]), 14 + if self.is_v6 { 8 } else { 12 });
        frame.extend(STATION);
        if self.is_v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((tcp as u16).to_be_bytes());
            frame.extend([6, 64]);
            frame.extend((0..32).map(|byte| 0xfd - byte));
        } else {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((20 + tcp as u16).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
            let header = !(fold(sum(&frame[14..])) as u16);
            frame[24..26].copy_from_slice(&header.to_be_bytes());
        }
        let pseudo = fold(sum(&frame[addresses..]) + 6 + tcp as u32);
        frame.extend([0x12, 0x34, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x10, 0xff, 0xff]);
        frame.extend((pseudo as u16).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend((0..self.text).map(|byte| (byte * 7) as u8 | 0x80));
        frame
    }

    /// The frame as it should arrive.
    fn whole(&self) -> Vec<u8> {
        let mut frame = self.frame();
        let tcp = 14 + self.ip();
        let checksum = !(fold(sum(&frame[tcp..])) as u16);
        frame[tcp + 16..tcp + 18].copy_from_slice(&checksum.to_be_bytes());
        frame
    }

    /// The frame whose checksum is left to the device.
    fn promised<'p>(&'p self, pool: &'p Pool) -> impl Fn() -> Mbuf + 'p {
        move || {
            let mut mbuf = mbuf_of(pool, &self.frame());
            mbuf.complete_tcp_checksum(14, self.ip() as u8, self.is_v6);
            mbuf
        }
    }
}

fn mbuf_of(pool: &Pool, bytes: &[u8]) -> Mbuf {
    let mut mbuf = pool.alloc_frame(bytes.len()).unwrap();
    assert!(mbuf.copy_from(bytes));
    mbuf
}

/// The sum of 16-bit words (RFC 1071); an odd byte counts as if a zero followed.
fn sum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum()
}

fn fold(sum: u32) -> u32 {
    let sum = (sum >> 16) + (sum & 0xffff);
    (sum >> 16) + (sum & 0xffff)
}

/// What is in one capture file comes out in the other.
fn copies_a_capture(_pool: &Pool, mut started: Vec<StartedPort>, paths: &Paths) {
    let StartedPort { rx, tx, .. } = &mut started[0];
    let (mut burst, mut copied) = (Burst::new(), 0);
    while rx[0].receive(&mut burst) > 0 {
        copied += tx[0].send(&mut burst);
        assert!(burst.is_empty());
    }
    assert_eq!(copied, FRAMES);
    drop(started);
    // Time stamps differ: 24 bytes of file header, then 16 and the frame for each.
    let frames = |file| {
        let bytes = fs::read(paths.file(file)).unwrap();
        let mut frames = Vec::new();
        let mut rest = &bytes[24..];
        while !rest.is_empty() {
            let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
            frames.push(rest[16..16 + len].to_vec());
            rest = &rest[16 + len..];
        }
        frames
    };
    assert!(frames("in.pcap") == frames("out.pcap"), "the captures differ");
}

/// Sends numbered frames of many lengths, a few at a time, and checks that each arrives once, whole
/// and in order.
fn exchange(
    pool: &Pool,
    mut send: impl FnMut(&mut Burst) -> usize,
    mut receive: impl FnMut(&mut Burst) -> usize,
) {
    let (mut out, mut back) = (Burst::new(), Burst::new());
    let (mut sent, mut seen) = (0, 0);
    let before = pool.in_use();
    let begin = now();
    while seen < FRAMES {
        // No more than a few are on the way, so that no device has a reason to lose one.
        if out.is_empty() && sent < FRAMES && sent - seen < BURST {
            out = numbered(pool, sent, 8.min(FRAMES - sent));
            sent += out.len();
        }
        send(&mut out);
        receive(&mut back);
        for mbuf in back.drain() {
            let bytes = mbuf.bytes();
            if bytes[12..14] == EXPERIMENT {
                let expected = frame(seen);
                assert!(bytes == expected, "frame {seen} arrived as {:?}", &bytes[..24]);
                seen += 1;
            }
        }
        assert!(begin.elapsed() < PATIENCE, "{sent} frames were sent, {seen} arrived");
    }
    drop(out);
    // Devices keep some frames in their rings, but not without bound.
    let kept = pool.in_use().saturating_sub(before);
    assert!(kept <= 2_048, "{kept} frames more are out than before");
}

/// Frame `number`: its length depends on the number, its bytes are the number's.
fn frame(number: usize) -> Vec<u8> {
    let mut frame = vec![number as u8; 60 + number * 7 % 1_455];
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame[6..12].copy_from_slice(&STATION);
    frame[12..14].copy_from_slice(&EXPERIMENT);
    frame[14..22].copy_from_slice(&(number as u64).to_be_bytes());
    frame
}

fn numbered(pool: &Pool, first: usize, count: usize) -> Burst {
    let mut burst = Burst::new();
    pool.alloc_into(&mut burst, count);
    for (number, mbuf) in (first..).zip(&mut burst) {
        let bytes = frame(number);
        mbuf.set_len(bytes.len()).unwrap();
        mbuf.bytes_mut().copy_from_slice(&bytes);
    }
    burst
}

/// A capture file with `count` frames.
fn capture(count: usize) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0]);
    file.extend([0; 8]);
    file.extend(65_535_u32.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for number in 0..count {
        let frame = frame(number);
        file.extend([0; 8]);
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend(frame);
    }
    file
}

fn wait(mut condition: impl FnMut() -> bool, what: &str) {
    let begin = now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

#[expect(clippy::disallowed_methods, reason = "guards against waiting for ever")]
fn now() -> Instant {
    Instant::now()
}

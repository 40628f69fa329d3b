//! Programs of others against applications on the appliance: curl and wrk, iperf3, and nmap, which
//! says how hard the sequence numbers are to guess.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::rig::{CLIENT_V4, Rig, SERVER_V4, SERVER_V6, START, Swept};
use xtcp_bench::machine::{Namespace, run};
use xtcp_bench::process::{Launch, Running};

const PORT: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(120);

/// The appliance, and an example application on it that says when it is ready.
struct Served {
    application: Running,
    _xtcpd: Running,
    _appliance: Swept,
    _veth: xtcp_bench::machine::VethPair,
}

fn serve(rig: &Rig, example: &str) -> Served {
    let veth = rig.veth();
    let appliance = rig.appliance(&rig.instance_name('a'), veth.near());
    let xtcpd = appliance.start().unwrap_or_else(|error| panic!("{error}"));
    let program = rig.programs.path(&format!("examples/{example}"));
    let program = program.unwrap_or_else(|error| panic!("{error}"));
    let mut application = Launch::new(example, program)
        .arguments(&format!("--instance {} --port {PORT} --run-dir", appliance.name))
        .argument(appliance.run_dir.display().to_string())
        .log(&rig.directory.join(format!("{example}.log")))
        .start()
        .unwrap_or_else(|error| panic!("{error}"));
    application
        .wait_for_line(0, "`ready on port`", START, |line| line.contains("ready on port"))
        .unwrap_or_else(|error| panic!("{error}"));
    Served { application, _xtcpd: xtcpd, _appliance: appliance, _veth: veth }
}

/// Runs a program among the clients to its end; gives what it said.
fn client(rig: &Rig, program: &str, arguments: &str) -> String {
    let launch = Launch::new(program, program).arguments(arguments).inside(rig.namespace.name());
    launch.finish(PATIENCE).unwrap_or_else(|error| panic!("{error}")).join("\n")
}

fn sha256(path: &Path) -> String {
    let said = run(&format!("sha256sum {}", path.display())).unwrap();
    said.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn curl_puts_and_gets_32_mib_and_the_hashes_are_equal() {
    let rig = Rig::new();
    let _served = serve(&rig, "http");
    let (up, down) = (rig.directory.join("up"), rig.directory.join("down"));
    let mut bytes = vec![0; 32 << 20];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    std::fs::write(&up, &bytes).unwrap();
    let curl = "--silent --show-error --fail --max-time 100 --output";
    for (path, server) in [("v4", SERVER_V4.to_owned()), ("v6", format!("[{SERVER_V6}]"))] {
        let url = format!("http://{server}:{PORT}/{path}");
        let timed = "--write-out %{speed_upload}/%{speed_download}\\n";
        let said = client(
            &rig,
            "curl",
            &format!("{curl} /dev/null {timed} --globoff --upload-file {} {url}", up.display()),
        );
        println!("{path}, B/s up: {said}");
        let said =
            client(&rig, "curl", &format!("{curl} {} {timed} --globoff {url}", down.display()));
        println!("{path}, B/s down: {said}");
        assert_eq!(sha256(&down), sha256(&up), "{path}");
        std::fs::remove_file(&down).unwrap();
    }
}

#[test]
fn requests_that_are_sent_ahead_are_answered_in_their_order() {
    let rig = Rig::new();
    let _served = serve(&rig, "http");
    let mut stream = rig.connect(SERVER_V4, PORT).unwrap();
    let ask = "PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n\
               GET /none HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\nConnection: close\r\n\r\n";
    stream.write_all(ask.as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let expected = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n\
                    HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n\
                    HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n\
                    HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(said, expected);
}

/// A client that says it asks no more waits for the end of the stream.
#[test]
fn what_is_put_can_be_empty_and_the_last() {
    let rig = Rig::new();
    let _served = serve(&rig, "http");
    let mut stream = rig.connect(SERVER_V4, PORT).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let ask = "PUT /empty HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(ask.as_bytes()).unwrap();
    let created = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
    let mut said = vec![0; created.len()];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(String::from_utf8_lossy(&said), created);
    let ask = "GET /empty HTTP/1.1\r\n\r\n\
               PUT /last HTTP/1.1\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlast";
    stream.write_all(ask.as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\
                    HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(said, expected);
}

/// The figure behind a word.
fn figure(said: &str, word: &str) -> f64 {
    let line = said.lines().find(|line| line.contains(word));
    let line = line.unwrap_or_else(|| panic!("no `{word}` in:\n{said}"));
    line.split(word).nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn wrk_is_answered_on_every_connection() {
    let rig = Rig::new();
    let _served = serve(&rig, "http");
    let said = client(&rig, "wrk", &format!("-t 1 -c 64 -d 3s http://{SERVER_V4}:{PORT}/"));
    println!("{said}");
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    assert!(figure(&said, "Requests/sec:") > 100.0, "{said}");
}

#[test]
fn iperf3_measures_both_directions() {
    let rig = Rig::new();
    let mut served = serve(&rig, "iperf");
    for (server, how) in
        [(SERVER_V4, ""), (SERVER_V4, "-R"), (SERVER_V4, "-P 4"), (SERVER_V6, "-R -P 4")]
    {
        let said = client(&rig, "iperf3", &format!("-c {server} -p {PORT} -t 2 -J {how}"));
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert!(said.get("error").is_none(), "{said:#}");
        let end = &said["end"];
        let bytes = |whose: &str| end[whose]["bytes"].as_u64().unwrap();
        let (sent, received) = (bytes("sum_sent"), bytes("sum_received"));
        let rate = end["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e6;
        println!("{server} {how}: {sent} B sent, {received} B received, {rate:.0} Mb/s");
        assert!(received > 1 << 20 && received <= sent, "{how}: {received} of {sent}");
        for stream in end["streams"].as_array().unwrap() {
            assert!(stream["receiver"]["bytes"].as_u64() > Some(1 << 16), "{how}: {stream:#}");
        }
    }
    assert!(served.application.is_running());
}

/// iperf3 itself meets this in one run of ten or so: it has taken part of a block when the time is
/// over, and then waits for the rest of the block or the stream's end before anything else.
#[test]
fn a_stream_that_iperf3_takes_ends_when_the_test_is_over() {
    let rig = Rig::new();
    let _served = serve(&rig, "iperf");
    let connect = || {
        let mut stream = rig.connect(SERVER_V4, PORT).unwrap();
        stream.write_all(&[b'c'; 37]).unwrap();
        stream
    };
    let mut control = connect();
    let mut expect = |states: &[u8], then: &[u8]| {
        let mut said = vec![0; states.len()];
        control.read_exact(&mut said).unwrap();
        assert_eq!(said, states);
        control.write_all(then).unwrap();
    };
    let parameters = br#"{"reverse":true,"parallel":1,"time":1}"#;
    let len = u32::try_from(parameters.len()).unwrap().to_be_bytes();
    expect(&[9], &[&len[..], parameters].concat());
    // CREATE_STREAMS, TEST_START, TEST_RUNNING; TEST_END.
    expect(&[10], &[]);
    let mut stream = connect();
    expect(&[1, 2], &[]);
    stream.read_exact(&mut [0; 1000]).unwrap();
    expect(&[], &[4]);
    std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    // EXCHANGE_RESULTS.
    expect(&[13], &[]);
}

/// What nmap says of a host's sequence numbers: how hard they are to guess, and its IP
/// identifications.
fn nmap(namespace: &str, host: &str, open: u16) -> (u32, String) {
    let launch = Launch::new("nmap", "nmap")
        .arguments(&format!("-O -v -n -Pn --osscan-guess -p {open},1 {host}"))
        .inside(namespace);
    let said = launch.finish(PATIENCE).unwrap_or_else(|error| panic!("{error}")).join("\n");
    let difficulty = figure(&said, "Difficulty=") as u32;
    let line = said.lines().find(|line| line.contains("IP ID Sequence Generation:"));
    let ids = line.unwrap_or_else(|| panic!("{said}")).split(": ").nth(1).unwrap().to_owned();
    (difficulty, ids)
}

/// nmap's difficulty is 8 log2 of the deviation of five differences per second. Of numbers whose 32
/// bits are all unguessable it is 259 in the middle, below 256 in a fifth of the scans and below
/// this in one of 100,000; of those with 24 such bits it is 195 in the middle.
const UNGUESSABLE: u32 = 226;

/// Linux, asked in the same way, is the measure.
#[test]
fn nmap_finds_the_sequence_numbers_as_hard_as_linuxs() {
    let rig = Rig::new();
    let _served = serve(&rig, "http");
    let ours = nmap(rig.namespace.name(), SERVER_V4, PORT);

    let inside = rig.namespace.name();
    let linux = format!("{inside}l");
    Namespace::sweep(&linux);
    let linux = Namespace::create(&linux).unwrap();
    run(&format!(
        "ip link add linux netns {inside} type veth peer name linux netns {}",
        linux.name()
    ))
    .unwrap();
    rig.namespace.add_address("linux", "10.78.0.1".parse().unwrap(), 24).unwrap();
    linux.add_address("linux", "10.78.0.2".parse().unwrap(), 24).unwrap();
    for name in [inside, linux.name()] {
        run(&format!("ip -n {name} link set linux up")).unwrap();
    }
    let listening = Launch::new("nc", "nc")
        .arguments(&format!("-l -k -v -n {PORT}"))
        .inside(linux.name())
        .start()
        .and_then(|mut nc| {
            nc.wait_for_line(0, "`Listening`", START, |line| line.contains("Listening"))?;
            Ok(nc)
        });
    let _listening = listening.unwrap_or_else(|error| panic!("{error}"));
    let theirs = nmap(inside, "10.78.0.2", PORT);
    println!("from {CLIENT_V4}: ours {ours:?}, Linux's {theirs:?}");
    assert!(theirs.0 >= UNGUESSABLE, "the measure is Linux's: {theirs:?}");
    assert!(ours.0 >= UNGUESSABLE, "ours {ours:?}, Linux's {theirs:?}");
    assert_eq!(ours.1, "All zeros");
}

//! The example server in C and the one in Rust serve the same kernel clients, word for word.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::rig::{Rig, SERVER_V4, SERVER_V6, START, Swept};
use xtcp_bench::process::{Launch, Running};

const PORT: u16 = 7777;
const PATIENCE: Duration = Duration::from_secs(30);

/// Compiles the C example against the library of the release build.
fn build_in_c(rig: &Rig) -> PathBuf {
    let library = rig.programs.path("libxtcp.so").unwrap_or_else(|error| panic!("{error}"));
    let directory = &rig.directory;
    for name in ["libxtcp.so", "libxtcp.so.0"] {
        std::os::unix::fs::symlink(&library, directory.join(name)).unwrap();
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ffi/xtcp");
    let program = rig.directory.join("presence-c");
    let done = Command::new("cc")
        .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-pedantic", "-Werror", "-o"])
        .arg(&program)
        .arg(sources.join("examples/presence.c"))
        .arg("-I")
        .arg(sources.join("include"))
        .arg("-L")
        .arg(directory)
        .arg(format!("-Wl,-rpath,{}", directory.display()))
        .arg("-lxtcp")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    program
}

fn start_in_c(rig: &Rig, appliance: &Swept, program: PathBuf) -> Running {
    let mut server = Launch::new("presence-c", program)
        .argument("--instance")
        .argument(&appliance.name)
        .argument("--run-dir")
        .argument(appliance.run_dir.display().to_string())
        .argument("--port")
        .argument(PORT.to_string())
        .log(&rig.directory.join("presence-c.log"))
        .start()
        .unwrap_or_else(|error| panic!("{error}"));
    server
        .wait_for_line(0, "`ready on port`", START, |line| line.contains("ready on port"))
        .unwrap_or_else(|error| panic!("{error}"));
    server
}

/// Types a line; gives what is answered, up to and with the line that ends so.
fn say(nc: &mut Running, read: &mut usize, line: &str, end: &str) -> Vec<String> {
    nc.tell(line).unwrap();
    hear(nc, read, end)
}

fn hear(nc: &mut Running, read: &mut usize, end: &str) -> Vec<String> {
    let from = *read;
    let (_, next) = nc
        .wait_for_line(from, &format!("`{end}`"), PATIENCE, |line| line.ends_with(end))
        .unwrap_or_else(|error| panic!("{error}"));
    *read = next;
    nc.said()[from..next].to_vec()
}

/// What two people of one server's are told; one comes over IPv4, one over IPv6.
fn conversation(rig: &Rig) -> Vec<String> {
    let (mut anna, mut bob) = (rig.nc(SERVER_V4, PORT), rig.nc(SERVER_V6, PORT));
    let (mut of_anna, mut of_bob) = (0, 0);
    let mut all = Vec::new();
    all.extend(say(&mut anna, &mut of_anna, "LOGIN anna", "anna is here"));
    all.extend(say(&mut bob, &mut of_bob, "LOGIN anna", "anna is taken"));
    all.extend(say(&mut bob, &mut of_bob, "LOGIN bob", "bob is here"));
    all.extend(say(&mut anna, &mut of_anna, "WHO", "HERE anna bob"));
    all.extend(say(&mut anna, &mut of_anna, "MSG bob are you there?", "bob has it"));
    all.extend(hear(&mut bob, &mut of_bob, "are you there?"));
    all.extend(say(&mut anna, &mut of_anna, "MSG carol hello", "carol is not here"));
    all.extend(say(&mut anna, &mut of_anna, "NONSENSE", "HELP tells what there is"));
    all.extend(say(&mut bob, &mut of_bob, "HELP", "."));
    all.extend(say(&mut bob, &mut of_bob, "QUIT", "BYE"));
    bob.end_input();
    bob.wait(PATIENCE).unwrap_or_else(|error| panic!("the server has not closed: {error}"));
    all
}

/// The load's clients compare every byte.
fn load(rig: &Rig) {
    let steps = rig.clients(&format!(
        "--target {SERVER_V4}:{PORT} --target [{SERVER_V6}]:{PORT} --framing presence \
         --connections 100 --load rounds=5,sizes=log:1..100000"
    ));
    assert_eq!(steps[1].done, 500, "{steps:?}");
}

/// Lines of a client that reads no answers, more than all buffers have answers.
const LINES: usize = 200_000;

/// A client passes texts on and reads no answers until nothing goes on. A line whose answer found no
/// room is tried again: its text goes once all the same.
fn deaf(rig: &Rig) {
    let name = "b".repeat(32);
    let log_in = |name: &str| {
        let mut stream = rig.connect(SERVER_V4, PORT).unwrap();
        writeln!(stream, "LOGIN {name}").unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        assert_eq!(lines.read_line(&mut String::new()).unwrap(), name.len() + 12);
        (stream, lines)
    };
    let (hearing, mut heard) = log_in(&name);
    let (mut deaf, answers) = log_in("a");
    rustix::net::sockopt::set_socket_recv_buffer_size(&deaf, 4096).unwrap();
    let mut answers = Some(answers);
    let all: String = (0..LINES).map(|number| format!("MSG {name} {number}\n")).collect();
    let writing = std::thread::spawn(move || deaf.write_all(all.as_bytes()));

    hearing.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut line = String::new();
    let mut count = 0;
    let mut reading = None;
    while count < LINES {
        match heard.read_line(&mut line) {
            Ok(_) => {
                assert_eq!(line, format!("FROM a {count}\n"), "each once, in order");
                line.clear();
                count += 1;
            }
            Err(error) => {
                let mut answers = answers.take().unwrap_or_else(|| panic!("{count}: {error}"));
                hearing.set_read_timeout(Some(PATIENCE)).unwrap();
                reading = Some(std::thread::spawn(move || {
                    (0..LINES).all(|_| {
                        let mut answer = String::new();
                        answers.read_line(&mut answer).is_ok_and(|_| answer.starts_with("OK "))
                    })
                }));
            }
        }
    }
    assert!(reading.expect("it waits for who does not read").join().unwrap());
    writing.join().unwrap().unwrap();
}

#[test]
fn c_and_rust_serve_the_same_conversation_over_both_families() {
    let rig = Rig::new();
    let veth = rig.veth();
    let appliance = rig.appliance(&rig.instance_name('a'), veth.near());
    let _xtcpd = appliance.start().unwrap_or_else(|error| panic!("{error}"));

    let mut in_rust = appliance.start_presence(PORT).unwrap_or_else(|error| panic!("{error}"));
    let of_rust = conversation(&rig);
    load(&rig);
    deaf(&rig);
    assert!(in_rust.stop().unwrap().success(), "{}", in_rust.tail());

    let mut in_c = start_in_c(&rig, &appliance, build_in_c(&rig));
    let of_c = conversation(&rig);
    load(&rig);
    deaf(&rig);
    assert!(in_c.stop().unwrap().success(), "{}", in_c.tail());

    println!("{}", of_rust.join("\n"));
    assert_eq!(of_rust, of_c);
}

//! The installed library as C and C++ programs meet it: header, pkg-config file, both libraries, and
//! the example server, in conversation with clients of a played appliance.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::appliance::{Appliance, Client, Stage};

/// The port the example server is given.
const PORT: u16 = 7007;

const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-pedantic", "-Werror"];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A place of this name for what a test makes, in the target directory this test was built into.
fn place(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this test's path");
    let directory = own.ancestors().nth(2).expect("a target directory").join("tmp");
    std::fs::create_dir_all(&directory).expect("a directory");
    directory.join(format!("libxtcp-{name}"))
}

/// Runs a program to its end and answers what it printed.
fn run(program: impl AsRef<OsStr>, arguments: &[&str]) -> String {
    let program = program.as_ref();
    let done = Command::new(program).args(arguments).output();
    let done = done.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{} {arguments:?}\n{said}", program.display());
    String::from_utf8(done.stdout).expect("text")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The prefix where the library was installed, once for all tests.
fn installed() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let prefix = place("prefix");
        let _ = std::fs::remove_dir_all(&prefix);
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("install");
        run(install, &["--profile", "dev", text(&prefix)]);
        prefix
    })
}

/// Compiles a source text of this name with a compiler and flags, without linking it.
fn compile(compiler: &str, name: &str, flags: &[&str], source: &str) {
    let file = place(name);
    std::fs::write(&file, source).expect("a file");
    let include = format!("-I{}", sources().join("include").display());
    let object = format!("{}.o", file.display());
    let mut arguments = flags.to_vec();
    arguments.extend(STRICT);
    arguments.extend([&include, "-c", text(&file), "-o", &object]);
    run(compiler, &arguments);
}

/// What a program does that includes the header: sees all names and uses the sets.
const INCLUDER: &str = "
#include <xtcp.h>
#include <xtcp.h>
int use(int gd);
int use(int gd)
{
    xtcp_set set;
    struct timeval now = { 0, 0 };
    XTCP_ZERO(&set);
    XTCP_SET(gd, &set);
    XTCP_CLR(gd + 1, &set);
    return XTCP_ISSET(gd, &set) ? xtcp_select(1, &set, NULL, &now) : xtcp_finalize();
}
";

#[test]
fn the_header_is_c11() {
    compile("cc", "includer.c", &["-std=c11"], INCLUDER);
    let alone = "#include <xtcp.h>\nint nothing;\n";
    compile("cc", "alone.c", &["-std=c11", "-Wstrict-prototypes"], alone);
}

#[test]
fn the_header_is_cpp17() {
    if Command::new("c++").arg("--version").output().is_err() {
        println!("not on this machine: there is no c++");
        return;
    }
    compile("c++", "includer.cpp", &["-std=c++17"], INCLUDER);
}

/// The functions a header declares with `extern`.
fn declared() -> BTreeSet<String> {
    let header = std::fs::read_to_string(sources().join("include/xtcp.h")).expect("the header");
    let declarations = header.lines().filter_map(|line| line.strip_prefix("extern "));
    let names = declarations.filter(|line| !line.starts_with('"')).map(|line| {
        let before = line.split('(').next().unwrap_or_default();
        before.rsplit([' ', '*']).next().unwrap_or_default().to_owned()
    });
    names.collect()
}

#[test]
fn the_library_has_what_the_header_declares_and_nothing_else() {
    let library = installed().join("lib/libxtcp.so");
    let symbols = run("nm", &["--dynamic", "--defined-only", text(&library)]);
    let exported: BTreeSet<String> =
        symbols.lines().filter_map(|line| Some(line.split(' ').nth(2)?.to_owned())).collect();
    assert_eq!(exported, declared());
    let specified = [
        "xtcp_initialize",
        "xtcp_finalize",
        "xtcp_open_group",
        "xtcp_close_group",
        "xtcp_accept",
        "xtcp_pars",
        "xtcp_close",
        "xtcp_recv",
        "xtcp_send",
        "xtcp_select",
    ];
    assert!(specified.iter().all(|name| exported.contains(*name)));
}

#[test]
fn sets_are_laid_out_alike_in_c_and_rust() {
    let source = "
#include <xtcp.h>
#include <stdio.h>
int main(void)
{
    static const int gds[] = { 1, 63, 64, 1023, 1024, 5000 };
    xtcp_set set;
    XTCP_ZERO(&set);
    for (unsigned at = 0; at < sizeof gds / sizeof *gds; at++)
        XTCP_SET(gds[at], &set);
    XTCP_CLR(64, &set);
    XTCP_CLR(2, &set);
    if (!XTCP_ISSET(5000, &set) || XTCP_ISSET(64, &set) || XTCP_ISSET(5000 + 1024, &set))
        return 1;
    for (unsigned at = 0; at < sizeof set; at++)
        printf(\"%02x\", ((unsigned char *)&set)[at]);
    return 0;
}
";
    let program = build("sets", source, &shared_flags());
    let printed = run(program, &[]);
    let mut set = library::numbered::NumberSet::default();
    for gd in [1, 63, 64, 1023, 1024, 5000] {
        set.insert(gd);
    }
    set.remove(64);
    set.remove(2);
    let wanted: String = set.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(printed, wanted);
}

/// What pkg-config says for a program that uses the shared library.
fn shared_flags() -> Vec<String> {
    let flags = pkg_config(&["--cflags", "--libs"]);
    let mut flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    flags.push(format!("-Wl,-rpath,{}", installed().join("lib").display()));
    flags
}

/// The same for the archive.
fn static_flags() -> Vec<String> {
    let flags = pkg_config(&["--cflags", "--libs", "--static"]);
    let archive = |flag: &str| if flag == "-lxtcp" { "-l:libxtcp.a" } else { flag }.to_owned();
    flags.split_whitespace().map(archive).collect()
}

fn pkg_config(arguments: &[&str]) -> String {
    let path = installed().join("lib/pkgconfig");
    let said = Command::new("pkg-config")
        .args(arguments)
        .arg("xtcp")
        .env("PKG_CONFIG_PATH", path)
        .output()
        .expect("pkg-config");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).expect("text")
}

/// Builds a program of this name.
fn build(name: &str, source: &str, flags: &[String]) -> PathBuf {
    let program = place(name);
    let file = format!("{}.c", program.display());
    std::fs::write(&file, source).expect("a file");
    let mut arguments = vec!["-std=c11", "-O2", &file];
    arguments.extend(STRICT);
    arguments.extend(flags.iter().map(String::as_str));
    arguments.extend(["-o", text(&program)]);
    run("cc", &arguments);
    program
}

fn build_presence(name: &str, flags: &[String]) -> PathBuf {
    let source = sources().join("examples/presence.c");
    build(name, &std::fs::read_to_string(source).expect("the example"), flags)
}

/// The example server; killed when dropped.
struct Server(Child);

impl Server {
    fn start(program: &Path, appliance: &Appliance) -> Self {
        let mut child = Command::new(program)
            .args(["--run-dir", text(appliance.run_dir()), "--port", &PORT.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example server");
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        assert_eq!(line, format!("presence: ready on port {PORT}, Ctrl-C ends it\n"));
        Self(child)
    }

    /// Asks it to end; answers what it said then.
    fn end(mut self) -> String {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, rustix::process::Signal::INT).expect("a signal");
        assert!(self.0.wait().expect("its end").success());
        let mut said = String::new();
        let output = self.0.stdout.as_mut().expect("its output");
        output.read_to_string(&mut said).expect("its last words");
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a line and expects exactly this answer.
fn ask(appliance: &Appliance, client: Client, line: &str, answer: &str) {
    appliance.send(client, line.as_bytes());
    assert_eq!(appliance.expect(client, answer), answer);
}

fn converse(appliance: &Appliance) {
    let [alice, bob] = [(); 2].map(|()| appliance.connect(PORT));
    ask(appliance, alice, "MSG bob hello\n", "ERR LOGIN first\n");
    ask(appliance, alice, "LOGIN alice\n", "OK alice is here\n");
    ask(appliance, alice, "MSG bob hello\n", "ERR bob is not here\n");
    ask(appliance, bob, "LOGIN alice\r\n", "ERR alice is taken\n");
    ask(appliance, bob, "LOGIN bob\r\n", "OK bob is here\n");
    ask(appliance, alice, "WHO\n", "HERE alice bob\n");
    ask(appliance, alice, "MSG bob good morning\n", "OK bob has it\n");
    assert_eq!(appliance.expect(bob, "\n"), "FROM alice good morning\n");
    ask(appliance, alice, "LOGIN no/name\n", "ERR a name is 1 to 32 letters, digits, - and _\n");
    ask(appliance, alice, "MSG bob\n", "ERR MSG wants a name and a text\n");
    ask(appliance, alice, "hm\n", "ERR HELP tells what there is\n");
    ask(appliance, alice, "ECHO 1048577\n", "ERR ECHO wants a number up to 1048576\n");
    appliance.send(alice, b"WHO \xff\n");
    assert_eq!(appliance.expect(alice, "\n"), "ERR that is not UTF-8\n");
    appliance.send(alice, b"HELP\n");
    assert_eq!(appliance.expect(alice, ".\n").lines().count(), 7);

    // Two lines and a half at once; the other half, and the end, later.
    let before = appliance.acknowledged(bob);
    appliance.send(bob, b"WHO\nWHO\nQU");
    assert_eq!(appliance.expect(bob, "HERE alice bob\nHERE alice bob\n").lines().count(), 2);
    assert_eq!(appliance.acknowledged(bob), before + 8, "half a line is not acknowledged");
    ask(appliance, bob, "IT\nnever read", "BYE\n");
    appliance.expect_stage(bob, Stage::Closed);
    ask(appliance, alice, "WHO\n", "HERE alice\n");

    echo(appliance, alice);
    goodbye(appliance, alice);
}

/// A body in many segments comes back as it was, and is acknowledged to its end.
fn echo(appliance: &Appliance, client: Client) {
    let body: Vec<u8> = (0..300_000_u32).map(|at| (at * 31 + (at >> 8)).to_le_bytes()[0]).collect();
    let before = appliance.acknowledged(client);
    let line = b"ECHO 300000\n";
    appliance.send(client, line);
    let mut back = Vec::new();
    for segment in body.chunks(1400) {
        appliance.send(client, segment);
        back.extend(appliance.expect_bytes(client, segment.len()));
    }
    assert!(back == body, "the same bytes come back");
    let all = before + (line.len() + body.len()) as u64;
    appliance.expect_acknowledged(client, all);
}

/// Clients that end in other ways than QUIT.
fn goodbye(appliance: &Appliance, alice: Client) {
    appliance.finish(alice);
    appliance.expect_stage(alice, Stage::Closed);
    let [half, down, endless] = [(); 3].map(|()| appliance.connect(PORT));
    appliance.send(half, b"half a line");
    appliance.finish(half);
    appliance.expect(half, "ERR that is no line\n");
    appliance.expect_stage(half, Stage::Closed);
    ask(appliance, down, "LOGIN carol\n", "OK carol is here\n");
    ask(appliance, endless, "WHO\n", "HERE carol\n");
    appliance.end(down, 2);
    // When the server has heard of it, nobody is here any more.
    let mut here = String::new();
    while here != "HERE \n" {
        appliance.send(endless, b"WHO\n");
        here = appliance.expect(endless, "\n");
    }
    for _ in 0..5 {
        appliance.send(endless, &[b'x'; 1000]);
    }
    appliance.expect(endless, "ERR that is no line\n");
    appliance.expect_stage(endless, Stage::Closed);
}

fn serve(name: &str, flags: &[String]) {
    let appliance = Appliance::start();
    let server = Server::start(&build_presence(name, flags), &appliance);
    let group = appliance.group(PORT);
    assert_eq!((group.name.as_str(), appliance.applications()), ("presence", vec![comm(name)]));
    converse(&appliance);
    let last = appliance.connect(PORT);
    ask(&appliance, last, "WHO\n", "HERE \n");
    assert_eq!(server.end(), "presence: done, 1 clients were still here\n");
    appliance.expect_stage(last, Stage::Closed);
    appliance.expect_all_gone();
}

/// A program's name as the kernel keeps it.
fn comm(name: &str) -> String {
    format!("libxtcp-{name}").chars().take(15).collect()
}

#[test]
fn the_example_serves_with_the_shared_library() {
    serve("shared", &shared_flags());
}

#[test]
fn the_example_serves_with_the_archive() {
    serve("static", &static_flags());
}

#[test]
fn a_program_without_an_appliance_says_so() {
    let program = build_presence("alone", &shared_flags());
    let run_dir = place("nowhere");
    let done = Command::new(program).args(["--run-dir", text(&run_dir)]).output().expect("its end");
    assert!(!done.status.success());
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("xtcpd does not answer at") && said.contains("start it"), "{said}");
}

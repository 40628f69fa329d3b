//! A directory of its own, a configuration, and appliances started in it.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity};
use serde_json::Value;
use xtcp_ring::Seqpacket;

use crate::fake::ARGUMENTS;

/// What takes longer is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    directory: PathBuf,
    program: PathBuf,
    /// How many workers its appliances have.
    pub(crate) workers: u8,
}

impl Stage {
    /// `more` is appended to a configuration that has the least.
    pub(crate) fn new(more: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("xtcpd-{}-{number}", process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let cores = cores();
        let config = format!(
            "name = \"t\"\n[port]\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/24\"]\n\
             [workers]\ncores = {cores:?}\ncontrol_core = {}\n{more}",
            cores[0]
        );
        fs::write(directory.join("t.toml"), config).expect("a configuration");
        let workers = cores.len() as u8;
        let mut stage = Self { directory, program: PathBuf::new(), workers };
        let ourselves = env::current_exe().expect("our own path");
        let fake = format!(
            "{ARGUMENTS}=\"$*\" exec {} --exact fake_dataplane --ignored --nocapture",
            ourselves.display()
        );
        stage.program = stage.script("dataplane", &fake);
        stage
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Another process writes it: a child that a test beside this one forks would have our file open
    /// for writing, and what is open for writing is not executed.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(format!("{name}.sh"));
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#;
        let wrote = Command::new("sh").args(["-c", write]).arg(&path).arg(text).status();
        assert!(wrote.expect("a shell").success(), "{}", path.display());
        path
    }

    /// An xtcpctl that others can run. Another process copies it, as with [`Self::script`].
    pub(crate) fn xtcpctl_of_others(&self) -> PathBuf {
        let copy = self.directory.join("xtcpctl");
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_xtcpctl")).arg(&copy).status();
        assert!(copied.expect("cp").success(), "{}", copy.display());
        copy
    }

    pub(crate) fn command(&self, name: &str) -> Command {
        self.command_with(name, &self.program)
    }

    pub(crate) fn command_with(&self, name: &str, dataplane: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtcpd"));
        command.arg("--config").arg(self.directory.join("t.toml"));
        command.args(["--name", name]).arg("--run-dir").arg(&self.directory);
        command.arg("--dataplane").arg(dataplane).env_remove("RUST_LOG");
        command
    }

    /// An appliance that is ready.
    pub(crate) fn start(&self) -> Appliance {
        self.start_as("t")
    }

    pub(crate) fn start_as(&self, name: &str) -> Appliance {
        let appliance = Self::launch(self.command(name));
        appliance.wait_for(" ready: applications");
        appliance
    }

    /// An appliance that has just been started.
    pub(crate) fn launch(mut command: Command) -> Appliance {
        let child = command.stderr(Stdio::piped()).spawn();
        let mut child = child.expect("xtcpd");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                eprintln!("{line}");
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Appliance { child, lines }
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.directory.join(name).join("xtcpd.sock")
    }

    pub(crate) fn connect(&self) -> Seqpacket {
        Seqpacket::connect(&self.socket("t"), Some(LIMIT)).expect("connected")
    }

    pub(crate) fn xtcpctl(&self, words: &[&str]) -> (Option<i32>, String) {
        self.xtcpctl_of("t", words)
    }

    fn xtcpctl_of(&self, name: &str, words: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtcpctl"));
        command.args(["--name", name, "--run-dir"]).arg(&self.directory).args(words);
        let output = command.output().expect("xtcpctl");
        let bytes = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.code(), String::from_utf8(bytes).expect("text"))
    }

    pub(crate) fn status(&self) -> Value {
        self.status_of("t")
    }

    pub(crate) fn status_of(&self, name: &str) -> Value {
        let (code, text) = self.xtcpctl_of(name, &["status", "--json"]);
        assert_eq!(code, Some(0), "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Waits until the status says so. What a test closes can stay open a moment longer, in
    /// processes that other tests are just starting.
    pub(crate) fn wait_until(&self, heading: &str, value: &Value) {
        let looks = (0..10_000).find(|_| &self.status()[heading] == value);
        assert!(looks.is_some(), "{heading} never becomes {value}");
    }

    /// Ends the dataplane as `kill -9` does, and returns when it has ended: its lock is free then.
    pub(crate) fn kill_dataplane(&self) {
        if let Some(pid) = lock_holder(&self.directory.join("t/dataplane.lock")) {
            send(pid, Signal::KILL);
        }
        let lock = fs::File::open(self.directory.join("t/dataplane.lock")).expect("a lock");
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).expect("free");
    }

    pub(crate) fn dataplane_lives(&self) -> bool {
        lock_holder(&self.directory.join("t/dataplane.lock")).is_some()
    }

    /// Names of what is in the instance's directory.
    pub(crate) fn run_time_files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.join("t")).expect("a directory");
        let name = |entry: Result<fs::DirEntry, _>| entry.expect("an entry").file_name();
        let mut names: Vec<_> =
            entries.map(|entry| name(entry).into_string().expect("text")).collect();
        names.sort();
        names
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for name in ["t", "other"] {
            for lock in ["xtcpd.lock", "dataplane.lock"] {
                if let Some(pid) = lock_holder(&self.directory.join(name).join(lock)) {
                    send(pid, Signal::KILL);
                }
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a process");
    // It may have ended just now.
    let _ = kill_process(pid, signal);
}

/// Two cores for two workers, or one where there is only one.
fn cores() -> Vec<usize> {
    let set = sched_getaffinity(None).expect("an affinity");
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).take(2).collect()
}

/// Who holds a lock, as the kernel knows it.
fn lock_holder(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let inode = fs::metadata(path).ok()?.ino();
    let mut locks = String::new();
    fs::File::open("/proc/locks").ok()?.read_to_string(&mut locks).ok()?;
    let ours = format!(":{inode}");
    locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let held =
            words.get(1) == Some(&"FLOCK") && words.get(5).is_some_and(|w| w.ends_with(&ours));
        held.then(|| words[4].parse().ok()).flatten()
    })
}

/// An `xtcpd`. Its drop ends it and its dataplane in order.
pub(crate) struct Appliance {
    child: Child,
    lines: Receiver<String>,
}

impl Appliance {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the log says `text`, in a line not yet waited for.
    pub(crate) fn wait_for(&self, text: &str) {
        loop {
            let line = self.lines.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|_| panic!("the log never says `{text}`"));
            if line.contains(text) {
                return;
            }
        }
    }

    /// Lines of the log that hold `text`, of those that are there and were not waited for.
    pub(crate) fn said(&self, text: &str) -> usize {
        self.lines.try_iter().filter(|line| line.contains(text)).count()
    }

    pub(crate) fn send(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("ended")
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if self.child.try_wait().expect("a state").is_none() {
            self.send(Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

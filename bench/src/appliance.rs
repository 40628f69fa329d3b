//! `xtcpd`, the dataplane it starts, and an application, as an operator would run them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::clock::Deadline;
use crate::process::{Launch, ProcessError, Running, find, kill_by_id};

/// How long a start may take: EAL may zero a huge page of 1 GB first.
const START: Duration = Duration::from_secs(60);

/// Where the appliance's programs lie.
#[derive(Clone, Debug)]
pub struct Programs {
    directory: PathBuf,
}

/// One named instance of the appliance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Parent of its run-time directory; `/run/xtcp` is the appliance's own default.
    pub run_dir: PathBuf,
    /// Where its configuration and logs are written.
    pub directory: PathBuf,
    /// Its programs.
    pub programs: Programs,
    /// DPDK's device, as the configuration has it.
    pub device: String,
    /// Own addresses with their prefix lengths.
    pub addresses: Vec<String>,
    /// Connections there is room for.
    pub connections: u32,
    /// How many of them may have data in flight or unread at once.
    pub active: u32,
    /// `auto`, `require` or `never`.
    pub hugepages: &'static str,
    /// What becomes of what a dead application leaves: `close` or `keep`.
    pub successor: &'static str,
    /// Lines of the configuration's `[tcp]`; none for the defaults.
    pub tcp: String,
    /// The network namespace it runs in, if not this one.
    pub namespace: Option<String>,
}

/// Why the appliance is not up.
#[derive(Debug)]
pub enum ApplianceError {
    /// A program has not been built.
    NotBuilt(PathBuf),
    /// A file could not be written.
    File(PathBuf, io::Error),
    /// A process did not do what it should.
    Process(ProcessError),
    /// It did not answer in time.
    Silent {
        /// What was asked.
        asked: String,
        /// What its supervisor last said.
        tail: String,
    },
    /// It answered something else than what was asked for.
    Answer(String),
}

impl fmt::Display for ApplianceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBuilt(path) => {
                write!(f, "{} is not there; `make build` builds it", path.display())
            }
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Process(error) => write!(f, "{error}"),
            Self::Silent { asked, tail } => {
                write!(f, "the appliance did not answer `{asked}` in time; it last said:\n{tail}")
            }
            Self::Answer(text) => write!(f, "xtcpctl answered what was not asked for: {text}"),
        }
    }
}

impl std::error::Error for ApplianceError {}

impl From<ProcessError> for ApplianceError {
    fn from(error: ProcessError) -> Self {
        Self::Process(error)
    }
}

impl Programs {
    /// Finds the release build: beside this program, or in the target directory this program was
    /// built into.
    ///
    /// # Errors
    /// When there is none.
    pub fn locate() -> Result<Self, ApplianceError> {
        let own = std::env::current_exe()
            .map_err(|error| ApplianceError::File(PathBuf::from("/proc/self/exe"), error))?;
        let built = |directory: &Path| directory.join("release/xtcp-dataplane").exists();
        let target = own.ancestors().find(|directory| built(directory));
        let directory = target.map(|target| target.join("release")).ok_or_else(|| {
            ApplianceError::NotBuilt(PathBuf::from("target/release/xtcp-dataplane"))
        })?;
        Ok(Self { directory })
    }

    /// The path of a program.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn path(&self, name: &str) -> Result<PathBuf, ApplianceError> {
        let path = self.directory.join(name);
        if path.exists() { Ok(path) } else { Err(ApplianceError::NotBuilt(path)) }
    }
}

impl Instance {
    /// Writes the configuration; gives its path.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write_config(&self) -> Result<PathBuf, ApplianceError> {
        let path = self.directory.join(format!("{}.toml", self.name));
        let failed = |error| ApplianceError::File(path.clone(), error);
        std::fs::create_dir_all(&self.directory).map_err(failed)?;
        std::fs::write(&path, self.config()).map_err(failed)?;
        Ok(path)
    }

    fn config(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let addresses: Vec<String> = self.addresses.iter().map(|a| format!("\"{a}\"")).collect();
        format!(
            "name = \"{name}\"

[port]
device = \"{device}\"
addresses = [{addresses}]
mtu = 1500

[workers]
cores = [{worker}]
control_core = 0

[memory]
hugepages = \"{hugepages}\"
connections = {connections}
ipv6_connections = {connections}
active = {active}
transmit = \"32MiB\"
receive = \"64MiB\"
frames = 8192

[applications]
receive_max = \"64MiB\"
successor = \"{successor}\"

[tcp]
{tcp}
",
            name = self.name,
            device = self.device,
            addresses = addresses.join(", "),
            worker = cores - 1,
            hugepages = self.hugepages,
            successor = self.successor,
            tcp = self.tcp,
            connections = self.connections,
            active = self.active,
        )
    }

    /// Where this instance's sockets and locks are.
    #[must_use]
    pub fn run_time_directory(&self) -> PathBuf {
        self.run_dir.join(&self.name)
    }

    /// A file its processes' words go to.
    #[must_use]
    pub fn log(&self, process: &str) -> PathBuf {
        self.directory.join(format!("{process}.log"))
    }

    /// Starts `xtcpd` (and by it the dataplane) without waiting for it.
    ///
    /// # Errors
    /// When it cannot be started at all.
    pub fn launch(&self) -> Result<Running, ApplianceError> {
        let config = self.write_config()?;
        let launch = Launch::new("xtcpd", self.programs.path("xtcpd")?);
        let launch = match &self.namespace {
            Some(namespace) => launch.inside(namespace),
            None => launch,
        };
        let launch = launch
            .argument("--config")
            .argument(config.display().to_string())
            .argument("--name")
            .argument(&self.name)
            .argument("--run-dir")
            .argument(self.run_dir.display().to_string())
            .log(&self.log("xtcpd"));
        Ok(launch.start()?)
    }

    /// Starts `xtcpd` and waits until the appliance answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(&self) -> Result<Running, ApplianceError> {
        let mut xtcpd = self.launch()?;
        self.wait_until_up(&mut xtcpd)?;
        Ok(xtcpd)
    }

    /// Waits until `xtcpctl show workers` has something to show.
    ///
    /// # Errors
    /// When `xtcpd` ends or the time is over before.
    pub fn wait_until_up(&self, xtcpd: &mut Running) -> Result<(), ApplianceError> {
        let up = Deadline::within(START).poll(|| {
            if !xtcpd.is_running() {
                return Some(false);
            }
            let workers = self.show("workers").ok()?;
            (!workers.is_empty()).then_some(true)
        });
        match up {
            Some(true) => Ok(()),
            Some(false) => {
                let status = xtcpd.wait(START)?;
                Err(xtcpd.failure(status).into())
            }
            None => {
                Err(ApplianceError::Silent { asked: "show workers".to_owned(), tail: xtcpd.tail() })
            }
        }
    }

    /// Starts the presence server on a port without waiting for it.
    ///
    /// # Errors
    /// When it cannot be started at all.
    pub fn launch_presence(&self, port: u16) -> Result<Running, ApplianceError> {
        self.launch_presence_with(port, 0)
    }

    fn launch_presence_with(&self, port: u16, receive_mib: u32) -> Result<Running, ApplianceError> {
        let launch = Launch::new("presence", self.programs.path("examples/presence")?)
            .argument("--instance")
            .argument(&self.name)
            .argument("--run-dir")
            .argument(self.run_dir.display().to_string())
            .argument("--port")
            .argument(port.to_string())
            .arguments(&format!("--receive-mib {receive_mib}"))
            .log(&self.log("presence"));
        Ok(launch.start()?)
    }

    /// Waits until a presence server says that clients may come.
    ///
    /// # Errors
    /// When it ends or the time is over before.
    pub fn wait_for_presence(presence: &mut Running) -> Result<(), ApplianceError> {
        presence.wait_for_line(0, "`ready on port`", START, |l| l.contains("ready on port"))?;
        Ok(())
    }

    /// Starts the presence server on a port and waits until clients may come.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_presence(&self, port: u16) -> Result<Running, ApplianceError> {
        self.start_presence_with(port, 0)
    }

    /// As [`Self::start_presence`], with a receive buffer of so many MiB, so that others have some.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_presence_with(
        &self,
        port: u16,
        receive_mib: u32,
    ) -> Result<Running, ApplianceError> {
        let mut presence = self.launch_presence_with(port, receive_mib)?;
        Self::wait_for_presence(&mut presence)?;
        Ok(presence)
    }

    /// Asks `xtcpctl`; gives what it printed.
    ///
    /// # Errors
    /// When it refuses or the appliance does not answer.
    pub fn control(&self, words: &str) -> Result<String, ApplianceError> {
        let launch = Launch::new("xtcpctl", self.programs.path("xtcpctl")?)
            .argument("--name")
            .argument(&self.name)
            .argument("--run-dir")
            .argument(self.run_dir.display().to_string())
            .arguments(words);
        Ok(launch.finish(Duration::from_secs(10))?.join("\n"))
    }

    /// The rows of `xtcpctl show <topic>`.
    ///
    /// # Errors
    /// When it refuses, or answers no list of objects.
    pub fn show(&self, topic: &str) -> Result<Vec<Map<String, Value>>, ApplianceError> {
        let text = self.control(&format!("show {topic} --json"))?;
        serde_json::from_str(&text).map_err(|_| ApplianceError::Answer(text))
    }

    /// Ids of this instance's dataplane processes; one when all is well.
    #[must_use]
    pub fn dataplanes(&self) -> Vec<u32> {
        let run_dir = self.run_dir.display().to_string();
        find("xtcp-dataplane", &[self.name.as_str(), run_dir.as_str()])
    }

    /// Kills what a killed `xtcpd` may have left, and removes the run-time directory.
    pub fn sweep(&self) {
        let run_dir = self.run_dir.display().to_string();
        for program in ["presence", "relay", "xtcpd", "xtcp-dataplane"] {
            for pid in find(program, &[self.name.as_str(), run_dir.as_str()]) {
                kill_by_id(pid);
            }
        }
        // Not there is as good as removed; the parent stays when another instance lives in it.
        let _ = std::fs::remove_dir_all(self.run_time_directory());
        let _ = std::fs::remove_dir(&self.run_dir);
    }
}

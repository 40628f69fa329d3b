//! Three people talk through the presence server, each at an `nc` of the kernel's.

use std::time::Duration;

use super::DemoError;
use super::ledger::Ledger;
use super::names::{NAMESPACE, PORT, SERVER_V4, SERVER_V6};
use super::screen::Screen;
use super::stage::Stage;
use crate::process::{Launch, Running};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Somebody at an `nc`.
struct Person {
    name: &'static str,
    nc: Running,
    /// Lines of `nc` told so far.
    read: usize,
}

impl Person {
    fn connect(name: &'static str, server: &str, ledger: &Ledger) -> Result<Self, DemoError> {
        let nc = ledger.start(name, || {
            Launch::new(name, "nc").arguments(&format!("{server} {PORT}")).inside(NAMESPACE).start()
        })?;
        Ok(Self { name, nc, read: 0 })
    }

    fn type_line(&mut self, screen: &mut Screen, line: &str) -> Result<(), DemoError> {
        screen.say(&format!("    {:>6} > {line}", self.name));
        Ok(self.nc.tell(line)?)
    }

    /// Waits for a line that is just this.
    fn read_line(&mut self, screen: &mut Screen, wanted: &str) -> Result<(), DemoError> {
        let what = format!("`{wanted}`");
        let (line, read) =
            self.nc.wait_for_line(self.read, &what, PATIENCE, |line| line == wanted)?;
        screen.say(&format!("    {:>6} < {line}", self.name));
        self.read = read;
        Ok(())
    }
}

/// Holds the conversation; every line has to be answered as expected.
pub(super) fn hold(_stage: &Stage, ledger: &Ledger, screen: &mut Screen) -> Result<(), DemoError> {
    let mut anna = Person::connect("anna", SERVER_V4, ledger)?;
    let mut boris = Person::connect("boris", SERVER_V6, ledger)?;
    let mut clara = Person::connect("clara", SERVER_V4, ledger)?;
    for person in [&mut anna, &mut boris, &mut clara] {
        person.type_line(screen, &format!("LOGIN {}", person.name))?;
        person.read_line(screen, &format!("OK {} is here", person.name))?;
    }
    anna.type_line(screen, "WHO")?;
    anna.read_line(screen, "HERE anna boris clara")?;
    anna.type_line(screen, "MSG boris is the kettle on?")?;
    boris.read_line(screen, "FROM anna is the kettle on?")?;
    anna.read_line(screen, "OK boris has it")?;
    boris.type_line(screen, "MSG anna it sings already")?;
    anna.read_line(screen, "FROM boris it sings already")?;
    boris.read_line(screen, "OK anna has it")?;
    clara.type_line(screen, "QUIT")?;
    clara.read_line(screen, "BYE")?;
    clara.nc.end_input();
    clara.nc.wait(PATIENCE)?;
    anna.type_line(screen, "WHO")?;
    anna.read_line(screen, "HERE anna boris")?;
    Ok(())
}

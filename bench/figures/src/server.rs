//! A server application on the XTCP interface that sends back what comes: acknowledgement and answer
//! go together.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use xtcp::{Accept, Acknowledge, Application, Attach, Event, GroupOptions};

/// Serves until it is killed.
pub(crate) fn serve(instance: &str, run_dir: PathBuf, port: u16) -> Result<(), Box<dyn Error>> {
    let attach = Attach {
        instance: instance.to_owned(),
        run_dir,
        receive_bytes: 64 << 20,
        ..Attach::new("figures")
    };
    let (application, mut inbox) = Application::attach(&attach)?;
    application.open_group(&GroupOptions {
        accept: Accept::Automatic,
        acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
        ..GroupOptions::new("figures", port)
    })?;
    println!("ready on port {port}");
    while inbox.wait(None)? {
        let mut batch = inbox.receive()?;
        while let Some(event) = batch.next_event() {
            match event {
                Event::Acceptable(client) => drop(client.accept()?),
                Event::Request(mut request) => {
                    let len = request.len();
                    let bytes = request.contiguous().into_owned();
                    if request.answer(len, &bytes).is_err() {
                        request.again();
                    }
                }
                // A connection that is gone meanwhile needs no end.
                Event::Finished(connection) => drop(application.close(connection)),
                _ => {}
            }
        }
    }
    Ok(())
}

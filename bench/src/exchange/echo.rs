//! An application of XTCP that sends back what comes, as it comes: acknowledgement and answer go
//! together, and nothing waits.

use std::time::Duration;

use xtcp::{Accept, Acknowledge, Application, Attach, Error, Event, GroupOptions};

use super::Place;

/// Most bytes of requests that wait to be answered.
const RECEIVE_BYTES: u64 = 64 << 20;

/// Serves until the appliance is gone; calls `ready` when clients may come.
///
/// # Errors
/// When the appliance is not there, refuses, or goes.
pub fn serve(place: &Place, ready: impl FnOnce()) -> Result<(), Error> {
    let attach = Attach {
        instance: place.instance.clone(),
        run_dir: place.run_dir.clone(),
        receive_bytes: RECEIVE_BYTES,
        ..Attach::new("echo")
    };
    let (application, mut inbox) = Application::attach(&attach)?;
    application.open_group(&GroupOptions {
        accept: Accept::Automatic,
        acknowledge: Acknowledge::ByApplication { deadline: Duration::ZERO },
        ..GroupOptions::new("echo", place.port)
    })?;
    ready();
    while inbox.wait(None)? {
        let mut batch = inbox.receive()?;
        while let Some(event) = batch.next_event() {
            match event {
                // Who cannot be accepted now is offered again or gives up.
                Event::Acceptable(client) => drop(client.accept()),
                Event::Request(mut request) => {
                    let len = request.len();
                    // The bytes are sent from where they lie; the acknowledgement goes with them.
                    let sent = request.send(&request.contiguous());
                    if sent.and_then(|()| request.acknowledge(len)).is_err() {
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

//! How long it takes until an application that sleeps is awake: from the bell, and from the client's
//! send over the whole appliance, with groups that notify at once and ones that wait for more.

use std::fs::File;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use xtcp::{Application, Attach, Event, GroupOptions, Inbox, Notify};

use super::played::Played;
use super::stage::{SERVER, Stage};
use super::{Failure, heading_of_us, publish, row_of_us};
use crate::appliance::Instance;
use crate::clock;

const PORT: u16 = 7201;
const REQUEST: usize = 64;

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Wake-ups of each kind
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(10..))]
    pub wakeups: u32,
    /// How long the application is left asleep before each, in microseconds
    #[arg(long, default_value_t = 1000)]
    pub pause_us: u64,
    /// Requests a group that waits for more waits for
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub requests: u32,
    /// And how long at most, in microseconds
    #[arg(long, default_value_t = 200)]
    pub after_us: u64,
    /// Where the report is left
    #[arg(long, default_value = "bench/out")]
    pub out: PathBuf,
}

/// Measures and reports.
///
/// # Errors
/// When something is missing or does not hold, a sentence.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut text = format!(
        "Time until a parked application thread is awake and has the request in hand, in \
         microseconds;\n{} wake-ups of each kind, {} us asleep before each.\n\n",
        options.wakeups, options.pause_us
    );
    text += &heading_of_us("from the bell (worker's ring_if_parked)");
    text += &row_of_us("  parked", &from_the_bell(options)?);
    text += "\n";
    text += &heading_of_us("from a kernel client's send, by the appliance");
    let stage = Stage::set()?;
    let appliance = stage.give_to_an_appliance()?;
    let later =
        Notify { requests: options.requests, after: Duration::from_micros(options.after_us) };
    let waits = format!("{} or {} us", options.requests, options.after_us);
    let kinds = [
        ("  polling, 1 client".to_owned(), Habit::Polls, Notify::AT_ONCE, 1),
        ("  parked, at once, 1 client".to_owned(), Habit::Parks, Notify::AT_ONCE, 1),
        (format!("  parked, {waits}, 1 client"), Habit::Parks, later, 1),
        (
            format!("  parked, at once, {} clients together", options.requests),
            Habit::Parks,
            Notify::AT_ONCE,
            options.requests,
        ),
        (
            format!("  parked, {waits}, {} clients together", options.requests),
            Habit::Parks,
            later,
            options.requests,
        ),
    ];
    for (name, habit, notify, clients) in kinds {
        let clients_in = stage.clients.name();
        let latency =
            from_a_client(options, (&appliance.instance, clients_in), habit, notify, clients)?;
        text += &row_of_us(&name, &latency);
    }
    appliance.stop()?;
    publish(&text, &options.out, "wakeup.txt")
}

fn histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_bounds(1, 10_000_000_000, 3)?)
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A worker that is played rings; nothing else is in the way.
fn from_the_bell(options: &Options) -> Result<Histogram<u64>, Failure> {
    let mut played = Played::new(1)?;
    let door = played.door();
    let began = clock::now();
    let (stop, rung_at) = (AtomicBool::new(false), AtomicU64::new(0));
    let (awake_to, awake) = mpsc::channel();
    let mut latency = histogram()?;
    thread::scope(|scope| {
        let (stop, rung_at) = (&stop, &rung_at);
        let application = scope.spawn(move || -> Result<(), String> {
            let (application, mut inbox) = door.attach().map_err(|error| error.to_string())?;
            while !stop.load(Ordering::Relaxed) {
                let timeout = Some(Duration::from_secs(1));
                inbox.wait(timeout).map_err(|error| error.to_string())?;
                let mut latencies = Vec::new();
                answer_all(&application, &mut inbox, || {
                    let rung_at = rung_at.load(Ordering::Acquire);
                    latencies.push(nanoseconds(began).saturating_sub(rung_at));
                })?;
                for latency in latencies {
                    // Nobody listens any more only when it is over.
                    let _ = awake_to.send(latency);
                }
            }
            Ok(())
        });
        let mut recorded = 0;
        while recorded < options.wakeups && !application.is_finished() {
            thread::sleep(Duration::from_micros(options.pause_us));
            rung_at.store(nanoseconds(began), Ordering::Release);
            played.give(1, REQUEST as u16);
            let slept = played.ring();
            while played.take() == 0 && !application.is_finished() {
                thread::yield_now();
            }
            // One that was awake already says nothing about waking.
            if let Ok(since) = awake.recv()
                && slept
            {
                latency.saturating_record(since);
                recorded += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        drop(awake);
        application.join().map_err(|_| "the application's thread panicked")??;
        Ok::<(), Failure>(())
    })?;
    Ok(latency)
}

/// Answers every request in full; `in_hand` is told of each when it is there.
fn answer_all(
    application: &Application,
    inbox: &mut Inbox,
    mut in_hand: impl FnMut(),
) -> Result<(), String> {
    let mut batch = inbox.receive().map_err(|error| error.to_string())?;
    while let Some(event) = batch.next_event() {
        match event {
            Event::Acceptable(client) => drop(client.accept()),
            Event::Request(mut request) if request.len() >= REQUEST => {
                in_hand();
                request.answer(REQUEST, &[0; REQUEST]).map_err(|error| error.to_string())?;
            }
            Event::Finished(connection) => drop(application.close(connection)),
            _ => {}
        }
    }
    application.flush();
    Ok(())
}

/// What the application does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Polls,
    Parks,
}

/// Clients send at the same time, and again when all have their answers and the pause is over.
fn from_a_client(
    options: &Options,
    (instance, namespace): (&Instance, &str),
    habit: Habit,
    notify: Notify,
    clients: u32,
) -> Result<Histogram<u64>, Failure> {
    let (application, mut inbox) = Application::attach(&Attach {
        instance: instance.name.clone(),
        run_dir: instance.run_dir.clone(),
        receive_bytes: 4 << 20,
        ..Attach::new("wakeup")
    })?;
    application.open_group(&GroupOptions { notify, ..GroupOptions::new("wakeup", PORT) })?;
    let began = clock::now();
    let sent_at = AtomicU64::new(0);
    let mut latency = histogram()?;
    let rounds = options.wakeups.div_ceil(clients);
    let pause = Duration::from_micros(options.pause_us);
    thread::scope(|scope| {
        let sent_at = &sent_at;
        let client = scope.spawn(move || {
            call(namespace, clients, rounds, pause, began, sent_at)
                .map_err(|error| error.to_string())
        });
        while !client.is_finished() {
            if habit == Habit::Parks {
                inbox.wait(Some(Duration::from_millis(100)))?;
            }
            answer_all(&application, &mut inbox, || {
                let sent_at = sent_at.load(Ordering::Acquire);
                latency.saturating_record(nanoseconds(began).saturating_sub(sent_at));
            })?;
        }
        client.join().map_err(|_| "the client's thread panicked")??;
        Ok::<(), Failure>(())
    })?;
    application.detach(inbox)?;
    Ok(latency)
}

fn call(
    namespace: &str,
    clients: u32,
    rounds: u32,
    pause: Duration,
    began: Instant,
    sent_at: &AtomicU64,
) -> Result<(), Failure> {
    let file = File::open(format!("/run/netns/{namespace}"))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    let mut streams = Vec::new();
    for _ in 0..clients {
        let stream = TcpStream::connect((SERVER, PORT))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        streams.push(stream);
    }
    for _ in 0..rounds {
        thread::sleep(pause);
        sent_at.store(nanoseconds(began), Ordering::Release);
        for stream in &mut streams {
            stream.write_all(&[7; REQUEST])?;
        }
        for stream in &mut streams {
            stream.read_exact(&mut [0; REQUEST])?;
        }
    }
    Ok(())
}

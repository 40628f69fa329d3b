//! What a request costs in the application library and over the rings, by the size of the batch it
//! comes in. The worker is played: no network, no TCP.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hdrhistogram::Histogram;
use xtcp::{Application, Event, Inbox};
use xtcp_cpu::tsc;

use super::played::Played;
use super::{Failure, publish};
use crate::clock;

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Requests for each size of batch
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..))]
    pub requests: u32,
    /// Bytes of a request and of its answer
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..=2048))]
    pub bytes: u16,
    /// Sizes of batches
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32],
          value_parser = clap::value_parser!(u16).range(1..=128))]
    pub sizes: Vec<u16>,
    /// Where the report is left
    #[arg(long, default_value = "bench/out")]
    pub out: PathBuf,
}

/// Ticks for one request: of the median batch, so that what else runs on the machine counts little.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// In the library: receive, read in place, answer, publish.
    library: f64,
    /// The worker's: notices in, submissions out, bytes copied.
    rings: f64,
    /// From one batch to the next with both on cores of their own.
    across: f64,
}

/// Measures and reports.
///
/// # Errors
/// When the memory cannot be had.
pub fn run(options: &Options) -> Result<(), Failure> {
    let ns_per_tick = ns_per_tick();
    let mut text = format!(
        "Cost of a request of {bytes} B and its answer of {bytes} B, {requests} of each batch; \
         the\nmedian batch; TSC at {:.3} GHz.\n\n{:>6} {:>22} {:>22} {:>22}\n{:>6} {:>22} {:>22} {:>22}\n",
        1.0 / ns_per_tick,
        "batch",
        "in the library",
        "worker's end of rings",
        "two cores, all of it",
        "",
        "ticks (ns) / request",
        "ticks (ns) / request",
        "ticks (ns) / request",
        bytes = options.bytes,
        requests = options.requests,
    );
    for &size in &options.sizes {
        let mut cost = one_thread(options, usize::from(size))?;
        cost.across = two_threads(options, usize::from(size))?;
        let cell = |ticks: f64| format!("{ticks:.0} ({:.1})", ticks * ns_per_tick);
        let Cost { library, rings, across } = cost;
        let _ = writeln!(
            text,
            "{size:>6} {:>22} {:>22} {:>22}",
            cell(library),
            cell(rings),
            cell(across)
        );
    }
    text += "\nIn the library: what an application's thread spends. Two cores: the time from one batch \
             to\nthe next, both sides polling; with fewer than two free cores it says little.\n";
    publish(&text, &options.out, "batch.txt")
}

/// Answers everything that has come; gives how many requests.
fn serve(application: &Application, inbox: &mut Inbox, answer: &[u8]) -> Result<usize, Failure> {
    let mut served = 0;
    let mut batch = inbox.receive()?;
    while let Some(event) = batch.next_event() {
        if let Event::Request(mut request) = event {
            let len = request.len();
            // A look at the bytes, as any application takes.
            if request.slices().any(|slice| slice.first() == Some(&1)) {
                return Err("the receive memory is not what it was".into());
            }
            request.answer(len, answer)?;
            served += 1;
        }
    }
    application.flush();
    Ok(served)
}

/// Both sides in turn on one core, each part timed.
fn one_thread(options: &Options, size: usize) -> Result<Cost, Failure> {
    let mut played = Played::new(size)?;
    let (application, mut inbox) = played.door().attach()?;
    let answer = vec![0; usize::from(options.bytes)];
    let batches = options.requests as usize / size;
    let (mut library, mut rings) = (histogram()?, histogram()?);
    let warm = batches / 10;
    for turn in 0..warm + batches {
        let start = tsc();
        played.give(size, options.bytes);
        let given = tsc();
        let served = serve(&application, &mut inbox, &answer)?;
        let answered = tsc();
        let taken = played.take();
        let end = tsc();
        if (served, taken) != (size, size) {
            return Err(format!("{size} requests, {served} served, {taken} answered").into());
        }
        if turn >= warm {
            library.saturating_record(answered - given);
            rings.saturating_record((given - start) + (end - answered));
        }
    }
    Ok(Cost { library: median(&library, size), rings: median(&rings, size), across: 0.0 })
}

/// Of batches' ticks.
fn histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_bounds(1, 1 << 40, 3)?)
}

fn median(batches: &Histogram<u64>, size: usize) -> f64 {
    batches.value_at_quantile(0.5) as f64 / size as f64
}

/// Both sides polling, on cores of their own where there are two.
fn two_threads(options: &Options, size: usize) -> Result<f64, Failure> {
    let mut played = Played::new(size)?;
    let door = played.door();
    let stop = AtomicBool::new(false);
    let answer = vec![0; usize::from(options.bytes)];
    let batches = options.requests as usize / size;
    thread::scope(|scope| {
        let application = scope.spawn(|| -> Result<(), String> {
            let (application, mut inbox) = door.attach().map_err(|error| error.to_string())?;
            while !stop.load(Ordering::Relaxed) {
                if serve(&application, &mut inbox, &answer).map_err(|error| error.to_string())? == 0
                {
                    // Where both share a core, the other side is to have it.
                    thread::yield_now();
                }
            }
            Ok(())
        });
        let warm = batches / 10;
        let mut across = histogram()?;
        for turn in 0..warm + batches {
            let start = tsc();
            played.give(size, options.bytes);
            let mut answered = 0;
            while answered < size && !application.is_finished() {
                match played.take() {
                    0 => thread::yield_now(),
                    some => answered += some,
                }
            }
            if turn >= warm {
                across.saturating_record(tsc() - start);
            }
        }
        stop.store(true, Ordering::Relaxed);
        application.join().map_err(|_| "the application's thread panicked")??;
        Ok(median(&across, size))
    })
}

/// The processor's word for it, or 50 ms of looking.
fn ns_per_tick() -> f64 {
    if let Some(hz) = xtcp_cpu::tsc_hz() {
        return 1e9 / hz.get() as f64;
    }
    let (since, from) = (clock::now(), tsc());
    while since.elapsed().as_millis() < 50 {
        std::hint::spin_loop();
    }
    since.elapsed().as_nanos() as f64 / (tsc() - from) as f64
}

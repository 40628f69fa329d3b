//! The short report, and whether everything held.

use std::io;

use super::load::{BODY_BYTES, Driven};
use super::stage::ROOM;
use super::{DemoError, Options};
use crate::capture::Analysis;
use crate::client::StepReport;

/// Least share of requests whose acknowledgement has to ride on an answer. It is all but a few: when
/// the machine holds the presence server up for longer than its acknowledgement deadline, the
/// dataplane acknowledges what has come meanwhile, and the demo is not to fail for that.
const SHARE_ON_ANSWER_MIN: f64 = 0.8;

/// Prints the report.
///
/// # Errors
/// When anything did not hold; the report is printed nevertheless.
pub(super) fn tell(driven: &Driven, options: &Options) -> Result<(), DemoError> {
    let text = text(driven, options);
    io::Write::write_all(&mut io::stdout(), text.as_bytes())
        .map_err(|error| DemoError::File("standard output".into(), error))?;
    let failures = failures(driven, options);
    if failures.is_empty() {
        println!("Everything held.");
        Ok(())
    } else {
        Err(DemoError::NotHeld(failures.join("\n")))
    }
}

fn text(driven: &Driven, options: &Options) -> String {
    let Driven { connect, fast, paced, .. } = driven;
    let latency = paced.latency.unwrap_or_default();
    let [before, open] = driven.resident;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let exchanges = fast.done + paced.done;
    format!(
        "
  connections            {:>10} at once, half IPv4, half IPv6; {:.0} set up per second
  exchanges              {exchanges:>10} of {BODY_BYTES} B each way; all {} B of the answers compared
  as fast as it goes     {:>10.0} per second (a kernel client on one core is the limit)
{}{}
  latency in us          p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  p99.99 {:.0}  max {:.0}
                         at {} exchanges per second, each from the time it was due
{}
  resident memory, MiB   xtcp-dataplane {:.1}  xtcpd {:.1}  presence {:.1} (before: {:.1}  {:.1}  {:.1})
  left behind            {}  {}

",
        connect.done,
        connect.done as f64 / connect.seconds,
        fast.bytes_received + paced.bytes_received,
        fast.done as f64 / fast.seconds,
        packets("packets per exchange  ", "busy clients ", &driven.analysis_fast, fast),
        packets("                      ", "idle between", &driven.analysis_paced, paced),
        latency.p50_us,
        latency.p90_us,
        latency.p99_us,
        latency.p99_9_us,
        latency.p99_99_us,
        latency.max_us,
        options.rate,
        memory(driven),
        mib(open.dataplane),
        mib(open.xtcpd),
        mib(open.presence),
        mib(before.dataplane),
        mib(before.xtcpd),
        mib(before.presence),
        driven.capture.display(),
        options.out.join("demo.hgrm").display(),
    )
}

/// Packets per exchange, of what kinds, and on what acknowledgements rode.
fn packets(heading: &str, who: &str, analysis: &Analysis, step: &StepReport) -> String {
    let each = |count: u64| count as f64 / step.done.max(1) as f64;
    format!(
        "  {heading} {:>9.3} {who}: {:.3} requests, {:.3} answers, {:.3} acknowledgements alone by the \
         client, {:.3} by us
                         acknowledgement on the answer for {:.2} % of the requests; {} segments came \
         again\n",
        each(analysis.exchanging()),
        each(analysis.requests),
        each(analysis.answers),
        each(analysis.client_acks),
        each(analysis.server_acks),
        analysis.share_on_answer() * 100.0,
        analysis.again,
    )
}

/// What the dataplane says of its tables while all connections are open and idle.
fn memory(driven: &Driven) -> String {
    let sum = |column: &str| -> u64 {
        driven.workers.iter().filter_map(|row| row.get(column)?.as_u64()).sum()
    };
    let [before, open] = driven.resident;
    let grown = open.dataplane.saturating_sub(before.dataplane);
    let open_now = sum("connections");
    let tables = sum("tables (bytes)");
    format!(
        "  memory per connection  {:>9.0} B of tables for each of {} places, those of active ones \
         included
                         {:.0} B grown per connection; while idle they hold {} active records, {} \
         chunks, {} B to send",
        tables as f64 / f64::from(ROOM),
        ROOM,
        grown as f64 / open_now.max(1) as f64,
        sum("active"),
        sum("chunks"),
        sum("transmit used (bytes)"),
    )
}

/// What did not hold, each a sentence.
fn failures(driven: &Driven, options: &Options) -> Vec<String> {
    let connections = u64::from(options.connections);
    let mut failures = Vec::new();
    let mut must = |holds: bool, otherwise: String| {
        if !holds {
            failures.push(otherwise);
        }
    };
    let steps = [
        (&driven.connect, connections),
        (&driven.fast, connections * u64::from(options.rounds)),
        (&driven.paced, connections * u64::from(options.paced_rounds)),
        (&driven.close, connections),
    ];
    for (step, wanted) in steps {
        let StepReport { step: name, done, failed, failures: why, .. } = step;
        must(
            *failed == 0 && *done == wanted,
            format!("{name}: {done} of {wanted} done, {failed} failed: {}", why.join("; ")),
        );
    }
    for step in [&driven.fast, &driven.paced] {
        let wanted = step.done * u64::from(BODY_BYTES);
        must(
            step.bytes_received == wanted,
            format!("{} B were compared and not {wanted}", step.bytes_received),
        );
    }
    must(
        driven.not_captured == 0,
        format!("tcpdump lost {} frames, so packets cannot be counted", driven.not_captured),
    );
    let open: u64 = driven.workers.iter().filter_map(|row| row.get("connections")?.as_u64()).sum();
    must(
        open >= connections,
        format!("the dataplane says that {open} connections are open, the clients {connections}"),
    );
    for (analysis, step) in
        [(&driven.analysis_fast, &driven.fast), (&driven.analysis_paced, &driven.paced)]
    {
        must(
            analysis.connections == connections && analysis.requests >= step.done,
            format!(
                "the capture has {} connections and {} requests, the clients {connections} and {}",
                analysis.connections, analysis.requests, step.done
            ),
        );
        must(
            analysis.share_on_answer() >= SHARE_ON_ANSWER_MIN,
            format!(
                "only {:.2} % of the requests were acknowledged on their answer",
                analysis.share_on_answer() * 100.0
            ),
        );
    }
    failures
}

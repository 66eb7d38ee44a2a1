//! What people read when a run is over.
//!
//! Neighbours: the figures are `figures`', the drawing is `bars`'; what is told is `collect`'s [`Run`].

use super::bars;
use super::collect::Run;
use super::figures::{self, octets, rate, rate_missed, seconds, several};
use super::json::{LatencyFrom, Saved};
use crate::stats::report::{self, Unit, grouped, is_told};
use std::io::{self, Write};

/// Writes the summary of a run. Its first line says what was done; where a rate was asked for that was not reached, it
/// says that.
pub fn write(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    let run = &Saved::from(run);
    writeln!(out, "{}\n", first_line(run))?;
    latency(run, out)?;
    let answers = [("answers", answers(run)), ("bytes", bytes(run)), ("connections", connections(run))];
    let rest = [("errors", errors(run)), ("longest gap", longest_gap(run)), ("generator", generator(run))];
    for (name, text) in answers.into_iter().chain(rest) {
        writeln!(out, "{name:<13}{text}")?;
    }
    for remark in figures::remarks(run) {
        writeln!(out, "\n{remark}")?;
    }
    Ok(())
}

/// What was done and how fast.
fn first_line(run: &Saved) -> String {
    let what = format!("{} {}", run.method, urls(run));
    let load = format!(
        "{}, {}{}{}",
        several(run.connections as u64, "connection"),
        several(run.threads as u64, "thread"),
        if run.pipeline > 1 { format!(", {} in a pipeline", run.pipeline) } else { String::new() },
        run.requests_per_connection
            .map_or(String::new(), |count| format!(", {} a connection", several(count, "request"))),
    );
    let length = seconds(run.duration);
    match (run.rate, rate_missed(run)) {
        (_, Some(missed)) => format!("RATE NOT REACHED: {missed}: {what} for {length}, {load}"),
        (Some(asked), None) => format!("{what}: {} requests/s as asked for {length}, {load}", rate(asked)),
        (None, None) => format!("{what}: {} answers/s (2xx) for {length}, {load}", rate(run.rps)),
    }
}

fn urls(run: &Saved) -> String {
    match run.urls.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
    }
}

/// Percentiles, from where they count, and the drawing.
fn latency(run: &Saved, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = vec![("latency", &run.histogram)];
    rows.extend(run.service_histogram.as_ref().map(|service| ("service time", service)));
    report::table(&rows, Unit::Microseconds, out)?;
    if !is_told(run.histogram.len(), 9_999) {
        writeln!(out, "(-: of too few answers to tell, since at least one must lie beyond)")?;
    }
    match run.latency_from {
        LatencyFrom::IntendedStart => {
            writeln!(out, "(latency: from the intended start; service time: from the send)")?;
            if let Some(count) = figures::unanswered(run) {
                writeln!(out, "(latency: {count})")?;
            }
            writeln!(out)?;
        }
        LatencyFrom::Send => {
            writeln!(out, "(from the send; a server that stalls hides its queue here, which is called")?;
            writeln!(out, "coordinated omission: -r RATE shows it)\n")?;
        }
    }
    if run.latency.is_some() {
        bars::draw(&run.histogram, out)?;
        writeln!(out)?;
    }
    Ok(())
}

fn answers(run: &Saved) -> String {
    let classes = [
        (run.status_1xx, "1xx"),
        (run.status_2xx, "2xx"),
        (run.status_3xx, "3xx"),
        (run.status_4xx, "4xx"),
        (run.status_5xx, "5xx"),
    ];
    let told = classes.iter().filter(|(count, class)| *count > 0 || *class == "2xx");
    let told: Vec<String> = told.map(|(count, class)| format!("{} {class}", grouped(*count))).collect();
    let per_second = figures::per_second(run.responses, run).unwrap_or(0.0);
    format!("{} ({}/s) to {}", told.join(", "), rate(per_second), several(run.requests, "request"))
}

fn bytes(run: &Saved) -> String {
    let told = |count| {
        let per_second = figures::per_second(count, run).unwrap_or(0.0);
        format!("{} ({}/s)", octets(count as f64), octets(per_second))
    };
    format!("{} received, {} sent", told(run.bytes_received), told(run.bytes_sent))
}

fn connections(run: &Saved) -> String {
    format!("{} opened", grouped(run.connections_opened))
}

fn errors(run: &Saved) -> String {
    let kinds = run.errors_by_kind.in_words();
    let told = kinds.iter().filter(|(_, sum)| sum.count > 0).map(|(name, sum)| {
        let first = sum.first_at.map_or(String::new(), |at| format!(" (first at {})", seconds(at)));
        format!("{} {name}{first}", grouped(sum.count))
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

fn longest_gap(run: &Saved) -> String {
    match run.longest_gap {
        Some(gap) => format!("{} without a success, from {} on", seconds(gap.seconds), seconds(gap.at)),
        None => "-".to_owned(),
    }
}

fn generator(run: &Saved) -> String {
    let share =
        format!("{:.0} % of {}", 100.0 * figures::cpu_share(run), several(run.threads as u64, "core"));
    let told = |cpu| figures::cpu_per_request(run, cpu).map(seconds);
    let (user, system) = (run.cpu.user, run.cpu.system);
    match (told(user + system), told(user), told(system)) {
        (Some(all), Some(user), Some(system)) => {
            format!("{all} CPU a request ({user} user, {system} system), {share}")
        }
        _ => share,
    }
}

#[cfg(test)]
mod tests {
    use super::super::collect::tests::{interval, plan, run_of};
    use super::super::record::{ErrorKind, Gap};
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn text(run: &Run) -> String {
        let mut out = vec![];
        write(run, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_run_in_a_closed_loop_is_told_with_the_caveat() {
        let mut interval = interval(0, Duration::ZERO, SECOND, &[5_000; 12_000]);
        interval.counts.by_class[4] = 3;
        interval.counts.requests += 3;
        interval.counts.opened = 64;
        interval.counts.errors[ErrorKind::Status as usize] = 3;
        interval.first_errors[ErrorKind::Status as usize] = Some(Duration::from_millis(250));
        interval.longest_gap = Some(Gap { begin: SECOND / 2, length: Duration::from_millis(20) });
        let bar = "█".repeat(48);
        let expected = format!(
            "\
GET http://127.0.0.1:1337/: 12,000 answers/s (2xx) for 1.00s, 64 connections, 2 threads

          count     p50     p75     p90     p99   p99.9  p99.99     max
latency  12,000  5.00ms  5.00ms  5.00ms  5.00ms  5.00ms  5.00ms  5.00ms
(from the send; a server that stalls hides its queue here, which is called
coordinated omission: -r RATE shows it)

  4.87ms │{bar} 100.0%        12,000

answers      12,000 2xx, 3 5xx (12,003/s) to 12,003 requests
bytes        1.92MB (1.92MB/s) received, 480kB (480kB/s) sent
connections  64 opened
errors       3 status not 2xx (first at 250ms)
longest gap  20.0ms without a success, from 500ms on
generator    3.00us CPU a request (1.00us user, 2.00us system), 2 % of 2 cores
"
        );
        assert_eq!(text(&run_of(plan(), [interval], SECOND)), expected);
    }

    #[test]
    fn the_first_line_says_whether_the_rate_was_reached() {
        let mut plan = plan();
        plan.rate = Some(100.0);
        plan.pipeline = 4;
        let first = |answers| {
            let run =
                run_of(plan.clone(), [interval(0, Duration::ZERO, SECOND, &vec![100; answers])], SECOND);
            text(&run).lines().next().unwrap().to_owned()
        };
        let load = "for 1.00s, 64 connections, 2 threads, 4 in a pipeline";
        assert_eq!(first(100), format!("GET http://127.0.0.1:1337/: 100 requests/s as asked {load}"));
        let expected =
            format!("RATE NOT REACHED: 62 of 100 requests/s (62.0 %): GET http://127.0.0.1:1337/ {load}");
        assert_eq!(first(62), expected);
    }

    #[test]
    fn at_a_rate_the_service_time_stands_below_the_latency() {
        let mut plan = plan();
        plan.rate = Some(10.0);
        let mut interval = interval(0, Duration::ZERO, SECOND, &[900; 10]);
        interval.service = super::super::record::histogram();
        interval.service.record_n(300, 10).unwrap();
        let text = text(&run_of(plan, [interval], SECOND));
        let lines: Vec<&str> = text.lines().skip(3).take(4).collect();
        assert_eq!(
            lines,
            [
                "latency          10  900us  900us  900us    -      -       -  900us",
                "service time     10  300us  300us  300us    -      -       -  300us",
                "(-: of too few answers to tell, since at least one must lie beyond)",
                "(latency: from the intended start; service time: from the send)",
            ]
        );
    }

    #[test]
    fn what_was_never_answered_is_said_beside_the_latency() {
        let mut plan = plan();
        plan.rate = Some(50.0);
        let mut interval = interval(0, Duration::ZERO, SECOND, &[900; 7]);
        interval.latency.record_n(500_000, 43).unwrap();
        interval.counts.unanswered = 43;
        let text = text(&run_of(plan, [interval], SECOND));
        let note = "(latency: 43 of 50 were not answered in time and count with what they waited)\n\n";
        assert!(text.contains(note), "{text}");
    }

    #[test]
    fn a_run_without_answers_is_told_without_a_drawing() {
        let text = text(&run_of(plan(), [], Duration::ZERO));
        assert!(!text.contains('│') && text.contains("0 2xx (0/s) to 0 requests"), "{text}");
        assert!(text.ends_with("there is no latency to tell.\n"), "{text}");
    }
}

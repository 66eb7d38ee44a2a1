//! The figures of one run or of several side by side, as text: what is told in a terminal and on a page is the same.
//!
//! Pure. Neighbours: made of `json`'s [`Saved`]; `summary`, `compare` and `html` lay them out.

use super::json::{LatencyFrom, Saved};
use crate::stats::report::{PERCENTILES, Unit, grouped, is_told, time, value_at};
use hdrhistogram::Histogram;

/// A run under the name that reports give it.
pub type Named<'a> = (&'a str, &'a Saved);

/// One line of a table, with a cell for each run.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it is.
    pub name: &'static str,
    /// By run.
    pub cells: Vec<Cell>,
}

/// What one run has in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The figure, `-` where there is none.
    pub text: String,
    /// How many times the first run's it is.
    pub ratio: Option<f64>,
}

impl Cell {
    /// `1.47x`.
    pub fn ratio_text(&self) -> Option<String> {
        self.ratio
            .map(|ratio| format!("{}x", if ratio < 9.995 { format!("{ratio:.2}") } else { rate(ratio) }))
    }
}

/// What came of the runs, latencies aside.
pub fn results(runs: &[Named<'_>]) -> Vec<Row> {
    let row = |name, value: fn(&Saved) -> Option<f64>, tell: fn(f64) -> String| {
        measured(name, runs.iter().map(|(_, run)| value(run)), tell)
    };
    vec![
        row("answers/s (2xx)", |run| Some(run.rps), rate),
        row("requests/s sent", |run| per_second(run.requests, run), rate),
        row("received/s", |run| per_second(run.bytes_received, run), octets),
        row("errors", |run| Some(run.errors as f64), |count| grouped(count as u64)),
        row("connections opened", |run| Some(run.connections_opened as f64), |count| grouped(count as u64)),
        row("longest gap", |run| run.longest_gap.map(|gap| gap.seconds), seconds),
        row("generator CPU a request", |run| cpu_per_request(run, run.cpu.user + run.cpu.system), seconds),
    ]
}

/// The percentiles of distributions in microseconds, `-` where so few values say nothing, and the maximum.
pub fn percentiles(distributions: &[&Histogram<u64>]) -> Vec<Row> {
    let tell = |value| time(value, Unit::Microseconds);
    let row = |(name, part): &(&'static str, u64)| {
        let values = distributions
            .iter()
            .map(|histogram| is_told(histogram.len(), *part).then(|| value_at(histogram, *part) as f64));
        measured(name, values, tell)
    };
    let max = distributions.iter().map(|histogram| (!histogram.is_empty()).then(|| histogram.max() as f64));
    PERCENTILES.iter().map(row).chain([measured("max", max, tell)]).collect()
}

fn measured(name: &'static str, values: impl Iterator<Item = Option<f64>>, tell: fn(f64) -> String) -> Row {
    let values: Vec<Option<f64>> = values.collect();
    let first = values.first().copied().flatten().filter(|first| *first > 0.0);
    let cell = |value: &Option<f64>| Cell {
        text: value.map_or_else(|| "-".to_owned(), tell),
        ratio: value.and_then(|value| Some(value / first?)),
    };
    let mut cells: Vec<Cell> = values.iter().map(cell).collect();
    if let Some(first) = cells.first_mut() {
        first.ratio = None;
    }
    Row { name, cells }
}

/// What was run.
pub fn setup(runs: &[Named<'_>]) -> Vec<Row> {
    let row = |name, tell: fn(&Saved) -> String| {
        let cells = runs.iter().map(|(_, run)| Cell { text: tell(run), ratio: None });
        Row { name, cells: cells.collect() }
    };
    vec![
        row("requests", |run| format!("{} {}", run.method, run.urls.join(" "))),
        row("rate asked for", |run| {
            run.rate.map_or("as fast as answers come".to_owned(), |asked| format!("{}/s", rate(asked)))
        }),
        row("latency counts", |run| match run.latency_from {
            LatencyFrom::IntendedStart => "from the intended start".to_owned(),
            LatencyFrom::Send => "from the send".to_owned(),
        }),
        row("connections", |run| grouped(run.connections as u64)),
        row("requests a connection", |run| {
            run.requests_per_connection.map_or("no limit".to_owned(), grouped)
        }),
        row("pipeline", |run| run.pipeline.to_string()),
        row("threads", |run| run.threads.to_string()),
        row("measured for", |run| {
            format!("{}, after {} of warm-up", seconds(run.duration), seconds(run.warmup))
        }),
        row("started", |run| moment(&run.started)),
        row("uringload", |run| run.uringload.clone()),
    ]
}

/// What a reader must know before he believes the figures, each one sentence; [`rate_missed`] aside.
pub fn remarks(run: &Saved) -> Vec<String> {
    let mut remarks = vec![];
    if run.latency.is_none() {
        remarks.push("Nothing was answered with a 2xx status: there is no latency to tell.".to_owned());
    }
    let share = cpu_share(run);
    if share >= CPU_SHARE_MAX {
        let cores = if run.threads == 1 { "core" } else { "cores" };
        remarks.push(format!(
            "The load generator used {:.0} % of its {} {cores}: it may be the limit, not the server (-t gives it more threads).",
            100.0 * share, run.threads
        ));
    }
    remarks
}

/// From where this share of its cores is used, the generator may be the limit: it waits for nothing any more.
const CPU_SHARE_MAX: f64 = 0.95;

/// A rate is reached where no more than this share of the requests is missing (nor more than one of them).
const RATE_MISSED_MAX: f64 = 0.01;

/// `31,204 of 50,000 requests/s (62.4 %)`, where a rate was asked for and requests could not be sent so often. How long
/// their answers took has no part in it.
pub fn rate_missed(run: &Saved) -> Option<String> {
    let asked = run.rate?;
    let (sent, wanted) = (run.requests as f64, asked * run.sending);
    (sent + 1.0 < wanted * (1.0 - RATE_MISSED_MAX)).then(|| {
        let reached = sent / run.sending;
        format!("{} of {} requests/s ({:.1} %)", rate(reached), rate(asked), 100.0 * reached / asked)
    })
}

/// What the latencies have beside answers: `43 of 50 were not answered in time and count with what they waited`.
pub fn unanswered(run: &Saved) -> Option<String> {
    let (count, all) = (run.unanswered_in_latency, run.histogram.len());
    (count > 0).then(|| {
        let (count, all) = (grouped(count), grouped(all));
        format!("{count} of {all} were not answered in time and count with what they waited")
    })
}

/// What share of its cores the generator used.
pub fn cpu_share(run: &Saved) -> f64 {
    let available = run.duration * run.threads as f64;
    if available > 0.0 { (run.cpu.user + run.cpu.system) / available } else { 0.0 }
}

/// In seconds.
pub fn cpu_per_request(run: &Saved, cpu: f64) -> Option<f64> {
    (run.requests > 0).then(|| cpu / run.requests as f64)
}

/// None in a run of no length.
pub fn per_second(count: u64, run: &Saved) -> Option<f64> {
    (run.duration > 0.0).then(|| count as f64 / run.duration)
}

/// How often a second: `50,012`, `12.5`, `0.25`.
pub fn rate(rate: f64) -> String {
    match rate {
        rate if rate >= 99.95 || rate == rate.trunc() => grouped(rate.round() as u64),
        rate if rate >= 9.995 => format!("{rate:.1}"),
        rate => format!("{rate:.2}"),
    }
}

/// Octets in decimal units: `512B`, `1.05MB`.
pub fn octets(count: f64) -> String {
    let units = [("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12)];
    let (name, size) = units.into_iter().find(|(_, size)| count / size < 999.5).unwrap_or(units[4]);
    let number = count / size;
    let digits = match number {
        _ if size == 1.0 => 0,
        number if number < 9.995 => 2,
        number if number < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$}{name}")
}

/// A time in seconds, in the unit that fits, down to nanoseconds.
pub fn seconds(seconds: f64) -> String {
    time(seconds * 1e9, Unit::Nanoseconds)
}

/// RFC 3339 as people write it, to the second; what is something else stays as it is.
pub fn moment(rfc_3339: &str) -> String {
    match humantime::parse_rfc3339(rfc_3339) {
        Ok(time) => {
            let text = humantime::format_rfc3339_seconds(time).to_string();
            format!("{} UTC", text.trim_end_matches('Z').replace('T', " "))
        }
        Err(_) => rfc_3339.to_owned(),
    }
}

/// `1 thread`, `2 threads`.
pub fn several(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::super::collect::tests::{interval, plan, run_of};
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn saved(rate: Option<f64>, answers: usize) -> Saved {
        let mut plan = plan();
        plan.rate = rate;
        Saved::from(&run_of(plan, [interval(0, Duration::ZERO, SECOND, &vec![1_000; answers])], SECOND))
    }

    #[test]
    fn a_rate_is_missed_where_more_than_one_percent_and_one_request_is() {
        let table = [
            (None, 10, None),
            (Some(1_000.0), 1_000, None),
            (Some(1_000.0), 989, None),
            (Some(1_000.0), 988, Some("988 of 1,000 requests/s (98.8 %)")),
            (Some(2.5), 2, None),
            (Some(2.5), 1, Some("1 of 2.50 requests/s (40.0 %)")),
        ];
        for (asked, answers, expected) in table {
            assert_eq!(rate_missed(&saved(asked, answers)).as_deref(), expected, "{asked:?} {answers}");
        }
    }

    #[test]
    fn a_rate_is_reached_where_answers_alone_are_late() {
        let mut run = saved(Some(1_000.0), 1_000);
        // the last answer took half a second more
        run.duration = 1.5;
        assert_eq!(rate_missed(&run), None);
        run.sending = 1.25;
        assert_eq!(rate_missed(&run).unwrap(), "800 of 1,000 requests/s (80.0 %)");
    }

    #[test]
    fn a_generator_that_is_the_limit_is_remarked() {
        let mut run = saved(None, 10);
        assert_eq!(remarks(&run), [] as [&str; 0]);
        (run.cpu.user, run.cpu.system) = (0.9, 1.02);
        assert_eq!(
            remarks(&run),
            [
                "The load generator used 96 % of its 2 cores: it may be the limit, not the server (-t gives it more threads)."
            ]
        );
        assert_eq!(remarks(&saved(None, 0)).len(), 1);
    }

    #[test]
    fn ratios_are_to_the_first_run() {
        let (first, second) = (saved(None, 100), saved(None, 250));
        let rows = results(&[("a", &first), ("b", &second)]);
        assert_eq!(rows[0].cells[0], Cell { text: "100".into(), ratio: None });
        assert_eq!(rows[0].cells[1], Cell { text: "250".into(), ratio: Some(2.5) });
        assert_eq!(rows[0].cells[1].ratio_text().unwrap(), "2.50x");
        // nothing is so many times no error
        assert_eq!(rows[3].cells[1].ratio, None);
    }

    #[test]
    fn percentiles_of_few_answers_are_not_told() {
        let run = saved(None, 100);
        let rows = percentiles(&[&run.histogram]);
        let texts: Vec<&str> = rows.iter().map(|row| row.cells[0].text.as_str()).collect();
        assert_eq!(texts, ["1.00ms", "1.00ms", "1.00ms", "1.00ms", "-", "-", "1.00ms"]);
    }

    #[test]
    fn figures_have_the_unit_that_fits() {
        assert_eq!(moment("2023-11-14T22:13:20.250Z"), "2023-11-14 22:13:20 UTC");
        assert_eq!(moment("yesterday"), "yesterday");
        for (count, expected) in [(0.0, "0B"), (999.0, "999B"), (1_049_000.0, "1.05MB"), (2e13, "20.0TB")] {
            assert_eq!(octets(count), expected);
        }
        for (value, expected) in
            [(0.0, "0"), (0.25, "0.25"), (12.53, "12.5"), (50_012.4, "50,012"), (50.0, "50")]
        {
            assert_eq!(rate(value), expected);
        }
        assert_eq!(
            (several(1, "thread"), several(1_000, "thread")),
            ("1 thread".into(), "1,000 threads".into())
        );
    }
}

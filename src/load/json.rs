//! A run as JSON (`--json`): what programs read, and what several runs are put side by side from.
//!
//! Neighbours: made of `collect`'s [`Run`]; `html` and `compare` tell what was read back.

use super::collect::{Run, Second};
use super::record::ErrorKind;
use crate::stats::hlog::{decode, encode};
use crate::stats::report::{mean_and_deviation, value_at};
use hdrhistogram::{AdditionError, Histogram};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::time::Duration;

/// A run as it is saved. Latencies are in microseconds, all other times in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The version that wrote it.
    pub uringload: String,
    /// When the measured part began, as RFC 3339 has it.
    pub started: String,
    /// Requested in rotation.
    pub urls: Vec<String>,
    /// The method.
    pub method: String,
    /// Connections at a time.
    pub connections: usize,
    /// Threads.
    pub threads: usize,
    /// Requests in flight on a connection.
    pub pipeline: usize,
    /// Requests a second that were asked for; none in a closed loop.
    pub rate: Option<f64>,
    /// After which a connection was replaced.
    pub requests_per_connection: Option<u64>,
    /// What was not measured before.
    pub warmup: f64,
    /// Of the measured part.
    pub duration: f64,
    /// How long requests were sent: up to the last one, and not less than was planned unless the run was stopped. What
    /// `requests` are in it is the rate that was reached.
    pub sending: f64,
    /// Requests that were handed to the kernel. One that is sent again on another connection counts once.
    pub requests: u64,
    /// Whole final answers.
    pub responses: u64,
    /// Answers with a 2xx status a second.
    pub rps: f64,
    /// Octets.
    pub bytes_sent: u64,
    /// Octets.
    pub bytes_received: u64,
    /// Connections that were made in the measured part, the ones at its beginning too.
    pub connections_opened: u64,
    /// Always 0, since such answers are not final.
    pub status_1xx: u64,
    /// Answers by class.
    pub status_2xx: u64,
    /// Answers by class.
    pub status_3xx: u64,
    /// Answers by class.
    pub status_4xx: u64,
    /// Answers by class.
    pub status_5xx: u64,
    /// From where `latency` counts.
    pub latency_from: LatencyFrom,
    /// Of answers with a 2xx status and, at a rate, of what was not answered in time (`unanswered_in_latency`); null where
    /// there was neither.
    pub latency: Option<Latency>,
    /// At a rate: requests in `latency` that were not answered within the timeout or by the end, sent or not. Each counts
    /// with what it has waited since its intended start, which is the least that its latency would be. (Requests that
    /// failed otherwise are errors and in no latency.)
    pub unanswered_in_latency: u64,
    /// Of answers with a 2xx status, from the send; null without a rate, since `latency` is that then.
    pub service: Option<Latency>,
    /// Of all kinds.
    pub errors: u64,
    /// Every kind, always.
    pub errors_by_kind: ErrorsByKind,
    /// The longest time without a success.
    pub longest_gap: Option<SavedGap>,
    /// What the load generator itself used.
    pub cpu: SavedCpu,
    /// By the second.
    pub timeline: Vec<SavedSecond>,
    /// The whole distribution that `latency` tells of: V2, compressed, base64, which HdrHistogram's other ports read.
    #[serde(with = "as_text")]
    pub histogram: Histogram<u64>,
    /// The same for `service`; null where that is.
    #[serde(with = "as_text_or_null", default)]
    pub service_histogram: Option<Histogram<u64>>,
}

/// From where a latency counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LatencyFrom {
    /// From the time at which the rate wanted the request sent: what a client of a server that stalls has to wait.
    #[serde(rename = "intended start")]
    IntendedStart,
    /// From the send: who waits for a server sends nothing meanwhile, so a stall counts once for each connection.
    #[serde(rename = "send")]
    Send,
}

/// A distribution's figures, in microseconds. They are given whatever their number is: of fewer than 10,000 values,
/// for example, `p99_99` is the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The shortest.
    pub min: u64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub stdev: f64,
    /// The median.
    pub p50: u64,
    /// 75 %.
    pub p75: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p99_9: u64,
    /// 99.99 %.
    pub p99_99: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Latency> {
        let (mean, stdev) = mean_and_deviation(histogram);
        let at = |part| value_at(histogram, part);
        (!histogram.is_empty()).then(|| Latency {
            min: histogram.min(),
            mean,
            stdev,
            p50: at(5_000),
            p75: at(7_500),
            p90: at(9_000),
            p99: at(9_900),
            p99_9: at(9_990),
            p99_99: at(9_999),
            max: histogram.max(),
        })
    }
}

/// Errors by their kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of ErrorKind")]
pub struct ErrorsByKind {
    pub refused: ErrorSum,
    pub unreachable: ErrorSum,
    pub reset: ErrorSum,
    pub closed_early: ErrorSum,
    pub timeout: ErrorSum,
    pub malformed: ErrorSum,
    pub status: ErrorSum,
}

impl ErrorsByKind {
    fn of(run: &Run) -> ErrorsByKind {
        let sum = |kind: ErrorKind| ErrorSum {
            count: run.counts.errors[kind as usize],
            first_at: run.first_errors[kind as usize].map(seconds),
        };
        ErrorsByKind {
            refused: sum(ErrorKind::Refused),
            unreachable: sum(ErrorKind::Unreachable),
            reset: sum(ErrorKind::Reset),
            closed_early: sum(ErrorKind::ClosedEarly),
            timeout: sum(ErrorKind::Timeout),
            malformed: sum(ErrorKind::Malformed),
            status: sum(ErrorKind::Status),
        }
    }

    /// These and then others, which began so much later.
    fn then(&self, others: &ErrorsByKind, after: f64) -> ErrorsByKind {
        let sum = |ours: ErrorSum, theirs: ErrorSum| ErrorSum {
            count: ours.count + theirs.count,
            first_at: ours.first_at.or(theirs.first_at.map(|at| at + after)),
        };
        ErrorsByKind {
            refused: sum(self.refused, others.refused),
            unreachable: sum(self.unreachable, others.unreachable),
            reset: sum(self.reset, others.reset),
            closed_early: sum(self.closed_early, others.closed_early),
            timeout: sum(self.timeout, others.timeout),
            malformed: sum(self.malformed, others.malformed),
            status: sum(self.status, others.status),
        }
    }

    /// Each kind in words.
    pub fn in_words(&self) -> [(&'static str, ErrorSum); ErrorKind::ALL.len()] {
        [
            ("connection refused", self.refused),
            ("cannot connect", self.unreachable),
            ("connection reset", self.reset),
            ("closed early", self.closed_early),
            ("timeout", self.timeout),
            ("malformed answer", self.malformed),
            ("status not 2xx", self.status),
        ]
    }
}

/// How often one kind of error happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorSum {
    /// How often.
    pub count: u64,
    /// When first, since the measured part began.
    pub first_at: Option<f64>,
}

/// A time without a success.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedGap {
    /// When it began, since the measured part began.
    pub at: f64,
    /// How long it was.
    pub seconds: f64,
}

/// CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedCpu {
    /// In user space.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

/// One second of the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedSecond {
    /// When it began, since the measured part began.
    pub at: f64,
    /// How long it was.
    pub seconds: f64,
    /// Answers with a 2xx status a second.
    pub rps: f64,
    /// Microseconds, with what was given up unanswered in this second (see `unanswered_in_latency`); null where there was
    /// neither that nor an answer, as in the following.
    pub p50: Option<u64>,
    /// Microseconds.
    pub p99: Option<u64>,
    /// Microseconds.
    pub max: Option<u64>,
    /// Of all kinds.
    pub errors: u64,
}

impl SavedSecond {
    fn of(second: &Second) -> SavedSecond {
        let Second { begin, length, answers, p50, p99, max, errors } = *second;
        let (at, length) = (seconds(begin), seconds(length));
        let rps = if length > 0.0 { answers as f64 / length } else { 0.0 };
        SavedSecond { at, seconds: length, rps, p50, p99, max, errors }
    }
}

impl From<&Run> for Saved {
    fn from(run: &Run) -> Saved {
        let (plan, counts) = (&run.plan, &run.counts);
        let [status_1xx, status_2xx, status_3xx, status_4xx, status_5xx] = counts.by_class;
        let open = plan.rate.is_some();
        Saved {
            uringload: env!("CARGO_PKG_VERSION").to_owned(),
            started: humantime::format_rfc3339_millis(run.started).to_string(),
            urls: plan.urls.clone(),
            method: plan.method.clone(),
            connections: plan.connections,
            threads: plan.threads,
            pipeline: plan.pipeline,
            rate: plan.rate,
            requests_per_connection: plan.requests_per_connection,
            warmup: seconds(plan.warmup),
            duration: seconds(run.length),
            sending: seconds(run.sending),
            requests: counts.requests,
            responses: run.responses(),
            rps: run.per_second(run.successes()),
            bytes_sent: counts.sent,
            bytes_received: counts.received,
            connections_opened: counts.opened,
            status_1xx,
            status_2xx,
            status_3xx,
            status_4xx,
            status_5xx,
            latency_from: if open { LatencyFrom::IntendedStart } else { LatencyFrom::Send },
            latency: Latency::of(&run.latency),
            unanswered_in_latency: counts.unanswered,
            service: open.then(|| Latency::of(&run.service)).flatten(),
            errors: run.errors(),
            errors_by_kind: ErrorsByKind::of(run),
            longest_gap: run
                .longest_gap
                .map(|gap| SavedGap { at: seconds(gap.begin), seconds: seconds(gap.length) }),
            cpu: SavedCpu { user: seconds(run.cpu.user), system: seconds(run.cpu.system) },
            timeline: run.timeline.iter().map(SavedSecond::of).collect(),
            histogram: run.latency.clone(),
            service_histogram: open.then(|| run.service.clone()),
        }
    }
}

impl Saved {
    /// This run and then another of the same kind, as if they had been one; what was asked for is this one's.
    ///
    /// # Errors
    ///
    /// Their distributions cannot be added: one of them was not saved by this program.
    pub fn then(&self, later: &Saved) -> Result<Saved, AdditionError> {
        let ours = self.clone();
        let in_all = ours.duration + later.duration;
        let histogram = sum(ours.histogram, &later.histogram)?;
        let service_histogram = match (ours.service_histogram, &later.service_histogram) {
            (Some(ours), Some(theirs)) => Some(sum(ours, theirs)?),
            _ => None,
        };
        let gaps =
            [ours.longest_gap, later.longest_gap.map(|gap| SavedGap { at: gap.at + ours.duration, ..gap })];
        let shifted =
            later.timeline.iter().map(|second| SavedSecond { at: second.at + ours.duration, ..*second });
        // named one by one, so that none is forgotten
        Ok(Saved {
            uringload: ours.uringload,
            started: ours.started,
            urls: ours.urls,
            method: ours.method,
            connections: ours.connections,
            threads: ours.threads,
            pipeline: ours.pipeline,
            rate: ours.rate,
            requests_per_connection: ours.requests_per_connection,
            warmup: ours.warmup,
            duration: in_all,
            sending: ours.sending + later.sending,
            requests: ours.requests + later.requests,
            responses: ours.responses + later.responses,
            rps: if in_all > 0.0 {
                (ours.rps * ours.duration + later.rps * later.duration) / in_all
            } else {
                0.0
            },
            bytes_sent: ours.bytes_sent + later.bytes_sent,
            bytes_received: ours.bytes_received + later.bytes_received,
            connections_opened: ours.connections_opened + later.connections_opened,
            status_1xx: ours.status_1xx + later.status_1xx,
            status_2xx: ours.status_2xx + later.status_2xx,
            status_3xx: ours.status_3xx + later.status_3xx,
            status_4xx: ours.status_4xx + later.status_4xx,
            status_5xx: ours.status_5xx + later.status_5xx,
            latency_from: ours.latency_from,
            latency: Latency::of(&histogram),
            unanswered_in_latency: ours.unanswered_in_latency + later.unanswered_in_latency,
            service: service_histogram.as_ref().and_then(Latency::of),
            errors: ours.errors + later.errors,
            errors_by_kind: ours.errors_by_kind.then(&later.errors_by_kind, ours.duration),
            longest_gap: gaps
                .into_iter()
                .flatten()
                .max_by(|one, other| one.seconds.total_cmp(&other.seconds)),
            cpu: SavedCpu {
                user: ours.cpu.user + later.cpu.user,
                system: ours.cpu.system + later.cpu.system,
            },
            timeline: ours.timeline.into_iter().chain(shifted).collect(),
            histogram,
            service_histogram,
        })
    }
}

fn sum(mut ours: Histogram<u64>, theirs: &Histogram<u64>) -> Result<Histogram<u64>, AdditionError> {
    ours.auto(true);
    ours.add(theirs)?;
    Ok(ours)
}

/// Writes a run.
pub fn write(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &Saved::from(run))?;
    writeln!(out)
}

/// Reads a run.
///
/// # Errors
///
/// The text is something else. What is wrong is said in words that follow the file's name.
pub fn read(text: &str) -> Result<Saved, String> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    if value.get("uringload").is_none() {
        return Err("is not a run of uringload: save one with --json FILE".to_owned());
    }
    serde_json::from_value(value).map_err(|error| format!("is not a whole run of uringload: {error}"))
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// A histogram in one string.
mod as_text {
    use super::*;
    use serde::{Deserializer, Serializer, de, ser};

    pub fn serialize<S: Serializer>(histogram: &Histogram<u64>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&encode(histogram).map_err(ser::Error::custom)?)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Histogram<u64>, D::Error> {
        let text = String::deserialize(from)?;
        decode(&text).map_err(|problem| de::Error::custom(format!("a histogram {problem}")))
    }
}

/// A histogram in one string, or null.
mod as_text_or_null {
    use super::*;
    use serde::{Deserializer, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Text(#[serde(with = "as_text")] Histogram<u64>);

    pub fn serialize<S: Serializer>(histogram: &Option<Histogram<u64>>, to: S) -> Result<S::Ok, S::Error> {
        histogram.clone().map(Text).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Histogram<u64>>, D::Error> {
        Ok(Option::<Text>::deserialize(from)?.map(|Text(histogram)| histogram))
    }
}

#[cfg(test)]
mod tests {
    use super::super::collect::tests::{interval, plan, run_of};
    use super::super::record::{Gap, Interval, Plan};
    use super::*;
    use serde_json::{Value, json};

    const SECOND: Duration = Duration::from_secs(1);

    fn text(run: &Run) -> String {
        let mut out = vec![];
        write(run, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn intervals() -> [Interval; 2] {
        let mut second = interval(0, SECOND, SECOND, &[400; 100]);
        second.counts.opened = 64;
        second.counts.errors[ErrorKind::ClosedEarly as usize] = 2;
        second.first_errors[ErrorKind::ClosedEarly as usize] = Some(Duration::from_millis(1_250));
        second.longest_gap = Some(Gap { begin: SECOND, length: Duration::from_millis(20) });
        [interval(0, Duration::ZERO, SECOND, &[200; 300]), second]
    }

    #[test]
    fn a_run_in_a_closed_loop_is_saved_with_every_figure() {
        let run = run_of(plan(), intervals(), 2 * SECOND);
        let mut got: Value = serde_json::from_str(&text(&run)).unwrap();
        let histogram = got.as_object_mut().unwrap().remove("histogram").unwrap();
        assert_eq!(decode(histogram.as_str().unwrap()).unwrap(), run.latency);
        // more than one macro takes
        let rest = ["sending", "unanswered_in_latency"]
            .map(|name| got.as_object_mut().unwrap().remove(name).unwrap());
        assert_eq!(rest, [json!(2.0), json!(0)]);
        let none = json!({ "count": 0, "first_at": null });
        let expected = json!({
            "uringload": env!("CARGO_PKG_VERSION"), "started": "1970-01-01T00:00:00.000Z",
            "urls": ["http://127.0.0.1:1337/"], "method": "GET", "connections": 64, "threads": 2, "pipeline": 1,
            "rate": null, "requests_per_connection": null, "warmup": 0.5, "duration": 2.0, "requests": 400,
            "responses": 400, "rps": 200.0, "bytes_sent": 16000, "bytes_received": 64000, "connections_opened": 64,
            "status_1xx": 0, "status_2xx": 400, "status_3xx": 0, "status_4xx": 0, "status_5xx": 0,
            "latency_from": "send",
            "latency": { "min": 200, "mean": 250.0, "stdev": 86.60254037844386, "p50": 200, "p75": 200, "p90": 400,
                "p99": 400, "p99_9": 400, "p99_99": 400, "max": 400 },
            "service": null, "service_histogram": null,
            "errors": 2,
            "errors_by_kind": { "refused": none, "unreachable": none, "reset": none,
                "closed_early": { "count": 2, "first_at": 1.25 }, "timeout": none, "malformed": none, "status": none },
            "longest_gap": { "at": 1.0, "seconds": 0.02 }, "cpu": { "user": 0.0004, "system": 0.0008 },
            "timeline": [
                { "at": 0.0, "seconds": 1.0, "rps": 300.0, "p50": 200, "p99": 200, "max": 200, "errors": 0 },
                { "at": 1.0, "seconds": 1.0, "rps": 100.0, "p50": 400, "p99": 400, "max": 400, "errors": 2 },
            ],
        });
        assert_eq!(got, expected);
    }

    #[test]
    fn two_runs_one_after_the_other_are_what_one_would_have_been() {
        for rate in [None, Some(150.0)] {
            let plan = Plan { rate, ..plan() };
            let [mut first, mut second] = intervals();
            if rate.is_some() {
                first.service = first.latency.clone();
                second.service = first.latency.clone();
            }
            let whole = run_of(plan.clone(), [first.clone(), second.clone()], 2 * SECOND);
            second.begin = Duration::ZERO;
            second.first_errors[ErrorKind::ClosedEarly as usize] = Some(Duration::from_millis(250));
            second.longest_gap = second.longest_gap.map(|gap| Gap { begin: Duration::ZERO, ..gap });
            let first = Saved::from(&run_of(plan.clone(), [first], SECOND));
            let second = Saved::from(&run_of(plan, [second], SECOND));
            let value = |saved: &Saved| {
                let micros = |seconds: f64| (seconds * 1e6).round();
                let cpu = SavedCpu { user: micros(saved.cpu.user), system: micros(saved.cpu.system) };
                serde_json::to_value(Saved { cpu, ..saved.clone() }).unwrap()
            };
            assert_eq!(value(&first.then(&second).unwrap()), value(&Saved::from(&whole)));
        }
    }

    #[test]
    fn a_run_at_a_rate_has_its_service_time_too() {
        let mut plan = plan();
        plan.rate = Some(150.0);
        let mut one = interval(0, Duration::ZERO, SECOND, &[900; 150]);
        one.service = interval(0, Duration::ZERO, SECOND, &[300; 150]).latency;
        let saved = read(&text(&run_of(plan, [one], SECOND))).unwrap();
        assert_eq!(saved.latency_from, LatencyFrom::IntendedStart);
        assert_eq!((saved.latency.unwrap().p50, saved.service.unwrap().p50), (900, 300));
        assert_eq!(saved.service_histogram.unwrap().len(), 150);
    }

    #[test]
    fn a_run_without_answers_has_no_latency() {
        let run = run_of(plan(), [interval(0, Duration::ZERO, Duration::ZERO, &[])], Duration::ZERO);
        let saved = read(&text(&run)).unwrap();
        assert_eq!((saved.latency, saved.rps, saved.timeline[0].rps), (None, 0.0, 0.0));
    }

    #[test]
    fn what_was_written_is_read_back() {
        let run = run_of(plan(), intervals(), 2 * SECOND);
        assert_eq!(read(&text(&run)).unwrap(), Saved::from(&run));
    }

    #[test]
    fn another_file_is_refused_in_one_line() {
        let whole = text(&run_of(plan(), intervals(), SECOND));
        let table = [
            ("".to_owned(), "is not JSON: "),
            ("       Value     Percentile".to_owned(), "is not JSON: "),
            ("[]".to_owned(), "is not a run of uringload: save one with --json FILE"),
            (r#"{"rps": 1}"#.to_owned(), "is not a run of uringload"),
            (r#"{"uringload": "0.1.0"}"#.to_owned(), "is not a whole run of uringload: missing field `"),
            (whole.replace("\"rps\"", "\"rsp\""), "is not a whole run of uringload: missing field `rps`"),
            (
                whole.replace("\"histogram\": \"", "\"histogram\": \"A"),
                "is not a whole run of uringload: a histogram is not",
            ),
            (whole.replace("\"send\"", "\"somewhere\""), "is not a whole run of uringload: unknown variant"),
        ];
        for (text, expected) in table {
            let problem = read(&text).unwrap_err();
            assert!(problem.starts_with(expected) && !problem.contains('\n'), "{problem}");
        }
    }
}

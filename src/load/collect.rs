//! What the threads say, added up: totals without loss, a timeline by the second, an interval log while the run goes on,
//! and the line that shows how it goes.
//!
//! Neighbours: `record` is what comes in; `summary`, `json` and `html` tell the [`Run`] that comes out.

use super::record::{self, Counts, Cpu, ErrorKind, Gap, Interval, Plan};
use crate::stats::hlog::IntervalLog;
use crate::stats::report::{Unit, grouped, time, value_at};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

/// How many seconds of the timeline stay open for threads that are late. A distribution may take 160 KiB, and a run of
/// days is to fit in memory: a second that is older is closed and only its figures are kept.
const OPEN_MAX: usize = 60;

/// What is shorter than this at the end of a run has no rate worth telling, and counts with the second before it.
const TAIL_MIN: Duration = Duration::from_millis(500);

/// Adds up the intervals of a run.
pub struct Collector {
    run: Run,
    open: BTreeMap<u64, OpenSecond>,
    hlog: Option<IntervalLog<Box<dyn Write>>>,
    bar: Option<ProgressBar>,
}

/// One measured run: all that reports are made of.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was asked for.
    pub plan: Plan,
    /// When the measured part began.
    pub started: SystemTime,
    /// How long it was.
    pub length: Duration,
    /// How long requests were sent: up to the last one, and not less than was planned unless the run was stopped.
    pub sending: Duration,
    /// Microseconds of the answers with a 2xx status: from the intended start where there is a rate, else from the send.
    /// Where there is a rate also what `Counts::unanswered` requests have waited.
    pub latency: Histogram<u64>,
    /// Of the answers with a 2xx status, from the send. Empty where there is no rate.
    pub service: Histogram<u64>,
    /// What happened.
    pub counts: Counts,
    /// When each kind of error happened first, since the measured part began; by `ErrorKind`.
    pub first_errors: [Option<Duration>; ErrorKind::ALL.len()],
    /// The longest time without a success.
    pub longest_gap: Option<Gap>,
    /// What all threads have used of their CPUs.
    pub cpu: Cpu,
    /// The run by the second.
    pub timeline: Vec<Second>,
}

/// One second of a run. The last one may be up to half a second longer, or shorter.
#[derive(Clone, Debug, PartialEq)]
pub struct Second {
    /// Since the measured part began.
    pub begin: Duration,
    /// How long.
    pub length: Duration,
    /// Answers with a 2xx status.
    pub answers: u64,
    /// Microseconds, with what unanswered requests have waited (see [`Run::latency`]) that were given up in this second;
    /// `None` where there is neither. The same goes for the following.
    pub p50: Option<u64>,
    /// Microseconds.
    pub p99: Option<u64>,
    /// Microseconds.
    pub max: Option<u64>,
    /// Of all kinds.
    pub errors: u64,
}

impl Run {
    /// Answers with a 2xx status.
    pub fn successes(&self) -> u64 {
        self.counts.by_class[1]
    }

    /// Whole answers of any status.
    pub fn responses(&self) -> u64 {
        self.counts.by_class.iter().sum()
    }

    /// Of all kinds.
    pub fn errors(&self) -> u64 {
        self.counts.errors.iter().sum()
    }

    /// So many in the run's length are how many a second; 0 in a run of no length.
    pub fn per_second(&self, count: u64) -> f64 {
        per_second(count, self.length)
    }
}

fn per_second(count: u64, length: Duration) -> f64 {
    if length.is_zero() { 0.0 } else { count as f64 / length.as_secs_f64() }
}

/// One second of all threads that still may grow.
struct OpenSecond {
    begin: Duration,
    end: Duration,
    latency: Histogram<u64>,
    /// With a 2xx status.
    answers: u64,
    errors: u64,
    /// How many threads have reported.
    threads: usize,
}

impl Collector {
    /// Begins a run.
    ///
    /// - `started`: when the measured part began.
    /// - `progress`: draws a line on stderr while the run goes on (the caller knows whether that is a terminal).
    /// - `hlog`: gets an interval log as the run goes on, one tag a thread (`thread-0`).
    ///
    /// # Errors
    ///
    /// The interval log cannot be written.
    pub fn new(
        plan: Plan,
        started: SystemTime,
        progress: bool,
        hlog: Option<Box<dyn Write>>,
    ) -> io::Result<Collector> {
        let hlog = hlog.map(|out| IntervalLog::new(out, started, Unit::Microseconds)).transpose()?;
        let bar = progress.then(|| bar(&plan));
        let run = Run {
            plan,
            started,
            length: Duration::ZERO,
            sending: Duration::ZERO,
            latency: record::histogram(),
            service: record::histogram(),
            counts: Counts::default(),
            first_errors: Default::default(),
            longest_gap: None,
            cpu: Cpu::default(),
            timeline: vec![],
        };
        Ok(Collector { run, open: BTreeMap::new(), hlog, bar })
    }

    /// Adds what a thread says.
    ///
    /// # Errors
    ///
    /// The interval log cannot be written.
    pub fn add(&mut self, interval: Interval) -> io::Result<()> {
        if let Some(hlog) = &mut self.hlog {
            let tag = format!("thread-{}", interval.thread);
            hlog.write(&tag, interval.begin, interval.length, &interval.latency)?;
        }
        self.run.add(&interval);
        self.add_second(&interval);
        if let Some(bar) = &self.bar {
            bar.set_position(progress_position(&self.run));
            bar.set_message(progress_line(&self.run, self.last_whole_second()));
        }
        Ok(())
    }

    /// Ends the run: `length` is that of its measured part, `sending` is [`Run::sending`].
    pub fn finish(mut self, length: Duration, sending: Duration) -> Run {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        (self.run.length, self.run.sending) = (length, sending);
        self.fold_the_tail();
        let open = std::mem::take(&mut self.open);
        self.run.timeline.extend(open.into_values().map(OpenSecond::close));
        self.run
    }

    fn add_second(&mut self, interval: &Interval) {
        let second = interval.begin.as_secs_f64().round() as u64;
        // what comes later than all patience counts with the oldest second that is open still
        let oldest = if self.run.timeline.is_empty() { None } else { self.open.keys().next() };
        let second = oldest.map_or(second, |oldest| second.max(*oldest));
        self.open.entry(second).or_insert_with(|| OpenSecond::new(interval.begin)).add(interval);
        while self.open.len() > OPEN_MAX
            && let Some((_, second)) = self.open.pop_first()
        {
            self.run.timeline.push(second.close());
        }
    }

    fn fold_the_tail(&mut self) {
        while self.open.len() > 1
            && self.open.last_entry().is_some_and(|last| last.get().length() < TAIL_MIN)
            && let Some((_, tail)) = self.open.pop_last()
            && let Some(mut last) = self.open.last_entry()
        {
            last.get_mut().take(tail);
        }
    }

    /// The newest second that every thread has reported of.
    fn last_whole_second(&self) -> Option<&OpenSecond> {
        self.open.values().rev().find(|second| second.threads >= self.run.plan.threads)
    }
}

impl Run {
    fn add(&mut self, interval: &Interval) {
        let Interval { begin, length, latency, service, counts, first_errors, longest_gap, cpu, thread: _ } =
            interval;
        merge(&mut self.latency, latency);
        merge(&mut self.service, service);
        self.counts.add(counts);
        for (first, other) in self.first_errors.iter_mut().zip(first_errors) {
            *first = [*first, *other].into_iter().flatten().min();
        }
        let gaps = [self.longest_gap, *longest_gap].into_iter().flatten();
        self.longest_gap = gaps.max_by_key(|gap| gap.length);
        self.cpu.user += cpu.user;
        self.cpu.system += cpu.system;
        // until `finish` knows it
        self.length = self.length.max(*begin + *length);
    }
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        let Counts { requests, by_class, sent, received, opened, unanswered, errors } = other;
        self.requests += requests;
        self.sent += sent;
        self.received += received;
        self.opened += opened;
        self.unanswered += unanswered;
        self.by_class.iter_mut().zip(by_class).for_each(|(sum, count)| *sum += count);
        self.errors.iter_mut().zip(errors).for_each(|(sum, count)| *sum += count);
    }
}

impl OpenSecond {
    fn new(begin: Duration) -> OpenSecond {
        OpenSecond { begin, end: begin, latency: record::histogram(), answers: 0, errors: 0, threads: 0 }
    }

    fn add(&mut self, interval: &Interval) {
        self.end = self.end.max(interval.begin + interval.length);
        merge(&mut self.latency, &interval.latency);
        self.answers += interval.counts.by_class[1];
        self.errors += interval.counts.errors.iter().sum::<u64>();
        self.threads += 1;
    }

    fn take(&mut self, later: OpenSecond) {
        self.end = self.end.max(later.end);
        merge(&mut self.latency, &later.latency);
        self.answers += later.answers;
        self.errors += later.errors;
    }

    fn length(&self) -> Duration {
        self.end - self.begin
    }

    fn close(self) -> Second {
        let told = |value: u64| (!self.latency.is_empty()).then_some(value);
        Second {
            begin: self.begin,
            length: self.length(),
            answers: self.answers,
            p50: told(value_at(&self.latency, 5_000)),
            p99: told(value_at(&self.latency, 9_900)),
            max: told(self.latency.max()),
            errors: self.errors,
        }
    }
}

/// Adds bucket by bucket: both have three digits, so nothing is rounded.
fn merge(sum: &mut Histogram<u64>, other: &Histogram<u64>) {
    sum.add(other).expect("the sum grows with what is added");
}

/// The bar is as long as the run is: milliseconds, or requests where their number ends it.
fn bar(plan: &Plan) -> ProgressBar {
    let total = plan.duration.map(|duration| duration.as_millis() as u64).or(plan.requests).unwrap_or(0);
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:16} {wide_msg}").expect("the template is right");
    bar.with_style(style.progress_chars("█▉▊▋▌▍▎▏ "))
}

fn progress_position(run: &Run) -> u64 {
    if run.plan.duration.is_some() { run.length.as_millis() as u64 } else { run.responses() }
}

fn progress_line(run: &Run, second: Option<&OpenSecond>) -> String {
    let plan = &run.plan;
    let elapsed = format!("{}s", run.length.as_secs());
    let total = match (plan.duration, plan.requests) {
        (Some(duration), _) => format!("/{:.0}s", duration.as_secs_f64()),
        (None, Some(requests)) => format!(" {}/{}", grouped(run.responses()), grouped(requests)),
        (None, None) => String::new(),
    };
    let rate =
        second.map_or(run.per_second(run.successes()), |second| per_second(second.answers, second.length()));
    let latency = second.map_or(&run.latency, |second| &second.latency);
    let told = |part: u64| match latency.is_empty() {
        true => "-".to_owned(),
        false => time(value_at(latency, part) as f64, Unit::Microseconds),
    };
    let (rate, p50, p99, errors) =
        (grouped(rate.round() as u64), told(5_000), told(9_900), grouped(run.errors()));
    format!("{elapsed}{total}  {rate}/s  p50 {p50}  p99 {p99}  errors {errors}")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::UNIX_EPOCH;

    /// A plan for tests: two threads, ten seconds, closed loop.
    pub fn plan() -> Plan {
        Plan {
            urls: vec!["http://127.0.0.1:1337/".into()],
            connections: 64,
            threads: 2,
            pipeline: 1,
            rate: None,
            requests_per_connection: None,
            duration: Some(Duration::from_secs(10)),
            requests: None,
            warmup: Duration::from_millis(500),
            timeout: Duration::from_secs(5),
            method: "GET".into(),
        }
    }

    /// A thread's second in which every answer took one of these times.
    pub fn interval(thread: usize, begin: Duration, length: Duration, latencies: &[u64]) -> Interval {
        let mut latency = record::histogram();
        latencies.iter().for_each(|value| latency.record(*value).unwrap());
        let answers = latencies.len() as u64;
        let counts = Counts {
            requests: answers,
            by_class: [0, answers, 0, 0, 0],
            sent: 40 * answers,
            received: 160 * answers,
            ..Counts::default()
        };
        let cpu = Cpu { user: Duration::from_micros(answers), system: Duration::from_micros(2 * answers) };
        Interval {
            thread,
            begin,
            length,
            latency,
            service: record::histogram(),
            counts,
            first_errors: Default::default(),
            longest_gap: None,
            cpu,
        }
    }

    /// A run of these intervals.
    pub fn run_of(plan: Plan, intervals: impl IntoIterator<Item = Interval>, length: Duration) -> Run {
        let mut collector = Collector::new(plan, UNIX_EPOCH, false, None).unwrap();
        intervals.into_iter().for_each(|interval| collector.add(interval).unwrap());
        collector.finish(length, length)
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// What is written to it can be looked at.
    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_interval_log_is_written_while_the_run_goes_on() {
        let log = Shared::default();
        let mut collector = Collector::new(plan(), UNIX_EPOCH, false, Some(Box::new(log.clone()))).unwrap();
        collector.add(interval(1, SECOND, SECOND, &[250])).unwrap();
        let text = String::from_utf8(log.0.borrow().clone()).unwrap();
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("Tag=thread-1,1.000,1.000,0.250,"), "{last}");
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn a_short_tail_counts_with_the_second_before_it() {
        let tail = Duration::from_millis(3);
        let intervals = [
            interval(0, Duration::ZERO, SECOND, &[100; 10]),
            interval(1, Duration::ZERO, SECOND, &[200; 10]),
            interval(0, SECOND, tail, &[300]),
            interval(1, SECOND, tail, &[]),
        ];
        let run = run_of(plan(), intervals, SECOND + tail);
        let expected = Second {
            begin: Duration::ZERO,
            length: SECOND + tail,
            answers: 21,
            p50: Some(200),
            p99: Some(300),
            max: Some(300),
            errors: 0,
        };
        assert_eq!(run.timeline, [expected]);
    }

    #[test]
    fn a_run_that_is_nothing_but_a_tail_has_one_second() {
        let short = Duration::from_millis(20);
        let run = run_of(plan(), [interval(0, Duration::ZERO, short, &[100])], short);
        assert_eq!((run.timeline.len(), run.timeline[0].length), (1, short));
    }

    #[test]
    fn a_second_without_answers_has_no_percentiles() {
        let mut silent = interval(0, Duration::ZERO, SECOND, &[]);
        silent.counts.errors[ErrorKind::Timeout as usize] = 3;
        let run = run_of(plan(), [silent], SECOND);
        let second = &run.timeline[0];
        assert_eq!((second.p50, second.p99, second.max, second.errors), (None, None, None, 3));
    }

    #[test]
    fn requests_that_were_never_answered_are_no_answers() {
        let mut last = interval(0, Duration::ZERO, SECOND, &[100; 10]);
        last.latency.record_n(900_000, 40).unwrap();
        last.counts.unanswered = 40;
        let mut collector = Collector::new(plan(), UNIX_EPOCH, false, None).unwrap();
        collector.run.plan.threads = 1;
        collector.add(last).unwrap();
        let line = progress_line(&collector.run, collector.last_whole_second());
        assert!(line.starts_with("1s/10s  10/s  "), "{line}");
        let run = collector.finish(SECOND, SECOND);
        assert_eq!((run.timeline[0].answers, run.counts.unanswered, run.latency.len()), (10, 40, 50));
    }

    #[test]
    fn a_thread_that_is_late_beyond_patience_is_not_lost() {
        let seconds = (0..200).map(|second| interval(0, SECOND * second, SECOND, &[100]));
        let run = run_of(plan(), seconds.chain([interval(1, SECOND, SECOND, &[900])]), SECOND * 200);
        assert_eq!(run.timeline.len(), 200);
        assert_eq!(run.timeline.iter().map(|second| second.answers).sum::<u64>(), 201);
        assert!(run.timeline.is_sorted_by_key(|second| second.begin));
    }

    #[test]
    fn the_first_error_and_the_longest_gap_are_those_of_all_threads() {
        let (mut a, mut b) =
            (interval(0, Duration::ZERO, SECOND, &[1]), interval(1, Duration::ZERO, SECOND, &[1]));
        let reset = ErrorKind::Reset as usize;
        a.first_errors[reset] = Some(Duration::from_millis(700));
        b.first_errors[reset] = Some(Duration::from_millis(300));
        let gap = |length| Some(Gap { begin: Duration::ZERO, length: Duration::from_millis(length) });
        (a.longest_gap, b.longest_gap) = (gap(20), gap(10));
        let run = run_of(plan(), [a, b], SECOND);
        assert_eq!(run.first_errors[reset], Some(Duration::from_millis(300)));
        assert_eq!(run.longest_gap, gap(20));
    }

    #[test]
    fn the_progress_line_tells_of_the_last_second_that_is_whole() {
        let mut collector = Collector::new(plan(), UNIX_EPOCH, false, None).unwrap();
        let line = |collector: &Collector| progress_line(&collector.run, collector.last_whole_second());
        assert_eq!(line(&collector), "0s/10s  0/s  p50 -  p99 -  errors 0");
        for thread in [0, 1] {
            collector.add(interval(thread, Duration::ZERO, SECOND, &[1_500; 600])).unwrap();
        }
        let mut half = interval(0, SECOND, SECOND, &[9_000; 5]);
        half.counts.errors[0] = 1;
        collector.add(half).unwrap();
        assert_eq!(line(&collector), "2s/10s  1,200/s  p50 1.50ms  p99 1.50ms  errors 1");
        collector.run.plan.duration = None;
        assert_eq!(line(&collector), "2s  1,200/s  p50 1.50ms  p99 1.50ms  errors 1");
        collector.run.plan.requests = Some(5_000);
        assert_eq!(line(&collector), "2s 1,205/5,000  1,200/s  p50 1.50ms  p99 1.50ms  errors 1");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn totals_are_the_sums_of_the_intervals(
            parts in prop::collection::vec((0_usize..4, 0_u32..100, prop::collection::vec(1_u64..3_600_000_000, 0..20), 0_u64..9), 1..60)
        ) {
            let intervals: Vec<Interval> = parts.iter().map(|(thread, second, latencies, errors)| {
                let mut interval = interval(*thread, SECOND * *second, SECOND, latencies);
                interval.counts.errors[ErrorKind::Status as usize] = *errors;
                interval.counts.by_class[4] = *errors;
                interval.service = interval.latency.clone();
                interval
            }).collect();
            let run = run_of(plan(), intervals, SECOND * 100);
            let mut all = record::histogram();
            parts.iter().flat_map(|part| &part.2).for_each(|value| all.record(*value).unwrap());
            let answers: u64 = parts.iter().map(|part| part.2.len() as u64).sum();
            let errors: u64 = parts.iter().map(|part| part.3).sum();
            prop_assert_eq!(&run.latency, &all);
            prop_assert_eq!(&run.service, &all);
            prop_assert_eq!(run.latency.max(), all.max());
            prop_assert_eq!((run.successes(), run.counts.requests, run.counts.received), (answers, answers, 160 * answers));
            prop_assert_eq!((run.errors(), run.responses()), (errors, answers + errors));
            prop_assert_eq!(run.cpu.system, Duration::from_micros(2 * answers));
            prop_assert_eq!(run.timeline.iter().map(|second| second.answers).sum::<u64>(), answers);
            prop_assert_eq!(run.timeline.iter().map(|second| second.errors).sum::<u64>(), errors);
        }
    }
}

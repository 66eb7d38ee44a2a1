//! What one thread records while it loads: the interval that is being filled, and what the whole run must know at its
//! end. Whether a thing counts is decided here: nothing that started in the warm-up does.
//!
//! Neighbours: `engine` and `connection` say what happened; `record` is the form in which it leaves.

use super::connection::Flight;
use super::reader::Answer;
use super::record::{Counts, Cpu, ErrorKind, Gap, Interval, LONGEST_US, histogram};
use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The time of the last success on any thread; nanoseconds since the load began.
#[derive(Debug)]
pub struct LastSuccess(AtomicU64);

/// See the module's comment. All times are nanoseconds since the load began.
pub struct Recorder {
    thread: usize,
    /// Latency and service time differ.
    open_loop: bool,
    /// The measured part begins.
    from: u64,
    /// The present interval began.
    begin: u64,
    latency: Histogram<u64>,
    service: Histogram<u64>,
    counts: Counts,
    first_errors: [Option<Duration>; ErrorKind::ALL.len()],
    longest_gap: Option<Gap>,
    cpu: Cpu,
    /// An answer with a 2xx status has come since this was looked at.
    succeeded: bool,
    pub totals: Totals,
}

/// What is said of a thread once, at the end of a run.
#[derive(Debug, Default)]
pub struct Totals {
    /// Whole answers, of the warm-up too.
    pub answers: u64,
    /// Those with a 2xx status.
    pub successes: u64,
    /// When the last one came.
    pub last_answer: u64,
    /// When the last request that counts was sent.
    pub last_send: u64,
    /// By `ErrorKind`, of the warm-up too.
    pub errors: [u64; ErrorKind::ALL.len()],
    /// What the first error of each kind was in particular.
    pub details: [Option<String>; ErrorKind::ALL.len()],
}

impl LastSuccess {
    /// Before any.
    pub fn new(from: u64) -> LastSuccess {
        LastSuccess(AtomicU64::new(from))
    }
}

impl Recorder {
    pub fn new(thread: usize, open_loop: bool, from: u64) -> Recorder {
        Recorder {
            thread,
            open_loop,
            from,
            begin: from,
            latency: histogram(),
            service: histogram(),
            counts: Counts::default(),
            first_errors: Default::default(),
            longest_gap: None,
            cpu: Cpu::default(),
            succeeded: false,
            totals: Totals::default(),
        }
    }

    /// The measured part begins: connections that are open count as opened in it.
    pub fn begin(&mut self, open: usize) {
        self.counts.opened += open as u64;
        self.cpu = used();
    }

    /// A request is handed to the kernel now.
    #[inline]
    pub fn sent_request(&mut self, flight: Flight) {
        if flight.start >= self.from && !flight.again {
            self.counts.requests += 1;
            self.totals.last_send = flight.sent;
        }
    }

    #[inline]
    pub fn sent(&mut self, octets: usize, now: u64) {
        if now >= self.from {
            self.counts.sent += octets as u64;
        }
    }

    /// So many of the octets that were said to be sent at this time, in this interval, were not.
    pub fn not_sent(&mut self, octets: usize, said: u64) {
        if said >= self.from {
            self.counts.sent -= octets as u64;
        }
    }

    #[inline]
    pub fn received(&mut self, octets: usize, now: u64) {
        if now >= self.from {
            self.counts.received += octets as u64;
        }
    }

    pub fn opened(&mut self, now: u64) {
        self.counts.opened += u64::from(now >= self.from);
    }

    /// A whole answer to this request.
    #[inline]
    pub fn answer(&mut self, answer: Answer, flight: Flight, now: u64) {
        self.totals.answers += 1;
        self.totals.last_answer = now;
        let success = answer.status / 100 == 2;
        self.totals.successes += u64::from(success);
        self.succeeded |= success;
        if !success {
            self.error(ErrorKind::Status, flight.start, now, || format!("status {}", answer.status));
        }
        if flight.start < self.from {
            return;
        }
        self.counts.by_class[usize::from(answer.status / 100) - 1] += 1;
        if success {
            record(&mut self.latency, now - flight.start, 1);
            if self.open_loop {
                record(&mut self.service, now - flight.sent, 1);
            }
        }
    }

    /// Something went wrong with what started at this time.
    pub fn error(&mut self, kind: ErrorKind, start: u64, now: u64, detail: impl FnOnce() -> String) {
        self.totals.errors[kind as usize] += 1;
        self.totals.details[kind as usize].get_or_insert_with(detail);
        if start >= self.from {
            self.count_errors(kind, 1, now);
        }
    }

    /// Nobody waits any longer for the answer to a request that was due at this time. In an open loop it counts in the
    /// latencies: what it has waited is the least that its latency would be, and a server that answers some and forgets
    /// the others is not to look quick.
    pub fn unanswered(&mut self, start: u64, now: u64) {
        if self.open_loop && start >= self.from {
            record(&mut self.latency, now.saturating_sub(start), 1);
            self.counts.unanswered += 1;
        }
    }

    /// The run is over for requests that were due, the nth at `due(nth)` (rising, and not in the warm-up), and could not
    /// be sent: see `unanswered`. There may be billions of them; each bucket of the histogram is filled at once.
    pub fn never_sent(&mut self, numbers: Range<u64>, due: impl Fn(u64) -> u64, now: u64) {
        self.counts.unanswered += numbers.end.saturating_sub(numbers.start);
        let mut parts = vec![numbers];
        while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
            let waited = |nth| now.saturating_sub(due(nth));
            let (longest, shortest) = (waited(part.start), waited(part.end - 1));
            if self.latency.equivalent(microseconds(longest), microseconds(shortest)) {
                record(&mut self.latency, longest, part.end - part.start);
            } else {
                let middle = part.start + (part.end - part.start) / 2;
                parts.extend([part.start..middle, middle..part.end]);
            }
        }
    }

    /// So many errors of one kind in the measured part.
    pub fn count_errors(&mut self, kind: ErrorKind, count: u64, now: u64) {
        if count > 0 {
            self.counts.errors[kind as usize] += count;
            self.first_errors[kind as usize].get_or_insert(Duration::from_nanos(now - self.from));
        }
    }

    /// Notes the time without a success that ends now, if one came in this turn.
    #[inline]
    pub fn end_turn(&mut self, now: u64, last: &LastSuccess) {
        if std::mem::take(&mut self.succeeded) && now >= self.from {
            self.gap(last.0.fetch_max(now, Ordering::Relaxed), now);
        }
    }

    /// Notes the time without a success that the end of the load ends.
    pub fn end(&mut self, now: u64, last: &LastSuccess) {
        self.gap(last.0.load(Ordering::Relaxed), now);
    }

    fn gap(&mut self, begin: u64, end: u64) {
        let length = Duration::from_nanos(end.saturating_sub(begin));
        if length > self.longest_gap.map_or(Duration::ZERO, |gap| gap.length) {
            self.longest_gap = Some(Gap { begin: Duration::from_nanos(begin - self.from), length });
        }
    }

    /// What was recorded since the last call; recording goes on in the memory that there is.
    pub fn interval(&mut self, now: u64) -> Interval {
        let cpu = used();
        let interval = Interval {
            thread: self.thread,
            begin: Duration::from_nanos(self.begin - self.from),
            length: Duration::from_nanos(now.saturating_sub(self.begin)),
            latency: self.latency.clone(),
            service: self.service.clone(),
            counts: std::mem::take(&mut self.counts),
            first_errors: std::mem::take(&mut self.first_errors),
            longest_gap: self.longest_gap.take(),
            cpu: Cpu {
                user: cpu.user.saturating_sub(self.cpu.user),
                system: cpu.system.saturating_sub(self.cpu.system),
            },
        };
        self.latency.reset();
        self.service.reset();
        self.cpu = cpu;
        self.begin = now.max(self.begin);
        interval
    }
}

#[inline]
fn record(histogram: &mut Histogram<u64>, nanoseconds: u64, count: u64) {
    // `saturating_record` would stop at what has room now; this makes room
    histogram.record_n(microseconds(nanoseconds), count).expect("an hour fits");
}

/// Less than a microsecond counts as one, more than an hour as an hour.
#[inline]
fn microseconds(nanoseconds: u64) -> u64 {
    (nanoseconds / 1000).clamp(1, LONGEST_US)
}

/// Of this thread, since it was started.
fn used() -> Cpu {
    let time = |time: TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), time.tv_usec().unsigned_abs() as u32 * 1000)
    };
    getrusage(UsageWho::RUSAGE_THREAD).map_or_else(
        |_| Cpu::default(),
        |usage| Cpu { user: time(usage.user_time()), system: time(usage.system_time()) },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const OK: Answer = Answer { status: 200, close: false };

    fn flight(start: u64, sent: u64) -> Flight {
        Flight { start, sent, again: false }
    }

    #[test]
    fn a_request_that_is_sent_again_counts_once() {
        let mut recorder = Recorder::new(0, true, 0);
        recorder.sent_request(flight(5, 10));
        recorder.sent_request(Flight { again: true, ..flight(5, 90) });
        assert_eq!((recorder.counts.requests, recorder.totals.last_send), (1, 10));
    }

    #[test]
    fn what_is_not_answered_in_time_counts_in_the_latencies_of_an_open_loop() {
        for (open, expected) in [(true, (1, 1, 7)), (false, (0, 0, 0))] {
            let mut recorder = Recorder::new(0, open, 0);
            recorder.unanswered(2_000, 9_000);
            let interval = recorder.interval(9_000);
            let got = (interval.latency.len(), interval.counts.unanswered, interval.latency.max());
            assert_eq!(got, expected, "{open}");
            assert_eq!(interval.service.len(), 0);
        }
    }

    proptest! {
        #[test]
        fn requests_that_were_never_sent_are_recorded_at_once_as_one_by_one(
            first in 0_u64..1_000_000, count in 0_u64..5_000, step in 1_u64..10_000_000, after in 0_u64..10_000_000_000,
        ) {
            let due = |nth: u64| first + nth * step;
            let now = due(count) + after;
            let (mut at_once, mut singly) = (Recorder::new(0, true, 0), Recorder::new(0, true, 0));
            at_once.never_sent(0..count, due, now);
            (0..count).for_each(|nth| singly.unanswered(due(nth), now));
            prop_assert_eq!(&at_once.latency, &singly.latency);
            prop_assert_eq!(at_once.counts.unanswered, count);
        }
    }

    #[test]
    fn nothing_that_started_in_the_warm_up_counts() {
        let mut recorder = Recorder::new(0, true, 1_000);
        recorder.sent_request(flight(999, 2_000));
        recorder.answer(OK, flight(999, 2_000), 5_000);
        recorder.error(ErrorKind::Reset, 999, 2_000, || "reset".into());
        recorder.unanswered(999, 9_000);
        recorder.sent_request(flight(1_000, 5_000));
        recorder.answer(OK, flight(1_000, 5_000), 9_000);
        recorder.answer(Answer { status: 404, ..OK }, flight(1_000, 5_000), 9_000);
        let interval = recorder.interval(11_000);
        assert_eq!((interval.counts.requests, interval.counts.by_class), (1, [0, 1, 0, 1, 0]));
        assert_eq!(interval.counts.errors, [0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((interval.latency.len(), interval.latency.max(), interval.service.max()), (1, 8, 4));
        assert_eq!((interval.begin, interval.length), (Duration::ZERO, Duration::from_nanos(10_000)));
        assert_eq!((recorder.totals.answers, recorder.totals.successes), (3, 2));
        assert_eq!(recorder.interval(12_000).latency.len(), 0);
    }

    #[test]
    fn gaps_are_those_between_any_threads_successes() {
        let last = LastSuccess::new(100);
        let (mut one, mut other) = (Recorder::new(0, false, 100), Recorder::new(1, false, 100));
        let flight = flight(100, 100);
        for (recorder, now) in [(0, 300), (1, 400), (0, 900), (1, 1_000)] {
            let recorder = if recorder == 0 { &mut one } else { &mut other };
            recorder.answer(OK, flight, now);
            recorder.end_turn(now, &last);
            recorder.end_turn(now + 50, &last);
        }
        one.end(1_200, &last);
        let gap = |begin, length| {
            Some(Gap { begin: Duration::from_nanos(begin), length: Duration::from_nanos(length) })
        };
        assert_eq!(one.interval(1_200).longest_gap, gap(300, 500));
        assert_eq!(other.interval(1_200).longest_gap, gap(200, 100));
    }
}

//! What the threads that load say once a second, and nothing else: every number of a report is made of these.
//!
//! Neighbours: the threads fill them in, `stats` has the histogram's form, the reports add them up.

use hdrhistogram::Histogram;
use std::time::Duration;

/// Latencies of a run are recorded in microseconds with three significant digits; the buckets grow with what is seen,
/// up to an hour, and what is longer counts as an hour.
pub fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

/// The longest latency that is told apart, in microseconds.
pub const LONGEST_US: u64 = 3_600_000_000;

/// What went wrong with one request or connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// ECONNREFUSED.
    Refused,
    /// Any other reason why a connection cannot be made.
    Unreachable,
    /// ECONNRESET, EPIPE.
    Reset,
    /// The server closed before the answer was whole, or before it began with a request on its way.
    ClosedEarly,
    /// No whole answer within `--timeout`, or the request could not be sent up to the end.
    Timeout,
    /// What came is not an HTTP/1.1 answer.
    Malformed,
    /// A whole answer with a status other than 2xx.
    Status,
}

impl ErrorKind {
    /// All of them, in the order of `Counts::errors`.
    pub const ALL: [ErrorKind; 7] = [
        ErrorKind::Refused,
        ErrorKind::Unreachable,
        ErrorKind::Reset,
        ErrorKind::ClosedEarly,
        ErrorKind::Timeout,
        ErrorKind::Malformed,
        ErrorKind::Status,
    ];
}

/// How often something happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were handed to the kernel. One that is sent again on another connection counts once.
    pub requests: u64,
    /// Whole final answers by class, 1xx (never final) to 5xx.
    pub by_class: [u64; 5],
    /// Octets sent.
    pub sent: u64,
    /// Octets received.
    pub received: u64,
    /// Connections that were made.
    pub opened: u64,
    /// Requests of an open loop that are in the latencies with what they have waited, since no answer came in time.
    pub unanswered: u64,
    /// By `ErrorKind`.
    pub errors: [u64; ErrorKind::ALL.len()],
}

/// What one thread did in one stretch of a run (one second, the last one shorter). Nothing of the warm-up is in it.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Which thread, from 0.
    pub thread: usize,
    /// When it began, since the measured part of the run began.
    pub begin: Duration,
    /// How long it was.
    pub length: Duration,
    /// Latency of each answer with a 2xx status: from the intended start where there is a rate, from the send otherwise.
    /// Where there is a rate also what each request has waited that was not answered in time, whether it was sent or not
    /// (`Counts::unanswered`), in the stretch in which nobody waited for it any longer.
    pub latency: Histogram<u64>,
    /// Of each answer with a 2xx status, from the send. Empty where there is no rate, since `latency` is the same.
    pub service: Histogram<u64>,
    /// What happened.
    pub counts: Counts,
    /// When each kind of error happened first in this stretch, since the measured part began.
    pub first_errors: [Option<Duration>; ErrorKind::ALL.len()],
    /// The longest time without a successful answer on any connection of any thread that this thread saw end in this
    /// stretch, and when it began.
    pub longest_gap: Option<Gap>,
    /// What the thread has used of its CPU in this stretch.
    pub cpu: Cpu,
}

/// A time without a success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// Since the measured part began.
    pub begin: Duration,
    /// How long.
    pub length: Duration,
}

/// CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// In user space.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

/// What was asked for; reports name it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Requested in rotation.
    pub urls: Vec<String>,
    /// Connections at a time, in all threads together.
    pub connections: usize,
    /// Threads.
    pub threads: usize,
    /// Requests in flight on a connection.
    pub pipeline: usize,
    /// Requests a second in all, where the loop is open.
    pub rate: Option<f64>,
    /// Requests on a connection before it is closed and another opened.
    pub requests_per_connection: Option<u64>,
    /// How long, where that ends the run.
    pub duration: Option<Duration>,
    /// How many requests, where that ends the run.
    pub requests: Option<u64>,
    /// What was not measured before.
    pub warmup: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The method.
    pub method: String,
}

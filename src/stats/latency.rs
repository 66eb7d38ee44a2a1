//! How long requests took: a distribution in HdrHistogram's form.
//!
//! Neighbours: `area` has the same buckets in shared memory; `report` and `hlog` write it down.

use hdrhistogram::Histogram;
use std::fmt;
use std::time::Duration;

/// The longest latency that is told apart, one hour, in nanoseconds; what is longer counts as that.
pub(crate) const LONGEST_NS: u64 = 3_600_000_000_000;

/// The digits that are kept of a latency.
const DIGITS: u8 = 3;

/// How long requests took, as a distribution: from the wake-up of the loop that delivered a request's last byte to the
/// submit that answered it. Three significant digits, 1 ns to 1 h.
///
/// It is the server's share of what a client sees. The time that a request has spent in the kernel's queues before the loop
/// woke up (behind a handler that blocks, say, or in the backlog of a listener) is not in it, nor is the network's; a load
/// generator that counts from the intended start, such as `uringload -r`, sees those too. Requests that broke the protocol are
/// not in it.
#[derive(Clone)]
pub struct Latency {
    /// In nanoseconds.
    histogram: Histogram<u64>,
}

impl Latency {
    /// Nothing recorded yet.
    pub(crate) fn new() -> Latency {
        Latency {
            histogram: Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("bounds that are allowed"),
        }
    }

    /// How many requests.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency that this share of the requests (0.5: half of them; 0.99) did not exceed; zero if there were none.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(if self.count() == 0 { 0 } else { self.histogram.value_at_quantile(share) })
    }

    /// The longest, with the precision of the rest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.histogram.max())
    }

    /// On average.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.histogram.mean() as u64)
    }

    /// The distribution itself, in nanoseconds.
    #[doc(hidden)]
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// So many requests took that long.
    pub(crate) fn record(&mut self, nanos: u64, count: u64) {
        self.histogram.saturating_record_n(nanos, count);
    }

    pub(crate) fn add(&mut self, other: &Latency) {
        self.histogram.add(&other.histogram).expect("all have the same bounds");
    }

    /// What came after `before`, which was taken of the same process; nothing where that has lost counts since, which only
    /// a process that writes where it should not can bring about.
    pub(crate) fn since(&self, before: &Latency) -> Latency {
        let mut difference = self.clone();
        match difference.histogram.subtract(&before.histogram) {
            Ok(()) => difference,
            Err(_) => Latency::new(),
        }
    }
}

impl Default for Latency {
    fn default() -> Latency {
        Latency::new()
    }
}

impl PartialEq for Latency {
    fn eq(&self, other: &Latency) -> bool {
        self.histogram == other.histogram
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish()
    }
}

//! The measured part's beginning, its seconds, and the end of the run.
//!
//! Neighbours: `recorder` has what is said; `run` waits for it.

use super::*;

impl Engine {
    pub(super) fn begin_measuring(&mut self) {
        if !std::mem::replace(&mut self.measuring, true) {
            self.recorder.begin(self.open);
        }
    }

    pub(super) fn send_interval(&mut self) {
        self.next_interval += SECOND_NS * ((self.now - self.next_interval) / SECOND_NS + 1);
        let interval = self.recorder.interval(self.now);
        let _ = self.intervals.send(interval);
    }

    pub(super) fn is_over(&self) -> bool {
        let done = self.in_flight == 0 && !self.has_work();
        done || self.now >= self.last_end || self.shared.stop.load(Ordering::Relaxed) || self.is_hopeless()
    }

    /// Nothing was ever answered and nothing will be, or a run that only a number of requests ends has no server any
    /// more.
    pub(super) fn is_hopeless(&self) -> bool {
        let bereft = || self.end == u64::MAX && self.now >= self.open_until + self.limits.timeout;
        let never = || {
            !self.shared.answered.load(Ordering::Relaxed)
                && self.recorder.totals.answers == 0
                && self.connections.iter().all(|connection| connection.failures >= FAILURES_MAX)
        };
        self.open == 0 && (bereft() || never())
    }

    /// Nobody waits any longer: what was due and has not been sent, and what is in flight, are unanswered; unless the
    /// user has stopped the run, they have timed out.
    pub(super) fn abandon(&mut self, stopped: bool) {
        // nothing is due in a closed loop
        let unsent = if self.schedule.is_open() { self.schedule.unsent(self.now) } else { 0..0 };
        let mut late = unsent.end - unsent.start;
        self.recorder.never_sent(unsent, |nth| self.schedule.due(nth), self.now);
        for start in self.again.drain(..) {
            self.recorder.unanswered(start, self.now);
            late += u64::from(start >= self.limits.from);
        }
        if !stopped {
            self.recorder.count_errors(ErrorKind::Timeout, late, self.now);
        }
        for flight in self.connections.iter_mut().flat_map(|connection| connection.flights.drain(..)) {
            self.recorder.unanswered(flight.start, self.now);
            if !stopped {
                let detail = || "no answer by the end".to_owned();
                self.recorder.error(ErrorKind::Timeout, flight.start, self.now, detail);
            }
        }
    }
}

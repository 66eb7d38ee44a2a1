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

    /// Nobody waits any longer. What was due and has not been sent has waited so long at least; unless the user has
    /// stopped the run, it and what is in flight count as timeouts.
    pub(super) fn abandon(&mut self, stopped: bool) {
        if !self.schedule.is_open() {
            // nothing is due in a closed loop
            self.schedule.stop();
        }
        while let Some(start) = self.next_start() {
            self.recorder.never_sent(start, self.now, stopped);
        }
        if stopped {
            return;
        }
        for connection in &mut self.connections {
            for flight in connection.flights.drain(..) {
                let detail = || "no answer by the end".to_owned();
                self.recorder.error(ErrorKind::Timeout, flight.start, self.now, detail);
            }
        }
    }
}

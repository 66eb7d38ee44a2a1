//! What this worker counts and times, and when it tells: once a turn, before the turn's answers leave, so that an answer
//! that a client has is counted even if the worker is killed in the next moment.
//!
//! Neighbours: `event_loop` counts and ends the turn; `stats::area` is where the numbers go.

use crate::stats::{Area, Counters, Nanos, Tally, Turn};

/// See the module's comment.
pub struct Meter {
    /// For exchanges.
    pub tally: Tally,
    /// For the loop.
    pub counters: Counters,
    /// Where all of it goes, and what the loop is at.
    pub area: Area,
}

impl Meter {
    pub fn new(area: Area) -> Meter {
        Meter { tally: Tally::default(), counters: Counters::default(), area }
    }

    /// The loop is about to wait.
    #[inline]
    pub fn wait(&self) {
        self.area.wait();
    }

    /// The loop has been woken: what it receives in this turn came now.
    #[inline]
    pub fn begin(&mut self, now: Nanos) {
        self.tally.begin(now);
        self.area.turn(now);
    }

    /// What others count.
    #[inline]
    pub fn set_aside(&mut self, active: u32, accept_failures: u64, panics: u64) {
        self.counters.active = active.into();
        self.counters.panics = panics;
        self.counters.accept_failures = accept_failures;
    }

    /// All is written and about to leave; says how long the turn took.
    #[inline]
    pub fn end(&mut self, now: Nanos) -> Nanos {
        let took = now.saturating_sub(self.tally.now());
        let area = &self.area;
        let Turn { requests, refused, responses, prompt } =
            self.tally.end(|arrived| area.record(now.saturating_sub(arrived), 1));
        if prompt > 0 {
            self.area.record(took, prompt);
        }
        let counters = &mut self.counters;
        counters.requests += requests;
        counters.refused += refused;
        counters.responses_2xx += responses[1];
        counters.responses_3xx += responses[2];
        counters.responses_4xx += responses[3];
        counters.responses_5xx += responses[4];
        counters.turns += 1;
        counters.longest_turn_ns = counters.longest_turn_ns.max(took);
        self.area.publish(counters, now);
        took
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_turns_answers_take_as_long_as_the_turn_and_later_ones_as_long_as_they_took() {
        let (area, _) = Area::create().unwrap();
        let mut meter = Meter::new(area.clone());
        meter.begin(1_000);
        for _ in 0..3 {
            meter.tally.requested();
            meter.tally.answered(200, 1_000);
        }
        meter.tally.requested();
        meter.counters.bytes_in += 300;
        meter.set_aside(4, 2, 0);
        assert_eq!(meter.end(1_500), 500);
        meter.begin(5_000);
        meter.tally.answered(503, 1_000);
        meter.set_aside(3, 2, 1);
        assert_eq!(meter.end(5_010), 10);
        let stats = area.read();
        let expected = Counters {
            active: 3,
            accept_failures: 2,
            panics: 1,
            requests: 4,
            responses_2xx: 3,
            responses_5xx: 1,
            bytes_in: 300,
            turns: 2,
            longest_turn_ns: 500,
            ..Counters::default()
        };
        assert_eq!((stats.counters, stats.latency.count()), (expected, 4));
        let quantiles = [0.75, 1.0].map(|share| stats.latency.quantile(share));
        assert_eq!(quantiles, [Duration::from_nanos(500), Duration::from_nanos(4_011)]);
    }
}

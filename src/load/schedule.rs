//! When requests start. In a closed loop whenever there is room; in an open one at times that the rate alone sets, so
//! that a server which stalls is asked all the same. No clock is read here.
//!
//! Neighbours: `engine` asks it for what is due.

use super::record::Plan;
use std::ops::Range;
use std::time::Duration;

/// The share of one thread.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Nanoseconds between two requests of the whole run; `None`: closed.
    interval: Option<f64>,
    /// This thread's first request, among all of the run, and the distance to its next.
    first: u64,
    step: u64,
    /// Requests that were given out.
    given: u64,
    /// How many there are at most; what starts before `from` is not among them.
    budget: u64,
    from: u64,
    /// Nothing starts from here on.
    end: u64,
    /// With nothing in its way the last one has started by then.
    planned_end: u64,
}

/// What the run starts next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This request, now. In an open loop it is the time at which it was due.
    Start(u64),
    /// Nothing before this time.
    At(u64),
    /// Nothing any more.
    Never,
}

impl Schedule {
    /// One thread's; times are nanoseconds since the load began. The requests of an open loop are dealt
    /// out to the threads in turn, so that together they are evenly spaced.
    pub fn new(plan: &Plan, thread: usize) -> Schedule {
        let (thread, threads) = (thread as u64, plan.threads as u64);
        let share = |all: u64| all / threads + u64::from(thread < all % threads);
        let end = plan.duration.map_or(u64::MAX, |duration| nanoseconds(plan.warmup + duration));
        let sent = plan.rate.zip(plan.requests).map(|(rate, requests)| (requests as f64 * 1e9 / rate) as u64);
        let sent = sent.map_or(u64::MAX, |sent| nanoseconds(plan.warmup).saturating_add(sent));
        Schedule {
            interval: plan.rate.map(|rate| 1e9 / rate),
            first: thread,
            step: threads,
            given: 0,
            budget: plan.requests.map_or(u64::MAX, share),
            from: nanoseconds(plan.warmup),
            end,
            planned_end: end.min(sent),
        }
    }

    /// Latency counts from the times of this schedule.
    pub fn is_open(&self) -> bool {
        self.interval.is_some()
    }

    /// What to do at this time; nothing is given out.
    #[inline]
    pub fn peek(&self, now: u64) -> Next {
        if self.given >= self.budget {
            return Next::Never;
        }
        let start = self.interval.map_or(now, |interval| self.at(self.given, interval));
        match start {
            _ if start >= self.end => Next::Never,
            _ if start <= now => Next::Start(start),
            _ => Next::At(start),
        }
    }

    /// What `peek` gave, with this start, has been started.
    #[inline]
    pub fn take(&mut self, start: u64) {
        self.given += 1;
        if start < self.from {
            self.budget = self.budget.saturating_add(1);
        }
    }

    /// By when all requests are sent if nothing is in their way; beyond all times where only a number of them ends a
    /// closed loop.
    pub fn planned_end(&self) -> u64 {
        self.planned_end
    }

    /// In an open loop: the numbers of the requests that are due at this time and were not given out. Those of the warm-up
    /// are not among them.
    pub fn unsent(&self, now: u64) -> Range<u64> {
        let begin = self.first_from(self.from);
        let end = self.first_from(self.end.min(now.saturating_add(1)));
        begin..end.min(self.budget.saturating_add(begin - self.given)).max(begin)
    }

    /// When this thread's nth request is due, in an open loop.
    pub fn due(&self, nth: u64) -> u64 {
        self.interval.map_or(0, |interval| self.at(nth, interval))
    }

    /// A product and no sum: it does not drift.
    fn at(&self, nth: u64, interval: f64) -> u64 {
        ((self.first + nth * self.step) as f64 * interval) as u64
    }

    /// The first request that was not given out and is due at this time or later.
    fn first_from(&self, time: u64) -> u64 {
        let Some(interval) = self.interval else { return self.given };
        // rounding: a little before
        let near = (time as f64 / interval / self.step as f64) as u64;
        let mut nth = near.saturating_sub(self.step + 2).max(self.given);
        while self.at(nth, interval) < time {
            nth += 1;
        }
        nth
    }
}

pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(plan: impl Fn(&mut Plan), thread: usize, threads: usize) -> Schedule {
        let mut all = Plan {
            urls: vec![],
            connections: threads,
            threads,
            pipeline: 1,
            rate: None,
            requests_per_connection: None,
            duration: None,
            requests: None,
            warmup: Duration::ZERO,
            timeout: Duration::ZERO,
            method: String::new(),
        };
        plan(&mut all);
        Schedule::new(&all, thread)
    }

    fn all(mut schedule: Schedule, now: u64) -> Vec<u64> {
        let mut starts = vec![];
        while let Next::Start(start) = schedule.peek(now) {
            starts.push(start);
            schedule.take(start);
        }
        starts
    }

    #[test]
    fn threads_share_a_rate_evenly() {
        let plan =
            |plan: &mut Plan| (plan.rate, plan.duration) = (Some(1000.0), Some(Duration::from_secs(1)));
        let mut starts: Vec<u64> =
            (0..3).flat_map(|thread| all(schedule(plan, thread, 3), u64::MAX)).collect();
        starts.sort_unstable();
        let expected: Vec<u64> = (0..1000).map(|nth| nth * 1_000_000).collect();
        assert_eq!(starts, expected);
    }

    #[test]
    fn what_is_due_is_given_and_no_more() {
        let mut schedule = schedule(|plan| plan.rate = Some(1e6), 0, 1);
        assert_eq!(all(schedule.clone(), 2_500), [0, 1_000, 2_000]);
        [0, 1_000, 2_000].into_iter().for_each(|start| schedule.take(start));
        assert_eq!(schedule.peek(2_500), Next::At(3_000));
    }

    #[test]
    fn threads_share_a_number_of_requests_that_the_warm_up_does_not_use() {
        let plan = |plan: &mut Plan| (plan.rate, plan.requests) = (Some(10.0), Some(8));
        let shares = [0, 1, 2].map(|thread| all(schedule(plan, thread, 3), u64::MAX).len());
        assert_eq!(shares, [3, 3, 2]);
        let warm = |all: &mut Plan| {
            (all.rate, all.requests, all.warmup) = (Some(10.0), Some(8), Duration::from_secs(1))
        };
        assert_eq!(all(schedule(warm, 0, 1), u64::MAX).len(), 10 + 8);
    }

    #[test]
    fn what_is_unsent_is_what_would_be_given_out() {
        let (second, nanosecond) = (Duration::from_secs(1), Duration::from_nanos(1));
        // rate, warm-up, duration, requests, given out before, now
        let table = [
            (1e3, Duration::ZERO, Some(second), None, 7, 500_000_000),
            (1e3, Duration::ZERO, Some(second), None, 0, u64::MAX),
            (1e3, second / 2, Some(second), None, 3, 700_000_000),
            (1e3, second / 2, None, Some(50), 3, u64::MAX),
            (1e3, second / 2, None, Some(50), 520, 530_000_000),
            (1e3, second, Some(second), None, 3, 700_000_000),
            (3e8, Duration::ZERO, Some(nanosecond * 10_007), None, 11, u64::MAX),
            (0.3, second, Some(second * 60), Some(9), 0, 40_000_000_000),
        ];
        for (rate, warmup, duration, requests, given, now) in table {
            for thread in 0..3 {
                let plan = |plan: &mut Plan| {
                    (plan.rate, plan.warmup, plan.duration, plan.requests) =
                        (Some(rate), warmup, duration, requests);
                };
                let mut schedule = schedule(plan, thread, 3);
                for _ in 0..given {
                    let Next::Start(start) = schedule.peek(u64::MAX) else { break };
                    schedule.take(start);
                }
                let unsent: Vec<u64> = schedule.unsent(now).map(|nth| schedule.due(nth)).collect();
                let mut expected = all(schedule, now);
                expected.retain(|start| *start >= nanoseconds(warmup));
                assert_eq!(unsent, expected, "{rate} {warmup:?} {requests:?} {given} {now}");
            }
        }
    }

    #[test]
    fn the_planned_end_is_that_of_the_rate_and_the_number_or_the_time() {
        let second = Duration::from_secs(1);
        let table = [
            ((Some(10.0), Some(50), None), 6),
            ((Some(10.0), Some(50), Some(second)), 2),
            ((Some(10.0), Some(5), Some(second * 5)), 1),
            ((None, Some(5), Some(second)), 2),
        ];
        for ((rate, requests, duration), seconds) in table {
            let plan = |plan: &mut Plan| {
                (plan.rate, plan.requests, plan.duration, plan.warmup) = (rate, requests, duration, second);
            };
            let end = schedule(plan, 0, 1).planned_end();
            assert_eq!(end / 1_000_000_000, seconds, "{rate:?} {requests:?} {duration:?}");
        }
    }

    #[test]
    fn a_closed_loop_starts_when_it_is_asked_until_its_end() {
        let ten = Duration::from_nanos(10);
        let mut closed = schedule(|plan| (plan.duration, plan.requests) = (Some(ten), Some(1)), 0, 1);
        assert_eq!((closed.peek(9), closed.peek(10)), (Next::Start(9), Next::Never));
        closed.take(9);
        assert_eq!(closed.peek(9), Next::Never);
    }
}

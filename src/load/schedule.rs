//! When requests start. In a closed loop whenever there is room; in an open one at times that the rate alone sets, so
//! that a server which stalls is asked all the same. No clock is read here.
//!
//! Neighbours: `engine` asks it for what is due.

use super::record::Plan;
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
        Schedule {
            interval: plan.rate.map(|rate| 1e9 / rate),
            first: thread,
            step: threads,
            given: 0,
            budget: plan.requests.map_or(u64::MAX, share),
            from: nanoseconds(plan.warmup),
            end: plan.duration.map_or(u64::MAX, |duration| nanoseconds(plan.warmup + duration)),
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
        let start = self.interval.map_or(now, |interval| self.due(interval));
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

    /// Nothing starts any more, and what is due and has not started never will.
    pub fn stop(&mut self) {
        self.budget = self.given;
    }

    /// A product and no sum: it does not drift.
    fn due(&self, interval: f64) -> u64 {
        ((self.first + self.given * self.step) as f64 * interval) as u64
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
        schedule.stop();
        assert_eq!(schedule.peek(u64::MAX), Next::Never);
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
    fn a_closed_loop_starts_when_it_is_asked_until_its_end() {
        let ten = Duration::from_nanos(10);
        let mut closed = schedule(|plan| (plan.duration, plan.requests) = (Some(ten), Some(1)), 0, 1);
        assert_eq!((closed.peek(9), closed.peek(10)), (Next::Start(9), Next::Never));
        closed.take(9);
        assert_eq!(closed.peek(9), Next::Never);
    }
}

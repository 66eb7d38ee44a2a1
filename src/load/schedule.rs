//! When requests start. In a closed loop whenever there is room; in an open one at times that the rate alone sets, so
//! that a server which stalls is asked all the same. No clock is read here.
//!
//! Neighbours: `engine` asks it for what is due.

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
    /// How many there are at most.
    budget: u64,
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
    /// Thread `thread` of `threads`; times are nanoseconds since the load began. The requests of an open loop are dealt
    /// out to the threads in turn, so that together they are evenly spaced.
    pub fn new(
        rate: Option<f64>,
        requests: Option<u64>,
        end: Option<Duration>,
        thread: usize,
        threads: usize,
    ) -> Schedule {
        let (thread, threads) = (thread as u64, threads as u64);
        let share = |all: u64| all / threads + u64::from(thread < all % threads);
        Schedule {
            interval: rate.map(|rate| 1e9 / rate),
            first: thread,
            step: threads,
            given: 0,
            budget: requests.map_or(u64::MAX, share),
            end: end.map_or(u64::MAX, |end| u64::try_from(end.as_nanos()).unwrap_or(u64::MAX)),
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

    /// What `peek` gave has been started.
    #[inline]
    pub fn take(&mut self) {
        self.given += 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut schedule: Schedule, now: u64) -> Vec<u64> {
        let mut starts = vec![];
        while let Next::Start(start) = schedule.peek(now) {
            starts.push(start);
            schedule.take();
        }
        starts
    }

    #[test]
    fn threads_share_a_rate_evenly() {
        let end = Some(Duration::from_secs(1));
        let mut starts: Vec<u64> = (0..3)
            .flat_map(|thread| all(Schedule::new(Some(1000.0), None, end, thread, 3), u64::MAX))
            .collect();
        starts.sort_unstable();
        let expected: Vec<u64> = (0..1000).map(|nth| nth * 1_000_000).collect();
        assert_eq!(starts, expected);
    }

    #[test]
    fn what_is_due_is_given_and_no_more() {
        let schedule = Schedule::new(Some(1e6), None, None, 0, 1);
        assert_eq!(all(schedule.clone(), 2_500), [0, 1_000, 2_000]);
        let mut schedule = schedule;
        (0..3).for_each(|_| schedule.take());
        assert_eq!(schedule.peek(2_500), Next::At(3_000));
        schedule.stop();
        assert_eq!(schedule.peek(u64::MAX), Next::Never);
    }

    #[test]
    fn threads_share_a_number_of_requests() {
        let shares: Vec<usize> = (0..3)
            .map(|thread| all(Schedule::new(Some(10.0), Some(8), None, thread, 3), u64::MAX).len())
            .collect();
        assert_eq!(shares, [3, 3, 2]);
        let mut closed = Schedule::new(None, Some(1), None, 0, 1);
        assert_eq!(closed.peek(7), Next::Start(7));
        closed.take();
        assert_eq!(closed.peek(7), Next::Never);
    }

    #[test]
    fn a_closed_loop_starts_nothing_after_its_end() {
        let closed = Schedule::new(None, None, Some(Duration::from_nanos(10)), 0, 1);
        assert_eq!((closed.peek(9), closed.peek(10)), (Next::Start(9), Next::Never));
    }
}

//! Which workers have served, lived or taken as much as they may (`--max-requests`, `--max-lifetime`, `--max-memory`).
//! Pure: what a worker has come to is passed in.
//!
//! Neighbours: `event_loop` looks; `lifecycle::recycle` replaces one after the other.

use crate::event::WorkerId;
use std::time::Duration;

/// A worker has listened for at least so long before it is replaced for any of its limits: one that is reached in a moment
/// must not keep the master starting workers.
pub const AGE_MIN: Duration = Duration::from_secs(1);

/// What a worker may come to; `None`: to anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub requests: Option<u64>,
    pub lifetime: Option<Duration>,
    pub memory: Option<u64>,
}

/// What it has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Worker {
    /// How long it has listened.
    pub age: Duration,
    pub requests: u64,
    /// In octets; `None` if nobody looks, or it cannot be read.
    pub memory: Option<u64>,
    /// The same when it began to listen.
    pub memory_at_first: Option<u64>,
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Requests,
    Lifetime,
    Memory,
}

/// Whether a worker is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    No,
    /// It is, and has listened for less than [`AGE_MIN`].
    TooYoung(Limit),
    Yes(Limit),
}

impl Limits {
    /// There is one.
    pub fn any(&self) -> bool {
        *self != Limits::default()
    }

    /// The limits of one worker: lower by up to a tenth, so that workers that began together do not leave together. The
    /// same for the same worker at all times.
    pub fn of(&self, id: WorkerId) -> Limits {
        let share = scatter(id);
        let lower = |limit: u64| limit - (limit as f64 * share) as u64;
        Limits {
            requests: self.requests.map(lower),
            lifetime: self.lifetime.map(|limit| limit - limit.mul_f64(share)),
            memory: self.memory.map(lower),
        }
    }

    /// Whether a worker with these limits of its own has come to one. One that had too much memory when it began is not
    /// replaced for that: its successor would have as much.
    pub fn reached(&self, worker: &Worker) -> Due {
        let is_over = |limit: Option<u64>, has: u64| limit.is_some_and(|limit| has >= limit);
        let memory = worker.memory.is_some_and(|memory| is_over(self.memory, memory));
        let limit = match () {
            () if is_over(self.requests, worker.requests) => Limit::Requests,
            () if self.lifetime.is_some_and(|limit| worker.age >= limit) => Limit::Lifetime,
            () if memory && !self.is_too_little(worker.memory_at_first) => Limit::Memory,
            () => return Due::No,
        };
        if worker.age < AGE_MIN { Due::TooYoung(limit) } else { Due::Yes(limit) }
    }

    /// A worker that has only begun to listen has as much memory already.
    pub fn is_too_little(&self, at_first: Option<u64>) -> bool {
        self.memory.is_some_and(|limit| at_first.is_some_and(|memory| memory >= limit))
    }
}

impl Limit {
    /// The flag that sets it.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Requests => "max-requests",
            Limit::Lifetime => "max-lifetime",
            Limit::Memory => "max-memory",
        }
    }
}

/// From 0 to a tenth, for each worker another (splitmix64, by Sebastiano Vigna).
fn scatter(id: WorkerId) -> f64 {
    let mut bits = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1u64 << 53) as f64 / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const MIB: u64 = 1 << 20;

    fn limits() -> Limits {
        let day = Duration::from_secs(86_400);
        Limits { requests: Some(1_000), lifetime: Some(day), memory: Some(256 * MIB) }
    }

    fn worker() -> Worker {
        let (memory, memory_at_first) = (Some(20 * MIB), Some(3 * MIB));
        Worker { age: Duration::from_secs(60), requests: 10, memory, memory_at_first }
    }

    #[test]
    fn each_limit_is_reached_by_itself() {
        let day = Duration::from_secs(86_400);
        let table = [
            (worker(), Due::No),
            (Worker { requests: 999, ..worker() }, Due::No),
            (Worker { requests: 1_000, ..worker() }, Due::Yes(Limit::Requests)),
            (Worker { age: day, ..worker() }, Due::Yes(Limit::Lifetime)),
            (Worker { memory: Some(256 * MIB), ..worker() }, Due::Yes(Limit::Memory)),
            (Worker { memory: None, ..worker() }, Due::No),
            (Worker { requests: 1_000, age: AGE_MIN / 2, ..worker() }, Due::TooYoung(Limit::Requests)),
            (Worker { requests: 1_000, age: AGE_MIN, ..worker() }, Due::Yes(Limit::Requests)),
        ];
        for (worker, expected) in table {
            assert_eq!(limits().reached(&worker), expected, "{worker:?}");
            assert_eq!(Limits::default().reached(&worker), Due::No);
        }
    }

    #[test]
    fn memory_that_a_new_worker_has_already_is_no_reason() {
        let tiny = Limits { memory: Some(1 << 10), ..limits() };
        assert!(tiny.is_too_little(worker().memory_at_first) && !limits().is_too_little(Some(3 * MIB)));
        assert_eq!(tiny.reached(&worker()), Due::No);
        assert_eq!(tiny.reached(&Worker { requests: 1_000, ..worker() }), Due::Yes(Limit::Requests));
        assert_eq!(tiny.reached(&Worker { memory_at_first: None, ..worker() }), Due::Yes(Limit::Memory));
    }

    #[test]
    fn workers_that_begin_together_do_not_leave_together() {
        let all: Vec<Limits> = (1..=100).map(|id| limits().of(id)).collect();
        let requests: BTreeSet<u64> = all.iter().map(|limits| limits.requests.unwrap()).collect();
        assert!(requests.len() > 50, "{requests:?}");
        assert!(*requests.first().unwrap() >= 900 && *requests.last().unwrap() <= 1_000);
        assert!(
            requests.first().unwrap() < &910 && requests.last().unwrap() > &990,
            "the whole tenth is used"
        );
        assert_eq!(limits().of(7), limits().of(7));
        for own in all {
            let share = own.requests.unwrap() as f64 / 1_000.0;
            assert!((own.lifetime.unwrap().as_secs_f64() / 86_400.0 - share).abs() < 0.002);
            assert!((own.memory.unwrap() as f64 / (256 * MIB) as f64 - share).abs() < 0.002);
        }
        let least = Limits { requests: Some(1), ..Limits::default() };
        assert!((1..100).all(|id| least.of(id).requests == Some(1)), "never none at all");
        assert!(least.any() && !Limits::default().any());
    }
}
